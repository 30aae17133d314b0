/* A model of a server in the Hugging Face layout into a folder. */
#ifndef CLI_PULL_H
#define CLI_PULL_H

#include <jansson.h>

#include "cli/args.h"
#include "cli/download.h"

typedef struct {
    const char *base, *name, *revision, *folder;        /* https://host, owner/model, main, where the files go */
    const char *token;                                  /* or NULL */
    const arg_texts *only;                              /* shell patterns of file names; none: all */
    bool verifies;                                      /* hash files that are there already */
} pull_options;

/* A file is about to be fetched (done 0), is being fetched, or was there (is_present). */
typedef struct { const char *file; size_t index, n_files; uint64_t done, total; bool is_present; } pull_event;
typedef bool (*pull_fn)(void *ctx, const pull_event *ev);

/* report (may be NULL) gets [{"name", "bytes", "sha256", "checked", "state": "fetched" | "present"}], owned by the
 * caller. */
bool pull_model(const pull_options *o, pull_fn progress, void *ctx, json_t **report, ern_err *e);

#endif
