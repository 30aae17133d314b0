/* Files over HTTP: resumed where they broke off, checked, renamed when whole. */
#ifndef CLI_DOWNLOAD_H
#define CLI_DOWNLOAD_H

#include "base/buf.h"

typedef struct {
    const char *url, *path;     /* path.part holds what is there so far */
    uint64_t size;              /* 0: not known beforehand */
    const char *sha256;         /* 64 hex digits, or NULL: what the server's (X-Linked-)ETag says, if it is one */
    const char *token;          /* bearer token, or NULL */
} download_job;

/* is_checked: the sum was compared with a known one */
typedef struct { uint64_t size, resumed_from; char sha256[65]; bool is_checked; } download_result;

/* total 0: unknown; false stops, path.part stays */
typedef bool (*download_fn)(void *ctx, uint64_t done, uint64_t total);

bool download_file(const download_job *job, download_fn progress, void *ctx, download_result *out, ern_err *e);

/* The body of url appended to *out. */
bool download_text(const char *url, const char *token, ern_buf *out, ern_err *e);

#endif
