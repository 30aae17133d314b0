/* A weight matrix made ready once for the fastest products, and products of many matrices in one parallel region.
 *
 *     ern_matrix m = matrix_of(&view);
 *     matrix_pack(&m, &kernels, pool, NULL, NULL, NULL, e);
 *     matmul_input in = { .x = h, .stride = D, .n_rows = T, .C = D };
 *     matmul_item items[] = { { .w = &q, .y = yq, .y_stride = Q, .T = T }, { .w = &k, .y = yk, .y_stride = K, .T = T } };
 *     matmul_many(&kernels, pool, &in, 1, items, 2, exact, scratch);
 *     matrix_deinit(&m);
 *
 * A matrix that is not packed is multiplied as the view it is, with f32 activations. Results of a token depend on that
 * token alone, never on T, the other tokens or the threads.
 * Letters: R rows (outputs), C columns (inputs), T tokens.
 */
#ifndef KERNELS_MATRIX_H
#define KERNELS_MATRIX_H

#include "kernels/kernels.h"

typedef struct {
    ern_view view;              /* [R, C]; borrowed, outlives the matrix */
    size_t R, C;
    int kind;                   /* of packed; PANEL_NONE: the view is used as it is */
    size_t n_panels, panel_bytes;
    uint8_t *packed;            /* [n_panels, panel_bytes]; NULL: not packed */
    bool owns_packed;
} ern_matrix;

ern_matrix matrix_of(const ern_view *w);                /* not packed */

bool matrix_rounds(const ern_matrix *m);                /* packed, and its products round activations to 8 bits */

/* Bytes of the packed form with these kernels, a multiple of 64; 0: this number format has none. */
size_t matrix_packed_bytes(const ern_matrix *m, const ern_kernels *k);

/* Pack m; a format without a packed form stays as it is. memory: matrix_packed_bytes, 64-byte aligned, zeroed, outlives m;
 * NULL: the matrix owns its own. done, if given, is told which rows of the view were read for the last time. */
typedef void (*matrix_done_fn)(void *ctx, const ern_view *rows);
bool matrix_pack(ern_matrix *m, const ern_kernels *k, ern_pool *pool, void *memory, matrix_done_fn done, void *ctx, ern_err *e);
void matrix_deinit(ern_matrix *m);

typedef struct {
    const float *x;             /* [n_rows, C], rows stride floats apart */
    size_t stride, n_rows, C;
    float *swiglu;              /* NULL, or as x: becomes silu(swiglu) * x first, and is the input then */
} matmul_input;

/* y[t] = W . input row (rows ? rows[t] : first + t) + bias, for t < T */
typedef struct {
    const ern_matrix *w;
    size_t input;               /* index into the inputs */
    size_t first;
    const int32_t *rows;        /* [T] or NULL */
    float *y;                   /* [T, R], rows y_stride floats apart */
    size_t y_stride, T;
    const float *bias;          /* [R] or NULL */
} matmul_item;

/* Bytes of scratch (64-byte aligned) for products of inputs with n_rows rows of C columns in all: n_tokens is the sum of T. */
size_t matmul_many_bytes(const ern_pool *pool, size_t n_rows, size_t C, size_t n_tokens);
void matmul_many(const ern_kernels *k, ern_pool *pool, const matmul_input *inputs, size_t n_inputs,
                 const matmul_item *items, size_t n_items, bool exact, void *scratch);

#endif
