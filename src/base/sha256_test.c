#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/sha256.h"

/* FIPS 180-4 examples, and sizes about the block border by sha256sum(1). */
static const struct { const char *unit; size_t times; const char *sum; } cases[] = {
    { "", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    { "a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
    { "a", 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318" },
    { "a", 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a" },
    { "a", 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb" },
    { "a", 65, "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0" },
};

static void sums(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ern_sha256 s;
        char sum[65];
        sha256_begin(&s);
        for (size_t n = 0; n < cases[i].times; n++) sha256_add(&s, cases[i].unit, strlen(cases[i].unit));
        sha256_hex(&s, sum);
        assert_string_equal(sum, cases[i].sum);
    }
}

/* Whatever the pieces, the sum is the same. */
static void pieces(void **state) {
    (void)state;
    uint8_t data[300];
    char whole[65], cut[65];
    ern_sha256 s;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    sha256_begin(&s);
    sha256_add(&s, data, sizeof data);
    sha256_hex(&s, whole);
    for (size_t piece = 1; piece < 130; piece++) {
        sha256_begin(&s);
        for (size_t at = 0; at < sizeof data; at += piece)
            sha256_add(&s, data + at, sizeof data - at < piece ? sizeof data - at : piece);
        sha256_hex(&s, cut);
        assert_string_equal(whole, cut);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(sums), cmocka_unit_test(pieces) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
