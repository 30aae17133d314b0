#include "server/api.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/server_int.h"

#define BUSY_RETRY_S "1"

/* ---- errors --------------------------------------------------------------------------------------------------- */

/* A prompt that does not fit is the client's mistake to mend, like a wrong parameter. */
int api_status(const ern_err *e) {
    if (e->code == ERN_LIMIT || e->code == ERN_FORMAT) return 400;
    if (e->code == ERN_STOPPED) return 503;
    return ern_code_http(e->code);
}

json_t *api_error_json(const api_error *why) {
    const int status = api_status(&why->e);
    const char *type = status == 401 ? "authentication_error" : status == 403 ? "permission_error"
                       : status == 404 ? "not_found_error" : status == 429 ? "rate_limit_error"
                       : status < 500 ? "invalid_request_error" : "server_error";
    const char *missing = strncmp(why->e.text, "model ", 6) == 0 ? "model_not_found" : "not_found";
    const char *code = why->e.code == ERN_LIMIT ? "context_length_exceeded" : status == 404 ? missing
                       : status == 503 ? "server_busy" : NULL;
    return json_pack("{s:{s:s, s:s, s:s?, s:s?}}", "error", "message", why->e.text, "type", type, "param",
                     *why->param ? why->param : NULL, "code", code);
}

void api_refuse(http_request *r, const api_error *why) {
    const int status = api_status(&why->e);
    if (status == 503) http_add_header(r, "Retry-After", BUSY_RETRY_S);
    http_reply_json(r, status, api_error_json(why));
}

/* ---- jobs ------------------------------------------------------------------------------------------------------ */

struct api_running {
    ern_server *s;
    http_request *r;
    pthread_mutex_t lock;               /* of job: the client may leave while it ends */
    ern_job *job;                       /* NULL: not started yet, or over */
    bool is_over, is_gone;
    void (*on_event)(void *ctx, const job_event *ev);
    void *ctx;
    double began, first;
    size_t max_tokens;
};

static void free_running(void *object) {
    api_running *x = object;
    pthread_mutex_destroy(&x->lock);
    free(x);
}

static void client_gone(void *ctx) {
    api_running *x = ctx;
    pthread_mutex_lock(&x->lock);
    x->is_gone = true;
    if (x->job) job_cancel(x->job);
    pthread_mutex_unlock(&x->lock);
}

static void count(api_running *x, const job_event *ev) {
    if (ev->kind != JOB_DONE) return;
    const metrics_answer_times t = {
        .n_prompt = ev->n_prompt, .n_cached = ev->n_cached, .n_answer = ev->n_tokens, .max_tokens = x->max_tokens,
        .wait_s = ev->wait_s, .prefill_s = ev->prefill_s, .decode_s = ev->decode_s,
        .first_s = (x->first > 0 ? x->first : api_now()) - x->began, .total_s = api_now() - x->began,
    };
    metrics_answer(api_metrics(x->s), &t);
    api_charge(x->s, x->r, ev->n_tokens + (ev->index == 0 ? ev->n_prompt : 0));
}

static void on_event(void *ctx, const job_event *ev) {
    api_running *x = ctx;
    if (x->first == 0 && ev->kind != JOB_STARTED && ev->kind != JOB_FAILED) x->first = api_now();
    count(x, ev);
    x->on_event(x->ctx, ev);
    if (!ev->is_last) return;
    pthread_mutex_lock(&x->lock);
    ern_job *job = x->job;
    x->job = NULL;
    x->is_over = true;
    pthread_mutex_unlock(&x->lock);
    job_free(job);                      /* NULL: api_start has not got it yet and frees it */
    http_give(x->r);
}

api_running *api_begin(ern_server *s, http_request *r, const job_params *p, ern_err *e) {
    job_params q = *p;
    api_running *x = mem_zalloc(1, sizeof *x, "request", e);
    if (!x) return NULL;
    *x = (api_running){ .s = s, .r = r, .on_event = p->on_event, .ctx = p->ctx, .began = api_now(), .max_tokens = p->sampling.max_tokens };
    pthread_mutex_init(&x->lock, NULL);
    if (!http_attach(r, x, free_running, e)) { free_running(x); return NULL; }
    const server_key *key = http_user(r);
    q.key = key ? keys_name(key) : http_client(r);
    q.tenant = keys_tenant(key);
    q.priority += keys_priority(key);
    q.on_event = on_event;
    q.ctx = x;
    http_keep(r);                       /* for the job's events */
    ern_job *job = job_start(api_models(s), &q, e);
    if (!job) { http_give(r); return NULL; }
    pthread_mutex_lock(&x->lock);
    const bool is_over = x->is_over;
    if (!is_over) x->job = job;
    pthread_mutex_unlock(&x->lock);
    if (is_over) job_free(job);
    http_on_gone(r, client_gone, x);    /* at once if it has left already */
    return x;
}

bool api_start(ern_server *s, http_request *r, const job_params *p, ern_err *e) { return api_begin(s, r, p, e) != NULL; }

void api_cancel(api_running *x) { client_gone(x); }

json_t *api_usage(size_t n_prompt, size_t n_cached, size_t n_answer, size_t n_reasoning) {
    return json_pack("{s:I, s:I, s:I, s:{s:I}, s:{s:I}}", "prompt_tokens", (json_int_t)n_prompt, "completion_tokens",
                     (json_int_t)n_answer, "total_tokens", (json_int_t)(n_prompt + n_answer), "prompt_tokens_details",
                     "cached_tokens", (json_int_t)n_cached, "completion_tokens_details", "reasoning_tokens",
                     (json_int_t)n_reasoning);
}

void api_charge(ern_server *s, http_request *r, size_t n_tokens) {
    if (server_keys_of(s)) keys_charge(server_keys_of(s), http_user(r), n_tokens, api_now());
}
