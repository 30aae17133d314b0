#include "base/file.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/test.h"

static char folder[] = "/tmp/ern_file_test_XXXXXX";

static int make_folder(void **state) { (void)state; return mkdtemp(folder) ? 0 : -1; }
static int remove_folder(void **state) { (void)state; return rmdir(folder); }     /* fails when something was left */

static size_t n_files(void) {
    size_t n = 0;
    DIR *d = opendir(folder);
    for (const struct dirent *entry; d && (entry = readdir(d));) n += entry->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static void writes_maps_and_reads(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_map m;
    ern_buf b = { 0 };
    char *path = file_join(folder, "a", &e);
    assert_non_null(path);
    assert_non_null(path);
    assert_true(file_write(path, "hello", 5, &e));
    assert_true(file_map(&m, path, &e));
    assert_int_equal(m.size_bytes, 5);
    assert_memory_equal(m.data, "hello", 5);
    file_unmap(&m);
    assert_null(m.data);
    assert_true(buf_str(&b, "> ", &e) && file_read(&b, path, 5, &e));
    assert_string_equal(b.data, "> hello");
    assert_false(file_read(&b, path, 4, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_string_equal(b.data, "> hello");
    assert_true(file_write(path, NULL, 0, &e) && file_map(&m, path, &e));
    assert_null(m.data);
    file_unmap(&m);
    assert_true(file_exists(path) && !file_is_folder(path) && file_is_folder(folder));
    unlink(path);
    assert_false(file_exists(path));
    free(path);
    buf_deinit(&b);
}

static void says_what_is_wrong(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_map m;
    ern_writer w;
    char *path = file_join(folder, "no/such/file", &e), *pipe_path = file_join(folder, "pipe", &e);
    assert_true(path && pipe_path);
    assert_false(file_map(&m, path, &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
    assert_non_null(strstr(e.text, path));
    assert_false(file_write(path, "x", 1, &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
    assert_false(file_map(&m, folder, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_false(writer_open(&w, folder, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_false(file_map(&m, pipe_path, &e));      /* and does not wait for a writer */
    assert_int_equal(e.code, ERN_ARG);
    unlink(pipe_path);
    free(path);
    free(pipe_path);
}

static void a_writer_leaves_all_or_nothing(void **state) {
    (void)state;
    ern_writer w;
    ern_buf b = { 0 };
    char *path = file_join(folder, "b", NULL);
    assert_non_null(path);
    assert_true(file_write(path, "old", 3, NULL));
    assert_true(writer_open(&w, path, NULL) && writer_add(&w, "new text", 8, NULL));
    writer_deinit(&w);
    assert_true(file_read(&b, path, 100, NULL));
    assert_string_equal(b.data, "old");
    assert_int_equal(n_files(), 1);
    assert_true(writer_open(&w, path, NULL) && writer_add(&w, "new ", 4, NULL) && writer_add(&w, "text", 4, NULL) &&
                writer_commit(&w, NULL));
    writer_deinit(&w);
    buf_clear(&b);
    assert_true(file_read(&b, path, 100, NULL));
    assert_string_equal(b.data, "new text");
    assert_int_equal(n_files(), 1);
    buf_deinit(&b);
    unlink(path);
    free(path);
}

static void devices_are_written_in_place(void **state) {
    (void)state;
    ern_err e = { 0 };
    struct stat st;
    assert_true(file_write("/dev/null", "x", 1, &e));
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    if (file_exists("/dev/full")) {
        assert_false(file_write("/dev/full", "x", 1, &e));
        assert_int_equal(e.code, ERN_IO);
    }
}

/* Several threads that write one path: the file is one of theirs, whole. */
#define N_WRITERS 4
static void *write_many(void *arg) {
    char text[4096];
    memset(text, *(const char *)arg, sizeof text);
    char *path = file_join(folder, "c", NULL);
    assert_non_null(path);
    bool ok = path != NULL;
    for (int i = 0; ok && i < 10; i++) ok = file_write(path, text, sizeof text, NULL);
    free(path);
    return ok ? arg : NULL;
}

static void writers_do_not_meet(void **state) {
    (void)state;
    pthread_t threads[N_WRITERS];
    static const char letters[N_WRITERS] = { 'a', 'b', 'c', 'd' };
    ern_buf b = { 0 };
    char *path = file_join(folder, "c", NULL);
    assert_non_null(path);
    for (size_t i = 0; i < N_WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)(uintptr_t)&letters[i]), 0);
    for (size_t i = 0; i < N_WRITERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_non_null(result);
    }
    assert_true(file_read(&b, path, 10000, NULL));
    assert_int_equal(b.len, 4096);
    for (size_t i = 1; i < b.len; i++) assert_int_equal(b.data[i], b.data[0]);
    assert_int_equal(n_files(), 1);
    buf_deinit(&b);
    unlink(path);
    free(path);
}

static void large_files_are_read_whole(void **state) {
    (void)state;
    const size_t n = 300001;
    char *path = file_join(folder, "d", NULL), *text = malloc(n);
    assert_true(path && text);
    ern_buf b = { 0 };
    for (size_t i = 0; i < n; i++) text[i] = (char)(i * 7 + i / 251);
    assert_true(file_write(path, text, n, NULL) && file_read(&b, path, n, NULL));
    assert_int_equal(b.len, n);
    assert_memory_equal(b.data, text, n);
    ern_buf exact = { .max = n };
    assert_true(file_read(&exact, path, n, NULL) ||
                exact.max == n); /* a buffer of exactly this size need not have room to see the end */
    buf_deinit(&exact);
    buf_deinit(&b);
    unlink(path);
    free(path);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_maps_and_reads),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(a_writer_leaves_all_or_nothing),
        cmocka_unit_test(devices_are_written_in_place),
        cmocka_unit_test(writers_do_not_meet),
        cmocka_unit_test(large_files_are_read_whole),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
