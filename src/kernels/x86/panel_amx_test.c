/* The tile products on a model of the tile instructions, so that any machine with AVX-512 can check them: 8 bits give the
 * bits that VNNI gives, bf16 what f32 arithmetic gives within rounding, and a token's results never depend on the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/x86/panel_512.h"
#include "kernels/panel_load.h"
#include "kernels/random_blocks.h"

/* ---- the model ---------------------------------------------------------------------------------- */

static struct { uint16_t row_bytes[8]; uint8_t rows[8], data[8][16][64]; bool is_on; } tiles;

static void tile_begin(const void *shape) {
    const uint8_t *s = shape;
    assert_int_equal(s[0], 1);                  /* palette */
    for (int i = 1; i < 16; i++) assert_int_equal(s[i], 0);
    for (int i = 0; i < 8; i++) {
        memcpy(&tiles.row_bytes[i], s + 16 + 2 * i, 2);
        tiles.rows[i] = s[48 + i];
        assert_true(tiles.row_bytes[i] <= 64 && tiles.rows[i] <= 16 && tiles.row_bytes[i] % 4 == 0);
    }
    tiles.is_on = true;
}

static void tile_end(void) { tiles.is_on = false; }

static void model_zero(int n) { memset(tiles.data[n], 0, sizeof tiles.data[n]); }

static void model_load(int n, const void *p, size_t stride) {
    assert_true(tiles.is_on);
    model_zero(n);
    for (size_t r = 0; r < tiles.rows[n]; r++) memcpy(tiles.data[n][r], (const uint8_t *)p + r * stride, tiles.row_bytes[n]);
}

static void model_store(int n, void *p, size_t stride) {
    assert_true(tiles.is_on);
    for (size_t r = 0; r < tiles.rows[n]; r++) memcpy((uint8_t *)p + r * stride, tiles.data[n][r], tiles.row_bytes[n]);
}

static void check_shapes(int c, int a, int b) {
    assert_true(tiles.rows[c] == tiles.rows[a] && tiles.row_bytes[c] == tiles.row_bytes[b]);
    assert_int_equal(tiles.row_bytes[a], 4 * tiles.rows[b]);
}

static void model_dp_i8(int c, int a, int b) {
    check_shapes(c, a, b);
    for (size_t m = 0; m < tiles.rows[c]; m++)
        for (size_t n = 0; n < tiles.row_bytes[c] / 4u; n++) {
            int32_t sum;
            memcpy(&sum, tiles.data[c][m] + 4 * n, 4);
            for (size_t k = 0; k < tiles.row_bytes[a]; k++) sum += (int8_t)tiles.data[a][m][k] * (int8_t)
                tiles.data[b][k / 4][4 * n + k % 4];
            memcpy(tiles.data[c][m] + 4 * n, &sum, 4);
        }
}

static float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return bf16_to_f32(h);
}

static void model_dp_bf16(int c, int a, int b) {
    check_shapes(c, a, b);
    for (size_t m = 0; m < tiles.rows[c]; m++)
        for (size_t n = 0; n < tiles.row_bytes[c] / 4u; n++) {
            float sum;
            memcpy(&sum, tiles.data[c][m] + 4 * n, 4);
            for (size_t k = 0; k < tiles.row_bytes[a] / 2u; k++)
                sum += half_at(tiles.data[a][m] + 2 * k) * half_at(tiles.data[b][k / 2] + 4 * n + 2 * (k % 2));
            memcpy(tiles.data[c][m] + 4 * n, &sum, 4);
        }
}

#define TILE_ZERO(n) model_zero(n)
#define TILE_LOAD(n, p, stride) model_load(n, p, stride)
#define TILE_STORE(n, p, stride) model_store(n, p, stride)
#define TILE_DP_I8(c, a, b) model_dp_i8(c, a, b)
#define TILE_DP_BF16(c, a, b) model_dp_bf16(c, a, b)

#include "kernels/x86/panel_amx.h"

/* ---- the tests ---------------------------------------------------------------------------------- */

#define MAX_T 40
#define BF16_TOLERANCE 1e-5     /* of the sum of magnitudes: f32 sums in another order */

static ern_matrix packed(enum ern_dtype t, size_t R, size_t C, uint8_t **rows) {
    const ern_dtype_info *info = dtype_info(t);
    ern_kernels k;
    ern_pool *pool = pool_open(1, NULL);
    assert_non_null(pool);
    const size_t bytes = R * (C / info->block_n * info->block_bytes);
    kernels_init(&k, ~0u);
    *rows = mem(bytes);
    fill(*rows, t, R * C);
    const ern_view v = { .name = "w", .dtype = t, .n_dims = 2, .dims = { R, C }, .data = *rows, .size_bytes = bytes };
    ern_matrix m = matrix_of(&v);
    assert_true(matrix_pack(&m, &k, pool, NULL, NULL, NULL, NULL) && m.packed);
    pool_close(pool);
    return m;
}

static bool has_avx512(void) { return (cpu_flags() & (CPU_AVX512 | CPU_VNNI)) == (CPU_AVX512 | CPU_VNNI); }

static void bits_of_vnni(void **state) {
    (void)state;
    if (!has_avx512()) skip();
    static const size_t tokens[] = { 8, 15, 16, 17, 31, 33, 40 }, rows[] = { 1, 16, 31, 48 };
    for (unsigned kind = 0; kind < PANEL_N_INT; kind++)
        for (size_t i = 0; i < 7; i++)
            for (size_t is_gathered = 0; is_gathered < 2; is_gathered++) {
                const enum ern_dtype t = panel_info_of((enum panel_kind)kind)->dtype;
                const size_t C = (1 + i) * dtype_info(t)->block_n, R = rows[i % 4], T = tokens[i],
                    n_act = (C + 255) / 256 * 8;
                uint8_t *data;
                ern_matrix m = packed(t, R, C, &data);
                act_block *act = mem(MAX_T * n_act * sizeof *act);
                float *x = mem(C * sizeof *x), *y = mem(2 * MAX_T * R * sizeof *y), *out[2][MAX_T];
                const void *token[MAX_T];
                void *buffer = mem(PANEL_BUFFER_BYTES(C));
                for (size_t n = 0; n < MAX_T; n++) {
                    for (size_t c = 0; c < C; c++) x[c] = uniform();
                    panels_vnni.quant(act + n * n_act, x, C);
                    token[n] = act + (is_gathered ? rng() % (n + 1) : n) * n_act;
                    out[0][n] = y + n * R;
                    out[1][n] = y + (MAX_T + n) * R;
                }
                const panel_job want = { .w = &m, .act = token, .y = out[0], .T = T, .buffer = buffer };
                const panel_job got = { .w = &m, .act = token, .y = out[1], .T = T, .buffer = buffer };
                panels_vnni.gemm(&want, 0, m.n_panels);
                amx_gemm(&got, 0, m.n_panels);
                assert_false(tiles.is_on);
                for (size_t n = 0; n < T; n++) assert_memory_equal(out[0][n], out[1][n], R * sizeof(float));
                matrix_deinit(&m);
                free(data);
                free(act);
                free(x);
                free(y);
                free(buffer);
            }
}

static void bf16(void **state) {
    (void)state;
    if (!has_avx512()) skip();
    static const size_t tokens[] = { 1, 2, 15, 16, 17, 40 }, columns[] = { 1, 2, 31, 32, 33, 64, 255 },
        rows[] = { 1, 16, 17, 40 };
    for (size_t i = 0; i < 6 * 7; i++) {
        const size_t T = tokens[i % 6], C = columns[i % 7], R = rows[i % 4], stride = C + 1;
        uint8_t *data;
        ern_matrix m = packed(DTYPE_BF16, R, C, &data);
        uint16_t *x = mem(MAX_T * stride * 2);
        float *y = mem((MAX_T + 1) * R * sizeof *y), *out[MAX_T], *last = y + MAX_T * R;
        const void *token[MAX_T];
        void *buffer = mem(PANEL_BUFFER_BYTES(C));
        for (size_t n = 0; n < MAX_T; n++) {
            for (size_t c = 0; c < stride; c++) x[n * stride + c] = f32_to_bf16(c < C ? uniform() : 0.0f);
            token[n] = x + n * stride;
            out[n] = y + n * R;
        }
        const panel_job all = { .w = &m, .act = token, .y = out, .T = T, .buffer = buffer };
        const panel_job one = { .w = &m, .act = token + T - 1, .y = &last, .T = 1, .buffer = buffer };
        amx_gemm_bf16(&all, 0, m.n_panels);
        amx_gemm_bf16(&one, 0, m.n_panels);
        assert_memory_equal(last, out[T - 1], R * sizeof(float));
        for (size_t n = 0; n < T; n++)
            for (size_t r = 0; r < R; r++) {
                double want = 0, size = 0;
                for (size_t c = 0; c < C; c++) {
                    const double v = (double)half_at((uint8_t *)(x + n * stride + c)) *
                        (double)half_at(data + 2 * (r * C + c));
                    want += v;
                    size += fabs(v);
                }
                assert_true(fabs((double)out[n][r] - want) <= BF16_TOLERANCE * size);
            }
        matrix_deinit(&m);
        free(data);
        free(x);
        free(y);
        free(buffer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(bits_of_vnni), cmocka_unit_test(bf16) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
