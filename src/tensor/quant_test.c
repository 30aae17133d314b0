/* The packers: never worse than what the reference packed, on real values, edge values and with importance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "tensor/quant.h"

#define N 4096
#define MAX_ROW_BYTES (N * 4)

/* Relative RMS error of a normal distribution. The bound of a format is 3 % above what this search reaches, and below
 * what the usual one-pass packers reach (Q4_0 0.086, Q4_1 0.078, Q2_K 0.297, Q3_K 0.151, Q4_K 0.0715, Q6_K 0.0178). */
static const struct { enum ern_dtype t; double bound; } cases[] = {
    { DTYPE_F32, 0.0 },      { DTYPE_F16, 3e-4 },     { DTYPE_BF16, 2.5e-3 },  { DTYPE_Q8_0, 0.0055 },
        { DTYPE_Q4_0, 0.0830 },
    { DTYPE_Q4_1, 0.0712 },  { DTYPE_Q5_0, 0.0413 },  { DTYPE_Q5_1, 0.0345 },  { DTYPE_Q2_K, 0.2680 },
        { DTYPE_Q3_K, 0.1480 },
    { DTYPE_Q4_K, 0.0714 },  { DTYPE_Q5_K, 0.0355 },  { DTYPE_Q6_K, 0.0174 },  { DTYPE_IQ4_NL, 0.0760 },
        { DTYPE_IQ4_XS, 0.0761 },
    { DTYPE_MXFP4, 0.1140 },
};
#define N_CASES (sizeof cases / sizeof cases[0])

static uint64_t next(uint64_t *s) {
    *s ^= *s << 13; *s ^= *s >> 7; *s ^= *s << 17;
    return *s;
}

/* Sum of 12 uniform numbers: near enough to normal, the same everywhere. */
static void fill_normal(float *x, size_t n, float scale, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        double sum = -6.0;
        for (int k = 0; k < 12; k++) sum += (double)(next(&seed) >> 11) * 0x1p-53;
        x[i] = scale * (float)sum;
    }
}

static double relative_error(enum ern_dtype t, const float *x, const float *w, const float *importance) {
    static uint8_t row[MAX_ROW_BYTES];
    static float y[N];
    ern_err e = { 0 };
    double off = 0.0, all = 0.0;
    if (!quant_row(t, row, x, N, importance, &e)) fail_msg("%s", e.text);
    dtype_info(t)->to_f32(y, row, N);
    for (size_t i = 0; i < N; i++) {
        const double wi = w ? (double)w[i] : 1.0, d = (double)x[i] - (double)y[i];
        off += wi * d * d;
        all += wi * (double)x[i] * (double)x[i];
    }
    return sqrt(off / all);
}

static void test_error_of_normal_values(void **state) {
    (void)state;
    static float x[N];
    const float scales[] = { 0.02f, 1.0f, 300.0f };
    for (size_t s = 0; s < 3; s++) {
        fill_normal(x, N, scales[s], 7);
        for (size_t c = 0; c < N_CASES; c++) {
            const double error = relative_error(cases[c].t, x, NULL, NULL);
            if (error > cases[c].bound)
                fail_msg("%s at scale %g: relative error %.5f, at most %.5f", dtype_info(cases[c].t)->name,
                         (double)scales[s], error,
                         cases[c].bound);
        }
    }
}

static void test_importance_moves_the_error(void **state) {
    (void)state;
    static float x[N], w[N];
    fill_normal(x, N, 0.02f, 9);
    uint64_t seed = 3;
    for (size_t i = 0; i < N; i++) w[i] = next(&seed) % 8 == 0 ? 100.0f : 1.0f;
    for (size_t c = 0; c < N_CASES; c++) {
        if (cases[c].t == DTYPE_Q8_0 || dtype_info(cases[c].t)->block_n == 1) continue;
        const double with = relative_error(cases[c].t, x, w, w), without = relative_error(cases[c].t, x, w, NULL);
        if (!(with < without))
            fail_msg("%s: weighted error %.5f with importance, %.5f without", dtype_info(cases[c].t)->name, with, without);
    }
}

static void test_edges(void **state) {
    (void)state;
    static uint8_t row[MAX_ROW_BYTES];
    static float x[N], y[N];
    for (size_t c = 0; c < N_CASES; c++) {
        const ern_dtype_info *info = dtype_info(cases[c].t);
        ern_err e = { 0 };
        memset(x, 0, sizeof x);
        assert_true(quant_row(cases[c].t, row, x, N, NULL, &e));
        info->to_f32(y, row, N);
        for (size_t i = 0; i < N; i++) assert_true(y[i] == 0.0f);
        /* alone; IQ4 has no level 0, its least is 1 of 127 */
        for (size_t i = 0; i < N; i++) x[i] = i % 256 == 5 ? -3.0f : 0.0f;
        assert_true(quant_row(cases[c].t, row, x, N, NULL, &e));
        info->to_f32(y, row, N);
        for (size_t i = 0; i < N; i++)
            if (fabsf(y[i] - x[i]) > 0.03f)
                fail_msg("%s: lone value %zu is %g, %g wanted", info->name, i, (double)y[i], (double)x[i]);
        for (size_t i = 0; i < N; i++) x[i] = i % 2 ? 1e-36f : -1e-36f;            /* far below what an f16 scale can say */
        assert_true(quant_row(cases[c].t, row, x, N, NULL, &e));
        info->to_f32(y, row, N);
        for (size_t i = 0; i < N; i++) assert_true(isfinite(y[i]) && fabsf(y[i]) < 1e-5f);
        assert_true(quant_row(cases[c].t, row, x, 0, NULL, &e));
    }
}

static void test_constant_rows(void **state) {
    (void)state;
    static uint8_t row[MAX_ROW_BYTES];
    static float x[N], y[N];
    const float values[] = { 0.75f, -0.75f, 1000.0f };
    for (size_t v = 0; v < 3; v++)
        for (size_t c = 0; c < N_CASES; c++) {
            const ern_dtype_info *info = dtype_info(cases[c].t);
            for (size_t i = 0; i < N; i++) x[i] = values[v];
            assert_true(quant_row(cases[c].t, row, x, N, NULL, NULL));
            info->to_f32(y, row, N);
            for (size_t i = 0; i < N; i++)
                if (fabsf(y[i] - x[i]) > 0.07f * fabsf(x[i]))
                    fail_msg("%s: constant %g becomes %g", info->name, (double)x[i], (double)y[i]);
        }
}

static void test_refusals(void **state) {
    (void)state;
    uint8_t row[1024];
    float x[256] = { 0 }, w[256] = { 0 };
    ern_err e = { 0 };
    assert_false(quant_row(DTYPE_IQ1_S, row, x, 256, NULL, &e));
    assert_int_equal(e.code, ERN_MISSING);
    assert_false(quant_row(DTYPE_Q4_K, row, x, 255, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    x[17] = NAN;
    assert_false(quant_row(DTYPE_Q4_0, row, x, 32, NULL, &e));
    assert_non_null(strstr(e.text, "value 17"));
    x[17] = 70000.0f;
    assert_false(quant_row(DTYPE_F16, row, x, 32, NULL, &e));
    assert_true(quant_row(DTYPE_BF16, row, x, 32, NULL, &e));
    x[17] = 1.0f;
    w[3] = -1.0f;
    assert_false(quant_row(DTYPE_Q4_0, row, x, 32, w, &e));
    assert_non_null(strstr(e.text, "column 3"));
    w[3] = 0.0f;                                    /* importance 0 everywhere: as if there were none */
    assert_true(quant_row(DTYPE_Q4_0, row, x, 32, w, &e));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_of_normal_values), cmocka_unit_test(test_importance_moves_the_error),
        cmocka_unit_test(test_edges), cmocka_unit_test(test_constant_rows), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
