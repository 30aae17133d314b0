/* A vocabulary out of GGUF metadata. Converters differ in what they leave out; each rule here is one of those
 * differences. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

enum { GGUF_CONTROL = 3, GGUF_USER = 4 };       /* tokenizer.ggml.token_type */

static bool kind_of(const char *model, enum tokenizer_kind *kind) {
    if (!model) return false;
    if (strcmp(model, "llama") == 0) *kind = TOKENIZER_SPM;
    else if (strcmp(model, "gpt2") == 0) *kind = TOKENIZER_BYTELEVEL;
    else if (strcmp(model, "bert") == 0) *kind = TOKENIZER_WORDPIECE;
    else return false;
    return true;
}

static int32_t id_of(const ern_gguf *g, const char *key, int32_t fallback) {
    uint64_t v;
    return gguf_u64(g, key, &v) && v <= INT32_MAX ? (int32_t)v : fallback;
}

static bool flag_of(const ern_gguf *g, const char *key, bool fallback) {
    bool v;
    return gguf_bool(g, key, &v) ? v : fallback;
}

/* ERNIE's converter writes every added token as user-defined, turn marks too; as such a user's text could spell them. What
 * looks like <|...|> is a control token. */
static void mend_types(int32_t *types, const char *const *pieces, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const size_t m = strlen(pieces[i]);
        if (types[i] == GGUF_USER && m >= 5 && strncmp(pieces[i], "<|", 2) == 0 && strcmp(pieces[i] + m - 2, "|>") == 0)
            types[i] = GGUF_CONTROL;
    }
}

/* ERNIE's converter leaves the flags out, and for these models they mean "no" (MODEL.md, pitfalls); Llama's and BERT's
 * mean "yes". */
static void read_flags(tokenizer_vocab *v, const ern_gguf *g) {
    const char *arch = gguf_str(g, "general.architecture");
    const bool is_ernie = arch && strncmp(arch, "ernie4_5", 8) == 0, is_spm = v->kind == TOKENIZER_SPM,
               is_bert = v->kind == TOKENIZER_WORDPIECE;
    const bool is_llama3 = v->pre && (strcmp(v->pre, "llama-bpe") == 0 || strcmp(v->pre, "llama3") == 0);
    v->bos = id_of(g, "tokenizer.ggml.bos_token_id", -1);
    v->eos = id_of(g, "tokenizer.ggml.eos_token_id", -1);
    if (is_bert) {      /* "seperator" is how the key is spelled */
        v->bos = id_of(g, "tokenizer.ggml.cls_token_id", v->bos);
        v->eos = id_of(g, "tokenizer.ggml.seperator_token_id", v->eos);
    }
    v->unk = id_of(g, "tokenizer.ggml.unknown_token_id", -1);
    v->pad = id_of(g, "tokenizer.ggml.padding_token_id", -1);
    v->adds_bos = flag_of(g, "tokenizer.ggml.add_bos_token", (is_spm && !is_ernie) || is_bert || is_llama3);
    v->adds_eos = flag_of(g, "tokenizer.ggml.add_eos_token", is_bert);
    v->adds_space_prefix = flag_of(g, "tokenizer.ggml.add_space_prefix", is_spm && !is_ernie);
}

ern_tokenizer *engine_gguf_tokenizer(const ern_gguf *g, ern_err *e) {
    ern_tokenizer *t = NULL;
    float *scores = NULL;
    int32_t *types = NULL;
    tokenizer_vocab v = { .n_tokens = gguf_array_n(g, "tokenizer.ggml.tokens"),
                          .pieces = gguf_array_str(g, "tokenizer.ggml.tokens"),
                          .n_merges = gguf_array_n(g, "tokenizer.ggml.merges"),
                          .merges = gguf_array_str(g, "tokenizer.ggml.merges"),
                          .pre = gguf_str(g, "tokenizer.ggml.pre") };
    const char *model = gguf_str(g, "tokenizer.ggml.model");
    if (!v.pieces || v.n_tokens == 0) return NULL;
    if (!v.merges) v.n_merges = 0;
    if (!kind_of(model, &v.kind)) {
        ern_fail(e, ERN_MISSING, "GGUF vocabulary of model \"%s\": llama, gpt2 or bert wanted", model ? model : "(none)");
        return NULL;
    }
    if (gguf_array_n(g, "tokenizer.ggml.scores") == v.n_tokens) {
        if (!(scores = mem_zalloc(v.n_tokens, sizeof *scores, "scores", e))) goto out;
        if (gguf_array_f32(g, "tokenizer.ggml.scores", scores)) v.scores = scores;
    }
    if (gguf_array_n(g, "tokenizer.ggml.token_type") == v.n_tokens) {
        if (!(types = mem_zalloc(v.n_tokens, sizeof *types, "token types", e))) goto out;
        if (gguf_array_i32(g, "tokenizer.ggml.token_type", types)) {
            mend_types(types, v.pieces, v.n_tokens);
            v.types = types;
        }
    }
    read_flags(&v, g);
    t = tokenizer_from_vocab(&v, e);
out:
    free(scores);
    free(types);
    return t;
}
