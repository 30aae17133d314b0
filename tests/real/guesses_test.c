/* Guesses with a real model and real text: the same ids and the same text with and without, with stop texts that fall among
 * the guesses, under a constraint, for every kind of sampling; and fewer passes where text is copied. $ERNIE_SMOLLM2 names
 * the GGUF file. */
#include "real.h"
#include "engine/speculate.h"

#define N_TOKENS 90

static const char *model;
static ern_engine *eng;

static int open_all(void **state) {
    (void)state;
    if ((model = real_model("ERNIE_SMOLLM2"))) eng = real_engine(model, false);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    ern_engine_close(eng);
    return 0;
}

typedef struct { int32_t ids[N_TOKENS]; size_t n; char text[8192]; size_t n_bytes; ern_result r; } answer;

static bool keep(void *ctx, const ern_token_event *ev) {
    answer *a = ctx;
    if (ev->id >= 0) a->ids[a->n++] = ev->id;
    memcpy(a->text + a->n_bytes, ev->text, ev->n_bytes);
    a->n_bytes += ev->n_bytes;
    return true;
}

static void write_answer(answer *a, const char *message, const ern_sampling *o) {
    ern_err e = { 0 };
    ern_tokens prompt = { 0 };
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", message);
    char *text = json_dumps(messages, 0);
    ern_session *s = real_session(eng, "f16", 1024);
    memset(a, 0, sizeof *a);
    if (!ern_chat_tokens(eng, text, true, &prompt, &e) || !ern_session_sync(s, prompt.id, prompt.n, NULL, NULL, &e) ||
        !ern_session_generate(s, o, keep, a, &a->r, &e))
        fail_msg("%s", e.text);
    ern_session_close(s);
    ern_tokens_free(&prompt);
    free(text);
    json_decref(messages);
}

static void check_same(const char *message, const ern_sampling *o, ern_draft *d) {
    static answer want, got;
    ern_sampling with = *o;
    with.draft = d;
    write_answer(&want, message, o);
    write_answer(&got, message, &with);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.ids, want.ids, want.n * sizeof *want.ids);
    assert_int_equal(got.n_bytes, want.n_bytes);
    assert_memory_equal(got.text, want.text, want.n_bytes);
    assert_int_equal(got.r.finish, want.r.finish);
    assert_int_equal(got.r.n_tokens, want.r.n_tokens);
}

static const char copy[] =
    "Repeat this code exactly, then add a comment to the function main:\n"
    "```c\n"
    "#include <stdio.h>\n"
    "#include <stdlib.h>\n"
    "\n"
    "static int add(int a, int b) { return a + b; }\n"
    "static int sub(int a, int b) { return a - b; }\n"
    "static int mul(int a, int b) { return a * b; }\n"
    "\n"
    "int main(int argc, char **argv) {\n"
    "    if (argc != 3) {\n"
    "        fprintf(stderr, \"usage: %s A B\\n\", argv[0]);\n"
    "        return 1;\n"
    "    }\n"
    "    int a = atoi(argv[1]), b = atoi(argv[2]);\n"
    "    printf(\"sum %d difference %d product %d\\n\", add(a, b), sub(a, b), mul(a, b));\n"
    "    return 0;\n"
    "}\n"
    "```\n";

static void test_same_text(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    static const char *const stop[] = { "return a -", "zzz" };
    static const struct { float temperature, top_p, repetition; size_t n_stop; bool is_json; } cases[] = {
        { 0.0f, 1.0f, 1.0f, 0, false }, { 0.0f, 1.0f, 1.2f, 0, false }, { 0.0f, 1.0f, 1.0f, 2, false },
        { 0.7f, 0.9f, 1.0f, 0, false }, { 1.0f, 1.0f, 1.1f, 1, false }, { 0.5f, 1.0f, 1.0f, 0, true },
    };
    ern_draft *drafts[] = { ern_draft_open(eng, NULL, 0, NULL), ern_draft_open(eng, eng, 0, NULL) };
    for (size_t d = 0; d < 2; d++) speculate_always(drafts[d]);
    ern_constraint *json = ern_constraint_open(eng, "json", "", 0, NULL);
    assert_non_null(json);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t d = 0; d < 2; d++) {
            ern_sampling o;
            ern_sampling_defaults(eng, &o);
            o.temperature = cases[i].temperature;
            o.top_p = cases[i].top_p;
            o.repetition_penalty = cases[i].repetition;
            o.stop = stop;
            o.n_stop = cases[i].n_stop;
            o.constraint = cases[i].is_json ? json : NULL;
            o.max_tokens = N_TOKENS;
            o.seed = i;
            check_same(cases[i].is_json ? "Write a JSON object with the name, colour and price of an apple." : copy, &o, drafts[d]);
        }
    for (size_t d = 0; d < 2; d++) {
        const ern_draft_stats st = ern_draft_stats_of(drafts[d]);
        print_message("%s: %zu tokens in %zu passes, %zu of %zu guesses right\n", d ? "model" : "lookup", st.n_tokens,
                      st.n_passes, st.n_accepted, st.n_drafted);
        ern_draft_close(drafts[d]);
    }
    ern_constraint_close(json);
}

/* Copying: most tokens are guessed. */
static void test_copying(void **state) {
    (void)state;
    REAL_NEED(model, "no SmolLM2");
    static answer a;
    ern_draft *d = ern_draft_open(eng, NULL, 0, NULL);
    ern_sampling o;
    ern_sampling_defaults(eng, &o);
    o.temperature = 0.0f;
    o.max_tokens = N_TOKENS;
    o.draft = d;
    speculate_always(d);
    write_answer(&a, copy, &o);
    const ern_draft_stats st = ern_draft_stats_of(d);
    assert_true(2 * st.n_passes < st.n_tokens);
    ern_draft_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_text), cmocka_unit_test(test_copying) };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
