/* What job.c and job_prompt.c share. */
#ifndef SERVER_JOB_INT_H
#define SERVER_JOB_INT_H

#include "server/job.h"

/* The prompt's ids appended to out; its text to rendered (may be NULL; nothing for a prompt that is no conversation). */
bool job_begin(const job_params *p, ern_tokens *out, ern_buf *rendered, size_t *n_dropped, ern_err *e);

#endif
