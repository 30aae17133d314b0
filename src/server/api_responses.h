/* What the files of the Responses API share. */
#ifndef SERVER_API_RESPONSES_H
#define SERVER_API_RESPONSES_H

#include "server/responses.h"

/* Whose stored responses a request may see. */
const char *responses_tenant(http_request *r);

/* One answer on its way to the client and into the store (responses_answer.c). */
typedef struct responses_answer responses_answer;

typedef struct {
    json_t *response;           /* the object, its output empty; taken */
    json_t *input;              /* this turn's items; taken */
    const char *previous;       /* copied; NULL: none */
    size_t max_tokens;
    bool streams, is_stored, is_background;
} responses_plan;

/* Attached to r. NULL: the plan's JSON is given back too. */
responses_answer *responses_answer_new(ern_server *s, http_request *r, const responses_plan *plan, ern_err *e);
void responses_on_event(void *ctx, const job_event *ev);        /* of job.h; ctx: the answer */
/* api_begin, with everything in its order: known as running, stored as in progress when in the background. On failure
 * the model is not given back and nothing was replied. */
bool responses_start(responses_answer *a, job_params *p, ern_err *e);

#endif
