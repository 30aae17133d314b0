/* A model into a GGUF file of fewer bits. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/quantize.h"
#include "engine/synth.h"

struct options {
    const char *in, *out, *type, *imatrix, *synth;
    arg_texts overrides;
    arg_count threads, seed;
    bool keeps_output, is_pure, is_json;
};

static bool on_progress(void *ctx, size_t done, size_t total) {
    term_progress_at(ctx, done, total);
    return !cli_interrupted();
}

static bool print_report(const struct options *o, const convert_report *r, double spent, ern_err *e) {
    char size[32];
    const char *notes = r->notes.data ? r->notes.data : "";
    if (o->is_json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:f, s:o}", "out", o->out, "tensors", (json_int_t)r->n_tensors,
                                        "bytes", (json_int_t)r->size_bytes, "seconds", spent, "notes",
                                        cli_text_json(notes, strlen(notes))), e);
    printf(_("%s: %zu tensors, %s, %.1f s\n"), o->out, r->n_tensors,
           cli_size_text((double)r->size_bytes, size, sizeof size), spent);
    fputs(notes, stdout);
    return true;
}

/* Options that only one of the two ways to make a file has. */
static bool check(struct options *o, ern_err *e) {
    if (o->synth) {
        if (o->out || o->type || o->imatrix || o->overrides.n || o->keeps_output || o->is_pure)
            return ern_fail(e, ERN_ARG, _("quantize: --synth SHAPE:TYPE takes OUT, --seed, --threads and --json alone"));
        o->out = o->in;
        return true;
    }
    if (!o->out) return ern_fail(e, ERN_ARG, _("quantize: OUT is missing; see ernie quantize --help"));
    if (o->seed.is_given) return ern_fail(e, ERN_ARG, _("quantize: --seed belongs to --synth"));
    return o->type || ern_fail(e, ERN_ARG, _("quantize: --type is missing; see ernie quantize --help"));
}

static bool make(const struct options *o, term_progress *bar, convert_report *report, ern_err *e) {
    const quantize_options qo = {
        .type = o->type, .imatrix = o->imatrix, .overrides = o->overrides.item, .n_overrides = o->overrides.n,
        .keeps_output = o->keeps_output, .is_pure = o->is_pure, .n_threads = (size_t)o->threads.v,
        .progress = on_progress, .progress_ctx = bar
    };
    const synth_options so = { .seed = o->seed.v, .n_threads = (size_t)o->threads.v, .progress = on_progress, .ctx = bar };
    if (o->synth) return synth_model(o->synth, o->out, &so, report, e);
    char *in = cli_model_path(o->in, e);
    const bool ok = in && quantize_model(in, o->out, &qo, report, e);
    free(in);
    return ok;
}

static int run(const void *options) {
    struct options copy = *(const struct options *)options, *o = &copy;
    ern_err e = { 0 };
    term_progress bar;
    convert_report report = { 0 };
    bool ok = false;
    if (check(o, &e)) {
        const double started = cli_now();
        cli_catch_interrupt();
        term_progress_begin(&bar, o->synth ? _("writing") : _("quantizing"), "B", 0);
        ok = make(o, &bar, &report, &e);
        term_progress_end(&bar);
        ok = ok && print_report(o, &report, cli_now() - started, &e);
    }
    convert_report_deinit(&report);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "type", .letter = 't', .kind = ARG_TEXT, .value = "TYPE",
      .choices = "Q8_0|Q6_K|Q5_K_M|Q4_K_M|Q4_0|IQ4_XS|Q3_K_M|Q2_K|F32|F16|BF16|Q4_1|"
                 "Q5_0|Q5_1|Q3_K|Q4_K|Q5_K|IQ4_NL|MXFP4|wint8|wint4",
      .help = N_("a recipe (Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, IQ4_XS, Q3_K_M, Q2_K), one number format, or wint8, wint4"),
      .offset = AT(type) },
    { .name = "imatrix", .kind = ARG_TEXT, .value = "FILE",
      .help = N_("importance of the columns, from ernie imatrix or llama.cpp: errors go where they matter least"),
      .offset = AT(imatrix) },
    { .name = "tensor-type", .kind = ARG_TEXTS, .value = "PATTERN=TYPE",
      .help = N_("another type for the matrices with such a GGUF name: a glob, or a part of the name; may repeat"),
      .offset = AT(overrides) },
    { .name = "keep-output", .kind = ARG_FLAG, .help = N_("leave the output and the token embedding as they are"),
      .offset = AT(keeps_output) },
    { .name = "pure", .kind = ARG_FLAG, .help = N_("every matrix gets the type itself, no mix"), .offset = AT(is_pure) },
    { .name = "synth", .kind = ARG_TEXT, .value = "SHAPE:TYPE",
      .help = N_("write random weights in the shape of a released model or a config.json (21B-A3B:Q4_0), "
                 "to measure speed with"),
      .offset = AT(synth) },
    { .name = "seed", .kind = ARG_COUNT, .value = "N", .help = N_("with --synth: the same seed gives the same file"),
      .offset = AT(seed) },
    { .name = "threads", .kind = ARG_COUNT, .value = "N", .low = 1, .high = 1024, .help = N_("threads; all cores otherwise"),
      .offset = AT(threads) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "IN", ARG_REQUIRED, N_("a folder, a GGUF file, or the name of a fetched model; not with --synth"), AT(in) },
    { "OUT", ARG_OPTIONAL, N_("the GGUF file to write; for wint8 and wint4 a folder"), AT(out) },
};

const arg_command cmd_quantize = {
    .name = "quantize",
    .summary = N_("write a model in fewer bits"),
    .details = N_("The recipes ending in _M give the matrices that suffer most a finer type. Routers, correction biases and "
                  "norms stay F32. Rows that do not fill the blocks of a type fall back to a type with smaller ones. The "
                  "output appears whole or not at all; memory stays small however large the model is."),
    .output = N_("With --json {\"out\", \"tensors\", \"bytes\", \"seconds\", \"notes\"}."),
    .examples = "  ernie quantize ERNIE-4.5-21B-A3B-PT model.gguf --type Q4_K_M\n  ernie quantize model.gguf small.gguf "
                "--type Q3_K_M --imatrix model.imatrix.gguf --tensor-type ffn_down=Q4_K\n"
                "  ernie quantize --synth 21B-A3B:Q4_0 random.gguf",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
