/* Packed matrix products for NEON with the dot product of ARMv8.2. */
#include <arm_neon.h>

static inline int32x4_t dot4(int32x4_t sum, int8x16_t w, int8x16_t a) { return vdotq_s32(sum, w, a); }

#include "kernels/arm/panel_128.h"

const struct ern_panels panels_dotprod = { "neon-dotprod", quant, gemm, NULL, gemm_bf16, gemm_f16 };
