#include "engine/presets.h"

#include <string.h>
#include <strings.h>

#define COMMON                                                                                                  \
    "\"vocab_size\": 103424, \"max_position_embeddings\": 131072, \"rope_theta\": 500000.0, \"rms_norm_eps\": 1e-05, " \
    "\"hidden_act\": \"silu\", \"use_bias\": false, \"bos_token_id\": 1, \"eos_token_id\": 2, \"pad_token_id\": 0, "   \
    "\"torch_dtype\": \"bfloat16\""

#define DENSE_03B                                                                                               \
    "\"hidden_size\": 1024, \"num_hidden_layers\": 18, \"num_attention_heads\": 16, \"num_key_value_heads\": 2, "      \
    "\"head_dim\": 128, \"intermediate_size\": 3072"

#define MOE_21B                                                                                                 \
    "\"hidden_size\": 2560, \"num_hidden_layers\": 28, \"num_attention_heads\": 20, \"num_key_value_heads\": 4, "      \
    "\"head_dim\": 128, \"intermediate_size\": 12288, \"moe_k\": 6, \"moe_num_shared_experts\": 2, "                   \
    "\"moe_layer_interval\": 1, \"moe_norm_min\": 1e-12, \"tie_word_embeddings\": true"

#define MOE_300B                                                                                                \
    "\"hidden_size\": 8192, \"num_hidden_layers\": 54, \"num_attention_heads\": 64, \"num_key_value_heads\": 8, "      \
    "\"head_dim\": 128, \"intermediate_size\": 28672, \"moe_k\": 8, \"moe_num_shared_experts\": 0, "                   \
    "\"moe_layer_interval\": 1, \"moe_norm_min\": 1e-12, \"tie_word_embeddings\": false"

#define VISION                                                                                                  \
    "\"vision_config\": { \"depth\": 32, \"embed_dim\": 1280, \"num_heads\": 16, \"mlp_ratio\": 4, \"patch_size\": 14, " \
    "\"in_channels\": 3, \"spatial_merge_size\": 2 }, \"spatial_conv_size\": 2, \"temporal_conv_size\": 2"

static const char config_03b[] = "{ \"model_type\": \"ernie4_5\", " COMMON ", " DENSE_03B ", \"tie_word_embeddings\": true "
        "}";

static const char config_21b[] = "{ \"model_type\": \"ernie4_5_moe\", " COMMON ", " MOE_21B ", \"moe_num_experts\": 64, "
                                 "\"moe_intermediate_size\": 1536, \"moe_layer_start_index\": 1, \"moe_layer_end_index\": "
                                 "27 }";

static const char config_300b[] = "{ \"model_type\": \"ernie4_5_moe\", " COMMON ", " MOE_300B ", \"moe_num_experts\": 64, "
                                  "\"moe_intermediate_size\": 3584, \"moe_layer_start_index\": 3, \"moe_layer_end_index\": "
                                  "53 }";

static const char config_vl_28b[] = "{ \"model_type\": \"ernie4_5_moe_vl\", " COMMON ", " MOE_21B ", \"moe_num_experts\": "
        "[64, 64], "
                                    "\"moe_intermediate_size\": [1536, 512], \"moe_layer_start_index\": [1, 1], "
                                    "\"moe_layer_end_index\": [29, 28], " VISION " }";

static const char config_vl_424b[] = "{ \"model_type\": \"ernie4_5_moe_vl\", " COMMON ", " MOE_300B ", "
        "\"moe_num_experts\": [64, 64], "
                                     "\"moe_intermediate_size\": [3584, 1536], \"moe_layer_start_index\": [3, 3], "
                                     "\"moe_layer_end_index\": [53, 53], " VISION " }";

static const char config_ocr[] = "{ \"model_type\": \"paddleocr_vl\", " COMMON ", " DENSE_03B ", \"tie_word_embeddings\": "
        "false, "
                                 "\"vision_config\": { \"hidden_size\": 1152, \"intermediate_size\": 4304, "
                                 "\"num_hidden_layers\": 27, "
                                 "\"num_attention_heads\": 16, \"num_channels\": 3, \"image_size\": 384, \"patch_size\": "
                                 "14, "
                                 "\"spatial_merge_size\": 2 } }";

static const ern_preset presets[] = {
    { "ERNIE-4.5-0.3B", config_03b },
    { "ERNIE-4.5-0.3B-Base", config_03b },
    { "ERNIE-4.5-21B-A3B", config_21b },
    { "ERNIE-4.5-21B-A3B-Base", config_21b },
    { "ERNIE-4.5-21B-A3B-Thinking", config_21b },
    { "ERNIE-4.5-300B-A47B", config_300b },
    { "ERNIE-4.5-300B-A47B-Base", config_300b },
    { "ERNIE-4.5-VL-28B-A3B", config_vl_28b },
    { "ERNIE-4.5-VL-28B-A3B-Base", config_vl_28b },
    { "ERNIE-4.5-VL-28B-A3B-Thinking", config_vl_28b },
    { "ERNIE-4.5-VL-424B-A47B", config_vl_424b },
    { "ERNIE-4.5-VL-424B-A47B-Base", config_vl_424b },
    { "PaddleOCR-VL-0.9B", config_ocr },
};

size_t presets_n(void) { return sizeof presets / sizeof presets[0]; }
const ern_preset *presets_at(size_t i) { return &presets[i]; }

static const char *without_prefix(const char *name) {
    static const char *const prefixes[] = { "baidu/", "PaddlePaddle/", "ERNIE-4.5-" };
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncasecmp(name, prefixes[i], strlen(prefixes[i])) == 0) name += strlen(prefixes[i]);
    return name;
}

static size_t without_suffix(const char *name) {
    static const char *const suffixes[] = { "-PT", "-Paddle" };
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        const size_t m = strlen(suffixes[i]);
        if (n > m && strcasecmp(name + n - m, suffixes[i]) == 0) return n - m;
    }
    return n;
}

const ern_preset *presets_find(const char *name) {
    const char *core = without_prefix(name);
    const size_t n = without_suffix(core);
    for (size_t i = 0; i < presets_n(); i++) {
        const char *known = without_prefix(presets[i].name);
        if (strlen(known) == n && strncasecmp(known, core, n) == 0) return &presets[i];
    }
    return NULL;
}
