/* What the API files share: the server behind a request, jobs tied to their request, errors in OpenAI's form, usage.
 *
 *     static void chat(void *ctx, http_request *r) {          ctx is the ern_server
 *         ern_server *s = ctx;
 *         api_error why = { 0 };
 *         const json_t *body = http_json(r, &why.e);
 *         if (!body || !params_read(&table, body, &wishes, why.param, &why.e)) { api_refuse(r, &why); return; }
 *         server_model *model = models_take(api_models(s), wishes.model, &why.e);
 *         ...
 *         job_defaults(&p, model); p.on_event = on_event; p.ctx = my;      my: http_attach'ed to r
 *         if (!api_start(s, r, &p, &why.e)) { models_give(api_models(s), model); api_refuse(r, &why); }
 *     }
 *
 * A table of routes: const http_route api_NAME_routes[] = { { "POST", "/...", handler, "scope" }, { 0 } }; and one line in
 * API_MAP here. Scopes: chat, completions, embeddings, models, tokenize, metrics. */
#ifndef SERVER_API_H
#define SERVER_API_H

#include "server/job.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/params.h"
#include "server/server.h"
#include "server/store.h"

/* Every API: its table of routes is api_NAME_routes. */
#define API_MAP(X) X(openai) X(completions) X(embeddings) X(models) X(tokens) X(admin) \
    X(anthropic) X(ollama) X(ollama_models) X(responses) X(stored)

#define X(name) extern const http_route api_##name##_routes[];
API_MAP(X)
#undef X

typedef struct { ern_err e; char param[PARAM_NAME_BYTES]; } api_error;

server_models *api_models(ern_server *s);
server_metrics *api_metrics(ern_server *s);
response_store *api_store(ern_server *s);
const server_options *api_options(ern_server *s);
bool api_is_draining(ern_server *s);
double api_now(void);               /* seconds, steady */
void api_new_id(ern_server *s, const char *prefix, char *out, size_t n);       /* "chatcmpl-..." */

/* OpenAI's error object (new) and its reply. A prompt too long is 400, not 413; BUSY gets Retry-After. */
int api_status(const ern_err *e);
json_t *api_error_json(const api_error *why);
void api_refuse(http_request *r, const api_error *why);

/* job_start for a request: key, tenant and priority are those of r; the job is cancelled when the client leaves and freed
 * after its last event. p->on_event and p->ctx get the events; r is kept until then. Metrics and quotas are counted. On
 * failure the model is not given back. */
bool api_start(ern_server *s, http_request *r, const job_params *p, ern_err *e);
/* The same with a handle for those who may cancel; it lives as long as r. */
typedef struct api_running api_running;
api_running *api_begin(ern_server *s, http_request *r, const job_params *p, ern_err *e);
void api_cancel(api_running *x);            /* over already: nothing happens */

/* {"prompt_tokens", "completion_tokens", "total_tokens", ..._details} (new) */
json_t *api_usage(size_t n_prompt, size_t n_cached, size_t n_answer, size_t n_reasoning);

/* Tokens for work without a job (embeddings): quotas and metrics. */
void api_charge(ern_server *s, http_request *r, size_t n_tokens);

#endif
