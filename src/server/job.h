/* One request for text, in the terms that all APIs share: a conversation or a prompt in; text, reasoning, tool calls and an
 * end out. The api_*.c files translate their wire format to a job and its events back.
 *
 *     job_params p;
 *     job_defaults(&p, model);
 *     p.messages = messages; p.sampling.temperature = 0;  p.on_event = on_event; p.ctx = me;
 *     ern_job *j = job_start(models, &p, &e);         events come on the scheduler's thread until is_last
 *     job_cancel(j);                                  any time before job_free
 *     job_free(j);                                    after the last event; may be called from inside it
 */
#ifndef SERVER_JOB_H
#define SERVER_JOB_H

#include "server/models.h"

typedef struct ern_job ern_job;

enum job_tool_choice { TOOLS_AUTO, TOOLS_NONE, TOOLS_REQUIRED, TOOLS_NAMED };
enum job_truncation { TRUNCATION_DISABLED, TRUNCATION_AUTO };

enum job_event_kind {
    JOB_STARTED,        /* n_prompt, n_cached */
    JOB_CONTENT,        /* text of the answer */
    JOB_REASONING,      /* text inside <think> */
    JOB_TOOL_CALL,      /* one whole call: name, arguments (JSON text), call (its number in this answer) */
    JOB_DONE,           /* finish, n_tokens of this answer */
    JOB_FAILED          /* error; is_last */
};

enum job_finish { JOB_STOP, JOB_LENGTH, JOB_TOOL_CALLS, JOB_STOP_TEXT };       /* STOP_TEXT: one of the stop strings */

typedef struct {
    enum job_event_kind kind;
    size_t index;                       /* which of the n answers */
    bool is_last;
    const char *text;                   /* CONTENT, REASONING; NUL-terminated */
    size_t n_bytes;
    const char *name, *arguments;       /* TOOL_CALL */
    size_t call;
    /* CONTENT, and DONE for the rest: [{token, logprob, bytes, top_logprobs}], or NULL; borrowed */
    const json_t *logprobs;
    enum job_finish finish;
    size_t stop;                        /* STOP_TEXT: which of sampling.stop */
    size_t n_prompt, n_cached, n_tokens, n_reasoning_tokens;
    size_t n_dropped_turns;             /* STARTED: what truncation left out */
    double wait_s, prefill_s, decode_s;
    const int32_t *ids;                 /* STARTED: the prompt, DONE: the answer; with wants_ids; borrowed */
    size_t n_ids;
    const ern_err *error;
} job_event;

typedef struct {
    server_model *model;                /* taken by the caller; given back by job_free */
    /* what is asked: a conversation, a text, or ids */
    const json_t *messages;             /* [{role, content (string or parts), tool_calls, ...}], OpenAI form */
    const char *prompt;
    size_t n_prompt_bytes;
    const int32_t *ids;
    size_t n_ids;
    bool parses_special;                /* of prompt: "<|im_end|>" is a token */
    const json_t *tools;                /* [{type: "function", function: {name, description, parameters, strict}}] or NULL */
    enum job_tool_choice tool_choice;
    const char *tool_name;              /* NAMED */
    bool has_parallel_calls;            /* more than one call in an answer is allowed */
    const json_t *template_vars;        /* more variables for the template (chat_template_kwargs), or NULL */
    const char *chat_template;          /* instead of the model's own, or NULL */
    int enable_thinking;                /* -1: as the template says by itself */
    size_t think_budget;                /* tokens; SIZE_MAX: no limit */
    bool is_budget_firm;                /* refused where it cannot be kept; otherwise it is a wish */
    enum job_truncation truncation;
    /* how it is answered */
    ern_sampling sampling;
    size_t n_answers;
    bool has_constraint;
    enum constrain_kind constraint_kind;
    const char *constraint;             /* see constrain.h */
    bool wants_logprobs;                /* sampling.n_logprobs alternatives each (0 is fine) */
    bool wants_ids;
    /* false: a prompt that leaves less than sampling.max_tokens of the context is refused */
    bool may_end_early;
    bool splits_reasoning;              /* false: one text, as the model writes it */
    /* who asks */
    const char *key, *tenant;
    int priority;
    void (*on_event)(void *ctx, const job_event *ev);
    void *ctx;
} job_params;

void job_defaults(job_params *p, server_model *model);
/* All of p is borrowed during the call only, but model, on_event and ctx. NULL: *e has the reason; the model is not
 * given back. */
ern_job *job_start(server_models *models, const job_params *p, ern_err *e);
void job_cancel(ern_job *j);
void job_free(ern_job *j);

/* The ids that job_start would begin with; for /tokenize, count_tokens and /apply-template. n_dropped may be NULL. */
bool job_prompt(const job_params *p, ern_tokens *out, size_t *n_dropped, ern_err *e);
/* The rendered text of the conversation; caller frees. */
char *job_render(const job_params *p, ern_err *e);

#endif
