/* Memory and speed of a model before it is loaded: from its config alone. */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "engine/probe.h"
#include "model/config.h"
#include "model/kv.h"

typedef struct {
    char name[256];
    ern_config c;
    size_t n_tower;             /* parameters of the vision tower and resampler; 0: text only */
    size_t n_vision_experts, vision_expert_ffn;     /* of each expert layer */
} plan_model;

/* A released name (presets.h), a config.json, a folder with one, or a GGUF file. */
bool plan_model_read(plan_model *out, const char *name, ern_err *e);
bool plan_model_from_json(plan_model *out, const json_t *config, const char *name, ern_err *e);

typedef struct {
    enum ern_dtype weights, k_type, v_type;
    size_t n_ctx, n_threads, max_batch;
    const ern_kernels *kernels; /* weights as these pack them; NULL: as they are in a file */
} plan_options;

typedef struct {
    size_t weights_bytes;       /* matrices in the type (packed); norms, routers and biases f32; vision tower bf16 */
    size_t kv_bytes, scratch_bytes, total_bytes;
    size_t touched_bytes;       /* weights read for one decoded token: chosen experts only */
    size_t n_params, n_active;
} plan_memory;

void plan_memory_of(const plan_model *m, const plan_options *o, plan_memory *out);

/* tokens a second: empty context, full context, 512-token prompt */
typedef struct { double decode_start, decode_full, prefill; } plan_speed;

void plan_speed_of(const plan_model *m, const plan_memory *mem, const probe_speed *probe, double read_bytes_per_s,
                   plan_speed *out);

#endif
