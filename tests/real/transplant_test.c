/* A real language model through the ERNIE graph: SmolLM2's weights written as an ERNIE 4.5 dense folder. ERNIE 4.5
 * dense is the Llama architecture with RoPE on adjacent pairs, and a "llama" GGUF keeps the rows of Q and K in just that
 * order, so names and config change and not one value does. The same ids must then give the same logits. */
#include "real.h"

#include <sys/stat.h>

#include "base/file.h"
#include "formats/safetensors_write.h"

/* of the range: float32 weights, the same kernels; the files order nothing differently */
#define LOGITS_TOLERANCE 1e-5

static const char *const names[][2] = {
    { "attn_norm", "input_layernorm" }, { "ffn_norm", "post_attention_layernorm" }, { "attn_q", "self_attn.q_proj" },
    { "attn_k", "self_attn.k_proj" }, { "attn_v", "self_attn.v_proj" }, { "attn_output", "self_attn.o_proj" },
    { "ffn_gate", "mlp.gate_proj" }, { "ffn_up", "mlp.up_proj" }, { "ffn_down", "mlp.down_proj" },
};

static void pt_name(const char *gguf_name, char *out, size_t n) {
    unsigned layer;
    char part[64];
    if (strcmp(gguf_name, "token_embd.weight") == 0) { snprintf(out, n, "model.embed_tokens.weight"); return; }
    if (strcmp(gguf_name, "output_norm.weight") == 0) { snprintf(out, n, "model.norm.weight"); return; }
    assert_int_equal(sscanf(gguf_name, "blk.%u.%63[^.].weight", &layer, part), 2);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(part, names[i][0]) == 0) { snprintf(out, n, "model.layers.%u.%s.weight", layer, names[i][1]); return; }
    fail_msg("%s", gguf_name);
}

static void write_config(const ern_config *c, const char *path) {
    json_t *j = json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:f, s:f, s:b, s:b, "
                          "s:s, s:i, s:i, s:i}",
                          "architectures", "Ernie4_5ForCausalLM", "model_type", "ernie4_5", "vocab_size",
                          (json_int_t)c->n_vocab,
                          "hidden_size", (json_int_t)c->hidden, "intermediate_size", (json_int_t)c->ffn,
                          "num_hidden_layers", (json_int_t)c->n_layers, "num_attention_heads", (json_int_t)c->n_heads,
                          "num_key_value_heads", (json_int_t)c->n_kv_heads, "head_dim", (json_int_t)c->head_dim,
                          "hidden_act", "silu",
                          "max_position_embeddings", (json_int_t)c->max_positions, "rms_norm_eps", (double)c->norm_eps,
                          "rope_theta", c->rope_theta, "use_bias", 0, "tie_word_embeddings", 1, "torch_dtype", "float32",
                          "bos_token_id", (int)c->bos, "eos_token_id", (int)c->eos, "pad_token_id", (int)c->pad);
    assert_non_null(j);
    assert_int_equal(json_dump_file(j, path, 0), 0);
    json_decref(j);
}

static void write_weights(const ern_gguf *g, const char *path) {
    ern_err e = { 0 };
    ern_safetensors_writer *w = safetensors_writer_open(path, 0, &e);
    assert_non_null(w);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        char name[128];
        ern_view v = *gguf_tensor(g, i);
        pt_name(v.name, name, sizeof name);
        v.name = name;
        v.dtype = DTYPE_F32;
        v.size_bytes = view_n(&v) * sizeof(float);
        v.data = NULL;
        if (!safetensors_writer_declare(w, &v, &e)) fail_msg("%s", e.text);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const ern_view *v = gguf_tensor(g, i);
        float *y = malloc(view_n(v) * sizeof *y);
        assert_non_null(y);
        view_to_f32(v, y);
        if (!safetensors_writer_data(w, y, view_n(v) * sizeof *y, &e)) fail_msg("%s", e.text);
        free(y);
    }
    if (!safetensors_writer_finish(w, &e)) fail_msg("%s", e.text);
    safetensors_writer_close(w);
}

static void keep_logits(void *ctx, size_t i, const float *logits, size_t V) {
    (void)i;
    memcpy(ctx, logits, V * sizeof *logits);
}

static void test_same_logits(void **state) {
    (void)state;
    const char *model = real_model("ERNIE_SMOLLM2");
    REAL_NEED(model, "no SmolLM2");
    char folder[] = "/tmp/ern-transplant-XXXXXX", weights[64], config[64];
    json_t *cases = real_json("smollm2/cases.json");
    assert_non_null(cases);
    const json_t *item;
    size_t i;
    double worst = 0;
    assert_non_null(mkdtemp(folder));
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    snprintf(config, sizeof config, "%s/config.json", folder);
    ern_engine *llama = real_engine(model, true);
    write_config(&llama->model->c, config);
    write_weights(source_gguf(llama->model->source), weights);
    ern_engine *ernie = real_engine(folder, true);
    const size_t V = ern_engine_n_vocab(llama);
    float *a = malloc(V * sizeof *a), *b = malloc(V * sizeof *b);
    assert_true(a && b);
    assert_int_equal(ernie->model->c.arch, ARCH_ERNIE);
    json_array_foreach(json_object_get(cases, "prompts"), i, item) {
        size_t n;
        int32_t *ids = real_ids(json_object_get(item, "ids"), &n);
        if (n <= 64) {
            real_run(llama, ids, n, n - 1, "f32", NULL, NULL, keep_logits, a);
            real_run(ernie, ids, n, n - 1, "f32", NULL, NULL, keep_logits, b);
            const double d = arrays_difference(b, a, V);
            if (!(d <= worst)) worst = d;
        }
        free(ids);
    }
    print_message("# SmolLM2 as ERNIE 4.5: largest difference %.1e of the range\n", worst);
    free(a);
    free(b);
    ern_engine_close(ernie);
    ern_engine_close(llama);
    json_decref(cases);
    remove(weights);
    remove(config);
    rmdir(folder);
    assert_true(worst <= LOGITS_TOLERANCE);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_logits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
