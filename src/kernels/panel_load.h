/* Codes, scales and minima of packed panels (matmul_panel.h) as vectors; after the v_ operations of one vector width: vi,
 * vf, LANES (rows a vector). Also the form in which panel_tile.h and x86/panel_amx.h unpack them into a buffer. */
#include <string.h>

#include "tensor/dequant.h"

/* Unpacked panels in the buffer: per block 512 bytes of code8, then scales, then minima: 16 f32 each.
 * WIDE: codes up to 255, offset 128; BUF_32, BUF_16: codes below 128, offset 32; with a minimum there is no offset. */
enum { BUF_WIDE = PANEL_COUNT, BUF_32, BUF_32M, BUF_16, BUF_16M };
INLINE bool kind_is_16(int kind) {
    return kind == PANEL_Q2K || kind == PANEL_Q3K || kind == PANEL_Q6K || kind == BUF_16 || kind == BUF_16M;
}
INLINE bool kind_has_min(int kind) {
    return kind == PANEL_Q4M || kind == PANEL_Q5M || kind == PANEL_Q2K || kind == PANEL_Q4K || kind == PANEL_Q5K ||
           kind == BUF_32M || kind == BUF_16M;
}
INLINE bool kind_is_wide(int kind) {
    return kind == PANEL_Q8 || kind == PANEL_NL4 || kind == PANEL_XS4 || kind == BUF_WIDE;
}
INLINE int kind_shift(int kind) {               /* log2(128 / offset); 31: no offset */
    switch (kind) {
    case PANEL_Q4: return 4;
    case PANEL_Q5: case PANEL_MX4: return 3;
    case PANEL_Q3K: return 5;
    case PANEL_Q6K: case BUF_32: case BUF_16: return 2;
    default: return 31;
    }
}
INLINE bool kind_is_buf(int kind) { return kind >= BUF_WIDE; }
INLINE size_t buf_bytes(int kind) { return 512 + 64 * (size_t)((kind_is_16(kind) ? 2 : 1) * (kind_has_min(kind) ? 2 : 1)); }
INLINE size_t kind_unit_blocks(int kind) { return kind_is_buf(kind) ? 1 : kind >= PANEL_Q2K ? 8 : 2; }
INLINE size_t kind_unit_bytes(int kind) {
    switch (kind) {
#define X(kind, dtype, unit_n, unit_bytes, shift, run, min) case PANEL_##kind: return unit_bytes;
    PANEL_MAP(X)
#undef X
    default: return buf_bytes(kind);
    }
}

/* Group g of block b of the unit at u; half: which LANES rows of the 16. */
INLINE vi load_group(int kind, const uint8_t *u, size_t b, size_t g, size_t half) {
    const size_t h = half * LANES * 4;
    const uint8_t *code4 = u + 256 * b + 64 * (g % 4) + h;
    const int up = (int)(4 - g), up2 = 4 - 2 * (int)(g % 4);
    if (kind_is_buf(kind) || kind == PANEL_Q8) return v_load(u + 512 * b + 64 * g + h);
    if (kind == PANEL_Q2K || kind == PANEL_Q3K) {
        const vi low = v_and(v_down(v_load(u + 128 * b + 64 * (g / 4) + h), 2 * (int)(g % 4)), v_byte(3));
        if (kind == PANEL_Q2K) return low;
        const int up1 = (int)(2 - g);
        const vi bit = v_load(u + 1024 + 64 * b + h);
        return v_or(low, v_and(up1 >= 0 ? v_up(bit, up1) : v_down(bit, -up1), v_byte(4)));
    }
    const vi two = v_load(code4), q = v_and(g < 4 ? two : v_down(two, 4), v_byte(15));
    switch (kind) {
    case PANEL_NL4: case PANEL_XS4: return v_lookup(iq4_nl_values, (char)0x80, q);
    case PANEL_MX4: return v_lookup(mxfp4_values, 16, q);
    case PANEL_Q5: case PANEL_Q5M: case PANEL_Q5K: {
        const vi bit = v_load(u + (kind == PANEL_Q5K ? 2048 : 512) + 64 * b + h);
        return v_or(q, v_and(up >= 0 ? v_up(bit, up) : v_down(bit, -up), v_byte(16)));
    }
    case PANEL_Q6K: {
        const vi bits = v_load(u + 2048 + 128 * b + 64 * (g / 4) + h);
        return v_or(q, v_and(up2 >= 0 ? v_up(bits, up2) : v_down(bits, -up2), v_byte(48)));
    }
    default: return q;
    }
}

/* Scale of half block i (i = 0 for blocks with one scale) of block b. */
INLINE vf load_scale(int kind, const uint8_t *u, size_t b, size_t i, size_t half) {
    const size_t r = half * LANES;
    switch (kind) {
    case PANEL_Q8: return v_f16(u + 1024 + 32 * b + 2 * r);
    case PANEL_Q4: case PANEL_NL4: case PANEL_Q4M: return v_f16(u + 512 + 32 * b + 2 * r);
    case PANEL_MX4: return v_bf16(u + 512 + 32 * b + 2 * r);
    case PANEL_Q5: case PANEL_Q5M: return v_f16(u + 640 + 32 * b + 2 * r);
    case PANEL_Q2K: return v_mul(v_f16(u + 1280 + 2 * r), v_low4(u + 1024 + 16 * (2 * b + i) + r));
    case PANEL_Q3K: return v_mul(v_f16(u + 1792 + 2 * r), v_i8(u + 1536 + 16 * (2 * b + i) + r));
    case PANEL_Q4K: return v_mul(v_f16(u + 2304 + 2 * r), v_u8(u + 2048 + 16 * b + r));
    case PANEL_Q5K: return v_mul(v_f16(u + 2816 + 2 * r), v_u8(u + 2560 + 16 * b + r));
    case PANEL_Q6K: return v_mul(v_f16(u + 3328 + 2 * r), v_i8(u + 3072 + 16 * (2 * b + i) + r));
    case PANEL_XS4: return v_mul(v_f16(u + 2176 + 2 * r), v_i8(u + 2048 + 16 * b + r));
    default: return v_loadf(u + 512 + 64 * i + 4 * r);
    }
}

INLINE vf load_min(int kind, const uint8_t *u, size_t b, size_t i, size_t half) {
    const size_t r = half * LANES;
    switch (kind) {
    case PANEL_Q4M: return v_neg(v_f16(u + 576 + 32 * b + 2 * r));
    case PANEL_Q5M: return v_neg(v_f16(u + 704 + 32 * b + 2 * r));
    case PANEL_Q2K: return v_mul(v_f16(u + 1312 + 2 * r), v_high4(u + 1024 + 16 * (2 * b + i) + r));
    case PANEL_Q4K: return v_mul(v_f16(u + 2336 + 2 * r), v_u8(u + 2176 + 16 * b + r));
    case PANEL_Q5K: return v_mul(v_f16(u + 2848 + 2 * r), v_u8(u + 2688 + 16 * b + r));
    default: return v_loadf(u + 512 + (kind_is_16(kind) ? 128 : 64) + 64 * i + 4 * r);
    }
}

/* What a minimum is multiplied by: -d times the sum of the codes of (half) block i. */
INLINE float min_factor(int kind, const act_block *x, size_t i) {
    return kind_is_16(kind) ? x->d * (float)(i == 0 ? x->n_lo : x->n - x->n_lo) * 0.0078125f : x->dn;
}
