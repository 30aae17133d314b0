/* Tests: what may follow "is". */
#include "text/template_int.h"

#define TEST(name) static bool name(rt *r, val self, const val *arg, const call_args *args, val *out)
#define UNUSED (void)r, (void)self, (void)arg, (void)args, (void)out

static bool say(val *out, bool is) {
    *out = val_bool(is);
    return true;
}

static bool remainder_is(rt *r, val self, val by, int64_t wanted, val *out) {
    val rest;
    bool is;
    if (!op_binary(r, OP_MOD, self, by, &rest) || !val_eq(r, rest, val_int(wanted), &is)) return false;
    return say(out, is);
}
TEST(t_odd) { UNUSED; return remainder_is(r, self, val_int(2), 1, out); }
TEST(t_even) { UNUSED; return remainder_is(r, self, val_int(2), 0, out); }
TEST(t_divisibleby) { UNUSED; return remainder_is(r, self, arg[0], 0, out); }

TEST(t_defined) { UNUSED; return say(out, self.kind != V_UNDEF); }
TEST(t_undefined) { UNUSED; return say(out, self.kind == V_UNDEF); }
TEST(t_none) { UNUSED; return say(out, self.kind == V_NONE); }
TEST(t_boolean) { UNUSED; return say(out, self.kind == V_BOOL); }
TEST(t_true) { UNUSED; return say(out, self.kind == V_BOOL && self.b); }
TEST(t_false) { UNUSED; return say(out, self.kind == V_BOOL && !self.b); }
TEST(t_integer) { UNUSED; return say(out, self.kind == V_INT || self.kind == V_BIG); }
TEST(t_float) { UNUSED; return say(out, self.kind == V_FLOAT); }
TEST(t_number) { UNUSED; return say(out, num_is(self)); }
TEST(t_string) { UNUSED; return say(out, self.kind == V_STR); }
TEST(t_mapping) { UNUSED; return say(out, self.kind == V_DICT); }
TEST(t_iterable) { UNUSED; return say(out, val_is_iterable(self) || self.kind == V_LOOP); }
TEST(t_escaped) { UNUSED; return say(out, self.kind == V_STR && self.s->is_markup); }

TEST(t_sequence) {                                              /* an undefined value passes, as in the reference */
    UNUSED;
    return say(out, is_sequence(self) || self.kind == V_STR || self.kind == V_DICT || self.kind == V_RANGE ||
        self.kind == V_UNDEF);
}

TEST(t_callable) {
    UNUSED;
    return say(out, self.kind == V_GLOBAL || self.kind == V_METHOD || self.kind == V_MACRO || self.kind == V_LOOP ||
                    self.kind == V_JOINER || self.kind == V_UNDEF);
}

static bool has_case(rt *r, val self, const char *name, val *out) {
    const str *s;
    const call_args none = { 0 };
    if (!val_str_of(r, self, &s)) return false;
    return call_def(r, method_find(val_str(s), name, strlen(name)), val_str(s), &none, out);
}
TEST(t_lower) { UNUSED; return has_case(r, self, "islower", out); }
TEST(t_upper) { UNUSED; return has_case(r, self, "isupper", out); }

TEST(t_sameas) {
    UNUSED;
    bool is = self.kind == arg[0].kind;
    if (is && self.kind == V_STR) return say(out, str_same(self.s, arg[0].s));
    if (is && self.kind == V_FLOAT) return say(out, self.f == arg[0].f);
    if (is && (self.kind == V_INT || self.kind == V_BOOL)) is = as_int(self) == as_int(arg[0]);
    else if (is && self.kind != V_NONE) is = self.d == arg[0].d;
    return say(out, is);
}

TEST(t_in) {
    UNUSED;
    bool is;
    return val_contains(r, self, arg[0], &is) && say(out, is);
}

TEST(t_eq) {
    UNUSED;
    bool is;
    return val_eq(r, self, arg[0], &is) && say(out, is);
}
TEST(t_ne) {
    UNUSED;
    bool is;
    return val_eq(r, self, arg[0], &is) && say(out, !is);
}

static bool order(rt *r, val a, val b, enum op op, val *out) {
    bool is;
    return val_order(r, a, b, op, &is) && say(out, is);
}
TEST(t_lt) { UNUSED; return order(r, self, arg[0], OP_LT, out); }
TEST(t_le) { UNUSED; return order(r, self, arg[0], OP_LE, out); }
TEST(t_gt) { UNUSED; return order(r, self, arg[0], OP_GT, out); }
TEST(t_ge) { UNUSED; return order(r, self, arg[0], OP_GE, out); }

TEST(t_filter) { UNUSED; return say(out, self.kind == V_STR && filter_find(self.s->p, self.s->n)); }
TEST(t_test) { UNUSED; return say(out, self.kind == V_STR && test_find(self.s->p, self.s->n)); }

const filter_def *test_find(const char *name, size_t n) {
    static const filter_def tests[] = {
        { "odd", t_odd, "" }, { "even", t_even, "" }, { "divisibleby", t_divisibleby, "num" }, { "defined", t_defined, "" },
        { "undefined", t_undefined, "" }, { "filter", t_filter, "" }, { "test", t_test, "" }, { "none", t_none, "" },
        { "boolean", t_boolean, "" }, { "false", t_false, "" }, { "true", t_true, "" }, { "integer", t_integer, "" },
        { "float", t_float, "" }, { "lower", t_lower, "" }, { "upper", t_upper, "" }, { "string", t_string, "" },
        { "mapping", t_mapping, "" }, { "number", t_number, "" }, { "sequence", t_sequence, "" },
        { "iterable", t_iterable, "" },
        { "callable", t_callable, "!" }, { "sameas", t_sameas, "other" }, { "escaped", t_escaped, "" },
        { "in", t_in, "seq" },
        { "==", t_eq, "!b" }, { "eq", t_eq, "!b" }, { "equalto", t_eq, "!b" }, { "!=", t_ne, "!b" }, { "ne", t_ne, "!b" },
        { ">", t_gt, "!b" }, { "gt", t_gt, "!b" }, { "greaterthan", t_gt, "!b" }, { "ge", t_ge, "!b" }, { ">=", t_ge, "!b" },
        { "<", t_lt, "!b" }, { "lt", t_lt, "!b" }, { "lessthan", t_lt, "!b" }, { "<=", t_le, "!b" }, { "le", t_le, "!b" },
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strlen(tests[i].name) == n && memcmp(tests[i].name, name, n) == 0) return &tests[i];
    return NULL;
}
