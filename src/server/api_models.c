/* GET /v1/models and /v1/models/{id}. */
#include <string.h>

#include "server/api.h"

static json_t *model_json(const json_t *m) {
    json_t *o = json_pack("{s:O, s:s, s:O, s:s}", "id", json_object_get(m, "name"), "object", "model", "created",
                          json_object_get(m, "created"), "owned_by", "ernie");
    static const char *const copied[] = { "is_open", "is_encoder", "n_ctx", "max_context", "n_vocab" };
    for (size_t i = 0; i < PARAM_COUNT(copied); i++) {
        json_t *v = json_object_get(m, copied[i]);
        if (v) json_object_set(o, copied[i], v);
    }
    json_t *n_ctx = json_object_get(m, "n_ctx");
    if (n_ctx) json_object_set(o, "max_model_len", n_ctx);       /* as FastDeploy's and vLLM's */
    return o;
}

static void list(void *ctx, http_request *r) {
    json_t *models = models_list(api_models(ctx)), *out = json_array(), *m;
    size_t i;
    json_array_foreach(models, i, m) json_array_append_new(out, model_json(m));
    json_decref(models);
    http_reply_json(r, 200, json_pack("{s:s, s:o}", "object", "list", "data", out));
}

static void one(void *ctx, http_request *r) {
    const char *id = http_part(r, "id");
    json_t *models = models_list(api_models(ctx)), *found = NULL, *m;
    size_t i;
    json_array_foreach(models, i, m)
        if (strcmp(json_string_value(json_object_get(m, "name")), id) == 0) found = model_json(m);
    json_decref(models);
    if (found) { http_reply_json(r, 200, found); return; }
    api_error why = { .param = "model" };
    ern_fail(&why.e, ERN_NOTFOUND, "model \"%.200s\" is not served here", id);
    api_refuse(r, &why);
}

const http_route api_models_routes[] = {
    { "GET", "/v1/models", list, "models", false },
    { "GET", "/v1/models/{id}", one, "models", false },
    { 0 },
};
