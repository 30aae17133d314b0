/* Tool calls: <tool_call> {"name": one of them, "arguments": what its schema says} </tool_call>, alone or after free
 * text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/grammar.h"

#define ALT(g, ...) grammar_alt(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))
#define SEQ(g, ...) grammar_seq(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))
#define OPEN "<tool_call>"
#define CLOSE "</tool_call>"
#define MAX_TOOLS 1024

static g_node newlines(ern_grammar *g) { return grammar_repeat(g, grammar_text(g, "\n"), 0, 2); }

static g_node call_of(ern_grammar *g, const json_t *tool) {
    const char *name = json_string_value(json_object_get(tool, "name"));
    const json_t *parameters = json_object_get(tool, "parameters");
    json_t *any = NULL;
    if (!name) return grammar_fail(g, ERN_ARG, 0, 0, "tools: a tool without a name");
    json_t *quoted = json_string(name);
    char *text = quoted ? json_dumps(quoted, JSON_ENCODE_ANY) : NULL;
    g_node node = 0;
    if (!parameters || json_is_null(parameters)) parameters = any = json_pack("{s:s}", "type", "object");
    if (!text || !parameters) grammar_fail(g, ERN_NOMEM, 0, 0, "no memory for tools");
    else node = SEQ(g, grammar_text(g, "{\"name\": "), grammar_text(g, text), grammar_text(g, ", \"arguments\": "),
                    grammar_schema_node(g, parameters), grammar_text(g, "}"));
    free(text);
    json_decref(quoted);
    json_decref(any);
    return node;
}

/* Any bytes without OPEN in them, then OPEN and what follows, or the end. Rule i: the last i bytes are a beginning
 * of OPEN. */
static void free_text(ern_grammar *g, g_node after) {
    char name[32];
    for (size_t i = 0; i < strlen(OPEN); i++) {
        g_node parts[5];
        size_t n = 0;
        const uint8_t next = (uint8_t)OPEN[i], first = (uint8_t)OPEN[0];
        snprintf(name, sizeof name, "free-%zu", i + 1);
        const g_node goes_on = i + 1 < strlen(OPEN) ? grammar_ref(g, grammar_declare(g, name)) : after;
        const g_node again = grammar_ref(g, grammar_declare(g, "free-0")), one = grammar_ref(g, grammar_declare(g,
                "free-1"));
        parts[n++] = grammar_empty(g);
        parts[n++] = SEQ(g, grammar_bytes(g, next, next), goes_on);
        if (next != first) parts[n++] = SEQ(g, grammar_bytes(g, first, first), one);
        const g_range others[] = { { 0, (next < first ? next : first) - 1u }, { (next < first ? first : next) + 1u, 0xFF } };
        const uint32_t low = next < first ? next : first, high = next < first ? first : next;
        g_node bytes[3];
        size_t n_bytes = 0;
        bytes[n_bytes++] = grammar_bytes(g, 0, (uint8_t)others[0].high);
        if (high > low + 1) bytes[n_bytes++] = grammar_bytes(g, (uint8_t)(low + 1), (uint8_t)(high - 1));
        bytes[n_bytes++] = grammar_bytes(g, (uint8_t)others[1].low, 0xFF);
        parts[n++] = SEQ(g, grammar_alt(g, bytes, n_bytes), again);
        snprintf(name, sizeof name, "free-%zu", i);
        grammar_rule(g, name, grammar_alt(g, parts, n));
    }
}

bool grammar_from_tools(ern_grammar *g, const json_t *spec, ern_err *e) {
    const json_t *tools = json_object_get(spec, "tools");
    const bool is_parallel = json_is_true(json_object_get(spec, "is_parallel"));
    const size_t n = json_array_size(tools);
    g_node *calls = mem_zalloc(n + 1, sizeof *calls, "tools", e);
    if (!calls) return false;
    const uint32_t root = grammar_declare(g, "root");
    if (n == 0 || n > MAX_TOOLS) grammar_fail(g, ERN_ARG, 0, 0, "tools: %zu of them, 1 to %d wanted", n, MAX_TOOLS);
    for (size_t i = 0; i < n && !g->is_failed; i++) calls[i] = call_of(g, json_array_get(tools, i));
    if (!g->is_failed && root != UINT32_MAX) {
        grammar_rule(g, "call", SEQ(g, newlines(g), grammar_alt(g, calls, n), newlines(g), grammar_text(g, CLOSE)));
        const g_node call = grammar_ref(g, grammar_declare(g, "call"));
        const g_node more = is_parallel ? grammar_repeat(g, SEQ(g, newlines(g), grammar_text(g, OPEN), call), 0,
                                                         GRAMMAR_UNBOUNDED)
                                        : grammar_empty(g);
        const g_node after = SEQ(g, call, more);
        if (json_is_true(json_object_get(spec, "is_required"))) grammar_rule(g, "root", SEQ(g, newlines(g),
                grammar_text(g, OPEN), after));
        else {
            free_text(g, after);
            grammar_rule(g, "root", grammar_ref(g, grammar_declare(g, "free-0")));
        }
    }
    free(calls);
    if (g->is_failed && e) *e = g->err;
    return !g->is_failed;
}
