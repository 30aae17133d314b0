/* Any tensors under canonical names. The input is a GGUF file, or two bytes (little-endian) with the length of a
 * config.json, that config, and a safetensors file. */
#include <stdlib.h>
#include <string.h>

#include "formats/jsonfile.h"
#include "formats/source_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ern_source *open_input(const uint8_t *data, size_t size, ern_err *e) {
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        ern_gguf *g = gguf_parse(data, size, "fuzz.gguf", e);
        return g ? source_build(NULL, g, NULL, NULL, "fuzz.gguf", false, e) : NULL;
    }
    if (size < 2) return NULL;
    const size_t n = (size_t)data[0] | (size_t)data[1] << 8;
    if (n > size - 2) return NULL;
    ern_safetensors *st = safetensors_parse(data + 2 + n, size - 2 - n, "fuzz.safetensors", e);
    if (!st) return NULL;
    json_t *config = n ? jsonfile_parse((const char *)data + 2, n, "config.json", e) : NULL;
    return source_build(st, NULL, config, NULL, "fuzz", false, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ern_err e = { 0 };
    volatile uint8_t sum = 0;
    ern_source *s = open_input(data, size, &e);
    for (size_t i = 0; s && i < source_n(s); i++) {
        const ern_view *v = source_at(s, i);
        const uint8_t *p = v->data;
        if (source_find(s, v->name) != v) abort();
        for (size_t k = 0; k < v->size_bytes; k++) sum = (uint8_t)(sum ^ p[k]);
    }
    source_close(s);
    return 0;
}
