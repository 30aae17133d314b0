/* Reading untrusted bytes: every read tests n > size - pos first and names the file and offset. */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include "base/err.h"

typedef struct {
    const uint8_t *data;
    size_t size, pos;
    const char *name;       /* for messages, borrowed */
} ern_cursor;

/* Little-endian. On failure *out and pos are untouched. */
bool cursor_u8(ern_cursor *c, uint8_t *out, ern_err *e);
bool cursor_u16(ern_cursor *c, uint16_t *out, ern_err *e);
bool cursor_u32(ern_cursor *c, uint32_t *out, ern_err *e);
bool cursor_u64(ern_cursor *c, uint64_t *out, ern_err *e);
bool cursor_bytes(ern_cursor *c, size_t n, const uint8_t **out, ern_err *e);

#endif
