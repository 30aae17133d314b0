/* Methods of text, lists, dictionaries, numbers and loops; those that would change something have no function. */
#include <math.h>
#include <unicode/uchar.h>

#include "base/utf8.h"
#include "text/template_int.h"

#define METHOD(name) static bool name(rt *r, val self, const val *arg, const call_args *args, val *out)
#define UNUSED (void)r, (void)self, (void)arg, (void)args, (void)out

static bool give(val *out, const str *s) {
    *out = val_str(s);
    return s != NULL;
}

METHOD(unsupported) {
    UNUSED;
    return rt_fail(r, FAULT_UNSUPPORTED, "this method of '%s' is not supported in templates", val_type(self));
}

/* ---- text: case, strip ------------------------------------------------------------------------ */

METHOD(s_lower) { UNUSED; return give(out, str_cased(r, self.s, CASE_LOWER)); }
METHOD(s_upper) { UNUSED; return give(out, str_cased(r, self.s, CASE_UPPER)); }
METHOD(s_title) { UNUSED; return give(out, str_cased(r, self.s, CASE_TITLE)); }
METHOD(s_capitalize) { UNUSED; return give(out, str_cased(r, self.s, CASE_CAPITAL)); }
METHOD(s_swapcase) { UNUSED; return give(out, str_cased(r, self.s, CASE_SWAP)); }

METHOD(s_casefold) {
    UNUSED;
    ern_buf b = { .max = r->max_bytes };
    bool ok = rt_charge(r, self.s->n);
    for (size_t i = 0; ok && i < self.s->n;) {
        int32_t c;
        char room[4];
        i += utf8_decode(self.s->p + i, self.s->n - i, &c);
        if (c == 0xDF || c == 0x1E9E) ok = buf_str(&b, "ss", NULL);
        else ok = buf_add(&b, room, utf8_encode(u_foldCase(c, U_FOLD_CASE_DEFAULT), room), NULL);
    }
    return give(out, str_markup(r, str_buf(r, &b, ok), self.s->is_markup));
}

static bool strip(rt *r, val self, val chars, bool left, bool right, val *out) {
    const str *set = NULL;
    if (chars.kind != V_MISSING && chars.kind != V_NONE) {
        if (chars.kind != V_STR) return rt_fail(r, FAULT_TYPE, "strip arg must be None or str");
        set = chars.s;
    }
    return give(out, str_strip(r, self.s, set, left, right));
}

METHOD(s_strip) { UNUSED; return strip(r, self, arg[0], true, true, out); }
METHOD(s_lstrip) { UNUSED; return strip(r, self, arg[0], true, false, out); }
METHOD(s_rstrip) { UNUSED; return strip(r, self, arg[0], false, true, out); }

static bool affix(rt *r, val self, val v, bool prefix, val *out) {
    const str *x, *s = self.s;
    if (!arg_str(r, v, prefix ? "removeprefix() argument" : "removesuffix() argument", &x)) return false;
    const bool has = x->n <= s->n && memcmp(prefix ? s->p : s->p + s->n - x->n, x->p, x->n) == 0;
    return give(out, has ? str_view(r, prefix ? s->p + x->n : s->p, s->n - x->n, s) : s);
}
METHOD(s_removeprefix) { UNUSED; return affix(r, self, arg[0], true, out); }
METHOD(s_removesuffix) { UNUSED; return affix(r, self, arg[0], false, out); }

/* ---- text: split, join, replace ---------------------------------------------------------------- */

static bool split(rt *r, val self, const val *arg, bool from_right, val *out) {
    const str *sep = NULL;
    int64_t max = -1;
    list *l = list_new(r, 0);
    if (!l) return false;
    if (arg[0].kind != V_MISSING && arg[0].kind != V_NONE && !arg_str(r, arg[0], "the separator", &sep)) return false;
    if (arg[1].kind != V_MISSING && !val_index(r, arg[1], &max)) return false;
    *out = val_list(l);
    return str_split(r, self.s, sep, max < 0 ? -1 : max, from_right, l);
}
METHOD(s_split) { UNUSED; return split(r, self, arg, false, out); }
METHOD(s_rsplit) { UNUSED; return split(r, self, arg, true, out); }

METHOD(s_splitlines) {
    UNUSED;
    list *l = list_new(r, 0);
    if (!l) return false;
    *out = val_list(l);
    return str_lines(r, self.s, arg[0].kind != V_MISSING && val_truth(arg[0]), l);
}

static bool partition(rt *r, val self, val v, bool last, val *out) {
    const str *sep, *s = self.s;
    size_t at = 0, from = 0, hit;
    bool has = false;
    if (!arg_str(r, v, "the separator", &sep)) return false;
    if (!sep->n) return rt_fail(r, FAULT_VALUE, "empty separator");
    while (str_find(s, sep->p, sep->n, from, &hit)) {
        has = true;
        at = hit;
        if (!last) break;
        from = hit + 1;
    }
    list *l = list_new(r, 3);
    if (!l || !rt_charge(r, s->n)) return false;
    const str *empty = str_view(r, "", 0, NULL), *a = has ? str_view(r, s->p, at, s) : s;
    const str *z = has ? str_view(r, s->p + at + sep->n, s->n - at - sep->n, s) : empty;
    if (!empty || !a || !z) return false;
    l->v[0] = val_str(has || !last ? a : empty);
    l->v[1] = val_str(has ? sep : empty);
    l->v[2] = val_str(has || !last ? z : a);
    *out = (val){ .kind = V_TUPLE, .l = l };
    return true;
}
METHOD(s_partition) { UNUSED; return partition(r, self, arg[0], false, out); }
METHOD(s_rpartition) { UNUSED; return partition(r, self, arg[0], true, out); }

METHOD(s_join) {
    UNUSED;
    iter it;
    val v;
    bool has;
    const str *all = str_lit(r, "");
    if (!all || !iter_open(r, arg[0], &it)) return false;
    for (size_t i = 0;; i++) {
        if (!iter_next(r, &it, &v, &has)) return false;
        if (!has) break;
        if (v.kind == V_UNDEF) return rt_fail(r, FAULT_TYPE, "sequence item %zu: expected str instance, Undefined found", i);
        if (v.kind != V_STR)
            return rt_fail(r, FAULT_TYPE, "sequence item %zu: expected str instance, %s found", i, val_type(v));
        const str *s = self.s->is_markup ? str_escape(r, v.s) : v.s;
        if (!s || (i && !(all = str_join(r, all, self.s))) || !(all = str_join(r, all, s))) return false;
    }
    return give(out, str_markup(r, all, self.s->is_markup));
}

METHOD(s_replace) {
    UNUSED;
    const str *from, *to;
    int64_t max = -1;
    if (!arg_str(r, arg[0], "replace() argument 1", &from) || !arg_str(r, arg[1], "replace() argument 2", &to)) return false;
    if (arg[2].kind != V_MISSING && !val_index(r, arg[2], &max)) return false;
    if (self.s->is_markup && !(to = str_escape(r, to))) return false;
    return give(out, str_replace(r, self.s, from, to, max < 0 ? -1 : max));
}

METHOD(s_expandtabs) {
    UNUSED;
    int64_t size = 8, column = 0;
    ern_buf b = { .max = r->max_bytes };
    if (arg[0].kind != V_MISSING && !val_index(r, arg[0], &size)) return false;
    if (size > 1000) return rt_fail(r, FAULT_LIMIT, "a tab of %lld passes 1000", (long long)size);
    bool ok = rt_charge(r, self.s->n);
    for (size_t i = 0; ok && i < self.s->n; i++) {
        const char c = self.s->p[i];
        if (c == '\t') {
            const int64_t n = size > 0 ? size - column % size : 0;
            for (int64_t k = 0; ok && k < n; k++) ok = buf_char(&b, ' ', NULL);
            column += n;
        } else {
            ok = buf_char(&b, c, NULL);
            column = c == '\n' || c == '\r' ? 0 : column + (((unsigned char)c & 0xC0) != 0x80);
        }
    }
    if (!ok) rt_fail(r, FAULT_LIMIT, "expandtabs passes %zu bytes", r->max_bytes);
    return give(out, str_markup(r, str_buf(r, &b, ok), self.s->is_markup));
}

METHOD(s_format) {
    UNUSED;
    const str *s;
    return brace_format(r, self.s, args, &s) && give(out, s);
}

METHOD(s_format_map) {
    UNUSED;
    const str *s;
    if (arg[0].kind != V_DICT)
        return rt_fail(r, FAULT_TYPE, "format_map() argument must be a mapping, not %s", val_type(arg[0]));
    kwarg *kw = rt_take(r, arg[0].d->n, sizeof *kw);
    size_t n = 0;
    if (!kw) return false;
    for (size_t i = 0; i < arg[0].d->n; i++)
        if (arg[0].d->item[i].key.kind == V_STR) kw[n++] = (kwarg){ arg[0].d->item[i].key.s, arg[0].d->item[i].value };
    const call_args a = { NULL, 0, kw, n };
    return brace_format(r, self.s, &a, &s) && give(out, s);
}

/* ---- text: search ----------------------------------------------------------------------------- */

/* [from, to) of the text that start and end (in characters) leave; false in *ok when start is behind the end. */
static bool window(rt *r, const str *s, val start, val end, size_t *from, size_t *to, bool *ok) {
    int64_t a = 0, z = INT64_MAX;
    const int64_t n = (int64_t)str_chars(s);
    if (start.kind != V_MISSING && start.kind != V_NONE && !val_index(r, start, &a)) return false;
    if (end.kind != V_MISSING && end.kind != V_NONE && !val_index(r, end, &z)) return false;
    if (a < 0) a = a < -n ? 0 : a + n;
    if (z < 0) z = z < -n ? 0 : z + n;
    if (z > n) z = n;
    *ok = a <= n && a <= z;
    if (!*ok) return rt_charge(r, 0);
    *from = str_offset(s, (size_t)a);
    *to = str_offset(s, (size_t)z);
    return rt_charge(r, s->n);
}

static bool find(rt *r, val self, const val *arg, bool last, bool must, val *out) {
    const str *x, *s = self.s;
    size_t from, to, at, hit = SIZE_MAX;
    bool ok;
    if (!arg_str(r, arg[0], "the text to find", &x) || !window(r, s, arg[1], arg[2], &from, &to, &ok)) return false;
    const str part = { .p = s->p, .n = ok ? to : 0, .n_chars = SIZE_MAX };
    if (ok && last) {
        for (size_t i = to; i >= from + x->n && hit == SIZE_MAX; i--) {
            if (memcmp(s->p + i - x->n, x->p, x->n) == 0) hit = i - x->n;
            if (i == 0) break;
        }
    } else if (ok && str_find(&part, x->p, x->n, from, &at)) {
        hit = at;
    }
    if (hit == SIZE_MAX && must) return rt_fail(r, FAULT_VALUE, "substring not found");
    const str before = { .p = s->p, .n = hit == SIZE_MAX ? 0 : hit, .n_chars = SIZE_MAX };
    str count = before;
    *out = val_int(hit == SIZE_MAX ? -1 : (int64_t)str_chars(&count));
    return true;
}
METHOD(s_find) { UNUSED; return find(r, self, arg, false, false, out); }
METHOD(s_rfind) { UNUSED; return find(r, self, arg, true, false, out); }
METHOD(s_index) { UNUSED; return find(r, self, arg, false, true, out); }
METHOD(s_rindex) { UNUSED; return find(r, self, arg, true, true, out); }

METHOD(s_count) {
    UNUSED;
    const str *x;
    size_t from, to, at;
    bool ok;
    int64_t n = 0;
    if (!arg_str(r, arg[0], "the text to count", &x) || !window(r, self.s, arg[1], arg[2], &from, &to, &ok)) return false;
    str part = { .p = self.s->p, .n = ok ? to : 0, .n_chars = SIZE_MAX };
    if (ok && !x->n) {
        part = (str){ .p = self.s->p + from, .n = to - from, .n_chars = SIZE_MAX };
        n = (int64_t)str_chars(&part) + 1;
    } else {
        for (; ok && str_find(&part, x->p, x->n, from, &at); n++) from = at + x->n;
    }
    *out = val_int(n);
    return true;
}

static bool edge(rt *r, val self, const val *arg, bool at_start, val *out) {
    size_t from, to;
    bool ok;
    const val one = arg[0];
    const list single = { .n = 1, .v = (val *)(uintptr_t)&one };
    const list *all = one.kind == V_TUPLE ? one.l : &single;
    if (!window(r, self.s, arg[1], arg[2], &from, &to, &ok)) return false;
    *out = val_bool(false);
    for (size_t i = 0; i < all->n; i++) {
        if (all->v[i].kind != V_STR)
            return rt_fail(r, FAULT_TYPE, "%s first arg must be str or a tuple of str, not %s", at_start ?
                "startswith" : "endswith", val_type(all->v[i]));
        const str *x = all->v[i].s;
        if (ok && x->n <= to - from && memcmp(self.s->p + (at_start ? from : to - x->n), x->p, x->n) == 0) {
            *out = val_bool(true);
            return true;
        }
    }
    return true;
}
METHOD(s_startswith) { UNUSED; return edge(r, self, arg, true, out); }
METHOD(s_endswith) { UNUSED; return edge(r, self, arg, false, out); }

/* ---- text: padding ---------------------------------------------------------------------------- */

static bool pad(rt *r, val self, const val *arg, char how, val *out) {
    int64_t width;
    const str *fill = NULL, *s = self.s;
    if (!val_index(r, arg[0], &width)) return false;
    if (arg[1].kind != V_MISSING && !arg_str(r, arg[1], "the fill character", &fill)) return false;
    if (fill && str_chars(fill) != 1) return rt_fail(r, FAULT_TYPE, "The fill character must be exactly one character long");
    const int64_t n = (int64_t)str_chars(s);
    if (width <= n) return give(out, s);
    if ((uint64_t)width > r->max_bytes)
        return rt_fail(r, FAULT_LIMIT, "a width of %lld passes %zu", (long long)width, r->max_bytes);
    const int64_t room = width - n, left = how == '<' ? 0 : how == '>' ? room : room / 2 + (room & width & 1);
    ern_buf b = { .max = r->max_bytes };
    bool ok = rt_charge(r, (size_t)width);
    for (int64_t i = 0; ok && i <= room; i++) {
        if (i == left) ok = buf_add(&b, s->p, s->n, NULL);
        if (ok && i < room) ok = fill ? buf_add(&b, fill->p, fill->n, NULL) : buf_char(&b, ' ', NULL);
    }
    if (!ok) rt_fail(r, FAULT_LIMIT, "a padded text passes %zu bytes", r->max_bytes);
    return give(out, str_markup(r, str_buf(r, &b, ok), s->is_markup));
}
METHOD(s_center) { UNUSED; return pad(r, self, arg, '^', out); }
METHOD(s_ljust) { UNUSED; return pad(r, self, arg, '<', out); }
METHOD(s_rjust) { UNUSED; return pad(r, self, arg, '>', out); }

METHOD(s_zfill) {
    UNUSED;
    const str *s = self.s;
    const bool has_sign = s->n && (s->p[0] == '-' || s->p[0] == '+');
    int64_t width;
    if (!val_index(r, arg[0], &width)) return false;
    const str *digits = str_view(r, s->p + has_sign, s->n - has_sign, s), *zero = str_lit(r, "0"), *sign;
    if (!digits || !zero) return false;
    const val how[2] = { val_int(width - has_sign), val_str(zero) };
    if (!pad(r, val_str(digits), how, '>', out) || !has_sign) return out->s != NULL;
    return (sign = str_view(r, s->p, 1, s)) && give(out, str_join(r, sign, out->s));
}

/* ---- text: kinds of characters ---------------------------------------------------------------- */

static bool is_alpha(int32_t c) { return (U_GET_GC_MASK(c) & U_GC_L_MASK) != 0; }
static bool is_decimal(int32_t c) { return u_charType(c) == U_DECIMAL_DIGIT_NUMBER; }
static bool is_digit(int32_t c) {
    const int32_t t = u_getIntPropertyValue(c, UCHAR_NUMERIC_TYPE);
    return t == U_NT_DECIMAL || t == U_NT_DIGIT;
}
static bool is_numeric(int32_t c) { return u_getIntPropertyValue(c, UCHAR_NUMERIC_TYPE) != U_NT_NONE; }
static bool is_alnum(int32_t c) { return is_alpha(c) || is_numeric(c); }
static bool is_ascii(int32_t c) { return c < 128; }

static bool all(const str *s, bool (*is)(int32_t c), bool of_empty) {
    for (size_t i = 0; i < s->n;) {
        int32_t c;
        i += utf8_decode(s->p + i, s->n - i, &c);
        if (!is(c)) return false;
    }
    return s->n > 0 || of_empty;
}

static bool all_of(rt *r, val self, bool (*is)(int32_t c), bool of_empty, val *out) {
    *out = val_bool(all(self.s, is, of_empty));
    return rt_charge(r, self.s->n);
}
METHOD(s_isalpha) { UNUSED; return all_of(r, self, is_alpha, false, out); }
METHOD(s_isdecimal) { UNUSED; return all_of(r, self, is_decimal, false, out); }
METHOD(s_isdigit) { UNUSED; return all_of(r, self, is_digit, false, out); }
METHOD(s_isnumeric) { UNUSED; return all_of(r, self, is_numeric, false, out); }
METHOD(s_isalnum) { UNUSED; return all_of(r, self, is_alnum, false, out); }
METHOD(s_isascii) { UNUSED; return all_of(r, self, is_ascii, true, out); }
METHOD(s_isspace) { UNUSED; return all_of(r, self, char_is_space, false, out); }
METHOD(s_isprintable) { UNUSED; return all_of(r, self, char_is_printable, true, out); }

static bool identifier_at(int32_t c, bool first) {
    return c == '_' || (first ? u_hasBinaryProperty(c, UCHAR_XID_START) : u_hasBinaryProperty(c, UCHAR_XID_CONTINUE));
}

METHOD(s_isidentifier) {
    UNUSED;
    bool is = self.s->n > 0;
    for (size_t i = 0; is && i < self.s->n;) {
        int32_t c;
        const size_t used = utf8_decode(self.s->p + i, self.s->n - i, &c);
        is = identifier_at(c, i == 0);
        i += used;
    }
    *out = val_bool(is);
    return rt_charge(r, self.s->n);
}

/* isupper, islower: every cased character is so, and there is one; istitle: words begin upper and go on lower. */
static bool cased(rt *r, val self, char how, val *out) {
    bool has = false, is = true, in_word = false;
    for (size_t i = 0; is && i < self.s->n;) {
        int32_t c;
        i += utf8_decode(self.s->p + i, self.s->n - i, &c);
        const bool up = u_hasBinaryProperty(c, UCHAR_UPPERCASE), low = u_hasBinaryProperty(c, UCHAR_LOWERCASE);
        const bool title = u_charType(c) == U_TITLECASE_LETTER;
        if (how == 'u') is = !low && !title;
        else if (how == 'l') is = !up && !title;
        else if (up || title) is = !in_word;
        else if (low) is = in_word;
        in_word = up || low || title;
        has = has || (how == 'u' ? up : how == 'l' ? low : in_word);
    }
    *out = val_bool(has && is);
    return rt_charge(r, self.s->n);
}
METHOD(s_isupper) { UNUSED; return cased(r, self, 'u', out); }
METHOD(s_islower) { UNUSED; return cased(r, self, 'l', out); }
METHOD(s_istitle) { UNUSED; return cased(r, self, 't', out); }

static const filter_def str_methods[] = {
    { "capitalize", s_capitalize, "!" }, { "casefold", s_casefold, "!" }, { "center", s_center, "!a | b" },
    { "count", s_count, "!a | b c" }, { "encode", unsupported, "*" }, { "endswith", s_endswith, "!a | b c" },
    { "expandtabs", s_expandtabs, "| tabsize" }, { "find", s_find, "!a | b c" }, { "format", s_format, "*" },
    { "format_map", s_format_map, "!a" }, { "index", s_index, "!a | b c" }, { "isalnum", s_isalnum, "!" },
    { "isalpha", s_isalpha, "!" }, { "isascii", s_isascii, "!" }, { "isdecimal", s_isdecimal, "!" },
    { "isdigit", s_isdigit, "!" }, { "isidentifier", s_isidentifier, "!" }, { "islower", s_islower, "!" },
    { "isnumeric", s_isnumeric, "!" }, { "isprintable", s_isprintable, "!" }, { "isspace", s_isspace, "!" },
    { "istitle", s_istitle, "!" }, { "isupper", s_isupper, "!" }, { "join", s_join, "!a" }, { "ljust", s_ljust, "!a | b" },
    { "lower", s_lower, "!" }, { "lstrip", s_lstrip, "!| a" }, { "maketrans", unsupported, "*" },
    { "partition", s_partition, "!a" }, { "removeprefix", s_removeprefix, "!a" }, { "removesuffix", s_removesuffix, "!a" },
    { "replace", s_replace, "!a b | c" }, { "rfind", s_rfind, "!a | b c" }, { "rindex", s_rindex, "!a | b c" },
    { "rjust", s_rjust, "!a | b" }, { "rpartition", s_rpartition, "!a" }, { "rsplit", s_rsplit, "| sep maxsplit" },
    { "rstrip", s_rstrip, "!| a" }, { "split", s_split, "| sep maxsplit" }, { "splitlines", s_splitlines, "| keepends" },
    { "startswith", s_startswith, "!a | b c" }, { "strip", s_strip, "!| a" }, { "swapcase", s_swapcase, "!" },
    { "title", s_title, "!" }, { "translate", unsupported, "*" }, { "upper", s_upper, "!" }, { "zfill", s_zfill, "!a" },
    { NULL, NULL, NULL },
};

/* ---- dictionaries, lists ---------------------------------------------------------------------- */

static bool view_of(rt *r, val self, enum view_kind kind, val *out) {
    view *w = rt_take(r, 1, sizeof *w);
    if (!w) return false;
    *w = (view){ kind, self.d };
    *out = (val){ .kind = V_VIEW, .w = w };
    return true;
}
METHOD(d_keys) { UNUSED; return view_of(r, self, VIEW_KEYS, out); }
METHOD(d_values) { UNUSED; return view_of(r, self, VIEW_VALUES, out); }
METHOD(d_items) { UNUSED; return view_of(r, self, VIEW_ITEMS, out); }

METHOD(d_get) {
    UNUSED;
    bool has;
    if (!dict_get(r, self.d, arg[0], out, &has)) return false;
    if (!has) *out = arg[1].kind == V_MISSING ? val_none() : arg[1];
    return true;
}

METHOD(d_copy) {
    UNUSED;
    dict *d = dict_new(r);
    if (!d) return false;
    for (size_t i = 0; i < self.d->n; i++)
        if (!dict_set(r, d, self.d->item[i].key, self.d->item[i].value)) return false;
    *out = (val){ .kind = V_DICT, .d = d };
    return true;
}

METHOD(d_fromkeys) {
    UNUSED;
    dict *d = dict_new(r);
    iter it;
    val key;
    bool has;
    if (!d || !iter_open(r, arg[0], &it)) return false;
    for (;;) {
        if (!iter_next(r, &it, &key, &has)) return false;
        if (!has) break;
        if (!dict_set(r, d, key, arg[1].kind == V_MISSING ? val_none() : arg[1])) return false;
    }
    *out = (val){ .kind = V_DICT, .d = d };
    return true;
}

static const filter_def dict_methods[] = {
    { "keys", d_keys, "!" }, { "values", d_values, "!" }, { "items", d_items, "!" }, { "get", d_get, "!a | b" },
    { "copy", d_copy, "!" }, { "fromkeys", d_fromkeys, "!a | b" }, { "clear", NULL, "" }, { "pop", NULL, "" },
    { "popitem", NULL, "" }, { "setdefault", NULL, "" }, { "update", NULL, "" }, { NULL, NULL, NULL },
};

METHOD(l_count) {
    UNUSED;
    int64_t n = 0;
    iter it;
    val v;
    bool has, same;
    if (!iter_open(r, self, &it)) return false;
    for (;;) {
        if (!iter_next(r, &it, &v, &has)) return false;
        if (!has) break;
        if (!val_eq(r, v, arg[0], &same)) return false;
        n += same;
    }
    *out = val_int(n);
    return true;
}

METHOD(l_index) {
    UNUSED;
    int64_t from = 0, to = INT64_MAX, n = 0;
    iter it;
    val v;
    bool has, same;
    size_t length;
    if (!val_len(r, self, &has, &length) || !iter_open(r, self, &it)) return false;
    if (arg[1].kind != V_MISSING && !val_index(r, arg[1], &from)) return false;
    if (arg[2].kind != V_MISSING && !val_index(r, arg[2], &to)) return false;
    if (from < 0) from += (int64_t)length;
    if (to < 0) to += (int64_t)length;
    for (;; n++) {
        if (!iter_next(r, &it, &v, &has)) return false;
        if (!has || n >= to) return rt_fail(r, FAULT_VALUE, "the value is not in the list");
        if (n < from) continue;
        if (!val_eq(r, v, arg[0], &same)) return false;
        if (same) break;
    }
    *out = val_int(n);
    return true;
}

METHOD(l_copy) { UNUSED; *out = self; return true; }

static const filter_def list_methods[] = {
    { "count", l_count, "!a" }, { "index", l_index, "!a | b c" }, { "copy", l_copy, "!" }, { "append", NULL, "" },
    { "clear", NULL, "" }, { "extend", NULL, "" }, { "insert", NULL, "" }, { "pop", NULL, "" }, { "remove", NULL, "" },
    { "reverse", NULL, "" }, { "sort", NULL, "" }, { NULL, NULL, NULL },
};
static const filter_def tuple_methods[] = { { "count", l_count, "!a" }, { "index", l_index, "!a | b c" },
    { NULL, NULL, NULL } };

/* ---- numbers ---------------------------------------------------------------------------------- */

METHOD(n_bit_length) {
    UNUSED;
    if (self.kind == V_BIG) return unsupported(r, self, arg, args, out);
    const int64_t i = as_int(self);
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    int64_t n = 0;
    for (; u; u >>= 1) n++;
    *out = val_int(n);
    return true;
}
METHOD(n_conjugate) { UNUSED; *out = self.kind == V_BOOL ? val_int(self.b) : self; return true; }
METHOD(n_is_integer) { UNUSED; *out = val_bool(isfinite(self.f) && floor(self.f) == self.f); return true; }

static const filter_def int_methods[] = {
    { "bit_length", n_bit_length, "!" }, { "conjugate", n_conjugate, "!" }, { "bit_count", unsupported, "*" },
    { "to_bytes", unsupported, "*" }, { "from_bytes", unsupported, "*" }, { "as_integer_ratio", unsupported, "*" },
    { NULL, NULL, NULL },
};
static const filter_def float_methods[] = {
    { "is_integer", n_is_integer, "!" }, { "conjugate", n_conjugate, "!" }, { "hex", unsupported, "*" },
    { "fromhex", unsupported, "*" }, { "as_integer_ratio", unsupported, "*" }, { NULL, NULL, NULL },
};

/* ---- loops, cyclers --------------------------------------------------------------------------- */

METHOD(loop_cycle) {
    UNUSED;
    if (args->n_kw) return rt_fail(r, FAULT_TYPE, "cycle() got an unexpected keyword argument");
    if (!args->n_pos) return rt_fail(r, FAULT_TYPE, "no items for cycling given");
    *out = args->pos[self.loop->index0 % args->n_pos];
    return true;
}

METHOD(loop_changed) {
    UNUSED;
    bool same = false;
    list *l = list_new(r, args->n_pos);
    if (!l) return false;
    if (args->n_kw) return rt_fail(r, FAULT_TYPE, "changed() got an unexpected keyword argument");
    if (l->n) memcpy(l->v, args->pos, l->n * sizeof *l->v);
    const val now = { .kind = V_TUPLE, .l = l };
    if (self.loop->changed.kind != V_MISSING && !val_eq(r, self.loop->changed, now, &same)) return false;
    self.loop->changed = now;
    *out = val_bool(!same);
    return true;
}

METHOD(cycler_next) {
    UNUSED;
    *out = self.c->v[self.c->pos];
    self.c->pos = (self.c->pos + 1) % self.c->n;
    return true;
}
METHOD(cycler_reset) { UNUSED; self.c->pos = 0; *out = val_none(); return true; }

static const filter_def loop_methods[] = { { "cycle", loop_cycle, "*" }, { "changed", loop_changed, "*" },
    { NULL, NULL, NULL } };
static const filter_def cycler_methods[] = { { "next", cycler_next, "!" }, { "reset", cycler_reset, "!" },
    { NULL, NULL, NULL } };

static const filter_def view_methods[] = { { "isdisjoint", unsupported, "*" }, { "mapping", NULL, "" },
    { NULL, NULL, NULL } };

const filter_def *method_find(val self, const char *name, size_t n) {
    const filter_def *all_defs;
    switch (self.kind) {
    case V_STR: all_defs = str_methods; break;
    case V_DICT: all_defs = dict_methods; break;
    case V_LIST: all_defs = list_methods; break;
    case V_TUPLE: case V_RANGE: all_defs = tuple_methods; break;
    case V_INT: case V_BIG: case V_BOOL: all_defs = int_methods; break;
    case V_FLOAT: all_defs = float_methods; break;
    case V_LOOP: all_defs = loop_methods; break;
    case V_CYCLER: all_defs = cycler_methods; break;
    case V_VIEW: all_defs = view_methods; break;
    default: return NULL;
    }
    for (; all_defs->name; all_defs++)
        if (strlen(all_defs->name) == n && memcmp(all_defs->name, name, n) == 0) return all_defs;
    return NULL;
}
