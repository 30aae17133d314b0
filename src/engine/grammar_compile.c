/* Rules to automata: Thompson's construction for each rule, then subsets; a call of another rule is a symbol like a byte.
 * Afterwards dead states are cut (a state that cannot reach its rule's end would promise what it cannot keep), and rules
 * that call themselves before a first byte are refused. */
#include <stdlib.h>
#include <string.h>

#include "engine/grammar.h"

#define NONE UINT32_MAX

typedef struct { uint8_t kind, low, high; uint32_t rule, to, next; } nfa_edge;     /* kind: 0 empty, 1 bytes, 2 call */

typedef struct {
    const ern_grammar *g;
    uint32_t *first;        /* [n] first edge of an NFA state */
    nfa_edge *edges;
    size_t n, cap, n_edges, cap_edges;
    /* subsets of the rule at hand */
    uint32_t *sets;         /* members of all subsets, one after the other */
    uint32_t *set_at;       /* [n_sets + 1] */
    size_t n_set_members, cap_set_members, n_sets, cap_sets;
    uint32_t *table;        /* open hash of subsets */
    size_t table_size;
    uint32_t *mark;         /* [n] stamp */
    size_t cap_mark;
    uint32_t stamp;
    uint32_t *work;         /* stack and list for closures */
    size_t n_work, cap_work;
    g_automata out;
    size_t cap_states, cap_out_edges, cap_calls;
    ern_err *e;
} compiler;

static bool grow(void **pool, size_t *cap, size_t wanted, size_t size, ern_err *e) {
    return mem_reserve(pool, cap, wanted, size, "automaton", e);
}

/* ---- NFA ---------------------------------------------------------------------------------------- */

static bool new_state(compiler *c, uint32_t *out) {
    *out = 0;
    if (c->n >= 4 * GRAMMAR_MAX_STATES)
        return ern_fail(c->e, ERN_LIMIT, "grammar: a rule needs more than %zu states; use smaller repeat counts",
                        4 * GRAMMAR_MAX_STATES);
    if (!grow((void **)&c->first, &c->cap, c->n + 1, sizeof *c->first, c->e)) return false;
    c->first[c->n] = NONE;
    *out = (uint32_t)c->n++;
    return true;
}

static bool new_edge(compiler *c, uint32_t from, nfa_edge edge) {
    if (!grow((void **)&c->edges, &c->cap_edges, c->n_edges + 1, sizeof *c->edges, c->e)) return false;
    edge.next = c->first[from];
    c->edges[c->n_edges] = edge;
    c->first[from] = (uint32_t)c->n_edges++;
    return true;
}

static bool link(compiler *c, uint32_t from, uint32_t to) { return new_edge(c, from, (nfa_edge){ .to = to }); }

static bool build(compiler *c, g_node node, uint32_t from, uint32_t *end, int depth);

static bool build_repeat(compiler *c, const g_item *item, uint32_t from, uint32_t *end, int depth) {
    uint32_t at = from, after, last;
    for (uint32_t i = 0; i < item->a; i++)
        if (!build(c, item->child, at, &at, depth)) return false;
    if (item->b == GRAMMAR_UNBOUNDED) {                 /* a loop of its own, so that edges into `at` do not leak */
        if (!new_state(c, &after) || !link(c, at, after) || !build(c, item->child, after, &last, depth) ||
            !link(c, last, after))
            return false;
        *end = after;
        return true;
    }
    if (!new_state(c, &after)) return false;
    for (uint32_t i = item->a; i < item->b; i++)
        if (!link(c, at, after) || !build(c, item->child, at, &at, depth)) return false;
    *end = after;
    return link(c, at, after);
}

/* The fragment of node from state `from`; *end is where it ends. */
static bool build(compiler *c, g_node node, uint32_t from, uint32_t *end, int depth) {
    const g_item *item = &c->g->nodes[node];
    uint32_t at = from, part;
    if (depth > 4 * GRAMMAR_MAX_DEPTH)
        return ern_fail(c->e, ERN_LIMIT, "grammar: nested deeper than %d", 4 * GRAMMAR_MAX_DEPTH);
    switch (item->kind) {
    case G_EMPTY: break;
    case G_LITERAL:
        for (uint32_t i = 0; i < item->b; i++) {
            const uint8_t byte = c->g->bytes[item->a + i];
            if (!new_state(c, &part) || !new_edge(c, at, (nfa_edge){ .kind = 1, .low = byte, .high = byte, .to = part }))
                return false;
            at = part;
        }
        break;
    case G_BYTES:
        if (!new_state(c, &part)) return false;
        if (!new_edge(c, at, (nfa_edge){ .kind = 1, .low = (uint8_t)item->a, .high = (uint8_t)item->b, .to = part }))
            return false;
        at = part;
        break;
    case G_REF:
        if (!new_state(c, &part) || !new_edge(c, at, (nfa_edge){ .kind = 2, .rule = item->a, .to = part })) return false;
        at = part;
        break;
    case G_SEQ:
        for (uint32_t i = 0; i < item->b; i++)
            if (!build(c, c->g->children[item->a + i], at, &at, depth + 1)) return false;
        break;
    case G_ALT:
        if (!new_state(c, &at)) return false;
        for (uint32_t i = 0; i < item->b; i++) {
            uint32_t start;         /* a loop at the start of one branch must not be reachable from another */
            if (!new_state(c, &start) || !link(c, from, start) ||
                !build(c, c->g->children[item->a + i], start, &part, depth + 1) || !link(c, part, at))
                return false;
        }
        break;
    case G_REPEAT: return build_repeat(c, item, from, end, depth + 1);
    }
    *end = at;
    return true;
}

/* ---- subsets ------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void begin_closure(compiler *c) { c->stamp++; c->n_work = 0; }

/* Add a state and all that empty edges reach to the list work[0..n_work). */
static bool close_over(compiler *c, uint32_t state) {
    size_t done = c->n_work;
    if (c->mark[state] == c->stamp) return true;
    if (!grow((void **)&c->work, &c->cap_work, c->n_work + 1, sizeof *c->work, c->e)) return false;
    c->mark[state] = c->stamp;
    c->work[c->n_work++] = state;
    for (; done < c->n_work; done++)
        for (uint32_t i = c->first[c->work[done]]; i != NONE; i = c->edges[i].next) {
            const nfa_edge *edge = &c->edges[i];
            if (edge->kind != 0 || c->mark[edge->to] == c->stamp) continue;
            if (!grow((void **)&c->work, &c->cap_work, c->n_work + 1, sizeof *c->work, c->e)) return false;
            c->mark[edge->to] = c->stamp;
            c->work[c->n_work++] = edge->to;
        }
    return true;
}

static uint64_t hash_set(const uint32_t *set, size_t n) {
    uint64_t h = 0xCBF29CE484222325ull;
    for (size_t i = 0; i < n; i++) h = (h ^ set[i]) * 0x100000001B3ull;
    return h ^ h >> 29;
}

static bool rehash(compiler *c) {
    const size_t size = c->table_size ? c->table_size * 2 : 1024;
    uint32_t *table = mem_zalloc(size, sizeof *table, "automaton", c->e);
    if (!table) return false;
    for (size_t s = 0; s < c->n_sets; s++) {
        size_t at = hash_set(c->sets + c->set_at[s], c->set_at[s + 1] - c->set_at[s]) & (size - 1);
        while (table[at]) at = (at + 1) & (size - 1);
        table[at] = (uint32_t)s + 1;
    }
    free(c->table);
    c->table = table;
    c->table_size = size;
    return true;
}

/* The number of the subset work[0..n_work) among this rule's; new ones are appended. */
static bool intern(compiler *c, uint32_t *out) {
    qsort(c->work, c->n_work, sizeof *c->work, by_value);
    if (2 * (c->n_sets + 1) > c->table_size && !rehash(c)) return false;
    size_t at = hash_set(c->work, c->n_work) & (c->table_size - 1);
    for (; c->table[at]; at = (at + 1) & (c->table_size - 1)) {
        const uint32_t s = c->table[at] - 1;
        const size_t n = c->set_at[s + 1] - c->set_at[s];
        if (n == c->n_work && memcmp(c->sets + c->set_at[s], c->work, n * sizeof *c->work) == 0) { *out = s; return true; }
    }
    if (c->out.n_states + c->n_sets >= GRAMMAR_MAX_STATES)
        return ern_fail(c->e, ERN_LIMIT, "grammar: more than %zu states; use smaller repeat counts", GRAMMAR_MAX_STATES);
    if (!grow((void **)&c->sets, &c->cap_set_members, c->n_set_members + c->n_work, sizeof *c->sets, c->e) ||
        !grow((void **)&c->set_at, &c->cap_sets, c->n_sets + 2, sizeof *c->set_at, c->e))
        return false;
    memcpy(c->sets + c->n_set_members, c->work, c->n_work * sizeof *c->work);
    c->set_at[c->n_sets] = (uint32_t)c->n_set_members;
    c->n_set_members += c->n_work;
    c->set_at[c->n_sets + 1] = (uint32_t)c->n_set_members;
    c->table[at] = (uint32_t)c->n_sets + 1;
    *out = (uint32_t)c->n_sets++;
    return true;
}

/* The targets of bytes low..high (or of a call of rule) from subset s, closed, as a subset. */
static bool target(compiler *c, uint32_t s, bool is_call, uint32_t symbol, uint32_t *out) {
    begin_closure(c);
    for (size_t m = c->set_at[s]; m < c->set_at[s + 1]; m++)
        for (uint32_t i = c->first[c->sets[m]]; i != NONE; i = c->edges[i].next) {
            const nfa_edge *edge = &c->edges[i];
            const bool is_taken = is_call ? edge->kind == 2 && edge->rule == symbol
                                          : edge->kind == 1 && edge->low <= symbol && symbol <= edge->high;
            if (is_taken && !close_over(c, edge->to)) return false;
        }
    return intern(c, out);
}

static bool put_edges(compiler *c, uint32_t s, g_state *state, uint32_t base) {
    bool is_border[257] = { false };
    bool has[256] = { false };
    for (size_t m = c->set_at[s]; m < c->set_at[s + 1]; m++)
        for (uint32_t i = c->first[c->sets[m]]; i != NONE; i = c->edges[i].next) {
            const nfa_edge *edge = &c->edges[i];
            if (edge->kind != 1) continue;
            is_border[edge->low] = true;
            is_border[edge->high + 1] = true;
            memset(has + edge->low, 1, (size_t)(edge->high - edge->low) + 1);
        }
    state->first_edge = (uint32_t)c->out.n_edges;
    for (unsigned b = 0; b < 256;) {
        unsigned to = b + 1;
        while (to < 256 && !is_border[to]) to++;
        if (has[b]) {
            uint32_t next;
            if (!target(c, s, false, b, &next)) return false;
            if (!grow((void **)&c->out.edges, &c->cap_out_edges, c->out.n_edges + 1, sizeof *c->out.edges, c->e))
                return false;
            c->out.edges[c->out.n_edges++] = (g_edge){ (uint8_t)b, (uint8_t)(to - 1), base + next };
            state->n_edges++;
        }
        b = to;
    }
    return true;
}

static bool put_calls(compiler *c, uint32_t s, g_state *state, uint32_t base) {
    state->first_call = (uint32_t)c->out.n_calls;
    for (size_t m = c->set_at[s]; m < c->set_at[s + 1]; m++)
        for (uint32_t i = c->first[c->sets[m]]; i != NONE; i = c->edges[i].next) {
            bool is_known = false;
            const uint32_t rule = c->edges[i].rule;
            uint32_t next;
            if (c->edges[i].kind != 2) continue;
            for (uint32_t k = 0; k < state->n_calls; k++) is_known |= c->out.calls[state->first_call + k].rule == rule;
            if (is_known) continue;
            if (!target(c, s, true, rule, &next)) return false;
            if (!grow((void **)&c->out.calls, &c->cap_calls, c->out.n_calls + 1, sizeof *c->out.calls, c->e)) return false;
            c->out.calls[c->out.n_calls++] = (g_call){ rule, base + next };
            state->n_calls++;
        }
    return true;
}

static bool compile_rule(compiler *c, uint32_t rule) {
    const uint32_t base = (uint32_t)c->out.n_states;
    uint32_t start, end, first;
    c->n = c->n_edges = c->n_sets = c->n_set_members = 0;
    if (c->table) memset(c->table, 0, c->table_size * sizeof *c->table);
    if (!new_state(c, &start) || !build(c, c->g->rules[rule].body, start, &end, 0)) return false;
    const size_t old = c->cap_mark;
    if (!grow((void **)&c->mark, &c->cap_mark, c->n, sizeof *c->mark, c->e)) return false;
    if (c->cap_mark > old) memset(c->mark + old, 0, (c->cap_mark - old) * sizeof *c->mark);
    begin_closure(c);
    if (!close_over(c, start) || !intern(c, &first)) return false;
    for (uint32_t s = 0; s < c->n_sets; s++) {
        g_state state = { 0 };
        for (size_t m = c->set_at[s]; m < c->set_at[s + 1]; m++) state.is_final |= c->sets[m] == end;
        if (!put_edges(c, s, &state, base) || !put_calls(c, s, &state, base)) return false;
        if (!grow((void **)&c->out.states, &c->cap_states, base + s + 1, sizeof *c->out.states, c->e)) return false;
        c->out.states[base + s] = state;
    }
    c->out.n_states = base + c->n_sets;
    c->out.starts[rule] = base;
    return true;
}

/* ---- clean up ------------------------------------------------------------------------------------ */

/* ends[s]: the end of its rule can be reached from s. A rule whose start has no end is an error. */
static bool cut_dead(compiler *c) {
    g_automata *a = &c->out;
    bool *ends = mem_zalloc(a->n_states, 1, "automaton", c->e), is_changed = true;
    if (!ends) return false;
    while (is_changed) {
        is_changed = false;
        for (size_t s = a->n_states; s-- > 0;) {
            const g_state *state = &a->states[s];
            bool ok = state->is_final;
            for (uint32_t i = 0; !ok && i < state->n_edges; i++) ok = ends[a->edges[state->first_edge + i].to];
            for (uint32_t i = 0; !ok && i < state->n_calls; i++) {
                const g_call *call = &a->calls[state->first_call + i];
                ok = ends[a->starts[call->rule]] && ends[call->to];
            }
            if (ok && !ends[s]) ends[s] = is_changed = true;
        }
    }
    bool ok = ends[a->starts[0]] || ern_fail(c->e, ERN_ARG, "grammar: rule \"%s\" can never end", c->g->rules[0].name);
    for (size_t s = 0; ok && s < a->n_states; s++) {
        g_state *state = &a->states[s];
        uint32_t n = 0;
        for (uint32_t i = 0; i < state->n_edges; i++) {
            const g_edge edge = a->edges[state->first_edge + i];
            if (ends[edge.to]) a->edges[state->first_edge + n++] = edge;
        }
        state->n_edges = n;
        n = 0;
        for (uint32_t i = 0; i < state->n_calls; i++) {
            const g_call call = a->calls[state->first_call + i];
            if (ends[call.to] && ends[a->starts[call.rule]]) a->calls[state->first_call + n++] = call;
        }
        state->n_calls = n;
        state->is_tail = state->is_final && state->n_edges == 0 && state->n_calls == 0;
    }
    free(ends);
    return ok;
}

/* nullable[r]: rule r can be empty. */
static void find_nullable(const g_automata *a, bool *nullable, uint32_t *stack, uint8_t *seen) {
    bool is_changed = true;
    while (is_changed) {
        is_changed = false;
        for (size_t r = 0; r < a->n_rules; r++) {
            size_t n = 0;
            if (nullable[r]) continue;
            memset(seen, 0, a->n_states);
            stack[n++] = a->starts[r];
            seen[a->starts[r]] = 1;
            while (n && !nullable[r]) {
                const g_state *s = &a->states[stack[--n]];
                if (s->is_final) nullable[r] = is_changed = true;
                for (uint32_t i = 0; i < s->n_calls; i++) {
                    const g_call *call = &a->calls[s->first_call + i];
                    if (nullable[call->rule] && !seen[call->to]) { seen[call->to] = 1; stack[n++] = call->to; }
                }
            }
        }
    }
}

/* Depth-first over "r calls q before any byte"; a rule met again on the path is left-recursive. color: 0, 1 on path, 2
 * done. */
static bool visit(const compiler *c, const bool *nullable, uint32_t r, uint8_t *color, int depth) {
    const g_automata *a = &c->out;
    uint32_t states[64];
    size_t n = 0;
    if (depth > GRAMMAR_MAX_DEPTH)
        return ern_fail(c->e, ERN_LIMIT, "grammar: rules nested deeper than %d before a first character", GRAMMAR_MAX_DEPTH);
    color[r] = 1;
    states[n++] = a->starts[r];
    for (size_t at = 0; at < n; at++) {
        const g_state *s = &a->states[states[at]];
        for (uint32_t i = 0; i < s->n_calls; i++) {
            const g_call *call = &a->calls[s->first_call + i];
            bool is_known = false;
            if (color[call->rule] == 1)
                return ern_fail(c->e, ERN_ARG, "grammar: rule \"%s\" begins with itself; write it with a repeat instead",
                                c->g->rules[call->rule].name);
            if (color[call->rule] == 0 && !visit(c, nullable, call->rule, color, depth + 1)) return false;
            for (size_t k = 0; k < n; k++) is_known |= states[k] == call->to;
            if (!nullable[call->rule] || is_known) continue;
            if (n == sizeof states / sizeof states[0])
                return ern_fail(c->e, ERN_LIMIT, "grammar: rule \"%s\" begins with too many optional parts",
                                c->g->rules[r].name);
            states[n++] = call->to;
        }
    }
    color[r] = 2;
    return true;
}

static bool refuse_left_recursion(compiler *c) {
    const g_automata *a = &c->out;
    bool *nullable = mem_zalloc(a->n_rules, 1, "automaton", c->e), ok = false;
    uint32_t *stack = mem_zalloc(a->n_states + 1, sizeof *stack, "automaton", c->e);
    uint8_t *seen = mem_zalloc(a->n_states + a->n_rules, 1, "automaton", c->e);
    if (nullable && stack && seen) {
        find_nullable(a, nullable, stack, seen);
        uint8_t *color = seen + a->n_states;
        memset(color, 0, a->n_rules);
        ok = true;
        for (uint32_t r = 0; ok && r < a->n_rules; r++)
            if (color[r] == 0) ok = visit(c, nullable, r, color, 0);
    }
    free(nullable);
    free(stack);
    free(seen);
    return ok;
}

void automata_deinit(g_automata *a) {
    free(a->states);
    free(a->edges);
    free(a->calls);
    free(a->starts);
    *a = (g_automata){ 0 };
}

bool grammar_compile(const ern_grammar *g, g_automata *out, ern_err *e) {
    compiler c = { .g = g, .e = e };
    bool ok = false;
    if (g->is_failed) { if (e) *e = g->err; return false; }
    if (g->n_rules == 0) return ern_fail(e, ERN_ARG, "grammar: no rule \"root\"");
    for (size_t r = 0; r < g->n_rules; r++)
        if (!g->rules[r].body) return ern_fail(e, ERN_ARG, "grammar: rule \"%s\" is used but not defined", g->rules[r].name);
    c.out.n_rules = g->n_rules;
    if (!(c.out.starts = mem_zalloc(g->n_rules, sizeof *c.out.starts, "automaton", e))) goto out;
    for (uint32_t r = 0; r < g->n_rules; r++)
        if (!compile_rule(&c, r)) goto out;
    if (!cut_dead(&c) || !refuse_left_recursion(&c)) goto out;
    *out = c.out;
    c.out = (g_automata){ 0 };
    ok = true;
out:
    automata_deinit(&c.out);
    free(c.first);
    free(c.edges);
    free(c.sets);
    free(c.set_at);
    free(c.table);
    free(c.mark);
    free(c.work);
    return ok;
}
