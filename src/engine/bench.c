#include "engine/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/probe.h"
#include "kernels/peak.h"

#define MAX_ROUNDS 1000

static double seconds(const bench_case *c) {
    struct timespec t;
    clock_gettime(c->counts_cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summarise(double *speeds, size_t n, double *median, double *best) {
    qsort(speeds, n, sizeof *speeds, by_value);
    *median = n % 2 ? speeds[n / 2] : (speeds[n / 2 - 1] + speeds[n / 2]) / 2.0;
    *best = speeds[n - 1];
}

struct sequences { ern_session *s[BENCH_MAX_BATCH]; size_t n; ern_batch *batch; };

static bool step_all(const struct sequences *q, const int32_t *id, ern_err *e) {
    batch_part parts[BENCH_MAX_BATCH];
    if (q->n == 1) return ern_session_append(q->s[0], id, 1, NULL, NULL, e);
    for (size_t i = 0; i < q->n; i++) parts[i] = (batch_part){ q->s[i], id, 1 };
    return batch_step(q->batch, parts, q->n, e);
}

static bool one_round(const struct sequences *q, const int32_t *ids, const bench_case *c, double *prefill, double *decode,
                      ern_err *e) {
    const int32_t *prompt = ids + c->depth, *answer = prompt + c->n_prompt;
    if (!ern_session_truncate(q->s[0], c->depth, e)) return false;
    double from = seconds(c);
    if (c->n_prompt && !ern_session_append(q->s[0], prompt, c->n_prompt, NULL, NULL, e)) return false;
    *prefill = c->n_prompt ? (double)c->n_prompt / (seconds(c) - from) : 0.0;
    for (size_t i = 0; i < q->n; i++)
        if (!ern_session_truncate(q->s[i], c->depth, e)) return false;
    /* the first one warms the caches */
    if (c->n_answer && !step_all(q, answer, e)) return false;
    from = seconds(c);
    for (size_t i = 1; i <= c->n_answer; i++)
        if (!step_all(q, answer + i, e)) return false;
    *decode = c->n_answer ? (double)(c->n_answer * q->n) / (seconds(c) - from) : 0.0;
    return true;
}

static bool open_sequences(struct sequences *q, ern_engine *eng, const char *kv_type, const bench_case *c, const int32_t *ids,
                           size_t n_ctx, ern_err *e) {
    const size_t n = c->n_batch ? c->n_batch : 1;
    ern_session_options so;
    ern_session_defaults(&so);
    so.n_ctx = n_ctx;
    if (kv_type) so.kv_type = kv_type;
    if (n > BENCH_MAX_BATCH) return ern_fail(e, ERN_LIMIT, "bench: %zu sequences at once, at most %d", n, BENCH_MAX_BATCH);
    if (n > 1 && !(q->batch = batch_open(eng, n, e))) return false;
    for (; q->n < n; q->n++) {
        if (!(q->s[q->n] = ern_session_open(eng, &so, e))) return false;
        if (c->depth && !ern_session_append(q->s[q->n], ids, c->depth, NULL, NULL, e)) { q->n++; return false; }
    }
    return true;
}

static void close_sequences(struct sequences *q) {
    for (size_t i = 0; i < q->n; i++) ern_session_close(q->s[i]);
    batch_close(q->batch);
}

bool bench_run(ern_engine *eng, const char *kv_type, const bench_case *c, ern_progress_fn progress, void *ctx,
               bench_result *out, ern_err *e) {
    const size_t n = c->depth + c->n_prompt + c->n_answer + 1;
    struct sequences q = { 0 };
    bench_result r = { 0 };
    bool ok = false;
    if (c->n_rounds == 0 || c->n_rounds > MAX_ROUNDS)
        return ern_fail(e, ERN_ARG, "bench: %zu rounds, 1 to %d wanted", c->n_rounds, MAX_ROUNDS);
    if (c->depth > ern_engine_max_context(eng) || n > ern_engine_max_context(eng))
        return ern_fail(e, ERN_LIMIT, "bench: depth %zu, prompt %zu and answer %zu do not fit in the model's context of %zu", c->depth,
                        c->n_prompt, c->n_answer, ern_engine_max_context(eng));
    int32_t *ids = mem_zalloc(n, sizeof *ids, "bench", e);
    double *speeds = ids ? mem_zalloc(2 * c->n_rounds, sizeof *speeds, "bench", e) : NULL;
    uint64_t state = 1;
    for (size_t i = 0; ids && i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (int32_t)((state >> 33) % ern_engine_n_vocab(eng));
    }
    if (progress && !progress(ctx, 0, c->n_rounds)) { ern_fail(e, ERN_STOPPED, "bench: stopped"); goto out; }
    if (!speeds || !open_sequences(&q, eng, kv_type, c, ids, n, e)) goto out;
    for (size_t i = 0; i < c->n_rounds; i++) {
        if (progress && !progress(ctx, i, c->n_rounds)) { ern_fail(e, ERN_STOPPED, "bench: stopped"); goto out; }
        if (!one_round(&q, ids, c, &speeds[i], &speeds[c->n_rounds + i], e)) goto out;
    }
    summarise(speeds, c->n_rounds, &r.prefill_median, &r.prefill_best);
    summarise(speeds + c->n_rounds, c->n_rounds, &r.decode_median, &r.decode_best);
    *out = r;
    ok = true;
out:
    close_sequences(&q);
    free(speeds);
    free(ids);
    return ok;
}

/* ---- limits ------------------------------------------------------------------------------------- */

bool bench_machine_of(ern_engine *eng, bench_machine *out, ern_err *e) {
    bench_machine m = { 0 };
    if (!probe_read(eng->pool, &m.read_bytes_per_s, e)) return false;
    m.macs_per_s = peak_macs(&eng->kernels, eng->pool, &m.unit);
    *out = m;
    return true;
}

/* Matrices of the layers: what every token goes through, and all experts. */
struct counts { double bytes, expert_bytes, params, expert_params; };

static void count(const ern_source *s, struct counts *c) {
    for (size_t i = 0; i < source_n(s); i++) {
        const ern_view *v = source_at(s, i);
        if (v->n_dims < 2 || strncmp(v->name, "model.layers.", 13) != 0) continue;
        double n = 1.0;
        for (size_t d = 0; d < v->n_dims; d++) n *= (double)v->dims[d];
        const bool is_expert = strstr(v->name, ".mlp.experts.") != NULL;
        *(is_expert ? &c->expert_bytes : &c->bytes) += (double)v->size_bytes;
        *(is_expert ? &c->expert_params : &c->params) += n;
    }
}

bool bench_limits_of(const ern_engine *eng, const char *kv_type, const bench_machine *m, const bench_case *c, bench_limits *out,
                     ern_err *e) {
    const ern_config *g = &eng->model->c;
    const double B = c->n_batch ? (double)c->n_batch : 1.0, per_key = 2.0 * (double)(g->n_layers * g->n_heads * g->head_dim);
    const double share = g->n_experts ? (double)g->n_used / (double)g->n_experts : 0.0;
    enum ern_dtype k_type, v_type;
    struct counts n = { 0 };
    bench_limits l = { 0 };
    if (!kv_types_from_name(&k_type, &v_type, engine_kv_type(eng, kv_type), e)) return false;
    count(eng->model->source, &n);
    const double layers = n.params + share * n.expert_params, logits = (double)(g->n_vocab * g->hidden);
    const double depth = (double)c->depth + (double)c->n_answer / 2.0;
    const double kv = (double)kv_context_bytes(g, (size_t)depth + 1, k_type, v_type);
    const double experts = n.expert_bytes * (1.0 - pow(1.0 - share, B));        /* that some of B tokens chose */
    const double reading = m->read_bytes_per_s > 0.0
                               ? (n.bytes + experts + (double)eng->model->output.size_bytes + B * kv) / m->read_bytes_per_s : 0.0;
    const double computing = m->macs_per_s > 0.0 ? B * (layers + logits + per_key * depth) / m->macs_per_s : 0.0;
    const double slower = reading > computing ? reading : computing;
    if (slower > 0.0 && c->n_answer) l.decode = B / slower;
    if (m->macs_per_s > 0.0 && c->n_prompt) {
        const double mean_keys = (double)c->depth + (double)(c->n_prompt + 1) / 2.0;
        l.prefill = m->macs_per_s / (layers + per_key * mean_keys + logits / (double)c->n_prompt);
    }
    *out = l;
    return true;
}
