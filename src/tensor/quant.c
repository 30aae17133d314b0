/* The table of packers and the search for scales that they share. */
#include "tensor/quant.h"

#include <math.h>

#include "tensor/quant_int.h"

#define N_TRIALS 12         /* trial scales on each side of "the largest value is the last level", 0.08 levels apart */
#define N_ROUNDS 3          /* rounds of: codes for d, d for codes */

static const struct { enum ern_dtype t; void (*pack)(uint8_t *, const float *, const float *); } packers[] = {
    { DTYPE_Q8_0, pack_Q8_0 },     { DTYPE_Q4_0, pack_Q4_0 }, { DTYPE_Q4_1, pack_Q4_1 }, { DTYPE_Q5_0, pack_Q5_0 },
    { DTYPE_Q5_1, pack_Q5_1 },     { DTYPE_Q2_K, pack_Q2_K }, { DTYPE_Q3_K, pack_Q3_K }, { DTYPE_Q4_K, pack_Q4_K },
    { DTYPE_Q5_K, pack_Q5_K },     { DTYPE_Q6_K, pack_Q6_K }, { DTYPE_IQ4_NL, pack_IQ4_NL },
    { DTYPE_IQ4_XS, pack_IQ4_XS }, { DTYPE_MXFP4, pack_MXFP4 },
};

static bool is_plain(enum ern_dtype t) { return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16; }

bool quant_has(enum ern_dtype t) {
    for (size_t i = 0; i < sizeof packers / sizeof packers[0]; i++)
        if (packers[i].t == t) return true;
    return is_plain(t);
}

static void pack_plain(enum ern_dtype t, uint8_t *out, const float *x, size_t n) {
    if (t == DTYPE_F32) { if (n) memcpy(out, x, n * sizeof *x); return; }
    for (size_t i = 0; i < n; i++) write_u16(out + 2 * i, t == DTYPE_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]));
}

bool quant_row(enum ern_dtype t, void *out, const float *x, size_t n, const float *importance, ern_err *e) {
    static const float limit = 65504.0f;        /* the largest f16: every block scale but BF16's must fit in one */
    const ern_dtype_info *info = dtype_info(t);
    void (*pack)(uint8_t *, const float *, const float *) = NULL;
    float ones[256];
    if (!info || !quant_has(t)) return ern_fail(e, ERN_MISSING, "number format %s: no packer", info ? info->name : "?");
    if (n % info->block_n)
        return ern_fail(e, ERN_ARG, "%s: rows of %zu values, a multiple of %zu wanted", info->name, n, info->block_n);
    const bool is_wide = t == DTYPE_F32 || t == DTYPE_BF16;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]) || (!is_wide && fabsf(x[i]) > limit))
            return ern_fail(e, ERN_FORMAT, "%s: value %zu is %g: cannot be packed", info->name, i, (double)x[i]);
    for (size_t i = 0; importance && i < n; i++)
        if (!(importance[i] >= 0.0f) || !isfinite(importance[i]))
            return ern_fail(e, ERN_FORMAT, "%s: importance of column %zu is %g: 0 or more wanted", info->name, i,
                            (double)importance[i]);
    if (is_plain(t)) { pack_plain(t, out, x, n); return true; }
    for (size_t i = 0; i < sizeof packers / sizeof packers[0]; i++)
        if (packers[i].t == t) pack = packers[i].pack;
    for (size_t i = 0; i < 256; i++) ones[i] = 1.0f;
    for (size_t b = 0; b < n / info->block_n; b++) {
        const float *w = ones;
        float total = 0.0f;
        for (size_t i = 0; importance && i < info->block_n; i++) total += importance[b * info->block_n + i];
        if (total > 0.0f) w = importance + b * info->block_n;       /* a block no activation touched: plain error */
        pack((uint8_t *)out + b * info->block_bytes, x + b * info->block_n, w);
    }
    return true;
}

double quant_codes(const quant_levels *l, float d, const float *x, const float *w, size_t n, int8_t *codes) {
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    double error = 0.0;
    for (size_t i = 0; i < n; i++) {
        const int c = quant_code(l, isfinite(inverse) ? x[i] * inverse : 0.0f);
        const float off = x[i] - d * quant_level(l, c);
        codes[i] = (int8_t)c;
        error += (double)(w[i] * off * off);
    }
    return error;
}

/* The best d for the codes that inverse gives; *gain = how much of sum w x^2 it explains. */
static float best_d(const quant_levels *l, float inverse, const float *x, const float *w, size_t n, double *gain) {
    float xl = 0.0f, ll = 0.0f;
    for (size_t i = 0; i < n; i++) {
        const float v = quant_level(l, quant_code(l, x[i] * inverse));
        xl += w[i] * x[i] * v;
        ll += w[i] * v * v;
    }
    *gain = ll > 0.0f ? (double)xl * (double)xl / (double)ll : 0.0;
    return ll > 0.0f ? xl / ll : 0.0f;
}

float quant_fit(const quant_levels *l, const float *x, const float *w, size_t n, int8_t *codes) {
    float top = 0.0f, d = 0.0f;
    double gain = 0.0, best = 0.0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    const float low = quant_level(l, l->table ? 0 : l->low), high = quant_level(l, l->table ? 15 : l->high);
    const float step = 0.08f * (l->table ? 8.0f : 1.0f);
    for (int side = 0; side < 2 && fabsf(top) > 1e-30f; side++)
        for (int k = -N_TRIALS; k <= N_TRIALS; k++) {
            const float edge = (side ? high : low) + step * (float)k;
            if (edge == 0.0f) continue;
            const float trial = best_d(l, edge / top, x, w, n, &gain);
            if (gain > best) { best = gain; d = trial; }
        }
    for (int round = 0; round < N_ROUNDS && d != 0.0f; round++) {
        const float better = best_d(l, 1.0f / d, x, w, n, &gain);
        if (gain <= best) break;
        best = gain;
        d = better;
    }
    quant_codes(l, d, x, w, n, codes);
    return d;
}

double quant_codes_affine(int top, float d, float m, const float *x, const float *w, size_t n, int8_t *q) {
    const quant_levels l = { 0, top, NULL };
    const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
    double error = 0.0;
    for (size_t i = 0; i < n; i++) {
        const int c = quant_code(&l, isfinite(inverse) ? (x[i] + m) * inverse : 0.0f);
        const float off = x[i] - (d * (float)c - m);
        q[i] = (int8_t)c;
        error += (double)(w[i] * off * off);
    }
    return error;
}

/* Least squares of x = d q - m for fixed q; false when q is constant. */
static bool solve(const float *x, const float *w, size_t n, const int8_t *q, bool m_is_positive, float *d, float *m) {
    double sw = 0, sx = 0, sq = 0, sqq = 0, sxq = 0;
    for (size_t i = 0; i < n; i++) {
        const double wi = (double)w[i], xi = (double)x[i], qi = q[i];
        sw += wi; sx += wi * xi; sq += wi * qi; sqq += wi * qi * qi; sxq += wi * xi * qi;
    }
    const double det = sw * sqq - sq * sq;
    if (!(det > 1e-12 * sw * sqq)) return false;
    double slope = (sw * sxq - sx * sq) / det, offset = -(sqq * sx - sq * sxq) / det;
    if (m_is_positive && offset < 0.0) {
        offset = 0.0;
        slope = sqq > 0.0 ? sxq / sqq : 0.0;
    }
    if (!(slope > 0.0)) return false;
    *d = (float)slope;
    *m = (float)offset;
    return true;
}

float quant_fit_affine(int top, bool m_is_positive, const float *x, const float *w, size_t n, int8_t *q, float *m_out) {
    int8_t trial[QUANT_MAX_SUB];
    float low = x[0], high = x[0], d, m;
    for (size_t i = 1; i < n; i++) {
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
    }
    if (m_is_positive && low > 0.0f) low = 0.0f;
    if (!(high - low > 1e-30f)) {                   /* constant: all q 0 and the minimum carries it, or d alone does */
        *m_out = m_is_positive && low > 0.0f ? 0.0f : -low;
        memset(q, 0, n);
        return 0.0f;
    }
    float best_scale = (high - low) / (float)top, best_m = -low;
    double best = quant_codes_affine(top, best_scale, best_m, x, w, n, q);
    for (int k = -N_TRIALS; k <= N_TRIALS; k++) {
        d = (high - low) / ((float)top + 0.08f * (float)k);
        m = -low;
        if (!(d > 0.0f) || !isfinite(d)) continue;
        quant_codes_affine(top, d, m, x, w, n, trial);
        for (int round = 0; round < N_ROUNDS && solve(x, w, n, trial, m_is_positive, &d, &m); round++) {
            const double error = quant_codes_affine(top, d, m, x, w, n, trial);
            if (error >= best) continue;
            best = error;
            best_scale = d;
            best_m = m;
        }
    }
    quant_codes_affine(top, best_scale, best_m, x, w, n, q);
    *m_out = best_m;
    return best_scale;
}
