/* Every format against the rows of quant_blocks.safetensors, bit for bit, and the float conversions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tensor/dequant.h"

#define MAX_FIXTURE (4u << 20)

typedef struct { char *data; const char *header, *body; size_t header_len, body_len; } fixture;

static FILE *open_reference(const char *name) {
    const char *dirs[] = { getenv("ERN_REFERENCE"), "tests/reference", "../shared/reference" };
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        char path[1024];
        if (!dirs[i]) continue;
        snprintf(path, sizeof path, "%s/%s", dirs[i], name);
        FILE *f = fopen(path, "rb");
        if (f) return f;
    }
    return NULL;
}

static bool read_fixture(fixture *x) {
    FILE *f = open_reference("quant_blocks.safetensors");
    if (!f) return false;
    x->data = malloc(MAX_FIXTURE);
    assert_non_null(x->data);
    const size_t n = fread(x->data, 1, MAX_FIXTURE, f);
    fclose(f);
    assert_true(n > 8 && n < MAX_FIXTURE);
    x->header_len = (size_t)read_u32((const uint8_t *)x->data);
    assert_true(x->header_len < n - 8);
    x->data[8 + x->header_len - 1] = 0;         /* the closing brace: ends every search */
    x->header = x->data + 8;
    x->body = x->header + x->header_len;
    x->body_len = n - 8 - x->header_len;
    return true;
}

/* Bytes [a, b) of "NAME.part"; false if there is none. */
static bool find(const fixture *x, const char *name, const char *part, const uint8_t **at, size_t *size) {
    char key[64];
    snprintf(key, sizeof key, "\"%s.%s\"", name, part);
    const char *p = strstr(x->header, key);
    if (!p) return false;
    p = strstr(p, "data_offsets");
    assert_non_null(p);
    p = strchr(p, '[');
    assert_non_null(p);
    char *end;
    const size_t a = strtoul(p + 1, &end, 10), b = strtoul(end + 1, NULL, 10);
    assert_true(a <= b && b <= x->body_len);
    *at = (const uint8_t *)x->body + a;
    *size = b - a;
    return true;
}

static void check_rows(const char *name, void (*to_f32)(float *, const void *, size_t), const uint8_t *raw,
                       const uint8_t *want, size_t n) {
    float *y = malloc(n * sizeof *y);
    assert_non_null(y);
    to_f32(y, raw, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t g, w;
        float f;
        memcpy(&g, &y[i], 4);
        memcpy(&w, want + 4 * i, 4);
        memcpy(&f, &w, 4);
        if (g != w && !(isnan(f) && isnan(y[i])))
            fail_msg("%s value %zu: %.9g, %.9g wanted", name, i, (double)y[i], (double)f);
    }
    free(y);
}

static void test_fixture_rows(void **state) {
    (void)state;
    fixture x = { 0 };
    if (!read_fixture(&x)) { printf("SKIP: no quant_blocks.safetensors\n"); skip(); }
    size_t n_types = 0;
    for (unsigned t = 0; t < DTYPE_COUNT; t++) {
        const ern_dtype_info *info = dtype_info((enum ern_dtype)t);
        const uint8_t *raw, *want;
        size_t raw_size, want_size;
        if (!find(&x, info->name, "raw", &raw, &raw_size) || !find(&x, info->name, "f32", &want, &want_size)) continue;
        assert_int_equal(raw_size / info->block_bytes * info->block_n, want_size / 4);
        check_rows(info->name, info->to_f32, raw, want, want_size / 4);
        n_types++;
    }
    free(x.data);
    assert_true(n_types == 25);
}

/* Packed by the reference: within half a step of what was packed, so the numbers mean the same thing. */
static void test_packed_is_near(void **state) {
    (void)state;
    fixture x = { 0 };
    if (!read_fixture(&x)) { printf("SKIP: no quant_blocks.safetensors\n"); skip(); }
    const struct { enum ern_dtype t; double limit; } cases[] = {    /* of the largest value of the tensor */
        { DTYPE_F16, 1e-3 }, { DTYPE_BF16, 8e-3 }, { DTYPE_Q8_0, 8e-3 }, { DTYPE_Q4_0, 0.14 }, { DTYPE_Q4_1, 0.08 },
        { DTYPE_Q5_0, 0.07 }, { DTYPE_Q5_1, 0.04 }, { DTYPE_MXFP4, 0.2 }, { DTYPE_TQ1_0, 0.51 }, { DTYPE_TQ2_0, 0.51 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const ern_dtype_info *info = dtype_info(cases[c].t);
        const uint8_t *packed, *want;
        size_t packed_size, want_size;
        assert_true(find(&x, info->name, "packed", &packed, &packed_size));
        assert_true(find(&x, info->name, "x", &want, &want_size));
        const size_t n = packed_size / info->block_bytes * info->block_n;
        float *y = malloc(n * sizeof *y), w, top = 0;
        assert_non_null(y);
        info->to_f32(y, packed, n);
        for (size_t i = 0; i < n; i++) { memcpy(&w, want + 4 * i, 4); top = fmaxf(top, fabsf(w)); }
        for (size_t i = 0; i < n; i++) {
            memcpy(&w, want + 4 * i, 4);
            if (fabs((double)y[i] - (double)w) > cases[c].limit * (double)top)
                fail_msg("%s value %zu: %g, packed from %g", info->name, i, (double)y[i], (double)w);
        }
        free(y);
    }
    free(x.data);
}

static void test_halves_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = f16_to_f32((uint16_t)h), b = bf16_to_f32((uint16_t)h);
        if (isnan(f)) assert_true(isnan(f16_to_f32(f32_to_f16(f))));
        else assert_int_equal(f32_to_f16(f), h);
        if (isnan(b)) assert_true(isnan(bf16_to_f32(f32_to_bf16(b))));
        else assert_int_equal(f32_to_bf16(b), h);
    }
    assert_int_equal(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);              /* ties to even */
    assert_int_equal(f32_to_f16(1.0f + 0x3p-11f), 0x3c02);
    assert_int_equal(f32_to_f16(65519.0f), 0x7bff);
    assert_int_equal(f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0);
    assert_int_equal(f32_to_f16(0x1.8p-25f), 1);
    assert_int_equal(f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
    assert_int_equal(f32_to_bf16(1.0f + 0x3p-8f), 0x3f82);
}

static void test_names_and_types(void **state) {
    (void)state;
    enum ern_dtype t = DTYPE_F32;
    ern_err e;
    assert_true(dtype_from_gguf(&t, 12, &e));
    assert_int_equal(t, DTYPE_Q4_K);
    assert_true(dtype_from_name(&t, "BF16", &e));
    assert_int_equal(t, DTYPE_BF16);
    assert_false(dtype_from_gguf(&t, 4, &e));               /* a type that was taken out of the format */
    assert_false(dtype_from_gguf(&t, UINT32_MAX, &e));      /* not the -1 of formats without an id */
    assert_false(dtype_from_name(&t, "Q9", &e));
    assert_int_equal(t, DTYPE_BF16);
    assert_null(dtype_info(DTYPE_COUNT));
    for (unsigned i = 0; i < DTYPE_COUNT; i++) assert_non_null(dtype_info((enum ern_dtype)i)->to_f32);
}

static void test_views(void **state) {
    (void)state;
    uint8_t data[2 * 34] = { 0x00, 0x3c, 5, 0xff };         /* d = 1, then 5 and -1 */
    data[34] = 0x00, data[35] = 0x40, data[36] = 3;         /* d = 2, then 3 */
    const ern_view v = { .dtype = DTYPE_Q8_0, .n_dims = 2, .dims = { 2, 32 }, .data = data, .size_bytes = sizeof data };
    float y[64];
    assert_int_equal(view_n(&v), 64);
    assert_int_equal(view_row_bytes(&v), 34);
    view_to_f32(&v, y);
    assert_true(y[0] == 5 && y[1] == -1 && y[2] == 0 && y[32] == 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture_rows), cmocka_unit_test(test_packed_is_near),
        cmocka_unit_test(test_halves_round_trip), cmocka_unit_test(test_names_and_types), cmocka_unit_test(test_views),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
