/* Anthropic's Messages API: POST /v1/messages, streamed or whole, and /v1/messages/count_tokens. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "server/anthropic.h"
#include "server/api.h"
#include "server/wire.h"

#define MAX_ANSWER_TOKENS 1e9
#define MAX_LIST 100000         /* messages, tools */

/* ---- parameters ------------------------------------------------------------------------------------ */

struct wishes {
    const char *model, *thinking_type, *choice_type, *choice_name, *user_id, *format_type, *effort;
    const json_t *system, *messages, *tools, *stop_sequences, *cache_control, *schema;
    param_int max_tokens, top_k, budget_tokens;
    param_real temperature, top_p;
    param_flag streams, is_serial;
};

#define AT(member) .offset = offsetof(struct wishes, member)

static const param_spec metadata_specs[] = {
    { "user_id", PARAM_STRING, AT(user_id), .help = "who the end user is; nothing depends on it" },
};
static const param_table metadata_table = { metadata_specs, PARAM_COUNT(metadata_specs), NULL };

static const param_spec thinking_specs[] = {
    { "type", PARAM_STRING, AT(thinking_type), .choices = "enabled|disabled|adaptive", .is_required = true },
    { "budget_tokens", PARAM_INT, 1, MAX_ANSWER_TOKENS, AT(budget_tokens), .help = "most tokens of reasoning" },
    { "display", PARAM_STRING, .only = "\"summarized\"", .why = "reasoning is always given out" },
};
static const param_table thinking_table = { thinking_specs, PARAM_COUNT(thinking_specs), NULL };

static const param_spec choice_specs[] = {
    { "type", PARAM_STRING, AT(choice_type), .choices = "auto|any|tool|none", .is_required = true },
    { "name", PARAM_STRING, 1, 256, AT(choice_name), .help = "of the tool, for type tool" },
    { "disable_parallel_tool_use", PARAM_FLAG, AT(is_serial), .help = "at most one call an answer" },
};
static const param_table choice_table = { choice_specs, PARAM_COUNT(choice_specs), NULL };

static const param_spec format_specs[] = {
    { "type", PARAM_STRING, AT(format_type), .choices = "json_schema", .is_required = true },
    { "schema", PARAM_OBJECT, AT(schema), .is_required = true, .help = "the answer keeps to this JSON Schema" },
};
static const param_table format_table = { format_specs, PARAM_COUNT(format_specs), NULL };

static const param_spec output_specs[] = {
    { "format", PARAM_OBJECT, .of = &format_table },
    { "effort", PARAM_STRING, AT(effort), .choices = "low|medium|high|xhigh|max", .help = "how long it may think" },
};
static const param_table output_table = { output_specs, PARAM_COUNT(output_specs), NULL };

/* What counts for the number of tokens; the rest only for an answer. */
static const param_spec prompt_specs[] = {
    { "model", PARAM_STRING, AT(model), .is_required = true, .help = "one of /v1/models" },
    { "messages", PARAM_ARRAY, 1, MAX_LIST, AT(messages), .items = PARAM_OBJECT, .is_required = true, .help = "turns of user and assistant" },
    { "system", PARAM_STRING | PARAM_ARRAY, AT(system), .items = PARAM_OBJECT, .help = "a text or blocks of text" },
    { "tools", PARAM_ARRAY, 0, MAX_LIST, AT(tools), .items = PARAM_OBJECT, .help = "tools of your own: name, description, input_schema, strict" },
    { "tool_choice", PARAM_OBJECT, .of = &choice_table },
    { "thinking", PARAM_OBJECT, .of = &thinking_table },
    { "output_config", PARAM_OBJECT, .of = &output_table },
    { "cache_control", PARAM_OBJECT, AT(cache_control), .help = "every prompt is cached by itself" },
};
static const param_table prompt_table = { prompt_specs, PARAM_COUNT(prompt_specs), NULL };

static const param_spec answer_specs[] = {
    { "max_tokens", PARAM_INT, 1, MAX_ANSWER_TOKENS, AT(max_tokens), .is_required = true },
    { "stream", PARAM_FLAG, AT(streams) },
    { "temperature", PARAM_REAL, 0, 2, AT(temperature), .help = "0: the likeliest token, always" },
    { "top_p", PARAM_REAL, 0, 1, AT(top_p) },
    { "top_k", PARAM_INT, 0, 1e9, AT(top_k), .help = "0: off" },
    { "stop_sequences", PARAM_ARRAY, 0, 64, AT(stop_sequences), .items = PARAM_STRING, .help = "texts that end the answer" },
    { "metadata", PARAM_OBJECT, .of = &metadata_table },
    { "service_tier", PARAM_STRING, .only = "\"auto\"|\"standard_only\"", .why = "there is one tier here" },
};
const param_table anthropic_messages_table = { answer_specs, PARAM_COUNT(answer_specs), &prompt_table };
const param_table anthropic_count_table = { prompt_specs, PARAM_COUNT(prompt_specs), NULL };

/* ---- one answer ------------------------------------------------------------------------------------ */

enum block_kind { BLOCK_NONE, BLOCK_TEXT, BLOCK_THINKING };

typedef struct {
    ern_server *s;
    http_request *r;
    http_stream *stream;            /* NULL: not streamed, or not begun */
    char id[64], *model;
    const json_t *stops;            /* the request's */
    bool streams;
    size_t max_tokens;
    enum block_kind open;           /* the block that is being written */
    ern_buf text;                   /* what it holds so far */
    json_t *content;                /* the finished blocks */
} answer;

static void release_answer(void *object) {
    answer *a = object;
    buf_deinit(&a->text);
    json_decref(a->content);
    free(a->model);
    free(a);
}

json_t *anthropic_error(const char *request_id, const ern_err *why, int status) {
    static const struct { int status; const char *type; } types[] = {
        { 401, "authentication_error" }, { 403, "permission_error" }, { 404, "not_found_error" },
            { 413, "request_too_large" },
        { 429, "rate_limit_error" }, { 503, "overloaded_error" },
    };
    const char *type = status < 500 ? "invalid_request_error" : "api_error";
    for (size_t i = 0; i < PARAM_COUNT(types); i++)
        if (types[i].status == status) type = types[i].type;
    return json_pack("{s:s, s:{s:s, s:s}, s:s}", "type", "error", "error", "type", type, "message", why->text,
                     "request_id", request_id);
}

static json_t *error_json(const http_request *r, const ern_err *why) {
    return anthropic_error(http_id(r), why, api_status(why));
}

static void refuse(http_request *r, const ern_err *why) {
    if (why->code == ERN_BUSY) http_add_header(r, "Retry-After", "1");
    http_reply_json(r, api_status(why), error_json(r, why));
}

static json_t *usage_json(const job_event *ev) {
    return json_pack("{s:I, s:I, s:I, s:I}", "input_tokens", (json_int_t)(ev->n_prompt - ev->n_cached),
                     "cache_creation_input_tokens", (json_int_t)0, "cache_read_input_tokens", (json_int_t)ev->n_cached,
                     "output_tokens", (json_int_t)ev->n_tokens);
}

static json_t *message_json(const answer *a, json_t *content, json_t *reason, json_t *stop, const job_event *ev) {
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "id", a->id, "type", "message", "role", "assistant",
        "model",
                     a->model, "content", content, "stop_reason", reason, "stop_sequence", stop, "usage", usage_json(ev));
}

/* ---- blocks ---------------------------------------------------------------------------------------- */

static void send_start(const answer *a, json_t *block) {
    if (a->stream) http_stream_event(a->stream, "content_block_start", json_pack("{s:s, s:I, s:o}", "type",
                                     "content_block_start", "index", (json_int_t)json_array_size(a->content),
                                     "content_block", block));
    else json_decref(block);
}

static void send_delta(const answer *a, const char *type, const char *member, json_t *value) {
    if (a->stream) http_stream_event(a->stream, "content_block_delta", json_pack("{s:s, s:I, s:{s:s, s:o}}", "type",
                                     "content_block_delta", "index", (json_int_t)json_array_size(a->content), "delta",
                                     "type", type, member, value));
    else json_decref(value);
}

/* The block is complete: it joins the content. */
static void send_stop(answer *a, json_t *block) {
    if (a->stream) http_stream_event(a->stream, "content_block_stop", json_pack("{s:s, s:I}", "type", "content_block_stop",
                                     "index", (json_int_t)json_array_size(a->content)));
    json_array_append_new(a->content, block);
}

static void close_block(answer *a) {
    const char *text = a->text.data ? a->text.data : "";
    if (a->open == BLOCK_TEXT) send_stop(a, json_pack("{s:s, s:o}", "type", "text", "text",
        json_stringn(text, a->text.len)));
    if (a->open == BLOCK_THINKING) {
        char signature[65];         /* shows that a thought comes back as it was; nothing asks for it */
        ern_sha256 sha;
        sha256_begin(&sha);
        sha256_add(&sha, text, a->text.len);
        sha256_hex(&sha, signature);
        send_delta(a, "signature_delta", "signature", json_string(signature));
        send_stop(a, json_pack("{s:s, s:o, s:s}", "type", "thinking", "thinking", json_stringn(text, a->text.len),
                               "signature", signature));
    }
    buf_clear(&a->text);
    a->open = BLOCK_NONE;
}

static void add_text(answer *a, enum block_kind kind, const job_event *ev) {
    const bool is_text = kind == BLOCK_TEXT;
    if (!ev->n_bytes) return;
    if (a->open != kind) {
        close_block(a);
        a->open = kind;
        send_start(a, is_text ? json_pack("{s:s, s:s}", "type", "text", "text", "")
                   : json_pack("{s:s, s:s, s:s}", "type", "thinking", "thinking", "", "signature", ""));
    }
    buf_add(&a->text, ev->text, ev->n_bytes, NULL);
    send_delta(a, is_text ? "text_delta" : "thinking_delta", is_text ? "text" : "thinking",
        json_stringn(ev->text, ev->n_bytes));
}

static void add_call(answer *a, const job_event *ev) {
    char id[64], *input = wire_arguments(ev->arguments);
    close_block(a);
    api_new_id(a->s, "toolu_", id, sizeof id);
    send_start(a, json_pack("{s:s, s:s, s:s, s:{}}", "type", "tool_use", "id", id, "name", ev->name, "input"));
    send_delta(a, "input_json_delta", "partial_json", json_string(input ? input : "{}"));
    json_t *object = input ? json_loads(input, 0, NULL) : NULL;
    send_stop(a, json_pack("{s:s, s:s, s:s, s:o}", "type", "tool_use", "id", id, "name", ev->name, "input", object ? object
                           : json_object()));
    free(input);
}

/* ---- events of the job ------------------------------------------------------------------------------ */

static void begin_stream(answer *a, const job_event *ev) {
    if (!(a->stream = http_stream_open(a->r, 200, "text/event-stream"))) return;
    http_stream_event(a->stream, "message_start", json_pack("{s:s, s:o}", "type", "message_start", "message",
                      message_json(a, json_array(), json_null(), json_null(), ev)));
    http_stream_event(a->stream, "ping", json_pack("{s:s}", "type", "ping"));
}

static const char *stop_reason(const answer *a, const job_event *ev) {
    switch (ev->finish) {
    case JOB_LENGTH: return ev->n_tokens < a->max_tokens ? "model_context_window_exceeded" : "max_tokens";
    case JOB_TOOL_CALLS: return "tool_use";
    case JOB_STOP_TEXT: return "stop_sequence";
    default: return "end_turn";
    }
}

static void end_answer(answer *a, const job_event *ev) {
    close_block(a);
    json_t *reason = json_string(stop_reason(a, ev));
    json_t *stop = ev->finish == JOB_STOP_TEXT ? json_incref(json_array_get(a->stops, ev->stop)) : json_null();
    if (!a->streams) {
        http_reply_json(a->r, 200, message_json(a, json_incref(a->content), reason, stop, ev));
        return;
    }
    http_stream_event(a->stream, "message_delta", json_pack("{s:s, s:{s:o, s:o}, s:o}", "type", "message_delta", "delta",
                      "stop_reason", reason, "stop_sequence", stop, "usage", usage_json(ev)));
    http_stream_event(a->stream, "message_stop", json_pack("{s:s}", "type", "message_stop"));
    http_stream_end(a->stream);
    a->stream = NULL;
}

static void fail_answer(answer *a, const ern_err *why) {
    if (!a->stream) { refuse(a->r, why); return; }
    http_stream_event(a->stream, "error", error_json(a->r, why));
    http_stream_end(a->stream);
    a->stream = NULL;
}

static void on_event(void *ctx, const job_event *ev) {
    answer *a = ctx;
    switch (ev->kind) {
    case JOB_STARTED: if (a->streams) begin_stream(a, ev); break;
    case JOB_CONTENT: add_text(a, BLOCK_TEXT, ev); break;
    case JOB_REASONING: add_text(a, BLOCK_THINKING, ev); break;
    case JOB_TOOL_CALL: add_call(a, ev); break;
    case JOB_DONE: end_answer(a, ev); break;
    case JOB_FAILED: fail_answer(a, ev->error); break;
    }
}

/* ---- requests --------------------------------------------------------------------------------------- */

static bool choose_tools(const struct wishes *w, job_params *p, ern_err *e) {
    static const struct { const char *type; enum job_tool_choice choice; } choices[] = {
        { "auto", TOOLS_AUTO }, { "any", TOOLS_REQUIRED }, { "tool", TOOLS_NAMED }, { "none", TOOLS_NONE },
    };
    for (size_t i = 0; w->choice_type && i < PARAM_COUNT(choices); i++)
        if (strcmp(choices[i].type, w->choice_type) == 0) p->tool_choice = choices[i].choice;
    if (p->tool_choice == TOOLS_NAMED && !w->choice_name) return ern_fail(e, ERN_ARG,
                                                                          "tool_choice.name: wanted for type tool");
    p->tool_name = w->choice_name;
    p->has_parallel_calls = !(w->is_serial.is_given && w->is_serial.v);
    return true;
}

static bool choose_thinking(const struct wishes *w, job_params *p, ern_err *e) {
    const bool is_enabled = w->thinking_type && strcmp(w->thinking_type, "enabled") == 0;
    p->enable_thinking = w->thinking_type && strcmp(w->thinking_type, "disabled") != 0;
    if (is_enabled && !w->budget_tokens.is_given) return ern_fail(e, ERN_ARG,
                                                                  "thinking.budget_tokens: wanted for type enabled");
    if (!is_enabled && w->budget_tokens.is_given) return ern_fail(e, ERN_ARG,
                                                                  "thinking.budget_tokens: only for type enabled");
    if (w->effort) wire_effort(w->effort, &p->think_budget);
    if (!is_enabled) return true;
    if (w->max_tokens.is_given && w->budget_tokens.v >= w->max_tokens.v)
        return ern_fail(e, ERN_ARG, "thinking.budget_tokens: found %lld, less than max_tokens (%lld) wanted",
                        (long long)w->budget_tokens.v, (long long)w->max_tokens.v);
    p->think_budget = (size_t)w->budget_tokens.v;
    return true;
}

/* What the job borrows while it starts. */
typedef struct { json_t *messages, *tools; const char **stops; char *schema; } pieces;

static void free_pieces(pieces *x) {
    json_decref(x->messages);
    json_decref(x->tools);
    free(x->stops);
    free(x->schema);
}

static bool fill(const struct wishes *w, job_params *p, pieces *x, ern_err *e) {
    size_t n_stops = 0;
    if (!(x->messages = anthropic_messages(w->system, w->messages, e))) return false;
    if (json_array_size(w->tools) && !(x->tools = anthropic_tools(w->tools, e))) return false;
    if (!(x->stops = wire_strings(w->stop_sequences, "stop_sequences", &n_stops, e))) return false;
    if (!choose_tools(w, p, e) || !choose_thinking(w, p, e)) return false;
    p->messages = x->messages;
    p->tools = x->tools;
    if (w->schema) {
        if (!(x->schema = json_dumps(w->schema, JSON_COMPACT))) return ern_fail(e, ERN_NOMEM, "no memory for the schema");
        p->has_constraint = true;
        p->constraint_kind = CONSTRAIN_SCHEMA;
        p->constraint = x->schema;
    }
    p->sampling.max_tokens = (size_t)w->max_tokens.v;
    p->may_end_early = true;            /* said by stop_reason */
    p->sampling.seed = wire_seed();
    p->sampling.stop = x->stops;
    p->sampling.n_stop = n_stops;
    if (w->temperature.is_given) p->sampling.temperature = (float)w->temperature.v;
    if (w->top_p.is_given) p->sampling.top_p = (float)w->top_p.v;
    if (w->top_p.is_given && w->top_p.v == 0) p->sampling.temperature = 0;      /* the likeliest alone */
    if (w->top_k.is_given) p->sampling.top_k = (size_t)w->top_k.v;
    return true;
}

static answer *answer_new(ern_server *s, http_request *r, const struct wishes *w, const char *model, ern_err *e) {
    answer *a = mem_zalloc(1, sizeof *a, "answer", e);
    if (!a) return NULL;
    *a = (answer){ .s = s, .r = r, .stops = w->stop_sequences, .streams = w->streams.v,
        .max_tokens = (size_t)w->max_tokens.v };
    api_new_id(s, "msg_", a->id, sizeof a->id);
    a->content = json_array();
    a->model = mem_strndup(model, strlen(model), e);
    if (!a->content || !a->model) { release_answer(a); ern_fail(e, ERN_NOMEM, "no memory for an answer"); return NULL; }
    if (http_attach(r, a, release_answer, e)) return a;
    release_answer(a);
    return NULL;
}

static void messages(void *ctx, http_request *r) {
    ern_server *s = ctx;
    api_error why = { 0 };
    struct wishes w = { 0 };
    pieces x = { 0 };
    job_params p;
    bool ok = false;
    const json_t *body = http_json(r, &why.e);
    server_model *model = NULL;
    if (!body || !params_read(&anthropic_messages_table, body, &w, why.param, &why.e)) goto out;
    if (!(model = models_take(api_models(s), w.model, &why.e))) goto out;
    job_defaults(&p, model);
    if (!fill(&w, &p, &x, &why.e)) goto out;
    p.on_event = on_event;
    if (!(p.ctx = answer_new(s, r, &w, model->name, &why.e))) goto out;
    ok = api_start(s, r, &p, &why.e);
out:
    free_pieces(&x);
    if (ok) return;
    models_give(api_models(s), model);
    refuse(r, &why.e);
}

static void count_tokens(void *ctx, http_request *r) {
    ern_server *s = ctx;
    api_error why = { 0 };
    struct wishes w = { 0 };
    pieces x = { 0 };
    ern_tokens ids = { 0 };
    job_params p;
    const json_t *body = http_json(r, &why.e);
    server_model *model = NULL;
    bool ok = body && params_read(&anthropic_count_table, body, &w, why.param, &why.e) &&
              (model = models_take(api_models(s), w.model, &why.e));
    if (ok) job_defaults(&p, model);
    ok = ok && fill(&w, &p, &x, &why.e) && job_prompt(&p, &ids, NULL, &why.e);
    if (ok) http_reply_json(r, 200, json_pack("{s:I}", "input_tokens", (json_int_t)ids.n));
    else refuse(r, &why.e);
    ern_tokens_free(&ids);
    free_pieces(&x);
    models_give(api_models(s), model);
}

const http_route api_anthropic_routes[] = {
    { "POST", "/v1/messages", messages, "chat", false },
    { "POST", "/v1/messages/count_tokens", count_tokens, "tokenize", false },
    { 0 },
};
