#include "model/weights.h"

#include "base/buf.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 192

float *weights_f32(const ern_source *s, const char *name, size_t n, bool optional, bool *ok, ern_err *e) {
    const ern_view *v = source_find(s, name);
    if (!v && optional) return NULL;
    if (!v) {
        *ok = ern_fail(e, ERN_FORMAT, "%s: tensor %s is missing", source_path(s), name);
        return NULL;
    }
    if (view_n(v) != n || !dtype_info(v->dtype)->to_f32) {
        *ok = ern_fail(e, ERN_FORMAT, "%s: tensor %s: %zu values of type %s, %zu wanted by the config", source_path(s), name,
                       view_n(v), dtype_info(v->dtype)->name, n);
        return NULL;
    }
    float *y = mem_zalloc(n, sizeof *y, name, e);
    if (!y) *ok = false;
    else view_to_f32(v, y);
    return y;
}

static bool bind_matrix(ern_view *out, const ern_source *s, const char *name, size_t n_out, size_t n_in, ern_err *e) {
    const ern_view *v = source_find(s, name);
    if (!v) return ern_fail(e, ERN_FORMAT, "%s: tensor %s is missing", source_path(s), name);
    if (v->n_dims != 2 || v->dims[0] != n_out || v->dims[1] != n_in)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: shape [%zu, %zu] of %u dimensions, the config wants [%zu, %zu]",
                        source_path(s), name, v->dims[0], v->n_dims > 1 ? v->dims[1] : 1, v->n_dims, n_out, n_in);
    if (!dtype_info(v->dtype)->to_f32)
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
    if (!bind_matrix(&l.w, s, name, n_out, n_in, e)) return false;
    snprintf(name, sizeof name, "%s.bias", stem);
    l.bias = weights_f32(s, name, n_out, true, &ok, e);
    if (!ok) return false;
    *out = l;
    return true;
}

static bool bind_linear(model_linear *out, const ern_source *s, size_t n_out, size_t n_in, ern_err *e, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

static bool bind_linear(model_linear *out, const ern_source *s, size_t n_out, size_t n_in, ern_err *e, const char *fmt, ...) {
    char stem[NAME_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(stem, sizeof stem, fmt, args);
    va_end(args);
    return weights_linear(out, s, stem, n_out, n_in, e);
}

static bool bind_mlp(model_mlp *out, const ern_source *s, size_t D, size_t F, const char *stem, ern_err *e) {
    return bind_linear(&out->gate, s, F, D, e, "%s.gate_proj", stem) && bind_linear(&out->up, s, F, D, e, "%s.up_proj", stem) &&
           bind_linear(&out->down, s, D, F, e, "%s.down_proj", stem);
}

static bool bind_moe(model_layer *l, const ern_config *c, const ern_source *s, size_t i, ern_err *e) {
    char stem[NAME_MAX_BYTES];
    bool ok = true;
    l->is_moe = true;
    snprintf(stem, sizeof stem, "model.layers.%zu.mlp.gate.weight", i);
    l->router = weights_f32(s, stem, c->n_experts * c->hidden, false, &ok, e);
    if (!ok) return false;
    snprintf(stem, sizeof stem, "model.layers.%zu.mlp.moe_statics.e_score_correction_bias", i);
    l->router_bias = weights_f32(s, stem, c->n_experts, true, &ok, e);
    if (!ok) return false;
    if (!(l->experts = mem_zalloc(c->n_experts, sizeof *l->experts, "experts", e))) return false;
    for (size_t x = 0; x < c->n_experts; x++) {
        snprintf(stem, sizeof stem, "model.layers.%zu.mlp.experts.%zu", i, x);
        if (!bind_mlp(&l->experts[x], s, c->hidden, c->expert_ffn, stem, e)) return false;
    }
    if (c->n_shared == 0) return true;
    snprintf(stem, sizeof stem, "model.layers.%zu.mlp.shared_experts", i);
    return bind_mlp(&l->mlp, s, c->hidden, c->n_shared * c->expert_ffn, stem, e);
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
    if (config_is_moe_layer(c, i)) return bind_moe(l, c, s, i, e);
    snprintf(name, sizeof name, "model.layers.%zu.mlp", i);
    return bind_mlp(&l->mlp, s, D, c->ffn, name, e);
}

/* theta_i = base^(-2i/d) in f32 as the reference computes it; llama3 scaling stretches the long waves. */
static bool make_inv_freq(ern_model *m, ern_err *e) {
    const ern_config *c = &m->c;
    const size_t half = c->head_dim / 2;
    if (!(m->inv_freq = mem_zalloc(half, sizeof(float), "rope frequencies", e))) return false;
    for (size_t i = 0; i < half; i++) {
        const float power = powf((float)c->rope_theta, (float)(2 * i) / (float)c->head_dim);
        float f = 1.0f / power;
        if (c->rope_factor > 0.0) {
            const double wave = 2.0 * 3.14159265358979323846 / (double)f;
            const double low = c->rope_original / c->rope_low, high = c->rope_original / c->rope_high;
            if (wave > low) f = (float)((double)f / c->rope_factor);
            else if (wave >= high) {
                const double t = (c->rope_original / wave - c->rope_low) / (c->rope_high - c->rope_low);
                f = (float)((1.0 - t) * (double)f / c->rope_factor + t * (double)f);
            }
        }
        m->inv_freq[i] = f;
    }
    /* GGUF stores the llama3 scaling as one divisor a pair. */
    const ern_view *v = source_find(m->source, "rope_freqs.weight");
    if (v && view_n(v) == half && v->dtype == DTYPE_F32 && c->rope_factor <= 0.0) {
        float *divisor = mem_zalloc(half, sizeof *divisor, "rope divisors", e);
        if (!divisor) return false;
        view_to_f32(v, divisor);
        for (size_t i = 0; i < half; i++)
            if (divisor[i] > 0.0f) m->inv_freq[i] /= divisor[i];
        free(divisor);
    }
    return true;
}

ern_model *model_bind(ern_source *source, ern_err *e) {
    bool ok = false, found = true;
    ern_model *m = mem_zalloc(1, sizeof *m, "model", e);
    if (!m) { source_close(source); return NULL; }
    m->source = source;
    if (!config_read(&m->c, source, e)) goto out;
    const ern_config *c = &m->c;
    if (c->arch == ARCH_BERT) { ern_fail(e, ERN_ARG, "%s: an encoder gives embeddings, it cannot write text", source_path(source)); goto out; }
    if (!bind_matrix(&m->embed, source, "model.embed_tokens.weight", c->n_vocab, c->hidden, e)) goto out;
    m->output = m->embed;
    /* lm_head.weight counts whatever the flag says: some released configs claim to be tied and are not. */
    if (source_find(source, "lm_head.weight")) {
        if (!bind_matrix(&m->output, source, "lm_head.weight", c->n_vocab, c->hidden, e)) goto out;
        m->c.is_tied = false;
    } else if (!c->is_tied) {
        ern_fail(e, ERN_FORMAT, "%s: the config unties the output projection but lm_head.weight is missing", source_path(source));
        goto out;
    }
    m->output_bias = weights_f32(source, "lm_head.bias", c->n_vocab, true, &found, e);
    m->norm = found ? weights_f32(source, "model.norm.weight", c->hidden, false, &found, e) : NULL;
    if (!found) goto out;
    if (!(m->layers = mem_zalloc(c->n_layers, sizeof *m->layers, "layers", e))) goto out;
    for (size_t i = 0; i < c->n_layers; i++)
        if (!bind_layer(&m->layers[i], c, source, i, e)) goto out;
    ok = make_inv_freq(m, e);
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
    source_close(m->source);
    free(m);
}
