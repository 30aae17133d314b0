/* Chat templates rendered from JSON lines. */
#include "cli/commands.h"
#include "text/template.h"

struct options { const char *file; bool is_jsonl; };

static json_t *render(const json_t *record, ern_err *e) {
    json_t *line = NULL;
    return template_render_case(record, NULL, &line, e) ? line : NULL;
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    cli_lines in = { 0 };
    bool is_end = false;
    if (!o->is_jsonl) {
        ern_fail(&e, ERN_ARG, _("render: --jsonl is missing; see ernie render --help"));
        return cli_fail(&e);
    }
    bool ok = cli_lines_open(&in, o->file ? o->file : "-", &e);
    while (ok && (ok = cli_lines_next(&in, &is_end, &e)) && !is_end) {
        ern_err why = { 0 };
        if (in.n == 0) continue;
        json_t *record = cli_record(&in, &why), *line = record ? render(record, &why) : NULL;
        json_decref(record);
        ok = cli_print_json(line ? line : cli_error_json(&why), &e);
    }
    cli_lines_close(&in);
    return ok ? 0 : cli_fail(&e);
}

static const arg_option table[] = {
    { .name = "jsonl", .kind = ARG_FLAG, .help = N_("lines of JSON in, lines of JSON out"),
      .offset = offsetof(struct options, is_jsonl) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "FILE", ARG_OPTIONAL, N_("the lines; standard input otherwise"), offsetof(struct options, file) },
};

const arg_command cmd_render = {
    .name = "render",
    .summary = N_("render chat templates"),
    .details = N_("Each line is {\"template\", \"vars\"}, or {\"template\", \"messages\", \"tools\", \"kwargs\"} where "
                  "kwargs holds every other variable. \"clock\": \"2025-07-04T09:05:06\" fixes the time that "
                  "strftime_now sees."),
    .output = N_("For each line read {\"rendered\"} (and \"spans\" of generation blocks), or {\"error\", \"detail\", "
                 "\"line\", \"column\"}, in order, flushed."),
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
