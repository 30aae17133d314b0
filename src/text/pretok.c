/* The pre-tokenizer: steps that cut a span into smaller ones; what the last step leaves goes to the model. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

/* One step at work on s: pieces come in order, matches of the step and the gaps between them. */
typedef struct {
    tok_call *c;
    size_t step;
    const char *s;
    bool is_first;
    enum tok_behavior behavior;
    bool is_inverted;
    bool has_held, held_is_match;
    size_t held_a, held_b;
} splitter;

static bool give(splitter *p, size_t a, size_t b) {
    return a == b || pretok_run(p->c, p->step + 1, p->s + a, b - a, p->is_first && a == 0);
}

static bool give_held(splitter *p) {
    const bool had = p->has_held;
    p->has_held = false;
    return !had || give(p, p->held_a, p->held_b);
}

static bool feed(splitter *p, size_t a, size_t b, bool is_match) {
    if (a == b) return true;
    is_match = is_match != p->is_inverted;
    switch (p->behavior) {
    case SPLIT_REMOVED: return is_match || give(p, a, b);
    case SPLIT_ISOLATED: return give(p, a, b);
    case SPLIT_WITH_PREVIOUS:
        if (p->has_held && is_match && !p->held_is_match) { p->held_b = b; p->held_is_match = true; return true; }
        break;
    case SPLIT_WITH_NEXT:
        if (p->has_held && p->held_is_match && !is_match) { p->held_b = b; p->held_is_match = false; return true; }
        break;
    case SPLIT_CONTIGUOUS:
        if (p->has_held && p->held_is_match == is_match) { p->held_b = b; return true; }
        break;
    }
    if (!give_held(p)) return false;
    p->has_held = true;
    p->held_is_match = is_match;
    p->held_a = a;
    p->held_b = b;
    return true;
}

/* The end of " ?[A-Za-z]+" at s + at if an ASCII character that is no letter (or the end) follows it, else at. */
static size_t plain_word(const char *s, size_t n, size_t at) {
    size_t k = at + (s[at] == ' ');
    const size_t letters = k;
    while (k < n && (uint8_t)((s[k] | 0x20) - 'a') < 26) k++;
    return k > letters && (k == n || (uint8_t)s[k] < 0x80) ? k : at;
}

static bool split_regex(splitter *p, const tok_pre *step, size_t n) {
    size_t from = 0, search = 0;
    while (search < n) {
        size_t a = search, b = step->has_plain_words ? plain_word(p->s, n, search) : search;
        if (a == b) {
            const int found = regex_next(step->regex, &p->c->regex, p->s, n, search, &a, &b, p->c->e);
            if (found < 0) return false;
            if (!found) break;
        }
        if (a == b) {                                   /* an empty match cuts, but not twice at one place */
            int32_t cp;
            if (a >= n) break;
            if (a > from && !feed(p, from, a, false)) return false;
            from = a;
            search = a + utf8_decode(p->s + a, n - a, &cp);
            continue;
        }
        if (!feed(p, from, a, false) || !feed(p, a, b, true)) return false;
        from = search = b;
    }
    return feed(p, from, n, false);
}

static bool split_literal(splitter *p, const tok_pre *step, size_t n) {
    size_t from = 0;
    while (step->text_bytes && n - from >= step->text_bytes) {
        const char *hit = memmem(p->s + from, n - from, step->text, step->text_bytes);
        if (!hit) break;
        const size_t at = (size_t)(hit - p->s);
        if (!feed(p, from, at, false) || !feed(p, at, at + step->text_bytes, true)) return false;
        from = at + step->text_bytes;
    }
    return feed(p, from, n, false);
}

static bool is_ascii_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_ascii_punctuation(uint8_t c) {
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

/* Every single character of the class is a match. */
static bool split_class(splitter *p, size_t n, bool is_spaces) {
    size_t from = 0;
    for (size_t i = 0; i < n;) {
        const uint8_t c = (uint8_t)p->s[i];
        size_t used = 1;
        bool is_match;
        if (c < 0x80) is_match = is_spaces ? is_ascii_space(c) : is_ascii_punctuation(c);
        else {
            int32_t cp;
            used = utf8_decode(p->s + i, n - i, &cp);
            is_match = is_spaces ? uni_is_space(cp) : uni_is_bert_punctuation(cp);
        }
        if (is_match) {
            if (!feed(p, from, i, false) || !feed(p, i, i + used, true)) return false;
            from = i + used;
        }
        i += used;
    }
    return feed(p, from, n, false);
}

static bool starts_with(const char *s, size_t n, const char *what, size_t n_what) {
    return n >= n_what && memcmp(s, what, n_what) == 0;
}

static bool metaspace(tok_call *c, size_t at, const tok_pre *step, const char *s, size_t n, bool is_first) {
    ern_buf b = { .max = TOK_MAX_TEXT_BYTES };
    const bool has_mark = starts_with(s, n, " ", 1) || starts_with(s, n, step->text, step->text_bytes);
    const bool prepends = step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && is_first);
    bool ok = has_mark || !prepends || buf_add(&b, step->text, step->text_bytes, c->e);
    for (size_t i = 0, from = 0; ok && i <= n; i++) {
        if (i < n && s[i] != ' ') continue;
        ok = buf_add(&b, s + from, i - from, c->e) && (i == n || buf_add(&b, step->text, step->text_bytes, c->e));
        from = i + 1;
    }
    if (ok && step->splits) {
        splitter p = { .c = c, .step = at, .s = b.data, .is_first = is_first, .behavior = SPLIT_WITH_NEXT };
        ok = split_literal(&p, step, b.len) && give_held(&p);
    } else if (ok) ok = pretok_run(c, at + 1, b.data, b.len, is_first);
    buf_deinit(&b);
    return ok;
}

static bool prefix_space(tok_call *c, size_t at, const char *s, size_t n, bool is_first) {
    if (starts_with(s, n, " ", 1)) return pretok_run(c, at + 1, s, n, is_first);
    ern_buf b = { .max = TOK_MAX_TEXT_BYTES };
    const bool ok = buf_char(&b, ' ', c->e) && buf_add(&b, s, n, c->e) && pretok_run(c, at + 1, b.data, b.len, is_first);
    buf_deinit(&b);
    return ok;
}

bool pretok_run(tok_call *c, size_t at, const char *s, size_t n, bool is_first) {
    if (n == 0) return true;
    if (at == c->t->n_pre) return tok_word(c, s, n);
    const tok_pre *step = &c->t->pre[at];
    splitter p = { .c = c, .step = at, .s = s, .is_first = is_first, .behavior = step->behavior,
                   .is_inverted = step->is_inverted };
    bool ok = false;
    switch (step->op) {
    case PRE_REGEX: ok = split_regex(&p, step, n); break;
    case PRE_LITERAL: ok = split_literal(&p, step, n); break;
    case PRE_SPACES: ok = split_class(&p, n, true); break;
    case PRE_PUNCTUATION: ok = split_class(&p, n, false); break;
    case PRE_METASPACE: return metaspace(c, at, step, s, n, is_first);
    case PRE_PREFIX_SPACE: return prefix_space(c, at, s, n, is_first);
    }
    return ok && give_held(&p);
}

void pretok_deinit(tok_pre *steps, size_t n_steps) {
    for (size_t i = 0; i < n_steps; i++) {
        regex_close(steps[i].regex);
        free(steps[i].text);
    }
}
