/* Speeds come out for every kind of case, limits fall with depth and rise with sequences, and what cannot be is refused. */
#include "base/test.h"

#include <stdio.h>

#include "engine/bench.h"
#include "reference.h"

static ern_engine *open_model(const char *name) {
    char path[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(path, name)) { printf("SKIP: no %s\n", name); skip(); }
    ern_engine *eng = ern_engine_open(path, &(ern_engine_options){ .n_threads = 2, .max_batch = 16 }, &e);
    if (!eng) fail_msg("%s", e.text);
    return eng;
}

static void test_speeds(void **state) {
    (void)state;
    ern_engine *eng = open_model("moe.Q8_0.gguf");
    static const bench_case cases[] = { { 8, 4, 0, 2, 0, false }, { 0, 4, 8, 1, 3, false }, { 8, 0, 5, 1, 1, true } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench_result r;
        assert_true(bench_run(eng, NULL, &cases[i], NULL, NULL, &r, NULL));
        assert_int_equal(r.prefill_median > 0.0, cases[i].n_prompt > 0);
        assert_int_equal(r.decode_median > 0.0, cases[i].n_answer > 0);
        assert_true(r.prefill_best >= r.prefill_median && r.decode_best >= r.decode_median);
    }
    ern_engine_close(eng);
}

static void test_refused(void **state) {
    (void)state;
    ern_engine *eng = open_model("dense");
    static const bench_case cases[] = { { 8, 4, 0, 0, 1, false }, { 8, 4, 0, 1, BENCH_MAX_BATCH + 1, false }, { 8, 4, 0, 1, 17, false },
                                        { 8, 4, (size_t)1 << 40, 1, 1, false } };
    bench_result r;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_err e = { 0 };
        assert_false(bench_run(eng, NULL, &cases[i], NULL, NULL, &r, &e));
        assert_true(e.code != ERN_OK);
    }
    ern_engine_close(eng);
}

static void test_limits(void **state) {
    (void)state;
    ern_engine *eng = open_model("moe.Q8_0.gguf");
    const bench_machine m = { .read_bytes_per_s = 1e9, .macs_per_s = 1e12, .unit = "test" };
    bench_limits near, far, many, unknown;
    bench_case c = { .n_prompt = 8, .n_answer = 4, .n_rounds = 1, .n_batch = 1 };
    assert_true(bench_limits_of(eng, "f16", &m, &c, &near, NULL));
    c.depth = 1000;
    assert_true(bench_limits_of(eng, "f16", &m, &c, &far, NULL));
    c.depth = 0;
    c.n_batch = 8;
    assert_true(bench_limits_of(eng, "f16", &m, &c, &many, NULL));
    assert_true(far.prefill > 0.0 && near.prefill > far.prefill);
    assert_true(far.decode > 0.0 && near.decode > far.decode);
    assert_true(many.decode > near.decode && many.decode < 8.0 * near.decode);      /* each token chooses its own experts */
    assert_true(bench_limits_of(eng, "f16", &(bench_machine){ 0 }, &c, &unknown, NULL));
    assert_true(unknown.prefill == 0.0 && unknown.decode == 0.0);
    assert_false(bench_limits_of(eng, "q7", &m, &c, &unknown, NULL));
    ern_engine_close(eng);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_speeds), cmocka_unit_test(test_refused), cmocka_unit_test(test_limits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
