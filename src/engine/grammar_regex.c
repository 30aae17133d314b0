/* Regular expressions as grammar nodes: the part of ECMA-262 and PCRE that describes a regular language. What does not
 * (back references, look-around, lazy and possessive marks that change nothing are taken) is refused by name.
 *
 * as_json writes every character as a JSON string may write it, so that "pattern" works inside a string. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/grammar.h"

#define MAX_RANGES 4096

typedef struct {
    ern_grammar *g;
    const char *text, *p, *end;
    bool as_json;
    int depth;
} parser;

typedef struct { g_range v[MAX_RANGES]; size_t n; } range_set;

static g_node parse_alternatives(parser *s);

static g_node bad(parser *s, const char *what) {
    return grammar_fail(s->g, ERN_ARG, 1, (int)(s->p - s->text) + 1, "regular expression \"%.*s\": %s",
                        (int)(s->end - s->text > 200 ? 200 : s->end - s->text), s->text, what);
}

/* ---- sets of characters ------------------------------------------------------------------------ */

static bool add_range(parser *s, range_set *set, uint32_t low, uint32_t high) {
    if (set->n == MAX_RANGES) { bad(s, "a class of more than 4096 ranges"); return false; }
    set->v[set->n++] = (g_range){ low, high };
    return true;
}

static bool add_complement(parser *s, range_set *set, const g_range *sorted, size_t n) {
    uint32_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (sorted[i].low > from && !add_range(s, set, from, sorted[i].low - 1)) return false;
        from = sorted[i].high + 1;
    }
    return add_range(s, set, from, 0x10FFFF);
}

/* \d \w \s and their complements; ASCII, as ECMA-262 has it (\s with the Unicode spaces). */
static bool add_shorthand(parser *s, range_set *set, char c) {
    static const g_range digits[] = { { '0', '9' } };
    static const g_range word[] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } };
    static const g_range space[] = { { 9, 13 }, { ' ', ' ' }, { 0xA0, 0xA0 }, { 0x1680, 0x1680 }, { 0x2000, 0x200A },
                                     { 0x2028, 0x2029 }, { 0x202F, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 },
                                         { 0xFEFF, 0xFEFF } };
    const g_range *v = c == 'd' || c == 'D' ? digits : c == 'w' || c == 'W' ? word : space;
    const size_t n = v == digits ? 1 : v == word ? 4 : sizeof space / sizeof space[0];
    if (c >= 'A' && c <= 'Z') return add_complement(s, set, v, n);
    for (size_t i = 0; i < n; i++)
        if (!add_range(s, set, v[i].low, v[i].high)) return false;
    return true;
}

static bool parse_hex(parser *s, int n, uint32_t *out) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++, s->p++) {
        if (s->p >= s->end || grammar_hex(*s->p) < 0) { bad(s, "hexadecimal digits wanted"); return false; }
        v = v << 4 | (uint32_t)grammar_hex(*s->p);
    }
    *out = v;
    return true;
}

static bool parse_unicode_escape(parser *s, uint32_t *out) {
    if (s->p < s->end && *s->p == '{') {
        uint32_t v = 0;
        for (s->p++; s->p < s->end && grammar_hex(*s->p) >= 0 && v <= 0x10FFFF; s->p++) v = v << 4 | (uint32_t)grammar_hex(*s->p);
        if (s->p >= s->end || *s->p != '}' || v > 0x10FFFF) { bad(s, "\\u{...}: a character number wanted"); return false; }
        s->p++;
        *out = v;
        return true;
    }
    uint32_t low;
    if (!parse_hex(s, 4, out)) return false;
    if (*out >= 0xD800 && *out < 0xDC00 && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        if (!parse_hex(s, 4, &low)) return false;
        if (low >= 0xDC00 && low < 0xE000) *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
    }
    if (*out >= 0xD800 && *out < 0xE000) { bad(s, "half of a surrogate pair"); return false; }
    return true;
}

/* After the backslash: a shorthand into set (*is_set), or one character. */
static bool parse_escape(parser *s, range_set *set, bool *is_set, uint32_t *cp) {
    *is_set = false;
    if (s->p >= s->end) { bad(s, "ends after a backslash"); return false; }
    const char c = *s->p++;
    switch (c) {
    case 'd': case 'D': case 'w': case 'W': case 's': case 'S': *is_set = true; return add_shorthand(s, set, c);
    case 'n': *cp = '\n'; return true;
    case 'r': *cp = '\r'; return true;
    case 't': *cp = '\t'; return true;
    case 'f': *cp = '\f'; return true;
    case 'v': *cp = '\v'; return true;
    case '0': *cp = 0; return true;
    case 'x': return parse_hex(s, 2, cp);
    case 'u': return parse_unicode_escape(s, cp);
    case 'b': case 'B': s->p--; bad(s, "word borders (\\b, \\B) cannot be decided while writing"); return false;
    case 'p': case 'P': s->p--; bad(s, "Unicode properties (\\p) are not supported"); return false;
    case 'k': s->p--; bad(s, "back references are not a regular language"); return false;
    default:
        if (c >= '1' && c <= '9') { s->p--; bad(s, "back references are not a regular language"); return false; }
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) { s->p--; bad(s, "an unknown escape"); return false; }
        s->p--;
        int32_t wide;
        s->p += utf8_decode(s->p, (size_t)(s->end - s->p), &wide);
        if (wide < 0) { bad(s, "not valid UTF-8"); return false; }
        *cp = (uint32_t)wide;
        return true;
    }
}

static g_node emit_set(parser *s, const range_set *set, bool is_negated) {
    return s->as_json ? grammar_json_string_char(s->g, set->v, set->n, is_negated)
        : grammar_class(s->g, set->v, set->n, is_negated);
}

static bool parse_one(parser *s, uint32_t *cp) {
    int32_t wide;
    s->p += utf8_decode(s->p, (size_t)(s->end - s->p), &wide);
    if (wide < 0) { bad(s, "not valid UTF-8"); return false; }
    *cp = (uint32_t)wide;
    return true;
}

static g_node parse_class(parser *s) {
    g_node node = 0;
    bool is_negated = false, is_set, is_first = true;
    range_set *set = mem_zalloc(1, sizeof *set, "character class", &s->g->err);
    if (!set) { s->g->is_failed = true; return 0; }
    s->p++;
    if (s->p < s->end && *s->p == '^') { is_negated = true; s->p++; }
    for (; !(s->p < s->end && *s->p == ']' && !is_first); is_first = false) {
        uint32_t low = 0, high;
        if (s->p >= s->end) { bad(s, "a class without \"]\""); goto out; }
        if (*s->p == ']' && is_first) { bad(s, "an empty class"); goto out; }
        is_set = false;
        if (*s->p == '\\') {
            s->p++;
            if (s->p < s->end && *s->p == 'b') { low = '\b'; s->p++; }
            else if (!parse_escape(s, set, &is_set, &low)) goto out;
        } else if (!parse_one(s, &low)) goto out;
        if (is_set) continue;
        high = low;
        if (s->end - s->p >= 2 && s->p[0] == '-' && s->p[1] != ']') {
            s->p++;
            if (*s->p == '\\') {
                s->p++;
                if (!parse_escape(s, set, &is_set, &high)) goto out;
                if (is_set) { if (!add_range(s, set, '-', '-')) goto out; high = low; }
            } else if (!parse_one(s, &high)) goto out;
            if (high < low) { bad(s, "a range whose end comes before its start"); goto out; }
        }
        if (!add_range(s, set, low, high)) goto out;
    }
    s->p++;
    node = emit_set(s, set, is_negated);
out:
    free(set);
    return node;
}

/* ---- structure --------------------------------------------------------------------------------- */

static g_node emit_char(parser *s, uint32_t cp) {
    const g_range one = { cp, cp };
    char utf8[4];
    if (s->as_json) return grammar_json_string_char(s->g, &one, 1, false);
    return grammar_literal(s->g, utf8, utf8_encode((int32_t)cp, utf8));
}

static g_node parse_group(parser *s) {
    if (++s->depth > GRAMMAR_MAX_DEPTH) return bad(s, "nested deeper than 200");
    s->p++;
    if (s->p < s->end && *s->p == '?') {
        if (s->end - s->p >= 2 && s->p[1] == ':') s->p += 2;
        else if (s->end - s->p >= 3 && s->p[1] == '<' && s->p[2] != '=' && s->p[2] != '!') {
            while (s->p < s->end && *s->p != '>') s->p++;
            if (s->p < s->end) s->p++;
        } else return bad(s, "look-around and inline flags are not supported");
    }
    const g_node inner = parse_alternatives(s);
    if (!inner) return 0;
    if (s->p >= s->end || *s->p != ')') return bad(s, "\")\" is missing");
    s->p++;
    s->depth--;
    return inner;
}

static g_node parse_atom(parser *s) {
    static const g_range newline[] = { { '\n', '\n' }, { '\r', '\r' } };
    const char c = *s->p;
    uint32_t cp;
    bool is_set;
    if (c == '(') return parse_group(s);
    if (c == '[') return parse_class(s);
    if (c == '.') {
        s->p++;
        return s->as_json ? grammar_json_string_char(s->g, newline, 2, true) : grammar_class(s->g, newline, 2, true);
    }
    if (c == '\\') {
        range_set *set = mem_zalloc(1, sizeof *set, "character class", &s->g->err);
        if (!set) { s->g->is_failed = true; return 0; }
        s->p++;
        g_node node = 0;
        if (parse_escape(s, set, &is_set, &cp)) node = is_set ? emit_set(s, set, false) : emit_char(s, cp);
        free(set);
        return node;
    }
    if (strchr("*+?", c) && c) return bad(s, "nothing to repeat");
    if (c == '^' || c == '$') return bad(s, "anchors are supported at the very beginning and end only");
    return parse_one(s, &cp) ? emit_char(s, cp) : 0;
}

/* {m}, {m,}, {m,n}; anything else after "{" is a plain brace. */
static bool parse_count(parser *s, uint32_t *least, uint32_t *most) {
    const char *p = s->p + 1;
    uint32_t v[2] = { 0, GRAMMAR_UNBOUNDED };
    int n = 0;
    bool has_comma = false;
    for (; p < s->end && *p != '}'; p++) {
        if (*p == ',' && !has_comma && n > 0) { has_comma = true; n = 0; continue; }
        if (*p < '0' || *p > '9' || n > 6) return false;
        uint32_t *to = &v[has_comma];
        *to = (n == 0 ? 0 : *to) * 10 + (uint32_t)(*p - '0');
        n++;
    }
    if (p >= s->end || (!has_comma && n == 0)) return false;
    *least = v[0];
    *most = has_comma ? v[1] : v[0];
    s->p = p + 1;
    return true;
}

static g_node parse_postfix(parser *s, g_node node) {
    while (node && s->p < s->end) {
        uint32_t least = 0, most = GRAMMAR_UNBOUNDED;
        if (*s->p == '*') s->p++;
        else if (*s->p == '+') { least = 1; s->p++; }
        else if (*s->p == '?') { most = 1; s->p++; }
        else if (*s->p != '{' || !parse_count(s, &least, &most)) break;
        if (s->p < s->end && *s->p == '?') s->p++;          /* lazy: the same language */
        if (most < least) return bad(s, "a repeat count whose end is less than its start");
        node = grammar_repeat(s->g, node, least, most);
    }
    return node;
}

static g_node parse_alternatives(parser *s) {
    g_nodes choices = { 0 }, sequence = { 0 };
    g_node node = 0;
    for (;;) {
        sequence.n = 0;
        while (s->p < s->end && *s->p != '|' && *s->p != ')')
            if (!grammar_push(s->g, &sequence, parse_postfix(s, parse_atom(s)))) goto out;
        if (!grammar_push(s->g, &choices, grammar_seq(s->g, sequence.v, sequence.n))) goto out;
        if (s->p >= s->end || *s->p != '|') break;
        s->p++;
    }
    node = grammar_alt(s->g, choices.v, choices.n);
out:
    free(choices.v);
    free(sequence.v);
    return node;
}

/* Does an unescaped "$" end the text? */
static bool has_end_anchor(const char *text, size_t n) {
    size_t slashes = 0;
    if (n == 0 || text[n - 1] != '$') return false;
    while (slashes < n - 1 && text[n - 2 - slashes] == '\\') slashes++;
    return slashes % 2 == 0;
}

/* A "|" outside parentheses: then "^a|b$" anchors only its first and last branch. */
static bool has_open_choice(const char *text, size_t n) {
    int depth = 0;
    bool in_class = false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\\') { i++; continue; }
        if (text[i] == '[') in_class = true;
        else if (text[i] == ']') in_class = false;
        else if (!in_class && text[i] == '(') depth++;
        else if (!in_class && text[i] == ')') depth--;
        else if (!in_class && text[i] == '|' && depth == 0) return true;
    }
    return false;
}

g_node grammar_regex_node(ern_grammar *g, const char *pattern, size_t n, bool is_search, bool as_json) {
    parser s = { .g = g, .text = pattern, .p = pattern, .end = pattern + n, .as_json = as_json };
    const bool is_start = n > 0 && pattern[0] == '^', is_end = has_end_anchor(pattern, n);
    if ((is_start || is_end) && has_open_choice(pattern, n))
        return bad(&s, "put a choice between anchors into parentheses: ^(a|b)$");
    if (is_start) s.p++;
    if (is_end) s.end--;
    g_node parts[3], any = 0;
    size_t n_parts = 0;
    const g_node body = parse_alternatives(&s);
    if (!body) return 0;
    if (s.p < s.end) return bad(&s, "\")\" without \"(\"");
    if (is_search && (!is_start || !is_end))
        any = grammar_repeat(g, as_json ? grammar_json_string_char(g, NULL, 0, true) : grammar_range(g, 0, 0x10FFFF), 0,
                             GRAMMAR_UNBOUNDED);
    if (is_search && !is_start) parts[n_parts++] = any;
    parts[n_parts++] = body;
    if (is_search && !is_end) parts[n_parts++] = any;
    return grammar_seq(g, parts, n_parts);
}

bool grammar_from_regex(ern_grammar *g, const char *pattern, size_t n, ern_err *e) {
    grammar_declare(g, "root");
    grammar_rule(g, "root", grammar_regex_node(g, pattern, n, false, false));
    if (g->is_failed && e) *e = g->err;
    return !g->is_failed;
}
