/* From logits to the next id. The draw depends on the seed and the number of tokens drawn so far, on nothing else. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "ern.h"

typedef struct { int32_t id; float p; } sampler_candidate;

typedef struct {
    const ern_sampling *o;
    size_t n_vocab;
    float *logits;                      /* [V] working copy */
    sampler_candidate *candidates;      /* [V] */
    uint32_t *counts;                   /* [V] times in the answer so far */
    uint64_t state[4];                  /* xoshiro256++ */
} ern_sampler;

bool sampler_init(ern_sampler *s, const ern_sampling *o, size_t n_vocab, ern_err *e);
void sampler_deinit(ern_sampler *s);
int32_t sampler_next(ern_sampler *s, const float *logits, const int32_t *history, size_t n_history);

/* log softmax of the unmodified logits for id and for the n_top best. */
void sampler_logprobs(const float *logits, size_t n_vocab, int32_t id, size_t n_top, ern_token_event *ev);

bool sampling_check(const ern_sampling *o, size_t n_vocab, ern_err *e);

#endif
