/* JSON Schema: references, and one schema that says what two say. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/grammar_schema.h"

bool schema_is_annotation(const char *keyword) {
    static const char *const names[] = { "title", "description", "default", "examples", "example", "$comment",
                                         "deprecated", "readOnly",
                                         "writeOnly", "$schema", "$id", "$anchor", "$defs", "definitions", "contentEncoding",
                                         "contentMediaType", "$vocabulary", "$dynamicAnchor", "id" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(keyword, names[i]) == 0) return true;
    return false;
}

/* ---- references ---------------------------------------------------------------------------------- */

static const json_t *find_anchor(const json_t *at, const char *anchor, int depth) {
    const char *key;
    json_t *item;
    size_t i;
    if (depth > GRAMMAR_MAX_DEPTH) return NULL;
    if (json_is_object(at)) {
        const char *own = json_string_value(json_object_get(at, "$anchor"));
        if (own && strcmp(own, anchor) == 0) return at;
        json_object_foreach((json_t *)(uintptr_t)at, key, item) {
            const json_t *found = find_anchor(item, anchor, depth + 1);
            if (found) return found;
        }
    } else json_array_foreach(at, i, item) {
        const json_t *found = find_anchor(item, anchor, depth + 1);
        if (found) return found;
    }
    return NULL;
}

/* One step of a JSON pointer inside a URI: %XX, then ~1 and ~0. */
static void decode_token(const char *from, size_t n, char *to) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        char c = from[i];
        if (c == '%' && i + 2 < n && grammar_hex(from[i + 1]) >= 0 && grammar_hex(from[i + 2]) >= 0) {
            c = (char)(grammar_hex(from[i + 1]) << 4 | grammar_hex(from[i + 2]));
            i += 2;
        } else if (c == '~' && i + 1 < n && (from[i + 1] == '0' || from[i + 1] == '1')) c = from[++i] == '0' ? '~' : '/';
        to[k++] = c;
    }
    to[k] = '\0';
}

const json_t *schema_resolve(ern_grammar *g, const json_t *root, const char *pointer) {
    const json_t *at = root;
    char token[512];
    const char *own = json_string_value(json_object_get(root, "$id"));
    if (own && strncmp(pointer, own, strlen(own)) == 0 && pointer[0] != '#') pointer += strlen(own);
    if (*pointer == '\0' || strcmp(pointer, "#") == 0) return root;
    if (*pointer != '#')
        { grammar_fail(g, ERN_ARG, 0, 0, "JSON Schema: $ref \"%.200s\" leaves the document", pointer); return NULL; }
    if (pointer[1] != '/') at = find_anchor(root, pointer + 1, 0);
    else for (const char *p = pointer + 1; at && *p == '/';) {
        const char *end = strchr(p + 1, '/');
        const size_t n = end ? (size_t)(end - p - 1) : strlen(p + 1);
        if (n >= sizeof token) { at = NULL; break; }
        decode_token(p + 1, n, token);
        if (json_is_array(at)) {
            char *rest;
            const unsigned long i = strtoul(token, &rest, 10);
            at = *token && !*rest ? json_array_get(at, i) : NULL;
        } else at = json_object_get(at, token);
        p += 1 + n;
    }
    if (!at) grammar_fail(g, ERN_ARG, 0, 0, "JSON Schema: $ref \"%.200s\" points at nothing", pointer);
    return at;
}

/* ---- conjunction ---------------------------------------------------------------------------------- */

static json_t *fail_merge(ern_grammar *g, const char *keyword) {
    grammar_fail(g, ERN_ARG, 0, 0,
                 "JSON Schema: \"%.100s\" said twice in different ways (allOf, or beside $ref or anyOf) "
                 "cannot be decided while writing", keyword);
    return NULL;
}

static bool type_has(const json_t *types, const char *name) {
    size_t i;
    json_t *item;
    if (json_is_string(types)) return strcmp(json_string_value(types), name) == 0;
    json_array_foreach(types, i, item)
        if (json_is_string(item) && strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

/* Types that both allow; an integer is a number. */
static json_t *merge_types(ern_grammar *g, const json_t *a, const json_t *b) {
    static const char *const names[] = { "null", "boolean", "integer", "number", "string", "array", "object" };
    json_t *out = json_array();
    for (size_t i = 0; out && i < 7; i++) {
        const bool is_integer = strcmp(names[i], "integer") == 0;
        const bool in_a = type_has(a, names[i]) || (is_integer && type_has(a, "number"));
        const bool in_b = type_has(b, names[i]) || (is_integer && type_has(b, "number"));
        const bool said = type_has(a, names[i]) || type_has(b, names[i]);
        if (in_a && in_b && said) json_array_append_new(out, json_string(names[i]));
    }
    if (out && json_array_size(out) == 0) {
        json_decref(out);
        grammar_fail(g, ERN_ARG, 0, 0, "JSON Schema: \"type\" leaves no value possible");
        return NULL;
    }
    return out;
}

static json_t *merge_lists(const json_t *a, const json_t *b, bool is_union) {
    json_t *out = json_array(), *x, *y;
    size_t i, k;
    json_array_foreach(a, i, x) {
        bool is_shared = is_union;
        json_array_foreach(b, k, y) is_shared = is_shared || json_equal(x, y);
        if (is_shared) json_array_append(out, x);
    }
    if (is_union) json_array_foreach(b, k, y) {
        bool is_known = false;
        json_array_foreach(a, i, x) is_known = is_known || json_equal(x, y);
        if (!is_known) json_array_append(out, y);
    }
    return out;
}

static json_t *merge_properties(ern_grammar *g, const json_t *a, const json_t *b) {
    json_t *out = json_object(), *item;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)a, key, item) {
        const json_t *other = json_object_get(b, key);
        json_t *both = other ? schema_merge(g, item, other) : json_incref(item);
        if (!both) { json_decref(out); return NULL; }
        json_object_set_new(out, key, both);
    }
    json_object_foreach((json_t *)(uintptr_t)b, key, item)
        if (!json_object_get(out, key)) json_object_set(out, key, item);
    return out;
}

/* The stricter of two numbers. */
static json_t *tighter(const json_t *a, const json_t *b, bool takes_more) {
    const bool a_wins = takes_more ? json_number_value(a) >= json_number_value(b)
        : json_number_value(a) <= json_number_value(b);
    return json_incref((json_t *)(uintptr_t)(a_wins ? a : b));
}

static json_t *merge_keyword(ern_grammar *g, const char *key, const json_t *a, const json_t *b) {
    static const char *const more[] = { "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties",
                                        "minContains" };
    static const char *const less[] = { "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties",
                                        "maxContains" };
    if (schema_is_annotation(key) || json_equal(a, b)) return json_incref((json_t *)(uintptr_t)a);
    for (size_t i = 0; i < 6; i++) {
        if (strcmp(key, more[i]) == 0 && json_is_number(a) && json_is_number(b)) return tighter(a, b, true);
        if (strcmp(key, less[i]) == 0 && json_is_number(a) && json_is_number(b)) return tighter(a, b, false);
    }
    if (strcmp(key, "type") == 0) return merge_types(g, a, b);
    if (strcmp(key, "required") == 0) return merge_lists(a, b, true);
    if (strcmp(key, "enum") == 0) {
        json_t *both = merge_lists(a, b, false);
        if (json_array_size(both)) return both;
        json_decref(both);
        grammar_fail(g, ERN_ARG, 0, 0, "JSON Schema: \"enum\" leaves no value possible");
        return NULL;
    }
    if (strcmp(key, "properties") == 0 || strcmp(key, "patternProperties") == 0) return merge_properties(g, a, b);
    if (strcmp(key, "items") == 0 || strcmp(key, "additionalProperties") == 0 || strcmp(key, "propertyNames") == 0)
        return schema_merge(g, a, b);
    if (strcmp(key, "allOf") == 0) return merge_lists(a, b, true);
    return fail_merge(g, key);
}

/* What one side's additionalProperties says about properties that only the other side names. */
static bool close_properties(ern_grammar *g, json_t *merged, const json_t *closed, const json_t *open) {
    const json_t *rule = json_object_get(closed, "additionalProperties"), *named = json_object_get(closed, "properties");
    json_t *properties = json_object_get(merged, "properties"), *item;
    const char *key;
    void *next;
    if (!rule || json_is_true(rule) || !json_is_object(json_object_get(open, "properties"))) return true;
    if (json_object_get(closed, "patternProperties")) return fail_merge(g, "patternProperties") != NULL;
    json_object_foreach_safe(properties, next, key, item) {
        if (json_object_get(named, key)) continue;
        json_t *both = schema_merge(g, item, rule);
        if (!both) return false;
        json_object_set_new(properties, key, both);
    }
    return true;
}

json_t *schema_merge(ern_grammar *g, const json_t *a, const json_t *b) {
    json_t *out, *item;
    const char *key;
    if (json_is_true(a) || (json_is_object(a) && json_object_size(a) == 0)) return json_incref((json_t *)(uintptr_t)b);
    if (json_is_true(b) || (json_is_object(b) && json_object_size(b) == 0)) return json_incref((json_t *)(uintptr_t)a);
    if (json_is_false(a) || json_is_false(b)) return json_false();
    if (!json_is_object(a) || !json_is_object(b)) { fail_merge(g, "schema"); return NULL; }
    /* "items" speaks of what follows the prefix of its own schema, not of the other's. */
    const bool a_has_prefix = json_object_get(a, "prefixItems"), b_has_prefix = json_object_get(b, "prefixItems");
    if (a_has_prefix != b_has_prefix && json_object_get(a_has_prefix ? b : a, "items")) return fail_merge(g, "items");
    /* Keywords that stand for themselves and cannot be merged word by word go into allOf, which is merged when met. */
    static const char *const whole[] = { "$ref", "anyOf", "oneOf" };
    out = json_object();
    if (!out) { grammar_fail(g, ERN_NOMEM, 0, 0, "no memory for a schema"); return NULL; }
    json_object_foreach((json_t *)(uintptr_t)a, key, item) json_object_set(out, key, item);
    json_object_foreach((json_t *)(uintptr_t)b, key, item) {
        const json_t *own = json_object_get(a, key);
        json_t *both = NULL;
        bool is_whole = false;
        for (size_t i = 0; i < 3; i++) is_whole = is_whole || strcmp(key, whole[i]) == 0;
        if (!own) { json_object_set(out, key, item); continue; }
        if (is_whole && !json_equal(own, item)) {
            json_t *list = json_object_get(out, "allOf");
            json_t *longer = json_is_array(list) ? json_copy(list) : json_array();
            json_array_append_new(longer, json_pack("{s:O}", key, item));
            json_object_set_new(out, "allOf", longer);
            continue;
        }
        both = merge_keyword(g, key, own, item);
        if (!both) { json_decref(out); return NULL; }
        json_object_set_new(out, key, both);
    }
    if (!close_properties(g, out, a, b) || !close_properties(g, out, b, a)) { json_decref(out); return NULL; }
    return out;
}

/* ---- disjoint branches ------------------------------------------------------------------------------ */

/* The list of values a schema allows, when it is one (const, enum); borrowed or new, the caller releases it. */
static json_t *values_of(const json_t *s) {
    const json_t *one = json_object_get(s, "const"), *many = json_object_get(s, "enum");
    if (one) return json_pack("[O]", one);
    return json_is_array(many) ? json_incref((json_t *)(uintptr_t)many) : NULL;
}

static bool types_are_disjoint(const json_t *a, const json_t *b) {
    static const char *const names[] = { "null", "boolean", "integer", "number", "string", "array", "object" };
    if (!a || !b) return false;
    for (size_t i = 0; i < 7; i++) {
        const bool is_integer = i == 2;
        if ((type_has(a, names[i]) || (is_integer && type_has(a, "number"))) &&
            (type_has(b, names[i]) || (is_integer && type_has(b, "number"))))
            return false;
    }
    return true;
}

static bool is_required(const json_t *s, const char *name) {
    const json_t *list = json_object_get(s, "required");
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
        if (json_is_string(item) && strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

bool schema_are_disjoint(const json_t *root, ern_grammar *g, const json_t *a, const json_t *b, int depth) {
    const char *key;
    json_t *item, *x, *y;
    size_t i, k;
    if (depth > 8) return false;
    if (json_is_string(json_object_get(a, "$ref")))
        a = schema_resolve(g, root, json_string_value(json_object_get(a, "$ref")));
    if (json_is_string(json_object_get(b, "$ref")))
        b = schema_resolve(g, root, json_string_value(json_object_get(b, "$ref")));
    if (!json_is_object(a) || !json_is_object(b)) return json_is_false(a) || json_is_false(b);
    if (types_are_disjoint(json_object_get(a, "type"), json_object_get(b, "type"))) return true;
    json_t *va = values_of(a), *vb = values_of(b);
    bool is_disjoint = va && vb;
    if (is_disjoint)
        json_array_foreach(va, i, x) json_array_foreach(vb, k, y) is_disjoint = is_disjoint && !json_equal(x, y);
    json_decref(va);
    json_decref(vb);
    if (is_disjoint) return true;
    /* Objects: a property that both require, with disjoint values; or one that one requires and the other forbids. */
    const json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties");
    const bool both_objects = type_has(json_object_get(a, "type"), "object") &&
        type_has(json_object_get(b, "type"), "object") &&
                              json_is_string(json_object_get(a, "type")) && json_is_string(json_object_get(b, "type"));
    if (!both_objects) return false;
    json_object_foreach((json_t *)(uintptr_t)pa, key, item) {
        const json_t *other = json_object_get(pb, key);
        if (other && is_required(a, key) && is_required(b, key) && schema_are_disjoint(root, g, item, other, depth + 1))
            return true;
        if (!other && is_required(a, key) && json_is_false(json_object_get(b, "additionalProperties"))) return true;
    }
    json_object_foreach((json_t *)(uintptr_t)pb, key, item)
        if (!json_object_get(pa, key) && is_required(b, key) &&
            json_is_false(json_object_get(a, "additionalProperties"))) return true;
    return false;
}
