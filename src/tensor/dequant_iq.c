/* The "IQ" formats: blocks of 256 values looked up, 8 or 4 at a time, in fixed grids (iq_grids.c).
 *
 * Offsets in bytes (d f16 at 0 unless stated; a group is 32 values, a run 8):
 *   IQ2_XXS a group: 4 bytes of grid indices, u32: 4 x 7 bits sign code, top 4 bits scale; groups from 2
 *   IQ2_XS  32 x u16 2: 9 bits grid, 7 bits sign code; 16 scales of 4 bits 66
 *   IQ2_S   32 low bytes of the indices 2; 32 sign bytes 34; 8 bytes of 2 high bits each 66; 16 scales of 4 bits 74
 *   IQ3_XXS 64 grid bytes 2; 8 x u32 (signs and scale as IQ2_XXS) 66
 *   IQ3_S   64 low bytes 2; 8 bytes of high bits 66; 32 sign bytes 74; 8 scales of 4 bits 106
 *   IQ1_S   32 low bytes 2; 8 x u16 34: 4 x 3 high bits, 3 bits scale, sign of the shift
 *   IQ1_M   32 low bytes 0; 16 bytes 32: a nibble a run, 3 high bits and sign of the shift; 4 x u16 48: 3-bit scales
 *           of 16 values each, the four top nibbles make d
 *   IQ4_XS  u16 2: 2 high bits a scale; 4 bytes 4: low nibbles; q4 8 */
#include "tensor/dequant.h"

static const float iq2_levels[4] = { 0x08, 0x19, 0x2b, 0 };
static const float iq3_xxs_levels[8] = { 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3e };

/* 7 bits stand for 8 signs: the last makes their number even. */
static unsigned even_signs(uint32_t code) {
    const unsigned c = code & 127;
    return c | (unsigned)__builtin_parity(c) << 7;
}

static void put8(float *y, uint16_t grid, float d, unsigned signs) {
    for (unsigned i = 0; i < 8; i++) {
        const float v = d * iq2_levels[grid >> (2 * i) & 3];
        y[i] = signs >> i & 1 ? -v : v;
    }
}

static void put4(float *y, uint16_t grid, const float *levels, float d, unsigned signs) {
    for (unsigned i = 0; i < 4; i++) {
        const float v = d * (levels ? levels[grid >> (4 * i) & 7] : (float)(2 * (grid >> (4 * i) & 7) + 1));
        y[i] = signs >> i & 1 ? -v : v;
    }
}

static unsigned nibble_at(const uint8_t *s, size_t i) { return s[i / 2] >> (i % 2 * 4) & 15; }

void unpack_IQ2_XXS(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 66)
        for (size_t run = 0; run < 32; run++) {
            const uint8_t *group = b + 2 + run / 4 * 8;
            const uint32_t u = read_u32(group + 4);
            const float d = read_f16(b) * (0.5f + (float)(u >> 28)) * 0.25f;
            put8(y + n + run * 8, iq2_xxs_grid[group[run % 4]], d, even_signs(u >> (7 * (run % 4))));
        }
}

void unpack_IQ2_XS(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 74)
        for (size_t run = 0; run < 32; run++) {
            const uint16_t q = read_u16(b + 2 + run * 2);
            const float d = read_f16(b) * (0.5f + (float)nibble_at(b + 66, run / 2)) * 0.25f;
            put8(y + n + run * 8, iq2_xs_grid[q & 511], d, even_signs(q >> 9));
        }
}

void unpack_IQ2_S(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 82)
        for (size_t run = 0; run < 32; run++) {
            const unsigned q = b[2 + run] | (unsigned)(b[66 + run / 4] >> (run % 4 * 2) & 3) << 8;
            const float d = read_f16(b) * (0.5f + (float)nibble_at(b + 74, run / 2)) * 0.25f;
            put8(y + n + run * 8, iq2_s_grid[q], d, b[34 + run]);
        }
}

void unpack_IQ3_XXS(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 98)
        for (size_t run = 0; run < 32; run++) {
            const uint32_t u = read_u32(b + 66 + run / 4 * 4);
            const float d = read_f16(b) * (0.5f + (float)(u >> 28)) * 0.5f;
            const unsigned signs = even_signs(u >> (7 * (run % 4)));
            put4(y + n + run * 8, iq3_xxs_grid[b[2 + run * 2]], iq3_xxs_levels, d, signs);
            put4(y + n + run * 8 + 4, iq3_xxs_grid[b[3 + run * 2]], iq3_xxs_levels, d, signs >> 4);
        }
}

void unpack_IQ3_S(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 110)
        for (size_t half = 0; half < 64; half++) {
            const unsigned q = b[2 + half] | (unsigned)(b[66 + half / 8] >> (half % 8) & 1) << 8;
            const float d = read_f16(b) * (float)(1 + 2 * nibble_at(b + 106, half / 8));
            put4(y + n + half * 4, iq3_s_grid[q], NULL, d, (unsigned)(b[74 + half / 2] >> (half % 2 * 4)));
        }
}

/* 8 values of -1, 0, 1, all moved by an eighth up or down. */
static void put_ternary(float *y, uint16_t grid, float d, bool is_down) {
    const float shift = is_down ? -0.125f : 0.125f;
    for (unsigned i = 0; i < 8; i++) y[i] = d * ((float)(grid >> (2 * i) & 3) - 1 + shift);
}

void unpack_IQ1_S(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 50)
        for (size_t run = 0; run < 32; run++) {
            const uint16_t h = read_u16(b + 34 + run / 4 * 2);
            const float d = read_f16(b) * (float)(2 * (h >> 12 & 7) + 1);
            put_ternary(y + n + run * 8, iq1_s_grid[b[2 + run] | (h >> (3 * (run % 4)) & 7) << 8], d, h >> 15);
        }
}

void unpack_IQ1_M(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 56) {
        unsigned bits = 0;
        for (size_t i = 0; i < 4; i++) bits |= (unsigned)(read_u16(b + 48 + 2 * i) >> 12) << (4 * i);
        const float d = f16_to_f32((uint16_t)bits);
        for (size_t run = 0; run < 32; run++) {
            const unsigned h = nibble_at(b + 32, run), s = read_u16(b + 48 + run / 8 * 2) >> (run / 2 % 4 * 3) & 7;
            put_ternary(y + n + run * 8, iq1_s_grid[b[run] | (h & 7) << 8], d * (float)(2 * s + 1), h >> 3);
        }
    }
}

void unpack_IQ4_XS(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 136)
        for (size_t i = 0; i < 256; i++) {
            const size_t group = i / 32;
            const int high = read_u16(b + 2) >> (2 * group) & 3;
            const float d = read_f16(b) * (float)(((int)nibble_at(b + 4, group) | high << 4) - 32);
            const uint8_t q = b[8 + group * 16 + i % 16];
            y[n + i] = d * (float)iq4_nl_values[i % 32 < 16 ? q & 15 : q >> 4];
        }
}
