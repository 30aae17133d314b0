/* Speed of the matrix products against this machine's limits, measured in the same run, alternating: read bandwidth and the
 * peak of multiply-adds. Two model shapes, without attention: 0.3B (18 layers, all of their matrices) and 21B-A3B (one layer with
 * its 64 experts, as 28 of them would take). Every figure is the best of some rounds.
 * Usage: bench_kernels [-t threads] [-c cpu level] [-r rounds] [-s 0.3B | 21B-A3B] [type ...] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernels/matmul_panel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define READ_BYTES ((size_t)400 << 20)

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
    struct probe j = { .p = p, .n = READ_BYTES };
    const double t = now();
    pool_run(pool, read_part, &j);
    return (double)READ_BYTES / (now() - t);
}

#define PEAK_LOOPS 500000
struct peak { const ern_kernels *k; bool is_bf16; };     /* 8-bit, or pairs of bf16 */

#if defined(__x86_64__)
#define REPEAT_16(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define DP_512(i) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #i "\n"
#define DP_BF16(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n"
#define DP_256(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
#define MADD(i) "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #i "\n"
#define REPEAT_12(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11)
#define LOOP(body) "mov %0, %%rcx\n1:\n" body "dec %%rcx\njnz 1b\n"

static void peak_part(void *ctx, size_t thread, size_t n_threads) {
    const struct peak *p = ctx;
    (void)thread;
    (void)n_threads;
    if (p->is_bf16) __asm__ volatile(LOOP(REPEAT_16(DP_BF16)) : : "r"((long)PEAK_LOOPS) : "rcx");
    else if (p->k->flags & CPU_VNNI) __asm__ volatile(LOOP(REPEAT_16(DP_512)) : : "r"((long)PEAK_LOOPS) : "rcx");
    else if (p->k->flags & CPU_AVXVNNI) __asm__ volatile(LOOP(REPEAT_12(DP_256)) : : "r"((long)PEAK_LOOPS) : "rcx");
    else __asm__ volatile(LOOP(REPEAT_12(MADD)) : : "r"((long)PEAK_LOOPS) : "rcx");
}

static double peak_ops(const ern_kernels *k, ern_pool *pool, bool is_bf16) {
    struct peak p = { k, is_bf16 };
    const double ops = is_bf16 ? 16 * 64 : k->flags & CPU_VNNI ? 16 * 128 : k->flags & CPU_AVXVNNI ? 12 * 64 : 12 * 64;
    const double t = now();
    pool_run(pool, peak_part, &p);
    return ops * PEAK_LOOPS * (double)pool_n(pool) / (now() - t);
}
#else
static double peak_ops(const ern_kernels *k, ern_pool *pool, bool is_bf16) { (void)k; (void)pool; (void)is_bf16; return 1; }
#endif

/* ---- a model's matrices ------------------------------------------------------------------------- */

#define MAX_T 512
#define BATCHES 5               /* of 2, 4, ... 32 sequences */

typedef struct { size_t R, C; } shape;
typedef struct {
    const char *name;
    size_t n_layers, n_made;            /* n_made are in memory; times are scaled */
    size_t vocab, hidden, q, kv, ffn;   /* ffn: of the dense layers, or of all shared experts */
    size_t n_experts, n_used, expert_ffn;
} model_shape;

static const model_shape shapes[] = { { "0.3B", 18, 18, 103424, 1024, 2048, 256, 3072, 0, 0, 0 },
                                      { "21B-A3B", 28, 1, 103424, 2560, 2560, 512, 3072, 64, 6, 1536 } };

enum { Q, K, V, O, GATE, UP, DOWN, N_FIXED };
typedef struct { ern_matrix fixed[N_FIXED], *experts; } layer;      /* experts: gate, up, down of each */

typedef struct {
    const ern_kernels *k;
    ern_pool *pool;
    const model_shape *s;
    enum ern_dtype t;
    layer *layers;
    ern_matrix head;
    double layer_bytes, layer_weights, active_bytes, active_weights, head_bytes, pack_s;     /* of one layer */
    float *x, *y[5];
    void *scratch;
    uint8_t *arena, *at;                /* packed matrices one after the other, in large pages, as in a model */
    size_t arena_bytes;
    int32_t *rows;
} bench;

static uint64_t state = 1;
static uint32_t rng(void) { state = state * UINT64_C(6364136223846793005) + 1442695040888963407u; return (uint32_t)(state >> 33); }

/* Random blocks whose every 16-bit word is a small f16 number, so that all scales are sane. */
static uint8_t *random_rows(size_t bytes) {
    uint16_t *p = take(bytes);
    for (size_t i = 0; i < bytes / 2; i++) p[i] = (uint16_t)(0x2000 | (rng() & 0x83ff));
    return (uint8_t *)p;
}

static double bytes_of(const bench *b, size_t R, size_t C) {
    const ern_dtype_info *d = dtype_info(b->t);
    return (double)(R * (C / d->block_n * d->block_bytes));
}

/* The view stays, for the products that read it. */
static void make(bench *b, ern_matrix *m, size_t R, size_t C) {
    const size_t bytes = (size_t)bytes_of(b, R, C);
    const ern_view v = { .name = "w", .dtype = b->t, .n_dims = 2, .dims = { R, C }, .data = random_rows(bytes), .size_bytes = bytes };
    ern_err e = { 0 };
    *m = matrix_of(&v);
    const double t = now();
    const size_t packed = matrix_packed_bytes(m, b->k);
    if (b->at + packed > b->arena + b->arena_bytes) { fprintf(stderr, "bench: the arena is too small\n"); exit(4); }
    if (!matrix_pack(m, b->k, b->pool, packed ? b->at : NULL, NULL, NULL, &e)) { fprintf(stderr, "%s\n", e.text); exit(4); }
    b->pack_s += now() - t;
    b->at += packed;
}

static void unmake(ern_matrix *m) {
    void *data = (void *)(uintptr_t)m->view.data;
    matrix_deinit(m);
    free(data);
}

static void set_up(bench *b) {
    const model_shape *s = b->s;
    const size_t D = s->hidden, F = s->ffn, E = s->expert_ffn;
    const shape fixed[N_FIXED] = { { s->q, D }, { s->kv, D }, { s->kv, D }, { D, s->q }, { F, D }, { F, D }, { D, F } };
    double weights = (double)(s->vocab * D);
    for (size_t n = 0; n < N_FIXED; n++) weights += (double)(s->n_made * fixed[n].R * fixed[n].C);
    weights += (double)(s->n_made * 3 * s->n_experts * D * E);
    b->arena_bytes = ((size_t)(weights * 1.1 * (double)dtype_info(b->t)->block_bytes / (double)dtype_info(b->t)->block_n) >> 21 << 21) + ((size_t)4 << 20);
    b->arena = b->at = mmap(NULL, b->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (b->arena == MAP_FAILED) { fprintf(stderr, "bench: no memory for %zu bytes\n", b->arena_bytes); exit(4); }
    (void)madvise(b->arena, b->arena_bytes, MADV_HUGEPAGE);
    b->layers = calloc(s->n_made, sizeof *b->layers);
    for (size_t i = 0; i < s->n_made; i++) {
        for (size_t n = 0; n < N_FIXED; n++) make(b, &b->layers[i].fixed[n], fixed[n].R, fixed[n].C);
        b->layers[i].experts = calloc(3 * s->n_experts + 1, sizeof(ern_matrix));
        for (size_t n = 0; n < 3 * s->n_experts; n++) make(b, &b->layers[i].experts[n], n % 3 == 2 ? D : E, n % 3 == 2 ? E : D);
    }
    for (size_t n = 0; n < N_FIXED; n++) {
        b->layer_bytes += bytes_of(b, fixed[n].R, fixed[n].C);
        b->layer_weights += (double)(fixed[n].R * fixed[n].C);
    }
    b->active_bytes = b->layer_bytes + 3 * (double)s->n_used * bytes_of(b, E, D);
    b->active_weights = b->layer_weights + 3 * (double)(s->n_used * E * D);
    b->layer_bytes += 3 * (double)s->n_experts * bytes_of(b, E, D);
    make(b, &b->head, s->vocab, D);
    b->head_bytes = bytes_of(b, s->vocab, D);
    const size_t widest = F > D ? F : D, rows = MAX_T * (s->n_used ? s->n_used : 1), middle = rows * E > MAX_T * F ? rows * E : MAX_T * F;
    b->x = take(MAX_T * widest * sizeof(float));
    for (size_t i = 0; i < MAX_T * widest; i++) b->x[i] = (float)(rng() & 0xffff) / 32768.0f - 1.0f;
    for (size_t i = 0; i < 4; i++) b->y[i] = take((middle + MAX_T * (s->q + 2 * s->kv)) * sizeof(float));
    b->y[4] = take((rows * D + 32 * s->vocab) * sizeof(float));
    b->scratch = take(matmul_many_bytes(b->pool, rows + MAX_T, widest, 2 * rows + 3 * MAX_T));
    b->rows = take(rows * sizeof(int32_t));
}

static void tear_down(bench *b) {
    for (size_t i = 0; i < b->s->n_made; i++) {
        for (size_t n = 0; n < N_FIXED; n++) unmake(&b->layers[i].fixed[n]);
        for (size_t n = 0; n < 3 * b->s->n_experts; n++) unmake(&b->layers[i].experts[n]);
        free(b->layers[i].experts);
    }
    unmake(&b->head);
    free(b->layers);
    free(b->x);
    for (size_t i = 0; i < 5; i++) free(b->y[i]);
    free(b->scratch);
    free(b->rows);
    munmap(b->arena, b->arena_bytes);
}

static void products(bench *b, const float *x, size_t T, float *swiglu, const ern_matrix *m, size_t n, float *const *y) {
    matmul_item items[3];
    for (size_t i = 0; i < n; i++) items[i] = (matmul_item){ .w = &m[i], .y = y[i], .y_stride = m[i].R, .T = T };
    const matmul_input in = { .x = x, .stride = m->C, .n_rows = T, .C = m->C, .swiglu = swiglu };
    matmul_many(b->k, b->pool, &in, 1, items, n, false, b->scratch);
}

/* T tokens, each to n_used experts drawn at random, sorted by expert: as model/moe.c. */
static void experts(bench *b, const layer *l, size_t T) {
    const size_t D = b->s->hidden, F = b->s->expert_ffn, E = b->s->n_experts;
    matmul_item items[2 * 64 + 2];
    uint8_t chosen[MAX_T][64] = { { 0 } };
    size_t n = 0, n_rows = 0, sizes[64] = { 0 };
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < b->s->n_used;) {
            const size_t x = rng() % E;
            i += !chosen[t][x];
            chosen[t][x] = 1;
        }
    for (size_t x = 0; x < E; x++) {
        const size_t first = n_rows;
        for (size_t t = 0; t < T; t++)
            if (chosen[t][x]) b->rows[n_rows++] = (int32_t)t;
        sizes[x] = n_rows - first;
        for (size_t i = 0; sizes[x] && i < 2; i++)
            items[n++] = (matmul_item){ .w = &l->experts[3 * x + i], .rows = b->rows + first, .y = b->y[i] + first * F, .y_stride = F,
                                        .T = sizes[x] };
    }
    for (size_t i = 0; i < 2; i++)
        items[n++] = (matmul_item){ .w = &l->fixed[GATE + i], .y = b->y[2 + i], .y_stride = b->s->ffn, .T = T };
    const matmul_input in = { .x = b->x, .stride = D, .n_rows = T, .C = D };
    matmul_many(b->k, b->pool, &in, 1, items, n, false, b->scratch);
    n = n_rows = 0;
    for (size_t x = 0; x < E; n_rows += sizes[x++])
        if (sizes[x])
            items[n++] = (matmul_item){ .w = &l->experts[3 * x + 2], .first = n_rows, .y = b->y[4] + n_rows * D, .y_stride = D, .T = sizes[x] };
    items[n++] = (matmul_item){ .w = &l->fixed[DOWN], .input = 1, .y = b->x, .y_stride = D, .T = T };
    const matmul_input middle[] = { { .x = b->y[0], .stride = F, .n_rows = n_rows, .C = F, .swiglu = b->y[1] },
                                    { .x = b->y[2], .stride = b->s->ffn, .n_rows = T, .C = b->s->ffn, .swiglu = b->y[3] } };
    items[n - 1].y = b->y[4] + n_rows * D;
    matmul_many(b->k, b->pool, middle, 2, items, n, false, b->scratch);
}

/* One pass of T tokens through all layers, then n_logits rows of logits. Seconds, as all layers would take. */
static double pass(bench *b, size_t T, size_t n_logits) {
    double t = now();
    for (size_t i = 0; i < b->s->n_made; i++) {
        const layer *l = &b->layers[i];
        products(b, b->x, T, NULL, &l->fixed[Q], 3, b->y);
        products(b, b->y[0], T, NULL, &l->fixed[O], 1, b->y + 4);
        if (b->s->n_experts) { experts(b, l, T); continue; }
        products(b, b->x, T, NULL, &l->fixed[GATE], 2, b->y);
        products(b, b->y[1], T, b->y[0], &l->fixed[DOWN], 1, b->y + 4);
    }
    double s = (now() - t) * (double)b->s->n_layers / (double)b->s->n_made;
    t = now();
    if (n_logits) products(b, b->x, n_logits, NULL, &b->head, 1, b->y + 4);
    return s + now() - t;
}

/* The same dense products read from the views: what a model that is not packed does. */
static double pass_rows(bench *b, size_t T) {
    double t = now();
    for (size_t i = 0; i < b->s->n_made; i++)
        for (size_t n = 0; n < N_FIXED; n++)
            matmul(b->k, b->pool, b->y[4], b->x, T, &b->layers[i].fixed[n].view, false, b->scratch);
    return (now() - t) * (double)b->s->n_layers / (double)b->s->n_made;
}

/* ---- the table ---------------------------------------------------------------------------------- */

static void keep_least(double *best, double t) { if (*best == 0 || t < *best) *best = t; }
static void keep_most(double *best, double t) { if (t > *best) *best = t; }

static void run(const ern_kernels *k, ern_pool *pool, const model_shape *s, enum ern_dtype t, const uint8_t *memory, int rounds) {
    bench b = { .k = k, .pool = pool, .s = s, .t = t };
    double peak = 0, read = 0, prefill = 0, one = 0, batch[BATCHES] = { 0 }, rows_one = 0, rows_many = 0;
    const bool is_bf16 = t == DTYPE_BF16 && k->panels && k->panels->to_bf16;
    set_up(&b);
    for (int i = 0; i < rounds; i++) {
        keep_most(&read, read_bandwidth(pool, memory));
        for (int n = 0; n < 4; n++) keep_least(&one, pass(&b, 1, 1));
        keep_most(&peak, peak_ops(k, pool, is_bf16));
        keep_least(&prefill, pass(&b, MAX_T, 1));
        for (size_t n = 0; n < BATCHES; n++) keep_least(&batch[n], pass(&b, (size_t)2 << n, (size_t)2 << n));
        if (s->n_experts || i > 1) continue;
        keep_least(&rows_one, pass_rows(&b, 1));
        keep_least(&rows_many, pass_rows(&b, 64));
    }
    const double L = (double)s->n_layers, bytes = L * b.active_bytes + b.head_bytes, ops = 2 * L * b.active_weights * MAX_T;
    printf("%-7s %7.0f MB, packed in %.2f s | 512 tokens: %6.0f tok/s, %5.0f Gop/s = %2.0f%% of peak | 1: %6.1f tok/s, %5.1f GB/s = %2.0f%% "
           "of read | batch",
           dtype_info(t)->name, (L * b.layer_bytes + b.head_bytes) / 1e6, b.pack_s * L / (double)s->n_made, MAX_T / prefill, ops / prefill / 1e9,
           100 * ops / prefill / peak, 1 / one, bytes / one / 1e9, 100 * bytes / one / read);
    for (size_t n = 0; n < BATCHES; n++) printf(" %zu: x%.1f", (size_t)2 << n, one / batch[n] * (double)((size_t)2 << n));
    if (rows_one > 0) {
        const double layers_one = one - one * b.head_bytes / bytes;
        printf(" | to unpacked: 1 x%.2f, 64 x%.1f", rows_one / layers_one, rows_many / 64 / (prefill / MAX_T));
    }
    printf(" (read %.1f GB/s, peak %.2f Top/s)\n", read / 1e9, peak / 1e12);
    fflush(stdout);
    tear_down(&b);
}

int main(int argc, char **argv) {
    ern_err e = { 0 };
    static const char *all[] = { "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "BF16", "F16" };
    const char **types = all, *cpu = "auto", *only = NULL;
    size_t n_threads = pool_cores(), n_types = sizeof all / sizeof *all;
    int rounds = 5, option;
    unsigned mask;
    while ((option = getopt(argc, argv, "t:c:r:s:")) != -1) {
        if (option == 't') n_threads = strtoul(optarg, NULL, 10);
        else if (option == 'c') cpu = optarg;
        else if (option == 'r') rounds = atoi(optarg);
        else if (option == 's') only = optarg;
        else return 2;
    }
    if (optind < argc) { types = (const char **)(uintptr_t)(argv + optind); n_types = (size_t)(argc - optind); }
    ern_kernels k;
    ern_pool *pool = pool_open(n_threads, &e);
    if (!pool || !cpu_mask_from_name(&mask, cpu, &e)) { fprintf(stderr, "%s\n", e.text); return 2; }
    kernels_init(&k, mask);
    uint8_t *memory = take(READ_BYTES);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (only && strcmp(only, shapes[i].name) != 0) continue;
        printf("%s, %zu threads, %s\n", shapes[i].name, pool_n(pool), k.panels ? k.panels->name : "no packed products");
        for (size_t n = 0; n < n_types; n++) {
            enum ern_dtype t;
            if (!dtype_from_name(&t, types[n], &e)) { fprintf(stderr, "%s\n", e.text); return 2; }
            run(&k, pool, &shapes[i], t, memory, rounds);
        }
    }
    free(memory);
    pool_close(pool);
    return 0;
}
