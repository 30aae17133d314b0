/* The vector words of elementwise.inc and attention_f32.inc for NEON: 4 floats. */
#ifndef KERNELS_ARM_VEC_NEON_H
#define KERNELS_ARM_VEC_NEON_H

#include <stdint.h>
#include <string.h>

#if defined(__aarch64__)          /* the flag stands on the files that use it */
#include <arm_neon.h>

typedef float32x4_t vf;
enum { VW = 4 };

static inline vf vf_set1(float a) { return vdupq_n_f32(a); }
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf a) { vst1q_f32(p, a); }
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_max(vf a, vf b) { return vmaxnmq_f32(a, b); }
static inline vf vf_min(vf a, vf b) { return vminnmq_f32(a, b); }
static inline vf vf_round(vf a) { return vrndnq_f32(a); }
static inline vf vf_abs(vf a) { return vabsq_f32(a); }
static inline vf vf_copysign(vf a, vf s) { return vbslq_f32(vdupq_n_u32(0x80000000u), s, a); }

static inline vf vf_load_part(const float *p, size_t n) {
    float lanes[4] = { 0 };
    memcpy(lanes, p, n * sizeof *p);
    return vld1q_f32(lanes);
}
static inline void vf_store_part(float *p, vf a, size_t n) {
    float lanes[4];
    vst1q_f32(lanes, a);
    memcpy(p, lanes, n * sizeof *p);
}
static inline vf vf_keep(vf a, vf other, size_t n) {    /* a in the first n lanes, other in the rest */
    const uint32_t index[4] = { 0, 1, 2, 3 };
    return vbslq_f32(vcltq_u32(vld1q_u32(index), vdupq_n_u32((uint32_t)n)), a, other);
}

static inline float vf_sum(vf a) { return vaddvq_f32(a); }
static inline float vf_top(vf a) { return vmaxnmvq_f32(a); }

/* a * 2^n for whole n; 0 below the normal range, infinity above it. Two steps, because 2^128 has no float. */
static inline vf vf_scale2(vf a, vf n) {
    const int32x4_t whole = vcvtnq_s32_f32(vf_min(vf_max(n, vf_set1(-200.0f)), vf_set1(200.0f)));
    const int32x4_t first = vshrq_n_s32(whole, 1), second = vsubq_s32(whole, first), bias = vdupq_n_s32(127);
    a = vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(first, bias), 23)));
    a = vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(second, bias), 23)));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vcgtq_f32(n, vf_set1(-126.5f))));
}

/* a * 2^n for whole n <= 0; 0 below 2^-126. */
static inline vf vf_scale_down(vf a, vf n) {
    const int32x4_t e = vaddq_s32(vcvtnq_s32_f32(vf_max(n, vf_set1(-127.0f))), vdupq_n_s32(127));
    return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(e, 23)));
}

static inline vf vf_swap(vf a) { return vrev64q_f32(a); }                           /* a1 a0 a3 a2 */
static inline vf vf_twice_low(vf a) { return vzip1q_f32(a, a); }                    /* a0 a0 a1 a1 */
static inline vf vf_twice_high(vf a) { return vzip2q_f32(a, a); }
static inline vf vf_fmaddsub(vf a, vf b, vf c) {                                    /* a*b - c, a*b + c, ... */
    const uint32_t sign[4] = { 0x80000000u, 0, 0x80000000u, 0 };
    return vfmaq_f32(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(c), vld1q_u32(sign))), a, b);
}

static inline vf vf_from_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline void vf_to_f16(uint16_t *p, vf a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
static inline vf vf_from_bf16(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
/* Pairs of halves: the firsts to *even, the seconds to *odd. */
static inline void vf_split_f16(const uint16_t *p, vf *even, vf *odd) {
    const uint16x4x2_t x = vld2_u16(p);
    *even = vcvt_f32_f16(vreinterpret_f16_u16(x.val[0]));
    *odd = vcvt_f32_f16(vreinterpret_f16_u16(x.val[1]));
}
static inline void vf_split_bf16(const uint16_t *p, vf *even, vf *odd) {
    const uint16x4x2_t x = vld2_u16(p);
    *even = vreinterpretq_f32_u32(vshll_n_u16(x.val[0], 16));
    *odd = vreinterpretq_f32_u32(vshll_n_u16(x.val[1], 16));
}
/* (VW words >> shift) & mask */
static inline vf vf_bits(const void *p, unsigned shift, int mask) {
    uint32_t words[4];
    memcpy(words, p, sizeof words);
    const uint32x4_t x = vshlq_u32(vld1q_u32(words), vdupq_n_s32(-(int)shift));
    return vcvtq_f32_u32(vandq_u32(x, vdupq_n_u32((uint32_t)mask)));
}
static inline void vf_split_i8(const int8_t *p, vf *even, vf *odd) {
    const int32x4_t x = vreinterpretq_s32_s16(vmovl_s8(vld1_s8(p)));
    *even = vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(x, 16), 16));
    *odd = vcvtq_f32_s32(vshrq_n_s32(x, 16));
}
static inline void vf_to_bf16(uint16_t *p, vf a) {
    const uint32x4_t u = vreinterpretq_u32_f32(a), high = vshrq_n_u32(u, 16);
    const uint32x4_t up = vaddq_u32(vandq_u32(high, vdupq_n_u32(1)), vdupq_n_u32(0x7fff));
    const uint32x4_t r = vshrq_n_u32(vaddq_u32(u, up), 16), quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    vst1_u16(p, vmovn_u32(vbslq_u32(vceqq_f32(a, a), r, quiet)));
}

#endif
#endif
