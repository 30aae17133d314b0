/* Every number format and every instruction set against the scalar definition; the same bits whatever T, the split of rows
 * and the number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/matmul.h"
#include "kernels/random_blocks.h"

#define TOLERANCE 2e-5f         /* of sum |w x|: f32 sums of a few thousand terms in another order */

static const unsigned masks[] = { 0, CPU_AVX2 | CPU_FMA | CPU_F16C, ~0u };

typedef struct {
    enum ern_dtype t;
    size_t R, C, T, row_bytes;
    uint8_t *w;
    float *x, *y, *want;
    double *size;
    act_q8 *q;
} problem;

static problem make(enum ern_dtype t, size_t R, size_t C, size_t T) {
    const ern_dtype_info *info = dtype_info(t);
    problem p = { .t = t, .R = R, .C = C, .T = T, .row_bytes = C / info->block_n * info->block_bytes };
    p.w = (uint8_t *)mem(R * p.row_bytes + 1) + 1;         /* not aligned */
    p.x = (float *)mem(T * C * 4 + 4) + 1;
    p.y = mem(T * R * 4);
    p.want = mem(T * R * 4);
    p.size = mem(T * R * 8);
    p.q = mem(matmul_scratch_bytes(T, C));
    fill(p.w, t, R * C);
    for (size_t i = 0; i < T * C; i++) p.x[i] = uniform();
    return p;
}

static void drop(problem *p) {
    free(p->w - 1);
    free(p->x - 1);
    free(p->y);
    free(p->want);
    free(p->size);
    free(p->q);
}

/* sum |w x|: what rounding errors are measured against */
static void sizes(problem *p) {
    float *row = mem(p->C * 4);
    for (size_t r = 0; r < p->R; r++) {
        dtype_info(p->t)->to_f32(row, p->w + r * p->row_bytes, p->C);
        for (size_t t = 0; t < p->T; t++) {
            double s = 0;
            for (size_t c = 0; c < p->C; c++) s += fabs((double)row[c] * (double)p->x[t * p->C + c]);
            p->size[t * p->R + r] = s;
        }
    }
    free(row);
}

static void check_near(const problem *p, const char *what, unsigned mask) {
    for (size_t i = 0; i < p->T * p->R; i++) {
        const double off = fabs((double)p->y[i] - (double)p->want[i]);
        if (!(off <= (double)TOLERANCE * p->size[i] + 1e-30))
            fail_msg("%s %s mask %x [T %zu, R %zu, C %zu] at %zu: %g, %g wanted (sum of magnitudes %g)", what,
                     dtype_info(p->t)->name,
                     mask, p->T, p->R, p->C, i, (double)p->y[i], (double)p->want[i], p->size[i]);
    }
}

static void compare(enum ern_dtype t, size_t R, size_t C, size_t T) {
    problem p = make(t, R, C, T);
    ern_kernels scalar, k;
    kernels_gemm_init(&scalar, 0);
    sizes(&p);
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++) {
        kernels_gemm_init(&k, cpu_flags() & masks[m]);
        scalar.gemm_f32(p.want, R, p.x, T, p.w, t, p.row_bytes, C, 0, R);
        k.gemm_f32(p.y, R, p.x, T, p.w, t, p.row_bytes, C, 0, R);
        check_near(&p, "f32", masks[m]);
        if (!k.has_q8(t)) continue;
        for (size_t i = 0; i < T; i++) k.quant_q8(p.q + i * (C / 32), p.x + i * C, C);
        scalar.gemm_q8(p.want, R, p.q, T, p.w, t, p.row_bytes, C, 0, R);
        k.gemm_q8(p.y, R, p.q, T, p.w, t, p.row_bytes, C, 0, R);
        check_near(&p, "q8", masks[m]);
    }
    drop(&p);
}

static void formats(void **state) {
    (void)state;
    static const size_t rows[] = { 0, 1, 3, 4, 5, 17 }, tokens[] = { 1, 2, 3, 5, 8, 17 };
    for (unsigned t = 0; t < DTYPE_COUNT; t++) {
        const enum ern_dtype type = (enum ern_dtype)t;
        const size_t n = dtype_info(type)->block_n;
        const bool is_plain = type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16;
        if (!is_plain && scale_at(type, 0) < 0 && type != DTYPE_MXFP4) continue;
        static const size_t plain[] = { 0, 1, 7, 15, 16, 17, 31, 33, 1023, 1025, 2053 }, blocks[] = { 0, 1, 2, 3, 5, 9 };
        for (size_t c = 0; c < (n == 1 ? 11u : 6u); c++)
            for (size_t i = 0; i < 6; i++) compare(type, rows[i], n == 1 ? plain[c] : blocks[c] * n, tokens[(i + c) % 6]);
    }
}

static void real_shapes(void **state) {
    (void)state;
    static const enum ern_dtype types[] = { DTYPE_F32, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q6_K };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        compare(types[i], 256, 1024, 33);
        compare(types[i], 64, 3072, 3);
    }
}

/* Row 5 of 100 tokens, alone and in company, by 1 and 2 threads: the same bits. */
static void same_bits(void **state) {
    (void)state;
    static const enum ern_dtype types[] = {
        DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q2_K, DTYPE_Q3_K,
        DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS, DTYPE_MXFP4
    };
    static const size_t tokens[] = { 1, 2, 3, 5, 8, 17, 33, 100 };
    ern_pool *one = pool_open(1, NULL), *two = pool_open(2, NULL);
    assert_non_null(one);
    assert_non_null(two);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (size_t m = 0; m < sizeof masks / sizeof *masks; m++)
            for (int exact = 0; exact < 2; exact++) {
                ern_kernels k;
                kernels_gemm_init(&k, cpu_flags() & masks[m]);
                problem p = make(types[i], 37, 1280, 100);
                const ern_view v = { .dtype = p.t, .n_dims = 2, .dims = { p.R, p.C }, .data = p.w,
                                     .size_bytes = p.R * p.row_bytes };
                matmul(&k, one, p.want, p.x, p.T, &v, exact, p.q);
                for (size_t n = 0; n < sizeof tokens / sizeof *tokens; n++)
                    for (size_t from = 0; from < p.T; from += tokens[n] == 100 ? 100 : 67) {
                        const size_t T = p.T - from < tokens[n] ? p.T - from : tokens[n];
                        matmul(&k, n % 2 ? one : two, p.y, p.x + from * p.C, T, &v, exact, p.q);
                        assert_memory_equal(p.y, p.want + from * p.R, T * p.R * 4);
                    }
                drop(&p);
            }
    pool_close(one);
    pool_close(two);
}

static void quantises(void **state) {
    (void)state;
    float x[64];
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++) {
        ern_kernels k;
        act_q8 got[2], want[2];
        kernels_gemm_init(&k, cpu_flags() & masks[m]);
        for (int round = 0; round < 200; round++) {
            for (size_t i = 0; i < 64; i++) x[i] = round < 4 ? 0.0f : uniform() * ldexpf(1.0f, round - 150);
            if (round == 1) x[5] = NAN;
            if (round == 2) x[40] = -INFINITY;
            if (round == 3) x[63] = 3.4028235e38f;
            k.quant_q8(got, x, 64);
            quant_q8_scalar(want, x, 64);
            for (size_t b = 0; b < 2; b++) {
                assert_true(got[b].d == want[b].d || (isnan(got[b].d) && isnan(want[b].d)));
                assert_int_equal(got[b].sum_lo, want[b].sum_lo);
                assert_int_equal(got[b].sum_hi, want[b].sum_hi);
                assert_memory_equal(got[b].q, want[b].q, 32);
            }
            if (round == 1) assert_true(isnan(got[0].d) && got[1].d == 0.0f);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats), cmocka_unit_test(real_shapes), cmocka_unit_test(same_bits), cmocka_unit_test(quantises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
