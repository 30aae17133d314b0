/* Tokens a second of an open model at stated sizes. */
#ifndef ENGINE_BENCH_H
#define ENGINE_BENCH_H

#include "ern.h"

typedef struct {
    size_t n_prompt, n_answer;  /* tokens to compute at once, and one by one; 0: leave out */
    size_t depth;               /* tokens in the context before */
    size_t n_rounds;
} bench_case;

/* tokens a second; 0: left out */
typedef struct { double prefill_median, prefill_best, decode_median, decode_best; } bench_result;

/* Ids are made up from a fixed seed. Progress counts rounds. */
bool bench_run(ern_engine *eng, const char *kv_type, const bench_case *c, ern_progress_fn progress, void *ctx,
               bench_result *out, ern_err *e);

#endif
