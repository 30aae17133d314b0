/* SentencePiece's precompiled character map (nmt_nfkc and the like): the longest known prefix is replaced.
 *
 *   OFFSET   SIZE    MEANING
 *   0        4       bytes of the trie, T (little endian)
 *   4        T       double-array trie, 32-bit units: bits 0-7 label, bit 8 has a leaf, bits 10-30 offset (shifted left
 *                    8 when bit 9 is set), bit 31 marks a leaf whose low 31 bits are the value
 *   4 + T    rest    NUL-terminated replacements; a value is an offset here
 */
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define HEADER_BYTES 4

static uint32_t unit_at(const char *map, size_t i) {
    const uint8_t *p = (const uint8_t *)map + HEADER_BYTES + 4 * i;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static size_t trie_bytes(const char *map) {
    const uint8_t *p = (const uint8_t *)map;
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

static size_t unit_offset(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6); }

bool charsmap_check(const char *map, size_t n, ern_err *e) {
    if (n < HEADER_BYTES) return ern_fail(e, ERN_FORMAT, "character map: %zu bytes, at least %d wanted", n, HEADER_BYTES);
    const size_t bytes = trie_bytes(map);
    if (bytes > n - HEADER_BYTES || bytes % 4 || bytes < 4)
        return ern_fail(e, ERN_FORMAT, "character map: its trie says %zu bytes, the map has %zu after the header", bytes,
                        n - HEADER_BYTES);
    if (bytes == n - HEADER_BYTES || map[n - 1] != '\0')
        return ern_fail(e, ERN_FORMAT, "character map: the last replacement is not terminated");
    return true;
}

/* The longest prefix of s[0..n) in the map: its bytes, and *text its replacement. 0: none. */
static size_t find(const char *map, size_t n_map, const char *s, size_t n, const char **text) {
    const size_t n_units = trie_bytes(map) / 4, n_texts = n_map - HEADER_BYTES - 4 * n_units;
    size_t found = 0, at = unit_offset(unit_at(map, 0));
    for (size_t i = 0; i < n; i++) {
        at ^= (uint8_t)s[i];
        if (at >= n_units) break;
        const uint32_t unit = unit_at(map, at);
        if ((unit & (1u << 31 | 0xFF)) != (uint8_t)s[i]) break;
        at ^= unit_offset(unit);
        if (at >= n_units) break;
        const uint32_t value = unit_at(map, at) & 0x7FFFFFFF;
        if ((unit >> 8 & 1) && value < n_texts) {
            found = i + 1;
            *text = map + HEADER_BYTES + 4 * n_units + value;
        }
    }
    return found;
}

bool charsmap_run(const char *map, size_t n_map, const char *s, size_t n, ern_buf *out, ern_err *e) {
    if (!buf_reserve(out, n, e)) return false;
    for (size_t i = 0; i < n;) {
        const char *text = NULL;
        int32_t cp;
        size_t used = find(map, n_map, s + i, n - i, &text);
        if (used == 0) {
            used = utf8_decode(s + i, n - i, &cp);
            if (!buf_add(out, s + i, used, e)) return false;
        } else if (!buf_str(out, text, e)) return false;
        i += used;
    }
    return true;
}
