/* Models behind HTTP. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "cli/commands.h"
#include "server/server.h"

#define DRAIN_MS 30000
#define TICK_NS 200000000L

struct options {
    cli_model model;
    arg_texts paths;
    const char *host, *keys, *cors, *cert, *key, *memory, *cache, *cache_size, *max_body, *store;
    arg_count port, parallel, queue, idle, drain, timeout;
    bool is_quiet;
};

/* "8G", "512M", "1.5G", "100000": bytes. */
static bool read_size(const char *name, const char *text, size_t *out, ern_err *e) {
    static const char letters[] = "KMGT";
    char *end = NULL;
    if (!text) return true;
    double v = strtod(text, &end);
    const char *at = *end ? strchr(letters, *end >= 'a' ? *end - 32 : *end) : NULL;
    if (at) for (const char *p = letters; p <= at; p++) v *= 1024;
    if (end == text || (*end && !at) || (at && end[1] && strcmp(end + 1, "B") != 0 && strcmp(end + 1, "iB") != 0) || !(v >= 1) ||
        v > 1e15) return ern_fail(e, ERN_ARG, _("--%s: found \"%s\", a size such as 512M or 8G wanted"), name, text);
    *out = (size_t)v;
    return true;
}

static void print_line(void *ctx, const char *line) { fprintf(ctx, "%s\n", line); }

/* NAME=PATH, or a path (a fetched model's name too) that gives its own name. */
static bool read_specs(const arg_texts *words, model_spec *specs, char **owned, ern_err *e) {
    for (size_t i = 0; i < words->n; i++) {
        const char *word = words->item[i], *equals = strchr(word, '='), *slash = strchr(word, '/');
        const bool has_name = equals && equals > word && (!slash || equals < slash) && !file_exists(word);
        char *path = cli_model_path(has_name ? equals + 1 : word, e);
        char *name = has_name ? mem_strndup(word, (size_t)(equals - word), e) : NULL;
        owned[2 * i] = path;
        owned[2 * i + 1] = name;
        if (!path || (has_name && !name)) return false;
        specs[i] = (model_spec){ .name = name, .path = path };
    }
    return true;
}

static bool fill(const struct options *o, server_options *s, char **template_text, ern_err *e) {
    if (!cli_engine_options(&o->model, &s->models.engine, template_text, e)) return false;
    s->models.idle_s = (unsigned)o->idle.v;
    s->models.cache_folder = o->cache;
    s->models.scheduler.n_ctx = (size_t)o->model.ctx.v;
    s->models.scheduler.kv_type = o->model.kv;
    s->models.scheduler.max_running = (size_t)o->parallel.v;
    s->models.scheduler.max_queue = (size_t)o->queue.v;
    s->http.host = o->host;
    s->http.port = o->port.is_given ? (unsigned)o->port.v : 8080;
    s->http.cors_origin = o->cors;
    s->http.cert_path = o->cert;
    s->http.key_path = o->key;
    s->http.read_timeout_s = (unsigned)o->timeout.v;
    s->keys_path = o->keys;
    s->store_path = o->store;
    if (!o->is_quiet) { s->log = print_line; s->log_ctx = stderr; }
    if (o->key && !o->cert) return ern_fail(e, ERN_ARG, _("--tls-key: a certificate is needed too: --tls-cert"));
    return read_size("memory", o->memory, &s->models.max_bytes, e) && read_size("max-body", o->max_body, &s->http.max_body_bytes, e) &&
           read_size("cache-size", o->cache_size, &s->models.scheduler.max_cache_folder_bytes, e);
}

static volatile sig_atomic_t n_asked;
static void on_signal(int number) { (void)number; n_asked++; }

static void wait_for_signal(ern_server *s) {
    const struct timespec pause = { 0, TICK_NS };
    while (!n_asked) {
        nanosleep(&pause, NULL);
        server_tick(s);
    }
}

static void print_start(const struct options *o, const server_options *s, const ern_server *server, const model_spec *specs, size_t n) {
    const char *host = s->http.host ? s->http.host : "127.0.0.1";
    printf(_("serving on %s://%s:%u\n"), s->http.cert_path ? "https" : "http", host, server_port(server));
    for (size_t i = 0; i < n; i++) printf("  %s%s%s\n", specs[i].name ? specs[i].name : "", specs[i].name ? " = " : "", specs[i].path);
    if (!o->keys && strcmp(host, "127.0.0.1") != 0 && strcmp(host, "localhost") != 0 && strcmp(host, "::1") != 0)
        fprintf(stderr, "%s", _("ernie: everybody who reaches this address may use the models: --keys limits them\n"));
    fflush(stdout);
}

static int serve(const struct options *o, server_options *s, const model_spec *specs, size_t n, ern_err *e) {
    const struct sigaction act = { .sa_handler = on_signal };
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    ern_server *server = server_open(s, e);
    if (!server) return cli_fail(e);
    print_start(o, s, server, specs, n);
    wait_for_signal(server);
    fprintf(stderr, "%s", _("ernie: finishing what runs; once more ends it at once\n"));
    n_asked = 0;
    unsigned waited = 0;
    const unsigned most = o->drain.is_given ? (unsigned)o->drain.v * 1000 : DRAIN_MS;
    while (!server_drain(server, 250) && !n_asked && (waited += 250) < most) { }
    server_close(server);
    return 0;
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    server_options s = { 0 };
    char *template_text = NULL;
    const size_t n = o->paths.n;
    model_spec *specs = mem_zalloc(n + 1, sizeof *specs, "models", &e);
    char **owned = mem_zalloc(2 * n + 1, sizeof *owned, "models", &e);
    int status = 0;
    bool ok = specs && owned && (n || ern_fail(&e, ERN_ARG, _("serve: at least one MODEL wanted")));
    ok = ok && read_specs(&o->paths, specs, owned, &e) && fill(o, &s, &template_text, &e);
    s.models.specs = specs;
    s.models.n_specs = n;
    status = ok ? serve(o, &s, specs, n, &e) : cli_fail(&e);
    for (size_t i = 0; owned && i < 2 * n; i++) free(owned[i]);
    free(owned);
    free(specs);
    free(template_text);
    return status;
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "host", .kind = ARG_TEXT, .value = "ADDRESS", .help = N_("address to listen on; 127.0.0.1 otherwise"), .offset = AT(host) },
    { .name = "port", .letter = 'p', .kind = ARG_COUNT, .value = "N", .low = 0, .high = 65535,
      .help = N_("port to listen on; 8080 otherwise, 0 takes a free one"), .offset = AT(port) },
    { .name = "parallel", .kind = ARG_COUNT, .value = "N", .low = 1, .high = 4096,
      .help = N_("answers written at once; 16 otherwise"), .offset = AT(parallel) },
    { .name = "queue", .kind = ARG_COUNT, .value = "N", .low = 1, .high = 1000000,
      .help = N_("requests that may wait before others are refused; 256 otherwise"), .offset = AT(queue) },
    { .name = "memory", .kind = ARG_TEXT, .value = "SIZE",
      .help = N_("ceiling for weights, keys and values of all models, like 8G; what is free otherwise"), .offset = AT(memory) },
    { .name = "idle", .kind = ARG_COUNT, .value = "SECONDS", .help = N_("close a model that nobody uses for so long; never otherwise"),
      .offset = AT(idle) },
    { .name = "cache-folder", .kind = ARG_TEXT, .value = "FOLDER",
      .help = N_("keep what was read of prompts there, for after a restart"), .offset = AT(cache) },
    { .name = "cache-size", .kind = ARG_TEXT, .value = "SIZE", .help = N_("how much of that folder; 8G otherwise"), .offset = AT(cache_size) },
    { .name = "keys", .kind = ARG_TEXT, .value = "FILE", .help = N_("JSON file of the API keys that are let in, with their rights"),
      .offset = AT(keys) },
    { .name = "cors", .kind = ARG_TEXT, .value = "ORIGIN", .help = N_("web pages of this origin may ask; * for all"), .offset = AT(cors) },
    { .name = "tls-cert", .kind = ARG_TEXT, .value = "FILE", .help = N_("certificate chain (PEM): serve HTTPS"), .offset = AT(cert) },
    { .name = "tls-key", .kind = ARG_TEXT, .value = "FILE", .help = N_("its private key (PEM); in the same file otherwise"), .offset = AT(key) },
    { .name = "max-body", .kind = ARG_TEXT, .value = "SIZE", .help = N_("largest request; 32M otherwise"), .offset = AT(max_body) },
    { .name = "read-timeout", .kind = ARG_COUNT, .value = "SECONDS", .low = 1, .high = 86400,
      .help = N_("a request must arrive within this time; 60 otherwise"), .offset = AT(timeout) },
    { .name = "drain", .kind = ARG_COUNT, .value = "SECONDS", .help = N_("at the end, wait so long for what runs; 30 otherwise"),
      .offset = AT(drain) },
    { .name = "store", .kind = ARG_TEXT, .value = "FILE", .help = N_("database of stored responses; in memory otherwise"), .offset = AT(store) },
    { .name = "quiet", .letter = 'q', .kind = ARG_FLAG, .help = N_("no line for each request on standard error"), .offset = AT(is_quiet) },
};
static const arg_group group = { N_("Serving:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_REST, N_("folders, GGUF files or names of fetched models; NAME=MODEL gives another name; the first is the default"),
      AT(paths) },
};

const arg_command cmd_serve = {
    .name = "serve",
    .summary = N_("serve models over HTTP: the APIs of OpenAI and others"),
    .details = N_("The first model is opened at once, others when they are first asked for. SIGTERM and ctrl-C finish what runs, "
                  "save what was read of prompts when there is a --cache-folder, and end."),
    .output = N_("Standard output: the address, then a line for each model. Standard error: a line for each request with time, id, "
                 "client, method, path, status, bytes in and out, and seconds; never its text."),
    .examples = "  ernie serve ERNIE-4.5-0.3B-PT\n  ernie serve chat=model.gguf embed=all-MiniLM-L6-v2 --port 8000 --memory 6G\n"
                "  ernie serve MODEL --host 0.0.0.0 --keys keys.json --tls-cert cert.pem --tls-key key.pem",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_model_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
