/* The part of cmocka that the kernels' tests use, for targets whose cmocka is not installed: one test after the other, and a
 * failed one ends the program. Found instead of the real header by -Itests/arm alone. */
#ifndef TESTS_ARM_CMOCKA_H
#define TESTS_ARM_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest { const char *name; void (*run)(void **state); };
#define cmocka_unit_test(f) { #f, f }

static inline jmp_buf *mini_skip(void) {
    static jmp_buf to;
    return &to;
}

static inline int mini_run(const struct CMUnitTest *tests, size_t n) {
    volatile size_t n_skipped = 0;
    for (volatile size_t i = 0; i < n; i = i + 1) {
        void *state = NULL;
        if (setjmp(*mini_skip()) == 0) {
            tests[i].run(&state);
            printf("ok %zu - %s\n", i + 1, tests[i].name);
        } else {
            printf("not ok %zu # SKIP %s\n", i + 1, tests[i].name);
            n_skipped = n_skipped + 1;
        }
        fflush(stdout);
    }
    return n_skipped == n ? 77 : 0;
}
#define cmocka_run_group_tests(tests, setup, teardown) mini_run(tests, sizeof(tests) / sizeof *(tests))

#define skip() longjmp(*mini_skip(), 1)
#define fail_msg(...)                                                                   \
    do {                                                                                \
        printf("%s:%d: ", __FILE__, __LINE__);                                          \
        printf(__VA_ARGS__);                                                            \
        printf("\nnot ok\n");                                                           \
        exit(1);                                                                        \
    } while (0)
#define assert_true(x) do { if (!(x)) fail_msg("%s", #x); } while (0)
#define assert_false(x) assert_true(!(x))
#define assert_null(x) assert_true((x) == NULL)
#define assert_non_null(x) assert_true((x) != NULL)
#define assert_int_equal(a, b) assert_true((long long)(a) == (long long)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

#endif
