/* /health, /ready, /metrics, /props and the OpenAPI document. */
#include <string.h>

#include "base/buf.h"
#include "server/api.h"
#include "server/openapi.h"

static void health(void *ctx, http_request *r) {
    (void)ctx;
    http_reply_json(r, 200, json_pack("{s:s}", "status", "ok"));
}

/* Not while it drains: whoever spreads requests sends them elsewhere. */
static void ready(void *ctx, http_request *r) {
    if (api_is_draining(ctx)) http_reply_json(r, 503, json_pack("{s:s}", "status", "draining"));
    else http_reply_json(r, 200, json_pack("{s:s}", "status", "ready"));
}

static void metrics(void *ctx, http_request *r) {
    api_error why = { 0 };
    ern_buf text = { 0 };
    if (metrics_text(api_metrics(ctx), api_models(ctx), &text, &why.e))
        http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.len);
    else api_refuse(r, &why);
    buf_deinit(&text);
}

static void props(void *ctx, http_request *r) {
    const server_options *o = api_options(ctx);
    http_reply_json(r, 200, json_pack("{s:s, s:o, s:I, s:I, s:I, s:b}", "version", ERN_VERSION, "models",
                                      models_list(api_models(ctx)), "max_body_bytes", (json_int_t)o->http.max_body_bytes,
                                      "max_parallel", (json_int_t)o->models.scheduler.max_running, "max_queue",
                                      (json_int_t)o->models.scheduler.max_queue, "needs_key", o->keys_path != NULL));
}

static void document(void *ctx, http_request *r) { http_reply_json(r, 200, openapi_document(ctx)); }

const http_route api_admin_routes[] = {
    { "GET", "/health", health, NULL, true },
    { "GET", "/ready", ready, NULL, true },
    { "GET", "/metrics", metrics, "metrics", false },
    { "GET", "/props", props, "models", false },
    { "GET", "/openapi.json", document, NULL, false },
    { 0 },
};
