/* The elementwise kernels in AVX-512. */
#include "kernels/x86/vec_avx512.h"
#define NAME(op) op##_avx512
#include "kernels/elementwise.inc"
