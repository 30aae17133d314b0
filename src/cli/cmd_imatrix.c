/* Which input columns of a model's matrices matter on a text. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/engine.h"
#include "engine/imatrix.h"

#define SAVE_EVERY_S 30.0

struct options { cli_model model; const char *path, *file, *out; arg_count chunk, chunks; bool is_json, has_specials; };

static bool on_progress(void *ctx, size_t done, size_t total) {
    term_progress_at(ctx, done, total);
    return !cli_interrupted();
}

static bool print_result(const struct options *o, const ern_imatrix *m, size_t n_resumed, ern_err *e) {
    if (o->is_json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I}", "out", o->out, "tensors", (json_int_t)imatrix_n(m), "chunks",
                                        (json_int_t)imatrix_n_chunks(m), "resumed", (json_int_t)n_resumed), e);
    if (n_resumed) printf(_("%zu chunks were there already\n"), n_resumed);
    printf(_("%s: importance of %zu tensors over %zu chunks\n"), o->out, imatrix_n(m), imatrix_n_chunks(m));
    return true;
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    ern_buf text = { 0 };
    ern_ids ids = { 0 };
    term_progress bar;
    size_t n_resumed = 0;
    ern_imatrix *m = NULL;
    ern_engine *eng = NULL;
    const char *slash = strrchr(o->file, '/');
    const imatrix_options io = {
        .chunk = (size_t)o->chunk.v, .max_chunks = (size_t)o->chunks.v, .dataset = slash ? slash + 1 : o->file,
        .save_path = o->out, .save_every_s = SAVE_EVERY_S, .progress = on_progress, .ctx = &bar, .resumes = true,
        .n_resumed = &n_resumed
    };
    bool ok = false;
    cli_catch_interrupt();
    if (!o->out) { ern_fail(&e, ERN_ARG, _("imatrix: --out is missing; see ernie imatrix --help")); goto out; }
    eng = cli_engine_open(o->path, &o->model, &e);
    if (!eng || !cli_read_all(o->file, &text, &e)) goto out;
    if (!eng->tokenizer) {
        ern_fail(&e, ERN_MISSING, _("%s: no tokenizer files: it cannot read a text"), o->path);
        goto out;
    }
    if (!tokenizer_encode(eng->tokenizer, text.data ? text.data : "", text.len,
                          TOKENIZER_ADD | (o->has_specials ? TOKENIZER_SPECIALS : TOKENIZER_PLAIN), &ids, &e))
        goto out;
    term_progress_begin(&bar, _("reading"), _("tokens"), 0);
    m = imatrix_collect(eng, ids.id, ids.n, &io, &e);
    term_progress_end(&bar);
    ok = m && print_result(o, m, n_resumed, &e);
out:
    imatrix_close(m);
    ids_deinit(&ids);
    buf_deinit(&text);
    ern_engine_close(eng);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "out", .letter = 'o', .kind = ARG_TEXT, .value = "FILE", .help = N_("the file to write"), .offset = AT(out) },
    { .name = "chunk", .kind = ARG_COUNT, .value = "N", .low = 1, .help = N_("tokens of one context; 512 otherwise"),
      .offset = AT(chunk) },
    { .name = "chunks", .kind = ARG_COUNT, .value = "N", .low = 1, .help = N_("stop after N chunks of the text"),
      .offset = AT(chunks) },
    { .name = "special", .kind = ARG_FLAG, .help = N_("special tokens written in the text become tokens"),
      .offset = AT(has_specials) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_REQUIRED, N_("a folder, a GGUF file, or the name of a fetched model"), AT(path) },
    { "TEXT", ARG_REQUIRED, N_("a text of the kind the model will see; - is standard input"), AT(file) },
};

const arg_command cmd_imatrix = {
    .name = "imatrix",
    .summary = N_("measure which weights of a model matter on a text"),
    .details = N_("Collects the mean squared activation of every input column of every matrix, of each expert by itself, for "
                  "ernie quantize --imatrix. What is done is kept in FILE: stopped, the same command goes on from there. "
                  "llama.cpp reads the file, and ernie quantize reads llama.cpp's."),
    .output = N_("With --json {\"out\", \"tensors\", \"chunks\", \"resumed\"}."),
    .examples = "  ernie imatrix ERNIE-4.5-21B-A3B-PT text.txt -o model.imatrix.gguf",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_compute_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
