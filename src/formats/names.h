/* A set of names with the index each stands for. Sorted once and searched by halves: no input makes it slow, as
 * colliding names would make a hash table. */
#ifndef FORMATS_NAMES_H
#define FORMATS_NAMES_H

#include "base/err.h"

typedef struct { const char *name; size_t i; } names_entry;
typedef struct { names_entry *at; size_t n, cap; } ern_names;      /* the names are borrowed */

bool names_add(ern_names *s, const char *name, size_t i, ern_err *e);
const char *names_sort(ern_names *s);           /* call once after the last add; NULL or a name that came twice */
bool names_find(const ern_names *s, const char *name, size_t *i);
void names_deinit(ern_names *s);

#endif
