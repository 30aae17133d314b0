/* Guesses change how fast an answer comes and nothing else: the same ids with and without, for every setting; near the end
 * of the context; with guesses that are always right, never right and sometimes right. */
#include "base/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/speculate.h"
#include "reference.h"

#define N_CTX 200
#define N_PROMPT 24

static ern_engine *open_model(const char *name) {
    char path[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(path, name)) { printf("SKIP: no %s\n", name); skip(); }
    const ern_engine_options o = { .n_threads = 2, .cpu = "auto", .max_batch = 32 };
    ern_engine *eng = ern_engine_open(path, &o, &e);
    if (!eng) fail_msg("%s", e.text);
    return eng;
}

/* A few tokens again and again: lookup has something to find. */
static void prompt_of(int32_t ids[N_PROMPT]) {
    for (size_t i = 0; i < N_PROMPT; i++) ids[i] = (int32_t)(3 + 5 * (i % 6));
}

typedef struct { int32_t ids[N_CTX]; float logprobs[N_CTX]; size_t n; ern_result r; float *logits; } answer;

static bool keep(void *ctx, const ern_token_event *ev) {
    answer *a = ctx;
    if (ev->id >= 0) { a->ids[a->n] = ev->id; a->logprobs[a->n++] = ev->logprob; }
    return true;
}

static void write_answer(answer *a, ern_engine *eng, size_t n_ctx, const char *kv, const ern_sampling *o) {
    const ern_session_options so = { .n_ctx = n_ctx, .kv_type = kv };
    int32_t prompt[N_PROMPT];
    ern_err e = { 0 };
    const size_t V = ern_engine_n_vocab(eng);
    prompt_of(prompt);
    memset(a, 0, sizeof *a);
    ern_session *s = ern_session_open(eng, &so, &e);
    if (!s || !ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, &e) || !ern_session_generate(s, o, keep, a, &a->r, &e))
        fail_msg("%s", e.text);
    assert_int_equal(ern_session_n_tokens(s), N_PROMPT + a->n);
    assert_memory_equal(ern_session_tokens(s) + N_PROMPT, a->ids, a->n * sizeof *a->ids);
    assert_non_null(ern_session_logits(s));
    assert_non_null(a->logits = malloc(V * sizeof *a->logits));
    memcpy(a->logits, ern_session_logits(s), V * sizeof *a->logits);
    ern_session_close(s);
}

/* With d and without: the same ids, probabilities, result, and logits at the end. */
static void check_same(ern_engine *eng, ern_draft *d, size_t n_ctx, const char *kv, const ern_sampling *o) {
    static answer want, got;
    ern_sampling with = *o;
    with.draft = d;
    write_answer(&want, eng, n_ctx, kv, o);
    write_answer(&got, eng, n_ctx, kv, &with);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.ids, want.ids, want.n * sizeof *want.ids);
    assert_memory_equal(got.logprobs, want.logprobs, want.n * sizeof *want.logprobs);
    assert_memory_equal(got.logits, want.logits, ern_engine_n_vocab(eng) * sizeof *want.logits);
    assert_int_equal(got.r.finish, want.r.finish);
    assert_int_equal(got.r.n_tokens, want.r.n_tokens);
    assert_int_equal(got.r.end_id, want.r.end_id);
    free(want.logits);
    free(got.logits);
}

static const ern_logit_bias bias[] = { { 8, 3.0f }, { 13, -INFINITY } };
#define USUAL .max_tokens = 100, .ignores_end = true
#define PLAIN USUAL, .top_p = 1.0f, .repetition_penalty = 1.0f
static const ern_sampling settings[] = {
    { PLAIN },
    { PLAIN, .n_logprobs = 3 },
    { USUAL, .top_p = 1.0f, .repetition_penalty = 1.3f },
    { PLAIN, .frequency_penalty = 0.5f, .presence_penalty = 0.2f },
    { PLAIN, .bias = bias, .n_bias = 2 },
    { PLAIN, .temperature = 0.2f, .seed = 5 },
    { PLAIN, .temperature = 0.9f, .seed = 1 },
    { USUAL, .temperature = 0.8f, .seed = 2, .top_k = 5, .top_p = 0.9f, .min_p = 0.02f, .repetition_penalty = 1.1f },
    { .top_p = 1.0f, .repetition_penalty = 1.0f, .temperature = 1.5f, .seed = 3 },
};

static void test_same_text(void **state) {
    (void)state;
    static const char *const models[] = { "dense", "moe", "dense.Q4_0.gguf", "moe.Q8_0.gguf" };
    static const char *const kv[] = { "f16", "q8", "q4", "f32" };
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        ern_engine *eng = open_model(models[m]);
        ern_draft *drafts[] = { ern_draft_open(eng, NULL, 0, NULL), ern_draft_open(eng, eng, 5, NULL),
                                ern_draft_open(eng, NULL, ERN_MAX_DRAFT, NULL), ern_draft_open(eng, eng, 0, NULL) };
        speculate_always(drafts[1]);
        speculate_always(drafts[2]);
        for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
            for (size_t d = 0; d < 4; d++) {
                assert_non_null(drafts[d]);
                check_same(eng, drafts[d], N_CTX, kv[(i + d) % 4], &settings[i]);
            }
        for (size_t d = 0; d < 4; d++) ern_draft_close(drafts[d]);
        ern_engine_close(eng);
    }
}

/* The model as its own drafter is always right: few passes, and the counts say so. */
static void test_fewer_passes(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    ern_draft *d = ern_draft_open(eng, eng, 8, NULL);
    static answer a;
    ern_sampling o = settings[0];
    o.draft = d;
    speculate_always(d);
    write_answer(&a, eng, N_CTX, "f32", &o);
    const ern_draft_stats st = ern_draft_stats_of(d);
    assert_int_equal(st.n_tokens, a.n);
    assert_in_range(st.n_passes, a.n / 9, a.n / 9 + 2);
    assert_int_equal(st.n_passes + st.n_accepted, st.n_tokens);
    assert_true(st.n_accepted <= st.n_drafted);
    assert_true(st.n_drafted - st.n_accepted <= 8);         /* those behind the end of the answer */
    free(a.logits);
    ern_draft_close(d);
    ern_engine_close(eng);
}

/* The context ends among the guesses, at every distance from the prompt. */
static void test_full_context(void **state) {
    (void)state;
    ern_engine *eng = open_model("moe");
    ern_draft *d = ern_draft_open(eng, eng, 6, NULL), *lookup = ern_draft_open(eng, NULL, 6, NULL);
    speculate_always(d);
    speculate_always(lookup);
    ern_sampling o = settings[0];
    o.max_tokens = 0;
    for (size_t n_ctx = N_PROMPT + 1; n_ctx < N_PROMPT + 20; n_ctx++) {
        check_same(eng, d, n_ctx, "f16", &o);
        check_same(eng, lookup, n_ctx, "q4", &o);
    }
    ern_draft_close(d);
    ern_draft_close(lookup);
    ern_engine_close(eng);
}

/* Each token that an answer holds as the one that ends it, and every length. */
static void test_ends(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    ern_draft *d = ern_draft_open(eng, eng, 7, NULL);
    speculate_always(d);
    static answer a;
    write_answer(&a, eng, N_CTX, "f16", &settings[0]);
    for (size_t i = 0; i < 20; i++) {
        ern_sampling o = settings[0];
        o.stop_ids = &a.ids[i];
        o.n_stop_ids = 1;
        check_same(eng, d, N_CTX, "f16", &o);
        o.n_stop_ids = 0;
        o.max_tokens = i + 1;
        check_same(eng, d, N_CTX, "f16", &o);
    }
    free(a.logits);
    ern_draft_close(d);
    ern_engine_close(eng);
}

/* Answers that follow each other on one session, cut in between. */
static void test_again(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    ern_draft *d = ern_draft_open(eng, eng, 4, NULL);
    const ern_session_options so = { .n_ctx = N_CTX };
    int32_t prompt[N_PROMPT], first[40];
    prompt_of(prompt);
    ern_session *s = ern_session_open(eng, &so, NULL);
    ern_sampling o = settings[6];
    o.draft = d;
    o.max_tokens = 40;
    for (size_t round = 0; round < 3; round++) {
        assert_true(ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, NULL));
        assert_true(ern_session_generate(s, &o, NULL, NULL, NULL, NULL));
        assert_int_equal(ern_session_n_tokens(s), N_PROMPT + 40);
        if (round == 0) memcpy(first, ern_session_tokens(s) + N_PROMPT, sizeof first);
        assert_memory_equal(ern_session_tokens(s) + N_PROMPT, first, sizeof first);
    }
    ern_session_close(s);
    ern_draft_close(d);
    ern_engine_close(eng);
}

static void test_refused(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense"), *other = open_model("dense"), *stranger = open_model("dense_untied");
    ern_err e = { 0 };
    assert_null(ern_draft_open(eng, stranger, 0, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_non_null(strstr(e.text, "vocabulary"));
    assert_null(ern_draft_open(eng, NULL, ERN_MAX_DRAFT + 1, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    ern_draft *d = ern_draft_open(other, NULL, 0, NULL);
    const ern_session_options so = { .n_ctx = 64 };
    ern_session *s = ern_session_open(eng, &so, NULL);
    int32_t id = 3;
    ern_sampling o = settings[0];
    o.draft = d;
    assert_true(ern_session_sync(s, &id, 1, NULL, NULL, NULL));
    assert_false(ern_session_generate(s, &o, NULL, NULL, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    ern_session_close(s);
    ern_draft_close(d);
    ern_engine_close(eng);
    ern_engine_close(other);
    ern_engine_close(stranger);
}

static void test_lookup(void **state) {
    (void)state;
    static const struct { int32_t ids[16]; size_t n, max; int32_t want[6]; size_t n_want, n_matched; } cases[] = {
        { { 1, 2, 3, 4, 1, 2 }, 6, 3, { 3, 4, 1 }, 3, 2 },
        { { 1, 2, 3, 9, 1, 2, 4, 9, 1, 2 }, 10, 2, { 4, 9 }, 2, 3 },           /* 9 1 2: the longer match */
        { { 5, 1, 2, 3, 6, 1, 2, 4, 7, 1, 2 }, 11, 1, { 4 }, 1, 2 },           /* the later one among equals */
        { { 7, 7, 7, 7 }, 4, 4, { 7, 7, 7, 7 }, 4, 3 },                        /* runs on into itself */
        { { 1, 2, 1, 2, 1, 2 }, 6, 5, { 1, 2, 1, 2, 1 }, 5, 4 },
        { { 1, 2, 3, 4, 5, 6 }, 6, 4, { 0 }, 0, 0 },
        { { 1, 2, 3, 1 }, 4, 4, { 0 }, 0, 0 },                                 /* one token is no evidence */
        { { 1, 1 }, 2, 4, { 0 }, 0, 0 },
        { { 1 }, 1, 4, { 0 }, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t out[6];
        size_t n_matched = 0;
        assert_int_equal(speculate_lookup(cases[i].ids, cases[i].n, out, cases[i].max, &n_matched), cases[i].n_want);
        assert_memory_equal(out, cases[i].want, cases[i].n_want * sizeof *out);
        assert_int_equal(n_matched, cases[i].n_matched);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup), cmocka_unit_test(test_same_text), cmocka_unit_test(test_fewer_passes),
        cmocka_unit_test(test_full_context), cmocka_unit_test(test_ends), cmocka_unit_test(test_again),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
