/* The vector words of elementwise.inc and attention_f32.inc for AVX-512: 16 floats. */
#ifndef KERNELS_X86_VEC_AVX512_H
#define KERNELS_X86_VEC_AVX512_H

#include <stdint.h>

#if defined(__AVX512F__)          /* the flag stands on the files that use it */
#include <immintrin.h>

typedef __m512 vf;
enum { VW = 16 };

static inline vf vf_set1(float a) { return _mm512_set1_ps(a); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vf_abs(vf a) { return _mm512_abs_ps(a); }
static inline vf vf_copysign(vf a, vf s) { return _mm512_or_ps(vf_abs(a), _mm512_and_ps(_mm512_set1_ps(-0.0f), s)); }

static inline __mmask16 lane_mask(size_t n) { return (__mmask16)((1u << n) - 1); }  /* the first n lanes, n <= 16 */
static inline vf vf_load_part(const float *p, size_t n) { return _mm512_maskz_loadu_ps(lane_mask(n), p); }
static inline void vf_store_part(float *p, vf a, size_t n) { _mm512_mask_storeu_ps(p, lane_mask(n), a); }
static inline vf vf_keep(vf a, vf other, size_t n) {    /* a in the first n lanes, other in the rest */
    return _mm512_mask_mov_ps(other, lane_mask(n), a);
}

static inline float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline float vf_top(vf a) { return _mm512_reduce_max_ps(a); }

/* a * 2^n for whole n; 0 far below the normal range, infinity above it. */
static inline vf vf_scale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }

static inline vf vf_scale_down(vf a, vf n) { return _mm512_scalef_ps(a, n); }       /* n <= 0 */

static inline vf vf_swap(vf a) { return _mm512_permute_ps(a, 0xb1); }               /* a1 a0 a3 a2 ... */
static inline vf vf_twice_low(vf a) {                                               /* a0 a0 a1 a1 ... of the low half */
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), a);
}
static inline vf vf_twice_high(vf a) {
    return _mm512_permutexvar_ps(_mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15), a);
}
static inline vf vf_fmaddsub(vf a, vf b, vf c) { return _mm512_fmaddsub_ps(a, b, c); }  /* a*b - c, a*b + c, ... */

static inline vf vf_from_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline void vf_to_f16(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf vf_from_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
/* Pairs of halves: the firsts to *even, the seconds to *odd. */
static inline void vf_split_f16(const uint16_t *p, vf *even, vf *odd) {
    const __m512i x = _mm512_loadu_si512(p);
    *even = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
    *odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16)));
}
static inline void vf_split_bf16(const uint16_t *p, vf *even, vf *odd) {
    const __m512i x = _mm512_loadu_si512(p);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
    *odd = _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_set1_epi32(0xffff), x));
}
/* (VW words >> shift) & mask */
static inline vf vf_bits(const void *p, unsigned shift, int mask) {
    const __m512i x = _mm512_srl_epi32(_mm512_loadu_si512(p), _mm_cvtsi32_si128((int)shift));
    return _mm512_cvtepi32_ps(_mm512_and_si512(x, _mm512_set1_epi32(mask)));
}
static inline void vf_split_i8(const int8_t *p, vf *even, vf *odd) {
    const __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
    *even = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(x, 16), 16));
    *odd = _mm512_cvtepi32_ps(_mm512_srai_epi32(x, 16));
}
/* Integer rounding, not vcvtneps2bf16: that instruction flushes subnormals, and older CPUs lack it. */
static inline void vf_to_bf16(uint16_t *p, vf a) {
    const __m512i u = _mm512_castps_si512(a), high = _mm512_srli_epi32(u, 16), one = _mm512_set1_epi32(1);
    const __m512i up = _mm512_add_epi32(_mm512_and_si512(high, one), _mm512_set1_epi32(0x7fff));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, up), 16);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), high, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(r));
}

#endif
#endif
