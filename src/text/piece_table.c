/* The strings of a vocabulary: by id, and through an open-addressing hash table back to the id. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_int.h"

#define FIRST_CAPACITY 1024

uint64_t tok_hash(const char *s, size_t n) {
    uint64_t h = n * 0x9E3779B97F4A7C15u;
    uint64_t w;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    if (n) {
        w = 0;
        for (size_t i = 0; i < n; i++) w |= (uint64_t)(uint8_t)s[i] << (8 * i);
        h = (h ^ w) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    h *= 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

static bool grow(tok_pieces *p, size_t n, ern_err *e) {
    if (n <= p->cap) return true;
    size_t cap = p->cap ? p->cap : FIRST_CAPACITY;
    while (cap < n) cap *= 2;
    size_t *at = mem_grow(p->at, cap, sizeof *at, "vocabulary", e);
    if (!at) return false;
    p->at = at;
    uint32_t *len = mem_grow(p->len, cap, sizeof *len, "vocabulary", e);
    if (!len) return false;
    p->len = len;
    memset(at + p->cap, 0, (cap - p->cap) * sizeof *at);
    memset(len + p->cap, 0, (cap - p->cap) * sizeof *len);
    p->cap = cap;
    return true;
}

bool pieces_set(tok_pieces *p, size_t id, const char *s, size_t n, ern_err *e) {
    if (id >= TOK_MAX_TOKENS)
        return ern_fail(e, ERN_LIMIT, "vocabulary: id %zu, at most %zu is read", id, TOK_MAX_TOKENS - 1);
    if (n > TOK_MAX_PIECE_BYTES)
        return ern_fail(e, ERN_LIMIT, "vocabulary: piece %zu has %zu bytes, at most %zu are read", id, n,
                        TOK_MAX_PIECE_BYTES);
    if (id < p->n && p->len[id])
        return ern_fail(e, ERN_FORMAT, "vocabulary: id %zu is given to \"%.64s\" and to \"%.64s\"", id, pieces_text(p, id),
                        s);
    if (p->text.len == 0 && !buf_char(&p->text, '\0', e)) return false;     /* offset 0 is the empty text of holes */
    const size_t at = p->text.len;
    if (!grow(p, id + 1, e) || !buf_add(&p->text, s, n, e) || !buf_char(&p->text, '\0', e)) return false;
    p->at[id] = n ? at : 0;
    p->len[id] = (uint32_t)n;
    if (id >= p->n) p->n = id + 1;
    return true;
}

void pieces_replace(tok_pieces *p, size_t id) {
    if (id < p->n) p->at[id] = p->len[id] = 0;
}

bool pieces_index(tok_pieces *p, ern_err *e) {
    size_t n_slots = 16;
    while (n_slots < p->n * 2) n_slots *= 2;
    free(p->slot);
    if (!(p->slot = mem_zalloc(n_slots, sizeof *p->slot, "vocabulary", e))) return false;
    p->mask = n_slots - 1;
    for (size_t id = 0; id < p->n; id++) {
        if (!p->len[id]) continue;
        size_t i = (size_t)tok_hash(pieces_text(p, id), p->len[id]) & p->mask;
        for (; p->slot[i]; i = (i + 1) & p->mask) {
            const size_t other = p->slot[i] - 1;
            if (p->len[other] == p->len[id] && memcmp(pieces_text(p, other), pieces_text(p, id), p->len[id]) == 0)
                return ern_fail(e, ERN_FORMAT, "vocabulary: \"%.64s\" stands twice, with ids %zu and %zu",
                                pieces_text(p, id), other, id);
        }
        p->slot[i] = (uint32_t)id + 1;
    }
    return true;
}

int32_t pieces_find(const tok_pieces *p, const char *s, size_t n) {
    if (!p->slot || !n) return -1;
    for (size_t i = (size_t)tok_hash(s, n) & p->mask; p->slot[i]; i = (i + 1) & p->mask) {
        const size_t id = p->slot[i] - 1;
        if (p->len[id] == n && memcmp(pieces_text(p, id), s, n) == 0) return (int32_t)id;
    }
    return -1;
}

void pieces_deinit(tok_pieces *p) {
    buf_deinit(&p->text);
    free(p->at);
    free(p->len);
    free(p->slot);
    *p = (tok_pieces){ 0 };
}
