#include "model/config.h"

#include <string.h>

#include "base/file.h"
#include "model/config_int.h"

/* ---- reading JSON ----------------------------------------------------------------------------- */

/* The integer under any of the names, or fallback; a wrong kind or range is an error. A list is [text, vision]. */
static bool json_size(size_t *out, const json_t *json, const char *const *keys, bool is_required, size_t fallback,
                      size_t max, const char *name, ern_err *e) {
    for (size_t i = 0; keys[i]; i++) {
        const json_t *v = json_object_get(json, keys[i]);
        if (!v || json_is_null(v)) continue;
        if (json_is_array(v) && json_array_size(v) > 0) v = json_array_get(v, 0);
        if (!json_is_integer(v))
            return ern_fail(e, ERN_FORMAT, "%s: %s: an integer from 0 to %zu wanted", name, keys[i], max);
        if (json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
            return ern_fail(e, ERN_FORMAT, "%s: %s is %lld, 0 to %zu wanted", name, keys[i],
                            (long long)json_integer_value(v), max);
        *out = (size_t)json_integer_value(v);
        return true;
    }
    if (is_required) return ern_fail(e, ERN_FORMAT, "%s: %s is missing", name, keys[0]);
    *out = fallback;
    return true;
}

#define KEYS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static bool json_f64(double *out, const json_t *json, const char *key, double fallback, const char *name, ern_err *e) {
    const json_t *v = json_object_get(json, key);
    if (v && !json_is_null(v) && !json_is_number(v)) return ern_fail(e, ERN_FORMAT, "%s: %s: a number wanted", name, key);
    *out = json_is_number(v) ? json_number_value(v) : fallback;
    return true;
}

static enum config_flag json_flag(const json_t *json, const char *key) {
    const json_t *v = json_object_get(json, key);
    return json_is_true(v) ? FLAG_YES : json_is_false(v) ? FLAG_NO : FLAG_UNSAID;
}

static int32_t json_token(const json_t *json, const char *key) {
    const json_t *v = json_object_get(json, key);
    if (json_is_array(v)) v = json_array_get(v, 0);
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX
               ? (int32_t)json_integer_value(v)
               : -1;
}

/* ---- what is shared by all readers ------------------------------------------------------------- */

bool config_arch_from_type(enum model_arch *out, const char *type, const char *name, ern_err *e) {
    static const struct { const char *type; enum model_arch arch; } known[] = {
        { "ernie4_5", ARCH_ERNIE }, { "ernie4_5_moe", ARCH_ERNIE_MOE }, { "ernie4_5-moe", ARCH_ERNIE_MOE },
        { "llama", ARCH_LLAMA }, { "bert", ARCH_BERT },
        { "Ernie4_5ForCausalLM", ARCH_ERNIE }, { "Ernie4_5_ForCausalLM", ARCH_ERNIE },
        { "Ernie4_5_MoeForCausalLM", ARCH_ERNIE_MOE }, { "Ernie4_5_MoEForCausalLM", ARCH_ERNIE_MOE },
        { "LlamaForCausalLM", ARCH_LLAMA }, { "BertModel", ARCH_BERT }, { "BertForMaskedLM", ARCH_BERT },
    };
    static const char *const seeing[] = { "ernie4_5_moe_vl", "ernie4_5_vl_moe", "paddleocr_vl",
                                          "Ernie4_5_VLMoeForConditionalGeneration", "PaddleOCRVLForConditionalGeneration" };
    for (size_t i = 0; type && i < sizeof known / sizeof known[0]; i++)
        if (strcmp(type, known[i].type) == 0) {
            *out = known[i].arch;
            return true;
        }
    for (size_t i = 0; type && i < sizeof seeing / sizeof seeing[0]; i++)
        if (strcmp(type, seeing[i]) == 0)
            return ern_fail(
                e, ERN_MISSING,
                "%s: \"%s\" sees pictures; this version runs text models only (ernie4_5, ernie4_5_moe, llama, bert)", name,
                type);
    return ern_fail(e, ERN_MISSING, "%s: model type \"%s\" is not one of ernie4_5, ernie4_5_moe, llama, bert", name,
                    type ? type : "(none)");
}

static bool check_moe(ern_config *c, const char *name, ern_err *e) {
    if (c->n_used == 0 || c->n_used > c->n_experts)
        return ern_fail(e, ERN_FORMAT, "%s: %zu experts of %zu cannot be chosen for a token", name, c->n_used, c->n_experts);
    if (c->expert_ffn == 0 || c->moe_interval == 0)
        return ern_fail(e, ERN_FORMAT, "%s: expert width %zu and interval %zu: neither may be 0", name, c->expert_ffn,
                        c->moe_interval);
    if (c->shared_ffn > MAX_WIDTH)
        return ern_fail(e, ERN_FORMAT, "%s: %zu shared experts of width %zu: at most %zu together", name, c->n_shared,
                        c->expert_ffn, MAX_WIDTH);
    if (!(c->moe_norm_min >= 0.0f && c->moe_norm_min < 1.0f))
        return ern_fail(e, ERN_FORMAT, "%s: moe_norm_min is %g, 0 to 1 wanted", name, (double)c->moe_norm_min);
    if (c->moe_end >= c->n_layers) c->moe_end = c->n_layers - 1;     /* released configs name layers past the last */
    return true;
}

bool config_check(ern_config *c, const char *name, ern_err *e) {
    if (c->n_layers == 0 || c->hidden == 0 || c->n_heads == 0 || c->n_vocab == 0 || c->ffn == 0 || c->head_dim == 0 ||
        c->max_positions == 0)
        return ern_fail(
            e, ERN_FORMAT,
            "%s: layers %zu, hidden %zu, heads %zu of width %zu, ffn %zu, vocabulary %zu, positions %zu: none may be 0",
            name, c->n_layers, c->hidden, c->n_heads, c->head_dim, c->ffn, c->n_vocab, c->max_positions);
    if (c->n_kv_heads == 0 || c->n_heads % c->n_kv_heads)
        return ern_fail(e, ERN_FORMAT, "%s: %zu query heads cannot share %zu key heads", name, c->n_heads, c->n_kv_heads);
    if (c->head_dim % 2 && c->arch != ARCH_BERT)
        return ern_fail(e, ERN_FORMAT, "%s: head_dim is %zu, an even number wanted", name, c->head_dim);
    if (c->n_heads * c->head_dim > MAX_WIDTH)
        return ern_fail(e, ERN_FORMAT, "%s: %zu heads of width %zu: at most %zu together", name, c->n_heads, c->head_dim,
                        MAX_WIDTH);
    if (c->arch == ARCH_ERNIE_MOE && !check_moe(c, name, e)) return false;
    if (!(c->norm_eps >= 0.0f && c->norm_eps < 1.0f))
        return ern_fail(e, ERN_FORMAT, "%s: the norm's epsilon is %g, 0 to 1 wanted", name, (double)c->norm_eps);
    if (c->arch != ARCH_BERT && !(c->rope_theta >= 1.0 && c->rope_theta < 1e30))
        return ern_fail(e, ERN_FORMAT, "%s: rope_theta is %g, 1 or more wanted", name, c->rope_theta);
    if (c->arch == ARCH_BERT && c->n_heads * c->head_dim != c->hidden)
        return ern_fail(e, ERN_FORMAT, "%s: %zu heads of width %zu do not make the hidden width %zu", name, c->n_heads,
                        c->head_dim, c->hidden);
    if (c->max_input == 0 || c->max_input > c->max_positions) c->max_input = c->max_positions;
    return true;
}

/* ---- config.json ------------------------------------------------------------------------------ */

static bool read_llama3(ern_config *c, const json_t *scaling, const char *name, ern_err *e) {
    if (!json_f64(&c->rope_factor, scaling, "factor", 8.0, name, e) ||
        !json_f64(&c->rope_low, scaling, "low_freq_factor", 1.0, name, e) ||
        !json_f64(&c->rope_high, scaling, "high_freq_factor", 4.0, name, e) ||
        !json_f64(&c->rope_original, scaling, "original_max_position_embeddings", 8192.0, name, e))
        return false;
    if (!(c->rope_factor >= 1.0 && c->rope_low > 0.0 && c->rope_high > c->rope_low && c->rope_original > 0.0))
        return ern_fail(e, ERN_FORMAT, "%s: rope scaling: factor %g, low %g, high %g, original %g contradict each other",
                        name, c->rope_factor, c->rope_low, c->rope_high, c->rope_original);
    return true;
}

/* rope_theta stands at the top (old) or in rope_parameters (new), the scaling in rope_scaling or rope_parameters. */
static bool read_rope(ern_config *c, const json_t *json, const char *name, ern_err *e) {
    const json_t *params = json_object_get(json, "rope_parameters");
    const json_t *const tables[] = { json_object_get(json, "rope_scaling"), params };
    if (!json_f64(&c->rope_theta, json, "rope_theta", c->arch == ARCH_LLAMA ? 10000.0 : 500000.0, name, e) ||
        (json_is_object(params) && !json_f64(&c->rope_theta, params, "rope_theta", c->rope_theta, name, e)))
        return false;
    for (size_t i = 0; i < 2; i++) {
        if (!json_is_object(tables[i])) continue;
        const char *type = json_string_value(json_object_get(tables[i], "rope_type"));
        if (!type) type = json_string_value(json_object_get(tables[i], "type"));
        if (!type || strcmp(type, "default") == 0) continue;
        if (strcmp(type, "llama3") != 0)
            return ern_fail(e, ERN_MISSING, "%s: rope scaling \"%s\": default or llama3 wanted", name, type);
        if (!read_llama3(c, tables[i], name, e)) return false;
    }
    return true;
}

static bool read_moe(ern_config *c, const json_t *json, const char *name, ern_err *e) {
    double least = 0.0;
    const json_t *end = json_object_get(json, "moe_layer_end_index");
    const char *gate = json_string_value(json_object_get(json, "moe_gate"));
    const char *act = json_string_value(json_object_get(json, "moe_gate_act"));
    if (json_is_array(end)) end = json_array_get(end, 0);
    if (end && !json_is_null(end) && !json_is_integer(end))
        return ern_fail(e, ERN_FORMAT, "%s: moe_layer_end_index: an integer wanted", name);
    if (gate && strcmp(gate, "topk") != 0 && strcmp(gate, "top2_fused") != 0)
        return ern_fail(e, ERN_MISSING, "%s: moe_gate \"%s\": topk wanted", name, gate);
    if (act && strcmp(act, "softmax") != 0)
        return ern_fail(e, ERN_MISSING, "%s: moe_gate_act \"%s\": softmax wanted", name, act);
    if (!json_size(&c->n_experts, json, KEYS("moe_num_experts", "num_experts", "num_local_experts"), true, 0, MAX_EXPERTS,
                   name, e) ||
        !json_size(&c->n_used, json, KEYS("moe_k", "num_experts_per_tok", "moe_topk"), true, 0, MAX_EXPERTS, name, e) ||
        !json_size(&c->expert_ffn, json, KEYS("moe_intermediate_size"), true, 0, MAX_WIDTH, name, e) ||
        !json_size(&c->n_shared, json, KEYS("moe_num_shared_experts", "n_shared_experts"), false, 0, 1024, name, e) ||
        !json_size(&c->moe_start, json, KEYS("moe_layer_start_index"), false, 0, MAX_LAYERS, name, e) ||
        !json_size(&c->moe_interval, json, KEYS("moe_layer_interval"), false, 1, MAX_LAYERS, name, e) ||
        !json_f64(&least, json, "moe_norm_min", 1e-12, name, e))
        return false;
    const json_int_t last = json_is_integer(end) ? json_integer_value(end) : -1;
    c->moe_end = last >= 0 && last < (json_int_t)c->n_layers ? (size_t)last : c->n_layers - 1;     /* -1: the last layer */
    c->moe_norm_min = (float)least;
    c->shared_ffn = c->n_shared * c->expert_ffn;
    return true;
}

/* Settings that change the arithmetic in ways that are not built: refused, never ignored. */
static bool refuse_others(const ern_config *c, const json_t *json, const char *name, ern_err *e) {
    double ratio = 1.0, rotary = 1.0;
    const char *act = json_string_value(json_object_get(json, "hidden_act"));
    const bool is_bert = c->arch == ARCH_BERT;
    const char *position = json_string_value(json_object_get(json, "position_embedding_type"));
    if (act && strcmp(act, is_bert ? "gelu" : "silu") != 0)
        return ern_fail(e, ERN_MISSING, "%s: hidden_act \"%s\": %s wanted", name, act, is_bert ? "gelu" : "silu");
    if (position && strcmp(position, "absolute") != 0)
        return ern_fail(e, ERN_MISSING, "%s: position_embedding_type \"%s\": absolute wanted", name, position);
    if (!json_f64(&ratio, json, "compression_ratio", 1.0, name, e) ||
        !json_f64(&rotary, json, "partial_rotary_factor", 1.0, name, e))
        return false;
    if (ratio != 1.0) return ern_fail(e, ERN_MISSING, "%s: compression_ratio is %g, 1 wanted", name, ratio);
    if (rotary != 1.0) return ern_fail(e, ERN_MISSING, "%s: partial_rotary_factor is %g, 1 wanted", name, rotary);
    if (json_is_true(json_object_get(json, "rope_3d")))
        return ern_fail(e, ERN_MISSING, "%s: rope_3d: positions of pictures are not built; a text model wanted", name);
    return true;
}

static bool read_sizes(ern_config *c, const json_t *json, const char *name, ern_err *e) {
    double eps = 0.0;
    const bool is_bert = c->arch == ARCH_BERT;
    if (!json_size(&c->n_layers, json, KEYS("num_hidden_layers"), true, 0, MAX_LAYERS, name, e) ||
        !json_size(&c->hidden, json, KEYS("hidden_size"), true, 0, MAX_WIDTH, name, e) ||
        !json_size(&c->n_heads, json, KEYS("num_attention_heads"), true, 0, MAX_HEADS, name, e) ||
        !json_size(&c->n_kv_heads, json, KEYS("num_key_value_heads"), false, c->n_heads, MAX_HEADS, name, e) ||
        !json_size(&c->head_dim, json, KEYS("head_dim"), false, c->n_heads ? c->hidden / c->n_heads : 0, 65536, name, e) ||
        !json_size(&c->ffn, json, KEYS("intermediate_size"), true, 0, MAX_WIDTH, name, e) ||
        !json_size(&c->n_vocab, json, KEYS("vocab_size"), true, 0, MAX_VOCAB, name, e) ||
        !json_size(&c->max_positions, json, KEYS("max_position_embeddings"), false, is_bert ? 512 : 131072, MAX_POSITIONS,
                   name, e) ||
        !json_size(&c->n_types, json, KEYS("type_vocab_size"), false, 0, 1024, name, e) ||
        !json_f64(&eps, json, is_bert ? "layer_norm_eps" : "rms_norm_eps", is_bert ? 1e-12 : 1e-5, name, e))
        return false;
    c->norm_eps = (float)eps;
    return true;
}

bool config_from_json(ern_config *out, const json_t *json, const char *name, ern_err *e) {
    if (!json_is_object(json)) return ern_fail(e, ERN_FORMAT, "%s: a JSON object wanted", name);
    ern_config c = { .bos = json_token(json, "bos_token_id"),
                     .eos = json_token(json, "eos_token_id"),
                     .pad = json_token(json, "pad_token_id"),
                     .is_normalized = true };
    const char *type = json_string_value(json_object_get(json, "model_type"));
    if (!type) type = json_string_value(json_array_get(json_object_get(json, "architectures"), 0));
    if (!config_arch_from_type(&c.arch, type, name, e) || !read_sizes(&c, json, name, e)) return false;
    const enum config_flag tied = json_flag(json, "tie_word_embeddings");
    c.is_tied = tied != FLAG_UNSAID ? tied == FLAG_YES : c.arch != ARCH_LLAMA;
    c.rope_adjacent = c.arch == ARCH_ERNIE || c.arch == ARCH_ERNIE_MOE;
    c.attention_bias = json_flag(json, c.rope_adjacent ? "use_bias" : "attention_bias");
    c.mlp_bias = json_flag(json, c.rope_adjacent ? "use_bias" : "mlp_bias");
    if (!refuse_others(&c, json, name, e) || (c.arch != ARCH_BERT && !read_rope(&c, json, name, e))) return false;
    if (c.arch == ARCH_ERNIE_MOE && c.n_layers && !read_moe(&c, json, name, e)) return false;
    if (!config_check(&c, name, e)) return false;
    *out = c;
    return true;
}

bool config_read(ern_config *out, const ern_source *s, ern_err *e) {
    ern_config c;
    if (source_gguf(s)) return config_from_gguf(out, s, e);
    if (!source_config(s)) return ern_fail(e, ERN_NOTFOUND, "%s: no config.json beside the weights", source_path(s));
    if (!config_from_json(&c, source_config(s), source_path(s), e)) return false;
    if (c.arch == ARCH_BERT && file_is_folder(source_path(s)) && !config_read_pooling(&c, source_path(s), e)) return false;
    *out = c;
    return true;
}

/* ---- what follows from a config --------------------------------------------------------------- */

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

static size_t encoder_params(const ern_config *c) {
    const size_t D = c->hidden, F = c->ffn;
    return D * (c->n_vocab + c->max_positions + c->n_types + 2) +
           c->n_layers * (4 * (D * D + D) + 2 * D * F + F + D + 4 * D);
}

size_t config_n_params(const ern_config *c) {
    const size_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim, D = c->hidden;
    if (c->arch == ARCH_BERT) return encoder_params(c);
    size_t n = c->n_vocab * D * (c->is_tied ? 1 : 2) + D;
    for (size_t i = 0; i < c->n_layers; i++) {
        n += 2 * D + D * (2 * q + 2 * kv);
        if (config_is_moe_layer(c, i)) n += c->n_experts * (3 * D * c->expert_ffn + D + 1) + 3 * D * c->shared_ffn;
        else n += 3 * D * c->ffn;
    }
    return n;
}
