#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/test.h"

#define ERNIE_VOCAB 103424

static uint64_t noise = 88172645463325252ull;
static double random_unit(void) {
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return (double)(noise >> 11) * 0x1p-53;
}

static ern_sampling plain(void) { return (ern_sampling){ .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f }; }

struct sorted { int32_t id; float logit; double p; };
static int by_logit(const void *a, const void *b) {
    const struct sorted *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->id - y->id;
}

/* The definition: sort everything. Fills list[V] and returns how many stay; their sum is 1. */
static size_t define(struct sorted *list, const float *logits, size_t V, const ern_sampling *o) {
    double total = 0.0, kept = 0.0;
    size_t n = 0, k = o->top_k && o->top_k < V ? o->top_k : V;
    for (size_t i = 0; i < V; i++) list[i] = (struct sorted){ (int32_t)i, logits[i], 0.0 };
    qsort(list, V, sizeof *list, by_logit);
    for (size_t i = 0; i < V; i++) list[i].p = exp(((double)list[i].logit - (double)list[0].logit) / (double)o->temperature);
    for (size_t i = 0; i < k; i++) total += list[i].p;
    for (; n < k && (n == 0 || ((o->top_p >= 1.0f || kept < (double)o->top_p * total) && list[n].p >= (double)o->min_p));
         n++)
        kept += list[n].p;
    for (size_t i = 0; i < n; i++) list[i].p /= kept;
    return n;
}

/* What is drawn is one of those that the definition keeps, except within float rounding of the border, and the same again
 * from the same seed. */
static void one_case(size_t V, double spread, const ern_sampling *o, size_t n_draws) {
    float *logits = malloc(V * sizeof *logits);
    struct sorted *list = malloc(V * sizeof *list);
    ern_sampler s, same;
    size_t n_near = 0;
    assert_true(sampler_init(&s, o, V, NULL));
    for (size_t d = 0; d < n_draws; d++) {
        int32_t id, other;
        for (size_t i = 0; i < V; i++) logits[i] = (float)(spread * (random_unit() + random_unit() + random_unit() - 1.5));
        if (V > 4) logits[1] = logits[3];       /* equal logits */
        const size_t n = define(list, logits, V, o);
        ern_sampling seeded = *o;
        seeded.seed = d;
        assert_true(sampler_init(&same, &seeded, V, NULL));
        assert_true(sampler_next(&same, logits, NULL, 0, &id, NULL));
        size_t at = 0;
        while (at < n && list[at].id != id) at++;
        if (at == n) {      /* outside the kept ones: allowed only next to the border */
            assert_true(o->top_p < 1.0f || o->min_p > 0.0f);
            n_near++;
        }
        sampler_deinit(&same);
        assert_true(sampler_init(&same, &seeded, V, NULL));
        assert_true(sampler_next(&same, logits, NULL, 0, &other, NULL));
        assert_int_equal(id, other);
        sampler_deinit(&same);
    }
    assert_true(n_near <= n_draws / 50);
    sampler_deinit(&s);
    free(logits);
    free(list);
}

static void keeps_what_the_definition_keeps(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 2, 5, 17, 1000 };
    static const double spreads[] = { 0.0, 0.5, 4.0, 60.0 };
    static const struct { float temperature, top_p, min_p; size_t top_k;
    } settings[] = {
        { 1.0f, 1.0f, 0.0f, 0 },   { 0.7f, 0.9f, 0.0f, 0 },   { 1.0f, 1.0f, 0.1f, 0 },  { 1.0f, 1.0f, 0.0f, 5 },
        { 2.0f, 0.5f, 0.05f, 40 }, { 100.0f, 0.8f, 0.0f, 0 }, { 0.01f, 0.8f, 0.0f, 0 }, { 1.0f, 0.0f, 0.0f, 0 },
        { 1.0f, 1.0f, 1.0f, 0 },   { 1e-40f, 1.0f, 0.0f, 0 },
    };
    for (size_t a = 0; a < sizeof sizes / sizeof sizes[0]; a++)
        for (size_t b = 0; b < sizeof spreads / sizeof spreads[0]; b++)
            for (size_t c = 0; c < sizeof settings / sizeof settings[0]; c++) {
                ern_sampling o = plain();
                o.temperature = settings[c].temperature;
                o.top_p = settings[c].top_p;
                o.min_p = settings[c].min_p;
                o.top_k = settings[c].top_k;
                one_case(sizes[a], spreads[b], &o, 20);
            }
}

/* Frequencies over many draws against the probabilities: chi square with a bound that a right sampler passes except once
 * in 10^6. */
static void draws_by_probability(void **state) {
    (void)state;
    enum { V = 12, DRAWS = 40000 };
    static const float logits[V] = { 1.0f, 0.0f, -1.0f, 2.0f, 0.5f, -30.0f, 1.5f, 0.2f, -2.0f, 1.0f, 0.0f, -INFINITY };
    static const struct { float temperature, top_p, min_p; size_t top_k; } settings[] = {
        { 1.0f, 1.0f, 0.0f, 0 }, { 0.5f, 0.9f, 0.0f, 0 }, { 1.5f, 1.0f, 0.2f, 0 }, { 1.0f, 0.8f, 0.0f, 7 },
    };
    for (size_t c = 0; c < sizeof settings / sizeof settings[0]; c++) {
        ern_sampling o = plain();
        struct sorted list[V];
        size_t counts[V] = { 0 };
        double chi = 0.0;
        ern_sampler s;
        o.temperature = settings[c].temperature;
        o.top_p = settings[c].top_p;
        o.min_p = settings[c].min_p;
        o.top_k = settings[c].top_k;
        o.seed = c;
        const size_t n = define(list, logits, V, &o);
        assert_true(sampler_init(&s, &o, V, NULL));
        for (size_t d = 0; d < DRAWS; d++) {
            int32_t id;
            assert_true(sampler_next(&s, logits, NULL, 0, &id, NULL));
            counts[id]++;
        }
        for (size_t i = 0; i < V; i++) {
            const double want = i < n ? list[i].p * DRAWS : 0.0, got = (double)counts[list[i].id];
            if (want < 1e-3) { if (got > 0.0) fail_msg("setting %zu: id %d came %g times", c, (int)list[i].id, got); }
            else if (want > 5.0) chi += (got - want) * (got - want) / want;
        }
        if (chi > 60.0) fail_msg("setting %zu: chi square %g", c, chi);
        sampler_deinit(&s);
    }
}

static void greedy_takes_the_lowest_of_equals(void **state) {
    (void)state;
    for (size_t V = 1; V < 70; V++)
        for (size_t best = 0; best < V; best += 3) {
            float logits[70];
            ern_sampling o = plain();
            ern_sampler s;
            int32_t id = -1;
            o.temperature = 0.0f;
            for (size_t i = 0; i < V; i++) logits[i] = i >= best && (i - best) % 5 == 0 ? 3.0f : -1.0f;
            assert_true(sampler_init(&s, &o, V, NULL) && sampler_next(&s, logits, NULL, 0, &id, NULL));
            assert_int_equal(id, best);
            sampler_deinit(&s);
        }
}

static void penalties_and_bias(void **state) {
    (void)state;
    static const float logits[4] = { 2.0f, 1.9f, -1.0f, -1.1f };
    static const int32_t history[] = { 0, 0, 0 };
    int32_t id = -1;
    ern_sampler s;
    ern_sampling o = plain();
    o.temperature = 0.0f;
    o.repetition_penalty = 1.2f;        /* 2.0 / 1.2 < 1.9, once for an id however often it stands there */
    assert_true(sampler_init(&s, &o, 4, NULL) && sampler_next(&s, logits, history, 3, &id, NULL));
    assert_int_equal(id, 1);
    assert_true(fabsf(s.logits[0] - 2.0f / 1.2f) < 1e-6f);
    sampler_deinit(&s);
    o = plain();
    o.temperature = 0.0f;
    o.frequency_penalty = 0.03f;
    o.presence_penalty = 0.05f;
    assert_true(sampler_init(&s, &o, 4, NULL));
    assert_true(sampler_next(&s, logits, NULL, 0, &id, NULL) && id == 0);
    assert_true(sampler_next(&s, logits, NULL, 0, &id, NULL) && id == 0);       /* 2.0 - 0.08 = 1.92 */
    assert_true(sampler_next(&s, logits, NULL, 0, &id, NULL) && id == 1);       /* 2.0 - 0.11 = 1.89 < 1.9 */
    sampler_deinit(&s);
    const ern_logit_bias bias[] = { { 3, 100.0f }, { 0, -INFINITY } };
    o = plain();
    o.temperature = 0.0f;
    o.bias = bias;
    o.n_bias = 2;
    assert_true(sampler_init(&s, &o, 4, NULL) && sampler_next(&s, logits, NULL, 0, &id, NULL));
    assert_int_equal(id, 3);
    sampler_deinit(&s);
}

static void bad_logits_are_errors(void **state) {
    (void)state;
    float logits[40] = { 0 };
    static const float bad[] = { NAN, INFINITY };
    int32_t id = -7;
    ern_err e = { 0 };
    for (size_t greedy = 0; greedy < 2; greedy++) {
        ern_sampling o = plain();
        ern_sampler s;
        o.temperature = greedy ? 0.0f : 1.0f;
        assert_true(sampler_init(&s, &o, 40, NULL));
        for (size_t b = 0; b < 2; b++)
            for (size_t i = 0; i < 40; i++) {
                logits[i] = bad[b];
                assert_false(sampler_next(&s, logits, NULL, 0, &id, &e));
                assert_int_equal(e.code, ERN_FORMAT);
                assert_int_equal(id, -7);
                logits[i] = 0.0f;
            }
        for (size_t i = 0; i < 40; i++) logits[i] = -INFINITY;
        assert_false(sampler_next(&s, logits, NULL, 0, &id, &e));
        assert_int_equal(e.code, ERN_ARG);
        logits[33] = -50.0f;
        assert_true(sampler_next(&s, logits, NULL, 0, &id, &e));
        assert_int_equal(id, 33);
        id = -7;
        memset(logits, 0, sizeof logits);
        sampler_deinit(&s);
    }
}

static void settings_out_of_range(void **state) {
    (void)state;
    static const ern_logit_bias far_id = { 40, 1.0f }, nan_bias = { 1, NAN }, infinite = { 1, INFINITY };
    static const int32_t bad_stop = -2;
    static const char *const empty = "";
    ern_sampling o[14];
    for (size_t i = 0; i < 14; i++) o[i] = plain();
    o[0].temperature = -0.1f;
    o[1].temperature = NAN;
    o[2].top_p = 1.1f;
    o[3].min_p = -1.0f;
    o[4].repetition_penalty = 0.0f;
    o[5].frequency_penalty = 3.0f;
    o[6].presence_penalty = -3.0f;
    o[7].n_logprobs = ERN_MAX_LOGPROBS + 1;
    o[8].bias = &far_id;
    o[9].bias = &nan_bias;
    o[10].bias = &infinite;
    o[8].n_bias = o[9].n_bias = o[10].n_bias = 1;
    o[11].stop_ids = &bad_stop;
    o[11].n_stop_ids = 1;
    o[12].stop = &empty;
    o[12].n_stop = 1;
    o[13].temperature = INFINITY;
    for (size_t i = 0; i < 14; i++) {
        ern_err e = { 0 };
        if (sampling_check(&o[i], 40, &e) || e.code != ERN_ARG || !e.text[0]) fail_msg("setting %zu was accepted", i);
    }
    const ern_sampling good = plain();
    assert_true(sampling_check(&good, 40, NULL));
}

static void logprobs_of_the_best(void **state) {
    (void)state;
    enum { V = 1003 };
    static float logits[V];
    static struct sorted list[V];
    double sum = 0.0;
    const ern_sampling o = plain();
    for (size_t i = 0; i < V; i++) logits[i] = (float)(8.0 * random_unit());
    logits[5] = logits[900] = 7.99f;
    define(list, logits, V, &o);
    for (size_t n = 0; n <= ERN_MAX_LOGPROBS; n++) {
        ern_token_event ev = { 0 };
        sampler_logprobs(logits, V, 77, n, &ev);
        assert_int_equal(ev.n_top, n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ev.top[i].id, list[i].id);
            assert_true(fabs((double)ev.top[i].logprob - log(list[i].p)) < 1e-5);
        }
        for (size_t i = 0; i < V; i++)
            if (list[i].id == 77) assert_true(fabs((double)ev.logprob - log(list[i].p)) < 1e-5);
    }
    ern_token_event ev = { 0 };
    sampler_logprobs(logits, 3, 0, 20, &ev);
    assert_int_equal(ev.n_top, 3);
    for (size_t i = 0; i < 3; i++) sum += exp((double)ev.top[i].logprob);
    assert_true(fabs(sum - 1.0) < 1e-5);
}

/* Printed, not tested: the machine may be busy. */
static void costs_little_of_a_token(void **state) {
    (void)state;
    static const struct { const char *name; float temperature, top_p; size_t top_k;
    } settings[] = {
        { "greedy", 0.0f, 1.0f, 0 }, { "top_p 0.8", 0.8f, 0.8f, 0 }, { "top_k 40", 0.8f, 1.0f, 40 },
        { "all", 1.0f, 1.0f, 0 },    { "flat", 50.0f, 0.9f, 0 },
    };
    float *logits = malloc(ERNIE_VOCAB * sizeof *logits);
    for (size_t i = 0; i < ERNIE_VOCAB; i++)
        logits[i] = (float)(6.0 * (random_unit() + random_unit() + random_unit() + random_unit()));
    for (size_t c = 0; c < sizeof settings / sizeof settings[0]; c++) {
        ern_sampling o = plain();
        ern_sampler s;
        double best = 1e9;
        o.temperature = settings[c].temperature;
        o.top_p = settings[c].top_p;
        o.top_k = settings[c].top_k;
        assert_true(sampler_init(&s, &o, ERNIE_VOCAB, NULL));
        for (int i = 0; i < 6; i++) {
            struct timespec a, b;
            int32_t id;
            clock_gettime(CLOCK_MONOTONIC, &a);
            assert_true(sampler_next(&s, logits, NULL, 0, &id, NULL));
            clock_gettime(CLOCK_MONOTONIC, &b);
            const double us = (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) * 1e-3;
            if (us < best) best = us;
        }
        print_message("%-10s of %d ids: %.0f us\n", settings[c].name, ERNIE_VOCAB, best);
        sampler_deinit(&s);
    }
    free(logits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_the_definition_keeps),
        cmocka_unit_test(draws_by_probability),
        cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(penalties_and_bias),
        cmocka_unit_test(bad_logits_are_errors),
        cmocka_unit_test(settings_out_of_range),
        cmocka_unit_test(logprobs_of_the_best),
        cmocka_unit_test(costs_little_of_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
