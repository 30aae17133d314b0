/* A BERT of random weights in three kinds of files, against the same arithmetic written out in f64. */
#include "model/encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/test.h"
#include "formats/gguf_write.h"
#include "formats/safetensors_write.h"

#define CLOSE 2e-5      /* hidden values are of size 1; f32 against f64 */
enum { V = 40, P = 24, D = 24, F = 56, H = 3, LAYERS = 2, T = 13, MAX_TENSORS = 64 };
#define EPS 1e-12

static char folder[] = "/tmp/ern_encoder_test_XXXXXX";

typedef struct { char name[160], gguf[96]; size_t rows, cols; float *x; } tensor;      /* rows 0: a vector */
static tensor all[MAX_TENSORS];
static size_t n_all;

static uint64_t noise = 88172645463325252ull;
static float random_value(float size) {
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return size * ((float)(noise >> 40) * 0x1p-23f - 1.0f);
}

static void add(const char *name, const char *gguf, size_t rows, size_t cols, float size, float middle) {
    tensor *t = &all[n_all++];
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->gguf, sizeof t->gguf, "%s", gguf);
    t->rows = rows;
    t->cols = cols;
    t->x = malloc((rows ? rows : 1) * cols * sizeof *t->x);
    for (size_t i = 0; i < (rows ? rows : 1) * cols; i++) t->x[i] = middle + random_value(size);
}

static const float *get(const char *format, unsigned layer) {
    char name[160];
    snprintf(name, sizeof name, format, layer);
    for (size_t i = 0; i < n_all; i++)
        if (strcmp(all[i].name, name) == 0) return all[i].x;
    fail_msg("no tensor %s", name);
    return NULL;
}

static void make_weights(void) {
    static const struct { const char *name, *gguf; size_t out, in;
    } linears[] = {
        { "attention.self.query", "attn_q", D, D }, { "attention.self.key", "attn_k", D, D },
        { "attention.self.value", "attn_v", D, D }, { "attention.output.dense", "attn_output", D, D },
        { "intermediate.dense", "ffn_up", F, D },   { "output.dense", "ffn_down", D, F },
    };
    static const char *const norms[2][2] = { { "attention.output.LayerNorm", "attn_output_norm" },
                                             { "output.LayerNorm", "layer_output_norm" } };
    char name[160], gguf[96];
    add("embeddings.word_embeddings.weight", "token_embd.weight", V, D, 1.0f, 0.0f);
    add("embeddings.position_embeddings.weight", "position_embd.weight", P, D, 0.5f, 0.0f);
    add("embeddings.token_type_embeddings.weight", "token_types.weight", 2, D, 0.5f, 0.0f);
    add("embeddings.LayerNorm.weight", "token_embd_norm.weight", 0, D, 0.3f, 1.0f);
    add("embeddings.LayerNorm.bias", "token_embd_norm.bias", 0, D, 0.3f, 0.0f);
    for (unsigned l = 0; l < LAYERS; l++) {
        for (size_t i = 0; i < 6; i++) {
            snprintf(name, sizeof name, "encoder.layer.%u.%s.weight", l, linears[i].name);
            snprintf(gguf, sizeof gguf, "blk.%u.%s.weight", l, linears[i].gguf);
            add(name, gguf, linears[i].out, linears[i].in, 0.5f, 0.0f);
            snprintf(name, sizeof name, "encoder.layer.%u.%s.bias", l, linears[i].name);
            snprintf(gguf, sizeof gguf, "blk.%u.%s.bias", l, linears[i].gguf);
            add(name, gguf, 0, linears[i].out, 0.5f, 0.0f);
        }
        for (size_t i = 0; i < 2; i++)
            for (size_t k = 0; k < 2; k++) {
                snprintf(name, sizeof name, "encoder.layer.%u.%s.%s", l, norms[i][0], k ? "bias" : "weight");
                snprintf(gguf, sizeof gguf, "blk.%u.%s.%s", l, norms[i][1], k ? "bias" : "weight");
                add(name, gguf, 0, D, 0.3f, k ? 0.0f : 1.0f);
            }
    }
}

/* ---- the definition ----------------------------------------------------------------------------- */

static void norm(double *x, const float *gain, const float *bias) {
    double mean = 0.0, variance = 0.0;
    for (size_t i = 0; i < D; i++) mean += x[i] / D;
    for (size_t i = 0; i < D; i++) variance += (x[i] - mean) * (x[i] - mean) / D;
    for (size_t i = 0; i < D; i++) x[i] = (x[i] - mean) / sqrt(variance + EPS) * (double)gain[i] + (double)bias[i];
}

static void product(double *y, const double *x, const char *stem, unsigned layer, size_t out, size_t in) {
    char name[128];
    snprintf(name, sizeof name, "%s.weight", stem);
    const float *w = get(name, layer);
    snprintf(name, sizeof name, "%s.bias", stem);
    const float *b = get(name, layer);
    for (size_t r = 0; r < out; r++) {
        y[r] = (double)b[r];
        for (size_t c = 0; c < in; c++) y[r] += (double)w[r * in + c] * x[c];
    }
}

static void define_layer(double x[T][D], unsigned l) {
    static double q[T][D], k[T][D], v[T][D], att[T][D];
    double y[D], up[F];
    for (size_t t = 0; t < T; t++) {
        product(q[t], x[t], "encoder.layer.%u.attention.self.query", l, D, D);
        product(k[t], x[t], "encoder.layer.%u.attention.self.key", l, D, D);
        product(v[t], x[t], "encoder.layer.%u.attention.self.value", l, D, D);
    }
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < H; h++) {
            const size_t d = D / H, off = h * d;
            double p[T], sum = 0.0;
            for (size_t j = 0; j < T; j++) {
                double s = 0.0;
                for (size_t i = 0; i < d; i++) s += q[t][off + i] * k[j][off + i];
                sum += p[j] = exp(s / sqrt((double)d));
            }
            for (size_t i = 0; i < d; i++) {
                att[t][off + i] = 0.0;
                for (size_t j = 0; j < T; j++) att[t][off + i] += p[j] / sum * v[j][off + i];
            }
        }
    for (size_t t = 0; t < T; t++) {
        product(y, att[t], "encoder.layer.%u.attention.output.dense", l, D, D);
        for (size_t i = 0; i < D; i++) x[t][i] += y[i];
        norm(x[t], get("encoder.layer.%u.attention.output.LayerNorm.weight", l),
             get("encoder.layer.%u.attention.output.LayerNorm.bias", l));
        product(up, x[t], "encoder.layer.%u.intermediate.dense", l, F, D);
        for (size_t i = 0; i < F; i++) up[i] = 0.5 * up[i] * (1.0 + erf(up[i] / sqrt(2.0)));
        product(y, up, "encoder.layer.%u.output.dense", l, D, F);
        for (size_t i = 0; i < D; i++) x[t][i] += y[i];
        norm(x[t], get("encoder.layer.%u.output.LayerNorm.weight", l), get("encoder.layer.%u.output.LayerNorm.bias", l));
    }
}

static void define(double x[T][D], const int32_t *ids) {
    const float *words = get("embeddings.word_embeddings.weight", 0),
                *positions = get("embeddings.position_embeddings.weight", 0);
    const float *type = get("embeddings.token_type_embeddings.weight", 0);
    for (size_t t = 0; t < T; t++) {
        for (size_t i = 0; i < D; i++)
            x[t][i] = (double)words[(size_t)ids[t] * D + i] + (double)positions[t * D + i] + (double)type[i];
        norm(x[t], get("embeddings.LayerNorm.weight", 0), get("embeddings.LayerNorm.bias", 0));
    }
    for (unsigned l = 0; l < LAYERS; l++) define_layer(x, l);
}

/* ---- files -------------------------------------------------------------------------------------- */

static ern_view view_of(const tensor *t, const char *name) {
    ern_view v = { .name = name, .dtype = DTYPE_F32, .n_dims = t->rows ? 2 : 1, .data = t->x };
    v.dims[0] = t->rows ? t->rows : t->cols;
    if (t->rows) v.dims[1] = t->cols;
    v.size_bytes = (t->rows ? t->rows : 1) * t->cols * sizeof(float);
    return v;
}

static void put(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_true(file_write(path, text, strlen(text), NULL));
}

static void write_folder(const char *prefix) {
    ern_view views[MAX_TENSORS];
    static char names[MAX_TENSORS][192];
    char path[512];
    ern_err e = { 0 };
    for (size_t i = 0; i < n_all; i++) {
        snprintf(names[i], sizeof names[i], "%s%.150s", prefix, all[i].name);
        views[i] = view_of(&all[i], names[i]);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (!safetensors_write(path, views, n_all, &e)) fail_msg("%s", e.text);
    put("config.json",
        "{\"model_type\":\"bert\",\"num_hidden_layers\":2,\"hidden_size\":24,\"num_attention_heads\":3,"
        "\"intermediate_size\":56,"
        "\"vocab_size\":40,\"max_position_embeddings\":24,\"type_vocab_size\":2,\"layer_norm_eps\":1e-12,"
        "\"hidden_act\":\"gelu\"}");
}

static void write_gguf(const char *path, uint32_t pooling) {
    ern_err e = { 0 };
    ern_gguf_writer *w = gguf_writer_open(path, &e);
    bool ok = w && gguf_writer_str(w, "general.architecture", "bert", &e) &&
              gguf_writer_u32(w, "bert.block_count", LAYERS, &e) && gguf_writer_u32(w, "bert.embedding_length", D, &e) &&
              gguf_writer_u32(w, "bert.attention.head_count", H, &e) &&
              gguf_writer_u32(w, "bert.feed_forward_length", F, &e) && gguf_writer_u32(w, "bert.context_length", P, &e) &&
              gguf_writer_f32(w, "bert.attention.layer_norm_epsilon", 1e-12f, &e) &&
              gguf_writer_u32(w, "bert.pooling_type", pooling, &e);
    for (size_t i = 0; ok && i < n_all; i++) {
        const ern_view v = view_of(&all[i], all[i].gguf);
        ok = gguf_writer_declare(w, &v, &e);
    }
    for (size_t i = 0; ok && i < n_all; i++) {
        const ern_view v = view_of(&all[i], all[i].gguf);
        ok = gguf_writer_data(w, v.data, v.size_bytes, &e);
    }
    if (!ok || !gguf_writer_finish(w, &e)) fail_msg("%s", e.text);
    gguf_writer_close(w);
}

static ern_model *bind(const char *path, ern_err *e) {
    ern_source *s = source_open(path, e);
    return s ? model_bind(s, e) : NULL;
}

/* ---- tests -------------------------------------------------------------------------------------- */

static int32_t ids[T];
static float first[T * D];      /* what the plain folder gave */

static void encode(const char *path, float *hidden) {
    ern_kernels k;
    ern_err e = { 0 };
    ern_model *m = bind(path, &e);
    if (!m) fail_msg("%s: %s", path, e.text);
    ern_pool *pool = pool_open(3, NULL);
    kernels_init(&k, ~0u);
    if (!encoder_forward(m, &k, pool, true, ids, T, hidden, NULL, NULL, &e)) fail_msg("%s", e.text);
    pool_close(pool);
    model_close(m);
}

static void equals_its_definition(void **state) {
    (void)state;
    static double want[T][D];
    double worst = 0.0;
    write_folder("");
    encode(folder, first);
    define(want, ids);
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < D; i++) {
            const double d = fabs((double)first[t * D + i] - want[t][i]);
            if (!(d <= worst)) worst = d;
        }
    print_message("hidden values differ by %.1e at most\n", worst);
    assert_true(worst <= CLOSE);
}

static void other_files_give_the_same_bits(void **state) {
    (void)state;
    float hidden[T * D];
    char path[512];
    write_folder("bert.");
    encode(folder, hidden);
    assert_memory_equal(hidden, first, sizeof hidden);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    write_gguf(path, 1);
    encode(path, hidden);
    assert_memory_equal(hidden, first, sizeof hidden);
    unlink(path);
}

static void pooling_is_what_the_files_say(void **state) {
    (void)state;
    static const struct {
        const char *modules, *pooling, *lengths;
        bool ok, pools_cls, is_normalized;
        size_t max_input;
    } cases[] = {
        { NULL, NULL, NULL, true, false, true, P },
        { "[{\"type\":\"a.Transformer\"},{\"type\":\"a.Pooling\"},{\"type\":\"a.Normalize\"}]",
          "{\"pooling_mode_cls_token\":true}", "{\"max_seq_length\":16}", true, true, true, 16 },
        { "[{\"type\":\"a.Transformer\"},{\"type\":\"a.Pooling\"}]", "{\"pooling_mode_mean_tokens\":true}",
          "{\"max_seq_length\":512}", true, false, false, P },
        { NULL, "{\"pooling_mode\":\"cls\"}", NULL, true, true, true, P },
        { NULL, "{\"pooling_mode_max_tokens\":true}", NULL, false, false, false, 0 },
        { NULL, "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":true}", NULL, false, false, false, 0 },
        { "[{\"type\":\"a.Dense\"}]", NULL, NULL, false, false, false, 0 },
        { NULL, NULL, "{\"max_seq_length\":2}", false, false, false, 0 },
        { NULL, NULL, "{\"max_seq_length\":", false, false, false, 0 },
    };
    static const char *const names[] = { "modules.json", "1_Pooling/config.json", "sentence_bert_config.json" };
    char path[512];
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const texts[] = { cases[i].modules, cases[i].pooling, cases[i].lengths };
        ern_err e = { 0 };
        for (size_t k = 0; k < 3; k++)
            if (texts[k]) put(names[k], texts[k]);
        ern_model *m = bind(folder, &e);
        if ((m != NULL) != cases[i].ok) fail_msg("case %zu: %s", i, e.text);
        if (m) {
            assert_int_equal(m->c.pools_cls, cases[i].pools_cls);
            assert_int_equal(m->c.is_normalized, cases[i].is_normalized);
            assert_int_equal(m->c.max_input, cases[i].max_input);
        } else assert_true(e.code != ERN_OK && e.text[0]);
        model_close(m);
        for (size_t k = 0; k < 3; k++) {
            snprintf(path, sizeof path, "%s/%s", folder, names[k]);
            unlink(path);
        }
    }
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    rmdir(path);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    write_gguf(path, 2);
    ern_model *m = bind(path, NULL);
    assert_true(m && m->c.pools_cls);
    model_close(m);
    write_gguf(path, 3);
    assert_null(bind(path, NULL));
    unlink(path);
}

static void vectors_are_pooled_and_scaled(void **state) {
    (void)state;
    static const float hidden[] = { 1, 2, 3, 6 };
    float out[2];
    ern_config c = { .hidden = 2 };
    encoder_pool(&c, hidden, 2, out);
    assert_true(out[0] == 2.0f && out[1] == 4.0f);
    c.pools_cls = true;
    encoder_pool(&c, hidden, 2, out);
    assert_true(out[0] == 1.0f && out[1] == 2.0f);
    c.is_normalized = true;
    encoder_pool(&c, hidden, 2, out);
    assert_true(fabsf(out[0] * out[0] + out[1] * out[1] - 1.0f) < 1e-6f && fabsf(out[1] - 2.0f * out[0]) < 1e-6f);
    encoder_pool(&c, (const float[]){ 0, 0 }, 1, out);
    assert_true(out[0] == 0.0f && out[1] == 0.0f);      /* no direction, and no NaN */
}

static void bad_ids_are_refused(void **state) {
    (void)state;
    ern_kernels k;
    float hidden[(P + 1) * D];
    int32_t bad[P + 1] = { 0 };
    ern_err e = { 0 };
    ern_model *m = bind(folder, &e);
    ern_pool *pool = pool_open(1, NULL);
    kernels_init(&k, ~0u);
    assert_non_null(m);
    assert_false(encoder_forward(m, &k, pool, true, bad, 0, hidden, NULL, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_false(encoder_forward(m, &k, pool, true, bad, P + 1, hidden, NULL, NULL, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_true(encoder_forward(m, &k, pool, true, bad, P, hidden, NULL, NULL, &e));
    bad[3] = V;
    assert_false(encoder_forward(m, &k, pool, true, bad, P, hidden, NULL, NULL, &e));
    bad[3] = -1;
    assert_false(encoder_forward(m, &k, pool, true, bad, P, hidden, NULL, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    pool_close(pool);
    model_close(m);
}

static int set_up(void **state) {
    (void)state;
    make_weights();
    for (size_t t = 0; t < T; t++) ids[t] = (int32_t)(t * 7 % V);
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = { "config.json", "model.safetensors" };
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    for (size_t i = 0; i < n_all; i++) free(all[i].x);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_its_definition),         cmocka_unit_test(other_files_give_the_same_bits),
        cmocka_unit_test(pooling_is_what_the_files_say), cmocka_unit_test(vectors_are_pooled_and_scaled),
        cmocka_unit_test(bad_ids_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
