#include "server/responses.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "server/api_sampling.h"

#define MAX_ITEMS 100000
#define PLACE_BYTES 64

static const char *text_of(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }
static bool is_text(const char *a, const char *b) { return a && strcmp(a, b) == 0; }
static bool no_memory(api_error *why) { return ern_fail(&why->e, ERN_NOMEM, "no memory for the conversation"); }

/* ---- items as they come --------------------------------------------------------------------------------- */

/* A part of text under any of its names; other kinds are refused by name. */
static bool check_part(const json_t *part, const char *place, api_error *why) {
    static const char *const kinds[] = { "input_text", "output_text", "text", "reasoning_text", "summary_text", "refusal" };
    const char *type = text_of(part, "type");
    size_t k = 0;
    while (k < PARAM_COUNT(kinds) && !is_text(type, kinds[k])) k++;
    if (k == PARAM_COUNT(kinds)) return api_fail(why, place,
        "type \"%.40s\" is not supported by this model; it reads text", type
                                                 ? type : "(none)");
    const char *member = is_text(type, "refusal") ? "refusal" : "text";
    if (!json_is_string(json_object_get(part, member))) return api_fail(why, place, "%s: a string wanted", member);
    return true;
}

/* A string or parts as parts; type: what a string becomes. New. */
static json_t *parts_of(const json_t *content, const char *type, const char *place, api_error *why) {
    size_t k;
    json_t *part;
    if (json_is_string(content)) return json_pack("[{s:s, s:O}]", "type", type, "text", content);
    if (!json_is_array(content)) { api_fail(why, place, "a string or an array of parts wanted"); return NULL; }
    json_array_foreach(content, k, part)
        if (!check_part(part, place, why)) return NULL;
    return json_incref((json_t *)(uintptr_t)content);
}

static json_t *message_item(const json_t *item, const char *place, api_error *why) {
    const char *role = text_of(item, "role");
    const bool is_own = is_text(role, "assistant");
    if (!is_own && !is_text(role, "user") && !is_text(role, "system") && !is_text(role, "developer")) {
        api_fail(why, place, "role \"%.40s\" is none of user, assistant, system, developer", role ? role : "(none)");
        return NULL;
    }
    json_t *parts = parts_of(json_object_get(item, "content"), is_own ? "output_text" : "input_text", place, why);
    return parts ? json_pack("{s:s, s:s, s:s, s:o}", "type", "message", "status", "completed", "role", role, "content",
        parts)
           : NULL;
}

static json_t *call_item(const json_t *item, const char *place, api_error *why) {
    json_t *id = json_object_get(item, "call_id"), *name = json_object_get(item, "name"),
           *arguments = json_object_get(item, "arguments");
    if (json_is_string(id) && json_is_string(name) && json_is_string(arguments))
        return json_pack("{s:s, s:s, s:O, s:O, s:O}", "type", "function_call", "status", "completed", "call_id", id,
            "name", name,
                         "arguments", arguments);
    api_fail(why, place, "a function_call has call_id, name and arguments as strings");
    return NULL;
}

static json_t *output_item(const json_t *item, const char *place, api_error *why) {
    json_t *id = json_object_get(item, "call_id"), *output = json_object_get(item, "output");
    if (!json_is_string(id)) { api_fail(why, place, "a function_call_output has call_id as a string"); return NULL; }
    json_t *parts = parts_of(output, "input_text", place, why);
    json_decref(parts);                         /* checked; stored as it was given */
    return parts ? json_pack("{s:s, s:s, s:O, s:O}", "type", "function_call_output", "status", "completed", "call_id", id,
                             "output", output) : NULL;
}

static json_t *reasoning_item(const json_t *item, const char *place, api_error *why) {
    json_t *content = json_object_get(item, "content"), *summary = json_object_get(item, "summary");
    json_t *parts = content && !json_is_null(content) ? parts_of(content, "reasoning_text", place, why) : json_array();
    if (json_is_string(json_object_get(item, "encrypted_content"))) {
        json_decref(parts);
        api_fail(why, place, "encrypted_content is not supported: reasoning is given and taken as it is");
        return NULL;
    }
    return parts ? json_pack("{s:s, s:s, s:O?, s:o}", "type", "reasoning", "status", "completed", "summary",
                             json_is_array(summary) ? summary : NULL, "content", parts) : NULL;
}

static json_t *item_of(ern_server *s, const json_t *item, size_t i, api_error *why) {
    static const struct {
        const char *type, *prefix;
        json_t *(*read)(const json_t *item, const char *place, api_error *why);
    } kinds[] = {
        { "message", "msg_", message_item }, { "function_call", "fc_", call_item },
        { "function_call_output", "fco_", output_item }, { "reasoning", "rs_", reasoning_item },
    };
    const char *type = text_of(item, "type"), *given = text_of(item, "id");
    char place[PLACE_BYTES], id[80];
    snprintf(place, sizeof place, "input[%zu]", i);
    if (!type && text_of(item, "role")) type = "message";
    for (size_t k = 0; type && k < PARAM_COUNT(kinds); k++) {
        if (strcmp(type, kinds[k].type) != 0) continue;
        json_t *out = kinds[k].read(item, place, why);
        if (!given) api_new_id(s, kinds[k].prefix, id, sizeof id);
        if (out) json_object_set_new(out, "id", json_string(given ? given : id));
        else if (why->e.code == ERN_OK) no_memory(why);
        return out;
    }
    api_fail(why, place, "an item of type \"%.60s\" is not supported here", type ? type : "(none)");
    return NULL;
}

json_t *responses_items(ern_server *s, const json_t *input, api_error *why) {
    json_t *out = json_array(), *item;
    size_t i;
    if (json_is_string(input)) {
        json_t *message = json_pack("{s:s, s:O}", "role", "user", "content", input);
        json_t *one = message ? item_of(s, message, 0, why) : NULL;
        json_decref(message);
        if (one && json_array_append_new(out, one) == 0) return out;
        json_decref(out);
        return NULL;
    }
    if (json_array_size(input) > MAX_ITEMS) {
        api_fail(why, "input", "%zu items, at most %d", json_array_size(input), MAX_ITEMS);
        json_decref(out);
        return NULL;
    }
    json_array_foreach(input, i, item) {
        json_t *one = item_of(s, item, i, why);
        if (one && json_array_append_new(out, one) == 0) continue;
        json_decref(out);
        return NULL;
    }
    return out;
}

/* ---- messages --------------------------------------------------------------------------------------------- */

typedef struct {
    json_t *out, *names;            /* names: {call_id: name of its function} */
    json_t *open;                   /* the assistant's message that is being put together; borrowed from out */
} gathering;

/* All text of a string or of parts, one after the other. */
static json_t *joined(const json_t *content) {
    size_t k;
    json_t *part;
    ern_buf b = { 0 };
    bool ok = true;
    if (json_is_string(content)) return json_incref((json_t *)(uintptr_t)content);
    json_array_foreach(content, k, part) {
        const json_t *text = json_object_get(part, json_object_get(part, "text") ? "text" : "refusal");
        ok = ok && buf_add(&b, json_string_value(text), json_string_length(text), NULL);
    }
    json_t *out = ok ? json_stringn(b.data ? b.data : "", b.len) : NULL;
    buf_deinit(&b);
    return out;
}

static json_t *assistant(gathering *g) {
    if (g->open) return g->open;
    json_t *m = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
    if (m && json_array_append_new(g->out, m) == 0) g->open = m;
    return g->open;
}

static bool add_message(gathering *g, const json_t *item) {
    const char *role = text_of(item, "role");
    json_t *text = joined(json_object_get(item, "content"));
    if (!text) return false;
    if (!is_text(role, "assistant")) {
        g->open = NULL;
        return json_array_append_new(g->out, json_pack("{s:s, s:o}", "role", role, "content", text)) == 0;
    }
    const bool is_taken = g->open && (json_string_length(json_object_get(g->open, "content")) ||
                                      json_object_get(g->open, "tool_calls"));
    if (is_taken) g->open = NULL;
    json_t *m = assistant(g);
    if (m) json_object_set(m, "content", text);
    json_decref(text);
    return m != NULL;
}

static bool add_call(gathering *g, const json_t *item) {
    json_t *m = assistant(g), *id = json_object_get(item, "call_id"), *name = json_object_get(item, "name");
    if (!m) return false;
    if (!json_object_get(m, "tool_calls")) json_object_set_new(m, "tool_calls", json_array());
    json_object_set(g->names, json_string_value(id), name);
    return json_array_append_new(json_object_get(m, "tool_calls"), json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type",
                                 "function", "function", "name", name, "arguments",
                                     json_object_get(item, "arguments"))) == 0;
}

static bool add_output(gathering *g, const json_t *item, api_error *why) {
    json_t *id = json_object_get(item, "call_id"), *name = json_object_get(g->names, json_string_value(id));
    if (!name) return api_fail(why, "input", "no function_call before it has the call_id \"%.60s\" of a function_call_output",
                               json_string_value(id));
    json_t *text = joined(json_object_get(item, "output"));
    g->open = NULL;
    return text && json_array_append_new(g->out, json_pack("{s:s, s:O, s:O, s:o}", "role", "tool", "tool_call_id", id,
        "name",
                                         name, "content", text)) == 0;
}

static bool add_reasoning(gathering *g, const json_t *item) {
    json_t *text = joined(json_object_get(item, "content"));
    if (!text) return false;
    if (!json_string_length(text)) { json_decref(text); return true; }
    g->open = NULL;
    json_t *m = assistant(g);
    if (m) json_object_set(m, "reasoning_content", text);
    json_decref(text);
    return m != NULL;
}

json_t *responses_messages(const char *instructions, const json_t *items, api_error *why) {
    gathering g = { json_array(), json_object(), NULL };
    size_t i;
    json_t *item;
    bool ok = g.out && g.names;
    if (ok && instructions && *instructions)
        ok = json_array_append_new(g.out, json_pack("{s:s, s:s}", "role", "system", "content", instructions)) == 0;
    json_array_foreach(items, i, item) {
        const char *type = text_of(item, "type");
        if (!ok) break;
        if (is_text(type, "message")) ok = add_message(&g, item);
        else if (is_text(type, "function_call")) ok = add_call(&g, item);
        else if (is_text(type, "function_call_output")) ok = add_output(&g, item, why);
        else ok = add_reasoning(&g, item);
    }
    json_decref(g.names);
    if (ok) return g.out;
    if (why->e.code == ERN_OK) no_memory(why);
    json_decref(g.out);
    return NULL;
}

json_t *responses_tools(const json_t *tools, api_error *why) {
    static const char *const members[] = { "name", "description", "parameters", "strict" };
    json_t *out = json_array(), *tool;
    size_t i;
    json_array_foreach(tools, i, tool) {
        char place[PLACE_BYTES];
        const char *type = text_of(tool, "type"), *name = text_of(tool, "name");
        json_t *f = json_object();
        snprintf(place, sizeof place, "tools[%zu]", i);
        bool ok = f && out;
        if (ok && !is_text(type, "function"))
            ok = api_fail(why, place, "type \"%.60s\" is not run here; only function is supported", type ? type : "(none)");
        else if (ok && (!name || !*name)) ok = api_fail(why, place, "name: a string wanted");
        for (size_t k = 0; ok && k < PARAM_COUNT(members); k++) {
            json_t *v = json_object_get(tool, members[k]);
            if (v && !json_is_null(v)) json_object_set(f, members[k], v);
        }
        json_t *one = ok ? json_pack("{s:s, s:O}", "type", "function", "function", f) : NULL;
        json_decref(f);
        if (one && json_array_append_new(out, one) == 0) continue;
        json_decref(out);
        return NULL;
    }
    return out;
}
