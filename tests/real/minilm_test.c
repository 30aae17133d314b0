/* all-MiniLM-L6-v2 (ERNIE_MINILM: its folder): ids, layers, embeddings and rankings as recorded in reference/minilm. */
#include "real.h"

#define EMBEDDING 1e-4      /* of a unit vector; measured 3e-7 */
#define LAYER 2e-4          /* of an array's range */
#define SAME_SCORE 1e-4     /* neighbours in a ranking this close may change places */
#define WIDTH 384

static const char *model;

/* A text in it holds U+0000. */
static json_t *open_cases(void) {
    char path[REFERENCE_PATH];
    assert_true(reference_find(path, "minilm/cases.json"));
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(cases);
    return cases;
}

struct layers { const arrays *want; const char *sentence; size_t n; };

static bool check_layer(void *ctx, const char *name, const void *data, bool is_int, size_t n_rows, size_t n_cols,
                        ern_err *e) {
    struct layers *l = ctx;
    char full[64];
    size_t n;
    (void)is_int;
    (void)e;
    snprintf(full, sizeof full, "%s.%s", l->sentence, name);
    const float *want = arrays_f32(l->want, full, NULL, &n);
    if (!want) return true;         /* attn and ffn are not recorded */
    assert_true(n <= n_rows * n_cols);
    /* the copy in the repository keeps the last rows */
    const double d = arrays_difference((const float *)data + (n_rows * n_cols - n), want, n);
    if (!(d <= LAYER)) fail_msg("%s differs by %.2e of its range", full, d);
    l->n++;
    return true;
}

static void layers_of_three_sentences(void **state) {
    (void)state;
    static const char *const sentences[] = { "s0", "s32", "s47" };
    char path[REFERENCE_PATH];
    arrays want = { 0 };
    REAL_NEED(model, "ERNIE_MINILM is not set");
    assert_true(reference_find(path, "minilm/expect.safetensors") && arrays_open(&want, path));
    ern_engine *eng = real_engine(model, true);
    for (size_t i = 0; i < 3; i++) {
        struct layers l = { &want, sentences[i], 0 };
        char name[32];
        size_t n = 0;
        snprintf(name, sizeof name, "%s.ids", sentences[i]);
        const int32_t *ids = arrays_i32(&want, name, &n);
        float *hidden = malloc(n * WIDTH * sizeof *hidden);
        assert_true(engine_encode_ids(eng, ids, n, hidden, check_layer, &l, NULL));
        assert_int_equal(l.n, 7);
        free(hidden);
    }
    ern_engine_close(eng);
    arrays_close(&want);
}

static void embeddings_of_sixty_sentences(void **state) {
    (void)state;
    char path[REFERENCE_PATH];
    arrays want = { 0 };
    double worst = 0.0;
    size_t n = 0;
    REAL_NEED(model, "ERNIE_MINILM is not set");
    assert_true(reference_find(path, "minilm/expect.safetensors") && arrays_open(&want, path));
    const float *embeddings = arrays_f32(&want, "embeddings", NULL, &n);
    json_t *cases = open_cases();
    const json_t *sentences = json_object_get(cases, "sentences"), *used = json_object_get(cases, "tokens_used");
    ern_engine *eng = real_engine(model, false);
    assert_true(ern_engine_is_encoder(eng));
    assert_int_equal(ern_engine_n_embed(eng), WIDTH);
    for (size_t i = 0; i < n / WIDTH; i++) {
        float got[WIDTH];
        ern_err e = { 0 };
        ern_tokens ids = { 0 };
        const json_t *text = json_array_get(sentences, i);
        if (!ern_embed(eng, json_string_value(text), json_string_length(text), &ids, got, &e))
            fail_msg("sentence %zu: %s", i, e.text);
        assert_int_equal(ids.n, json_integer_value(json_array_get(used, i)));
        for (size_t k = 0; k < WIDTH; k++) {
            const double d = fabs((double)got[k] - (double)embeddings[i * WIDTH + k]);
            if (!(d <= worst)) worst = d;
        }
        ern_tokens_free(&ids);
    }
    print_message("%zu embeddings differ by %.1e at most\n", n / WIDTH, worst);
    assert_true(worst <= EMBEDDING);
    ern_engine_close(eng);
    json_decref(cases);
    arrays_close(&want);
}

static float score(const float *a, const float *b) {
    double sum = 0.0;
    for (size_t k = 0; k < WIDTH; k++) sum += (double)a[k] * (double)b[k];
    return (float)sum;
}

static void rankings_are_the_recorded_ones(void **state) {
    (void)state;
    size_t i, n_swapped = 0;
    json_t *item;
    REAL_NEED(model, "ERNIE_MINILM is not set");
    json_t *cases = open_cases();
    json_t *passages = json_object_get(cases, "passages"), *retrieval = json_object_get(cases, "retrieval");
    const size_t n = json_array_size(passages);
    float *vectors = malloc(n * WIDTH * sizeof *vectors);
    ern_engine *eng = real_engine(model, false);
    json_array_foreach(passages, i, item)
        assert_true(ern_embed(eng, json_string_value(item), json_string_length(item), NULL, vectors + i * WIDTH, NULL));
    json_array_foreach(retrieval, i, item) {
        const json_t *question = json_object_get(item, "question"), *ranking = json_object_get(item, "ranking");
        float q[WIDTH];
        assert_true(ern_embed(eng, json_string_value(question), json_string_length(question), NULL, q, NULL));
        for (size_t r = 0; r + 1 < n; r++) {
            const size_t a = (size_t)json_integer_value(json_array_get(ranking, r)),
                         b = (size_t)json_integer_value(json_array_get(ranking, r + 1));
            const float first = score(q, vectors + a * WIDTH), second = score(q, vectors + b * WIDTH);
            if (first < second && !(second - first < SAME_SCORE))
                fail_msg("question %zu: passages %zu and %zu change places", i, a, b);
            n_swapped += first < second;
        }
    }
    print_message("%zu rankings, %zu pairs within %g swapped\n", json_array_size(retrieval), n_swapped, SAME_SCORE);
    ern_engine_close(eng);
    free(vectors);
    json_decref(cases);
}

static void long_texts_in_windows(void **state) {
    (void)state;
    enum { REPEATS = 200 };
    REAL_NEED(model, "ERNIE_MINILM is not set");
    ern_engine *eng = real_engine(model, false);
    char text[REPEATS * 24 + 1] = "";
    float cut[WIDTH], whole[WIDTH], one[WIDTH], short_one[WIDTH];
    size_t n = 0;
    for (size_t i = 0; i < REPEATS; i++) memcpy(text + strlen(text), "the sun rises at six. ", 23);
    assert_true(ern_embed(eng, text, strlen(text), NULL, cut, NULL));
    assert_true(ern_embed_windows(eng, text, strlen(text), whole, &n, NULL));
    assert_true(n == (REPEATS * 6 + 253) / 254);
    assert_true(score(cut, whole) > 0.98f && fabsf(score(whole, whole) - 1.0f) < 1e-5f);
    assert_true(ern_embed_windows(eng, "a text", 6, one, &n, NULL) && ern_embed(eng, "a text", 6, NULL, short_one, NULL));
    assert_int_equal(n, 1);
    assert_memory_equal(one, short_one, sizeof one);
    ern_engine_close(eng);
}

static void an_encoder_cannot_write(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_tokens t = { 0 };
    REAL_NEED(model, "ERNIE_MINILM is not set");
    ern_engine *eng = real_engine(model, false);
    assert_null(ern_session_open(eng, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_non_null(strstr(e.text, "encoder"));
    assert_false(ern_chat_tokens(eng, "[]", true, &t, &e));
    assert_int_equal(e.code, ERN_ARG);
    ern_engine_close(eng);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_of_three_sentences),      cmocka_unit_test(embeddings_of_sixty_sentences),
        cmocka_unit_test(rankings_are_the_recorded_ones), cmocka_unit_test(long_texts_in_windows),
        cmocka_unit_test(an_encoder_cannot_write),
    };
    model = real_model("ERNIE_MINILM");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
