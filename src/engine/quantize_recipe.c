/* Which matrix gets which type. Letters: N layers.
 *
 * The matrices that hurt most when they are coarse (attn_v, which all heads of a group share; ffn_down, whose inputs are
 * large; the output) get more bits, all of them or in some layers: EDGES means the first and last eighth of the layers and
 * every third between them. In mixture-of-experts models attn_k and attn_v are one part in 300 of the weights and work for
 * every token: they get Q8_0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/quantize.h"

enum where { NOWHERE, GROUPED, FIRST_TWO, FIRST_16TH, FIRST_8TH, EDGES };      /* GROUPED: heads share keys by 4 or more */

struct quantize_recipe {
    const char *name;
    int file_type;              /* of llama.cpp */
    enum ern_dtype base, output;
    enum ern_dtype value, value_more;   /* attn_v; value_more where it says */
    enum where value_where;
    enum ern_dtype down, down_more;     /* ffn_down, of shared and routed experts too */
    enum where down_where;
    enum ern_dtype attn_output;
};

#define SAME(name, code, t, out) \
    { name, code, DTYPE_##t, DTYPE_##out, DTYPE_##t, DTYPE_##t, NOWHERE, DTYPE_##t, DTYPE_##t, NOWHERE, DTYPE_##t }
static const quantize_recipe recipes[] = {
    SAME("Q8_0", 7, Q8_0, Q8_0),
    SAME("Q6_K", 18, Q6_K, Q6_K),
    { "Q5_K_M", 17, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_Q5_K, DTYPE_Q6_K, EDGES, DTYPE_Q5_K, DTYPE_Q6_K, EDGES, DTYPE_Q5_K },
    { "Q4_K_M", 15, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q4_K, DTYPE_Q6_K, EDGES, DTYPE_Q4_K, DTYPE_Q6_K, EDGES, DTYPE_Q4_K },
    SAME("Q4_0", 2, Q4_0, Q6_K),
    { "IQ4_XS", 30, DTYPE_IQ4_XS, DTYPE_Q6_K, DTYPE_IQ4_XS, DTYPE_Q5_K, GROUPED, DTYPE_IQ4_XS, DTYPE_Q5_K, FIRST_8TH,
      DTYPE_IQ4_XS },
    { "Q3_K_M", 12, DTYPE_Q3_K, DTYPE_Q6_K, DTYPE_Q4_K, DTYPE_Q5_K, FIRST_TWO, DTYPE_Q4_K, DTYPE_Q5_K, FIRST_16TH,
      DTYPE_Q4_K },
    { "Q2_K", 10, DTYPE_Q2_K, DTYPE_Q6_K, DTYPE_Q3_K, DTYPE_Q4_K, GROUPED, DTYPE_Q3_K, DTYPE_Q3_K, NOWHERE, DTYPE_Q3_K },
    SAME("F32", 0, F32, F32), SAME("F16", 1, F16, F16), SAME("BF16", 32, BF16, BF16), SAME("Q4_1", 3, Q4_1, Q6_K),
    SAME("Q5_0", 8, Q5_0, Q6_K), SAME("Q5_1", 9, Q5_1, Q6_K), SAME("Q3_K", 11, Q3_K, Q6_K), SAME("Q4_K", 14, Q4_K, Q6_K),
    SAME("Q5_K", 16, Q5_K, Q6_K), SAME("IQ4_NL", 25, IQ4_NL, Q6_K), SAME("MXFP4", 38, MXFP4, Q6_K),
};

const quantize_recipe *quantize_recipe_find(const char *name) {
    for (size_t i = 0; i < quantize_n_recipes(); i++)
        if (strcasecmp(recipes[i].name, name) == 0) return &recipes[i];
    return NULL;
}

size_t quantize_n_recipes(void) { return sizeof recipes / sizeof recipes[0]; }
const quantize_recipe *quantize_recipe_at(size_t i) { return &recipes[i]; }
const char *quantize_recipe_name(const quantize_recipe *r) { return r->name; }
int quantize_file_type(const quantize_recipe *r) { return r->file_type; }

static bool is_there(enum where where, const ern_config *c, size_t layer, bool has_importance) {
    const size_t N = c->n_layers;
    switch (where) {
    case GROUPED: return c->n_kv_heads && c->n_heads / c->n_kv_heads >= 4;
    case FIRST_TWO: return layer < 2;
    case FIRST_16TH: return layer < N / 16;
    case FIRST_8TH: return layer < N / 8 && !has_importance;
    case EDGES: return layer < N / 8 || layer >= 7 * N / 8 || (layer - N / 8) % 3 == 2;
    case NOWHERE: break;
    }
    return false;
}

static bool is_part(const char *rest, const char *part) {
    const size_t n = strlen(part);
    return rest && strncmp(rest, part, n) == 0 && (rest[n] == '.' || rest[n] == '_');
}

enum ern_dtype quantize_type_of(const quantize_recipe *r, const ern_config *c, bool is_tied, bool has_importance,
                                const char *name) {
    char *rest = NULL;
    if (strcmp(name, "output.weight") == 0 || (is_tied && strcmp(name, "token_embd.weight") == 0)) return r->output;
    if (strncmp(name, "blk.", 4) != 0) return r->base;
    const size_t layer = (size_t)strtoul(name + 4, &rest, 10);
    rest += *rest == '.';
    const bool is_mixture = c->n_experts > 0 && dtype_info(r->base)->block_n > 1;
    if (is_mixture && (is_part(rest, "attn_k") || is_part(rest, "attn_v"))) return DTYPE_Q8_0;
    if (is_part(rest, "attn_v")) return is_there(r->value_where, c, layer, has_importance) ? r->value_more : r->value;
    if (is_part(rest, "ffn_down")) return is_there(r->down_where, c, layer, has_importance) ? r->down_more : r->down;
    if (is_part(rest, "attn_output") && !is_part(rest, "attn_output_norm")) return r->attn_output;
    return r->base;
}

enum ern_dtype quantize_fallback(enum ern_dtype t, size_t n) {
    static const struct { enum ern_dtype from, to; } steps[] = {
        { DTYPE_Q2_K, DTYPE_IQ4_NL }, { DTYPE_Q3_K, DTYPE_IQ4_NL }, { DTYPE_IQ4_XS, DTYPE_IQ4_NL },
        { DTYPE_Q4_K, DTYPE_Q5_0 }, { DTYPE_Q5_K, DTYPE_Q5_1 }, { DTYPE_Q6_K, DTYPE_Q8_0 },
    };
    if (n % dtype_info(t)->block_n == 0) return t;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (steps[i].from == t && n % 32 == 0) return steps[i].to;
    return DTYPE_F16;
}
