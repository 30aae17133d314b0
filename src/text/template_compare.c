/* Equality, order, membership and dictionaries, as Python has them. */
#include <math.h>

#include "text/template_int.h"

static bool eq_dict(rt *r, const dict *a, const dict *b, bool *out) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        val v;
        bool has;
        if (!dict_get(r, b, a->item[i].key, &v, &has)) return false;
        if (!has) *out = false;
        else if (!val_eq(r, a->item[i].value, v, out)) return false;
    }
    return true;
}

static bool eq_items(rt *r, const list *a, const list *b, bool *out) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++)
        if (!val_eq(r, a->v[i], b->v[i], out)) return false;
    return true;
}

static bool eq_range(rt *r, val a, val b, bool *out) {
    size_t n, m;
    bool has;
    if (!val_len(r, a, &has, &n) || !val_len(r, b, &has, &m)) return false;
    *out = n == m && (n == 0 || (a.r->start == b.r->start && (n == 1 || a.r->step == b.r->step)));
    return true;
}

static bool eq_any(rt *r, val a, val b, bool *out) {
    bool is_nan;
    if (num_is(a) && num_is(b)) {
        *out = num_order(a, b, &is_nan) == 0 && !is_nan;
        return true;
    }
    *out = false;
    if (a.kind != b.kind) return true;
    switch (a.kind) {
    case V_UNDEF: case V_NONE: *out = true; return true;
    case V_STR:
        *out = a.s->n == b.s->n && memcmp(a.s->p, b.s->p, a.s->n) == 0;
        return rt_charge(r, *out ? a.s->n : 0);
    case V_LIST: case V_TUPLE: return a.l == b.l ? (*out = true) : eq_items(r, a.l, b.l, out);
    case V_DICT: return a.d == b.d ? (*out = true) : eq_dict(r, a.d, b.d, out);
    case V_RANGE: return eq_range(r, a, b, out);
    case V_VIEW: *out = a.w == b.w; return true;
    case V_METHOD: *out = a.fn->def == b.fn->def && a.fn->self.d == b.fn->self.d; return true;
    default: *out = a.d == b.d; return true;                    /* the same object */
    }
}

bool val_eq(rt *r, val a, val b, bool *out) {
    if (++r->depth > TEMPLATE_MAX_DEPTH)
        return rt_fail(r, FAULT_RECURSION, "maximum recursion depth exceeded in comparison");
    const bool ok = rt_charge(r, 0) && eq_any(r, a, b, out);
    r->depth--;
    return ok;
}

static bool by_op(int order, enum op op) {
    return op == OP_LT ? order < 0 : op == OP_LE ? order <= 0 : op == OP_GT ? order > 0 : order >= 0;
}

bool val_order(rt *r, val a, val b, enum op op, bool *out) {
    bool is_nan = false, same = true;
    if (a.kind == V_UNDEF || b.kind == V_UNDEF) return val_undef_fail(r, a.kind == V_UNDEF ? a : b);
    if (num_is(a) && num_is(b)) {
        const int order = num_order(a, b, &is_nan);
        *out = !is_nan && by_op(order, op);
        return rt_charge(r, 0);
    }
    if (a.kind == V_STR && b.kind == V_STR) {
        *out = by_op(str_order(a.s, b.s), op);
        return rt_charge(r, a.s->n < b.s->n ? a.s->n : b.s->n);
    }
    if (a.kind == b.kind && is_sequence(a)) {
        size_t i = 0;
        while (i < a.l->n && i < b.l->n) {
            if (!val_eq(r, a.l->v[i], b.l->v[i], &same)) return false;
            if (!same) break;
            i++;
        }
        if (!same) return val_order(r, a.l->v[i], b.l->v[i], op, out);
        *out = by_op(a.l->n < b.l->n ? -1 : a.l->n > b.l->n, op);
        return true;
    }
    static const char *const names[] = { "<", "<=", ">", ">=" };
    return rt_fail(r, FAULT_TYPE, "'%s' not supported between instances of '%s' and '%s'", names[op - OP_LT],
        val_type(a), val_type(b));
}

bool val_contains(rt *r, val item, val in, bool *out) {
    size_t at;
    *out = false;
    switch (in.kind) {
    case V_STR:
        if (item.kind != V_STR)
            return rt_fail(r, FAULT_TYPE, "'in <string>' requires string as left operand, not %s", val_type(item));
        *out = str_find(in.s, item.s->p, item.s->n, 0, &at);
        return rt_charge(r, in.s->n);
    case V_DICT: {
        val unused;
        return dict_get(r, in.d, item, &unused, out);
    }
    default: break;
    }
    if (!val_is_iterable(in)) return rt_fail(r, FAULT_TYPE, "argument of type '%s' is not iterable", val_type(in));
    iter it;
    val v;
    bool has = true;
    if (!iter_open(r, in, &it)) return false;
    while (!*out) {
        if (!iter_next(r, &it, &v, &has)) return false;
        if (!has) break;
        if (!val_eq(r, item, v, out)) return false;
    }
    return true;
}

/* ---- dictionaries ----------------------------------------------------------------------------- */

#define DICT_SMALL 8            /* up to here a search looks at every key */

bool val_hashable(rt *r, val v) {
    if (v.kind == V_LIST || v.kind == V_DICT) return rt_fail(r, FAULT_TYPE, "unhashable type: '%s'", val_type(v));
    if (v.kind == V_TUPLE)
        for (size_t i = 0; i < v.l->n; i++)
            if (!val_hashable(r, v.l->v[i])) return false;
    return true;
}

static uint64_t hash_bytes(const char *p, size_t n) {
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    return h;
}

static uint64_t hash_val(val v) {
    if (num_is(v)) return num_hash(v);
    if (v.kind == V_STR) return hash_bytes(v.s->p, v.s->n);
    uint64_t h = 17u + (uint64_t)v.kind;
    if (v.kind == V_TUPLE)
        for (size_t i = 0; i < v.l->n; i++) h = h * 31 + hash_val(v.l->v[i]);
    return h;
}

/* Where key is in d->item, or d->n. */
static bool dict_find(rt *r, const dict *d, val key, size_t *at) {
    bool same = false;
    if (!d->slot) {
        for (*at = 0; *at < d->n; ++*at) {
            if (!val_eq(r, d->item[*at].key, key, &same)) return false;
            if (same) return true;
        }
        return true;
    }
    for (size_t i = hash_val(key) & (d->n_slots - 1);; i = (i + 1) & (d->n_slots - 1)) {
        if (!d->slot[i]) {
            *at = d->n;
            return true;
        }
        *at = d->slot[i] - 1;
        if (!val_eq(r, d->item[*at].key, key, &same)) return false;
        if (same) return true;
    }
}

bool dict_get(rt *r, const dict *d, val key, val *out, bool *has) {
    size_t at;
    if (!val_hashable(r, key) || !dict_find(r, d, key, &at)) return false;
    *has = at < d->n;
    if (*has) *out = d->item[at].value;
    return true;
}

static bool dict_grow(rt *r, dict *d) {
    const size_t cap = d->cap ? 2 * d->cap : 4;
    if (cap > UINT32_MAX / 4) return rt_fail(r, FAULT_LIMIT, "a dictionary of more than %zu items", cap);
    dict_item *item = rt_take(r, cap, sizeof *item);
    if (!item) return false;
    if (d->n) memcpy(item, d->item, d->n * sizeof *item);
    d->item = item;
    d->cap = cap;
    if (cap <= DICT_SMALL) return true;
    if (!(d->slot = rt_take(r, 2 * cap, sizeof *d->slot))) return false;
    d->n_slots = 2 * cap;
    for (size_t k = 0; k < d->n; k++) {
        size_t i = hash_val(item[k].key) & (d->n_slots - 1);
        while (d->slot[i]) i = (i + 1) & (d->n_slots - 1);
        d->slot[i] = (uint32_t)k + 1;
    }
    return true;
}

bool dict_set(rt *r, dict *d, val key, val value) {
    size_t at;
    if (!val_hashable(r, key) || !dict_find(r, d, key, &at)) return false;
    if (at < d->n) {
        d->item[at].value = value;
        return true;
    }
    if (d->n == d->cap && !dict_grow(r, d)) return false;
    d->item[d->n++] = (dict_item){ key, value };
    if (!d->slot) return true;
    size_t i = hash_val(key) & (d->n_slots - 1);
    while (d->slot[i]) i = (i + 1) & (d->n_slots - 1);
    d->slot[i] = (uint32_t)d->n;
    return true;
}
