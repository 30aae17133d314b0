/* OpenAI's Responses API: POST /v1/responses. What is stored of them: api_stored.c. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_responses.h"
#include "server/api_sampling.h"
#include "server/wire.h"

#define MAX_LIST 100000
#define MAX_METADATA 16
#define MAX_METADATA_KEY 64
#define MAX_METADATA_VALUE 512
#define WITH_LOGPROBS "message.output_text.logprobs"

/* ---- parameters ------------------------------------------------------------------------------------ */

struct wishes {
    const char *model, *instructions, *previous, *user, *truncation, *effort, *cache_key, *safety_id;
    const json_t *input, *include, *metadata, *tool_choice, *tools, *format;
    param_int max_tokens, top_logprobs;
    param_real temperature, top_p;
    param_flag streams, stores, is_background, is_parallel;
};

#define AT(member) .offset = offsetof(struct wishes, member)

static const param_spec text_specs[] = {
    { "format", PARAM_OBJECT, AT(format), .help = "type text, json_object, or json_schema with its schema" },
    { "verbosity", PARAM_STRING, .only = "\"medium\"", .why = "how much is written is not controlled" },
};
static const param_table text_table = { text_specs, PARAM_COUNT(text_specs), NULL };

static const param_spec reasoning_specs[] = {
    { "effort", PARAM_STRING, AT(effort), .choices = "none|minimal|low|medium|high|xhigh", .help = "how long it may think" },
    { "summary", PARAM_STRING, .only = "\"auto\"", .why = "reasoning is given out as it is, without a summary" },
    { "generate_summary", PARAM_STRING, .only = "\"auto\"", .why = "reasoning is given out as it is, without a summary" },
};
static const param_table reasoning_table = { reasoning_specs, PARAM_COUNT(reasoning_specs), NULL };

static const param_spec stream_specs[] = {
    { "include_obfuscation", PARAM_FLAG, .only = "false", .why = "nothing is padded" },
};
static const param_table stream_table = { stream_specs, PARAM_COUNT(stream_specs), NULL };

static const param_spec specs[] = {
    { "model", PARAM_STRING, AT(model), .help = "which model; the first that is served otherwise" },
    { "input", PARAM_STRING | PARAM_ARRAY, AT(input), .items = PARAM_OBJECT, .is_required = true,
        .help = "a text, or items: message, function_call, "
      "function_call_output, reasoning" },
    { "instructions", PARAM_STRING, AT(instructions), .help = "of the system; not taken over from earlier responses" },
    { "previous_response_id", PARAM_STRING, 1, 256, AT(previous), .help = "the stored response that this one goes on from" },
    { "store", PARAM_FLAG, AT(stores), .help = "true unless said otherwise: it can be fetched and gone on from" },
    { "stream", PARAM_FLAG, AT(streams) },
    { "stream_options", PARAM_OBJECT, .of = &stream_table },
    { "background", PARAM_FLAG, AT(is_background), .help = "reply at once; fetch it later" },
    { "max_output_tokens", PARAM_INT, 1, 1e9, AT(max_tokens), .help = "reasoning included" },
    { "temperature", PARAM_REAL, 0, 2, AT(temperature) },
    { "top_p", PARAM_REAL, 0, 1, AT(top_p) },
    { "top_logprobs", PARAM_INT, 0, ERN_MAX_LOGPROBS, AT(top_logprobs) },
    { "include", PARAM_ARRAY, 0, 16, AT(include), .items = PARAM_STRING, .help = WITH_LOGPROBS },
    { "metadata", PARAM_OBJECT, AT(metadata), .help = "up to 16 texts, given back" },
    { "tools", PARAM_ARRAY, 0, MAX_LIST, AT(tools), .items = PARAM_OBJECT, .help = "of type function" },
    { "tool_choice", PARAM_STRING | PARAM_OBJECT, AT(tool_choice),
        .help = "none, auto, required, or {type: function, name}" },
    { "parallel_tool_calls", PARAM_FLAG, AT(is_parallel) },
    { "text", PARAM_OBJECT, .of = &text_table },
    { "reasoning", PARAM_OBJECT, .of = &reasoning_table },
    { "truncation", PARAM_STRING, AT(truncation), .choices = "disabled|auto",
        .help = "auto: whole turns go, the oldest first; "
      "dropped_turns says how many" },
    { "user", PARAM_STRING, AT(user) },
    { "safety_identifier", PARAM_STRING, AT(safety_id) },
    { "prompt_cache_key", PARAM_STRING, AT(cache_key), .help = "every prompt is cached by itself" },
    { "prompt_cache_retention", PARAM_STRING, .only = "\"in_memory\"|\"24h\"", .why = "every prompt is cached by itself" },
    { "service_tier", PARAM_STRING, .only = "\"auto\"|\"default\"", .why = "there is one tier here" },
    { "max_tool_calls", PARAM_REFUSED, .why = "tools run at the client" },
    { "conversation", PARAM_REFUSED, .why = "use previous_response_id" },
    { "prompt", PARAM_REFUSED, .why = "no prompts are stored here; use instructions and input" },
};
const param_table api_responses_table = { specs, PARAM_COUNT(specs), NULL };

static const char *text_of(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }
static bool is_text(const char *a, const char *b) { return a && strcmp(a, b) == 0; }

static bool check_lists(const struct wishes *w, bool *wants_logprobs, api_error *why) {
    size_t i;
    json_t *v;
    const char *key;
    json_array_foreach(w->include, i, v) {
        if (!is_text(json_string_value(v), WITH_LOGPROBS))
            return api_fail(why, "include", "\"%.60s\" is not supported: only "
                                                                           WITH_LOGPROBS, json_string_value(v)
                                                                           ? json_string_value(v) : "(no text)");
        *wants_logprobs = true;
    }
    if (json_object_size(w->metadata) > MAX_METADATA) return api_fail(why, "metadata", "at most %d texts", MAX_METADATA);
    json_object_foreach((json_t *)(uintptr_t)w->metadata, key, v)
        if (!json_is_string(v) || json_string_length(v) > MAX_METADATA_VALUE || strlen(key) > MAX_METADATA_KEY)
            return api_fail(why, "metadata", "%.64s: a text of at most %d bytes wanted, the key of at most %d", key,
                            MAX_METADATA_VALUE, MAX_METADATA_KEY);
    return true;
}

static bool choose_tools(const struct wishes *w, job_params *p, api_error *why) {
    static const struct { const char *name; enum job_tool_choice choice; } choices[] = {
        { "auto", TOOLS_AUTO }, { "none", TOOLS_NONE }, { "required", TOOLS_REQUIRED },
    };
    const char *name = json_string_value(w->tool_choice), *type = text_of(w->tool_choice, "type");
    p->has_parallel_calls = !w->is_parallel.is_given || w->is_parallel.v;
    if (!w->tool_choice) return true;
    for (size_t i = 0; i < PARAM_COUNT(choices); i++)
        if (is_text(name, choices[i].name)) { p->tool_choice = choices[i].choice; return true; }
    if (name) return api_fail(why, "tool_choice", "found \"%.40s\", none, auto or required wanted", name);
    if (!is_text(type, "function") || !text_of(w->tool_choice, "name"))
        return api_fail(why, "tool_choice", "type \"%.40s\" is not supported: {\"type\": \"function\", \"name\"} wanted",
            type
                        ? type : "(none)");
    p->tool_choice = TOOLS_NAMED;
    p->tool_name = text_of(w->tool_choice, "name");
    return true;
}

static bool choose_format(const struct wishes *w, job_params *p, char **schema, api_error *why) {
    const char *type = text_of(w->format, "type");
    const json_t *given = json_object_get(w->format, "schema");
    if (!w->format || is_text(type, "text")) return true;
    const bool is_schema = is_text(type, "json_schema");
    if (!is_schema && !is_text(type, "json_object"))
        return api_fail(why, "text.format.type", "found \"%.40s\", text, json_object "
                                                                     "or json_schema wanted", type ? type : "(none)");
    if (is_schema && !json_is_object(given)) return api_fail(why, "text.format.schema", "a JSON Schema wanted");
    p->has_constraint = true;
    p->constraint_kind = is_schema ? CONSTRAIN_SCHEMA : CONSTRAIN_JSON_OBJECT;
    if (!is_schema) return true;
    p->constraint = *schema = json_dumps(given, JSON_COMPACT);
    return *schema ? true : ern_fail(&why->e, ERN_NOMEM, "no memory for the schema");
}

static void choose_sampling(const struct wishes *w, job_params *p) {
    ern_sampling *o = &p->sampling;
    if (w->temperature.is_given) o->temperature = (float)w->temperature.v;
    if (w->top_p.is_given) o->top_p = (float)w->top_p.v;
    if (w->top_p.is_given && w->top_p.v == 0) o->temperature = 0;           /* the likeliest alone */
    o->seed = wire_seed();
    o->max_tokens = (size_t)w->max_tokens.v;
    o->n_logprobs = (size_t)w->top_logprobs.v;
    p->may_end_early = true;                    /* said by status and incomplete_details */
    if (w->truncation && strcmp(w->truncation, "auto") == 0) p->truncation = TRUNCATION_AUTO;
    if (!w->effort) return;
    wire_effort(w->effort, &p->think_budget);
    p->enable_thinking = strcmp(w->effort, "none") != 0;
}

/* ---- the object ---------------------------------------------------------------------------------------- */

static json_t *or_null(const json_t *v) { return v ? json_incref((json_t *)(uintptr_t)v) : json_null(); }
static json_t *text_or_null(const char *s) { return s ? json_string(s) : json_null(); }
static json_t *number_or_null(param_int v) { return v.is_given ? json_integer(v.v) : json_null(); }

/* A response with nothing in it yet: what was asked, said back. */
static json_t *response_json(ern_server *s, const struct wishes *w, const char *model, const ern_sampling *o,
    bool is_stored) {
    char id[64];
    api_new_id(s, "resp_", id, sizeof id);
    json_t *x = json_pack("{s:s, s:s, s:I, s:s, s:b, s:n, s:n, s:n, s:s, s:[], s:n, s:b, s:b, s:f, s:f, s:s, s:s}", "id",
        id, "object",
                          "response", "created_at", (json_int_t)wire_now(), "status", w->is_background.v ? "queued"
                          : "in_progress", "background", w->is_background.v, "error", "incomplete_details", "completed_at",
                          "model", model, "output", "usage", "parallel_tool_calls", !w->is_parallel.is_given ||
                              w->is_parallel.v,
                          "store", is_stored, "temperature", (double)o->temperature, "top_p", (double)o->top_p, "truncation",
                          w->truncation ? w->truncation : "disabled", "service_tier", "default");
    const struct { const char *key; json_t *v; } more[] = {
        { "instructions", text_or_null(w->instructions) }, { "previous_response_id", text_or_null(w->previous) },
        { "max_output_tokens", number_or_null(w->max_tokens) }, { "max_tool_calls", json_null() },
        { "metadata", w->metadata ? or_null(w->metadata) : json_object() }, { "user", text_or_null(w->user) },
        { "safety_identifier", text_or_null(w->safety_id) }, { "prompt_cache_key", text_or_null(w->cache_key) },
        { "tools", w->tools ? or_null(w->tools) : json_array() }, { "top_logprobs", json_integer(w->top_logprobs.v) },
        { "tool_choice", w->tool_choice ? or_null(w->tool_choice) : json_string("auto") },
        { "reasoning", json_pack("{s:s?, s:n}", "effort", w->effort, "summary") },
        { "text", json_pack("{s:o, s:s}", "format", w->format ? or_null(w->format) : json_pack("{s:s}", "type", "text"),
                            "verbosity", "medium") },
    };
    for (size_t i = 0; i < PARAM_COUNT(more); i++)
        if (!x || json_object_set_new(x, more[i].key, more[i].v) != 0) { json_decref(x); return NULL; }
    return x;
}

/* ---- create -------------------------------------------------------------------------------------------- */

typedef struct { json_t *items, *all, *messages, *tools; char *schema; } pieces;

static void free_pieces(pieces *x) {
    json_decref(x->items);
    json_decref(x->all);
    json_decref(x->messages);
    json_decref(x->tools);
    free(x->schema);
}

static bool fill(ern_server *s, http_request *r, const struct wishes *w, job_params *p, pieces *x, api_error *why) {
    bool wants_logprobs = false;
    if (!check_lists(w, &wants_logprobs, why) || !choose_tools(w, p, why) || !choose_format(w, p, &x->schema, why))
        return false;
    choose_sampling(w, p);
    p->wants_logprobs = wants_logprobs || w->top_logprobs.v > 0;
    if (!(x->items = responses_items(s, w->input, why))) return false;
    if (w->previous && store_is_live(api_store(s), w->previous, responses_tenant(r)))
        return api_fail(why, "previous_response_id", "response \"%.100s\" is still being written", w->previous);
    x->all = w->previous ? store_chain(api_store(s), w->previous, responses_tenant(r), &why->e) : json_array();
    if (!x->all) {
        snprintf(why->param, sizeof why->param, "previous_response_id");
        return false;
    }
    json_array_extend(x->all, x->items);
    if (!(x->messages = responses_messages(w->instructions, x->all, why))) return false;
    if (json_array_size(x->messages) == 0) return api_fail(why, "input", "at least one message wanted");
    if (json_array_size(w->tools) && !(x->tools = responses_tools(w->tools, why))) return false;
    p->messages = x->messages;
    p->tools = x->tools;
    return true;
}

static bool start(ern_server *s, http_request *r, const struct wishes *w, job_params *p, pieces *x, const char *model,
    api_error *why) {
    const bool is_stored = !w->stores.is_given || w->stores.v;
    if (w->is_background.v && !is_stored) return api_fail(why, "background", "needs store: true");
    if (w->is_background.v && w->streams.v) return api_fail(why, "background", "not together with stream here");
    if (!fill(s, r, w, p, x, why)) return false;
    const responses_plan plan = { .response = response_json(s, w, model, &p->sampling, is_stored),
        .input = json_incref(x->items),
                                  .previous = w->previous, .max_tokens = p->sampling.max_tokens, .streams = w->streams.v,
                                  .is_stored = is_stored, .is_background = w->is_background.v };
    if (!plan.response) {
        json_decref(x->items);
        return ern_fail(&why->e, ERN_NOMEM, "no memory for a response");
    }
    responses_answer *a = responses_answer_new(s, r, &plan, &why->e);
    return a && responses_start(a, p, &why->e);
}

static void create(void *ctx, http_request *r) {
    ern_server *s = ctx;
    api_error why = { 0 };
    struct wishes w = { 0 };
    pieces x = { 0 };
    job_params p;
    const json_t *body = http_json(r, &why.e);
    server_model *model = NULL;
    bool ok = body && params_read(&api_responses_table, body, &w, why.param, &why.e) &&
              (model = models_take(api_models(s), w.model, &why.e));
    if (ok) job_defaults(&p, model);
    ok = ok && start(s, r, &w, &p, &x, model->name, &why);
    free_pieces(&x);
    if (ok) return;
    models_give(api_models(s), model);
    api_refuse(r, &why);
}

const http_route api_responses_routes[] = {
    { "POST", "/v1/responses", create, "chat", false },
    { 0 },
};
