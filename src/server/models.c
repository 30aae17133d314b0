#include "server/models.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/sys.h"

#define MAX_CONSTRAINTS 64          /* compiled grammars kept a model */

typedef struct {
    char *text;                     /* kind and text: the key */
    size_t n;
    ern_constraint *c;
    size_t n_users;
    uint64_t used;
} kept_constraint;

typedef struct {
    server_model m;                 /* first: a server_model is its slot */
    char *name, *path, *folder;
    size_t n_users, n_bytes;
    double used_s;
    bool is_opening, has_keep;
    double keep_s;                  /* has_keep: instead of idle_s; negative: for ever */
    kept_constraint constraints[MAX_CONSTRAINTS];
    size_t n_constraints;
} slot;

struct server_models {
    models_options o;
    pthread_mutex_t lock;
    pthread_cond_t opened;
    slot *slots;
    size_t n;
    bool is_opening;                /* one of them */
    uint64_t clock;
    scheduler_stats closed;         /* counters of models that are closed now: totals never fall */
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* "dir/ERNIE-4.5-0.3B-PT/" -> "ERNIE-4.5-0.3B-PT", "x/a.Q8_0.gguf" -> "a.Q8_0". */
static char *name_of(const char *path, ern_err *e) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    if (n - from > 5 && strncmp(path + n - 5, ".gguf", 5) == 0) n -= 5;
    return mem_strndup(path + from, n - from, e);
}

server_models *models_open(const models_options *o, ern_err *e) {
    server_models *m = mem_zalloc(1, sizeof *m, "models", e);
    if (!m) return NULL;
    m->o = *o;
    if (!m->o.max_bytes) m->o.max_bytes = sys_memory_available();
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->opened, NULL);
    m->slots = mem_zalloc(o->n_specs, sizeof *m->slots, "models", e);
    if (!m->slots) { models_close(m); return NULL; }
    for (size_t i = 0; i < o->n_specs; i++) {
        const model_spec *spec = &o->specs[i];
        slot *s = &m->slots[m->n++];
        s->path = mem_strndup(spec->path, strlen(spec->path), e);
        s->name = spec->name ? mem_strndup(spec->name, strlen(spec->name), e) : name_of(spec->path, e);
        if (!s->path || !s->name) { models_close(m); return NULL; }
        if (o->cache_folder && !(s->folder = file_join(o->cache_folder, s->name, e))) { models_close(m); return NULL; }
        for (size_t k = 0; k < i; k++)
            if (strcmp(m->slots[k].name, s->name) == 0) {
                ern_fail(e, ERN_ARG, "two models are called \"%s\": give one another name", s->name);
                models_close(m);
                return NULL;
            }
        s->m = (server_model){ .name = s->name, .path = s->path, .created = (long)time(NULL) };
    }
    return m;
}

static void add_stats(scheduler_stats *to, const scheduler_stats *x) {
    to->n_running += x->n_running;
    to->n_waiting += x->n_waiting;
    to->n_kv_bytes += x->n_kv_bytes;
    to->max_kv_bytes += x->max_kv_bytes;
    to->n_requests += x->n_requests;
    to->n_done += x->n_done;
    to->n_failed += x->n_failed;
    to->n_cancelled += x->n_cancelled;
    to->n_refused += x->n_refused;
    to->n_prompt_tokens += x->n_prompt_tokens;
    to->n_cached_tokens += x->n_cached_tokens;
    to->n_answer_tokens += x->n_answer_tokens;
    to->n_steps += x->n_steps;
    to->busy_s += x->busy_s;
    to->prefix.n_lookups += x->prefix.n_lookups;
    to->prefix.n_hits += x->prefix.n_hits;
    to->prefix.n_tokens_asked += x->prefix.n_tokens_asked;
    to->prefix.n_tokens_found += x->prefix.n_tokens_found;
}

/* Under lock, nobody uses it. */
static void close_slot(server_models *m, slot *s) {
    if (s->m.scheduler) {
        scheduler_stats last = scheduler_stats_of(s->m.scheduler);
        last.n_running = last.n_waiting = last.n_kv_bytes = last.max_kv_bytes = 0;
        add_stats(&m->closed, &last);
    }
    for (size_t i = 0; i < s->n_constraints; i++) {
        constraint_close(s->constraints[i].c);
        free(s->constraints[i].text);
    }
    s->n_constraints = 0;
    scheduler_close(s->m.scheduler);
    constrain_vocab_close(s->m.vocab);
    ern_engine_close(s->m.eng);
    s->m.scheduler = NULL;
    s->m.vocab = NULL;
    s->m.eng = NULL;
    s->n_bytes = 0;
}

void models_close(server_models *m) {
    if (!m) return;
    for (size_t i = 0; i < m->n; i++) {
        close_slot(m, &m->slots[i]);
        free(m->slots[i].name);
        free(m->slots[i].path);
        free(m->slots[i].folder);
    }
    free(m->slots);
    pthread_cond_destroy(&m->opened);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

bool models_drain(server_models *m, unsigned wait_ms) {
    const double until = now_s() + wait_ms * 1e-3;
    bool is_done = true;
    for (size_t i = 0; i < m->n; i++) {
        const double left = until - now_s();
        if (m->slots[i].m.scheduler && !scheduler_drain(m->slots[i].m.scheduler, left > 0 ? (unsigned)(left * 1e3)
                                                        : 0)) is_done = false;
    }
    return is_done;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static size_t used_bytes(const server_models *m) {
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) n += m->slots[i].n_bytes;
    return n;
}

/* Under lock: close unused models, the longest unused first, until n bytes more fit. */
static bool make_room(server_models *m, const slot *wanted, size_t n, ern_err *e) {
    while (used_bytes(m) + n > m->o.max_bytes) {
        slot *oldest = NULL;
        for (size_t i = 0; i < m->n; i++) {
            slot *s = &m->slots[i];
            if (s != wanted && s->m.eng && !s->n_users && (!oldest || s->used_s < oldest->used_s)) oldest = s;
        }
        if (!oldest)
            return ern_fail(e, ERN_LIMIT, "model %s needs %zu bytes; %zu of the %zu allowed are in use", wanted->name,
                            n, used_bytes(m), m->o.max_bytes);
        close_slot(m, oldest);
    }
    return true;
}

/* What is left for keys and values after the weights: all of the ceiling for one model, a share with several. */
static bool open_slot(server_models *m, slot *s, size_t n_free, server_model *out, size_t *n_bytes, ern_err *e) {
    scheduler_options so = m->o.scheduler;
    server_model model = s->m;
    if (!(model.eng = ern_engine_open(s->path, &m->o.engine, e))) return false;
    const size_t weights = source_size_bytes(model.eng->model ? model.eng->model->source : NULL);
    const size_t free_bytes = m->o.max_bytes > weights ? m->o.max_bytes - weights : 0;
    if (!so.max_kv_bytes) so.max_kv_bytes = free_bytes / (m->n > 1 ? 4 : 2);
    const size_t left = weights < n_free ? n_free - weights : 0;        /* beside the other models */
    if (so.max_kv_bytes > left) so.max_kv_bytes = left;
    so.cache_folder = s->folder;
    bool ok = true;
    if (model.eng->tokenizer) ok = (model.vocab = constrain_vocab_open(model.eng->tokenizer,
            ern_engine_n_vocab(model.eng), e));
    if (ok && model.eng->model &&
        model.eng->model->c.arch != ARCH_BERT) ok = (model.scheduler = scheduler_open(model.eng, &so, e));
    if (!ok) {
        constrain_vocab_close(model.vocab);
        ern_engine_close(model.eng);
        return false;
    }
    model.created = (long)time(NULL);
    *out = model;
    *n_bytes = weights + (model.scheduler ? so.max_kv_bytes : 0);
    return true;
}

static bool unknown_model(const server_models *m, const char *name, ern_err *e) {
    ern_buf b = { .max = 700 };
    for (size_t i = 0; i < m->n; i++)
        if (!buf_printf(&b, NULL, "%s%s", i ? ", " : "", m->slots[i].name)) break;
    ern_fail(e, ERN_NOTFOUND, "model \"%.200s\" is not served here; there is: %s", name, b.data ? b.data : "none");
    buf_deinit(&b);
    return false;
}

server_model *models_take(server_models *m, const char *name, ern_err *e) {
    slot *s = NULL;
    server_model *out = NULL;
    pthread_mutex_lock(&m->lock);
    if (!name || !*name) s = m->n ? &m->slots[0] : NULL;
    for (size_t i = 0; !s && i < m->n; i++)
        if (strcmp(m->slots[i].name, name) == 0) s = &m->slots[i];
    if (!s) { unknown_model(m, name ? name : "", e); goto out; }
    while (!s->m.eng && m->is_opening) pthread_cond_wait(&m->opened, &m->lock);     /* one at a time: memory is counted */
    if (!s->m.eng) {
        server_model opened;
        size_t n_bytes = 0;
        ern_source *source = source_open(s->path, e);       /* only the size of its tensors: nothing is read */
        const size_t weights = source ? source_size_bytes(source) : 0;
        if (!source) goto out;
        source_close(source);
        if (!make_room(m, s, weights, e)) goto out;
        s->is_opening = m->is_opening = true;
        const size_t n_free = m->o.max_bytes - used_bytes(m);
        s->n_bytes = n_free;            /* nobody else takes what is being filled */
        pthread_mutex_unlock(&m->lock);
        const bool ok = open_slot(m, s, n_free, &opened, &n_bytes, e);
        pthread_mutex_lock(&m->lock);
        s->is_opening = m->is_opening = false;
        s->n_bytes = ok ? n_bytes : 0;
        pthread_cond_broadcast(&m->opened);
        if (!ok) goto out;
        s->m = opened;
    }
    s->n_users++;
    s->used_s = now_s();
    out = &s->m;
out:
    pthread_mutex_unlock(&m->lock);
    return out;
}

void models_give(server_models *m, server_model *model) {
    if (!model) return;
    slot *s = (slot *)model;
    pthread_mutex_lock(&m->lock);
    s->n_users--;
    s->used_s = now_s();
    pthread_mutex_unlock(&m->lock);
}

void models_keep(server_models *m, server_model *model, double seconds) {
    slot *s = (slot *)model;
    pthread_mutex_lock(&m->lock);
    s->has_keep = true;
    s->keep_s = seconds;
    pthread_mutex_unlock(&m->lock);
}

/* Seconds until an unused model is closed; -1: never. */
static double idle_left(const server_models *m, const slot *s) {
    const double limit = s->has_keep ? s->keep_s : m->o.idle_s ? (double)m->o.idle_s : -1.0;
    if (limit < 0) return -1;
    const double left = limit - (s->n_users ? 0 : now_s() - s->used_s);
    return left > 0 ? left : 0;
}

void models_close_idle(server_models *m) {
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n; i++) {
        slot *s = &m->slots[i];
        if (s->m.eng && !s->n_users && !s->is_opening && idle_left(m, s) == 0) close_slot(m, s);
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- constraints ----------------------------------------------------------------------------------- */

static kept_constraint *find_kept(slot *s, const char *key, size_t n) {
    for (size_t i = 0; i < s->n_constraints; i++)
        if (s->constraints[i].n == n && memcmp(s->constraints[i].text, key, n) == 0) return &s->constraints[i];
    return NULL;
}

/* A place for one more: the longest unused goes. NULL: all are in use. */
static kept_constraint *free_place(slot *s) {
    kept_constraint *oldest = NULL;
    if (s->n_constraints < MAX_CONSTRAINTS) return &s->constraints[s->n_constraints++];
    for (size_t i = 0; i < MAX_CONSTRAINTS; i++)
        if (!s->constraints[i].n_users && (!oldest || s->constraints[i].used < oldest->used)) oldest = &s->constraints[i];
    if (!oldest) return NULL;
    constraint_close(oldest->c);
    free(oldest->text);
    return oldest;
}

ern_constraint *models_constraint(server_models *m, server_model *model, enum constrain_kind kind, const char *text,
                                  size_t n, ern_err *e) {
    slot *s = (slot *)model;
    ern_buf key = { 0 };
    if (!model->vocab) { ern_fail(e, ERN_MISSING, "model %s has no tokenizer: its answers cannot be constrained",
                                  model->name); return NULL; }
    if (!buf_char(&key, (char)('A' + kind), e) || !buf_add(&key, text, n, e)) { buf_deinit(&key); return NULL; }
    pthread_mutex_lock(&m->lock);
    kept_constraint *k = find_kept(s, key.data, key.len);
    ern_constraint *c = k ? k->c : NULL;
    if (k) { k->n_users++; k->used = ++m->clock; }
    pthread_mutex_unlock(&m->lock);
    if (c || !(c = constraint_open(model->vocab, kind, text, n, e))) { buf_deinit(&key); return c; }
    pthread_mutex_lock(&m->lock);
    /* somebody may have been faster: then this one is not kept */
    k = find_kept(s, key.data, key.len) ? NULL : free_place(s);
    if (k) *k = (kept_constraint){ .n = key.len, .text = buf_take(&key), .c = c, .n_users = 1, .used = ++m->clock };
    pthread_mutex_unlock(&m->lock);
    buf_deinit(&key);
    return c;
}

void models_give_constraint(server_models *m, server_model *model, ern_constraint *c) {
    slot *s = (slot *)model;
    bool is_kept = false;
    if (!c) return;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < s->n_constraints; i++)
        if (s->constraints[i].c == c) { s->constraints[i].n_users--; is_kept = true; }
    pthread_mutex_unlock(&m->lock);
    if (!is_kept) constraint_close(c);
}

json_t *models_list(server_models *m) {
    json_t *list = json_array();
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; list && i < m->n; i++) {
        slot *s = &m->slots[i];
        json_t *x = json_pack("{s:s, s:s, s:I, s:b}", "name", s->name, "path", s->path, "created",
                              (json_int_t)s->m.created, "is_open", s->m.eng != NULL);
        if (x && s->m.eng) {
            json_object_set_new(x, "is_encoder", json_boolean(!s->m.scheduler));
            json_object_set_new(x, "n_vocab", json_integer((json_int_t)ern_engine_n_vocab(s->m.eng)));
            json_object_set_new(x, "max_context", json_integer((json_int_t)ern_engine_max_context(s->m.eng)));
            json_object_set_new(x, "n_bytes", json_integer((json_int_t)s->n_bytes));
            json_object_set_new(x, "idle_left_s", json_real(idle_left(m, s)));
            json_object_set_new(x, "n_users", json_integer((json_int_t)s->n_users));
            if (s->m.scheduler) json_object_set_new(x, "n_ctx", json_integer((json_int_t)scheduler_n_ctx(s->m.scheduler)));
        }
        json_array_append_new(list, x);
    }
    pthread_mutex_unlock(&m->lock);
    return list;
}

scheduler_stats models_stats(server_models *m) {
    scheduler_stats out = { 0 };
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n; i++) {
        if (!m->slots[i].m.scheduler) continue;
        const scheduler_stats one = scheduler_stats_of(m->slots[i].m.scheduler);
        add_stats(&out, &one);
    }
    add_stats(&out, &m->closed);
    pthread_mutex_unlock(&m->lock);
    return out;
}
