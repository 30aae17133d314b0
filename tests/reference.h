/* Where the reference files are: $ERN_REFERENCE, then tests/reference from the repository's root.
 *
 *     char path[REFERENCE_PATH];
 *     if (!reference_find(path, "moe/expect.json")) skip();
 */
#ifndef TESTS_REFERENCE_H
#define TESTS_REFERENCE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REFERENCE_PATH 1024

/* Some folders are too large or not ours to copy; they are read where they lie, next to the repository, when they do. */
static inline bool reference_find(char path[REFERENCE_PATH], const char *name) {
    const char *const folders[] = { getenv("ERN_REFERENCE"), "tests/reference", "../shared/reference" };
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (!folders[i]) continue;
        const int n = snprintf(path, REFERENCE_PATH, "%s/%s", folders[i], name);
        if (n > 0 && n < REFERENCE_PATH && access(path, R_OK) == 0) return true;
    }
    return false;
}

#endif
