/* Stored responses of OpenAI's Responses API: GET, DELETE, their input items, and cancel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_responses.h"
#include "server/api_sampling.h"

#define DEFAULT_LIMIT 20
#define MAX_LIMIT 100

static const char *status_of(const json_t *response) { return json_string_value(json_object_get(response, "status")); }

/* Stored as being written, but nobody writes it: the process that did was killed. */
static void mark_lost(ern_server *s, http_request *r, const char *id, json_t *response) {
    const char *status = status_of(response);
    if (!status || (strcmp(status, "queued") != 0 && strcmp(status, "in_progress") != 0)) return;
    if (store_is_live(api_store(s), id, responses_tenant(r))) {
        json_object_set_new(response, "status", json_string("in_progress"));
        return;
    }
    json_object_set_new(response, "status", json_string("failed"));
    json_object_set_new(response, "error", json_pack("{s:s, s:s}", "code", "server_error", "message",
                        "the server stopped before the answer was complete"));
}

/* Looked up twice if need be: between the first look and the question who writes it, it may have been completed. */
static json_t *find(ern_server *s, http_request *r, const char *id, ern_err *e) {
    json_t *entry = store_get(api_store(s), id, responses_tenant(r), e);
    const char *status = status_of(json_object_get(entry, "response"));
    const bool is_open = status && (strcmp(status, "queued") == 0 || strcmp(status, "in_progress") == 0);
    if (is_open && !store_is_live(api_store(s), id, responses_tenant(r))) {
        json_decref(entry);
        entry = store_get(api_store(s), id, responses_tenant(r), e);
    }
    if (entry) mark_lost(s, r, id, json_object_get(entry, "response"));
    return entry;
}

static void get(void *ctx, http_request *r) {
    api_error why = { 0 };
    const char *stream = http_query(r, "stream");
    if (stream && strcmp(stream, "true") == 0) {
        api_fail(&why, "stream", "a stored response is not streamed again");
        api_refuse(r, &why);
        return;
    }
    json_t *entry = find(ctx, r, http_part(r, "id"), &why.e);
    if (entry) http_reply_json(r, 200, json_incref(json_object_get(entry, "response")));
    else api_refuse(r, &why);
    json_decref(entry);
}

static void delete(void *ctx, http_request *r) {
    ern_server *s = ctx;
    api_error why = { 0 };
    const char *id = http_part(r, "id");
    bool ok = !store_is_live(api_store(s), id, responses_tenant(r));
    if (!ok) api_fail(&why, "id", "the response is still being written; cancel it first");
    ok = ok && store_delete(api_store(s), id, responses_tenant(r), &why.e);
    if (ok) http_reply_json(r, 200, json_pack("{s:s, s:s, s:b}", "id", id, "object", "response", "deleted", 1));
    else api_refuse(r, &why);
}

static void cancel(void *ctx, http_request *r) {
    ern_server *s = ctx;
    api_error why = { 0 };
    const char *id = http_part(r, "id");
    json_t *entry = find(s, r, id, &why.e);
    json_t *response = json_object_get(entry, "response");
    const bool is_background = json_is_true(json_object_get(response, "background"));
    if (entry && !is_background) api_fail(&why, "id", "only a response in the background can be cancelled");
    if (!entry || !is_background) api_refuse(r, &why);
    else {
        if (store_cancel(api_store(s), id, responses_tenant(r)))
            json_object_set_new(response, "status", json_string("cancelled"));
        http_reply_json(r, 200, json_incref(response));
    }
    json_decref(entry);
}

/* ---- input items ------------------------------------------------------------------------------------- */

static bool read_limit(http_request *r, size_t *limit, api_error *why) {
    const char *text = http_query(r, "limit");
    char *end = NULL;
    const long n = text ? strtol(text, &end, 10) : DEFAULT_LIMIT;
    if (text && (end == text || *end || n < 1 || n > MAX_LIMIT))
        return api_fail(why, "limit", "found \"%.40s\", 1 to %d wanted", text, MAX_LIMIT);
    *limit = (size_t)n;
    return true;
}

/* The items of one page; all: the oldest first. New, or NULL: after names none of them. */
static json_t *page_of(const json_t *all, bool is_ascending, const char *after, size_t limit, bool *has_more) {
    const size_t n = json_array_size(all);
    json_t *data = json_array();
    bool is_past = !after;
    *has_more = false;
    for (size_t k = 0; k < n; k++) {
        json_t *item = json_array_get(all, is_ascending ? k : n - 1 - k);
        const char *id = json_string_value(json_object_get(item, "id"));
        if (!is_past) { is_past = id && strcmp(id, after) == 0; continue; }
        if (json_array_size(data) == limit) { *has_more = true; break; }
        json_array_append(data, item);
    }
    if (is_past) return data;
    json_decref(data);
    return NULL;
}

static void input_items(void *ctx, http_request *r) {
    api_error why = { 0 };
    ern_server *s = ctx;
    size_t limit = DEFAULT_LIMIT;
    bool has_more = false;
    const char *order = http_query(r, "order"), *after = http_query(r, "after");
    const bool is_ascending = order && strcmp(order, "asc") == 0;
    json_t *entry = NULL, *all = NULL, *data = NULL;
    bool ok = read_limit(r, &limit, &why);
    if (ok && order && !is_ascending && strcmp(order, "desc") != 0)
        ok = api_fail(&why, "order", "found \"%.20s\", asc or desc wanted", order);
    ok = ok && (entry = store_get(api_store(s), http_part(r, "id"), responses_tenant(r), &why.e));
    const char *previous = json_string_value(json_object_get(entry, "previous"));
    ok = ok && (all = previous ? store_chain(api_store(s), previous, responses_tenant(r), &why.e) : json_array());
    ok = ok && json_array_extend(all, json_object_get(entry, "input")) == 0;
    if (ok && !(data = page_of(all, is_ascending, after, limit, &has_more)))
        ok = api_fail(&why, "after", "no item has the id \"%.60s\"", after);
    if (ok) {
        const json_t *first = json_array_get(data, 0), *last = json_array_get(data, json_array_size(data) - 1);
        http_reply_json(r, 200, json_pack("{s:s, s:O, s:s?, s:s?, s:b}", "object", "list", "data", data, "first_id",
                        json_string_value(json_object_get(first, "id")), "last_id",
                        json_string_value(json_object_get(last, "id")), "has_more", has_more));
    } else api_refuse(r, &why);
    json_decref(data);
    json_decref(all);
    json_decref(entry);
}

const http_route api_stored_routes[] = {
    { "GET", "/v1/responses/{id}/input_items", input_items, "chat", false },
    { "POST", "/v1/responses/{id}/cancel", cancel, "chat", false },
    { "GET", "/v1/responses/{id}", get, "chat", false },
    { "DELETE", "/v1/responses/{id}", delete, "chat", false },
    { 0 },
};
