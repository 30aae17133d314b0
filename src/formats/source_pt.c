/* Names of -PT folders (and of BERT ones): nearly canonical already. What transformers holds in memory with all experts
 * of a layer in one tensor is cut into one view an expert. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/source_int.h"

#define NAME_BYTES 512

static bool ends_with(const char *name, const char *tail, size_t *stem) {
    const size_t n = strlen(name), m = strlen(tail);
    if (n < m || strcmp(name + n - m, tail) != 0) return false;
    *stem = n - m;
    return true;
}

/* [E, parts * F, D] -> E * parts views [F, D]; names are the stem, the expert's number and what[part]. */
static bool add_experts(ern_source *s, const ern_view *v, size_t stem, const char *const *what, size_t parts, ern_err *e) {
    if (v->n_dims != 3 || v->dims[1] % parts || v->size_bytes == 0 || v->dims[0] > SOURCE_MAX_EXPERTS)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: experts, %zu x rows, columns in three dimensions wanted", s->path,
                        v->name, parts);
    const size_t n = v->dims[0] * parts, rows = v->dims[1] / parts, bytes = v->size_bytes / n;
    for (size_t i = 0; i < n; i++) {
        char name[NAME_BYTES];
        ern_view one = { .name = name, .dtype = v->dtype, .n_dims = 2, .dims = { rows, v->dims[2] }, .size_bytes = bytes,
                         .data = (const char *)v->data + i * bytes };
        const int used = snprintf(name, sizeof name, "%.*s%zu.%s.weight", (int)stem, v->name, i / parts, what[i % parts]);
        if (used < 0 || (size_t)used >= sizeof name)
            return ern_fail(e, ERN_LIMIT, "%s: tensor %s: its name is longer than %d bytes", s->path, v->name, NAME_BYTES);
        if (!source_add(s, &one, e)) return false;
    }
    return true;
}

static bool add_one(ern_source *s, const ern_view *v, bool is_bert, ern_err *e) {
    static const char *const gate_up[] = { "gate_proj", "up_proj" }, *const down[] = { "down_proj" };
    static const struct { const char *from, *to; } tails[] = {
        { "LayerNorm.gamma", "LayerNorm.weight" },      /* BERT files of before 2019 */
        { "LayerNorm.beta", "LayerNorm.bias" },
        { "mlp.gate.moe_statics.e_score_correction_bias", "mlp.moe_statics.e_score_correction_bias" },
    };
    char name[NAME_BYTES];
    ern_view renamed = *v;
    size_t stem;
    if (ends_with(v->name, "mlp.experts.gate_up_proj", &stem))
        return add_experts(s, v, stem + strlen("mlp.experts."), gate_up, 2, e);
    if (ends_with(v->name, "mlp.experts.down_proj", &stem)) return add_experts(s, v, stem + strlen("mlp.experts."), down, 1,
                                                                               e);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends_with(v->name, tails[i].from, &stem) && stem + strlen(tails[i].to) < sizeof name) {
            snprintf(name, sizeof name, "%.*s%s", (int)stem, v->name, tails[i].to);
            renamed.name = name;
        }
    if (is_bert && strncmp(renamed.name, "bert.", 5) == 0) renamed.name += 5;
    return source_add(s, &renamed, e);
}

/* ---- integers with one scale an output (WINT8, WINT4) ------------------------------------------ */

#define BLOCK 32

typedef struct {
    const ern_view *codes;      /* I8 [R, C], or U8 [R, C / 2]: the even column in the low four bits */
    const ern_view *scales;     /* F32 [R] */
    size_t R, C;
    enum ern_dtype t;           /* what the kernels get: Q8_0, Q4_0, or F32 where those cannot hold the row */
    size_t size_bytes;
} channel_matrix;

static float scale_of(const channel_matrix *m, size_t r) {
    float v;
    memcpy(&v, (const char *)m->scales->data + r * sizeof v, sizeof v);
    return v;
}

/* false: not a matrix of this kind, or (with e filled) a damaged one. */
static bool read_channels(channel_matrix *m, const ern_source *s, const ern_view *v, ern_err *e) {
    char name[NAME_BYTES];
    size_t stem;
    if (!ends_with(v->name, ".quant_weight", &stem) || stem + 16 > sizeof name) return false;
    snprintf(name, sizeof name, "%.*s.weight_scale", (int)stem, v->name);
    const ern_view *scales = safetensors_find(s->safetensors, name);
    if (!scales) return ern_fail(e, ERN_FORMAT, "%s: tensor %s is missing beside %s", s->path, name, v->name);
    if (v->n_dims != 2 || (v->dtype != DTYPE_I8 && v->dtype != DTYPE_U8) || v->dims[1] > SIZE_MAX / 8)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: I8 [rows, columns] or U8 [rows, columns / 2] wanted", s->path, v->name);
    if (scales->dtype != DTYPE_F32 || scales->n_dims != 1 || scales->dims[0] != v->dims[0])
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: F32 [%zu] wanted, one scale a row of %s", s->path, name, v->dims[0],
                        v->name);
    *m = (channel_matrix){ .codes = v, .scales = scales, .R = v->dims[0], .C = v->dims[1] * (v->dtype == DTYPE_U8 ? 2 : 1),
                           .t = v->dtype == DTYPE_U8 ? DTYPE_Q4_0 : DTYPE_Q8_0 };
    if (m->C % BLOCK) m->t = DTYPE_F32;
    for (size_t r = 0; r < m->R; r++) {
        const float d = scale_of(m, r);
        if (!isfinite(d))
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s: scale %zu is %g", s->path, name, r, (double)d);
        if (f16_to_f32(f32_to_f16(d)) != d) m->t = DTYPE_F32;
    }
    const ern_dtype_info *info = dtype_info(m->t);
    if (m->R && m->C / info->block_n > SIZE_MAX / 2 / info->block_bytes / m->R)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %s: too large", s->path, v->name);
    m->size_bytes = (m->R * (m->C / info->block_n) * info->block_bytes + 63) / 64 * 64;
    return true;
}

static int code_of(const channel_matrix *m, size_t r, size_t c) {
    const uint8_t *row = (const uint8_t *)m->codes->data + r * m->codes->dims[1];
    if (m->codes->dtype == DTYPE_I8) return (int8_t)row[c];
    return ((row[c / 2] >> (c % 2 * 4) & 15) ^ 8) - 8;
}

static void unpack_channels(uint8_t *out, const channel_matrix *m) {
    for (size_t r = 0; r < m->R; r++) {
        const float d = scale_of(m, r);
        const uint16_t h = f32_to_f16(d);
        for (size_t c = 0; m->t == DTYPE_F32 && c < m->C; c++, out += sizeof d) {
            const float v = d * (float)code_of(m, r, c);
            memcpy(out, &v, sizeof v);
        }
        for (size_t c = 0; m->t != DTYPE_F32 && c < m->C; c += BLOCK) {
            memcpy(out, &h, 2);
            out += 2;
            if (m->t == DTYPE_Q8_0)
                for (size_t i = 0; i < BLOCK; i++) *out++ = (uint8_t)code_of(m, r, c + i);
            else
                for (size_t i = 0; i < BLOCK / 2; i++)
                    *out++ = (uint8_t)((code_of(m, r, c + i) + 8) | (code_of(m, r, c + i + BLOCK / 2) + 8) << 4);
        }
    }
}

/* All of them in memory that the source owns, as X.weight. */
static bool add_channels(ern_source *s, ern_err *e) {
    const size_t n = safetensors_n(s->safetensors);
    ern_err bad = { 0 };
    channel_matrix m;
    size_t total = 0, stem;
    for (size_t i = 0; i < n; i++)
        if (read_channels(&m, s, safetensors_at(s->safetensors, i), &bad)) {
            if (m.size_bytes > SIZE_MAX / 2 - total) return ern_fail(e, ERN_LIMIT, "%s: too large", s->path);
            total += m.size_bytes;
        } else if (bad.code != ERN_OK) return ern_fail(e, bad.code, "%s", bad.text);
    if (total == 0) return true;
    if (posix_memalign(&s->owned, 64, total) != 0) {
        s->owned = NULL;
        return ern_fail(e, ERN_NOMEM, "%s: no memory for %zu bytes of weights", s->path, total);
    }
    uint8_t *at = s->owned;
    for (size_t i = 0; i < n; i++) {
        char name[NAME_BYTES];
        const ern_view *v = safetensors_at(s->safetensors, i);
        if (!read_channels(&m, s, v, NULL) || !ends_with(v->name, ".quant_weight", &stem)) continue;
        snprintf(name, sizeof name, "%.*s.weight", (int)stem, v->name);
        unpack_channels(at, &m);
        const ern_dtype_info *info = dtype_info(m.t);
        const ern_view one = { .name = name, .dtype = m.t, .n_dims = 2, .dims = { m.R, m.C }, .data = at,
                               .size_bytes = m.R * (m.C / info->block_n) * info->block_bytes };
        if (!source_add(s, &one, e)) return false;
        at += m.size_bytes;
    }
    return true;
}

/* Codes, or scales beside codes; scales of other formats keep their name, which no model has a place for. */
static bool is_channel_part(const ern_source *s, const char *name) {
    char codes[NAME_BYTES];
    size_t stem;
    if (ends_with(name, ".quant_weight", &stem)) return true;
    if (!ends_with(name, ".weight_scale", &stem) || stem + 16 > sizeof codes) return false;
    snprintf(codes, sizeof codes, "%.*s.quant_weight", (int)stem, name);
    return safetensors_find(s->safetensors, codes) != NULL;
}

bool source_from_pt(ern_source *s, ern_err *e) {
    const size_t n = safetensors_n(s->safetensors);
    const bool is_bert = safetensors_find(s->safetensors, "bert.embeddings.word_embeddings.weight") != NULL;
    for (size_t i = 0; i < n; i++)
        if (!is_channel_part(s, safetensors_at(s->safetensors, i)->name) &&
            !add_one(s, safetensors_at(s->safetensors, i), is_bert, e)) return false;
    return add_channels(s, e);
}
