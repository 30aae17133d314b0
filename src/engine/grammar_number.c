/* Decimal numbers between bounds, digit by digit. A number is compared as its whole part and its decimals; neither has
 * an exponent. Letters: low and high are digit strings, "tight" means the digits so far equal those of the bound. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/grammar_schema.h"

#define ALT(g, ...) grammar_alt(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))
#define SEQ(g, ...) grammar_seq(g, (const g_node[]){ __VA_ARGS__ }, sizeof((const g_node[]){ __VA_ARGS__ }) / sizeof(g_node))
#define MAX_DIGITS 340          /* the largest double has 309 digits before the point */
#define MAX_WHOLE 1e15          /* bounds of whole numbers stay exact in a double */

static g_node digits(ern_grammar *g, uint32_t least, uint32_t most) { return grammar_repeat(g,
        grammar_range(g, '0', '9'), least, most); }
static g_node digit_range(ern_grammar *g, char a, char b) { return grammar_range(g, (uint8_t)a, (uint8_t)b); }

/* Digit strings of exactly n digits between low and high (NULL: no bound on that side), both of n digits. */
static g_node same_length(ern_grammar *g, const char *low, const char *high, size_t n) {
    g_node parts[3];
    size_t n_parts = 0;
    if (n == 0) return grammar_empty(g);
    if (!low && !high) return digits(g, (uint32_t)n, (uint32_t)n);
    const char a = low ? low[0] : '0', b = high ? high[0] : '9';
    if (low && high && a == b) return SEQ(g, digit_range(g, a, a), same_length(g, low + 1, high + 1, n - 1));
    char from = a, to = b;
    if (low) { parts[n_parts++] = SEQ(g, digit_range(g, a, a), same_length(g, low + 1, NULL, n - 1)); from++; }
    if (high) { parts[n_parts++] = SEQ(g, digit_range(g, b, b), same_length(g, NULL, high + 1, n - 1)); to--; }
    if (from <= to) parts[n_parts++] = SEQ(g, digit_range(g, from, to), digits(g, (uint32_t)n - 1, (uint32_t)n - 1));
    return grammar_alt(g, parts, n_parts);
}

/* Whole numbers low <= x (<= high unless it is infinite), 0 <= low. */
static g_node whole_between(ern_grammar *g, double low, double high) {
    char a[MAX_DIGITS], b[MAX_DIGITS];
    g_node parts[MAX_DIGITS];
    size_t n_parts = 0;
    snprintf(a, sizeof a, "%.0f", low);
    const size_t na = strlen(a);
    if (isinf(high)) {
        parts[n_parts++] = same_length(g, a, NULL, na);
        parts[n_parts++] = SEQ(g, grammar_range(g, '1', '9'), digits(g, (uint32_t)na, GRAMMAR_UNBOUNDED));
        return grammar_alt(g, parts, n_parts);
    }
    snprintf(b, sizeof b, "%.0f", high);
    const size_t nb = strlen(b);
    if (na == nb) return same_length(g, a, b, na);
    parts[n_parts++] = same_length(g, a, NULL, na);
    for (size_t n = na + 1; n < nb; n++)
        parts[n_parts++] = SEQ(g, grammar_range(g, '1', '9'), digits(g, (uint32_t)n - 1, (uint32_t)n - 1));
    char least[MAX_DIGITS];
    memset(least, '0', nb);
    least[0] = '1';
    parts[n_parts++] = same_length(g, least, b, nb);
    return grammar_alt(g, parts, n_parts);
}

static g_node nothing(ern_grammar *g) { return grammar_fail(g, ERN_ARG, 0, 0,
                                                            "JSON Schema: no number lies between the bounds"); }

g_node grammar_integer_between(ern_grammar *g, const number_bounds *b) {
    double low = b->has_low ? ceil(b->low) : -INFINITY, high = b->has_high ? floor(b->high) : INFINITY;
    if (b->has_low && b->low_is_open && low == b->low) low += 1.0;
    if (b->has_high && b->high_is_open && high == b->high) high -= 1.0;
    if (low > high) return nothing(g);
    if ((isfinite(low) && fabs(low) > MAX_WHOLE) || (isfinite(high) && fabs(high) > MAX_WHOLE))
        return grammar_fail(g, ERN_ARG, 0, 0, "JSON Schema: integer bounds beyond 10^15 cannot be decided exactly");
    g_node parts[2];
    size_t n = 0;
    if (high >= 0.0) parts[n++] = whole_between(g, low > 0.0 ? low : 0.0, high);
    if (low < 0.0) parts[n++] = SEQ(g, grammar_text(g, "-"), whole_between(g, high < 0.0 ? -high : 1.0, -low));
    return grammar_alt(g, parts, n);
}

/* ---- decimals ------------------------------------------------------------------------------------- */

/* A bound's decimals, without trailing zeros; open: equality is not enough. */
typedef struct { const char *d; size_t n; bool is_open; } decimals;

/* What may follow after i decimals that equal those of the tight bounds, so that low <= 0.d <= high. NULL: not tight. */
static g_node decimals_after(ern_grammar *g, const decimals *low, const decimals *high, size_t i) {
    g_node parts[5];
    size_t n = 0;
    const uint32_t least = i == 0 ? 1 : 0;              /* "." needs a digit after it */
    if (!low && !high) return digits(g, least, GRAMMAR_UNBOUNDED);
    const char a = low ? (i < low->n ? low->d[i] : '0') : '0', b = high ? (i < high->n ? high->d[i] : '0') : '9';
    const bool low_is_met = !low || (i >= low->n && !low->is_open);
    const bool high_is_met = !high || i < high->n || !high->is_open;
    if (low_is_met && high_is_met && i > 0) parts[n++] = grammar_empty(g);
    const bool low_is_over = low && i >= low->n, high_is_over = high && i >= high->n;
    if (low_is_over && !low->is_open && !high) return digits(g, least, GRAMMAR_UNBOUNDED);
    if (high_is_over && (!low || low_is_over)) {        /* only zeros keep equal to high */
        if (!high->is_open && !(low && low->is_open))
            parts[n++] = grammar_repeat(g, grammar_text(g, "0"), 1, GRAMMAR_UNBOUNDED);
        return n ? grammar_alt(g, parts, n) : 0;
    }
    if (low_is_over && low->is_open && !high) {         /* zeros, then a digit that is none */
        parts[n++] = SEQ(g, grammar_repeat(g, grammar_text(g, "0"), 0, GRAMMAR_UNBOUNDED), grammar_range(g, '1', '9'),
                         digits(g, 0, GRAMMAR_UNBOUNDED));
        return grammar_alt(g, parts, n);
    }
    if (a == b) {
        const g_node rest = decimals_after(g, low, high, i + 1);
        if (rest) parts[n++] = SEQ(g, digit_range(g, a, a), rest);
    } else if (a < b) {
        char from = a, to = b;
        if (low) {
            const g_node rest = decimals_after(g, low, NULL, i + 1);
            if (rest) parts[n++] = SEQ(g, digit_range(g, a, a), rest);
            from++;
        }
        if (high) {
            const g_node rest = decimals_after(g, NULL, high, i + 1);
            if (rest) parts[n++] = SEQ(g, digit_range(g, b, b), rest);
            to--;
        }
        if (from <= to) parts[n++] = SEQ(g, digit_range(g, from, to), digits(g, 0, GRAMMAR_UNBOUNDED));
    }
    return n ? grammar_alt(g, parts, n) : 0;
}

/* The optional ".ddd" after a whole part that equals low's or high's (NULL: not). 0: nothing can follow or end. */
static g_node fraction(ern_grammar *g, const decimals *low, const decimals *high) {
    const bool may_end = (!low || (low->n == 0 && !low->is_open)) && (!high || high->n > 0 || !high->is_open);
    if (!low && !high) return grammar_repeat(g, SEQ(g, grammar_text(g, "."), digits(g, 1, GRAMMAR_UNBOUNDED)), 0, 1);
    const g_node rest = decimals_after(g, low, high, 0);
    if (!rest) return may_end ? grammar_empty(g) : 0;
    const g_node dotted = SEQ(g, grammar_text(g, "."), rest);
    return may_end ? ALT(g, grammar_empty(g), dotted) : dotted;
}

static bool split(double x, char *whole, char *tail, decimals *d) {
    char text[MAX_DIGITS + 24];
    for (int places = 0; places <= 20; places++) {      /* the shortest decimal that is this double */
        snprintf(text, sizeof text, "%.*f", places, x);
        if (strtod(text, NULL) == x) break;
        if (places == 20) return false;
    }
    const char *dot = strchr(text, '.');
    const size_t n = dot ? (size_t)(dot - text) : strlen(text);
    if (n >= MAX_DIGITS) return false;
    memcpy(whole, text, n);
    whole[n] = '\0';
    snprintf(tail, 24, "%s", dot ? dot + 1 : "");
    d->d = tail;
    d->n = strlen(tail);
    while (d->n && tail[d->n - 1] == '0') d->n--;
    return true;
}

/* 0 <= low <= x <= high; high may be infinite. 0 (not failed): empty. */
static g_node positive_between(ern_grammar *g, double low, bool low_is_open, double high, bool high_is_open) {
    char a[MAX_DIGITS], b[MAX_DIGITS], at[24], bt[24];
    decimals dl = { .is_open = low_is_open }, dh = { .is_open = high_is_open };
    g_node parts[3], tail;
    size_t n = 0;
    if (!split(low, a, at, &dl) || (isfinite(high) && !split(high, b, bt, &dh)) || low > MAX_WHOLE ||
        (isfinite(high) && high > MAX_WHOLE))
        return grammar_fail(g, ERN_ARG, 0, 0,
                            "JSON Schema: number bounds beyond 10^15 or with over 20 decimals cannot be decided exactly");
    const double from = floor(low), to = isfinite(high) ? floor(high) : INFINITY;
    if (from == to) {
        tail = fraction(g, &dl, &dh);
        return tail ? SEQ(g, grammar_text(g, a), tail) : 0;
    }
    if ((tail = fraction(g, &dl, NULL))) parts[n++] = SEQ(g, grammar_text(g, a), tail);
    if (to - from > 1.0)
        parts[n++] = SEQ(g, whole_between(g, from + 1.0, isfinite(to) ? to - 1.0 : INFINITY), fraction(g, NULL, NULL));
    if (isfinite(to) && (tail = fraction(g, NULL, &dh))) parts[n++] = SEQ(g, grammar_text(g, b), tail);
    return n ? grammar_alt(g, parts, n) : 0;
}

g_node grammar_number_between(ern_grammar *g, const number_bounds *b) {
    const double low = b->has_low ? b->low : -INFINITY, high = b->has_high ? b->high : INFINITY;
    g_node parts[2], node;
    size_t n = 0;
    if (low > high || (low == high && (b->low_is_open || b->high_is_open))) return nothing(g);
    if (high >= 0.0) {
        const bool is_open = low >= 0.0 && b->low_is_open;
        if ((node = positive_between(g, low > 0.0 ? low : 0.0, is_open, high, b->high_is_open))) parts[n++] = node;
    }
    if (low < 0.0) {                                    /* "-0" is left out: 0 stands among the others */
        const double from = high < 0.0 ? -high : 0.0;
        const bool is_open = high < 0.0 ? b->high_is_open : true;
        if ((node = positive_between(g, from, is_open, -low, b->low_is_open)))
            parts[n++] = SEQ(g, grammar_text(g, "-"), node);
    }
    return g->is_failed ? 0 : n ? grammar_alt(g, parts, n) : nothing(g);
}

/* ---- multiples ------------------------------------------------------------------------------------- */

/* Rule r says: the digits so far leave remainder r; more digits follow, or r is 0. */
g_node grammar_integer_multiple(ern_grammar *g, uint32_t m) {
    char name[48];
    if (m == 0 || m > 1000)
        return grammar_fail(g, ERN_ARG, 0, 0, "JSON Schema: multipleOf from 1 to 1000 can be decided while writing");
    for (uint32_t r = 0; r < m && !g->is_failed; r++) {
        g_node parts[11];
        size_t n = 0;
        for (uint32_t d = 0; d < 10; d++) {
            snprintf(name, sizeof name, "multiple-%u-%u", m, (r * 10 + d) % m);
            parts[n++] = SEQ(g, grammar_bytes(g, (uint8_t)('0' + d), (uint8_t)('0' + d)),
                             grammar_ref(g, grammar_declare(g, name)));
        }
        if (r == 0) parts[n++] = grammar_empty(g);
        snprintf(name, sizeof name, "multiple-%u-%u", m, r);
        grammar_rule(g, name, grammar_alt(g, parts, n));
    }
    g_node first[10];
    first[0] = grammar_text(g, "0");
    for (uint32_t d = 1; d < 10; d++) {
        snprintf(name, sizeof name, "multiple-%u-%u", m, d % m);
        first[d] = SEQ(g, grammar_bytes(g, (uint8_t)('0' + d), (uint8_t)('0' + d)),
                       grammar_ref(g, grammar_declare(g, name)));
    }
    return SEQ(g, grammar_repeat(g, grammar_text(g, "-"), 0, 1), grammar_alt(g, first, 10));
}

g_node grammar_decimals(ern_grammar *g, uint32_t places) {
    const g_node whole = SEQ(g, grammar_repeat(g, grammar_text(g, "-"), 0, 1),
                             ALT(g, grammar_text(g, "0"),
                                 SEQ(g, grammar_range(g, '1', '9'), digits(g, 0, GRAMMAR_UNBOUNDED))));
    return places ? SEQ(g, whole, grammar_repeat(g, SEQ(g, grammar_text(g, "."), digits(g, 1, places)), 0, 1)) : whole;
}
