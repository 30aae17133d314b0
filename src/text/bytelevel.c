/* Byte-level BPE: a symbol a byte. The vocabulary writes bytes as 256 visible letters (GPT-2's alphabet). */
#include "base/utf8.h"
#include "text/tokenizer_int.h"

static bool is_shown(int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255); }

void bytelevel_alphabet(int32_t letter_of[256]) {
    int32_t next = 256;
    for (int b = 0; b < 256; b++) letter_of[b] = is_shown(b) ? b : next++;
}

/* The byte a letter stands for, or -1. */
static int byte_of(int32_t letter) {
    if (letter >= 0 && letter < 256) return is_shown(letter) ? letter : -1;
    if (letter < 256 || letter >= 256 + 68) return -1;
    int32_t nth = letter - 256;                         /* the hidden bytes in order: 0-32, 127-160, 173 */
    return nth < 33 ? nth : nth < 67 ? nth - 33 + 127 : 173;
}

bool bytelevel_raw(const char *piece, size_t n, ern_buf *out, ern_err *e) {
    const size_t before = out->len;
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += utf8_decode(piece + i, n - i, &cp);
        const int byte = byte_of(cp);
        if (byte < 0) {                                 /* not of the alphabet: the piece is text */
            out->len = before;
            return buf_add(out, piece, n, e);
        }
        if (!buf_char(out, (char)byte, e)) return false;
    }
    return true;
}

bool bytelevel_encode(tok_call *c, const char *s, size_t n) {
    const ern_tokenizer *t = c->t;
    if (t->ignores_merges) {
        const int32_t id = pieces_find(&t->raw, s, n);
        if (id >= 0) return ids_add(c->out, id, c->e);
    }
    if (!bpe_work_reserve(&c->bpe, n, c->e)) return false;
    for (size_t i = 0; i < n; i++) c->bpe.symbol[i] = (tok_symbol){ t->byte_id[(uint8_t)s[i]], (uint32_t)i, 1 };
    size_t n_symbols = n;
    if (!bpe_merge(&t->bpe, &t->pieces, &c->bpe, s, &n_symbols, c->e)) return false;
    for (size_t i = 0; i < n_symbols; i++) {
        const int32_t id = c->bpe.symbol[i].id >= 0 ? c->bpe.symbol[i].id : t->unk;
        if (id >= 0 && !ids_add(c->out, id, c->e)) return false;
    }
    return true;
}
