#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool fail_va(ern_err *e, enum ern_code code, int line, int column, const char *fmt,
                    va_list args) {
    if (!e) return false;
    char text[sizeof e->text];      /* the arguments may point into e->text itself */
    int n = vsnprintf(text, sizeof text, fmt, args);
    if (n < 0) text[0] = '\0';
    if (n >= (int)sizeof text) memcpy(text + sizeof text - 4, "...", 4);
    e->code = code;
    e->line = line;
    e->column = column;
    memcpy(e->text, text, sizeof text);
    return false;
}

bool ern_fail(ern_err *e, enum ern_code code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail_va(e, code, 0, 0, fmt, args);
    va_end(args);
    return false;
}

bool ern_fail_at(ern_err *e, enum ern_code code, int line, int column, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail_va(e, code, line, column, fmt, args);
    va_end(args);
    return false;
}

#define X(name, http, status, text) { #name, http, status },
static const struct { const char *name; int http, status; } code_facts[] = { ERN_ERR_MAP(X) };
#undef X

const char *ern_code_name(enum ern_code code) { return code_facts[code].name; }
int ern_code_http(enum ern_code code) { return code_facts[code].http; }
int ern_code_exit(enum ern_code code) { return code_facts[code].status; }
