/* Text: views into larger texts, joining that grows in place, and Python's str operations on code points. */
#include <stdlib.h>
#include <unicode/uchar.h>
#include <unicode/ustring.h>

#include "base/utf8.h"
#include "text/template_int.h"

/* ---- making ----------------------------------------------------------------------------------- */

const str *str_view(rt *r, const char *p, size_t n, const str *of) {
    str *s = rt_take(r, 1, sizeof *s);
    if (!s) return NULL;
    *s = (str){ .p = p, .n = n, .n_chars = SIZE_MAX };
    if (of) {
        s->is_markup = of->is_markup;
        s->room = of->room;
        if (of->n_chars == of->n) s->n_chars = n;               /* all ASCII */
    }
    return s;
}

const str *str_new(rt *r, const char *p, size_t n) {
    if (!rt_charge(r, n)) return NULL;
    char *copy = rt_take(r, n, 1);
    if (!copy) return NULL;
    if (n) memcpy(copy, p, n);
    return str_view(r, copy, n, NULL);
}

const str *str_lit(rt *r, const char *literal) { return str_view(r, literal, strlen(literal), NULL); }

const str *str_buf(rt *r, ern_buf *b, bool ok) {
    const str *s = ok ? str_new(r, b->data, b->len) : NULL;
    buf_deinit(b);
    return s;
}

const str *str_markup(rt *r, const str *s, bool is_markup) {
    if (!s || s->is_markup == is_markup) return s;
    str *m = rt_take(r, 1, sizeof *m);
    if (!m) return NULL;
    *m = *s;
    m->is_markup = is_markup;
    return m;
}

/* The left text may end where its room's used part ends: then the right one is written behind it and nothing is
 * copied, so that "text = text + more" in a loop costs what it adds. Others who hold the left text see its length only. */
const str *str_join(rt *r, const str *a, const str *b) {
    if (a->n + b->n > r->max_bytes) {
        rt_fail(r, FAULT_LIMIT, "a text passes %zu bytes", r->max_bytes);
        return NULL;
    }
    if (!rt_charge(r, b->n)) return NULL;
    str_room *room = a->room;
    if (!room || a->p + a->n != room->text + room->used || b->n > room->cap - room->used) {
        const size_t cap = 2 * (a->n + b->n) < 64 ? 64 : a->n + b->n < 4096 ? 2 * (a->n + b->n) : (a->n + b->n) / 2 * 3;
        if (!rt_charge(r, a->n) || !(room = rt_take(r, sizeof *room + cap, 1))) return NULL;
        room->cap = cap;
        memcpy(room->text, a->p, a->n);
        room->used = a->n;
    }
    char *start = room->text + room->used - a->n;
    memcpy(room->text + room->used, b->p, b->n);
    room->used += b->n;
    str *s = rt_take(r, 1, sizeof *s);
    if (!s) return NULL;
    *s = (str){ .p = start, .n = a->n + b->n, .n_chars = SIZE_MAX, .room = room, .is_markup = a->is_markup };
    if (a->n_chars != SIZE_MAX && b->n_chars != SIZE_MAX) s->n_chars = a->n_chars + b->n_chars;
    return s;
}

bool buf_escaped(ern_buf *b, const char *p, size_t n, ern_err *e) {
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        const char *to = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&#34;" : c == '\'' ?
            "&#39;" : NULL;
        if (!(to ? buf_str(b, to, e) : buf_char(b, c, e))) return false;
    }
    return true;
}

const str *str_escape(rt *r, const str *s) {
    if (s->is_markup) return s;
    ern_buf b = { .max = r->max_bytes };
    const bool ok = buf_escaped(&b, s->p, s->n, NULL);
    if (!ok) rt_fail(r, FAULT_LIMIT, "an escaped text passes %zu bytes", r->max_bytes);
    return str_markup(r, str_buf(r, &b, ok), true);
}

/* ---- looking ---------------------------------------------------------------------------------- */

size_t str_chars(const str *s) {
    if (s->n_chars != SIZE_MAX) return s->n_chars;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += ((unsigned char)s->p[i] & 0xC0) != 0x80;
    ((str *)(uintptr_t)s)->n_chars = n;                         /* this rendering's own: a template's are counted */
    return n;
}

size_t str_offset(const str *s, size_t i_char) {
    if (str_chars(s) == s->n) return i_char < s->n ? i_char : s->n;
    size_t at = 0;
    for (; at < s->n; at++)
        if (((unsigned char)s->p[at] & 0xC0) != 0x80 && i_char-- == 0) break;
    return at;
}

bool str_is(const str *s, const char *literal) { return s->n == strlen(literal) && memcmp(s->p, literal, s->n) == 0; }
bool str_same(const str *a, const str *b) { return a->n == b->n && memcmp(a->p, b->p, a->n) == 0; }

int str_order(const str *a, const str *b) {
    const int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
    return c ? c : a->n < b->n ? -1 : a->n > b->n;
}

bool str_find(const str *s, const char *p, size_t n, size_t from, size_t *at) {
    if (from > s->n) return false;
    if (n == 0) {
        *at = from;
        return true;
    }
    const char *hit = memmem(s->p + from, s->n - from, p, n);
    if (hit) *at = (size_t)(hit - s->p);
    return hit != NULL;
}

bool char_is_space(int32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool char_is_printable(int32_t c) {
    if (c < 0x7F) return c >= 0x20;
    const uint32_t hidden = U_GC_C_MASK | U_GC_Z_MASK;
    return !(U_GET_GC_MASK(c) & hidden);
}

bool char_is_word(int32_t c) {
    if (c < 0x80) return (c >= '0' && c <= '9') || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return (U_GET_GC_MASK(c) & (U_GC_L_MASK | U_GC_ND_MASK)) || u_getIntPropertyValue(c, UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}

/* ---- case ------------------------------------------------------------------------------------- */

/* The macro's own arithmetic mixes signs, hence by hand; u is well formed. */
static int32_t next_utf16(const UChar *u, int32_t *i, int32_t n) {
    const int32_t c = u[(*i)++];
    if (c < 0xD800 || c > 0xDBFF || *i >= n) return c;
    return 0x10000 + ((c - 0xD800) << 10) + (u[(*i)++] - 0xDC00);
}

static bool put_utf16(ern_buf *b, const UChar *u, int32_t n) {
    for (int32_t i = 0; i < n;) {
        char room[4];
        const int32_t c = next_utf16(u, &i, n);
        if (!buf_add(b, room, utf8_encode(c, room), NULL)) return false;
    }
    return true;
}

/* The whole text lowered or raised: a final sigma depends on its neighbours. */
static bool cased_all(const str *s, bool upper, ern_buf *b) {
    UErrorCode status = U_ZERO_ERROR;
    int32_t n = 0, m = 0;
    if (s->n > INT32_MAX / 8) return false;
    UChar *u = malloc((s->n + 1) * sizeof *u), *v = malloc((3 * s->n + 1) * sizeof *v);
    bool ok = u && v;
    if (ok) u_strFromUTF8(u, (int32_t)s->n + 1, &n, s->p, (int32_t)s->n, &status);
    if (ok) m = upper ? u_strToUpper(v, (int32_t)(3 * s->n + 1), u, n, "", &status) :
        u_strToLower(v, (int32_t)(3 * s->n + 1), u, n, "", &status);
    ok = ok && U_SUCCESS(status) && put_utf16(b, v, m);
    free(u);
    free(v);
    return ok;
}

/* One character as the first of a word: "ß" becomes "Ss". */
static bool put_title(ern_buf *b, int32_t c) {
    UChar in[2], out[8];
    int32_t n = 0, at = 0;
    UErrorCode status = U_ZERO_ERROR;
    char room[4];
    if (c > 0xFFFF) in[n++] = (UChar)(0xD7C0 + (c >> 10));
    in[n++] = (UChar)(c > 0xFFFF ? 0xDC00 + (c & 0x3FF) : c);
    const int32_t m = u_strToUpper(out, 8, in, n, "", &status);
    if (U_FAILURE(status)) return false;
    const int32_t first = next_utf16(out, &at, m);
    if (at == m || u_totitle(c) != c) return buf_add(b, room, utf8_encode(u_totitle(c), room), NULL);
    if (!buf_add(b, room, utf8_encode(first, room), NULL)) return false;
    const bool keeps = !u_hasBinaryProperty(first, UCHAR_CASED);
    while (at < m) {
        const int32_t rest = next_utf16(out, &at, m);
        if (!buf_add(b, room, utf8_encode(keeps ? rest : u_tolower(rest), room), NULL)) return false;
    }
    return true;
}

static bool cased_words(rt *r, const str *s, enum str_case how, ern_buf *b) {
    bool in_word = false, ok = true;
    const str *lower = how == CASE_SWAP ? NULL : str_cased(r, s, CASE_LOWER);
    size_t at = 0;                                              /* in lower: the same characters, lowered in their place */
    if (how != CASE_SWAP && !lower) return false;
    for (size_t i = 0; ok && i < s->n;) {
        int32_t c, low;
        char room[4];
        const size_t used = utf8_decode(s->p + i, s->n - i, &c);
        const str one = { .p = s->p + i, .n = used, .n_chars = 1 };
        size_t width = lower ? utf8_decode(lower->p + at, lower->n - at, &low) : 0;
        if (c == 0x130 && lower) width += 2;                    /* the one letter that lowers to two */
        if (how == CASE_SWAP) ok = u_hasBinaryProperty(c, UCHAR_UPPERCASE) ? cased_all(&one, false, b) :
                                   u_hasBinaryProperty(c, UCHAR_LOWERCASE) ? cased_all(&one, true, b) :
                                       buf_add(b, room, utf8_encode(c, room), NULL);
        else if (!in_word) ok = put_title(b, c);
        else ok = buf_add(b, lower->p + at, width, NULL);
        in_word = how == CASE_CAPITAL || u_hasBinaryProperty(c, UCHAR_CASED);
        i += used;
        at += width;
    }
    return ok;
}

static bool is_ascii(const str *s) { return str_chars(s) == s->n; }

const str *str_cased(rt *r, const str *s, enum str_case how) {
    if (!rt_charge(r, s->n)) return NULL;
    if (is_ascii(s)) {
        char *p = rt_take(r, s->n, 1);
        if (!p) return NULL;
        bool in_word = false;
        for (size_t i = 0; i < s->n; i++) {
            const char c = s->p[i];
            const bool low = c >= 'a' && c <= 'z', up = c >= 'A' && c <= 'Z';
            const bool raise = how == CASE_UPPER || (how == CASE_SWAP && low) ||
                ((how == CASE_TITLE || how == CASE_CAPITAL) && !in_word);
            p[i] = (char)(raise && low ? c - 32 : !raise && up ? c + 32 : c);
            in_word = how == CASE_CAPITAL || low || up;
        }
        return str_markup(r, str_view(r, p, s->n, NULL), s->is_markup);
    }
    ern_buf b = { 0 };
    const bool ok = how == CASE_LOWER || how == CASE_UPPER ? cased_all(s, how == CASE_UPPER, &b) :
        cased_words(r, s, how, &b);
    if (!ok) rt_fail(r, FAULT_LIMIT, "no memory or room to change the case of %zu bytes", s->n);
    return str_markup(r, str_buf(r, &b, ok), s->is_markup);
}

/* ---- strip, split, replace -------------------------------------------------------------------- */

static bool in_set(int32_t c, const str *chars) {
    if (!chars) return char_is_space(c);
    for (size_t i = 0; i < chars->n;) {
        int32_t k;
        i += utf8_decode(chars->p + i, chars->n - i, &k);
        if (k == c) return true;
    }
    return false;
}

static size_t char_before(const str *s, size_t end, int32_t *c) {
    size_t at = end - 1;
    while (at && ((unsigned char)s->p[at] & 0xC0) == 0x80) at--;
    utf8_decode(s->p + at, end - at, c);
    return at;
}

const str *str_strip(rt *r, const str *s, const str *chars, bool left, bool right) {
    size_t from = 0, to = s->n;
    int32_t c;
    while (left && from < to) {
        const size_t used = utf8_decode(s->p + from, to - from, &c);
        if (!in_set(c, chars)) break;
        from += used;
    }
    while (right && from < to) {
        const size_t at = char_before(s, to, &c);
        if (!in_set(c, chars)) break;
        to = at;
    }
    if (!rt_charge(r, (s->n - (to - from)) * (chars ? 1 + chars->n : 1))) return NULL;
    return str_view(r, s->p + from, to - from, s);
}

static bool add_part(rt *r, const str *s, size_t from, size_t to, list *out, size_t *cap) {
    const str *part = str_view(r, s->p + from, to - from, s);
    val *slot = part ? list_grow(r, out, cap) : NULL;
    if (slot) *slot = val_str(part);
    return slot != NULL;
}

static bool split_space(rt *r, const str *s, int64_t max, list *out, size_t *cap) {
    size_t at = 0;
    int32_t c = 0;
    for (;;) {
        while (at < s->n) {
            const size_t used = utf8_decode(s->p + at, s->n - at, &c);
            if (!char_is_space(c)) break;
            at += used;
        }
        if (at >= s->n) return true;
        size_t end = at;
        if (max >= 0 && max-- == 0) return add_part(r, s, at, s->n, out, cap);
        while (end < s->n) {
            const size_t used = utf8_decode(s->p + end, s->n - end, &c);
            if (char_is_space(c)) break;
            end += used;
        }
        if (!add_part(r, s, at, end, out, cap)) return false;
        at = end;
    }
}

static bool rsplit_space(rt *r, const str *s, int64_t max, list *out, size_t *cap) {
    size_t end = s->n;
    int32_t c = 0;
    for (;;) {
        while (end) {
            const size_t before = char_before(s, end, &c);
            if (!char_is_space(c)) break;
            end = before;
        }
        if (!end) return true;
        size_t at = end;
        if (max >= 0 && max-- == 0) return add_part(r, s, 0, end, out, cap);
        while (at) {
            const size_t before = char_before(s, at, &c);
            if (char_is_space(c)) break;
            at = before;
        }
        if (!add_part(r, s, at, end, out, cap)) return false;
        end = at;
    }
}

static void reverse(list *l) {
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        const val t = l->v[i];
        l->v[i] = l->v[--j];
        l->v[j] = t;
    }
}

static bool rsplit_at(rt *r, const str *s, const str *sep, int64_t max, list *out, size_t *cap) {
    size_t end = s->n;
    for (size_t i = s->n; max != 0 && i >= sep->n;) {
        if (memcmp(s->p + i - sep->n, sep->p, sep->n) == 0) {
            if (!add_part(r, s, i, end, out, cap)) return false;
            i -= sep->n;
            end = i;
            if (max > 0) max--;
        } else {
            i--;
        }
    }
    return add_part(r, s, 0, end, out, cap);
}

bool str_split(rt *r, const str *s, const str *sep, int64_t max, bool from_right, list *out) {
    size_t cap = 0, from = 0, at;
    bool ok = true;
    if (!rt_charge(r, s->n)) return false;
    if (sep && !sep->n) return rt_fail(r, FAULT_VALUE, "empty separator");
    if (from_right) {
        ok = sep ? rsplit_at(r, s, sep, max, out, &cap) : rsplit_space(r, s, max, out, &cap);
        if (ok) reverse(out);
        return ok;
    }
    if (!sep) return split_space(r, s, max, out, &cap);
    for (; ok && max != 0 && str_find(s, sep->p, sep->n, from, &at); max -= max > 0) {
        ok = add_part(r, s, from, at, out, &cap);
        from = at + sep->n;
    }
    return ok && add_part(r, s, from, s->n, out, &cap);
}

static bool is_break(int32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool str_lines(rt *r, const str *s, bool keep_ends, list *out) {
    size_t cap = 0, from = 0;
    if (!rt_charge(r, s->n)) return false;
    for (size_t i = 0; i < s->n;) {
        int32_t c;
        size_t next = i + utf8_decode(s->p + i, s->n - i, &c);
        if (!is_break(c)) {
            i = next;
            continue;
        }
        if (c == '\r' && next < s->n && s->p[next] == '\n') next++;
        if (!add_part(r, s, from, keep_ends ? next : i, out, &cap)) return false;
        from = i = next;
    }
    return from >= s->n || add_part(r, s, from, s->n, out, &cap);
}

const str *str_replace(rt *r, const str *s, const str *from, const str *to, int64_t max) {
    ern_buf b = { .max = r->max_bytes };
    size_t at = 0, hit;
    bool ok = rt_charge(r, s->n);
    if (!ok) return NULL;
    if (from->n == 0) {                                         /* between all characters, and at both ends */
        for (; ok && max != 0; max -= max > 0) {
            int32_t c;
            ok = rt_charge(r, to->n) && buf_add(&b, to->p, to->n, r->e);
            if (at >= s->n) break;
            const size_t used = utf8_decode(s->p + at, s->n - at, &c);
            ok = ok && buf_add(&b, s->p + at, used, r->e);
            at += used;
        }
    } else {
        for (; ok && max != 0 && str_find(s, from->p, from->n, at, &hit); max -= max > 0) {
            ok = rt_charge(r, to->n) && buf_add(&b, s->p + at, hit - at, r->e) && buf_add(&b, to->p, to->n, r->e);
            at = hit + from->n;
        }
    }
    ok = ok && (at >= s->n || buf_add(&b, s->p + at, s->n - at, r->e));
    if (!ok) rt_fail(r, FAULT_LIMIT, "a replaced text passes %zu bytes", r->max_bytes);
    return str_markup(r, str_buf(r, &b, ok), s->is_markup);
}
