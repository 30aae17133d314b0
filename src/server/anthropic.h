/* Anthropic's messages in the terms of job.h, where every API meets. */
#ifndef SERVER_ANTHROPIC_H
#define SERVER_ANTHROPIC_H

#include <jansson.h>

#include "base/err.h"

/* system (a string, text blocks, or NULL) and messages (user and assistant, strings or blocks) as the list that job.h
 * takes, new. What a model of texts cannot read is refused with the place and the type. */
json_t *anthropic_messages(const json_t *system, const json_t *messages, ern_err *e);

/* [{name, description, input_schema, strict}] as [{type: "function", function: {...}}], new. */
json_t *anthropic_tools(const json_t *tools, ern_err *e);

/* An error as its clients read it, new (api_anthropic.c). */
json_t *anthropic_error(const char *request_id, const ern_err *why, int status);

#endif
