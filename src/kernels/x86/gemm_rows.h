/* Products of rows unpacked a chunk at a time, 4 rows together; included by one file an instruction set, which defines
 * GEMM(name) and dpbusd_8(sum, u, s): the 8 sums of 4 products each of unsigned u and signed s bytes, added to sum.
 * A result is summed in an order that depends on C alone, so T and the split of rows never change a bit. */
#include <immintrin.h>

#include "kernels/matmul.h"
#include "kernels/x86/gemm_unpack.h"

static inline float sum_8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline __m256 pair_8(float lo, float hi) { return _mm256_set_m128(_mm_set1_ps(hi), _mm_set1_ps(lo)); }

/* One row against one token. */
static inline float dot_q8(const unpacked_row *u, bool has_min, const act_q8 *a, size_t n) {
    __m256 acc = _mm256_setzero_ps();
    float min = 0.0f;
    for (size_t b = 0; b < n / 32; b++) {
        const __m256i w = _mm256_load_si256((const __m256i *)(u->q + 32 * b));
        const __m256i x = _mm256_loadu_si256((const __m256i *)a[b].q);
        const __m256i sum = dpbusd_8(_mm256_setzero_si256(), _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
        const __m256 d = _mm256_mul_ps(pair_8(u->d[2 * b], u->d[2 * b + 1]), _mm256_set1_ps(a[b].d));
        acc = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sum), acc);
        if (has_min) min += a[b].d * (u->m[2 * b] * (float)a[b].sum_lo + u->m[2 * b + 1] * (float)a[b].sum_hi);
    }
    return sum_8(acc) - min;
}

DECL_GEMM_Q8(GEMM_ISA) {
    const ern_dtype_info *info = dtype_info(t);
    unpacked_row u;
    bool has_min = false;
    for (size_t r = r0; r < r1; r++) {
        for (size_t i = 0; i < T; i++) y[i * y_stride + r] = 0.0f;
        for (size_t c = 0; c < C; c += UNPACK_N) {
            const size_t n = C - c < UNPACK_N ? C - c : UNPACK_N;
            unpack_row(&u, (const uint8_t *)w + r * row_bytes + c / info->block_n * info->block_bytes, t, n, &has_min);
            for (size_t i = 0; i < T; i++) y[i * y_stride + r] += dot_q8(&u, has_min, xq + (i * C + c) / 32, n);
        }
    }
}

static void row_f32(float *y, const uint8_t *w, enum ern_dtype t, size_t n) {
    bool has_min;
    unpacked_row u;
    size_t i = 0;
    switch (t) {
    case DTYPE_F32: memcpy(y, w, n * sizeof *y); return;
    case DTYPE_BF16:
        for (; i + 8 <= n; i += 8) {
            const __m256i h = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(w + 2 * i)));
            _mm256_store_ps(y + i, _mm256_castsi256_ps(_mm256_slli_epi32(h, 16)));
        }
        break;
    case DTYPE_F16:
        for (; i + 8 <= n; i += 8) _mm256_store_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(w + 2 * i))));
        break;
    case DTYPE_Q4_0: case DTYPE_Q4_1: case DTYPE_Q5_0: case DTYPE_Q5_1: case DTYPE_Q8_0: case DTYPE_Q2_K: case DTYPE_Q3_K:
    case DTYPE_Q4_K: case DTYPE_Q5_K: case DTYPE_Q6_K: case DTYPE_IQ4_NL: case DTYPE_IQ4_XS: case DTYPE_MXFP4:
        unpack_row(&u, w, t, n, &has_min);
        for (size_t b = 0; b < n / 16; b++)
            for (size_t j = 0; j < 16; j++)
                y[16 * b + j] = has_min ? u.d[b] * (float)u.q[16 * b + j] - u.m[b] : u.d[b] * (float)u.q[16 * b + j];
        return;
    default: dtype_info(t)->to_f32(y, w, n); return;
    }
    if (i < n) dtype_info(t)->to_f32(y + i, w + 2 * i, n - i);
}

#define ROWS 4
#define WIDTH (sizeof(vec) / sizeof(float))

/* 4 rows at row[0..4) against tokens x and x2 (may be the same): every sum has one accumulator and the same order. */
static inline void dot_4x2(float *y, float *y2, const float (*row)[UNPACK_N], const float *x, const float *x2, size_t n) {
    vec a0 = vec_zero(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const vec u = vec_load(x + i), v = vec_load(x2 + i);
        const vec w0 = vec_load(row[0] + i), w1 = vec_load(row[1] + i), w2 = vec_load(row[2] + i), w3 = vec_load(row[3] + i);
        a0 = vec_fma(w0, u, a0);
        a1 = vec_fma(w1, u, a1);
        a2 = vec_fma(w2, u, a2);
        a3 = vec_fma(w3, u, a3);
        b0 = vec_fma(w0, v, b0);
        b1 = vec_fma(w1, v, b1);
        b2 = vec_fma(w2, v, b2);
        b3 = vec_fma(w3, v, b3);
    }
    float s[8] = { vec_sum(a0), vec_sum(a1), vec_sum(a2), vec_sum(a3), vec_sum(b0), vec_sum(b1), vec_sum(b2), vec_sum(b3) };
    for (; i < n; i++)
        for (size_t k = 0; k < 4; k++) {
            s[k] = fmaf(row[k][i], x[i], s[k]);
            s[4 + k] = fmaf(row[k][i], x2[i], s[4 + k]);
        }
    for (size_t k = 0; k < 4; k++) {
        y[k] += s[k];
        if (y2) y2[k] += s[4 + k];
    }
}

DECL_GEMM_F32(GEMM_ISA) {
    const ern_dtype_info *info = dtype_info(t);
    _Alignas(64) float rows[ROWS][UNPACK_N];
    for (size_t r = r0; r < r1; r += ROWS) {
        const size_t n_rows = r1 - r < ROWS ? r1 - r : ROWS;
        for (size_t i = 0; i < T; i++)
            for (size_t k = 0; k < n_rows; k++) y[i * y_stride + r + k] = 0.0f;
        for (size_t c = 0; c < C; c += UNPACK_N) {
            const size_t n = C - c < UNPACK_N ? C - c : UNPACK_N;
            for (size_t k = 0; k < ROWS; k++)       /* a missing row repeats the last: its sums are dropped */
                row_f32(rows[k], (const uint8_t *)w + (k < n_rows ? r + k : r1 - 1) * row_bytes + c / info->block_n *
                        info->block_bytes, t, n);
            for (size_t i = 0; i < T; i += 2) {
                const bool is_pair = i + 1 < T;
                float s[2][ROWS] = { { 0 } };
                dot_4x2(s[0], s[1], (const float (*)[UNPACK_N])rows, x + i * C + c, x + (is_pair ? i + 1 : i) * C + c, n);
                for (size_t k = 0; k < n_rows; k++) {
                    y[i * y_stride + r + k] += s[0][k];
                    if (is_pair) y[(i + 1) * y_stride + r + k] += s[1][k];
                }
            }
        }
    }
}
