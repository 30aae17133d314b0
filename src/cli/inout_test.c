/* Lines of JSON in and out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static void lines(void **state) {
    (void)state;
    char path[] = "/tmp/ernie-lines-XXXXXX";
    const int fd = mkstemp(path);
    static const char text[] = "one\r\n\ntwo\nlast";
    static const char *const wanted[] = { "one", "", "two", "last" };
    cli_lines in;
    ern_err e = { 0 };
    bool is_end = false;
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    assert_true(cli_lines_open(&in, path, &e));
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        assert_true(cli_lines_next(&in, &is_end, &e) && !is_end);
        assert_int_equal(in.n, strlen(wanted[i]));
        assert_int_equal(in.number, i + 1);
        if (in.n) assert_string_equal(in.text, wanted[i]);
    }
    assert_true(cli_lines_next(&in, &is_end, &e) && is_end);
    cli_lines_close(&in);
    unlink(path);
    assert_false(cli_lines_open(&in, "/nowhere/x", &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
}

static void records(void **state) {
    (void)state;
    static const struct { const char *line; bool is_good; } cases[] = {
        { "{\"text\": \"x\"}", true }, { "{}", true }, { "[]", false }, { "3", false }, { "{", false },
        { "{} x", false }, { "{\"a\":1,\"a\":2}", false },
        { "{\"a\":\"\\u0000\"}", true }, { "{\"a\":\"\xFF\"}", false },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char copy[64];
        ern_err e = { 0 };
        strcpy(copy, cases[i].line);
        const cli_lines l = { .text = copy, .n = strlen(copy), .number = 7 };
        json_t *v = cli_record(&l, &e);
        assert_int_equal(v != NULL, cases[i].is_good);
        if (!v) assert_non_null(strstr(e.text, "line 7"));
        json_decref(v);
    }
}

static void values(void **state) {
    (void)state;
    static const int32_t ids[] = { 1, 0, 2147483647 };
    json_t *v = cli_real(NAN);
    assert_true(json_is_null(v));
    json_decref(v);
    v = cli_real(-INFINITY);
    assert_true(json_is_null(v));
    json_decref(v);
    v = cli_ids_json(ids, 3);
    assert_int_equal(json_integer_value(json_array_get(v, 2)), 2147483647);
    json_decref(v);
    v = cli_text_json("a\xFF\xE4\xB8", 4);
    assert_non_null(v);
    assert_string_equal(json_string_value(v), "a\xEF\xBF\xBD\xEF\xBF\xBD");
    json_decref(v);
    const ern_err e = { .code = ERN_FORMAT, .line = 3, .column = 4, .text = "bad" };
    v = cli_error_json(&e);
    assert_int_equal(json_integer_value(json_object_get(v, "column")), 4);
    json_decref(v);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(lines), cmocka_unit_test(records), cmocka_unit_test(values) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
