/* One response of the Responses API: events as they stream, the object as it grows, and its way into the store. What is
 * said to be complete is stored before. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_responses.h"
#include "server/wire.h"

enum item_kind { ITEM_NONE, ITEM_MESSAGE, ITEM_REASONING };

struct responses_answer {
    ern_server *s;
    http_request *r;
    http_stream *stream;
    json_t *response, *output, *input;      /* output: borrowed from response */
    json_t *first;                          /* in the background: what the client gets */
    char *previous;
    const char *id;                         /* of response */
    size_t max_tokens;
    bool streams, is_stored, is_background, is_known;
    json_int_t sequence;
    enum item_kind open;                    /* the item that is being written */
    char item_id[64];
    ern_buf text;
    json_t *logprobs;
    /* of running and is_cancelled; events of a background answer wait for its start */
    pthread_mutex_t lock;
    api_running *running;
    bool is_cancelled;
};

const char *responses_tenant(http_request *r) { return keys_tenant(http_user(r)); }

static void release_answer(void *object) {
    responses_answer *a = object;
    if (a->is_known) store_end(api_store(a->s), a->id);
    json_decref(a->response);
    json_decref(a->input);
    json_decref(a->first);
    json_decref(a->logprobs);
    buf_deinit(&a->text);
    pthread_mutex_destroy(&a->lock);
    free(a->previous);
    free(a);
}

responses_answer *responses_answer_new(ern_server *s, http_request *r, const responses_plan *plan, ern_err *e) {
    responses_answer *a = mem_zalloc(1, sizeof *a, "response", e);
    if (!a) { json_decref(plan->response); json_decref(plan->input); return NULL; }
    *a = (responses_answer){ .s = s, .r = r, .response = plan->response, .input = plan->input,
        .max_tokens = plan->max_tokens,
                             .streams = plan->streams, .is_stored = plan->is_stored, .is_background = plan->is_background };
    a->output = json_object_get(a->response, "output");
    a->id = json_string_value(json_object_get(a->response, "id"));
    pthread_mutex_init(&a->lock, NULL);
    if (plan->previous) a->previous = mem_strndup(plan->previous, strlen(plan->previous), e);
    if (a->output && a->id && (a->previous || !plan->previous) && http_attach(r, a, release_answer, e)) return a;
    release_answer(a);
    return NULL;
}

/* ---- events ------------------------------------------------------------------------------------------- */

/* An event with its type and number; members is taken. */
static void send(responses_answer *a, const char *type, json_t *members) {
    json_t *o = json_pack("{s:s, s:I}", "type", type, "sequence_number", a->sequence++);
    if (o && members) json_object_update(o, members);
    json_decref(members);
    if (a->stream) http_stream_event(a->stream, type, o);
    else json_decref(o);
}

static void send_response(responses_answer *a, const char *type) {
    send(a, type, json_pack("{s:O}", "response", a->response));
}

static json_int_t at(const responses_answer *a) { return (json_int_t)json_array_size(a->output); }

static void send_item(responses_answer *a, const char *type, json_t *item) {
    send(a, type, json_pack("{s:I, s:O}", "output_index", at(a), "item", item));
}

/* An event inside the item that is open; more is taken. */
static void send_inside(responses_answer *a, const char *type, json_t *more) {
    json_t *o = json_pack("{s:s, s:I, s:I}", "item_id", a->item_id, "output_index", at(a), "content_index", (json_int_t)0);
    if (o && more) json_object_update(o, more);
    json_decref(more);
    send(a, type, o);
}

static json_t *logprobs_of(const json_t *list) { return list ? json_incref((json_t *)(uintptr_t)list) : json_array(); }

static json_t *part_json(const responses_answer *a, bool is_empty) {
    const char *text = a->text.data && !is_empty ? a->text.data : "";
    const size_t n = is_empty ? 0 : a->text.len;
    if (a->open == ITEM_REASONING) return json_pack("{s:s, s:o}", "type", "reasoning_text", "text", json_stringn(text, n));
    return json_pack("{s:s, s:o, s:[], s:o}", "type", "output_text", "text", json_stringn(text, n), "annotations",
        "logprobs",
                     logprobs_of(is_empty ? NULL : a->logprobs));
}

/* content: taken. */
static json_t *item_json(const responses_answer *a, const char *status, json_t *content) {
    if (a->open == ITEM_REASONING) return json_pack("{s:s, s:s, s:[], s:o, s:s}", "id", a->item_id, "type", "reasoning",
                                                    "summary", "content", content, "status", status);
    return json_pack("{s:s, s:s, s:s, s:o, s:s}", "id", a->item_id, "type", "message", "role", "assistant", "content",
        content,
                     "status", status);
}

static void close_item(responses_answer *a, const char *status) {
    const bool is_text = a->open == ITEM_MESSAGE;
    if (a->open == ITEM_NONE) return;
    json_t *text = json_stringn(a->text.data ? a->text.data : "", a->text.len);
    send_inside(a, is_text ? "response.output_text.done" : "response.reasoning_text.done", is_text
                ? json_pack("{s:o, s:o}", "text", text, "logprobs", logprobs_of(a->logprobs))
                    : json_pack("{s:o}", "text", text));
    send_inside(a, "response.content_part.done", json_pack("{s:o}", "part", part_json(a, false)));
    json_t *item = item_json(a, status, json_pack("[o]", part_json(a, false)));
    send_item(a, "response.output_item.done", item);
    json_array_append_new(a->output, item);
    buf_clear(&a->text);
    json_decref(a->logprobs);
    a->logprobs = NULL;
    a->open = ITEM_NONE;
}

static void open_item(responses_answer *a, enum item_kind kind) {
    close_item(a, "completed");
    a->open = kind;
    api_new_id(a->s, kind == ITEM_MESSAGE ? "msg_" : "rs_", a->item_id, sizeof a->item_id);
    json_t *item = item_json(a, "in_progress", json_array());
    send_item(a, "response.output_item.added", item);
    json_decref(item);
    send_inside(a, "response.content_part.added", json_pack("{s:o}", "part", part_json(a, true)));
}

static void note_logprobs(responses_answer *a, const json_t *list) {
    if (!list) return;
    if (!a->logprobs) a->logprobs = json_array();
    json_array_extend(a->logprobs, (json_t *)(uintptr_t)list);
}

static void add_text(responses_answer *a, enum item_kind kind, const job_event *ev) {
    if (!ev->n_bytes) return;
    if (a->open != kind) open_item(a, kind);
    buf_add(&a->text, ev->text, ev->n_bytes, NULL);
    note_logprobs(a, ev->logprobs);
    json_t *delta = json_stringn(ev->text, ev->n_bytes);
    if (kind == ITEM_REASONING) send_inside(a, "response.reasoning_text.delta", json_pack("{s:o}", "delta", delta));
    else send_inside(a, "response.output_text.delta",
        json_pack("{s:o, s:o}", "delta", delta, "logprobs", logprobs_of(ev->logprobs)));
}

static json_t *call_json(const char *id, const char *call_id, const char *name, const char *arguments, const char *status) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "id", id, "type", "function_call", "call_id", call_id, "name", name,
                     "arguments", arguments, "status", status);
}

static void add_call(responses_answer *a, const job_event *ev) {
    char call_id[64], id[64];
    close_item(a, "completed");
    api_new_id(a->s, "fc_", id, sizeof id);
    api_new_id(a->s, "call_", call_id, sizeof call_id);
    json_t *item = call_json(id, call_id, ev->name, "", "in_progress");
    send_item(a, "response.output_item.added", item);
    json_decref(item);
    send(a, "response.function_call_arguments.delta",
        json_pack("{s:s, s:I, s:s}", "item_id", id, "output_index", at(a), "delta",
         ev->arguments));
    send(a, "response.function_call_arguments.done", json_pack("{s:s, s:I, s:s, s:s}", "item_id", id, "output_index", at(a),
         "name", ev->name, "arguments", ev->arguments));
    item = call_json(id, call_id, ev->name, ev->arguments, "completed");
    send_item(a, "response.output_item.done", item);
    json_array_append_new(a->output, item);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

static void set(responses_answer *a, const char *key, json_t *value) { json_object_set_new(a->response, key, value); }

static void set_failed(responses_answer *a, const ern_err *why) {
    set(a, "status", json_string("failed"));
    set(a, "error", json_pack("{s:s, s:s}", "code", why->code == ERN_ARG || why->code == ERN_LIMIT ? "invalid_prompt"
                              : "server_error", "message", why->text));
}

/* The client hears how it ended. A failure before anything was sent is a plain error. */
static void reply_end(responses_answer *a, const ern_err *failure) {
    const char *status = json_string_value(json_object_get(a->response, "status"));
    if (a->is_background) return;               /* replied long ago */
    if (a->stream) {
        send_response(a, strcmp(status, "completed") == 0 ? "response.completed" : strcmp(status, "incomplete") == 0
                      ? "response.incomplete" : "response.failed");
        http_stream_end(a->stream);
        a->stream = NULL;
    } else if (failure) {
        const api_error why = { .e = *failure };
        api_refuse(a->r, &why);
    } else http_reply_json(a->r, 200, json_incref(a->response));
}

static void forget_running(responses_answer *a) {
    if (a->is_known) store_end(api_store(a->s), a->id);
    a->is_known = false;
}

static void on_stored(void *ctx, const ern_err *why) {
    responses_answer *a = ctx;
    forget_running(a);
    if (why) set_failed(a, why);                /* what cannot be stored was not done */
    reply_end(a, why);
    http_give(a->r);
}

static bool put(responses_answer *a, store_done done, ern_err *e) {
    const store_entry entry = { .id = a->id, .tenant = responses_tenant(a->r), .previous = a->previous, .created =
                                (long)json_number_value(json_object_get(a->response, "created_at")), .response = a->response,
                                .input = a->input };
    http_keep(a->r);
    if (store_put(api_store(a->s), &entry, done, a, e)) return true;
    http_give(a->r);
    return false;
}

static void finish(responses_answer *a, const ern_err *failure) {
    ern_err why = { 0 };
    if (a->is_stored && (!failure || a->is_background)) {       /* a failure that the client hears of is not kept */
        if (put(a, on_stored, &why)) return;
        set_failed(a, &why);
        failure = &why;
    }
    forget_running(a);
    reply_end(a, failure);
}

static void end_answer(responses_answer *a, const job_event *ev) {
    const bool is_cut = ev->finish == JOB_LENGTH;
    note_logprobs(a, a->open == ITEM_MESSAGE ? ev->logprobs : NULL);
    close_item(a, is_cut ? "incomplete" : "completed");
    set(a, "status", json_string(is_cut ? "incomplete" : "completed"));
    if (is_cut) set(a, "incomplete_details", json_pack("{s:s}", "reason", "max_output_tokens"));
    else set(a, "completed_at", json_integer((json_int_t)wire_now()));
    set(a, "usage", json_pack("{s:I, s:{s:I, s:I}, s:I, s:{s:I}, s:I}", "input_tokens", (json_int_t)ev->n_prompt,
        "input_tokens_details", "cached_tokens", (json_int_t)ev->n_cached, "cache_write_tokens", (json_int_t)0,
            "output_tokens",
        (json_int_t)ev->n_tokens, "output_tokens_details", "reasoning_tokens", (json_int_t)ev->n_reasoning_tokens,
        "total_tokens", (json_int_t)(ev->n_prompt + ev->n_tokens)));
    finish(a, NULL);
}

static void fail_answer(responses_answer *a, const ern_err *why) {
    pthread_mutex_lock(&a->lock);
    const bool is_cancelled = a->is_cancelled;
    pthread_mutex_unlock(&a->lock);
    close_item(a, "incomplete");
    if (is_cancelled) set(a, "status", json_string("cancelled"));
    else set_failed(a, why);
    finish(a, is_cancelled && !a->stream && !a->is_background ? NULL : why);
}

static void begin(responses_answer *a, const job_event *ev) {
    if (ev->n_dropped_turns) set(a, "dropped_turns", json_integer((json_int_t)ev->n_dropped_turns));
    set(a, "status", json_string("in_progress"));
    if (!a->streams || !(a->stream = http_stream_open(a->r, 200, "text/event-stream"))) return;
    send_response(a, "response.created");
    send_response(a, "response.in_progress");
}

void responses_on_event(void *ctx, const job_event *ev) {
    responses_answer *a = ctx;
    pthread_mutex_lock(&a->lock);               /* not before responses_start is through */
    pthread_mutex_unlock(&a->lock);
    switch (ev->kind) {
    case JOB_STARTED: begin(a, ev); break;
    case JOB_CONTENT: add_text(a, ITEM_MESSAGE, ev); break;
    case JOB_REASONING: add_text(a, ITEM_REASONING, ev); break;
    case JOB_TOOL_CALL: add_call(a, ev); break;
    case JOB_DONE: end_answer(a, ev); break;
    case JOB_FAILED: fail_answer(a, ev->error); break;
    }
}

/* ---- start -------------------------------------------------------------------------------------------- */

static void cancel(void *ctx) {
    responses_answer *a = ctx;
    pthread_mutex_lock(&a->lock);
    a->is_cancelled = true;
    if (a->running) api_cancel(a->running);
    pthread_mutex_unlock(&a->lock);
}

/* A background answer's first state is on the disk: the client may go. */
static void on_queued(void *ctx, const ern_err *why) {
    responses_answer *a = ctx;
    if (why) {
        const api_error refused = { .e = *why };
        cancel(a);
        api_refuse(a->r, &refused);
    } else http_reply_json(a->r, 200, json_incref(a->first));
    http_give(a->r);
}

bool responses_start(responses_answer *a, job_params *p, ern_err *e) {
    api_error why = { 0 };
    p->on_event = responses_on_event;
    p->ctx = a;
    if (a->is_background && !(a->first = json_deep_copy(a->response)))
        return ern_fail(e, ERN_NOMEM, "no memory for a response");
    if (a->is_stored && !(a->is_known = store_begin(api_store(a->s), a->id, responses_tenant(a->r), cancel, a, e)))
        return false;
    pthread_mutex_lock(&a->lock);
    a->running = api_begin(a->s, a->r, p, e);
    const bool ok = a->running != NULL;
    /* the job has begun and owns the model: it ends by itself */
    if (ok && a->is_background && !put(a, on_queued, &why.e)) {
        a->is_cancelled = true;
        api_refuse(a->r, &why);
    }
    if (ok && a->is_cancelled) api_cancel(a->running);
    pthread_mutex_unlock(&a->lock);
    if (!ok) forget_running(a);
    return ok;
}
