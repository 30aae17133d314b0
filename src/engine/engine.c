/* Opening a model: weights, tokenizer, template, kernels, threads. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "engine/constrain.h"

#define MAX_TEMPLATE_BYTES ((size_t)4 << 20)
#define MAX_CONFIG_BYTES ((size_t)64 << 20)      /* tokenizer_config.json lists every added token */

void ern_engine_defaults(ern_engine_options *o) {
    *o = (ern_engine_options){ .cpu = "auto", .max_batch = 256 };
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
    if (source_gguf(s)) return engine_gguf_tokenizer(source_gguf(s), e);
    return file_is_folder(source_path(s)) && has_tokenizer_files(source_path(s)) ? tokenizer_open(source_path(s), e) : NULL;
}

/* ---- chat templates ----------------------------------------------------------------------------- */

/* A file of the folder, or NULL; false only when it exists and cannot be read. */
static bool folder_file(char **out, size_t *n, const char *folder, const char *name, size_t max_bytes, ern_err *e) {
    ern_buf b = { .max = max_bytes + 1 };
    char *path = file_join(folder, name, e);
    bool ok = path != NULL;
    if (ok && file_exists(path) && (ok = file_read(&b, path, max_bytes, e) && buf_reserve(&b, 0, e))) {
        *n = b.len;
        *out = buf_take(&b);
    }
    buf_deinit(&b);
    free(path);
    return ok;
}

/* "chat_template" of a JSON file: a text, or a list of named ones of which the "default" is taken. */
static bool json_template(char **out, const char *folder, const char *name, ern_err *e) {
    char *text = NULL;
    size_t n = 0, i;
    json_error_t bad;
    bool ok = true;
    if (!folder_file(&text, &n, folder, name, MAX_CONFIG_BYTES, e)) return false;
    if (!text) return true;
    json_t *config = json_loadb(text, n, 0, &bad), *item;
    if (!config) ok = ern_fail_at(e, ERN_FORMAT, bad.line, bad.column, "%s/%s: %s", folder, name, bad.text);
    const json_t *v = json_object_get(config, "chat_template"), *list = v;
    json_array_foreach((json_t *)(uintptr_t)list, i, item) {
        const char *label = json_string_value(json_object_get(item, "name"));
        if (label && strcmp(label, "default") == 0) v = json_object_get(item, "template");
    }
    if (json_is_string(v)) ok = (*out = mem_strndup(json_string_value(v), json_string_length(v), e)) != NULL;
    json_decref(config);
    free(text);
    return ok;
}

static bool folder_template(char **out, const char *folder, ern_err *e) {
    size_t n;
    return folder_file(out, &n, folder, "chat_template.jinja", MAX_TEMPLATE_BYTES, e) &&
           (*out || json_template(out, folder, "chat_template.json", e)) &&
           (*out || json_template(out, folder, "tokenizer_config.json", e));
}

static const char *family_template(const ern_engine *eng) {
    const bool is_ernie = eng->model->c.arch == ARCH_ERNIE || eng->model->c.arch == ARCH_ERNIE_MOE;
    if (!is_ernie || !eng->tokenizer) return NULL;
    return template_builtin(tokenizer_find(eng->tokenizer, "<|im_start|>") >= 0 ? "ernie-thinking" : "ernie");
}

static bool open_template(ern_engine *eng, const char *given, ern_err *e) {
    const ern_source *s = eng->model->source;
    const char *text = given;
    if (eng->model->c.arch == ARCH_BERT) return true;
    if (!text && source_gguf(s)) text = gguf_str(source_gguf(s), "tokenizer.chat_template");
    else if (!text && file_is_folder(source_path(s)) && !folder_template(&eng->chat_source, source_path(s), e)) return false;
    if (!text && !eng->chat_source && !(text = family_template(eng))) return true;
    if (!eng->chat_source && !(eng->chat_source = mem_strndup(text, strlen(text), e))) return false;
    eng->chat = template_parse(eng->chat_source, strlen(eng->chat_source), e);
    return eng->chat != NULL;
}

/* ---- ends of an answer -------------------------------------------------------------------------- */

static bool add_end(ern_engine *eng, int64_t id, ern_err *e) {
    if (id < 0 || (uint64_t)id >= eng->model->c.n_vocab) return true;
    for (size_t i = 0; i < eng->n_end_ids; i++)
        if (eng->end_ids[i] == id) return true;
    int32_t *p = mem_grow(eng->end_ids, eng->n_end_ids + 1, sizeof *p, "end tokens", e);
    if (!p) return false;
    eng->end_ids = p;
    eng->end_ids[eng->n_end_ids++] = (int32_t)id;
    return true;
}

/* config eos, generation_config eos (one or a list), and the turn ends that chat models write. */
static bool collect_ends(ern_engine *eng, ern_err *e) {
    static const char *const turn_ends[] = { "<|im_end|>",          "<|eot_id|>", "<|eom_id|>",
                                             "<|end_of_sentence|>", "</s>",       "<|endoftext|>" };
    const json_t *eos = json_object_get(source_generation(eng->model->source), "eos_token_id");
    if (!add_end(eng, eng->model->c.eos, e)) return false;
    if (json_is_integer(eos) && !add_end(eng, json_integer_value(eos), e)) return false;
    for (size_t i = 0; json_is_array(eos) && i < json_array_size(eos); i++)
        if (json_is_integer(json_array_get(eos, i)) && !add_end(eng, json_integer_value(json_array_get(eos, i)), e))
            return false;
    if (!eng->tokenizer) return true;
    if (!add_end(eng, tokenizer_eos(eng->tokenizer), e)) return false;
    for (size_t i = 0; i < sizeof turn_ends / sizeof turn_ends[0]; i++) {
        const int32_t id = tokenizer_find(eng->tokenizer, turn_ends[i]);
        if (id >= 0 && tokenizer_type(eng->tokenizer, id) == TOKEN_CONTROL && !add_end(eng, id, e)) return false;
    }
    return true;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static bool open_tokenizer(ern_engine *eng, ern_err *e) {
    ern_err why = { 0 };
    eng->tokenizer = engine_tokenizer(eng->model->source, &why);
    if (eng->tokenizer) return specials_init(&eng->specials, eng->tokenizer, e);
    if (why.code == ERN_OK) return true;        /* there is none */
    if (e) *e = why;
    return false;
}

/* Somebody who loads float weights wants what the reference computes from them; quantised weights are an approximation
 * already, much larger than that of 8-bit activations. */
static bool has_float_weights(const ern_model *m) {
    for (size_t i = 0; i < source_n(m->source); i++) {
        const ern_view *v = source_at(m->source, i);
        if (v->n_dims >= 2 && dtype_info(v->dtype)->block_n > 1) return false;
    }
    return true;
}

ern_engine *ern_engine_open(const char *path, const ern_engine_options *options, ern_err *e) {
    ern_engine_options o;
    unsigned mask;
    bool ok = false;
    ern_engine_defaults(&o);
    if (options) o = *options;
    if (o.is_exact && o.is_fast) {
        ern_fail(e, ERN_ARG, "exact and fast: one or the other");
        return NULL;
    }
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
    ern_source *source = source_open(path, e);
    if (!source || !(eng->model = model_bind(source, e))) goto out;
    eng->is_exact = o.is_exact || (!o.is_fast && has_float_weights(eng->model));
    if (!(eng->pool = pool_open(o.n_threads ? o.n_threads : pool_cores(), e))) goto out;
    if (!eng->is_exact && !model_pack(eng->model, &eng->kernels, eng->pool, o.max_weight_bytes, e)) goto out;
    ok = open_tokenizer(eng, e) && open_template(eng, o.chat_template, e) && collect_ends(eng, e);
out:
    if (!ok) { ern_engine_close(eng); return NULL; }
    return eng;
}

void ern_engine_close(ern_engine *eng) {
    if (!eng) return;
    work_close(eng->work);
    constrain_vocab_close(eng->vocab);
    pool_close(eng->pool);
    template_free(eng->chat);
    free(eng->chat_source);
    specials_deinit(&eng->specials);
    tokenizer_close(eng->tokenizer);
    model_close(eng->model);
    free(eng->end_ids);
    pthread_mutex_destroy(&eng->lock);
    free(eng);
}

size_t ern_engine_n_vocab(const ern_engine *eng) { return eng->model->c.n_vocab; }
size_t ern_engine_max_context(const ern_engine *eng) { return eng->model->c.max_positions; }
bool ern_engine_is_encoder(const ern_engine *eng) { return eng->model->c.arch == ARCH_BERT; }

/* The scratch grows with the longest context any session has asked for. */
bool engine_forward(ern_engine *eng, const model_row *rows, size_t T, float *logits, trace_fn trace, void *ctx, ern_err *e) {
    size_t longest = 1;
    if (eng->model->c.arch == ARCH_BERT)
        return ern_fail(e, ERN_ARG, "%s: an encoder cannot write text", source_path(eng->model->source));
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

ern_constraint *ern_constraint_open(ern_engine *eng, const char *kind, const char *text, size_t n_bytes, ern_err *e) {
    static const struct { const char *name; enum constrain_kind kind; } kinds[] = {
        { "schema", CONSTRAIN_SCHEMA }, { "json", CONSTRAIN_JSON_OBJECT }, { "regex", CONSTRAIN_REGEX },
        { "gbnf", CONSTRAIN_GBNF },     { "ebnf", CONSTRAIN_EBNF },        { "choice", CONSTRAIN_CHOICE },
    };
    size_t i = 0;
    while (i < sizeof kinds / sizeof kinds[0] && strcmp(kinds[i].name, kind) != 0) i++;
    if (i == sizeof kinds / sizeof kinds[0]) {
        ern_fail(e, ERN_ARG, "constraint \"%.40s\": schema, json, regex, gbnf, ebnf or choice wanted", kind);
        return NULL;
    }
    if (!eng->tokenizer) {
        ern_fail(e, ERN_MISSING, "%s: no tokenizer files: answers cannot be constrained", source_path(eng->model->source));
        return NULL;
    }
    pthread_mutex_lock(&eng->lock);
    if (!eng->vocab) eng->vocab = constrain_vocab_open(eng->tokenizer, eng->model->c.n_vocab, e);
    const struct constrain_vocab *vocab = eng->vocab;
    pthread_mutex_unlock(&eng->lock);
    return vocab ? constraint_open(vocab, kinds[i].kind, text ? text : "", text ? n_bytes : 0, e) : NULL;
}

void ern_constraint_close(ern_constraint *c) { constraint_close(c); }
