/* One answer of `run`: streamed as text, or kept and printed as a line of JSON. */
#ifndef CLI_RUN_ANSWER_H
#define CLI_RUN_ANSWER_H

#include "cli/cli.h"

typedef struct {
    const ern_engine *eng;
    const ern_tokens *prompt;
    bool is_json, echoes, shows_stats, has_text;     /* has_text: the model has a tokenizer */
    size_t index, n_answers;
    double load_s, prompt_s;            /* prompt_s: computing the prompt */
    size_t n_computed;                  /* prompt tokens that this took */
} answer_job;

/* Generate on s, which holds the prompt. *was_stopped: ctrl-C ended it. */
bool answer_write(ern_session *s, const ern_sampling *o, const answer_job *job, bool *was_stopped, ern_err *e);

const char *answer_finish_name(enum ern_finish finish);         /* "end", "stop", "length", "interrupted" */

#endif
