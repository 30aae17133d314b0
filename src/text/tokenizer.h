/* Text to token ids and back, for the three kinds of vocabulary that the models use:
 * SentencePiece BPE with byte fallback, byte-level BPE with a pre-tokenizer regex, WordPiece.
 *
 *     ern_tokenizer *t = tokenizer_open("folder-or-file", &e);        tokenizer.model, tokenizer.json, vocab.txt
 *     ern_ids ids = { 0 };
 *     tokenizer_encode(t, "Hello", 5, TOKENIZER_SPECIALS, &ids, &e);
 *
 * A tokenizer is immutable after open and shared by threads; ids_deinit frees what an ern_ids holds.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "base/buf.h"

typedef struct ern_tokenizer ern_tokenizer;

typedef struct { int32_t *id; size_t n, cap; } ern_ids;
void ids_deinit(ern_ids *ids);
bool ids_add(ern_ids *ids, int32_t id, ern_err *e);

enum tokenizer_kind { TOKENIZER_SPM, TOKENIZER_BYTELEVEL, TOKENIZER_WORDPIECE };

/* What each token is: one per id. */
enum token_type { TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_BYTE, TOKEN_UNUSED };

/* A vocabulary as a GGUF file or a test gives it; everything is borrowed during the call. */
typedef struct {
    enum tokenizer_kind kind;
    const char *pre;            /* byte-level: name of the pre-tokenizer in GGUF ("smollm", "llama-bpe", ...) or NULL */
    size_t n_tokens;
    const char *const *pieces;  /* [n_tokens] NUL-free UTF-8 (byte-level: in the 256-letter alphabet) */
    const float *scores;        /* [n_tokens] or NULL (SPM: merge priority) */
    const int32_t *types;       /* [n_tokens] GGUF numbering 1 normal 2 unknown 3 control 4 user 5 unused 6 byte; or NULL */
    size_t n_merges;
    const char *const *merges;  /* [n_merges] "left right" */
    int32_t bos, eos, unk, pad; /* -1: none */
    bool adds_bos, adds_eos, adds_space_prefix;
    bool collapses_spaces;      /* SPM: tokenizer.ggml.remove_extra_whitespaces */
    const char *charsmap;       /* SPM: tokenizer.ggml.precompiled_charsmap, [charsmap_bytes], or NULL */
    size_t charsmap_bytes;
} tokenizer_vocab;

ern_tokenizer *tokenizer_open(const char *path, ern_err *e);            /* a folder or one of its files */
ern_tokenizer *tokenizer_from_vocab(const tokenizer_vocab *v, ern_err *e);

/* The vocabulary as a GGUF file stores it, whatever it was read from (convert writes it). Borrowed from t. A byte-level
 * vocabulary whose pre is NULL has a pre-tokenizer without a name in GGUF: written there it would split texts otherwise. */
const tokenizer_vocab *tokenizer_vocab_of(const ern_tokenizer *t);

/* What a GGUF file made from vocab_of would do otherwise than t ("a normalizer", ...), or NULL: nothing. Static text. */
const char *tokenizer_lost_in_vocab(const ern_tokenizer *t);
void tokenizer_close(ern_tokenizer *t);

/* Flags of encode. Without SPECIALS the text is plain: special tokens in it are ordinary text; user-defined pieces still
 * match, as in SentencePiece, even those that a config names as special (ERNIE's "<|end_of_sentence|>"). LITERAL is
 * stricter: no token that tokenizer_type calls control can come out, whatever a user typed. ADD also adds BOS/EOS
 * ([CLS]/[SEP]) where the tokenizer says so. */
enum { TOKENIZER_PLAIN = 0, TOKENIZER_SPECIALS = 1, TOKENIZER_ADD = 2, TOKENIZER_LITERAL = 4 };

/* Append the ids of text[0..n). Bad UTF-8 is ERN_FORMAT with the byte offset. */
bool tokenizer_encode(const ern_tokenizer *t, const char *text, size_t n, unsigned flags, ern_ids *out, ern_err *e);

/* Append the bytes of ids (may end inside a character; text/stream.h repairs that). Special (control) tokens
 * are left out unless with_specials. */
bool tokenizer_decode(const ern_tokenizer *t, const int32_t *ids, size_t n, bool with_specials, ern_buf *out, ern_err *e);

size_t tokenizer_n_tokens(const ern_tokenizer *t);              /* highest id + 1 */
const char *tokenizer_piece(const ern_tokenizer *t, int32_t id);        /* as stored ("▁the"); NULL out of range */
enum token_type tokenizer_type(const ern_tokenizer *t, int32_t id);
int32_t tokenizer_find(const ern_tokenizer *t, const char *piece);      /* exact piece or added token; -1: none */
enum tokenizer_kind tokenizer_kind_of(const ern_tokenizer *t);
int32_t tokenizer_bos(const ern_tokenizer *t);                  /* -1: none */
int32_t tokenizer_eos(const ern_tokenizer *t);
int32_t tokenizer_unk(const ern_tokenizer *t);

#endif
