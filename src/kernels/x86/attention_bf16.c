/* Attention on pairs of bf16 (vdpbf16ps), for CPUs where that is faster than f32. Keys and values of every smaller type are
 * unpacked to bf16; sums stay f32. */
#include "kernels/attention.h"
#include "kernels/x86/vec_avx512.h"

#define NAME(op) op##_avx512_bf16
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

/* 16 pairs (even, odd) of floats. */
static inline __m512i join_pairs(vf even, vf odd) {
    const __m512i order = _mm512_set_epi32(0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008,
                                           0x170007, 0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}

static void unpack_f16(el *y, const uint16_t *h, size_t n_els) {
    for (size_t i = 0; i < n_els; i += 16) {
        const __m512i x = _mm512_loadu_si512(h + 2 * i);
        const vf low = _mm512_cvtph_ps(_mm512_castsi512_si256(x)), high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1));
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

/* (x >> shift & mask) * step - offset, step and offset of 16 keys */
static inline vf part_of(__m512i x, unsigned shift, int mask, vf step, vf offset) {
    const __m512i q = _mm512_and_si512(_mm512_srli_epi32(x, shift), _mm512_set1_epi32(mask));
    return _mm512_fmsub_ps(_mm512_cvtepi32_ps(q), step, offset);
}

static void unpack_q8_keys(el *y, const uint8_t *tile, size_t D) {
    const uint8_t *scales = tile + ATTENTION_TILE * D;
    for (size_t b = 0; b < D / 32; b++) {
        const vf step = vf_from_f16((const uint16_t *)(const void *)(scales + 32 * b)), offset = vf_mul(step, vf_set1(128.0f));
        for (size_t i = 0; i < 8; i++, tile += 64, y += 32) {
            const __m512i x = _mm512_loadu_si512(tile);
            _mm512_storeu_si512(y, join_pairs(part_of(x, 0, 255, step, offset), part_of(x, 8, 255, step, offset)));
            _mm512_storeu_si512(y + 16, join_pairs(part_of(x, 16, 255, step, offset), part_of(x, 24, 255, step, offset)));
        }
    }
}

static void unpack_q4_keys(el *y, const uint8_t *tile, size_t D) {
    const uint8_t *scales = tile + ATTENTION_TILE * D / 2;
    for (size_t b = 0; b < D / 32; b++) {
        const vf step = vf_from_f16((const uint16_t *)(const void *)(scales + 32 * b)), offset = vf_mul(step, vf_set1(8.0f));
        for (size_t i = 0; i < 4; i++, tile += 64, y += 64) {
            const __m512i x = _mm512_loadu_si512(tile);
            _mm512_storeu_si512(y, join_pairs(part_of(x, 0, 15, step, offset), part_of(x, 8, 15, step, offset)));
            _mm512_storeu_si512(y + 16, join_pairs(part_of(x, 16, 15, step, offset), part_of(x, 24, 15, step, offset)));
            _mm512_storeu_si512(y + 32, join_pairs(part_of(x, 4, 15, step, offset), part_of(x, 12, 15, step, offset)));
            _mm512_storeu_si512(y + 48, join_pairs(part_of(x, 20, 15, step, offset), part_of(x, 28, 15, step, offset)));
        }
    }
}

static void unpack_q8_values(el *y, const uint8_t *tile, size_t D) {
    const uint16_t *scales = (const uint16_t *)(const void *)(tile + ATTENTION_TILE * D);
    for (size_t pair = 0; pair < ATTENTION_TILE / 2; pair++)
        for (size_t b = 0; b < D / 32; b++) {
            const vf first = vf_set1(f16_to_f32(scales[b * ATTENTION_TILE + 2 * pair]));
            const vf second = vf_set1(f16_to_f32(scales[b * ATTENTION_TILE + 2 * pair + 1]));
            for (size_t i = 0; i < 2; i++, tile += 32, y += 16) {
                const __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)tile));
                const vf even = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(x, 16), 16));
                const vf odd = _mm512_cvtepi32_ps(_mm512_srai_epi32(x, 16));
                _mm512_storeu_si512(y, join_pairs(vf_mul(even, first), vf_mul(odd, second)));
            }
        }
}

/* A table of the 16 values of each token of the pair: words look themselves up, the second token's in the upper half. */
static void unpack_q4_values(el *y, const uint8_t *tile, size_t D) {
    const uint16_t *scales = (const uint16_t *)(const void *)(tile + ATTENTION_TILE * D / 2);
    const vf steps = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i mask = _mm512_set1_epi16(15), second = _mm512_set1_epi32(0x100000);
    for (size_t pair = 0; pair < ATTENTION_TILE / 2; pair++)
        for (size_t b = 0; b < D / 32; b++) {
            const vf s0 = vf_set1(f16_to_f32(scales[b * ATTENTION_TILE + 2 * pair]));
            const vf s1 = vf_set1(f16_to_f32(scales[b * ATTENTION_TILE + 2 * pair + 1]));
            const __m512i table = (__m512i)_mm512_cvtne2ps_pbh(vf_mul(steps, s1), vf_mul(steps, s0));
            for (size_t i = 0; i < 2; i++, y += 16) {
                const __m512i x = _mm512_loadu_si512(tile + (pair / 4 * D + b * 32 + i * 16) * 4);
                const __m512i n = _mm512_srl_epi16(x, _mm_cvtsi32_si128((int)(pair % 4 * 4)));
                const __m512i index = _mm512_or_si512(_mm512_and_si512(n, mask), second);
                _mm512_storeu_si512(y, _mm512_permutexvar_epi16(index, table));
            }
        }
}

static const el *keys_part(const attention_rows *t, size_t key, size_t n) {
    const size_t D = t->D, bytes = attention_tile_bytes(t->k_type, D), n_tiles = (n + 31) / 32 * 2;
    const char *tile = (const char *)t->k + key / ATTENTION_TILE * bytes;
    el *y = t->k_part;
    if (t->k_type == DTYPE_BF16) return (const el *)(const void *)tile;
    for (size_t i = 0; i < n_tiles; i++, tile += bytes, y += ATTENTION_TILE / 2 * D) {
        if (t->k_type == DTYPE_F16) unpack_f16(y, (const uint16_t *)(const void *)tile, ATTENTION_TILE / 2 * D);
        else if (t->k_type == DTYPE_Q8_0) unpack_q8_keys(y, (const uint8_t *)tile, D);
        else unpack_q4_keys(y, (const uint8_t *)tile, D);
    }
    return t->k_part;
}

static const el *values_part(const attention_rows *t, size_t key, size_t n) {
    const size_t D = t->D, bytes = attention_tile_bytes(t->v_type, D), n_tiles = (n + 31) / 32 * 2;
    const char *tile = (const char *)t->v + key / ATTENTION_TILE * bytes;
    el *y = t->v_part;
    if (t->v_type == DTYPE_BF16) return (const el *)(const void *)tile;
    for (size_t i = 0; i < n_tiles; i++, tile += bytes, y += ATTENTION_TILE / 2 * D) {
        if (t->v_type == DTYPE_F16) unpack_f16(y, (const uint16_t *)(const void *)tile, ATTENTION_TILE / 2 * D);
        else if (t->v_type == DTYPE_Q8_0) unpack_q8_values(y, (const uint8_t *)tile, D);
        else unpack_q4_values(y, (const uint8_t *)tile, D);
    }
    return t->v_part;
}

#include "kernels/attention.inc"
