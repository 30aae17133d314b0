/* From logits to the next id; what is done and in which order stands at ern_sampling in ern.h. The draw depends on the
 * seed and the number of tokens drawn so far, on nothing else.
 *
 * A vocabulary has 100,000 ids and only the few likely ones matter: logits fall into buckets of equal width below the
 * largest, and only the buckets that the answer lies in are sorted. What is drawn is what sorting everything would draw. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "ern.h"

#define SAMPLER_BUCKETS 1024

typedef struct { int32_t id; float logit; } sampler_candidate;

typedef struct {
    const ern_sampling *o;
    size_t n_vocab;
    float *logits;                      /* [V] working copy */
    sampler_candidate *candidates;      /* [V] */
    uint32_t *counts;                   /* [V] times in the answer so far */
    int32_t *used;                      /* [V] the ids with a count, in order of appearance */
    size_t n_used;
    uint32_t *stamps;                   /* [V] the draw at which the id was last penalised for repetition */
    uint32_t n_drawn;
    size_t bucket_n[SAMPLER_BUCKETS];   /* ids and probability mass (not normalised) of each bucket */
    double bucket_mass[SAMPLER_BUCKETS];
    uint64_t state[4];                  /* xoshiro256++ */
} ern_sampler;

/* o is borrowed until deinit. */
bool sampler_init(ern_sampler *s, const ern_sampling *o, size_t n_vocab, ern_err *e);
void sampler_deinit(ern_sampler *s);

/* history: the timeline, for the repetition penalty. */
bool sampler_next(ern_sampler *s, const float *logits, const int32_t *history, size_t n_history, int32_t *id, ern_err *e);

/* log softmax of the unmodified logits for id and for the n_top best, in two passes over them. */
void sampler_logprobs(const float *logits, size_t n_vocab, int32_t id, size_t n_top, ern_token_event *ev);

bool sampling_check(const ern_sampling *o, size_t n_vocab, ern_err *e);

#endif
