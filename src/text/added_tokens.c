/* Added tokens: cut out of the text before the model sees it, leftmost and longest first. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

static int by_text(const void *a, const void *b) {
    const tok_added *x = *(const tok_added *const *)a, *y = *(const tok_added *const *)b;
    const int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

bool matcher_build(tok_matcher *m, const tok_added *added, size_t n, enum tok_level level, bool is_normalized, ern_err *e) {
    *m = (tok_matcher){ 0 };
    if (!(m->sorted = mem_zalloc(n, sizeof *m->sorted, "added tokens", e))) return false;
    for (size_t i = 0; i < n; i++)
        if (added[i].n && added[i].level <= level && added[i].is_normalized == is_normalized)
            m->sorted[m->n++] = &added[i];
    qsort(m->sorted, m->n, sizeof *m->sorted, by_text);
    size_t i = 0;
    for (size_t b = 0; b < 256; b++) {
        m->first[b] = (uint32_t)i;
        while (i < m->n && (uint8_t)m->sorted[i]->text[0] == b) i++;
    }
    m->first[256] = (uint32_t)i;
    return true;
}

void matcher_deinit(tok_matcher *m) {
    free(m->sorted);
    *m = (tok_matcher){ 0 };
}

/* The first of sorted[low..high), all equal in their first k bytes, whose byte k is at least b. */
static size_t lower(const tok_matcher *m, size_t low, size_t high, size_t k, int b) {
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const tok_added *a = m->sorted[middle];
        if (a->n <= k || (uint8_t)a->text[k] < b) low = middle + 1;
        else high = middle;
    }
    return low;
}

const tok_added *matcher_at(const tok_matcher *m, const char *s, size_t n) {
    if (!n || !m->n) return NULL;
    const uint8_t first = (uint8_t)s[0];
    size_t low = m->first[first], high = m->first[first + 1];
    const tok_added *best = NULL;
    for (size_t k = 1; low < high; k++) {
        if (m->sorted[low]->n == k) best = m->sorted[low++];
        while (low < high && m->sorted[low]->n == k) low++;         /* the same text again */
        if (k >= n) break;
        low = lower(m, low, high, k, (uint8_t)s[k]);
        high = lower(m, low, high, k, (uint8_t)s[k] + 1);
    }
    return best;
}

static size_t space_after(const char *s, size_t n, size_t at) {
    while (at < n) {
        int32_t cp;
        const size_t used = utf8_decode(s + at, n - at, &cp);
        if (cp < 0 || !uni_is_space(cp)) break;
        at += used;
    }
    return at;
}

static size_t char_before(const char *s, size_t from, size_t at, int32_t *cp) {
    size_t k = at;
    *cp = -1;
    while (k > from && at - k < 4) {
        k--;
        if (((uint8_t)s[k] & 0xC0) != 0x80) break;
    }
    if (k < at) utf8_decode(s + k, at - k, cp);
    return k;
}

static size_t space_before(const char *s, size_t from, size_t at) {
    while (at > from) {
        int32_t cp;
        const size_t k = char_before(s, from, at, &cp);
        if (cp < 0 || !uni_is_space(cp)) break;
        at = k;
    }
    return at;
}

static bool stands_alone(const char *s, size_t n, size_t a, size_t b) {
    int32_t cp;
    if (a > 0) {
        char_before(s, 0, a, &cp);
        if (cp >= 0 && uni_is_word(cp)) return false;
    }
    if (b < n) {
        utf8_decode(s + b, n - b, &cp);
        if (cp >= 0 && uni_is_word(cp)) return false;
    }
    return true;
}

const tok_added *matcher_next(const tok_matcher *m, const char *s, size_t n, size_t from, size_t *a, size_t *b) {
    if (!m->n) return NULL;
    for (size_t i = from; i < n; i++) {
        const uint8_t first = (uint8_t)s[i];
        if (m->first[first] == m->first[first + 1]) continue;
        const tok_added *hit = matcher_at(m, s + i, n - i);
        if (!hit) continue;
        if (hit->is_single_word && !stands_alone(s, n, i, i + hit->n)) {
            i += hit->n - 1;
            continue;
        }
        *a = hit->eats_left ? space_before(s, from, i) : i;
        *b = hit->eats_right ? space_after(s, n, i + hit->n) : i + hit->n;
        return hit;
    }
    return NULL;
}
