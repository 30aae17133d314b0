/* How surprised a model is by a text: the mean negative log-likelihood of its tokens in sliding windows. */
#ifndef ENGINE_PERPLEXITY_H
#define ENGINE_PERPLEXITY_H

#include "ern.h"

typedef struct {
    size_t window;          /* tokens a window sees, at least 2; 0: the whole text in one */
    size_t stride;          /* tokens a window begins after the one before, 1 to window; 0: window, no overlap */
    const char *kv_type;    /* as ern_session_options; NULL: f32 where the engine is exact, f16 otherwise */
} perplexity_options;

typedef struct {
    /* the first token of a text (without overlap: of a window) has nothing before it */
    size_t n_tokens, n_scored, n_windows;
    double nll_mean, perplexity;                /* natural log; exp of it */
} perplexity_result;

/* Token at of the text was given log probability logprob; false stops. */
typedef bool (*perplexity_fn)(void *ctx, size_t at, int32_t id, double logprob);

/* Each token is scored once, by the first window that has seen something before it. */
bool perplexity_run(ern_engine *eng, const int32_t *ids, size_t n, const perplexity_options *o, ern_progress_fn progress,
                    perplexity_fn on_token, void *ctx, perplexity_result *out, ern_err *e);

#endif
