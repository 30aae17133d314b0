/* The prompt of `run`: ids as they are, a raw text, or a message through the chat template. */
#ifndef CLI_RUN_PROMPT_H
#define CLI_RUN_PROMPT_H

#include "cli/args.h"

typedef struct {
    arg_texts words;            /* the text, or */
    const char *file;           /* where it is ("-": stdin; also when nothing is given), or */
    arg_ids ids;
    const char *system;         /* implies is_chat */
    bool is_chat, has_specials;
} run_prompt;

/* Appends to *out. */
bool run_prompt_make(ern_tokens *out, const run_prompt *p, const ern_engine *eng, ern_err *e);

#endif
