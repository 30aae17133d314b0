/* Attention on tiles of 16 rows by 16 keys, or 16 dimensions (AMX bf16). The file that includes this defines tile_begin(shape),
 * tile_end() and TILE_ZERO, TILE_LOAD, TILE_STORE, TILE_DP_BF16: the instructions, or in the test a model of them. A tile of
 * keys or values in memory is the right-hand tile as it lies. Tiles: 0 to 3 sums, 4 rows, 5 to 7 keys or values. */
#define ATT_ROWS 16
#include "kernels/x86/attention_bf16.inc"

#include "kernels/attention_softmax.inc"

typedef struct { uint8_t palette, start, zero[14]; uint16_t row_bytes[16]; uint8_t rows[16]; } tile_shape;

static void begin_rows(size_t R) {
    tile_shape s = { .palette = 1 };
    for (size_t i = 0; i < 8; i++) {
        s.rows[i] = (uint8_t)(i < 5 ? R : 16);
        s.row_bytes[i] = 64;
    }
    tile_begin(&s);
}

/* [n_rows][D] */
static void pack_rows(const attention_rows *t, const float *q) {
    uint16_t *to = t->q;
    for (size_t i = 0; i < t->n_rows * t->D; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(to + i), (__m256i)_mm512_cvtneps_pbh(vf_load(q + i)));
}

static void fetch_lines(const char *at, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i += 64) __builtin_prefetch(at + i);
}

/* s[R][64 keys, or 32 of them] */
static void score_tiles(float *s, const char *q, const char *k, size_t D, bool is_half, ahead a) {
    const size_t tile = ATTENTION_TILE * 2 * D;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (size_t c = 0; c < D / 32; c++, q += 64, k += 1024, a.at += a.hop) {
        fetch_lines(a.at, a.hop);
        TILE_LOAD(4, q, 2 * D);
        TILE_LOAD(5, k, 64);
        TILE_DP_BF16(0, 4, 5);
        TILE_LOAD(6, k + tile, 64);
        TILE_DP_BF16(1, 4, 6);
        if (is_half) continue;
        TILE_LOAD(7, k + 2 * tile, 64);
        TILE_DP_BF16(2, 4, 7);
        TILE_LOAD(5, k + 3 * tile, 64);
        TILE_DP_BF16(3, 4, 5);
    }
    TILE_STORE(0, s, 4 * STRIDE);
    TILE_STORE(1, s + 16, 4 * STRIDE);
    if (is_half) return;
    TILE_STORE(2, s + 32, 4 * STRIDE);
    TILE_STORE(3, s + 48, 4 * STRIDE);
}

/* o[R][64 dimensions, or 32 of them] += weights of n keys, in steps of 32, times values */
static void weigh_tiles(float *o, const char *p, const char *v, size_t n, size_t D, bool is_half, ahead a) {
    TILE_LOAD(0, o, 4 * D);
    TILE_LOAD(1, o + 16, 4 * D);
    if (!is_half) {
        TILE_LOAD(2, o + 32, 4 * D);
        TILE_LOAD(3, o + 48, 4 * D);
    }
    for (size_t key = 0; key < n; key += 32, p += 64, v += 64 * D, a.at += a.hop) {
        fetch_lines(a.at, a.hop);
        TILE_LOAD(4, p, 4 * STRIDE);
        TILE_LOAD(5, v, 4 * D);
        TILE_DP_BF16(0, 4, 5);
        TILE_LOAD(6, v + 64, 4 * D);
        TILE_DP_BF16(1, 4, 6);
        if (is_half) continue;
        TILE_LOAD(7, v + 128, 4 * D);
        TILE_DP_BF16(2, 4, 7);
        TILE_LOAD(5, v + 192, 4 * D);
        TILE_DP_BF16(3, 4, 5);
    }
    TILE_STORE(0, o, 4 * D);
    TILE_STORE(1, o + 16, 4 * D);
    if (is_half) return;
    TILE_STORE(2, o + 32, 4 * D);
    TILE_STORE(3, o + 48, 4 * D);
}

/* What is to be fetched during one of n_steps, by the first rows alone. */
static ahead first_rows(const void *at, size_t n_bytes, size_t n_steps, size_t r) {
    return (ahead){ at, r == 0 ? n_bytes / n_steps / 64 * 64 : 0 };
}

static void score_chunk(const attention_rows *t, size_t base) {
    const size_t D = t->D, top = seen(t, t->n_rows - 1, base);
    size_t shaped = 0;
    for (size_t part = 0; part < top; part += ATTENTION_PART) {
        const char *k = (const char *)keys_part(t, base + part, at_most(top - part, ATTENTION_PART)), *q = t->q;
        const bool is_last = part + ATTENTION_PART >= top;
        const char *next = is_last ? value_tile(t, base) : key_tile(t, base + part + ATTENTION_PART);
        const size_t next_bytes = PART_TILES * attention_tile_bytes(is_last ? t->v_type : t->k_type, D);
        for (size_t r = 0; r < t->n_rows; r += ATT_ROWS) {
            const size_t R = at_most(t->n_rows - r, ATT_ROWS), end = seen(t, r + R - 1, base);
            if (end <= part) continue;
            if (R != shaped) begin_rows(shaped = R);
            score_tiles(t->s + r * STRIDE + part, q + 2 * r * D, k, D, end - part <= 32, first_rows(next, next_bytes, D / 32, r));
        }
    }
    if (shaped) tile_end();
}

static void weigh_chunk(const attention_rows *t, size_t base) {
    const size_t D = t->D, top = seen(t, t->n_rows - 1, base);
    size_t shaped = 0;
    memset(t->o, 0, t->n_rows * D * sizeof *t->o);
    for (size_t part = 0; part < top; part += ATTENTION_PART) {
        const char *v = (const char *)values_part(t, base + part, at_most(top - part, ATTENTION_PART)), *p = (const char *)t->s;
        const bool is_last = part + ATTENTION_PART >= top;
        const char *next = is_last ? t->k_next : value_tile(t, base + part + ATTENTION_PART);
        const size_t next_bytes = PART_TILES * attention_tile_bytes(is_last ? t->k_type : t->v_type, D);
        for (size_t r = 0; r < t->n_rows; r += ATT_ROWS) {
            const size_t R = at_most(t->n_rows - r, ATT_ROWS), end = seen(t, r + R - 1, base);
            ahead a = first_rows(next, next_bytes, (D + 63) / 64 * 2, r);
            if (end <= part) continue;
            if (R != shaped) begin_rows(shaped = R);
            for (size_t c = 0; c < D; c += 64, a.at += 2 * a.hop)
                weigh_tiles(t->o + r * D + c, p + 4 * r * STRIDE + 2 * part, v + 4 * c, at_most(end - part, ATTENTION_PART), D,
                            D - c < 64, a);
        }
    }
    if (shaped) tile_end();
}

#include "kernels/x86/attention_int8.inc"
