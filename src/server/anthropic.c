#include "server/anthropic.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

#define MAX_MESSAGES 100000
#define PLACE_BYTES 96          /* of a message's name; its blocks have more */
#define BLOCK_PLACE_BYTES 160

typedef struct {
    json_t *out;            /* the list so far */
    json_t *names;          /* {tool_use id: its tool}, for the results that answer it */
    ern_err *e;
} translation;

static const char *text_of(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

static bool is_known_member(const char *key, const char *const *known) {
    for (size_t i = 0; known[i]; i++)
        if (strcmp(known[i], key) == 0) return true;
    return false;
}

/* Members that a block or tool may have; any other would be ignored silently and is refused instead. */
static bool check_members(const json_t *object, const char *const *known, const char *place, ern_err *e) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, key, v)
        if (!json_is_null(v) && !is_known_member(key, known)) return ern_fail(e, ERN_ARG,
                                                                              "%s.%.60s is not supported here", place, key);
    return true;
}

static bool no_memory(ern_err *e) { return ern_fail(e, ERN_NOMEM, "no memory for messages"); }

/* ---- blocks --------------------------------------------------------------------------------------- */

/* A block of text appended to b; blocks are set apart by a newline. */
static bool add_text(ern_buf *b, const json_t *block, const char *place, ern_err *e) {
    static const char *const known[] = { "type", "text", "cache_control", "citations", NULL };
    const json_t *text = json_object_get(block, "text");
    const char *type = text_of(block, "type");
    if (!type || strcmp(type, "text") != 0)
        return ern_fail(e, ERN_ARG, "%s: type \"%.40s\" is not supported by this model; it reads text", place, type ? type
                        : "(none)");
    if (!json_is_string(text)) return ern_fail(e, ERN_ARG, "%s.text: a string wanted", place);
    if (json_array_size(json_object_get(block, "citations"))) return ern_fail(e, ERN_ARG,
                                                                              "%s.citations is not supported here", place);
    return check_members(block, known, place, e) && (!b->len || buf_char(b, '\n', e)) &&
           buf_add(b, json_string_value(text), json_string_length(text), e);
}

/* A string, or blocks of text, as one string; NULL and null are "". */
static json_t *plain_text(const json_t *content, const char *place, ern_err *e) {
    size_t i;
    json_t *block, *out = NULL;
    ern_buf b = { 0 };
    bool ok = true;
    if (!content || json_is_null(content)) return json_string("");
    if (json_is_string(content)) return json_incref((json_t *)(uintptr_t)content);
    if (!json_is_array(content)) {
        ern_fail(e, ERN_ARG, "%s: a string or an array of blocks wanted", place);
        return NULL;
    }
    json_array_foreach(content, i, block) {
        char at[BLOCK_PLACE_BYTES + 24];
        snprintf(at, sizeof at, "%s.%zu", place, i);
        if (!(ok = add_text(&b, block, at, e))) break;
    }
    if (ok && !(out = json_stringn(b.data ? b.data : "", b.len))) no_memory(e);
    buf_deinit(&b);
    return out;
}

static bool put(translation *t, json_t *message) {
    return message && json_array_append_new(t->out, message) == 0 ? true : no_memory(t->e);
}

/* ---- the user's turns ----------------------------------------------------------------------------- */

static bool flush_user(translation *t, ern_buf *b) {
    if (!b->len) return true;
    const bool ok = put(t, json_pack("{s:s, s:o}", "role", "user", "content", json_stringn(b->data, b->len)));
    buf_clear(b);
    return ok;
}

static bool add_result(translation *t, const json_t *block, const char *place) {
    static const char *const known[] = { "type", "tool_use_id", "content", "is_error", "cache_control", NULL };
    const json_t *id = json_object_get(block, "tool_use_id");
    char at[BLOCK_PLACE_BYTES + 16];
    snprintf(at, sizeof at, "%s.content", place);
    if (!json_is_string(id)) return ern_fail(t->e, ERN_ARG, "%s.tool_use_id: a string wanted", place);
    json_t *name = json_object_get(t->names, json_string_value(id));
    if (!name) return ern_fail(t->e, ERN_ARG, "%s.tool_use_id: no tool_use before it has the id \"%.60s\"", place,
                               json_string_value(id));
    if (!check_members(block, known, place, t->e)) return false;
    json_t *text = plain_text(json_object_get(block, "content"), at, t->e);
    if (!text) return false;
    /* The model is told of a failure in words: there is no other place for it. */
    if (json_is_true(json_object_get(block, "is_error"))) {
        json_t *marked = json_sprintf("Error: %s", json_string_value(text));
        json_decref(text);
        if (!(text = marked)) return no_memory(t->e);
    }
    return put(t, json_pack("{s:s, s:O, s:O, s:o}", "role", "tool", "tool_call_id", id, "name", name, "content", text));
}

static bool add_user(translation *t, const json_t *content, const char *place) {
    size_t i;
    json_t *block;
    ern_buf b = { 0 };
    bool ok = true;
    json_array_foreach(content, i, block) {
        const char *type = text_of(block, "type");
        char at[BLOCK_PLACE_BYTES];
        snprintf(at, sizeof at, "%s.content.%zu", place, i);
        if (type && strcmp(type, "tool_result") == 0) ok = flush_user(t, &b) && add_result(t, block, at);
        else ok = add_text(&b, block, at, t->e);
        if (!ok) break;
    }
    ok = ok && flush_user(t, &b);
    buf_deinit(&b);
    return ok;
}

/* ---- the assistant's turns ------------------------------------------------------------------------- */

static bool add_use(translation *t, json_t *calls, const json_t *block, const char *place) {
    static const char *const known[] = { "type", "id", "name", "input", "cache_control", "caller", NULL };
    json_t *id = json_object_get(block, "id"), *name = json_object_get(block, "name"), *input = json_object_get(block,
            "input");
    if (!json_is_string(id) || !json_is_string(name) || !json_is_object(input))
        return ern_fail(t->e, ERN_ARG, "%s: tool_use wants id and name as strings and input as an object", place);
    if (!check_members(block, known, place, t->e)) return false;
    if (json_object_set(t->names, json_string_value(id), name) != 0) return no_memory(t->e);
    json_t *call = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name", name,
                             "arguments", input);
    return call && json_array_append_new(calls, call) == 0 ? true : no_memory(t->e);
}

static bool add_block(translation *t, const json_t *block, const char *place, ern_buf *text, ern_buf *thinking,
                      json_t *calls) {
    static const char *const known[] = { "type", "thinking", "signature", "cache_control", NULL };
    const char *type = text_of(block, "type");
    if (type && strcmp(type, "tool_use") == 0) return add_use(t, calls, block, place);
    if (!type || strcmp(type, "thinking") != 0) return add_text(text, block, place, t->e);
    const json_t *thought = json_object_get(block, "thinking");
    if (!json_is_string(thought)) return ern_fail(t->e, ERN_ARG, "%s.thinking: a string wanted", place);
    return check_members(block, known, place, t->e) &&
           buf_add(thinking, json_string_value(thought), json_string_length(thought), t->e);
}

static bool add_assistant(translation *t, const json_t *content, const char *place) {
    size_t i;
    json_t *block, *calls = json_array(), *message = NULL;
    ern_buf text = { 0 }, thinking = { 0 };
    bool ok = calls != NULL;
    json_array_foreach(content, i, block) {
        char at[BLOCK_PLACE_BYTES];
        snprintf(at, sizeof at, "%s.content.%zu", place, i);
        ok = ok && add_block(t, block, at, &text, &thinking, calls);
    }
    if (!ok) goto out;
    message = json_pack("{s:s, s:o}", "role", "assistant", "content", json_stringn(text.data ? text.data : "", text.len));
    if (message && thinking.len) json_object_set_new(message, "reasoning_content",
        json_stringn(thinking.data, thinking.len));
    if (message && json_array_size(calls)) json_object_set(message, "tool_calls", calls);
    ok = put(t, message);
out:
    buf_deinit(&text);
    buf_deinit(&thinking);
    json_decref(calls);
    return ok;
}

static bool add_message(translation *t, const json_t *m, size_t i) {
    static const char *const known[] = { "role", "content", NULL };
    const char *role = text_of(m, "role");
    const json_t *content = json_object_get(m, "content");
    char place[PLACE_BYTES];
    snprintf(place, sizeof place, "messages.%zu", i);
    const bool is_user = role && strcmp(role, "user") == 0, is_assistant = role && strcmp(role, "assistant") == 0;
    if (!is_user && !is_assistant) return ern_fail(t->e, ERN_ARG, "%s.role: \"%.40s\" is neither user nor assistant", place,
                                                   role ? role : "(none)");
    if (!check_members(m, known, place, t->e)) return false;
    if (json_is_string(content)) return put(t, json_pack("{s:s, s:O}", "role", role, "content", content));
    if (!json_array_size(content)) return ern_fail(t->e, ERN_ARG,
                                                   "%s.content: a string or an array of at least one block wanted", place);
    return is_user ? add_user(t, content, place) : add_assistant(t, content, place);
}

json_t *anthropic_messages(const json_t *system, const json_t *messages, ern_err *e) {
    translation t = { .out = json_array(), .names = json_object(), .e = e };
    const size_t n = json_array_size(messages);
    bool ok = t.out && t.names;
    if (!ok) no_memory(e);
    if (ok && (n == 0 || n > MAX_MESSAGES)) ok = ern_fail(e, ERN_ARG, "messages: an array of 1 to %d messages wanted",
                                                          MAX_MESSAGES);
    if (ok && system && !json_is_null(system)) {
        json_t *text = plain_text(system, "system", e);
        ok = text && (!json_string_length(text) || put(&t, json_pack("{s:s, s:O}", "role", "system", "content", text)));
        json_decref(text);
    }
    for (size_t i = 0; ok && i < n; i++) ok = add_message(&t, json_array_get(messages, i), i);
    const char *last = ok ? text_of(json_array_get(messages, n - 1), "role") : NULL;
    if (last && strcmp(last, "assistant") == 0)
        ok = ern_fail(e, ERN_ARG, "messages.%zu: the last message is the assistant's; going on with it is not supported, "
                      "the user's turn must come last", n - 1);
    json_decref(t.names);
    if (ok) return t.out;
    json_decref(t.out);
    return NULL;
}

/* ---- tools --------------------------------------------------------------------------------------- */

static json_t *tool_of(const json_t *tool, size_t i, ern_err *e) {
    static const char *const known[] = { "type", "name", "description", "input_schema", "strict", "cache_control", NULL };
    char place[PLACE_BYTES];
    const char *type = text_of(tool, "type"), *name = text_of(tool, "name");
    json_t *schema = json_object_get(tool, "input_schema"), *description = json_object_get(tool, "description"),
           *strict = json_object_get(tool, "strict");
    snprintf(place, sizeof place, "tools.%zu", i);
    if (type && strcmp(type, "custom") != 0) {
        ern_fail(e, ERN_ARG, "%s.type: \"%.60s\" is not run here; only tools of your own (custom) are supported", place,
            type);
        return NULL;
    }
    if (!name || !*name || !json_is_object(schema)) {
        ern_fail(e, ERN_ARG, "%s: name as a string and input_schema as an object wanted", place);
        return NULL;
    }
    if (!check_members(tool, known, place, e)) return NULL;
    json_t *function = json_pack("{s:s, s:O}", "name", name, "parameters", schema);
    if (json_is_string(description)) json_object_set(function, "description", description);
    if (json_is_boolean(strict)) json_object_set(function, "strict", strict);
    json_t *out = json_pack("{s:s, s:o}", "type", "function", "function", function);
    if (!out) no_memory(e);
    return out;
}

json_t *anthropic_tools(const json_t *tools, ern_err *e) {
    json_t *out = json_array(), *tool;
    size_t i;
    json_array_foreach(tools, i, tool) {
        json_t *one = tool_of(tool, i, e);
        if (one && json_array_append_new(out, one) == 0) continue;
        json_decref(out);
        return NULL;
    }
    if (!out) no_memory(e);
    return out;
}
