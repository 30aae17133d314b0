/* Calling filters, tests and methods: arguments to parameters; the global functions. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "text/template_int.h"

/* ---- arguments -------------------------------------------------------------------------------- */

static size_t next_param(const char **p, const char **name, bool *is_optional) {
    while (**p == ' ' || **p == '|' || **p == '!') {
        if (**p == '|') *is_optional = true;
        ++*p;
    }
    *name = *p;
    while (**p && **p != ' ') ++*p;
    return (size_t)(*p - *name);
}

bool bind_args(rt *r, const char *name, const char *params, const call_args *a, val *slot) {
    const char *p = params, *param;
    size_t n_params = 0, n_used = 0, n;
    bool is_optional = false;
    for (size_t i = 0; i < MAX_PARAMS; i++) slot[i].kind = V_MISSING;
    if (params[0] == '!' && a->n_kw) return rt_fail(r, FAULT_TYPE, "%s() takes no keyword arguments", name);
    while ((n = next_param(&p, &param, &is_optional))) {
        val *v = &slot[n_params];
        if (n_params < a->n_pos) *v = a->pos[n_params];
        for (size_t k = 0; k < a->n_kw; k++) {
            if (a->kw[k].name->n != n || memcmp(a->kw[k].name->p, param, n) != 0) continue;
            if (v->kind != V_MISSING)
                return rt_fail(r, FAULT_TYPE, "%s() got multiple values for argument '%.*s'", name, (int)n, param);
            *v = a->kw[k].v;
            n_used++;
        }
        if (v->kind == V_MISSING && !is_optional)
            return rt_fail(r, FAULT_TYPE, "%s() missing required argument '%.*s'", name, (int)n, param);
        n_params++;
    }
    if (a->n_pos > n_params)
        return rt_fail(r, FAULT_TYPE, "%s() takes %zu arguments but %zu were given", name, n_params, a->n_pos);
    if (n_used == a->n_kw) return true;
    return rt_fail(r, FAULT_TYPE, "%s() got an unexpected keyword argument", name);
}

bool call_def(rt *r, const filter_def *d, val self, const call_args *a, val *out) {
    val slot[MAX_PARAMS];
    if (++r->depth > TEMPLATE_MAX_DEPTH) return rt_fail(r, FAULT_RECURSION, "maximum recursion depth exceeded");
    const bool all = d->params[0] == '*';
    const bool ok = rt_charge(r, 0) && (all || bind_args(r, d->name, d->params, a, slot)) && d->fn(r, self, slot, a, out);
    r->depth--;
    return ok;
}

bool arg_str(rt *r, val v, const char *what, const str **out) {
    if (v.kind != V_STR) return rt_fail(r, FAULT_TYPE, "%s must be str, not %s", what, val_type(v));
    *out = v.s;
    return true;
}

/* ---- globals ---------------------------------------------------------------------------------- */

static bool fn_range(rt *r, const call_args *a, val *out) {
    val slot[MAX_PARAMS];
    int64_t from = 0, to, step = 1;
    if (!bind_args(r, "range", "!a | b c", a, slot) || !val_index(r, slot[0], &to)) return false;
    if (slot[1].kind != V_MISSING) {
        from = to;
        if (!val_index(r, slot[1], &to)) return false;
    }
    if (slot[2].kind != V_MISSING && !val_index(r, slot[2], &step)) return false;
    if (step == 0) return rt_fail(r, FAULT_VALUE, "range() arg 3 must not be zero");
    const uint64_t size = step > 0 ? (to > from ? (uint64_t)to - (uint64_t)from : 0) :
        (from > to ? (uint64_t)from - (uint64_t)to : 0);
    const uint64_t unit = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (size && (size - 1) / unit + 1 > TEMPLATE_MAX_RANGE)
        return rt_fail(r, FAULT_OVERFLOW, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
            TEMPLATE_MAX_RANGE);
    range *g = rt_take(r, 1, sizeof *g);
    if (!g) return false;
    *g = (range){ from, to, step };
    if (!size) g->stop = from;                                  /* keeps the arithmetic of empty ranges small */
    *out = (val){ .kind = V_RANGE, .r = g };
    return true;
}

/* dict(x, k=v): from a mapping or pairs, then keywords. */
static bool dict_fill(rt *r, dict *d, const call_args *a) {
    if (a->n_pos > 1) return rt_fail(r, FAULT_TYPE, "dict expected at most 1 argument, got %zu", a->n_pos);
    if (a->n_pos && a->pos[0].kind == V_DICT) {
        for (size_t i = 0; i < a->pos[0].d->n; i++)
            if (!dict_set(r, d, a->pos[0].d->item[i].key, a->pos[0].d->item[i].value)) return false;
    } else if (a->n_pos) {
        iter it;
        val pair;
        bool has;
        if (!iter_open(r, a->pos[0], &it)) return false;
        for (;;) {
            list two = { 0 };
            if (!iter_next(r, &it, &pair, &has)) return false;
            if (!has) break;
            if (!val_is_iterable(pair))
                return rt_fail(r, FAULT_TYPE, "cannot convert dictionary update sequence element to a sequence");
            if (!val_to_list(r, pair, &two)) return false;
            if (two.n != 2)
                return rt_fail(r, FAULT_VALUE, "dictionary update sequence element has length %zu; 2 is required",
                    two.n);
            if (!dict_set(r, d, two.v[0], two.v[1])) return false;
        }
    }
    for (size_t k = 0; k < a->n_kw; k++)
        if (!dict_set(r, d, val_str(a->kw[k].name), a->kw[k].v)) return false;
    return true;
}

static bool fn_dict(rt *r, const call_args *a, val *out) {
    dict *d = dict_new(r);
    if (!d || !dict_fill(r, d, a)) return false;
    *out = (val){ .kind = V_DICT, .d = d };
    return true;
}

static bool fn_namespace(rt *r, const call_args *a, val *out) {
    if (!fn_dict(r, a, out)) return false;
    out->kind = V_SPACE;
    for (size_t i = 0; i < out->d->n; i++) {
        const val key = out->d->item[i].key;
        if (key.kind == V_STR && key.s->n && key.s->p[0] == '_')
            return rt_fail(r, FAULT_SECURITY, "a namespace cannot store the underscored attribute '%.*s'",
                (int)key.s->n, key.s->p);
    }
    return true;
}

static bool fn_cycler(rt *r, const call_args *a, val *out) {
    if (a->n_kw) return rt_fail(r, FAULT_TYPE, "cycler() got an unexpected keyword argument");
    if (!a->n_pos) return rt_fail(r, FAULT_RUN, "at least one item has to be provided");
    cycler *c = rt_take(r, 1, sizeof *c);
    if (!c) return false;
    *c = (cycler){ .n = a->n_pos, .v = a->pos };
    *out = (val){ .kind = V_CYCLER, .c = c };
    return true;
}

static bool fn_joiner(rt *r, const call_args *a, val *out) {
    val slot[MAX_PARAMS];
    cycler *c = rt_take(r, 1, sizeof *c);
    val *sep = rt_take(r, 1, sizeof *sep);
    if (!c || !sep || !bind_args(r, "joiner", "| sep", a, slot)) return false;
    *sep = slot[0].kind == V_MISSING ? val_str(str_lit(r, ", ")) : slot[0];
    *c = (cycler){ .n = 1, .v = sep };
    *out = (val){ .kind = V_JOINER, .c = c };
    return sep->kind != V_STR || sep->s;
}

static bool fn_raise(rt *r, const call_args *a, val *out) {
    val slot[MAX_PARAMS];
    const str *s;
    (void)out;
    if (!bind_args(r, "raise_exception", "message", a, slot) || !val_str_of(r, slot[0], &s)) return false;
    char *message = rt_take(r, s->n + 1, 1);
    if (!message) return false;
    memcpy(message, s->p, s->n);
    return fault_set(r->fault, r->t, r->at->pos, FAULT_RAISED, message, r->e);
}

/* One directive of strftime, in the C locale, of a clock without zone and microseconds. */
static bool put_time(ern_buf *b, const struct tm *now, char c) {
    static const char *const days[] = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" };
    static const char *const months[] = { "January", "February", "March", "April", "May", "June", "July", "August",
                                          "September", "October", "November", "December" };
    const char *day = days[now->tm_wday % 7], *month = months[now->tm_mon % 12], *half = now->tm_hour < 12 ? "AM" : "PM";
    const int hour = now->tm_hour % 12 ? now->tm_hour % 12 : 12;
    char format[3] = { '%', c, '\0' }, text[64];
    switch (c) {
    case 'a': return buf_add(b, day, 3, NULL);
    case 'A': return buf_str(b, day, NULL);
    case 'b': case 'h': return buf_add(b, month, 3, NULL);
    case 'B': return buf_str(b, month, NULL);
    case 'p': return buf_str(b, half, NULL);
    case 'P': return buf_str(b, now->tm_hour < 12 ? "am" : "pm", NULL);
    case 'c': return buf_printf(b, NULL, "%.3s %.3s %2d %02d:%02d:%02d %d", day, month, now->tm_mday, now->tm_hour,
        now->tm_min, now->tm_sec, now->tm_year + 1900);
    case 'x': return buf_printf(b, NULL, "%02d/%02d/%02d", now->tm_mon + 1, now->tm_mday, now->tm_year % 100);
    case 'X': return buf_printf(b, NULL, "%02d:%02d:%02d", now->tm_hour, now->tm_min, now->tm_sec);
    case 'r': return buf_printf(b, NULL, "%02d:%02d:%02d %s", hour, now->tm_min, now->tm_sec, half);
    case 'f': return buf_str(b, "000000", NULL);
    case 'z': case 'Z': return true;
    default:
        if (!strchr("CdDeFgGHIjklmMnRsStTuUVwWyY%", c)) return buf_str(b, format, NULL);
        return buf_add(b, text, strftime(text, sizeof text, format, now), NULL);
    }
}

static bool fn_strftime(rt *r, const call_args *a, val *out) {
    val slot[MAX_PARAMS];
    const str *format = NULL;
    struct tm now = { 0 };
    if (!bind_args(r, "strftime_now", "format", a, slot) || !arg_str(r, slot[0], "strftime() argument 1",
        &format)) return false;
    if (r->now) {
        now = *r->now;
    } else {
        const time_t t = time(NULL);
        localtime_r(&t, &now);
    }
    if (now.tm_wday < 0 || now.tm_mon < 0) return rt_fail(r, FAULT_VALUE, "the clock given to strftime_now is no date");
    ern_buf b = { .max = r->max_bytes };
    bool ok = true;
    for (size_t i = 0; ok && i < format->n; i++) {
        const char c = format->p[i];
        const bool has = c == '%' && i + 1 < format->n && format->p[i + 1] != '\0';
        ok = has ? put_time(&b, &now, format->p[++i]) : buf_char(&b, c, NULL);
    }
    if (!ok) rt_fail(r, FAULT_LIMIT, "a date passes %zu bytes", b.max);
    *out = val_str(str_buf(r, &b, ok));
    return out->s != NULL;
}

static bool fn_refused(rt *r, const call_args *a, val *out) {
    (void)a;
    (void)out;
    return rt_fail(r, FAULT_UNSUPPORTED, "lipsum and random are refused: a prompt must not depend on chance");
}

const func_def *global_find(const char *name, size_t n) {
    static const func_def globals[] = {
        { "range", fn_range }, { "dict", fn_dict }, { "namespace", fn_namespace }, { "cycler", fn_cycler },
        { "joiner", fn_joiner }, { "raise_exception", fn_raise }, { "strftime_now", fn_strftime }, { "lipsum", fn_refused },
    };
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strlen(globals[i].name) == n && memcmp(globals[i].name, name, n) == 0) return &globals[i];
    return NULL;
}
