/* Attention for AVX-512 with VNNI: smaller types as integers, the rest in f32. */
#include "kernels/x86/vec_avx512.h"
#define ATT_ROWS 8
#define ATT_VECS 2
#include "kernels/attention_f32.inc"
#include "kernels/x86/attention_int8.inc"

const attention_isa attention_avx512_vnni = { pack_any, chunk_any, merge_rows };
