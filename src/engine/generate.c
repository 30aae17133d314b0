/* The answer loop: sample, test for an end, give out whole characters, step. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "text/stream.h"

#define MAX_TEXT_BYTES ((size_t)1 << 24)        /* text held back for one token: a stop string's beginning at most */

static float number(const json_t *json, const char *key, double fallback) {
    const json_t *v = json_object_get(json, key);
    return (float)(json_is_number(v) ? json_number_value(v) : fallback);
}

void ern_sampling_defaults(const ern_engine *eng, ern_sampling *o) {
    const json_t *g = source_generation(eng->model->source);
    const json_t *top_k = json_object_get(g, "top_k");
    *o = (ern_sampling){
        .temperature = number(g, "temperature", 0.8), .top_p = number(g, "top_p", 0.8), .min_p = number(g, "min_p", 0.0),
        .repetition_penalty = number(g, "repetition_penalty", 1.0), .frequency_penalty = number(g, "frequency_penalty", 0.0),
        .presence_penalty = number(g, "presence_penalty", 0.0),
        .top_k = json_is_integer(top_k) && json_integer_value(top_k) > 0 ? (size_t)json_integer_value(top_k) : 0,
    };
    if (json_is_false(json_object_get(g, "do_sample"))) o->temperature = 0.0f;
}

static bool contains(const int32_t *ids, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

struct answer {
    ern_session *s;
    const ern_sampling *o;
    ern_sampler sampler;
    ern_stream *stream;     /* NULL without a tokenizer: ids only */
    ern_token_fn on_token;
    void *ctx;
    ern_buf text;
    ern_result r;
};

static bool give(struct answer *a, ern_token_event *ev) {
    ev->text = a->text.data ? a->text.data : "";
    ev->n_bytes = a->text.len;
    const bool wants_more = !a->on_token || a->on_token(a->ctx, ev);
    buf_clear(&a->text);
    return wants_more;
}

/* One token; *is_done when the answer is over, r says why. What is given out is in the session afterwards. */
static bool step(struct answer *a, bool *is_done, ern_err *e) {
    ern_session *s = a->s;
    const ern_engine *eng = s->eng;
    ern_token_event ev = { .id = -1 };
    bool is_stopped = false;
    *is_done = true;
    a->r.finish = ERN_FINISH_LENGTH;
    if (s->n == s->n_ctx) return true;
    if (!sampler_next(&a->sampler, s->logits, s->ids, s->n, &ev.id, e)) return false;
    a->r.n_tokens++;
    if (a->o->n_logprobs) sampler_logprobs(s->logits, eng->model->c.n_vocab, ev.id, a->o->n_logprobs, &ev);
    if ((!a->o->ignores_end && contains(eng->end_ids, eng->n_end_ids, ev.id)) ||
        contains(a->o->stop_ids, a->o->n_stop_ids, ev.id)) {
        a->r.finish = ERN_FINISH_END;
        a->r.end_id = ev.id;
        return true;
    }
    if (a->stream && !stream_feed(a->stream, ev.id, &a->text, &is_stopped, e)) return false;
    const bool wants_more = give(a, &ev);
    if (is_stopped) a->r.finish = ERN_FINISH_STOP;
    else if (!wants_more) a->r.finish = ERN_FINISH_CALLER;
    else if (!a->o->max_tokens || a->r.n_tokens < a->o->max_tokens) *is_done = false;
    return ern_session_append(s, &ev.id, 1, NULL, NULL, e);
}

/* Text that was held back because a stop string or a character might have followed. */
static bool give_rest(struct answer *a, ern_err *e) {
    if (!a->stream || a->r.finish == ERN_FINISH_STOP || a->r.finish == ERN_FINISH_CALLER) return true;
    if (!stream_finish(a->stream, &a->text, e)) return false;
    ern_token_event ev = { .id = -1 };
    if (a->text.len) give(a, &ev);
    return true;
}

bool ern_session_generate(ern_session *s, const ern_sampling *options, ern_token_fn on_token, void *ctx, ern_result *out,
                          ern_err *e) {
    const ern_engine *eng = s->eng;
    ern_sampling o;
    struct answer a = {
        .s = s, .o = &o, .on_token = on_token, .ctx = ctx, .text = { .max = MAX_TEXT_BYTES }, .r = { .end_id = -1 }
    };
    bool ok = false, is_done = false;
    ern_sampling_defaults(eng, &o);
    if (options) o = *options;
    if (!s->has_logits) return ern_fail(e, ERN_ARG, "generate: the session is empty or was cut; give it a prompt first");
    if (o.n_stop && !eng->tokenizer)
        return ern_fail(e, ERN_MISSING, "generate: stop texts need a tokenizer, the model has none; give stop ids");
    if (!sampler_init(&a.sampler, &o, eng->model->c.n_vocab, e)) return false;
    if (eng->tokenizer && !(a.stream = stream_open(eng->tokenizer, o.stop, o.n_stop, e))) goto out;
    while (!is_done)
        if (!step(&a, &is_done, e)) goto out;
    if (!give_rest(&a, e)) goto out;
    if (out) *out = a.r;
    ok = true;
out:
    stream_close(a.stream);
    buf_deinit(&a.text);
    sampler_deinit(&a.sampler);
    return ok;
}
