#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define LANES 16                /* independent sums and maxima, so that the compiler can use vectors; their order is fixed */
#define CHUNK 256

bool sampling_check(const ern_sampling *o, size_t n_vocab, ern_err *e) {
    const struct { const char *name; float v, low, high;
    } ranges[] = {
        { "temperature", o->temperature, 0.0f, 100.0f },
        { "top_p", o->top_p, 0.0f, 1.0f },
        { "min_p", o->min_p, 0.0f, 1.0f },
        { "repetition_penalty", o->repetition_penalty, 0.01f, 100.0f },
        { "frequency_penalty", o->frequency_penalty, -2.0f, 2.0f },
        { "presence_penalty", o->presence_penalty, -2.0f, 2.0f },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (!(ranges[i].v >= ranges[i].low && ranges[i].v <= ranges[i].high))
            return ern_fail(e, ERN_ARG, "%s: %g, %g to %g wanted", ranges[i].name, (double)ranges[i].v,
                            (double)ranges[i].low, (double)ranges[i].high);
    if (o->n_logprobs > ERN_MAX_LOGPROBS)
        return ern_fail(e, ERN_ARG, "logprobs: %zu, at most %d", o->n_logprobs, ERN_MAX_LOGPROBS);
    for (size_t i = 0; i < o->n_bias; i++) {
        if (o->bias[i].id < 0 || (size_t)o->bias[i].id >= n_vocab)
            return ern_fail(e, ERN_ARG, "logit bias: token id %d, 0 to %zu wanted", (int)o->bias[i].id, n_vocab - 1);
        if (!(o->bias[i].bias < INFINITY))
            return ern_fail(e, ERN_ARG, "logit bias: %g for token id %d: a number or -infinity wanted",
                            (double)o->bias[i].bias, (int)o->bias[i].id);
    }
    for (size_t i = 0; i < o->n_stop_ids; i++)
        if (o->stop_ids[i] < 0 || (size_t)o->stop_ids[i] >= n_vocab)
            return ern_fail(e, ERN_ARG, "stop id: %d, 0 to %zu wanted", (int)o->stop_ids[i], n_vocab - 1);
    for (size_t i = 0; i < o->n_stop; i++)
        if (!o->stop[i] || !o->stop[i][0])
            return ern_fail(e, ERN_ARG, "stop text %zu is empty: it would end every answer", i);
    return true;
}

/* splitmix64 spreads the seed over the state, as the generator's authors advise. */
bool sampler_init(ern_sampler *out, const ern_sampling *o, size_t n_vocab, ern_err *e) {
    if (!sampling_check(o, n_vocab, e)) return false;
    *out = (ern_sampler){ .o = o, .n_vocab = n_vocab };
    uint64_t x = o->seed;
    for (size_t i = 0; i < 4; i++) {
        uint64_t z = (x += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        out->state[i] = z ^ (z >> 31);
    }
    const bool ok = (out->logits = mem_zalloc(n_vocab, sizeof *out->logits, "sampler", e)) &&
                    (out->candidates = mem_zalloc(n_vocab, sizeof *out->candidates, "sampler", e)) &&
                    (out->counts = mem_zalloc(n_vocab, sizeof *out->counts, "sampler", e)) &&
                    (out->used = mem_zalloc(n_vocab, sizeof *out->used, "sampler", e)) &&
                    (out->stamps = mem_zalloc(n_vocab, sizeof *out->stamps, "sampler", e));
    if (!ok) sampler_deinit(out);
    return ok;
}

void sampler_deinit(ern_sampler *s) {
    free(s->logits);
    free(s->candidates);
    free(s->counts);
    free(s->used);
    free(s->stamps);
    *s = (ern_sampler){ 0 };
}

static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

/* xoshiro256++, public domain by Blackman and Vigna: the upper 53 bits as a number in [0, 1). */
static double next_uniform(ern_sampler *s) {
    uint64_t *v = s->state;
    const uint64_t r = rotl(v[0] + v[3], 23) + v[0], t = v[1] << 17;
    v[2] ^= v[0];
    v[3] ^= v[1];
    v[1] ^= v[2];
    v[0] ^= v[3];
    v[2] ^= t;
    v[3] = rotl(v[3], 45);
    return (double)(r >> 11) * 0x1p-53;
}

/* ---- passes over all logits --------------------------------------------------------------------- */

/* The largest and the smallest finite value; false when one is NaN or +infinite or none is finite. */
static bool range_of(const float *x, size_t n, float *top, float *bottom) {
    float most[LANES], least[LANES];
    unsigned bad[LANES] = { 0 };
    for (size_t j = 0; j < LANES; j++) {
        most[j] = -INFINITY;
        least[j] = INFINITY;
    }
    for (size_t i = 0; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const float v = x[i + j];
            bad[j] |= !(v <= FLT_MAX);
            most[j] = v > most[j] ? v : most[j];
            least[j] = ((v < least[j]) & (v >= -FLT_MAX)) ? v : least[j];
        }
    for (size_t i = n / LANES * LANES, j = 0; i < n; i++, j++) {
        bad[j] |= !(x[i] <= FLT_MAX);
        most[j] = x[i] > most[j] ? x[i] : most[j];
        least[j] = x[i] < least[j] && x[i] >= -FLT_MAX ? x[i] : least[j];
    }
    for (size_t j = 1; j < LANES; j++) {
        bad[0] |= bad[j];
        if (most[j] > most[0]) most[0] = most[j];
        if (least[j] < least[0]) least[0] = least[j];
    }
    *top = most[0];
    *bottom = least[0];
    return !bad[0] && most[0] >= -FLT_MAX;
}

static int32_t first_equal(const float *x, size_t n, float v) {
    for (size_t i = 0; i < n; i++)
        if (x[i] == v) return (int32_t)i;
    return 0;
}

/* e^x for x <= 0, to 2e-7 of its value; 0 below -87. Written so that compilers turn loops of it into vector code: 2^(n +
 * f) with |f| <= 1/2, e^(f ln 2) by its series to the 6th power. */
static inline float exp_below(float x) {
    const float y = x > -87.0f ? x : -87.0f;
    const float n = (y * 1.44269504f + 12582912.0f) - 12582912.0f;     /* rounds to the nearest integer */
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;       /* ln 2 in two parts */
    const float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f +
                                                        r * (0.0416666667f + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
    union { uint32_t u; float f; } scale = { .u = (uint32_t)((int32_t)n + 127) << 23 };
    return x > -87.0f ? p * scale.f : 0.0f;
}

/* Which bucket a logit lies in. top >= x; scale keeps the last bucket reachable for the smallest. */
static inline size_t bucket_of(float x, float top, float scale) {
    const float b = (top - x) * scale;
    return b < (float)(SAMPLER_BUCKETS - 1) ? (size_t)b : SAMPLER_BUCKETS - 1;
}

/* Fill the buckets; returns the mass of all of them. */
static double fill_buckets(ern_sampler *s, float top, float scale, float per_degree) {
    float p[CHUNK];
    double total = 0.0;
    memset(s->bucket_n, 0, sizeof s->bucket_n);
    memset(s->bucket_mass, 0, sizeof s->bucket_mass);
    for (size_t from = 0; from < s->n_vocab; from += CHUNK) {
        const size_t n = s->n_vocab - from < CHUNK ? s->n_vocab - from : CHUNK;
        const float *x = s->logits + from;
        for (size_t i = 0; i < n; i++) p[i] = exp_below((x[i] - top) * per_degree);
        for (size_t i = 0; i < n; i++) {
            const size_t b = bucket_of(x[i], top, scale);
            s->bucket_n[b]++;
            s->bucket_mass[b] += (double)p[i];
        }
    }
    for (size_t b = 0; b < SAMPLER_BUCKETS; b++) total += s->bucket_mass[b];
    return total;
}

/* ---- drawing ------------------------------------------------------------------------------------ */

static int by_logit(const void *a, const void *b) {
    const sampler_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

struct sorted {
    ern_sampler *s;
    float top, scale, per_degree;
    size_t n, n_buckets;
}; /* the first n candidates are in order */

/* Sort in the next buckets, at least those up to and including last. */
static void extend(struct sorted *o, size_t last) {
    ern_sampler *s = o->s;
    const size_t from = o->n, first = o->n_buckets;
    for (size_t i = 0; i < s->n_vocab; i++) {
        const size_t b = bucket_of(s->logits[i], o->top, o->scale);
        if (b >= first && b <= last) s->candidates[o->n++] = (sampler_candidate){ (int32_t)i, s->logits[i] };
    }
    o->n_buckets = last + 1;
    qsort(s->candidates + from, o->n - from, sizeof *s->candidates, by_logit);
}

/* Candidate i, or false behind the last. */
static bool at(struct sorted *o, size_t i, float *p) {
    while (i >= o->n) {
        size_t b = o->n_buckets;
        while (b < SAMPLER_BUCKETS && o->s->bucket_n[b] == 0) b++;
        if (b == SAMPLER_BUCKETS) return false;
        const size_t twice = 2 * o->n_buckets < SAMPLER_BUCKETS ? 2 * o->n_buckets : SAMPLER_BUCKETS - 1;
        extend(o, b > twice ? b : twice);       /* few passes, however many are asked for */
    }
    *p = exp_below((o->s->candidates[i].logit - o->top) * o->per_degree);
    return true;
}

/* The last bucket needed so that the first ones hold n ids, or this much mass: one pass then gathers them all. */
static size_t buckets_for(const ern_sampler *s, size_t n, double mass) {
    size_t seen = 0, b = 0;
    double sum = 0.0;
    for (; b + 1 < SAMPLER_BUCKETS; b++) {
        seen += s->bucket_n[b];
        sum += s->bucket_mass[b];
        if (seen >= n || sum >= mass) break;
    }
    return b;
}

/* The bucket that a first pass gathers up to; a guess that costs time when it is wrong, and nothing else. */
static size_t first_guess(const struct sorted *o, size_t k, double total, double u) {
    const ern_sampling *opt = o->s->o;
    if (k < o->s->n_vocab) return buckets_for(o->s, k, INFINITY);
    if (opt->top_p < 1.0f) return buckets_for(o->s, k, (double)opt->top_p * total);
    if (opt->min_p > 0.0f) return bucket_of(o->top + logf(opt->min_p) * opt->temperature, o->top, o->scale);
    return buckets_for(o->s, k, u * total);
}

static int32_t draw(ern_sampler *s, float top, float bottom) {
    const ern_sampling *o = s->o;
    const double u = next_uniform(s);
    struct sorted order = {
        .s = s, .top = top, .scale = (float)(SAMPLER_BUCKETS - 1) / (top - bottom), .per_degree = 1.0f / o->temperature
    };
    if (!(order.scale <= FLT_MAX)) order.scale = 0.0f;                  /* all logits are equal */
    if (!(order.per_degree <= FLT_MAX))
        order.per_degree = FLT_MAX; /* a temperature next to 0: all but the largest vanish */
    const size_t k = o->top_k && o->top_k < s->n_vocab ? o->top_k : s->n_vocab;
    double total = fill_buckets(s, top, order.scale, order.per_degree), kept = 0.0, sum = 0.0;
    size_t n = 0, chosen = 0;
    float p;
    extend(&order, first_guess(&order, k, total, u));
    if (k < s->n_vocab) {
        total = 0.0;
        for (size_t i = 0; i < k && at(&order, i, &p); i++) total += (double)p;
    }
    if (k < s->n_vocab || o->top_p < 1.0f || o->min_p > 0.0f) {
        const double enough = o->top_p < 1.0f ? (double)o->top_p * total : INFINITY;
        for (; n < k && (n == 0 || kept < enough) && at(&order, n, &p) && (n == 0 || p >= o->min_p); n++)
            kept += (double)p; /* the first p is 1 */
    } else {
        kept = total;
        n = s->n_vocab;
    }
    for (size_t i = 0; i < n && at(&order, i, &p) && p > 0.0f; i++) {       /* what is forbidden has p = 0 */
        chosen = i;
        sum += (double)p;
        if (u * kept < sum) break;
    }
    return s->candidates[chosen].id;
}

static void penalise(ern_sampler *s, const int32_t *history, size_t n_history) {
    const ern_sampling *o = s->o;
    if (o->repetition_penalty != 1.0f)
        for (size_t i = 0; i < n_history; i++) {
            const int32_t id = history[i];
            if (s->stamps[id] == s->n_drawn) continue;
            s->stamps[id] = s->n_drawn;
            s->logits[id] = s->logits[id] > 0.0f ? s->logits[id] / o->repetition_penalty
                                                 : s->logits[id] * o->repetition_penalty;
        }
    if (o->frequency_penalty != 0.0f || o->presence_penalty != 0.0f)
        for (size_t i = 0; i < s->n_used; i++) {
            const int32_t id = s->used[i];
            s->logits[id] -= (float)s->counts[id] * o->frequency_penalty + o->presence_penalty;
        }
    for (size_t i = 0; i < o->n_bias; i++) s->logits[o->bias[i].id] += o->bias[i].bias;
}

bool sampler_next(ern_sampler *s, const float *logits, const int32_t *history, size_t n_history, int32_t *id, ern_err *e) {
    float top, bottom;
    s->n_drawn++;
    memcpy(s->logits, logits, s->n_vocab * sizeof *logits);
    penalise(s, history, n_history);
    if (!range_of(s->logits, s->n_vocab, &top, &bottom)) {
        if (top < -FLT_MAX) return ern_fail(e, ERN_ARG, "sampling: every token is forbidden");
        return ern_fail(e, ERN_FORMAT,
                        "sampling: the model's logits hold NaN or infinity: the weights are damaged or overflow");
    }
    *id = s->o->temperature == 0.0f || s->o->top_k == 1 ? first_equal(s->logits, s->n_vocab, top) : draw(s, top, bottom);
    if (s->counts[*id]++ == 0) s->used[s->n_used++] = *id;
    return true;
}

/* ---- logprobs ----------------------------------------------------------------------------------- */

static double log_sum_exp(const float *x, size_t n, float top) {
    double sum[LANES] = { 0.0 };
    for (size_t i = 0; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) sum[j] += (double)exp_below(x[i + j] - top);
    for (size_t i = n / LANES * LANES, j = 0; i < n; i++, j++) sum[j] += (double)exp_below(x[i] - top);
    for (size_t j = 1; j < LANES; j++) sum[0] += sum[j];
    return (double)top + log(sum[0]);
}

void sampler_logprobs(const float *logits, size_t V, int32_t id, size_t n_top, ern_token_event *ev) {
    float top, bottom;
    size_t n = 0;
    range_of(logits, V, &top, &bottom);
    const double norm = log_sum_exp(logits, V, top);
    ev->logprob = (float)((double)logits[id] - norm);
    ev->n_top = n_top < V ? n_top : V;
    if (ev->n_top > ERN_MAX_LOGPROBS) ev->n_top = ERN_MAX_LOGPROBS;
    float least = -INFINITY;        /* the smallest of the best so far */
    for (size_t i = 0; ev->n_top && i < V; i++) {
        if (n == ev->n_top && !(logits[i] > least)) continue;
        size_t to = n < ev->n_top ? n++ : n - 1;
        for (; to > 0 && logits[i] > logits[ev->top[to - 1].id]; to--) ev->top[to] = ev->top[to - 1];
        ev->top[to].id = (int32_t)i;
        least = logits[ev->top[n - 1].id];
    }
    for (size_t i = 0; i < n; i++) ev->top[i].logprob = (float)((double)logits[ev->top[i].id] - norm);
}
