/* Statements, macros and loops; template_render itself. */
#include <stdlib.h>

#include "text/template_int.h"

#define MAX_STEPS ((size_t)50000000)
#define MAX_BYTES ((size_t)64 << 20)
#define MAX_MEMORY ((size_t)1 << 30)

/* ---- output ----------------------------------------------------------------------------------- */

bool rt_emit(rt *r, const char *s, size_t n) {
    if (n > r->max_bytes - r->out->len) return rt_fail(r, FAULT_LIMIT, "the rendering passes %zu bytes", r->max_bytes);
    if (!rt_charge(r, n)) return false;
    if (!buf_add(r->out, s, n, NULL)) return rt_fail(r, FAULT_NOMEM, "no memory for %zu rendered bytes", r->out->len + n);
    if (r->out == r->root)
        for (size_t i = 0; i < n; i++) r->root_chars += ((unsigned char)s[i] & 0xC0) != 0x80;
    return true;
}

bool rt_output(rt *r, val v) {
    const str *s;
    if (!val_str_of(r, v, &s) || (r->is_escaping && !(s = str_escape(r, s)))) return false;
    return rt_emit(r, s->p, s->n);
}

/* What is written from here on goes to b, until capture_end hands it over as a text. */
static ern_buf *capture_begin(rt *r, ern_buf *b) {
    ern_buf *outer = r->out;
    *b = (ern_buf){ .max = r->max_bytes };
    r->out = b;
    return outer;
}

static bool capture_end(rt *r, ern_buf *b, ern_buf *outer, bool ok, val *out) {
    r->out = outer;
    const str *s = str_markup(r, str_buf(r, b, ok), r->is_escaping);
    *out = val_str(s);
    return s != NULL;
}

/* ---- scopes ----------------------------------------------------------------------------------- */

static scope *scope_new(rt *r, scope *parent) {
    scope *s = rt_take(r, 1, sizeof *s);
    if (s) s->parent = parent;
    return s;
}

static bool scope_set(rt *r, scope *s, uint32_t sym, val v) {
    for (size_t i = 0; i < s->n; i++)
        if (s->b[i].sym == sym) {
            s->b[i].v = v;
            return true;
        }
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 4;
        binding *b = rt_take(r, cap, sizeof *b);
        if (!b) return false;
        if (s->n) memcpy(b, s->b, s->n * sizeof *b);
        s->b = b;
        s->cap = cap;
    }
    s->b[s->n++] = (binding){ sym, v };
    return true;
}

/* The names a new body starts with. A loop's scope is used again for its next round unless a macro holds on to it. */
static scope *scope_next(rt *r, scope *s, scope *parent) {
    if (!s || s->is_captured) return scope_new(r, parent);
    s->n = 0;
    return s;
}

static bool run_scoped(rt *r, const node *body, enum flow *flow) {
    scope *outer = r->scope;
    if (!(r->scope = scope_new(r, outer))) {
        r->scope = outer;
        return false;
    }
    const bool ok = run_list(r, body, flow);
    r->scope = outer;
    return ok;
}

/* ---- assignment ------------------------------------------------------------------------------- */

static bool assign(rt *r, const node *target, val v, scope *s);

static bool unpack(rt *r, const node *target, val v, scope *s) {
    iter it;
    val item;
    bool has;
    size_t got = 0;
    r->at = target;
    if (!val_is_iterable(v)) return rt_fail(r, FAULT_TYPE, "cannot unpack non-iterable %s object", val_type(v));
    if (!iter_open(r, v, &it)) return false;
    val *items = rt_take(r, target->n, sizeof *items);
    if (!items) return false;
    for (; got < target->n; got++) {
        if (!iter_next(r, &it, &items[got], &has)) return false;
        if (!has) return rt_fail(r, FAULT_VALUE, "not enough values to unpack (expected %zu, got %zu)", target->n, got);
    }
    if (!iter_next(r, &it, &item, &has)) return false;
    if (has) return rt_fail(r, FAULT_VALUE, "too many values to unpack (expected %zu)", target->n);
    got = 0;
    for (const node *t = target->a; t; t = t->next)
        if (!assign(r, t, items[got++], s)) return false;
    return true;
}

static bool find_space(rt *r, const node *target, val *space) {
    if (!eval_name(r, target->sym, space)) return false;
    r->at = target;
    return space->kind == V_SPACE || rt_fail(r, FAULT_RUNTIME, "cannot assign attribute on non-namespace object");
}

static bool assign(rt *r, const node *target, val v, scope *s) {
    val space;
    if (target->kind == N_NAME) return scope_set(r, s, target->sym, v);
    if (target->kind == N_TUPLE) return unpack(r, target, v, s);
    if (!find_space(r, target, &space)) return false;
    if (target->k.s->n && target->k.s->p[0] == '_')
        return rt_fail(r, FAULT_SECURITY, "a namespace cannot store the underscored attribute '%s'", target->k.s->p);
    return dict_set(r, space.d, target->k, v);
}

/* Namespaces among the targets are checked before the value is computed. */
static bool check_spaces(rt *r, const node *target) {
    val space;
    if (target->kind == N_NSREF) return find_space(r, target, &space);
    if (target->kind == N_TUPLE)
        for (const node *t = target->a; t; t = t->next)
            if (!check_spaces(r, t)) return false;
    return true;
}

static bool run_set(rt *r, const node *n) {
    val v;
    return check_spaces(r, n->a) && eval(r, n->b, &v) && assign(r, n->a, v, r->scope);
}

static bool run_set_block(rt *r, const node *n, enum flow *flow) {
    ern_buf b, *outer = capture_begin(r, &b);
    val v;
    const bool ok = run_scoped(r, n->body, flow);
    if (!capture_end(r, &b, outer, ok, &v)) return false;
    if (*flow != FLOW_NEXT) return true;                        /* left by break: nothing is set */
    return (!n->b || eval_filters(r, n->b, v, &v)) && assign(r, n->a, v, r->scope);
}

/* What filter and call blocks make goes out as it is: anything but text cannot be joined with the rest. */
static bool output_text(rt *r, val v) {
    if (v.kind == V_STR) return rt_emit(r, v.s->p, v.s->n);
    return rt_fail(r, FAULT_TYPE, "sequence item: expected str instance, %s found", val_type(v));
}

static bool run_filter_block(rt *r, const node *n, enum flow *flow) {
    ern_buf b, *outer = capture_begin(r, &b);
    val v;
    const bool ok = run_scoped(r, n->body, flow);
    if (!capture_end(r, &b, outer, ok, &v)) return false;
    return *flow != FLOW_NEXT || (eval_filters(r, n->a, v, &v) && output_text(r, v));
}

static bool run_with(rt *r, const node *n, enum flow *flow) {
    scope *outer = r->scope, *inner = scope_new(r, outer);
    if (!inner) return false;
    for (const node *t = n->a; t; t = t->next->next) {
        val v;
        if (!eval(r, t->next, &v) || !assign(r, t, v, inner)) return false;
    }
    r->scope = inner;
    const bool ok = run_list(r, n->body, flow);
    r->scope = outer;
    return ok;
}

/* ---- macros ----------------------------------------------------------------------------------- */

static macro *macro_new(rt *r, const node *n) {
    macro *m = rt_take(r, 1, sizeof *m);
    if (!m) return NULL;
    *m = (macro){ n, r->scope, n->kind != N_MACRO };
    for (scope *s = r->scope; s; s = s->parent) s->is_captured = true;
    return m;
}

static bool enter(rt *r) {
    if (r->calls >= TEMPLATE_MAX_CALLS)
        return rt_fail(r, FAULT_RECURSION, "macros and loops call each other more than %d deep", TEMPLATE_MAX_CALLS);
    r->calls++;
    return true;
}

static const char *macro_name(const rt *r, const macro *m) { return m->is_caller ? "caller" :
    r->t->symbol[m->node->sym]->p; }

/* Binds arguments as Jinja's Macro does. used[i]: keyword i went to a parameter. */
static bool bind_macro(rt *r, const macro *m, const call_args *a, scope *s, bool *used) {
    const node *n = m->node;
    size_t i = 0, k;
    bool found_caller = false;
    for (const node *p = n->a; p; p = p->next, i++) {
        val v = { .kind = V_MISSING };
        const str *name = r->t->symbol[p->sym];
        if (str_is(name, "caller")) found_caller = true;
        if (i < a->n_pos) v = a->pos[i];
        for (k = 0; i >= a->n_pos && k < a->n_kw; k++)
            if (str_same(a->kw[k].name, name)) {
                v = a->kw[k].v;
                used[k] = true;
            }
        if (!scope_set(r, s, p->sym, v)) return false;
    }
    if (n->uses_caller && !found_caller) {
        val caller = val_none();
        for (k = 0; k < a->n_kw; k++)
            if (str_is(a->kw[k].name, "caller")) {
                caller = a->kw[k].v;
                used[k] = true;
            }
        if (caller.kind == V_NONE && !val_undef(r, "No caller defined", val_none(), val_none(), FAULT_UNDEFINED,
            &caller)) return false;
        if (!scope_set(r, s, r->t->sym_caller, caller)) return false;
    }
    dict *rest = n->uses_kwargs ? dict_new(r) : NULL;
    if (n->uses_kwargs && !rest) return false;
    for (k = 0; k < a->n_kw; k++) {
        if (used[k]) continue;
        if (!rest) return rt_fail(r, FAULT_TYPE, "macro '%s' takes no keyword argument '%.*s'", macro_name(r, m),
                                  (int)a->kw[k].name->n, a->kw[k].name->p);
        if (!dict_set(r, rest, val_str(a->kw[k].name), a->kw[k].v)) return false;
    }
    if (rest && !scope_set(r, s, r->t->sym_kwargs, (val){ .kind = V_DICT, .d = rest })) return false;
    if (!n->uses_varargs && a->n_pos > n->n)
        return rt_fail(r, FAULT_TYPE, "macro '%s' takes not more than %zu argument(s)", macro_name(r, m), n->n);
    if (!n->uses_varargs) return true;
    list *more = list_new(r, a->n_pos > n->n ? a->n_pos - n->n : 0);
    if (!more) return false;
    if (more->n) memcpy(more->v, a->pos + n->n, more->n * sizeof *more->v);
    return scope_set(r, s, r->t->sym_varargs, (val){ .kind = V_TUPLE, .l = more });
}

/* Parameters that were not given take their default, in order, so that one may use those before it. */
static bool fill_defaults(rt *r, const node *n, scope *s) {
    for (const node *p = n->a; p; p = p->next) {
        size_t i = 0;
        while (s->b[i].sym != p->sym) i++;
        if (s->b[i].v.kind != V_MISSING) continue;
        val v;
        if (p->a ? !eval(r, p->a, &v) : !val_undef(r, "a parameter was not provided", val_none(), val_none(),
            FAULT_UNDEFINED, &v))
            return false;
        if (!scope_set(r, s, p->sym, v)) return false;
    }
    return true;
}

bool render_macro(rt *r, const macro *m, const call_args *a, val *out) {
    scope *outer_scope = r->scope, *s = scope_new(r, m->scope);
    bool *used = rt_take(r, a->n_kw, sizeof *used);
    const node *at = r->at;
    if (!s || !used || !bind_macro(r, m, a, s, used) || !enter(r)) return false;
    ern_buf b, *outer = capture_begin(r, &b);
    enum flow flow = FLOW_NEXT;
    r->scope = s;
    const bool ok = fill_defaults(r, m->node, s) && run_list(r, m->node->body, &flow);
    r->scope = outer_scope;
    r->calls--;
    if (ok) r->at = at;
    return capture_end(r, &b, outer, ok, out);
}

static bool run_macro(rt *r, const node *n) {
    macro *m = macro_new(r, n);
    return m && scope_set(r, r->scope, n->sym, (val){ .kind = V_MACRO, .m = m });
}

static bool run_call_block(rt *r, const node *n) {
    macro *m = macro_new(r, n);
    val f, out;
    call_args a;
    if (!m || !eval(r, n->b->a, &f) || !eval_args(r, n->b->args, &a)) return false;
    kwarg *kw = rt_take(r, a.n_kw + 1, sizeof *kw);
    const str *name = str_lit(r, "caller");
    if (!kw || !name) return false;
    if (a.n_kw) memcpy(kw, a.kw, a.n_kw * sizeof *kw);
    kw[a.n_kw] = (kwarg){ name, (val){ .kind = V_MACRO, .m = m } };
    a.kw = kw;
    a.n_kw++;
    r->at = n;
    return call_value(r, f, &a, &out) && output_text(r, out);
}

/* ---- loops ------------------------------------------------------------------------------------ */

static bool filtered_next(rt *r, gen *g, val *out, bool *has) {
    scope *outer = r->scope, *s = NULL;
    for (;;) {
        val keep;
        if (!iter_next(r, &g->it, out, has)) return false;
        if (!*has) return true;
        if (!(s = scope_next(r, s, g->scope))) return false;
        r->scope = s;
        const bool ok = assign(r, g->loop->a, *out, s) && eval(r, g->loop->c, &keep);
        r->scope = outer;
        if (!ok) return false;
        if (val_truth(keep)) return true;
    }
}

static bool loop_items(rt *r, const node *n, val items, val *out) {
    *out = items;
    if (!n->c) return true;
    gen *g = gen_new(r, items, filtered_next, "generator");
    if (!g) return false;
    if (!val_is_iterable(items)) return rt_fail(r, FAULT_TYPE, "'%s' object is not iterable", val_type(items));
    g->loop = n;
    g->scope = r->scope;
    *out = (val){ .kind = V_ITER, .g = g };
    return true;
}

static bool loop_advance(rt *r, loop *l, val *item, bool *has) {
    *has = true;
    if (l->after.kind != V_MISSING) *item = l->after;
    else if (!iter_next(r, &l->it, item, has)) return false;
    if (!*has) return true;
    l->after.kind = V_MISSING;
    l->index0++;
    l->before = l->current;
    l->current = *item;
    return true;
}

/* The body for every item, then else. r->scope is the scope around the loop. */
static bool run_rounds(rt *r, const node *n, val items, size_t depth0, enum flow *flow) {
    scope *outer = r->scope, *s = NULL;
    loop *l = rt_take(r, 1, sizeof *l);
    bool has = true, is_else = true, ok = l && loop_items(r, n, items, &items) && iter_open(r, items, &l->it);
    if (!ok) return false;
    l->items = items;
    l->index0 = SIZE_MAX;                                       /* one before the first */
    l->depth0 = depth0;
    l->body = n;
    l->scope = outer;
    for (enum flow inner = FLOW_NEXT; ok && inner != FLOW_BREAK;) {
        val item;
        r->at = n;
        if (!(ok = loop_advance(r, l, &item, &has)) || !has) break;
        if (!(ok = (s = scope_next(r, s, outer)) && assign(r, n->a, item, s))) break;
        if (n->uses_loop && !(ok = scope_set(r, s, r->t->sym_loop, (val){ .kind = V_LOOP, .loop = l }))) break;
        inner = FLOW_NEXT;
        r->scope = s;
        ok = run_list(r, n->body, &inner);
        r->scope = outer;
        if (inner == FLOW_NEXT) is_else = false;                /* as the reference: only a round that ends counts */
    }
    return ok && (!is_else || !n->other || run_scoped(r, n->other, flow));
}

bool render_loop_again(rt *r, const loop *l, val items, val *out) {
    if (!l->body->flag) return rt_fail(r, FAULT_TYPE, "The loop must have the 'recursive' marker to be called recursively.");
    if (!enter(r)) return false;
    scope *outer_scope = r->scope;
    ern_buf b, *outer = capture_begin(r, &b);
    enum flow flow = FLOW_NEXT;
    r->scope = l->scope;
    const bool ok = run_rounds(r, l->body, items, l->depth0 + 1, &flow);
    r->scope = outer_scope;
    r->calls--;
    return capture_end(r, &b, outer, ok, out);
}

static bool run_for(rt *r, const node *n, enum flow *flow) {
    val items, text;
    if (!eval(r, n->b, &items)) return false;
    r->at = n;
    if (!n->flag) return run_rounds(r, n, items, 0, flow);
    ern_buf b, *outer = capture_begin(r, &b);
    const bool ok = run_rounds(r, n, items, 0, flow);
    return capture_end(r, &b, outer, ok, &text) && rt_output(r, text);
}

/* ---- the others ------------------------------------------------------------------------------- */

static bool run_generation(rt *r, const node *n) {
    ern_buf b, *outer = capture_begin(r, &b);
    enum flow flow = FLOW_NEXT;
    val v;
    const bool ok = run_scoped(r, n->body, &flow);
    if (!capture_end(r, &b, outer, ok, &v)) return false;
    if (r->spans) {
        template_spans *l = r->spans;
        if (l->n == l->cap) {
            const size_t cap = l->cap ? 2 * l->cap : 8;
            template_span *more = mem_grow(l->span, cap, sizeof *more, "generation spans", NULL);
            if (!more) return rt_fail(r, FAULT_NOMEM, "no memory for %zu generation spans", cap);
            l->span = more;
            l->cap = cap;
        }
        const size_t from = r->root->len - r->root_start;
        l->span[l->n++] = (template_span){ from, from + v.s->n, r->root_chars, r->root_chars + str_chars(v.s) };
    }
    return rt_output(r, v);
}

static bool run_if(rt *r, const node *n, enum flow *flow) {
    for (;;) {
        val test;
        if (!eval(r, n->a, &test)) return false;
        if (val_truth(test)) return run_list(r, n->body, flow);
        if (!n->c) return true;
        if (n->c->kind != N_IF || n->c->next) return run_list(r, n->c, flow);
        n = n->c;
    }
}

static bool run_escape(rt *r, const node *n, enum flow *flow) {
    val on;
    const bool outer = r->is_escaping;
    if (!eval(r, n->a, &on)) return false;
    r->is_escaping = val_truth(on);
    const bool ok = run_scoped(r, n->body, flow);
    r->is_escaping = outer;
    return ok;
}

/* A block sees what the template sets outside of loops and macros. */
static bool run_block(rt *r, const node *n) {
    scope *outer = r->scope;
    enum flow flow = FLOW_NEXT;
    if (!n->flag) r->scope = r->top;
    const bool ok = run_scoped(r, n->body, &flow);
    r->scope = outer;
    return ok;
}

static bool run_one(rt *r, const node *n, enum flow *flow) {
    val v;
    r->at = n;
    switch (n->kind) {
    case N_TEXT: return rt_emit(r, n->k.s->p, n->k.s->n);
    case N_OUTPUT: return eval(r, n->a, &v) && rt_output(r, v);
    case N_IF: return run_if(r, n, flow);
    case N_FOR: return run_for(r, n, flow);
    case N_SET: return run_set(r, n);
    case N_SETBLOCK: return run_set_block(r, n, flow);
    case N_MACRO: return run_macro(r, n);
    case N_CALLBLOCK: return run_call_block(r, n);
    case N_FILTERBLOCK: return run_filter_block(r, n, flow);
    case N_WITH: return run_with(r, n, flow);
    case N_BLOCK: return run_block(r, n);
    case N_ESCAPE: return run_escape(r, n, flow);
    case N_GENERATION: return run_generation(r, n);
    case N_BREAK: *flow = FLOW_BREAK; return true;
    case N_CONTINUE: *flow = FLOW_CONTINUE; return true;
    default: return rt_fail(r, FAULT_TYPE, "no loader for this environment specified");
    }
}

bool run_list(rt *r, const node *n, enum flow *flow) {
    if (++r->depth > TEMPLATE_MAX_DEPTH) return rt_fail(r, FAULT_RECURSION, "maximum recursion depth exceeded");
    bool ok = true;
    for (; ok && n && *flow == FLOW_NEXT; n = n->next) ok = rt_charge(r, 0) && run_one(r, n, flow);
    r->depth--;
    return ok;
}

/* ---- rendering -------------------------------------------------------------------------------- */

static bool load_vars(rt *r, const json_t *vars) {
    if (!(r->vars = rt_take(r, r->t->n_symbols, sizeof *r->vars))) return false;
    for (size_t i = 0; i < r->t->n_symbols; i++) {
        const str *name = r->t->symbol[i];
        const json_t *j = json_object_getn(vars, name->p, name->n);
        const func_def *g = global_find(name->p, name->n);
        if (j && !val_from_json(r, j, 0, &r->vars[i])) return false;
        if (!j && g) r->vars[i] = (val){ .kind = V_GLOBAL, .def = g };
    }
    return true;
}

bool template_render_fault(const ern_template *t, const json_t *vars, const template_options *o, ern_buf *out,
                           template_fault *f, ern_err *e) {
    ern_arena arena = { .max = o && o->max_memory ? o->max_memory : MAX_MEMORY };
    ern_err unused = { ERN_OK, 0, 0, "" };
    enum flow flow = FLOW_NEXT;
    rt r = { .t = t, .arena = &arena, .out = out, .root = out, .root_start = out->len, .fault = f, .e = e ? e : &unused };
    r.max_steps = o && o->max_steps ? o->max_steps : MAX_STEPS;
    r.max_bytes = o && o->max_bytes ? o->max_bytes : MAX_BYTES;
    r.max_bytes = r.max_bytes > SIZE_MAX - out->len ? SIZE_MAX : r.max_bytes + out->len;
    r.spans = o ? o->spans : NULL;
    r.now = o ? o->now : NULL;
    const size_t n_spans = r.spans ? r.spans->n : 0;
    bool ok = load_vars(&r, vars) && (r.top = r.scope = scope_new(&r, NULL)) && run_list(&r, t->body, &flow);
    arena_free(&arena);
    if (ok) return true;
    if (r.spans) r.spans->n = n_spans;
    if (out->data) out->data[r.root_start] = '\0';
    out->len = r.root_start;
    return false;
}
