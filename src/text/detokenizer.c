/* One token back to text. Bytes may end inside a character; the stream repairs that. */
#include <string.h>

#include "text/tokenizer_int.h"

/* What the WordPiece decoder tidies, token by token, in this order. */
static const char *const cleanups[][2] = {
    { " .", "." }, { " ?", "?" }, { " !", "!" }, { " ,", "," }, { " ' ", "'" }, { " n't", "n't" },
    { " 'm", "'m" }, { " do not", " don't" }, { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" },
};

/* from becomes to in out[start..), left to right. */
static bool replace_in(ern_buf *out, size_t start, const char *from, size_t n_from, const char *to, size_t n_to,
                       ern_err *e) {
    for (size_t at = start; n_from && out->len - at >= n_from;) {
        const char *hit = memmem(out->data + at, out->len - at, from, n_from);
        if (!hit) break;
        at = (size_t)(hit - out->data);
        if (n_to > n_from && !buf_reserve(out, n_to - n_from, e)) return false;
        memmove(out->data + at + n_to, out->data + at + n_from, out->len - at - n_from + 1);
        memcpy(out->data + at, to, n_to);
        out->len = out->len - n_from + n_to;
        at += n_to;
    }
    return true;
}

static bool add_wordpiece(const ern_tokenizer *t, const char *s, size_t n, bool is_first, ern_buf *out, ern_err *e) {
    const size_t start = out->len;
    const bool continues = n >= t->prefix_bytes && t->prefix_bytes && memcmp(s, t->prefix, t->prefix_bytes) == 0;
    if (!is_first && continues) {
        s += t->prefix_bytes;
        n -= t->prefix_bytes;
    } else if (!is_first && !buf_char(out, ' ', e)) return false;
    if (!buf_add(out, s, n, e)) return false;
    if (!t->decoder.cleans_up || (out->data[start] != ' ' && !memchr(s, ' ', n))) return true;
    for (size_t i = 0; i < sizeof cleanups / sizeof cleanups[0]; i++)
        if (!replace_in(out, start, cleanups[i][0], strlen(cleanups[i][0]), cleanups[i][1], strlen(cleanups[i][1]), e))
            return false;
    return true;
}

static void strip_start(const tok_decoder *d, tok_decode_state *s, ern_buf *out, size_t start) {
    size_t k = start;
    while (k < out->len && s->n_stripped < d->n_strip && out->data[k] == d->strip_char) {
        k++;
        s->n_stripped++;
    }
    if (k > start) {
        memmove(out->data + start, out->data + k, out->len - k + 1);
        out->len -= k - start;
    }
    if (out->len > start) s->has_text = true;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

bool detok_add(const ern_tokenizer *t, int32_t id, tok_decode_state *s, ern_buf *out, ern_err *e) {
    const tok_decoder *d = &t->decoder;
    const char *text = pieces_text(&t->pieces, (size_t)id);
    const size_t n = t->pieces.len[id], start = out->len;
    const bool is_first = s->n_tokens == 0;
    if (n == 0) return true;
    s->n_tokens++;
    if (d->is_wordpiece) return add_wordpiece(t, text, n, is_first, out, e);
    if (d->joins_with_space && !is_first && !buf_char(out, ' ', e)) return false;
    if (d->is_bytelevel) return bytelevel_raw(text, n, out, e);
    if (d->has_byte_tokens && t->types[id] == 6 && n == 6) {
        s->has_text = true;
        return buf_char(out, (char)(hex(text[3]) * 16 + hex(text[4])), e);
    }
    if (!buf_add(out, text, n, e)) return false;
    for (size_t i = 0; i < d->n_replace; i++) {
        const tok_replace *r = &d->replace[i];
        if (!replace_in(out, start, r->from, r->from_bytes, r->to, r->to_bytes, e)) return false;
    }
    if (d->n_strip && !s->has_text) strip_start(d, s, out, start);
    return true;
}
