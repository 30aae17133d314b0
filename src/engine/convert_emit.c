/* The bytes of one output tensor: copied, regrouped, transposed, turned into another number format. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/convert_int.h"
#include "tensor/quant.h"

#define CHUNK_VALUES ((size_t)1 << 20)          /* values that are converted at a time */
#define CHUNK_BYTES ((size_t)32 << 20)          /* of a transposed tensor, gathered at a time */
#define TILE 64                                 /* values a side of what is transposed at a time */

/* Rows of one part, being packed by all threads. */
typedef struct {
    const convert_tensor *t;
    const ern_view *part;
    const size_t *rows;         /* [n] which rows of the part, or NULL: first, first + 1, ... */
    size_t first, n, row_n;     /* row_n: values of a row */
    float *x, *back;            /* [n * row_n] */
    const float *importance;    /* [row_n] or NULL */
    uint8_t *out;
    atomic_bool is_rounded, has_failed;
    ern_err err;                /* of whoever set has_failed first */
} pack_job;

static size_t row_bytes(enum ern_dtype t, size_t n) { return n / dtype_info(t)->block_n * dtype_info(t)->block_bytes; }

static void pack_rows(void *ctx, size_t thread, size_t n_threads) {
    pack_job *j = ctx;
    size_t from, to;
    const enum ern_dtype src = j->part->dtype, dst = j->t->dtype;
    pool_part(j->n, 1, thread, n_threads, &from, &to);
    for (size_t i = from; i < to; i++) {
        float *x = j->x + i * j->row_n, *back = j->back + i * j->row_n;
        uint8_t *out = j->out + i * row_bytes(dst, j->row_n);
        ern_err err = { 0 };
        const size_t r = j->rows ? j->rows[i] : j->first + i;
        dtype_info(src)->to_f32(x, (const uint8_t *)j->part->data + r * row_bytes(src, j->row_n), j->row_n);
        if (!quant_row(dst, out, x, j->row_n, j->importance, &err)) {
            if (!atomic_exchange(&j->has_failed, true)) j->err = err;
            return;
        }
        dtype_info(dst)->to_f32(back, out, j->row_n);
        if (memcmp(x, back, j->row_n * sizeof *x) != 0) atomic_store(&j->is_rounded, true);
    }
}

/* out[n rows] of the output's type from rows of the part. */
static bool pack(convert_plan *p, const convert_tensor *t, const ern_view *part, const size_t *rows, size_t first, size_t n,
                 size_t row_n, float *x, uint8_t *out, bool *is_rounded, ern_err *e) {
    const convert_choice *choice = p->o->choice;
    pack_job j = { .t = t, .part = part, .rows = rows, .first = first, .n = n, .row_n = row_n, .x = x, .back = x + n * row_n,
                   .out = out };
    if (choice && choice->importance_of && dtype_info(t->dtype)->block_n > 1)
        j.importance = choice->importance_of(choice->ctx, t->name, (size_t)(part - &p->parts[t->first]));
    if (p->pool) pool_run(p->pool, pack_rows, &j);
    else pack_rows(&j, 0, 1);
    if (j.has_failed)
        return ern_fail(e, j.err.code, "%s: tensor %s: %.800s", source_path(p->source), part->name, j.err.text);
    *is_rounded |= j.is_rounded;
    return true;
}

/* Row of the source that becomes row r: d rows a head, pairs (i, i + d/2) side by side in GGUF. */
static size_t regrouped(size_t r, size_t d, bool to_gguf) {
    const size_t head = r / d * d, i = r % d;
    return head + (to_gguf ? i / 2 + i % 2 * (d / 2) : i < d / 2 ? 2 * i : 2 * (i - d / 2) + 1);
}

static bool emit_part(convert_plan *p, const convert_tensor *t, const ern_view *part, bool *is_rounded,
                      convert_sink sink, void *ctx,
                      ern_err *e) {
    bool ok = false;
    const bool is_vector = part->n_dims < 2;
    const size_t n = view_n(part), row_n = t->heads && is_vector ? 1 : part->n_dims ? part->dims[part->n_dims - 1] : 1;
    const size_t n_rows = row_n ? n / row_n : 0, width = row_bytes(part->dtype, row_n);
    if (part->dtype == t->dtype && !t->heads) return sink(ctx, part->data, part->size_bytes, e);
    if (t->heads && (n_rows % t->heads || n_rows / t->heads % 2))
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: %zu rows are no pairs in %zu heads", source_path(p->source),
                        part->name,
                        n_rows, t->heads);
    size_t at_once = row_n ? CHUNK_VALUES / row_n : 1;
    if (at_once == 0) at_once = 1;
    if (at_once > n_rows) at_once = n_rows;
    float *x = mem_zalloc(2 * at_once, row_n * sizeof *x, "conversion", e);
    size_t *rows = mem_zalloc(at_once, sizeof *rows, "conversion", e);
    uint8_t *out = mem_zalloc(at_once, width > row_bytes(t->dtype, row_n) ? width : row_bytes(t->dtype, row_n),
                              "conversion", e);
    if (!x || !rows || !out) goto out;
    for (size_t r = 0; r < n_rows; r += at_once) {
        const size_t count = n_rows - r < at_once ? n_rows - r : at_once;
        for (size_t i = 0; i < count; i++)
            rows[i] = t->heads ? regrouped(r + i, n_rows / t->heads, p->o->to == CONVERT_GGUF) : r + i;
        if (part->dtype == t->dtype) {
            for (size_t i = 0; i < count; i++) memcpy(out + i * width, (const uint8_t *)part->data + rows[i] * width, width);
        } else if (!pack(p, t, part, rows, r, count, row_n, x, out, is_rounded, e)) goto out;
        if (!sink(ctx, out, count * row_bytes(t->dtype, row_n), e)) goto out;
        const ern_view done = { .data = (const uint8_t *)part->data + r * width, .size_bytes = count * width };
        if (!t->heads && t->n_dims > 1) source_release(p->source, &done);
    }
    ok = true;
out:
    free(x);
    free(rows);
    free(out);
    return ok;
}

/* A part in the output's type and its own shape; *owned is NULL when the source's bytes will do. */
static bool whole_part(convert_plan *p, const convert_tensor *t, const ern_view *part, const uint8_t **bytes,
                       uint8_t **owned,
                       bool *is_rounded, ern_err *e) {
    const size_t row_n = part->dims[1], width = row_bytes(t->dtype, row_n);
    bool ok = false;
    *bytes = part->data;
    if (part->dtype == t->dtype) return true;
    size_t at_once = row_n ? CHUNK_VALUES / row_n : 1;
    if (at_once == 0) at_once = 1;
    uint8_t *all = mem_zalloc(part->dims[0], width, "conversion", e);
    float *x = mem_zalloc(2 * at_once, row_n * sizeof *x, "conversion", e);
    size_t *rows = mem_zalloc(at_once, sizeof *rows, "conversion", e);
    if (!all || !x || !rows) goto out;
    for (size_t r = 0; r < part->dims[0]; r += at_once) {
        const size_t count = part->dims[0] - r < at_once ? part->dims[0] - r : at_once;
        if (!pack(p, t, part, NULL, r, count, row_n, x, all + r * width, is_rounded, e)) goto out;
    }
    *bytes = *owned = all;
    all = NULL;
    ok = true;
out:
    free(all);
    free(x);
    free(rows);
    return ok;
}

/* Rows r0 .. r1 and n_c columns of the transposed tensor, out of rows of n_in values. A tile is read row by row into one
 * place and written row by row from there: the rows may be so far apart that they push each other out of the cache. */
static inline void turn(uint8_t *to, size_t to_row, const uint8_t *from, size_t n_in, size_t n_c, size_t r0, size_t r1,
                        size_t width) {
    uint8_t tile[TILE * TILE * 8];
    for (size_t c0 = 0; c0 < n_c; c0 += TILE)
        for (size_t r = r0; r < r1; r += TILE) {
            const size_t tile_c = n_c - c0 < TILE ? n_c - c0 : TILE, tile_r = r1 - r < TILE ? r1 - r : TILE;
            for (size_t c = 0; c < tile_c; c++)
                memcpy(tile + c * TILE * width, from + ((c0 + c) * n_in + r) * width, tile_r * width);
            for (size_t i = 0; i < tile_r; i++) {
                uint8_t *row = to + (r - r0 + i) * to_row + c0 * width;
                for (size_t c = 0; c < tile_c; c++) memcpy(row + c * width, tile + (c * TILE + i) * width, width);
            }
        }
}

/* to[r1 - r0][all rows of the parts]: rows r0 .. r1 of the transposed tensor. width: bytes of a value. */
static void gather(uint8_t *to, const convert_plan *p, const convert_tensor *t, const uint8_t *const *bytes, size_t r0,
                   size_t r1, size_t width) {
    const size_t to_row = t->dims[1] * width, n_in = t->dims[0];
    for (size_t i = 0, column = 0; i < t->n_parts; i++) {
        const size_t n_c = p->parts[t->first + i].dims[0];
        if (width == 2) turn(to + column * 2, to_row, bytes[i], n_in, n_c, r0, r1, 2);
        else if (width == 4) turn(to + column * 4, to_row, bytes[i], n_in, n_c, r0, r1, 4);
        else turn(to + column * width, to_row, bytes[i], n_in, n_c, r0, r1, width);
        column += n_c;
    }
}

static bool emit_transposed(convert_plan *p, const convert_tensor *t, bool *is_rounded, convert_sink sink, void *ctx,
                            ern_err *e) {
    bool ok = false;
    const size_t n_in = t->dims[0], width = dtype_info(t->dtype)->block_bytes, out_row = t->dims[1] * width;
    const uint8_t **bytes = mem_zalloc(t->n_parts, sizeof *bytes, "conversion", e);
    uint8_t **owned = mem_zalloc(t->n_parts, sizeof *owned, "conversion", e), *buffer = NULL;
    if (!bytes || !owned) goto out;
    for (size_t i = 0; i < t->n_parts; i++)
        if (!whole_part(p, t, &p->parts[t->first + i], &bytes[i], &owned[i], is_rounded, e)) goto out;
    size_t at_once = out_row ? CHUNK_BYTES / out_row : 1;
    if (at_once == 0) at_once = 1;
    if (at_once > n_in) at_once = n_in;
    if (!(buffer = mem_zalloc(at_once, out_row, "conversion", e))) goto out;
    for (size_t r = 0; r < n_in; r += at_once) {
        const size_t count = n_in - r < at_once ? n_in - r : at_once;
        gather(buffer, p, t, bytes, r, r + count, width);
        if (!sink(ctx, buffer, count * out_row, e)) goto out;
    }
    ok = true;
out:
    for (size_t i = 0; owned && i < t->n_parts; i++) free(owned[i]);
    free(owned);
    free(bytes);
    free(buffer);
    return ok;
}

/* ---- integers with one scale an output --------------------------------------------------------- */

/* The scale of a row: largest magnitude / 127 (or 7), rounded to f16 so that blocks of Q8_0 and Q4_0 hold it exactly. */
static float channel_scale(const float *x, size_t n, unsigned bits) {
    float top = 0.0f;
    for (size_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    return f16_to_f32(f32_to_f16(top / (bits == 8 ? 127.0f : 7.0f)));
}

static void channel_codes(uint8_t *out, const float *x, size_t n, unsigned bits, float scale) {
    const float limit = bits == 8 ? 127.0f : 7.0f;
    for (size_t i = 0; i < n; i++) {
        const float v = scale > 0.0f ? rintf(x[i] / scale) : 0.0f;
        const int q = (int)(v < -limit ? -limit : v > limit ? limit : v);
        if (bits == 8) out[i] = (uint8_t)q;
        else if (i % 2 == 0) out[i / 2] = (uint8_t)(q & 15);
        else out[i / 2] |= (uint8_t)((q & 15) << 4);
    }
}

static bool emit_channels(convert_plan *p, const convert_tensor *t, convert_sink sink, void *ctx, ern_err *e) {
    const ern_view *part = &p->parts[t->first];
    const size_t C = part->dims[1], R = part->dims[0], width = row_bytes(part->dtype, C);
    float *x = mem_zalloc(C, sizeof *x, "conversion", e);
    uint8_t *out = mem_zalloc(C, 1, "conversion", e);
    bool ok = x && out;
    for (size_t r = 0; ok && r < R; r++) {
        const size_t from = t->heads ? regrouped(r, R / t->heads, false) : r;
        dtype_info(part->dtype)->to_f32(x, (const uint8_t *)part->data + from * width, C);
        for (size_t i = 0; ok && i < C; i++)
            if (!(fabsf(x[i]) <= 65504.0f))
                ok = ern_fail(e, ERN_FORMAT, "%s: tensor %s: value %g of row %zu cannot be packed", source_path(p->source),
                              part->name, (double)x[i], r);
        if (!ok) break;
        const float scale = channel_scale(x, C, t->channel_bits);
        if (t->dtype == DTYPE_F32) ok = sink(ctx, &scale, sizeof scale, e);
        else {
            channel_codes(out, x, C, t->channel_bits, scale);
            ok = sink(ctx, out, C * t->channel_bits / 8, e);
        }
    }
    source_release(p->source, part);
    free(x);
    free(out);
    return ok;
}

bool convert_emit(convert_plan *p, const convert_tensor *t, convert_sink sink, void *ctx, ern_err *e) {
    bool is_rounded = false, ok = true;
    if (t->channel_bits) {
        if (!emit_channels(p, t, sink, ctx, e)) return false;
        is_rounded = t->dtype != DTYPE_F32;
    } else if (t->is_transposed) ok = emit_transposed(p, t, &is_rounded, sink, ctx, e);
    else
        for (size_t i = 0; ok && i < t->n_parts; i++)
            ok = emit_part(p, t, &p->parts[t->first + i], &is_rounded, sink, ctx, e);
    for (size_t i = 0; ok && !t->channel_bits && t->n_dims > 1 && i < t->n_parts; i++) source_release(p->source, &p->parts[t->first + i]);
    if (is_rounded) p->report->n_rounded++;
    return ok;
}
