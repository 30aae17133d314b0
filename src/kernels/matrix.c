/* Matrices prepared once, and one parallel region for the products of many: quantise the inputs, meet, then deal the panels
 * of all matrices to whichever thread is free. */
#include "kernels/matrix.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/matmul_panel.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define PACK_SLICE ((size_t)16 << 20)
#define SPIN_ROUNDS 2000            /* about 50 us; then the processor is lent to others */
#define CHUNKS_A_THREAD 8           /* parts that the work is dealt in: small enough to even out a slow core */
#define CHUNKS_FEW_TOKENS 4         /* the same when memory is the limit: each part starts without its first weights at hand */
#define FEW_TOKENS 8
#define SERIAL_VALUES 16384         /* inputs up to this size are quantised before the region starts */
#define SWIGLU_COST 4               /* of a value, against quantising it */

/* ---- preparing ---------------------------------------------------------------------------------- */

struct pack_job { const ern_matrix *m; size_t first, n; };

static void pack_part(void *ctx, size_t thread, size_t n_threads) {
    const struct pack_job *j = ctx;
    const ern_matrix *m = j->m;
    size_t from, to;
    pool_part(j->n, 1, thread, n_threads, &from, &to);
    for (size_t p = j->first + from; p < j->first + to; p++)
        panel_pack(m->packed + p * m->panel_bytes, (enum panel_kind)m->kind, &m->view, p);
}

ern_matrix matrix_of(const ern_view *w) {
    return (ern_matrix){ .view = *w, .R = w->dims[0], .C = w->dims[1], .kind = PANEL_NONE };
}

bool matrix_rounds(const ern_matrix *m) { return m->packed && m->kind < PANEL_N_INT; }

static enum panel_kind best_kind(const ern_matrix *m, const ern_kernels *k) {
    const enum panel_kind kind = k->panels && m->R && m->C ? panel_kind_of(m->view.dtype) : PANEL_NONE;
    if ((kind == PANEL_BF16 && !k->panels->gemm_bf16) || (kind == PANEL_F16 && !k->panels->gemm_f16)) return PANEL_NONE;
    return kind;
}

size_t matrix_packed_bytes(const ern_matrix *m, const ern_kernels *k) {
    const enum panel_kind kind = best_kind(m, k);
    return kind == PANEL_NONE ? 0 : (m->R + PANEL_ROWS - 1) / PANEL_ROWS * panel_bytes_of(kind, m->C);
}

/* In slices, so that little is in memory in both forms. */
static void pack_all(const ern_matrix *m, ern_pool *pool, matrix_done_fn done, void *ctx) {
    const size_t slice = PACK_SLICE / m->panel_bytes + 1, row_bytes = view_row_bytes(&m->view);
    for (size_t p = 0; p < m->n_panels; p += slice) {
        struct pack_job j = { m, p, m->n_panels - p < slice ? m->n_panels - p : slice };
        pool_run(pool, pack_part, &j);
        if (!done) continue;
        ern_view rows = m->view;
        const size_t r0 = p * PANEL_ROWS, r1 = (p + j.n) * PANEL_ROWS;
        rows.dims[0] = (r1 < m->R ? r1 : m->R) - r0;
        rows.data = (const uint8_t *)m->view.data + r0 * row_bytes;
        rows.size_bytes = rows.dims[0] * row_bytes;
        done(ctx, &rows);
    }
}

bool matrix_pack(ern_matrix *m, const ern_kernels *k, ern_pool *pool, void *memory, matrix_done_fn done, void *ctx,
                 ern_err *e) {
    const enum panel_kind kind = best_kind(m, k);
    const size_t size = matrix_packed_bytes(m, k);
    if (kind == PANEL_NONE || m->packed) return true;
    if (!memory) {
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return ern_fail(e, ERN_NOMEM, "no memory for %zu bytes of packed weights of %s", size,
                            m->view.name ? m->view.name : "a matrix");
        if (size >= HUGE_PAGE) (void)madvise(memory, size, MADV_HUGEPAGE);
        m->owns_packed = true;
    }
    m->kind = (int)kind;
    m->n_panels = (m->R + PANEL_ROWS - 1) / PANEL_ROWS;
    m->panel_bytes = panel_bytes_of(kind, m->C);
    m->packed = memory;
    pack_all(m, pool, done, ctx);
    return true;
}

void matrix_deinit(ern_matrix *m) {
    if (m->owns_packed) munmap(m->packed, m->n_panels * m->panel_bytes);
    *m = (ern_matrix){ 0 };
}

/* ---- products ----------------------------------------------------------------------------------- */

struct work {
    const ern_kernels *k;
    const matmul_input *inputs;
    const matmul_item *items;
    size_t n_inputs, n_items, n_rows;
    act_block *act;                     /* blocks of all rows of all inputs */
    uint16_t *halves;                   /* the same rows in bf16 */
    const void **token;                 /* [sum of T] */
    float **y;                          /* [sum of T] */
    uint8_t *buffers;                   /* one a thread */
    size_t buffer_bytes, n_chunks, chunk_work;
    bool exact, needs_blocks, needs_halves, is_prepared;
    atomic_size_t n_arrived, next;
};

static size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }
static size_t act_blocks(size_t C) { return (C + 255) / 256 * 8; }
static bool is_packed(const struct work *w, const ern_matrix *m) { return m->packed && !w->exact; }

size_t matmul_many_bytes(const ern_pool *pool, size_t n_rows, size_t C, size_t n_tokens) {
    return n_rows * act_blocks(C) * (sizeof(act_block) + 64) + round_up(n_tokens * 2 * sizeof(void *), 64) +
           pool_n(pool) * round_up(PANEL_BUFFER_BYTES(C), 64) + 192;
}

static const float *input_row(const matmul_input *in, size_t row) {
    return (in->swiglu ? in->swiglu : in->x) + row * in->stride;
}

static void prepare_row(const struct work *w, size_t row) {
    size_t block = 0;
    for (size_t i = 0; i < w->n_inputs; i++) {
        const matmul_input *in = &w->inputs[i];
        if (row < in->n_rows) {
            const float *x = input_row(in, row);
            block += row * act_blocks(in->C);
            if (in->swiglu) w->k->silu_mul(in->swiglu + row * in->stride, x, in->x + row * in->stride, in->C);
            if (w->needs_blocks) w->k->panels->quant(w->act + block, x, in->C);
            if (w->needs_halves) w->k->panels->to_bf16(w->halves + 32 * block, x, in->C);
            return;
        }
        row -= in->n_rows;
        block += in->n_rows * act_blocks(in->C);
    }
}

/* Panels (or groups of rows) of an item and the work of one, in 16-row columns times tokens. */
static size_t item_panels(const matmul_item *it) { return it->T ? (it->w->R + PANEL_ROWS - 1) / PANEL_ROWS : 0; }
static size_t panel_work(const matmul_item *it) { return (it->w->C + 1) * (it->T + 4); }
static size_t chunk_panels(const struct work *w, const matmul_item *it) {
    const size_t n = w->chunk_work / panel_work(it) / 2 * 2;
    return n < 2 ? 2 : n;
}
static size_t item_chunks(const struct work *w, const matmul_item *it) {
    const size_t n = chunk_panels(w, it);
    return (item_panels(it) + n - 1) / n;
}

static void run_exact(const struct work *w, const matmul_item *it, size_t r0, size_t r1) {
    const ern_view *v = &it->w->view;
    const matmul_input *in = &w->inputs[it->input];
    const size_t row_bytes = view_row_bytes(v);
    if (!it->rows && in->stride == in->C) {
        w->k->gemm_f32(it->y, it->y_stride, input_row(in, it->first), it->T, v->data, v->dtype, row_bytes, in->C, r0, r1);
        return;
    }
    for (size_t t = 0; t < it->T; t++) {
        const size_t row = it->rows ? (size_t)it->rows[t] : it->first + t;
        w->k->gemm_f32(it->y + t * it->y_stride, it->y_stride, input_row(in, row), 1, v->data, v->dtype, row_bytes,
                       in->C, r0, r1);
    }
}

static void run_chunk(const struct work *w, size_t chunk, size_t thread) {
    const matmul_item *it = w->items;
    size_t token = 0;
    for (; chunk >= item_chunks(w, it); it++) {
        chunk -= item_chunks(w, it);
        token += it->T;
    }
    const size_t step = chunk_panels(w, it), n = item_panels(it), p0 = chunk * step, p1 = p0 + step < n ? p0 + step : n;
    const size_t r0 = p0 * PANEL_ROWS, r1 = p1 * PANEL_ROWS < it->w->R ? p1 * PANEL_ROWS : it->w->R;
    if (is_packed(w, it->w)) {
        const panel_job j = { .w = it->w, .act = w->token + token, .y = w->y + token, .T = it->T,
                              .buffer = w->buffers + thread * w->buffer_bytes };
        (it->w->kind == PANEL_BF16  ? w->k->panels->gemm_bf16
         : it->w->kind == PANEL_F16 ? w->k->panels->gemm_f16
                                    : w->k->panels->gemm)(&j, p0, p1);
    } else run_exact(w, it, r0, r1);
    for (size_t t = 0; it->bias && t < it->T; t++)
        for (size_t r = r0; r < r1; r++) it->y[t * it->y_stride + r] += it->bias[r];
}

static void relax(bool is_long) {
#if defined(__x86_64__)
    if (!is_long) { __builtin_ia32_pause(); return; }
#endif
    (void)is_long;
    sched_yield();
}

static void wait_all(struct work *w, size_t n_threads) {
    atomic_fetch_add_explicit(&w->n_arrived, 1, memory_order_acq_rel);
    for (unsigned i = 0; atomic_load_explicit(&w->n_arrived, memory_order_acquire) < n_threads; i++) relax(i > SPIN_ROUNDS);
}

static void many_part(void *ctx, size_t thread, size_t n_threads) {
    struct work *w = ctx;
    if (!w->is_prepared) {
        size_t from, to;
        pool_part(w->n_rows, 1, thread, n_threads, &from, &to);
        for (size_t row = from; row < to; row++) prepare_row(w, row);
        wait_all(w, n_threads);
    }
    for (;;) {
        const size_t chunk = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
        if (chunk >= w->n_chunks) return;
        run_chunk(w, chunk, thread);
    }
}

/* Where each token's activations are and where its results go. */
static void set_pointers(struct work *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->n_items; i++) {
        const matmul_item *it = &w->items[i];
        const matmul_input *in = &w->inputs[it->input];
        const bool is_half = it->w->kind == PANEL_BF16 && w->k->panels->to_bf16;
        size_t block = 0;
        for (size_t k = 0; k < it->input; k++) block += w->inputs[k].n_rows * act_blocks(w->inputs[k].C);
        for (size_t t = 0; t < it->T; t++, n++) {
            const size_t row = it->rows ? (size_t)it->rows[t] : it->first + t, at = block + row * act_blocks(in->C);
            w->token[n] = it->w->kind < PANEL_N_INT ? (const void *)(w->act + at)
                          : is_half                 ? (const void *)(w->halves + 32 * at)
                                                    : (const void *)input_row(in, row);
            w->y[n] = it->y + t * it->y_stride;
        }
    }
}

static void plan(struct work *w, size_t n_threads) {
    size_t all = 0, most_tokens = 0;
    for (size_t i = 0; i < w->n_items; i++) {
        all += item_panels(&w->items[i]) * panel_work(&w->items[i]);
        if (w->items[i].T > most_tokens) most_tokens = w->items[i].T;
    }
    w->chunk_work = all / (n_threads * (most_tokens > FEW_TOKENS ? CHUNKS_A_THREAD : CHUNKS_FEW_TOKENS)) + 1;
    for (size_t i = 0; i < w->n_items; i++) w->n_chunks += item_chunks(w, &w->items[i]);
}

void matmul_many(const ern_kernels *k, ern_pool *pool, const matmul_input *inputs, size_t n_inputs,
                 const matmul_item *items, size_t n_items, bool exact, void *scratch) {
    struct work w = { .k = k, .inputs = inputs, .items = items, .n_inputs = n_inputs, .n_items = n_items, .exact = exact };
    size_t n_blocks = 0, n_tokens = 0, n_values = 0, C = 0;
    bool has_packed = false, has_swiglu = false;
    for (size_t i = 0; i < n_items; i++) {
        const ern_matrix *m = items[i].w;
        n_tokens += items[i].T;
        if (!is_packed(&w, m)) continue;
        has_packed = true;
        w.needs_blocks = w.needs_blocks || m->kind < PANEL_N_INT;
        w.needs_halves = w.needs_halves || (m->kind == PANEL_BF16 && k->panels->to_bf16);
    }
    for (size_t i = 0; i < n_inputs; i++) {
        w.n_rows += inputs[i].n_rows;
        n_blocks += inputs[i].n_rows * act_blocks(inputs[i].C);
        n_values += inputs[i].n_rows * inputs[i].C * (inputs[i].swiglu ? SWIGLU_COST : 1);
        has_swiglu = has_swiglu || inputs[i].swiglu;
        if (inputs[i].C > C) C = inputs[i].C;
    }
    plan(&w, pool_n(pool));
    w.halves = scratch;
    w.act = (void *)(w.halves + 32 * n_blocks);
    w.token = (void *)(w.act + round_up(n_blocks, 4));
    w.y = (void *)(w.token + n_tokens);
    w.buffers = (uint8_t *)w.token + round_up(n_tokens * 2 * sizeof(void *), 64);
    w.buffer_bytes = round_up(PANEL_BUFFER_BYTES(C), 64);
    const bool is_ready = !w.needs_blocks && !w.needs_halves && !has_swiglu;
    w.is_prepared = is_ready || n_values <= SERIAL_VALUES;
    if (has_packed) set_pointers(&w);
    if (w.is_prepared && !is_ready)
        for (size_t row = 0; row < w.n_rows; row++) prepare_row(&w, row);
    pool_run(pool, many_part, &w);
}
