/* OFFSET  SIZE  MEANING
 * 0       8     H, bytes of the header, little-endian
 * 8       H     JSON: {"__metadata__": {...}, name: {"dtype", "shape", "data_offsets": [from, to]}, ...}, padded by spaces
 * 8 + H   -     data; offsets count from here, tensors follow each other without gaps */
#include "formats/safetensors_write.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "formats/outfile.h"
#include "formats/shape.h"

#define MAX_SHARDS 99999        /* five digits in the name */
#define PATH_MAX_BYTES 8192

typedef struct {
    ern_view v;                 /* name owned, data not used */
    size_t shard;
    uint64_t from;              /* offset in the shard's data */
} st_tensor;

typedef struct {
    ern_outfile file;           /* not open before its first tensor */
    uint64_t data_start, size;
} st_shard;

struct ern_safetensors_writer {
    char *path;
    uint64_t max_shard_bytes;
    json_t *meta, *names;       /* names: what is declared, for duplicates */
    st_tensor *tensors;
    size_t n, cap;
    st_shard *shards;           /* NULL until the headers are written */
    size_t n_shards;
    size_t at;                  /* tensor that gets the next bytes */
    size_t given;               /* of its bytes */
};

static bool no_memory(const ern_safetensors_writer *w, ern_err *e) {
    return ern_fail(e, ERN_NOMEM, "%s: no memory for the header", w->path);
}

ern_safetensors_writer *safetensors_writer_open(const char *path, uint64_t max_shard_bytes, ern_err *e) {
    ern_safetensors_writer *w = mem_zalloc(1, sizeof *w, "safetensors writer", e);
    if (!w) return NULL;
    w->max_shard_bytes = max_shard_bytes;
    w->path = mem_strndup(path, strlen(path), e);
    w->names = json_object();
    w->meta = json_pack("{s:s}", "format", "pt");
    if (!w->path || !w->names || !w->meta) {
        ern_fail(e, ERN_NOMEM, "%s: no memory for a writer", path);
        safetensors_writer_close(w);
        return NULL;
    }
    return w;
}

bool safetensors_writer_meta(ern_safetensors_writer *w, const char *key, const char *value, ern_err *e) {
    if (!utf8_valid(key, strlen(key), NULL) || !utf8_valid(value, strlen(value), NULL))
        return ern_fail(e, ERN_ARG, "%s: metadata: UTF-8 text wanted", w->path);
    return json_object_set_new(w->meta, key, json_string(value)) == 0 || no_memory(w, e);
}

static const char *dtype_name(enum ern_dtype t) {
    switch (t) {
    case DTYPE_F64: case DTYPE_F32: case DTYPE_F16: case DTYPE_BF16: case DTYPE_I64: case DTYPE_I32: case DTYPE_I16:
    case DTYPE_I8: case DTYPE_U8: case DTYPE_U16: case DTYPE_BOOL:
        return dtype_info(t)->name;
    default:
        return NULL;
    }
}

bool safetensors_writer_declare(ern_safetensors_writer *w, const ern_view *v, ern_err *e) {
    st_tensor t = { .v = *v };
    if (w->shards) return ern_fail(e, ERN_ARG, "%s: tensor %s is declared after the first data", w->path, v->name);
    if (!dtype_name(v->dtype))
        return ern_fail(e, ERN_ARG, "%s: tensor %s: safetensors files have no type %s", w->path, v->name,
                        dtype_info(v->dtype)->name);
    if (!shape_bytes(&t.v.size_bytes, v->dtype, v->n_dims, v->dims, w->path, v->name, e)) return false;
    if (json_object_get(w->names, v->name) || strcmp(v->name, "__metadata__") == 0)
        return ern_fail(e, ERN_ARG, "%s: tensor %s is declared twice or has a reserved name", w->path, v->name);
    if (!utf8_valid(v->name, strlen(v->name), NULL))
        return ern_fail(e, ERN_ARG, "%s: the name of a tensor is not UTF-8", w->path);
    if (json_object_set_new(w->names, v->name, json_true()) != 0) return no_memory(w, e);
    if (w->n == w->cap) {
        const size_t cap = w->cap ? 2 * w->cap : 64;
        st_tensor *grown = mem_grow(w->tensors, cap, sizeof *grown, "tensor table", e);
        if (!grown) return false;
        w->tensors = grown;
        w->cap = cap;
    }
    if (!(t.v.name = mem_strndup(v->name, strlen(v->name), e))) return false;
    w->tensors[w->n++] = t;
    return true;
}

/* Which shard each tensor is in, filled in the order of declaration; how many shards there are. */
static size_t spread(ern_safetensors_writer *w) {
    uint64_t used = 0;
    size_t shard = 0;
    for (size_t i = 0; i < w->n; i++) {
        const size_t size = w->tensors[i].v.size_bytes;
        if (w->max_shard_bytes && used && (size > w->max_shard_bytes || used > w->max_shard_bytes - size)) {
            shard++;
            used = 0;
        }
        used += size;
        w->tensors[i].shard = shard;
    }
    return shard + 1;
}

/* DIR/model.safetensors -> DIR/model-00002-of-00003.safetensors; which 0: the stem alone, without .safetensors. */
static bool shard_path(ern_buf *out, const ern_safetensors_writer *w, size_t which, size_t n_shards, ern_err *e) {
    static const char tail[] = ".safetensors";
    size_t stem = strlen(w->path);
    if (stem >= sizeof tail - 1 && strcmp(w->path + stem - (sizeof tail - 1), tail) == 0) stem -= sizeof tail - 1;
    buf_clear(out);
    if (!buf_add(out, w->path, stem, e)) return false;
    return which == 0 || buf_printf(out, e, "-%05zu-of-%05zu%s", which, n_shards, tail);
}

static bool add_entry(json_t *header, st_tensor *t) {
    json_t *dims = json_array();
    bool ok = dims != NULL;
    for (unsigned i = 0; ok && i < t->v.n_dims; i++)
        ok = json_array_append_new(dims, json_integer((json_int_t)t->v.dims[i])) == 0;
    if (!ok) {
        json_decref(dims);
        return false;
    }
    return json_object_set_new(header, t->v.name,
                               json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype_name(t->v.dtype), "shape", dims, "data_offsets",
                                         (json_int_t)t->from, (json_int_t)(t->from + t->v.size_bytes))) == 0;
}

/* Offsets of the tensors of one shard, wide types first, and its header. */
static bool begin_shard(ern_safetensors_writer *w, size_t shard, ern_err *e) {
    bool ok = false;
    char *text = NULL;
    ern_buf path = { .max = PATH_MAX_BYTES };
    st_shard *s = &w->shards[shard];
    json_t *header = json_object();
    if (!header || json_object_set(header, "__metadata__", w->meta) != 0) { no_memory(w, e); goto out; }
    for (size_t width = 8; width; width /= 2)
        for (size_t i = 0; i < w->n; i++) {
            st_tensor *t = &w->tensors[i];
            if (t->shard != shard || dtype_info(t->v.dtype)->block_bytes != width) continue;
            t->from = s->size;
            s->size += t->v.size_bytes;
            if (!add_entry(header, t)) { no_memory(w, e); goto out; }
        }
    if (!(text = json_dumps(header, JSON_COMPACT))) { no_memory(w, e); goto out; }
    const size_t n = strlen(text), pad = (8 - n % 8) % 8;
    uint8_t size[8];
    for (unsigned i = 0; i < 8; i++) size[i] = (uint8_t)((uint64_t)(n + pad) >> (8 * i));
    if (w->n_shards > 1 && !shard_path(&path, w, shard + 1, w->n_shards, e)) goto out;
    if (!outfile_open(&s->file, w->n_shards > 1 ? path.data : w->path, e)) goto out;
    if (!outfile_write(&s->file, size, 8, e) || !outfile_write(&s->file, text, n, e) ||
        !outfile_write(&s->file, "        ", pad, e)) goto out;
    s->data_start = s->file.pos;
    ok = true;
out:
    free(text);
    json_decref(header);
    buf_deinit(&path);
    return ok;
}

static bool begin(ern_safetensors_writer *w, ern_err *e) {
    const size_t n = spread(w);
    if (n > MAX_SHARDS)
        return ern_fail(e, ERN_LIMIT, "%s: %zu shards, at most %d can be named", w->path, n, MAX_SHARDS);
    if (!(w->shards = mem_zalloc(n, sizeof *w->shards, "shards", e))) return false;
    w->n_shards = n;
    return true;
}

/* A shard begins when its first tensor comes: the disk fills in order. */
static bool enter_shard(ern_safetensors_writer *w, const st_tensor *t, ern_err *e) {
    st_shard *s = &w->shards[t->shard];
    if (!s->file.is_open && !begin_shard(w, t->shard, e)) return false;
    return outfile_seek(&s->file, s->data_start + t->from + w->given, e);
}

bool safetensors_writer_data(ern_safetensors_writer *w, const void *bytes, size_t n, ern_err *e) {
    const char *p = bytes;
    if (!w->shards && !begin(w, e)) return false;
    while (n) {
        while (w->at < w->n && w->given == w->tensors[w->at].v.size_bytes) {
            w->at++;
            w->given = 0;
        }
        if (w->at == w->n) return ern_fail(e, ERN_ARG, "%s: %zu bytes more than the tensors hold", w->path, n);
        const st_tensor *t = &w->tensors[w->at];
        const size_t left = t->v.size_bytes - w->given, part = n < left ? n : left;
        if (!enter_shard(w, t, e) || !outfile_write(&w->shards[t->shard].file, p, part, e)) return false;
        p += part;
        n -= part;
        w->given += part;
    }
    return true;
}

static bool write_index(const ern_safetensors_writer *w, ern_err *e) {
    bool ok = false;
    char *text = NULL;
    uint64_t total = 0;
    ern_buf path = { .max = PATH_MAX_BYTES };
    json_t *map = json_object();
    for (size_t i = 0; i < w->n; i++) {
        const st_tensor *t = &w->tensors[i];
        total += t->v.size_bytes;
        if (!shard_path(&path, w, t->shard + 1, w->n_shards, e)) goto out;
        const char *slash = strrchr(path.data, '/');
        json_t *file = json_string(slash ? slash + 1 : path.data);
        if (json_object_set_new(map, t->v.name, file) != 0) { no_memory(w, e); goto out; }
    }
    json_t *index = json_pack("{s:{s:I},s:O}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    text = index ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(index);
    if (!text) { no_memory(w, e); goto out; }
    if (!shard_path(&path, w, 0, 0, e) || !buf_str(&path, ".safetensors.index.json", e)) goto out;
    ok = file_write(path.data, text, strlen(text), e);
out:
    free(text);
    json_decref(map);
    buf_deinit(&path);
    return ok;
}

bool safetensors_writer_finish(ern_safetensors_writer *w, ern_err *e) {
    if (!w->shards && !begin(w, e)) return false;
    for (size_t i = w->at; i < w->n; i++) {
        const size_t given = i == w->at ? w->given : 0;
        if (given != w->tensors[i].v.size_bytes)
            return ern_fail(e, ERN_ARG, "%s: tensor %s: %zu bytes given, %zu wanted", w->path, w->tensors[i].v.name, given,
                            w->tensors[i].v.size_bytes);
    }
    for (size_t i = 0; i < w->n_shards; i++)
        if (!w->shards[i].file.is_open && !begin_shard(w, i, e)) return false;
    for (size_t i = 0; i < w->n_shards; i++)
        if (!outfile_commit(&w->shards[i].file, e)) return false;
    return w->n_shards == 1 || write_index(w, e);
}

void safetensors_writer_close(ern_safetensors_writer *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_shards; i++) outfile_close(&w->shards[i].file);
    for (size_t i = 0; i < w->n; i++) free((char *)(uintptr_t)w->tensors[i].v.name);
    free(w->shards);
    free(w->tensors);
    json_decref(w->meta);
    json_decref(w->names);
    free(w->path);
    free(w);
}

bool safetensors_write(const char *path, const ern_view *views, size_t n, ern_err *e) {
    ern_safetensors_writer *w = safetensors_writer_open(path, 0, e);
    bool ok = w != NULL;
    for (size_t i = 0; ok && i < n; i++) ok = safetensors_writer_declare(w, &views[i], e);
    for (size_t i = 0; ok && i < n; i++) ok = safetensors_writer_data(w, views[i].data, w->tensors[i].v.size_bytes, e);
    ok = ok && safetensors_writer_finish(w, e);
    safetensors_writer_close(w);
    return ok;
}
