/* Embeddings: an encoder's own way, or the mean of a decoder's last hidden states. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "model/encoder.h"

size_t ern_engine_n_embed(const ern_engine *eng) { return eng->model->c.hidden; }

/* The forward pass locks: an engine is shared, its scratch is not. */
static ern_engine *shared(const ern_engine *eng) { return (ern_engine *)(uintptr_t)eng; }

bool engine_encode_ids(const ern_engine *eng, const int32_t *ids, size_t n, float *hidden, trace_fn trace, void *ctx,
                       ern_err *e) {
    ern_engine *own = shared(eng);
    if (!eng->model->encoder) return ern_fail(e, ERN_ARG, "%s: not an encoder", source_path(eng->model->source));
    pthread_mutex_lock(&own->lock);
    const bool ok = encoder_forward(eng->model, &eng->kernels, eng->pool, eng->is_exact, ids, n, hidden, trace, ctx, e);
    pthread_mutex_unlock(&own->lock);
    return ok;
}

/* ---- decoders ----------------------------------------------------------------------------------- */

/* Takes the states after the final norm out of the forward pass. */
struct catcher { float *to; size_t n_rows; };

static bool catch_norm(void *ctx, const char *name, const void *data, bool is_int, size_t n_rows, size_t n_cols,
                       ern_err *e) {
    struct catcher *c = ctx;
    (void)is_int;
    (void)e;
    if (strcmp(name, "norm") == 0) memcpy(c->to, data, n_rows * n_cols * sizeof(float));
    return true;
}

static bool decode_ids(const ern_engine *eng, const int32_t *ids, size_t n, float *hidden, ern_err *e) {
    ern_kv kv = { 0 };
    bool ok = false;
    model_row *rows = mem_zalloc(eng->max_batch, sizeof *rows, "rows", e);
    if (!rows || !kv_init(&kv, &eng->model->c, n, eng->is_exact ? DTYPE_F32 : DTYPE_F16, e)) goto out;
    for (size_t done = 0; done < n;) {
        const size_t T = n - done < eng->max_batch ? n - done : eng->max_batch;
        struct catcher c = { hidden + done * eng->model->c.hidden, T };
        for (size_t t = 0; t < T; t++) rows[t] = (model_row){ .id = ids[done + t], .pos = done + t, .kv = &kv };
        if (!engine_forward(shared(eng), rows, T, NULL, catch_norm, &c, e)) goto out;
        done += T;
    }
    ok = true;
out:
    kv_deinit(&kv);
    free(rows);
    return ok;
}

/* ---- both --------------------------------------------------------------------------------------- */

static bool embed_ids(const ern_engine *eng, const int32_t *ids, size_t n, float *out, ern_err *e) {
    const ern_config *c = &eng->model->c;
    if (n == 0) return ern_fail(e, ERN_ARG, "embedding: the text has no tokens");
    float *hidden = mem_zalloc(n * c->hidden, sizeof *hidden, "hidden states", e);
    if (!hidden) return false;
    const bool ok = eng->model->encoder ? engine_encode_ids(eng, ids, n, hidden, NULL, NULL, e)
                                        : decode_ids(eng, ids, n, hidden, e);
    if (ok) encoder_pool(c, hidden, n, out);
    free(hidden);
    return ok;
}

/* Ids of the text with what the tokenizer adds before and after it. */
static bool ids_of(const ern_engine *eng, const char *text, size_t n_bytes, ern_tokens *out, size_t *n_before,
                   size_t *n_after, ern_err *e) {
    ern_tokens bare = { 0 }, whole = { 0 };
    bool ok = engine_encode(eng, text, n_bytes, TOKENIZER_PLAIN | TOKENIZER_ADD, &whole, e) &&
              engine_encode(eng, text, n_bytes, TOKENIZER_PLAIN, &bare, e);
    if (ok) {
        const size_t around = whole.n > bare.n ? whole.n - bare.n : 0;
        *n_before = around > 1 ? around / 2 : around;      /* [CLS] text [SEP], or <s> text */
        *n_after = around - *n_before;
        *out = whole;
    } else ern_tokens_free(&whole);
    ern_tokens_free(&bare);
    return ok;
}

static bool reserve_ids(ern_tokens *to, size_t n_more, ern_err *e) {
    if (n_more <= to->cap - to->n) return true;
    int32_t *p = mem_grow(to->id, to->n + n_more, sizeof *p, "token ids", e);
    if (!p) return false;
    to->id = p;
    to->cap = to->n + n_more;
    return true;
}

bool ern_embed(const ern_engine *eng, const char *text, size_t n_bytes, ern_tokens *ids, float *out, ern_err *e) {
    ern_tokens all = { 0 };
    size_t n_before, n_after;
    const size_t most = eng->model->c.max_input;
    if (!ids_of(eng, text, n_bytes, &all, &n_before, &n_after, e)) return false;
    if (all.n > most && most > n_after) {
        memmove(all.id + most - n_after, all.id + all.n - n_after, n_after * sizeof *all.id);
        all.n = most;
    }
    const bool ok = (!ids || reserve_ids(ids, all.n, e)) && embed_ids(eng, all.id, all.n, out, e);
    if (ok && ids) {
        memcpy(ids->id + ids->n, all.id, all.n * sizeof *all.id);
        ids->n += all.n;
    }
    ern_tokens_free(&all);
    return ok;
}

static void scale_to_one(float *x, size_t n) {
    double square = 0.0;
    for (size_t i = 0; i < n; i++) square += (double)x[i] * (double)x[i];
    for (size_t i = 0; square > 0.0 && i < n; i++) x[i] = (float)((double)x[i] / sqrt(square));
}

/* The vector of windows over all[n_before .. n - n_after): each has what stands before and after around it. */
static bool embed_windows(const ern_engine *eng, const ern_tokens *all, size_t n_before, size_t n_after, float *out,
                          size_t *n_windows, ern_err *e) {
    const ern_config *c = &eng->model->c;
    int32_t *window = NULL;
    float *sum = NULL, *one = NULL;
    bool ok = false;
    const size_t around = n_before + n_after, n_text = all->n - around,
                 room = c->max_input > around ? c->max_input - around : 1;
    const size_t n = n_text > room ? (n_text + room - 1) / room : 1;
    if (!(sum = mem_zalloc(c->hidden, sizeof *sum, "embedding", e)) ||
        !(one = mem_zalloc(c->hidden, sizeof *one, "embedding", e)) ||
        !(window = mem_zalloc(room + around, sizeof *window, "window", e)))
        goto out;
    for (size_t i = 0; i < n; i++) {
        size_t from, to;
        pool_part(n_text, 1, i, n, &from, &to);
        if (n_before) memcpy(window, all->id, n_before * sizeof *window);
        if (to > from) memcpy(window + n_before, all->id + n_before + from, (to - from) * sizeof *window);
        if (n_after) memcpy(window + n_before + (to - from), all->id + all->n - n_after, n_after * sizeof *window);
        if (!embed_ids(eng, window, to - from + around, one, e)) goto out;
        for (size_t j = 0; j < c->hidden; j++) sum[j] += one[j] * (n > 1 ? (float)(to - from) : 1.0f);
    }
    if (n > 1) scale_to_one(sum, c->hidden);
    memcpy(out, sum, c->hidden * sizeof *out);
    if (n_windows) *n_windows = n;
    ok = true;
out:
    free(window);
    free(one);
    free(sum);
    return ok;
}

bool ern_embed_windows(const ern_engine *eng, const char *text, size_t n_bytes, float *out, size_t *n_windows, ern_err *e) {
    ern_tokens all = { 0 };
    size_t n_before, n_after;
    if (!ids_of(eng, text, n_bytes, &all, &n_before, &n_after, e)) return false;
    const bool ok = embed_windows(eng, &all, n_before, n_after, out, n_windows, e);
    ern_tokens_free(&all);
    return ok;
}

bool engine_embed_ids(const ern_engine *eng, const int32_t *ids, size_t n, float *out, ern_err *e) {
    const ern_tokens all = { .id = (int32_t *)(uintptr_t)ids, .n = n, .cap = n };
    return embed_windows(eng, &all, 0, 0, out, NULL, e);
}
