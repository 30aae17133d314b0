/* Guessing ahead, from the options of run and chat. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const arg_option table[] = {
    { .name = "speculate", .kind = ARG_TEXT, .value = "HOW", .choices = "off|ngram",
      .help = N_("guess tokens ahead, for speed; the text stays the same: ngram (what followed the same words before: "
                 "quotations, code, edits), off, or a small model with the same vocabulary"),
      .offset = offsetof(cli_speculation, how) },
    { .name = "draft", .kind = ARG_COUNT, .value = "N", .low = 1, .high = ERN_MAX_DRAFT,
      .help = N_("most tokens guessed at a time; 16 with ngram, 8 with a model otherwise"),
      .offset = offsetof(cli_speculation, n_max) },
};
const arg_group cli_speculation_group = { N_("Guessing ahead:"), table, COUNT_OF(table) };

bool cli_draft_init(cli_draft *out, ern_engine *eng, const cli_speculation *o, const cli_model *m, ern_err *e) {
    cli_draft d = { 0 };
    const bool is_off = !o->how || strcmp(o->how, "off") == 0;
    if (is_off && o->n_max.is_given) return ern_fail(e, ERN_ARG, _("--draft wants --speculate ngram or a model"));
    if (is_off) { *out = d; return true; }
    if (strcmp(o->how, "ngram") != 0) {
        cli_model small = *m;
        small.template_path = NULL;
        if (!(d.drafter = cli_engine_open(o->how, &small, e))) return false;
    }
    if (!(d.draft = ern_draft_open(eng, d.drafter, (size_t)o->n_max.v, e))) {
        cli_draft_deinit(&d);
        return false;
    }
    *out = d;
    return true;
}

void cli_draft_deinit(cli_draft *d) {
    ern_draft_close(d->draft);
    ern_engine_close(d->drafter);
    *d = (cli_draft){ 0 };
}

ern_draft_stats cli_draft_since(const ern_draft *d, const ern_draft_stats *before) {
    const ern_draft_stats now = ern_draft_stats_of(d);
    return (ern_draft_stats){ now.n_tokens - before->n_tokens, now.n_passes - before->n_passes,
                              now.n_drafted - before->n_drafted, now.n_accepted - before->n_accepted };
}

void cli_draft_print(FILE *to, const ern_draft_stats *st) {
    fprintf(to, _("guesses: %zu of %zu were right (%.0f %%); %zu tokens in %zu passes, %.2f a pass\n"), st->n_accepted,
            st->n_drafted, st->n_drafted ? 100.0 * (double)st->n_accepted / (double)st->n_drafted : 0.0, st->n_tokens,
            st->n_passes, st->n_passes ? (double)st->n_tokens / (double)st->n_passes : 0.0);
}
