/* The layout is the table in gguf.c. */
#include "formats/gguf_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "formats/gguf_int.h"
#include "formats/names.h"
#include "formats/outfile.h"
#include "formats/shape.h"

#define HEADER_MAX_BYTES ((size_t)1 << 31)

typedef struct { char **at; size_t n, cap; } name_list;      /* owned */

struct ern_gguf_writer {
    char *path;
    ern_buf keys, infos;        /* the two tables as they go into the file */
    name_list key_names, tensor_names;          /* for duplicates */
    uint64_t data_size;         /* of the tensors declared, padded */
    size_t *sizes;              /* [tensor_names.n] */
    size_t sizes_cap;
    ern_outfile file;           /* not open until the first data */
    size_t at;                  /* tensor that gets the next bytes */
    size_t given;               /* of its bytes */
};

ern_gguf_writer *gguf_writer_open(const char *path, ern_err *e) {
    ern_gguf_writer *w = mem_zalloc(1, sizeof *w, "GGUF writer", e);
    if (!w) return NULL;
    w->keys.max = w->infos.max = HEADER_MAX_BYTES;
    if (!(w->path = mem_strndup(path, strlen(path), e))) {
        gguf_writer_close(w);
        return NULL;
    }
    return w;
}

static bool put(ern_buf *b, uint64_t v, unsigned n_bytes, ern_err *e) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < n_bytes; i++) bytes[i] = (uint8_t)(v >> (8 * i));
    return buf_add(b, bytes, n_bytes, e);
}

static bool put_str(ern_buf *b, const char *s, ern_err *e) {
    const size_t n = strlen(s);
    return put(b, n, 8, e) && buf_add(b, s, n, e);
}

static bool remember(name_list *l, const char *name, ern_err *e) {
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 64;
        char **grown = mem_grow(l->at, cap, sizeof *grown, "names", e);
        if (!grown) return false;
        l->at = grown;
        l->cap = cap;
    }
    if (!(l->at[l->n] = mem_strndup(name, strlen(name), e))) return false;
    l->n++;
    return true;
}

static bool begin_key(ern_gguf_writer *w, const char *key, uint32_t type, ern_err *e) {
    if (w->file.is_open) return ern_fail(e, ERN_ARG, "%s: key %s is set after the first data", w->path, key);
    if (!*key || strlen(key) > GGUF_MAX_KEY)
        return ern_fail(e, ERN_ARG, "%s: a key of %zu bytes, 1 to %d wanted", w->path, strlen(key), GGUF_MAX_KEY);
    for (size_t i = 0; i < w->key_names.n; i++)
        if (strcmp(w->key_names.at[i], key) == 0) return ern_fail(e, ERN_ARG, "%s: key %s is set twice", w->path, key);
    return remember(&w->key_names, key, e) && put_str(&w->keys, key, e) && put(&w->keys, type, 4, e);
}

static bool put_key(ern_gguf_writer *w, const char *key, uint32_t type, uint64_t v, unsigned n_bytes, ern_err *e) {
    return begin_key(w, key, type, e) && put(&w->keys, v, n_bytes, e);
}

#define DEFINE_KEY(name, ctype, TYPE, n_bytes)                                                          \
    bool gguf_writer_##name(ern_gguf_writer *w, const char *key, ctype v, ern_err *e) {                 \
        return put_key(w, key, GGUF_##TYPE, (uint64_t)v, n_bytes, e);                                   \
    }
DEFINE_KEY(u8, uint8_t, U8, 1)
DEFINE_KEY(i8, int8_t, I8, 1)
DEFINE_KEY(u16, uint16_t, U16, 2)
DEFINE_KEY(i16, int16_t, I16, 2)
DEFINE_KEY(u32, uint32_t, U32, 4)
DEFINE_KEY(i32, int32_t, I32, 4)
DEFINE_KEY(u64, uint64_t, U64, 8)
DEFINE_KEY(i64, int64_t, I64, 8)
DEFINE_KEY(bool, bool, BOOL, 1)

bool gguf_writer_f32(ern_gguf_writer *w, const char *key, float v, ern_err *e) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_key(w, key, GGUF_F32, bits, 4, e);
}

bool gguf_writer_f64(ern_gguf_writer *w, const char *key, double v, ern_err *e) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_key(w, key, GGUF_F64, bits, 8, e);
}

bool gguf_writer_str(ern_gguf_writer *w, const char *key, const char *v, ern_err *e) {
    return begin_key(w, key, GGUF_STR, e) && put_str(&w->keys, v, e);
}

static bool begin_array(ern_gguf_writer *w, const char *key, uint32_t type, size_t n, ern_err *e) {
    return begin_key(w, key, GGUF_ARRAY, e) && put(&w->keys, type, 4, e) && put(&w->keys, n, 8, e);
}

bool gguf_writer_array_str(ern_gguf_writer *w, const char *key, const char *const *v, size_t n, ern_err *e) {
    bool ok = begin_array(w, key, GGUF_STR, n, e);
    for (size_t i = 0; ok && i < n; i++) ok = put_str(&w->keys, v[i], e);
    return ok;
}

bool gguf_writer_array_u32(ern_gguf_writer *w, const char *key, const uint32_t *v, size_t n, ern_err *e) {
    bool ok = begin_array(w, key, GGUF_U32, n, e);
    for (size_t i = 0; ok && i < n; i++) ok = put(&w->keys, v[i], 4, e);
    return ok;
}

bool gguf_writer_array_i32(ern_gguf_writer *w, const char *key, const int32_t *v, size_t n, ern_err *e) {
    bool ok = begin_array(w, key, GGUF_I32, n, e);
    for (size_t i = 0; ok && i < n; i++) ok = put(&w->keys, (uint32_t)v[i], 4, e);
    return ok;
}

bool gguf_writer_array_f32(ern_gguf_writer *w, const char *key, const float *v, size_t n, ern_err *e) {
    bool ok = begin_array(w, key, GGUF_F32, n, e);
    for (size_t i = 0; ok && i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        ok = put(&w->keys, bits, 4, e);
    }
    return ok;
}

bool gguf_writer_copy(ern_gguf_writer *w, const ern_gguf *from, size_t i, ern_err *e) {
    const gguf_kv *kv = &gguf_metadata(from)->kv[i];
    return begin_key(w, kv->key, kv->type, e) && buf_add(&w->keys, kv->raw, kv->raw_n, e);
}

bool gguf_writer_declare(ern_gguf_writer *w, const ern_view *v, ern_err *e) {
    size_t size = 0;
    const ern_dtype_info *info = dtype_info(v->dtype);
    if (w->file.is_open) return ern_fail(e, ERN_ARG, "%s: tensor %s is declared after the first data", w->path, v->name);
    if (info->gguf_type < 0)
        return ern_fail(e, ERN_ARG, "%s: tensor %s: GGUF files have no type %s", w->path, v->name, info->name);
    if (!*v->name || strlen(v->name) > GGUF_MAX_WRITTEN_NAME)
        return ern_fail(e, ERN_ARG, "%s: tensor %s: a name of %zu bytes, 1 to %d wanted", w->path, v->name, strlen(v->name),
                        GGUF_MAX_WRITTEN_NAME);
    if (!shape_bytes(&size, v->dtype, v->n_dims, v->dims, w->path, v->name, e)) return false;
    if (w->tensor_names.n == w->sizes_cap) {
        const size_t cap = w->sizes_cap ? 2 * w->sizes_cap : 64;
        size_t *grown = mem_grow(w->sizes, cap, sizeof *grown, "tensor table", e);
        if (!grown) return false;
        w->sizes = grown;
        w->sizes_cap = cap;
    }
    if (!put_str(&w->infos, v->name, e) || !put(&w->infos, v->n_dims, 4, e)) return false;
    for (unsigned i = v->n_dims; i > 0; i--)            /* the file has the row first */
        if (!put(&w->infos, v->dims[i - 1], 8, e)) return false;
    if (!put(&w->infos, (uint32_t)info->gguf_type, 4, e) || !put(&w->infos, w->data_size, 8, e)) return false;
    w->sizes[w->tensor_names.n] = size;
    if (!remember(&w->tensor_names, v->name, e)) return false;
    w->data_size += gguf_padded(size);
    return true;
}

static bool check_names(const ern_gguf_writer *w, ern_err *e) {
    ern_names names = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < w->tensor_names.n; i++) ok = names_add(&names, w->tensor_names.at[i], i, e);
    const char *twice = ok ? names_sort(&names) : NULL;
    if (twice) ok = ern_fail(e, ERN_ARG, "%s: tensor %s is declared twice", w->path, twice);
    names_deinit(&names);
    return ok;
}

static bool begin(ern_gguf_writer *w, ern_err *e) {
    ern_buf head = { .max = 64 };
    bool ok = false;
    if (!check_names(w, e)) return false;
    if (!outfile_open(&w->file, w->path, e)) return false;
    if (!put(&head, GGUF_MAGIC, 4, e) || !put(&head, GGUF_VERSION, 4, e) || !put(&head, w->tensor_names.n, 8, e) ||
        !put(&head, w->key_names.n, 8, e)) goto out;
    if (!outfile_write(&w->file, head.data, head.len, e) || !outfile_write(&w->file, w->keys.data, w->keys.len, e) ||
        !outfile_write(&w->file, w->infos.data, w->infos.len, e)) goto out;
    const uint64_t pos = w->file.pos;
    ok = outfile_zeros(&w->file, (size_t)(gguf_padded(pos) - pos), e);
out:
    buf_deinit(&head);
    return ok;
}

/* Past the tensors that are complete, padding each. */
static bool next_tensor(ern_gguf_writer *w, ern_err *e) {
    while (w->at < w->tensor_names.n && w->given == w->sizes[w->at]) {
        if (!outfile_zeros(&w->file, (size_t)(gguf_padded(w->given) - w->given), e)) return false;
        w->at++;
        w->given = 0;
    }
    return true;
}

bool gguf_writer_data(ern_gguf_writer *w, const void *bytes, size_t n, ern_err *e) {
    const char *p = bytes;
    if (!w->file.is_open && !begin(w, e)) return false;
    while (n) {
        if (!next_tensor(w, e)) return false;
        if (w->at == w->tensor_names.n) return ern_fail(e, ERN_ARG, "%s: %zu bytes more than the tensors hold", w->path, n);
        const size_t left = w->sizes[w->at] - w->given, part = n < left ? n : left;
        if (!outfile_write(&w->file, p, part, e)) return false;
        p += part;
        n -= part;
        w->given += part;
    }
    return true;
}

bool gguf_writer_finish(ern_gguf_writer *w, ern_err *e) {
    if ((!w->file.is_open && !begin(w, e)) || !next_tensor(w, e)) return false;
    if (w->at < w->tensor_names.n)
        return ern_fail(e, ERN_ARG, "%s: tensor %s: %zu bytes given, %zu wanted", w->path, w->tensor_names.at[w->at],
                        w->given, w->sizes[w->at]);
    return outfile_commit(&w->file, e);
}

static void forget(name_list *l) {
    for (size_t i = 0; i < l->n; i++) free(l->at[i]);
    free(l->at);
}

void gguf_writer_close(ern_gguf_writer *w) {
    if (!w) return;
    outfile_close(&w->file);
    buf_deinit(&w->keys);
    buf_deinit(&w->infos);
    forget(&w->key_names);
    forget(&w->tensor_names);
    free(w->sizes);
    free(w->path);
    free(w);
}
