#include "base/cursor.h"

#include <string.h>

#include "base/test.h"

static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xFF, 0xFE, 0x80, 0xAA, 0xBB, 0xCC };

static void reads_little_endian(void **state) {
    (void)state;
    ern_cursor c = { .data = bytes, .size = sizeof bytes, .name = "f" };
    uint8_t a;
    uint16_t b = 0;
    uint32_t d = 0;
    uint64_t q = 0;
    assert_true(cursor_u8(&c, &a, NULL) && cursor_u16(&c, &b, NULL) && cursor_u32(&c, &d, NULL) && cursor_u64(&c, &q, NULL));
    assert_int_equal(a, 1);
    assert_int_equal(b, 0x0302);
    assert_int_equal(d, 0x07060504);
    assert_true(q == UINT64_C(0xCCBBAA80FEFF0908));
    assert_int_equal(c.pos, sizeof bytes);
}

/* At every position every read that does not fit fails and changes nothing. */
static void never_reads_past_the_end(void **state) {
    (void)state;
    for (size_t size = 0; size <= 9; size++)
        for (size_t pos = 0; pos <= size; pos++) {
            ern_cursor c = { .data = bytes, .size = size, .pos = pos, .name = "some file" };
            ern_err e = { 0 };
            uint64_t q = 77;
            uint32_t d = 77;
            const uint8_t *p = NULL;
            assert_true(cursor_u64(&c, &q, &e) == (size - pos >= 8));
            c.pos = pos;
            assert_true(cursor_u32(&c, &d, &e) == (size - pos >= 4));
            if (size - pos < 4) assert_int_equal(d, 77);
            c.pos = pos;
            assert_false(cursor_bytes(&c, size - pos + 1, &p, &e));
            assert_false(cursor_bytes(&c, SIZE_MAX, &p, &e));
            assert_int_equal(c.pos, pos);
            assert_null(p);
            assert_int_equal(e.code, ERN_FORMAT);
            assert_non_null(strstr(e.text, "some file"));
            assert_true(cursor_bytes(&c, size - pos, &p, NULL));
            assert_ptr_equal(p, bytes + pos);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(reads_little_endian), cmocka_unit_test(never_reads_past_the_end) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
