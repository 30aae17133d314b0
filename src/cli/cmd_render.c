/* Chat templates rendered from JSON lines. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "text/template.h"

struct options { const char *file; bool is_jsonl; };

/* "2025-07-04T09:05:06" */
static bool read_clock(const json_t *record, struct tm *out, ern_err *e) {
    const char *text = json_string_value(json_object_get(record, "clock"));
    struct tm t = { .tm_isdst = -1 };
    const char *end = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &t) : NULL;
    if (!end || *end)
        return ern_fail(e, ERN_FORMAT, _("\"clock\": found \"%s\", a time like 2025-07-04T09:05:06 wanted"),
                        text ? text : "");
    *out = t;
    return true;
}

/* "vars", or the other shape: "messages" and "tools" as they are and the members of "kwargs". */
static json_t *variables(const json_t *record, ern_err *e) {
    json_t *vars = json_object_get(record, "vars"), *kwargs = json_object_get(record, "kwargs");
    if (vars && !json_is_object(vars)) {
        ern_fail(e, ERN_FORMAT, _("\"vars\": an object wanted"));
        return NULL;
    }
    if (vars) return json_incref(vars);
    json_t *out = json_object(), *messages = json_object_get(record, "messages"), *tools = json_object_get(record, "tools");
    if (messages) json_object_set(out, "messages", messages);
    if (tools) json_object_set(out, "tools", tools);
    if (json_is_object(kwargs)) json_object_update(out, kwargs);
    return out;
}

static json_t *render(const json_t *record, ern_err *e) {
    const json_t *source = json_object_get(record, "template");
    struct tm clock;
    template_options o = { 0 };
    ern_buf text = { .max = (size_t)128 << 20 };
    json_t *line = NULL;
    if (!json_is_string(source)) {
        ern_fail(e, ERN_FORMAT, _("\"template\" is missing or no string"));
        return NULL;
    }
    if (json_object_get(record, "clock")) {
        if (!read_clock(record, &clock, e)) return NULL;
        mktime(&clock);                         /* the day of the week and of the year */
        o.now = &clock;
    }
    json_t *vars = variables(record, e);
    ern_template *t = vars ? template_parse(json_string_value(source), json_string_length(source), e) : NULL;
    if (t && template_render(t, vars, &o, &text, e))
        line = json_pack("{s:o}", "rendered", cli_text_json(text.data ? text.data : "", text.len));
    template_free(t);
    json_decref(vars);
    buf_deinit(&text);
    return line;
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
    .output = N_("For each line read {\"rendered\"} or {\"error\", \"line\", \"column\"}, in order, flushed."),
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
