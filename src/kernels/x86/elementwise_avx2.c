/* The elementwise kernels in AVX2, FMA and F16C. */
#include "kernels/x86/vec_avx2.h"
#define NAME(op) op##_avx2
#include "kernels/elementwise.inc"
