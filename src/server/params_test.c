#include "base/test.h"

#include <string.h>

#include "server/params.h"

struct wishes { param_flag streams, usage; param_int n; param_real x; const char *text, *choice; const json_t *list, *either; };

#define AT(member) offsetof(struct wishes, member)
static const param_spec inner_specs[] = { { "include_usage", PARAM_FLAG, .offset = AT(usage) } };
static const param_table inner = { inner_specs, 1, NULL };
static const param_spec base_specs[] = {
    { "stream", PARAM_FLAG, .offset = AT(streams) },
    { "stream_options", PARAM_OBJECT, .of = &inner },
};
static const param_table base = { base_specs, 2, NULL };
static const param_spec specs[] = {
    { "n", PARAM_INT, .low = 1, .high = 4, .offset = AT(n) },
    { "x", PARAM_REAL, .low = 0, .high = 2, .offset = AT(x) },
    { "text", PARAM_STRING, .low = 1, .high = 5, .offset = AT(text) },
    { "choice", PARAM_STRING, .choices = "red|green", .offset = AT(choice) },
    { "list", PARAM_ARRAY, .low = 0, .high = 2, .offset = AT(list) },
    { "either", PARAM_STRING | PARAM_ARRAY, .offset = AT(either) },
    { "store", PARAM_FLAG, .only = "false", .why = "nothing is stored" },
    { "old", PARAM_REFUSED, .why = "it is gone" },
};
static const param_table table = { specs, PARAM_COUNT(specs), &base };
#undef AT

static bool read(const char *text, struct wishes *w, char *name, ern_err *e) {
    json_t *body = json_loads(text, 0, NULL);
    assert_non_null(body);
    memset(w, 0, sizeof *w);
    *e = (ern_err){ 0 };
    const bool ok = params_read(&table, body, w, name, e);
    if (w->text) assert_true(strlen(w->text) <= 5);
    json_decref(body);
    return ok;
}

static void test_accepted(void **state) {
    struct wishes w;
    char name[PARAM_NAME_BYTES];
    ern_err e;
    (void)state;
    assert_true(read("{}", &w, name, &e));
    assert_false(w.n.is_given);
    assert_true(read("{\"n\": 3, \"x\": 1, \"stream\": true, \"stream_options\": {\"include_usage\": true}, \"store\": false, "
                     "\"text\": null, \"old\": null, \"list\": [1, 2], \"either\": \"a\", \"choice\": \"green\"}", &w, name, &e));
    assert_int_equal(w.n.v, 3);
    assert_true(w.x.is_given && w.x.v == 1.0);
    assert_true(w.streams.v && w.usage.v && w.usage.is_given);
    assert_null(w.text);
    assert_non_null(w.list);
    assert_true(read("{\"n\": 2.0}", &w, name, &e));
    assert_int_equal(w.n.v, 2);
}

static void test_refused(void **state) {
    static const struct { const char *body, *name, *text; } cases[] = {
        { "{\"foo\": 1}", "foo", "no such parameter" }, { "{\"n\": 0}", "n", "1 to 4" }, { "{\"n\": 1.5}", "n", "whole number" },
        { "{\"n\": \"1\"}", "n", "a string" }, { "{\"n\": true}", "n", "a boolean" }, { "{\"x\": 2.01}", "x", "0 to 2" },
        { "{\"text\": \"\"}", "text", "1 to 5" }, { "{\"text\": \"abcdef\"}", "text", "1 to 5" },
        { "{\"choice\": \"blue\"}", "choice", "red|green" }, { "{\"choice\": \"re\"}", "choice", "red|green" },
        { "{\"list\": [1, 2, 3]}", "list", "0 to 2" }, { "{\"either\": {}}", "either", "a string, or an array" },
        { "{\"store\": true}", "store", "nothing is stored" }, { "{\"old\": 1}", "old", "it is gone" },
        { "{\"stream_options\": {\"x\": 1}}", "stream_options.x", "no such parameter" },
        { "{\"stream_options\": {\"include_usage\": 1}}", "stream_options.include_usage", "true or false" },
        { "{\"stream_options\": []}", "stream_options", "an object" },
    };
    (void)state;
    for (size_t i = 0; i < PARAM_COUNT(cases); i++) {
        struct wishes w;
        char name[PARAM_NAME_BYTES];
        ern_err e;
        assert_false(read(cases[i].body, &w, name, &e));
        assert_int_equal(e.code, ERN_ARG);
        assert_string_equal(name, cases[i].name);
        if (!strstr(e.text, cases[i].text)) fail_msg("%s: %s", cases[i].body, e.text);
    }
}

static void test_schema(void **state) {
    (void)state;
    json_t *s = params_schema(&table);
    const json_t *properties = json_object_get(s, "properties");
    assert_int_equal(json_object_size(properties), 10);
    assert_true(json_is_false(json_object_get(s, "additionalProperties")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(properties, "n"), "maximum")), 4);
    assert_int_equal(json_array_size(json_object_get(json_object_get(properties, "choice"), "enum")), 3);
    assert_non_null(json_object_get(json_object_get(properties, "stream_options"), "properties"));
    json_decref(s);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused), cmocka_unit_test(test_schema) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
