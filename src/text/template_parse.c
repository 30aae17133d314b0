/* Tokens to syntax tree: statements. Expressions are in template_expr.c. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_parse.h"

bool parse_fail_at(parser *p, enum fault_class c, size_t pos, const char *fmt, ...) {
    if (p->is_failed) return false;
    char text[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->is_failed = true;
    return fault_set(p->fault, p->t, pos, c, text, p->e);
}

node *parse_nomem(parser *p) {
    if (!p->is_failed) {
        p->is_failed = true;
        fault_set(p->fault, p->t, p->now->pos, FAULT_NOMEM, "no memory for a template", p->e);
    }
    return NULL;
}

bool parse_next(parser *p) {
    if (p->now->kind == T_ERROR) return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "%s", p->tokens->error);
    if (p->now->kind != T_EOF) p->now++;
    if (p->now->kind == T_ERROR) return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "%s", p->tokens->error);
    return true;
}

bool token_is(const token *t, const char *name) {
    return t->kind == T_NAME && t->n == strlen(name) && memcmp(t->p, name, t->n) == 0;
}

bool parse_skip(parser *p, const char *name, bool *did) {
    *did = token_is(p->now, name);
    return !*did || parse_next(p);
}

static const char *const kind_names[] = {
    "end of template", "error", "template data / text", "begin of statement block", "end of statement block",
    "begin of print statement", "end of print statement", "name", "string", "integer", "float", "+", "-", "*", "/", "//",
    "%", "**", "~", "[", "]", "(", ")", "{", "}", "==", "!=", ">", ">=", "<", "<=", "=", ".", ":", "|", ",", ";",
};

bool parse_expect(parser *p, enum token_kind kind) {
    if (p->now->kind == kind) return parse_next(p);
    if (p->now->kind == T_EOF)
        return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "unexpected end of template, expected '%s'.", kind_names[kind]);
    return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "expected token '%s', got '%.*s'", kind_names[kind],
                         (int)(p->now->n < 40 ? p->now->n : 40), p->now->p);
}

const char *token_text(const token *t, char *room, size_t size) {
    if (t->kind == T_NAME) snprintf(room, size, "%.*s", (int)(t->n < 40 ? t->n : 40), t->p);
    else snprintf(room, size, "%s", kind_names[t->kind]);
    return room;
}

bool parse_expect_name(parser *p, const char *name) {
    if (token_is(p->now, name)) return parse_next(p);
    char room[64];
    if (p->now->kind == T_EOF)
        return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "unexpected end of template, expected '%s'.", name);
    return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "expected token '%s', got '%s'", name,
                         token_text(p->now, room, sizeof room));
}

node *parse_node(parser *p, enum node_kind kind, size_t pos) {
    node *n = arena_take(&p->t->arena, 1, sizeof *n);
    if (!n) return parse_nomem(p);
    n->kind = kind;
    n->pos = (uint32_t)pos;
    return n;
}

const str *parse_str(parser *p, const char *s, size_t n) {
    str *x = arena_take(&p->t->arena, 1, sizeof *x);
    char *copy = arena_take(&p->t->arena, n + 1, 1);
    if (!x || !copy) {
        parse_nomem(p);
        return NULL;
    }
    memcpy(copy, s, n);
    copy[n] = '\0';                                             /* for messages */
    *x = (str){ .p = copy, .n = n, .n_chars = SIZE_MAX };
    x->n_chars = str_chars(x);                                  /* now: rendering threads share it */
    return x;
}

/* The number of a variable's name. */
bool parse_symbol(parser *p, const token *t, uint32_t *out) {
    int32_t c;
    if (t->n && utf8_decode(t->p, t->n, &c) && ((c >= '0' && c <= '9') || !name_is_valid(t->p, t->n)))
        return parse_fail_at(p, FAULT_SYNTAX, t->pos, "Invalid character in identifier");
    ern_template *u = p->t;
    for (size_t i = 0; i < u->n_symbols; i++)
        if (u->symbol[i]->n == t->n && memcmp(u->symbol[i]->p, t->p, t->n) == 0) {
            *out = (uint32_t)i;
            return true;
        }
    if (u->n_symbols == u->cap_symbols) {
        const size_t cap = u->cap_symbols ? 2 * u->cap_symbols : 32;
        const str **more = arena_take(&u->arena, cap, sizeof *more);
        if (!more) return parse_nomem(p);
        if (u->n_symbols) memcpy(more, u->symbol, u->n_symbols * sizeof *more);
        u->symbol = more;
        u->cap_symbols = cap;
    }
    const str *name = parse_str(p, t->p, t->n);
    if (!name) return false;
    *out = (uint32_t)u->n_symbols;
    u->symbol[u->n_symbols++] = name;
    return true;
}

/* ---- targets ---------------------------------------------------------------------------------- */

static bool check_target(parser *p, node *n) {
    if (n->kind == N_NAME) {
        const str *name = p->t->symbol[n->sym];
        for (const loop_use *l = p->loops; l && str_is(name, "loop"); l = l->outer)
            return parse_fail_at(p, FAULT_ASSERTION, n->pos, "Can't assign to special loop variable in for-loop target");
        return true;
    }
    if (n->kind == N_NSREF) return true;
    if (n->kind != N_TUPLE)
        return parse_fail_at(p, FAULT_SYNTAX, n->pos, "can't assign to '%s'", n->kind == N_CONST ? "const" :
                             n->kind == N_LIST ? "list" : n->kind == N_DICT ? "dict" : "expression");
    for (node *i = n->a; i; i = i->next)
        if (!check_target(p, i)) return false;
    return true;
}

static node *parse_target(parser *p, bool with_space) {
    p->n_quiet++;                                               /* these names are stored, not read */
    node *n = parse_tuple(p, TUPLE_SIMPLE | (with_space ? TUPLE_SPACE : 0));
    p->n_quiet--;
    return n && check_target(p, n) ? n : NULL;
}

static node *parse_name_target(parser *p) {
    const token *t = p->now;
    if (!parse_expect(p, T_NAME)) return NULL;
    node *n = parse_node(p, N_NAME, t->pos);
    if (!n || !parse_symbol(p, t, &n->sym)) return NULL;
    static const char *const constants[] = { "true", "false", "none", "True", "False", "None" };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (token_is(t, constants[i])) {
            parse_fail_at(p, FAULT_SYNTAX, t->pos, "can't assign to 'name'");
            return NULL;
        }
    return n;
}

/* ---- bodies ----------------------------------------------------------------------------------- */

static bool subparse(parser *p, const char *const *ends, node **out);

static bool fail_eof(parser *p, const char *const *ends) {
    char text[200] = "";
    size_t used = 0;
    for (size_t i = 0; ends && ends[i] && used < sizeof text - 32; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s'%s'", i ? " or " : "", ends[i]);
    return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "Unexpected end of template. Jinja was looking for the following "
                         "tags: %s. The innermost block that needs to be closed is '%s'.", text, p->tag ? p->tag : "");
}

/* A body up to one of ends (NULL-terminated); the end's name is the current token unless drops. */
static bool parse_body(parser *p, const char *const *ends, bool drops, node **out) {
    if (p->now->kind == T_COLON && !parse_next(p)) return false;
    if (!parse_expect(p, T_BLOCK_END)) return false;
    if (++p->n_nested > TEMPLATE_MAX_NESTING)
        return parse_fail_at(p, FAULT_LIMIT, p->now->pos, "blocks are nested deeper than %d", TEMPLATE_MAX_NESTING);
    const bool ok = subparse(p, ends, out);
    p->n_nested--;
    if (!ok) return false;
    if (p->now->kind == T_EOF) return fail_eof(p, ends);
    return !drops || parse_next(p);
}

#define ENDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* ---- statements ------------------------------------------------------------------------------- */

static node *parse_for(parser *p) {
    const size_t pos = p->now->pos;
    node *n = parse_node(p, N_FOR, pos);
    if (!n || !parse_next(p)) return NULL;
    loop_use use = { .outer = p->loops };
    p->loops = &use;
    n->a = parse_target(p, false);
    p->loops = use.outer;
    const size_t breakable = p->n_breakable;
    const bool soft = p->is_soft;
    bool has = false, ok = false;
    if (!n->a || !parse_expect_name(p, "in") || !(n->b = parse_tuple(p, TUPLE_NO_COND))) goto out;
    if (!parse_skip(p, "if", &has)) goto out;
    p->is_soft = false;
    if (has && !(n->c = parse_expr(p, true))) goto out;
    if (!parse_skip(p, "recursive", &n->flag)) goto out;
    p->loops = &use;
    p->n_breakable = 1;
    ok = parse_body(p, ENDS("endfor", "else"), false, &n->body);
    p->n_breakable = breakable;
    n->uses_loop = use.is_used || n->flag;
    p->loops = use.outer;
    if (!ok) goto out;
    const bool has_else = token_is(p->now, "else");
    ok = parse_next(p) && (!has_else || parse_body(p, ENDS("endfor"), true, &n->other));
out:
    p->is_soft = soft;
    p->loops = use.outer;
    return ok ? n : NULL;
}

static node *parse_if(parser *p) {
    node *n = parse_node(p, N_IF, p->now->pos), *now = n;
    if (!n || !parse_next(p)) return NULL;
    const bool soft = p->is_soft;
    for (;;) {
        p->is_soft = true;                                      /* unknown filters fail when they are reached */
        if (!(now->a = parse_tuple(p, TUPLE_NO_COND))) return NULL;
        if (!parse_body(p, ENDS("elif", "else", "endif"), false, &now->body)) return NULL;
        if (token_is(p->now, "elif")) {
            if (!(now->c = parse_node(p, N_IF, p->now->pos)) || !parse_next(p)) return NULL;
            now = now->c;
            continue;
        }
        const bool has_else = token_is(p->now, "else");
        if (!parse_next(p)) return NULL;
        if (has_else && !parse_body(p, ENDS("endif"), true, &now->c)) return NULL;
        p->is_soft = soft;
        return n;
    }
}

static node *parse_set(parser *p) {
    node *n = parse_node(p, N_SET, p->now->pos);
    if (!n || !parse_next(p) || !(n->a = parse_target(p, true))) return NULL;
    if (p->now->kind == T_ASSIGN) return parse_next(p) && (n->b = parse_tuple(p, 0)) ? n : NULL;
    n->kind = N_SETBLOCK;
    const bool soft = p->is_soft;
    p->is_soft = false;
    if (p->now->kind == T_PIPE && !(n->b = parse_filter(p, NULL, false))) return NULL;
    const bool ok = parse_body(p, ENDS("endset"), true, &n->body);
    p->is_soft = soft;
    return ok ? n : NULL;
}

static bool parse_signature(parser *p, node *n) {
    node **last = &n->a;
    bool has_default = false;
    if (!parse_expect(p, T_LPAREN)) return false;
    while (p->now->kind != T_RPAREN) {
        if (n->a && !parse_expect(p, T_COMMA)) return false;
        node *name = parse_name_target(p);
        if (!name) return false;
        name->kind = N_PARAM;
        if (p->now->kind == T_ASSIGN) {
            if (!parse_next(p) || !(name->a = parse_expr(p, true))) return false;
            has_default = true;
        } else if (has_default) {
            return parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "non-default argument follows default argument");
        }
        for (const node *i = n->a; i; i = i->next)
            if (i->sym == name->sym) return parse_fail_at(p, FAULT_PYTHON, name->pos, "duplicate argument in a macro");
        *last = name;
        last = &name->next;
        n->n++;
    }
    return parse_expect(p, T_RPAREN);
}

/* The body of something callable: which special names it reads, and no break out of it. */
static bool parse_macro_body(parser *p, node *n, const char *end) {
    macro_use use = { .outer = p->macros };
    const size_t breakable = p->n_breakable;
    const bool soft = p->is_soft;
    p->macros = &use;
    p->n_breakable = 0;
    p->is_soft = false;
    const bool ok = parse_body(p, ENDS(end), true, &n->body);
    p->macros = use.outer;
    p->n_breakable = breakable;
    p->is_soft = soft;
    n->uses_caller = use.caller;
    n->uses_kwargs = use.kwargs;
    n->uses_varargs = use.varargs;
    for (const node *i = n->a; ok && i; i = i->next) {
        const str *name = p->t->symbol[i->sym];
        if (str_is(name, "kwargs")) n->uses_kwargs = false;
        if (str_is(name, "varargs")) n->uses_varargs = false;
        if (str_is(name, "caller") && n->uses_caller && !i->a)
            return parse_fail_at(p, FAULT_ASSERTION, n->pos, "When defining macros or call blocks the special \"caller\" "
                                 "argument must be omitted or be given a default.");
    }
    return ok;
}

static node *parse_macro(parser *p) {
    node *n = parse_node(p, N_MACRO, p->now->pos);
    if (!n || !parse_next(p)) return NULL;
    node *name = parse_name_target(p);
    if (!name || !parse_signature(p, n) || !parse_macro_body(p, n, "endmacro")) return NULL;
    n->sym = name->sym;
    return n;
}

static node *parse_call_block(parser *p) {
    node *n = parse_node(p, N_CALLBLOCK, p->now->pos);
    if (!n || !parse_next(p)) return NULL;
    if (p->now->kind == T_LPAREN && !parse_signature(p, n)) return NULL;
    if (!(n->b = parse_expr(p, true))) return NULL;
    if (n->b->kind != N_CALL) {
        parse_fail_at(p, FAULT_SYNTAX, n->pos, "expected call");
        return NULL;
    }
    return parse_macro_body(p, n, "endcall") ? n : NULL;
}

/* A body with a scope of its own and nothing else. */
static node *parse_scope(parser *p, node *n, const char *end) {
    const bool soft = p->is_soft;
    p->is_soft = false;
    const bool ok = parse_body(p, ENDS(end), true, &n->body);
    p->is_soft = soft;
    return ok ? n : NULL;
}

static node *parse_with(parser *p) {
    node *n = parse_node(p, N_WITH, p->now->pos), **last;
    if (!n || !parse_next(p)) return NULL;
    last = &n->a;
    while (p->now->kind != T_BLOCK_END) {
        if (n->a && !parse_expect(p, T_COMMA)) return NULL;
        node *target = parse_target(p, false);
        if (!target || !parse_expect(p, T_ASSIGN) || !(target->next = parse_expr(p, true))) return NULL;
        *last = target;
        last = &target->next->next;
    }
    return parse_scope(p, n, "endwith");
}

static node *parse_generation(parser *p) {
    node *n = parse_node(p, N_GENERATION, p->now->pos);
    return n && parse_next(p) && parse_macro_body(p, n, "endgeneration") ? n : NULL;
}

static node *parse_block(parser *p) {
    node *n = parse_node(p, N_BLOCK, p->now->pos);
    bool has;
    if (!n || !parse_next(p)) return NULL;
    const token *name = p->now;
    if (!parse_expect(p, T_NAME) || !parse_skip(p, "scoped", &n->flag) || !parse_skip(p, "required", &has)) return NULL;
    if (p->now->kind == T_SUB) {
        parse_fail_at(p, FAULT_SYNTAX, p->now->pos, "Block names in Jinja have to be valid Python identifiers and may not "
                      "contain hyphens, use an underscore instead.");
        return NULL;
    }
    if (!parse_macro_body(p, n, "endblock")) return NULL;
    if (p->now->kind == T_NAME && p->now->n == name->n && memcmp(p->now->p, name->p, name->n) == 0 &&
        !parse_next(p)) return NULL;
    return n;
}

/* include, import, from, extends: parsed as far as needed, then refused when reached, as there is no loader. */
static node *parse_loader(parser *p) {
    node *n = parse_node(p, N_LOADER, p->now->pos);
    if (!n || !parse_next(p) || !(n->a = parse_expr(p, true))) return NULL;
    while (p->now->kind == T_NAME || p->now->kind == T_COMMA)
        if (!parse_next(p)) return NULL;
    return n;
}

static node *parse_print(parser *p) {
    node *first = NULL, **last = &first;
    const size_t pos = p->now->pos;
    if (!parse_next(p)) return NULL;
    while (p->now->kind != T_BLOCK_END) {
        if (first && !parse_expect(p, T_COMMA)) return NULL;
        node *n = parse_node(p, N_OUTPUT, pos);
        if (!n || !(n->a = parse_expr(p, true))) return NULL;
        *last = n;
        last = &n->next;
    }
    if (!first && (first = parse_node(p, N_TEXT, pos))) {
        first->k = val_str(parse_str(p, "", 0));
        if (!first->k.s) return NULL;
    }
    return first;
}

static node *parse_jump(parser *p) {
    node *n = parse_node(p, token_is(p->now, "break") ? N_BREAK : N_CONTINUE, p->now->pos);
    if (!n || !parse_next(p)) return NULL;
    if (!p->n_breakable) {
        parse_fail_at(p, FAULT_PYTHON, n->pos, "'%s' outside loop", n->kind == N_BREAK ? "break" : "continue");
        return NULL;
    }
    return n;
}

static node *parse_filter_block(parser *p) {
    node *n = parse_node(p, N_FILTERBLOCK, p->now->pos);
    if (!n || !parse_next(p)) return NULL;
    const bool soft = p->is_soft;
    p->is_soft = false;
    n->a = parse_filter(p, NULL, true);
    p->is_soft = soft;
    return n->a ? parse_scope(p, n, "endfilter") : NULL;
}

static node *parse_escape(parser *p) {
    node *n = parse_node(p, N_ESCAPE, p->now->pos);
    return n && parse_next(p) && (n->a = parse_expr(p, true)) ? parse_scope(p, n, "endautoescape") : NULL;
}

static const struct { const char *name; node *(*parse)(parser *p); } statements[] = {
    { "for", parse_for }, { "if", parse_if }, { "set", parse_set }, { "macro", parse_macro }, { "call", parse_call_block },
    { "filter", parse_filter_block }, { "with", parse_with }, { "generation", parse_generation }, { "break", parse_jump },
    { "continue", parse_jump }, { "print", parse_print }, { "block", parse_block }, { "autoescape", parse_escape },
    { "include", parse_loader }, { "import", parse_loader }, { "from", parse_loader }, { "extends", parse_loader },
};

static node *parse_statement(parser *p, const char *const *ends) {
    const token *t = p->now;
    if (t->kind != T_NAME) {
        if (t->kind == T_EOF) fail_eof(p, ends);
        parse_fail_at(p, FAULT_SYNTAX, t->pos, "tag name expected");
        return NULL;
    }
    const char *outer = p->tag;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!token_is(t, statements[i].name)) continue;
        p->tag = statements[i].name;
        node *n = statements[i].parse(p);
        p->tag = outer;
        return n;
    }
    parse_fail_at(p, FAULT_SYNTAX, t->pos, "Encountered unknown tag '%.*s'.%s%s%s", (int)(t->n < 60 ? t->n : 60), t->p,
                  outer ? " The innermost block that needs to be closed is '" : "", outer ? outer : "", outer ? "'." : "");
    return NULL;
}

static bool is_end(const parser *p, const char *const *ends) {
    for (size_t i = 0; ends && ends[i]; i++)
        if (token_is(p->now, ends[i])) return true;
    return false;
}

/* Statements until the end of the template or one of ends. */
static bool subparse(parser *p, const char *const *ends, node **out) {
    node *first = NULL, **last = &first;
    while (p->now->kind != T_EOF) {
        const token *t = p->now;
        node *n = NULL;
        if (!parse_next(p)) return false;
        if (t->kind == T_TEXT) {
            if (!(n = parse_node(p, N_TEXT, t->pos))) return false;
            n->k = val_str(parse_str(p, t->p, t->n));
            if (!n->k.s) return false;
        } else if (t->kind == T_VAR_BEGIN) {
            if (!(n = parse_node(p, N_OUTPUT, t->pos)) || !(n->a = parse_tuple(p, 0))) return false;
            if (!parse_expect(p, T_VAR_END)) return false;
        } else {
            if (is_end(p, ends)) break;
            if (!(n = parse_statement(p, ends)) || !parse_expect(p, T_BLOCK_END)) return false;
        }
        *last = n;
        while (*last) last = &(*last)->next;
    }
    *out = first;
    return true;
}

bool template_parse_tokens(ern_template *t, const token_list *tokens, template_fault *f, ern_err *e) {
    parser p = { .t = t, .tokens = tokens, .now = tokens->t, .fault = f, .e = e,
                 .r = { .t = t, .arena = &t->arena, .fault = f, .e = e, .max_steps = SIZE_MAX } };
    if (p.now->kind == T_ERROR) return parse_fail_at(&p, FAULT_SYNTAX, p.now->pos, "%s", tokens->error);
    static const char *const names[] = { "loop", "caller", "kwargs", "varargs" };
    uint32_t *const symbols[] = { &t->sym_loop, &t->sym_caller, &t->sym_kwargs, &t->sym_varargs };
    for (size_t i = 0; i < 4; i++) {
        const token name = { T_NAME, 0, names[i], strlen(names[i]) };
        if (!parse_symbol(&p, &name, symbols[i])) return false;
    }
    return subparse(&p, NULL, &t->body);
}
