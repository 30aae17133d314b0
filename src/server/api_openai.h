/* What the OpenAI-shaped APIs share, and the tables that the OpenAPI document shows. */
#ifndef SERVER_API_OPENAI_H
#define SERVER_API_OPENAI_H

#include "server/api.h"

extern const param_table api_chat_table, api_completions_table, api_embeddings_table, api_rerank_table, api_tokenize_table,
    api_detokenize_table, api_template_table;

const char *api_finish_name(enum job_finish f);
json_t *api_ids_json(const int32_t *ids, size_t n);
/* The error as the reply, or as the last event of a stream that has begun (which is ended). */
void api_fail_stream(http_request *r, http_stream **stream, const ern_err *e);

#endif
