/* ern.h: run an ERNIE 4.5 model (or a Llama one, or a BERT encoder) from C.
 *
 *     ern_err e = {0};
 *     ern_engine *eng = ern_engine_open("ERNIE-4.5-0.3B-PT", NULL, &e);
 *     ern_session *s = eng ? ern_session_open(eng, NULL, &e) : NULL;
 *     ern_tokens prompt = {0};
 *     if (!s || !ern_chat_tokens(eng, "[{\"role\":\"user\",\"content\":\"Hello!\"}]", true, &prompt, &e) ||
 *         !ern_session_sync(s, prompt.id, prompt.n, NULL, NULL, &e) ||
 *         !ern_session_generate(s, NULL, print_piece, NULL, NULL, &e)) fprintf(stderr, "%s\n", e.text);
 *     ern_session_close(s);
 *     ern_engine_close(eng);
 *
 * An engine is an opened model: immutable after open and shared by all threads. A session is one
 * mutable timeline of tokens with its keys and values; one thread owns it. Every function that can
 * fail returns false (or NULL), fills the last argument (NULL is allowed) and leaves its outputs
 * untouched. Pointer arguments are borrowed for the call; a returned T* is the caller's to close;
 * a returned const T* is borrowed and lives as long as the object it came from.
 */
#ifndef ERN_H
#define ERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ERN_VERSION "0.1.0"

/* ---- errors ---------------------------------------------------------------------------------- */

/* code, HTTP status, exit status of the program, meaning */
#define ERN_ERR_MAP(X)                                                      \
    X(OK,       200, 0, "no error")                                         \
    X(NOMEM,    507, 4, "out of memory")                                    \
    X(IO,       500, 3, "read or write failed")                             \
    X(FORMAT,   422, 3, "file or input malformed")                          \
    X(LIMIT,    413, 2, "a stated limit was passed")                        \
    X(ARG,      400, 2, "an argument is wrong")                             \
    X(TEMPLATE, 400, 2, "a chat template failed")                           \
    X(NOTFOUND, 404, 3, "the named thing does not exist")                   \
    X(MISSING,  501, 5, "this build or machine lacks something")            \
    X(AUTH,     401, 2, "no key, or one that is not known")                 \
    X(DENIED,   403, 2, "the key does not allow this")                      \
    X(METHOD,   405, 2, "no such method here")                              \
    X(TIMEOUT,  408, 3, "it took too long")                                 \
    X(RATE,     429, 6, "too many requests or tokens for this key")         \
    X(BUSY,     503, 6, "too much to do already; try again later")          \
    X(STOPPED,  499, 130, "the caller asked to stop")

enum ern_code {
#define X(name, http, status, text) ERN_##name,
    ERN_ERR_MAP(X)
#undef X
};

/* text names the thing, what was found and what was wanted. line and column count from 1; 0: unknown. */
typedef struct {
    enum ern_code code;
    int line, column;
    char text[1024];
} ern_err;

/* ---- engine ---------------------------------------------------------------------------------- */

typedef struct ern_engine ern_engine;

typedef struct {
    size_t n_threads;           /* 0: every core this process may use */
    const char *cpu;            /* "auto", "scalar", "avx2", "avx512", "neon": the best instructions allowed */
    /* How activations are rounded. Neither: f32 arithmetic where the weights are floats (F32, F16, BF16), 8 bits against
     * quantised ones. is_exact: f32 everywhere. is_fast: bf16 against float weights too. */
    bool is_exact, is_fast;
    /* Packed weights may take so much memory; 0: nearly all that is free. A larger model is read from its file as it
     * goes. */
    size_t max_weight_bytes;
    size_t max_batch;           /* rows of one forward pass, 1 to 4096 */
    const char *chat_template;  /* Jinja text that replaces the model's own; NULL: the model's */
} ern_engine_options;

void ern_engine_defaults(ern_engine_options *o);

/* path: a folder (config.json, safetensors, tokenizer files) or a GGUF file. options may be NULL. */
ern_engine *ern_engine_open(const char *path, const ern_engine_options *options, ern_err *e);
void ern_engine_close(ern_engine *eng);

size_t ern_engine_n_vocab(const ern_engine *eng);
size_t ern_engine_max_context(const ern_engine *eng);
bool ern_engine_is_encoder(const ern_engine *eng);      /* a BERT: ern_embed only; sessions and conversations are refused */

/* ---- tokens ---------------------------------------------------------------------------------- */

typedef struct { int32_t *id; size_t n, cap; } ern_tokens;
void ern_tokens_free(ern_tokens *t);

/* Append the ids of text[0..n_bytes). parse_special: "<|im_end|>" and the like become their token. */
bool ern_tokenize(const ern_engine *eng, const char *text, size_t n_bytes, bool parse_special, ern_tokens *out, ern_err *e);

/* The text of ids, NUL-terminated; bytes that are no UTF-8 become U+FFFD. Caller frees. */
char *ern_detokenize(const ern_engine *eng, const int32_t *ids, size_t n, bool with_special, ern_err *e);

/* The prompt of a conversation: messages_json is [{"role": ..., "content": ...}, ...]. No text in it (contents, roles,
 * names, arguments of tools) ever becomes a special token, whatever it says. */
bool ern_chat_tokens(const ern_engine *eng, const char *messages_json, bool add_generation_prompt, ern_tokens *out,
                     ern_err *e);

/* The same from all variables of the template: {"messages": [...], "tools": [...], "add_generation_prompt": true, ...}. */
bool ern_chat_render(const ern_engine *eng, const char *vars_json, ern_tokens *out, ern_err *e);

/* ---- embeddings ------------------------------------------------------------------------------ */

/* One vector for a text, of ern_engine_n_embed() numbers. An encoder pools as its files say (mean over all tokens, or
 * the first token; scaled to length 1 unless they say otherwise) and takes as many tokens as they say: the rest of a
 * longer text is left out, and ids (may be NULL) gets the ids that were used. A decoder gives the mean of its last
 * hidden states after the final norm, scaled to length 1. Special tokens in the text are plain text. Safe from several
 * threads at once. */
size_t ern_engine_n_embed(const ern_engine *eng);
bool ern_embed(const ern_engine *eng, const char *text, size_t n_bytes, ern_tokens *ids, float *out, ern_err *e);

/* The same with nothing left out: a text too long for one embedding is cut into windows of equal size, and their vectors are
 * averaged by their tokens and scaled to length 1. n_windows may be NULL. */
bool ern_embed_windows(const ern_engine *eng, const char *text, size_t n_bytes, float *out, size_t *n_windows, ern_err *e);

/* ---- session --------------------------------------------------------------------------------- */

typedef struct ern_session ern_session;

typedef struct {
    size_t n_ctx;               /* tokens of context; 0: what the model allows, at most 4096 */
    const char *kv_type;        /* "f16", "bf16", "f32", "q8", "q4"; keys and values apart: "q8:f16". NULL: "f16", but "f32"
                                 * where the engine is exact */
} ern_session_options;

void ern_session_defaults(ern_session_options *o);
ern_session *ern_session_open(ern_engine *eng, const ern_session_options *options, ern_err *e);
void ern_session_close(ern_session *s);

size_t ern_session_n_ctx(const ern_session *s);
size_t ern_session_n_tokens(const ern_session *s);
const int32_t *ern_session_tokens(const ern_session *s);        /* [n_tokens], until the next change */

/* done of total tokens are computed; false stops (ERN_STOPPED): the session then holds what was computed and goes on
 * from there. */
typedef bool (*ern_progress_fn)(void *ctx, size_t done, size_t total);

/* Make the timeline equal to ids[0..n): what it shares from the start is kept, the rest computed. n >= 1. */
bool ern_session_sync(ern_session *s, const int32_t *ids, size_t n, ern_progress_fn progress, void *ctx, ern_err *e);
bool ern_session_append(ern_session *s, const int32_t *ids, size_t n, ern_progress_fn progress, void *ctx, ern_err *e);
bool ern_session_truncate(ern_session *s, size_t n_tokens, ern_err *e);

/* Logits [n_vocab] after the last token; NULL before the first. Until the next change. */
const float *ern_session_logits(const ern_session *s);

/* Logprobs of a given text: append ids, and for each of them call on_token with its logprob after all that stands before it
 * and the n_top best alternatives there (ev->text is ""). The first token of an empty session follows nothing: its
 * logprob is NaN and n_top 0. Memory does not grow with n. on_token false stops with ERN_STOPPED. */
typedef struct ern_token_event ern_token_event;
typedef bool (*ern_token_fn)(void *ctx, const ern_token_event *ev);     /* false stops */
bool ern_session_score(ern_session *s, const int32_t *ids, size_t n, size_t n_top, ern_token_fn on_token, void *ctx,
                       ern_err *e);

/* dst becomes a copy of src's timeline: several answers to one prompt pay for it once. Same engine. */
bool ern_session_copy(ern_session *dst, const ern_session *src, ern_err *e);

/* The timeline with its keys and values in a file (FORMATS.md); load checks that the model is the same. */
bool ern_session_save(const ern_session *s, const char *path, ern_err *e);
bool ern_session_load(ern_session *s, const char *path, ern_err *e);

/* ---- constraints ----------------------------------------------------------------------------- */

typedef struct ern_constraint ern_constraint;

/* What an answer may look like. kind: "schema" (JSON Schema 2020-12), "json" (any object; text unused), "regex", "gbnf",
 * "ebnf", or "choice" (a JSON array of strings). What cannot be decided while writing is refused with its name; an answer
 * under a constraint keeps to it or is an error. Shared by sessions and threads; the engine outlives it. */
ern_constraint *ern_constraint_open(ern_engine *eng, const char *kind, const char *text, size_t n_bytes, ern_err *e);
void ern_constraint_close(ern_constraint *c);

/* ---- speculation ----------------------------------------------------------------------------- */

/* Guesses the next tokens of an answer, so that one pass over the weights can settle several of them. What is written does
 * not change, only how fast: each token is drawn from the model's own logits with the same random numbers, and a guess
 * counts only if it is what was drawn. One thread and one session use it at a time. */
typedef struct ern_draft ern_draft;

/* drafter: an engine with the same vocabulary that writes the guesses, borrowed until close; NULL: what followed the last
 * tokens where they stood before (quotations, code, edits). n_max: guesses at a time, 1 to ERN_MAX_DRAFT; 0: the usual
 * number. Fewer are made where measured acceptance and cost say so. */
#define ERN_MAX_DRAFT 64
ern_draft *ern_draft_open(const ern_engine *eng, ern_engine *drafter, size_t n_max, ern_err *e);
void ern_draft_close(ern_draft *d);

typedef struct {
    size_t n_tokens;            /* appended by answers */
    size_t n_passes;            /* passes of the model over its weights that this took */
    size_t n_drafted;           /* guesses that went through the model */
    size_t n_accepted;          /* of them, those that became text */
} ern_draft_stats;
ern_draft_stats ern_draft_stats_of(const ern_draft *d);     /* since it was opened */

/* ---- generation ------------------------------------------------------------------------------ */

typedef struct { int32_t id; float bias; } ern_logit_bias;

/* What is done to the logits, in this order:
 *   repetition_penalty r  every id of the timeline: a positive logit / r, a negative one * r;
 *   frequency, presence   every id of the answer so far, there c times: logit - c * frequency - presence;
 *   bias                  added (-INFINITY forbids an id);
 *   temperature t         softmax of logit / t; from here on, ids by falling logit, lower ids first among equals;
 *   top_k                 the first k stay;
 *   top_p                 of those, the fewest first ones whose probabilities reach p of their sum stay (at least one);
 *   min_p                 of those, the ones at least m times as likely as the first stay;
 *   draw                  one of the rest by its probability, from the seed and the number of tokens drawn so far alone.
 * Temperature 0 takes the largest logit, the lowest id among equals. Logits that are NaN or +infinite are an error. */
typedef struct {
    float temperature;          /* 0: greedy */
    size_t top_k;               /* 0: off */
    float top_p, min_p;         /* 1 and 0: off */
    float repetition_penalty;   /* 1: off; over the whole timeline */
    float frequency_penalty, presence_penalty;      /* 0: off; over the answer so far */
    const ern_logit_bias *bias;
    size_t n_bias;
    uint64_t seed;              /* the same seed gives the same text */
    size_t max_tokens;          /* 0: until the context is full */
    const char *const *stop;    /* texts that end the answer and are not part of it */
    size_t n_stop;
    const int32_t *stop_ids;    /* beside the model's own end tokens */
    size_t n_stop_ids;
    bool ignores_end;           /* go on past the model's end tokens */
    size_t n_logprobs;          /* top alternatives reported per token, at most 20 */
    ern_constraint *constraint; /* NULL: none; borrowed */
    ern_draft *draft;           /* NULL: none; borrowed; of this engine */
} ern_sampling;

void ern_sampling_defaults(const ern_engine *eng, ern_sampling *o);     /* the model's generation_config where it has one */

#define ERN_MAX_LOGPROBS 20
struct ern_token_event {
    int32_t id;                 /* -1: no token, only text that was held back until the end */
    const char *text;           /* whole characters that became final with this token; may be "" */
    size_t n_bytes;
    float logprob;              /* natural log, of the unmodified distribution; 0 when n_logprobs is 0 */
    size_t n_top;
    struct { int32_t id; float logprob; } top[ERN_MAX_LOGPROBS];        /* the most likely first */
};

enum ern_finish { ERN_FINISH_END, ERN_FINISH_STOP, ERN_FINISH_LENGTH, ERN_FINISH_CALLER };

typedef struct {
    enum ern_finish finish;
    size_t n_tokens;            /* produced, the end token included */
    int32_t end_id;             /* the id that ended it, or -1 */
    size_t stop;                /* ERN_FINISH_STOP: which of the stop texts */
} ern_result;

/* Write an answer after what the session holds; every id given out is appended to it (the end token is not). on_token may
 * return false at any token, for example because a signal handler has set a flag: ERN_FINISH_CALLER. */
bool ern_session_generate(ern_session *s, const ern_sampling *o, ern_token_fn on_token, void *ctx, ern_result *out,
                          ern_err *e);

#ifdef __cplusplus
}
#endif
#endif
