/* The product of panels (matmul_panel.h) with tokens, for one vector width; the file that includes this defines
 *   vi, vf, LANES (rows a vector), V_HALVES (vectors a panel), TILE_M, TILE_N and the v_ operations used below;
 *   dp8(sum, u, a): sum + (u - 128) . a, started by start8(n), and dp7(sum, u, a): sum + u . a for u < 128.
 * The sum of a result: blocks in order, f = fma(scale * integer sum, d, f) - or with half blocks
 * f = fma(fma(scale 1, sum 1, scale 0 * sum 0), d, f) - then f = fma(min, dn, f) for each minimum, whatever the tile: so
 * T and the split of panels never change a bit.
 * Letters: M tokens of a tile, N vectors of rows of a tile. */
#include "kernels/panel_load.h"

#define NEAR 4096
#define HALF_TILE_M 5       /* most tokens a tile where blocks have two scales: more would not fit in the registers */

/* Up to this number of tiles weights are unpacked in each of them, beyond it once into a buffer. Writing and reading the
 * buffer costs about 45 cycles for 32 rows by 32 columns on Zen 5; unpacking again 0 to 3.5 cycles a token, by the
 * format. */
INLINE size_t direct_tiles(int kind) {
    switch (kind) {
    case PANEL_Q8: return SIZE_MAX;
    case PANEL_Q5: case PANEL_Q5M: case PANEL_Q5K: return 8;
    case PANEL_Q2K: case PANEL_Q3K: case PANEL_Q6K: return 3;
    default: return 20;
    }
}

/* Codes in two parts: their tiles are so long that the processor sees too little of the memory ahead. */
INLINE bool is_slow_to_unpack(int kind) { return direct_tiles(kind) < 20; }

INLINE vi start(int kind, int32_t n) {
    if (kind_is_wide(kind)) return start8(n);
    const int shift = kind_shift(kind);
    return shift == 31 ? v_int(0) : v_int(n >> shift);
}

INLINE int32_t piece(const act_block *a, size_t g) {
    int32_t v;
    memcpy(&v, a->q + 4 * g, sizeof v);
    return v;
}

/* The integer sums of (half) block i for M tokens and N row vectors. */
INLINE void sums_of(int kind, int M, int N, vi *sum, const uint8_t *const *u, size_t b, const act_block *const *a,
                    size_t at, size_t i) {
    const bool is_half = kind_is_16(kind);
    for (int m = 0; m < M; m++) {
        const act_block *x = a[m] + at;
        const vi s = start(kind, !is_half ? x->n : i == 0 ? x->n_lo : x->n - x->n_lo);
        for (int n = 0; n < N; n++) sum[m * N + n] = s;
    }
    const size_t g0 = is_half ? 4 * i : 0, g1 = is_half ? g0 + 4 : 8;
#pragma GCC unroll 8
    for (size_t g = g0; g < g1; g++) {
        vi w[TILE_N];
        for (int n = 0; n < N; n++) w[n] = load_group(kind, u[n], b, g, (size_t)n % V_HALVES);
        for (int m = 0; m < M; m++) {
            const vi x = v_int(piece(a[m] + at, g));
            for (int n = 0; n < N; n++)
                sum[m * N + n] = kind_is_wide(kind) ? dp8(sum[m * N + n], w[n], x) : dp7(sum[m * N + n], w[n], x);
        }
    }
}

/* One block for M tokens and N row vectors into acc. */
INLINE void block(int kind, int M, int N, vf *acc, const uint8_t *const *u, size_t b, const act_block *const *a, size_t at) {
    const size_t n_halves = kind_is_16(kind) ? 2 : 1;
    vf scaled[TILE_M * TILE_N];
    for (size_t i = 0; i < n_halves; i++) {
        vi sum[TILE_M * TILE_N];
        sums_of(kind, M, N, sum, u, b, a, at, i);
        for (int n = 0; n < N; n++) {
            const vf scale = load_scale(kind, u[n], b, i, (size_t)n % V_HALVES);
            for (int m = n; m < M * N; m += N)
                scaled[m] = i == 0 ? v_mul(scale, v_cvt(sum[m])) : v_fma(scale, v_cvt(sum[m]), scaled[m]);
        }
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) acc[m * N + n] = v_fma(scaled[m * N + n], v_float(a[m][at].d), acc[m * N + n]);
    for (size_t i = 0; kind_has_min(kind) && i < n_halves; i++)
        for (int n = 0; n < N; n++) {
            const vf min = load_min(kind, u[n], b, i, (size_t)n % V_HALVES);
            for (int m = 0; m < M; m++) acc[m * N + n] = v_fma(min, v_float(min_factor(kind, a[m] + at, i)), acc[m * N + n]);
        }
}

/* TILE_N vectors of rows, from row on, in one or two panels. ahead: what the next strip will read, asked for by
 * ahead_bytes a block, because the processor's own prefetching stops at every page of 4 KB and loses a third of the
 * bandwidth there.
 * near_bytes: the same for this strip, a few KB before it is needed; 0: it was asked for long ago. */
typedef struct {
    const uint8_t *panel[2], *ahead;
    size_t n_blocks, row, R, ahead_bytes, near_bytes;
} strip;

INLINE void tile(int kind, int M, const strip *s, const act_block *const *a, float *const *y) {
    enum { N = TILE_N };
    vf acc[TILE_M * N];
    const uint8_t *u[N], *ahead = s->ahead;
    for (int i = 0; i < M * N; i++) acc[i] = v_float(0);
    for (int n = 0; n < N; n++) u[n] = s->panel[(size_t)n / V_HALVES];
    const size_t n_in = kind_unit_blocks(kind);
    for (size_t at = 0; at < s->n_blocks; at += n_in) {
        for (size_t b = 0; b < n_in; b++) {
            for (size_t i = 0; i < s->ahead_bytes; i += 64) v_prefetch(ahead + i);
            ahead += s->ahead_bytes;
            for (size_t i = 0; i < s->near_bytes; i += 64)
                for (int n = 0; n < N; n += (int)V_HALVES) v_prefetch_l1(u[n] + b * s->near_bytes + NEAR + i);
            block(kind, M, N, acc, u, b, a, at + b);
        }
        for (int n = 0; n < N; n++) u[n] += kind_unit_bytes(kind);
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            const size_t r = s->row + (size_t)n * LANES;
            if (r + LANES <= s->R) v_storef(y[m] + r, acc[m * N + n]);
            else if (r < s->R) {
                float tail[LANES];
                v_storef(tail, acc[m * N + n]);
                memcpy(y[m] + r, tail, (s->R - r) * sizeof(float));
            }
        }
}

INLINE void strip_any(int kind, const strip *s, size_t M, const act_block *const *a, float *const *y) {
    switch (M) {
    case 1: tile(kind, 1, s, a, y); break;
    case 2: tile(kind, 2, s, a, y); break;
    case 3: tile(kind, TILE_M > 2 ? 3 : 1, s, a, y); break;
    case 4: tile(kind, TILE_M > 3 ? 4 : 1, s, a, y); break;
    case 5: tile(kind, TILE_M > 3 ? 5 : 1, s, a, y); break;
    default: tile(kind, TILE_M > 3 ? 6 : 1, s, a, y); break;
    }
}

/* ---- many tokens: panels unpacked once into the buffer ------------------------------------------ */

INLINE int buf_of(int kind) {
    if (kind_is_wide(kind)) return BUF_WIDE;
    return kind_is_16(kind) ? (kind_has_min(kind) ? BUF_16M : BUF_16) : kind_has_min(kind) ? BUF_32M : BUF_32;
}

INLINE void unpack(int kind, uint8_t *out, const uint8_t *u, size_t n_blocks) {
    const int n_halves = kind_is_16(kind) ? 2 : 1, shift = kind_shift(kind);
    const char add = (char)(kind_is_wide(kind) || shift == 31 ? 0 : 32 - (128 >> shift));
    for (size_t at = 0; at < n_blocks; at += kind_unit_blocks(kind), u += kind_unit_bytes(kind))
        for (size_t b = 0; b < kind_unit_blocks(kind); b++, out += buf_bytes(kind))
            for (size_t half = 0; half < V_HALVES; half++) {
#pragma GCC unroll 8
                for (size_t g = 0; g < 8; g++)
                    v_store(out + 64 * g + half * LANES * 4, v_add8(load_group(kind, u, b, g, half), v_byte(add)));
                for (int i = 0; i < n_halves; i++) {
                    uint8_t *scale = out + 512 + 64 * i + half * LANES * 4;
                    v_storef(scale, load_scale(kind, u, b, (size_t)i, half));
                    if (kind_has_min(kind)) v_storef(scale + 64 * n_halves, load_min(kind, u, b, (size_t)i, half));
                }
            }
}

#define STRIP(buf)                                                                                          \
    static void strip_##buf(const strip *s, size_t M, const act_block *const *a, float *const *y) {         \
        strip_any(buf, s, M, a, y);                                                                         \
    }
STRIP(BUF_WIDE)
STRIP(BUF_32)
STRIP(BUF_32M)
STRIP(BUF_16)
STRIP(BUF_16M)

/* ---- one format: its functions ------------------------------------------------------------------ */

typedef void (*strip_fn)(const strip *s, size_t M, const act_block *const *a, float *const *y);
typedef struct {
    strip_fn direct, buffered;
    void (*unpack)(uint8_t *out, const uint8_t *u, size_t n_blocks);
    size_t buf_bytes;       /* a block */
} kind_fns;

#define FORMAT(kind, dtype, unit_n, unit_bytes, shift, run, min)                                            \
    static void direct_##kind(const strip *s, size_t M, const act_block *const *a, float *const *y) {       \
        strip_any(PANEL_##kind, s, M, a, y);                                                                \
    }                                                                                                       \
    static void unpack_##kind##_panel(uint8_t *out, const uint8_t *u, size_t n_blocks) {                    \
        unpack(PANEL_##kind, out, u, n_blocks);                                                             \
    }
PANEL_MAP(FORMAT)

static strip_fn strip_of(int buf) {
    switch (buf) {
    case BUF_WIDE: return strip_BUF_WIDE;
    case BUF_32: return strip_BUF_32;
    case BUF_32M: return strip_BUF_32M;
    case BUF_16: return strip_BUF_16;
    default: return strip_BUF_16M;
    }
}

static kind_fns fns_of(int kind) {
    switch (kind) {
#define X(kind, dtype, unit_n, unit_bytes, shift, run, min)                                                 \
    case PANEL_##kind:                                                                                      \
        return (kind_fns){ direct_##kind, strip_of(buf_of(PANEL_##kind)), unpack_##kind##_panel,            \
                           buf_bytes(buf_of(PANEL_##kind)) };
    PANEL_MAP(X)
#undef X
    default: return (kind_fns){ 0 };
    }
}

static void gemm(const panel_job *j, size_t p0, size_t p1) {
    const ern_matrix *w = j->w;
    const act_block *const *act = (const act_block *const *)(const void *)j->act;
    const panel_info *info = panel_info_of((enum panel_kind)w->kind);
    const kind_fns f = fns_of(w->kind);
    const size_t n_blocks = w->panel_bytes / info->unit_bytes * (info->unit_n / 32), per_strip = TILE_N / V_HALVES;
    const size_t tile_m = info->run == 16 && TILE_M > 4 ? 4 : TILE_M, n_tiles = (j->T + tile_m - 1) / tile_m;
    const bool is_direct = n_tiles <= direct_tiles(w->kind);
    uint8_t *second = (uint8_t *)j->buffer + (per_strip - 1) * n_blocks * f.buf_bytes;
    for (size_t p = p0; p < p1; p += per_strip) {
        const uint8_t *panel = w->packed + p * w->panel_bytes;
        const bool is_pair = per_strip == 2 && p + 1 < p1;
        const size_t strip_bytes = per_strip * w->panel_bytes;
        strip s = { .panel = { panel, is_pair ? panel + w->panel_bytes : panel }, .n_blocks = n_blocks,
                    .row = p * PANEL_ROWS,
                    .R = is_pair || w->R < (p + 1) * PANEL_ROWS ? w->R : (p + 1) * PANEL_ROWS };
        if (!is_direct) {
            f.unpack(j->buffer, panel, n_blocks);
            if (is_pair) f.unpack(second, panel + w->panel_bytes, n_blocks);
            s.panel[0] = j->buffer;
            s.panel[1] = is_pair ? second : j->buffer;
        }
        const uint8_t *end = p + per_strip < p1 ? panel + 2 * strip_bytes : panel;
        const size_t share = (strip_bytes / ((n_tiles > 1 ? n_tiles - 1 : 1) * n_blocks) + 63) / 64 * 64;
        s.ahead = panel + strip_bytes;
        for (size_t i = 0; i < n_tiles; i++) {
            const size_t t0 = j->T * i / n_tiles, t1 = j->T * (i + 1) / n_tiles;
            s.ahead_bytes = (i > 0 || n_tiles == 1) && s.ahead < end ? share : 0;
            const bool is_near = is_direct && i == 0 && (p == p0 || n_tiles > 1 || is_slow_to_unpack(w->kind));
            s.near_bytes = is_near ? (w->panel_bytes / n_blocks + 63) / 64 * 64 : 0;
            (is_direct ? f.direct : f.buffered)(&s, t1 - t0, act + t0, j->y + t0);
            s.ahead += n_blocks * s.ahead_bytes;
        }
    }
}
