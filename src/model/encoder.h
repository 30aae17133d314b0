/* A BERT encoder: words, positions and token types added and normalised; then layers that attend in both directions, each
 * followed by its LayerNorm (post-norm); the vectors pooled into one embedding.
 * Letters: T tokens, D hidden, F ffn width, V vocabulary, P positions. */
#ifndef MODEL_ENCODER_H
#define MODEL_ENCODER_H

#include "kernels/kernels.h"
#include "model/forward.h"
#include "model/weights.h"

typedef struct { float *gain, *bias; } encoder_norm;            /* [D] each; owned */

typedef struct {
    model_linear q, k, v, o;            /* [D, D] */
    encoder_norm attn_norm;             /* after attention and its residual */
    model_linear up, down;              /* [F, D], [D, F] */
    encoder_norm out_norm;              /* after the feed-forward part and its residual */
} encoder_layer;

struct ern_encoder {
    ern_view words, positions;          /* [V, D], [P, D] */
    float *type;                        /* [D] the vector of token type 0, which all tokens have; NULL: none; owned */
    encoder_norm norm;
    encoder_layer *layers;              /* [n_layers] */
};

ern_encoder *encoder_bind(const ern_config *c, const ern_source *s, ern_err *e);
void encoder_close(ern_encoder *enc, size_t n_layers);

/* hidden[T,D] = the vectors of the last layer. Trace names: embed, layer.N.attn, layer.N.ffn (what each adds), layer.N.out.
 * Allocates its scratch: an embedding is one call, not a step of a loop. */
bool encoder_forward(const ern_model *m, const ern_kernels *k, ern_pool *pool, bool exact, const int32_t *ids, size_t T,
                     float *hidden, trace_fn trace, void *trace_ctx, ern_err *e);

/* out[D] = mean of rows or first row of hidden[T,D], scaled to length 1 where the model does that. */
void encoder_pool(const ern_config *c, const float *hidden, size_t T, float *out);

#endif
