/* Tokenizers against what the reference libraries do: ids, pieces, text back, and the same after a trip through a GGUF
 * vocabulary. The cases are lines of tests/reference/tokenizer; two real vocabularies are read where they are at hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/file.h"
#include "text/tokenizer.h"

#define MAX_CASES_BYTES ((size_t)16 << 20)
#define MIN_CASES 300               /* of each reference list, so that an empty file does not pass */

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

static ern_tokenizer *open_reference(const char *name) {
    char *path = reference(name);
    ern_err e = { 0 };
    if (!path) return NULL;
    ern_tokenizer *t = tokenizer_open(path, &e);
    if (!t) fail_msg("%s: %s", path, e.text);
    free(path);
    return t;
}

static bool is_same_ids(const ern_ids *got, const json_t *want) {
    bool same = got->n == json_array_size(want);
    for (size_t i = 0; same && i < got->n; i++) same = got->id[i] == json_integer_value(json_array_get(want, i));
    return same;
}

static int report(const char *what, const char *text, const ern_ids *got, const json_t *want) {
    char *w = json_dumps(want, JSON_COMPACT);
    print_error("%s: \"%.80s\"\n  want %.200s\n  got  [", what, text, w);
    for (size_t i = 0; i < got->n && i < 30; i++) print_error("%d,", got->id[i]);
    print_error("]\n");
    free(w);
    return 1;
}

static int check_ids(const ern_tokenizer *t, const char *what, const json_t *text, const json_t *want, unsigned flags) {
    ern_ids ids = { 0 };
    ern_err e = { 0 };
    int bad = 0;
    if (!want) return 0;
    if (!tokenizer_encode(t, json_string_value(text), json_string_length(text), flags, &ids, &e))
        fail_msg("%s: %s", json_string_value(text), e.text);
    if (!is_same_ids(&ids, want)) bad = report(what, json_string_value(text), &ids, want);
    ids_deinit(&ids);
    return bad;
}

static int check_back(const ern_tokenizer *t, const json_t *row, const json_t *ids, bool with_specials) {
    const json_t *want = json_object_get(row, "decoded"), *pieces = json_object_get(row, "pieces");
    const size_t n = json_array_size(ids);
    int32_t *list = calloc(n + 1, sizeof *list);
    ern_buf b = { 0 };
    ern_err e = { 0 };
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        if (pieces && strcmp(tokenizer_piece(t, list[i]), json_string_value(json_array_get(pieces, i))) != 0) bad = 1;
    }
    if (bad) print_error("pieces of \"%.80s\" differ\n", json_string_value(json_object_get(row, "text")));
    if (!tokenizer_decode(t, list, n, with_specials, &b, &e)) fail_msg("%s", e.text);
    if (want && (b.len != json_string_length(want) || memcmp(b.data, json_string_value(want), b.len) != 0)) {
        print_error("decoded: want \"%.80s\" got \"%.80s\"\n", json_string_value(want), b.data);
        bad = 1;
    }
    buf_deinit(&b);
    free(list);
    return bad;
}

static int check_row(const ern_tokenizer *t, const json_t *row, bool with_specials) {
    const json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, "ids"),
        *whole = json_object_get(row, "ids_whole");
    /* ids_whole: without the two tokens that ADD puts around, where ids has them and is cut at 256 */
    int bad = check_ids(t, "ids", text, whole ? whole : ids, TOKENIZER_SPECIALS);
    bad += check_ids(t, "ids_plain", text, json_object_get(row, "ids_plain"), TOKENIZER_PLAIN);
    if (whole && json_array_size(whole) < 254) bad += check_ids(t, "ids with ADD", text, ids,
                                                                TOKENIZER_SPECIALS | TOKENIZER_ADD);
    return bad + check_back(t, row, whole ? whole : ids, with_specials);
}

static void check_lines(const ern_tokenizer *t, const char *name) {
    char *path = reference(name);
    ern_buf b = { 0 };
    int bad = 0;
    size_t n = 0;
    assert_non_null(path);
    assert_true(file_read(&b, path, MAX_CASES_BYTES, NULL));
    for (char *line = b.data; line && *line; n++) {
        char *end = strchr(line, '\n');
        json_t *row = json_loadb(line, end ? (size_t)(end - line) : strlen(line), JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        bad += check_row(t, row, true);
        json_decref(row);
        line = end ? end + 1 : NULL;
    }
    print_message("%s: %zu cases, %d differ\n", name, n, bad);
    assert_true(n >= MIN_CASES);
    assert_int_equal(bad, 0);
    buf_deinit(&b);
    free(path);
}

/* Through a GGUF vocabulary and back: the same on every case. */
static void check_trip(const ern_tokenizer *t, const char *name) {
    ern_err e = { 0 };
    ern_tokenizer *again = tokenizer_from_vocab(tokenizer_vocab_of(t), &e);
    if (!again) fail_msg("%s: %s", name, e.text);
    check_lines(again, name);
    tokenizer_close(again);
}

static void check_folder(const char *folder, const char *cases) {
    ern_tokenizer *t = open_reference(folder);
    if (!t) skip();
    check_lines(t, cases);
    check_trip(t, cases);
    tokenizer_close(t);
}

static void test_spm(void **state) { (void)state; check_folder("tokenizer/spm", "tokenizer/spm/cases.jsonl"); }
static void test_spm_model(void **state) { (void)state; check_folder("tokenizer/spm/tokenizer.model",
                                                                     "tokenizer/spm/cases.jsonl"); }
static void test_bytelevel(void **state) { (void)state; check_folder("tokenizer/bytelevel",
                                                                     "tokenizer/bytelevel/cases.jsonl"); }
static void test_wordpiece(void **state) { (void)state; check_folder("tokenizer/wordpiece",
                                                                     "tokenizer/wordpiece/cases.jsonl"); }
static void test_vocab_txt(void **state) { (void)state; check_folder("tokenizer/wordpiece/vocab.txt",
                                                                     "tokenizer/wordpiece/cases.jsonl"); }

/* ---- real vocabularies ------------------------------------------------------------------------ */

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spm), cmocka_unit_test(test_spm_model), cmocka_unit_test(test_bytelevel),
            cmocka_unit_test(test_wordpiece),
        cmocka_unit_test(test_vocab_txt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
