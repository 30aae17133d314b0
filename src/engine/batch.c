#include "engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/engine.h"

struct ern_batch {
    ern_engine *eng;
    size_t max_parts;
    model_row *rows;        /* [max_batch] */
    float *logits;          /* [max_parts, V] */
};

ern_batch *batch_open(ern_engine *eng, size_t max_parts, ern_err *e) {
    if (max_parts == 0 || max_parts > eng->max_batch) {
        ern_fail(e, ERN_LIMIT, "batch of %zu sessions: 1 to %zu wanted", max_parts, eng->max_batch);
        return NULL;
    }
    ern_batch *b = mem_zalloc(1, sizeof *b, "batch", e);
    if (!b) return NULL;
    *b = (ern_batch){ .eng = eng, .max_parts = max_parts };
    if (!(b->rows = mem_zalloc(eng->max_batch, sizeof *b->rows, "batch", e)) ||
        !(b->logits = mem_zalloc(max_parts * eng->model->c.n_vocab, sizeof *b->logits, "batch", e))) {
        batch_close(b);
        return NULL;
    }
    return b;
}

void batch_close(ern_batch *b) {
    if (!b) return;
    free(b->rows);
    free(b->logits);
    free(b);
}

size_t batch_max_rows(const ern_batch *b) { return b->eng->max_batch; }

static bool check_part(const ern_batch *b, const batch_part *parts, size_t i, size_t n_rows, ern_err *e) {
    const batch_part *p = &parts[i];
    if (p->s->eng != b->eng) return ern_fail(e, ERN_ARG, "batch: session %zu belongs to another engine", i);
    for (size_t j = 0; j < i; j++)
        if (parts[j].s == p->s) return ern_fail(e, ERN_ARG, "batch: session %zu is session %zu again", i, j);
    if (p->n == 0) return ern_fail(e, ERN_ARG, "batch: session %zu: at least one token wanted", i);
    if (p->n > b->eng->max_batch - n_rows)
        return ern_fail(e, ERN_LIMIT, "batch: %zu tokens after %zu pass the %zu of one step", p->n, n_rows,
                        b->eng->max_batch);
    return session_check_append(p->s, p->ids, p->n, e);
}

bool batch_step(ern_batch *b, const batch_part *parts, size_t n_parts, ern_err *e) {
    const size_t V = b->eng->model->c.n_vocab;
    size_t T = 0;
    if (n_parts == 0 || n_parts > b->max_parts)
        return ern_fail(e, ERN_LIMIT, "batch: %zu sessions, 1 to %zu wanted", n_parts, b->max_parts);
    for (size_t i = 0; i < n_parts; i++) {
        const batch_part *p = &parts[i];
        if (!check_part(b, parts, i, T, e)) return false;
        for (size_t t = 0; t < p->n; t++)
            b->rows[T++] = (model_row){
                .id = p->ids[t], .pos = p->s->n + t, .kv = &p->s->kv, .wants_logits = t + 1 == p->n
            };
    }
    if (!engine_forward(b->eng, b->rows, T, b->logits, NULL, NULL, e)) return false;
    for (size_t i = 0; i < n_parts; i++) {
        ern_session *s = parts[i].s;
        memcpy(s->ids + s->n, parts[i].ids, parts[i].n * sizeof *s->ids);
        memcpy(s->logits, b->logits + i * V, V * sizeof *s->logits);
        s->n += parts[i].n;
        s->has_logits = true;
    }
    return true;
}
