/* Ollama's /api/chat and /api/generate: a line of JSON for each piece, or one object. */
#include "server/ollama.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "server/wire.h"

#define NS_PER_S 1e9
#define MAX_LIST 100000
#define UNTIL_FULL (-2)         /* num_predict: until the context is full; -1 sets no bound either */

/* ---- parameters ------------------------------------------------------------------------------------ */

struct wishes {
    const char *model, *system, *prompt;
    const json_t *messages, *tools, *format, *stop, *keep_alive, *think;
    param_real temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    param_int top_k, seed, num_predict, num_ctx, top_logprobs;
    param_flag streams, is_raw, has_logprobs;
};

#define AT(member) .offset = offsetof(struct wishes, member)
#define AT_START "it is chosen when the server starts"

static const param_spec option_specs[] = {
    { "temperature", PARAM_REAL, 0, 10, AT(temperature), .help = "0: the likeliest token, always" },
    { "top_k", PARAM_INT, 0, 1e9, AT(top_k), .help = "0: off" },
    { "top_p", PARAM_REAL, 0, 1, AT(top_p) },
    { "min_p", PARAM_REAL, 0, 1, AT(min_p) },
    { "seed", PARAM_INT, AT(seed) },
    { "num_predict", PARAM_INT, UNTIL_FULL, 1e9, AT(num_predict),
        .help = "most tokens; -1 and -2: until the context is full" },
    { "num_ctx", PARAM_INT, 1, 1e9, AT(num_ctx), .help = "at most what the server was started with" },
    { "stop", PARAM_STRING | PARAM_ARRAY, 0, 1000, AT(stop), .items = PARAM_STRING },
    { "repeat_penalty", PARAM_REAL, 0.01, 10, AT(repeat_penalty), .help = "over the whole context" },
    { "presence_penalty", PARAM_REAL, -2, 2, AT(presence_penalty) },
    { "frequency_penalty", PARAM_REAL, -2, 2, AT(frequency_penalty) },
    { "repeat_last_n", PARAM_INT, .only = "-1", .why = "penalties look at the whole context" },
    { "num_keep", PARAM_INT, .only = "0|-1", .why = "a conversation is never cut" },
    { "penalize_newline", PARAM_FLAG, .only = "true", .why = "every token is treated alike" },
    { "typical_p", PARAM_REAL, .only = "1|1.0", .why = "there is top_p and min_p" },
    { "tfs_z", PARAM_REAL, .only = "1|1.0", .why = "there is top_p and min_p" },
    { "mirostat", PARAM_INT, .only = "0", .why = "there is top_p and min_p" },
    { "mirostat_tau", PARAM_REFUSED, .why = "there is no mirostat here" },
    { "mirostat_eta", PARAM_REFUSED, .why = "there is no mirostat here" },
    { "num_batch", PARAM_REFUSED, .why = AT_START }, { "num_thread", PARAM_REFUSED, .why = AT_START },
    { "num_gpu", PARAM_INT, .only = "0", .why = "models run on the processor" },
    { "main_gpu", PARAM_INT, .only = "0", .why = "models run on the processor" },
    { "low_vram", PARAM_FLAG, .only = "false", .why = "models run on the processor" },
    { "numa", PARAM_FLAG, .only = "false", .why = AT_START }, { "f16_kv", PARAM_FLAG, .only = "true", .why = AT_START },
    { "use_mmap", PARAM_FLAG, .only = "true", .why = "weights are always mapped" },
    { "use_mlock", PARAM_FLAG, .only = "false", .why = "weights are mapped, not locked" },
    { "logits_all", PARAM_FLAG, .only = "false", .why = "there is logprobs" },
    { "vocab_only", PARAM_FLAG, .only = "false", .why = "there is /tokenize" },
    { "embedding_only", PARAM_FLAG, .only = "false", .why = "there is /api/embed" },
};
static const param_table option_table = { option_specs, PARAM_COUNT(option_specs), NULL };

static const param_spec shared_specs[] = {
    { "model", PARAM_STRING, 1, 4096, AT(model), .is_required = true },
    { "stream", PARAM_FLAG, AT(streams), .help = "true unless said otherwise" },
    { "format", PARAM_STRING | PARAM_OBJECT, AT(format), .help = "\"json\", or a JSON Schema that the answer keeps to" },
    { "options", PARAM_OBJECT, .of = &option_table },
    { "keep_alive", PARAM_STRING | PARAM_REAL, AT(keep_alive), .help = "how long the model stays open: seconds or \"5m\"" },
    { "think", PARAM_FLAG | PARAM_STRING, AT(think), .help = "with reasoning or without" },
    { "logprobs", PARAM_FLAG, AT(has_logprobs) },
    { "top_logprobs", PARAM_INT, 0, ERN_MAX_LOGPROBS, AT(top_logprobs) },
    { "truncate", PARAM_FLAG, .only = "false", .why = "what does not fit is an error, never cut" },
    { "shift", PARAM_FLAG, .only = "false", .why = "what does not fit is an error, never cut" },
};
static const param_table shared_table = { shared_specs, PARAM_COUNT(shared_specs), NULL };

static const param_spec chat_specs[] = {
    { "messages", PARAM_ARRAY, 0, MAX_LIST, AT(messages), .items = PARAM_OBJECT, .help = "none: the model is opened" },
    { "tools", PARAM_ARRAY, 0, MAX_LIST, AT(tools), .items = PARAM_OBJECT },
};
const param_table ollama_chat_table = { chat_specs, PARAM_COUNT(chat_specs), &shared_table };

static const param_spec generate_specs[] = {
    { "prompt", PARAM_STRING, AT(prompt), .help = "none: the model is opened" },
    { "system", PARAM_STRING, AT(system) },
    { "raw", PARAM_FLAG, AT(is_raw), .help = "the prompt as it is, without the chat template" },
    { "suffix", PARAM_STRING, .only = "\"\"", .why = "no model here fills a gap" },
    { "template", PARAM_STRING, .only = "\"\"", .why = "templates of another language; the model's own is used" },
    { "images", PARAM_ARRAY, .only = "[]", .why = "this model reads text" },
    { "context", PARAM_ARRAY, .only = "[]", .why = "give the conversation to /api/chat" },
};
const param_table ollama_generate_table = { generate_specs, PARAM_COUNT(generate_specs), &shared_table };

/* ---- errors and models ------------------------------------------------------------------------------ */

static json_t *error_json(const ern_err *why) { return json_pack("{s:s}", "error", why->text); }

void ollama_refuse(http_request *r, const ern_err *why) {
    if (why->code == ERN_BUSY) http_add_header(r, "Retry-After", "1");
    http_reply_json(r, api_status(why), error_json(why));
}

server_model *ollama_take(ern_server *s, const char *name, ern_err *e) {
    static const char tag[] = ":latest";
    const size_t n = strlen(name), n_tag = sizeof tag - 1;
    if (n <= n_tag || strcmp(name + n - n_tag, tag) != 0) return models_take(api_models(s), name, e);
    char *plain = mem_strndup(name, n - n_tag, e);
    server_model *m = plain ? models_take(api_models(s), plain, e) : NULL;
    free(plain);
    return m;
}

/* ---- one answer ------------------------------------------------------------------------------------- */

typedef struct {
    http_request *r;
    http_stream *stream;
    ern_server *s;
    char *model;
    bool streams, is_chat;
    double began, load_s;
    ern_buf text, thinking;         /* of an answer in one piece */
    json_t *calls, *logprobs;
    size_t n_calls;
} answer;

static void release_answer(void *object) {
    answer *a = object;
    buf_deinit(&a->text);
    buf_deinit(&a->thinking);
    json_decref(a->calls);
    json_decref(a->logprobs);
    free(a->model);
    free(a);
}

static json_t *chunk_json(const answer *a, const char *text, size_t n, const char *thinking, size_t n_thinking,
    json_t *calls) {
    char when[WIRE_TIME_BYTES];
    wire_time(wire_now(), when);
    json_t *o = json_pack("{s:s, s:s}", "model", a->model, "created_at", when);
    json_t *to = a->is_chat ? json_pack("{s:s, s:o}", "role", "assistant", "content", json_stringn(text, n))
        : json_incref(o);
    if (!a->is_chat && o) json_object_set_new(o, "response", json_stringn(text, n));
    if (to && n_thinking) json_object_set_new(to, "thinking", json_stringn(thinking, n_thinking));
    if (to && json_array_size(calls)) json_object_set(to, "tool_calls", calls);
    if (a->is_chat && o) json_object_set(o, "message", to);
    json_decref(to);
    if (o) json_object_set_new(o, "done", json_false());
    return o;
}

static void write_line(http_stream *stream, json_t *o) {
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    ern_buf b = { 0 };
    if (text && buf_str(&b, text, NULL) && buf_char(&b, '\n', NULL)) http_stream_write(stream, b.data, b.len);
    buf_deinit(&b);
    free(text);
    json_decref(o);
}

static json_t *call_json(answer *a, const job_event *ev) {
    char id[64], *text = wire_arguments(ev->arguments);
    json_t *arguments = text ? json_loads(text, 0, NULL) : NULL;
    api_new_id(a->s, "call_", id, sizeof id);
    free(text);
    return json_pack("{s:s, s:{s:I, s:s, s:o}}", "id", id, "function", "index", (json_int_t)ev->call, "name", ev->name,
                     "arguments", arguments ? arguments : json_object());
}

static void add_piece(answer *a, const job_event *ev) {
    const bool is_thinking = ev->kind == JOB_REASONING;
    if (!a->stream) {
        buf_add(is_thinking ? &a->thinking : &a->text, ev->text, ev->n_bytes, NULL);
        if (ev->logprobs) {
            if (!a->logprobs) a->logprobs = json_array();
            json_array_extend(a->logprobs, (json_t *)(uintptr_t)ev->logprobs);
        }
        return;
    }
    json_t *o = is_thinking ? chunk_json(a, "", 0, ev->text, ev->n_bytes, NULL)
                : chunk_json(a, ev->text, ev->n_bytes, "", 0, NULL);
    if (o && ev->logprobs) json_object_set(o, "logprobs", (json_t *)(uintptr_t)ev->logprobs);
    write_line(a->stream, o);
}

static void add_call(answer *a, const job_event *ev) {
    json_t *call = call_json(a, ev);
    if (a->stream) {
        json_t *calls = json_pack("[o]", call);
        write_line(a->stream, chunk_json(a, "", 0, "", 0, calls));
        json_decref(calls);
    } else {
        if (!a->calls) a->calls = json_array();
        json_array_append_new(a->calls, call);
    }
}

static json_t *nanoseconds(double seconds) { return json_integer((json_int_t)llround(seconds * NS_PER_S)); }

static void add_end(const answer *a, json_t *o, const char *reason, const job_event *ev) {
    if (!o) return;
    json_object_set_new(o, "done", json_true());
    json_object_set_new(o, "done_reason", json_string(reason));
    if (!ev) return;
    json_object_set_new(o, "total_duration", nanoseconds(api_now() - a->began));
    json_object_set_new(o, "load_duration", nanoseconds(a->load_s));
    json_object_set_new(o, "prompt_eval_count", json_integer((json_int_t)ev->n_prompt));
    json_object_set_new(o, "prompt_eval_duration", nanoseconds(ev->prefill_s));
    json_object_set_new(o, "eval_count", json_integer((json_int_t)ev->n_tokens));
    json_object_set_new(o, "eval_duration", nanoseconds(ev->decode_s));
}

static void end_answer(answer *a, const job_event *ev) {
    const json_t *rest = ev->logprobs;          /* of tokens whose text was held back or is none */
    if (rest && !a->stream && !a->logprobs) a->logprobs = json_array();
    if (rest && !a->stream) json_array_extend(a->logprobs, (json_t *)(uintptr_t)rest);
    json_t *o = chunk_json(a, a->text.data ? a->text.data : "", a->text.len, a->thinking.data, a->thinking.len, a->calls);
    if (o && a->logprobs) json_object_set(o, "logprobs", a->logprobs);
    if (o && a->stream && rest) json_object_set(o, "logprobs", (json_t *)(uintptr_t)rest);
    add_end(a, o, ev->finish == JOB_LENGTH ? "length" : "stop", ev);
    if (!a->stream) { http_reply_json(a->r, 200, o); return; }
    write_line(a->stream, o);
    http_stream_end(a->stream);
    a->stream = NULL;
}

static void fail_answer(answer *a, const ern_err *why) {
    if (!a->stream) { ollama_refuse(a->r, why); return; }
    write_line(a->stream, error_json(why));
    http_stream_end(a->stream);
    a->stream = NULL;
}

static void on_event(void *ctx, const job_event *ev) {
    answer *a = ctx;
    switch (ev->kind) {
    case JOB_STARTED: if (a->streams) a->stream = http_stream_open(a->r, 200, "application/x-ndjson"); break;
    case JOB_CONTENT: case JOB_REASONING: if (ev->n_bytes) add_piece(a, ev); break;
    case JOB_TOOL_CALL: add_call(a, ev); break;
    case JOB_DONE: end_answer(a, ev); break;
    case JOB_FAILED: fail_answer(a, ev->error); break;
    }
}

/* ---- requests --------------------------------------------------------------------------------------- */

typedef struct { json_t *messages; const char **stops; char *schema; } pieces;

static void free_pieces(pieces *x) {
    json_decref(x->messages);
    free(x->stops);
    free(x->schema);
}

/* A message in OpenAI's words: thinking, tool_name and images have other names there. */
static json_t *message_of(const json_t *m, size_t i, ern_err *e) {
    static const char *const known[] = { "role", "content", "thinking", "tool_calls", "tool_name", "tool_call_id", "name",
                                         "images", NULL };
    const char *key;
    json_t *v, *out = json_object();
    json_object_foreach((json_t *)(uintptr_t)m, key, v) {
        size_t k = 0;
        while (known[k] && strcmp(known[k], key) != 0) k++;
        const bool is_image = strcmp(key, "images") == 0 && json_array_size(v);
        if ((!known[k] && !json_is_null(v)) || is_image) {
            ern_fail(e, ERN_ARG, "messages[%zu].%.60s is not supported%s", i, key, is_image ? ": this model reads text"
                : " here");
            json_decref(out);
            return NULL;
        }
        const char *to = strcmp(key, "thinking") == 0 ? "reasoning_content" : strcmp(key, "tool_name") == 0 ? "name" : key;
        if (known[k] && strcmp(key, "images") != 0 && !json_is_null(v)) json_object_set(out, to, v);
    }
    if (!json_is_object(m) || !out) {
        ern_fail(e, ERN_ARG, "messages[%zu]: an object wanted", i);
        json_decref(out);
        return NULL;
    }
    return out;
}

static json_t *messages_of(const struct wishes *w, ern_err *e) {
    json_t *out = json_array(), *m;
    size_t i;
    json_array_foreach(w->messages, i, m) {
        json_t *one = message_of(m, i, e);
        if (!one) { json_decref(out); return NULL; }
        json_array_append_new(out, one);
    }
    if (!w->messages && w->system && *w->system) json_array_append_new(out, json_pack("{s:s, s:s}", "role", "system",
                                                                       "content", w->system));
    if (!w->messages) json_array_append_new(out, json_pack("{s:s, s:s}", "role", "user", "content", w->prompt));
    return out;
}

static bool check_tools(const json_t *tools, ern_err *e) {
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool) {
        const char *type = json_string_value(json_object_get(tool, "type"));
        const json_t *name = json_object_get(json_object_get(tool, "function"), "name");
        if ((type && strcmp(type, "function") != 0) || !json_string_length(name))
            return ern_fail(e, ERN_ARG, "tools[%zu]: {\"type\": \"function\", \"function\": {\"name\", ...}} wanted", i);
    }
    return true;
}

static bool choose_format(const struct wishes *w, job_params *p, pieces *x, ern_err *e) {
    const char *name = json_string_value(w->format);
    if (!w->format || (name && !*name)) return true;
    if (name && strcmp(name, "json") != 0) return ern_fail(e, ERN_ARG,
                                                           "format: found \"%.40s\", \"json\" or a JSON Schema wanted",
                                                               name);
    p->has_constraint = true;
    p->constraint_kind = name ? CONSTRAIN_JSON_OBJECT : CONSTRAIN_SCHEMA;
    if (name) return true;
    if (!(x->schema = json_dumps(w->format, JSON_COMPACT))) return ern_fail(e, ERN_NOMEM, "no memory for the schema");
    p->constraint = x->schema;
    return true;
}

/* true, false, or how much of it. */
static bool choose_thinking(const json_t *think, job_params *p, ern_err *e) {
    const char *level = json_string_value(think);
    if (!think) return true;
    if (level && !wire_effort(level, &p->think_budget))
        return ern_fail(e, ERN_ARG, "think: found \"%.40s\", true, false, \"low\", \"medium\" or \"high\" wanted", level);
    p->enable_thinking = level || json_is_true(think);
    return true;
}

static bool choose_sampling(const struct wishes *w, job_params *p, pieces *x, ern_err *e) {
    ern_sampling *o = &p->sampling;
    const size_t n_ctx = p->model->scheduler ? scheduler_n_ctx(p->model->scheduler) : 0;
    if (w->num_ctx.is_given && (uint64_t)w->num_ctx.v > n_ctx)
        return ern_fail(e, ERN_ARG, "options.num_ctx: found %lld, at most %zu (what the server was started with)",
                        (long long)w->num_ctx.v, n_ctx);
    if (!(x->stops = wire_strings(w->stop, "options.stop", &o->n_stop, e))) return false;
    o->stop = x->stops;
    if (w->temperature.is_given) o->temperature = (float)w->temperature.v;
    if (w->top_p.is_given) o->top_p = (float)w->top_p.v;
    if (w->min_p.is_given) o->min_p = (float)w->min_p.v;
    if (w->top_k.is_given) o->top_k = (size_t)w->top_k.v;
    if (w->top_p.is_given && w->top_p.v == 0) o->temperature = 0;           /* the likeliest alone */
    o->seed = w->seed.is_given ? (uint64_t)w->seed.v : wire_seed();
    if (w->repeat_penalty.is_given) o->repetition_penalty = (float)w->repeat_penalty.v;
    if (w->presence_penalty.is_given) o->presence_penalty = (float)w->presence_penalty.v;
    if (w->frequency_penalty.is_given) o->frequency_penalty = (float)w->frequency_penalty.v;
    o->max_tokens = w->num_predict.is_given && w->num_predict.v > 0 ? (size_t)w->num_predict.v : 0;
    p->may_end_early = true;            /* said by done_reason */
    p->wants_logprobs = w->has_logprobs.v;
    o->n_logprobs = (size_t)w->top_logprobs.v;
    if (w->top_logprobs.v && !w->has_logprobs.v) return ern_fail(e, ERN_ARG, "top_logprobs: only with logprobs");
    return true;
}

static bool fill(const struct wishes *w, job_params *p, pieces *x, ern_err *e) {
    if (!check_tools(w->tools, e) || !choose_format(w, p, x, e) || !choose_thinking(w->think, p, e) || !choose_sampling(w, p, x, e)) return false;
    p->tools = w->tools;
    if (w->is_raw.v) {
        if (w->system) return ern_fail(e, ERN_ARG, "system: a raw prompt has no place for it");
        p->prompt = w->prompt;
        p->n_prompt_bytes = strlen(w->prompt);
        p->parses_special = true;
        p->splits_reasoning = false;
        return true;
    }
    if (!(x->messages = messages_of(w, e))) return false;
    p->messages = x->messages;
    return true;
}

static answer *answer_new(ern_server *s, http_request *r, const struct wishes *w, bool is_chat, const char *model,
    double began,
                          ern_err *e) {
    answer *a = mem_zalloc(1, sizeof *a, "answer", e);
    if (!a) return NULL;
    *a = (answer){ .s = s, .r = r, .streams = !w->streams.is_given || w->streams.v, .is_chat = is_chat, .began = began,
                   .load_s = api_now() - began };
    a->model = mem_strndup(model, strlen(model), e);
    if (a->model && http_attach(r, a, release_answer, e)) return a;
    release_answer(a);
    return NULL;
}

/* Nothing is asked: the model is open now, and that is all. */
static void reply_loaded(answer *a, const json_t *keep_alive) {
    double seconds = -1;
    json_t *o = chunk_json(a, "", 0, "", 0, NULL);
    const bool is_unload = keep_alive && ollama_duration(keep_alive, &seconds, NULL) && seconds == 0;
    add_end(a, o, is_unload ? "unload" : "load", NULL);
    if (a->streams && (a->stream = http_stream_open(a->r, 200, "application/x-ndjson"))) {
        write_line(a->stream, o);
        http_stream_end(a->stream);
    } else http_reply_json(a->r, 200, o);
}

static void handle(ern_server *s, http_request *r, const param_table *table, bool is_chat) {
    const double began = api_now();
    api_error why = { 0 };
    struct wishes w = { 0 };
    pieces x = { 0 };
    job_params p;
    bool is_running = false;
    server_model *model = NULL;
    answer *a = NULL;
    const json_t *body = http_json(r, &why.e);
    if (!body || !params_read(table, body, &w, why.param, &why.e) || !(model = ollama_take(s, w.model, &why.e)) ||
        !ollama_keep(s, model, w.keep_alive, &why.e) || !(a = answer_new(s, r, &w, is_chat, w.model, began, &why.e))) {
        ollama_refuse(r, &why.e);
    } else if (is_chat ? json_array_size(w.messages) == 0 : !w.prompt || !*w.prompt) {
        reply_loaded(a, w.keep_alive);
    } else {
        job_defaults(&p, model);
        p.on_event = on_event;
        p.ctx = a;
        is_running = fill(&w, &p, &x, &why.e) && api_start(s, r, &p, &why.e);
        if (!is_running) ollama_refuse(r, &why.e);
    }
    free_pieces(&x);
    if (!is_running) models_give(api_models(s), model);
}

static void chat(void *ctx, http_request *r) { handle(ctx, r, &ollama_chat_table, true); }
static void generate(void *ctx, http_request *r) { handle(ctx, r, &ollama_generate_table, false); }

const http_route api_ollama_routes[] = {
    { "POST", "/api/chat", chat, "chat", false },
    { "POST", "/api/generate", generate, "completions", false },
    { 0 },
};
