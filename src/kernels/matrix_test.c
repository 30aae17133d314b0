/* Packed matrices: every format and instruction set against the scalar product of the same 8-bit activations, and the same
 * bits whatever the company, the split and the number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/matmul_panel.h"
#include "kernels/random_blocks.h"

#define TOLERANCE 1e-5f         /* of sum |w| |x|: f32 sums of a hundred blocks in another order */

static const char *const levels[] = { "avx2", "avxvnni", "avx512f", "avx512", "neon", "dotprod", "i8mm", "auto" };
#define N_LEVELS (sizeof levels / sizeof *levels)

static ern_pool *pools[2];      /* of 1 and 2 threads */

/* Kernels of a level; false: no packed products there, or the same as the level before. */
static bool use_level(ern_kernels *k, size_t level) {
    unsigned mask;
    assert_true(cpu_mask_from_name(&mask, levels[level], NULL));
    kernels_init(k, mask);
    return k->panels != NULL;
}

typedef struct {
    enum ern_dtype t;
    size_t R, C, T, row_bytes;
    uint8_t *w;
    float *x, *y, *want;
    double *size;
    void *scratch;
} problem;

static problem make(enum ern_dtype t, size_t R, size_t C, size_t T) {
    const ern_dtype_info *info = dtype_info(t);
    problem p = { .t = t, .R = R, .C = C, .T = T, .row_bytes = C / info->block_n * info->block_bytes };
    p.w = (uint8_t *)mem(R * p.row_bytes + 1) + 1;         /* not aligned */
    p.x = (float *)mem(T * C * 4 + 4) + 1;
    p.y = mem(T * R * 4);
    p.want = mem((T + 1) * R * 4);
    p.size = mem(T * R * 8);
    p.scratch = mem(matmul_many_bytes(pools[1], T, C, T) + matmul_scratch_bytes(T, C));
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
    free(p->scratch);
}

static ern_view view_of(const problem *p) {
    return (ern_view){ .name = "w", .dtype = p->t, .n_dims = 2, .dims = { p->R, p->C }, .data = p->w,
                       .size_bytes = p->R * p->row_bytes };
}

/* sum |w| |x| of each result */
static void magnitudes(problem *p) {
    float *row = mem(p->C * 4);
    for (size_t r = 0; r < p->R; r++) {
        dtype_info(p->t)->to_f32(row, p->w + r * p->row_bytes, p->C);
        for (size_t t = 0; t < p->T; t++) {
            double s = 0;
            for (size_t c = 0; c < p->C; c++) s += fabs((double)row[c]) * fabs((double)p->x[t * p->C + c]);
            p->size[t * p->R + r] = s;
        }
    }
    free(row);
}

static void expect(problem *p) {
    act_q8 *q = p->scratch;
    for (size_t t = 0; t < p->T; t++) quant_q8_scalar(q + t * (p->C / 32), p->x + t * p->C, p->C);
    gemm_q8_scalar(p->want, p->R, q, p->T, p->w, p->t, p->row_bytes, p->C, 0, p->R);
    magnitudes(p);
}

static void multiply(const ern_kernels *k, ern_pool *pool, const problem *p, const ern_matrix *m, float *y, size_t from,
                     size_t T) {
    const matmul_input in = { .x = p->x, .stride = p->C, .n_rows = p->T, .C = p->C };
    const matmul_item item = { .w = m, .first = from, .y = y, .y_stride = p->R, .T = T };
    matmul_many(k, pool, &in, 1, &item, 1, false, p->scratch);
}

static void compare(enum ern_dtype t, size_t R, size_t C, size_t T) {
    problem p = make(t, R, C, T);
    const ern_view v = view_of(&p);
    expect(&p);
    for (size_t level = 0; level < N_LEVELS; level++) {
        ern_kernels k;
        ern_matrix m;
        if (!use_level(&k, level)) continue;
        m = matrix_of(&v);
        assert_true(matrix_pack(&m, &k, pools[1], NULL, NULL, NULL, NULL));
        assert_true(R == 0 || C == 0 || m.packed);
        for (size_t i = 0; i < T * R; i++) p.y[i] = NAN;
        multiply(&k, pools[0], &p, &m, p.y, 0, T);
        for (size_t i = 0; i < T * R; i++) {
            const double off = fabs((double)p.y[i] - (double)p.want[i]);
            if (!(off <= (double)TOLERANCE * p.size[i] + 1e-30))
                fail_msg("%s %s [T %zu, R %zu, C %zu] token %zu row %zu: %g, %g wanted (sum of magnitudes %g)",
                         dtype_info(t)->name,
                         k.panels->name, T, R, C, i / R, i % R, (double)p.y[i], (double)p.want[i], p.size[i]);
        }
        matrix_deinit(&m);
    }
    drop(&p);
}

static void formats(void **state) {
    (void)state;
    static const size_t rows[] = { 0, 1, 15, 16, 17, 33, 47 }, tokens[] = { 1, 2, 3, 5, 8, 17, 33 },
        blocks[] = { 1, 2, 3, 5, 8, 13 };
    for (unsigned kind = 0; kind < PANEL_N_INT; kind++)
        for (size_t i = 0; i < 7; i++)
            for (size_t j = 0; j < 6; j++) {
                const enum ern_dtype t = panel_info_of((enum panel_kind)kind)->dtype;
                compare(t, rows[i], blocks[j] * dtype_info(t)->block_n, tokens[(i + j) % 7]);
            }
}

static void real_shapes(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < PANEL_N_INT; kind++) {
        compare(panel_info_of((enum panel_kind)kind)->dtype, 256, 1024, 100);
        compare(panel_info_of((enum panel_kind)kind)->dtype, 64, 3072, 1);
    }
}

/* 100 tokens together, and each alone or in any company. */
static void same_bits(void **state) {
    (void)state;
    static const size_t tokens[] = { 1, 2, 3, 4, 5, 6, 7, 8, 17, 33, 100 };
    for (unsigned kind = 0; kind < PANEL_N_INT; kind++)
        for (size_t level = 0; level < N_LEVELS; level++) {
            ern_kernels k;
            ern_matrix m;
            if (!use_level(&k, level)) continue;
            problem p = make(panel_info_of((enum panel_kind)kind)->dtype, 83, 1280, 100);
            const ern_view v = view_of(&p);
            m = matrix_of(&v);
            assert_true(matrix_pack(&m, &k, pools[1], NULL, NULL, NULL, NULL));
            multiply(&k, pools[0], &p, &m, p.want, 0, p.T);
            for (size_t n = 0; n < sizeof tokens / sizeof *tokens; n++)
                for (size_t from = 0; from < p.T; from += 67) {
                    const size_t T = p.T - from < tokens[n] ? p.T - from : tokens[n];
                    multiply(&k, pools[n % 2], &p, &m, p.y, from, T);
                    assert_memory_equal(p.y, p.want + from * p.R, T * p.R * sizeof(float));
                }
            matrix_deinit(&m);
            drop(&p);
        }
}

#define TOLERANCE_BF16 8e-3f    /* of sum |w| |x|: activations rounded to 8 bits of mantissa, 2^-9 each at most */
#define TOLERANCE_FLOAT 2e-5f

/* BF16 and F16 weights against the scalar product in f32. */
static void floats(void **state) {
    (void)state;
    static const enum ern_dtype types[] = { DTYPE_BF16, DTYPE_F16 };
    static const size_t rows[] = { 0, 1, 15, 16, 17, 63, 64, 65, 150 }, columns[] = { 0, 1, 2, 15, 16, 31, 33, 256, 1021 };
    static const size_t tokens[] = { 1, 2, 3, 4, 5, 6, 7, 13, 33 };
    for (size_t i = 0; i < 2 * 81; i++) {
        problem p = make(types[i / 81], rows[i % 9], columns[i / 9 % 9], tokens[(i + i / 9) % 9]);
        const ern_view v = view_of(&p);
        gemm_f32_scalar(p.want, p.R, p.x, p.T, p.w, p.t, p.row_bytes, p.C, 0, p.R);
        magnitudes(&p);
        for (size_t level = 0; level < N_LEVELS; level++) {
            ern_kernels k;
            ern_matrix m;
            if (!use_level(&k, level)) continue;
            m = matrix_of(&v);
            assert_true(matrix_pack(&m, &k, pools[1], NULL, NULL, NULL, NULL));
            const double tolerance = (double)(p.t == DTYPE_BF16 && k.panels->to_bf16 ? TOLERANCE_BF16 : TOLERANCE_FLOAT);
            for (size_t n = 0; n < p.T * p.R; n++) p.y[n] = NAN;
            multiply(&k, pools[i % 2], &p, &m, p.y, 0, p.T);
            for (size_t n = 0; n < p.T * p.R; n++)
                if (!(fabs((double)p.y[n] - (double)p.want[n]) <= tolerance * p.size[n] + 1e-30))
                    fail_msg("%s %s [T %zu, R %zu, C %zu] at %zu: %g, %g wanted", dtype_info(p.t)->name, k.panels->name,
                             p.T, p.R, p.C,
                             n, (double)p.y[n], (double)p.want[n]);
            for (size_t t = 0; t < p.T; t++) {
                multiply(&k, pools[0], &p, &m, p.want + p.T * p.R, t, 1);
                assert_memory_equal(p.want + p.T * p.R, p.y + t * p.R, p.R * sizeof(float));
            }
            matrix_deinit(&m);
        }
        drop(&p);
    }
}

/* Several matrices, several inputs, gathered rows, a bias and a matrix that is not packed, in one region: as one by one. */
static void many(void **state) {
    (void)state;
    enum { C0 = 320, C1 = 256, N0 = 9, N1 = 4 };
    static const int32_t rows[] = { 8, 0, 3, 3, 7 };
    for (size_t level = 0; level < N_LEVELS; level++) {
        ern_kernels k;
        if (!use_level(&k, level)) continue;
        problem a = make(DTYPE_Q4_0, 37, C0, N0), b = make(DTYPE_Q6_K, 64, C1, N1), c = make(DTYPE_F32, 5, C0, N0);
        const ern_view va = view_of(&a), vb = view_of(&b), vc = view_of(&c);
        float bias[37], y[5 * 37 + 2 * 64 + N0 * 5], one[37], gate[N1 * C1], before[N1 * C1], *ya = y, *yb = ya + 5 * 37,
            *yc = yb + 2 * 64;
        ern_matrix ma, mb, mc;
        ma = matrix_of(&va);
        assert_true(matrix_pack(&ma, &k, pools[1], NULL, NULL, NULL, NULL));
        mb = matrix_of(&vb);
        assert_true(matrix_pack(&mb, &k, pools[1], NULL, NULL, NULL, NULL));
        mc = matrix_of(&vc);
        assert_true(matrix_pack(&mc, &k, pools[1], NULL, NULL, NULL, NULL));
        for (size_t i = 0; i < 37; i++) bias[i] = (float)i;
        for (size_t i = 0; i < N1 * C1; i++) before[i] = gate[i] = uniform();
        const matmul_input in[] = { { .x = a.x, .stride = C0, .n_rows = N0, .C = C0 },
                                    { .x = b.x, .stride = C1, .n_rows = N1, .C = C1, .swiglu = gate } };
        const matmul_item items[] = { { .w = &ma, .rows = rows, .y = ya, .y_stride = 37, .T = 5, .bias = bias },
                                      { .w = &mb, .input = 1, .first = 2, .y = yb, .y_stride = 64, .T = 2 },
                                      { .w = &ma, .T = 0 },
                                      { .w = &mc, .y = yc, .y_stride = 5, .T = N0 } };
        void *scratch = mem(matmul_many_bytes(pools[1], N0 + N1, C0, 5 + 2 + N0));
        matmul_many(&k, pools[1], in, 2, items, 4, false, scratch);
        for (size_t t = 0; t < 5; t++) {
            multiply(&k, pools[0], &a, &ma, one, (size_t)rows[t], 1);
            for (size_t r = 0; r < 37; r++) assert_true(ya[t * 37 + r] == one[r] + bias[r]);
        }
        k.silu_mul(b.x, before, b.x, N1 * C1);
        assert_memory_equal(b.x, gate, sizeof gate);
        multiply(&k, pools[0], &b, &mb, b.y, 2, 2);
        assert_memory_equal(b.y, yb, sizeof(float) * 2 * 64);
        k.gemm_f32(c.want, 5, a.x, N0, c.w, DTYPE_F32, c.row_bytes, C0, 0, 5);
        assert_memory_equal(c.want, yc, sizeof(float) * N0 * 5);
        free(scratch);
        matrix_deinit(&ma);
        matrix_deinit(&mb);
        matrix_deinit(&mc);
        drop(&a);
        drop(&b);
        drop(&c);
    }
}

/* Zero blocks, the largest f16 scales, NaN and infinity: NaN stays with its token or row. */
static void extremes(void **state) {
    (void)state;
    for (size_t level = 0; level < N_LEVELS; level++) {
        ern_kernels k;
        ern_matrix m;
        if (!use_level(&k, level)) continue;
        for (unsigned kind = 0; kind < PANEL_N_INT; kind++) {
            const enum ern_dtype t = panel_info_of((enum panel_kind)kind)->dtype;
            problem p = make(t, 20, 512, 7);
            if (t != DTYPE_MXFP4) {
                memset(p.w + 2 * p.row_bytes, 0, p.row_bytes);
                for (size_t b = 0; b < 512 / dtype_info(t)->block_n; b++) {
                    const uint16_t huge = 0x7bff, nan = 0x7e00;
                    memcpy(p.w + 3 * p.row_bytes + b * dtype_info(t)->block_bytes + (size_t)scale_at(t, 0), &huge, 2);
                    memcpy(p.w + 4 * p.row_bytes + b * dtype_info(t)->block_bytes + (size_t)scale_at(t, 0), &nan, 2);
                }
            }
            memset(p.x + 512, 0, 512 * sizeof(float));
            p.x[2 * 512 + 77] = NAN;
            p.x[6 * 512 + 511] = INFINITY;
            const ern_view v = view_of(&p);
            m = matrix_of(&v);
            assert_true(matrix_pack(&m, &k, pools[1], NULL, NULL, NULL, NULL));
            expect(&p);
            multiply(&k, pools[1], &p, &m, p.y, 0, 7);
            for (size_t i = 0; i < 7 * 20; i++) {
                const size_t token = i / 20, row = i % 20;
                const bool is_nan = token == 2 || token == 6 || (row == 4 && t != DTYPE_MXFP4);
                if (is_nan) assert_true(isnan(p.y[i]) && isnan(p.want[i]));
                else if (token == 1 || (row == 2 && t != DTYPE_MXFP4)) assert_true(p.y[i] == 0.0f);
                else assert_true(fabs((double)p.y[i] - (double)p.want[i]) <= (double)TOLERANCE * p.size[i]);
            }
            matrix_deinit(&m);
            drop(&p);
        }
    }
}

static void count_rows(void *ctx, const ern_view *rows) {
    ern_view *left = ctx;
    assert_true(rows->data == left->data && rows->dims[0] <= left->dims[0] && rows->dims[1] == left->dims[1]);
    assert_int_equal(rows->size_bytes, rows->dims[0] * view_row_bytes(left));
    left->data = (const uint8_t *)left->data + rows->size_bytes;
    left->dims[0] -= rows->dims[0];
    left->name = rows->dims[0] < 33000 ? "slices" : "one piece";
}

/* Packing tells, piece by piece and once each, which rows are not needed any more. */
static void reports_rows(void **state) {
    (void)state;
    ern_kernels k;
    kernels_init(&k, ~0u);
    if (!k.panels) skip();
    uint8_t *rows = calloc(33000, 34 * 32);
    assert_non_null(rows);
    ern_view v = { .name = "w", .dtype = DTYPE_Q8_0, .n_dims = 2, .dims = { 33000, 1024 }, .data = rows,
                   .size_bytes = 33000 * 34 * 32 };
    ern_matrix m = matrix_of(&v);
    assert_true(matrix_pack(&m, &k, pools[1], NULL, count_rows, &v, NULL));
    assert_int_equal(v.dims[0], 0);
    assert_string_equal(v.name, "slices");
    matrix_deinit(&m);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats), cmocka_unit_test(real_shapes), cmocka_unit_test(same_bits), cmocka_unit_test(many),
        cmocka_unit_test(extremes), cmocka_unit_test(floats),
        cmocka_unit_test(reports_rows),
    };
    for (size_t i = 0; i < 2; i++)
        if (!(pools[i] = pool_open(i + 1, NULL))) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < 2; i++) pool_close(pools[i]);
    return failed;
}
