/* The option groups that commands share, and what they open. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "model/kv.h"

#define MAX_TEMPLATE_BYTES ((size_t)4 << 20)
#define MAX_THREADS 1024
#define MAX_CONTEXT 16777216
#define MAX_LOGIT_BIAS 4096

#define COMPUTE_OPTIONS \
    { .name = "threads", .letter = 't', .kind = ARG_COUNT, .value = "N", .low = 1, .high = MAX_THREADS, \
      .help = N_("threads to compute with; all cores otherwise"), .offset = offsetof(cli_model, threads) }, \
    { .name = "cpu", .kind = ARG_CHOICE, .value = "LEVEL", .choices = CLI_CPU_CHOICES, \
      .help = N_("the best instructions that may be used"), .offset = offsetof(cli_model, cpu) }, \
    { .name = "exact", .kind = ARG_FLAG, .help = N_("32-bit activations everywhere, also against quantised weights"), \
      .offset = offsetof(cli_model, is_exact) }, \
    { .name = "fast", .kind = ARG_FLAG, .help = N_("16-bit activations against float weights too"), \
      .offset = offsetof(cli_model, is_fast) }

static const arg_option compute_options[] = { COMPUTE_OPTIONS };
const arg_group cli_compute_group = { N_("Computing:"), compute_options, COUNT_OF(compute_options) };

static const arg_option model_options[] = {
    COMPUTE_OPTIONS,
    { .name = "ctx", .letter = 'c', .kind = ARG_COUNT, .value = "N", .low = 1, .high = MAX_CONTEXT,
      .help = N_("tokens of context (32K is 32768); what the model allows, at most 4096, otherwise"),
          .offset = offsetof(cli_model, ctx) },
    { .name = "kv", .kind = ARG_TEXT, .value = "TYPE", .choices = CLI_KV_CHOICES, .help = CLI_KV_HELP,
      .offset = offsetof(cli_model, kv) },
    { .name = "template", .kind = ARG_TEXT, .value = "FILE", .help = N_("a Jinja chat template instead of the model's own"),
      .offset = offsetof(cli_model, template_path) },
};
const arg_group cli_model_group = { N_("Model:"), model_options, COUNT_OF(model_options) };

static const arg_option sampling_options[] = {
    { .name = "max-tokens", .kind = ARG_COUNT, .value = "N",
      .help = N_("longest answer in tokens; 0: until the context is full"),
      .offset = offsetof(cli_sampling, max_tokens) },
    { .name = "temp", .kind = ARG_REAL, .value = "X", .low = 0, .high = 100,
      .help = N_("temperature; 0 always takes the best token"),
      .offset = offsetof(cli_sampling, temperature) },
    { .name = "top-k", .kind = ARG_COUNT, .value = "N", .help = N_("draw from the N best tokens; 0: from all"),
      .offset = offsetof(cli_sampling, top_k) },
    { .name = "top-p", .kind = ARG_REAL, .value = "P", .high = 1,
      .help = N_("draw from the best tokens that together have this probability"),
      .offset = offsetof(cli_sampling, top_p) },
    { .name = "min-p", .kind = ARG_REAL, .value = "P", .high = 1,
      .help = N_("leave out tokens less probable than P times the best"),
      .offset = offsetof(cli_sampling, min_p) },
    { .name = "repetition-penalty", .kind = ARG_REAL, .value = "X", .low = 0.01, .high = 100,
      .help = N_("divide the scores of tokens seen before; 1: off"), .offset = offsetof(cli_sampling, repetition) },
    { .name = "frequency-penalty", .kind = ARG_REAL, .value = "X", .low = -2, .high = 2,
      .help = N_("lower the scores of tokens of the answer by X for each time"),
          .offset = offsetof(cli_sampling, frequency) },
    { .name = "presence-penalty", .kind = ARG_REAL, .value = "X", .low = -2, .high = 2,
      .help = N_("lower the scores of tokens of the answer by X once"), .offset = offsetof(cli_sampling, presence) },
    { .name = "seed", .kind = ARG_COUNT, .value = "N", .help = N_("the same seed gives the same text"),
      .offset = offsetof(cli_sampling, seed) },
    { .name = "stop", .kind = ARG_TEXTS, .value = "TEXT", .help = N_("end the answer before this text"),
      .offset = offsetof(cli_sampling, stop) },
    { .name = "stop-id", .kind = ARG_TEXTS, .value = "ID", .help = N_("end the answer at this token"),
      .offset = offsetof(cli_sampling, stop_ids) },
    { .name = "logit-bias", .kind = ARG_TEXTS, .value = "ID=X", .help = N_("add X to the score of a token"),
      .offset = offsetof(cli_sampling, bias) },
    { .name = "ignore-end", .kind = ARG_FLAG, .help = N_("go on past the model's own end tokens"),
      .offset = offsetof(cli_sampling, ignores_end) },
    { .name = "schema", .kind = ARG_TEXT, .value = "FILE",
      .help = N_("the answer is JSON that satisfies this JSON Schema (a file, or the schema itself)"),
      .offset = offsetof(cli_sampling, schema) },
    { .name = "json-object", .kind = ARG_FLAG, .help = N_("the answer is a JSON object"),
      .offset = offsetof(cli_sampling, is_json_object) },
    { .name = "regex", .kind = ARG_TEXT, .value = "PATTERN", .help = N_("the answer matches this regular expression"),
      .offset = offsetof(cli_sampling, regex) },
    { .name = "grammar", .kind = ARG_TEXT, .value = "FILE", .help = N_("the answer follows this grammar (GBNF)"),
      .offset = offsetof(cli_sampling, grammar) },
    { .name = "choice", .kind = ARG_TEXTS, .value = "TEXT", .help = N_("the answer is one of the texts so given"),
      .offset = offsetof(cli_sampling, choices) },
};
const arg_group cli_sampling_group = { N_("Sampling (otherwise as the model's generation_config says):"),
                                       sampling_options, COUNT_OF(sampling_options) };

/* ---- models ---- */

bool cli_engine_options(const cli_model *m, ern_engine_options *o, char **template_text, ern_err *e) {
    ern_buf text = { .max = MAX_TEMPLATE_BYTES };
    *template_text = NULL;
    ern_engine_defaults(o);
    o->n_threads = (size_t)m->threads.v;
    if (m->cpu) o->cpu = m->cpu;
    o->is_exact = m->is_exact;
    o->is_fast = m->is_fast;
    if (!m->template_path) return true;
    if (!file_read(&text, m->template_path, MAX_TEMPLATE_BYTES, e) || !buf_reserve(&text, 1, e)) {
        buf_deinit(&text);
        return false;
    }
    o->chat_template = *template_text = buf_take(&text);
    return true;
}

ern_engine *cli_engine_open(const char *path, const cli_model *m, ern_err *e) {
    ern_engine_options o;
    char *template_text = NULL, *found = cli_model_path(path, e);
    ern_engine *eng = NULL;
    enum ern_dtype k_type, v_type;
    const bool is_kv = !m->kv || kv_types_from_name(&k_type, &v_type, m->kv, e);       /* before a long load */
    if (is_kv && found && cli_engine_options(m, &o, &template_text, e)) eng = ern_engine_open(found, &o, e);
    free(template_text);
    free(found);
    return eng;
}

ern_session *cli_session_open(ern_engine *eng, const cli_model *m, ern_err *e) {
    ern_session_options o;
    ern_session_defaults(&o);
    o.n_ctx = (size_t)m->ctx.v;
    if (m->kv) o.kv_type = m->kv;
    return ern_session_open(eng, &o, e);
}

char *cli_models_folder(ern_err *e) {
    const char *given = getenv("ERNIE_MODELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    ern_buf b = { .max = 65536 };
    bool ok;
    if (given && *given) ok = buf_str(&b, given, e);
    else if (cache && *cache) ok = buf_printf(&b, e, "%s/ernie/models", cache);
    else if (home && *home) ok = buf_printf(&b, e, "%s/.cache/ernie/models", home);
    else ok = ern_fail(e, ERN_NOTFOUND, _("no folder for models: neither ERNIE_MODELS nor XDG_CACHE_HOME nor HOME is set"));
    if (!ok) buf_deinit(&b);
    return buf_take(&b);
}

char *cli_model_path(const char *name, ern_err *e) {
    char *folder = NULL, *path = NULL;
    if (!file_exists(name) && name[0] != '/' && name[0] != '.' && (folder = cli_models_folder(NULL)) &&
        (path = file_join(folder, name, NULL)) &&
        !file_exists(path)) {
        free(path);
        path = NULL;
    }
    free(folder);
    return path ? path : mem_strndup(name, strlen(name), e);
}

/* ---- sampling ---- */

static bool read_id(const char *text, const char *option, char **end, int32_t *out, ern_err *e) {
    const long long v = strtoll(text, end, 10);
    if (*end == text || v < 0 || v > INT32_MAX)
        return ern_fail(e, ERN_ARG, _("--%s: found \"%s\", a token id wanted"), option, text);
    *out = (int32_t)v;
    return true;
}

static bool read_bias(cli_sampler *out, const arg_texts *list, ern_err *e) {
    if (list->n == 0) return true;
    if (list->n > MAX_LOGIT_BIAS)
        return ern_fail(e, ERN_LIMIT, _("--logit-bias: %zu times, at most %d"), list->n, MAX_LOGIT_BIAS);
    if (!(out->bias = mem_zalloc(list->n, sizeof *out->bias, "logit bias", e))) return false;
    for (size_t i = 0; i < list->n; i++) {
        char *end = NULL, *stop = NULL;
        if (!read_id(list->item[i], "logit-bias", &end, &out->bias[i].id, e)) return false;
        const double v = *end == '=' ? strtod(end + 1, &stop) : 0.0;
        if (*end != '=' || stop == end + 1 || *stop)
            return ern_fail(e, ERN_ARG, _("--logit-bias: found \"%s\", ID=NUMBER wanted"), list->item[i]);
        out->bias[i].bias = (float)v;
    }
    out->s.bias = out->bias;
    out->s.n_bias = list->n;
    return true;
}

static bool read_stop_ids(cli_sampler *out, const arg_texts *list, ern_err *e) {
    if (list->n == 0) return true;
    if (!(out->stop_ids = mem_zalloc(list->n, sizeof *out->stop_ids, "stop ids", e))) return false;
    for (size_t i = 0; i < list->n; i++) {
        char *end = NULL;
        if (!read_id(list->item[i], "stop-id", &end, &out->stop_ids[i], e)) return false;
        if (*end) return ern_fail(e, ERN_ARG, _("--%s: found \"%s\", a token id wanted"), "stop-id", list->item[i]);
    }
    out->s.stop_ids = out->stop_ids;
    out->s.n_stop_ids = list->n;
    return true;
}

bool cli_sampler_init(cli_sampler *out, ern_engine *eng, const cli_sampling *o, ern_err *e) {
    cli_sampler c = { 0 };
    ern_sampling_defaults(eng, &c.s);
    if (o->temperature.is_given) c.s.temperature = (float)o->temperature.v;
    if (o->top_p.is_given) c.s.top_p = (float)o->top_p.v;
    if (o->min_p.is_given) c.s.min_p = (float)o->min_p.v;
    if (o->repetition.is_given) c.s.repetition_penalty = (float)o->repetition.v;
    if (o->frequency.is_given) c.s.frequency_penalty = (float)o->frequency.v;
    if (o->presence.is_given) c.s.presence_penalty = (float)o->presence.v;
    if (o->top_k.is_given) c.s.top_k = (size_t)o->top_k.v;
    if (o->seed.is_given) c.s.seed = o->seed.v;
    if (o->max_tokens.is_given) c.s.max_tokens = (size_t)o->max_tokens.v;
    c.s.ignores_end = o->ignores_end;
    c.s.stop = o->stop.item;
    c.s.n_stop = o->stop.n;
    if (!read_bias(&c, &o->bias, e) || !read_stop_ids(&c, &o->stop_ids, e) || !cli_constraint(&c.s.constraint, eng, o, e)) {
        cli_sampler_deinit(&c);
        return false;
    }
    *out = c;
    return true;
}

void cli_sampler_deinit(cli_sampler *s) {
    free(s->bias);
    free(s->stop_ids);
    ern_constraint_close(s->s.constraint);
    *s = (cli_sampler){ 0 };
}
