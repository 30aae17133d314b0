/* Numbers of the GGUF format that the reader and the writer share. */
#ifndef FORMATS_GGUF_INT_H
#define FORMATS_GGUF_INT_H

#include <stdint.h>

#define GGUF_MAGIC UINT32_C(0x46554747)         /* "GGUF" */
#define GGUF_VERSION 3
#define GGUF_ALIGNMENT 32                       /* unless general.alignment says otherwise */
#define GGUF_MAX_KEY 65535                      /* bytes, by the specification */
#define GGUF_MAX_WRITTEN_NAME 63                /* bytes: llama.cpp reads tensor names of 63 */

enum gguf_type {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STR, GGUF_ARRAY, GGUF_U64,
    GGUF_I64, GGUF_F64, GGUF_TYPES
};

static inline uint64_t gguf_padded(uint64_t n) { return (n + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT; }

#endif
