/* Attention on pairs of bf16 (vdpbf16ps), for CPUs where that is faster than f32; f16 becomes bf16, sums stay f32. Keys of
 * smaller types are multiplied as integers. */
#define ATT_ROWS 8
#define ATT_VECS 2
#include "kernels/x86/attention_bf16.inc"

#include "kernels/attention.inc"

#include "kernels/x86/attention_int8.inc"

const attention_isa attention_avx512_bf16 = { pack_any, chunk_any, merge_rows };
