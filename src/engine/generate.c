/* The answer loop: sample, test for an end, give out whole characters, step. */
#include "engine/answer.h"

#include "engine/speculate.h"

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

bool ern_session_generate(ern_session *s, const ern_sampling *options, ern_token_fn on_token, void *ctx, ern_result *out,
                          ern_err *e) {
    ern_sampling o;
    answer_options ao;
    ern_token_event ev;
    bool ok = false, is_done = false, has_text;
    ern_sampling_defaults(s->eng, &o);
    if (options) o = *options;
    if (!s->has_logits) return ern_fail(e, ERN_ARG, "generate: the session is empty or was cut; give it a prompt first");
    if (o.draft && !speculate_begin(o.draft, s, o.ignores_end, e)) return false;
    answer_defaults(&ao, &o);
    ern_answer *a = answer_open(s->eng, &ao, e);
    if (!a) return false;
    while (!is_done && s->n < s->n_ctx) {
        if (!answer_next(a, s->logits, s->ids, s->n, &ev, &is_done, e)) goto out;
        if (ev.id < 0) break;
        if (on_token && !on_token(ctx, &ev) && !is_done) {
            answer_stop(a, ERN_FINISH_CALLER);
            is_done = true;
        }
        /* What was given out is in the session, the last token too. */
        if (!(o.draft ? speculate_append(o.draft, s, ev.id, !is_done, e) : ern_session_append(s, &ev.id, 1, NULL, NULL, e)))
            goto out;
    }
    if (!answer_rest(a, &ev, &has_text, e)) goto out;
    if (has_text && on_token) on_token(ctx, &ev);
    if (out) *out = *answer_result(a);
    ok = true;
out:
    answer_close(a);
    return ok;
}
