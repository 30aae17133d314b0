/* Grouped-query attention over keys and values that lie in tiles, with a running softmax.
 *
 *     attention_store(k, DTYPE_F16, true, tiles, pos, key, d);          one head of one token, keys or values
 *     attention_call c = { .k_type = DTYPE_F16, .v_type = DTYPE_F16, .d = 128, .n_heads = 16, .n_kv_heads = 2, ... };
 *     attention_run(k, pool, &c, jobs, n_jobs, scratch);
 *
 * What a row gets depends on its own query and keys alone, bit for bit: keys are taken in chunks of ATTENTION_CHUNK at
 * absolute positions, every chunk's softmax stands alone, and chunks are merged in order. Who computes a chunk, beside
 * which other rows and on how many threads, changes nothing; so decoding, prompts in one piece and prompts in pieces agree.
 *
 * A tile holds ATTENTION_TILE tokens of one head; D is d rounded up to a multiple of 32, the rest zeros.
 *   F32        keys [D][16]                      values [16][D]
 *   F16, BF16  keys [D/2][16][2]                 values [8][D][2]: pairs of dimensions, pairs of tokens
 *   Q8_0       keys [D/4][16][4] u8, 128 added   values [8][D][2] i8; then f16 scales [D/32][16]
 *   Q4_0       keys [D/8][16][4] u8: dimensions 8i+j in low nibbles, 8i+4+j in high ones, 8 added;
 *              values [2][D][2] u16: pair 4h+n of tokens in nibble n, 8 added; scales as above
 * Q4_0 stores each head after a Walsh-Hadamard rotation, which spreads outliers; queries and outputs are rotated to match.
 */
#ifndef KERNELS_ATTENTION_H
#define KERNELS_ATTENTION_H

#include "kernels/kernels.h"

enum { ATTENTION_TILE = 16, ATTENTION_CHUNK = 512, ATTENTION_MAX_WIDTH = 512, ATTENTION_MAX_GROUP = 128 };

bool attention_type_from_name(enum ern_dtype *out, const char *name, ern_err *e);   /* f32, f16, bf16, q8, q4 */
size_t attention_tile_bytes(enum ern_dtype t, size_t d);                            /* a multiple of 64 */

/* x[d] becomes token pos of the tiles at base; rotates it first where the type asks for it. */
void attention_store(const ern_kernels *k, enum ern_dtype t, bool is_key, void *base, size_t pos, const float *x, size_t d);
/* The reverse, for tests and tools: y[d], still rotated. */
void attention_load(enum ern_dtype t, bool is_key, const void *base, size_t pos, float *y, size_t d);
void attention_rotate(float *x, size_t d);      /* its own inverse */

/* n_tokens rows of one sequence: row t sees first_keys + t keys (is_causal) or first_keys keys. */
typedef struct {
    const float *q;             /* [n_tokens, n_heads, d] */
    float *out;                 /* [n_tokens, n_heads, d] */
    size_t n_tokens, first_keys;
    bool is_causal;
    const void *k, *v;          /* tiles of KV head 0, 64-byte aligned; head h lies h * k_head_bytes (v_head_bytes) further */
    size_t k_head_bytes, v_head_bytes;
    enum ern_dtype k_type, v_type;
    /* Instead of k and v: pages[c] holds ATTENTION_CHUNK tokens from c * ATTENTION_CHUNK on, its keys at k_offset, its values at
     * v_offset (bytes), head by head as above. NULL: everything lies at k and v. */
    const void *const *pages;
    size_t k_offset, v_offset;
} attention_job;

typedef struct {
    size_t d, n_heads, n_kv_heads;
    float scale;
    bool is_exact;              /* f32 arithmetic whatever the types; otherwise the fastest unit */
    void *scratch;              /* attention_scratch_bytes, 64-byte aligned */
    size_t max_rows, max_keys;  /* what the scratch was sized for */
} attention_call;

/* Scratch of calls with up to max_rows tokens in all, max_keys keys each, n_threads threads. */
size_t attention_scratch_bytes(size_t d, size_t n_heads, size_t n_kv_heads, size_t max_rows, size_t max_keys, size_t n_threads);
void attention_run(const ern_kernels *k, ern_pool *pool, const attention_call *c, const attention_job *jobs, size_t n_jobs);

/* ---- what an instruction set provides --------------------------------------------------------- */

/* Rows of one KV head: row r is head r % group of token r / group. */
typedef struct {
    const void *k, *v;          /* tiles */
    const void *k_next;         /* the keys of the next chunk, to be fetched while this one's values are summed */
    enum ern_dtype k_type, v_type;
    size_t D, n_rows;
    const uint32_t *n_keys;     /* [n_rows] keys row r sees, not falling */
    void *q;                    /* packed by pack */
    float *s;                   /* [n_rows, ATTENTION_CHUNK] scores, then weights */
    float *m, *l, *o;           /* the last chunk's: largest score [n_rows], sum [n_rows], weighted values [n_rows, D] */
    void *k_part, *v_part;      /* [ATTENTION_PART, D] unpacked keys and values */
} attention_rows;

enum { ATTENTION_PART = 64 };   /* keys unpacked at a time: they stay in the first-level cache */

typedef struct attention_isa {
    /* q[n_rows, D] f32, scaled for base-2 exponentials, into t->q. */
    void (*pack)(const attention_rows *t, const float *q);
    /* m, l, o of the keys of one chunk; a row that sees none gets l = 0. */
    void (*chunk)(const attention_rows *t, size_t chunk);
    /* (m, l, o) of n_rows rows takes in a later chunk's. */
    void (*merge)(float *m, float *l, float *o, const float *m2, const float *l2, const float *o2, size_t n_rows, size_t D);
} attention_isa;

extern const attention_isa attention_scalar, attention_avx2, attention_avx512, attention_avx512_vnni, attention_avx512_bf16, attention_amx,
    attention_neon;

#endif
