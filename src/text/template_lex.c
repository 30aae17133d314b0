/* Source text to tokens, as Jinja2 cuts it with trim_blocks and lstrip_blocks: outside of tags everything is data;
 * "-" beside a delimiter eats white space, "+" keeps it; a newline after a block tag goes; white space from the start
 * of a line to a block tag goes. An error becomes the last token, so that what is wrong before it is reported first.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_int.h"

typedef struct {
    const char *s;
    size_t n, at;
    bool line_starting;         /* the last match ended in a newline */
    char closers[TEMPLATE_MAX_NESTING];
    size_t n_closers;
    token_list *out;
    ern_err *e;
} lexer;

static bool add(lexer *x, enum token_kind kind, size_t pos, const char *p, size_t n) {
    token_list *l = x->out;
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 64;
        token *t = mem_grow(l->t, cap, sizeof *t, "template tokens", x->e);
        if (!t) return false;
        l->t = t;
        l->cap = cap;
    }
    l->t[l->n++] = (token){ kind, (uint32_t)pos, p, n };
    return true;
}

/* False ends the lexing; the error is a token. */
static bool bad(lexer *x, size_t pos, const char *what) {
    if (what) snprintf(x->out->error, sizeof x->out->error, "%s", what);
    add(x, T_ERROR, pos, x->s + pos, 0);
    return false;
}

static size_t space_after(const lexer *x, size_t at) {
    while (at < x->n) {
        int32_t c;
        const size_t used = utf8_decode(x->s + at, x->n - at, &c);
        if (!char_is_space(c)) break;
        at += used;
    }
    return at;
}

static size_t rstripped(const char *s, size_t n) {
    while (n) {
        size_t start = n - 1;
        while (start && ((unsigned char)s[start] & 0xC0) == 0x80) start--;
        int32_t c;
        utf8_decode(s + start, n - start, &c);
        if (!char_is_space(c)) break;
        n = start;
    }
    return n;
}

static bool starts(const lexer *x, size_t at, const char *word) {
    const size_t n = strlen(word);
    return n <= x->n - at && memcmp(x->s + at, word, n) == 0;
}

/* The end of a tag at `at`: "+%}", "-%}" and white space, or "%}" and a newline. 0: none here. */
static size_t tag_end(const lexer *x, size_t at, const char *close, bool keeps_plus, bool trims) {
    if (at < x->n && x->s[at] == '-' && starts(x, at + 1, close)) return space_after(x, at + 3);
    if (keeps_plus && at < x->n && x->s[at] == '+' && starts(x, at + 1, close)) return at + 3;
    if (!starts(x, at, close)) return 0;
    at += 2;
    return trims && at < x->n && x->s[at] == '\n' ? at + 1 : at;
}

/* Data before a tag at [from, to), with the tag's sign and whether it is a variable. */
static bool add_data(lexer *x, size_t from, size_t to, char sign, bool is_variable) {
    const char *text = x->s + from;
    size_t n = to - from;
    if (sign == '-') {
        n = rstripped(text, n);
    } else if (sign != '+' && !is_variable) {
        size_t line = n;
        while (line && text[line - 1] != '\n') line--;
        if ((line > 0 || x->line_starting) && rstripped(text + line, n - line) == 0) n = line;
    }
    return n == 0 || add(x, T_TEXT, from, text, n);
}

/* After "{%": is this raw, and where does its tag end? */
static size_t raw_begin(const lexer *x, size_t at) {
    at += 2;
    if (at < x->n && (x->s[at] == '-' || x->s[at] == '+')) at++;
    at = space_after(x, at);
    if (!starts(x, at, "raw")) return 0;
    at = space_after(x, at + 3);
    return tag_end(x, at, "%}", false, false);
}

static bool lex_raw(lexer *x, size_t tag, size_t body) {
    for (size_t i = body; i + 1 < x->n; i++) {
        if (x->s[i] != '{' || x->s[i + 1] != '%') continue;
        size_t at = i + 2;
        const char sign = at < x->n && (x->s[at] == '-' || x->s[at] == '+') ? x->s[at++] : 0;
        at = space_after(x, at);
        if (!starts(x, at, "endraw")) continue;
        at = space_after(x, at + 6);
        const size_t end = tag_end(x, at, "%}", true, true);
        if (!end) continue;
        if (!add_data(x, body, i, sign, false)) return false;
        x->at = end;
        x->line_starting = x->s[end - 1] == '\n';
        return true;
    }
    return bad(x, tag, "Missing end of raw directive");
}

static bool lex_comment(lexer *x, size_t tag, size_t at) {
    for (; at < x->n; at++) {
        const size_t end = tag_end(x, at, "#}", true, true);
        if (!end) continue;
        x->at = end;
        x->line_starting = x->s[end - 1] == '\n';
        return true;
    }
    return bad(x, tag, "Missing end of comment tag");
}

static bool is_digit(char c, unsigned base) {
    if (c >= '0' && c <= '9') return (unsigned)(c - '0') < base;
    return base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));
}

/* Digits with single underscores between them, from `at`; `at` itself when there is none. */
static size_t digits(const lexer *x, size_t at, unsigned base, bool leading_underscore) {
    size_t end = at;
    if (!leading_underscore && !(at < x->n && is_digit(x->s[at], base))) return at;
    for (;;) {
        size_t i = end;
        if (i < x->n && x->s[i] == '_') i++;
        if (i >= x->n || !is_digit(x->s[i], base)) return end;
        end = i + 1;
    }
}

static size_t float_end(const lexer *x, size_t at) {
    if (at && x->s[at - 1] == '.') return 0;
    size_t end = digits(x, at, 10, false);
    if (end == at) return 0;
    bool is_float = false;
    if (end < x->n && x->s[end] == '.') {
        const size_t fraction = digits(x, end + 1, 10, false);
        if (fraction > end + 1) { end = fraction; is_float = true; }
    }
    if (end < x->n && (x->s[end] == 'e' || x->s[end] == 'E')) {
        size_t i = end + 1;
        if (i < x->n && (x->s[i] == '+' || x->s[i] == '-')) i++;
        const size_t power = digits(x, i, 10, false);
        if (power > i) { end = power; is_float = true; }
    }
    return is_float ? end : 0;
}

static size_t int_end(const lexer *x, size_t at) {
    if (x->s[at] == '0' && at + 1 < x->n) {
        const char kind = (char)(x->s[at + 1] | 0x20);
        const unsigned base = kind == 'b' ? 2 : kind == 'o' ? 8 : kind == 'x' ? 16 : 0;
        const size_t end = base ? digits(x, at + 2, base, true) : at;
        if (base && end > at + 2) return end;
    }
    if (x->s[at] != '0') return digits(x, at, 10, false);
    size_t end = at + 1;                                        /* zeros only */
    for (;;) {
        size_t i = end;
        if (i < x->n && x->s[i] == '_') i++;
        if (i >= x->n || x->s[i] != '0') return end;
        end = i + 1;
    }
}

static size_t name_end(const lexer *x, size_t at) {
    while (at < x->n) {
        int32_t c;
        const size_t used = utf8_decode(x->s + at, x->n - at, &c);
        if (!char_is_word(c)) break;
        at += used;
    }
    return at;
}

static size_t string_end(const lexer *x, size_t at) {
    const char quote = x->s[at];
    for (size_t i = at + 1; i < x->n; i++) {
        if (x->s[i] == '\\') i++;
        else if (x->s[i] == quote) return i + 1;
    }
    return 0;
}

static const struct { const char *text; enum token_kind kind; } operators[] = {
    { "//", T_FLOORDIV }, { "**", T_POW }, { "==", T_EQ }, { "!=", T_NE }, { ">=", T_GE }, { "<=", T_LE },
    { "+", T_ADD }, { "-", T_SUB }, { "*", T_MUL }, { "/", T_DIV }, { "%", T_MOD }, { "~", T_TILDE },
    { "[", T_LBRACKET }, { "]", T_RBRACKET }, { "(", T_LPAREN }, { ")", T_RPAREN }, { "{", T_LBRACE },
    { "}", T_RBRACE }, { ">", T_GT }, { "<", T_LT }, { "=", T_ASSIGN }, { ".", T_DOT }, { ":", T_COLON },
    { "|", T_PIPE }, { ",", T_COMMA }, { ";", T_SEMICOLON },
};

static bool balance(lexer *x, char c) {
    char text[48];
    const char closer = (char)(c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : 0);
    if (closer) {
        if (x->n_closers == sizeof x->closers) return bad(x, x->at, "brackets are nested too deep");
        x->closers[x->n_closers++] = closer;
        return true;
    }
    if (c != ')' && c != ']' && c != '}') return true;
    if (!x->n_closers) {
        snprintf(text, sizeof text, "unexpected '%c'", c);
        return bad(x, x->at, text);
    }
    const char wanted = x->closers[--x->n_closers];
    if (wanted == c) return true;
    snprintf(text, sizeof text, "unexpected '%c', expected '%c'", c, wanted);
    return bad(x, x->at, text);
}

static bool lex_operator(lexer *x) {
    const size_t n = sizeof operators / sizeof *operators;
    for (size_t i = 0; i < n; i++) {
        if (!starts(x, x->at, operators[i].text)) continue;
        const size_t length = strlen(operators[i].text);
        if (length == 1 && !balance(x, x->s[x->at])) return false;
        if (!add(x, operators[i].kind, x->at, x->s + x->at, length)) return false;
        x->at += length;
        return true;
    }
    int32_t c;
    const size_t used = utf8_decode(x->s + x->at, x->n - x->at, &c);
    char text[48];
    snprintf(text, sizeof text, "unexpected char '%.*s' at %zu", (int)used, x->s + x->at, x->at);
    return bad(x, x->at, text);
}

/* One token inside of a tag. */
static bool lex_inside(lexer *x) {
    const size_t at = x->at;
    size_t end = space_after(x, at);
    if (end > at) {
        x->at = end;
        return true;
    }
    enum token_kind kind = T_EOF;
    const bool is_number = x->s[at] >= '0' && x->s[at] <= '9';
    if (is_number && (end = float_end(x, at))) kind = T_FLOAT;
    else if (is_number && (end = int_end(x, at)) > at) kind = T_INT;
    else if ((end = name_end(x, at)) > at) kind = T_NAME;
    else if ((x->s[at] == '\'' || x->s[at] == '"') && (end = string_end(x, at))) kind = T_STRING;
    else return lex_operator(x);
    const size_t cut = kind == T_STRING;
    if (!add(x, kind, at, x->s + at + cut, end - at - 2 * cut)) return false;
    x->at = end;
    return true;
}

static bool lex_tag(lexer *x, bool is_variable) {
    const char *close = is_variable ? "}}" : "%}";
    while (x->at < x->n) {
        const size_t end = x->n_closers ? 0 : tag_end(x, x->at, close, !is_variable, !is_variable);
        if (!end) {
            if (!lex_inside(x)) return false;
            continue;
        }
        if (!add(x, is_variable ? T_VAR_END : T_BLOCK_END, x->at, x->s + x->at, end - x->at)) return false;
        x->at = end;
        x->line_starting = x->s[end - 1] == '\n';
        return true;
    }
    return true;                                                /* the parser finds the end of the template */
}

static bool lex_root(lexer *x) {
    size_t at = x->at;
    while (at + 1 < x->n && !(x->s[at] == '{' && (x->s[at + 1] == '%' || x->s[at + 1] == '{' || x->s[at + 1] == '#'))) at++;
    if (at + 1 >= x->n) {
        const size_t from = x->at;
        x->at = x->n;
        return add(x, T_TEXT, from, x->s + from, x->n - from);
    }
    const char kind = x->s[at + 1];
    const char sign = at + 2 < x->n && (x->s[at + 2] == '-' || x->s[at + 2] == '+') ? x->s[at + 2] : 0;
    if (!add_data(x, x->at, at, sign, kind == '{')) return false;
    const size_t raw = kind == '%' ? raw_begin(x, at) : 0;
    x->line_starting = false;
    if (raw) {
        x->line_starting = x->s[raw - 1] == '\n';
        return lex_raw(x, at, raw);
    }
    x->at = at + 2 + (sign != 0);
    if (kind == '#') return lex_comment(x, at, x->at);
    if (!add(x, kind == '%' ? T_BLOCK_BEGIN : T_VAR_BEGIN, at, x->s + at, 2)) return false;
    return lex_tag(x, kind == '{');
}

bool template_lex(const ern_template *t, token_list *out, ern_err *e) {
    lexer x = { .s = t->source, .n = t->n_source, .line_starting = true, .out = out, .e = e };
    ern_err unused;
    if (!x.e) x.e = &unused;
    x.e->code = ERN_OK;
    bool ok = true;
    while (ok && x.at < x.n) ok = lex_root(&x);
    if (x.e->code != ERN_OK) return false;
    return !ok || add(&x, T_EOF, out->n ? out->t[out->n - 1].pos : 0, "", 0);
}
