/* What the files of Ollama's API share. */
#ifndef SERVER_OLLAMA_H
#define SERVER_OLLAMA_H

#include "server/api.h"

/* {"error": "..."}, as its clients read it. */
void ollama_refuse(http_request *r, const ern_err *why);

/* models_take; "NAME:latest" is NAME. */
server_model *ollama_take(ern_server *s, const char *name, ern_err *e);

/* How long a model stays open without use: seconds or "5m", "1h30m", "300ms"; negative: for ever. */
bool ollama_duration(const json_t *v, double *seconds, ern_err *e);

/* keep_alive of a request (NULL: nothing asked) for a model in use. */
bool ollama_keep(ern_server *s, server_model *m, const json_t *keep_alive, ern_err *e);

#endif
