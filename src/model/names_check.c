/* Tensors that a config has no place for. A layer too many, a shared expert the config denies or the norm of a query that no
 * ERNIE has would be left out of the arithmetic in silence: the model is refused instead, with the tensor's name. */
#include <stdlib.h>
#include <string.h>

#include "model/weights.h"

/* What a model runs without: other heads, tables made at run time, and multi-token prediction (MODEL.md). */
static bool is_spare(const char *name) {
    static const char *const parts[] = { "mtp_",         ".mtp.",       "rotary_emb.inv_freq", "rope_freqs.weight",
                                         "rope_factors", "position_ids" };
    static const char *const heads[] = { "pooler.", "cls.", "bert.pooler." };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(name, parts[i])) return true;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (strncmp(name, heads[i], strlen(heads[i])) == 0) return true;
    return false;
}

static bool is_one_of(const char *name, const char *const *list) {
    for (size_t i = 0; list[i]; i++)
        if (strcmp(name, list[i]) == 0) return true;
    return false;
}

/* "STEM" followed by .weight or .bias */
static bool is_linear(const char *name, const char *const *stems) {
    for (size_t i = 0; stems[i]; i++) {
        const size_t n = strlen(stems[i]);
        if (strncmp(name, stems[i], n) == 0 && (strcmp(name + n, ".weight") == 0 || strcmp(name + n, ".bias") == 0))
            return true;
    }
    return false;
}

/* The number at *s, which is moved past it and a dot. */
static bool number_then_dot(const char **s, size_t *out) {
    char *end;
    if (**s < '0' || **s > '9') return false;
    const unsigned long long v = strtoull(*s, &end, 10);
    if (*end != '.') return false;
    *out = (size_t)v;
    *s = end + 1;
    return true;
}

static bool fits_layer(const ern_config *c, size_t layer, const char *rest) {
    static const char *const norms[] = { "input_layernorm.weight", "post_attention_layernorm.weight", NULL };
    static const char *const attn[] = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                        NULL };
    static const char *const mlp[] = { "gate_proj", "up_proj", "down_proj", NULL };
    static const char *const router[] = { "gate.weight", "moe_statics.e_score_correction_bias", NULL };
    size_t expert;
    if (is_one_of(rest, norms) || is_linear(rest, attn)) return true;
    if (strncmp(rest, "mlp.", 4) != 0) return false;
    rest += 4;
    if (!config_is_moe_layer(c, layer)) return is_linear(rest, mlp);
    if (is_one_of(rest, router)) return true;
    if (c->shared_ffn && strncmp(rest, "shared_experts.", 15) == 0) return is_linear(rest + 15, mlp);
    if (strncmp(rest, "experts.", 8) != 0) return false;
    rest += 8;
    return number_then_dot(&rest, &expert) && expert < c->n_experts && is_linear(rest, mlp);
}

static bool fits_encoder(const ern_config *c, const char *name) {
    static const char *const tables[] = { "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight",
                                          "embeddings.token_type_embeddings.weight", NULL };
    static const char *const norm[] = { "embeddings.LayerNorm", NULL };
    static const char *const parts[] = { "attention.self.query",   "attention.self.key",         "attention.self.value",
                                         "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense",
                                         "output.dense",           "output.LayerNorm",           NULL };
    size_t layer;
    if (strncmp(name, "bert.", 5) == 0) name += 5;
    if (is_one_of(name, tables) || is_linear(name, norm)) return true;
    if (strncmp(name, "encoder.layer.", 14) != 0) return false;
    name += 14;
    return number_then_dot(&name, &layer) && layer < c->n_layers && is_linear(name, parts);
}

static bool fits(const ern_config *c, const char *name) {
    static const char *const top[] = { "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "lm_head.bias",
                                       NULL };
    size_t layer;
    if (c->arch == ARCH_BERT) return fits_encoder(c, name);
    if (is_one_of(name, top)) return true;
    if (strncmp(name, "model.layers.", 13) != 0) return false;
    name += 13;
    return number_then_dot(&name, &layer) && layer < c->n_layers && fits_layer(c, layer, name);
}

bool weights_check_names(const ern_config *c, const ern_source *s, ern_err *e) {
    for (size_t i = 0; i < source_n(s); i++) {
        const char *name = source_at(s, i)->name;
        if (!is_spare(name) && !fits(c, name))
            return ern_fail(
                e, ERN_FORMAT,
                "%s: tensor %s has no place in a %s of %zu layers, %zu experts and shared width %zu, as the config has it",
                source_path(s), name, config_arch_name(c), c->n_layers, c->n_experts, c->shared_ffn);
    }
    return true;
}
