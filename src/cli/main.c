/* The program: a table of commands. Each parses its flags, calls one library function and prints. */
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/language.h"

static int run_command(const arg_command *c, int argc, char **argv) {
    ern_err e = { 0 };
    bool wants_help = false;
    int status;
    void *options = mem_zalloc(1, c->size_bytes, "options", &e);
    if (!options) return cli_fail(&e);
    if (!args_parse(c, argc, argv, options, &wants_help, &e)) status = cli_fail(&e);
    else status = wants_help ? commands_print_help(c) : c->run(options);
    args_deinit(c, options);
    free(options);
    return cli_finish(status);
}

static int unknown_command(const char *word) {
    ern_err e = { 0 };
    const char *near = commands_nearest(word);
    if (near) ern_fail(&e, ERN_ARG, _("unknown command %s; did you mean %s?"), word, near);
    else ern_fail(&e, ERN_ARG, _("unknown command %s; see ernie help"), word);
    return cli_fail(&e);
}

int main(int argc, char **argv) {
    language_init();
    const char *word = argc > 1 ? argv[1] : "help";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) word = "version";
    const arg_command *c = commands_find(word);
    return c ? run_command(c, argc > 2 ? argc - 2 : 0, argv + 2) : unknown_command(word);
}
