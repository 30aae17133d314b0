#include "formats/outfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

#define PATH_MAX_BYTES 8192
#define WRITE_BUFFER_BYTES ((size_t)1 << 18)

struct ern_outfile {
    FILE *fp;
    char *path, *tmp;
    char *buffer;           /* of fp */
    uint64_t pos;
    bool is_done;
};

static bool fail_io(const ern_outfile *f, const char *what, ern_err *e) {
    return ern_fail(e, ERN_IO, "%s: %s at byte %llu: %s", f->path, what, (unsigned long long)f->pos, strerror(errno));
}

ern_outfile *outfile_open(const char *path, ern_err *e) {
    ern_buf tmp = { .max = PATH_MAX_BYTES };
    ern_outfile *f = mem_zalloc(1, sizeof *f, "output file", e);
    if (!f) return NULL;
    if (!(f->path = mem_strndup(path, strlen(path), e))) goto fail;
    if (!buf_printf(&tmp, e, "%s.%ld.tmp", path, (long)getpid())) goto fail;
    if (!(f->buffer = mem_zalloc(WRITE_BUFFER_BYTES, 1, "write buffer", e))) goto fail;
    if (!(f->fp = fopen(tmp.data, "wbe"))) {
        ern_fail(e, errno == ENOENT ? ERN_NOTFOUND : ERN_IO, "%s: cannot be written: %s", path, strerror(errno));
        goto fail;
    }
    f->tmp = buf_take(&tmp);
    setvbuf(f->fp, f->buffer, _IOFBF, WRITE_BUFFER_BYTES);
    return f;
fail:
    buf_deinit(&tmp);
    outfile_close(f);
    return NULL;
}

bool outfile_write(ern_outfile *f, const void *bytes, size_t n, ern_err *e) {
    if (n && fwrite(bytes, 1, n, f->fp) != n) return fail_io(f, "write", e);
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
    if (pos > INT64_MAX || fseeko(f->fp, (off_t)pos, SEEK_SET) != 0) return fail_io(f, "seek", e);
    f->pos = pos;
    return true;
}

uint64_t outfile_pos(const ern_outfile *f) { return f->pos; }

bool outfile_commit(ern_outfile *f, ern_err *e) {
    if (fflush(f->fp) != 0 || fsync(fileno(f->fp)) != 0) return fail_io(f, "write", e);
    const int closed = fclose(f->fp);
    f->fp = NULL;
    if (closed != 0) return fail_io(f, "close", e);
    if (rename(f->tmp, f->path) != 0) return fail_io(f, "rename", e);
    f->is_done = true;
    return true;
}

void outfile_close(ern_outfile *f) {
    if (!f) return;
    if (f->fp) fclose(f->fp);
    if (f->tmp && !f->is_done) unlink(f->tmp);
    free(f->tmp);
    free(f->path);
    free(f->buffer);
    free(f);
}
