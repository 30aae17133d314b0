/* How an encoder's token vectors become one: the files that sentence-transformers puts beside the model. Without them the
 * embedding is the mean over all tokens, scaled to length 1. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/config_int.h"

#define MAX_JSON_BYTES ((size_t)1 << 20)

/* *out stays NULL when the file does not exist. */
static bool load(json_t **out, const char *folder, const char *name, ern_err *e) {
    bool ok = false;
    ern_buf text = { .max = MAX_JSON_BYTES };
    json_error_t bad;
    char *path = file_join(folder, name, e);
    if (!path) return false;
    if (!file_exists(path)) { ok = true; goto out; }
    if (!file_read(&text, path, MAX_JSON_BYTES - 1, e)) goto out;
    if (!(*out = json_loadb(text.data, text.len, 0, &bad)))
        ern_fail_at(e, ERN_FORMAT, bad.line, bad.column, "%s: %s", path, bad.text);
    ok = *out != NULL;
out:
    buf_deinit(&text);
    free(path);
    return ok;
}

static bool ends_in(const char *s, const char *tail) {
    const size_t n = s ? strlen(s) : 0, m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Exactly one way of pooling, and one that is built. */
static bool read_modes(ern_config *c, const json_t *pooling, const char *folder, ern_err *e) {
    const char *mode = json_string_value(json_object_get(pooling, "pooling_mode")), *key;
    const json_t *v;
    bool has_mean = mode && strcmp(mode, "mean") == 0, has_cls = mode && strcmp(mode, "cls") == 0;
    if (mode && !has_mean && !has_cls)
        return ern_fail(e, ERN_MISSING, "%s: pooling \"%s\": mean or cls wanted", folder, mode);
    json_object_foreach((json_t *)(uintptr_t)pooling, key, v) {
        if (!json_is_true(v) || strncmp(key, "pooling_mode_", 13) != 0) continue;
        if (strcmp(key, "pooling_mode_mean_tokens") == 0) has_mean = true;
        else if (strcmp(key, "pooling_mode_cls_token") == 0) has_cls = true;
        else return ern_fail(e, ERN_MISSING, "%s: %s: mean or cls pooling wanted", folder, key);
    }
    if (has_mean && has_cls)
        return ern_fail(e, ERN_MISSING, "%s: mean and cls pooling together: one of them wanted", folder);
    c->pools_cls = has_cls;
    return true;
}

static bool read_modules(ern_config *c, const json_t *modules, const char *folder, ern_err *e) {
    size_t i;
    const json_t *module;
    c->is_normalized = false;
    json_array_foreach(modules, i, module) {
        const char *type = json_string_value(json_object_get(module, "type"));
        if (ends_in(type, ".Normalize")) c->is_normalized = true;
        else if (!ends_in(type, ".Transformer") && !ends_in(type, ".Pooling"))
            return ern_fail(e, ERN_MISSING, "%s: modules.json: %s is not built; Transformer, Pooling and Normalize are",
                            folder, type ? type : "(no type)");
    }
    return true;
}

bool config_read_pooling(ern_config *c, const char *folder, ern_err *e) {
    bool ok = false;
    json_t *modules = NULL, *pooling = NULL, *lengths = NULL;
    if (!load(&modules, folder, "modules.json", e) || !load(&pooling, folder, "1_Pooling/config.json", e) ||
        !load(&lengths, folder, "sentence_bert_config.json", e))
        goto out;
    if (json_is_array(modules) && !read_modules(c, modules, folder, e)) goto out;
    if (json_is_object(pooling) && !read_modes(c, pooling, folder, e)) goto out;
    const json_t *most = json_object_get(lengths, "max_seq_length");
    if (json_is_integer(most)) {
        if (json_integer_value(most) < 3) {
            ern_fail(e, ERN_FORMAT, "%s: max_seq_length is %lld, at least 3 wanted", folder,
                     (long long)json_integer_value(most));
            goto out;
        }
        if ((uint64_t)json_integer_value(most) < c->max_positions) c->max_input = (size_t)json_integer_value(most);
    }
    ok = true;
out:
    json_decref(modules);
    json_decref(pooling);
    json_decref(lengths);
    return ok;
}
