/* Words of the command line into the struct of a command. */
#include "cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define MAX_WORD 64             /* names longer than this have no neighbours */
#define MAX_IDS ((size_t)1 << 24)
#define MAX_REPEATS 4096

/* ---- suggestions ------------------------------------------------------------------------------- */

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b. */
static size_t distance(const char *a, const char *b) {
    size_t rows[3][MAX_WORD + 1];
    const size_t n = strlen(a), m = strlen(b);
    if (n > MAX_WORD || m > MAX_WORD) return MAX_WORD;
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *swap = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best) best = before[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && swap[j - 2] + 1 < best)
                best = swap[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *args_nearest(const char *word, const char *const *names, size_t n) {
    const char *best = NULL;
    const size_t length = strlen(word);
    size_t best_distance = length < 3 ? 2 : length / 3 + 2;        /* this far is no neighbour any more */
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, names[i]);
        if (length >= 2 && strncmp(word, names[i], length) == 0) d = 1;          /* a beginning is near */
        if (d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

static const arg_option *find_option(const arg_command *c, const char *name, size_t n, char letter, size_t *offset) {
    for (size_t g = 0; g < ARG_MAX_GROUPS && c->groups[g].group; g++) {
        const arg_group *group = c->groups[g].group;
        for (size_t i = 0; i < group->n_options; i++) {
            const arg_option *o = &group->options[i];
            const bool is_it = letter ? o->letter == letter : strlen(o->name) == n && strncmp(o->name, name, n) == 0;
            if (!is_it) continue;
            *offset = c->groups[g].offset + o->offset;
            return o;
        }
    }
    return NULL;
}

static bool unknown_option(const arg_command *c, const char *name, size_t n, ern_err *e) {
    const char *names[256];
    char word[MAX_WORD + 1];
    size_t count = 0;
    names[count++] = "help";
    for (size_t g = 0; g < ARG_MAX_GROUPS && c->groups[g].group; g++)
        for (size_t i = 0; i < c->groups[g].group->n_options && count < COUNT_OF(names); i++)
            names[count++] = c->groups[g].group->options[i].name;
    snprintf(word, sizeof word, "%.*s", (int)(n < MAX_WORD ? n : MAX_WORD), name);
    const char *near = args_nearest(word, names, count);
    if (near) return ern_fail(e, ERN_ARG, _("%s: unknown option --%s; did you mean --%s?"), c->name, word, near);
    return ern_fail(e, ERN_ARG, _("%s: unknown option --%s; see ernie %s --help"), c->name, word, c->name);
}

/* ---- values ------------------------------------------------------------------------------------ */

static bool wrong_number(const arg_option *o, const char *text, const char *what, ern_err *e) {
    if (o->low == 0.0 && o->high == 0.0)
        return ern_fail(e, ERN_ARG, _("--%s: found \"%s\", %s wanted"), o->name, text, what);
    if (o->high == 0.0)
        return ern_fail(e, ERN_ARG, _("--%s: found \"%s\", %s of at least %g wanted"), o->name, text, what, o->low);
    return ern_fail(e, ERN_ARG, _("--%s: found \"%s\", %s from %.12g to %.12g wanted"), o->name, text, what, o->low,
                    o->high);
}

static bool in_range(const arg_option *o, double v) {
    return (o->low == 0.0 && o->high == 0.0) || (v >= o->low && (o->high == 0.0 || v <= o->high));
}

static bool parse_count(const arg_option *o, const char *text, arg_count *out, ern_err *e) {
    char *end = NULL;
    uint64_t unit = 1;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (*end == 'k' || *end == 'K') unit = 1024;
    else if (*end == 'm' || *end == 'M') unit = 1024 * 1024;
    const bool is_number = text[0] >= '0' && text[0] <= '9' && errno == 0 && end[unit > 1] == '\0' && v <= UINT64_MAX / unit;
    if (!is_number || !in_range(o, (double)(v * unit))) return wrong_number(o, text, _("a whole number"), e);
    *out = (arg_count){ v * unit, true };
    return true;
}

static bool parse_real(const arg_option *o, const char *text, arg_real *out, ern_err *e) {
    char *end = NULL;
    const double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || !in_range(o, v)) return wrong_number(o, text, _("a number"), e);
    *out = (arg_real){ v, true };
    return true;
}

static bool parse_choice(const arg_option *o, const char *text, const char **out, ern_err *e) {
    const size_t n = strlen(text);
    for (const char *p = o->choices; n && p;) {
        const char *bar = strchr(p, '|');
        const size_t length = bar ? (size_t)(bar - p) : strlen(p);
        if (length == n && strncmp(p, text, n) == 0) {
            *out = text;
            return true;
        }
        p = bar ? bar + 1 : NULL;
    }
    return ern_fail(e, ERN_ARG, _("--%s: found \"%s\", one of %s wanted"), o->name, text, o->choices);
}

static bool parse_ids(const arg_option *o, const char *text, arg_ids *out, ern_err *e) {
    size_t n = 1, cap = 1;
    for (const char *p = text; *p; p++) cap += *p == ',';
    if (cap > MAX_IDS) return ern_fail(e, ERN_LIMIT, _("--%s: %zu ids, at most %zu"), o->name, cap, MAX_IDS);
    int32_t *id = mem_zalloc(cap, sizeof *id, "ids", e);
    if (!id) return false;
    const char *p = text;
    for (n = 0; *text; n++) {
        char *end = NULL;
        errno = 0;
        const long long v = strtoll(p, &end, 10);
        if (end == p || errno || v < 0 || v > INT32_MAX || (*end && *end != ',')) {
            free(id);
            return ern_fail(e, ERN_ARG, _("--%s: found \"%.40s\" at position %zu, token ids separated by commas wanted"),
                            o->name, p,
                            (size_t)(p - text) + 1);
        }
        id[n] = (int32_t)v;
        if (!*end) { n++; break; }
        p = end + 1;
    }
    free(out->id);
    *out = (arg_ids){ id, n, true };
    return true;
}

static bool add_text(arg_texts *list, const char *name, const char *text, ern_err *e) {
    if (list->n >= MAX_REPEATS) return ern_fail(e, ERN_LIMIT, _("%s: given more than %d times"), name, MAX_REPEATS);
    const char **p = mem_grow(list->item, list->n + 1, sizeof *p, "arguments", e);
    if (!p) return false;
    list->item = p;
    list->item[list->n++] = text;
    return true;
}

static bool store(const arg_option *o, const char *text, void *at, ern_err *e) {
    switch (o->kind) {
    case ARG_FLAG: *(bool *)at = true; return true;
    case ARG_COUNT: return parse_count(o, text, at, e);
    case ARG_REAL: return parse_real(o, text, at, e);
    case ARG_TEXT: *(const char **)at = text; return true;
    case ARG_CHOICE: return parse_choice(o, text, at, e);
    case ARG_TEXTS: return add_text(at, o->name, text, e);
    case ARG_IDS: return parse_ids(o, text, at, e);
    }
    return false;
}

/* ---- the words --------------------------------------------------------------------------------- */

typedef struct { const arg_command *c; char *const *argv; int argc, at; char *out; bool wants_help; size_t operand; } words;

/* --name, --name=value, --name value */
static bool long_option(words *w, ern_err *e) {
    const char *name = w->argv[w->at] + 2, *equals = strchr(name, '=');
    const size_t n = equals ? (size_t)(equals - name) : strlen(name);
    size_t offset;
    if (n == 4 && strncmp(name, "help", 4) == 0) return w->wants_help = true;
    const arg_option *o = find_option(w->c, name, n, 0, &offset);
    if (!o) return unknown_option(w->c, name, n, e);
    if (o->kind == ARG_FLAG) {
        if (equals) return ern_fail(e, ERN_ARG, _("--%s: takes no value, found \"%s\""), o->name, equals + 1);
        return store(o, NULL, w->out + offset, e);
    }
    if (!equals && w->at + 1 >= w->argc) return ern_fail(e, ERN_ARG, _("--%s: a value (%s) is missing"), o->name, o->value);
    return store(o, equals ? equals + 1 : w->argv[++w->at], w->out + offset, e);
}

/* -x, -xy for two flags, -nVALUE, -n VALUE */
static bool short_options(words *w, ern_err *e) {
    for (const char *p = w->argv[w->at] + 1; *p; p++) {
        size_t offset;
        const arg_option *o = find_option(w->c, NULL, 0, *p, &offset);
        if (!o && *p == 'h') { w->wants_help = true; continue; }
        if (!o) return ern_fail(e, ERN_ARG, _("%s: unknown option -%c; see ernie %s --help"), w->c->name, *p, w->c->name);
        if (o->kind == ARG_FLAG) {
            if (!store(o, NULL, w->out + offset, e)) return false;
            continue;
        }
        if (p[1]) return store(o, p + 1, w->out + offset, e);
        if (w->at + 1 >= w->argc) return ern_fail(e, ERN_ARG, _("-%c: a value (%s) is missing"), o->letter, o->value);
        return store(o, w->argv[++w->at], w->out + offset, e);
    }
    return true;
}

static bool operand(words *w, const char *text, ern_err *e) {
    const arg_command *c = w->c;
    if (w->operand >= c->n_operands)
        return ern_fail(e, ERN_ARG, _("%s: \"%s\" is one argument too many; see ernie %s --help"), c->name, text, c->name);
    const arg_operand *o = &c->operands[w->operand];
    if (o->need == ARG_REST) return add_text((arg_texts *)(void *)(w->out + o->offset), o->name, text, e);
    *(const char **)(void *)(w->out + o->offset) = text;
    w->operand++;
    return true;
}

bool args_parse(const arg_command *c, int argc, char *const *argv, void *out, bool *wants_help, ern_err *e) {
    words w = { .c = c, .argv = argv, .argc = argc, .out = out };
    bool only_operands = false;
    for (; w.at < argc; w.at++) {
        const char *word = argv[w.at];
        bool ok = true;
        if (!only_operands && strcmp(word, "--") == 0) only_operands = true;
        else if (!only_operands && strncmp(word, "--", 2) == 0) ok = long_option(&w, e);
        else if (!only_operands && word[0] == '-' && word[1]) ok = short_options(&w, e);
        else ok = operand(&w, word, e);
        if (!ok) return false;
    }
    *wants_help = w.wants_help;
    if (!w.wants_help && w.operand < c->n_operands && c->operands[w.operand].need == ARG_REQUIRED)
        return ern_fail(e, ERN_ARG, _("%s: %s is missing; see ernie %s --help"), c->name, c->operands[w.operand].name,
                        c->name);
    return true;
}

void args_deinit(const arg_command *c, void *out) {
    for (size_t g = 0; g < ARG_MAX_GROUPS && c->groups[g].group; g++)
        for (size_t i = 0; i < c->groups[g].group->n_options; i++) {
            const arg_option *o = &c->groups[g].group->options[i];
            void *at = (char *)out + c->groups[g].offset + o->offset;
            if (o->kind == ARG_TEXTS) {
                free(((arg_texts *)at)->item);
                *(arg_texts *)at = (arg_texts){ 0 };
            } else if (o->kind == ARG_IDS) {
                free(((arg_ids *)at)->id);
                *(arg_ids *)at = (arg_ids){ 0 };
            }
        }
    for (size_t i = 0; i < c->n_operands; i++)
        if (c->operands[i].need == ARG_REST) {
            arg_texts *list = (arg_texts *)(void *)((char *)out + c->operands[i].offset);
            free(list->item);
            *list = (arg_texts){ 0 };
        }
}
