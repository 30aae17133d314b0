/* What an answer may look like, as rules over bytes: built by the front ends (GBNF, EBNF, regex, choice, JSON Schema),
 * compiled by grammar_compile() into automata that constrain.h runs against the vocabulary.
 *
 *     ern_grammar g;
 *     grammar_init(&g);
 *     g_node digit = grammar_range(&g, '0', '9');
 *     grammar_rule(&g, "root", grammar_repeat(&g, digit, 1, 3));
 *     ...                                          builders return 0 after a failure; g.err says why, once
 *     grammar_deinit(&g);
 */
#ifndef ENGINE_GRAMMAR_H
#define ENGINE_GRAMMAR_H

#include <jansson.h>

#include "base/buf.h"

typedef uint32_t g_node;
#define GRAMMAR_UNBOUNDED UINT32_MAX
#define GRAMMAR_MAX_NODES ((size_t)1 << 21)
#define GRAMMAR_MAX_RULES ((size_t)1 << 16)
#define GRAMMAR_MAX_STATES ((size_t)1 << 18)
#define GRAMMAR_MAX_DEPTH 200           /* nesting of parentheses, schemas */

enum g_kind { G_EMPTY = 1, G_LITERAL, G_BYTES, G_SEQ, G_ALT, G_REPEAT, G_REF };

typedef struct {
    enum g_kind kind;
    uint32_t a, b;      /* LITERAL, SEQ, ALT: first of pool, count; BYTES: low, high; REPEAT: least, most; REF: rule */
    g_node child;       /* REPEAT */
} g_item;

typedef struct { char *name; g_node body; } g_rule;     /* body 0: named but not defined yet */

typedef struct {
    ern_err err;
    bool is_failed;
    g_item *nodes;      /* [n_nodes]; 0 is never used */
    g_node *children;   /* pool of SEQ and ALT */
    uint8_t *bytes;     /* pool of LITERAL */
    g_rule *rules;      /* 0 is the root */
    size_t n_nodes, cap_nodes, n_children, cap_children, n_bytes, cap_bytes, n_rules, cap_rules;
} ern_grammar;

void grammar_init(ern_grammar *g);
void grammar_deinit(ern_grammar *g);
g_node grammar_fail(ern_grammar *g, enum ern_code code, int line, int column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* A list of nodes while a front end collects them; the caller frees v. */
typedef struct { g_node *v; size_t n, cap; } g_nodes;
bool grammar_push(ern_grammar *g, g_nodes *list, g_node node);          /* false: node is 0, or g has failed */
int grammar_hex(char c);                                                /* value of a hexadecimal digit, or -1 */

g_node grammar_empty(ern_grammar *g);
g_node grammar_literal(ern_grammar *g, const char *s, size_t n);
g_node grammar_text(ern_grammar *g, const char *s);
g_node grammar_bytes(ern_grammar *g, uint8_t low, uint8_t high);
g_node grammar_range(ern_grammar *g, uint32_t low, uint32_t high);      /* code points, as UTF-8; surrogates left out */
g_node grammar_seq(ern_grammar *g, const g_node *nodes, size_t n);
g_node grammar_alt(ern_grammar *g, const g_node *nodes, size_t n);      /* n >= 1 */
g_node grammar_repeat(ern_grammar *g, g_node node, uint32_t least, uint32_t most);
g_node grammar_ref(ern_grammar *g, uint32_t rule);
uint32_t grammar_rule(ern_grammar *g, const char *name, g_node body);   /* new or the one declared; UINT32_MAX: failed */
uint32_t grammar_declare(ern_grammar *g, const char *name);             /* finds or makes an undefined one */

/* A set of code points: ranges in any order, negated or not. */
typedef struct { uint32_t low, high; } g_range;
g_node grammar_class(ern_grammar *g, const g_range *ranges, size_t n, bool is_negated);

/* Front ends: each fills rule 0, "root". False: e has line and column where the text has lines. */
bool grammar_from_gbnf(ern_grammar *g, const char *text, size_t n, ern_err *e);
bool grammar_from_ebnf(ern_grammar *g, const char *text, size_t n, ern_err *e);
bool grammar_from_regex(ern_grammar *g, const char *pattern, size_t n, ern_err *e);
bool grammar_from_choice(ern_grammar *g, const char *const *choices, const size_t *lengths, size_t n, ern_err *e);
bool grammar_from_schema(ern_grammar *g, const json_t *schema, ern_err *e);     /* JSON Schema 2020-12; true: any JSON */
bool grammar_any_object(ern_grammar *g, ern_err *e);
bool grammar_from_tools(ern_grammar *g, const json_t *spec, ern_err *e);        /* see CONSTRAIN_TOOLS in constrain.h */
/* A value of schema, whose references are looked up in schema itself; several schemas may stand in one grammar. */
g_node grammar_schema_node(ern_grammar *g, const json_t *schema);

/* A regex as one node (JSON Schema "pattern": matches anywhere unless anchored). as_json: every character written as a
 * JSON string would write it. */
g_node grammar_regex_node(ern_grammar *g, const char *pattern, size_t n, bool is_search, bool as_json);
g_node grammar_json_string_char(ern_grammar *g, const g_range *ranges, size_t n, bool is_negated);

/* ---- compiled ---------------------------------------------------------------------------------- */

typedef struct { uint8_t low, high; uint32_t to; } g_edge;
typedef struct { uint32_t rule, to; } g_call;       /* run the rule, then go on at to */

typedef struct {
    uint32_t first_edge, n_edges, first_call, n_calls;
    bool is_final;
    bool is_tail;       /* final and nothing leaves it: a call that returns here need not be remembered */
} g_state;

typedef struct {
    g_state *states;
    g_edge *edges;
    g_call *calls;
    uint32_t *starts;   /* [n_rules] */
    size_t n_states, n_edges, n_calls, n_rules;
} g_automata;

/* Undefined and left-recursive rules, and rules that can never end, are errors that name them. */
bool grammar_compile(const ern_grammar *g, g_automata *out, ern_err *e);
void automata_deinit(g_automata *a);

#endif
