#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MAX_DEFAULT ((size_t)1 << 30)

void *mem_grow(void *p, size_t n, size_t size, const char *what, ern_err *e) {
    void *q = NULL;
    if (size && n > PTRDIFF_MAX / size)
        ern_fail(e, ERN_LIMIT, "%s: %zu items of %zu bytes do not fit in memory", what, n, size);
    else if (!(q = realloc(p, n && size ? n * size : 1)))
        ern_fail(e, ERN_NOMEM, "%s: no memory for %zu bytes", what, n * size);
    return q;
}

bool mem_reserve(void **pool, size_t *cap, size_t wanted, size_t size, const char *what, ern_err *e) {
    if (wanted <= *cap) return true;
    size_t n = *cap ? *cap * 2 : 64;
    if (n < wanted) n = wanted;
    void *p = mem_grow(*pool, n, size, what, e);
    if (!p) return false;
    *pool = p;
    *cap = n;
    return true;
}

void *mem_zalloc(size_t n, size_t size, const char *what, ern_err *e) {
    void *q = NULL;
    if (size && n > PTRDIFF_MAX / size)
        ern_fail(e, ERN_LIMIT, "%s: %zu items of %zu bytes do not fit in memory", what, n, size);
    else if (!(q = calloc(n ? n : 1, size ? size : 1)))
        ern_fail(e, ERN_NOMEM, "%s: no memory for %zu bytes", what, n * size);
    return q;
}

char *mem_strndup(const char *s, size_t n, ern_err *e) {
    char *p = NULL;
    if (n >= PTRDIFF_MAX) ern_fail(e, ERN_LIMIT, "text of %zu bytes does not fit in memory", n);
    else p = mem_zalloc(n + 1, 1, "text", e);
    if (p && n) memcpy(p, s, n);
    return p;
}

void buf_deinit(ern_buf *b) {
    free(b->data);
    *b = (ern_buf){ .max = b->max };
}

bool buf_reserve(ern_buf *b, size_t n_more, ern_err *e) {
    size_t max = b->max ? b->max : BUF_MAX_DEFAULT;
    if (max > PTRDIFF_MAX - 1) max = PTRDIFF_MAX - 1;       /* so that len + 1 cannot wrap */
    if (n_more > max || b->len > max - n_more)
        return ern_fail(e, ERN_LIMIT, "buffer: %zu and %zu more bytes pass the limit of %zu", b->len,
                        n_more, max);
    const size_t need = b->len + n_more + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap *= 2;
    if (cap > max + 1) cap = max + 1;
    char *data = mem_grow(b->data, cap, 1, "buffer", e);
    if (!data) return false;
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return true;
}

bool buf_add(ern_buf *b, const void *bytes, size_t n, ern_err *e) {
    if (!buf_reserve(b, n, e)) return false;
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = '\0';
    return true;
}

bool buf_str(ern_buf *b, const char *s, ern_err *e) { return buf_add(b, s, strlen(s), e); }
bool buf_char(ern_buf *b, char c, ern_err *e) { return buf_add(b, &c, 1, e); }

bool buf_printf(ern_buf *b, ern_err *e, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    bool ok = n >= 0 ? buf_reserve(b, (size_t)n, e) : ern_fail(e, ERN_ARG, "buffer: text \"%s\" cannot be formatted", fmt);
    if (ok) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    va_end(args);
    return ok;
}

void buf_clear(ern_buf *b) {
    b->len = 0;
    if (b->data) b->data[0] = '\0';
}

char *buf_take(ern_buf *b) {
    char *data = b->data;
    *b = (ern_buf){ .max = b->max };
    return data;
}
