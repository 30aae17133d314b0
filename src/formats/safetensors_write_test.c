#include "formats/safetensors_write.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/test.h"
#include "formats/safetensors.h"

static char folder[] = "/tmp/ern_safetensors_write_test_XXXXXX";

static int make_folder(void **state) { (void)state; return mkdtemp(folder) ? 0 : -1; }
static int remove_folder(void **state) { (void)state; return rmdir(folder); }     /* fails when something was left */

static size_t n_files(bool removes) {
    size_t n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        if (d->d_name[0] == '.') continue;
        char *path = file_join(folder, d->d_name, NULL);
        if (removes) unlink(path);
        free(path);
        n++;
    }
    if (dir) closedir(dir);
    return n;
}

static char *in_folder(const char *name) {
    char *path = file_join(folder, name, NULL);
    assert_non_null(path);
    return path;
}

static const uint8_t bytes[64] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24 };

static const ern_view views[] = {
    { .name = "half", .dtype = DTYPE_BF16, .n_dims = 1, .dims = { 3 }, .data = bytes },
    { .name = "wide", .dtype = DTYPE_F64, .n_dims = 2, .dims = { 2, 1 }, .data = bytes },
    { .name = "byte", .dtype = DTYPE_U8, .n_dims = 1, .dims = { 1 }, .data = bytes + 5 },
    { .name = "none", .dtype = DTYPE_F32, .n_dims = 2, .dims = { 0, 4 } },
    { .name = "one \"quoted\" 世界", .dtype = DTYPE_I32, .n_dims = 0, .data = bytes + 8 },
};
static const size_t sizes[] = { 6, 16, 1, 0, 4 };
enum { N = 5 };

static void expect_views(const char *path) {
    ern_err e = { 0 };
    ern_safetensors *s = safetensors_open(path, &e);
    if (!s) fail_msg("%s", e.text);
    assert_int_equal(safetensors_n(s), N);
    for (size_t i = 0; i < N; i++) {
        const ern_view *v = safetensors_find(s, views[i].name);
        assert_non_null(v);
        assert_true(v->dtype == views[i].dtype && v->n_dims == views[i].n_dims && v->size_bytes == sizes[i]);
        for (unsigned d = 0; d < v->n_dims; d++) assert_int_equal(v->dims[d], views[i].dims[d]);
        assert_memory_equal(v->data, views[i].data ? views[i].data : bytes, sizes[i]);
        assert_int_equal((uintptr_t)v->data % dtype_info(v->dtype)->block_bytes, 0);     /* aligned in the map */
    }
    safetensors_close(s);
}

static void writes_what_it_is_given(void **state) {
    (void)state;
    ern_err e = { 0 };
    char *path = in_folder("a.safetensors");
    if (!safetensors_write(path, views, N, &e)) fail_msg("%s", e.text);
    expect_views(path);
    assert_true(safetensors_write(path, views, N, &e));         /* replaced */
    expect_views(path);
    assert_true(safetensors_write(path, NULL, 0, &e));
    free(path);
    assert_int_equal(n_files(true), 1);
}

static void takes_pieces_of_any_size(void **state) {
    (void)state;
    for (size_t step = 1; step < 20; step += 3) {
        ern_err e = { 0 };
        uint8_t all[64];
        size_t n = 0;
        char *path = in_folder("b.safetensors");
        ern_safetensors_writer *w = safetensors_writer_open(path, 0, &e);
        assert_non_null(w);
        assert_true(safetensors_writer_meta(w, "step", "some", &e) && safetensors_writer_meta(w, "format", "np", &e));
        for (size_t i = 0; i < N; i++) {
            assert_true(safetensors_writer_declare(w, &views[i], &e));
            if (sizes[i]) memcpy(all + n, views[i].data, sizes[i]);
            n += sizes[i];
        }
        for (size_t at = 0; at < n; at += step)
            if (!safetensors_writer_data(w, all + at, n - at < step ? n - at : step, &e)) fail_msg("%s", e.text);
        assert_false(file_exists(path));
        assert_true(safetensors_writer_finish(w, &e));
        safetensors_writer_close(w);
        expect_views(path);
        ern_safetensors *s = safetensors_open(path, &e);
        assert_non_null(s);
        assert_string_equal(json_string_value(json_object_get(safetensors_metadata(s), "format")), "np");
        assert_string_equal(json_string_value(json_object_get(safetensors_metadata(s), "step")), "some");
        safetensors_close(s);
        free(path);
        assert_int_equal(n_files(true), 1);
    }
}

static void cuts_shards(void **state) {
    (void)state;
    static const struct { uint64_t max; size_t n_files; } cases[] = { { 1, 5 }, { 16, 4 }, { 22, 3 }, { 23, 3 },
                                                                      { 26, 3 }, { 27, 1 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_err e = { 0 };
        char *path = in_folder("model.safetensors");
        ern_safetensors_writer *w = safetensors_writer_open(path, cases[i].max, &e);
        assert_non_null(w);
        for (size_t k = 0; k < N; k++) assert_true(safetensors_writer_declare(w, &views[k], &e));
        for (size_t k = 0; k < N; k++) assert_true(safetensors_writer_data(w, views[k].data, sizes[k], &e));
        assert_true(safetensors_writer_finish(w, &e));
        safetensors_writer_close(w);
        expect_views(folder);
        free(path);
        const size_t n = n_files(true);
        if (n != cases[i].n_files) fail_msg("%llu bytes a shard: %zu files", (unsigned long long)cases[i].max, n);
    }
}

static void refuses(void **state) {
    (void)state;
    ern_err e = { 0 };
    char *path = in_folder("c.safetensors"), *nowhere = in_folder("no/such/folder/c.safetensors");
    const ern_view block = { .name = "q", .dtype = DTYPE_Q4_0, .n_dims = 1, .dims = { 32 } };
    const ern_view reserved = { .name = "__metadata__", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 1 } };
    const ern_view huge = { .name = "h", .dtype = DTYPE_F32, .n_dims = 2, .dims = { SIZE_MAX / 2, 4 } };
    const ern_view bad_name = { .name = "\xff", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 1 } };
    ern_safetensors_writer *w = safetensors_writer_open(path, 0, &e);
    assert_non_null(w);
    assert_false(safetensors_writer_declare(w, &block, &e));
    assert_non_null(strstr(e.text, "safetensors files have no type Q4_0"));
    assert_false(safetensors_writer_declare(w, &reserved, &e) || safetensors_writer_declare(w, &huge, &e));
    assert_false(safetensors_writer_declare(w, &bad_name, &e));
    assert_true(safetensors_writer_declare(w, &views[0], &e));
    assert_false(safetensors_writer_declare(w, &views[0], &e));
    assert_non_null(strstr(e.text, "declared twice"));
    assert_true(safetensors_writer_data(w, bytes, 5, &e));
    assert_false(safetensors_writer_declare(w, &views[1], &e));
    assert_false(safetensors_writer_finish(w, &e));
    assert_non_null(strstr(e.text, "tensor half: 5 bytes given, 6 wanted"));
    assert_true(safetensors_writer_data(w, bytes, 1, &e));
    assert_false(safetensors_writer_data(w, bytes, 1, &e));
    assert_non_null(strstr(e.text, "1 bytes more than the tensors hold"));
    safetensors_writer_close(w);                                /* not finished: nothing is left */
    assert_int_equal(n_files(false), 0);
    assert_false(safetensors_write(nowhere, views, N, &e));
    assert_non_null(strstr(e.text, nowhere));
    assert_false(safetensors_write(folder, views, N, &e));
    free(path);
    free(nowhere);
    safetensors_writer_close(NULL);
}

static void a_full_disk_is_an_error(void **state) {
    (void)state;
    ern_err e = { 0 };
    float *zeros = calloc(1 << 18, sizeof *zeros);
    const ern_view v = { .name = "z", .dtype = DTYPE_F32, .n_dims = 1, .dims = { 1 << 18 }, .data = zeros };
    assert_non_null(zeros);
    if (!file_exists("/dev/full")) skip();
    assert_false(safetensors_write("/dev/full", &v, 1, &e));
    assert_int_equal(e.code, ERN_IO);
    assert_non_null(strstr(e.text, "/dev/full"));
    free(zeros);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_what_it_is_given), cmocka_unit_test(takes_pieces_of_any_size), cmocka_unit_test(cuts_shards),
        cmocka_unit_test(refuses), cmocka_unit_test(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
