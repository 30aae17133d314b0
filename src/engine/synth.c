#include "engine/synth.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/convert_int.h"
#include "engine/plan.h"
#include "engine/quantize.h"
#include "tensor/quant.h"

#define CHUNK_BLOCKS ((size_t)1 << 15)      /* blocks written at a time; each part of them has its own random numbers */
#define SPREAD 0.02                         /* standard deviation of the weights: what models begin training with */
#define NOTES_MAX_BYTES ((size_t)1 << 16)

/* Where a block keeps its f16 scale, how far the values spread when every other bit is random and the scale is 1, and where
 * it keeps an f16 minimum with how many scales that is, so that the values lie around 0. */
typedef struct { enum ern_dtype t; int scale_at; double spread; int min_at; double min; } random_format;
static const random_format formats[] = {
    { DTYPE_Q8_0, 0, 73.9, -1, 0 },     { DTYPE_Q4_0, 0, 4.61, -1, 0 },     { DTYPE_Q4_1, 0, 4.61, 2, -7.5 },
    { DTYPE_Q5_0, 0, 9.23, -1, 0 },     { DTYPE_Q5_1, 0, 9.23, 2, -15.5 },  { DTYPE_IQ4_NL, 0, 72.0, -1, 0 },
    { DTYPE_Q2_K, 80, 13.9, 82, 1.5 },  { DTYPE_Q3_K, 108, 42.3, -1, 0 },   { DTYPE_Q4_K, 0, 260.0, 2, 7.5 },
    { DTYPE_Q5_K, 0, 520.0, 2, 15.5 },  { DTYPE_Q6_K, 208, 1366.0, -1, 0 }, { DTYPE_IQ4_XS, 0, 1332.0, -1, 0 },
    { DTYPE_MXFP4, -1, 0, -1, 0 },
};

static uint64_t next(uint64_t *state) {                     /* splitmix64 */
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void put_f16(uint8_t *at, double v) {
    const uint16_t h = f32_to_f16((float)v);
    memcpy(at, &h, 2);
}

static void random_values(uint8_t *out, enum ern_dtype t, size_t n, uint64_t *state) {
    for (size_t i = 0; i < n; i++) {        /* two uniform numbers make a triangle of the wanted spread */
        const uint64_t r = next(state);
        const double u = (double)(uint32_t)r * 0x1p-32 + (double)(r >> 32) * 0x1p-32 - 1.0;
        const float v = (float)(u * SPREAD * 2.449489742783178);
        const uint16_t h = t == DTYPE_BF16 ? f32_to_bf16(v) : f32_to_f16(v);
        if (t == DTYPE_F32) memcpy(out + 4 * i, &v, 4);
        else memcpy(out + 2 * i, &h, 2);
    }
}

static void random_blocks(uint8_t *out, enum ern_dtype t, size_t n, uint64_t *state) {
    const size_t width = dtype_info(t)->block_bytes;
    const random_format *f = formats;
    while (f->t != t && f < formats + sizeof formats / sizeof formats[0] - 1) f++;
    size_t i = 0;
    for (; i + 8 <= n * width; i += 8) {
        const uint64_t r = next(state);
        memcpy(out + i, &r, 8);
    }
    for (; i < n * width; i++) out[i] = (uint8_t)next(state);
    for (size_t b = 0; b < n; b++) {
        uint8_t *block = out + b * width;
        if (t == DTYPE_MXFP4) { block[0] = 120; continue; }         /* 2^-7: the values spread by 2.9 */
        const double d = (b % 2 ? -SPREAD : SPREAD) / f->spread;      /* levels such as -8..7 lean to one side */
        put_f16(block + f->scale_at, d);
        if (f->min_at >= 0) put_f16(block + f->min_at, f->min * d);
    }
}

struct making { enum ern_dtype t; uint8_t *out; size_t n; uint64_t seed; };

#define PART_BLOCKS 1024        /* that share a stream of random numbers, whatever the number of threads */

static void make_part(void *ctx, size_t thread, size_t n_threads) {
    const struct making *j = ctx;
    const size_t width = dtype_info(j->t)->block_bytes, n_parts = (j->n + PART_BLOCKS - 1) / PART_BLOCKS;
    size_t from, to;
    pool_part(n_parts, 1, thread, n_threads, &from, &to);
    for (size_t p = from; p < to; p++) {
        const size_t first = p * PART_BLOCKS, n = j->n - first < PART_BLOCKS ? j->n - first : PART_BLOCKS;
        uint64_t mix = j->seed + p, state = next(&mix);
        if (dtype_info(j->t)->block_n == 1) random_values(j->out + first * width, j->t, n, &state);
        else random_blocks(j->out + first * width, j->t, n, &state);
    }
}

/* ---- the tensors ------------------------------------------------------------------------------- */

static bool add(convert_plan *p, enum ern_dtype t, unsigned n_dims, const size_t *dims, ern_err *e, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

static bool add(convert_plan *p, enum ern_dtype t, unsigned n_dims, const size_t *dims, ern_err *e, const char *fmt, ...) {
    char name[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    if (p->n == p->cap) {
        const size_t cap = p->cap ? 2 * p->cap : 256;
        convert_tensor *grown = mem_grow(p->tensors, cap, sizeof *grown, "plan", e);
        if (!grown) return false;
        p->tensors = grown;
        p->cap = cap;
    }
    convert_tensor *out = &p->tensors[p->n];
    *out = (convert_tensor){ .dtype = t, .n_dims = n_dims };
    memcpy(out->dims, dims, n_dims * sizeof *dims);
    if (!(out->name = mem_strndup(name, strlen(name), e))) return false;
    p->n++;
    return true;
}

typedef struct { convert_plan *p; const quantize_recipe *r; } shaping;

/* blk.LAYER.what.weight [R, C], or [E, R, C] when E > 0; layer < 0: a table of the whole model. */
static bool matrix(const shaping *s, long layer, const char *what, size_t E, size_t R, size_t C, ern_err *e) {
    char name[128];
    const ern_config *c = s->p->config;
    if (layer < 0) snprintf(name, sizeof name, "%s.weight", what);
    else snprintf(name, sizeof name, "blk.%ld.%s.weight", layer, what);
    const enum ern_dtype t = quantize_fallback(quantize_type_of(s->r, c, c->is_tied, false, name), C);
    return E ? add(s->p, t, 3, (size_t[]){ E, R, C }, e, "%s", name) : add(s->p, t, 2, (size_t[]){ R, C }, e, "%s", name);
}

static bool add_layer(const shaping *s, size_t i, ern_err *e) {
    const ern_config *c = s->p->config;
    const size_t D = c->hidden, Q = c->n_heads * c->head_dim, K = c->n_kv_heads * c->head_dim, E = c->n_experts;
    const long l = (long)i;
    if (!add(s->p, DTYPE_F32, 1, &D, e, "blk.%zu.attn_norm.weight", i) || !matrix(s, l, "attn_q", 0, Q, D, e) ||
        !matrix(s, l, "attn_k", 0, K, D, e) || !matrix(s, l, "attn_v", 0, K, D, e) ||
        !matrix(s, l, "attn_output", 0, D, Q, e) || !add(s->p, DTYPE_F32, 1, &D, e, "blk.%zu.ffn_norm.weight", i))
        return false;
    if (!config_is_moe_layer(c, i))
        return matrix(s, l, "ffn_gate", 0, c->ffn, D, e) && matrix(s, l, "ffn_up", 0, c->ffn, D, e) &&
               matrix(s, l, "ffn_down", 0, D, c->ffn, e);
    if (!add(s->p, DTYPE_F32, 2, (size_t[]){ E, D }, e, "blk.%zu.ffn_gate_inp.weight", i) ||
        !add(s->p, DTYPE_F32, 1, &E, e, "blk.%zu.exp_probs_b.bias", i) ||
        !matrix(s, l, "ffn_gate_exps", E, c->expert_ffn, D, e) || !matrix(s, l, "ffn_up_exps", E, c->expert_ffn, D, e) ||
        !matrix(s, l, "ffn_down_exps", E, D, c->expert_ffn, e)) return false;
    return c->shared_ffn == 0 || (matrix(s, l, "ffn_gate_shexp", 0, c->shared_ffn, D, e) &&
                                  matrix(s, l, "ffn_up_shexp", 0, c->shared_ffn, D, e) &&
                                  matrix(s, l, "ffn_down_shexp", 0, D, c->shared_ffn, e));
}

static bool add_tensors(const shaping *s, ern_err *e) {
    const ern_config *c = s->p->config;
    if (!matrix(s, -1, "token_embd", 0, c->n_vocab, c->hidden, e)) return false;
    for (size_t i = 0; i < c->n_layers; i++)
        if (!add_layer(s, i, e)) return false;
    return add(s->p, DTYPE_F32, 1, &c->hidden, e, "output_norm.weight") &&
           (c->is_tied || matrix(s, -1, "output", 0, c->n_vocab, c->hidden, e));
}

/* ---- writing ----------------------------------------------------------------------------------- */

static size_t n_blocks(const convert_tensor *t) {
    size_t n = 1;
    for (unsigned i = 0; i < t->n_dims; i++) n *= t->dims[i];
    return n / dtype_info(t->dtype)->block_n;
}

/* Norms are 1, correction biases 0. */
static void fill_vector(const convert_tensor *t, float *out, size_t n) {
    const char *tail = strrchr(t->name, '.');
    for (size_t i = 0; i < n; i++) out[i] = tail && strcmp(tail, ".bias") == 0 ? 0.0f : 1.0f;
}

static bool write_tensor(convert_plan *p, ern_gguf_writer *w, size_t index, uint8_t *buffer, size_t total,
                         const synth_options *o, ern_err *e) {
    const convert_tensor *t = &p->tensors[index];
    const size_t n = n_blocks(t), width = dtype_info(t->dtype)->block_bytes;
    for (size_t at = 0; at < n; at += CHUNK_BLOCKS) {
        uint64_t mix = o->seed ^ (uint64_t)index << 40 ^ (uint64_t)(at / CHUNK_BLOCKS) << 8;
        struct making j = { t->dtype, buffer, n - at < CHUNK_BLOCKS ? n - at : CHUNK_BLOCKS, next(&mix) };
        if (t->n_dims == 1) fill_vector(t, (float *)(void *)buffer, j.n);
        else pool_run(p->pool, make_part, &j);
        if (!gguf_writer_data(w, buffer, j.n * width, e)) return false;
        p->report->size_bytes += j.n * width;
        if (o->progress && !o->progress(o->ctx, (size_t)p->report->size_bytes, total))
            return ern_fail(e, ERN_STOPPED, "stopped after %llu of %zu bytes", (unsigned long long)p->report->size_bytes, total);
    }
    return true;
}

static bool write_file(convert_plan *p, const char *out, const synth_options *o, ern_err *e) {
    bool ok = false;
    size_t total = 0;
    ern_gguf_writer *w = gguf_writer_open(out, e);
    uint8_t *buffer = mem_zalloc(CHUNK_BLOCKS, 512, "random weights", e);       /* no block is longer */
    if (!w || !buffer || !convert_model_keys(w, p, e) || !gguf_writer_str(w, "tokenizer.ggml.model", "none", e)) goto out;
    for (size_t i = 0; i < p->n; i++) {
        const convert_tensor *t = &p->tensors[i];
        ern_view v = { .name = t->name, .dtype = t->dtype, .n_dims = t->n_dims };
        memcpy(v.dims, t->dims, sizeof v.dims);
        if (!gguf_writer_declare(w, &v, e)) goto out;
        total += n_blocks(t) * dtype_info(t->dtype)->block_bytes;
    }
    for (size_t i = 0; i < p->n; i++)
        if (!write_tensor(p, w, i, buffer, total, o, e)) goto out;
    p->report->n_tensors = p->n;
    ok = gguf_writer_finish(w, e);
out:
    gguf_writer_close(w);
    free(buffer);
    return ok;
}

/* "21B-A3B:Q4_0" */
static bool read_what(const char *what, plan_model *m, const quantize_recipe **r, ern_err *e) {
    const char *colon = strrchr(what, ':');
    if (!colon || colon == what) return ern_fail(e, ERN_ARG, "synth \"%s\": SHAPE:TYPE wanted, as 0.3B:Q8_0", what);
    if (!(*r = quantize_recipe_find(colon + 1)))
        return ern_fail(e, ERN_ARG, "synth: type \"%s\" is not one that ernie quantize writes", colon + 1);
    char *name = mem_strndup(what, (size_t)(colon - what), e);
    const bool ok = name && plan_model_read(m, name, e) &&
                    (m->c.arch != ARCH_BERT || ern_fail(e, ERN_ARG, "synth: %s: an encoder; models that write text wanted", name));
    free(name);
    return ok;
}

bool synth_model(const char *what, const char *out, const synth_options *o, convert_report *report, ern_err *e) {
    const quantize_recipe *r = NULL;
    convert_report own = { 0 };
    plan_model m;
    if (!read_what(what, &m, &r, e)) return false;
    const convert_choice choice = { .file_type = quantize_file_type(r) };
    const convert_options co = { .to = CONVERT_GGUF, .choice = &choice };
    convert_plan p = { .name = what, .config = &m.c, .o = &co, .report = report ? report : &own, .asked = DTYPE_COUNT };
    *p.report = (convert_report){ .notes.max = NOTES_MAX_BYTES };
    const shaping s = { &p, r };
    bool ok = add_tensors(&s, e) && (p.pool = pool_open(o->n_threads ? o->n_threads : pool_cores(), e)) != NULL;
    if (ok && m.n_tower) ok = convert_note(p.report, e, "the text part alone: GGUF files have no place for the vision part");
    ok = ok && write_file(&p, out, o, e);
    convert_plan_deinit(&p);
    convert_report_deinit(&own);
    return ok;
}
