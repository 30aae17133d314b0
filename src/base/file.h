/* Files: read-only maps (weights live in them) and whole small files. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/buf.h"

typedef struct {
    const uint8_t *data;    /* NULL for an empty file */
    size_t size_bytes;
} ern_map;

bool file_map(ern_map *out, const char *path, ern_err *e);
void file_unmap(ern_map *m);                            /* zeroes *m */

/* The whole file appended to *out; longer than max_bytes is ERN_LIMIT. */
bool file_read(ern_buf *out, const char *path, size_t max_bytes, ern_err *e);

/* Write path through a temporary file beside it, renamed at the end: never half a file. */
bool file_write(const char *path, const void *bytes, size_t n, ern_err *e);

bool file_exists(const char *path);
bool file_is_folder(const char *path);
char *file_join(const char *folder, const char *name, ern_err *e);      /* caller frees */

#endif
