/* Attention in f32: AVX2, FMA and F16C. */
#include "kernels/x86/vec_avx2.h"
#define NAME(op) op##_avx2
#define ATT_ROWS 6
#define ATT_VECS 2
#include "kernels/attention_f32.inc"
#include "kernels/attention_one.inc"
