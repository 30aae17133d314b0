#include "formats/gguf_write.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/test.h"
#include "formats/gguf.h"

/* Keys of every type are written and read back in gguf_test.c. */

static char path[] = "/tmp/ern_gguf_write_test_XXXXXX";

static int make_path(void **state) {
    (void)state;
    const int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    return 0;
}
static int remove_path(void **state) { (void)state; return unlink(path); }

static const uint8_t bytes[256] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24 };

static const ern_view views[] = {
    { .name = "a", .dtype = DTYPE_F16, .n_dims = 1, .dims = { 3 } },
    { .name = "blocks", .dtype = DTYPE_Q4_0, .n_dims = 3, .dims = { 2, 3, 32 } },
    { .name = "none", .dtype = DTYPE_F32, .n_dims = 2, .dims = { 0, 4 } },
    { .name = "b", .dtype = DTYPE_F32, .n_dims = 2, .dims = { 2, 4 } },
    { .name = "one", .dtype = DTYPE_I32, .n_dims = 0 },
};
static const size_t sizes[] = { 6, 108, 0, 32, 4 };
enum { N = 5 };

static void writes_tensors_in_pieces(void **state) {
    (void)state;
    for (size_t step = 1; step < 200; step += 33) {
        ern_err e = { 0 };
        ern_gguf_writer *w = gguf_writer_open(path, &e);
        assert_non_null(w);
        assert_true(gguf_writer_str(w, "a", "a key may have the name of a tensor", &e));
        for (size_t i = 0; i < N; i++) assert_true(gguf_writer_declare(w, &views[i], &e));
        size_t n = 0;
        for (size_t i = 0; i < N; i++) n += sizes[i];
        for (size_t at = 0; at < n; at += step)
            if (!gguf_writer_data(w, bytes + at, n - at < step ? n - at : step, &e)) fail_msg("%s", e.text);
        if (!gguf_writer_finish(w, &e)) fail_msg("%s", e.text);
        gguf_writer_close(w);
        ern_gguf *g = gguf_open(path, &e);
        if (!g) fail_msg("%s", e.text);
        size_t at = 0;
        for (size_t i = 0; i < N; i++) {
            const ern_view *v = gguf_find(g, views[i].name);
            assert_true(v && v->dtype == views[i].dtype && v->n_dims == views[i].n_dims && v->size_bytes == sizes[i]);
            for (unsigned d = 0; d < v->n_dims; d++) assert_int_equal(v->dims[d], views[i].dims[d]);
            assert_memory_equal(v->data, bytes + at, sizes[i]);
            assert_int_equal((uintptr_t)v->data % 32, 0);
            at += sizes[i];
        }
        gguf_close(g);
    }
}

static void copies_keys(void **state) {
    (void)state;
    ern_err e = { 0 };
    char other[64];
    const char *const words[] = { "x", "yz" };
    const float reals[] = { 1.0f, 2.0f };
    snprintf(other, sizeof other, "%s.copy", path);
    ern_gguf_writer *w = gguf_writer_open(path, &e);
    assert_true(w && gguf_writer_array_str(w, "words", words, 2, &e) && gguf_writer_array_f32(w, "reals", reals, 2, &e) &&
                gguf_writer_bool(w, "flag", true, &e) && gguf_writer_str(w, "text", "abc", &e) && gguf_writer_finish(w, &e));
    gguf_writer_close(w);
    ern_gguf *g = gguf_open(path, &e);
    assert_non_null(g);
    w = gguf_writer_open(other, &e);
    assert_non_null(w);
    for (size_t i = 0; i < gguf_n_keys(g); i++) assert_true(gguf_writer_copy(w, g, i, &e));
    assert_false(gguf_writer_copy(w, g, 0, &e));
    assert_true(gguf_writer_finish(w, &e));
    gguf_writer_close(w);
    gguf_close(g);
    g = gguf_open(other, &e);
    if (!g) fail_msg("%s", e.text);
    bool flag = false;
    float got[2];
    assert_string_equal(gguf_array_str(g, "words")[1], "yz");
    assert_true(gguf_array_f32(g, "reals", got) && got[1] == 2.0f && gguf_bool(g, "flag", &flag) && flag);
    assert_string_equal(gguf_str(g, "text"), "abc");
    gguf_close(g);
    unlink(other);
}

static void refuses(void **state) {
    (void)state;
    ern_err e = { 0 };
    char other[64], long_name[80];
    snprintf(other, sizeof other, "%s.other", path);
    memset(long_name, 'x', sizeof long_name);
    long_name[64] = '\0';
    const ern_view u16 = { .name = "u", .dtype = DTYPE_U16, .n_dims = 1, .dims = { 2 } };
    const ern_view odd = { .name = "o", .dtype = DTYPE_Q4_0, .n_dims = 2, .dims = { 2, 33 } };
    const ern_view long_one = { .name = long_name, .dtype = DTYPE_F32, .n_dims = 1, .dims = { 2 } };
    const ern_view nameless = { .name = "", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 2 } };
    ern_gguf_writer *w = gguf_writer_open(other, &e);
    assert_non_null(w);
    assert_false(gguf_writer_u32(w, "", 1, &e));
    assert_false(gguf_writer_declare(w, &u16, &e));
    assert_non_null(strstr(e.text, "GGUF files have no type U16"));
    assert_false(gguf_writer_declare(w, &odd, &e));
    assert_non_null(strstr(e.text, "a row of 33 values"));
    assert_false(gguf_writer_declare(w, &long_one, &e));
    assert_non_null(strstr(e.text, "64 bytes, 1 to 63 wanted"));
    assert_false(gguf_writer_declare(w, &nameless, &e));
    assert_true(gguf_writer_declare(w, &views[0], &e) && gguf_writer_data(w, bytes, 5, &e));
    assert_false(gguf_writer_declare(w, &views[1], &e) || gguf_writer_u32(w, "late", 1, &e));
    assert_false(gguf_writer_finish(w, &e));
    assert_non_null(strstr(e.text, "tensor a: 5 bytes given, 6 wanted"));
    assert_true(gguf_writer_data(w, bytes, 1, &e));
    assert_false(gguf_writer_data(w, bytes, 1, &e));
    gguf_writer_close(w);
    assert_false(file_exists(other));
    w = gguf_writer_open(other, &e);
    assert_true(w && gguf_writer_declare(w, &views[0], &e) && gguf_writer_declare(w, &views[0], &e));
    assert_false(gguf_writer_finish(w, &e));
    assert_non_null(strstr(e.text, "tensor a is declared twice"));
    gguf_writer_close(w);
    gguf_writer_close(NULL);
    assert_false(file_exists(other));
}

static void a_full_disk_is_an_error(void **state) {
    (void)state;
    ern_err e = { 0 };
    if (!file_exists("/dev/full")) skip();
    ern_gguf_writer *w = gguf_writer_open("/dev/full", &e);
    assert_non_null(w);
    assert_false(gguf_writer_finish(w, &e));
    assert_int_equal(e.code, ERN_IO);
    assert_non_null(strstr(e.text, "/dev/full"));
    gguf_writer_close(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_tensors_in_pieces), cmocka_unit_test(copies_keys), cmocka_unit_test(refuses),
        cmocka_unit_test(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
