/* The functions behind ern_dtype_info.to_f32, one a format; named after the format so that the table can be generated.
 * Each reads n / block_n whole blocks at x, which needs no alignment. */
#ifndef TENSOR_DEQUANT_H
#define TENSOR_DEQUANT_H

#include <string.h>

#include "tensor/dtype.h"

#define X(name, n, bytes, gguf) void unpack_##name(float *y, const void *x, size_t count);
ERN_DTYPE_MAP(X)
#undef X

/* Grids of the IQ formats. 2-bit tables: entry e, value i is level (t[e] >> 2 i) & 3; 4-bit: (t[e] >> 4 i) & 15. */
extern const uint16_t iq2_xxs_grid[256], iq2_xs_grid[512], iq2_s_grid[1024];      /* 8 values of 0x08 0x19 0x2b */
extern const uint16_t iq3_xxs_grid[256], iq3_s_grid[512];                         /* 4 values of 8 levels */
extern const uint16_t iq1_s_grid[2048];                                           /* 8 values of -1 0 1 */
extern const int8_t iq4_nl_values[16];
extern const int8_t mxfp4_values[16];                                             /* twice the e2m1 value */

static inline uint16_t read_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t read_u32(const uint8_t *p) { return read_u16(p) | (uint32_t)read_u16(p + 2) << 16; }
static inline float read_f16(const uint8_t *p) { return f16_to_f32(read_u16(p)); }

/* Half of 2^(e - 127): the table of values holds doubles. e = 0 and 1 give subnormal numbers. */
static inline float e8m0_half(uint8_t e) {
    union { uint32_t u; float f; } v = { .u = e < 2 ? UINT32_C(0x200000) << e : (uint32_t)(e - 1) << 23 };
    return v.f;
}

/* Scale (6 bits) and minimum (6 bits) of sub-block i of 8 from the 12 bytes of Q4_K and Q5_K:
 * bytes 0-3 scales 0-3, bytes 4-7 minima 0-3 (their top 2 bits: high bits of 4-7), bytes 8-11 low 4 bits of 4-7. */
static inline void k4_scale_min(const uint8_t *s, size_t i, uint8_t *scale, uint8_t *min) {
    if (i < 4) {
        *scale = s[i] & 63;
        *min = s[i + 4] & 63;
    } else {
        *scale = (uint8_t)((s[i + 4] & 15) | (s[i - 4] >> 6) << 4);
        *min = (uint8_t)((s[i + 4] >> 4) | (s[i] >> 6) << 4);
    }
}

/* Scale of sub-block i of 16 of Q3_K: low 4 bits in bytes 0-7 (i < 8 low nibbles), high 2 bits in bytes 8-11. */
static inline int q3k_scale(const uint8_t *s, size_t i) {
    const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
    return (low | ((s[8 + i % 4] >> (2 * (i / 4))) & 3) << 4) - 32;
}

#endif
