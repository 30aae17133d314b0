/* What this machine does per second with our own kernels: measured on made-up matrices in a fraction of a second. */
#ifndef ENGINE_PROBE_H
#define ENGINE_PROBE_H

#include "kernels/kernels.h"

typedef struct {
    double decode_bytes;        /* weight bytes a second in a product with one row: memory bandwidth and unpacking */
    double prefill_macs;        /* multiply-adds a second in a product with many rows */
} probe_speed;

/* n_cols: inputs of a row, as the model's hidden width; taken up to whole blocks. */
bool probe_type(const ern_kernels *k, ern_pool *pool, enum ern_dtype t, size_t n_cols, probe_speed *out, ern_err *e);

/* Plain reading of memory larger than the caches, bytes a second. */
bool probe_read(ern_pool *pool, double *bytes_per_s, ern_err *e);

#endif
