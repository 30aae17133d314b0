/* POST /v1/embeddings and /v1/rerank: inputs of any length, pooled over windows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "server/api_openai.h"
#include "server/api_sampling.h"

#define MAX_INPUTS 2048
#define MAX_DOCUMENTS 10000

struct wishes {
    const json_t *input;
    const char *model, *format, *user;
    param_int dimensions;
};

#define AT(member) offsetof(struct wishes, member)
static const param_spec specs[] = {
    { "input", PARAM_STRING | PARAM_ARRAY, .offset = AT(input),
      .items = PARAM_STRING | PARAM_INT | PARAM_ARRAY, .is_required = true,
      .help = "a text, texts, token ids, or arrays of them; of any length" },
    { "model", PARAM_STRING, .offset = AT(model) },
    { "encoding_format", PARAM_STRING, .choices = "float|base64", .offset = AT(format) },
    { "dimensions", PARAM_INT, .low = 1, .high = 1e6, .offset = AT(dimensions),
      .help = "the first of the numbers, scaled to length 1" },
    { "user", PARAM_STRING, .offset = AT(user) },
};
const param_table api_embeddings_table = { specs, PARAM_COUNT(specs), NULL };
#undef AT

struct rerank_wishes {
    const char *model, *query;
    const json_t *documents;
    param_int top_n;
    param_flag returns_documents;
};

#define AT(member) offsetof(struct rerank_wishes, member)
static const param_spec rerank_specs[] = {
    { "model", PARAM_STRING, .offset = AT(model) },
    { "query", PARAM_STRING, .offset = AT(query), .is_required = true },
    { "documents", PARAM_ARRAY, .low = 1, .high = MAX_DOCUMENTS, .offset = AT(documents),
      .items = PARAM_STRING | PARAM_OBJECT, .is_required = true, .help = "texts, or {\"text\"}" },
    { "top_n", PARAM_INT, .low = 1, .high = MAX_DOCUMENTS, .offset = AT(top_n) },
    { "return_documents", PARAM_FLAG, .offset = AT(returns_documents) },
};
const param_table api_rerank_table = { rerank_specs, PARAM_COUNT(rerank_specs), NULL };
#undef AT

/* ---- vectors --------------------------------------------------------------------------------------------------------- */

static bool count_tokens(const ern_engine *eng, const char *text, size_t n, size_t *n_tokens, ern_err *e) {
    ern_tokens t = { 0 };
    const bool ok = engine_encode(eng, text, n, TOKENIZER_PLAIN | TOKENIZER_ADD, &t, e);
    *n_tokens += t.n;
    ern_tokens_free(&t);
    return ok;
}

static bool embed_text(const ern_engine *eng, const char *text, size_t n, float *out, size_t *n_tokens, ern_err *e) {
    return count_tokens(eng, text, n, n_tokens, e) && ern_embed_windows(eng, text, n, out, NULL, e);
}

static bool embed_ids(const ern_engine *eng, const json_t *list, float *out, size_t *n_tokens, api_error *why) {
    int32_t *ids = NULL;
    size_t n = 0;
    if (!json_array_size(list)) return api_fail(why, "input", "at least one token wanted");
    if (!api_read_ids(list, ern_engine_n_vocab(eng), &ids, &n, "input", why)) return false;
    *n_tokens += n;
    const bool ok = engine_embed_ids(eng, ids, n, out, &why->e);
    free(ids);
    return ok;
}

static void scale_to_one(float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; sum > 0 && i < n; i++) x[i] = (float)((double)x[i] / sqrt(sum));
}

static json_t *base64(const void *bytes, size_t n) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *b = bytes;
    ern_buf out = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < n; i += 3) {
        const unsigned v = (unsigned)b[i] << 16 | (i + 1 < n ? (unsigned)b[i + 1] << 8 : 0u) | (i + 2 < n ? (unsigned)b[i + 2] : 0u);
        const char four[4] = { letters[v >> 18], letters[v >> 12 & 63], i + 1 < n ? letters[v >> 6 & 63] : '=',
                               i + 2 < n ? letters[v & 63] : '=' };
        ok = buf_add(&out, four, 4, NULL);
    }
    json_t *s = ok ? json_stringn(out.data ? out.data : "", out.len) : NULL;
    buf_deinit(&out);
    return s;
}

/* Little-endian floats, as every machine this runs on has them. */
static json_t *vector_json(const float *x, size_t n, bool is_base64) {
    if (is_base64) return base64(x, n * sizeof *x);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_real((double)x[i]));
    return list;
}

/* ---- embeddings ------------------------------------------------------------------------------------------------------- */

static bool embed_one(const ern_engine *eng, const json_t *one, size_t i, float *out, size_t *n_tokens, api_error *why) {
    if (json_is_array(one)) return embed_ids(eng, one, out, n_tokens, why);
    if (!json_is_string(one)) return api_fail(why, "input", "item %zu: a text or token ids wanted", i);
    if (!json_string_length(one)) return api_fail(why, "input", "item %zu: the text is empty", i);
    return embed_text(eng, json_string_value(one), json_string_length(one), out, n_tokens, &why->e);
}

static json_t *embed_all(const server_model *m, const struct wishes *w, size_t *n_tokens, api_error *why) {
    const size_t D = ern_engine_n_embed(m->eng), n_out = w->dimensions.is_given ? (size_t)w->dimensions.v : D;
    const bool is_one = json_is_string(w->input) || json_is_integer(json_array_get(w->input, 0));
    const size_t n = is_one ? 1 : json_array_size(w->input);
    const bool is_base64 = w->format && strcmp(w->format, "base64") == 0;
    if (n_out > D) { api_fail(why, "dimensions", "found %zu, the model has %zu", n_out, D); return NULL; }
    if (n == 0 || n > MAX_INPUTS) { api_fail(why, "input", "found %zu inputs, 1 to %d wanted", n, MAX_INPUTS); return NULL; }
    float *x = mem_zalloc(D, sizeof *x, "embedding", &why->e);
    json_t *list = x ? json_array() : NULL;
    for (size_t i = 0; list && i < n; i++) {
        if (!embed_one(m->eng, is_one ? w->input : json_array_get(w->input, i), i, x, n_tokens, why)) {
            json_decref(list);
            list = NULL;
            break;
        }
        if (n_out < D) scale_to_one(x, n_out);
        json_array_append_new(list, json_pack("{s:s, s:I, s:o}", "object", "embedding", "index", (json_int_t)i, "embedding",
                                              vector_json(x, n_out, is_base64)));
    }
    free(x);
    return list;
}

static void handle_embeddings(void *ctx, http_request *r) {
    ern_server *s = ctx;
    struct wishes w = { 0 };
    api_error why = { 0 };
    size_t n_tokens = 0;
    server_model *m = NULL;
    const json_t *body = http_json(r, &why.e);
    if (!body || !params_read(&api_embeddings_table, body, &w, why.param, &why.e) ||
        !(m = models_take(api_models(s), w.model, &why.e))) { api_refuse(r, &why); return; }
    json_t *list = embed_all(m, &w, &n_tokens, &why);
    if (list) {
        metrics_embedding(api_metrics(s), json_array_size(list), n_tokens);
        api_charge(s, r, n_tokens);
        http_reply_json(r, 200, json_pack("{s:s, s:o, s:s, s:{s:I, s:I}}", "object", "list", "data", list, "model", m->name,
                                          "usage", "prompt_tokens", (json_int_t)n_tokens, "total_tokens", (json_int_t)n_tokens));
    } else api_refuse(r, &why);
    models_give(api_models(s), m);
}

/* ---- rerank ----------------------------------------------------------------------------------------------------------- */

typedef struct { size_t index; double score; } ranked;

static int by_score(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static const json_t *document_text(const json_t *d) { return json_is_object(d) ? json_object_get(d, "text") : d; }

static bool rank(const server_model *m, const struct rerank_wishes *w, ranked *out, size_t *n_tokens, api_error *why) {
    const size_t D = ern_engine_n_embed(m->eng), n = json_array_size(w->documents);
    float *q = mem_zalloc(2 * D, sizeof *q, "embeddings", &why->e), *x = q ? q + D : NULL;
    bool ok = q && embed_text(m->eng, w->query, strlen(w->query), q, n_tokens, &why->e);
    if (ok) scale_to_one(q, D);
    for (size_t i = 0; ok && i < n; i++) {
        const json_t *text = document_text(json_array_get(w->documents, i));
        if (!json_is_string(text) || !json_string_length(text)) {
            ok = api_fail(why, "documents", "item %zu: a text, or {\"text\"}, not empty, wanted", i);
            break;
        }
        ok = embed_text(m->eng, json_string_value(text), json_string_length(text), x, n_tokens, &why->e);
        double dot = 0;
        if (ok) scale_to_one(x, D);
        for (size_t k = 0; ok && k < D; k++) dot += (double)q[k] * (double)x[k];
        out[i] = (ranked){ i, dot };
    }
    free(q);
    return ok;
}

static json_t *rank_json(const struct rerank_wishes *w, const ranked *list, size_t n) {
    json_t *out = json_array();
    const size_t n_shown = w->top_n.is_given && (size_t)w->top_n.v < n ? (size_t)w->top_n.v : n;
    for (size_t i = 0; i < n_shown; i++) {
        json_t *one = json_pack("{s:I, s:f}", "index", (json_int_t)list[i].index, "relevance_score", list[i].score);
        if (w->returns_documents.v)
            json_object_set_new(one, "document", json_pack("{s:O}", "text",
                                                           document_text(json_array_get(w->documents, list[i].index))));
        json_array_append_new(out, one);
    }
    return out;
}

static void handle_rerank(void *ctx, http_request *r) {
    ern_server *s = ctx;
    struct rerank_wishes w = { 0 };
    api_error why = { 0 };
    size_t n_tokens = 0;
    char id[48];
    server_model *m = NULL;
    const json_t *body = http_json(r, &why.e);
    if (!body || !params_read(&api_rerank_table, body, &w, why.param, &why.e) ||
        !(m = models_take(api_models(s), w.model, &why.e))) { api_refuse(r, &why); return; }
    const size_t n = json_array_size(w.documents);
    ranked *list = mem_zalloc(n, sizeof *list, "ranking", &why.e);
    if (list && rank(m, &w, list, &n_tokens, &why)) {
        qsort(list, n, sizeof *list, by_score);
        metrics_embedding(api_metrics(s), n + 1, n_tokens);
        api_charge(s, r, n_tokens);
        api_new_id(s, "rerank-", id, sizeof id);
        http_reply_json(r, 200, json_pack("{s:s, s:s, s:o, s:{s:I, s:I}}", "id", id, "model", m->name, "results",
                                          rank_json(&w, list, n), "usage", "prompt_tokens", (json_int_t)n_tokens,
                                          "total_tokens", (json_int_t)n_tokens));
    } else api_refuse(r, &why);
    free(list);
    models_give(api_models(s), m);
}

const http_route api_embeddings_routes[] = {
    { "POST", "/v1/embeddings", handle_embeddings, "embeddings", false },
    { "POST", "/v1/rerank", handle_rerank, "embeddings", false },
    { "POST", "/rerank", handle_rerank, "embeddings", false },
    { 0 },
};
