/* Counters of the server and their Prometheus text. Thread-safe. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "server/models.h"

typedef struct server_metrics server_metrics;

server_metrics *metrics_open(ern_err *e);
void metrics_close(server_metrics *m);

void metrics_request(server_metrics *m, int status, double seconds);           /* any HTTP request is over */
typedef struct {
    size_t n_prompt, n_cached, n_answer, max_tokens;
    double wait_s, prefill_s, decode_s, first_s, total_s;      /* first_s: from arrival to the first token */
} metrics_answer_times;
void metrics_answer(server_metrics *m, const metrics_answer_times *t);         /* one answer was written to its end */
void metrics_embedding(server_metrics *m, size_t n_texts, size_t n_tokens);

/* All of it, with the schedulers' own counters; appended to out. */
bool metrics_text(server_metrics *m, server_models *models, ern_buf *out, ern_err *e);

#endif
