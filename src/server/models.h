/* The models that a server offers: opened when first asked for, closed when unused, within one ceiling of memory. */
#ifndef SERVER_MODELS_H
#define SERVER_MODELS_H

#include <jansson.h>

#include "engine/scheduler.h"

typedef struct server_models server_models;

typedef struct { const char *name, *path; } model_spec;     /* name NULL: the file or folder's own */

typedef struct {
    const model_spec *specs;        /* the first is the default */
    size_t n_specs;
    ern_engine_options engine;
    scheduler_options scheduler;
    /* of weights and keys and values of all open models; 0: what memory is free at the start */
    size_t max_bytes;
    unsigned idle_s;                /* an unused model is closed after so long; 0: never */
    const char *cache_folder;       /* known beginnings, a folder a model; NULL: memory only */
} models_options;

/* An open model, borrowed until models_give. */
typedef struct {
    const char *name, *path;
    long created;                   /* seconds since 1970 */
    ern_engine *eng;
    ern_scheduler *scheduler;       /* NULL: an encoder */
    constrain_vocab *vocab;         /* NULL without a tokenizer */
} server_model;

server_models *models_open(const models_options *o, ern_err *e);
void models_close(server_models *m);            /* running requests fail */
bool models_drain(server_models *m, unsigned wait_ms);

/* The model of that name (NULL or "": the default), opened if need be; unused ones are closed to make room.
 * ERN_NOTFOUND names those that there are; ERN_LIMIT when it does not fit. */
server_model *models_take(server_models *m, const char *name, ern_err *e);
void models_give(server_models *m, server_model *model);
/* model, in use by the caller, is closed when unused for so long instead of idle_s; negative: never. */
void models_keep(server_models *m, server_model *model, double seconds);
void models_close_idle(server_models *m);       /* called now and then */

/* Compiled once and kept: given back with constraint_give. */
ern_constraint *models_constraint(server_models *m, server_model *model, enum constrain_kind kind, const char *text,
                                  size_t n, ern_err *e);
void models_give_constraint(server_models *m, server_model *model, ern_constraint *c);

/* [{"name", "path", "is_open", "is_encoder", "n_params", "n_ctx", "n_running", ...}], new. */
json_t *models_list(server_models *m);
scheduler_stats models_stats(server_models *m);     /* of all open models together */

#endif
