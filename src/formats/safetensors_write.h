/* Safetensors files, one or many shards, written tensor by tensor.
 *
 *     safetensors_write("out.safetensors", views, n, &e);                    everything is in memory
 *
 *     ern_safetensors_writer *w = safetensors_writer_open("DIR/model.safetensors", max_shard_bytes, &e);
 *     safetensors_writer_declare(w, &view, &e);       all tensors first: name, dtype and dims count, data does not
 *     safetensors_writer_data(w, bytes, n, &e);       then their bytes in the order of declaration, in pieces of any size
 *     safetensors_writer_finish(w, &e);               the files appear, whole
 *     safetensors_writer_close(w);                    without finish nothing is left behind
 *
 * When the tensors pass max_shard_bytes (0: no limit) the files are DIR/model-00001-of-0000N.safetensors with
 * DIR/model.safetensors.index.json. __metadata__ is {"format": "pt"} unless set. Block types (Q4_0) do not exist in
 * this format and are refused. Inside a file wide types come first, as readers that map it want them aligned.
 */
#ifndef FORMATS_SAFETENSORS_WRITE_H
#define FORMATS_SAFETENSORS_WRITE_H

#include "tensor/dtype.h"

typedef struct ern_safetensors_writer ern_safetensors_writer;

bool safetensors_write(const char *path, const ern_view *views, size_t n, ern_err *e);

ern_safetensors_writer *safetensors_writer_open(const char *path, uint64_t max_shard_bytes, ern_err *e);
bool safetensors_writer_meta(ern_safetensors_writer *w, const char *key, const char *value, ern_err *e);
bool safetensors_writer_declare(ern_safetensors_writer *w, const ern_view *v, ern_err *e);
bool safetensors_writer_data(ern_safetensors_writer *w, const void *bytes, size_t n, ern_err *e);
bool safetensors_writer_finish(ern_safetensors_writer *w, ern_err *e);
void safetensors_writer_close(ern_safetensors_writer *w);

#endif
