/* The elementwise kernels in NEON. */
#include "kernels/arm/vec_neon.h"
#define NAME(op) op##_neon
#include "kernels/elementwise.inc"
