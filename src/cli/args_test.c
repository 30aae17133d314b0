/* The tables: values in, errors out, and every text that comes from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"

struct options {
    const char *model, *kind, *out;
    arg_texts rest, stop;
    arg_count n;
    arg_real temperature;
    arg_ids ids;
    bool is_json, is_exact;
    struct { bool is_deep; arg_count far; } inner;
};

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "number", .letter = 'n', .kind = ARG_COUNT, .value = "N", .low = 1, .high = 100000, .help = "how many",
      .offset = AT(n) },
    { .name = "temp", .letter = 't', .kind = ARG_REAL, .value = "X", .low = 0, .high = 2,
      .help = "how warm: [0] is 'cold'", .offset = AT(temperature) },
    { .name = "kind", .kind = ARG_CHOICE, .value = "KIND", .choices = "bash|zsh|fish", .help = "which", .offset = AT(kind) },
    { .name = "stop", .kind = ARG_TEXTS, .value = "TEXT", .help = "where to end", .offset = AT(stop) },
    { .name = "ids", .kind = ARG_IDS, .value = "1,2", .help = "tokens", .offset = AT(ids) },
    { .name = "out", .letter = 'o', .kind = ARG_TEXT, .value = "FILE", .help = "file", .offset = AT(out) },
    { .name = "json", .letter = 'j', .kind = ARG_FLAG, .help = "JSON", .offset = AT(is_json) },
    { .name = "exact", .letter = 'e', .kind = ARG_FLAG, .help = "exact", .offset = AT(is_exact) },
};
static const arg_group group = { "Options:", table, sizeof table / sizeof table[0] };
static const arg_option shared_table[] = {
    { .name = "deep", .kind = ARG_FLAG, .help = "deep", .offset = 0 },
    { .name = "far", .kind = ARG_COUNT, .value = "N", .help = "far",
      .offset = offsetof(struct options, inner.far) - offsetof(struct options, inner) },
};
static const arg_group shared = { "Shared:", shared_table, 2 };
static const arg_operand operands[] = { { "MODEL", ARG_REQUIRED, "the model", AT(model) },
                                        { "REST", ARG_REST, "the rest", AT(rest) } };
static const arg_command command = {
    .name = "try", .summary = "a command for tests", .details = "First line.\n.Second -- line\\.", .output = "lines",
        .examples = "  ernie try x",
    .operands = operands, .n_operands = 2, .groups = { { &group, 0 }, { &shared, AT(inner) } },
        .size_bytes = sizeof(struct options),
};

/* The words of line, separated by single spaces; "~" is an empty word. */
static bool parse(const char *line, struct options *o, bool *wants_help, ern_err *e) {
    static char copy[1024];
    char *words[64];
    int n = 0;
    strcpy(copy, line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) words[n++] = strcmp(p, "~") == 0 ? p + 1 : p;
    memset(o, 0, sizeof *o);
    *e = (ern_err){ 0 };
    return args_parse(&command, n, words, o, wants_help, e);
}

static const struct { const char *line, *wanted; } errors[] = {
    { "m --jsno", "unknown option --jsno; did you mean --json?" },
    { "m --num 4", "did you mean --number?" },
    { "m --zzzzzzzz", "see ernie try --help" },
    { "m -z", "unknown option -z" },
    { "--json", "MODEL is missing" },
    { "m -n", "-n: a value (N) is missing" },
    { "m --number", "--number: a value (N) is missing" },
    { "m --number abc", "found \"abc\", a whole number from 1 to 100000 wanted" },
    { "m --number 0", "found \"0\"" },
    { "m --number -3", "found \"-3\"" },
    { "m --number 99999999999999999999999", "found" },
    { "m --number 4x", "found \"4x\"" },
    { "m --number 100K", "found \"100K\"" },
    { "m --number=", "found \"\"" },
    { "m --temp 2.5", "found \"2.5\", a number from 0 to 2 wanted" },
    { "m --temp nan", "found \"nan\"" },
    { "m --temp ~", "found \"\"" },
    { "m --kind ksh", "found \"ksh\", one of bash|zsh|fish wanted" },
    { "m --kind ~", "found \"\"" },
    { "m --kind bash|zsh", "found" },
    { "m --ids 1,,2", "position 3" },
    { "m --ids 1,2,", "token ids separated by commas wanted" },
    { "m --ids 1,-2", "position 3" },
    { "m --ids 1,9999999999", "position 3" },
    { "m --json=yes", "--json: takes no value" },
};

static void wrong_lines(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct options o;
        ern_err e;
        bool wants_help;
        assert_false(parse(errors[i].line, &o, &wants_help, &e));
        assert_int_equal(e.code, ERN_ARG);
        if (!strstr(e.text, errors[i].wanted))
            fail_msg("%s: \"%s\", wanted \"%s\"", errors[i].line, e.text, errors[i].wanted);
        args_deinit(&command, &o);
    }
}

static void values(void **state) {
    (void)state;
    struct options o;
    ern_err e;
    bool help;
    assert_true(parse("m -je -n12 --temp=0.5 --kind zsh --stop a --stop b --ids 5,0,7 -o out --far 2K --deep x y -- --json "
                      "-", &o, &help, &e));
    assert_string_equal(o.model, "m");
    assert_true(o.is_json && o.is_exact && o.inner.is_deep && !help);
    assert_true(o.n.is_given && o.n.v == 12 && o.inner.far.v == 2048 && o.temperature.v == 0.5);
    assert_string_equal(o.kind, "zsh");
    assert_string_equal(o.out, "out");
    assert_int_equal(o.stop.n, 2);
    assert_string_equal(o.stop.item[1], "b");
    assert_int_equal(o.ids.n, 3);
    assert_int_equal(o.ids.id[2], 7);
    assert_int_equal(o.rest.n, 4);
    assert_string_equal(o.rest.item[2], "--json");
    assert_string_equal(o.rest.item[3], "-");
    args_deinit(&command, &o);
}

static void defaults(void **state) {
    (void)state;
    struct options o;
    ern_err e;
    bool help;
    assert_true(parse("m", &o, &help, &e));
    assert_false(o.n.is_given || o.temperature.is_given || o.ids.is_given || o.is_json);
    assert_null(o.kind);
    assert_true(parse("m --ids ~", &o, &help, &e));
    assert_true(o.ids.is_given && o.ids.n == 0);
    args_deinit(&command, &o);
    assert_true(parse("--help", &o, &help, &e) && help);
    assert_true(parse("-h", &o, &help, &e) && help);
}

static void nearest(void **state) {
    (void)state;
    static const char *const names[] = { "chat", "run", "inspect", "perplexity" };
    static const struct { const char *word, *near; } cases[] = {
        { "chta", "chat" }, { "rnu", "run" }, { "perplex", "perplexity" }, { "inspct", "inspect" }, { "xyzzy", NULL },
            { "", NULL },
        { "a-word-that-is-much-longer-than-any-name-that-a-command-could-have-here", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *near = args_nearest(cases[i].word, names, 4);
        if (!cases[i].near) assert_null(near);
        else assert_string_equal(near, cases[i].near);
    }
}

static void texts(void **state) {
    (void)state;
    static const char *const shells[] = { "bash", "zsh", "fish" };
    const arg_command *const all[] = { &command };
    ern_buf b = { 0 };
    assert_true(args_help(&command, 80, &b, NULL));
    assert_non_null(strstr(b.data, "ernie try [options] MODEL [REST...]"));
    assert_non_null(strstr(b.data, "-n, --number N"));
    assert_non_null(strstr(b.data, "(1 to 100000)"));
    for (char *line = strtok(b.data, "\n"); line; line = strtok(NULL, "\n")) assert_true(strlen(line) <= 80);
    buf_deinit(&b);
    assert_true(args_man(&command, &b, NULL));
    assert_non_null(strstr(b.data, ".TH \"ernie-try\" 1"));
    assert_non_null(strstr(b.data, "\n\\&.Second \\-\\- line\\e."));
    buf_deinit(&b);
    assert_true(args_man_index(all, 1, &b, NULL));
    assert_non_null(strstr(b.data, ".B 130"));
    buf_deinit(&b);
    for (size_t i = 0; i < 3; i++) {
        assert_true(args_completion(all, 1, shells[i], &b, NULL));
        assert_non_null(strstr(b.data, "number"));
        assert_non_null(strstr(b.data, "bash zsh fish"));
        buf_deinit(&b);
    }
    assert_false(args_completion(all, 1, "ksh", &b, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(wrong_lines), cmocka_unit_test(values),
                                        cmocka_unit_test(defaults), cmocka_unit_test(nearest),
                                        cmocka_unit_test(texts) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
