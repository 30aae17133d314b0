/* Ollama's API around the answers: /api/tags, /api/show, /api/ps, /api/embed, /api/embeddings, /api/version. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sha256.h"
#include "model/config.h"
#include "server/ollama.h"
#include "server/wire.h"

#define NS_PER_S 1e9
#define MAX_INPUTS 2048
#define FOR_EVER_S 3.15e9       /* a century: what never expires is said to expire then */

/* ---- durations -------------------------------------------------------------------------------------- */

bool ollama_duration(const json_t *v, double *seconds, ern_err *e) {
    static const struct { const char *unit; double seconds; } units[] = {       /* longer names first */
        { "ms", 1e-3 }, { "us", 1e-6 }, { "ns", 1e-9 }, { "h", 3600 }, { "m", 60 }, { "s", 1 },
    };
    const char *text = json_string_value(v);
    double sum = 0;
    if (json_is_number(v)) { *seconds = json_number_value(v); return true; }
    const double sign = text && *text == '-' ? -1 : 1;
    const char *at = text && *text == '-' ? text + 1 : text;
    while (at && *at) {
        char *end = NULL;
        const double x = strtod(at, &end);
        size_t k = 0;
        while (end != at && k < PARAM_COUNT(units) && strncmp(end, units[k].unit, strlen(units[k].unit)) != 0) k++;
        if (end != at && !*end && sum == 0) { *seconds = sign * x; return true; }       /* "300" */
        if (end == at || k == PARAM_COUNT(units) || !isfinite(x)) break;
        sum += x * units[k].seconds;
        at = end + strlen(units[k].unit);
    }
    if (!at || *at || at == text) return ern_fail(e, ERN_ARG,
        "keep_alive: found \"%.40s\", seconds or a text like \"5m\" wanted",
                                                  text ? text : "");
    *seconds = sign * sum;
    return true;
}

bool ollama_keep(ern_server *s, server_model *m, const json_t *keep_alive, ern_err *e) {
    double seconds = 0;
    if (!keep_alive) return true;
    if (!ollama_duration(keep_alive, &seconds, e)) return false;
    models_keep(api_models(s), m, seconds);
    return true;
}

/* ---- what a model is ---------------------------------------------------------------------------------- */

typedef struct {
    size_t n_bytes;
    double modified;
    char digest[65], parameters[24];
    const char *format, *family, *level;
} facts;

/* The type that most of the weights have. */
static const char *main_type(const ern_source *src) {
    size_t bytes[DTYPE_COUNT] = { 0 }, best = 0;
    for (size_t i = 0; i < source_n(src); i++) bytes[source_at(src, i)->dtype] += source_at(src, i)->size_bytes;
    for (size_t t = 1; t < DTYPE_COUNT; t++)
        if (bytes[t] > bytes[best]) best = t;
    return dtype_info((enum ern_dtype)best)->name;
}

/* Read from the head of its files; the digest is of name, size and time, since hashing gigabytes for a list is no use. */
static facts facts_of(const char *name, const char *path) {
    facts f = { .format = "safetensors", .family = "", .level = "" };
    struct stat st;
    ern_config c;
    char text[64];
    ern_source *src = source_open(path, NULL);
    if (src) {
        f.n_bytes = source_size_bytes(src);
        f.level = main_type(src);
        if (source_gguf(src)) f.format = "gguf";
        if (config_read(&c, src, NULL)) {
            const double n = (double)config_n_params(&c);
            f.family = config_arch_name(&c);
            snprintf(f.parameters, sizeof f.parameters, n >= 1e9 ? "%.1fB" : "%.1fM", n >= 1e9 ? n / 1e9 : n / 1e6);
        }
        source_close(src);
    }
    if (stat(path, &st) == 0) f.modified = (double)st.st_mtim.tv_sec + 1e-9 * (double)st.st_mtim.tv_nsec;
    const int n = snprintf(text, sizeof text, "\n%zu %.6f", f.n_bytes, f.modified);
    ern_sha256 sha;
    sha256_begin(&sha);
    sha256_add(&sha, name, strlen(name));
    sha256_add(&sha, text, (size_t)n);
    sha256_hex(&sha, f.digest);
    return f;
}

static json_t *details_json(const facts *f) {
    return json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s}", "parent_model", "", "format", f->format, "family", f->family,
                     "families", f->family, "parameter_size", f->parameters, "quantization_level", f->level);
}

static json_t *entry_json(const char *name, const facts *f) {
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "name", name, "model", name, "size", (json_int_t)f->n_bytes, "digest",
                     f->digest, "details", details_json(f));
}

static json_t *listed(ern_server *s, bool only_open) {
    json_t *all = models_list(api_models(s)), *out = json_array(), *m;
    size_t i;
    json_array_foreach(all, i, m) {
        char when[WIRE_TIME_BYTES];
        const char *name = json_string_value(json_object_get(m, "name"));
        if (only_open && !json_is_true(json_object_get(m, "is_open"))) continue;
        const facts f = facts_of(name, json_string_value(json_object_get(m, "path")));
        json_t *entry = entry_json(name, &f);
        const double left = json_number_value(json_object_get(m, "idle_left_s"));
        wire_time(only_open ? wire_now() + (left < 0 || left > FOR_EVER_S ? FOR_EVER_S : left) : f.modified, when);
        if (entry) json_object_set_new(entry, only_open ? "expires_at" : "modified_at", json_string(when));
        if (entry && only_open) {
            json_t *n_ctx = json_object_get(m, "n_ctx");
            json_object_set_new(entry, "size_vram", json_integer(0));
            json_object_set(entry, "context_length", n_ctx ? n_ctx : json_object_get(m, "max_context"));
        }
        json_array_append_new(out, entry);
    }
    json_decref(all);
    return json_pack("{s:o}", "models", out);
}

static void tags(void *ctx, http_request *r) { http_reply_json(r, 200, listed(ctx, false)); }
static void ps(void *ctx, http_request *r) { http_reply_json(r, 200, listed(ctx, true)); }

static void version(void *ctx, http_request *r) {
    (void)ctx;
    http_reply_json(r, 200, json_pack("{s:s}", "version", ERN_VERSION));
}

/* ---- show --------------------------------------------------------------------------------------------- */

struct show_wishes { const char *model, *name; param_flag is_verbose; };

static const param_spec show_specs[] = {
    { "model", PARAM_STRING, 1, 4096, .offset = offsetof(struct show_wishes, model) },
    { "name", PARAM_STRING, 1, 4096, .offset = offsetof(struct show_wishes, name),
        .help = "the same, as older clients say it" },
    { "verbose", PARAM_FLAG, .offset = offsetof(struct show_wishes, is_verbose) },
};
const param_table ollama_show_table = { show_specs, PARAM_COUNT(show_specs), NULL };

static json_t *capabilities_json(const server_model *m) {
    const char *text = m->eng->chat_source;
    json_t *list = json_array();
    if (!m->scheduler) { json_array_append_new(list, json_string("embedding")); return list; }
    json_array_append_new(list, json_string("completion"));
    if (text) json_array_append_new(list, json_string("tools"));
    if (text && strstr(text, "think")) json_array_append_new(list, json_string("thinking"));
    return list;
}

static json_t *info_json(const ern_config *c) {
    const char *arch = config_arch_name(c);
    const struct { const char *key; size_t v; } numbers[] = {
        { "context_length", c->max_positions }, { "embedding_length", c->hidden }, { "block_count", c->n_layers },
        { "feed_forward_length", c->ffn }, { "attention.head_count", c->n_heads },
            { "attention.head_count_kv", c->n_kv_heads },
        { "vocab_size", c->n_vocab },
    };
    json_t *o = json_pack("{s:s, s:I}", "general.architecture", arch, "general.parameter_count",
        (json_int_t)config_n_params(c));
    for (size_t i = 0; o && i < PARAM_COUNT(numbers); i++) {
        char key[96];
        snprintf(key, sizeof key, "%.40s.%s", arch, numbers[i].key);
        json_object_set_new(o, key, json_integer((json_int_t)numbers[i].v));
    }
    return o;
}

static void show(void *ctx, http_request *r) {
    ern_server *s = ctx;
    api_error why = { 0 };
    struct show_wishes w = { 0 };
    char when[WIRE_TIME_BYTES], parameters[128];
    const json_t *body = http_json(r, &why.e);
    server_model *m = NULL;
    if (!body || !params_read(&ollama_show_table, body, &w, why.param, &why.e) ||
        ((!w.model && !w.name) && !ern_fail(&why.e, ERN_ARG, "model: missing")) ||
        !(m = ollama_take(s, w.model ? w.model : w.name, &why.e))) {
        ollama_refuse(r, &why.e);
        return;
    }
    ern_sampling o;
    ern_sampling_defaults(m->eng, &o);
    snprintf(parameters, sizeof parameters, "temperature %g\ntop_k %zu\ntop_p %g\nrepeat_penalty %g", (double)o.temperature,
             o.top_k, (double)o.top_p, (double)o.repetition_penalty);
    const facts f = facts_of(m->name, m->path);
    wire_time(f.modified, when);
    const char *template = m->eng->chat_source ? m->eng->chat_source : "";
    http_reply_json(r, 200, json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:s}", "modelfile", json_sprintf("FROM %s\n", m->name),
                    "parameters", parameters, "template", template, "details", details_json(&f), "model_info",
                    info_json(&m->eng->model->c), "capabilities", capabilities_json(m), "modified_at", when));
    models_give(api_models(s), m);
}

/* ---- embeddings --------------------------------------------------------------------------------------- */

struct embed_wishes {
    const char *model, *prompt;
    const json_t *input, *keep_alive, *options;
    param_int dimensions;
    param_flag truncates;
};

#define AT(member) .offset = offsetof(struct embed_wishes, member)
static const param_table no_options = { NULL, 0, NULL };
static const param_spec embed_specs[] = {
    { "model", PARAM_STRING, 1, 4096, AT(model), .is_required = true },
    { "input", PARAM_STRING | PARAM_ARRAY, AT(input), .items = PARAM_STRING, .help = "texts of any length" },
    { "truncate", PARAM_FLAG, AT(truncates), .help = "nothing is cut either way: long texts are averaged over windows" },
    { "dimensions", PARAM_INT, 1, 1e6, AT(dimensions), .help = "the first numbers, scaled to length 1" },
    { "options", PARAM_OBJECT, .of = &no_options },
    { "keep_alive", PARAM_STRING | PARAM_REAL, AT(keep_alive) },
};
const param_table ollama_embed_table = { embed_specs, PARAM_COUNT(embed_specs), NULL };

static const param_spec embeddings_specs[] = {
    { "model", PARAM_STRING, 1, 4096, AT(model), .is_required = true },
    { "prompt", PARAM_STRING, AT(prompt), .is_required = true },
    { "options", PARAM_OBJECT, .of = &no_options },
    { "keep_alive", PARAM_STRING | PARAM_REAL, AT(keep_alive) },
};
const param_table ollama_embeddings_table = { embeddings_specs, PARAM_COUNT(embeddings_specs), NULL };

static json_t *embedding_json(const server_model *m, const char *text, size_t n_bytes, size_t n_wanted, size_t *n_tokens,
    ern_err *e) {
    const size_t n = ern_engine_n_embed(m->eng), n_out = n_wanted ? n_wanted : n;
    ern_tokens ids = { 0 };
    float *v = mem_zalloc(n, sizeof *v, "embedding", e);
    json_t *out = NULL;
    double sum = 0;
    if (!v || !ern_embed_windows(m->eng, text, n_bytes, v, NULL, e) ||
        !ern_tokenize(m->eng, text, n_bytes, false, &ids, e)) goto out;
    *n_tokens += ids.n;
    for (size_t i = 0; i < n_out; i++) sum += (double)v[i] * (double)v[i];
    const double scale = n_wanted && sum > 0 ? 1 / sqrt(sum) : 1;
    out = json_array();
    for (size_t i = 0; out && i < n_out; i++) json_array_append_new(out, json_real((double)v[i] * scale));
out:
    free(v);
    ern_tokens_free(&ids);
    return out;
}

static json_t *embeddings_of(const server_model *m, const json_t *input, size_t n_wanted, size_t *n_tokens, ern_err *e) {
    const size_t n = json_is_string(input) ? 1 : json_array_size(input), n_embed = ern_engine_n_embed(m->eng);
    json_t *list = json_array();
    bool ok = list != NULL;
    if (n > MAX_INPUTS) ok = ern_fail(e, ERN_ARG, "input: %zu texts, at most %d", n, MAX_INPUTS);
    if (n_wanted > n_embed) ok = ern_fail(e, ERN_ARG, "dimensions: found %zu, the model has %zu", n_wanted, n_embed);
    for (size_t i = 0; ok && i < n; i++) {
        const json_t *text = json_is_string(input) ? input : json_array_get(input, i);
        if (!json_is_string(text)) { ok = ern_fail(e, ERN_ARG, "input[%zu]: a text wanted", i); break; }
        json_t *one = embedding_json(m, json_string_value(text), json_string_length(text), n_wanted, n_tokens, e);
        ok = one && json_array_append_new(list, one) == 0;
    }
    if (ok) return list;
    json_decref(list);
    return NULL;
}

static void reply_embeddings(ern_server *s, http_request *r, const param_table *table, bool is_old) {
    const double began = api_now();
    api_error why = { 0 };
    struct embed_wishes w = { 0 };
    size_t n_tokens = 0;
    json_t *list = NULL;
    const json_t *body = http_json(r, &why.e);
    server_model *m = NULL;
    bool ok = body && params_read(table, body, &w, why.param, &why.e) && (m = ollama_take(s, w.model, &why.e)) &&
              ollama_keep(s, m, w.keep_alive, &why.e);
    const double opened = api_now();
    const json_t *input = is_old ? json_object_get(body, "prompt") : w.input;
    ok = ok && (list = embeddings_of(m, input, (size_t)w.dimensions.v, &n_tokens, &why.e));
    if (!ok) ollama_refuse(r, &why.e);
    else if (is_old) http_reply_json(r, 200, json_pack("{s:O}", "embedding", json_array_get(list, 0)));
    else http_reply_json(r, 200, json_pack("{s:s, s:O, s:I, s:I, s:I}", "model", w.model, "embeddings", list,
        "total_duration",
                         (json_int_t)llround((api_now() - began) * NS_PER_S), "load_duration",
                         (json_int_t)llround((opened - began) * NS_PER_S), "prompt_eval_count", (json_int_t)n_tokens));
    if (ok) api_charge(s, r, n_tokens);
    json_decref(list);
    models_give(api_models(s), m);
}

static void embed(void *ctx, http_request *r) { reply_embeddings(ctx, r, &ollama_embed_table, false); }
static void embeddings(void *ctx, http_request *r) { reply_embeddings(ctx, r, &ollama_embeddings_table, true); }

const http_route api_ollama_models_routes[] = {
    { "GET", "/api/tags", tags, "models", false },
    { "GET", "/api/ps", ps, "models", false },
    { "POST", "/api/show", show, "models", false },
    { "GET", "/api/version", version, NULL, true },
    { "POST", "/api/embed", embed, "embeddings", false },
    { "POST", "/api/embeddings", embeddings, "embeddings", false },
    { 0 },
};
