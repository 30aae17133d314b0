#include "engine/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "engine/presets.h"
#include "kernels/matrix.h"

#define MAX_CONFIG_BYTES ((size_t)4 << 20)
#define PROMPT 512                      /* tokens of the prompt whose speed is foretold */
#define BF16_BYTES 2

/* ---- reading ----------------------------------------------------------------------------------- */

static size_t number(const json_t *json, const char *key, size_t fallback) {
    const json_t *v = json_object_get(json, key);
    return json_is_integer(v) && json_integer_value(v) >= 0 &&
           json_integer_value(v) < 1 << 24 ? (size_t)json_integer_value(v) : fallback;
}

static size_t second(const json_t *json, const char *key) {
    const json_t *v = json_array_get(json_object_get(json, key), 1);
    return json_is_integer(v) && json_integer_value(v) >= 0 &&
           json_integer_value(v) < 1 << 24 ? (size_t)json_integer_value(v) : 0;
}

/* ERNIE-VL: patches to E, depth blocks of width E, then the resampler: 2 x 2 patches (S = 4 E) and two frames become one
 * token of width D. */
static size_t ernie_tower(const json_t *root, const json_t *vision, size_t D) {
    const size_t E = number(vision, "embed_dim", number(vision, "hidden_size", 1280)), depth = number(vision, "depth", 32);
    const size_t ratio = number(vision, "mlp_ratio", 4), patch = number(vision, "patch_size", 14),
        merge = number(root, "spatial_conv_size", 2);
    const size_t block = 4 * E * E + 2 * ratio * E * E + (4 + ratio + 1 + 4) * E, S = E * merge * merge;
    return 3 * patch * patch * E + depth * block + 2 * E + 5 * S * S + 8 * S + S * D + 2 * D;
}

/* PaddleOCR-VL: a SigLIP tower with learned positions, then a projector of two layers on 2 x 2 patches. */
static size_t ocr_tower(const json_t *vision, size_t D) {
    const size_t E = number(vision, "hidden_size", 1152), F = number(vision, "intermediate_size", 4304),
        depth = number(vision, "num_hidden_layers", 27);
    const size_t patch = number(vision, "patch_size", 14), side = number(vision, "image_size", 384) / (patch ? patch : 1),
        S = 4 * E;
    const size_t block = 4 * E * E + 4 * E + 2 * E * F + E + F + 4 * E;
    return 3 * patch * patch * E + E + side * side * E + depth * block + 2 * E + S * S + S + S * D + D + 2 * E;
}

/* What the text part's reader understands: nested text_config lifted, vision families named after their text model. */
static json_t *text_config(const json_t *config, bool *is_ocr) {
    json_t *c = json_copy((json_t *)(uintptr_t)config);
    const json_t *nested = json_object_get(config, "text_config");
    if (c && json_is_object(nested)) json_object_update(c, (json_t *)(uintptr_t)nested);
    /* Positions of pictures in three dimensions cost no memory. */
    if (c) json_object_del(c, "rope_3d");
    const char *type = json_string_value(json_object_get(config, "model_type"));
    *is_ocr = type && strcmp(type, "paddleocr_vl") == 0;
    if (c && *is_ocr) json_object_set_new(c, "model_type", json_string("ernie4_5"));
    if (c && type && (strcmp(type, "ernie4_5_moe_vl") == 0 || strcmp(type, "ernie4_5_vl_moe") == 0))
        json_object_set_new(c, "model_type", json_string("ernie4_5_moe"));
    return c;
}

bool plan_model_from_json(plan_model *out, const json_t *config, const char *name, ern_err *e) {
    plan_model m = { 0 };
    bool is_ocr = false;
    if (!json_is_object(config)) return ern_fail(e, ERN_FORMAT, "%s: a JSON object wanted", name);
    json_t *text = text_config(config, &is_ocr);
    if (!text) return ern_fail(e, ERN_NOMEM, "%s: out of memory", name);
    const json_t *vision = json_object_get(config, "vision_config");
    bool ok = config_from_json(&m.c, text, name, e);
    if (ok && json_is_object(vision)) {
        m.n_tower = is_ocr ? ocr_tower(vision, m.c.hidden) : ernie_tower(config, vision, m.c.hidden);
        m.n_vision_experts = second(text, "moe_num_experts");
        m.vision_expert_ffn = second(text, "moe_intermediate_size");
    }
    json_decref(text);
    if (!ok) return false;
    snprintf(m.name, sizeof m.name, "%s", name);
    *out = m;
    return true;
}

static bool read_json_file(plan_model *out, const char *path, const char *name, ern_err *e) {
    ern_buf text = { .max = MAX_CONFIG_BYTES };
    json_error_t bad;
    bool ok = false;
    if (file_read(&text, path, MAX_CONFIG_BYTES, e)) {
        json_t *json = json_loadb(text.data ? text.data : "", text.len, 0, &bad);
        ok = json ? plan_model_from_json(out, json, name, e) :
            ern_fail_at(e, ERN_FORMAT, bad.line, bad.column, "%s: %s", path, bad.text);
        json_decref(json);
    }
    buf_deinit(&text);
    return ok;
}

static bool read_source(plan_model *out, const char *path, ern_err *e) {
    plan_model m = { 0 };
    ern_source *s = source_open(path, e);
    const bool ok = s && config_read(&m.c, s, e);
    source_close(s);
    snprintf(m.name, sizeof m.name, "%s", path);
    if (ok) *out = m;
    return ok;
}

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

bool plan_model_read(plan_model *out, const char *name, ern_err *e) {
    const ern_preset *preset = presets_find(name);
    if (file_is_folder(name)) {
        char *path = file_join(name, "config.json", e);
        const bool ok = path && read_json_file(out, path, name, e);
        free(path);
        return ok;
    }
    if (file_exists(name)) return ends_with(name, ".json") ? read_json_file(out, name, name, e) : read_source(out, name, e);
    if (!preset)
        return ern_fail(e, ERN_NOTFOUND, "%s: neither a file nor a released model (ERNIE-4.5-0.3B, ERNIE-4.5-21B-A3B, "
                                         "ERNIE-4.5-300B-A47B, "
                                 "ERNIE-4.5-VL-28B-A3B, ERNIE-4.5-VL-424B-A47B, each also -Base)", name);
    json_t *json = json_loads(preset->config, 0, NULL);
    const bool ok = plan_model_from_json(out, json, preset->name, e);
    json_decref(json);
    return ok;
}

/* ---- memory ------------------------------------------------------------------------------------ */

/* A matrix [R, C]; rows that are no whole number of blocks are kept in bf16. */
static size_t matrix(enum ern_dtype t, size_t R, size_t C) {
    const ern_dtype_info *info = dtype_info(t);
    return C % info->block_n ? R * C * BF16_BYTES : R * (C / info->block_n) * info->block_bytes;
}

/* The same as the kernels keep it. */
static size_t kept(const plan_options *o, size_t R, size_t C) {
    const size_t plain = matrix(o->weights, R, C);
    if (!o->kernels || C % dtype_info(o->weights)->block_n) return plain;
    const ern_view view = { .name = "plan", .dtype = o->weights, .n_dims = 2, .dims = { R, C }, .size_bytes = plain };
    const ern_matrix m = matrix_of(&view);
    const size_t packed = matrix_packed_bytes(&m, o->kernels);
    return packed ? packed : plain;
}

static size_t kept_mlp(const plan_options *o, size_t D, size_t F) { return 2 * kept(o, F, D) + kept(o, D, F); }

static size_t mlp(enum ern_dtype t, size_t D, size_t F) { return 2 * matrix(t, F, D) + matrix(t, D, F); }

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

/* One block of the forward pass: residual, norms, block output, q, k, v, attention, gate and up, logits, scores, experts'
 * rows. */
static size_t scratch(const ern_config *c, const plan_options *o) {
    const size_t Q = c->n_heads * c->head_dim, K = c->n_kv_heads * c->head_dim, D = c->hidden;
    const size_t F = most(most(c->ffn, c->expert_ffn), c->n_shared * c->expert_ffn);
    const size_t row = 6 * D + 2 * Q + 2 * K + 2 * F + 2 * most(most(Q, D), F) + c->head_dim + c->n_experts + 4 * c->n_used;
    return sizeof(float) * (o->max_batch * row + o->n_threads * o->n_ctx + 2 * c->n_vocab) + o->n_ctx * sizeof(int32_t);
}

void plan_memory_of(const plan_model *m, const plan_options *o, plan_memory *out) {
    const ern_config *c = &m->c;
    const enum ern_dtype t = o->weights;
    const size_t D = c->hidden, Q = c->n_heads * c->head_dim, K = c->n_kv_heads * c->head_dim;
    plan_memory r = { 0 };
    const size_t table = matrix(t, c->n_vocab, D);
    size_t n_vision_expert_params = 0;
    r.weights_bytes = kept(o, c->n_vocab, D) + (c->is_tied ? 0 : table) + D * sizeof(float) + m->n_tower * BF16_BYTES;
    r.touched_bytes = table + D * sizeof(float);
    r.n_params = config_n_params(c) + m->n_tower;
    r.n_active = config_n_params(c) - (c->is_tied ? 0 : c->n_vocab * D);
    for (size_t i = 0; i < c->n_layers; i++) {
        const size_t attention = 2 * matrix(t, Q, D) + 2 * matrix(t, K, D) + 2 * D * sizeof(float);
        r.weights_bytes += 2 * kept(o, Q, D) + 2 * kept(o, K, D) + 2 * D * sizeof(float);
        r.touched_bytes += attention;
        if (!config_is_moe_layer(c, i)) {
            r.weights_bytes += kept_mlp(o, D, c->ffn);
            r.touched_bytes += mlp(t, D, c->ffn);
            continue;
        }
        const size_t router = (c->n_experts * D + c->n_experts) * sizeof(float), S = c->n_shared * c->expert_ffn;
        r.weights_bytes += c->n_experts * kept_mlp(o, D, c->expert_ffn) + router + (S ? kept_mlp(o, D, S) : 0);
        if (m->n_vision_experts) r.weights_bytes += m->n_vision_experts * kept_mlp(o, D, m->vision_expert_ffn) + router;
        r.touched_bytes += c->n_used * mlp(t, D, c->expert_ffn) + router + (S ? mlp(t, D, S) : 0);
        r.n_active -= (c->n_experts - c->n_used) * 3 * D * c->expert_ffn;
        n_vision_expert_params += m->n_vision_experts * (3 * D * m->vision_expert_ffn + D + 1);
    }
    r.n_params += n_vision_expert_params;
    r.kv_bytes = kv_context_bytes(c, o->n_ctx, o->k_type, o->v_type);
    r.scratch_bytes = scratch(c, o);
    r.total_bytes = r.weights_bytes + r.kv_bytes + r.scratch_bytes;
    *out = r;
}

/* ---- speed ------------------------------------------------------------------------------------- */

/* Decoding reads the touched weights at the kernels' pace and the keys and values at memory's; a prompt multiplies. */
void plan_speed_of(const plan_model *m, const plan_memory *mem, const probe_speed *probe, double read_bytes_per_s,
                   plan_speed *out) {
    const ern_config *c = &m->c;
    const double weights_s = (double)mem->touched_bytes / probe->decode_bytes,
        kv_s = (double)mem->kv_bytes / read_bytes_per_s;
    /* The vocabulary is projected for the last token only; attention sees half of the prompt on average. */
    const double macs = (double)(mem->n_active - c->n_vocab * c->hidden) +
        (double)(c->n_layers * c->n_heads * c->head_dim * PROMPT);
    *out = (plan_speed){ 1.0 / weights_s, 1.0 / (weights_s + kv_s), probe->prefill_macs / macs };
}
