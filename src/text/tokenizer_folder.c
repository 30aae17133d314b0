/* Opening a folder or one of its files: tokenizer.json before tokenizer.model before vocab.txt, and the small config
 * files beside them that name special tokens. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/tokenizer_int.h"

#define MAX_CONFIG_BYTES ((size_t)64 << 20)
#define ERNIE_BEGIN "<|begin_of_sentence|>"
#define ERNIE_BEGIN_RAW "<mask:0>"              /* what ERNIE's raw SentencePiece file calls it */

/* ---- small files ------------------------------------------------------------------------------ */

/* *out the file's JSON, NULL when there is no such file. */
static bool load_config(const char *folder, const char *file, json_t **out, ern_err *e) {
    ern_buf b = { .max = MAX_CONFIG_BYTES };
    bool ok = false;
    char *path = file_join(folder, file, e);
    *out = NULL;
    if (!path) return false;
    if (!file_exists(path)) ok = true;
    else if (file_read(&b, path, MAX_CONFIG_BYTES, e)) ok = (*out = tok_json_load(b.data, b.len, path, e)) != NULL;
    buf_deinit(&b);
    free(path);
    return ok;
}

/* "text" or {"content": "text", ...} */
static const char *token_text(const json_t *v) {
    return json_string_value(json_is_string(v) ? v : json_object_get(v, "content"));
}

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static bool add_name(json_t *set, const json_t *v, ern_err *e) {
    const char *text = token_text(v);
    if (!text || !*text) return true;
    return json_object_set_new(set, text, json_true()) == 0 || ern_fail(e, ERN_NOMEM, "no memory for special tokens");
}

/* Every special token that a config names, into the object used as a set. */
static bool gather_names(json_t *set, const json_t *config, ern_err *e) {
    const json_t *more = json_object_get(config, "additional_special_tokens");
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)config, key, v) {
        if (ends_with(key, "_token") && !add_name(set, v, e)) return false;
    }
    for (size_t i = 0; i < json_array_size(more); i++)
        if (!add_name(set, json_array_get(more, i), e)) return false;
    return true;
}

/* ---- added tokens ----------------------------------------------------------------------------- */

static bool add_token(ern_tokenizer *t, const char *text, json_int_t id, const json_t *how, bool is_special, ern_err *e) {
    if (id < 0 || id >= (json_int_t)TOK_MAX_TOKENS)
        return ern_fail(e, ERN_FORMAT, "added token \"%.64s\": id %lld, 0 to %zu are read", text, (long long)id,
                        TOK_MAX_TOKENS - 1);
    const tok_added a = { .text = (char *)(uintptr_t)text, .n = strlen(text), .id = (int32_t)id,
                          .level = is_special ? LEVEL_SPECIALS : LEVEL_LITERAL,
                          .is_single_word = json_is_true(json_object_get(how, "single_word")),
                          .eats_left = json_is_true(json_object_get(how, "lstrip")),
                          .eats_right = json_is_true(json_object_get(how, "rstrip")) };
    if (!tok_add_added(t, &a, is_special, e)) return false;
    if (is_special && t->types[id] == 1) t->types[id] = 3;
    return true;
}

static bool add_decoder_entries(ern_tokenizer *t, const json_t *entries, const json_t *specials, ern_err *e) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)entries, key, v) {
        const char *text = token_text(v);
        char *end;
        const long id = strtol(key, &end, 10);
        if (*end || end == key || !text)
            return ern_fail(e, ERN_FORMAT, "tokenizer_config.json: added_tokens_decoder: \"%.32s\" has no id or no content",
                            key);
        const bool is_special = json_is_true(json_object_get(v, "special")) || json_object_get(specials, text);
        if (!add_token(t, text, id, v, is_special, e)) return false;
    }
    return true;
}

/* A token of its own (above the model's pieces): control in GGUF when special. */
static bool add_listed(ern_tokenizer *t, const json_t *list, const json_t *specials, ern_err *e) {
    const char *text;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)list, text, v) {
        if (!json_is_integer(v) || !*text) return ern_fail(e, ERN_FORMAT, "added_tokens.json: \"%.64s\" has no id", text);
        const json_int_t id = json_integer_value(v);
        const bool is_new = id >= (json_int_t)t->pieces.n, is_special = json_object_get(specials, text) != NULL;
        if (!add_token(t, text, id, NULL, is_special, e)) return false;
        if (is_new && is_special) t->types[id] = 3;
    }
    return true;
}

/* Special tokens that are pieces of the model already; ERNIE's begin token has another name in the raw file. */
static bool add_named(ern_tokenizer *t, const json_t *specials, ern_err *e) {
    const char *text;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)specials, text, v) {
        int32_t id = pieces_find(&t->pieces, text, strlen(text));
        if (id < 0 && strcmp(text, ERNIE_BEGIN) == 0) id = pieces_find(&t->pieces, ERNIE_BEGIN_RAW, strlen(ERNIE_BEGIN_RAW));
        if (id >= 0 && !add_token(t, text, id, NULL, true, e)) return false;
    }
    return true;
}

/* ---- roles ------------------------------------------------------------------------------------ */

static void set_role(const ern_tokenizer *t, const json_t *config, const char *key, int32_t *id) {
    const char *text = token_text(json_object_get(config, key));
    const int32_t found = text ? tok_named(t, text, strlen(text)) : -1;
    if (found >= 0) *id = found;
}

static void set_roles(ern_tokenizer *t, const json_t *config) {
    set_role(t, config, "bos_token", &t->bos);
    set_role(t, config, "eos_token", &t->eos);
    set_role(t, config, "unk_token", &t->unk);
    set_role(t, config, "pad_token", &t->pad);
}

/* add_bos_token and add_eos_token; Llama's tokenizer adds BOS when its config does not say. */
static void set_edges(ern_tokenizer *t, const json_t *config) {
    const char *class_name = json_string_value(json_object_get(config, "tokenizer_class"));
    const json_t *bos = json_object_get(config, "add_bos_token"), *eos = json_object_get(config, "add_eos_token");
    const bool is_llama = class_name && strncmp(class_name, "Llama", 5) == 0;
    if (t->bos >= 0 && (json_is_boolean(bos) ? json_is_true(bos) : is_llama)) t->before[t->n_before++] = t->bos;
    if (t->eos >= 0 && json_is_true(eos)) t->after[t->n_after++] = t->eos;
}

bool tok_read_configs(ern_tokenizer *t, const char *folder, bool with_added, ern_err *e) {
    json_t *config = NULL, *map = NULL, *list = NULL, *specials = json_object();
    bool ok = false;
    if (!specials) { ern_fail(e, ERN_NOMEM, "no memory for special tokens"); goto out; }
    if (!load_config(folder, "tokenizer_config.json", &config, e) ||
        !load_config(folder, "special_tokens_map.json", &map, e) ||
        !load_config(folder, "added_tokens.json", &list, e))
        goto out;
    if (with_added) {
        if (!gather_names(specials, config, e) || !gather_names(specials, map, e)) goto out;
        if (!add_decoder_entries(t, json_object_get(config, "added_tokens_decoder"), specials, e)) goto out;
        if (!add_listed(t, list, specials, e) || !pieces_index(&t->pieces, e) || !add_named(t, specials, e)) goto out;
        if (!pieces_index(&t->pieces, e)) goto out;
    }
    set_roles(t, map);
    set_roles(t, config);
    if (with_added) set_edges(t, config);
    ok = true;
out:
    json_decref(config);
    json_decref(map);
    json_decref(list);
    json_decref(specials);
    return ok;
}

/* ---- opening ---------------------------------------------------------------------------------- */

enum source { SOURCE_JSON, SOURCE_MODEL, SOURCE_VOCAB, N_SOURCES };
static const char *const source_names[N_SOURCES] = { "tokenizer.json", "tokenizer.model", "vocab.txt" };

static bool read_source(ern_tokenizer *t, enum source kind, const char *path, ern_err *e) {
    ern_buf b = { .max = TOK_MAX_FILE_BYTES };
    bool ok = buf_reserve(&b, 0, e) && file_read(&b, path, TOK_MAX_FILE_BYTES, e);
    if (ok && kind == SOURCE_JSON) ok = tok_read_json(t, b.data, b.len, path, e);
    else if (ok && kind == SOURCE_MODEL) ok = tok_read_model(t, (const uint8_t *)b.data, b.len, path, e);
    else if (ok) ok = tok_read_vocab_txt(t, b.data, b.len, path, e);
    buf_deinit(&b);
    return ok;
}

static bool read_model_beside(ern_tokenizer *t, const char *folder, ern_err *e) {
    char *path = file_join(folder, source_names[SOURCE_MODEL], e);
    ern_tokenizer *model = path ? tok_new(e) : NULL;
    bool ok = model != NULL;
    if (ok && t->kind == TOKENIZER_SPM && file_exists(path)) {
        ern_err why = { 0 };
        if (read_source(model, SOURCE_MODEL, path, &why)) ok = tok_merge_model(t, model, e);
        else if (why.code == ERN_NOMEM) ok = ern_fail(e, ERN_NOMEM, "%s", why.text);
        /* Otherwise it has no say: tokenizer.json is complete. */
    }
    tokenizer_close(model);
    free(path);
    return ok;
}

/* vocab.txt does not tell whether capitals count: do_lower_case does, otherwise the pieces. */
static bool set_case(ern_tokenizer *t, const char *folder, ern_err *e) {
    json_t *config = NULL;
    if (!load_config(folder, "tokenizer_config.json", &config, e)) return false;
    const json_t *lowers = json_object_get(config, "do_lower_case"), *strips = json_object_get(config, "strip_accents");
    for (size_t i = 0; i < t->n_norm; i++) {
        if (json_is_boolean(lowers)) t->norm[i].lowers = t->norm[i].strips_accents = json_is_true(lowers);
        if (json_is_boolean(strips)) t->norm[i].strips_accents = json_is_true(strips);
    }
    json_decref(config);
    return true;
}

static ern_tokenizer *open_source(enum source kind, const char *path, const char *folder, ern_err *e) {
    ern_tokenizer *t = tok_new(e);
    const bool ok = t && read_source(t, kind, path, e) && (kind != SOURCE_JSON || read_model_beside(t, folder, e)) &&
                    tok_read_configs(t, folder, kind == SOURCE_MODEL, e) &&
                    (kind != SOURCE_VOCAB || set_case(t, folder, e)) && tok_finish(t, e);
    if (ok) return t;
    tokenizer_close(t);
    return NULL;
}

static ern_tokenizer *open_folder(const char *folder, ern_err *e) {
    ern_tokenizer *t = NULL;
    bool has_any = false;
    for (size_t i = 0; !t && i < N_SOURCES; i++) {
        char *path = file_join(folder, source_names[i], e);
        if (!path) return NULL;
        /* The first error stays: it is about the file that was preferred. */
        if (file_exists(path)) {
            t = open_source((enum source)i, path, folder, has_any ? NULL : e);
            has_any = true;
        }
        free(path);
    }
    if (!has_any) ern_fail(e, ERN_NOTFOUND, "%s: no tokenizer.json, tokenizer.model or vocab.txt", folder);
    if (t && e) *e = (ern_err){ 0 };
    return t;
}

static char *folder_of(const char *path, ern_err *e) {
    const char *slash = strrchr(path, '/');
    return slash ? mem_strndup(path, (size_t)(slash - path) + 1, e) : mem_strndup(".", 1, e);
}

ern_tokenizer *tokenizer_open(const char *path, ern_err *e) {
    if (file_is_folder(path)) return open_folder(path, e);
    if (!file_exists(path)) {
        ern_fail(e, ERN_NOTFOUND, "%s: no such file", path);
        return NULL;
    }
    char *folder = folder_of(path, e);
    if (!folder) return NULL;
    const enum source kind = ends_with(path, ".json") ? SOURCE_JSON : ends_with(path, ".txt") ? SOURCE_VOCAB : SOURCE_MODEL;
    ern_tokenizer *t = open_source(kind, path, folder, e);
    free(folder);
    return t;
}
