/* Many answers at once: one thread that, step after step, runs one token of every answer that is being written and a
 * piece of the prompts that are being read through the model together.
 *
 *     ern_scheduler *s = scheduler_open(eng, &options, e);
 *     scheduler_request r = { .ids = ids, .n_ids = n, .sampling = o, .on_event = on_event, .ctx = me };
 *     uint64_t ticket = scheduler_submit(s, &r, e);        0: refused (ERN_BUSY when the queue is full)
 *     ...                                                  on_event is called on the scheduler's thread
 *     scheduler_cancel(s, ticket);                         its memory is free after the step at hand
 *
 * Prompts start from the longest beginning that is known (prefix.h), several answers to one prompt share its pages. Requests
 * wait by priority, then fairly between keys: the key that was served least comes first. What a request gets depends on its
 * seed alone, not on what runs beside it. */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include "engine/answer.h"
#include "engine/prefix.h"

typedef struct ern_scheduler ern_scheduler;

typedef struct {
    size_t n_ctx;               /* tokens a request may hold; 0: what the model allows */
    const char *kv_type;        /* as ern_session_options */
    size_t max_running;         /* answers written at once; 0: 16 */
    size_t max_queue;           /* requests that wait; 0: 256 */
    size_t max_kv_bytes;        /* of all keys and values, known beginnings included; 0: half of what memory is free */
    size_t prefill_rows;        /* prompt tokens of one step while answers are being written; 0: 128 */
    const char *cache_folder;   /* NULL: known beginnings live in memory only */
    size_t max_cache_folder_bytes;
} scheduler_options;

enum scheduler_event_kind {
    SCHEDULER_STARTED,          /* left the queue; n_cached of n_prompt tokens were known */
    SCHEDULER_TOKEN,            /* token is valid during the call; text may be "" */
    SCHEDULER_DONE,             /* one of the n answers is over: result */
    SCHEDULER_FAILED            /* error; nothing more comes for any of the answers */
};

typedef struct {
    enum scheduler_event_kind kind;
    size_t index;               /* which of the n answers */
    bool is_last;               /* no event follows for this request */
    const ern_token_event *token;
    const ern_result *result;
    const ern_err *error;
    size_t n_prompt, n_cached;
    double wait_s, prefill_s, decode_s;     /* DONE: in the queue, reading the prompt, writing */
} scheduler_event;

typedef struct {
    const int32_t *ids;         /* the prompt, copied; n_ids >= 1 */
    size_t n_ids;
    ern_sampling sampling;      /* copied with all it points at */
    size_t n_answers;           /* 0: 1; answer i draws with seed + i */
    ern_constraint *constraint; /* NULL: none; borrowed until the last event */
    int32_t constraint_after;   /* see answer.h; -1 */
    int32_t think_end;          /* -1 */
    size_t think_budget;
    const int32_t *think_close; /* copied */
    size_t n_think_close;
    bool shows_specials;
    int priority;               /* higher first */
    const char *key;            /* who asks, for fairness; NULL: nobody; copied */
    const char *tenant;         /* whose beginnings may be reused; NULL: ""; copied */
    void (*on_event)(void *ctx, const scheduler_event *ev);     /* must not block and must not submit */
    void *ctx;
} scheduler_request;

void scheduler_request_defaults(const ern_engine *eng, scheduler_request *r);

ern_scheduler *scheduler_open(ern_engine *eng, const scheduler_options *o, ern_err *e);
void scheduler_close(ern_scheduler *s);     /* running requests fail with ERN_STOPPED; known beginnings are saved */
bool scheduler_drain(ern_scheduler *s, unsigned wait_ms);   /* nothing new is taken; true: all done in time */

/* What a request may hold in all. */
size_t scheduler_n_ctx(const ern_scheduler *s);
uint64_t scheduler_submit(ern_scheduler *s, const scheduler_request *r, ern_err *e);
void scheduler_cancel(ern_scheduler *s, uint64_t ticket);       /* unknown or finished: nothing happens */

typedef struct {
    size_t n_running, n_waiting, n_kv_bytes, max_kv_bytes;
    uint64_t n_requests, n_done, n_failed, n_cancelled, n_refused, n_prompt_tokens, n_cached_tokens, n_answer_tokens,
        n_steps;
    double busy_s;
    prefix_stats prefix;
} scheduler_stats;
scheduler_stats scheduler_stats_of(ern_scheduler *s);

#endif
