/* HTTP for the server: requests with their body read, replies from any thread, streams that any thread may write to.
 *
 *     static void hello(void *ctx, http_request *r) { http_reply_json(r, 200, json_pack("{s:s}", "hello", "world")); }
 *     http_server *h = http_open(&options, routes, ctx, &e);
 *
 * A handler runs on one of a few workers (a quick one on a network thread). It replies at once, or keeps the request
 * (http_keep), returns, and replies later from another thread; the connection sleeps meanwhile. Exactly one reply or stream is
 * owed to a request; what comes after the client has left is dropped, and on_gone tells whoever computes it.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <jansson.h>

#include "base/buf.h"

typedef struct http_server http_server;
typedef struct http_request http_request;
typedef struct http_stream http_stream;

typedef void (*http_handler)(void *ctx, http_request *r);

/* path: exact, or with one or more {name} parts ("/v1/responses/{id}"). The table ends with method NULL. */
typedef struct {
    const char *method, *path;
    http_handler handle;
    const char *scope;          /* what the key must allow; NULL: open to all */
    bool is_quick;              /* handled on a network thread: replies at once and never waits; otherwise a worker has it */
} http_route;

typedef struct {
    const char *host;           /* "127.0.0.1" */
    unsigned port;              /* 0: any free one */
    const char *cert_path, *key_path;       /* TLS; NULL: none */
    const char *cors_origin;    /* "*", one origin, or NULL: no other page may ask */
    size_t max_body_bytes;      /* 0: 32 MiB */
    size_t max_connections;     /* 0: 1024 */
    unsigned read_timeout_s;    /* for the whole of a request; 0: 60 */
    size_t n_threads;           /* 0: 4 */
    /* Before the handler, when the head is read: may this request go on? False: *e says why, status by its code;
     * retry_after_s is
     * sent along when it is not 0. It may set a pointer that http_user gives back. */
    bool (*admit)(void *ctx, http_request *r, const http_route *route, void **user, unsigned *retry_after_s, ern_err *e);
    /* The body of a refusal before the handler (no route, no permission, too large), new; NULL: OpenAI's form. */
    json_t *(*refusal)(void *ctx, const http_request *r, const ern_err *why, int status);
    /* After everything: status and bytes; for the log and metrics. */
    void (*done)(void *ctx, http_request *r, int status, size_t n_bytes, double seconds);
    void *ctx;
} http_options;

http_server *http_open(const http_options *o, const http_route *routes, ern_err *e);
unsigned http_port(const http_server *h);
void http_stop_listening(http_server *h);       /* no new connections; running ones go on */
size_t http_n_open(http_server *h);             /* requests whose reply is not complete */
void http_close(http_server *h);                /* what still waits for a reply gets 503, streams end */

/* ---- the request ------------------------------------------------------------------------------------ */

const char *http_id(const http_request *r);                 /* "req-..." unique; sent as X-Request-Id */
const char *http_method(const http_request *r);
const char *http_path(const http_request *r);
const char *http_part(const http_request *r, const char *name);         /* of {name} in the route; NULL: none */
const char *http_header(http_request *r, const char *name);             /* NULL: none; while the handler runs */
const char *http_query(http_request *r, const char *name);
const char *http_client(const http_request *r);             /* address of the other side */
void *http_user(const http_request *r);
const char *http_body(const http_request *r, size_t *n);
size_t http_body_bytes(const http_request *r);
/* The body as a JSON object, parsed once; NULL with e filled (line and column) when it is none. Borrowed. */
const json_t *http_json(http_request *r, ern_err *e);

http_request *http_keep(http_request *r);       /* the request outlives the handler */
void http_give(http_request *r);                /* ... until as many gives as keeps */
/* object lives as long as the request: release(object) when the last owner gives it back. */
bool http_attach(http_request *r, void *object, void (*release)(void *), ern_err *e);
/* Called at most once, from any thread, when the client has left before the reply was complete; at once if it
 * already has. ctx must live as long as the request. Several may be told. */
void http_on_gone(http_request *r, void (*gone)(void *ctx), void *ctx);

/* ---- the reply -------------------------------------------------------------------------------------- */

void http_add_header(http_request *r, const char *name, const char *value);     /* before the reply */
void http_reply(http_request *r, int status, const char *type, const void *bytes, size_t n);
void http_reply_json(http_request *r, int status, json_t *body);                /* takes body; NULL: out of memory */

/* An open reply. write: whole pieces, dropped when the client is gone (false); a client that reads too slowly is cut off. */
http_stream *http_stream_open(http_request *r, int status, const char *type);
bool http_stream_write(http_stream *s, const void *bytes, size_t n);
/* "event: NAME" (NULL: none) and "data: JSON"; takes data. */
bool http_stream_event(http_stream *s, const char *event, json_t *data);
void http_stream_end(http_stream *s);           /* s is gone afterwards */

#endif
