/* Any bytes as a SentencePiece model; what opens must tokenize and go through a GGUF vocabulary. */
#include "text/tokenizer_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "Hello, w\xC3\xB6rld  123 \xE4\xB8\xAD\xE6\x96\x87 <s>[CLS] a\n\n b";

static void use(const ern_tokenizer *t) {
    ern_ids ids = { 0 };
    ern_buf b = { 0 };
    for (unsigned flags = 0; flags < 4; flags++) tokenizer_encode(t, text, sizeof text - 1, flags, &ids, NULL);
    tokenizer_decode(t, ids.id, ids.n, true, &b, NULL);
    tokenizer_decode(t, ids.id, ids.n, false, &b, NULL);
    buf_deinit(&b);
    ids_deinit(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ern_err e;
    ern_tokenizer *t = tok_new(&e);
    if (t && tok_read_model(t, data, size, "input", &e) && tok_finish(t, &e)) {
        use(t);
        ern_tokenizer *again = tokenizer_from_vocab(tokenizer_vocab_of(t), &e);
        if (again) use(again);
        tokenizer_close(again);
    }
    tokenizer_close(t);
    return 0;
}
