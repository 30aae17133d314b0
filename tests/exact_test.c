/* The forward pass against what the official implementation computes: every array of every model in tests/reference, in
 * f32 and with 8-bit activations, and the same numbers bit for bit whatever way the tokens are fed.
 * Prints a table: the largest difference of each kind of array, divided by the array's range. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "base/test.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "model/forward_int.h"
#include "reference.h"

#define EXACT 2e-4              /* of an array's range, f32 against f32: sums in another order */
#define EIGHT_BITS 3e-2         /* activations rounded to 8 bits */
#define NLL 2e-4                /* mean negative log-likelihood, nats */
#define FAR_ANGLE 1e-2          /* at 131071 one unit in the last place of a frequency turns by that much */
#define FAR_POSITION 100000

static const char *const cpus[] = { "auto", "scalar", "avx2" };

static ern_engine *open_model(const char *name, bool is_exact, const char *cpu, size_t max_batch) {
    char path[REFERENCE_PATH];
    ern_engine_options o;
    ern_err e = { 0 };
    if (!reference_find(path, name)) {
        print_message("SKIP %s: not among the reference files\n", name);
        return NULL;
    }
    ern_engine_defaults(&o);
    o.is_exact = is_exact;
    o.cpu = cpu;
    o.n_threads = 2;
    o.max_batch = max_batch;
    ern_engine *eng = ern_engine_open(path, &o, &e);
    if (!eng) fail_msg("%s: %s", name, e.text);
    return eng;
}

static ern_session *open_session(ern_engine *eng, size_t n_ctx) {
    ern_session_options o;
    ern_err e = { 0 };
    ern_session_defaults(&o);
    o.n_ctx = n_ctx;
    o.kv_type = "f32";
    ern_session *s = ern_session_open(eng, &o, &e);
    if (!s) fail_msg("session: %s", e.text);
    return s;
}

static bool open_expect(arrays *a, const char *model, const char *file) {
    char path[REFERENCE_PATH], name[256];
    snprintf(name, sizeof name, "%s/%s", model, file);
    return reference_find(path, name) && arrays_open(a, path);
}

/* ---- every array of a forward pass -------------------------------------------------------------- */

struct checker {
    const char *model, *prompt;
    const arrays *want;
    double tolerance;
    double worst[16];
    size_t n_checked;
};

static const char *const kinds[] = { "embed", "attn", "ffn", "out", "probs", "weights", "norm", "logits" };

static size_t kind_of(const char *name) {
    const char *last = strrchr(name, '.');
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(last ? last + 1 : name, kinds[i]) == 0) return i;
    return 0;
}

static bool check_array(void *ctx, const char *name, const void *data, bool is_int, size_t n_rows, size_t n_cols,
                        ern_err *e) {
    struct checker *c = ctx;
    char full[128];
    size_t n = 0;
    (void)e;
    snprintf(full, sizeof full, "%s.%s", c->prompt, name);
    if (is_int) {
        const int32_t *want = arrays_i32(c->want, full, &n), *got = data;
        if (!want) fail_msg("%s: %s is not among the recorded arrays", c->model, full);
        assert_true(n <= n_rows * n_cols && n % n_cols == 0);
        for (size_t i = 0; i < n; i++)
            if (want[i] != got[i]) fail_msg("%s: %s[%zu] is %d, %d wanted", c->model, full, i, (int)got[i], (int)want[i]);
    } else {
        const float *want = arrays_f32(c->want, full, NULL, &n);
        if (!want) fail_msg("%s: %s is not among the recorded arrays", c->model, full);
        assert_true(n > 0 && n <= n_rows * n_cols &&
                    n % n_cols == 0); /* the copies in the repository are cut to some rows */
        const double d = arrays_difference(data, want, n);
        double *worst = &c->worst[kind_of(name)];
        if (!(d <= *worst)) *worst = d;
        if (!(d <= c->tolerance))
            fail_msg("%s: %s differs by %.2e of its range, %.0e allowed", c->model, full, d, c->tolerance);
    }
    c->n_checked++;
    return true;
}

/* All logits of ids[0..T) in one forward pass; free(). */
static float *forward_all(ern_engine *eng, const int32_t *ids, size_t T, trace_fn trace, void *ctx) {
    ern_kv kv;
    ern_err e = { 0 };
    model_row *rows = calloc(T, sizeof *rows);
    float *logits = malloc(T * eng->model->c.n_vocab * sizeof *logits);
    assert_true(kv_init(&kv, &eng->model->c, T, DTYPE_F32, &e));
    for (size_t t = 0; t < T; t++) rows[t] = (model_row){ .id = ids[t], .pos = t, .kv = &kv, .wants_logits = true };
    if (!engine_forward(eng, rows, T, logits, trace, ctx, &e)) fail_msg("forward: %s", e.text);
    kv_deinit(&kv);
    free(rows);
    return logits;
}

static const char *const models[] = { "dense", "dense_untied", "moe", "moe_noshared", "llama" };
#define N_MODELS (sizeof models / sizeof models[0])

static void every_array(void **state) {
    (void)state;
    print_message("%-14s %-7s", "model", "cpu");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) print_message(" %8s", kinds[i]);
    print_message("   arrays\n");
    for (size_t i = 0; i < N_MODELS; i++)
        for (size_t j = 0; j < sizeof cpus / sizeof cpus[0]; j++) {
            arrays want = { 0 };
            ern_engine *eng = open_model(models[i], true, cpus[j], 256);
            if (!eng) break;
            assert_true(open_expect(&want, models[i], "expect.safetensors"));
            struct checker c = { .model = models[i], .want = &want, .tolerance = EXACT };
            for (size_t p = 0; p < 2; p++) {
                char name[16];
                size_t T = 0;
                c.prompt = p ? "p1" : "p0";
                snprintf(name, sizeof name, "%s.ids", c.prompt);
                const int32_t *ids = arrays_i32(&want, name, &T);
                free(forward_all(eng, ids, T, check_array, &c));
            }
            const size_t per_layer = eng->model->c.n_experts ? 0 : 3 * eng->model->c.n_layers;
            assert_true(c.n_checked >= 2 * (3 + per_layer));
            print_message("%-14s %-7s", models[i], cpus[j]);
            for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) print_message(" %8.1e", c.worst[k]);
            print_message("   %zu\n", c.n_checked);
            arrays_close(&want);
            ern_engine_close(eng);
        }
}

/* ---- answers, long prompts, likelihoods --------------------------------------------------------- */

static bool collect(void *ctx, const ern_token_event *ev) {
    ern_tokens *t = ctx;
    if (ev->id >= 0) t->id[t->n++] = ev->id;
    return t->n < t->cap;
}

static void greedy_ids(void **state) {
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        arrays want = { 0 };
        size_t n_prompt = 0, n = 0;
        int32_t room[64];
        ern_tokens got = { .id = room, .cap = 64 };
        ern_sampling o = { .top_p = 1.0f, .repetition_penalty = 1.0f, .ignores_end = true };
        ern_engine *eng = open_model(models[i], true, "auto", 16);
        if (!eng) continue;
        assert_true(open_expect(&want, models[i], "expect.safetensors"));
        ern_session *s = open_session(eng, 128);
        const int32_t *prompt = arrays_i32(&want, "p0.ids", &n_prompt), *ids = arrays_i32(&want, "p0.greedy", &n);
        o.max_tokens = n;
        assert_true(ern_session_sync(s, prompt, n_prompt, NULL, NULL, NULL));
        assert_true(ern_session_generate(s, &o, collect, &got, NULL, NULL));
        assert_int_equal(got.n, n);
        for (size_t t = 0; t < n; t++)
            if (got.id[t] != ids[t])
                fail_msg("%s: greedy id %zu is %d, %d wanted", models[i], t, (int)got.id[t], (int)ids[t]);
        ern_session_close(s);
        arrays_close(&want);
        ern_engine_close(eng);
    }
}

static bool add_nll(void *ctx, const ern_token_event *ev) {
    double *sum = ctx;
    if (!isnan(ev->logprob)) *sum -= (double)ev->logprob;
    return true;
}

static void check_nll(ern_engine *eng, const char *model, const char *prompt, const int32_t *ids, size_t n) {
    char path[REFERENCE_PATH], name[256];
    double sum = 0.0;
    snprintf(name, sizeof name, "%s/expect.json", model);
    assert_true(reference_find(path, name));
    json_t *facts = json_load_file(path, 0, NULL);
    assert_non_null(facts);
    const json_t *want = json_object_get(json_object_get(facts, "mean_nll"), prompt);
    assert_true(json_is_number(want));
    ern_session *s = open_session(eng, n);
    assert_true(ern_session_score(s, ids, n, 0, add_nll, &sum, NULL));
    const double mean = sum / (double)(n - 1);
    if (!(fabs(mean - json_number_value(want)) <= NLL))
        fail_msg("%s: mean nll of %s is %.6f, %.6f wanted", model, prompt, mean, json_number_value(want));
    ern_session_close(s);
    json_decref(facts);
}

static void long_prompts_and_likelihoods(void **state) {
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        arrays want = { 0 };
        size_t n = 0, n_p1 = 0, n_logits = 0;
        ern_engine *eng = open_model(models[i], true, "auto", 100);
        if (!eng) continue;
        assert_true(open_expect(&want, models[i], "expect.safetensors"));
        const int32_t *ids = arrays_i32(&want, "long.ids", &n), *p1 = arrays_i32(&want, "p1.ids", &n_p1);
        const float *logits = arrays_f32(&want, "long.last_logits", NULL, &n_logits);
        ern_session *s = open_session(eng, n);
        assert_true(ern_session_sync(s, ids, n, NULL, NULL, NULL));
        assert_int_equal(n_logits, ern_engine_n_vocab(eng));
        const double d = arrays_difference(ern_session_logits(s), logits, n_logits);
        print_message("%-14s %zu tokens: last logits differ by %.1e\n", models[i], n, d);
        assert_true(d <= EXACT);
        check_nll(eng, models[i], "p1", p1, n_p1);
        check_nll(eng, models[i], "long", ids, n);
        ern_session_close(s);
        arrays_close(&want);
        ern_engine_close(eng);
    }
}

static void rotary_angles(void **state) {
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        arrays want = { 0 };
        size_t n = 0, shape[4];
        ern_engine *eng = open_model(models[i], true, "auto", 16);
        if (!eng) continue;
        assert_true(open_expect(&want, models[i], "expect.safetensors"));
        const int32_t *positions = arrays_i32(&want, "rope.positions", &n);
        const float *cos = arrays_f32(&want, "rope.cos", shape, NULL), *sin = arrays_f32(&want, "rope.sin", NULL, NULL);
        const size_t half = eng->model->c.head_dim / 2;
        assert_int_equal(shape[1], half);
        for (size_t p = 0; p < n; p++) {
            float cs[256];
            const double allowed = positions[p] > FAR_POSITION ? FAR_ANGLE : EXACT;
            rope_angles(cs, eng->model->inv_freq, half, (size_t)positions[p]);
            for (size_t k = 0; k < half; k++) {
                const double a = fabs((double)cs[k] - (double)cos[p * half + k]),
                             b = fabs((double)cs[half + k] - (double)sin[p * half + k]);
                if (!(a <= allowed && b <= allowed))
                    fail_msg("%s: position %d, pair %zu: %g %g", models[i], (int)positions[p], k, a, b);
            }
        }
        arrays_close(&want);
        ern_engine_close(eng);
    }
}

/* ---- the same weights in other files ------------------------------------------------------------ */

static float *logits_of(const char *name, bool is_exact, const int32_t *ids, size_t T, size_t *n) {
    ern_engine *eng = open_model(name, is_exact, "auto", 256);
    if (!eng) return NULL;
    *n = T * ern_engine_n_vocab(eng);
    float *logits = forward_all(eng, ids, T, NULL, NULL);
    ern_engine_close(eng);
    return logits;
}

static void layouts_agree_bit_for_bit(void **state) {
    (void)state;
    static const struct { const char *a, *b; } pairs[] = {
        { "dense", "dense_paddle" }, { "moe", "moe_paddle" }, { "moe_noshared", "moe_noshared_paddle" },
        { "dense", "dense.BF16.gguf" }, { "moe", "moe.BF16.gguf" }, { "moe_noshared", "moe_noshared.BF16.gguf" },
    };
    size_t n_same = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        arrays want = { 0 };
        size_t T = 0, n = 0, n_other = 0;
        assert_true(open_expect(&want, pairs[i].a, "expect.safetensors"));
        const int32_t *ids = arrays_i32(&want, "p1.ids", &T);
        float *a = logits_of(pairs[i].a, true, ids, T, &n), *b = logits_of(pairs[i].b, true, ids, T, &n_other);
        if (a && b) {
            assert_int_equal(n, n_other);
            if (memcmp(a, b, n * sizeof *a) != 0) fail_msg("%s and %s give different logits", pairs[i].a, pairs[i].b);
            n_same++;
        }
        free(a);
        free(b);
        arrays_close(&want);
    }
    print_message("%zu of %zu pairs of layouts there, all the same bits\n", n_same, sizeof pairs / sizeof pairs[0]);
}

/* Llama's rows of q and k are permuted in GGUF files: the sums are the same numbers in another order. */
static void llama_gguf_agrees(void **state) {
    (void)state;
    arrays want = { 0 };
    size_t T = 0, n = 0, n_want = 0;
    assert_true(open_expect(&want, "llama", "expect.safetensors"));
    const int32_t *ids = arrays_i32(&want, "p0.ids", &T);
    float *got = logits_of("llama.BF16.gguf", true, ids, T, &n);
    const float *logits = arrays_f32(&want, "p0.logits", NULL, &n_want);
    if (got) assert_true(arrays_difference(got, logits, n_want) <= EXACT);
    free(got);
    arrays_close(&want);
}

static void check_quantised(const char *model, const char *type, const float *want, size_t n_want, const int32_t *ids,
                            size_t T) {
    char name[256];
    size_t n = 0;
    double d[2];
    snprintf(name, sizeof name, "%s.%s.gguf", model, type);
    for (size_t eight = 0; eight < 2; eight++) {
        float *got = logits_of(name, eight == 0, ids, T, &n);
        if (!got) return;
        assert_true(n >= n_want);
        d[eight] = arrays_difference(got, want, n_want);
        free(got);
    }
    print_message("%-20s f32 %.1e, 8-bit activations %.1e\n", name, d[0], d[1]);
    if (!(d[0] <= EXACT)) fail_msg("%s: logits differ by %.2e with f32 activations", name, d[0]);
    if (!(d[1] <= EIGHT_BITS)) fail_msg("%s: logits differ by %.2e with 8-bit activations", name, d[1]);
}

static void quantised_files(void **state) {
    (void)state;
    static const char *const types[] = { "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1" };
    static const struct {
        const char *model, *type;
    } others[] = { { "llama", "Q8_0" }, { "moe", "Q4_0" }, { "moe", "Q8_0" } };
    arrays expect = { 0 }, ids_of = { 0 }, more = { 0 };
    char path[REFERENCE_PATH], name[256];
    size_t T = 0, n = 0;
    assert_true(open_expect(&expect, "dense", "expect_gguf.safetensors") &&
                open_expect(&ids_of, "dense", "expect.safetensors"));
    const int32_t *ids = arrays_i32(&ids_of, "p0.ids", &T);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        snprintf(name, sizeof name, "%s.p0.logits", types[i]);
        const float *want = arrays_f32(&expect, name, NULL, &n);
        if (want) check_quantised("dense", types[i], want, n, ids, T);
    }
    arrays_close(&ids_of);
    arrays_close(&expect);
    assert_true(reference_find(path, "gguf_logits.safetensors") && arrays_open(&more, path));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_true(open_expect(&ids_of, others[i].model, "expect.safetensors"));
        ids = arrays_i32(&ids_of, "p0.ids", &T);
        snprintf(name, sizeof name, "%s.%s.p0.logits", others[i].model, others[i].type);
        const float *want = arrays_f32(&more, name, NULL, &n);
        assert_non_null(want);
        check_quantised(others[i].model, others[i].type, want, n, ids, T);
        arrays_close(&ids_of);
    }
    arrays_close(&more);
}

/* Multi-token prediction tensors are left alone: the base of such a model is an ordinary one. */
static void base_of_an_mtp_model(void **state) {
    (void)state;
    static const char *const names[] = { "mtp", "mtp_paddle" };
    for (size_t i = 0; i < 2; i++) {
        arrays want = { 0 };
        size_t T = 0, n = 0, n_want = 0;
        if (!open_expect(&want, "mtp", "expect.safetensors")) {
            print_message("SKIP mtp: not among the reference files\n");
            return;
        }
        const int32_t *ids = arrays_i32(&want, "p1.ids", &T);
        float *got = logits_of(names[i], true, ids, T, &n);
        const float *logits = arrays_f32(&want, "p1.logits", NULL, &n_want);
        if (got) assert_true(arrays_difference(got, logits, n_want) <= EXACT);
        free(got);
        arrays_close(&want);
    }
}

/* ---- one answer, whatever way the tokens come --------------------------------------------------- */

static void same_logits(const ern_session *s, const float *want, const char *model, const char *how) {
    const float *got = ern_session_logits(s);
    const size_t V = ern_engine_n_vocab(s->eng);
    assert_non_null(got);
    for (size_t i = 0; i < V; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s, %s after %zu tokens: logit %zu is %.9g, %.9g wanted", model, how, s->n, i, (double)got[i],
                     (double)want[i]);
}

static void in_chunks(ern_session *s, const int32_t *ids, size_t T, const float *want, const char *model) {
    static const size_t sizes[] = { 1, 2, 3, 5, 7, 16, 31 };
    const size_t V = ern_engine_n_vocab(s->eng);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_true(ern_session_truncate(s, 0, NULL));
        for (size_t done = 0; done < T;) {
            const size_t n = sizes[i] < T - done ? sizes[i] : T - done;
            assert_true(ern_session_append(s, ids + done, n, NULL, NULL, NULL));
            done += n;
            same_logits(s, want + (done - 1) * V, model, sizes[i] == 1 ? "one by one" : "in chunks");
        }
    }
}

/* Several sessions of other lengths in the same forward passes. */
static void batched(ern_engine *eng, const int32_t *ids, size_t T, const float *want, const char *model) {
    enum { N = 4 };
    const size_t V = ern_engine_n_vocab(eng);
    ern_session *s[N];
    ern_err e = { 0 };
    ern_batch *b = batch_open(eng, N, &e);
    assert_non_null(b);
    for (size_t i = 0; i < N; i++) s[i] = open_session(eng, 64);
    for (size_t done[N] = { 0 }, round = 0; done[0] < T; round++) {
        batch_part parts[N];
        size_t n = 0;
        for (size_t i = 0; i < N; i++) {
            const size_t step = (round + i) % 3 + 1, left = T - done[i];
            if (left == 0) continue;
            parts[n++] = (batch_part){ s[i], ids + done[i], step < left ? step : left };
            done[i] += step < left ? step : left;
        }
        if (!batch_step(b, parts, n, &e)) fail_msg("batch: %s", e.text);
        for (size_t i = 0; i < n; i++) same_logits(parts[i].s, want + (parts[i].s->n - 1) * V, model, "batched");
    }
    for (size_t i = 0; i < N; i++) ern_session_close(s[i]);
    batch_close(b);
}

static void the_way_of_feeding_does_not_matter(void **state) {
    (void)state;
    static const char *const names[] = { "dense",           "dense_untied",    "moe",           "moe_noshared",   "llama",
                                         "dense.Q4_0.gguf", "dense.Q8_0.gguf", "moe.Q4_0.gguf", "llama.Q8_0.gguf" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (size_t exact = 0; exact < 2; exact++)
            for (size_t j = 0; j < sizeof cpus / sizeof cpus[0]; j++) {
                char folder[64];
                arrays a = { 0 };
                size_t T = 0;
                snprintf(folder, sizeof folder, "%.*s", (int)strcspn(names[i], "."), names[i]);
                ern_engine *eng = open_model(names[i], exact == 0, cpus[j], 64);
                if (!eng) break;
                assert_true(open_expect(&a, folder, "expect.safetensors"));
                const int32_t *ids = arrays_i32(&a, "p1.ids", &T);
                float *want = forward_all(eng, ids, T, NULL, NULL);
                ern_session *s = open_session(eng, 64);
                in_chunks(s, ids, T, want, names[i]);
                batched(eng, ids, T, want, names[i]);
                ern_session_close(s);
                free(want);
                arrays_close(&a);
                ern_engine_close(eng);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_array),
        cmocka_unit_test(greedy_ids),
        cmocka_unit_test(long_prompts_and_likelihoods),
        cmocka_unit_test(rotary_angles),
        cmocka_unit_test(layouts_agree_bit_for_bit),
        cmocka_unit_test(llama_gguf_agrees),
        cmocka_unit_test(quantised_files),
        cmocka_unit_test(base_of_an_mtp_model),
        cmocka_unit_test(the_way_of_feeding_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
