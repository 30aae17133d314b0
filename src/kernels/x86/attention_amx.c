/* Attention on the tile unit's bf16 products; keys of smaller types as integers with VNNI. */
#include <immintrin.h>

#define tile_begin(shape) _tile_loadconfig(shape)
#define tile_end() _tile_release()
#define TILE_ZERO(n) _tile_zero(n)
#define TILE_LOAD(n, p, stride) _tile_loadd(n, p, stride)
#define TILE_STORE(n, p, stride) _tile_stored(n, p, stride)
#define TILE_DP_BF16(c, a, b) _tile_dpbf16ps(c, a, b)

#include "kernels/x86/attention_amx.h"

const attention_isa attention_amx = { pack_any, chunk_any, merge_rows };
