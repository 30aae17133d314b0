/* The normalizer: a list of steps, each from one buffer into the other. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

static bool replace_text(const tok_norm *step, const char *s, size_t n, ern_buf *out, ern_err *e) {
    size_t from = 0;
    if (!buf_reserve(out, n, e)) return false;
    while (step->from_bytes && n - from >= step->from_bytes) {
        const char *hit = step->from_bytes == 1 ? memchr(s + from, step->from[0], n - from)
                                                : memmem(s + from, n - from, step->from, step->from_bytes);
        if (!hit) break;
        const size_t at = (size_t)(hit - s);
        if (!buf_add(out, s + from, at - from, e) || !buf_add(out, step->to, step->to_bytes, e)) return false;
        from = at + step->from_bytes;
    }
    return buf_add(out, s + from, n - from, e);
}

static bool replace_regex(const tok_norm *step, tok_regex_scratch *w, const char *s, size_t n, ern_buf *out, ern_err *e) {
    size_t from = 0, search = 0, a, b;
    while (search <= n) {
        const int found = regex_next(step->regex, w, s, n, search, &a, &b, e);
        if (found < 0) return false;
        if (!found) break;
        if (!buf_add(out, s + from, a - from, e) || !buf_add(out, step->to, step->to_bytes, e)) return false;
        from = b;
        search = b;
        if (a == b) {
            int32_t cp;
            if (b >= n) break;
            search += utf8_decode(s + b, n - b, &cp);
        }
    }
    return buf_add(out, s + from, n - from, e);
}

static bool strip(const tok_norm *step, const char *s, size_t n, ern_buf *out, ern_err *e) {
    int32_t cp;
    size_t a = 0, b = n;
    while (step->left && a < b) {
        const size_t used = utf8_decode(s + a, b - a, &cp);
        if (!uni_is_space(cp)) break;
        a += used;
    }
    while (step->right && b > a) {
        size_t k = b - 1;
        while (k > a && ((uint8_t)s[k] & 0xC0) == 0x80) k--;
        utf8_decode(s + k, b - k, &cp);
        if (!uni_is_space(cp)) break;
        b = k;
    }
    return buf_add(out, s + a, b - a, e);
}

/* SentencePiece's remove_extra_whitespaces: none at the ends, one in between; at the end U+2581 is a space too. */
static bool collapse(const char *s, size_t n, ern_buf *out, ern_err *e) {
    bool was_space = true;
    if (!buf_reserve(out, n, e)) return false;
    for (size_t i = 0; i < n; i++) {
        const bool is_space = s[i] == ' ';
        if (!(is_space && was_space) && !buf_char(out, s[i], e)) return false;
        was_space = is_space;
    }
    for (;;) {
        size_t cut = out->len && out->data[out->len - 1] == ' ' ? 1 : 0;
        const size_t before = out->len >= SPACE_MARK_BYTES ? out->len - SPACE_MARK_BYTES : out->len;
        if (before < out->len && memcmp(out->data + before, SPACE_MARK, SPACE_MARK_BYTES) == 0) cut = SPACE_MARK_BYTES;
        if (!cut) return true;
        out->len -= cut;
        out->data[out->len] = '\0';
    }
}

static bool run_step(const tok_norm *step, tok_norm_scratch *w, bool is_first, const char *s, size_t n, ern_buf *out,
                     ern_err *e) {
    switch (step->op) {
    case NORM_PREPEND: return (!n || buf_add(out, step->to, step->to_bytes, e)) && buf_add(out, s, n, e);
    case NORM_SPM_PREFIX: return (!n || !is_first || buf_char(out, ' ', e)) && buf_add(out, s, n, e);
    case NORM_REPLACE: return replace_text(step, s, n, out, e);
    case NORM_REPLACE_REGEX: return replace_regex(step, &w->regex, s, n, out, e);
    case NORM_NFC: case NORM_NFD: case NORM_NFKC: case NORM_NFKD: return uni_form(step->op, s, n, out, e);
    case NORM_LOWER: return uni_lower(s, n, out, e);
    case NORM_STRIP_ACCENTS: return uni_strip_accents(s, n, out, e);
    case NORM_STRIP: return strip(step, s, n, out, e);
    case NORM_BERT: return uni_bert(step, s, n, out, e);
    case NORM_CHARSMAP: return charsmap_run(step->from, step->from_bytes, s, n, out, e);
    case NORM_SPM_SPACES: return collapse(s, n, out, e);
    }
    return ern_fail(e, ERN_FORMAT, "normalizer: unknown step %d", (int)step->op);
}

bool normalizer_run(const tok_norm *steps, size_t n_steps, bool is_first, const char *s, size_t n, tok_norm_scratch *w,
                    const char **out, size_t *n_out, ern_err *e) {
    w->a.max = w->b.max = TOK_MAX_TEXT_BYTES;
    for (size_t i = 0; i < n_steps; i++) {
        ern_buf *to = i % 2 ? &w->b : &w->a;
        buf_clear(to);
        if (!buf_reserve(to, 0, e) || !run_step(&steps[i], w, is_first, s, n, to, e)) return false;
        s = to->data;
        n = to->len;
    }
    *out = s;
    *n_out = n;
    return true;
}

void normalizer_deinit(tok_norm *steps, size_t n_steps) {
    for (size_t i = 0; i < n_steps; i++) {
        free(steps[i].from);
        free(steps[i].to);
        regex_close(steps[i].regex);
    }
}
