/* Many requests at once give, token for token, what each gives alone; the queue, cancelling, memory and known beginnings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/scheduler.h"
#include "reference.h"

#define MAX_OUT 64
#define N_CLIENTS 12

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t done;
    int32_t ids[4][MAX_OUT];
    size_t n[4], n_cached;
    bool is_over, has_failed;
    enum ern_code code;
    enum ern_finish finish;
} client;

static void client_init(client *c) {
    memset(c, 0, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->done, NULL);
}

static void on_event(void *ctx, const scheduler_event *ev) {
    client *c = ctx;
    pthread_mutex_lock(&c->lock);
    if (ev->kind == SCHEDULER_TOKEN && ev->token->id >= 0 && c->n[ev->index] < MAX_OUT)
        c->ids[ev->index][c->n[ev->index]++] = ev->token->id;
    if (ev->kind == SCHEDULER_DONE) c->finish = ev->result->finish;
    if (ev->kind == SCHEDULER_FAILED) { c->has_failed = true; c->code = ev->error->code; }
    c->n_cached = ev->n_cached;
    if (ev->is_last) { c->is_over = true; pthread_cond_signal(&c->done); }
    pthread_mutex_unlock(&c->lock);
}

static void wait_for(client *c) {
    pthread_mutex_lock(&c->lock);
    while (!c->is_over) pthread_cond_wait(&c->done, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

static ern_engine *open_model(const char *name) {
    char path[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(path, name)) { printf("SKIP: no %s\n", name); skip(); }
    const ern_engine_options o = { .n_threads = 2, .cpu = "auto", .max_batch = 64 };
    ern_engine *eng = ern_engine_open(path, &o, &e);
    if (!eng) fail_msg("%s", e.text);
    return eng;
}

static void prompt_of(int32_t *ids, size_t n, unsigned seed) {
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)((seed = seed * 1664525u + 1013904223u) >> 16) % 500 + 3;
}

static scheduler_request request_of(const ern_engine *eng, const int32_t *ids, size_t n, client *c) {
    scheduler_request r;
    scheduler_request_defaults(eng, &r);
    r.ids = ids;
    r.n_ids = n;
    r.sampling.temperature = 0.9f;
    r.sampling.top_p = 0.95f;
    r.sampling.max_tokens = 24;
    r.sampling.ignores_end = true;
    r.on_event = on_event;
    r.ctx = c;
    return r;
}

/* The same request by itself. */
static size_t alone(ern_engine *eng, const scheduler_request *r, int32_t *out) {
    const ern_session_options o = { .n_ctx = 2048, .kv_type = "f16" };
    ern_session *s = ern_session_open(eng, &o, NULL);
    assert_non_null(s);
    assert_true(ern_session_sync(s, r->ids, r->n_ids, NULL, NULL, NULL));
    assert_true(ern_session_generate(s, &r->sampling, NULL, NULL, NULL, NULL));
    const size_t n = ern_session_n_tokens(s) - r->n_ids;
    memcpy(out, ern_session_tokens(s) + r->n_ids, n * sizeof *out);
    ern_session_close(s);
    return n;
}

static ern_scheduler *open_scheduler(ern_engine *eng, size_t max_running, size_t max_kv_bytes, const char *folder) {
    const scheduler_options o = { .n_ctx = 2048, .kv_type = "f16", .max_running = max_running, .max_kv_bytes = max_kv_bytes,
                                  .prefill_rows = 16, .cache_folder = folder, .max_queue = 32 };
    ern_err e = { 0 };
    ern_scheduler *s = scheduler_open(eng, &o, &e);
    if (!s) fail_msg("%s", e.text);
    return s;
}

static void test_together_is_alone(void **state) {
    (void)state;
    static const char *const models[] = { "dense", "moe" };
    for (size_t m = 0; m < 2; m++) {
        ern_engine *eng = open_model(models[m]);
        ern_scheduler *s = open_scheduler(eng, 5, 0, NULL);
        static client c[N_CLIENTS];
        static int32_t ids[N_CLIENTS][700];
        scheduler_request r[N_CLIENTS];
        for (size_t i = 0; i < N_CLIENTS; i++) {
            const size_t n = i % 3 == 2 ? 700 : 10 + 13 * i;        /* short ones, and some longer than a page */
            client_init(&c[i]);
            prompt_of(ids[i], n, (unsigned)i / 2);                  /* pairs share their beginning */
            r[i] = request_of(eng, ids[i], n, &c[i]);
            r[i].sampling.seed = i;
            assert_true(scheduler_submit(s, &r[i], NULL) != 0);
        }
        for (size_t i = 0; i < N_CLIENTS; i++) {
            int32_t want[MAX_OUT];
            wait_for(&c[i]);
            assert_false(c[i].has_failed);
            assert_int_equal(c[i].n[0], alone(eng, &r[i], want));
            assert_memory_equal(c[i].ids[0], want, c[i].n[0] * sizeof *want);
        }
        const scheduler_stats st = scheduler_stats_of(s);
        assert_int_equal(st.n_done, N_CLIENTS);
        scheduler_close(s);
        ern_engine_close(eng);
    }
}

static void test_several_answers(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    ern_scheduler *s = open_scheduler(eng, 4, 0, NULL);
    client c;
    int32_t ids[600], want[MAX_OUT];
    client_init(&c);
    prompt_of(ids, 600, 1);
    scheduler_request r = request_of(eng, ids, 600, &c);
    r.n_answers = 4;
    r.sampling.seed = 40;
    assert_true(scheduler_submit(s, &r, NULL) != 0);
    wait_for(&c);
    assert_false(c.has_failed);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(c.n[i], alone(eng, &r, want));
        assert_memory_equal(c.ids[i], want, c.n[i] * sizeof *want);
        r.sampling.seed++;
    }
    ern_err e = { 0 };
    r.n_answers = 5;
    assert_true(scheduler_submit(s, &r, &e) == 0 && e.code == ERN_ARG);
    scheduler_close(s);
    ern_engine_close(eng);
}

/* The next turn starts from the last one's pages, and from files after a restart; another tenant starts from nothing. */
static void test_known_beginnings(void **state) {
    (void)state;
    char folder[] = "/tmp/ern_prefix_XXXXXX";
    assert_non_null(mkdtemp(folder));
    ern_engine *eng = open_model("dense");
    ern_scheduler *s = open_scheduler(eng, 2, 0, folder);
    client c[4];
    int32_t ids[1300], want[MAX_OUT];
    prompt_of(ids, 1300, 9);
    scheduler_request r = request_of(eng, ids, 1200, &c[0]);
    r.tenant = "a";
    for (size_t i = 0; i < 4; i++) {
        client_init(&c[i]);
        r.ctx = &c[i];
        if (i == 1) r.n_ids = 1300;
        if (i == 2) r.tenant = "b";
        if (i == 3) {
            scheduler_close(s);
            s = open_scheduler(eng, 2, 0, folder);
            r.tenant = "a";
        }
        assert_true(scheduler_submit(s, &r, NULL) != 0);
        wait_for(&c[i]);
        assert_false(c[i].has_failed);
        assert_int_equal(c[i].n[0], alone(eng, &r, want));
        assert_memory_equal(c[i].ids[0], want, c[i].n[0] * sizeof *want);
    }
    assert_int_equal(c[0].n_cached, 0);
    assert_true(c[1].n_cached >= 1200 && c[1].n_cached < 1300);
    assert_int_equal(c[2].n_cached, 0);
    assert_int_equal(c[3].n_cached, 1024);          /* whole pages come back */
    scheduler_close(s);
    ern_engine_close(eng);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void test_queue_and_cancel(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    ern_scheduler *s = open_scheduler(eng, 1, 0, NULL);
    static client c[40];
    int32_t ids[100];
    uint64_t tickets[40] = { 0 };
    ern_err e = { 0 };
    size_t n_taken = 0;
    prompt_of(ids, 100, 2);
    for (size_t i = 0; i < 40; i++) {
        client_init(&c[i]);
        scheduler_request r = request_of(eng, ids, 100, &c[i]);
        r.sampling.max_tokens = 1500;
        tickets[i] = scheduler_submit(s, &r, &e);
        n_taken += tickets[i] != 0;
    }
    assert_true(n_taken >= 32 && n_taken <= 33);            /* the queue, and the one that runs */
    assert_int_equal(e.code, ERN_BUSY);
    for (size_t i = 0; i < 40; i++) scheduler_cancel(s, tickets[i]);
    scheduler_cancel(s, 12345);
    for (size_t i = 0; i < 40; i++)
        if (tickets[i]) {
            wait_for(&c[i]);
            assert_true(c[i].has_failed && c[i].code == ERN_STOPPED);
        }
    assert_true(scheduler_drain(s, 10000));
    scheduler_request r = request_of(eng, ids, 100, &c[0]);
    assert_true(scheduler_submit(s, &r, &e) == 0 && e.code == ERN_BUSY);
    scheduler_close(s);
    ern_engine_close(eng);
}

/* Memory for a few pages: requests that do not fit beside others fail, the rest is right, and nothing leaks. */
static void test_memory_ceiling(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    ern_kv like;
    assert_true(kv_init(&like, &eng->model->c, 2048, DTYPE_F16, NULL));
    ern_scheduler *s = open_scheduler(eng, 4, 5 * like.page_bytes, NULL);
    kv_deinit(&like);
    static client c[6];
    static int32_t ids[6][1100];
    scheduler_request r[6];
    size_t n_failed = 0;
    for (size_t i = 0; i < 6; i++) {
        client_init(&c[i]);
        prompt_of(ids[i], 1100, 50 + (unsigned)i);
        r[i] = request_of(eng, ids[i], 1100, &c[i]);
        assert_true(scheduler_submit(s, &r[i], NULL) != 0);
    }
    for (size_t i = 0; i < 6; i++) {
        int32_t want[MAX_OUT];
        wait_for(&c[i]);
        if (c[i].has_failed) { assert_int_equal(c[i].code, ERN_LIMIT); n_failed++; continue; }
        assert_int_equal(c[i].n[0], alone(eng, &r[i], want));
        assert_memory_equal(c[i].ids[0], want, c[i].n[0] * sizeof *want);
    }
    assert_true(n_failed < 6);
    scheduler_close(s);
    ern_engine_close(eng);
}

static void test_refusals(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    ern_scheduler *s = open_scheduler(eng, 2, 0, NULL);
    int32_t ids[2048];
    ern_err e = { 0 };
    prompt_of(ids, 2048, 3);
    scheduler_request r = request_of(eng, ids, 2048, NULL);
    assert_true(scheduler_submit(s, &r, &e) == 0 && e.code == ERN_LIMIT);
    assert_non_null(strstr(e.text, "2048"));
    r.n_ids = 0;
    assert_true(scheduler_submit(s, &r, &e) == 0 && e.code == ERN_ARG);
    r.n_ids = 3;
    ids[1] = 100000;
    assert_true(scheduler_submit(s, &r, &e) == 0 && e.code == ERN_ARG);
    ids[1] = 5;
    r.sampling.temperature = -1.0f;
    assert_true(scheduler_submit(s, &r, &e) == 0 && e.code == ERN_ARG);
    scheduler_close(s);
    ern_engine_close(eng);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together_is_alone), cmocka_unit_test(test_several_answers),
            cmocka_unit_test(test_known_beginnings),
        cmocka_unit_test(test_queue_and_cancel), cmocka_unit_test(test_memory_ceiling), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
