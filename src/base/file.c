#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_map(ern_map *out, const char *path, ern_err *e) {
    bool ok = false;
    ern_map m = { 0 };
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ern_fail(e, errno == ENOENT ? ERN_NOTFOUND : ERN_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) { ern_fail(e, ERN_IO, "%s: %s", path, strerror(errno)); goto out; }
    if (!S_ISREG(st.st_mode)) { ern_fail(e, ERN_ARG, "%s: not a regular file", path); goto out; }
    if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) { ern_fail(e, ERN_IO, "%s: map: %s", path, strerror(errno)); goto out; }
        m.data = p;
        m.size_bytes = (size_t)st.st_size;
    }
    *out = m;
    ok = true;
out:
    close(fd);
    return ok;
}

void file_unmap(ern_map *m) {
    if (m->data) munmap((void *)(uintptr_t)m->data, m->size_bytes);
    *m = (ern_map){ 0 };
}

bool file_read(ern_buf *out, const char *path, size_t max_bytes, ern_err *e) {
    bool ok = false;
    ern_map m = { 0 };
    if (!file_map(&m, path, e)) return false;
    if (m.size_bytes > max_bytes)
        ern_fail(e, ERN_LIMIT, "%s: %zu bytes, at most %zu are read", path, m.size_bytes, max_bytes);
    else
        ok = buf_add(out, m.data, m.size_bytes, e);
    file_unmap(&m);
    return ok;
}

bool file_write(const char *path, const void *bytes, size_t n, ern_err *e) {
    bool ok = false;
    FILE *fp = NULL;
    ern_buf tmp = { .max = 8192 };
    if (!buf_printf(&tmp, e, "%s.%ld.tmp", path, (long)getpid())) goto out;
    if (!(fp = fopen(tmp.data, "wb"))) { ern_fail(e, ERN_IO, "%s: %s", path, strerror(errno)); goto out; }
    if ((n && fwrite(bytes, 1, n, fp) != n) || fflush(fp) != 0 || fsync(fileno(fp)) != 0) {
        ern_fail(e, ERN_IO, "%s: write: %s", path, strerror(errno));
        goto out;
    }
    const int closed = fclose(fp);
    fp = NULL;
    if (closed != 0 || rename(tmp.data, path) != 0) {
        ern_fail(e, ERN_IO, "%s: %s", path, strerror(errno));
        goto out;
    }
    ok = true;
out:
    if (fp) fclose(fp);
    if (!ok && tmp.data) unlink(tmp.data);
    buf_deinit(&tmp);
    return ok;
}

bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool file_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *file_join(const char *folder, const char *name, ern_err *e) {
    ern_buf b = { .max = 65536 };
    const size_t n = strlen(folder);
    if (!buf_printf(&b, e, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name)) buf_deinit(&b);
    return buf_take(&b);
}
