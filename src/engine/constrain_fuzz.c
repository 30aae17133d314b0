/* Any bytes as a grammar of any kind; what compiles is run: every token of the mask must be accepted. */
#include <stdlib.h>

#include "engine/constrain.h"

#define N_BYTES 256
#define MAX_STEPS 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static char bytes[N_BYTES];
    const char *all[N_BYTES];
    size_t lengths[N_BYTES];
    if (n < 2 || n > 4096) return 0;
    for (size_t i = 0; i < N_BYTES; i++) { bytes[i] = (char)i; all[i] = &bytes[i]; lengths[i] = 1; }
    constrain_vocab *v = constrain_vocab_from_bytes(all, lengths, N_BYTES, NULL);
    ern_constraint *c = constraint_open(v, (enum constrain_kind)(data[0] % 6), (const char *)data + 1, n - 1, NULL);
    constrain_state *s = c ? constrain_begin(c, NULL) : NULL;
    uint64_t mask[CONSTRAIN_MASK_WORDS(N_BYTES)];
    for (unsigned step = 0; s && step < MAX_STEPS && constrain_mask(s, mask, NULL); step++) {
        unsigned id = data[1 + step % (n - 1)], tries = 0;
        while (tries < N_BYTES && !(mask[id / 64] >> (id % 64) & 1)) { id = (id + 1) % N_BYTES; tries++; }
        if (tries == N_BYTES) {
            if (!constrain_can_end(s)) abort();         /* a mask without a token is an error before the end */
            break;
        }
        if (!constrain_accept(s, (int32_t)id, NULL)) abort();
    }
    constrain_end(s);
    constraint_close(c);
    constrain_vocab_close(v);
    return 0;
}
