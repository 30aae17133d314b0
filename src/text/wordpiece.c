/* WordPiece: the longest piece that begins the word, then the longest continuations; a word that does not come out
 * whole is one unknown token. */
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

static size_t count_chars(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((uint8_t)s[i] & 0xC0) != 0x80;
    return count;
}

static int32_t longest(const ern_tokenizer *t, const char *s, size_t n, bool is_first, char *key, size_t *used) {
    const size_t prefix = is_first ? 0 : t->prefix_bytes;
    const size_t most = t->longest_piece > prefix ? t->longest_piece - prefix : 0;
    size_t k = n < most ? n : most;
    if (prefix) memcpy(key, t->prefix, prefix);
    memcpy(key + prefix, s, k);
    for (; k > 0; k--) {
        if (k < n && ((uint8_t)s[k] & 0xC0) == 0x80) continue;
        const int32_t id = pieces_find(&t->pieces, key, prefix + k);
        if (id >= 0) {
            *used = k;
            return id;
        }
    }
    return -1;
}

bool wordpiece_encode(tok_call *c, const char *s, size_t n) {
    const ern_tokenizer *t = c->t;
    const size_t before = c->out->n;
    bool is_whole = n <= t->max_word_chars * 4 && count_chars(s, n) <= t->max_word_chars;
    if (is_whole && !bpe_work_reserve(&c->bpe, (n + t->longest_piece + t->prefix_bytes) / sizeof(tok_symbol) + 1, c->e))
        return false;
    for (size_t i = 0; is_whole && i < n;) {
        size_t used;
        const int32_t id = longest(t, s + i, n - i, i == 0, (char *)c->bpe.symbol, &used);
        if (!(is_whole = id >= 0)) break;
        if (!ids_add(c->out, id, c->e)) return false;
        i += used;
    }
    if (is_whole) return true;
    c->out->n = before;
    return t->unk < 0 || ids_add(c->out, t->unk, c->e);
}
