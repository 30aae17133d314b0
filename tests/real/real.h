/* What the tests with real models share: where the models are, and rows of logits. */
#ifndef TESTS_REAL_REAL_H
#define TESTS_REAL_REAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arrays.h"
#include "../reference.h"
#include "base/buf.h"
#include "engine/engine.h"

#define REAL_BATCH 64

static inline json_t *real_json(const char *name) {
    char path[REFERENCE_PATH];
    if (!reference_find(path, name)) return NULL;
    return json_load_file(path, JSON_ALLOW_NUL, NULL);    /* a text with NUL is among the cases */
}

/* The model's path in an environment variable; NULL: the tests are skipped, aloud. */
static inline const char *real_model(const char *variable) {
    const char *path = getenv(variable);
    return path && *path && access(path, R_OK) == 0 ? path : NULL;
}

#define REAL_NEED(model, what)                                            \
    do {                                                                  \
        if (!(model)) {                                                   \
            printf("SKIP %s: %s\n", __func__, (what));                    \
            skip();                                                       \
        }                                                                 \
    } while (0)

static inline ern_engine *real_engine(const char *path, bool is_exact) {
    ern_err e = { 0 };
    ern_engine_options o;
    ern_engine_defaults(&o);
    o.is_exact = is_exact;
    ern_engine *eng = ern_engine_open(path, &o, &e);
    if (!eng) print_message("%s\n", e.text);
    assert_non_null(eng);
    return eng;
}

static inline ern_session *real_session(ern_engine *eng, const char *kv_type, size_t n_ctx) {
    ern_err e = { 0 };
    ern_session_options o;
    ern_session_defaults(&o);
    o.kv_type = kv_type;
    o.n_ctx = n_ctx;
    ern_session *s = ern_session_open(eng, &o, &e);
    if (!s) print_message("%s\n", e.text);
    assert_non_null(s);
    return s;
}

/* ids of a JSON array; *n of them; the caller frees. */
static inline int32_t *real_ids(const json_t *list, size_t *n) {
    *n = json_array_size(list);
    int32_t *ids = malloc((*n + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return ids;
}

/* Sees the logits [V] that follow token i of ids. */
typedef void (*real_logits_fn)(void *ctx, size_t i, const float *logits, size_t V);

/* Run ids from position 0 and show the logits after every token from `from` on. */
static inline void real_run(ern_engine *eng, const int32_t *ids, size_t n, size_t from, const char *kv_type, trace_fn trace,
                            void *trace_ctx, real_logits_fn see, void *ctx) {
    ern_err e = { 0 };
    const size_t V = ern_engine_n_vocab(eng);
    ern_session *s = real_session(eng, kv_type, n);
    float *logits = malloc(REAL_BATCH * V * sizeof *logits);
    assert_non_null(logits);
    for (size_t done = 0; done < n;) {
        model_row rows[REAL_BATCH];
        const size_t T = n - done < REAL_BATCH ? n - done : REAL_BATCH;
        size_t k = 0;
        for (size_t t = 0; t < T; t++)
            rows[t] = (model_row){ .id = ids[done + t], .pos = done + t, .kv = &s->kv, .wants_logits = done + t >= from };
        if (!engine_forward(eng, rows, T, logits, trace, trace_ctx, &e)) fail_msg("%s", e.text);
        for (size_t t = 0; t < T; t++)
            if (rows[t].wants_logits) see(ctx, done + t, logits + k++ * V, V);
        done += T;
    }
    free(logits);
    ern_session_close(s);
}

static inline size_t real_best(const float *logits, size_t V) {
    size_t best = 0;
    for (size_t i = 1; i < V; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static inline double real_nll(const float *logits, size_t V, int32_t id) {
    double sum = 0;
    const double top = (double)logits[real_best(logits, V)];
    for (size_t i = 0; i < V; i++) sum += exp((double)logits[i] - top);
    return top + log(sum) - (double)logits[id];
}

#endif
