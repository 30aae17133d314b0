/* Packed weights through the whole model: recorded logits within what 8-bit activations may cost, experts included, and the
 * same bits however a sequence is cut up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/matmul_panel.h"
#include "model/forward.h"
#include "arrays.h"
#include "reference.h"

#define N_OF(a) (sizeof(a) / sizeof *(a))
#define EXACT_TOLERANCE 2e-4        /* of the range of the logits: the promise of the f32 path */
#define PACKED_TOLERANCE 3e-2       /* the same with 8-bit activations */
#define BF16_TOLERANCE 1.5e-2       /* with bf16 activations */

static const char *const levels[] = { "scalar", "avx2", "avxvnni", "avx512f", "avx512", "neon", "dotprod", "i8mm", "auto" };

typedef struct { const char *model, *type, *expect, *logits; } pack_case;
static const pack_case cases[] = {
    { "dense", "F16", "dense/expect_gguf.safetensors", "F16.p0.logits" },
    { "dense", "BF16", "dense/expect_gguf.safetensors", "BF16.p0.logits" },
    { "dense", "Q8_0", "dense/expect_gguf.safetensors", "Q8_0.p0.logits" },
    { "dense", "Q4_0", "dense/expect_gguf.safetensors", "Q4_0.p0.logits" },
    { "dense", "Q4_1", "dense/expect_gguf.safetensors", "Q4_1.p0.logits" },
    { "dense", "Q5_0", "dense/expect_gguf.safetensors", "Q5_0.p0.logits" },
    { "dense", "Q5_1", "dense/expect_gguf.safetensors", "Q5_1.p0.logits" },
    { "moe", "Q8_0", "gguf_logits.safetensors", "moe.Q8_0.p0.logits" },
    { "moe", "Q4_0", "gguf_logits.safetensors", "moe.Q4_0.p0.logits" },
};

typedef struct { ern_kernels k; ern_pool *pool; ern_model *m; ern_work *w; size_t V; } model;

static bool load(model *x, const pack_case *c, const char *level, size_t n_threads, bool is_exact) {
    char path[REFERENCE_PATH], name[64];
    unsigned mask;
    ern_err e = { 0 };
    snprintf(name, sizeof name, "%s.%s.gguf", c->model, c->type);
    if (!reference_find(path, name)) return false;
    assert_true(cpu_mask_from_name(&mask, level, &e));
    kernels_init(&x->k, mask);
    ern_source *s = source_open(path, &e);
    if (!s || !(x->m = model_bind(s, &e)) || !(x->pool = pool_open(n_threads, &e)) ||
        (!is_exact && !model_pack(x->m, &x->k, x->pool, 0, &e)) || !(x->w = work_open(x->m, &x->k, x->pool, 64, 256, is_exact, &e)))
        fail_msg("%s", e.text);
    x->V = x->m->c.n_vocab;
    return true;
}

static void unload(model *x) {
    work_close(x->w);
    pool_close(x->pool);
    model_close(x->m);
}

static void feed(const model *x, ern_kv *kv, const int32_t *ids, size_t from, size_t n, float *logits) {
    model_row rows[64];
    ern_err e = { 0 };
    for (size_t i = 0; i < n; i++) rows[i] = (model_row){ .id = ids[from + i], .pos = from + i, .kv = kv, .wants_logits = true };
    if (!model_forward(x->m, x->w, rows, n, logits, NULL, NULL, &e)) fail_msg("%s", e.text);
}

static ern_kv context(const model *x, size_t n) {
    ern_kv kv;
    assert_true(kv_init_types(&kv, &x->m->c, n, DTYPE_F32, DTYPE_F32, NULL));
    return kv;
}

/* All at once against the recorded logits; then one by one, in threes and beside another sequence: the same bits. */
static void run_case(const pack_case *c, const char *level, bool is_exact, const int32_t *ids, size_t n, const float *want) {
    model x, y;
    if (!load(&x, c, level, 2, is_exact)) { printf("    SKIP: no %s.%s.gguf\n", c->model, c->type); return; }
    load(&y, c, level, 1, is_exact);
    float *got = malloc(n * x.V * sizeof *got), *again = malloc(2 * n * x.V * sizeof *again);
    assert_true(got && again);
    ern_kv kv = context(&x, n), other = context(&x, n);
    feed(&x, &kv, ids, 0, n, got);
    const double off = arrays_difference(got, want, n * x.V);
    const bool is_half = strcmp(c->type, "BF16") == 0 && x.k.panels && x.k.panels->to_bf16;
    const double limit = is_exact || (!x.m->packed && !is_half) ? EXACT_TOLERANCE : is_half ? BF16_TOLERANCE : PACKED_TOLERANCE;
    if (off > limit)
        fail_msg("%s.%s %s %s: %.2g of the range, at most %.2g wanted", c->model, c->type, level,
                 is_exact ? "exact" : "packed", off, limit);
    printf("    %s.%s %s %s: %.2g of the range\n", c->model, c->type, x.k.panels ? x.k.panels->name : level, is_exact ? "exact" : "packed", off);
    for (size_t i = 0; i < n; i++) feed(&y, &kv, ids, i, 1, again + i * x.V);
    assert_memory_equal(got, again, n * x.V * sizeof *got);
    for (size_t i = 0; i < n; i += 3) feed(&x, &kv, ids, i, n - i < 3 ? n - i : 3, again + i * x.V);
    assert_memory_equal(got, again, n * x.V * sizeof *got);
    model_row rows[64];
    for (size_t i = 0; i < n; i++) {
        rows[i] = (model_row){ .id = ids[n - 1 - i], .pos = i, .kv = &other, .wants_logits = true };
        rows[n + i] = (model_row){ .id = ids[i], .pos = i, .kv = &kv, .wants_logits = true };
    }
    assert_true(model_forward(x.m, x.w, rows, 2 * n, again, NULL, NULL, NULL));
    assert_memory_equal(got, again + n * x.V, n * x.V * sizeof *got);
    kv_deinit(&kv);
    kv_deinit(&other);
    free(got);
    free(again);
    unload(&x);
    unload(&y);
}

/* A model that does not fit is not packed: it gives what the exact path gives. */
static void test_streamed(void **state) {
    (void)state;
    static const pack_case c = { "moe", "Q4_0", NULL, NULL };
    static const int32_t ids[] = { 5, 77, 301, 12, 9 };
    enum { N = N_OF(ids) };
    char path[REFERENCE_PATH];
    model x, y;
    ern_err e = { 0 };
    if (!reference_find(path, "moe.Q4_0.gguf")) { printf("SKIP: no moe.Q4_0.gguf\n"); skip(); }
    assert_true(load(&x, &c, "auto", 2, true) && load(&y, &c, "auto", 2, true));
    assert_true(model_pack(x.m, &x.k, x.pool, 1, &e));
    assert_true(x.m->is_streamed && !x.m->packed && !y.m->is_streamed);
    float *streamed = malloc(N * x.V * sizeof *streamed), *exact = malloc(N * x.V * sizeof *exact);
    assert_true(streamed && exact);
    ern_kv a = context(&x, N), b = context(&y, N);
    feed(&x, &a, ids, 0, N, streamed);
    feed(&y, &b, ids, 0, N, exact);
    assert_memory_equal(streamed, exact, N * x.V * sizeof *exact);
    kv_deinit(&a);
    kv_deinit(&b);
    free(streamed);
    free(exact);
    unload(&x);
    unload(&y);
}

static void recorded(void **state) {
    (void)state;
    size_t n_run = 0;
    for (size_t i = 0; i < N_OF(cases); i++) {
        char path[REFERENCE_PATH], name[64];
        arrays expect, prompt;
        size_t n = 0;
        snprintf(name, sizeof name, "%s/expect.safetensors", cases[i].model);
        if (!reference_find(path, name) || !arrays_open(&prompt, path)) continue;
        if (!reference_find(path, cases[i].expect) || !arrays_open(&expect, path)) { arrays_close(&prompt); continue; }
        const int32_t *ids = arrays_i32(&prompt, "p0.ids", &n);
        const float *want = arrays_f32(&expect, cases[i].logits, NULL, NULL);
        assert_true(ids && want && n <= 32);
        run_case(&cases[i], "auto", true, ids, n, want);
        for (size_t l = 0; l < N_OF(levels); l++) {
            unsigned mask;
            assert_true(cpu_mask_from_name(&mask, levels[l], NULL));
            if (mask == 0 || (cpu_flags() & mask)) run_case(&cases[i], levels[l], false, ids, n, want);
        }
        n_run++;
        arrays_close(&expect);
        arrays_close(&prompt);
    }
    if (n_run == 0) skip();
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(recorded), cmocka_unit_test(test_streamed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
