/* What a model is: the numbers of config.json (old and new spellings) or of GGUF metadata, checked once. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "formats/source.h"

enum model_arch { ARCH_ERNIE, ARCH_ERNIE_MOE, ARCH_LLAMA, ARCH_BERT };

enum config_flag { FLAG_UNSAID, FLAG_NO, FLAG_YES };

typedef struct {
    enum model_arch arch;
    size_t n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, n_vocab, max_positions;
    float norm_eps;
    bool is_tied;               /* the output projection is the embedding */
    enum config_flag attention_bias, mlp_bias;      /* what the config says about biases; the tensors have to agree */
    bool rope_adjacent;         /* pairs (2i, 2i+1); otherwise (i, i + head_dim/2) */
    double rope_theta;
    double rope_factor;         /* llama3 scaling; 0: none */
    double rope_low, rope_high, rope_original;
    size_t n_experts, n_used, expert_ffn, n_shared, moe_start, moe_end, moe_interval;   /* moe_end inclusive */
    size_t shared_ffn;          /* width of the one MLP that the shared experts are; 0 when n_shared is 0 */
    float moe_norm_min;         /* least sum of the chosen probabilities */
    int32_t bos, eos, pad;      /* -1: none */
    size_t n_types;             /* BERT: token types */
    bool pools_cls;             /* the embedding is the first token's vector, not the mean over all tokens */
    bool is_normalized;         /* embeddings are scaled to length 1 */
    size_t max_input;           /* tokens of one embedding, [CLS] and [SEP] included */
} ern_config;

bool config_read(ern_config *out, const ern_source *s, ern_err *e);

/* From a parsed config.json alone (plan, presets). name goes into messages. */
bool config_from_json(ern_config *out, const json_t *json, const char *name, ern_err *e);

bool config_is_moe_layer(const ern_config *c, size_t layer);
const char *config_arch_name(const ern_config *c);
size_t config_kv_bytes_per_token(const ern_config *c,
                                 size_t bytes_per_value); /* all layers; cannot wrap: sizes are limited */
size_t config_n_params(const ern_config *c);

#endif
