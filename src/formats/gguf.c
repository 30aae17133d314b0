/* OFFSET  SIZE  MEANING
 * 0       4     "GGUF"
 * 4       4     version, 2 or 3
 * 8       8     number of tensors
 * 16      8     number of keys
 * 24      -     keys and values (gguf_meta.c)
 * -       -     a tensor: name (8-byte length, bytes), 4 number of dims, 8 each dim (row first), 4 type, 8 offset
 * A       -     data; A and every offset (from A) are multiples of general.alignment, 32 unless set
 * All numbers are little-endian. A model in parts NAME-00001-of-0000N.gguf has split.no (from 0), split.count and
 * split.tensors.count; the metadata is that of the first part. */
#include "formats/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "formats/gguf_int.h"
#include "formats/shape.h"

#define MIN_KEY_BYTES 13        /* length, type, one byte */
#define MIN_TENSOR_BYTES 24     /* length, number of dims, type, offset */
#define MAX_PARTS 9999

typedef struct {
    ern_map map;                /* empty when the bytes are borrowed */
    gguf_arena arena;
    gguf_meta meta;
} gguf_part;

struct ern_gguf {
    gguf_part **parts;          /* [n_parts] */
    size_t n_parts;
    ern_view *views;            /* of all parts */
    size_t n_views;
    ern_names names;
};

typedef struct { uint64_t offset; size_t size; size_t i; } gguf_span;

const gguf_meta *gguf_metadata(const ern_gguf *g) { return &g->parts[0]->meta; }

static void part_close(gguf_part *p) {
    if (!p) return;
    gguf_meta_deinit(&p->meta);
    free(p->arena.text);
    free(p->arena.lists);
    file_unmap(&p->map);
    free(p);
}

void gguf_close(ern_gguf *g) {
    if (!g) return;
    for (size_t i = 0; i < g->n_parts; i++) part_close(g->parts[i]);
    names_deinit(&g->names);
    free(g->parts);
    free(g->views);
    free(g);
}

static bool read_header(ern_cursor *c, size_t *n_tensors, size_t *n_keys, ern_err *e) {
    uint32_t magic, version;
    uint64_t tensors, keys;
    if (!cursor_u32(c, &magic, e)) return false;
    if (magic != GGUF_MAGIC)
        return ern_fail(e, ERN_FORMAT, "%s: not a GGUF file: begins with bytes %02x %02x %02x %02x, \"GGUF\" wanted",
                        c->name, magic & 255, magic >> 8 & 255, magic >> 16 & 255, magic >> 24);
    if (!cursor_u32(c, &version, e)) return false;
    if (version && (version & 0xffff) == 0)
        return ern_fail(e, ERN_MISSING, "%s: a big-endian GGUF file; little-endian ones can be read", c->name);
    if (version != 2 && version != 3)
        return ern_fail(e, ERN_MISSING, "%s: GGUF version %u, 2 or 3 wanted", c->name, version);
    if (!cursor_u64(c, &tensors, e) || !cursor_u64(c, &keys, e)) return false;
    const size_t left = c->size - c->pos;
    if (keys > left / MIN_KEY_BYTES || tensors > left / MIN_TENSOR_BYTES)
        return ern_fail(e, ERN_FORMAT, "%s: claims %llu keys and %llu tensors, the file has %zu bytes left", c->name,
                        (unsigned long long)keys, (unsigned long long)tensors, left);
    *n_tensors = (size_t)tensors;
    *n_keys = (size_t)keys;
    return true;
}

/* v without its data; *offset from the start of the data. */
static bool read_tensor(ern_view *v, uint64_t *offset, ern_cursor *c, gguf_arena *a, ern_err *e) {
    const size_t at = c->pos;
    uint32_t n_dims, type;
    if (!gguf_name(c, a, GGUF_MAX_NAME, "tensor name", &v->name, e)) return false;
    if (!cursor_u32(c, &n_dims, e)) return false;
    if (n_dims > ERN_MAX_DIMS)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %s at byte %zu: %u dimensions, at most %d", c->name, v->name, at, n_dims,
                        ERN_MAX_DIMS);
    v->n_dims = n_dims;
    for (uint32_t i = n_dims; i > 0; i--) {
        uint64_t dim;
        if (!cursor_u64(c, &dim, e)) return false;
        if (dim > SIZE_MAX / 2)
            return ern_fail(e, ERN_LIMIT, "%s: tensor %s at byte %zu: a dimension of %llu", c->name, v->name, at,
                            (unsigned long long)dim);
        v->dims[i - 1] = (size_t)dim;
    }
    if (!cursor_u32(c, &type, e) || !cursor_u64(c, offset, e)) return false;
    if (!dtype_from_gguf(&v->dtype, type, NULL))
        return ern_fail(e, ERN_MISSING, "%s: tensor %s: type %u is not a number format known here", c->name, v->name, type);
    return shape_bytes(&v->size_bytes, v->dtype, v->n_dims, v->dims, c->name, v->name, e);
}

/* Everything before the data, into a; kv and views are NULL while measuring. */
static bool walk(ern_cursor *c, gguf_arena *a, gguf_meta *m, size_t n_keys, ern_view *views, gguf_span *spans,
                 size_t n_tensors, ern_err *e) {
    if (!gguf_meta_read(m, c, a, n_keys, e)) return false;
    for (size_t i = 0; i < n_tensors; i++) {
        ern_view v = { 0 };
        uint64_t offset = 0;
        if (!read_tensor(&v, &offset, c, a, e)) return false;
        if (!views) continue;
        views[i] = v;
        spans[i] = (gguf_span){ offset, v.size_bytes, i };
    }
    return true;
}

static int by_offset(const void *a, const void *b) {
    const gguf_span *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);       /* empty tensors before what starts at the same place */
}

/* Give every view its data: inside the file, aligned, none over another. */
static bool place(ern_view *views, gguf_span *spans, size_t n, const ern_cursor *c, const gguf_meta *m, ern_err *e) {
    uint64_t align = GGUF_ALIGNMENT;
    if (gguf_meta_find(m, "general.alignment") && !gguf_meta_u64(m, "general.alignment", &align)) align = 0;
    if (align == 0 || align > GGUF_MAX_ALIGNMENT || (align & (align - 1)))
        return ern_fail(e, ERN_FORMAT, "%s: general.alignment %llu, a power of 2 up to %d wanted", c->name,
                        (unsigned long long)align, GGUF_MAX_ALIGNMENT);
    const size_t pad = (size_t)((align - c->pos % align) % align);
    if (n && pad > c->size - c->pos)
        return ern_fail(e, ERN_FORMAT, "%s: ends at byte %zu, before the tensors' data", c->name, c->size);
    const size_t start = c->pos + pad, room = n ? c->size - start : 0;
    for (size_t i = 0; i < n; i++) {
        ern_view *v = &views[i];
        if (spans[i].offset % align)
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s: offset %llu, a multiple of %llu wanted", c->name, v->name,
                            (unsigned long long)spans[i].offset, (unsigned long long)align);
        if (spans[i].offset > room || v->size_bytes > room - spans[i].offset)
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s: %zu bytes at offset %llu, the file has %zu bytes of data",
                            c->name, v->name, v->size_bytes, (unsigned long long)spans[i].offset, room);
        v->data = c->data + start + spans[i].offset;
    }
    if (n) qsort(spans, n, sizeof *spans, by_offset);
    for (size_t i = 1; i < n; i++)
        if (spans[i - 1].size > spans[i].offset - spans[i - 1].offset)
            return ern_fail(e, ERN_FORMAT, "%s: tensors %s and %s lie over each other at offset %llu", c->name,
                            views[spans[i - 1].i].name, views[spans[i].i].name, (unsigned long long)spans[i].offset);
    return true;
}

/* Parse one file and append its tensors to g. */
static bool read_part(ern_gguf *g, gguf_part *p, const void *bytes, size_t n, const char *name, ern_err *e) {
    ern_cursor c = { .data = bytes, .size = n, .name = name };
    size_t n_tensors = 0, n_keys = 0;
    gguf_arena size = { 0 };
    gguf_meta none = { 0 };
    gguf_span *spans = NULL;
    bool ok = false;
    if (!read_header(&c, &n_tensors, &n_keys, e)) return false;
    const size_t start = c.pos;
    if (!walk(&c, &size, &none, n_keys, NULL, NULL, n_tensors, e)) return false;
    if (!(p->arena.text = mem_zalloc(size.text_n, 1, "GGUF texts", e)) ||
        !(p->arena.lists = mem_zalloc(size.lists_n, sizeof *p->arena.lists, "GGUF lists of texts", e)) ||
        !(p->meta.kv = mem_zalloc(n_keys, sizeof *p->meta.kv, "GGUF keys", e)) ||
        !(spans = mem_zalloc(n_tensors, sizeof *spans, "GGUF tensors", e))) goto out;
    ern_view *views = mem_grow(g->views, g->n_views + n_tensors, sizeof *views, "GGUF tensors", e);
    if (!views) goto out;
    g->views = views;
    views += g->n_views;
    c.pos = start;
    if (!walk(&c, &p->arena, &p->meta, n_keys, views, spans, n_tensors, e)) goto out;
    if (!place(views, spans, n_tensors, &c, &p->meta, e)) goto out;
    g->n_views += n_tensors;
    ok = true;
out:
    free(spans);
    return ok;
}

static gguf_part *add_part(ern_gguf *g, ern_err *e) {
    gguf_part **parts = mem_grow(g->parts, g->n_parts + 1, sizeof *parts, "GGUF parts", e);
    if (!parts) return NULL;
    g->parts = parts;
    if (!(parts[g->n_parts] = mem_zalloc(1, sizeof **parts, "GGUF part", e))) return NULL;
    return parts[g->n_parts++];
}

static bool open_part(ern_gguf *g, const char *path, ern_err *e) {
    gguf_part *p = add_part(g, e);
    return p && file_map(&p->map, path, e) && read_part(g, p, p->map.data, p->map.size_bytes, path, e);
}

static bool index_views(ern_gguf *g, const char *name, ern_err *e) {
    for (size_t i = 0; i < g->n_views; i++)
        if (!names_add(&g->names, g->views[i].name, i, e)) return false;
    const char *twice = names_sort(&g->names);
    return !twice || ern_fail(e, ERN_FORMAT, "%s: tensor %s comes twice", name, twice);
}

/* "NAME-00002-of-00003.gguf" -> length of NAME; 0: the path is not of this form. */
static size_t split_stem(const char *path, unsigned *no, unsigned *count) {
    const size_t n = strlen(path), tail = strlen("-00001-of-00002.gguf");
    int used = 0;
    if (n <= tail || sscanf(path + n - tail, "-%5u-of-%5u.gguf%n", no, count, &used) != 2 || (size_t)used != tail) return 0;
    return n - tail;
}

static bool check_part(const ern_gguf *g, const char *path, uint64_t no, uint64_t count, ern_err *e) {
    const gguf_meta *m = &g->parts[g->n_parts - 1]->meta;
    uint64_t got_no = 0, got_count = 0;
    gguf_meta_u64(m, "split.no", &got_no);
    gguf_meta_u64(m, "split.count", &got_count);
    return (got_no == no && got_count == count) ||
           ern_fail(e, ERN_FORMAT,
                    "%s: is part %llu of %llu by its keys split.no and split.count, part %llu of %llu wanted", path,
                    (unsigned long long)got_no + 1, (unsigned long long)got_count, (unsigned long long)no + 1,
                    (unsigned long long)count);
}

/* g holds the part at path alone; becomes all count parts in order. */
static bool open_siblings(ern_gguf *g, const char *path, uint64_t no, uint64_t count, ern_err *e) {
    ern_buf sibling = { .max = 65536 };
    unsigned name_no = 0, name_count = 0;
    bool ok = false;
    const size_t stem = split_stem(path, &name_no, &name_count);
    if (!stem || name_count != count || count > MAX_PARTS || name_no != no + 1) {
        ern_fail(e, ERN_FORMAT, "%s: is part %llu of %llu by its keys; a name ending in -%05llu-of-%05llu.gguf wanted", path,
                 (unsigned long long)no + 1, (unsigned long long)count, (unsigned long long)no + 1,
                 (unsigned long long)count);
        goto out;
    }
    if (no != 0) {
        part_close(g->parts[0]);
        g->n_parts = g->n_views = 0;
    }
    for (uint64_t i = g->n_parts; i < count; i++) {
        buf_clear(&sibling);
        if (!buf_add(&sibling, path, stem, e) || !buf_printf(&sibling, e, "-%05llu-of-%05llu.gguf",
                                                             (unsigned long long)i + 1, (unsigned long long)count)) goto out;
        if (!open_part(g, sibling.data, e) || !check_part(g, sibling.data, i, count, e)) goto out;
    }
    uint64_t total = g->n_views;
    gguf_meta_u64(gguf_metadata(g), "split.tensors.count", &total);
    ok = total == g->n_views || ern_fail(e, ERN_FORMAT, "%s: the parts hold %zu tensors, split.tensors.count says %llu",
                                         path, g->n_views, (unsigned long long)total);
out:
    buf_deinit(&sibling);
    return ok;
}

ern_gguf *gguf_open(const char *path, ern_err *e) {
    uint64_t no = 0, count = 1;
    ern_gguf *g = mem_zalloc(1, sizeof *g, "GGUF", e);
    if (!g) return NULL;
    bool ok = open_part(g, path, e);
    if (ok) {
        gguf_meta_u64(gguf_metadata(g), "split.no", &no);
        gguf_meta_u64(gguf_metadata(g), "split.count", &count);
    }
    ok = ok && (count <= 1 || open_siblings(g, path, no, count, e)) && index_views(g, path, e);
    if (ok) return g;
    gguf_close(g);
    return NULL;
}

ern_gguf *gguf_parse(const void *bytes, size_t n, const char *name, ern_err *e) {
    ern_gguf *g = mem_zalloc(1, sizeof *g, "GGUF", e);
    if (!g) return NULL;
    gguf_part *p = add_part(g, e);
    if (p && read_part(g, p, bytes, n, name, e) && index_views(g, name, e)) return g;
    gguf_close(g);
    return NULL;
}

size_t gguf_n_tensors(const ern_gguf *g) { return g->n_views; }

const ern_view *gguf_tensor(const ern_gguf *g, size_t i) { return i < g->n_views ? &g->views[i] : NULL; }

const ern_view *gguf_find(const ern_gguf *g, const char *name) {
    size_t i;
    return names_find(&g->names, name, &i) ? &g->views[i] : NULL;
}
