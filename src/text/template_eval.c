/* Expressions: a walk over the tree. r->at follows, so that an error names the innermost place. */
#include "text/template_int.h"

/* ---- names ------------------------------------------------------------------------------------ */

bool eval_name(rt *r, uint32_t sym, val *out) {
    const val *found = &r->vars[sym];
    for (const scope *s = r->scope; s && found == &r->vars[sym]; s = s->parent)
        for (size_t i = s->n; i--;)
            if (s->b[i].sym == sym) {
                found = &s->b[i].v;
                break;
            }
    *out = *found;
    if (out->kind != V_MISSING) return true;                    /* missing: a parameter before its default is computed */
    return val_undef(r, NULL, val_str(r->t->symbol[sym]), (val){ .kind = V_MISSING }, FAULT_UNDEFINED, out);
}

/* ---- operators -------------------------------------------------------------------------------- */

static bool add_lists(rt *r, val a, val b, val *out) {
    if (!rt_charge(r, (a.l->n + b.l->n) * sizeof(val))) return false;
    list *l = list_new(r, a.l->n + b.l->n);
    if (!l) return false;
    if (a.l->n) memcpy(l->v, a.l->v, a.l->n * sizeof *l->v);
    if (b.l->n) memcpy(l->v + a.l->n, b.l->v, b.l->n * sizeof *l->v);
    *out = (val){ .kind = a.kind, .l = l };
    return true;
}

static bool add_text(rt *r, const str *a, const str *b, val *out) {
    if (a->is_markup || b->is_markup) {
        if (!(a = str_escape(r, a)) || !(b = str_escape(r, b))) return false;
    }
    const str *s = str_join(r, a, b);
    *out = val_str(s);
    return s != NULL;
}

static bool repeat(rt *r, val v, val times, val *out) {
    int64_t n;
    if (!val_index(r, times, &n)) return false;
    const size_t unit = v.kind == V_STR ? v.s->n : v.l->n, size = v.kind == V_STR ? 1 : sizeof(val);
    const size_t count = n < 0 ? 0 : (size_t)n;
    if (unit && count > r->max_bytes / unit / size)
        return rt_fail(r, FAULT_LIMIT, "%zu times %zu passes %zu bytes", count, unit * size, r->max_bytes);
    if (!rt_charge(r, unit * count * size)) return false;
    if (v.kind == V_STR) {
        char *p = rt_take(r, unit * count, 1);
        if (!p) return false;
        for (size_t i = 0; unit && i < count; i++) memcpy(p + i * unit, v.s->p, unit);
        *out = val_str(str_markup(r, str_view(r, p, unit * count, NULL), v.s->is_markup));
        return out->s != NULL;
    }
    list *l = list_new(r, unit * count);
    if (!l) return false;
    for (size_t i = 0; unit && i < count; i++) memcpy(l->v + i * unit, v.l->v, unit * sizeof *l->v);
    *out = (val){ .kind = v.kind, .l = l };
    return true;
}

static bool is_repeatable(val v) { return v.kind == V_STR || is_sequence(v); }

static bool bad_operands(rt *r, enum op op, val a, val b) {
    static const char *const names[] = { "+", "-", "*", "/", "//", "%", "** or pow()" };
    if (op == OP_ADD && a.kind == V_STR)
        return rt_fail(r, FAULT_TYPE, "can only concatenate str (not \"%s\") to str", val_type(b));
    if (op == OP_ADD && is_sequence(a))
        return rt_fail(r, FAULT_TYPE, "can only concatenate %s (not \"%s\") to %s", val_type(a), val_type(b), val_type(a));
    if (op == OP_MUL && (is_repeatable(a) || is_repeatable(b)))
        return rt_fail(r, FAULT_TYPE, "can't multiply sequence by non-int of type '%s'", val_type(is_repeatable(a) ? b : a));
    return rt_fail(r, FAULT_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'", names[op], val_type(a), val_type(b));
}

bool op_binary(rt *r, enum op op, val a, val b, val *out) {
    if (op == OP_MOD && a.kind == V_STR) {
        const str *s;
        if (!percent_format(r, a.s, b, &s)) return false;
        *out = val_str(s);
        return true;
    }
    if (a.kind == V_UNDEF || b.kind == V_UNDEF) return val_undef_fail(r, a.kind == V_UNDEF ? a : b);
    if (num_is(a) && num_is(b)) return num_binary(r, op, a, b, out);
    if (op == OP_ADD && a.kind == V_STR && b.kind == V_STR) return add_text(r, a.s, b.s, out);
    if (op == OP_ADD && is_sequence(a) && a.kind == b.kind) return add_lists(r, a, b, out);
    if (op == OP_MUL && is_repeatable(a) && (is_int(b) || b.kind == V_BIG)) return repeat(r, a, b, out);
    if (op == OP_MUL && is_repeatable(b) && (is_int(a) || a.kind == V_BIG)) return repeat(r, b, a, out);
    return bad_operands(r, op, a, b);
}

static bool eval_binary(rt *r, const node *n, val *out) {
    val a, b;
    if (!eval(r, n->a, &a) || !eval(r, n->b, &b)) return false;
    r->at = n;
    return op_binary(r, n->op, a, b, out);
}

static bool eval_sign(rt *r, const node *n, val *out) {
    val a;
    if (!eval(r, n->a, &a)) return false;
    r->at = n;
    if (a.kind == V_UNDEF) return val_undef_fail(r, a);
    if (!num_is(a))
        return rt_fail(r, FAULT_TYPE, "bad operand type for unary %c: '%s'", n->kind == N_NEG ? '-' : '+', val_type(a));
    if (n->kind == N_NEG) return num_neg(r, a, out);
    *out = a.kind == V_BOOL ? val_int(a.b) : a;
    return true;
}

static bool eval_concat(rt *r, const node *n, val *out) {
    val *v = rt_take(r, n->n, sizeof *v);
    bool escapes = false;
    size_t i = 0;
    if (!v) return false;
    for (const node *a = n->a; a; a = a->next, i++) {
        if (!eval(r, a, &v[i])) return false;
        escapes = escapes || (r->is_escaping && v[i].kind == V_STR && v[i].s->is_markup);
    }
    r->at = n;
    const str *all = str_lit(r, "");
    for (i = 0; all && i < n->n; i++) {
        const str *s;
        if (!val_str_of(r, v[i], &s)) return false;
        s = escapes ? str_escape(r, s) : str_markup(r, s, false);
        if (!s) return false;
        all = i ? str_join(r, all, s) : s;
    }
    *out = val_str(all);
    return all != NULL;
}

static bool compare(rt *r, enum op op, val a, val b, bool *out) {
    switch (op) {
    case OP_EQ: return val_eq(r, a, b, out);
    case OP_NE: {
        const bool ok = val_eq(r, a, b, out);
        *out = !*out;
        return ok;
    }
    case OP_IN: return val_contains(r, a, b, out);
    case OP_NOTIN: {
        const bool ok = val_contains(r, a, b, out);
        *out = !*out;
        return ok;
    }
    default: return val_order(r, a, b, op, out);
    }
}

static bool eval_compare(rt *r, const node *n, val *out) {
    val a, b;
    bool is = true;
    if (!eval(r, n->a, &a)) return false;
    for (const node *o = n->b; o && is; o = o->next) {
        if (!eval(r, o->a, &b)) return false;
        r->at = o;
        if (!compare(r, o->op, a, b, &is)) return false;
        a = b;
    }
    *out = val_bool(is);
    return true;
}

static bool eval_cond(rt *r, const node *n, val *out) {
    val test;
    if (!eval(r, n->a, &test)) return false;
    if (val_truth(test)) return eval(r, n->b, out);
    if (n->c) return eval(r, n->c, out);
    return val_undef(r, "the inline if-expression evaluated to false and no else section was defined.", val_none(),
        val_none(),
                     FAULT_UNDEFINED, out);
}

/* ---- displays, subscripts --------------------------------------------------------------------- */

static bool eval_list(rt *r, const node *n, val *out) {
    list *l = list_new(r, n->n);
    size_t i = 0;
    if (!l) return false;
    for (const node *a = n->a; a; a = a->next)
        if (!eval(r, a, &l->v[i++])) return false;
    *out = (val){ .kind = n->kind == N_LIST ? V_LIST : V_TUPLE, .l = l };
    return true;
}

static bool eval_dict(rt *r, const node *n, val *out) {
    dict *d = dict_new(r);
    if (!d) return false;
    for (const node *k = n->a; k; k = k->next->next) {
        val key, v;
        if (!eval(r, k, &key) || !eval(r, k->next, &v)) return false;
        r->at = k;
        if (!dict_set(r, d, key, v)) return false;
    }
    *out = (val){ .kind = V_DICT, .d = d };
    return true;
}

static bool eval_item(rt *r, const node *n, val *out) {
    val obj, key;
    if (!eval(r, n->a, &obj)) return false;
    if (n->b->kind != N_SLICE) {
        if (!eval(r, n->b, &key)) return false;
        r->at = n;
        return val_getitem(r, obj, key, out);
    }
    val part[3] = { val_none(), val_none(), val_none() };
    const node *const parts[3] = { n->b->a, n->b->b, n->b->c };
    for (size_t i = 0; i < 3; i++)
        if (parts[i] && !eval(r, parts[i], &part[i])) return false;
    r->at = n;
    return val_slice(r, obj, part[0], part[1], part[2], out);
}

/* ---- calls ------------------------------------------------------------------------------------ */

static bool star_args(rt *r, const node *n, val **pos, size_t *n_pos) {
    val v;
    if (!eval(r, n, &v)) return false;
    r->at = n;
    list all = { .n = *n_pos, .v = *pos };
    if (!val_is_iterable(v)) return rt_fail(r, FAULT_TYPE, "argument after * must be an iterable, not %s", val_type(v));
    if (!val_to_list(r, v, &all)) return false;
    *pos = all.v;
    *n_pos = all.n;
    return true;
}

static bool star_kwargs(rt *r, const node *n, kwarg **kw, size_t *n_kw) {
    val v;
    if (!eval(r, n, &v)) return false;
    r->at = n;
    if (v.kind != V_DICT) return rt_fail(r, FAULT_TYPE, "argument after ** must be a mapping, not %s", val_type(v));
    kwarg *all = rt_take(r, *n_kw + v.d->n, sizeof *all);
    if (!all) return false;
    if (*n_kw) memcpy(all, *kw, *n_kw * sizeof *all);
    for (size_t i = 0; i < v.d->n; i++) {
        const val key = v.d->item[i].key;
        if (key.kind != V_STR) return rt_fail(r, FAULT_TYPE, "keywords must be strings");
        for (size_t k = 0; k < *n_kw; k++)
            if (str_same(all[k].name, key.s))
                return rt_fail(r, FAULT_TYPE, "got multiple values for keyword argument '%.*s'", (int)key.s->n, key.s->p);
        all[*n_kw + i] = (kwarg){ key.s, v.d->item[i].value };
    }
    *kw = all;
    *n_kw += v.d->n;
    return true;
}

bool eval_args(rt *r, const node_args *a, call_args *out) {
    *out = (call_args){ 0 };
    if (!a) return true;
    size_t n_pos = a->n_pos, n_kw = a->n_kw, i = 0;
    val *pos = rt_take(r, n_pos, sizeof *pos);
    kwarg *kw = rt_take(r, n_kw, sizeof *kw);
    if (!pos || !kw) return false;
    for (const node *n = a->pos; n; n = n->next)
        if (!eval(r, n, &pos[i++])) return false;
    i = 0;
    for (const node *n = a->kw; n; n = n->next, i++) {
        kw[i].name = n->k.s;
        if (!eval(r, n->a, &kw[i].v)) return false;
    }
    if (a->star && !star_args(r, a->star, &pos, &n_pos)) return false;
    if (a->star_star && !star_kwargs(r, a->star_star, &kw, &n_kw)) return false;
    *out = (call_args){ pos, n_pos, kw, n_kw };
    return true;
}

bool call_value(rt *r, val f, const call_args *a, val *out) {
    switch (f.kind) {
    case V_GLOBAL: return f.def->fn(r, a, out);
    case V_METHOD: return call_def(r, f.fn->def, f.fn->self, a, out);
    case V_MACRO: return render_macro(r, f.m, a, out);
    case V_UNDEF: return val_undef_fail(r, f);
    case V_LOOP:
        if (a->n_pos != 1 || a->n_kw)
            return rt_fail(r, FAULT_TYPE, "loop() takes one argument, %zu given", a->n_pos + a->n_kw);
        return render_loop_again(r, f.loop, a->pos[0], out);
    case V_JOINER:
        if (a->n_pos || a->n_kw) return rt_fail(r, FAULT_TYPE, "a joiner takes no arguments");
        *out = f.c->is_used ? f.c->v[0] : val_str(str_lit(r, ""));
        f.c->is_used = true;
        return out->s != NULL;
    default: return rt_fail(r, FAULT_TYPE, "'%s' object is not callable", val_type(f));
    }
}

static bool eval_call(rt *r, const node *n, val *out) {
    val f;
    call_args a;
    if (!eval(r, n->a, &f) || !eval_args(r, n->args, &a)) return false;
    r->at = n;
    return call_value(r, f, &a, out);
}

static bool eval_filter(rt *r, const node *n, val *out) {
    val input = r->filter_input;
    call_args a;
    if ((n->a && !eval(r, n->a, &input)) || !eval_args(r, n->args, &a)) return false;
    r->at = n;
    if (!n->def)
        return rt_fail(r, FAULT_RUNTIME, "No %s named '%s' found.", n->kind == N_FILTER ? "filter" : "test", n->k.s->p);
    return call_def(r, n->def, input, &a, out);
}

bool eval_filters(rt *r, const node *f, val input, val *out) {
    const val outer = r->filter_input;
    r->filter_input = input;
    const bool ok = eval(r, f, out);
    r->filter_input = outer;
    return ok;
}

/* ---- all -------------------------------------------------------------------------------------- */

static bool eval_any(rt *r, const node *n, val *out) {
    val a;
    switch (n->kind) {
    case N_CONST: *out = n->k; return true;
    case N_NAME: return eval_name(r, n->sym, out);
    case N_TUPLE: case N_LIST: return eval_list(r, n, out);
    case N_DICT: return eval_dict(r, n, out);
    case N_COND: return eval_cond(r, n, out);
    case N_AND: case N_OR:
        if (!eval(r, n->a, out)) return false;
        return val_truth(*out) == (n->kind == N_OR) || eval(r, n->b, out);
    case N_NOT:
        if (!eval(r, n->a, &a)) return false;
        *out = val_bool(!val_truth(a));
        return true;
    case N_NEG: case N_POS: return eval_sign(r, n, out);
    case N_BINARY: return eval_binary(r, n, out);
    case N_CONCAT: return eval_concat(r, n, out);
    case N_COMPARE: return eval_compare(r, n, out);
    case N_GETATTR:
        if (!eval(r, n->a, &a)) return false;
        r->at = n;
        return val_getattr(r, a, n->k.s, out);
    case N_GETITEM: return eval_item(r, n, out);
    case N_CALL: return eval_call(r, n, out);
    case N_FILTER: case N_TEST: return eval_filter(r, n, out);
    default: return rt_fail(r, FAULT_PYTHON, "invalid syntax");    /* a slice outside of a subscript */
    }
}

bool eval(rt *r, const node *n, val *out) {
    r->at = n;
    if (++r->depth > TEMPLATE_MAX_DEPTH) return rt_fail(r, FAULT_RECURSION, "maximum recursion depth exceeded");
    const bool ok = rt_charge(r, 0) && eval_any(r, n, out);
    r->depth--;
    return ok;
}
