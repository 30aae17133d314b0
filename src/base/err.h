/* Errors: every function that can fail ends with "return ern_fail(e, ERN_FORMAT, ...)".
 * The struct itself is public (ern.h); the caller owns it, NULL means "not interested". */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "ern.h"

/* Fill *e (may be NULL) and return false. A longer text is cut to the field, ending in "...". */
bool ern_fail(ern_err *e, enum ern_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with a place in the input: line and column count from 1. */
bool ern_fail_at(ern_err *e, enum ern_code code, int line, int column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Short name of a code ("FORMAT"), HTTP status and exit status. */
const char *ern_code_name(enum ern_code code);
int ern_code_http(enum ern_code code);
int ern_code_exit(enum ern_code code);

#endif
