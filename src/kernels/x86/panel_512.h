/* The vector operations of panel_tile.h in 512 bits: the 16 rows of a panel. */
#ifndef KERNELS_PANEL_512_H
#define KERNELS_PANEL_512_H

#include <immintrin.h>

#include "kernels/matmul_panel.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES ((size_t)16)
#define V_HALVES ((size_t)1)
#define TILE_M 6
#define TILE_N 2
#define FLOAT_M 6          /* tokens and vectors of rows of a tile of floats */
#define FLOAT_N 4

typedef __m512i vi;
typedef __m512 vf;
static inline vi v_load(const void *p) { return _mm512_loadu_si512(p); }
static inline void v_store(void *p, vi v) { _mm512_storeu_si512(p, v); }
static inline vf v_loadf(const void *p) { return _mm512_loadu_ps(p); }
static inline void v_storef(void *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vi v_int(int32_t v) { return _mm512_set1_epi32(v); }
static inline vi v_byte(char v) { return _mm512_set1_epi8(v); }
static inline vf v_float(float v) { return _mm512_set1_ps(v); }
static inline vi v_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi v_or(vi a, vi b) { return _mm512_or_si512(a, b); }
static inline vi v_add8(vi a, vi b) { return _mm512_add_epi8(a, b); }
#define v_up(v, n) _mm512_slli_epi32(v, (unsigned)(n))
#define v_down(v, n) _mm512_srli_epi32(v, (unsigned)(n))
/* table[i] + add, i < 16 */
static inline vi v_lookup(const int8_t *table, char add, vi i) {
    const __m128i t = _mm_add_epi8(_mm_loadu_si128((const __m128i *)table), _mm_set1_epi8(add));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), i);
}
/* Macros: gcc 12 drops calls of functions that do nothing but prefetch. */
#define v_prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#define v_prefetch_l1(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
static inline vf v_cast(vi v) { return _mm512_castsi512_ps(v); }
static inline vf v_cvt(vi v) { return _mm512_cvtepi32_ps(v); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_neg(vf a) { return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), v_int(INT32_MIN))); }
static inline vf v_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
static inline vf v_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
static inline vi v_bytes(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(p)); }
static inline vf v_u8(const void *p) { return v_cvt(v_bytes(p)); }
static inline vf v_i8(const void *p) { return v_cvt(_mm512_cvtepi8_epi32(_mm_loadu_si128(p))); }
static inline vf v_low4(const void *p) { return v_cvt(v_and(v_bytes(p), v_int(15))); }
static inline vf v_high4(const void *p) { return v_cvt(_mm512_srli_epi32(v_bytes(p), 4)); }

#endif
