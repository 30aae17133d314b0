/* tokenizer.json of a vocabulary (GGUF files hold one, folders want the other); the tokenizers library and ours read it. */
#ifndef TEXT_TOKENIZER_WRITE_H
#define TEXT_TOKENIZER_WRITE_H

#include <jansson.h>

#include "text/tokenizer.h"

/* NULL with e filled when the vocabulary cannot be said in tokenizer.json. The caller owns what is returned. */
json_t *tokenizer_json_of(const tokenizer_vocab *v, ern_err *e);

#endif
