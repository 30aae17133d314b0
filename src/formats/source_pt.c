/* Names of -PT folders (and of BERT ones): nearly canonical already. What transformers holds in memory with all experts
 * of a layer in one tensor is cut into one view an expert. */
#include <stdio.h>
#include <string.h>

#include "formats/source_int.h"

#define NAME_BYTES 512

static bool ends_with(const char *name, const char *tail, size_t *stem) {
    const size_t n = strlen(name), m = strlen(tail);
    if (n < m || strcmp(name + n - m, tail) != 0) return false;
    *stem = n - m;
    return true;
}

/* [E, parts * F, D] -> E * parts views [F, D]; names are the stem, the expert's number and what[part]. */
static bool add_experts(ern_source *s, const ern_view *v, size_t stem, const char *const *what, size_t parts, ern_err *e) {
    if (v->n_dims != 3 || v->dims[1] % parts || v->size_bytes == 0 || v->dims[0] > SOURCE_MAX_EXPERTS)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: experts, %zu x rows, columns in three dimensions wanted", s->path,
                        v->name, parts);
    const size_t n = v->dims[0] * parts, rows = v->dims[1] / parts, bytes = v->size_bytes / n;
    for (size_t i = 0; i < n; i++) {
        char name[NAME_BYTES];
        ern_view one = { .name = name, .dtype = v->dtype, .n_dims = 2, .dims = { rows, v->dims[2] }, .size_bytes = bytes,
                         .data = (const char *)v->data + i * bytes };
        const int used = snprintf(name, sizeof name, "%.*s%zu.%s.weight", (int)stem, v->name, i / parts, what[i % parts]);
        if (used < 0 || (size_t)used >= sizeof name)
            return ern_fail(e, ERN_LIMIT, "%s: tensor %s: its name is longer than %d bytes", s->path, v->name, NAME_BYTES);
        if (!source_add(s, &one, e)) return false;
    }
    return true;
}

static bool add_one(ern_source *s, const ern_view *v, bool is_bert, ern_err *e) {
    static const char *const gate_up[] = { "gate_proj", "up_proj" }, *const down[] = { "down_proj" };
    static const struct { const char *from, *to; } tails[] = {
        { "LayerNorm.gamma", "LayerNorm.weight" },      /* BERT files of before 2019 */
        { "LayerNorm.beta", "LayerNorm.bias" },
        { "mlp.gate.moe_statics.e_score_correction_bias", "mlp.moe_statics.e_score_correction_bias" },
    };
    char name[NAME_BYTES];
    ern_view renamed = *v;
    size_t stem;
    if (ends_with(v->name, "mlp.experts.gate_up_proj", &stem))
        return add_experts(s, v, stem + strlen("mlp.experts."), gate_up, 2, e);
    if (ends_with(v->name, "mlp.experts.down_proj", &stem)) return add_experts(s, v, stem + strlen("mlp.experts."), down, 1,
                                                                               e);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends_with(v->name, tails[i].from, &stem) && stem + strlen(tails[i].to) < sizeof name) {
            snprintf(name, sizeof name, "%.*s%s", (int)stem, v->name, tails[i].to);
            renamed.name = name;
        }
    if (is_bert && strncmp(renamed.name, "bert.", 5) == 0) renamed.name += 5;
    return source_add(s, &renamed, e);
}

bool source_from_pt(ern_source *s, ern_err *e) {
    const size_t n = safetensors_n(s->safetensors);
    const bool is_bert = safetensors_find(s->safetensors, "bert.embeddings.word_embeddings.weight") != NULL;
    for (size_t i = 0; i < n; i++)
        if (!add_one(s, safetensors_at(s->safetensors, i), is_bert, e)) return false;
    return true;
}
