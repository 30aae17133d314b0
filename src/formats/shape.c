#include "formats/shape.h"

bool shape_bytes(size_t *out, enum ern_dtype dtype, unsigned n_dims, const size_t *dims, const char *file, const char *name,
                 ern_err *e) {
    const ern_dtype_info *info = dtype_info(dtype);
    const size_t row = n_dims ? dims[n_dims - 1] : 1;
    size_t n = 1;
    for (unsigned i = 0; i < n_dims; i++)
        if (dims[i] == 0) n = 0;
    for (unsigned i = 0; n && i < n_dims; i++) {
        if (dims[i] > SIZE_MAX / 2 / n)
            return ern_fail(e, ERN_LIMIT, "%s: tensor %s: dimension %u of %zu: more elements than memory can hold", file,
                            name, i, dims[i]);
        n *= dims[i];
    }
    if (row % info->block_n)
        return ern_fail(e, ERN_FORMAT, "%s: tensor %s: a row of %zu values, type %s wants a multiple of %zu", file, name,
                        row, info->name, info->block_n);
    n /= info->block_n;
    if (n && info->block_bytes > SIZE_MAX / 2 / n)
        return ern_fail(e, ERN_LIMIT, "%s: tensor %s: %zu blocks of %zu bytes are more than memory can hold", file, name, n,
                        info->block_bytes);
    *out = n * info->block_bytes;
    return true;
}
