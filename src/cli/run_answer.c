#include "cli/run_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ANSWER_BYTES ((size_t)256 << 20)

struct answer {
    const answer_job *job;
    ern_tokens ids;
    ern_buf text;
    json_t *logprobs;           /* NULL unless asked for */
    bool has_failed;
    double first_s;             /* when the first token came */
    ern_err error;
};

const char *answer_finish_name(enum ern_finish finish) {
    static const char *const names[] = { "end", "stop", "length", "interrupted" };
    return names[finish];
}

static bool add_id(ern_tokens *t, int32_t id, ern_err *e) {
    if (t->n == t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 256;
        int32_t *p = mem_grow(t->id, cap, sizeof *p, "ids", e);
        if (!p) return false;
        t->id = p;
        t->cap = cap;
    }
    t->id[t->n++] = id;
    return true;
}

static json_t *logprob_json(const struct answer *a, int32_t id, double logprob) {
    char *text = a->job->has_text ? ern_detokenize(a->job->eng, &id, 1, true, NULL) : NULL;
    json_t *o = json_pack("{s:i, s:o, s:o}", "id", (int)id, "text", text ? cli_text_json(text, strlen(text)) :
                          json_null(), "logprob",
                          cli_real(logprob));
    free(text);
    return o;
}

static bool add_logprobs(struct answer *a, const ern_token_event *ev) {
    json_t *o = logprob_json(a, ev->id, (double)ev->logprob), *top = json_array();
    for (size_t i = 0; top && i < ev->n_top; i++)
        json_array_append_new(top, logprob_json(a, ev->top[i].id, (double)ev->top[i].logprob));
    if (!o || !top || json_object_set_new(o, "top", top) != 0 || json_array_append_new(a->logprobs, o) != 0)
        return ern_fail(&a->error, ERN_NOMEM, _("no memory for a line of JSON"));
    return true;
}

static bool on_token(void *ctx, const ern_token_event *ev) {
    struct answer *a = ctx;
    bool ok = true;
    if (a->first_s == 0.0) a->first_s = cli_now();
    if (ev->id >= 0) ok = add_id(&a->ids, ev->id, &a->error);
    if (ok && ev->id >= 0 && a->logprobs) ok = add_logprobs(a, ev);
    if (ok && a->job->is_json) ok = buf_add(&a->text, ev->text, ev->n_bytes, &a->error);
    else if (ok && ev->n_bytes && (fwrite(ev->text, 1, ev->n_bytes, stdout) != ev->n_bytes || fflush(stdout) != 0) &&
             !cli_interrupted())
        ok = ern_fail(&a->error, ERN_IO, _("standard output: %s"), strerror(errno));
    if (!ok) a->has_failed = true;
    return ok && !cli_interrupted();
}

static double rate(size_t n, double s) { return s > 0.0 ? (double)n / s : 0.0; }

static json_t *answer_json(const struct answer *a, const ern_result *r, double started, double ended,
                           const ern_draft_stats *guesses) {
    const answer_job *job = a->job;
    const double answer_s = ended - started, first_s = a->first_s > 0.0 ? a->first_s - started : 0.0;
    json_t *timings = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "load_s", job->load_s, "prompt_s", job->prompt_s,
                                "first_token_s",
                                job->prompt_s + first_s, "answer_s", answer_s, "prompt_tokens_per_s",
                                    rate(job->n_computed, job->prompt_s),
                                "tokens_per_s", rate(r->n_tokens, answer_s));
    json_t *o = json_pack("{s:i, s:o, s:o, s:s, s:i, s:i, s:i, s:o}", "index", (int)job->index, "ids",
                          cli_ids_json(a->ids.id, a->ids.n), "text",
                          cli_text_json(a->text.data ? a->text.data : "", a->text.len), "finish",
                              answer_finish_name(r->finish), "end_id",
                          (int)r->end_id, "n_prompt", (int)job->prompt->n, "n_tokens", (int)r->n_tokens, "timings", timings);
    if (o && a->logprobs) json_object_set(o, "logprobs", a->logprobs);
    if (o && guesses)
        json_object_set_new(o, "speculation", json_pack("{s:I, s:I, s:I, s:I}", "tokens", (json_int_t)guesses->n_tokens,
                                                        "passes", (json_int_t)guesses->n_passes, "drafted",
                                                        (json_int_t)guesses->n_drafted, "accepted",
                                                        (json_int_t)guesses->n_accepted));
    if (o && job->echoes) json_object_set_new(o, "prompt_ids", cli_ids_json(job->prompt->id, job->prompt->n));
    return o;
}

/* The prompt's text in front of the answer's. */
static bool echo(struct answer *a, ern_err *e) {
    const answer_job *job = a->job;
    if (!job->echoes || !job->has_text) return true;
    char *text = ern_detokenize(job->eng, job->prompt->id, job->prompt->n, true, e);
    if (!text) return false;
    const bool ok = job->is_json ? buf_str(&a->text, text, e) : fputs(text, stdout) >= 0;
    free(text);
    return ok;
}

static void end_text(const struct answer *a) {
    if (!a->job->has_text)
        for (size_t i = 0; i < a->ids.n; i++) printf("%s%d", i ? "," : "", (int)a->ids.id[i]);
    putchar('\n');
    if (a->job->index + 1 < a->job->n_answers) puts("---");
}

static void say_stats(const answer_job *job, const ern_result *r, double answer_s, const ern_draft_stats *guesses) {
    fprintf(stderr, _("prompt: %zu tokens in %.2f s (%.1f tokens/s); answer: %zu tokens in %.2f s (%.1f tokens/s)\n"),
            job->n_computed, job->prompt_s, rate(job->n_computed, job->prompt_s), r->n_tokens, answer_s,
            rate(r->n_tokens, answer_s));
    if (guesses) cli_draft_print(stderr, guesses);
}

/* An answer that the context cut short is not passed over in silence. */
static void say_full(const ern_session *s, const ern_sampling *o, const ern_result *r) {
    if (r->finish != ERN_FINISH_LENGTH || (o->max_tokens && r->n_tokens >= o->max_tokens)) return;
    fprintf(stderr, _("ernie: the answer ended because the context of %zu tokens is full; --ctx makes it larger\n"),
            ern_session_n_ctx(s));
}

bool answer_write(ern_session *s, const ern_sampling *o, const answer_job *job, bool *was_stopped, ern_err *e) {
    struct answer a = { .job = job, .text = { .max = MAX_ANSWER_BYTES } };
    ern_result r = { 0 };
    bool ok = false;
    if (o->n_logprobs && !(a.logprobs = json_array())) return ern_fail(e, ERN_NOMEM, _("no memory for a line of JSON"));
    if (!echo(&a, e)) goto out;
    ern_draft_stats before = { 0 }, guesses = { 0 };
    if (o->draft) before = ern_draft_stats_of(o->draft);
    const double started = cli_now();
    if (!ern_session_generate(s, o, on_token, &a, &r, e)) goto out;
    const double ended = cli_now();
    if (a.has_failed) {
        *e = a.error;
        goto out;
    }
    if (r.end_id >= 0 && !add_id(&a.ids, r.end_id, e)) goto out;        /* the token that ended it was written too */
    if (o->draft) guesses = cli_draft_since(o->draft, &before);
    if (job->is_json) ok = cli_print_json(answer_json(&a, &r, started, ended, o->draft ? &guesses : NULL), e);
    else {
        end_text(&a);
        say_full(s, o, &r);
        ok = true;
    }
    if (ok && job->shows_stats) say_stats(job, &r, ended - started, o->draft ? &guesses : NULL);
    *was_stopped = r.finish == ERN_FINISH_CALLER;
out:
    json_decref(a.logprobs);
    ern_tokens_free(&a.ids);
    buf_deinit(&a.text);
    return ok;
}
