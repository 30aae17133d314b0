#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/test.h"
#include "formats/safetensors_write.h"
#include "reference.h"

static const char *const fixtures[] = {
    "dense/model.safetensors", "dense_untied/model.safetensors", "dense_paddle/model.safetensors", "moe/model.safetensors",
    "moe_paddle/model.safetensors", "moe_noshared/model.safetensors", "moe_noshared_paddle/model.safetensors",
    "llama/model.safetensors", "mtp/model.safetensors", "mtp_paddle/model.safetensors", "vl_moe/model.safetensors",
    "paddleocr_vl/model.safetensors", "train_mlm/model.safetensors", "train_moe/model.safetensors",
    "train_lora/adapter_after/adapter_model.safetensors", "dense/expect.safetensors", "moe/expect.safetensors",
    "dense_untied/expect_gguf.safetensors", "quant_blocks.safetensors", "gguf_logits.safetensors",
        "smollm2/expect.safetensors",
    "minilm/expect.safetensors", "vl_moe/expect.safetensors", "paddleocr_vl/expect.safetensors",
        "train_sft/expect.safetensors",
};

static void opens_every_fixture(void **state) {
    (void)state;
    size_t n_seen = 0;
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++) {
        char path[REFERENCE_PATH];
        ern_err e = { 0 };
        if (!reference_find(path, fixtures[i])) continue;
        n_seen++;
        ern_safetensors *s = safetensors_open(path, &e);
        if (!s) fail_msg("%s", e.text);
        for (size_t t = 0; t < safetensors_n(s); t++) {
            const ern_view *v = safetensors_at(s, t);
            assert_ptr_equal(safetensors_find(s, v->name), v);
            assert_int_equal(v->size_bytes, view_n(v) * dtype_info(v->dtype)->block_bytes);
        }
        assert_null(safetensors_find(s, "no such tensor"));
        assert_null(safetensors_at(s, safetensors_n(s)));
        safetensors_close(s);
    }
    if (n_seen == 0) skip();
}

/* header after its length, then n_data bytes. */
static void build(ern_buf *b, const char *header, size_t n_data) {
    const size_t n = strlen(header);
    for (unsigned i = 0; i < 8; i++) assert_true(buf_char(b, (char)((uint64_t)n >> (8 * i)), NULL));
    assert_true(buf_str(b, header, NULL));
    for (size_t i = 0; i < n_data; i++) assert_true(buf_char(b, (char)i, NULL));
}

static void refuses_hostile_headers(void **state) {
    (void)state;
    static const struct { const char *header; size_t n_data; const char *want; } cases[] = {
        { "", 0, "line 1" },
        { "[]", 0, "a JSON object wanted" },
        { "{\"a\": 1}", 0, "tensor a: dtype is missing" },
        { "{\"a\": {\"dtype\": 7}}", 0, "tensor a: dtype is missing" },
        { "{\"a\": {\"dtype\": \"F8_E4M3\", \"shape\": [], \"data_offsets\": [0, 1]}}", 1, "type F8_E4M3 cannot be read" },
        { "{\"a\": {\"dtype\": \"U32\", \"shape\": [], \"data_offsets\": [0, 4]}}", 4, "type U32 cannot be read" },
        { "{\"a\": {\"dtype\": \"Q4_0\", \"shape\": [32], \"data_offsets\": [0, 18]}}", 18, "type Q4_0 cannot be read" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": 2, \"data_offsets\": [0, 8]}}", 8, "shape is missing or not an array" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [-2], \"data_offsets\": [0, 8]}}", 8,
          "dimension 0: an integer from 0 wanted" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2.5], \"data_offsets\": [0, 8]}}", 8,
          "dimension 0: an integer from 0 wanted" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,2], \"data_offsets\": [0, 8]}}", 8, "5 dimensions, at most 4" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 8]}}", 8,
          "more elements than memory" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387903], \"data_offsets\": [0, 8]}}", 8,
          "more than memory can hold" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [99999999999999999999], \"data_offsets\": [0, 8]}}", 8,
          "too big integer" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2]}}", 8, "data_offsets: two integers" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0]}}", 8, "data_offsets: two integers" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, \"8\"]}}", 8, "data_offsets: two integers" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 0]}}", 8, "bytes 8 to 0" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 9]}}", 8, "bytes 0 to 9, the file has 8" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [3], \"data_offsets\": [0, 8]}}", 8,
          "8 bytes of data, its shape and type F32 want 12" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 9,
          "end at byte 8 of the data, the file at byte 9" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [1, 9]}}", 9,
          "begins at byte 1 of the data, 0 wanted: a gap" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}, \"b\": {\"dtype\": \"F32\", "
          "\"shape\": [1], \"data_offsets\": [4, 8]}}", 8,
              "tensor b: begins at byte 4 of the data, 8 wanted: lies over another" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}, \"a\": {\"dtype\": \"F32\", "
          "\"shape\": [1], \"data_offsets\": [8, 12]}}", 12, "duplicate object key" },
        { "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}} x", 8, "line 1" },
        { "{\"a\\u0000\": {}}", 8, "line 1" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_err e = { 0 };
        ern_buf b = { 0 };
        build(&b, cases[i].header, cases[i].n_data);
        ern_safetensors *s = safetensors_parse(b.data, b.len, "x.safetensors", &e);
        if (s || !strstr(e.text, cases[i].want))
            fail_msg("case %zu: wanted \"%s\", got \"%s\"", i, cases[i].want, s ? "no error" : e.text);
        buf_deinit(&b);
    }
}

static void refuses_hostile_lengths(void **state) {
    (void)state;
    ern_err e = { 0 };
    const uint8_t huge[] = { 255, 255, 255, 255, 255, 255, 255, 255, '{', '}' },
        cut[] = { 3, 0, 0, 0, 0, 0, 0, 0, '{', '}' };
    assert_null(safetensors_parse(huge, sizeof huge, "x", &e));
    assert_non_null(strstr(e.text, "a header of 18446744073709551615 bytes, the file has 2 left"));
    assert_null(safetensors_parse(cut, sizeof cut, "x", &e));
    assert_non_null(strstr(e.text, "a header of 3 bytes, the file has 2 left"));
    assert_null(safetensors_parse(cut, 7, "x", &e));
    assert_null(safetensors_parse("", 0, "x", &e));
    ern_buf deep = { 0 };
    assert_true(buf_str(&deep, "{\"a\":", NULL));
    for (size_t i = 0; i < 100000; i++) assert_true(buf_char(&deep, '[', NULL));
    ern_buf b = { 0 };
    build(&b, deep.data, 0);
    assert_null(safetensors_parse(b.data, b.len, "x", &e));
    assert_non_null(strstr(e.text, "depth"));
    buf_deinit(&b);
    buf_deinit(&deep);
}

static void accepts_what_is_allowed(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_buf b = { 0 };
    build(&b, "{\"__metadata__\":{\"format\":\"pt\"},\"s\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},"
              "\"none\":{\"dtype\":\"BF16\",\"shape\":[0,3],\"data_offsets\":[8,8]},"
              "\"b\":{\"dtype\":\"BOOL\",\"shape\":[2,1],\"data_offsets\":[8,10]}}   ", 10);
    ern_safetensors *s = safetensors_parse(b.data, b.len, "x", &e);
    if (!s) fail_msg("%s", e.text);
    assert_int_equal(safetensors_n(s), 3);
    assert_int_equal(safetensors_find(s, "s")->n_dims, 0);
    assert_int_equal(view_n(safetensors_find(s, "s")), 1);
    assert_int_equal(*(const uint8_t *)safetensors_find(s, "b")->data, 8);
    assert_string_equal(json_string_value(json_object_get(safetensors_metadata(s), "format")), "pt");
    safetensors_close(s);
    buf_deinit(&b);
    build(&b, "{}", 0);
    s = safetensors_parse(b.data, b.len, "x", &e);
    assert_non_null(s);
    assert_int_equal(safetensors_n(s), 0);
    safetensors_close(s);
    buf_deinit(&b);
}

static void prefixes_end_in_an_error(void **state) {
    (void)state;
    char path[REFERENCE_PATH];
    ern_map m;
    if (!reference_find(path, "dense/model.safetensors")) skip();
    assert_true(file_map(&m, path, NULL));
    for (size_t n = 0; n < m.size_bytes; n += n < 3100 ? 1 : 7919) {
        ern_err e = { 0 };
        uint8_t *exact = malloc(n ? n : 1);
        assert_non_null(exact);
        if (n) memcpy(exact, m.data, n);
        assert_null(safetensors_parse(exact, n, "prefix", &e));
        assert_true(e.code == ERN_FORMAT && e.text[0]);
        free(exact);
    }
    file_unmap(&m);
}

/* ---- shards ---------------------------------------------------------------------------------- */

static char folder[] = "/tmp/ern_safetensors_test_XXXXXX";

static char *in_folder(const char *name) {
    char *path = file_join(folder, name, NULL);
    assert_non_null(path);
    return path;
}

static void write_shard(const char *file, const char *tensor) {
    ern_err e = { 0 };
    const float x[2] = { 1, 2 };
    const ern_view v = { .name = tensor, .dtype = DTYPE_F32, .n_dims = 1, .dims = { 2 }, .data = x };
    char *path = in_folder(file);
    if (!safetensors_write(path, &v, 1, &e)) fail_msg("%s", e.text);
    free(path);
}

static void index_is_checked(void **state) {
    (void)state;
    static const struct { const char *index, *want; } cases[] = {
        { "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", NULL },
        { "{}", "weight_map" },
        { "{\"weight_map\":[]}", "weight_map" },
        { "{\"weight_map\":{}}", "weight_map" },
        { "{\"weight_map\":{\"a\":1}}", "tensor a: the name of a shard wanted" },
        { "{\"weight_map\":{\"a\":\"1.safetensors\"}} }", "line 1" },
        { "{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "plain name" },
        { "{\"weight_map\":{\"a\":\"\"}}", "plain name" },
        { "{\"weight_map\":{\"a\":\"..\"}}", "plain name" },
        { "{\"weight_map\":{\"a\":\"3.safetensors\"}}", "3.safetensors" },
        { "{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", "is not in the shard" },
        { "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\"}}",
          "tensor c is not in the shard" },
        { "{\"weight_map\":{\"b\":\"2.safetensors\",\"c\":\"1.safetensors\"}}", "tensor c is not in the shard" },
        { "{\"weight_map\":{\"a\":\"1.safetensors\",\"twice\":\"same.safetensors\"}}", "tensor a comes twice" },
        { "{\"weight_map\":{\"a\":\"1.safetensors\",\"x\":\"both.safetensors\"}}",
          "tensor y of a shard is not in the index" },
    };
    assert_non_null(mkdtemp(folder));
    write_shard("1.safetensors", "a");
    write_shard("2.safetensors", "b");
    write_shard("same.safetensors", "a");
    const float x[1] = { 0 };
    const ern_view both[] = { { .name = "x", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 1 }, .data = x },
                              { .name = "y", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 1 }, .data = x } };
    char *path = in_folder("both.safetensors"), *index = in_folder("model.safetensors.index.json");
    assert_true(safetensors_write(path, both, 2, NULL));
    free(path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_err e = { 0 };
        assert_true(file_write(index, cases[i].index, strlen(cases[i].index), NULL));
        ern_safetensors *s = safetensors_open(i % 2 ? index : folder, &e);
        if (cases[i].want) {
            if (s || !strstr(e.text, cases[i].want))
                fail_msg("case %zu: wanted \"%s\", got \"%s\"", i, cases[i].want, s ? "no error" : e.text);
        } else {
            if (!s) fail_msg("%s", e.text);
            assert_int_equal(safetensors_n(s), 2);
            assert_true(*(const float *)safetensors_find(s, "b")->data == 1.0f);
            safetensors_close(s);
        }
    }
    static const char *const files[] = { "1.safetensors", "2.safetensors", "same.safetensors", "both.safetensors" };
    unlink(index);
    ern_err e = { 0 };
    assert_null(safetensors_open(folder, &e));                  /* four files, none of them called model */
    assert_non_null(strstr(e.text, "found 4 other"));
    for (size_t i = 1; i < 4; i++) { path = in_folder(files[i]); unlink(path); free(path); }
    ern_safetensors *s = safetensors_open(folder, &e);          /* the only file of the folder */
    if (!s) fail_msg("%s", e.text);
    assert_non_null(safetensors_find(s, "a"));
    safetensors_close(s);
    path = in_folder(files[0]);
    unlink(path);
    free(path);
    free(index);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_every_fixture), cmocka_unit_test(refuses_hostile_headers),
            cmocka_unit_test(refuses_hostile_lengths),
        cmocka_unit_test(accepts_what_is_allowed), cmocka_unit_test(prefixes_end_in_an_error),
            cmocka_unit_test(index_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
