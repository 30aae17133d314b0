/* POST /v1/completions: texts or ids go on. Several prompts are several jobs with one reply. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "server/api_openai.h"
#include "server/api_sampling.h"

#define FINGERPRINT "ernie-" ERN_VERSION
#define MAX_PROMPTS 256
#define MAX_LOGPROBS 5

struct wishes {
    api_sampling s;
    const json_t *prompt;
    param_flag echoes;
    param_int logprobs;
};

#define AT(member) offsetof(struct wishes, member)
static const param_spec specs[] = {
    { "prompt", PARAM_STRING | PARAM_ARRAY, .offset = AT(prompt),
      .items = PARAM_STRING | PARAM_INT | PARAM_ARRAY, .is_required = true,
      .help = "a text, texts, token ids, or arrays of them" },
    { "echo", PARAM_FLAG, .offset = AT(echoes), .help = "the prompt before each answer" },
    { "logprobs", PARAM_INT, .low = 0, .high = MAX_LOGPROBS, .offset = AT(logprobs) },
    { "suffix", PARAM_STRING, .only = "\"\"", .why = "the models here were not trained to fill in the middle" },
    { "store", PARAM_FLAG, .only = "false", .why = "completions are not stored" },
};
const param_table api_completions_table = { specs, PARAM_COUNT(specs), &api_sampling_table };
#undef AT

typedef struct {
    ern_buf text;
    json_t *tokens, *values, *top, *offsets;
    size_t n_text;                  /* characters written before, for text_offset */
    const char *finish;
} choice;

typedef struct completion completion;

typedef struct {                    /* one prompt */
    completion *c;
    size_t first;                   /* of its answers among the choices */
    char *text;                     /* of the prompt, for echo */
    json_t *ids;
    bool is_over;
} piece;

struct completion {
    ern_server *s;
    http_request *r;
    http_stream *stream;
    pthread_mutex_t lock;           /* the starting thread and the scheduler's both may end it */
    const char *model;
    char id[48];
    json_int_t created;
    size_t n_pieces, n_answers, n_open, n_prompt, n_cached, n_written;
    piece *pieces;
    choice *choices;
    bool streams, includes_usage, wants_logprobs, wants_ids, has_failed, echoes;
};

static void completion_free(void *object) {
    completion *c = object;
    for (size_t i = 0; c->choices && i < c->n_pieces * c->n_answers; i++) {
        choice *x = &c->choices[i];
        buf_deinit(&x->text);
        json_decref(x->tokens);
        json_decref(x->values);
        json_decref(x->top);
        json_decref(x->offsets);
    }
    for (size_t i = 0; c->pieces && i < c->n_pieces; i++) {
        free(c->pieces[i].text);
        json_decref(c->pieces[i].ids);
    }
    free(c->pieces);
    free(c->choices);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- logprobs, in the old form ---------------------------------------------------------------------------------------- */

static size_t n_characters(const char *s) {
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void add_logprobs(choice *x, const json_t *list) {
    size_t i, k;
    json_t *entry, *one;
    if (!x->tokens) {
        x->tokens = json_array();
        x->values = json_array();
        x->top = json_array();
        x->offsets = json_array();
    }
    json_array_foreach(list, i, entry) {
        const char *token = json_string_value(json_object_get(entry, "token"));
        json_t *top = json_object();
        json_array_foreach(json_object_get(entry, "top_logprobs"), k, one)
            json_object_set(top, json_string_value(json_object_get(one, "token")), json_object_get(one, "logprob"));
        json_array_append(x->tokens, json_object_get(entry, "token"));
        json_array_append(x->values, json_object_get(entry, "logprob"));
        json_array_append_new(x->top, top);
        json_array_append_new(x->offsets, json_integer((json_int_t)x->n_text));
        x->n_text += token ? n_characters(token) : 0;
    }
}

/* What was gathered so far, taken out of x. */
static json_t *take_logprobs(choice *x) {
    if (!x->tokens) return json_null();
    json_t *o = json_pack("{s:o, s:o, s:o, s:o}", "tokens", x->tokens, "token_logprobs", x->values, "top_logprobs", x->top,
                          "text_offset", x->offsets);
    x->tokens = x->values = x->top = x->offsets = NULL;
    return o;
}

/* ---- replies ------------------------------------------------------------------------------------------------------------ */

static json_t *head(const completion *c) {
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", c->id, "object", "text_completion", "created", c->created, "model",
                     c->model, "system_fingerprint", FINGERPRINT);
}

static json_t *choice_json(completion *c, size_t i, const char *text, size_t n, const char *finish) {
    choice *x = &c->choices[i];
    json_t *logprobs = c->wants_logprobs ? take_logprobs(x) : json_null();
    return json_pack("{s:I, s:o, s:o, s:s?}", "index", (json_int_t)i, "text", json_stringn(text, n), "logprobs", logprobs,
                     "finish_reason", finish);
}

static void chunk(completion *c, size_t i, const char *text, size_t n, const char *finish) {
    json_t *o = head(c);
    json_object_set_new(o, "choices", json_pack("[o]", choice_json(c, i, text, n, finish)));
    if (c->includes_usage) json_object_set_new(o, "usage", json_null());
    http_stream_event(c->stream, NULL, o);
}

static void finish_all(completion *c) {
    json_t *o = head(c), *list = json_array();
    if (!c->streams) {
        for (size_t i = 0; i < c->n_pieces * c->n_answers; i++) {
            choice *x = &c->choices[i];
            json_t *one = choice_json(c, i, x->text.data ? x->text.data : "", x->text.len, x->finish);
            if (c->wants_ids) json_object_set(one, "prompt_token_ids", c->pieces[i / c->n_answers].ids);
            json_array_append_new(list, one);
        }
    }
    json_object_set_new(o, "choices", list);
    json_object_set_new(o, "usage", api_usage(c->n_prompt, c->n_cached, c->n_written, 0));
    if (!c->streams) { http_reply_json(c->r, 200, o); return; }
    if (c->includes_usage) http_stream_event(c->stream, NULL, o);
    else json_decref(o);
    http_stream_write(c->stream, "data: [DONE]\n\n", 14);
    http_stream_end(c->stream);
    c->stream = NULL;
}

static void fail_all(completion *c, const ern_err *e) {
    if (c->has_failed) return;
    c->has_failed = true;
    api_fail_stream(c->r, &c->stream, e);
}

static void begin(completion *c, piece *p, const job_event *ev) {
    c->n_prompt += ev->n_prompt;
    c->n_cached += ev->n_cached;
    if (c->wants_ids) p->ids = api_ids_json(ev->ids, ev->n_ids);
    if (c->streams && !c->stream) c->stream = http_stream_open(c->r, 200, "text/event-stream; charset=utf-8");
    for (size_t k = 0; p->text && k < c->n_answers; k++) {
        choice *x = &c->choices[p->first + k];
        x->n_text += n_characters(p->text);
        if (c->streams) chunk(c, p->first + k, p->text, strlen(p->text), NULL);
        else buf_str(&x->text, p->text, NULL);
    }
}

static void on_event(void *ctx, const job_event *ev) {
    piece *p = ctx;
    completion *c = p->c;
    const size_t i = p->first + ev->index;
    pthread_mutex_lock(&c->lock);
    if (ev->kind == JOB_FAILED) fail_all(c, ev->error);
    else if (c->has_failed) { /* the reply is gone */ }
    else if (ev->kind == JOB_STARTED) begin(c, p, ev);
    else {
        if (ev->logprobs) add_logprobs(&c->choices[i], ev->logprobs);
        if (ev->kind == JOB_CONTENT && c->streams) chunk(c, i, ev->text, ev->n_bytes, NULL);
        else if (ev->kind == JOB_CONTENT) buf_add(&c->choices[i].text, ev->text, ev->n_bytes, NULL);
        if (ev->kind == JOB_DONE) {
            c->n_written += ev->n_tokens;
            c->choices[i].finish = api_finish_name(ev->finish);
            if (c->streams) chunk(c, i, "", 0, c->choices[i].finish);
        }
    }
    if (ev->is_last && --c->n_open == 0 && !c->has_failed) finish_all(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---- the request -------------------------------------------------------------------------------------------------------- */

/* How many prompts there are: an array of numbers is one. */
static bool count_prompts(const json_t *prompt, size_t *n, api_error *why) {
    *n = 1;
    if (json_is_string(prompt)) return true;
    if (json_array_size(prompt) == 0) return api_fail(why, "prompt", "at least one text or token wanted");
    if (!json_is_integer(json_array_get(prompt, 0))) *n = json_array_size(prompt);
    return *n <= MAX_PROMPTS || api_fail(why, "prompt", "%zu prompts, at most %d in a request", *n, MAX_PROMPTS);
}

static bool set_prompt(const struct wishes *w, job_params *p, piece *x, size_t i, size_t n, int32_t **ids, api_error *why) {
    const json_t *one = n > 1 || (json_is_array(w->prompt) && !json_is_integer(json_array_get(w->prompt, 0)))
                        ? json_array_get(w->prompt, i) : w->prompt;
    if (json_is_string(one)) {
        p->prompt = json_string_value(one);
        p->n_prompt_bytes = json_string_length(one);
        p->parses_special = true;
        if (w->echoes.v) x->text = mem_strndup(p->prompt, p->n_prompt_bytes, NULL);
        return true;
    }
    if (!json_is_array(one) || !json_array_size(one)) return api_fail(why, "prompt", "item %zu: a text or token ids wanted", i);
    if (!api_read_ids(one, ern_engine_n_vocab(p->model->eng), ids, &p->n_ids, "prompt", why)) return false;
    p->ids = *ids;
    p->prompt = NULL;
    if (w->echoes.v) x->text = ern_detokenize(p->model->eng, *ids, p->n_ids, true, NULL);
    return true;
}

static completion *completion_new(ern_server *s, http_request *r, const struct wishes *w, const job_params *p, size_t n,
                                  ern_err *e) {
    completion *c = mem_zalloc(1, sizeof *c, "completion", e);
    if (!c) return NULL;
    *c = (completion){ .s = s, .r = r, .model = p->model->name, .created = (json_int_t)time(NULL), .n_pieces = n,
                       .n_answers = p->n_answers, .n_open = n, .streams = w->s.streams.v, .includes_usage = w->s.include_usage.v,
                       .wants_logprobs = p->wants_logprobs, .wants_ids = p->wants_ids };
    pthread_mutex_init(&c->lock, NULL);
    api_new_id(s, "cmpl-", c->id, sizeof c->id);
    c->pieces = mem_zalloc(n, sizeof *c->pieces, "prompts", e);
    c->choices = mem_zalloc(n * p->n_answers, sizeof *c->choices, "answers", e);
    if (!c->pieces || !c->choices || !http_attach(r, c, completion_free, e)) { completion_free(c); return NULL; }
    return c;
}

/* Each prompt takes the model once more; a failure at the second one leaves the first running, its events unheard. */
static bool start_piece(ern_server *s, completion *c, const struct wishes *w, job_params *p, size_t i, api_error *why) {
    int32_t *ids = NULL;
    piece *x = &c->pieces[i];
    *x = (piece){ .c = c, .first = i * c->n_answers };
    server_model *again = models_take(api_models(s), p->model->name, &why->e);
    if (!again) return false;
    p->on_event = on_event;
    p->ctx = x;
    const bool ok = set_prompt(w, p, x, i, c->n_pieces, &ids, why) && api_start(s, c->r, p, &why->e);
    free(ids);
    if (!ok) models_give(api_models(s), again);
    return ok;
}

static bool choose(const struct wishes *w, job_params *p, api_sampling_owned *own, size_t *n, api_error *why) {
    if (w->s.include_usage.is_given && !w->s.streams.v) return api_fail(why, "stream_options", "only with stream");
    if (w->echoes.v && w->logprobs.is_given) return api_fail(why, "echo", "not beside logprobs: the prompt's own are not computed");
    if (p->truncation == TRUNCATION_AUTO) return api_fail(why, "truncation", "only conversations have turns to leave out");
    p->splits_reasoning = false;
    p->wants_logprobs = w->logprobs.is_given;
    p->sampling.n_logprobs = (size_t)w->logprobs.v;
    if (!w->s.max_tokens.is_given) p->sampling.max_tokens = 16;         /* as OpenAI's */
    return api_sampling_apply(&w->s, p, own, why) && count_prompts(w->prompt, n, why);
}

static void handle(void *ctx, http_request *r) {
    ern_server *s = ctx;
    struct wishes w = { 0 };
    api_error why = { 0 };
    api_sampling_owned own = { 0 };
    job_params p;
    size_t n = 0;
    server_model *model = NULL;
    const json_t *body = http_json(r, &why.e);
    if (!body || !params_read(&api_completions_table, body, &w, why.param, &why.e) ||
        !(model = models_take(api_models(s), w.s.model, &why.e))) { api_refuse(r, &why); return; }
    job_defaults(&p, model);
    completion *c = choose(&w, &p, &own, &n, &why) ? completion_new(s, r, &w, &p, n, &why.e) : NULL;
    if (!c) api_refuse(r, &why);
    for (size_t i = 0; c && i < n; i++) {
        if (start_piece(s, c, &w, &p, i, &why)) continue;
        pthread_mutex_lock(&c->lock);
        if (!c->has_failed && !c->stream) {
            c->has_failed = true;
            api_refuse(r, &why);
        } else fail_all(c, &why.e);
        pthread_mutex_unlock(&c->lock);
        break;
    }
    api_sampling_deinit(&own);
    models_give(api_models(s), model);
}

const http_route api_completions_routes[] = {
    { "POST", "/v1/completions", handle, "completions", false },
    { 0 },
};
