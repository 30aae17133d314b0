/* Matrix products for AVX2 + FMA + F16C: 8-bit products through maddubs on |w| and x with w's sign (at most
 * 2 * 128 * 127, which fits 16 bits). */
#include <immintrin.h>
#include <math.h>

#include "kernels/matmul.h"

#define GEMM_ISA avx2

typedef __m256 vec;
static inline vec vec_zero(void) { return _mm256_setzero_ps(); }
static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline float sum_8(__m256 v);
static inline float vec_sum(vec v) { return sum_8(v); }

static inline __m256i dpbusd_8(__m256i sum, __m256i u, __m256i s) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
}

#include "kernels/x86/gemm_rows.h"

void quant_q8_avx2(act_q8 *y, const float *x, size_t n) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    for (size_t b = 0; b < n / 32; b++, x += 32) {
        __m256 v[4], most = _mm256_setzero_ps();
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            /* integer order of magnitudes is float order, and puts NaN on top */
            most = _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(most),
                                                        _mm256_castps_si256(_mm256_and_ps(v[i], magnitude))));
        }
        __m128i m = _mm_max_epi32(_mm256_castsi256_si128(_mm256_castps_si256(most)),
                                  _mm256_extracti128_si256(_mm256_castps_si256(most), 1));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
        const float largest = _mm_cvtss_f32(_mm_castsi128_ps(m));
        if (!(largest > ACT_TINY && largest <= 3.4028235e38f)) {
            y[b] = (act_q8){ .d = largest <= ACT_TINY ? 0.0f : NAN };
            continue;
        }
        const __m256 inverse = _mm256_set1_ps(127.0f / largest);
        __m256i q[4];
        for (int i = 0; i < 4; i++) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
        const __m256i lo = _mm256_add_epi32(q[0], q[1]), hi = _mm256_add_epi32(q[2], q[3]);
        __m256i s = _mm256_hadd_epi32(lo, hi);              /* lo lo hi hi in each half */
        s = _mm256_hadd_epi32(s, s);
        const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
        y[b].d = largest / 127.0f;
        y[b].sum_lo = (int16_t)_mm_extract_epi32(sums, 0);
        y[b].sum_hi = (int16_t)_mm_extract_epi32(sums, 1);
        const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        _mm256_storeu_si256((__m256i *)y[b].q,
                            _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    }
}
