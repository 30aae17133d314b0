/* Any bytes as a GGUF file: parsed, every key shown and read in every way, every byte of every tensor touched. */
#include <stdlib.h>

#include "formats/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_key(const ern_gguf *g, size_t i) {
    char text[64];
    uint64_t u;
    int64_t s;
    double d;
    bool b;
    const char *key = gguf_key(g, i);
    const size_t n = gguf_array_n(g, key);
    gguf_value_text(g, i, text, sizeof text);
    gguf_u64(g, key, &u);
    gguf_i64(g, key, &s);
    gguf_f64(g, key, &d);
    gguf_bool(g, key, &b);
    gguf_str(g, key);
    const char *const *words = gguf_array_str(g, key);
    volatile char sum = 0;
    for (size_t k = 0; words && k < n; k++) sum = (char)(sum ^ words[k][0]);
    void *numbers = n ? malloc(n * 4) : NULL;
    if (!numbers) return;
    gguf_array_i32(g, key, numbers);
    gguf_array_f32(g, key, numbers);
    free(numbers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ern_err e = { 0 };
    ern_gguf *g = gguf_parse(data, size, "fuzz.gguf", &e);
    volatile uint8_t sum = 0;
    if (!g) return 0;
    for (size_t i = 0; i < gguf_n_keys(g); i++) read_key(g, i);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const ern_view *v = gguf_tensor(g, i);
        const uint8_t *p = v->data;
        if (gguf_find(g, v->name) != v) abort();
        for (size_t k = 0; k < v->size_bytes; k++) sum = (uint8_t)(sum ^ p[k]);
    }
    gguf_close(g);
    return 0;
}
