/* Stored responses: what a client can come back to after this process is gone. SQLite in WAL mode; a response counts as
 * stored when it is on the disk.
 *
 *     response_store *s = store_open("responses.db", &e);
 *     store_put(s, &(store_entry){ .id = id, .tenant = "", .response = r, .input = items }, stored, my, &e);
 *     ...                                          stored(my, NULL) comes on the store's thread, once it is safe
 *     json_t *items = store_chain(s, id, "", &e);  the conversation up to and with that response
 *     store_close(s);
 *
 * All functions may be called from any thread. A tenant sees its own responses only. */
#ifndef SERVER_STORE_H
#define SERVER_STORE_H

#include <jansson.h>

#include "base/err.h"

typedef struct response_store response_store;

typedef struct {
    const char *id, *tenant;
    const char *previous;       /* the response it goes on from, or NULL */
    long created;               /* seconds since 1970 */
    const json_t *response;     /* the object as clients get it; its "output" is part of the conversation */
    const json_t *input;        /* the items that this turn brought */
} store_entry;

/* why: NULL when it is stored. */
typedef void (*store_done)(void *ctx, const ern_err *why);

/* path NULL: kept in memory, gone with the process. */
response_store *store_open(const char *path, ern_err *e);
void store_close(response_store *s);            /* what was put is stored first */

/* Everything of entry is borrowed during the call. done is called exactly once if this returns true. An entry of the same
 * id is replaced. ERN_BUSY: too many wait. */
bool store_put(response_store *s, const store_entry *entry, store_done done, void *ctx, ern_err *e);
/* {"response", "input", "previous" (a string or null)}, new; ERN_NOTFOUND. */
json_t *store_get(response_store *s, const char *id, const char *tenant, ern_err *e);
bool store_delete(response_store *s, const char *id, const char *tenant, ern_err *e);
/* Input and output items of all turns up to id, the oldest first, new. */
json_t *store_chain(response_store *s, const char *id, const char *tenant, ern_err *e);

/* Responses that are still being written. store_cancel calls cancel(ctx), which must not call the store back; false: none
 * of that id is. After store_end returns, cancel is not called any more. */
bool store_begin(response_store *s, const char *id, const char *tenant, void (*cancel)(void *ctx), void *ctx, ern_err *e);
void store_end(response_store *s, const char *id);
bool store_is_live(response_store *s, const char *id, const char *tenant);
bool store_cancel(response_store *s, const char *id, const char *tenant);

#endif
