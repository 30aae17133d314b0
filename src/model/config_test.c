#include "model/config.h"

#include <string.h>

#include "base/test.h"

#define DENSE \
    "\"model_type\":\"ernie4_5\",\"num_hidden_layers\":18,\"hidden_size\":1024,\"num_attention_heads\":16," \
    "\"num_key_value_heads\":2," \
    "\"head_dim\":128,\"intermediate_size\":3072,\"vocab_size\":103424"
#define MOE \
    "\"model_type\":\"ernie4_5_moe\",\"num_hidden_layers\":54,\"hidden_size\":8192,\"num_attention_heads\":64," \
    "\"num_key_value_heads\":8," \
    "\"intermediate_size\":28672,\"vocab_size\":103424,\"moe_num_experts\":64,\"moe_k\":8,\"moe_intermediate_size\":3584"
#define LLAMA                                                                                                              \
    "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":64,\"num_attention_heads\":4," \
    "\"intermediate_size\":160,\"vocab_size\":384"
#define BERT                                                                                                               \
    "\"model_type\":\"bert\",\"num_hidden_layers\":6,\"hidden_size\":384,\"num_attention_heads\":12," \
    "\"intermediate_size\":1536,\"vocab_size\":30522"

static bool parse(ern_config *c, const char *text, ern_err *e) {
    json_error_t bad;
    json_t *json = json_loads(text, 0, &bad);
    if (!json) fail_msg("%s: %s", text, bad.text);
    const bool ok = config_from_json(c, json, "config", e);
    json_decref(json);
    return ok;
}

static ern_config good(const char *text) {
    ern_config c = { 0 };
    ern_err e = { 0 };
    if (!parse(&c, text, &e)) fail_msg("%s: %s", text, e.text);
    return c;
}

/* ERNIE45.md 1.1 and 1.2: sizes and parameter counts of the released models. */
static void released_models(void **state) {
    (void)state;
    ern_config c = good(
        "{" DENSE ",\"tie_word_embeddings\":true,\"rope_theta\":500000,\"use_bias\":false,\"torch_dtype\":\"bfloat16\"}");
    assert_int_equal(c.arch, ARCH_ERNIE);
    assert_true(c.is_tied && c.rope_adjacent && c.rope_theta == 500000.0 && c.max_positions == 131072);
    assert_int_equal(config_n_params(&c) / 1000000, 360);       /* 0.361 B */
    assert_int_equal(config_kv_bytes_per_token(&c, 2), 2 * 18 * 2 * 128 * 2);
    c = good(
        "{" MOE
        ",\"tie_word_embeddings\":false,\"moe_num_shared_experts\":0,\"moe_layer_start_index\":3,"
        "\"moe_layer_end_index\":53}");
    assert_int_equal(c.arch, ARCH_ERNIE_MOE);
    assert_int_equal(config_n_params(&c) / 1000000, 299484);    /* 299.484 B */
    assert_int_equal(c.head_dim, 128);
    assert_true(!config_is_moe_layer(&c, 2) && config_is_moe_layer(&c, 3) && config_is_moe_layer(&c, 53));
    c = good(
        "{\"model_type\":\"ernie4_5_moe\",\"num_hidden_layers\":28,\"hidden_size\":2560,"
        "\"num_attention_heads\":20,\"num_key_value_heads\":4,"
        "\"intermediate_size\":12288,\"vocab_size\":103424,\"moe_num_experts\":64,\"moe_k\":6,"
        "\"moe_intermediate_size\":1536,"
        "\"moe_num_shared_experts\":2,\"moe_layer_start_index\":1,\"moe_layer_end_index\":-1,\"tie_word_embeddings\":true}");
    assert_int_equal(config_n_params(&c) / 1000000, 21825);     /* 21.825 B */
    assert_int_equal(c.shared_ffn, 3072);
    assert_int_equal(c.moe_end, 27);
}

static void old_and_new_spellings(void **state) {
    (void)state;
    assert_true(good("{" LLAMA ",\"rope_theta\":123}").rope_theta == 123.0);
    assert_true(good("{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":77}}").rope_theta == 77.0);
    assert_true(good("{" LLAMA ",\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":77}}").rope_theta == 77.0);
    assert_true(good("{" LLAMA ",\"rope_scaling\":null,\"head_dim\":null}").head_dim == 16);
    assert_true(good("{" LLAMA "}").rope_theta == 10000.0 && !good("{" LLAMA "}").is_tied &&
                !good("{" LLAMA "}").rope_adjacent);
    const char *scaled =
        "\"type\":\"llama3\",\"factor\":32,\"low_freq_factor\":1,\"high_freq_factor\":4,"
        "\"original_max_position_embeddings\":8192";
    char text[1024];
    snprintf(text, sizeof text, "{" LLAMA ",\"rope_scaling\":{%s}}", scaled);
    assert_true(good(text).rope_factor == 32.0);
    snprintf(text, sizeof text, "{" LLAMA ",\"rope_parameters\":{\"rope_%s}}", scaled + 1);
    assert_true(good(text).rope_factor == 32.0 && good(text).rope_original == 8192.0);
    static const char *const types[] = { "ernie4_5_moe", "ernie4_5-moe", "Ernie4_5_MoeForCausalLM",
                                         "Ernie4_5_MoEForCausalLM" };
    for (size_t i = 0; i < 4; i++) {
        const bool is_class = types[i][0] == 'E';
        snprintf(text, sizeof text, "{%s%s%s,%s}", is_class ? "\"architectures\":[\"" : "\"model_type\":\"", types[i],
                 is_class ? "\"]" : "\"", strstr(MOE, "\"num_hidden"));
        assert_int_equal(good(text).arch, ARCH_ERNIE_MOE);
    }
    assert_int_equal(good("{" MOE ",\"eos_token_id\":[5,6],\"bos_token_id\":1}").eos, 5);
    assert_int_equal(good("{" MOE "}").eos, -1);
    /* [text, vision] */
    ern_config c = good(
        "{\"model_type\":\"ernie4_5_moe\",\"num_hidden_layers\":3,\"hidden_size\":64,"
        "\"num_attention_heads\":4,\"intermediate_size\":112,"
        "\"vocab_size\":512,\"moe_num_experts\":[8,9],\"moe_k\":3,\"moe_intermediate_size\":[24,8],"
        "\"moe_layer_start_index\":[1,2],"
        "\"moe_layer_end_index\":[29,28]}");
    assert_true(c.n_experts == 8 && c.expert_ffn == 24 && c.moe_start == 1 && c.moe_end == 2);
    assert_int_equal(good("{" BERT "}").max_positions, 512);
    assert_true(good("{" BERT "}").is_normalized && !good("{" BERT "}").pools_cls && good("{" BERT "}").max_input == 512);
}

/* a config that is refused, the code, and what the message has to name */
static const struct { const char *text; enum ern_code code; const char *names; } refused[] = {
    { "[]", ERN_FORMAT, "object" },
    { "{}", ERN_MISSING, "(none)" },
    { "{\"model_type\":\"qwen3\"}", ERN_MISSING, "qwen3" },
    { "{\"model_type\":\"ernie4_5_moe_vl\"}", ERN_MISSING, "pictures" },
    { "{\"model_type\":\"ernie4_5_vl_moe\"}", ERN_MISSING, "pictures" },
    { "{\"model_type\":\"paddleocr_vl\"}", ERN_MISSING, "pictures" },
    { "{\"model_type\":\"llama\"}", ERN_FORMAT, "num_hidden_layers" },
    { "{" LLAMA ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4}}", ERN_MISSING, "yarn" },
    { "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":4}}", ERN_MISSING, "linear" },
    { "{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"dynamic\"}}", ERN_MISSING, "dynamic" },
    { "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":0}}", ERN_FORMAT, "rope scaling" },
    { "{" LLAMA ",\"rope_theta\":0}", ERN_FORMAT, "rope_theta" },
    { "{" LLAMA ",\"rope_theta\":\"big\"}", ERN_FORMAT, "rope_theta" },
    { "{" LLAMA ",\"rms_norm_eps\":2}", ERN_FORMAT, "epsilon" },
    { "{" LLAMA ",\"hidden_act\":\"relu\"}", ERN_MISSING, "relu" },
    { "{" LLAMA ",\"partial_rotary_factor\":0.5}", ERN_MISSING, "partial_rotary_factor" },
    { "{" LLAMA ",\"num_key_value_heads\":3}", ERN_FORMAT, "3 key heads" },
    { "{" LLAMA ",\"num_key_value_heads\":0}", ERN_FORMAT, "0 key heads" },
    { "{" LLAMA ",\"head_dim\":15}", ERN_FORMAT, "15" },
    { "{" LLAMA ",\"head_dim\":-1}", ERN_FORMAT, "head_dim is -1" },
    { "{" LLAMA ",\"head_dim\":1.5}", ERN_FORMAT, "head_dim" },
    { "{" LLAMA ",\"num_hidden_layers\":0}", ERN_FORMAT, "none may be 0" },
    { "{" LLAMA ",\"num_hidden_layers\":4000000000}", ERN_FORMAT, "num_hidden_layers" },
    { "{" LLAMA ",\"num_attention_heads\":4096,\"num_key_value_heads\":1,\"head_dim\":65536}", ERN_FORMAT, "4096 heads" },
    { "{" LLAMA ",\"vocab_size\":9223372036854775807}", ERN_FORMAT, "vocab_size" },
    { "{" DENSE ",\"compression_ratio\":2}", ERN_MISSING, "compression_ratio" },
    { "{" MOE ",\"moe_k\":65}", ERN_FORMAT, "65" },
    { "{" MOE ",\"moe_k\":0}", ERN_FORMAT, "0 experts" },
    { "{" MOE ",\"moe_layer_interval\":0}", ERN_FORMAT, "interval" },
    { "{" MOE ",\"moe_gate\":\"sinkhorn\"}", ERN_MISSING, "sinkhorn" },
    { "{" MOE ",\"moe_gate_act\":\"sigmoid\"}", ERN_MISSING, "sigmoid" },
    { "{" MOE ",\"moe_layer_end_index\":\"x\"}", ERN_FORMAT, "moe_layer_end_index" },
    { "{" MOE ",\"moe_num_shared_experts\":1000}", ERN_FORMAT, "1000 shared" },
    { "{" MOE ",\"rope_3d\":true}", ERN_MISSING, "rope_3d" },
    { "{" BERT ",\"hidden_act\":\"gelu_new\"}", ERN_MISSING, "gelu_new" },
    { "{" BERT ",\"position_embedding_type\":\"relative_key\"}", ERN_MISSING, "relative_key" },
    { "{" BERT ",\"head_dim\":31}", ERN_FORMAT, "384" },
};

static void what_cannot_be_honoured_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ern_config c = { .n_layers = 12345 };
        ern_err e = { 0 };
        if (parse(&c, refused[i].text, &e)) fail_msg("%s was accepted", refused[i].text);
        if (e.code != refused[i].code || !strstr(e.text, refused[i].names)) fail_msg("%s: %s", refused[i].text, e.text);
        assert_int_equal(c.n_layers, 12345);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(released_models),
        cmocka_unit_test(old_and_new_spellings),
        cmocka_unit_test(what_cannot_be_honoured_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
