/* UTF-8, one code point at a time. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decode the code point at s[0..n), n > 0. Returns the bytes used (1 to 4) and sets *cp; at an
 * invalid or cut sequence returns the length of the maximal invalid prefix (at least 1), *cp = -1. */
size_t utf8_decode(const char *s, size_t n, int32_t *cp);

/* Write cp (a valid scalar value) to out[4]; returns the bytes written. */
size_t utf8_encode(int32_t cp, char *out);

/* How many bytes at the end of s[0..n) are the beginning of a sequence that may still be completed (0 to 3). */
size_t utf8_tail(const char *s, size_t n);

/* Is s[0..n) valid? Otherwise *bad_at (may be NULL) is the offset of the first bad byte. */
bool utf8_valid(const char *s, size_t n, size_t *bad_at);

#endif
