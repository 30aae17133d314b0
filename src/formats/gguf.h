/* GGUF v2 and v3, little endian, single or split: metadata and tensor views into the map. */
#ifndef FORMATS_GGUF_H
#define FORMATS_GGUF_H

#include "tensor/dtype.h"

typedef struct ern_gguf ern_gguf;

ern_gguf *gguf_open(const char *path, ern_err *e);              /* maps path and, when split, its siblings */
ern_gguf *gguf_parse(const void *bytes, size_t n, const char *name, ern_err *e);    /* borrowed bytes; for fuzzing */
void gguf_close(ern_gguf *g);

size_t gguf_n_tensors(const ern_gguf *g);
const ern_view *gguf_tensor(const ern_gguf *g, size_t i);
const ern_view *gguf_find(const ern_gguf *g, const char *name);

/* Metadata. Each getter is false (outputs untouched) when the key is absent or of another kind.
 * u64 takes any integer type that is not negative; f64 takes float and integer types. */
bool gguf_u64(const ern_gguf *g, const char *key, uint64_t *out);
bool gguf_i64(const ern_gguf *g, const char *key, int64_t *out);
bool gguf_f64(const ern_gguf *g, const char *key, double *out);
bool gguf_bool(const ern_gguf *g, const char *key, bool *out);
const char *gguf_str(const ern_gguf *g, const char *key);       /* NUL-terminated copy owned by g; NULL: absent */
size_t gguf_array_n(const ern_gguf *g, const char *key);        /* 0: absent or not an array */
const char *const *gguf_array_str(const ern_gguf *g, const char *key);          /* [gguf_array_n], owned by g */
bool gguf_array_i32(const ern_gguf *g, const char *key, int32_t *out);          /* out[gguf_array_n] */
bool gguf_array_f32(const ern_gguf *g, const char *key, float *out);

size_t gguf_n_keys(const ern_gguf *g);
const char *gguf_key(const ern_gguf *g, size_t i);
/* Print value i in short ("[103424 strings]") into buf; for inspect. */
void gguf_value_text(const ern_gguf *g, size_t i, char *buf, size_t n);

#endif
