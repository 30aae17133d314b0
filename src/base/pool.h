/* A fixed set of threads that run one job together. The caller is thread 0; a pool of 1 starts none.
 * Workers spin for a short while before they sleep, so that a job costs microseconds in the middle of a decode. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/err.h"

#define POOL_MAX_THREADS 1024

typedef struct ern_pool ern_pool;
typedef void (*pool_fn)(void *ctx, size_t thread, size_t n_threads);

ern_pool *pool_open(size_t n_threads, ern_err *e);
void pool_close(ern_pool *p);
size_t pool_n(const ern_pool *p);
void pool_run(ern_pool *p, pool_fn fn, void *ctx);      /* one caller at a time, not from a job; returns when all are done */

/* [*from, *to): the part of n items that thread i of n_threads takes, in multiples of step (at least 1). */
void pool_part(size_t n, size_t step, size_t i, size_t n_threads, size_t *from, size_t *to);
size_t pool_cores(void);                                /* cores this process may use */

#endif
