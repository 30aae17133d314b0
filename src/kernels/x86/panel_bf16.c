/* BF16 weights with BF16 activations: AVX-512 BF16 sums the two products of a pair in f32. Only used where that is faster
 * than f32 (CPU_FAST_BF16). */
#include "kernels/x86/panel_512.h"

#include <string.h>

#define PAIR(acc, w, x) _mm512_dpbf16_ps(acc, (__m512bh)(w), (__m512bh)(x))
#include "kernels/panel_float.h"

void panel_gemm_bf16(const panel_job *j, size_t p0, size_t p1) { float_gemm(true, j, p0, p1); }

/* Round to nearest even; numbers below 2^-126 become 0, as in the products. */
void panel_to_bf16(uint16_t *out, const float *x, size_t C) {
    size_t i = 0;
    for (; i + 16 <= C; i += 16)
        _mm256_storeu_si256((__m256i *)(out + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
    if (i < C) {
        const __mmask16 rest = (__mmask16)((1u << (C - i)) - 1);
        _mm256_mask_storeu_epi16(out + i, rest, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(rest, x + i)));
    }
    if (C % 2) out[C] = 0;
}
