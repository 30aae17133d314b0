/* reason.h: what every form of an answer is split into, however it is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/reason.h"

/* Events as text: R[...] C[...] T[...], neighbours of a kind joined. */
typedef struct { ern_buf b; int last; size_t n_left; } record;

static bool note(void *ctx, enum reason_kind kind, const char *text, size_t n) {
    record *x = ctx;
    if (x->n_left == 0) return false;
    x->n_left--;
    if (kind == REASON_TOOL_CALL || x->last != (int)kind) {
        if (x->last >= 0) assert_true(buf_char(&x->b, ']', NULL));
        assert_true(buf_char(&x->b, "CRT"[kind], NULL) && buf_char(&x->b, '[', NULL));
    }
    x->last = (int)kind;
    assert_true(buf_add(&x->b, text, n, NULL));
    return true;
}

/* Cut at a and b (positions), or after every byte when a > n. */
static void split(const char *s, bool inside, size_t a, size_t b, record *x) {
    const size_t n = strlen(s);
    ern_err e = { 0 };
    *x = (record){ .last = -1, .n_left = SIZE_MAX };
    ern_reason *r = reason_open(inside, note, x, &e);
    assert_non_null(r);
    if (a > n) {
        for (size_t i = 0; i < n; i++) assert_true(reason_feed(r, s + i, 1, &e));
    } else {
        assert_true(reason_feed(r, s, a, &e) && reason_feed(r, s + a, b - a, &e) && reason_feed(r, s + b, n - b, &e));
    }
    assert_true(reason_finish(r, &e));
    reason_close(r);
    if (x->last >= 0) assert_true(buf_char(&x->b, ']', NULL));
}

static const struct { bool inside; const char *text, *events; } cases[] = {
    { false, "", "" },
    { false, "plain text\n", "C[plain text\n]" },
    { false, "\n\n  lead", "C[\n\n  lead]" },
    { true, "abc</think>def", "R[abc]C[def]" },
    { true, "abc\n</think>\n\ndef\n", "R[abc\n]C[def\n]" },
    { true, "abc", "R[abc]" },
    { true, "abc</thin", "R[abc</thin]" },
    { true, "<think>abc</think>def", "R[abc]C[def]" },
    { false, "<think>abc</think>def", "R[abc]C[def]" },
    { false, "\n <think>\nabc\n</think>\ndef", "R[\nabc\n]C[def]" },
    { false, "<think>\n\n</think>\n\nanswer", "R[\n\n]C[answer]" },
    { false, "no <think>tag</think> here", "C[no <think>tag</think> here]" },
    { false, "<thin", "C[<thin]" },
    { true, "a</think>\n<response>\nb\nc\n</response>\n", "R[a]C[b\nc]" },
    { true, "a</think>\n\n<response>b</response>", "R[a]C[b]" },
    { true, "a</think><response>\nb\n", "R[a]C[b\n]" },
    { true, "a</think>x<response>b</response>", "R[a]C[x<response>b</response>]" },
    { true, "a</think><respons", "R[a]C[<respons]" },
    { false, "<response>\nhello\n</response>\n", "C[hello]" },
    { false, "\n<response>hello</response>tail", "C[hellotail]" },
    { true, "a</think>\n<response>\nuse </responses> and </res\n\n</response>", "R[a]C[use </responses> and </res]" },
    { true, "a\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n",
      "R[a\n]T[{\"name\": \"f\", \"arguments\": {\"x\": 1}}]" },
    { false, "before\n\n<tool_call>{\"name\":\"f\"}</tool_call>\n<tool_call> {\"name\":\"g\"} </tool_call>\nafter",
      "C[before]T[{\"name\":\"f\"}]T[{\"name\":\"g\"}]C[after]" },
    { false, "think\n</think>\n\n<tool_call>\n{\"name\":\"f\"}\n</tool_call>", "C[think\n</think>]T[{\"name\":\"f\"}]" },
    { true, "a</think>\n<response>\nhi\n</response>\n\n<tool_call>\n{\"name\":\"f\"}\n</tool_call>\n",
        "R[a]C[hi]T[{\"name\":\"f\"}]" },
    { true, "a</think><response>hi\n<tool_call>{\"name\":\"f\"}</tool_call>\n</response>\n",
        "R[a]C[hi]T[{\"name\":\"f\"}]" },
    { false, "x\n<tool_call>{\"name\": oops}</tool_call>\ny", "C[x\n<tool_call>{\"name\": oops}</tool_call>\ny]" },
    { false, "<tool_call>[1]</tool_call>", "C[<tool_call>[1]</tool_call>]" },
    { false, "<tool_call>{\"nom\":1}</tool_call><tool_call>{\"name\":\"g\"}</tool_call>",
      "C[<tool_call>{\"nom\":1}</tool_call>]T[{\"name\":\"g\"}]" },
    { false, "<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":\"</tool_call>\"}}</tool_call>.",
      "T[{\"name\":\"f\",\"arguments\":{\"s\":\"</tool_call>\"}}]C[.]" },
    { false, "a\n<tool_call>{\"name\":\"f\"}\n", "C[a]T[{\"name\":\"f\"}]" },
    { false, "a\n<tool_call>{\"name\":\"f\"", "C[a\n<tool_call>{\"name\":\"f\"]" },
    { false, "a\n<tool_call", "C[a\n<tool_call]" },
    { false, "a\n<tool_call>{\"name\":\"f\"}</tool_ca", "C[a\n<tool_call>{\"name\":\"f\"}</tool_ca]" },
    { true, "in <tool_call>{\"name\":\"f\"}</tool_call>", "R[in <tool_call>{\"name\":\"f\"}</tool_call>]" },
    { true, "\xe4\xbd\xa0</think>\xe5\xa5\xbd<\xff", "R[\xe4\xbd\xa0]C[\xe5\xa5\xbd<\xff]" },
};

static void test_cases(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const size_t n = strlen(cases[c].text);
        record whole, cut;
        split(cases[c].text, cases[c].inside, 0, n, &whole);
        if (strcmp(whole.b.data ? whole.b.data : "", cases[c].events) != 0)
            fail_msg("%s\n gives %s\n not %s", cases[c].text, whole.b.data ? whole.b.data : "", cases[c].events);
        for (size_t a = 0; a <= n + 1; a++)
            for (size_t b = a; b <= n; b += b < a + 2 ? 1 : 23) {
                split(cases[c].text, cases[c].inside, a, b, &cut);
                if (strcmp(cut.b.data ? cut.b.data : "", cases[c].events) != 0)
                    fail_msg("%s cut at %zu and %zu gives %s", cases[c].text, a, b, cut.b.data ? cut.b.data : "");
                buf_deinit(&cut.b);
            }
        split(cases[c].text, cases[c].inside, n + 1, 0, &cut);
        assert_string_equal(cut.b.data ? cut.b.data : "", cases[c].events);
        buf_deinit(&cut.b);
        buf_deinit(&whole.b);
    }
}

/* Random texts of tags and pieces of tags: all at once or byte by byte makes no difference. */
static void test_random(void **state) {
    (void)state;
    static const char *const parts[] = { "<think>", "</think>", "<response>", "</response>", "<tool_call>",
        "</tool_call>", "\n", "\n\n",
                                         " ", "<", "</", "a", "{\"name\":\"f\"}", "{", "\"", "<tool", "<resp", "</th",
                                         "\r\n" };
    uint32_t seed = 1;
    for (size_t round = 0; round < 3000; round++) {
        char text[400] = "";
        for (size_t i = 0; i < 24; i++) {
            seed = seed * 1664525u + 1013904223u;
            strcat(text, parts[(seed >> 16) % (sizeof parts / sizeof *parts)]);
        }
        record whole, bytes, cut;
        split(text, round % 2, 0, strlen(text), &whole);
        split(text, round % 2, strlen(text) + 1, 0, &bytes);
        split(text, round % 2, strlen(text) / 3, strlen(text) / 2, &cut);
        if (whole.b.len != bytes.b.len || memcmp(whole.b.data, bytes.b.data, whole.b.len) != 0)
            fail_msg("%s\n at once %s\n by byte %s", text, whole.b.data, bytes.b.data);
        assert_true(whole.b.len == cut.b.len && memcmp(whole.b.data, cut.b.data, whole.b.len) == 0);
        buf_deinit(&whole.b);
        buf_deinit(&bytes.b);
        buf_deinit(&cut.b);
    }
}

/* Long texts in small pieces stay linear, and an endless call is content. */
static void test_long(void **state) {
    (void)state;
    record x = { .last = -1, .n_left = SIZE_MAX };
    ern_err e = { 0 };
    ern_reason *r = reason_open(false, note, &x, &e);
    assert_non_null(r);
    assert_true(reason_feed(r, "<tool_call>{\"name\": \"", 21, &e));
    for (size_t i = 0; i < 700000; i++) assert_true(reason_feed(r, "abcdefg", 7, &e));
    for (size_t i = 0; i < 100000; i++) assert_true(reason_feed(r, "\n", 1, &e));
    assert_true(reason_finish(r, &e));
    reason_close(r);
    assert_true(x.last == REASON_CONTENT && x.b.len == 2 + 21 + 4900000 + 100000);
    buf_deinit(&x.b);
}

static void test_stop(void **state) {
    (void)state;
    record x = { .last = -1, .n_left = 1 };
    ern_err e = { 0 };
    ern_reason *r = reason_open(false, note, &x, &e);
    assert_non_null(r);
    assert_true(reason_feed(r, "a", 1, &e));
    assert_false(reason_feed(r, "b", 1, &e));
    assert_int_equal(e.code, ERN_STOPPED);
    reason_close(r);
    reason_close(NULL);
    buf_deinit(&x.b);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases), cmocka_unit_test(test_random),
        cmocka_unit_test(test_long),
                                        cmocka_unit_test(test_stop) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
