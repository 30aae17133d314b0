/* The server: models behind HTTP, in the words of several APIs.
 *
 *     server_options o = { .models = { .specs = specs, .n_specs = 1 }, .http = { .port = 8080 } };
 *     ern_server *s = server_open(&o, &e);
 *     while (!asked_to_stop) { sleep(1); server_tick(s); }
 *     server_drain(s, 30000);
 *     server_close(s);
 *
 * Each API is a file api_NAME.c with a table of routes; server.c has the list of the tables. What handlers share is in api.h.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "server/http.h"
#include "server/models.h"

typedef struct ern_server ern_server;

typedef struct {
    models_options models;
    http_options http;              /* its admit, done and ctx are the server's own */
    const char *keys_path;          /* NULL: everybody may do everything */
    const char *store_path;         /* of stored responses; NULL: in memory only */
    /* One line a request, without its end; NULL: none. Texts of requests are never in it. */
    void (*log)(void *ctx, const char *line);
    void *log_ctx;
} server_options;

/* The strings in o are borrowed until server_close. The default model is opened at once, others when first asked for. */
ern_server *server_open(const server_options *o, ern_err *e);
unsigned server_port(const ern_server *s);
void server_tick(ern_server *s);                        /* once a second: idle models, counters of keys */
bool server_drain(ern_server *s, unsigned wait_ms);     /* nothing new is taken; true: all that ran is done */
void server_close(ern_server *s);                       /* known beginnings are saved */

#endif
