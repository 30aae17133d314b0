/* Random models: the spread of every type's weights, the same file from the same seed, models that run. */
#include "engine/synth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/test.h"
#include "engine/quantize.h"

#define SPREAD 0.02             /* what synth.h promises nothing about, but models need */
#define SPREAD_TOLERANCE 0.15   /* scales of sub-blocks are random too */

static const char config[] =
    "{\"model_type\": \"ernie4_5_moe\", \"hidden_size\": 256, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
    "\"num_key_value_heads\": 2, \"head_dim\": 64, \"intermediate_size\": 512, \"vocab_size\": 96, "
    "\"max_position_embeddings\": 64, \"rope_theta\": 10000.0, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true, "
    "\"moe_num_experts\": 4, \"moe_k\": 2, \"moe_intermediate_size\": 256, \"moe_num_shared_experts\": 1, "
    "\"moe_layer_start_index\": 1, \"moe_layer_end_index\": 1, \"moe_layer_interval\": 1}";

static char folder[] = "/tmp/ern_synth_test_XXXXXX";
static char config_path[64], a_path[64], b_path[64];

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(config_path, sizeof config_path, "%s/config.json", folder);
    snprintf(a_path, sizeof a_path, "%s/a.gguf", folder);
    snprintf(b_path, sizeof b_path, "%s/b.gguf", folder);
    return file_write(config_path, config, strlen(config), NULL) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(config_path);
    unlink(a_path);
    unlink(b_path);
    return rmdir(folder);
}

static void make(const char *type, const char *out, uint64_t seed, size_t n_threads) {
    char what[128];
    ern_err e = { 0 };
    const synth_options o = { .seed = seed, .n_threads = n_threads };
    snprintf(what, sizeof what, "%s:%s", config_path, type);
    if (!synth_model(what, out, &o, NULL, &e)) fail_msg("%s: %s", what, e.text);
}

static void check_spread(const char *path, const char *type) {
    ern_err e = { 0 };
    ern_gguf *g = gguf_open(path, &e);
    if (!g) fail_msg("%s: %s", type, e.text);
    size_t n_seen = 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const ern_view *v = gguf_tensor(g, i);
        if (v->n_dims < 2) continue;
        float *x = malloc(view_n(v) * sizeof *x);
        double sum = 0.0, squares = 0.0;
        assert_non_null(x);
        view_to_f32(v, x);
        for (size_t k = 0; k < view_n(v); k++) { sum += (double)x[k]; squares += (double)x[k] * (double)x[k]; }
        const double mean = sum / (double)view_n(v), spread = sqrt(squares / (double)view_n(v) - mean * mean);
        if (fabs(spread / SPREAD - 1.0) > SPREAD_TOLERANCE || fabs(mean) > 0.1 * SPREAD)
            fail_msg("%s %s (%s): mean %g, spread %g", type, v->name, dtype_info(v->dtype)->name, mean, spread);
        free(x);
        n_seen++;
    }
    assert_int_equal(n_seen, 1 + 2 * 4 + 3 + 1 + 3 + 3);
    gguf_close(g);
}

static void every_type_spreads_and_runs(void **state) {
    (void)state;
    const int32_t ids[] = { 5, 17, 60 };
    for (size_t i = 0; i < quantize_n_recipes(); i++) {
        const char *type = quantize_recipe_name(quantize_recipe_at(i));
        ern_err e = { 0 };
        make(type, a_path, 1, 1);
        check_spread(a_path, type);
        ern_engine *eng = ern_engine_open(a_path, &(ern_engine_options){ .n_threads = 1, .max_batch = 8 }, &e);
        ern_session *s = eng ? ern_session_open(eng, NULL, &e) : NULL;
        if (!s || !ern_session_sync(s, ids, 3, NULL, NULL, &e)) fail_msg("%s: %s", type, e.text);
        const float *logits = ern_session_logits(s);
        for (size_t k = 0; k < 96; k++) assert_true(isfinite(logits[k]));
        ern_session_close(s);
        ern_engine_close(eng);
    }
}

static void seeds_make_files(void **state) {
    (void)state;
    ern_buf a = { 0 }, b = { 0 };
    make("Q4_0", a_path, 7, 1);
    make("Q4_0", b_path, 7, 3);
    assert_true(file_read(&a, a_path, 1 << 24, NULL) && file_read(&b, b_path, 1 << 24, NULL));
    assert_true(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
    make("Q4_0", b_path, 8, 1);
    buf_clear(&b);
    assert_true(file_read(&b, b_path, 1 << 24, NULL));
    assert_true(a.len == b.len && memcmp(a.data, b.data, a.len) != 0);
    buf_deinit(&a);
    buf_deinit(&b);
}

static bool stop(void *ctx, size_t done, size_t total) {
    (void)ctx;
    assert_true(done <= total);
    return false;
}

static void refusals_leave_nothing(void **state) {
    (void)state;
    ern_err e = { 0 };
    const synth_options o = { .progress = stop, .n_threads = 1 };
    unlink(a_path);
    assert_false(synth_model("0.3B", a_path, &o, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_false(synth_model("0.3B:Q9_9", a_path, &o, NULL, &e));
    assert_false(synth_model("7B:Q8_0", a_path, &o, NULL, &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
    assert_false(synth_model("0.3B:Q4_0", a_path, &o, NULL, &e));
    assert_int_equal(e.code, ERN_STOPPED);
    assert_false(file_exists(a_path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_spreads_and_runs), cmocka_unit_test(seeds_make_files),
        cmocka_unit_test(refusals_leave_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
