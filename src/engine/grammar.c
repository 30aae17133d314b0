/* The builder: nodes in one array, so that a grammar of any size is a few allocations. */
#include "engine/grammar.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void grammar_init(ern_grammar *g) { *g = (ern_grammar){ .n_nodes = 1 }; }

void grammar_deinit(ern_grammar *g) {
    for (size_t i = 0; i < g->n_rules; i++) free(g->rules[i].name);
    free(g->nodes);
    free(g->children);
    free(g->bytes);
    free(g->rules);
    *g = (ern_grammar){ 0 };
}

g_node grammar_fail(ern_grammar *g, enum ern_code code, int line, int column, const char *fmt, ...) {
    char text[sizeof g->err.text];
    va_list args;
    if (g->is_failed) return 0;         /* the first one is the cause */
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ern_fail_at(&g->err, code, line, column, "%s", text);
    g->is_failed = true;
    return 0;
}

/* Room for n more items in a pool. */
static bool reserve(ern_grammar *g, void **pool, size_t *cap, size_t used, size_t n, size_t size) {
    if (g->is_failed) return false;
    if (n > GRAMMAR_MAX_NODES * 4 - used || (size == sizeof(g_item) && used + n > GRAMMAR_MAX_NODES)) {
        grammar_fail(g, ERN_LIMIT, 0, 0, "grammar: more than %zu parts", GRAMMAR_MAX_NODES);
        return false;
    }
    return mem_reserve(pool, cap, used + n, size, "grammar", &g->err) || !(g->is_failed = true);
}

static g_node add(ern_grammar *g, g_item item) {
    if (!reserve(g, (void **)&g->nodes, &g->cap_nodes, g->n_nodes, 1, sizeof *g->nodes)) return 0;
    g->nodes[g->n_nodes] = item;
    return (g_node)g->n_nodes++;
}

bool grammar_push(ern_grammar *g, g_nodes *list, g_node node) {
    if (!node) return false;
    if (list->n == GRAMMAR_MAX_NODES) return grammar_fail(g, ERN_LIMIT, 0, 0, "grammar: a list of too many parts");
    if (!mem_reserve((void **)&list->v, &list->cap, list->n + 1, sizeof *list->v, "grammar", &g->err))
        return !(g->is_failed = true);
    list->v[list->n++] = node;
    return true;
}

int grammar_hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

g_node grammar_empty(ern_grammar *g) { return add(g, (g_item){ .kind = G_EMPTY }); }

g_node grammar_literal(ern_grammar *g, const char *s, size_t n) {
    if (n == 0) return grammar_empty(g);
    if (!reserve(g, (void **)&g->bytes, &g->cap_bytes, g->n_bytes, n, 1)) return 0;
    memcpy(g->bytes + g->n_bytes, s, n);
    g->n_bytes += n;
    return add(g, (g_item){ .kind = G_LITERAL, .a = (uint32_t)(g->n_bytes - n), .b = (uint32_t)n });
}

g_node grammar_text(ern_grammar *g, const char *s) { return grammar_literal(g, s, strlen(s)); }

g_node grammar_bytes(ern_grammar *g, uint8_t low, uint8_t high) {
    return add(g, (g_item){ .kind = G_BYTES, .a = low, .b = high });
}

static g_node list(ern_grammar *g, enum g_kind kind, const g_node *nodes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!nodes[i]) return grammar_fail(g, ERN_NOMEM, 0, 0, "grammar: a part is missing");
    if (n == 1) return nodes[0];
    if (!reserve(g, (void **)&g->children, &g->cap_children, g->n_children, n, sizeof *g->children)) return 0;
    memcpy(g->children + g->n_children, nodes, n * sizeof *nodes);
    g->n_children += n;
    return add(g, (g_item){ .kind = kind, .a = (uint32_t)(g->n_children - n), .b = (uint32_t)n });
}

g_node grammar_seq(ern_grammar *g, const g_node *nodes, size_t n) { return n ? list(g, G_SEQ, nodes, n) : grammar_empty(g); }

g_node grammar_alt(ern_grammar *g, const g_node *nodes, size_t n) {
    return n ? list(g, G_ALT, nodes, n) : grammar_fail(g, ERN_ARG, 0, 0, "grammar: a choice of nothing");
}

g_node grammar_repeat(ern_grammar *g, g_node node, uint32_t least, uint32_t most) {
    if (!node) return 0;
    if (most < least) return grammar_fail(g, ERN_ARG, 0, 0, "grammar: repeat of at least %u and at most %u", least, most);
    if (least == 1 && most == 1) return node;
    return add(g, (g_item){ .kind = G_REPEAT, .a = least, .b = most, .child = node });
}

g_node grammar_ref(ern_grammar *g, uint32_t rule) {
    return rule == UINT32_MAX ? 0 : add(g, (g_item){ .kind = G_REF, .a = rule });
}

uint32_t grammar_declare(ern_grammar *g, const char *name) {
    for (size_t i = 0; i < g->n_rules; i++)
        if (strcmp(g->rules[i].name, name) == 0) return (uint32_t)i;
    if (g->n_rules == GRAMMAR_MAX_RULES) {
        grammar_fail(g, ERN_LIMIT, 0, 0, "grammar: more than %zu rules", GRAMMAR_MAX_RULES);
        return UINT32_MAX;
    }
    if (!reserve(g, (void **)&g->rules, &g->cap_rules, g->n_rules, 1, sizeof *g->rules)) return UINT32_MAX;
    char *copy = mem_strndup(name, strlen(name), &g->err);
    if (!copy) { g->is_failed = true; return UINT32_MAX; }
    g->rules[g->n_rules] = (g_rule){ .name = copy };
    return (uint32_t)g->n_rules++;
}

uint32_t grammar_rule(ern_grammar *g, const char *name, g_node body) {
    const uint32_t rule = grammar_declare(g, name);
    if (rule == UINT32_MAX || !body) return UINT32_MAX;
    g->rules[rule].body = body;
    return rule;
}

/* ---- UTF-8 ranges ------------------------------------------------------------------------------ */

#define MAX_PIECES 64       /* a range of code points needs at most 4 lengths x 7 pieces */

/* low..high of the same length in bytes: split until each byte position is a range of its own. */
static size_t split(ern_grammar *g, const uint8_t *low, const uint8_t *high, size_t n, g_node *out, size_t n_out) {
    if (n_out + 1 >= MAX_PIECES) { grammar_fail(g, ERN_LIMIT, 0, 0, "grammar: character range"); return n_out; }
    if (n == 1) {
        out[n_out] = grammar_bytes(g, low[0], high[0]);
        return n_out + 1;
    }
    uint8_t least[3], most[3];
    memset(least, 0x80, sizeof least);
    memset(most, 0xBF, sizeof most);
    const bool low_is_least = memcmp(low + 1, least, n - 1) == 0, high_is_most = memcmp(high + 1, most, n - 1) == 0;
    if (low[0] == high[0] || (low_is_least && high_is_most)) {
        g_node tails[MAX_PIECES], both[2];
        const size_t n_tails = split(g, low + 1, high + 1, n - 1, tails, 0);
        both[0] = grammar_bytes(g, low[0], high[0]);
        both[1] = grammar_alt(g, tails, n_tails);
        out[n_out] = grammar_seq(g, both, 2);
        return n_out + 1;
    }
    uint8_t edge[4];
    memcpy(edge, low, n);
    if (!low_is_least) {                        /* the rest of low's first byte alone */
        memcpy(edge + 1, most, n - 1);
        n_out = split(g, low, edge, n, out, n_out);
        edge[0]++;
        memcpy(edge + 1, least, n - 1);
        return split(g, edge, high, n, out, n_out);
    }
    memcpy(edge, high, n);                      /* low is least, high is not most: all before high's first byte, then it */
    edge[0]--;
    memcpy(edge + 1, most, n - 1);
    n_out = split(g, low, edge, n, out, n_out);
    edge[0]++;
    memcpy(edge + 1, least, n - 1);
    return split(g, edge, high, n, out, n_out);
}

g_node grammar_range(ern_grammar *g, uint32_t low, uint32_t high) {
    static const uint32_t bounds[][2] = { { 0, 0x7F }, { 0x80, 0x7FF }, { 0x800, 0xD7FF }, { 0xE000, 0xFFFF },
                                          { 0x10000, 0x10FFFF } };
    g_node pieces[MAX_PIECES];
    size_t n = 0;
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        const uint32_t from = low > bounds[i][0] ? low : bounds[i][0], to = high < bounds[i][1] ? high : bounds[i][1];
        char a[4], b[4];
        if (from > to) continue;
        const size_t length = utf8_encode((int32_t)from, a);
        utf8_encode((int32_t)to, b);
        n = split(g, (const uint8_t *)a, (const uint8_t *)b, length, pieces, n);
    }
    if (n == 0) return grammar_fail(g, ERN_ARG, 0, 0, "grammar: the range U+%04X to U+%04X holds no character", low, high);
    return grammar_alt(g, pieces, n);
}

static int by_low(const void *a, const void *b) {
    const g_range *x = a, *y = b;
    return x->low < y->low ? -1 : x->low > y->low;
}

g_node grammar_class(ern_grammar *g, const g_range *ranges, size_t n, bool is_negated) {
    g_range *sorted = mem_zalloc(n + 1, sizeof *sorted, "character class", &g->err);
    g_node *parts = mem_zalloc(n + 1, sizeof *parts, "character class", &g->err), node = 0;
    size_t n_merged = 0, n_parts = 0;
    if (!sorted || !parts) { g->is_failed = true; goto out; }
    if (n) memcpy(sorted, ranges, n * sizeof *ranges);
    qsort(sorted, n, sizeof *sorted, by_low);
    for (size_t i = 0; i < n; i++)
        if (n_merged && sorted[i].low <= sorted[n_merged - 1].high + 1) {
            if (sorted[i].high > sorted[n_merged - 1].high) sorted[n_merged - 1].high = sorted[i].high;
        } else sorted[n_merged++] = sorted[i];
    if (!is_negated)
        for (size_t i = 0; i < n_merged; i++) parts[n_parts++] = grammar_range(g, sorted[i].low, sorted[i].high);
    else {
        uint32_t from = 0;
        for (size_t i = 0; i < n_merged && from <= 0x10FFFF; i++) {
            if (sorted[i].low > from && !(from >= 0xD800 && sorted[i].low <= 0xE000))
                parts[n_parts++] = grammar_range(g, from, sorted[i].low - 1);
            if (sorted[i].high + 1 > from) from = sorted[i].high + 1;
        }
        if (from <= 0x10FFFF) parts[n_parts++] = grammar_range(g, from, 0x10FFFF);
    }
    node = n_parts ? grammar_alt(g, parts, n_parts) : grammar_fail(g, ERN_ARG, 0, 0, "grammar: an empty character class");
out:
    free(sorted);
    free(parts);
    return node;
}

bool grammar_from_choice(ern_grammar *g, const char *const *choices, const size_t *lengths, size_t n, ern_err *e) {
    g_node *nodes = mem_zalloc(n ? n : 1, sizeof *nodes, "choices", e);
    if (!nodes) return false;
    const uint32_t root = grammar_declare(g, "root");
    for (size_t i = 0; i < n; i++) nodes[i] = grammar_literal(g, choices[i], lengths[i]);
    if (root != UINT32_MAX) grammar_rule(g, "root", grammar_alt(g, nodes, n));
    free(nodes);
    if (g->is_failed && e) *e = g->err;
    return !g->is_failed;
}
