#include "engine/conversation.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/file.h"
#include "engine/engine.h"

#define MAX_FILE_BYTES ((size_t)256 << 20)
#define MAX_ANSWER_BYTES ((size_t)64 << 20)
#define TAIL_TOKENS 8               /* enough to see whether the prompt ends in "<think>" */
#define FORMAT_NAME "ernie-conversation"

struct ern_conversation {
    ern_session *s;
    json_t *messages;               /* [{role, content, ...}], the system message first when there is one */
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool no_memory(ern_err *e) { return ern_fail(e, ERN_NOMEM, "conversation: out of memory"); }

ern_conversation *conversation_open(ern_session *s, const char *system, ern_err *e) {
    ern_conversation *c = mem_zalloc(1, sizeof *c, "conversation", e);
    if (!c) return NULL;
    c->s = s;
    if (!(c->messages = json_array())) no_memory(e);
    if (!c->messages || !conversation_set_system(c, system, e)) {
        conversation_close(c);
        return NULL;
    }
    return c;
}

void conversation_close(ern_conversation *c) {
    if (!c) return;
    json_decref(c->messages);
    free(c);
}

/* ---- turns ------------------------------------------------------------------------------------- */

static const char *role_of(const json_t *messages, size_t i) {
    const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
    return role ? role : "";
}

static bool is_role(const ern_conversation *c, size_t i, const char *role) {
    return i < json_array_size(c->messages) && strcmp(role_of(c->messages, i), role) == 0;
}

bool conversation_set_system(ern_conversation *c, const char *system, ern_err *e) {
    json_t *message = NULL;
    if (system && *system) {
        message = json_pack("{s:s, s:s}", "role", "system", "content", system);
        if (!message) return ern_fail(e, ERN_FORMAT, "system text: not valid UTF-8");
    }
    if (is_role(c, 0, "system")) json_array_remove(c->messages, 0);
    return !message || json_array_insert_new(c->messages, 0, message) == 0 || no_memory(e);
}

const char *conversation_system(const ern_conversation *c) {
    return is_role(c, 0, "system") ? json_string_value(json_object_get(json_array_get(c->messages, 0), "content")) : NULL;
}

bool conversation_say(ern_conversation *c, const char *text, ern_err *e) {
    json_t *message = json_pack("{s:s, s:s}", "role", "user", "content", text);
    if (!message) return ern_fail(e, ERN_FORMAT, "message: not valid UTF-8");
    return json_array_append_new(c->messages, message) == 0 || no_memory(e);
}

bool conversation_drop_answer(ern_conversation *c) {
    const size_t n = json_array_size(c->messages);
    if (n == 0 || !is_role(c, n - 1, "assistant")) return false;
    json_array_remove(c->messages, n - 1);
    return true;
}

bool conversation_undo(ern_conversation *c) {
    conversation_drop_answer(c);
    const size_t n = json_array_size(c->messages);
    if (n == 0 || !is_role(c, n - 1, "user")) return false;
    json_array_remove(c->messages, n - 1);
    return true;
}

size_t conversation_n_turns(const ern_conversation *c) {
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(c->messages); i++) n += is_role(c, i, "user");
    return n;
}

const json_t *conversation_messages(const ern_conversation *c) { return c->messages; }

/* ---- answers ----------------------------------------------------------------------------------- */

/* Earlier reasoning is not shown to the model again: its templates leave it out of the history. */
static char *prompt_messages(const ern_conversation *c, ern_err *e) {
    json_t *copy = json_deep_copy(c->messages);
    for (size_t i = 0; copy && i < json_array_size(copy); i++) json_object_del(json_array_get(copy, i), "reasoning_content");
    char *text = copy ? json_dumps(copy, JSON_COMPACT) : NULL;
    json_decref(copy);
    if (!text) no_memory(e);
    return text;
}

/* Does the prompt leave the model inside its reasoning? */
static bool ends_in_think(const ern_engine *eng, const ern_tokens *prompt) {
    const size_t n = prompt->n < TAIL_TOKENS ? prompt->n : TAIL_TOKENS;
    char *text = ern_detokenize(eng, prompt->id + prompt->n - n, n, true, NULL);
    size_t end = text ? strlen(text) : 0;
    while (end && (text[end - 1] == '\n' || text[end - 1] == ' ')) end--;
    const bool is_inside = end >= 7 && memcmp(text + end - 7, "<think>", 7) == 0;
    free(text);
    return is_inside;
}

struct answer {
    const conversation_hooks *hooks;
    ern_reason *reason;
    ern_buf content, reasoning;
    bool is_stopped, has_failed;
    ern_err error;
};

static bool keep_event(void *ctx, enum reason_kind kind, const char *text, size_t n) {
    struct answer *a = ctx;
    bool ok;
    if (kind == REASON_TOOL_CALL)
        ok = buf_str(&a->content, "<tool_call>\n", &a->error) && buf_add(&a->content, text, n, &a->error) &&
                                       buf_str(&a->content, "\n</tool_call>", &a->error);
    else ok = buf_add(kind == REASON_REASONING ? &a->reasoning : &a->content, text, n, &a->error);
    if (!ok) a->has_failed = true;
    if (ok && !a->is_stopped && a->hooks->on_text && !a->hooks->on_text(a->hooks->ctx, kind, text, n)) a->is_stopped = true;
    return ok && !a->is_stopped;
}

static bool on_token(void *ctx, const ern_token_event *ev) {
    struct answer *a = ctx;
    if (ev->n_bytes && !reason_feed(a->reason, ev->text, ev->n_bytes, &a->error) && !a->is_stopped) a->has_failed = true;
    /* A token without text still is a moment at which the caller may stop. */
    if (ev->n_bytes == 0 && a->hooks->on_text && !a->hooks->on_text(a->hooks->ctx, REASON_CONTENT, "", 0))
        a->is_stopped = true;
    return !a->has_failed && !a->is_stopped;
}

static bool keep_answer(ern_conversation *c, const struct answer *a, ern_err *e) {
    json_t *message = json_pack("{s:s, s:s%}", "role", "assistant", "content", a->content.data ? a->content.data : "",
                                a->content.len);
    if (message && a->reasoning.len &&
        json_object_set_new(message, "reasoning_content", json_stringn(a->reasoning.data, a->reasoning.len)) != 0) {
        json_decref(message);
        message = NULL;
    }
    return (message && json_array_append_new(c->messages, message) == 0) || no_memory(e);
}

static bool write_answer(ern_conversation *c, const ern_tokens *prompt, const ern_sampling *o,
                         const conversation_hooks *hooks,
                         ern_result *r, ern_err *e) {
    struct answer a = { .hooks = hooks, .content = { .max = MAX_ANSWER_BYTES }, .reasoning = { .max = MAX_ANSWER_BYTES } };
    bool ok = false;
    if (!(a.reason = reason_open(ends_in_think(c->s->eng, prompt), keep_event, &a, e))) return false;
    if (!ern_session_generate(c->s, o, on_token, &a, r, e)) goto out;
    if (!a.is_stopped && !a.has_failed && !reason_finish(a.reason, &a.error) && !a.is_stopped) a.has_failed = true;
    if (a.has_failed) {
        if (e) *e = a.error;
        goto out;
    }
    ok = keep_answer(c, &a, e);
out:
    reason_close(a.reason);
    buf_deinit(&a.content);
    buf_deinit(&a.reasoning);
    return ok;
}

static size_t shared_prefix(const ern_session *s, const ern_tokens *prompt) {
    size_t n = 0;
    while (n < prompt->n && n < ern_session_n_tokens(s) && ern_session_tokens(s)[n] == prompt->id[n]) n++;
    return n;
}

bool conversation_answer(ern_conversation *c, const ern_sampling *o, const conversation_hooks *hooks,
                         conversation_stats *out, ern_err *e) {
    const size_t n_messages = json_array_size(c->messages), n_ctx = ern_session_n_ctx(c->s);
    conversation_stats st = { 0 };
    ern_tokens prompt = { 0 };
    bool ok = false;
    if (n_messages == 0 || !is_role(c, n_messages - 1, "user"))
        return ern_fail(e, ERN_ARG, "conversation: there is no question to answer");
    char *messages = prompt_messages(c, e);
    if (!messages || !ern_chat_tokens(c->s->eng, messages, true, &prompt, e)) goto out;
    if (prompt.n >= n_ctx) {
        ern_fail(e, ERN_LIMIT, "the conversation has %zu tokens, the context holds %zu: no room for an answer", prompt.n,
                 n_ctx);
        goto out;
    }
    const double start = seconds();
    st.n_prompt = prompt.n;
    st.n_reused = shared_prefix(c->s, &prompt);
    if (!ern_session_sync(c->s, prompt.id, prompt.n, hooks->on_prompt, hooks->ctx, e)) goto out;
    const double asked = seconds();
    st.prompt_s = asked - start;
    ok = write_answer(c, &prompt, o, hooks, &st.result, e);
    st.answer_s = seconds() - asked;
    if (ok && out) *out = st;
out:
    free(messages);
    ern_tokens_free(&prompt);
    return ok;
}

/* ---- files ------------------------------------------------------------------------------------- */

bool conversation_save(const ern_conversation *c, const char *path, ern_err *e) {
    ern_buf kv_path = { .max = 65536 };
    json_t *root = json_pack("{s:s, s:i, s:O}", "format", FORMAT_NAME, "version", 1, "messages", c->messages);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    bool ok = text ? file_write(path, text, strlen(text), e) : no_memory(e);
    if (ok && c->s->has_logits) ok = buf_printf(&kv_path, e, "%s.kv", path) && ern_session_save(c->s, kv_path.data, e);
    buf_deinit(&kv_path);
    free(text);
    json_decref(root);
    return ok;
}

static bool check_messages(const json_t *messages, const char *path, ern_err *e) {
    if (!json_is_array(messages)) return ern_fail(e, ERN_FORMAT, "%s: \"messages\": an array wanted", path);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *role = role_of(messages, i);
        const bool is_known = strcmp(role, "system") == 0 || strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0;
        if (!is_known || !json_is_string(json_object_get(json_array_get(messages, i), "content")))
            return ern_fail(e, ERN_FORMAT, "%s: message %zu: role \"%s\"; system, user or assistant with a text as content "
                                           "wanted", path, i + 1, role);
    }
    return true;
}

bool conversation_load(ern_conversation *c, const char *path, ern_err *e) {
    ern_buf text = { .max = MAX_FILE_BYTES }, kv_path = { .max = 65536 };
    json_error_t bad;
    json_t *root = NULL;
    bool ok = false;
    if (!file_read(&text, path, MAX_FILE_BYTES, e)) goto out;
    root = json_loadb(text.data ? text.data : "", text.len, 0, &bad);
    if (!root) { ern_fail_at(e, ERN_FORMAT, bad.line, bad.column, "%s: %s", path, bad.text); goto out; }
    const char *format = json_string_value(json_object_get(root, "format"));
    if (!format || strcmp(format, FORMAT_NAME) != 0) {
        ern_fail(e, ERN_FORMAT, "%s: not a saved conversation (\"format\": \"%s\" wanted)", path, FORMAT_NAME);
        goto out;
    }
    json_t *messages = json_object_get(root, "messages");
    if (!check_messages(messages, path, e)) goto out;
    json_decref(c->messages);
    c->messages = json_incref(messages);
    ok = true;
    if (buf_printf(&kv_path, NULL, "%s.kv", path) && file_exists(kv_path.data)) ern_session_load(c->s, kv_path.data, NULL);
out:
    buf_deinit(&text);
    buf_deinit(&kv_path);
    json_decref(root);
    return ok;
}
