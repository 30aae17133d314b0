#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/term.h"

static void widths(void **state) {
    (void)state;
    static const struct { const char *text; size_t columns; } cases[] = {
        { "", 0 }, { "abc", 3 }, { "\xE4\xB8\xAD\xE6\x96\x87", 4 }, { "a\xCC\x81", 1 }, { "\xF0\x9F\x98\x80", 2 },
        { "caf\xC3\xA9", 4 },
        { "\xEF\xBC\x8C", 2 }, { "\xFF", 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(term_width(cases[i].text, strlen(cases[i].text)), cases[i].columns);
}

static void sizes(void **state) {
    (void)state;
    static const struct { double bytes; const char *text; } cases[] = {
        { 0, "0 B" }, { 999, "999 B" }, { 1000, "1.00 kB" }, { 12345, "12.3 kB" }, { 999999, "1.00 MB" },
            { 3.5e9, "3.50 GB" }, { 1e15, "1000 TB" },
    };
    char text[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) assert_string_equal(cli_size_text(cases[i].bytes, text,
        sizeof text), cases[i].text);
    assert_string_equal(cli_count_text(360748032.0, text, sizeof text), "360.7 M");
    assert_string_equal(cli_count_text(21.8252e9, text, sizeof text), "21.825 B");
}

static void no_colour_in_files(void **state) {
    (void)state;
    char text[64] = "";
    FILE *fp = tmpfile();
    assert_non_null(fp);
    term_style(fp, TERM_BOLD);
    term_cell(fp, "\xE4\xB8\xAD", 4);
    term_cell(fp, "x", -3);
    rewind(fp);
    text[fread(text, 1, sizeof text - 1, fp)] = '\0';
    fclose(fp);
    assert_string_equal(text, "  \xE4\xB8\xADx  ");
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(widths), cmocka_unit_test(sizes),
        cmocka_unit_test(no_colour_in_files) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
