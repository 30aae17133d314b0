/* What forward.c, attention.c and moe.c share: the scratch of one forward pass. */
#ifndef MODEL_FORWARD_INT_H
#define MODEL_FORWARD_INT_H

#include "model/forward.h"

/* Models narrower than this cannot afford the noise of 8-bit activations: fewer columns average it out, and on a model of
 * 576 columns it moves logits by more than 1. What rounding leaves out is rounded again and multiplied too, which makes
 * about 15 bits of 8; decoding still reads each weight once. */
#define NARROW_WIDTH 1024

struct ern_work {
    const ern_kernels *k;
    ern_pool *pool;
    bool exact;
    bool is_narrow;             /* hidden < NARROW_WIDTH: what 8-bit rounding leaves out is multiplied too */
    size_t max_rows, max_tokens;
    float *x, *h, *y;           /* [T, D] residual, normed input, block output */
    float *q;                   /* [T, H d] */
    float *kk, *vv;             /* [T, K d] */
    float *att;                 /* [T, H d] */
    float *gate, *up;           /* [T, max(F, shared F)] */
    float *rest;                /* [T, max(F, H d)] what rounding left out; where is_narrow */
    float *rest_y;              /* its products, matrix after matrix */
    float *angles;              /* [T, d] cos then sin of each pair */
    attention_job *jobs;        /* [T] runs of rows of one sequence */
    void *attention;            /* attention_run's scratch */
    void *products;             /* matmul_many's scratch */
    float *probs;               /* [T, E] */
    float *weights;             /* [T, n_used] */
    int32_t *experts;           /* [T, n_used] */
    size_t moe_rows;            /* tokens that go through the experts together; M below */
    int32_t *gather;            /* [M n_used] token of each row that an expert computes, experts ascending */
    int32_t *place;             /* [M, n_used] row of each chosen expert of a token, ascending */
    float *expert_gate, *expert_up;     /* [M n_used, expert F] */
    float *expert_y;            /* [M n_used, D] */
    matmul_item *items;         /* [2 E + 2] */
    int32_t *chosen;            /* [E] experts that have rows, ascending */
    float *shared_y;            /* [M, D] */
    float *picked;              /* [T, D] rows that want logits */
    observe_fn observe;         /* or NULL */
    void *observe_ctx;
    void *memory;               /* the one block all of these lie in */
};

typedef struct { trace_fn fn; void *ctx; size_t layer; } model_trace;
bool trace_layer(const model_trace *t, const char *what, const void *data, bool is_int, size_t n_rows, size_t n_cols,
                 ern_err *e);

/* Radians a position of each pair [d/2]; the caller frees. */
float *rope_frequencies(const ern_config *c, const ern_source *s, ern_err *e);
/* cos[d/2] then sin[d/2] of the angles at pos. */
void rope_angles(float *cs, const float *inv_freq, size_t half, size_t pos);

/* matmul_many with the scratch of w, shown to the observer. */
void products(const ern_work *w, const matmul_input *inputs, size_t n_inputs, const matmul_item *items, size_t n_items);

#define MAX_LINEARS 3
/* y[i] = x . W_i^T + bias_i for up to MAX_LINEARS matrices of one input, in one parallel region. */
void linears(const ern_work *w, float *const *y, const float *x, size_t T, const model_linear *const *l, size_t n);
void linear(const ern_work *w, float *y, const float *x, size_t T, const model_linear *l);
void attention(const ern_model *m, ern_work *w, const model_layer *l, size_t layer, const model_row *rows, size_t T);
void swiglu(ern_work *w, float *y, const float *x, size_t T, const model_mlp *mlp);
bool moe(const ern_model *m, ern_work *w, const model_layer *l, size_t T, const model_trace *t, ern_err *e);

#endif
