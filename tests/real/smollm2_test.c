/* SmolLM2-135M-Instruct in 4 bits against what transformers and llama.cpp recorded: metadata, token ids, chat
 * template, logits, layers, next tokens, perplexity, talks. $ERNIE_SMOLLM2 names the GGUF file; without it every test is
 * skipped. */
#include "real.h"

/* Where the two best logits are nearer than this, rounded arithmetic may pick the other one (smollm2/README.md). */
#define MARGIN_8BIT 0.5
#define MARGIN_EXACT 0.05
#define PERPLEXITY_TOLERANCE 0.005      /* relative: the promise of the project */
#define LOGITS_TOLERANCE 2e-3           /* of the range; float32 sums in another order */
#define LAYER_TOLERANCE 2e-4            /* of the range */
#define NLL_TOLERANCE 2e-3              /* natural log, one token, float32 */

static const char *model;
static ern_engine *exact, *fast;
static json_t *cases;

static int open_all(void **state) {
    (void)state;
    if (!(model = real_model("ERNIE_SMOLLM2"))) return 0;
    cases = real_json("smollm2/cases.json");
    assert_non_null(cases);
    exact = real_engine(model, true);
    fast = real_engine(model, false);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    json_decref(cases);
    ern_engine_close(exact);
    ern_engine_close(fast);
    return 0;
}

/* ---- the file ---------------------------------------------------------------------------------- */

static void test_tensors(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    json_t *inspect = real_json("smollm2/inspect.json");
    const ern_gguf *g = source_gguf(exact->model->source);
    const json_t *list = json_object_get(inspect, "tensors"), *item;
    size_t i;
    assert_non_null(g);
    assert_int_equal(gguf_n_tensors(g), json_array_size(list));
    json_array_foreach(list, i, item) {
        const ern_view *v = gguf_find(g, json_string_value(json_object_get(item, "name")));
        const json_t *shape = json_object_get(item, "shape");
        assert_non_null(v);
        assert_string_equal(dtype_info(v->dtype)->name, json_string_value(json_object_get(item, "type")));
        assert_int_equal(v->size_bytes, json_integer_value(json_object_get(item, "bytes")));
        assert_int_equal(v->n_dims, json_array_size(shape));
        for (size_t d = 0; d < v->n_dims; d++)
            assert_int_equal(v->dims[v->n_dims - 1 - d], json_integer_value(json_array_get(shape, d)));
    }
    json_decref(inspect);
}

static void check_value(const ern_gguf *g, const char *key, const char *type, const json_t *want) {
    int64_t i = 0;
    double d = 0;
    bool b = false;
    if (strcmp(type, "STRING") == 0) {
        assert_non_null(gguf_str(g, key));
        assert_string_equal(gguf_str(g, key), json_string_value(want));
    } else if (strncmp(type, "ARRAY", 5) == 0) {
        const json_t *length = json_object_get(want, "length");
        assert_int_equal(gguf_array_n(g, key), length ? (size_t)json_integer_value(length) : json_array_size(want));
    } else if (strcmp(type, "BOOL") == 0) {
        assert_true(gguf_bool(g, key, &b));
        assert_true(b == json_is_true(want));
    } else if (strncmp(type, "FLOAT", 5) == 0) {
        assert_true(gguf_f64(g, key, &d));
        assert_true(d == json_real_value(want));
    } else {
        assert_true(gguf_i64(g, key, &i));
        assert_int_equal(i, json_integer_value(want));
    }
}

static void test_metadata(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    json_t *inspect = real_json("smollm2/inspect.json"), *item;
    const char *key;
    json_object_foreach(json_object_get(inspect, "metadata"), key, item)
        if (strncmp(key, "GGUF.", 5) != 0)
            check_value(source_gguf(exact->model->source), key, json_string_value(json_object_get(item, "type")),
                json_object_get(item, "value"));
    json_decref(inspect);
}

/* ---- text -------------------------------------------------------------------------------------- */

static void check_ids(const ern_tokens *got, const json_t *want, const char *text) {
    bool same = got->n == json_array_size(want);
    for (size_t i = 0; same && i < got->n; i++) same = got->id[i] == json_integer_value(json_array_get(want, i));
    if (!same) fail_msg("ids differ (%zu, %zu wanted) for: %s", got->n, json_array_size(want), text);
}

static void test_tokenizer(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(cases, "tokenizer"), i, item) {
        const json_t *text = json_object_get(item, "text");
        ern_err e = { 0 };
        ern_tokens t = { 0 };
        if (!ern_tokenize(exact, json_string_value(text), json_string_length(text), true, &t, &e)) fail_msg("%s", e.text);
        check_ids(&t, json_object_get(item, "ids"), json_string_value(text));
        char *decoded = ern_detokenize(exact, t.id, t.n, true, &e);
        assert_non_null(decoded);
        assert_string_equal(decoded, json_string_value(json_object_get(item, "decoded")));
        free(decoded);
        ern_tokens_free(&t);
    }
}

/* The recorded prompts let a user's "<|im_end|>" through; ours never do, so that one is compared as text only. */
static void test_chat_template(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(cases, "chat"), i, item) {
        ern_err e = { 0 };
        ern_tokens t = { 0 };
        const json_t *messages = json_object_get(item, "messages");
        const bool prompt = json_is_true(json_object_get(item, "add_generation_prompt"));
        char *text = json_dumps(messages, 0);
        assert_non_null(text);
        if (!ern_chat_tokens(exact, text, prompt, &t, &e)) fail_msg("%s", e.text);
        char *decoded = ern_detokenize(exact, t.id, t.n, true, &e);
        assert_non_null(decoded);
        assert_string_equal(decoded, json_string_value(json_object_get(item, "prompt")));
        if (strstr(text, "I type <|im_end|> myself")) assert_int_not_equal(t.n,
            json_array_size(json_object_get(item, "ids")));
        else check_ids(&t, json_object_get(item, "ids"), text);
        free(decoded);
        free(text);
        ern_tokens_free(&t);
    }
}

/* ---- numbers ----------------------------------------------------------------------------------- */

typedef struct {
    const json_t *answer, *margins;
    size_t n_prompt, n_checked, n_other;
    double margin, worst;           /* the largest margin at which another token was best */
} next_check;

static void see_next(void *ctx, size_t i, const float *logits, size_t V) {
    next_check *c = ctx;
    const size_t k = i + 1 - c->n_prompt;
    if (k >= json_array_size(c->answer) || k >= json_array_size(c->margins)) return;
    const double margin = json_number_value(json_array_get(c->margins, k));
    const bool same = real_best(logits, V) == (size_t)json_integer_value(json_array_get(c->answer, k));
    if (!same && margin > c->worst) c->worst = margin;
    if (!same) c->n_other++;
    if (margin >= c->margin) c->n_checked++;
}

static void run_answer(ern_engine *eng, const json_t *ids, next_check *c) {
    size_t n_prompt, n_answer;
    int32_t *prompt = real_ids(ids, &n_prompt), *answer = real_ids(c->answer, &n_answer);
    int32_t *all = malloc((n_prompt + n_answer) * sizeof *all);
    assert_non_null(all);
    memcpy(all, prompt, n_prompt * sizeof *all);
    memcpy(all + n_prompt, answer, n_answer * sizeof *all);
    c->n_prompt = n_prompt;
    real_run(eng, all, n_prompt + n_answer - 1, n_prompt - 1, "f32", NULL, NULL, see_next, c);
    free(all);
    free(prompt);
    free(answer);
}

/* Fed the recorded ids, the next id is the recorded one wherever the recorded margin is wide enough. */
static void check_next(ern_engine *eng, double margin, const char *name) {
    next_check c = { .margin = margin };
    const json_t *item, *turn;
    size_t i, k;
    json_array_foreach(json_object_get(cases, "prompts"), i, item) {
        c.answer = json_object_get(item, "greedy_ids");
        c.margins = json_object_get(item, "greedy_margins");
        run_answer(eng, json_object_get(item, "ids"), &c);
    }
    json_array_foreach(json_object_get(cases, "talks"), i, item)
        json_array_foreach(json_object_get(item, "turns"), k, turn) {
            c.answer = json_object_get(turn, "answer_ids");
            c.margins = json_object_get(turn, "margins");
            run_answer(eng, json_object_get(turn, "ids"), &c);
        }
    print_message("# next token, %s: %zu steps checked, another token at %zu steps, the widest margin of these %.3f\n",
        name, c.n_checked,
                  c.n_other, c.worst);
    assert_true(c.n_checked > 500);
    assert_true(c.worst < margin);
}

static void test_next_exact(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    check_next(exact, MARGIN_EXACT, "exact");
}

static void test_next_8bit(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    check_next(fast, MARGIN_8BIT, "8-bit activations");
}

typedef struct { const json_t *top20; double worst; const float *want; } logits_check;

static void see_logits(void *ctx, size_t i, const float *logits, size_t V) {
    logits_check *c = ctx;
    (void)i;
    const double top = json_number_value(json_array_get(json_array_get(c->top20, 0), 1));
    const double range = c->want ? 1 : 2 * fabs(top);
    for (size_t k = 0; k < json_array_size(c->top20); k++) {
        const json_t *pair = json_array_get(c->top20, k);
        const double d = fabs((double)logits[json_integer_value(json_array_get(pair,
            0))] - json_number_value(json_array_get(pair, 1))) / range;
        if (!(d <= c->worst)) c->worst = d;
    }
    if (c->want) c->worst = arrays_difference(logits, c->want, V);
}

static void test_logits(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    char path[REFERENCE_PATH];
    arrays a = { 0 };
    double worst = 0;
    const json_t *item;
    size_t i;
    assert_true(reference_find(path, "smollm2/expect.safetensors") && arrays_open(&a, path));
    json_array_foreach(json_object_get(cases, "prompts"), i, item) {
        char name[48];
        size_t n, shape[4];
        int32_t *ids = real_ids(json_object_get(item, "ids"), &n);
        snprintf(name, sizeof name, "prompt%zu.logits", i);
        const float *rows = arrays_f32(&a, name, shape, NULL);
        logits_check c = { .top20 = json_object_get(item, "top20"), .want = rows ? rows + (shape[0] - 1) * shape[1] : NULL };
        real_run(exact, ids, n, n - 1, "f32", NULL, NULL, see_logits, &c);
        if (!(c.worst <= worst)) worst = c.worst;
        free(ids);
    }
    print_message("# prompt logits, exact: largest difference %.2e of the range\n", worst);
    assert_true(worst <= LOGITS_TOLERANCE);
    arrays_close(&a);
}

typedef struct { const arrays *a; size_t n_tokens, n_seen; double worst; } layer_check;

/* The recorded file may hold the last rows only. */
static bool see_layer(void *ctx, const char *name, const void *data, bool is_int, size_t n_rows, size_t n_cols, ern_err *e) {
    layer_check *c = ctx;
    char key[96];
    size_t shape[4];
    (void)e;
    snprintf(key, sizeof key, "prompt1.%s", name);
    const float *want = is_int ? NULL : arrays_f32(c->a, key, shape, NULL);
    if (!want || n_rows != c->n_tokens || shape[1] != n_cols) return true;
    const double d = arrays_difference((const float *)data + (n_rows - shape[0]) * n_cols, want, shape[0] * n_cols);
    if (!(d <= c->worst)) c->worst = d;
    c->n_seen++;
    return true;
}

static void see_nothing(void *ctx, size_t i, const float *logits, size_t V) {
    (void)ctx, (void)i, (void)logits, (void)V;
}

static void test_layers(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    char path[REFERENCE_PATH];
    arrays a = { 0 };
    size_t n;
    assert_true(reference_find(path, "smollm2/expect.safetensors") && arrays_open(&a, path));
    int32_t *ids = real_ids(json_object_get(json_array_get(json_object_get(cases, "prompts"), 1), "ids"), &n);
    layer_check c = { .a = &a, .n_tokens = n };
    real_run(exact, ids, n, 0, "f32", see_layer, &c, see_nothing, NULL);
    print_message("# layers, exact: %zu arrays, largest difference %.2e of the range\n", c.n_seen, c.worst);
    assert_true(c.n_seen >= 32);
    assert_true(c.worst <= LAYER_TOLERANCE);
    free(ids);
    arrays_close(&a);
}

typedef struct { const int32_t *ids; size_t n; double sum, worst; const json_t *each; } nll_check;

static void see_nll(void *ctx, size_t i, const float *logits, size_t V) {
    nll_check *c = ctx;
    if (i + 1 >= c->n) return;
    const double nll = real_nll(logits, V, c->ids[i + 1]);
    c->sum += nll;
    if (!c->each) return;
    const double d = fabs(nll - json_number_value(json_array_get(c->each, i)));
    if (!(d <= c->worst)) c->worst = d;
}

static double perplexity(ern_engine *eng, const int32_t *ids, size_t n, size_t window, const json_t *each, double *worst) {
    nll_check c = { .each = each };
    size_t scored = 0;
    for (size_t from = 0; from < n; from += window) {
        c.ids = ids + from;
        c.n = n - from < window ? n - from : window;
        real_run(eng, c.ids, c.n, 0, each ? "f32" : "f16", NULL, NULL, see_nll, &c);
        scored += c.n - 1;
    }
    if (worst) *worst = c.worst;
    return exp(c.sum / (double)scored);
}

static void test_perplexity(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    const json_t *text = json_object_get(cases, "text");
    const double whole = json_number_value(json_object_get(text, "perplexity"));
    const double windows = json_number_value(json_object_get(text, "perplexity_windows_of_512"));
    size_t n;
    double worst;
    int32_t *ids = real_ids(json_object_get(text, "ids"), &n);
    const double e = perplexity(exact, ids, n, n, json_object_get(text, "nll_each"), &worst),
        f = perplexity(fast, ids, n, n, NULL, NULL);
    const double w = perplexity(fast, ids, n, 512, NULL, NULL);
    print_message("# perplexity %.4f wanted: exact %.4f (one token at most %.1e off), 8-bit %.4f; "
                  "windows of 512 %.4f wanted: 8-bit %.4f\n",
                  whole, e, worst, f, windows, w);
    assert_true(fabs(e / whole - 1) <= PERPLEXITY_TOLERANCE);
    assert_true(worst <= NLL_TOLERANCE);
    assert_true(fabs(f / whole - 1) <= PERPLEXITY_TOLERANCE);
    assert_true(fabs(w / windows - 1) <= PERPLEXITY_TOLERANCE);
    free(ids);
}

/* ---- answers ----------------------------------------------------------------------------------- */

static bool add_text(void *ctx, const ern_token_event *ev) {
    return buf_add(ctx, ev->text, ev->n_bytes, NULL);
}

/* A talk as a person holds it: greedy answers through the public header, each fed back. */
static void test_talks(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    const json_t *item, *turn;
    size_t i, k, n_whole = 0;
    json_array_foreach(json_object_get(cases, "talks"), i, item) {
        ern_session *s = real_session(exact, "f32", 512);
        json_array_foreach(json_object_get(item, "turns"), k, turn) {
            ern_err e = { 0 };
            ern_sampling o;
            ern_result r;
            size_t n, n_answer;
            ern_buf text = { .max = 1 << 16 };
            int32_t *ids = real_ids(json_object_get(turn, "ids"), &n),
                *answer = real_ids(json_object_get(turn, "answer_ids"), &n_answer);
            ern_sampling_defaults(exact, &o);
            o.temperature = 0;
            o.repetition_penalty = 1;
            o.max_tokens = n_answer;
            if (!ern_session_sync(s, ids, n, NULL, NULL, &e) || !ern_session_generate(s, &o, add_text, &text, &r,
                &e)) fail_msg("%s", e.text);
            const size_t steps = (size_t)json_integer_value(json_object_get(turn, "compare_steps"));
            for (size_t t = 0; t < steps && n + t < ern_session_n_tokens(s); t++)
                assert_int_equal(ern_session_tokens(s)[n + t], answer[t]);
            if (steps == n_answer) {
                assert_string_equal(text.data ? text.data : "", json_string_value(json_object_get(turn, "answer")));
                n_whole++;
            }
            free(ids);
            free(answer);
            buf_deinit(&text);
        }
        ern_session_close(s);
    }
    assert_true(n_whole >= 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors), cmocka_unit_test(test_metadata), cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_chat_template), cmocka_unit_test(test_logits), cmocka_unit_test(test_layers),
        cmocka_unit_test(test_next_exact), cmocka_unit_test(test_next_8bit), cmocka_unit_test(test_perplexity),
        cmocka_unit_test(test_talks),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
