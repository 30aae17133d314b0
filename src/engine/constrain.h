/* Constrained decoding: which tokens may come next so that the answer stays inside a grammar.
 *
 *     constrain_vocab *v = constrain_vocab_open(tokenizer, n_vocab, &e);            once an engine
 *     ern_constraint *c = constraint_open(v, CONSTRAIN_SCHEMA, text, n, &e);        once a grammar; cache it
 *     constrain_state *s = constrain_begin(c, &e);                                  once an answer
 *     constrain_mask(s, mask, &e);                 bit id is 1: the token keeps to the grammar
 *     constrain_accept(s, id, &e);                 the token that was drawn
 *     constrain_can_end(s)                         an end token may be drawn now
 *
 * It fails closed: what cannot be expressed is an error when it is opened, a token outside the mask is an error when it
 * is accepted, and an answer that no token can continue is an error. Vocabulary and constraint are shared by threads; a
 * state belongs to one. Special tokens are never in a mask.
 */
#ifndef ENGINE_CONSTRAIN_H
#define ENGINE_CONSTRAIN_H

#include "engine/grammar.h"
#include "text/tokenizer.h"

typedef struct constrain_vocab constrain_vocab;
typedef struct ern_constraint ern_constraint;
typedef struct constrain_state constrain_state;

constrain_vocab *constrain_vocab_open(const ern_tokenizer *t, size_t n_vocab, ern_err *e);
/* bytes[i] of lengths[i] is what token i adds to a text; length 0: never allowed. Copied. */
constrain_vocab *constrain_vocab_from_bytes(const char *const *bytes, const size_t *lengths, size_t n_vocab, ern_err *e);
void constrain_vocab_close(constrain_vocab *v);
size_t constrain_vocab_n(const constrain_vocab *v);

enum constrain_kind { CONSTRAIN_GBNF, CONSTRAIN_EBNF, CONSTRAIN_REGEX, CONSTRAIN_SCHEMA, CONSTRAIN_CHOICE,
                      CONSTRAIN_JSON_OBJECT, CONSTRAIN_TOOLS };

/* text: the grammar, the pattern, the schema as JSON, or a JSON array of strings; unused for JSON_OBJECT; for TOOLS
 * {"tools": [{"name", "parameters" (a schema, or absent: any object)}], "is_required": true, "is_parallel": false}: calls as
 * <tool_call>{"name": ..., "arguments": ...}</tool_call>, alone or after free text. v is borrowed. */
ern_constraint *constraint_open(const constrain_vocab *v, enum constrain_kind kind, const char *text, size_t n, ern_err *e);
void constraint_close(ern_constraint *c);
size_t constraint_n_states(const ern_constraint *c);

constrain_state *constrain_begin(ern_constraint *c, ern_err *e);
void constrain_end(constrain_state *s);
#define CONSTRAIN_MASK_WORDS(n_vocab) (((n_vocab) + 63) / 64)
/* mask[CONSTRAIN_MASK_WORDS(n_vocab)], overwritten */
bool constrain_mask(constrain_state *s, uint64_t *mask, ern_err *e);
bool constrain_accept(constrain_state *s, int32_t id, ern_err *e);
bool constrain_accept_bytes(constrain_state *s, const char *bytes, size_t n, ern_err *e);   /* on failure unchanged */
bool constrain_can_end(const constrain_state *s);
bool constrain_must_end(const constrain_state *s);      /* nothing but the end may follow */

/* The bytes that must come next whatever is drawn (at most max); they may stop inside a token. Does not advance. */
bool constrain_forced(constrain_state *s, size_t max, ern_buf *out, ern_err *e);

#endif
