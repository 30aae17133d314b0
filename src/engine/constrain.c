/* The automata run as a set of stacks. A stack's frames are nodes (state, parent) that exist once, so stacks that share
 * their lower part share it in memory, and the set of stacks is a set of numbers.
 *
 * A mask is put together from what each automaton state allows by itself, computed once and kept: tokens that stay inside
 * the state's rule are allowed whatever lies below it on the stack; tokens that leave the rule on the way ("dependent")
 * are tried against the real stacks. */
#include "engine/constrain.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain_int.h"

#define MAX_STACKS 4096                             /* ambiguity of a grammar at one place */
#define MAX_NODES ((size_t)1 << 22)                 /* frames alive in one answer: its nesting */
#define SWEEP_NODES ((size_t)1 << 16)               /* no sweep for fewer frames */
#define MAX_CACHE_BYTES ((size_t)256 << 20)         /* masks of states kept a constraint */
#define SPARSE_LIMIT(n_vocab) ((n_vocab) / 32)      /* below: a list of ids is smaller than bits */

typedef struct { uint32_t state, parent; } frame;   /* parent 0: the bottom */

typedef struct {
    const g_automata *a;
    frame *frames;              /* [n], 0 unused */
    uint32_t *mark;             /* [cap] stamp of the closure that met it last */
    size_t n, cap, sweep_at;    /* sweep_at: frames at which the unused ones are dropped, twice what was alive last time */
    uint32_t *table;            /* open hash */
    size_t table_size;
    uint32_t stamp;
    uint32_t *pool;             /* sets of stacks, one after the other */
    size_t n_pool, cap_pool;
    uint32_t *work;
    size_t n_work, cap_work;
} machine;

typedef struct { size_t from, to; bool can_end; } stacks;      /* pool[from..to) */

typedef struct {
    bool is_dense;
    size_t n_allowed, n_dependent;
    int32_t *ids;               /* sparse: [n_allowed] */
    uint64_t *bits;             /* dense */
    uint32_t *dependent;        /* indices into vocab->tokens, ascending */
} state_mask;

struct ern_constraint {
    const constrain_vocab *v;
    g_automata a;
    pthread_mutex_t lock;
    state_mask **masks;         /* [n_states], guarded by lock */
    size_t cache_bytes;
    machine local;              /* for masks, guarded by lock */
};

struct constrain_state {
    ern_constraint *c;
    machine m;
    stacks now;
    stacks *levels;             /* stacks after each byte of a trial; [cap_levels] */
    size_t cap_levels;
};

/* ---- machine ------------------------------------------------------------------------------------ */

static bool grow(void **pool, size_t *cap, size_t wanted, size_t size, ern_err *e) {
    return mem_reserve(pool, cap, wanted, size, "constraint", e);
}

static void machine_deinit(machine *m) {
    free(m->frames);
    free(m->mark);
    free(m->table);
    free(m->pool);
    free(m->work);
    *m = (machine){ .a = m->a };
}

static size_t slot(const machine *m, uint32_t state, uint32_t parent) {
    const uint64_t h = ((uint64_t)parent << 32 | state) * 0x9E3779B97F4A7C15ull;
    return (size_t)(h >> 20) & (m->table_size - 1);
}

static bool rehash(machine *m, size_t size, ern_err *e) {
    uint32_t *table = mem_zalloc(size, sizeof *table, "constraint", e);
    if (!table) return false;
    free(m->table);
    m->table = table;
    m->table_size = size;
    for (size_t i = 1; i < m->n; i++) {
        size_t at = slot(m, m->frames[i].state, m->frames[i].parent);
        while (table[at]) at = (at + 1) & (size - 1);
        table[at] = (uint32_t)i;
    }
    return true;
}

static bool push(machine *m, uint32_t state, uint32_t parent, uint32_t *out, ern_err *e) {
    if (m->n == 0) m->n = 1;
    if (2 * (m->n + 1) > m->table_size && !rehash(m, m->table_size ? 2 * m->table_size : 256, e)) return false;
    size_t at = slot(m, state, parent);
    for (; m->table[at]; at = (at + 1) & (m->table_size - 1)) {
        const frame *f = &m->frames[m->table[at]];
        if (f->state == state && f->parent == parent) { *out = m->table[at]; return true; }
    }
    if (m->n >= MAX_NODES) return ern_fail(e, ERN_LIMIT, "constraint: the answer nests deeper than %zu", MAX_NODES);
    if (m->n >= m->cap) {
        size_t cap = m->cap, cap_mark = m->cap;
        if (!grow((void **)&m->frames, &cap, m->n + 1, sizeof *m->frames, e)) return false;
        if (!grow((void **)&m->mark, &cap_mark, cap, sizeof *m->mark, e)) return false;
        memset(m->mark + m->cap, 0, (cap_mark - m->cap) * sizeof *m->mark);
        m->cap = cap;
    }
    m->frames[m->n] = (frame){ state, parent };
    m->table[at] = (uint32_t)m->n;
    *out = (uint32_t)m->n++;
    return true;
}

static bool want(machine *m, uint32_t node, ern_err *e) {
    if (m->mark[node] == m->stamp) return true;
    m->mark[node] = m->stamp;
    if (!grow((void **)&m->work, &m->cap_work, m->n_work + 1, sizeof *m->work, e)) return false;
    m->work[m->n_work++] = node;
    return true;
}

/* Close the stacks in work over calls and returns; those that wait for a byte go to the pool. */
static bool close_stacks(machine *m, stacks *out, ern_err *e) {
    *out = (stacks){ .from = m->n_pool, .to = m->n_pool };
    while (m->n_work) {
        const uint32_t node = m->work[--m->n_work], parent = m->frames[node].parent;
        const g_state *s = &m->a->states[m->frames[node].state];
        if (s->n_edges) {
            if (m->n_pool - out->from == MAX_STACKS)
                return ern_fail(e, ERN_LIMIT, "constraint: the grammar is ambiguous in more than %d ways here", MAX_STACKS);
            if (!grow((void **)&m->pool, &m->cap_pool, m->n_pool + 1, sizeof *m->pool, e)) return false;
            m->pool[m->n_pool++] = node;
        }
        for (uint32_t i = 0; i < s->n_calls; i++) {
            const g_call *call = &m->a->calls[s->first_call + i];
            uint32_t back = parent, inner;
            if (!m->a->states[call->to].is_tail && !push(m, call->to, parent, &back, e)) return false;
            if (!push(m, m->a->starts[call->rule], back, &inner, e) || !want(m, inner, e)) return false;
        }
        if (s->is_final && parent == 0) out->can_end = true;
        if (s->is_final && parent != 0 && !want(m, parent, e)) return false;
    }
    out->to = m->n_pool;
    return true;
}

/* The stacks after byte b; appended to the pool. */
static bool step(machine *m, const stacks *from, uint8_t b, stacks *out, ern_err *e) {
    m->stamp++;
    m->n_work = 0;
    for (size_t i = from->from; i < from->to; i++) {
        const frame f = m->frames[m->pool[i]];
        const g_state *s = &m->a->states[f.state];
        for (uint32_t k = 0; k < s->n_edges; k++) {
            const g_edge *edge = &m->a->edges[s->first_edge + k];
            uint32_t node;
            if (b < edge->low || b > edge->high) continue;
            if (!push(m, edge->to, f.parent, &node, e) || !want(m, node, e)) return false;
            break;              /* edges of a state do not overlap */
        }
    }
    return close_stacks(m, out, e);
}

/* Once there are many frames, keep those that the stacks in the pool need, and number them again. */
static bool sweep(machine *m, ern_err *e) {
    if (m->n < SWEEP_NODES || m->n < m->sweep_at) return true;
    uint32_t *moved = mem_zalloc(m->n, sizeof *moved, "constraint", e);
    size_t n = 1;
    if (!moved) return false;
    for (size_t i = 0; i < m->n_pool; i++)
        for (uint32_t node = m->pool[i]; node && !moved[node]; node = m->frames[node].parent) moved[node] = 1;
    /* A parent may have been made after its child's first use, so numbers are handed out before parents are rewritten. */
    for (size_t i = 1; i < m->n; i++)
        if (moved[i]) moved[i] = (uint32_t)n++;
    for (size_t i = 1; i < m->n; i++)
        if (moved[i]) m->frames[moved[i]] = (frame){ m->frames[i].state, moved[m->frames[i].parent] };
    for (size_t i = 0; i < m->n_pool; i++) m->pool[i] = moved[m->pool[i]];
    m->n = n;
    m->sweep_at = 2 * n;
    memset(m->mark, 0, m->cap * sizeof *m->mark);
    m->stamp = 0;
    free(moved);
    return rehash(m, m->table_size, e);
}

/* ---- masks of single states ----------------------------------------------------------------------- */

static void mask_free(state_mask *k) {
    if (!k) return;
    free(k->ids);
    free(k->bits);
    free(k->dependent);
    free(k);
}

typedef struct { uint64_t *bits; size_t n_allowed; uint32_t *dependent; size_t n_dependent, cap_dependent; } mask_work;

static bool add_dependent(mask_work *w, uint32_t from, uint32_t to, ern_err *e) {
    if (!grow((void **)&w->dependent, &w->cap_dependent, w->n_dependent + (to - from), sizeof *w->dependent, e))
        return false;
    for (uint32_t i = from; i < to; i++) w->dependent[w->n_dependent++] = i;
    return true;
}

/* Tokens of the subtree at node, whose byte has not been taken yet. escaped: the rule could have ended before it. */
static bool walk(machine *m, const constrain_vocab *v, const stacks *before, uint32_t node, bool escaped, mask_work *w,
                 ern_err *e) {
    const trie_node *t = &v->trie[node];
    const size_t mark = m->n_pool;
    stacks after;
    if (!step(m, before, t->byte, &after, e)) return false;
    bool ok = true;
    if (after.from == after.to && !after.can_end) {
        if (escaped) ok = add_dependent(w, t->first, v->trie[t->end].first, e);
    } else {
        for (uint32_t i = 0; i < t->n_here; i++) {
            const size_t id = (size_t)v->tokens[t->first + i].id;
            w->bits[id / 64] |= 1ull << (id % 64);
            w->n_allowed++;
        }
        for (uint32_t child = node + 1; ok && child < t->end; child = v->trie[child].end)
            ok = walk(m, v, &after, child, escaped || after.can_end, w, e);
    }
    m->n_pool = mark;
    return ok;
}

/* The same for a single stack (state, bottom): while it meets neither calls nor ends, a state is all there is to know. */
static bool walk_state(machine *m, const constrain_vocab *v, uint32_t state, uint32_t node, mask_work *w, ern_err *e) {
    const trie_node *t = &v->trie[node];
    const g_state *s = &m->a->states[state];
    const g_edge *edge = m->a->edges + s->first_edge, *end = edge + s->n_edges;
    while (edge < end && (t->byte < edge->low || t->byte > edge->high)) edge++;
    if (edge == end) return true;
    const g_state *next = &m->a->states[edge->to];
    if (next->n_calls || next->is_final) {
        const size_t mark = m->n_pool;
        const stacks before = { .from = mark, .to = mark + 1 };
        uint32_t frame_id;
        if (!push(m, state, 0, &frame_id, e) || !grow((void **)&m->pool, &m->cap_pool, mark + 1, sizeof *m->pool, e)) return false;
        m->pool[m->n_pool++] = frame_id;
        const bool ok = walk(m, v, &before, node, false, w, e);
        m->n_pool = mark;
        return ok;
    }
    for (uint32_t i = 0; i < t->n_here; i++) {
        const size_t id = (size_t)v->tokens[t->first + i].id;
        w->bits[id / 64] |= 1ull << (id % 64);
        w->n_allowed++;
    }
    for (uint32_t child = node + 1; child < t->end; child = v->trie[child].end)
        if (!walk_state(m, v, edge->to, child, w, e)) return false;
    return true;
}

static state_mask *make_mask(ern_constraint *c, uint32_t state, ern_err *e) {
    const constrain_vocab *v = c->v;
    machine *m = &c->local;
    const size_t n_words = CONSTRAIN_MASK_WORDS(v->n_vocab);
    mask_work w = { .bits = mem_zalloc(n_words, sizeof *w.bits, "mask", e) };
    state_mask *k = mem_zalloc(1, sizeof *k, "mask", e);
    bool ok = w.bits && k;
    m->n_pool = 0;
    for (uint32_t child = 1; ok && child < v->trie[0].end; child = v->trie[child].end)
        ok = walk_state(m, v, state, child, &w, e);
    m->n_pool = 0;
    ok = ok && sweep(m, e);
    if (!ok) { free(w.bits); free(w.dependent); mask_free(k); return NULL; }
    *k = (state_mask){ .n_allowed = w.n_allowed, .n_dependent = w.n_dependent, .dependent = w.dependent, .bits = w.bits,
                       .is_dense = true };
    if (w.n_allowed >= SPARSE_LIMIT(v->n_vocab)) return k;
    if (!(k->ids = mem_zalloc(w.n_allowed + 1, sizeof *k->ids, "mask", e))) { mask_free(k); return NULL; }
    size_t n = 0;
    for (size_t i = 0; i < n_words; i++)
        for (uint64_t bits = w.bits[i]; bits; bits &= bits - 1)
            k->ids[n++] = (int32_t)(i * 64 + (size_t)__builtin_ctzll(bits));
    k->is_dense = false;
    free(k->bits);
    k->bits = NULL;
    return k;
}

static const state_mask *find_mask(ern_constraint *c, uint32_t state, ern_err *e) {
    if (c->masks[state]) return c->masks[state];
    if (c->cache_bytes > MAX_CACHE_BYTES) {
        for (size_t i = 0; i < c->a.n_states; i++) { mask_free(c->masks[i]); c->masks[i] = NULL; }
        c->cache_bytes = 0;
    }
    state_mask *k = make_mask(c, state, e);
    if (!k) return NULL;
    c->masks[state] = k;
    c->cache_bytes += sizeof *k + k->n_dependent * sizeof *k->dependent +
                      (k->is_dense ? CONSTRAIN_MASK_WORDS(c->v->n_vocab) * sizeof *k->bits : k->n_allowed * sizeof *k->ids);
    return k;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

constrain_state *constrain_begin(ern_constraint *c, ern_err *e) {
    constrain_state *s = mem_zalloc(1, sizeof *s, "constraint", e);
    uint32_t root;
    if (!s) return NULL;
    s->c = c;
    s->m.a = &c->a;
    s->m.stamp = 1;
    if (!push(&s->m, c->a.starts[0], 0, &root, e) || !want(&s->m, root, e) || !close_stacks(&s->m, &s->now, e)) {
        constrain_end(s);
        return NULL;
    }
    return s;
}

void constrain_end(constrain_state *s) {
    if (!s) return;
    machine_deinit(&s->m);
    free(s->levels);
    free(s);
}

bool constrain_can_end(const constrain_state *s) { return s->now.can_end; }
bool constrain_must_end(const constrain_state *s) { return s->now.from == s->now.to; }

/* Try the dependent tokens against the real stacks; tokens with the same beginning share the work. */
static bool try_dependent(constrain_state *s, const state_mask *k, uint64_t *mask, ern_err *e) {
    const constrain_vocab *v = s->c->v;
    machine *m = &s->m;
    const size_t mark = m->n_pool;
    const vocab_token *last = NULL;
    size_t depth = 0, dead_at = SIZE_MAX;       /* bytes of last taken; length of its prefix that cannot be */
    for (size_t i = 0; i < k->n_dependent; i++) {
        const vocab_token *t = &v->tokens[k->dependent[i]];
        if (mask[t->id / 64] >> (t->id % 64) & 1) continue;
        size_t same = 0;
        while (last && same < last->n && same < t->n && last->bytes[same] == t->bytes[same]) same++;
        if (last && dead_at <= same) continue;
        dead_at = SIZE_MAX;
        if (same < depth) depth = same;
        if (!grow((void **)&s->levels, &s->cap_levels, (size_t)t->n + 1, sizeof *s->levels, e)) return false;
        s->levels[0] = s->now;
        m->n_pool = depth ? s->levels[depth].to : mark;
        last = t;
        while (depth < t->n) {
            if (!step(m, &s->levels[depth], (uint8_t)t->bytes[depth], &s->levels[depth + 1], e)) return false;
            if (s->levels[depth + 1].from == s->levels[depth + 1].to &&
                !(s->levels[depth + 1].can_end && depth + 1 == t->n)) {
                dead_at = depth + 1;
                /* An end that is no continuation: this very token would be allowed, longer ones are not. */
                break;
            }
            depth++;
        }
        if (dead_at == SIZE_MAX) mask[t->id / 64] |= 1ull << (t->id % 64);
    }
    m->n_pool = mark;
    return true;
}

bool constrain_mask(constrain_state *s, uint64_t *mask, ern_err *e) {
    ern_constraint *c = s->c;
    const size_t n_words = CONSTRAIN_MASK_WORDS(c->v->n_vocab);
    bool ok = true, is_empty = true;
    memset(mask, 0, n_words * sizeof *mask);
    pthread_mutex_lock(&c->lock);
    for (int pass = 0; ok && pass < 2; pass++)          /* what is free first: it leaves less to try */
        for (size_t i = s->now.from; ok && i < s->now.to; i++) {
            const state_mask *k = find_mask(c, s->m.frames[s->m.pool[i]].state, e);
            if (!k) ok = false;
            else if (pass == 1) ok = try_dependent(s, k, mask, e);
            else if (k->is_dense) for (size_t w = 0; w < n_words; w++) mask[w] |= k->bits[w];
            else for (size_t n = 0; n < k->n_allowed; n++) mask[k->ids[n] / 64] |= 1ull << (k->ids[n] % 64);
        }
    pthread_mutex_unlock(&c->lock);
    for (size_t w = 0; w < n_words; w++) is_empty = is_empty && mask[w] == 0;
    if (ok && is_empty && !s->now.can_end)
        return ern_fail(e, ERN_ARG, "constraint: no token of this vocabulary can continue the answer");
    return ok;
}

bool constrain_accept_bytes(constrain_state *s, const char *bytes, size_t n, ern_err *e) {
    machine *m = &s->m;
    const size_t mark = m->n_pool;
    stacks at = s->now;
    for (size_t i = 0; i < n; i++) {
        stacks next;
        bool ok = step(m, &at, (uint8_t)bytes[i], &next, e);
        if (ok && next.from == next.to && !next.can_end)
            ok = ern_fail(e, ERN_ARG, "constraint: byte 0x%02x at %zu is not allowed", (uint8_t)bytes[i], i);
        if (!ok) { m->n_pool = mark; return false; }
        at = next;
    }
    const size_t n_now = at.to - at.from;               /* only the last set is needed: it moves to the front */
    if (n_now) memmove(m->pool, m->pool + at.from, n_now * sizeof *m->pool);
    m->n_pool = n_now;
    s->now = (stacks){ .from = 0, .to = n_now, .can_end = at.can_end };
    return sweep(m, e);
}

bool constrain_accept(constrain_state *s, int32_t id, ern_err *e) {
    const constrain_vocab *v = s->c->v;
    if (id < 0 || (size_t)id >= v->n_vocab || v->by_id[id].n == 0)
        return ern_fail(e, ERN_ARG, "constraint: token %d is not a text token", (int)id);
    return constrain_accept_bytes(s, v->by_id[id].bytes, v->by_id[id].n, e);
}

/* The one byte that every stack waits for, or -1. */
static int only_byte(const machine *m, const stacks *at) {
    int byte = -1;
    if (at->can_end) return -1;
    for (size_t i = at->from; i < at->to; i++) {
        const g_state *s = &m->a->states[m->frames[m->pool[i]].state];
        for (uint32_t k = 0; k < s->n_edges; k++) {
            const g_edge *edge = &m->a->edges[s->first_edge + k];
            if (edge->low != edge->high || (byte >= 0 && byte != edge->low)) return -1;
            byte = edge->low;
        }
    }
    return byte;
}

bool constrain_forced(constrain_state *s, size_t max, ern_buf *out, ern_err *e) {
    machine *m = &s->m;
    const size_t mark = m->n_pool;
    stacks at = s->now;
    bool ok = true;
    int byte;
    for (size_t n = 0; ok && n < max && (byte = only_byte(m, &at)) >= 0; n++) {
        stacks next;
        ok = step(m, &at, (uint8_t)byte, &next, e) && buf_char(out, (char)byte, e);
        at = next;
    }
    m->n_pool = mark;
    return ok;
}

/* ---- constraints ------------------------------------------------------------------------------------ */

static bool read_choices(ern_grammar *g, const char *text, size_t n, ern_err *e) {
    json_error_t bad;
    json_t *list = json_loadb(text, n, 0, &bad), *item;
    const size_t n_items = json_array_size(list);
    const char **choices = mem_zalloc(n_items + 1, sizeof *choices, "choices", e);
    size_t *lengths = mem_zalloc(n_items + 1, sizeof *lengths, "choices", e), i;
    bool ok = choices && lengths;
    if (ok && n_items == 0) ok = ern_fail(e, ERN_ARG, "choice: a JSON array of at least one string wanted");
    json_array_foreach(list, i, item) {
        if (!ok) break;
        if (!json_is_string(item)) { ok = ern_fail(e, ERN_ARG, "choice %zu: a string wanted", i); break; }
        choices[i] = json_string_value(item);
        lengths[i] = json_string_length(item);
    }
    ok = ok && grammar_from_choice(g, choices, lengths, n_items, e);
    free(choices);
    free(lengths);
    json_decref(list);
    return ok;
}

static bool read_schema(ern_grammar *g, bool is_tools, const char *text, size_t n, ern_err *e) {
    json_error_t bad;
    json_t *schema = json_loadb(text, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &bad);
    if (!schema) return ern_fail_at(e, ERN_ARG, bad.line, bad.column, "JSON Schema: %s", bad.text);
    const bool ok = is_tools ? grammar_from_tools(g, schema, e) : grammar_from_schema(g, schema, e);
    json_decref(schema);
    return ok;
}

static bool read_grammar(ern_grammar *g, enum constrain_kind kind, const char *text, size_t n, ern_err *e) {
    switch (kind) {
    case CONSTRAIN_GBNF: return grammar_from_gbnf(g, text, n, e);
    case CONSTRAIN_EBNF: return grammar_from_ebnf(g, text, n, e);
    case CONSTRAIN_REGEX: return grammar_from_regex(g, text, n, e);
    case CONSTRAIN_SCHEMA: return read_schema(g, false, text, n, e);
    case CONSTRAIN_TOOLS: return read_schema(g, true, text, n, e);
    case CONSTRAIN_CHOICE: return read_choices(g, text, n, e);
    case CONSTRAIN_JSON_OBJECT: return grammar_any_object(g, e);
    }
    return ern_fail(e, ERN_ARG, "constraint: kind %d", (int)kind);
}

ern_constraint *constraint_open(const constrain_vocab *v, enum constrain_kind kind, const char *text, size_t n, ern_err *e) {
    ern_grammar g;
    bool ok = false;
    ern_constraint *c = mem_zalloc(1, sizeof *c, "constraint", e);
    if (!c) return NULL;
    c->v = v;
    pthread_mutex_init(&c->lock, NULL);
    grammar_init(&g);
    if (!read_grammar(&g, kind, text, n, e) || !grammar_compile(&g, &c->a, e)) goto out;
    if (!(c->masks = mem_zalloc(c->a.n_states, sizeof *c->masks, "constraint", e))) goto out;
    c->local.a = &c->a;
    ok = true;
out:
    grammar_deinit(&g);
    if (!ok) { constraint_close(c); return NULL; }
    return c;
}

void constraint_close(ern_constraint *c) {
    if (!c) return;
    for (size_t i = 0; c->masks && i < c->a.n_states; i++) mask_free(c->masks[i]);
    free(c->masks);
    machine_deinit(&c->local);
    automata_deinit(&c->a);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

size_t constraint_n_states(const ern_constraint *c) { return c->a.n_states; }
