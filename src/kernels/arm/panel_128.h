/* The vector operations of panel_tile.h in 128 bits (4 of a panel's 16 rows), and the tiles with them. The file that
 * includes this defines dot4(sum, w, a): sum + the 4 sums of 4 products of signed bytes. */
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/matmul_panel.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES ((size_t)4)
#define V_HALVES ((size_t)4)
#define TILE_M 3
#define TILE_N 4
#define FLOAT_M 4          /* tokens and vectors of rows of a tile of floats */
#define FLOAT_N 4

typedef int32x4_t vi;
typedef float32x4_t vf;
static inline vi v_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static inline void v_store(void *p, vi v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
static inline vf v_loadf(const void *p) { return vreinterpretq_f32_u8(vld1q_u8(p)); }
static inline void v_storef(void *p, vf v) { vst1q_u8(p, vreinterpretq_u8_f32(v)); }
static inline vi v_int(int32_t v) { return vdupq_n_s32(v); }
static inline vi v_byte(char v) { return vreinterpretq_s32_u8(vdupq_n_u8((uint8_t)v)); }
static inline vf v_float(float v) { return vdupq_n_f32(v); }
static inline vi v_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi v_or(vi a, vi b) { return vorrq_s32(a, b); }
static inline vi v_add8(vi a, vi b) {
    return vreinterpretq_s32_s8(vaddq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
static inline vi v_up(vi v, int n) { return vshlq_s32(v, vdupq_n_s32(n)); }
static inline vi v_down(vi v, int n) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), vdupq_n_s32(-n))); }
static inline vi v_lookup(const int8_t *table, char add, vi i) {
    const int8x16_t t = vaddq_s8(vld1q_s8(table), vdupq_n_s8((int8_t)add));
    return vreinterpretq_s32_s8(vqtbl1q_s8(t, vreinterpretq_u8_s32(i)));
}
static inline vf v_cvt(vi v) { return vcvtq_f32_s32(v); }
static inline vf v_cast(vi v) { return vreinterpretq_f32_s32(v); }
static inline vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf v_neg(vf a) { return vnegq_f32(a); }
static inline vf v_f16(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
static inline vf v_bf16(const void *p) { return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16)); }
static inline uint32x4_t four_bytes(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(v)))));
}
static inline vf v_u8(const void *p) { return vcvtq_f32_u32(four_bytes(p)); }
static inline vf v_i8(const void *p) {
    const int32x4_t v = vreinterpretq_s32_u32(four_bytes(p));
    return vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(v, 24), 24));
}
static inline vf v_low4(const void *p) { return vcvtq_f32_u32(vandq_u32(four_bytes(p), vdupq_n_u32(15))); }
static inline vf v_high4(const void *p) { return vcvtq_f32_u32(vshrq_n_u32(four_bytes(p), 4)); }
/* Macros: gcc 12 drops calls of functions that do nothing but prefetch. */
#define v_prefetch(p) __builtin_prefetch(p, 0, 2)
#define v_prefetch_l1(p) __builtin_prefetch(p, 0, 3)

/* Both factors are signed: wide codes lose their offset and need no start. */
static inline vi start8(int32_t n) { (void)n; return v_int(0); }
static inline vi dp7(vi sum, vi u, vi a) { return dot4(sum, vreinterpretq_s8_s32(u), vreinterpretq_s8_s32(a)); }
static inline vi dp8(vi sum, vi u, vi a) { return dp7(sum, veorq_s32(u, v_byte((char)0x80)), a); }

#include "kernels/panel_tile.h"
#include "kernels/panel_float.h"

static void quant(act_block *out, const float *x, size_t C) {
    const size_t n_blocks = (C + 255) / 256 * 8;
    for (size_t b = 0; b < n_blocks; b++, x += 32) {
        act_block q = { .d = 0.0f };
        float most = 0.0f;
        bool is_finite = true;
        for (int i = 0; b < C / 32 && i < 32; i++) {
            is_finite = is_finite && isfinite(x[i]);
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        }
        if (!is_finite) q.d = q.dn = NAN;
        else if (most > ACT_TINY) {
            const float inverse = 127.0f / most;
            int32_t lo = 0, hi = 0;
            for (int i = 0; i < 32; i++) q.q[i] = (int8_t)nearbyintf(x[i] * inverse);
            for (int i = 0; i < 16; i++) lo += q.q[i];
            for (int i = 16; i < 32; i++) hi += q.q[i];
            q.d = most / 127.0f;
            q.dn = -q.d * (float)(lo + hi);
            q.n = -128 * (lo + hi);
            q.n_lo = -128 * lo;
        }
        out[b] = q;
    }
}

static void gemm_bf16(const panel_job *j, size_t p0, size_t p1) { float_gemm(true, j, p0, p1); }
static void gemm_f16(const panel_job *j, size_t p0, size_t p1) { float_gemm(false, j, p0, p1); }
