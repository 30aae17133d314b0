#include "text/tokenizer_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/test.h"
#include "reference.h"

/* The tokenizer of dir, its vocabulary as tokenizer.json, and what is read from that. */
static void expect_same_ids(const char *dir, const char *cases) {
    char path[REFERENCE_PATH], tmp[] = "/tmp/ern_tokenizer_write_XXXXXX";
    ern_err e = { 0 };
    ern_buf all = { 0 };
    size_t n_lines = 0;
    if (!reference_find(path, dir)) skip();
    ern_tokenizer *a = tokenizer_open(path, &e);
    if (!a) fail_msg("%s", e.text);
    json_t *json = tokenizer_json_of(tokenizer_vocab_of(a), &e);
    if (!json) fail_msg("%s", e.text);
    assert_non_null(mkdtemp(tmp));
    char *file = file_join(tmp, "tokenizer.json", &e);
    assert_int_equal(json_dump_file(json, file, 0), 0);
    json_decref(json);
    ern_tokenizer *b = tokenizer_open(tmp, &e);
    if (!b) fail_msg("%s", e.text);
    assert_true(reference_find(path, cases) && file_read(&all, path, (size_t)1 << 24, NULL));
    for (char *line = all.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        json = json_loadb(line, (size_t)(end - line), 0, NULL);
        const json_t *text = json_object_get(json, "text"), *want = json_object_get(json, "ids");
        ern_ids ids = { 0 };
        if (text && !tokenizer_encode(b, json_string_value(text), json_string_length(text), TOKENIZER_SPECIALS, &ids, &e))
            fail_msg("%s", e.text);
        bool same = !want || ids.n == json_array_size(want);
        for (size_t i = 0; same && want && i < ids.n; i++) same = ids.id[i] == json_integer_value(json_array_get(want, i));
        if (!same) fail_msg("ids of \"%s\" differ", json_string_value(text));
        n_lines += text != NULL;
        ids_deinit(&ids);
        json_decref(json);
    }
    assert_true(n_lines > 100);
    buf_deinit(&all);
    tokenizer_close(a);
    tokenizer_close(b);
    unlink(file);
    free(file);
    rmdir(tmp);
}

static void writes_sentencepiece(void **state) {
    (void)state;
    expect_same_ids("tokenizer/spm", "tokenizer/spm/cases.jsonl");
    expect_same_ids("tokenizer/spm/tokenizer.model", "tokenizer/spm/cases.jsonl");      /* merges from scores */
}

static void writes_bytelevel(void **state) {
    (void)state;
    expect_same_ids("tokenizer/bytelevel", "tokenizer/bytelevel/cases.jsonl");
}

static void writes_wordpiece_with_its_marks(void **state) {
    (void)state;
    static const char *const pieces[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "\xe2\x96\x81hello", "s", "[unused1]" };
    static const int32_t types[] = { 3, 2, 3, 3, 1, 1, 1 };
    const tokenizer_vocab v = { .kind = TOKENIZER_WORDPIECE, .n_tokens = 7, .pieces = pieces, .types = types, .bos = 2,
                                .eos = 3,
                                .unk = 1, .pad = 0 };
    ern_err e = { 0 };
    json_t *json = tokenizer_json_of(&v, &e);
    if (!json) fail_msg("%s", e.text);
    const json_t *vocab = json_object_get(json_object_get(json, "model"), "vocab");
    assert_int_equal(json_integer_value(json_object_get(vocab, "hello")), 4);
    assert_int_equal(json_integer_value(json_object_get(vocab, "##s")), 5);
    assert_int_equal(json_integer_value(json_object_get(vocab, "[unused1]")), 6);
    assert_true(json_is_true(json_object_get(json_object_get(json, "normalizer"), "lowercase")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "post_processor"), "type")),
                        "TemplateProcessing");
    json_decref(json);
}

static void adds_what_the_vocabulary_adds(void **state) {
    (void)state;
    static const char *const pieces[] = { "<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "\xe2\x96\x81" "a", "[PAD6]" };
    static const int32_t types[] = { 2, 3, 3, 1, 1, 1, 5 };
    static const float scores[] = { 0, 0, 0, -3, -2, -1, 0 };
    const tokenizer_vocab v = { .kind = TOKENIZER_SPM, .n_tokens = 7, .pieces = pieces, .types = types, .scores = scores,
                                .bos = 1,
                                .eos = 2, .unk = 0, .pad = -1, .adds_bos = true, .adds_eos = true,
                                    .adds_space_prefix = true };
    ern_err e = { 0 };
    json_t *json = tokenizer_json_of(&v, &e);
    if (!json) fail_msg("%s", e.text);
    const json_t *model = json_object_get(json, "model"), *merges = json_object_get(model, "merges");
    assert_int_equal(json_array_size(merges), 1);
    assert_string_equal(json_string_value(json_array_get(merges, 0)), "\xe2\x96\x81 a");
    assert_int_equal(json_object_size(json_object_get(model, "vocab")), 6);         /* without the padding row */
    assert_string_equal(json_string_value(json_object_get(model, "unk_token")), "<unk>");
    const json_t *single = json_object_get(json_object_get(json, "post_processor"), "single");
    assert_int_equal(json_array_size(single), 3);
    const json_t *steps = json_object_get(json_object_get(json, "normalizer"), "normalizers");
    assert_string_equal(json_string_value(json_object_get(json_array_get(steps, 0), "type")), "Prepend");
    assert_int_equal(json_array_size(json_object_get(json, "added_tokens")), 3);
    json_decref(json);
}

static void refuses_what_json_cannot_say(void **state) {
    (void)state;
    static const char *const bad[] = { "\xff" }, *const good[] = { "a" };
    ern_err e = { 0 };
    tokenizer_vocab v = { .kind = TOKENIZER_SPM, .n_tokens = 1, .pieces = bad, .bos = -1, .eos = -1, .unk = -1, .pad = -1 };
    assert_null(tokenizer_json_of(&v, &e));
    assert_non_null(strstr(e.text, "token 0: is not UTF-8"));
    v = (tokenizer_vocab){ .kind = TOKENIZER_BYTELEVEL, .pre = "no such name", .n_tokens = 1, .pieces = good, .bos = -1,
                           .eos = -1,
                           .unk = -1, .pad = -1 };
    assert_null(tokenizer_json_of(&v, &e));
    assert_non_null(strstr(e.text, "no such name"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_sentencepiece), cmocka_unit_test(writes_bytelevel),
        cmocka_unit_test(writes_wordpiece_with_its_marks), cmocka_unit_test(adds_what_the_vocabulary_adds),
        cmocka_unit_test(refuses_what_json_cannot_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
