/* Any bytes as an answer: fed at once and in pieces, the events must join to the same. The first byte chooses the cuts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/reason.h"

typedef struct { ern_buf b; int last; } record;

static bool note(void *ctx, enum reason_kind kind, const char *text, size_t n) {
    record *x = ctx;
    const char mark[2] = { '\0', (char)('0' + (int)kind) };
    if ((kind == REASON_TOOL_CALL || x->last != (int)kind) && !buf_add(&x->b, mark, 2, NULL)) return false;
    x->last = (int)kind;
    return buf_add(&x->b, text, n, NULL);
}

static bool run(const char *s, size_t n, bool inside, size_t step, record *x) {
    ern_reason *r = reason_open(inside, note, x, NULL);
    bool ok = r != NULL;
    x->last = -1;
    for (size_t i = 0; ok && i < n; i += step) ok = reason_feed(r, s + i, n - i < step ? n - i : step, NULL);
    ok = ok && reason_finish(r, NULL);
    reason_close(r);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const char *s = (const char *)data + 1;
    record a = { 0 }, b = { 0 };
    const bool ok = run(s, size - 1, data[0] & 1, size, &a) && run(s, size - 1, data[0] & 1, 1 + data[0] / 2, &b);
    if (ok && (a.b.len != b.b.len || (a.b.len && memcmp(a.b.data, b.b.data, a.b.len) != 0))) abort();
    buf_deinit(&a.b);
    buf_deinit(&b.b);
    return 0;
}
