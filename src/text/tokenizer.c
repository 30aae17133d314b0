/* The face of the tokenizer: ids, encoding, decoding, questions about the vocabulary. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define MIN_CACHED_TEXT 512             /* bytes; below this a cache costs more than it saves */
#define MAX_CACHE_SLOTS ((size_t)1 << 15)
#define BYTES_PER_SLOT 32

/* ---- ids -------------------------------------------------------------------------------------- */

void ids_deinit(ern_ids *ids) {
    free(ids->id);
    *ids = (ern_ids){ 0 };
}

bool ids_add(ern_ids *ids, int32_t id, ern_err *e) {
    if (ids->n == ids->cap) {
        const size_t cap = ids->cap ? ids->cap * 2 : 64;
        int32_t *p = mem_grow(ids->id, cap, sizeof *p, "token ids", e);
        if (!p) return false;
        ids->id = p;
        ids->cap = cap;
    }
    ids->id[ids->n++] = id;
    return true;
}

/* ---- encoding --------------------------------------------------------------------------------- */

static bool model_word(tok_call *c, const char *s, size_t n) {
    switch (c->t->kind) {
    case TOKENIZER_SPM: return spm_encode(c, s, n);
    case TOKENIZER_BYTELEVEL: return bytelevel_encode(c, s, n);
    case TOKENIZER_WORDPIECE: return wordpiece_encode(c, s, n);
    }
    return false;
}

static void remember(tok_call *c, tok_cached *slot, uint32_t hash, const char *s, size_t n, size_t before) {
    const size_t n_ids = c->out->n - before;
    if (n_ids > sizeof slot->id / sizeof slot->id[0]) return;
    if (c->t->fuses_unknown)                            /* an unknown piece at its beginning may fuse with the word before */
        for (size_t i = before; i < c->out->n; i++)
            if (c->out->id[i] == c->t->unk) return;
    slot->hash = hash;
    slot->n_bytes = (uint8_t)n;
    slot->n_ids = (uint8_t)n_ids;
    memcpy(slot->text, s, n);
    memcpy(slot->id, c->out->id + before, n_ids * sizeof slot->id[0]);
}

static bool cached_word(tok_call *c, const char *s, size_t n) {
    if (!c->cache || n > sizeof c->cache->text) return model_word(c, s, n);
    const uint32_t hash = (uint32_t)tok_hash(s, n);
    tok_cached *slot = &c->cache[hash & c->cache_mask];
    if (slot->hash == hash && slot->n_bytes == n && memcmp(slot->text, s, n) == 0) {
        for (size_t i = 0; i < slot->n_ids; i++)
            if (!ids_add(c->out, slot->id[i], c->e)) return false;
        c->last_is_unknown = false;
        return true;
    }
    const size_t before = c->out->n;
    const bool was_unknown = c->last_is_unknown;
    if (!model_word(c, s, n)) return false;
    if (was_unknown || c->last_is_unknown) return true;     /* what came out depends on the word before */
    remember(c, slot, hash, s, n, before);
    return true;
}

/* SentencePiece has no words: the text is cut where no merge can cross (bpe_joins_init says why that is exact). */
bool tok_word(tok_call *c, const char *s, size_t n) {
    c->last_is_unknown = false;
    if (!c->t->bpe.has_joins) return cached_word(c, s, n);
    size_t from = 0;
    int32_t before = -1;
    for (size_t i = 0; i < n;) {
        int32_t cp = (uint8_t)s[i];
        const size_t used = cp < 0x80 ? 1 : utf8_decode(s + i, n - i, &cp);
        if (i > from && !bpe_joined(&c->t->bpe, before, cp)) {
            if (!cached_word(c, s + from, i - from)) return false;
            from = i;
        }
        before = cp;
        i += used;
    }
    return from == n || cached_word(c, s + from, n - from);
}

static bool encode_span(tok_call *c, enum tok_level level, const char *s, size_t n, bool is_start, bool is_after_special) {
    const tok_matcher *m = &c->t->match[level][1];
    const tok_added *hit;
    size_t from = 0, a, b;
    if (n == 0 || !normalizer_run(c->t->norm, c->t->n_norm, is_start || is_after_special, s, n, &c->norm, &s, &n, c->e))
        return n == 0;
    while ((hit = matcher_next(m, s, n, from, &a, &b)) != NULL) {
        if (!pretok_run(c, 0, s + from, a - from, is_start && from == 0) || !ids_add(c->out, hit->id, c->e)) return false;
        from = b;
    }
    return pretok_run(c, 0, s + from, n - from, is_start && from == 0);
}

static bool encode_text(tok_call *c, enum tok_level level, const char *s, size_t n) {
    const tok_matcher *m = &c->t->match[level][0];
    const tok_added *hit;
    size_t from = 0, a, b;
    bool is_after_special = false;
    while ((hit = matcher_next(m, s, n, from, &a, &b)) != NULL) {
        if (!encode_span(c, level, s + from, a - from, from == 0, is_after_special) || !ids_add(c->out, hit->id, c->e))
            return false;
        is_after_special = c->t->is_special[hit->id];
        from = b;
    }
    return encode_span(c, level, s + from, n - from, from == 0, is_after_special);
}

static bool open_cache(tok_call *c, size_t n) {
    size_t slots = 64;
    if (n < MIN_CACHED_TEXT) return true;
    while (slots < n / BYTES_PER_SLOT && slots < MAX_CACHE_SLOTS) slots *= 2;
    c->cache_mask = slots - 1;
    return (c->cache = mem_zalloc(slots, sizeof *c->cache, "word cache", c->e)) != NULL;
}

bool tokenizer_encode(const ern_tokenizer *t, const char *text, size_t n, unsigned flags, ern_ids *out, ern_err *e) {
    const size_t before = out->n;
    const enum tok_level plain = flags & TOKENIZER_LITERAL ? LEVEL_LITERAL : LEVEL_PLAIN;
    const enum tok_level level = flags & TOKENIZER_SPECIALS ? LEVEL_SPECIALS : plain;
    tok_call c = { .t = t, .out = out, .e = e };
    bool ok = true;
    size_t bad_at;
    if (n > TOK_MAX_TEXT_BYTES)
        return ern_fail(e, ERN_LIMIT, "text: %zu bytes, at most %zu are tokenized at once", n, TOK_MAX_TEXT_BYTES);
    if (n && !utf8_valid(text, n, &bad_at))
        return ern_fail(e, ERN_FORMAT, "text: byte %zu (0x%02X) is not UTF-8", bad_at, (unsigned)(uint8_t)text[bad_at]);
    ok = open_cache(&c, n);
    for (size_t i = 0; ok && flags & TOKENIZER_ADD && i < t->n_before; i++) ok = ids_add(out, t->before[i], e);
    ok = ok && encode_text(&c, level, text, n);
    for (size_t i = 0; ok && flags & TOKENIZER_ADD && i < t->n_after; i++) ok = ids_add(out, t->after[i], e);
    if (!ok) out->n = before;
    free(c.cache);
    bpe_work_deinit(&c.bpe);
    buf_deinit(&c.norm.a);
    buf_deinit(&c.norm.b);
    regex_scratch_deinit(&c.norm.regex);
    regex_scratch_deinit(&c.regex);
    return ok;
}

/* ---- decoding --------------------------------------------------------------------------------- */

bool tok_is_hidden(const ern_tokenizer *t, int32_t id) { return t->is_special[id] != 0; }

bool tokenizer_decode(const ern_tokenizer *t, const int32_t *ids, size_t n, bool with_specials, ern_buf *out, ern_err *e) {
    const size_t before = out->len;
    tok_decode_state state = { 0 };
    bool ok = buf_reserve(out, 0, e);
    for (size_t i = 0; ok && i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= t->pieces.n)
            ok = ern_fail(e, ERN_ARG, "token %zu: id %d, the vocabulary has 0 to %zu", i, (int)ids[i], t->pieces.n - 1);
        else if (with_specials || !tok_is_hidden(t, ids[i]))
            ok = detok_add(t, ids[i], &state, out, e);
    }
    if (!ok && out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    return ok;
}

/* ---- the vocabulary --------------------------------------------------------------------------- */

static bool has_id(const ern_tokenizer *t, int32_t id) { return id >= 0 && (size_t)id < t->pieces.n; }

size_t tokenizer_n_tokens(const ern_tokenizer *t) { return t->pieces.n; }

int32_t tokenizer_find(const ern_tokenizer *t, const char *piece) { return tok_named(t, piece, strlen(piece)); }
enum tokenizer_kind tokenizer_kind_of(const ern_tokenizer *t) { return t->kind; }
int32_t tokenizer_bos(const ern_tokenizer *t) { return t->bos; }
int32_t tokenizer_eos(const ern_tokenizer *t) { return t->eos; }
int32_t tokenizer_unk(const ern_tokenizer *t) { return t->unk; }
const tokenizer_vocab *tokenizer_vocab_of(const ern_tokenizer *t) { return &t->vocab; }

const char *tokenizer_piece(const ern_tokenizer *t, int32_t id) {
    return has_id(t, id) ? pieces_text(&t->pieces, (size_t)id) : NULL;
}

enum token_type tokenizer_type(const ern_tokenizer *t, int32_t id) {
    if (!has_id(t, id)) return TOKEN_UNUSED;
    switch (t->types[id]) {
    case 2: return TOKEN_UNKNOWN;
    case 3: return TOKEN_CONTROL;
    case 5: return TOKEN_UNUSED;
    case 6: return TOKEN_BYTE;
    default: return t->is_special[id] ? TOKEN_CONTROL : t->types[id] == 4 ? TOKEN_USER : TOKEN_NORMAL;
    }
}
