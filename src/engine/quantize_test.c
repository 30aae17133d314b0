/* Quantised models against the models they come from: types, errors, importance, comparison. */
#include "engine/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/test.h"
#include "engine/compare.h"
#include "engine/imatrix.h"
#include "formats/safetensors_write.h"
#include "reference.h"
#include "tensor/quant.h"

/* KL of the tiny random models, whose logits are far from flat: bounds are three times what was measured. */
static const struct { const char *type; double kl; } bounds[] = {
    { "F32", 1e-9 }, { "BF16", 1e-3 }, { "Q8_0", 0.02 }, { "Q6_K", 0.03 }, { "Q5_K_M", 0.5 }, { "Q4_K_M", 1.5 },
    { "Q4_0", 2.0 }, { "MXFP4", 4.0 },
};

static char folder[] = "/tmp/ern_quantize_test_XXXXXX";

static int make_folder(void **state) { (void)state; return mkdtemp(folder) ? 0 : -1; }
static int remove_folder(void **state) {
    (void)state;
    char path[REFERENCE_PATH];
    static const char *const names[] = { "a.gguf", "b.gguf", "im.gguf", "im2.gguf" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);       /* fails when something was left behind */
}

static const char *in_folder(char path[REFERENCE_PATH], const char *name) {
    snprintf(path, REFERENCE_PATH, "%s/%s", folder, name);
    return path;
}

static void quantize(const char *in, const char *out, const quantize_options *o) {
    ern_err e = { 0 };
    if (!quantize_model(in, out, o, NULL, &e)) fail_msg("%s as %s: %s", in, o->type, e.text);
}

static ern_engine *open_exact(const char *path) {
    ern_engine_options o;
    ern_err e = { 0 };
    ern_engine_defaults(&o);
    o.is_exact = true;
    o.n_threads = 1;
    ern_engine *eng = ern_engine_open(path, &o, &e);
    if (!eng) fail_msg("%s: %s", path, e.text);
    return eng;
}

#define N_IDS 40
static void fill_ids(int32_t ids[N_IDS], size_t n_vocab) {
    for (size_t i = 0; i < N_IDS; i++) ids[i] = (int32_t)((i * 7919 + 13) % n_vocab);
}

static double kl_between(const char *a, const char *b) {
    ern_err e = { 0 };
    ern_engine *x = open_exact(a), *y = open_exact(b);
    const compare_options o = { .kv_type = "f32" };
    compare_result r;
    int32_t ids[N_IDS];
    fill_ids(ids, ern_engine_n_vocab(x));
    if (!compare_run(x, y, ids, N_IDS, &o, &r, &e)) fail_msg("%s", e.text);
    assert_int_equal(r.n_compared, N_IDS - 1);
    assert_true(r.kl_median <= r.kl_99 && r.kl_99 <= r.kl_max && r.kl_mean <= r.kl_max);
    ern_engine_close(x);
    ern_engine_close(y);
    return r.kl_mean;
}

static const char *const models[] = { "dense", "moe", "moe_noshared" };

static void every_type_stays_near_its_source(void **state) {
    (void)state;
    size_t n_seen = 0;
    for (size_t m = 0; m < 3; m++) {
        char in[REFERENCE_PATH], out[REFERENCE_PATH];
        if (!reference_find(in, models[m])) continue;
        n_seen++;
        for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
            const quantize_options o = { .type = bounds[i].type, .n_threads = 1 };
            quantize(in, in_folder(out, "a.gguf"), &o);
            const double kl = kl_between(in, out);
            if (!(kl <= bounds[i].kl)) fail_msg("%s as %s: KL %g, at most %g", models[m], bounds[i].type, kl, bounds[i].kl);
        }
    }
    if (n_seen == 0) skip();
}

static enum ern_dtype type_in(const char *path, const char *name) {
    ern_err e = { 0 };
    ern_gguf *g = gguf_open(path, &e);
    if (!g) fail_msg("%s", e.text);
    const ern_view *v = gguf_find(g, name);
    if (!v) fail_msg("%s: no tensor %s", path, name);
    const enum ern_dtype t = v->dtype;
    gguf_close(g);
    return t;
}

static void overrides_and_what_stays_f32(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(in, "moe")) skip();
    const char *const types[] = { "ffn_down_exps=q5_1", "blk.1.attn_?.weight=F16" }, *const none[] = { "attn_z=Q8_0" };
    const quantize_options o = { .type = "q4_0", .overrides = types, .n_overrides = 2, .keeps_output = true };
    quantize(in, in_folder(out, "a.gguf"), &o);
    assert_int_equal(type_in(out, "blk.1.ffn_down_exps.weight"), DTYPE_Q5_1);
    assert_int_equal(type_in(out, "blk.1.attn_q.weight"), DTYPE_F16);
    assert_int_equal(type_in(out, "blk.0.attn_q.weight"), DTYPE_Q4_0);
    assert_int_equal(type_in(out, "blk.0.attn_v.weight"), DTYPE_Q8_0);
    assert_int_equal(type_in(out, "blk.1.ffn_gate_inp.weight"), DTYPE_F32);
    assert_int_equal(type_in(out, "blk.1.exp_probs_b.bias"), DTYPE_F32);
    assert_int_equal(type_in(out, "output_norm.weight"), DTYPE_F32);
    assert_int_equal(type_in(out, "token_embd.weight"), DTYPE_BF16);
    const quantize_options wrong = { .type = "Q4_0", .overrides = none, .n_overrides = 1 };
    assert_false(quantize_model(in, in_folder(out, "b.gguf"), &wrong, NULL, &e));
    assert_non_null(strstr(e.text, "attn_z"));
    assert_false(file_exists(out));
    const quantize_options unknown = { .type = "Q9_9" };
    assert_false(quantize_model(in, out, &unknown, NULL, &e));
    assert_non_null(strstr(e.text, "Q4_K_M"));
}

static void mixes_and_fallbacks(void **state) {
    (void)state;
    const ern_config dense = { .n_layers = 16, .n_heads = 16, .n_kv_heads = 2 };
    const struct { const char *type, *name; enum ern_dtype wanted; } cases[] = {
        { "Q4_K_M", "blk.0.attn_v.weight", DTYPE_Q6_K },     { "Q4_K_M", "blk.2.ffn_down.weight", DTYPE_Q4_K },
        { "Q4_K_M", "blk.4.ffn_down.weight", DTYPE_Q6_K },   { "Q4_K_M", "blk.15.attn_v.weight", DTYPE_Q6_K },
        { "Q4_K_M", "blk.0.ffn_up.weight", DTYPE_Q4_K },     { "Q4_K_M", "output.weight", DTYPE_Q6_K },
        { "Q4_K_M", "token_embd.weight", DTYPE_Q4_K },       { "Q3_K_M", "blk.1.attn_v.weight", DTYPE_Q5_K },
        { "Q3_K_M", "blk.2.attn_output.weight", DTYPE_Q4_K }, { "Q2_K", "blk.9.attn_v.weight", DTYPE_Q4_K },
        { "Q2_K", "blk.9.ffn_gate.weight", DTYPE_Q2_K },     { "IQ4_XS", "blk.1.ffn_down.weight", DTYPE_Q5_K },
        { "Q8_0", "output.weight", DTYPE_Q8_0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const quantize_recipe *r = quantize_recipe_find(cases[i].type);
        const enum ern_dtype t = quantize_type_of(r, &dense, false, false, cases[i].name);
        if (t != cases[i].wanted)
            fail_msg("%s %s: %s, %s wanted", cases[i].type, cases[i].name, dtype_info(t)->name,
                     dtype_info(cases[i].wanted)->name);
    }
    assert_int_equal(quantize_type_of(quantize_recipe_find("Q4_K_M"), &dense, true, false, "token_embd.weight"), DTYPE_Q6_K);
    assert_int_equal(quantize_fallback(DTYPE_Q4_K, 576), DTYPE_Q5_0);
    assert_int_equal(quantize_fallback(DTYPE_Q4_K, 512), DTYPE_Q4_K);
    assert_int_equal(quantize_fallback(DTYPE_Q4_0, 72), DTYPE_F16);
    for (size_t i = 0; i < quantize_n_recipes(); i++)
        assert_ptr_equal(quantize_recipe_find(quantize_recipe_name(quantize_recipe_at(i))), quantize_recipe_at(i));
}

static ern_imatrix *collect(const char *model, const imatrix_options *o, size_t n, ern_err *e) {
    ern_engine *eng = open_exact(model);
    int32_t ids[N_IDS];
    fill_ids(ids, ern_engine_n_vocab(eng));
    ern_imatrix *m = imatrix_collect(eng, ids, n, o, e);
    ern_engine_close(eng);
    return m;
}

static bool stop_at_third(void *ctx, size_t done, size_t total) {
    (void)total;
    return done < *(size_t *)ctx;
}

static void importance_survives_files_and_stops(void **state) {
    (void)state;
    char in[REFERENCE_PATH], path[REFERENCE_PATH], other[REFERENCE_PATH];
    ern_err e = { 0 };
    size_t stop = 16, n_resumed = 0, n_mats, n_cols, n_seen = 0;
    if (!reference_find(in, "moe")) skip();
    in_folder(path, "im.gguf");
    imatrix_options o = { .chunk = 8, .dataset = "x", .save_path = path, .save_every_s = 1e9, .resumes = true,
                          .n_resumed = &n_resumed };
    ern_imatrix *whole = collect(in, &o, N_IDS, &e);
    if (!whole) fail_msg("%s", e.text);
    assert_int_equal(n_resumed, 0);
    assert_int_equal(imatrix_n_chunks(whole), 5);
    o.save_path = in_folder(other, "im2.gguf");
    o.progress = stop_at_third;
    o.ctx = &stop;
    assert_null(collect(in, &o, N_IDS, &e));
    assert_int_equal(e.code, ERN_STOPPED);
    o.progress = NULL;
    ern_imatrix *resumed = collect(in, &o, N_IDS, &e), *back = imatrix_read(path, &e);
    if (!resumed || !back) fail_msg("%s", e.text);
    assert_int_equal(n_resumed, 2);
    assert_string_equal(imatrix_dataset(back), "x");
    assert_int_equal(imatrix_n(back), imatrix_n(whole));
    assert_true(imatrix_shape(back, "blk.1.ffn_down_exps.weight", &n_mats, &n_cols));
    assert_int_equal(n_mats, 8);
    for (size_t x = 0; x < n_mats; x++) {
        const float *a = imatrix_mean(whole, "blk.1.ffn_down_exps.weight", x, n_cols);
        const float *b = imatrix_mean(resumed, "blk.1.ffn_down_exps.weight", x, n_cols);
        const float *c = imatrix_mean(back, "blk.1.ffn_down_exps.weight", x, n_cols);
        assert_true(!a == !b && !a == !c);
        n_seen += a != NULL;
        for (size_t i = 0; a && i < n_cols; i++) {
            assert_true(fabsf(a[i] - b[i]) <= 1e-5f * a[i]);
            assert_true(fabsf(a[i] - c[i]) <= 1e-5f * a[i]);
        }
    }
    assert_true(n_seen > 1);
    assert_null(imatrix_mean(back, "blk.1.ffn_down_exps.weight", 0, n_cols + 1));
    imatrix_close(whole);
    imatrix_close(resumed);
    imatrix_close(back);
}

/* The first layer's queries see norm(embedding): what the file holds is recomputed from the model's own tensors. */
static void importance_is_the_mean_square(void **state) {
    (void)state;
    char in[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(in, "dense")) skip();
    const imatrix_options o = { .chunk = N_IDS };
    ern_imatrix *m = collect(in, &o, N_IDS, &e);
    if (!m) fail_msg("%s", e.text);
    ern_source *s = source_open(in, &e);
    const ern_view *table = source_find(s, "model.embed_tokens.weight");
    const ern_view *norm = source_find(s, "model.layers.0.input_layernorm.weight");
    const size_t D = table->dims[1];
    float *x = malloc(view_n(table) * sizeof *x), *g = malloc(D * sizeof *g);
    double *sums = calloc(D, sizeof *sums);
    int32_t ids[N_IDS];
    ern_config c;
    assert_true(x && g && sums && config_read(&c, s, &e));
    view_to_f32(table, x);
    view_to_f32(norm, g);
    fill_ids(ids, table->dims[0]);
    for (size_t t = 0; t < N_IDS; t++) {
        const float *row = x + (size_t)ids[t] * D;
        double square = 0.0;
        for (size_t i = 0; i < D; i++) square += (double)row[i] * (double)row[i];
        for (size_t i = 0; i < D; i++) {
            const double h = (double)row[i] / sqrt(square / (double)D + (double)c.norm_eps) * (double)g[i];
            sums[i] += h * h / N_IDS;
        }
    }
    const float *got = imatrix_mean(m, "blk.0.attn_q.weight", 0, D);
    assert_non_null(got);
    for (size_t i = 0; i < D; i++) assert_true(fabs((double)got[i] - sums[i]) <= 1e-4 * (sums[i] + 1e-6));
    free(x);
    free(g);
    free(sums);
    source_close(s);
    imatrix_close(m);
}

static void importance_lowers_the_divergence(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH], im[REFERENCE_PATH], wrong[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(in, "dense") || !reference_find(wrong, "moe")) skip();
    const imatrix_options io = { .chunk = N_IDS, .save_path = in_folder(im, "im.gguf"), .save_every_s = 1e9 };
    ern_imatrix *m = collect(in, &io, N_IDS, &e);
    if (!m) fail_msg("%s", e.text);
    imatrix_close(m);
    const quantize_options plain = { .type = "Q4_0" }, weighted = { .type = "Q4_0", .imatrix = im };
    quantize(in, in_folder(out, "a.gguf"), &plain);
    const double without = kl_between(in, out);
    quantize(in, out, &weighted);
    const double with = kl_between(in, out);
    if (!(with < without)) fail_msg("KL %g with importance, %g without", with, without);
    assert_false(quantize_model(in, out, &(quantize_options){ .type = "Q4_0", .imatrix = in }, NULL, &e));
    if (strcmp(wrong, in) != 0 && !quantize_model(wrong, in_folder(out, "b.gguf"), &weighted, NULL, &e))
        assert_non_null(strstr(e.text, "another model"));
}

static void only_like_vocabularies_compare(void **state) {
    (void)state;
    char a[REFERENCE_PATH], b[REFERENCE_PATH];
    ern_err e = { 0 };
    compare_result r;
    const compare_options o = { 0 };
    const int32_t ids[] = { 1, 2, 3 };
    if (!reference_find(a, "dense") || !reference_find(b, "llama")) skip();
    ern_engine *x = open_exact(a), *y = open_exact(b);
    assert_false(compare_run(x, x, ids, 1, &o, &r, &e));
    assert_true(compare_run(x, x, ids, 3, &o, &r, &e));
    assert_true(r.kl_mean < 1e-12 && r.top1 == 1.0 && r.logit_rms == 0.0);
    if (ern_engine_n_vocab(x) != ern_engine_n_vocab(y)) {
        assert_false(compare_run(x, y, ids, 3, &o, &r, &e));
        assert_non_null(strstr(e.text, "vocabulary"));
    }
    ern_engine_close(x);
    ern_engine_close(y);
}

/* Each weight of a WINT folder is within half a step of its row's scale, and runs like the same blocks in GGUF. */
static void channels_of_integers(void **state) {
    (void)state;
    static const struct { const char *type; float levels; enum ern_dtype block; double kl; } cases[] = {
        { "wint8", 127.0f, DTYPE_Q8_0, 0.1 }, { "WINT4", 7.0f, DTYPE_Q4_0, 4.0 },
    };
    char in[REFERENCE_PATH], out[REFERENCE_PATH], gguf[REFERENCE_PATH], path[REFERENCE_PATH + 64];
    if (!reference_find(in, "moe")) skip();
    for (size_t k = 0; k < 2; k++) {
        ern_err e = { 0 };
        const quantize_options o = { .type = cases[k].type };
        quantize(in, in_folder(out, "wint"), &o);
        ern_source *a = source_open(in, &e), *b = source_open(out, &e);
        if (!a || !b) fail_msg("%s", e.text);
        const char *const names[] = { "model.layers.0.self_attn.q_proj.weight",
                                      "model.layers.1.mlp.experts.3.down_proj.weight" };
        for (size_t n = 0; n < 2; n++) {
            const ern_view *x = source_find(a, names[n]), *y = source_find(b, names[n]);
            assert_true(x && y && y->dtype == cases[k].block && x->dims[0] == y->dims[0] && x->dims[1] == y->dims[1]);
            float *xf = malloc(view_n(x) * sizeof *xf), *yf = malloc(view_n(x) * sizeof *yf);
            assert_true(xf && yf);
            view_to_f32(x, xf);
            view_to_f32(y, yf);
            for (size_t r = 0; r < x->dims[0]; r++) {
                float top = 0.0f;
                for (size_t c = 0; c < x->dims[1]; c++) top = fmaxf(top, fabsf(xf[r * x->dims[1] + c]));
                for (size_t c = r * x->dims[1]; c < (r + 1) * x->dims[1]; c++)
                    assert_true(fabsf(xf[c] - yf[c]) <= 0.501f * top / cases[k].levels + 1e-3f * top);
            }
            free(xf);
            free(yf);
        }
        assert_int_equal(source_find(b, "model.embed_tokens.weight")->dtype, DTYPE_BF16);
        assert_int_equal(source_find(b, "model.layers.1.mlp.gate.weight")->dtype, DTYPE_F32);
        source_close(a);
        source_close(b);
        const double kl = kl_between(in, out);
        if (!(kl <= cases[k].kl)) fail_msg("%s: KL %g, at most %g", cases[k].type, kl, cases[k].kl);
        const convert_options co = { .to = CONVERT_GGUF };
        assert_true(convert_model(out, in_folder(gguf, "a.gguf"), &co, NULL, &e));
        assert_int_equal(type_in(gguf, "blk.1.ffn_up_exps.weight"), cases[k].block);
        assert_true(kl_between(out, gguf) < 1e-9);
        snprintf(path, sizeof path, "%s/config.json", out);
        unlink(path);
        snprintf(path, sizeof path, "%s/model.safetensors", out);
        unlink(path);
        rmdir(out);
    }
}

static void damaged_channels_are_refused(void **state) {
    (void)state;
    char path[REFERENCE_PATH];
    static const int8_t codes[64] = { 1, -127, 5 };
    static const float scales[2] = { 0.5f, 2.0f }, bad_scales[2] = { 0.5f, NAN };
    ern_view good[] = {
        { .name = "x.quant_weight", .dtype = DTYPE_I8, .n_dims = 2, .dims = { 2, 32 }, .data = codes, .size_bytes = 64 },
        { .name = "x.weight_scale", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 2 }, .data = scales, .size_bytes = 8 },
    };
    in_folder(path, "x.safetensors");
    for (int k = 0; k < 5; k++) {
        ern_err e = { 0 };
        ern_view v[2] = { good[0], good[1] };
        if (k == 1) v[1].data = bad_scales;
        if (k == 2) { v[1].n_dims = 2; v[1].dims[0] = 1; v[1].dims[1] = 2; }
        if (k == 3) v[0].dtype = DTYPE_I16, v[0].dims[1] = 16;
        assert_true(safetensors_write(path, v, k == 4 ? 1 : 2, &e));
        ern_source *s = source_open(path, &e);
        assert_true((s != NULL) == (k == 0));
        if (s) {
            float y[64];
            assert_int_equal(source_n(s), 1);
            view_to_f32(source_find(s, "x.weight"), y);
            assert_true(y[0] == 0.5f && y[1] == -63.5f && y[2] == 2.5f && y[63] == 0.0f);
        } else assert_non_null(strstr(e.text, k == 3 ? "quant_weight" : "weight_scale"));
        source_close(s);
    }
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_stays_near_its_source), cmocka_unit_test(overrides_and_what_stays_f32),
        cmocka_unit_test(mixes_and_fallbacks), cmocka_unit_test(importance_survives_files_and_stops),
        cmocka_unit_test(importance_is_the_mean_square), cmocka_unit_test(importance_lowers_the_divergence),
        cmocka_unit_test(only_like_vocabularies_compare), cmocka_unit_test(channels_of_integers),
        cmocka_unit_test(damaged_channels_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
