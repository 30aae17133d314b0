/* Keys and values of a GGUF file.
 * SIZE  MEANING
 * 8+n   key: length and bytes
 * 4     type of the value (enum gguf_type)
 * -     value: a number; a string (8-byte length, bytes); an array (4-byte element type, 8-byte count, elements) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "formats/gguf.h"
#include "formats/gguf_int.h"

/* Bytes of a number of each type; 0: not a number. */
static const uint8_t type_bytes[GGUF_TYPES] = {
    [GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4,
    [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static bool raw_text(ern_cursor *c, size_t max, const char *what, const uint8_t **p, size_t *n, ern_err *e) {
    const size_t at = c->pos;
    uint64_t claimed;
    if (!cursor_u64(c, &claimed, e)) return false;
    if (claimed > c->size - c->pos)
        return ern_fail(e, ERN_FORMAT, "%s: %s at byte %zu: %llu bytes, the file has %zu left", c->name, what, at,
                        (unsigned long long)claimed, c->size - c->pos);
    if (claimed > max)
        return ern_fail(e, ERN_LIMIT, "%s: %s at byte %zu: %llu bytes, at most %zu wanted", c->name, what, at,
                        (unsigned long long)claimed, max);
    *n = (size_t)claimed;
    if (!cursor_bytes(c, *n, p, e)) return false;
    return !memchr(*p, 0, *n) || ern_fail(e, ERN_FORMAT, "%s: %s at byte %zu: holds a zero byte", c->name, what, at);
}

static const char *keep(gguf_arena *a, const uint8_t *p, size_t n) {
    char *copy = NULL;
    if (a->text) {
        copy = a->text + a->text_n;
        memcpy(copy, p, n);
        copy[n] = '\0';
    }
    a->text_n += n + 1;
    return copy;
}

static bool read_text(ern_cursor *c, gguf_arena *a, const char *what, const char **out, ern_err *e) {
    const uint8_t *p = NULL;
    size_t n = 0;
    if (!raw_text(c, SIZE_MAX, what, &p, &n, e)) return false;
    *out = keep(a, p, n);
    return true;
}

bool gguf_name(ern_cursor *c, gguf_arena *a, size_t max, const char *what, const char **out, ern_err *e) {
    const size_t at = c->pos;
    const uint8_t *p = NULL;
    size_t n = 0;
    if (!raw_text(c, max, what, &p, &n, e)) return false;
    if (n == 0 || !utf8_valid((const char *)p, n, NULL))
        return ern_fail(e, ERN_FORMAT, "%s: %s at byte %zu: a name in UTF-8 wanted", c->name, what, at);
    *out = keep(a, p, n);
    if (!*out) {
        const size_t shown = n < sizeof a->shown ? n : sizeof a->shown - 1;
        memcpy(a->shown, p, shown);
        a->shown[shown] = '\0';
        *out = a->shown;
    }
    return true;
}

static bool read_type(ern_cursor *c, uint32_t *out, const char *key, ern_err *e) {
    if (!cursor_u32(c, out, e)) return false;
    return *out < GGUF_TYPES || ern_fail(e, ERN_FORMAT, "%s: key %s at byte %zu: value type %u, 0 to %d wanted", c->name,
                                         key, c->pos - 4, *out, GGUF_TYPES - 1);
}

static bool read_count(ern_cursor *c, size_t *out, size_t min_bytes, const char *key, ern_err *e) {
    uint64_t n;
    if (!cursor_u64(c, &n, e)) return false;
    if (n > (c->size - c->pos) / min_bytes)
        return ern_fail(e, ERN_FORMAT, "%s: key %s at byte %zu: an array of %llu, the file has %zu bytes left", c->name, key,
                        c->pos - 8, (unsigned long long)n, c->size - c->pos);
    *out = (size_t)n;
    return true;
}

/* An array inside an array: walked for its end, not kept. */
static bool skip_array(ern_cursor *c, unsigned depth, const char *key, ern_err *e) {
    uint32_t elem;
    size_t n = 0;
    const uint8_t *p;
    if (depth > GGUF_MAX_NESTED)
        return ern_fail(e, ERN_LIMIT, "%s: key %s: arrays %u deep, at most %d", c->name, key, depth, GGUF_MAX_NESTED);
    if (!read_type(c, &elem, key, e)) return false;
    if (type_bytes[elem]) return read_count(c, &n, type_bytes[elem], key, e) && cursor_bytes(c, n * type_bytes[elem], &p, e);
    if (!read_count(c, &n, 8, key, e)) return false;
    for (size_t i = 0; i < n; i++) {
        gguf_arena none = { 0 };
        const char *text;
        if (elem == GGUF_ARRAY ? !skip_array(c, depth + 1, key, e) : !read_text(c, &none, key, &text, e)) return false;
    }
    return true;
}

static bool read_array(gguf_kv *kv, ern_cursor *c, gguf_arena *a, ern_err *e) {
    if (!read_type(c, &kv->elem, kv->key, e)) return false;
    if (type_bytes[kv->elem])
        return read_count(c, &kv->n, type_bytes[kv->elem], kv->key, e) &&
               cursor_bytes(c, kv->n * type_bytes[kv->elem], &kv->data, e);
    if (!read_count(c, &kv->n, 8, kv->key, e)) return false;
    const char **list = a->lists ? a->lists + a->lists_n : NULL;
    if (kv->elem == GGUF_STR) {
        kv->list = list;
        a->lists_n += kv->n;
    }
    for (size_t i = 0; i < kv->n; i++) {
        const char *text;
        if (kv->elem == GGUF_ARRAY) {
            if (!skip_array(c, 2, kv->key, e)) return false;
        } else {
            if (!read_text(c, a, kv->key, &text, e)) return false;
            if (list) list[i] = text;
        }
    }
    return true;
}

static bool read_value(gguf_kv *kv, ern_cursor *c, gguf_arena *a, ern_err *e) {
    if (kv->type == GGUF_STR) return read_text(c, a, kv->key, &kv->str, e);
    if (kv->type == GGUF_ARRAY) return read_array(kv, c, a, e);
    if (!cursor_bytes(c, type_bytes[kv->type], &kv->data, e)) return false;
    if (kv->type == GGUF_BOOL && *kv->data > 1)
        return ern_fail(e, ERN_FORMAT, "%s: key %s at byte %zu: truth value %u, 0 or 1 wanted", c->name, kv->key, c->pos - 1,
                        *kv->data);
    return true;
}

static bool read_kv(gguf_kv *kv, ern_cursor *c, gguf_arena *a, ern_err *e) {
    if (!gguf_name(c, a, GGUF_MAX_KEY, "key", &kv->key, e) || !read_type(c, &kv->type, kv->key, e)) return false;
    const size_t at = c->pos;
    if (!read_value(kv, c, a, e)) return false;
    kv->raw = c->data + at;
    kv->raw_n = c->pos - at;
    return true;
}

bool gguf_meta_read(gguf_meta *m, ern_cursor *c, gguf_arena *a, size_t n, ern_err *e) {
    for (size_t i = 0; i < n; i++) {
        gguf_kv kv = { 0 };
        if (!read_kv(&kv, c, a, e)) return false;
        if (!m->kv) continue;
        m->kv[i] = kv;
        m->n = i + 1;
        if (!names_add(&m->names, kv.key, i, e)) return false;
    }
    const char *twice = names_sort(&m->names);
    return !twice || ern_fail(e, ERN_FORMAT, "%s: key %s comes twice", c->name, twice);
}

void gguf_meta_deinit(gguf_meta *m) {
    names_deinit(&m->names);
    free(m->kv);
    *m = (gguf_meta){ 0 };
}

const gguf_kv *gguf_meta_find(const gguf_meta *m, const char *key) {
    size_t i;
    return names_find(&m->names, key, &i) ? &m->kv[i] : NULL;
}

static uint64_t bits_at(const uint8_t *p, unsigned n) {
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* A whole number of type t at p; *is_big: it is above INT64_MAX and *out holds its bits. */
static bool integer_at(uint32_t t, const uint8_t *p, int64_t *out, bool *is_big) {
    const uint64_t v = bits_at(p, type_bytes[t]);
    *is_big = false;
    switch (t) {
    case GGUF_U8: case GGUF_U16: case GGUF_U32: *out = (int64_t)v; return true;
    case GGUF_U64: *out = (int64_t)v; *is_big = v > INT64_MAX; return true;
    case GGUF_I8: *out = (int8_t)v; return true;
    case GGUF_I16: *out = (int16_t)v; return true;
    case GGUF_I32: *out = (int32_t)v; return true;
    case GGUF_I64: *out = (int64_t)v; return true;
    default: return false;
    }
}

static bool real_at(uint32_t t, const uint8_t *p, double *out) {
    int64_t i;
    bool is_big;
    if (t == GGUF_F32) {
        const uint32_t bits = (uint32_t)bits_at(p, 4);
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
    } else if (t == GGUF_F64) {
        const uint64_t bits = bits_at(p, 8);
        memcpy(out, &bits, sizeof *out);
    } else {
        if (!integer_at(t, p, &i, &is_big)) return false;
        *out = is_big ? (double)(uint64_t)i : (double)i;
    }
    return true;
}

bool gguf_meta_u64(const gguf_meta *m, const char *key, uint64_t *out) {
    const gguf_kv *kv = gguf_meta_find(m, key);
    int64_t v;
    bool is_big;
    if (!kv || !type_bytes[kv->type] || !integer_at(kv->type, kv->data, &v, &is_big) || (v < 0 && !is_big)) return false;
    *out = (uint64_t)v;
    return true;
}

static const gguf_kv *scalar(const ern_gguf *g, const char *key) {
    const gguf_kv *kv = gguf_meta_find(gguf_metadata(g), key);
    return kv && type_bytes[kv->type] ? kv : NULL;
}

bool gguf_u64(const ern_gguf *g, const char *key, uint64_t *out) { return gguf_meta_u64(gguf_metadata(g), key, out); }

bool gguf_i64(const ern_gguf *g, const char *key, int64_t *out) {
    const gguf_kv *kv = scalar(g, key);
    int64_t v;
    bool is_big;
    if (!kv || !integer_at(kv->type, kv->data, &v, &is_big) || is_big) return false;
    *out = v;
    return true;
}

bool gguf_f64(const ern_gguf *g, const char *key, double *out) {
    const gguf_kv *kv = scalar(g, key);
    return kv && real_at(kv->type, kv->data, out);
}

bool gguf_bool(const ern_gguf *g, const char *key, bool *out) {
    const gguf_kv *kv = scalar(g, key);
    if (!kv || kv->type != GGUF_BOOL) return false;
    *out = *kv->data != 0;
    return true;
}

const char *gguf_str(const ern_gguf *g, const char *key) {
    const gguf_kv *kv = gguf_meta_find(gguf_metadata(g), key);
    return kv ? kv->str : NULL;
}

size_t gguf_array_n(const ern_gguf *g, const char *key) {
    const gguf_kv *kv = gguf_meta_find(gguf_metadata(g), key);
    return kv ? kv->n : 0;
}

const char *const *gguf_array_str(const ern_gguf *g, const char *key) {
    const gguf_kv *kv = gguf_meta_find(gguf_metadata(g), key);
    return kv ? kv->list : NULL;
}

static const gguf_kv *number_array(const ern_gguf *g, const char *key) {
    const gguf_kv *kv = gguf_meta_find(gguf_metadata(g), key);
    return kv && kv->type == GGUF_ARRAY && type_bytes[kv->elem] ? kv : NULL;
}

bool gguf_array_i32(const ern_gguf *g, const char *key, int32_t *out) {
    const gguf_kv *kv = number_array(g, key);
    int64_t v;
    bool is_big;
    if (!kv) return false;
    const size_t size = type_bytes[kv->elem];
    for (size_t i = 0; i < kv->n; i++)          /* all are tested before any is given */
        if (!integer_at(kv->elem, kv->data + i * size, &v, &is_big) || is_big || v < INT32_MIN || v > INT32_MAX)
            return false;
    for (size_t i = 0; i < kv->n; i++) {
        integer_at(kv->elem, kv->data + i * size, &v, &is_big);
        out[i] = (int32_t)v;
    }
    return true;
}

bool gguf_array_f32(const ern_gguf *g, const char *key, float *out) {
    const gguf_kv *kv = number_array(g, key);
    double v;
    if (!kv || kv->elem == GGUF_BOOL) return false;
    for (size_t i = 0; i < kv->n; i++) {
        if (!real_at(kv->elem, kv->data + i * type_bytes[kv->elem], &v)) return false;
        out[i] = (float)v;
    }
    return true;
}

size_t gguf_n_keys(const ern_gguf *g) { return gguf_metadata(g)->n; }

const char *gguf_key(const ern_gguf *g, size_t i) { return gguf_metadata(g)->kv[i].key; }

static void number_text(uint32_t t, const uint8_t *p, char *buf, size_t n) {
    int64_t v;
    double real;
    bool is_big;
    if (t == GGUF_BOOL) snprintf(buf, n, "%s", *p ? "true" : "false");
    else if (integer_at(t, p, &v, &is_big) && is_big) snprintf(buf, n, "%llu", (unsigned long long)v);
    else if (integer_at(t, p, &v, &is_big)) snprintf(buf, n, "%lld", (long long)v);
    else if (real_at(t, p, &real)) snprintf(buf, n, "%.9g", real);
}

#define SHORT_ARRAY 8           /* longer ones are described, not listed */
#define SHORT_TEXT 72           /* bytes of a string that are shown */

static void array_text(const gguf_kv *kv, char *buf, size_t n) {
    static const char *const kinds[] = { [GGUF_STR] = "strings", [GGUF_ARRAY] = "arrays" };
    if (!type_bytes[kv->elem] || kv->n > SHORT_ARRAY) {
        const char *kind = !type_bytes[kv->elem] ? kinds[kv->elem] : kv->elem == GGUF_BOOL ? "truth values" : "numbers";
        snprintf(buf, n, "[%zu %s]", kv->n, kind);
        return;
    }
    size_t at = 0;
    for (size_t i = 0; i < kv->n; i++) {
        char one[32];
        number_text(kv->elem, kv->data + i * type_bytes[kv->elem], one, sizeof one);
        const int used = snprintf(buf + at, n - at, "%s%s", i ? ", " : "[", one);
        if (used < 0 || (size_t)used >= n - at) return;
        at += (size_t)used;
    }
    snprintf(buf + at, n - at, kv->n ? "]" : "[]");
}

static void string_text(const char *s, char *buf, size_t n) {
    const size_t len = strlen(s);
    size_t shown = len <= SHORT_TEXT ? len : SHORT_TEXT;
    shown -= shown < len ? utf8_tail(s, shown) : 0;
    snprintf(buf, n, "%.*s%s", (int)shown, s, shown < len ? "..." : "");
    for (char *p = buf; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = ' ';
}

void gguf_value_text(const ern_gguf *g, size_t i, char *buf, size_t n) {
    const gguf_kv *kv = &gguf_metadata(g)->kv[i];
    if (n == 0) return;
    buf[0] = '\0';
    if (kv->type == GGUF_STR) string_text(kv->str, buf, n);
    else if (kv->type == GGUF_ARRAY) array_text(kv, buf, n);
    else number_text(kv->type, kv->data, buf, n);
}
