/* SHA-256 (FIPS 180-4), for the checksums of downloads and stored files. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t block[64];
} ern_sha256;

void sha256_begin(ern_sha256 *s);
void sha256_add(ern_sha256 *s, const void *bytes, size_t n);
void sha256_end(ern_sha256 *s, uint8_t out[32]);
void sha256_hex(ern_sha256 *s, char out[65]);           /* ends it too; lower case, NUL-terminated */

#endif
