#include "engine/speculate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "engine/pace.h"

#define USUAL_LOOKUP 16             /* guesses at a time: they cost nothing to make */
#define USUAL_MODEL 8
#define LEAST_MATCH 2               /* one token alone says too little */
#define MOST_MATCH 16               /* a longer match is no better evidence */
#define MIDDLE_MATCH 4
#define LONG_MATCH 8

struct ern_draft {
    const ern_engine *eng;
    ern_engine *drafter;            /* NULL: lookup */
    ern_session *guesses;           /* of the drafter; NULL before the first answer */
    size_t n_max;
    const ern_session *s;           /* whose guesses these are */
    bool ignores_end, is_always;
    int32_t ids[ERN_MAX_DRAFT];
    size_t n, at;                   /* guesses computed; those that were drawn */
    size_t n_before;                /* tokens of s when the next one is appended as guessed */
    float *logits;                  /* [n_max + 1, V] row i: after guess i - 1 */
    enum pace_kind kind;
    ern_pace pace;
    ern_draft_stats stats;
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- open and close ----------------------------------------------------------------------------- */

static bool same_vocabulary(const ern_engine *a, const ern_engine *b, ern_err *e) {
    const char *name = source_path(b->model->source);
    if (b->model->c.arch == ARCH_BERT) return ern_fail(e, ERN_ARG, "draft model %s: an encoder cannot write text", name);
    if (a->model->c.n_vocab != b->model->c.n_vocab)
        return ern_fail(e, ERN_ARG, "draft model %s: vocabulary of %zu tokens, the model has %zu; the same vocabulary wanted",
                        name, b->model->c.n_vocab, a->model->c.n_vocab);
    if (!a->tokenizer || !b->tokenizer) return true;
    for (size_t i = 0; i < a->model->c.n_vocab; i++) {
        const char *x = tokenizer_piece(a->tokenizer, (int32_t)i), *y = tokenizer_piece(b->tokenizer, (int32_t)i);
        if (strcmp(x ? x : "", y ? y : "") != 0)
            return ern_fail(e, ERN_ARG, "draft model %s: token %zu is \"%.40s\", the model's is \"%.40s\"; the same vocabulary "
                            "wanted", name, i, y ? y : "", x ? x : "");
    }
    return true;
}

ern_draft *ern_draft_open(const ern_engine *eng, ern_engine *drafter, size_t n_max, ern_err *e) {
    size_t most = n_max ? n_max : drafter ? USUAL_MODEL : USUAL_LOOKUP;
    if (n_max > ERN_MAX_DRAFT) {
        ern_fail(e, ERN_LIMIT, "draft: %zu tokens ahead, at most %d", n_max, ERN_MAX_DRAFT);
        return NULL;
    }
    if (eng->model->c.arch == ARCH_BERT) { ern_fail(e, ERN_ARG, "draft: an encoder cannot write text"); return NULL; }
    if (drafter && !same_vocabulary(eng, drafter, e)) return NULL;
    if (most > eng->max_batch - 1) most = eng->max_batch - 1;
    ern_draft *d = mem_zalloc(1, sizeof *d, "draft", e);
    if (!d) return NULL;
    *d = (ern_draft){ .eng = eng, .drafter = drafter, .n_max = most };
    if (!(d->logits = mem_zalloc(most + 1, eng->model->c.n_vocab * sizeof *d->logits, "draft", e))) {
        ern_draft_close(d);
        return NULL;
    }
    return d;
}

void ern_draft_close(ern_draft *d) {
    if (!d) return;
    ern_session_close(d->guesses);
    free(d->logits);
    free(d);
}

void speculate_always(ern_draft *d) { d->is_always = true; }

ern_draft_stats ern_draft_stats_of(const ern_draft *d) { return d->stats; }

/* ---- lookup ------------------------------------------------------------------------------------- */

/* Tokens that agree, going back from ids[end - 1] and from the last of all. */
static size_t match(const int32_t *ids, size_t n, size_t end) {
    size_t k = 0;
    while (k < MOST_MATCH && k < end && ids[end - 1 - k] == ids[n - 1 - k]) k++;
    return k;
}

size_t speculate_lookup(const int32_t *ids, size_t n, int32_t *out, size_t max, size_t *n_matched) {
    size_t best = 0, from = 0;
    if (n < LEAST_MATCH + 1) return 0;
    const int32_t last = ids[n - 1];
    for (size_t end = n - 1; end > 0 && best < MOST_MATCH; end--) {
        if (ids[end - 1] != last) continue;
        const size_t k = match(ids, n, end);
        if (k > best) {
            best = k;
            from = end;
        }
    }
    if (best < LEAST_MATCH) return 0;
    for (size_t i = 0; i < max; i++) out[i] = from + i < n ? ids[from + i] : out[from + i - n];
    *n_matched = best;
    return max;
}

/* ---- guesses ------------------------------------------------------------------------------------ */

static int32_t largest(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

static size_t guess_by_lookup(ern_draft *d, const int32_t *ids, size_t n, size_t most) {
    size_t n_matched = 0, k = speculate_lookup(ids, n, d->ids, most, &n_matched);
    d->kind = n_matched >= LONG_MATCH ? PACE_LONG : n_matched >= MIDDLE_MATCH ? PACE_MIDDLE : PACE_SHORT;
    if (k == 0) return 0;
    if (!d->is_always) most = pace_length(&d->pace, d->kind, most);
    return k < most ? k : most;
}

/* The drafter's own best tokens. Its context may be shorter than the model's: there are no guesses behind its end. */
static bool guess_by_model(ern_draft *d, const int32_t *ids, size_t n, size_t most, size_t *out, ern_err *e) {
    const size_t n_ctx = ern_session_n_ctx(d->guesses);
    *out = 0;
    d->kind = PACE_MODEL;
    if (n >= n_ctx) return true;
    if (most > n_ctx - n) most = n_ctx - n;
    if (!d->is_always) most = pace_length(&d->pace, d->kind, most);
    if (most == 0) return true;
    const double from = seconds();
    if (!ern_session_sync(d->guesses, ids, n, NULL, NULL, e)) return false;
    for (size_t i = 0; i < most; i++) {
        d->ids[i] = largest(ern_session_logits(d->guesses), d->eng->model->c.n_vocab);
        if (i + 1 < most && !ern_session_append(d->guesses, &d->ids[i], 1, NULL, NULL, e)) return false;
    }
    pace_drafting(&d->pace, most, seconds() - from);
    *out = most;
    return true;
}

/* An end token never joins the timeline, so nothing behind it can. */
static size_t before_end(const ern_draft *d, size_t n) {
    for (size_t i = 0; !d->ignores_end && i < n; i++)
        for (size_t k = 0; k < d->eng->n_end_ids; k++)
            if (d->ids[i] == d->eng->end_ids[k]) return i;
    return n;
}

/* ---- steps -------------------------------------------------------------------------------------- */

/* The guesses of the last pass are over: what were they worth? was_refused: a token was drawn that was none of them. */
static void settle(ern_draft *d, bool was_refused) {
    if (d->n) pace_outcome(&d->pace, d->kind, d->at + (was_refused && d->at < d->n), d->at);
    d->n = d->at = 0;
}

bool speculate_begin(ern_draft *d, const ern_session *s, bool ignores_end, ern_err *e) {
    if (s->eng != d->eng) return ern_fail(e, ERN_ARG, "draft: it was opened for another engine");
    settle(d, false);
    d->s = s;
    d->ignores_end = ignores_end;
    if (!d->drafter) return true;
    const size_t most = ern_engine_max_context(d->drafter);
    ern_session_options o;
    ern_session_defaults(&o);
    o.n_ctx = s->n_ctx < most ? s->n_ctx : most;
    if (d->guesses && ern_session_n_ctx(d->guesses) < o.n_ctx) {
        ern_session_close(d->guesses);
        d->guesses = NULL;
    }
    if (!d->guesses && !(d->guesses = ern_session_open(d->drafter, &o, e))) return false;
    return s->n == 0 || s->n > o.n_ctx || ern_session_sync(d->guesses, s->ids, s->n, NULL, NULL, e);
}

static bool take_guess(ern_draft *d, ern_session *s, int32_t id) {
    const size_t V = s->eng->model->c.n_vocab;
    if (d->s != s || d->at == d->n || s->n != d->n_before || d->ids[d->at] != id) return false;
    s->ids[s->n++] = id;
    memcpy(s->logits, d->logits + (d->at + 1) * V, V * sizeof *s->logits);
    d->at++;
    d->n_before++;
    d->stats.n_accepted++;
    return true;
}

bool speculate_append(ern_draft *d, ern_session *s, int32_t id, bool goes_on, ern_err *e) {
    const size_t V = s->eng->model->c.n_vocab;
    size_t n = 0;
    if (!session_check_append(s, &id, 1, e)) return false;
    if (take_guess(d, s, id)) { d->stats.n_tokens++; return true; }
    settle(d, true);
    const size_t room = s->n_ctx - s->n - 1, most = room < d->n_max ? room : d->n_max;
    s->ids[s->n] = id;              /* not part of the timeline yet, but what the guesses follow */
    if (goes_on && most && !d->drafter) n = guess_by_lookup(d, s->ids, s->n + 1, most);
    else if (goes_on && most && !guess_by_model(d, s->ids, s->n + 1, most, &n, e)) return false;
    n = before_end(d, n);
    s->rows[0] = (model_row){ .id = id, .pos = s->n, .kv = &s->kv, .wants_logits = true };
    for (size_t i = 0; i < n; i++)
        s->rows[i + 1] = (model_row){ .id = d->ids[i], .pos = s->n + 1 + i, .kv = &s->kv, .wants_logits = true };
    const double from = seconds();
    if (!engine_forward(s->eng, s->rows, n + 1, d->logits, NULL, NULL, e)) return false;
    pace_pass(&d->pace, n + 1, seconds() - from);
    s->n++;
    s->has_logits = true;
    memcpy(s->logits, d->logits, V * sizeof *s->logits);
    d->n = n;
    d->n_before = s->n;
    d->stats.n_tokens++;
    d->stats.n_passes++;
    d->stats.n_drafted += n;
    return true;
}
