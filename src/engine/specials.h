/* The special tokens of a vocabulary, found in text at the speed of reading it: sorted once when the model is opened. */
#ifndef ENGINE_SPECIALS_H
#define ENGINE_SPECIALS_H

#include "text/tokenizer.h"

typedef struct { const char *text; size_t n_bytes; int32_t id; } special_token;     /* text is borrowed from the tokenizer */

typedef struct {
    special_token *at;      /* [n] in byte order */
    size_t n;
    bool begins[256];       /* may a special token begin with this byte? */
} engine_specials;

bool specials_init(engine_specials *out, const ern_tokenizer *t, ern_err *e);
void specials_deinit(engine_specials *s);

/* Bytes of the longest special token that text[0..n) begins with; 0: none. *is_cut: text as a whole is the beginning of a
 * longer special token, so that what follows it decides. */
size_t specials_match(const engine_specials *s, const char *text, size_t n, bool *is_cut);

#endif
