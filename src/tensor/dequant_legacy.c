/* Plain numbers and the formats with one block of 32 values.
 *
 * Offsets in bytes (d, m, s: f16; q4: value i < 16 in the low nibble of byte i, value i + 16 in its high nibble):
 *   Q4_0  d 0, q4 2       (q - 8) d               Q5_0  d 0, bit 4 of value i = bit i of u32 at 2, q4 6   (q - 16) d
 *   Q4_1  d 0, m 2, q4 4  q d + m                 Q5_1  d 0, m 2, bits u32 at 4, q4 8                     q d + m
 *   Q8_0  d 0, i8 2       q d                     Q8_1  d 0, s 2 (not needed), i8 4                       q d
 *   IQ4_NL d 0, q4 2      table[q] d              MXFP4 exponent byte 0, q4 1                             table[q] e */
#include "tensor/dequant.h"

#define UNPACK_PLAIN(name, type)                                        \
    void unpack_##name(float *y, const void *x, size_t count) {         \
        for (size_t i = 0; i < count; i++) {                            \
            type v;                                                     \
            memcpy(&v, (const uint8_t *)x + i * sizeof v, sizeof v);    \
            y[i] = (float)v;                                            \
        }                                                               \
    }
UNPACK_PLAIN(I8, int8_t)
UNPACK_PLAIN(I16, int16_t)
UNPACK_PLAIN(I32, int32_t)
UNPACK_PLAIN(I64, int64_t)
UNPACK_PLAIN(U8, uint8_t)
UNPACK_PLAIN(U16, uint16_t)
UNPACK_PLAIN(F64, double)

void unpack_BOOL(float *y, const void *x, size_t count) {
    for (size_t i = 0; i < count; i++) y[i] = ((const uint8_t *)x)[i] ? 1 : 0;
}

void unpack_F32(float *y, const void *x, size_t count) {
    if (count) memcpy(y, x, count * sizeof *y);
}

void unpack_F16(float *y, const void *x, size_t count) {
    for (size_t i = 0; i < count; i++) y[i] = read_f16((const uint8_t *)x + 2 * i);
}

void unpack_BF16(float *y, const void *x, size_t count) {
    for (size_t i = 0; i < count; i++) y[i] = bf16_to_f32(read_u16((const uint8_t *)x + 2 * i));
}

static int nibble(const uint8_t *q, size_t i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

void unpack_Q4_0(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 18) {
        const float d = read_f16(b);
        for (size_t i = 0; i < 32; i++) y[n + i] = d * (float)(nibble(b + 2, i) - 8);
    }
}

void unpack_Q4_1(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 20) {
        const float d = read_f16(b), m = read_f16(b + 2);
        for (size_t i = 0; i < 32; i++) y[n + i] = d * (float)nibble(b + 4, i) + m;
    }
}

void unpack_Q5_0(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 22) {
        const float d = read_f16(b);
        const uint32_t high = read_u32(b + 2);
        for (size_t i = 0; i < 32; i++)
            y[n + i] = d * (float)((nibble(b + 6, i) | (int)(high >> i & 1) << 4) - 16);
    }
}

void unpack_Q5_1(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 24) {
        const float d = read_f16(b), m = read_f16(b + 2);
        const uint32_t high = read_u32(b + 4);
        for (size_t i = 0; i < 32; i++)
            y[n + i] = d * (float)(nibble(b + 8, i) | (int)(high >> i & 1) << 4) + m;
    }
}

static void unpack_i8(float *y, const uint8_t *q, float d, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = d * (float)(int8_t)q[i];
}

void unpack_Q8_0(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 34) unpack_i8(y + n, b + 2, read_f16(b), 32);
}

void unpack_Q8_1(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 36) unpack_i8(y + n, b + 4, read_f16(b), 32);
}

const int8_t iq4_nl_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
const int8_t mxfp4_values[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

void unpack_IQ4_NL(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 18) {
        const float d = read_f16(b);
        for (size_t i = 0; i < 32; i++) y[n + i] = d * (float)iq4_nl_values[nibble(b + 2, i)];
    }
}

void unpack_MXFP4(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 32, b += 17) {
        const float d = e8m0_half(b[0]);
        for (size_t i = 0; i < 32; i++) y[n + i] = d * (float)mxfp4_values[nibble(b + 1, i)];
    }
}

/* NVFP4: 64 values, four unsigned e4m3 scales (bias 7; 0 and 0x7f mean zero; halved like MXFP4's), then for each 16
 * values 8 bytes: value i < 8 in the low nibble of byte i, value i + 8 in its high nibble. */
static float ue4m3_half(uint8_t s) {
    const int exponent = s >> 3 & 15, mantissa = s & 7;
    if (s == 0 || s == 0x7f) return 0;
    if (exponent == 0) return (float)mantissa * 0x1p-10f;
    union { uint32_t u; float f; } power = { .u = (uint32_t)(exponent - 8 + 127) << 23 };
    return (float)(8 + mantissa) / 8 * power.f;
}

void unpack_NVFP4(float *y, const void *x, size_t count) {
    const uint8_t *b = x;
    for (size_t n = 0; n < count; n += 64, b += 36)
        for (size_t i = 0; i < 64; i++) {
            const uint8_t q = b[4 + i / 16 * 8 + i % 8];
            y[n + i] = ue4m3_half(b[i / 16]) * (float)mxfp4_values[i % 16 < 8 ? q & 15 : q >> 4];
        }
}
