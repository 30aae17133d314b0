/* The vocabulary as a GGUF file writes it, from whatever it was read. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_int.h"

/* Where the text of a piece stands: in the table, or (offset + 1) in vocab_text. */
static bool add_own(ern_tokenizer *t, size_t *own, const char *a, size_t n_a, const char *b, size_t n_b, ern_err *e) {
    *own = t->vocab_text.len + 1;
    return buf_add(&t->vocab_text, a, n_a, e) && buf_add(&t->vocab_text, b, n_b, e) && buf_char(&t->vocab_text, '\0', e);
}

/* GGUF marks the beginning of a word with U+2581 and leaves continuations bare; "[CLS]" and its like stay. */
static bool wordpiece_text(ern_tokenizer *t, size_t id, size_t *own, ern_err *e) {
    const char *s = pieces_text(&t->pieces, id);
    const size_t n = t->pieces.len[id];
    if (t->types[id] != 1 || (n > 2 && s[0] == '[' && s[n - 1] == ']')) return true;
    if (n > t->prefix_bytes && memcmp(s, t->prefix, t->prefix_bytes) == 0)
        return add_own(t, own, s + t->prefix_bytes, n - t->prefix_bytes, "", 0, e);
    return add_own(t, own, SPACE_MARK, SPACE_MARK_BYTES, s, n, e);
}

static bool export_pieces(ern_tokenizer *t, ern_err *e) {
    const size_t n = t->pieces.n;
    bool ok = false;
    size_t *own = mem_zalloc(n, sizeof *own, "vocabulary", e);
    t->vocab_piece = mem_zalloc(n, sizeof *t->vocab_piece, "vocabulary", e);
    t->vocab_type = mem_zalloc(n, sizeof *t->vocab_type, "vocabulary", e);
    if (!own || !t->vocab_piece || !t->vocab_type) goto out;
    for (size_t id = 0; id < n; id++) {
        t->vocab_type[id] = t->types[id];
        if (!t->pieces.len[id]) {
            own[id] = t->vocab_text.len + 1;
            if (!buf_printf(&t->vocab_text, e, "[PAD%zu]", id) || !buf_char(&t->vocab_text, '\0', e)) goto out;
        } else if (t->kind == TOKENIZER_WORDPIECE && !wordpiece_text(t, id, &own[id], e)) goto out;
    }
    for (size_t id = 0; id < n; id++)
        t->vocab_piece[id] = own[id] ? t->vocab_text.data + own[id] - 1 : pieces_text(&t->pieces, id);
    ok = true;
out:
    free(own);
    return ok;
}

/* Scores that rank pieces as the merges do: minus the number of the first merge that makes the piece. */
static bool export_scores(ern_tokenizer *t, ern_err *e) {
    const size_t n = t->pieces.n;
    if (t->kind != TOKENIZER_SPM) return true;
    if (!(t->vocab_score = mem_zalloc(n, sizeof *t->vocab_score, "scores", e))) return false;
    if (t->has_scores) {
        memcpy(t->vocab_score, t->scores, n * sizeof *t->vocab_score);
        return true;
    }
    for (size_t id = 0; id < n; id++) t->vocab_score[id] = t->types[id] == 1 ? -(float)(t->n_merges + id) : 0;
    for (size_t i = 0; t->bpe.pair && i <= t->bpe.mask; i++) {
        const tok_pair *p = &t->bpe.pair[i];
        if (p->key != UINT64_MAX && t->vocab_score[p->id] < -(float)p->rank) t->vocab_score[p->id] = -(float)p->rank;
    }
    return true;
}

bool tok_export(ern_tokenizer *t, ern_err *e) {
    /* With scores of a tokenizer.model the merges follow from them, and SentencePiece files hold none. */
    const bool has_merges = t->kind != TOKENIZER_WORDPIECE && !(t->kind == TOKENIZER_SPM && t->has_scores);
    const tok_pre_name *pre = t->kind == TOKENIZER_BYTELEVEL ? pre_name_of(t->pre, t->n_pre, t->ignores_merges) : NULL;
    const tok_norm *map = NULL;
    bool collapses = false;
    for (size_t i = 0; i < t->n_norm; i++) {
        if (t->norm[i].op == NORM_CHARSMAP) map = &t->norm[i];
        collapses = collapses || t->norm[i].op == NORM_SPM_SPACES;
    }
    if (!export_pieces(t, e) || !export_scores(t, e)) return false;
    if (has_merges) {
        if (!(t->vocab_merge = mem_zalloc(t->n_merges, sizeof *t->vocab_merge, "merges", e))) return false;
        for (size_t i = 0; i < t->n_merges; i++) t->vocab_merge[i] = t->merge_text.data + t->merge_at[i];
    }
    t->vocab = (tokenizer_vocab){
        .kind = t->kind, .pre = pre ? pre->name : NULL, .n_tokens = t->pieces.n, .pieces = t->vocab_piece,
        .scores = t->vocab_score,
        .types = t->vocab_type, .n_merges = has_merges ? t->n_merges : 0, .merges = has_merges ? t->vocab_merge : NULL,
        .bos = t->bos, .eos = t->eos, .unk = t->unk, .pad = t->pad,
        .charsmap = map ? map->from : NULL, .charsmap_bytes = map ? map->from_bytes : 0, .collapses_spaces = collapses,
        .adds_bos = t->n_before > 0, .adds_eos = t->n_after > 0, .adds_space_prefix = t->adds_space_prefix,
    };
    return true;
}

/* ---- what GGUF cannot say --------------------------------------------------------------------- */

static bool is_bert_chain(const ern_tokenizer *t) {
    const tok_norm *norm = &t->norm[0];
    const tok_pre *pre = &t->pre[0];
    const bool is_bert = t->n_norm == 1 && norm->op == NORM_BERT && norm->cleans && norm->pads_han;
    const bool cuts_spaces = t->n_pre == 2 && pre[0].op == PRE_SPACES && pre[0].behavior == SPLIT_REMOVED;
    const bool cuts_signs = t->n_pre == 2 && pre[1].op == PRE_PUNCTUATION && pre[1].behavior == SPLIT_ISOLATED;
    return is_bert && norm->strips_accents == norm->lowers && cuts_spaces && cuts_signs;
}

static const char *lost_of_spm(const ern_tokenizer *t) {
    bool marks_spaces = false, has_prefix = false;
    for (size_t i = 0; i < t->n_norm; i++) {
        const tok_norm *step = &t->norm[i];
        const bool is_to_mark = step->to && strcmp(step->to, SPACE_MARK) == 0;
        const bool is_mark = step->op == NORM_REPLACE && strcmp(step->from, " ") == 0 && is_to_mark;
        const bool is_prefix = step->op == NORM_SPM_PREFIX || (step->op == NORM_PREPEND && is_to_mark);
        marks_spaces = marks_spaces || is_mark;
        has_prefix = has_prefix || is_prefix;
        if (!is_mark && !is_prefix && step->op != NORM_SPM_SPACES && step->op != NORM_CHARSMAP)
            return "a step of the normalizer";
    }
    if (t->n_pre > 1 || (t->n_pre == 1 && t->pre[0].op != PRE_METASPACE)) return "the pre-tokenizer";
    if (t->n_pre == 1 && strcmp(t->pre[0].text, SPACE_MARK) == 0) {
        if (t->pre[0].prepend != PREPEND_NEVER) return "the prefix before a text that begins with a space";
        marks_spaces = true;
    }
    if (!marks_spaces) return "spaces that are not written as U+2581";
    return has_prefix == t->adds_space_prefix ? NULL : "the space prefix";
}

static const char *lost_of_edges(const ern_tokenizer *t) {
    if (t->n_before > 1 || (t->n_before && t->before[0] != t->bos)) return "the tokens that are put before a text";
    if (t->n_after > 1 || (t->n_after && t->after[0] != t->eos)) return "the tokens that are put after a text";
    return NULL;
}

const char *tokenizer_lost_in_vocab(const ern_tokenizer *t) {
    const char *lost = NULL;
    for (size_t i = 0; i < t->n_added; i++) {
        const tok_added *a = &t->added[i];
        if (a->is_single_word || a->eats_left || a->eats_right) return "an added token that goes by the spaces around it";
        if (strcmp(a->text, pieces_text(&t->pieces, (size_t)a->id)) != 0) return "a second name of a token";
    }
    switch (t->kind) {
    case TOKENIZER_SPM: lost = lost_of_spm(t); break;
    case TOKENIZER_BYTELEVEL: lost = t->n_norm ? "the normalizer" : t->vocab.pre ? NULL : "the pre-tokenizer"; break;
    case TOKENIZER_WORDPIECE:
        if (!is_bert_chain(t)) lost = "the normalizer or the pre-tokenizer";
        else if (t->max_word_chars != 100 || strcmp(t->prefix, "##") != 0) lost = "how words are cut";
        break;
    }
    return lost ? lost : lost_of_edges(t);
}
