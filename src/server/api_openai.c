/* POST /v1/chat/completions, as OpenAI's clients speak it, with FastDeploy's extras. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "server/api_openai.h"
#include "server/api_sampling.h"

#define FINGERPRINT "ernie-" ERN_VERSION
#define MAX_TOOLS 512
#define MAX_CHOICE_BYTES ((size_t)256 << 20)

struct wishes {
    api_sampling s;                 /* first: the base table fills it */
    const json_t *messages, *tools, *tool_choice, *response_format, *template_vars, *prompt_ids;
    param_flag logprobs, parallel, thinks;
    param_int top_logprobs, max_completion, max_reasoning;
    const char *effort, *chat_template, *cache_key, *safety_id;
};

#define AT(member) offsetof(struct wishes, member)
static const param_spec specs[] = {
    { "messages", PARAM_ARRAY, .low = 0, .high = 100000, .offset = AT(messages), .items = PARAM_OBJECT,
      .help = "the conversation" },
    { "max_completion_tokens", PARAM_INT, .low = 1, .high = 1e9, .offset = AT(max_completion),
      .help = "longest answer, reasoning included" },
    { "logprobs", PARAM_FLAG, .offset = AT(logprobs) },
    { "top_logprobs", PARAM_INT, .low = 0, .high = ERN_MAX_LOGPROBS, .offset = AT(top_logprobs) },
    { "tools", PARAM_ARRAY, .low = 0, .high = MAX_TOOLS, .offset = AT(tools), .items = PARAM_OBJECT },
    { "tool_choice", PARAM_STRING | PARAM_OBJECT, .offset = AT(tool_choice),
      .help = "none, auto, required, or {\"type\": \"function\", \"function\": {\"name\"}}" },
    { "parallel_tool_calls", PARAM_FLAG, .offset = AT(parallel) },
    { "response_format", PARAM_OBJECT, .offset = AT(response_format), .help = "text, json_object or json_schema" },
    { "reasoning_effort", PARAM_STRING, .choices = "none|minimal|low|medium|high|xhigh", .offset = AT(effort),
      .help = "none: no thinking; otherwise its budget in tokens: 256, 1024, 4096, none, none" },
    { "reasoning_max_tokens", PARAM_INT, .low = 0, .high = 1e9, .offset = AT(max_reasoning),
      .help = "budget of thinking in tokens" },
    { "enable_thinking", PARAM_FLAG, .offset = AT(thinks) },
    { "chat_template", PARAM_STRING, .offset = AT(chat_template), .help = "Jinja text instead of the model's template" },
    { "chat_template_kwargs", PARAM_OBJECT, .offset = AT(template_vars), .help = "more variables of the template" },
    { "prompt_token_ids", PARAM_ARRAY, .low = 1, .high = 1e7, .offset = AT(prompt_ids), .items = PARAM_INT,
      .help = "the prompt as ids, instead of messages" },
    { "prompt_cache_key", PARAM_STRING, .offset = AT(cache_key), .help = "known beginnings are found without it" },
    { "safety_identifier", PARAM_STRING, .offset = AT(safety_id) },
    { "store", PARAM_FLAG, .only = "false", .why = "chat completions are not stored; /v1/responses are" },
    { "service_tier", PARAM_STRING, .only = "\"auto\"|\"default\"", .why = "there is one tier" },
    { "modalities", PARAM_ARRAY, .only = "[\"text\"]", .why = "answers are text" },
    { "add_generation_prompt", PARAM_FLAG, .only = "true", .why = "use /v1/completions to go on with a text" },
    { "disable_chat_template", PARAM_FLAG, .only = "false", .why = "use /v1/completions or prompt_token_ids" },
    { "verbosity", PARAM_STRING, .only = "\"medium\"", .why = "ask for it in the messages" },
    { "audio", PARAM_REFUSED, .why = "answers are text" },
    { "prediction", PARAM_REFUSED, .why = "predicted outputs are not used" },
    { "web_search_options", PARAM_REFUSED, .why = "the server makes no network calls" },
    { "functions", PARAM_REFUSED, .why = "use tools" },
    { "function_call", PARAM_REFUSED, .why = "use tool_choice" },
    { "moderation", PARAM_REFUSED, .why = "there is no moderation here" },
};
const param_table api_chat_table = { specs, PARAM_COUNT(specs), &api_sampling_table };
#undef AT

/* ---- tools and formats ------------------------------------------------------------------------------------------ */

struct tool_wishes { const char *type, *name, *description; const json_t *function, *parameters; param_flag strict; };
#define AT(member) offsetof(struct tool_wishes, member)
static const param_spec function_specs[] = {
    { "name", PARAM_STRING, .low = 1, .high = 64, .offset = AT(name), .is_required = true },
    { "description", PARAM_STRING, .offset = AT(description) },
    { "parameters", PARAM_OBJECT, .offset = AT(parameters) },
    { "strict", PARAM_FLAG, .offset = AT(strict) },
};
static const param_table function_table = { function_specs, PARAM_COUNT(function_specs), NULL };
static const param_spec tool_specs[] = {
    { "type", PARAM_STRING, .choices = "function", .offset = AT(type), .is_required = true },
    { "function", PARAM_OBJECT, .of = &function_table, .is_required = true },
};
static const param_table tool_table = { tool_specs, PARAM_COUNT(tool_specs), NULL };
#undef AT

static bool check_tools(const json_t *tools, api_error *why) {
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool) {
        struct tool_wishes w = { 0 };
        char name[PARAM_NAME_BYTES], text[PARAM_NAME_BYTES + 32];
        ern_err e = { 0 };
        if (!params_read(&tool_table, tool, &w, name, &e)) {
            snprintf(text, sizeof text, "tools[%zu]%s%s", i, *name ? "." : "", name);
            return api_fail(why, text, "%.600s", e.text);
        }
        if (w.name[strspn(w.name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")]) {
            snprintf(text, sizeof text, "tools[%zu].function.name", i);
            return api_fail(why, text, "letters, digits, _, - and . wanted, found \"%.64s\"", w.name);
        }
    }
    return true;
}

static bool choose_tools(const struct wishes *w, job_params *p, api_error *why) {
    static const struct { const char *name; enum job_tool_choice choice; } choices[] = {
        { "none", TOOLS_NONE }, { "auto", TOOLS_AUTO }, { "required", TOOLS_REQUIRED },
    };
    const char *name = json_string_value(w->tool_choice);
    p->tools = json_array_size(w->tools) ? w->tools : NULL;
    if (w->parallel.is_given) p->has_parallel_calls = w->parallel.v;
    if (!check_tools(w->tools, why)) return false;
    if (!w->tool_choice) return true;
    for (size_t i = 0; name && i < PARAM_COUNT(choices); i++)
        if (strcmp(name, choices[i].name) == 0) { p->tool_choice = choices[i].choice; return true; }
    const char *type = json_string_value(json_object_get(w->tool_choice, "type"));
    p->tool_name = json_string_value(json_object_get(json_object_get(w->tool_choice, "function"), "name"));
    if (!type || strcmp(type, "function") != 0 || !p->tool_name)
        return api_fail(why, "tool_choice", "none, auto, required or {\"type\": \"function\", \"function\": {\"name\": ...}} wanted");
    p->tool_choice = TOOLS_NAMED;
    return true;
}

static bool choose_format(const struct wishes *w, job_params *p, api_sampling_owned *own, api_error *why) {
    const char *type = json_string_value(json_object_get(w->response_format, "type"));
    if (!w->response_format) return true;
    if (!type) return api_fail(why, "response_format.type", "text, json_object or json_schema wanted");
    if (strcmp(type, "text") == 0) return true;
    if (strcmp(type, "json_object") == 0)
        return api_constrain(p, own, CONSTRAIN_JSON_OBJECT, mem_strndup("", 0, NULL), "response_format", why);
    if (strcmp(type, "json_schema") != 0)
        return api_fail(why, "response_format.type", "found \"%.40s\", text, json_object or json_schema wanted", type);
    const json_t *schema = json_object_get(json_object_get(w->response_format, "json_schema"), "schema");
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return api_fail(why, "response_format.json_schema.schema", "a JSON Schema wanted");
    return api_constrain(p, own, CONSTRAIN_SCHEMA, json_dumps(schema, JSON_COMPACT | JSON_ENCODE_ANY), "response_format", why);
}

/* Thinking off, or a budget for it. */
static void choose_thinking(const struct wishes *w, job_params *p) {
    static const struct { const char *name; size_t budget; } efforts[] = {
        { "none", 0 }, { "minimal", 256 }, { "low", 1024 }, { "medium", 4096 }, { "high", SIZE_MAX }, { "xhigh", SIZE_MAX },
    };
    for (size_t i = 0; w->effort && i < PARAM_COUNT(efforts); i++)
        if (strcmp(w->effort, efforts[i].name) == 0) {
            p->enable_thinking = i > 0;
            p->think_budget = efforts[i].budget;
        }
    if (w->thinks.is_given) p->enable_thinking = w->thinks.v;
    if (!w->max_reasoning.is_given) return;
    p->think_budget = (size_t)w->max_reasoning.v;
    p->is_budget_firm = true;
}

/* ---- an answer ----------------------------------------------------------------------------------------------------- */

typedef struct {
    ern_buf content, reasoning;
    json_t *calls, *logprobs, *ids;
    const char *finish;
} choice;

typedef struct {
    ern_server *s;
    http_request *r;
    http_stream *stream;
    const char *model;              /* lives as long as the server */
    char id[48];
    json_int_t created;
    size_t n, n_prompt, n_cached, n_answer, n_reasoning, n_dropped;
    choice *choices;
    json_t *prompt_ids;
    bool streams, includes_usage, wants_logprobs, wants_ids, truncates;
} chat;

static void chat_free(void *object) {
    chat *c = object;
    for (size_t i = 0; c->choices && i < c->n; i++) {
        buf_deinit(&c->choices[i].content);
        buf_deinit(&c->choices[i].reasoning);
        json_decref(c->choices[i].calls);
        json_decref(c->choices[i].logprobs);
        json_decref(c->choices[i].ids);
    }
    json_decref(c->prompt_ids);
    free(c->choices);
    free(c);
}

const char *api_finish_name(enum job_finish f) {
    return f == JOB_LENGTH ? "length" : f == JOB_TOOL_CALLS ? "tool_calls" : "stop";
}

json_t *api_ids_json(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static json_t *call_json(ern_server *s, const job_event *ev) {
    char id[40];
    api_new_id(s, "call_", id, sizeof id);
    return json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function", "name", ev->name, "arguments",
                     ev->arguments);
}

static json_t *head(const chat *c, const char *object) {
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", c->id, "object", object, "created", c->created, "model", c->model,
                          "system_fingerprint", FINGERPRINT);
    if (o && c->truncates)
        json_object_set_new(o, "truncation", json_pack("{s:I}", "dropped_turns", (json_int_t)c->n_dropped));
    return o;
}

/* ---- streaming ----------------------------------------------------------------------------------------------------- */

/* A chunk with one delta (taken); logprobs borrowed. */
static void chunk(chat *c, size_t index, json_t *delta, const json_t *logprobs, const char *finish) {
    json_t *one = json_pack("{s:I, s:o, s:n, s:s?}", "index", (json_int_t)index, "delta", delta ? delta : json_object(),
                            "logprobs", "finish_reason", finish);
    if (logprobs) json_object_set_new(one, "logprobs", json_pack("{s:O, s:n}", "content", logprobs, "refusal"));
    json_t *o = head(c, "chat.completion.chunk");
    json_object_set_new(o, "choices", json_pack("[o]", one));
    if (c->includes_usage) json_object_set_new(o, "usage", json_null());
    http_stream_event(c->stream, NULL, o);
}

static void stream_call(chat *c, const job_event *ev) {
    json_t *call = call_json(c->s, ev), *function = json_object_get(call, "function");
    json_object_set_new(call, "index", json_integer((json_int_t)ev->call));
    json_object_set_new(function, "arguments", json_string(""));
    chunk(c, ev->index, json_pack("{s:[o]}", "tool_calls", call), NULL, NULL);
    chunk(c, ev->index, json_pack("{s:[{s:I, s:{s:s}}]}", "tool_calls", "index", (json_int_t)ev->call, "function", "arguments",
                                  ev->arguments), NULL, NULL);
}

static void stream_begin(chat *c) {
    c->stream = http_stream_open(c->r, 200, "text/event-stream; charset=utf-8");
    for (size_t i = 0; i < c->n; i++) {
        json_t *delta = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
        if (i == 0 && c->wants_ids && c->prompt_ids) json_object_set(delta, "prompt_token_ids", c->prompt_ids);
        chunk(c, i, delta, NULL, NULL);
    }
}

static void stream_end(chat *c) {
    if (c->includes_usage) {
        json_t *o = head(c, "chat.completion.chunk");
        json_object_set_new(o, "choices", json_array());
        json_object_set_new(o, "usage", api_usage(c->n_prompt, c->n_cached, c->n_answer, c->n_reasoning));
        http_stream_event(c->stream, NULL, o);
    }
    http_stream_write(c->stream, "data: [DONE]\n\n", 14);
    http_stream_end(c->stream);
    c->stream = NULL;
}

static void stream_event(chat *c, const job_event *ev) {
    json_t *delta = NULL;
    switch (ev->kind) {
    case JOB_STARTED: stream_begin(c); break;
    case JOB_CONTENT:
        chunk(c, ev->index, json_pack("{s:o}", "content", json_stringn(ev->text, ev->n_bytes)), ev->logprobs, NULL);
        break;
    case JOB_REASONING:
        chunk(c, ev->index, json_pack("{s:o}", "reasoning_content", json_stringn(ev->text, ev->n_bytes)), NULL, NULL);
        break;
    case JOB_TOOL_CALL: stream_call(c, ev); break;
    case JOB_DONE:
        if (c->wants_ids) delta = json_pack("{s:o}", "completion_token_ids", api_ids_json(ev->ids, ev->n_ids));
        chunk(c, ev->index, delta, ev->logprobs, api_finish_name(ev->finish));
        if (ev->is_last) stream_end(c);
        break;
    default: break;
    }
}

/* ---- whole --------------------------------------------------------------------------------------------------------- */

static json_t *choice_json(const chat *c, size_t i) {
    choice *x = &c->choices[i];
    const bool is_null = x->content.len == 0 && x->calls;
    json_t *message = json_pack("{s:s, s:o, s:n}", "role", "assistant", "content",
                                is_null ? json_null() : json_stringn(x->content.data ? x->content.data : "", x->content.len),
                                "refusal");
    if (x->reasoning.len) json_object_set_new(message, "reasoning_content", json_stringn(x->reasoning.data, x->reasoning.len));
    if (x->calls) json_object_set(message, "tool_calls", x->calls);
    if (c->wants_ids) {
        json_object_set(message, "prompt_token_ids", c->prompt_ids);
        json_object_set(message, "completion_token_ids", x->ids);
    }
    json_t *o = json_pack("{s:I, s:o, s:n, s:s}", "index", (json_int_t)i, "message", message, "logprobs", "finish_reason", x->finish);
    if (c->wants_logprobs)
        json_object_set_new(o, "logprobs", json_pack("{s:o, s:n}", "content", x->logprobs ? json_incref(x->logprobs)
                                                     : json_array(), "refusal"));
    return o;
}

static void reply_whole(chat *c) {
    json_t *o = head(c, "chat.completion"), *list = json_array();
    for (size_t i = 0; i < c->n; i++) json_array_append_new(list, choice_json(c, i));
    json_object_set_new(o, "choices", list);
    json_object_set_new(o, "usage", api_usage(c->n_prompt, c->n_cached, c->n_answer, c->n_reasoning));
    http_reply_json(c->r, 200, o);
}

static void collect(chat *c, const job_event *ev) {
    choice *x = &c->choices[ev->index];
    if (ev->kind == JOB_CONTENT) buf_add(&x->content, ev->text, ev->n_bytes, NULL);
    if (ev->kind == JOB_REASONING) buf_add(&x->reasoning, ev->text, ev->n_bytes, NULL);
    if (ev->kind == JOB_TOOL_CALL) {
        if (!x->calls) x->calls = json_array();
        json_array_append_new(x->calls, call_json(c->s, ev));
    }
    if (ev->logprobs) {
        if (!x->logprobs) x->logprobs = json_array();
        json_array_extend(x->logprobs, (json_t *)(uintptr_t)ev->logprobs);
    }
    if (ev->kind == JOB_DONE) {
        x->finish = api_finish_name(ev->finish);
        if (c->wants_ids) x->ids = api_ids_json(ev->ids, ev->n_ids);
        if (ev->is_last) reply_whole(c);
    }
}

void api_fail_stream(http_request *r, http_stream **stream, const ern_err *e) {
    api_error why = { .e = *e };
    if (!*stream) { api_refuse(r, &why); return; }
    http_stream_event(*stream, NULL, api_error_json(&why));
    http_stream_end(*stream);
    *stream = NULL;
}

static void on_event(void *ctx, const job_event *ev) {
    chat *c = ctx;
    if (ev->kind == JOB_FAILED) { api_fail_stream(c->r, &c->stream, ev->error); return; }
    if (ev->kind == JOB_STARTED) {
        c->n_prompt = ev->n_prompt;
        c->n_cached = ev->n_cached;
        c->n_dropped = ev->n_dropped_turns;
        if (c->wants_ids) c->prompt_ids = api_ids_json(ev->ids, ev->n_ids);
    } else if (ev->kind == JOB_DONE) {
        c->n_answer += ev->n_tokens;
        c->n_reasoning += ev->n_reasoning_tokens;
    }
    if (c->streams) stream_event(c, ev);
    else collect(c, ev);
}

/* ---- the request --------------------------------------------------------------------------------------------------- */

static chat *chat_new(ern_server *s, http_request *r, const struct wishes *w, const job_params *p, ern_err *e) {
    chat *c = mem_zalloc(1, sizeof *c, "chat", e);
    if (!c) return NULL;
    *c = (chat){ .s = s, .r = r, .model = p->model->name, .created = (json_int_t)time(NULL), .n = p->n_answers,
                 .streams = w->s.streams.v, .includes_usage = w->s.include_usage.v, .wants_logprobs = p->wants_logprobs,
                 .wants_ids = p->wants_ids, .truncates = p->truncation == TRUNCATION_AUTO };
    api_new_id(s, "chatcmpl-", c->id, sizeof c->id);
    c->choices = mem_zalloc(c->n, sizeof *c->choices, "answers", e);
    if (!c->choices || !http_attach(r, c, chat_free, e)) { chat_free(c); return NULL; }
    for (size_t i = 0; i < c->n; i++) c->choices[i].content.max = c->choices[i].reasoning.max = MAX_CHOICE_BYTES;
    return c;
}

static bool choose_prompt(const struct wishes *w, job_params *p, int32_t **ids, api_error *why) {
    size_t n = 0;
    if (!w->messages == !w->prompt_ids) return api_fail(why, "messages", "either messages or prompt_token_ids wanted");
    if (w->messages && !json_array_size(w->messages)) return api_fail(why, "messages", "at least one message wanted");
    p->messages = w->messages;
    if (!w->prompt_ids) return true;
    if (!api_read_ids(w->prompt_ids, ern_engine_n_vocab(p->model->eng), ids, &n, "prompt_token_ids", why)) return false;
    p->ids = *ids;
    p->n_ids = n;
    return true;
}

static bool choose(const struct wishes *w, job_params *p, api_sampling_owned *own, int32_t **ids, api_error *why) {
    if (w->s.include_usage.is_given && !w->s.streams.v) return api_fail(why, "stream_options", "only with stream");
    if (w->top_logprobs.is_given && !w->logprobs.v) return api_fail(why, "top_logprobs", "only with logprobs");
    if (!api_sampling_apply(&w->s, p, own, why)) return false;
    if (w->max_completion.is_given) p->sampling.max_tokens = (size_t)w->max_completion.v;
    p->wants_logprobs = w->logprobs.v;
    p->sampling.n_logprobs = (size_t)w->top_logprobs.v;
    p->template_vars = w->template_vars;
    p->chat_template = w->chat_template;
    choose_thinking(w, p);
    return choose_tools(w, p, why) && choose_format(w, p, own, why) && choose_prompt(w, p, ids, why);
}

static void handle_chat(void *ctx, http_request *r) {
    ern_server *s = ctx;
    struct wishes w = { 0 };
    api_error why = { 0 };
    api_sampling_owned own = { 0 };
    job_params p;
    int32_t *ids = NULL;
    server_model *model = NULL;
    bool ok = false;
    const json_t *body = http_json(r, &why.e);
    if (!body || !params_read(&api_chat_table, body, &w, why.param, &why.e)) { api_refuse(r, &why); return; }
    if (!(model = models_take(api_models(s), w.s.model, &why.e))) { api_refuse(r, &why); return; }
    job_defaults(&p, model);
    if (choose(&w, &p, &own, &ids, &why)) {
        chat *c = chat_new(s, r, &w, &p, &why.e);
        p.on_event = on_event;
        p.ctx = c;
        ok = c && api_start(s, r, &p, &why.e);
    }
    api_sampling_deinit(&own);
    free(ids);
    if (ok) return;
    models_give(api_models(s), model);
    api_refuse(r, &why);
}

const http_route api_openai_routes[] = {
    { "POST", "/v1/chat/completions", handle_chat, "chat", false },
    { 0 },
};
