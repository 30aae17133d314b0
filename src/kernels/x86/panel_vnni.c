/* Packed matrix products for AVX-512 with VNNI: a vector is the 16 rows of a panel. */
#include "kernels/x86/panel_512.h"

static inline vi start8(int32_t n) { return v_int(n); }
static inline vi dp8(vi sum, vi u, vi a) { return _mm512_dpbusd_epi32(sum, u, a); }
static inline vi dp7(vi sum, vi u, vi a) { return _mm512_dpbusd_epi32(sum, u, a); }

#include "kernels/panel_tile.h"
#include "kernels/panel_float.h"
#include "kernels/x86/panel_quant.h"

static void gemm_bf16(const panel_job *j, size_t p0, size_t p1) { float_gemm(true, j, p0, p1); }
static void gemm_f16(const panel_job *j, size_t p0, size_t p1) { float_gemm(false, j, p0, p1); }

const struct ern_panels panels_vnni = { "avx512-vnni", quant, gemm, NULL, gemm_bf16, gemm_f16 };
const struct ern_panels panels_vnni_bf16 = { "avx512-vnni-bf16", quant, gemm, panel_to_bf16, panel_gemm_bf16, gemm_f16 };
