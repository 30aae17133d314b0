/* The bytes of a tensor from dims that nobody has checked yet. */
#ifndef FORMATS_SHAPE_H
#define FORMATS_SHAPE_H

#include "tensor/dtype.h"

/* false: a product does not fit in size_t, or a row is not a whole number of blocks. file and name go into messages. */
bool shape_bytes(size_t *out, enum ern_dtype dtype, unsigned n_dims, const size_t *dims, const char *file, const char *name,
                 ern_err *e);

#endif
