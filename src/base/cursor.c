#include "base/cursor.h"

#include <string.h>

bool cursor_bytes(ern_cursor *c, size_t n, const uint8_t **out, ern_err *e) {
    if (n > c->size - c->pos)
        return ern_fail(e, ERN_FORMAT, "%s: ends at byte %zu, %zu wanted at byte %zu", c->name,
                        c->size, n, c->pos);
    *out = c->data + c->pos;
    c->pos += n;
    return true;
}

static bool read_le(ern_cursor *c, size_t n, uint64_t *out, ern_err *e) {
    const uint8_t *p = NULL;
    if (!cursor_bytes(c, n, &p, e)) return false;
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    *out = v;
    return true;
}

bool cursor_u8(ern_cursor *c, uint8_t *out, ern_err *e) {
    uint64_t v;
    if (!read_le(c, 1, &v, e)) return false;
    *out = (uint8_t)v;
    return true;
}

bool cursor_u16(ern_cursor *c, uint16_t *out, ern_err *e) {
    uint64_t v;
    if (!read_le(c, 2, &v, e)) return false;
    *out = (uint16_t)v;
    return true;
}

bool cursor_u32(ern_cursor *c, uint32_t *out, ern_err *e) {
    uint64_t v;
    if (!read_le(c, 4, &v, e)) return false;
    *out = (uint32_t)v;
    return true;
}

bool cursor_u64(ern_cursor *c, uint64_t *out, ern_err *e) { return read_le(c, 8, out, e); }
