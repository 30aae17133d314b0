/* Text from patterns: "%s" % x, the format filter, and str.format. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_int.h"

/* How one value is laid out, whatever the pattern's language. */
typedef struct {
    const char *fill;           /* one character */
    size_t n_fill;
    char align;                 /* < > = ^ or 0 */
    char sign;                  /* + space or 0 */
    bool alternate;
    char group;                 /* , _ or 0 */
    int64_t width, precision;   /* precision -1: not given */
    char type;                  /* 0: not given */
} layout;

#define MAX_WIDTH 100000
#define MAX_PRECISION 400

static bool put(rt *r, ern_buf *b, const char *p, size_t n) {
    return buf_add(b, p, n, NULL) || rt_fail(r, FAULT_LIMIT, "a formatted text passes %zu bytes", b->max);
}

static bool put_fill(rt *r, ern_buf *b, const layout *l, int64_t n) {
    for (; n > 0; n--)
        if (!put(r, b, l->fill, l->n_fill)) return false;
    return true;
}

/* sign + body padded to the width. */
static bool put_padded(rt *r, ern_buf *b, const layout *l, const char *sign, const char *p, size_t n, char align) {
    const str body = { .p = p, .n = n, .n_chars = SIZE_MAX };
    str *counted = (str *)(uintptr_t)&body;
    const int64_t room = l->width - (int64_t)str_chars(counted) - (int64_t)strlen(sign);
    if (l->align) align = l->align;
    const int64_t left = room <= 0 || align == '<' ? 0 : align == '^' ? room / 2 : room;
    if (align == '=' && (!put(r, b, sign, strlen(sign)) || !put_fill(r, b, l, left))) return false;
    if (align != '=' && (!put_fill(r, b, l, left) || !put(r, b, sign, strlen(sign)))) return false;
    return put(r, b, p, n) && put_fill(r, b, l, room - left);
}

static bool put_text(rt *r, ern_buf *b, const layout *l, const str *s, char align) {
    size_t n = s->n;
    if (l->precision >= 0 && (size_t)l->precision < str_chars(s)) n = str_offset(s, (size_t)l->precision);
    return rt_charge(r, n) && put_padded(r, b, l, "", s->p, n, align);
}

/* Digits of |v| in the base of type; 0 when it is a big one in another base than ten. */
static bool int_digits(rt *r, val v, char type, ern_buf *d) {
    if (v.kind == V_BIG) {
        if (type != 'd') return rt_fail(r, FAULT_UNSUPPORTED, "integers beyond 64 bits are written in decimal only");
        return big_repr(r, v.big, d);
    }
    const int64_t i = as_int(v);
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    char text[72];
    size_t n = sizeof text;
    const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    do text[--n] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base]; while (u /= base);
    return put(r, d, text + n, sizeof text - n);
}

/* Separators into the whole part of digits. */
static bool put_grouped(rt *r, ern_buf *b, const char *p, size_t n, char group, size_t every) {
    size_t whole = 0;
    while (whole < n && ((p[whole] >= '0' && p[whole] <= '9') || every == 4)) whole++;
    for (size_t i = 0; i < n; i++) {
        if (group && i && i < whole && (whole - i) % every == 0 && !put(r, b, &group, 1)) return false;
        if (!put(r, b, p + i, 1)) return false;
    }
    return true;
}

static const char *sign_text(const layout *l, bool is_negative) {
    return is_negative ? "-" : l->sign == '+' ? "+" : l->sign == ' ' ? " " : "";
}

static bool put_int(rt *r, ern_buf *b, const layout *l, val v, char type) {
    ern_buf d = { .max = r->max_bytes }, g = { .max = r->max_bytes };
    const bool is_negative = v.kind == V_BIG ? big_is_negative(v.big) : as_int(v) < 0;
    char sign[8];
    snprintf(sign, sizeof sign, "%s%s", sign_text(l, is_negative),
             !l->alternate ? "" : type == 'x' ? "0x" : type == 'X' ? "0X" : type == 'o' ? "0o" : type == 'b' ? "0b" : "");
    bool ok = int_digits(r, v, type, &d);
    const size_t skip = ok && d.len && d.data[0] == '-';
    for (int64_t zeros = l->precision - (int64_t)(d.len - skip); ok && zeros > 0; zeros--) ok = put(r, &g, "0", 1);
    ok = ok && put_grouped(r, &g, d.data + skip, d.len - skip, l->group, type == 'd' ? 3 : 4);
    ok = ok && put_padded(r, b, l, sign, g.data, g.len, '>');
    buf_deinit(&d);
    buf_deinit(&g);
    return ok;
}

static void upper(char *s) {
    for (; *s; s++)
        if (*s >= 'a' && *s <= 'z') *s = (char)(*s - 32);
}

static void add_end(char *text, size_t size, const char *end) {
    const size_t n = strlen(text);
    snprintf(text + n, size - n, "%s", end);
}

static bool put_float(rt *r, ern_buf *b, const layout *l, double f, char type) {
    char text[MAX_PRECISION + 400];
    const int precision = l->precision < 0 ? 6 : (int)l->precision;
    const bool is_upper = type == 'E' || type == 'F' || type == 'G';
    const char form = type == 'E' ? 'e' : type == 'F' || type == '%' ? 'f' : type == 'G' ? 'g' : type;
    if (l->precision > MAX_PRECISION)
        return rt_fail(r, FAULT_LIMIT, "a precision of %lld passes %d", (long long)l->precision, MAX_PRECISION);
    const double size = fabs(type == '%' ? f * 100 : f);
    if (isnan(f) || isinf(f)) snprintf(text, sizeof text, "%s", isnan(f) ? "nan" : "inf");
    else if (form != 0) num_write(text, sizeof text, size, form == 'g' && precision == 0 ? 1 : precision, form);
    else if (l->precision < 0) num_float_repr(size, text);
    else {
        num_write(text, sizeof text, size, precision ? precision : 1, 'g');
        if (!strpbrk(text, ".e")) add_end(text, sizeof text, ".0");
    }
    if (is_upper) upper(text);
    if (type == '%') add_end(text, sizeof text, "%");
    ern_buf g = { .max = r->max_bytes };
    bool ok = put_grouped(r, &g, text, strlen(text), l->group, 3);
    ok = ok && put_padded(r, b, l, sign_text(l, signbit(f) && !isnan(f)), g.data, g.len, '>');
    buf_deinit(&g);
    return ok;
}

static bool put_code_point(rt *r, ern_buf *b, const layout *l, val v, char align) {
    char room[4];
    if (!is_int(v) || as_int(v) < 0 || as_int(v) > 0x10FFFF || (as_int(v) >= 0xD800 && as_int(v) < 0xE000))
        return rt_fail(r, FAULT_OVERFLOW, "%%c arg not in range(0x110000)");
    return put_padded(r, b, l, "", room, utf8_encode((int32_t)as_int(v), room), align);
}

static bool repr_of(rt *r, val v, bool is_ascii, const str **out) {
    ern_buf b = { .max = r->max_bytes };
    const bool ok = val_repr(r, v, &b);
    *out = str_buf(r, &b, ok);
    if (!*out || !is_ascii) return *out != NULL;
    ern_buf a = { .max = r->max_bytes };
    bool fits = true;
    for (size_t i = 0; fits && i < (*out)->n;) {
        int32_t c;
        i += utf8_decode((*out)->p + i, (*out)->n - i, &c);
        fits = c < 0x80 ? buf_char(&a, (char)c, NULL)
                        : buf_printf(&a, NULL, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    }
    if (!fits) rt_fail(r, FAULT_LIMIT, "a formatted text passes %zu bytes", a.max);
    return (*out = str_buf(r, &a, fits)) != NULL;
}

/* ---- % ---------------------------------------------------------------------------------------- */

typedef struct {
    rt *r;
    const str *f;
    size_t at;
    val values;
    size_t next;
    bool is_mapping, used_mapping;
    ern_buf b;
} percent;

static bool percent_next(percent *p, val *out) {
    const size_t n = p->values.kind == V_TUPLE ? p->values.l->n : 1;
    if (p->next >= n) return rt_fail(p->r, FAULT_TYPE, "not enough arguments for format string");
    *out = p->values.kind == V_TUPLE ? p->values.l->v[p->next] : p->values;
    p->next++;
    return true;
}

static bool percent_number(percent *p, int64_t *out, bool *has) {
    val v;
    *has = true;
    if (p->at < p->f->n && p->f->p[p->at] == '*') {
        p->at++;
        if (!percent_next(p, &v)) return false;
        if (!is_int(v)) return rt_fail(p->r, FAULT_TYPE, "* wants int");
        *out = as_int(v);
    } else {
        const size_t from = p->at;
        for (*out = 0; p->at < p->f->n && p->f->p[p->at] >= '0' && p->f->p[p->at] <= '9'; p->at++)
            if (*out < MAX_WIDTH * 2) *out = *out * 10 + (p->f->p[p->at] - '0');
        *has = p->at > from;
    }
    return (*out <= MAX_WIDTH && *out >= -MAX_WIDTH) || rt_fail(p->r, FAULT_LIMIT, "a width of %lld passes %d",
        (long long)*out, MAX_WIDTH);
}

static bool percent_key(percent *p, val *v) {
    size_t depth = 1, from = ++p->at;
    if (!p->is_mapping) return rt_fail(p->r, FAULT_TYPE, "format requires a mapping");
    for (; p->at < p->f->n; p->at++) {
        if (p->f->p[p->at] == '(') depth++;
        else if (p->f->p[p->at] == ')' && --depth == 0) break;
    }
    if (p->at >= p->f->n) return rt_fail(p->r, FAULT_VALUE, "incomplete format key");
    const str *key = str_view(p->r, p->f->p + from, p->at++ - from, NULL);
    bool has;
    if (!key) return false;
    p->used_mapping = true;
    if (p->values.kind == V_UNDEF) return val_undef_fail(p->r, p->values);
    if (p->values.kind != V_DICT)
        return rt_fail(p->r, FAULT_TYPE, "%s indices must be integers or slices, not str", val_type(p->values));
    if (!dict_get(p->r, p->values.d, val_str(key), v, &has)) return false;
    return has || rt_fail(p->r, FAULT_KEY, "'%.*s'", (int)key->n, key->p);
}

static bool percent_put(percent *p, layout *l, char type, val v) {
    rt *r = p->r;
    const str *s;
    switch (type) {
    case 's': case 'r': case 'a':
        if (type == 's' ? !val_str_of(r, v, &s) : !repr_of(r, v, type == 'a', &s)) return false;
        if (p->f->is_markup && !(s = str_escape(r, s))) return false;
        return put_text(r, &p->b, l, s, '>');
    case 'c':
        if (v.kind == V_STR && str_chars(v.s) == 1) return put_padded(r, &p->b, l, "", v.s->p, v.s->n, '>');
        if (!is_int(v)) return rt_fail(r, FAULT_TYPE, "%%c requires int or char");
        return put_code_point(r, &p->b, l, v, '>');
    case 'd': case 'i': case 'u':
        if (v.kind == V_UNDEF) return val_undef_fail(r, v);
        if (v.kind == V_FLOAT && !num_from_float(r, v.f, &v)) return false;
        if (!num_is(v)) return rt_fail(r, FAULT_TYPE, "%%%c format: a real number is required, not %s", type, val_type(v));
        return put_int(r, &p->b, l, v, 'd');
    case 'o': case 'x': case 'X':
        if (!is_int(v) && v.kind != V_BIG)
            return rt_fail(r, FAULT_TYPE, "%%%c format: an integer is required, not %s", type, val_type(v));
        return put_int(r, &p->b, l, v, type);
    case 'e': case 'E': case 'f': case 'F': case 'g': case 'G':
        if (v.kind == V_UNDEF) return val_undef_fail(r, v);
        if (!num_is(v)) return rt_fail(r, FAULT_TYPE, "must be real number, not %s", val_type(v));
        return put_float(r, &p->b, l, num_float(v), type);
    default: return rt_fail(r, FAULT_VALUE, "unsupported format character '%c' (0x%x)", type, (unsigned char)type);
    }
}

/* One directive; p->at is after its '%'. */
static bool percent_one(percent *p) {
    const str *f = p->f;
    layout l = { " ", 1, 0, 0, false, 0, 0, -1, 0 };
    val v = { .kind = V_MISSING };
    bool has, zero = false;
    if (p->at < f->n && f->p[p->at] == '(' && !percent_key(p, &v)) return false;
    for (; p->at < f->n && f->p[p->at] && strchr("#0- +", f->p[p->at]); p->at++) {
        const char c = f->p[p->at];
        if (c == '#') l.alternate = true;
        else if (c == '0') zero = true;
        else if (c == '-') l.align = '<';
        else if (c == '+' || !l.sign) l.sign = c;
    }
    if (!percent_number(p, &l.width, &has)) return false;
    if (l.width < 0) {
        l.align = '<';
        l.width = -l.width;
    }
    if (p->at < f->n && f->p[p->at] == '.') {
        p->at++;
        if (!percent_number(p, &l.precision, &has)) return false;
        if (l.precision < 0) l.precision = 0;
    }
    while (p->at < f->n && (f->p[p->at] == 'h' || f->p[p->at] == 'l' || f->p[p->at] == 'L')) p->at++;
    if (p->at >= f->n) return rt_fail(p->r, FAULT_VALUE, "incomplete format");
    const char type = f->p[p->at++];
    if (type == '%') return put(p->r, &p->b, "%", 1);
    if (zero && !l.align && type != 's' && type != 'r' && type != 'a' && type != 'c') {
        l.fill = "0";
        l.align = '=';
    }
    if (v.kind == V_MISSING && !percent_next(p, &v)) return false;
    return percent_put(p, &l, type, v);
}

bool percent_format(rt *r, const str *format, val values, const str **out) {
    percent p = { .r = r, .f = format, .values = values, .b = { .max = r->max_bytes } };
    p.is_mapping = values.kind == V_DICT || values.kind == V_LIST || values.kind == V_UNDEF;
    bool ok = rt_charge(r, format->n);
    while (ok && p.at < format->n) {
        const char *mark = memchr(format->p + p.at, '%', format->n - p.at);
        const size_t plain = mark ? (size_t)(mark - format->p) - p.at : format->n - p.at;
        ok = put(r, &p.b, format->p + p.at, plain);
        p.at += plain + (mark != NULL);
        if (ok && mark) ok = percent_one(&p);
    }
    if (ok && !p.is_mapping && p.next < (values.kind == V_TUPLE ? values.l->n : 1))
        ok = rt_fail(r, FAULT_TYPE, "not all arguments converted during string formatting");
    *out = str_markup(r, str_buf(r, &p.b, ok), format->is_markup);
    return *out != NULL;
}

/* ---- str.format ------------------------------------------------------------------------------- */

static bool parse_spec(rt *r, const char *s, size_t n, layout *l) {
    size_t i = 0;
    int32_t c;
    *l = (layout){ " ", 1, 0, 0, false, 0, 0, -1, 0 };
    const size_t first = n ? utf8_decode(s, n, &c) : 0;
    if (first < n && strchr("<>=^", s[first]) && s[first]) {
        l->fill = s;
        l->n_fill = first;
        l->align = s[first];
        i = first + 1;
    } else if (n && strchr("<>=^", s[0]) && s[0]) {
        l->align = s[i++];
    }
    if (i < n && (s[i] == '+' || s[i] == '-' || s[i] == ' ')) l->sign = s[i++];
    if (i < n && s[i] == '#') { l->alternate = true; i++; }
    if (i < n && s[i] == '0') {
        if (!l->align) { l->fill = "0"; l->n_fill = 1; l->align = '='; }
        i++;
    }
    for (; i < n && s[i] >= '0' && s[i] <= '9'; i++)
        if (l->width <= MAX_WIDTH) l->width = l->width * 10 + (s[i] - '0');
    if (i < n && (s[i] == ',' || s[i] == '_')) l->group = s[i++];
    if (i < n && s[i] == '.') {
        const size_t from = ++i;
        for (l->precision = 0; i < n && s[i] >= '0' && s[i] <= '9'; i++)
            if (l->precision <= MAX_WIDTH) l->precision = l->precision * 10 + (s[i] - '0');
        if (i == from) return rt_fail(r, FAULT_VALUE, "Format specifier missing precision");
    }
    if (i < n) l->type = s[i++];
    if (l->width > MAX_WIDTH) return rt_fail(r, FAULT_LIMIT, "a width of %lld passes %d", (long long)l->width, MAX_WIDTH);
    return i == n || rt_fail(r, FAULT_VALUE, "Invalid format specifier '%.*s'", (int)n, s);
}

static bool format_val(rt *r, val v, const char *spec, size_t n, ern_buf *b) {
    const str *s;
    layout l;
    if (n == 0 || (!num_is(v) && v.kind != V_STR)) {
        if (n) return rt_fail(r, FAULT_TYPE, "unsupported format string passed to %s.__format__", val_type(v));
        return val_str_of(r, v, &s) && put(r, b, s->p, s->n);
    }
    if (!parse_spec(r, spec, n, &l)) return false;
    if (v.kind == V_STR) {
        if (l.type && l.type != 's')
            return rt_fail(r, FAULT_VALUE, "Unknown format code '%c' for object of type 'str'", l.type);
        if (l.sign || l.group || l.alternate)
            return rt_fail(r, FAULT_VALUE, "Sign, grouping or '#' not allowed in string format specifier");
        if (l.align == '=' && l.fill[0] == '0') l.align = '<';
        else if (l.align == '=') return rt_fail(r, FAULT_VALUE, "'=' alignment not allowed in string format specifier");
        return put_text(r, b, &l, v.s, '<');
    }
    if (l.type == 'n') l.type = v.kind == V_FLOAT ? 'g' : 'd';
    if (v.kind != V_FLOAT && (!l.type || strchr("dxXob", l.type))) {
        if (l.precision >= 0) return rt_fail(r, FAULT_VALUE, "Precision not allowed in integer format specifier");
        return put_int(r, b, &l, v, l.type ? l.type : 'd');
    }
    if (v.kind != V_FLOAT && l.type == 'c') return put_code_point(r, b, &l, v, '<');
    if (l.type && !strchr("eEfFgG%", l.type))
        return rt_fail(r, FAULT_VALUE, "Unknown format code '%c' for object of type '%s'", l.type, val_type(v));
    return put_float(r, b, &l, num_float(v), l.type);
}

typedef struct { rt *r; const call_args *a; size_t next; bool is_auto, is_manual, is_markup; } brace;

static bool brace_number(const char *p, size_t n, size_t *out) {
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9' || *out > 100000) return false;
        *out = *out * 10 + (size_t)(p[i] - '0');
    }
    return n > 0;
}

static bool brace_first(brace *x, const char *p, size_t n, bool is_whole, val *out) {
    rt *r = x->r;
    size_t i;
    const bool is_number = brace_number(p, n, &i);
    if ((n == 0 && is_whole) || is_number) {
        if (n == 0) i = x->next++;
        x->is_auto = x->is_auto || n == 0;
        x->is_manual = x->is_manual || n > 0;
        if (x->is_auto && x->is_manual)
            return rt_fail(r, FAULT_VALUE, "cannot switch from manual field specification to automatic field numbering");
        if (i >= x->a->n_pos)
            return rt_fail(r, FAULT_INDEX, "Replacement index %zu out of range for positional args tuple", i);
        *out = x->a->pos[i];
        return true;
    }
    for (size_t k = 0; k < x->a->n_kw; k++)
        if (x->a->kw[k].name->n == n && memcmp(x->a->kw[k].name->p, p, n) == 0) {
            *out = x->a->kw[k].v;
            return true;
        }
    return rt_fail(r, FAULT_KEY, "'%.*s'", (int)(n < 100 ? n : 100), p);
}

/* name.attr[key]: through the sandbox, as everything else. */
static bool brace_field(brace *x, const char *p, size_t n, val *out) {
    size_t i = 0;
    while (i < n && p[i] != '.' && p[i] != '[') i++;
    if (!brace_first(x, p, i, i == n, out)) return false;      /* "{.a}" is no automatic number */
    while (i < n) {
        const bool is_item = p[i++] == '[';
        size_t end = i, number;
        while (end < n && (is_item ? p[end] != ']' : p[end] != '.' && p[end] != '[')) end++;
        if (end == i || (is_item && end == n))
            return rt_fail(x->r, FAULT_VALUE, "%s in format string",
                           end == n && is_item ? "Missing ']'" : "Empty attribute");
        const str *name = str_new(x->r, p + i, end - i);
        if (!name) return false;
        const val key = is_item && brace_number(p + i, end - i, &number) ? val_int((int64_t)number) : val_str(name);
        if (is_item ? !val_getitem(x->r, *out, key, out) : !val_getattr(x->r, *out, name, out)) return false;
        i = end + is_item;
        if (is_item && i < n && p[i] != '.' && p[i] != '[')
            return rt_fail(x->r, FAULT_VALUE, "Only '.' or '[' may follow ']' in format field specifier");
    }
    return true;
}

static bool brace_text(brace *x, const char *p, size_t n, size_t depth, ern_buf *b);

static bool brace_one(brace *x, const char *p, size_t n, size_t depth, ern_buf *b) {
    rt *r = x->r;
    size_t name = 0;
    val v;
    const str *s;
    ern_buf spec = { .max = 4096 };
    for (bool in_item = false; name < n && (in_item || (p[name] != '!' && p[name] != ':')); name++)
        in_item = p[name] == '[' || (in_item && p[name] != ']');
    if (!brace_field(x, p, name, &v)) return false;
    if (name < n && p[name] == '!') {
        const char how = name + 1 < n ? p[name + 1] : 0;
        name += 2;
        if (name < n && p[name] != ':') return rt_fail(r, FAULT_VALUE, "expected ':' after conversion specifier");
        if (how != 'r' && how != 's' && how != 'a') return rt_fail(r, FAULT_VALUE, "unknown conversion in a format field");
        if (how == 's' ? !val_str_of(r, v, &s) : !repr_of(r, v, how == 'a', &s)) return false;
        v = val_str(s);
    }
    const size_t from = name < n ? name + 1 : n;
    bool ok = brace_text(x, p + from, n - from, depth + 1, &spec);
    ern_buf plain = { .max = r->max_bytes };
    ok = ok && format_val(r, v, spec.data ? spec.data : "", spec.len, x->is_markup ? &plain : b);
    if (ok && x->is_markup) ok = (v.kind == V_STR && v.s->is_markup ? buf_add(b, plain.data, plain.len, NULL)
                                                                    : buf_escaped(b, plain.data, plain.len, NULL)) ||
                                                                        rt_nomem(r);
    buf_deinit(&spec);
    buf_deinit(&plain);
    return ok;
}

static bool brace_text(brace *x, const char *p, size_t n, size_t depth, ern_buf *b) {
    if (n && depth > 2) return rt_fail(x->r, FAULT_VALUE, "Max string recursion exceeded");
    for (size_t i = 0; i < n;) {
        if (p[i] != '{' && p[i] != '}') {
            if (!put(x->r, b, p + i++, 1)) return false;
            continue;
        }
        if (i + 1 < n && p[i + 1] == p[i]) {
            if (!put(x->r, b, p + i, 1)) return false;
            i += 2;
            continue;
        }
        if (p[i] == '}') return rt_fail(x->r, FAULT_VALUE, "Single '}' encountered in format string");
        size_t end = i + 1, open = 1;
        for (; end < n; end++) {
            if (p[end] == '{') open++;
            else if (p[end] == '}' && --open == 0) break;
        }
        if (end >= n)
            return rt_fail(x->r, FAULT_VALUE, i + 1 == n ? "Single '{' encountered in format string" :
                "expected '}' before end of string");
        if (!brace_one(x, p + i + 1, end - i - 1, depth, b)) return false;
        i = end + 1;
    }
    return true;
}

bool brace_format(rt *r, const str *format, const call_args *a, const str **out) {
    brace x = { .r = r, .a = a, .is_markup = format->is_markup };
    ern_buf b = { .max = r->max_bytes };
    const bool ok = rt_charge(r, format->n) && brace_text(&x, format->p, format->n, 1, &b);
    *out = str_markup(r, str_buf(r, &b, ok), format->is_markup);
    return *out != NULL;
}
