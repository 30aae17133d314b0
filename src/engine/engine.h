/* What lies behind ern_engine, for the programs of this repository; others use ern.h. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <pthread.h>

#include "engine/specials.h"
#include "ern.h"
#include "model/forward.h"
#include "text/template.h"
#include "text/tokenizer.h"

struct ern_engine {
    ern_model *model;
    ern_tokenizer *tokenizer;       /* NULL when the folder has none: ids only */
    engine_specials specials;       /* of the tokenizer */
    ern_template *chat;             /* NULL when neither the model nor its family has one */
    char *chat_source;              /* the template's text */
    ern_kernels kernels;
    ern_pool *pool;
    ern_work *work;                 /* scratch of one forward pass, guarded by lock; NULL before the first */
    size_t max_batch;
    bool is_exact;
    struct constrain_vocab *vocab;  /* for constraints; NULL before the first, guarded by lock */
    pthread_mutex_t lock;           /* one forward at a time: it uses every thread of the pool */
    int32_t *end_ids;               /* tokens that end an answer */
    size_t n_end_ids;
};

struct ern_session {
    ern_engine *eng;
    ern_kv kv;
    int32_t *ids;                   /* [n_ctx] */
    size_t n, n_ctx;
    float *logits;                  /* [V] after the last token; valid when has_logits */
    bool has_logits;
    model_row *rows;                /* [max_batch] */
};

/* The type of keys and values that a session asks for; NULL: the engine's own. */
static inline const char *engine_kv_type(const ern_engine *eng, const char *name) {
    return name ? name : eng->is_exact ? "f32" : "f16";
}

/* Tokenizer and template of a model that is open or of a folder with tokenizer files alone. NULL with e->code ERN_OK:
 * none. */
ern_tokenizer *engine_tokenizer(const ern_source *s, ern_err *e);
ern_tokenizer *engine_gguf_tokenizer(const ern_gguf *g, ern_err *e);

/* Special tokens' texts as the templates want them: bos_token, eos_token, ... added to vars. */
bool engine_template_vars(const ern_engine *eng, json_t *vars, ern_err *e);

/* A conversation rendered by t (NULL: the model's own template) and tokenised; vars as ern_chat_render takes them, borrowed.
 * out and rendered (the text, appended) may be NULL. */
bool engine_chat_vars(const ern_engine *eng, const ern_template *t, json_t *vars, ern_tokens *out, ern_buf *rendered,
                      ern_err *e);

/* tokenizer_encode into an ern_tokens; on failure out is as before. */
bool engine_encode(const ern_engine *eng, const char *text, size_t n, unsigned flags, ern_tokens *out, ern_err *e);

/* Run rows through the model under the engine's lock. Safe from several threads; their rows' sessions are their own. */
bool engine_forward(ern_engine *eng, const model_row *rows, size_t T, float *logits, trace_fn trace, void *ctx, ern_err *e);

/* hidden[n, D] of an encoder, traced; locked like engine_forward. */
bool engine_encode_ids(const ern_engine *eng, const int32_t *ids, size_t n, float *hidden, trace_fn trace, void *ctx,
                       ern_err *e);

/* ern_embed_windows of ids as they are: nothing is added around them. Each must be an id of the vocabulary. */
bool engine_embed_ids(const ern_engine *eng, const int32_t *ids, size_t n, float *out, ern_err *e);

/* Do n more tokens fit, and is each an id of the vocabulary? */
bool session_check_append(const ern_session *s, const int32_t *ids, size_t n, ern_err *e);

#endif
