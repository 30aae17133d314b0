/* Building a tokenizer: readers set pieces, merges, added tokens and steps; tok_finish makes the tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define MAX_MERGE_BYTES ((size_t)512 << 20)

ern_tokenizer *tok_new(ern_err *e) {
    ern_tokenizer *t = mem_zalloc(1, sizeof *t, "tokenizer", e);
    if (t) t->bos = t->eos = t->unk = t->pad = -1;
    return t;
}

void tokenizer_close(ern_tokenizer *t) {
    if (!t) return;
    pieces_deinit(&t->pieces);
    pieces_deinit(&t->raw);
    free(t->types);
    free(t->is_special);
    free(t->scores);
    for (size_t i = 0; i < t->n_added; i++) free(t->added[i].text);
    free(t->added);
    for (size_t level = 0; level < N_LEVELS; level++) {
        matcher_deinit(&t->match[level][0]);
        matcher_deinit(&t->match[level][1]);
    }
    normalizer_deinit(t->norm, t->n_norm);
    pretok_deinit(t->pre, t->n_pre);
    bpe_deinit(&t->bpe);
    free(t->prefix);
    for (size_t i = 0; i < t->decoder.n_replace; i++) {
        free(t->decoder.replace[i].from);
        free(t->decoder.replace[i].to);
    }
    buf_deinit(&t->merge_text);
    free(t->merge_at);
    free(t->vocab_piece);
    free(t->vocab_merge);
    free(t->vocab_score);
    free(t->vocab_type);
    buf_deinit(&t->vocab_text);
    free(t);
}

/* ---- pieces ----------------------------------------------------------------------------------- */

static bool reserve_tokens(ern_tokenizer *t, size_t n, ern_err *e) {
    if (n <= t->cap_tokens) return true;
    size_t cap = t->cap_tokens ? t->cap_tokens : 1024;
    while (cap < n) cap *= 2;
    uint8_t *types = mem_grow(t->types, cap, 1, "vocabulary", e);
    if (!types) return false;
    t->types = types;
    uint8_t *is_special = mem_grow(t->is_special, cap, 1, "vocabulary", e);
    if (!is_special) return false;
    t->is_special = is_special;
    float *scores = mem_grow(t->scores, cap, sizeof *scores, "vocabulary", e);
    if (!scores) return false;
    t->scores = scores;
    for (size_t i = t->cap_tokens; i < cap; i++) {
        types[i] = 5;                                   /* a hole, until a piece is set */
        is_special[i] = 0;
        scores[i] = 0;
    }
    t->cap_tokens = cap;
    return true;
}

bool tok_set_piece(ern_tokenizer *t, size_t id, const char *s, size_t n, int type, float score, ern_err *e) {
    if (!pieces_set(&t->pieces, id, s, n, e) || !reserve_tokens(t, id + 1, e)) return false;
    t->types[id] = (uint8_t)(n ? type : 5);
    t->scores[id] = score;
    return true;
}

bool tok_looks_special(const char *s, size_t n) {
    static const char *const names[] = { "<s>", "</s>", "<unk>", "<pad>" };
    static const char *const shapes[][2] = { { "<|", "|>" }, { "<\xEF\xBD\x9C", "\xEF\xBD\x9C>" }, { "<mask:", ">" } };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (n == strlen(names[i]) && memcmp(s, names[i], n) == 0) return true;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const size_t a = strlen(shapes[i][0]), b = strlen(shapes[i][1]);
        if (n > a + b && memcmp(s, shapes[i][0], a) == 0 && memcmp(s + n - b, shapes[i][1], b) == 0) return true;
    }
    return false;
}

bool tok_add_added(ern_tokenizer *t, const tok_added *a, bool is_hidden, ern_err *e) {
    if (a->id < 0 || (size_t)a->id >= TOK_MAX_TOKENS)
        return ern_fail(e, ERN_LIMIT, "added token \"%.64s\": id %d, 0 to %zu are read", a->text, (int)a->id,
                        TOK_MAX_TOKENS - 1);
    if (a->n > TOK_MAX_ADDED_BYTES)
        return ern_fail(e, ERN_LIMIT, "added token %d has %zu bytes, at most %zu are read", (int)a->id, a->n,
                        TOK_MAX_ADDED_BYTES);
    if (a->n == 0) return ern_fail(e, ERN_FORMAT, "added token %d has no text", (int)a->id);
    const size_t id = (size_t)a->id;
    const bool is_there = id < t->pieces.n && t->pieces.len[id] == a->n &&
        memcmp(pieces_text(&t->pieces, id), a->text, a->n) == 0;
    tok_added *list = mem_grow(t->added, t->n_added + 1, sizeof *list, "added tokens", e);
    if (!list) return false;
    t->added = list;
    if (!is_there) {
        pieces_replace(&t->pieces, id);
        if (!tok_set_piece(t, id, a->text, a->n, 4, 0, e)) return false;
    }
    tok_added copy = *a;
    if (!(copy.text = mem_strndup(a->text, a->n, e))) return false;
    list[t->n_added++] = copy;
    if (is_hidden) t->is_special[id] = 1;
    return true;
}

int32_t tok_named(const ern_tokenizer *t, const char *s, size_t n) {
    const int32_t id = pieces_find(&t->pieces, s, n);
    for (size_t i = 0; id < 0 && i < t->n_added; i++)
        if (t->added[i].n == n && memcmp(t->added[i].text, s, n) == 0) return t->added[i].id;
    return id;
}

/* ---- merges ----------------------------------------------------------------------------------- */

bool tok_begin_merges(ern_tokenizer *t, size_t n_merges, ern_err *e) {
    if (n_merges > TOK_MAX_MERGES)
        return ern_fail(e, ERN_LIMIT, "%zu merges, at most %zu are read", n_merges, TOK_MAX_MERGES);
    if (!(t->merge_at = mem_zalloc(n_merges, sizeof *t->merge_at, "merges", e))) return false;
    t->cap_merges = n_merges;
    t->merge_text.max = MAX_MERGE_BYTES;
    return pieces_index(&t->pieces, e) && bpe_pairs_init(&t->bpe, n_merges, e);
}

bool tok_add_merge(ern_tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right, bool *is_known,
                   ern_err *e) {
    const int32_t l = pieces_find(&t->pieces, left, n_left), r = pieces_find(&t->pieces, right, n_right);
    ern_buf *b = &t->merge_text;
    const size_t at = b->len;
    *is_known = false;
    if (t->n_merges == t->cap_merges) return ern_fail(e, ERN_LIMIT, "more than the %zu merges announced", t->cap_merges);
    if (!buf_add(b, left, n_left, e) || !buf_add(b, right, n_right, e)) return false;
    const int32_t whole = pieces_find(&t->pieces, b->data + at, n_left + n_right);
    b->len = at;
    if (l < 0 || r < 0 || whole < 0) return true;
    if (!buf_add(b, left, n_left, e) || !buf_char(b, ' ', e) || !buf_add(b, right, n_right, e) || !buf_char(b, '\0', e))
        return false;
    bpe_pairs_add(&t->bpe, l, r, (uint32_t)t->n_merges, whole);
    t->merge_at[t->n_merges++] = at;
    *is_known = true;
    return true;
}

/* ---- steps ------------------------------------------------------------------------------------ */

tok_norm *tok_add_norm(ern_tokenizer *t, enum tok_norm_op op, ern_err *e) {
    if (t->n_norm == TOK_MAX_STEPS) {
        ern_fail(e, ERN_LIMIT, "normalizer: more than %d steps", TOK_MAX_STEPS);
        return NULL;
    }
    tok_norm *step = &t->norm[t->n_norm++];
    step->op = op;
    return step;
}

tok_pre *tok_add_pre(ern_tokenizer *t, enum tok_pre_op op, ern_err *e) {
    if (t->n_pre == TOK_MAX_STEPS) {
        ern_fail(e, ERN_LIMIT, "pre-tokenizer: more than %d steps", TOK_MAX_STEPS);
        return NULL;
    }
    tok_pre *step = &t->pre[t->n_pre++];
    step->op = op;
    step->behavior = SPLIT_ISOLATED;
    return step;
}

bool tok_add_pre_regex(ern_tokenizer *t, const char *regex, ern_err *e) {
    tok_pre *step = tok_add_pre(t, PRE_REGEX, e);
    if (!step || !(step->text = mem_strndup(regex, strlen(regex), e)) || !(step->regex = regex_open(regex, e)))
        return false;
    step->text_bytes = strlen(regex);
    step->has_plain_words = pre_is_plain_word_regex(regex);
    return true;
}

bool tok_set_bert_steps(ern_tokenizer *t, bool lowers, ern_err *e) {
    tok_norm *bert = tok_add_norm(t, NORM_BERT, e);
    if (!bert) return false;
    bert->cleans = bert->pads_han = true;
    bert->lowers = bert->strips_accents = lowers;
    tok_pre *spaces = tok_add_pre(t, PRE_SPACES, e);
    if (!spaces) return false;
    spaces->behavior = SPLIT_REMOVED;
    return tok_add_pre(t, PRE_PUNCTUATION, e) != NULL;
}

bool tok_add_replace(ern_tokenizer *t, const char *from, const char *to, ern_err *e) {
    tok_decoder *d = &t->decoder;
    if (d->n_replace == sizeof d->replace / sizeof d->replace[0])
        return ern_fail(e, ERN_LIMIT, "decoder: more than %zu replacements", d->n_replace);
    tok_replace *r = &d->replace[d->n_replace++];
    r->from_bytes = strlen(from);
    r->to_bytes = strlen(to);
    return (r->from = mem_strndup(from, r->from_bytes, e)) && (r->to = mem_strndup(to, r->to_bytes, e));
}

/* ---- tables ----------------------------------------------------------------------------------- */

static void find_byte_ids(ern_tokenizer *t) {
    int32_t letter[256];
    bytelevel_alphabet(letter);
    for (int b = 0; b < 256; b++) {
        char text[8];
        size_t n = 6;
        if (t->kind == TOKENIZER_BYTELEVEL) n = utf8_encode(letter[b], text);
        else snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        t->byte_id[b] = pieces_find(&t->pieces, text, n);
        if (t->byte_id[b] >= 0 && t->kind == TOKENIZER_SPM && t->has_byte_fallback) t->types[t->byte_id[b]] = 6;
        if (b < 128) {
            const char c = (char)b;
            const int32_t id = pieces_find(&t->pieces, &c, 1);
            t->ascii_id[b] = id >= 0 && (t->types[id] == 1 || t->types[id] == 4) ? id : -1;
        }
    }
}

static bool index_raw(ern_tokenizer *t, ern_err *e) {
    ern_buf b = { .max = 4 * TOK_MAX_PIECE_BYTES };
    bool ok = true;
    for (size_t id = 0; ok && id < t->pieces.n; id++) {
        buf_clear(&b);
        if (t->types[id] != 1) continue;
        ok = bytelevel_raw(pieces_text(&t->pieces, id), t->pieces.len[id], &b, e) &&
            pieces_set(&t->raw, id, b.data, b.len, e);
    }
    buf_deinit(&b);
    return ok && pieces_index(&t->raw, e);
}

static bool check_ids(const ern_tokenizer *t, ern_err *e) {
    const struct { const char *name; int32_t id; } roles[] = { { "bos", t->bos }, { "eos", t->eos }, { "unk", t->unk },
                                                               { "pad", t->pad } };
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (roles[i].id < -1 || (roles[i].id >= 0 && (size_t)roles[i].id >= t->pieces.n))
            return ern_fail(e, ERN_FORMAT, "tokenizer: %s is id %d, the vocabulary has %zu tokens", roles[i].name,
                            (int)roles[i].id, t->pieces.n);
    return true;
}

static bool build_rules(ern_tokenizer *t, ern_err *e) {
    if (t->kind == TOKENIZER_WORDPIECE) {
        for (size_t id = 0; id < t->pieces.n; id++)
            if (t->pieces.len[id] > t->longest_piece) t->longest_piece = t->pieces.len[id];
        return true;
    }
    if (!t->bpe.pair && t->kind == TOKENIZER_BYTELEVEL && !bpe_pairs_init(&t->bpe, 0, e)) return false;
    if (!t->bpe.pair && !bpe_ranks_init(&t->bpe, &t->pieces, t->scores, t->types, e)) return false;
    if (t->kind == TOKENIZER_SPM && !bpe_joins_init(&t->bpe, &t->pieces, t->types, e)) return false;
    return t->kind != TOKENIZER_BYTELEVEL || !t->ignores_merges || index_raw(t, e);
}

bool tok_finish(ern_tokenizer *t, ern_err *e) {
    if (t->pieces.n == 0) return ern_fail(e, ERN_FORMAT, "tokenizer: the vocabulary is empty");
    if (!reserve_tokens(t, t->pieces.n, e) || !pieces_index(&t->pieces, e) || !check_ids(t, e)) return false;
    for (size_t id = 0; id < t->pieces.n; id++)
        if (t->types[id] == 3) t->is_special[id] = 1;
    if (t->unk >= 0) t->is_special[t->unk] = 1;
    find_byte_ids(t);
    if (!build_rules(t, e)) return false;
    for (size_t level = 0; level < N_LEVELS; level++)
        for (size_t normalized = 0; normalized < 2; normalized++)
            if (!matcher_build(&t->match[level][normalized], t->added, t->n_added, (enum tok_level)level,
                               normalized != 0, e))
                return false;
    return tok_export(t, e);
}
