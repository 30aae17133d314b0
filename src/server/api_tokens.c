/* POST /tokenize, /detokenize and /apply-template. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "server/api_openai.h"
#include "server/api_sampling.h"

struct wishes {
    const char *model, *prompt, *content, *chat_template;
    const json_t *messages, *tools, *tokens, *template_vars;
    param_flag adds, parses, with_pieces, shows;
};

#define AT(member) offsetof(struct wishes, member)
static const param_spec tokenize_specs[] = {
    { "model", PARAM_STRING, .offset = AT(model) },
    { "prompt", PARAM_STRING, .offset = AT(prompt), .help = "a text (or content)" },
    { "content", PARAM_STRING, .offset = AT(content) },
    { "messages", PARAM_ARRAY, .low = 1, .high = 100000, .offset = AT(messages), .items = PARAM_OBJECT,
      .help = "a conversation instead: its prompt" },
    { "tools", PARAM_ARRAY, .low = 0, .high = 512, .offset = AT(tools), .items = PARAM_OBJECT },
    { "chat_template_kwargs", PARAM_OBJECT, .offset = AT(template_vars) },
    { "add_special_tokens", PARAM_FLAG, .offset = AT(adds), .help = "those that begin and end a text; true otherwise" },
    { "parse_special", PARAM_FLAG, .offset = AT(parses),
      .help = "special tokens written in the text are tokens; true otherwise" },
    { "with_pieces", PARAM_FLAG, .offset = AT(with_pieces), .help = "[{\"id\", \"piece\"}] too" },
};
const param_table api_tokenize_table = { tokenize_specs, PARAM_COUNT(tokenize_specs), NULL };

static const param_spec detokenize_specs[] = {
    { "model", PARAM_STRING, .offset = AT(model) },
    { "tokens", PARAM_ARRAY, .low = 0, .high = 1e7, .offset = AT(tokens), .items = PARAM_INT, .is_required = true },
    { "with_special", PARAM_FLAG, .offset = AT(shows), .help = "special tokens appear in the text; true otherwise" },
};
const param_table api_detokenize_table = { detokenize_specs, PARAM_COUNT(detokenize_specs), NULL };

static const param_spec template_specs[] = {
    { "model", PARAM_STRING, .offset = AT(model) },
    { "messages", PARAM_ARRAY, .low = 1, .high = 100000, .offset = AT(messages),
      .items = PARAM_OBJECT, .is_required = true },
    { "tools", PARAM_ARRAY, .low = 0, .high = 512, .offset = AT(tools), .items = PARAM_OBJECT },
    { "chat_template", PARAM_STRING, .offset = AT(chat_template) },
    { "chat_template_kwargs", PARAM_OBJECT, .offset = AT(template_vars) },
};
const param_table api_template_table = { template_specs, PARAM_COUNT(template_specs), NULL };
#undef AT

/* The body read and the model taken; false: refused already. */
static bool begin(ern_server *s, http_request *r, const param_table *t, struct wishes *w, server_model **m) {
    api_error why = { 0 };
    const json_t *body = http_json(r, &why.e);
    if (body && params_read(t, body, w, why.param, &why.e) && (*m = models_take(api_models(s), w->model, &why.e))) {
        if ((*m)->eng->tokenizer) return true;
        ern_fail(&why.e, ERN_MISSING, "model %s has no tokenizer", (*m)->name);
        models_give(api_models(s), *m);
    }
    api_refuse(r, &why);
    return false;
}

static json_t *pieces_json(const server_model *m, const ern_tokens *t) {
    json_t *list = json_array();
    for (size_t i = 0; i < t->n; i++) {
        char *text = ern_detokenize(m->eng, &t->id[i], 1, true, NULL);
        json_array_append_new(list, json_pack("{s:i, s:s}", "id", (int)t->id[i], "piece", text ? text : ""));
        free(text);
    }
    return list;
}

static bool prompt_ids(const server_model *m, const struct wishes *w, ern_tokens *out, api_error *why) {
    const char *text = w->prompt ? w->prompt : w->content;
    const bool parses = !w->parses.is_given || w->parses.v, adds = !w->adds.is_given || w->adds.v;
    if ((text != NULL) == (w->messages != NULL)) return api_fail(why, "prompt", "either a prompt or messages wanted");
    if (text) return engine_encode(m->eng, text, strlen(text), (adds ? TOKENIZER_ADD : 0u) | (parses ? TOKENIZER_SPECIALS : 0u),
                                   out, &why->e);
    job_params p;
    job_defaults(&p, (server_model *)(uintptr_t)m);
    p.messages = w->messages;
    p.tools = w->tools;
    p.template_vars = w->template_vars;
    return job_prompt(&p, out, NULL, &why->e);
}

static void tokenize(void *ctx, http_request *r) {
    ern_server *s = ctx;
    struct wishes w = { 0 };
    api_error why = { 0 };
    ern_tokens t = { 0 };
    server_model *m;
    if (!begin(s, r, &api_tokenize_table, &w, &m)) return;
    if (prompt_ids(m, &w, &t, &why)) {
        json_t *o = json_pack("{s:o, s:I, s:I}", "tokens", api_ids_json(t.id, t.n), "count", (json_int_t)t.n, "max_model_len",
                              (json_int_t)(m->scheduler ? scheduler_n_ctx(m->scheduler) : ern_engine_max_context(m->eng)));
        if (w.with_pieces.v) json_object_set_new(o, "pieces", pieces_json(m, &t));
        http_reply_json(r, 200, o);
    } else api_refuse(r, &why);
    ern_tokens_free(&t);
    models_give(api_models(s), m);
}

static void detokenize(void *ctx, http_request *r) {
    ern_server *s = ctx;
    struct wishes w = { 0 };
    api_error why = { 0 };
    int32_t *ids = NULL;
    size_t n = 0;
    char *text = NULL;
    server_model *m;
    if (!begin(s, r, &api_detokenize_table, &w, &m)) return;
    if (api_read_ids(w.tokens, ern_engine_n_vocab(m->eng), &ids, &n, "tokens", &why))
        text = ern_detokenize(m->eng, ids, n, !w.shows.is_given || w.shows.v, &why.e);
    if (text) http_reply_json(r, 200, json_pack("{s:s, s:s}", "prompt", text, "content", text));
    else api_refuse(r, &why);
    free(text);
    free(ids);
    models_give(api_models(s), m);
}

static void apply_template(void *ctx, http_request *r) {
    ern_server *s = ctx;
    struct wishes w = { 0 };
    api_error why = { 0 };
    job_params p;
    server_model *m;
    if (!begin(s, r, &api_template_table, &w, &m)) return;
    job_defaults(&p, m);
    p.messages = w.messages;
    p.tools = w.tools;
    p.template_vars = w.template_vars;
    p.chat_template = w.chat_template;
    char *text = job_render(&p, &why.e);
    if (text) http_reply_json(r, 200, json_pack("{s:s}", "prompt", text));
    else api_refuse(r, &why);
    free(text);
    models_give(api_models(s), m);
}

const http_route api_tokens_routes[] = {
    { "POST", "/tokenize", tokenize, "tokenize", false },
    { "POST", "/detokenize", detokenize, "tokenize", false },
    { "POST", "/apply-template", apply_template, "tokenize", false },
    { 0 },
};
