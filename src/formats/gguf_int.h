/* What gguf.c, gguf_meta.c and gguf_write.c share: numbers of the format, and the metadata of one file. */
#ifndef FORMATS_GGUF_INT_H
#define FORMATS_GGUF_INT_H

#include "base/cursor.h"
#include "formats/names.h"

#define GGUF_MAGIC UINT32_C(0x46554747)         /* "GGUF" */
#define GGUF_VERSION 3
#define GGUF_ALIGNMENT 32                       /* unless general.alignment says otherwise */
#define GGUF_MAX_ALIGNMENT 65536
#define GGUF_MAX_KEY 65535                      /* bytes, by the specification */
#define GGUF_MAX_NAME 1023                      /* bytes of a tensor's name */
#define GGUF_MAX_WRITTEN_NAME 63                /* bytes: llama.cpp reads tensor names of 63 */
#define GGUF_MAX_NESTED 4                       /* arrays inside arrays */

enum gguf_type {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STR, GGUF_ARRAY, GGUF_U64,
    GGUF_I64, GGUF_F64, GGUF_TYPES
};

static inline uint64_t gguf_padded(uint64_t n) { return (n + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT; }

/* Where the texts of a file are copied, NUL-terminated. While text is NULL texts are only counted: the file is walked
 * twice, first to measure, so that memory follows what the file holds and not the counts it claims. */
typedef struct {
    char *text;
    const char **lists;     /* the arrays of strings, one after the other */
    size_t text_n, lists_n;
    char shown[128];        /* while measuring: the last name, for messages */
} gguf_arena;

/* The next name of c (UTF-8, at most max bytes, not empty), copied; while measuring, its beginning. */
bool gguf_name(ern_cursor *c, gguf_arena *a, size_t max, const char *what, const char **out, ern_err *e);

typedef struct {
    const char *key;
    uint32_t type, elem;            /* elem: of an array */
    size_t n;                       /* elements of an array */
    const uint8_t *data;            /* numbers, in the file; not aligned */
    const char *str;
    const char *const *list;        /* array of strings */
    const uint8_t *raw;             /* the value as the file has it, for copies */
    size_t raw_n;
} gguf_kv;

typedef struct { gguf_kv *kv; size_t n; ern_names names; } gguf_meta;

/* n keys of c; m->kv is NULL while measuring, otherwise [n]. */
bool gguf_meta_read(gguf_meta *m, ern_cursor *c, gguf_arena *a, size_t n, ern_err *e);
const gguf_kv *gguf_meta_find(const gguf_meta *m, const char *key);
bool gguf_meta_u64(const gguf_meta *m, const char *key, uint64_t *out);
void gguf_meta_deinit(gguf_meta *m);

struct ern_gguf;
const gguf_meta *gguf_metadata(const struct ern_gguf *g);        /* of the first part */

#endif
