/* Attention's tiles on a model of the tile instructions, so that any machine with AVX-512 BF16 can check them: near the
 * exact result, and the same bits whatever rows are beside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tensor/dtype.h"

#define TOLERANCE 3e-2          /* bf16 arithmetic, or queries in 8 bits, of the largest value */
#define N_OF(a) (sizeof(a) / sizeof *(a))

/* ---- the model ---------------------------------------------------------------------------------- */

static struct { uint16_t row_bytes[8]; uint8_t rows[8], data[8][16][64]; bool is_on; } tiles;

static void tile_begin(const void *shape) {
    const uint8_t *s = shape;
    assert_int_equal(s[0], 1);
    for (int i = 0; i < 8; i++) {
        memcpy(&tiles.row_bytes[i], s + 16 + 2 * i, 2);
        tiles.rows[i] = s[48 + i];
        assert_true(tiles.row_bytes[i] <= 64 && tiles.rows[i] > 0 && tiles.rows[i] <= 16);
    }
    memset(tiles.data, 0, sizeof tiles.data);
    tiles.is_on = true;
}

static void tile_end(void) { tiles.is_on = false; }

static void TILE_ZERO(int n) { memset(tiles.data[n], 0, sizeof tiles.data[n]); }

static void TILE_LOAD(int n, const void *p, size_t stride) {
    assert_true(tiles.is_on);
    TILE_ZERO(n);
    for (size_t r = 0; r < tiles.rows[n]; r++) memcpy(tiles.data[n][r], (const uint8_t *)p + r * stride, tiles.row_bytes[n]);
}

static void TILE_STORE(int n, void *p, size_t stride) {
    assert_true(tiles.is_on);
    for (size_t r = 0; r < tiles.rows[n]; r++) memcpy((uint8_t *)p + r * stride, tiles.data[n][r], tiles.row_bytes[n]);
}

static void TILE_DP_BF16(int c, int a, int b) {
    assert_true(tiles.is_on && tiles.rows[c] == tiles.rows[a] && tiles.row_bytes[a] == 4 * tiles.rows[b]);
    for (size_t m = 0; m < tiles.rows[c]; m++)
        for (size_t k = 0; k < tiles.rows[b]; k++)
            for (size_t n = 0; n < 16; n++) {
                float sum;
                uint16_t x[2], y[2];
                memcpy(&sum, tiles.data[c][m] + 4 * n, 4);
                memcpy(x, tiles.data[a][m] + 4 * k, 4);
                memcpy(y, tiles.data[b][k] + 4 * n, 4);
                sum += bf16_to_f32(x[0]) * bf16_to_f32(y[0]) + bf16_to_f32(x[1]) * bf16_to_f32(y[1]);
                memcpy(tiles.data[c][m] + 4 * n, &sum, 4);
            }
}

#include "kernels/x86/attention_amx.h"

static const attention_isa model = { pack_any, chunk_any, merge_rows };

/* ---- the tests ---------------------------------------------------------------------------------- */

typedef struct { size_t d, heads, kv_heads, n_keys, from; enum ern_dtype k_type, v_type; } shape;

static void *take(size_t n) {
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, n), 0);
    memset(p, 0, n);
    return p;
}

static void fill(float *x, size_t n, float range, uint32_t *seed) {
    for (size_t i = 0; i < n; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        x[i] = ((float)(*seed >> 8) / 8388608.0f - 1.0f) * range;
    }
}

static bool has_vectors(void) { return (cpu_flags() & (CPU_BF16 | CPU_VNNI)) == (CPU_BF16 | CPU_VNNI); }

/* Tokens [pos, pos + n) of the sequence; everything else is the same in every call. */
static void run(const shape *s, const attention_job *all, size_t pos, size_t n, float *out, bool is_exact) {
    ern_kernels k;
    kernels_init(&k, ~0u);
    k.attend_fast = &model;
    attention_job j = *all;
    j.q += pos * s->heads * s->d;
    j.out = out + pos * s->heads * s->d;
    j.n_tokens = n;
    j.first_keys = pos + 1;
    const attention_call c = { .d = s->d, .n_heads = s->heads, .n_kv_heads = s->kv_heads, .scale = 1.0f / sqrtf((float)s->d),
                               .is_exact = is_exact, .max_rows = n, .max_keys = s->n_keys,
                               .scratch = take(attention_scratch_bytes(s->d, s->heads, s->kv_heads, n, s->n_keys, 1)) };
    ern_pool *pool = pool_open(1, NULL);        /* the model has one set of tiles */
    assert_non_null(pool);
    assert_non_null(pool);
    attention_run(&k, pool, &c, &j, 1);
    pool_close(pool);
    free(c.scratch);
}

static void one_shape(const shape *s) {
    const size_t row = s->heads * s->d, n_tiles = (s->n_keys + 31) / 32 * 2;
    attention_job j = { .is_causal = true, .k_type = s->k_type, .v_type = s->v_type };
    ern_kernels k;
    uint32_t seed = 5;
    float x[ATTENTION_MAX_WIDTH], *q = take(s->n_keys * row * 4);
    kernels_init(&k, ~0u);
    j.k_head_bytes = n_tiles * attention_tile_bytes(s->k_type, s->d);
    j.v_head_bytes = n_tiles * attention_tile_bytes(s->v_type, s->d);
    char *keys = take(s->kv_heads * j.k_head_bytes), *values = take(s->kv_heads * j.v_head_bytes);
    for (size_t h = 0; h < s->kv_heads; h++)
        for (size_t pos = 0; pos < s->n_keys; pos++) {
            fill(x, s->d, 3.0f, &seed);
            attention_store(&k, s->k_type, true, keys + h * j.k_head_bytes, pos, x, s->d);
            fill(x, s->d, 1.0f, &seed);
            attention_store(&k, s->v_type, false, values + h * j.v_head_bytes, pos, x, s->d);
        }
    fill(q, s->n_keys * row, 2.0f, &seed);
    j.q = q;
    j.k = keys;
    j.v = values;
    float *want = take(s->n_keys * row * 4), *got = take(s->n_keys * row * 4), *one = take(s->n_keys * row * 4);
    const size_t n = s->n_keys - s->from, at = s->from * row;
    run(s, &j, s->from, n, want, true);
    run(s, &j, s->from, n, got, false);
    for (size_t pos = s->from; pos < s->n_keys; pos++) run(s, &j, pos, 1, one, false);
    assert_memory_equal(one + at, got + at, n * row * 4);
    float top = 0.1f;
    for (size_t i = at; i < s->n_keys * row; i++) top = fmaxf(top, fabsf(want[i]));
    for (size_t i = at; i < s->n_keys * row; i++)
        if (!(fabsf(got[i] - want[i]) <= (float)TOLERANCE * top))
            fail_msg("d %zu, %zu/%zu heads, K %s: [%zu] is %.7g, %.7g wanted", s->d, s->heads, s->kv_heads, dtype_info(s->k_type)->name,
                     i, (double)got[i], (double)want[i]);
    free(q);
    free(keys);
    free(values);
    free(want);
    free(got);
    free(one);
}

static void test_shapes(void **state) {
    (void)state;
    static const shape shapes[] = {
        { 128, 16, 2, 45, 0, DTYPE_BF16, DTYPE_BF16 }, { 64, 9, 3, 67, 0, DTYPE_F16, DTYPE_F16 }, { 96, 5, 1, 130, 97, DTYPE_F16, DTYPE_Q8_0 },
        { 32, 4, 4, 33, 0, DTYPE_BF16, DTYPE_Q4_0 }, { 128, 10, 2, 70, 50, DTYPE_Q8_0, DTYPE_F16 }, { 80, 2, 1, 1, 0, DTYPE_F16, DTYPE_F16 },
        { 128, 8, 1, 1061, 1040, DTYPE_F16, DTYPE_F16 }, { 16, 3, 1, 523, 505, DTYPE_BF16, DTYPE_F16 },
    };
    if (!has_vectors()) { printf("SKIP: this CPU has no AVX-512 BF16\n"); skip(); }
    for (size_t i = 0; i < N_OF(shapes); i++) one_shape(&shapes[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_shapes) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
