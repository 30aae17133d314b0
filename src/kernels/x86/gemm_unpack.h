/* Quantised weights as int8 with a scale and a minimum a run of 16: value = d[i/16] q[i] - m[i/16]. Plain loops that the
 * compiler turns into the vectors of the file that includes this. */
#ifndef KERNELS_GEMM_UNPACK_H
#define KERNELS_GEMM_UNPACK_H

#include <immintrin.h>

#include "tensor/dequant.h"

#define UNPACK_N 1024       /* columns a chunk: a multiple of every block size */

typedef struct {
    _Alignas(64) int8_t q[UNPACK_N];
    _Alignas(64) float d[UNPACK_N / 16], m[UNPACK_N / 16];
} unpacked_row;

static inline float f16_fast(const uint8_t *p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(read_u16(p)))); }

static inline void nibbles_32(int8_t *q, const uint8_t *b, int minus) {
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((b[i] & 15) - minus);
        q[i + 16] = (int8_t)((b[i] >> 4) - minus);
    }
}

static inline void nibbles_32_table(int8_t *q, const uint8_t *b, const int8_t *values) {
    const __m128i v = _mm_loadu_si128((const __m128i *)b), mask = _mm_set1_epi8(15);
    const __m128i table = _mm_loadu_si128((const __m128i *)values);
    _mm_storeu_si128((__m128i *)q, _mm_shuffle_epi8(table, _mm_and_si128(v, mask)));
    _mm_storeu_si128((__m128i *)(q + 16), _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(v, 4), mask)));
}

static inline void unpack_32(unpacked_row *u, const uint8_t *b, enum ern_dtype t, size_t n, bool *has_min) {
    for (size_t i = 0; i < n / 32; i++) {
        int8_t *q = u->q + 32 * i;
        float d = 0, m = 0;
        uint32_t high = 0;
        switch (t) {
        case DTYPE_Q8_0: d = f16_fast(b); memcpy(q, b + 2, 32); b += 34; break;
        case DTYPE_Q4_0: d = f16_fast(b); nibbles_32(q, b + 2, 8); b += 18; break;
        case DTYPE_Q4_1: d = f16_fast(b); m = -f16_fast(b + 2); nibbles_32(q, b + 4, 0); b += 20; break;
        case DTYPE_Q5_0: d = f16_fast(b); high = ~read_u32(b + 2); nibbles_32(q, b + 6, 0); b += 22; break;
        case DTYPE_Q5_1: d = f16_fast(b); m = -f16_fast(b + 2); high =
            read_u32(b + 4); nibbles_32(q, b + 8, 0); b += 24; break;
        case DTYPE_IQ4_NL: d = f16_fast(b); nibbles_32_table(q, b + 2, iq4_nl_values); b += 18; break;
        case DTYPE_MXFP4: d = e8m0_half(b[0]); nibbles_32_table(q, b + 1, mxfp4_values); b += 17; break;
        default: break;
        }
        if (t == DTYPE_Q5_0) for (int j = 0; j < 32; j++) q[j] = (int8_t)(q[j] - (int8_t)((high >> j & 1) << 4));
        if (t == DTYPE_Q5_1) for (int j = 0; j < 32; j++) q[j] = (int8_t)(q[j] + (int8_t)((high >> j & 1) << 4));
        u->d[2 * i] = u->d[2 * i + 1] = d;
        u->m[2 * i] = u->m[2 * i + 1] = m;
    }
    *has_min = t == DTYPE_Q4_1 || t == DTYPE_Q5_1;
}

/* 256 values of 2 bits: 32 bytes hold 4 planes of 32. */
static inline void planes_2(int8_t *q, const uint8_t *b) {
    for (int h = 0; h < 2; h++)
        for (int p = 0; p < 4; p++)
            for (int i = 0; i < 32; i++) q[128 * h + 32 * p + i] = (int8_t)(b[32 * h + i] >> (2 * p) & 3);
}

static inline void unpack_block_q2_k(int8_t *q, float *d, float *m, const uint8_t *b) {
    const float all = f16_fast(b + 80), min = f16_fast(b + 82);
    planes_2(q, b + 16);
    for (int i = 0; i < 16; i++) {
        d[i] = all * (float)(b[i] & 15);
        m[i] = min * (float)(b[i] >> 4);
    }
}

static inline void unpack_block_q3_k(int8_t *q, float *d, const uint8_t *b) {
    const float all = f16_fast(b + 108);
    planes_2(q, b + 32);
    for (int p = 0; p < 8; p++)
        for (int i = 0; i < 32; i++) q[32 * p + i] = (int8_t)(q[32 * p + i] - ((b[i] >> p & 1) ? 0 : 4));
    for (size_t i = 0; i < 16; i++) d[i] = all * (float)q3k_scale(b + 96, i);
}

/* Q4_K, and Q5_K with its high bits. */
static inline void unpack_block_q45_k(int8_t *q, float *d, float *m, const uint8_t *b, bool is_5) {
    const float all = f16_fast(b), min = f16_fast(b + 2);
    const uint8_t *low = b + (is_5 ? 48 : 16);
    for (size_t p = 0; p < 8; p++) {
        uint8_t s, n;
        k4_scale_min(b + 4, p, &s, &n);
        d[2 * p] = d[2 * p + 1] = all * (float)s;
        m[2 * p] = m[2 * p + 1] = min * (float)n;
    }
    for (int g = 0; g < 4; g++)
        for (int i = 0; i < 32; i++) {
            q[64 * g + i] = (int8_t)(low[32 * g + i] & 15);
            q[64 * g + 32 + i] = (int8_t)(low[32 * g + i] >> 4);
        }
    for (int p = 0; is_5 && p < 8; p++)
        for (int i = 0; i < 32; i++) q[32 * p + i] = (int8_t)(q[32 * p + i] | (b[16 + i] >> p & 1) << 4);
}

static inline void unpack_block_q6_k(int8_t *q, float *d, const uint8_t *b) {
    const float all = f16_fast(b + 208);
    planes_2(q, b + 128);
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 64; i++) {
            int8_t *low = q + 128 * h + i, *high = low + 64;
            *low = (int8_t)((*low << 4 | (b[64 * h + i] & 15)) - 32);
            *high = (int8_t)((*high << 4 | b[64 * h + i] >> 4) - 32);
        }
    for (int i = 0; i < 16; i++) d[i] = all * (float)(int8_t)b[192 + i];
}

static inline void unpack_block_iq4_xs(int8_t *q, float *d, const uint8_t *b) {
    const float all = f16_fast(b);
    for (int g = 0; g < 8; g++) {
        const int low = b[4 + g / 2] >> (g % 2 * 4) & 15, high = read_u16(b + 2) >> (2 * g) & 3;
        d[2 * g] = d[2 * g + 1] = all * (float)((low | high << 4) - 32);
        nibbles_32_table(q + 32 * g, b + 8 + 16 * g, iq4_nl_values);
    }
}

/* n values (whole blocks, at most UNPACK_N) of type t at w. */
static inline void unpack_row(unpacked_row *u, const uint8_t *w, enum ern_dtype t, size_t n, bool *has_min) {
    const ern_dtype_info *info = dtype_info(t);
    if (info->block_n == 32) { unpack_32(u, w, t, n, has_min); return; }
    for (size_t i = 0; i < n / 256; i++, w += info->block_bytes) {
        int8_t *q = u->q + 256 * i;
        float *d = u->d + 16 * i, *m = u->m + 16 * i;
        switch (t) {
        case DTYPE_Q2_K: unpack_block_q2_k(q, d, m, w); break;
        case DTYPE_Q3_K: unpack_block_q3_k(q, d, w); break;
        case DTYPE_Q4_K: unpack_block_q45_k(q, d, m, w, false); break;
        case DTYPE_Q5_K: unpack_block_q45_k(q, d, m, w, true); break;
        case DTYPE_Q6_K: unpack_block_q6_k(q, d, w); break;
        case DTYPE_IQ4_XS: unpack_block_iq4_xs(q, d, w); break;
        default: break;
        }
    }
    *has_min = t == DTYPE_Q2_K || t == DTYPE_Q4_K || t == DTYPE_Q5_K;
}

#endif
