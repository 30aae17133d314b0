/* What stands beside the weights of a folder: config.json, generation_config.json, tokenizer files. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/convert_int.h"
#include "engine/convert_tokens.h"

#define REAL_DIGITS 15                  /* 1e-05 and not 1.0000000000000001e-05 */
#define ROPE_FACTOR_TOLERANCE 1e-4f     /* relative: writers compute the divisors in f32 or f64 */

static bool write_json(const char *folder, const char *name, const json_t *json, ern_err *e) {
    bool ok = false;
    char *path = file_join(folder, name, e), *text = NULL;
    if (!path) goto out;
    if (!(text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(REAL_DIGITS))))
        ern_fail(e, ERN_NOMEM, "%s: no memory for the text", path);
    else ok = file_write(path, text, strlen(text), e);
out:
    free(path);
    free(text);
    return ok;
}

static const char *dtype_word(enum ern_dtype t) {
    return t == DTYPE_F32 ? "float32" : t == DTYPE_F16 ? "float16" : "bfloat16";
}

/* The float that is written "1e-05" and not "9.99999975e-06": the shortest decimal that reads back as f. */
static double short_real(float f) {
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if ((float)strtod(text, NULL) == f) return strtod(text, NULL);
    }
    return (double)f;
}

static bool set(json_t *json, const char *key, json_t *value, ern_err *e) {
    return json_object_set_new(json, key, value) == 0 || ern_fail(e, ERN_NOMEM, "config.json: no memory");
}

static bool set_size(json_t *json, const char *key, size_t v, ern_err *e) {
    return set(json, key, json_integer((json_int_t)v), e);
}

/* Does GGUF's rope_freqs.weight say what llama3 scaling by these numbers does? */
static bool matches_scaling(const ern_config *c, const ern_view *v, ern_err *e) {
    const size_t n = c->head_dim / 2;
    bool same = view_n(v) == n && v->dtype == DTYPE_F32;
    float *want = same ? mem_zalloc(n, sizeof *want, "rope factors", e) : NULL;
    if (!want) return false;
    convert_rope_factors(c, want);
    const float *got = v->data;
    for (size_t i = 0; i < n; i++) same &= fabsf(got[i] - want[i]) <= ROPE_FACTOR_TOLERANCE * want[i];
    free(want);
    return same;
}

/* GGUF holds the divisors of llama3 scaling, config.json the four numbers they come from. */
static bool set_rope_scaling(json_t *json, const convert_plan *p, ern_err *e) {
    const ern_view *v = source_find(p->source, "rope_freqs.weight");
    ern_config c = *p->config;
    if (!v) return true;
    if (v->dtype == DTYPE_F32 && view_n(v)) c.rope_factor = (double)((const float *)v->data)[view_n(v) - 1];
    c.rope_low = 1.0;
    c.rope_high = 4.0;
    c.rope_original = 8192.0;
    if (!matches_scaling(&c, v, e))
        return ern_fail(e, ERN_MISSING,
                        "%s: rope_freqs.weight is no llama3 scaling with factors 1, 4 and 8192 positions: config.json "
                        "cannot say it", source_path(p->source));
    return set(json, "rope_scaling", json_pack("{s:s,s:f,s:f,s:f,s:i}", "rope_type", "llama3", "factor", c.rope_factor,
                                               "low_freq_factor", c.rope_low, "high_freq_factor", c.rope_high,
                                               "original_max_position_embeddings", 8192), e);
}

static bool set_moe(json_t *json, const ern_config *c, ern_err *e) {
    return set_size(json, "moe_num_experts", c->n_experts, e) && set_size(json, "moe_k", c->n_used, e) &&
           set_size(json, "moe_intermediate_size", c->expert_ffn, e) &&
               set_size(json, "moe_num_shared_experts", c->n_shared, e) &&
           set_size(json, "moe_layer_start_index", c->moe_start, e) &&
               set_size(json, "moe_layer_end_index", c->moe_end, e) &&
           set_size(json, "moe_layer_interval", c->moe_interval, e) && set(json, "moe_gate", json_string("topk"), e) &&
           set(json, "moe_use_aux_free", json_true(), e) && set(json, "moe_norm_min", json_real(1e-12), e);
}

static bool set_decoder(json_t *json, const convert_plan *p, ern_err *e) {
    const ern_config *c = p->config;
    const bool has_bias = source_find(p->source, "model.layers.0.self_attn.q_proj.bias") != NULL;
    const bool has_mlp_bias = source_find(p->source, "model.layers.0.mlp.down_proj.bias") != NULL;
    if (!set_size(json, "num_key_value_heads", c->n_kv_heads, e) || !set_size(json, "head_dim", c->head_dim, e) ||
        !set(json, "rms_norm_eps", json_real(short_real(c->norm_eps)), e) ||
            !set(json, "hidden_act", json_string("silu"), e) ||
        !set(json, "rope_theta", json_real(c->rope_theta), e) ||
        !set(json, "tie_word_embeddings", json_boolean(!source_find(p->source, "lm_head.weight")), e)) return false;
    if (c->arch == ARCH_LLAMA)
        return set(json, "attention_bias", json_boolean(has_bias), e) &&
               set(json, "mlp_bias", json_boolean(has_mlp_bias), e) &&
               set_rope_scaling(json, p, e);
    return set(json, "use_bias", json_boolean(has_bias || has_mlp_bias), e) &&
           (c->arch != ARCH_ERNIE_MOE || set_moe(json, c, e));
}

static bool set_ids(json_t *json, const ern_config *c, ern_err *e) {
    return (c->bos < 0 || set(json, "bos_token_id", json_integer(c->bos), e)) &&
           (c->eos < 0 || set(json, "eos_token_id", json_integer(c->eos), e)) &&
           (c->pad < 0 || set(json, "pad_token_id", json_integer(c->pad), e));
}

static enum ern_dtype folder_type(const convert_plan *p) {
    for (size_t i = 0; i < p->n; i++)
        if (p->tensors[i].n_dims == 2 && strstr(p->tensors[i].name, "embed")) return p->tensors[i].dtype;
    return DTYPE_BF16;
}

static json_t *config_from_gguf(const convert_plan *p, ern_err *e) {
    static const char *const types[] = { "ernie4_5", "ernie4_5_moe", "llama", "bert" };
    static const char *const classes[] = { "Ernie4_5ForCausalLM", "Ernie4_5_MoeForCausalLM", "LlamaForCausalLM",
                                           "BertModel" };
    const ern_config *c = p->config;
    const bool is_dense_paddle = p->o->to == CONVERT_PADDLE && c->arch == ARCH_ERNIE;
    json_t *json = json_pack("{s:[s],s:s}", "architectures", is_dense_paddle ? "Ernie4_5_ForCausalLM" : classes[c->arch],
                             "model_type", types[c->arch]);
    if (!json) {
        ern_fail(e, ERN_NOMEM, "config.json: no memory");
        return NULL;
    }
    bool ok = set_size(json, "vocab_size", c->n_vocab, e) && set_size(json, "hidden_size", c->hidden, e) &&
              set_size(json, "intermediate_size", c->ffn, e) && set_size(json, "num_hidden_layers", c->n_layers, e) &&
              set_size(json, "num_attention_heads", c->n_heads, e) &&
              set_size(json, "max_position_embeddings", c->max_positions, e) && set_ids(json, c, e);
    if (c->arch != ARCH_BERT) ok = ok && set_decoder(json, p, e);
    else ok = ok && set(json, "layer_norm_eps", json_real(short_real(c->norm_eps)), e) &&
              set(json, "hidden_act", json_string("gelu"), e) && set_size(json, "type_vocab_size", c->n_types, e);
    ok = ok && set(json, "torch_dtype", json_string(dtype_word(folder_type(p))), e);
    if (p->o->to == CONVERT_PADDLE) ok = ok && set(json, "dtype", json_string(dtype_word(folder_type(p))), e);
    if (ok) return json;
    json_decref(json);
    return NULL;
}

/* The class has two names: with an underscore in -Paddle folders, without one in transformers. */
static bool set_class(json_t *json, enum convert_layout to, ern_err *e) {
    static const char *const names[] = { "Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM" };
    const char *got = json_string_value(json_array_get(json_object_get(json, "architectures"), 0));
    if (!got || json_object_get(json, "auto_map") || strcmp(got, names[to != CONVERT_PADDLE]) != 0) return true;
    return set(json, "architectures", json_pack("[s]", names[to == CONVERT_PADDLE]), e);
}

static json_t *config_from_folder(const convert_plan *p, ern_err *e) {
    json_t *json = json_deep_copy(source_config(p->source));
    const char *word = dtype_word(folder_type(p));
    bool ok = json || ern_fail(e, ERN_NOMEM, "config.json: no memory");
    ok = ok && set_class(json, p->o->to, e);
    if (p->o->to == CONVERT_PADDLE || json_object_get(json, "dtype")) ok = ok && set(json, "dtype", json_string(word), e);
    if (json_object_get(json, "torch_dtype") || !json_object_get(json, "dtype"))
        ok = ok && set(json, "torch_dtype", json_string(word), e);
    if (ok) return json;
    json_decref(json);
    return NULL;
}

/* ERNIE's released defaults; for other models only the ids are known. */
static json_t *generation_from_gguf(const convert_plan *p, ern_err *e) {
    json_t *json = json_object();
    const bool is_ernie = p->config->arch == ARCH_ERNIE || p->config->arch == ARCH_ERNIE_MOE;
    bool ok = json ? set_ids(json, p->config, e) : ern_fail(e, ERN_NOMEM, "generation_config.json: no memory");
    if (is_ernie)
        ok = ok && set(json, "do_sample", json_true(), e) && set(json, "temperature", json_real(0.8), e) &&
             set(json, "top_p", json_real(0.8), e);
    if (ok) return json;
    json_decref(json);
    return NULL;
}

static bool copy_file(const char *from_folder, const char *to_folder, const char *name, ern_err *e) {
    char *from = file_join(from_folder, name, e), *to = from ? file_join(to_folder, name, e) : NULL;
    ern_map m = { 0 };
    bool ok = to != NULL;
    if (ok && file_exists(from)) {
        ok = file_map(&m, from, e) && file_write(to, m.data, m.size_bytes, e);
        file_unmap(&m);
    }
    free(from);
    free(to);
    return ok;
}

static bool from_gguf(const convert_plan *p, const char *out, ern_err *e) {
    json_t *config = config_from_gguf(p, e), *generation = config ? generation_from_gguf(p, e) : NULL;
    bool ok = generation && write_json(out, "config.json", config, e);
    if (ok && p->config->arch != ARCH_BERT) ok = write_json(out, "generation_config.json", generation, e);
    json_decref(config);
    json_decref(generation);
    return ok && convert_folder_tokens(p, out, e);
}

bool convert_side_files(const convert_plan *p, const char *in, const char *out, ern_err *e) {
    static const char *const files[] = { "tokenizer.model", "tokenizer.json", "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json", "generation_config.json", "chat_template.jinja",
                                             "chat_template.json",
                                         "vocab.txt", "vocab.json", "merges.txt", "preprocessor_config.json" };
    if (source_gguf(p->source)) return from_gguf(p, out, e);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (!copy_file(in, out, files[i], e)) return false;
    if (!source_config(p->source))
        return convert_note(p->report, e, "there is no config.json beside the weights: the new folder has none either");
    json_t *config = config_from_folder(p, e);
    const bool ok = config && write_json(out, "config.json", config, e);
    json_decref(config);
    return ok;
}
