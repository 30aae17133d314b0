/* The answer loop: sample, test for an end, give out whole characters, step. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "text/stream.h"

static double number(const json_t *json, const char *key, double fallback) {
    const json_t *v = json_object_get(json, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

void ern_sampling_defaults(const ern_engine *eng, ern_sampling *o) {
    const json_t *g = source_generation(eng->model->source);
    const double top_k = number(g, "top_k", 0.0);
    *o = (ern_sampling){
        .temperature = (float)number(g, "temperature", 0.8), .top_p = (float)number(g, "top_p", 0.8),
        .min_p = (float)number(g, "min_p", 0.0), .repetition_penalty = (float)number(g, "repetition_penalty", 1.0),
        .frequency_penalty = (float)number(g, "frequency_penalty", 0.0),
        .presence_penalty = (float)number(g, "presence_penalty", 0.0), .top_k = top_k > 0.0 ? (size_t)top_k : 0,
    };
    if (json_is_false(json_object_get(g, "do_sample"))) o->temperature = 0.0f;
}

static bool contains(const int32_t *ids, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

struct answer { ern_token_fn on_token; void *ctx; ern_buf text; ern_stream *stream; };

static bool give(struct answer *a, ern_token_event *ev) {
    ev->text = a->text.data ? a->text.data : "";
    ev->n_bytes = a->text.len;
    const bool wants_more = !a->on_token || a->on_token(a->ctx, ev);
    buf_clear(&a->text);
    return wants_more;
}

/* One token; *is_done when the answer is over, r says why. */
static bool step(ern_session *s, const ern_sampling *o, ern_sampler *sampler, struct answer *a, ern_result *r, bool *is_done, ern_err *e) {
    ern_engine *eng = s->eng;
    bool stopped = false;
    const int32_t id = sampler_next(sampler, s->logits, s->ids, s->n);
    ern_token_event ev = { .id = id };
    r->n_tokens++;
    *is_done = true;
    if (o->n_logprobs) sampler_logprobs(s->logits, eng->model->c.n_vocab, id, o->n_logprobs, &ev);
    if ((!o->ignores_end && contains(eng->end_ids, eng->n_end_ids, id)) || contains(o->stop_ids, o->n_stop_ids, id)) {
        r->finish = ERN_FINISH_END;
        r->end_id = id;
        return true;
    }
    if (a->stream && !stream_feed(a->stream, id, &a->text, &stopped, e)) return false;
    const bool wants_more = give(a, &ev);
    if (stopped) { r->finish = ERN_FINISH_STOP; return true; }
    if (!wants_more) { r->finish = ERN_FINISH_CALLER; return true; }
    if (o->max_tokens && r->n_tokens >= o->max_tokens) { r->finish = ERN_FINISH_LENGTH; return true; }
    if (s->n == s->n_ctx) { r->finish = ERN_FINISH_LENGTH; return true; }
    *is_done = false;
    return ern_session_append(s, &id, 1, NULL, NULL, e);
}

bool ern_session_generate(ern_session *s, const ern_sampling *options, ern_token_fn on_token, void *ctx, ern_result *out, ern_err *e) {
    ern_engine *eng = s->eng;
    ern_sampling o;
    ern_sampler sampler = { 0 };
    struct answer a = { .on_token = on_token, .ctx = ctx };
    ern_result r = { .end_id = -1 };
    bool ok = false, is_done = false;
    if (!s->has_logits) return ern_fail(e, ERN_ARG, "generate: the session is empty; give it a prompt first");
    ern_sampling_defaults(eng, &o);
    if (options) o = *options;
    if (!sampler_init(&sampler, &o, eng->model->c.n_vocab, e)) return false;
    if (eng->tokenizer && !(a.stream = stream_open(eng->tokenizer, o.stop, o.n_stop, e))) goto out;
    while (!is_done)
        if (!step(s, &o, &sampler, &a, &r, &is_done, e)) goto out;
    if (a.stream && r.finish != ERN_FINISH_STOP) {
        if (!stream_finish(a.stream, &a.text, e)) goto out;
        ern_token_event ev = { .id = -1 };
        if (a.text.len) give(&a, &ev);
    }
    if (out) *out = r;
    ok = true;
out:
    stream_close(a.stream);
    buf_deinit(&a.text);
    sampler_deinit(&sampler);
    return ok;
}
