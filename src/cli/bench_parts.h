/* The parts of `bench`: the tokenizer, and the plot. */
#ifndef CLI_BENCH_PARTS_H
#define CLI_BENCH_PARTS_H

#include "cli/cli.h"
#include "engine/bench.h"

typedef struct { const char *path, *file; size_t n_rounds; bool is_json, is_csv; } bench_text;  /* file NULL: made up */
bool bench_tokenizer(const bench_text *o, ern_err *e);

typedef struct { bench_case c; size_t n_threads; bench_result r; bench_limits limits; } bench_point;

/* Speed over depth, both axes logarithmic: prompts on the left, answers on the right, a line for each number of threads,
 * sequences and prompt size; dashed: what the machine gives at most. */
bool bench_plot(const char *path, const char *title, const bench_point *points, size_t n, ern_err *e);

#endif
