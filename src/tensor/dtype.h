/* Number formats: names, block sizes and the scalar conversion that defines each of them.
 * A tensor of a block type is a whole number of blocks a row. */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H

#include "base/err.h"

/* name, elements a block, bytes a block, type id in GGUF files (-1: not in GGUF) */
#define ERN_DTYPE_MAP(X)            \
    X(F32,      1,   4,   0)        \
    X(F16,      1,   2,   1)        \
    X(Q4_0,     32,  18,  2)        \
    X(Q4_1,     32,  20,  3)        \
    X(Q5_0,     32,  22,  6)        \
    X(Q5_1,     32,  24,  7)        \
    X(Q8_0,     32,  34,  8)        \
    X(Q8_1,     32,  36,  9)        \
    X(Q2_K,     256, 84,  10)       \
    X(Q3_K,     256, 110, 11)       \
    X(Q4_K,     256, 144, 12)       \
    X(Q5_K,     256, 176, 13)       \
    X(Q6_K,     256, 210, 14)       \
    X(Q8_K,     256, 292, 15)       \
    X(IQ2_XXS,  256, 66,  16)       \
    X(IQ2_XS,   256, 74,  17)       \
    X(IQ3_XXS,  256, 98,  18)       \
    X(IQ1_S,    256, 50,  19)       \
    X(IQ4_NL,   32,  18,  20)       \
    X(IQ3_S,    256, 110, 21)       \
    X(IQ2_S,    256, 82,  22)       \
    X(IQ4_XS,   256, 136, 23)       \
    X(I8,       1,   1,   24)       \
    X(I16,      1,   2,   25)       \
    X(I32,      1,   4,   26)       \
    X(I64,      1,   8,   27)       \
    X(F64,      1,   8,   28)       \
    X(IQ1_M,    256, 56,  29)       \
    X(BF16,     1,   2,   30)       \
    X(TQ1_0,    256, 54,  34)       \
    X(TQ2_0,    256, 66,  35)       \
    X(MXFP4,    32,  17,  39)       \
    X(NVFP4,    64,  36,  40)       \
    X(U8,       1,   1,   -1)       \
    X(U16,      1,   2,   -1)       \
    X(BOOL,     1,   1,   -1)

enum ern_dtype {
#define X(name, n, bytes, gguf) DTYPE_##name,
    ERN_DTYPE_MAP(X)
#undef X
    DTYPE_COUNT
};

typedef struct {
    const char *name;
    size_t block_n, block_bytes;
    int gguf_type;
    /* y[n] = the values of n / block_n blocks at x (no alignment needed); NULL: not a number format we unpack */
    void (*to_f32)(float *y, const void *x, size_t n);
} ern_dtype_info;

const ern_dtype_info *dtype_info(enum ern_dtype t);
bool dtype_from_gguf(enum ern_dtype *out, uint32_t gguf_type, ern_err *e);
bool dtype_from_name(enum ern_dtype *out, const char *name, ern_err *e);    /* "BF16", "Q4_0", ... */

/* A tensor somewhere else: nothing here is owned. dims are row-major, slowest first; dims[n_dims-1] is a row. */
#define ERN_MAX_DIMS 4
typedef struct {
    const char *name;
    enum ern_dtype dtype;
    unsigned n_dims;
    size_t dims[ERN_MAX_DIMS];
    const void *data;
    size_t size_bytes;
} ern_view;

size_t view_n(const ern_view *v);                           /* elements */
size_t view_row_bytes(const ern_view *v);
void view_to_f32(const ern_view *v, float *y);              /* y[view_n(v)] */

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);       /* round to nearest even */
static inline float bf16_to_f32(uint16_t h) {
    union { uint32_t u; float f; } v = { .u = (uint32_t)h << 16 };
    return v.f;
}
uint16_t f32_to_bf16(float f);      /* round to nearest even, NaN stays NaN */

#endif
