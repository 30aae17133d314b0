/* Items of OpenAI's Responses API, and how they become the messages of job.h. */
#ifndef SERVER_RESPONSES_H
#define SERVER_RESPONSES_H

#include "server/api.h"

/* input (a string or items) as stored items, each with an id and its content as parts; new. */
json_t *responses_items(ern_server *s, const json_t *input, api_error *why);

/* instructions (may be NULL) and items as messages, new. Reasoning, text and calls that follow each other are one
 * message. */
json_t *responses_messages(const char *instructions, const json_t *items, api_error *why);

/* [{type: "function", name, ...}] as [{type: "function", function: {name, ...}}], new. */
json_t *responses_tools(const json_t *tools, api_error *why);

#endif
