/* Mixture of experts: p = softmax(router h) in f32; the k experts with the largest p + bias; their p renormalised;
 * y = sum of w_e MLP_e(h), experts in ascending order, plus the shared experts. Letters: T rows, E experts. */
#include <string.h>

#include "model/forward_int.h"

/* The k largest of p + bias; a tie goes to the lower index. Order as chosen. */
static void choose(int32_t *experts, const float *p, const float *bias, size_t E, size_t k) {
    for (size_t n = 0; n < k; n++) {
        size_t best = E;
        float best_score = 0.0f;
        for (size_t x = 0; x < E; x++) {
            bool is_taken = false;
            for (size_t i = 0; i < n; i++) is_taken = is_taken || experts[i] == (int32_t)x;
            const float score = p[x] + (bias ? bias[x] : 0.0f);
            if (!is_taken && (best == E || score > best_score)) {
                best = x;
                best_score = score;
            }
        }
        experts[n] = (int32_t)best;
    }
}

static void route(const ern_model *m, ern_work *w, const model_layer *l, size_t T) {
    const ern_config *c = &m->c;
    const size_t E = c->n_experts, k = c->n_used;
    const ern_view router = { .name = "router", .dtype = DTYPE_F32, .n_dims = 2, .dims = { E, c->hidden }, .data = l->router,
                              .size_bytes = E * c->hidden * sizeof(float) };
    const model_linear linear_router = { .w = router, .m = matrix_of(&router) };
    linear(w, w->probs, w->h, T, &linear_router);
    for (size_t t = 0; t < T; t++) {
        float *p = w->probs + t * E, sum = 0.0f;
        w->k->softmax(p, E);
        choose(w->experts + t * k, p, l->router_bias, E, k);
        for (size_t i = 0; i < k; i++) sum += p[w->experts[t * k + i]];
        if (sum < c->moe_norm_min) sum = c->moe_norm_min;
        for (size_t i = 0; i < k; i++) w->weights[t * k + i] = p[w->experts[t * k + i]] / sum;
    }
}

/* The rows of some tokens, sorted by expert: gather[row] is the token, items two an expert that has rows. Returns their
 * number. */
static size_t sort_rows(const ern_config *c, ern_work *w, const model_layer *l, const int32_t *experts, size_t T) {
    size_t n_rows = 0, n_items = 0;
    for (size_t x = 0; x < c->n_experts; x++) {
        const size_t first = n_rows;
        for (size_t t = 0; t < T; t++)
            for (size_t i = 0; i < c->n_used; i++)
                if (experts[t * c->n_used + i] == (int32_t)x) {
                    w->place[t * c->n_used + i] = (int32_t)n_rows;
                    w->gather[n_rows++] = (int32_t)t;
                }
        if (n_rows == first) continue;
        const model_mlp *e = &l->experts[x];
        w->chosen[n_items / 2] = (int32_t)x;
        const size_t F = c->expert_ffn, n = n_rows - first;
        w->items[n_items++] = (matmul_item){ .w = &e->gate.m, .rows = w->gather + first, .y = w->expert_gate + first * F,
                                             .y_stride = F,
                                             .T = n, .bias = e->gate.bias };
        w->items[n_items++] = (matmul_item){ .w = &e->up.m, .rows = w->gather + first, .y = w->expert_up + first * F,
                                             .y_stride = F,
                                             .T = n, .bias = e->up.bias };
    }
    return n_items;
}

struct mix_job { const ern_config *c; ern_work *w; const int32_t *experts; const float *weights; float *y; size_t T; };

/* y = sum of the experts' outputs, experts in ascending order, then the shared ones. */
static void mix_part(void *ctx, size_t thread, size_t n_threads) {
    const struct mix_job *j = ctx;
    const size_t D = j->c->hidden, k = j->c->n_used;
    size_t from, to;
    pool_part(j->T, 1, thread, n_threads, &from, &to);
    for (size_t t = from; t < to; t++) {
        float *y = j->y + t * D;
        memset(y, 0, D * sizeof(float));
        int32_t last = -1;                  /* rows are numbered by ascending expert */
        for (size_t n = 0; n < k; n++) {
            size_t next = k;
            for (size_t i = 0; i < k; i++) {
                const int32_t row = j->w->place[t * k + i];
                if (row > last && (next == k || row < j->w->place[t * k + next])) next = i;
            }
            last = j->w->place[t * k + next];
            j->w->k->axpy(y, j->weights[t * k + next], j->w->expert_y + (size_t)last * D, D);
        }
        if (j->c->shared_ffn) j->w->k->add(y, j->w->shared_y + t * D, D);
    }
}

/* Tokens [first, first + T), at most moe_rows: all experts in two parallel regions. */
static void run_experts(const ern_config *c, ern_work *w, const model_layer *l, size_t first, size_t T) {
    const size_t D = c->hidden, F = c->expert_ffn, S = c->shared_ffn;
    const int32_t *experts = w->experts + first * c->n_used;
    size_t n = sort_rows(c, w, l, experts, T);
    const size_t n_experts = n;
    if (S) {
        w->items[n++] = (matmul_item){ .w = &l->mlp.gate.m, .y = w->gate, .y_stride = S, .T = T, .bias = l->mlp.gate.bias };
        w->items[n++] = (matmul_item){ .w = &l->mlp.up.m, .y = w->up, .y_stride = S, .T = T, .bias = l->mlp.up.bias };
    }
    const matmul_input h = { .x = w->h + first * D, .stride = D, .n_rows = T, .C = D };
    products(w, &h, 1, w->items, n);

    size_t n_down = 0, row = 0;
    for (size_t i = 0; i < n_experts; i += 2) {
        const model_mlp *e = &l->experts[w->chosen[i / 2]];
        w->items[n_down++] = (matmul_item){ .w = &e->down.m, .first = row, .y = w->expert_y + row * D, .y_stride = D,
                                            .T = w->items[i].T,
                                            .bias = e->down.bias };
        row += w->items[i].T;
    }
    if (S) w->items[n_down++] = (matmul_item)
        { .w = &l->mlp.down.m, .input = 1, .y = w->shared_y, .y_stride = D, .T = T, .bias = l->mlp.down.bias };
    const matmul_input middle[] = { { .x = w->expert_up, .stride = F, .n_rows = row, .C = F, .swiglu = w->expert_gate },
                                    { .x = w->up, .stride = S, .n_rows = T, .C = S, .swiglu = w->gate } };
    products(w, middle, S ? 2 : 1, w->items, n_down);

    struct mix_job mix = { c, w, experts, w->weights + first * c->n_used, w->y + first * D, T };
    if (T == 1) mix_part(&mix, 0, 1);
    else pool_run(w->pool, mix_part, &mix);
}

/* Let the system read the chosen experts from the file while the first of them is computed. */
static void fetch_experts(const ern_model *m, const ern_work *w, const model_layer *l, size_t T) {
    const ern_config *c = &m->c;
    for (size_t x = 0; x < c->n_experts; x++) {
        bool is_chosen = false;
        for (size_t i = 0; i < T * c->n_used && !is_chosen; i++) is_chosen = w->experts[i] == (int32_t)x;
        if (!is_chosen) continue;
        source_fetch(m->source, &l->experts[x].gate.w);
        source_fetch(m->source, &l->experts[x].up.w);
        source_fetch(m->source, &l->experts[x].down.w);
    }
}

bool moe(const ern_model *m, ern_work *w, const model_layer *l, size_t T, const model_trace *trace, ern_err *e) {
    const ern_config *c = &m->c;
    const size_t E = c->n_experts, k = c->n_used;
    route(m, w, l, T);
    if (!trace_layer(trace, "router.probs", w->probs, false, T, E, e) ||
        !trace_layer(trace, "router.experts", w->experts, true, T, k, e) ||
        !trace_layer(trace, "router.weights", w->weights, false, T, k, e))
        return false;
    if (m->is_streamed) fetch_experts(m, w, l, T);
    for (size_t t = 0; t < T; t += w->moe_rows) run_experts(c, w, l, t, T - t < w->moe_rows ? T - t : w->moe_rows);
    return true;
}
