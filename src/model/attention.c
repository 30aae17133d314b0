/* Grouped-query attention with rotary positions: project, rotate, store, attend, project.
 * Letters: T rows, H query heads, K key heads, d head width. */
#include <math.h>

#include "model/forward_int.h"

struct job { const ern_model *m; ern_work *w; size_t layer, T; const model_row *rows; };

/* Rows of one tile go to one thread: in small types tokens share bytes. */
static size_t tile_end(const struct job *j, size_t t) {
    const model_row *r = j->rows;
    while (t > 0 && t < j->T && r[t].kv == r[t - 1].kv && r[t].pos / ATTENTION_TILE == r[t - 1].pos / ATTENTION_TILE) t++;
    return t;
}

/* Rotate the queries and keys of some rows, then put their keys and values where all later rows find them. */
static void place_part(void *ctx, size_t thread, size_t n_threads) {
    const struct job *j = ctx;
    const ern_config *c = &j->m->c;
    const ern_kernels *k = j->w->k;
    const size_t d = c->head_dim, H = c->n_heads, K = c->n_kv_heads;
    size_t from, to;
    pool_part(j->T, 1, thread, n_threads, &from, &to);
    to = tile_end(j, to);
    for (size_t t = tile_end(j, from); t < to; t++) {
        const ern_kv *kv = j->rows[t].kv;
        const size_t pos = j->rows[t].pos;
        const float *cs = j->w->angles + t * d;
        float *keys = j->w->kk + t * K * d, *values = j->w->vv + t * K * d;
        k->rope(j->w->q + t * H * d, cs, H, d, c->rope_adjacent);
        k->rope(keys, cs, K, d, c->rope_adjacent);
        for (size_t head = 0; head < K; head++) {
            attention_store(k, kv->k_type, true, kv_keys(kv, j->layer, head, pos), pos % KV_PAGE_TOKENS, keys + head * d, d);
            attention_store(k, kv->v_type, false, kv_values(kv, j->layer, head, pos), pos % KV_PAGE_TOKENS, values + head * d, d);
        }
    }
}

/* Neighbouring rows of one sequence are one job: they read its keys and values together. */
static size_t list_jobs(const struct job *j, attention_job *jobs) {
    const ern_config *c = &j->m->c;
    const size_t row = c->n_heads * c->head_dim;
    size_t n = 0;
    for (size_t t = 0; t < j->T; t++) {
        const model_row *r = &j->rows[t];
        const size_t runs = r->kv->n_layers * r->kv->n_heads, first = j->layer * r->kv->n_heads;
        if (t > 0 && r->kv == r[-1].kv && r->pos == r[-1].pos + 1) { jobs[n - 1].n_tokens++; continue; }
        jobs[n++] = (attention_job){
            .q = j->w->q + t * row, .out = j->w->att + t * row, .n_tokens = 1, .first_keys = r->pos + 1, .is_causal = true,
            .pages = (const void *const *)r->kv->data, .k_offset = first * r->kv->k_head_bytes,
            .v_offset = runs * r->kv->k_head_bytes + first * r->kv->v_head_bytes, .k_head_bytes = r->kv->k_head_bytes,
            .v_head_bytes = r->kv->v_head_bytes, .k_type = r->kv->k_type, .v_type = r->kv->v_type
        };
    }
    return n;
}

void attention(const ern_model *m, ern_work *w, const model_layer *l, size_t layer, const model_row *rows, size_t T) {
    const ern_config *c = &m->c;
    struct job job = { m, w, layer, T, rows };
    linears(w, (float *const[]){ w->q, w->kk, w->vv }, w->h, T, (const model_linear *const[]){ &l->q, &l->k, &l->v }, 3);
    if (T == 1) place_part(&job, 0, 1);
    else pool_run(w->pool, place_part, &job);
    const attention_call call = {
        .d = c->head_dim, .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .scale = 1.0f / sqrtf((float)c->head_dim),
        .is_exact = w->exact, .scratch = w->attention, .max_rows = w->max_rows, .max_keys = w->max_tokens
    };
    attention_run(w->k, w->pool, &call, w->jobs, list_jobs(&job, w->jobs));
    linear(w, w->y, w->att, T, &l->o);
}
