#include <curl/curl.h>

#include "cli/commands.h"

struct options { bool is_json; };

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    if (!o->is_json) {
        printf("ernie %s\n", ERN_VERSION);
        return 0;
    }
    json_t *line = json_pack("{s:s, s:s, s:s, s:s}", "version", ERN_VERSION, "compiler", __VERSION__, "jansson",
                             JANSSON_VERSION, "curl",
                             LIBCURL_VERSION);
    return cli_print_json(line, &e) ? 0 : cli_fail(&e);
}

static const arg_option table[] = {
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = offsetof(struct options, is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };

const arg_command cmd_version = {
    .name = "version",
    .summary = N_("print the version"),
    .output = N_("\"ernie VERSION\"; with --json {\"version\", \"compiler\", \"jansson\", \"curl\"}."),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
