/* Packed matrix products for NEON without the dot product: pairs of products widen to 16 bits, then to 32. */
#include <arm_neon.h>

static inline int32x4_t dot4(int32x4_t sum, int8x16_t w, int8x16_t a) {
    const int32x4_t lo = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(a)));
    const int32x4_t hi = vpaddlq_s16(vmull_high_s8(w, a));
    return vaddq_s32(sum, vpaddq_s32(lo, hi));
}

#include "kernels/arm/panel_128.h"

const struct ern_panels panels_neon = { "neon", quant, gemm, NULL, gemm_bf16, gemm_f16 };
