/* SentencePiece BPE: a symbol a character, merged by score or by merge rules; what is no piece goes out as bytes. */
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

static bool add_unknown(tok_call *c, const char *s, size_t n) {
    const ern_tokenizer *t = c->t;
    bool has_bytes = t->has_byte_fallback;
    for (size_t i = 0; has_bytes && i < n; i++) has_bytes = t->byte_id[(uint8_t)s[i]] >= 0;
    if (has_bytes) {
        for (size_t i = 0; i < n; i++)
            if (!ids_add(c->out, t->byte_id[(uint8_t)s[i]], c->e)) return false;
        c->last_is_unknown = false;
        return true;
    }
    if (t->unk < 0) return true;                        /* as the library: nothing stands for it */
    if (c->last_is_unknown && t->fuses_unknown) return true;
    c->last_is_unknown = true;
    return ids_add(c->out, t->unk, c->e);
}

static int32_t char_id(const ern_tokenizer *t, const char *s, size_t n) {
    if (n == 1 && (uint8_t)s[0] < 0x80) return t->ascii_id[(uint8_t)s[0]];
    const int32_t id = pieces_find(&t->pieces, s, n);
    return id >= 0 && (t->types[id] == 1 || t->types[id] == 4) ? id : -1;
}

bool spm_encode(tok_call *c, const char *s, size_t n) {
    size_t n_symbols = 0;
    for (size_t i = 0; i < n; n_symbols++) {
        int32_t cp;
        if (n_symbols == c->bpe.cap && !bpe_work_reserve(&c->bpe, n_symbols + 1, c->e)) return false;
        const size_t used = utf8_decode(s + i, n - i, &cp);
        c->bpe.symbol[n_symbols] = (tok_symbol){ char_id(c->t, s + i, used), (uint32_t)i, (uint32_t)used };
        i += used;
    }
    if (!bpe_merge(&c->t->bpe, &c->t->pieces, &c->bpe, s, &n_symbols, c->e)) return false;
    for (size_t i = 0; i < n_symbols; i++) {
        const tok_symbol *x = &c->bpe.symbol[i];
        if (x->id < 0) {
            if (!add_unknown(c, s + x->at, x->len)) return false;
            continue;
        }
        c->last_is_unknown = false;
        if (!ids_add(c->out, x->id, c->e)) return false;
    }
    return true;
}
