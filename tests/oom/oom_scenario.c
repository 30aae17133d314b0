/* A user's way through the public header, once for each kind of model; built where allocations can fail (the oom build), and
 * there nothing may crash or leak, and every failure must carry an error. Exit status 0 also when calls failed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ern.h"
#include "text/template.h"
#include "text/tokenizer.h"
#include "../reference.h"

static int n_silent;        /* failures that said nothing */

static bool told(bool ok, const ern_err *e, const char *what) {
    if (!ok && (e->code == ERN_OK || !e->text[0])) {
        fprintf(stderr, "%s failed without an error\n", what);
        n_silent++;
    }
    return ok;
}

static bool count_tokens(void *ctx, const ern_token_event *ev) {
    size_t *n = ctx;
    *n += ev->n_bytes + 1;
    return true;
}

static void run_session(ern_engine *eng, ern_session *s, const char *save_path) {
    static const int32_t ids[] = { 3, 17, 40, 8, 21 };
    ern_err e = { 0 };
    ern_sampling o;
    size_t n = 0;
    ern_sampling_defaults(eng, &o);
    o.temperature = 0.7f;
    o.top_k = 5;
    o.n_logprobs = 2;
    o.max_tokens = 4;
    o.ignores_end = true;
    if (!told(ern_session_sync(s, ids, 5, NULL, NULL, &e), &e, "sync")) return;
    told(ern_session_generate(s, &o, count_tokens, &n, NULL, &e), &e, "generate");
    told(ern_session_score(s, ids, 5, 2, count_tokens, &n, &e), &e, "score");
    if (told(ern_session_save(s, save_path, &e), &e, "save")) told(ern_session_load(s, save_path, &e), &e, "load");
    told(ern_session_truncate(s, 2, &e), &e, "truncate");
    remove(save_path);
}

static void run_model(const char *name) {
    char path[REFERENCE_PATH], save_path[64];
    ern_err e = { 0 };
    ern_engine_options eo;
    ern_session_options so;
    if (!reference_find(path, name)) return;
    snprintf(save_path, sizeof save_path, "/tmp/ern-oom-%ld", (long)getpid());
    ern_engine_defaults(&eo);
    ern_session_defaults(&so);
    eo.n_threads = 2;
    eo.max_batch = 4;
    so.n_ctx = 64;
    ern_engine *eng = ern_engine_open(path, &eo, &e);
    if (!told(eng != NULL, &e, "engine_open")) return;
    ern_tokens used = { 0 };
    float *vector = malloc(ern_engine_n_embed(eng) * sizeof *vector);
    if (vector) told(ern_embed(eng, "<1><2>", 6, &used, vector, &e), &e, "embed");
    ern_tokens_free(&used);
    free(vector);
    ern_session *s = ern_session_open(eng, &so, &e), *copy = NULL;
    if (told(s != NULL, &e, "session_open")) {
        run_session(eng, s, save_path);
        copy = ern_session_open(eng, &so, &e);
        if (told(copy != NULL, &e, "session_open")) told(ern_session_copy(copy, s, &e), &e, "copy");
    }
    ern_session_close(copy);
    ern_session_close(s);
    ern_engine_close(eng);
}

static void run_tokenizer(const char *name) {
    static const char text[] = "Hello, world 123 \xe4\xb8\x96\xe7\x95\x8c";
    char path[REFERENCE_PATH];
    ern_err e = { 0 };
    ern_ids ids = { 0 };
    ern_buf out = { .max = 1 << 16 };
    if (!reference_find(path, name)) return;
    ern_tokenizer *t = tokenizer_open(path, &e);
    if (told(t != NULL, &e, "tokenizer_open") &&
        told(tokenizer_encode(t, text, sizeof text - 1, TOKENIZER_SPECIALS | TOKENIZER_ADD, &ids, &e), &e, "encode"))
        told(tokenizer_decode(t, ids.id, ids.n, true, &out, &e), &e, "decode");
    ids_deinit(&ids);
    buf_deinit(&out);
    tokenizer_close(t);
}

static void run_template(void) {
    static const char source[] = "{% for m in messages %}{{ m['role'] | upper }}: {{ m.content | trim }}"
                                 "{% if not loop.last %}, {% endif %}{% endfor %}{% set ns = namespace(n=0) %}"
                                 "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f([1, 'a'] | tojson) }}";
    ern_err e = { 0 };
    ern_buf out = { .max = 1 << 16 };
    json_t *vars = json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "messages", "role", "user", "content", " a ", "role",
        "assistant", "content", "b");
    if (!vars) return;
    ern_template *t = template_parse(source, sizeof source - 1, &e);
    if (told(t != NULL, &e, "template_parse")) told(template_render(t, vars, NULL, &out, &e), &e, "template_render");
    template_free(t);
    buf_deinit(&out);
    json_decref(vars);
}

int main(void) {
    static const char *const models[] = { "dense", "moe.Q4_0.gguf", "moe_paddle", "llama.Q8_0.gguf" };
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) run_model(models[i]);
    run_tokenizer("tokenizer/spm");
    run_tokenizer("tokenizer/bytelevel/tokenizer.json");
    run_tokenizer("tokenizer/wordpiece");
    run_template();
    return n_silent > 0 ? 99 : 0;
}
