/* Packed products on tiles of 16 tokens by 16 rows. The file that includes this defines tile_begin(shape), tile_end() and
 * TILE_ZERO, TILE_LOAD, TILE_STORE, TILE_DP_I8, TILE_DP_BF16: the instructions, or in the test a model of them.
 *
 * 8 bits: a group of 4 columns lies in a panel as a row of the right-hand tile; a block (or half block) is one product of
 * depth 32 (16), whose integers are scaled and added in the order of panel_tile.h: the results have the same bits as with
 * VNNI.
 * bf16: the tile sums all columns itself, for one token as for many.
 * Tiles of the 8-bit products: 0 and 1 sums, 2 and 3 activations, 4 and 5 weights. */
#define AMX_M 16
#define AMX_MIN_T 8         /* below, vectors are faster */

typedef struct { uint8_t palette, start, zero[14]; uint16_t row_bytes[16]; uint8_t rows[16]; } amx_shape;

/* M tokens by 16 rows, depth_bytes of activations at a time. */
static amx_shape shape_of(size_t M, size_t depth_bytes) {
    amx_shape s = { .palette = 1 };
    for (size_t i = 0; i < 2; i++) {
        s.rows[i] = s.rows[2 + i] = (uint8_t)M;
        s.rows[4 + i] = (uint8_t)(depth_bytes / 4);
        s.row_bytes[i] = s.row_bytes[4 + i] = 64;
        s.row_bytes[2 + i] = (uint16_t)depth_bytes;
    }
    return s;
}

/* Signed codes of one panel with their scales, blocks as in panel_load.h's buffer. */
INLINE void unpack_signed(int kind, uint8_t *out, const uint8_t *u, size_t n_blocks) {
    const int n_halves = kind_is_16(kind) ? 2 : 1, shift = kind_shift(kind);
    const char minus = (char)(kind_is_wide(kind) ? 128 : shift == 31 ? 0 : 128 >> shift);
    for (size_t at = 0; at < n_blocks; at += kind_unit_blocks(kind), u += kind_unit_bytes(kind))
        for (size_t b = 0; b < kind_unit_blocks(kind); b++, out += buf_bytes(kind)) {
#pragma GCC unroll 8
            for (size_t g = 0; g < 8; g++)
                v_store(out + 64 * g, _mm512_sub_epi8(load_group(kind, u, b, g, 0), v_byte(minus)));
            for (int i = 0; i < n_halves; i++) {
                v_storef(out + 512 + 64 * i, load_scale(kind, u, b, (size_t)i, 0));
                if (kind_has_min(kind)) v_storef(out + 512 + 64 * (n_halves + i), load_min(kind, u, b, (size_t)i, 0));
            }
        }
}

/* 16 tokens: where their codes of block 0 start and how far apart tokens and blocks are. */
typedef struct { const act_block *token[AMX_M]; const int8_t *q; size_t token_bytes, block_bytes; } amx_tokens;

/* The integer sums of (half) block number at to c[16][16], with tile n for them, x for activations and v for weights. */
#define AMX_BLOCK(n, x, v, c, at)                                                                                   \
    do {                                                                                                            \
        TILE_ZERO(n);                                                                                               \
        TILE_LOAD(x, t->q + (at) / n_halves * t->block_bytes + (at) % n_halves * depth, t->token_bytes);            \
        TILE_LOAD(v, w + (at) / n_halves * buf_bytes(kind) + (at) % n_halves * 256, 64);                            \
        TILE_DP_I8(n, x, v);                                                                                        \
        TILE_STORE(n, c, 64);                                                                                       \
    } while (0)

/* The integers of block b, one sum or two, into acc. */
INLINE void amx_scale(int kind, vf *acc, int32_t (*c)[AMX_M * 16], const uint8_t *w, const amx_tokens *t, size_t b) {
    const size_t n_halves = kind_is_16(kind) ? 2 : 1;
    const uint8_t *part = w + b * buf_bytes(kind) + 512;
    const vf scale0 = v_loadf(part), scale1 = n_halves == 2 ? v_loadf(part + 64) : scale0;
#pragma GCC unroll 16
    for (size_t m = 0; m < AMX_M; m++) {
        const act_block *x = t->token[m] + b;
        vf scaled = v_mul(scale0, v_cvt(v_load(c[0] + 16 * m)));
        if (n_halves == 2) scaled = v_fma(scale1, v_cvt(v_load(c[1] + 16 * m)), scaled);
        acc[m] = v_fma(scaled, v_float(x->d), acc[m]);
        for (size_t i = 0; kind_has_min(kind) && i < n_halves; i++)
            acc[m] = v_fma(v_loadf(part + 64 * (n_halves + i)), v_float(min_factor(kind, x, i)), acc[m]);
    }
}

INLINE void amx_tile(int kind, const uint8_t *w, size_t n_blocks, const amx_tokens *t, float *const *y, size_t M,
                     size_t row, size_t R) {
    _Alignas(64) int32_t c[2][AMX_M * 16];     /* two blocks, or the halves of one */
    const size_t n_halves = kind_is_16(kind) ? 2 : 1, depth = 32 / n_halves, n = n_blocks * n_halves;
    vf acc[AMX_M];
    for (size_t m = 0; m < AMX_M; m++) acc[m] = v_float(0);
    for (size_t at = 0; at < n; at += 2) {          /* units hold an even number of blocks */
        AMX_BLOCK(0, 2, 4, c[0], at);
        AMX_BLOCK(1, 3, 5, c[1], at + 1);
        amx_scale(kind, acc, c, w, t, at / n_halves);
        if (n_halves == 1) amx_scale(kind, acc, c + 1, w, t, at + 1);
    }
    const __mmask16 rows = (__mmask16)(R - row >= 16 ? 0xffff : (1u << (R - row)) - 1);
    for (size_t m = 0; m < M; m++) _mm512_mask_storeu_ps(y[m] + row, rows, acc[m]);
}

/* Evenly spaced tokens are read where they are; others, and the last few, are copied side by side. */
static void set_tokens(amx_tokens *t, const act_block *const *act, size_t M, size_t n_blocks, int8_t *copy) {
    const uintptr_t step = M > 1 ? (uintptr_t)act[1] - (uintptr_t)act[0] : 0;
    bool is_even = M == AMX_M;
    for (size_t m = 1; m < M; m++) is_even = is_even && (uintptr_t)act[m] - (uintptr_t)act[m - 1] == step;
    for (size_t m = 0; m < AMX_M; m++) t->token[m] = act[m < M ? m : M - 1];
    t->q = is_even ? act[0]->q : copy;
    t->token_bytes = is_even ? step : 32;
    t->block_bytes = is_even ? sizeof(act_block) : AMX_M * 32;
    if (is_even) return;
    for (size_t b = 0; b < n_blocks; b++)
        for (size_t m = 0; m < AMX_M; m++) memcpy(copy + (b * AMX_M + m) * 32, t->token[m][b].q, 32);
}

#define AMX_FORMAT(kind, dtype, unit_n, unit_bytes, shift, run, min)                                                       \
    static void amx_unpack_##kind(uint8_t *out, const uint8_t *u, size_t n_blocks) {                                       \
        unpack_signed(PANEL_##kind, out, u, n_blocks);                                                                     \
    }
PANEL_MAP(AMX_FORMAT)

/* One tile function a form of the buffer: signed codes make the wide and the narrow one the same. */
#define AMX_TILE(buf)                                                                                                      \
    static void amx_tile_##buf(const uint8_t *w, size_t n_blocks, const amx_tokens *t, float *const *y, size_t M,          \
                               size_t row, size_t R) {                                                                     \
        amx_tile(buf, w, n_blocks, t, y, M, row, R);                                                                       \
    }
AMX_TILE(BUF_32)
AMX_TILE(BUF_32M)
AMX_TILE(BUF_16)
AMX_TILE(BUF_16M)

typedef struct {
    void (*unpack)(uint8_t *out, const uint8_t *u, size_t n_blocks);
    void (*tile)(const uint8_t *w, size_t n_blocks, const amx_tokens *t, float *const *y, size_t M, size_t row, size_t R);
    size_t buf_bytes, depth;
} amx_fns;

INLINE amx_fns amx_fns_of(int kind) {
    switch (kind) {
#define X(kind, dtype, unit_n, unit_bytes, shift, run, min)                                                                \
    case PANEL_##kind:                                                                                                     \
        return (amx_fns){ amx_unpack_##kind,                                                                               \
                          (run) == 16 ? ((min) ? amx_tile_BUF_16M : amx_tile_BUF_16)                                       \
                                      : (min) ? amx_tile_BUF_32M : amx_tile_BUF_32,                                        \
                          buf_bytes(PANEL_##kind), run };
    PANEL_MAP(X)
#undef X
    default: return (amx_fns){ 0 };
    }
}

static void amx_gemm(const panel_job *j, size_t p0, size_t p1) {
    const ern_matrix *w = j->w;
    if (j->T < AMX_MIN_T) { panels_vnni.gemm(j, p0, p1); return; }
    const panel_info *info = panel_info_of((enum panel_kind)w->kind);
    const amx_fns f = amx_fns_of(w->kind);
    const size_t n_blocks = w->panel_bytes / info->unit_bytes * (info->unit_n / 32);
    const amx_shape shape = shape_of(AMX_M, f.depth);
    int8_t *copy = (int8_t *)j->buffer + n_blocks * f.buf_bytes;
    tile_begin(&shape);
    for (size_t p = p0; p < p1; p++) {
        f.unpack(j->buffer, w->packed + p * w->panel_bytes, n_blocks);
        for (size_t t = 0; t < j->T; t += AMX_M) {
            const size_t M = j->T - t < AMX_M ? j->T - t : AMX_M;
            amx_tokens tokens;
            set_tokens(&tokens, (const act_block *const *)(const void *)j->act + t, M, n_blocks, copy);
            f.tile(j->buffer, n_blocks, &tokens, j->y + t, M, p * PANEL_ROWS, w->R);
        }
    }
    tile_end();
}

/* ---- bf16 --------------------------------------------------------------------------------------- */

#define PAIRS 16            /* of columns a product */

#define STEP_BYTES (PAIRS * 64)

/* The activations of M tokens side by side, [n_steps][rows][32], zeros past M and C. */
static void bf16_tokens(uint16_t *copy, const uint16_t *const *act, size_t M, size_t rows, size_t C) {
    for (size_t c = 0; c < C; c += 2 * PAIRS)
        for (size_t m = 0; m < rows; m++, copy += 2 * PAIRS) {
            const size_t n = m >= M ? 0 : C - c < 2 * PAIRS ? C - c : 2 * PAIRS;
            memcpy(copy, act[m < M ? m : 0] + c, 2 * n);
            memset(copy + n, 0, 2 * (2 * PAIRS - n));
        }
}

static void bf16_store(const float *c, float *const *y, size_t M, size_t row, size_t R) {
    const __mmask16 rows = (__mmask16)(R - row >= 16 ? 0xffff : (1u << (R - row)) - 1);
    for (size_t m = 0; m < M; m++) _mm512_mask_storeu_ps(y[m] + row, rows, _mm512_load_ps(c + 16 * m));
}

/* Two panels and one or two tiles of tokens: independent sums hide the latency of a product. Tiles 0 to 3 sums, 4 and 5
 * activations, 6 and 7 weights. tails: the last step of each panel, padded with zeros, or NULL. */
INLINE void bf16_strip(bool is_wide, float c[4][AMX_M * 16], const uint8_t *const *panel, const uint8_t *const *tails,
                       size_t n_steps,
                       const uint8_t *x, size_t x_step) {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (size_t s = 0; s < n_steps; s++, x += x_step) {
        const bool is_tail = tails && s + 1 == n_steps;
        const uint8_t *w0 = is_tail ? tails[0] : panel[0] + s * STEP_BYTES,
            *w1 = is_tail ? tails[1] : panel[1] + s * STEP_BYTES;
        for (size_t i = 0; i < STEP_BYTES; i += 64) {
            v_prefetch(panel[0] + s * STEP_BYTES + 4096 + i);
            v_prefetch(panel[1] + s * STEP_BYTES + 4096 + i);
        }
        TILE_LOAD(4, x, 64);
        TILE_LOAD(6, w0, 64);
        TILE_DP_BF16(0, 4, 6);
        TILE_LOAD(7, w1, 64);
        TILE_DP_BF16(1, 4, 7);
        if (!is_wide) continue;
        TILE_LOAD(5, x + AMX_M * 64, 64);
        TILE_DP_BF16(2, 5, 6);
        TILE_DP_BF16(3, 5, 7);
    }
    TILE_STORE(0, c[0], 64);
    TILE_STORE(1, c[1], 64);
    if (!is_wide) return;
    TILE_STORE(2, c[2], 64);
    TILE_STORE(3, c[3], 64);
}

static amx_shape bf16_shape(size_t M) {
    amx_shape s = { .palette = 1 };
    for (size_t i = 0; i < 8; i++) {
        s.rows[i] = (uint8_t)(i < 6 ? M : PAIRS);
        s.row_bytes[i] = 64;
    }
    return s;
}

/* Panels p and p + 1 (q: the second one that exists) for tokens t and on. */
static void bf16_panels(const panel_job *j, size_t p, size_t q, size_t t, size_t M, bool is_wide, size_t rows) {
    const ern_matrix *w = j->w;
    const size_t n_steps = (w->C + 2 * PAIRS - 1) / (2 * PAIRS), rest = (w->C + 1) / 2 % PAIRS;
    _Alignas(64) float c[4][AMX_M * 16];
    _Alignas(64) uint8_t tail[2][STEP_BYTES];
    const uint8_t *panel[2] = { w->packed + p * w->panel_bytes, w->packed + q * w->panel_bytes },
        *tails[2] = { tail[0], tail[1] };
    for (size_t i = 0; rest && i < 2; i++) {
        memset(tail[i], 0, STEP_BYTES);
        memcpy(tail[i], panel[i] + (n_steps - 1) * STEP_BYTES, rest * 64);
    }
    if (is_wide) bf16_strip(true, c, panel, rest ? tails : NULL, n_steps, j->buffer, rows * 64);
    else bf16_strip(false, c, panel, rest ? tails : NULL, n_steps, j->buffer, rows * 64);
    for (size_t i = 0; i < (is_wide ? 4u : 2u); i++) {
        const size_t first = i / 2 * AMX_M, row = (i % 2 ? q : p) * PANEL_ROWS, n = M > first ? M - first : 0;
        bf16_store(c[i], j->y + t + first, n < AMX_M ? n : AMX_M, row, w->R);
    }
}

static void amx_gemm_bf16(const panel_job *j, size_t p0, size_t p1) {
    for (size_t t = 0; t < j->T; t += 2 * AMX_M) {
        const size_t M = j->T - t < 2 * AMX_M ? j->T - t : 2 * AMX_M, rows = M > AMX_M ? 2 * AMX_M : M;
        const amx_shape shape = bf16_shape(M > AMX_M ? AMX_M : M);
        bf16_tokens(j->buffer, (const uint16_t *const *)(const void *)j->act + t, M, rows, j->w->C);
        tile_begin(&shape);
        for (size_t p = p0; p < p1; p += 2) bf16_panels(j, p, p + 1 < p1 ? p + 1 : p, t, M, M > AMX_M, rows);
        tile_end();
    }
}
