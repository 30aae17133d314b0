/* Any text through the three kinds: ids in range, the text comes back, and the stream says what decode says. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/stream.h"

#define SPACE_A "\xE2\x96\x81\x61"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool fact) {
    if (!fact) abort();
}

/* <s> </s> <unk> | 256 bytes | a few pieces */
static ern_tokenizer *open_spm(void) {
    static const char *const more[] = { "a", "b", "\xE2\x96\x81", "ab", SPACE_A, "\xE2\x96\x81\xE2\x96\x81", "aba", "7",
                                        "<x>", "<|y|>" };
    enum { N = 3 + 256 + 10 };
    static char bytes[256][8];
    const char *pieces[N] = { "<unk>", "<s>", "</s>" };
    int32_t types[N] = { 2, 3, 3 };
    float scores[N] = { 0 };
    for (int b = 0; b < 256; b++) {
        memcpy(bytes[b], "<0x00>", 7);
        bytes[b][3] = "0123456789ABCDEF"[b >> 4];
        bytes[b][4] = "0123456789ABCDEF"[b & 15];
        pieces[3 + b] = bytes[b];
        types[3 + b] = 6;
    }
    for (size_t i = 0; i < 10; i++) {
        pieces[259 + i] = more[i];
        types[259 + i] = i < 7 ? 1 : 4;
        scores[259 + i] = -(float)i;
    }
    const tokenizer_vocab v = { .kind = TOKENIZER_SPM, .n_tokens = N, .pieces = pieces, .types = types, .scores = scores,
                                .bos = 1, .eos = 2, .unk = 0, .pad = -1 };
    return tokenizer_from_vocab(&v, NULL);
}

static ern_tokenizer *open_bytelevel(const char *pre) {
    enum { N = 256 + 4 };
    static char letters[256][4];
    const char *pieces[N];
    const char *const merges[] = { "a b", "\xC4\xA0 a", "ab ab" };
    int32_t types[N], next = 256;
    for (int b = 0; b < 256; b++) {
        const bool is_shown = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        letters[b][utf8_encode(is_shown ? b : next, letters[b])] = '\0';
        next += !is_shown;
        pieces[b] = letters[b];
        types[b] = 1;
    }
    pieces[256] = "ab";
    pieces[257] = "\xC4\xA0" "a";
    pieces[258] = "abab";
    pieces[259] = "<|end|>";
    types[256] = types[257] = types[258] = 1;
    types[259] = 3;
    const tokenizer_vocab v = { .kind = TOKENIZER_BYTELEVEL, .pre = pre, .n_tokens = N, .pieces = pieces, .types = types,
                                .n_merges = 3, .merges = merges, .bos = -1, .eos = 259, .unk = -1, .pad = -1 };
    return tokenizer_from_vocab(&v, NULL);
}

static ern_tokenizer *open_wordpiece(void) {
    static const char *const pieces[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", SPACE_A, "a", "b", "ab",
                                          "\xE2\x96\x81,", "\xE2\x96\x81\xE4\xB8\xAD" };
    const tokenizer_vocab v = { .kind = TOKENIZER_WORDPIECE, .n_tokens = sizeof pieces / sizeof pieces[0],
                                .pieces = pieces, .bos = -1, .eos = -1, .unk = -1, .pad = -1 };
    return tokenizer_from_vocab(&v, NULL);
}

static void try_text(const ern_tokenizer *t, const char *s, size_t n, bool comes_back) {
    static const char *const stops[] = { "ab", "\n" };
    const bool is_valid = n == 0 || utf8_valid(s, n, NULL);
    for (unsigned flags = 0; flags < 8; flags++) {
        ern_ids ids = { 0 };
        ern_buf whole = { 0 }, streamed = { 0 }, stopped = { 0 };
        check(tokenizer_encode(t, s, n, flags, &ids, NULL) == is_valid);
        for (size_t i = 0; i < ids.n; i++) check(ids.id[i] >= 0 && (size_t)ids.id[i] < tokenizer_n_tokens(t));
        if (flags & TOKENIZER_LITERAL && !(flags & (TOKENIZER_SPECIALS | TOKENIZER_ADD)))
            for (size_t i = 0; i < ids.n; i++) check(tokenizer_type(t, ids.id[i]) != TOKEN_CONTROL);
        check(tokenizer_decode(t, ids.id, ids.n, true, &whole, NULL));
        ern_stream *a = stream_open(t, NULL, 0, NULL), *b = stream_open(t, stops, 2, NULL);
        check(a && b);
        stream_show_specials(a);
        for (size_t i = 0; i < ids.n; i++)
            check(stream_feed(a, ids.id[i], &streamed, NULL, NULL) && stream_feed(b, ids.id[i], &stopped, NULL, NULL));
        check(stream_finish(a, &streamed, NULL) && stream_finish(b, &stopped, NULL));
        if (is_valid && comes_back && !(flags & TOKENIZER_ADD)) {
            check(whole.len == n && (n == 0 || memcmp(whole.data, s, n) == 0));
            check(streamed.len == n && (n == 0 || memcmp(streamed.data, s, n) == 0));
        }
        check(!stopped.len || (!strstr(stopped.data, "ab") && !strchr(stopped.data, '\n')));
        stream_close(a);
        stream_close(b);
        buf_deinit(&whole);
        buf_deinit(&streamed);
        buf_deinit(&stopped);
        ids_deinit(&ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ern_tokenizer *spm, *gpt2, *deepseek, *wordpiece;
    const char *s = size ? (const char *)data : "";
    if (!spm) {
        spm = open_spm();
        gpt2 = open_bytelevel("gpt-2");
        deepseek = open_bytelevel("deepseek-llm");
        wordpiece = open_wordpiece();
        check(spm && gpt2 && deepseek && wordpiece);
    }
    try_text(spm, s, size, size < 3 || !memmem(data, size, "\xE2\x96\x81", 3));      /* U+2581 comes back as a space */
    try_text(gpt2, s, size, true);
    try_text(deepseek, s, size, true);
    try_text(wordpiece, s, size, false);
    return 0;
}
