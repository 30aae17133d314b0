/* Attention of every instruction set and type against sums in double; and the same bits however rows are cut up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/attention.h"

#define N_OF(a) (sizeof(a) / sizeof *(a))
#define EXACT_TOLERANCE 3e-6    /* f32 arithmetic, of the largest value */
#define BF16_TOLERANCE 2e-2     /* queries, keys, values and weights in 8 bits of mantissa, of the largest value */
#define INT8_TOLERANCE 3e-2     /* queries in 8 bits a block of 32 */

static const char *const levels[] = { "scalar", "avx2", "avx512f", "avx512", "amx", "neon" };
static const enum ern_dtype types[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0 };

typedef struct { size_t d, heads, kv_heads, n_keys; enum ern_dtype k_type, v_type; } shape;

typedef struct {
    shape s;
    size_t k_head_bytes, v_head_bytes;
    char *k, *v;
    float *q;                   /* [n_keys, heads, d]: the query of every position */
} sequence;

static void *take(size_t n) {
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, n ? n : 64), 0);
    memset(p, 0, n);
    return p;
}

static uint32_t draw(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }
static void fill(float *x, size_t n, float range, uint32_t *seed) {
    for (size_t i = 0; i < n; i++) x[i] = ((float)(draw(seed) >> 8) / 8388608.0f - 1.0f) * range;
}

static sequence sequence_make(const ern_kernels *k, const shape *s, uint32_t seed) {
    sequence x = { .s = *s };
    const size_t tiles = (s->n_keys + 31) / 32 * 2;
    float row[ATTENTION_MAX_WIDTH];
    x.k_head_bytes = tiles * attention_tile_bytes(s->k_type, s->d);
    x.v_head_bytes = tiles * attention_tile_bytes(s->v_type, s->d);
    x.k = take(x.k_head_bytes * s->kv_heads);
    x.v = take(x.v_head_bytes * s->kv_heads);
    x.q = take(s->n_keys * s->heads * s->d * sizeof(float));
    fill(x.q, s->n_keys * s->heads * s->d, 2.0f, &seed);
    for (size_t h = 0; h < s->kv_heads; h++)
        for (size_t pos = 0; pos < s->n_keys; pos++) {
            fill(row, s->d, 3.0f, &seed);
            attention_store(k, s->k_type, true, x.k + h * x.k_head_bytes, pos, row, s->d);
            fill(row, s->d, 1.0f, &seed);
            attention_store(k, s->v_type, false, x.v + h * x.v_head_bytes, pos, row, s->d);
        }
    return x;
}

static void sequence_free(sequence *x) {
    free(x->k);
    free(x->v);
    free(x->q);
}

static attention_job job_at(const sequence *x, size_t pos, size_t n, float *out) {
    return (attention_job){ .q = x->q + pos * x->s.heads * x->s.d, .out = out, .n_tokens = n, .first_keys = pos + 1,
                            .is_causal = true, .k = x->k, .v = x->v, .k_head_bytes = x->k_head_bytes,
                            .v_head_bytes = x->v_head_bytes, .k_type = x->s.k_type, .v_type = x->s.v_type };
}

static void run(const ern_kernels *k, const shape *s, const attention_job *jobs, size_t n_jobs, size_t n_threads, bool is_exact) {
    size_t n_rows = 0, n_keys = 0;
    for (size_t i = 0; i < n_jobs; i++) {
        n_rows += jobs[i].n_tokens;
        const size_t last = jobs[i].first_keys + jobs[i].n_tokens;
        if (last > n_keys) n_keys = last;
    }
    void *scratch = take(attention_scratch_bytes(s->d, s->heads, s->kv_heads, n_rows, n_keys, n_threads));
    const attention_call c = { .d = s->d, .n_heads = s->heads, .n_kv_heads = s->kv_heads, .scale = 1.0f / sqrtf((float)s->d),
                               .is_exact = is_exact, .scratch = scratch, .max_rows = n_rows, .max_keys = n_keys };
    ern_pool *pool = pool_open(n_threads, NULL);
    assert_non_null(pool);
    attention_run(k, pool, &c, jobs, n_jobs);
    pool_close(pool);
    free(scratch);
}

/* One query in double, from the stored keys and values. */
static void reference(const sequence *x, size_t pos, size_t head, size_t n_keys, double *out) {
    const size_t d = x->s.d, kv_head = head / (x->s.heads / x->s.kv_heads);
    float q[ATTENTION_MAX_WIDTH], row[ATTENTION_MAX_WIDTH];
    double *p = malloc(n_keys * sizeof *p), sum = 0, top = -INFINITY;
    assert_non_null(p);
    memcpy(q, x->q + (pos * x->s.heads + head) * d, d * sizeof *q);
    if (x->s.k_type == DTYPE_Q4_0) attention_rotate(q, d);
    for (size_t i = 0; i < n_keys; i++) {
        attention_load(x->s.k_type, true, x->k + kv_head * x->k_head_bytes, i, row, d);
        p[i] = 0;
        for (size_t c = 0; c < d; c++) p[i] += (double)q[c] * (double)row[c];
        p[i] /= sqrt((double)d);
        if (p[i] > top) top = p[i];
    }
    for (size_t c = 0; c < d; c++) out[c] = 0;
    for (size_t i = 0; i < n_keys; i++) {
        const double w = exp(p[i] - top);
        attention_load(x->s.v_type, false, x->v + kv_head * x->v_head_bytes, i, row, d);
        if (x->s.v_type == DTYPE_Q4_0) attention_rotate(row, d);
        for (size_t c = 0; c < d; c++) out[c] += w * (double)row[c];
        sum += w;
    }
    for (size_t c = 0; c < d; c++) out[c] /= sum;
    free(p);
}

static double tolerance_of(const shape *s, const ern_kernels *k, bool is_exact) {
    if (is_exact || k->attend_fast == k->attend_exact || s->k_type == DTYPE_F32 || s->v_type == DTYPE_F32) return EXACT_TOLERANCE;
    return s->k_type == DTYPE_Q8_0 || s->k_type == DTYPE_Q4_0 ? INT8_TOLERANCE : BF16_TOLERANCE;
}

/* Rows of tokens [pos, pos + n) against the definition, some of them. */
static void check(const char *level, const ern_kernels *k, const sequence *x, size_t pos, size_t n, const float *out, bool is_exact) {
    const shape *s = &x->s;
    const double limit = tolerance_of(s, k, is_exact);
    double want[ATTENTION_MAX_WIDTH];
    for (size_t i = 0; i < n; i += n / 3 + 1)
        for (size_t h = 0; h < s->heads; h += s->heads > 4 ? 3 : 1) {
            double top = 0.1;
            reference(x, pos + i, h, pos + i + 1, want);
            for (size_t c = 0; c < s->d; c++) top = fmax(top, fabs(want[c]));
            for (size_t c = 0; c < s->d; c++) {
                const double got = (double)out[(i * s->heads + h) * s->d + c];
                if (!(fabs(got - want[c]) <= limit * top))
                    fail_msg("%s exact %d, d %zu, %zu/%zu heads, K %s V %s, token %zu head %zu [%zu]: %.8g, %.8g wanted", level,
                             is_exact, s->d, s->heads, s->kv_heads, dtype_info(s->k_type)->name, dtype_info(s->v_type)->name,
                             pos + i, h, c, got, want[c]);
            }
        }
}

static bool level_at(ern_kernels *k, size_t i) {
    unsigned mask;
    assert_true(cpu_mask_from_name(&mask, levels[i], NULL));
    kernels_init(k, mask);
    if (strcmp(levels[i], "amx") == 0) return (k->flags & CPU_AMX_BF16) != 0;
    return mask == 0 || (k->flags & mask) != 0;
}

static void one_shape(const char *level, const ern_kernels *k, const shape *s, size_t pos, bool is_exact) {
    sequence x = sequence_make(k, s, 7);
    const size_t n = s->n_keys - pos;
    float *out = take(n * s->heads * s->d * sizeof *out);
    const attention_job j = job_at(&x, pos, n, out);
    run(k, s, &j, 1, 2, is_exact);
    check(level, k, &x, pos, n, out, is_exact);
    free(out);
    sequence_free(&x);
}

static void test_types(void **state) {
    (void)state;
    for (size_t i = 0; i < N_OF(levels); i++) {
        ern_kernels k;
        if (!level_at(&k, i)) continue;
        for (size_t t = 0; t < N_OF(types) * N_OF(types); t++)
            for (unsigned exact = 0; exact < 2; exact++)
                for (size_t d = 64; d <= 128; d += 64) {
                    const shape s = { d, 8, 2, 75, types[t / N_OF(types)], types[t % N_OF(types)] };
                    one_shape(levels[i], &k, &s, 0, exact);
                }
    }
}

static void test_shapes(void **state) {
    (void)state;
    static const size_t widths[] = { 2, 16, 32, 64, 80, 128, 256 }, groups[] = { 1, 2, 3, 5, 8, 11 };
    static const size_t lengths[][2] = { { 1, 0 }, { 2, 1 }, { 17, 0 }, { 33, 31 }, { 67, 0 }, { 130, 61 } };
    for (size_t i = 0; i < N_OF(levels); i++) {
        ern_kernels k;
        if (!level_at(&k, i)) continue;
        for (size_t w = 0; w < N_OF(widths); w++)
            for (size_t g = 0; g < N_OF(groups); g++)
                for (size_t n = 0; n < N_OF(lengths); n++) {
                    const enum ern_dtype t = types[(w + g + n) % N_OF(types)];
                    const shape s = { widths[w], groups[g] * 2, 2, lengths[n][0], t, t };
                    one_shape(levels[i], &k, &s, lengths[n][1], (g + n) % 2);
                }
    }
}

static void test_long(void **state) {
    (void)state;
    static const shape shapes[] = {
        { 128, 16, 2, 2053, DTYPE_F16, DTYPE_F16 }, { 128, 20, 4, 1537, DTYPE_Q8_0, DTYPE_Q4_0 }, { 64, 9, 3, 1024, DTYPE_BF16, DTYPE_Q8_0 },
        { 32, 4, 4, 4099, DTYPE_F32, DTYPE_F32 },
    };
    for (size_t i = 0; i < N_OF(levels); i++) {
        ern_kernels k;
        if (!level_at(&k, i)) continue;
        for (size_t n = 0; n < N_OF(shapes); n++) {
            one_shape(levels[i], &k, &shapes[n], shapes[n].n_keys - 1, true);
            one_shape(levels[i], &k, &shapes[n], shapes[n].n_keys - 20, false);
        }
    }
}

/* All at once, then token by token, in uneven pieces, with 1 to 3 threads, and among other sequences: the same bits. */
static void cut_up(const ern_kernels *k, const shape *s, bool is_exact) {
    enum { MAX_JOBS = 40 };
    sequence x = sequence_make(k, s, 11), other = sequence_make(k, s, 12);
    const size_t row = s->heads * s->d, n = s->n_keys, from = n > 600 ? n - 60 : 0;
    float *want = take(n * row * sizeof *want), *got = take(n * row * sizeof *got), *rest = take(n * row * sizeof *rest);
    attention_job j = job_at(&x, from, n - from, want + from * row);
    run(k, s, &j, 1, 1, is_exact);
    for (size_t threads = 1; threads <= 3; threads++)
        for (size_t pos = from, step = threads == 1 ? 1 : 7; pos < n; pos += step) {
            j = job_at(&x, pos, pos + step < n ? step : n - pos, got + pos * row);
            run(k, s, &j, 1, threads, is_exact);
            assert_memory_equal(got + pos * row, want + pos * row, j.n_tokens * row * sizeof *got);
        }
    memset(got, 0, n * row * sizeof *got);
    attention_job jobs[MAX_JOBS];
    size_t n_jobs = 0, pos = from;
    for (; n_jobs < MAX_JOBS && pos < n; n_jobs += 2) {
        const size_t len = n_jobs % 4 == 0 ? 1 : n - pos < 13 ? n - pos : 13;
        jobs[n_jobs] = job_at(&other, n_jobs % n, 1, rest + n_jobs % n * row);
        jobs[n_jobs + 1] = job_at(&x, pos, len, got + pos * row);
        pos += len;
    }
    run(k, s, jobs, n_jobs, 2, is_exact);
    assert_memory_equal(got + from * row, want + from * row, (pos - from) * row * sizeof *got);
    free(want);
    free(got);
    free(rest);
    sequence_free(&x);
    sequence_free(&other);
}

static void test_same_bits(void **state) {
    (void)state;
    static const shape shapes[] = {
        { 128, 16, 2, 131, DTYPE_F16, DTYPE_F16 }, { 64, 9, 3, 77, DTYPE_BF16, DTYPE_F16 }, { 16, 4, 2, 50, DTYPE_F32, DTYPE_F32 },
        { 80, 5, 1, 61, DTYPE_Q8_0, DTYPE_Q8_0 }, { 128, 10, 2, 47, DTYPE_Q4_0, DTYPE_Q4_0 }, { 64, 2, 2, 1100, DTYPE_F16, DTYPE_Q8_0 },
        { 128, 16, 2, 1030, DTYPE_Q8_0, DTYPE_F16 },
    };
    for (size_t i = 0; i < N_OF(levels); i++) {
        ern_kernels k;
        if (!level_at(&k, i)) continue;
        for (size_t n = 0; n < N_OF(shapes); n++)
            for (unsigned exact = 0; exact < 2; exact++) cut_up(&k, &shapes[n], exact);
    }
}

/* Every row sees every key: an encoder. */
static void test_not_causal(void **state) {
    (void)state;
    ern_kernels k;
    kernels_init(&k, ~0u);
    const shape s = { 32, 12, 12, 41, DTYPE_F32, DTYPE_F32 };
    sequence x = sequence_make(&k, &s, 3);
    float *out = take(s.n_keys * s.heads * s.d * sizeof *out);
    double want[ATTENTION_MAX_WIDTH];
    attention_job j = job_at(&x, 0, s.n_keys, out);
    j.is_causal = false;
    j.first_keys = s.n_keys;
    run(&k, &s, &j, 1, 2, true);
    reference(&x, 5, 7, s.n_keys, want);
    for (size_t c = 0; c < s.d; c++) assert_true(fabs((double)out[(5 * s.heads + 7) * s.d + c] - want[c]) < EXACT_TOLERANCE);
    free(out);
    sequence_free(&x);
}

/* What is stored comes back: exactly, or within half a step. */
static void test_storage(void **state) {
    (void)state;
    ern_kernels k;
    kernels_init(&k, ~0u);
    static const double limits[] = { 0, 5e-4, 4e-3, 4.5e-3, 0.07 };     /* of the largest; Q4_0: half a step, and its scale's rounding */
    for (size_t t = 0; t < N_OF(types); t++)
        for (size_t is_key = 0; is_key < 2; is_key++) {
            char *base = take(4 * attention_tile_bytes(types[t], 80));
            uint32_t seed = 5;
            float x[80], y[80];
            for (size_t pos = 0; pos < 64; pos++) {
                fill(x, 80, 1.0f, &seed);
                attention_store(&k, types[t], is_key, base, pos, x, 80);
            }
            seed = 5;
            for (size_t pos = 0; pos < 64; pos++) {
                fill(x, 80, 1.0f, &seed);
                attention_load(types[t], is_key, base, pos, y, 80);
                if (types[t] == DTYPE_Q4_0) attention_rotate(x, 80);
                for (size_t i = 0; i < 80; i++) assert_true(fabs((double)x[i] - (double)y[i]) <= limits[t] * 3.0);
            }
            free(base);
        }
}

static void test_rotation(void **state) {
    (void)state;
    float x[80], y[80];
    uint32_t seed = 1;
    double before = 0, after = 0;
    fill(x, 80, 1.0f, &seed);
    memcpy(y, x, sizeof x);
    attention_rotate(y, 80);
    for (size_t i = 0; i < 80; i++) { before += (double)(x[i] * x[i]); after += (double)(y[i] * y[i]); }
    assert_true(fabs(before - after) < 1e-4 && fabsf(x[3] - y[3]) > 1e-3f);
    attention_rotate(y, 80);
    for (size_t i = 0; i < 80; i++) assert_true(fabsf(x[i] - y[i]) < 1e-6f);
}

static void test_names(void **state) {
    (void)state;
    enum ern_dtype t = DTYPE_F32;
    ern_err e = { 0 };
    assert_true(attention_type_from_name(&t, "q4", &e) && t == DTYPE_Q4_0);
    assert_false(attention_type_from_name(&t, "q5", &e));
    assert_true(t == DTYPE_Q4_0 && e.code == ERN_ARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_rotation), cmocka_unit_test(test_storage), cmocka_unit_test(test_types),
        cmocka_unit_test(test_shapes), cmocka_unit_test(test_long), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_not_causal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
