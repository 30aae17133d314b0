#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PATH_BYTES 65536
#define MAX_TMP_NAMES 1000          /* threads of one process that write the same path at once */
#define READ_STEP_BYTES ((size_t)1 << 16)

static bool io_fail(ern_err *e, const char *path, const char *what) {
    return ern_fail(e,
                    errno == ENOENT   ? ERN_NOTFOUND
                    : errno == ENOMEM ? ERN_NOMEM
                                      : ERN_IO,
                    "%s: %s%s%s", path, what, *what ? ": " : "", strerror(errno));
}

bool file_map(ern_map *out, const char *path, ern_err *e) {
    bool ok = false;
    ern_map m = { 0 };
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);       /* a pipe must not make us wait */
    if (fd < 0) return io_fail(e, path, "");
    if (fstat(fd, &st) != 0) { io_fail(e, path, ""); goto out; }
    if (!S_ISREG(st.st_mode)) { ern_fail(e, ERN_ARG, "%s: not a regular file", path); goto out; }
    if (st.st_size > 0) {
        if ((uintmax_t)st.st_size > SIZE_MAX) {
            ern_fail(e, ERN_LIMIT, "%s: larger than the address space", path);
            goto out;
        }
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) { io_fail(e, path, "map"); goto out; }
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
    const size_t before = out->len;
    bool ok = false;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_fail(e, path, "");
    for (;;) {
        if (!buf_reserve(out, 1, e)) goto out;
        if (out->cap - out->len <= READ_STEP_BYTES / 2)
            buf_reserve(out, READ_STEP_BYTES, NULL); /* larger steps where allowed */
        const ssize_t n = read(fd, out->data + out->len, out->cap - out->len - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) { io_fail(e, path, "read"); goto out; }
        if (n == 0) break;
        if ((size_t)n > max_bytes - (out->len - before)) {
            ern_fail(e, ERN_LIMIT, "%s: longer than %zu bytes, the most that is read", path, max_bytes);
            goto out;
        }
        out->len += (size_t)n;
    }
    ok = true;
out:
    close(fd);
    if (!ok) out->len = before;
    if (out->data) out->data[out->len] = '\0';
    return ok;
}

/* The first free name of path.PID.N.tmp. */
static FILE *open_tmp(char **name, const char *path, ern_err *e) {
    for (unsigned i = 0; i < MAX_TMP_NAMES; i++) {
        ern_buf b = { .max = MAX_PATH_BYTES };
        if (!buf_printf(&b, e, "%s.%ld.%u.tmp", path, (long)getpid(), i)) return NULL;
        const int fd = open(b.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        FILE *fp = fd >= 0 ? fdopen(fd, "wb") : NULL;
        if (fp) {
            *name = buf_take(&b);
            return fp;
        }
        const bool is_taken = fd < 0 && errno == EEXIST;
        if (!is_taken) io_fail(e, path, "");
        if (fd >= 0) {
            close(fd);
            unlink(b.data);
        }
        buf_deinit(&b);
        if (!is_taken) return NULL;
    }
    ern_fail(e, ERN_IO, "%s: %d temporary files beside it are in the way", path, MAX_TMP_NAMES);
    return NULL;
}

bool writer_open(ern_writer *out, const char *path, ern_err *e) {
    ern_writer w = { 0 };
    struct stat st;
    if (!(w.path = mem_strndup(path, strlen(path), e))) return false;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) ern_fail(e, ERN_ARG, "%s: is a folder", path);
    else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        if (!(w.fp = fopen(path, "wb"))) io_fail(e, path, "");
    } else w.fp = open_tmp(&w.tmp, path, e);
    if (!w.fp) { writer_deinit(&w); return false; }
    *out = w;
    return true;
}

bool writer_add(ern_writer *w, const void *bytes, size_t n, ern_err *e) {
    return n == 0 || fwrite(bytes, 1, n, w->fp) == n || io_fail(e, w->path, "write");
}

/* The rename itself reaches the disk only with its folder; a failure here loses nothing that was there before. */
static void sync_folder(const char *path) {
    char *folder = mem_strndup(path, strlen(path), NULL);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash) slash[slash == folder] = '\0';
    const int fd = folder ? open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

bool writer_commit(ern_writer *w, ern_err *e) {
    bool ok = fflush(w->fp) == 0 && (!w->tmp || fsync(fileno(w->fp)) == 0);
    if (!ok) io_fail(e, w->path, "write");
    FILE *fp = w->fp;
    w->fp = NULL;
    if (fclose(fp) != 0 && ok) ok = io_fail(e, w->path, "write");
    if (!ok || !w->tmp) return ok;
    if (rename(w->tmp, w->path) != 0) return io_fail(e, w->path, "rename");
    sync_folder(w->path);
    free(w->tmp);
    w->tmp = NULL;
    return true;
}

void writer_deinit(ern_writer *w) {
    if (w->fp) fclose(w->fp);
    if (w->tmp) unlink(w->tmp);
    free(w->tmp);
    free(w->path);
    *w = (ern_writer){ 0 };
}

bool file_write(const char *path, const void *bytes, size_t n, ern_err *e) {
    ern_writer w;
    if (!writer_open(&w, path, e)) return false;
    const bool ok = writer_add(&w, bytes, n, e) && writer_commit(&w, e);
    writer_deinit(&w);
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
    ern_buf b = { .max = MAX_PATH_BYTES };
    const size_t n = strlen(folder);
    if (!buf_printf(&b, e, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name)) buf_deinit(&b);
    return buf_take(&b);
}
