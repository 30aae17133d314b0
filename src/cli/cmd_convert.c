/* A model from one file layout into another. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/convert.h"

struct options { const char *in, *place, *out, *to, *type; arg_count shard; bool is_json; };

static bool on_progress(void *ctx, size_t done, size_t total) {
    term_progress_at(ctx, done, total);
    return !cli_interrupted();
}

static bool print_report(const struct options *o, const convert_report *r, ern_err *e) {
    char size[32];
    const char *notes = r->notes.data ? r->notes.data : "";
    if (o->is_json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "out", o->out, "tensors",
                                        (json_int_t)r->n_tensors, "rounded", (json_int_t)r->n_rounded,
                                        "dropped", (json_int_t)r->n_dropped, "bytes", (json_int_t)r->size_bytes, "notes",
                                            cli_text_json(notes, strlen(notes))), e);
    printf(_("%s: %zu tensors, %s; %zu rounded, %zu left out\n"), o->out, r->n_tensors,
           cli_size_text((double)r->size_bytes, size, sizeof size), r->n_rounded,
           r->n_dropped);
    fputs(notes, stdout);
    if (*notes && notes[strlen(notes) - 1] != '\n') putchar('\n');
    return true;
}

static bool check(struct options *o, ern_err *e) {
    if (!o->to) return ern_fail(e, ERN_ARG, _("convert: --to is missing; see ernie convert --help"));
    if (!o->out == !o->place) return ern_fail(e, ERN_ARG, _("convert: OUT or --out: one of them wanted"));
    if (!o->out) o->out = o->place;
    return true;
}

static int run(const void *options) {
    struct options copy = *(const struct options *)options, *o = &copy;
    ern_err e = { 0 };
    term_progress bar;
    convert_report report = { 0 };
    convert_options co = { .dtype = o->type, .max_shard_bytes = o->shard.v, .progress = on_progress, .progress_ctx = &bar };
    bool ok = false;
    if (check(o, &e) && convert_layout_from_name(&co.to, strcmp(o->to, "pt") == 0 ? "PT" :
        strcmp(o->to, "paddle") == 0 ? "Paddle" :
                                      "GGUF", &e)) {
        char *in = cli_model_path(o->in, &e);
        cli_catch_interrupt();
        term_progress_begin(&bar, _("writing"), "B", 0);
        ok = in && convert_model(in, o->out, &co, &report, &e);
        term_progress_end(&bar);
        ok = ok && print_report(o, &report, &e);
        free(in);
    }
    convert_report_deinit(&report);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "to", .kind = ARG_CHOICE, .value = "LAYOUT", .choices = "pt|paddle|gguf", .help = N_("the layout to write"),
      .offset = AT(to) },
    { .name = "out", .letter = 'o', .kind = ARG_TEXT, .value = "OUT", .help = N_("the folder or GGUF file to write"),
      .offset = AT(out) },
    { .name = "type", .kind = ARG_TEXT, .value = "TYPE",
      .help = N_("type of the matrices (F32, F16, BF16; in GGUF also Q8_0, ...); as they are otherwise"),
          .offset = AT(type) },
    { .name = "shard-bytes", .kind = ARG_COUNT, .value = "N", .low = 1,
      .help = N_("largest file of a folder; 5 GB otherwise"), .offset = AT(shard) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "IN", ARG_REQUIRED, N_("a folder, a GGUF file, or the name of a fetched model"), AT(in) },
    { "OUT", ARG_OPTIONAL, N_("the folder or GGUF file to write"), AT(place) },
};

const arg_command cmd_convert = {
    .name = "convert",
    .summary = N_("write a model in another layout: -PT, -Paddle, GGUF"),
    .details = N_("Nothing is rounded unless --type asks for it. The output appears whole or not at all. Tokenizer and "
                  "templates go along."),
    .output = N_("With --json {\"out\", \"tensors\", \"rounded\", \"dropped\", \"bytes\", \"notes\"}."),
    .examples = "  ernie convert ERNIE-4.5-0.3B-PT model.gguf --to gguf --type BF16\n  ernie convert model.gguf FOLDER "
                "--to paddle",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
