/* Puts the APIs together behind one HTTP server: keys, log, metrics, draining. */
#include "server/server.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "server/anthropic.h"
#include "server/api.h"
#include "server/server_int.h"

#define MAX_ROUTES 256

struct ern_server {
    server_options o;
    http_server *http;
    server_models *models;
    server_keys *keys;
    server_metrics *metrics;
    response_store *store;
    http_route routes[MAX_ROUTES];
    atomic_bool is_draining;
    atomic_uint_fast64_t n_ids;
    uint64_t id_base;
};

server_models *api_models(ern_server *s) { return s->models; }
server_metrics *api_metrics(ern_server *s) { return s->metrics; }
response_store *api_store(ern_server *s) { return s->store; }
const server_options *api_options(ern_server *s) { return &s->o; }
bool api_is_draining(ern_server *s) { return atomic_load(&s->is_draining); }
server_keys *server_keys_of(ern_server *s) { return s->keys; }
const http_route *server_routes_of(ern_server *s) { return s->routes; }

double api_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void api_new_id(ern_server *s, const char *prefix, char *out, size_t n) {
    const uint64_t k = atomic_fetch_add(&s->n_ids, 1) + 1;
    snprintf(out, n, "%s%016llx%08llx", prefix, (unsigned long long)(s->id_base ^ (k * 0x9e3779b97f4a7c15u)),
             (unsigned long long)k);
}

/* ---- who may ------------------------------------------------------------------------------------------------ */

static const char *secret_of(http_request *r) {
    const char *bearer = http_header(r, "Authorization"), *x = http_header(r, "x-api-key");
    if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0) {
        bearer += 7;
        while (*bearer == ' ') bearer++;
        return bearer;
    }
    return x;
}

static bool admit(void *ctx, http_request *r, const http_route *route, void **user, unsigned *retry_after_s, ern_err *e) {
    ern_server *s = ctx;
    if (route->scope && api_is_draining(s)) {
        *retry_after_s = 5;
        return ern_fail(e, ERN_BUSY, "the server is shutting down");
    }
    if (!s->keys || !route->scope) return true;
    server_key *key = keys_find(s->keys, secret_of(r), e);
    *user = key;
    return key && keys_admit(s->keys, key, route->scope, api_now(), retry_after_s, e);
}

/* Refusals that no handler sees, in the words of the API that was asked; NULL: OpenAI's. */
static json_t *refusal(void *ctx, const http_request *r, const ern_err *why, int status) {
    (void)ctx;
    if (strncmp(http_path(r), "/v1/messages", 12) == 0) return anthropic_error(http_id(r), why, status);
    return strncmp(http_path(r), "/api/", 5) == 0 ? json_pack("{s:s}", "error", why->text) : NULL;
}

/* ---- the log ------------------------------------------------------------------------------------------------ */

/* Only what cannot break the line or the terminal. */
static void plain(char *to, size_t n, const char *from) {
    size_t i = 0;
    for (; from[i] && i + 1 < n; i++) to[i] = from[i] > ' ' && from[i] < 0x7f && from[i] != '"' && from[i] != '\\' ? from[i] : '?';
    to[i] = '\0';
}

static void done(void *ctx, http_request *r, int status, size_t n_bytes, double seconds) {
    ern_server *s = ctx;
    char line[1024], path[256], key[128], when[32];
    metrics_request(s->metrics, status, seconds);
    if (!s->o.log) return;
    struct tm utc;
    const time_t now = time(NULL);
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    plain(path, sizeof path, http_path(r));
    plain(key, sizeof key, keys_name(http_user(r)));
    const size_t n_body = http_body_bytes(r);
    snprintf(line, sizeof line, "%s %s %s %s %s %d in=%zu out=%zu %.3fs%s%s", when, http_id(r), http_client(r),
             http_method(r), path, status, n_body, n_bytes, seconds, *key ? " key=" : "", key);
    s->o.log(s->o.log_ctx, line);
}

/* ---- open and close ------------------------------------------------------------------------------------------- */

static bool collect_routes(ern_server *s, ern_err *e) {
    static const http_route *const tables[] = {
#define X(name) api_##name##_routes,
        API_MAP(X)
#undef X
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const http_route *r = tables[i]; r->method; r++) {
            if (n == MAX_ROUTES - 1) return ern_fail(e, ERN_LIMIT, "more than %d routes", MAX_ROUTES - 1);
            s->routes[n++] = *r;
        }
    return true;
}

static bool open_default(ern_server *s, ern_err *e) {
    server_model *m = models_take(s->models, NULL, e);
    models_give(s->models, m);
    return m != NULL;
}

static bool make_folder(const char *path, ern_err *e) {
    if (!path || mkdir(path, 0700) == 0 || errno == EEXIST) return true;
    return ern_fail(e, ERN_IO, "%s: cannot be made a folder: %s", path, strerror(errno));
}

ern_server *server_open(const server_options *o, ern_err *e) {
    ern_server *s = mem_zalloc(1, sizeof *s, "server", e);
    if (!s) return NULL;
    s->o = *o;
    if (getrandom(&s->id_base, sizeof s->id_base, 0) != sizeof s->id_base) s->id_base = (uint64_t)time(NULL);
    bool ok = make_folder(o->models.cache_folder, e) && collect_routes(s, e) && (s->metrics = metrics_open(e)) != NULL;
    ok = ok && (!o->keys_path || (s->keys = keys_open(o->keys_path, e)));
    ok = ok && (s->store = store_open(o->store_path, e));
    ok = ok && (s->models = models_open(&o->models, e)) && open_default(s, e);
    http_options h = o->http;
    h.admit = admit;
    h.refusal = refusal;
    h.done = done;
    h.ctx = s;
    ok = ok && (s->http = http_open(&h, s->routes, e));
    if (!ok) { server_close(s); return NULL; }
    return s;
}

unsigned server_port(const ern_server *s) { return http_port(s->http); }

void server_tick(ern_server *s) { models_close_idle(s->models); }

/* Requests come to their end; whoever asks anew on an open connection is told to come back later. */
bool server_drain(ern_server *s, unsigned wait_ms) {
    atomic_store(&s->is_draining, true);
    http_stop_listening(s->http);
    const double until = api_now() + wait_ms * 1e-3;
    bool is_done = models_drain(s->models, wait_ms);
    while (http_n_open(s->http) && api_now() < until) {         /* the last bytes leave */
        const struct timespec pause = { 0, 10000000L };
        nanosleep(&pause, NULL);
    }
    return is_done;
}

void server_close(ern_server *s) {
    if (!s) return;
    http_close(s->http);
    models_close(s->models);
    keys_close(s->keys);
    store_close(s->store);              /* after the jobs: how they ended is stored too */
    metrics_close(s->metrics);
    free(s);
}
