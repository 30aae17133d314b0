/* Bytes a second of a tokenizer. */
#include <stdlib.h>

#include "cli/bench_parts.h"
#include "engine/tokenizer_of.h"

#define TOKENIZER_BYTES ((size_t)10 << 20)

/* Text of every kind a tokenizer meets: English, code, numbers, Chinese, other scripts, emoji. */
static bool made_up_text(ern_buf *out, size_t n, ern_err *e) {
    static const char *const parts[] = {
        "The quick brown fox jumps over the lazy dog, and the engine reads 1,234.5 tokens a second. ",
            "int main(void) {\n\treturn x[i] << 2 ? f(a, b) : 0;\n}\n",
        ("\xE4\xB8\xAD\xE5\x8D\x8E\xE4\xBA\xBA\xE6\xB0\x91\xE5\x85\xB1\xE5\x92\x8C\xE5\x9B\xBD"
        "\xEF\xBC\x8C\xE4\xBB\x8A\xE5\xA4\xA9\xE5\xA4\xA9\xE6\xB0\x94\xE5\xBE\x88\xE5\xA5\xBD\xE3\x80\x82"),
        "http://example.org/a?b=c&d=%20 2026-11-24T20:00 v1.0.3-rc2\n\n",
            "na\xC3\xAFve caf\xC3\xA9 \xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xF0\x9F\x98\x80 ",
    };
    uint64_t state = 7;
    while (out->len < n) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (!buf_str(out, parts[(state >> 40) % COUNT_OF(parts)], e) ||
            !buf_printf(out, e, "%llx ", (unsigned long long)(state >> 48)))
            return false;
    }
    return true;
}

bool bench_tokenizer(const bench_text *o, ern_err *e) {
    ern_buf text = { 0 };
    ern_ids ids = { 0 };
    ern_tokenizer *t = NULL;
    double best = 0.0;
    bool ok = false;
    const size_t rounds = o->n_rounds;
    char *path = cli_model_path(o->path, e);
    if (!path || !(t = tokenizer_of_path(path, e))) goto out;
    if (!(o->file ? cli_read_all(o->file, &text, e) : made_up_text(&text, TOKENIZER_BYTES, e))) goto out;
    for (size_t i = 0; i < rounds; i++) {
        ids.n = 0;
        const double from = cli_now();
        if (!tokenizer_encode(t, text.data ? text.data : "", text.len, TOKENIZER_SPECIALS, &ids, e)) goto out;
        const double spent = cli_now() - from;
        if (best == 0.0 || spent < best) best = spent;
    }
    if (o->is_json)
        ok = cli_print_json(json_pack("{s:I, s:I, s:f, s:f}", "bytes", (json_int_t)text.len, "tokens", (json_int_t)ids.n,
                                      "seconds", best,
                                                  "bytes_per_s", best > 0.0 ? (double)text.len / best : 0.0), e);
    else {
        if (o->is_csv) printf("bytes,tokens,seconds\n%zu,%zu,%.6f\n", text.len, ids.n, best);
        else
            printf(_("%zu bytes, %zu tokens: %.3f s, %.1f MB/s\n"), text.len, ids.n, best,
                   best > 0.0 ? (double)text.len / best * 1e-6 : 0.0);
        ok = true;
    }
out:
    tokenizer_close(t);
    ids_deinit(&ids);
    buf_deinit(&text);
    free(path);
    return ok;
}
