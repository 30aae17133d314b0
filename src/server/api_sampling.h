/* The parameters of sampling and constraints that chat and completions share, from JSON into job_params. */
#ifndef SERVER_API_SAMPLING_H
#define SERVER_API_SAMPLING_H

#include "server/api.h"

/* First member of the struct that an API's own table fills; api_sampling_table is the base of that table. */
typedef struct {
    param_real temperature, top_p, min_p, presence, frequency, repetition;
    param_int top_k, seed, n, max_tokens;
    param_flag ignores_end, returns_ids, streams, include_usage;
    const json_t *stop, *stop_ids, *bias, *bad_words, *bad_ids, *guided_json, *guided_choice, *metadata;
    const char *guided_regex, *guided_grammar, *model, *user, *truncation;
} api_sampling;

extern const param_table api_sampling_table;

/* What job_params points at while the job is started. */
typedef struct {
    const char **stop;
    int32_t *stop_ids;
    ern_logit_bias *bias;
    char *constraint;
} api_sampling_owned;

bool api_sampling_apply(const api_sampling *s, job_params *p, api_sampling_owned *own, api_error *why);
void api_sampling_deinit(api_sampling_owned *own);

/* The constraint of p becomes kind and text (taken); one already there is an error that names both. */
bool api_constrain(job_params *p, api_sampling_owned *own, enum constrain_kind kind, char *text, const char *name,
                   api_error *why);
/* An array of token ids: *out is new. */
bool api_read_ids(const json_t *list, size_t n_vocab, int32_t **out, size_t *n, const char *name, api_error *why);

/* Fails with the parameter's name noted. */
bool api_fail(api_error *why, const char *param, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
