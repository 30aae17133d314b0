/* Constrained decoding: texts inside and outside of grammars (tests/data/constrain.jsonl), masks against trying every
 * token, forced text, sharing by threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/constrain.h"

#define MAX_LINE 65536

/* Every byte, and pieces of several characters as real vocabularies have them. */
static const char *const pieces[] = { "{\"", "\":", "\",", "\"}", "\": ", ", \"", "true", "false", "null", "[]", "{}",
                                      "\"a\"", "aa", "ab", "abc",
                                      "12", "00", "1.", ".5", "-1", "\\n", "\\u", "\\\"", "中", "中国", "\xE4\xB8", "yes",
                                          "no", "yesno", "  ", "\n ", "}}", "]]", "]," };
#define N_PIECES (sizeof pieces / sizeof pieces[0])
#define N_VOCAB (256 + N_PIECES + 2)        /* the last two are special: no bytes */

static constrain_vocab *test_vocab(void) {
    static char bytes[256];
    const char *all[N_VOCAB];
    size_t lengths[N_VOCAB];
    for (size_t i = 0; i < 256; i++) { bytes[i] = (char)i; all[i] = &bytes[i]; lengths[i] = 1; }
    for (size_t i = 0; i < N_PIECES; i++) { all[256 + i] = pieces[i]; lengths[256 + i] = strlen(pieces[i]); }
    for (size_t i = N_VOCAB - 2; i < N_VOCAB; i++) { all[i] = NULL; lengths[i] = 0; }
    constrain_vocab *v = constrain_vocab_from_bytes(all, lengths, N_VOCAB, NULL);
    assert_non_null(v);
    return v;
}

static enum constrain_kind kind_of(const char *name) {
    static const char *const names[] = { "gbnf", "ebnf", "regex", "schema", "choice", "json_object", "tools" };
    for (int i = 0; i < 7; i++)
        if (strcmp(name, names[i]) == 0) return (enum constrain_kind)i;
    fail_msg("kind %s", name);
    return 0;
}

static bool is_set(const uint64_t *mask, size_t id) { return mask[id / 64] >> (id % 64) & 1; }

/* The mask says of every token what trying it says. */
static void check_mask(constrain_state *s, ern_constraint *c, const char *prefix, size_t n_prefix, const char *what) {
    uint64_t mask[CONSTRAIN_MASK_WORDS(N_VOCAB)];
    ern_err e = { 0 };
    if (!constrain_mask(s, mask, &e)) fail_msg("%s after \"%.*s\": %s", what, (int)n_prefix, prefix, e.text);
    for (size_t id = 0; id < N_VOCAB; id++) {
        constrain_state *copy = constrain_begin(c, NULL);
        assert_non_null(copy);
        assert_true(constrain_accept_bytes(copy, prefix, n_prefix, NULL));
        const bool is_taken = constrain_accept(copy, (int32_t)id, NULL);
        if (is_taken != is_set(mask, id))
            fail_msg("%s after \"%.*s\": token %zu is %s the mask but %s", what, (int)n_prefix, prefix, id,
                     is_set(mask, id) ? "in" : "not in",
                     is_taken ? "accepted" : "refused");
        constrain_end(copy);
    }
}

static bool matches(ern_constraint *c, const char *text, size_t n) {
    constrain_state *s = constrain_begin(c, NULL);
    assert_non_null(s);
    const bool ok = constrain_accept_bytes(s, text, n, NULL) && constrain_can_end(s);
    constrain_end(s);
    return ok;
}

static void check_case(const constrain_vocab *v, const json_t *line) {
    const char *text = json_string_value(json_object_get(line, "text")), *error =
        json_string_value(json_object_get(line, "error"));
    ern_err e = { 0 };
    size_t i;
    json_t *item;
    ern_constraint *c = constraint_open(v, kind_of(json_string_value(json_object_get(line, "kind"))), text,
                                        strlen(text), &e);
    if (error) {
        if (c) fail_msg("%s: accepted, an error with \"%s\" wanted", text, error);
        if (!strstr(e.text, error)) fail_msg("%s: error \"%s\", one with \"%s\" wanted", text, e.text, error);
        return;
    }
    if (!c) fail_msg("%s: %s", text, e.text);
    json_array_foreach(json_object_get(line, "good"), i, item) {
        const char *good = json_string_value(item);
        const size_t n = json_string_length(item);
        if (!matches(c, good, n)) fail_msg("%s: refuses %s", text, good);
        constrain_state *s = constrain_begin(c, NULL);
        for (size_t at = 0; at <= n && i == 0; at++) {          /* the first text: every mask on the way */
            check_mask(s, c, good, at, text);
            if (at < n) assert_true(constrain_accept_bytes(s, good + at, 1, NULL));
        }
        constrain_end(s);
    }
    json_array_foreach(json_object_get(line, "bad"), i, item)
        if (matches(c, json_string_value(item), json_string_length(item)))
            fail_msg("%s: takes %s", text, json_string_value(item));
    constraint_close(c);
}

static void test_cases(void **state) {
    (void)state;
    FILE *fp = fopen("tests/data/constrain.jsonl", "r");
    assert_non_null(fp);
    constrain_vocab *v = test_vocab();
    char *line = malloc(MAX_LINE);
    size_t n = 0;
    while (fgets(line, MAX_LINE, fp)) {
        json_t *json = json_loads(line, 0, NULL);
        assert_non_null(json);
        check_case(v, json);
        json_decref(json);
        n++;
    }
    assert_true(n > 90);
    free(line);
    fclose(fp);
    constrain_vocab_close(v);
}

static void test_tokens_outside_fail(void **state) {
    (void)state;
    constrain_vocab *v = test_vocab();
    ern_err e = { 0 };
    ern_constraint *c = constraint_open(v, CONSTRAIN_CHOICE, "[\"yes\"]", 7, &e);
    assert_non_null(c);
    constrain_state *s = constrain_begin(c, &e);
    assert_false(constrain_accept(s, 'n', &e));
    assert_false(constrain_accept(s, (int32_t)N_VOCAB - 1, &e));        /* a special token has no text */
    assert_false(constrain_accept(s, -1, &e));
    assert_false(constrain_accept(s, (int32_t)N_VOCAB, &e));
    assert_false(constrain_can_end(s));
    assert_true(constrain_accept(s, 'y', &e));                          /* a refused token changed nothing */
    ern_buf forced = { 0 };
    assert_true(constrain_forced(s, 100, &forced, &e));
    assert_string_equal(forced.data, "es");
    buf_deinit(&forced);
    assert_true(constrain_accept_bytes(s, "es", 2, &e));
    assert_true(constrain_can_end(s) && constrain_must_end(s));
    uint64_t mask[CONSTRAIN_MASK_WORDS(N_VOCAB)];
    assert_true(constrain_mask(s, mask, &e));                           /* empty, and the end is allowed */
    for (size_t i = 0; i < CONSTRAIN_MASK_WORDS(N_VOCAB); i++) assert_true(mask[i] == 0);
    constrain_end(s);
    constraint_close(c);
    constrain_vocab_close(v);
}

/* A vocabulary that cannot write what the grammar wants is an error, not a free answer. */
static void test_dead_end_is_an_error(void **state) {
    (void)state;
    const char *bytes[] = { "a", "b" };
    const size_t lengths[] = { 1, 1 };
    constrain_vocab *v = constrain_vocab_from_bytes(bytes, lengths, 2, NULL);
    ern_err e = { 0 };
    ern_constraint *c = constraint_open(v, CONSTRAIN_REGEX, "ax", 2, &e);
    constrain_state *s = constrain_begin(c, &e);
    uint64_t mask[1];
    assert_true(constrain_mask(s, mask, &e) && mask[0] == 1);
    assert_true(constrain_accept(s, 0, &e));
    assert_false(constrain_mask(s, mask, &e));
    constrain_end(s);
    constraint_close(c);
    constrain_vocab_close(v);
}

static void test_long_answers_keep_little(void **state) {
    (void)state;
    constrain_vocab *v = test_vocab();
    ern_err e = { 0 };
    const char *schema = "{\"type\":\"array\",\"items\":{\"type\":\"array\"}}";
    ern_constraint *c = constraint_open(v, CONSTRAIN_SCHEMA, schema, strlen(schema), &e);
    if (!c) fail_msg("%s", e.text);
    constrain_state *s = constrain_begin(c, &e);
    assert_true(constrain_accept_bytes(s, "[[1]", 4, &e));
    for (int i = 0; i < 200000; i++) assert_true(constrain_accept_bytes(s, ",[1, \"x\"]", 9, &e));
    assert_true(constrain_accept_bytes(s, "]", 1, &e) && constrain_can_end(s));
    constrain_end(s);
    s = constrain_begin(c, &e);
    assert_true(constrain_accept_bytes(s, "[", 1, &e));
    /* deep nesting survives the sweep */
    for (int i = 0; i < 100000; i++) assert_true(constrain_accept_bytes(s, "[", 1, &e));
    for (int i = 0; i < 100001; i++) assert_true(constrain_accept_bytes(s, "]", 1, &e));
    assert_true(constrain_can_end(s));
    constrain_end(s);
    constraint_close(c);
    constrain_vocab_close(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases), cmocka_unit_test(test_tokens_outside_fail),
            cmocka_unit_test(test_dead_end_is_an_error),
        cmocka_unit_test(test_long_answers_keep_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
