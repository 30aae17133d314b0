#include "engine/tracefile.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "formats/safetensors_write.h"

#define MAX_ARRAYS 65536
#define MAX_TRACE_BYTES ((size_t)64 << 30)

typedef struct { char *name; bool is_int; size_t rows, cols; char *data; } array;       /* [rows, cols] of 4 bytes */

struct trace {
    const char *only;
    array *list;
    size_t n, n_bytes;
    size_t next;                /* the arrays of every chunk come in the same order */
};

static array *find_array(struct trace *t, const char *name, bool is_int, size_t cols, ern_err *e) {
    if (t->next < t->n && strcmp(t->list[t->next].name, name) == 0) return &t->list[t->next++];
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->list[i].name, name) == 0) {
            t->next = i + 1;
            return &t->list[i];
        }
    if (t->n >= MAX_ARRAYS) {
        ern_fail(e, ERN_LIMIT, "trace: more than %d arrays", MAX_ARRAYS);
        return NULL;
    }
    array *p = mem_grow(t->list, t->n + 1, sizeof *p, "trace", e);
    if (!p) return NULL;
    t->list = p;
    p = &t->list[t->n];
    *p = (array){ .name = mem_strndup(name, strlen(name), e), .is_int = is_int, .cols = cols };
    if (!p->name) return NULL;
    t->next = ++t->n;
    return p;
}

static bool keep(void *ctx, const char *name, const void *data, bool is_int, size_t n_rows, size_t n_cols, ern_err *e) {
    struct trace *t = ctx;
    if (n_rows == 0 || (t->only && fnmatch(t->only, name, 0) != 0)) return true;
    array *a = find_array(t, name, is_int, n_cols, e);
    if (!a) return false;
    const size_t bytes = n_rows * n_cols * 4, before = a->rows * n_cols * 4;
    if (bytes > MAX_TRACE_BYTES - t->n_bytes)
        return ern_fail(e, ERN_LIMIT, "trace: more than %zu bytes; choose arrays with --only", MAX_TRACE_BYTES);
    char *p = mem_grow(a->data, before + bytes, 1, name, e);
    if (!p) return false;
    a->data = p;
    memcpy(a->data + before, data, bytes);
    a->rows += n_rows;
    t->n_bytes += bytes;
    return true;
}

static bool run_model(ern_engine *eng, struct trace *t, const int32_t *ids, size_t n, ern_err *e) {
    const ern_config *c = &eng->model->c;
    const size_t rows_max = n < eng->max_batch ? n : eng->max_batch;
    const bool wants_logits = !t->only || fnmatch(t->only, "logits", 0) == 0;
    ern_kv kv = { 0 };
    float *logits = NULL;
    bool ok = false;
    model_row *rows = mem_zalloc(rows_max, sizeof *rows, "rows", e);
    if (!rows || !(logits = mem_zalloc((wants_logits ? rows_max : 1) * c->n_vocab, sizeof *logits, "logits", e))) goto out;
    if (!kv_init(&kv, c, n, DTYPE_F32, e)) goto out;
    for (size_t at = 0; at < n;) {
        const size_t T = n - at < rows_max ? n - at : rows_max;
        for (size_t i = 0; i < T; i++)
            rows[i] = (model_row){ .id = ids[at + i], .pos = at + i, .kv = &kv, .wants_logits = wants_logits };
        t->next = 0;
        if (!engine_forward(eng, rows, T, wants_logits ? logits : NULL, keep, t, e)) goto out;
        at += T;
    }
    ok = true;
out:
    kv_deinit(&kv);
    free(logits);
    free(rows);
    return ok;
}

static bool write_arrays(const struct trace *t, const char *path, ern_err *e) {
    ern_view *views = mem_zalloc(t->n ? t->n : 1, sizeof *views, "trace", e);
    if (!views) return false;
    for (size_t i = 0; i < t->n; i++) {
        const array *a = &t->list[i];
        const bool is_vector = a->is_int && strcmp(a->name, "ids") == 0;
        views[i] = (ern_view){ .name = a->name, .dtype = a->is_int ? DTYPE_I32 : DTYPE_F32, .n_dims = is_vector ? 1 : 2,
                               .data = a->data,
                               .size_bytes = a->rows * a->cols * 4 };
        views[i].dims[0] = a->rows;
        if (!is_vector) views[i].dims[1] = a->cols;
    }
    const bool ok = safetensors_write(path, views, t->n, e);
    free(views);
    return ok;
}

bool tracefile_write(ern_engine *eng, const int32_t *ids, size_t n, const char *only, const char *path,
                     tracefile_result *out, ern_err *e) {
    struct trace t = { .only = only };
    bool ok = false;
    if (n == 0) return ern_fail(e, ERN_ARG, "trace: at least one token id wanted");
    if (n > eng->model->c.max_positions)
        return ern_fail(e, ERN_LIMIT, "trace: %zu tokens, the model was trained for %zu", n, eng->model->c.max_positions);
    if (!keep(&t, "ids", ids, true, n, 1, e) || !run_model(eng, &t, ids, n, e)) goto out;
    if (t.n == 0) { ern_fail(e, ERN_NOTFOUND, "trace: no array is named like \"%s\"", only); goto out; }
    if (!write_arrays(&t, path, e)) goto out;
    if (out) *out = (tracefile_result){ t.n, t.n_bytes };
    ok = true;
out:
    for (size_t i = 0; i < t.n; i++) {
        free(t.list[i].name);
        free(t.list[i].data);
    }
    free(t.list);
    return ok;
}
