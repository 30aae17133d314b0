/* Byte-pair merges: of all adjacent pairs the one with the lowest rank goes first, the leftmost of equals. Short words
 * search a small array; long ones keep a heap, so that a text without a single space stays n log n. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define NEVER UINT32_MAX
#define EMPTY UINT64_MAX
#define SHORT_WORD 24           /* symbols; above this the heap wins (measured on English and Chinese text) */
#define MIN_JOIN_BITS ((size_t)1 << 12)
#define MAX_JOIN_BITS ((size_t)1 << 22)

/* ---- rules ------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t k) {
    k *= 0x9E3779B97F4A7C15u;
    return k ^ (k >> 32);
}

bool bpe_pairs_init(tok_bpe *b, size_t n_pairs, ern_err *e) {
    size_t n = 16;
    while (n < n_pairs * 2) n *= 2;
    if (!(b->pair = mem_zalloc(n, sizeof *b->pair, "merges", e))) return false;
    for (size_t i = 0; i < n; i++) b->pair[i].key = EMPTY;
    b->mask = n - 1;
    return true;
}

static uint64_t pair_key(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

void bpe_pairs_add(tok_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    const uint64_t key = pair_key(left, right);
    size_t i = (size_t)mix(key) & b->mask;
    for (; b->pair[i].key != EMPTY; i = (i + 1) & b->mask)
        if (b->pair[i].key == key) return;
    b->pair[i] = (tok_pair){ key, rank, id };
    b->n_pairs++;
}

typedef struct { float score; uint32_t id; } scored;

static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool may_merge_into(const tok_pieces *p, const uint8_t *types, size_t id) {
    int32_t cp;
    return types[id] == 1 && p->len[id] > 1 && utf8_decode(pieces_text(p, id), p->len[id], &cp) < p->len[id];
}

bool bpe_ranks_init(tok_bpe *b, const tok_pieces *p, const float *scores, const uint8_t *types, ern_err *e) {
    bool ok = false;
    size_t n = 0;
    uint32_t rank = 0;
    scored *order = mem_zalloc(p->n, sizeof *order, "scores", e);
    if (!order || !(b->rank = mem_zalloc(p->n, sizeof *b->rank, "scores", e))) goto out;
    for (size_t id = 0; id < p->n; id++) {
        b->rank[id] = NEVER;
        if (!may_merge_into(p, types, id)) continue;
        if (scores[id] != scores[id]) {
            ern_fail(e, ERN_FORMAT, "vocabulary: the score of piece %zu is not a number", id);
            goto out;
        }
        order[n++] = (scored){ scores[id], (uint32_t)id };
    }
    qsort(order, n, sizeof *order, by_score);
    for (size_t i = 0; i < n; i++) {
        if (i && order[i].score != order[i - 1].score) rank++;
        b->rank[order[i].id] = rank;
    }
    ok = true;
out:
    free(order);
    return ok;
}

static void set_join(tok_bpe *b, int32_t left, int32_t right) {
    if (left < 128 && right < 128) {
        const size_t bit = (size_t)left * 128 + (size_t)right;
        b->ascii_joins[bit / 64] |= (uint64_t)1 << bit % 64;
        return;
    }
    const size_t bit = (size_t)mix(pair_key(left, right)) & b->joins_mask;
    b->joins[bit / 64] |= (uint64_t)1 << bit % 64;
}

bool bpe_joined(const tok_bpe *b, int32_t left, int32_t right) {
    if (left < 128 && right < 128) {
        const size_t bit = (size_t)left * 128 + (size_t)right;
        return b->ascii_joins[bit / 64] >> bit % 64 & 1;
    }
    const size_t bit = (size_t)mix(pair_key(left, right)) & b->joins_mask;
    return b->joins[bit / 64] >> bit % 64 & 1;
}

/* A merge never crosses two characters that stand side by side in no piece, so text may be cut there: the result is
 * the same, the words are short and can be cached. False positives of the bit table only cut less. */
bool bpe_joins_init(tok_bpe *b, const tok_pieces *p, const uint8_t *types, ern_err *e) {
    size_t n_bits = MIN_JOIN_BITS;
    while (n_bits < p->n * 16 && n_bits < MAX_JOIN_BITS) n_bits *= 2;
    if (!(b->joins = mem_zalloc(n_bits / 64, sizeof *b->joins, "vocabulary", e))) return false;
    b->joins_mask = n_bits - 1;
    b->has_joins = true;
    for (size_t id = 0; id < p->n; id++) {
        if (types[id] == 3 || types[id] == 6) continue;
        const char *s = pieces_text(p, id);
        int32_t before = -1;
        for (size_t i = 0; i < p->len[id];) {
            int32_t cp;
            i += utf8_decode(s + i, p->len[id] - i, &cp);
            if (before >= 0 && cp >= 0) set_join(b, before, cp);
            before = cp;
        }
    }
    return true;
}

void bpe_deinit(tok_bpe *b) {
    free(b->pair);
    free(b->rank);
    free(b->joins);
    *b = (tok_bpe){ 0 };
}

/* ---- work space ------------------------------------------------------------------------------- */

bool bpe_work_reserve(tok_bpe_work *w, size_t n, ern_err *e) {
    if (n <= w->cap) return true;
    if (n > UINT32_MAX / 4) return ern_fail(e, ERN_LIMIT, "a word of %zu symbols, at most %u are taken", n, UINT32_MAX / 4);
    const size_t cap = n + n / 2 + 64;
    tok_symbol *symbol = mem_grow(w->symbol, cap, sizeof *symbol, "symbols", e);
    if (!symbol) return false;
    w->symbol = symbol;
    w->cap = cap;
    return true;
}

static bool reserve_links(tok_bpe_work *w, size_t n, ern_err *e) {
    if (n <= w->cap_linked) return true;
    uint32_t **const arrays[] = { &w->rank, &w->prev, &w->next };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        uint32_t *a = mem_grow(*arrays[i], n, sizeof *a, "symbols", e);
        if (!a) return false;
        *arrays[i] = a;
    }
    int32_t *merged = mem_grow(w->merged, n, sizeof *merged, "symbols", e);
    if (!merged) return false;
    w->merged = merged;
    w->cap_linked = n;
    return true;
}

void bpe_work_deinit(tok_bpe_work *w) {
    free(w->symbol);
    free(w->rank);
    free(w->prev);
    free(w->next);
    free(w->merged);
    free(w->heap);
    *w = (tok_bpe_work){ 0 };
}

/* ---- merging ---------------------------------------------------------------------------------- */

static uint32_t rank_of(const tok_bpe *b, const tok_pieces *p, const char *text, const tok_symbol *l, const tok_symbol *r,
                        int32_t *id) {
    if (b->rank) {
        const int32_t found = pieces_find(p, text + l->at, (size_t)l->len + r->len);
        *id = found;
        return found < 0 ? NEVER : b->rank[found];
    }
    if (l->id < 0 || r->id < 0) return NEVER;
    const uint64_t key = pair_key(l->id, r->id);
    for (size_t i = (size_t)mix(key) & b->mask; b->pair[i].key != EMPTY; i = (i + 1) & b->mask)
        if (b->pair[i].key == key) {
            *id = b->pair[i].id;
            return b->pair[i].rank;
        }
    return NEVER;
}

static size_t merge_short(const tok_bpe *b, const tok_pieces *p, tok_symbol *s, const char *text, size_t n) {
    uint32_t rank[SHORT_WORD];
    int32_t id[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(b, p, text, &s[i], &s[i + 1], &id[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NEVER) break;
        s[best].id = id[best];
        s[best].len += s[best + 1].len;
        n--;
        memmove(&s[best + 1], &s[best + 2], (n - best - 1) * sizeof *s);
        if (best + 1 < n) {
            memmove(&rank[best + 1], &rank[best + 2], (n - best - 2) * sizeof *rank);
            memmove(&id[best + 1], &id[best + 2], (n - best - 2) * sizeof *id);
            rank[best] = rank_of(b, p, text, &s[best], &s[best + 1], &id[best]);
        }
        if (best) rank[best - 1] = rank_of(b, p, text, &s[best - 1], &s[best], &id[best - 1]);
    }
    return n;
}

static bool heap_push(tok_bpe_work *w, uint32_t rank, uint32_t at, ern_err *e) {
    if (w->n_heap == w->cap_heap) {
        const size_t cap = w->cap_heap ? w->cap_heap * 2 : 1024;
        uint64_t *heap = mem_grow(w->heap, cap, sizeof *heap, "merge queue", e);
        if (!heap) return false;
        w->heap = heap;
        w->cap_heap = cap;
    }
    const uint64_t key = (uint64_t)rank << 32 | at;
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
    return true;
}

static uint64_t heap_pop(tok_bpe_work *w) {
    const uint64_t top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static bool push_pair(const tok_bpe *b, const tok_pieces *p, tok_bpe_work *w, const char *text, uint32_t left, ern_err *e) {
    const uint32_t right = w->next[left];
    w->rank[left] = right == NEVER ? NEVER : rank_of(b, p, text, &w->symbol[left], &w->symbol[right], &w->merged[left]);
    return w->rank[left] == NEVER || heap_push(w, w->rank[left], left, e);
}

static bool merge_long(const tok_bpe *b, const tok_pieces *p, tok_bpe_work *w, const char *text, size_t *n_io, ern_err *e) {
    const uint32_t n = (uint32_t)*n_io;
    if (!reserve_links(w, n, e)) return false;
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->prev[i] = i ? i - 1 : NEVER;
        w->next[i] = i + 1 < n ? i + 1 : NEVER;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!push_pair(b, p, w, text, i, e)) return false;
    while (w->n_heap) {
        const uint64_t key = heap_pop(w);
        const uint32_t left = (uint32_t)key, rank = (uint32_t)(key >> 32);
        if (w->rank[left] != rank) continue;            /* a pair that has changed since */
        const uint32_t right = w->next[left], after = w->next[right];
        w->symbol[left].id = w->merged[left];
        w->symbol[left].len += w->symbol[right].len;
        w->rank[right] = NEVER;
        w->next[left] = after;
        if (after != NEVER) w->prev[after] = left;
        if (!push_pair(b, p, w, text, left, e)) return false;
        if (w->prev[left] != NEVER && !push_pair(b, p, w, text, w->prev[left], e)) return false;
    }
    size_t n_out = 0;
    for (uint32_t i = 0; i != NEVER; i = w->next[i]) w->symbol[n_out++] = w->symbol[i];
    *n_io = n_out;
    return true;
}

bool bpe_merge(const tok_bpe *b, const tok_pieces *p, tok_bpe_work *w, const char *text, size_t *n, ern_err *e) {
    if (*n < 2) return true;
    if (*n > SHORT_WORD) return merge_long(b, p, w, text, n, e);
    *n = merge_short(b, p, w->symbol, text, *n);
    return true;
}
