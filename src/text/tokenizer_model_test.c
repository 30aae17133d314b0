/* tokenizer.model and the config files beside it: normalizer flags, ERNIE's names, hostile bytes. The models are written
 * here, field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "text/tokenizer.h"

#define MARK "\xE2\x96\x81"

typedef struct { char folder[64]; } place;

static void put(const place *p, const char *file, const void *bytes, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", p->folder, file);
    FILE *f = fopen(path, "wb");                /* file_write would wait for the disk each time */
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void put_text(const place *p, const char *file, const char *text) { put(p, file, text, strlen(text)); }

static place make_place(void) {
    place p;
    snprintf(p.folder, sizeof p.folder, "/tmp/tokenizer_model_test.XXXXXX");
    assert_non_null(mkdtemp(p.folder));
    return p;
}

static void remove_place(const place *p) {
    static const char *const files[] = { "tokenizer.model", "tokenizer.json", "tokenizer_config.json",
                                         "special_tokens_map.json", "added_tokens.json", "vocab.txt" };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", p->folder, files[i]);
        unlink(path);
    }
    rmdir(p->folder);
}

/* ---- writing a model -------------------------------------------------------------------------- */

typedef struct { const char *text; float score; int type; } piece;

static void add_varint(ern_buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) assert_true(buf_char(b, (char)((v & 0x7F) | 0x80), NULL));
    assert_true(buf_char(b, (char)v, NULL));
}

static void add_bytes(ern_buf *b, unsigned field, const void *bytes, size_t n) {
    add_varint(b, field << 3 | 2);
    add_varint(b, n);
    assert_true(buf_add(b, bytes, n, NULL));
}

static void add_number(ern_buf *b, unsigned field, uint64_t v) {
    add_varint(b, field << 3);
    add_varint(b, v);
}

static void add_pieces(ern_buf *b, const piece *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        ern_buf one = { 0 };
        add_bytes(&one, 1, list[i].text, strlen(list[i].text));
        add_varint(&one, 2 << 3 | 5);
        assert_true(buf_add(&one, &list[i].score, sizeof list[i].score, NULL));
        add_number(&one, 3, (uint64_t)list[i].type);
        add_bytes(b, 1, one.data, one.len);
        buf_deinit(&one);
    }
}

typedef struct { bool adds_prefix, removes_spaces, escapes; unsigned model; } flags;

static void add_specs(ern_buf *b, flags f) {
    ern_buf training = { 0 }, normalizer = { 0 };
    add_number(&training, 3, f.model);
    add_number(&training, 43, (uint64_t)-1);
    add_bytes(b, 2, training.data, training.len);
    add_number(&normalizer, 3, f.adds_prefix);
    add_number(&normalizer, 4, f.removes_spaces);
    add_number(&normalizer, 5, f.escapes);
    add_bytes(b, 3, normalizer.data, normalizer.len);
    buf_deinit(&training);
    buf_deinit(&normalizer);
}

static const piece pieces[] = {
    { "<unk>", 0, 2 }, { "<s>", 0, 3 }, { "</s>", 0, 3 }, { "0", 0, 4 }, { "1", 0, 4 }, { MARK "a", 0, 1 },
        { "ab", -1, 1 }, { MARK, -9, 1 }, { "a", -9, 1 },
    { "b", -9, 1 }, { MARK MARK, -2, 1 }, { "<|end_of_sentence|>", 0, 4 }, { "<mask:0>", 0, 4 }, { "<mask:1>", 0, 4 },
};
enum { N_PIECES = sizeof pieces / sizeof pieces[0], A_MARKED = 5, AB, SPACE, A, B, SPACES, END, BEGIN, MASK1 };

static void put_model(const place *p, flags f) {
    ern_buf b = { 0 };
    add_pieces(&b, pieces, N_PIECES);
    add_specs(&b, f);
    put(p, "tokenizer.model", b.data, b.len);
    buf_deinit(&b);
}

static const flags ernie = { .escapes = true, .model = 2 };

static ern_tokenizer *open_place(const place *p) {
    ern_err e = { 0 };
    ern_tokenizer *t = tokenizer_open(p->folder, &e);
    if (!t) fail_msg("%s", e.text);
    return t;
}

static void check(const ern_tokenizer *t, const char *text, unsigned how, const int32_t *want, size_t n) {
    ern_ids ids = { 0 };
    ern_err e = { 0 };
    if (!tokenizer_encode(t, text, strlen(text), how, &ids, &e)) fail_msg("%s", e.text);
    bool same = ids.n == n;
    for (size_t i = 0; same && i < n; i++) same = ids.id[i] == want[i];
    if (!same) {
        for (size_t i = 0; i < ids.n; i++) print_error("%d ", (int)ids.id[i]);
        fail_msg("\"%s\" with flags %u", text, how);
    }
    ids_deinit(&ids);
}

#define CHECK(t, text, how, ...)                                                    \
    do {                                                                            \
        const int32_t want_[] = { __VA_ARGS__ };                                    \
        check(t, text, how, want_, sizeof want_ / sizeof want_[0]);                 \
    } while (0)

static void check_back(const ern_tokenizer *t, const int32_t *ids, size_t n, bool with_specials, const char *want) {
    ern_buf b = { 0 };
    assert_true(tokenizer_decode(t, ids, n, with_specials, &b, NULL));
    assert_string_equal(b.data, want);
    buf_deinit(&b);
}

/* ---- tests ------------------------------------------------------------------------------------ */

static void test_normalizer_flags(void **state) {
    (void)state;
    place p = make_place();
    put_model(&p, ernie);
    ern_tokenizer *t = open_place(&p);
    CHECK(t, " ab  a", 0, A_MARKED, B, SPACE,
          A_MARKED);            /* the best score first: the mark with a, not a with b */
    CHECK(t, "b  b", 0, B, SPACES, B);
    CHECK(t, "a ", 0, A, SPACE);
    CHECK(t, MARK "a", 0, A_MARKED);                                /* U+2581 itself is a space */
    tokenizer_close(t);
    put_model(&p, (flags){ true, false, true, 2 });
    t = open_place(&p);
    CHECK(t, "a", 0, A_MARKED);
    check(t, "", 0, NULL, 0);
    tokenizer_close(t);
    remove_place(&p);
}

static void test_prefix_and_spaces(void **state) {
    (void)state;
    place p = make_place();
    put_model(&p, (flags){ true, true, true, 2 });
    put_text(&p, "tokenizer_config.json", "{\"tokenizer_class\":\"LlamaTokenizer\"}");
    ern_tokenizer *t = open_place(&p);
    CHECK(t, "  a   a ", 0, A_MARKED, A_MARKED);
    CHECK(t, "a", TOKENIZER_ADD, 1, A_MARKED);                      /* Llama adds BOS */
    CHECK(t, "a</s>a", TOKENIZER_SPECIALS, A_MARKED, 2, A_MARKED);  /* the prefix again after a special token */
    const int32_t ids[] = { 1, A_MARKED, A_MARKED };
    check_back(t, ids, 3, false, "a a");
    check_back(t, ids, 3, true, "<s>" " a a");
    const tokenizer_vocab *v = tokenizer_vocab_of(t);
    assert_true(v->adds_bos && v->adds_space_prefix && v->collapses_spaces);
    ern_tokenizer *again = tokenizer_from_vocab(v, NULL);
    assert_non_null(again);
    CHECK(again, "  a   a ", TOKENIZER_ADD, 1, A_MARKED, A_MARKED);
    tokenizer_close(again);
    tokenizer_close(t);
    remove_place(&p);
}

static void test_ernie(void **state) {
    (void)state;
    place p = make_place();
    put_model(&p, ernie);
    put_text(&p, "tokenizer_config.json",
             "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"pad_token\":\"<unk>\",\"unk_token\":\"<unk>\","
             "\"cls_token\":\"<|begin_of_sentence|>\","
             "\"sep_token\":\"<|end_of_sentence|>\",\"mask_token\":\"<mask:1>\","
             "\"additional_special_tokens\":null,\"tokenizer_class\":\"Ernie4_5_Tokenizer\"}");
    put_text(&p, "special_tokens_map.json",
             "{\"cls_token\":{\"content\":\"<|begin_of_sentence|>\"},\"additional_special_tokens\":[\"<|LOC_0|>\"]}");
    put_text(&p, "added_tokens.json", "{\"<|LOC_0|>\":14,\"<think>\":16}");
    ern_tokenizer *t = open_place(&p);
    CHECK(t, "<|begin_of_sentence|>a<|end_of_sentence|>", TOKENIZER_SPECIALS, BEGIN, A, END);
    CHECK(t, "a", TOKENIZER_ADD | TOKENIZER_SPECIALS, A);           /* no BOS */
    CHECK(t, "<|LOC_0|><think>10", TOKENIZER_SPECIALS, 14, 16, 4, 3);
    CHECK(t, "10", TOKENIZER_LITERAL, 4, 3);                        /* digits stay single */
    CHECK(t, "a<mask:1>", TOKENIZER_PLAIN, A, MASK1);               /* as SentencePiece: user-defined in the model */
    assert_int_equal(tokenizer_find(t, "<|begin_of_sentence|>"), BEGIN);
    assert_string_equal(tokenizer_piece(t, BEGIN), "<|begin_of_sentence|>");
    assert_int_equal(tokenizer_find(t, "<mask:0>"), BEGIN);
    assert_int_equal(tokenizer_type(t, BEGIN), TOKEN_CONTROL);
    assert_int_equal(tokenizer_type(t, END), TOKEN_CONTROL);
    assert_int_equal(tokenizer_type(t, 14), TOKEN_CONTROL);
    assert_int_equal(tokenizer_type(t, 15), TOKEN_UNUSED);          /* a hole */
    assert_int_equal(tokenizer_type(t, 16), TOKEN_USER);
    assert_int_equal(tokenizer_type(t, 3), TOKEN_USER);
    assert_int_equal(tokenizer_type(t, A), TOKEN_NORMAL);
    assert_int_equal(tokenizer_n_tokens(t), 17);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    const int32_t ids[] = { BEGIN, SPACE, A, 14, END };
    check_back(t, ids, 5, false, " a");
    check_back(t, ids, 5, true, "<|begin_of_sentence|> a<|LOC_0|><|end_of_sentence|>");
    /* What a user typed never becomes a special token. */
    ern_ids typed = { 0 };
    const char *text = "<|begin_of_sentence|><|end_of_sentence|><mask:0><mask:1><|LOC_0|><s></s>";
    assert_true(tokenizer_encode(t, text, strlen(text), TOKENIZER_LITERAL, &typed, NULL));
    for (size_t i = 0; i < typed.n; i++) assert_int_not_equal(tokenizer_type(t, typed.id[i]), TOKEN_CONTROL);
    ids_deinit(&typed);
    tokenizer_close(t);
    remove_place(&p);
}

static void test_added_tokens_decoder(void **state) {
    (void)state;
    place p = make_place();
    put_model(&p, ernie);
    put_text(&p, "tokenizer_config.json",
             "{\"added_tokens_decoder\":{\"1\":{\"content\":\"<s>\",\"special\":true},"
             "\"20\":{\"content\":\"<x>\",\"lstrip\":true,\"special\":false}}}");
    ern_tokenizer *t = open_place(&p);
    CHECK(t, "a <x>b", 0, A, 20, B);
    CHECK(t, "<s>", TOKENIZER_SPECIALS, 1);
    tokenizer_close(t);
    put_text(&p, "tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"<s>\"}}}");
    ern_err e = { 0 };
    assert_null(tokenizer_open(p.folder, &e));
    assert_non_null(strstr(e.text, "added_tokens_decoder"));
    put_text(&p, "tokenizer_config.json", "{");
    assert_null(tokenizer_open(p.folder, &e));
    assert_non_null(strstr(e.text, "tokenizer_config.json: line 1"));
    remove_place(&p);
}

/* A tokenizer.json that cannot be read makes way for the model; its error stays when nothing can be read. */
static void test_preference(void **state) {
    (void)state;
    place p = make_place();
    ern_err e = { 0 };
    assert_null(tokenizer_open(p.folder, &e));
    assert_int_equal(e.code, ERN_NOTFOUND);
    put_text(&p, "tokenizer.json", "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}");
    assert_null(tokenizer_open(p.folder, &e));
    assert_int_equal(e.code, ERN_MISSING);
    put_model(&p, (flags){ false, false, true, 1 });
    assert_null(tokenizer_open(p.folder, &e));
    assert_non_null(strstr(e.text, "Unigram"));
    put_model(&p, ernie);
    ern_tokenizer *t = tokenizer_open(p.folder, &e);
    assert_non_null(t);
    assert_int_equal(e.code, ERN_OK);
    tokenizer_close(t);
    remove_place(&p);
}

/* vocab.txt: capitals count where the config or a piece says so. */
static void test_vocab_txt(void **state) {
    (void)state;
    place p = make_place();
    put_text(&p, "vocab.txt", "[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\n##b\r\nc");
    ern_tokenizer *t = open_place(&p);
    CHECK(t, "AB c", TOKENIZER_ADD, 1, 3, 4, 5, 2);
    tokenizer_close(t);
    put_text(&p, "tokenizer_config.json", "{\"do_lower_case\":false}");
    t = open_place(&p);
    CHECK(t, "AB c", 0, 0, 5);
    tokenizer_close(t);
    put_text(&p, "tokenizer_config.json", "{}");
    put_text(&p, "vocab.txt", "[UNK]\na\n##b\nA\n");
    t = open_place(&p);
    CHECK(t, "Ab ab", 0, 3, 2, 1, 2);
    tokenizer_close(t);
    ern_err e = { 0 };
    put_text(&p, "vocab.txt", "a\nb\n");
    assert_null(tokenizer_open(p.folder, &e));
    assert_non_null(strstr(e.text, "[UNK]"));
    put_text(&p, "vocab.txt", "[UNK]\na\na\n");
    assert_null(tokenizer_open(p.folder, &e));
    assert_non_null(strstr(e.text, "twice"));
    remove_place(&p);
}

static void test_refusals(void **state) {
    (void)state;
    place p = make_place();
    ern_err e = { 0 };
    put_model(&p, (flags){ false, false, true, 1 });
    assert_null(tokenizer_open(p.folder, &e));
    assert_int_equal(e.code, ERN_MISSING);
    assert_non_null(strstr(e.text, "unigram"));
    const struct { const char *bytes; size_t n; const char *words; } bad[] = {
        { "", 0, "no pieces" }, { "\x0A\x05" "abc", 5, "3 are left" }, { "\x0A\x00", 2, "piece 0 is empty" },
            { "\x0F", 1, "wire type 7" },
        { "\x0A\x03\x0A\x01\xFF", 5, "UTF-8" }, { "\x0A\x05\x0A\x01" "a\x18\x09", 7, "type 9" },
        { "\x0A\x03\x0A\x01" "a\x0A\x03\x0A\x01" "a", 10, "stands twice" },
        { "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11, "longer than ten bytes" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ern_buf b = { 0 };
        assert_true(buf_add(&b, bad[i].bytes, bad[i].n, NULL));
        if (i == 6) add_specs(&b, ernie);
        put(&p, "tokenizer.model", b.data, b.len);
        assert_null(tokenizer_open(p.folder, &e));
        if (!strstr(e.text, bad[i].words)) fail_msg("case %zu: \"%s\" wanted, got: %s", i, bad[i].words, e.text);
        buf_deinit(&b);
    }
    remove_place(&p);
}

/* Every prefix of a model, and every byte of it changed: an error or a tokenizer, nothing else. */
static void test_hostile(void **state) {
    (void)state;
    place p = make_place();
    ern_buf b = { 0 };
    add_pieces(&b, pieces, N_PIECES);
    add_specs(&b, ernie);
    const size_t n = b.len;
    for (size_t i = 0; i < 2 * n; i++) {
        ern_err e = { 0 };
        const size_t at = i % n;
        const char kept = b.data[at];
        if (i >= n) b.data[at] = (char)(kept ^ (1 << at % 8));
        put(&p, "tokenizer.model", b.data, i < n ? at : n);
        ern_tokenizer *t = tokenizer_open(p.folder, &e);
        if (!t) assert_true(e.code != ERN_OK && e.text[0]);
        ern_ids ids = { 0 };
        if (t) tokenizer_encode(t, "a 10 ab<s>", 10, TOKENIZER_SPECIALS | TOKENIZER_ADD, &ids, NULL);
        ids_deinit(&ids);
        tokenizer_close(t);
        b.data[at] = kept;
    }
    buf_deinit(&b);
    remove_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalizer_flags), cmocka_unit_test(test_prefix_and_spaces), cmocka_unit_test(test_ernie),
        cmocka_unit_test(test_added_tokens_decoder), cmocka_unit_test(test_preference), cmocka_unit_test(test_vocab_txt),
        cmocka_unit_test(test_refusals),
            cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
