#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#include "base/test.h"

static void grows_and_stays_terminated(void **state) {
    (void)state;
    ern_buf b = { 0 };
    for (size_t i = 0; i < 1000; i++) {
        assert_true(buf_char(&b, (char)('a' + i % 26), NULL));
        assert_int_equal(b.len, i + 1);
        assert_int_equal(strlen(b.data), i + 1);
    }
    assert_int_equal(b.data[700], 'a' + 700 % 26);
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    assert_true(buf_printf(&b, NULL, "%d-%s", 42, "x") && buf_str(&b, "!", NULL) && buf_add(&b, NULL, 0, NULL));
    assert_string_equal(b.data, "42-x!");
    char *taken = buf_take(&b);
    assert_string_equal(taken, "42-x!");
    assert_null(b.data);
    assert_int_equal(b.len + b.cap, 0);
    free(taken);
    buf_deinit(&b);
}

static void refuses_past_its_maximum(void **state) {
    (void)state;
    ern_buf b = { .max = 10 };
    ern_err e = { 0 };
    assert_true(buf_add(&b, "0123456789", 10, &e));
    assert_true(b.cap <= 11);
    assert_false(buf_char(&b, 'x', &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_non_null(strstr(e.text, "10"));
    assert_string_equal(b.data, "0123456789");
    assert_false(buf_printf(&b, &e, "%s", "too much"));
    assert_string_equal(b.data, "0123456789");
    assert_false(buf_reserve(&b, SIZE_MAX, &e));
    buf_deinit(&b);
    assert_int_equal(b.max, 10);
    b.max = SIZE_MAX;
    assert_false(buf_reserve(&b, SIZE_MAX - 1, &e));
    assert_true(buf_str(&b, "x", &e));
    buf_deinit(&b);
}

static void products_do_not_wrap(void **state) {
    (void)state;
    ern_err e = { 0 };
    assert_null(mem_zalloc(SIZE_MAX / 2, 3, "wide thing", &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_non_null(strstr(e.text, "wide thing"));
    assert_null(mem_grow(NULL, SIZE_MAX / 2, 4, "x", &e));
    assert_null(mem_strndup("x", SIZE_MAX, &e));
    char *none = mem_zalloc(0, 8, "nothing", &e);
    assert_non_null(none);
    none = mem_grow(none, 0, 8, "nothing", &e);
    assert_non_null(none);
    free(none);
    char *copy = mem_strndup("hello", 4, &e);
    assert_non_null(copy);
    assert_string_equal(copy, "hell");
    free(copy);
}

static void test_reserve(void **state) {
    (void)state;
    int *p = NULL;
    size_t cap = 0;
    ern_err e = { 0 };
    for (size_t n = 1; n <= 1000; n++) {
        assert_true(mem_reserve((void **)&p, &cap, n, sizeof *p, "numbers", &e));
        assert_true(cap >= n);
        p[n - 1] = (int)n;
    }
    for (size_t n = 1; n <= 1000; n++) assert_int_equal(p[n - 1], (int)n);
    const size_t before = cap;
    assert_false(mem_reserve((void **)&p, &cap, SIZE_MAX / 2, sizeof *p, "numbers", &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_true(cap == before && p[999] == 1000);
    free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(refuses_past_its_maximum),
        cmocka_unit_test(products_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
