/* Attention over the pool: rows are cut into tiles, tiles into items of whole chunks, items dealt to threads as they come.
 * Letters: D padded head width, G query heads a KV head, K KV heads. */
#include "kernels/attention.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { TILE_ROWS = ATTENTION_MAX_GROUP, INLINE_WORK = 2048 };   /* rows x keys below which waking threads costs more */
#define LOG2_E 1.44269504088896f

/* Some tokens of a job, one KV head, some chunks. parts: where chunk c's result goes when the tile is split, [c, n_rows (D + 2)]. */
typedef struct {
    const attention_job *job;
    size_t head, token, n_tokens, chunk, n_chunks;
    float *parts;
} item;

typedef struct {
    const attention_call *call;
    const ern_kernels *kernels;
    size_t D, group;
    item *items, *splits;           /* work; and the split tiles whose chunks are merged afterwards */
    size_t n_items, n_splits;
    float *parts;
    size_t n_part_floats, used_part_floats;
    char *thread_scratch;
    atomic_size_t next;
} plan;

static size_t padded(size_t d) { return (d + 31) / 32 * 32; }
static size_t round_up(size_t n) { return (n + 63) / 64 * 64; }
static size_t least(size_t a, size_t b) { return a < b ? a : b; }
static size_t chunks_of(size_t n_keys) { return (n_keys + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK; }

static size_t keys_of(const attention_job *j, size_t token) { return j->first_keys + (j->is_causal ? token : 0); }

/* One thread's buffers: q, scores, sums twice, values twice, unpacked keys and values. */
typedef struct { float *q, *s, *m, *l, *o, *m2, *l2, *o2, *k_part, *v_part; uint32_t *n_keys; } buffers;

static size_t lay_out(buffers *b, size_t D, char *base) {
    size_t used = 0;
#define TAKE(field, n) do { b->field = base ? (void *)(base + used) : NULL; used += round_up((n) * 4); } while (0)
    TAKE(q, TILE_ROWS * D);
    TAKE(s, TILE_ROWS * ATTENTION_CHUNK);
    TAKE(m, TILE_ROWS);
    TAKE(l, TILE_ROWS);
    TAKE(o, TILE_ROWS * D);
    TAKE(m2, TILE_ROWS);
    TAKE(l2, TILE_ROWS);
    TAKE(o2, TILE_ROWS * D);
    TAKE(k_part, ATTENTION_PART * D);
    TAKE(v_part, ATTENTION_PART * D);
    TAKE(n_keys, TILE_ROWS);
#undef TAKE
    return used;
}

/* Room for the chunks of two tokens at full depth; tiles past it are not split. */
static size_t part_floats(size_t d, size_t n_heads, size_t max_keys) {
    return 2 * chunks_of(max_keys) * n_heads * (padded(d) + 2);
}

static size_t max_items(size_t n_kv_heads, size_t max_rows, size_t max_keys) {
    return (max_rows + 2 * chunks_of(max_keys)) * n_kv_heads;
}

size_t attention_scratch_bytes(size_t d, size_t n_heads, size_t n_kv_heads, size_t max_rows, size_t max_keys, size_t n_threads) {
    buffers b;
    return round_up(max_items(n_kv_heads, max_rows, max_keys) * sizeof(item)) + round_up(max_rows * n_kv_heads * sizeof(item)) +
           round_up(part_floats(d, n_heads, max_keys) * 4) + n_threads * lay_out(&b, padded(d), NULL);
}

/* A tile's queries, scaled so that 2^score is wanted, then packed as the instruction set wants them. */
static void load_queries(const plan *p, const item *x, const attention_isa *isa, const attention_rows *t, float *q, size_t D) {
    const attention_call *c = p->call;
    const float scale = c->scale * LOG2_E;
    for (size_t r = 0; r < t->n_rows; r++) {
        const size_t token = x->token + r / p->group, head = x->head * p->group + r % p->group;
        const float *from = x->job->q + (token * c->n_heads + head) * c->d;
        float *to = q + r * D;
        for (size_t i = 0; i < c->d; i++) to[i] = from[i] * scale;
        for (size_t i = c->d; i < D; i++) to[i] = 0.0f;
        if (t->k_type == DTYPE_Q4_0) attention_rotate(to, c->d);
    }
    isa->pack(t, q);
}

static void store_outputs(const plan *p, const item *x, const float *l, float *o) {
    const attention_call *c = p->call;
    for (size_t r = 0; r < x->n_tokens * p->group; r++) {
        const size_t token = x->token + r / p->group, head = x->head * p->group + r % p->group;
        float *to = x->job->out + (token * c->n_heads + head) * c->d;
        const float inverse = 1.0f / l[r];
        for (size_t i = 0; i < c->d; i++) to[i] = o[r * p->D + i] * inverse;
        if (x->job->v_type == DTYPE_Q4_0) attention_rotate(to, c->d);
    }
}

static void start_sums(float *m, float *l, float *o, size_t n_rows, size_t D) {
    for (size_t r = 0; r < n_rows; r++) { m[r] = -INFINITY; l[r] = 0.0f; }
    memset(o, 0, n_rows * D * sizeof *o);
}

static const attention_isa *isa_of(const plan *p, const attention_job *j) {
    const bool is_f32 = j->k_type == DTYPE_F32 || j->v_type == DTYPE_F32;
    return p->call->is_exact || is_f32 ? p->kernels->attend_exact : p->kernels->attend_fast;
}

/* Kernels find chunk c at c chunks behind k and v: with pages, that is where a run through all chunks would begin. */
static void at_chunk(attention_rows *t, const plan *p, const item *x, size_t c) {
    const attention_job *j = x->job;
    const size_t d = p->call->d, tiles = c * (ATTENTION_CHUNK / ATTENTION_TILE), k_bytes = tiles * attention_tile_bytes(j->k_type, d);
    const bool is_last = keys_of(j, j->n_tokens - 1) <= (c + 1) * ATTENTION_CHUNK;
    if (!j->pages) {
        t->k_next = (const char *)t->k + k_bytes + (is_last ? 0 : ATTENTION_CHUNK / ATTENTION_TILE * attention_tile_bytes(j->k_type, d));
        return;
    }
    const size_t k_offset = j->k_offset + x->head * j->k_head_bytes, v_offset = j->v_offset + x->head * j->v_head_bytes;
    t->k = (const void *)((uintptr_t)j->pages[c] + k_offset - k_bytes);
    t->v = (const void *)((uintptr_t)j->pages[c] + v_offset - tiles * attention_tile_bytes(j->v_type, d));
    t->k_next = (const char *)j->pages[is_last ? c : c + 1] + k_offset;
}

static void run_item(const plan *p, const item *x, const buffers *b) {
    const attention_job *j = x->job;
    const attention_isa *isa = isa_of(p, j);
    const size_t n_rows = x->n_tokens * p->group, D = p->D;
    attention_rows t = {
        .k = j->pages ? NULL : (const char *)j->k + x->head * j->k_head_bytes,
        .v = j->pages ? NULL : (const char *)j->v + x->head * j->v_head_bytes,
        .k_type = j->k_type, .v_type = j->v_type, .D = D, .n_rows = n_rows, .n_keys = b->n_keys, .q = b->q, .s = b->s,
        .m = b->m2, .l = b->l2, .o = b->o2, .k_part = b->k_part, .v_part = b->v_part
    };
    for (size_t r = 0; r < n_rows; r++) b->n_keys[r] = (uint32_t)keys_of(j, x->token + r / p->group);
    load_queries(p, x, isa, &t, b->o2, D);
    if (x->parts) {
        for (size_t c = x->chunk; c < x->chunk + x->n_chunks; c++) {
            t.m = x->parts + c * n_rows * (D + 2);
            t.l = t.m + n_rows;
            t.o = t.l + n_rows;
            at_chunk(&t, p, x, c);
            isa->chunk(&t, c);
        }
        return;
    }
    start_sums(b->m, b->l, b->o, n_rows, D);
    for (size_t c = x->chunk; c < x->chunk + x->n_chunks; c++) {
        at_chunk(&t, p, x, c);
        isa->chunk(&t, c);
        isa->merge(b->m, b->l, b->o, t.m, t.l, t.o, n_rows, D);
    }
    store_outputs(p, x, b->l, b->o);
}

static void merge_split(const plan *p, const item *x, const buffers *b) {
    const size_t n_rows = x->n_tokens * p->group, D = p->D;
    start_sums(b->m, b->l, b->o, n_rows, D);
    for (size_t c = 0; c < x->n_chunks; c++) {
        const float *m = x->parts + c * n_rows * (D + 2);
        isa_of(p, x->job)->merge(b->m, b->l, b->o, m, m + n_rows, m + 2 * n_rows, n_rows, D);
    }
    store_outputs(p, x, b->l, b->o);
}

static void deal(plan *p, size_t thread, const item *items, size_t n, void (*run)(const plan *, const item *, const buffers *)) {
    buffers b;
    lay_out(&b, p->D, p->thread_scratch + thread * lay_out(&b, p->D, NULL));
    for (size_t i; (i = atomic_fetch_add(&p->next, 1)) < n;) run(p, &items[i], &b);
}

static void items_part(void *ctx, size_t thread, size_t n_threads) {
    plan *p = ctx;
    (void)n_threads;
    deal(p, thread, p->items, p->n_items, run_item);
}

static void splits_part(void *ctx, size_t thread, size_t n_threads) {
    plan *p = ctx;
    (void)n_threads;
    deal(p, thread, p->splits, p->n_splits, merge_split);
}

/* rows x keys of all jobs */
static size_t work_of(const plan *p, const attention_job *jobs, size_t n_jobs) {
    size_t sum = 0;
    for (size_t i = 0; i < n_jobs; i++) {
        const attention_job *j = &jobs[i];
        sum += j->n_tokens * p->call->n_heads * (keys_of(j, 0) + keys_of(j, j->n_tokens - 1)) / 2;
    }
    return sum;
}

/* One tile of a job for one KV head: whole, or its chunks apart when it is too large a share of the work. */
static void add_tile(plan *p, const item *tile, size_t share) {
    const size_t n_rows = tile->n_tokens * p->group, n_floats = tile->n_chunks * n_rows * (p->D + 2);
    const bool is_large = n_rows * keys_of(tile->job, tile->token) > share;
    if (!is_large || tile->n_chunks == 1 || n_floats > p->n_part_floats - p->used_part_floats) {
        p->items[p->n_items++] = *tile;
        return;
    }
    item x = *tile;
    x.parts = p->parts + p->used_part_floats;
    p->used_part_floats += n_floats;
    p->splits[p->n_splits++] = x;
    const size_t step = (share + n_rows * ATTENTION_CHUNK - 1) / (n_rows * ATTENTION_CHUNK);
    for (x.chunk = 0; x.chunk < tile->n_chunks; x.chunk += step) {
        x.n_chunks = least(step, tile->n_chunks - x.chunk);
        p->items[p->n_items++] = x;
    }
}

/* The last tiles of a prompt see the most keys: they come first, so that threads end together. */
static void add_job(plan *p, const attention_job *j, size_t tile_tokens, size_t share) {
    const size_t n_tiles = (j->n_tokens + tile_tokens - 1) / tile_tokens;
    for (size_t i = n_tiles; i-- > 0;) {
        const size_t token = i * tile_tokens, n = least(tile_tokens, j->n_tokens - token);
        item x = { .job = j, .token = token, .n_tokens = n, .n_chunks = chunks_of(keys_of(j, token + n - 1)) };
        for (x.head = 0; x.head < p->call->n_kv_heads; x.head++) add_tile(p, &x, share);
    }
}

/* Tokens a tile: as many as fit, but enough tiles for all threads. */
static size_t tokens_a_tile(const plan *p, const attention_job *jobs, size_t n_jobs, size_t n_threads) {
    size_t tokens = TILE_ROWS / p->group;
    for (; tokens > 1; tokens = (tokens + 1) / 2) {
        size_t n = 0;
        for (size_t i = 0; i < n_jobs; i++) n += (jobs[i].n_tokens + tokens - 1) / tokens * p->call->n_kv_heads;
        if (n >= 2 * n_threads) break;
    }
    return tokens;
}

void attention_run(const ern_kernels *k, ern_pool *pool, const attention_call *c, const attention_job *jobs, size_t n_jobs) {
    const size_t n_threads = pool_n(pool), K = c->n_kv_heads;
    char *at = c->scratch;
    plan p = { .call = c, .kernels = k, .D = padded(c->d), .group = c->n_heads / K };
    p.items = (item *)(void *)at;
    at += round_up(max_items(K, c->max_rows, c->max_keys) * sizeof(item));
    p.splits = (item *)(void *)at;
    at += round_up(c->max_rows * K * sizeof(item));
    p.parts = (float *)(void *)at;
    p.n_part_floats = part_floats(c->d, c->n_heads, c->max_keys);
    p.thread_scratch = at + round_up(p.n_part_floats * 4);
    const size_t work = work_of(&p, jobs, n_jobs), tokens = tokens_a_tile(&p, jobs, n_jobs, n_threads);
    const bool is_small = work <= INLINE_WORK || n_threads == 1;
    for (size_t i = 0; i < n_jobs; i++) add_job(&p, &jobs[i], tokens, is_small ? work : work / (4 * n_threads));
    if (is_small) items_part(&p, 0, 1);
    else pool_run(pool, items_part, &p);
    atomic_store(&p.next, 0);
    if (p.n_splits) pool_run(pool, splits_part, &p);
}
