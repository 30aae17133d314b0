/* How keys and values lie in memory: one token of one head in, and out again. Offsets stand in attention.h. */
#include <math.h>
#include <string.h>

#include "kernels/attention.h"

static size_t padded(size_t d) { return (d + 31) / 32 * 32; }

bool attention_type_from_name(enum ern_dtype *out, const char *name, ern_err *e) {
    static const struct { const char *name; enum ern_dtype t; } types[] = {
        { "f32", DTYPE_F32 }, { "f16", DTYPE_F16 }, { "bf16", DTYPE_BF16 }, { "q8", DTYPE_Q8_0 }, { "q4", DTYPE_Q4_0 },
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0) { *out = types[i].t; return true; }
    return ern_fail(e, ERN_ARG, "kv type \"%s\": f16, bf16, f32, q8 or q4 wanted", name);
}

static size_t data_bytes(enum ern_dtype t, size_t D) {
    switch (t) {
    case DTYPE_F32: return ATTENTION_TILE * D * 4;
    case DTYPE_Q8_0: return ATTENTION_TILE * D;
    case DTYPE_Q4_0: return ATTENTION_TILE * D / 2;
    default: return ATTENTION_TILE * D * 2;
    }
}

size_t attention_tile_bytes(enum ern_dtype t, size_t d) {
    const size_t D = padded(d), scales = t == DTYPE_Q8_0 || t == DTYPE_Q4_0 ? D / 32 * ATTENTION_TILE * 2 : 0;
    return (data_bytes(t, D) + scales + 63) / 64 * 64;
}

/* Blocks of the largest power of two that divides d, scaled so that lengths stay. */
void attention_rotate(float *x, size_t d) {
    const size_t block = d & (~d + 1);
    const float scale = 1.0f / sqrtf((float)block);
    for (size_t half = 1; half < block; half *= 2)
        for (size_t i = 0; i < d; i += 2 * half)
            for (size_t j = i; j < i + half; j++) {
                const float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
    for (size_t i = 0; i < d; i++) x[i] *= scale;
}

static void store_halves(const ern_kernels *k, enum ern_dtype t, bool is_key, uint16_t *tile, size_t at, const float *x, size_t d) {
    const size_t D = padded(d);
    uint16_t h[ATTENTION_MAX_WIDTH + 1] = { 0 };
    if (t == DTYPE_F16) k->to_f16(h, x, d);
    else k->to_bf16(h, x, d);
    if (is_key)
        for (size_t i = 0; i < d; i += 2) memcpy(tile + (i * ATTENTION_TILE + 2 * at), h + i, 4);
    else
        for (size_t i = 0; i < d; i++) tile[at / 2 * D * 2 + i * 2 + at % 2] = h[i];
}

static void store_floats(bool is_key, float *tile, size_t at, const float *x, size_t d) {
    if (is_key)
        for (size_t i = 0; i < d; i++) tile[i * ATTENTION_TILE + at] = x[i];
    else memcpy(tile + at * padded(d), x, d * sizeof *x);
}

/* A scale that is finite and not zero in f16; values past it saturate. */
static float block_scale(float top, uint16_t *stored) {
    *stored = f32_to_f16(fminf(top, 65504.0f));
    const float d = f16_to_f32(*stored);
    return d != 0.0f ? 1.0f / d : 0.0f;
}

/* Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest even, without the call that rintf is. */
static int nearest(float x, int low, int high) {
    const float magic = 12582912.0f, r = (x + magic) - magic;
    return r > (float)low ? r < (float)high ? (int)r : high : low;
}

static void store_q8(bool is_key, uint8_t *tile, size_t at, const float *x, size_t d) {
    const size_t D = padded(d);
    uint16_t *scales = (uint16_t *)(void *)(tile + data_bytes(DTYPE_Q8_0, D));
    for (size_t b = 0; b < D / 32; b++) {
        float top = 0;
        for (size_t i = b * 32; i < d && i < b * 32 + 32; i++) top = fmaxf(top, fabsf(x[i]));
        const float inverse = block_scale(top / 127.0f, &scales[b * ATTENTION_TILE + at]);
        for (size_t i = b * 32; i < b * 32 + 32; i++) {
            const int q = i < d ? nearest(x[i] * inverse, -127, 127) : 0;
            if (is_key) tile[i / 4 * ATTENTION_TILE * 4 + at * 4 + i % 4] = (uint8_t)(q + 128);
            else tile[at / 2 * D * 2 + i * 2 + at % 2] = (uint8_t)q;
        }
    }
}

static void put_nibble(uint8_t *byte, bool high, int q) {
    *byte = high ? (uint8_t)((*byte & 0x0f) | q << 4) : (uint8_t)((*byte & 0xf0) | q);
}

/* The value farthest from zero becomes exactly -8 steps, so that all 16 steps are used. */
static void store_q4(bool is_key, uint8_t *tile, size_t at, const float *x, size_t d) {
    const size_t D = padded(d);
    uint16_t *scales = (uint16_t *)(void *)(tile + data_bytes(DTYPE_Q4_0, D));
    for (size_t b = 0; b < D / 32; b++) {
        float far = 0;
        for (size_t i = b * 32; i < d && i < b * 32 + 32; i++)
            if (fabsf(x[i]) > fabsf(far)) far = x[i];
        uint16_t h = f32_to_f16(fmaxf(fminf(far / -8.0f, 65504.0f), -65504.0f));
        const float step = f16_to_f32(h), inverse = step != 0.0f ? 1.0f / step : 0.0f;
        scales[b * ATTENTION_TILE + at] = h;
        for (size_t i = b * 32; i < b * 32 + 32; i++) {
            const int q = i < d ? nearest(x[i] * inverse, -8, 7) + 8 : 8;
            if (is_key) put_nibble(tile + i / 8 * ATTENTION_TILE * 4 + at * 4 + i % 4, i % 8 >= 4, q);
            else put_nibble(tile + at / 8 * D * 4 + i * 4 + at % 2 * 2 + at % 8 / 4, at / 2 % 2, q);
        }
    }
}

void attention_store(const ern_kernels *k, enum ern_dtype t, bool is_key, void *base, size_t pos, const float *x, size_t d) {
    void *tile = (char *)base + pos / ATTENTION_TILE * attention_tile_bytes(t, d);
    const size_t at = pos % ATTENTION_TILE;
    if (t == DTYPE_F32) store_floats(is_key, tile, at, x, d);
    else if (t == DTYPE_Q8_0) store_q8(is_key, tile, at, x, d);
    else if (t == DTYPE_Q4_0) {
        float r[ATTENTION_MAX_WIDTH];
        memcpy(r, x, d * sizeof *x);
        attention_rotate(r, d);
        store_q4(is_key, tile, at, r, d);
    } else store_halves(k, t, is_key, tile, at, x, d);
}

static float quant_at(enum ern_dtype t, bool is_key, const uint8_t *tile, size_t at, size_t i, size_t D) {
    const uint16_t *scales = (const uint16_t *)(const void *)(tile + data_bytes(t, D));
    const float step = f16_to_f32(scales[i / 32 * ATTENTION_TILE + at]);
    int q;
    if (t == DTYPE_Q8_0 && is_key) q = tile[i / 4 * ATTENTION_TILE * 4 + at * 4 + i % 4] - 128;
    else if (t == DTYPE_Q8_0) q = (int8_t)tile[at / 2 * D * 2 + i * 2 + at % 2];
    else if (is_key) q = (tile[i / 8 * ATTENTION_TILE * 4 + at * 4 + i % 4] >> (i % 8 >= 4 ? 4 : 0) & 15) - 8;
    else q = (tile[at / 8 * D * 4 + i * 4 + at % 2 * 2 + at % 8 / 4] >> (at / 2 % 2 ? 4 : 0) & 15) - 8;
    return (float)q * step;
}

void attention_load(enum ern_dtype t, bool is_key, const void *base, size_t pos, float *y, size_t d) {
    const void *tile = (const char *)base + pos / ATTENTION_TILE * attention_tile_bytes(t, d);
    const float *f = tile;
    const uint16_t *h = tile;
    const size_t at = pos % ATTENTION_TILE, D = padded(d);
    for (size_t i = 0; i < d; i++) {
        const size_t half = is_key ? i / 2 * ATTENTION_TILE * 2 + at * 2 + i % 2 : at / 2 * D * 2 + i * 2 + at % 2;
        if (t == DTYPE_F32) y[i] = is_key ? f[i * ATTENTION_TILE + at] : f[at * D + i];
        else if (t == DTYPE_F16) y[i] = f16_to_f32(h[half]);
        else if (t == DTYPE_BF16) y[i] = bf16_to_f32(h[half]);
        else y[i] = quant_at(t, is_key, tile, at, i, D);
    }
}
