/* Completion scripts for bash, zsh and fish, from the tables. */
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"

/* A help text between single quotes of a shell. */
static bool add_quoted(ern_buf *out, const char *text, ern_err *e) {
    if (!buf_char(out, '\'', e)) return false;
    for (const char *p = text; *p; p++)
        if (*p == '\'' ? !buf_str(out, "'\\''", e) : !buf_char(out, *p, e)) return false;
    return buf_char(out, '\'', e);
}

/* "a|b|c" as "a b c". */
static bool add_choices(ern_buf *out, const char *choices, ern_err *e) {
    for (const char *p = choices; *p; p++)
        if (!buf_char(out, *p == '|' ? ' ' : *p, e)) return false;
    return true;
}

static bool add_bash(const arg_command *const *commands, size_t n, ern_buf *out, ern_err *e) {
    bool ok = buf_str(out, "# bash completion for ernie\n_ernie() {\n    local cur=${COMP_WORDS[COMP_CWORD]} "
                           "prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
                           "    COMPREPLY=()\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"",
                               e);
    for (size_t i = 0; ok && i < n; i++) ok = buf_printf(out, e, "%s%s", i ? " " : "", commands[i]->name);
    ok = ok && buf_str(out, "\" -- \"$cur\"))\n        return\n    fi\n    case \"${COMP_WORDS[1]} $prev\" in\n", e);
    for (size_t i = 0; ok && i < n; i++)
        for (size_t g = 0; ok && g < ARG_MAX_GROUPS && commands[i]->groups[g].group; g++)
            for (size_t k = 0; ok && k < commands[i]->groups[g].group->n_options; k++) {
                const arg_option *o = &commands[i]->groups[g].group->options[k];
                if (!o->choices) continue;
                ok = buf_printf(out, e, "    \"%s --%s\") COMPREPLY=($(compgen -W \"", commands[i]->name, o->name) &&
                     add_choices(out, o->choices, e) && buf_str(out, "\" -- \"$cur\")); return ;;\n", e);
            }
    ok = ok && buf_str(out, "    esac\n    case \"${COMP_WORDS[1]}\" in\n", e);
    for (size_t i = 0; ok && i < n; i++) {
        ok = buf_printf(out, e, "    %s) words=\"--help", commands[i]->name);
        for (size_t g = 0; ok && g < ARG_MAX_GROUPS && commands[i]->groups[g].group; g++)
            for (size_t k = 0; ok && k < commands[i]->groups[g].group->n_options; k++)
                ok = buf_printf(out, e, " --%s", commands[i]->groups[g].group->options[k].name);
        ok = ok && buf_str(out, "\" ;;\n", e);
    }
    ok = ok && buf_str(out, "    help) ;;\n    esac\n    case \"$cur\" in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- "
                            "\"$cur\")) ;;\n"
                            "    *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\ncomplete -o filenames -F _ernie "
                            "ernie\n", e);
    return ok;
}

/* zsh wants the brackets and colons of descriptions escaped. */
static bool add_zsh_text(ern_buf *out, const char *text, ern_err *e) {
    for (const char *p = text; *p; p++) {
        if (strchr("[]:\\", *p) && !buf_char(out, '\\', e)) return false;
        if (*p == '\'' ? !buf_str(out, "'\\''", e) : !buf_char(out, *p, e)) return false;
    }
    return true;
}

static bool add_zsh_option(const arg_option *o, ern_buf *out, ern_err *e) {
    if (!buf_printf(out, e, " \\\n            '%s--%s%s[", o->kind == ARG_TEXTS ? "*" : "", o->name,
                    o->kind == ARG_FLAG ? "" : "=") ||
        !add_zsh_text(out, _(o->help), e) || !buf_char(out, ']', e))
        return false;
    if (o->choices)
        return buf_printf(out, e, ":%s:(", o->value) && add_choices(out, o->choices, e) && buf_str(out, ")'", e);
    if (o->kind == ARG_FLAG) return buf_char(out, '\'', e);
    return buf_printf(out, e, ":%s:_files'", o->value);
}

static bool add_zsh(const arg_command *const *commands, size_t n, ern_buf *out, ern_err *e) {
    bool ok = buf_str(out, "#compdef ernie\n_ernie() {\n    local -a commands\n    commands=(\n", e);
    for (size_t i = 0; ok && i < n; i++)
        ok = buf_printf(out, e, "        '%s:", commands[i]->name) && add_zsh_text(out, _(commands[i]->summary), e) &&
            buf_str(out, "'\n", e);
    ok = ok && buf_str(out, "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n  "
                            "  fi\n"
                            "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n", e);
    for (size_t i = 0; ok && i < n; i++) {
        ok = buf_printf(out, e, "    %s)\n        _arguments '--help[", commands[i]->name) &&
            add_zsh_text(out, _("print this text"), e) && buf_str(out, "]'", e);
        for (size_t g = 0; ok && g < ARG_MAX_GROUPS && commands[i]->groups[g].group; g++)
            for (size_t k = 0; ok && k < commands[i]->groups[g].group->n_options; k++)
                ok = add_zsh_option(&commands[i]->groups[g].group->options[k], out, e);
        ok = ok && buf_str(out, " \\\n            '*:file:_files' ;;\n", e);
    }
    return ok && buf_str(out, "    esac\n}\n_ernie \"$@\"\n", e);
}

static bool add_fish(const arg_command *const *commands, size_t n, ern_buf *out, ern_err *e) {
    bool ok = buf_str(out, "# fish completion for ernie\n", e);
    for (size_t i = 0; ok && i < n; i++) {
        ok = buf_printf(out, e, "complete -c ernie -n __fish_use_subcommand -f -a %s -d ", commands[i]->name) &&
             add_quoted(out, _(commands[i]->summary), e) && buf_char(out, '\n', e);
        for (size_t g = 0; ok && g < ARG_MAX_GROUPS && commands[i]->groups[g].group; g++)
            for (size_t k = 0; ok && k < commands[i]->groups[g].group->n_options; k++) {
                const arg_option *o = &commands[i]->groups[g].group->options[k];
                ok = buf_printf(out, e, "complete -c ernie -n '__fish_seen_subcommand_from %s' -l %s", commands[i]->name,
                                o->name);
                if (ok && o->letter) ok = buf_printf(out, e, " -s %c", o->letter);
                if (ok && o->choices)
                    ok = buf_str(out, " -x -a '", e) && add_choices(out, o->choices, e) && buf_char(out, '\'', e);
                else if (ok && o->kind != ARG_FLAG) ok = buf_str(out, " -r", e);
                ok = ok && buf_str(out, " -d ", e) && add_quoted(out, _(o->help), e) && buf_char(out, '\n', e);
            }
    }
    return ok;
}

bool args_completion(const arg_command *const *commands, size_t n, const char *shell, ern_buf *out, ern_err *e) {
    if (strcmp(shell, "bash") == 0) return add_bash(commands, n, out, e);
    if (strcmp(shell, "zsh") == 0) return add_zsh(commands, n, out, e);
    if (strcmp(shell, "fish") == 0) return add_fish(commands, n, out, e);
    return ern_fail(e, ERN_ARG, _("completion: found \"%s\", one of bash, zsh, fish wanted"), shell);
}
