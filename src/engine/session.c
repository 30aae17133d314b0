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

ern_session *ern_session_open(ern_engine *eng, const ern_session_options *options, ern_err *e) {
    const ern_config *c = &eng->model->c;
    ern_session_options o;
    enum ern_dtype k_type, v_type;
    bool ok = false;
    ern_session_defaults(&o);
    if (options) o = *options;
    if (!kv_types_from_name(&k_type, &v_type, o.kv_type ? o.kv_type : "f16", e)) return NULL;
    if (o.n_ctx == 0) o.n_ctx = c->max_positions < DEFAULT_CONTEXT ? c->max_positions : DEFAULT_CONTEXT;
    if (o.n_ctx > c->max_positions) {
        ern_fail(e, ERN_LIMIT, "context of %zu tokens: the model was trained for %zu", o.n_ctx, c->max_positions);
        return NULL;
    }
    const size_t wanted = kv_context_bytes(c, o.n_ctx, k_type, v_type), available = memory_available();
    if (wanted > available) {
        ern_fail(e, ERN_LIMIT, "context of %zu tokens needs %zu bytes of memory, %zu are available (about %zu tokens)", o.n_ctx,
                 wanted, available, (size_t)((double)o.n_ctx * ((double)available / (double)wanted)));
        return NULL;
    }
    ern_session *s = mem_zalloc(1, sizeof *s, "session", e);
    if (!s) return NULL;
    s->eng = eng;
    s->n_ctx = o.n_ctx;
    if (!(s->ids = mem_zalloc(o.n_ctx, sizeof *s->ids, "session", e))) goto out;
    if (!(s->logits = mem_zalloc(c->n_vocab, sizeof *s->logits, "logits", e))) goto out;
    ok = kv_init_types(&s->kv, c, o.n_ctx, k_type, v_type, e);
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
    if (dst->eng != src->eng || dst->kv.k_type != src->kv.k_type || dst->kv.v_type != src->kv.v_type)
        return ern_fail(e, ERN_ARG, "session copy: engine or KV type differs");
    if (src->n > dst->n_ctx) return ern_fail(e, ERN_LIMIT, "session copy: %zu tokens into a context of %zu", src->n, dst->n_ctx);
    kv_copy(&dst->kv, &src->kv, src->n);
    memcpy(dst->ids, src->ids, src->n * sizeof *src->ids);
    memcpy(dst->logits, src->logits, c->n_vocab * sizeof *src->logits);
    dst->n = src->n;
    dst->has_logits = src->has_logits;
    return true;
}
