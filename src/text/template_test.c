/* template.h against what the official environment rendered (files of cases), its limits, and the built-in templates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "reference.h"
#include "text/template.h"

/* ---- files of cases --------------------------------------------------------------------------- */

/* Does result hold what the case expects? "line" is compared where the case has one. */
static bool case_holds(const json_t *line, const json_t *result) {
    static const char *const keys[] = { "rendered", "error", "spans", "line" };
    for (size_t i = 0; i < 4; i++) {
        const json_t *wanted = json_object_get(line, keys[i]);
        if (wanted && !json_equal(wanted, json_object_get(result, keys[i]))) return false;
    }
    return true;
}

static void run_file(FILE *f, const char *name, size_t at_least) {
    char *text = NULL;
    size_t cap = 0, n = 0, n_bad = 0;
    for (ssize_t length; (length = getline(&text, &cap, f)) > 0; n++) {
        json_error_t je;
        ern_err e = { 0 };
        json_t *line = json_loadb(text, (size_t)length, JSON_ALLOW_NUL, &je), *result = NULL;
        if (!line) fail_msg("%s line %zu: %s", name, n + 1, je.text);
        if (!template_render_case(line, NULL, &result, &e)) fail_msg("%s line %zu: %s", name, n + 1, e.text);
        if (!case_holds(line, result) && n_bad++ < 5) {
            char *got = json_dumps(result, JSON_ENCODE_ANY);
            print_error("%s line %zu %s\n  got %s\n", name, n + 1, text, got);
            free(got);
        }
        json_decref(result);
        json_decref(line);
    }
    free(text);
    fclose(f);
    print_message("%s: %zu cases, %zu differ\n", name, n, n_bad);
    assert_int_equal(n_bad, 0);
    assert_true(n >= at_least);
}

static void reference_file(const char *name, size_t at_least) {
    char path[REFERENCE_PATH];
    FILE *f = reference_find(path, name) ? fopen(path, "r") : NULL;
    if (!f) {
        print_message("SKIP: %s is not here (set ERN_REFERENCE)\n", name);
        skip();
    }
    run_file(f, name, at_least);
}

static void test_templates(void **state) { (void)state; reference_file("templates/cases.jsonl", 400); }
static void test_chat_templates(void **state) { (void)state; reference_file("chat_templates/cases.jsonl", 126); }
static void test_ernie_template(void **state) { (void)state; reference_file("ernie-0.3b-files/template_cases.jsonl", 40); }

/* The built-in templates give what the reference forms of ERNIE give. */
static void test_families(void **state) {
    (void)state;
    static const struct { const char *form, *family; } forms[] = { { "ernie/", "ernie" }, { "vision/", "ernie-vl" },
                                                                  { "thinking_chatml/", "ernie-thinking" } };
    char path[REFERENCE_PATH], *text = NULL;
    FILE *f = reference_find(path, "chat_templates/cases.jsonl") ? fopen(path, "r") : NULL;
    if (!f) {
        print_message("SKIP: chat_templates/cases.jsonl is not here (set ERN_REFERENCE)\n");
        skip();
    }
    size_t cap = 0, n = 0;
    for (ssize_t length; (length = getline(&text, &cap, f)) > 0;) {
        json_t *line = json_loadb(text, (size_t)length, 0, NULL), *result = NULL;
        const char *name = json_string_value(json_object_get(line, "name"));
        for (size_t i = 0; i < 3; i++) {
            if (strncmp(name, forms[i].form, strlen(forms[i].form)) != 0) continue;
            json_object_set_new(line, "template", json_string(template_builtin(forms[i].family)));
            assert_true(template_render_case(line, NULL, &result, NULL));
            if (!case_holds(line, result)) fail_msg("%s: %s", name, json_string_value(json_object_get(result, "rendered")));
            json_decref(result);
            n++;
        }
        json_decref(line);
    }
    free(text);
    fclose(f);
    assert_true(n >= 30);
}

static void test_jinja(void **state) {
    (void)state;
    FILE *f = fopen("tests/data/jinja_cases.jsonl", "r");
    assert_non_null(f);
    run_file(f, "tests/data/jinja_cases.jsonl", 300);
}

/* ---- small helpers ---------------------------------------------------------------------------- */

static bool render(const char *source, const char *vars, const template_options *o, ern_buf *out, ern_err *e) {
    json_error_t je;
    json_t *v = json_loads(vars, 0, &je);
    assert_non_null(v);
    ern_template *t = template_parse(source, strlen(source), e);
    const bool ok = t && template_render(t, v, o, out, e);
    template_free(t);
    json_decref(v);
    return ok;
}

static void expect(const char *source, const char *vars, const char *wanted) {
    ern_buf out = { 0 };
    ern_err e = { 0 };
    if (!render(source, vars, NULL, &out, &e)) fail_msg("%s: %s", source, e.text);
    assert_string_equal(out.data ? out.data : "", wanted);
    buf_deinit(&out);
}

static void expect_error(const char *source, const template_options *o, enum ern_code code, int line, int column,
    const char *part) {
    ern_buf out = { 0 };
    ern_err e = { 0 };
    if (render(source, "{}", o, &out, &e)) fail_msg("%.60s: no error", source);
    if (e.code != code || !strstr(e.text, part)) fail_msg("%.60s: code %d, %s", source, (int)e.code, e.text);
    if (line) assert_int_equal(e.line, line);
    if (column) assert_int_equal(e.column, column);
    assert_true(out.len == 0);
    buf_deinit(&out);
}

/* ---- errors and limits ------------------------------------------------------------------------ */

static void test_places(void **state) {
    (void)state;
    expect_error("a\n{% if x %}", NULL, ERN_TEMPLATE, 2, 0, "TemplateSyntaxError");
    expect_error("a\nbc {{ é.b.c }}", NULL, ERN_TEMPLATE, 2, 8, "UndefinedError: 'é' is undefined");
    expect_error("\n\n  {{ 1 + 'x' }}", NULL, ERN_TEMPLATE, 3, 8, "TypeError");
    expect_error("{{ 1 | nosuch }}", NULL, ERN_TEMPLATE, 1, 8, "TemplateAssertionError: No filter named 'nosuch'");
    expect_error("{{ raise_exception('told: ' ~ 1) }}", NULL, ERN_TEMPLATE, 1, 19, "told: 1");
    expect_error("{{ 'a\xff' }}", NULL, ERN_FORMAT, 0, 0, "byte 5");
    expect_error("{{ [].append(1) }}", NULL, ERN_TEMPLATE, 1, 0, "SecurityError");
    expect_error("{{ ''.__class__.__mro__ }}", NULL, ERN_TEMPLATE, 1, 0, "SecurityError");
}

static void test_limits(void **state) {
    (void)state;
    const template_options few = { .max_steps = 100000, .max_bytes = 100000, .max_memory = 8 << 20 };
    static const char *const endless[] = {
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ [0] * 10 ** 9 }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=2) %}{% for i in range(60) %}{% set ns.s = ns.s * ns.s %}{% endfor %}{{ ns.s }}",
        "{% for i in range(100000) %}0123456789{% endfor %}",
        "{{ '%99999999s' % 1 }}",
        "{{ 'a' | center(10 ** 12) }}",
        "{{ ('a' * 50000).replace('', 'b' * 50000) }}",
        "{% set ns = namespace(a=1) %}{% set ns.me = ns %}{{ 3 ** 100000 }}",
        "{{ ('a ' * 40000) | map('upper') | map('center', 60000) | list | length }}",
    };
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) expect_error(endless[i], &few, ERN_LIMIT, 1, 0, "");
    expect_error("{{ range(10 ** 12) }}", NULL, ERN_TEMPLATE, 1, 0, "OverflowError: Range too big");
    expect_error("{% macro f(x) %}{{ f(x + 1) }}{% endmacro %}{{ f(0) }}", NULL, ERN_TEMPLATE, 1, 0, "RecursionError");
    expect_error("{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}", NULL, ERN_TEMPLATE, 1, 0, "RecursionError");
    expect_error("{% set n = namespace(a=1) %}{% set n.a = n %}{{ n }}", NULL, ERN_TEMPLATE, 1, 0, "RecursionError");
    expect_error("{% set n = namespace(a=1) %}{% set n.a = [n] %}{{ n.a == [n.a] }}{{ n }}", NULL, ERN_TEMPLATE, 1, 0,
        "RecursionError");
}

/* n times open, then close: deep nesting is an error or works, but never a crash. */
static void nest(const char *open, const char *middle, const char *close, size_t n) {
    ern_buf b = { 0 }, out = { 0 };
    ern_err e = { 0 };
    for (size_t i = 0; i < n; i++) assert_true(buf_str(&b, open, &e));
    assert_true(buf_str(&b, middle, &e));
    for (size_t i = 0; i < n; i++) assert_true(buf_str(&b, close, &e));
    ern_buf whole = { 0 };
    assert_true(buf_str(&whole, open[0] == '{' ? "" : "{{ ", &e) && buf_str(&whole, b.data, &e) &&
        buf_str(&whole, open[0] == '{' ? "" : " }}", &e));
    assert_false(render(whole.data, "{}", NULL, &out, &e));
    assert_true(e.code == ERN_LIMIT || e.code == ERN_TEMPLATE);
    buf_deinit(&b);
    buf_deinit(&out);
    buf_deinit(&whole);
}

static void test_nesting(void **state) {
    (void)state;
    nest("(", "1", ")", 100000);
    nest("[", "1", "]", 100000);
    nest("-", "1", "", 100000);
    nest("not ", "1", "", 100000);
    nest("1+", "x.y", "", 100000);
    nest("1 if 1 else ", "x.y", "", 100000);
    nest("x", "", "|trim|upper", 100000);
    nest("a", "", ".b[0]", 100000);
    nest("{% if 1 %}", "x", "{% endif %}", 100000);
    nest("{% for a in [1] %}", "x", "{% endfor %}", 100000);
}

static void test_options(void **state) {
    (void)state;
    ern_buf out = { 0 };
    ern_err e = { 0 };
    template_spans spans = { 0 };
    const template_options o = { .spans = &spans };
    assert_true(buf_str(&out, "é", &e));
    assert_true(render("né{% generation %}ü{{ 1 }}{% endgeneration %}.{% generation %}{% endgeneration %}", "{}", &o,
        &out, &e));
    assert_string_equal(out.data, "énéü1.");
    assert_int_equal(spans.n, 2);
    assert_int_equal(spans.span[0].from_byte, 3);
    assert_int_equal(spans.span[0].to_byte, 6);
    assert_int_equal(spans.span[0].from_char, 2);
    assert_int_equal(spans.span[0].to_char, 4);
    assert_int_equal(spans.span[1].from_char, 5);
    assert_int_equal(spans.span[1].to_char, 5);
    assert_false(render("more {% generation %}x{% endgeneration %}{{ a.b }}", "{}", &o, &out, &e));
    assert_string_equal(out.data, "énéü1.");                  /* nothing of a failed rendering stays */
    assert_int_equal(spans.n, 2);
    template_spans_deinit(&spans);
    buf_deinit(&out);
}

static void test_names(void **state) {
    (void)state;
    expect("{{ messages | length }}{{ range }}", "{\"messages\": [1], \"range\": 5}", "15");
    expect("{{ a }}{{ b }}{{ c }}", "{\"a\": 9007199254740993, \"b\": 1e100, \"c\": 0.1}", "90071992547409931e+1000.1");
    expect("{{ 2 ** 200 }} {{ -(2 ** 70) // 7 }} {{ -(2 ** 70) % 7 }}", "{}",
           "1606938044258990275541962092341162602522202993782792835301376 -168655945816773043347 5");
}

/* ---- built-in templates ------------------------------------------------------------------------ */

static void builtin(const char *family, const char *vars, const char *wanted) {
    expect(template_builtin(family), vars, wanted);
}

#define TALK "\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"Hi\"}, " \
             "{\"role\": \"assistant\", \"content\": \"Yo\", \"reasoning_content\": \"hm\"}, " \
             "{\"role\": \"user\", \"content\": \"你\"}]"
#define PICTURES "\"messages\": [{\"role\": \"user\", \"content\": [" \
                 "{\"type\": \"text\", \"text\": \"Q\"}, {\"type\": \"image\"}, " \
                 "{\"type\": \"video\"}, {\"type\": \"image_url\"}]}]"
#define TOOL "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"城 <\"}}]"
#define CALLED "\"messages\": [{\"role\": \"user\", \"content\": \"w?\"}, " \
               "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": " \
               "[{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1}}}]}, {\"role\": \"tool\", \"content\": \"ok\"}]"

static void test_builtin(void **state) {
    (void)state;
    assert_null(template_builtin("other"));
    builtin("ernie", "{" TALK "}", "<|begin_of_sentence|>S\nUser: Hi\nAssistant: Yo<|end_of_sentence|>User: 你\nAssistant: ");
    builtin("ernie", "{" TALK ", \"add_generation_prompt\": false}",
            "<|begin_of_sentence|>S\nUser: Hi\nAssistant: Yo<|end_of_sentence|>User: 你\n");
    builtin("ernie-vl", "{" PICTURES ", \"enable_thinking\": true}",
            "<|begin_of_sentence|>User: QPicture 1:<|IMAGE_START|><|image@placeholder|><|IMAGE_END|>"
            "Video 1:<|VIDEO_START|><|video@placeholder|><|VIDEO_END|>"
            "Picture 2:<|IMAGE_START|><|image@placeholder|><|IMAGE_END|>\nAssistant: <think>");
    builtin("ernie-vl", "{" TALK "}",
        "<|begin_of_sentence|>S\nUser: Hi\nAssistant: <think>\nhm\n</think>\nYo<|end_of_sentence|>"
            "User: 你\nAssistant: <think>\n\n</think>\n\n");
    builtin("ernie-vl-thinking", "{" PICTURES "}",
            "<|begin_of_sentence|>You are a multimodal AI assistant called ERNIE developed by Baidu based on the "
            "PaddlePaddle framework.\nUser: QPicture 1:<|IMAGE_START|><|image@placeholder|><|IMAGE_END|>"
            "Video 1:<|VIDEO_START|><|video@placeholder|><|VIDEO_END|>"
            "Picture 2:<|IMAGE_START|><|image@placeholder|><|IMAGE_END|>\nAssistant: \n<think>\n");
    builtin("ernie-thinking", "{" TALK ", " TOOL "}",
            "<|im_start|>system\n<system_setting>\nS\n</system_setting>\n\n<global_setting>\n"
            "think_mode=True\n</global_setting>\n<tool_list>\n[{\"type\": \"function\", \"function\": "
            "{\"name\": \"f\", \"description\": \"城 <\"}}]\n</tool_list>\n<|im_end|>\n\n"
            "<|im_start|>user\nHi<|im_end|>\n\n<|im_start|>assistant\n<think>\nhm\n</think>\n<response>\nYo\n"
            "</response>\n<|im_end|>\n\n<|im_start|>user\n你<|im_end|>\n\n<|im_start|>assistant\n<think>\n");
    builtin("ernie-thinking", "{" CALLED ", \"add_generation_prompt\": false}",
            "<|im_start|>system\n<global_setting>\nthink_mode=True\n</global_setting><|im_end|>\n\n<|im_start|>"
            "user\nw?<|im_end|>\n\n<|im_start|>assistant\n\n<tool_call>\n"
            "{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<|im_end|>\n\n"
            "<|im_start|>user\n<tool_response>\nok\n</tool_response><|im_end|>\n\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates), cmocka_unit_test(test_chat_templates), cmocka_unit_test(test_ernie_template),
        cmocka_unit_test(test_families), cmocka_unit_test(test_jinja), cmocka_unit_test(test_places),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_options), cmocka_unit_test(test_names), cmocka_unit_test(test_builtin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
