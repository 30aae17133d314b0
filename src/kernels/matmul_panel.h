/* Packed weights: how a matrix lies in memory for the fast products, and the table of the functions that read it.
 *
 * A panel is 16 rows; a unit is 64 columns of a panel (256 for the K formats), its parts one after another, 64-byte aligned
 * as a whole. Codes come in groups of 4 columns: 64 bytes, byte 4 r + c of row r and column c, so that one vector holds
 * the bytes that one 4-byte piece of the activations meets. A block is 32 columns, 8 groups. value = scale (code -
 * offset) - min.
 *   code8    group g of block b at 512 b + 64 g
 *   code4    byte vector j < 4 of block b at 256 b + 64 j: low nibbles are group j, high nibbles group j + 4
 *   code2    byte vector j < 2 of block b at 128 b + 64 j: bits 2 i are group 4 j + i
 *   bit      64 bytes a block: bit g belongs to group g
 *   s16, m16 16 f16 a block (MX4: the upper halves of f32)
 *   s8, m8   16 bytes a block or half block, times d, dmin: 16 f16 a unit
 * A missing row or column has scale 0. */
#ifndef KERNELS_MATMUL_PANEL_H
#define KERNELS_MATMUL_PANEL_H

#include "kernels/matmul.h"
#include "kernels/matrix.h"

#define PANEL_ROWS 16
#define PANEL_SLACK 0             /* bytes read past the last panel */

/* kind, number format, columns a unit, bytes a unit, log2(128 / offset) (-1: no offset), columns a scale, has a minimum */
#define PANEL_MAP(X)                                        \
    X(Q8,  Q8_0,   64,  1088, 0,  32, false)                \
    X(Q4,  Q4_0,   64,  576,  4,  32, false)                \
    X(Q4M, Q4_1,   64,  640,  -1, 32, true)                 \
    X(Q5,  Q5_0,   64,  704,  3,  32, false)                \
    X(Q5M, Q5_1,   64,  768,  -1, 32, true)                 \
    X(NL4, IQ4_NL, 64,  576,  0,  32, false)                \
    X(MX4, MXFP4,  64,  576,  3,  32, false)                \
    X(Q2K, Q2_K,   256, 1344, -1, 16, true)                 \
    X(Q3K, Q3_K,   256, 1856, 5,  16, false)                \
    X(Q4K, Q4_K,   256, 2368, -1, 32, true)                 \
    X(Q5K, Q5_K,   256, 2880, -1, 32, true)                 \
    X(Q6K, Q6_K,   256, 3392, 2,  16, false)                \
    X(XS4, IQ4_XS, 256, 2240, 0,  32, false)

enum panel_kind {
#define X(kind, dtype, unit_n, unit_bytes, shift, run, min) PANEL_##kind,
    PANEL_MAP(X)
#undef X
    PANEL_N_INT,                        /* above: 8-bit activations; below: floats */
    PANEL_BF16 = PANEL_N_INT,           /* 64 bytes a pair of columns: byte 4 r of row r, the even column first */
    PANEL_F16,                          /* 32 bytes a column */
    PANEL_COUNT,
    PANEL_NONE = PANEL_COUNT
};

typedef struct { enum ern_dtype dtype; size_t unit_n, unit_bytes, run; int shift; bool has_min; } panel_info;
const panel_info *panel_info_of(enum panel_kind kind);     /* of the kinds with 8-bit activations */
size_t panel_bytes_of(enum panel_kind kind, size_t C);
enum panel_kind panel_kind_of(enum ern_dtype t);            /* PANEL_NONE: no packed form */

/* Rows [16 panel, 16 panel + 16) of w into units at out; rows from w->dims[0] on and columns from dims[1] on are zero. */
void panel_pack(uint8_t *out, enum panel_kind kind, const ern_view *w, size_t panel);

/* 32 activations: value = d q. n = -128 sum q, n_lo the same of the first 16, dn = -d sum q. */
typedef struct { int8_t q[32]; float d, dn; int32_t n, n_lo; } act_block;

/* One product: rows of panels [p0, p1) for T tokens; y[t] is row t of the result. */
typedef struct {
    const ern_matrix *w;
    const void *const *act;         /* [T]: act_block *, or for float kinds uint16_t * (bf16, padded with a 0) or float * */
    float *const *y;                /* [T] */
    size_t T;
    void *buffer;                   /* PANEL_BUFFER_BYTES(C), 64-byte aligned; of this thread */
} panel_job;
/* Two panels unpacked, or 32 tokens in bf16. */
#define PANEL_BUFFER_BYTES(C) (((C) + 255) / 256 * 8 * 2048)

struct ern_panels {
    const char *name;
    void (*quant)(act_block *out, const float *x, size_t C);        /* [(C + 31) / 32 rounded up to a unit of 256] */
    void (*gemm)(const panel_job *j, size_t p0, size_t p1);
    void (*to_bf16)(uint16_t *out, const float *x, size_t C);       /* [C rounded up to even]; NULL: BF16 weights take f32 */
    void (*gemm_bf16)(const panel_job *j, size_t p0, size_t p1);
    void (*gemm_f16)(const panel_job *j, size_t p0, size_t p1);     /* activations in f32 */
};
extern const struct ern_panels panels_amx, panels_vnni, panels_vnni_bf16, panels_avxvnni, panels_avx2, panels_neon,
    panels_dotprod;

void panel_to_bf16(uint16_t *out, const float *x, size_t C);        /* x86, AVX-512 BF16 */
void panel_gemm_bf16(const panel_job *j, size_t p0, size_t p1);

#endif
