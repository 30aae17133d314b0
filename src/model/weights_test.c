/* A config and tensors that contradict each other: the config of a reference model changed in one place. */
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../tests/reference.h"
#include "base/file.h"
#include "base/test.h"

static char folder[] = "/tmp/ern_weights_test_XXXXXX";

static int set_up(void **state) { (void)state; return mkdtemp(folder) ? 0 : -1; }
static int tear_down(void **state) { (void)state; return rmdir(folder); }

static void place(char out[512], const char *name) { snprintf(out, 512, "%s/%s", folder, name); }

/* The model with the members of change in its config; null removes one. */
static ern_model *bind_changed(const char *model, const char *change, ern_err *e) {
    char path[REFERENCE_PATH], name[256], real[4096], config_path[512], weights_path[512];
    json_error_t bad;
    json_t *patch = json_loads(change, 0, &bad), *value;
    const char *key;
    snprintf(name, sizeof name, "%s/model.safetensors", model);
    if (!patch || !reference_find(path, name) || !realpath(path, real))
        fail_msg("%s: %s", model, patch ? "not found" : bad.text);
    snprintf(name, sizeof name, "%s/config.json", model);
    assert_true(reference_find(path, name));
    json_t *config = json_load_file(path, 0, &bad);
    json_object_foreach(patch, key, value) {
        if (json_is_null(value)) json_object_del(config, key);
        else json_object_set(config, key, value);
    }
    place(config_path, "config.json");
    place(weights_path, "model.safetensors");
    assert_int_equal(json_dump_file(config, config_path, 0), 0);
    assert_int_equal(symlink(real, weights_path), 0);
    ern_source *s = source_open(folder, e);
    ern_model *m = s ? model_bind(s, e) : NULL;
    unlink(config_path);
    unlink(weights_path);
    json_decref(config);
    json_decref(patch);
    return m;
}

static const struct { const char *model, *change, *names[3]; } refused[] = {
    { "dense", "{\"vocab_size\":511}", { "model.embed_tokens.weight", "512", "511" } },
    { "dense", "{\"hidden_size\":96}", { "model.embed_tokens.weight", "64", "96" } },
    { "dense", "{\"num_hidden_layers\":2}", { "model.layers.2.", "2 layers", NULL } },
    { "dense", "{\"num_hidden_layers\":4}", { "model.layers.3.input_layernorm.weight", "missing", NULL } },
    { "dense", "{\"head_dim\":16}", { "model.layers.0.self_attn.q_proj.weight", "128", "64" } },
    { "dense", "{\"num_key_value_heads\":4}", { "self_attn.k_proj.weight", "64", "128" } },
    { "dense", "{\"intermediate_size\":95}", { "mlp.gate_proj.weight", "96", "95" } },
    { "dense", "{\"use_bias\":true}", { "self_attn.q_proj.weight", "has not a bias", NULL } },
    { "dense", "{\"tie_word_embeddings\":false}", { "lm_head.weight", "missing", NULL } },
    { "dense_untied", "{\"use_bias\":false}", { "self_attn.q_proj.weight", "has a bias", NULL } },
    { "moe", "{\"moe_num_experts\":7}", { "model.layers.1.mlp.experts.7.", "7 experts", NULL } },
    { "moe", "{\"moe_num_experts\":9}", { "mlp.gate.weight", "8", "9" } },
    { "moe", "{\"moe_num_shared_experts\":0}", { "mlp.shared_experts.", "shared width 0", NULL } },
    { "moe", "{\"moe_num_shared_experts\":1}", { "mlp.shared_experts.gate_proj.weight", "64", "32" } },
    { "moe", "{\"moe_layer_start_index\":0}", { "model.layers.0.mlp", "no place", NULL } },
    { "moe", "{\"moe_layer_start_index\":2}", { "model.layers.1.mlp", "no place", NULL } },
    { "moe", "{\"moe_intermediate_size\":31}", { "mlp.", "32", "31" } },
    { "moe", "{\"model_type\":\"ernie4_5\",\"use_bias\":null}", { "model.layers.1.mlp", "no place", NULL } },
    { "moe_noshared", "{\"moe_num_shared_experts\":2}", { "mlp.shared_experts.gate_proj.weight", "missing", NULL } },
    { "llama", "{\"attention_bias\":true}", { "self_attn.q_proj.weight", "has not a bias", NULL } },
    { "llama", "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\"}", { "no place", "bert", NULL } },
};

static void contradictions_are_refused_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ern_err e = { 0 };
        ern_model *m = bind_changed(refused[i].model, refused[i].change, &e);
        if (m) fail_msg("%s with %s was accepted", refused[i].model, refused[i].change);
        assert_int_equal(e.code, ERN_FORMAT);
        for (size_t k = 0; k < 3 && refused[i].names[k]; k++)
            if (!strstr(e.text, refused[i].names[k]))
                fail_msg("%s with %s: %s", refused[i].model, refused[i].change, e.text);
    }
}

/* Other spellings of the same model, and released configs that say more than is there. */
static const struct { const char *model, *change; } accepted[] = {
    { "dense", "{}" },
    { "dense", "{\"use_bias\":null,\"tie_word_embeddings\":null}" },
    { "dense", "{\"model_type\":null}" },
    { "dense_untied", "{\"tie_word_embeddings\":true}" },       /* some claim to be tied and are not */
    { "dense_untied", "{\"use_bias\":null}" },
    { "moe", "{\"moe_layer_end_index\":29}" },
    { "moe", "{\"moe_layer_end_index\":null,\"moe_layer_start_index\":[1,1]}" },
    { "moe_noshared", "{\"moe_layer_end_index\":-1}" },
};

static void other_spellings_are_accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        ern_err e = { 0 };
        ern_model *m = bind_changed(accepted[i].model, accepted[i].change, &e);
        if (!m) fail_msg("%s with %s: %s", accepted[i].model, accepted[i].change, e.text);
        model_close(m);
    }
}

static void fields_are_what_the_files_hold(void **state) {
    (void)state;
    ern_err e = { 0 };
    ern_model *m = bind_changed("moe", "{}", &e);
    assert_non_null(m);
    assert_true(!m->layers[0].is_moe && m->layers[1].is_moe && m->layers[2].is_moe);
    assert_non_null(m->layers[1].router_bias);
    assert_true(m->layers[1].mlp.gate.w.dims[0] == 64 && m->layers[1].experts[7].down.w.dims[0] == 64);
    assert_true(m->output.data == m->embed.data && m->c.is_tied);
    assert_true(m->inv_freq[0] == 1.0f && m->inv_freq[7] < m->inv_freq[6]);
    model_close(m);
    m = bind_changed("dense_untied", "{}", &e);
    assert_non_null(m);
    assert_true(m->layers[0].q.bias && m->output.data != m->embed.data && !m->c.is_tied);
    model_close(m);
    model_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_refused_by_name), cmocka_unit_test(other_spellings_are_accepted),
        cmocka_unit_test(fields_are_what_the_files_hold),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
