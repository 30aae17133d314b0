/* tokenizer.json of the tokenizers library: the model, its vocabulary and merges, and the added tokens. The steps
 * around the model are in tokenizer_json_parts.c. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_int.h"

#define MAX_WORD_CHARS 1000            /* largest max_input_chars_per_word that is taken */

json_t *tok_json_load(const char *text, size_t n, const char *name, ern_err *e) {
    json_error_t bad;
    json_t *j = json_loadb(text ? text : "", n, JSON_REJECT_DUPLICATES, &bad);
    if (j) return j;
    if (json_error_code(&bad) == json_error_out_of_memory) ern_fail(e, ERN_NOMEM, "%s: no memory for its JSON", name);
    else ern_fail_at(e, ERN_FORMAT, bad.line, bad.column, "%s: line %d, column %d: %s", name, bad.line, bad.column,
                     bad.text);
    return NULL;
}

static bool read_vocab(ern_tokenizer *t, const json_t *vocab, const char *name, ern_err *e) {
    const char *piece;
    json_t *v;
    if (!json_is_object(vocab)) return ern_fail(e, ERN_FORMAT, "%s: model.vocab is no object", name);
    json_object_foreach((json_t *)(uintptr_t)vocab, piece, v) {
        const json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id >= (json_int_t)TOK_MAX_TOKENS)
            return ern_fail(e, ERN_FORMAT, "%s: the id of \"%.64s\" is no number of 0 to %zu", name, piece,
                            TOK_MAX_TOKENS - 1);
        if (!tok_set_piece(t, (size_t)id, piece, strlen(piece), 1, 0, e)) return false;
    }
    return true;
}

/* "a b" or ["a", "b"] */
static bool split_merge(const json_t *m, const char **l, size_t *n_l, const char **r, size_t *n_r) {
    if (json_is_string(m)) {
        const char *s = json_string_value(m), *space = s[0] ? strchr(s + 1, ' ') : NULL;
        if (!space || !space[1]) return false;
        *l = s;
        *n_l = (size_t)(space - s);
        *r = space + 1;
        *n_r = strlen(*r);
        return true;
    }
    const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
    if (json_array_size(m) != 2 || !json_is_string(a) || !json_is_string(b)) return false;
    *l = json_string_value(a);
    *n_l = json_string_length(a);
    *r = json_string_value(b);
    *n_r = json_string_length(b);
    return *n_l > 0 && *n_r > 0;
}

static bool read_merges(ern_tokenizer *t, const json_t *merges, const char *name, ern_err *e) {
    if (!json_is_array(merges)) return ern_fail(e, ERN_FORMAT, "%s: model.merges is no array", name);
    const size_t n = json_array_size(merges);
    if (!tok_begin_merges(t, n, e)) return false;
    for (size_t i = 0; i < n; i++) {
        const char *l, *r;
        size_t n_l, n_r;
        bool is_known;
        if (!split_merge(json_array_get(merges, i), &l, &n_l, &r, &n_r))
            return ern_fail(e, ERN_FORMAT, "%s: merge %zu is not two pieces", name, i);
        if (!tok_add_merge(t, l, n_l, r, n_r, &is_known, e)) return false;
        if (!is_known)
            return ern_fail(e, ERN_FORMAT,
                            "%s: merge %zu, \"%.*s\" and \"%.*s\": one of them or the whole is not in the vocabulary",
                                name, i,
                            (int)(n_l < 64 ? n_l : 64), l, (int)(n_r < 64 ? n_r : 64), r);
    }
    return true;
}

static bool is_given(const json_t *model, const char *key) {
    const json_t *v = json_object_get(model, key);
    return json_is_string(v) && json_string_length(v) > 0;
}

static bool read_bpe(ern_tokenizer *t, const json_t *model, const char *name, ern_err *e) {
    static const char *const refused[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (size_t i = 0; i < 2; i++)
        if (is_given(model, refused[i])) return ern_fail(e, ERN_MISSING, "%s: BPE with %s is not supported", name,
                                                         refused[i]);
    t->kind = t->has_bytelevel_step ? TOKENIZER_BYTELEVEL : TOKENIZER_SPM;
    t->has_byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    t->fuses_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    t->ignores_merges = json_is_true(json_object_get(model, "ignore_merges"));
    return read_merges(t, json_object_get(model, "merges"), name, e);
}

static bool read_wordpiece(ern_tokenizer *t, const json_t *model, const char *name, ern_err *e) {
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix"),
        *chars = json_object_get(model, "max_input_chars_per_word");
    const json_int_t most = json_is_integer(chars) ? json_integer_value(chars) : 100;
    t->kind = TOKENIZER_WORDPIECE;
    if (most < 1 || most > MAX_WORD_CHARS)
        return ern_fail(e, ERN_LIMIT, "%s: max_input_chars_per_word is %lld, 1 to %d are taken", name, (long long)most,
                        MAX_WORD_CHARS);
    t->max_word_chars = (size_t)most;
    t->prefix_bytes = json_is_string(prefix) ? json_string_length(prefix) : 2;
    t->prefix = mem_strndup(json_is_string(prefix) ? json_string_value(prefix) : "##", t->prefix_bytes, e);
    return t->prefix && pieces_index(&t->pieces, e);
}

static bool read_model(ern_tokenizer *t, const json_t *model, const char *name, ern_err *e) {
    const json_t *type = json_object_get(model, "type"), *unk = json_object_get(model, "unk_token");
    const char *kind = json_string_value(type);
    if (!json_is_object(model)) return ern_fail(e, ERN_FORMAT, "%s: no model", name);
    if (!kind) kind = json_object_get(model, "merges") ? "BPE" : json_is_array(json_object_get(model, "vocab"))
        ? "Unigram" : "WordPiece";
    if (strcmp(kind, "BPE") != 0 && strcmp(kind, "WordPiece") != 0)
        return ern_fail(e, ERN_MISSING, "%s: a model of type %.64s is not supported: BPE or WordPiece wanted", name, kind);
    if (!read_vocab(t, json_object_get(model, "vocab"), name, e)) return false;
    if (!(kind[0] == 'B' ? read_bpe(t, model, name, e) : read_wordpiece(t, model, name, e))) return false;
    if (json_is_string(unk)) {
        t->unk = pieces_find(&t->pieces, json_string_value(unk), json_string_length(unk));
        if (t->unk >= 0) t->types[t->unk] = 2;
    }
    if (t->kind == TOKENIZER_WORDPIECE && t->unk < 0) return ern_fail(e, ERN_FORMAT,
                                                                      "%s: unk_token is not in the vocabulary", name);
    return true;
}

/* ---- added tokens ----------------------------------------------------------------------------- */

static bool flag(const json_t *j, const char *key) { return json_is_true(json_object_get(j, key)); }

static bool add_one(ern_tokenizer *t, const json_t *j, tok_norm_scratch *w, const char *name, ern_err *e) {
    const json_t *text = json_object_get(j, "content"), *id = json_object_get(j, "id");
    const json_int_t v = json_integer_value(id);
    const bool is_special = flag(j, "special");
    if (!json_is_string(text) || !json_is_integer(id) || v < 0 || v >= (json_int_t)TOK_MAX_TOKENS)
        return ern_fail(e, ERN_FORMAT, "%s: an added token without content or with an id beyond 0 to %zu", name,
                        TOK_MAX_TOKENS - 1);
    if (json_string_length(text) == 0) return true;             /* never matches */
    tok_added a = { .text = (char *)(uintptr_t)json_string_value(text), .n = json_string_length(text), .id = (int32_t)v,
                    .level = is_special ? LEVEL_SPECIALS : LEVEL_LITERAL, .is_normalized = flag(j, "normalized"),
                    .is_single_word = flag(j, "single_word"), .eats_left = flag(j, "lstrip"),
                        .eats_right = flag(j, "rstrip") };
    if (!tok_add_added(t, &a, is_special, e)) return false;
    if (t->types[v] != 2) t->types[v] = is_special ? 3 : 4;
    if (!a.is_normalized || !t->n_norm) return true;
    const char *normal;
    size_t n;
    if (!normalizer_run(t->norm, t->n_norm, false, a.text, a.n, w, &normal, &n, e)) return false;
    tok_added *last = &t->added[t->n_added - 1];
    char *copy = mem_strndup(normal, n, e);
    if (!copy) return false;
    free(last->text);
    last->text = copy;
    last->n = n;
    return true;
}

static bool read_added(ern_tokenizer *t, const json_t *list, const char *name, ern_err *e) {
    tok_norm_scratch w = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(list); i++) ok = add_one(t, json_array_get(list, i), &w, name, e);
    buf_deinit(&w.a);
    buf_deinit(&w.b);
    regex_scratch_deinit(&w.regex);
    return ok;
}

/* A special token that ADD puts first or last is what the file means by BOS and EOS. */
static void guess_roles(ern_tokenizer *t) {
    if (t->n_before) t->bos = t->before[0];
    if (t->n_after) t->eos = t->after[t->n_after - 1];
}

bool tok_read_json(ern_tokenizer *t, const char *text, size_t n, const char *name, ern_err *e) {
    bool ok = false;
    json_t *j = tok_json_load(text, n, name, e);
    if (!j) return false;
    if (!json_is_object(j)) { ern_fail(e, ERN_FORMAT, "%s: no JSON object", name); goto out; }
    if (!tok_json_norm(t, json_object_get(j, "normalizer"), 0, e) ||
        !tok_json_pre(t, json_object_get(j, "pre_tokenizer"), 0, e)) goto out;
    t->decoder.joins_with_space = !json_is_object(json_object_get(j, "decoder"));
    if (!tok_json_decoder(t, json_object_get(j, "decoder"), 0, e)) goto out;
    if (!read_model(t, json_object_get(j, "model"), name, e)) goto out;
    if (!read_added(t, json_object_get(j, "added_tokens"), name, e)) goto out;
    if (!pieces_index(&t->pieces, e) || !tok_json_post(t, json_object_get(j, "post_processor"), 0, e)) goto out;
    guess_roles(t);
    ok = true;
out:
    json_decref(j);
    return ok;
}
