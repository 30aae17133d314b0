/* Sessions and answers through the public header: what is kept, what is refused, what is the same again. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arrays.h"
#include "base/file.h"
#include "base/test.h"
#include "engine/engine.h"
#include "reference.h"

#define N_CTX 96
#define ANSWER 24

static char folder[] = "/tmp/ern_engine_test_XXXXXX";
static const int32_t prompt[] = { 17, 300, 4, 99, 250, 8, 77 };
#define N_PROMPT (sizeof prompt / sizeof prompt[0])

static ern_engine *eng;         /* dense with the SentencePiece tokenizer */

static void link_into(const char *to, const char *reference, const char *name) {
    char path[REFERENCE_PATH], full[REFERENCE_PATH + 64], real[4096];
    snprintf(full, sizeof full, "%s/%s", reference, name);
    if (!reference_find(path, full) || !realpath(path, real)) fail_msg("%s is missing", full);
    snprintf(full, sizeof full, "%s/%s", to, name);
    assert_int_equal(symlink(real, full), 0);
}

static int set_up(void **state) {
    (void)state;
    static const char *const files[] = { "tokenizer.model", "added_tokens.json", "special_tokens_map.json",
                                         "tokenizer_config.json" };
    ern_engine_options o;
    ern_err e = { 0 };
    if (!mkdtemp(folder)) return -1;
    link_into(folder, "dense", "config.json");
    link_into(folder, "dense", "model.safetensors");
    for (size_t i = 0; i < 4; i++) link_into(folder, "tokenizer/spm", files[i]);
    ern_engine_defaults(&o);
    o.n_threads = 2;
    o.max_batch = 8;
    eng = ern_engine_open(folder, &o, &e);
    if (!eng) print_message("%s\n", e.text);
    return eng ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const files[] = { "config.json", "model.safetensors", "tokenizer.model", "added_tokens.json",
                                         "special_tokens_map.json", "tokenizer_config.json" };
    ern_engine_close(eng);
    for (size_t i = 0; i < 6; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static ern_session *open_session(void) {
    ern_session_options o;
    ern_err e = { 0 };
    ern_session_defaults(&o);
    o.n_ctx = N_CTX;
    ern_session *s = ern_session_open(eng, &o, &e);
    if (!s) fail_msg("session: %s", e.text);
    return s;
}

static ern_session *prompted(void) {
    ern_session *s = open_session();
    assert_true(ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, NULL));
    return s;
}

struct answer { int32_t id[256]; size_t n, stop_at; char text[4096]; size_t n_bytes; float logprob[256]; };

static bool note(void *ctx, const ern_token_event *ev) {
    struct answer *a = ctx;
    if (ev->id >= 0) {
        a->logprob[a->n] = ev->logprob;
        a->id[a->n++] = ev->id;
    }
    memcpy(a->text + a->n_bytes, ev->text, ev->n_bytes);
    a->n_bytes += ev->n_bytes;
    return !a->stop_at || a->n < a->stop_at;
}

static ern_sampling sampling(float temperature, uint64_t seed) {
    return (ern_sampling){ .temperature = temperature,
                           .top_p = 1.0f,
                           .repetition_penalty = 1.0f,
                           .seed = seed,
                           .max_tokens = ANSWER,
                           .ignores_end = true };
}

static void generate(ern_session *s, const ern_sampling *o, struct answer *a, ern_result *r) {
    ern_err e = { 0 };
    const size_t stop_at = a->stop_at;
    *a = (struct answer){ .stop_at = stop_at };
    if (!ern_session_generate(s, o, note, a, r, &e)) fail_msg("generate: %s", e.text);
}

/* ---- timelines ---------------------------------------------------------------------------------- */

static void sync_keeps_what_is_shared(void **state) {
    (void)state;
    const size_t bytes = ern_engine_n_vocab(eng) * sizeof(float);
    ern_session *s = prompted(), *fresh = open_session();
    int32_t other[N_PROMPT + 2];
    memcpy(other, prompt, sizeof prompt);
    other[4] = 1;
    other[N_PROMPT] = 2;
    other[N_PROMPT + 1] = 3;
    for (size_t n = N_PROMPT + 2; n > 0; n--) {         /* longer, other, then shorter and shorter */
        assert_true(ern_session_sync(s, other, n, NULL, NULL, NULL));
        assert_true(ern_session_truncate(fresh, 0, NULL) && ern_session_append(fresh, other, n, NULL, NULL, NULL));
        assert_int_equal(ern_session_n_tokens(s), n);
        assert_memory_equal(ern_session_tokens(s), other, n * sizeof *other);
        assert_memory_equal(ern_session_logits(s), ern_session_logits(fresh), bytes);
    }
    assert_true(ern_session_truncate(s, 0, NULL));
    assert_null(ern_session_logits(s));
    ern_session_close(s);
    ern_session_close(fresh);
}

struct progress { size_t calls, last, stop_after; };
static bool count(void *ctx, size_t done, size_t total) {
    struct progress *p = ctx;
    assert_true(done >= p->last && done <= total);
    p->last = done;
    return ++p->calls != p->stop_after;
}

static void a_long_prompt_can_be_stopped_and_resumed(void **state) {
    (void)state;
    int32_t ids[50];
    struct progress p = { 0 };
    ern_err e = { 0 };
    ern_session *s = open_session(), *fresh = open_session();
    for (size_t i = 0; i < 50; i++) ids[i] = (int32_t)(i * 7 % 500);
    assert_true(ern_session_sync(fresh, ids, 50, count, &p, &e));
    assert_int_equal(p.calls, 8);       /* 7 chunks of 8 and the end */
    assert_int_equal(p.last, 50);
    p = (struct progress){ .stop_after = 3 };
    assert_false(ern_session_sync(s, ids, 50, count, &p, &e));
    assert_int_equal(e.code, ERN_STOPPED);
    assert_int_equal(ern_session_n_tokens(s), 16);
    assert_null(ern_session_logits(s));
    assert_true(ern_session_sync(s, ids, 50, NULL, NULL, &e));
    assert_memory_equal(ern_session_logits(s), ern_session_logits(fresh), ern_engine_n_vocab(eng) * sizeof(float));
    ern_session_close(s);
    ern_session_close(fresh);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    int32_t ids[N_CTX + 1] = { 0 };
    ern_err e = { 0 };
    ern_session_options o;
    ern_result r;
    ern_session *s = prompted();
    assert_false(ern_session_sync(s, ids, 0, NULL, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_false(ern_session_sync(s, ids, N_CTX + 1, NULL, NULL, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_true(strstr(e.text, "97") && strstr(e.text, "96"));
    assert_false(ern_session_append(s, ids, N_CTX, NULL, NULL, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    static const int32_t bad[] = { -1, 512, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < 4; i++) {
        ids[1] = bad[i];
        assert_false(ern_session_append(s, ids, 3, NULL, NULL, &e));
        assert_int_equal(e.code, ERN_ARG);
        assert_false(ern_session_sync(s, ids, 3, NULL, NULL, &e));
    }
    assert_int_equal(ern_session_n_tokens(s), N_PROMPT);        /* nothing was lost by any of it */
    assert_non_null(ern_session_logits(s));
    assert_false(ern_session_truncate(s, N_PROMPT + 1, &e));
    ern_session_defaults(&o);
    o.n_ctx = ern_engine_max_context(eng) + 1;
    assert_null(ern_session_open(eng, &o, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    o.n_ctx = 16;
    o.kv_type = "f17";
    assert_null(ern_session_open(eng, &o, &e));
    assert_int_equal(e.code, ERN_ARG);
    ern_session *empty = open_session();
    assert_false(ern_session_generate(empty, NULL, NULL, NULL, &r, &e));
    assert_int_equal(e.code, ERN_ARG);
    ern_session_close(empty);
    ern_session_close(s);
}

/* ---- answers ------------------------------------------------------------------------------------ */

static void several_answers_share_a_prompt(void **state) {
    (void)state;
    enum { N = 3 };
    static struct answer alone[N], shared[N];
    ern_result r;
    ern_session *first = prompted();
    for (size_t i = 0; i < N; i++) {
        const ern_sampling o = sampling(1.0f, i);
        ern_session *s = prompted(), *copy = open_session();
        generate(s, &o, &alone[i], &r);
        assert_true(ern_session_copy(copy, first, NULL));
        generate(copy, &o, &shared[i], &r);
        assert_int_equal(alone[i].n, ANSWER);
        assert_memory_equal(alone[i].id, shared[i].id, ANSWER * sizeof(int32_t));
        assert_int_equal(ern_session_n_tokens(copy), N_PROMPT + ANSWER);
        ern_session_close(copy);
        ern_session_close(s);
    }
    assert_memory_not_equal(alone[0].id, alone[1].id, ANSWER * sizeof(int32_t));
    assert_int_equal(ern_session_n_tokens(first), N_PROMPT);
    ern_session_close(first);
}

static void an_answer_ends_for_a_reason(void **state) {
    (void)state;
    static struct answer whole, a;
    ern_result r;
    ern_sampling o = sampling(0.0f, 0);
    ern_session *s = prompted();
    generate(s, &o, &whole, &r);
    assert_int_equal(r.finish, ERN_FINISH_LENGTH);
    assert_int_equal(r.n_tokens, ANSWER);
    assert_int_equal(r.end_id, -1);
    assert_memory_equal(ern_session_tokens(s) + N_PROMPT, whole.id, ANSWER * sizeof(int32_t));
    /* a stop id: the first place where it comes up; it is not given out and not in the session */
    const int32_t stop = whole.id[9];
    size_t at = 0;
    while (whole.id[at] != stop) at++;
    o.stop_ids = &stop;
    o.n_stop_ids = 1;
    assert_true(ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, NULL));
    generate(s, &o, &a, &r);
    assert_int_equal(r.finish, ERN_FINISH_END);
    assert_int_equal(r.end_id, stop);
    assert_int_equal(r.n_tokens, at + 1);
    assert_int_equal(a.n, at);
    assert_int_equal(ern_session_n_tokens(s), N_PROMPT + at);
    /* a caller that has enough: what it was given is in the session */
    o.n_stop_ids = 0;
    a.stop_at = 4;
    assert_true(ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, NULL));
    generate(s, &o, &a, &r);
    assert_int_equal(r.finish, ERN_FINISH_CALLER);
    assert_int_equal(a.n, 4);
    assert_int_equal(ern_session_n_tokens(s), N_PROMPT + 4);
    /* the context is full */
    a.stop_at = 0;
    o.max_tokens = 0;
    assert_true(ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, NULL));
    generate(s, &o, &a, &r);
    assert_int_equal(r.finish, ERN_FINISH_LENGTH);
    assert_int_equal(ern_session_n_tokens(s), N_CTX);
    assert_int_equal(a.n, N_CTX - N_PROMPT);
    generate(s, &o, &a, &r);
    assert_int_equal(r.n_tokens, 0);
    ern_session_close(s);
}

static void a_stop_text_ends_it_before_the_text(void **state) {
    (void)state;
    static struct answer whole, a;
    ern_result r;
    char stop[8] = "";
    const char *stops[] = { "never in there", stop };
    ern_sampling o = sampling(0.0f, 0);
    ern_session *s = prompted();
    generate(s, &o, &whole, &r);
    assert_true(whole.n_bytes > 12);
    size_t from = whole.n_bytes / 2, n = 3;
    while (from > 0 && ((unsigned char)whole.text[from] & 0xC0) == 0x80) from--;
    while (((unsigned char)whole.text[from + n] & 0xC0) == 0x80) n++;
    memcpy(stop, whole.text + from, n);
    const char *first = strstr(whole.text, stop);
    o.stop = stops;
    o.n_stop = 2;
    assert_true(ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, NULL));
    generate(s, &o, &a, &r);
    assert_int_equal(r.finish, ERN_FINISH_STOP);
    assert_int_equal(a.n_bytes, first - whole.text);
    assert_memory_equal(a.text, whole.text, a.n_bytes);
    ern_session_close(s);
}

static void the_models_end_token_ends_it(void **state) {
    (void)state;
    static struct answer a;
    ern_result r;
    const ern_logit_bias ending = { .id = 2, .bias = 1000.0f };         /* </s> of the tokenizer and of config.json */
    ern_sampling o = sampling(0.0f, 0);
    ern_session *s = prompted();
    o.bias = &ending;
    o.n_bias = 1;
    o.ignores_end = false;
    generate(s, &o, &a, &r);
    assert_int_equal(r.finish, ERN_FINISH_END);
    assert_int_equal(r.end_id, 2);
    assert_int_equal(a.n, 0);
    assert_int_equal(ern_session_n_tokens(s), N_PROMPT);
    o.ignores_end = true;
    generate(s, &o, &a, &r);
    assert_int_equal(r.finish, ERN_FINISH_LENGTH);
    assert_int_equal(a.n, ANSWER);
    ern_session_close(s);
}

/* ---- scores ------------------------------------------------------------------------------------- */

static void scores_are_the_logprobs_of_an_answer(void **state) {
    (void)state;
    static struct answer a, scored, again;
    ern_result r;
    ern_err e = { 0 };
    ern_sampling o = sampling(1.0f, 5);
    ern_session *s = prompted(), *other = open_session();
    o.n_logprobs = 3;
    generate(s, &o, &a, &r);
    assert_true(ern_session_score(other, ern_session_tokens(s), N_PROMPT + ANSWER, 3, note, &scored, &e));
    assert_int_equal(scored.n, N_PROMPT + ANSWER);
    assert_true(isnan(scored.logprob[0]));
    for (size_t i = 0; i < ANSWER; i++) assert_true(scored.logprob[N_PROMPT + i] == a.logprob[i]);
    assert_memory_equal(ern_session_logits(other), ern_session_logits(s), ern_engine_n_vocab(eng) * sizeof(float));
    /* in the middle of a timeline, also after a cut */
    assert_true(ern_session_truncate(other, N_PROMPT, NULL));
    assert_true(ern_session_score(other, a.id, ANSWER, 0, note, &again, &e));
    for (size_t i = 0; i < ANSWER; i++) assert_true(again.logprob[i] == a.logprob[i]);
    assert_false(ern_session_score(other, a.id, 1, ERN_MAX_LOGPROBS + 1, note, &again, &e));
    assert_int_equal(e.code, ERN_ARG);
    again = (struct answer){ .stop_at = 2 };
    assert_false(ern_session_score(other, a.id, 5, 0, note, &again, &e));
    assert_int_equal(e.code, ERN_STOPPED);
    ern_session_close(s);
    ern_session_close(other);
}

/* ---- files -------------------------------------------------------------------------------------- */

static void load_must_fail(ern_session *s, const char *path, const void *bytes, size_t n, const char *what) {
    ern_err e = { 0 };
    assert_true(file_write(path, bytes, n, NULL));
    if (ern_session_load(s, path, &e)) fail_msg("a session file with %s was accepted", what);
    assert_true(e.code == ERN_FORMAT || e.code == ERN_LIMIT);
    assert_int_equal(ern_session_n_tokens(s), N_PROMPT);
    assert_non_null(ern_session_logits(s));
}

static void a_saved_session_goes_on(void **state) {
    (void)state;
    static struct answer a, b;
    static const char *const types[] = { "f16", "bf16", "f32", "q8", "q4" };
    char path[512];
    ern_result r;
    ern_err e = { 0 };
    const ern_sampling o = sampling(1.0f, 9);
    snprintf(path, sizeof path, "%s/session", folder);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        ern_session_options so = { .n_ctx = N_CTX, .kv_type = types[i] };
        ern_session *s = ern_session_open(eng, &so, &e), *other = ern_session_open(eng, &so, &e);
        if (!s || !other) fail_msg("%s: %s", types[i], e.text);
        assert_true(ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, &e));
        if (!ern_session_save(s, path, &e) || !ern_session_load(other, path, &e)) fail_msg("%s: %s", types[i], e.text);
        assert_int_equal(ern_session_n_tokens(other), N_PROMPT);
        assert_memory_equal(ern_session_tokens(other), prompt, sizeof prompt);
        generate(s, &o, &a, &r);
        generate(other, &o, &b, &r);
        assert_memory_equal(a.id, b.id, ANSWER * sizeof(int32_t));
        ern_session_close(s);
        ern_session_close(other);
    }
    unlink(path);
}

static void damaged_files_are_refused(void **state) {
    (void)state;
    char path[512];
    ern_buf good = { 0 };
    ern_err e = { 0 };
    ern_session *s = prompted(), *small = NULL, *empty = open_session();
    const ern_session_options few = { .n_ctx = 4 };
    snprintf(path, sizeof path, "%s/session", folder);
    assert_false(ern_session_save(empty, path, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_true(ern_session_save(s, path, NULL) && file_read(&good, path, (size_t)1 << 24, NULL));
    for (size_t n = 0; n < good.len; n += n < 100 ? 1 : 997) load_must_fail(s, path, good.data, n, "an end missing");
    char *bad = malloc(good.len + 1);
    for (size_t at = 0; at < 56 + 4 * N_PROMPT; at++)
        for (unsigned bit = 7; bit < 8; bit++) {        /* the sign of an id, a size far too large */
            memcpy(bad, good.data, good.len);
            bad[at] = (char)(bad[at] ^ (1 << bit));
            if (at >= 56 && (at - 56) % 4 < 2) continue;        /* another valid id */
            load_must_fail(s, path, bad, good.len, "a bit of its header changed");
        }
    memcpy(bad, good.data, good.len);
    bad[good.len] = 0;
    load_must_fail(s, path, bad, good.len + 1, "a byte too many");
    assert_true(file_write(path, good.data, good.len, NULL));
    assert_true(ern_session_load(s, path, NULL));
    assert_non_null(small = ern_session_open(eng, &few, NULL));
    assert_false(ern_session_load(small, path, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    unlink(path);
    assert_false(ern_session_load(s, path, &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
    free(bad);
    buf_deinit(&good);
    ern_session_close(small);
    ern_session_close(empty);
    ern_session_close(s);
}

/* ---- threads ------------------------------------------------------------------------------------ */

#define N_THREADS 4
struct worker { uint64_t seed; struct answer a; bool ok; };

static void *answer_alone(void *arg) {
    struct worker *w = arg;
    ern_result r;
    float vector[64];
    const ern_sampling o = sampling(1.0f, w->seed);
    ern_session *s = open_session();
    w->ok = ern_session_sync(s, prompt, N_PROMPT, NULL, NULL, NULL) && ern_session_generate(s, &o, note, &w->a, &r, NULL) &&
            ern_embed(eng, "", 0, NULL, vector, NULL) == false;         /* no tokens: an error, and no harm */
    ern_session_close(s);
    return NULL;
}

/* The same seed gives the same text, whatever else runs on the engine. */
static void threads_do_not_disturb_each_other(void **state) {
    (void)state;
    static struct worker alone[N_THREADS], together[N_THREADS];
    pthread_t threads[N_THREADS];
    for (size_t i = 0; i < N_THREADS; i++) {
        alone[i].seed = together[i].seed = i;
        answer_alone(&alone[i]);
        assert_true(alone[i].ok);
    }
    for (size_t i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, answer_alone, &together[i]), 0);
    for (size_t i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_true(together[i].ok);
        assert_memory_equal(together[i].a.id, alone[i].a.id, ANSWER * sizeof(int32_t));
    }
}

/* ---- opening ------------------------------------------------------------------------------------ */

static void bad_options_are_refused(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_engine_options o[4];
    for (size_t i = 0; i < 4; i++) ern_engine_defaults(&o[i]);
    o[0].max_batch = 0;
    o[1].max_batch = 5000;
    o[2].cpu = "z80";
    o[3].n_threads = 100000;
    for (size_t i = 0; i < 4; i++) {
        e.code = ERN_OK;
        assert_null(ern_engine_open(folder, &o[i], &e));
        assert_int_equal(e.code, ERN_ARG);
    }
    assert_null(ern_engine_open("/no/such/model", NULL, &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sync_keeps_what_is_shared), cmocka_unit_test(a_long_prompt_can_be_stopped_and_resumed),
        cmocka_unit_test(what_does_not_fit_is_refused), cmocka_unit_test(several_answers_share_a_prompt),
        cmocka_unit_test(an_answer_ends_for_a_reason), cmocka_unit_test(a_stop_text_ends_it_before_the_text),
        cmocka_unit_test(the_models_end_token_ends_it), cmocka_unit_test(scores_are_the_logprobs_of_an_answer),
        cmocka_unit_test(a_saved_session_goes_on), cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(threads_do_not_disturb_each_other), cmocka_unit_test(bad_options_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
