/* Help of all commands and of one; man pages and completion scripts come from here too. */
#include <string.h>

#include "cli/commands.h"
#include "cli/term.h"

#define MAX_TEXT ((size_t)4 << 20)
#define NAME_COLUMNS 14

struct options { const char *command, *shell; bool is_man, lists; };

static void print_overview(void) {
    printf("%s\n\n%s\n", _("Usage: ernie COMMAND [options] [arguments]"), _("Run ERNIE 4.5 models on this machine."));
    printf("\n%s\n", _("Commands:"));
    for (size_t i = 0; i < commands_n(); i++)
        printf("  %-*s%s\n", NAME_COLUMNS, commands_all()[i]->name, _(commands_all()[i]->summary));
    printf("\n%s\n", _("ernie help COMMAND says more; so does ernie COMMAND --help."));
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    ern_buf text = { .max = MAX_TEXT };
    const arg_command *c = o->command ? commands_find(o->command) : NULL;
    bool ok = true;
    if (o->command && !c) {
        const char *near = commands_nearest(o->command);
        if (near) ern_fail(&e, ERN_ARG, _("unknown command %s; did you mean %s?"), o->command, near);
        else ern_fail(&e, ERN_ARG, _("unknown command %s; see ernie help"), o->command);
        return cli_fail(&e);
    }
    if (o->lists) {
        for (size_t i = 0; i < commands_n(); i++) puts(commands_all()[i]->name);
        return 0;
    }
    if (o->shell) ok = args_completion(commands_all(), commands_n(), o->shell, &text, &e);
    else if (o->is_man) ok = c ? args_man(c, &text, &e) : args_man_index(commands_all(), commands_n(), &text, &e);
    else if (c) return commands_print_help(c);
    else print_overview();
    if (ok && text.data) fputs(text.data, stdout);
    buf_deinit(&text);
    return ok ? 0 : cli_fail(&e);
}

static const arg_option table[] = {
    { .name = "man", .kind = ARG_FLAG, .help = N_("print the man page instead (roff)"),
      .offset = offsetof(struct options, is_man) },
    { .name = "completion", .kind = ARG_CHOICE, .value = "SHELL", .choices = "bash|zsh|fish",
      .help = N_("print a completion script"),
      .offset = offsetof(struct options, shell) },
    { .name = "list", .kind = ARG_FLAG, .help = N_("print the names of the commands alone"),
      .offset = offsetof(struct options, lists) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "COMMAND", ARG_OPTIONAL, N_("the command to explain; all otherwise"), offsetof(struct options, command) },
};

const arg_command cmd_help = {
    .name = "help",
    .summary = N_("explain the commands"),
    .examples = "  ernie help run\n  ernie help --man run | man -l -\n  source <(ernie help --completion bash)",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
