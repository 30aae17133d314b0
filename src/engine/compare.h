/* How far one model is from another on a text: the distributions of the next token at every place. */
#ifndef ENGINE_COMPARE_H
#define ENGINE_COMPARE_H

#include "ern.h"

typedef struct {
    size_t window;              /* tokens a context holds, at least 2; 0: 512. The first half of a window is only read */
    const char *kv_type;        /* as ern_session_options; NULL: f16 */
    ern_progress_fn progress;   /* tokens; false stops */
    void *ctx;
} compare_options;

/* A is the model that is trusted: KL is of B from A, sum of pA ln(pA / pB). */
typedef struct {
    size_t n_tokens, n_compared;
    double kl_mean, kl_error, kl_median, kl_99, kl_max;     /* kl_error: standard error of the mean */
    double top1;                /* share of places where both think the same token most likely */
    double nll_a, nll_b, perplexity_a, perplexity_b;        /* of the text's own tokens */
    double logit_rms;           /* of the differences of logits, each place's mean taken out */
    double p_rms;               /* of the differences of the probability of the text's own token */
} compare_result;

/* Both models read the same ids; their vocabularies have the same size, or ERN_ARG. */
bool compare_run(ern_engine *a, ern_engine *b, const int32_t *ids, size_t n, const compare_options *o, compare_result *out,
                 ern_err *e);

/* The ids of the text, when both models' tokenizers give the same ones; a model without one takes the other's. */
bool compare_tokens(const ern_engine *a, const ern_engine *b, const char *text, size_t n_bytes, ern_tokens *out, ern_err *e);

#endif
