/* A file in the making: written under a temporary name beside its own, renamed when whole, removed when given up. */
#ifndef FORMATS_OUTFILE_H
#define FORMATS_OUTFILE_H

#include "base/err.h"

typedef struct ern_outfile ern_outfile;

ern_outfile *outfile_open(const char *path, ern_err *e);
bool outfile_write(ern_outfile *f, const void *bytes, size_t n, ern_err *e);
bool outfile_zeros(ern_outfile *f, size_t n, ern_err *e);
bool outfile_seek(ern_outfile *f, uint64_t pos, ern_err *e);
uint64_t outfile_pos(const ern_outfile *f);

/* Everything is on the disk and under its own name, or an error; f must still be closed. */
bool outfile_commit(ern_outfile *f, ern_err *e);
void outfile_close(ern_outfile *f);         /* removes the temporary file unless committed; NULL is fine */

#endif
