/* The vocabulary as a trie of bytes in depth-first order: children follow their parent, a subtree is one run. */
#include <stdlib.h>
#include <string.h>

#include "engine/constrain_int.h"

static int by_bytes(const void *a, const void *b) {
    const vocab_token *x = a, *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = memcmp(x->bytes, y->bytes, n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool build_trie(constrain_vocab *v, ern_err *e) {
    size_t longest = 0, total = 1;
    for (size_t i = 0; i < v->n_tokens; i++) {
        if (v->tokens[i].n > longest) longest = v->tokens[i].n;
        total += v->tokens[i].n;
    }
    uint32_t *path = mem_zalloc(longest + 1, sizeof *path, "vocabulary", e);       /* trie nodes of the last token */
    size_t depth = 0;
    v->trie = mem_zalloc(total + 1, sizeof *v->trie, "vocabulary", e);
    if (!path || !v->trie) { free(path); return false; }
    v->n_trie = 1;                                                                  /* 0: the root */
    for (size_t i = 0; i < v->n_tokens; i++) {
        const vocab_token *t = &v->tokens[i], *last = i ? &v->tokens[i - 1] : NULL;
        size_t same = 0;
        while (last && same < depth && same < t->n && last->bytes[same] == t->bytes[same]) same++;
        for (size_t d = depth; d > same; d--) v->trie[path[d]].end = (uint32_t)v->n_trie;
        for (size_t d = same; d < t->n; d++) {
            path[d + 1] = (uint32_t)v->n_trie;
            v->trie[v->n_trie++] = (trie_node){ .byte = (uint8_t)t->bytes[d], .first = (uint32_t)i };
        }
        depth = t->n;
        v->trie[path[depth]].n_here++;
    }
    for (size_t d = depth; d > 0; d--) v->trie[path[d]].end = (uint32_t)v->n_trie;
    v->trie[0].end = (uint32_t)v->n_trie;
    v->trie[v->n_trie] = (trie_node){ .first = (uint32_t)v->n_tokens };             /* a border for the last subtree */
    free(path);
    return true;
}

constrain_vocab *constrain_vocab_from_bytes(const char *const *bytes, const size_t *lengths, size_t n_vocab, ern_err *e) {
    size_t total = 0, used = 0;
    bool ok = false;
    constrain_vocab *v = mem_zalloc(1, sizeof *v, "vocabulary", e);
    if (!v) return NULL;
    if (n_vocab == 0 || n_vocab > CONSTRAIN_MAX_VOCAB) {
        ern_fail(e, ERN_LIMIT, "vocabulary of %zu tokens: 1 to %zu wanted", n_vocab, CONSTRAIN_MAX_VOCAB);
        goto out;
    }
    for (size_t i = 0; i < n_vocab; i++) {
        if (lengths[i] > UINT16_MAX)
            { ern_fail(e, ERN_LIMIT, "token %zu of %zu bytes: at most %d", i, lengths[i], UINT16_MAX); goto out; }
        total += lengths[i];
    }
    v->n_vocab = n_vocab;
    v->pool = mem_zalloc(total + 1, 1, "vocabulary", e);
    v->tokens = mem_zalloc(n_vocab, sizeof *v->tokens, "vocabulary", e);
    v->by_id = mem_zalloc(n_vocab, sizeof *v->by_id, "vocabulary", e);
    if (!v->pool || !v->tokens || !v->by_id) goto out;
    for (size_t i = 0; i < n_vocab; i++) {
        if (lengths[i] == 0) continue;
        memcpy(v->pool + used, bytes[i], lengths[i]);
        v->by_id[i] = v->tokens[v->n_tokens++] = (vocab_token){ .bytes = v->pool + used, .n = (uint32_t)lengths[i],
                                                                .id = (int32_t)i };
        used += lengths[i];
    }
    qsort(v->tokens, v->n_tokens, sizeof *v->tokens, by_bytes);
    ok = build_trie(v, e);
out:
    if (!ok) { constrain_vocab_close(v); return NULL; }
    return v;
}

void constrain_vocab_close(constrain_vocab *v) {
    if (!v) return;
    free(v->pool);
    free(v->tokens);
    free(v->by_id);
    free(v->trie);
    free(v);
}

size_t constrain_vocab_n(const constrain_vocab *v) { return v->n_vocab; }

/* What a token adds after another one: decoding it alone would drop the space that some vocabularies put first. */
constrain_vocab *constrain_vocab_open(const ern_tokenizer *t, size_t n_vocab, ern_err *e) {
    constrain_vocab *v = NULL;
    const size_t n_known = tokenizer_n_tokens(t) < n_vocab ? tokenizer_n_tokens(t) : n_vocab;
    int32_t before = -1;
    ern_buf all = { 0 }, one = { 0 };
    size_t *lengths = mem_zalloc(n_vocab, sizeof *lengths, "vocabulary", e), *at =
        mem_zalloc(n_vocab, sizeof *at, "vocabulary", e);
    const char **bytes = mem_zalloc(n_vocab, sizeof *bytes, "vocabulary", e);
    if (!lengths || !at || !bytes) goto out;
    for (size_t i = 0; i < n_known && before < 0; i++)
        if (tokenizer_type(t, (int32_t)i) == TOKEN_NORMAL && tokenizer_piece(t, (int32_t)i)) before = (int32_t)i;
    if (before < 0) { ern_fail(e, ERN_FORMAT, "vocabulary without an ordinary token"); goto out; }
    if (!tokenizer_decode(t, &before, 1, false, &one, e)) goto out;
    const size_t prefix = one.len;
    for (size_t i = 0; i < n_known; i++) {
        const enum token_type type = tokenizer_type(t, (int32_t)i);
        const int32_t pair[2] = { before, (int32_t)i };
        if (!tokenizer_piece(t, (int32_t)i) || type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_UNUSED)
            continue;
        buf_clear(&one);
        if (!tokenizer_decode(t, pair, 2, false, &one, e)) goto out;
        if (one.len <= prefix) continue;
        at[i] = all.len;
        lengths[i] = one.len - prefix;
        if (!buf_add(&all, one.data + prefix, lengths[i], e)) goto out;
    }
    for (size_t i = 0; i < n_vocab; i++) bytes[i] = all.data ? all.data + at[i] : NULL;
    v = constrain_vocab_from_bytes(bytes, lengths, n_vocab, e);
out:
    buf_deinit(&all);
    buf_deinit(&one);
    free(lengths);
    free(at);
    free(bytes);
    return v;
}
