#include "model/kv.h"

#include <string.h>
#include <sys/mman.h>

/* Kernels read keys in steps of 32 tokens, so a head's run is a multiple of that. */
enum { RUN_TOKENS = 32, MAX_TYPE_NAME = 8 };

static size_t run_bytes(enum ern_dtype t, size_t d, size_t n_tokens) {
    return (n_tokens + RUN_TOKENS - 1) / RUN_TOKENS * (RUN_TOKENS / ATTENTION_TILE) * attention_tile_bytes(t, d);
}

size_t kv_context_bytes(const ern_config *c, size_t n_tokens, enum ern_dtype k_type, enum ern_dtype v_type) {
    const size_t heads = c->n_layers * c->n_kv_heads;
    const size_t per_run = heads * (run_bytes(k_type, c->head_dim, 1) + run_bytes(v_type, c->head_dim, 1));
    if (n_tokens > PTRDIFF_MAX / per_run) return SIZE_MAX;
    return heads * (run_bytes(k_type, c->head_dim, n_tokens) + run_bytes(v_type, c->head_dim, n_tokens));
}

bool kv_init_types(ern_kv *out, const ern_config *c, size_t max_tokens, enum ern_dtype k_type, enum ern_dtype v_type, ern_err *e) {
    if (c->head_dim > ATTENTION_MAX_WIDTH || c->n_heads / c->n_kv_heads > ATTENTION_MAX_GROUP)
        return ern_fail(e, ERN_MISSING, "heads of %zu values, %zu to a key head: at most %d and %d are supported", c->head_dim,
                        c->n_heads / c->n_kv_heads, ATTENTION_MAX_WIDTH, ATTENTION_MAX_GROUP);
    const size_t size = kv_context_bytes(c, max_tokens, k_type, v_type);
    if (max_tokens == 0 || size == SIZE_MAX) return ern_fail(e, ERN_LIMIT, "context of %zu tokens is out of range", max_tokens);
    /* Pages are committed when they are written, so a long context costs nothing until it is used. */
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return ern_fail(e, ERN_NOMEM, "no memory for %zu bytes of keys and values of %zu tokens", size, max_tokens);
    madvise(p, size, MADV_HUGEPAGE);        /* long streams: fewer page-table walks; refused is as good as absent */
    ern_kv kv = { .k_type = k_type, .v_type = v_type, .max_tokens = max_tokens, .n_layers = c->n_layers, .n_heads = c->n_kv_heads,
                  .d = c->head_dim, .size_bytes = size, .k = p };
    kv.k_head_bytes = run_bytes(k_type, c->head_dim, max_tokens);
    kv.v_head_bytes = run_bytes(v_type, c->head_dim, max_tokens);
    kv.v = (char *)p + c->n_layers * c->n_kv_heads * kv.k_head_bytes;
    *out = kv;
    return true;
}

bool kv_init(ern_kv *out, const ern_config *c, size_t max_tokens, enum ern_dtype dtype, ern_err *e) {
    return kv_init_types(out, c, max_tokens, dtype, dtype, e);
}

void kv_deinit(ern_kv *kv) {
    if (kv->k) munmap(kv->k, kv->size_bytes);
    *kv = (ern_kv){ 0 };
}

void *kv_keys(const ern_kv *kv, size_t layer, size_t head) {
    return (char *)kv->k + (layer * kv->n_heads + head) * kv->k_head_bytes;
}

void *kv_values(const ern_kv *kv, size_t layer, size_t head) {
    return (char *)kv->v + (layer * kv->n_heads + head) * kv->v_head_bytes;
}

size_t kv_used_bytes(const ern_kv *kv, enum ern_dtype t, size_t n_tokens) {
    return (n_tokens + ATTENTION_TILE - 1) / ATTENTION_TILE * attention_tile_bytes(t, kv->d);
}

void kv_copy(ern_kv *dst, const ern_kv *src, size_t n_tokens) {
    for (size_t l = 0; l < src->n_layers; l++)
        for (size_t h = 0; h < src->n_heads; h++) {
            memcpy(kv_keys(dst, l, h), kv_keys(src, l, h), kv_used_bytes(src, src->k_type, n_tokens));
            memcpy(kv_values(dst, l, h), kv_values(src, l, h), kv_used_bytes(src, src->v_type, n_tokens));
        }
}

bool kv_types_from_name(enum ern_dtype *k_type, enum ern_dtype *v_type, const char *name, ern_err *e) {
    const char *colon = strchr(name, ':');
    const size_t n = colon ? (size_t)(colon - name) : strlen(name);
    char first[MAX_TYPE_NAME];
    enum ern_dtype k, v;
    if (n >= sizeof first) return ern_fail(e, ERN_ARG, "kv type \"%.40s\": f16, bf16, f32, q8 or q4 wanted, or two as \"q8:f16\"", name);
    memcpy(first, name, n);
    first[n] = '\0';
    if (!attention_type_from_name(&k, first, e) || !attention_type_from_name(&v, colon ? colon + 1 : first, e)) return false;
    *k_type = k;
    *v_type = v;
    return true;
}
