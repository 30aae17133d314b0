/* From messages as clients send them to the tokens of a prompt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/job_int.h"

#define MAX_MESSAGES 100000

void job_defaults(job_params *p, server_model *model) {
    *p = (job_params){ .model = model, .has_parallel_calls = true, .enable_thinking = -1, .think_budget = SIZE_MAX,
                       .n_answers = 1, .splits_reasoning = true };
    ern_sampling_defaults(model->eng, &p->sampling);
}

/* ---- messages ------------------------------------------------------------------------------------ */

/* Content as one text: a string, null, or parts of text. */
static json_t *content_text(const json_t *content, size_t i, ern_err *e) {
    size_t k;
    json_t *part;
    ern_buf b = { 0 };
    if (!content || json_is_null(content)) return json_string("");
    if (json_is_string(content)) return json_incref((json_t *)(uintptr_t)content);
    if (!json_is_array(content)) { ern_fail(e, ERN_ARG, "messages[%zu].content: a string or an array of parts wanted",
                                            i); return NULL; }
    bool ok = true;
    json_array_foreach(content, k, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        if (!ok) break;
        if (json_is_string(part)) text = part;
        else if (!type || !json_is_string(text) || !strstr(type, "text"))
            ok = ern_fail(e, ERN_ARG,
                          "messages[%zu].content[%zu]: type \"%.40s\" is not supported by this model; it reads text",
                          i, k, type ? type : "(none)");
        ok = ok && buf_add(&b, json_string_value(text), json_string_length(text), e);
    }
    json_t *out = ok ? json_stringn(b.data ? b.data : "", b.len) : NULL;
    buf_deinit(&b);
    return out;
}

static const char *role_of(const char *role) {
    static const struct { const char *from, *to; } roles[] = {
        { "system", "system" }, { "developer", "system" }, { "user", "user" }, { "assistant", "assistant" }, { "tool",
                "tool" },
        { "function", "tool" },
    };
    for (size_t i = 0; role && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i].from) == 0) return roles[i].to;
    return NULL;
}

/* Calls of an earlier answer: arguments as an object where they are one, since templates print them themselves. */
static json_t *tool_calls_of(const json_t *calls, size_t i, ern_err *e) {
    json_t *out = json_array(), *call;
    size_t k;
    json_array_foreach(calls, k, call) {
        const json_t *function = json_object_get(call, "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        const json_t *arguments = json_object_get(function, "arguments");
        if (!name) {
            json_decref(out);
            ern_fail(e, ERN_ARG, "messages[%zu].tool_calls[%zu]: {\"function\": {\"name\", \"arguments\"}} wanted", i, k);
            return NULL;
        }
        json_t *parsed = json_is_string(arguments) ? json_loads(json_string_value(arguments), 0, NULL) : NULL;
        json_t *value = parsed ? parsed : arguments ? json_incref((json_t *)(uintptr_t)arguments) : json_object();
        const char *id = json_string_value(json_object_get(call, "id"));
        json_t *item = json_pack("{s:s, s:{s:s, s:o}}", "type", "function", "function", "name", name, "arguments", value);
        if (id) json_object_set_new(item, "id", json_string(id));
        json_array_append_new(out, item);
    }
    return out;
}

static json_t *message_of(const json_t *m, size_t i, ern_err *e) {
    static const char *const copied[] = { "name", "tool_call_id", "reasoning_content" };
    const char *given = json_string_value(json_object_get(m, "role")), *role = role_of(given);
    const json_t *calls = json_object_get(m, "tool_calls");
    if (!role) {
        ern_fail(e, ERN_ARG, "messages[%zu].role: \"%.40s\" is none of system, developer, user, assistant, tool", i,
                 given ? given : "(none)");
        return NULL;
    }
    json_t *content = content_text(json_object_get(m, "content"), i, e);
    json_t *out = content ? json_pack("{s:s, s:o}", "role", role, "content", content) : NULL;
    for (size_t k = 0; out && k < sizeof copied / sizeof copied[0]; k++) {
        json_t *v = json_object_get(m, copied[k]);
        if (json_is_string(v)) json_object_set(out, copied[k], v);
    }
    if (out && json_array_size(calls)) {
        json_t *list = tool_calls_of(calls, i, e);
        if (!list) { json_decref(out); return NULL; }
        json_object_set_new(out, "tool_calls", list);
    }
    return out;
}

/* ---- templates that know no tools ---------------------------------------------------------------- */

static bool append_call(ern_buf *b, const json_t *call, ern_err *e) {
    const json_t *function = json_object_get(call, "function");
    json_t *name = json_object_get(function, "name");
    char *quoted = json_dumps(name, JSON_ENCODE_ANY);
    char *arguments = json_dumps(json_object_get(function, "arguments"), JSON_ENCODE_ANY);
    const bool ok = quoted && arguments && buf_printf(b, e, "%s<tool_call>\n{\"name\": ", b->len ? "\n" : "") &&
        buf_str(b, quoted, e) &&
                    buf_str(b, ", \"arguments\": ", e) && buf_str(b, arguments, e) && buf_str(b, "}\n</tool_call>", e);
    free(quoted);
    free(arguments);
    return ok;
}

/* Calls become text of the answer, results become a user's turn: nothing of the conversation is lost. */
static bool write_tools_as_text(json_t *messages, ern_err *e) {
    size_t i, k;
    json_t *m, *call;
    bool ok = true;
    json_array_foreach(messages, i, m) {
        const char *role = json_string_value(json_object_get(m, "role")), *text = json_string_value(json_object_get(m,
                "content"));
        const json_t *calls = json_object_get(m, "tool_calls");
        ern_buf b = { 0 };
        if (strcmp(role, "tool") == 0) {
            ok = buf_str(&b, "<tool_response>\n", e) && buf_str(&b, text, e) && buf_str(&b, "\n</tool_response>", e);
            json_object_set_new(m, "role", json_string("user"));
        } else if (calls) {
            ok = buf_str(&b, text, e);
            json_array_foreach(calls, k, call) ok = ok && append_call(&b, call, e);
            json_object_del(m, "tool_calls");
        }
        if (ok && b.data) json_object_set_new(m, "content", json_stringn(b.data, b.len));
        buf_deinit(&b);
        if (!ok) return false;
    }
    return true;
}

/* The tools as a system text, in the words of ERNIE's own tool prompts. */
static bool add_tool_text(json_t *messages, const json_t *tools, ern_err *e) {
    ern_buf b = { 0 };
    size_t k;
    json_t *tool, *first = json_array_get(messages, 0);
    const bool has_system = first && strcmp(json_string_value(json_object_get(first, "role")), "system") == 0;
    bool ok = !has_system || (buf_str(&b, json_string_value(json_object_get(first, "content")), e) && buf_str(&b,
            "\n\n", e));
    ok = ok && buf_str(&b, "You can call these tools:\n<tool_list>\n", e);
    json_array_foreach(tools, k, tool) {
        char *text = json_dumps(tool, JSON_COMPACT);
        ok = ok && text && buf_str(&b, text, e) && buf_char(&b, '\n', e);
        free(text);
    }
    ok = ok && buf_str(&b,
                       "</tool_list>\nTo call one, write\n<tool_call>\n{\"name\": \"...\", \"arguments\": {...}}\n</tool_call>\n"
                           "and then stop; the result comes back between <tool_response> and </tool_response>.", e);
    if (ok && has_system) json_object_set_new(first, "content", json_stringn(b.data, b.len));
    else if (ok) json_array_insert_new(messages, 0, json_pack("{s:s, s:o}", "role", "system", "content",
                                                              json_stringn(b.data, b.len)));
    buf_deinit(&b);
    return ok;
}

/* ---- variables ------------------------------------------------------------------------------------- */

static json_t *messages_of(const job_params *p, const char *template_text, ern_err *e) {
    const size_t n = json_array_size(p->messages);
    json_t *out = json_array(), *m;
    size_t i;
    if (!json_is_array(p->messages) || n == 0 || n > MAX_MESSAGES) {
        ern_fail(e, ERN_ARG, "messages: an array of 1 to %d messages wanted", MAX_MESSAGES);
        json_decref(out);
        return NULL;
    }
    json_array_foreach(p->messages, i, m) {
        json_t *one = message_of(m, i, e);
        if (!one || json_array_append_new(out, one) != 0) { json_decref(out); return NULL; }
    }
    const bool knows_tools = strstr(template_text, "tools"), knows_calls = strstr(template_text, "tool_call");
    bool ok = knows_calls || write_tools_as_text(out, e);
    if (ok && json_array_size(p->tools) && p->tool_choice != TOOLS_NONE && !knows_tools) ok = add_tool_text(out,
            p->tools, e);
    if (!ok) { json_decref(out); return NULL; }
    return out;
}

static json_t *variables(const job_params *p, json_t *messages, ern_err *e) {
    json_t *vars = json_object(), *v;
    const char *key;
    if (!vars) { ern_fail(e, ERN_NOMEM, "no memory for template variables"); return NULL; }
    json_object_set(vars, "messages", messages);
    json_object_set_new(vars, "add_generation_prompt", json_true());
    if (json_array_size(p->tools) && p->tool_choice != TOOLS_NONE) json_object_set(vars, "tools",
            (json_t *)(uintptr_t)p->tools);
    if (p->enable_thinking >= 0) json_object_set_new(vars, "enable_thinking", json_boolean(p->enable_thinking));
    json_object_foreach((json_t *)(uintptr_t)p->template_vars, key, v) json_object_set(vars, key, v);
    return vars;
}

/* Leave out the oldest turn: from the first message that is no system text up to the next question. */
static bool drop_turn(json_t *messages) {
    size_t from = 0;
    const size_t n = json_array_size(messages);
#define ROLE(i) json_string_value(json_object_get(json_array_get(messages, (i)), "role"))
    while (from < n && strcmp(ROLE(from), "system") == 0) from++;
    size_t to = from + 1;
    while (to < n && strcmp(ROLE(to), "user") != 0) to++;
#undef ROLE
    if (to >= n) return false;                  /* the last question stays */
    for (size_t i = from; i < to; i++) json_array_remove(messages, from);
    return true;
}

static bool fits(const job_params *p, size_t n_ids) {
    const size_t room = p->sampling.max_tokens ? p->sampling.max_tokens : 1;
    return n_ids + room <= scheduler_n_ctx(p->model->scheduler);
}

static bool conversation(const job_params *p, ern_tokens *out, ern_buf *rendered, size_t *n_dropped, ern_err *e) {
    const ern_engine *eng = p->model->eng;
    ern_template *own = NULL;
    json_t *messages = NULL;
    bool ok = false;
    const char *text = p->chat_template ? p->chat_template : eng->chat_source;
    if (!text || !eng->tokenizer) return ern_fail(e, ERN_MISSING, "model %s has no chat template", p->model->name);
    if (p->chat_template && !(own = template_parse(text, strlen(text), e))) return false;
    if (!(messages = messages_of(p, text, e))) goto out;
    for (size_t dropped = 0;; dropped++) {
        json_t *vars = variables(p, messages, e);
        const size_t before = out->n;
        if (rendered) buf_clear(rendered);
        ok = vars && engine_chat_vars(eng, own, vars, out, rendered, e);
        json_decref(vars);
        if (n_dropped) *n_dropped = dropped;
        if (!ok || p->truncation != TRUNCATION_AUTO || fits(p, out->n - before) || !drop_turn(messages)) break;
        out->n = before;
    }
out:
    json_decref(messages);
    template_free(own);
    return ok;
}

bool job_begin(const job_params *p, ern_tokens *out, ern_buf *rendered, size_t *n_dropped, ern_err *e) {
    if (n_dropped) *n_dropped = 0;
    if (p->messages) return conversation(p, out, rendered, n_dropped, e);
    for (size_t i = 0; i < p->n_ids; i++) {
        ern_ids ids = { .id = out->id, .n = out->n, .cap = out->cap };
        const bool ok = ids_add(&ids, p->ids[i], e);
        *out = (ern_tokens){ .id = ids.id, .n = ids.n, .cap = ids.cap };
        if (!ok) return false;
    }
    if (!p->prompt) return true;
    return engine_encode(p->model->eng, p->prompt, p->n_prompt_bytes, TOKENIZER_ADD | (p->parses_special
            ? TOKENIZER_SPECIALS : 0), out, e);
}

bool job_prompt(const job_params *p, ern_tokens *out, size_t *n_dropped, ern_err *e) { return job_begin(p, out, NULL,
        n_dropped, e); }

char *job_render(const job_params *p, ern_err *e) {
    ern_tokens ids = { 0 };
    ern_buf text = { .max = (size_t)1 << 30 };
    const bool ok = job_begin(p, &ids, &text, NULL, e) && buf_reserve(&text, 1, e);
    ern_tokens_free(&ids);
    if (!ok) buf_deinit(&text);
    return buf_take(&text);
}
