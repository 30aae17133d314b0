/* What the tokenizer's own files share: the opened tokenizer, its parts, and the scratch of one encode call.
 *
 * The path of a text:  added tokens are cut out  ->  normalizer  ->  pre-tokenizer  ->  model (BPE or WordPiece)  ->  ids.
 * Everything hangs off ern_tokenizer and is read-only after open; tok_call belongs to one call.
 */
#ifndef TEXT_TOKENIZER_INT_H
#define TEXT_TOKENIZER_INT_H

#include <jansson.h>

#include "text/tokenizer.h"

/* ---- limits on what files and texts may hold -------------------------------------------------- */

#define TOK_MAX_TOKENS ((size_t)1 << 21)            /* ids are below this */
#define TOK_MAX_ADDED_BYTES ((size_t)1024)          /* of an added token: a match at every byte may read as much */
#define TOK_MAX_MERGES ((size_t)1 << 22)
#define TOK_MAX_PIECE_BYTES ((size_t)1 << 16)
#define TOK_MAX_FILE_BYTES ((size_t)256 << 20)
#define TOK_MAX_TEXT_BYTES ((size_t)1 << 30)
#define TOK_MAX_STEPS 64                            /* of one normalizer, pre-tokenizer or decoder */
#define TOK_MAX_NESTING 16
#define TOK_MAX_EDGE_IDS 16                         /* ids that ADD puts before or after */

#define SPACE_MARK "\xE2\x96\x81"                   /* U+2581, a space in SentencePiece vocabularies */
#define SPACE_MARK_BYTES 3

/* ---- strings by id and back ------------------------------------------------------------------- */

typedef struct {
    ern_buf text;               /* every piece, NUL-terminated */
    size_t *at;                 /* [n] offset in text */
    uint32_t *len;              /* [n] bytes; 0: a hole */
    size_t n, cap;
    uint32_t *slot;             /* [mask + 1] id + 1, 0 empty; NULL before pieces_index */
    size_t mask;
} tok_pieces;

bool pieces_set(tok_pieces *p, size_t id, const char *s, size_t n, ern_err *e);     /* each id once */
bool pieces_index(tok_pieces *p, ern_err *e);                                       /* two equal pieces: ERN_FORMAT */
int32_t pieces_find(const tok_pieces *p, const char *s, size_t n);                  /* -1: none */
void pieces_replace(tok_pieces *p, size_t id);                                      /* makes a hole of id; index again */
void pieces_deinit(tok_pieces *p);
uint64_t tok_hash(const char *s, size_t n);

static inline const char *pieces_text(const tok_pieces *p, size_t id) { return p->text.data + p->at[id]; }

/* ---- added tokens ----------------------------------------------------------------------------- */

enum tok_level { LEVEL_LITERAL, LEVEL_PLAIN, LEVEL_SPECIALS, N_LEVELS };

typedef struct {
    char *text;                 /* owned */
    size_t n;
    int32_t id;
    enum tok_level level;       /* the least reading of a text that parses it */
    bool is_normalized;         /* sought in the normalized text */
    bool is_single_word, eats_left, eats_right;
} tok_added;

/* Longest-first lookup of a set of strings at a position. */
typedef struct {
    const tok_added **sorted;   /* [n] by text; borrowed entries */
    size_t n;
    uint32_t first[257];        /* sorted[first[b] .. first[b + 1]) begin with byte b */
} tok_matcher;

bool matcher_build(tok_matcher *m, const tok_added *added, size_t n, enum tok_level level, bool is_normalized, ern_err *e);
void matcher_deinit(tok_matcher *m);
const tok_added *matcher_at(const tok_matcher *m, const char *s, size_t n);         /* longest prefix of s, or NULL */

/* The next added token in s[from..n): [*a, *b) with the spaces it eats (never before from), or NULL. */
const tok_added *matcher_next(const tok_matcher *m, const char *s, size_t n, size_t from, size_t *a, size_t *b);

/* ---- regular expressions ---------------------------------------------------------------------- */

typedef struct tok_regex tok_regex;
typedef struct { void *match, *context, *stack; } tok_regex_scratch;                /* one a call; zero-initialised */

tok_regex *regex_open(const char *pattern, ern_err *e);
void regex_close(tok_regex *r);
bool regex_is_same(const char *x, const char *y);        /* the same expression, perhaps written differently */
/* The next match at or after from: 1 and [*a, *b), 0 none, -1 error. A match may be empty. */
int regex_next(const tok_regex *r, tok_regex_scratch *w, const char *s, size_t n, size_t from, size_t *a, size_t *b,
               ern_err *e);
void regex_scratch_deinit(tok_regex_scratch *w);

/* ---- normalizer ------------------------------------------------------------------------------- */

enum tok_norm_op {
    NORM_PREPEND, NORM_REPLACE, NORM_REPLACE_REGEX, NORM_NFC, NORM_NFD, NORM_NFKC, NORM_NFKD, NORM_LOWER,
    NORM_STRIP_ACCENTS, NORM_STRIP, NORM_BERT, NORM_CHARSMAP, NORM_SPM_SPACES, NORM_SPM_PREFIX
};

typedef struct {
    enum tok_norm_op op;
    char *from, *to;                                        /* owned; bytes below */
    size_t from_bytes, to_bytes;
    tok_regex *regex;
    bool left, right;                                       /* NORM_STRIP */
    bool cleans, pads_han, strips_accents, lowers;          /* NORM_BERT */
} tok_norm;

typedef struct { ern_buf a, b; tok_regex_scratch regex; } tok_norm_scratch;

/* Normalize s[0..n): *out borrowed from s or the scratch. is_first: nothing or a special token stands before. */
bool normalizer_run(const tok_norm *steps, size_t n_steps, bool is_first, const char *s, size_t n, tok_norm_scratch *w,
                    const char **out, size_t *n_out, ern_err *e);
void normalizer_deinit(tok_norm *steps, size_t n_steps);
bool charsmap_check(const char *map, size_t n, ern_err *e);
bool charsmap_run(const char *map, size_t n_map, const char *s, size_t n, ern_buf *out, ern_err *e);

/* Character classes as the tokenizers library has them: category tables of Unicode 8.0. */
bool uni_is_space(int32_t cp);
bool uni_is_word(int32_t cp);
bool uni_is_bert_punctuation(int32_t cp);
bool uni_is_bert_control(int32_t cp);
bool uni_is_han(int32_t cp);
bool uni_bert(const tok_norm *step, const char *s, size_t n, ern_buf *out, ern_err *e);
bool uni_form(enum tok_norm_op op, const char *s, size_t n, ern_buf *out, ern_err *e);      /* NFC .. NFKD */
bool uni_lower(const char *s, size_t n, ern_buf *out, ern_err *e);
bool uni_strip_accents(const char *s, size_t n, ern_buf *out, ern_err *e);

/* ---- pre-tokenizer ---------------------------------------------------------------------------- */

enum tok_pre_op { PRE_REGEX, PRE_LITERAL, PRE_SPACES, PRE_PUNCTUATION, PRE_METASPACE, PRE_PREFIX_SPACE };
enum tok_behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT, SPLIT_CONTIGUOUS };
enum tok_prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };

typedef struct {
    enum tok_pre_op op;
    enum tok_behavior behavior;
    bool is_inverted;
    tok_regex *regex;
    bool has_plain_words;       /* regex takes " ?[A-Za-z]+" before an ASCII non-letter as one match */
    char *text;                 /* owned: literal pattern, regex source, metaspace replacement */
    size_t text_bytes;
    enum tok_prepend prepend;   /* PRE_METASPACE */
    bool splits;                /* PRE_METASPACE */
} tok_pre;

struct tok_call;
bool pretok_run(struct tok_call *c, size_t step, const char *s, size_t n, bool is_first);
void pretok_deinit(tok_pre *steps, size_t n_steps);

/* A pre-tokenizer name of GGUF. */
typedef struct {
    const char *name;
    const char *regex[8];       /* applied one after the other, each Isolated; NULL ends */
    bool ignores_merges;
} tok_pre_name;

const tok_pre_name *pre_name_find(const char *name);
/* The name whose expressions are steps, or NULL. */
const tok_pre_name *pre_name_of(const tok_pre *steps, size_t n_steps, bool ignores_merges);
bool pre_is_plain_word_regex(const char *regex);

/* ---- models ----------------------------------------------------------------------------------- */

typedef struct { uint64_t key; uint32_t rank; int32_t id; } tok_pair;

/* Merge rules: pairs of ids when there are any, otherwise spans of text that are pieces, by rank. */
typedef struct {
    tok_pair *pair;             /* [mask + 1]; key UINT64_MAX is empty */
    size_t mask, n_pairs;
    uint32_t *rank;             /* [n_tokens] UINT32_MAX never merged into; NULL with pairs */
    uint64_t *joins;            /* bits of character pairs that stand side by side in some piece */
    size_t joins_mask;
    uint64_t ascii_joins[256];  /* [128 * 128 bits] the same for ASCII, exactly */
    bool has_joins;
} tok_bpe;

typedef struct { int32_t id; uint32_t at, len; } tok_symbol;

typedef struct {
    tok_symbol *symbol;
    uint32_t *rank, *prev, *next;
    int32_t *merged;
    size_t cap, cap_linked;
    uint64_t *heap;
    size_t n_heap, cap_heap;
} tok_bpe_work;

bool bpe_pairs_init(tok_bpe *b, size_t n_pairs, ern_err *e);
void bpe_pairs_add(tok_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id);     /* the first of equals stays */
bool bpe_ranks_init(tok_bpe *b, const tok_pieces *p, const float *scores, const uint8_t *types, ern_err *e);
bool bpe_joins_init(tok_bpe *b, const tok_pieces *p, const uint8_t *types, ern_err *e);
bool bpe_joined(const tok_bpe *b, int32_t left, int32_t right);
/* Merge work->symbol[0..*n) in place. */
bool bpe_merge(const tok_bpe *b, const tok_pieces *p, tok_bpe_work *w, const char *text, size_t *n, ern_err *e);
bool bpe_work_reserve(tok_bpe_work *w, size_t n, ern_err *e);
void bpe_work_deinit(tok_bpe_work *w);
void bpe_deinit(tok_bpe *b);

/* ---- decoder ---------------------------------------------------------------------------------- */

typedef struct { char *from, *to; size_t from_bytes, to_bytes; } tok_replace;       /* owned */

typedef struct {
    bool is_bytelevel, has_byte_tokens, is_wordpiece, cleans_up, joins_with_space;
    tok_replace replace[4];
    size_t n_replace;
    char strip_char;            /* at the start of the text, at most n_strip of them */
    size_t n_strip;
} tok_decoder;

/* Append one token. *n_before: tokens given out so far; *n_stripped: characters cut at the start so far. */
typedef struct { size_t n_tokens, n_stripped; bool has_text; } tok_decode_state;
bool detok_add(const ern_tokenizer *t, int32_t id, tok_decode_state *s, ern_buf *out, ern_err *e);
bool tok_is_hidden(const ern_tokenizer *t, int32_t id);         /* special: left out of plain decoding */

/* ---- the tokenizer ---------------------------------------------------------------------------- */

struct ern_tokenizer {
    enum tokenizer_kind kind;
    tok_pieces pieces;          /* WordPiece: continuations begin with "##" */
    uint8_t *types;             /* [n] GGUF numbering */
    uint8_t *is_special;        /* [n] hidden from plain decoding, never made from a user's text */
    float *scores;              /* [n] */
    size_t cap_tokens;
    bool has_scores;
    int32_t bos, eos, unk, pad;

    tok_added *added;
    size_t n_added;
    tok_matcher match[N_LEVELS][2];     /* [level][in normalized text] */

    tok_norm norm[TOK_MAX_STEPS];
    size_t n_norm;
    tok_pre pre[TOK_MAX_STEPS];
    size_t n_pre;
    int32_t before[TOK_MAX_EDGE_IDS], after[TOK_MAX_EDGE_IDS];
    size_t n_before, n_after;

    tok_bpe bpe;
    tok_pieces raw;             /* byte-level: pieces as bytes, when whole words are looked up first */
    bool ignores_merges, has_byte_fallback, fuses_unknown, has_bytelevel_step;
    int32_t byte_id[256];       /* byte-level: the one-byte piece; otherwise <0xXX>; -1 none */
    int32_t ascii_id[128];      /* piece of one ASCII character */
    char *prefix;               /* WordPiece continuation prefix, owned */
    size_t prefix_bytes, max_word_chars, longest_piece;

    tok_decoder decoder;
    bool adds_space_prefix;
    ern_buf merge_text;         /* "left right", NUL-terminated, in rank order */
    size_t *merge_at;           /* [n_merges] */
    size_t n_merges, cap_merges;
    tokenizer_vocab vocab;      /* what vocab_of returns; the arrays below are its own */
    const char **vocab_piece, **vocab_merge;
    float *vocab_score;
    int32_t *vocab_type;
    ern_buf vocab_text;         /* pieces that GGUF writes differently */
};

typedef struct { uint32_t hash; uint8_t n_bytes, n_ids; char text[18]; int32_t id[10]; } tok_cached;

/* Everything one encode call writes to. */
typedef struct tok_call {
    const ern_tokenizer *t;
    ern_ids *out;
    ern_err *e;
    tok_bpe_work bpe;
    tok_norm_scratch norm;
    tok_regex_scratch regex;
    ern_buf meta;               /* text rewritten by Metaspace or a prefix space */
    tok_cached *cache;          /* [cache_mask + 1] or NULL */
    size_t cache_mask;
    bool last_is_unknown;       /* of this span: unknown pieces in a row are one */
} tok_call;

bool tok_word(tok_call *c, const char *s, size_t n);                    /* a pre-token to ids, cached */
bool spm_encode(tok_call *c, const char *s, size_t n);
bool bytelevel_encode(tok_call *c, const char *s, size_t n);
bool wordpiece_encode(tok_call *c, const char *s, size_t n);

void bytelevel_alphabet(int32_t letter_of[256]);                        /* the 256-letter alphabet of byte-level pieces */
bool bytelevel_raw(const char *piece, size_t n, ern_buf *out, ern_err *e);  /* appended bytes; other letters as they are */

/* ---- opening ---------------------------------------------------------------------------------- */

ern_tokenizer *tok_new(ern_err *e);
bool tok_set_piece(ern_tokenizer *t, size_t id, const char *s, size_t n, int type, float score, ern_err *e);
/* a->text is copied; becomes the piece of a->id, whatever stood there. is_hidden: a special token. */
bool tok_add_added(ern_tokenizer *t, const tok_added *a, bool is_hidden, ern_err *e);
bool tok_add_typed(ern_tokenizer *t, ern_err *e);       /* pieces of type control, unknown and user as added tokens */
bool tok_begin_merges(ern_tokenizer *t, size_t n_merges, ern_err *e);   /* after the last piece */
/* *is_known false: a part or the whole is no piece, nothing was added. */
bool tok_add_merge(ern_tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right, bool *is_known,
                   ern_err *e);
bool tok_finish(ern_tokenizer *t, ern_err *e);   /* indexes, tables, vocab_of; after it nothing changes */
bool tok_export(ern_tokenizer *t, ern_err *e);
int32_t tok_named(const ern_tokenizer *t, const char *s, size_t n);     /* a piece or an added token */
bool tok_looks_special(const char *s, size_t n);
bool tok_add_pre_regex(ern_tokenizer *t, const char *regex, ern_err *e);
tok_norm *tok_add_norm(ern_tokenizer *t, enum tok_norm_op op, ern_err *e);
tok_pre *tok_add_pre(ern_tokenizer *t, enum tok_pre_op op, ern_err *e);
bool tok_set_bert_steps(ern_tokenizer *t, bool lowers, ern_err *e);
bool tok_add_replace(ern_tokenizer *t, const char *from, const char *to, ern_err *e);       /* to the decoder */

bool tok_read_json(ern_tokenizer *t, const char *text, size_t n, const char *name, ern_err *e);
bool tok_json_norm(ern_tokenizer *t, const json_t *j, int depth, ern_err *e);
bool tok_json_pre(ern_tokenizer *t, const json_t *j, int depth, ern_err *e);
bool tok_json_post(ern_tokenizer *t, const json_t *j, int depth, ern_err *e);
bool tok_json_decoder(ern_tokenizer *t, const json_t *j, int depth, ern_err *e);
bool tok_read_model(ern_tokenizer *t, const uint8_t *data, size_t n, const char *name, ern_err *e);
bool tok_merge_model(ern_tokenizer *t, const ern_tokenizer *model,
                     ern_err *e);     /* piece types and scores of the same vocabulary */
bool tok_read_vocab_txt(ern_tokenizer *t, const char *text, size_t n, const char *name, ern_err *e);
/* Roles from the config files beside the vocabulary; with_added: also added and special tokens (no tokenizer.json). */
bool tok_read_configs(ern_tokenizer *t, const char *folder, bool with_added, ern_err *e);
/* The steps and the decoder of a SentencePiece vocabulary. */
bool tok_set_spm_steps(ern_tokenizer *t, const char *charsmap, size_t charsmap_bytes, bool collapses, bool adds_prefix,
                       bool escapes,
                       ern_err *e);
json_t *tok_json_load(const char *text, size_t n, const char *name, ern_err *e);

#endif
