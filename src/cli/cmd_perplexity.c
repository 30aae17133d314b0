/* How well a model foretells a text. */
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/engine.h"
#include "engine/perplexity.h"

struct options { cli_model model; const char *path, *file; arg_count window, stride; bool is_json, shows_tokens,
                 has_specials; };

struct listing { term_progress progress; json_t *list; };      /* list: log probabilities, NULL unless asked for */

static bool on_progress(void *ctx, size_t done, size_t total) {
    struct listing *l = ctx;
    term_progress_at(&l->progress, done, total);
    return !cli_interrupted();
}

static bool on_token(void *ctx, size_t at, int32_t id, double logprob) {
    struct listing *l = ctx;
    (void)at;
    (void)id;
    return !l->list || json_array_append_new(l->list, cli_real(logprob)) == 0;
}

static bool print_result(const struct options *o, const perplexity_result *r, json_t *list, double spent, ern_err *e) {
    const double speed = spent > 0.0 ? (double)r->n_tokens / spent : 0.0;
    if (!o->is_json) {
        printf(_("perplexity %.4f (mean negative log-likelihood %.6f over %zu of %zu tokens, %zu windows, %.0f "
                 "tokens/s)\n"), r->perplexity,
               r->nll_mean, r->n_scored, r->n_tokens, r->n_windows, speed);
        return true;
    }
    json_t *line = json_pack("{s:o, s:o, s:I, s:I, s:I, s:f}", "perplexity", cli_real(r->perplexity), "nll",
                             cli_real(r->nll_mean), "tokens",
                             (json_int_t)r->n_tokens, "scored", (json_int_t)r->n_scored, "windows",
                                 (json_int_t)r->n_windows, "tokens_per_s", speed);
    if (line && list) json_object_set(line, "logprobs", list);
    return cli_print_json(line, e);
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    ern_buf text = { 0 };
    ern_ids ids = { 0 };
    perplexity_options po = { .window = (size_t)o->window.v, .stride = (size_t)o->stride.v, .kv_type = o->model.kv };
    perplexity_result r;
    struct listing listing = { .list = o->shows_tokens ? json_array() : NULL };
    bool ok = false;
    cli_catch_interrupt();
    ern_engine *eng = cli_engine_open(o->path, &o->model, &e);
    if (!eng || !cli_read_all(o->file, &text, &e)) goto out;
    if (!eng->tokenizer) {
        ern_fail(&e, ERN_MISSING, _("%s: no tokenizer files: its perplexity on a text cannot be measured"), o->path);
        goto out;
    }
    if (!tokenizer_encode(eng->tokenizer, text.data ? text.data : "", text.len,
                          TOKENIZER_ADD | (o->has_specials ? TOKENIZER_SPECIALS : TOKENIZER_PLAIN), &ids, &e))
        goto out;
    if (po.window == 0 && ids.n > ern_engine_max_context(eng)) po.window = ern_engine_max_context(eng);
    const double started = cli_now();
    term_progress_begin(&listing.progress, _("scoring"), _("tokens"), 0);
    ok = perplexity_run(eng, ids.id, ids.n, &po, on_progress, on_token, &listing, &r, &e);
    term_progress_end(&listing.progress);
    ok = ok && print_result(o, &r, listing.list, cli_now() - started, &e);
out:
    json_decref(listing.list);
    ids_deinit(&ids);
    buf_deinit(&text);
    ern_engine_close(eng);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "window", .letter = 'w', .kind = ARG_COUNT, .value = "N", .low = 2,
      .help = N_("tokens that a window sees; the whole text otherwise"), .offset = AT(window) },
    { .name = "stride", .kind = ARG_COUNT, .value = "N", .low = 1,
      .help = N_("tokens between the beginnings of windows; the window otherwise"), .offset = AT(stride) },
    { .name = "kv", .kind = ARG_TEXT, .value = "TYPE", .choices = CLI_KV_CHOICES, .help = CLI_KV_HELP,
      .offset = AT(model.kv) },
    { .name = "special", .kind = ARG_FLAG, .help = N_("special tokens written in the text become tokens"),
      .offset = AT(has_specials) },
    { .name = "tokens", .kind = ARG_FLAG, .help = N_("with --json: the log probability of each scored token too"),
      .offset = AT(shows_tokens) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_REQUIRED, N_("a folder, a GGUF file, or the name of a fetched model"), AT(path) },
    { "FILE", ARG_REQUIRED, N_("the text; - is standard input"), AT(file) },
};

const arg_command cmd_perplexity = {
    .name = "perplexity",
    .summary = N_("measure how well a model foretells a text"),
    .details = N_("The text is cut into windows; each token is scored once, by the first window that has seen something "
                  "before it. Without overlap the first token of each window is not scored. --exact measures the "
                  "weights alone, without 8-bit activations."),
    .output = N_("With --json {\"perplexity\", \"nll\" (mean, natural log), \"tokens\", \"scored\", \"windows\", "
                 "\"tokens_per_s\"}; --tokens adds \"logprobs\"."),
    .examples = "  ernie perplexity MODEL text.txt --window 2048 --stride 1024 --json",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_compute_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
