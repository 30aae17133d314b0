#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"

#define SPIN_ROUNDS 20000       /* about 50 us: longer than the serial parts between two matmuls */

struct worker { ern_pool *pool; size_t index; pthread_t thread; };

struct ern_pool {
    size_t n_threads;
    struct worker *workers;     /* [n_threads - 1] */
    size_t n_started;
    pool_fn fn;
    void *ctx;
    atomic_uint round;          /* a new value starts a job */
    atomic_size_t n_left;       /* workers that have not finished it */
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    sched_yield();
#endif
}

static void *work(void *arg) {
    struct worker *w = arg;
    ern_pool *p = w->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPIN_ROUNDS && atomic_load_explicit(&p->round, memory_order_acquire) == seen; i++) relax();
        if (atomic_load(&p->round) == seen) {
            pthread_mutex_lock(&p->lock);
            while (atomic_load(&p->round) == seen) pthread_cond_wait(&p->wake, &p->lock);
            pthread_mutex_unlock(&p->lock);
        }
        seen = atomic_load(&p->round);
        if (atomic_load(&p->stop)) return NULL;
        p->fn(p->ctx, w->index, p->n_threads);
        atomic_fetch_sub(&p->n_left, 1);
    }
}

static void start_round(ern_pool *p) {
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->round, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

ern_pool *pool_open(size_t n_threads, ern_err *e) {
    if (n_threads == 0 || n_threads > 1024) {
        ern_fail(e, ERN_ARG, "threads: %zu, 1 to 1024 wanted", n_threads);
        return NULL;
    }
    ern_pool *p = mem_zalloc(1, sizeof *p, "thread pool", e);
    if (!p) return NULL;
    p->n_threads = n_threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->workers = mem_zalloc(n_threads, sizeof *p->workers, "thread pool", e);
    if (!p->workers) { pool_close(p); return NULL; }
    for (size_t i = 1; i < n_threads; i++) {
        struct worker *w = &p->workers[i - 1];
        *w = (struct worker){ .pool = p, .index = i };
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            ern_fail(e, ERN_MISSING, "threads: the system starts only %zu of %zu", i, n_threads);
            pool_close(p);
            return NULL;
        }
        p->n_started++;
    }
    return p;
}

void pool_close(ern_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    if (p->n_started) start_round(p);
    for (size_t i = 0; i < p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

size_t pool_n(const ern_pool *p) { return p->n_threads; }

void pool_run(ern_pool *p, pool_fn fn, void *ctx) {
    if (p->n_threads == 1) { fn(ctx, 0, 1); return; }
    p->fn = fn;
    p->ctx = ctx;
    atomic_store(&p->n_left, p->n_threads - 1);
    start_round(p);
    fn(ctx, 0, p->n_threads);
    for (unsigned i = 0; atomic_load_explicit(&p->n_left, memory_order_acquire) != 0; i++)
        if (i < SPIN_ROUNDS) relax();
        else sched_yield();
}

void pool_part(size_t n, size_t step, size_t i, size_t n_threads, size_t *from, size_t *to) {
    const size_t n_steps = (n + step - 1) / step;
    const size_t a = n_steps * i / n_threads * step, b = n_steps * (i + 1) / n_threads * step;
    *from = a < n ? a : n;
    *to = b < n ? b : n;
}

size_t pool_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (size_t)CPU_COUNT(&set);
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}
