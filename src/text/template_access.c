/* Attributes, items, slices and iteration. Attributes follow Jinja's sandbox: what starts with an underscore or would
 * change a list or dictionary exists, but using it is a SecurityError. */
#include <stdio.h>

#include "base/utf8.h"
#include "text/template_int.h"

/* ---- attributes ------------------------------------------------------------------------------- */

static bool loop_length(rt *r, loop *l, size_t *out) {
    if (!l->has_length) {
        bool has;
        if (!val_len(r, l->items, &has, &l->length)) return false;
        if (!has) {                                             /* a generator: what is left is drawn now */
            list *rest = list_new(r, 0);
            if (!rest || !val_to_list(r, l->it.over, rest)) return false;
            l->it = (iter){ val_list(rest), 0 };
            l->length = rest->n + l->index0 + 1 + (l->after.kind != V_MISSING);
        }
        l->has_length = true;
    }
    *out = l->length;
    return true;
}

static bool loop_peek(rt *r, loop *l) {
    bool has;
    if (l->after.kind != V_MISSING) return true;
    if (!iter_next(r, &l->it, &l->after, &has)) return false;
    if (!has) l->after.kind = V_MISSING;
    return true;
}

static bool loop_attr(rt *r, loop *l, const str *name, val *out, bool *has) {
    const int64_t index0 = (int64_t)l->index0;
    size_t length = 0;
    *has = true;
    if (str_is(name, "index0")) *out = val_int(index0);
    else if (str_is(name, "index")) *out = val_int(index0 + 1);
    else if (str_is(name, "first")) *out = val_bool(index0 == 0);
    else if (str_is(name, "depth0")) *out = val_int((int64_t)l->depth0);
    else if (str_is(name, "depth")) *out = val_int((int64_t)l->depth0 + 1);
    else if (str_is(name, "last")) {
        if (!loop_peek(r, l)) return false;
        *out = val_bool(l->after.kind == V_MISSING);
    } else if (str_is(name, "length") || str_is(name, "revindex") || str_is(name, "revindex0")) {
        if (!loop_length(r, l, &length)) return false;
        *out = val_int((int64_t)length - (name->n == 6 ? 0 : name->n == 8 ? index0 : index0 + 1));
    } else if (str_is(name, "previtem")) {
        if (index0 == 0) return val_undef(r, "there is no previous item", val_none(), val_none(), FAULT_UNDEFINED, out);
        *out = l->before;
    } else if (str_is(name, "nextitem")) {
        if (!loop_peek(r, l)) return false;
        if (l->after.kind == V_MISSING)
            return val_undef(r, "there is no next item", val_none(), val_none(), FAULT_UNDEFINED, out);
        *out = l->after;
    } else {
        *has = false;
    }
    return true;
}

static bool macro_attr(rt *r, const macro *m, const str *name, val *out, bool *has) {
    const node *n = m->node;
    *has = true;
    if (str_is(name, "name")) {
        *out = m->is_caller ? val_str(str_lit(r, "caller")) : val_str(r->t->symbol[n->sym]);
        return out->s != NULL;
    }
    if (str_is(name, "catch_kwargs")) *out = val_bool(n->uses_kwargs);
    else if (str_is(name, "catch_varargs")) *out = val_bool(n->uses_varargs);
    else if (str_is(name, "caller")) *out = val_bool(n->uses_caller);
    else if (str_is(name, "arguments")) {
        list *l = list_new(r, n->n);
        if (!l) return false;
        size_t i = 0;
        for (const node *p = n->a; p; p = p->next) l->v[i++] = val_str(r->t->symbol[p->sym]);
        *out = (val){ .kind = V_TUPLE, .l = l };
    } else {
        *has = false;
    }
    return true;
}

static bool cycler_attr(rt *r, val obj, const str *name, val *out, bool *has) {
    cycler *c = obj.c;
    *has = true;
    if (obj.kind == V_JOINER) {
        if (str_is(name, "sep")) *out = c->v[0];
        else if (str_is(name, "used")) *out = val_bool(c->is_used);
        else *has = false;
        return true;
    }
    if (str_is(name, "current")) *out = c->v[c->pos];
    else if (str_is(name, "pos")) *out = val_int((int64_t)c->pos);
    else if (str_is(name, "items")) {
        list *l = list_new(r, c->n);
        if (!l) return false;
        memcpy(l->v, c->v, c->n * sizeof *l->v);
        *out = (val){ .kind = V_TUPLE, .l = l };
    } else {
        *has = false;
    }
    return true;
}

static bool number_attr(val obj, const str *name, val *out) {
    const bool is_float = obj.kind == V_FLOAT;
    if (str_is(name, "real")) *out = obj.kind == V_BOOL ? val_int(obj.b) : obj;
    else if (str_is(name, "imag")) *out = is_float ? val_float(0) : val_int(0);
    else if (!is_float && str_is(name, "numerator")) *out = obj.kind == V_BOOL ? val_int(obj.b) : obj;
    else if (!is_float && str_is(name, "denominator")) *out = val_int(1);
    else return false;
    return true;
}

static bool is_dunder(const str *s) {
    static const char *const names[] = {
        "__class__", "__dict__", "__doc__", "__init__", "__new__", "__repr__", "__str__", "__eq__", "__ne__", "__hash__",
        "__getattribute__", "__setattr__", "__delattr__", "__dir__", "__format__", "__reduce__", "__reduce_ex__",
        "__sizeof__",
        "__subclasshook__", "__init_subclass__", "__lt__", "__le__", "__gt__", "__ge__", "__len__", "__iter__",
        "__getitem__",
        "__contains__", "__add__", "__mul__", "__call__", "__module__", "__globals__", "__code__", "__self__", "__func__",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(s, names[i])) return true;
    return false;
}

static bool unsafe(rt *r, val obj, const str *name, val *out) {
    const size_t size = 96 + name->n;
    char *hint = rt_take(r, size, 1);
    if (!hint) return false;
    snprintf(hint, size, "access to attribute '%.*s' of '%s' object is unsafe.", (int)name->n, name->p, val_type(obj));
    return val_undef(r, hint, val_str(name), obj, FAULT_SECURITY, out);
}

/* Python's own getattr, unsafe ones already replaced. */
static bool own_attr(rt *r, val obj, const str *name, val *out, bool *has) {
    *has = false;
    if (obj.kind == V_SPACE) {
        if (!dict_get(r, obj.d, val_str(name), out, has)) return false;
    } else if (obj.kind == V_LOOP) {
        if (!loop_attr(r, obj.loop, name, out, has)) return false;
    } else if (obj.kind == V_MACRO) {
        if (!macro_attr(r, obj.m, name, out, has)) return false;
    } else if (obj.kind == V_CYCLER || obj.kind == V_JOINER) {
        if (!cycler_attr(r, obj, name, out, has)) return false;
    } else if (obj.kind == V_RANGE) {
        *has = str_is(name, "start") || str_is(name, "stop") || str_is(name, "step");
        if (*has) *out = val_int(name->n == 5 ? obj.r->start : name->p[2] == 'o' ? obj.r->stop : obj.r->step);
    } else if (obj.kind == V_TUPLE && obj.l->is_group) {
        *has = str_is(name, "grouper") || str_is(name, "list");
        if (*has) *out = obj.l->v[name->n == 4];
    } else if (num_is(obj)) {
        *has = number_attr(obj, name, out);
    }
    if (*has) return true;
    if (name->n && name->p[0] == '_') {
        *has = is_dunder(name);
        return !*has || unsafe(r, obj, name, out);
    }
    const filter_def *d = method_find(obj, name->p, name->n);
    if (!d) return true;
    *has = true;
    if (!d->fn) return unsafe(r, obj, name, out);
    method *m = rt_take(r, 1, sizeof *m);
    if (!m) return false;
    *m = (method){ d, obj };
    *out = (val){ .kind = V_METHOD, .fn = m };
    return true;
}

bool val_getattr(rt *r, val obj, const str *name, val *out) {
    bool has;
    if (obj.kind == V_UNDEF) return val_undef_fail(r, obj);
    if (!name || !own_attr(r, obj, name, out, &has)) return false;
    if (has) return true;
    if (obj.kind == V_DICT) {
        if (!dict_get(r, obj.d, val_str(name), out, &has)) return false;
        if (has) return true;
    }
    return val_undef(r, NULL, val_str(name), obj, FAULT_UNDEFINED, out);
}

/* ---- items ------------------------------------------------------------------------------------ */

static bool char_at(rt *r, const str *s, int64_t i, val *out) {
    if (!rt_charge(r, s->n)) return false;
    const size_t at = str_offset(s, (size_t)i);
    int32_t c;
    const str *one = str_view(r, s->p + at, utf8_decode(s->p + at, s->n - at, &c), s);
    *out = val_str(one);
    return one != NULL;
}

static bool own_item(rt *r, val obj, val key, val *out, bool *has) {
    *has = false;
    if (obj.kind == V_DICT) {
        if (key.kind == V_LIST || key.kind == V_DICT) return true;
        return dict_get(r, obj.d, key, out, has);
    }
    size_t n;
    if (!is_int(key) || !(is_sequence(obj) || obj.kind == V_STR || obj.kind == V_RANGE)) return true;
    if (!val_len(r, obj, has, &n)) return false;
    int64_t i = as_int(key);
    if (i < 0) i += (int64_t)n;
    *has = i >= 0 && i < (int64_t)n;
    if (!*has) return true;
    if (obj.kind == V_STR) return char_at(r, obj.s, i, out);
    *out = obj.kind == V_RANGE ? val_int(obj.r->start + i * obj.r->step) : obj.l->v[i];
    return true;
}

bool val_getitem(rt *r, val obj, val key, val *out) {
    bool has;
    if (obj.kind == V_UNDEF) return val_undef_fail(r, obj);
    if (!own_item(r, obj, key, out, &has)) return false;
    if (!has && key.kind == V_STR && !own_attr(r, obj, key.s, out, &has)) return false;
    return has || val_undef(r, NULL, key, obj, FAULT_UNDEFINED, out);
}

static bool slice_end(rt *r, val v, int64_t n, int64_t step, int64_t fallback, int64_t *out) {
    if (v.kind == V_NONE) {
        *out = fallback;
        return true;
    }
    if (v.kind == V_BIG) {
        *out = big_is_negative(v.big) ? (step < 0 ? -1 : 0) : (step < 0 ? n - 1 : n);
        return true;
    }
    if (!is_int(v)) return rt_fail(r, FAULT_TYPE, "slice indices must be integers or None or have an __index__ method");
    int64_t i = as_int(v);
    if (i < 0) i = i < -n ? -1 : i + n;
    if (i < 0) i = step < 0 ? -1 : 0;
    if (i >= n) i = step < 0 ? n - 1 : n;
    *out = i;
    return true;
}

static bool slice_str(rt *r, const str *s, int64_t from, int64_t step, size_t n, val *out) {
    if (!rt_charge(r, s->n)) return false;
    if (step == 1 || n == 0) {
        const size_t a = n ? str_offset(s, (size_t)from) : 0, b = n ? str_offset(s, (size_t)from + n) : 0;
        *out = val_str(str_view(r, s->p + a, b - a, s));
        return out->s != NULL;
    }
    const size_t chars = str_chars(s);
    uint32_t *offset = rt_take(r, chars + 1, sizeof *offset);
    char *p = rt_take(r, s->n, 1);
    size_t used = 0;
    if (!offset || !p) return false;
    for (size_t i = 0, k = 0; i <= s->n; i++)
        if (i == s->n || ((unsigned char)s->p[i] & 0xC0) != 0x80) offset[k++] = (uint32_t)i;
    for (size_t i = 0; i < n; i++) {
        const size_t at = (size_t)(from + (int64_t)i * step), width = offset[at + 1] - offset[at];
        memcpy(p + used, s->p + offset[at], width);
        used += width;
    }
    *out = val_str(str_view(r, p, used, NULL));
    if (out->s && s->is_markup) out->s = str_markup(r, out->s, true);
    return out->s != NULL;
}

bool val_slice(rt *r, val obj, val vfrom, val vto, val vstep, val *out) {
    int64_t from, to, step = 1;
    size_t length;
    bool has;
    if (obj.kind == V_UNDEF) return val_undef_fail(r, obj);
    if (obj.kind == V_DICT) return rt_fail(r, FAULT_TYPE, "unhashable type: 'slice'");
    if (!is_sequence(obj) && obj.kind != V_STR && obj.kind != V_RANGE)
        return rt_fail(r, FAULT_TYPE, "'%s' object is not subscriptable", val_type(obj));
    if (vstep.kind != V_NONE && !is_int(vstep))
        return rt_fail(r, FAULT_TYPE, "slice indices must be integers or None or have an __index__ method");
    if (vstep.kind != V_NONE) step = as_int(vstep);
    if (step == 0) return rt_fail(r, FAULT_VALUE, "slice step cannot be zero");
    if (!val_len(r, obj, &has, &length)) return false;
    const int64_t n = (int64_t)length;
    if (step > n + 1) step = n + 1;                             /* the same items, and no overflow below */
    if (step < -n - 1) step = -n - 1;
    if (!slice_end(r, vfrom, n, step, step < 0 ? n - 1 : 0, &from) || !slice_end(r, vto, n, step, step < 0 ? -1 : n,
        &to)) return false;
    const size_t count = step > 0 ? (from < to ? (size_t)((to - from - 1) / step + 1) : 0)
                                  : (from > to ? (size_t)((from - to - 1) / -step + 1) : 0);
    if (obj.kind == V_STR) return slice_str(r, obj.s, from, step, count, out);
    if (!rt_charge(r, count * sizeof(val))) return false;
    if (obj.kind == V_RANGE) {
        range *g = rt_take(r, 1, sizeof *g);
        if (!g) return false;
        *g = (range){ obj.r->start + from * obj.r->step, obj.r->start + to * obj.r->step, obj.r->step * step };
        *out = (val){ .kind = V_RANGE, .r = g };
        return true;
    }
    list *l = list_new(r, count);
    if (!l) return false;
    for (size_t i = 0; i < count; i++) l->v[i] = obj.l->v[from + (int64_t)i * step];
    *out = (val){ .kind = obj.kind, .l = l };
    return true;
}

/* ---- iteration -------------------------------------------------------------------------------- */

bool val_is_iterable(val v) {
    return v.kind == V_UNDEF || v.kind == V_STR || is_sequence(v) || v.kind == V_DICT || v.kind == V_RANGE ||
           v.kind == V_VIEW || v.kind == V_ITER;
}

bool iter_open(rt *r, val v, iter *it) {
    *it = (iter){ v, 0 };
    return val_is_iterable(v) || rt_fail(r, FAULT_TYPE, "'%s' object is not iterable", val_type(v));
}

static bool pair_of(rt *r, val a, val b, val *out) {
    list *l = list_new(r, 2);
    if (!l) return false;
    l->v[0] = a;
    l->v[1] = b;
    *out = (val){ .kind = V_TUPLE, .l = l };
    return true;
}

bool gen_list_next(rt *r, gen *g, val *out, bool *has) { return iter_next(r, &g->it, out, has); }

static bool gen_next(rt *r, gen *g, val *out, bool *has) {
    if (++r->depth > TEMPLATE_MAX_DEPTH) return rt_fail(r, FAULT_RECURSION, "generators are nested too deep");
    bool ok = true;
    if (g->start) {
        bool (*start)(rt *, gen *) = g->start;
        g->start = NULL;
        ok = start(r, g);
    }
    ok = ok && g->next(r, g, out, has);
    r->depth--;
    return ok;
}

bool iter_next(rt *r, iter *it, val *out, bool *has) {
    const val v = it->over;
    if (!rt_charge(r, 0)) return false;
    switch (v.kind) {
    case V_STR:
        *has = it->at < v.s->n;
        if (*has) {
            int32_t c;
            const size_t used = utf8_decode(v.s->p + it->at, v.s->n - it->at, &c);
            *out = val_str(str_view(r, v.s->p + it->at, used, NULL));    /* letters of a markup are plain, as in Python */
            it->at += used;
            return out->s != NULL;
        }
        return true;
    case V_LIST: case V_TUPLE:
        if ((*has = it->at < v.l->n)) *out = v.l->v[it->at++];
        return true;
    case V_DICT: case V_VIEW: {
        const dict *d = v.kind == V_DICT ? v.d : v.w->d;
        if (!(*has = it->at < d->n)) return true;
        const dict_item *t = &d->item[it->at++];
        if (v.kind == V_VIEW && v.w->kind == VIEW_ITEMS) return pair_of(r, t->key, t->value, out);
        *out = v.kind == V_VIEW && v.w->kind == VIEW_VALUES ? t->value : t->key;
        return true;
    }
    case V_RANGE: {
        size_t n;
        if (!val_len(r, v, has, &n)) return false;
        if ((*has = it->at < n)) *out = val_int(v.r->start + (int64_t)it->at++ * v.r->step);
        return true;
    }
    case V_ITER: return gen_next(r, v.g, out, has);
    default: *has = false; return true;
    }
}

/* Everything that is left in v appended to out (whose room is its length). */
bool val_to_list(rt *r, val v, list *out) {
    iter it;
    size_t cap = out->n;
    bool has, known;
    size_t n;
    if (!iter_open(r, v, &it) || !val_len(r, v, &known, &n)) return false;
    if (known && n > out->n) {
        val *room = rt_take(r, out->n + n, sizeof *room);
        if (!room) return false;
        if (out->n) memcpy(room, out->v, out->n * sizeof *room);
        out->v = room;
        cap = out->n + n;
    }
    for (;;) {
        val item;
        if (!iter_next(r, &it, &item, &has)) return false;
        if (!has) return true;
        val *slot = list_grow(r, out, &cap);
        if (!slot) return false;
        *slot = item;
    }
}
