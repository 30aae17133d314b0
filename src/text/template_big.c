/* Integers beyond 64 bits: sign and magnitude, limbs of nine decimal digits, least significant first. */
#include <math.h>
#include <stdlib.h>

#include "text/template_int.h"

#define LIMB 1000000000u
#define BIG_MAX_LIMBS 2500      /* 22,500 digits: five times what can be printed */

struct big { bool is_negative; size_t n; uint32_t limb[]; };    /* no leading zero limb; 0 has none */

big *big_new(rt *r, size_t n) {
    if (n > BIG_MAX_LIMBS) {
        rt_fail(r, FAULT_LIMIT, "an integer of more than %d digits", BIG_MAX_LIMBS * 9);
        return NULL;
    }
    big *b = rt_take(r, 1, sizeof *b + n * sizeof *b->limb);
    if (b) b->n = n;
    return b;
}

static big *trim(big *b) {
    while (b->n && !b->limb[b->n - 1]) b->n--;
    if (!b->n) b->is_negative = false;
    return b;
}

const big *big_from_int(rt *r, int64_t i) {
    big *b = big_new(r, 3);
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    if (!b) return NULL;
    b->is_negative = i < 0;
    for (size_t k = 0; k < 3; k++, u /= LIMB) b->limb[k] = (uint32_t)(u % LIMB);
    return trim(b);
}

val big_val(const big *b) {
    uint64_t u = 0;
    if (b->n > 3) return (val){ .kind = V_BIG, .big = b };
    for (size_t k = b->n; k--;)
        if (__builtin_mul_overflow(u, (uint64_t)LIMB, &u) || __builtin_add_overflow(u, (uint64_t)b->limb[k], &u))
            return (val){ .kind = V_BIG, .big = b };
    if (u > (uint64_t)INT64_MAX + b->is_negative) return (val){ .kind = V_BIG, .big = b };
    return val_int(b->is_negative ? (int64_t)(0 - u) : (int64_t)u);
}

static int order_size(const big *a, const big *b) {
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (size_t i = a->n; i--;)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

int big_order(const big *a, const big *b) {
    if (a->is_negative != b->is_negative) return a->is_negative ? -1 : 1;
    return a->is_negative ? order_size(b, a) : order_size(a, b);
}

/* |a| + |b|, or |a| - |b| where |a| is not smaller. */
static big *add_sizes(rt *r, const big *a, const big *b, bool subtract) {
    big *s = big_new(r, (a->n > b->n ? a->n : b->n) + 1);
    int64_t carry = 0;
    for (size_t i = 0; s && i < s->n; i++) {
        const int64_t x = i < a->n ? a->limb[i] : 0, y = i < b->n ? b->limb[i] : 0;
        const int64_t d = x + (subtract ? -y : y) + carry;
        carry = d < 0 ? -1 : d >= (int64_t)LIMB;
        s->limb[i] = (uint32_t)(d - carry * (int64_t)LIMB);
    }
    return s;
}

const big *big_add(rt *r, const big *a, const big *b, bool subtract) {
    const bool b_negative = b->is_negative != subtract, differ = a->is_negative != b_negative;
    const bool swaps = differ && order_size(a, b) < 0;
    big *s = swaps ? add_sizes(r, b, a, true) : add_sizes(r, a, b, differ);
    if (!s) return NULL;
    s->is_negative = swaps ? b_negative : a->is_negative;
    return trim(s);
}

const big *big_mul(rt *r, const big *a, const big *b) {
    big *p = big_new(r, a->n + b->n);
    if (!p || !rt_charge(r, a->n * b->n * 4)) return NULL;
    for (size_t i = 0; i < a->n; i++) {
        uint64_t carry = 0;
        for (size_t k = 0; k < b->n || carry; k++) {
            const uint64_t t = p->limb[i + k] + carry + (k < b->n ? (uint64_t)a->limb[i] * b->limb[k] : 0);
            p->limb[i + k] = (uint32_t)(t % LIMB);
            carry = t / LIMB;
        }
    }
    p->is_negative = a->is_negative != b->is_negative;
    return trim(p);
}

/* a *= small, in place; a has room for the carry. */
static void scale(big *a, uint32_t small) {
    uint64_t carry = 0;
    for (size_t i = 0; i < a->n; i++) {
        const uint64_t t = (uint64_t)a->limb[i] * small + carry;
        a->limb[i] = (uint32_t)(t % LIMB);
        carry = t / LIMB;
    }
}

static uint32_t divide_small(big *a, uint32_t small) {
    uint64_t rest = 0;
    for (size_t i = a->n; i--;) {
        const uint64_t t = rest * LIMB + a->limb[i];
        a->limb[i] = (uint32_t)(t / small);
        rest = t % small;
    }
    return (uint32_t)rest;
}

static big *widened(rt *r, const big *a) {
    big *w = big_new(r, a->n + 1);
    if (w) memcpy(w->limb, a->limb, a->n * sizeof *a->limb);
    return w;
}

/* u[j..j+n] -= q * v, adding v back while that went below zero; returns the corrected q. */
static uint32_t take_away(big *u, const big *v, size_t n, size_t j, uint64_t q) {
    int64_t borrow = 0;
    for (size_t i = 0; i <= n; i++) {
        const int64_t p = (int64_t)(i < n ? q * v->limb[i] : 0) + borrow;
        int64_t d = (int64_t)u->limb[i + j] - p % (int64_t)LIMB;
        borrow = p / (int64_t)LIMB;
        if (d < 0) { d += LIMB; borrow++; }
        u->limb[i + j] = (uint32_t)d;
    }
    while (borrow) {
        uint64_t carry = 0;
        q--;
        for (size_t i = 0; i <= n; i++) {
            const uint64_t t = (uint64_t)u->limb[i + j] + (i < n ? v->limb[i] : 0) + carry;
            u->limb[i + j] = (uint32_t)(t % LIMB);
            carry = t / LIMB;
        }
        borrow -= (int64_t)carry;
    }
    return (uint32_t)q;
}

/* Long division of magnitudes, b longer than one limb (Knuth's algorithm D in base 10^9). */
static bool divide(rt *r, const big *a, const big *b, big **q, big **m) {
    const size_t n = b->n;
    const uint32_t d = LIMB / (b->limb[n - 1] + 1);
    big *u = widened(r, a), *v = widened(r, b);
    if (!u || !v || !(*q = big_new(r, a->n - n + 1)) || !rt_charge(r, a->n * n * 4)) return false;
    scale(u, d);
    scale(v, d);
    for (size_t j = a->n - n + 1; j--;) {
        const uint64_t top = (uint64_t)u->limb[j + n] * LIMB + u->limb[j + n - 1];
        uint64_t guess = top / v->limb[n - 1];
        if (guess >= LIMB) guess = LIMB - 1;
        (*q)->limb[j] = take_away(u, v, n, j, guess);
    }
    divide_small(u, d);
    *m = trim(u);
    return true;
}

bool big_divmod(rt *r, const big *a, const big *b, const big **quotient, const big **rest) {
    big *q, *m;
    if (order_size(a, b) < 0) {
        q = big_new(r, 0);
        m = widened(r, a);
        if (!q || !m) return false;
    } else if (b->n == 1) {
        q = widened(r, a);
        m = big_new(r, 1);
        if (!q || !m) return false;
        m->limb[0] = divide_small(q, b->limb[0]);
    } else if (!divide(r, a, b, &q, &m)) {
        return false;
    }
    trim(q);
    trim(m);
    q->is_negative = q->n && a->is_negative != b->is_negative;
    m->is_negative = m->n && a->is_negative;
    *quotient = q;
    *rest = m;
    if (!m->n || a->is_negative == b->is_negative) return true;
    const big *one = big_from_int(r, 1);                        /* rounding down, the rest has b's sign */
    return one && (*quotient = big_add(r, q, one, true)) && (*rest = big_add(r, m, b, false));
}

double big_float(const big *b) {
    char text[32 + 64];
    size_t used = 0;                                            /* the 40 leading digits decide the rounding */
    for (size_t i = b->n, k = 0; i-- && k < 5; k++) {
        uint32_t x = b->limb[i];
        for (size_t j = 9; j--; x /= 10) text[used + j] = (char)('0' + x % 10);
        used += 9;
    }
    const size_t skipped = b->n > 5 ? b->n - 5 : 0;
    text[used++] = 'e';
    char digits[24];
    size_t n = 0, e = skipped * 9;
    do digits[n++] = (char)('0' + e % 10); while (e /= 10);
    while (n) text[used++] = digits[--n];
    text[used] = '\0';
    const double f = b->n ? num_read(text) : 0;
    return b->is_negative ? -f : f;
}

const big *big_from_digits(rt *r, const char *p, size_t n, unsigned base) {
    big *b = big_new(r, n / 5 + 2);                             /* a limb holds at least five digits of base 36 */
    if (!b || !rt_charge(r, n * b->n)) return NULL;
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        uint64_t carry = (uint64_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        for (size_t k = 0; k < b->n; k++) {
            const uint64_t t = (uint64_t)b->limb[k] * base + carry;
            b->limb[k] = (uint32_t)(t % LIMB);
            carry = t / LIMB;
        }
    }
    return trim(b);
}

const big *big_from_float(rt *r, double f) {
    char text[400];
    num_write(text, sizeof text, fabs(trunc(f)), 0, 'f');
    big *b = (big *)(uintptr_t)big_from_digits(r, text, strlen(text), 10);
    if (b) b->is_negative = b->n && f < 0;
    return b;
}

bool big_repr(rt *r, const big *b, ern_buf *out) {
    if (b->n * 9 > TEMPLATE_MAX_DIGITS + 9)
        return rt_fail(r, FAULT_VALUE, "Exceeds the limit (%d digits) for integer string conversion", TEMPLATE_MAX_DIGITS);
    if (b->is_negative && !buf_char(out, '-', r->e)) return false;
    if (!b->n) return buf_char(out, '0', r->e);
    for (size_t i = b->n; i--;)
        if (!buf_printf(out, r->e, i == b->n - 1 ? "%u" : "%09u", (unsigned)b->limb[i])) return false;
    return true;
}

bool big_is_negative(const big *b) { return b->is_negative; }
