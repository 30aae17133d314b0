/* The weights in packed form: one region of memory for all matrices, filled in the order of the file, each file page
 * dropped once it is read. */
#include <sys/mman.h>

#include "base/sys.h"
#include "model/encoder.h"
#include "model/weights.h"

/* Called for every matrix of the model in turn. */
typedef bool (*matrix_fn)(void *ctx, ern_matrix *m, ern_err *e);

static bool each_mlp(model_mlp *mlp, matrix_fn fn, void *ctx, ern_err *e) {
    return fn(ctx, &mlp->gate.m, e) && fn(ctx, &mlp->up.m, e) && fn(ctx, &mlp->down.m, e);
}

static bool each_matrix(ern_model *m, matrix_fn fn, void *ctx, ern_err *e) {
    for (size_t i = 0; m->layers && i < m->c.n_layers; i++) {
        model_layer *l = &m->layers[i];
        if (!fn(ctx, &l->q.m, e) || !fn(ctx, &l->k.m, e) || !fn(ctx, &l->v.m, e) || !fn(ctx, &l->o.m, e)) return false;
        if (l->mlp.gate.w.data && !each_mlp(&l->mlp, fn, ctx, e)) return false;
        for (size_t x = 0; l->experts && x < m->c.n_experts; x++)
            if (!each_mlp(&l->experts[x], fn, ctx, e)) return false;
    }
    return !m->layers || fn(ctx, &m->output_matrix, e);
}

struct packing { const ern_source *source; const ern_kernels *k; ern_pool *pool; char *at; size_t bytes; };

static bool add_size(void *ctx, ern_matrix *m, ern_err *e) {
    struct packing *p = ctx;
    (void)e;
    p->bytes += matrix_packed_bytes(m, p->k);
    return true;
}

static void release(void *ctx, const ern_view *rows) { source_release(((struct packing *)ctx)->source, rows); }

static bool pack(void *ctx, ern_matrix *m, ern_err *e) {
    struct packing *p = ctx;
    const size_t bytes = matrix_packed_bytes(m, p->k);
    if (bytes == 0) return true;
    if (!matrix_pack(m, p->k, p->pool, p->at, release, p, e)) return false;
    p->at += bytes;
    return true;
}

static bool forget(void *ctx, ern_matrix *m, ern_err *e) {
    (void)ctx;
    (void)e;
    const ern_view view = m->view;
    *m = view.n_dims == 2 ? matrix_of(&view) : (ern_matrix){ 0 };
    return true;
}

bool model_pack(ern_model *m, const ern_kernels *k, ern_pool *pool, size_t max_bytes, ern_err *e) {
    struct packing p = { .source = m->source, .k = k, .pool = pool };
    if (m->packed || !each_matrix(m, add_size, &p, e) || p.bytes == 0) return true;
    /* A packed copy that does not fit would be swapped or killed; the map is read again page by page instead. */
    m->is_streamed = p.bytes > (max_bytes ? max_bytes : sys_memory_available() / 16 * 15);
    if (m->is_streamed) return true;
    void *memory = mmap(NULL, p.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return ern_fail(e, ERN_NOMEM, "%s: no memory for %zu bytes of packed weights", source_path(m->source), p.bytes);
    (void)madvise(memory, p.bytes, MADV_HUGEPAGE);
    m->packed = p.at = memory;
    m->packed_bytes = p.bytes;
    return each_matrix(m, pack, &p, e);
}

void model_unpack(ern_model *m) {
    (void)each_matrix(m, forget, NULL, NULL);
    if (m->packed) munmap(m->packed, m->packed_bytes);
    m->packed = NULL;
    m->packed_bytes = 0;
}
