#include "model/config.h"

#include <stdlib.h>
#include <string.h>

#define MAX_LAYERS 1024
#define MAX_WIDTH ((size_t)1 << 20)
#define MAX_VOCAB ((size_t)1 << 24)

/* The integer under any of the names, or fallback; a wrong kind or range is an error. */
static bool json_size(size_t *out, const json_t *json, const char *const *keys, bool required, size_t fallback,
                      size_t max, const char *name, ern_err *e) {
    for (size_t i = 0; keys[i]; i++) {
        const json_t *v = json_object_get(json, keys[i]);
        if (!v || json_is_null(v)) continue;
        if (json_is_array(v) && json_array_size(v) > 0) v = json_array_get(v, 0);     /* [text, vision] */
        if (!json_is_integer(v) || json_integer_value(v) < 0 || (size_t)json_integer_value(v) > max)
            return ern_fail(e, ERN_FORMAT, "%s: %s: an integer from 0 to %zu wanted", name, keys[i], max);
        *out = (size_t)json_integer_value(v);
        return true;
    }
    if (required) return ern_fail(e, ERN_FORMAT, "%s: %s is missing", name, keys[0]);
    *out = fallback;
    return true;
}

#define KEYS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static double json_f64(const json_t *json, const char *key, double fallback) {
    const json_t *v = json_object_get(json, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static int32_t json_token(const json_t *json, const char *key) {
    const json_t *v = json_object_get(json, key);
    if (json_is_array(v)) v = json_array_get(v, 0);
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX
               ? (int32_t)json_integer_value(v) : -1;
}

static bool check(ern_config *c, const char *name, ern_err *e) {
    if (c->n_layers == 0 || c->hidden == 0 || c->n_heads == 0 || c->n_vocab == 0 || c->ffn == 0 || c->head_dim == 0)
        return ern_fail(e, ERN_FORMAT, "%s: layers %zu, hidden %zu, heads %zu of %zu, ffn %zu, vocabulary %zu: none may be 0",
                        name, c->n_layers, c->hidden, c->n_heads, c->head_dim, c->ffn, c->n_vocab);
    if (c->n_kv_heads == 0 || c->n_heads % c->n_kv_heads)
        return ern_fail(e, ERN_FORMAT, "%s: %zu query heads cannot share %zu key heads", name, c->n_heads, c->n_kv_heads);
    if (c->head_dim % 2) return ern_fail(e, ERN_FORMAT, "%s: head_dim %zu: an even number wanted", name, c->head_dim);
    if (c->arch == ARCH_ERNIE_MOE) {
        if (c->n_used == 0 || c->n_used > c->n_experts)
            return ern_fail(e, ERN_FORMAT, "%s: %zu of %zu experts cannot be chosen", name, c->n_used, c->n_experts);
        if (c->expert_ffn == 0 || c->moe_interval == 0)
            return ern_fail(e, ERN_FORMAT, "%s: expert width %zu and interval %zu: neither may be 0", name, c->expert_ffn,
                            c->moe_interval);
        if (c->moe_end >= c->n_layers) c->moe_end = c->n_layers - 1;
    }
    if (!(c->norm_eps >= 0.0f && c->norm_eps < 1.0f))
        return ern_fail(e, ERN_FORMAT, "%s: norm epsilon %g: 0 to 1 wanted", name, (double)c->norm_eps);
    if (c->arch != ARCH_BERT && !(c->rope_theta > 0.0))
        return ern_fail(e, ERN_FORMAT, "%s: rope_theta %g: more than 0 wanted", name, c->rope_theta);
    return true;
}

static bool arch_from_type(enum model_arch *out, const char *type, const char *name, ern_err *e) {
    static const struct { const char *type; enum model_arch arch; } known[] = {
        { "ernie4_5", ARCH_ERNIE }, { "ernie4_5_moe", ARCH_ERNIE_MOE }, { "ernie4_5-moe", ARCH_ERNIE_MOE },
        { "llama", ARCH_LLAMA }, { "bert", ARCH_BERT },
    };
    for (size_t i = 0; type && i < sizeof known / sizeof known[0]; i++)
        if (strcmp(type, known[i].type) == 0) {
            *out = known[i].arch;
            return true;
        }
    return ern_fail(e, ERN_MISSING, "%s: model type \"%s\" is not one of ernie4_5, ernie4_5_moe, llama, bert", name,
                    type ? type : "(none)");
}

static bool read_rope(ern_config *c, const json_t *json, const char *name, ern_err *e) {
    const json_t *params = json_object_get(json, "rope_parameters");
    const json_t *scaling = json_object_get(json, "rope_scaling");
    c->rope_theta = json_f64(json, "rope_theta", c->arch == ARCH_LLAMA ? 10000.0 : 500000.0);
    if (json_is_object(params)) {
        c->rope_theta = json_f64(params, "rope_theta", c->rope_theta);
        scaling = params;
    }
    if (!json_is_object(scaling)) return true;
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    if (!type) type = json_string_value(json_object_get(scaling, "type"));
    if (!type || strcmp(type, "default") == 0) return true;
    if (strcmp(type, "llama3") != 0)
        return ern_fail(e, ERN_MISSING, "%s: rope type \"%s\" is not one of default, llama3", name, type);
    c->rope_factor = json_f64(scaling, "factor", 8.0);
    c->rope_low = json_f64(scaling, "low_freq_factor", 1.0);
    c->rope_high = json_f64(scaling, "high_freq_factor", 4.0);
    c->rope_original = json_f64(scaling, "original_max_position_embeddings", 8192.0);
    if (!(c->rope_factor >= 1.0) || !(c->rope_high > c->rope_low) || !(c->rope_low > 0.0) || !(c->rope_original > 0.0))
        return ern_fail(e, ERN_FORMAT, "%s: rope scaling %g, %g, %g, %g makes no sense", name, c->rope_factor, c->rope_low,
                        c->rope_high, c->rope_original);
    return true;
}

static bool read_moe(ern_config *c, const json_t *json, const char *name, ern_err *e) {
    size_t k2 = 0;
    const json_t *end = json_object_get(json, "moe_layer_end_index");
    if (json_is_array(end)) end = json_array_get(end, 0);
    if (!json_size(&c->n_experts, json, KEYS("moe_num_experts", "num_experts"), true, 0, 65536, name, e) ||
        !json_size(&k2, json, KEYS("moe_k", "num_experts_per_tok", "moe_topk"), true, 0, 65536, name, e) ||
        !json_size(&c->expert_ffn, json, KEYS("moe_intermediate_size"), true, 0, MAX_WIDTH, name, e) ||
        !json_size(&c->n_shared, json, KEYS("moe_num_shared_experts"), false, 0, 1024, name, e) ||
        !json_size(&c->moe_start, json, KEYS("moe_layer_start_index"), false, 0, MAX_LAYERS, name, e) ||
        !json_size(&c->moe_interval, json, KEYS("moe_layer_interval"), false, 1, MAX_LAYERS, name, e))
        return false;
    c->n_used = k2;
    c->moe_end = json_is_integer(end) && json_integer_value(end) >= 0 ? (size_t)json_integer_value(end) : c->n_layers - 1;
    c->moe_norm_min = (float)json_f64(json, "moe_norm_min", 1e-12);
    return true;
}

bool config_from_json(ern_config *out, const json_t *json, const char *name, ern_err *e) {
    ern_config c = { .bos = json_token(json, "bos_token_id"), .eos = json_token(json, "eos_token_id"),
                     .pad = json_token(json, "pad_token_id") };
    if (!json_is_object(json)) return ern_fail(e, ERN_FORMAT, "%s: a JSON object wanted", name);
    if (!arch_from_type(&c.arch, json_string_value(json_object_get(json, "model_type")), name, e)) return false;
    if (!json_size(&c.n_layers, json, KEYS("num_hidden_layers"), true, 0, MAX_LAYERS, name, e) ||
        !json_size(&c.hidden, json, KEYS("hidden_size"), true, 0, MAX_WIDTH, name, e) ||
        !json_size(&c.n_heads, json, KEYS("num_attention_heads"), true, 0, 65536, name, e) ||
        !json_size(&c.n_kv_heads, json, KEYS("num_key_value_heads"), false, c.n_heads, 65536, name, e) ||
        !json_size(&c.head_dim, json, KEYS("head_dim"), false, c.n_heads ? c.hidden / c.n_heads : 0, 65536, name, e) ||
        !json_size(&c.ffn, json, KEYS("intermediate_size"), true, 0, MAX_WIDTH, name, e) ||
        !json_size(&c.n_vocab, json, KEYS("vocab_size"), true, 0, MAX_VOCAB, name, e) ||
        !json_size(&c.max_positions, json, KEYS("max_position_embeddings"), false, 131072, (size_t)1 << 30, name, e) ||
        !json_size(&c.n_types, json, KEYS("type_vocab_size"), false, 0, 1024, name, e))
        return false;
    c.norm_eps = (float)json_f64(json, c.arch == ARCH_BERT ? "layer_norm_eps" : "rms_norm_eps",
                                  c.arch == ARCH_BERT ? 1e-12 : 1e-5);
    const json_t *tied = json_object_get(json, "tie_word_embeddings");
    c.is_tied = tied ? json_is_true(tied) : c.arch != ARCH_LLAMA;
    c.rope_adjacent = c.arch == ARCH_ERNIE || c.arch == ARCH_ERNIE_MOE;
    if (!read_rope(&c, json, name, e)) return false;
    if (c.arch == ARCH_ERNIE_MOE && c.n_layers && !read_moe(&c, json, name, e)) return false;
    if (!check(&c, name, e)) return false;
    *out = c;
    return true;
}

/* The integer under ARCH.key. A per-layer array would need a config a layer, which no ERNIE or Llama file has. */
static bool gguf_size(size_t *out, const ern_gguf *g, const char *arch, const char *key, bool required, size_t fallback,
                      size_t max, ern_err *e) {
    char full[128];
    uint64_t v;
    snprintf(full, sizeof full, "%s.%s", arch, key);
    if (!gguf_u64(g, full, &v)) {
        if (required) return ern_fail(e, ERN_FORMAT, "GGUF metadata: %s is missing or not an integer", full);
        *out = fallback;
        return true;
    }
    if (v > max) return ern_fail(e, ERN_FORMAT, "GGUF metadata: %s is %llu, at most %zu wanted", full, (unsigned long long)v, max);
    *out = (size_t)v;
    return true;
}

static double gguf_real(const ern_gguf *g, const char *arch, const char *key, double fallback) {
    char full[128];
    double v;
    snprintf(full, sizeof full, "%s.%s", arch, key);
    return gguf_f64(g, full, &v) ? v : fallback;
}

static int32_t gguf_token(const ern_gguf *g, const char *key) {
    uint64_t v;
    return gguf_u64(g, key, &v) && v <= INT32_MAX ? (int32_t)v : -1;
}

static bool config_from_gguf(ern_config *out, const ern_source *s, ern_err *e) {
    const ern_gguf *g = source_gguf(s);
    const char *arch = gguf_str(g, "general.architecture");
    ern_config c = { .bos = gguf_token(g, "tokenizer.ggml.bos_token_id"), .eos = gguf_token(g, "tokenizer.ggml.eos_token_id"),
                     .pad = gguf_token(g, "tokenizer.ggml.padding_token_id"), .rope_adjacent = true };
    if (!arch_from_type(&c.arch, arch, source_path(s), e)) return false;
    const ern_view *embed = source_find(s, c.arch == ARCH_BERT ? "embeddings.word_embeddings.weight" : "model.embed_tokens.weight");
    if (!embed || embed->n_dims != 2)
        return ern_fail(e, ERN_FORMAT, "%s: the embedding table token_embd.weight [vocabulary, width] is missing", source_path(s));
    c.n_vocab = embed->dims[0];
    if (!gguf_size(&c.n_layers, g, arch, "block_count", true, 0, MAX_LAYERS, e) ||
        !gguf_size(&c.hidden, g, arch, "embedding_length", true, 0, MAX_WIDTH, e) ||
        !gguf_size(&c.n_heads, g, arch, "attention.head_count", true, 0, 65536, e) ||
        !gguf_size(&c.n_kv_heads, g, arch, "attention.head_count_kv", false, c.n_heads, 65536, e) ||
        !gguf_size(&c.head_dim, g, arch, "attention.key_length", false, c.n_heads ? c.hidden / c.n_heads : 0, 65536, e) ||
        !gguf_size(&c.ffn, g, arch, "feed_forward_length", true, 0, MAX_WIDTH, e) ||
        !gguf_size(&c.max_positions, g, arch, "context_length", false, 131072, (size_t)1 << 30, e))
        return false;
    c.norm_eps = (float)(c.arch == ARCH_BERT ? gguf_real(g, arch, "attention.layer_norm_epsilon", 1e-12)
                                             : gguf_real(g, arch, "attention.layer_norm_rms_epsilon", 1e-5));
    c.rope_theta = gguf_real(g, arch, "rope.freq_base", c.arch == ARCH_LLAMA ? 10000.0 : 500000.0);
    c.is_tied = !source_find(s, "lm_head.weight");
    if (c.arch == ARCH_BERT) {
        uint64_t pooling = 1;
        gguf_u64(g, "bert.pooling_type", &pooling);
        c.pools_cls = pooling == 2;
        const ern_view *types = source_find(s, "embeddings.token_type_embeddings.weight");
        c.n_types = types && types->n_dims == 2 ? types->dims[0] : 0;
    }
    if (c.arch == ARCH_ERNIE_MOE) {
        if (!gguf_size(&c.n_experts, g, arch, "expert_count", true, 0, 65536, e) ||
            !gguf_size(&c.n_used, g, arch, "expert_used_count", true, 0, 65536, e) ||
            !gguf_size(&c.expert_ffn, g, arch, "expert_feed_forward_length", true, 0, MAX_WIDTH, e) ||
            !gguf_size(&c.n_shared, g, arch, "expert_shared_count", false, 0, 1024, e) ||
            !gguf_size(&c.moe_start, g, arch, "leading_dense_block_count", false, 0, MAX_LAYERS, e) ||
            !gguf_size(&c.moe_interval, g, arch, "interleave_moe_layer_step", false, 1, MAX_LAYERS, e))
            return false;
        c.moe_end = c.n_layers ? c.n_layers - 1 : 0;
        c.moe_norm_min = 1e-12f;
    }
    if (!check(&c, source_path(s), e)) return false;
    *out = c;
    return true;
}

bool config_read(ern_config *out, const ern_source *s, ern_err *e) {
    if (source_gguf(s)) return config_from_gguf(out, s, e);
    if (!source_config(s)) return ern_fail(e, ERN_NOTFOUND, "%s: no config.json beside the weights", source_path(s));
    return config_from_json(out, source_config(s), source_path(s), e);
}

bool config_is_moe_layer(const ern_config *c, size_t layer) {
    return c->arch == ARCH_ERNIE_MOE && layer >= c->moe_start && layer <= c->moe_end && (layer + 1) % c->moe_interval == 0;
}

const char *config_arch_name(const ern_config *c) {
    static const char *const names[] = { "ernie4_5", "ernie4_5_moe", "llama", "bert" };
    return names[c->arch];
}

size_t config_kv_bytes_per_token(const ern_config *c, size_t bytes_per_value) {
    return 2 * c->n_layers * c->n_kv_heads * c->head_dim * bytes_per_value;
}

size_t config_n_params(const ern_config *c) {
    const size_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    size_t n = c->n_vocab * c->hidden * (c->is_tied ? 1 : 2) + c->hidden;
    for (size_t i = 0; i < c->n_layers; i++) {
        n += 2 * c->hidden + c->hidden * (2 * q + 2 * kv);
        if (config_is_moe_layer(c, i))
            n += c->n_experts * (3 * c->hidden * c->expert_ffn + c->hidden + 1) + 3 * c->hidden * c->n_shared * c->expert_ffn;
        else
            n += 3 * c->hidden * c->ffn;
    }
    return n;
}
