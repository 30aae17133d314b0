/* The numbers of a model from GGUF metadata; where converters leave a key out, from the shapes of the tensors. */
#include <stdio.h>
#include <string.h>

#include "model/config_int.h"

struct reader { const ern_gguf *g; const ern_source *s; const char *arch; };

/* The integer under ARCH.key. A list (one value a layer) would need a config a layer, which no ERNIE or Llama file has. */
static bool gguf_size(size_t *out, const struct reader *r, const char *key, bool is_required, size_t fallback, size_t max,
                      ern_err *e) {
    char full[128];
    uint64_t v;
    snprintf(full, sizeof full, "%s.%s", r->arch, key);
    if (!gguf_u64(r->g, full, &v)) {
        if (gguf_array_n(r->g, full))
            return ern_fail(e, ERN_MISSING, "GGUF metadata: %s differs between layers; one number wanted", full);
        if (is_required) return ern_fail(e, ERN_FORMAT, "GGUF metadata: %s is missing or not an integer", full);
        *out = fallback;
        return true;
    }
    if (v > max)
        return ern_fail(e, ERN_FORMAT, "GGUF metadata: %s is %llu, at most %zu wanted", full, (unsigned long long)v, max);
    *out = (size_t)v;
    return true;
}

static double gguf_real(const struct reader *r, const char *key, double fallback) {
    char full[128];
    double v;
    snprintf(full, sizeof full, "%s.%s", r->arch, key);
    return gguf_f64(r->g, full, &v) ? v : fallback;
}

static int32_t gguf_token(const ern_gguf *g, const char *key) {
    uint64_t v;
    return gguf_u64(g, key, &v) && v <= INT32_MAX ? (int32_t)v : -1;
}

/* Rows of a matrix; 0 when it is not there. */
static size_t rows_of(const ern_source *s, const char *name) {
    const ern_view *v = source_find(s, name);
    return v && v->n_dims == 2 ? v->dims[0] : 0;
}

/* The converter writes key_length only when config.json has head_dim, and hidden / heads is wrong for ERNIE-4.5-0.3B
 * (16 heads of 128, hidden 1024): without the key the query matrix knows. */
static bool read_head_dim(ern_config *c, const struct reader *r, ern_err *e) {
    const char *q = c->arch == ARCH_BERT ? "encoder.layer.0.attention.self.query.weight"
                                         : "model.layers.0.self_attn.q_proj.weight";
    const size_t rows = rows_of(r->s, q);
    size_t value, rope;
    const size_t fallback = c->n_heads && rows && rows % c->n_heads == 0 ? rows / c->n_heads
                            : c->n_heads                                 ? c->hidden / c->n_heads
                                                                         : 0;
    if (!gguf_size(&c->head_dim, r, "attention.key_length", false, fallback, 65536, e) ||
        !gguf_size(&value, r, "attention.value_length", false, c->head_dim, 65536, e) ||
        !gguf_size(&rope, r, "rope.dimension_count", false, c->head_dim, 65536, e))
        return false;
    if (value != c->head_dim || (rope != c->head_dim && c->arch != ARCH_BERT))
        return ern_fail(e, ERN_MISSING, "GGUF metadata: keys of width %zu, values of %zu, %zu rotated: one width wanted",
                        c->head_dim, value, rope);
    return true;
}

static bool read_rope(ern_config *c, const struct reader *r, ern_err *e) {
    char full[128];
    c->rope_theta = gguf_real(r, "rope.freq_base", c->arch == ARCH_LLAMA ? 10000.0 : 500000.0);
    snprintf(full, sizeof full, "%s.rope.scaling.type", r->arch);
    const char *type = gguf_str(r->g, full);
    const double factor = gguf_real(r, "rope.scaling.factor", gguf_real(r, "rope.scale_linear", 1.0));
    if (type && strcmp(type, "none") != 0 && factor != 1.0)
        return ern_fail(e, ERN_MISSING, "GGUF metadata: %s is \"%s\" with factor %g: no scaling wanted", full, type, factor);
    if (!type && factor != 1.0)
        return ern_fail(e, ERN_MISSING, "GGUF metadata: rope scaling by %g: no scaling wanted", factor);
    return true;
}

static bool read_moe(ern_config *c, const struct reader *r, ern_err *e) {
    char name[128];
    if (!gguf_size(&c->n_experts, r, "expert_count", true, 0, MAX_EXPERTS, e) ||
        !gguf_size(&c->n_used, r, "expert_used_count", true, 0, MAX_EXPERTS, e) ||
        !gguf_size(&c->expert_ffn, r, "expert_feed_forward_length", true, 0, MAX_WIDTH, e) ||
        !gguf_size(&c->n_shared, r, "expert_shared_count", false, 0, 1024, e) ||
        !gguf_size(&c->moe_start, r, "leading_dense_block_count", false, 0, MAX_LAYERS, e) ||
        !gguf_size(&c->moe_interval, r, "interleave_moe_layer_step", false, 1, MAX_LAYERS, e))
        return false;
    c->moe_end = c->n_layers ? c->n_layers - 1 : 0;
    c->moe_norm_min = 1e-12f;
    c->shared_ffn = c->n_shared * c->expert_ffn;
    /* expert_shared_feed_forward_length comes out of a wrong formula in converters, and the count is left out by some:
     * the tensor of the first layer with experts says how wide the shared MLP is. */
    for (size_t i = c->moe_start; i < c->n_layers; i++) {
        snprintf(name, sizeof name, "model.layers.%zu.mlp.shared_experts.gate_proj.weight", i);
        const size_t rows = rows_of(r->s, name);
        if (!rows || !c->expert_ffn) continue;
        if (c->n_shared && rows != c->shared_ffn)
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s has %zu rows, %zu shared experts of width %zu want %zu",
                            source_path(r->s), name, rows, c->n_shared, c->expert_ffn, c->shared_ffn);
        c->shared_ffn = rows;
        if (!c->n_shared) c->n_shared = (rows + c->expert_ffn - 1) / c->expert_ffn;
        break;
    }
    return true;
}

static bool read_encoder(ern_config *c, const struct reader *r, ern_err *e) {
    enum { POOL_NONE, POOL_MEAN, POOL_CLS };
    size_t pooling;
    if (!gguf_size(&pooling, r, "pooling_type", false, POOL_MEAN, 100, e)) return false;
    if (pooling > POOL_CLS)
        return ern_fail(e, ERN_MISSING, "GGUF metadata: pooling type %zu: mean (1) or first token (2) wanted", pooling);
    c->pools_cls = pooling == POOL_CLS;
    c->n_types = rows_of(r->s, "embeddings.token_type_embeddings.weight");
    c->attention_bias = c->mlp_bias = FLAG_UNSAID;
    return true;
}

bool config_from_gguf(ern_config *out, const ern_source *s, ern_err *e) {
    const struct reader r = { source_gguf(s), s, gguf_str(source_gguf(s), "general.architecture") };
    ern_config c = { .bos = gguf_token(r.g, "tokenizer.ggml.bos_token_id"),
                     .eos = gguf_token(r.g, "tokenizer.ggml.eos_token_id"),
                     .pad = gguf_token(r.g, "tokenizer.ggml.padding_token_id"),
                     .rope_adjacent = true,
                     .is_normalized = true };
    if (!config_arch_from_type(&c.arch, r.arch, source_path(s), e)) return false;
    c.n_vocab = rows_of(s, c.arch == ARCH_BERT ? "embeddings.word_embeddings.weight" : "model.embed_tokens.weight");
    if (!c.n_vocab || c.n_vocab > MAX_VOCAB)
        return ern_fail(e, ERN_FORMAT, "%s: the embedding table token_embd.weight [1 to %zu, width] is missing",
                        source_path(s), MAX_VOCAB);
    if (!gguf_size(&c.n_layers, &r, "block_count", true, 0, MAX_LAYERS, e) ||
        !gguf_size(&c.hidden, &r, "embedding_length", true, 0, MAX_WIDTH, e) ||
        !gguf_size(&c.n_heads, &r, "attention.head_count", true, 0, MAX_HEADS, e) ||
        !gguf_size(&c.n_kv_heads, &r, "attention.head_count_kv", false, c.n_heads, MAX_HEADS, e) ||
        !gguf_size(&c.ffn, &r, "feed_forward_length", true, 0, MAX_WIDTH, e) ||
        !gguf_size(&c.max_positions, &r, "context_length", false, c.arch == ARCH_BERT ? 512 : 131072, MAX_POSITIONS, e) ||
        !read_head_dim(&c, &r, e))
        return false;
    c.norm_eps = (float)(c.arch == ARCH_BERT ? gguf_real(&r, "attention.layer_norm_epsilon", 1e-12)
                                             : gguf_real(&r, "attention.layer_norm_rms_epsilon", 1e-5));
    c.is_tied = !source_find(s, "lm_head.weight");
    if (c.arch == ARCH_BERT && !read_encoder(&c, &r, e)) return false;
    if (c.arch != ARCH_BERT && !read_rope(&c, &r, e)) return false;
    if (c.arch == ARCH_ERNIE_MOE && !read_moe(&c, &r, e)) return false;
    if (!config_check(&c, source_path(s), e)) return false;
    *out = c;
    return true;
}
