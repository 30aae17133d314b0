/* All commands of the program, in the order of `ernie help`. A new one: a file cmd_NAME.c with its table, one line here. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/cli.h"

#define CLI_COMMAND_MAP(X)                                                                                             \
    X(chat) X(run) X(serve) X(inspect) X(plan) X(pull) X(convert) X(quantize) X(imatrix) X(compare) X(doctor)              \
    X(bench) X(perplexity) X(embed) X(tokenize) X(render) X(trace) X(version) X(help)

#define X(name) extern const arg_command cmd_##name;
CLI_COMMAND_MAP(X)
#undef X

size_t commands_n(void);
const arg_command *const *commands_all(void);
const arg_command *commands_find(const char *name);
const char *commands_nearest(const char *word);
int commands_print_help(const arg_command *c);          /* on stdout */

#endif
