/* Values: the arena they live in, making them from JSON, how Python prints them. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/template_int.h"

/* ---- arena ------------------------------------------------------------------------------------ */

struct arena_block { arena_block *older; max_align_t data[]; };
#define ARENA_BLOCK ((size_t)32 << 10)

void *arena_take(ern_arena *a, size_t n, size_t size) {
    if (size && n > (SIZE_MAX / 2) / size) return NULL;
    const size_t bytes = (n * size + 15) & ~(size_t)15;
    if (!a->block || bytes > a->cap - a->used) {
        size_t cap = a->total / 4 > ARENA_BLOCK ? a->total / 4 : ARENA_BLOCK;
        if (cap > (size_t)1 << 20) cap = (size_t)1 << 20;
        if (cap < bytes) cap = bytes;
        if (a->max && cap > a->max - a->total) {
            a->is_full = true;
            return NULL;
        }
        arena_block *b = malloc(sizeof *b + cap);
        if (!b) return NULL;
        b->older = a->block;
        *a = (ern_arena){ b, 0, cap, a->total + cap, a->max, false };
    }
    void *p = (char *)a->block->data + a->used;
    a->used += bytes;
    return memset(p, 0, bytes);
}

void arena_free(ern_arena *a) {
    while (a->block) {
        arena_block *b = a->block;
        a->block = b->older;
        free(b);
    }
    *a = (ern_arena){ .max = a->max };
}

/* ---- faults ----------------------------------------------------------------------------------- */

const char *fault_name(enum fault_class c) {
    static const char *const names[] = {
#define X(name, text) text,
        FAULT_MAP(X)
#undef X
    };
    return names[c];
}

/* Line and column (in characters, from 1) of a byte of the source. */
void template_place(const ern_template *t, size_t pos, int *line, int *column) {
    size_t start = 0;
    *line = *column = 1;
    for (size_t i = 0; i < pos && i < t->n_source; i++)
        if (t->source[i] == '\n') {
            ++*line;
            start = i + 1;
        }
    for (size_t i = start; i < pos && i < t->n_source; i++)
        if (((unsigned char)t->source[i] & 0xC0) != 0x80) ++*column;
}

bool fault_set(template_fault *f, const ern_template *t, size_t pos, enum fault_class c, const char *message, ern_err *e) {
    int line, column;
    template_place(t, pos, &line, &column);
    if (f) {
        const size_t n = strlen(message);
        f->class = c;
        f->line = line;
        f->column = column;
        free(f->message);
        if ((f->message = malloc(n + 1))) memcpy(f->message, message, n + 1);
    }
    const enum ern_code code = c == FAULT_LIMIT ? ERN_LIMIT : c == FAULT_NOMEM ? ERN_NOMEM : ERN_TEMPLATE;
    if (c == FAULT_RAISED) return ern_fail_at(e, code, line, column, "%s", message);
    return ern_fail_at(e, code, line, column, "template line %d, column %d: %s: %s", line, column, fault_name(c), message);
}

bool rt_fail(rt *r, enum fault_class c, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    r->last = c;
    return fault_set(r->fault, r->t, r->at ? r->at->pos : 0, c, text, r->e);
}

bool rt_nomem(rt *r) {
    if (r->arena->is_full)
        return rt_fail(r, FAULT_LIMIT, "the template needs more memory than %zu bytes", r->arena->max);
    return rt_fail(r, FAULT_NOMEM, "no memory for the template's values");
}

void *rt_take(rt *r, size_t n, size_t size) {
    void *p = arena_take(r->arena, n, size);
    if (!p) rt_nomem(r);
    return p;
}

bool rt_charge(rt *r, size_t bytes) {
    const size_t steps = 1 + bytes / TEMPLATE_STEP_BYTES;
    if (steps > r->max_steps - r->steps)
        return rt_fail(r, FAULT_LIMIT, "the template takes more than %zu steps", r->max_steps);
    r->steps += steps;
    return true;
}

/* ---- making values ---------------------------------------------------------------------------- */

list *list_new(rt *r, size_t n) {
    list *l = rt_take(r, 1, sizeof *l);
    if (!l || !(l->v = rt_take(r, n, sizeof *l->v))) return NULL;
    l->n = n;
    return l;
}

val *list_grow(rt *r, list *l, size_t *cap) {
    if (l->n == *cap) {
        const size_t more = *cap ? 2 * *cap : 8;
        val *v = rt_take(r, more, sizeof *v);
        if (!v) return NULL;
        if (l->n) memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        *cap = more;
    }
    return &l->v[l->n++];
}

dict *dict_new(rt *r) { return rt_take(r, 1, sizeof(dict)); }

gen *gen_new(rt *r, val input, gen_next_fn next, const char *type_name) {
    gen *g = rt_take(r, 1, sizeof *g);
    if (!g) return NULL;
    g->input = input;
    g->next = next;
    g->type_name = type_name;
    g->it.over = input;
    return g;
}

bool val_undef(rt *r, const char *hint, val name, val obj, enum fault_class c, val *out) {
    undef *u = rt_take(r, 1, sizeof *u);
    if (!u) return false;
    *u = (undef){ hint, name, obj, c };
    *out = (val){ .kind = V_UNDEF, .u = u };
    return true;
}

bool val_undef_fail(rt *r, val v) {
    const undef *u = v.u;
    if (u->hint) return rt_fail(r, u->class, "%s", u->hint);
    if (u->name.kind == V_STR && u->obj.kind == V_MISSING)
        return rt_fail(r, u->class, "'%.*s' is undefined", (int)(u->name.s->n < 200 ? u->name.s->n : 200), u->name.s->p);
    const char *type = u->obj.kind == V_NONE ? "None" : val_type(u->obj);
    const char *tail = u->obj.kind == V_NONE ? "" : " object";
    if (u->name.kind == V_STR)
        return rt_fail(r, u->class, "'%s%s' has no attribute '%.*s'", type, tail,
                       (int)(u->name.s->n < 200 ? u->name.s->n : 200), u->name.s->p);
    ern_buf b = { .max = 4096 };
    val_repr(r, u->name, &b);
    rt_fail(r, u->class, "%s%s has no element %s", type, tail, b.data ? b.data : "?");
    buf_deinit(&b);
    return false;
}

static bool json_text(rt *r, const char *p, size_t n, val *out) {
    size_t bad;
    if (!utf8_valid(p, n, &bad)) return rt_fail(r, FAULT_VALUE, "a variable's text is no UTF-8 at byte %zu", bad);
    const str *s = str_view(r, p, n, NULL);
    if (!s) return false;
    *out = val_str(s);
    return true;
}

bool val_from_json(rt *r, const json_t *j, size_t depth, val *out) {
    if (depth > TEMPLATE_MAX_NESTING)
        return rt_fail(r, FAULT_LIMIT, "variables are nested deeper than %d", TEMPLATE_MAX_NESTING);
    switch (j ? json_typeof(j) : JSON_NULL) {
    case JSON_NULL: *out = val_none(); return true;
    case JSON_TRUE: *out = val_bool(true); return true;
    case JSON_FALSE: *out = val_bool(false); return true;
    case JSON_INTEGER: *out = val_int(json_integer_value(j)); return true;
    case JSON_REAL: *out = val_float(json_real_value(j)); return true;
    case JSON_STRING: return json_text(r, json_string_value(j), json_string_length(j), out);
    case JSON_ARRAY: {
        list *l = list_new(r, json_array_size(j));
        if (!l) return false;
        for (size_t i = 0; i < l->n; i++)
            if (!val_from_json(r, json_array_get(j, i), depth + 1, &l->v[i])) return false;
        *out = val_list(l);
        return true;
    }
    case JSON_OBJECT: default: {
        dict *d = dict_new(r);
        if (!d) return false;
        json_t *const object = (json_t *)(uintptr_t)j;          /* jansson's iterator takes no const; nothing is changed */
        for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
            val key, v;
            const char *name = json_object_iter_key(i);
            if (!json_text(r, name, strlen(name), &key)) return false;
            if (!val_from_json(r, json_object_iter_value(i), depth + 1, &v) || !dict_set(r, d, key, v)) return false;
        }
        *out = (val){ .kind = V_DICT, .d = d };
        return true;
    }
    }
}

/* ---- what a value is -------------------------------------------------------------------------- */

const char *val_type(val v) {
    switch (v.kind) {
    case V_MISSING: case V_UNDEF: return "Undefined";
    case V_NONE: return "NoneType";
    case V_BOOL: return "bool";
    case V_INT: case V_BIG: return "int";
    case V_FLOAT: return "float";
    case V_STR: return v.s->is_markup ? "Markup" : "str";
    case V_LIST: return "list";
    case V_TUPLE: return v.l->is_group ? "_GroupTuple" : "tuple";
    case V_DICT: return "dict";
    case V_RANGE: return "range";
    case V_VIEW: return v.w->kind == VIEW_KEYS ? "dict_keys" : v.w->kind == VIEW_VALUES ? "dict_values" : "dict_items";
    case V_ITER: return v.g->type_name;
    case V_SPACE: return "TemplateNamespace";
    case V_CYCLER: return "Cycler";
    case V_JOINER: return "Joiner";
    case V_LOOP: return "LoopContext";
    case V_MACRO: return "Macro";
    case V_METHOD: return "builtin_function_or_method";
    case V_GLOBAL: return "function";
    }
    return "object";
}

static size_t range_len(const range *g) {
    if (g->step > 0) return g->start < g->stop ? (size_t)((g->stop - g->start - 1) / g->step + 1) : 0;
    return g->start > g->stop ? (size_t)((g->start - g->stop - 1) / -g->step + 1) : 0;
}

bool val_len(rt *r, val v, bool *has, size_t *out) {
    *has = true;
    switch (v.kind) {
    case V_UNDEF: *out = 0; break;
    case V_STR:
        if (v.s->n_chars == SIZE_MAX && !rt_charge(r, v.s->n)) return false;
        *out = str_chars(v.s);
        break;
    case V_LIST: case V_TUPLE: *out = v.l->n; break;
    case V_DICT: *out = v.d->n; break;
    case V_RANGE: *out = range_len(v.r); break;
    case V_VIEW: *out = v.w->d->n; break;
    case V_LOOP: {
        val length;
        if (!val_getattr(r, v, str_lit(r, "length"), &length)) return false;
        *out = (size_t)length.i;
        break;
    }
    default: *has = false;
    }
    return true;
}

bool val_truth(val v) {
    switch (v.kind) {
    case V_MISSING: case V_UNDEF: case V_NONE: return false;
    case V_BOOL: return v.b;
    case V_INT: return v.i != 0;
    case V_FLOAT: return v.f != 0;
    case V_STR: return v.s->n > 0;
    case V_LIST: case V_TUPLE: return v.l->n > 0;
    case V_DICT: return v.d->n > 0;
    case V_RANGE: return range_len(v.r) > 0;
    case V_VIEW: return v.w->d->n > 0;
    default: return true;                                       /* a loop that runs has a length */
    }
}

bool val_index(rt *r, val v, int64_t *out) {
    if (is_int(v)) {
        *out = as_int(v);
        return true;
    }
    if (v.kind == V_BIG) return rt_fail(r, FAULT_OVERFLOW, "Python int too large to convert to C ssize_t");
    if (v.kind == V_UNDEF) return rt_fail(r, FAULT_TYPE, "'Undefined' object cannot be interpreted as an integer");
    return rt_fail(r, FAULT_TYPE, "'%s' object cannot be interpreted as an integer", val_type(v));
}

/* ---- printing --------------------------------------------------------------------------------- */

static bool repr_str(rt *r, const str *s, ern_buf *b) {
    size_t at;
    const bool is_double = str_find(s, "'", 1, 0, &at) && !str_find(s, "\"", 1, 0, &at);
    const char quote = is_double ? '"' : '\'';
    if (!rt_charge(r, s->n) || !buf_char(b, quote, r->e)) return false;
    for (size_t i = 0; i < s->n;) {
        int32_t c;
        const size_t used = utf8_decode(s->p + i, s->n - i, &c);
        bool ok;
        if (c == quote || c == '\\') ok = buf_char(b, '\\', r->e) && buf_char(b, (char)c, r->e);
        else if (c == '\n') ok = buf_str(b, "\\n", r->e);
        else if (c == '\r') ok = buf_str(b, "\\r", r->e);
        else if (c == '\t') ok = buf_str(b, "\\t", r->e);
        else if (char_is_printable(c)) ok = buf_add(b, s->p + i, used, r->e);
        else ok = buf_printf(b, r->e, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        if (!ok) return false;
        i += used;
    }
    return buf_char(b, quote, r->e);
}

static bool repr_in(rt *r, val v, ern_buf *b);

static bool repr_items(rt *r, const val *v, size_t n, ern_buf *b) {
    for (size_t i = 0; i < n; i++)
        if ((i && !buf_str(b, ", ", r->e)) || !repr_in(r, v[i], b)) return false;
    return true;
}

static bool repr_dict(rt *r, const dict *d, ern_buf *b) {
    if (!buf_char(b, '{', r->e)) return false;
    for (size_t i = 0; i < d->n; i++) {
        if (i && !buf_str(b, ", ", r->e)) return false;
        if (!repr_in(r, d->item[i].key, b) || !buf_str(b, ": ", r->e) || !repr_in(r, d->item[i].value, b)) return false;
    }
    return buf_char(b, '}', r->e);
}

static bool repr_view(rt *r, const view *w, ern_buf *b) {
    static const char *const names[] = { "dict_keys([", "dict_values([", "dict_items([" };
    if (!buf_str(b, names[w->kind], r->e)) return false;
    for (size_t i = 0; i < w->d->n; i++) {
        const dict_item *t = &w->d->item[i];
        const val pair[2] = { t->key, t->value };
        bool ok = !i || buf_str(b, ", ", r->e);
        if (w->kind == VIEW_ITEMS) ok = ok && buf_char(b, '(', r->e) && repr_items(r, pair, 2, b) && buf_char(b, ')', r->e);
        else ok = ok && repr_in(r, pair[w->kind == VIEW_VALUES], b);
        if (!ok) return false;
    }
    return buf_str(b, "])", r->e);
}

static bool repr_range(rt *r, const range *g, ern_buf *b) {
    if (g->step == 1) return buf_printf(b, r->e, "range(%lld, %lld)", (long long)g->start, (long long)g->stop);
    return buf_printf(b, r->e, "range(%lld, %lld, %lld)", (long long)g->start, (long long)g->stop, (long long)g->step);
}

static bool repr_loop(rt *r, val v, ern_buf *b) {
    val index, length;
    const str *i = str_lit(r, "index"), *n = str_lit(r, "length");
    return i && n && val_getattr(r, v, i, &index) && val_getattr(r, v, n, &length) &&
           buf_printf(b, r->e, "<LoopContext %lld/%lld>", (long long)index.i, (long long)length.i);
}

static bool repr_macro(rt *r, const macro *m, ern_buf *b) {
    if (m->is_caller) return buf_str(b, "<Macro 'caller'>", r->e);
    const str *name = r->t->symbol[m->node->sym];
    return buf_printf(b, r->e, "<Macro '%.*s'>", (int)name->n, name->p);
}

static bool repr_any(rt *r, val v, ern_buf *b) {
    switch (v.kind) {
    case V_MISSING: case V_UNDEF: return buf_str(b, "Undefined", r->e);
    case V_NONE: return buf_str(b, "None", r->e);
    case V_BOOL: return buf_str(b, v.b ? "True" : "False", r->e);
    case V_INT: case V_BIG: case V_FLOAT: return num_repr(r, v, b);
    case V_STR:
        if (!v.s->is_markup) return repr_str(r, v.s, b);
        return buf_str(b, "Markup(", r->e) && repr_str(r, v.s, b) && buf_char(b, ')', r->e);
    case V_LIST: return buf_char(b, '[', r->e) && repr_items(r, v.l->v, v.l->n, b) && buf_char(b, ']', r->e);
    case V_TUPLE:
        return buf_char(b, '(', r->e) && repr_items(r, v.l->v, v.l->n, b) && buf_str(b, v.l->n == 1 ? ",)" : ")", r->e);
    case V_DICT: return repr_dict(r, v.d, b);
    case V_SPACE: return buf_str(b, "<Namespace ", r->e) && repr_dict(r, v.d, b) && buf_char(b, '>', r->e);
    case V_RANGE: return repr_range(r, v.r, b);
    case V_VIEW: return repr_view(r, v.w, b);
    case V_LOOP: return repr_loop(r, v, b);
    case V_MACRO: return repr_macro(r, v.m, b);
    case V_METHOD: return buf_printf(b, r->e, "<built-in method %s of %s object at 0x7f0000000000>", v.fn->def->name,
        val_type(v.fn->self));
    case V_GLOBAL: return buf_printf(b, r->e, "<function %s at 0x7f0000000000>", v.def->name);
    case V_ITER:
        if (!v.g->label) break;
        return buf_printf(b, r->e, "<generator object %s at 0x7f0000000000>", v.g->label);
    case V_CYCLER: case V_JOINER: break;
    }
    return buf_printf(b, r->e, "<%s object at 0x7f0000000000>", val_type(v));
}

static bool repr_in(rt *r, val v, ern_buf *b) {
    if (++r->depth > TEMPLATE_MAX_DEPTH)
        return rt_fail(r, FAULT_RECURSION, "maximum recursion depth exceeded while printing");
    const bool ok = rt_charge(r, 0) && repr_any(r, v, b);
    r->depth--;
    return ok;
}

bool val_repr(rt *r, val v, ern_buf *b) {
    if (!b->max || b->max > r->max_bytes) b->max = r->max_bytes;
    ern_err e = { ERN_OK, 0, 0, "" }, *outer = r->e;
    r->e = &e;                                                  /* a buffer's error is told as ours */
    const bool ok = repr_in(r, v, b);
    r->e = outer;
    if (ok) return true;
    if (e.line) {
        if (outer) *outer = e;                                  /* a fault, already placed */
        return false;
    }
    return e.code == ERN_LIMIT ? rt_fail(r, FAULT_LIMIT, "a text passes %zu bytes", b->max) : rt_nomem(r);
}

bool val_str_of(rt *r, val v, const str **out) {
    if (v.kind == V_STR) {
        *out = v.s;
        return true;
    }
    if (v.kind == V_UNDEF || v.kind == V_MISSING) return (*out = str_lit(r, "")) != NULL;
    ern_buf b = { 0 };
    const bool ok = val_repr(r, v, &b);
    return (*out = str_buf(r, &b, ok)) != NULL;
}
