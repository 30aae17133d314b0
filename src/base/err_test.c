#include "base/err.h"

#include <string.h>

#include "base/test.h"

static void fills_and_returns_false(void **state) {
    (void)state;
    ern_err e = { .line = 9, .column = 9 };
    assert_false(ern_fail(&e, ERN_FORMAT, "tensor %s: %d of %d", "a", 3, 4));
    assert_int_equal(e.code, ERN_FORMAT);
    assert_string_equal(e.text, "tensor a: 3 of 4");
    assert_int_equal(e.line, 0);
    assert_false(ern_fail_at(&e, ERN_TEMPLATE, 7, 3, "x"));
    assert_int_equal(e.line, 7);
    assert_int_equal(e.column, 3);
    assert_false(ern_fail(NULL, ERN_IO, "nobody listens"));
}

static void may_quote_itself(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_fail(&e, ERN_IO, "inner");
    ern_fail(&e, ERN_IO, "outer: %s", e.text);
    assert_string_equal(e.text, "outer: inner");
}

/* A cut text ends in "..." and never inside a character. */
static void long_text_is_cut_between_characters(void **state) {
    (void)state;
    char text[4000];
    ern_err e = { 0 };
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3) memcpy(text + i, "\xE4\xB8\xAD\0", 4);
        ern_fail(&e, ERN_IO, "%s", text);
        const size_t n = strlen(e.text);
        assert_true(n < sizeof e.text && n > sizeof e.text - 8);
        assert_string_equal(e.text + n - 3, "...");
        assert_int_equal((n - 3 - shift) % 3, 0);
    }
}

static void codes_have_names(void **state) {
    (void)state;
    assert_string_equal(ern_code_name(ERN_OK), "OK");
    assert_string_equal(ern_code_name(ERN_STOPPED), "STOPPED");
    assert_int_equal(ern_code_http(ERN_LIMIT), 413);
    assert_int_equal(ern_code_exit(ERN_MISSING), 5);
    assert_string_equal(ern_code_name((enum ern_code)12345), "IO");
    assert_int_equal(ern_code_http((enum ern_code)-1), 500);
}

static void test_messages_are_utf8(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_fail(&e, ERN_ARG, "%.4s and %s", "ab\xC3\xA9\xE4\xB8\xAD", "\xFF\xFE!");
    assert_string_equal(e.text, "ab\xC3\xA9 and ?\?!");
    ern_fail(&e, ERN_ARG, "%.3s", "ab\xC3\xA9");
    assert_string_equal(e.text, "ab?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_and_returns_false), cmocka_unit_test(test_messages_are_utf8), cmocka_unit_test(may_quote_itself),
        cmocka_unit_test(long_text_is_cut_between_characters), cmocka_unit_test(codes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
