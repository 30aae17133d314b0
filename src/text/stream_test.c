/* The stream: whole characters only, the same text however it arrives, stop strings across token borders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/utf8.h"
#include "text/stream.h"

#define MAX_CASES_BYTES ((size_t)4 << 20)

static char *reference(const char *name) {
    const char *const dirs[] = { getenv("ERN_REFERENCE"), "tests/reference", "../shared/reference",
                                 "../../shared/reference" };
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        char *path = dirs[i] ? file_join(dirs[i], name, NULL) : NULL;
        if (path && file_exists(path)) return path;
        free(path);
    }
    return NULL;
}

/* ---- recorded sequences ----------------------------------------------------------------------- */

static void check_sequence(const ern_tokenizer *t, const json_t *row, bool with_specials) {
    const json_t *ids = json_object_get(row, "ids"), *final = json_object_get(row, "final"),
        *after = json_object_get(row, "text_after");
    ern_err e = { 0 };
    ern_buf text = { 0 };
    ern_stream *s = stream_open(t, NULL, 0, &e);
    assert_non_null(s);
    if (with_specials) stream_show_specials(s);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        bool stopped = true;
        if (!stream_feed(s, (int32_t)json_integer_value(json_array_get(ids, i)), &text, &stopped, &e))
            fail_msg("%s", e.text);
        assert_false(stopped);
        assert_true(utf8_valid(text.data, text.len, NULL));
        /* What the recorded text of this moment begins with: U+FFFD shows what is still open. */
        const json_t *now = json_array_get(after, i);
        if (with_specials || !json_is_string(now)) continue;
        assert_true(text.len <= json_string_length(now));
        assert_memory_equal(text.data, json_string_value(now), text.len);
    }
    assert_true(stream_finish(s, &text, &e));
    if (with_specials) {
        assert_int_equal(text.len, json_string_length(final));
        assert_memory_equal(text.data, json_string_value(final), text.len);
    }
    stream_close(s);
    buf_deinit(&text);
}

/* The text of the first n ids, ended there: what SentencePiece makes of them, a U+FFFD for each byte left over. */
static void check_moments(const ern_tokenizer *t, const json_t *row) {
    const json_t *ids = json_object_get(row, "ids"), *after = json_object_get(row, "text_after");
    for (size_t n = 1; n <= json_array_size(after); n++) {
        const json_t *want = json_array_get(after, n - 1);
        ern_buf text = { 0 };
        ern_stream *s = stream_open(t, NULL, 0, NULL);
        assert_non_null(s);
        for (size_t i = 0; i < n; i++)
            assert_true(stream_feed(s, (int32_t)json_integer_value(json_array_get(ids, i)), &text, NULL, NULL));
        assert_true(stream_finish(s, &text, NULL));
        if (json_is_string(want)) {
            assert_int_equal(text.len, json_string_length(want));
            assert_memory_equal(text.data, json_string_value(want), text.len);
        }
        stream_close(s);
        buf_deinit(&text);
    }
}

static void check_at_once(const ern_tokenizer *t, const json_t *row) {
    const json_t *ids = json_object_get(row, "ids"), *final = json_object_get(row, "final");
    const size_t n = json_array_size(ids);
    int32_t *list = calloc(n + 1, sizeof *list);
    ern_buf text = { 0 };
    for (size_t i = 0; i < n; i++) list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    assert_true(tokenizer_decode(t, list, n, true, &text, NULL));
    assert_int_equal(text.len, json_string_length(final));
    assert_memory_equal(text.data, json_string_value(final), text.len);
    free(list);
    buf_deinit(&text);
}

static void test_recorded(void **state) {
    (void)state;
    char *folder = reference("tokenizer/spm"), *path = reference("tokenizer/stream.jsonl");
    if (!folder || !path) skip();
    ern_err e = { 0 };
    ern_buf b = { 0 };
    ern_tokenizer *t = tokenizer_open(folder, &e);
    size_t n = 0;
    if (!t) fail_msg("%s", e.text);
    assert_true(file_read(&b, path, MAX_CASES_BYTES, NULL));
    for (char *line = b.data; line && *line; n++) {
        char *end = strchr(line, '\n');
        json_t *row = json_loadb(line, end ? (size_t)(end - line) : strlen(line), JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        check_sequence(t, row, false);
        check_sequence(t, row, true);
        check_at_once(t, row);
        check_moments(t, row);
        json_decref(row);
        line = end ? end + 1 : NULL;
    }
    assert_true(n >= 20);
    tokenizer_close(t);
    buf_deinit(&b);
    free(folder);
    free(path);
}

/* ---- stop strings ------------------------------------------------------------------------------- */

/* ids 0.. : single letters and a few longer pieces, bytes of U+4E2D, special tokens */
static const char *const pieces[] = { "a", "b", "c", "d", "e", "ab", "cd", "\xE2\x96\x81x", "<0xE4>", "<0xB8>", "<0xAD>",
                                      "</s>", "<think>" };
static const int32_t types[] = { 1, 1, 1, 1, 1, 1, 1, 1, 6, 6, 6, 3, 3 };
enum { N_PIECES = sizeof pieces / sizeof pieces[0], E4 = 8, B8, AD, END, THINK };

static ern_tokenizer *small(void) {
    float scores[N_PIECES] = { 0 };
    const tokenizer_vocab v = { .kind = TOKENIZER_SPM, .n_tokens = N_PIECES, .pieces = pieces, .types = types,
                                .scores = scores,
                                .bos = -1, .eos = END, .unk = -1, .pad = -1 };
    ern_err e = { 0 };
    ern_tokenizer *t = tokenizer_from_vocab(&v, &e);
    if (!t) fail_msg("%s", e.text);
    return t;
}

typedef struct { const char *stops[3]; int32_t ids[8]; size_t n_ids;
                 const char *before_end, *text; bool stops_at_all; size_t by /* which */; } stop_case;

static const stop_case stop_cases[] = {
    { { 0 }, { 0, 1 }, 2, "ab", "ab", false, 0 },
    { { "bc" }, { 0, 1, 2, 3 }, 4, "a", "a", true, 0 },                    /* over a border */
    { { "bc" }, { 5, 6 }, 2, "a", "a", true, 0 },                          /* in the middle of two pieces */
    { { "bcd" }, { 0, 1, 2, 4 }, 4, "abce", "abce", false, 0 },            /* begun and broken off */
    { { "bcd" }, { 0, 1, 2 }, 3, "a", "abc", false, 0 },                   /* begun at the end: held, then given */
    { { "abcde", "bcd" }, { 0, 1, 2, 3, 4 }, 5, "a", "a", true, 1 },    /* the one that is complete first */
    { { "cd", "bcd" }, { 0, 1, 2, 3 }, 4, "a", "a", true, 1 },          /* two at once: the longer */
    { { "aab" }, { 0, 0, 0, 1, 2 }, 5, "a", "a", true, 0 },                /* overlaps itself */
    { { "\xE4\xB8\xAD" }, { 0, E4, B8, AD, 1 }, 5, "a", "a", true, 0 },
    { { 0 }, { E4, B8, AD }, 3, "\xE4\xB8\xAD", "\xE4\xB8\xAD", false, 0 },
    { { 0 }, { E4, B8 }, 2, "", "\xEF\xBF\xBD\xEF\xBF\xBD", false, 0 },                /* cut at the end */
    { { 0 }, { E4, 0, B8 }, 3, "\xEF\xBF\xBD" "a\xEF\xBF\xBD", "\xEF\xBF\xBD" "a\xEF\xBF\xBD", false, 0 },
    { { 0 }, { 0, END, 1 }, 3, "ab", "ab", false, 0 },                     /* special tokens are left out */
    { { 0 }, { THINK, 0 }, 2, "<think>a", "<think>a", false, 0 },          /* but not what the reader of answers needs */
    { { " x" }, { 0, 7, 1 }, 3, "a", "a", true, 0 },
};

static void test_stops(void **state) {
    (void)state;
    ern_tokenizer *t = small();
    for (size_t i = 0; i < sizeof stop_cases / sizeof stop_cases[0]; i++) {
        const stop_case *c = &stop_cases[i];
        size_t n_stops = 0;
        while (n_stops < 3 && c->stops[n_stops]) n_stops++;
        ern_err e = { 0 };
        ern_buf text = { 0 };
        bool stopped = false;
        ern_stream *s = stream_open(t, c->stops, n_stops, &e);
        assert_non_null(s);
        for (size_t k = 0; k < c->n_ids; k++)
            if (!stream_feed(s, c->ids[k], &text, &stopped, &e)) fail_msg("case %zu: %s", i, e.text);
        if (strcmp(text.data, c->before_end) != 0 || stopped != c->stops_at_all)
            fail_msg("case %zu: \"%s\" before the end, stopped %d", i, text.data, stopped);
        if (stopped) assert_int_equal(stream_stopped_by(s), c->by);
        assert_true(stream_finish(s, &text, &e));
        if (strcmp(text.data, c->text) != 0) fail_msg("case %zu: \"%s\", \"%s\" wanted", i, text.data, c->text);
        stream_close(s);
        buf_deinit(&text);
    }
    tokenizer_close(t);
}

static void test_refusals(void **state) {
    (void)state;
    ern_tokenizer *t = small();
    ern_err e = { 0 };
    ern_buf text = { 0 };
    const char *const empty[] = { "" };
    assert_null(stream_open(t, empty, 1, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_null(stream_open(t, empty, 1000, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    ern_stream *s = stream_open(t, NULL, 0, &e);
    assert_non_null(s);
    assert_false(stream_feed(s, N_PIECES, &text, NULL, &e));
    assert_int_equal(e.code, ERN_ARG);
    assert_non_null(strstr(e.text, "13"));
    assert_true(stream_finish(s, &text, &e));
    assert_int_equal(text.len, 0);
    stream_close(s);
    stream_close(NULL);
    buf_deinit(&text);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_recorded), cmocka_unit_test(test_stops),
                                        cmocka_unit_test(test_refusals) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
