/* Filters of sequences. Those that are generators in Jinja are lazy here too: drawn once, failing only when drawn. */
#include <math.h>

#include "text/template_int.h"

#define FILTER(name) static bool name(rt *r, val self, const val *arg, const call_args *args, val *out)
#define UNUSED (void)r, (void)self, (void)arg, (void)args, (void)out

static bool flag(val v) { return v.kind != V_MISSING && val_truth(v); }
static val generator(gen *g) { return (val){ .kind = V_ITER, .g = g }; }

static bool no_len(rt *r, val v) { return rt_fail(r, FAULT_TYPE, "object of type '%s' has no len()", val_type(v)); }

static bool absent(rt *r, const char *hint, val *out) {
    return val_undef(r, hint, val_none(), val_none(), FAULT_UNDEFINED, out);
}

/* ---- keys of items ---------------------------------------------------------------------------- */

/* item.a.0.b for "a.0.b"; a number is an index; nothing: the item itself. otherwise (V_MISSING: none) fills gaps. */
static bool get_attr(rt *r, val item, val attr, val otherwise, val *out) {
    *out = item;
    if (attr.kind == V_MISSING || attr.kind == V_NONE) return true;
    if (attr.kind != V_STR) {
        if (!val_getitem(r, item, attr, out)) return false;
        if (out->kind == V_UNDEF && otherwise.kind != V_MISSING && otherwise.kind != V_NONE) *out = otherwise;
        return true;
    }
    const str *s = attr.s;
    for (size_t from = 0; from <= s->n;) {
        size_t end = from, n_digits = 0;
        int64_t index = 0;
        for (; end < s->n && s->p[end] != '.'; end++) {
            n_digits += s->p[end] >= '0' && s->p[end] <= '9';
            if (n_digits == end - from + 1 && index < INT32_MAX) index = index * 10 + (s->p[end] - '0');
        }
        const str *name = str_view(r, s->p + from, end - from, NULL);
        if (!name) return false;
        const val key = n_digits && n_digits == end - from ? val_int(index) : val_str(name);
        if (!val_getitem(r, *out, key, out)) return false;
        if (out->kind == V_UNDEF && otherwise.kind != V_MISSING && otherwise.kind != V_NONE) *out = otherwise;
        from = end + 1;
    }
    return true;
}

static bool fold(rt *r, val *v, bool case_sensitive) {
    if (case_sensitive || v->kind != V_STR) return true;
    *v = val_str(str_cased(r, v->s, CASE_LOWER));
    return v->s != NULL;
}

/* The key of sort: a list of the attributes named "a,b.c". */
static bool sort_key(rt *r, val item, val attr, bool case_sensitive, val *out) {
    list names = { 0 };
    const val none = { .kind = V_MISSING };
    const str *comma = str_lit(r, ",");
    if (!comma || (attr.kind == V_STR && !str_split(r, attr.s, comma, -1, false, &names))) return false;
    list *key = list_new(r, attr.kind == V_STR ? names.n : 1);
    if (!key) return false;
    for (size_t i = 0; i < key->n; i++)
        if (!get_attr(r, item, attr.kind == V_STR ? names.v[i] : attr, none, &key->v[i]) ||
            !fold(r, &key->v[i], case_sensitive)) return false;
    *out = val_list(key);
    return true;
}

typedef struct { val key, item; } keyed;

/* Stable; reverse keeps equal items in their order, as Python's does. */
static bool sort_keyed(rt *r, keyed *k, size_t n, bool reverse, keyed *room) {
    if (n < 2) return true;
    const size_t half = n / 2;
    if (!sort_keyed(r, k, half, reverse, room) || !sort_keyed(r, k + half, n - half, reverse, room)) return false;
    for (size_t i = 0, a = 0, b = half; i < n; i++) {
        bool takes_right = a == half;
        if (a < half && b < n) {
            const val x = reverse ? k[a].key : k[b].key, y = reverse ? k[b].key : k[a].key;
            if (!val_order(r, x, y, OP_LT, &takes_right)) return false;
        }
        room[i] = takes_right ? k[b++] : k[a++];
    }
    memcpy(k, room, n * sizeof *k);
    return true;
}

static keyed *keyed_new(rt *r, size_t n) { return rt_take(r, n, sizeof(keyed)); }

static bool sorted(rt *r, keyed *k, size_t n, bool reverse, list **out) {
    keyed *room = keyed_new(r, n);
    if (!room || !sort_keyed(r, k, n, reverse, room) || !(*out = list_new(r, n))) return false;
    for (size_t i = 0; i < n; i++) (*out)->v[i] = k[i].item;
    return true;
}

FILTER(q_sort) {
    UNUSED;
    list all = { 0 }, *l;
    if (!val_to_list(r, self, &all)) return false;
    keyed *k = keyed_new(r, all.n);
    if (!k) return false;
    for (size_t i = 0; i < all.n; i++) {
        k[i].item = all.v[i];
        if (!sort_key(r, all.v[i], arg[2], flag(arg[1]), &k[i].key)) return false;
    }
    if (!sorted(r, k, all.n, flag(arg[0]), &l)) return false;
    *out = val_list(l);
    return true;
}

static bool pair(rt *r, val a, val b, bool is_group, val *out) {
    list *l = list_new(r, 2);
    if (!l) return false;
    l->v[0] = a;
    l->v[1] = b;
    l->is_group = is_group;
    *out = (val){ .kind = V_TUPLE, .l = l };
    return true;
}

FILTER(q_dictsort) {
    UNUSED;
    size_t by = 0;
    list *l;
    if (arg[1].kind != V_MISSING) {
        by = arg[1].kind == V_STR && str_is(arg[1].s, "value");
        if (!by && (arg[1].kind != V_STR || !str_is(arg[1].s, "key")))
            return rt_fail(r, FAULT_FILTER, "You can only sort by either \"key\" or \"value\"");
    }
    if (self.kind == V_UNDEF) return val_undef_fail(r, self);
    if (self.kind != V_DICT) return rt_fail(r, FAULT_ATTRIBUTE, "'%s' object has no attribute 'items'", val_type(self));
    keyed *k = keyed_new(r, self.d->n);
    if (!k) return false;
    for (size_t i = 0; i < self.d->n; i++) {
        const dict_item *t = &self.d->item[i];
        k[i].key = by ? t->value : t->key;
        if (!pair(r, t->key, t->value, false, &k[i].item) || !fold(r, &k[i].key, flag(arg[0]))) return false;
    }
    if (!sorted(r, k, self.d->n, flag(arg[2]), &l)) return false;
    *out = val_list(l);
    return true;
}

FILTER(q_groupby) {
    UNUSED;
    list all = { 0 }, *order, *groups = list_new(r, 0);
    size_t cap = 0;
    const bool case_sensitive = flag(arg[2]);
    if (!groups || !val_to_list(r, self, &all)) return false;
    keyed *k = keyed_new(r, all.n);
    if (!k) return false;
    for (size_t i = 0; i < all.n; i++) {
        k[i].item = all.v[i];
        if (!get_attr(r, all.v[i], arg[0], arg[1], &k[i].key) || !fold(r, &k[i].key, case_sensitive)) return false;
    }
    if (!sorted(r, k, all.n, false, &order)) return false;
    for (size_t i = 0, end; i < all.n; i = end) {
        bool same = true;
        for (end = i + 1; end < all.n; end++) {
            if (!val_eq(r, k[end].key, k[i].key, &same)) return false;
            if (!same) break;
        }
        list *members = list_new(r, end - i);
        val *slot = list_grow(r, groups, &cap), name = k[i].key;
        if (!members || !slot) return false;
        memcpy(members->v, order->v + i, (end - i) * sizeof *members->v);
        if (!case_sensitive && !get_attr(r, members->v[0], arg[0], arg[1], &name)) return false;
        if (!pair(r, name, val_list(members), true, slot)) return false;
    }
    *out = val_list(groups);
    return true;
}

/* ---- one of many ------------------------------------------------------------------------------ */

static bool extreme(rt *r, val self, const val *arg, enum op op, val *out) {
    iter it;
    val item, key, best_key = val_none(), best = { .kind = V_MISSING };
    const val none = { .kind = V_MISSING };
    bool has, better;
    if (!iter_open(r, self, &it)) return false;
    for (;;) {
        if (!iter_next(r, &it, &item, &has)) return false;
        if (!has) break;
        if (!get_attr(r, item, arg[1], none, &key) || !fold(r, &key, flag(arg[0]))) return false;
        if (best.kind == V_MISSING) better = true;
        else if (!val_order(r, key, best_key, op, &better)) return false;
        if (!better) continue;
        best = item;
        best_key = key;
    }
    *out = best;
    return best.kind != V_MISSING || absent(r, "No aggregated item, sequence was empty.", out);
}
FILTER(q_min) { UNUSED; return extreme(r, self, arg, OP_LT, out); }
FILTER(q_max) { UNUSED; return extreme(r, self, arg, OP_GT, out); }

FILTER(q_first) {
    UNUSED;
    iter it;
    bool has;
    if (!iter_open(r, self, &it) || !iter_next(r, &it, out, &has)) return false;
    return has || absent(r, "No first item, sequence was empty.", out);
}

static bool is_reversible(val v) {
    return val_is_iterable(v) && v.kind != V_ITER;
}

FILTER(q_last) {
    UNUSED;
    list all = { 0 };
    if (!is_reversible(self)) return rt_fail(r, FAULT_TYPE, "'%s' object is not reversible", val_type(self));
    if (is_sequence(self)) all = *self.l;
    else if (!val_to_list(r, self, &all)) return false;
    if (!all.n) return absent(r, "No last item, sequence was empty.", out);
    *out = all.v[all.n - 1];
    return true;
}

FILTER(q_sum) {
    UNUSED;
    iter it;
    val item;
    const val none = { .kind = V_MISSING };
    bool has;
    *out = arg[1].kind == V_MISSING ? val_int(0) : arg[1];
    if (out->kind == V_STR) return rt_fail(r, FAULT_TYPE, "sum() can't sum strings [use ''.join(seq) instead]");
    if (!iter_open(r, self, &it)) return false;
    for (;;) {
        if (!iter_next(r, &it, &item, &has)) return false;
        if (!has) return true;
        if (!get_attr(r, item, arg[0], none, &item) || !op_binary(r, OP_ADD, *out, item, out)) return false;
    }
}

FILTER(q_length) {
    UNUSED;
    bool has;
    size_t n = 0;
    if (!val_len(r, self, &has, &n)) return false;
    *out = val_int((int64_t)n);
    return has || no_len(r, self);
}

FILTER(q_join) {
    UNUSED;
    iter it;
    val item;
    const val none = { .kind = V_MISSING };
    bool has, first = true;
    const str *sep = str_lit(r, ""), *all = str_lit(r, ""), *s;
    if (!sep || !all || (arg[0].kind != V_MISSING && !val_str_of(r, arg[0], &sep)) || !iter_open(r, self, &it)) return false;
    sep = str_markup(r, sep, false);
    for (; sep && all; first = false) {
        if (!iter_next(r, &it, &item, &has)) return false;
        if (!has) break;
        if (!get_attr(r, item, arg[1], none, &item) || !val_str_of(r, item, &s) ||
            !(s = str_markup(r, s, false))) return false;
        all = first ? s : str_join(r, all, sep);
        if (!first && all) all = str_join(r, all, s);
    }
    *out = val_str(all);
    return all && sep;
}

/* ---- lists ------------------------------------------------------------------------------------ */

FILTER(q_list) {
    UNUSED;
    list *l = list_new(r, 0);
    *out = val_list(l);
    return l && val_to_list(r, self, l);
}

FILTER(q_reverse) {
    UNUSED;
    list *l = list_new(r, 0);
    if (!l) return false;
    if (self.kind == V_STR) return val_slice(r, self, val_none(), val_none(), val_int(-1), out);
    if (!val_is_iterable(self)) return rt_fail(r, FAULT_FILTER, "argument must be iterable");
    if (!val_to_list(r, self, l))                               /* a generator's TypeError is told as one of this filter */
        return self.kind == V_ITER && r->last == FAULT_TYPE && rt_fail(r, FAULT_FILTER, "argument must be iterable");
    for (size_t i = 0; i < l->n / 2; i++) {
        const val t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
    *out = val_list(l);
    if (!is_reversible(self)) return true;
    gen *g = gen_new(r, val_list(l), gen_list_next, self.kind == V_LIST ? "list_reverseiterator" : "reversed");
    *out = generator(g);
    return g != NULL;
}

static bool start_items(rt *r, gen *g) {
    if (g->input.kind == V_UNDEF) return true;
    if (g->input.kind != V_DICT) return rt_fail(r, FAULT_TYPE, "Can only get item pairs from a mapping.");
    const call_args none = { 0 };
    return call_def(r, method_find(g->input, "items", 5), g->input, &none, &g->it.over);
}

static bool start_unique(rt *r, gen *g) {
    list *l = list_new(r, 0);
    dict *seen = dict_new(r);
    iter it;
    val item, key, unused;
    const val none = { .kind = V_MISSING };
    size_t cap = 0;
    bool has, known;
    if (!l || !seen || !iter_open(r, g->input, &it)) return false;
    for (;;) {
        if (!iter_next(r, &it, &item, &has)) return false;
        if (!has) break;
        if (!get_attr(r, item, g->arg[1], none, &key) || !fold(r, &key, flag(g->arg[0]))) return false;
        if (!dict_get(r, seen, key, &unused, &known)) return false;
        if (known) continue;
        val *slot = list_grow(r, l, &cap);
        if (!slot || !dict_set(r, seen, key, val_none())) return false;
        *slot = item;
    }
    g->it.over = val_list(l);
    return true;
}

static bool start_batch(rt *r, gen *g) {
    list all = { 0 }, *l = list_new(r, 0);
    int64_t n;
    size_t cap = 0;
    if (!l || !val_index(r, g->arg[0], &n) || !val_to_list(r, g->input, &all)) return false;
    const size_t size = n < 1 ? all.n + (n < 0) : (size_t)n;                /* never full below one: all in one batch */
    const bool fills = g->arg[1].kind != V_MISSING && g->arg[1].kind != V_NONE;
    if (n == 0 && all.n) {                                                  /* the reference begins with an empty batch */
        val *slot = list_grow(r, l, &cap);
        list *empty = slot ? list_new(r, 0) : NULL;
        if (!empty) return false;
        *slot = val_list(empty);
    }
    for (size_t at = 0; at < all.n;) {
        const size_t step = n == 0 ? 1 : size, left = all.n - at, take = left < step ? left : step;
        const size_t room = fills && n > 0 ? step : take;
        list *part = list_new(r, room);
        val *slot = part ? list_grow(r, l, &cap) : NULL;
        if (!slot || !rt_charge(r, room * sizeof(val))) return false;
        memcpy(part->v, all.v + at, take * sizeof *part->v);
        for (size_t i = take; i < room; i++) part->v[i] = g->arg[1];
        *slot = val_list(part);
        at += take;
    }
    g->it.over = val_list(l);
    return true;
}

static bool start_slice(rt *r, gen *g) {
    list all = { 0 }, *l;
    int64_t n;
    if (!val_to_list(r, g->input, &all) || !val_index(r, g->arg[0], &n)) return false;
    if (n == 0) return rt_fail(r, FAULT_ZERO, "integer division or modulo by zero");
    if (n > TEMPLATE_MAX_RANGE) return rt_fail(r, FAULT_LIMIT, "%lld slices pass %d", (long long)n, TEMPLATE_MAX_RANGE);
    const size_t count = n < 0 ? 0 : (size_t)n, each = count ? all.n / count : 0, extra = count ? all.n % count : 0;
    const bool fills = g->arg[1].kind != V_MISSING && g->arg[1].kind != V_NONE;
    if (!(l = list_new(r, count))) return false;
    for (size_t i = 0, at = 0; i < count; i++) {
        const size_t take = each + (i < extra);
        const bool pads = fills && i >= extra;
        list *part = list_new(r, take + pads);
        if (!part) return false;
        if (take) memcpy(part->v, all.v + at, take * sizeof *part->v);
        if (pads) part->v[take] = g->arg[1];
        l->v[i] = val_list(part);
        at += take;
    }
    g->it.over = val_list(l);
    return true;
}

static bool lazy_list(rt *r, val self, const val *arg, bool (*start)(rt *, gen *), const char *label, val *out) {
    gen *g = gen_new(r, self, gen_list_next, "generator");
    if (!g) return false;
    g->start = start;
    g->label = label;
    g->arg[0] = arg[0];
    g->arg[1] = arg[1];
    g->it.over = (val){ .kind = V_UNDEF };                      /* nothing, until start has been there */
    *out = generator(g);
    return true;
}
FILTER(q_items) { UNUSED; return lazy_list(r, self, arg, start_items, "do_items", out); }
FILTER(q_unique) { UNUSED; return lazy_list(r, self, arg, start_unique, "sync_do_unique", out); }
FILTER(q_batch) { UNUSED; return lazy_list(r, self, arg, start_batch, "do_batch", out); }
FILTER(q_slice) { UNUSED; return lazy_list(r, self, arg, start_slice, "sync_do_slice", out); }

/* ---- map, select ------------------------------------------------------------------------------ */

/* The arguments after the first n, in memory of the rendering. */
static call_args *rest_args(rt *r, const call_args *a, size_t n) {
    call_args *rest = rt_take(r, 1, sizeof *rest);
    if (!rest) return NULL;
    *rest = (call_args){ NULL, 0, a->kw, a->n_kw };
    if (a->n_pos > n) {
        rest->pos = a->pos + n;
        rest->n_pos = a->n_pos - n;
    }
    return rest;
}

static bool find_def(rt *r, val name, bool is_filter, const filter_def **out) {
    *out = name.kind != V_STR ? NULL : is_filter ? filter_find(name.s->p, name.s->n) : test_find(name.s->p, name.s->n);
    if (*out) return true;
    const str *s;
    return val_str_of(r, name, &s) && rt_fail(r, FAULT_RUNTIME, "No %s named '%.*s'.", is_filter ? "filter" : "test",
        (int)s->n, s->p);
}

static bool start_map(rt *r, gen *g) {
    const call_args *a = g->call;
    g->arg[0].kind = V_MISSING;
    if (!val_truth(g->input)) {
        g->it.over = (val){ .kind = V_UNDEF };
        return true;
    }
    bool has_attr = false;
    for (size_t i = 0; i < a->n_kw; i++) has_attr = has_attr || str_is(a->kw[i].name, "attribute");
    if (!a->n_pos && has_attr) {
        g->is_attr = true;
        for (size_t i = 0; i < a->n_kw; i++) {
            if (str_is(a->kw[i].name, "attribute")) g->attr = a->kw[i].v;
            else if (str_is(a->kw[i].name, "default")) g->arg[0] = a->kw[i].v;
            else return rt_fail(r, FAULT_FILTER, "Unexpected keyword argument '%.*s'", (int)a->kw[i].name->n,
                a->kw[i].name->p);
        }
    } else {
        if (!a->n_pos) return rt_fail(r, FAULT_FILTER, "map requires a filter argument");
        g->attr = a->pos[0];
        if (!(g->call = rest_args(r, a, 1))) return false;
    }
    return iter_open(r, g->input, &g->it);
}

static bool next_map(rt *r, gen *g, val *out, bool *has) {
    val item;
    if (!iter_next(r, &g->it, &item, has)) return false;
    if (!*has) return true;
    if (g->is_attr) return get_attr(r, item, g->attr, g->arg[0], out);
    if (!g->def && !find_def(r, g->attr, true, &g->def)) return false;
    return call_def(r, g->def, item, g->call, out);
}

static bool start_select(rt *r, gen *g) {
    const call_args *a = g->call;
    const size_t skip = g->is_attr;
    if (!val_truth(g->input)) {
        g->it.over = (val){ .kind = V_UNDEF };
        return true;
    }
    if (g->is_attr && !a->n_pos) return rt_fail(r, FAULT_FILTER, "Missing parameter for attribute name");
    if (g->is_attr) g->attr = a->pos[0];
    g->arg[0].kind = V_MISSING;
    if (a->n_pos > skip) {
        g->arg[0] = a->pos[skip];
        if (!(g->call = rest_args(r, a, skip + 1))) return false;
    }
    return iter_open(r, g->input, &g->it);
}

static bool next_select(rt *r, gen *g, val *out, bool *has) {
    const val none = { .kind = V_MISSING };
    for (;;) {
        val key, is;
        if (!iter_next(r, &g->it, out, has)) return false;
        if (!*has) return true;
        if (!get_attr(r, *out, g->is_attr ? g->attr : none, none, &key)) return false;
        is = key;
        if (g->arg[0].kind != V_MISSING) {
            if (!g->def && !find_def(r, g->arg[0], false, &g->def)) return false;
            if (!call_def(r, g->def, key, g->call, &is)) return false;
        }
        if (val_truth(is) != g->is_reject) return true;
    }
}

static bool lazy(rt *r, val self, const call_args *args, gen_next_fn next, bool is_attr, bool is_reject, val *out) {
    gen *g = gen_new(r, self, next, "generator");
    if (!g || !(g->call = rest_args(r, args, 0))) return false;
    g->start = next == next_map ? start_map : start_select;
    g->is_attr = is_attr;
    g->is_reject = is_reject;
    g->label = next == next_map ? "sync_do_map" : "select_or_reject";
    *out = generator(g);
    return true;
}
FILTER(q_map) { UNUSED; return lazy(r, self, args, next_map, false, false, out); }
FILTER(q_select) { UNUSED; return lazy(r, self, args, next_select, false, false, out); }
FILTER(q_reject) { UNUSED; return lazy(r, self, args, next_select, false, true, out); }
FILTER(q_selectattr) { UNUSED; return lazy(r, self, args, next_select, true, false, out); }
FILTER(q_rejectattr) { UNUSED; return lazy(r, self, args, next_select, true, true, out); }

const filter_def sequence_filters[] = {
    { "batch", q_batch, "linecount | fill_with" }, { "count", q_length, "!" },
    { "dictsort", q_dictsort, "| case_sensitive by reverse" },
    { "first", q_first, "" }, { "groupby", q_groupby, "attribute | default case_sensitive" }, { "items", q_items, "" },
    { "join", q_join, "| d attribute" }, { "last", q_last, "" }, { "length", q_length, "!" }, { "list", q_list, "" },
    { "map", q_map, "*" }, { "max", q_max, "| case_sensitive attribute" }, { "min", q_min, "| case_sensitive attribute" },
    { "reject", q_reject, "*" }, { "rejectattr", q_rejectattr, "*" }, { "reverse", q_reverse, "" },
    { "select", q_select, "*" },
    { "selectattr", q_selectattr, "*" }, { "slice", q_slice, "slices | fill_with" },
    { "sort", q_sort, "| reverse case_sensitive attribute" }, { "sum", q_sum, "| attribute start" },
    { "unique", q_unique, "| case_sensitive attribute" }, { NULL, NULL, NULL },
};
