/* Any bytes as a safetensors file: parsed, every byte of every tensor touched. */
#include <stdlib.h>

#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ern_err e = { 0 };
    volatile uint8_t sum = 0;
    ern_safetensors *s = safetensors_parse(data, size, "fuzz.safetensors", &e);
    for (size_t i = 0; s && i < safetensors_n(s); i++) {
        const ern_view *v = safetensors_at(s, i);
        const uint8_t *p = v->data;
        if (safetensors_find(s, v->name) != v) abort();
        for (size_t k = 0; k < v->size_bytes; k++) sum = (uint8_t)(sum ^ p[k]);
    }
    safetensors_close(s);
    return 0;
}
