#include "formats/source.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/test.h"
#include "formats/gguf_write.h"
#include "formats/safetensors_write.h"
#include "reference.h"

static ern_source *open_fixture(const char *name) {
    char path[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(path, name)) return NULL;
    ern_source *s = source_open(path, &e);
    if (!s) fail_msg("%s", e.text);
    assert_string_equal(source_path(s), path);
    return s;
}

/* What a fixture must hold: number of tensors under canonical names, and one of them. */
typedef struct {
    const char *path, *layout;
    size_t n;
    const char *name;
    enum ern_dtype dtype;
    unsigned n_dims;
    size_t dims[2];
} fixture;

static const fixture fixtures[] = {
    { "dense", "PT", 29, "model.layers.2.self_attn.o_proj.weight", DTYPE_BF16, 2, { 64, 128 } },
    { "dense_untied", "PT", 35, "model.layers.1.mlp.up_proj.bias", DTYPE_BF16, 1, { 160, 0 } },
    { "dense_paddle", "Paddle", 29, "model.layers.2.self_attn.k_proj.weight", DTYPE_BF16, 2, { 64, 64 } },
    { "moe", "PT", 81, "model.layers.2.mlp.experts.7.down_proj.weight", DTYPE_BF16, 2, { 64, 32 } },
    { "moe_paddle", "Paddle", 81, "model.layers.1.mlp.gate.weight", DTYPE_F32, 2, { 8, 64 } },
    { "moe_noshared", "PT", 118, "model.layers.4.mlp.moe_statics.e_score_correction_bias", DTYPE_F32, 2, { 1, 12 } },
    { "moe_noshared_paddle", "Paddle", 118, "lm_head.weight", DTYPE_BF16, 2, { 384, 64 } },
    { "llama", "PT", 20, "model.layers.0.self_attn.q_proj.weight", DTYPE_BF16, 2, { 64, 64 } },
    { "mtp", "PT", 88, "model.mtp_linear_proj.0.weight", DTYPE_BF16, 2, { 64, 128 } },
    { "mtp_paddle", "Paddle", 88, "model.mtp_block.0.mlp.gate_proj.weight", DTYPE_BF16, 2, { 96, 64 } },
    { "vl_moe", "PT", 173, "model.layers.1.mlp.gate.weight_1", DTYPE_F32, 2, { 64, 8 } },
    { "paddleocr_vl", "PT", 77, "mlp_AR.linear_1.weight", DTYPE_BF16, 2, { 160, 160 } },
    { "train_mlm", "PT", 42, "encoder.layer.1.attention.self.query.weight", DTYPE_F32, 2, { 32, 32 } },
    { "train_moe", "PT", 82, "model.layers.2.mlp.shared_experts.down_proj.weight", DTYPE_F32, 2, { 32, 32 } },
    { "dense.F32.gguf", "GGUF", 29, "model.layers.2.mlp.gate_proj.weight", DTYPE_F32, 2, { 96, 64 } },
    { "dense.F16.gguf", "GGUF", 29, "model.layers.2.mlp.up_proj.weight", DTYPE_F16, 2, { 96, 64 } },
    { "dense.BF16.gguf", "GGUF", 29, "model.layers.0.self_attn.v_proj.weight", DTYPE_BF16, 2, { 64, 64 } },
    { "dense.Q5_1.gguf", "GGUF", 29, "model.embed_tokens.weight", DTYPE_Q5_1, 2, { 512, 64 } },
    { "moe.BF16.gguf", "GGUF", 81, "model.layers.2.mlp.experts.7.down_proj.weight", DTYPE_BF16, 2, { 64, 32 } },
    { "moe.Q4_0.gguf", "GGUF", 81, "model.layers.1.mlp.experts.0.gate_proj.weight", DTYPE_Q4_0, 2, { 32, 64 } },
    { "moe.Q8_0.gguf", "GGUF", 81, "model.layers.1.mlp.moe_statics.e_score_correction_bias", DTYPE_F32, 2, { 1, 8 } },
    { "moe_noshared.BF16.gguf", "GGUF", 118, "lm_head.weight", DTYPE_BF16, 2, { 384, 64 } },
    { "llama.BF16.gguf", "GGUF", 20, "model.layers.1.post_attention_layernorm.weight", DTYPE_F32, 1, { 64, 0 } },
    { "llama.Q8_0.gguf", "GGUF", 20, "model.layers.1.mlp.down_proj.weight", DTYPE_Q8_0, 2, { 64, 160 } },
};

static void opens_every_fixture(void **state) {
    (void)state;
    size_t n_seen = 0;
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++) {
        const fixture *f = &fixtures[i];
        ern_source *s = open_fixture(f->path);
        if (!s) continue;
        n_seen++;
        assert_string_equal(source_layout(s), f->layout);
        assert_true((source_gguf(s) != NULL) == (strcmp(f->layout, "GGUF") == 0));
        assert_true((source_config(s) != NULL) != (source_gguf(s) != NULL));
        assert_null(source_generation(s));
        if (source_n(s) != f->n) fail_msg("%s: %zu tensors, %zu wanted", f->path, source_n(s), f->n);
        const ern_view *v = source_find(s, f->name);
        if (!v) fail_msg("%s: no %s", f->path, f->name);
        assert_int_equal(v->dtype, f->dtype);
        assert_int_equal(v->n_dims, f->n_dims);
        for (unsigned d = 0; d < f->n_dims; d++) assert_int_equal(v->dims[d], f->dims[d]);
        size_t bytes = 0;
        for (size_t t = 0; t < source_n(s); t++) {
            const ern_view *w = source_at(s, t);
            assert_ptr_equal(source_find(s, w->name), w);
            assert_true(w->size_bytes == 0 || w->data != NULL);
            assert_int_equal(w->size_bytes, view_n(w) / dtype_info(w->dtype)->block_n * dtype_info(w->dtype)->block_bytes);
            bytes += w->size_bytes;
        }
        assert_int_equal(source_size_bytes(s), bytes);
        assert_null(source_at(s, source_n(s)));
        assert_null(source_find(s, "no such tensor"));
        source_close(s);
    }
    if (n_seen == 0) skip();
}

static void expect_same(const ern_view *a, const ern_view *b) {
    if (!b) fail_msg("%s is missing", a->name);
    if (a->dtype != b->dtype || a->n_dims != b->n_dims || a->size_bytes != b->size_bytes)
        fail_msg("%s differs in type or size", a->name);
    for (unsigned d = 0; d < a->n_dims; d++) assert_int_equal(a->dims[d], b->dims[d]);
    if (memcmp(a->data, b->data, a->size_bytes) != 0) fail_msg("%s differs", a->name);
}

static void paddle_equals_pt_bit_for_bit(void **state) {
    (void)state;
    static const char *const pairs[][2] = { { "dense", "dense_paddle" }, { "moe", "moe_paddle" },
                                            { "moe_noshared", "moe_noshared_paddle" }, { "mtp", "mtp_paddle" } };
    size_t n_seen = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        ern_source *pt = open_fixture(pairs[i][0]), *paddle = open_fixture(pairs[i][1]);
        if (pt && paddle) {
            n_seen++;
            assert_int_equal(source_n(pt), source_n(paddle));
            for (size_t t = 0; t < source_n(pt); t++)
                expect_same(source_at(pt, t), source_find(paddle, source_at(pt, t)->name));
        }
        source_close(pt);
        source_close(paddle);
    }
    if (n_seen == 0) skip();
}

/* Row of a -PT matrix that stands at row r of the llama GGUF one: pairs (i, i + d/2) became neighbours. */
static size_t pair_row(size_t r, size_t d) { return r / d * d + r % d / 2 + r % 2 * (d / 2); }

static void gguf_equals_pt(void **state) {
    (void)state;
    static const char *const pairs[][2] = { { "dense", "dense.BF16.gguf" }, { "moe", "moe.BF16.gguf" },
                                            { "moe_noshared", "moe_noshared.BF16.gguf" }, { "llama", "llama.BF16.gguf" } };
    const size_t llama_head = 16;
    size_t n_seen = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        ern_source *pt = open_fixture(pairs[i][0]), *gguf = open_fixture(pairs[i][1]);
        for (size_t t = 0; pt && gguf && t < source_n(pt); t++) {
            const ern_view *a = source_at(pt, t), *b = source_find(gguf, a->name);
            if (!b) fail_msg("%s: no %s", pairs[i][1], a->name);
            const bool permuted = i == 3 && (strstr(a->name, "q_proj") || strstr(a->name, "k_proj"));
            const size_t n = view_n(a), row = a->dims[a->n_dims - 1];
            float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
            assert_true(x && y && view_n(b) == n && a->n_dims == b->n_dims && a->dims[0] == b->dims[0]);
            view_to_f32(a, x);
            view_to_f32(b, y);
            for (size_t k = 0; k < n; k++) {
                const size_t from = permuted ? pair_row(k / row, llama_head) * row + k % row : k;
                if (x[from] != y[k]) fail_msg("%s: value %zu differs", a->name, k);
            }
            free(x);
            free(y);
        }
        n_seen += pt && gguf;
        source_close(pt);
        source_close(gguf);
    }
    if (n_seen == 0) skip();
}

/* ---- folders made here ----------------------------------------------------------------------- */

static char folder[] = "/tmp/ern_source_test_XXXXXX";

static int make_folder(void **state) { (void)state; return mkdtemp(folder) ? 0 : -1; }
static int remove_folder(void **state) { (void)state; return rmdir(folder); }

static char *in_folder(const char *name) {
    char *path = file_join(folder, name, NULL);
    assert_non_null(path);
    return path;
}

static void write_text(const char *name, const char *text) {
    char *path = in_folder(name);
    assert_true(file_write(path, text, strlen(text), NULL));
    free(path);
}

static void write_model(const char *name, const ern_view *views, size_t n) {
    ern_err e = { 0 };
    char *path = in_folder(name);
    if (!safetensors_write(path, views, n, &e)) fail_msg("%s", e.text);
    free(path);
}

static void remove_files(const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *path = in_folder(names[i]);
        unlink(path);
        free(path);
    }
}

static const uint16_t counting[64] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                                       23 };

static const uint16_t *bits(const ern_source *s, const char *name, size_t rows, size_t cols) {
    const ern_view *v = source_find(s, name);
    if (!v) fail_msg("no %s", name);
    assert_int_equal(v->dtype, DTYPE_BF16);
    assert_int_equal(v->dims[0], rows);
    if (cols) assert_int_equal(v->dims[1], cols);
    return v->data;
}

static void splits_biases_and_reads_u16_as_bf16(void **state) {
    (void)state;
    ern_err e = { 0 };
    const ern_view views[] = {
        { .name = "ernie.layers.0.self_attn.qkv_proj.weight", .dtype = DTYPE_U16, .n_dims = 2, .dims = { 3, 8 },
          .data = counting },
        { .name = "ernie.layers.0.self_attn.qkv_proj.bias", .dtype = DTYPE_U16, .n_dims = 1, .dims = { 8 },
          .data = counting },
        { .name = "ernie.layers.0.mlp.up_gate_proj.weight", .dtype = DTYPE_U16, .n_dims = 2, .dims = { 3, 4 },
          .data = counting },
        { .name = "ernie.layers.0.mlp.up_gate_proj.bias", .dtype = DTYPE_U16, .n_dims = 1, .dims = { 4 }, .data = counting },
        { .name = "ernie.embed_tokens.weight", .dtype = DTYPE_U16, .n_dims = 2, .dims = { 4, 3 }, .data = counting },
        { .name = "ernie.layers.0.self_attn.o_proj.bias", .dtype = DTYPE_U16, .n_dims = 1, .dims = { 3 }, .data = counting },
    };
    write_model("model.safetensors", views, 6);
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "config.json with num_attention_heads"));
    write_text("config.json", "{\"num_attention_heads\": 3, \"num_key_value_heads\": 1}");
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "8 columns are no whole number of 3 + 2 * 1 heads"));
    write_text("config.json", "{\"num_attention_heads\": 2, \"num_key_value_heads\": 1}");
    write_text("generation_config.json", "{\"top_p\": 0.8}");
    ern_source *s = source_open(folder, &e);
    if (!s) fail_msg("%s", e.text);
    assert_non_null(source_generation(s));
    assert_int_equal(source_n(s), 12);
    const uint16_t *q = bits(s, "model.layers.0.self_attn.q_proj.weight", 4, 3);
    const uint16_t *k = bits(s, "model.layers.0.self_attn.k_proj.weight", 2, 3);
    const uint16_t *v = bits(s, "model.layers.0.self_attn.v_proj.weight", 2, 3);
    for (size_t i = 0; i < 3; i++) {
        for (size_t o = 0; o < 4; o++) assert_int_equal(q[o * 3 + i], i * 8 + o);
        for (size_t o = 0; o < 2; o++) assert_true(k[o * 3 + i] == i * 8 + 4 + o && v[o * 3 + i] == i * 8 + 6 + o);
    }
    assert_int_equal(bits(s, "model.layers.0.self_attn.q_proj.bias", 4, 0)[3], 3);
    assert_int_equal(bits(s, "model.layers.0.self_attn.k_proj.bias", 2, 0)[0], 4);
    assert_int_equal(bits(s, "model.layers.0.self_attn.v_proj.bias", 2, 0)[1], 7);
    assert_int_equal(bits(s, "model.layers.0.mlp.gate_proj.weight", 2, 3)[1], 4);
    assert_int_equal(bits(s, "model.layers.0.mlp.up_proj.weight", 2, 3)[1], 6);
    assert_int_equal(bits(s, "model.layers.0.mlp.up_proj.bias", 2, 0)[1], 3);
    assert_int_equal(bits(s, "model.embed_tokens.weight", 4, 3)[1], 1);
    source_close(s);
    static const char *const files[] = { "model.safetensors", "config.json", "generation_config.json" };
    remove_files(files, 3);
}

static void transposes_sizes_beside_the_tile(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 2, 31, 32, 33, 67 };
    uint32_t *data = malloc(67 * 67 * sizeof *data);
    assert_non_null(data);
    for (uint32_t i = 0; i < 67 * 67; i++) data[i] = i * 2654435761U;
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 6; j++) {
            ern_err e = { 0 };
            const size_t in = sizes[i], out = sizes[j];
            const ern_view views[] = {
                { .name = "ernie.norm.weight", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 1 }, .data = data },
                { .name = "lm_head.weight", .dtype = DTYPE_F32, .n_dims = 2, .dims = { in, out }, .data = data },
            };
            write_model("any.safetensors", views, 2);
            ern_source *s = source_open(folder, &e);
            if (!s) fail_msg("%s", e.text);
            const ern_view *v = source_find(s, "lm_head.weight");
            assert_true(v && v->dims[0] == out && v->dims[1] == in);
            for (size_t r = 0; r < in; r++)
                for (size_t c = 0; c < out; c++)
                    assert_int_equal(((const uint32_t *)v->data)[c * in + r], data[r * out + c]);
            source_close(s);
        }
    free(data);
    static const char *const files[] = { "any.safetensors" };
    remove_files(files, 1);
}

static void cuts_experts_that_are_held_in_one_tensor(void **state) {
    (void)state;
    ern_err e = { 0 };
    const ern_view views[] = {
        { .name = "model.layers.1.mlp.experts.gate_up_proj", .dtype = DTYPE_BF16, .n_dims = 3, .dims = { 2, 4, 3 },
          .data = counting },
        { .name = "model.layers.1.mlp.experts.down_proj", .dtype = DTYPE_BF16, .n_dims = 3, .dims = { 2, 3, 2 },
          .data = counting },
        { .name = "model.layers.1.mlp.gate.moe_statics.e_score_correction_bias", .dtype = DTYPE_F32, .n_dims = 2,
          .dims = { 1, 2 },
          .data = counting },
    };
    write_model("model.safetensors", views, 3);
    ern_source *s = source_open(folder, &e);
    if (!s) fail_msg("%s", e.text);
    assert_int_equal(source_n(s), 7);
    assert_int_equal(bits(s, "model.layers.1.mlp.experts.0.gate_proj.weight", 2, 3)[0], 0);
    assert_int_equal(bits(s, "model.layers.1.mlp.experts.0.up_proj.weight", 2, 3)[0], 6);
    assert_int_equal(bits(s, "model.layers.1.mlp.experts.1.gate_proj.weight", 2, 3)[0], 12);
    assert_int_equal(bits(s, "model.layers.1.mlp.experts.1.down_proj.weight", 3, 2)[5], 11);
    assert_non_null(source_find(s, "model.layers.1.mlp.moe_statics.e_score_correction_bias"));
    source_close(s);
    const ern_view odd = { .name = "model.layers.1.mlp.experts.gate_up_proj", .dtype = DTYPE_BF16, .n_dims = 3,
                           .dims = { 2, 3, 3 },
                           .data = counting };
    write_model("model.safetensors", &odd, 1);
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "2 x rows"));
    const ern_view none = { .name = "m.mlp.experts.down_proj", .dtype = DTYPE_BF16, .n_dims = 3, .dims = { 1 << 30, 2, 0 } };
    write_model("model.safetensors", &none, 1);         /* no bytes, and names for a thousand million experts */
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "m.mlp.experts.down_proj"));
    const ern_view twice[] = {
        { .name = "m.mlp.experts.down_proj", .dtype = DTYPE_BF16, .n_dims = 3, .dims = { 1, 2, 2 }, .data = counting },
        { .name = "m.mlp.experts.0.down_proj.weight", .dtype = DTYPE_BF16, .n_dims = 2, .dims = { 2, 2 }, .data = counting },
    };
    write_model("model.safetensors", twice, 2);
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "two tensors stand for m.mlp.experts.0.down_proj.weight"));
    static const char *const files[] = { "model.safetensors" };
    remove_files(files, 1);
}

static void names_encoders(void **state) {
    (void)state;
    static const char *const names[][2] = {         /* GGUF, canonical */
        { "token_embd.weight", "embeddings.word_embeddings.weight" },
            { "position_embd.weight", "embeddings.position_embeddings.weight" },
        { "token_types.weight", "embeddings.token_type_embeddings.weight" },
            { "token_embd_norm.weight", "embeddings.LayerNorm.weight" },
        { "token_embd_norm.bias", "embeddings.LayerNorm.bias" },
            { "blk.0.attn_q.weight", "encoder.layer.0.attention.self.query.weight" },
        { "blk.0.attn_k.bias", "encoder.layer.0.attention.self.key.bias" },
            { "blk.0.attn_v.weight", "encoder.layer.0.attention.self.value.weight" },
        { "blk.0.attn_output.bias", "encoder.layer.0.attention.output.dense.bias" },
        { "blk.0.attn_output_norm.weight", "encoder.layer.0.attention.output.LayerNorm.weight" },
        { "blk.11.ffn_up.weight", "encoder.layer.11.intermediate.dense.weight" },
            { "blk.0.ffn_down.bias", "encoder.layer.0.output.dense.bias" },
        { "blk.0.layer_output_norm.weight", "encoder.layer.0.output.LayerNorm.weight" }, { "odd.weight", "odd.weight" },
        { "blk.x.attn_q.weight", "blk.x.attn_q.weight" },
    };
    const size_t n = sizeof names / sizeof names[0];
    ern_err e = { 0 };
    char *path = in_folder("only.gguf");
    ern_gguf_writer *w = gguf_writer_open(path, &e);
    assert_true(w && gguf_writer_str(w, "general.architecture", "bert", &e));
    ern_view v = { .dtype = DTYPE_F32, .n_dims = 1, .dims = { 2 } };
    for (size_t i = 0; i < n; i++) {
        v.name = names[i][0];
        assert_true(gguf_writer_declare(w, &v, &e));
    }
    for (size_t i = 0; i < n; i++) assert_true(gguf_writer_data(w, counting, 8, &e));
    assert_true(gguf_writer_finish(w, &e));
    gguf_writer_close(w);
    ern_source *s = source_open(folder, &e);            /* a folder with one GGUF file */
    if (!s) fail_msg("%s", e.text);
    assert_string_equal(source_layout(s), "GGUF");
    for (size_t i = 0; i < n; i++)
        if (!source_find(s, names[i][1])) fail_msg("%s is not %s", names[i][0], names[i][1]);
    source_close(s);
    ern_view bert[15];
    char with_prefix[15][96];
    for (size_t i = 0; i < n; i++) {
        snprintf(with_prefix[i], sizeof with_prefix[i], "bert.%s", names[i][1]);
        bert[i] = (ern_view){ .name = with_prefix[i], .dtype = DTYPE_F32, .n_dims = 1, .dims = { 2 }, .data = counting };
    }
    bert[3].name = "bert.embeddings.LayerNorm.gamma";
    bert[4].name = "bert.embeddings.LayerNorm.beta";
    write_model("model.safetensors", bert, n);
    s = source_open(folder, &e);                        /* safetensors come before GGUF */
    if (!s) fail_msg("%s", e.text);
    assert_string_equal(source_layout(s), "PT");
    for (size_t i = 0; i < n; i++) assert_non_null(source_find(s, names[i][1]));
    source_close(s);
    free(path);
    static const char *const files[] = { "model.safetensors", "only.gguf" };
    remove_files(files, 2);
}

static void says_what_a_folder_lacks(void **state) {
    (void)state;
    ern_err e = { 0 };
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "holds no model"));
    assert_int_equal(e.code, ERN_NOTFOUND);
    assert_null(source_open("/no/such/path", &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
    write_text("a.gguf", "GGUF");
    write_text("mmproj-a.gguf", "GGUF");
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "a.gguf: ends at byte 4"));
    write_text("b.gguf", "GGUF");
    assert_null(source_open(folder, &e));
    assert_non_null(strstr(e.text, "holds 2 GGUF models"));
    const ern_view v = { .name = "a", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 2 }, .data = counting };
    write_model("model.safetensors", &v, 1);
    write_text("config.json", "{\"a\": }");
    assert_null(source_open(folder, &e));
    assert_true(e.line == 1 && strstr(e.text, "config.json"));
    char *path = in_folder("model.safetensors");
    assert_null(source_open(path, &e));                 /* the config beside the file counts */
    write_text("config.json", "{\"a\": 7}");
    ern_source *s = source_open(path, &e);
    if (!s) fail_msg("%s", e.text);
    assert_int_equal(json_integer_value(json_object_get(source_config(s), "a")), 7);
    source_close(s);
    free(path);
    path = in_folder("config.json");
    assert_null(source_open(path, &e));
    assert_non_null(strstr(e.text, "not a GGUF file"));
    free(path);
    static const char *const files[] = { "model.safetensors", "config.json", "a.gguf", "b.gguf", "mmproj-a.gguf" };
    remove_files(files, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_every_fixture), cmocka_unit_test(paddle_equals_pt_bit_for_bit),
            cmocka_unit_test(gguf_equals_pt),
        cmocka_unit_test(splits_biases_and_reads_u16_as_bf16), cmocka_unit_test(transposes_sizes_beside_the_tile),
        cmocka_unit_test(cuts_experts_that_are_held_in_one_tensor), cmocka_unit_test(names_encoders),
        cmocka_unit_test(says_what_a_folder_lacks),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
