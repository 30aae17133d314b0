/* JSON from files that nobody has checked: size limit, positions in errors, no duplicate keys. */
#ifndef FORMATS_JSONFILE_H
#define FORMATS_JSONFILE_H

#include <jansson.h>

#include "base/err.h"

#define JSONFILE_MAX_BYTES ((size_t)100 << 20)

/* An object; NULL with e filled otherwise. what names it in messages. */
json_t *jsonfile_parse(const char *text, size_t n, const char *what, ern_err *e);
json_t *jsonfile_read(const char *path, size_t max_bytes, ern_err *e);

#endif
