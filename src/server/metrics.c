#include "server/metrics.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define MAX_EDGES 16

typedef struct {
    const char *name, *help;
    size_t n_edges;
    double edges[MAX_EDGES];
    uint64_t counts[MAX_EDGES + 1], n;
    double sum;
} histogram;

enum { H_FIRST, H_PER_TOKEN, H_TOTAL, H_QUEUE, H_PREFILL, H_DECODE, H_INFERENCE, H_PROMPT, H_ANSWER, H_MAX_TOKENS, N_HISTOGRAMS };

#define SECONDS 14, { 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 }
#define TOKENS 12, { 1, 8, 16, 64, 128, 256, 512, 1024, 4096, 16384, 65536, 131072 }

static const histogram empty_histograms[N_HISTOGRAMS] = {
    [H_FIRST] = { "time_to_first_token_seconds", "from a request's arrival to its first token", SECONDS, { 0 }, 0, 0 },
    [H_PER_TOKEN] = { "time_per_output_token_seconds", "time of one token of an answer", SECONDS, { 0 }, 0, 0 },
    [H_TOTAL] = { "e2e_request_latency_seconds", "from a request's arrival to its end", SECONDS, { 0 }, 0, 0 },
    [H_QUEUE] = { "request_queue_time_seconds", "time in the queue", SECONDS, { 0 }, 0, 0 },
    [H_PREFILL] = { "request_prefill_time_seconds", "time of reading the prompt", SECONDS, { 0 }, 0, 0 },
    [H_DECODE] = { "request_decode_time_seconds", "time of writing the answer", SECONDS, { 0 }, 0, 0 },
    [H_INFERENCE] = { "request_inference_time_seconds", "reading and writing", SECONDS, { 0 }, 0, 0 },
    [H_PROMPT] = { "request_prompt_tokens", "tokens of a prompt", TOKENS, { 0 }, 0, 0 },
    [H_ANSWER] = { "request_generation_tokens", "tokens of an answer", TOKENS, { 0 }, 0, 0 },
    [H_MAX_TOKENS] = { "request_params_max_tokens", "tokens that were allowed", TOKENS, { 0 }, 0, 0 },
};

struct server_metrics {
    pthread_mutex_t lock;
    histogram h[N_HISTOGRAMS];
    uint64_t by_status[600], n_requests, n_embeddings, n_embedding_tokens;
    double busy_s;
};

server_metrics *metrics_open(ern_err *e) {
    server_metrics *m = mem_zalloc(1, sizeof *m, "metrics", e);
    if (!m) return NULL;
    pthread_mutex_init(&m->lock, NULL);
    memcpy(m->h, empty_histograms, sizeof m->h);
    return m;
}

void metrics_close(server_metrics *m) {
    if (!m) return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void metrics_request(server_metrics *m, int status, double seconds) {
    pthread_mutex_lock(&m->lock);
    m->n_requests++;
    m->busy_s += seconds;
    if (status >= 0 && status < 600) m->by_status[status]++;
    pthread_mutex_unlock(&m->lock);
}

static void observe(histogram *h, double v) {
    size_t i = 0;
    while (i < h->n_edges && v > h->edges[i]) i++;
    h->counts[i]++;
    h->n++;
    h->sum += v;
}

void metrics_answer(server_metrics *m, const metrics_answer_times *t) {
    pthread_mutex_lock(&m->lock);
    observe(&m->h[H_FIRST], t->first_s);
    if (t->n_answer > 1) observe(&m->h[H_PER_TOKEN], t->decode_s / (double)(t->n_answer - 1));
    observe(&m->h[H_TOTAL], t->total_s);
    observe(&m->h[H_QUEUE], t->wait_s);
    observe(&m->h[H_PREFILL], t->prefill_s);
    observe(&m->h[H_DECODE], t->decode_s);
    observe(&m->h[H_INFERENCE], t->prefill_s + t->decode_s);
    observe(&m->h[H_PROMPT], (double)t->n_prompt);
    observe(&m->h[H_ANSWER], (double)t->n_answer);
    if (t->max_tokens) observe(&m->h[H_MAX_TOKENS], (double)t->max_tokens);
    pthread_mutex_unlock(&m->lock);
}

void metrics_embedding(server_metrics *m, size_t n_texts, size_t n_tokens) {
    pthread_mutex_lock(&m->lock);
    m->n_embeddings += n_texts;
    m->n_embedding_tokens += n_tokens;
    pthread_mutex_unlock(&m->lock);
}

/* ---- text ------------------------------------------------------------------------------------------------- */

static bool head(ern_buf *b, const char *name, const char *type, const char *help, ern_err *e) {
    return buf_printf(b, e, "# HELP ernie:%s %s\n# TYPE ernie:%s %s\n", name, help, name, type);
}

static bool one(ern_buf *b, const char *name, const char *type, const char *help, double v, ern_err *e) {
    return head(b, name, type, help, e) && buf_printf(b, e, "ernie:%s %.17g\n", name, v);
}

static bool histogram_text(ern_buf *b, const histogram *h, ern_err *e) {
    uint64_t sum = 0;
    if (!head(b, h->name, "histogram", h->help, e)) return false;
    for (size_t i = 0; i < h->n_edges; i++) {
        sum += h->counts[i];
        if (!buf_printf(b, e, "ernie:%s_bucket{le=\"%g\"} %llu\n", h->name, h->edges[i], (unsigned long long)sum)) return false;
    }
    return buf_printf(b, e, "ernie:%s_bucket{le=\"+Inf\"} %llu\nernie:%s_sum %.17g\nernie:%s_count %llu\n", h->name,
                      (unsigned long long)h->n, h->name, h->sum, h->name, (unsigned long long)h->n);
}

static bool model_text(ern_buf *b, const scheduler_stats *t, ern_err *e) {
#define U(x) ((double)(x))
    return one(b, "requests_number", "counter", "requests that were queued", U(t->n_requests), e) &&
           one(b, "request_success_total", "counter", "requests answered to their end", U(t->n_done), e) &&
           one(b, "request_failed_total", "counter", "requests that failed", U(t->n_failed), e) &&
           one(b, "request_cancelled_total", "counter", "requests whose client left", U(t->n_cancelled), e) &&
           one(b, "request_refused_total", "counter", "requests refused because the queue was full", U(t->n_refused), e) &&
           one(b, "prompt_tokens_total", "counter", "prompt tokens computed", U(t->n_prompt_tokens), e) &&
           one(b, "generation_tokens_total", "counter", "answer tokens written", U(t->n_answer_tokens), e) &&
           one(b, "prefix_cache_token_num", "counter", "prompt tokens that were known already", U(t->n_cached_tokens), e) &&
           one(b, "num_requests_running", "gauge", "requests at work", U(t->n_running), e) &&
           one(b, "num_requests_waiting", "gauge", "requests in the queue", U(t->n_waiting), e) &&
           one(b, "hit_token_rate", "gauge", "known part of all prompt tokens asked for",
               t->prefix.n_tokens_asked ? U(t->prefix.n_tokens_found) / U(t->prefix.n_tokens_asked) : 0.0, e) &&
           one(b, "hit_req_rate", "gauge", "requests that began from something known",
               t->prefix.n_lookups ? U(t->prefix.n_hits) / U(t->prefix.n_lookups) : 0.0, e) &&
           one(b, "kv_cache_bytes", "gauge", "keys and values in memory", U(t->n_kv_bytes), e) &&
           one(b, "kv_cache_max_bytes", "gauge", "keys and values allowed", U(t->max_kv_bytes), e) &&
           one(b, "kv_cache_usage_perc", "gauge", "part of that in use, 0 to 1",
               t->max_kv_bytes ? U(t->n_kv_bytes) / U(t->max_kv_bytes) : 0.0, e) &&
           one(b, "steps_total", "counter", "forward passes", U(t->n_steps), e) &&
           one(b, "step_seconds_total", "counter", "time in forward passes and sampling", t->busy_s, e);
#undef U
}

bool metrics_text(server_metrics *m, server_models *models, ern_buf *out, ern_err *e) {
    const scheduler_stats total = models_stats(models);
    bool ok = model_text(out, &total, e);
    pthread_mutex_lock(&m->lock);
    ok = ok && one(out, "http_request_seconds_total", "counter", "time of all HTTP requests", m->busy_s, e) &&
         one(out, "embedding_texts_total", "counter", "texts embedded", (double)m->n_embeddings, e) &&
         one(out, "embedding_tokens_total", "counter", "tokens embedded", (double)m->n_embedding_tokens, e) &&
         head(out, "http_requests_total", "counter", "HTTP requests by status", e);
    for (size_t i = 0; ok && i < sizeof m->by_status / sizeof m->by_status[0]; i++)
        if (m->by_status[i]) ok = buf_printf(out, e, "ernie:http_requests_total{status=\"%zu\"} %llu\n", i,
                                             (unsigned long long)m->by_status[i]);
    for (size_t i = 0; ok && i < N_HISTOGRAMS; i++) ok = histogram_text(out, &m->h[i], e);
    pthread_mutex_unlock(&m->lock);
    return ok;
}
