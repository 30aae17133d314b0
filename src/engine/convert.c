#include "engine/convert.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/convert_int.h"
#include "formats/safetensors_write.h"
#include "model/weights.h"

#define SHARD_BYTES ((uint64_t)5000000000)      /* what transformers cuts at */
#define NOTES_MAX_BYTES ((size_t)1 << 16)

void convert_report_deinit(convert_report *r) { buf_deinit(&r->notes); }

bool convert_note(convert_report *r, ern_err *e, const char *fmt, ...) {
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    return buf_str(&r->notes, line, e) && buf_char(&r->notes, '\n', e);
}

bool convert_layout_from_name(enum convert_layout *out, const char *name, ern_err *e) {
    static const char *const names[] = { "PT", "Paddle", "GGUF" };
    for (unsigned i = 0; i < 3; i++)
        if (strcasecmp(name, names[i]) == 0) {
            *out = (enum convert_layout)i;
            return true;
        }
    return ern_fail(e, ERN_ARG, "layout \"%s\": PT, Paddle or GGUF wanted", name);
}

/* Where the bytes go: one of the two writers, with progress. */
typedef struct {
    ern_safetensors_writer *st;
    ern_gguf_writer *gguf;
    const convert_options *o;
    uint64_t done, total;
} convert_output;

static bool put(void *ctx, const void *bytes, size_t n, ern_err *e) {
    convert_output *out = ctx;
    const size_t piece = (size_t)64 << 20;          /* so that a large copy shows progress and can be stopped */
    for (size_t at = 0; at < n; at += piece) {
        const size_t part = n - at < piece ? n - at : piece;
        const char *p = (const char *)bytes + at;
        if (!(out->st ? safetensors_writer_data(out->st, p, part, e) : gguf_writer_data(out->gguf, p, part, e)))
            return false;
        out->done += part;
        if (out->o->progress && !out->o->progress(out->o->progress_ctx, (size_t)out->done, (size_t)out->total))
            return ern_fail(e, ERN_STOPPED, "conversion stopped after %llu of %llu bytes", (unsigned long long)out->done,
                            (unsigned long long)out->total);
    }
    return true;
}

static bool write_tensors(convert_plan *p, convert_output *out, ern_err *e) {
    for (size_t i = 0; i < p->n; i++) {
        const convert_tensor *t = &p->tensors[i];
        ern_view v = { .name = t->name, .dtype = t->dtype, .n_dims = t->n_dims };
        memcpy(v.dims, t->dims, sizeof v.dims);
        if (!(out->st ? safetensors_writer_declare(out->st, &v, e) : gguf_writer_declare(out->gguf, &v, e))) return false;
        out->total += view_n(&v) / dtype_info(t->dtype)->block_n * dtype_info(t->dtype)->block_bytes;
    }
    if (!p->pool && !(p->pool = pool_open(p->o->n_threads ? p->o->n_threads : pool_cores(), e))) return false;
    for (size_t i = 0; i < p->n; i++)
        if (!convert_emit(p, &p->tensors[i], put, out, e)) return false;
    p->report->n_tensors = p->n;
    p->report->size_bytes = out->total;
    if (p->report->n_rounded == 0 || p->o->choice) return true;
    return convert_note(p->report, e, "%zu of %zu tensors lost precision: they are %s now", p->report->n_rounded, p->n,
                        dtype_info(p->asked)->name);
}

static bool write_gguf(convert_plan *p, const char *in, const char *path, ern_err *e) {
    convert_output out = { .o = p->o };
    if (!(out.gguf = gguf_writer_open(path, e))) return false;
    const bool ok = convert_gguf_keys(out.gguf, p, in, e) && write_tensors(p, &out, e) && gguf_writer_finish(out.gguf, e);
    gguf_writer_close(out.gguf);
    return ok;
}

static bool write_safetensors(convert_plan *p, const char *folder, ern_err *e) {
    convert_output out = { .o = p->o };
    bool ok = false;
    char *path = file_join(folder, "model.safetensors", e);
    if (!path) return false;
    if (!(out.st = safetensors_writer_open(path, p->o->max_shard_bytes ? p->o->max_shard_bytes : SHARD_BYTES, e))) goto out;
    if (p->o->to == CONVERT_PADDLE && !safetensors_writer_meta(out.st, "format", "np", e)) goto out;
    ok = write_tensors(p, &out, e) && safetensors_writer_finish(out.st, e);
out:
    safetensors_writer_close(out.st);
    free(path);
    return ok;
}

/* true: an empty folder or nothing at all. */
static bool is_free(const char *path, ern_err *e) {
    bool empty = true;
    DIR *dir = opendir(path);
    if (!dir) return errno == ENOENT || ern_fail(e, ERN_ARG, "%s: cannot become a folder: %s", path, strerror(errno));
    for (struct dirent *d = readdir(dir); d && empty; d = readdir(dir))
        empty = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0;
    closedir(dir);
    return empty || ern_fail(e, ERN_ARG, "%s: is a folder with files in it; a new or an empty one wanted", path);
}

static void remove_folder(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
        char *file = d->d_name[0] == '.' && (!d->d_name[1] || d->d_name[1] == '.') ? NULL : file_join(path, d->d_name, NULL);
        if (file) unlink(file);
        free(file);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

/* Written into a folder beside path that takes its name at the end. */
static bool write_folder(convert_plan *p, const char *in, const char *path, ern_err *e) {
    bool ok = false, made = false;
    ern_buf tmp = { .max = 65536 };
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (!is_free(path, e) || !buf_add(&tmp, path, n, e) || !buf_printf(&tmp, e, ".%ld.tmp", (long)getpid())) goto out;
    made = mkdir(tmp.data, 0777) == 0;
    if (!made) {
        ern_fail(e, errno == ENOENT ? ERN_NOTFOUND : ERN_IO, "%s: cannot be made: %s", path, strerror(errno));
        goto out;
    }
    if (!write_safetensors(p, tmp.data, e) || !convert_side_files(p, in, tmp.data, e)) goto out;
    rmdir(path);
    if (rename(tmp.data, path) != 0) ern_fail(e, ERN_IO, "%s: cannot be renamed to: %s", path, strerror(errno));
    else ok = true;
out:
    if (made && !ok) remove_folder(tmp.data);
    buf_deinit(&tmp);
    return ok;
}

/* The folder of the source's side files. */
static char *folder_of(const char *path, ern_err *e) {
    const char *slash = strrchr(path, '/');
    if (file_is_folder(path)) return mem_strndup(path, strlen(path), e);
    return slash ? mem_strndup(path, (size_t)(slash - path) + 1, e) : mem_strndup(".", 1, e);
}

static bool is_same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Only ERNIE has a -Paddle layout. */
static bool check_paddle(const ern_source *s, const ern_config *config, ern_err *e) {
    const char *type = json_string_value(json_object_get(source_config(s), "model_type"));
    if (config ? config->arch == ARCH_ERNIE || config->arch == ARCH_ERNIE_MOE : !type || strncmp(type, "ernie4_5", 8) == 0)
        return true;
    return ern_fail(e, ERN_ARG, "%s: a model of type %s has no -Paddle layout, only ernie4_5 has", source_path(s),
                    config ? config_arch_name(config) : type);
}

bool convert_model(const char *in, const char *out, const convert_options *o, convert_report *report, ern_err *e) {
    bool ok = false;
    convert_report own = { 0 };
    convert_report *r = report ? report : &own;
    ern_config config;
    ern_model *m = NULL;
    char *folder = NULL;
    *r = (convert_report){ .notes.max = NOTES_MAX_BYTES };
    if (is_same_file(in, out))
        return ern_fail(e, ERN_ARG, "%s: is the model itself; another name for the output wanted", out);
    ern_source *s = source_open(in, e);
    if (!s) return false;
    convert_plan p = { .name = in, .source = s, .o = o, .report = r };
    if (o->to == CONVERT_GGUF || source_gguf(s)) {
        if (!config_read(&config, s, e)) goto out;
        p.config = &config;
        /* bound once, so that a config that contradicts the tensors is refused */
        if (config.arch != ARCH_BERT) {
            m = model_bind(s, e);
            s = NULL;
            if (!m) goto out;
        }
    }
    if (o->to == CONVERT_PADDLE && !check_paddle(p.source, p.config, e)) goto out;
    if (!(folder = folder_of(in, e)) || !convert_plan_make(&p, e)) goto out;
    ok = o->to == CONVERT_GGUF ? write_gguf(&p, folder, out, e) : write_folder(&p, folder, out, e);
out:
    convert_plan_deinit(&p);
    free(folder);
    if (m) model_close(m);
    else source_close(s);
    convert_report_deinit(&own);
    return ok;
}
