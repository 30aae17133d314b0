#include "base/test.h"

#include <string.h>

#include "server/keys.h"

#define TEXT "{\"keys\": [{\"name\": \"ann\", \"key\": \"sk-ann-secret\", \"requests_per_minute\": 2, \"tokens_per_day\": 100}," \
             "{\"name\": \"bob\", \"sha256\": \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\", " \
             "\"scopes\": [\"chat\"], \"tenant\": \"team\", \"priority\": 3}]}"         /* the key "secret" */

static server_keys *open_keys(void) {
    ern_err e = { 0 };
    server_keys *k = keys_parse(TEXT, strlen(TEXT), &e);
    if (!k) fail_msg("%s", e.text);
    return k;
}

static void test_find(void **state) {
    (void)state;
    ern_err e = { 0 };
    server_keys *k = open_keys();
    assert_string_equal(keys_name(keys_find(k, "sk-ann-secret", &e)), "ann");
    const server_key *bob = keys_find(k, "secret", &e);
    assert_string_equal(keys_tenant(bob), "team");
    assert_int_equal(keys_priority(bob), 3);
    static const char *const wrong[] = { NULL, "", "sk-ann-secre", "sk-ann-secret ", "SECRET" };
    for (size_t i = 0; i < 5; i++) {
        assert_null(keys_find(k, wrong[i], &e));
        assert_int_equal(e.code, ERN_AUTH);
    }
    keys_close(k);
}

static void test_scopes_and_rates(void **state) {
    (void)state;
    ern_err e = { 0 };
    unsigned wait = 0;
    server_keys *k = open_keys();
    server_key *ann = keys_find(k, "sk-ann-secret", &e), *bob = keys_find(k, "secret", &e);
    assert_true(keys_admit(k, bob, "chat", 1000, &wait, &e));
    assert_false(keys_admit(k, bob, "embeddings", 1000, &wait, &e));
    assert_int_equal(e.code, ERN_DENIED);
    assert_true(keys_admit(k, ann, "anything", 1000, &wait, &e));
    assert_true(keys_admit(k, ann, "chat", 1000, &wait, &e));
    assert_false(keys_admit(k, ann, "chat", 1001, &wait, &e));
    assert_int_equal(e.code, ERN_RATE);
    assert_in_range(wait, 29, 31);
    assert_true(keys_admit(k, ann, "chat", 1031, &wait, &e));
    keys_charge(k, ann, 100, 1031);
    assert_false(keys_admit(k, ann, "chat", 2000, &wait, &e));
    assert_in_range(wait, 85000, 86400);
    assert_true(keys_admit(k, ann, "chat", 1000 + 86400, &wait, &e));
    keys_close(k);
}

static void test_refused(void **state) {
    static const char *const texts[] = {
        "", "[]", "{\"keys\": {}}", "{\"keys\": [], \"more\": 1}", "{\"keys\": [{}]}", "{\"keys\": [{\"name\": \"a\"}]}",
        "{\"keys\": [{\"name\": \"a\", \"key\": \"short\"}]}", "{\"keys\": [{\"name\": \"a\", \"key\": \"long enough\", \"scope\": 1}]}",
        "{\"keys\": [{\"name\": \"a\", \"sha256\": \"zz\"}]}", "{\"keys\": [{\"name\": \"a\", \"key\": \"long enough\", \"scopes\": [1]}]}",
        "{\"keys\": [{\"name\": \"a\", \"key\": \"long enough\"}, {\"name\": \"b\", \"key\": \"long enough\"}]}",
        "{\"keys\": [1]}", "{\"keys\": [{\"name\": \"a\", \"key\": \"long enough\", \"requests_per_minute\": 0}]}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ern_err e = { 0 };
        server_keys *k = keys_parse(texts[i], strlen(texts[i]), &e);
        if (k) fail_msg("accepted: %s", texts[i]);
        assert_true(e.code == ERN_ARG || e.code == ERN_FORMAT);
        assert_null(strstr(e.text, "long enough"));         /* no key in a message */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_find), cmocka_unit_test(test_scopes_and_rates),
                                        cmocka_unit_test(test_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
