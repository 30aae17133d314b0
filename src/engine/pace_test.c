/* How many guesses: more where they are right and cheap, none where they are not, and another try later. */
#include "base/test.h"
#include "engine/pace.h"

#define MOST 16

/* Passes whose time grows by slope for each row after the first; a share of the guesses is right. The mean number of
 * guesses of the second half of them. */
static size_t settled(ern_pace *p, double slope, double draft_s, size_t right_of_10, size_t n_passes) {
    size_t n = 0, n_all = 0;
    for (size_t i = 0; i < n_passes; i++) {
        n = pace_length(p, PACE_MODEL, MOST);
        pace_drafting(p, n, draft_s * (double)n);
        pace_pass(p, n + 1, 1.0 + slope * (double)n);
        size_t right = 0;
        while (right < n && (i * 7 + right * 3) % 10 < right_of_10) right++;
        pace_outcome(p, PACE_MODEL, right + (right < n), right);
        if (i >= n_passes / 2) n_all += n;
    }
    return (n_all + n_passes / 4) / (n_passes - n_passes / 2);
}

static void test_good_guesses(void **state) {
    (void)state;
    ern_pace p = { 0 };
    assert_int_equal(settled(&p, 0.01, 0.0, 10, 100), MOST);
    p = (ern_pace){ 0 };
    assert_in_range(settled(&p, 0.05, 0.0, 7, 200), 2, 12);
}

static void test_bad_guesses(void **state) {
    (void)state;
    ern_pace p = { 0 };
    assert_int_equal(settled(&p, 0.3, 0.0, 0, 40), 0);
    size_t n_tries = 0;
    for (size_t i = 0; i < 1000; i++) {
        const size_t n = pace_length(&p, PACE_MODEL, MOST);
        n_tries += n > 0;
        pace_pass(&p, n + 1, 1.0 + 0.3 * (double)n);
        pace_outcome(&p, PACE_MODEL, n > 0, 0);
    }
    assert_in_range(n_tries, 1, 100);       /* not given up, and not paid for often */
}

static void test_costly_passes(void **state) {
    (void)state;
    ern_pace p = { 0 };
    assert_int_equal(settled(&p, 1.0, 0.0, 5, 200), 0);     /* a row costs what a pass costs */
    p = (ern_pace){ 0 };
    assert_int_equal(settled(&p, 0.0, 2.0, 9, 200), 0);     /* a guess costs two passes */
}

static void test_kinds_apart(void **state) {
    (void)state;
    ern_pace p = { 0 };
    for (size_t i = 0; i < 50; i++) {
        pace_pass(&p, 1 + i % 5, 1.0 + 0.2 * (double)(i % 5));
        pace_outcome(&p, PACE_SHORT, 1, 0);
        pace_outcome(&p, PACE_LONG, 8, 8);
    }
    assert_int_equal(pace_length(&p, PACE_SHORT, MOST), 0);
    assert_int_equal(pace_length(&p, PACE_LONG, MOST), MOST);
    assert_int_equal(pace_length(&p, PACE_LONG, 3), 3);
    assert_int_equal(pace_length(&p, PACE_LONG, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_guesses),
        cmocka_unit_test(test_bad_guesses),
        cmocka_unit_test(test_costly_passes),
        cmocka_unit_test(test_kinds_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
