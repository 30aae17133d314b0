/* The released models from their configs alone, against the published sizes; names and files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/plan.h"
#include "engine/presets.h"
#include "reference.h"

/* Parameters: exact where every tensor is known, published with a decimal for the largest; bytes of keys and values a token
 * in 16 bits: MODEL.md's table of sizes. */
static const struct { const char *name; double params, active, tolerance; size_t kv_bytes; } models[] = {
    { "ERNIE-4.5-0.3B", 360748032.0, 360748032.0, 0.0, 18432 },
    { "ERNIE-4.5-21B-A3B", 21.825e9, 3.352e9, 1e-3, 57344 },
    { "ERNIE-4.5-300B-A47B", 299.484e9, 47.08e9, 1e-4, 221184 },
    { "ERNIE-4.5-VL-28B-A3B", 29.40e9, 3.352e9, 1e-3, 57344 },
    { "ERNIE-4.5-VL-424B-A47B", 423.5e9, 47.08e9, 1e-3, 221184 },
    { "PaddleOCR-VL-0.9B", 0.906e9, 0.3607e9, 1e-3, 18432 },
};

static bool is_near(double found, double wanted, double tolerance) {
    return found >= wanted * (1.0 - tolerance) && found <= wanted * (1.0 + tolerance);
}

static void sizes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        plan_model m;
        plan_memory r;
        const plan_options o = { .weights = DTYPE_BF16, .k_type = DTYPE_F16, .v_type = DTYPE_F16, .n_ctx = 4096,
            .n_threads = 2, .max_batch = 256 };
        ern_err e = { 0 };
        if (!plan_model_read(&m, models[i].name, &e)) fail_msg("%s: %s", models[i].name, e.text);
        plan_memory_of(&m, &o, &r);
        if (!is_near((double)r.n_params, models[i].params, models[i].tolerance)) fail_msg("%s: %zu parameters",
            models[i].name, r.n_params);
        if (!is_near((double)r.n_active, models[i].active, models[i].tolerance)) fail_msg("%s: %zu active",
            models[i].name, r.n_active);
        assert_int_equal(r.kv_bytes, 4096 * models[i].kv_bytes);
        assert_true(is_near((double)r.weights_bytes, 2.0 * (double)r.n_params, 2e-3));
        assert_true(r.touched_bytes <= r.weights_bytes && is_near((double)r.touched_bytes, 2.0 * (double)r.n_active, 1e-2));
        assert_int_equal(r.total_bytes, r.weights_bytes + r.kv_bytes + r.scratch_bytes);
    }
}

/* Smaller types, smaller weights; routers and norms stay. */
static void types(void **state) {
    (void)state;
    static const enum ern_dtype falling[] = { DTYPE_F32, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q6_K, DTYPE_Q5_K, DTYPE_Q4_K,
        DTYPE_Q3_K, DTYPE_Q2_K };
    plan_model m;
    size_t before = SIZE_MAX;
    assert_true(plan_model_read(&m, "21B-A3B", NULL));
    for (size_t i = 0; i < sizeof falling / sizeof falling[0]; i++) {
        const plan_options o = { .weights = falling[i], .k_type = DTYPE_Q8_0, .v_type = DTYPE_Q4_0, .n_ctx = 1,
            .n_threads = 1, .max_batch = 1 };
        plan_memory r;
        plan_memory_of(&m, &o, &r);
        assert_true(r.weights_bytes < before);
        before = r.weights_bytes;
    }
}

static void names(void **state) {
    (void)state;
    static const char *const same[] = { "ERNIE-4.5-0.3B", "ernie-4.5-0.3b", "0.3B", "baidu/ERNIE-4.5-0.3B-PT",
        "baidu/ERNIE-4.5-0.3B-Paddle", "0.3B-Paddle" };
    static const char *const none[] = { "", "-PT", "ERNIE-4.5-", "0.3", "0.3B-Base-Base", "baidu/", "ERNIE-4.5-1B" };
    const ern_preset *p = presets_find(same[0]);
    assert_non_null(p);
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) assert_ptr_equal(presets_find(same[i]), p);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) assert_null(presets_find(none[i]));
    for (size_t i = 0; i < presets_n(); i++) assert_ptr_equal(presets_find(presets_at(i)->name), presets_at(i));
}

static void files(void **state) {
    (void)state;
    char path[REFERENCE_PATH];
    plan_model m;
    ern_err e = { 0 };
    if (!reference_find(path, "dense")) skip();
    assert_true(plan_model_read(&m, path, &e));
    assert_int_equal(config_n_params(&m.c), 162240);
    assert_false(plan_model_read(&m, "/nowhere", &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
    json_t *bad = json_pack("{s:s}", "model_type", "ernie4_5");
    assert_false(plan_model_from_json(&m, bad, "bad", &e));
    json_decref(bad);
    bad = json_array();
    assert_false(plan_model_from_json(&m, bad, "bad", &e));
    json_decref(bad);
    assert_false(plan_model_from_json(&m, NULL, "bad", &e));
}

static void speed(void **state) {
    (void)state;
    plan_model m;
    plan_memory r;
    plan_speed s;
    const plan_options o = { .weights = DTYPE_Q8_0, .k_type = DTYPE_F16, .v_type = DTYPE_F16, .n_ctx = 4096,
        .n_threads = 1, .max_batch = 1 };
    const probe_speed probe = { .decode_bytes = 1e9, .prefill_macs = 1e11 };
    assert_true(plan_model_read(&m, "0.3B", NULL));
    plan_memory_of(&m, &o, &r);
    plan_speed_of(&m, &r, &probe, 1e9, &s);
    assert_true(is_near(s.decode_start, 1e9 / (double)r.touched_bytes, 1e-9));
    assert_true(is_near(s.decode_full, 1e9 / (double)(r.touched_bytes + r.kv_bytes), 1e-9));
    /* 0.255 G multiply-adds a token in the layers, and attention */
    assert_true(s.prefill > 350.0 && s.prefill < 400.0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(sizes), cmocka_unit_test(types), cmocka_unit_test(names),
        cmocka_unit_test(files),
                                        cmocka_unit_test(speed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
