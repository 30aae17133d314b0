/* base's writer with a position: padding, and bytes that are written out of order. */
#ifndef FORMATS_OUTFILE_H
#define FORMATS_OUTFILE_H

#include "base/file.h"

typedef struct {
    ern_writer w;
    uint64_t pos;
    bool is_open;
} ern_outfile;

bool outfile_open(ern_outfile *f, const char *path, ern_err *e);
bool outfile_write(ern_outfile *f, const void *bytes, size_t n, ern_err *e);
bool outfile_zeros(ern_outfile *f, size_t n, ern_err *e);
bool outfile_seek(ern_outfile *f, uint64_t pos, ern_err *e);
bool outfile_commit(ern_outfile *f, ern_err *e);
void outfile_close(ern_outfile *f);         /* what was not committed is removed; zeroes *f */

#endif
