/* A job between an API and the scheduler: constraints, reasoning and tool calls taken apart, logprobs, usage. */
#include "server/job.h"

#include <stdlib.h>
#include <string.h>

#include "server/job_int.h"
#include "text/reason.h"

typedef struct {
    ern_job *j;
    size_t index, n_calls, n_tokens, n_reasoning;
    ern_reason *reason;
    json_t *logprobs;               /* of tokens whose text is not given out yet */
    ern_ids ids;                    /* with wants_ids */
    bool is_reasoning;              /* the token at hand gave reasoning */
} part;

struct ern_job {
    server_models *models;
    server_model *model;
    ern_constraint *constraint;
    uint64_t ticket;
    part *parts;                    /* [n_answers] */
    size_t n_answers, n_dropped, n_top;
    bool wants_logprobs, wants_ids, splits;
    ern_tokens prompt;              /* with wants_ids */
    void (*on_event)(void *ctx, const job_event *ev);
    void *ctx;
    const scheduler_event *now;     /* the event being handled */
};

static void send(part *p, job_event *ev) {
    const scheduler_event *s = p->j->now;
    ev->index = p->index;
    ev->n_prompt = s->n_prompt;
    ev->n_cached = s->n_cached;
    ev->n_tokens = p->n_tokens;
    ev->n_reasoning_tokens = p->n_reasoning;
    ev->n_dropped_turns = p->j->n_dropped;
    ev->wait_s = s->wait_s;
    ev->prefill_s = s->prefill_s;
    ev->decode_s = s->decode_s;
    p->j->on_event(p->j->ctx, ev);
}

static void send_text(part *p, enum job_event_kind kind, const char *text, size_t n) {
    char small[256], *copy = n < sizeof small ? small : malloc(n + 1);
    if (!copy) return;
    memcpy(copy, text, n);
    copy[n] = '\0';
    job_event ev = { .kind = kind, .text = copy, .n_bytes = n };
    json_t *logprobs = kind == JOB_CONTENT ? p->logprobs : NULL;
    ev.logprobs = logprobs;
    if (logprobs) p->logprobs = NULL;
    send(p, &ev);
    json_decref(logprobs);
    if (copy != small) free(copy);
}

/* A whole call as its JSON text: name and arguments, the latter as they were written. */
static void send_call(part *p, const char *text, size_t n) {
    json_t *call = json_loadb(text, n, 0, NULL);
    const char *name = json_string_value(json_object_get(call, "name"));
    json_t *arguments = json_object_get(call, "arguments");
    char *dump = json_is_string(arguments) ? NULL : arguments ? json_dumps(arguments, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    job_event ev = { .kind = JOB_TOOL_CALL, .name = name ? name : "", .call = p->n_calls++ };
    ev.arguments = json_is_string(arguments) ? json_string_value(arguments) : dump ? dump : "{}";
    send(p, &ev);
    free(dump);
    json_decref(call);
}

static bool on_reason(void *ctx, enum reason_kind kind, const char *text, size_t n) {
    part *p = ctx;
    if (kind == REASON_TOOL_CALL) send_call(p, text, n);
    else if (n) send_text(p, kind == REASON_REASONING ? JOB_REASONING : JOB_CONTENT, text, n);
    p->is_reasoning = kind == REASON_REASONING;
    return true;
}

/* ---- logprobs --------------------------------------------------------------------------------------- */

static json_t *bytes_of(const char *s, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) json_array_append_new(list, json_integer((unsigned char)s[i]));
    return list;
}

static json_t *logprob_of(const ern_job *j, int32_t id, float logprob) {
    ern_buf raw = { 0 };
    json_t *out = NULL;
    if (tokenizer_decode(j->model->eng->tokenizer, &id, 1, true, &raw, NULL)) {
        char *text = ern_detokenize(j->model->eng, &id, 1, true, NULL);
        /* JSON has no infinity: what is as good as impossible is written as the least that clients expect. */
        const double value = logprob > -9999.0f ? (double)logprob : -9999.0;
        if (text) out = json_pack("{s:s, s:f, s:o}", "token", text, "logprob", value, "bytes", bytes_of(raw.data
                ? raw.data : "", raw.len));
        free(text);
    }
    buf_deinit(&raw);
    return out;
}

static void note_logprobs(part *p, const ern_token_event *t) {
    if (!p->j->wants_logprobs || t->id < 0) return;
    json_t *entry = logprob_of(p->j, t->id, t->logprob), *top = json_array();
    for (size_t i = 0; entry && i < t->n_top && i < p->j->n_top; i++) json_array_append_new(top, logprob_of(p->j, t->top[i].id,
            t->top[i].logprob));
    if (!entry) { json_decref(top); return; }
    json_object_set_new(entry, "top_logprobs", top);
    if (!p->logprobs) p->logprobs = json_array();
    json_array_append_new(p->logprobs, entry);
}

/* ---- events ------------------------------------------------------------------------------------------ */

static void on_token(part *p, const ern_token_event *t) {
    if (t->id >= 0) {
        p->n_tokens++;
        p->n_reasoning += p->is_reasoning;
        if (p->j->wants_ids) ids_add(&p->ids, t->id, NULL);
    }
    if (!p->is_reasoning) note_logprobs(p, t);
    if (!t->n_bytes) return;
    if (p->j->splits) reason_feed(p->reason, t->text, t->n_bytes, NULL);
    else send_text(p, JOB_CONTENT, t->text, t->n_bytes);
}

static void on_done(part *p, const scheduler_event *s) {
    job_event ev = { .kind = JOB_DONE, .is_last = s->is_last };
    if (p->j->splits) reason_finish(p->reason, NULL);
    p->n_tokens = s->result->n_tokens;
    ev.finish = s->result->finish == ERN_FINISH_LENGTH ? JOB_LENGTH : s->result->finish == ERN_FINISH_STOP
        ? JOB_STOP_TEXT : JOB_STOP;
    if (p->n_calls && ev.finish != JOB_LENGTH) ev.finish = JOB_TOOL_CALLS;
    ev.stop = s->result->stop;
    ev.logprobs = p->logprobs;
    ev.ids = p->ids.id;
    ev.n_ids = p->ids.n;
    send(p, &ev);
}

static void on_event(void *ctx, const scheduler_event *s) {
    ern_job *j = ctx;
    part *p = &j->parts[s->index];
    j->now = s;
    if (s->kind == SCHEDULER_STARTED) {
        job_event ev = { .kind = JOB_STARTED, .ids = j->prompt.id, .n_ids = j->prompt.n };
        send(p, &ev);
    } else if (s->kind == SCHEDULER_TOKEN) on_token(p, s->token);
    else if (s->kind == SCHEDULER_DONE) on_done(p, s);
    else {
        job_event ev = { .kind = JOB_FAILED, .is_last = true, .error = s->error };
        send(p, &ev);
    }
}

/* ---- start --------------------------------------------------------------------------------------------- */

static bool is_strict(const json_t *tools) {
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool)
        if (json_is_true(json_object_get(json_object_get(tool, "function"), "strict"))) return true;
    return false;
}

/* What the calls have to look like: {"tools": [...], "is_required", "is_parallel"}, the text of CONSTRAIN_TOOLS. */
static char *tool_constraint(const job_params *p, ern_err *e) {
    json_t *list = json_array(), *tool;
    size_t i;
    json_array_foreach(p->tools, i, tool) {
        const json_t *f = json_object_get(tool, "function");
        const char *name = json_string_value(json_object_get(f, "name"));
        if (!name || (p->tool_choice == TOOLS_NAMED && strcmp(name, p->tool_name) != 0)) continue;
        json_t *one = json_pack("{s:s}", "name", name), *parameters = json_object_get(f, "parameters");
        /* Without "strict" a schema that cannot be decided is not worth a refusal unless calls are demanded. */
        if (parameters && (p->tool_choice != TOOLS_AUTO || json_is_true(json_object_get(f,
                "strict")))) json_object_set(one, "parameters", parameters);
        json_array_append_new(list, one);
    }
    const bool is_named_there = json_array_size(list) > 0;
    json_t *spec = json_pack("{s:o, s:b, s:b}", "tools", list, "is_required", p->tool_choice != TOOLS_AUTO,
                             "is_parallel", p->has_parallel_calls);
    char *text = is_named_there ? json_dumps(spec, JSON_COMPACT) : NULL;
    if (!is_named_there) ern_fail(e, ERN_ARG, "tool_choice: function \"%.100s\" is not among the tools", p->tool_name
                                  ? p->tool_name : "");
    json_decref(spec);
    return text;
}

static bool choose_constraint(ern_job *j, const job_params *p, ern_err *e) {
    const bool forces_tools = json_array_size(p->tools) && (p->tool_choice == TOOLS_REQUIRED ||
                                                            p->tool_choice == TOOLS_NAMED ||
                                                            (p->tool_choice == TOOLS_AUTO &&
                                                             (is_strict(p->tools) || !p->has_parallel_calls)));
    if (forces_tools && p->has_constraint) return ern_fail(e, ERN_ARG,
                                                           "response_format beside tools that must be called, or strict ones: one or the other");
    if (!json_array_size(p->tools) && (p->tool_choice == TOOLS_REQUIRED || p->tool_choice == TOOLS_NAMED))
        return ern_fail(e, ERN_ARG, "tool_choice: a call is demanded, but no tools are given");
    if (!forces_tools && !p->has_constraint) return true;
    char *text = forces_tools ? tool_constraint(p, e) : NULL;
    const char *given = p->constraint ? p->constraint : "";
    if (forces_tools && !text) return false;
    j->constraint = models_constraint(j->models, j->model, forces_tools ? CONSTRAIN_TOOLS : p->constraint_kind, text
                                      ? text : given,
                                      strlen(text ? text : given), e);
    free(text);
    return j->constraint != NULL;
}

static bool ends_in(const ern_buf *b, const char *tail) {
    size_t n = b->len;
    while (n && (b->data[n - 1] == '\n' || b->data[n - 1] == ' ')) n--;
    return n >= strlen(tail) && memcmp(b->data + n - strlen(tail), tail, strlen(tail)) == 0;
}

/* Reasoning that the prompt has begun is bounded by a budget and left out of what a constraint demands. */
static bool choose_thinking(const ern_job *j, const job_params *p, bool is_inside, scheduler_request *r, ern_tokens *close,
                            ern_err *e) {
    const ern_tokenizer *t = j->model->eng->tokenizer;
    const int32_t end = t ? tokenizer_find(t, "</think>") : -1;
    if (!is_inside || (!j->constraint && p->think_budget == SIZE_MAX)) return true;
    if (end < 0 && !j->constraint && !p->is_budget_firm) return true;
    if (end < 0)
        return ern_fail(e, ERN_ARG, "%s: the prompt begins with thinking, and model %s has no token \"</think>\" that ends it",
                        j->constraint ? "a constraint" : "a budget of thinking", j->model->name);
    r->constraint_after = j->constraint ? end : -1;
    if (p->think_budget == SIZE_MAX) return true;
    if (!ern_tokenize(j->model->eng, "\n", 1, false, close, e)) return false;
    ern_ids ids = { .id = close->id, .n = close->n, .cap = close->cap };
    const bool ok = ids_add(&ids, end, e);
    *close = (ern_tokens){ .id = ids.id, .n = ids.n, .cap = ids.cap };
    if (!ok) return false;
    r->think_end = end;
    r->think_budget = p->think_budget;
    r->think_close = close->id;
    r->n_think_close = close->n;
    return true;
}

static bool open_parts(ern_job *j, bool is_inside, ern_err *e) {
    if (!(j->parts = mem_zalloc(j->n_answers, sizeof *j->parts, "answers", e))) return false;
    for (size_t i = 0; i < j->n_answers; i++) {
        part *p = &j->parts[i];
        p->j = j;
        p->index = i;
        p->is_reasoning = is_inside && j->splits;
        if (j->splits && !(p->reason = reason_open(is_inside, on_reason, p, e))) return false;
    }
    return true;
}

static bool has_room(const job_params *p, size_t n_prompt, ern_err *e) {
    const size_t n_ctx = scheduler_n_ctx(p->model->scheduler), n = p->sampling.max_tokens;
    if (p->may_end_early || n == 0 || (n < n_ctx && n_prompt <= n_ctx - n)) return true;
    return ern_fail(e, ERN_LIMIT, "prompt of %zu tokens and an answer of up to %zu: the context of model %s holds %zu", n_prompt,
                    n, p->model->name, n_ctx);
}

static bool copy_tokens(ern_tokens *to, const ern_tokens *from, ern_err *e) {
    if (!(to->id = mem_zalloc(from->n + 1, sizeof *to->id, "prompt", e))) return false;
    memcpy(to->id, from->id, from->n * sizeof *to->id);
    to->n = to->cap = from->n;
    return true;
}

ern_job *job_start(server_models *models, const job_params *p, ern_err *e) {
    scheduler_request r;
    ern_tokens ids = { 0 }, close = { 0 };
    ern_buf text = { .max = (size_t)1 << 30 };
    bool ok = false;
    if (!p->model->scheduler) {
        ern_fail(e, ERN_ARG, "model %s is an encoder: it gives embeddings and writes no text", p->model->name);
        return NULL;
    }
    ern_job *j = mem_zalloc(1, sizeof *j, "job", e);
    if (!j) return NULL;
    *j = (ern_job){ .models = models, .model = p->model, .n_answers = p->n_answers ? p->n_answers : 1,
                    .wants_logprobs = p->wants_logprobs,
                    .wants_ids = p->wants_ids, .n_top = p->sampling.n_logprobs, .splits = p->splits_reasoning,
                    .on_event = p->on_event, .ctx = p->ctx };
    scheduler_request_defaults(p->model->eng, &r);
    r.sampling = p->sampling;
    if (p->wants_logprobs && r.sampling.n_logprobs == 0) r.sampling.n_logprobs = 1;
    if (!job_begin(p, &ids, p->messages ? &text : NULL, &j->n_dropped, e) || !choose_constraint(j, p, e)) goto out;
    if (!has_room(p, ids.n, e)) goto out;
    if (p->wants_ids && !copy_tokens(&j->prompt, &ids, e)) goto out;
    const bool is_inside = ends_in(&text, "<think>");
    if (!open_parts(j, is_inside, e)) goto out;
    if (!choose_thinking(j, p, is_inside, &r, &close, e)) goto out;
    r.ids = ids.id;
    r.n_ids = ids.n;
    r.n_answers = j->n_answers;
    r.constraint = j->constraint;
    r.priority = p->priority;
    r.key = p->key;
    r.tenant = p->tenant;
    r.on_event = on_event;
    r.ctx = j;
    ok = (j->ticket = scheduler_submit(p->model->scheduler, &r, e)) != 0;
out:
    ern_tokens_free(&ids);
    ern_tokens_free(&close);
    buf_deinit(&text);
    if (ok) return j;
    j->model = NULL;            /* the caller still has it */
    if (j->constraint) models_give_constraint(models, p->model, j->constraint);
    j->constraint = NULL;
    job_free(j);
    return NULL;
}

void job_cancel(ern_job *j) { scheduler_cancel(j->model->scheduler, j->ticket); }

void job_free(ern_job *j) {
    if (!j) return;
    for (size_t i = 0; j->parts && i < j->n_answers; i++) {
        reason_close(j->parts[i].reason);
        json_decref(j->parts[i].logprobs);
        ids_deinit(&j->parts[i].ids);
    }
    if (j->constraint) models_give_constraint(j->models, j->model, j->constraint);
    if (j->model) models_give(j->models, j->model);
    ern_tokens_free(&j->prompt);
    free(j->parts);
    free(j);
}
