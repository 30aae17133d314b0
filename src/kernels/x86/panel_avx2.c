/* Packed matrix products for AVX2. maddubs adds two products of unsigned and signed bytes in 16 bits: exact while codes are
 * below 128. Wide codes become signed again, and their sign moves to the activation: 2 * 128 * 127 still fits. */
#include "kernels/x86/panel_256.h"

static inline vi start8(int32_t n) { (void)n; return v_int(0); }
static inline vi dp7(vi sum, vi u, vi a) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, a), _mm256_set1_epi16(1)));
}
static inline vi dp8(vi sum, vi u, vi a) {
    const vi w = _mm256_xor_si256(u, v_byte((char)0x80));
    return dp7(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
}

#include "kernels/panel_tile.h"
#include "kernels/panel_float.h"
#include "kernels/x86/panel_quant.h"

static void gemm_bf16(const panel_job *j, size_t p0, size_t p1) { float_gemm(true, j, p0, p1); }
static void gemm_f16(const panel_job *j, size_t p0, size_t p1) { float_gemm(false, j, p0, p1); }

const struct ern_panels panels_avx2 = { "avx2", quant, gemm, NULL, gemm_bf16, gemm_f16 };
