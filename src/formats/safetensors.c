/* OFFSET  SIZE  MEANING
 * 0       8     H, bytes of the header, little-endian
 * 8       H     JSON: {"__metadata__": {...}, name: {"dtype", "shape", "data_offsets": [from, to]}, ...}
 * 8 + H   -     data; offsets count from here, the tensors fill it without gaps */
#include "formats/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "base/file.h"
#include "formats/jsonfile.h"
#include "formats/names.h"
#include "formats/shape.h"

#define MAX_SHARDS 10000

typedef struct {
    char *path;
    ern_map map;                /* empty when the bytes are borrowed */
    json_t *header;             /* owns the names of its tensors */
    size_t first, n;            /* its views */
} st_file;

struct ern_safetensors {
    st_file *files;             /* [n_files], room for cap_files */
    size_t n_files, cap_files;
    ern_view *views;
    size_t n_views;
    ern_names names;
};

typedef struct { size_t from, to, i; } st_span;

void safetensors_close(ern_safetensors *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_files; i++) {
        json_decref(s->files[i].header);
        file_unmap(&s->files[i].map);
        free(s->files[i].path);
    }
    names_deinit(&s->names);
    free(s->files);
    free(s->views);
    free(s);
}

static bool read_dtype(ern_view *v, const json_t *entry, const char *file, ern_err *e) {
    static const enum ern_dtype known[] = { DTYPE_BF16, DTYPE_F32, DTYPE_F16, DTYPE_F64, DTYPE_I64, DTYPE_I32, DTYPE_I16,
                                            DTYPE_I8, DTYPE_U8, DTYPE_U16, DTYPE_BOOL };
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    const bool is_f8 = name && name[0] == 'F' && name[1] == '8';
    if (!name) return ern_fail(e, ERN_FORMAT, "%s: tensor %s: dtype is missing or not a string", file, v->name);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, dtype_info(known[i])->name) == 0) {
            v->dtype = known[i];
            return true;
        }
    return ern_fail(e, ERN_MISSING,
                    "%s: tensor %s: type %s cannot be read, only F64 F32 F16 BF16 I64 I32 I16 I8 U8 U16 BOOL%s",
                    file, v->name, name, is_f8 ? "; a copy of the model in another type is needed" : "");
}

static bool read_size(size_t *out, const json_t *v) {
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > SIZE_MAX / 2) return false;
    *out = (size_t)json_integer_value(v);
    return true;
}

/* One entry of the header, checked against the n bytes of data. */
static bool read_entry(ern_view *v, st_span *span, const json_t *entry, const uint8_t *data, size_t n, const char *file,
                       ern_err *e) {
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    if (!read_dtype(v, entry, file, e)) return false;
    if (!json_is_array(shape)) return ern_fail(e, ERN_FORMAT, "%s: tensor %s: shape is missing or not an array", file,
                                               v->name);
    if (json_array_size(shape) > ERN_MAX_DIMS)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %s: %zu dimensions, at most %d", file, v->name, json_array_size(shape),
                        ERN_MAX_DIMS);
    v->n_dims = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < v->n_dims; i++)
        if (!read_size(&v->dims[i], json_array_get(shape, i)))
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s: dimension %u: an integer from 0 wanted", file, v->name, i);
    if (!shape_bytes(&v->size_bytes, v->dtype, v->n_dims, v->dims, file, v->name, e)) return false;
    if (json_array_size(offsets) != 2 || !read_size(&span->from, json_array_get(offsets, 0)) ||
        !read_size(&span->to, json_array_get(offsets, 1)))
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: data_offsets: two integers from 0 wanted", file, v->name);
    if (span->from > span->to || span->to > n)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: bytes %zu to %zu, the file has %zu bytes of data", file, v->name,
                        span->from, span->to, n);
    if (span->to - span->from != v->size_bytes)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: %zu bytes of data, its shape and type %s want %zu", file, v->name,
                        span->to - span->from, dtype_info(v->dtype)->name, v->size_bytes);
    v->data = data + span->from;
    return true;
}

static int by_offset(const void *a, const void *b) {
    const st_span *x = a, *y = b;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return (x->to > y->to) - (x->to < y->to);
}

/* The tensors fill the data: no gap, nothing over another, nothing after the last. */
static bool check_spans(st_span *spans, size_t n, const ern_view *views, size_t size, const char *file, ern_err *e) {
    size_t at = 0;
    if (n) qsort(spans, n, sizeof *spans, by_offset);
    for (size_t i = 0; i < n; i++) {
        if (spans[i].from != at)
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s: begins at byte %zu of the data, %zu wanted: %s", file,
                            views[spans[i].i].name, spans[i].from, at, spans[i].from < at ? "lies over another" : "a gap");
        at = spans[i].to;
    }
    return at == size || ern_fail(e, ERN_FORMAT, "%s: the tensors end at byte %zu of the data, the file at byte %zu", file,
                                  at, size);
}

static bool read_tensors(ern_safetensors *s, st_file *f, const uint8_t *data, size_t n_data, const char *name, ern_err *e) {
    const size_t room = json_object_size(f->header);
    st_span *spans = mem_zalloc(room, sizeof *spans, "tensors", e);
    ern_view *views = spans ? mem_grow(s->views, s->n_views + room, sizeof *views, "tensors", e) : NULL;
    bool ok = views != NULL;
    const char *key;
    json_t *entry;
    size_t n = 0;
    if (views) {
        s->views = views;
        views += s->n_views;
        json_object_foreach(f->header, key, entry) {
            if (strcmp(key, "__metadata__") == 0) continue;
            views[n] = (ern_view){ .name = key };
            spans[n].i = n;
            if (!(ok = read_entry(&views[n], &spans[n], entry, data, n_data, name, e))) break;
            n++;
        }
        ok = ok && check_spans(spans, n, views, n_data, name, e);
    }
    free(spans);
    if (!ok) return false;
    f->first = s->n_views;
    f->n = n;
    s->n_views += n;
    return true;
}

static st_file *add_file(ern_safetensors *s, const char *path, ern_err *e) {
    if (s->n_files == s->cap_files) {
        const size_t cap = s->cap_files ? 2 * s->cap_files : 4;
        st_file *files = mem_grow(s->files, cap, sizeof *files, "safetensors files", e);
        if (!files) return NULL;
        s->files = files;
        s->cap_files = cap;
    }
    st_file *f = &s->files[s->n_files];
    *f = (st_file){ 0 };
    if (!(f->path = mem_strndup(path, strlen(path), e))) return NULL;
    s->n_files++;
    return f;
}

static bool read_file(ern_safetensors *s, st_file *f, const void *bytes, size_t n, ern_err *e) {
    ern_cursor c = { .data = bytes, .size = n, .name = f->path };
    uint64_t size;
    const uint8_t *text = NULL;
    if (!cursor_u64(&c, &size, e)) return false;
    if (size > c.size - c.pos)
        return ern_fail(e, ERN_FORMAT, "%s: a header of %llu bytes, the file has %zu left: not a safetensors file, or cut",
                        f->path, (unsigned long long)size, c.size - c.pos);
    if (size > JSONFILE_MAX_BYTES)
        return ern_fail(e, ERN_LIMIT, "%s: a header of %llu bytes, at most %zu", f->path, (unsigned long long)size,
                        JSONFILE_MAX_BYTES);
    if (!cursor_bytes(&c, (size_t)size, &text, e)) return false;
    if (!(f->header = jsonfile_parse((const char *)text, (size_t)size, f->path, e))) return false;
    return read_tensors(s, f, c.data + c.pos, c.size - c.pos, f->path, e);
}

static bool open_file(ern_safetensors *s, const char *path, ern_err *e) {
    st_file *f = add_file(s, path, e);
    return f && file_map(&f->map, path, e) && read_file(s, f, f->map.data, f->map.size_bytes, e);
}

static bool index_views(ern_safetensors *s, const char *name, ern_err *e) {
    for (size_t i = 0; i < s->n_views; i++)
        if (!names_add(&s->names, s->views[i].name, i, e)) return false;
    const char *twice = names_sort(&s->names);
    return !twice || ern_fail(e, ERN_FORMAT, "%s: tensor %s comes twice", name, twice);
}

/* The file of the index, opened if it is the first time that it is named; names of other folders are refused. */
static bool open_shard(ern_safetensors *s, const char *folder, const char *shard, const char *index, ern_err *e) {
    if (!*shard || strchr(shard, '/') || strcmp(shard, "..") == 0)
        return ern_fail(e, ERN_FORMAT, "%s: shard \"%s\": the plain name of a file beside the index wanted", index, shard);
    if (s->n_files == MAX_SHARDS) return ern_fail(e, ERN_LIMIT, "%s: more than %d shards", index, MAX_SHARDS);
    char *path = file_join(folder, shard, e);
    const bool ok = path && open_file(s, path, e);
    free(path);
    return ok;
}

/* Every tensor of the index is in the shard it names, and the shards hold no other. */
static bool check_index(const ern_safetensors *s, const json_t *map, const ern_names *shards, const char *index,
                        ern_err *e) {
    const char *name;
    json_t *shard;
    json_object_foreach((json_t *)(uintptr_t)map, name, shard) {
        size_t i, file = 0;
        names_find(shards, json_string_value(shard), &file);
        const st_file *f = &s->files[file];
        if (!names_find(&s->names, name, &i) || i < f->first || i - f->first >= f->n)
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s is not in the shard %s", index, name, json_string_value(shard));
    }
    for (size_t i = 0; i < s->n_views && json_object_size(map) != s->n_views; i++)
        if (!json_object_get(map, s->views[i].name))
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s of a shard is not in the index", index, s->views[i].name);
    return true;
}

static bool open_index(ern_safetensors *s, const char *folder, const char *path, ern_err *e) {
    bool ok = false;
    const char *name;
    json_t *shard;
    ern_names shards = { 0 }, seen = { 0 };        /* all mentions; each file once */
    json_t *json = jsonfile_read(path, JSONFILE_MAX_BYTES, e);
    if (!json) return false;
    const json_t *map = json_object_get(json, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        ern_fail(e, ERN_FORMAT, "%s: weight_map: an object of tensors and their shards wanted", path);
        goto out;
    }
    json_object_foreach((json_t *)(uintptr_t)map, name, shard) {
        if (!json_is_string(shard)) {
            ern_fail(e, ERN_FORMAT, "%s: tensor %s: the name of a shard wanted", path, name);
            goto out;
        }
        if (!names_add(&shards, json_string_value(shard), 0, e)) goto out;
    }
    names_sort(&shards);
    for (size_t i = 0; i < shards.n; i++) {
        if (i && strcmp(shards.at[i].name, shards.at[i - 1].name) == 0) continue;
        if (!names_add(&seen, shards.at[i].name, s->n_files, e) || !open_shard(s, folder, shards.at[i].name, path,
                                                                               e)) goto out;
    }
    names_sort(&seen);
    ok = index_views(s, path, e) && check_index(s, map, &seen, path, e);
out:
    names_deinit(&shards);
    names_deinit(&seen);
    json_decref(json);
    return ok;
}

static bool has_suffix(const char *name, const char *suffix) {
    const size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcmp(name + n - m, suffix) == 0;
}

/* The only *.safetensors of a folder, whatever its name. */
static bool open_only(ern_safetensors *s, const char *folder, ern_err *e) {
    bool ok = false;
    size_t n = 0;
    char *path = NULL;
    DIR *dir = opendir(folder);
    if (!dir) return ern_fail(e, ERN_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        if (!has_suffix(d->d_name, ".safetensors") || n++) continue;
        if (!(path = file_join(folder, d->d_name, e))) goto out;
    }
    if (n == 1) ok = open_file(s, path, e) && index_views(s, path, e);
    else ern_fail(e, ERN_NOTFOUND,
                  "%s: model.safetensors or model.safetensors.index.json wanted, found %zu other .safetensors files",
                  folder, n);
out:
    free(path);
    closedir(dir);
    return ok;
}

static bool open_folder(ern_safetensors *s, const char *folder, ern_err *e) {
    bool ok = false;
    char *whole = file_join(folder, "model.safetensors", e);
    char *index = whole ? file_join(folder, "model.safetensors.index.json", e) : NULL;
    if (!index) goto out;
    if (file_exists(whole)) ok = open_file(s, whole, e) && index_views(s, whole, e);
    else if (file_exists(index)) ok = open_index(s, folder, index, e);
    else ok = open_only(s, folder, e);
out:
    free(whole);
    free(index);
    return ok;
}

ern_safetensors *safetensors_open(const char *path, ern_err *e) {
    bool ok = false;
    ern_safetensors *s = mem_zalloc(1, sizeof *s, "safetensors", e);
    if (!s) return NULL;
    if (file_is_folder(path)) ok = open_folder(s, path, e);
    else if (has_suffix(path, ".index.json")) {
        const char *slash = strrchr(path, '/');
        char *folder = slash ? mem_strndup(path, (size_t)(slash - path) + 1, e) : mem_strndup(".", 1, e);
        ok = folder && open_index(s, folder, path, e);
        free(folder);
    } else ok = open_file(s, path, e) && index_views(s, path, e);
    if (ok) return s;
    safetensors_close(s);
    return NULL;
}

ern_safetensors *safetensors_parse(const void *bytes, size_t n, const char *name, ern_err *e) {
    ern_safetensors *s = mem_zalloc(1, sizeof *s, "safetensors", e);
    if (!s) return NULL;
    st_file *f = add_file(s, name, e);
    if (f && read_file(s, f, bytes, n, e) && index_views(s, name, e)) return s;
    safetensors_close(s);
    return NULL;
}

size_t safetensors_n(const ern_safetensors *s) { return s->n_views; }

const ern_view *safetensors_at(const ern_safetensors *s, size_t i) { return i < s->n_views ? &s->views[i] : NULL; }

const ern_view *safetensors_find(const ern_safetensors *s, const char *name) {
    size_t i;
    return names_find(&s->names, name, &i) ? &s->views[i] : NULL;
}

const json_t *safetensors_metadata(const ern_safetensors *s) {
    return s->n_files ? json_object_get(s->files[0].header, "__metadata__") : NULL;
}
