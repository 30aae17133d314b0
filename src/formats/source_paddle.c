/* The -Paddle layout: names begin with "ernie.", q, k and v (gate and up) are one matrix, matrices are [in, out].
 * They are split and transposed once into memory of the source; vectors and the embedding stay views into the map. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/pool.h"
#include "formats/layout.h"
#include "formats/source_int.h"

#define NAME_BYTES 512
#define ALIGN 64                            /* bytes; of every transposed matrix */
#define TILE 64                             /* elements a side, copied together before they are turned */
#define THREADS_FROM_BYTES ((size_t)8 << 20)

typedef struct {
    size_t view;                /* where the result goes in s->views */
    size_t offset;              /* in s->owned */
    const char *from;           /* first element of the columns that are wanted */
    size_t n_in, n_out;         /* rows and wanted columns of the source */
    size_t stride, width;       /* bytes of a source row and of an element */
    const ern_view *matrix;     /* that from lies in: all jobs of a matrix belong to one thread */
    size_t matrix_no;
} paddle_job;

typedef struct {
    ern_source *s;
    paddle_job *jobs;
    size_t n, cap, bytes;
    size_t n_heads, n_kv_heads; /* 0: not known */
    const ern_view *matrix;     /* of the file, the one that is planned now */
    size_t matrix_no;
    bool is_vision;             /* a VL model: its routers are [in, out] in both layouts */
} paddle_plan;

/* Rows of a matrix are often a multiple of 4 KiB apart, where they push each other out of the cache: a tile is read row by
 * row into one place, and written row by row from there. */
static inline void transpose_tiles(char *to, const paddle_job *j, size_t width) {
    char tile[TILE * TILE * 8];
    for (size_t c0 = 0; c0 < j->n_out; c0 += TILE)
        for (size_t r0 = 0; r0 < j->n_in; r0 += TILE) {
            const size_t n_r = j->n_in - r0 < TILE ? j->n_in - r0 : TILE, n_c = j->n_out - c0 < TILE ? j->n_out - c0 : TILE;
            for (size_t r = 0; r < n_r; r++)
                memcpy(tile + r * TILE * width, j->from + (r0 + r) * j->stride + c0 * width, n_c * width);
            for (size_t c = 0; c < n_c; c++) {
                char *row = to + ((c0 + c) * j->n_in + r0) * width;
                for (size_t r = 0; r < n_r; r++) memcpy(row + r * width, tile + (r * TILE + c) * width, width);
            }
        }
}

/* The width is written out so that the copies become single moves. */
static void transpose(char *to, const paddle_job *j) {
    switch (j->width) {
    case 1: transpose_tiles(to, j, 1); break;
    case 2: transpose_tiles(to, j, 2); break;
    case 4: transpose_tiles(to, j, 4); break;
    default: transpose_tiles(to, j, 8); break;
    }
}

/* The pages that were read are not needed again: the model stays in memory once. */
static void drop_pages(const ern_view *v) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = ((uintptr_t)v->data + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)v->data + v->size_bytes) / page * page;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

static void run_jobs(void *ctx, size_t thread, size_t n_threads) {
    const paddle_plan *p = ctx;
    for (size_t i = 0; i < p->n; i++) {
        const paddle_job *j = &p->jobs[i];
        if (j->matrix_no % n_threads != thread) continue;
        transpose((char *)(uintptr_t)p->s->views[j->view].data, j);
        const bool is_last = i + 1 == p->n || p->jobs[i + 1].matrix_no != j->matrix_no;
        if (p->s->is_mapped && is_last) drop_pages(j->matrix);
    }
}

/* View name = columns [c0, c0 + n_out) of v, transposed later. */
static bool plan_columns(paddle_plan *p, const ern_view *v, const char *name, size_t c0, size_t n_out, ern_err *e) {
    const size_t width = dtype_info(v->dtype)->block_bytes;
    const ern_view out = { .name = name, .dtype = v->dtype, .n_dims = 2, .dims = { n_out, v->dims[0] },
                           .size_bytes = v->dims[0] * n_out * width };
    if (p->n == p->cap) {
        const size_t cap = p->cap ? 2 * p->cap : 256;
        paddle_job *jobs = mem_grow(p->jobs, cap, sizeof *jobs, "transposes", e);
        if (!jobs) return false;
        p->jobs = jobs;
        p->cap = cap;
    }
    p->jobs[p->n++] = (paddle_job){ .view = p->s->n, .offset = p->bytes, .from = (const char *)v->data + c0 * width,
                                    .n_in = v->dims[0], .n_out = n_out, .stride = v->dims[1] * width, .width = width,
                                    .matrix = p->matrix, .matrix_no = p->matrix_no };
    p->bytes += (out.size_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return source_add(p->s, &out, e);
}

/* Part [c0, c0 + n) of the columns of a matrix, or of a vector (a bias), which stays where it is. */
static bool add_part(paddle_plan *p, const ern_view *v, const char *name, size_t c0, size_t n, ern_err *e) {
    const size_t width = dtype_info(v->dtype)->block_bytes;
    if (v->n_dims == 2) return plan_columns(p, v, name, c0, n, e);
    const ern_view out = { .name = name, .dtype = v->dtype, .n_dims = 1, .dims = { n }, .size_bytes = n * width,
                           .data = (const char *)v->data + c0 * width };
    return source_add(p->s, &out, e);
}

static bool compose(char *out, const char *a, size_t n_a, const char *b, const char *c, const ern_source *s, ern_err *e) {
    const size_t n_b = strlen(b), n_c = strlen(c);
    if (n_a + n_b + n_c >= NAME_BYTES)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %.80s...: its name is longer than %d bytes", s->path, a, NAME_BYTES);
    memcpy(out, a, n_a);
    memcpy(out + n_a, b, n_b);
    memcpy(out + n_a + n_b, c, n_c + 1);
    return true;
}

/* name = STEM + fused + KIND (".weight", ".bias"): the parts take n[i] columns each. */
static bool split_fused(paddle_plan *p, const ern_view *v, const char *stem, size_t n_stem, const char *kind,
                        const char *const *parts, const size_t *n, size_t n_parts, ern_err *e) {
    size_t c0 = 0;
    for (size_t i = 0; i < n_parts; i++) {
        char name[NAME_BYTES];
        if (!compose(name, stem, n_stem, parts[i], kind, p->s, e) || !add_part(p, v, name, c0, n[i], e)) return false;
        c0 += n[i];
    }
    return true;
}

static bool split_qkv(paddle_plan *p, const ern_view *v, const char *name, size_t n_stem, const char *kind, ern_err *e) {
    static const char *const parts[] = { "q_proj", "k_proj", "v_proj" };
    const size_t heads = p->n_heads + 2 * p->n_kv_heads, width = v->dims[v->n_dims - 1];
    if (p->n_heads == 0)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: config.json with num_attention_heads is wanted to split it",
                        p->s->path, v->name);
    if (width % heads)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: %zu columns are no whole number of %zu + 2 * %zu heads", p->s->path,
                        v->name, width, p->n_heads, p->n_kv_heads);
    const size_t d = width / heads, n[] = { p->n_heads * d, p->n_kv_heads * d, p->n_kv_heads * d };
    return split_fused(p, v, name, n_stem, kind, parts, n, 3, e);
}

static bool split_up_gate(paddle_plan *p, const ern_view *v, const char *name, size_t n_stem, const char *kind, ern_err *e) {
    static const char *const parts[] = { "gate_proj", "up_proj" };
    const size_t width = v->dims[v->n_dims - 1];
    if (width % 2)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: %zu columns cannot be gate and up", p->s->path, v->name, width);
    const size_t n[] = { width / 2, width / 2 };
    return split_fused(p, v, name, n_stem, kind, parts, n, 2, e);
}

static bool ends_with(const char *name, const char *tail) {
    const size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

/* Every matrix is [in, out] but tables that are looked up by row, and a VL model's routers, which -PT has so as well. */
bool layout_paddle_transposes(const char *canonical, unsigned n_dims, bool is_vision) {
    if (n_dims != 2) return false;
    if (ends_with(canonical, "embed_tokens.weight") || ends_with(canonical, "position_embedding.weight")) return false;
    if (is_vision && (ends_with(canonical, "mlp.gate.weight") || ends_with(canonical, "mlp.gate.weight_1"))) return false;
    return ends_with(canonical, ".weight") || ends_with(canonical, ".weight_1");
}

static bool plan_tensor(paddle_plan *p, const ern_view *file_view, ern_err *e) {
    ern_view v = *file_view;
    char name[NAME_BYTES];
    const bool has_prefix = strncmp(v.name, "ernie.", 6) == 0;
    if (!compose(name, "", 0, has_prefix ? "model." : "", has_prefix ? v.name + 6 : v.name, p->s, e)) return false;
    if (v.dtype == DTYPE_U16) v.dtype = DTYPE_BF16;         /* Paddle's writer has no name for bf16 */
    const char *dot = strrchr(name, '.'), *kind = dot ? dot : "";
    const size_t n = dot ? (size_t)(dot - name) : strlen(name), qkv = strlen("qkv_proj"), up_gate = strlen("up_gate_proj");
    if (v.n_dims == 1 || v.n_dims == 2) {
        if (n > qkv && strncmp(name + n - qkv, "qkv_proj", qkv) == 0) return split_qkv(p, &v, name, n - qkv, kind, e);
        if (n > up_gate && strncmp(name + n - up_gate, "up_gate_proj", up_gate) == 0)
            return split_up_gate(p, &v, name, n - up_gate, kind, e);
    }
    if (layout_paddle_transposes(name, v.n_dims, p->is_vision)) return plan_columns(p, &v, name, 0, v.dims[1], e);
    v.name = name;
    return source_add(p->s, &v, e);
}

static size_t config_size(const json_t *config, const char *key, size_t fallback) {
    const json_t *v = config ? json_object_get(config, key) : NULL;
    if (!json_is_integer(v) || json_integer_value(v) <= 0 || json_integer_value(v) > 65536) return fallback;
    return (size_t)json_integer_value(v);
}

static bool run_plan(paddle_plan *p, ern_err *e) {
    ern_source *s = p->s;
    if (p->bytes > SIZE_MAX - ALIGN || !(s->owned = mem_zalloc(p->bytes + ALIGN, 1, "transposed matrices", e))) return false;
    char *base = (char *)s->owned + (ALIGN - (uintptr_t)s->owned % ALIGN) % ALIGN;
    for (size_t i = 0; i < p->n; i++) s->views[p->jobs[i].view].data = base + p->jobs[i].offset;
    ern_pool *pool = p->bytes >= THREADS_FROM_BYTES ? pool_open(pool_cores(), NULL) : NULL;
    if (pool) pool_run(pool, run_jobs, p);
    else run_jobs(p, 0, 1);
    pool_close(pool);
    return true;
}

bool source_from_paddle(ern_source *s, ern_err *e) {
    paddle_plan p = { .s = s };
    const size_t n = safetensors_n(s->safetensors);
    p.n_heads = config_size(s->config, "num_attention_heads", 0);
    p.n_kv_heads = config_size(s->config, "num_key_value_heads", p.n_heads);
    for (size_t i = 0; i < n; i++)
        if (ends_with(safetensors_at(s->safetensors, i)->name, "mlp.gate.weight_1")) p.is_vision = true;
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        p.matrix = safetensors_at(s->safetensors, i);
        p.matrix_no = i;
        ok = plan_tensor(&p, p.matrix, e);
    }
    ok = ok && run_plan(&p, e);
    free(p.jobs);
    return ok;
}
