/* Matrix products over the pool: activations to 8 bits once, then rows of W dealt to the threads. */
#include "kernels/matmul_panel.h"

#define ROWS_STEP 4     /* rows that a kernel computes together: no thread gets a part of such a group */

static bool quant_has_q8(enum ern_dtype t) {
    switch (t) {
    case DTYPE_Q4_0: case DTYPE_Q4_1: case DTYPE_Q5_0: case DTYPE_Q5_1: case DTYPE_Q8_0: case DTYPE_Q2_K: case DTYPE_Q3_K:
    case DTYPE_Q4_K: case DTYPE_Q5_K: case DTYPE_Q6_K: case DTYPE_IQ4_NL: case DTYPE_IQ4_XS: case DTYPE_MXFP4: return true;
    default: return false;
    }
}

void kernels_gemm_init(ern_kernels *k, unsigned flags) {
    (void)flags;        /* on other machines */
    k->gemm_f32 = gemm_f32_scalar;
    k->gemm_q8 = gemm_q8_scalar;
    k->has_q8 = quant_has_q8;
    k->quant_q8 = quant_q8_scalar;
    k->panels = NULL;
#if defined(__aarch64__)
    if (flags & CPU_NEON) k->panels = flags & CPU_DOTPROD ? &panels_dotprod : &panels_neon;
#elif defined(__x86_64__)
    const unsigned avx2 = CPU_AVX2 | CPU_FMA | CPU_F16C;
    if ((flags & avx2) != avx2) return;
    k->gemm_f32 = gemm_f32_avx2;
    k->gemm_q8 = gemm_q8_avx2;
    k->quant_q8 = quant_q8_avx2;
    k->panels = flags & CPU_AVXVNNI ? &panels_avxvnni : &panels_avx2;
    const unsigned vnni = CPU_AVX512 | CPU_VNNI;
    if ((flags & vnni) != vnni) return;
    k->gemm_f32 = gemm_f32_vnni;
    k->gemm_q8 = gemm_q8_vnni;
    const unsigned amx = CPU_AMX_INT8 | CPU_AMX_BF16 | CPU_BF16;
    if ((flags & amx) == amx) k->panels = &panels_amx;
    else k->panels = flags & CPU_FAST_BF16 && flags & CPU_BF16 ? &panels_vnni_bf16 : &panels_vnni;
#endif
}

struct job { const ern_kernels *k; float *y; const float *x; act_q8 *q; const ern_view *w; size_t T, R, C, row_bytes; };

static void quant_part(void *ctx, size_t thread, size_t n_threads) {
    const struct job *j = ctx;
    size_t from, to;
    pool_part(j->T, 1, thread, n_threads, &from, &to);
    for (size_t t = from; t < to; t++) j->k->quant_q8(j->q + t * (j->C / 32), j->x + t * j->C, j->C);
}

static void rows_part(void *ctx, size_t thread, size_t n_threads) {
    const struct job *j = ctx;
    size_t from, to;
    pool_part(j->R, ROWS_STEP, thread, n_threads, &from, &to);
    if (j->q) j->k->gemm_q8(j->y, j->R, j->q, j->T, j->w->data, j->w->dtype, j->row_bytes, j->C, from, to);
    else j->k->gemm_f32(j->y, j->R, j->x, j->T, j->w->data, j->w->dtype, j->row_bytes, j->C, from, to);
}

size_t matmul_scratch_bytes(size_t T, size_t C) { return (T * ((C + 31) / 32) * sizeof(act_q8) + 63) / 64 * 64; }

void matmul(const ern_kernels *k, ern_pool *pool, float *y, const float *x, size_t T, const ern_view *w, bool exact,
            void *scratch) {
    struct job j = { .k = k, .y = y, .x = x, .w = w, .T = T, .R = w->dims[0], .C = w->dims[1],
                     .row_bytes = view_row_bytes(w) };
    if (T == 0 || j.R == 0) return;
    if (!exact && k->has_q8(w->dtype) && j.C % 32 == 0) {
        j.q = scratch;
        if (T == 1) quant_part(&j, 0, 1);
        else pool_run(pool, quant_part, &j);
    }
    pool_run(pool, rows_part, &j);
}
