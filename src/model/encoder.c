#include "model/encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/forward_int.h"

#define STEM_BYTES 128
#define NAME_MAX_BYTES (STEM_BYTES + 16)

/* ---- binding ---------------------------------------------------------------------------------- */

/* Checkpoints of a task model (BertForMaskedLM, ...) carry a prefix before every name. */
static const char *prefix_of(const ern_source *s) {
    return source_find(s, "bert.embeddings.word_embeddings.weight") ? "bert." : "";
}

static bool bind_norm(encoder_norm *out, const ern_source *s, const char *stem, size_t D, ern_err *e) {
    char name[NAME_MAX_BYTES];
    bool ok = true;
    snprintf(name, sizeof name, "%s.weight", stem);
    out->gain = weights_f32(s, name, D, false, &ok, e);
    if (!ok) return false;
    snprintf(name, sizeof name, "%s.bias", stem);
    out->bias = weights_f32(s, name, D, false, &ok, e);
    return ok;
}

static bool bind_layer(encoder_layer *l, const ern_config *c, const ern_source *s, size_t i, ern_err *e) {
    static const char *const linears[] = { "attention.self.query",   "attention.self.key", "attention.self.value",
                                           "attention.output.dense", "intermediate.dense", "output.dense" };
    static const char *const norms[] = { "attention.output.LayerNorm", "output.LayerNorm" };
    model_linear *const to[] = { &l->q, &l->k, &l->v, &l->o, &l->up, &l->down };
    encoder_norm *const norm_to[] = { &l->attn_norm, &l->out_norm };
    const size_t D = c->hidden, F = c->ffn;
    char stem[STEM_BYTES];
    for (size_t n = 0; n < 6; n++) {
        snprintf(stem, sizeof stem, "%sencoder.layer.%zu.%s", prefix_of(s), i, linears[n]);
        if (!weights_linear(to[n], s, stem, n == 4 ? F : D, n == 5 ? F : D, e)) return false;
    }
    for (size_t n = 0; n < 2; n++) {
        snprintf(stem, sizeof stem, "%sencoder.layer.%zu.%s", prefix_of(s), i, norms[n]);
        if (!bind_norm(norm_to[n], s, stem, D, e)) return false;
    }
    return true;
}

static bool bind_type(ern_encoder *enc, const ern_config *c, const ern_source *s, const char *prefix, ern_err *e) {
    char name[NAME_MAX_BYTES];
    ern_view types;
    if (c->n_types == 0) return true;
    snprintf(name, sizeof name, "%sembeddings.token_type_embeddings.weight", prefix);
    if (!weights_matrix(&types, s, name, c->n_types, c->hidden, e) ||
        !(enc->type = mem_zalloc(c->hidden, sizeof(float), name, e)))
        return false;
    dtype_info(types.dtype)->to_f32(enc->type, types.data, c->hidden);
    return true;
}

ern_encoder *encoder_bind(const ern_config *c, const ern_source *s, ern_err *e) {
    const char *prefix = prefix_of(s);
    char name[NAME_MAX_BYTES], stem[STEM_BYTES];
    bool ok = false;
    ern_encoder *enc = mem_zalloc(1, sizeof *enc, "encoder", e);
    if (!enc) return NULL;
    snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", prefix);
    if (!weights_matrix(&enc->words, s, name, c->n_vocab, c->hidden, e)) goto out;
    snprintf(name, sizeof name, "%sembeddings.position_embeddings.weight", prefix);
    if (!weights_matrix(&enc->positions, s, name, c->max_positions, c->hidden, e) || !bind_type(enc, c, s, prefix, e))
        goto out;
    snprintf(stem, sizeof stem, "%sembeddings.LayerNorm", prefix);
    if (!bind_norm(&enc->norm, s, stem, c->hidden, e)) goto out;
    if (!(enc->layers = mem_zalloc(c->n_layers, sizeof *enc->layers, "encoder layers", e))) goto out;
    for (size_t i = 0; i < c->n_layers; i++)
        if (!bind_layer(&enc->layers[i], c, s, i, e)) goto out;
    ok = true;
out:
    if (!ok) { encoder_close(enc, c->n_layers); return NULL; }
    return enc;
}

void encoder_close(ern_encoder *enc, size_t n_layers) {
    if (!enc) return;
    for (size_t i = 0; enc->layers && i < n_layers; i++) {
        encoder_layer *l = &enc->layers[i];
        float *const owned[] = { l->q.bias,    l->k.bias,         l->v.bias,         l->o.bias,        l->up.bias,
                                 l->down.bias, l->attn_norm.gain, l->attn_norm.bias, l->out_norm.gain, l->out_norm.bias };
        for (size_t n = 0; n < sizeof owned / sizeof owned[0]; n++) free(owned[n]);
    }
    free(enc->layers);
    free(enc->type);
    free(enc->norm.gain);
    free(enc->norm.bias);
    free(enc);
}

/* ---- the forward pass ------------------------------------------------------------------------- */

struct run {
    const ern_kernels *k;
    ern_pool *pool;
    bool exact;
    size_t T, D, F, n_heads, head_dim;
    float eps;
    float *x, *y;               /* [T, D] hidden, what a block adds */
    float *q, *kk, *v, *att;    /* [T, D] */
    float *up;                  /* [T, F] */
    float *scores;              /* [threads, T] */
    void *q8;
    const encoder_norm *norm;   /* of the present job */
};

static void apply(struct run *r, float *y, const float *x, const model_linear *l) {
    matmul(r->k, r->pool, y, x, r->T, &l->w, r->exact, r->q8);
    if (!l->bias) return;
    const size_t R = l->w.dims[0];
    for (size_t t = 0; t < r->T; t++)
        for (size_t i = 0; i < R; i++) y[t * R + i] += l->bias[i];
}

/* x = LayerNorm(x + y) */
static void add_norm_part(void *ctx, size_t thread, size_t n_threads) {
    const struct run *r = ctx;
    size_t from, to;
    pool_part(r->T, 1, thread, n_threads, &from, &to);
    for (size_t t = from; t < to; t++) {
        float *x = r->x + t * r->D;
        r->k->add(x, r->y + t * r->D, r->D);
        r->k->layernorm(x, x, r->norm->gain, r->norm->bias, r->eps, r->D);
    }
}

static void add_norm(struct run *r, const encoder_norm *norm) {
    r->norm = norm;
    pool_run(r->pool, add_norm_part, r);
}

static void attend_part(void *ctx, size_t thread, size_t n_threads) {
    const struct run *r = ctx;
    const size_t d = r->head_dim, H = r->n_heads;
    const float scale = 1.0f / sqrtf((float)d);
    float *scratch = r->scores + thread * (r->T + 16);
    size_t from, to;
    pool_part(r->T * H, 1, thread, n_threads, &from, &to);
    for (size_t i = from; i < to; i++) {
        const size_t t = i % r->T, off = i / r->T * d;      /* head by head: its keys stay in the cache */
        r->k->attend(r->att + t * r->D + off, r->q + t * r->D + off, r->kk + off, r->v + off, DTYPE_F32, r->D, r->T, d,
                     scale, scratch);
    }
}

/* GELU with the error function: the models are trained with it, and the tanh form differs by up to 5e-4. */
static void gelu_part(void *ctx, size_t thread, size_t n_threads) {
    const struct run *r = ctx;
    size_t from, to;
    pool_part(r->T, 1, thread, n_threads, &from, &to);
    r->k->gelu_erf(r->up + from * r->F, r->up + from * r->F, (to - from) * r->F);
}

static void embed(const ern_model *m, struct run *r, const int32_t *ids) {
    const ern_encoder *enc = m->encoder;
    const ern_dtype_info *words = dtype_info(enc->words.dtype), *positions = dtype_info(enc->positions.dtype);
    const size_t word_bytes = view_row_bytes(&enc->words), position_bytes = view_row_bytes(&enc->positions);
    for (size_t t = 0; t < r->T; t++) {
        float *x = r->x + t * r->D, *y = r->y + t * r->D;
        words->to_f32(x, (const char *)enc->words.data + (size_t)ids[t] * word_bytes, r->D);
        positions->to_f32(y, (const char *)enc->positions.data + t * position_bytes, r->D);
        for (size_t i = 0; enc->type && i < r->D; i++) x[i] += enc->type[i];
    }
    add_norm(r, &enc->norm);
}

static bool layers(const ern_model *m, struct run *r, trace_fn trace, void *ctx, ern_err *e) {
    for (size_t i = 0; i < m->c.n_layers; i++) {
        const encoder_layer *l = &m->encoder->layers[i];
        const model_trace layer_trace = { trace, ctx, i };
        apply(r, r->q, r->x, &l->q);
        apply(r, r->kk, r->x, &l->k);
        apply(r, r->v, r->x, &l->v);
        pool_run(r->pool, attend_part, r);
        apply(r, r->y, r->att, &l->o);
        if (!trace_layer(&layer_trace, "attn", r->y, false, r->T, r->D, e)) return false;
        add_norm(r, &l->attn_norm);
        apply(r, r->up, r->x, &l->up);
        pool_run(r->pool, gelu_part, r);
        apply(r, r->y, r->up, &l->down);
        if (!trace_layer(&layer_trace, "ffn", r->y, false, r->T, r->D, e)) return false;
        add_norm(r, &l->out_norm);
        if (!trace_layer(&layer_trace, "out", r->x, false, r->T, r->D, e)) return false;
    }
    return true;
}

static bool check_ids(const ern_config *c, const int32_t *ids, size_t T, ern_err *e) {
    if (T == 0) return ern_fail(e, ERN_ARG, "embedding: at least one token wanted");
    if (T > c->max_positions)
        return ern_fail(e, ERN_LIMIT, "embedding of %zu tokens: the model has %zu positions", T, c->max_positions);
    for (size_t t = 0; t < T; t++)
        if (ids[t] < 0 || (size_t)ids[t] >= c->n_vocab)
            return ern_fail(e, ERN_ARG, "token id %d at %zu: 0 to %zu wanted", (int)ids[t], t, c->n_vocab - 1);
    return true;
}

bool encoder_forward(const ern_model *m, const ern_kernels *k, ern_pool *pool, bool exact, const int32_t *ids, size_t T,
                     float *hidden, trace_fn trace, void *trace_ctx, ern_err *e) {
    const ern_config *c = &m->c;
    const size_t D = c->hidden, F = c->ffn;
    bool ok = false;
    if (!check_ids(c, ids, T, e)) return false;
    struct run r = { .k = k,
                     .pool = pool,
                     .exact = exact,
                     .T = T,
                     .D = D,
                     .F = F,
                     .n_heads = c->n_heads,
                     .head_dim = c->head_dim,
                     .eps = c->norm_eps };
    const size_t n_scores = pool_n(pool) * (T + 16), widest = D > F ? D : F;
    float *memory = mem_zalloc(6 * T * D + T * F + n_scores, sizeof *memory, "encoder scratch", e);
    if (!memory || posix_memalign(&r.q8, 64, matmul_scratch_bytes(T, widest)) != 0) {
        r.q8 = NULL;
        ern_fail(e, ERN_NOMEM, "no memory to encode %zu tokens", T);
        goto out;
    }
    float **const parts[] = { &r.x, &r.y, &r.q, &r.kk, &r.v, &r.att };
    for (size_t i = 0; i < 6; i++) *parts[i] = memory + i * T * D;
    r.up = memory + 6 * T * D;
    r.scores = r.up + T * F;
    embed(m, &r, ids);
    if (trace && !trace(trace_ctx, "embed", r.x, false, T, D, e)) goto out;
    if (!layers(m, &r, trace, trace_ctx, e)) goto out;
    memcpy(hidden, r.x, T * D * sizeof *hidden);
    ok = true;
out:
    free(r.q8);
    free(memory);
    return ok;
}

void encoder_pool(const ern_config *c, const float *hidden, size_t T, float *out) {
    const size_t D = c->hidden;
    double square = 0.0;
    for (size_t i = 0; i < D; i++) {
        double sum = (double)hidden[i];
        for (size_t t = 1; !c->pools_cls && t < T; t++) sum += (double)hidden[t * D + i];
        out[i] = (float)(c->pools_cls ? sum : sum / (double)T);
        square += (double)out[i] * (double)out[i];
    }
    if (!c->is_normalized || !(square > 0.0)) return;
    for (size_t i = 0; i < D; i++) out[i] = (float)((double)out[i] / sqrt(square));
}
