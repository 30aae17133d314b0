#include "text/tokenizer_write.h"

#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_int.h"

#define MAX_WORD_CHARS 100              /* of WordPiece: longer words are unknown, as in BERT */

enum { T_NORMAL = 1, T_UNKNOWN, T_CONTROL, T_USER, T_UNUSED, T_BYTE };      /* GGUF's numbers */

static int type_of(const tokenizer_vocab *v, size_t id) { return v->types ? v->types[id] : T_NORMAL; }

static bool no_memory(ern_err *e) { return ern_fail(e, ERN_NOMEM, "tokenizer.json: no memory"); }

/* key: value, which is stolen; NULL is no memory. */
static bool set(json_t *json, const char *key, json_t *value, ern_err *e) {
    return json_object_set_new(json, key, value) == 0 || no_memory(e);
}

/* The same for what has filled e itself when it is NULL. */
static bool set_made(json_t *json, const char *key, json_t *value, ern_err *e) { return value && set(json, key, value, e); }

/* ---- merges ---------------------------------------------------------------------------------- */

typedef struct { const char *s; size_t n; size_t id; } piece_ref;
typedef struct { size_t left, right, n_left, n_right, id; float score; } merge_rule;
typedef struct { merge_rule *at; size_t n, cap; } merge_list;

static int compare_text(const char *a, size_t n_a, const char *b, size_t n_b) {
    const int c = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return c ? c : (n_a > n_b) - (n_a < n_b);
}

static int by_text(const void *a, const void *b) {
    const piece_ref *x = a, *y = b;
    return compare_text(x->s, x->n, y->s, y->n);
}

/* The best piece comes first; of the ways to make one piece, the one with the longest left side. */
static int by_score(const void *a, const void *b) {
    const merge_rule *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->n_left < y->n_left) - (x->n_left > y->n_left);
}

static const piece_ref *find_piece(const piece_ref *sorted, size_t n, const char *s, size_t n_bytes) {
    const piece_ref key = { s, n_bytes, 0 };
    return n ? bsearch(&key, sorted, n, sizeof *sorted, by_text) : NULL;
}

static bool add_rules(merge_list *l, const piece_ref *sorted, size_t n, const piece_ref *p, float score, ern_err *e) {
    for (size_t cut = 1; cut < p->n; cut++) {
        if (((unsigned char)p->s[cut] & 0xc0) == 0x80) continue;            /* inside a character */
        const piece_ref *left = find_piece(sorted, n, p->s, cut);
        const piece_ref *right = left ? find_piece(sorted, n, p->s + cut, p->n - cut) : NULL;
        if (!right) continue;
        if (l->n == l->cap) {
            const size_t cap = l->cap ? 2 * l->cap : 1024;
            merge_rule *at = mem_grow(l->at, cap, sizeof *at, "merges", e);
            if (!at) return false;
            l->at = at;
            l->cap = cap;
        }
        l->at[l->n++] = (merge_rule){ left->id, right->id, left->n, right->n, p->id, score };
    }
    return true;
}

static bool append_merge(json_t *merges, const char *left, const char *right, ern_err *e) {
    return json_array_append_new(merges, json_sprintf("%s %s", left, right)) == 0 || no_memory(e);
}

/* SentencePiece has no merges: two pieces join when together they are a piece, the best score first. */
static bool merges_from_scores(json_t *merges, const tokenizer_vocab *v, ern_err *e) {
    bool ok = false;
    size_t n = 0;
    merge_list l = { 0 };
    piece_ref *sorted = mem_zalloc(v->n_tokens, sizeof *sorted, "merges", e);
    if (!sorted) return false;
    for (size_t id = 0; id < v->n_tokens; id++)
        if (type_of(v, id) == T_NORMAL && v->pieces[id][0])
            sorted[n++] = (piece_ref){ v->pieces[id], strlen(v->pieces[id]), id };
    if (n) qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 0; i < n; i++)
        if (!add_rules(&l, sorted, n, &sorted[i], v->scores ? v->scores[sorted[i].id] : 0.0f, e)) goto out;
    if (l.n) qsort(l.at, l.n, sizeof *l.at, by_score);
    for (size_t i = 0; i < l.n; i++)
        if (!append_merge(merges, v->pieces[l.at[i].left], v->pieces[l.at[i].right], e)) goto out;
    ok = true;
out:
    free(l.at);
    free(sorted);
    return ok;
}

static json_t *make_merges(const tokenizer_vocab *v, ern_err *e) {
    json_t *merges = json_array();
    bool ok = merges || no_memory(e);
    if (ok && v->n_merges == 0 && v->kind == TOKENIZER_SPM) ok = merges_from_scores(merges, v, e);
    for (size_t i = 0; ok && i < v->n_merges; i++)
        ok = json_array_append_new(merges, json_string(v->merges[i])) == 0 || no_memory(e);
    if (ok) return merges;
    json_decref(merges);
    return NULL;
}

/* ---- the parts of the file -------------------------------------------------------------------- */

/* "▁word" and "rest" of GGUF become "word" and "##rest"; "[CLS]" stays. */
static json_t *wordpiece_text(const tokenizer_vocab *v, size_t id) {
    const char *s = v->pieces[id];
    const size_t n = strlen(s);
    if (n > SPACE_MARK_BYTES && memcmp(s, SPACE_MARK, SPACE_MARK_BYTES) == 0) return json_string(s + SPACE_MARK_BYTES);
    if (type_of(v, id) != T_NORMAL || (n > 2 && s[0] == '[' && s[n - 1] == ']')) return json_string(s);
    return json_sprintf("##%s", s);
}

static json_t *make_vocab(const tokenizer_vocab *v, ern_err *e) {
    json_t *vocab = json_object();
    bool ok = vocab || no_memory(e);
    for (size_t id = 0; ok && id < v->n_tokens; id++) {
        if (type_of(v, id) == T_UNUSED || !v->pieces[id][0]) continue;      /* rows of the embedding that no text gives */
        json_t *text = v->kind == TOKENIZER_WORDPIECE ? wordpiece_text(v, id) : json_string(v->pieces[id]);
        const char *key = json_string_value(text);
        if (!key) ok = ern_fail(e, ERN_FORMAT, "token %zu: is not UTF-8: tokenizer.json cannot hold it", id);
        else if (json_object_get(vocab, key)) ok = true;                    /* the first of equal pieces is the one in use */
        else ok = set(vocab, key, json_integer((json_int_t)id), e);
        json_decref(text);
    }
    if (ok) return vocab;
    json_decref(vocab);
    return NULL;
}

static json_t *make_added(const tokenizer_vocab *v, ern_err *e) {
    json_t *added = json_array();
    bool ok = added || no_memory(e);
    for (size_t id = 0; ok && id < v->n_tokens; id++) {
        const int type = type_of(v, id);
        if ((type != T_UNKNOWN && type != T_CONTROL && type != T_USER) || !v->pieces[id][0]) continue;
        const int has_mark = strstr(v->pieces[id], SPACE_MARK) != NULL;     /* then it is met in normalized text only */
        json_t *one = json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (json_int_t)id, "content", v->pieces[id],
                                "single_word", 0,
                                "lstrip", 0, "rstrip", 0, "normalized", has_mark, "special", type != T_USER);
        if (!one) ok = ern_fail(e, ERN_FORMAT, "token %zu: is not UTF-8: tokenizer.json cannot hold it", id);
        else ok = json_array_append_new(added, one) == 0 || no_memory(e);
    }
    if (ok) return added;
    json_decref(added);
    return NULL;
}

static const char *piece_at(const tokenizer_vocab *v, int32_t id) {
    return id >= 0 && (size_t)id < v->n_tokens ? v->pieces[id] : NULL;
}

/* [bos] text [eos] as far as the tokenizer adds them, or null. */
static json_t *make_processor(const tokenizer_vocab *v, bool adds_bos, bool adds_eos) {
    const char *bos = adds_bos ? piece_at(v, v->bos) : NULL, *eos = adds_eos ? piece_at(v, v->eos) : NULL;
    if (!bos && !eos) return json_null();
    json_t *single = json_array(), *pair = json_array(), *tokens = json_object();
    for (int i = 0; i < 2; i++) {
        const char *which = i ? "B" : "A";
        if (bos) json_array_append_new(pair, json_pack("{s:{s:s,s:i}}", "SpecialToken", "id", bos, "type_id", i));
        json_array_append_new(pair, json_pack("{s:{s:s,s:i}}", "Sequence", "id", which, "type_id", i));
        if (eos) json_array_append_new(pair, json_pack("{s:{s:s,s:i}}", "SpecialToken", "id", eos, "type_id", i));
        if (i == 0) json_array_extend(single, pair);
    }
    if (bos) json_object_set_new(tokens, bos, json_pack("{s:s,s:[i],s:[s]}", "id", bos, "ids", (int)v->bos, "tokens", bos));
    if (eos) json_object_set_new(tokens, eos, json_pack("{s:s,s:[i],s:[s]}", "id", eos, "ids", (int)v->eos, "tokens", eos));
    return json_pack("{s:s,s:o,s:o,s:o}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens",
                     tokens);
}

static json_t *make_bpe(const tokenizer_vocab *v, bool is_spm, bool ignores_merges, ern_err *e) {
    json_t *vocab = make_vocab(v, e), *merges = vocab ? make_merges(v, e) : NULL;
    if (!merges) {
        json_decref(vocab);
        return NULL;
    }
    const char *unk = is_spm ? piece_at(v, v->unk) : NULL;
    json_t *model = json_pack("{s:s,s:n,s:s?,s:n,s:n,s:b,s:b,s:b,s:o,s:o}", "type", "BPE", "dropout", "unk_token", unk,
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", is_spm, "byte_fallback", is_spm,
                              "ignore_merges", ignores_merges, "vocab", vocab, "merges", merges);
    if (!model) no_memory(e);
    return model;
}

static bool fill_spm(json_t *json, const tokenizer_vocab *v, ern_err *e) {
    json_t *mark = json_pack("{s:s,s:{s:s},s:s}", "type", "Replace", "pattern", "String", " ", "content", SPACE_MARK);
    json_t *decoders = json_pack("[{s:s,s:{s:s},s:s},{s:s},{s:s}]", "type", "Replace", "pattern", "String", SPACE_MARK,
                                 "content",
                                 " ", "type", "ByteFallback", "type", "Fuse");
    json_t *normalizer = v->adds_space_prefix
        ? json_pack("{s:s,s:[{s:s,s:s},o]}", "type", "Sequence", "normalizers", "type", "Prepend", "prepend", SPACE_MARK,
                    mark)
        : mark;
    if (v->adds_space_prefix)
        json_array_append_new(decoders, json_pack("{s:s,s:s,s:i,s:i}", "type", "Strip", "content", " ", "start", 1,
                                                  "stop", 0));
    const bool ok = set(json, "normalizer", normalizer, e);
    return set(json, "decoder", json_pack("{s:s,s:o}", "type", "Sequence", "decoders", decoders), e) && ok &&
           set(json, "pre_tokenizer", json_null(), e) &&
           set(json, "post_processor", make_processor(v, v->adds_bos, v->adds_eos), e) &&
           set_made(json, "model", make_bpe(v, true, false, e), e);
}

static bool fill_bytelevel(json_t *json, const tokenizer_vocab *v, ern_err *e) {
    const tok_pre_name *pre = pre_name_find(v->pre ? v->pre : "default");
    if (!pre)
        return ern_fail(e, ERN_MISSING, "pre-tokenizer \"%.64s\" is not known: tokenizer.json cannot be written", v->pre);
    json_t *steps = json_array();
    for (size_t i = 0; i < sizeof pre->regex / sizeof pre->regex[0] && pre->regex[i]; i++)
        json_array_append_new(steps, json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex", pre->regex[i],
                                               "behavior", "Isolated", "invert", 0));
    json_array_append_new(steps, json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                           "trim_offsets", 1,
                                           "use_regex", 0));
    return set(json, "pre_tokenizer", json_pack("{s:s,s:o}", "type", "Sequence", "pretokenizers", steps), e) &&
           set(json, "normalizer", json_null(), e) &&
           set(json, "decoder", json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                                          "use_regex", 1), e) &&
           set(json, "post_processor", make_processor(v, v->adds_bos, v->adds_eos), e) &&
           set_made(json, "model", make_bpe(v, false, pre->ignores_merges, e), e);
}

static bool is_uncased(const tokenizer_vocab *v) {
    for (size_t id = 0; id < v->n_tokens; id++)
        for (const char *s = v->pieces[id]; type_of(v, id) == T_NORMAL && v->pieces[id][0] != '[' && *s; s++)
            if (*s >= 'A' && *s <= 'Z') return false;
    return true;
}

static bool fill_wordpiece(json_t *json, const tokenizer_vocab *v, ern_err *e) {
    const char *unk = piece_at(v, v->unk);
    const int lowers = is_uncased(v);
    json_t *vocab = make_vocab(v, e);
    if (!vocab) return false;
    json_t *model = json_pack("{s:s,s:s,s:s,s:i,s:o}", "type", "WordPiece", "unk_token", unk ? unk : "[UNK]",
                              "continuing_subword_prefix", "##", "max_input_chars_per_word", MAX_WORD_CHARS, "vocab", vocab);
    return set(json, "model", model, e) &&
           set(json, "normalizer", json_pack("{s:s,s:b,s:b,s:n,s:b}", "type", "BertNormalizer", "clean_text", 1,
                                             "handle_chinese_chars", 1, "strip_accents", "lowercase", lowers), e) &&
           set(json, "pre_tokenizer", json_pack("{s:s}", "type", "BertPreTokenizer"), e) &&
           set(json, "post_processor", make_processor(v, true, true), e) &&
           set(json, "decoder", json_pack("{s:s,s:s,s:b}", "type", "WordPiece", "prefix", "##", "cleanup", 1), e);
}

json_t *tokenizer_json_of(const tokenizer_vocab *v, ern_err *e) {
    json_t *json = json_pack("{s:s,s:n,s:n}", "version", "1.0", "truncation", "padding");
    json_t *added = json ? make_added(v, e) : NULL;
    bool ok = added && set(json, "added_tokens", added, e);
    if (!json) no_memory(e);
    switch (v->kind) {
    case TOKENIZER_SPM: ok = ok && fill_spm(json, v, e); break;
    case TOKENIZER_BYTELEVEL: ok = ok && fill_bytelevel(json, v, e); break;
    case TOKENIZER_WORDPIECE: ok = ok && fill_wordpiece(json, v, e); break;
    }
    if (ok) return json;
    json_decref(json);
    return NULL;
}
