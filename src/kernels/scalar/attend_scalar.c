/* The definition of attention: one query head over n keys. */
#include "kernels/kernels_int.h"

static float value_at(const void *x, enum ern_dtype kv, size_t i) {
    const float *f = x;
    const uint16_t *h = x;
    return kv == DTYPE_F32 ? f[i] : kv == DTYPE_F16 ? f16_to_f32(h[i]) : bf16_to_f32(h[i]);
}

void attend_scalar(float *out, const float *q, const void *k, const void *v, enum ern_dtype kv, size_t stride,
                   size_t n, size_t D, float scale, float *scratch) {
    for (size_t i = 0; i < n; i++) {
        double s = 0;
        for (size_t c = 0; c < D; c++) s += (double)q[c] * (double)value_at(k, kv, i * stride + c);
        scratch[i] = (float)s * scale;
    }
    softmax_scalar(scratch, n);
    for (size_t c = 0; c < D; c++) {
        double s = 0;
        for (size_t i = 0; i < n; i++) s += (double)scratch[i] * (double)value_at(v, kv, i * stride + c);
        out[c] = (float)s;
    }
}
