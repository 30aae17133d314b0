/* Speed of the matrix products against this machine's limits, measured in the same run: read bandwidth and the peak of
 * 8-bit multiply-adds. Prints one table a model shape. Usage: bench_kernels [threads [type ...]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/matrix.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define READ_BYTES ((size_t)400 << 20)
#define ROUNDS 3

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, (size_t)2 << 20, n + 64) != 0) {
        fprintf(stderr, "bench: no memory for %zu bytes\n", n);
        exit(4);
    }
    memset(p, 1, n + 64);
    return p;
}

/* ---- limits ------------------------------------------------------------------------------------- */

struct probe { const uint8_t *p; size_t n; uint64_t sums[64]; };

static void read_part(void *ctx, size_t thread, size_t n_threads) {
    struct probe *j = ctx;
    size_t from, to;
    pool_part(j->n, 4096, thread, n_threads, &from, &to);
    uint64_t a = 0, b = 0, c = 0, d = 0;
#if defined(__x86_64__)
    __m256i s = _mm256_setzero_si256(), t = s;
    for (size_t i = from; i < to; i += 128) {
        s = _mm256_xor_si256(s, _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(j->p + i)), _mm256_loadu_si256((const __m256i *)(j->p + i + 32))));
        t = _mm256_xor_si256(t, _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(j->p + i + 64)), _mm256_loadu_si256((const __m256i *)(j->p + i + 96))));
    }
    a = (uint64_t)_mm256_extract_epi64(_mm256_xor_si256(s, t), 0);
#else
    for (size_t i = from; i < to; i += 32) {
        uint64_t v[4];
        memcpy(v, j->p + i, 32);
        a ^= v[0]; b ^= v[1]; c ^= v[2]; d ^= v[3];
    }
#endif
    j->sums[thread % 64] = a ^ b ^ c ^ d;
}

static double read_bandwidth(ern_pool *pool, const uint8_t *p) {
    double best = 0;
    struct probe j = { .p = p, .n = READ_BYTES };
    for (int i = 0; i < ROUNDS; i++) {
        const double t = now();
        pool_run(pool, read_part, &j);
        const double rate = (double)READ_BYTES / (now() - t);
        if (rate > best) best = rate;
    }
    return best;
}

#define PEAK_LOOPS 2000000
struct peak { const ern_kernels *k; bool is_bf16; };

#if defined(__x86_64__)
#define REPEAT_16(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define DP_512(i) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #i "\n"
#define DP_256(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
#define MADD(i) "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #i "\n"
#define REPEAT_12(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11)
#define LOOP(body) "mov %0, %%rcx\n1:\n" body "dec %%rcx\njnz 1b\n"

static void peak_part(void *ctx, size_t thread, size_t n_threads) {
    const struct peak *p = ctx;
    (void)thread;
    (void)n_threads;
    if (p->k->flags & CPU_VNNI) __asm__ volatile(LOOP(REPEAT_16(DP_512)) : : "r"((long)PEAK_LOOPS) : "rcx");
    else if (p->k->flags & CPU_AVXVNNI) __asm__ volatile(LOOP(REPEAT_12(DP_256)) : : "r"((long)PEAK_LOOPS) : "rcx");
    else __asm__ volatile(LOOP(REPEAT_12(MADD)) : : "r"((long)PEAK_LOOPS) : "rcx");
}

static double peak_ops(const ern_kernels *k, ern_pool *pool) {
    struct peak p = { k, false };
    const double ops = k->flags & CPU_VNNI ? 16 * 128 : k->flags & CPU_AVXVNNI ? 12 * 64 : 12 * 64;
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        const double t = now();
        pool_run(pool, peak_part, &p);
        const double rate = ops * PEAK_LOOPS * (double)pool_n(pool) / (now() - t);
        if (rate > best) best = rate;
    }
    return best;
}
#else
static double peak_ops(const ern_kernels *k, ern_pool *pool) { (void)k; (void)pool; return 1; }
#endif

/* ---- a model's matrices ------------------------------------------------------------------------- */

typedef struct { size_t R, C; int input; } shape;       /* matrices with one input are multiplied together */
typedef struct { const char *name; size_t n_layers, vocab, hidden; shape layer[7]; } model_shape;

static const model_shape dense_03b = { "0.3B (18 layers)", 18, 103424, 1024,
    { { 2048, 1024, 0 }, { 256, 1024, 0 }, { 256, 1024, 0 }, { 1024, 2048, 1 }, { 3072, 1024, 2 }, { 3072, 1024, 2 }, { 1024, 3072, 3 } } };

typedef struct { const ern_kernels *k; ern_pool *pool; enum ern_dtype t; ern_matrix *m, head; size_t n, bytes; float *x, *y; void *scratch; double prepare_s; } bench;

static uint64_t state = 1;
static uint32_t rng(void) { state = state * UINT64_C(6364136223846793005) + 1442695040888963407u; return (uint32_t)(state >> 33); }

/* Random blocks whose every 16-bit word is a small f16 number, so that all scales are sane. */
static uint8_t *random_rows(size_t bytes) {
    uint16_t *p = take(bytes);
    for (size_t i = 0; i < bytes / 2; i++) p[i] = (uint16_t)(0x2000 | (rng() & 0x83ff));
    return (uint8_t *)p;
}

static bool prepare(bench *b, ern_matrix *m, size_t R, size_t C) {
    const ern_dtype_info *d = dtype_info(b->t);
    const size_t bytes = R * (C / d->block_n * d->block_bytes);
    uint8_t *data = random_rows(bytes);
    const ern_view v = { .name = "w", .dtype = b->t, .n_dims = 2, .dims = { R, C }, .data = data, .size_bytes = bytes };
    ern_err e = { 0 };
    const double t = now();
    *m = matrix_of(&v);
    if (!matrix_pack(m, b->k, b->pool, NULL, &e)) { fprintf(stderr, "%s\n", e.text); return false; }
    b->prepare_s += now() - t;
    b->bytes += bytes;
    if (m->packed) free(data);
    return true;
}

#define MAX_T 512

static bool make(bench *b, const model_shape *s) {
    b->n = 7 * s->n_layers;
    b->m = calloc(b->n, sizeof *b->m);
    for (size_t i = 0; i < b->n; i++)
        if (!prepare(b, &b->m[i], s->layer[i % 7].R, s->layer[i % 7].C)) return false;
    if (!prepare(b, &b->head, s->vocab, s->hidden)) return false;
    b->x = take(MAX_T * 3072 * sizeof(float));
    for (size_t i = 0; i < MAX_T * 3072; i++) b->x[i] = (float)(rng() & 0xffff) / 32768.0f - 1.0f;
    b->y = take((MAX_T * 8192 + 103424 * 32) * sizeof(float));
    b->scratch = take(matmul_many_bytes(b->pool, MAX_T, 3072, MAX_T * 3));
    return true;
}

static void drop(bench *b) {
    for (size_t i = 0; i < b->n; i++) {
        const void *data = b->m[i].packed ? NULL : b->m[i].view.data;
        matrix_deinit(&b->m[i]);
        free((void *)(uintptr_t)data);
    }
    const void *data = b->head.packed ? NULL : b->head.view.data;
    matrix_deinit(&b->head);
    free((void *)(uintptr_t)data);
    free(b->m);
    free(b->x);
    free(b->y);
    free(b->scratch);
}

/* One pass of T tokens through all matrices, n_logits rows of logits. Seconds. */
static double pass(bench *b, const model_shape *s, size_t T, size_t n_logits) {
    const double t = now();
    for (size_t i = 0; i < b->n;) {
        matmul_item items[3];
        size_t n = 0;
        float *y = b->y;
        const shape *first = &s->layer[i % 7];
        for (; i < b->n && s->layer[i % 7].input == first->input && n < 3; i++, n++) {
            items[n] = (matmul_item){ .w = &b->m[i], .y = y, .y_stride = s->layer[i % 7].R, .T = T };
            y += T * s->layer[i % 7].R;
        }
        const matmul_input in = { .x = b->x, .stride = first->C, .n_rows = T, .C = first->C };
        matmul_many(b->k, b->pool, &in, 1, items, n, false, b->scratch);
    }
    if (n_logits) {
        const matmul_input in = { .x = b->x, .stride = s->hidden, .n_rows = n_logits, .C = s->hidden };
        const matmul_item item = { .w = &b->head, .y = b->y, .y_stride = s->vocab, .T = n_logits };
        matmul_many(b->k, b->pool, &in, 1, &item, 1, false, b->scratch);
    }
    return now() - t;
}

static double best_pass(bench *b, const model_shape *s, size_t T, size_t n_logits, int rounds) {
    double best = 1e9;
    for (int i = 0; i < rounds; i++) {
        const double t = pass(b, s, T, n_logits);
        if (t < best) best = t;
    }
    return best;
}

static void run(const ern_kernels *k, ern_pool *pool, const model_shape *s, enum ern_dtype t, const uint8_t *memory) {
    bench b = { .k = k, .pool = pool, .t = t };
    if (!make(&b, s)) exit(4);
    double macs = 0;
    for (size_t i = 0; i < b.n; i++) macs += (double)(b.m[i].R * b.m[i].C);
    const double peak = peak_ops(k, pool), p512 = best_pass(&b, s, 512, 1, ROUNDS);
    const double bandwidth = read_bandwidth(pool, memory), one = best_pass(&b, s, 1, 1, 4 * ROUNDS);
    printf("%-7s %7.1f MB, ready in %5.3f s | 512: %7.1f tok/s %6.1f Gop/s %3.0f%% of peak | 1: %6.1f tok/s %5.1f GB/s %3.0f%% of read |",
           dtype_info(t)->name, (double)b.bytes / 1e6, b.prepare_s, 512 / p512, 2 * macs * 512 / p512 / 1e9,
           100 * 2 * macs * 512 / p512 / peak, 1 / one, (double)b.bytes / one / 1e9, 100 * (double)b.bytes / one / bandwidth);
    for (size_t T = 2; T <= 32; T *= 2) printf(" x%zu %.1f", T, one / best_pass(&b, s, T, T, ROUNDS) * (double)T);
    printf(" (read %.1f GB/s, peak %.3f Top/s)\n", bandwidth / 1e9, peak / 1e12);
    fflush(stdout);
    drop(&b);
}

int main(int argc, char **argv) {
    ern_err e = { 0 };
    static const char *const all[] = { "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS" };
    const size_t n_threads = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    const char *cpu = getenv("BENCH_CPU");
    unsigned mask;
    ern_kernels k;
    ern_pool *pool = pool_open(n_threads ? n_threads : pool_cores(), &e);
    if (!pool || !cpu_mask_from_name(&mask, cpu ? cpu : "auto", &e)) { fprintf(stderr, "%s\n", e.text); return 2; }
    kernels_init(&k, mask);
    uint8_t *memory = take(READ_BYTES);
    printf("%s, %zu threads\n", dense_03b.name, pool_n(pool));
    for (size_t i = 0; argc > 2 ? i + 2 < (size_t)argc : i < sizeof all / sizeof *all; i++) {
        enum ern_dtype t;
        if (!dtype_from_name(&t, argc > 2 ? argv[i + 2] : all[i], &e)) { fprintf(stderr, "%s\n", e.text); return 2; }
        run(&k, pool, &dense_03b, t, memory);
    }
    free(memory);
    pool_close(pool);
    return 0;
}
