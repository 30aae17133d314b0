#include "base/utf8.h"

size_t utf8_decode(const char *s, size_t n, int32_t *cp) {
    const uint8_t *p = (const uint8_t *)s;
    const uint8_t b = p[0];
    *cp = -1;
    if (b < 0x80) { *cp = b; return 1; }
    size_t want;
    uint8_t low = 0x80, high = 0xBF;    /* range of the second byte: excludes overlong and surrogates */
    int32_t v;
    if (b >= 0xC2 && b <= 0xDF) { want = 2; v = b & 0x1F; }
    else if (b >= 0xE0 && b <= 0xEF) {
        want = 3; v = b & 0x0F;
        if (b == 0xE0) low = 0xA0;
        if (b == 0xED) high = 0x9F;
    } else if (b >= 0xF0 && b <= 0xF4) {
        want = 4; v = b & 0x07;
        if (b == 0xF0) low = 0x90;
        if (b == 0xF4) high = 0x8F;
    } else return 1;
    for (size_t i = 1; i < want; i++) {
        if (i >= n || p[i] < low || p[i] > high) return i;
        v = (v << 6) | (p[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *cp = v;
    return want;
}

size_t utf8_encode(int32_t cp, char *out) {
    const uint32_t c = (uint32_t)cp;
    if (c < 0x80) { out[0] = (char)c; return 1; }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | (c >> 6));
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | (c >> 12));
        out[1] = (char)(0x80 | ((c >> 6) & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (c >> 18));
    out[1] = (char)(0x80 | ((c >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((c >> 6) & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t utf8_tail(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const uint8_t b = (uint8_t)s[n - back];
        if ((b & 0xC0) == 0x80) continue;
        const size_t want = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : b >= 0xC2 ? 2 : 1;
        int32_t cp;
        if (want <= back || b > 0xF4) return 0;
        return utf8_decode(s + n - back, back, &cp) == back && cp < 0 ? back : 0;
    }
    return 0;
}

bool utf8_valid(const char *s, size_t n, size_t *bad_at) {
    for (size_t i = 0; i < n;) {
        int32_t cp;
        const size_t used = utf8_decode(s + i, n - i, &cp);
        if (cp < 0) {
            if (bad_at) *bad_at = i;
            return false;
        }
        i += used;
    }
    return true;
}
