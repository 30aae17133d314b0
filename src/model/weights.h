/* A model bound once: every tensor a struct field, every shape checked. After this no code compares names.
 * Letters: D hidden, H query heads, K key heads, d head width, F ffn width, E experts, V vocabulary. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "kernels/matrix.h"
#include "model/config.h"

typedef struct {
    ern_view w;         /* [out, in], a view into the map */
    ern_matrix m;       /* the same for products, packed by model_pack */
    float *bias;        /* [out] or NULL; owned */
} model_linear;

typedef struct { model_linear gate, up, down; } model_mlp;      /* [F, D], [F, D], [D, F] */

typedef struct {
    float *attn_norm, *ffn_norm;        /* [D]; owned */
    model_linear q, k, v, o;            /* [H d, D], [K d, D], [K d, D], [D, H d] */
    model_mlp mlp;                      /* dense layers; shared experts of a MoE layer when n_shared > 0 */
    bool is_moe;
    float *router;                      /* [E, D] f32; owned: the reference routes in f32 */
    float *router_bias;                 /* [E] or NULL: only for choosing */
    model_mlp *experts;                 /* [E]; owned array of views */
} model_layer;

typedef struct ern_encoder ern_encoder;     /* model/encoder.h */

typedef struct {
    ern_config c;
    ern_source *source;                 /* owned: the views point into it */
    ern_view embed, output;             /* [V, D] */
    ern_matrix output_matrix;           /* output for products */
    float *output_bias;                 /* [V] or NULL; owned */
    void *packed;                       /* the packed matrices, or NULL; owned */
    size_t packed_bytes;
    bool is_streamed;                   /* larger than memory: matrices stay in the file, experts are fetched when chosen */
    float *norm;                        /* [D]; owned */
    model_layer *layers;                /* [n_layers] */
    float *inv_freq;                    /* [d/2] radians a position; owned */
    ern_encoder *encoder; /* BERT: all of its weights, and the fields above but c and source are unset; owned */
} ern_model;

/* Takes the source, also on failure. */
ern_model *model_bind(ern_source *source, ern_err *e);
void model_close(ern_model *m);

/* Every matrix into the order in which these kernels read it fastest. What was read leaves the process's memory, so that the
 * weights are in it once. Not for exact arithmetic: that reads the views. When the packed form would take
 * more than max_bytes (0: nearly all free memory) nothing is packed and the model is_streamed. Once, before the model is
 * shared. */
bool model_pack(ern_model *m, const ern_kernels *k, ern_pool *pool, size_t max_bytes, ern_err *e);
void model_unpack(ern_model *m);

/* Refuses a tensor that this config has no place for: what is not bound would be missing from the arithmetic. */
bool weights_check_names(const ern_config *c, const ern_source *s, ern_err *e);

bool weights_matrix(ern_view *out, const ern_source *s, const char *name, size_t n_out, size_t n_in, ern_err *e);

/* A tensor as owned f32 [n], shape checked against n values. optional: NULL without an error when absent. */
float *weights_f32(const ern_source *s, const char *name, size_t n, bool optional, bool *ok, ern_err *e);
bool weights_linear(model_linear *out, const ern_source *s, const char *stem, size_t n_out, size_t n_in, ern_err *e);

#endif
