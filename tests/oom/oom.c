/* The allocator of the oom build. ERN_FAIL_AT=N: allocation N (from 1) fails, and no other; ERN_FAIL_FROM=N: N and all after
 * it fail. ERN_OOM_COUNT=FILE: how many allocations there were, written at exit. jansson's allocations count too. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "oom.h"
#undef malloc
#undef calloc
#undef realloc
#undef posix_memalign
#undef aligned_alloc
#undef mmap

static atomic_ulong n_asked;
static unsigned long fail_at, fail_from;

/* Weak: programs without JSON do not link jansson. */
void json_set_alloc_funcs(void *(*alloc)(size_t), void (*release)(void *)) __attribute__((weak));

static unsigned long number_of(const char *name) {
    const char *v = getenv(name);
    return v ? strtoul(v, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void) {
    fail_at = number_of("ERN_FAIL_AT");
    fail_from = number_of("ERN_FAIL_FROM");
    if (json_set_alloc_funcs) json_set_alloc_funcs(oom_malloc, free);
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("ERN_OOM_COUNT");
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f) return;
    fprintf(f, "%lu\n", atomic_load(&n_asked));
    fclose(f);
}

static bool fails(void) {
    const unsigned long i = atomic_fetch_add(&n_asked, 1) + 1;
    if (i != fail_at && (fail_from == 0 || i < fail_from)) return false;
    errno = ENOMEM;
    return true;
}

void *oom_malloc(size_t n) { return fails() ? NULL : malloc(n); }
void *oom_calloc(size_t count, size_t n) { return fails() ? NULL : calloc(count, n); }
void *oom_realloc(void *p, size_t n) { return fails() ? NULL : realloc(p, n); }
int oom_posix_memalign(void **out, size_t align, size_t n) { return fails() ? ENOMEM : posix_memalign(out, align, n); }
void *oom_aligned_alloc(size_t align, size_t n) { return fails() ? NULL : aligned_alloc(align, n); }

char *oom_strdup(const char *s) { return oom_strndup(s, strlen(s)); }

char *oom_strndup(const char *s, size_t n) {
    const size_t length = strnlen(s, n);
    char *copy = fails() ? NULL : malloc(length + 1);
    if (!copy) return NULL;
    memcpy(copy, s, length);
    copy[length] = '\0';
    return copy;
}

void *oom_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off) {
    return fails() ? MAP_FAILED : mmap(at, n, prot, flags, fd, off);
}
