/* What server.c gives to api.c and openapi.c. */
#ifndef SERVER_SERVER_INT_H
#define SERVER_SERVER_INT_H

#include "server/keys.h"
#include "server/server.h"

server_keys *server_keys_of(ern_server *s);             /* NULL: none */
const http_route *server_routes_of(ern_server *s);

#endif
