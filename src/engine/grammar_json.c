/* JSON as a grammar: values of any kind, one given value, strings with their escapes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/grammar_schema.h"

#define ALT(g, ...) grammar_alt(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))
#define SEQ(g, ...) grammar_seq(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))

/* How JSON writes a character that may not stand for itself: NULL for the others. */
static const char *escape(uint32_t cp, char *buffer) {
    switch (cp) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default:
        if (cp >= 0x20) return NULL;
        snprintf(buffer, 8, "\\u%04x", cp);
        return buffer;
    }
}

static bool holds(const g_range *ranges, size_t n, bool is_negated, uint32_t cp) {
    for (size_t i = 0; i < n; i++)
        if (ranges[i].low <= cp && cp <= ranges[i].high) return !is_negated;
    return is_negated;
}

/* One character of a set inside a JSON string: as itself where it may, otherwise escaped. */
g_node grammar_json_string_char(ern_grammar *g, const g_range *ranges, size_t n, bool is_negated) {
    g_node parts[40];
    size_t n_parts = 0;
    char buffer[8];
    g_range *plain = mem_zalloc(2 * n + 8, sizeof *plain, "character class", &g->err);
    if (!plain) { g->is_failed = true; return 0; }
    size_t n_plain = 0;
    /* Not in the set, or not allowed plain: the complement of what may be written as itself. */
    static const g_range never[] = { { 0, 0x1F }, { '"', '"' }, { '\\', '\\' } };
    if (is_negated) {
        if (n) memcpy(plain, ranges, n * sizeof *ranges);
        n_plain = n;
        for (size_t i = 0; i < 3; i++) plain[n_plain++] = never[i];
        parts[n_parts++] = grammar_class(g, plain, n_plain, true);
    } else {
        static const g_range ok[] = { { 0x20, 0x21 }, { 0x23, 0x5B }, { 0x5D, 0x10FFFF } };
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < 3; k++) {
                const uint32_t low = ranges[i].low > ok[k].low ? ranges[i].low : ok[k].low;
                const uint32_t high = ranges[i].high < ok[k].high ? ranges[i].high : ok[k].high;
                if (low > high) continue;
                if (n_plain == 2 * n + 8) break;
                plain[n_plain++] = (g_range){ low, high };
            }
        if (n_plain) parts[n_parts++] = grammar_class(g, plain, n_plain, false);
    }
    free(plain);
    for (uint32_t cp = 0; cp < 0x80; cp++) {
        const char *text = cp < 0x20 || cp == '"' || cp == '\\' ? escape(cp, buffer) : NULL;
        if (text && holds(ranges, n, is_negated, cp)) parts[n_parts++] = grammar_text(g, text);
    }
    return n_parts ? grammar_alt(g, parts, n_parts) : grammar_fail(g, ERN_ARG, 0, 0, "grammar: an empty character class");
}

/* Any character of a string, \uXXXX included; halves of surrogate pairs only together. */
static g_node any_char(ern_grammar *g) {
    static const g_range special[] = { { 0, 0x1F }, { '"', '"' }, { '\\', '\\' } };
    static const g_range hex_digits[] = { { '0', '9' }, { 'A', 'F' }, { 'a', 'f' } };
    static const g_range not_d[] = { { '0', '9' }, { 'A', 'C' }, { 'E', 'F' }, { 'a', 'c' }, { 'e', 'f' } };
    static const g_range d[] = { { 'D', 'D' }, { 'd', 'd' } }, high[] = { { '8', '9' }, { 'A', 'B' }, { 'a', 'b' } };
    static const g_range low[] = { { 'C', 'F' }, { 'c', 'f' } };
    const g_node hex = grammar_class(g, hex_digits, 3, false), three = grammar_repeat(g, hex, 3, 3), two =
        grammar_repeat(g, hex, 2, 2);
    const g_node letter_d = grammar_class(g, d, 2, false);
    const g_node pair = SEQ(g, letter_d, grammar_class(g, high, 3, false), two, grammar_text(g, "\\u"), letter_d,
                            grammar_class(g, low, 2, false), two);
    const g_node unicode = ALT(g, SEQ(g, grammar_class(g, not_d, 5, false), three),
                               SEQ(g, letter_d, grammar_range(g, '0', '7'), two), pair);
    static const g_range short_escapes[] = { { '"', '"' }, { '\\', '\\' }, { '/', '/' }, { 'b', 'b' }, { 'f', 'f' },
                                             { 'n', 'n' }, { 'r', 'r' }, { 't', 't' } };
    const g_node escaped =
        SEQ(g, grammar_text(g, "\\"), ALT(g, grammar_class(g, short_escapes, 8, false),
                                          SEQ(g, grammar_text(g, "u"), unicode)));
    return ALT(g, grammar_class(g, special, 3, true), escaped);
}

g_node grammar_json_chars(ern_grammar *g, uint64_t least, uint64_t most) {
    if (least > 100000 || (most != UINT64_MAX && most > 100000))
        return grammar_fail(g, ERN_ARG, 0, 0,
                            "JSON Schema: minLength and maxLength up to 100000 can be decided while writing");
    return grammar_repeat(g, any_char(g), (uint32_t)least, most == UINT64_MAX ? GRAMMAR_UNBOUNDED : (uint32_t)most);
}

bool grammar_json_rules(ern_grammar *g, json_rules *r) {
    static const g_range spaces[] = { { '\t', '\n' }, { '\r', '\r' }, { ' ', ' ' } };
    if (g->is_failed) return false;
    r->ws = grammar_declare(g, "ws");
    r->string = grammar_declare(g, "string");
    r->number = grammar_declare(g, "number");
    r->integer = grammar_declare(g, "integer");
    r->value = grammar_declare(g, "value");
    r->object = grammar_declare(g, "object");
    r->array = grammar_declare(g, "array");
    if (g->is_failed) return false;
    if (g->rules[r->ws].body) return true;
    const g_node ws = grammar_ref(g, r->ws), value = grammar_ref(g, r->value), string = grammar_ref(g, r->string);
    const g_node digit = grammar_range(g, '0', '9'), digits = grammar_repeat(g, digit, 1, GRAMMAR_UNBOUNDED);
    const g_node whole = SEQ(g, grammar_repeat(g, grammar_text(g, "-"), 0, 1),
                             ALT(g, grammar_text(g, "0"),
                                 SEQ(g, grammar_range(g, '1', '9'), grammar_repeat(g, digit, 0, GRAMMAR_UNBOUNDED))));
    static const g_range exponent[] = { { 'E', 'E' }, { 'e', 'e' } }, sign[] = { { '+', '+' }, { '-', '-' } };
    const g_node fraction = SEQ(g, grammar_text(g, "."), digits);
    const g_node power = SEQ(g, grammar_class(g, exponent, 2, false),
                             grammar_repeat(g, grammar_class(g, sign, 2, false), 0, 1), digits);
    const g_node comma = SEQ(g, ws, grammar_text(g, ","), ws), member = SEQ(g, string, ws, grammar_text(g, ":"), ws, value);
    grammar_rule(g, "ws", grammar_repeat(g, grammar_class(g, spaces, 3, false), 0, SCHEMA_MAX_SPACE));
    grammar_rule(g, "string", SEQ(g, grammar_text(g, "\""), grammar_json_chars(g, 0, UINT64_MAX), grammar_text(g, "\"")));
    grammar_rule(g, "integer", whole);
    grammar_rule(g, "number", SEQ(g, whole, grammar_repeat(g, fraction, 0, 1), grammar_repeat(g, power, 0, 1)));
    grammar_rule(g, "object", SEQ(g, grammar_text(g, "{"), ws,
                                  grammar_repeat(g, SEQ(g, member, grammar_repeat(g, SEQ(g, comma, member), 0,
                                          GRAMMAR_UNBOUNDED), ws), 0, 1),
                                  grammar_text(g, "}")));
    grammar_rule(g, "array", SEQ(g, grammar_text(g, "["), ws,
                                 grammar_repeat(g, SEQ(g, value, grammar_repeat(g, SEQ(g, comma, value), 0,
                                         GRAMMAR_UNBOUNDED), ws), 0, 1),
                                 grammar_text(g, "]")));
    grammar_rule(g, "value", ALT(g, grammar_ref(g, r->object), grammar_ref(g, r->array), string, grammar_ref(g, r->number),
                                 grammar_text(g, "true"), grammar_text(g, "false"), grammar_text(g, "null")));
    return !g->is_failed;
}

bool grammar_any_object(ern_grammar *g, ern_err *e) {
    json_rules r;
    const uint32_t root = grammar_declare(g, "root");
    if (root != UINT32_MAX && grammar_json_rules(g, &r)) grammar_rule(g, "root", grammar_ref(g, r.object));
    if (g->is_failed && e) *e = g->err;
    return !g->is_failed;
}

/* ---- one value --------------------------------------------------------------------------------------- */

g_node grammar_json_text(ern_grammar *g, const char *s, size_t n) {
    ern_buf b = { .max = 1 << 24 };
    bool ok = buf_char(&b, '"', &g->err);
    for (size_t i = 0; ok && i < n;) {
        int32_t cp;
        char buffer[8];
        const size_t used = utf8_decode(s + i, n - i, &cp);
        const char *text = cp >= 0 ? escape((uint32_t)cp, buffer) : NULL;
        ok = text ? buf_str(&b, text, &g->err) : buf_add(&b, s + i, used, &g->err);
        i += used;
    }
    ok = ok && buf_char(&b, '"', &g->err);
    if (!ok) g->is_failed = true;
    const g_node node = ok ? grammar_literal(g, b.data, b.len) : 0;
    buf_deinit(&b);
    return node;
}

static g_node number_value(ern_grammar *g, const json_t *v) {
    char text[64];
    if (json_is_integer(v)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        return grammar_text(g, text);
    }
    const double x = json_real_value(v);
    for (int digits = 1; digits <= 17; digits++) {      /* the shortest text that reads back as x */
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    return x == floor(x) && fabs(x) < 1e15
        ? SEQ(g, grammar_text(g, text), grammar_repeat(g, grammar_text(g, ".0"), 0, 1)) : grammar_text(g, text);
}

static g_node list_value(ern_grammar *g, const json_rules *r, const json_t *v) {
    const bool is_object = json_is_object(v);
    const size_t n = is_object ? json_object_size(v) : json_array_size(v);
    const g_node ws = grammar_ref(g, r->ws);
    g_node *parts = mem_zalloc(4 * n + 4, sizeof *parts, "JSON value", &g->err), node = 0;
    size_t n_parts = 0, i;
    const char *key;
    json_t *item;
    if (!parts) { g->is_failed = true; return 0; }
    parts[n_parts++] = grammar_text(g, is_object ? "{" : "[");
    if (is_object) json_object_foreach((json_t *)(uintptr_t)v, key, item) {
        if (n_parts > 1) parts[n_parts++] = SEQ(g, ws, grammar_text(g, ","));
        parts[n_parts++] = SEQ(g, ws, grammar_json_text(g, key, strlen(key)), ws, grammar_text(g, ":"), ws);
        parts[n_parts++] = grammar_json_value(g, r, item);
    } else json_array_foreach(v, i, item) {
        if (n_parts > 1) parts[n_parts++] = SEQ(g, ws, grammar_text(g, ","));
        parts[n_parts++] = SEQ(g, ws, grammar_json_value(g, r, item));
    }
    parts[n_parts++] = SEQ(g, ws, grammar_text(g, is_object ? "}" : "]"));
    if (!g->is_failed) node = grammar_seq(g, parts, n_parts);
    free(parts);
    return node;
}

g_node grammar_json_value(ern_grammar *g, const json_rules *r, const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_STRING: return grammar_json_text(g, json_string_value(v), json_string_length(v));
    case JSON_INTEGER: case JSON_REAL: return number_value(g, v);
    case JSON_TRUE: return grammar_text(g, "true");
    case JSON_FALSE: return grammar_text(g, "false");
    case JSON_NULL: return grammar_text(g, "null");
    default: return list_value(g, r, v);
    }
}

/* ---- strings that are none of a list ------------------------------------------------------------------ */

typedef struct { const char *s; size_t n; } name_text;

static int by_text(const void *a, const void *b) {
    const name_text *x = a, *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = n ? memcmp(x->s, y->s, n) : 0;
    return order ? order : x->n < y->n ? -1 : x->n > y->n;
}

/* Characters after a beginning that names[0..n) share (at bytes long) so that the whole is none of them. */
static g_node except(ern_grammar *g, const name_text *names, size_t n, size_t at, int depth) {
    const g_node any = grammar_repeat(g, grammar_json_string_char(g, NULL, 0, true), 0, GRAMMAR_UNBOUNDED);
    g_node parts[260];
    g_range taken[256];
    size_t n_parts = 0, n_taken = 0;
    if (n == 0) return any;
    if (depth > 512) return grammar_fail(g, ERN_LIMIT, 0, 0, "JSON Schema: property names of more than 512 characters");
    size_t i = 0;
    if (names[0].n == at) i = 1;                        /* this very text is a name: it may not end here */
    else parts[n_parts++] = grammar_empty(g);
    while (i < n) {
        int32_t cp, other;
        const size_t used = utf8_decode(names[i].s + at, names[i].n - at, &cp);
        size_t j = i + 1;
        while (j < n && names[j].n > at && utf8_decode(names[j].s + at, names[j].n - at, &other) == used && other == cp) j++;
        if (n_taken == 256 || cp < 0)
            return grammar_fail(g, ERN_LIMIT, 0, 0,
                                "JSON Schema: too many different property names beside additionalProperties");
        const g_range one = { (uint32_t)cp, (uint32_t)cp };
        taken[n_taken++] = one;
        parts[n_parts++] = SEQ(g, grammar_json_string_char(g, &one, 1, false),
                               except(g, names + i, j - i, at + used, depth + 1));
        i = j;
    }
    parts[n_parts++] = SEQ(g, grammar_json_string_char(g, taken, n_taken, true), any);
    return grammar_alt(g, parts, n_parts);
}

g_node grammar_json_key_except(ern_grammar *g, const char *const *names, const size_t *lengths, size_t n) {
    name_text *sorted = mem_zalloc(n + 1, sizeof *sorted, "property names", &g->err);
    if (!sorted) { g->is_failed = true; return 0; }
    for (size_t i = 0; i < n; i++) sorted[i] = (name_text){ names[i], lengths[i] };
    qsort(sorted, n, sizeof *sorted, by_text);
    const g_node node = SEQ(g, grammar_text(g, "\""), except(g, sorted, n, 0, 0), grammar_text(g, "\""));
    free(sorted);
    return node;
}
