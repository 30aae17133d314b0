/* Keys and values of one sequence, in the tiles of kernels/attention.h: a run of tiles for each layer and KV head. Memory is
 * committed as it is written. */
#ifndef MODEL_KV_H
#define MODEL_KV_H

#include "kernels/attention.h"
#include "model/config.h"

typedef struct {
    enum ern_dtype k_type, v_type;          /* DTYPE_F16, DTYPE_BF16, DTYPE_F32, DTYPE_Q8_0 or DTYPE_Q4_0 */
    size_t max_tokens, n_layers, n_heads, d;
    size_t k_head_bytes, v_head_bytes;      /* one head of one layer */
    size_t size_bytes;
    void *k, *v;                            /* [n_layers, n_heads, k_head_bytes], in one block that begins at k */
} ern_kv;

bool kv_init(ern_kv *kv, const ern_config *c, size_t max_tokens, enum ern_dtype dtype, ern_err *e);
bool kv_init_types(ern_kv *kv, const ern_config *c, size_t max_tokens, enum ern_dtype k_type, enum ern_dtype v_type, ern_err *e);
void kv_deinit(ern_kv *kv);

void *kv_keys(const ern_kv *kv, size_t layer, size_t head);         /* tiles of one head */
void *kv_values(const ern_kv *kv, size_t layer, size_t head);
size_t kv_used_bytes(const ern_kv *kv, enum ern_dtype t, size_t n_tokens);     /* of one head's keys or values */
void kv_copy(ern_kv *dst, const ern_kv *src, size_t n_tokens);      /* same types and shape; dst holds n_tokens */

/* "f16", "q8", ... or keys and values apart: "q8:f16". */
bool kv_types_from_name(enum ern_dtype *k_type, enum ern_dtype *v_type, const char *name, ern_err *e);
/* Of a whole context of n_tokens, tiles rounded up; SIZE_MAX when it does not fit in a size. */
size_t kv_context_bytes(const ern_config *c, size_t n_tokens, enum ern_dtype k_type, enum ern_dtype v_type);

#endif
