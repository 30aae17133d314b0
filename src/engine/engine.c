/* Opening a model: weights, tokenizer, template, kernels, threads. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"

#define MAX_TEMPLATE_BYTES ((size_t)4 << 20)

void ern_engine_defaults(ern_engine_options *o) {
    *o = (ern_engine_options){ .cpu = "auto", .max_batch = 256 };
}

static bool is_gguf_kind(const char *model, enum tokenizer_kind *kind) {
    if (!model) return false;
    if (strcmp(model, "llama") == 0) *kind = TOKENIZER_SPM;
    else if (strcmp(model, "gpt2") == 0) *kind = TOKENIZER_BYTELEVEL;
    else if (strcmp(model, "bert") == 0) *kind = TOKENIZER_WORDPIECE;
    else return false;
    return true;
}

static int32_t gguf_id(const ern_gguf *g, const char *key) {
    uint64_t v;
    return gguf_u64(g, key, &v) && v <= INT32_MAX ? (int32_t)v : -1;
}

static bool gguf_flag(const ern_gguf *g, const char *key, bool fallback) {
    bool v;
    return gguf_bool(g, key, &v) ? v : fallback;
}

static ern_tokenizer *tokenizer_from_gguf(const ern_gguf *g, ern_err *e) {
    ern_tokenizer *t = NULL;
    float *scores = NULL;
    int32_t *types = NULL;
    tokenizer_vocab v = { .n_tokens = gguf_array_n(g, "tokenizer.ggml.tokens"), .pieces = gguf_array_str(g, "tokenizer.ggml.tokens"),
                          .n_merges = gguf_array_n(g, "tokenizer.ggml.merges"), .merges = gguf_array_str(g, "tokenizer.ggml.merges"),
                          .pre = gguf_str(g, "tokenizer.ggml.pre") };
    const char *model = gguf_str(g, "tokenizer.ggml.model"), *arch = gguf_str(g, "general.architecture");
    /* ERNIE's converter leaves both flags out, and for these models they mean "no" (MODEL.md, pitfalls). */
    const bool is_ernie = arch && strncmp(arch, "ernie4_5", 8) == 0;
    if (!v.pieces) return NULL;
    if (!is_gguf_kind(model, &v.kind)) {
        ern_fail(e, ERN_MISSING, "GGUF vocabulary of model \"%s\": llama, gpt2 or bert wanted", model ? model : "(none)");
        return NULL;
    }
    if (gguf_array_n(g, "tokenizer.ggml.scores") == v.n_tokens) {
        if (!(scores = mem_zalloc(v.n_tokens, sizeof *scores, "scores", e))) goto out;
        if (gguf_array_f32(g, "tokenizer.ggml.scores", scores)) v.scores = scores;
    }
    if (gguf_array_n(g, "tokenizer.ggml.token_type") == v.n_tokens) {
        if (!(types = mem_zalloc(v.n_tokens, sizeof *types, "token types", e))) goto out;
        if (gguf_array_i32(g, "tokenizer.ggml.token_type", types)) v.types = types;
    }
    const bool is_spm = v.kind == TOKENIZER_SPM;
    v.bos = gguf_id(g, "tokenizer.ggml.bos_token_id");
    v.eos = gguf_id(g, "tokenizer.ggml.eos_token_id");
    v.unk = gguf_id(g, "tokenizer.ggml.unknown_token_id");
    v.pad = gguf_id(g, "tokenizer.ggml.padding_token_id");
    v.adds_bos = gguf_flag(g, "tokenizer.ggml.add_bos_token", is_spm && !is_ernie);
    v.adds_eos = gguf_flag(g, "tokenizer.ggml.add_eos_token", false);
    v.adds_space_prefix = gguf_flag(g, "tokenizer.ggml.add_space_prefix", is_spm && !is_ernie);
    t = tokenizer_from_vocab(&v, e);
out:
    free(scores);
    free(types);
    return t;
}

static bool has_tokenizer_files(const char *folder) {
    static const char *const files[] = { "tokenizer.model", "tokenizer.json", "vocab.txt" };
    bool found = false;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *path = file_join(folder, files[i], NULL);
        found = found || (path && file_exists(path));
        free(path);
    }
    return found;
}

ern_tokenizer *engine_tokenizer(const ern_source *s, ern_err *e) {
    if (source_gguf(s)) return tokenizer_from_gguf(source_gguf(s), e);
    return file_is_folder(source_path(s)) && has_tokenizer_files(source_path(s)) ? tokenizer_open(source_path(s), e) : NULL;
}

/* chat_template.jinja, then chat_template of tokenizer_config.json (text, or a list with a "default"). */
static char *folder_template(const char *folder, ern_err *e) {
    char *text = NULL;
    ern_buf b = { .max = MAX_TEMPLATE_BYTES };
    json_t *config = NULL;
    char *jinja = file_join(folder, "chat_template.jinja", e), *json = file_join(folder, "tokenizer_config.json", e);
    if (jinja && file_exists(jinja)) {
        if (file_read(&b, jinja, MAX_TEMPLATE_BYTES, e)) text = buf_take(&b);
    } else if (json && file_exists(json) && (config = json_load_file(json, 0, NULL))) {
        const json_t *v = json_object_get(config, "chat_template");
        for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++) {
            const json_t *item = json_array_get(v, i), *name = json_object_get(item, "name");
            if (json_is_string(name) && strcmp(json_string_value(name), "default") == 0) v = json_object_get(item, "template");
        }
        if (json_is_string(v)) text = mem_strndup(json_string_value(v), json_string_length(v), e);
    }
    json_decref(config);
    buf_deinit(&b);
    free(jinja);
    free(json);
    return text;
}

static bool open_template(ern_engine *eng, const char *given, ern_err *e) {
    const ern_source *s = eng->model->source;
    ern_err ignored = { 0 };
    const char *text = given;
    char *owned = NULL;
    if (!text && source_gguf(s)) text = gguf_str(source_gguf(s), "tokenizer.chat_template");
    else if (!text && file_is_folder(source_path(s))) text = owned = folder_template(source_path(s), &ignored);
    if (!text && (eng->model->c.arch == ARCH_ERNIE || eng->model->c.arch == ARCH_ERNIE_MOE))
        text = template_builtin(eng->tokenizer && tokenizer_find(eng->tokenizer, "<|im_start|>") >= 0 ? "ernie-thinking" : "ernie");
    if (!text) return true;
    eng->chat_source = owned ? owned : mem_strndup(text, strlen(text), e);
    if (!eng->chat_source) return false;
    eng->chat = template_parse(eng->chat_source, strlen(eng->chat_source), e);
    return eng->chat != NULL;
}

static bool add_end(ern_engine *eng, int32_t id, ern_err *e) {
    for (size_t i = 0; i < eng->n_end_ids; i++)
        if (eng->end_ids[i] == id) return true;
    if (id < 0) return true;
    int32_t *p = mem_grow(eng->end_ids, eng->n_end_ids + 1, sizeof *p, "end tokens", e);
    if (!p) return false;
    eng->end_ids = p;
    eng->end_ids[eng->n_end_ids++] = id;
    return true;
}

/* config eos, generation_config eos (one or a list), and the turn ends that chat models write. */
static bool collect_ends(ern_engine *eng, ern_err *e) {
    static const char *const turn_ends[] = { "<|im_end|>", "<|eot_id|>", "<|end_of_sentence|>", "</s>", "<|endoftext|>" };
    const json_t *eos = json_object_get(source_generation(eng->model->source), "eos_token_id");
    if (!add_end(eng, eng->model->c.eos, e)) return false;
    if (json_is_integer(eos) && !add_end(eng, (int32_t)json_integer_value(eos), e)) return false;
    for (size_t i = 0; json_is_array(eos) && i < json_array_size(eos); i++)
        if (!add_end(eng, (int32_t)json_integer_value(json_array_get(eos, i)), e)) return false;
    if (!eng->tokenizer) return true;
    if (!add_end(eng, tokenizer_eos(eng->tokenizer), e)) return false;
    for (size_t i = 0; i < sizeof turn_ends / sizeof turn_ends[0]; i++) {
        const int32_t id = tokenizer_find(eng->tokenizer, turn_ends[i]);
        if (id >= 0 && tokenizer_type(eng->tokenizer, id) == TOKEN_CONTROL && !add_end(eng, id, e)) return false;
    }
    return true;
}

ern_engine *ern_engine_open(const char *path, const ern_engine_options *options, ern_err *e) {
    ern_engine_options o;
    unsigned mask;
    bool ok = false;
    ern_err missing = { 0 };
    ern_engine_defaults(&o);
    if (options) o = *options;
    if (o.max_batch == 0 || o.max_batch > 4096) {
        ern_fail(e, ERN_ARG, "max_batch: %zu, 1 to 4096 wanted", o.max_batch);
        return NULL;
    }
    if (!cpu_mask_from_name(&mask, o.cpu ? o.cpu : "auto", e)) return NULL;
    ern_engine *eng = mem_zalloc(1, sizeof *eng, "engine", e);
    if (!eng) return NULL;
    pthread_mutex_init(&eng->lock, NULL);
    kernels_init(&eng->kernels, mask);
    eng->max_batch = o.max_batch;
    eng->is_exact = o.is_exact;
    ern_source *source = source_open(path, e);
    if (!source || !(eng->model = model_bind(source, e))) goto out;
    if (!(eng->pool = pool_open(o.n_threads ? o.n_threads : pool_cores(), e))) goto out;
    eng->tokenizer = engine_tokenizer(eng->model->source, &missing);
    if (!eng->tokenizer && missing.code != ERN_OK) { if (e) *e = missing; goto out; }
    if (!open_template(eng, o.chat_template, e) || !collect_ends(eng, e)) goto out;
    ok = true;
out:
    if (!ok) { ern_engine_close(eng); return NULL; }
    return eng;
}

void ern_engine_close(ern_engine *eng) {
    if (!eng) return;
    work_close(eng->work);
    pool_close(eng->pool);
    template_free(eng->chat);
    free(eng->chat_source);
    tokenizer_close(eng->tokenizer);
    model_close(eng->model);
    free(eng->end_ids);
    pthread_mutex_destroy(&eng->lock);
    free(eng);
}

size_t ern_engine_n_vocab(const ern_engine *eng) { return eng->model->c.n_vocab; }
size_t ern_engine_max_context(const ern_engine *eng) { return eng->model->c.max_positions; }

/* The scratch grows with the longest context any session has asked for. */
bool engine_forward(ern_engine *eng, const model_row *rows, size_t T, float *logits, trace_fn trace, void *ctx, ern_err *e) {
    size_t longest = 1;
    for (size_t t = 0; t < T; t++)
        if (rows[t].pos >= longest) longest = rows[t].pos + 1;
    pthread_mutex_lock(&eng->lock);
    bool ok = eng->work && work_max_tokens(eng->work) >= longest;
    if (!ok) {
        const size_t n = (longest + 4095) / 4096 * 4096;
        ern_work *w = work_open(eng->model, &eng->kernels, eng->pool, eng->max_batch, n, eng->is_exact, e);
        if (w) {
            work_close(eng->work);
            eng->work = w;
            ok = true;
        }
    }
    ok = ok && model_forward(eng->model, eng->work, rows, T, logits, trace, ctx, e);
    pthread_mutex_unlock(&eng->lock);
    return ok;
}
