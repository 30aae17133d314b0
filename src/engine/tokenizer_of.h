/* The tokenizer alone, without the model's weights: from a folder, tokenizer.json, tokenizer.model, vocab.txt or a GGUF
 * file. */
#ifndef ENGINE_TOKENIZER_OF_H
#define ENGINE_TOKENIZER_OF_H

#include "text/tokenizer.h"

ern_tokenizer *tokenizer_of_path(const char *path, ern_err *e);

#endif
