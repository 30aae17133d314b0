/* What the files of the JSON Schema front end share. */
#ifndef ENGINE_GRAMMAR_SCHEMA_H
#define ENGINE_GRAMMAR_SCHEMA_H

#include "engine/grammar.h"

/* White space that the answer may hold between tokens of JSON: a run that is bounded, or a model could write it for ever. */
#define SCHEMA_MAX_SPACE 20

/* ---- grammar_json.c: JSON itself ---- */

typedef struct { uint32_t ws, string, number, integer, value, object, array; } json_rules;
bool grammar_json_rules(ern_grammar *g, json_rules *r);                 /* declared and defined once a grammar */
g_node grammar_json_value(ern_grammar *g, const json_rules *r, const json_t *v);        /* exactly this value */
g_node grammar_json_text(ern_grammar *g, const char *s, size_t n);      /* a string with its quotes */
/* A string (with quotes) that is none of names. */
g_node grammar_json_key_except(ern_grammar *g, const char *const *names, const size_t *lengths, size_t n);
g_node grammar_json_chars(ern_grammar *g, uint64_t least, uint64_t most);       /* most UINT64_MAX: no limit; no quotes */

/* ---- grammar_number.c: numbers between bounds ---- */

typedef struct {
    bool has_low, has_high, low_is_open, high_is_open;
    double low, high;
} number_bounds;
g_node grammar_integer_between(ern_grammar *g, const number_bounds *b);
g_node grammar_number_between(ern_grammar *g, const number_bounds *b);
g_node grammar_integer_multiple(ern_grammar *g, uint32_t m);            /* any integer that m divides, 1 <= m <= 1000 */
g_node grammar_decimals(ern_grammar *g, uint32_t places);               /* a number with at most so many decimals */

/* ---- grammar_merge.c: references and conjunction ---- */

/* The schema that pointer ("#", "#/$defs/a", "#anchor") names inside root; borrowed. */
const json_t *schema_resolve(ern_grammar *g, const json_t *root, const char *pointer);
/* a and b both hold; a new reference, or NULL with g failed. */
json_t *schema_merge(ern_grammar *g, const json_t *a, const json_t *b);
bool schema_is_annotation(const char *keyword);
/* No value satisfies both (decided from types, constants and required properties; false when in doubt). */
bool schema_are_disjoint(const json_t *root, ern_grammar *g, const json_t *a, const json_t *b, int depth);

#endif
