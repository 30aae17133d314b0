/* Stored responses: what was said to be stored is there after the process was killed, under many threads, for its tenant. */
#include "base/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store.h"

#define N_THREADS 4
#define N_EACH 40
#define ID_BYTES 32
#define MIN_BEFORE_KILL 20

typedef struct { pthread_mutex_t lock; pthread_cond_t wake; size_t n_done, n_failed; } waiter;

static waiter waiter_new(void) { return (waiter){ PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 }; }

static void on_done(void *ctx, const ern_err *why) {
    waiter *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->n_done++;
    w->n_failed += why != NULL;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static void wait_for(waiter *w, size_t n) {
    pthread_mutex_lock(&w->lock);
    while (w->n_done < n) pthread_cond_wait(&w->wake, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static bool put(response_store *s, const char *id, const char *tenant, const char *previous, waiter *w, ern_err *e) {
    json_t *response = json_pack("{s:s, s:[{s:s, s:s}]}", "id", id, "output", "type", "message", "text", id);
    json_t *input = json_pack("[{s:s, s:s}]", "type", "question", "text", id);
    const store_entry entry = { .id = id, .tenant = tenant, .previous = previous, .created = 7, .response = response,
        .input = input };
    const bool ok = store_put(s, &entry, on_done, w, e);
    json_decref(response);
    json_decref(input);
    return ok;
}

static void temporary_path(char *out, size_t n) {
    char folder[] = "/tmp/ern-store-XXXXXX";
    assert_non_null(mkdtemp(folder));
    snprintf(out, n, "%s/responses.db", folder);
}

static void remove_all(const char *path) {
    static const char *const tails[] = { "", "-wal", "-shm" };
    char name[128];
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, tails[i]);
        unlink(name);
    }
    *strrchr(strcpy(name, path), '/') = '\0';
    rmdir(name);
}

static void check_life(const char *path) {
    ern_err e = { 0 };
    waiter w = waiter_new();
    response_store *s = store_open(path, &e);
    if (!s) fail_msg("%s", e.text);
    assert_true(put(s, "a", "t", NULL, &w, &e) && put(s, "b", "t", "a", &w, &e) && put(s, "c", "t", "b", &w, &e));
    wait_for(&w, 3);
    assert_int_equal(w.n_failed, 0);
    json_t *one = store_get(s, "b", "t", &e);
    assert_string_equal(json_string_value(json_object_get(one, "previous")), "a");
    assert_string_equal(json_string_value(json_object_get(json_object_get(one, "response"), "id")), "b");
    json_decref(one);
    json_t *chain = store_chain(s, "c", "t", &e);
    static const char *const wanted[] = { "a", "a", "b", "b", "c", "c" };
    assert_int_equal(json_array_size(chain), 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(json_string_value(json_object_get(json_array_get(chain, i), "text")), wanted[i]);
    json_decref(chain);
    assert_null(store_get(s, "a", "other", &e));            /* somebody else's */
    assert_int_equal(e.code, ERN_NOTFOUND);
    assert_false(store_delete(s, "a", "other", &e));
    assert_true(store_delete(s, "a", "t", &e));
    assert_false(store_delete(s, "a", "t", &e));
    assert_null(store_chain(s, "c", "t", &e));              /* its beginning is gone: an error, not half a conversation */
    assert_int_equal(e.code, ERN_NOTFOUND);
    store_close(s);
}

static void test_life(void **state) {
    char path[64];
    (void)state;
    temporary_path(path, sizeof path);
    check_life(path);
    check_life(NULL);
    remove_all(path);
}

/* The child says each id once it is stored, and is killed in the middle of its work. */
static void child(const char *path, int to) {
    response_store *s = store_open(path, NULL);
    waiter w = waiter_new();
    for (size_t i = 0; s; i++) {
        char id[ID_BYTES] = { 0 };
        snprintf(id, sizeof id, "r%zu", i);
        if (!put(s, id, "", NULL, &w, NULL)) break;
        wait_for(&w, i + 1);
        if (w.n_failed || write(to, id, sizeof id) != sizeof id) break;
    }
    _exit(1);
}

static void test_killed(void **state) {
    char path[64], id[ID_BYTES];
    int ends[2], status;
    ern_err e = { 0 };
    size_t n = 0;
    (void)state;
    temporary_path(path, sizeof path);
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) child(path, ends[1]);
    close(ends[1]);
    while (n < MIN_BEFORE_KILL && read(ends[0], id, sizeof id) == sizeof id) n++;
    kill(pid, SIGKILL);
    while (read(ends[0], id, sizeof id) == sizeof id) n++;
    waitpid(pid, &status, 0);
    close(ends[0]);
    assert_true(WIFSIGNALED(status));
    response_store *s = store_open(path, &e);
    if (!s) fail_msg("%s", e.text);
    for (size_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "r%zu", i);
        json_t *one = store_get(s, id, "", &e);
        if (!one) fail_msg("%s of %zu: %s", id, n, e.text);
        json_decref(one);
    }
    store_close(s);
    remove_all(path);
}

typedef struct { response_store *s; waiter *w; size_t which, n_wrong; } worker;

static void *work(void *ctx) {
    worker *k = ctx;
    char id[ID_BYTES], before[ID_BYTES] = "";
    for (size_t i = 0; i < N_EACH; i++) {
        snprintf(id, sizeof id, "t%zu-%zu", k->which, i);
        k->n_wrong += !put(k->s, id, "", *before ? before : NULL, k->w, NULL);
        json_decref(store_get(k->s, id, "", NULL));         /* there or not yet: no crash, no wait */
        memcpy(before, id, sizeof id);
    }
    return NULL;
}

static void test_together(void **state) {
    char path[64];
    waiter w = waiter_new();
    pthread_t threads[N_THREADS];
    worker workers[N_THREADS];
    (void)state;
    temporary_path(path, sizeof path);
    response_store *s = store_open(path, NULL);
    assert_non_null(s);
    for (size_t i = 0; i < N_THREADS; i++) {
        workers[i] = (worker){ s, &w, i, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    wait_for(&w, N_THREADS * N_EACH);
    assert_int_equal(w.n_failed, 0);
    for (size_t i = 0; i < N_THREADS; i++) {
        char id[ID_BYTES];
        snprintf(id, sizeof id, "t%zu-%d", i, N_EACH - 1);
        json_t *chain = store_chain(s, id, "", NULL);
        assert_int_equal(json_array_size(chain), 2 * N_EACH);
        assert_int_equal(workers[i].n_wrong, 0);
        json_decref(chain);
    }
    store_close(s);
    remove_all(path);
}

/* What was put and not yet said to be stored is stored by closing. */
static void test_close_writes(void **state) {
    char path[64];
    waiter w = waiter_new();
    (void)state;
    temporary_path(path, sizeof path);
    response_store *s = store_open(path, NULL);
    for (size_t i = 0; i < N_EACH; i++) {
        char id[ID_BYTES];
        snprintf(id, sizeof id, "r%zu", i);
        assert_true(put(s, id, "", NULL, &w, NULL));
    }
    store_close(s);
    assert_int_equal(w.n_done, N_EACH);
    s = store_open(path, NULL);
    json_t *one = store_get(s, "r39", "", NULL);
    assert_non_null(one);
    json_decref(one);
    store_close(s);
    remove_all(path);
}

static void note_cancel(void *ctx) { *(int *)ctx += 1; }

static void test_live(void **state) {
    int n = 0;
    (void)state;
    response_store *s = store_open(NULL, NULL);
    assert_true(store_begin(s, "a", "t", note_cancel, &n, NULL));
    assert_true(store_is_live(s, "a", "t"));
    assert_false(store_is_live(s, "a", "other") || store_cancel(s, "a", "other") || store_cancel(s, "b", "t"));
    assert_true(store_cancel(s, "a", "t"));
    assert_int_equal(n, 1);
    store_end(s, "a");
    assert_false(store_cancel(s, "a", "t"));
    store_close(s);
}

static void test_refused(void **state) {
    char path[64];
    ern_err e = { 0 };
    (void)state;
    temporary_path(path, sizeof path);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 2000; i++) fputs("this is no database ", f);
    fclose(f);
    assert_null(store_open(path, &e));
    assert_int_equal(e.code, ERN_IO);
    assert_null(store_open("/nowhere/at/all/responses.db", &e));
    remove_all(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life), cmocka_unit_test(test_killed), cmocka_unit_test(test_together),
        cmocka_unit_test(test_close_writes), cmocka_unit_test(test_live), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
