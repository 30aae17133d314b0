/* A tokenizer from the vocabulary of a GGUF file, and from BERT's vocab.txt. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define BERT_MAX_WORD_CHARS 100         /* as BERT and the tokenizers library */

static const char *const bert_specials[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };

static bool is_bert_special(const char *s) {
    for (size_t i = 0; i < sizeof bert_specials / sizeof bert_specials[0]; i++)
        if (strcmp(s, bert_specials[i]) == 0) return true;
    return false;
}

static bool is_in_brackets(const char *s, size_t n) { return n > 2 && s[0] == '[' && s[n - 1] == ']'; }

/* A model that never saw capitals has no piece with one. */
static bool is_uncased(const ern_tokenizer *t) {
    for (size_t id = 0; id < t->pieces.n; id++) {
        const char *s = pieces_text(&t->pieces, id);
        if (t->types[id] != 1 || is_in_brackets(s, t->pieces.len[id])) continue;
        for (size_t i = 0; i < t->pieces.len[id]; i++)
            if (s[i] >= 'A' && s[i] <= 'Z') return false;
    }
    return true;
}

/* What all BERT vocabularies share once their pieces are set. lowers: 1, 0, or -1 to look at the pieces. */
static bool finish_bert(ern_tokenizer *t, int lowers, ern_err *e) {
    t->kind = TOKENIZER_WORDPIECE;
    t->max_word_chars = BERT_MAX_WORD_CHARS;
    t->prefix_bytes = 2;
    if (!(t->prefix = mem_strndup("##", 2, e)) || !pieces_index(&t->pieces, e)) return false;
    int32_t ids[5];
    for (size_t i = 0; i < 5; i++) ids[i] = pieces_find(&t->pieces, bert_specials[i], strlen(bert_specials[i]));
    if (t->pad < 0) t->pad = ids[0];
    if (t->unk < 0) t->unk = ids[1];
    if (t->bos < 0) t->bos = ids[2];
    if (t->eos < 0) t->eos = ids[3];
    if (t->unk < 0) return ern_fail(e, ERN_FORMAT, "WordPiece vocabulary: no [UNK]");
    if (t->bos >= 0) t->before[t->n_before++] = t->bos;
    if (t->eos >= 0) t->after[t->n_after++] = t->eos;
    for (size_t i = 0; i < 5; i++) {
        const tok_added a = { .text = (char *)(uintptr_t)bert_specials[i], .n = strlen(bert_specials[i]), .id = ids[i],
                              .level = LEVEL_SPECIALS };
        if (ids[i] < 0) continue;
        if (!tok_add_added(t, &a, true, e)) return false;
        t->types[ids[i]] = i == 1 ? 2 : 3;
    }
    for (size_t id = 0; id < t->pieces.n; id++) {
        const char *s = pieces_text(&t->pieces, id);
        const bool is_control = t->types[id] == 3 && !is_bert_special(s);
        const tok_added a = { .text = (char *)(uintptr_t)s, .n = t->pieces.len[id], .id = (int32_t)id,
                              .level = is_control ? LEVEL_SPECIALS : LEVEL_LITERAL };
        if ((is_control || t->types[id] == 4) && !tok_add_added(t, &a, is_control, e)) return false;
    }
    t->decoder.is_wordpiece = t->decoder.cleans_up = true;
    return tok_set_bert_steps(t, lowers < 0 ? is_uncased(t) : lowers != 0, e);
}

bool tok_read_vocab_txt(ern_tokenizer *t, const char *text, size_t n, const char *name, ern_err *e) {
    size_t id = 0, bad_at;
    if (n && !utf8_valid(text, n, &bad_at)) return ern_fail(e, ERN_FORMAT, "%s: byte %zu is not UTF-8", name, bad_at);
    if (n && memchr(text, '\0', n)) return ern_fail(e, ERN_FORMAT, "%s: holds a NUL byte", name);
    for (size_t i = 0; i < n; id++) {
        const char *end = memchr(text + i, '\n', n - i);
        size_t length = end ? (size_t)(end - text) - i : n - i;
        const size_t next = i + length + 1;
        if (length && text[i + length - 1] == '\r') length--;
        if (!tok_set_piece(t, id, text + i, length, 1, 0, e)) return false;
        i = next;
    }
    return finish_bert(t, -1, e);
}

/* ---- GGUF ------------------------------------------------------------------------------------- */

/* "\u2581word" is the beginning of a word, a bare piece continues one; user-defined pieces and "[CLS]" stand as they are. */
static bool wordpiece_text(ern_buf *b, const char *s, size_t n, int type, ern_err *e) {
    buf_clear(b);
    if (n > SPACE_MARK_BYTES && memcmp(s, SPACE_MARK, SPACE_MARK_BYTES) == 0) return buf_str(b, s + SPACE_MARK_BYTES, e);
    return (type == 4 || is_in_brackets(s, n) || buf_str(b, "##", e)) && buf_str(b, s, e);
}

static bool set_one(ern_tokenizer *t, const tokenizer_vocab *v, size_t id, ern_buf *b, ern_err *e) {
    const char *s = v->pieces[id] ? v->pieces[id] : "";
    size_t n = strlen(s), bad_at;
    int type = v->types ? v->types[id] : 1;
    if (n && !utf8_valid(s, n, &bad_at)) return ern_fail(e, ERN_FORMAT, "token %zu: byte %zu is not UTF-8", id, bad_at);
    if (type < 1 || type > 6) type = type == 0 ? 1 : 5;             /* 0: undefined */
    if (v->kind == TOKENIZER_WORDPIECE && (type == 1 || type == 4) && n && !is_bert_special(s)) {
        if (!wordpiece_text(b, s, n, type, e)) return false;
        s = b->data;
        n = b->len;
    }
    return tok_set_piece(t, id, s, n, type, v->scores ? v->scores[id] : 0, e);
}

static bool set_pieces(ern_tokenizer *t, const tokenizer_vocab *v, ern_err *e) {
    ern_buf b = { .max = 4 * TOK_MAX_PIECE_BYTES };
    bool ok = true;
    for (size_t id = 0; ok && id < v->n_tokens; id++) ok = set_one(t, v, id, &b, e);
    buf_deinit(&b);
    return ok;
}

bool tok_add_typed(ern_tokenizer *t, ern_err *e) {
    for (size_t id = 0; id < t->pieces.n; id++) {
        const char *s = pieces_text(&t->pieces, id);
        const int type = t->types[id];
        const bool is_hidden = type == 4 && tok_looks_special(s, t->pieces.len[id]);
        tok_added a = { .text = (char *)(uintptr_t)s, .n = t->pieces.len[id], .id = (int32_t)id };
        if (!a.n || (type != 2 && type != 3 && type != 4)) continue;
        a.level = type != 4 ? LEVEL_SPECIALS : is_hidden ? LEVEL_PLAIN : LEVEL_LITERAL;
        a.is_normalized = type == 4 && t->kind == TOKENIZER_SPM;        /* SentencePiece freezes them in its own text */
        if (!tok_add_added(t, &a, is_hidden || type != 4, e)) return false;
    }
    return true;
}

bool tok_set_spm_steps(ern_tokenizer *t, const char *charsmap, size_t charsmap_bytes, bool collapses, bool adds_prefix,
                       bool escapes,
                       ern_err *e) {
    if (charsmap_bytes) {
        tok_norm *map = tok_add_norm(t, NORM_CHARSMAP, e);
        if (!map || !charsmap_check(charsmap, charsmap_bytes, e)) return false;
        if (!(map->from = mem_strndup(charsmap, charsmap_bytes, e))) return false;
        map->from_bytes = charsmap_bytes;
    }
    if (collapses && !tok_add_norm(t, NORM_SPM_SPACES, e)) return false;
    if (adds_prefix && !tok_add_norm(t, NORM_SPM_PREFIX, e)) return false;
    if (escapes) {
        tok_norm *mark = tok_add_norm(t, NORM_REPLACE, e);
        if (!mark || !(mark->from = mem_strndup(" ", 1, e)) || !(mark->to = mem_strndup(SPACE_MARK, SPACE_MARK_BYTES, e)))
            return false;
        mark->from_bytes = 1;
        mark->to_bytes = SPACE_MARK_BYTES;
    }
    t->adds_space_prefix = adds_prefix;
    t->decoder.has_byte_tokens = true;
    t->decoder.strip_char = ' ';
    t->decoder.n_strip = collapses ? SIZE_MAX : adds_prefix ? 1 : 0;
    return tok_add_replace(t, SPACE_MARK, " ", e);
}

static bool set_spm(ern_tokenizer *t, const tokenizer_vocab *v, ern_err *e) {
    t->has_scores = v->scores != NULL;
    t->has_byte_fallback = t->fuses_unknown = true;
    return tok_set_spm_steps(t, v->charsmap, v->charsmap_bytes, v->collapses_spaces, v->adds_space_prefix, true, e);
}

static bool set_bytelevel(ern_tokenizer *t, const tokenizer_vocab *v, ern_err *e) {
    const tok_pre_name *pre = pre_name_find(v->pre ? v->pre : "default");
    if (!pre) return ern_fail(e, ERN_MISSING,
                              "pre-tokenizer \"%.64s\" is not known: a name that llama.cpp gives is wanted", v->pre);
    for (size_t i = 0; i < sizeof pre->regex / sizeof pre->regex[0] && pre->regex[i]; i++)
        if (!tok_add_pre_regex(t, pre->regex[i], e)) return false;
    t->ignores_merges = pre->ignores_merges;
    t->decoder.is_bytelevel = true;
    return true;
}

static bool set_merges(ern_tokenizer *t, const tokenizer_vocab *v, ern_err *e) {
    if (!tok_begin_merges(t, v->n_merges, e)) return false;
    for (size_t i = 0; i < v->n_merges; i++) {
        const char *s = v->merges[i], *space = s && s[0] ? strchr(s + 1, ' ') : NULL;
        bool is_known;
        if (!space || !space[1]) return ern_fail(e, ERN_FORMAT,
                                                 "merge %zu is \"%.64s\": two pieces with a space between are wanted", i,
                                                     s ? s : "");
        if (!tok_add_merge(t, s, (size_t)(space - s), space + 1, strlen(space + 1), &is_known, e)) return false;
    }
    return true;
}

static bool fill(ern_tokenizer *t, const tokenizer_vocab *v, ern_err *e) {
    if (v->n_tokens == 0 || v->n_tokens > TOK_MAX_TOKENS)
        return ern_fail(e, v->n_tokens ? ERN_LIMIT : ERN_FORMAT, "vocabulary of %zu tokens, 1 to %zu are read",
                        v->n_tokens, TOK_MAX_TOKENS);
    t->kind = v->kind;
    t->bos = v->bos;
    t->eos = v->eos;
    t->unk = v->unk;
    t->pad = v->pad;
    if (!set_pieces(t, v, e)) return false;
    if (v->kind == TOKENIZER_WORDPIECE) return finish_bert(t, -1, e) && tok_finish(t, e);
    if (v->adds_bos && v->bos >= 0) t->before[t->n_before++] = v->bos;
    if (v->adds_eos && v->eos >= 0) t->after[t->n_after++] = v->eos;
    if (!(v->kind == TOKENIZER_SPM ? set_spm(t, v, e) : set_bytelevel(t, v, e))) return false;
    const bool has_merges = v->merges && (v->kind == TOKENIZER_BYTELEVEL || v->n_merges);
    if ((has_merges && !set_merges(t, v, e)) || !tok_add_typed(t, e)) return false;
    if (v->kind == TOKENIZER_SPM && has_merges) t->has_scores = false;
    return tok_finish(t, e);
}

ern_tokenizer *tokenizer_from_vocab(const tokenizer_vocab *v, ern_err *e) {
    ern_tokenizer *t = tok_new(e);
    if (t && !fill(t, v, e)) {
        tokenizer_close(t);
        t = NULL;
    }
    return t;
}
