/* Keys and values through the whole model: recorded logits, and the same bits however a sequence is cut up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/forward.h"
#include "arrays.h"
#include "reference.h"

#define N_OF(a) (sizeof(a) / sizeof *(a))
#define F32_TOLERANCE 2e-4      /* of the range: the engine's promise for its exact path */
#define MAX_IDS 4096

typedef struct { const char *name; double exact, fast; } kv_case;
/* Of the range of the logits; small models are rougher than large ones. fast: attention in bf16 or 8 bits. */
static const kv_case kv_cases[] = {
    { "f32", F32_TOLERANCE, F32_TOLERANCE }, { "f16", 1e-3, 1.5e-2 }, { "bf16", 8e-3, 1.5e-2 }, { "q8", 1e-2, 2e-2 },
    { "q8:f16", 1e-2, 2e-2 }, { "q4", 0.25, 0.25 }, { "f16:q4", 0.2, 0.2 },
};
static const char *const levels[] = { "scalar", "avx2", "avx512f", "avx512", "neon" };

typedef struct {
    ern_kernels k;
    ern_pool *pool;
    ern_model *m;
    ern_work *w;
    size_t V;
} model;

static bool model_load(model *x, const char *name, const char *level, size_t n_threads, bool is_exact) {
    char path[REFERENCE_PATH];
    unsigned mask;
    ern_err e = { 0 };
    if (!reference_find(path, name)) return false;
    assert_true(cpu_mask_from_name(&mask, level, &e));
    kernels_init(&x->k, mask);
    ern_source *s = source_open(path, &e);
    if (!s) fail_msg("%s", e.text);
    x->m = model_bind(s, &e);
    if (!x->m) fail_msg("%s", e.text);
    x->pool = pool_open(n_threads, &e);
    assert_non_null(x->pool);
    x->V = x->m->c.n_vocab;
    x->w = work_open(x->m, &x->k, x->pool, 256, MAX_IDS, is_exact, &e);
    if (!x->w) fail_msg("%s", e.text);
    return true;
}

static void model_free(model *x) {
    work_close(x->w);
    pool_close(x->pool);
    model_close(x->m);
}

static ern_kv context(const model *x, const char *types, size_t n) {
    ern_kv kv;
    enum ern_dtype k, v;
    ern_err e = { 0 };
    assert_true(kv_types_from_name(&k, &v, types, &e));
    if (!kv_init_types(&kv, &x->m->c, n, k, v, &e)) fail_msg("%s", e.text);
    return kv;
}

/* ids[from, from + n) into kv; logits of each. */
static void feed(const model *x, ern_kv *kv, const int32_t *ids, size_t from, size_t n, float *logits) {
    model_row rows[256];
    ern_err e = { 0 };
    for (size_t i = 0; i < n; i++)
        rows[i] = (model_row){ .id = ids[from + i], .pos = from + i, .kv = kv, .wants_logits = true };
    if (!model_forward(x->m, x->w, rows, n, logits, NULL, NULL, &e)) fail_msg("%s", e.text);
}

static bool expected(arrays *a, const char *name) {
    char path[REFERENCE_PATH], file[64];
    snprintf(file, sizeof file, "%s/expect.safetensors", name);
    return reference_find(path, file) && arrays_open(a, path);
}

static void recorded_logits(const char *name, const char *level, bool is_exact) {
    model x;
    arrays a;
    size_t n = 0, n_logits = 0;
    if (!expected(&a, name)) { printf("SKIP: no %s\n", name); skip(); }
    assert_true(model_load(&x, name, level, 2, is_exact));
    const int32_t *ids = arrays_i32(&a, "p0.ids", &n);
    const float *want = arrays_f32(&a, "p0.logits", NULL, &n_logits);
    assert_true(ids && want && n_logits == n * x.V && n <= 256);
    float *got = malloc(n_logits * sizeof *got);
    assert_non_null(got);
    for (size_t i = 0; i < N_OF(kv_cases); i++) {
        ern_kv kv = context(&x, kv_cases[i].name, n);
        feed(&x, &kv, ids, 0, n, got);
        const double d = arrays_difference(got, want, n_logits), limit = is_exact ? kv_cases[i].exact : kv_cases[i].fast;
        printf("    %s %s %s kv %s: %.2g of the range\n", name, level, is_exact ? "exact" : "fast", kv_cases[i].name, d);
        assert_true(d <= limit);
        kv_deinit(&kv);
    }
    free(got);
    model_free(&x);
    arrays_close(&a);
}

static void test_recorded(void **state) {
    (void)state;
    for (size_t i = 0; i < N_OF(levels); i++) {
        unsigned mask;
        assert_true(cpu_mask_from_name(&mask, levels[i], NULL));
        if (mask != 0 && !(cpu_flags() & mask)) continue;
        recorded_logits("dense", levels[i], true);
        recorded_logits("moe", levels[i], true);
    }
    recorded_logits("dense", "auto", false);
}

/* In one piece; token by token; in pieces; beside another sequence; on other numbers of threads. */
static void cut_up(const char *name, const char *types, bool is_exact) {
    model x, y;
    arrays a;
    size_t n = 0;
    if (!expected(&a, name)) { printf("SKIP: no %s\n", name); skip(); }
    assert_true(model_load(&x, name, "auto", 2, is_exact) && model_load(&y, name, "auto", 3, is_exact));
    const int32_t *ids = arrays_i32(&a, "p0.ids", &n);
    assert_true(ids && n <= 128);
    float *want = calloc(n * x.V, sizeof *want), *got = calloc(2 * n * x.V, sizeof *got);
    assert_true(want && got);
    ern_kv kv = context(&x, types, n), other = context(&x, types, n);
    feed(&x, &kv, ids, 0, n, want);
    for (size_t i = 0; i < n; i++) feed(&x, &kv, ids, i, 1, got + i * x.V);
    assert_memory_equal(got, want, n * x.V * sizeof *got);
    for (size_t i = 0; i < n; i += 7) feed(&y, &kv, ids, i, n - i < 7 ? n - i : 7, got + i * x.V);
    assert_memory_equal(got, want, n * x.V * sizeof *got);
    model_row rows[256];
    for (size_t i = 0; i < n; i++) {
        rows[i] = (model_row){ .id = ids[n - 1 - i], .pos = i, .kv = &other, .wants_logits = true };
        rows[n + i] = (model_row){ .id = ids[i], .pos = i, .kv = &kv, .wants_logits = true };
    }
    assert_true(model_forward(x.m, x.w, rows, 2 * n, got, NULL, NULL, NULL));
    assert_memory_equal(got + n * x.V, want, n * x.V * sizeof *got);
    free(want);
    free(got);
    kv_deinit(&kv);
    kv_deinit(&other);
    model_free(&x);
    model_free(&y);
    arrays_close(&a);
}

static void test_same_bits(void **state) {
    (void)state;
    static const char *const types[] = { "f32", "f16", "bf16", "q8", "q4" };
    for (size_t i = 0; i < N_OF(types); i++)
        for (int exact = 0; exact < 2; exact++) {
            cut_up("dense", types[i], exact);
            cut_up("moe", types[i], exact);
        }
}

static void test_copy(void **state) {
    (void)state;
    model x;
    arrays a;
    size_t n = 0;
    if (!expected(&a, "dense")) skip();
    assert_true(model_load(&x, "dense", "auto", 2, true));
    const int32_t *ids = arrays_i32(&a, "p0.ids", &n);
    float *want = calloc(n * x.V, sizeof *want), *got = calloc(x.V, sizeof *got);
    ern_kv kv = context(&x, "q8:f16", n), copy = context(&x, "q8:f16", n + 100);
    feed(&x, &kv, ids, 0, n, want);
    assert_true(kv_share(&copy, &kv, n - 1, NULL));
    assert_true(copy.pages[0] == kv.pages[0]);
    feed(&x, &copy, ids, n - 1, 1, got);
    assert_memory_equal(got, want + (n - 1) * x.V, x.V * sizeof *got);
    assert_true(copy.pages[0] != kv.pages[0]);      /* whoever writes gets his own */
    feed(&x, &kv, ids, n - 1, 1, got);
    assert_memory_equal(got, want + (n - 1) * x.V, x.V * sizeof *got);
    kv_deinit(&kv);
    kv_deinit(&copy);
    free(want);
    free(got);
    model_free(&x);
    arrays_close(&a);
}

static void test_names_and_sizes(void **state) {
    (void)state;
    enum ern_dtype k = DTYPE_I8, v = DTYPE_I8;
    ern_err e = { 0 };
    assert_true(kv_types_from_name(&k, &v, "q8:f16", &e) && k == DTYPE_Q8_0 && v == DTYPE_F16);
    assert_true(kv_types_from_name(&k, &v, "bf16", &e) && k == DTYPE_BF16 && v == DTYPE_BF16);
    static const char *const wrong[] = { "",           ":",   "q8:",  ":q8",
                                         "q8:f16:f16", "f64", "f16 ", "a very long name that is no type at all" };
    for (size_t i = 0; i < N_OF(wrong); i++) {
        assert_false(kv_types_from_name(&k, &v, wrong[i], &e));
        assert_true(k == DTYPE_BF16 && v == DTYPE_BF16 && e.code == ERN_ARG);
    }
    ern_config c = { .n_layers = 18, .n_heads = 16, .n_kv_heads = 2, .head_dim = 128 };
    assert_int_equal(kv_context_bytes(&c, 4096, DTYPE_F16, DTYPE_F16), (size_t)4096 * 18432);
    assert_int_equal(kv_context_bytes(&c, 1, DTYPE_F32, DTYPE_F32), (size_t)32 * 2 * 18432);
    assert_true(kv_context_bytes(&c, SIZE_MAX / 2, DTYPE_F16, DTYPE_F16) == SIZE_MAX);
    ern_kv kv = { 0 };
    assert_false(kv_init(&kv, &c, SIZE_MAX, DTYPE_F16, &e));
    assert_false(kv_init(&kv, &c, 0, DTYPE_F16, &e));
    c.head_dim = 4096;
    assert_false(kv_init(&kv, &c, 16, DTYPE_F16, &e));
    assert_null(kv.pages);
}

/* Sequences longer than a page, shared in the middle of one, under a ceiling. */
static void test_pages(void **state) {
    (void)state;
    model x;
    arrays a;
    size_t n_ids = 0;
    enum { N = 2 * KV_PAGE_TOKENS + 100, CUT = KV_PAGE_TOKENS + 37 };
    static int32_t ids[N];
    if (!expected(&a, "dense")) skip();
    assert_true(model_load(&x, "dense", "auto", 2, true));
    const int32_t *some = arrays_i32(&a, "p0.ids", &n_ids);
    for (size_t i = 0; i < N; i++) ids[i] = some[i % n_ids];
    float *want = calloc(256 * x.V, sizeof *want), *got = calloc(256 * x.V, sizeof *got);
    ern_kv kv = context(&x, "f16", N), other = context(&x, "f16", N);
    ern_err e = { 0 };
    ern_kv_pool *pool = kv_pool_open(5 * kv.page_bytes, NULL);
    kv.pool = other.pool = pool;
    for (size_t i = 0; i < N; i += 256) feed(&x, &kv, ids, i, N - i < 256 ? N - i : 256, want);
    assert_int_equal(kv_pool_used_bytes(pool), 3 * kv.page_bytes);
    assert_true(kv_share(&other, &kv, CUT, &e));
    assert_int_equal(kv_pool_used_bytes(pool), 3 * kv.page_bytes);
    for (size_t i = CUT; i < N; i += 200) feed(&x, &other, ids, i, N - i < 200 ? N - i : 200, got);
    assert_memory_equal(got + ((N - CUT) % 200 - 1) * x.V, want + (N % 256 - 1) * x.V, x.V * sizeof *got);
    assert_int_equal(kv_pool_used_bytes(pool), 5 * kv.page_bytes);
    ern_kv third = context(&x, "f16", N);
    third.pool = pool;
    assert_false(kv_reserve(&third, 0, 1, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    kv_truncate(&other, KV_PAGE_TOKENS);
    assert_true(kv_reserve(&third, 0, 1, &e));
    kv_deinit(&third);
    kv_deinit(&kv);
    kv_deinit(&other);
    assert_int_equal(kv_pool_used_bytes(pool), 0);
    kv_pool_close(pool);
    free(want);
    free(got);
    model_free(&x);
    arrays_close(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_sizes), cmocka_unit_test(test_recorded), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_copy), cmocka_unit_test(test_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
