/* Every intermediate array of one forward pass in a safetensors file, under the names of MODEL.md. */
#ifndef ENGINE_TRACEFILE_H
#define ENGINE_TRACEFILE_H

#include "ern.h"

typedef struct { size_t n_arrays, size_bytes; } tracefile_result;

/* ids [T] i32, embed [T,D], layer.N.attn, layer.N.ffn, layer.N.out [T,D], layer.N.router.* of expert layers, norm [T,D],
 * logits [T,V];
 * f32, choices of experts i32. only: a shell pattern that names must match ("layer.0.*"), NULL: all. Keys and values are
  * kept in f32. */
bool tracefile_write(ern_engine *eng, const int32_t *ids, size_t n, const char *only, const char *path,
                     tracefile_result *out, ern_err *e);

#endif
