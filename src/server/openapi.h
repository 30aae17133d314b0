/* The OpenAPI 3.1 document: paths from the routes, schemas of bodies from the tables that read them. */
#ifndef SERVER_OPENAPI_H
#define SERVER_OPENAPI_H

#include "server/params.h"
#include "server/server.h"

/* What is known of a route besides its handler; an API adds its own to the list in openapi.c. */
typedef struct { const char *method, *path, *summary; const param_table *body; bool streams; } openapi_operation;

json_t *openapi_document(ern_server *s);        /* new */

#endif
