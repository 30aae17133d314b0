#include "engine/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/sampler.h"
#include "text/stream.h"

#define MAX_TEXT_BYTES ((size_t)1 << 24)        /* text held back for one token: a stop string's beginning at most */

struct ern_answer {
    const ern_engine *eng;
    answer_options o;
    ern_sampler sampler;
    ern_stream *stream;             /* NULL without a tokenizer: ids only */
    constrain_state *constraint;    /* NULL: none, or not begun */
    bool has_begun;                 /* constraint_after was seen, or there is none */
    uint64_t *mask;                 /* [V] bits */
    float *masked;                  /* [V] */
    bool is_thinking;
    size_t n_thought, n_closed;     /* reasoning tokens; ids of think_close already written */
    ern_buf text;
    ern_result r;
};

void answer_defaults(answer_options *o, const ern_sampling *sampling) {
    *o = (answer_options){ .sampling = sampling, .constraint = sampling->constraint, .constraint_after = -1,
                            .think_end = -1 };
}

static bool contains(const int32_t *ids, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

ern_answer *answer_open(const ern_engine *eng, const answer_options *o, ern_err *e) {
    const size_t V = eng->model->c.n_vocab;
    bool ok = false;
    if (o->sampling->n_stop && !eng->tokenizer) {
        ern_fail(e, ERN_MISSING, "generate: stop texts need a tokenizer, the model has none; give stop ids");
        return NULL;
    }
    ern_answer *a = mem_zalloc(1, sizeof *a, "answer", e);
    if (!a) return NULL;
    *a = (ern_answer){ .eng = eng, .o = *o, .text = { .max = MAX_TEXT_BYTES },
                       .r = { .finish = ERN_FINISH_LENGTH, .end_id = -1 },
                       .has_begun = o->constraint_after < 0, .is_thinking = o->think_end >= 0 };
    if (!sampler_init(&a->sampler, o->sampling, V, e)) goto out;
    if (eng->tokenizer && !(a->stream = stream_open(eng->tokenizer, o->sampling->stop, o->sampling->n_stop, e))) goto out;
    if (a->stream && o->shows_specials) stream_show_specials(a->stream);
    if (o->constraint) {
        if (!(a->mask = mem_zalloc(CONSTRAIN_MASK_WORDS(V), sizeof *a->mask, "constraint", e)) ||
            !(a->masked = mem_zalloc(V, sizeof *a->masked, "constraint", e)) ||
                !(a->constraint = constrain_begin(o->constraint, e)))
            goto out;
    }
    ok = true;
out:
    if (!ok) { answer_close(a); return NULL; }
    return a;
}

void answer_close(ern_answer *a) {
    if (!a) return;
    constrain_end(a->constraint);
    free(a->mask);
    free(a->masked);
    stream_close(a->stream);
    buf_deinit(&a->text);
    sampler_deinit(&a->sampler);
    free(a);
}

const ern_result *answer_result(const ern_answer *a) { return &a->r; }
void answer_stop(ern_answer *a, enum ern_finish why) { a->r.finish = why; }

static bool is_end(const ern_answer *a, int32_t id) {
    const ern_sampling *o = a->o.sampling;
    return (!o->ignores_end && contains(a->eng->end_ids, a->eng->n_end_ids, id)) || contains(o->stop_ids, o->n_stop_ids, id);
}

/* The logits with all that the constraint forbids at -infinity; ends are allowed where it can end. */
static const float *constrained(ern_answer *a, const float *logits, ern_err *e) {
    const size_t V = a->eng->model->c.n_vocab;
    const ern_sampling *o = a->o.sampling;
    if (!a->constraint || !a->has_begun) return logits;
    if (!constrain_mask(a->constraint, a->mask, e)) return NULL;
    for (size_t w = 0; w < CONSTRAIN_MASK_WORDS(V); w++) {
        const size_t n = V - 64 * w < 64 ? V - 64 * w : 64;
        const uint64_t bits = a->mask[w];
        if (bits == 0) for (size_t i = 0; i < n; i++) a->masked[64 * w + i] = -INFINITY;
        else for (size_t i = 0; i < n; i++) a->masked[64 * w + i] = bits >> i & 1 ? logits[64 * w + i] : -INFINITY;
    }
    if (!constrain_can_end(a->constraint)) return a->masked;
    for (size_t i = 0; !o->ignores_end && i < a->eng->n_end_ids; i++)
        a->masked[a->eng->end_ids[i]] = logits[a->eng->end_ids[i]];
    for (size_t i = 0; i < o->n_stop_ids; i++) a->masked[o->stop_ids[i]] = logits[o->stop_ids[i]];
    return a->masked;
}

/* What reasoning past its budget is closed with; -1: the model's own choice counts. */
static int32_t forced(ern_answer *a) {
    if (!a->is_thinking || a->n_thought < a->o.think_budget || a->n_closed == a->o.n_think_close) return -1;
    return a->o.think_close[a->n_closed++];
}

static bool note(ern_answer *a, int32_t id, ern_err *e) {
    if (a->is_thinking) {
        a->n_thought++;
        if (id == a->o.think_end) a->is_thinking = false;
    }
    if (!a->constraint) return true;
    if (a->has_begun) return constrain_accept(a->constraint, id, e);
    a->has_begun = id == a->o.constraint_after;
    return true;
}

bool answer_next(ern_answer *a, const float *logits, const int32_t *history, size_t n, ern_token_event *ev,
                 bool *is_done, ern_err *e) {
    const ern_sampling *o = a->o.sampling;
    bool is_stopped = false;
    buf_clear(&a->text);
    *ev = (ern_token_event){ .id = -1, .text = "" };
    *is_done = true;
    if (a->constraint && a->has_begun && constrain_must_end(a->constraint)) {
        a->r.finish = ERN_FINISH_END;
        return true;
    }
    int32_t id = forced(a);
    if (id < 0) {
        const float *allowed = constrained(a, logits, e);
        if (!allowed || !sampler_next(&a->sampler, allowed, history, n, &id, e)) return false;
    }
    a->r.n_tokens++;
    if (o->n_logprobs) sampler_logprobs(logits, a->eng->model->c.n_vocab, id, o->n_logprobs, ev);
    if (is_end(a, id)) {
        a->r.finish = ERN_FINISH_END;
        a->r.end_id = id;
        return true;
    }
    ev->id = id;
    if (!note(a, id, e)) return false;
    if (a->stream && !stream_feed(a->stream, id, &a->text, &is_stopped, e)) return false;
    ev->text = a->text.data ? a->text.data : "";
    ev->n_bytes = a->text.len;
    if (is_stopped) {
        a->r.finish = ERN_FINISH_STOP;
        a->r.stop = stream_stopped_by(a->stream);
    } else if (o->max_tokens && a->r.n_tokens >= o->max_tokens) a->r.finish = ERN_FINISH_LENGTH;
    else *is_done = false;
    return true;
}

bool answer_rest(ern_answer *a, ern_token_event *ev, bool *has_text, ern_err *e) {
    *has_text = false;
    if (!a->stream || a->r.finish == ERN_FINISH_STOP || a->r.finish == ERN_FINISH_CALLER) return true;
    buf_clear(&a->text);
    if (!stream_finish(a->stream, &a->text, e)) return false;
    *ev = (ern_token_event){ .id = -1, .text = a->text.data ? a->text.data : "", .n_bytes = a->text.len };
    *has_text = a->text.len > 0;
    return true;
}
