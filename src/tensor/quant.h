/* Packing rows of f32 into the block formats that `ernie quantize` writes.
 *
 *     uint8_t row[...];                        n / block_n * block_bytes bytes
 *     quant_row(DTYPE_Q4_K, row, x, n, NULL, &e);
 *
 * Scales and values are searched together so that sum_i w_i (x_i - packed_i)^2 is small, w the importance of a column
 * (the mean square of the activation it meets) or 1. The bytes depend on x and w only: not on threads, not on the CPU.
 */
#ifndef TENSOR_QUANT_H
#define TENSOR_QUANT_H

#include "tensor/dtype.h"

/* F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K .. Q6_K, IQ4_NL, IQ4_XS, MXFP4 */
bool quant_has(enum ern_dtype t);

/* out: n values as blocks of t; n a multiple of the block. importance [n] >= 0, or NULL. A value that is not finite, or
 * too large for the format, is ERN_FORMAT with its index. */
bool quant_row(enum ern_dtype t, void *out, const float *x, size_t n, const float *importance, ern_err *e);

#endif
