/* Random blocks of any number format for the tests of matrix products. */
#ifndef KERNELS_RANDOM_BLOCKS_H
#define KERNELS_RANDOM_BLOCKS_H

#include <stdlib.h>
#include <string.h>

#include "tensor/dtype.h"

static uint64_t rng_state = 1;
static inline uint32_t rng(void) {
    rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(rng_state >> 33);
}
static inline float uniform(void) { return (float)(rng() & 0xffffff) / 8388608.0f - 1.0f; }

static inline void *mem(size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, 64, n + 64) != 0) abort();
    return p;
}

/* Where a block keeps its f16 scales (they must be finite and small); -1: none. */
static inline int scale_at(enum ern_dtype t, int i) {
    switch (t) {
    case DTYPE_Q4_0: case DTYPE_Q5_0: case DTYPE_Q8_0: case DTYPE_IQ4_NL: case DTYPE_IQ4_XS: case DTYPE_IQ2_XXS:
    case DTYPE_IQ3_S:
        return i == 0 ? 0 : -1;
    case DTYPE_Q4_1: case DTYPE_Q5_1: case DTYPE_Q4_K: case DTYPE_Q5_K: return i < 2 ? 2 * i : -1;
    case DTYPE_Q2_K: return i < 2 ? 80 + 2 * i : -1;
    case DTYPE_Q3_K: return i == 0 ? 108 : -1;
    case DTYPE_Q6_K: return i == 0 ? 208 : -1;
    default: return -1;
    }
}

/* Random bits with sane scales; plain numbers in [-1, 1). */
static inline void fill(uint8_t *w, enum ern_dtype t, size_t n) {
    const ern_dtype_info *info = dtype_info(t);
    for (size_t b = 0; b < n / info->block_n; b++, w += info->block_bytes) {
        const float v = uniform();
        const uint16_t h = t == DTYPE_BF16 ? f32_to_bf16(v) : f32_to_f16(v);
        if (t == DTYPE_F32) { memcpy(w, &v, 4); continue; }
        if (info->block_n == 1) { memcpy(w, &h, 2); continue; }
        for (size_t i = 0; i < info->block_bytes; i++) w[i] = (uint8_t)rng();
        if (t == DTYPE_MXFP4) w[0] = (uint8_t)(120 + rng() % 8);
        for (int i = 0; scale_at(t, i) >= 0; i++) {
            const uint16_t d = f32_to_f16(uniform() * 0.05f);
            memcpy(w + scale_at(t, i), &d, 2);
        }
    }
}

#endif
