/* Keys and values of one sequence, in the tiles of kernels/attention.h. They lie in pages of KV_PAGE_TOKENS positions, one
 * for all layers and heads, which sequences with the same beginning share: a page is counted, and whoever writes into a
 * shared one gets a copy of his own first. Memory is committed as it is written.
 *
 * One thread owns an ern_kv; pages and the pool may be shared by many. */
#ifndef MODEL_KV_H
#define MODEL_KV_H

#include "kernels/attention.h"
#include "model/config.h"

enum { KV_PAGE_TOKENS = ATTENTION_CHUNK };      /* a page is what attention takes at a time */

typedef struct kv_page kv_page;
typedef struct ern_kv_pool ern_kv_pool;

/* A ceiling over the pages of all sequences that use the pool; 0: none. */
ern_kv_pool *kv_pool_open(size_t max_bytes, ern_err *e);
void kv_pool_close(ern_kv_pool *p);             /* after every page has been returned */
size_t kv_pool_used_bytes(const ern_kv_pool *p);

typedef struct {
    enum ern_dtype k_type, v_type;          /* DTYPE_F16, DTYPE_BF16, DTYPE_F32, DTYPE_Q8_0 or DTYPE_Q4_0 */
    size_t max_tokens, n_layers, n_heads, d;
    size_t k_head_bytes, v_head_bytes;      /* one head of one layer of a page */
    size_t page_bytes;
    ern_kv_pool *pool;                      /* borrowed; NULL: no ceiling */
    size_t n_pages;
    kv_page **pages;                        /* [n_pages of max_tokens / KV_PAGE_TOKENS, rounded up] */
    void **data;                            /* [n_pages] the bytes of each page */
} ern_kv;

bool kv_init(ern_kv *kv, const ern_config *c, size_t max_tokens, enum ern_dtype dtype, ern_err *e);
bool kv_init_types(ern_kv *kv, const ern_config *c, size_t max_tokens, enum ern_dtype k_type, enum ern_dtype v_type,
                   ern_err *e);
void kv_deinit(ern_kv *kv);

/* Positions 0..n_tokens have pages, and those from from_pos on belong to this sequence alone. */
bool kv_reserve(ern_kv *kv, size_t from_pos, size_t n_tokens, ern_err *e);
void kv_truncate(ern_kv *kv, size_t n_tokens);                      /* gives back the pages past n_tokens */

/* Tiles of one head in the page that holds position pos. */
void *kv_keys(const ern_kv *kv, size_t layer, size_t head, size_t pos);
void *kv_values(const ern_kv *kv, size_t layer, size_t head, size_t pos);
size_t kv_used_bytes(const ern_kv *kv, enum ern_dtype t, size_t n_tokens);     /* of one head's keys or values */
/* dst becomes the first n_tokens of src, sharing its pages; same types and shape, n_tokens <= dst->max_tokens. */
bool kv_share(ern_kv *dst, const ern_kv *src, size_t n_tokens, ern_err *e);

/* One page by itself, for caches: take counts up, give counts down. */
kv_page *kv_page_take(kv_page *page);
void kv_page_give(kv_page *page);
bool kv_set_page(ern_kv *kv, size_t i, kv_page *page, ern_err *e);  /* page i becomes page, counted up; i <= n_pages */
void *kv_page_data(const kv_page *page);
kv_page *kv_page_new(const ern_kv *like, ern_err *e);               /* counted once, for the caller */

/* "f16", "q8", ... or keys and values apart: "q8:f16". */
bool kv_types_from_name(enum ern_dtype *k_type, enum ern_dtype *v_type, const char *name, ern_err *e);
/* Of a whole context of n_tokens, tiles rounded up; SIZE_MAX when it does not fit in a size. */
size_t kv_context_bytes(const ern_config *c, size_t n_tokens, enum ern_dtype k_type, enum ern_dtype v_type);

#endif
