/* A GGUF v3 file written from front to back.
 *
 *     ern_gguf_writer *w = gguf_writer_open("model.gguf", &e);
 *     gguf_writer_str(w, "general.architecture", "ernie4_5", &e);    keys first (a second time the same key is an error)
 *     gguf_writer_declare(w, &view, &e);      then all tensors: name, dtype and dims (row-major) count, data does not
 *     gguf_writer_data(w, bytes, n, &e);      then their bytes in the order of declaration, in pieces of any size
 *     gguf_writer_finish(w, &e);              the file appears, whole
 *     gguf_writer_close(w);                   without finish nothing is left behind
 */
#ifndef FORMATS_GGUF_WRITE_H
#define FORMATS_GGUF_WRITE_H

#include "formats/gguf.h"

typedef struct ern_gguf_writer ern_gguf_writer;

ern_gguf_writer *gguf_writer_open(const char *path, ern_err *e);

bool gguf_writer_u8(ern_gguf_writer *w, const char *key, uint8_t v, ern_err *e);
bool gguf_writer_i8(ern_gguf_writer *w, const char *key, int8_t v, ern_err *e);
bool gguf_writer_u16(ern_gguf_writer *w, const char *key, uint16_t v, ern_err *e);
bool gguf_writer_i16(ern_gguf_writer *w, const char *key, int16_t v, ern_err *e);
bool gguf_writer_u32(ern_gguf_writer *w, const char *key, uint32_t v, ern_err *e);
bool gguf_writer_i32(ern_gguf_writer *w, const char *key, int32_t v, ern_err *e);
bool gguf_writer_u64(ern_gguf_writer *w, const char *key, uint64_t v, ern_err *e);
bool gguf_writer_i64(ern_gguf_writer *w, const char *key, int64_t v, ern_err *e);
bool gguf_writer_f32(ern_gguf_writer *w, const char *key, float v, ern_err *e);
bool gguf_writer_f64(ern_gguf_writer *w, const char *key, double v, ern_err *e);
bool gguf_writer_bool(ern_gguf_writer *w, const char *key, bool v, ern_err *e);
bool gguf_writer_str(ern_gguf_writer *w, const char *key, const char *v, ern_err *e);
bool gguf_writer_array_str(ern_gguf_writer *w, const char *key, const char *const *v, size_t n, ern_err *e);
bool gguf_writer_array_u32(ern_gguf_writer *w, const char *key, const uint32_t *v, size_t n, ern_err *e);
bool gguf_writer_array_i32(ern_gguf_writer *w, const char *key, const int32_t *v, size_t n, ern_err *e);
bool gguf_writer_array_f32(ern_gguf_writer *w, const char *key, const float *v, size_t n, ern_err *e);

/* Key i of another file with its value, whatever its type. */
bool gguf_writer_copy(ern_gguf_writer *w, const ern_gguf *from, size_t i, ern_err *e);

bool gguf_writer_declare(ern_gguf_writer *w, const ern_view *v, ern_err *e);
bool gguf_writer_data(ern_gguf_writer *w, const void *bytes, size_t n, ern_err *e);
bool gguf_writer_finish(ern_gguf_writer *w, ern_err *e);
void gguf_writer_close(ern_gguf_writer *w);

#endif
