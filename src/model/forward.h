/* The forward pass: token ids -> logits. One call takes rows of any number of sequences (a prompt's chunk, one step of many
 * sessions, both); the result of a row does not depend on what else is in the call. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "model/kv.h"
#include "model/weights.h"

typedef struct {
    int32_t id;
    size_t pos;                 /* its keys and values go to kv at pos; it sees 0..pos */
    ern_kv *kv;
    bool wants_logits;
} model_row;

/* Scratch for up to max_rows rows and max_tokens positions; one forward at a time. */
typedef struct ern_work ern_work;
ern_work *work_open(const ern_model *m, const ern_kernels *k, ern_pool *pool, size_t max_rows, size_t max_tokens,
                    bool exact, ern_err *e);
void work_close(ern_work *w);
size_t work_max_rows(const ern_work *w);
size_t work_max_tokens(const ern_work *w);

/* Sees every intermediate array; data is float, or int32_t where is_int. names as in MODEL.md ("layer.3.attn"). */
typedef bool (*trace_fn)(void *ctx, const char *name, const void *data, bool is_int, size_t n_rows, size_t n_cols,
                         ern_err *e);

/* Sees the input rows of every matrix of the layers and the output after each product: x[i] = input row (rows ? rows[i] :
 * first + i) of n, stride floats apart. m->view.name is the canonical name ("router" for routers). */
typedef void (*observe_fn)(void *ctx, const ern_matrix *m, const float *x, size_t stride, const int32_t *rows, size_t first,
                           size_t n);
void work_observe(ern_work *w, observe_fn fn, void *ctx);      /* NULL: nobody looks */

/* logits [number of rows with wants_logits, V], in their order; NULL: none are computed. Ids and positions are checked
 * before anything is written. The rows of one sequence follow each other without a gap. */
bool model_forward(const ern_model *m, ern_work *w, const model_row *rows, size_t T, float *logits, trace_fn trace,
                   void *trace_ctx, ern_err *e);

#endif
