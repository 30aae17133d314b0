/* JSON Schema 2020-12 to rules. Every keyword is honoured or refused by name; where a schema leaves a choice that the
 * grammar narrows (properties come in the order of the schema, no exponents between bounds), every answer still satisfies
 * the schema. Properties that are not required may be left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/grammar_schema.h"

#define ALT(g, ...) grammar_alt(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))
#define SEQ(g, ...) grammar_seq(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))
#define MAX_REFS 4096
#define MAX_BRANCHES 1024

typedef struct {
    ern_grammar *g;
    const json_t *root;
    json_rules r;
    int depth;
    struct { const json_t *target; uint32_t rule; } refs[MAX_REFS];     /* a target becomes a rule once, so recursion ends */
    size_t n_refs;
    json_t *made;               /* array: owns merged schemas that refs may point at */
} compiler;

static g_node compile(compiler *c, const json_t *schema);

static g_node refuse(compiler *c, const char *keyword, const char *why) {
    return grammar_fail(c->g, ERN_ARG, 0, 0, "JSON Schema: keyword \"%.100s\" %s", keyword, why);
}

#define CANNOT "cannot be decided while writing"

static bool read_count(compiler *c, const json_t *s, const char *key, uint64_t fallback, uint64_t *out) {
    const json_t *v = json_object_get(s, key);
    *out = fallback;
    if (!v) return true;
    if (json_is_real(v) && json_real_value(v) == (double)(json_int_t)json_real_value(v) && json_real_value(v) >= 0)
        *out = (uint64_t)json_real_value(v);
    else if (json_is_integer(v) && json_integer_value(v) >= 0) *out = (uint64_t)json_integer_value(v);
    else return refuse(c, key, "wants an integer of at least 0");
    return true;
}

/* ---- keywords that are known, refused, or belong to a type --------------------------------------- */

static const char *const string_words[] = { "minLength", "maxLength", "pattern", "format", NULL };
static const char *const number_words[] = { "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
                                            NULL };
static const char *const array_words[] = { "items", "prefixItems", "minItems", "maxItems", "additionalItems", NULL };
static const char *const object_words[] = { "properties", "required", "additionalProperties", "patternProperties",
                                            "minProperties",
                                            "maxProperties", "propertyNames", NULL };
static const char *const refused_words[] = { "not", "if", "then", "else", "contains", "minContains", "maxContains",
                                             "dependentRequired",
                                             "dependentSchemas", "dependencies", "unevaluatedItems",
                                                 "unevaluatedProperties", "uniqueItems",
                                             "$dynamicRef", "$recursiveRef", NULL };

static bool is_in(const char *const *list, const char *word) {
    for (; *list; list++)
        if (strcmp(*list, word) == 0) return true;
    return false;
}

static bool has_any(const json_t *s, const char *const *list) {
    for (; *list; list++)
        if (json_object_get(s, *list)) return true;
    return false;
}

static bool check_words(compiler *c, const json_t *s) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)s, key, v) {
        if (!is_in(refused_words, key)) continue;       /* unknown words are annotations, as the standard says */
        if (strcmp(key, "uniqueItems") == 0 && json_is_false(v)) continue;
        if (strcmp(key, "not") == 0 && (json_is_false(v))) continue;
        if ((strcmp(key, "minContains") == 0 || strcmp(key, "maxContains") == 0) && !json_object_get(s, "contains"))
            continue;
        if ((strcmp(key, "then") == 0 || strcmp(key, "else") == 0) && !json_object_get(s, "if")) continue;
        if (strcmp(key, "unevaluatedProperties") == 0 &&
            (json_is_true(v) || (json_is_false(v) && json_is_false(json_object_get(s, "additionalProperties"))))) continue;
        if (strcmp(key, "unevaluatedItems") == 0 && json_is_true(v)) continue;
        return refuse(c, key, CANNOT);
    }
    return true;
}

/* ---- strings ---------------------------------------------------------------------------------------- */

static const char *format_pattern(const char *format) {
#define LONG_MONTH "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
#define SHORT_MONTH "(0[469]|11)-(0[1-9]|[12][0-9]|30)"
#define FEBRUARY "02-(0[1-9]|1[0-9]|2[0-8])"
#define YEAR_DAY "[0-9]{4}-(" LONG_MONTH "|" SHORT_MONTH "|" FEBRUARY ")"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
#define PATH "[A-Za-z0-9._~!$&'()*+,;=:@-]*"
#define QUERY "[A-Za-z0-9._~!$&'()*+,;=:@/?-]*"
#define SCHEME "[A-Za-z][A-Za-z0-9+.-]*"
#define HOST "[A-Za-z0-9._~-]+(:[0-9]{1,5})?"
#define CLOCK "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define H4 "[0-9A-Fa-f]{1,4}"
    static const struct { const char *name, *pattern; } known[] = {
        { "date", "^(" YEAR_DAY ")$" },
        { "time", "^" CLOCK "$" },
        { "date-time", "^(" YEAR_DAY ")T" CLOCK "$" },
        { "duration", "^P(([0-9]+Y)([0-9]+M)?([0-9]+D)?|([0-9]+M)([0-9]+D)?|([0-9]+D)|([0-9]+W))$" },
        { "email", "^" ATOM "{1,32}(\\." ATOM "{1,15})?@" LABEL "(\\." LABEL ")+$" },
        { "hostname", "^" LABEL "(\\." LABEL "){0,3}$" },
        { "ipv4", "^" BYTE "\\." BYTE "\\." BYTE "\\." BYTE "$" },
        { "ipv6", "^((" H4 ":){7}" H4 "|(" H4 ":){1,6}:" H4 "|::(" H4 ":){0,5}" H4 "|::)$" },
        { "uuid", "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$" },
        { "uri", "^" SCHEME ":(//" HOST ")?(/" PATH ")*(\\?" QUERY ")?(#" QUERY ")?$" },
        { "regex", NULL },
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(format, known[i].name) == 0) return known[i].pattern;
    return NULL;
}

static g_node compile_string(compiler *c, const json_t *s) {
    const json_t *pattern = json_object_get(s, "pattern"), *format = json_object_get(s, "format");
    const g_node quote = grammar_text(c->g, "\"");
    const bool has_length = json_object_get(s, "minLength") || json_object_get(s, "maxLength");
    uint64_t least, most;
    if ((pattern && !json_is_string(pattern)) || (format && !json_is_string(format)))
        return refuse(c, pattern ? "pattern" : "format", "wants a string");
    if (pattern && format) return refuse(c, "format", "beside \"pattern\" " CANNOT);
    if ((pattern || format) && has_length) {
        if (format) return refuse(c, "minLength or maxLength", "beside \"format\" " CANNOT);
        return refuse(c, "minLength or maxLength", "beside \"pattern\" " CANNOT "; put the length into the pattern");
    }
    if (pattern)
        return SEQ(c->g, quote, grammar_regex_node(c->g, json_string_value(pattern), json_string_length(pattern), true,
                                                   true), quote);
    if (format) {
        const char *text = format_pattern(json_string_value(format));
        if (!text)
            return refuse(c, "format", "knows date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid and uri");
        return SEQ(c->g, quote, grammar_regex_node(c->g, text, strlen(text), true, true), quote);
    }
    if (!has_length) return grammar_ref(c->g, c->r.string);
    if (!read_count(c, s, "minLength", 0, &least) || !read_count(c, s, "maxLength", UINT64_MAX, &most)) return 0;
    if (least > most) return refuse(c, "minLength", "is more than \"maxLength\"");
    return SEQ(c->g, quote, grammar_json_chars(c->g, least, most), quote);
}

/* ---- numbers ------------------------------------------------------------------------------------------ */

static bool read_bound(compiler *c, const json_t *s, const char *key, bool is_open, bool takes_more, bool *has,
                       bool *open, double *value) {
    const json_t *v = json_object_get(s, key);
    if (!v) return true;
    if (json_is_boolean(v)) {                           /* draft 4 wrote exclusiveMinimum: true beside minimum */
        if (json_is_true(v) && *has) *open = true;
        return true;
    }
    if (!json_is_number(v)) return refuse(c, key, "wants a number");
    const double x = json_number_value(v);
    const bool is_tighter = !*has || (takes_more ? x > *value || (x == *value && is_open) : x < *value ||
                                      (x == *value && is_open));
    if (is_tighter) { *has = true; *value = x; *open = is_open; }
    return true;
}

static g_node compile_number(compiler *c, const json_t *s, bool is_integer) {
    number_bounds b = { 0 };
    const json_t *multiple = json_object_get(s, "multipleOf");
    if (!read_bound(c, s, "minimum", false, true, &b.has_low, &b.low_is_open, &b.low) ||
        !read_bound(c, s, "exclusiveMinimum", true, true, &b.has_low, &b.low_is_open, &b.low) ||
        !read_bound(c, s, "maximum", false, false, &b.has_high, &b.high_is_open, &b.high) ||
        !read_bound(c, s, "exclusiveMaximum", true, false, &b.has_high, &b.high_is_open, &b.high))
        return 0;
    const bool is_bounded = b.has_low || b.has_high;
    if (multiple) {
        const double m = json_number_value(multiple);
        if (!json_is_number(multiple) || !(m > 0.0)) return refuse(c, "multipleOf", "wants a number above 0");
        if (m == 1.0 && is_bounded) return grammar_integer_between(c->g, &b);
        if (is_bounded) return refuse(c, "multipleOf", "beside bounds " CANNOT);
        if (m == (double)(uint32_t)m && m <= 1000.0) return grammar_integer_multiple(c->g, (uint32_t)m);
        for (uint32_t places = 1; !is_integer && places <= 12; places++) {
            char text[32];
            snprintf(text, sizeof text, "1e-%u", places);
            if (m == strtod(text, NULL)) return grammar_decimals(c->g, places);
        }
        return refuse(c, "multipleOf", "can be an integer up to 1000 or a power of ten below 1");
    }
    if (!is_bounded) return grammar_ref(c->g, is_integer ? c->r.integer : c->r.number);
    return is_integer ? grammar_integer_between(c->g, &b) : grammar_number_between(c->g, &b);
}

/* ---- arrays -------------------------------------------------------------------------------------------- */

static g_node comma(compiler *c) {
    const g_node ws = grammar_ref(c->g, c->r.ws);
    return SEQ(c->g, ws, grammar_text(c->g, ","), ws);
}

/* After `first` items (0: none yet) at least `least` and at most `most` more; most UINT64_MAX: no limit. */
static g_node more_items(compiler *c, g_node item, bool is_first, uint64_t least, uint64_t most) {
    ern_grammar *g = c->g;
    const uint32_t unbounded = GRAMMAR_UNBOUNDED;
    if (most == 0) return grammar_empty(g);
    if (least > 100000 || (most != UINT64_MAX && most > 100000))
        return refuse(c, "minItems or maxItems", "up to 100000 can be decided while writing");
    const g_node next = SEQ(g, comma(c), item);
    if (!is_first) return grammar_repeat(g, next, (uint32_t)least, most == UINT64_MAX ? unbounded : (uint32_t)most);
    const g_node some = SEQ(g, item, grammar_repeat(g, next, least ? (uint32_t)least - 1 : 0, most == UINT64_MAX
                                                    ? unbounded : (uint32_t)most - 1));
    return least ? some : grammar_repeat(g, some, 0, 1);
}

static g_node compile_array(compiler *c, const json_t *s) {
    ern_grammar *g = c->g;
    const json_t *prefix = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items");
    uint64_t least, most;
    if (json_is_array(items)) {                         /* until 2019-09 a list of items was a prefix */
        prefix = items;
        items = json_object_get(s, "additionalItems");
    }
    if (prefix && !json_is_array(prefix)) return refuse(c, "prefixItems", "wants an array");
    if (!read_count(c, s, "minItems", 0, &least) || !read_count(c, s, "maxItems", UINT64_MAX, &most)) return 0;
    if (least > most) return refuse(c, "minItems", "is more than \"maxItems\"");
    const size_t n_prefix = json_array_size(prefix) < most ? json_array_size(prefix) : (size_t)most;
    if (json_is_false(items)) {
        if (least > n_prefix) return refuse(c, "minItems", "wants more items than \"items\": false leaves");
        if (most > n_prefix) most = n_prefix;
    }
    const g_node ws = grammar_ref(g, c->r.ws), any = items && !json_is_false(items) ? compile(c, items)
        : grammar_ref(g, c->r.value);
    if (!any) return 0;
    /* From the last prefix item backwards: what may follow it, and whether it may be left out. */
    g_node tail = more_items(c, any, n_prefix == 0, least > n_prefix ? least - n_prefix : 0, most == UINT64_MAX ? most
                             : most - n_prefix);
    for (size_t i = n_prefix; i-- > 0 && tail;) {
        const g_node item = compile(c, json_array_get(prefix, i));
        if (!item) return 0;
        tail = i ? SEQ(g, comma(c), item, tail) : SEQ(g, item, tail);
        if (i >= least) tail = grammar_repeat(g, tail, 0, 1);
    }
    if (!tail) return 0;
    return SEQ(g, grammar_text(g, "["), ws, tail, ws, grammar_text(g, "]"));
}

/* ---- objects ------------------------------------------------------------------------------------------- */

typedef struct { const char **names; size_t *lengths; g_node *members; bool *is_required; size_t n; } property_list;

static void free_properties(property_list *p) {
    free(p->names);
    free(p->lengths);
    free(p->members);
    free(p->is_required);
}

static bool is_required(const json_t *s, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(s, "required"), i, item)
        if (json_is_string(item) && strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

static g_node member_node(compiler *c, g_node key, g_node value) {
    const g_node ws = grammar_ref(c->g, c->r.ws);
    return SEQ(c->g, key, ws, grammar_text(c->g, ":"), ws, value);
}

/* Named properties in order, then names that are required but not described (any value, or what additional says). */
static bool list_properties(compiler *c, const json_t *s, const json_t *additional, property_list *p) {
    const json_t *properties = json_object_get(s, "properties"), *required = json_object_get(s, "required");
    const size_t most = json_object_size(properties) + json_array_size(required);
    const char *key;
    json_t *item;
    size_t i;
    if (properties && !json_is_object(properties)) return refuse(c, "properties", "wants an object");
    if (required && !json_is_array(required)) return refuse(c, "required", "wants an array of names");
    p->names = mem_zalloc(most + 1, sizeof *p->names, "properties", &c->g->err);
    p->lengths = mem_zalloc(most + 1, sizeof *p->lengths, "properties", &c->g->err);
    p->members = mem_zalloc(most + 1, sizeof *p->members, "properties", &c->g->err);
    p->is_required = mem_zalloc(most + 1, sizeof *p->is_required, "properties", &c->g->err);
    if (!p->names || !p->lengths || !p->members || !p->is_required) return !(c->g->is_failed = true);
    json_object_foreach((json_t *)(uintptr_t)properties, key, item) {
        p->names[p->n] = key;
        p->lengths[p->n] = strlen(key);
        p->is_required[p->n] = is_required(s, key);
        if (json_is_false(item)) {                      /* may never be there; its name still is no additional one */
            if (p->is_required[p->n]) return refuse(c, "required", "names a property whose schema is false");
            p->members[p->n++] = 0;
            continue;
        }
        const g_node value = compile(c, item);
        if (!value) return false;
        p->members[p->n++] = member_node(c, grammar_json_text(c->g, key, strlen(key)), value);
    }
    json_array_foreach(required, i, item) {
        const char *name = json_string_value(item);
        if (!name) return refuse(c, "required", "wants an array of names");
        bool is_known = json_object_get(properties, name) != NULL;
        for (size_t k = 0; k < p->n; k++) is_known = is_known || strcmp(p->names[k], name) == 0;
        if (is_known) continue;
        if (json_is_false(additional))
            return refuse(c, "required", "names a property that \"additionalProperties\": false forbids");
        const g_node value = additional ? compile(c, additional) : grammar_ref(c->g, c->r.value);
        if (!value) return false;
        p->names[p->n] = name;
        p->lengths[p->n] = json_string_length(item);
        p->is_required[p->n] = true;
        p->members[p->n++] = member_node(c, grammar_json_text(c->g, name, json_string_length(item)), value);
    }
    return !c->g->is_failed;
}

/* The key of properties that are not named. */
static g_node other_key(compiler *c, const json_t *s, const property_list *p) {
    const json_t *names = json_object_get(s, "propertyNames");
    if (!names || json_is_true(names))
        return p->n ? grammar_json_key_except(c->g, p->names, p->lengths, p->n) : grammar_ref(c->g, c->r.string);
    if (p->n) return refuse(c, "propertyNames", "beside \"properties\" " CANNOT);
    if (!json_is_object(names)) return refuse(c, "propertyNames", "wants a schema");
    if (json_object_get(names, "enum") || json_object_get(names, "const") || json_object_get(names, "$ref"))
        return compile(c, names);
    return compile_string(c, names);
}

/* Members beyond the named ones: 0 without failure means there are none. */
static g_node other_member(compiler *c, const json_t *s, const property_list *p, const json_t *additional) {
    const json_t *patterns = json_object_get(s, "patternProperties");
    ern_grammar *g = c->g;
    if (json_object_size(patterns)) {
        const char *pattern = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)patterns));
        if (json_object_size(patterns) > 1 || p->n)
            return refuse(c, "patternProperties", "with several patterns or beside \"properties\" " CANNOT);
        const g_node value = compile(c, json_object_get(patterns, pattern)), quote = grammar_text(g, "\"");
        if (!value) return 0;
        return member_node(c, SEQ(g, quote, grammar_regex_node(g, pattern, strlen(pattern), true, true), quote), value);
    }
    if (json_is_false(additional)) return 0;
    const g_node value = additional ? compile(c, additional) : grammar_ref(g, c->r.value), key = value
        ? other_key(c, s, p) : 0;
    return key ? member_node(c, key, value) : 0;
}

static bool check_member_counts(compiler *c, const property_list *p, g_node other, uint64_t least, uint64_t most) {
    uint64_t n_required = 0, n_possible = 0;
    for (size_t i = 0; i < p->n; i++) {
        n_required += p->is_required[i];
        n_possible += p->members[i] != 0;
    }
    if (n_required > most) return refuse(c, "maxProperties", "is less than the number of required properties");
    if (n_possible == 0) return true;                   /* only others: counted exactly */
    if (least > n_required) return refuse(c, "minProperties", "beside properties that may be left out " CANNOT);
    if (most != UINT64_MAX && (n_possible > most || other))
        return refuse(c, "maxProperties", "beside properties that may be left out " CANNOT);
    return true;
}

/* A rule of its own, so that a tail that many alternatives share is compiled once. */
static g_node as_rule(compiler *c, g_node body) {
    char name[48];
    if (!body) return 0;
    snprintf(name, sizeof name, "part-%zu", c->g->n_rules);
    return grammar_ref(c->g, grammar_rule(c->g, name, body));
}

static g_node compile_object(compiler *c, const json_t *s) {
    ern_grammar *g = c->g;
    const json_t *additional = json_object_get(s, "additionalProperties");
    property_list p = { 0 };
    g_node node = 0;
    uint64_t least, most;
    if (!read_count(c, s, "minProperties", 0, &least) || !read_count(c, s, "maxProperties", UINT64_MAX, &most)) return 0;
    if (!list_properties(c, s, additional, &p)) goto out;
    const g_node ws = grammar_ref(g, c->r.ws), other = other_member(c, s, &p, additional);
    if (g->is_failed || !check_member_counts(c, &p, other, least, most)) goto out;
    if (least > most) { refuse(c, "minProperties", "is more than \"maxProperties\""); goto out; }
    size_t n_possible = 0;
    for (size_t i = 0; i < p.n; i++) n_possible += p.members[i] != 0;
    g_node after, first;
    if (n_possible == 0) {
        if (!other && least) { refuse(c, "minProperties", "wants properties where none is allowed"); goto out; }
        first = other ? more_items(c, other, true, least, most) : grammar_empty(g);
    } else {
        /* after: what may follow once a member stands; first: what may stand first. Built from the last backwards. */
        after = other ? grammar_repeat(g, SEQ(g, comma(c), other), 0, GRAMMAR_UNBOUNDED) : grammar_empty(g);
        first = other ? grammar_repeat(g, SEQ(g, other, after), 0, 1) : grammar_empty(g);
        for (size_t i = p.n; i-- > 0 && first && after;) {
            if (!p.members[i]) continue;
            after = as_rule(c, after);
            const g_node here = SEQ(g, p.members[i], after), next = SEQ(g, comma(c), here);
            first = p.is_required[i] ? here : ALT(g, here, first);
            after = p.is_required[i] ? next : ALT(g, next, after);
        }
    }
    if (first) node = SEQ(g, grammar_text(g, "{"), ws, first, ws, grammar_text(g, "}"));
out:
    free_properties(&p);
    return node;
}

/* ---- any schema ------------------------------------------------------------------------------------------ */

static g_node compile_type(compiler *c, const json_t *s, const char *type) {
    ern_grammar *g = c->g;
    if (strcmp(type, "object") == 0) return has_any(s, object_words) ? compile_object(c, s) : grammar_ref(g, c->r.object);
    if (strcmp(type, "array") == 0) return has_any(s, array_words) ? compile_array(c, s) : grammar_ref(g, c->r.array);
    if (strcmp(type, "string") == 0) return compile_string(c, s);
    if (strcmp(type, "number") == 0) return compile_number(c, s, false);
    if (strcmp(type, "integer") == 0) return compile_number(c, s, true);
    if (strcmp(type, "boolean") == 0) return ALT(g, grammar_text(g, "true"), grammar_text(g, "false"));
    if (strcmp(type, "null") == 0) return grammar_text(g, "null");
    return grammar_fail(g, ERN_ARG, 0, 0,
                        "JSON Schema: type \"%.50s\" is none of object, array, string, number, integer, boolean, null",
                            type);
}

/* Without "type", the words of a type mean that type: an answer of another type would satisfy the letter of the
 * standard and nobody's wish. */
static g_node compile_untyped(compiler *c, const json_t *s) {
    g_node parts[4];
    size_t n = 0;
    if (has_any(s, object_words)) parts[n++] = compile_object(c, s);
    if (has_any(s, array_words)) parts[n++] = compile_array(c, s);
    if (has_any(s, string_words)) parts[n++] = compile_string(c, s);
    if (has_any(s, number_words)) parts[n++] = compile_number(c, s, false);
    if (n == 0) return grammar_ref(c->g, c->r.value);
    return c->g->is_failed ? 0 : grammar_alt(c->g, parts, n);
}

static bool value_has_type(const json_t *v, const json_t *types) {
    static const char *const names[] = { "object", "array", "string", "integer", "number", "boolean", "boolean", "null" };
    size_t i;
    json_t *item;
    if (!types) return true;
    if (json_is_array(types)) {
        json_array_foreach(types, i, item)
            if (value_has_type(v, item)) return true;
        return false;
    }
    const char *type = json_string_value(types);
    if (!type) return false;
    if (strcmp(type, "number") == 0) return json_is_number(v);
    if (strcmp(type, "integer") == 0 && json_is_real(v)) return json_real_value(v) == (double)(json_int_t)json_real_value(v);
    return strcmp(type, names[json_typeof(v)]) == 0;
}

/* Words of types beside an enumeration would have to be checked value by value. */
static g_node compile_values(compiler *c, const json_t *s, const json_t *values) {
    g_node *parts = mem_zalloc(json_array_size(values) + 1, sizeof *parts, "enum", &c->g->err), node = 0;
    size_t n = 0, i;
    json_t *item;
    if (!parts) { c->g->is_failed = true; return 0; }
    if (has_any(s, string_words) || has_any(s, number_words) || has_any(s, array_words) || has_any(s, object_words))
        refuse(c, json_object_get(s, "const") ? "const" : "enum",
               "beside keywords of a type " CANNOT "; list only the values that remain");
    json_array_foreach(values, i, item) {
        if (c->g->is_failed) break;
        if (!value_has_type(item, json_object_get(s, "type"))) continue;
        parts[n++] = grammar_json_value(c->g, &c->r, item);
    }
    if (!c->g->is_failed) node = n ? grammar_alt(c->g, parts, n) : refuse(c, "enum", "leaves no value of the \"type\"");
    free(parts);
    return node;
}

static g_node compile_ref(compiler *c, const char *pointer) {
    char name[48];
    const json_t *target = schema_resolve(c->g, c->root, pointer);
    if (!target) return 0;
    for (size_t i = 0; i < c->n_refs; i++)
        if (c->refs[i].target == target) return grammar_ref(c->g, c->refs[i].rule);
    if (c->n_refs == MAX_REFS) return refuse(c, "$ref", "stands for more than 4096 different schemas");
    snprintf(name, sizeof name, "ref-%zu", c->g->n_rules);
    const uint32_t rule = grammar_declare(c->g, name);
    if (rule == UINT32_MAX) return 0;
    c->refs[c->n_refs].target = target;
    c->refs[c->n_refs++].rule = rule;
    const g_node body = compile(c, target);
    if (!body || grammar_rule(c->g, name, body) == UINT32_MAX) return 0;
    return grammar_ref(c->g, rule);
}

/* s without one keyword: what stands beside it. NULL: nothing but annotations does. */
static json_t *without(const json_t *s, const char *word) {
    const char *key;
    json_t *v, *rest = json_object();
    bool is_empty = true;
    json_object_foreach((json_t *)(uintptr_t)s, key, v) {
        if (strcmp(key, word) == 0 || schema_is_annotation(key)) continue;
        json_object_set(rest, key, v);
        is_empty = false;
    }
    if (!is_empty) return rest;
    json_decref(rest);
    return NULL;
}

/* Keep a schema that was made here alive, since references compare addresses. */
static const json_t *keep(compiler *c, json_t *made) {
    if (made && json_array_append_new(c->made, made) != 0) grammar_fail(c->g, ERN_NOMEM, 0, 0, "no memory for a schema");
    return made;
}

/* base and branch both hold. */
static g_node compile_both(compiler *c, const json_t *base, const json_t *branch) {
    if (!base) return compile(c, branch);
    const json_t *both = keep(c, schema_merge(c->g, base, branch));
    if (both && json_is_false(both))
        return grammar_fail(c->g, ERN_ARG, 0, 0, "JSON Schema: a conjunction leaves no value possible");
    return both ? compile(c, both) : 0;
}

static g_node compile_branches(compiler *c, const json_t *s, const char *word) {
    const json_t *list = json_object_get(s, word), *base = keep(c, without(s, word));
    g_node *parts = NULL, node = 0;
    size_t n = 0, i, k;
    json_t *a, *b;
    if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > MAX_BRANCHES)
        return refuse(c, word, "wants an array of 1 to 1024 schemas");
    if (strcmp(word, "oneOf") == 0) json_array_foreach(list, i, a) json_array_foreach(list, k, b)
        if (k > i && !schema_are_disjoint(c->root, c->g, a, b, 0))
            return refuse(c, "oneOf", "with branches that may overlap " CANNOT "; use anyOf");
    if (!(parts = mem_zalloc(json_array_size(list), sizeof *parts, word, &c->g->err))) { c->g->is_failed = true; return 0; }
    json_array_foreach(list, i, a) {
        if (json_is_false(a)) continue;
        if (!(parts[n++] = compile_both(c, base, a))) goto out;
    }
    node = n ? grammar_alt(c->g, parts, n) : refuse(c, word, "leaves no value possible");
out:
    free(parts);
    return node;
}

static g_node compile_all(compiler *c, const json_t *s) {
    const json_t *list = json_object_get(s, "allOf");
    json_t *merged = without(s, "allOf"), *item;
    size_t i;
    if (!json_is_array(list)) { json_decref(merged); return refuse(c, "allOf", "wants an array of schemas"); }
    if (!merged) merged = json_object();
    json_array_foreach(list, i, item) {
        const json_t *part = item;
        const char *ref = json_string_value(json_object_get(item, "$ref"));
        /* A reference alone is replaced by what it names: its words must be merged, not its name. */
        if (ref && json_array_size(list) + json_object_size(merged) > 1) {
            json_t *beside = without(item, "$ref");
            part = schema_resolve(c->g, c->root, ref);
            if (part && beside) part = keep(c, schema_merge(c->g, part, beside));
            json_decref(beside);
        }
        json_t *both = part ? schema_merge(c->g, merged, part) : NULL;
        json_decref(merged);
        if (!both) return 0;
        merged = both;
    }
    const json_t *kept = keep(c, merged);
    if (json_is_false(kept)) return grammar_fail(c->g, ERN_ARG, 0, 0, "JSON Schema: \"allOf\" leaves no value possible");
    return compile(c, kept);
}

static g_node compile_object_schema(compiler *c, const json_t *s) {
    const json_t *ref = json_object_get(s, "$ref"), *type = json_object_get(s, "type"), *item;
    g_node parts[8];
    size_t n = 0, i;
    if (!check_words(c, s)) return 0;
    if (json_object_get(s, "allOf")) return compile_all(c, s);
    if (ref) {
        const json_t *beside = keep(c, without(s, "$ref"));
        if (!json_is_string(ref)) return refuse(c, "$ref", "wants a string");
        if (!beside) return compile_ref(c, json_string_value(ref));
        const json_t *target = schema_resolve(c->g, c->root, json_string_value(ref));
        return target ? compile_both(c, beside, target) : 0;
    }
    if (json_object_get(s, "anyOf")) return compile_branches(c, s, "anyOf");
    if (json_object_get(s, "oneOf")) return compile_branches(c, s, "oneOf");
    if ((item = json_object_get(s, "const"))) {
        const json_t *one = keep(c, json_pack("[O]", item));
        return one ? compile_values(c, s, one) : 0;
    }
    if ((item = json_object_get(s, "enum")))
        return json_is_array(item) ? compile_values(c, s, item) : refuse(c, "enum", "wants an array");
    if (!type) return compile_untyped(c, s);
    if (json_is_string(type)) return compile_type(c, s, json_string_value(type));
    if (!json_is_array(type) || json_array_size(type) == 0 || json_array_size(type) > 7)
        return refuse(c, "type", "wants a name or an array of names");
    for (i = 0; i < json_array_size(type); i++) {
        const char *name = json_string_value(json_array_get(type, i));
        if (!name) return refuse(c, "type", "wants a name or an array of names");
        if (!(parts[n++] = compile_type(c, s, name))) return 0;
    }
    return grammar_alt(c->g, parts, n);
}

static g_node compile(compiler *c, const json_t *s) {
    if (c->g->is_failed) return 0;
    if (json_is_true(s)) return grammar_ref(c->g, c->r.value);
    if (json_is_false(s))
        return grammar_fail(c->g, ERN_ARG, 0, 0, "JSON Schema: false, where a value is needed, allows none");
    if (!json_is_object(s)) return grammar_fail(c->g, ERN_ARG, 0, 0, "JSON Schema: a schema is an object, true or false");
    if (c->depth >= GRAMMAR_MAX_DEPTH)
        return grammar_fail(c->g, ERN_LIMIT, 0, 0, "JSON Schema: nested deeper than %d", GRAMMAR_MAX_DEPTH);
    c->depth++;
    const g_node node = compile_object_schema(c, s);
    c->depth--;
    return node;
}

g_node grammar_schema_node(ern_grammar *g, const json_t *schema) {
    g_node node = 0;
    compiler *c = mem_zalloc(1, sizeof *c, "JSON Schema", &g->err);
    if (!c) { g->is_failed = true; return 0; }
    c->g = g;
    c->root = schema;
    c->made = json_array();
    if (!c->made) grammar_fail(g, ERN_NOMEM, 0, 0, "no memory for a schema");
    else if (grammar_json_rules(g, &c->r)) node = compile(c, schema);
    json_decref(c->made);
    free(c);
    return node;
}

bool grammar_from_schema(ern_grammar *g, const json_t *schema, ern_err *e) {
    const uint32_t root = grammar_declare(g, "root");
    if (root != UINT32_MAX) grammar_rule(g, "root", grammar_schema_node(g, schema));
    if (g->is_failed && e) *e = g->err;
    return !g->is_failed;
}
