/* Panels of 16-bit floats with tokens, for one vector width; after the v_ operations. The file that includes this may define
 * PAIR(acc, w, x): acc + the two products of bf16 pairs; then BF16 activations are bf16, else f32.
 * Every result has one accumulator, columns in order, so T and the split of panels never change a bit.
 * Letters: M tokens and N vectors of rows of a tile. */
#define FLOAT_AHEAD 4096

typedef struct { const uint8_t *at[FLOAT_N]; size_t C, row, R; } float_strip;

INLINE void float_store(int M, int N, const vf *acc, const float_strip *s, float *const *y) {
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

INLINE void float_tile(bool is_bf16, int M, int N, const float_strip *s, const void *const *act, float *const *y) {
    vf acc[FLOAT_M * FLOAT_N];
    for (int i = 0; i < M * N; i++) acc[i] = v_float(0);
    for (size_t c = 0; c < s->C; c += 2) {
        for (int n = 0; n < N; n += (int)V_HALVES) v_prefetch_l1(s->at[n] + 32 * c + FLOAT_AHEAD);
#ifdef PAIR
        if (is_bf16) {
            vi w[FLOAT_N];
            for (int n = 0; n < N; n++) w[n] = v_load(s->at[n] + 32 * c);
            for (int m = 0; m < M; m++) {
                int32_t pair;
                memcpy(&pair, (const uint16_t *)act[m] + c, sizeof pair);
                const vi x = v_int(pair);
                for (int n = 0; n < N; n++) acc[m * N + n] = PAIR(acc[m * N + n], w[n], x);
            }
            continue;
        }
#endif
        const size_t n_columns = s->C - c < 2 ? 1 : 2;
        for (size_t i = 0; i < n_columns; i++) {
            vf w[FLOAT_N];
            for (int n = 0; n < N; n++) {
                if (!is_bf16) w[n] = v_f16(s->at[n] + 32 * (c + i));
                else {
                    const vi two = v_load(s->at[n] + 32 * c);
                    w[n] = v_cast(i == 0 ? v_up(two, 16) : v_and(two, v_int((int32_t)0xffff0000)));
                }
            }
            for (int m = 0; m < M; m++) {
                const vf x = v_float(((const float *)act[m])[c + i]);
                for (int n = 0; n < N; n++) acc[m * N + n] = v_fma(w[n], x, acc[m * N + n]);
            }
        }
    }
    float_store(M, N, acc, s, y);
}

INLINE void float_any(bool is_bf16, size_t M, const float_strip *s, const void *const *act, float *const *y) {
    switch (M) {
    case 1: float_tile(is_bf16, 1, FLOAT_N, s, act, y); break;
    case 2: float_tile(is_bf16, 2, FLOAT_N, s, act, y); break;
    case 3: float_tile(is_bf16, FLOAT_M > 2 ? 3 : 1, FLOAT_N, s, act, y); break;
    case 4: float_tile(is_bf16, FLOAT_M > 2 ? 4 : 1, FLOAT_N, s, act, y); break;
    case 5: float_tile(is_bf16, FLOAT_M > 4 ? 5 : 1, FLOAT_N, s, act, y); break;
    default: float_tile(is_bf16, FLOAT_M > 5 ? 6 : 1, FLOAT_N, s, act, y); break;
    }
}

/* A strip is FLOAT_N vectors of rows; past the last panel it repeats a panel whose results are dropped. */
INLINE void float_gemm(bool is_bf16, const panel_job *j, size_t p0, size_t p1) {
    const ern_matrix *w = j->w;
    const size_t per_strip = FLOAT_N / V_HALVES, n_tiles = (j->T + FLOAT_M - 1) / FLOAT_M;
    const size_t half_bytes = is_bf16 ? LANES * 4 : LANES * 2;
    for (size_t p = p0; p < p1; p += per_strip) {
        float_strip s = { .C = w->C, .row = p * PANEL_ROWS, .R = p1 * PANEL_ROWS < w->R ? p1 * PANEL_ROWS : w->R };
        for (size_t n = 0; n < FLOAT_N; n++) {
            const size_t q = p + n / V_HALVES;
            s.at[n] = w->packed + (q < p1 ? q : p) * w->panel_bytes + n % V_HALVES * half_bytes;
        }
        for (size_t i = 0; i < n_tiles; i++) {
            const size_t t0 = j->T * i / n_tiles, t1 = j->T * (i + 1) / n_tiles;
            float_any(is_bf16, t1 - t0, &s, j->act + t0, j->y + t0);
        }
    }
}
