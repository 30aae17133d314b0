/* The definition of a matrix product: rows unpacked by the number format's own function, products summed in double.
 * Not finite: a NaN or infinite activation makes every 8-bit result of its token NaN; in f32 it follows IEEE arithmetic.
 * A block of weights with a NaN or infinite scale does the same to its row. */
#include <math.h>

#include "kernels/matmul.h"

#define CHUNK 1024      /* columns unpacked at a time: a multiple of every block size */

void gemm_f32_scalar(float *y, size_t y_stride, const float *x, size_t T, const void *w, enum ern_dtype t,
                     size_t row_bytes, size_t C, size_t r0, size_t r1) {
    const ern_dtype_info *info = dtype_info(t);
    float row[CHUNK];
    for (size_t r = r0; r < r1; r++) {
        for (size_t i = 0; i < T; i++) y[i * y_stride + r] = 0.0f;
        for (size_t c = 0; c < C; c += CHUNK) {
            const size_t n = C - c < CHUNK ? C - c : CHUNK;
            info->to_f32(row, (const char *)w + r * row_bytes + c / info->block_n * info->block_bytes, n);
            for (size_t i = 0; i < T; i++) {
                double sum = 0.0;
                for (size_t j = 0; j < n; j++) sum += (double)row[j] * (double)x[i * C + c + j];
                y[i * y_stride + r] += (float)sum;
            }
        }
    }
}

void gemm_q8_scalar(float *y, size_t y_stride, const act_q8 *xq, size_t T, const void *w, enum ern_dtype t,
                    size_t row_bytes, size_t C, size_t r0, size_t r1) {
    const ern_dtype_info *info = dtype_info(t);
    float row[CHUNK];
    for (size_t r = r0; r < r1; r++) {
        for (size_t i = 0; i < T; i++) y[i * y_stride + r] = 0.0f;
        for (size_t c = 0; c < C; c += CHUNK) {
            const size_t n = C - c < CHUNK ? C - c : CHUNK;
            info->to_f32(row, (const char *)w + r * row_bytes + c / info->block_n * info->block_bytes, n);
            for (size_t i = 0; i < T; i++) {
                const act_q8 *a = xq + (i * C + c) / 32;
                double sum = 0.0;
                for (size_t j = 0; j < n; j++)
                    sum += (double)row[j] * (double)a[j / 32].q[j % 32] * (double)a[j / 32].d;
                y[i * y_stride + r] += (float)sum;
            }
        }
    }
}

/* d = largest / 127, q = nearest even of x / d. */
void quant_q8_scalar(act_q8 *y, const float *x, size_t n) {
    for (size_t b = 0; b < n / 32; b++, x += 32) {
        float most = 0.0f;
        bool is_finite = true;
        for (size_t i = 0; i < 32; i++) {
            is_finite = is_finite && isfinite(x[i]);
            if (fabsf(x[i]) > most) most = fabsf(x[i]);
        }
        const float inverse = is_finite && most > ACT_TINY ? 127.0f / most : 0.0f;
        act_q8 q = { .d = is_finite ? inverse > 0.0f ? most / 127.0f : 0.0f : NAN };
        for (size_t i = 0; i < 32 && inverse > 0.0f; i++) {
            q.q[i] = (int8_t)nearbyintf(x[i] * inverse);
            if (i < 16) q.sum_lo = (int16_t)(q.sum_lo + q.q[i]);
            else q.sum_hi = (int16_t)(q.sum_hi + q.q[i]);
        }
        y[b] = q;
    }
}
