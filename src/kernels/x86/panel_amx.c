/* Packed matrix products for AMX: 8 bits and bf16. */
#include <immintrin.h>

#include "kernels/x86/panel_512.h"
#include "kernels/panel_load.h"

#define TILE_ZERO(n) _tile_zero(n)
/* The compiler does not see that the instruction reads memory. */
#define TILE_LOAD(n, p, stride)                 \
    do {                                        \
        __asm__ volatile("" : : : "memory");    \
        _tile_loadd(n, p, stride);              \
    } while (0)
#define TILE_STORE(n, p, stride) _tile_stored(n, p, stride)
#define TILE_DP_I8(c, a, b) _tile_dpbssd(c, a, b)
#define TILE_DP_BF16(c, a, b) _tile_dpbf16ps(c, a, b)
#define tile_begin(shape) _tile_loadconfig(shape)
#define tile_end() _tile_release()

#include "kernels/x86/panel_amx.h"

static void quant(act_block *out, const float *x, size_t C) { panels_vnni.quant(out, x, C); }
static void gemm_f16(const panel_job *j, size_t p0, size_t p1) { panels_vnni.gemm_f16(j, p0, p1); }

const struct ern_panels panels_amx = { "amx", quant, amx_gemm, panel_to_bf16, amx_gemm_bf16, gemm_f16 };
