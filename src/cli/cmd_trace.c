/* Activations of one forward pass in a file. */
#include <stdlib.h>

#include "cli/commands.h"
#include "engine/tracefile.h"

#define MOST_ROWS 4096

struct options { cli_model model; const char *path, *out, *only; arg_ids ids; bool rounds, is_json; };

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    ern_engine_options eo;
    tracefile_result r = { 0 };
    char *unused = NULL, *path = NULL;
    ern_engine *eng = NULL;
    bool ok = false;
    if (!o->ids.is_given || !o->out) {
        ern_fail(&e, ERN_ARG, _("trace: %s is missing; see ernie trace --help"), o->out ? "--ids" : "--out");
        return cli_fail(&e);
    }
    if (!(path = cli_model_path(o->path, &e)) || !cli_engine_options(&o->model, &eo, &unused, &e)) goto out;
    eo.is_exact = !o->rounds && !eo.is_fast;
    eo.max_batch = o->ids.n < 1 ? 1 : o->ids.n < MOST_ROWS ? o->ids.n : MOST_ROWS;
    ok = (eng = ern_engine_open(path, &eo, &e)) && tracefile_write(eng, o->ids.id, o->ids.n, o->only, o->out, &r, &e);
    if (ok && o->is_json)
        ok = cli_print_json(json_pack("{s:s, s:I, s:I}", "file", o->out, "arrays", (json_int_t)r.n_arrays, "bytes",
                                      (json_int_t)r.size_bytes), &e);
    else if (ok) printf(_("%s: %zu arrays, %zu bytes\n"), o->out, r.n_arrays, r.size_bytes);
out:
    ern_engine_close(eng);
    free(unused);
    free(path);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "ids", .kind = ARG_IDS, .value = "1,2,3", .help = N_("token ids to run through the model"),
      .offset = AT(ids) },
    { .name = "out", .letter = 'o', .kind = ARG_TEXT, .value = "FILE", .help = N_("the safetensors file to write"),
      .offset = AT(out) },
    { .name = "only", .kind = ARG_TEXT, .value = "PATTERN",
      .help = N_("arrays whose names match a shell pattern, for example 'layer.0.*'"), .offset = AT(only) },
    { .name = "fast", .kind = ARG_FLAG,
      .help = N_("the arithmetic of normal runs: 8-bit activations against quantised weights"), .offset = AT(rounds) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = { { "MODEL", ARG_REQUIRED,
                                          N_("a folder, a GGUF file, or the name of a fetched model"), AT(path) } };

const arg_command cmd_trace = {
    .name = "trace",
    .summary = N_("write every intermediate array of a forward pass"),
    .details = N_("Arrays are f32 (choices of experts and ids i32): ids [T], embed, layer.N.attn, layer.N.ffn (what "
                  "each adds to the residual), layer.N.out [T,D], of expert layers layer.N.router.probs [T,E], "
                  "layer.N.router.experts and layer.N.router.weights [T,k], norm [T,D], logits [T,V]. The exact 32-bit "
                  "path runs unless --fast."),
    .output = N_("With --json {\"file\", \"arrays\", \"bytes\"}."),
    .examples = "  ernie trace MODEL --ids 1,2,3 -o out.safetensors --only 'layer.0.*'",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_compute_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
