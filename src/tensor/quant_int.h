/* What the packers share: fitting one sub-block of at most 32 values to integer levels. */
#ifndef TENSOR_QUANT_INT_H
#define TENSOR_QUANT_INT_H

#include "tensor/dequant.h"
#include "tensor/quant.h"

#define QUANT_MAX_SUB 32

/* Levels a value may take: low..high, or the 16 ascending entries of table (then a level's code is its index). */
typedef struct { int low, high; const int8_t *table; } quant_levels;

#define QUANT_ROUND 12582912.0f     /* 1.5 * 2^23: added and taken away it rounds half to even */

static inline int quant_code(const quant_levels *l, float v) {
    if (l->table) {
        int code = 0;
        for (int i = 0; i < 15; i++) code += 2.0f * v > (float)(l->table[i] + l->table[i + 1]);
        return code;
    }
    const float low = (float)l->low, high = (float)l->high;
    const float c = v < low ? low : v > high ? high : v;
    return (int)((c + QUANT_ROUND) - QUANT_ROUND);
}

static inline float quant_level(const quant_levels *l, int code) { return (float)(l->table ? l->table[code] : code); }

/* d that minimises sum w (x - d level)^2 over a search of d; codes[n] for it. */
float quant_fit(const quant_levels *l, const float *x, const float *w, size_t n, int8_t *codes);

/* The codes for a given d; returns the error. d = 0: every code is the level nearest 0. */
double quant_codes(const quant_levels *l, float d, const float *x, const float *w, size_t n, int8_t *codes);

/* d >= 0 and m >= 0 (K formats) or any m: minimise sum w (x - (d q - m))^2, q in 0..top. */
float quant_fit_affine(int top, bool m_is_positive, const float *x, const float *w, size_t n, int8_t *q, float *m);
double quant_codes_affine(int top, float d, float m, const float *x, const float *w, size_t n, int8_t *q);

/* The error of quant_codes_affine for QUANT_LANES trials at once. Each trial is summed in the same order as alone, so that
 * the choice among them does not depend on how they are grouped. */
#define QUANT_LANES 12
void quant_errors_affine(int top, const float d[QUANT_LANES], const float m[QUANT_LANES], const float *x, const float *w,
                         size_t n, double error[QUANT_LANES]);

/* One format each: a block of x at out. w[256 or 32]. */
void pack_Q8_0(uint8_t *out, const float *x, const float *w);
void pack_Q4_0(uint8_t *out, const float *x, const float *w);
void pack_Q4_1(uint8_t *out, const float *x, const float *w);
void pack_Q5_0(uint8_t *out, const float *x, const float *w);
void pack_Q5_1(uint8_t *out, const float *x, const float *w);
void pack_IQ4_NL(uint8_t *out, const float *x, const float *w);
void pack_MXFP4(uint8_t *out, const float *x, const float *w);
void pack_Q2_K(uint8_t *out, const float *x, const float *w);
void pack_Q3_K(uint8_t *out, const float *x, const float *w);
void pack_Q4_K(uint8_t *out, const float *x, const float *w);
void pack_Q5_K(uint8_t *out, const float *x, const float *w);
void pack_Q6_K(uint8_t *out, const float *x, const float *w);
void pack_IQ4_XS(uint8_t *out, const float *x, const float *w);

static inline void write_u16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v; p[1] = (uint8_t)(v >> 8); }
/* Store d as f16 and return what a reader will see. */
static inline float write_f16(uint8_t *p, float d) {
    write_u16(p, f32_to_f16(d));
    return read_f16(p);
}

#endif
