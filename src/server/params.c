#include "server/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define MAX_EXACT 9007199254740992.0        /* 2^53: a whole number written as a real is one up to here */
#define MAX_SHOWN 40

static const param_spec *find(const param_table *t, const char *name) {
    for (; t; t = t->base)
        for (size_t i = 0; i < t->n_specs; i++)
            if (strcmp(t->specs[i].name, name) == 0) return &t->specs[i];
    return NULL;
}

static const char *kind_name(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: case JSON_REAL: return "a number";
    case JSON_TRUE: case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

static const char *wanted_name(unsigned kinds, char *buf, size_t n) {
    static const struct { unsigned kind; const char *name; } names[] = {
        { PARAM_FLAG, "true or false" }, { PARAM_INT, "a whole number" }, { PARAM_REAL, "a number" },
        { PARAM_STRING, "a string" }, { PARAM_OBJECT, "an object" }, { PARAM_ARRAY, "an array" },
    };
    size_t at = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < PARAM_COUNT(names) && at < n; i++)
        if (kinds & names[i].kind) at += (size_t)snprintf(buf + at, n - at, "%s%s", at ? ", or " : "", names[i].name);
    return buf;
}

static unsigned kind_of(const json_t *v, unsigned kinds) {
    if (json_is_boolean(v)) return PARAM_FLAG;
    if (json_is_string(v)) return PARAM_STRING;
    if (json_is_object(v)) return PARAM_OBJECT;
    if (json_is_array(v)) return PARAM_ARRAY;
    if (json_is_integer(v)) return kinds & PARAM_INT ? PARAM_INT : PARAM_REAL;
    const double x = json_real_value(v);
    return kinds & PARAM_INT && !(kinds & PARAM_REAL) && x == floor(x) && fabs(x) <= MAX_EXACT ? PARAM_INT : PARAM_REAL;
}

/* Is word one of the texts between bars? */
static bool is_among(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = list; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0')) return true;
    }
    return false;
}

static bool check_only(const param_spec *s, const char *name, const json_t *v, ern_err *e) {
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    if (!text) return ern_fail(e, ERN_NOMEM, "%s: no memory", name);
    const bool ok = is_among(s->only, text);
    if (!ok) ern_fail(e, ERN_ARG, "%s: %.*s is not supported: %s", name, MAX_SHOWN, text, s->why ? s->why : "see the documents");
    free(text);
    return ok;
}

static bool check_range(const param_spec *s, const char *name, double x, const char *what, ern_err *e) {
    if ((s->low == 0 && s->high == 0) || (x >= s->low && x <= s->high)) return true;
    return ern_fail(e, ERN_ARG, "%s: found %s%g, %g to %g wanted", name, what, x, s->low, s->high);
}

static bool check_items(const param_spec *s, const char *name, const json_t *list, ern_err *e) {
    char wanted[96];
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
        if (s->items && (json_is_null(v) || !(s->items & kind_of(v, s->items))))
            return ern_fail(e, ERN_ARG, "%s: item %zu: found %s, %s wanted", name, i, kind_name(v),
                            wanted_name(s->items, wanted, sizeof wanted));
    return true;
}

static bool check_value(const param_spec *s, const char *name, const json_t *v, unsigned kind, ern_err *e) {
    if (kind == PARAM_INT || kind == PARAM_REAL) {
        const double x = json_number_value(v);
        if (!isfinite(x)) return ern_fail(e, ERN_ARG, "%s: a finite number wanted", name);
        return check_range(s, name, x, "", e);
    }
    if (kind == PARAM_ARRAY) return check_range(s, name, (double)json_array_size(v), "length ", e) && check_items(s, name, v, e);
    if (kind != PARAM_STRING) return true;
    const char *text = json_string_value(v);
    if (s->choices && !is_among(s->choices, text))
        return ern_fail(e, ERN_ARG, "%s: found \"%.*s\", one of %s wanted", name, MAX_SHOWN, text, s->choices);
    return s->choices || check_range(s, name, (double)json_string_length(v), "length ", e);
}

static void store(const param_spec *s, const json_t *v, unsigned kind, void *out) {
    char *at = (char *)out + s->offset;
    switch (s->kinds) {
    case PARAM_FLAG: *(param_flag *)(void *)at = (param_flag){ json_is_true(v), true }; return;
    case PARAM_INT:
        *(param_int *)(void *)at = (param_int){ json_is_integer(v) ? json_integer_value(v) : (int64_t)json_real_value(v), true };
        return;
    case PARAM_REAL: *(param_real *)(void *)at = (param_real){ json_number_value(v), true }; return;
    case PARAM_STRING: *(const char **)(void *)at = json_string_value(v); return;
    default: (void)kind; *(const json_t **)(void *)at = v;
    }
}

static bool read_object(const param_table *t, const json_t *body, void *out, const char *above, char *name, ern_err *e);

static bool read_one(const param_table *t, const char *key, const json_t *v, void *out, char *name, ern_err *e) {
    char wanted[96];
    const param_spec *s = find(t, key);
    if (!s) return ern_fail(e, ERN_ARG, "%s: no such parameter here", name);
    if (json_is_null(v)) return true;
    if (s->only) return check_only(s, name, v, e);
    if (s->kinds & PARAM_REFUSED)
        return ern_fail(e, ERN_ARG, "%s is not supported: %s", name, s->why ? s->why : "see the documents");
    const unsigned kind = kind_of(v, s->kinds);
    if (!(s->kinds & kind))
        return ern_fail(e, ERN_ARG, "%s: found %s, %s wanted", name, kind_name(v), wanted_name(s->kinds, wanted, sizeof wanted));
    if (s->of) {
        char above[PARAM_NAME_BYTES];
        snprintf(above, sizeof above, "%s", name);
        return read_object(s->of, v, out, above, name, e);
    }
    if (!check_value(s, name, v, kind, e)) return false;
    store(s, v, kind, out);
    return true;
}

static void set_name(char *name, const char *above, const char *key) {
    snprintf(name, PARAM_NAME_BYTES, "%.60s%s%.60s", above, *above ? "." : "", key);
}

static bool read_object(const param_table *t, const json_t *body, void *out, const char *above, char *name, ern_err *e) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)body, key, v) {
        set_name(name, above, key);
        if (!read_one(t, key, v, out, name, e)) return false;
    }
    for (const param_table *p = t; p; p = p->base)
        for (size_t i = 0; i < p->n_specs; i++) {
            const json_t *given = json_object_get(body, p->specs[i].name);
            if (!p->specs[i].is_required || (given && !json_is_null(given))) continue;
            set_name(name, above, p->specs[i].name);
            return ern_fail(e, ERN_ARG, "%s: missing", name);
        }
    name[0] = '\0';
    if (*above) set_name(name, "", above);
    return true;
}

bool params_read(const param_table *t, const json_t *body, void *out, char name[PARAM_NAME_BYTES], ern_err *e) {
    name[0] = '\0';
    if (!json_is_object(body)) return ern_fail(e, ERN_ARG, "body: a JSON object wanted");
    return read_object(t, body, out, "", name, e);
}

/* ---- schema ----------------------------------------------------------------------------------------------- */

static json_t *types_of(unsigned kinds, bool may_be_null) {
    static const struct { unsigned kind; const char *name; } names[] = {
        { PARAM_FLAG, "boolean" }, { PARAM_INT, "integer" }, { PARAM_REAL, "number" }, { PARAM_STRING, "string" },
        { PARAM_OBJECT, "object" }, { PARAM_ARRAY, "array" },
    };
    json_t *list = json_array();
    for (size_t i = 0; i < PARAM_COUNT(names); i++)
        if (kinds & names[i].kind) json_array_append_new(list, json_string(names[i].name));
    if (may_be_null) json_array_append_new(list, json_string("null"));
    return list;
}

static json_t *texts_between_bars(const char *list, bool is_json, bool may_be_null) {
    json_t *out = json_array();
    for (const char *p = list; p; p = strchr(p, '|')) {
        p += *p == '|';
        const size_t n = strcspn(p, "|");
        json_array_append_new(out, is_json ? json_loadb(p, n, JSON_DECODE_ANY, NULL) : json_stringn(p, n));
    }
    if (may_be_null) json_array_append_new(out, json_null());
    return out;
}

static void add_limits(const param_spec *s, json_t *x) {
    if (s->low == 0 && s->high == 0) return;
    const bool is_number = s->kinds & (PARAM_INT | PARAM_REAL);
    if (is_number || s->kinds & PARAM_STRING) {
        json_object_set_new(x, is_number ? "minimum" : "minLength", is_number && !(s->kinds & PARAM_INT)
                            ? json_real(s->low) : json_integer((json_int_t)s->low));
        json_object_set_new(x, is_number ? "maximum" : "maxLength", is_number && !(s->kinds & PARAM_INT)
                            ? json_real(s->high) : json_integer((json_int_t)s->high));
    }
    if (s->kinds & PARAM_ARRAY) {
        json_object_set_new(x, "minItems", json_integer((json_int_t)s->low));
        json_object_set_new(x, "maxItems", json_integer((json_int_t)s->high));
    }
}

static json_t *spec_schema(const param_spec *s) {
    json_t *x = s->of ? params_schema(s->of) : json_object();
    if (s->of) json_object_set_new(x, "type", types_of(PARAM_OBJECT, !s->is_required));
    else if (s->only) json_object_set_new(x, "enum", texts_between_bars(s->only, true, !s->is_required));
    else if (s->kinds & PARAM_REFUSED) json_object_set_new(x, "type", json_string("null"));
    else {
        json_object_set_new(x, "type", types_of(s->kinds, !s->is_required));
        if (s->choices && s->kinds == PARAM_STRING) json_object_set_new(x, "enum", texts_between_bars(s->choices, false, !s->is_required));
        add_limits(s, x);
    }
    if (s->items) json_object_set_new(x, "items", json_pack("{s:o}", "type", types_of(s->items, false)));
    const char *text = s->help ? s->help : s->why;
    if (text) json_object_set_new(x, "description", json_string(text));
    return x;
}

json_t *params_schema(const param_table *t) {
    json_t *properties = json_object(), *required = json_array();
    for (const param_table *p = t; p; p = p->base)
        for (size_t i = 0; i < p->n_specs; i++) {
            json_object_set_new(properties, p->specs[i].name, spec_schema(&p->specs[i]));
            if (p->specs[i].is_required) json_array_append_new(required, json_string(p->specs[i].name));
        }
    json_t *out = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties, "additionalProperties", 0);
    if (json_array_size(required)) json_object_set(out, "required", required);
    json_decref(required);
    return out;
}
