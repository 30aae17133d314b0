/* Filters of single values and texts, and the table of all filters. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_int.h"

#define FILTER(name) static bool name(rt *r, val self, const val *arg, const call_args *args, val *out)
#define UNUSED (void)r, (void)self, (void)arg, (void)args, (void)out

static bool give(val *out, const str *s) {
    *out = val_str(s);
    return s != NULL;
}

static bool flag(val v, bool otherwise) { return v.kind == V_MISSING ? otherwise : val_truth(v); }

/* ---- texts ------------------------------------------------------------------------------------ */

static bool cased(rt *r, val self, enum str_case how, val *out) {
    const str *s;
    return val_str_of(r, self, &s) && give(out, str_cased(r, s, how));
}
FILTER(f_lower) { UNUSED; return cased(r, self, CASE_LOWER, out); }
FILTER(f_upper) { UNUSED; return cased(r, self, CASE_UPPER, out); }
FILTER(f_capitalize) { UNUSED; return cased(r, self, CASE_CAPITAL, out); }

static bool splits_word(int32_t c) { return char_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; }

FILTER(f_title) {
    UNUSED;
    const str *s, *all = str_lit(r, "");
    if (!all || !val_str_of(r, self, &s)) return false;
    for (size_t i = 0; i < s->n;) {
        int32_t c;
        size_t end = i + utf8_decode(s->p + i, s->n - i, &c), first = end;
        const bool is_gap = splits_word(c);
        while (end < s->n) {
            const size_t used = utf8_decode(s->p + end, s->n - end, &c);
            if (splits_word(c) != is_gap) break;
            end += used;
        }
        const str *head = str_view(r, s->p + i, first - i, NULL), *tail = str_view(r, s->p + first, end - first, NULL);
        if (!head || !tail) return false;
        if (!is_gap && (!(head = str_cased(r, head, CASE_UPPER)) || !(tail = str_cased(r, tail, CASE_LOWER)))) return false;
        if (!(all = str_join(r, all, head)) || !(all = str_join(r, all, tail))) return false;
        i = end;
    }
    return give(out, all);
}

FILTER(f_trim) {
    UNUSED;
    const str *s, *chars = NULL;
    if (!val_str_of(r, self, &s)) return false;
    if (arg[0].kind != V_MISSING && arg[0].kind != V_NONE && !arg_str(r, arg[0], "strip arg", &chars)) return false;
    return give(out, str_strip(r, s, chars, true, true));
}

FILTER(f_replace) {
    UNUSED;
    const str *s, *from, *to;
    int64_t max = -1;
    if (!val_str_of(r, self, &s) || !val_str_of(r, arg[0], &from) || !val_str_of(r, arg[1], &to)) return false;
    if (arg[2].kind != V_MISSING && arg[2].kind != V_NONE && !val_index(r, arg[2], &max)) return false;
    return give(out, str_markup(r, str_replace(r, s, from, to, max < 0 ? -1 : max), false));
}

FILTER(f_string) {
    UNUSED;
    const str *s;
    return val_str_of(r, self, &s) && give(out, s);
}

FILTER(f_safe) {
    UNUSED;
    const str *s;
    return val_str_of(r, self, &s) && give(out, str_markup(r, s, true));
}

FILTER(f_escape) {
    UNUSED;
    const str *s;
    return val_str_of(r, self, &s) && give(out, str_escape(r, s));
}

FILTER(f_forceescape) {
    UNUSED;
    const str *s;
    if (!val_str_of(r, self, &s) || !(s = str_markup(r, s, false))) return false;
    return give(out, str_escape(r, s));
}

FILTER(f_center) {
    UNUSED;
    const str *s;
    const val width = arg[0].kind == V_MISSING ? val_int(80) : arg[0];
    const call_args a = { &width, 1, NULL, 0 };
    return val_str_of(r, self, &s) && call_def(r, method_find(val_str(s), "center", 6), val_str(s), &a, out);
}

FILTER(f_indent) {
    UNUSED;
    const str *s, *pad, *newline = str_lit(r, "\n"), *all = str_lit(r, "");
    int64_t width = 4;
    if (self.kind == V_UNDEF) return val_undef_fail(r, self);
    if (self.kind == V_LIST) return rt_fail(r, FAULT_ATTRIBUTE, "'list' object has no attribute 'splitlines'");
    if (!newline || !all || !arg_str(r, self, "the text to indent", &s)) return false;
    if (arg[0].kind == V_STR) {
        pad = arg[0].s;
    } else {
        if (arg[0].kind != V_MISSING && !val_index(r, arg[0], &width)) return false;
        val spaces;
        if (!op_binary(r, OP_MUL, val_str(str_lit(r, " ")), val_int(width), &spaces)) return false;
        pad = spaces.s;
    }
    list lines = { 0 };
    const bool blank = flag(arg[2], false);
    if (!(s = str_join(r, s, newline)) || !str_lines(r, s, false, &lines)) return false;
    for (size_t i = 0; i < lines.n; i++) {
        const str *line = lines.v[i].s;
        const bool pads = i ? blank || line->n : flag(arg[1], false);
        if ((i && !(all = str_join(r, all, newline))) || (pads && !(all = str_join(r, all, pad))) ||
            !(all = str_join(r, all, line))) return false;
    }
    return give(out, str_markup(r, all, self.s->is_markup));
}

FILTER(f_truncate) {
    UNUSED;
    int64_t length = 255, leeway = 5;
    const str *end = str_lit(r, "..."), *s = self.s;
    if (!end || (arg[0].kind != V_MISSING && !val_index(r, arg[0], &length))) return false;
    if (arg[2].kind != V_MISSING && !arg_str(r, arg[2], "end", &end)) return false;
    if (arg[3].kind != V_MISSING && arg[3].kind != V_NONE && !val_index(r, arg[3], &leeway)) return false;
    const int64_t n_end = (int64_t)str_chars(end);
    if (length < n_end)
        return rt_fail(r, FAULT_ASSERT, "expected length >= %lld, got %lld", (long long)n_end, (long long)length);
    if (leeway < 0) return rt_fail(r, FAULT_ASSERT, "expected leeway >= 0, got %lld", (long long)leeway);
    size_t n;
    bool has;
    if (!val_len(r, self, &has, &n)) return false;
    if (!has) return rt_fail(r, FAULT_TYPE, "object of type '%s' has no len()", val_type(self));
    if ((int64_t)n <= length + leeway) return *out = self, true;
    if (self.kind == V_DICT || (self.kind != V_STR && flag(arg[1], false)))
        return rt_fail(r, FAULT_TYPE, "'%s' object cannot be truncated", val_type(self));
    if (self.kind != V_STR) return rt_fail(r, FAULT_ATTRIBUTE, "'%s' object has no attribute 'rsplit'", val_type(self));
    size_t cut = str_offset(s, (size_t)(length - n_end));
    if (!flag(arg[1], false)) {
        size_t space = cut;
        while (space && s->p[space - 1] != ' ') space--;
        if (space) cut = space - 1;
    }
    const str *head = str_view(r, s->p, cut, s);
    val all;
    return head && op_binary(r, OP_ADD, val_str(head), val_str(end), &all) && give(out, all.s);
}

FILTER(f_wordcount) {
    UNUSED;
    const str *s;
    int64_t n = 0;
    bool in_word = false;
    if (!val_str_of(r, self, &s) || !rt_charge(r, s->n)) return false;
    for (size_t i = 0; i < s->n;) {
        int32_t c;
        i += utf8_decode(s->p + i, s->n - i, &c);
        const bool is = char_is_word(c);
        n += is && !in_word;
        in_word = is;
    }
    *out = val_int(n);
    return true;
}

/* ---- wordwrap: lines of chunks, as Python's textwrap makes them -------------------------------- */

typedef struct { size_t from, to; } chunk;

static bool is_letter_at(const str *s, size_t at, size_t end) {
    int32_t c;
    if (at >= end) return false;
    utf8_decode(s->p + at, end - at, &c);
    return char_is_word(c) && c != '_' && !(c >= '0' && c <= '9');
}

/* The next piece that may stand alone: white space, or a word up to a hyphen between letters. */
static size_t chunk_end(const str *s, size_t at, size_t end, bool hyphens) {
    const bool is_space = s->p[at] == ' ' || (s->p[at] >= '\t' && s->p[at] <= '\r');
    size_t i = at;
    for (; i < end; i++) {
        const bool space = s->p[i] == ' ' || (s->p[i] >= '\t' && s->p[i] <= '\r');
        if (space != is_space) break;
        if (hyphens && !is_space && s->p[i] == '-' && i > at + 1 && is_letter_at(s, i - 1, end) &&
            is_letter_at(s, i + 1, end) &&
            is_letter_at(s, i - 2, end)) return i + 1;
    }
    return i;
}

static size_t chars_in(const str *s, size_t from, size_t to) {
    size_t n = 0;
    for (; from < to; from++) n += ((unsigned char)s->p[from] & 0xC0) != 0x80;
    return n;
}

static size_t byte_after(const str *s, size_t from, size_t to, size_t n_chars) {
    while (from < to && n_chars) {
        from++;
        while (from < to && ((unsigned char)s->p[from] & 0xC0) == 0x80) from++;
        n_chars--;
    }
    return from;
}

/* One line of input, [from, to), into *all. */
static bool wrap_line(rt *r, const str *s, size_t from, size_t to, size_t width, bool breaks, bool hyphens,
    const str *newline,
                      const str **all) {
    bool first = true;
    for (size_t at = from; at < to;) {
        size_t used = 0, end = at, start = at, last = at;
        if (!first && (s->p[at] == ' ' || (s->p[at] >= '\t' && s->p[at] <= '\r'))) {
            at = chunk_end(s, at, to, hyphens);                 /* white space that would begin a line is dropped */
            continue;
        }
        while (end < to) {
            const size_t next = chunk_end(s, end, to, hyphens), n = chars_in(s, end, next);
            if (used + n > width) {
                if (n > width && breaks && width > used) end = byte_after(s, end, next, width - used);
                else if (end == start) end = next;
                break;
            }
            used += n;
            end = next;
        }
        for (last = end; last > start &&
            (s->p[last - 1] == ' ' || (s->p[last - 1] >= '\t' && s->p[last - 1] <= '\r'));) last--;
        at = end;
        if (last == start) continue;
        const str *line = str_view(r, s->p + start, last - start, NULL);
        if (!line || (!first && !(*all = str_join(r, *all, newline))) || !(*all = str_join(r, *all, line))) return false;
        first = false;
    }
    return true;
}

FILTER(f_wordwrap) {
    UNUSED;
    int64_t width = 79;
    const str *newline = str_lit(r, "\n"), *all = str_lit(r, ""), *s;
    list lines = { 0 };
    if (self.kind == V_UNDEF) return val_undef_fail(r, self);
    if (self.kind != V_STR) return rt_fail(r, FAULT_ATTRIBUTE, "'%s' object has no attribute 'splitlines'", val_type(self));
    s = self.s;
    if (!newline || !all) return false;
    if (arg[0].kind != V_MISSING && !val_index(r, arg[0], &width)) return false;
    if (width <= 0) return rt_fail(r, FAULT_VALUE, "invalid width %lld (must be > 0)", (long long)width);
    if (arg[2].kind != V_MISSING && arg[2].kind != V_NONE && !arg_str(r, arg[2], "wrapstring", &newline)) return false;
    if (!str_lines(r, s, false, &lines)) return false;
    for (size_t i = 0; i < lines.n; i++) {
        if (i && !(all = str_join(r, all, newline))) return false;
        if (!wrap_line(r, lines.v[i].s, 0, lines.v[i].s->n, (size_t)width, flag(arg[1], true), flag(arg[3], true),
            newline, &all)) return false;
    }
    return give(out, all);
}

/* ---- HTML and URLs ---------------------------------------------------------------------------- */

static size_t unescape_entity(const str *s, size_t at, ern_buf *b) {
    static const struct { const char *name, *text; } names[] = {
        { "&amp;", "&" }, { "&lt;", "<" }, { "&gt;", ">" }, { "&quot;", "\"" }, { "&apos;", "'" }, { "&nbsp;", "\xC2\xA0" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t n = strlen(names[i].name);
        if (n <= s->n - at && memcmp(s->p + at, names[i].name, n) == 0) return buf_str(b, names[i].text, NULL) ? n : 0;
    }
    if (at + 3 >= s->n || s->p[at + 1] != '#') return 0;
    const bool is_hex = (s->p[at + 2] | 0x20) == 'x';
    uint32_t c = 0;
    size_t i = at + 2 + is_hex;
    const size_t from = i;
    for (; i < s->n && i < from + 7; i++) {
        const char k = s->p[i];
        const int d = k >= '0' && k <= '9' ? k - '0' : is_hex && (k | 0x20) >= 'a' && (k | 0x20) <= 'f' ?
            (k | 0x20) - 'a' + 10 : -1;
        if (d < 0) break;
        c = c * (is_hex ? 16 : 10) + (uint32_t)d;
    }
    char room[4];
    if (i == from || i >= s->n || s->p[i] != ';' || !c || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return 0;
    return buf_add(b, room, utf8_encode((int32_t)c, room), NULL) ? i + 1 - at : 0;
}

/* Text without what stands from open to close, again and again from the start. */
static const str *without(rt *r, const str *s, const char *open, const char *close) {
    const size_t n_open = strlen(open), n_close = strlen(close);
    size_t start, end, from = 0;
    const str *kept = str_lit(r, "");
    while (kept && str_find(s, open, n_open, from, &start) && str_find(s, close, n_close, start, &end)) {
        const str *part = str_view(r, s->p + from, start - from, NULL);
        kept = part ? str_join(r, kept, part) : NULL;
        from = end + n_close;
    }
    const str *rest = kept ? str_view(r, s->p + from, s->n - from, NULL) : NULL;
    return rest ? str_join(r, kept, rest) : NULL;
}

FILTER(f_striptags) {
    UNUSED;
    const str *s, *space = str_lit(r, " ");
    list words = { 0 };
    ern_buf b = { .max = r->max_bytes };
    if (!space || !val_str_of(r, self, &s) || !(s = str_markup(r, s, false))) return false;
    if (!(s = without(r, s, "<!--", "-->")) || !(s = without(r, s, "<", ">")) ||
        !str_split(r, s, NULL, -1, false, &words)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < words.n; i++) {
        const str *w = words.v[i].s;
        ok = !i || buf_char(&b, ' ', NULL);
        for (size_t k = 0; ok && k < w->n;) {
            const size_t used = w->p[k] == '&' ? unescape_entity(w, k, &b) : 0;
            if (!used) ok = buf_char(&b, w->p[k], NULL);
            k += used ? used : 1;
        }
    }
    return give(out, str_buf(r, &b, ok));
}

static bool quote(rt *r, val v, bool for_query, ern_buf *b) {
    const str *s;
    if (!val_str_of(r, v, &s) || !rt_charge(r, s->n)) return false;
    for (size_t i = 0; i < s->n; i++) {
        const char c = s->p[i];
        const bool is_safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            (c && strchr("_.-~", c)) ||
                             (c == '/' && !for_query);
        if (!(is_safe ? buf_char(b, c, NULL) : for_query && c == ' ' ? buf_char(b, '+', NULL) :
            buf_printf(b, NULL, "%%%02X", (unsigned char)c)))
            return rt_fail(r, FAULT_LIMIT, "an encoded text passes %zu bytes", b->max);
    }
    return true;
}

FILTER(f_urlencode) {
    UNUSED;
    ern_buf b = { .max = r->max_bytes };
    iter it;
    val pair, source = self;
    bool has = false, ok = true, first = true;
    if (self.kind == V_STR || !val_is_iterable(self)) {
        ok = quote(r, self, false, &b);
        return give(out, str_buf(r, &b, ok));
    }
    const call_args none = { 0 };
    if (self.kind == V_DICT && !call_def(r, method_find(self, "items", 5), self, &none, &source)) return false;
    for (ok = iter_open(r, source, &it); ok; first = false) {
        list two = { 0 };
        ok = iter_next(r, &it, &pair, &has);
        if (!ok || !has) break;
        ok = val_to_list(r, pair, &two) && (two.n == 2 || rt_fail(r, FAULT_VALUE, "not a pair: %zu values", two.n));
        ok = ok && (first || buf_char(&b, '&', NULL)) && quote(r, two.v[0], true, &b) && buf_char(&b, '=', NULL) &&
            quote(r, two.v[1], true, &b);
    }
    return give(out, str_buf(r, &b, ok));
}

FILTER(f_xmlattr) {
    UNUSED;
    const str *all = str_lit(r, ""), *space = str_lit(r, " "), *s, *mid = str_lit(r, "=\""), *end = str_lit(r, "\"");
    if (self.kind == V_UNDEF) return val_undef_fail(r, self);
    if (self.kind != V_DICT) return rt_fail(r, FAULT_ATTRIBUTE, "'%s' object has no attribute 'items'", val_type(self));
    if (!all || !space || !mid || !end) return false;
    for (size_t i = 0; i < self.d->n; i++) {
        const val key = self.d->item[i].key, v = self.d->item[i].value;
        if (v.kind == V_NONE || v.kind == V_UNDEF) continue;
        if (!arg_str(r, key, "an attribute name", &s)) return false;
        for (size_t k = 0; k < s->n; k++)
            if (strchr(" \t\n\r\f\v/>=", s->p[k]))
                return rt_fail(r, FAULT_VALUE, "Invalid character in attribute name: '%.*s'", (int)s->n, s->p);
        if ((all->n || flag(arg[0], true)) && !(all = str_join(r, all, space))) return false;
        if (!(s = str_escape(r, s)) || !(all = str_join(r, all, s)) || !(all = str_join(r, all, mid))) return false;
        if (!val_str_of(r, v, &s) || !(s = str_escape(r, s)) || !(all = str_join(r, all, s)) ||
            !(all = str_join(r, all, end))) return false;
    }
    return give(out, str_markup(r, all, r->is_escaping));
}

/* ---- numbers ---------------------------------------------------------------------------------- */

FILTER(f_abs) {
    UNUSED;
    bool is_nan;
    if (!num_is(self)) return rt_fail(r, FAULT_TYPE, "bad operand type for abs(): '%s'", val_type(self));
    if (self.kind == V_FLOAT) return *out = val_float(fabs(self.f)), true;
    *out = self.kind == V_BOOL ? val_int(self.b) : self;
    return num_order(self, val_int(0), &is_nan) >= 0 || num_neg(r, self, out);
}

FILTER(f_int) {
    UNUSED;
    int64_t base = 10;
    bool ok = false;
    double f;
    *out = arg[0].kind == V_MISSING ? val_int(0) : arg[0];
    if (arg[1].kind != V_MISSING && !val_index(r, arg[1], &base)) return false;
    if (self.kind == V_UNDEF) return val_undef_fail(r, self);
    if (is_int(self)) return *out = val_int(as_int(self)), true;
    if (self.kind == V_BIG) return *out = self, true;
    if (self.kind == V_FLOAT) return isnan(self.f) || num_from_float(r, self.f, out);
    if (self.kind != V_STR) return true;
    val found;
    if ((base == 0 || (base >= 2 && base <= 36)) && !num_from_text(r, self.s->p, self.s->n, (int)base, &found,
        &ok)) return false;
    if (ok) return *out = found, true;
    if (!num_float_text(self.s->p, self.s->n, &f) || isnan(f) || isinf(f)) return true;
    return num_from_float(r, f, out);
}

FILTER(f_float) {
    UNUSED;
    double f;
    *out = arg[0].kind == V_MISSING ? val_float(0) : arg[0];
    if (self.kind == V_UNDEF) return val_undef_fail(r, self);
    if (num_is(self)) {
        f = num_float(self);
        if (self.kind == V_BIG && isinf(f)) return rt_fail(r, FAULT_OVERFLOW, "int too large to convert to float");
        *out = val_float(f);
    } else if (self.kind == V_STR && num_float_text(self.s->p, self.s->n, &f)) {
        *out = val_float(f);
    }
    return true;
}

/* round(int, -n): to a power of ten, halves to even. */
static bool round_int(rt *r, val v, int64_t precision, val *out) {
    val unit, rest, twice;
    bool is_nan;
    *out = v.kind == V_BOOL ? val_int(v.b) : v;
    if (precision >= 0) return true;
    if (precision < -TEMPLATE_MAX_DIGITS) return *out = val_int(0), true;
    if (!num_binary(r, OP_POW, val_int(10), val_int(-precision), &unit) ||
        !num_binary(r, OP_MOD, v, unit, &rest)) return false;
    if (!num_binary(r, OP_SUB, v, rest, out) || !num_binary(r, OP_MUL, rest, val_int(2), &twice)) return false;
    int order = num_order(twice, unit, &is_nan);
    if (order == 0) {
        val q, odd;
        if (!num_binary(r, OP_FLOORDIV, *out, unit, &q) || !num_binary(r, OP_MOD, q, val_int(2), &odd)) return false;
        order = odd.i ? 1 : -1;
    }
    return order < 0 || num_binary(r, OP_ADD, *out, unit, out);
}

static double round_float(double f, int64_t precision) {
    char text[400];
    if (isnan(f) || isinf(f) || precision > 340) return f;
    if (precision < -310) return copysign(0.0, f);
    if (precision >= 0) {
        if (precision > 40 && fabs(f) > 1) return f;
        char wide[800];
        num_write(wide, sizeof wide, f, (int)precision, 'f');
        return num_read(wide);
    }
    num_write(text, sizeof text, f, 0, 'f');
    const double unit = pow(10, (double)-precision), q = nearbyint(f / unit);
    return q * unit;
}

FILTER(f_round) {
    UNUSED;
    int64_t precision = 0;
    const str *how = str_lit(r, "common");
    if (!how || (arg[0].kind != V_MISSING && !val_index(r, arg[0], &precision))) return false;
    if (arg[1].kind != V_MISSING && arg[1].kind != V_STR)
        return rt_fail(r, FAULT_FILTER, "method must be common, ceil or floor");
    if (arg[1].kind == V_STR) how = arg[1].s;
    const bool is_common = str_is(how, "common"), is_ceil = str_is(how, "ceil");
    if (!is_common && !is_ceil && !str_is(how, "floor"))
        return rt_fail(r, FAULT_FILTER, "method must be common, ceil or floor");
    if (is_common) {
        if (!num_is(self)) return rt_fail(r, FAULT_TYPE, "type %s doesn't define __round__ method", val_type(self));
        if (self.kind != V_FLOAT) return round_int(r, self, precision, out);
        *out = val_float(round_float(self.f, precision));
        return true;
    }
    val unit, x;
    if (!num_binary(r, OP_POW, val_int(10), val_int(precision), &unit) ||
        !op_binary(r, OP_MUL, self, unit, &x)) return false;
    if (!num_is(x)) return rt_fail(r, FAULT_TYPE, "must be real number, not %s", val_type(x));
    if (x.kind == V_FLOAT && !num_from_float(r, is_ceil ? ceil(x.f) : floor(x.f), &x)) return false;
    return num_binary(r, OP_DIV, x, unit, out);
}

FILTER(f_filesizeformat) {
    UNUSED;
    double size;
    const bool binary = flag(arg[0], false);
    static const char *const units[2][8] = { { "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" },
                                             { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB" } };
    if (self.kind == V_UNDEF) return val_undef_fail(r, self);
    if (num_is(self)) size = num_float(self);
    else if (self.kind != V_STR)
        return rt_fail(r, FAULT_TYPE, "float() argument must be a string or a real number, not '%s'", val_type(self));
    else if (!num_float_text(self.s->p, self.s->n, &size))
        return rt_fail(r, FAULT_VALUE, "could not convert string to float");
    const double base = binary ? 1024 : 1000;
    char text[400], number[360];
    if (size == 1) return give(out, str_lit(r, "1 Byte"));
    if (size < base) {
        num_write(number, sizeof number, trunc(size), 0, 'f');
        snprintf(text, sizeof text, "%s Bytes", number[0] == '-' && size > -1 ? "0" : number);
    } else {
        double unit = base * base;
        size_t i = 0;
        while (i < 7 && size >= unit) { unit *= base; i++; }
        num_write(number, sizeof number, base * size / unit, 1, 'f');
        snprintf(text, sizeof text, "%s %s", number, units[binary][i]);
    }
    return give(out, str_new(r, text, strlen(text)));
}

/* ---- others ----------------------------------------------------------------------------------- */

FILTER(f_default) {
    UNUSED;
    const bool is_absent = self.kind == V_UNDEF || (flag(arg[1], false) && !val_truth(self));
    *out = !is_absent ? self : arg[0].kind == V_MISSING ? val_str(str_lit(r, "")) : arg[0];
    return out->kind != V_STR || out->s;
}

FILTER(f_attr) {
    UNUSED;
    const str *name;
    if (!arg_str(r, arg[0], "attribute name", &name)) return false;
    if (self.kind == V_DICT && !method_find(self, name->p, name->n))       /* keys are no attributes */
        return val_undef(r, NULL, arg[0], self, FAULT_UNDEFINED, out);
    return val_getattr(r, self, name, out);
}

FILTER(f_format) {
    UNUSED;
    const str *s;
    val values;
    if (args->n_pos && args->n_kw)
        return rt_fail(r, FAULT_FILTER, "can't handle positional and keyword arguments at the same time");
    if (!val_str_of(r, self, &s)) return false;
    if (args->n_kw) {
        values = (val){ .kind = V_DICT, .d = dict_new(r) };
        if (!values.d) return false;
        for (size_t i = 0; i < args->n_kw; i++)
            if (!dict_set(r, values.d, val_str(args->kw[i].name), args->kw[i].v)) return false;
    } else {
        list *l = list_new(r, args->n_pos);
        if (!l) return false;
        if (l->n) memcpy(l->v, args->pos, l->n * sizeof *l->v);
        values = (val){ .kind = V_TUPLE, .l = l };
    }
    return percent_format(r, s, values, &s) && give(out, s);
}

FILTER(f_tojson) { UNUSED; return json_write(r, self, args, out); }

FILTER(f_refused) {
    UNUSED;
    return rt_fail(r, FAULT_UNSUPPORTED, "this filter is refused in chat templates");
}

FILTER(f_pprint) {
    UNUSED;
    ern_buf b = { .max = r->max_bytes };
    const bool ok = val_repr(r, self, &b);
    return give(out, str_buf(r, &b, ok));
}

static const filter_def scalar_filters[] = {
    { "abs", f_abs, "!" }, { "attr", f_attr, "name" }, { "capitalize", f_capitalize, "" }, { "center", f_center, "| width" },
    { "d", f_default, "| default_value boolean" }, { "default", f_default, "| default_value boolean" },
    { "e", f_escape, "!" },
    { "escape", f_escape, "!" }, { "filesizeformat", f_filesizeformat, "| binary" }, { "float", f_float, "| default" },
    { "forceescape", f_forceescape, "" }, { "format", f_format, "*" }, { "indent", f_indent, "| width first blank" },
    { "int", f_int, "| default base" }, { "lower", f_lower, "" }, { "pprint", f_pprint, "" }, { "random", f_refused, "*" },
    { "replace", f_replace, "old new | count" }, { "round", f_round, "| precision method" }, { "safe", f_safe, "" },
    { "string", f_string, "!" }, { "striptags", f_striptags, "" }, { "title", f_title, "" }, { "tojson", f_tojson, "*" },
    { "trim", f_trim, "| chars" }, { "truncate", f_truncate, "| length killwords end leeway" }, { "upper", f_upper, "" },
    { "urlencode", f_urlencode, "" }, { "urlize", f_refused, "*" }, { "wordcount", f_wordcount, "" },
    { "wordwrap", f_wordwrap, "| width break_long_words wrapstring break_on_hyphens" },
    { "xmlattr", f_xmlattr, "| autospace" },
    { NULL, NULL, NULL },
};

const filter_def *filter_find(const char *name, size_t n) {
    const filter_def *const tables[] = { scalar_filters, sequence_filters };
    for (size_t t = 0; t < 2; t++)
        for (const filter_def *d = tables[t]; d->name; d++)
            if (strlen(d->name) == n && memcmp(d->name, name, n) == 0) return d;
    return NULL;
}
