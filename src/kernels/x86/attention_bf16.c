/* Attention on pairs of bf16 (vdpbf16ps), for CPUs where that is faster than f32; f16 becomes bf16, sums stay f32. Keys of
 * smaller types are multiplied as integers. */
#include <string.h>

#include "kernels/attention.h"
#include "kernels/x86/vec_avx512.h"

#define ATT_ROWS 8
#define ATT_VECS 2

enum { EL_N = 2 };
typedef uint32_t el;
typedef __m512i ev;
static inline ev ev_load(const el *p) { return _mm512_loadu_si512(p); }
static inline ev ev_set1(el x) { return _mm512_set1_epi32((int)x); }
static inline vf ev_dot(vf acc, ev a, ev b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }

static inline uint32_t round_bf16(float x) {
    const union { float f; uint32_t u; } v = { .f = x };
    return x == x ? (v.u + 0x7fff + (v.u >> 16 & 1)) >> 16 : 0x7fc0;
}
static inline el el_pack(const float *x) { return round_bf16(x[0]) | round_bf16(x[1]) << 16; }
static inline void save_weights(float *row, size_t key, vf w) {
    _mm256_storeu_si256((__m256i *)(void *)((uint16_t *)(void *)row + key), (__m256i)_mm512_cvtneps_pbh(w));
}

static void unpack_f16(el *y, const uint16_t *h, size_t n_els) {
    for (size_t i = 0; i < n_els; i += 16) {
        const __m512i x = _mm512_loadu_si512(h + 2 * i);
        const vf low = _mm512_cvtph_ps(_mm512_castsi512_si256(x)), high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1));
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

/* The scales of a tile: [D/32][16 tokens]. */
static void unpack_scales(float *y, const uint8_t *p, size_t D) {
    for (size_t i = 0; i < D / 32 * 16; i += 16) vf_store(y + i, vf_from_f16((const uint16_t *)(const void *)p + i));
}

/* Pairs of tokens lie side by side: 16 bytes become 8 dimensions of both, scaled in turn. */
static void unpack_q8_values(el *y, const uint8_t *tile, size_t D) {
    float scales[ATTENTION_MAX_WIDTH / 2];
    unpack_scales(scales, tile + ATTENTION_TILE * D, D);
    for (size_t pair = 0; pair < ATTENTION_TILE / 2; pair++)
        for (size_t b = 0; b < D / 32; b++) {
            double both;
            memcpy(&both, scales + b * ATTENTION_TILE + 2 * pair, sizeof both);
            const vf step = _mm512_castpd_ps(_mm512_set1_pd(both));
            for (size_t i = 0; i < 2; i++, tile += 32, y += 16) {
                const __m128i *p = (const __m128i *)(const void *)tile;
                const vf low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
                const vf high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p + 1)));
                _mm512_storeu_si512(y, (__m512i)_mm512_cvtne2ps_pbh(vf_mul(high, step), vf_mul(low, step)));
            }
        }
}

/* A table of the 16 values of each token of the pair: words look themselves up, the second token's in the upper half. */
static void unpack_q4_values(el *y, const uint8_t *tile, size_t D) {
    float scales[ATTENTION_MAX_WIDTH / 2];
    unpack_scales(scales, tile + ATTENTION_TILE * D / 2, D);
    const vf steps = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i mask = _mm512_set1_epi16(15), second = _mm512_set1_epi32(0x100000);
    for (size_t pair = 0; pair < ATTENTION_TILE / 2; pair++)
        for (size_t b = 0; b < D / 32; b++) {
            const vf s0 = vf_set1(scales[b * ATTENTION_TILE + 2 * pair]);
            const vf s1 = vf_set1(scales[b * ATTENTION_TILE + 2 * pair + 1]);
            const __m512i table = (__m512i)_mm512_cvtne2ps_pbh(vf_mul(steps, s1), vf_mul(steps, s0));
            for (size_t i = 0; i < 2; i++, y += 16) {
                const __m512i x = _mm512_loadu_si512(tile + (pair / 4 * D + b * 32 + i * 16) * 4);
                const __m512i n = _mm512_srl_epi16(x, _mm_cvtsi32_si128((int)(pair % 4 * 4)));
                const __m512i index = _mm512_or_si512(_mm512_and_si512(n, mask), second);
                _mm512_storeu_si512(y, _mm512_permutexvar_epi16(index, table));
            }
        }
}

/* n tokens from key on, 16 bits each; bf16 as they lie. */
static const el *halves_part(const char *tile, enum ern_dtype type, el *y, size_t n, size_t D) {
    if (type == DTYPE_BF16) return (const el *)(const void *)tile;
    unpack_f16(y, (const uint16_t *)(const void *)tile, (n + 31) / 32 * 16 * D);
    return y;
}

static const el *keys_part(const attention_rows *t, size_t key, size_t n) {
    const size_t tile = key / ATTENTION_TILE * attention_tile_bytes(t->k_type, t->D);
    return halves_part((const char *)t->k + tile, t->k_type, t->k_part, n, t->D);
}

static const el *values_part(const attention_rows *t, size_t key, size_t n) {
    const size_t D = t->D, bytes = attention_tile_bytes(t->v_type, D);
    const char *tile = (const char *)t->v + key / ATTENTION_TILE * bytes;
    el *y = t->v_part;
    if (t->v_type == DTYPE_F16 || t->v_type == DTYPE_BF16) return halves_part(tile, t->v_type, y, n, D);
    for (size_t i = 0; i < (n + 31) / 32 * 32; i += ATTENTION_TILE, tile += bytes, y += ATTENTION_TILE / 2 * D) {
        if (t->v_type == DTYPE_Q8_0) unpack_q8_values(y, (const uint8_t *)tile, D);
        else unpack_q4_values(y, (const uint8_t *)tile, D);
    }
    return t->v_part;
}

#include "kernels/attention.inc"
#include "kernels/x86/attention_int8.inc"

const attention_isa attention_avx512_bf16 = { pack_any, chunk_any, merge_rows };
