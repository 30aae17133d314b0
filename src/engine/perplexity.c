#include "engine/perplexity.h"

#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "engine/engine.h"

#define ROWS 64             /* logits of this many rows are held at once: 26 MB at ERNIE's vocabulary */

struct scoring {
    ern_engine *eng;
    const int32_t *ids;
    perplexity_fn on_token;
    ern_progress_fn progress;
    void *ctx;
    float *logits;          /* [ROWS, V] */
    ern_kv kv;
    size_t n, n_scored;
    double nll;
};

static double log_prob(const float *logits, size_t V, int32_t id) {
    float top = logits[0];
    double sum = 0.0;
    for (size_t i = 1; i < V; i++)
        if (logits[i] > top) top = logits[i];
    for (size_t i = 0; i < V; i++) sum += exp((double)(logits[i] - top));
    return (double)(logits[id] - top) - log(sum);
}

/* ids[from..to) through the model; the tokens from first_scored on are scored. */
static bool score_window(struct scoring *s, size_t from, size_t to, size_t first_scored, ern_err *e) {
    const size_t V = s->eng->model->c.n_vocab, rows_max = s->eng->max_batch < ROWS ? s->eng->max_batch : ROWS;
    model_row rows[ROWS];
    for (size_t at = from; at < to;) {
        const size_t T = to - at < rows_max ? to - at : rows_max;
        size_t n_out = 0;
        for (size_t t = 0; t < T; t++) {
            const bool predicts = at + t + 1 >= first_scored && at + t + 1 < to;
            rows[t] = (model_row){ .id = s->ids[at + t], .pos = at + t - from, .kv = &s->kv, .wants_logits = predicts };
        }
        if (!engine_forward(s->eng, rows, T, s->logits, NULL, NULL, e)) return false;
        for (size_t t = 0; t < T; t++) {
            if (!rows[t].wants_logits) continue;
            const int32_t id = s->ids[at + t + 1];
            const double lp = log_prob(s->logits + n_out++ * V, V, id);
            s->nll -= lp;
            s->n_scored++;
            if (s->on_token && !s->on_token(s->ctx, at + t + 1, id, lp))
                return ern_fail(e, ERN_STOPPED, "perplexity: stopped at token %zu of %zu", at + t + 1, s->n);
        }
        at += T;
        if (s->progress && !s->progress(s->ctx, at, s->n))
            return ern_fail(e, ERN_STOPPED, "perplexity: stopped at token %zu of %zu", at, s->n);
    }
    return true;
}

bool perplexity_run(ern_engine *eng, const int32_t *ids, size_t n, const perplexity_options *o, ern_progress_fn progress,
                    perplexity_fn on_token, void *ctx, perplexity_result *out, ern_err *e) {
    const ern_config *c = &eng->model->c;
    const size_t window = o->window ? o->window : n, stride = o->stride ? o->stride : window;
    struct scoring s = { .eng = eng, .ids = ids, .on_token = on_token, .progress = progress, .ctx = ctx, .n = n };
    perplexity_result r = { .n_tokens = n };
    enum ern_dtype k_type, v_type;
    bool ok = false;
    if (!kv_types_from_name(&k_type, &v_type, engine_kv_type(eng, o->kv_type), e)) return false;
    if (n < 2) return ern_fail(e, ERN_ARG, "perplexity: the text has %zu tokens, at least 2 wanted", n);
    if (window < 2 || stride > window)
        return ern_fail(e, ERN_ARG, "perplexity: window %zu and stride %zu: a window of at least 2 and a stride of at most "
                                    "the window wanted", window, stride);
    if (window > c->max_positions)
        return ern_fail(e, ERN_LIMIT, "perplexity: a window of %zu tokens, the model was trained for %zu; give --window",
                        window, c->max_positions);
    if (!(s.logits = mem_zalloc(ROWS * c->n_vocab, sizeof *s.logits, "logits", e))) return false;
    if (!kv_init_types(&s.kv, c, window < n ? window : n, k_type, v_type, e)) goto out;
    for (size_t from = 0, scored_to = 0; from < n; from += stride) {
        const size_t to = n - from < window ? n : from + window;
        const size_t first = scored_to > from ? scored_to : from + 1;
        if (first < to && !score_window(&s, from, to, first, e)) goto out;
        r.n_windows++;
        scored_to = to;
        if (to == n) break;
    }
    if (s.n_scored == 0) { ern_fail(e, ERN_ARG, "perplexity: nothing to score"); goto out; }
    r.n_scored = s.n_scored;
    r.nll_mean = s.nll / (double)s.n_scored;
    r.perplexity = exp(r.nll_mean);
    *out = r;
    ok = true;
out:
    kv_deinit(&s.kv);
    free(s.logits);
    return ok;
}
