/* Beginnings that were computed before: a tree whose nodes are pages of keys and values, one tree a tenant. A prompt takes
 * over the pages of its longest known beginning; a page that is known only in part is shared too and copied when written.
 *
 *     size_t known = prefix_find(cache, "team-a", ids, n, &kv, e);     kv now holds ids[0..known)
 *     ...
 *     prefix_add(cache, "team-a", ids, n, &kv);                        what kv holds may be found from now on
 *
 * Full pages that have to leave memory go to files when there is a folder, and come back from there, after a restart too.
 * One thread at a time. */
#ifndef ENGINE_PREFIX_H
#define ENGINE_PREFIX_H

#include "engine/engine.h"

typedef struct ern_prefix ern_prefix;

typedef struct {
    size_t max_bytes;           /* of pages in memory; 0: no limit of its own */
    const char *folder;         /* NULL: nothing is written */
    size_t max_folder_bytes;    /* the oldest files go first; 0: 8 GiB */
} prefix_options;

typedef struct { size_t n_lookups, n_hits, n_tokens_asked, n_tokens_found, n_pages, n_bytes, n_loaded, n_saved;
                 } prefix_stats;

/* like: an empty kv of the shape and types that will be asked for; borrowed during the call. */
ern_prefix *prefix_open(const ern_engine *eng, const ern_kv *like, const prefix_options *o, ern_err *e);
void prefix_close(ern_prefix *p);           /* saves what a folder may keep */

/* kv (empty, same types) gets the pages; the number of tokens they hold, at most n. Never an error: 0 at worst. */
size_t prefix_find(ern_prefix *p, const char *tenant, const int32_t *ids, size_t n, ern_kv *kv);
void prefix_add(ern_prefix *p, const char *tenant, const int32_t *ids, size_t n, const ern_kv *kv);
/* Give back at least n_bytes of memory that no sequence uses, the least recently used first; what was given back. */
size_t prefix_shrink(ern_prefix *p, size_t n_bytes);
prefix_stats prefix_stats_of(const ern_prefix *p);

/* A mark of the model's shapes and some of its weights (snapshot.c): saved keys of another model are not taken. */
uint64_t engine_model_mark(const ern_model *m);

#endif
