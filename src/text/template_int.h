/* Shared by the template_*.c files: tokens, syntax tree, values, the state of one rendering.
 *
 * A template (ern_template) is immutable after parse and lives in its own arena. A rendering (struct rt) has another
 * arena for every value it makes; it is thrown away as a whole, so values need no ownership. Lists, dicts and strings
 * never change once another value can see them (the sandbox refuses append, update, ...); namespaces, cyclers, loops
 * and generators do.
 */
#ifndef TEXT_TEMPLATE_INT_H
#define TEXT_TEMPLATE_INT_H

#include <string.h>

#include "text/template.h"

/* Limits that have no option. */
#define TEMPLATE_MAX_SOURCE ((size_t)16 << 20)      /* bytes of a template */
#define TEMPLATE_MAX_NESTING 200                    /* brackets and blocks inside each other */
#define TEMPLATE_MAX_CALLS 200                      /* macros and recursive loops inside each other */
#define TEMPLATE_MAX_DEPTH 2500                     /* nodes being evaluated inside each other */
#define TEMPLATE_MAX_RANGE 100000                   /* items of range(), as the sandbox has it */
#define TEMPLATE_MAX_DIGITS 4300                    /* of an integer, as Python has it */
#define TEMPLATE_STEP_BYTES 256                     /* bytes moved or searched that count as one step */

/* ---- faults: the class that Python would raise ------------------------------------------------ */

#define FAULT_MAP(X)                            \
    X(RAISED, "TemplateError")                  \
    X(SYNTAX, "TemplateSyntaxError")            \
    X(ASSERTION, "TemplateAssertionError")      \
    X(RUNTIME, "TemplateRuntimeError")          \
    X(UNDEFINED, "UndefinedError")              \
    X(SECURITY, "SecurityError")                \
    X(FILTER, "FilterArgumentError")            \
    X(TYPE, "TypeError")                        \
    X(VALUE, "ValueError")                      \
    X(KEY, "KeyError")                          \
    X(INDEX, "IndexError")                      \
    X(ATTRIBUTE, "AttributeError")              \
    X(ZERO, "ZeroDivisionError")                \
    X(OVERFLOW, "OverflowError")                \
    X(RECURSION, "RecursionError")              \
    X(ASSERT, "AssertionError")                 \
    X(PYTHON, "SyntaxError")                    \
    X(RUN, "RuntimeError")                      \
    X(UNSUPPORTED, "NotImplementedError")       \
    X(LIMIT, "LimitError")                      \
    X(NOMEM, "MemoryError")

enum fault_class {
#define X(name, text) FAULT_##name,
    FAULT_MAP(X)
#undef X
};

/* What went wrong, in full: ern_err cuts a long raise_exception text. message is the caller's to free. */
typedef struct {
    enum fault_class class;
    char *message;
    int line, column;
} template_fault;

const char *fault_name(enum fault_class c);

/* ---- arena ------------------------------------------------------------------------------------ */

typedef struct arena_block arena_block;
typedef struct {
    arena_block *block;
    size_t used, cap;           /* of the newest block */
    size_t total, max;          /* bytes taken from malloc; max 0: no limit */
    bool is_full;               /* a request passed max (otherwise a failure was malloc's) */
} ern_arena;

void *arena_take(ern_arena *a, size_t n, size_t size);      /* zeroed, aligned to 16; NULL: out of memory or limit */
void arena_free(ern_arena *a);

/* ---- values ----------------------------------------------------------------------------------- */

enum val_kind {
    V_MISSING,                  /* no value: an argument that was not given */
    V_UNDEF, V_NONE, V_BOOL, V_INT, V_BIG, V_FLOAT, V_STR, V_LIST, V_TUPLE, V_DICT, V_RANGE,
    V_VIEW,                     /* dict.keys(), .values(), .items() */
    V_ITER,                     /* generators and iterators: consumed once */
    V_SPACE, V_CYCLER, V_JOINER, V_LOOP, V_MACRO, V_METHOD, V_GLOBAL
};

struct rt;
struct node;
struct scope;
struct filter_def;
struct call_args;
typedef struct val val;
typedef struct str str;
typedef struct list list;
typedef struct dict dict;
typedef struct big big;
typedef struct undef undef;
typedef struct range range;
typedef struct view view;
typedef struct gen gen;
typedef struct cycler cycler;
typedef struct loop loop;
typedef struct macro macro;
typedef struct method method;
typedef struct func_def func_def;

struct val {
    enum val_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const str *s;
        const list *l;
        dict *d;                /* V_DICT, V_SPACE */
        const big *big;
        const undef *u;
        const range *r;
        const view *w;
        gen *g;
        cycler *c;              /* V_CYCLER, V_JOINER */
        loop *loop;
        const macro *m;
        const method *fn;
        const func_def *def;    /* V_GLOBAL */
    };
};

typedef struct { size_t used, cap; char text[]; } str_room;     /* where a joined string may still grow */

struct str {
    const char *p;              /* UTF-8, not NUL-terminated */
    size_t n;                   /* bytes */
    size_t n_chars;             /* SIZE_MAX: not counted yet */
    str_room *room;             /* p points into it, or NULL */
    bool is_markup;             /* escaped already */
};

struct list { size_t n; val *v; bool is_group; };               /* is_group: a groupby pair with names */
typedef struct { val key, value; } dict_item;
struct dict { size_t n, cap; dict_item *item; uint32_t *slot; size_t n_slots; };    /* in order of insertion */
struct undef { const char *hint; val name, obj; enum fault_class class; };         /* obj V_MISSING: a variable */
struct range { int64_t start, stop, step; };
enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };
struct view { enum view_kind kind; const dict *d; };
struct cycler { size_t n, pos; const val *v; bool is_used; };

/* Walks anything iterable. An iterator over a generator shares the generator's state, as in Python. */
typedef struct { val over; size_t at; } iter;

typedef bool (*gen_next_fn)(struct rt *r, gen *g, val *out, bool *has);
struct gen {
    const char *type_name;
    const char *label;          /* of a generator: its function's name in Jinja */
    bool (*start)(struct rt *r, gen *g);        /* called once, before the first next; may be NULL */
    gen_next_fn next;
    iter it;                    /* over the input; over list for gen_list_next */
    val input, attr, arg[3];
    const struct filter_def *def;               /* of map and select; NULL: the attribute, or truth */
    struct call_args *call;
    bool is_attr, is_reject;
    const struct node *loop;    /* the for statement whose filter this is */
    struct scope *scope;
};

struct loop {
    iter it;
    val items, before, current, after, changed;
    size_t index0, length, depth0;
    bool has_length;
    const struct node *body;                    /* the for statement when it is recursive */
    struct scope *scope;
};

struct macro { const struct node *node; struct scope *scope; bool is_caller; };
struct method { const struct filter_def *def; val self; };

/* ---- calls ------------------------------------------------------------------------------------ */

typedef struct { const str *name; val v; } kwarg;
typedef struct call_args { const val *pos; size_t n_pos; const kwarg *kw; size_t n_kw; } call_args;

#define MAX_PARAMS 6
/* A filter, test or method: names of its parameters separated by spaces, those before '|' required, a leading '!'
 * forbids keywords, "*" takes everything (args is then set). arg[i] is V_MISSING where nothing was given. */
typedef bool (*filter_fn)(struct rt *r, val self, const val *arg, const call_args *args, val *out);
typedef struct filter_def { const char *name; filter_fn fn; const char *params; } filter_def;
struct func_def { const char *name; bool (*fn)(struct rt *r, const call_args *a, val *out); };

/* ---- syntax tree ------------------------------------------------------------------------------ */

enum node_kind {
    /* expressions      a, b, c, k, ... */
    N_CONST,            /* k */
    N_NAME,             /* sym */
    N_NSREF,            /* sym, k attribute: a target only */
    N_TUPLE, N_LIST,    /* a: items by next; n */
    N_DICT,             /* a: key, value, key, value by next; n pairs */
    N_COND,             /* a test, b then, c else or NULL */
    N_AND, N_OR,        /* a, b */
    N_NOT, N_NEG, N_POS,        /* a */
    N_BINARY,           /* op, a, b */
    N_CONCAT,           /* a by next; n */
    N_COMPARE,          /* a, b: operands (N_OPERAND: op, a) by next */
    N_OPERAND,
    N_GETATTR,          /* a, k */
    N_GETITEM,          /* a, b (N_SLICE: a, b, c, any NULL) */
    N_SLICE,
    N_CALL,             /* a, args */
    N_FILTER,           /* a or NULL (the block's text), def or NULL (unknown), k name, args */
    N_TEST,
    N_KEYWORD,          /* k name, a */
    /* statements, in lists by next */
    N_TEXT,             /* k */
    N_OUTPUT,           /* a */
    N_IF,               /* a test, b body, c else list (elif: an N_IF alone) */
    N_FOR,              /* a target, b iterable, c filter or NULL, body, other; flag: recursive; uses_loop */
    N_SET,              /* a target, b value */
    N_SETBLOCK,         /* a target, b filters or NULL, body */
    N_MACRO,            /* sym, a parameters (N_PARAM: sym, a default or NULL), n, body, uses_* */
    N_PARAM,
    N_CALLBLOCK,        /* a parameters, n, b call, body, uses_* */
    N_FILTERBLOCK,      /* a filters, body */
    N_WITH,             /* a: target, value, target, value by next; body */
    N_BLOCK,            /* body; flag: scoped */
    N_ESCAPE,           /* a, body */
    N_GENERATION,       /* body */
    N_BREAK, N_CONTINUE,
    N_LOADER            /* include, import, from, extends: there is nothing to load from */
};

enum op { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW, OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN,
    OP_NOTIN };

typedef struct node_args { struct node *pos, *kw, *star, *star_star; size_t n_pos, n_kw; } node_args;

typedef struct node node;
struct node {
    enum node_kind kind;
    enum op op;
    bool flag, uses_loop, uses_caller, uses_kwargs, uses_varargs;
    uint32_t pos;               /* byte offset in the source, for line and column */
    uint32_t sym;
    size_t n;
    node *next, *a, *b, *c, *body, *other;
    val k;
    const filter_def *def;
    node_args *args;
};

struct ern_template {
    ern_arena arena;
    char *source;               /* newlines normalised */
    size_t n_source;
    node *body;
    const str **symbol;         /* names of variables, by number */
    size_t n_symbols, cap_symbols;
    uint32_t sym_loop, sym_caller, sym_kwargs, sym_varargs;
};

/* ---- tokens ----------------------------------------------------------------------------------- */

enum token_kind {
    T_EOF, T_ERROR, T_TEXT, T_BLOCK_BEGIN, T_BLOCK_END, T_VAR_BEGIN, T_VAR_END, T_NAME, T_STRING, T_INT, T_FLOAT,
    T_ADD, T_SUB, T_MUL, T_DIV, T_FLOORDIV, T_MOD, T_POW, T_TILDE, T_LBRACKET, T_RBRACKET, T_LPAREN, T_RPAREN,
    T_LBRACE, T_RBRACE, T_EQ, T_NE, T_GT, T_GE, T_LT, T_LE, T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA, T_SEMICOLON
};
typedef struct { enum token_kind kind; uint32_t pos; const char *p; size_t n; } token;
typedef struct { token *t; size_t n, cap; char error[160]; } token_list;

/* Cuts t->source into tokens, ending in T_EOF or in T_ERROR (error says what). False: out of memory. */
bool template_lex(const ern_template *t, token_list *out, ern_err *e);
bool template_parse_tokens(ern_template *t, const token_list *tokens, template_fault *f, ern_err *e);
void template_place(const ern_template *t, size_t pos, int *line, int *column);
ern_template *template_parse_fault(const char *source, size_t n, template_fault *f, ern_err *e);
bool template_render_fault(const ern_template *t, const json_t *vars, const template_options *o, ern_buf *out,
                           template_fault *f, ern_err *e);
bool fault_set(template_fault *f, const ern_template *t, size_t pos, enum fault_class c, const char *message, ern_err *e);

/* ---- one rendering ---------------------------------------------------------------------------- */

typedef struct { uint32_t sym; val v; } binding;
typedef struct scope { struct scope *parent; binding *b; size_t n, cap; bool is_captured; } scope;

typedef struct rt {
    const ern_template *t;
    ern_arena *arena;           /* the rendering's; while parsing, the template's */
    const node *at;             /* where an error is reported */
    size_t steps, max_steps, depth, calls, max_bytes;
    bool is_escaping;
    ern_buf *out, *root;        /* out is root outside of macros and captures */
    size_t root_start, root_chars;      /* where our text begins in root; characters written to it */
    template_spans *spans;
    const struct tm *now;
    val *vars;                  /* [n_symbols] from the caller, then globals; V_MISSING where there is none */
    scope *top, *scope;         /* scope: the innermost; NULL ends the chain */
    val filter_input;           /* what the first filter of a block's chain gets */
    template_fault *fault;
    enum fault_class last;      /* of the latest failure */
    ern_err *e;
} rt;

bool rt_fail(rt *r, enum fault_class c, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool rt_nomem(rt *r);                                   /* the arena gave NULL */
bool rt_charge(rt *r, size_t bytes);                    /* one step and what bytes cost */
void *rt_take(rt *r, size_t n, size_t size);            /* from the arena; NULL with the fault set */
bool rt_emit(rt *r, const char *s, size_t n);
bool rt_emit_val(rt *r, val v);
bool rt_output(rt *r, val v);                           /* as {{ }} does: escapes where that is on */

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

bool eval(rt *r, const node *n, val *out);
bool op_binary(rt *r, enum op op, val a, val b, val *out);      /* + - * / // % ** of any two values */
bool eval_name(rt *r, uint32_t sym, val *out);
bool eval_args(rt *r, const node_args *a, call_args *out);
bool eval_filters(rt *r, const node *f, val input, val *out);   /* a filter block's chain over its text */
bool call_value(rt *r, val f, const call_args *a, val *out);
bool call_def(rt *r, const filter_def *d, val self, const call_args *a, val *out);
bool run_list(rt *r, const node *n, enum flow *flow);
bool render_macro(rt *r, const macro *m, const call_args *a, val *out);
bool render_loop_again(rt *r, const loop *l, val items, val *out);      /* loop(items) */

/* ---- values: template_value.c ----------------------------------------------------------------- */

static inline val val_none(void) { return (val){ .kind = V_NONE }; }
static inline val val_bool(bool b) { return (val){ .kind = V_BOOL, .b = b }; }
static inline val val_int(int64_t i) { return (val){ .kind = V_INT, .i = i }; }
static inline val val_float(double f) { return (val){ .kind = V_FLOAT, .f = f }; }
static inline val val_str(const str *s) { return (val){ .kind = V_STR, .s = s }; }
static inline val val_list(const list *l) { return (val){ .kind = V_LIST, .l = l }; }
static inline bool is_sequence(val v) { return v.kind == V_LIST || v.kind == V_TUPLE; }
static inline bool is_int(val v) { return v.kind == V_INT || v.kind == V_BOOL; }
static inline int64_t as_int(val v) { return v.kind == V_BOOL ? v.b : v.i; }

const char *val_type(val v);                            /* "str", "dict", ... as Python names it */
bool val_truth(val v);
bool val_from_json(rt *r, const json_t *j, size_t depth, val *out);
bool val_undef(rt *r, const char *hint, val name, val obj, enum fault_class c, val *out);
bool val_undef_fail(rt *r, val v);                      /* using an undefined value */
bool val_str_of(rt *r, val v, const str **out);         /* str(v) */
bool val_repr(rt *r, val v, ern_buf *b);
bool val_eq(rt *r, val a, val b, bool *out);
bool val_order(rt *r, val a, val b, enum op op, bool *out);
bool val_contains(rt *r, val item, val in, bool *out);
bool val_len(rt *r, val v, bool *has, size_t *out);     /* has: false where Python has no len() */
bool val_index(rt *r, val v, int64_t *out);             /* an int argument; TypeError otherwise */
bool val_to_list(rt *r, val v, list *out);
bool val_getattr(rt *r, val obj, const str *name, val *out);
bool val_getitem(rt *r, val obj, val key, val *out);
bool val_slice(rt *r, val obj, val from, val to, val step, val *out);
bool val_is_iterable(val v);

bool iter_open(rt *r, val v, iter *it);
bool iter_next(rt *r, iter *it, val *out, bool *has);
gen *gen_new(rt *r, val input, gen_next_fn next, const char *type_name);
bool gen_list_next(rt *r, gen *g, val *out, bool *has); /* walks g->it */

list *list_new(rt *r, size_t n);
val *list_grow(rt *r, list *l, size_t *cap);            /* a new last item */
bool dict_get(rt *r, const dict *d, val key, val *out, bool *has);
bool dict_set(rt *r, dict *d, val key, val value);
dict *dict_new(rt *r);
bool val_hashable(rt *r, val v);

/* ---- strings: template_str.c ------------------------------------------------------------------ */

const str *str_new(rt *r, const char *p, size_t n);             /* copies */
const str *str_view(rt *r, const char *p, size_t n, const str *of);     /* borrows; markup and room like of's */
const str *str_lit(rt *r, const char *literal);
const str *str_buf(rt *r, ern_buf *b, bool ok);                 /* copies and frees b; NULL when !ok */
const str *str_join(rt *r, const str *a, const str *b);         /* a + b; grows in place where it can */
const str *str_markup(rt *r, const str *s, bool is_markup);
const str *str_escape(rt *r, const str *s);                     /* & < > " ' ; result is markup */
size_t str_chars(const str *s);
size_t str_offset(const str *s, size_t i_char);                 /* byte offset of a character */
bool str_is(const str *s, const char *literal);
bool str_same(const str *a, const str *b);
int str_order(const str *a, const str *b);
bool str_find(const str *s, const char *p, size_t n, size_t from, size_t *at);      /* bytes */
bool char_is_space(int32_t c);
bool char_is_printable(int32_t c);
bool char_is_word(int32_t c);
enum str_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP };
const str *str_cased(rt *r, const str *s, enum str_case how);
const str *str_strip(rt *r, const str *s, const str *chars, bool left, bool right);
bool str_split(rt *r, const str *s, const str *sep, int64_t max, bool from_right, list *out);
bool str_lines(rt *r, const str *s, bool keep_ends, list *out);
const str *str_replace(rt *r, const str *s, const str *from, const str *to, int64_t max);
bool buf_escaped(ern_buf *b, const char *p, size_t n, ern_err *e);

/* ---- numbers: template_num.c, template_big.c --------------------------------------------------- */

bool num_binary(rt *r, enum op op, val a, val b, val *out);
bool num_neg(rt *r, val a, val *out);
int num_order(val a, val b, bool *is_nan);              /* numbers only: <0, 0, >0 */
bool num_is(val v);                                     /* bool, int, big or float */
double num_float(val v);
bool num_from_text(rt *r, const char *p, size_t n, int base, val *out, bool *ok);   /* int(text, base) */
bool num_from_float(rt *r, double f, val *out);         /* int(f) */
bool num_float_text(const char *p, size_t n, double *out);      /* float(text) */
bool num_repr(rt *r, val v, ern_buf *b);
#define FLOAT_TEXT 64
void num_float_repr(double f, char out[FLOAT_TEXT]);
double num_read(const char *text);                      /* strtod whatever the locale */
void num_write(char *out, size_t size, double f, int digits, char form);        /* 'e', 'f' or 'g', with a point */
uint64_t num_hash(val v);

big *big_new(rt *r, size_t n);
const big *big_from_int(rt *r, int64_t i);
val big_val(const big *b);                              /* V_INT where it fits */
const big *big_add(rt *r, const big *a, const big *b, bool subtract);
const big *big_mul(rt *r, const big *a, const big *b);
bool big_divmod(rt *r, const big *a, const big *b, const big **q, const big **m);   /* floors */
int big_order(const big *a, const big *b);
double big_float(const big *b);                         /* infinite where it does not fit */
const big *big_from_digits(rt *r, const char *p, size_t n, unsigned base);
const big *big_from_float(rt *r, double f);
bool big_repr(rt *r, const big *b, ern_buf *out);
bool big_is_negative(const big *b);

/* ---- filters, tests, methods, globals ---------------------------------------------------------- */

const filter_def *filter_find(const char *name, size_t n);
const filter_def *test_find(const char *name, size_t n);
const filter_def *method_find(val self, const char *name, size_t n);
extern const filter_def sequence_filters[];             /* template_seq.c; a NULL name ends it */
const func_def *global_find(const char *name, size_t n);
bool json_write(rt *r, val v, const call_args *args, val *out); /* tojson */
bool percent_format(rt *r, const str *format, val values, const str **out);
bool brace_format(rt *r, const str *format, const call_args *a, const str **out);

bool bind_args(rt *r, const char *name, const char *params, const call_args *a, val *slot);
bool arg_str(rt *r, val v, const char *what, const str **out);  /* TypeError unless a string */

#endif
