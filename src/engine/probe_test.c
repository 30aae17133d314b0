#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/probe.h"

static void measures(void **state) {
    (void)state;
    ern_kernels k;
    unsigned mask;
    double bytes = 0.0;
    ern_pool *pool = pool_open(1, NULL);
    assert_non_null(pool);
    assert_true(cpu_mask_from_name(&mask, "auto", NULL));
    kernels_init(&k, mask);
    static const enum ern_dtype types[] = { DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_K };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        probe_speed speed = { 0 };
        ern_err e = { 0 };
        assert_true(probe_type(&k, pool, types[i], 1000, &speed, &e));         /* taken up to whole blocks */
        assert_true(speed.decode_bytes > 1e6 && speed.prefill_macs > 1e6);
    }
    assert_true(probe_read(pool, &bytes, NULL) && bytes > 1e6);
    pool_close(pool);
}

static void refuses(void **state) {
    (void)state;
    ern_kernels k;
    ern_err e = { 0 };
    probe_speed speed = { 7.0, 7.0 };
    ern_pool *pool = pool_open(1, NULL);
    kernels_init(&k, 0);
    assert_false(probe_type(&k, pool, DTYPE_F32, (size_t)1 << 20, &speed, &e));
    assert_int_equal(e.code, ERN_LIMIT);
    assert_true(speed.decode_bytes == 7.0);
    pool_close(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(measures), cmocka_unit_test(refuses) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
