#include "formats/gguf.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/test.h"
#include "formats/gguf_write.h"
#include "reference.h"

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STR, T_ARRAY, T_U64, T_I64, T_F64 };

/* ---- bytes by hand --------------------------------------------------------------------------- */

static void put(ern_buf *b, uint64_t v, unsigned n) {
    for (unsigned i = 0; i < n; i++) assert_true(buf_char(b, (char)(v >> (8 * i)), NULL));
}

static void put_str(ern_buf *b, const char *s) {
    put(b, strlen(s), 8);
    assert_true(buf_str(b, s, NULL));
}

static void put_header(ern_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    assert_true(buf_str(b, "GGUF", NULL));
    put(b, version, 4);
    put(b, n_tensors, 8);
    put(b, n_keys, 8);
}

static void put_tensor(ern_buf *b, const char *name, uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset) {
    put_str(b, name);
    put(b, n_dims, 4);
    for (uint32_t i = 0; i < n_dims && i < 8; i++) put(b, dims[i], 8);
    put(b, type, 4);
    put(b, offset, 8);
}

static void pad(ern_buf *b) {
    while (b->len % 32) put(b, 0, 1);
}

/* Parses; on failure the message must hold want. */
static void expect_error(const ern_buf *b, const char *want) {
    ern_err e = { 0 };
    char *exact = malloc(b->len ? b->len : 1);      /* so that a read past the end is seen */
    assert_non_null(exact);
    if (b->len) memcpy(exact, b->data, b->len);
    ern_gguf *g = gguf_parse(exact, b->len, "x.gguf", &e);
    if (g || !strstr(e.text, want)) fail_msg("wanted \"%s\", got \"%s\"", want, g ? "no error" : e.text);
    free(exact);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static const char *const fixtures[] = {
    "dense.F32.gguf", "dense.F16.gguf", "dense.BF16.gguf", "dense.Q4_0.gguf", "dense.Q4_1.gguf", "dense.Q5_0.gguf",
        "dense.Q5_1.gguf",
    "dense.Q8_0.gguf", "moe.BF16.gguf", "moe.Q4_0.gguf", "moe.Q8_0.gguf", "moe_noshared.BF16.gguf", "llama.BF16.gguf",
    "llama.Q8_0.gguf",
};

static void opens_every_fixture(void **state) {
    (void)state;
    size_t n_seen = 0;
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++) {
        char path[REFERENCE_PATH];
        ern_err e = { 0 };
        uint64_t layers = 0;
        if (!reference_find(path, fixtures[i])) continue;
        n_seen++;
        ern_gguf *g = gguf_open(path, &e);
        if (!g) fail_msg("%s", e.text);
        const char *arch = gguf_str(g, "general.architecture");
        assert_non_null(arch);
        char key[64];
        snprintf(key, sizeof key, "%s.block_count", arch);
        assert_true(gguf_u64(g, key, &layers) && layers >= 2);
        const ern_view *embed = gguf_find(g, "token_embd.weight");
        assert_non_null(embed);
        assert_int_equal(embed->n_dims, 2);
        assert_int_equal(embed->dims[0], gguf_array_n(g, "tokenizer.ggml.tokens"));
        assert_int_equal(embed->dims[1], 64);
        assert_string_equal(gguf_array_str(g, "tokenizer.ggml.tokens")[17], "<17>");
        for (size_t t = 0; t < gguf_n_tensors(g); t++)
            assert_ptr_equal(gguf_find(g, gguf_tensor(g, t)->name), gguf_tensor(g, t));
        gguf_close(g);
    }
    if (n_seen == 0) skip();
}

static void reads_every_kind_of_value(void **state) {
    (void)state;
    ern_err e = { 0 };
    char path[] = "/tmp/ern_gguf_test_XXXXXX", text[128];
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    const char *const words[] = { "a", "", "世界" };
    const int32_t ints[] = { -1, 2, INT32_MAX };
    const uint32_t big[] = { 1, UINT32_MAX };
    const float reals[] = { 0.5f, -3.0f };
    float many[9] = { 0 };
    ern_gguf_writer *w = gguf_writer_open(path, &e);
    assert_non_null(w);
    assert_true(gguf_writer_u8(w, "u8", 200, &e) && gguf_writer_i8(w, "i8", -100, &e) &&
                gguf_writer_u16(w, "u16", 60000, &e));
    assert_true(gguf_writer_i16(w, "i16", -30000, &e) && gguf_writer_u32(w, "u32", UINT32_MAX, &e));
    assert_true(gguf_writer_i32(w, "i32", INT32_MIN, &e) && gguf_writer_u64(w, "u64", UINT64_MAX, &e));
    assert_true(gguf_writer_i64(w, "i64", INT64_MIN, &e) && gguf_writer_f32(w, "f32", 1.5f, &e));
    assert_true(gguf_writer_f64(w, "f64", 1e300, &e) && gguf_writer_bool(w, "yes", true, &e) &&
                gguf_writer_str(w, "str", "line\nend", &e));
    assert_true(gguf_writer_array_str(w, "words", words, 3, &e) && gguf_writer_array_i32(w, "ints", ints, 3, &e));
    assert_true(gguf_writer_array_u32(w, "big", big, 2, &e) && gguf_writer_array_f32(w, "reals", reals, 2, &e));
    assert_true(gguf_writer_array_f32(w, "many", many, 9, &e) && gguf_writer_array_i32(w, "none", NULL, 0, &e));
    assert_false(gguf_writer_bool(w, "yes", true, &e));         /* twice */
    assert_true(gguf_writer_finish(w, &e));
    gguf_writer_close(w);

    ern_gguf *g = gguf_open(path, &e);
    if (!g) fail_msg("%s", e.text);
    uint64_t u = 0;
    int64_t s = 0;
    double d = 0.0;
    bool b = false;
    assert_true(gguf_u64(g, "u8", &u) && u == 200 && gguf_u64(g, "u16", &u) && u == 60000 && gguf_u64(g, "u32", &u) &&
                u == UINT32_MAX);
    assert_true(gguf_u64(g, "u64", &u) && u == UINT64_MAX);
    assert_true(gguf_i64(g, "i8", &s) && s == -100 && gguf_i64(g, "i16", &s) && s == -30000 && gguf_i64(g, "i32", &s) &&
                s == INT32_MIN);
    assert_true(gguf_i64(g, "i64", &s) && s == INT64_MIN);
    assert_false(gguf_u64(g, "i8", &u) || gguf_i64(g, "u64", &s) || gguf_u64(g, "f32", &u) || gguf_u64(g, "absent", &u));
    assert_false(gguf_u64(g, "yes", &u) || gguf_u64(g, "str", &u) || gguf_u64(g, "ints", &u));
    assert_true(gguf_f64(g, "f32", &d) && d == 1.5 && gguf_f64(g, "f64", &d) && d == 1e300 && gguf_f64(g, "i8", &d) &&
                d == -100.0);
    assert_true(gguf_f64(g, "u64", &d) && d == 18446744073709551616.0);
    assert_true(gguf_bool(g, "yes", &b) && b);
    assert_false(gguf_bool(g, "u8", &b));
    assert_string_equal(gguf_str(g, "str"), "line\nend");
    assert_null(gguf_str(g, "u8"));
    assert_int_equal(gguf_array_n(g, "words"), 3);
    assert_int_equal(gguf_array_n(g, "str"), 0);
    for (size_t i = 0; i < 3; i++) assert_string_equal(gguf_array_str(g, "words")[i], words[i]);
    assert_null(gguf_array_str(g, "ints"));
    int32_t got[3] = { 0 };
    float got_f[3] = { 0 };
    assert_true(gguf_array_i32(g, "ints", got) && memcmp(got, ints, sizeof got) == 0);
    assert_false(gguf_array_i32(g, "big", got) || gguf_array_i32(g, "reals", got) || gguf_array_i32(g, "words", got));
    assert_int_equal(got[1], 2);                                /* untouched */
    assert_true(gguf_array_f32(g, "reals", got_f) && got_f[0] == 0.5f && got_f[1] == -3.0f);
    assert_true(gguf_array_f32(g, "ints", got_f) && got_f[0] == -1.0f);
    static const char *const shown[] = { "200", "-100", "60000", "-30000", "4294967295", "-2147483648",
                                         "18446744073709551615",
        "-9223372036854775808", "1.5", "1e+300", "true", "line end", "[3 strings]", "[-1, 2, 2147483647]", "[1, 4294967295]",
        "[0.5, -3]", "[9 numbers]", "[]" };
    assert_int_equal(gguf_n_keys(g), 18);
    for (size_t i = 0; i < 18; i++) {
        gguf_value_text(g, i, text, sizeof text);
        assert_string_equal(text, shown[i]);
        gguf_value_text(g, i, text, 4);
        assert_true(strlen(text) < 4);
    }
    assert_string_equal(gguf_key(g, 10), "yes");
    gguf_close(g);
    unlink(path);
}

static void keeps_arrays_of_arrays_opaque(void **state) {
    (void)state;
    ern_err e = { 0 };
    char text[64];
    uint64_t u = 0;
    ern_buf b = { 0 };
    put_header(&b, 2, 0, 2);
    put_str(&b, "nested");
    put(&b, T_ARRAY, 4);
    put(&b, T_ARRAY, 4);
    put(&b, 2, 8);
    put(&b, T_STR, 4);
    put(&b, 1, 8);
    put_str(&b, "x");
    put(&b, T_U16, 4);
    put(&b, 3, 8);
    put(&b, 0, 6);
    put_str(&b, "after");
    put(&b, T_U32, 4);
    put(&b, 7, 4);
    ern_gguf *g = gguf_parse(b.data, b.len, "x.gguf", &e);
    if (!g) fail_msg("%s", e.text);
    gguf_value_text(g, 0, text, sizeof text);
    assert_string_equal(text, "[2 arrays]");
    assert_null(gguf_array_str(g, "nested"));
    assert_true(gguf_u64(g, "after", &u) && u == 7);
    gguf_close(g);
    buf_deinit(&b);
}

/* One key of type with raw value bytes. */
typedef struct { const char *key; uint32_t type; const char *value; size_t n; const char *want; } key_case;

static void refuses_hostile_keys(void **state) {
    (void)state;
#define BYTES(s) s, sizeof s - 1
    static const key_case cases[] = {
        { "a", T_STR, BYTES("\xff\xff\xff\xff\xff\xff\xff\xff" "abc"), "the file has 3 left" },
        { "a", T_STR, BYTES("\4\0\0\0\0\0\0\0abc"), "4 bytes, the file has 3 left" },
        { "a", T_STR, BYTES("\3\0\0\0\0\0\0\0a\0c"), "zero byte" },
        { "a", 13, BYTES("\0\0\0\0"), "value type 13" },
        { "a", 0xffffffff, BYTES("\0\0\0\0"), "value type" },
        { "a", T_U32, BYTES("\0\0\0"), "ends at byte" },
        { "a", T_BOOL, BYTES("\2"), "truth value 2" },
        { "a", T_ARRAY, BYTES("\4\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f"), "an array of 9223372036854775807" },
        { "a", T_ARRAY, BYTES("\x0c\0\0\0\xff\xff\xff\xff\xff\xff\xff\x1f"), "an array of" },
        { "a", T_ARRAY, BYTES("\10\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a"), "an array of 2" },
        { "a", T_ARRAY, BYTES("\x0d\0\0\0\1\0\0\0\0\0\0\0"), "value type 13" },
        { "a", T_ARRAY, BYTES("\x09\0\0\0\1\0\0\0\0\0\0\0" "\x09\0\0\0\1\0\0\0\0\0\0\0" "\x09\0\0\0\1\0\0\0\0\0\0\0"
                              "\x09\0\0\0\1\0\0\0\0\0\0\0" "\x09\0\0\0\1\0\0\0\0\0\0\0" "\0\0\0\0\0\0\0\0\0\0\0\0"),
                                  "arrays 5 deep" },
        { "", T_U8, BYTES("\1"), "a name in UTF-8 wanted" },
        { "\xff", T_U8, BYTES("\1"), "a name in UTF-8 wanted" },
        { "general.alignment", T_U32, BYTES("\0\0\0\0"), "general.alignment 0" },
        { "general.alignment", T_U32, BYTES("\x30\0\0\0"), "general.alignment 48" },
        { "general.alignment", T_U32, BYTES("\0\0\2\0"), "general.alignment 131072" },
        { "general.alignment", T_STR, BYTES("\0\0\0\0\0\0\0\0"), "general.alignment 0" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_buf b = { 0 };
        put_header(&b, 3, 0, 1);
        put_str(&b, cases[i].key);
        put(&b, cases[i].type, 4);
        assert_true(buf_add(&b, cases[i].value, cases[i].n, NULL));
        expect_error(&b, cases[i].want);
        buf_deinit(&b);
    }
}

static void refuses_hostile_headers(void **state) {
    (void)state;
    static const struct { const char *magic; uint64_t version, tensors, keys; const char *want; } cases[] = {
        { "GGML", 3, 0, 0, "not a GGUF file: begins with bytes 47 47 4d 4c" },
        { "GGUF", 0, 0, 0, "version 0" },
        { "GGUF", 1, 0, 0, "version 1, 2 or 3 wanted" },
        { "GGUF", 4, 0, 0, "version 4, 2 or 3 wanted" },
        { "GGUF", 0x03000000, 0, 0, "big-endian" },
        { "GGUF", 3, UINT64_MAX, 0, "claims 0 keys and 18446744073709551615 tensors" },
        { "GGUF", 3, 0, UINT64_MAX, "claims 18446744073709551615 keys" },
        { "GGUF", 3, 1, 0, "claims 0 keys and 1 tensors" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_buf b = { 0 };
        assert_true(buf_str(&b, cases[i].magic, NULL));
        put(&b, cases[i].version, 4);
        put(&b, cases[i].tensors, 8);
        put(&b, cases[i].keys, 8);
        expect_error(&b, cases[i].want);
        buf_deinit(&b);
    }
}

typedef struct {
    const char *name;
    uint32_t n_dims;
    uint64_t dims[5];
    uint32_t type;
    uint64_t offset;
} test_tensor;

static void build(ern_buf *b, const test_tensor *t, size_t n, size_t data_bytes) {
    put_header(b, 3, n, 0);
    for (size_t i = 0; i < n; i++) put_tensor(b, t[i].name, t[i].n_dims, t[i].dims, t[i].type, t[i].offset);
    pad(b);
    for (size_t i = 0; i < data_bytes; i++) put(b, i, 1);
}

static void refuses_hostile_tensors(void **state) {
    (void)state;
    const uint64_t top = UINT64_MAX, half = UINT64_MAX / 2;
    const struct { test_tensor t[2]; size_t n; const char *want; } cases[] = {
        { { { "a", 1, { 8 }, 0, 96 } }, 1, "tensor a: 32 bytes at offset 96, the file has 96 bytes of data" },
        { { { "a", 1, { 25 }, 0, 0 } }, 1, "tensor a: 100 bytes at offset 0" },
        { { { "a", 1, { 8 }, 0, top - 31 } }, 1, "at offset 18446744073709551584" },
        { { { "a", 1, { 8 }, 0, 8 } }, 1, "offset 8, a multiple of 32 wanted" },
        { { { "a", 5, { 1, 1, 1, 1, 1 }, 0, 0 } }, 1, "5 dimensions, at most 4" },
        { { { "a", 0xffffffff, { 1 }, 0, 0 } }, 1, "4294967295 dimensions" },
        { { { "a", 1, { top }, 0, 0 } }, 1, "a dimension of 18446744073709551615" },
        { { { "a", 2, { half, half }, 0, 0 } }, 1, "more elements than memory can hold" },
        { { { "a", 4, { 65536, 65536, 65536, 65536 }, 0, 0 } }, 1, "more elements than memory can hold" },
        { { { "a", 1, { half / 4 + 1 }, 0, 0 } }, 1, "more than memory can hold" },
        { { { "a", 2, { 33, 32 }, 2, 0 } }, 1, "a row of 33 values, type Q4_0 wants a multiple of 32" },
        { { { "a", 1, { 8 }, 4, 0 } }, 1, "type 4 is not a number format" },
        { { { "a", 1, { 8 }, 999, 0 } }, 1, "type 999 is not a number format" },
        { { { "", 1, { 8 }, 0, 0 } }, 1, "a name in UTF-8 wanted" },
        { { { "a", 1, { 8 }, 0, 0 }, { "a", 1, { 8 }, 0, 32 } }, 2, "tensor a comes twice" },
        { { { "a", 1, { 16 }, 0, 0 }, { "b", 1, { 8 }, 0, 32 } }, 2, "tensors a and b lie over each other" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_buf b = { 0 };
        build(&b, cases[i].t, cases[i].n, 96);
        expect_error(&b, cases[i].want);
        buf_deinit(&b);
    }
}

static void reads_dims_row_major_and_any_order(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_buf b = { 0 };
    const test_tensor t[] = { { "b", 2, { 32, 2 }, 8, 32 }, { "a", 1, { 8 }, 0, 0 }, { "none", 2, { 0, 5 }, 0, 32 },
                              { "one", 0, { 0 }, 0, 128 } };
    build(&b, t, 4, 32 + 96 + 4);
    ern_gguf *g = gguf_parse(b.data, b.len, "x.gguf", &e);
    if (!g) fail_msg("%s", e.text);
    const ern_view *v = gguf_find(g, "b");
    assert_non_null(v);
    assert_true(v->n_dims == 2 && v->dims[0] == 2 && v->dims[1] == 32 && v->dtype == DTYPE_Q8_0 && v->size_bytes == 68);
    assert_int_equal(*(const uint8_t *)v->data, 32);
    assert_int_equal(gguf_find(g, "none")->size_bytes, 0);
    assert_int_equal(gguf_find(g, "one")->size_bytes, 4);
    assert_null(gguf_find(g, "c"));
    assert_null(gguf_tensor(g, 4));
    gguf_close(g);
    buf_deinit(&b);
}

static void prefixes_end_in_an_error(void **state) {
    (void)state;
    char path[REFERENCE_PATH];
    ern_map m;
    if (!reference_find(path, "moe.Q4_0.gguf")) skip();
    assert_true(file_map(&m, path, NULL));
    const size_t dense = 20000;                 /* every prefix of the head would take a minute under the sanitizers */
    for (size_t n = 0; n < m.size_bytes; n += n < 256 ? 1 : n < dense ? 61 : 7919) {
        ern_err e = { 0 };
        uint8_t *exact = malloc(n ? n : 1);
        assert_non_null(exact);
        if (n) memcpy(exact, m.data, n);
        ern_gguf *g = gguf_parse(exact, n, "prefix", &e);
        assert_null(g);
        assert_true(e.code == ERN_FORMAT && e.text[0]);
        free(exact);
    }
    file_unmap(&m);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void write_part(const char *path, unsigned no, unsigned count, int n_tensors, const char *tensor) {
    ern_err e = { 0 };
    const float data[4] = { (float)no, 1, 2, 3 };
    const ern_view v = { .name = tensor, .dtype = DTYPE_F32, .n_dims = 1, .dims = { 4 }, .data = data };
    ern_gguf_writer *w = gguf_writer_open(path, &e);
    assert_non_null(w);
    if (no == 0) assert_true(gguf_writer_str(w, "general.architecture", "test", &e));
    assert_true(gguf_writer_u16(w, "split.no", (uint16_t)no, &e) && gguf_writer_u16(w, "split.count", (uint16_t)count, &e) &&
                gguf_writer_i32(w, "split.tensors.count", n_tensors, &e) && gguf_writer_declare(w, &v, &e) &&
                gguf_writer_data(w, data, sizeof data, &e) && gguf_writer_finish(w, &e));
    gguf_writer_close(w);
}

static void opens_parts_from_any_of_them(void **state) {
    (void)state;
    char folder[] = "/tmp/ern_gguf_parts_XXXXXX", path[3][128];
    ern_err e = { 0 };
    assert_non_null(mkdtemp(folder));
    for (unsigned i = 0; i < 3; i++) {
        const char *const names[] = { "a", "b", "c" };
        snprintf(path[i], sizeof path[i], "%s/m-0000%u-of-00003.gguf", folder, i + 1);
        write_part(path[i], i, 3, 3, names[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        ern_gguf *g = gguf_open(path[i], &e);
        if (!g) fail_msg("%s", e.text);
        assert_int_equal(gguf_n_tensors(g), 3);
        assert_string_equal(gguf_str(g, "general.architecture"), "test");
        assert_string_equal(gguf_tensor(g, 2)->name, "c");
        assert_true(*(const float *)gguf_find(g, "c")->data == 2.0f);
        gguf_close(g);
    }
    write_part(path[1], 1, 3, 3, "a");
    assert_null(gguf_open(path[0], &e));
    assert_non_null(strstr(e.text, "tensor a comes twice"));
    write_part(path[1], 2, 3, 3, "b");
    assert_null(gguf_open(path[0], &e));
    assert_non_null(strstr(e.text, "is part 3 of 3"));
    write_part(path[1], 1, 3, 3, "b");
    write_part(path[0], 0, 3, 7, "a");
    assert_null(gguf_open(path[2], &e));
    assert_non_null(strstr(e.text, "the parts hold 3 tensors, split.tensors.count says 7"));
    unlink(path[1]);
    assert_null(gguf_open(path[0], &e));
    assert_non_null(strstr(e.text, "m-00002-of-00003.gguf"));
    snprintf(path[1], sizeof path[1], "%s/other.gguf", folder);
    write_part(path[1], 0, 3, 3, "a");
    assert_null(gguf_open(path[1], &e));
    assert_non_null(strstr(e.text, "-00001-of-00003.gguf wanted"));
    for (unsigned i = 0; i < 3; i++) unlink(path[i]);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_every_fixture), cmocka_unit_test(reads_every_kind_of_value),
        cmocka_unit_test(keeps_arrays_of_arrays_opaque), cmocka_unit_test(refuses_hostile_keys),
        cmocka_unit_test(refuses_hostile_headers), cmocka_unit_test(refuses_hostile_tensors),
        cmocka_unit_test(reads_dims_row_major_and_any_order), cmocka_unit_test(prefixes_end_in_an_error),
        cmocka_unit_test(opens_parts_from_any_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
