#include "model/weights.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/encoder.h"
#include "model/forward_int.h"

#define NAME_MAX_BYTES 192

/* Integers are no weights: I8 and U16 mean a packed format that somebody else defines. */
static bool is_number(enum ern_dtype t) {
    return dtype_info(t)->to_f32 && t != DTYPE_I8 && t != DTYPE_I16 && t != DTYPE_I32 && t != DTYPE_I64 && t != DTYPE_U8 &&
           t != DTYPE_U16 && t != DTYPE_BOOL;
}

float *weights_f32(const ern_source *s, const char *name, size_t n, bool optional, bool *ok, ern_err *e) {
    const ern_view *v = source_find(s, name);
    if (!v && optional) return NULL;
    if (!v) {
        *ok = ern_fail(e, ERN_FORMAT, "%s: tensor %s is missing", source_path(s), name);
        return NULL;
    }
    if (view_n(v) != n || v->n_dims == 0 || v->dims[v->n_dims - 1] != n) {      /* [n], or [1, n] as the router's bias */
        *ok = ern_fail(e, ERN_FORMAT, "%s: tensor %s: %zu values, %zu in a row wanted by the config", source_path(s), name,
                       view_n(v), n);
        return NULL;
    }
    if (!is_number(v->dtype)) {
        *ok = ern_fail(e, ERN_MISSING, "%s: tensor %s: cannot compute with type %s", source_path(s), name,
                       dtype_info(v->dtype)->name);
        return NULL;
    }
    float *y = mem_zalloc(n, sizeof *y, name, e);
    if (!y) *ok = false;
    else view_to_f32(v, y);
    return y;
}

bool weights_matrix(ern_view *out, const ern_source *s, const char *name, size_t n_out, size_t n_in, ern_err *e) {
    const ern_view *v = source_find(s, name);
    if (!v) return ern_fail(e, ERN_FORMAT, "%s: tensor %s is missing", source_path(s), name);
    if (v->n_dims != 2 || v->dims[0] != n_out || v->dims[1] != n_in)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: shape [%zu, %zu] of %u dimensions, the config wants [%zu, %zu]",
                        source_path(s), name, v->dims[0], v->n_dims > 1 ? v->dims[1] : 1, v->n_dims, n_out, n_in);
    if (!is_number(v->dtype))
        return ern_fail(e, ERN_MISSING, "%s: tensor %s: cannot compute with type %s", source_path(s), name,
                        dtype_info(v->dtype)->name);
    *out = *v;
    return true;
}

bool weights_linear(model_linear *out, const ern_source *s, const char *stem, size_t n_out, size_t n_in, ern_err *e) {
    char name[NAME_MAX_BYTES];
    bool ok = true;
    model_linear l = { 0 };
    snprintf(name, sizeof name, "%s.weight", stem);
    if (!weights_matrix(&l.w, s, name, n_out, n_in, e)) return false;
    snprintf(name, sizeof name, "%s.bias", stem);
    l.bias = weights_f32(s, name, n_out, true, &ok, e);
    if (!ok) return false;
    l.m = matrix_of(&l.w);
    *out = l;
    return true;
}

static bool bind_linear(model_linear *out, const ern_source *s, size_t n_out, size_t n_in, ern_err *e, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

static bool bind_linear(model_linear *out, const ern_source *s, size_t n_out, size_t n_in, ern_err *e, const char *fmt,
                        ...) {
    char stem[NAME_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(stem, sizeof stem, fmt, args);
    va_end(args);
    return weights_linear(out, s, stem, n_out, n_in, e);
}

static bool bind_mlp(model_mlp *out, const ern_source *s, size_t D, size_t F, const char *stem, ern_err *e) {
    return bind_linear(&out->gate, s, F, D, e, "%s.gate_proj", stem) &&
           bind_linear(&out->up, s, F, D, e, "%s.up_proj", stem) &&
           bind_linear(&out->down, s, D, F, e, "%s.down_proj", stem);
}

static bool bind_moe(model_layer *l, const ern_config *c, const ern_source *s, size_t i, ern_err *e) {
    char stem[NAME_MAX_BYTES];
    bool ok = true;
    ern_view router;
    l->is_moe = true;
    snprintf(stem, sizeof stem, "model.layers.%zu.mlp.gate.weight", i);
    if (!weights_matrix(&router, s, stem, c->n_experts, c->hidden, e) ||
        !(l->router = mem_zalloc(c->n_experts * c->hidden, sizeof(float), stem, e)))
        return false;
    view_to_f32(&router, l->router);
    snprintf(stem, sizeof stem, "model.layers.%zu.mlp.moe_statics.e_score_correction_bias", i);
    l->router_bias = weights_f32(s, stem, c->n_experts, true, &ok, e);
    if (!ok) return false;
    if (!(l->experts = mem_zalloc(c->n_experts, sizeof *l->experts, "experts", e))) return false;
    for (size_t x = 0; x < c->n_experts; x++) {
        snprintf(stem, sizeof stem, "model.layers.%zu.mlp.experts.%zu", i, x);
        if (!bind_mlp(&l->experts[x], s, c->hidden, c->expert_ffn, stem, e)) return false;
    }
    if (c->shared_ffn == 0) return true;
    snprintf(stem, sizeof stem, "model.layers.%zu.mlp.shared_experts", i);
    return bind_mlp(&l->mlp, s, c->hidden, c->shared_ffn, stem, e);
}

/* A config that says there are biases and tensors without them (or the reverse) do not belong together. */
static bool check_bias(const model_linear *l, enum config_flag said, const ern_source *s, ern_err *e) {
    if (said == FLAG_UNSAID || (said == FLAG_YES) == (l->bias != NULL)) return true;
    return ern_fail(e, ERN_FORMAT, "%s: tensor %s %s a bias, the config says %s", source_path(s), l->w.name,
                    l->bias ? "has" : "has not", said == FLAG_YES ? "true" : "false");
}

static bool check_biases(const model_layer *l, const ern_config *c, const ern_source *s, ern_err *e) {
    const model_linear *const attn[] = { &l->q, &l->k, &l->v, &l->o }, *const mlp[] = { &l->mlp.gate, &l->mlp.up,
                                                                                        &l->mlp.down };
    for (size_t i = 0; i < 4; i++)
        if (!check_bias(attn[i], c->attention_bias, s, e)) return false;
    for (size_t i = 0; i < 3; i++)
        if (mlp[i]->w.data && !check_bias(mlp[i], c->mlp_bias, s, e)) return false;
    return true;
}

static bool bind_layer(model_layer *l, const ern_config *c, const ern_source *s, size_t i, ern_err *e) {
    const size_t D = c->hidden, Q = c->n_heads * c->head_dim, K = c->n_kv_heads * c->head_dim;
    char name[NAME_MAX_BYTES];
    bool ok = true;
    snprintf(name, sizeof name, "model.layers.%zu.input_layernorm.weight", i);
    l->attn_norm = weights_f32(s, name, D, false, &ok, e);
    if (!ok) return false;
    snprintf(name, sizeof name, "model.layers.%zu.post_attention_layernorm.weight", i);
    l->ffn_norm = weights_f32(s, name, D, false, &ok, e);
    if (!ok) return false;
    if (!bind_linear(&l->q, s, Q, D, e, "model.layers.%zu.self_attn.q_proj", i) ||
        !bind_linear(&l->k, s, K, D, e, "model.layers.%zu.self_attn.k_proj", i) ||
        !bind_linear(&l->v, s, K, D, e, "model.layers.%zu.self_attn.v_proj", i) ||
        !bind_linear(&l->o, s, D, Q, e, "model.layers.%zu.self_attn.o_proj", i))
        return false;
    snprintf(name, sizeof name, "model.layers.%zu.mlp", i);
    return (config_is_moe_layer(c, i) ? bind_moe(l, c, s, i, e) : bind_mlp(&l->mlp, s, D, c->ffn, name, e)) &&
           check_biases(l, c, s, e);
}

ern_model *model_bind(ern_source *source, ern_err *e) {
    bool ok = false, found = true;
    ern_model *m = mem_zalloc(1, sizeof *m, "model", e);
    if (!m) { source_close(source); return NULL; }
    m->source = source;
    if (!config_read(&m->c, source, e)) goto out;
    const ern_config *c = &m->c;
    if (!weights_check_names(c, source, e)) goto out;
    if (c->arch == ARCH_BERT) {
        ok = (m->encoder = encoder_bind(c, source, e)) != NULL;
        goto out;
    }
    if (!weights_matrix(&m->embed, source, "model.embed_tokens.weight", c->n_vocab, c->hidden, e)) goto out;
    m->output = m->embed;
    /* lm_head.weight counts whatever the flag says: some released configs claim to be tied and are not. */
    if (source_find(source, "lm_head.weight")) {
        if (!weights_matrix(&m->output, source, "lm_head.weight", c->n_vocab, c->hidden, e)) goto out;
        m->c.is_tied = false;
    } else if (!c->is_tied) {
        ern_fail(e, ERN_FORMAT, "%s: the config unties the output projection but lm_head.weight is missing",
                 source_path(source));
        goto out;
    }
    m->output_matrix = matrix_of(&m->output);
    m->output_bias = weights_f32(source, "lm_head.bias", c->n_vocab, true, &found, e);
    m->norm = found ? weights_f32(source, "model.norm.weight", c->hidden, false, &found, e) : NULL;
    if (!found) goto out;
    if (!(m->layers = mem_zalloc(c->n_layers, sizeof *m->layers, "layers", e))) goto out;
    for (size_t i = 0; i < c->n_layers; i++)
        if (!bind_layer(&m->layers[i], c, source, i, e)) goto out;
    ok = (m->inv_freq = rope_frequencies(c, source, e)) != NULL;
out:
    if (!ok) { model_close(m); return NULL; }
    return m;
}

static void free_mlp(model_mlp *mlp) {
    free(mlp->gate.bias);
    free(mlp->up.bias);
    free(mlp->down.bias);
}

void model_close(ern_model *m) {
    if (!m) return;
    model_unpack(m);            /* walks the layers: before they are freed */
    for (size_t i = 0; m->layers && i < m->c.n_layers; i++) {
        model_layer *l = &m->layers[i];
        free(l->attn_norm);
        free(l->ffn_norm);
        free(l->q.bias);
        free(l->k.bias);
        free(l->v.bias);
        free(l->o.bias);
        free_mlp(&l->mlp);
        for (size_t x = 0; l->experts && x < m->c.n_experts; x++) free_mlp(&l->experts[x]);
        free(l->experts);
        free(l->router);
        free(l->router_bias);
    }
    free(m->layers);
    free(m->norm);
    free(m->output_bias);
    free(m->inv_freq);
    encoder_close(m->encoder, m->c.n_layers);
    source_close(m->source);
    free(m);
}
