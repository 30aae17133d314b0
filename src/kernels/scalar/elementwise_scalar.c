/* The definition of the elementwise kernels. Sums run in double so that the definition is the exact answer, rounded once. */
#include <math.h>

#include "kernels/kernels_int.h"

#define F16_LARGEST 65504.0f

float dot_scalar(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return (float)sum;
}

void axpy_scalar(float *y, float a, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

void add_scalar(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

void rmsnorm_scalar(float *y, const float *x, const float *w, float eps, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    const float r = (float)(1.0 / sqrt(sum / (double)n + (double)eps));
    for (size_t i = 0; i < n; i++) y[i] = x[i] * r * w[i];
}

void layernorm_scalar(float *y, const float *x, const float *w, const float *b, float eps, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double r = 1.0 / sqrt(squares / (double)n + (double)eps);
    for (size_t i = 0; i < n; i++) y[i] = (float)(((double)x[i] - mean) * r) * w[i] + b[i];
}

void silu_mul_scalar(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

void gelu_erf_scalar(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
}

void softmax_scalar(float *x, size_t n) {
    float top = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++) sum += (double)(x[i] = expf(x[i] - top));
    for (size_t i = 0; i < n; i++) x[i] = x[i] * (float)(1.0 / sum);
}

void rope_scalar(float *x, const float *cs, size_t n_heads, size_t d, bool adjacent) {
    const size_t half = d / 2;
    for (size_t h = 0; h < n_heads; h++, x += d)
        for (size_t i = 0; i < half; i++) {
            float *a = adjacent ? x + 2 * i : x + i, *b = adjacent ? x + 2 * i + 1 : x + i + half;
            const float u = *a, v = *b, cos = cs[i], sin = cs[half + i];
            *a = u * cos - v * sin;
            *b = v * cos + u * sin;
        }
}

void to_f16_scalar(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = f32_to_f16(x[i] > F16_LARGEST ? F16_LARGEST : x[i] < -F16_LARGEST ? -F16_LARGEST : x[i]);
}

void to_bf16_scalar(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = f32_to_bf16(x[i]);
}
