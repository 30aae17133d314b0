#include "text/template.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_int.h"

void template_free(ern_template *t) {
    if (!t) return;
    arena_free(&t->arena);
    free(t->source);
    free(t);
}

void template_spans_deinit(template_spans *s) {
    free(s->span);
    *s = (template_spans){ 0 };
}

/* \r\n and \r become \n, and one newline at the end goes. */
static bool take_source(ern_template *t, const char *source, size_t n, ern_err *e) {
    if (!(t->source = mem_zalloc(n + 1, 1, "a template", e))) return false;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') continue;
        t->source[t->n_source++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (t->n_source && t->source[t->n_source - 1] == '\n') t->n_source--;
    t->source[t->n_source] = '\0';
    return true;
}

ern_template *template_parse_fault(const char *source, size_t n, template_fault *f, ern_err *e) {
    token_list tokens = { 0 };
    ern_template *t = NULL;
    size_t bad;
    bool ok = false;
    if (n > TEMPLATE_MAX_SOURCE) {
        ern_fail(e, ERN_LIMIT, "a template of %zu bytes, at most %zu are allowed", n, TEMPLATE_MAX_SOURCE);
    } else if (!utf8_valid(source, n, &bad)) {
        ern_fail(e, ERN_FORMAT, "the template is no UTF-8 at byte %zu", bad);
    } else {
        ok = (t = mem_zalloc(1, sizeof *t, "a template", e)) && take_source(t, source, n, e) &&
             template_lex(t, &tokens, e) && template_parse_tokens(t, &tokens, f, e);
    }
    free(tokens.t);
    if (ok) return t;
    template_free(t);
    return NULL;
}

ern_template *template_parse(const char *source, size_t n, ern_err *e) { return template_parse_fault(source, n, NULL, e); }

bool template_render(const ern_template *t, const json_t *vars, const template_options *o, ern_buf *out, ern_err *e) {
    return template_render_fault(t, vars, o, out, NULL, e);
}

/* ---- cases ------------------------------------------------------------------------------------ */

static bool read_clock(const char *text, struct tm *out, ern_err *e) {
    int y, mo, d, h = 0, mi = 0, s = 0;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &y, &mo, &d, &h, &mi, &s) < 3)
        return ern_fail(e, ERN_FORMAT, "clock \"%.40s\": wanted a date like 2025-07-04T09:05:06", text);
    *out = (struct tm){ .tm_year = y - 1900, .tm_mon = mo - 1, .tm_mday = d, .tm_hour = h, .tm_min = mi, .tm_sec = s };
    if (timegm(out) == (time_t)-1 && y != 1969) return ern_fail(e, ERN_FORMAT, "clock \"%.40s\" is no date", text);
    return true;
}

static bool gather_vars(const json_t *line, json_t **out, ern_err *e) {
    static const char *const own[] = { "messages", "tools", "documents", "add_generation_prompt" };
    json_t *vars = json_object();
    json_t *given = json_object_get(line, "vars"), *kwargs = json_object_get(line, "kwargs");
    bool ok = vars != NULL;
    if (ok && given) ok = json_is_object(given) && json_object_update(vars, given) == 0;
    for (size_t i = 0; ok && i < sizeof own / sizeof *own; i++) {
        json_t *v = json_object_get(line, own[i]);
        if (v) ok = json_object_set(vars, own[i], v) == 0;
    }
    if (ok && kwargs) ok = json_is_object(kwargs) && json_object_update(vars, kwargs) == 0;
    if (ok) {
        *out = vars;
        return true;
    }
    json_decref(vars);
    if ((given && !json_is_object(given)) || (kwargs && !json_is_object(kwargs)))
        return ern_fail(e, ERN_FORMAT, "a case's vars and kwargs must be objects");
    return ern_fail(e, ERN_NOMEM, "no memory for a case's variables");
}

static json_t *fault_json(const template_fault *f, const ern_err *e) {
    char text[64];
    const bool is_raised = f->class == FAULT_RAISED;
    snprintf(text, sizeof text, "template error: %s", fault_name(f->class));
    const char *message = f->message ? f->message : e->text;
    return json_pack("{s:s, s:s, s:i, s:i}", "error", is_raised ? message : text, "detail", message, "line", f->line,
        "column", f->column);
}

/* A fault of the template, not of the machine. */
static bool is_told(const template_fault *f) { return f->line && f->class != FAULT_NOMEM; }

static json_t *spans_json(const template_spans *s) {
    json_t *all = json_array();
    for (size_t i = 0; all && i < s->n; i++)
        if (json_array_append_new(all, json_pack("[I, I]", (json_int_t)s->span[i].from_char,
            (json_int_t)s->span[i].to_char)) != 0) {
            json_decref(all);
            return NULL;
        }
    return all;
}

static bool has_generation(const char *s) {
    for (const char *at = s; (at = strstr(at, "{%")); at += 2) {
        const char *p = at + 2;
        if (*p == '-' || *p == '+') p++;
        while (*p == ' ' || *p == '\n' || *p == '\t') p++;
        if (strncmp(p, "generation", 10) == 0) return true;
    }
    return false;
}

static json_t *render_json(const ern_template *t, const json_t *line, const template_options *o, template_fault *f,
    ern_err *e) {
    json_t *vars = NULL, *result = NULL;
    template_spans spans = { 0 };
    template_options mine = o ? *o : (template_options){ 0 };
    struct tm clock;
    ern_buf out = { .max = mine.max_bytes };
    const char *when = json_string_value(json_object_get(line, "clock"));
    const bool with_spans = json_object_get(line, "messages") && has_generation(t->source);
    bool ok = gather_vars(line, &vars, e) && (!when || read_clock(when, &clock, e));
    if (ok) {
        if (when) mine.now = &clock;
        mine.spans = &spans;
        ok = template_render_fault(t, vars, &mine, &out, f, e);
        if (ok) result = json_pack("{s:s%}", "rendered", out.data ? out.data : "", out.len);
        else if (is_told(f)) result = fault_json(f, e);
        if (ok && result && with_spans && json_object_set_new(result, "spans", spans_json(&spans)) != 0) {
            json_decref(result);
            result = NULL;
        }
        if (ok && !result) ern_fail(e, ERN_NOMEM, "no memory for a case's result");
    }
    json_decref(vars);
    template_spans_deinit(&spans);
    buf_deinit(&out);
    return result;
}

bool template_render_case(const json_t *line, const template_options *o, json_t **result, ern_err *e) {
    const json_t *source = json_object_get(line, "template");
    template_fault f = { 0 };
    ern_err unused;
    if (!e) e = &unused;
    if (!json_is_string(source)) return ern_fail(e, ERN_FORMAT, "a case wants {\"template\": text, ...}");
    ern_template *t = template_parse_fault(json_string_value(source), json_string_length(source), &f, e);
    json_t *made = t ? render_json(t, line, o, &f, e) : is_told(&f) ? fault_json(&f, e) : NULL;
    if (!made && is_told(&f)) ern_fail(e, ERN_NOMEM, "no memory for a case's error");
    template_free(t);
    free(f.message);
    if (made) *result = made;
    return made != NULL;
}
