/* The vector words of elementwise.inc and attention_f32.inc for AVX2: 8 floats. */
#ifndef KERNELS_X86_VEC_AVX2_H
#define KERNELS_X86_VEC_AVX2_H

#include <stdint.h>

#if defined(__AVX2__)          /* the flag stands on the files that use it */
#include <immintrin.h>

typedef __m256 vf;
enum { VW = 8 };

static inline vf vf_set1(float a) { return _mm256_set1_ps(a); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf vf_copysign(vf a, vf s) { return _mm256_or_ps(vf_abs(a), _mm256_and_ps(_mm256_set1_ps(-0.0f), s)); }

static inline __m256i lane_mask(size_t n) {      /* the first n lanes */
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf vf_load_part(const float *p, size_t n) { return _mm256_maskload_ps(p, lane_mask(n)); }
static inline void vf_store_part(float *p, vf a, size_t n) { _mm256_maskstore_ps(p, lane_mask(n), a); }
static inline vf vf_keep(vf a, vf other, size_t n) {    /* a in the first n lanes, other in the rest */
    return _mm256_blendv_ps(other, a, _mm256_castsi256_ps(lane_mask(n)));
}

static inline float vf_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vf_top(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* a * 2^n for whole n; 0 below the normal range, infinity above it. Two steps, because 2^128 has no float. */
static inline vf vf_scale2(vf a, vf n) {
    const __m256i whole = _mm256_cvtps_epi32(vf_min(vf_max(n, vf_set1(-200.0f)), vf_set1(200.0f)));
    const __m256i first = _mm256_srai_epi32(whole, 1), second = _mm256_sub_epi32(whole, first);
    const __m256i bias = _mm256_set1_epi32(127);
    a = vf_mul(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23)));
    a = vf_mul(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23)));
    return _mm256_and_ps(a, _mm256_cmp_ps(n, vf_set1(-126.5f), _CMP_GT_OQ));
}

/* a * 2^n for whole n <= 0; 0 below 2^-126. */
static inline vf vf_scale_down(vf a, vf n) {
    const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(vf_max(n, vf_set1(-127.0f))), _mm256_set1_epi32(127));
    return vf_mul(a, _mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
}

static inline vf vf_swap(vf a) { return _mm256_permute_ps(a, 0xb1); }               /* a1 a0 a3 a2 ... */
static inline vf vf_twice_low(vf a) {                                               /* a0 a0 a1 a1 ... of the low half */
    return _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
static inline vf vf_twice_high(vf a) { return _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)); }
static inline vf vf_fmaddsub(vf a, vf b, vf c) { return _mm256_fmaddsub_ps(a, b, c); }  /* a*b - c, a*b + c, ... */

static inline vf vf_from_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static inline void vf_to_f16(uint16_t *p, vf a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vf vf_from_bf16(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
/* Pairs of halves: the firsts to *even, the seconds to *odd. */
static inline vf f16_lanes(__m256i x) {      /* the low half of each 32-bit lane */
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}
static inline void vf_split_f16(const uint16_t *p, vf *even, vf *odd) {
    const __m256i x = _mm256_loadu_si256((const __m256i *)p);
    *even = f16_lanes(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)));
    *odd = f16_lanes(_mm256_srli_epi32(x, 16));
}
static inline void vf_split_bf16(const uint16_t *p, vf *even, vf *odd) {
    const __m256i x = _mm256_loadu_si256((const __m256i *)p);
    *even = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
    *odd = _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_set1_epi32(0xffff), x));
}
/* (VW words >> shift) & mask */
static inline vf vf_bits(const void *p, unsigned shift, int mask) {
    const __m256i x = _mm256_srl_epi32(_mm256_loadu_si256((const __m256i *)p), _mm_cvtsi32_si128((int)shift));
    return _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(mask)));
}
static inline void vf_split_i8(const int8_t *p, vf *even, vf *odd) {
    const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    *even = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(x, 16), 16));
    *odd = _mm256_cvtepi32_ps(_mm256_srai_epi32(x, 16));
}
static inline void vf_to_bf16(uint16_t *p, vf a) {
    const __m256i u = _mm256_castps_si256(a), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40)), is_nan);
    r = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(r));
}

#endif
#endif
