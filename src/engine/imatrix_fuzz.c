/* Any bytes as an importance matrix: read, and every mean touched. */
#include "engine/imatrix_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ern_gguf *g = gguf_parse(data, size, "fuzz.gguf", NULL);
    ern_imatrix *m = g ? imatrix_of_gguf(g, "fuzz.gguf", NULL) : NULL;
    volatile float sum = 0.0f;
    for (size_t i = 0; m && i < m->n; i++)
        for (size_t x = 0; x < m->entries[i].n_mats; x++) {
            const imatrix_entry *t = &m->entries[i];
            const float *mean = imatrix_mean(m, t->name, x, t->n_cols);
            for (size_t k = 0; mean && k < t->n_cols; k++) sum = mean[k];
        }
    (void)sum;
    imatrix_close(m);
    gguf_close(g);
    return 0;
}
