/* The elementwise kernels of each instruction set, for kernels.c; shapes and formulas stand in kernels.h. */
#ifndef KERNELS_KERNELS_INT_H
#define KERNELS_KERNELS_INT_H

#include "kernels/kernels.h"


#define DECL_ELEMENTWISE(isa)                                                                                       \
    float dot_##isa(const float *a, const float *b, size_t n);                                                      \
    void axpy_##isa(float *y, float a, const float *x, size_t n);                                                   \
    void add_##isa(float *y, const float *x, size_t n);                                                             \
    void rmsnorm_##isa(float *y, const float *x, const float *w, float eps, size_t n);                              \
    void layernorm_##isa(float *y, const float *x, const float *w, const float *b, float eps, size_t n);            \
    void silu_mul_##isa(float *y, const float *gate, const float *up, size_t n);                                    \
    void gelu_erf_##isa(float *y, const float *x, size_t n);                                                        \
    void softmax_##isa(float *x, size_t n);                                                                         \
    void rope_##isa(float *x, const float *cs, size_t n_heads, size_t d, bool adjacent);                            \
    void to_f16_##isa(uint16_t *y, const float *x, size_t n);                                                       \
    void to_bf16_##isa(uint16_t *y, const float *x, size_t n);                                                      \
    void attend_##isa(float *out, const float *q, const void *k, const void *v, enum ern_dtype kv, size_t stride,   \
                      size_t n, size_t D, float scale, float *scratch)

DECL_ELEMENTWISE(scalar);
DECL_ELEMENTWISE(avx2);
DECL_ELEMENTWISE(avx512);
DECL_ELEMENTWISE(neon);

#endif
