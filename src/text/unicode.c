/* Unicode through ICU: forms, case, marks, and the character classes that tokenizers go by.
 *
 * BERT's classes come from the tokenizers library, whose category tables are those of Unicode 8.0: a mark or a comma that
 * came later is an ordinary character to it, and to the models trained with it. */
#include <stdlib.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define TABLES_MAJOR 8          /* Unicode version of those tables */
#define MAX_UTF16 ((size_t)INT32_MAX / 8)

static bool is_in_tables(int32_t cp) {
    UVersionInfo age;
    u_charAge(cp, age);
    return age[0] < TABLES_MAJOR || (age[0] == TABLES_MAJOR && age[1] == 0);
}

bool uni_is_space(int32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return u_hasBinaryProperty(cp, UCHAR_WHITE_SPACE) != 0;
}

bool uni_is_word(int32_t cp) {
    if (cp < 0x80) return (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z') || cp == '_';
    return u_hasBinaryProperty(cp, UCHAR_ALPHABETIC) ||
        (U_MASK(u_charType(cp)) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) ||
           u_hasBinaryProperty(cp, UCHAR_JOIN_CONTROL);
}

bool uni_is_bert_punctuation(int32_t cp) {
    if (cp < 0x80) return cp > ' ' && cp < 0x7F && !uni_is_word(cp) ? true : cp == '_';
    /* Later versions made a symbol and a mark of these two. */
    return ((U_MASK(u_charType(cp)) & U_GC_P_MASK) && is_in_tables(cp)) || cp == 0x166D || cp == 0x111C9;
}

bool uni_is_bert_control(int32_t cp) {
    if (cp < 0x80) return (cp < ' ' && cp != '\t' && cp != '\n' && cp != '\r') || cp == 0x7F;
    const uint32_t kind = U_MASK(u_charType(cp));
    if (kind & (U_GC_CC_MASK | U_GC_CS_MASK | U_GC_CO_MASK)) return true;
    return (kind & U_GC_CF_MASK) && is_in_tables(cp);
}

/* The library begins its fifth range at 2B920 where BERT's own rule says 2B820; models follow the library. */
bool uni_is_han(int32_t cp) {
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
           (cp >= 0x2A700 && cp <= 0x2B73F) || (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static bool is_nonspacing_mark(int32_t cp) {
    switch (cp) {                               /* what later versions moved into the category or out of it */
    case 0x1734: return true;
    case 0x1885: case 0x1886: case 0xA9BD: case 0x111C9: return false;
    default: return u_charType(cp) == U_NON_SPACING_MARK && is_in_tables(cp);
    }
}

/* ---- UTF-16, which ICU's normalizer wants ------------------------------------------------------- */

static bool failed(UErrorCode code, const char *what, ern_err *e) {
    if (U_SUCCESS(code)) return false;
    ern_fail(e, code == U_MEMORY_ALLOCATION_ERROR ? ERN_NOMEM : ERN_FORMAT, "%s: %s", what, u_errorName(code));
    return true;
}

static UChar *to_utf16(const char *s, size_t n, int32_t *n_out, ern_err *e) {
    UErrorCode code = U_ZERO_ERROR;
    if (n > MAX_UTF16) {
        ern_fail(e, ERN_LIMIT, "normalizer: %zu bytes at once, at most %zu are taken", n, MAX_UTF16);
        return NULL;
    }
    UChar *u = mem_zalloc(n + 1, sizeof *u, "normalizer", e);
    if (u) u_strFromUTF8(u, (int32_t)n + 1, n_out, s, (int32_t)n, &code);
    if (u && failed(code, "normalizer", e)) {
        free(u);
        u = NULL;
    }
    return u;
}

static bool add_utf16(const UChar *u, int32_t n, ern_buf *out, ern_err *e) {
    UErrorCode code = U_ZERO_ERROR;
    int32_t n_bytes = 0;
    if (n == 0) return true;
    if (!buf_reserve(out, (size_t)n * 3, e)) return false;
    u_strToUTF8(out->data + out->len, n * 3 + 1, &n_bytes, u, n, &code);
    if (failed(code, "normalizer", e)) return false;
    out->len += (size_t)n_bytes;
    out->data[out->len] = '\0';
    return true;
}

static const UNormalizer2 *form_of(enum tok_norm_op op, UErrorCode *code) {
    switch (op) {
    case NORM_NFC: return unorm2_getNFCInstance(code);
    case NORM_NFD: return unorm2_getNFDInstance(code);
    case NORM_NFKC: return unorm2_getNFKCInstance(code);
    default: return unorm2_getNFKDInstance(code);
    }
}

bool uni_form(enum tok_norm_op op, const char *s, size_t n, ern_buf *out, ern_err *e) {
    UErrorCode code = U_ZERO_ERROR;
    bool ok = false, is_ascii = true;
    UChar *from = NULL, *to = NULL;
    int32_t n_from = 0, n_to;
    for (size_t i = 0; i < n && is_ascii; i++) is_ascii = (uint8_t)s[i] < 0x80;
    if (is_ascii) return buf_add(out, s, n, e);
    const UNormalizer2 *form = form_of(op, &code);
    if (failed(code, "normalizer", e) || !(from = to_utf16(s, n, &n_from, e))) goto out;
    n_to = unorm2_normalize(form, from, n_from, NULL, 0, &code);
    if (code == U_BUFFER_OVERFLOW_ERROR) code = U_ZERO_ERROR;
    if (failed(code, "normalizer", e) || !(to = mem_zalloc((size_t)n_to + 1, sizeof *to, "normalizer", e))) goto out;
    n_to = unorm2_normalize(form, from, n_from, to, n_to + 1, &code);
    ok = !failed(code, "normalizer", e) && add_utf16(to, n_to, out, e);
out:
    free(from);
    free(to);
    return ok;
}

/* ---- one character at a time -------------------------------------------------------------------- */

static bool add_cp(ern_buf *out, int32_t cp, ern_err *e) {
    char bytes[4];
    return buf_add(out, bytes, utf8_encode(cp, bytes), e);
}

/* Each character by itself, so that a final sigma is a sigma: as Rust's char::to_lowercase. */
static bool add_lower(ern_buf *out, int32_t cp, ern_err *e) {
    if (cp == 0x130) return buf_str(out, "i\xCC\x87", e);       /* the one letter whose lower case is two characters */
    return add_cp(out, u_tolower(cp), e);
}

bool uni_lower(const char *s, size_t n, ern_buf *out, ern_err *e) {
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += utf8_decode(s + i, n - i, &cp);
        if (!add_lower(out, cp, e)) return false;
    }
    return true;
}

bool uni_strip_accents(const char *s, size_t n, ern_buf *out, ern_err *e) {
    for (size_t i = 0; i < n;) {
        int32_t cp;
        const size_t used = utf8_decode(s + i, n - i, &cp);
        if (!(U_MASK(u_charType(cp)) & U_GC_M_MASK) && !buf_add(out, s + i, used, e)) return false;
        i += used;
    }
    return true;
}

/* ---- BERT ----------------------------------------------------------------------------------------- */

/* Decompose s[0..n), drop its marks and lower it. */
static bool bert_letters(const tok_norm *step, const char *s, size_t n, ern_buf *work, ern_buf *out, ern_err *e) {
    if (step->strips_accents) {
        buf_clear(work);
        if (!uni_form(NORM_NFD, s, n, work, e)) return false;
        s = work->data;
        n = work->len;
    }
    for (size_t i = 0; i < n;) {
        int32_t cp;
        const size_t used = utf8_decode(s + i, n - i, &cp);
        const bool is_dropped = step->strips_accents && is_nonspacing_mark(cp);
        if (!is_dropped && !(step->lowers ? add_lower(out, cp, e) : buf_add(out, s + i, used, e))) return false;
        i += used;
    }
    return true;
}

static bool flush(const tok_norm *step, ern_buf *letters, ern_buf *work, ern_buf *out, ern_err *e) {
    const bool ok = !letters->len || bert_letters(step, letters->data, letters->len, work, out, e);
    buf_clear(letters);
    return ok;
}

/* ASCII needs no tables; letters beyond it are gathered until the next ASCII or Han character, where no mark can
 * attach across in a decomposition. */
bool uni_bert(const tok_norm *step, const char *s, size_t n, ern_buf *out, ern_err *e) {
    ern_buf letters = { .max = out->max }, work = { .max = out->max };
    bool ok = buf_reserve(out, n + 16, e);
    for (size_t i = 0; ok && i < n;) {
        int32_t cp = (uint8_t)s[i];
        size_t used = 1;
        if (cp < 0x80) {
            if (letters.len && !(ok = flush(step, &letters, &work, out, e))) break;
            if (step->cleans && (cp == 0 || uni_is_bert_control(cp))) { i++; continue; }
            if (step->cleans && cp < ' ') cp = ' ';
            if (step->lowers && cp >= 'A' && cp <= 'Z') cp += 'a' - 'A';
            ok = buf_char(out, (char)cp, e);
            i++;
            continue;
        }
        used = utf8_decode(s + i, n - i, &cp);
        const bool is_han = uni_is_han(cp), is_plain_han = cp >= 0x4E00 && cp <= 0x9FFF;
        if (is_plain_han) {
            ok = (!letters.len || flush(step, &letters, &work, out, e)) && (!step->pads_han || buf_char(out, ' ', e)) &&
                 buf_add(out, s + i, used, e) && (!step->pads_han || buf_char(out, ' ', e));
        } else if (step->cleans && (cp == 0xFFFD || uni_is_bert_control(cp))) {
        } else if (step->cleans && uni_is_space(cp)) {
            ok = flush(step, &letters, &work, out, e) && buf_char(out, ' ', e);
        } else {
            ok = (!is_han || !step->pads_han || buf_char(&letters, ' ', e)) && buf_add(&letters, s + i, used, e) &&
                 (!is_han || !step->pads_han || buf_char(&letters, ' ', e));
        }
        i += used;
    }
    ok = ok && flush(step, &letters, &work, out, e);
    buf_deinit(&letters);
    buf_deinit(&work);
    return ok;
}
