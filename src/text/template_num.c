/* Numbers: Python's int, float and bool in arithmetic, order, text and back. */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template_int.h"

bool num_is(val v) { return v.kind == V_INT || v.kind == V_BOOL || v.kind == V_FLOAT || v.kind == V_BIG; }

double num_float(val v) { return v.kind == V_FLOAT ? v.f : v.kind == V_BIG ? big_float(v.big) : (double)as_int(v); }

/* ---- text ------------------------------------------------------------------------------------- */

static char point(void) {
    const struct lconv *l = localeconv();
    return l && l->decimal_point && l->decimal_point[0] ? l->decimal_point[0] : '.';
}

double num_read(const char *text) {
    char room[TEMPLATE_MAX_DIGITS + 16];
    const char p = point();
    if (p == '.') return strtod(text, NULL);
    snprintf(room, sizeof room, "%s", text);
    for (char *c = room; *c; c++)
        if (*c == '.') *c = p;
    return strtod(room, NULL);
}

void num_write(char *out, size_t size, double f, int digits, char form) {
    const char p = point();
    snprintf(out, size, form == 'e' ? "%.*e" : form == 'g' ? "%.*g" : "%.*f", digits, f);
    for (char *c = out; p != '.' && *c; c++)
        if (*c == p) *c = '.';
}

/* The shortest digits that read back as f; an exponent below 1e-4 and from 1e16 on. */
void num_float_repr(double f, char out[FLOAT_TEXT]) {
    char e[32];
    if (isnan(f) || isinf(f)) {
        snprintf(out, FLOAT_TEXT, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    for (int digits = 0; digits < 17; digits++) {
        num_write(e, sizeof e, f, digits, 'e');
        if (num_read(e) == f) break;
    }
    char *at = strchr(e, 'e');
    const int power = (int)strtol(at + 1, NULL, 10);
    *at = '\0';
    const char *sign = e[0] == '-' ? "-" : "";
    char digits[24];
    size_t n = 0;
    for (const char *c = e; *c; c++)
        if (*c >= '0' && *c <= '9') digits[n++] = *c;
    digits[n] = '\0';
    if (power < -4 || power >= 16)
        snprintf(out, FLOAT_TEXT, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "", digits + 1, power < 0 ? '-' :
            '+', abs(power));
    else if (power < 0) snprintf(out, FLOAT_TEXT, "%s0.%.*s%s", sign, -power - 1, "0000", digits);
    else if ((size_t)power + 1 >= n) snprintf(out, FLOAT_TEXT, "%s%s%.*s.0", sign, digits, power + 1 - (int)n,
        "0000000000000000");
    else snprintf(out, FLOAT_TEXT, "%s%.*s.%s", sign, power + 1, digits, digits + power + 1);
}

bool num_repr(rt *r, val v, ern_buf *b) {
    char text[FLOAT_TEXT];
    if (v.kind == V_BIG) return big_repr(r, v.big, b);
    if (v.kind != V_FLOAT) return buf_printf(b, r->e, "%lld", (long long)as_int(v));
    num_float_repr(v.f, text);
    return buf_str(b, text, r->e);
}

static void trimmed(const char **p, size_t *n) {
    const str s = { .p = *p, .n = *n };
    size_t from = 0, to = s.n;
    while (from < to && ((unsigned char)s.p[from] <= ' ') && char_is_space(s.p[from])) from++;
    while (to > from && ((unsigned char)s.p[to - 1] <= ' ') && char_is_space(s.p[to - 1])) to--;
    *p += from;
    *n = to - from;
}

static int digit_of(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

/* A prefix 0x, 0o, 0b that goes with base; base 0 takes the one it finds, or 10. */
static void take_prefix(const char **p, size_t *n, int *base, bool *has) {
    const char kind = (char)(*n > 1 && **p == '0' ? (*p)[1] | 0x20 : 0);
    const int found = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    *has = found && (*base == 0 || *base == found);
    if (*base == 0) *base = *has ? found : 10;
    if (!*has) return;
    *p += 2;
    *n -= 2;
}

bool num_from_text(rt *r, const char *p, size_t n, int base, val *out, bool *ok) {
    char digits[TEMPLATE_MAX_DIGITS + 1];
    size_t n_digits = 0;
    bool has_prefix, is_negative = false, is_zero = true;
    const bool is_literal = base == 0;
    *ok = false;
    if (base != 0 && (base < 2 || base > 36)) return rt_fail(r, FAULT_VALUE, "int() base must be >= 2 and <= 36, or 0");
    trimmed(&p, &n);
    if (n && (*p == '-' || *p == '+')) {
        is_negative = *p == '-';
        p++;
        n--;
    }
    take_prefix(&p, &n, &base, &has_prefix);
    if (has_prefix && n && *p == '_') { p++; n--; }
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '_' && i && i + 1 < n && p[i - 1] != '_') continue;
        if (digit_of(p[i]) >= base) return true;
        is_zero = is_zero && p[i] == '0';
        if (n_digits == TEMPLATE_MAX_DIGITS) return true;
        digits[n_digits++] = p[i];
    }
    if (!n_digits || (is_literal && !has_prefix && n_digits > 1 && digits[0] == '0' && !is_zero)) return true;
    const big *b = big_from_digits(r, digits, n_digits, (unsigned)base);
    if (!b) return false;
    *ok = true;
    *out = big_val(b);
    return !is_negative || num_neg(r, *out, out);
}

static size_t digit_run(const char *p, size_t n, char *out, size_t *used) {
    size_t i = 0;
    while (i < n && ((p[i] >= '0' && p[i] <= '9') || (p[i] == '_' && i && i + 1 < n && p[i + 1] >= '0' &&
        p[i + 1] <= '9' && p[i - 1] != '_'))) {
        if (p[i] != '_') out[(*used)++] = p[i];
        i++;
    }
    return i;
}

static bool is_word(const char *p, size_t n, const char *word) {
    if (n != strlen(word)) return false;
    for (size_t i = 0; i < n; i++)
        if ((p[i] | 0x20) != word[i]) return false;
    return true;
}

bool num_float_text(const char *p, size_t n, double *out) {
    char text[1024];
    size_t used = 0;
    trimmed(&p, &n);
    if (n == 0 || n > sizeof text - 2) return false;
    if (*p == '-' || *p == '+') { text[used++] = *p++; n--; }
    const double sign = used && text[0] == '-' ? -1 : 1;
    if (is_word(p, n, "inf") || is_word(p, n, "infinity")) return *out = sign * (double)INFINITY, true;
    if (is_word(p, n, "nan")) return *out = (double)NAN, true;
    size_t i = digit_run(p, n, text, &used), whole = i, fraction = 0;
    if (i < n && p[i] == '.') {
        text[used++] = '.';
        i++;
        fraction = digit_run(p + i, n - i, text, &used);
        i += fraction;
    }
    if (!whole && !fraction) return false;
    if (i < n && (p[i] | 0x20) == 'e') {
        text[used++] = 'e';
        i++;
        if (i < n && (p[i] == '-' || p[i] == '+')) text[used++] = p[i++];
        const size_t power = digit_run(p + i, n - i, text, &used);
        if (!power) return false;
        i += power;
    }
    if (i != n) return false;
    text[used] = '\0';
    *out = num_read(text);
    return true;
}

bool num_from_float(rt *r, double f, val *out) {
    if (isnan(f)) return rt_fail(r, FAULT_VALUE, "cannot convert float NaN to integer");
    if (isinf(f)) return rt_fail(r, FAULT_OVERFLOW, "cannot convert float infinity to integer");
    if (f > -9.2e18 && f < 9.2e18) {
        *out = val_int((int64_t)f);
        return true;
    }
    const big *b = big_from_float(r, f);
    if (b) *out = big_val(b);
    return b != NULL;
}

/* ---- order ------------------------------------------------------------------------------------ */

static int order_int_float(int64_t i, double f) {
    if (f >= 9223372036854775808.0) return -1;
    if (f < -9223372036854775808.0) return 1;
    const int64_t whole = (int64_t)f;
    if (i != whole) return i < whole ? -1 : 1;
    const double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

int num_order(val a, val b, bool *is_nan) {
    *is_nan = (a.kind == V_FLOAT && isnan(a.f)) || (b.kind == V_FLOAT && isnan(b.f));
    if (*is_nan) return 1;
    if (is_int(a) && is_int(b)) return as_int(a) < as_int(b) ? -1 : as_int(a) > as_int(b);
    if (is_int(a) && b.kind == V_FLOAT) return order_int_float(as_int(a), b.f);
    if (a.kind == V_FLOAT && is_int(b)) return -order_int_float(as_int(b), a.f);
    if (a.kind == V_BIG && b.kind == V_BIG) return big_order(a.big, b.big);
    if (a.kind == V_BIG && is_int(b)) return big_is_negative(a.big) ? -1 : 1;
    if (b.kind == V_BIG && is_int(a)) return big_is_negative(b.big) ? 1 : -1;
    const double x = num_float(a), y = num_float(b);
    return x < y ? -1 : x > y;
}

uint64_t num_hash(val v) {
    double f = num_float(v) + 0.0;                              /* -0.0 is 0.0 */
    uint64_t u;
    if (f == 0) f = 0;
    memcpy(&u, &f, sizeof u);
    return (u ^ u >> 33) * 0xff51afd7ed558ccdu;
}

/* ---- arithmetic ------------------------------------------------------------------------------- */

static const big *as_big(rt *r, val v) { return v.kind == V_BIG ? v.big : big_from_int(r, as_int(v)); }

static bool put_big(const big *b, val *out) {
    if (b) *out = big_val(b);
    return b != NULL;
}

bool num_neg(rt *r, val a, val *out) {
    if (a.kind == V_FLOAT) return *out = val_float(-a.f), true;
    if (a.kind != V_BIG && as_int(a) != INT64_MIN) return *out = val_int(-as_int(a)), true;
    const big *zero = big_from_int(r, 0), *b = as_big(r, a);
    return zero && b && put_big(big_add(r, zero, b, true), out);
}

static bool int_divmod(rt *r, enum op op, val a, val b, val *out) {
    if (is_int(b) && as_int(b) == 0) return rt_fail(r, FAULT_ZERO, "integer division or modulo by zero");
    if (is_int(a) && is_int(b) && as_int(b) != -1) {
        const int64_t x = as_int(a), y = as_int(b);
        int64_t q = x / y, m = x % y;
        if (m && (m < 0) != (y < 0)) { m += y; q--; }
        *out = val_int(op == OP_MOD ? m : q);
        return true;
    }
    const big *x = as_big(r, a), *y = as_big(r, b), *q, *m;
    return x && y && big_divmod(r, x, y, &q, &m) && put_big(op == OP_MOD ? m : q, out);
}

static bool int_pow(rt *r, val a, val b, val *out) {
    if (b.kind == V_BIG) return rt_fail(r, FAULT_LIMIT, "an exponent beyond 64 bits");
    int64_t n = as_int(b);
    if (n < 0) {
        const double x = num_float(a);
        if (x == 0) return rt_fail(r, FAULT_ZERO, "0.0 cannot be raised to a negative power");
        *out = val_float(pow(x, (double)n));
        return true;
    }
    val x = a.kind == V_BOOL ? val_int(a.b) : a, power = val_int(1);
    while (n) {
        if (!rt_charge(r, 0)) return false;
        if ((n & 1) && !num_binary(r, OP_MUL, power, x, &power)) return false;
        n >>= 1;
        if (is_int(x) && (as_int(x) == 0 || as_int(x) == 1)) n &= 1;
        if (n && !num_binary(r, OP_MUL, x, x, &x)) return false;
    }
    *out = power;
    return true;
}

static bool int_binary(rt *r, enum op op, val a, val b, val *out) {
    int64_t i;
    if (op == OP_POW) return int_pow(r, a, b, out);
    if (op == OP_FLOORDIV || op == OP_MOD) return int_divmod(r, op, a, b, out);
    if (op == OP_DIV) {
        if (is_int(b) && as_int(b) == 0) return rt_fail(r, FAULT_ZERO, "division by zero");
        const double q = is_int(a) && is_int(b) ? (double)((long double)as_int(a) / (long double)as_int(b)) :
            num_float(a) / num_float(b);
        if (isinf(q) || isnan(q)) return rt_fail(r, FAULT_OVERFLOW, "integer division result too large for a float");
        *out = val_float(q);
        return true;
    }
    if (is_int(a) && is_int(b)) {
        const int64_t x = as_int(a), y = as_int(b);
        const bool over = op == OP_ADD ? __builtin_add_overflow(x, y, &i) : op == OP_SUB ? __builtin_sub_overflow(x, y, &i)
                                                                                    : __builtin_mul_overflow(x, y, &i);
        if (!over) return *out = val_int(i), true;
    }
    const big *x = as_big(r, a), *y = as_big(r, b);
    if (!x || !y) return false;
    return put_big(op == OP_MUL ? big_mul(r, x, y) : big_add(r, x, y, op == OP_SUB), out);
}

static bool float_mod(rt *r, double x, double y, double *q, double *m) {
    if (y == 0) return rt_fail(r, FAULT_ZERO, "float modulo");
    *m = fmod(x, y);
    double d = (x - *m) / y;
    if (*m != 0 && (*m < 0) != (y < 0)) { *m += y; d -= 1; }
    else if (*m == 0) *m = copysign(0.0, y);
    *q = d != 0 ? floor(d) : copysign(0.0, x / y);
    if (d != 0 && d - *q > 0.5) *q += 1;
    return true;
}

bool num_binary(rt *r, enum op op, val a, val b, val *out) {
    if (a.kind != V_FLOAT && b.kind != V_FLOAT) return int_binary(r, op, a, b, out);
    const double x = num_float(a), y = num_float(b);
    double q = 0, m = 0;
    if ((a.kind == V_BIG && isinf(x)) || (b.kind == V_BIG && isinf(y)))
        return rt_fail(r, FAULT_OVERFLOW, "int too large to convert to float");
    switch (op) {
    case OP_ADD: q = x + y; break;
    case OP_SUB: q = x - y; break;
    case OP_MUL: q = x * y; break;
    case OP_DIV:
        if (y == 0) return rt_fail(r, FAULT_ZERO, "float division by zero");
        q = x / y;
        break;
    case OP_FLOORDIV:
        if (y == 0) return rt_fail(r, FAULT_ZERO, "float floor division by zero");
        if (!float_mod(r, x, y, &q, &m)) return false;
        break;
    case OP_MOD:
        if (!float_mod(r, x, y, &m, &q)) return false;
        break;
    default:
        if (x == 0 && y < 0) return rt_fail(r, FAULT_ZERO, "0.0 cannot be raised to a negative power");
        q = pow(x, y);
        if (isnan(q) && !isnan(x) && !isnan(y)) return rt_fail(r, FAULT_UNSUPPORTED, "complex numbers are not supported");
        if (isinf(q) && !isinf(x) && !isinf(y)) return rt_fail(r, FAULT_OVERFLOW, "(34, 'Numerical result out of range')");
    }
    *out = val_float(q);
    return true;
}
