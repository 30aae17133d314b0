#include "engine/probe.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "kernels/matrix.h"

#define MATRIX_BYTES ((size_t)192 << 20)        /* well beyond the caches of the machines we know */
#define PREFILL_ROWS 256                        /* tokens of one block */
#define PREFILL_OUT 1024
#define MIN_SECONDS 0.08
#define MAX_ROUNDS 64
#define FILL 0x3C                               /* every format's scale becomes a small normal number */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Products per second with a matrix [R, C] and T rows; the best round counts: others on the machine only slow it. */
static bool time_products(const ern_kernels *k, ern_pool *pool, enum ern_dtype t, const void *data, size_t R, size_t C,
                          size_t T, double *per_s, ern_err *e) {
    const ern_dtype_info *info = dtype_info(t);
    const ern_view view = { .name = "probe", .dtype = t, .n_dims = 2, .dims = { R, C }, .data = data,
                            .size_bytes = R * (C / info->block_n) * info->block_bytes };
    ern_matrix w = matrix_of(&view);
    void *scratch = NULL;
    bool ok = false;
    double best = 0.0;
    float *x = mem_zalloc(T * C, sizeof *x, "probe", e), *y = x ? mem_zalloc(T * R, sizeof *y, "probe", e) : NULL;
    const size_t scratch_bytes = (matmul_many_bytes(pool, T, C, T) + 63) / 64 * 64;
    if (!y || !matrix_pack(&w, k, pool, NULL, NULL, NULL, e)) goto out;
    if (posix_memalign(&scratch, 64, scratch_bytes ? scratch_bytes : 64) != 0) {
        scratch = NULL;
        ern_fail(e, ERN_NOMEM, "probe: no memory for %zu bytes", scratch_bytes);
        goto out;
    }
    for (size_t i = 0; i < T * C; i++) x[i] = (float)(i % 7) * 0.25f - 0.75f;
    const matmul_input in = { .x = x, .stride = C, .n_rows = T, .C = C };
    const matmul_item item = { .w = &w, .y = y, .y_stride = R, .T = T };
    const double start = seconds();
    for (size_t round = 0; round < MAX_ROUNDS && (round < 2 || seconds() - start < MIN_SECONDS); round++) {
        const double from = seconds();
        matmul_many(k, pool, &in, 1, &item, 1, false, scratch);
        const double spent = seconds() - from;
        if (spent > 0.0 && 1.0 / spent > best) best = 1.0 / spent;
    }
    *per_s = best;
    ok = true;
out:
    matrix_deinit(&w);
    free(scratch);
    free(x);
    free(y);
    return ok;
}

bool probe_type(const ern_kernels *k, ern_pool *pool, enum ern_dtype t, size_t n_cols, probe_speed *out, ern_err *e) {
    const ern_dtype_info *info = dtype_info(t);
    const size_t C = n_cols ? (n_cols + info->block_n - 1) / info->block_n * info->block_n : info->block_n;
    const size_t row_bytes = C / info->block_n * info->block_bytes, R = MATRIX_BYTES / row_bytes;
    double decode, prefill;
    if (!info->to_f32) return ern_fail(e, ERN_MISSING, "probe: no arithmetic with type %s", info->name);
    if (R < PREFILL_OUT) return ern_fail(e, ERN_LIMIT, "probe: rows of %zu columns are too long to measure", C);
    uint8_t *data = malloc(R * row_bytes);
    if (!data) return ern_fail(e, ERN_NOMEM, "probe: no memory for %zu bytes", R * row_bytes);
    memset(data, FILL, R * row_bytes);
    const bool ok = time_products(k, pool, t, data, PREFILL_OUT, C, PREFILL_ROWS, &prefill, e) &&
                    time_products(k, pool, t, data, R, C, 1, &decode, e);
    free(data);
    if (ok) *out = (probe_speed){ decode * (double)(R * row_bytes), prefill * (double)(PREFILL_OUT * C * PREFILL_ROWS) };
    return ok;
}

struct reading { const uint64_t *data; size_t n; uint64_t sums[256]; };

static void read_part(void *ctx, size_t thread, size_t n_threads) {
    struct reading *r = ctx;
    size_t from, to;
    uint64_t sums[8] = { 0 };
    pool_part(r->n, 8, thread, n_threads, &from, &to);
    for (size_t i = from; i + 8 <= to; i += 8)
        for (size_t j = 0; j < 8; j++) sums[j] += r->data[i + j];
    for (size_t j = 1; j < 8; j++) sums[0] += sums[j];
    r->sums[thread % 256] = sums[0];            /* so that the loop is not optimised away */
}

bool probe_read(ern_pool *pool, double *bytes_per_s, ern_err *e) {
    struct reading r = { .n = 2 * MATRIX_BYTES / sizeof(uint64_t) };
    double best = 0.0;
    uint64_t *data = malloc(2 * MATRIX_BYTES);
    if (!data) return ern_fail(e, ERN_NOMEM, "probe: no memory for %zu bytes", 2 * MATRIX_BYTES);
    memset(data, FILL, 2 * MATRIX_BYTES);
    r.data = data;
    for (size_t round = 0; round < 5; round++) {
        const double from = seconds();
        pool_run(pool, read_part, &r);
        const double spent = seconds() - from;
        if (spent > 0.0 && 2.0 * (double)MATRIX_BYTES / spent > best) best = 2.0 * (double)MATRIX_BYTES / spent;
    }
    free(data);
    *bytes_per_s = best;
    return true;
}
