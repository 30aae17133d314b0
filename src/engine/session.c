/* A session: tokens with their keys and values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/sys.h"
#include "engine/engine.h"
#include "engine/sampler.h"

#define DEFAULT_CONTEXT 4096
#define SCORE_BYTES ((size_t)64 << 20)      /* logits of the tokens scored at once */

void ern_session_defaults(ern_session_options *o) { *o = (ern_session_options){ .kv_type = NULL }; }

static bool check_context(const ern_config *c, size_t n_ctx, enum ern_dtype k_type, enum ern_dtype v_type, ern_err *e) {
    if (n_ctx > c->max_positions)
        return ern_fail(e, ERN_LIMIT, "context of %zu tokens: the model was trained for %zu", n_ctx, c->max_positions);
    const size_t wanted = kv_context_bytes(c, n_ctx, k_type, v_type), available = sys_memory_available();
    if (wanted > available)
        return ern_fail(e, ERN_LIMIT,
                        "context of %zu tokens needs %zu bytes of memory, %zu are available (enough for about %zu tokens)",
                        n_ctx, wanted, available, (size_t)((double)n_ctx * ((double)available / (double)wanted)));
    return true;
}

ern_session *ern_session_open(ern_engine *eng, const ern_session_options *options, ern_err *e) {
    const ern_config *c = &eng->model->c;
    ern_session_options o;
    enum ern_dtype k_type, v_type;
    bool ok = false;
    ern_session_defaults(&o);
    if (options) o = *options;
    if (c->arch == ARCH_BERT) {
        ern_fail(e, ERN_ARG, "%s: an encoder gives embeddings, it cannot write text", source_path(eng->model->source));
        return NULL;
    }
    if (!kv_types_from_name(&k_type, &v_type, engine_kv_type(eng, o.kv_type), e)) return NULL;
    if (o.n_ctx == 0) o.n_ctx = c->max_positions < DEFAULT_CONTEXT ? c->max_positions : DEFAULT_CONTEXT;
    if (!check_context(c, o.n_ctx, k_type, v_type, e)) return NULL;
    ern_session *s = mem_zalloc(1, sizeof *s, "session", e);
    if (!s) return NULL;
    s->eng = eng;
    s->n_ctx = o.n_ctx;
    if (!(s->ids = mem_zalloc(o.n_ctx, sizeof *s->ids, "session", e))) goto out;
    if (!(s->rows = mem_zalloc(eng->max_batch, sizeof *s->rows, "session", e))) goto out;
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
    free(s->rows);
    free(s->logits);
    free(s);
}

size_t ern_session_n_ctx(const ern_session *s) { return s->n_ctx; }
size_t ern_session_n_tokens(const ern_session *s) { return s->n; }
const int32_t *ern_session_tokens(const ern_session *s) { return s->ids; }
const float *ern_session_logits(const ern_session *s) { return s->has_logits ? s->logits : NULL; }

bool session_check_append(const ern_session *s, const int32_t *ids, size_t n, ern_err *e) {
    if (n > s->n_ctx - s->n)
        return ern_fail(e, ERN_LIMIT, "%zu tokens after %zu do not fit in the context of %zu", n, s->n, s->n_ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= s->eng->model->c.n_vocab)
            return ern_fail(e, ERN_ARG, "token id %d at %zu: 0 to %zu wanted", (int)ids[i], i, s->eng->model->c.n_vocab - 1);
    return true;
}

bool ern_session_append(ern_session *s, const int32_t *ids, size_t n, ern_progress_fn progress, void *ctx, ern_err *e) {
    const size_t most = s->eng->max_batch;
    if (!session_check_append(s, ids, n, e)) return false;
    for (size_t done = 0; done < n;) {
        const size_t T = n - done < most ? n - done : most;
        if (progress && !progress(ctx, done, n))
            return ern_fail(e, ERN_STOPPED, "stopped after %zu of %zu prompt tokens", done, n);
        for (size_t t = 0; t < T; t++)
            s->rows[t] = (model_row){
                .id = ids[done + t], .pos = s->n + t, .kv = &s->kv, .wants_logits = done + t + 1 == n
            };
        if (!engine_forward(s->eng, s->rows, T, s->logits, NULL, NULL, e)) return false;
        memcpy(s->ids + s->n, ids + done, T * sizeof *ids);
        s->n += T;
        done += T;
        s->has_logits = done == n;
    }
    if (progress && n) progress(ctx, n, n);
    return true;
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
    for (size_t i = same; i < n; i++)       /* before anything is cut: an error leaves the timeline as it was */
        if (ids[i] < 0 || (size_t)ids[i] >= s->eng->model->c.n_vocab)
            return ern_fail(e, ERN_ARG, "token id %d at %zu: 0 to %zu wanted", (int)ids[i], i, s->eng->model->c.n_vocab - 1);
    if (same == n && s->n == n && s->has_logits) return true;
    if (same == n) same = n - 1;            /* the last token's logits are wanted again */
    return ern_session_truncate(s, same, e) && ern_session_append(s, ids + same, n - same, progress, ctx, e);
}

/* ---- scoring ------------------------------------------------------------------------------------ */

/* One chunk: logits[T, V] hold what follows each of its tokens; s->logits what follows the one before. */
static bool report(const ern_session *s, const int32_t *ids, size_t T, const float *logits, size_t n_top,
                   ern_token_fn on_token, void *ctx, ern_err *e) {
    const size_t V = s->eng->model->c.n_vocab;
    for (size_t t = 0; t < T; t++) {
        ern_token_event ev = { .id = ids[t], .text = "", .logprob = NAN };
        const float *before = t ? logits + (t - 1) * V : s->has_logits ? s->logits : NULL;
        if (before) {
            sampler_logprobs(before, V, ids[t], n_top, &ev);
            if (isnan(ev.logprob))
                return ern_fail(e, ERN_FORMAT,
                                "scoring: the model's logits hold NaN or infinity: the weights are damaged or overflow");
        }
        if (!on_token(ctx, &ev)) return ern_fail(e, ERN_STOPPED, "stopped while scoring");
    }
    return true;
}

/* After a cut the logits of the last token are gone: compute them again. */
static bool renew_logits(ern_session *s, ern_err *e) {
    if (s->n == 0 || s->has_logits) return true;
    const int32_t last = s->ids[s->n - 1];
    return ern_session_truncate(s, s->n - 1, e) && ern_session_append(s, &last, 1, NULL, NULL, e);
}

bool ern_session_score(ern_session *s, const int32_t *ids, size_t n, size_t n_top, ern_token_fn on_token, void *ctx,
                       ern_err *e) {
    const size_t V = s->eng->model->c.n_vocab, fit = SCORE_BYTES / sizeof(float) / V;
    const size_t most = fit == 0 ? 1 : fit < s->eng->max_batch ? fit : s->eng->max_batch;
    if (n_top > ERN_MAX_LOGPROBS) return ern_fail(e, ERN_ARG, "logprobs: %zu, at most %d", n_top, ERN_MAX_LOGPROBS);
    if (!session_check_append(s, ids, n, e) || !renew_logits(s, e)) return false;
    float *logits = mem_zalloc(n < most ? n : most, V * sizeof *logits, "logits", e);
    bool ok = logits != NULL;
    for (size_t done = 0; ok && done < n;) {
        const size_t T = n - done < most ? n - done : most;
        for (size_t t = 0; t < T; t++)
            s->rows[t] = (model_row){ .id = ids[done + t], .pos = s->n + t, .kv = &s->kv, .wants_logits = true };
        ok = engine_forward(s->eng, s->rows, T, logits, NULL, NULL, e);
        if (!ok) break;
        ok = report(s, ids + done, T, logits, n_top, on_token, ctx, e);
        memcpy(s->ids + s->n, ids + done, T * sizeof *ids);
        memcpy(s->logits, logits + (T - 1) * V, V * sizeof *logits);
        s->has_logits = true;
        s->n += T;
        done += T;
    }
    free(logits);
    return ok;
}

/* ---- copying ------------------------------------------------------------------------------------ */

bool ern_session_copy(ern_session *dst, const ern_session *src, ern_err *e) {
    const ern_config *c = &src->eng->model->c;
    if (dst == src) return true;
    if (dst->eng != src->eng || dst->kv.k_type != src->kv.k_type || dst->kv.v_type != src->kv.v_type)
        return ern_fail(e, ERN_ARG, "session copy: engine or KV type differs");
    if (src->n > dst->n_ctx)
        return ern_fail(e, ERN_LIMIT, "session copy: %zu tokens into a context of %zu", src->n, dst->n_ctx);
    if (!kv_share(&dst->kv, &src->kv, src->n, e)) return false;
    memcpy(dst->ids, src->ids, src->n * sizeof *src->ids);
    memcpy(dst->logits, src->logits, c->n_vocab * sizeof *src->logits);
    dst->n = src->n;
    dst->has_logits = src->has_logits;
    return true;
}
