#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Messages are UTF-8 whatever was put into them: bytes of a name that is none, or of a text cut by a precision, become '?'. */
static void make_valid(char *text) {
    int32_t cp;
    for (size_t n = strlen(text); n > 0;) {
        const size_t used = utf8_decode(text, n, &cp);
        if (cp < 0) memset(text, '?', used);
        text += used;
        n -= used;
    }
}

static bool fail_va(ern_err *e, enum ern_code code, int line, int column, const char *fmt,
                    va_list args) {
    if (!e) return false;
    char text[sizeof e->text];      /* the arguments may point into e->text itself */
    int n = vsnprintf(text, sizeof text, fmt, args);
    if (n < 0) text[0] = '\0';
    if (n >= (int)sizeof text) {
        size_t cut = sizeof text - 4;       /* at the beginning of a character: messages are UTF-8 */
        while (cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80) cut--;
        memcpy(text + cut, "...", 4);
    }
    make_valid(text);
    e->code = code;
    e->line = line;
    e->column = column;
    memcpy(e->text, text, strlen(text) + 1);
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

/* A code from elsewhere (a file, another version) must not read past the table: it counts as an I/O failure. */
static size_t fact_of(enum ern_code code) {
    return (size_t)code < sizeof code_facts / sizeof code_facts[0] ? (size_t)code : (size_t)ERN_IO;
}

const char *ern_code_name(enum ern_code code) { return code_facts[fact_of(code)].name; }
int ern_code_http(enum ern_code code) { return code_facts[fact_of(code)].http; }
int ern_code_exit(enum ern_code code) { return code_facts[fact_of(code)].status; }
