/* Squared activations gathered while a text runs through the model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/sha256.h"
#include "engine/engine.h"
#include "engine/imatrix_int.h"
#include "formats/layout.h"

#define CHUNK 512               /* tokens of a context unless asked otherwise: what llama.cpp takes */
#define NAME_BYTES 256

struct collecting {
    ern_imatrix *m;
    ern_names slots;            /* canonical name of a matrix -> index into places */
    struct { size_t entry, mat; } *places;
    size_t n_places, cap;
};

/* ---- one place a matrix ------------------------------------------------------------------------ */

/* "blk.3.ffn_up_exps.weight" and 7 for the up projection of expert 7. */
static bool gguf_place(char name[NAME_BYTES], size_t *expert, const char *canonical) {
    const char *at = strstr(canonical, ".mlp.experts.");
    *expert = at ? (size_t)strtoul(at + strlen(".mlp.experts."), NULL, 10) : 0;
    return layout_gguf_name(name, NAME_BYTES, canonical);
}

static bool add_place(struct collecting *c, const ern_model *model, const ern_view *v, ern_err *e) {
    char name[NAME_BYTES];
    size_t expert, entry = c->m->n;
    if (!gguf_place(name, &expert, v->name)) return true;
    const bool is_stack = strstr(v->name, ".mlp.experts.") != NULL;
    for (size_t i = 0; is_stack && i < c->m->n; i++)
        if (strcmp(c->m->entries[i].name, name) == 0) entry = i;
    if (entry == c->m->n && !imatrix_add(c->m, name, is_stack ? model->c.n_experts : 1, v->dims[1], e)) return false;
    if (c->n_places == c->cap) {
        const size_t cap = c->cap ? 2 * c->cap : 256;
        void *grown = mem_grow(c->places, cap, sizeof *c->places, "importance", e);
        if (!grown) return false;
        c->places = grown;
        c->cap = cap;
    }
    c->places[c->n_places].entry = entry;
    c->places[c->n_places].mat = expert;
    return names_add(&c->slots, v->name, c->n_places++, e);
}

static bool add_mlp(struct collecting *c, const ern_model *model, const model_mlp *mlp, ern_err *e) {
    return add_place(c, model, &mlp->gate.w, e) && add_place(c, model, &mlp->up.w, e) &&
           add_place(c, model, &mlp->down.w, e);
}

/* Every matrix of the layers, and the output where it is a matrix of its own. */
static bool add_places(struct collecting *c, const ern_model *model, ern_err *e) {
    for (size_t i = 0; i < model->c.n_layers; i++) {
        const model_layer *l = &model->layers[i];
        if (!add_place(c, model, &l->q.w, e) || !add_place(c, model, &l->k.w, e) || !add_place(c, model, &l->v.w, e) ||
            !add_place(c, model, &l->o.w, e)) return false;
        if (l->mlp.gate.w.data && !add_mlp(c, model, &l->mlp, e)) return false;
        for (size_t x = 0; l->is_moe && x < model->c.n_experts; x++)
            if (!add_mlp(c, model, &l->experts[x], e)) return false;
    }
    if (!model->c.is_tied && !add_place(c, model, &model->output, e)) return false;
    (void)names_sort(&c->slots);
    for (size_t i = 0; i < c->m->n; i++)
        if (!names_add(&c->m->names, c->m->entries[i].name, i, e)) return false;
    (void)names_sort(&c->m->names);
    return true;
}

static void observe(void *ctx, const ern_matrix *matrix, const float *x, size_t stride, const int32_t *rows, size_t first,
                    size_t n) {
    struct collecting *c = ctx;
    size_t slot;
    if (!names_find(&c->slots, matrix->view.name, &slot)) return;
    imatrix_entry *t = &c->m->entries[c->places[slot].entry];
    const size_t mat = c->places[slot].mat;
    double *sums = t->sums + mat * t->n_cols;
    for (size_t i = 0; i < n; i++) {
        const float *row = x + (rows ? (size_t)rows[i] : first + i) * stride;
        for (size_t k = 0; k < t->n_cols; k++) sums[k] += (double)row[k] * (double)row[k];
    }
    t->counts[mat] += (double)n;
}

/* ---- resuming ---------------------------------------------------------------------------------- */

static void stamp_of(char out[IMATRIX_STAMP], const int32_t *ids, size_t n, size_t chunk) {
    ern_sha256 s;
    uint8_t bytes[4];
    const uint32_t size = (uint32_t)chunk;
    sha256_begin(&s);
    for (size_t i = 0; i <= n; i++) {
        const uint32_t v = i < n ? (uint32_t)ids[i] : size;
        for (unsigned k = 0; k < 4; k++) bytes[k] = (uint8_t)(v >> (8 * k));
        sha256_add(&s, bytes, 4);
    }
    sha256_hex(&s, out);
}

/* What path holds becomes the beginning of m when it comes from the same tokens and the same shape. */
static void resume(ern_imatrix *m, const char *path, size_t n_chunks) {
    ern_imatrix *old = file_exists(path) ? imatrix_read(path, NULL) : NULL;
    bool is_same = old && strcmp(old->stamp, m->stamp) == 0 && old->n == m->n && old->n_chunks <= n_chunks;
    for (size_t i = 0; is_same && i < m->n; i++) {
        const imatrix_entry *t = imatrix_find(old, m->entries[i].name);
        is_same = t && t->n_mats == m->entries[i].n_mats && t->n_cols == m->entries[i].n_cols;
    }
    for (size_t i = 0; is_same && i < m->n; i++) {
        imatrix_entry *to = &m->entries[i];
        const imatrix_entry *from = imatrix_find(old, to->name);
        memcpy(to->sums, from->sums, to->n_mats * to->n_cols * sizeof *to->sums);
        memcpy(to->counts, from->counts, to->n_mats * sizeof *to->counts);
    }
    if (is_same) m->n_chunks = old->n_chunks;
    imatrix_close(old);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- collecting -------------------------------------------------------------------------------- */

static bool run_chunk(const ern_engine *eng, ern_work *w, ern_kv *kv, const int32_t *ids, size_t n, float *logits,
                      ern_err *e) {
    model_row rows[256];
    const size_t most = work_max_rows(w) < 256 ? work_max_rows(w) : 256;
    for (size_t at = 0; at < n;) {
        const size_t T = n - at < most ? n - at : most;
        /* an output of its own is shown only when logits are computed: those of the last row stand for all */
        for (size_t t = 0; t < T; t++)
            rows[t] = (model_row){ .id = ids[at + t], .pos = at + t, .kv = kv, .wants_logits = logits && t + 1 == T };
        if (!model_forward(eng->model, w, rows, T, logits, NULL, NULL, e)) return false;
        at += T;
    }
    return true;
}

static bool run_chunks(ern_engine *eng, struct collecting *c, const int32_t *ids, size_t n, size_t n_chunks,
                       const imatrix_options *o, ern_err *e) {
    const size_t chunk = c->m->chunk, rows = eng->max_batch < 256 ? eng->max_batch : 256;
    const bool has_output = !eng->model->c.is_tied;
    ern_kv kv = { 0 };
    bool ok = false;
    double saved = now();
    float *logits = has_output ? mem_zalloc(eng->model->c.n_vocab, sizeof *logits, "logits", e) : NULL;
    ern_work *w = work_open(eng->model, &eng->kernels, eng->pool, rows, chunk, eng->is_exact, e);
    if (!w || (has_output && !logits) || !kv_init_types(&kv, &eng->model->c, chunk, DTYPE_F16, DTYPE_F16, e)) goto out;
    work_observe(w, observe, c);
    while (c->m->n_chunks < n_chunks) {
        const size_t from = c->m->n_chunks * chunk, size = n - from < chunk ? n - from : chunk;
        if (o->progress && !o->progress(o->ctx, from, n_chunks * chunk)) {
            if (o->save_path && c->m->n_chunks && !imatrix_write(c->m, o->save_path, e)) goto out;
            ern_fail(e, ERN_STOPPED, "stopped after %zu of %zu chunks%s", c->m->n_chunks, n_chunks,
                     o->save_path && c->m->n_chunks ? "; the same command goes on from there" : "");
            goto out;
        }
        if (!run_chunk(eng, w, &kv, ids + from, size, logits, e)) goto out;
        c->m->n_chunks++;
        if (o->save_path && now() - saved > o->save_every_s) {
            if (!imatrix_write(c->m, o->save_path, e)) goto out;
            saved = now();
        }
    }
    ok = !o->save_path || imatrix_write(c->m, o->save_path, e);
out:
    kv_deinit(&kv);
    work_close(w);
    free(logits);
    return ok;
}

static bool set_means(ern_imatrix *m, ern_err *e) {
    for (size_t i = 0; i < m->n; i++) {
        imatrix_entry *t = &m->entries[i];
        if (!(t->means = mem_zalloc(t->n_mats * t->n_cols, sizeof *t->means, "importance", e))) return false;
        for (size_t k = 0; k < t->n_mats * t->n_cols; k++)
            if (t->counts[k / t->n_cols] > 0.0) t->means[k] = (float)(t->sums[k] / t->counts[k / t->n_cols]);
    }
    return true;
}

ern_imatrix *imatrix_collect(ern_engine *eng, const int32_t *ids, size_t n, const imatrix_options *o, ern_err *e) {
    const size_t chunk = o->chunk ? o->chunk : CHUNK;
    size_t n_chunks = n / chunk ? n / chunk : 1;
    bool ok = false;
    if (o->max_chunks && o->max_chunks < n_chunks) n_chunks = o->max_chunks;
    if (eng->model->encoder) {
        ern_fail(e, ERN_ARG, "%s: an encoder; importance is collected for models that write text",
                 source_path(eng->model->source));
        return NULL;
    }
    if (n == 0) { ern_fail(e, ERN_ARG, "importance: the text has no tokens"); return NULL; }
    if (chunk > eng->model->c.max_positions) {
        ern_fail(e, ERN_LIMIT, "importance: chunks of %zu tokens, the model was trained for %zu", chunk,
                 eng->model->c.max_positions);
        return NULL;
    }
    struct collecting c = { .m = mem_zalloc(1, sizeof *c.m, "importance", e) };
    if (!c.m) return NULL;
    c.m->chunk = chunk;
    stamp_of(c.m->stamp, ids, n, chunk);
    const char *dataset = o->dataset ? o->dataset : "";
    if (!(c.m->dataset = mem_strndup(dataset, strlen(dataset), e)) || !add_places(&c, eng->model, e)) goto out;
    if (o->save_path && o->resumes) resume(c.m, o->save_path, n_chunks);
    if (o->n_resumed) *o->n_resumed = c.m->n_chunks;
    pthread_mutex_lock(&eng->lock);             /* the threads of the pool have one master */
    ok = run_chunks(eng, &c, ids, n, n_chunks, o, e);
    pthread_mutex_unlock(&eng->lock);
    ok = ok && set_means(c.m, e);
out:
    names_deinit(&c.slots);
    free(c.places);
    if (!ok) { imatrix_close(c.m); return NULL; }
    return c.m;
}
