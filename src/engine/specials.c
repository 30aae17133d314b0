#include "engine/specials.h"

#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b) {
    const special_token *x = a, *y = b;
    const size_t n = x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes;
    const int order = memcmp(x->text, y->text, n);
    return order ? order : (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

bool specials_init(engine_specials *out, const ern_tokenizer *t, ern_err *e) {
    engine_specials s = { 0 };
    const size_t V = tokenizer_n_tokens(t);
    size_t cap = 0;
    for (size_t id = 0; id < V; id++) {
        const char *piece = tokenizer_piece(t, (int32_t)id);
        const enum token_type type = tokenizer_type(t, (int32_t)id);
        if (!piece || !*piece || (type != TOKEN_CONTROL && type != TOKEN_UNKNOWN)) continue;
        if (s.n == cap) {
            cap = cap ? 2 * cap : 64;
            special_token *at = mem_grow(s.at, cap, sizeof *at, "special tokens", e);
            if (!at) { specials_deinit(&s); return false; }
            s.at = at;
        }
        s.at[s.n++] = (special_token){ piece, strlen(piece), (int32_t)id };
        s.begins[(uint8_t)*piece] = true;
    }
    if (s.n) qsort(s.at, s.n, sizeof *s.at, by_text);
    *out = s;
    return true;
}

void specials_deinit(engine_specials *s) {
    free(s->at);
    *s = (engine_specials){ 0 };
}

/* The first of at[from..to) whose byte at depth is at least b; all have more than depth bytes and share those before it. */
static size_t lower(const special_token *at, size_t from, size_t to, size_t depth, unsigned b) {
    while (from < to) {
        const size_t middle = from + (to - from) / 2;
        if ((uint8_t)at[middle].text[depth] < b) from = middle + 1;
        else to = middle;
    }
    return from;
}

size_t specials_match(const engine_specials *s, const char *text, size_t n, bool *is_cut) {
    size_t from = 0, to = s->n, best = 0, depth = 0;
    *is_cut = false;
    if (n == 0 || !s->begins[(uint8_t)text[0]]) return 0;
    while (from < to) {
        while (from < to && s->at[from].n_bytes == depth) {     /* the shortest stand first */
            best = depth;
            from++;
        }
        if (from == to) break;
        if (depth == n) {
            *is_cut = true;
            break;
        }
        const unsigned b = (uint8_t)text[depth];
        const size_t first = lower(s->at, from, to, depth, b);
        to = lower(s->at, first, to, depth, b + 1);
        from = first;
        depth++;
    }
    return best;
}
