/* Matrix products inside the kernels folder: the part of the table that they fill. */
#ifndef KERNELS_MATMUL_H
#define KERNELS_MATMUL_H

#include "kernels/kernels.h"

#define ACT_TINY 1e-30f     /* activations whose largest is below count as zero: 127 / largest stays finite */

/* gemm_f32, gemm_q8, has_q8 and quant_q8 of the best instructions in flags. */
void kernels_gemm_init(ern_kernels *k, unsigned flags);

#define DECL_GEMM_F32(isa) DECL_GEMM_F32_(isa)
#define DECL_GEMM_F32_(isa) void gemm_f32_##isa(float *y, size_t y_stride, const float *x, size_t T, const void *w, \
    enum ern_dtype t, size_t row_bytes, size_t C, size_t r0, size_t r1)
#define DECL_GEMM_Q8(isa) DECL_GEMM_Q8_(isa)
#define DECL_GEMM_Q8_(isa) void gemm_q8_##isa(float *y, size_t y_stride, const act_q8 *xq, size_t T, const void *w, \
    enum ern_dtype t, size_t row_bytes, size_t C, size_t r0, size_t r1)
#define DECL_QUANT_Q8(isa) void quant_q8_##isa(act_q8 *y, const float *x, size_t n)

DECL_GEMM_F32(scalar);
DECL_GEMM_Q8(scalar);
DECL_QUANT_Q8(scalar);
DECL_GEMM_F32(avx2);
DECL_GEMM_Q8(avx2);
DECL_QUANT_Q8(avx2);
DECL_GEMM_F32(vnni);
DECL_GEMM_Q8(vnni);

#endif
