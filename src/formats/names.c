#include "formats/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

bool names_add(ern_names *s, const char *name, size_t i, ern_err *e) {
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 64;
        names_entry *at = mem_grow(s->at, cap, sizeof *at, "table of names", e);
        if (!at) return false;
        s->at = at;
        s->cap = cap;
    }
    s->at[s->n++] = (names_entry){ name, i };
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const names_entry *)a)->name, ((const names_entry *)b)->name);
}

const char *names_sort(ern_names *s) {
    if (s->n) qsort(s->at, s->n, sizeof *s->at, by_name);
    for (size_t i = 1; i < s->n; i++)
        if (strcmp(s->at[i - 1].name, s->at[i].name) == 0) return s->at[i].name;
    return NULL;
}

bool names_find(const ern_names *s, const char *name, size_t *i) {
    const names_entry key = { name, 0 };
    const names_entry *found = s->n ? bsearch(&key, s->at, s->n, sizeof *s->at, by_name) : NULL;
    if (found && i) *i = found->i;
    return found != NULL;
}

void names_deinit(ern_names *s) {
    free(s->at);
    *s = (ern_names){ 0 };
}
