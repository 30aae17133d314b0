#include "cli/commands.h"

#include <string.h>

#include "cli/term.h"

#define HELP_MAX_BYTES ((size_t)1 << 20)

static const arg_command *const commands[] = {
#define X(name) &cmd_##name,
    CLI_COMMAND_MAP(X)
#undef X
};

size_t commands_n(void) { return COUNT_OF(commands); }
const arg_command *const *commands_all(void) { return commands; }

const arg_command *commands_find(const char *name) {
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

const char *commands_nearest(const char *word) {
    const char *names[COUNT_OF(commands)];
    for (size_t i = 0; i < COUNT_OF(commands); i++) names[i] = commands[i]->name;
    return args_nearest(word, names, COUNT_OF(commands));
}

int commands_print_help(const arg_command *c) {
    ern_err e = { 0 };
    ern_buf text = { .max = HELP_MAX_BYTES };
    const bool ok = args_help(c, term_columns(), &text, &e);
    if (ok) fputs(text.data, stdout);
    buf_deinit(&text);
    return ok ? 0 : cli_fail(&e);
}
