/* Grammar texts: GBNF (what llama.cpp and xgrammar call their EBNF), W3C EBNF (the same with 'single' quotes, #x41 and
 * slash-star comments) and ISO 14977 EBNF (name = a, b | [c] | {d}; with paren-star comments).
 *
 *   GBNF   root ::= "yes" | "no" [0-9]{1,3} ( " " word )*     # comment
 *   ISO    root = "yes" | "no", 3 * digit, { " ", word } ; */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/grammar.h"

#define MAX_NAME 256

typedef struct {
    ern_grammar *g;
    const char *text, *p, *end;
    bool is_iso, is_w3c;
    int depth;
} parser;

static g_node parse_alternatives(parser *s, bool is_nested);

static void place(const parser *s, int *line, int *column) {
    *line = *column = 1;
    for (const char *p = s->text; p < s->p; p++) {
        if (*p == '\n') { (*line)++; *column = 1; }
        else if (((unsigned char)*p & 0xC0) != 0x80) (*column)++;
    }
}

static g_node bad(parser *s, const char *what) {
    int line, column;
    place(s, &line, &column);
    return grammar_fail(s->g, ERN_ARG, line, column, "grammar: %s", what);
}

static bool starts(const parser *s, const char *word) {
    const size_t n = strlen(word);
    return (size_t)(s->end - s->p) >= n && memcmp(s->p, word, n) == 0;
}

static bool skip_comment(parser *s, const char *open, const char *close) {
    if (!starts(s, open)) return false;
    const char *p = s->p + strlen(open);
    for (; p < s->end; p++)
        if ((size_t)(s->end - p) >= strlen(close) && memcmp(p, close, strlen(close)) == 0)
            { s->p = p + strlen(close); return true; }
    bad(s, "a comment without an end");
    s->p = s->end;
    return true;
}

/* White space and comments; newlines only where a rule cannot end. */
static void skip(parser *s, bool takes_newlines) {
    while (s->p < s->end) {
        const char c = *s->p;
        if (c == ' ' || c == '\t' || c == '\r' || (c == '\n' && takes_newlines)) s->p++;
        else if (c == '#' && !s->is_iso && !(s->is_w3c && starts(s, "#x")))
            while (s->p < s->end && *s->p != '\n') s->p++;
        else if (s->is_iso && skip_comment(s, "(*", "*)")) continue;
        else if (s->is_w3c && skip_comment(s, "/*", "*/")) continue;
        else break;
    }
}

static bool is_name_char(char c, bool is_first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
        (!is_first && (c == '-' || (c >= '0' && c <= '9')));
}

static bool parse_name(parser *s, char *name) {
    size_t n = 0;
    while (s->p < s->end && n < MAX_NAME - 1 && is_name_char(*s->p, n == 0)) name[n++] = *s->p++;
    name[n] = '\0';
    if (n == MAX_NAME - 1) { bad(s, "a rule name of more than 254 letters"); return false; }
    return n > 0;
}

static bool parse_hex(parser *s, int least, int most, uint32_t *out) {
    uint32_t v = 0;
    int n = 0;
    while (n < most && s->p < s->end && grammar_hex(*s->p) >= 0) { v = v << 4 | (uint32_t)grammar_hex(*s->p++); n++; }
    if (n < least || v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF))
        { bad(s, "not the hexadecimal number of a character"); return false; }
    *out = v;
    return true;
}

/* One character of a literal or class, escapes resolved. */
static bool parse_char(parser *s, uint32_t *out) {
    int32_t cp;
    if (s->p >= s->end) { bad(s, "the text ends inside quotes or brackets"); return false; }
    if (*s->p != '\\' || s->is_iso) {
        s->p += utf8_decode(s->p, (size_t)(s->end - s->p), &cp);
        if (cp < 0) { bad(s, "not valid UTF-8"); return false; }
        *out = (uint32_t)cp;
        return true;
    }
    if (++s->p >= s->end) { bad(s, "the text ends after a backslash"); return false; }
    const char c = *s->p++;
    switch (c) {
    case 'n': *out = '\n'; return true;
    case 'r': *out = '\r'; return true;
    case 't': *out = '\t'; return true;
    case 'x': return parse_hex(s, 2, 2, out);
    case 'u': return parse_hex(s, 4, 4, out);
    case 'U': return parse_hex(s, 8, 8, out);
    case '\\': case '"': case '\'': case '[': case ']': case '-': case '^': case '/': case '.': *out =
        (uint32_t)c; return true;
    default: s->p--; bad(s,
                         "an unknown escape (known: \\n \\r \\t \\xHH \\uHHHH \\UHHHHHHHH and punctuation)");
        return false;
    }
}

static g_node parse_literal(parser *s) {
    const char quote = *s->p++;
    ern_buf b = { .max = 1 << 20 };
    bool ok = true;
    while (ok && !(s->p < s->end && *s->p == quote)) {
        uint32_t cp;
        char utf8[4];
        ok = parse_char(s, &cp);
        if (ok && !buf_add(&b, utf8, utf8_encode((int32_t)cp, utf8), &s->g->err)) ok = !(s->g->is_failed = true);
    }
    s->p++;
    const g_node node = ok ? grammar_literal(s->g, b.data ? b.data : "", b.len) : 0;
    buf_deinit(&b);
    return node;
}

static g_node parse_class(parser *s) {
    g_range *ranges = NULL;
    size_t n = 0, cap = 0;
    bool is_negated = false, ok = true;
    s->p++;
    if (s->p < s->end && *s->p == '^') { is_negated = true; s->p++; }
    while (ok && !(s->p < s->end && *s->p == ']')) {
        uint32_t low, high;
        if (s->is_w3c && starts(s, "#x")) { s->p += 2; ok = parse_hex(s, 1, 6, &low); }
        else ok = parse_char(s, &low);
        high = low;
        if (ok && s->p + 1 < s->end && *s->p == '-' && s->p[1] != ']') {
            s->p++;
            if (s->is_w3c && starts(s, "#x")) { s->p += 2; ok = parse_hex(s, 1, 6, &high); }
            else ok = parse_char(s, &high);
            if (ok && high < low) { bad(s, "a range whose end comes before its start"); ok = false; }
        }
        if (ok && n == cap) {
            cap = cap ? 2 * cap : 16;
            g_range *more = mem_grow(ranges, cap, sizeof *more, "character class", &s->g->err);
            if (!more) ok = !(s->g->is_failed = true);
            else ranges = more;
        }
        if (ok) ranges[n++] = (g_range){ low, high };
    }
    s->p++;
    g_node node = 0;
    if (ok) node = n || is_negated ? grammar_class(s->g, ranges, n, is_negated) : bad(s, "an empty character class");
    free(ranges);
    return node;
}

static bool parse_number(parser *s, uint32_t *out) {
    uint32_t v = 0;
    const char *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9' && v <= 100000) v = v * 10 + (uint32_t)(*s->p++ - '0');
    if (s->p == from || v > 100000) { bad(s, "a repeat count from 0 to 100000 wanted"); return false; }
    *out = v;
    return true;
}

static g_node parse_postfix(parser *s, g_node node) {
    while (node && s->p < s->end) {
        uint32_t least = 0, most = GRAMMAR_UNBOUNDED;
        if (*s->p == '*') s->p++;
        else if (*s->p == '+') { least = 1; s->p++; }
        else if (*s->p == '?') { most = 1; s->p++; }
        else if (*s->p == '{') {
            s->p++;
            skip(s, false);
            if (!(s->p < s->end && *s->p == ',') && !parse_number(s, &least)) return 0;
            skip(s, false);
            most = least;
            if (s->p < s->end && *s->p == ',') {
                s->p++;
                skip(s, false);
                most = GRAMMAR_UNBOUNDED;
                if (s->p < s->end && *s->p != '}' && !parse_number(s, &most)) return 0;
            }
            skip(s, false);
            if (s->p >= s->end || *s->p != '}') return bad(s, "\"}\" wanted after a repeat count");
            s->p++;
        } else break;
        node = grammar_repeat(s->g, node, least, most);
    }
    return node;
}

static g_node parse_bracket(parser *s, const char *close, uint32_t least, uint32_t most) {
    if (++s->depth > GRAMMAR_MAX_DEPTH) return bad(s, "nested deeper than 200");
    s->p++;
    const g_node inner = parse_alternatives(s, true);
    if (!inner) return 0;
    skip(s, true);
    if (s->p >= s->end || *s->p != *close)
        return bad(s, *close == ')' ? "\")\" wanted" : *close == ']' ? "\"]\" wanted" : "\"}\" wanted");
    s->p++;
    s->depth--;
    return grammar_repeat(s->g, inner, least, most);
}

static g_node parse_atom(parser *s) {
    char name[MAX_NAME];
    uint32_t n;
    const char c = *s->p;
    if (c == '"' || (c == '\'' && (s->is_iso || s->is_w3c))) return parse_literal(s);
    if (c == '(') return parse_bracket(s, ")", 1, 1);
    if (s->is_iso) {
        if (c == '[') return parse_bracket(s, "]", 0, 1);
        if (c == '{') return parse_bracket(s, "}", 0, GRAMMAR_UNBOUNDED);
        if (c >= '0' && c <= '9') {
            if (!parse_number(s, &n)) return 0;
            skip(s, true);
            if (s->p >= s->end || *s->p != '*') return bad(s, "\"*\" wanted after a repeat count");
            s->p++;
            skip(s, true);
            return s->p < s->end ? grammar_repeat(s->g, parse_atom(s), n, n) : bad(s, "something to repeat wanted");
        }
        if (c == '?') return bad(s, "special sequences (? ... ?) have no meaning here");
    } else {
        if (c == '[') return parse_class(s);
        if (c == '.') { s->p++; return grammar_range(s->g, 0, 0x10FFFF); }
        if (s->is_w3c && starts(s, "#x")) { s->p += 2; return parse_hex(s, 1, 6, &n) ? grammar_range(s->g, n, n) : 0; }
    }
    if (parse_name(s, name)) return grammar_ref(s->g, grammar_declare(s->g, name));
    return bad(s, "a literal, a character class, a rule name or \"(\" wanted");
}

/* Is this the beginning of the next rule ("name ::=")? Then the one at hand is over. */
static bool at_rule(parser *s) {
    char name[MAX_NAME];
    const char *saved = s->p;
    bool is_rule = false;
    if (!s->is_iso && s->p < s->end && is_name_char(*s->p, true)) {
        parse_name(s, name);
        skip(s, false);
        is_rule = starts(s, "::=");
    }
    s->p = saved;
    return is_rule;
}

static g_node parse_sequence(parser *s, bool is_nested) {
    g_nodes list = { 0 };
    g_node node = 0;
    for (;;) {
        skip(s, true);
        if (s->p >= s->end || strchr("|)", *s->p) || (s->is_iso && strchr("]};.", *s->p))) break;
        if (!is_nested && at_rule(s)) break;
        if (s->is_iso && *s->p == ',') { s->p++; continue; }
        if (s->is_iso && *s->p == '-') { bad(s, "exceptions (a - b) are not supported"); goto out; }
        g_node atom = parse_atom(s);
        if (atom && !s->is_iso) atom = parse_postfix(s, atom);
        if (!grammar_push(s->g, &list, atom)) goto out;
    }
    node = grammar_seq(s->g, list.v, list.n);
out:
    free(list.v);
    return node;
}

static g_node parse_alternatives(parser *s, bool is_nested) {
    g_nodes list = { 0 };
    g_node node = 0;
    for (;;) {
        if (!grammar_push(s->g, &list, parse_sequence(s, is_nested))) goto out;
        skip(s, true);
        if (s->p >= s->end || *s->p != '|') break;
        s->p++;
    }
    node = grammar_alt(s->g, list.v, list.n);
out:
    free(list.v);
    return node;
}

static bool parse_rule(parser *s) {
    char name[MAX_NAME];
    const char *sign = s->is_iso ? "=" : "::=";
    if (!parse_name(s, name)) return bad(s, "a rule name wanted");
    skip(s, s->is_iso);
    if (!starts(s, sign)) return bad(s, s->is_iso ? "\"=\" wanted after a rule name" : "\"::=\" wanted after a rule name");
    s->p += strlen(sign);
    const uint32_t rule = grammar_declare(s->g, name);
    if (rule == UINT32_MAX) return false;
    if (s->g->rules[rule].body) return bad(s, "a rule is defined twice");
    const g_node body = parse_alternatives(s, false);
    if (!body || grammar_rule(s->g, name, body) == UINT32_MAX) return false;
    skip(s, true);
    if (!s->is_iso) return true;
    if (s->p >= s->end || !strchr(";.", *s->p)) return bad(s, "\";\" wanted at the end of a rule");
    s->p++;
    return true;
}

static bool parse(ern_grammar *g, const char *text, size_t n, bool is_iso, bool is_w3c, ern_err *e) {
    parser s = { .g = g, .text = text, .p = text, .end = text + n, .is_iso = is_iso, .is_w3c = is_w3c };
    grammar_declare(g, "root");
    skip(&s, true);
    while (!g->is_failed && s.p < s.end) {
        if (!parse_rule(&s)) break;
        skip(&s, true);
    }
    if (!g->is_failed && !g->rules[0].body) grammar_fail(g, ERN_ARG, 0, 0, "grammar: no rule \"root\"");
    if (g->is_failed && e) *e = g->err;
    return !g->is_failed;
}

bool grammar_from_gbnf(ern_grammar *g, const char *text, size_t n, ern_err *e) { return parse(g, text, n, false, false, e); }

/* W3C and ISO texts are told apart by the sign of a definition; inside ISO quotes "::=" would be a rare literal. */
bool grammar_from_ebnf(ern_grammar *g, const char *text, size_t n, ern_err *e) {
    bool is_w3c = false;
    for (size_t i = 0; i + 3 <= n && !is_w3c; i++) is_w3c = memcmp(text + i, "::=", 3) == 0;
    return parse(g, text, n, !is_w3c, is_w3c, e);
}
