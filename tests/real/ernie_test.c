/* Real ERNIE weights, for the day they are at hand: $ERNIE_WEIGHTS names a folder or file of ERNIE-4.5-0.3B-Base
 * (tables
 * of the first four tests) or of another ERNIE 4.5 model (its sizes alone). What was recorded ran in float32 on the bf16
 * weights. */
#include "real.h"

#define LOGIT_TOLERANCE 5e-3            /* absolute; the values are printed with four decimals and range over 20 */
#define RESIDUAL_TOLERANCE 2e-3         /* of the value, and at least 2e-3 */
#define PROMPT "Large language model is"

static const char *model;
static ern_engine *eng;

static int open_all(void **state) {
    (void)state;
    if ((model = real_model("ERNIE_WEIGHTS"))) eng = real_engine(model, true);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    ern_engine_close(eng);
    return 0;
}

static bool is_03b(void) { return eng && eng->model->c.n_layers == 18 && eng->model->c.hidden == 1024; }

#define NEED_03B()                                                                        \
    do {                                                                                  \
        REAL_NEED(model, "ERNIE_WEIGHTS is not set");                                     \
        REAL_NEED(is_03b() ? model : NULL, "ERNIE_WEIGHTS is not the 0.3B model");        \
    } while (0)

static void prompt_ids(ern_tokens *t) {
    ern_err e = { 0 };
    if (!ern_tokenize(eng, PROMPT, sizeof PROMPT - 1, false, t, &e)) fail_msg("%s", e.text);
    assert_int_equal(t->id[t->n - 1], 357);
}

static void test_tokenizer(void **state) {
    (void)state;
    REAL_NEED(model, "ERNIE_WEIGHTS is not set");
    static const struct { const char *text; bool special; int32_t ids[64]; } lines[] = {
        { "The following string should be properly encoded: Hello.", false,
          { 700, 1997, 1530, 1189, 390, 10962, 20622, 93963, 30802, 93937 } },
        { "But ird and \u0e1b\u0e35   ird   \u0e14", false, { 2398, 93919, 2080, 326, 93919, 81175, 1111, 2080, 1111,
        95676 } },
        { "This is a test", false, { 1720, 357, 274, 1167 } },
        { "A sample test", false, { 93957, 3983, 1167 } },
        { "", false, { 0 } },
        { " ", false, { 93919 } },
        { "  ", false, { 269 } },
        { " Hello", false, { 30802 } },
        { "hello", false, { 18830 } },
        { "<s>", true, { 1 } },
        { "<s> Hello<s>how", true, { 1, 30802, 1, 7413 } },
        { " <s> Hello<s> how", true, { 93919, 1, 30802, 1, 1299 } },
        { "lekacy", false, { 17289, 3004 } },
        { "Hey<eos>. \t\t \n\nyou  \u00e9  @#\U0001f608  \U0001f917!       , 1234 15 5,61", false,
          { 25027, 93953, 92335, 6140, 93919, 22, 22, 93919, 23, 23, 5557, 269, 94039, 269, 94027, 93993, 253, 172,
              165, 149, 269, 253,
            172, 177, 164, 94018, 426, 1089, 93919, 4, 5, 6, 7, 93919, 4, 8, 93919, 8, 93938, 9, 4 } },
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        ern_err e = { 0 };
        ern_tokens t = { 0 };
        size_t n = 0;
        while (n < 64 && lines[i].ids[n]) n++;      /* no listed text holds id 0 */
        if (!ern_tokenize(eng, lines[i].text, strlen(lines[i].text), lines[i].special, &t, &e)) fail_msg("%s", e.text);
        if (t.n != n || (n && memcmp(t.id, lines[i].ids, n * sizeof *t.id) != 0)) fail_msg("ids differ for: %s",
            lines[i].text);
        ern_tokens_free(&t);
    }
    const int32_t ids[] = { 94014, 663 };
    char *text = ern_detokenize(eng, ids, 2, true, NULL);
    assert_non_null(text);
    assert_string_equal(text, "\u0627 .");
    free(text);
}

static void keep_logits(void *ctx, size_t i, const float *logits, size_t V) {
    (void)i;
    memcpy(ctx, logits, V * sizeof *logits);
}

static void test_first_logits(void **state) {
    (void)state;
    NEED_03B();
    static const struct { int32_t id; double logit; } want[] = {
        { 274, 17.9517 }, { 23432, 16.9848 }, { 1240, 16.9756 }, { 290, 16.8726 }, { 516, 16.7387 }, { 409, 16.6976 },
        { 318, 15.9934 }, { 1014, 15.8986 },
    };
    const size_t V = ern_engine_n_vocab(eng);
    ern_tokens t = { 0 };
    float *logits = malloc(V * sizeof *logits);
    assert_non_null(logits);
    prompt_ids(&t);
    real_run(eng, t.id, t.n, t.n - 1, "f32", NULL, NULL, keep_logits, logits);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        if (fabs((double)logits[want[i].id] - want[i].logit) > LOGIT_TOLERANCE)
            fail_msg("logit of %d: %.4f, %.4f wanted", (int)want[i].id, (double)logits[want[i].id], want[i].logit);
    }
    assert_int_equal(real_best(logits, V), 274);
    free(logits);
    ern_tokens_free(&t);
}

/* After k layers (0: the embedding; 18: after the final norm), the largest channels at the last token. */
typedef struct { int k, channel; double value; } residual;

static const residual residuals[] = {
    { 0, 899, .0375977 }, { 0, 386, .0327148 }, { 0, 691, .0308838 }, { 1, 729, .672161 }, { 1, 500, .338128 },
        { 1, 722, .320547 },
    { 2, 722, 1.103825 }, { 2, 677, .746171 }, { 2, 8, .586060 }, { 3, 722, 1.335774 }, { 3, 677, .948803 },
        { 4, 722, 1.784290 },
    { 4, 677, 1.070667 }, { 5, 722, 2.035334 }, { 5, 300, .849776 }, { 6, 722, 2.611524 }, { 6, 300, 1.599699 },
        { 7, 722, 2.683883 },
    { 7, 300, 2.331138 }, { 8, 722, 3.000610 }, { 9, 300, 4.414044 }, { 10, 300, 6.679950 }, { 10, 722, 4.288779 },
    { 11, 300, 9.183786 }, { 12, 300, 11.979458 }, { 13, 300, 17.234484 }, { 14, 300, 30.892979 }, { 14, 289, 3.465862 },
    { 15, 300, 37.960278 }, { 16, 300, 42.080368 }, { 17, 300, 47.699371 }, { 17, 722, 10.252076 }, { 18, 425, 60.813919 },
    { 18, 894, 51.337254 }, { 18, 613, 29.939849 },
};

static bool see_residual(void *ctx, const char *name, const void *data, bool is_int, size_t n_rows, size_t n_cols,
    ern_err *e) {
    size_t *n_seen = ctx;
    int k = -1;
    (void)is_int, (void)e;
    if (strcmp(name, "embed") == 0) k = 0;
    else if (strcmp(name, "norm") == 0) k = 18;
    else if (strstr(name, ".out") && sscanf(name, "layer.%d.out", &k) == 1) k = k == 17 ? -1 : k + 1;
    for (size_t i = 0; i < sizeof residuals / sizeof residuals[0]; i++) {
        if (residuals[i].k != k) continue;
        const double want = residuals[i].value;
        const double got = fabs((double)((const float *)data)[(n_rows - 1) * n_cols + (size_t)residuals[i].channel]);
        if (fabs(got - want) > RESIDUAL_TOLERANCE * fmax(1, want))
            fail_msg("after %d layers, channel %d: %g, %g wanted", k, residuals[i].channel, got, want);
        (*n_seen)++;
    }
    return true;
}

static void see_nothing(void *ctx, size_t i, const float *logits, size_t V) {
    (void)ctx, (void)i, (void)logits, (void)V;
}

static void test_residual_stream(void **state) {
    (void)state;
    NEED_03B();
    ern_tokens t = { 0 };
    size_t n_seen = 0;
    prompt_ids(&t);
    real_run(eng, t.id, t.n, t.n - 1, "f32", see_residual, &n_seen, see_nothing, NULL);
    assert_int_equal(n_seen, sizeof residuals / sizeof residuals[0]);
    ern_tokens_free(&t);
}

static bool add_text(void *ctx, const ern_token_event *ev) {
    return buf_add(ctx, ev->text, ev->n_bytes, NULL);
}

static void test_greedy_text(void **state) {
    (void)state;
    NEED_03B();
    ern_err e = { 0 };
    ern_tokens t = { 0 };
    ern_sampling o;
    ern_buf text = { .max = 1 << 16 };
    ern_session *s = real_session(eng, "f32", 128);
    prompt_ids(&t);
    ern_sampling_defaults(eng, &o);
    o.temperature = 0;
    o.max_tokens = 32;
    if (!ern_session_sync(s, t.id, t.n, NULL, NULL, &e) || !ern_session_generate(s, &o, add_text, &text, NULL,
        &e)) fail_msg("%s", e.text);
    assert_string_equal(text.data,
        " a type of deep learning model that is trained to recognize and generate text based on a large corpus of "
                                   "text data. It is a powerful tool for language processing and");
    buf_deinit(&text);
    ern_session_close(s);
    ern_tokens_free(&t);
}

/* Sizes follow from the shapes alone, so a config that was read wrongly shows here. */
static void test_parameter_count(void **state) {
    (void)state;
    REAL_NEED(model, "ERNIE_WEIGHTS is not set");
    static const struct { size_t n_layers, hidden; double billions; } sizes[] = {
        { 18, 1024, 0.361 }, { 28, 2560, 21.825 }, { 54, 8192, 299.484 },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (eng->model->c.n_layers == sizes[i].n_layers && eng->model->c.hidden == sizes[i].hidden)
            assert_true(fabs((double)config_n_params(&eng->model->c) / 1e9 / sizes[i].billions - 1) < 2e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer), cmocka_unit_test(test_first_logits), cmocka_unit_test(test_residual_stream),
        cmocka_unit_test(test_greedy_text), cmocka_unit_test(test_parameter_count),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
