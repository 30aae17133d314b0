/* What constrain.c and constrain_vocab.c share. */
#ifndef ENGINE_CONSTRAIN_INT_H
#define ENGINE_CONSTRAIN_INT_H

#include "engine/constrain.h"

#define CONSTRAIN_MAX_VOCAB ((size_t)1 << 24)

typedef struct { const char *bytes; uint32_t n; int32_t id; } vocab_token;

typedef struct {
    uint32_t end;       /* the node after this one's subtree */
    uint32_t first;     /* tokens[first ..]: those of the subtree; the first n_here end at this node */
    uint32_t n_here;
    uint8_t byte;
} trie_node;

struct constrain_vocab {
    size_t n_vocab, n_tokens, n_trie;
    char *pool;
    vocab_token *tokens;    /* [n_tokens] sorted by bytes */
    vocab_token *by_id;     /* [n_vocab] */
    trie_node *trie;        /* [n_trie + 1] */
};

#endif
