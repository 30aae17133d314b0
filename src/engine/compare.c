#include "engine/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/engine.h"

#define WINDOW 512
#define ROWS 64             /* logits of this many rows of each model are held at once */

typedef struct { double kl, nll_a, nll_b, d2, p2; bool is_same; } place;

struct comparing {
    ern_engine *side[2];
    const int32_t *ids;
    size_t n, V;
    float *logits[2];           /* [ROWS, V] */
    ern_kv kv[2];
    place *places;              /* [n_places] */
    size_t n_places;
    const int32_t *targets;     /* of the rows at hand */
    size_t n_rows;
};

/* ln of the sum of exp, and the largest, the first among equals. */
static double log_sum(const float *x, size_t V, size_t *best) {
    double sum = 0.0;
    *best = 0;
    for (size_t i = 1; i < V; i++)
        if (x[i] > x[*best]) *best = i;
    for (size_t i = 0; i < V; i++) sum += exp((double)(x[i] - x[*best]));
    return (double)x[*best] + log(sum);
}

static void compare_rows(const float *a, const float *b, size_t V, int32_t target, place *out) {
    size_t best_a, best_b;
    const double la = log_sum(a, V, &best_a), lb = log_sum(b, V, &best_b);
    double kl = 0.0, sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < V; i++) {
        const double pa = (double)a[i] - la, pb = (double)b[i] - lb, d = (double)a[i] - (double)b[i];
        kl += exp(pa) * (pa - pb);
        sum += d;
        squares += d * d;
    }
    out->kl = kl > 0.0 ? kl : 0.0;          /* rounding can take it below */
    out->nll_a = la - (double)a[target];
    out->nll_b = lb - (double)b[target];
    out->d2 = squares / (double)V - sum / (double)V * (sum / (double)V);
    out->p2 = (exp(-out->nll_a) - exp(-out->nll_b)) * (exp(-out->nll_a) - exp(-out->nll_b));
    out->is_same = best_a == best_b;
}

static void compare_part(void *ctx, size_t thread, size_t n_threads) {
    struct comparing *c = ctx;
    size_t from, to;
    pool_part(c->n_rows, 1, thread, n_threads, &from, &to);
    for (size_t t = from; t < to; t++)
        compare_rows(c->logits[0] + t * c->V, c->logits[1] + t * c->V, c->V, c->targets[t], &c->places[c->n_places + t]);
}

/* ids[from, to): the tokens after first are compared. */
static bool run_window(struct comparing *c, size_t from, size_t to, size_t first, const compare_options *o, ern_err *e) {
    model_row rows[ROWS];
    size_t most = ROWS;
    for (int s = 0; s < 2; s++)
        if (c->side[s]->max_batch < most) most = c->side[s]->max_batch;
    for (size_t at = from; at < to;) {
        size_t T = to - at < most ? to - at : most;
        if (at < first && at + T > first) T = first - at;       /* a call either compares all rows or none */
        const bool compares = at >= first;
        if (compares && at + T == to) T = to - at;
        for (int s = 0; s < 2; s++) {
            for (size_t t = 0; t < T; t++)
                rows[t] = (model_row){ .id = c->ids[at + t], .pos = at + t - from, .kv = &c->kv[s],
                                       .wants_logits = compares && at + t + 1 < to };
            if (!engine_forward(c->side[s], rows, T, compares ? c->logits[s] : NULL, NULL, NULL, e)) return false;
        }
        c->n_rows = compares ? (at + T == to ? T - 1 : T) : 0;
        c->targets = c->ids + at + 1;
        if (c->n_rows) pool_run(c->side[0]->pool, compare_part, c);
        c->n_places += c->n_rows;
        at += T;
        if (o->progress && !o->progress(o->ctx, at, c->n))
            return ern_fail(e, ERN_STOPPED, "compare: stopped at token %zu of %zu", at, c->n);
    }
    return true;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool sum_up(const struct comparing *c, compare_result *out, ern_err *e) {
    const size_t n = c->n_places;
    compare_result r = { .n_tokens = c->n, .n_compared = n };
    double squares = 0.0, d2 = 0.0, p2 = 0.0;
    if (n == 0) return ern_fail(e, ERN_ARG, "compare: nothing to compare in %zu tokens", c->n);
    double *kl = mem_zalloc(n, sizeof *kl, "comparison", e);
    if (!kl) return false;
    for (size_t i = 0; i < n; i++) {
        const place *p = &c->places[i];
        kl[i] = p->kl;
        r.kl_mean += p->kl / (double)n;
        squares += p->kl * p->kl / (double)n;
        r.nll_a += p->nll_a / (double)n;
        r.nll_b += p->nll_b / (double)n;
        d2 += p->d2 / (double)n;
        p2 += p->p2 / (double)n;
        r.top1 += p->is_same ? 1.0 / (double)n : 0.0;
    }
    qsort(kl, n, sizeof *kl, by_size);
    r.kl_error = n > 1 ? sqrt(fmax(squares - r.kl_mean * r.kl_mean, 0.0) / (double)(n - 1)) : 0.0;
    r.kl_median = n % 2 ? kl[n / 2] : 0.5 * (kl[n / 2 - 1] + kl[n / 2]);
    r.kl_99 = kl[(size_t)(0.99 * (double)(n - 1))];
    r.kl_max = kl[n - 1];
    r.perplexity_a = exp(r.nll_a);
    r.perplexity_b = exp(r.nll_b);
    r.logit_rms = sqrt(fmax(d2, 0.0));
    r.p_rms = sqrt(p2);
    free(kl);
    *out = r;
    return true;
}

static bool check(const ern_engine *a, const ern_engine *b, size_t n, size_t window, ern_err *e) {
    const ern_engine *const side[] = { a, b };
    for (int s = 0; s < 2; s++) {
        const ern_model *m = side[s]->model;
        if (m->encoder)
            return ern_fail(e, ERN_ARG, "%s: an encoder; models that write text are compared", source_path(m->source));
        if (window > m->c.max_positions)
            return ern_fail(e, ERN_LIMIT, "compare: a window of %zu tokens, %s was trained for %zu", window,
                            source_path(m->source), m->c.max_positions);
    }
    if (a->model->c.n_vocab != b->model->c.n_vocab)
        return ern_fail(e, ERN_ARG, "%s has a vocabulary of %zu tokens and %s one of %zu: only models with the same tokenizer "
                                    "can be compared", source_path(a->model->source), a->model->c.n_vocab,
                        source_path(b->model->source), b->model->c.n_vocab);
    if (n < 2 || window < 2)
        return ern_fail(e, ERN_ARG, "compare: %zu tokens in windows of %zu, at least 2 wanted", n, window);
    return true;
}

bool compare_run(ern_engine *a, ern_engine *b, const int32_t *ids, size_t n, const compare_options *o, compare_result *out,
                 ern_err *e) {
    const size_t window = o->window ? o->window : WINDOW;
    struct comparing c = { .side = { a, b }, .ids = ids, .n = n, .V = a->model->c.n_vocab };
    enum ern_dtype k_type, v_type;
    bool ok = false;
    if (!check(a, b, n, window, e) || !kv_types_from_name(&k_type, &v_type, o->kv_type ? o->kv_type : "f16", e)) return false;
    if (!(c.places = mem_zalloc(n, sizeof *c.places, "comparison", e))) goto out;
    for (int s = 0; s < 2; s++)
        if (!(c.logits[s] = mem_zalloc(ROWS * c.V, sizeof(float), "logits", e)) ||
            !kv_init_types(&c.kv[s], &c.side[s]->model->c, window, k_type, v_type, e)) goto out;
    for (size_t from = 0; from < n; from += window) {
        const size_t to = n - from < window ? n : from + window;
        /* a text of one window is compared from its first token on */
        const size_t first = n <= window ? from : from + window / 2;
        if (first + 1 < to && !run_window(&c, from, to, first, o, e)) goto out;
    }
    ok = sum_up(&c, out, e);
out:
    for (int s = 0; s < 2; s++) {
        kv_deinit(&c.kv[s]);
        free(c.logits[s]);
    }
    free(c.places);
    return ok;
}

bool compare_tokens(const ern_engine *a, const ern_engine *b, const char *text, size_t n_bytes, ern_tokens *out, ern_err *e) {
    const ern_engine *const side[] = { a, b };
    ern_tokens ids[2] = { { 0 }, { 0 } };
    bool ok = false;
    if (!a->tokenizer && !b->tokenizer)
        return ern_fail(e, ERN_MISSING, "%s and %s: neither has tokenizer files", source_path(a->model->source),
                        source_path(b->model->source));
    for (int s = 0; s < 2; s++)
        if (side[s]->tokenizer && !engine_encode(side[s], text, n_bytes, TOKENIZER_ADD, &ids[s], e)) goto out;
    for (size_t i = 0; a->tokenizer && b->tokenizer && i < (ids[0].n > ids[1].n ? ids[0].n : ids[1].n); i++)
        if (i >= ids[0].n || i >= ids[1].n || ids[0].id[i] != ids[1].id[i]) {
            ern_fail(e, ERN_ARG, "the tokenizers differ: token %zu of the text is %d in %s and %d in %s (-1: there is none)", i,
                     i < ids[0].n ? (int)ids[0].id[i] : -1, source_path(a->model->source),
                     i < ids[1].n ? (int)ids[1].id[i] : -1, source_path(b->model->source));
            goto out;
        }
    ern_tokens *taken = a->tokenizer ? &ids[0] : &ids[1];
    *out = *taken;
    *taken = (ern_tokens){ 0 };
    ok = true;
out:
    ern_tokens_free(&ids[0]);
    ern_tokens_free(&ids[1]);
    return ok;
}
