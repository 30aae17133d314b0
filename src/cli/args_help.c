/* --help and the man pages, from the tables. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/term.h"

#define LABEL_COLUMNS 26        /* where the texts of options begin */

/* ---- help ---- */

/* Add text wrapped at columns, each line after the first indented; breaks at spaces and beside wide characters. */
static bool add_wrapped(ern_buf *out, const char *text, size_t indent, size_t columns, ern_err *e) {
    size_t column = indent;
    for (const char *p = text; *p;) {
        size_t n = 0, width = 0;
        bool is_wide = false;
        while (p[n] && p[n] != ' ' && p[n] != '\n') {
            int32_t cp;
            const size_t used = utf8_decode(p + n, strlen(p + n), &cp);
            const size_t w = term_width(p + n, used);
            if (w == 2 && n > 0 && !is_wide) break;
            n += used;
            width += w;
            is_wide = w == 2;
            if (is_wide) break;
        }
        if (column + width > columns && column > indent) {
            if (!buf_printf(out, e, "\n%*s", (int)indent, "")) return false;
            column = indent;
        }
        if (!buf_add(out, p, n, e)) return false;
        column += width;
        p += n;
        if (*p == '\n') {
            if (!buf_printf(out, e, "\n%*s", (int)(p[1] == '\n' ? 0 : indent), "")) return false;
            column = indent;
            p++;
        } else if (*p == ' ') {
            if (column + 1 < columns) {
                if (!buf_char(out, ' ', e)) return false;
                column++;
            } else {
                if (!buf_printf(out, e, "\n%*s", (int)indent, "")) return false;
                column = indent;
            }
            p++;
        }
    }
    return buf_char(out, '\n', e);
}

static bool add_row(ern_buf *out, const char *label, const char *text, size_t columns, ern_err *e) {
    const size_t width = term_width(label, strlen(label));
    if (!buf_str(out, label, e)) return false;
    const bool fits = width + 2 <= LABEL_COLUMNS;
    if (!buf_printf(out, e, fits ? "%*s" : "\n%*s", fits ? (int)(LABEL_COLUMNS - width) : LABEL_COLUMNS, "")) return false;
    return add_wrapped(out, text, LABEL_COLUMNS, columns, e);
}

static void option_label(const arg_option *o, char *label, size_t n) {
    char letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(label, n, "  %s--%s%s%s", letter, o->name, o->kind == ARG_FLAG ? "" : " ", o->kind == ARG_FLAG ? "" : o->value);
}

/* The help sentence with what the table knows of the values. */
static void option_text(const arg_option *o, char *text, size_t n) {
    const bool has_range = o->low != 0.0 || o->high != 0.0;
    if (o->kind == ARG_CHOICE) snprintf(text, n, "%s (%s)", _(o->help), o->choices);
    else if (has_range && o->high != 0.0) snprintf(text, n, _("%s (%.12g to %.12g)"), _(o->help), o->low, o->high);
    else if (has_range) snprintf(text, n, _("%s (at least %.12g)"), _(o->help), o->low);
    else if (o->kind == ARG_TEXTS) snprintf(text, n, _("%s; may be repeated"), _(o->help));
    else snprintf(text, n, "%s", _(o->help));
}

static bool add_usage(const arg_command *c, ern_buf *out, ern_err *e) {
    if (!buf_printf(out, e, "ernie %s [%s]", c->name, _("options"))) return false;
    for (size_t i = 0; i < c->n_operands; i++) {
        const arg_operand *o = &c->operands[i];
        if (o->need == ARG_REQUIRED ? !buf_printf(out, e, " %s", o->name)
            : o->need == ARG_OPTIONAL ? !buf_printf(out, e, " [%s]", o->name) : !buf_printf(out, e, " [%s...]", o->name))
            return false;
    }
    return true;
}

bool args_help(const arg_command *c, size_t columns, ern_buf *out, ern_err *e) {
    char label[128], text[1024];
    if (columns > 100) columns = 100;
    if (columns < 60) columns = 60;
    if (!buf_str(out, _("Usage: "), e) || !add_usage(c, out, e) || !buf_str(out, "\n\n", e) ||
        !add_wrapped(out, _(c->summary), 0, columns, e))
        return false;
    if (c->details && (!buf_char(out, '\n', e) || !add_wrapped(out, _(c->details), 0, columns, e))) return false;
    if (c->n_operands && !buf_printf(out, e, "\n%s\n", _("Arguments:"))) return false;
    for (size_t i = 0; i < c->n_operands; i++) {
        snprintf(label, sizeof label, "  %s", c->operands[i].name);
        if (!add_row(out, label, _(c->operands[i].help), columns, e)) return false;
    }
    for (size_t g = 0; g < ARG_MAX_GROUPS && c->groups[g].group; g++) {
        const arg_group *group = c->groups[g].group;
        if (!buf_printf(out, e, "\n%s\n", _(group->title))) return false;
        for (size_t i = 0; i < group->n_options; i++) {
            option_label(&group->options[i], label, sizeof label);
            option_text(&group->options[i], text, sizeof text);
            if (!add_row(out, label, text, columns, e)) return false;
        }
    }
    if (!add_row(out, "  -h, --help", _("print this text"), columns, e)) return false;
    if (c->output && (!buf_printf(out, e, "\n%s\n", _("Output:")) || !add_wrapped(out, _(c->output), 0, columns, e)))
        return false;
    if (c->examples && !buf_printf(out, e, "\n%s\n%s\n", _("Examples:"), c->examples)) return false;
    return true;
}

/* ---- man pages ---- */

/* Text for roff: backslashes and dashes escaped, no line begins with a control character. */
static bool add_roff(ern_buf *out, const char *text, ern_err *e) {
    bool at_start = out->len == 0 || out->data[out->len - 1] == '\n';
    for (const char *p = text; *p; p++) {
        if (at_start && (*p == '.' || *p == '\'') && !buf_str(out, "\\&", e)) return false;
        at_start = *p == '\n';
        const bool ok = *p == '\\' ? buf_str(out, "\\e", e) : *p == '-' ? buf_str(out, "\\-", e)
                      : *p == '\n' && p[1] == '\n' ? buf_str(out, "\n.PP", e) : buf_char(out, *p, e);
        if (!ok) return false;
    }
    return true;
}

static bool add_man_option(const arg_option *o, ern_buf *out, ern_err *e) {
    char text[1024];
    option_text(o, text, sizeof text);
    if (!buf_str(out, ".TP\n.B ", e)) return false;
    if (o->letter && !buf_printf(out, e, "\\-%c, ", o->letter)) return false;
    if (!buf_str(out, "\\-\\-", e) || !add_roff(out, o->name, e)) return false;
    if (o->kind != ARG_FLAG && (!buf_str(out, " \\fI", e) || !add_roff(out, o->value, e) || !buf_str(out, "\\fR", e)))
        return false;
    return buf_char(out, '\n', e) && add_roff(out, text, e) && buf_char(out, '\n', e);
}

static bool add_man_head(const char *title, const char *summary, ern_buf *out, ern_err *e) {
    return buf_printf(out, e, ".TH \"%s\" 1 \"\" \"ernie %s\" \"%s\"\n.SH %s\n", title, ERN_VERSION, _("User commands"),
                      _("NAME")) &&
           add_roff(out, title, e) && buf_str(out, " \\- ", e) && add_roff(out, summary, e) && buf_char(out, '\n', e);
}

static bool add_man_section(const char *title, const char *text, bool is_literal, ern_buf *out, ern_err *e) {
    if (!text) return true;
    return buf_printf(out, e, ".SH %s\n%s", title, is_literal ? ".nf\n" : "") && add_roff(out, text, e) &&
           buf_str(out, is_literal ? "\n.fi\n" : "\n", e);
}

bool args_man(const arg_command *c, ern_buf *out, ern_err *e) {
    char title[64];
    snprintf(title, sizeof title, "ernie-%s", c->name);
    ern_buf usage = { .max = 65536 };
    bool ok = add_man_head(title, _(c->summary), out, e) && add_usage(c, &usage, e) &&
              add_man_section(_("SYNOPSIS"), usage.data, false, out, e) &&
                  add_man_section(_("DESCRIPTION"), c->details ? _(c->details) : _(c->summary), false, out, e);
    buf_deinit(&usage);
    if (ok && c->n_operands) ok = buf_printf(out, e, ".SH %s\n", _("ARGUMENTS"));
    for (size_t i = 0; ok && i < c->n_operands; i++)
        ok = buf_str(out, ".TP\n.I ", e) && add_roff(out, c->operands[i].name, e) && buf_char(out, '\n', e) &&
             add_roff(out, _(c->operands[i].help), e) && buf_char(out, '\n', e);
    if (ok && c->groups[0].group) ok = buf_printf(out, e, ".SH %s\n", _("OPTIONS"));
    for (size_t g = 0; ok && g < ARG_MAX_GROUPS && c->groups[g].group; g++) {
        const arg_group *group = c->groups[g].group;
        ok = buf_str(out, ".SS ", e) && add_roff(out, _(group->title), e) && buf_char(out, '\n', e);
        for (size_t i = 0; ok && i < group->n_options; i++) ok = add_man_option(&group->options[i], out, e);
    }
    return ok && add_man_section(_("OUTPUT"), c->output ? _(c->output) : NULL, false, out, e) &&
           add_man_section(_("EXAMPLES"), c->examples, true, out, e) &&
           add_man_section(_("SEE ALSO"), "ernie(1)", false, out, e);
}

static bool add_exit_statuses(ern_buf *out, ern_err *e) {
    static const struct { int status; const char *text; } rows[] = {
        { 0, N_("done") },
        { 2, N_("an option, argument or limit is wrong") },
        { 3, N_("a file or input could not be read, written or understood") },
        { 4, N_("out of memory") },
        { 5, N_("this build or machine lacks something that the work needs") },
        { 130, N_("stopped by ctrl-C") },
    };
    bool ok = buf_printf(out, e, ".SH %s\n", _("EXIT STATUS"));
    for (size_t i = 0; ok && i < COUNT_OF(rows); i++)
        ok = buf_printf(out, e, ".TP\n.B %d\n", rows[i].status) && add_roff(out, _(rows[i].text), e) &&
            buf_char(out, '\n', e);
    return ok;
}

bool args_man_index(const arg_command *const *commands, size_t n, ern_buf *out, ern_err *e) {
    bool ok = add_man_head("ernie", _("run ERNIE 4.5 models"), out, e) &&
              add_man_section(_("SYNOPSIS"), "ernie COMMAND [options] [arguments]", false, out, e) &&
              buf_printf(out, e, ".SH %s\n", _("COMMANDS"));
    for (size_t i = 0; ok && i < n; i++)
        ok = buf_printf(out, e, ".TP\n.BR ernie\\-%s (1)\n", commands[i]->name) &&
            add_roff(out, _(commands[i]->summary), e) &&
             buf_char(out, '\n', e);
    return ok && add_exit_statuses(out, e) &&
           add_man_section(_("ENVIRONMENT"),
                           _("ERNIE_MODEL: the model that chat takes when none is named. ERNIE_MODELS: the folder of "
                             "fetched models, otherwise ernie/models under XDG_CACHE_HOME or ~/.cache. NO_COLOR: no "
                             "colours. LANGUAGE, LC_ALL: the language of messages."),
                           false, out, e);
}
