#include "formats/outfile.h"

#include <errno.h>
#include <string.h>

bool outfile_open(ern_outfile *f, const char *path, ern_err *e) {
    ern_writer w;
    if (!writer_open(&w, path, e)) return false;
    *f = (ern_outfile){ .w = w, .is_open = true };
    return true;
}

bool outfile_write(ern_outfile *f, const void *bytes, size_t n, ern_err *e) {
    if (!writer_add(&f->w, bytes, n, e)) return false;
    f->pos += n;
    return true;
}

bool outfile_zeros(ern_outfile *f, size_t n, ern_err *e) {
    static const char zeros[4096];
    while (n) {
        const size_t part = n < sizeof zeros ? n : sizeof zeros;
        if (!outfile_write(f, zeros, part, e)) return false;
        n -= part;
    }
    return true;
}

bool outfile_seek(ern_outfile *f, uint64_t pos, ern_err *e) {
    if (pos == f->pos) return true;
    if (pos > INT64_MAX || fseeko(f->w.fp, (off_t)pos, SEEK_SET) != 0)
        return ern_fail(e, ERN_IO, "%s: cannot go to byte %llu: %s", f->w.path, (unsigned long long)pos, strerror(errno));
    f->pos = pos;
    return true;
}

bool outfile_commit(ern_outfile *f, ern_err *e) { return writer_commit(&f->w, e); }

void outfile_close(ern_outfile *f) {
    if (f->is_open) writer_deinit(&f->w);
    *f = (ern_outfile){ 0 };
}
