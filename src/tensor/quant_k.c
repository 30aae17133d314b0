/* Packers of the "K" formats and IQ4_XS: 256 values in sub-blocks whose scales are quantised too; layouts in
 * dequant_k.c and dequant_iq.c.
 *
 * Each sub-block is fitted alone; the block scale d comes from the largest fitted scale; then every sub-block chooses
 * its integer scale (and minimum) again among the neighbours for that d, and d is solved for the codes chosen. */
#include <math.h>

#include "tensor/quant_int.h"

#define N 256
#define MAX_SUBS 16

/* ---- one scale a sub-block: Q3_K, Q6_K, IQ4_XS ------------------------------------------------ */

typedef struct { const quant_levels *l; size_t n_sub; int low, high; } scaled_format;     /* integer scales low..high */

/* Integer scale and codes of one sub-block for block scale d. */
static int choose_scale(const scaled_format *f, float d, float wanted, const float *x, const float *w, size_t n,
                        int8_t *codes) {
    int8_t trial[QUANT_MAX_SUB];
    const float at = d != 0.0f ? wanted / d : 0.0f;
    const int middle = (int)lrintf(fminf(fmaxf(at, (float)f->low), (float)f->high));
    int best_scale = 0;
    double best = INFINITY;
    for (int s = middle - 1; s <= middle + 1; s++) {
        if (s < f->low || s > f->high) continue;
        const double error = quant_codes(f->l, d * (float)s, x, w, n, trial);
        if (error >= best) continue;
        best = error;
        best_scale = s;
        memcpy(codes, trial, n);
    }
    return best_scale;
}

/* d as f16 at d_at, integer scales[N / n_sub], codes[256]. */
static void pack_scaled(const scaled_format *f, uint8_t *d_at, int8_t *scales, int8_t *codes, const float *x,
                        const float *w) {
    const size_t n = f->n_sub, n_subs = N / n;
    float fitted[MAX_SUBS], top = 0.0f;
    for (size_t s = 0; s < n_subs; s++) {
        fitted[s] = quant_fit(f->l, x + s * n, w + s * n, n, codes + s * n);
        if (fabsf(fitted[s]) > fabsf(top)) top = fitted[s];
    }
    float d = write_f16(d_at, top / (float)f->low);         /* |low| > high: the largest scale sits on the longer side */
    for (int round = 0; round < 2; round++) {
        double xl = 0.0, ll = 0.0;
        for (size_t s = 0; s < n_subs; s++) {
            scales[s] = (int8_t)choose_scale(f, d, fitted[s], x + s * n, w + s * n, n, codes + s * n);
            for (size_t i = s * n; i < (s + 1) * n; i++) {
                const double v = (double)((float)scales[s] * quant_level(f->l, codes[i]));
                xl += (double)w[i] * (double)x[i] * v;
                ll += (double)w[i] * v * v;
            }
        }
        if (round == 0 && ll > 0.0) d = write_f16(d_at, (float)(xl / ll));
    }
}

/* 256 values of 2 bits: 32 bytes hold 128 values, 4 planes of 32. */
static void put_2bit(uint8_t *out, const uint8_t *q) {
    memset(out, 0, 64);
    for (size_t i = 0; i < N; i++) out[i / 128 * 32 + i % 32] |= (uint8_t)((q[i] & 3) << (i / 32 % 4 * 2));
}

/* 64 values in 32 bytes: low nibbles, then high ones. */
static void put_4bit(uint8_t *out, const uint8_t *q) {
    memset(out, 0, 128);
    for (size_t i = 0; i < N; i++) out[i / 64 * 32 + i % 32] |= (uint8_t)((q[i] & 15) << (i / 32 % 2 * 4));
}

void pack_Q3_K(uint8_t *out, const float *x, const float *w) {
    static const quant_levels l = { -4, 3, NULL };
    static const scaled_format f = { &l, 16, -32, 31 };
    int8_t scales[16], codes[N];
    uint8_t low[N];
    memset(out, 0, 110);
    pack_scaled(&f, out + 108, scales, codes, x, w);
    for (size_t i = 0; i < N; i++) {
        const int q = codes[i] + 4;
        low[i] = (uint8_t)(q & 3);
        out[i % 32] |= (uint8_t)((q >> 2) << (i / 32));
    }
    put_2bit(out + 32, low);
    for (size_t s = 0; s < 16; s++) {
        const int v = scales[s] + 32;
        out[96 + s % 8] |= (uint8_t)((v & 15) << (s < 8 ? 0 : 4));
        out[96 + 8 + s % 4] |= (uint8_t)((v >> 4) << (2 * (s / 4)));
    }
}

void pack_Q6_K(uint8_t *out, const float *x, const float *w) {
    static const quant_levels l = { -32, 31, NULL };
    static const scaled_format f = { &l, 16, -128, 127 };
    int8_t scales[16], codes[N];
    uint8_t high[N];
    memset(out, 0, 210);
    pack_scaled(&f, out + 208, scales, codes, x, w);
    for (size_t i = 0; i < N; i++) {
        const int q = codes[i] + 32;
        out[i / 128 * 64 + i % 64] |= (uint8_t)((q & 15) << (i / 64 % 2 * 4));
        high[i] = (uint8_t)(q >> 4);
    }
    put_2bit(out + 128, high);
    memcpy(out + 192, scales, 16);
}

void pack_IQ4_XS(uint8_t *out, const float *x, const float *w) {
    static const quant_levels l = { 0, 15, iq4_nl_values };
    static const scaled_format f = { &l, 32, -32, 31 };
    int8_t scales[8], codes[N];
    memset(out, 0, 136);
    pack_scaled(&f, out, scales, codes, x, w);
    for (size_t s = 0; s < 8; s++) {
        const int v = scales[s] + 32;
        out[4 + s / 2] |= (uint8_t)((v & 15) << (s % 2 * 4));
        out[2 + s / 4] |= (uint8_t)((v >> 4) << (2 * (s % 4)));
        for (size_t i = 0; i < 16; i++)
            out[8 + s * 16 + i] = (uint8_t)(codes[s * 32 + i] | codes[s * 32 + 16 + i] << 4);
    }
}

/* ---- a scale and a minimum a sub-block: Q2_K, Q4_K, Q5_K --------------------------------------- */

/* q 0..top, integer scale and minimum 0..scale_top */
typedef struct { int top; size_t n_sub; int scale_top; } affine_format;

static void choose_affine(const affine_format *f, float d, float dmin, float scale, float m, const float *x, const float *w,
                          uint8_t *s_out, uint8_t *m_out, int8_t *q) {
    float scales[QUANT_LANES] = { 0 }, minima[QUANT_LANES] = { 0 };
    double errors[QUANT_LANES];
    const int s0 = d > 0.0f ? (int)lrintf(fminf(scale / d, (float)f->scale_top)) : 0;
    const int m0 = dmin > 0.0f ? (int)lrintf(fminf(m / dmin, (float)f->scale_top)) : 0;
    double best = INFINITY;
    for (int t = 0; t < 9; t++) {
        scales[t] = d * (float)(s0 - 1 + t / 3);
        minima[t] = dmin * (float)(m0 - 1 + t % 3);
    }
    quant_errors_affine(f->top, scales, minima, x, w, f->n_sub, errors);
    for (int t = 0; t < 9; t++) {
        const int s = s0 - 1 + t / 3, k = m0 - 1 + t % 3;
        if (s < 0 || s > f->scale_top || k < 0 || k > f->scale_top || errors[t] >= best) continue;
        best = errors[t];
        *s_out = (uint8_t)s;
        *m_out = (uint8_t)k;
    }
    if (best < INFINITY) quant_codes_affine(f->top, d * (float)*s_out, dmin * (float)*m_out, x, w, f->n_sub, q);
}

/* d and dmin for fixed integers: least squares of x = d (s q) - dmin m over the block. */
static bool solve_block(const affine_format *f, const uint8_t *scales, const uint8_t *minima, const int8_t *q,
                        const float *x,
                        const float *w, float *d, float *dmin) {
    double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (size_t i = 0; i < N; i++) {
        const double a = (double)scales[i / f->n_sub] * q[i], b = -(double)minima[i / f->n_sub], wi = (double)w[i], xi =
            (double)x[i];
        aa += wi * a * a; ab += wi * a * b; bb += wi * b * b; xa += wi * xi * a; xb += wi * xi * b;
    }
    const double det = aa * bb - ab * ab;
    if (!(det > 1e-9 * aa * bb)) return false;
    const double scale = (xa * bb - xb * ab) / det, min = (xb * aa - xa * ab) / det;
    if (!(scale > 0.0) || !(min >= 0.0)) return false;
    *d = (float)scale;
    *dmin = (float)min;
    return true;
}

static void pack_affine_block(const affine_format *f, uint8_t *d_at, uint8_t *dmin_at, uint8_t *scales, uint8_t *minima,
                              int8_t *q, const float *x, const float *w) {
    const size_t n = f->n_sub, n_subs = N / n;
    float fitted[MAX_SUBS], m[MAX_SUBS], top = 0.0f, top_m = 0.0f;
    for (size_t s = 0; s < n_subs; s++) {
        fitted[s] = quant_fit_affine(f->top, true, x + s * n, w + s * n, n, q + s * n, &m[s]);
        top = fmaxf(top, fitted[s]);
        top_m = fmaxf(top_m, m[s]);
    }
    float d = write_f16(d_at, top / (float)f->scale_top), dmin = write_f16(dmin_at, top_m / (float)f->scale_top);
    for (int round = 0; round < 2; round++) {
        for (size_t s = 0; s < n_subs; s++) {
            scales[s] = minima[s] = 0;
            choose_affine(f, d, dmin, fitted[s], m[s], x + s * n, w + s * n, &scales[s], &minima[s], q + s * n);
        }
        float better_d, better_min;
        if (round || !solve_block(f, scales, minima, q, x, w, &better_d, &better_min)) break;
        d = write_f16(d_at, better_d);
        dmin = write_f16(dmin_at, better_min);
    }
}

void pack_Q2_K(uint8_t *out, const float *x, const float *w) {
    static const affine_format f = { 3, 16, 15 };
    uint8_t scales[16], minima[16];
    int8_t q[N];
    memset(out, 0, 84);
    pack_affine_block(&f, out + 80, out + 82, scales, minima, q, x, w);
    for (size_t s = 0; s < 16; s++) out[s] = (uint8_t)(scales[s] | minima[s] << 4);
    put_2bit(out + 16, (const uint8_t *)q);
}

/* The 12 bytes that k4_scale_min (dequant.h) reads. */
static void put_k4_scales(uint8_t *out, const uint8_t *scales, const uint8_t *minima) {
    for (size_t s = 0; s < 4; s++) {
        out[s] = (uint8_t)(scales[s] | (scales[s + 4] >> 4) << 6);
        out[s + 4] = (uint8_t)(minima[s] | (minima[s + 4] >> 4) << 6);
        out[s + 8] = (uint8_t)((scales[s + 4] & 15) | (minima[s + 4] & 15) << 4);
    }
}

void pack_Q4_K(uint8_t *out, const float *x, const float *w) {
    static const affine_format f = { 15, 32, 63 };
    uint8_t scales[8], minima[8];
    int8_t q[N];
    pack_affine_block(&f, out, out + 2, scales, minima, q, x, w);
    put_k4_scales(out + 4, scales, minima);
    put_4bit(out + 16, (const uint8_t *)q);
}

void pack_Q5_K(uint8_t *out, const float *x, const float *w) {
    static const affine_format f = { 31, 32, 63 };
    uint8_t scales[8], minima[8];
    int8_t q[N];
    memset(out, 0, 176);
    pack_affine_block(&f, out, out + 2, scales, minima, q, x, w);
    put_k4_scales(out + 4, scales, minima);
    for (size_t i = 0; i < N; i++) out[16 + i % 32] |= (uint8_t)((q[i] >> 4 & 1) << (i / 32));
    put_4bit(out + 48, (const uint8_t *)q);
}
