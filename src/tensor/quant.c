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

/* ---- many trials side by side ------------------------------------------------------------------ */

#define FIT_LANES 52        /* trials of quant_fit at once: all of them, in fours */
#define AFFINE_LANES 28     /* the same of quant_fit_affine */

/* best_d for FIT_LANES inverses. */
static void best_ds(const quant_levels *l, const float *inverse, const float *x, const float *w, size_t n, float *d,
                    double *gain) {
    const float low = (float)l->low, high = (float)l->high;
    float xl[FIT_LANES] = { 0 }, ll[FIT_LANES] = { 0 }, v[FIT_LANES];
    for (size_t i = 0; i < n; i++) {
        const float wi = w[i], xi = x[i], wx = wi * xi;
        if (l->table) {
            for (int k = 0; k < FIT_LANES; k++) v[k] = (float)l->table[0];
            for (int t = 0; t < 15; t++) {          /* above the middle between two levels it is the upper one, at least */
                const float middle = (float)(l->table[t] + l->table[t + 1]), step = (float)(l->table[t + 1] - l->table[t]);
                for (int k = 0; k < FIT_LANES; k++) v[k] += 2.0f * (xi * inverse[k]) > middle ? step : 0.0f;
            }
        } else {
            for (int k = 0; k < FIT_LANES; k++) {
                const float c = xi * inverse[k];
                v[k] = ((c < low ? low : c > high ? high : c) + QUANT_ROUND) - QUANT_ROUND;
            }
        }
        for (int k = 0; k < FIT_LANES; k++) {
            xl[k] += wx * v[k];
            ll[k] += wi * v[k] * v[k];
        }
    }
    for (int k = 0; k < FIT_LANES; k++) {
        gain[k] = ll[k] > 0.0f ? (double)xl[k] * (double)xl[k] / (double)ll[k] : 0.0;
        d[k] = ll[k] > 0.0f ? xl[k] / ll[k] : 0.0f;
    }
}

float quant_fit(const quant_levels *l, const float *x, const float *w, size_t n, int8_t *codes) {
    float top = 0.0f, d = 0.0f, inverses[FIT_LANES] = { 0 }, trials[FIT_LANES];
    double gain = 0.0, best = 0.0, gains[FIT_LANES];
    size_t n_trials = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    const float low = quant_level(l, l->table ? 0 : l->low), high = quant_level(l, l->table ? 15 : l->high);
    const float step = 0.08f * (l->table ? 8.0f : 1.0f);
    for (int side = 0; side < 2 && fabsf(top) > 1e-30f; side++)
        for (int k = -N_TRIALS; k <= N_TRIALS; k++) {
            const float edge = (side ? high : low) + step * (float)k;
            if (edge != 0.0f) inverses[n_trials++] = edge / top;
        }
    if (n_trials) best_ds(l, inverses, x, w, n, trials, gains);
    for (size_t k = 0; k < n_trials; k++)
        if (gains[k] > best) { best = gains[k]; d = trials[k]; }
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

static float finite_inverse(float d) {
    const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
    return isfinite(inverse) ? inverse : 0.0f;
}

/* quant_codes_affine for AFFINE_LANES trials; q [n, AFFINE_LANES] gets the codes. */
static void codes_affine(int top, const float *d, const float *m, const float *x, const float *w, size_t n, float *q,
                         double *error) {
    const float high = (float)top;
    float inverse[AFFINE_LANES];
    double sums[AFFINE_LANES] = { 0 };
    for (int k = 0; k < AFFINE_LANES; k++) inverse[k] = finite_inverse(d[k]);
    for (size_t i = 0; i < n; i++) {
        const float xi = x[i], wi = w[i];
        float *row = q + i * AFFINE_LANES;
        for (int k = 0; k < AFFINE_LANES; k++) {
            const float v = (xi + m[k]) * inverse[k], c = v < 0.0f ? 0.0f : v > high ? high : v;
            const float code = (c + QUANT_ROUND) - QUANT_ROUND, off = xi - (d[k] * code - m[k]);
            row[k] = code;
            sums[k] += (double)(wi * off * off);
        }
    }
    memcpy(error, sums, sizeof sums);
}

void quant_errors_affine(int top, const float d[QUANT_LANES], const float m[QUANT_LANES], const float *x, const float *w,
                         size_t n, double error[QUANT_LANES]) {
    const float high = (float)top;
    float inverse[QUANT_LANES];
    double sums[QUANT_LANES] = { 0 };
    for (int k = 0; k < QUANT_LANES; k++) inverse[k] = finite_inverse(d[k]);
    for (size_t i = 0; i < n; i++) {
        const float xi = x[i], wi = w[i];
        for (int k = 0; k < QUANT_LANES; k++) {
            const float v = (xi + m[k]) * inverse[k], c = v < 0.0f ? 0.0f : v > high ? high : v;
            const float off = xi - (d[k] * ((c + QUANT_ROUND) - QUANT_ROUND) - m[k]);
            sums[k] += (double)(wi * off * off);
        }
    }
    memcpy(error, sums, sizeof sums);
}

/* Least squares of x = d q - m for fixed q of each trial; is_live false from then on where q is constant. sw and sx are the
 * sums of w and w x, which all trials share. */
static void solve(const float *x, const float *w, size_t n, const float *q, bool m_is_positive, double sw, double sx,
                  bool *is_live, float *d, float *m) {
    double sq[AFFINE_LANES] = { 0 }, sqq[AFFINE_LANES] = { 0 }, sxq[AFFINE_LANES] = { 0 };
    for (size_t i = 0; i < n; i++) {
        const double wi = (double)w[i], wx = wi * (double)x[i];
        const float *row = q + i * AFFINE_LANES;
        for (int k = 0; k < AFFINE_LANES; k++) {
            const double qi = (double)row[k];
            sq[k] += wi * qi;
            sqq[k] += wi * qi * qi;
            sxq[k] += wx * qi;
        }
    }
    for (int k = 0; k < AFFINE_LANES; k++) {
        const double det = sw * sqq[k] - sq[k] * sq[k];
        is_live[k] = is_live[k] && det > 1e-12 * sw * sqq[k];
        if (!is_live[k]) continue;
        double slope = (sw * sxq[k] - sx * sq[k]) / det, offset = -(sqq[k] * sx - sq[k] * sxq[k]) / det;
        if (m_is_positive && offset < 0.0) {
            offset = 0.0;
            slope = sqq[k] > 0.0 ? sxq[k] / sqq[k] : 0.0;
        }
        is_live[k] = slope > 0.0;
        if (!is_live[k]) continue;
        d[k] = (float)slope;
        m[k] = (float)offset;
    }
}

typedef struct { double error; float d, m; } affine_fit;

/* The trials of quant_fit_affine: each goes its own N_ROUNDS rounds; the best of all replaces *best. */
static void refine(int top, bool m_is_positive, float low, float high, const float *x, const float *w, size_t n,
                   double sw, double sx, affine_fit *best) {
    float d[AFFINE_LANES], m[AFFINE_LANES], q[QUANT_MAX_SUB * AFFINE_LANES];
    bool is_live[AFFINE_LANES];
    affine_fit found[AFFINE_LANES][N_ROUNDS];
    double error[AFFINE_LANES];
    for (int k = 0; k < AFFINE_LANES; k++) {
        d[k] = (high - low) / ((float)top + 0.08f * (float)(k - N_TRIALS));
        m[k] = -low;
        is_live[k] = k <= 2 * N_TRIALS && d[k] > 0.0f && isfinite(d[k]);
    }
    codes_affine(top, d, m, x, w, n, q, error);
    for (int round = 0; round < N_ROUNDS; round++) {
        solve(x, w, n, q, m_is_positive, sw, sx, is_live, d, m);
        codes_affine(top, d, m, x, w, n, q, error);
        for (int k = 0; k < AFFINE_LANES; k++)
            found[k][round] = (affine_fit){ is_live[k] ? error[k] : INFINITY, d[k], m[k] };
    }
    for (int k = 0; k < AFFINE_LANES; k++)
        for (int round = 0; round < N_ROUNDS; round++)
            if (found[k][round].error < best->error) *best = found[k][round];
}

float quant_fit_affine(int top, bool m_is_positive, const float *x, const float *w, size_t n, int8_t *q, float *m_out) {
    float low = x[0], high = x[0];
    double sw = 0.0, sx = 0.0;
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
    for (size_t i = 0; i < n; i++) {
        sw += (double)w[i];
        sx += (double)w[i] * (double)x[i];
    }
    affine_fit best = { 0.0, (high - low) / (float)top, -low };
    best.error = quant_codes_affine(top, best.d, best.m, x, w, n, q);
    refine(top, m_is_positive, low, high, x, w, n, sw, sx, &best);
    quant_codes_affine(top, best.d, best.m, x, w, n, q);
    *m_out = best.m;
    return best.d;
}
