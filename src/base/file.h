/* Files: read-only maps (weights live in them), whole small files, and files that appear complete or not at all.
 *
 *     ern_writer w;
 *     if (!writer_open(&w, path, e)) return false;
 *     ok = writer_add(&w, head, sizeof head, e) && writer_add(&w, body, n, e) && writer_commit(&w, e);
 *     writer_deinit(&w);                          without a commit nothing is left behind
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdio.h>

#include "base/buf.h"

typedef struct {
    const uint8_t *data;    /* NULL for an empty file */
    size_t size_bytes;
} ern_map;

/* A regular file that nobody may shorten while it is mapped: a page that is gone ends the process (SIGBUS). */
bool file_map(ern_map *out, const char *path, ern_err *e);
void file_unmap(ern_map *m);                            /* zeroes *m */

/* The whole file (or pipe, or device) appended to *out; longer than max_bytes is ERN_LIMIT. On failure *out is as before. */
bool file_read(ern_buf *out, const char *path, size_t max_bytes, ern_err *e);

/* A temporary file beside path, on disk (fsync) and renamed to path by commit: never half a file. What exists and is
 * no regular file (/dev/stdout, a pipe) is written in place. */
typedef struct {
    FILE *fp;
    char *path, *tmp;       /* tmp is NULL when written in place; both owned */
} ern_writer;

bool writer_open(ern_writer *out, const char *path, ern_err *e);
bool writer_add(ern_writer *w, const void *bytes, size_t n, ern_err *e);
bool writer_commit(ern_writer *w, ern_err *e);
void writer_deinit(ern_writer *w);                      /* removes what was not committed; zeroes *w */

bool file_write(const char *path, const void *bytes, size_t n, ern_err *e);     /* the four above in one */

bool file_exists(const char *path);
bool file_is_folder(const char *path);
char *file_join(const char *folder, const char *name, ern_err *e);      /* caller frees */

#endif
