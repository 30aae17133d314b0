/* Attention in f32: AVX-512. */
#include "kernels/x86/vec_avx512.h"
#define NAME(op) op##_avx512
#define ATT_ROWS 8
#define ATT_VECS 2
#include "kernels/attention_f32.inc"
#include "kernels/attention_one.inc"
