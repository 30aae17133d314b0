/* Arithmetic on raw pointers: one table of function pointers, filled by what the CPU can do and a mask.
 * The scalar functions are the definition. Kernels are pure and single-threaded; matmul.h spreads rows over the pool.
 * Letters: R rows of W (outputs), C columns (inputs), T tokens.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "base/pool.h"
#include "tensor/dtype.h"

enum {                              /* CPU flags, each level includes what it needs */
    CPU_AVX2 = 1, CPU_FMA = 2, CPU_F16C = 4, CPU_AVX512 = 8, CPU_VNNI = 16, CPU_BF16 = 32,
    CPU_AVXVNNI = 64, CPU_NEON = 128, CPU_DOTPROD = 256, CPU_I8MM = 512, CPU_AMX_INT8 = 1024, CPU_AMX_BF16 = 2048,
    CPU_FAST_BF16 = 4096, CPU_FP16 = 8192   /* bf16 pairs multiply faster than f32; AVX-512 FP16 */
};
unsigned cpu_flags(void);
/* "auto", "scalar", "avx2", "avxvnni", "avx512f" (no VNNI, no BF16), "avx512", "amx", "neon", "dotprod", "i8mm" -> mask of
 * flags allowed; false: unknown name. */
bool cpu_mask_from_name(unsigned *out, const char *name, ern_err *e);

/* Activations of one token in 8 bits: per 32 values a scale d and the sum of the quants (for types with a minimum). */
typedef struct { float d; int16_t sum_lo, sum_hi; int8_t q[32]; } act_q8;   /* sum_lo: q[0..15], sum_hi: q[16..31] */

struct attention_isa;                /* attention.h */

typedef struct {
    unsigned flags;
    /* y[T,R] (row stride y_stride floats) = x[T,C] . W[R,C]^T for rows r0 <= r < r1, f32 activations. W: rows of dtype t, row_bytes apart. */
    void (*gemm_f32)(float *y, size_t y_stride, const float *x, size_t T, const void *w, enum ern_dtype t,
                     size_t row_bytes, size_t C, size_t r0, size_t r1);
    /* The same with 8-bit activations xq[T][C/32]; only where has_q8(t). */
    void (*gemm_q8)(float *y, size_t y_stride, const act_q8 *xq, size_t T, const void *w, enum ern_dtype t,
                    size_t row_bytes, size_t C, size_t r0, size_t r1);
    bool (*has_q8)(enum ern_dtype t);
    void (*quant_q8)(act_q8 *y, const float *x, size_t n);          /* n a multiple of 32; round to nearest even */
    float (*dot)(const float *a, const float *b, size_t n);
    void (*axpy)(float *y, float a, const float *x, size_t n);      /* y += a x */
    void (*rmsnorm)(float *y, const float *x, const float *w, float eps, size_t n);
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);   /* y = gate * sigmoid(gate) * up; may alias */
    void (*softmax)(float *x, size_t n);                            /* in place, f32, max subtracted */
    void (*add)(float *y, const float *x, size_t n);                /* y += x */
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, float eps, size_t n);
    void (*gelu_erf)(float *y, const float *x, size_t n);           /* y = x/2 (1 + erf(x / sqrt 2)); may alias */
    /* n_heads heads of d values in place; cs: cos[d/2], then sin[d/2]. adjacent: pairs (2i, 2i+1), otherwise (i, i + d/2). */
    void (*rope)(float *x, const float *cs, size_t n_heads, size_t d, bool adjacent);
    void (*to_f16)(uint16_t *y, const float *x, size_t n);          /* round to nearest even; past +-65504: the largest */
    void (*to_bf16)(uint16_t *y, const float *x, size_t n);         /* round to nearest even */
    /* Attention of one query head over n keys: keys and values n rows, stride elements apart, in f16, bf16 or f32.
     * out[D] = softmax(scale * q.K^T) . V ; scratch[n] floats. */
    void (*attend)(float *out, const float *q, const void *k, const void *v, enum ern_dtype kv, size_t stride,
                   size_t n, size_t D, float scale, float *scratch);
    const struct ern_panels *panels;    /* products of packed weights (matrix.h); NULL: none here */
    const struct attention_isa *attend_exact, *attend_fast;     /* f32; the fastest unit for 16-bit and smaller types */
} ern_kernels;

void kernels_init(ern_kernels *k, unsigned mask);

/* y[T,R] = x[T,C] . W^T over the pool. W is a view [R,C]. exact: f32 activations always. scratch holds the 8-bit
 * activations: matmul_scratch_bytes(T, C) bytes, 64-byte aligned. */
size_t matmul_scratch_bytes(size_t T, size_t C);
void matmul(const ern_kernels *k, ern_pool *pool, float *y, const float *x, size_t T, const ern_view *w, bool exact, void *scratch);

#endif
