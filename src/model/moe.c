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
    matmul(w->k, w->pool, w->probs, w->h, T, &router, true, w->q8);
    for (size_t t = 0; t < T; t++) {
        float *p = w->probs + t * E, sum = 0.0f;
        w->k->softmax(p, E);
        choose(w->experts + t * k, p, l->router_bias, E, k);
        for (size_t i = 0; i < k; i++) sum += p[w->experts[t * k + i]];
        if (sum < c->moe_norm_min) sum = c->moe_norm_min;
        for (size_t i = 0; i < k; i++) w->weights[t * k + i] = p[w->experts[t * k + i]] / sum;
    }
}

bool moe(const ern_model *m, ern_work *w, const model_layer *l, size_t T, const model_trace *trace, ern_err *e) {
    const ern_config *c = &m->c;
    const size_t D = c->hidden, E = c->n_experts, k = c->n_used;
    route(m, w, l, T);
    if (!trace_layer(trace, "router.probs", w->probs, false, T, E, e) ||
        !trace_layer(trace, "router.experts", w->experts, true, T, k, e) ||
        !trace_layer(trace, "router.weights", w->weights, false, T, k, e))
        return false;
    memset(w->y, 0, T * D * sizeof(float));
    for (size_t x = 0; x < E; x++) {
        size_t n = 0;
        for (size_t i = 0; i < T * k; i++)
            if (w->experts[i] == (int32_t)x) w->gather[n++] = i;
        if (n == 0) continue;
        for (size_t i = 0; i < n; i++) memcpy(w->xe + i * D, w->h + w->gather[i] / k * D, D * sizeof(float));
        swiglu(w, w->ye, w->xe, n, &l->experts[x]);
        for (size_t i = 0; i < n; i++) w->k->axpy(w->y + w->gather[i] / k * D, w->weights[w->gather[i]], w->ye + i * D, D);
    }
    if (c->shared_ffn == 0) return true;
    swiglu(w, w->ye, w->h, T, &l->mlp);
    w->k->add(w->y, w->ye, T * D);
    return true;
}
