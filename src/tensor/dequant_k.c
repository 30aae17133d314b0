/* The "K" formats: blocks of 256 values with scales of sub-blocks, and the ternary formats.
 *
 * Offsets in bytes (d, dmin: f16):
 *   Q2_K  16 bytes: scale low nibble, minimum high nibble, a sub-block of 16 each; q2 16; d 80; dmin 82
 *   Q3_K  high bits 0 (32 bytes); q2 32; 16 scales of 6 bits 96 (12 bytes); d 108
 *   Q4_K  d 0; dmin 2; 8 scales and minima of 6 bits 4 (12 bytes); q4 16
 *   Q5_K  d 0; dmin 2; 8 scales and minima 4; high bits 16 (32 bytes); q4 48
 *   Q6_K  low 4 bits 0 (128 bytes); high 2 bits 128 (64 bytes); 16 i8 scales 192; d 208
 *   Q8_K  d f32 0; i8 4; sums 260
 *   TQ1_0 5 base-3 digits a byte: 32 + 16 bytes, 4 digits in the last 4 bytes 48; d 52     TQ2_0 q2 0; d 64 */
#include "tensor/dequant.h"

/* Value i of 256 at 2 bits: 32 bytes hold 128 values, 4 planes of 32. */
static int q2_at(const uint8_t *q, size_t i) { return q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3; }

void unpack_Q2_K(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 84) {
        const float d = read_f16(b + 80), dmin = read_f16(b + 82);
        for (size_t i = 0; i < 256; i++) {
            const uint8_t s = b[i / 16];
            y[n + i] = d * (float)(s & 15) * (float)q2_at(b + 16, i) - dmin * (float)(s >> 4);
        }
    }
}

void unpack_Q3_K(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 110) {
        const float d = read_f16(b + 108);
        for (size_t i = 0; i < 256; i++) {
            const int high = b[i % 32] >> (i / 32) & 1, q = q2_at(b + 32, i) - (high ? 0 : 4);
            y[n + i] = d * (float)q3k_scale(b + 96, i / 16) * (float)q;
        }
    }
}

/* 64 values in 32 bytes: 32 low nibbles, then 32 high nibbles. */
static int q4_at(const uint8_t *q, size_t i) { return q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15; }

void unpack_Q4_K(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 144) {
        const float d = read_f16(b), dmin = read_f16(b + 2);
        for (size_t i = 0; i < 256; i++) {
            uint8_t s, m;
            k4_scale_min(b + 4, i / 32, &s, &m);
            y[n + i] = d * (float)s * (float)q4_at(b + 16, i) - dmin * (float)m;
        }
    }
}

void unpack_Q5_K(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 176) {
        const float d = read_f16(b), dmin = read_f16(b + 2);
        for (size_t i = 0; i < 256; i++) {
            uint8_t s, m;
            k4_scale_min(b + 4, i / 32, &s, &m);
            const int q = q4_at(b + 48, i) | (b[16 + i % 32] >> (i / 32) & 1) << 4;
            y[n + i] = d * (float)s * (float)q - dmin * (float)m;
        }
    }
}

void unpack_Q6_K(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 210) {
        const float d = read_f16(b + 208);
        for (size_t i = 0; i < 256; i++) {
            const int low = b[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
            const int q = (low | q2_at(b + 128, i) << 4) - 32;
            y[n + i] = d * (float)(int8_t)b[192 + i / 16] * (float)q;
        }
    }
}

void unpack_Q8_K(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 292) {
        float d;
        memcpy(&d, b, sizeof d);
        for (size_t i = 0; i < 256; i++) y[n + i] = d * (float)(int8_t)b[4 + i];
    }
}

/* A byte holds ceil(256 v / 243), v of 5 ternary digits: digit k is the carry of 3 (byte 3^k mod 256). */
static float digit(uint8_t byte, size_t k) {
    static const uint8_t pow3[5] = { 1, 3, 9, 27, 81 };
    return (float)(((uint8_t)(byte * pow3[k]) * 3 >> 8) - 1);
}

void unpack_TQ1_0(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 54) {
        const float d = read_f16(b + 52);
        for (size_t i = 0; i < 256; i++)
            y[n + i] = d * (i < 160 ? digit(b[i % 32], i / 32)
                            : i < 240 ? digit(b[32 + i % 16], (i - 160) / 16) : digit(b[48 + i % 4], (i - 240) / 4));
    }
}

void unpack_TQ2_0(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 256, b += 66) {
        const float d = read_f16(b + 64);
        for (size_t i = 0; i < 256; i++) y[n + i] = d * (float)(q2_at(b, i) - 1);
    }
}
