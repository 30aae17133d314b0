/* The tojson filter as transformers replaces it: json.dumps with ensure_ascii, indent, separators, sort_keys. */
#include <math.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_int.h"

typedef struct {
    rt *r;
    ern_buf b;
    bool is_ascii, sorts;
    const str *indent;          /* NULL: one line */
    const str *comma, *colon;
    size_t depth;
    bool is_told;               /* the fault is set already */
} writer;

static bool tell(writer *w, bool ok) {
    w->is_told = w->is_told || !ok;
    return ok;
}

static bool put(writer *w, const char *p, size_t n) { return buf_add(&w->b, p, n, NULL); }

static bool put_str(writer *w, const str *s) {
    static const char hex[] = "0123456789abcdef", from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    if (!tell(w, rt_charge(w->r, s->n)) || !put(w, "\"", 1)) return false;
    for (size_t i = 0; i < s->n;) {
        int32_t c;
        const size_t used = utf8_decode(s->p + i, s->n - i, &c);
        const char *at = c < 128 && c > 0 ? strchr(from, (int)c) : NULL;
        bool ok;
        if (at) {
            const char escape[2] = { '\\', to[at - from] };
            ok = put(w, escape, 2);
        } else if (c < 0x20 || (w->is_ascii && c > 0x7E)) {
            uint32_t units[2] = { (uint32_t)c, 0 };
            const size_t n = c > 0xFFFF ? 2 : 1;
            if (n == 2) {
                units[0] = 0xD800 + (((uint32_t)c - 0x10000) >> 10);
                units[1] = 0xDC00 + (((uint32_t)c - 0x10000) & 0x3FF);
            }
            ok = true;
            for (size_t k = 0; ok && k < n; k++) {
                const uint32_t u = units[k];
                const char text[6] = { '\\', 'u', hex[u >> 12 & 15], hex[u >> 8 & 15], hex[u >> 4 & 15], hex[u & 15] };
                ok = put(w, text, 6);
            }
        } else {
            ok = put(w, s->p + i, used);
        }
        if (!ok) return false;
        i += used;
    }
    return put(w, "\"", 1);
}

static bool put_number(writer *w, val v) {
    if (v.kind == V_FLOAT && isnan(v.f)) return put(w, "NaN", 3);
    if (v.kind == V_FLOAT && isinf(v.f)) return v.f < 0 ? put(w, "-Infinity", 9) : put(w, "Infinity", 8);
    return tell(w, num_repr(w->r, v, &w->b));
}

static bool put_break(writer *w) {
    if (!w->indent) return true;
    if (!put(w, "\n", 1)) return false;
    for (size_t i = 0; i < w->depth; i++)
        if (!put(w, w->indent->p, w->indent->n)) return false;
    return true;
}

static bool put_any(writer *w, val v);

static bool put_key(writer *w, val key) {
    if (key.kind == V_STR) return put_str(w, key.s);
    if (key.kind != V_NONE && !num_is(key))
        return tell(w, rt_fail(w->r, FAULT_TYPE, "keys must be str, int, float, bool or None, not %s", val_type(key)));
    return put(w, "\"", 1) && put_any(w, key) && put(w, "\"", 1);
}

static bool sort_items(writer *w, dict_item *item, size_t n);

static bool put_dict(writer *w, const dict *d) {
    dict_item *item = d->item;
    if (!d->n) return put(w, "{}", 2);
    if (w->sorts) {
        if (!(item = rt_take(w->r, d->n, sizeof *item))) return tell(w, false);
        memcpy(item, d->item, d->n * sizeof *item);
        if (!tell(w, sort_items(w, item, d->n))) return false;
    }
    w->depth++;
    if (!put(w, "{", 1)) return false;
    for (size_t i = 0; i < d->n; i++) {
        if ((i && !put(w, w->comma->p, w->comma->n)) || !put_break(w) || !put_key(w, item[i].key)) return false;
        if (!put(w, w->colon->p, w->colon->n) || !put_any(w, item[i].value)) return false;
    }
    w->depth--;
    return put_break(w) && put(w, "}", 1);
}

static bool put_list(writer *w, const list *l) {
    if (!l->n) return put(w, "[]", 2);
    w->depth++;
    if (!put(w, "[", 1)) return false;
    for (size_t i = 0; i < l->n; i++)
        if ((i && !put(w, w->comma->p, w->comma->n)) || !put_break(w) || !put_any(w, l->v[i])) return false;
    w->depth--;
    return put_break(w) && put(w, "]", 1);
}

static bool put_any(writer *w, val v) {
    if (w->depth > TEMPLATE_MAX_NESTING * 2) return tell(w, rt_fail(w->r, FAULT_RECURSION, "JSON nested too deep"));
    if (!tell(w, rt_charge(w->r, 0))) return false;
    switch (v.kind) {
    case V_NONE: return put(w, "null", 4);
    case V_BOOL: return v.b ? put(w, "true", 4) : put(w, "false", 5);
    case V_INT: case V_BIG: case V_FLOAT: return put_number(w, v);
    case V_STR: return put_str(w, v.s);
    case V_LIST: case V_TUPLE: return put_list(w, v.l);
    case V_DICT: return put_dict(w, v.d);
    default: return tell(w, rt_fail(w->r, FAULT_TYPE, "Object of type %s is not JSON serializable", val_type(v)));
    }
}

/* By key, as Python compares them; a merge sort, since a comparison can fail. */
static bool sort_items(writer *w, dict_item *item, size_t n) {
    if (n < 2) return true;
    const size_t half = n / 2;
    if (!sort_items(w, item, half) || !sort_items(w, item + half, n - half)) return false;
    dict_item *all = rt_take(w->r, n, sizeof *all);
    if (!all) return false;
    for (size_t i = 0, a = 0, b = half; i < n; i++) {
        bool right = a == half;
        if (a < half && b < n && !val_order(w->r, item[b].key, item[a].key, OP_LT, &right)) return false;
        if (a < half && b >= n) right = false;
        all[i] = item[right ? b++ : a++];
    }
    memcpy(item, all, n * sizeof *item);
    return true;
}

static bool take_indent(writer *w, val v) {
    if (v.kind == V_MISSING || v.kind == V_NONE) return true;
    if (v.kind == V_STR) {
        w->indent = v.s;
        return true;
    }
    if (!is_int(v)) return rt_fail(w->r, FAULT_TYPE, "tojson: indent must be a number or text, not %s", val_type(v));
    const int64_t n = as_int(v) < 0 ? 0 : as_int(v);
    if (n > 1000) return rt_fail(w->r, FAULT_LIMIT, "tojson: an indent of %lld passes 1000", (long long)n);
    char *spaces = rt_take(w->r, (size_t)n, 1);
    if (!spaces) return false;
    memset(spaces, ' ', (size_t)n);
    return (w->indent = str_view(w->r, spaces, (size_t)n, NULL)) != NULL;
}

static bool take_separators(writer *w, val v) {
    list two = { 0 };
    if (v.kind == V_MISSING || v.kind == V_NONE) {
        w->comma = str_lit(w->r, w->indent ? "," : ", ");
        w->colon = str_lit(w->r, ": ");
        return w->comma && w->colon;
    }
    if (!val_is_iterable(v)) return rt_fail(w->r, FAULT_TYPE, "cannot unpack non-iterable %s object", val_type(v));
    if (!val_to_list(w->r, v, &two)) return false;
    if (two.n != 2) return rt_fail(w->r, FAULT_VALUE, "tojson: separators must be two texts, found %zu", two.n);
    return arg_str(w->r, two.v[0], "an item separator", &w->comma) && arg_str(w->r, two.v[1], "a key separator", &w->colon);
}

bool json_write(rt *r, val v, const call_args *args, val *out) {
    val slot[MAX_PARAMS];
    if (!bind_args(r, "tojson", "| ensure_ascii indent separators sort_keys", args, slot)) return false;
    writer w = { .r = r, .b = { .max = r->max_bytes } };
    w.is_ascii = slot[0].kind != V_MISSING && val_truth(slot[0]);
    w.sorts = slot[3].kind != V_MISSING && val_truth(slot[3]);
    if (!take_indent(&w, slot[1]) || !take_separators(&w, slot[2])) return false;
    const bool ok = put_any(&w, v);
    if (!ok && !w.is_told) rt_fail(r, FAULT_LIMIT, "JSON passes %zu bytes, or memory ends", r->max_bytes);
    *out = val_str(str_buf(r, &w.b, ok));
    return out->s != NULL;
}
