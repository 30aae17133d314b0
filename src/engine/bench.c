#include "engine/bench.h"

#include <stdlib.h>
#include <time.h>

#include "base/buf.h"

#define MAX_ROUNDS 1000

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summarise(double *speeds, size_t n, double *median, double *best) {
    qsort(speeds, n, sizeof *speeds, by_value);
    *median = n % 2 ? speeds[n / 2] : (speeds[n / 2 - 1] + speeds[n / 2]) / 2.0;
    *best = speeds[n - 1];
}

static bool one_round(ern_session *s, const int32_t *ids, const bench_case *c, double *prefill, double *decode, ern_err *e) {
    const int32_t *prompt = ids + c->depth, *answer = prompt + c->n_prompt;
    if (!ern_session_truncate(s, c->depth, e)) return false;
    double from = seconds();
    if (c->n_prompt && !ern_session_append(s, prompt, c->n_prompt, NULL, NULL, e)) return false;
    *prefill = c->n_prompt ? (double)c->n_prompt / (seconds() - from) : 0.0;
    if (!ern_session_truncate(s, c->depth, e)) return false;
    /* the first one warms the caches */
    if (c->n_answer && !ern_session_append(s, answer, 1, NULL, NULL, e)) return false;
    from = seconds();
    for (size_t i = 1; i <= c->n_answer; i++)
        if (!ern_session_append(s, answer + i, 1, NULL, NULL, e)) return false;
    *decode = c->n_answer ? (double)c->n_answer / (seconds() - from) : 0.0;
    return true;
}

bool bench_run(ern_engine *eng, const char *kv_type, const bench_case *c, ern_progress_fn progress, void *ctx,
               bench_result *out, ern_err *e) {
    const size_t n = c->depth + c->n_prompt + c->n_answer + 1;
    ern_session_options so;
    ern_session *s = NULL;
    bench_result r = { 0 };
    bool ok = false;
    if (c->n_rounds == 0 || c->n_rounds > MAX_ROUNDS)
        return ern_fail(e, ERN_ARG, "bench: %zu rounds, 1 to %d wanted", c->n_rounds, MAX_ROUNDS);
    ern_session_defaults(&so);
    so.n_ctx = n;
    if (kv_type) so.kv_type = kv_type;
    int32_t *ids = mem_zalloc(n, sizeof *ids, "bench", e);
    double *speeds = ids ? mem_zalloc(2 * c->n_rounds, sizeof *speeds, "bench", e) : NULL;
    if (!speeds || !(s = ern_session_open(eng, &so, e))) goto out;
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (int32_t)((state >> 33) % ern_engine_n_vocab(eng));
    }
    if (c->depth && !ern_session_append(s, ids, c->depth, NULL, NULL, e)) goto out;
    for (size_t i = 0; i < c->n_rounds; i++) {
        if (progress && !progress(ctx, i, c->n_rounds)) { ern_fail(e, ERN_STOPPED, "bench: stopped"); goto out; }
        if (!one_round(s, ids, c, &speeds[i], &speeds[c->n_rounds + i], e)) goto out;
    }
    summarise(speeds, c->n_rounds, &r.prefill_median, &r.prefill_best);
    summarise(speeds + c->n_rounds, c->n_rounds, &r.decode_median, &r.decode_best);
    *out = r;
    ok = true;
out:
    ern_session_close(s);
    free(speeds);
    free(ids);
    return ok;
}
