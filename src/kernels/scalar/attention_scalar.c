/* Attention in f32: the definition. */
#include "kernels/scalar/vec_scalar.h"
#define NAME(op) op##_scalar
#define ATT_ROWS 4
#define ATT_VECS 16
#include "kernels/attention_f32.inc"
#include "kernels/attention_one.inc"
