/* Safetensors files as untrusted bytes: named tensor views into the map. One file, or shards with their index.
 *
 *     ern_safetensors *s = safetensors_open("DIR", &e);      a folder, a .safetensors file or a .safetensors.index.json
 *     const ern_view *v = safetensors_find(s, "model.norm.weight");
 *
 * A folder gives model.safetensors, the shards of model.safetensors.index.json, or its only *.safetensors file. Views live
 * as long as s. Types that we have no format for (F8_E4M3, U32, ...) are an error that names the tensor.
 */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include <jansson.h>

#include "tensor/dtype.h"

typedef struct ern_safetensors ern_safetensors;

ern_safetensors *safetensors_open(const char *path, ern_err *e);
ern_safetensors *safetensors_parse(const void *bytes, size_t n, const char *name, ern_err *e);     /* borrowed bytes */
void safetensors_close(ern_safetensors *s);

size_t safetensors_n(const ern_safetensors *s);
const ern_view *safetensors_at(const ern_safetensors *s, size_t i);
const ern_view *safetensors_find(const ern_safetensors *s, const char *name);

/* __metadata__ of the first file, or NULL. */
const json_t *safetensors_metadata(const ern_safetensors *s);

#endif
