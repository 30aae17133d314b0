/* Attention in f32: NEON. */
#include "kernels/arm/vec_neon.h"
#define NAME(op) op##_neon
#define ATT_ROWS 4
#define ATT_VECS 4
#include "kernels/attention_f32.inc"
#include "kernels/attention_one.inc"
