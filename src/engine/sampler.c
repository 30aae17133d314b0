#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

bool sampling_check(const ern_sampling *o, size_t n_vocab, ern_err *e) {
    const struct { const char *name; float v, low, high; } ranges[] = {
        { "temperature", o->temperature, 0.0f, 100.0f },        { "top_p", o->top_p, 0.0f, 1.0f },
        { "min_p", o->min_p, 0.0f, 1.0f },                      { "repetition_penalty", o->repetition_penalty, 0.01f, 100.0f },
        { "frequency_penalty", o->frequency_penalty, -2.0f, 2.0f }, { "presence_penalty", o->presence_penalty, -2.0f, 2.0f },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (!(ranges[i].v >= ranges[i].low && ranges[i].v <= ranges[i].high))
            return ern_fail(e, ERN_ARG, "%s: %g, %g to %g wanted", ranges[i].name, (double)ranges[i].v, (double)ranges[i].low,
                            (double)ranges[i].high);
    if (o->n_logprobs > ERN_MAX_LOGPROBS) return ern_fail(e, ERN_ARG, "logprobs: %zu, at most %d", o->n_logprobs, ERN_MAX_LOGPROBS);
    for (size_t i = 0; i < o->n_bias; i++)
        if (o->bias[i].id < 0 || (size_t)o->bias[i].id >= n_vocab)
            return ern_fail(e, ERN_ARG, "logit bias: token id %d, 0 to %zu wanted", (int)o->bias[i].id, n_vocab - 1);
    return true;
}

/* splitmix64 spreads the seed over the state, as the generator's authors advise. */
bool sampler_init(ern_sampler *out, const ern_sampling *o, size_t n_vocab, ern_err *e) {
    ern_sampler s = { .o = o, .n_vocab = n_vocab };
    if (!sampling_check(o, n_vocab, e)) return false;
    uint64_t x = o->seed;
    for (size_t i = 0; i < 4; i++) {
        uint64_t z = (x += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        s.state[i] = z ^ (z >> 31);
    }
    s.logits = mem_zalloc(n_vocab, sizeof *s.logits, "sampler", e);
    s.candidates = s.logits ? mem_zalloc(n_vocab, sizeof *s.candidates, "sampler", e) : NULL;
    s.counts = s.candidates ? mem_zalloc(n_vocab, sizeof *s.counts, "sampler", e) : NULL;
    if (!s.counts) { sampler_deinit(&s); return false; }
    *out = s;
    return true;
}

void sampler_deinit(ern_sampler *s) {
    free(s->logits);
    free(s->candidates);
    free(s->counts);
    *s = (ern_sampler){ 0 };
}

static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

static double next_uniform(ern_sampler *s) {
    uint64_t *v = s->state;
    const uint64_t r = rotl(v[0] + v[3], 23) + v[0], t = v[1] << 17;
    v[2] ^= v[0];
    v[3] ^= v[1];
    v[1] ^= v[2];
    v[0] ^= v[3];
    v[2] ^= t;
    v[3] = rotl(v[3], 45);
    return (double)(r >> 11) * 0x1.0p-53;
}

static void penalise(ern_sampler *s, const int32_t *history, size_t n) {
    const ern_sampling *o = s->o;
    if (o->repetition_penalty != 1.0f)
        for (size_t i = 0; i < n; i++) {
            float *x = &s->logits[history[i]];
            bool seen = false;          /* each token once: the candidate's p serves as the mark */
            seen = s->candidates[history[i]].p < 0.0f;
            if (seen) continue;
            s->candidates[history[i]].p = -1.0f;
            *x = *x > 0.0f ? *x / o->repetition_penalty : *x * o->repetition_penalty;
        }
    if (o->frequency_penalty != 0.0f || o->presence_penalty != 0.0f)
        for (size_t i = 0; i < s->n_vocab; i++)
            if (s->counts[i]) s->logits[i] -= (float)s->counts[i] * o->frequency_penalty + o->presence_penalty;
    for (size_t i = 0; i < o->n_bias; i++) s->logits[o->bias[i].id] += o->bias[i].bias;
}

static int by_p(const void *a, const void *b) {
    const sampler_candidate *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t argmax(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

/* Candidates with p at least floor of the best come first, sorted: all that top_k, top_p and min_p can keep, or everything. */
static size_t gather(ern_sampler *s, float temperature, double *total) {
    const size_t V = s->n_vocab;
    const float top = s->logits[argmax(s->logits, V)];
    size_t n = 0;
    *total = 0.0;
    for (size_t i = 0; i < V; i++) {
        const float p = expf((s->logits[i] - top) / temperature);
        if (p > 0.0f) s->candidates[n++] = (sampler_candidate){ (int32_t)i, p };
        *total += (double)p;
    }
    return n;
}

int32_t sampler_next(ern_sampler *s, const float *logits, const int32_t *history, size_t n_history) {
    const ern_sampling *o = s->o;
    memcpy(s->logits, logits, s->n_vocab * sizeof *logits);
    if (o->repetition_penalty != 1.0f) memset(s->candidates, 0, s->n_vocab * sizeof *s->candidates);
    penalise(s, history, n_history);
    int32_t id;
    if (o->temperature == 0.0f || o->top_k == 1) id = argmax(s->logits, s->n_vocab);
    else {
        double total, kept = 0.0, sum = 0.0;
        size_t n = gather(s, o->temperature, &total), last = 0;
        qsort(s->candidates, n, sizeof *s->candidates, by_p);
        if (o->top_k && o->top_k < n) {
            n = o->top_k;
            total = 0.0;
            for (size_t i = 0; i < n; i++) total += (double)s->candidates[i].p;
        }
        for (size_t i = 0; i < n; i++) {
            if (i > 0 && (s->candidates[i].p < o->min_p * s->candidates[0].p || kept >= (double)o->top_p * total)) break;
            kept += (double)s->candidates[i].p;
            last = i;
        }
        const double u = next_uniform(s) * kept;
        size_t pick = 0;
        for (; pick < last; pick++) {
            sum += (double)s->candidates[pick].p;
            if (u < sum) break;
        }
        id = s->candidates[pick].id;
    }
    s->counts[id]++;
    return id;
}

void sampler_logprobs(const float *logits, size_t V, int32_t id, size_t n_top, ern_token_event *ev) {
    double sum = 0.0;
    const float top = logits[argmax(logits, V)];
    for (size_t i = 0; i < V; i++) sum += exp((double)logits[i] - (double)top);
    const double norm = (double)top + log(sum);
    ev->logprob = (float)((double)logits[id] - norm);
    ev->n_top = n_top < V ? n_top : V;
    for (size_t k = 0; k < ev->n_top; k++) {
        size_t best = V;
        for (size_t i = 0; i < V; i++) {
            bool is_taken = false;
            for (size_t j = 0; j < k; j++) is_taken = is_taken || ev->top[j].id == (int32_t)i;
            if (!is_taken && (best == V || logits[i] > logits[best])) best = i;
        }
        ev->top[k].id = (int32_t)best;
        ev->top[k].logprob = (float)((double)logits[best] - norm);
    }
}
