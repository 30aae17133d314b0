/* Tokens a second of an open model at stated sizes. */
#ifndef ENGINE_BENCH_H
#define ENGINE_BENCH_H

#include "ern.h"

#define BENCH_MAX_BATCH 64

typedef struct {
    size_t n_prompt, n_answer;  /* tokens to compute at once, and one by one; 0: leave out */
    size_t depth;               /* tokens in the context before */
    size_t n_rounds;
    size_t n_batch;             /* sequences that write at once, each with its own context; 0: 1 */
    bool counts_cpu;            /* seconds of all threads together, not elapsed: on a busy machine, with one thread */
} bench_case;

/* tokens a second, all sequences together; 0: left out */
typedef struct { double prefill_median, prefill_best, decode_median, decode_best; } bench_result;

/* Ids are made up from a fixed seed. Progress counts rounds. */
bool bench_run(ern_engine *eng, const char *kv_type, const bench_case *c, ern_progress_fn progress, void *ctx,
               bench_result *out, ern_err *e);

/* What this machine gives at most, measured; the ceiling of a case from it: prompts are bound by arithmetic, answers by reading
 * weights, keys and values, or by arithmetic where many sequences share what is read. */
typedef struct { double read_bytes_per_s, macs_per_s; const char *unit; } bench_machine;     /* 0: not known here */
bool bench_machine_of(ern_engine *eng, bench_machine *out, ern_err *e);

typedef struct { double prefill, decode; } bench_limits;        /* tokens a second; 0: not known */
bool bench_limits_of(const ern_engine *eng, const char *kv_type, const bench_machine *m, const bench_case *c, bench_limits *out,
                     ern_err *e);

#endif
