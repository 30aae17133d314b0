/* How far a model is from the one it was made from. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/compare.h"

struct options { cli_model model; const char *a, *b, *file; arg_count window; bool is_json; };

static bool on_progress(void *ctx, size_t done, size_t total) {
    term_progress_at(ctx, done, total);
    return !cli_interrupted();
}

static bool print_result(const struct options *o, const compare_result *r, ern_err *e) {
    if (o->is_json)
        return cli_print_json(json_pack(
            "{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "tokens", (json_int_t)r->n_tokens, "compared",
            (json_int_t)r->n_compared, "kl_mean", r->kl_mean, "kl_error", r->kl_error, "kl_median", r->kl_median, "kl_99",
            r->kl_99, "kl_max", r->kl_max, "top1", r->top1, "perplexity_a", r->perplexity_a, "perplexity_b",
            r->perplexity_b, "logit_rms", r->logit_rms, "p_rms", r->p_rms), e);
    printf(_("KL divergence    mean %.6f +- %.6f, median %.6f, 99%% %.6f, largest %.4f\n"), r->kl_mean, r->kl_error,
           r->kl_median, r->kl_99, r->kl_max);
    printf(_("same best token  %.2f%% of %zu places\n"), 100.0 * r->top1, r->n_compared);
    printf(_("perplexity       %.4f (A), %.4f (B), ratio %.4f\n"), r->perplexity_a, r->perplexity_b,
           r->perplexity_b / r->perplexity_a);
    printf(_("differences      logits %.4f RMS, probability of the text's token %.4f RMS\n"), r->logit_rms, r->p_rms);
    return true;
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    ern_buf text = { 0 };
    ern_tokens ids = { 0 };
    term_progress bar;
    const compare_options co = { .window = (size_t)o->window.v, .kv_type = o->model.kv, .progress = on_progress, .ctx = &bar };
    compare_result r;
    bool ok = false;
    ern_engine *b = NULL;
    cli_catch_interrupt();
    ern_engine *a = cli_engine_open(o->a, &o->model, &e);
    if (!a || !(b = cli_engine_open(o->b, &o->model, &e)) || !cli_read_all(o->file, &text, &e)) goto out;
    if (!compare_tokens(a, b, text.data ? text.data : "", text.len, &ids, &e)) goto out;
    term_progress_begin(&bar, _("comparing"), _("tokens"), 0);
    ok = compare_run(a, b, ids.id, ids.n, &co, &r, &e);
    term_progress_end(&bar);
    ok = ok && print_result(o, &r, &e);
out:
    ern_tokens_free(&ids);
    buf_deinit(&text);
    ern_engine_close(b);
    ern_engine_close(a);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "window", .letter = 'w', .kind = ARG_COUNT, .value = "N", .low = 2,
      .help = N_("tokens of one context, of which the second half is compared; 512 otherwise"), .offset = AT(window) },
    { .name = "kv", .kind = ARG_TEXT, .value = "TYPE", .choices = CLI_KV_CHOICES, .help = CLI_KV_HELP,
      .offset = AT(model.kv) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "A", ARG_REQUIRED, N_("the model that is trusted: a folder, a GGUF file, or the name of a fetched model"), AT(a) },
    { "B", ARG_REQUIRED, N_("the model that is measured, with the same tokenizer"), AT(b) },
    { "TEXT", ARG_REQUIRED, N_("the text; - is standard input"), AT(file) },
};

const arg_command cmd_compare = {
    .name = "compare",
    .summary = N_("measure how far a quantised model is from its source"),
    .details = N_("Both models read the text; at each place their distributions of the next token are compared: the "
                  "Kullback-Leibler divergence of B from A, whether the best token is the same, the perplexity of both. "
                  "--exact measures the weights alone, without 8-bit activations."),
    .output = N_("With --json {\"tokens\", \"compared\", \"kl_mean\", \"kl_error\", \"kl_median\", \"kl_99\", \"kl_max\", "
                 "\"top1\", \"perplexity_a\", \"perplexity_b\", \"logit_rms\", \"p_rms\"}."),
    .examples = "  ernie compare ERNIE-4.5-0.3B-PT model.Q4_K_M.gguf text.txt --exact",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_compute_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
