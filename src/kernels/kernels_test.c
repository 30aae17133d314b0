/* Every elementwise kernel of every instruction set this CPU has, against the scalar definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/kernels.h"

#define SUM_TOLERANCE 3e-7      /* of the sum of magnitudes: a float sum's rounding */
#define VALUE_TOLERANCE 6e-7    /* of the value: a few units in the last place */
#define ERF_TOLERANCE 4e-7      /* absolute, times |x|: the formula's 1.5e-7 and rounding */
#define MAX_N 4096

static const size_t sizes[] = { 0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 251, 576, 1024,
                                1536, 3072, 4093 };
static const char *const levels[] = { "avx2", "avx512f", "avx512", "neon" };
#define N_OF(a) (sizeof(a) / sizeof *(a))

typedef struct { const char *name; ern_kernels k, scalar; } level;

/* False: this CPU has not got the level (another one runs it). */
static bool level_at(level *l, size_t i) {
    unsigned mask;
    assert_true(cpu_mask_from_name(&mask, "scalar", NULL));
    kernels_init(&l->scalar, mask);
    l->name = levels[i];
    assert_true(cpu_mask_from_name(&mask, l->name, NULL));
    kernels_init(&l->k, mask);
    if (l->k.dot == l->scalar.dot) return false;
    return true;
}

static uint32_t draw(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }
static void fill(float *x, size_t n, float range, uint32_t seed) {
    for (size_t i = 0; i < n; i++) x[i] = ((float)(draw(&seed) >> 8) / 8388608.0f - 1.0f) * range;
}

/* |got - want| <= limit, both from n values. One past the end must be untouched. */
static void check(const char *what, const level *l, const float *got, const float *want, size_t n, double relative,
                  double absolute) {
    for (size_t i = 0; i < n; i++) {
        const double limit = relative * fabs((double)want[i]) + absolute;
        if (!(fabs((double)got[i] - (double)want[i]) <= limit))
            fail_msg("%s_%s, n %zu: [%zu] is %.9g, %.9g wanted", what, l->name, n, i, (double)got[i], (double)want[i]);
    }
    assert_true(got[n] == 77.0f && want[n] == 77.0f);
}

typedef struct { float a[MAX_N + 1], b[MAX_N + 1], c[MAX_N + 1], got[MAX_N + 1], want[MAX_N + 1]; } arrays;

static void inputs(arrays *x, size_t n, float range) {
    fill(x->a, n, range, 1u + (uint32_t)n);
    fill(x->b, n, 2.0f, 2u + (uint32_t)n);
    fill(x->c, n, 1.0f, 3u + (uint32_t)n);
    memcpy(x->got, x->c, n * sizeof(float));
    memcpy(x->want, x->c, n * sizeof(float));
    x->got[n] = x->want[n] = 77.0f;
}

static void one_size(const level *l, arrays *x, size_t n) {
    inputs(x, n, 3.0f);
    double magnitude = 0;
    for (size_t i = 0; i < n; i++) magnitude += fabs((double)x->a[i] * (double)x->b[i]);
    assert_true(fabs((double)l->k.dot(x->a, x->b, n) - (double)l->scalar.dot(x->a, x->b, n)) <= SUM_TOLERANCE * magnitude);
    l->k.axpy(x->got, 0.37f, x->a, n);
    l->scalar.axpy(x->want, 0.37f, x->a, n);
    check("axpy", l, x->got, x->want, n, VALUE_TOLERANCE, 2e-7);
    l->k.add(x->got, x->b, n);
    l->scalar.add(x->want, x->b, n);
    check("add", l, x->got, x->want, n, VALUE_TOLERANCE, 4e-7);
    l->k.rmsnorm(x->got, x->a, x->b, 1e-5f, n);
    l->scalar.rmsnorm(x->want, x->a, x->b, 1e-5f, n);
    check("rmsnorm", l, x->got, x->want, n, 2 * VALUE_TOLERANCE, 0);
    l->k.layernorm(x->got, x->a, x->b, x->c, 1e-12f, n);
    l->scalar.layernorm(x->want, x->a, x->b, x->c, 1e-12f, n);
    if (n > 1) check("layernorm", l, x->got, x->want, n, 2 * VALUE_TOLERANCE, 2e-6);
    inputs(x, n, 30.0f);
    l->k.silu_mul(x->got, x->a, x->b, n);
    l->scalar.silu_mul(x->want, x->a, x->b, n);
    check("silu_mul", l, x->got, x->want, n, 2 * VALUE_TOLERANCE, 1e-30);
    inputs(x, n, 6.0f);
    l->k.gelu_erf(x->got, x->a, n);
    l->scalar.gelu_erf(x->want, x->a, n);
    check("gelu_erf", l, x->got, x->want, n, ERF_TOLERANCE, 6 * ERF_TOLERANCE);
    inputs(x, n, 40.0f);
    memcpy(x->got, x->a, n * sizeof(float));
    memcpy(x->want, x->a, n * sizeof(float));
    if (n) l->k.softmax(x->got, n);
    if (n) l->scalar.softmax(x->want, n);
    check("softmax", l, x->got, x->want, n, 2 * VALUE_TOLERANCE, 1e-30);
}

static void test_sizes(void **state) {
    (void)state;
    arrays *x = malloc(sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < N_OF(levels); i++) {
        level l;
        if (!level_at(&l, i)) continue;
        for (size_t s = 0; s < N_OF(sizes); s++) one_size(&l, x, sizes[s]);
    }
    free(x);
}

static void test_rope(void **state) {
    (void)state;
    static const size_t widths[] = { 2, 6, 16, 32, 64, 80, 128 };
    for (size_t i = 0; i < N_OF(levels); i++) {
        level l;
        if (!level_at(&l, i)) continue;
        for (size_t w = 0; w < 2 * N_OF(widths); w++) {
            const size_t d = widths[w / 2], heads = 3;
            float got[3 * 128 + 1], want[3 * 128 + 1], cs[128];
            fill(got, heads * d, 5.0f, 9);
            got[heads * d] = 77.0f;
            memcpy(want, got, sizeof got);
            for (size_t j = 0; j < d / 2; j++) { cs[j] = cosf((float)(j * j)); cs[d / 2 + j] = sinf((float)(j * j)); }
            l.k.rope(got, cs, heads, d, w % 2);
            l.scalar.rope(want, cs, heads, d, w % 2);
            check("rope", &l, got, want, heads * d, 0, 5 * VALUE_TOLERANCE);
        }
    }
}

/* Conversions are exact: every half and its neighbours, ties, subnormals, infinities, NaN. */
static void test_conversions(void **state) {
    (void)state;
    enum { N = 65536 * 3 };
    float *x = malloc(N * sizeof *x);
    uint16_t *got = malloc(N * sizeof *got), *want = malloc(N * sizeof *want);
    assert_true(x && got && want);
    for (uint32_t i = 0; i < 65536; i++) {
        const float f = f16_to_f32((uint16_t)i), g = bf16_to_f32((uint16_t)i);
        x[3 * i] = f;
        x[3 * i + 1] = isnan(f) ? 1e9f : f * 1.000488281f;      /* half a step up: a tie */
        x[3 * i + 2] = isnan(g) ? -1e9f : g * 1.00390625f;
    }
    for (size_t i = 0; i < N_OF(levels); i++) {
        level l;
        if (!level_at(&l, i)) continue;
        for (size_t skew = 0; skew < 2; skew++) {
            l.k.to_bf16(got, x + skew, N - 1);
            l.scalar.to_bf16(want, x + skew, N - 1);
            assert_memory_equal(got, want, (N - 1) * sizeof *got);
            l.k.to_f16(got, x + skew, N - 1);
            l.scalar.to_f16(want, x + skew, N - 1);
            for (size_t j = 0; j < N - 1; j++)
                if (got[j] != want[j] && !isnan(x[j + skew]))
                    fail_msg("to_f16_%s: %.9g is %04x, %04x wanted", l.name, (double)x[j + skew], got[j], want[j]);
        }
    }
    free(x);
    free(got);
    free(want);
}

static void test_scalar_definitions(void **state) {
    (void)state;
    ern_kernels k;
    kernels_init(&k, 0);
    float x[4] = { 1, 2, 3, -1000 }, y[4], one[4] = { 1, 1, 1, 1 }, zero[4] = { 0 };
    uint16_t h[4];
    assert_true(k.dot(x, one, 3) == 6.0f && k.dot(x, one, 0) == 0.0f);
    k.rmsnorm(y, one, one, 0, 4);
    assert_true(y[0] == 1.0f);
    k.layernorm(y, x, one, zero, 0, 2);
    assert_true(y[0] == -1.0f && y[1] == 1.0f);
    k.silu_mul(y, x, one, 4);
    assert_true(fabsf(y[0] - 0.731058579f) < 1e-7f && y[3] == 0.0f);
    k.gelu_erf(y, x, 4);
    assert_true(fabsf(y[0] - 0.841344746f) < 1e-6f && y[3] == 0.0f);
    k.to_f16(h, (const float[]){ 1e9f, -1e9f, INFINITY, 65504.0f }, 4);
    assert_true(h[0] == 0x7bff && h[1] == 0xfbff && h[2] == 0x7bff && h[3] == 0x7bff);
    k.softmax(x, 4);
    assert_true(fabsf(x[0] + x[1] + x[2] - 1.0f) < 1e-6f && x[3] == 0.0f);
}

static void test_names(void **state) {
    (void)state;
    unsigned mask = 1;
    ern_err e = { 0 };
    assert_false(cpu_mask_from_name(&mask, "pentium", &e));
    assert_true(mask == 1 && e.code == ERN_ARG);
    assert_true(cpu_mask_from_name(&mask, "scalar", &e) && mask == 0);
    assert_true(cpu_mask_from_name(&mask, "auto", &e) && (mask & cpu_flags()) == cpu_flags());
    ern_kernels k;
    kernels_init(&k, mask);
    assert_true(k.flags == cpu_flags());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar_definitions), cmocka_unit_test(test_sizes), cmocka_unit_test(test_rope),
        cmocka_unit_test(test_conversions), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
