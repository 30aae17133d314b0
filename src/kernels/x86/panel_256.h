/* The vector operations of panel_tile.h in 256 bits: 8 of a panel's 16 rows. */
#ifndef KERNELS_PANEL_256_H
#define KERNELS_PANEL_256_H

#include <immintrin.h>

#include "kernels/matmul_panel.h"

#define LANES ((size_t)8)
#define V_HALVES ((size_t)2)
#define INLINE static inline __attribute__((always_inline))
#define TILE_M 3
#define TILE_N 2
#define FLOAT_M 5          /* tokens and vectors of rows of a tile of floats */
#define FLOAT_N 2

typedef __m256i vi;
typedef __m256 vf;
static inline vi v_load(const void *p) { return _mm256_loadu_si256(p); }
static inline void v_store(void *p, vi v) { _mm256_storeu_si256(p, v); }
static inline vf v_loadf(const void *p) { return _mm256_loadu_ps(p); }
static inline void v_storef(void *p, vf v) { _mm256_storeu_ps(p, v); }
static inline vi v_int(int32_t v) { return _mm256_set1_epi32(v); }
static inline vi v_byte(char v) { return _mm256_set1_epi8(v); }
static inline vf v_float(float v) { return _mm256_set1_ps(v); }
static inline vi v_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi v_or(vi a, vi b) { return _mm256_or_si256(a, b); }
static inline vi v_add8(vi a, vi b) { return _mm256_add_epi8(a, b); }
#define v_up(v, n) _mm256_slli_epi32(v, n)
#define v_down(v, n) _mm256_srli_epi32(v, n)
/* table[i] + add, i < 16 */
static inline vi v_lookup(const int8_t *table, char add, vi i) {
    const __m128i t = _mm_add_epi8(_mm_loadu_si128((const __m128i *)table), _mm_set1_epi8(add));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t), i);
}
/* Macros: gcc 12 drops calls of functions that do nothing but prefetch. */
#define v_prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#define v_prefetch_l1(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
static inline vf v_cast(vi v) { return _mm256_castsi256_ps(v); }
static inline vf v_cvt(vi v) { return _mm256_cvtepi32_ps(v); }
static inline vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
static inline vf v_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
static inline vf v_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
static inline vi v_bytes(const void *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)); }
static inline vf v_u8(const void *p) { return v_cvt(v_bytes(p)); }
static inline vf v_i8(const void *p) { return v_cvt(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p))); }
static inline vf v_low4(const void *p) { return v_cvt(v_and(v_bytes(p), v_int(15))); }
static inline vf v_high4(const void *p) { return v_cvt(_mm256_srli_epi32(v_bytes(p), 4)); }

#endif
