/* The parser of chat templates, shared by its statements (template_parse.c) and expressions (template_expr.c).
 * Functions return NULL or false after an error, which is reported once, in the parser's fault.
 */
#ifndef TEXT_TEMPLATE_PARSE_H
#define TEXT_TEMPLATE_PARSE_H

#include "text/template_int.h"

typedef struct loop_use { struct loop_use *outer; bool is_used; } loop_use;
typedef struct macro_use { struct macro_use *outer; bool caller, kwargs, varargs; } macro_use;

typedef struct {
    ern_template *t;
    const token_list *tokens;
    const token *now;
    template_fault *fault;
    ern_err *e;
    rt r;                       /* for making constants in the template's arena */
    bool is_failed;
    bool is_soft;               /* inside of if or a conditional: unknown filters are no error yet */
    const node *unknown;        /* first unknown filter or test of the expression being parsed */
    size_t n_nested;
    size_t n_quiet;             /* names being parsed are targets */
    size_t n_breakable;         /* is there a loop to break out of? */
    loop_use *loops;            /* loops whose body is being parsed, and the macros */
    macro_use *macros;
    const char *tag;            /* the innermost open statement */
} parser;

bool parse_fail_at(parser *p, enum fault_class c, size_t pos, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
node *parse_nomem(parser *p);
bool parse_next(parser *p);
bool parse_skip(parser *p, const char *name, bool *did);
bool parse_expect(parser *p, enum token_kind kind);
bool parse_expect_name(parser *p, const char *name);
node *parse_node(parser *p, enum node_kind kind, size_t pos);
const str *parse_str(parser *p, const char *s, size_t n);
bool parse_symbol(parser *p, const token *t, uint32_t *out);
bool token_is(const token *t, const char *name);
const char *token_text(const token *t, char *room, size_t size);
bool name_is_valid(const char *s, size_t n);            /* a Python identifier */

enum { TUPLE_SIMPLE = 1, TUPLE_NO_COND = 2, TUPLE_PAREN = 4, TUPLE_SPACE = 8 };
node *parse_expr(parser *p, bool with_cond);
node *parse_tuple(parser *p, unsigned flags);
node *parse_filter(parser *p, node *input, bool starts_inline);

#endif
