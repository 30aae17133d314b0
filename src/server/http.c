/* libmicrohttpd underneath: connections sleep (are suspended) while others compute for them. */
#include "server/http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define DEFAULT_BODY_BYTES ((size_t)32 << 20)
#define DEFAULT_CONNECTIONS 1024
#define DEFAULT_READ_S 60
#define DEFAULT_THREADS 4
#define HEAD_BYTES ((size_t)64 << 10)           /* memory a connection's head may take */
#define MAX_UNREAD_BYTES ((size_t)8 << 20)      /* of a stream whose client does not read */
#define MAX_PARTS 4
#define JSON_DEPTH_LIMIT 256
#define MAX_PEM_BYTES ((size_t)1 << 20)
#define WATCH_MS 100                            /* how soon a client that left is noticed */
#define DEFAULT_WORKERS 8
#define CLOSE_MS 500                            /* at the end, for last words */
#define POLL_BATCH 64

/* A connection as the watcher sees it; current: the request on it. All of them are in a list under the server's lock. */
typedef struct connection {
    struct connection *before, *after;
    int fd;
    double since;                           /* it began, or its last request was over */
    http_request *current;
} connection;

typedef struct attached { struct attached *next; void *object; void (*release)(void *); } attached;
typedef struct listener { struct listener *next; void (*gone)(void *); void *ctx; } listener;

struct http_server {
    struct MHD_Daemon *daemon;
    http_options o;
    const http_route *routes;
    char *cert, *key;
    unsigned port;
    uint64_t id_base;
    atomic_uint_fast64_t n_requests;
    atomic_size_t n_owners;                 /* itself until http_close, and every request that somebody keeps */
    pthread_mutex_t lock;                   /* of the list and the queue; taken before a request's lock */
    connection *connections;
    atomic_bool is_closing;
    pthread_t watcher, workers[DEFAULT_WORKERS];
    size_t n_workers;
    bool has_watcher;
    pthread_cond_t work;
    http_request *queue, **queue_end;       /* requests that wait for a worker */
};

struct http_request {
    http_server *h;
    struct MHD_Connection *connection;
    atomic_size_t n_owners;
    pthread_mutex_t lock;
    const http_route *route;
    char *method, *path, *parts[MAX_PARTS];
    const char *part_names[MAX_PARTS];
    size_t part_lengths[MAX_PARTS], n_parts;
    char id[40], client[64];
    ern_buf body;
    json_t *json;
    void *user;
    double began;
    bool is_rejected, is_suspended, is_queued;
    atomic_bool is_handled;                 /* its body is here; the watcher looks at it too */
    http_stream *stream;
    http_request *next;                     /* in the queue */
    connection *on;
    attached *objects;
    int status;
    size_t n_sent;
    struct MHD_Response *response;          /* ready to be queued */
    struct { char *name, *value; } headers[16];
    size_t n_headers;
    listener *listeners;
    atomic_bool is_gone;
    bool is_over, is_dropped;                  /* the client left; MHD knows the request no longer */
};

struct http_stream {
    http_request *r;
    atomic_size_t n_owners;                 /* the writer, and the response */
    pthread_mutex_t lock;
    ern_buf buf;
    size_t taken;
    bool is_suspended, is_ended, is_closed;
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- requests ------------------------------------------------------------------------------------- */

http_request *http_keep(http_request *r) {
    atomic_fetch_add(&r->n_owners, 1);
    return r;
}

static void server_give(http_server *h) {
    if (atomic_fetch_sub(&h->n_owners, 1) != 1) return;
    pthread_cond_destroy(&h->work);
    pthread_mutex_destroy(&h->lock);
    free(h->cert);
    free(h->key);
    free(h);
}

void http_give(http_request *r) {
    if (atomic_fetch_sub(&r->n_owners, 1) != 1) return;
    http_server *h = r->h;
    for (size_t i = 0; i < r->n_parts; i++) free(r->parts[i]);
    for (size_t i = 0; i < r->n_headers; i++) { free(r->headers[i].name); free(r->headers[i].value); }
    if (r->response) MHD_destroy_response(r->response);
    while (r->objects) {
        attached *a = r->objects;
        r->objects = a->next;
        a->release(a->object);
        free(a);
    }
    while (r->listeners) {
        listener *l = r->listeners;
        r->listeners = l->next;
        free(l);
    }
    json_decref(r->json);
    buf_deinit(&r->body);
    pthread_mutex_destroy(&r->lock);
    free(r->method);
    free(r->path);
    free(r);
    server_give(h);
}

static void note_client(http_request *r) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    if (a && a->sa_family == AF_INET) inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr,
                                                r->client, sizeof r->client);
    if (a && a->sa_family == AF_INET6) inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                                                 r->client, sizeof r->client);
}

static http_request *request_new(http_server *h, struct MHD_Connection *c, const char *method, const char *url) {
    http_request *r = mem_zalloc(1, sizeof *r, "request", NULL);
    if (!r) return NULL;
    *r = (http_request){ .h = h, .connection = c, .n_owners = 1, .began = now_s(), .body = { .max = h->o.max_body_bytes } };
    pthread_mutex_init(&r->lock, NULL);
    atomic_fetch_add(&h->n_owners, 1);
    snprintf(r->id, sizeof r->id, "req-%08llx%08llx", (unsigned long long)(h->id_base & 0xffffffff),
             (unsigned long long)atomic_fetch_add(&h->n_requests, 1));
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    r->on = info ? info->socket_context : NULL;
    r->method = mem_strndup(method, strlen(method), NULL);
    r->path = mem_strndup(url, strlen(url), NULL);
    if (!r->method || !r->path) { http_give(r); return NULL; }
    note_client(r);
    pthread_mutex_lock(&h->lock);
    if (r->on) r->on->current = r;
    pthread_mutex_unlock(&h->lock);
    return r;
}

/* Does the path fit the pattern? Parts in braces are remembered. */
static bool fits(http_request *r, const char *pattern, const char *path) {
    size_t n = 0;
    const char *from[MAX_PARTS];
    while (*pattern && *path) {
        if (*pattern == '{') {
            const char *close = strchr(pattern, '}');
            if (!close || n == MAX_PARTS) return false;
            r->part_names[n] = pattern + 1;
            r->part_lengths[n] = (size_t)(close - pattern - 1);
            from[n] = path;
            /* A name may hold slashes ("baidu/ERNIE"): the last part takes the rest. */
            const bool is_last = close[1] == '\0';
            while (*path && (is_last || *path != '/')) path++;
            if (path == from[n]) return false;
            r->parts[n] = mem_strndup(from[n], (size_t)(path - from[n]), NULL);
            if (!r->parts[n]) return false;
            r->n_parts = ++n;
            pattern = close + 1;
        } else if (*pattern++ != *path++) return false;
    }
    return !*pattern && !*path;
}

static void forget_parts(http_request *r) {
    for (size_t i = 0; i < r->n_parts; i++) free(r->parts[i]);
    r->n_parts = 0;
}

static const http_route *find_route(http_request *r, bool *is_path_known) {
    *is_path_known = false;
    for (const http_route *at = r->h->routes; at->method; at++) {
        if (fits(r, at->path, r->path)) {
            *is_path_known = true;
            if (strcmp(at->method, r->method) == 0) return at;
            if (strcmp(at->method, "GET") == 0 && strcmp(r->method, "HEAD") == 0) return at;
        }
        forget_parts(r);
    }
    return NULL;
}

const char *http_id(const http_request *r) { return r->id; }
const char *http_method(const http_request *r) { return r->method; }
const char *http_path(const http_request *r) { return r->path; }
const char *http_client(const http_request *r) { return r->client; }
void *http_user(const http_request *r) { return r->user; }

const char *http_part(const http_request *r, const char *name) {
    for (size_t i = 0; i < r->n_parts; i++)
        if (strlen(name) == r->part_lengths[i] && strncmp(name, r->part_names[i],
                                                          r->part_lengths[i]) == 0) return r->parts[i];
    return NULL;
}

const char *http_header(http_request *r, const char *name) { return MHD_lookup_connection_value(r->connection,
        MHD_HEADER_KIND, name); }
const char *http_query(http_request *r, const char *name) { return MHD_lookup_connection_value(r->connection,
        MHD_GET_ARGUMENT_KIND, name); }

const char *http_body(const http_request *r, size_t *n) {
    *n = r->body.len;
    return r->body.data ? r->body.data : "";
}

size_t http_body_bytes(const http_request *r) { return r->body.len; }

/* jansson limits depth to 2,048 by itself; a body nested deeper than what follows is refused before anybody recurses
 * into it. */
static bool is_too_deep(const char *s, size_t n) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string) {
            if (s[i] == '\\') i++;
            else if (s[i] == '"') in_string = false;
        } else if (s[i] == '"') in_string = true;
        else if (s[i] == '{' || s[i] == '[') { if (++depth > JSON_DEPTH_LIMIT) return true; }
        else if (s[i] == '}' || s[i] == ']') depth -= depth > 0;
    }
    return false;
}

const json_t *http_json(http_request *r, ern_err *e) {
    json_error_t bad;
    if (r->json) return r->json;
    if (r->body.len == 0) { ern_fail(e, ERN_ARG, "body: a JSON object wanted, the body is empty"); return NULL; }
    if (is_too_deep(r->body.data, r->body.len)) { ern_fail(e, ERN_ARG, "body: JSON nested deeper than %d",
                                                           JSON_DEPTH_LIMIT); return NULL; }
    json_t *v = json_loadb(r->body.data, r->body.len, JSON_REJECT_DUPLICATES, &bad);
    if (!v) { ern_fail_at(e, ERN_ARG, bad.line, bad.column, "body: line %d, column %d: %s", bad.line, bad.column,
                          bad.text); return NULL; }
    if (!json_is_object(v)) { json_decref(v); ern_fail(e, ERN_ARG, "body: a JSON object wanted"); return NULL; }
    return r->json = v;
}

bool http_attach(http_request *r, void *object, void (*release)(void *), ern_err *e) {
    attached *a = mem_zalloc(1, sizeof *a, "request", e);
    if (!a) return false;
    pthread_mutex_lock(&r->lock);
    *a = (attached){ r->objects, object, release };
    r->objects = a;
    pthread_mutex_unlock(&r->lock);
    return true;
}

void http_on_gone(http_request *r, void (*gone)(void *), void *ctx) {
    listener *l = mem_zalloc(1, sizeof *l, "request", NULL);
    pthread_mutex_lock(&r->lock);
    const bool is_late = r->is_gone;
    if (!is_late && l) {
        *l = (listener){ r->listeners, gone, ctx };
        r->listeners = l;
        l = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    free(l);
    if (is_late) gone(ctx);
}

/* The client has left, or the reply is complete (is_gone false): nobody is told twice. */
static void end_listeners(http_request *r, bool is_gone) {
    pthread_mutex_lock(&r->lock);
    listener *list = r->listeners;
    r->listeners = NULL;
    r->is_gone = true;
    pthread_mutex_unlock(&r->lock);
    while (list) {
        listener *l = list;
        list = l->next;
        if (is_gone) l->gone(l->ctx);
        free(l);
    }
}

/* ---- replies ---------------------------------------------------------------------------------------- */

void http_add_header(http_request *r, const char *name, const char *value) {
    if (r->n_headers == sizeof r->headers / sizeof r->headers[0]) return;
    char *n = mem_strndup(name, strlen(name), NULL), *v = mem_strndup(value, strlen(value), NULL);
    if (!n || !v) { free(n); free(v); return; }
    r->headers[r->n_headers].name = n;
    r->headers[r->n_headers++].value = v;
}

/* A response that is complete but for the headers that every reply has; the connection wakes to send it. */
static void put_response(http_request *r, int status, const char *type, struct MHD_Response *response) {
    if (!response) return;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Request-Id", r->id);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (r->h->o.cors_origin) MHD_add_response_header(response, "Access-Control-Allow-Origin", r->h->o.cors_origin);
    if (r->h->o.cors_origin) MHD_add_response_header(response, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    for (size_t i = 0; i < r->n_headers; i++) MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
    pthread_mutex_lock(&r->lock);
    if (r->response || r->is_queued || r->is_gone) {        /* a second reply, or nobody to send it to */
        pthread_mutex_unlock(&r->lock);
        MHD_destroy_response(response);
        return;
    }
    r->response = response;
    r->status = status;
    if (r->is_suspended && !r->is_over) {
        r->is_suspended = false;
        MHD_resume_connection(r->connection);
    }
    pthread_mutex_unlock(&r->lock);
}

void http_reply(http_request *r, int status, const char *type, const void *bytes, size_t n) {
    r->n_sent = n;
    put_response(r, status, type, MHD_create_response_from_buffer(n, (void *)(uintptr_t)bytes, MHD_RESPMEM_MUST_COPY));
}

void http_reply_json(http_request *r, int status, json_t *body) {
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    static const char failed[] = "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"code\":null,\"param\":null}}";
    if (text) http_reply(r, status, "application/json", text, strlen(text));
    else http_reply(r, 507, "application/json", failed, sizeof failed - 1);
    free(text);
    json_decref(body);
}

/* ---- streams ---------------------------------------------------------------------------------------- */

static void stream_give(http_stream *s) {
    if (atomic_fetch_sub(&s->n_owners, 1) != 1) return;
    http_give(s->r);
    buf_deinit(&s->buf);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static ssize_t read_stream(void *ctx, uint64_t pos, char *to, size_t max) {
    http_stream *s = ctx;
    ssize_t n = 0;
    (void)pos;
    pthread_mutex_lock(&s->lock);
    const size_t left = s->buf.len - s->taken;
    if (left) {
        n = (ssize_t)(left < max ? left : max);
        memcpy(to, s->buf.data + s->taken, (size_t)n);
        s->taken += (size_t)n;
        s->r->n_sent += (size_t)n;
        if (s->taken == s->buf.len) { buf_clear(&s->buf); s->taken = 0; }
    } else if (s->is_ended || atomic_load(&s->r->h->is_closing)) n = MHD_CONTENT_READER_END_OF_STREAM;
    else {
        s->is_suspended = true;
        MHD_suspend_connection(s->r->connection);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void stream_closed(void *ctx) {
    http_stream *s = ctx;
    pthread_mutex_lock(&s->r->lock);
    s->r->stream = NULL;
    pthread_mutex_unlock(&s->r->lock);
    pthread_mutex_lock(&s->lock);
    s->is_closed = true;
    pthread_mutex_unlock(&s->lock);
    stream_give(s);
}

http_stream *http_stream_open(http_request *r, int status, const char *type) {
    http_stream *s = mem_zalloc(1, sizeof *s, "stream", NULL);
    if (!s) return NULL;
    *s = (http_stream){ .r = http_keep(r), .n_owners = 2, .buf = { .max = MAX_UNREAD_BYTES } };
    pthread_mutex_init(&s->lock, NULL);
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, s,
                                                                      stream_closed);
    if (!response) { s->is_closed = true; stream_give(s); return s; }
    MHD_add_response_header(response, "Cache-Control", "no-cache");
    MHD_add_response_header(response, "X-Accel-Buffering", "no");
    pthread_mutex_lock(&r->lock);
    r->stream = s;
    pthread_mutex_unlock(&r->lock);
    put_response(r, status, type, response);
    return s;
}

static void wake_stream(http_stream *s) {
    if (!s->is_suspended) return;
    s->is_suspended = false;
    MHD_resume_connection(s->r->connection);
}

bool http_stream_write(http_stream *s, const void *bytes, size_t n) {
    if (!s) return false;
    pthread_mutex_lock(&s->lock);
    bool ok = !s->is_closed && !s->is_ended;
    if (ok && s->taken > s->buf.len / 2) {
        memmove(s->buf.data, s->buf.data + s->taken, s->buf.len - s->taken);
        s->buf.len -= s->taken;
        s->taken = 0;
    }
    if (ok && !buf_add(&s->buf, bytes, n, NULL)) {          /* the client does not read: let it go */
        s->is_ended = true;
        ok = false;
    }
    if (!s->is_closed) wake_stream(s);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

bool http_stream_event(http_stream *s, const char *event, json_t *data) {
    char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;
    ern_buf b = { 0 };
    bool ok = text != NULL;
    if (ok && event) ok = buf_str(&b, "event: ", NULL) && buf_str(&b, event, NULL) && buf_char(&b, '\n', NULL);
    ok = ok && buf_str(&b, "data: ", NULL) && buf_str(&b, text, NULL) && buf_str(&b, "\n\n", NULL) &&
        http_stream_write(s, b.data, b.len);
    free(text);
    buf_deinit(&b);
    json_decref(data);
    return ok;
}

void http_stream_end(http_stream *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->is_ended = true;
    if (!s->is_closed) wake_stream(s);
    pthread_mutex_unlock(&s->lock);
    stream_give(s);
}

/* Let MHD see that the client has gone: what sleeps is woken, with nothing to send. */
static void wake_gone(http_request *r) {
    pthread_mutex_lock(&r->lock);
    http_stream *s = r->stream;
    if (!r->is_over && r->is_suspended) {
        r->is_suspended = false;
        r->is_dropped = true;
        MHD_resume_connection(r->connection);
    }
    if (s) {
        pthread_mutex_lock(&s->lock);
        s->is_ended = true;
        if (!s->is_closed) wake_stream(s);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_unlock(&r->lock);
}

/* ---- the connection ----------------------------------------------------------------------------------- */

static void reject(http_request *r, const ern_err *why, unsigned retry_after_s) {
    const int status = ern_code_http(why->code);
    const char *type = status == 401 ? "authentication_error" : status == 403 ? "permission_error" : status == 404
        ? "not_found_error"
                       : status == 429 ? "rate_limit_error" : status < 500 ? "invalid_request_error" : "server_error";
    if (retry_after_s) {
        char text[16];
        snprintf(text, sizeof text, "%u", retry_after_s);
        http_add_header(r, "Retry-After", text);
    }
    r->is_rejected = true;
    json_t *own = r->h->o.refusal ? r->h->o.refusal(r->h->o.ctx, r, why, status) : NULL;
    http_reply_json(r, status, own ? own : json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", why->text, "type", type,
                                                     "param", "code"));
}

static bool is_declared_too_large(http_request *r, ern_err *e) {
    const char *text = http_header(r, "Content-Length");
    const unsigned long long n = text ? strtoull(text, NULL, 10) : 0;
    return n > r->h->o.max_body_bytes && !ern_fail(e, ERN_LIMIT, "body of %llu bytes: at most %zu are read", n,
                                                   r->h->o.max_body_bytes);
}

static void preflight(http_request *r) {
    http_add_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    http_add_header(r, "Access-Control-Allow-Headers",
                    "authorization, content-type, x-api-key, anthropic-version, anthropic-beta");
    http_add_header(r, "Access-Control-Max-Age", "86400");
    http_reply(r, 204, "text/plain", "", 0);
    r->is_rejected = true;
}

/* The methods that the path has. */
static void add_allowed(http_request *r) {
    char list[64] = "";
    size_t n = 0;
    for (const http_route *at = r->h->routes; at->method; at++) {
        if (fits(r, at->path, r->path) && n + strlen(at->method) + 3 < sizeof list)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", at->method);
        forget_parts(r);
    }
    http_add_header(r, "Allow", list);
}

/* The head is read: route, permission, size. A reply here means that the body is thrown away. */
static void begin(http_request *r) {
    ern_err why = { 0 };
    unsigned retry_after_s = 0;
    bool is_path_known;
    if (strcmp(r->method, "OPTIONS") == 0 && r->h->o.cors_origin) { preflight(r); return; }
    r->route = find_route(r, &is_path_known);
    if (!r->route) {
        ern_fail(&why, is_path_known ? ERN_METHOD : ERN_NOTFOUND, is_path_known ? "%s is not a method of %s"
                 : "%s %s: no such thing here", r->method, r->path);
        if (is_path_known) add_allowed(r);
        reject(r, &why, 0);
    } else if (is_declared_too_large(r, &why) || (r->h->o.admit && !r->h->o.admit(r->h->o.ctx, r, r->route, &r->user,
            &retry_after_s, &why)))
        reject(r, &why, retry_after_s);
}

static void take_body(http_request *r, const char *data, size_t n) {
    ern_err why = { 0 };
    if (r->is_rejected) return;
    if (now_s() - r->began > r->h->o.read_timeout_s) ern_fail(&why, ERN_TIMEOUT,
                                                              "the request took more than %u seconds to arrive",
                                                                  r->h->o.read_timeout_s);
    else if (n <= r->h->o.max_body_bytes - r->body.len && buf_add(&r->body, data, n, &why)) return;
    else if (why.code == ERN_OK) ern_fail(&why, ERN_LIMIT, "body: more than the %zu bytes that are read",
                                          r->h->o.max_body_bytes);
    reject(r, &why, 0);
}

static enum MHD_Result send_ready(http_request *r) {
    struct MHD_Response *response = r->response;
    r->response = NULL;
    r->is_queued = true;
    const enum MHD_Result result = MHD_queue_response(r->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    return result;
}

static void queue_request(http_request *r) {
    http_server *h = r->h;
    http_keep(r);
    pthread_mutex_lock(&h->lock);
    r->next = NULL;
    *h->queue_end = r;
    h->queue_end = &r->next;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
}

static enum MHD_Result access_handler(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                                      const char *version, const char *data, size_t *n_data, void **state) {
    http_request *r = *state;
    (void)version;
    if (!r) {
        if (!(r = *state = request_new(ctx, c, method, url))) return MHD_NO;
        begin(r);
        return MHD_YES;
    }
    if (*n_data) {
        take_body(r, data, *n_data);
        *n_data = 0;
        return MHD_YES;
    }
    const bool is_first = !r->is_handled && !r->is_rejected, is_quick = is_first && r->route->is_quick;
    r->is_handled = true;
    if (is_quick) r->route->handle(r->h->o.ctx, r);
    enum MHD_Result result = MHD_YES;
    pthread_mutex_lock(&r->lock);
    if (r->response) {
        pthread_mutex_unlock(&r->lock);
        return send_ready(r);
    }
    if (!r->is_queued) {
        if (r->is_dropped || atomic_load(&r->h->is_closing)) result = MHD_NO;
        else {
            r->is_suspended = true;
            MHD_suspend_connection(c);
        }
    }
    pthread_mutex_unlock(&r->lock);
    if (is_first && !is_quick && result == MHD_YES) queue_request(r);
    return result;
}

static void completed(void *ctx, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why) {
    http_request *r = *state;
    http_server *h = ctx;
    (void)c;
    if (!r) return;
    pthread_mutex_lock(&h->lock);
    if (r->on) {
        r->on->current = NULL;
        r->on->since = now_s();
    }
    pthread_mutex_lock(&r->lock);
    r->on = NULL;
    r->is_over = true;
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_unlock(&h->lock);
    const bool is_whole = why == MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->is_gone;
    end_listeners(r, !is_whole);
    if (h->o.done) h->o.done(h->o.ctx, r, is_whole ? r->status : 499, r->n_sent, now_s() - r->began);
    *state = NULL;
    http_give(r);
}

/* ---- connections: who left, who is too slow ------------------------------------------------------------- */

static void connected(void *ctx, struct MHD_Connection *c, void **state, enum MHD_ConnectionNotificationCode what) {
    http_server *h = ctx;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        connection *x = mem_zalloc(1, sizeof *x, "connection", NULL);
        if (!x || !info) { free(x); return; }
        *x = (connection){ .fd = info->connect_fd, .since = now_s() };
        pthread_mutex_lock(&h->lock);
        x->after = h->connections;
        if (x->after) x->after->before = x;
        h->connections = x;
        pthread_mutex_unlock(&h->lock);
        *state = x;
        return;
    }
    connection *x = *state;
    if (!x) return;
    pthread_mutex_lock(&h->lock);
    if (x->before) x->before->after = x->after;
    else h->connections = x->after;
    if (x->after) x->after->before = x->before;
    if (x->current) x->current->on = NULL;
    pthread_mutex_unlock(&h->lock);
    *state = NULL;
    free(x);
}

/* A sleeping connection is not read by anybody: its end shows only here. */
static bool has_hung_up(int fd) {
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* Under the server's lock. A request that still arrives, or none at all, for longer than it may: the socket is shut down,
 * and MHD does the rest. */
static void check_connection(const http_server *h, const connection *x, http_request **left, size_t *n_left) {
    const http_request *r = x->current;
    const double now = now_s(), limit = h->o.read_timeout_s;
    if (!r && now - x->since > limit) shutdown(x->fd, SHUT_RDWR);
    else if (r && !r->is_handled && now - r->began > limit) shutdown(x->fd, SHUT_RDWR);
    else if (r && r->is_handled && !r->is_gone && *n_left < POLL_BATCH && has_hung_up(x->fd))
        left[(*n_left)++] = http_keep(x->current);
}

static void *watch(void *arg) {
    http_server *h = arg;
    while (!atomic_load(&h->is_closing)) {
        http_request *left[POLL_BATCH];
        size_t n_left = 0;
        const struct timespec pause = { 0, WATCH_MS * 1000000L };
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&h->lock);
        for (const connection *x = h->connections; x; x = x->after) check_connection(h, x, left, &n_left);
        pthread_mutex_unlock(&h->lock);
        for (size_t i = 0; i < n_left; i++) {
            end_listeners(left[i], true);
            wake_gone(left[i]);
            http_give(left[i]);
        }
    }
    return NULL;
}

static void *serve_queue(void *arg) {
    http_server *h = arg;
    for (;;) {
        pthread_mutex_lock(&h->lock);
        while (!h->queue && !atomic_load(&h->is_closing)) pthread_cond_wait(&h->work, &h->lock);
        http_request *r = h->queue;
        if (r && !(h->queue = r->next)) h->queue_end = &h->queue;
        pthread_mutex_unlock(&h->lock);
        if (!r) return NULL;
        pthread_mutex_lock(&r->lock);
        const bool is_wanted = !r->is_gone;
        pthread_mutex_unlock(&r->lock);
        if (is_wanted && !atomic_load(&h->is_closing)) r->route->handle(h->o.ctx, r);
        http_give(r);
    }
}

static bool start_threads(http_server *h, ern_err *e) {
    h->has_watcher = pthread_create(&h->watcher, NULL, watch, h) == 0;
    for (size_t i = 0; h->has_watcher && i < DEFAULT_WORKERS; i++) {
        if (pthread_create(&h->workers[i], NULL, serve_queue, h) != 0) break;
        h->n_workers++;
    }
    return h->n_workers == DEFAULT_WORKERS || ern_fail(e, ERN_MISSING, "the system starts no more threads");
}

/* ---- the server ----------------------------------------------------------------------------------------- */

static char *read_pem(const char *path, ern_err *e) {
    ern_buf b = { .max = MAX_PEM_BYTES };
    if (!file_read(&b, path, MAX_PEM_BYTES, e)) { buf_deinit(&b); return NULL; }
    return buf_take(&b);
}

static bool resolve(const char *host, unsigned port, struct sockaddr_storage *out, bool *is_v6, ern_err *e) {
    char service[16];
    struct addrinfo *found = NULL;
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    snprintf(service, sizeof service, "%u", port);
    const int failed = getaddrinfo(host, service, &hints, &found);
    if (failed) return ern_fail(e, ERN_ARG, "host %s: %s", host, gai_strerror(failed));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *is_v6 = found->ai_family == AF_INET6;
    freeaddrinfo(found);
    return true;
}

http_server *http_open(const http_options *o, const http_route *routes, ern_err *e) {
    http_server *h = mem_zalloc(1, sizeof *h, "server", e);
    struct sockaddr_storage address;
    bool is_v6 = false;
    if (!h) return NULL;
    h->o = *o;
    h->routes = routes;
    h->queue_end = &h->queue;
    atomic_store(&h->n_owners, 1);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work, NULL);
    if (!h->o.host) h->o.host = "127.0.0.1";
    if (!h->o.max_body_bytes) h->o.max_body_bytes = DEFAULT_BODY_BYTES;
    if (!h->o.max_connections) h->o.max_connections = DEFAULT_CONNECTIONS;
    if (!h->o.read_timeout_s) h->o.read_timeout_s = DEFAULT_READ_S;
    if (!h->o.n_threads) h->o.n_threads = DEFAULT_THREADS;
    if (getrandom(&h->id_base, sizeof h->id_base, 0) != sizeof h->id_base) h->id_base = (uint64_t)time(NULL);
    if (!resolve(h->o.host, o->port, &address, &is_v6, e)) goto out;
    if (o->cert_path && (!(h->cert = read_pem(o->cert_path, e)) || !(h->key = read_pem(o->key_path ? o->key_path
            : o->cert_path, e)))) goto out;
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | (is_v6
            ? MHD_USE_IPv6 : 0u) |
                           (h->cert ? MHD_USE_TLS : 0u);
    struct MHD_OptionItem options[12] = {
        { MHD_OPTION_SOCK_ADDR, 0, &address },
        { MHD_OPTION_CONNECTION_LIMIT, (intptr_t)h->o.max_connections, NULL },
        { MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)h->o.read_timeout_s, NULL },
        { MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)HEAD_BYTES, NULL },
        { MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)h->o.n_threads, NULL },
        { MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)&completed, h },
        { MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)&connected, h },
    };
    size_t n = 7;
    if (h->cert) {
        options[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, h->cert };
        options[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, h->key };
    }
    options[n] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    h->daemon = MHD_start_daemon(flags, (uint16_t)o->port, NULL, NULL, access_handler, h, MHD_OPTION_ARRAY, options,
                                 MHD_OPTION_END);
    if (!h->daemon) {
        ern_fail(e, ERN_IO, "cannot listen on %s port %u%s: the port may be in use, or not allowed", h->o.host,
                 o->port, h->cert ? " with TLS" : "");
        goto out;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    h->port = info && info->port ? info->port : o->port;
    if (start_threads(h, e)) return h;
out:
    http_close(h);
    return NULL;
}

unsigned http_port(const http_server *h) { return h->port; }

size_t http_n_open(http_server *h) {
    size_t n = 0;
    pthread_mutex_lock(&h->lock);
    for (const connection *x = h->connections; x; x = x->after) n += x->current != NULL;
    pthread_mutex_unlock(&h->lock);
    return n;
}

void http_stop_listening(http_server *h) {
    const MHD_socket fd = MHD_quiesce_daemon(h->daemon);
    if (fd != MHD_INVALID_SOCKET) close(fd);
}

/* Nothing may sleep when MHD stops: what waits for a reply is refused, streams end where they are. */
static void wake_all(http_server *h) {
    ern_err why = { 0 };
    ern_fail(&why, ERN_BUSY, "the server is shutting down");
    pthread_mutex_lock(&h->lock);
    for (connection *x = h->connections; x; x = x->after) {
        http_request *r = x->current;
        if (!r) continue;
        pthread_mutex_lock(&r->lock);
        http_stream *s = r->stream;
        const bool waits = r->is_suspended && !r->response;
        if (s) {
            pthread_mutex_lock(&s->lock);
            if (!s->is_closed) wake_stream(s);
            pthread_mutex_unlock(&s->lock);
        }
        pthread_mutex_unlock(&r->lock);
        if (waits) reject(r, &why, 1);
    }
    pthread_mutex_unlock(&h->lock);
}

void http_close(http_server *h) {
    if (!h) return;
    atomic_store(&h->is_closing, true);
    pthread_mutex_lock(&h->lock);
    pthread_cond_broadcast(&h->work);
    pthread_mutex_unlock(&h->lock);
    if (h->has_watcher) pthread_join(h->watcher, NULL);
    for (size_t i = 0; i < h->n_workers; i++) pthread_join(h->workers[i], NULL);
    if (h->daemon) {
        wake_all(h);
        for (unsigned waited = 0; http_n_open(h) && waited < CLOSE_MS; waited += 10) {      /* what they are told goes out */
            const struct timespec pause = { 0, 10 * 1000000L };
            nanosleep(&pause, NULL);
        }
        MHD_stop_daemon(h->daemon);
    }
    server_give(h);
}
