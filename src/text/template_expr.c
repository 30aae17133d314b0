/* Tokens to syntax tree: expressions. The order of binding is Jinja's: if, or, and, not, comparison, + -, ~, * / // %,
 * ** (to the left), unary minus, then subscripts, calls, filters and tests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unicode/uchar.h>

#include "base/utf8.h"
#include "text/template_parse.h"

static node *parse_unary(parser *p, bool with_filter);
static node *parse_postfix(parser *p, node *n);

bool name_is_valid(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        int32_t c;
        const size_t used = utf8_decode(s + i, n - i, &c);
        if (c < 0) return false;
        if (c != '_' && !(i ? u_hasBinaryProperty(c, UCHAR_XID_CONTINUE) : u_hasBinaryProperty(c, UCHAR_XID_START)))
            return false;
        i += used;
    }
    return n > 0;
}

/* ---- literals --------------------------------------------------------------------------------- */

static bool read_hex(const char *s, size_t n, size_t digits, uint32_t *out) {
    if (n < digits) return false;
    *out = 0;
    for (size_t i = 0; i < digits; i++) {
        const char c = s[i];
        const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ?
            c - 'A' + 10 : -1;
        if (d < 0) return false;
        *out = *out << 4 | (uint32_t)d;
    }
    return true;
}

static bool put_char(ern_buf *b, uint32_t c, ern_err *e) {
    char room[4];
    if (c >= 0xD800 && c < 0xE000) c = 0xFFFD;                  /* half a pair is no text */
    return buf_add(b, room, utf8_encode((int32_t)c, room), e);
}

/* \x, \u, \U at s (after the backslash). Returns the bytes used, 0 when malformed. */
static size_t unescape_hex(const char *s, size_t n, uint32_t *c) {
    const size_t digits = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : 8;
    uint32_t low;
    if (!read_hex(s + 1, n - 1, digits, c) || *c > 0x10FFFF) return 0;
    if (*c >= 0xD800 && *c < 0xDC00 && n > 11 && s[5] == '\\' && s[6] == 'u' && read_hex(s + 7, n - 7, 4, &low) &&
        low >= 0xDC00 && low < 0xE000) {
        *c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
        return 11;
    }
    return 1 + digits;
}

static size_t unescape_name(const char *s, size_t n, uint32_t *c) {
    char name[128];
    size_t end = 2;
    if (n < 3 || s[1] != '{') return 0;
    while (end < n && s[end] != '}') end++;
    if (end >= n || end - 2 >= sizeof name) return 0;
    memcpy(name, s + 2, end - 2);
    name[end - 2] = '\0';
    UErrorCode status = U_ZERO_ERROR;
    *c = (uint32_t)u_charFromName(U_UNICODE_CHAR_NAME, name, &status);
    return U_SUCCESS(status) ? end + 1 : 0;
}

/* One escape at s[0..n) after its backslash; *used bytes of it were taken. */
static bool unescape_one(const char *s, size_t n, ern_buf *b, size_t *used, bool *is_bad, ern_err *e) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *at = s[0] ? strchr(from, s[0]) : NULL;
    uint32_t c = 0;
    int32_t wide;
    *used = 1;
    if (s[0] == '\n') return true;
    if (at) return buf_char(b, to[at - from], e);
    if (s[0] >= '0' && s[0] <= '7') {
        for (*used = 0; *used < 3 && *used < n && s[*used] >= '0' && s[*used] <= '7';
            ++*used) c = c * 8 + (uint32_t)(s[*used] - '0');
        return put_char(b, c, e);
    }
    if (s[0] == 'x' || s[0] == 'u' || s[0] == 'U' || s[0] == 'N') {
        *used = s[0] == 'N' ? unescape_name(s, n, &c) : unescape_hex(s, n, &c);
        *is_bad = *used == 0;
        return *is_bad || put_char(b, c, e);
    }
    *used = utf8_decode(s, n, &wide);                           /* Python spells a character after a stray backslash out */
    if (wide < 0x80) return buf_char(b, '\\', e) && buf_char(b, s[0], e);
    return buf_printf(b, e, wide < 0x100 ? "\\x%02x" : wide < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)wide);
}

static bool unescape(parser *p, const token *t, ern_buf *b) {
    for (size_t i = 0; i < t->n;) {
        const char *back = memchr(t->p + i, '\\', t->n - i);
        const size_t plain = back ? (size_t)(back - (t->p + i)) : t->n - i;
        size_t used = 0;
        bool is_bad = false;
        if (!buf_add(b, t->p + i, plain, p->e)) return parse_nomem(p);
        i += plain;
        if (!back) break;
        if (!unescape_one(t->p + i + 1, t->n - i - 1, b, &used, &is_bad, p->e)) return parse_nomem(p);
        if (is_bad) return parse_fail_at(p, FAULT_SYNTAX, t->pos, "malformed escape \\%c in a string", t->p[i + 1]);
        i += 1 + used;
    }
    return true;
}

static node *parse_string(parser *p) {
    ern_buf b = { 0 };
    node *n = parse_node(p, N_CONST, p->now->pos);
    bool ok = n != NULL;
    while (ok && p->now->kind == T_STRING) ok = unescape(p, p->now, &b) && parse_next(p);
    if (ok) n->k = val_str(parse_str(p, b.data ? b.data : "", b.len));
    buf_deinit(&b);
    return ok && n->k.s ? n : NULL;
}

static node *parse_number(parser *p) {
    const token *t = p->now;
    char text[TEMPLATE_MAX_DIGITS + 8];
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (t->p[i] == '_') continue;
        if (n + 1 >= sizeof text) {
            parse_fail_at(p, FAULT_VALUE, t->pos, "Exceeds the limit (%d digits) for integer string conversion",
                TEMPLATE_MAX_DIGITS);
            return NULL;
        }
        text[n++] = t->p[i];
    }
    text[n] = '\0';
    node *k = parse_node(p, N_CONST, t->pos);
    if (!k || !parse_next(p)) return NULL;
    if (t->kind == T_FLOAT) {
        k->k = val_float(num_read(text));
        return k;
    }
    bool ok = false;
    if (!num_from_text(&p->r, text, n, 0, &k->k, &ok)) {
        p->is_failed = true;
        return NULL;
    }
    if (!ok) parse_fail_at(p, FAULT_VALUE, t->pos, "integer %.40s has more than %d digits", text, TEMPLATE_MAX_DIGITS);
    return ok ? k : NULL;
}

static void mark_uses(parser *p, const token *t) {
    if (p->n_quiet) return;
    if (token_is(t, "loop"))
        for (loop_use *l = p->loops; l; l = l->outer) l->is_used = true;
    for (macro_use *m = p->macros; m; m = m->outer) {
        if (token_is(t, "caller")) m->caller = true;
        if (token_is(t, "kwargs")) m->kwargs = true;
        if (token_is(t, "varargs")) m->varargs = true;
    }
}

static node *parse_name(parser *p, bool with_space) {
    const token *t = p->now;
    node *n = parse_node(p, N_CONST, t->pos);
    if (!n || !parse_next(p)) return NULL;
    if (token_is(t, "true") || token_is(t, "True")) n->k = val_bool(true);
    else if (token_is(t, "false") || token_is(t, "False")) n->k = val_bool(false);
    else if (token_is(t, "none") || token_is(t, "None")) n->k = val_none();
    else {
        n->kind = N_NAME;
        if (!parse_symbol(p, t, &n->sym)) return NULL;
        if (with_space && p->now->kind == T_DOT) {
            if (!parse_next(p)) return NULL;
            const token *attr = p->now;
            if (!parse_expect(p, T_NAME)) return NULL;
            n->kind = N_NSREF;
            n->k = val_str(parse_str(p, attr->p, attr->n));
            return n->k.s ? n : NULL;
        }
        mark_uses(p, t);
    }
    return n;
}

static node *parse_items(parser *p, enum node_kind kind, enum token_kind close) {
    node *n = parse_node(p, kind, p->now->pos), **last;
    if (!n || !parse_next(p)) return NULL;
    last = &n->a;
    while (p->now->kind != close) {
        if (n->a && !parse_expect(p, T_COMMA)) return NULL;
        if (p->now->kind == close) break;
        if (!(*last = parse_expr(p, true))) return NULL;
        last = &(*last)->next;
        if (kind == N_DICT) {
            if (!parse_expect(p, T_COLON) || !(*last = parse_expr(p, true))) return NULL;
            last = &(*last)->next;
        }
        n->n++;
    }
    return parse_expect(p, close) ? n : NULL;
}

static node *parse_primary(parser *p, bool with_space) {
    node *n;
    switch (p->now->kind) {
    case T_NAME: return parse_name(p, with_space);
    case T_STRING: return parse_string(p);
    case T_INT: case T_FLOAT: return parse_number(p);
    case T_LPAREN:
        if (!parse_next(p) || !(n = parse_tuple(p, TUPLE_PAREN))) return NULL;
        return parse_expect(p, T_RPAREN) ? n : NULL;
    case T_LBRACKET: return parse_items(p, N_LIST, T_RBRACKET);
    case T_LBRACE: return parse_items(p, N_DICT, T_RBRACE);
    default: {
        char room[64];
        parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "unexpected '%s'", token_text(p->now, room, sizeof room));
        return NULL;
    }
    }
}

node *parse_tuple(parser *p, unsigned flags) {
    const size_t pos = p->now->pos;
    node *first = NULL, **last = &first;
    size_t n = 0;
    bool is_tuple = false;
    for (;;) {
        if (n && !parse_expect(p, T_COMMA)) return NULL;
        const enum token_kind k = p->now->kind;
        if (k == T_VAR_END || k == T_BLOCK_END || k == T_RPAREN) break;
        *last = flags & TUPLE_SIMPLE ? parse_primary(p, flags & TUPLE_SPACE) : parse_expr(p, !(flags & TUPLE_NO_COND));
        if (!*last) return NULL;
        last = &(*last)->next;
        n++;
        if (p->now->kind != T_COMMA) break;
        is_tuple = true;
    }
    if (!is_tuple && n) return first;
    if (!is_tuple && !(flags & TUPLE_PAREN)) {
        char room[64];
        parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "Expected an expression, got '%s'",
            token_text(p->now, room, sizeof room));
        return NULL;
    }
    node *t = parse_node(p, N_TUPLE, pos);
    if (!t) return NULL;
    t->a = first;
    t->n = n;
    return t;
}

/* ---- calls, subscripts, filters, tests -------------------------------------------------------- */

static bool bad_call(parser *p, size_t pos) {
    return parse_fail_at(p, FAULT_SYNTAX, pos, "invalid syntax for function call expression");
}

static bool parse_keyword(parser *p, node_args *a, node ***last) {
    const token *t = p->now;
    node *k = parse_node(p, N_KEYWORD, t->pos);
    if (!k || !parse_next(p) || !parse_next(p)) return false;
    k->k = val_str(parse_str(p, t->p, t->n));
    if (!k->k.s || !(k->a = parse_expr(p, true))) return false;
    for (const node *i = a->kw; i; i = i->next)
        if (str_same(i->k.s, k->k.s))
            return parse_fail_at(p, FAULT_PYTHON, t->pos, "keyword argument repeated: %.60s", i->k.s->p);
    **last = k;
    *last = &k->next;
    a->n_kw++;
    return true;
}

static node_args *parse_args(parser *p) {
    const size_t pos = p->now->pos;
    node_args *a = arena_take(&p->t->arena, 1, sizeof *a);
    if (!a) {
        parse_nomem(p);
        return NULL;
    }
    node **pos_last = &a->pos, **kw_last = &a->kw;
    if (!parse_expect(p, T_LPAREN)) return NULL;
    for (bool first = true; p->now->kind != T_RPAREN; first = false) {
        if (!first && !parse_expect(p, T_COMMA)) return NULL;
        if (p->now->kind == T_RPAREN) break;
        if (p->now->kind == T_MUL || p->now->kind == T_POW) {
            node **star = p->now->kind == T_MUL ? &a->star : &a->star_star;
            if (a->star_star || *star) return bad_call(p, pos), NULL;
            if (!parse_next(p) || !(*star = parse_expr(p, true))) return NULL;
        } else if (p->now->kind == T_NAME && p->now[1].kind == T_ASSIGN) {
            if (a->star_star) return bad_call(p, pos), NULL;
            if (!parse_keyword(p, a, &kw_last)) return NULL;
        } else {
            if (a->star || a->star_star || a->n_kw) return bad_call(p, pos), NULL;
            if (!(*pos_last = parse_expr(p, true))) return NULL;
            pos_last = &(*pos_last)->next;
            a->n_pos++;
        }
    }
    return parse_expect(p, T_RPAREN) ? a : NULL;
}

static node *parse_call(parser *p, node *callee) {
    node *n = parse_node(p, N_CALL, p->now->pos);
    if (!n || !(n->args = parse_args(p))) return NULL;
    n->a = callee;
    return n;
}

static node *unknown_name(parser *p, const node *f) {
    parse_fail_at(p, FAULT_ASSERTION, f->pos, "No %s named '%.60s'.", f->kind == N_FILTER ? "filter" : "test",
                  f->k.s->n ? f->k.s->p : "");
    return NULL;
}

/* A filter's or test's name, which may hold dots. */
static node *parse_dotted(parser *p, enum node_kind kind) {
    char name[128];
    size_t n = 0;
    const token *t = p->now;
    for (;;) {
        const token *part = p->now;
        if (!parse_expect(p, T_NAME)) return NULL;
        if (n + part->n + 1 < sizeof name) {
            memcpy(name + n, part->p, part->n);
            n += part->n;
        }
        if (p->now->kind != T_DOT) break;
        if (n + 1 < sizeof name) name[n++] = '.';
        if (!parse_next(p)) return NULL;
    }
    node *f = parse_node(p, kind, t->pos);
    if (!f) return NULL;
    f->k = val_str(parse_str(p, name, n));
    if (!f->k.s) return NULL;
    f->def = kind == N_FILTER ? filter_find(name, n) : test_find(name, n);
    if (!f->def && !p->is_soft) return unknown_name(p, f);
    if (!f->def && !p->unknown) p->unknown = f;
    return f;
}

node *parse_filter(parser *p, node *input, bool starts_inline) {
    while (p->now->kind == T_PIPE || starts_inline) {
        if (!starts_inline && !parse_next(p)) return NULL;
        starts_inline = false;
        node *f = parse_dotted(p, N_FILTER);
        if (!f) return NULL;
        if (p->now->kind == T_LPAREN && !(f->args = parse_args(p))) return NULL;
        f->a = input;
        input = f;
    }
    return input;
}

static node *parse_test(parser *p, node *input) {
    bool is_not;
    const size_t pos = p->now->pos;
    if (!parse_next(p) || !parse_skip(p, "not", &is_not)) return NULL;
    node *t = parse_dotted(p, N_TEST);
    if (!t) return NULL;
    t->a = input;
    const enum token_kind k = p->now->kind;
    if (k == T_LPAREN) {
        if (!(t->args = parse_args(p))) return NULL;
    } else if ((k == T_NAME || k == T_STRING || k == T_INT || k == T_FLOAT || k == T_LBRACKET || k == T_LBRACE) &&
               !token_is(p->now, "else") && !token_is(p->now, "or") && !token_is(p->now, "and")) {
        if (token_is(p->now, "is")) {
            parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "You cannot chain multiple tests with is");
            return NULL;
        }
        if (!(t->args = arena_take(&p->t->arena, 1, sizeof *t->args))) return parse_nomem(p);
        node *arg = parse_primary(p, false);
        if (!arg || !(t->args->pos = parse_postfix(p, arg))) return NULL;
        t->args->n_pos = 1;
    }
    if (!is_not) return t;
    node *n = parse_node(p, N_NOT, pos);
    if (n) n->a = t;
    return n;
}

static node *parse_slice(parser *p) {
    const size_t pos = p->now->pos;
    node *from = NULL;
    if (p->now->kind != T_COLON) {
        from = parse_expr(p, true);
        if (!from || p->now->kind != T_COLON) return from;
    }
    node *n = parse_node(p, N_SLICE, pos);
    if (!n || !parse_next(p)) return NULL;
    n->a = from;
    if (p->now->kind != T_COLON && p->now->kind != T_RBRACKET && p->now->kind != T_COMMA &&
        !(n->b = parse_expr(p, true))) return NULL;
    if (p->now->kind != T_COLON) return n;
    if (!parse_next(p)) return NULL;
    if (p->now->kind != T_RBRACKET && p->now->kind != T_COMMA && !(n->c = parse_expr(p, true))) return NULL;
    return n;
}

static node *parse_subscript(parser *p, node *of) {
    const token *t = p->now;
    node *n = parse_node(p, t->kind == T_DOT ? N_GETATTR : N_GETITEM, t->pos), *first = NULL, **last = &first;
    if (!n || !parse_next(p)) return NULL;
    n->a = of;
    if (t->kind == T_DOT) {
        const token *attr = p->now;
        if (attr->kind == T_NAME) {
            n->k = val_str(parse_str(p, attr->p, attr->n));
            return n->k.s && parse_next(p) ? n : NULL;
        }
        if (attr->kind != T_INT) {
            parse_fail_at(p, FAULT_SYNTAX, attr->pos, "expected name or number");
            return NULL;
        }
        n->kind = N_GETITEM;
        return (n->b = parse_number(p)) ? n : NULL;
    }
    size_t n_items = 0;
    while (p->now->kind != T_RBRACKET) {
        if (n_items++ && !parse_expect(p, T_COMMA)) return NULL;
        if (!(*last = parse_slice(p))) return NULL;
        last = &(*last)->next;
    }
    if (!parse_next(p)) return NULL;
    n->b = first;
    if (n_items != 1) {
        if (!(n->b = parse_node(p, N_TUPLE, t->pos))) return NULL;
        n->b->a = first;
        n->b->n = n_items;
    }
    return n;
}

static node *parse_postfix(parser *p, node *n) {
    while (n && (p->now->kind == T_DOT || p->now->kind == T_LBRACKET || p->now->kind == T_LPAREN))
        n = p->now->kind == T_LPAREN ? parse_call(p, n) : parse_subscript(p, n);
    return n;
}

/* ---- operators -------------------------------------------------------------------------------- */

static node *parse_unary(parser *p, bool with_filter) {
    node *n;
    if (p->now->kind == T_SUB || p->now->kind == T_ADD) {
        if (!(n = parse_node(p, p->now->kind == T_SUB ? N_NEG : N_POS, p->now->pos))) return NULL;
        if (++p->n_nested > TEMPLATE_MAX_NESTING) {
            parse_fail_at(p, FAULT_LIMIT, p->now->pos, "expressions are nested deeper than %d", TEMPLATE_MAX_NESTING);
            return NULL;
        }
        if (!parse_next(p) || !(n->a = parse_unary(p, false))) return NULL;
        p->n_nested--;
    } else if (!(n = parse_primary(p, false))) {
        return NULL;
    }
    n = parse_postfix(p, n);
    while (with_filter && n) {
        if (p->now->kind == T_PIPE) n = parse_filter(p, n, false);
        else if (token_is(p->now, "is")) n = parse_test(p, n);
        else if (p->now->kind == T_LPAREN) n = parse_call(p, n);
        else break;
    }
    return n;
}

static node *binary(parser *p, enum node_kind kind, enum op op, size_t pos, node *a, node *b) {
    node *n = b ? parse_node(p, kind, pos) : NULL;
    if (!n) return NULL;
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

static node *parse_pow(parser *p) {
    node *n = parse_unary(p, true);
    while (n && p->now->kind == T_POW) {
        const size_t pos = p->now->pos;
        if (!parse_next(p)) return NULL;
        n = binary(p, N_BINARY, OP_POW, pos, n, parse_unary(p, true));
    }
    return n;
}

static node *parse_product(parser *p) {
    node *n = parse_pow(p);
    for (;;) {
        const enum token_kind k = p->now->kind;
        const size_t pos = p->now->pos;
        if (!n || (k != T_MUL && k != T_DIV && k != T_FLOORDIV && k != T_MOD)) return n;
        if (!parse_next(p)) return NULL;
        const enum op op = k == T_MUL ? OP_MUL : k == T_DIV ? OP_DIV : k == T_MOD ? OP_MOD : OP_FLOORDIV;
        n = binary(p, N_BINARY, op, pos, n, parse_pow(p));
    }
}

static node *parse_concat(parser *p) {
    node *first = parse_product(p), **last;
    if (!first || p->now->kind != T_TILDE) return first;
    node *n = parse_node(p, N_CONCAT, p->now->pos);
    if (!n) return NULL;
    n->a = first;
    n->n = 1;
    last = &first->next;
    while (p->now->kind == T_TILDE) {
        if (!parse_next(p) || !(*last = parse_product(p))) return NULL;
        last = &(*last)->next;
        n->n++;
    }
    return n;
}

static node *parse_sum(parser *p) {
    node *n = parse_concat(p);
    while (n && (p->now->kind == T_ADD || p->now->kind == T_SUB)) {
        const enum op op = p->now->kind == T_ADD ? OP_ADD : OP_SUB;
        const size_t pos = p->now->pos;
        if (!parse_next(p)) return NULL;
        n = binary(p, N_BINARY, op, pos, n, parse_concat(p));
    }
    return n;
}

static node *parse_compare(parser *p) {
    node *first = parse_sum(p), *n = NULL, **last = NULL;
    while (first) {
        const token *t = p->now;
        enum op op;
        size_t n_words = 1;
        switch (t->kind) {
        case T_EQ: op = OP_EQ; break;
        case T_NE: op = OP_NE; break;
        case T_LT: op = OP_LT; break;
        case T_LE: op = OP_LE; break;
        case T_GT: op = OP_GT; break;
        case T_GE: op = OP_GE; break;
        default:
            if (token_is(t, "in")) { op = OP_IN; break; }
            if (!token_is(t, "not") || !token_is(t + 1, "in")) return n ? n : first;
            op = OP_NOTIN;
            n_words = 2;
        }
        while (n_words--)
            if (!parse_next(p)) return NULL;
        if (!n) {
            if (!(n = parse_node(p, N_COMPARE, t->pos))) return NULL;
            n->a = first;
            last = &n->b;
        }
        node *operand = parse_node(p, N_OPERAND, t->pos);
        if (!operand || !(operand->a = parse_sum(p))) return NULL;
        operand->op = op;
        *last = operand;
        last = &operand->next;
    }
    return NULL;
}

static node *parse_not(parser *p) {
    if (!token_is(p->now, "not")) return parse_compare(p);
    node *n = parse_node(p, N_NOT, p->now->pos);
    if (++p->n_nested > TEMPLATE_MAX_NESTING) {
        parse_fail_at(p, FAULT_LIMIT, p->now->pos, "expressions are nested deeper than %d", TEMPLATE_MAX_NESTING);
        return NULL;
    }
    if (!n || !parse_next(p) || !(n->a = parse_not(p))) return NULL;
    p->n_nested--;
    return n;
}

static node *parse_and(parser *p) {
    node *n = parse_not(p);
    while (n && token_is(p->now, "and")) {
        const size_t pos = p->now->pos;
        if (!parse_next(p)) return NULL;
        n = binary(p, N_AND, OP_ADD, pos, n, parse_not(p));
    }
    return n;
}

static node *parse_or(parser *p) {
    node *n = parse_and(p);
    while (n && token_is(p->now, "or")) {
        const size_t pos = p->now->pos;
        if (!parse_next(p)) return NULL;
        n = binary(p, N_OR, OP_ADD, pos, n, parse_and(p));
    }
    return n;
}

/* An unknown filter is an error at once, but in a conditional only when it is reached; whether an "if" follows is
 * not known before the end. */
static node *parse_cond(parser *p) {
    const bool soft = p->is_soft;
    const size_t pos = p->now->pos;
    const node *outer = p->unknown;
    p->is_soft = true;
    p->unknown = NULL;
    node *n = parse_or(p);
    bool has_if = false, has_else;
    while (n && token_is(p->now, "if")) {
        has_if = true;
        node *c = parse_node(p, N_COND, pos);
        if (!c || !parse_next(p)) return NULL;
        c->b = n;
        if (!(c->a = parse_or(p)) || !parse_skip(p, "else", &has_else)) return NULL;
        if (has_else && !(c->c = parse_expr(p, true))) return NULL;
        n = c;
    }
    p->is_soft = soft;
    if (n && !has_if && !soft && p->unknown) return unknown_name(p, p->unknown);
    if (has_if || outer) p->unknown = outer;
    return n;
}

node *parse_expr(parser *p, bool with_cond) {
    if (++p->n_nested > TEMPLATE_MAX_NESTING) {
        parse_fail_at(p, FAULT_LIMIT, p->now->pos, "expressions are nested deeper than %d", TEMPLATE_MAX_NESTING);
        return NULL;
    }
    node *n = with_cond ? parse_cond(p) : parse_or(p);
    p->n_nested--;
    return n;
}
