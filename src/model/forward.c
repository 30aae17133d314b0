/* The loop over layers, as MODEL.md writes it. Letters: T rows, D hidden, F ffn, V vocabulary. */
#include "model/forward.h"

#include "base/buf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/forward_int.h"

#define MOE_ROWS 512            /* tokens that go through the experts together: enough for each to compute, not read */
#define FINE_ROWS 16            /* rows that go to the vocabulary at once in narrow models */
#define WIDEST_FINE 8192        /* outputs of a matrix that all rows of a batch are multiplied with at once there */
#define MAX_ROWS 4096           /* with the widths that config.c allows no size of the scratch wraps */

/* The largest of: a layer's projections of all rows, and the experts of moe_rows of them. */
static size_t products_bytes(const ern_work *w, const ern_config *c, size_t widest) {
    const size_t T = w->max_rows, M = w->moe_rows;
    const size_t dense = matmul_many_bytes(w->pool, w->is_narrow ? 2 * T : T, widest, 2 * MAX_LINEARS * T);
    if (c->n_experts == 0) return dense;
    const size_t narrow = c->hidden > c->expert_ffn ? c->hidden : c->expert_ffn,
        wide = c->shared_ffn > narrow ? c->shared_ffn : narrow;
    const size_t gate = matmul_many_bytes(w->pool, M, wide, 2 * M * (c->n_used + 1));
    const size_t down = matmul_many_bytes(w->pool, M * c->n_used, c->expert_ffn, M * (c->n_used + 1)) +
        matmul_many_bytes(w->pool, M, wide, 0);
    const size_t experts = gate > down ? gate : down;
    return dense > experts ? dense : experts;
}

/* Two passes over one list: the first adds up sizes, the second hands out pointers. */
static size_t lay_out(ern_work *w, const ern_config *c, char *base) {
    const size_t T = w->max_rows, D = c->hidden, Q = c->n_heads * c->head_dim, K = c->n_kv_heads * c->head_dim;
    size_t F = c->ffn > c->shared_ffn ? c->ffn : c->shared_ffn;
    if (c->expert_ffn > F) F = c->expert_ffn;
    size_t widest = F > Q ? F : Q;
    if (D > widest) widest = D;
    size_t used = 0;
#define TAKE(field, bytes) do { w->field = base ? (void *)(base + used) : NULL; used += ((bytes) + 63) / 64 * 64; } while (0)
    TAKE(x, T * D * sizeof(float));
    TAKE(h, T * D * sizeof(float));
    TAKE(y, T * D * sizeof(float));
    TAKE(q, T * Q * sizeof(float));
    TAKE(kk, T * K * sizeof(float));
    TAKE(vv, T * K * sizeof(float));
    TAKE(att, T * Q * sizeof(float));
    TAKE(gate, T * F * sizeof(float));
    TAKE(up, T * F * sizeof(float));
    if (w->is_narrow) {
        TAKE(rest, T * widest * sizeof(float));
        size_t wide = Q + 2 * K > 2 * F ? Q + 2 * K : 2 * F;
        if (wide < WIDEST_FINE) wide = WIDEST_FINE;
        const size_t all = T * wide > FINE_ROWS * c->n_vocab ? T * wide : FINE_ROWS * c->n_vocab;
        TAKE(rest_y, all * sizeof(float));
    }
    TAKE(angles, T * c->head_dim * sizeof(float));
    TAKE(jobs, T * sizeof(attention_job));
    TAKE(attention, attention_scratch_bytes(c->head_dim, c->n_heads, c->n_kv_heads, T, w->max_tokens, pool_n(w->pool)));
    TAKE(products, products_bytes(w, c, widest));
    TAKE(picked, T * D * sizeof(float));
    if (c->n_experts) {
        TAKE(probs, T * c->n_experts * sizeof(float));
        TAKE(weights, T * c->n_used * sizeof(float));
        TAKE(experts, T * c->n_used * sizeof(int32_t));
        const size_t M = w->moe_rows, rows = M * c->n_used;
        TAKE(gather, rows * sizeof(int32_t));
        TAKE(place, rows * sizeof(int32_t));
        TAKE(expert_gate, rows * c->expert_ffn * sizeof(float));
        TAKE(expert_up, rows * c->expert_ffn * sizeof(float));
        TAKE(expert_y, rows * D * sizeof(float));
        TAKE(shared_y, M * D * sizeof(float));
        TAKE(chosen, c->n_experts * sizeof(int32_t));
        TAKE(items, (2 * c->n_experts + 2) * sizeof(matmul_item));
    }
#undef TAKE
    return used;
}

ern_work *work_open(const ern_model *m, const ern_kernels *k, ern_pool *pool, size_t max_rows, size_t max_tokens,
                    bool exact, ern_err *e) {
    ern_work *w = mem_zalloc(1, sizeof *w, "scratch", e);
    if (!w) return NULL;
    *w = (ern_work){ .k = k, .pool = pool, .exact = exact, .max_rows = max_rows, .max_tokens = max_tokens,
                     .moe_rows = max_rows < MOE_ROWS ? max_rows : MOE_ROWS,
                     .is_narrow = !exact && m->c.hidden < NARROW_WIDTH && m->c.n_experts == 0 };
    if (max_rows == 0 || max_rows > MAX_ROWS) {
        ern_fail(e, ERN_LIMIT, "scratch for %zu rows: 1 to %d wanted", max_rows, MAX_ROWS);
        work_close(w);
        return NULL;
    }
    const size_t size = lay_out(w, &m->c, NULL);
    if (posix_memalign(&w->memory, 64, size) != 0) {
        w->memory = NULL;
        ern_fail(e, ERN_NOMEM, "no memory for %zu bytes of scratch (%zu rows, %zu tokens)", size, max_rows, max_tokens);
        work_close(w);
        return NULL;
    }
    lay_out(w, &m->c, w->memory);
    return w;
}

void work_close(ern_work *w) {
    if (!w) return;
    free(w->memory);
    free(w);
}

size_t work_max_rows(const ern_work *w) { return w->max_rows; }
size_t work_max_tokens(const ern_work *w) { return w->max_tokens; }

bool trace_layer(const model_trace *t, const char *what, const void *data, bool is_int, size_t n_rows, size_t n_cols,
                 ern_err *e) {
    char name[64];
    if (!t->fn) return true;
    snprintf(name, sizeof name, "layer.%zu.%s", t->layer, what);
    return t->fn(t->ctx, name, data, is_int, n_rows, n_cols, e);
}

void work_observe(ern_work *w, observe_fn fn, void *ctx) {
    w->observe = fn;
    w->observe_ctx = ctx;
}

void products(const ern_work *w, const matmul_input *inputs, size_t n_inputs, const matmul_item *items, size_t n_items) {
    matmul_many(w->k, w->pool, inputs, n_inputs, items, n_items, w->exact, w->products);
    for (size_t i = 0; w->observe && i < n_items; i++) {
        const matmul_input *in = &inputs[items[i].input];
        w->observe(w->observe_ctx, items[i].w, in->swiglu ? in->swiglu : in->x, in->stride, items[i].rows, items[i].first,
                   items[i].T);
    }
}

struct rest_job { const ern_work *w; const float *x; size_t T, C; };

/* rest = x - its 8-bit form, block by block; columns past the last whole block have none. */
static void rest_part(void *ctx, size_t thread, size_t n_threads) {
    const struct rest_job *j = ctx;
    size_t from, to;
    pool_part(j->T, 1, thread, n_threads, &from, &to);
    for (size_t t = from; t < to; t++) {
        const float *x = j->x + t * j->C;
        float *rest = j->w->rest + t * j->C;
        memset(rest, 0, j->C * sizeof *rest);
        for (size_t c = 0; c + 32 <= j->C; c += 32) {
            act_q8 block;
            j->w->k->quant_q8(&block, x + c, 32);
            for (size_t i = 0; i < 32; i++) rest[c + i] = x[c + i] - block.d * (float)block.q[i];
        }
    }
}

/* At most rest_y's size. */
static void fine_rows(const ern_work *w, float *const *y, size_t first, const float *x, size_t T,
                      const model_linear *const *l, size_t n) {
    const size_t C = l[0]->m.C;
    struct rest_job j = { w, x, T, C };
    matmul_item items[2 * MAX_LINEARS];
    float *rest_y = w->rest_y;
    if (T == 1) rest_part(&j, 0, 1);
    else pool_run(w->pool, rest_part, &j);
    for (size_t i = 0; i < n; i++) {
        const size_t R = l[i]->m.R;
        items[2 * i] = (matmul_item){ .w = &l[i]->m, .y = y[i] + first * R, .y_stride = R, .T = T, .bias = l[i]->bias };
        items[2 * i + 1] = (matmul_item){ .w = &l[i]->m, .input = 1, .y = rest_y, .y_stride = R, .T = T };
        rest_y += T * R;
    }
    const matmul_input in[] = { { .x = x, .stride = C, .n_rows = T, .C = C },
                                { .x = w->rest, .stride = C, .n_rows = T, .C = C } };
    products(w, in, 2, items, 2 * n);
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < T; t++)
            w->k->add(items[2 * i].y + t * l[i]->m.R, items[2 * i + 1].y + t * l[i]->m.R, l[i]->m.R);
}

static bool is_fine(const ern_work *w, const model_linear *l) {
    return w->is_narrow && matrix_rounds(&l->m) && !w->observe;
}

void linears(const ern_work *w, float *const *y, const float *x, size_t T, const model_linear *const *l, size_t n) {
    matmul_item items[MAX_LINEARS];
    if (is_fine(w, l[0])) {
        const size_t step = l[0]->m.R > WIDEST_FINE ? FINE_ROWS : T;        /* the vocabulary: a few rows at a time */
        for (size_t first = 0; first < T; first += step)
            fine_rows(w, y, first, x + first * l[0]->m.C, T - first < step ? T - first : step, l, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        items[i] = (matmul_item){ .w = &l[i]->m, .y = y[i], .y_stride = l[i]->m.R, .T = T, .bias = l[i]->bias };
    const matmul_input in = { .x = x, .stride = l[0]->m.C, .n_rows = T, .C = l[0]->m.C };
    products(w, &in, 1, items, n);
}

void linear(const ern_work *w, float *y, const float *x, size_t T, const model_linear *l) { linears(w, &y, x, T, &l, 1); }

struct elementwise { const ern_work *w; float *y; const float *a, *b; float eps; size_t T, n; };

static void norm_part(void *ctx, size_t thread, size_t n_threads) {
    const struct elementwise *j = ctx;
    size_t from, to;
    pool_part(j->T, 1, thread, n_threads, &from, &to);
    for (size_t t = from; t < to; t++) j->w->k->rmsnorm(j->y + t * j->n, j->a + t * j->n, j->b, j->eps, j->n);
}

/* y[T,D] = x / sqrt(mean(x^2) + eps) * weight */
static void norm_rows(const ern_work *w, float *y, const float *x, const float *weight, float eps, size_t T, size_t D) {
    struct elementwise j = { .w = w, .y = y, .a = x, .b = weight, .eps = eps, .T = T, .n = D };
    if (T == 1) norm_part(&j, 0, 1);
    else pool_run(w->pool, norm_part, &j);
}

void swiglu(ern_work *w, float *y, const float *x, size_t T, const model_mlp *mlp) {
    linears(w, (float *const[]){ w->gate, w->up }, x, T, (const model_linear *const[]){ &mlp->gate, &mlp->up }, 2);
    const ern_matrix *down = &mlp->down.m;
    if (is_fine(w, &mlp->down)) {
        for (size_t t = 0, C = down->C; t < T; t++) w->k->silu_mul(w->gate + t * C, w->gate + t * C, w->up + t * C, C);
        linear(w, y, w->gate, T, &mlp->down);
        return;
    }
    const matmul_item item = { .w = down, .y = y, .y_stride = down->R, .T = T, .bias = mlp->down.bias };
    const matmul_input in = { .x = w->up, .stride = down->C, .n_rows = T, .C = down->C, .swiglu = w->gate };
    products(w, &in, 1, &item, 1);
}

static bool check_rows(const ern_model *m, const ern_work *w, const model_row *rows, size_t T, ern_err *e) {
    if (T == 0 || T > w->max_rows) return ern_fail(e, ERN_LIMIT, "forward: %zu rows, 1 to %zu wanted", T, w->max_rows);
    for (size_t t = 0; t < T; t++) {
        if (rows[t].id < 0 || (size_t)rows[t].id >= m->c.n_vocab)
            return ern_fail(e, ERN_ARG, "token id %d: 0 to %zu wanted", (int)rows[t].id, m->c.n_vocab - 1);
        if (rows[t].pos >= rows[t].kv->max_tokens || rows[t].pos >= w->max_tokens)
            return ern_fail(e, ERN_LIMIT, "position %zu is past the context of %zu tokens", rows[t].pos,
                            rows[t].kv->max_tokens);
    }
    for (size_t t = 0; t < T; t++)
        if (!kv_reserve(rows[t].kv, rows[t].pos, rows[t].pos + 1, e)) return false;
    return true;
}

static void embed(const ern_model *m, ern_work *w, const model_row *rows, size_t T) {
    const size_t D = m->c.hidden, row_bytes = view_row_bytes(&m->embed);
    for (size_t t = 0; t < T; t++)
        dtype_info(m->embed.dtype)->to_f32(w->x + t * D, (const char *)m->embed.data + (size_t)rows[t].id * row_bytes, D);
}

/* Returns how many rows wanted logits. */
static size_t project(const ern_model *m, ern_work *w, const model_row *rows, size_t T, float *logits) {
    const size_t D = m->c.hidden;
    size_t n = 0;
    for (size_t t = 0; t < T; t++)
        if (rows[t].wants_logits) memcpy(w->picked + n++ * D, w->h + t * D, D * sizeof(float));
    const model_linear output = { .w = m->output, .m = m->output_matrix, .bias = m->output_bias };
    if (n && logits) linear(w, logits, w->picked, n, &output);
    return n;
}

bool model_forward(const ern_model *m, ern_work *w, const model_row *rows, size_t T, float *logits, trace_fn trace,
                   void *trace_ctx, ern_err *e) {
    const ern_config *c = &m->c;
    const size_t D = c->hidden;
    if (!check_rows(m, w, rows, T, e)) return false;
    embed(m, w, rows, T);
    for (size_t t = 0; t < T; t++) rope_angles(w->angles + t * c->head_dim, m->inv_freq, c->head_dim / 2, rows[t].pos);
    if (trace && !trace(trace_ctx, "embed", w->x, false, T, D, e)) return false;
    for (size_t i = 0; i < c->n_layers; i++) {
        const model_layer *l = &m->layers[i];
        const model_trace layer_trace = { trace, trace_ctx, i };
        norm_rows(w, w->h, w->x, l->attn_norm, c->norm_eps, T, D);
        attention(m, w, l, i, rows, T);
        if (!trace_layer(&layer_trace, "attn", w->y, false, T, D, e)) return false;
        w->k->add(w->x, w->y, T * D);
        norm_rows(w, w->h, w->x, l->ffn_norm, c->norm_eps, T, D);
        if (l->is_moe) {
            if (!moe(m, w, l, T, &layer_trace, e)) return false;
        } else swiglu(w, w->y, w->h, T, &l->mlp);
        if (!trace_layer(&layer_trace, "ffn", w->y, false, T, D, e)) return false;
        w->k->add(w->x, w->y, T * D);
        if (!trace_layer(&layer_trace, "out", w->x, false, T, D, e)) return false;
    }
    norm_rows(w, w->h, w->x, m->norm, c->norm_eps, T, D);
    if (trace && !trace(trace_ctx, "norm", w->h, false, T, D, e)) return false;
    const size_t n_logits = project(m, w, rows, T, logits);
    return !trace || !logits || !n_logits || trace(trace_ctx, "logits", logits, false, n_logits, c->n_vocab, e);
}
