/* Rotary positions: theta_i = position * base^(-2i/d), computed in f32 as the reference computes it: at position 131071 one
 * unit in the last place of a frequency turns the fastest pairs by 0.008 radians, so f64 would be further away, not
 * nearer. */
#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "model/forward_int.h"

/* llama3: waves longer than original/low are stretched by factor, shorter than original/high kept, between them blended. */
static float stretch(const ern_config *c, float f) {
    const double wave = 2.0 * 3.14159265358979323846 / (double)f;
    if (wave > c->rope_original / c->rope_low) return (float)((double)f / c->rope_factor);
    if (wave < c->rope_original / c->rope_high) return f;
    const double t = (c->rope_original / wave - c->rope_low) / (c->rope_high - c->rope_low);
    return (float)((1.0 - t) * (double)f / c->rope_factor + t * (double)f);
}

/* GGUF stores the llama3 scaling as one divisor a pair. */
static bool divide(float *inv_freq, const ern_source *s, size_t half, ern_err *e) {
    bool ok = true;
    if (!source_gguf(s)) return true;
    float *divisor = weights_f32(s, "rope_freqs.weight", half, true, &ok, e);
    for (size_t i = 0; divisor && i < half && ok; i++) {
        if (divisor[i] > 0.0f) inv_freq[i] /= divisor[i];
        else
            ok = ern_fail(e, ERN_FORMAT, "%s: tensor rope_freqs.weight: value %zu is %g, more than 0 wanted",
                          source_path(s), i, (double)divisor[i]);
    }
    free(divisor);
    return ok;
}

float *rope_frequencies(const ern_config *c, const ern_source *s, ern_err *e) {
    const size_t half = c->head_dim / 2;
    float *inv_freq = mem_zalloc(half, sizeof *inv_freq, "rope frequencies", e);
    if (!inv_freq) return NULL;
    for (size_t i = 0; i < half; i++) {
        /* The power in f64 rounded once: the correctly rounded f32, which f32 powers of the reference are within a unit
         * of. */
        const float power = (float)pow(c->rope_theta, (double)((float)(2 * i) / (float)c->head_dim));
        inv_freq[i] = c->rope_factor > 0.0 ? stretch(c, 1.0f / power) : 1.0f / power;
    }
    if (!divide(inv_freq, s, half, e)) {
        free(inv_freq);
        return NULL;
    }
    return inv_freq;
}

void rope_angles(float *cs, const float *inv_freq, size_t half, size_t pos) {
    for (size_t i = 0; i < half; i++) {
        const float angle = (float)pos * inv_freq[i];
        cs[i] = cosf(angle);
        cs[half + i] = sinf(angle);
    }
}
