/* Which tensors the output has, of which type, and from which tensors of the source each is made. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/convert_int.h"
#include "formats/layout.h"
#include "tensor/quant.h"

#define NAME_BYTES 512

static bool ends_with(const char *name, const char *tail) {
    const size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

bool convert_is_float(enum ern_dtype t) {
    switch (t) {
    case DTYPE_I8:
        case DTYPE_I16: case DTYPE_I32: case DTYPE_I64: case DTYPE_F64: case DTYPE_U8: case DTYPE_U16: case DTYPE_BOOL:
        return false;
    default:
        return dtype_info(t)->to_f32 != NULL;
    }
}

static bool is_block(enum ern_dtype t) { return dtype_info(t)->block_n > 1; }

/* The reference routes in f32, whatever the type of the rest. */
static bool is_router(const char *name) {
    return ends_with(name, "mlp.gate.weight") || ends_with(name, "mlp.gate.weight_1") ||
           ends_with(name, "e_score_correction_bias");
}

/* Tables of an encoder that are added to the embedding. */
static bool is_small_table(const char *name) {
    return ends_with(name, "position_embeddings.weight") || ends_with(name, "token_type_embeddings.weight");
}

static bool holds_exactly(enum ern_dtype t, const ern_view *v) {
    const float *x = v->data;       /* GGUF data is aligned */
    for (size_t i = 0; i < view_n(v); i++) {
        const float back = t == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(x[i])) : f16_to_f32(f32_to_f16(x[i]));
        if (memcmp(&back, &x[i], sizeof back) != 0) return false;
    }
    return true;
}

/* The type of v in the output. */
static bool choose_dtype(const convert_plan *p, const char *name, const ern_view *v, enum ern_dtype *out, ern_err *e) {
    const convert_choice *choice = p->o->choice;
    const convert_matrix matrix = { p->config, p->source, v, name };
    const bool to_gguf = p->o->to == CONVERT_GGUF;
    enum ern_dtype t = v->dtype;
    if (!convert_is_float(t)) {
    } else if (is_router(v->name)) {
        if (to_gguf || is_block(t)) t = DTYPE_F32;
    } else if (to_gguf && (v->n_dims < 2 || is_small_table(v->name))) {
        t = DTYPE_F32;              /* what readers of GGUF expect, and a hundredth of the file */
    } else if (choice && choice->type_of && v->n_dims == 2) {
        if (!choice->type_of(choice->ctx, &matrix, &t, e)) return false;
    } else if (p->asked != DTYPE_COUNT) {
        t = p->asked;
    } else if (p->narrow != DTYPE_COUNT && v->n_dims < 2 && t == DTYPE_F32 && holds_exactly(p->narrow, v)) {
        t = p->narrow;
    } else if (!to_gguf && is_block(t)) {
        return ern_fail(e, ERN_ARG, "%s: tensor %s is %s, which only GGUF files hold; ask for F32, F16 or BF16",
                        source_path(p->source), v->name, dtype_info(t)->name);
    }
    const size_t row = v->n_dims ? v->dims[v->n_dims - 1] : 1;
    if (row % dtype_info(t)->block_n)
        return ern_fail(e, ERN_ARG, "%s: tensor %s: rows of %zu values cannot be %s, which wants a multiple of %zu",
                        source_path(p->source), v->name, row, dtype_info(t)->name, dtype_info(t)->block_n);
    *out = t;
    return true;
}

static bool add_part(convert_plan *p, const ern_view *v, ern_err *e) {
    if (p->n_parts == p->parts_cap) {
        const size_t cap = p->parts_cap ? 2 * p->parts_cap : 256;
        ern_view *parts = mem_grow(p->parts, cap, sizeof *parts, "plan", e);
        if (!parts) return false;
        p->parts = parts;
        p->parts_cap = cap;
    }
    p->parts[p->n_parts++] = *v;
    return true;
}

/* A tensor called name, shaped like v and made of no parts yet. */
static convert_tensor *add_tensor(convert_plan *p, const char *name, const ern_view *v, ern_err *e) {
    if (p->n == p->cap) {
        const size_t cap = p->cap ? 2 * p->cap : 256;
        convert_tensor *tensors = mem_grow(p->tensors, cap, sizeof *tensors, "plan", e);
        if (!tensors) return NULL;
        p->tensors = tensors;
        p->cap = cap;
    }
    convert_tensor *t = &p->tensors[p->n];
    *t = (convert_tensor){ .n_dims = v->n_dims, .first = p->n_parts };
    memcpy(t->dims, v->dims, sizeof t->dims);
    if (!choose_dtype(p, name, v, &t->dtype, e) || !(t->name = mem_strndup(name, strlen(name), e))) return NULL;
    p->n++;
    return t;
}

static convert_tensor *add_whole(convert_plan *p, const char *name, const ern_view *v, ern_err *e) {
    convert_tensor *t = add_tensor(p, name, v, e);
    if (!t || !add_part(p, v, e)) return NULL;
    t->n_parts = 1;
    return t;
}

static bool same_kind(const convert_plan *p, const ern_view *a, const ern_view *b, bool same_rows, ern_err *e) {
    if (a->dtype == b->dtype && a->n_dims == b->n_dims && (!same_rows || a->dims[0] == b->dims[0]) &&
        (a->n_dims < 2 || a->dims[1] == b->dims[1])) return true;
    return ern_fail(e, ERN_FORMAT, "%s: tensors %s and %s become one and differ in type or shape",
                    source_path(p->source), a->name,
                    b->name);
}

/* ---- to GGUF --------------------------------------------------------------------------------- */

/* All experts of the layer of v = "STEM.experts.0.REST" in one tensor [E, rows, columns]. */
static bool add_stack(convert_plan *p, const ern_view *v, const char *at, const char *gguf_name, ern_err *e) {
    char name[NAME_BYTES];
    const char *rest = strchr(at, '.');
    const size_t n_stem = (size_t)(at - v->name), n_experts = p->config->n_experts;
    convert_tensor *t = add_tensor(p, gguf_name, v, e);
    if (!t) return false;
    for (size_t x = 0; x <= n_experts; x++) {
        snprintf(name, sizeof name, "%.*s%zu%s", (int)n_stem, v->name, x, rest);
        const ern_view *one = source_find(p->source, name);
        if ((one != NULL) != (x < n_experts))
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s: %s, the config has %zu experts", source_path(p->source), name,
                            one ? "found" : "missing", n_experts);
        if (one && (!same_kind(p, v, one, true, e) || !add_part(p, one, e))) return false;
    }
    t->n_parts = n_experts;
    t->n_dims = 3;
    t->dims[0] = n_experts;
    t->dims[1] = v->dims[0];
    t->dims[2] = v->dims[1];
    return true;
}

static bool drop(convert_plan *p, const ern_view *v, ern_err *e) {
    return ++p->report->n_dropped > 1 ||
           convert_note(p->report, e, "%s is left out: GGUF has no place for it", v->name);
}

static bool plan_gguf_tensor(convert_plan *p, const ern_view *v, ern_err *e) {
    char name[NAME_BYTES];
    const char *experts = strstr(v->name, ".mlp.experts.");
    if (strstr(v->name, ".mtp_") || ends_with(v->name, "rotary_emb.inv_freq") || ends_with(v->name, "position_ids"))
        return drop(p, v, e);
    if (source_gguf(p->source) && strcmp(v->name, "rope_freqs.weight") == 0) return add_whole(p, v->name, v, e) != NULL;
    if (!layout_gguf_name(name, sizeof name, v->name)) {
        if (p->config->arch == ARCH_BERT && strncmp(v->name, "cls.", 4) == 0) return drop(p, v, e);
        return ern_fail(e, ERN_MISSING, "%s: tensor %s: GGUF files of %s have no place for it", source_path(p->source),
                        v->name,
                        config_arch_name(p->config));
    }
    if (experts) {
        const char *at = experts + strlen(".mlp.experts.");
        if (v->n_dims != 2)
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s: a matrix wanted", source_path(p->source), v->name);
        return strncmp(at, "0.", 2) != 0 || add_stack(p, v, at, name, e);
    }
    convert_tensor *t = add_whole(p, name, v, e);
    if (!t) return false;
    if (ends_with(v->name, "e_score_correction_bias") && v->n_dims == 2 && v->dims[0] == 1) {
        t->n_dims = 1;
        t->dims[0] = v->dims[1];
    }
    return true;
}

/* ---- to folders ------------------------------------------------------------------------------ */

/* parts of "STEM + part + KIND" into one tensor, rows after rows, transposed when matrices. v is the first of them. */
static bool add_fused(convert_plan *p, const ern_view *v, const char *const *parts, size_t n, const char *fused,
                      ern_err *e) {
    char name[NAME_BYTES];
    const char *dot = strrchr(v->name, '.');
    const size_t n_stem = (size_t)(dot - v->name) - strlen(parts[0]);
    snprintf(name, sizeof name, "ernie.%.*s%s%s", (int)(n_stem - 6), v->name + 6, fused, dot);
    convert_tensor *t = add_tensor(p, name, v, e);
    if (!t) return false;
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%.*s%s%s", (int)n_stem, v->name, parts[i], dot);
        const ern_view *one = source_find(p->source, name);
        if (!one)
            return ern_fail(e, ERN_FORMAT, "%s: tensor %s is missing beside %s", source_path(p->source), name, v->name);
        if (!same_kind(p, v, one, false, e) || !add_part(p, one, e)) return false;
        rows += one->dims[0];
    }
    t->n_parts = n;
    t->is_transposed = v->n_dims == 2;
    t->dims[0] = t->is_transposed ? v->dims[1] : rows;
    if (t->is_transposed) t->dims[1] = rows;
    return true;
}

/* Does name end in part + KIND? */
static bool is_part(const char *name, const char *part) {
    const char *dot = strrchr(name, '.');
    const size_t n = strlen(part);
    return dot && (size_t)(dot - name) >= n && strncmp(dot - n, part, n) == 0;
}

static bool plan_paddle_tensor(convert_plan *p, const ern_view *v, ern_err *e) {
    static const char *const qkv[] = { "q_proj", "k_proj", "v_proj" }, *const gate_up[] = { "gate_proj", "up_proj" };
    char name[NAME_BYTES];
    const bool is_text = strncmp(v->name, "model.", 6) == 0;
    if (strlen(v->name) + 16 > sizeof name)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %.80s...: its name is too long", source_path(p->source), v->name);
    if (is_text && (v->n_dims == 1 || v->n_dims == 2)) {
        if (is_part(v->name, "k_proj") || is_part(v->name, "v_proj") || is_part(v->name, ".up_proj")) return true;
        if (is_part(v->name, "q_proj")) return add_fused(p, v, qkv, 3, "qkv_proj", e);
        if (is_part(v->name, "gate_proj")) return add_fused(p, v, gate_up, 2, "up_gate_proj", e);
    }
    snprintf(name, sizeof name, "%s%s", is_text ? "ernie." : "", v->name + (is_text ? 6 : 0));
    convert_tensor *t = add_whole(p, name, v, e);
    if (t && layout_paddle_transposes(v->name, v->n_dims, p->is_vision)) {
        t->is_transposed = true;
        t->dims[0] = v->dims[1];
        t->dims[1] = v->dims[0];
    }
    return t != NULL;
}

/* X.weight becomes X.quant_weight and X.weight_scale: every projection of the layers whose rows can be cut in pairs. */
static bool is_channel_matrix(const convert_plan *p, const ern_view *v) {
    return p->o->choice && p->o->choice->channel_bits && v->n_dims == 2 && convert_is_float(v->dtype) &&
           ends_with(v->name, "_proj.weight") && v->dims[1] % 2 == 0;
}

static bool add_channels(convert_plan *p, const ern_view *v, ern_err *e) {
    char name[NAME_BYTES];
    const unsigned bits = p->o->choice->channel_bits;
    const int n_stem = (int)(strlen(v->name) - strlen("weight"));
    const ern_view codes = { .name = v->name, .dtype = bits == 8 ? DTYPE_I8 : DTYPE_U8, .n_dims = 2,
                             .dims = { v->dims[0], v->dims[1] * bits / 8 } };
    const ern_view scales = { .name = v->name, .dtype = DTYPE_I8, .n_dims = 1, .dims = { v->dims[0] } };
    if ((size_t)n_stem + 16 > sizeof name)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %.80s...: its name is too long", source_path(p->source), v->name);
    snprintf(name, sizeof name, "%.*squant_weight", n_stem, v->name);
    convert_tensor *t = add_tensor(p, name, &codes, e);
    if (!t || !add_part(p, v, e)) return false;
    t->n_parts = 1;
    t->channel_bits = bits;
    snprintf(name, sizeof name, "%.*sweight_scale", n_stem, v->name);
    if (!(t = add_tensor(p, name, &scales, e)) || !add_part(p, v, e)) return false;
    t->n_parts = 1;
    t->channel_bits = bits;
    t->dtype = DTYPE_F32;
    return true;
}

/* Llama: -PT has the pairs of a head's rotation (i, i + d/2), GGUF (2i, 2i + 1); the rows of q and k move. */
static void regroup(const convert_plan *p, convert_tensor *t, const char *canonical) {
    if (!p->config || p->config->arch != ARCH_LLAMA) return;
    if ((source_gguf(p->source) != NULL) == (p->o->to == CONVERT_GGUF)) return;
    if (is_part(canonical, "q_proj")) t->heads = p->config->n_heads;
    if (is_part(canonical, "k_proj")) t->heads = p->config->n_kv_heads;
    if (t->channel_bits) p->tensors[p->n - 1].heads = t->heads;
}

static bool plan_tensor(convert_plan *p, const ern_view *v, ern_err *e) {
    const size_t before = p->n;
    bool ok = true;
    if (p->o->to == CONVERT_GGUF) ok = plan_gguf_tensor(p, v, e);
    /* goes into config.json */
    else if (source_gguf(p->source) && strcmp(v->name, "rope_freqs.weight") == 0) return true;
    else if (p->o->to == CONVERT_PADDLE) ok = plan_paddle_tensor(p, v, e);
    else if (is_channel_matrix(p, v)) ok = add_channels(p, v, e);
    else ok = add_whole(p, v->name, v, e) != NULL;
    if (ok && p->n > before) regroup(p, &p->tensors[before], v->name);
    return ok;
}

void convert_rope_factors(const ern_config *c, float *out) {
    for (size_t i = 0; i < c->head_dim / 2; i++) {
        const double wave = 2.0 * 3.14159265358979323846 * pow(c->rope_theta, (double)(2 * i) / (double)c->head_dim);
        const double low = c->rope_original / c->rope_low, high = c->rope_original / c->rope_high;
        const double smooth = (c->rope_original / wave - c->rope_low) / (c->rope_high - c->rope_low);
        out[i] = wave < high ? 1.0f : wave > low ? (float)c->rope_factor
            : (float)(1.0 / ((1.0 - smooth) / c->rope_factor + smooth));
    }
}

static bool add_rope_factors(convert_plan *p, ern_err *e) {
    const ern_config *c = p->config;
    if (p->o->to != CONVERT_GGUF || source_gguf(p->source) || c->arch != ARCH_LLAMA || c->rope_factor <= 0.0) return true;
    if (!(p->rope_factors = mem_zalloc(c->head_dim / 2, sizeof(float), "rope factors", e))) return false;
    convert_rope_factors(c, p->rope_factors);
    const ern_view v = { .name = "rope_freqs.weight", .dtype = DTYPE_F32, .n_dims = 1, .dims = { c->head_dim / 2 },
                         .data = p->rope_factors, .size_bytes = c->head_dim / 2 * sizeof(float) };
    return add_whole(p, v.name, &v, e) != NULL;
}

static bool read_asked(convert_plan *p, ern_err *e) {
    const char *name = p->o->dtype;
    p->asked = DTYPE_COUNT;
    if (!name || strcmp(name, "keep") == 0) return true;
    if (!dtype_from_name(&p->asked, name, e)) return false;
    if (!quant_has(p->asked))
        return ern_fail(e, ERN_ARG,
                        "type %s cannot be written; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, "
                        "Q5_K, Q6_K, IQ4_NL, IQ4_XS and MXFP4 can", name);
    if (p->o->to != CONVERT_GGUF && is_block(p->asked))
        return ern_fail(e, ERN_ARG, "type %s exists in GGUF files only; a folder can be F32, F16 or BF16", name);
    return true;
}

bool convert_plan_make(convert_plan *p, ern_err *e) {
    const ern_source *s = p->source;
    const ern_view *sample = source_find(s, "model.layers.0.self_attn.q_proj.weight");
    if (!read_asked(p, e)) return false;
    const bool has_type = sample && (sample->dtype == DTYPE_BF16 || sample->dtype == DTYPE_F16);
    p->narrow = source_gguf(s) && p->o->to != CONVERT_GGUF && has_type ? sample->dtype : DTYPE_COUNT;
    for (size_t i = 0; i < source_n(s); i++)
        if (ends_with(source_at(s, i)->name, "mlp.gate.weight_1")) p->is_vision = true;
    for (size_t i = 0; i < source_n(s); i++)
        if (!plan_tensor(p, source_at(s, i), e)) return false;
    if (p->config && !add_rope_factors(p, e)) return false;
    return p->report->n_dropped < 2 || convert_note(p->report, e, "%zu tensors are left out in all", p->report->n_dropped);
}

void convert_plan_deinit(convert_plan *p) {
    for (size_t i = 0; i < p->n; i++) free(p->tensors[i].name);
    free(p->tensors);
    free(p->parts);
    free(p->rope_factors);
    pool_close(p->pool);
}
