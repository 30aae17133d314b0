#include "engine/convert_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/engine.h"
#include "text/tokenizer_write.h"

#define PAD_SCORE (-10000.0f)           /* rows of the embedding that no token has, as llama.cpp's converter marks them */
#define TEMPLATE_MAX_BYTES ((size_t)4 << 20)
#define TYPE_NORMAL 1
#define TYPE_UNUSED 5

/* ---- into GGUF ------------------------------------------------------------------------------- */

static bool has_tokenizer(const char *folder) {
    static const char *const names[] = { "tokenizer.json", "tokenizer.model", "vocab.txt" };
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !found; i++) {
        char *path = file_join(folder, names[i], NULL);
        found = path && file_exists(path);
        free(path);
    }
    return found;
}

/* The text of chat_template.jinja or of tokenizer_config.json ("default" of a list); *out stays NULL without one. */
static bool read_template(char **out, const char *folder, ern_err *e) {
    bool ok = false;
    json_t *config = NULL;
    json_error_t where;
    ern_buf b = { .max = TEMPLATE_MAX_BYTES };
    char *jinja = file_join(folder, "chat_template.jinja", e),
                  *json = jinja ? file_join(folder, "tokenizer_config.json", e) : NULL;
    if (!json) goto out;
    ok = true;
    if (file_exists(jinja)) {
        ok = file_read(&b, jinja, TEMPLATE_MAX_BYTES, e);
        if (ok) *out = buf_take(&b);
    } else if (file_exists(json)) {
        ok = file_read(&b, json, TEMPLATE_MAX_BYTES, e);
        if (ok && !(config = json_loadb(b.data ? b.data : "", b.len, 0, &where)))
            ok = ern_fail_at(e, ERN_FORMAT, where.line, where.column, "%s: line %d, column %d: %s", json, where.line,
                             where.column,
                             where.text);
        const json_t *v = json_object_get(config, "chat_template");
        for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++) {
            const json_t *item = json_array_get(v, i);
            const char *name = json_string_value(json_object_get(item, "name"));
            if (name && strcmp(name, "default") == 0) v = json_object_get(item, "template");
        }
        if (json_is_string(v)) ok = (*out = mem_strndup(json_string_value(v), json_string_length(v), e)) != NULL;
    }
out:
    json_decref(config);
    buf_deinit(&b);
    free(jinja);
    free(json);
    return ok;
}

/* The vocabulary with one entry a row of the embedding. Everything is borrowed but what own holds. */
typedef struct { const char **pieces; float *scores; int32_t *types; char (*pads)[32]; } padded_vocab;

static void padded_deinit(padded_vocab *own) {
    free(own->pieces);
    free(own->scores);
    free(own->types);
    free(own->pads);
}

static bool pad_vocab(padded_vocab *own, const tokenizer_vocab *v, size_t rows, ern_err *e) {
    own->pieces = mem_zalloc(rows, sizeof *own->pieces, "vocabulary", e);
    own->scores = mem_zalloc(rows, sizeof *own->scores, "vocabulary", e);
    own->types = mem_zalloc(rows, sizeof *own->types, "vocabulary", e);
    own->pads = mem_zalloc(rows - v->n_tokens, sizeof *own->pads, "vocabulary", e);
    if (!own->pieces || !own->scores || !own->types || !own->pads) return false;
    for (size_t i = 0; i < rows; i++) {
        const bool is_token = i < v->n_tokens;
        if (!is_token) snprintf(own->pads[i - v->n_tokens], sizeof own->pads[0], "[PAD%zu]", i);
        own->pieces[i] = is_token ? v->pieces[i] : own->pads[i - v->n_tokens];
        own->scores[i] = !is_token ? PAD_SCORE : v->scores ? v->scores[i] : 0.0f;
        own->types[i] = !is_token ? TYPE_UNUSED : v->types ? v->types[i] : TYPE_NORMAL;
    }
    return true;
}

static bool id_key(ern_gguf_writer *w, const char *key, int32_t id, ern_err *e) {
    return id < 0 || gguf_writer_u32(w, key, (uint32_t)id, e);
}

static bool special_ids(ern_gguf_writer *w, const tokenizer_vocab *v, const ern_config *c, ern_err *e) {
    const bool is_bert = v->kind == TOKENIZER_WORDPIECE;
    const int32_t bos = v->bos >= 0 ? v->bos : c->bos, eos = v->eos >= 0 ? v->eos : c->eos;
    return id_key(w, is_bert ? "tokenizer.ggml.cls_token_id" : "tokenizer.ggml.bos_token_id", bos, e) &&
           /* their spelling */
           id_key(w, is_bert ? "tokenizer.ggml.seperator_token_id" : "tokenizer.ggml.eos_token_id", eos, e) &&
           id_key(w, "tokenizer.ggml.unknown_token_id", v->unk, e) &&
           id_key(w, "tokenizer.ggml.padding_token_id", v->pad >= 0 ? v->pad : c->pad, e);
}

static bool vocab_keys(ern_gguf_writer *w, const tokenizer_vocab *v, const convert_plan *p, ern_err *e) {
    static const char *const models[] = { "llama", "gpt2", "bert" };
    const size_t rows = p->config->n_vocab;
    padded_vocab own = { 0 };
    bool ok = false;
    if (v->n_tokens > rows)
        return ern_fail(e, ERN_FORMAT, "%s: the tokenizer has %zu tokens, the embedding %zu rows",
                        source_path(p->source), v->n_tokens,
                        rows);
    if (v->kind == TOKENIZER_BYTELEVEL && !v->pre)
        return ern_fail(e, ERN_MISSING,
                        "%s: GGUF has no name for the expressions that this byte-level tokenizer splits text with",
                        source_path(p->source));
    if (!pad_vocab(&own, v, rows, e)) goto out;
    ok = gguf_writer_str(w, "tokenizer.ggml.model", models[v->kind], e) &&
         gguf_writer_str(w, "tokenizer.ggml.pre", v->pre ? v->pre : "default", e) &&
         gguf_writer_array_str(w, "tokenizer.ggml.tokens", own.pieces, rows, e) &&
         (v->kind == TOKENIZER_BYTELEVEL || gguf_writer_array_f32(w, "tokenizer.ggml.scores", own.scores, rows, e)) &&
         gguf_writer_array_i32(w, "tokenizer.ggml.token_type", own.types, rows, e) &&
         (v->n_merges == 0 || gguf_writer_array_str(w, "tokenizer.ggml.merges", v->merges, v->n_merges, e)) &&
         special_ids(w, v, p->config, e);
    if (v->kind != TOKENIZER_WORDPIECE)
        ok = ok && gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", v->adds_bos, e) &&
             gguf_writer_bool(w, "tokenizer.ggml.add_eos_token", v->adds_eos, e) &&
             gguf_writer_bool(w, "tokenizer.ggml.add_space_prefix", v->adds_space_prefix, e);
out:
    padded_deinit(&own);
    return ok;
}

bool convert_gguf_tokens(ern_gguf_writer *w, const convert_plan *p, const char *folder, ern_err *e) {
    char *chat = NULL;
    const tokenizer_vocab none = { .bos = -1, .eos = -1, .unk = -1, .pad = -1 };
    if (!has_tokenizer(folder))
        return gguf_writer_str(w, "tokenizer.ggml.model", "none", e) && special_ids(w, &none, p->config, e) &&
               convert_note(p->report, e, "there are no tokenizer files: the GGUF file takes and gives token ids only");
    ern_tokenizer *t = tokenizer_open(folder, e);
    bool ok = t && vocab_keys(w, tokenizer_vocab_of(t), p, e) && read_template(&chat, folder, e);
    if (ok && chat) ok = gguf_writer_str(w, "tokenizer.chat_template", chat, e);
    free(chat);
    tokenizer_close(t);
    return ok;
}

/* ---- out of GGUF ----------------------------------------------------------------------------- */

static bool save(const char *folder, const char *name, json_t *json, ern_err *e) {
    char *path = file_join(folder, name, e), *text = NULL;
    bool ok = path != NULL;
    if (ok && !(text = json_dumps(json, JSON_INDENT(2)))) ok = ern_fail(e, ERN_NOMEM, "%s: no memory for the text", path);
    ok = ok && file_write(path, text, strlen(text), e);
    free(path);
    free(text);
    return ok;
}

static bool set_token(json_t *json, const char *key, const tokenizer_vocab *v, int32_t id, ern_err *e) {
    if (id < 0 || (size_t)id >= v->n_tokens) return true;
    return json_object_set_new(json, key, json_string(v->pieces[id])) == 0 ||
           ern_fail(e, ERN_NOMEM, "tokenizer_config.json: no memory");
}

static bool write_config(const convert_plan *p, const tokenizer_vocab *v, const char *out, ern_err *e) {
    const char *chat = gguf_str(source_gguf(p->source), "tokenizer.chat_template");
    const bool is_bert = v->kind == TOKENIZER_WORDPIECE;
    json_t *json = json_pack("{s:s,s:I,s:b}", "tokenizer_class", is_bert ? "BertTokenizer" : "PreTrainedTokenizerFast",
                             "model_max_length", (json_int_t)p->config->max_positions, "clean_up_tokenization_spaces",
                                 is_bert);
    if (!json) return ern_fail(e, ERN_NOMEM, "tokenizer_config.json: no memory");
    bool ok = set_token(json, is_bert ? "cls_token" : "bos_token", v, v->bos, e) &&
              set_token(json, is_bert ? "sep_token" : "eos_token", v, v->eos, e) &&
                  set_token(json, "unk_token", v, v->unk, e) &&
              set_token(json, "pad_token", v, v->pad, e);
    if (ok && !is_bert)
        ok = json_object_set_new(json, "add_bos_token", json_boolean(v->adds_bos)) == 0 &&
             json_object_set_new(json, "add_eos_token", json_boolean(v->adds_eos)) == 0 &&
             json_object_set_new(json, "add_prefix_space", json_boolean(v->adds_space_prefix)) == 0;
    if (ok && chat) ok = json_object_set_new(json, "chat_template", json_string(chat)) == 0;
    ok = ok && save(out, "tokenizer_config.json", json, e);
    json_decref(json);
    return ok;
}

bool convert_folder_tokens(const convert_plan *p, const char *out, ern_err *e) {
    const char *model = gguf_str(source_gguf(p->source), "tokenizer.ggml.model");
    if (!model || strcmp(model, "none") == 0 || strcmp(model, "no_vocab") == 0)
        return convert_note(p->report, e, "the GGUF file has no vocabulary: the folder has no tokenizer");
    ern_tokenizer *t = engine_tokenizer(p->source, e);
    json_t *json = t ? tokenizer_json_of(tokenizer_vocab_of(t), e) : NULL;
    const bool ok = json && save(out, "tokenizer.json", json, e) && write_config(p, tokenizer_vocab_of(t), out, e);
    json_decref(json);
    tokenizer_close(t);
    return ok;
}
