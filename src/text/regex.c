/* Regular expressions of pre-tokenizers, through PCRE2's JIT. The vocabularies write them for Oniguruma and Rust; what
 * means something else here is rewritten (\s, \w, a class in a class) or refused (set operations). Steps are limited, so
 * that an expression from a hostile file ends in an error. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define MAX_PATTERN_BYTES ((size_t)1 << 14)
#define MAX_MATCH_STEPS 50000000u           /* of one match; a run of 1 MB of spaces takes about two million */
#define MAX_HEAP_KIB (64u << 10)
#define JIT_STACK_START ((size_t)32 << 10)
#define JIT_STACK_MAX ((size_t)32 << 20)

/* White_Space of Unicode, which PCRE2's own \s exceeds by U+180E. */
#define SPACE_CLASS "\\p{Z}\\x{09}-\\x{0D}\\x{85}"
#define WORD_CLASS \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}" \
    "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"

struct tok_regex { pcre2_code *code; bool has_jit; };

static bool add_class(ern_buf *b, char letter, bool in_class, ern_err *e) {
    const char *set = letter == 's' || letter == 'S' ? SPACE_CLASS : WORD_CLASS;
    const bool is_negated = letter == 'S' || letter == 'W';
    if (in_class && is_negated) return buf_char(b, '\\', e) && buf_char(b, letter, e);
    return in_class ? buf_str(b, set, e) : buf_printf(b, e, "[%s%s]", is_negated ? "^" : "", set);
}

/* One letter or sign of the pattern; beyond ASCII by number, so that equal patterns become equal text. */
static bool add_letter(const char *s, size_t n, size_t *i, ern_buf *b, ern_err *e) {
    int32_t cp;
    if ((uint8_t)s[*i] < 0x80) return buf_char(b, s[*i], e);
    const size_t used = utf8_decode(s + *i, n - *i, &cp);
    if (cp < 0) return ern_fail(e, ERN_FORMAT, "regex: byte %zu is not UTF-8", *i);
    *i += used - 1;
    return buf_printf(b, e, "\\x{%X}", (unsigned)cp);
}

/* [:name:] at pattern + i: its bytes, or 0. */
static size_t posix_name(const char *pattern, size_t i) {
    const char *end = pattern[i + 1] == ':' ? strstr(pattern + i + 2, ":]") : NULL;
    return end ? (size_t)(end - pattern) + 2 - i : 0;
}

/* A class inside a class is a union in Oniguruma: its brackets go. *open counts the classes that are open. */
static bool class_sign(const char *pattern, size_t *i, unsigned *open, ern_buf *b, ern_err *e) {
    const char c = pattern[*i];
    const size_t name = c == '[' ? posix_name(pattern, *i) : 0;
    if (c == '&' && pattern[*i + 1] == '&')
        return ern_fail(e, ERN_MISSING, "regex \"%.200s\": a set operation (&&) at offset %zu is not supported", pattern,
                        *i);
    if (name) {
        const size_t from = *i;
        *i += name - 1;
        return buf_add(b, pattern + from, name, e);
    }
    if (c == '[') {
        if (pattern[*i + 1] == '^')
            return ern_fail(e, ERN_MISSING,
                            "regex \"%.200s\": a negated class inside a class at offset %zu is not supported", pattern, *i);
        (*open)++;
        return true;
    }
    (*open)--;
    return *open > 0 || buf_char(b, c, e);
}

static bool translate(const char *pattern, ern_buf *b, ern_err *e) {
    const size_t n = strlen(pattern);
    unsigned open = 0;
    size_t class_at = 0;                        /* where the class's first member stands: a ']' there is a member */
    for (size_t i = 0; i < n; i++) {
        const char c = pattern[i];
        bool ok;
        if (c == '\\' && i + 1 < n) {
            const char next = pattern[++i];
            if (strchr("sSwW", next)) ok = add_class(b, next, open > 0, e);
            else ok = buf_char(b, c, e) && add_letter(pattern, n, &i, b, e);
        } else if (open && i > class_at && (c == '[' || c == ']' || (c == '&' && pattern[i + 1] == '&'))) {
            ok = class_sign(pattern, &i, &open, b, e);
        } else {
            if (!open && c == '[') {
                open = 1;
                class_at = i + 1 + (pattern[i + 1] == '^');
                if (pattern[class_at] == '[') class_at--;       /* a class or [:name:] may come first */
            }
            ok = add_letter(pattern, n, &i, b, e);
        }
        if (!ok) return false;
    }
    return true;
}

bool regex_is_same(const char *x, const char *y) {
    ern_buf a = { .max = 8 * MAX_PATTERN_BYTES }, b = { .max = 8 * MAX_PATTERN_BYTES };
    const bool can = translate(x, &a, NULL) && translate(y, &b, NULL) && a.len > 0;
    const bool same = can && a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
    buf_deinit(&a);
    buf_deinit(&b);
    return same;
}

tok_regex *regex_open(const char *pattern, ern_err *e) {
    tok_regex *r = NULL;
    ern_buf b = { .max = 8 * MAX_PATTERN_BYTES };
    bool ok = false;
    if (strlen(pattern) > MAX_PATTERN_BYTES) {
        ern_fail(e, ERN_LIMIT, "regex: %zu bytes, at most %zu are taken", strlen(pattern), MAX_PATTERN_BYTES);
        goto out;
    }
    if (!(r = mem_zalloc(1, sizeof *r, "regex", e)) || !translate(pattern, &b, e) || !buf_reserve(&b, 0, e)) goto out;
    int code;
    PCRE2_SIZE at;
    r->code = pcre2_compile((PCRE2_SPTR)b.data, b.len, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!r->code) {
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        const enum ern_code kind = code == PCRE2_ERROR_HEAP_FAILED ? ERN_NOMEM : ERN_FORMAT;
        ern_fail(e, kind, "regex \"%.200s\": %s (near offset %zu)", pattern, why, (size_t)at);
        goto out;
    }
    r->has_jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;      /* without it matching is only slower */
    ok = true;
out:
    buf_deinit(&b);
    if (!ok) {
        regex_close(r);
        r = NULL;
    }
    return r;
}

void regex_close(tok_regex *r) {
    if (!r) return;
    pcre2_code_free(r->code);
    free(r);
}

static bool scratch_init(tok_regex_scratch *w, ern_err *e) {
    if (w->match) return true;
    if (!w->context) w->context = pcre2_match_context_create(NULL);
    if (w->context && !w->stack) w->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
    if (!w->context || !w->stack || !(w->match = pcre2_match_data_create(1, NULL)))
        return ern_fail(e, ERN_NOMEM, "regex: no memory for matching");
    pcre2_set_match_limit(w->context, MAX_MATCH_STEPS);
    pcre2_set_heap_limit(w->context, MAX_HEAP_KIB);
    pcre2_jit_stack_assign(w->context, NULL, w->stack);
    return true;
}

void regex_scratch_deinit(tok_regex_scratch *w) {
    pcre2_match_data_free(w->match);
    pcre2_match_context_free(w->context);
    pcre2_jit_stack_free(w->stack);
    *w = (tok_regex_scratch){ 0 };
}

int regex_next(const tok_regex *r, tok_regex_scratch *w, const char *s, size_t n, size_t from, size_t *a, size_t *b,
               ern_err *e) {
    if (!scratch_init(w, e)) return -1;
    const PCRE2_SPTR text = (PCRE2_SPTR)s;
    const uint32_t how = PCRE2_NO_UTF_CHECK;
    const int found = r->has_jit ? pcre2_jit_match(r->code, text, n, from, how, w->match, w->context)
                                 : pcre2_match(r->code, text, n, from, how, w->match, w->context);
    if (found == PCRE2_ERROR_NOMATCH) return 0;
    if (found < 0) {
        char why[128] = "";
        pcre2_get_error_message(found, (PCRE2_UCHAR *)why, sizeof why);
        const enum ern_code kind = found == PCRE2_ERROR_NOMEMORY ? ERN_NOMEM : ERN_LIMIT;
        ern_fail(e, kind, "regex of the pre-tokenizer at byte %zu: %s", from, why);
        return -1;
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(w->match);
    *a = at[0];
    *b = at[1] < at[0] ? at[0] : at[1];         /* \K may turn them round */
    return 1;
}
