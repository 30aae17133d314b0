/* Recorded arrays: a safetensors file read whole, for tests. It trusts its file; the library's reader is what tests test.
 *
 *     arrays a;
 *     if (!arrays_open(&a, path)) skip();
 *     size_t shape[4], n;
 *     const float *want = arrays_f32(&a, "p0.logits", shape, &n);      NULL: no such array
 */
#ifndef TESTS_ARRAYS_H
#define TESTS_ARRAYS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    unsigned char *data;
    const unsigned char *body;
    json_t *header;
} arrays;

static inline void arrays_close(arrays *a) {
    json_decref(a->header);
    free(a->data);
    *a = (arrays){ 0 };
}

static inline bool arrays_open(arrays *a, const char *path) {
    *a = (arrays){ 0 };
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    uint64_t n_header = 0;
    fseek(f, 0, SEEK_END);
    const long size = ftell(f);
    rewind(f);
    bool ok = size > 8 && (a->data = malloc((size_t)size)) && fread(a->data, 1, (size_t)size, f) == (size_t)size;
    fclose(f);
    if (ok) {
        memcpy(&n_header, a->data, 8);
        ok = n_header < (uint64_t)size - 8;
    }
    if (ok) {
        a->header = json_loadb((const char *)a->data + 8, (size_t)n_header, 0, NULL);
        a->body = a->data + 8 + n_header;
    }
    if (!a->header) arrays_close(a);
    return a->header != NULL;
}

/* shape: up to 4 sizes (the rest 1), n: their product; both may be NULL. The data of these files is 4-byte aligned. */
static inline const void *arrays_find(const arrays *a, const char *name, const char *dtype, size_t *shape, size_t *n) {
    const json_t *info = json_object_get(a->header, name), *sizes = json_object_get(info, "shape");
    const char *found = json_string_value(json_object_get(info, "dtype"));
    if (!found || strcmp(found, dtype) != 0) return NULL;
    size_t total = 1;
    for (size_t i = 0; i < 4; i++) {
        const size_t v = i < json_array_size(sizes) ? (size_t)json_integer_value(json_array_get(sizes, i)) : 1;
        if (shape) shape[i] = v;
        total *= v;
    }
    if (n) *n = total;
    return a->body + json_integer_value(json_array_get(json_object_get(info, "data_offsets"), 0));
}

static inline const float *arrays_f32(const arrays *a, const char *name, size_t *shape, size_t *n) {
    return arrays_find(a, name, "F32", shape, n);
}

static inline const int32_t *arrays_i32(const arrays *a, const char *name, size_t *n) {
    return arrays_find(a, name, "I32", NULL, n);
}

/* Largest |got - want| divided by the range of want. */
static inline double arrays_difference(const float *got, const float *want, size_t n) {
    double low = 0, high = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double w = want[i], d = got[i] > want[i] ? (double)got[i] - w : w - (double)got[i];
        if (i == 0 || w < low) low = w;
        if (i == 0 || w > high) high = w;
        if (!(d <= worst)) worst = d;       /* a NaN stays */
    }
    return high > low ? worst / (high - low) : worst;
}

#endif
