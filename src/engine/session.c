/* A session: tokens with their keys and values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "engine/engine.h"

#define DEFAULT_CONTEXT 4096

void ern_session_defaults(ern_session_options *o) { *o = (ern_session_options){ .kv_type = "f16" }; }

static size_t memory_available(void) {
    size_t kib = 0;
    char line[256];
    FILE *fp = fopen("/proc/meminfo", "r");
    if (!fp) return SIZE_MAX;
    while (fgets(line, sizeof line, fp))
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1) break;
    fclose(fp);
    return kib ? kib * 1024 : SIZE_MAX;
}

static bool kv_type(enum ern_dtype *out, const char *name, ern_err *e) {
    if (!name || strcmp(name, "f16") == 0) *out = DTYPE_F16;
    else if (strcmp(name, "bf16") == 0) *out = DTYPE_BF16;
    else if (strcmp(name, "f32") == 0) *out = DTYPE_F32;
    else return ern_fail(e, ERN_ARG, "kv type \"%s\": f16, bf16 or f32 wanted", name);
    return true;
}

ern_session *ern_session_open(ern_engine *eng, const ern_session_options *options, ern_err *e) {
    const ern_config *c = &eng->model->c;
    ern_session_options o;
    enum ern_dtype dtype = DTYPE_F16;
    bool ok = false;
    ern_session_defaults(&o);
    if (options) o = *options;
    if (!kv_type(&dtype, o.kv_type, e)) return NULL;
    if (o.n_ctx == 0) o.n_ctx = c->max_positions < DEFAULT_CONTEXT ? c->max_positions : DEFAULT_CONTEXT;
    if (o.n_ctx > c->max_positions) {
        ern_fail(e, ERN_LIMIT, "context of %zu tokens: the model was trained for %zu", o.n_ctx, c->max_positions);
        return NULL;
    }
    const size_t per_token = config_kv_bytes_per_token(c, dtype_info(dtype)->block_bytes), available = memory_available();
    if (o.n_ctx > available / per_token) {
        ern_fail(e, ERN_LIMIT, "context of %zu tokens needs %zu bytes of memory, %zu are available (%zu tokens)", o.n_ctx,
                 o.n_ctx * per_token, available, available / per_token);
        return NULL;
    }
    ern_session *s = mem_zalloc(1, sizeof *s, "session", e);
    if (!s) return NULL;
    s->eng = eng;
    s->n_ctx = o.n_ctx;
    if (!(s->ids = mem_zalloc(o.n_ctx, sizeof *s->ids, "session", e))) goto out;
    if (!(s->logits = mem_zalloc(c->n_vocab, sizeof *s->logits, "logits", e))) goto out;
    ok = kv_init(&s->kv, c, o.n_ctx, dtype, e);
out:
    if (!ok) { ern_session_close(s); return NULL; }
    return s;
}

void ern_session_close(ern_session *s) {
    if (!s) return;
    kv_deinit(&s->kv);
    free(s->ids);
    free(s->logits);
    free(s);
}

size_t ern_session_n_ctx(const ern_session *s) { return s->n_ctx; }
size_t ern_session_n_tokens(const ern_session *s) { return s->n; }
const int32_t *ern_session_tokens(const ern_session *s) { return s->ids; }
const float *ern_session_logits(const ern_session *s) { return s->has_logits ? s->logits : NULL; }

bool ern_session_append(ern_session *s, const int32_t *ids, size_t n, ern_progress_fn progress, void *ctx, ern_err *e) {
    if (n > s->n_ctx - s->n)
        return ern_fail(e, ERN_LIMIT, "%zu tokens after %zu do not fit in the context of %zu", n, s->n, s->n_ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= s->eng->model->c.n_vocab)
            return ern_fail(e, ERN_ARG, "token id %d at %zu: 0 to %zu wanted", (int)ids[i], i, s->eng->model->c.n_vocab - 1);
    model_row *rows = mem_zalloc(s->eng->max_batch, sizeof *rows, "rows", e);
    if (!rows) return false;
    bool ok = true;
    for (size_t done = 0; ok && done < n;) {
        const size_t T = n - done < s->eng->max_batch ? n - done : s->eng->max_batch;
        if (progress && !progress(ctx, done, n)) { ok = ern_fail(e, ERN_STOPPED, "stopped after %zu of %zu prompt tokens", done, n); break; }
        for (size_t t = 0; t < T; t++)
            rows[t] = (model_row){ .id = ids[done + t], .pos = s->n + t, .kv = &s->kv, .wants_logits = done + t + 1 == n };
        ok = engine_forward(s->eng, rows, T, s->logits, NULL, NULL, e);
        if (!ok) break;
        memcpy(s->ids + s->n, ids + done, T * sizeof *ids);
        s->n += T;
        done += T;
        s->has_logits = done == n;
    }
    if (ok && progress) progress(ctx, n, n);
    free(rows);
    return ok;
}

bool ern_session_truncate(ern_session *s, size_t n_tokens, ern_err *e) {
    if (n_tokens > s->n) return ern_fail(e, ERN_ARG, "session: cannot cut %zu tokens to %zu", s->n, n_tokens);
    if (n_tokens < s->n) s->has_logits = false;
    s->n = n_tokens;
    return true;
}

bool ern_session_sync(ern_session *s, const int32_t *ids, size_t n, ern_progress_fn progress, void *ctx, ern_err *e) {
    size_t same = 0;
    if (n == 0) return ern_fail(e, ERN_ARG, "prompt: at least one token wanted");
    if (n > s->n_ctx) return ern_fail(e, ERN_LIMIT, "prompt of %zu tokens does not fit in the context of %zu", n, s->n_ctx);
    while (same < n && same < s->n && s->ids[same] == ids[same]) same++;
    if (same == n && (s->n > n || !s->has_logits)) same = n - 1;      /* the last token's logits are wanted again */
    if (!ern_session_truncate(s, same, e)) return false;
    return same == n || ern_session_append(s, ids + same, n - same, progress, ctx, e);
}

bool ern_session_copy(ern_session *dst, const ern_session *src, ern_err *e) {
    const ern_config *c = &src->eng->model->c;
    if (dst->eng != src->eng || dst->kv.dtype != src->kv.dtype) return ern_fail(e, ERN_ARG, "session copy: engine or KV type differs");
    if (src->n > dst->n_ctx) return ern_fail(e, ERN_LIMIT, "session copy: %zu tokens into a context of %zu", src->n, dst->n_ctx);
    const size_t bytes = src->n * src->kv.width * dtype_info(src->kv.dtype)->block_bytes;
    for (size_t l = 0; l < c->n_layers; l++) {
        memcpy(kv_at(&dst->kv, dst->kv.k, l, 0), kv_at(&src->kv, src->kv.k, l, 0), bytes);
        memcpy(kv_at(&dst->kv, dst->kv.v, l, 0), kv_at(&src->kv, src->kv.v, l, 0), bytes);
    }
    memcpy(dst->ids, src->ids, src->n * sizeof *src->ids);
    memcpy(dst->logits, src->logits, c->n_vocab * sizeof *src->logits);
    dst->n = src->n;
    dst->has_logits = src->has_logits;
    return true;
}
