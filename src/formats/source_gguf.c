/* Names of GGUF files -> canonical names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/layout.h"
#include "formats/source_int.h"

#define NAME_BYTES 512

typedef struct { const char *gguf, *canonical; } name_pair;

/* Whole names, or what follows "blk.N." without .weight or .bias. */
static const name_pair decoder_whole[] = {
    { "token_embd.weight", "model.embed_tokens.weight" }, { "output_norm.weight", "model.norm.weight" },
    { "output.weight", "lm_head.weight" }, { "output.bias", "lm_head.bias" }, { NULL, NULL },
};
static const name_pair decoder_block[] = {
    { "attn_norm", "input_layernorm" }, { "ffn_norm", "post_attention_layernorm" }, { "attn_q", "self_attn.q_proj" },
    { "attn_k", "self_attn.k_proj" }, { "attn_v", "self_attn.v_proj" }, { "attn_output", "self_attn.o_proj" },
    { "ffn_gate", "mlp.gate_proj" }, { "ffn_up", "mlp.up_proj" }, { "ffn_down", "mlp.down_proj" },
    { "ffn_gate_inp", "mlp.gate" }, { "ffn_gate_shexp", "mlp.shared_experts.gate_proj" },
    { "ffn_up_shexp", "mlp.shared_experts.up_proj" }, { "ffn_down_shexp", "mlp.shared_experts.down_proj" }, { NULL, NULL },
};
static const name_pair decoder_stack[] = {
    { "ffn_gate_exps", "gate_proj" }, { "ffn_up_exps", "up_proj" }, { "ffn_down_exps", "down_proj" }, { NULL, NULL },
};
static const name_pair encoder_whole[] = {
    { "token_embd.weight", "embeddings.word_embeddings.weight" },
    { "position_embd.weight", "embeddings.position_embeddings.weight" },
    { "token_types.weight", "embeddings.token_type_embeddings.weight" },
    { "token_embd_norm.weight", "embeddings.LayerNorm.weight" }, { "token_embd_norm.bias", "embeddings.LayerNorm.bias" },
    { "cls.weight", "pooler.dense.weight" }, { "cls.bias", "pooler.dense.bias" }, { NULL, NULL },
};
static const name_pair encoder_block[] = {
    { "attn_q", "attention.self.query" }, { "attn_k", "attention.self.key" }, { "attn_v", "attention.self.value" },
    { "attn_output", "attention.output.dense" }, { "attn_output_norm", "attention.output.LayerNorm" },
    { "ffn_up", "intermediate.dense" }, { "ffn_down", "output.dense" }, { "layer_output_norm", "output.LayerNorm" },
    { NULL, NULL },
};

static const char *canonical_of(const name_pair *table, const char *gguf, size_t n) {
    for (; table->gguf; table++)
        if (strncmp(table->gguf, gguf, n) == 0 && table->gguf[n] == '\0') return table->canonical;
    return NULL;
}

static const char *gguf_of(const name_pair *table, const char *canonical, size_t n) {
    for (; table->gguf; table++)
        if (strncmp(table->canonical, canonical, n) == 0 && table->canonical[n] == '\0') return table->gguf;
    return NULL;
}

/* "blk.12.rest" -> 12 and rest. */
static const char *block_rest(const char *name, const char *prefix, unsigned *layer) {
    const size_t n = strlen(prefix);
    char *end = NULL;
    if (strncmp(name, prefix, n) != 0 || name[n] < '0' || name[n] > '9') return NULL;
    const unsigned long v = strtoul(name + n, &end, 10);
    if (*end != '.' || end - (name + n) > 5) return NULL;
    *layer = (unsigned)v;
    return end + 1;
}

/* [E, F, D] -> E views [F, D] (biases [E, F] -> E views [F]). */
static bool add_stack(ern_source *s, const ern_view *v, unsigned layer, const char *what, const char *kind, ern_err *e) {
    if (v->n_dims < 2 || v->size_bytes == 0 || v->dims[0] > SOURCE_MAX_EXPERTS)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: a stack of experts in two or three dimensions wanted", s->path,
                        v->name);
    ern_view one = { .dtype = v->dtype, .n_dims = v->n_dims - 1, .size_bytes = v->size_bytes / v->dims[0] };
    for (unsigned i = 0; i < one.n_dims; i++) one.dims[i] = v->dims[i + 1];
    for (size_t x = 0; x < v->dims[0]; x++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%zu.%s.%s", layer, x, what, kind);
        one.name = name;
        one.data = (const char *)v->data + x * one.size_bytes;
        if (!source_add(s, &one, e)) return false;
    }
    return true;
}

static bool add_decoder(ern_source *s, const ern_view *v, ern_err *e) {
    unsigned layer = 0;
    ern_view out = *v;
    char name[NAME_BYTES];
    const char *rest = block_rest(v->name, "blk.", &layer);
    const char *dot = rest ? strchr(rest, '.') : NULL;
    const char *to = canonical_of(decoder_whole, v->name, strlen(v->name));
    if (to) out.name = to;
    if (rest && strncmp(rest, "exp_probs_b", 11) == 0 && (rest[11] == '\0' || rest[11] == '.')) {
        snprintf(name, sizeof name, "model.layers.%u.mlp.moe_statics.e_score_correction_bias", layer);
        out.name = name;
        if (v->n_dims == 1) {
            out.n_dims = 2;             /* [1, E], as -PT folders have it */
            out.dims[0] = 1;
            out.dims[1] = v->dims[0];
        }
    } else if (dot && (strcmp(dot, ".weight") == 0 || strcmp(dot, ".bias") == 0)) {
        const size_t n = (size_t)(dot - rest);
        if ((to = canonical_of(decoder_stack, rest, n))) return add_stack(s, v, layer, to, dot + 1, e);
        if ((to = canonical_of(decoder_block, rest, n))) {
            snprintf(name, sizeof name, "model.layers.%u.%s%s", layer, to, dot);
            out.name = name;
        }
    }
    return source_add(s, &out, e);
}

static bool add_encoder(ern_source *s, const ern_view *v, ern_err *e) {
    unsigned layer = 0;
    ern_view out = *v;
    char name[NAME_BYTES];
    const char *rest = block_rest(v->name, "blk.", &layer);
    const char *dot = rest ? strchr(rest, '.') : NULL;
    const char *to = canonical_of(encoder_whole, v->name, strlen(v->name));
    if (to) out.name = to;
    if (dot && (to = canonical_of(encoder_block, rest, (size_t)(dot - rest)))) {
        snprintf(name, sizeof name, "encoder.layer.%u.%s%s", layer, to, dot);
        out.name = strlen(name) + 1 < sizeof name ? name : v->name;
    }
    return source_add(s, &out, e);
}

bool source_from_gguf(ern_source *s, ern_err *e) {
    const char *arch = gguf_str(s->gguf, "general.architecture");
    const bool is_encoder = arch && strcmp(arch, "bert") == 0;
    for (size_t i = 0; i < gguf_n_tensors(s->gguf); i++) {
        const ern_view *v = gguf_tensor(s->gguf, i);
        if (!(is_encoder ? add_encoder(s, v, e) : add_decoder(s, v, e))) return false;
    }
    return true;
}

bool layout_gguf_name(char *out, size_t size, const char *canonical) {
    unsigned layer = 0;
    const bool is_encoder = strncmp(canonical, "encoder.", 8) == 0 || strncmp(canonical, "embeddings.", 11) == 0 ||
                            strncmp(canonical, "pooler.", 7) == 0;
    const char *rest = block_rest(canonical, is_encoder ? "encoder.layer." : "model.layers.", &layer);
    const char *whole = gguf_of(is_encoder ? encoder_whole : decoder_whole, canonical, strlen(canonical));
    int n = -1;
    if (whole) n = snprintf(out, size, "%s", whole);
    else if (rest && strcmp(rest, "mlp.moe_statics.e_score_correction_bias") == 0)
        n = snprintf(out, size, "blk.%u.exp_probs_b.bias", layer);
    else if (rest && strrchr(rest, '.')) {
        const char *dot = strrchr(rest, '.');
        unsigned expert = 0;
        const char *part = is_encoder ? NULL : block_rest(rest, "mlp.experts.", &expert);
        const char *to = part && dot > part ? gguf_of(decoder_stack, part, (size_t)(dot - part))
                                            : gguf_of(is_encoder ? encoder_block : decoder_block, rest,
                                                      (size_t)(dot - rest));
        if (to) n = snprintf(out, size, "blk.%u.%s%s", layer, to, dot);
    }
    return n > 0 && (size_t)n < size;
}
