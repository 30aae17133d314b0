#include "base/pool.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/test.h"

#define N_ROUNDS 3000
#define MAX_THREADS 5

struct job { size_t n_threads, runs[MAX_THREADS]; size_t round; size_t seen[MAX_THREADS]; };

static void count(void *ctx, size_t thread, size_t n_threads) {
    struct job *j = ctx;
    assert_true(thread < n_threads && n_threads == j->n_threads);
    j->runs[thread]++;
    j->seen[thread] = j->round;     /* plain data of the caller: the pool has to order it (TSan checks) */
}

/* Every thread runs every job once, whether it spun, yielded or slept before it. */
static void every_thread_runs_every_job(void **state) {
    (void)state;
    for (size_t n = 1; n <= MAX_THREADS; n++) {
        struct job j = { .n_threads = n };
        ern_err e = { 0 };
        ern_pool *p = pool_open(n, &e);
        assert_non_null(p);
        assert_int_equal(pool_n(p), n);
        for (size_t round = 1; round <= N_ROUNDS; round++) {
            j.round = round;
            pool_run(p, count, &j);
            for (size_t i = 0; i < n; i++)
                if (j.runs[i] != round || j.seen[i] != round)
                    fail_msg("%zu threads, round %zu: thread %zu ran %zu", n, round, i, j.runs[i]);
            if (round % 500 == 0)
                nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL); /* long enough to fall asleep */
        }
        pool_close(p);
    }
}

static void slow_part(void *ctx, size_t thread, size_t n_threads) {
    (void)n_threads;
    if (thread == *(size_t *)ctx) nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

/* The caller sleeps while a worker is slow, and the other way round. */
static void waits_for_the_slowest(void **state) {
    (void)state;
    ern_pool *p = pool_open(3, NULL);
    assert_non_null(p);
    for (size_t round = 0; round < 12; round++) {
        size_t slow = round % 3;
        pool_run(p, slow_part, &slow);
    }
    pool_close(p);
}

static void opens_and_closes_at_once(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        ern_pool *p = pool_open(3, NULL);
        assert_non_null(p);
        pool_close(p);
    }
    pool_close(NULL);
}

static void refuses_bad_counts(void **state) {
    (void)state;
    ern_err e = { 0 };
    assert_null(pool_open(0, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_null(pool_open(POOL_MAX_THREADS + 1, &e));
    assert_true(pool_cores() >= 1);
}

/* The parts follow each other, cover all of n, begin at multiples of step and differ by one step at most. */
static void parts_cover_everything(void **state) {
    (void)state;
    static const size_t ns[] = { 0, 1, 2, 7, 31, 32, 33, 97, 1000, SIZE_MAX - 3 }, steps[] = { 1, 2, 8, 32, 33 };
    for (size_t a = 0; a < sizeof ns / sizeof ns[0]; a++)
        for (size_t b = 0; b < sizeof steps / sizeof steps[0]; b++)
            for (size_t n_threads = 1; n_threads < 20; n_threads++) {
                size_t at = 0, least = SIZE_MAX, most = 0;
                for (size_t i = 0; i < n_threads; i++) {
                    size_t from, to;
                    pool_part(ns[a], steps[b], i, n_threads, &from, &to);
                    assert_true(from == at && to >= from && to <= ns[a]);
                    assert_true(from % steps[b] == 0 || from == ns[a]);
                    if (to - from < least) least = to - from;
                    if (to - from > most) most = to - from;
                    at = to;
                }
                assert_true(at == ns[a]);
                assert_true(most - least < 2 * steps[b]);
            }
}

static void nothing(void *ctx, size_t thread, size_t n_threads) { (void)ctx; (void)thread; (void)n_threads; }

/* Printed, not tested: the machine may be busy. */
static void costs_microseconds(void **state) {
    (void)state;
    const size_t n = pool_cores() < 8 ? pool_cores() : 8;
    ern_pool *p = pool_open(n, NULL);
    struct timespec a, b;
    double best = 1e9;
    assert_non_null(p);
    for (int round = 0; round < 2000; round++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        pool_run(p, nothing, NULL);
        clock_gettime(CLOCK_MONOTONIC, &b);
        const double us = (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) * 1e-3;
        if (us < best) best = us;
    }
    print_message("an empty job of %zu threads: %.2f us at best\n", n, best);
    pool_close(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_every_job), cmocka_unit_test(waits_for_the_slowest),
        cmocka_unit_test(opens_and_closes_at_once),    cmocka_unit_test(refuses_bad_counts),
        cmocka_unit_test(parts_cover_everything),      cmocka_unit_test(costs_microseconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
