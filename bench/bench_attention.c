/* Speed of attention against this machine's limits, measured in the same run. Prints one table.
 * Usage: bench_attention [threads [cpu [kv types ...]]]    shape of the 0.3B model: 18 layers, 16/2 heads of 128 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/attention.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { LAYERS = 18, HEADS = 16, KV_HEADS = 2, WIDTH = 128, BATCH = 256, MAX_KEYS = 16384, ROUNDS = 3 };

/* One thread counts its own time, so that a busy machine disturbs less; several need the wall clock. */
static double now(const ern_pool *pool) {
    struct timespec t;
    clock_gettime(pool_n(pool) == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, (size_t)2 << 20, n) != 0) {
        fprintf(stderr, "bench: no memory for %zu bytes\n", n);
        exit(4);
    }
    memset(p, 0, n);
    return p;
}

/* ---- limits ------------------------------------------------------------------------------------ */

struct probe { const char *bytes; size_t n; double sink[64]; };

static void read_part(void *ctx, size_t thread, size_t n_threads) {
    struct probe *p = ctx;
    size_t from, to;
    pool_part(p->n, 4096, thread, n_threads, &from, &to);
    uint64_t sum[8] = { 0 };
    for (size_t i = from; i + 64 <= to; i += 64)
        for (size_t j = 0; j < 8; j++) {
            uint64_t v;
            memcpy(&v, p->bytes + i + 8 * j, 8);
            sum[j] += v;
        }
    p->sink[thread % 64] = (double)(sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7]);
}

static double read_speed(ern_pool *pool, const void *bytes, size_t n) {
    struct probe p = { .bytes = bytes, .n = n };
    double best = 0;
    for (int i = 0; i < 2 * ROUNDS; i++) {
        const double t = now(pool);
        pool_run(pool, read_part, &p);
        best = fmax(best, (double)n / (now(pool) - t));
    }
    return best;
}

#if defined(__x86_64__)
enum { STEPS = 4000000 };
#define HOLD(a) __asm__ volatile("" : "+v"((a)[0]), "+v"((a)[1]), "+v"((a)[2]), "+v"((a)[3]), "+v"((a)[4]), "+v"((a)[5]), \
                                 "+v"((a)[6]), "+v"((a)[7]), "+v"((a)[8]), "+v"((a)[9]), "+v"((a)[10]), "+v"((a)[11]))

__attribute__((target("avx512f"))) static void fma_part(void *ctx, size_t thread, size_t n_threads) {
    __m512 a[12], x = _mm512_set1_ps(0.5f);
    (void)n_threads;
    for (int i = 0; i < 12; i++) a[i] = x;
    for (int n = 0; n < STEPS; n++) {
        for (int i = 0; i < 12; i++) a[i] = _mm512_fmadd_ps(x, x, a[i]);
        HOLD(a);
    }
    ((struct probe *)ctx)->sink[thread % 64] = (double)_mm512_reduce_add_ps(a[0]);
}

__attribute__((target("avx512f,avx512bf16"))) static void bf16_part(void *ctx, size_t thread, size_t n_threads) {
    __m512 a[12], x = _mm512_set1_ps(0.5f);
    (void)n_threads;
    for (int i = 0; i < 12; i++) a[i] = x;
    for (int n = 0; n < STEPS; n++) {
        for (int i = 0; i < 12; i++) a[i] = _mm512_dpbf16_ps(a[i], (__m512bh)x, (__m512bh)x);
        HOLD(a);
    }
    ((struct probe *)ctx)->sink[thread % 64] = (double)_mm512_reduce_add_ps(a[0]);
}
#endif

/* Operations a second of the unit that the kernels use; 0: not measured on this CPU. */
static double peak(ern_pool *pool, const ern_kernels *k) {
#if defined(__x86_64__)
    struct probe p = { 0 };
    const bool is_bf16 = k->attend_fast == &attention_avx512_bf16;
    double best = 0;
    if (!(k->flags & CPU_AVX512)) return 0;
    for (int i = 0; i < ROUNDS; i++) {
        const double t = now(pool);
        pool_run(pool, is_bf16 ? bf16_part : fma_part, &p);
        best = fmax(best, 12.0 * STEPS * (is_bf16 ? 64 : 32) * (double)pool_n(pool) / (now(pool) - t));
    }
    return best;
#else
    (void)pool;
    (void)k;
    return 0;
#endif
}

/* ---- the work ---------------------------------------------------------------------------------- */

typedef struct {
    const ern_kernels *k;
    ern_pool *pool;
    enum ern_dtype k_type, v_type;
    size_t k_head, v_head;      /* bytes */
    char *keys, *values;        /* [LAYERS, KV_HEADS] */
    float *q, *out;             /* [BATCH, HEADS, WIDTH] */
    attention_call call;
} bench;

static void fill(bench *b) {
    float x[WIDTH];
    uint32_t seed = 1;
    for (size_t pos = 0; pos < MAX_KEYS; pos++)
        for (size_t h = 0; h < KV_HEADS; h++) {
            for (size_t i = 0; i < WIDTH; i++) x[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1.0f;
            attention_store(b->k, b->k_type, true, b->keys + h * b->k_head, pos, x, WIDTH);
            attention_store(b->k, b->v_type, false, b->values + h * b->v_head, pos, x, WIDTH);
        }
    for (size_t l = 1; l < LAYERS; l++) {
        memcpy(b->keys + l * KV_HEADS * b->k_head, b->keys, KV_HEADS * b->k_head);
        memcpy(b->values + l * KV_HEADS * b->v_head, b->values, KV_HEADS * b->v_head);
    }
    for (size_t i = 0; i < (size_t)BATCH * HEADS * WIDTH; i++) b->q[i] = (float)(i * 2654435761u % 1000u) / 500.0f - 1.0f;
}

static void layer(const bench *b, size_t l, size_t pos, size_t n) {
    const attention_job j = {
        .q = b->q, .out = b->out, .n_tokens = n, .first_keys = pos + 1, .is_causal = true, .k_type = b->k_type, .v_type = b->v_type,
        .k = b->keys + l * KV_HEADS * b->k_head, .v = b->values + l * KV_HEADS * b->v_head, .k_head_bytes = b->k_head,
        .v_head_bytes = b->v_head
    };
    attention_run(b->k, b->pool, &b->call, &j, 1);
}

/* Seconds of n tokens from pos on in batches, one layer. */
static double prefill(const bench *b, size_t pos, size_t n) {
    double best = INFINITY;
    for (int r = 0; r < ROUNDS; r++) {
        const double t = now(b->pool);
        for (size_t i = 0; i < n; i += BATCH) layer(b, 0, pos + i, BATCH);
        best = fmin(best, now(b->pool) - t);
    }
    return best;
}

/* Seconds of one token, all layers. */
static double decode(const bench *b, size_t pos) {
    double best = INFINITY;
    for (int r = 0; r < 4 * ROUNDS; r++) {
        const double t = now(b->pool);
        for (size_t l = 0; l < LAYERS; l++) layer(b, l, pos, 1);
        best = fmin(best, now(b->pool) - t);
    }
    return best;
}

static void one_type(ern_pool *pool, const ern_kernels *k, const char *name, double top, bool is_exact) {
    ern_err e = { 0 };
    bench b = { .k = k, .pool = pool };
    const char *colon = strchr(name, ':');
    char first[16];
    snprintf(first, sizeof first, "%.*s", colon ? (int)(colon - name) : 15, name);
    if (!attention_type_from_name(&b.k_type, first, &e) || !attention_type_from_name(&b.v_type, colon ? colon + 1 : name, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(2);
    }
    b.k_head = MAX_KEYS / ATTENTION_TILE * attention_tile_bytes(b.k_type, WIDTH);
    b.v_head = MAX_KEYS / ATTENTION_TILE * attention_tile_bytes(b.v_type, WIDTH);
    b.keys = take(LAYERS * KV_HEADS * b.k_head);
    b.values = take(LAYERS * KV_HEADS * b.v_head);
    b.q = take(sizeof(float) * BATCH * HEADS * WIDTH);
    b.out = take(sizeof(float) * BATCH * HEADS * WIDTH);
    b.call = (attention_call){ .d = WIDTH, .n_heads = HEADS, .n_kv_heads = KV_HEADS, .scale = 0.0883883f, .is_exact = is_exact,
                               .max_rows = BATCH, .max_keys = MAX_KEYS };
    b.call.scratch = take(attention_scratch_bytes(WIDTH, HEADS, KV_HEADS, BATCH, MAX_KEYS, pool_n(pool)));
    fill(&b);
    for (size_t depth = 0; depth <= 4096; depth += 4096) {
        const double s = prefill(&b, depth, 4096), ops = 4096.0 * (2048.5 + (double)depth) * HEADS * WIDTH * 4;
        printf("%-8s %-5s prefill 4096 at %5zu: %7.1f ms a layer, %6.0f tokens/s of %d layers, %.3f Top/s", name,
               is_exact ? "exact" : "fast", depth, 1e3 * s, 4096 / (s * LAYERS), LAYERS, 1e-12 * ops / s);
        if (top > 0) printf(", %.0f %% of the peak", 100 * ops / s / top);
        printf("\n");
    }
    for (size_t depth = 4096; depth <= MAX_KEYS; depth *= 4) {
        const size_t n_bytes = LAYERS * KV_HEADS * (b.k_head + b.v_head) / MAX_KEYS * depth;
        const double s = decode(&b, depth - 1), speed = read_speed(pool, b.keys, LAYERS * KV_HEADS * b.k_head);
        printf("%-8s %-5s decode at %5zu: %6.2f ms, %5.1f GB/s of %5.1f: %.0f %%\n", name, is_exact ? "exact" : "fast", depth, 1e3 * s,
               1e-9 * (double)n_bytes / s, 1e-9 * speed, 100 * (double)n_bytes / s / speed);
    }
    free(b.keys);
    free(b.values);
    free(b.q);
    free(b.out);
    free(b.call.scratch);
}

int main(int n_args, char **args) {
    static char *const all[] = { "f16", "bf16", "q8", "q4" };
    ern_err e = { 0 };
    unsigned mask;
    ern_kernels k;
    const size_t n_threads = n_args > 1 ? (size_t)atoi(args[1]) : pool_cores();
    if (!cpu_mask_from_name(&mask, n_args > 2 ? args[2] : "auto", &e)) { fprintf(stderr, "%s\n", e.text); return 2; }
    kernels_init(&k, mask);
    ern_pool *pool = pool_open(n_threads, &e);
    if (!pool) { fprintf(stderr, "%s\n", e.text); return 2; }
    const double fast = peak(pool, &k);
    printf("%zu threads, peak of the unit used: %.2f Top/s\n", n_threads, 1e-12 * fast);
    char *const *types = n_args > 3 ? args + 3 : all;
    const size_t n = n_args > 3 ? (size_t)n_args - 3 : sizeof all / sizeof *all;
    for (size_t i = 0; i < n; i++) one_type(pool, &k, types[i], fast, false);
    one_type(pool, &k, "f16", k.attend_fast == &attention_avx512_bf16 ? fast / 2 : fast, true);
    pool_close(pool);
    return 0;
}
