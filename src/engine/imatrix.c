/* Importance matrices in memory and on disk. The file: keys general.type "imatrix", imatrix.datasets, imatrix.chunk_count,
 * imatrix.chunk_size and our ernie.imatrix.stamp; for each matrix NAME the tensors
 *     NAME.in_sum2  F32 [n_mats, n_cols]    sums of squared activations
 *     NAME.counts   F32 [n_mats, 1]         tokens seen */
#include "engine/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/imatrix_int.h"
#include "formats/gguf_write.h"

#define NAME_BYTES 256
#define MAX_VALUES ((size_t)1 << 32)            /* of one tensor; no released model comes near */

static const char sums_tail[] = ".in_sum2", counts_tail[] = ".counts", stamp_key[] = "ernie.imatrix.stamp";

imatrix_entry *imatrix_add(ern_imatrix *m, const char *name, size_t n_mats, size_t n_cols, ern_err *e) {
    if (m->n == m->cap) {
        const size_t cap = m->cap ? 2 * m->cap : 64;
        imatrix_entry *grown = mem_grow(m->entries, cap, sizeof *grown, "importance", e);
        if (!grown) return NULL;
        m->entries = grown;
        m->cap = cap;
    }
    if (n_cols == 0 || n_mats == 0 || n_mats > MAX_VALUES / n_cols) {
        ern_fail(e, ERN_FORMAT, "importance of %s: %zu matrices of %zu columns", name, n_mats, n_cols);
        return NULL;
    }
    imatrix_entry *t = &m->entries[m->n];
    *t = (imatrix_entry){ .n_mats = n_mats, .n_cols = n_cols };
    m->n++;                                     /* imatrix_close frees what there is of it */
    if (!(t->name = mem_strndup(name, strlen(name), e)) ||
        !(t->sums = mem_zalloc(n_mats * n_cols, sizeof *t->sums, "importance", e)) ||
        !(t->counts = mem_zalloc(n_mats, sizeof *t->counts, "importance", e))) return NULL;
    return t;
}

imatrix_entry *imatrix_find(const ern_imatrix *m, const char *name) {
    size_t i;
    return names_find(&m->names, name, &i) ? &m->entries[i] : NULL;
}

void imatrix_close(ern_imatrix *m) {
    if (!m) return;
    for (size_t i = 0; i < m->n; i++) {
        free(m->entries[i].name);
        free(m->entries[i].sums);
        free(m->entries[i].counts);
        free(m->entries[i].means);
    }
    free(m->entries);
    names_deinit(&m->names);
    free(m->dataset);
    free(m);
}

size_t imatrix_n(const ern_imatrix *m) { return m->n; }
size_t imatrix_n_chunks(const ern_imatrix *m) { return m->n_chunks; }
const char *imatrix_dataset(const ern_imatrix *m) { return m->dataset ? m->dataset : ""; }

bool imatrix_shape(const ern_imatrix *m, const char *gguf_name, size_t *n_mats, size_t *n_columns) {
    const imatrix_entry *t = imatrix_find(m, gguf_name);
    if (!t) return false;
    *n_mats = t->n_mats;
    *n_columns = t->n_cols;
    return true;
}

const float *imatrix_mean(const ern_imatrix *m, const char *gguf_name, size_t i, size_t n_columns) {
    const imatrix_entry *t = imatrix_find(m, gguf_name);
    if (!t || !t->means || t->n_cols != n_columns || i >= t->n_mats || !(t->counts[i] > 0.0)) return NULL;
    return t->means + i * t->n_cols;
}

/* ---- reading ----------------------------------------------------------------------------------- */

static bool read_entry(ern_imatrix *m, const ern_gguf *g, const ern_view *sums, const char *path, ern_err *e) {
    char name[NAME_BYTES];
    const size_t n = strlen(sums->name) - strlen(sums_tail), n_cols = sums->dims[sums->n_dims - 1];
    if (n + strlen(counts_tail) >= sizeof name)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %s: its name is longer than %d bytes", path, sums->name, NAME_BYTES);
    snprintf(name, sizeof name, "%.*s%s", (int)n, sums->name, counts_tail);
    const ern_view *counts = gguf_find(g, name);
    const size_t n_mats = n_cols ? view_n(sums) / n_cols : 0;
    if (!counts) return ern_fail(e, ERN_FORMAT, "%s: tensor %s is missing beside %s", path, name, sums->name);
    if (sums->dtype != DTYPE_F32 || counts->dtype != DTYPE_F32 || view_n(counts) != n_mats)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: F32 sums and one count for each of %zu matrices wanted", path,
                        sums->name, n_mats);
    name[n] = '\0';
    imatrix_entry *t = imatrix_add(m, name, n_mats, n_cols, e);
    if (!t || !(t->means = mem_zalloc(n_mats * n_cols, sizeof *t->means, "importance", e))) return false;
    const float *s = sums->data, *c = counts->data;
    for (size_t x = 0; x < n_mats; x++) {
        t->counts[x] = (double)c[x];
        for (size_t i = x * n_cols; i < (x + 1) * n_cols; i++) {
            if (!isfinite(s[i]) || s[i] < 0.0f || !(c[x] >= 0.0f) || !isfinite(c[x]))
                return ern_fail(e, ERN_FORMAT, "%s: tensor %s: value %zu is %g of %g tokens: 0 or more wanted", path,
                                sums->name, i, (double)s[i], (double)c[x]);
            t->sums[i] = (double)s[i];
            t->means[i] = c[x] > 0.0f ? (float)((double)s[i] / (double)c[x]) : 0.0f;
        }
    }
    return true;
}

static bool index_names(ern_imatrix *m, const char *path, ern_err *e) {
    for (size_t i = 0; i < m->n; i++)
        if (!names_add(&m->names, m->entries[i].name, i, e)) return false;
    const char *twice = names_sort(&m->names);
    return !twice || ern_fail(e, ERN_FORMAT, "%s: tensor %s is there twice", path, twice);
}

static bool read_keys(ern_imatrix *m, const ern_gguf *g, const char *path, ern_err *e) {
    const char *type = gguf_str(g, "general.type"), *stamp = gguf_str(g, stamp_key);
    const char *const *datasets = gguf_array_str(g, "imatrix.datasets");
    uint64_t v;
    if (!type || strcmp(type, "imatrix") != 0)
        return ern_fail(e, ERN_FORMAT, "%s: general.type is %s, imatrix wanted", path, type ? type : "missing");
    if (gguf_u64(g, "imatrix.chunk_count", &v) && v < SIZE_MAX) m->n_chunks = (size_t)v;
    if (gguf_u64(g, "imatrix.chunk_size", &v) && v < SIZE_MAX) m->chunk = (size_t)v;
    if (stamp) snprintf(m->stamp, sizeof m->stamp, "%s", stamp);
    const char *dataset = datasets && gguf_array_n(g, "imatrix.datasets") ? datasets[0] : "";
    return (m->dataset = mem_strndup(dataset, strlen(dataset), e)) != NULL;
}

ern_imatrix *imatrix_of_gguf(const ern_gguf *g, const char *path, ern_err *e) {
    ern_imatrix *m = mem_zalloc(1, sizeof *m, "importance", e);
    bool ok = m && read_keys(m, g, path, e);
    const size_t tail = strlen(sums_tail);
    for (size_t i = 0; ok && i < gguf_n_tensors(g); i++) {
        const ern_view *v = gguf_tensor(g, i);
        const size_t n = strlen(v->name);
        if (n > tail && v->n_dims > 0 && strcmp(v->name + n - tail, sums_tail) == 0) ok = read_entry(m, g, v, path, e);
    }
    if (ok && m->n == 0) ok = ern_fail(e, ERN_FORMAT, "%s: no tensor ends in %s: no importance in it", path, sums_tail);
    ok = ok && index_names(m, path, e);
    if (!ok) { imatrix_close(m); return NULL; }
    return m;
}

ern_imatrix *imatrix_read(const char *path, ern_err *e) {
    ern_gguf *g = gguf_open(path, e);
    ern_imatrix *m = g ? imatrix_of_gguf(g, path, e) : NULL;
    gguf_close(g);
    return m;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static bool declare(ern_gguf_writer *w, const imatrix_entry *t, const char *tail, size_t n_cols, ern_err *e) {
    char name[NAME_BYTES];
    const int used = snprintf(name, sizeof name, "%s%s", t->name, tail);
    if (used < 0 || (size_t)used >= sizeof name)
        return ern_fail(e, ERN_LIMIT, "tensor %s: its name is longer than %d bytes", t->name, NAME_BYTES);
    const ern_view v = { .name = name, .dtype = DTYPE_F32, .n_dims = 2, .dims = { t->n_mats, n_cols } };
    return gguf_writer_declare(w, &v, e);
}

static bool write_floats(ern_gguf_writer *w, const double *x, size_t n, ern_err *e) {
    float part[1024];
    for (size_t at = 0; at < n;) {
        size_t k = 0;
        for (; k < 1024 && at < n; k++) part[k] = (float)x[at++];
        if (!gguf_writer_data(w, part, k * sizeof *part, e)) return false;
    }
    return true;
}

bool imatrix_write(const ern_imatrix *m, const char *path, ern_err *e) {
    const char *dataset = imatrix_dataset(m);
    ern_gguf_writer *w = gguf_writer_open(path, e);
    bool ok = w && gguf_writer_str(w, "general.type", "imatrix", e) &&
              gguf_writer_array_str(w, "imatrix.datasets", &dataset, 1, e) &&
              gguf_writer_u32(w, "imatrix.chunk_count", (uint32_t)m->n_chunks, e) &&
              gguf_writer_u32(w, "imatrix.chunk_size", (uint32_t)m->chunk, e) &&
              (!*m->stamp || gguf_writer_str(w, stamp_key, m->stamp, e));
    for (size_t i = 0; ok && i < m->n; i++)
        ok = declare(w, &m->entries[i], sums_tail, m->entries[i].n_cols, e) && declare(w, &m->entries[i], counts_tail, 1, e);
    for (size_t i = 0; ok && i < m->n; i++) {
        const imatrix_entry *t = &m->entries[i];
        ok = write_floats(w, t->sums, t->n_mats * t->n_cols, e) && write_floats(w, t->counts, t->n_mats, e);
    }
    ok = ok && gguf_writer_finish(w, e);
    gguf_writer_close(w);
    return ok;
}
