/* A growing byte buffer that is born with a maximum. data is NUL-terminated whenever it is not NULL.
 *
 *     ern_buf b = { .max = 1 << 20 };
 *     if (!buf_str(&b, "User: ", e) || !buf_add(&b, text, n, e)) goto out;
 *     ...
 *   out: buf_deinit(&b);
 *
 * What is added may not lie in the buffer itself: growing moves it.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/err.h"

typedef struct {
    char *data;         /* NULL while empty and never grown */
    size_t len, cap;
    size_t max;         /* longest len allowed, in bytes; 0 means 1 GiB */
} ern_buf;

void buf_deinit(ern_buf *b);                                        /* frees, zeroes; keeps max */
bool buf_add(ern_buf *b, const void *bytes, size_t n, ern_err *e);
bool buf_str(ern_buf *b, const char *s, ern_err *e);
bool buf_char(ern_buf *b, char c, ern_err *e);
bool buf_printf(ern_buf *b, ern_err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool buf_reserve(ern_buf *b, size_t n_more, ern_err *e);            /* room for n_more bytes */
void buf_clear(ern_buf *b);                                         /* len = 0, keeps the memory */
char *buf_take(ern_buf *b);     /* ownership to the caller (free); NULL if nothing was ever added */

/* p grown to hold n items of size bytes each, or NULL with e filled (p is then still valid). */
void *mem_grow(void *p, size_t n, size_t size, const char *what, ern_err *e);
/* *pool, of *cap items, has room for wanted items: doubled when it has not. On failure both are as before. */
bool mem_reserve(void **pool, size_t *cap, size_t wanted, size_t size, const char *what, ern_err *e);
void *mem_zalloc(size_t n, size_t size, const char *what, ern_err *e);
char *mem_strndup(const char *s, size_t n, ern_err *e);

#endif
