/* Packers of the formats with one block of 32 values; layouts in dequant_legacy.c. */
#include <math.h>

#include "tensor/quant_int.h"

static void put_nibbles(uint8_t *out, const int8_t *codes, int zero) {
    for (size_t i = 0; i < 16; i++)
        out[i] = (uint8_t)(((codes[i] + zero) & 15) | ((codes[i + 16] + zero) & 15) << 4);
}

static void put_fifth_bits(uint8_t *out, const int8_t *codes, int zero) {
    uint32_t high = 0;
    for (size_t i = 0; i < 32; i++) high |= (uint32_t)((codes[i] + zero) >> 4 & 1) << i;
    for (size_t i = 0; i < 4; i++) out[i] = (uint8_t)(high >> (8 * i));
}

/* 8 bits need no search: the step is so small that the largest value decides it. */
void pack_Q8_0(uint8_t *out, const float *x, const float *w) {
    static const quant_levels l = { -127, 127, NULL };
    int8_t codes[32];
    float top = 0.0f;
    for (size_t i = 0; i < 32; i++) top = fmaxf(top, fabsf(x[i]));
    const float d = top / 127.0f;
    write_f16(out, d);
    quant_codes(&l, d, x, w, 32, codes);
    memcpy(out + 2, codes, 32);
}

static void pack_symmetric(uint8_t *out, const quant_levels *l, const float *x, const float *w, int8_t *codes) {
    const float d = write_f16(out, quant_fit(l, x, w, 32, codes));
    quant_codes(l, d, x, w, 32, codes);
}

void pack_Q4_0(uint8_t *out, const float *x, const float *w) {
    static const quant_levels l = { -8, 7, NULL };
    int8_t codes[32];
    pack_symmetric(out, &l, x, w, codes);
    put_nibbles(out + 2, codes, 8);
}

void pack_Q5_0(uint8_t *out, const float *x, const float *w) {
    static const quant_levels l = { -16, 15, NULL };
    int8_t codes[32];
    pack_symmetric(out, &l, x, w, codes);
    put_fifth_bits(out + 2, codes, 16);
    put_nibbles(out + 6, codes, 16);
}

void pack_IQ4_NL(uint8_t *out, const float *x, const float *w) {
    static const quant_levels l = { 0, 15, iq4_nl_values };
    int8_t codes[32];
    pack_symmetric(out, &l, x, w, codes);
    put_nibbles(out + 2, codes, 0);
}

static void pack_affine(uint8_t *out, int top, const float *x, const float *w, int8_t *q) {
    float m;
    const float fitted = quant_fit_affine(top, false, x, w, 32, q, &m);
    const float d = write_f16(out, fitted), low = write_f16(out + 2, -m);
    quant_codes_affine(top, d, -low, x, w, 32, q);
}

void pack_Q4_1(uint8_t *out, const float *x, const float *w) {
    int8_t q[32];
    pack_affine(out, 15, x, w, q);
    put_nibbles(out + 4, q, 0);
}

void pack_Q5_1(uint8_t *out, const float *x, const float *w) {
    int8_t q[32];
    pack_affine(out, 31, x, w, q);
    put_fifth_bits(out + 4, q, 0);
    put_nibbles(out + 8, q, 0);
}

/* The scale is a power of two: the one that the largest value suggests, its neighbours tried. Codes are not in the
 * order of their values (8 to 15 are negative), so the level is searched among the 8 magnitudes. */
void pack_MXFP4(uint8_t *out, const float *x, const float *w) {
    float top = 0.0f;
    int exponent = 0;
    double best = INFINITY;
    uint8_t codes[32], kept[32] = { 0 };
    for (size_t i = 0; i < 32; i++) top = fmaxf(top, fabsf(x[i]));
    out[0] = 0;
    if (top > 0.0f) frexpf(top, &exponent);             /* top = m 2^exponent, 0.5 <= m < 1; the largest level is 6 */
    for (int k = exponent - 4; k <= exponent - 1 && top > 0.0f; k++) {
        const int biased = k + 127;
        if (biased < 0 || biased > 254) continue;
        const float half = e8m0_half((uint8_t)biased);
        double error = 0.0;
        for (size_t i = 0; i < 32; i++) {
            const float a = fabsf(x[i]) / half;
            unsigned c = 0;
            for (unsigned j = 0; j < 7; j++) c += 2.0f * a > (float)(mxfp4_values[j] + mxfp4_values[j + 1]);
            const float off = fabsf(x[i]) - half * (float)mxfp4_values[c];
            codes[i] = (uint8_t)(c | (x[i] < 0.0f ? 8u : 0u));
            error += (double)(w[i] * off * off);
        }
        if (error >= best) continue;
        best = error;
        out[0] = (uint8_t)biased;
        memcpy(kept, codes, sizeof kept);
    }
    for (size_t i = 0; i < 16; i++) out[1 + i] = (uint8_t)(kept[i] | kept[i + 16] << 4);
}
