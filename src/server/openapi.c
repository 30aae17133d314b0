#include "server/openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "server/api_openai.h"
#include "server/server_int.h"

/* The tables of APIs that keep them to themselves but for this. */
extern const param_table anthropic_messages_table, anthropic_count_table, ollama_chat_table, ollama_generate_table,
    ollama_show_table, ollama_embed_table, ollama_embeddings_table, api_responses_table;

static const openapi_operation operations[] = {
    { "POST", "/v1/messages", "The next message of a conversation, Anthropic's form", &anthropic_messages_table, true },
    { "POST", "/v1/messages/count_tokens", "How many tokens that would be", &anthropic_count_table, false },
    { "POST", "/api/chat", "The next message of a conversation, Ollama's form", &ollama_chat_table, true },
    { "POST", "/api/generate", "A text goes on, Ollama's form", &ollama_generate_table, true },
    { "POST", "/api/show", "One model, Ollama's form", &ollama_show_table, false },
    { "POST", "/api/embed", "Texts as vectors, Ollama's form", &ollama_embed_table, false },
    { "POST", "/api/embeddings", "One text as a vector, Ollama's older form", &ollama_embeddings_table, false },
    { "GET", "/api/tags", "What is served, Ollama's form", NULL, false },
    { "GET", "/api/ps", "What is open, Ollama's form", NULL, false },
    { "GET", "/api/version", "The program's version, Ollama's form", NULL, false },
    { "POST", "/v1/responses", "An answer that is stored and can be gone on from", &api_responses_table, true },
    { "GET", "/v1/responses/{id}", "A stored answer", NULL, false },
    { "DELETE", "/v1/responses/{id}", "A stored answer is forgotten", NULL, false },
    { "GET", "/v1/responses/{id}/input_items", "What it answered to, page by page", NULL, false },
    { "POST", "/v1/responses/{id}/cancel", "An answer in the background ends", NULL, false },
    { "POST", "/v1/chat/completions", "The next message of a conversation", &api_chat_table, true },
    { "POST", "/v1/completions", "Texts go on", &api_completions_table, true },
    { "POST", "/v1/embeddings", "Texts as vectors", &api_embeddings_table, false },
    { "POST", "/v1/rerank", "Documents by how near they are to a query", &api_rerank_table, false },
    { "POST", "/rerank", "The same", &api_rerank_table, false },
    { "GET", "/v1/models", "What is served", NULL, false },
    { "GET", "/v1/models/{id}", "One of them", NULL, false },
    { "POST", "/tokenize", "A text or conversation as token ids", &api_tokenize_table, false },
    { "POST", "/detokenize", "Token ids as text", &api_detokenize_table, false },
    { "POST", "/apply-template", "A conversation as the model reads it", &api_template_table, false },
    { "GET", "/health", "The process answers", NULL, false },
    { "GET", "/ready", "Requests are taken", NULL, false },
    { "GET", "/metrics", "Counters for Prometheus", NULL, false },
    { "GET", "/props", "Limits and models", NULL, false },
    { "GET", "/openapi.json", "This document", NULL, false },
};

static const openapi_operation *find(const http_route *r) {
    for (size_t i = 0; i < PARAM_COUNT(operations); i++)
        if (strcmp(operations[i].method, r->method) == 0 && strcmp(operations[i].path, r->path) == 0) return &operations[i];
    return NULL;
}

static json_t *error_reply(const http_route *r, const char *text) {
    const char *schema = strncmp(r->path, "/v1/messages", 12) == 0 ? "#/components/schemas/AnthropicError"
                         : strncmp(r->path, "/api/", 5) == 0 ? "#/components/schemas/OllamaError" : "#/components/schemas/Error";
    return json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", text, "content", "application/json", "schema", "$ref", schema);
}

static json_t *replies(const http_route *r, const openapi_operation *o) {
    const bool is_text = strcmp(r->path, "/metrics") == 0;
    json_t *content = json_pack("{s:{s:{}}}", is_text ? "text/plain" : "application/json", "schema");
    if (o && o->streams) json_object_set_new(content, "text/event-stream", json_pack("{s:{s:s}}", "schema", "type", "string"));
    if (o && o->streams && strncmp(r->path, "/api/", 5) == 0) {
        json_object_del(content, "text/event-stream");
        json_object_set_new(content, "application/x-ndjson", json_pack("{s:{s:s}}", "schema", "type", "string"));
    }
    json_t *out = json_pack("{s:{s:s, s:o}}", "200", "description", "done", "content", content);
    if (strchr(r->path, '{')) json_object_set_new(out, "400", error_reply(r, "a parameter is wrong, or this cannot be done now"));
    if (strcmp(r->method, "GET") != 0) {
        json_object_set_new(out, "400", error_reply(r, "a parameter is wrong, unknown or not supported; param names it"));
        json_object_set_new(out, "408", error_reply(r, "the request took too long to arrive"));
        json_object_set_new(out, "413", error_reply(r, "the body is too large"));
        json_object_set_new(out, "501", error_reply(r, "the model lacks something"));
        json_object_set_new(out, "507", error_reply(r, "out of memory"));
    }
    if (strchr(r->path, '{') || o) json_object_set_new(out, "404", error_reply(r, "no such model or thing"));
    if (r->scope) {
        json_object_set_new(out, "401", error_reply(r, "no key, or an unknown one"));
        json_object_set_new(out, "403", error_reply(r, "the key does not allow this"));
        json_object_set_new(out, "429", error_reply(r, "too many requests or tokens; see Retry-After"));
    }
    json_object_set_new(out, "503", error_reply(r, "too much to do, or shutting down; see Retry-After"));
    return out;
}

/* The names in braces. */
static json_t *path_parameters(const char *path) {
    json_t *list = json_array();
    for (const char *p = strchr(path, '{'); p; p = strchr(p + 1, '{')) {
        const size_t n = strcspn(p + 1, "}");
        json_array_append_new(list, json_pack("{s:o, s:s, s:b, s:{s:s, s:i}}", "name", json_stringn(p + 1, n), "in", "path",
                                              "required", 1, "schema", "type", "string", "minLength", 1));
    }
    return list;
}

static json_t *operation_json(const http_route *r, const openapi_operation *o, bool needs_key) {
    json_t *x = json_pack("{s:s, s:o}", "summary", o ? o->summary : r->path, "responses", replies(r, o));
    json_t *parameters = path_parameters(r->path);
    if (json_array_size(parameters)) json_object_set(x, "parameters", parameters);
    json_decref(parameters);
    if (o && o->body)
        json_object_set_new(x, "requestBody", json_pack("{s:b, s:{s:{s:o}}}", "required", 1, "content", "application/json",
                                                        "schema", params_schema(o->body)));
    if (needs_key && r->scope) json_object_set_new(x, "security", json_pack("[{s:[]}, {s:[]}]", "bearer", "header"));
    return x;
}

json_t *openapi_document(ern_server *s) {
    json_t *paths = json_object();
    for (const http_route *r = server_routes_of(s); r->method; r++) {
        char method[16];
        size_t i = 0;
        json_t *path = json_object_get(paths, r->path);
        for (; r->method[i] && i + 1 < sizeof method; i++) method[i] = (char)tolower((unsigned char)r->method[i]);
        method[i] = '\0';
        if (!path) {
            json_object_set_new(paths, r->path, json_object());
            path = json_object_get(paths, r->path);
        }
        json_object_set_new(path, method, operation_json(r, find(r), server_keys_of(s) != NULL));
    }
    json_t *error = json_pack("{s:s, s:{s:{s:s, s:{s:{s:s}, s:{s:s}, s:{s:[ss]}, s:{s:[sss]}}, s:[ss]}}, s:[s]}", "type", "object",
                              "properties", "error", "type", "object", "properties", "message", "type", "string", "type",
                              "type", "string", "param", "type", "string", "null", "code", "type", "string", "integer", "null",
                              "required", "message", "type", "required", "error");
    json_t *anthropic = json_pack("{s:s, s:{s:{s:s}, s:{s:s, s:{s:{s:s}, s:{s:s}}, s:[ss]}}, s:[ss]}", "type", "object",
                                  "properties", "type", "const", "error", "error", "type", "object", "properties", "type",
                                  "type", "string", "message", "type", "string", "required", "type", "message", "required",
                                  "type", "error");
    json_t *ollama = json_pack("{s:s, s:{s:{s:s}}, s:[s]}", "type", "object", "properties", "error", "type", "string", "required",
                               "error");
    return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:{s:o, s:o, s:o}, s:{s:{s:s, s:s}, s:{s:s, s:s, s:s}}}}", "openapi", "3.1.0", "info",
                     "title", "ernie", "version", ERN_VERSION, "paths", paths, "components", "schemas", "Error", error,
                     "AnthropicError", anthropic, "OllamaError", ollama,
                     "securitySchemes", "bearer", "type", "http", "scheme", "bearer", "header", "type", "apiKey", "in",
                     "header", "name", "x-api-key");
}
