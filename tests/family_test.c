/* What is known of the released models without their weights: parameter counts, bytes of keys and values, widths.
 * A preset or a config that is read wrongly shows here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/presets.h"
#include "model/config.h"

/* Published sizes are rounded; ours are counted from the shapes of MODEL.md section 1. */
#define COUNT_TOLERANCE 1e-3

typedef struct {
    const char *name;
    double billions;                /* of the text model, the extra prediction head left out */
    size_t kv_bytes;                /* a token, 16 bits */
    size_t n_moe_layers, shared_width, q_width;
} fact;

static const fact facts[] = {
    { "ERNIE-4.5-0.3B", 0.361, 18432, 0, 0, 2048 },
    { "ERNIE-4.5-21B-A3B", 21.825, 57344, 27, 3072, 2560 },
    { "ERNIE-4.5-300B-A47B", 299.484, 221184, 51, 0, 8192 },
};

static void config_of(ern_config *c, const char *name) {
    ern_err e = { 0 };
    const ern_preset *p = presets_find(name);
    assert_non_null(p);
    json_t *json = json_loads(p->config, 0, NULL);
    assert_non_null(json);
    if (!config_from_json(c, json, name, &e)) fail_msg("%s", e.text);
    json_decref(json);
}

static void test_sizes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        const fact *f = &facts[i];
        ern_config c;
        size_t n_moe = 0;
        config_of(&c, f->name);
        const double billions = (double)config_n_params(&c) / 1e9;
        if (fabs(billions / f->billions - 1) > COUNT_TOLERANCE) fail_msg("%s: %.3f billion, %.3f wanted", f->name,
            billions, f->billions);
        assert_int_equal(config_kv_bytes_per_token(&c, 2), f->kv_bytes);
        for (size_t l = 0; l < c.n_layers; l++) n_moe += config_is_moe_layer(&c, l);
        assert_int_equal(n_moe, f->n_moe_layers);
        assert_int_equal(c.n_shared * c.expert_ffn, f->shared_width);
        assert_int_equal(c.n_heads * c.head_dim, f->q_width);
        assert_int_equal(c.n_vocab, 103424);
        assert_int_equal(c.max_positions, 131072);
        assert_true(c.rope_adjacent && c.rope_theta == 500000.0);
    }
}

static void test_names(void **state) {
    (void)state;
    static const char *const spellings[] = { "baidu/ERNIE-4.5-0.3B-PT", "ERNIE-4.5-0.3B-Paddle", "0.3b" };
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++)
        assert_ptr_equal(presets_find(spellings[i]), presets_find("ERNIE-4.5-0.3B"));
    assert_null(presets_find("ERNIE-9"));
    assert_true(presets_n() >= 10);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_sizes), cmocka_unit_test(test_names) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
