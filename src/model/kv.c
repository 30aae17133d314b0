#include "model/kv.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"

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

/* ---- pages --------------------------------------------------------------------------------------- */

struct ern_kv_pool { size_t max_bytes; atomic_size_t used; };

struct kv_page {
    atomic_size_t n_owners;
    size_t size_bytes;
    ern_kv_pool *pool;
    void *data;
};

ern_kv_pool *kv_pool_open(size_t max_bytes, ern_err *e) {
    ern_kv_pool *p = mem_zalloc(1, sizeof *p, "KV pool", e);
    if (p) p->max_bytes = max_bytes;
    return p;
}

void kv_pool_close(ern_kv_pool *p) { free(p); }
size_t kv_pool_used_bytes(const ern_kv_pool *p) { return atomic_load(&((ern_kv_pool *)(uintptr_t)p)->used); }

static bool pool_take(ern_kv_pool *p, size_t n, ern_err *e) {
    if (!p) return true;
    size_t used = atomic_load(&p->used);
    do {
        if (p->max_bytes && n > p->max_bytes - (used < p->max_bytes ? used : p->max_bytes))
            return ern_fail(e, ERN_LIMIT, "keys and values: %zu bytes more do not fit in the %zu of %zu that are left", n,
                            used < p->max_bytes ? p->max_bytes - used : 0, p->max_bytes);
    } while (!atomic_compare_exchange_weak(&p->used, &used, used + n));
    return true;
}

static kv_page *page_new(ern_kv_pool *pool, size_t size_bytes, ern_err *e) {
    kv_page *page = mem_zalloc(1, sizeof *page, "KV page", e);
    if (!page) return NULL;
    if (!pool_take(pool, size_bytes, e)) { free(page); return NULL; }
    void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        ern_fail(e, ERN_NOMEM, "no memory for %zu bytes of keys and values", size_bytes);
        if (pool) atomic_fetch_sub(&pool->used, size_bytes);
        free(page);
        return NULL;
    }
    *page = (kv_page){ .n_owners = 1, .size_bytes = size_bytes, .pool = pool, .data = p };
    return page;
}

kv_page *kv_page_new(const ern_kv *like, ern_err *e) { return page_new(like->pool, like->page_bytes, e); }

kv_page *kv_page_take(kv_page *page) {
    atomic_fetch_add(&page->n_owners, 1);
    return page;
}

void kv_page_give(kv_page *page) {
    if (!page || atomic_fetch_sub(&page->n_owners, 1) != 1) return;
    munmap(page->data, page->size_bytes);
    if (page->pool) atomic_fetch_sub(&page->pool->used, page->size_bytes);
    free(page);
}

void *kv_page_data(const kv_page *page) { return page->data; }

/* ---- sequences ----------------------------------------------------------------------------------- */

static size_t pages_of(size_t n_tokens) { return n_tokens / KV_PAGE_TOKENS + (n_tokens % KV_PAGE_TOKENS != 0); }

bool kv_init_types(ern_kv *out, const ern_config *c, size_t max_tokens, enum ern_dtype k_type, enum ern_dtype v_type,
                   ern_err *e) {
    if (c->head_dim > ATTENTION_MAX_WIDTH || c->n_heads / c->n_kv_heads > ATTENTION_MAX_GROUP)
        return ern_fail(e, ERN_MISSING, "heads of %zu values, %zu to a key head: at most %d and %d are supported",
                        c->head_dim,
                        c->n_heads / c->n_kv_heads, ATTENTION_MAX_WIDTH, ATTENTION_MAX_GROUP);
    if (max_tokens == 0 || kv_context_bytes(c, max_tokens, k_type, v_type) == SIZE_MAX)
        return ern_fail(e, ERN_LIMIT, "context of %zu tokens is out of range", max_tokens);
    ern_kv kv = { .k_type = k_type, .v_type = v_type, .max_tokens = max_tokens, .n_layers = c->n_layers,
                  .n_heads = c->n_kv_heads,
                  .d = c->head_dim };
    kv.k_head_bytes = run_bytes(k_type, c->head_dim, KV_PAGE_TOKENS);
    kv.v_head_bytes = run_bytes(v_type, c->head_dim, KV_PAGE_TOKENS);
    kv.page_bytes = c->n_layers * c->n_kv_heads * (kv.k_head_bytes + kv.v_head_bytes);
    kv.pages = mem_zalloc(pages_of(max_tokens), sizeof *kv.pages, "KV pages", e);
    kv.data = kv.pages ? mem_zalloc(pages_of(max_tokens), sizeof *kv.data, "KV pages", e) : NULL;
    if (!kv.data) { free(kv.pages); return false; }
    *out = kv;
    return true;
}

bool kv_init(ern_kv *out, const ern_config *c, size_t max_tokens, enum ern_dtype dtype, ern_err *e) {
    return kv_init_types(out, c, max_tokens, dtype, dtype, e);
}

void kv_truncate(ern_kv *kv, size_t n_tokens) {
    while (kv->n_pages > pages_of(n_tokens)) kv_page_give(kv->pages[--kv->n_pages]);
}

void kv_deinit(ern_kv *kv) {
    kv_truncate(kv, 0);
    free(kv->pages);
    free(kv->data);
    *kv = (ern_kv){ 0 };
}

bool kv_set_page(ern_kv *kv, size_t i, kv_page *page, ern_err *e) {
    if (i > kv->n_pages || i >= pages_of(kv->max_tokens))
        return ern_fail(e, ERN_LIMIT, "KV page %zu after %zu", i, kv->n_pages);
    kv_page_take(page);
    if (i < kv->n_pages) kv_page_give(kv->pages[i]);
    else kv->n_pages++;
    kv->pages[i] = page;
    kv->data[i] = page->data;
    return true;
}

/* The tiles of the first n_tokens positions of a page. */
static void copy_page(const ern_kv *kv, void *to, const void *from, size_t n_tokens) {
    const size_t runs = kv->n_layers * kv->n_heads, values = runs * kv->k_head_bytes;
    for (size_t r = 0; r < runs; r++) {
        memcpy((char *)to + r * kv->k_head_bytes, (const char *)from + r * kv->k_head_bytes,
               kv_used_bytes(kv, kv->k_type, n_tokens));
        memcpy((char *)to + values + r * kv->v_head_bytes, (const char *)from + values + r * kv->v_head_bytes,
               kv_used_bytes(kv, kv->v_type, n_tokens));
    }
}

bool kv_reserve(ern_kv *kv, size_t from_pos, size_t n_tokens, ern_err *e) {
    if (n_tokens > kv->max_tokens)
        return ern_fail(e, ERN_LIMIT, "%zu tokens do not fit in the context of %zu", n_tokens, kv->max_tokens);
    for (size_t i = from_pos / KV_PAGE_TOKENS; i < pages_of(n_tokens); i++) {
        if (i < kv->n_pages && atomic_load(&kv->pages[i]->n_owners) == 1) continue;
        const size_t start = i * KV_PAGE_TOKENS;
        while (i > kv->n_pages)         /* positions before from_pos that were never written */
            if (!kv_reserve(kv, kv->n_pages * KV_PAGE_TOKENS, (kv->n_pages + 1) * KV_PAGE_TOKENS, e)) return false;
        kv_page *page = page_new(kv->pool, kv->page_bytes, e);
        if (!page) return false;
        if (i < kv->n_pages && from_pos > start) copy_page(kv, page->data, kv->pages[i]->data, from_pos - start);
        kv_set_page(kv, i, page, NULL);
        kv_page_give(page);
    }
    return true;
}

void *kv_keys(const ern_kv *kv, size_t layer, size_t head, size_t pos) {
    return (char *)kv->data[pos / KV_PAGE_TOKENS] + (layer * kv->n_heads + head) * kv->k_head_bytes;
}

void *kv_values(const ern_kv *kv, size_t layer, size_t head, size_t pos) {
    const size_t runs = kv->n_layers * kv->n_heads;
    char *page = kv->data[pos / KV_PAGE_TOKENS];
    return page + runs * kv->k_head_bytes + (layer * kv->n_heads + head) * kv->v_head_bytes;
}

size_t kv_used_bytes(const ern_kv *kv, enum ern_dtype t, size_t n_tokens) {
    return (n_tokens + ATTENTION_TILE - 1) / ATTENTION_TILE * attention_tile_bytes(t, kv->d);
}

bool kv_share(ern_kv *dst, const ern_kv *src, size_t n_tokens, ern_err *e) {
    const size_t n = pages_of(n_tokens);
    if (n_tokens > dst->max_tokens || n > src->n_pages)
        return ern_fail(e, ERN_LIMIT, "%zu tokens of %zu do not fit in the context of %zu", n_tokens,
                        src->n_pages * KV_PAGE_TOKENS, dst->max_tokens);
    for (size_t i = 0; i < n; i++)
        if (!kv_set_page(dst, i, src->pages[i], e)) return false;
    kv_truncate(dst, n_tokens);
    return true;
}

bool kv_types_from_name(enum ern_dtype *k_type, enum ern_dtype *v_type, const char *name, ern_err *e) {
    const char *colon = strchr(name, ':');
    const size_t n = colon ? (size_t)(colon - name) : strlen(name);
    char first[MAX_TYPE_NAME];
    enum ern_dtype k, v;
    if (n >= sizeof first)
        return ern_fail(e, ERN_ARG, "kv type \"%.40s\": f16, bf16, f32, q8 or q4 wanted, or two as \"q8:f16\"", name);
    memcpy(first, name, n);
    first[n] = '\0';
    if (!attention_type_from_name(&k, first, e) || !attention_type_from_name(&v, colon ? colon + 1 : first, e)) return false;
    *k_type = k;
    *v_type = v;
    return true;
}
