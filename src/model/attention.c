/* Grouped-query attention with rotary positions: project, rotate, store, attend, project.
 * Letters: T rows, H query heads, K key heads, d head width. */
#include <math.h>
#include <string.h>

#include "model/forward_int.h"

/* One head in place. cs: cos[d/2] then sin[d/2] of this row's position. */
static void rotate(float *x, const float *cs, size_t d, bool adjacent) {
    const size_t half = d / 2;
    for (size_t i = 0; i < half; i++) {
        float *a = adjacent ? x + 2 * i : x + i, *b = adjacent ? x + 2 * i + 1 : x + i + half;
        const float u = *a, v = *b, cos = cs[i], sin = cs[half + i];
        *a = u * cos - v * sin;
        *b = v * cos + u * sin;
    }
}

static void store(void *to, const float *x, size_t n, enum ern_dtype dtype) {
    uint16_t *h = to;
    if (dtype == DTYPE_F32) memcpy(to, x, n * sizeof *x);
    else if (dtype == DTYPE_F16)
        for (size_t i = 0; i < n; i++) h[i] = f32_to_f16(x[i]);
    else
        for (size_t i = 0; i < n; i++) h[i] = f32_to_bf16(x[i]);
}

struct attend_job { const ern_model *m; ern_work *w; size_t layer, T; const model_row *rows; };

/* Work items are (row, head), dealt round: later rows of a prompt see more keys, so equal blocks would be unequal work. */
static void attend_part(void *ctx, size_t thread, size_t n_threads) {
    const struct attend_job *j = ctx;
    const ern_config *c = &j->m->c;
    const size_t d = c->head_dim, H = c->n_heads, group = H / c->n_kv_heads;
    float *scratch = j->w->scores + thread * (j->w->max_tokens + 16);
    const float scale = 1.0f / sqrtf((float)d);
    for (size_t i = thread; i < j->T * H; i += n_threads) {
        const size_t t = i / H, head = i % H, kv_head = head / group;
        const model_row *r = &j->rows[t];
        const size_t off_bytes = kv_head * d * dtype_info(r->kv->dtype)->block_bytes;
        j->w->k->attend(j->w->att + (t * H + head) * d, j->w->q + (t * H + head) * d,
                        (const char *)kv_at(r->kv, r->kv->k, j->layer, 0) + off_bytes,
                        (const char *)kv_at(r->kv, r->kv->v, j->layer, 0) + off_bytes, r->kv->dtype, r->kv->width,
                        r->pos + 1, d, scale, scratch);
    }
}

void attention(const ern_model *m, ern_work *w, const model_layer *l, size_t layer, const model_row *rows, size_t T) {
    const ern_config *c = &m->c;
    const size_t d = c->head_dim, H = c->n_heads, K = c->n_kv_heads;
    linear(w, w->q, w->h, T, &l->q);
    linear(w, w->kk, w->h, T, &l->k);
    linear(w, w->vv, w->h, T, &l->v);
    for (size_t t = 0; t < T; t++) {
        const float *cs = w->angles + t * d;
        for (size_t head = 0; head < H; head++) rotate(w->q + (t * H + head) * d, cs, d, c->rope_adjacent);
        for (size_t head = 0; head < K; head++) rotate(w->kk + (t * K + head) * d, cs, d, c->rope_adjacent);
        const ern_kv *kv = rows[t].kv;
        store(kv_at(kv, kv->k, layer, rows[t].pos), w->kk + t * K * d, K * d, kv->dtype);
        store(kv_at(kv, kv->v, layer, rows[t].pos), w->vv + t * K * d, K * d, kv->dtype);
    }
    struct attend_job job = { m, w, layer, T, rows };
    pool_run(w->pool, attend_part, &job);
    linear(w, w->y, w->att, T, &l->o);
}
