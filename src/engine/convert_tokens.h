/* Vocabulary and chat template on their way into GGUF metadata and out of it. */
#ifndef ENGINE_CONVERT_TOKENS_H
#define ENGINE_CONVERT_TOKENS_H

#include "engine/convert_int.h"

/* tokenizer.* keys from the tokenizer files of folder; without any, a note and a model that has none. */
bool convert_gguf_tokens(ern_gguf_writer *w, const convert_plan *p, const char *folder, ern_err *e);

/* tokenizer.json and tokenizer_config.json in folder out from the keys of the source. */
bool convert_folder_tokens(const convert_plan *p, const char *out, ern_err *e);

#endif
