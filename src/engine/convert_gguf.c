/* The metadata of a GGUF file: what the model is, its vocabulary and chat template. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/convert_int.h"
#include "engine/convert_tokens.h"

#define QUANTIZATION_VERSION 2      /* of the block types, as llama.cpp counts them */

typedef struct {
    ern_gguf_writer *w;
    const char *arch;
    ern_err *e;
    bool ok;
} key_writer;

static const char *full_key(char buf[128], const key_writer *k, const char *key) {
    snprintf(buf, 128, "%s.%s", k->arch, key);
    return buf;
}

static void size_key(key_writer *k, const char *key, size_t v) {
    char buf[128];
    k->ok = k->ok && gguf_writer_u32(k->w, full_key(buf, k, key), (uint32_t)v, k->e);
}

static void real_key(key_writer *k, const char *key, double v) {
    char buf[128];
    k->ok = k->ok && gguf_writer_f32(k->w, full_key(buf, k, key), (float)v, k->e);
}

/* general.file_type of llama.cpp: the type most of the matrices have. */
static int file_type(enum ern_dtype t) {
    static const struct { enum ern_dtype t; int n; } known[] = {
        { DTYPE_F32, 0 }, { DTYPE_F16, 1 }, { DTYPE_Q4_0, 2 }, { DTYPE_Q4_1, 3 }, { DTYPE_Q8_0, 7 }, { DTYPE_Q5_0, 8 },
        { DTYPE_Q5_1, 9 }, { DTYPE_Q2_K, 10 }, { DTYPE_Q3_K, 11 }, { DTYPE_Q4_K, 14 }, { DTYPE_Q5_K, 16 },
            { DTYPE_Q6_K, 18 },
        { DTYPE_IQ4_NL, 25 }, { DTYPE_IQ4_XS, 30 }, { DTYPE_BF16, 32 }, { DTYPE_MXFP4, 38 },
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].t == t) return known[i].n;
    return -1;
}

/* The type with the most bytes. */
static enum ern_dtype main_type(const convert_plan *p) {
    size_t bytes[DTYPE_COUNT] = { 0 };
    unsigned best = 0;
    for (size_t i = 0; i < p->n; i++) {
        size_t n = 1;
        for (unsigned d = 0; d < p->tensors[i].n_dims; d++) n *= p->tensors[i].dims[d];
        bytes[p->tensors[i].dtype] += n;
    }
    for (unsigned t = 0; t < DTYPE_COUNT; t++)
        if (bytes[t] > bytes[best]) best = t;
    return (enum ern_dtype)best;
}

static bool general_keys(ern_gguf_writer *w, const convert_plan *p, bool with_name, ern_err *e) {
    const enum ern_dtype t = main_type(p);
    const convert_choice *choice = p->o->choice;
    const int type = choice && choice->file_type >= 0 ? choice->file_type : file_type(t);
    if (with_name) {
        const char *path = p->name;
        size_t n = strlen(path);
        while (n > 1 && path[n - 1] == '/') n--;
        size_t from = n;
        while (from > 0 && path[from - 1] != '/') from--;
        char *name = mem_strndup(path + from, n - from, e);
        const bool ok = name && gguf_writer_str(w, "general.name", name, e);
        free(name);
        if (!ok) return false;
    }
    if (type >= 0 && !gguf_writer_u32(w, "general.file_type", (uint32_t)type, e)) return false;
    return dtype_info(t)->block_n == 1 || gguf_writer_u32(w, "general.quantization_version", QUANTIZATION_VERSION, e);
}

static bool check_layers(const ern_config *c, const char *path, ern_err *e) {
    if (c->arch == ARCH_ERNIE_MOE && c->moe_end + 1 < c->n_layers)
        return ern_fail(e, ERN_MISSING,
                        "%s: moe_layer_end_index %zu of %zu layers: GGUF files have no key for dense layers at the end",
                        path, c->moe_end, c->n_layers);
    return true;
}

static void decoder_keys(key_writer *k, const ern_config *c) {
    size_key(k, "attention.head_count_kv", c->n_kv_heads);
    size_key(k, "attention.key_length", c->head_dim);
    size_key(k, "attention.value_length", c->head_dim);
    size_key(k, "rope.dimension_count", c->head_dim);
    real_key(k, "rope.freq_base", c->rope_theta);
    real_key(k, "attention.layer_norm_rms_epsilon", (double)c->norm_eps);
    if (c->arch != ARCH_ERNIE_MOE) return;
    size_key(k, "expert_count", c->n_experts);
    size_key(k, "expert_used_count", c->n_used);
    size_key(k, "interleave_moe_layer_step", c->moe_interval);
    size_key(k, "leading_dense_block_count", c->moe_start);
    size_key(k, "expert_feed_forward_length", c->expert_ffn);
    size_key(k, "expert_shared_count", c->n_shared);
    if (c->n_shared) size_key(k, "expert_shared_feed_forward_length", c->n_shared * c->expert_ffn);
}

bool convert_model_keys(ern_gguf_writer *w, const convert_plan *p, ern_err *e) {
    static const char *const archs[] = { "ernie4_5", "ernie4_5-moe", "llama", "bert" };
    const ern_config *c = p->config;
    key_writer k = { .w = w, .arch = archs[c->arch], .e = e, .ok = true };
    if (!check_layers(c, p->name, e) || !gguf_writer_str(w, "general.architecture", k.arch, e) ||
        !general_keys(w, p, true, e)) return false;
    size_key(&k, "vocab_size", c->n_vocab);
    size_key(&k, "context_length", c->max_positions);
    size_key(&k, "embedding_length", c->hidden);
    size_key(&k, "block_count", c->n_layers);
    size_key(&k, "feed_forward_length", c->ffn);
    size_key(&k, "attention.head_count", c->n_heads);
    if (c->arch != ARCH_BERT) decoder_keys(&k, c);
    else {
        real_key(&k, "attention.layer_norm_epsilon", (double)c->norm_eps);
        size_key(&k, "pooling_type", c->pools_cls ? 2 : 1);
        k.ok = k.ok && gguf_writer_bool(w, "bert.attention.causal", false, e) &&
               gguf_writer_u32(w, "tokenizer.ggml.token_type_count", (uint32_t)c->n_types, e);
    }
    return k.ok;
}

/* All keys of the source but those that the new file has its own of. */
static bool copy_keys(ern_gguf_writer *w, const convert_plan *p, ern_err *e) {
    static const char *const own[] = { "general.alignment", "general.file_type", "general.quantization_version" };
    const ern_gguf *g = source_gguf(p->source);
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        bool skipped = strncmp(gguf_key(g, i), "split.", 6) == 0 || strncmp(gguf_key(g, i), "quantize.", 9) == 0;
        for (size_t j = 0; j < sizeof own / sizeof own[0]; j++) skipped |= strcmp(gguf_key(g, i), own[j]) == 0;
        if (!skipped && !gguf_writer_copy(w, g, i, e)) return false;
    }
    return general_keys(w, p, false, e);
}

bool convert_gguf_keys(ern_gguf_writer *w, const convert_plan *p, const char *folder, ern_err *e) {
    const convert_choice *choice = p->o->choice;
    const bool ok = source_gguf(p->source) ? copy_keys(w, p, e) :
        convert_model_keys(w, p, e) && convert_gguf_tokens(w, p, folder, e);
    return ok && (!choice || !choice->keys || choice->keys(choice->ctx, w, e));
}
