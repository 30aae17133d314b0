#include "engine/scheduler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/sys.h"
#include "engine/sampler.h"

#define DEFAULT_RUNNING 16
#define DEFAULT_QUEUE 256
#define DEFAULT_PREFILL_ROWS 128
#define MAX_ANSWERS 128
#define MAX_KEYS 4096

struct request;

/* One answer: its own timeline. */
typedef struct {
    struct request *r;
    ern_kv kv;
    int32_t *ids;               /* [n_ctx of the request] */
    size_t n;                   /* tokens whose keys are in kv */
    int32_t next;               /* the token to run; -1: the prompt is not read yet */
    ern_answer *answer;
    ern_sampling sampling;      /* with this answer's seed */
    float *logits;              /* [V] after ids[n-1], when they are waiting to be drawn from */
    bool has_logits, is_over;
} sequence;

typedef struct request {
    struct request *next;       /* in the queue */
    uint64_t ticket;
    scheduler_request q;        /* pointers are to copies below */
    int32_t *ids, *think_close, *stop_ids;
    ern_logit_bias *bias;
    char **stop, *key, *tenant;
    sequence *seqs;             /* [n_answers]; the first reads the prompt */
    size_t n_answers, n_over, n_cached, cap_ctx;
    bool is_cancelled, is_read;
    double submitted, started, read;
} request;

typedef struct { char *key; uint64_t served; } key_share;

struct ern_scheduler {
    ern_engine *eng;
    scheduler_options o;
    enum ern_dtype k_type, v_type;
    ern_kv_pool *pool;
    ern_prefix *prefix;
    pthread_t thread;
    pthread_mutex_t lock;       /* queue, tickets, flags, stats; never held while the model runs */
    pthread_cond_t wake, idle;
    bool is_started, is_stopping, is_draining;
    request *queue;             /* in order of arrival */
    size_t n_queue;
    request **running;          /* [max_running] */
    size_t n_running, n_sequences;
    uint64_t last_ticket;
    key_share *keys;            /* [n_keys] tokens served to each key */
    size_t n_keys;
    scheduler_stats stats;
    model_row *rows;            /* [max_batch] */
    float *logits;              /* [max_running, V] */
    sequence **owners;          /* [max_running] whose logits */
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void scheduler_request_defaults(const ern_engine *eng, scheduler_request *r) {
    *r = (scheduler_request){ .n_answers = 1, .constraint_after = -1, .think_end = -1 };
    ern_sampling_defaults(eng, &r->sampling);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void request_free(request *r) {
    if (!r) return;
    for (size_t i = 0; r->seqs && i < r->n_answers; i++) {
        answer_close(r->seqs[i].answer);
        if (r->seqs[i].kv.pages) kv_deinit(&r->seqs[i].kv);
        free(r->seqs[i].ids);
        free(r->seqs[i].logits);
    }
    for (size_t i = 0; r->stop && i < r->q.sampling.n_stop; i++) free(r->stop[i]);
    free(r->seqs);
    free(r->stop);
    free(r->ids);
    free(r->think_close);
    free(r->stop_ids);
    free(r->bias);
    free(r->key);
    free(r->tenant);
    free(r);
}

static void *copy_of(const void *from, size_t n, size_t size, bool *ok, ern_err *e) {
    void *to = mem_zalloc(n ? n : 1, size, "request", e);
    if (!to) *ok = false;
    else if (n) memcpy(to, from, n * size);
    return to;
}

static request *request_copy(const scheduler_request *q, ern_err *e) {
    request *r = mem_zalloc(1, sizeof *r, "request", e);
    bool ok = r != NULL;
    if (!ok) return NULL;
    r->q = *q;
    r->n_answers = q->n_answers ? q->n_answers : 1;
    r->q.ids = r->ids = copy_of(q->ids, q->n_ids, sizeof *q->ids, &ok, e);
    r->q.think_close = r->think_close = copy_of(q->think_close, q->n_think_close, sizeof *q->think_close, &ok, e);
    r->q.sampling.stop_ids = r->stop_ids = copy_of(q->sampling.stop_ids, q->sampling.n_stop_ids, sizeof *r->stop_ids,
                                                   &ok, e);
    r->q.sampling.bias = r->bias = copy_of(q->sampling.bias, q->sampling.n_bias, sizeof *r->bias, &ok, e);
    r->stop = mem_zalloc(q->sampling.n_stop + 1, sizeof *r->stop, "request", e);
    r->seqs = mem_zalloc(r->n_answers, sizeof *r->seqs, "request", e);
    ok = ok && r->stop && r->seqs;
    for (size_t i = 0; ok && i < q->sampling.n_stop; i++)
        ok = (r->stop[i] = mem_strndup(q->sampling.stop[i], strlen(q->sampling.stop[i]), e));
    r->q.sampling.stop = (const char *const *)r->stop;
    ok = ok && (r->q.key = r->key = mem_strndup(q->key ? q->key : "", q->key ? strlen(q->key) : 0, e));
    ok = ok && (r->q.tenant = r->tenant = mem_strndup(q->tenant ? q->tenant : "", q->tenant ? strlen(q->tenant) : 0, e));
    if (!ok) { request_free(r); return NULL; }
    return r;
}

static void send(request *r, scheduler_event *ev) {
    ev->n_prompt = r->q.n_ids;
    ev->n_cached = r->n_cached;
    if (r->q.on_event) r->q.on_event(r->q.ctx, ev);
}

static void send_failure(request *r, const ern_err *why) {
    scheduler_event ev = { .kind = SCHEDULER_FAILED, .is_last = true, .error = why };
    send(r, &ev);
}

static bool check_request(const ern_scheduler *s, const scheduler_request *r, ern_err *e) {
    const size_t V = s->eng->model->c.n_vocab, answers = r->n_answers ? r->n_answers : 1;
    if (r->n_ids == 0) return ern_fail(e, ERN_ARG, "prompt: at least one token wanted");
    if (answers > MAX_ANSWERS || answers > s->o.max_running)
        return ern_fail(e, ERN_ARG, "n: %zu answers to one prompt, at most %zu", answers, s->o.max_running < MAX_ANSWERS
                        ? s->o.max_running : MAX_ANSWERS);
    if (r->n_ids >= s->o.n_ctx)
        return ern_fail(e, ERN_LIMIT, "prompt of %zu tokens: the context of %zu tokens leaves no room for an answer",
                        r->n_ids, s->o.n_ctx);
    for (size_t i = 0; i < r->n_ids; i++)
        if (r->ids[i] < 0 || (size_t)r->ids[i] >= V)
            return ern_fail(e, ERN_ARG, "token id %d at %zu: 0 to %zu wanted", (int)r->ids[i], i, V - 1);
    return sampling_check(&r->sampling, V, e);
}

uint64_t scheduler_submit(ern_scheduler *s, const scheduler_request *q, ern_err *e) {
    uint64_t ticket = 0;
    request *r = check_request(s, q, e) ? request_copy(q, e) : NULL;
    if (!r) return 0;
    r->submitted = now_s();
    pthread_mutex_lock(&s->lock);
    if (s->is_stopping || s->is_draining) ern_fail(e, ERN_BUSY, "the server is shutting down");
    else if (s->n_queue >= s->o.max_queue) {
        ern_fail(e, ERN_BUSY, "%zu requests are waiting already, at most %zu may", s->n_queue, s->o.max_queue);
        s->stats.n_refused++;
    } else {
        request **at = &s->queue;
        while (*at) at = &(*at)->next;
        *at = r;
        s->n_queue++;
        s->stats.n_requests++;
        ticket = r->ticket = ++s->last_ticket;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (!ticket) request_free(r);
    return ticket;
}

void scheduler_cancel(ern_scheduler *s, uint64_t ticket) {
    pthread_mutex_lock(&s->lock);
    for (request *r = s->queue; r; r = r->next)
        if (r->ticket == ticket) r->is_cancelled = true;
    for (size_t i = 0; i < s->n_running; i++)
        if (s->running[i]->ticket == ticket) s->running[i]->is_cancelled = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

/* ---- fairness -------------------------------------------------------------------------------------- */

static key_share *share_of(ern_scheduler *s, const char *key) {
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < s->n_keys; i++) {
        if (strcmp(s->keys[i].key, key) == 0) return &s->keys[i];
        if (s->keys[i].served < least) least = s->keys[i].served;
    }
    if (s->n_keys == MAX_KEYS) return NULL;
    key_share *more = mem_grow(s->keys, s->n_keys + 1, sizeof *more, "keys", NULL);
    if (!more) return NULL;
    s->keys = more;
    char *copy = mem_strndup(key, strlen(key), NULL);
    if (!copy) return NULL;
    /* A new key starts level with the one served least, not with a claim on all that was served before it came. */
    s->keys[s->n_keys] = (key_share){ copy, s->n_keys ? least : 0 };
    return &s->keys[s->n_keys++];
}

static void charge(ern_scheduler *s, const request *r, size_t n_tokens) {
    key_share *k = share_of(s, r->key);
    if (k) k->served += n_tokens;
}

/* Under lock: the request to start next, still in the queue. Where it stands in line goes by priority, then the key's
 * share. */
static request **choose(ern_scheduler *s) {
    request **best = NULL;
    uint64_t best_served = 0;
    for (request **at = &s->queue; *at; at = &(*at)->next) {
        const key_share *k = share_of(s, (*at)->key);
        const uint64_t served = k ? k->served : 0;
        const bool is_better = !best || (*at)->q.priority > (*best)->q.priority ||
                               ((*at)->q.priority == (*best)->q.priority && served < best_served);
        if (!is_better) continue;
        best = at;
        best_served = served;
    }
    return best;
}

/* ---- starting and ending ---------------------------------------------------------------------------- */

static bool sequence_open(ern_scheduler *s, request *r, size_t i, ern_err *e) {
    sequence *q = &r->seqs[i];
    answer_options o;
    q->r = r;
    q->next = -1;
    q->sampling = r->q.sampling;
    q->sampling.seed += i;
    if (!kv_init_types(&q->kv, &s->eng->model->c, r->cap_ctx, s->k_type, s->v_type, e)) return false;
    q->kv.pool = s->pool;
    answer_defaults(&o, &q->sampling);
    o.constraint = r->q.constraint;
    o.constraint_after = r->q.constraint_after;
    o.think_end = r->q.think_end;
    o.think_budget = r->q.think_budget;
    o.think_close = r->think_close;
    o.n_think_close = r->q.n_think_close;
    o.shows_specials = r->q.shows_specials;
    return (q->ids = mem_zalloc(r->cap_ctx, sizeof *q->ids, "sequence", e)) &&
           (q->logits = mem_zalloc(s->eng->model->c.n_vocab, sizeof *q->logits, "logits", e)) &&
               (q->answer = answer_open(s->eng, &o, e));
}

static bool request_start(ern_scheduler *s, request *r, ern_err *e) {
    const size_t wanted = r->q.sampling.max_tokens ? r->q.n_ids + r->q.sampling.max_tokens + 1 : s->o.n_ctx;
    r->cap_ctx = wanted < s->o.n_ctx ? wanted : s->o.n_ctx;
    for (size_t i = 0; i < r->n_answers; i++)
        if (!sequence_open(s, r, i, e)) return false;
    sequence *first = &r->seqs[0];
    memcpy(first->ids, r->ids, r->q.n_ids * sizeof *r->ids);
    r->n_cached = first->n = prefix_find(s->prefix, r->tenant, r->ids, r->q.n_ids - 1, &first->kv);
    r->started = now_s();
    scheduler_event ev = { .kind = SCHEDULER_STARTED };
    send(r, &ev);
    return true;
}

/* What was computed may be wanted again; the sequence itself holds it no longer. */
static void remember(ern_scheduler *s, sequence *q) {
    if (q->n && q->kv.n_pages) prefix_add(s->prefix, q->r->tenant, q->ids, q->n, &q->kv);
    if (q->kv.pages) kv_truncate(&q->kv, 0);
    q->n = 0;
}

static void request_end(ern_scheduler *s, size_t i) {
    request *r = s->running[i];
    for (size_t k = 0; k < r->n_answers; k++) remember(s, &r->seqs[k]);
    pthread_mutex_lock(&s->lock);
    s->n_sequences -= r->n_answers;
    s->running[i] = s->running[--s->n_running];
    if (s->n_running == 0 && !s->queue) pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
    request_free(r);
}

static void fail_running(ern_scheduler *s, size_t i, const ern_err *why) {
    request *r = s->running[i];
    pthread_mutex_lock(&s->lock);
    if (r->is_cancelled) s->stats.n_cancelled++;
    else s->stats.n_failed++;
    pthread_mutex_unlock(&s->lock);
    send_failure(r, why);
    request_end(s, i);
}

/* Take requests from the queue while there is room; false when it is time to stop. */
static bool admit(ern_scheduler *s) {
    pthread_mutex_lock(&s->lock);
    while (!s->is_stopping && s->n_running == 0 && !s->queue) pthread_cond_wait(&s->wake, &s->lock);
    while (!s->is_stopping) {
        request **at = choose(s), *r = at ? *at : NULL;
        if (!r || s->n_sequences + r->n_answers > s->o.max_running) break;
        *at = r->next;
        s->n_queue--;
        s->n_sequences += r->n_answers;
        s->running[s->n_running++] = r;
        const size_t i = s->n_running - 1;
        const bool is_cancelled = r->is_cancelled;
        pthread_mutex_unlock(&s->lock);
        ern_err why = { 0 };
        if (is_cancelled) ern_fail(&why, ERN_STOPPED, "cancelled");
        if (is_cancelled || !request_start(s, r, &why)) fail_running(s, i, &why);
        pthread_mutex_lock(&s->lock);
    }
    const bool goes_on = !s->is_stopping;
    pthread_mutex_unlock(&s->lock);
    return goes_on;
}

/* ---- a step ------------------------------------------------------------------------------------------- */

static void end_sequence(ern_scheduler *s, sequence *q) {
    request *r = q->r;
    ern_token_event rest;
    bool has_text = false;
    const double t = now_s();
    q->is_over = true;
    r->n_over++;
    if (answer_rest(q->answer, &rest, &has_text, NULL) && has_text) {
        scheduler_event ev = { .kind = SCHEDULER_TOKEN, .index = (size_t)(q - r->seqs), .token = &rest };
        send(r, &ev);
    }
    remember(s, q);
    pthread_mutex_lock(&s->lock);
    if (r->n_over == r->n_answers) s->stats.n_done++;
    pthread_mutex_unlock(&s->lock);
    scheduler_event ev = { .kind = SCHEDULER_DONE, .index = (size_t)(q - r->seqs), .is_last = r->n_over == r->n_answers,
                           .result = answer_result(q->answer), .wait_s = r->started - r->submitted, .prefill_s =
                               r->read - r->started,
                           .decode_s = t - r->read };
    send(r, &ev);
}

/* Draw the next token of a sequence whose logits have come. */
static bool draw(ern_scheduler *s, sequence *q, ern_err *e) {
    ern_token_event ev;
    bool is_done;
    q->has_logits = false;
    if (!answer_next(q->answer, q->logits, q->ids, q->n, &ev, &is_done, e)) return false;
    if (ev.id >= 0) {
        scheduler_event out = { .kind = SCHEDULER_TOKEN, .index = (size_t)(q - q->r->seqs), .token = &ev };
        send(q->r, &out);
        q->next = ev.id;
        q->ids[q->n] = ev.id;
    }
    if (is_done || ev.id < 0 || q->n + 1 >= q->r->cap_ctx) end_sequence(s, q);
    return true;
}

/* The prompt is read: the other answers begin from the same pages. */
static bool spread(ern_scheduler *s, request *r, ern_err *e) {
    const sequence *first = &r->seqs[0];
    r->is_read = true;
    r->read = now_s();
    for (size_t i = 1; i < r->n_answers; i++) {
        sequence *q = &r->seqs[i];
        if (!kv_share(&q->kv, &first->kv, first->n, e)) return false;
        memcpy(q->ids, first->ids, first->n * sizeof *q->ids);
        memcpy(q->logits, first->logits, s->eng->model->c.n_vocab * sizeof *q->logits);
        q->n = first->n;
        q->has_logits = true;
    }
    /* Full pages of the prompt can be found by others from now on; the last one is still being written. */
    const size_t full = first->n / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    if (full) prefix_add(s->prefix, r->tenant, first->ids, full, &first->kv);
    return true;
}

typedef struct { size_t n_rows, n_logits; } step_plan;

static void add_row(ern_scheduler *s, step_plan *p, sequence *q, int32_t id, size_t pos, bool wants_logits) {
    s->rows[p->n_rows++] = (model_row){ .id = id, .pos = pos, .kv = &q->kv, .wants_logits = wants_logits };
    if (wants_logits) s->owners[p->n_logits++] = q;
}

/* A token of every answer, then prompts in turn: all of the room when nobody is writing, prefill_rows otherwise. */
static step_plan plan_step(ern_scheduler *s) {
    step_plan p = { 0 };
    const size_t most = s->eng->max_batch;
    for (size_t i = 0; i < s->n_running; i++) {
        request *r = s->running[i];
        for (size_t k = 0; r->is_read && k < r->n_answers; k++)
            if (!r->seqs[k].is_over) add_row(s, &p, &r->seqs[k], r->seqs[k].next, r->seqs[k].n, true);
    }
    size_t room = p.n_rows == 0 || s->o.prefill_rows > most - p.n_rows ? most - p.n_rows : s->o.prefill_rows;
    for (size_t i = 0; i < s->n_running && room; i++) {
        request *r = s->running[i];
        sequence *q = &r->seqs[0];
        if (r->is_read) continue;
        const size_t left = r->q.n_ids - q->n, n = left < room ? left : room;
        for (size_t t = 0; t < n; t++) add_row(s, &p, q, r->ids[q->n + t], q->n + t, t + 1 == left);
        room -= n;
    }
    return p;
}

/* Rows that were run belong to their sequences. */
static void advance(ern_scheduler *s, const step_plan *p) {
    const size_t V = s->eng->model->c.n_vocab;
    for (size_t i = 0; i < s->n_running; i++) {
        request *r = s->running[i];
        for (size_t k = 0; k < r->n_answers; k++)
            for (size_t t = 0; t < p->n_rows; t++)
                if (s->rows[t].kv == &r->seqs[k].kv) {
                    r->seqs[k].n++;
                    charge(s, r, 1);
                    if (!r->is_read) s->stats.n_prompt_tokens++;
                }
    }
    for (size_t i = 0; i < p->n_logits; i++) {
        memcpy(s->owners[i]->logits, s->logits + i * V, V * sizeof *s->logits);
        s->owners[i]->has_logits = true;
    }
}

/* Pages for the rows of the step; known beginnings make room, then the request that came last has to wait for nothing:
 * it fails. */
static bool make_room(ern_scheduler *s, const step_plan *p, ern_err *e) {
    for (size_t t = 0; t < p->n_rows; t++) {
        const model_row *r = &s->rows[t];
        while (!kv_reserve(r->kv, r->pos, r->pos + 1, e))
            if (e->code != ERN_LIMIT || prefix_shrink(s->prefix, r->kv->page_bytes) == 0) return false;
    }
    return true;
}

static void drop_cancelled(ern_scheduler *s) {
    for (size_t i = 0; i < s->n_running;) {
        pthread_mutex_lock(&s->lock);
        const bool is_cancelled = s->running[i]->is_cancelled;
        pthread_mutex_unlock(&s->lock);
        ern_err why = { 0 };
        ern_fail(&why, ERN_STOPPED, "cancelled");
        if (is_cancelled) fail_running(s, i, &why);
        else i++;
    }
}

/* The one that was admitted last gives way when memory is full. */
static void fail_youngest(ern_scheduler *s, const ern_err *why) {
    size_t youngest = 0;
    for (size_t i = 1; i < s->n_running; i++)
        if (s->running[i]->ticket > s->running[youngest]->ticket) youngest = i;
    fail_running(s, youngest, why);
}

static void finish_step(ern_scheduler *s, const step_plan *p) {
    pthread_mutex_lock(&s->lock);
    s->stats.n_answer_tokens += p->n_logits;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->n_running;) {
        request *r = s->running[i];
        ern_err why = { 0 };
        bool ok = r->is_read || !r->seqs[0].has_logits || spread(s, r, &why);
        for (size_t k = 0; ok && r->is_read && k < r->n_answers; k++)
            if (r->seqs[k].has_logits && !r->seqs[k].is_over) ok = draw(s, &r->seqs[k], &why);
        if (!ok) fail_running(s, i, &why);
        else if (r->n_over == r->n_answers) request_end(s, i);
        else i++;
    }
}

static void step(ern_scheduler *s) {
    ern_err why = { 0 };
    const double t = now_s();
    drop_cancelled(s);
    if (s->n_running == 0) return;
    const step_plan p = plan_step(s);
    if (!make_room(s, &p, &why)) { fail_youngest(s, &why); return; }
    if (!engine_forward(s->eng, s->rows, p.n_rows, s->logits, NULL, NULL, &why)) { fail_youngest(s, &why); return; }
    pthread_mutex_lock(&s->lock);
    advance(s, &p);
    s->stats.n_steps++;
    pthread_mutex_unlock(&s->lock);
    finish_step(s, &p);
    pthread_mutex_lock(&s->lock);
    s->stats.busy_s += now_s() - t;
    s->stats.prefix = prefix_stats_of(s->prefix);
    pthread_mutex_unlock(&s->lock);
}

static void *work(void *arg) {
    ern_scheduler *s = arg;
    ern_err why = { 0 };
    while (admit(s)) step(s);
    ern_fail(&why, ERN_STOPPED, "the server is shutting down");
    while (s->n_running) fail_running(s, s->n_running - 1, &why);
    pthread_mutex_lock(&s->lock);
    request *rest = s->queue;
    s->queue = NULL;
    s->n_queue = 0;
    pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
    while (rest) {
        request *next = rest->next;
        send_failure(rest, &why);
        request_free(rest);
        rest = next;
    }
    return NULL;
}

/* ---- open and close --------------------------------------------------------------------------------------- */

static bool open_memory(ern_scheduler *s, ern_err *e) {
    const ern_config *c = &s->eng->model->c;
    const prefix_options po = { .folder = s->o.cache_folder, .max_folder_bytes = s->o.max_cache_folder_bytes };
    ern_kv like;
    if (!kv_types_from_name(&s->k_type, &s->v_type, engine_kv_type(s->eng, s->o.kv_type), e)) return false;
    if (!kv_init_types(&like, c, s->o.n_ctx, s->k_type, s->v_type, e)) return false;
    bool ok = true;
    if (s->o.max_kv_bytes < like.page_bytes)
        ok = ern_fail(e, ERN_LIMIT, "keys and values: %zu bytes allowed, one page of %d tokens needs %zu",
                      s->o.max_kv_bytes, KV_PAGE_TOKENS, like.page_bytes);
    ok = ok && (s->pool = kv_pool_open(s->o.max_kv_bytes, e));
    like.pool = s->pool;
    ok = ok && (s->prefix = prefix_open(s->eng, &like, &po, e));
    kv_deinit(&like);
    const size_t V = c->n_vocab, n = s->o.max_running;
    return ok && (s->running = mem_zalloc(n, sizeof *s->running, "scheduler", e)) &&
        (s->rows = mem_zalloc(s->eng->max_batch, sizeof *s->rows, "scheduler", e)) &&
           (s->logits = mem_zalloc(n, V * sizeof *s->logits, "scheduler", e)) &&
               (s->owners = mem_zalloc(n, sizeof *s->owners, "scheduler", e));
}

ern_scheduler *scheduler_open(ern_engine *eng, const scheduler_options *o, ern_err *e) {
    if (eng->model->c.arch == ARCH_BERT)
        { ern_fail(e, ERN_ARG, "an encoder gives embeddings, it cannot write text"); return NULL; }
    ern_scheduler *s = mem_zalloc(1, sizeof *s, "scheduler", e);
    if (!s) return NULL;
    s->eng = eng;
    s->o = *o;
    if (!s->o.n_ctx || s->o.n_ctx > eng->model->c.max_positions) s->o.n_ctx = eng->model->c.max_positions;
    if (!s->o.max_running) s->o.max_running = DEFAULT_RUNNING;
    if (s->o.max_running > eng->max_batch) s->o.max_running = eng->max_batch;
    if (!s->o.max_queue) s->o.max_queue = DEFAULT_QUEUE;
    if (!s->o.prefill_rows) s->o.prefill_rows = DEFAULT_PREFILL_ROWS;
    if (!s->o.max_kv_bytes) s->o.max_kv_bytes = sys_memory_available() / 2;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    pthread_cond_init(&s->idle, NULL);
    bool ok = open_memory(s, e);
    if (ok && pthread_create(&s->thread, NULL, work, s) != 0)
        ok = ern_fail(e, ERN_MISSING, "the system starts no more threads");
    s->is_started = ok;
    if (!ok) { scheduler_close(s); return NULL; }
    return s;
}

bool scheduler_drain(ern_scheduler *s, unsigned wait_ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
    pthread_mutex_lock(&s->lock);
    s->is_draining = true;
    while (s->n_running || s->queue)
        if (pthread_cond_timedwait(&s->idle, &s->lock, &until) == ETIMEDOUT) break;
    const bool is_done = !s->n_running && !s->queue;
    pthread_mutex_unlock(&s->lock);
    return is_done;
}

void scheduler_close(ern_scheduler *s) {
    if (!s) return;
    if (s->is_started) {
        pthread_mutex_lock(&s->lock);
        s->is_stopping = true;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    prefix_close(s->prefix);
    kv_pool_close(s->pool);
    for (size_t i = 0; i < s->n_keys; i++) free(s->keys[i].key);
    free(s->keys);
    free(s->running);
    free(s->rows);
    free(s->logits);
    free(s->owners);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

size_t scheduler_n_ctx(const ern_scheduler *s) { return s->o.n_ctx; }

scheduler_stats scheduler_stats_of(ern_scheduler *s) {
    pthread_mutex_lock(&s->lock);
    scheduler_stats out = s->stats;
    out.n_running = s->n_running;
    out.n_waiting = s->n_queue;
    out.n_kv_bytes = kv_pool_used_bytes(s->pool);
    out.max_kv_bytes = s->o.max_kv_bytes;
    out.n_cached_tokens = s->stats.prefix.n_tokens_found;
    pthread_mutex_unlock(&s->lock);
    return out;
}
