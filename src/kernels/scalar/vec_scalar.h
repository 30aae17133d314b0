/* The vector words of attention_f32.inc in plain C: one float. */
#ifndef KERNELS_SCALAR_VEC_SCALAR_H
#define KERNELS_SCALAR_VEC_SCALAR_H

#include <math.h>
#include <string.h>

#include "tensor/dtype.h"

typedef float vf;
enum { VW = 1 };

static inline vf vf_set1(float a) { return a; }
static inline vf vf_load(const float *p) { return *p; }
static inline void vf_store(float *p, vf a) { *p = a; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; }
static inline vf vf_round(vf a) { return rintf(a); }
static inline vf vf_load_part(const float *p, size_t n) { return n ? *p : 0.0f; }
static inline void vf_store_part(float *p, vf a, size_t n) { if (n) *p = a; }
static inline vf vf_keep(vf a, vf other, size_t n) { return n ? a : other; }
static inline float vf_sum(vf a) { return a; }
static inline float vf_top(vf a) { return a; }
static inline vf vf_scale_down(vf a, vf n) { return n < -126.5f ? 0.0f : ldexpf(a, (int)n); }
static inline void vf_split_f16(const uint16_t *p, vf *even, vf *odd) { *even = f16_to_f32(p[0]); *odd = f16_to_f32(p[1]); }
static inline void vf_split_bf16(const uint16_t *p, vf *even, vf *odd) { *even = bf16_to_f32(p[0]); *odd = bf16_to_f32(p[1]); }
static inline vf vf_from_f16(const uint16_t *p) { return f16_to_f32(*p); }
static inline vf vf_bits(const void *p, unsigned shift, int mask) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return (float)(x >> shift & (uint32_t)mask);
}
static inline void vf_split_i8(const int8_t *p, vf *even, vf *odd) { *even = p[0]; *odd = p[1]; }

#endif
