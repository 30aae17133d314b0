/* What is in a model file. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "engine/engine.h"
#include "engine/plan.h"

#define MAX_SPECIALS 4096

struct options { cli_model model; const char *path; bool is_json, shows_tensors, shows_keys, shows_template; };

static json_t *types_json(const ern_source *s) {
    size_t count[DTYPE_COUNT] = { 0 }, bytes[DTYPE_COUNT] = { 0 };
    json_t *o = json_object();
    for (size_t i = 0; i < source_n(s); i++) {
        count[source_at(s, i)->dtype]++;
        bytes[source_at(s, i)->dtype] += source_at(s, i)->size_bytes;
    }
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (count[t])
            json_object_set_new(o, dtype_info((enum ern_dtype)t)->name,
                                json_pack("{s:I, s:I}", "tensors", (json_int_t)count[t], "bytes", (json_int_t)bytes[t]));
    return o;
}

static json_t *config_json(const ern_config *c) {
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:f, s:f, s:I}", "architecture",
                          config_arch_name(c), "layers",
                          (json_int_t)c->n_layers, "hidden", (json_int_t)c->hidden, "heads", (json_int_t)c->n_heads,
                              "kv_heads", (json_int_t)c->n_kv_heads,
                          "head_dim", (json_int_t)c->head_dim, "ffn", (json_int_t)c->ffn, "vocabulary",
                              (json_int_t)c->n_vocab, "max_context",
                          (json_int_t)c->max_positions, "tied", c->is_tied, "norm_eps", (double)c->norm_eps, "rope_theta",
                              c->rope_theta, "parameters",
                          (json_int_t)config_n_params(c));
    if (o && c->n_experts) {
        json_object_set_new(o, "experts", json_integer((json_int_t)c->n_experts));
        json_object_set_new(o, "experts_used", json_integer((json_int_t)c->n_used));
        json_object_set_new(o, "shared_experts", json_integer((json_int_t)c->n_shared));
        json_object_set_new(o, "expert_ffn", json_integer((json_int_t)c->expert_ffn));
    }
    return o;
}

static json_t *memory_json(const ern_source *s, const ern_config *c, const cli_model *m) {
    const size_t n_ctx = m->ctx.v ? (size_t)m->ctx.v : c->max_positions < 4096 ? c->max_positions : 4096;
    enum ern_dtype k_type = DTYPE_F16, v_type = DTYPE_F16;
    if (m->kv) kv_types_from_name(&k_type, &v_type, m->kv, NULL);
    const size_t kv = kv_context_bytes(c, n_ctx, k_type, v_type), weights = source_size_bytes(s);
    return json_pack("{s:I, s:s, s:I, s:I, s:I}", "ctx", (json_int_t)n_ctx, "kv", m->kv ? m->kv : "f16", "kv_bytes",
                     (json_int_t)kv, "weights_bytes",
                     (json_int_t)weights, "total_bytes", (json_int_t)(kv + weights));
}

static json_t *specials_json(const ern_tokenizer *t) {
    json_t *o = json_object();
    size_t n = 0;
    for (size_t id = 0; id < tokenizer_n_tokens(t) && n < MAX_SPECIALS; id++) {
        const char *piece = tokenizer_piece(t, (int32_t)id);
        if (!piece || tokenizer_type(t, (int32_t)id) != TOKEN_CONTROL) continue;
        json_object_set_new(o, piece, json_integer((json_int_t)id));
        n++;
    }
    return o;
}

static json_t *tokenizer_json(const ern_tokenizer *t) {
    static const char *const kinds[] = { "SentencePiece BPE", "byte-level BPE", "WordPiece" };
    return json_pack("{s:s, s:I, s:i, s:i, s:i, s:o}", "kind", kinds[tokenizer_kind_of(t)], "tokens",
                     (json_int_t)tokenizer_n_tokens(t), "bos",
                     (int)tokenizer_bos(t), "eos", (int)tokenizer_eos(t), "unk", (int)tokenizer_unk(t), "special",
                         specials_json(t));
}

static json_t *tensors_json(const ern_source *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < source_n(s); i++) {
        const ern_view *v = source_at(s, i);
        json_t *shape = json_array();
        for (unsigned d = 0; d < v->n_dims; d++) json_array_append_new(shape, json_integer((json_int_t)v->dims[d]));
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:o, s:I}", "name", v->name, "type", dtype_info(v->dtype)->name,
                                        "shape", shape, "bytes", (json_int_t)v->size_bytes));
    }
    return list;
}

static json_t *keys_json(const ern_gguf *g) {
    char text[512];
    json_t *o = json_object();
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        gguf_value_text(g, i, text, sizeof text);
        json_object_set_new(o, gguf_key(g, i), cli_text_json(text, strlen(text)));
    }
    return o;
}

static json_t *report(const struct options *o, const ern_source *s, const ern_engine *eng, const ern_err *why) {
    ern_config read;
    const ern_config *c = eng ? &eng->model->c : config_read(&read, s, NULL) ? &read : NULL;
    json_t *r = json_pack("{s:s, s:s, s:I, s:I, s:o}", "path", o->path, "layout", source_layout(s), "bytes",
                          (json_int_t)source_size_bytes(s), "tensors",
                          (json_int_t)source_n(s), "types", types_json(s));
    ern_tokenizer *own = eng ? NULL : engine_tokenizer(s, NULL);
    const ern_tokenizer *t = eng ? eng->tokenizer : own;
    if (c) json_object_set_new(r, "config", config_json(c));
    if (c) json_object_set_new(r, "memory", memory_json(s, c, &o->model));
    json_object_set_new(r, "tokenizer", t ? tokenizer_json(t) : json_null());
    json_object_set_new(r, "template", eng &&
                        eng->chat_source ? cli_text_json(eng->chat_source, strlen(eng->chat_source)) : json_null());
    if (eng) json_object_set_new(r, "end_ids", cli_ids_json(eng->end_ids, eng->n_end_ids));
    json_object_set_new(r, "runs", json_boolean(eng != NULL));
    if (!eng) json_object_set_new(r, "why_not", cli_text_json(why->text, strlen(why->text)));
    if (source_gguf(s) && (o->is_json || o->shows_keys)) json_object_set_new(r, "metadata", keys_json(source_gguf(s)));
    if (o->shows_tensors) json_object_set_new(r, "tensor_list", tensors_json(s));
    tokenizer_close(own);
    return r;
}

/* The report as indented text; long texts and lists on request only. */
static void print_value(const struct options *o, const char *key, const json_t *v, int indent) {
    const char *name;
    const json_t *item;
    size_t i;
    if (json_is_object(v)) {
        printf("%*s%s:\n", indent, "", key);
        json_object_foreach((json_t *)(uintptr_t)v, name, item) print_value(o, name, item, indent + 2);
    } else if (strcmp(key, "tensor_list") == 0) {
        json_array_foreach(v, i, item) {
            char *shape = json_dumps(json_object_get(item, "shape"), JSON_COMPACT);
            printf("%-64s %-8s %s\n", json_string_value(json_object_get(item, "name")),
                   json_string_value(json_object_get(item, "type")), shape ? shape : "");
            free(shape);
        }
    } else if (strcmp(key, "template") == 0 && json_is_string(v) && !o->shows_template) {
        printf("%*s%s: %zu %s\n", indent, "", key, json_string_length(v), _("bytes (--show-template prints it)"));
    } else if (json_is_string(v)) {
        printf("%*s%s: %s\n", indent, "", key, json_string_value(v));
    } else {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        printf("%*s%s: %s\n", indent, "", key, text ? text : "");
        free(text);
    }
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 }, why = { 0 };
    ern_source *own = NULL;
    bool ok = false;
    char *path = cli_model_path(o->path, &e);
    ern_engine *eng = path ? cli_engine_open(path, &o->model, &why) : NULL;
    const ern_source *s = eng ? eng->model->source : path ? (own = source_open(path, &e)) : NULL;
    if (s) {
        json_t *r = report(o, s, eng, &why);
        if (o->is_json) ok = cli_print_json(r, &e);
        else {
            const char *key;
            const json_t *v;
            json_object_foreach(r, key, v) print_value(o, key, v, 0);
            json_decref(r);
            ok = true;
        }
    }
    source_close(own);
    ern_engine_close(eng);
    free(path);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "tensors", .kind = ARG_FLAG, .help = N_("list every tensor with type and shape"),
      .offset = AT(shows_tensors) },
    { .name = "metadata", .kind = ARG_FLAG, .help = N_("list every key of a GGUF file (always with --json)"),
      .offset = AT(shows_keys) },
    { .name = "show-template", .kind = ARG_FLAG, .help = N_("print the whole chat template"), .offset = AT(shows_template) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = { { "MODEL", ARG_REQUIRED,
                                          N_("a folder, a GGUF or safetensors file, or the name of a fetched model"),
                                              AT(path) } };

const arg_command cmd_inspect = {
    .name = "inspect",
    .summary = N_("show what is in a model: shape, types, tokens, template, memory"),
    .output = N_("With --json {\"path\", \"layout\", \"bytes\", \"tensors\", \"types\", \"config\", \"memory\", "
                 "\"tokenizer\", \"template\", \"end_ids\", \"runs\"} and, where they apply, \"why_not\", \"metadata\", "
                 "\"tensor_list\" [{\"name\", \"type\", \"shape\", \"bytes\"}]."),
    .examples = "  ernie inspect MODEL --ctx 32K\n  ernie inspect MODEL --json --tensors",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_model_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
