/* Vocabularies as GGUF gives them: what is refused, how plain and literal text differ, long words, many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "text/tokenizer.h"

#define MARK "\xE2\x96\x81"
#define LONG_TEXT ((size_t)1 << 20)
#define MAX_LONG_SECONDS 20.0       /* a quadratic pass over a megabyte takes hours; a sanitized linear one under 10 s */
#define N_THREADS 4

/* ---- small vocabularies ----------------------------------------------------------------------- */

static const char *const spm_pieces[] = { "<unk>", "<s>", "a", "b", "ab", MARK, MARK "a", "7", "<|im_end|>", "<think>",
                                          "aa", "aaaa" };
static const int32_t spm_types[] = { 2, 3, 1, 1, 1, 1, 1, 4, 4, 4, 1, 1 };
static const float spm_scores[] = { 0, 0, -9, -9, -1, -9, -2, 0, 0, 0, -3, -4 };
enum { N_SPM = sizeof spm_pieces / sizeof spm_pieces[0] };

static tokenizer_vocab spm(void) {
    return (tokenizer_vocab){ .kind = TOKENIZER_SPM, .n_tokens = N_SPM, .pieces = spm_pieces, .types = spm_types,
                              .scores = spm_scores,
                              .bos = 1, .eos = -1, .unk = 0, .pad = -1 };
}

static const char *const bpe_merges[] = { "a b", "\xC4\xA0 a", "ab ab" };

typedef struct { char letter[256][4]; const char *pieces[260]; int32_t types[260]; } bytelevel_store;

static tokenizer_vocab bytelevel(bytelevel_store *s) {
    static const char *const more[] = { "ab", "\xC4\xA0\x61", "abab", "<|end|>" };
    int32_t next = 256;
    for (int b = 0; b < 256; b++) {
        const bool is_shown = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        s->letter[b][utf8_encode(is_shown ? b : next++, s->letter[b])] = '\0';
        s->pieces[b] = s->letter[b];
        s->types[b] = 1;
    }
    for (int i = 0; i < 4; i++) {
        s->pieces[256 + i] = more[i];
        s->types[256 + i] = i == 3 ? 3 : 1;
    }
    return (tokenizer_vocab){ .kind = TOKENIZER_BYTELEVEL, .pre = "gpt-2", .n_tokens = 260, .pieces = s->pieces,
                              .types = s->types,
                              .n_merges = 3, .merges = bpe_merges, .bos = -1, .eos = 259, .unk = -1, .pad = -1 };
}

static ern_tokenizer *open_vocab(const tokenizer_vocab *v) {
    ern_err e = { 0 };
    ern_tokenizer *t = tokenizer_from_vocab(v, &e);
    if (!t) fail_msg("%s", e.text);
    return t;
}

static void check(const ern_tokenizer *t, const char *text, unsigned flags, const char *want) {
    ern_ids ids = { 0 };
    ern_err e = { 0 };
    char got[256] = "";
    size_t n = 0;
    if (!tokenizer_encode(t, text, strlen(text), flags, &ids, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < ids.n && n < 240; i++) n += (size_t)snprintf(got + n, sizeof got - n, "%s%d", i ? " "
            : "", (int)ids.id[i]);
    if (strcmp(got, want) != 0) fail_msg("\"%s\" with flags %u gives %s, %s wanted", text, flags, got, want);
    ids_deinit(&ids);
}

/* ---- tests ------------------------------------------------------------------------------------ */

static void test_levels(void **state) {
    (void)state;
    tokenizer_vocab v = spm();
    ern_tokenizer *t = open_vocab(&v);
    check(t, "<s>a", TOKENIZER_SPECIALS, "1 2");
    check(t, "<s>a", TOKENIZER_PLAIN, "0 2");                       /* unknown characters in a row are one */
    check(t, "<|im_end|>7", TOKENIZER_PLAIN, "8 7");                /* user-defined: as SentencePiece takes it */
    check(t, "<|im_end|>7", TOKENIZER_LITERAL, "0 7");              /* but it looks like a special token */
    check(t, "<think>", TOKENIZER_LITERAL, "9");
    check(t, "a", TOKENIZER_ADD, "2");                              /* adds_bos is not set */
    assert_int_equal(tokenizer_type(t, 8), TOKEN_CONTROL);
    assert_int_equal(tokenizer_type(t, 0), TOKEN_UNKNOWN);
    assert_int_equal(tokenizer_type(t, N_SPM), TOKEN_UNUSED);
    assert_null(tokenizer_piece(t, N_SPM));
    assert_null(tokenizer_piece(t, -1));
    assert_int_equal(tokenizer_find(t, "abc"), -1);
    tokenizer_close(t);
    v.adds_bos = v.adds_space_prefix = true;
    t = open_vocab(&v);
    check(t, "a", TOKENIZER_ADD, "1 6");
    tokenizer_close(t);
    tokenizer_close(NULL);
}

typedef struct { const char *words; enum ern_code code; void (*spoil)(tokenizer_vocab *v); } refusal;

static const char *doubled[N_SPM], *not_utf8[N_SPM];
static float nan_scores[N_SPM];
static const char *const bad_merges[] = { "ab" };

static void no_tokens(tokenizer_vocab *v) { v->n_tokens = 0; }
static void too_many(tokenizer_vocab *v) { v->n_tokens = (size_t)1 << 40; }
static void far_bos(tokenizer_vocab *v) { v->bos = N_SPM; }
static void twice(tokenizer_vocab *v) { memcpy(doubled, spm_pieces,
                                               sizeof doubled); doubled[4] = "a"; v->pieces = doubled; }
static void bad_bytes(tokenizer_vocab *v) { memcpy(not_utf8, spm_pieces,
                                                   sizeof not_utf8); not_utf8[4] = "a\xFF"; v->pieces = not_utf8; }
static void bad_score(tokenizer_vocab *v) { memcpy(nan_scores, spm_scores,
                                                   sizeof nan_scores); nan_scores[4] = NAN; v->scores = nan_scores; }
static void bad_merge(tokenizer_vocab *v) { v->merges = bad_merges; v->n_merges = 1; }
static void unknown_pre(tokenizer_vocab *v) { v->kind = TOKENIZER_BYTELEVEL; v->pre = "no-such-name"; }
static void no_unk(tokenizer_vocab *v) { v->kind = TOKENIZER_WORDPIECE; v->unk = -1; }

static const refusal refusals[] = {
    { "0 tokens", ERN_FORMAT, no_tokens }, { "1099511627776 tokens", ERN_LIMIT, too_many },
        { "bos is id 12", ERN_FORMAT, far_bos },
    { "\"a\" stands twice, with ids 2 and 4", ERN_FORMAT, twice }, { "token 4: byte 1", ERN_FORMAT, bad_bytes },
        { "score of piece 4", ERN_FORMAT, bad_score },
    { "merge 0 is \"ab\"", ERN_FORMAT, bad_merge }, { "no-such-name", ERN_MISSING, unknown_pre },
        { "[UNK]", ERN_FORMAT, no_unk },
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        tokenizer_vocab v = spm();
        ern_err e = { 0 };
        refusals[i].spoil(&v);
        ern_tokenizer *t = tokenizer_from_vocab(&v, &e);
        if (t || e.code != refusals[i].code || !strstr(e.text, refusals[i].words))
            fail_msg("case %zu: code %d: %s", i, (int)e.code, e.text);
    }
}

static void test_bad_text(void **state) {
    (void)state;
    const tokenizer_vocab v = spm();
    ern_tokenizer *t = open_vocab(&v);
    ern_ids ids = { 0 };
    ern_err e = { 0 };
    ern_buf b = { 0 };
    assert_true(ids_add(&ids, 5, NULL));
    assert_false(tokenizer_encode(t, "ab\xE4\xB8" "c", 5, 0, &ids, &e));
    assert_int_equal(e.code, ERN_FORMAT);
    assert_non_null(strstr(e.text, "byte 2"));
    assert_int_equal(ids.n, 1);                                     /* untouched */
    assert_true(tokenizer_encode(t, "", 0, 0, &ids, &e));
    assert_true(tokenizer_encode(t, "a\0b", 3, 0, &ids, &e));       /* NUL is a character like others */
    assert_int_equal(ids.n, 4);
    const int32_t far[] = { 2, N_SPM };
    assert_false(tokenizer_decode(t, far, 2, true, &b, &e));
    assert_non_null(strstr(e.text, "id 12"));
    assert_int_equal(b.len, 0);
    buf_deinit(&b);
    ids_deinit(&ids);
    tokenizer_close(t);
}

/* The word cache may not remember what an unknown piece before it swallowed. */
static void test_unknown_and_cache(void **state) {
    (void)state;
    const tokenizer_vocab v = spm();
    ern_tokenizer *t = open_vocab(&v);
    ern_buf b = { 0 };
    ern_ids ids = { 0 };
    for (int i = 0; i < 300; i++) assert_true(buf_str(&b, i % 2 ? "xy a " : "x by a", NULL));
    assert_true(tokenizer_encode(t, b.data, b.len, 0, &ids, NULL));
    size_t n_unknown = 0, want = 0;
    for (size_t i = 0; i < ids.n; i++) n_unknown += ids.id[i] == 0;
    bool was_known = true;
    for (size_t i = 0; i < b.len; i++) {
        const bool is_known = strchr("ab ", b.data[i]) != NULL;
        want += !is_known && was_known;
        was_known = is_known;
    }
    assert_int_equal(n_unknown, want);
    ids_deinit(&ids);
    buf_deinit(&b);
    tokenizer_close(t);
}

static void fill(char *s, size_t n, const char *unit) {
    const size_t m = strlen(unit);
    for (size_t i = 0; i < n; i++) s[i] = unit[i % m];
}

static void test_long_words(void **state) {
    (void)state;
    static const char *const units[] = { "a", "ab", " ", "7", "abb", "\n", "'", "aab7 " };
    static bytelevel_store store;
    const tokenizer_vocab kinds[] = { spm(), bytelevel(&store) };
    char *text = malloc(LONG_TEXT);
    assert_non_null(text);
    for (size_t k = 0; k < 2; k++) {
        ern_tokenizer *t = open_vocab(&kinds[k]);
        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            ern_ids ids = { 0 };
            ern_buf back = { 0 };
            const clock_t start = clock();
            fill(text, LONG_TEXT, units[u]);
            assert_true(tokenizer_encode(t, text, LONG_TEXT, 0, &ids, NULL));
            assert_true((double)(clock() - start) / CLOCKS_PER_SEC < MAX_LONG_SECONDS);
            assert_true(tokenizer_decode(t, ids.id, ids.n, true, &back, NULL));
            if (k == 1) assert_true(back.len == LONG_TEXT && memcmp(back.data, text, LONG_TEXT) == 0);
            buf_deinit(&back);
            ids_deinit(&ids);
        }
        tokenizer_close(t);
    }
    free(text);
}

/* ---- threads ---------------------------------------------------------------------------------- */

typedef struct { const ern_tokenizer *t; const char *text; ern_ids ids; bool ok; } job;

static void *work(void *arg) {
    job *j = arg;
    j->ok = true;
    for (int i = 0; i < 20 && j->ok; i++) {
        j->ids.n = 0;
        j->ok = tokenizer_encode(j->t, j->text, strlen(j->text), TOKENIZER_SPECIALS, &j->ids, NULL);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    static bytelevel_store store;
    const tokenizer_vocab v = bytelevel(&store);
    ern_tokenizer *t = open_vocab(&v);
    ern_buf b = { 0 };
    job jobs[N_THREADS];
    pthread_t threads[N_THREADS];
    for (int i = 0; i < 200; i++) assert_true(buf_printf(&b, NULL, "abab <|end|> a%d \xC3\xA9\n", i));
    for (size_t i = 0; i < N_THREADS; i++) {
        jobs[i] = (job){ .t = t, .text = b.data };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].ok);
        assert_int_equal(jobs[i].ids.n, jobs[0].ids.n);
        assert_memory_equal(jobs[i].ids.id, jobs[0].ids.id, jobs[0].ids.n * sizeof(int32_t));
    }
    for (size_t i = 0; i < N_THREADS; i++) ids_deinit(&jobs[i].ids);
    buf_deinit(&b);
    tokenizer_close(t);
}

/* ---- pre-tokenizer names ---------------------------------------------------------------------- */

static void test_names(void **state) {
    (void)state;
    static const struct { const char *name, *text, *ids; } cases[] = {
        { "gpt-2", "a ab12", "97 32 256 49 50" }, { "smollm", "ab ab", "256 32 256" }, { "default", "ab", "256" },
            { NULL, "ab.ab", "256 46 256" },
        { "deepseek-llm", "ab ab", "256 32 256" }, { "tekken", "abAB", "256 65 66" }, { "tekken", "ab", "256" },
            { "kimi-k2", "abab", "258" },
    };
    static bytelevel_store store;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tokenizer_vocab v = bytelevel(&store);
        v.pre = cases[i].name;
        ern_tokenizer *t = open_vocab(&v);
        check(t, cases[i].text, 0, cases[i].ids);
        assert_string_equal(tokenizer_vocab_of(t)->pre, cases[i].name ? cases[i].name : "default");
        tokenizer_close(t);
    }
    tokenizer_vocab v = bytelevel(&store);
    v.pre = "llama-bpe";                                            /* looks a word up before it merges */
    ern_tokenizer *t = open_vocab(&v);
    check(t, "abab <|end|>", TOKENIZER_SPECIALS, "258 32 259");
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels), cmocka_unit_test(test_refusals), cmocka_unit_test(test_bad_text),
            cmocka_unit_test(test_unknown_and_cache),
        cmocka_unit_test(test_long_words), cmocka_unit_test(test_threads), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
