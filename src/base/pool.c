#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/sys.h"

/* How a thread waits: spinning costs nothing to leave, yielding lets others run, sleeping frees the core. */
#define SPINS 1500          /* about 30 to 60 us: longer than the serial parts between two matmuls */
#define YIELDS 64

struct worker { ern_pool *pool; size_t index; pthread_t thread; };

struct ern_pool {
    size_t n_threads, n_started;
    struct worker *workers;     /* [n_threads - 1] */
    int spins;                  /* 0 when there are more threads than cores: the other one needs this core */
    pool_fn fn;
    void *ctx;
    _Alignas(64) atomic_uint round;         /* a new value starts a job */
    _Alignas(64) atomic_size_t n_left;      /* workers that have not finished it */
    _Alignas(64) atomic_int n_sleepers;     /* threads that wait for wake */
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_bool caller_sleeps;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The count goes up before round is read again, and the caller changes round before it reads the count (both sequentially
 * consistent): one of the two always sees the other. */
static void sleep_until_round(ern_pool *p, unsigned seen) {
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_sleepers, 1);
    while (atomic_load(&p->round) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->n_sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg) {
    struct worker *w = arg;
    ern_pool *p = w->pool;
    unsigned seen = 0;
    for (;;) {
        int tries = 0;
        while (atomic_load_explicit(&p->round, memory_order_acquire) == seen) {
            if (tries < p->spins) relax();
            else if (tries < p->spins + YIELDS) sched_yield();
            else sleep_until_round(p, seen);
            tries++;
        }
        seen++;         /* the next round cannot start before this thread has finished the present one */
        if (atomic_load(&p->stop)) return NULL;
        p->fn(p->ctx, w->index, p->n_threads);
        if (atomic_fetch_sub(&p->n_left, 1) == 1 && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static void start_round(ern_pool *p) {
    atomic_fetch_add(&p->round, 1);
    if (atomic_load(&p->n_sleepers) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void wait_for_workers(ern_pool *p) {
    for (int tries = 0; atomic_load_explicit(&p->n_left, memory_order_acquire) != 0; tries++) {
        if (tries < p->spins) relax();
        else if (tries < p->spins + YIELDS) sched_yield();
        else {
            pthread_mutex_lock(&p->lock);
            atomic_store(&p->caller_sleeps, true);
            while (atomic_load(&p->n_left) != 0) pthread_cond_wait(&p->done, &p->lock);
            atomic_store(&p->caller_sleeps, false);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

ern_pool *pool_open(size_t n_threads, ern_err *e) {
    ern_pool *p = NULL;
    if (n_threads == 0 || n_threads > POOL_MAX_THREADS) {
        ern_fail(e, ERN_ARG, "threads: %zu, 1 to %d wanted", n_threads, POOL_MAX_THREADS);
        return NULL;
    }
    if (posix_memalign((void **)&p, 64, sizeof *p) != 0) {
        ern_fail(e, ERN_NOMEM, "thread pool: no memory for %zu bytes", sizeof *p);
        return NULL;
    }
    *p = (ern_pool){ .n_threads = n_threads, .spins = n_threads <= pool_cores() ? SPINS : 0 };
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
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
    pthread_cond_destroy(&p->done);
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
    atomic_store_explicit(&p->n_left, p->n_threads - 1, memory_order_relaxed);
    start_round(p);
    fn(ctx, 0, p->n_threads);
    wait_for_workers(p);
}

void pool_part(size_t n, size_t step, size_t i, size_t n_threads, size_t *from, size_t *to) {
    const size_t n_steps = n / step + (n % step != 0);
    const size_t each = n_steps / n_threads, more = n_steps % n_threads;    /* the first threads take one step more */
    const size_t a = i * each + (i < more ? i : more), b = a + each + (i < more);
    *from = a < n / step + 1 && a * step < n ? a * step : n;
    *to = b < n / step + 1 && b * step < n ? b * step : n;
}

size_t pool_cores(void) { return sys_cores(); }
