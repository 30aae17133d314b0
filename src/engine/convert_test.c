#include "engine/convert.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/file.h"
#include "base/test.h"
#include "formats/safetensors.h"
#include "formats/safetensors_write.h"
#include "formats/source.h"
#include "model/config.h"
#include "reference.h"
#include "text/tokenizer.h"

#define Q8_TOLERANCE 0.006f         /* of the largest value of a block of 32: half a step of 1 / 127, and the scale in f16 */

static char folder[] = "/tmp/ern_convert_test_XXXXXX";

static void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
        char *inner = file_join(path, d->d_name, NULL);
        if (file_is_folder(inner)) remove_tree(inner);
        else unlink(inner);
        free(inner);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

static int make_folder(void **state) { (void)state; return mkdtemp(folder) ? 0 : -1; }

static int empty_folder(void **state) {
    (void)state;
    remove_tree(folder);
    return mkdir(folder, 0700);
}

static int remove_folder(void **state) { (void)state; return rmdir(folder); }

static const char *in_folder(char path[REFERENCE_PATH], const char *name) {
    snprintf(path, REFERENCE_PATH, "%s/%s", folder, name);
    return path;
}

static convert_report convert(const char *in, const char *out, enum convert_layout to, const char *dtype) {
    const convert_options o = { .to = to, .dtype = dtype };
    convert_report r = { 0 };
    ern_err e = { 0 };
    if (!convert_model(in, out, &o, &r, &e)) fail_msg("%s -> %s: %s", in, out, e.text);
    return r;
}

static void convert_quietly(const char *in, const char *out, enum convert_layout to, const char *dtype) {
    convert_report r = convert(in, out, to, dtype);
    convert_report_deinit(&r);
}

static ern_source *open_model(const char *path) {
    ern_err e = { 0 };
    ern_source *s = source_open(path, &e);
    if (!s) fail_msg("%s", e.text);
    return s;
}

static void expect_same(const ern_view *a, const ern_view *b) {
    if (!b) fail_msg("%s is missing", a->name);
    if (a->dtype != b->dtype || a->n_dims != b->n_dims || a->size_bytes != b->size_bytes)
        fail_msg("%s: %s of %zu bytes and %s of %zu bytes", a->name, dtype_info(a->dtype)->name, a->size_bytes,
                 dtype_info(b->dtype)->name, b->size_bytes);
    for (unsigned d = 0; d < a->n_dims; d++) assert_int_equal(a->dims[d], b->dims[d]);
    if (memcmp(a->data, b->data, a->size_bytes) != 0) fail_msg("%s differs", a->name);
}

/* The same tensors under canonical names, bit for bit. */
static void expect_same_model(const char *a, const char *b) {
    ern_source *x = open_model(a), *y = open_model(b);
    assert_int_equal(source_n(x), source_n(y));
    for (size_t i = 0; i < source_n(x); i++) expect_same(source_at(x, i), source_find(y, source_at(x, i)->name));
    source_close(x);
    source_close(y);
}

/* The same tensors as the files hold them. */
static void expect_same_files(const char *a, const char *b) {
    ern_err e = { 0 };
    ern_safetensors *x = safetensors_open(a, &e), *y = safetensors_open(b, &e);
    assert_true(x && y);
    assert_int_equal(safetensors_n(x), safetensors_n(y));
    for (size_t i = 0; i < safetensors_n(x); i++)
        expect_same(safetensors_at(x, i), safetensors_find(y, safetensors_at(x, i)->name));
    safetensors_close(x);
    safetensors_close(y);
}

static void expect_same_config(const char *a, const char *b) {
    ern_err e = { 0 };
    ern_config x = { 0 }, y = { 0 };
    ern_source *p = open_model(a), *q = open_model(b);
    if (!config_read(&x, p, &e) || !config_read(&y, q, &e)) fail_msg("%s", e.text);
    assert_int_equal(x.arch, y.arch);
    assert_true(x.n_layers == y.n_layers && x.hidden == y.hidden && x.n_heads == y.n_heads && x.n_kv_heads == y.n_kv_heads);
    assert_true(x.head_dim == y.head_dim && x.ffn == y.ffn && x.n_vocab == y.n_vocab && x.max_positions == y.max_positions);
    assert_true(x.norm_eps == y.norm_eps && x.rope_theta == y.rope_theta);
    assert_true(x.n_experts == y.n_experts && x.n_used == y.n_used && x.expert_ffn == y.expert_ffn &&
                x.n_shared == y.n_shared);
    assert_true(x.moe_start == y.moe_start && x.moe_end == y.moe_end && x.moe_interval == y.moe_interval);
    assert_true(x.bos == y.bos && x.eos == y.eos);
    assert_true(source_gguf(p) || source_gguf(q) ||
                (x.is_tied == y.is_tied && x.rope_adjacent == y.rope_adjacent && x.rope_factor == y.rope_factor));
    source_close(p);
    source_close(q);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static const char *const pairs[][2] = { { "dense", "dense_paddle" }, { "moe", "moe_paddle" },
                                        { "moe_noshared", "moe_noshared_paddle" }, { "mtp", "mtp_paddle" } };

static void pt_and_paddle_are_the_reference_bit_for_bit(void **state) {
    (void)state;
    size_t n_seen = 0;
    for (size_t i = 0; i < 4; i++) {
        char pt[REFERENCE_PATH], paddle[REFERENCE_PATH], out[REFERENCE_PATH], back[REFERENCE_PATH];
        if (!reference_find(pt, pairs[i][0]) || !reference_find(paddle, pairs[i][1])) continue;
        n_seen++;
        in_folder(out, "paddle");
        in_folder(back, "pt");
        convert_quietly(pt, out, CONVERT_PADDLE, NULL);
        expect_same_files(out, paddle);
        expect_same_config(out, paddle);
        convert_quietly(out, back, CONVERT_PT, NULL);
        expect_same_files(back, pt);
        expect_same_config(back, pt);
        empty_folder(NULL);
        convert_quietly(paddle, back, CONVERT_PT, "keep");
        expect_same_files(back, pt);
        empty_folder(NULL);
    }
    if (n_seen == 0) skip();
}

static void vision_models_survive_paddle(void **state) {
    (void)state;
    char pt[REFERENCE_PATH], out[REFERENCE_PATH], back[REFERENCE_PATH];
    if (!reference_find(pt, "vl_moe")) skip();
    convert_quietly(pt, in_folder(out, "paddle"), CONVERT_PADDLE, NULL);
    convert_quietly(out, in_folder(back, "pt"), CONVERT_PT, NULL);
    expect_same_files(pt, back);
    expect_same_model(pt, out);
}

static void gguf_is_the_reference_and_goes_back(void **state) {
    (void)state;
    static const struct { const char *pt, *gguf; } cases[] = {
        { "dense", "dense.BF16.gguf" }, { "moe", "moe.BF16.gguf" }, { "moe_noshared", "moe_noshared.BF16.gguf" },
        { "llama", "llama.BF16.gguf" }, { "dense_untied", NULL },
    };
    size_t n_seen = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char pt[REFERENCE_PATH], want[REFERENCE_PATH], out[REFERENCE_PATH], back[REFERENCE_PATH], paddle[REFERENCE_PATH];
        if (!reference_find(pt, cases[i].pt)) continue;
        n_seen++;
        in_folder(out, "model.gguf");
        in_folder(back, "pt");
        in_folder(paddle, "paddle");
        convert_report r = convert(pt, out, CONVERT_GGUF, NULL);
        assert_int_equal(r.n_rounded, 0);
        assert_non_null(strstr(r.notes.data, "no tokenizer files"));
        convert_report_deinit(&r);
        if (cases[i].gguf && reference_find(want, cases[i].gguf)) {
            expect_same_model(out, want);
            expect_same_config(out, want);
        }
        convert_quietly(out, back, CONVERT_PT, NULL);
        expect_same_files(back, pt);
        expect_same_config(back, pt);
        if (strcmp(cases[i].pt, "llama") != 0) {
            convert_quietly(out, paddle, CONVERT_PADDLE, NULL);
            expect_same_model(paddle, pt);
        }
        empty_folder(NULL);
    }
    if (n_seen == 0) skip();
}

static void gguf_to_gguf_keeps_keys(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH], a_text[128], b_text[128];
    if (!reference_find(in, "moe.Q4_0.gguf")) skip();
    convert_quietly(in, in_folder(out, "out.gguf"), CONVERT_GGUF, NULL);
    expect_same_model(in, out);
    ern_gguf *a = gguf_open(in, NULL), *b = gguf_open(out, NULL);
    assert_true(a && b);
    for (size_t i = 0; i < gguf_n_keys(a); i++) {
        size_t j = 0;
        while (j < gguf_n_keys(b) && strcmp(gguf_key(a, i), gguf_key(b, j)) != 0) j++;
        assert_true(j < gguf_n_keys(b));
        gguf_value_text(a, i, a_text, sizeof a_text);
        gguf_value_text(b, j, b_text, sizeof b_text);
        assert_string_equal(a_text, b_text);
    }
    assert_string_equal(gguf_array_str(b, "tokenizer.ggml.tokens")[500], "<500>");
    uint64_t type = 0;
    assert_true(gguf_u64(b, "general.file_type", &type) && type == 2);
    gguf_close(a);
    gguf_close(b);
}

/* y within tolerance of x, relative to the largest value of each 32. */
static void expect_near(const ern_view *a, const ern_view *b, float tolerance) {
    const size_t n = view_n(a);
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    assert_true(x && y && view_n(b) == n);
    view_to_f32(a, x);
    view_to_f32(b, y);
    for (size_t i = 0; i < n; i += 32) {
        float largest = 0.0f;
        for (size_t k = i; k < n && k < i + 32; k++) largest = fmaxf(largest, fabsf(x[k]));
        for (size_t k = i; k < n && k < i + 32; k++)
            if (fabsf(x[k] - y[k]) > tolerance * largest)
                fail_msg("%s: value %zu: %g and %g", a->name, k, (double)x[k], (double)y[k]);
    }
    free(x);
    free(y);
}

static void types_change_when_asked(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH], back[REFERENCE_PATH];
    if (!reference_find(in, "moe")) skip();
    convert_report r = convert(in, in_folder(out, "q8.gguf"), CONVERT_GGUF, "Q8_0");
    assert_true(r.n_rounded > 10 && strstr(r.notes.data, "lost precision: they are Q8_0 now"));
    convert_report_deinit(&r);
    ern_source *pt = open_model(in), *q8 = open_model(out);
    for (size_t i = 0; i < source_n(pt); i++) {
        const ern_view *a = source_at(pt, i), *b = source_find(q8, a->name);
        assert_non_null(b);
        const bool is_exact = a->n_dims < 2 || strstr(a->name, "mlp.gate.") || strstr(a->name, "e_score");
        assert_int_equal(b->dtype, is_exact ? DTYPE_F32 : DTYPE_Q8_0);
        expect_near(a, b, is_exact ? 0.0f : Q8_TOLERANCE);
    }
    /* Back into a folder: only with a type that the user names, and then exactly the values of the blocks. */
    const convert_options keep = { .to = CONVERT_PT };
    ern_err e = { 0 };
    assert_false(convert_model(out, in_folder(back, "pt"), &keep, NULL, &e));
    assert_non_null(strstr(e.text, "is Q8_0, which only GGUF files hold; ask for F32, F16 or BF16"));
    assert_false(file_exists(back));
    r = convert(out, back, CONVERT_PT, "F32");
    assert_int_equal(r.n_rounded, 0);
    convert_report_deinit(&r);
    ern_source *f32 = open_model(back);
    for (size_t i = 0; i < source_n(q8); i++) {
        const ern_view *a = source_at(q8, i), *b = source_find(f32, a->name);
        assert_true(b && b->dtype == DTYPE_F32);
        expect_near(a, b, 0.0f);
    }
    assert_string_equal(json_string_value(json_object_get(source_config(f32), "torch_dtype")), "float32");
    source_close(pt);
    source_close(q8);
    source_close(f32);
    convert_quietly(out, in_folder(back, "paddle"), CONVERT_PADDLE, "BF16");
    f32 = open_model(back);
    assert_int_equal(source_find(f32, "model.layers.0.self_attn.k_proj.weight")->dtype, DTYPE_BF16);
    assert_int_equal(source_find(f32, "model.layers.1.mlp.gate.weight")->dtype, DTYPE_F32);
    source_close(f32);
}

static void rounding_is_said(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH];
    if (!reference_find(in, "train_moe")) skip();
    convert_report r = convert(in, in_folder(out, "keep"), CONVERT_PT, NULL);
    assert_true(r.n_rounded == 0 && r.notes.len == 0 && r.n_tensors == 82);
    convert_report_deinit(&r);
    expect_same_files(in, out);
    r = convert(in, in_folder(out, "bf16"), CONVERT_PT, "BF16");
    assert_true(r.n_rounded > 50 && strstr(r.notes.data, "lost precision: they are BF16 now"));
    convert_report_deinit(&r);
    ern_source *s = open_model(out);
    assert_int_equal(source_find(s, "model.norm.weight")->dtype, DTYPE_BF16);
    assert_int_equal(source_find(s, "model.layers.1.mlp.gate.weight")->dtype, DTYPE_F32);
    source_close(s);
}

static void shards_are_cut_and_read_back(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH], file[REFERENCE_PATH];
    ern_err e = { 0 };
    if (!reference_find(in, "moe")) skip();
    const convert_options o = { .to = CONVERT_PADDLE, .max_shard_bytes = 100000 };
    assert_true(convert_model(in, in_folder(out, "sharded"), &o, NULL, &e));
    snprintf(file, sizeof file, "%.900s/model-00003-of-00005.safetensors", out);
    assert_true(file_exists(file));
    expect_same_model(in, out);
}

static void refusals_name_the_thing(void **state) {
    (void)state;
    static const struct { const char *in; enum convert_layout to; const char *dtype, *want; } cases[] = {
        { "dense", CONVERT_GGUF, "Q4_K", "rows of 64 values cannot be Q4_K, which wants a multiple of 256" },
        { "dense", CONVERT_GGUF, "Q8_K", "type Q8_K cannot be written; F32, F16, BF16" },
        { "dense", CONVERT_GGUF, "W4A8", "\"W4A8\" is not known" },
        { "dense", CONVERT_PT, "Q4_0", "type Q4_0 exists in GGUF files only" },
        { "llama", CONVERT_PADDLE, NULL, "a model of type llama has no -Paddle layout" },
        { "vl_moe", CONVERT_GGUF, NULL, "ernie4_5_moe_vl" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char in[REFERENCE_PATH], out[REFERENCE_PATH];
        ern_err e = { 0 };
        const convert_options o = { .to = cases[i].to, .dtype = cases[i].dtype };
        if (!reference_find(in, cases[i].in)) continue;
        in_folder(out, "refused");
        if (convert_model(in, out, &o, NULL, &e) || !strstr(e.text, cases[i].want))
            fail_msg("wanted \"%s\", got \"%s\"", cases[i].want, e.text);
        assert_int_equal(rmdir(folder), 0);         /* nothing was left */
        assert_int_equal(mkdir(folder, 0700), 0);
    }
}

static bool stop_at_once(void *ctx, size_t done, size_t total) {
    *(size_t *)ctx = total;
    return done == 0;
}

static void stops_and_leaves_nothing(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH];
    size_t total = 0;
    if (!reference_find(in, "dense")) skip();
    for (int i = 0; i < 2; i++) {
        ern_err e = { 0 };
        const convert_options o = { .to = i ? CONVERT_GGUF : CONVERT_PADDLE, .progress = stop_at_once,
                                    .progress_ctx = &total };
        assert_false(convert_model(in, in_folder(out, "stopped"), &o, NULL, &e));
        assert_int_equal(e.code, ERN_STOPPED);
        assert_true(total > 300000);
        assert_int_equal(rmdir(folder), 0);
        assert_int_equal(mkdir(folder, 0700), 0);
    }
}

static void guards_what_is_there(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH];
    ern_err e = { 0 };
    const convert_options pt = { .to = CONVERT_PT }, gguf = { .to = CONVERT_GGUF };
    if (!reference_find(in, "dense")) skip();
    assert_true(file_write(in_folder(out, "file"), "x", 1, NULL));
    assert_false(convert_model(in, folder, &pt, NULL, &e));
    assert_non_null(strstr(e.text, "is a folder with files in it"));
    assert_false(convert_model(in, out, &pt, NULL, &e));
    assert_non_null(strstr(e.text, "cannot become a folder"));
    assert_false(convert_model(in, in, &pt, NULL, &e));
    assert_non_null(strstr(e.text, "is the model itself"));
    assert_false(convert_model(in, in_folder(out, "no/such/folder"), &pt, NULL, &e));
    assert_false(convert_model(in, folder, &gguf, NULL, &e));
    unlink(in_folder(out, "file"));
    assert_true(convert_model(in, in_folder(out, "new/"), &pt, NULL, &e));      /* a slash at the end is fine */
    enum convert_layout to = CONVERT_PT;
    assert_true(convert_layout_from_name(&to, "gguf", &e) && to == CONVERT_GGUF);
    assert_true(convert_layout_from_name(&to, "Paddle", &e) && to == CONVERT_PADDLE);
    assert_false(convert_layout_from_name(&to, "onnx", &e));
}

static void mtp_is_left_out_of_gguf(void **state) {
    (void)state;
    char in[REFERENCE_PATH], out[REFERENCE_PATH];
    if (!reference_find(in, "mtp")) skip();
    convert_report r = convert(in, in_folder(out, "mtp.gguf"), CONVERT_GGUF, NULL);
    assert_int_equal(r.n_dropped, 12);
    assert_non_null(strstr(r.notes.data, "model.mtp_block.0.input_layernorm.weight is left out"));
    assert_non_null(strstr(r.notes.data, "12 tensors are left out in all"));
    convert_report_deinit(&r);
}

/* ---- tokenizers ------------------------------------------------------------------------------ */

#define ROWS 2560
#define HIDDEN 32

/* A model of one layer around the tokenizer files of a reference folder. */
static void make_model(const char *path, const char *tokenizer, const char *type) {
    static const char *const files[] = { "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json",
                                         "special_tokens_map.json" };
    static const struct { const char *name; unsigned n_dims; size_t dims[2]; } tensors[] = {
        { "model.embed_tokens.weight", 2, { ROWS, HIDDEN } }, { "model.norm.weight", 1, { HIDDEN, 0 } },
        { "model.layers.0.input_layernorm.weight", 1, { HIDDEN, 0 } },
        { "model.layers.0.post_attention_layernorm.weight", 1, { HIDDEN, 0 } },
        { "model.layers.0.self_attn.q_proj.weight", 2, { HIDDEN, HIDDEN } },
        { "model.layers.0.self_attn.k_proj.weight", 2, { HIDDEN, HIDDEN } },
        { "model.layers.0.self_attn.v_proj.weight", 2, { HIDDEN, HIDDEN } },
        { "model.layers.0.self_attn.o_proj.weight", 2, { HIDDEN, HIDDEN } },
        { "model.layers.0.mlp.gate_proj.weight", 2, { HIDDEN, HIDDEN } },
            { "model.layers.0.mlp.up_proj.weight", 2, { HIDDEN, HIDDEN } },
        { "model.layers.0.mlp.down_proj.weight", 2, { HIDDEN, HIDDEN } },
    };
    ern_view views[11];
    char file[REFERENCE_PATH], text[1024];
    ern_err e = { 0 };
    float *zeros = calloc(ROWS * HIDDEN, sizeof *zeros);
    assert_true(zeros && mkdir(path, 0700) == 0);
    for (size_t i = 0; i < 11; i++)
        views[i] = (ern_view){ .name = tensors[i].name, .dtype = DTYPE_F32, .n_dims = tensors[i].n_dims,
                               .dims = { tensors[i].dims[0], tensors[i].dims[1] }, .data = zeros };
    snprintf(file, sizeof file, "%.900s/model.safetensors", path);
    assert_true(safetensors_write(file, views, 11, &e));
    free(zeros);
    const int n = snprintf(text, sizeof text,
                           "{\"model_type\":\"%s\",\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":1,"
                           "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":%d,"
                           "\"bos_token_id\":1,\"eos_token_id\":2,\"rope_theta\":500000,\"rms_norm_eps\":1e-5,"
                           "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
                           "\"high_freq_factor\":4.0,"
                           "\"original_max_position_embeddings\":8192},\"tie_word_embeddings\":true}", type, HIDDEN,
                               HIDDEN, ROWS);
    snprintf(file, sizeof file, "%.900s/config.json", path);
    assert_true(file_write(file, text, (size_t)n, &e));
    for (size_t i = 0; i < 5; i++) {
        char from[REFERENCE_PATH];
        ern_map m;
        snprintf(text, sizeof text, "%s/%s", tokenizer, files[i]);
        if (!reference_find(from, text)) continue;
        assert_true(file_map(&m, from, &e));
        snprintf(file, sizeof file, "%.900s/%s", path, files[i]);
        assert_true(file_write(file, m.data, m.size_bytes, &e));
        file_unmap(&m);
    }
    snprintf(file, sizeof file, "%.900s/chat_template.jinja", path);
    assert_true(file_write(file, "{{ messages }}", 14, &e));
}

/* Ids of every text of the reference cases, the same from both tokenizers. */
static void expect_same_ids(const char *cases, const ern_tokenizer *a, const ern_tokenizer *b) {
    char path[REFERENCE_PATH];
    ern_buf all = { 0 };
    size_t n_lines = 0;
    assert_true(reference_find(path, cases) && file_read(&all, path, (size_t)1 << 24, NULL));
    for (char *line = all.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
        const json_t *text = json_object_get(json, "text");
        if (text) {
            ern_ids x = { 0 }, y = { 0 };
            ern_err e = { 0 };
            const char *s = json_string_value(text);
            const size_t n = json_string_length(text);
            if (!tokenizer_encode(a, s, n, TOKENIZER_SPECIALS, &x, &e) ||
                !tokenizer_encode(b, s, n, TOKENIZER_SPECIALS, &y, &e))
                fail_msg("%s", e.text);
            if (x.n != y.n || (x.n && memcmp(x.id, y.id, x.n * sizeof *x.id) != 0)) fail_msg("ids of \"%s\" differ", s);
            ids_deinit(&x);
            ids_deinit(&y);
            n_lines++;
        }
        json_decref(json);
    }
    buf_deinit(&all);
    assert_true(n_lines > 100);
}

static void tokenizers_go_through_gguf(void **state) {
    (void)state;
    static const struct { const char *folder, *type, *model; } cases[] = { { "tokenizer/spm", "ernie4_5", "llama" },
                                                                           { "tokenizer/bytelevel", "llama", "gpt2" } };
    for (size_t i = 0; i < 2; i++) {
        char model[REFERENCE_PATH], gguf[REFERENCE_PATH], back[REFERENCE_PATH], file[REFERENCE_PATH];
        ern_err e = { 0 };
        bool flag = true;
        snprintf(file, sizeof file, "%s/cases.jsonl", cases[i].folder);
        if (!reference_find(model, file)) skip();
        make_model(in_folder(model, "model"), cases[i].folder, cases[i].type);
        convert_quietly(model, in_folder(gguf, "model.gguf"), CONVERT_GGUF, NULL);
        ern_gguf *g = gguf_open(gguf, &e);
        assert_non_null(g);
        assert_string_equal(gguf_str(g, "tokenizer.ggml.model"), cases[i].model);
        assert_string_equal(gguf_str(g, "tokenizer.chat_template"), "{{ messages }}");
        assert_int_equal(gguf_array_n(g, "tokenizer.ggml.tokens"), ROWS);
        assert_string_equal(gguf_array_str(g, "tokenizer.ggml.tokens")[ROWS - 1], "[PAD2559]");
        assert_true(gguf_bool(g, "tokenizer.ggml.add_bos_token", &flag) && !flag);
        flag = true;
        assert_true(gguf_bool(g, "tokenizer.ggml.add_space_prefix", &flag) && !flag);
        gguf_close(g);
        convert_quietly(gguf, in_folder(back, "back"), CONVERT_PT, NULL);
        ern_tokenizer *a = tokenizer_open(model, &e), *b = tokenizer_open(back, &e);
        if (!a || !b) fail_msg("%s", e.text);
        expect_same_ids(file, a, b);
        tokenizer_close(a);
        tokenizer_close(b);
        if (i == 1) expect_same_config(model, back);            /* llama3 scaling became divisors and numbers again */
        empty_folder(NULL);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_teardown(f, empty_folder)
    const struct CMUnitTest tests[] = {
        TEST(pt_and_paddle_are_the_reference_bit_for_bit), TEST(vision_models_survive_paddle),
            TEST(gguf_is_the_reference_and_goes_back),
        TEST(gguf_to_gguf_keeps_keys), TEST(types_change_when_asked), TEST(rounding_is_said),
            TEST(shards_are_cut_and_read_back),
        TEST(refusals_name_the_thing), TEST(stops_and_leaves_nothing), TEST(guards_what_is_there),
            TEST(mtp_is_left_out_of_gguf),
        TEST(tokenizers_go_through_gguf),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
