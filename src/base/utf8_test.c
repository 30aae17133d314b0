#include "base/utf8.h"

#include <string.h>

#include "base/test.h"

static void every_scalar_value_round_trips(void **state) {
    (void)state;
    for (int32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char s[4];
        int32_t back;
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        const size_t n = utf8_encode(cp, s);
        if (n != (size_t)(cp < 0x80      ? 1
                          : cp < 0x800   ? 2
                          : cp < 0x10000 ? 3
                                         : 4) ||
            utf8_decode(s, n, &back) != n || back != cp || utf8_tail(s, n) != 0)
            fail_msg("U+%04X", (unsigned)cp);
        for (size_t cut = 1; cut < n; cut++)
            if (utf8_decode(s, cut, &back) != cut || back != -1 || utf8_tail(s, cut) != cut)
                fail_msg("U+%04X cut to %zu", (unsigned)cp, cut);
    }
}

/* bytes, what decode returns for them, the code point or -1, and the tail that may still become a character */
static const struct { const char *s; size_t n, used; int32_t cp; size_t tail; } cases[] = {
    { "\x80", 1, 1, -1, 0 },               { "\xBF\x80", 2, 1, -1, 0 },
    { "\xC0\x80", 2, 1, -1, 0 },           { "\xC1\xBF", 2, 1, -1, 0 },
    { "\xE0\x80\x80", 3, 1, -1, 0 },       { "\xE0\x9F", 2, 1, -1, 0 },
    { "\xED\xA0\x80", 3, 1, -1, 0 },       { "\xED\xA0", 2, 1, -1, 0 },
    { "\xF0\x8F\xBF\xBF", 4, 1, -1, 0 },   { "\xF4\x90\x80\x80", 4, 1, -1, 0 },
    { "\xF5", 1, 1, -1, 0 },               { "\xFF", 1, 1, -1, 0 },
    { "\xF5\x80\x80", 3, 1, -1, 0 },       { "\xE4\xB8", 2, 2, -1, 2 },
    { "\xE4\xB8\x41", 3, 2, -1, 0 },       { "\xF0\x9F\x98", 3, 3, -1, 3 },
    { "\xF0\x9F\x98\x41", 4, 3, -1, 0 },   { "a\xC3", 2, 1, 'a', 1 },
    { "\xC3\xC3", 2, 1, -1, 1 },           { "\xF4\x8F\xBF\xBF", 4, 4, 0x10FFFF, 0 },
};

static void bad_sequences(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t cp;
        const size_t used = utf8_decode(cases[i].s, cases[i].n, &cp);
        if (used != cases[i].used || cp != cases[i].cp) fail_msg("case %zu: used %zu, %d", i, used, (int)cp);
        if (utf8_tail(cases[i].s, cases[i].n) != cases[i].tail)
            fail_msg("case %zu: tail %zu", i, utf8_tail(cases[i].s, cases[i].n));
    }
    assert_int_equal(utf8_tail("", 0), 0);
}

static void says_where(void **state) {
    (void)state;
    size_t at = 99;
    assert_true(utf8_valid("", 0, &at) && utf8_valid("a\xE4\xB8\xAD\0b", 6, &at));
    assert_int_equal(at, 99);
    assert_false(utf8_valid("a\xE4\xB8\xAD\xFF", 5, &at));
    assert_int_equal(at, 4);
    assert_false(utf8_valid("a\xE4\xB8", 3, &at));
    assert_int_equal(at, 1);
    assert_false(utf8_valid("\xFF", 1, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_round_trips), cmocka_unit_test(bad_sequences), cmocka_unit_test(says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
