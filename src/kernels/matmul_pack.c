/* Rows of a number format into panels (layout: matmul_panel.h). Two steps for each unit: the codes of 16 rows as bytes,
 * then groups of 4 columns interleaved as 32-bit words and folded into 4, 2 and 1 bits. Works in plain C on any machine. */
#include <string.h>

#include "kernels/matmul_panel.h"
#include "tensor/dequant.h"

#define MAX_UNIT 256

static const panel_info infos[PANEL_N_INT] = {
#define X(kind, dtype, unit_n, unit_bytes, shift, run, min) \
    [PANEL_##kind] = { DTYPE_##dtype, unit_n, unit_bytes, run, shift, min },
    PANEL_MAP(X)
#undef X
};

const panel_info *panel_info_of(enum panel_kind kind) { return &infos[kind]; }

enum panel_kind panel_kind_of(enum ern_dtype t) {
    if (t == DTYPE_BF16) return PANEL_BF16;
    if (t == DTYPE_F16) return PANEL_F16;
    for (unsigned k = 0; k < PANEL_N_INT; k++)
        if (infos[k].dtype == t) return (enum panel_kind)k;
    return PANEL_NONE;
}

size_t panel_bytes_of(enum panel_kind kind, size_t C) {
    if (kind == PANEL_BF16) return (C + 1) / 2 * 64;
    if (kind == PANEL_F16) return (C + 1) / 2 * 64;
    return (C + infos[kind].unit_n - 1) / infos[kind].unit_n * infos[kind].unit_bytes;
}

/* ---- codes of one row ------------------------------------------------------------------------- */

static void codes_nibbles(uint8_t *q, const uint8_t *b) {
    for (int i = 0; i < 16; i++) q[i] = b[i] & 15;
    for (int i = 0; i < 16; i++) q[i + 16] = b[i] >> 4;
}

static void codes_nibbles_64(uint8_t *q, const uint8_t *b) {
    for (int i = 0; i < 32; i++) q[i] = b[i] & 15;
    for (int i = 0; i < 32; i++) q[i + 32] = b[i] >> 4;
}

/* Bit 4 of 32 codes. Eight at a time: a byte copied eight times, in each copy another bit kept and moved to bit 4. */
static void codes_bits(uint8_t *q, uint32_t bits) {
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f), one = UINT64_C(0x0101010101010101);
        const uint64_t kept = (bits >> (8 * i) & 255) * one & UINT64_C(0x8040201008040201);
        const uint64_t high = (((kept & low) + low) | kept) >> 7 & one;     /* 1 where a byte is not 0 */
        uint64_t v;
        memcpy(&v, q + 8 * i, sizeof v);
        v |= high << 4;
        memcpy(q + 8 * i, &v, sizeof v);
    }
}

/* 256 values of 2 bits: 32 bytes hold 4 planes of 32. */
static void codes_planes(uint8_t *q, const uint8_t *b) {
    for (int h = 0; h < 2; h++)
        for (int p = 0; p < 4; p++)
            for (int i = 0; i < 32; i++) q[128 * h + 32 * p + i] = b[32 * h + i] >> (2 * p) & 3;
}

static void codes_q6(uint8_t *q, const uint8_t *b) {
    codes_planes(q, b + 128);
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 64; i++) {
            uint8_t *low = q + 128 * h + i, *high = low + 64;
            *low = (uint8_t)(*low << 4 | (b[64 * h + i] & 15));
            *high = (uint8_t)(*high << 4 | b[64 * h + i] >> 4);
        }
}

/* The codes of one block of the file's format. */
static void codes_of(uint8_t *q, enum panel_kind kind, const uint8_t *b) {
    switch (kind) {
    case PANEL_Q8: for (int i = 0; i < 32; i++) q[i] = b[2 + i] ^ 0x80; break;
    case PANEL_Q4: case PANEL_NL4: codes_nibbles(q, b + 2); break;
    case PANEL_Q4M: codes_nibbles(q, b + 4); break;
    case PANEL_MX4: codes_nibbles(q, b + 1); break;
    case PANEL_Q5: codes_nibbles(q, b + 6); codes_bits(q, read_u32(b + 2)); break;
    case PANEL_Q5M: codes_nibbles(q, b + 8); codes_bits(q, read_u32(b + 4)); break;
    case PANEL_Q2K: codes_planes(q, b + 16); break;
    case PANEL_Q3K:
        codes_planes(q, b + 32);
        for (int p = 0; p < 8; p++)
            for (int i = 0; i < 32; i++) q[32 * p + i] = (uint8_t)(q[32 * p + i] | (b[i] >> p & 1) << 2);
        break;
    case PANEL_Q4K: for (int g = 0; g < 4; g++) codes_nibbles_64(q + 64 * g, b + 16 + 32 * g); break;
    case PANEL_Q5K:
        for (int g = 0; g < 4; g++) codes_nibbles_64(q + 64 * g, b + 48 + 32 * g);
        for (int p = 0; p < 8; p++)
            for (int i = 0; i < 32; i++) q[32 * p + i] = (uint8_t)(q[32 * p + i] | (b[16 + i] >> p & 1) << 4);
        break;
    case PANEL_Q6K: codes_q6(q, b); break;
    case PANEL_XS4: for (int g = 0; g < 8; g++) codes_nibbles(q + 32 * g, b + 8 + 16 * g); break;
    default: break;
    }
}

/* ---- scales of one row ------------------------------------------------------------------------ */

static void put_u16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static void copy_u16(uint8_t *to, const uint8_t *from) { memcpy(to, from, 2); }

/* Upper half of the f32 number 2^(e - 128), which dequant.h calls e8m0_half. */
static uint16_t e8m0_upper(uint8_t e) { return (uint16_t)(e < 2 ? 0x20 << e : (e - 1) << 7); }

/* Scales of row r from file block b, which is block n of its unit, into the unit at u. */
static void scales_of(uint8_t *u, enum panel_kind kind, const uint8_t *b, size_t n, size_t r) {
    const size_t at = 32 * n + 2 * r;
    uint8_t s, m;
    switch (kind) {
    case PANEL_Q8: copy_u16(u + 1024 + at, b); break;
    case PANEL_Q4: case PANEL_NL4: copy_u16(u + 512 + at, b); break;
    case PANEL_MX4: put_u16(u + 512 + at, e8m0_upper(b[0])); break;
    case PANEL_Q4M: copy_u16(u + 512 + at, b); copy_u16(u + 576 + at, b + 2); break;
    case PANEL_Q5: copy_u16(u + 640 + at, b); break;
    case PANEL_Q5M: copy_u16(u + 640 + at, b); copy_u16(u + 704 + at, b + 2); break;
    case PANEL_Q2K:
        for (size_t i = 0; i < 16; i++) u[1024 + 16 * i + r] = b[i];
        copy_u16(u + 1280 + 2 * r, b + 80);
        copy_u16(u + 1312 + 2 * r, b + 82);
        break;
    case PANEL_Q3K:
        for (size_t i = 0; i < 16; i++) u[1536 + 16 * i + r] = (uint8_t)q3k_scale(b + 96, i);
        copy_u16(u + 1792 + 2 * r, b + 108);
        break;
    case PANEL_Q4K: case PANEL_Q5K:
        u += kind == PANEL_Q4K ? 2048 : 2560;
        for (size_t i = 0; i < 8; i++) {
            k4_scale_min(b + 4, i, &s, &m);
            u[16 * i + r] = s;
            u[128 + 16 * i + r] = m;
        }
        copy_u16(u + 256 + 2 * r, b);
        copy_u16(u + 288 + 2 * r, b + 2);
        break;
    case PANEL_Q6K:
        for (size_t i = 0; i < 16; i++) u[3072 + 16 * i + r] = b[192 + i];
        copy_u16(u + 3328 + 2 * r, b + 208);
        break;
    case PANEL_XS4:
        for (size_t i = 0; i < 8; i++) {
            const int low = b[4 + i / 2] >> (i % 2 * 4) & 15, high = read_u16(b + 2) >> (2 * i) & 3;
            u[2048 + 16 * i + r] = (uint8_t)((low | high << 4) - 32);
        }
        copy_u16(u + 2176 + 2 * r, b);
        break;
    default: break;
    }
}

/* ---- interleaving ----------------------------------------------------------------------------- */

/* q: the codes of the rows, MAX_UNIT apart. */
static uint32_t word(const uint8_t *q, size_t r, size_t g) {
    uint32_t v;
    memcpy(&v, q + r * MAX_UNIT + 4 * g, sizeof v);
    return v;
}

/* n_fold groups, step apart, share a vector, each shifted left by bits more than the one before. */
static void fold(uint8_t *out, const uint8_t *q, size_t first, size_t step, size_t n_fold, unsigned down, unsigned bits) {
    const uint32_t mask = UINT32_C(0x01010101) * ((1u << bits) - 1);
    for (size_t r = 0; r < PANEL_ROWS; r++) {
        uint32_t v = 0;
        for (size_t i = 0; i < n_fold; i++) v |= (word(q, r, first + step * i) >> down & mask) << (bits * (unsigned)i);
        memcpy(out + 4 * r, &v, sizeof v);
    }
}

static void put_code8(uint8_t *out, const uint8_t *q, size_t n_groups) {
    for (size_t g = 0; g < n_groups; g++)
        for (size_t r = 0; r < PANEL_ROWS; r++) memcpy(out + 64 * g + 4 * r, q + r * MAX_UNIT + 4 * g, 4);
}

static void put_code4(uint8_t *out, const uint8_t *q, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; b++)
        for (size_t j = 0; j < 4; j++) fold(out + 256 * b + 64 * j, q, 8 * b + j, 4, 2, 0, 4);
}

static void put_code2(uint8_t *out, const uint8_t *q, size_t n_blocks, unsigned down) {
    for (size_t b = 0; b < n_blocks; b++)
        for (size_t j = 0; j < 2; j++) fold(out + 128 * b + 64 * j, q, 8 * b + 4 * j, 1, 4, down, 2);
}

static void put_bits(uint8_t *out, const uint8_t *q, size_t n_blocks, unsigned down) {
    for (size_t b = 0; b < n_blocks; b++) fold(out + 64 * b, q, 8 * b, 1, 8, down, 1);
}

static void put_codes(uint8_t *u, enum panel_kind kind, const uint8_t *q) {
    switch (kind) {
    case PANEL_Q8: put_code8(u, q, 16); break;
    case PANEL_Q5: case PANEL_Q5M: put_code4(u, q, 2); put_bits(u + 512, q, 2, 4); break;
    case PANEL_Q2K: put_code2(u, q, 8, 0); break;
    case PANEL_Q3K: put_code2(u, q, 8, 0); put_bits(u + 1024, q, 8, 2); break;
    case PANEL_Q5K: put_code4(u, q, 8); put_bits(u + 2048, q, 8, 4); break;
    case PANEL_Q6K: put_code4(u, q, 8); put_code2(u + 2048, q, 8, 4); break;
    case PANEL_Q4K: case PANEL_XS4: put_code4(u, q, 8); break;
    default: put_code4(u, q, 2); break;
    }
}

/* 16-bit numbers of up to 16 rows: columns interleaved in pairs or one by one. */
static void pack_16_bit(uint8_t *out, bool in_pairs, const ern_view *w, size_t panel) {
    const size_t R = w->dims[0], C = w->dims[1], r0 = panel * PANEL_ROWS, n = R - r0 < PANEL_ROWS ? R - r0 : PANEL_ROWS;
    const uint8_t *rows = (const uint8_t *)w->data + 2 * C * r0;
    if (n < PANEL_ROWS || C % 2) memset(out, 0, (C + 1) / 2 * 64);
    for (size_t c = 0; c < C; c++)
        for (size_t r = 0; r < n; r++)
            memcpy(in_pairs ? out + c / 2 * 64 + 4 * r + 2 * (c % 2) : out + c * 32 + 2 * r, rows + 2 * (C * r + c), 2);
}

void panel_pack(uint8_t *out, enum panel_kind kind, const ern_view *w, size_t panel) {
    if (kind >= PANEL_N_INT) {
        pack_16_bit(out, kind == PANEL_BF16, w, panel);
        return;
    }
    const panel_info *p = &infos[kind];
    const ern_dtype_info *d = dtype_info(p->dtype);
    const size_t R = w->dims[0], C = w->dims[1], row_bytes = view_row_bytes(w);
    _Alignas(64) uint8_t q[PANEL_ROWS * MAX_UNIT];
    for (size_t c = 0; c < C; c += p->unit_n, out += p->unit_bytes) {
        const bool is_whole = panel * PANEL_ROWS + PANEL_ROWS <= R && c + p->unit_n <= C;
        if (!is_whole) {
            memset(q, 0, sizeof q);
            memset(out, 0, p->unit_bytes);
        }
        for (size_t r = 0; r < PANEL_ROWS && panel * PANEL_ROWS + r < R; r++) {
            const uint8_t *b = (const uint8_t *)w->data + (panel * PANEL_ROWS + r) * row_bytes + c / d->block_n *
                d->block_bytes;
            for (size_t n = 0; n < p->unit_n / d->block_n && c + n * d->block_n < C; n++, b += d->block_bytes) {
                codes_of(q + r * MAX_UNIT + n * d->block_n, kind, b);
                scales_of(out, kind, b, n, r);
            }
        }
        put_codes(out, kind, q);
    }
}
