/* Parameters of a JSON body, strictly: each one an API knows stands in a table, what is not in it is refused by name, what
 * is in it but cannot be honoured is refused with the reason. null counts as absent.
 *
 *     struct wishes { const char *model; param_real temperature; param_flag streams; };
 *     static const param_spec table[] = {
 *         { "model", PARAM_STRING, .offset = offsetof(struct wishes, model), .help = "which model" },
 *         { "temperature", PARAM_REAL, 0, 2, .offset = ... },
 *         { "store", PARAM_FLAG, .only = "false", .why = "nothing is stored here" },
 *     };
 *     static const param_table t = { table, COUNT_OF(table) };
 *     if (!params_read(&t, body, &wishes, name, &e)) ...      name: the parameter at fault, for the reply
 *
 * The same tables write the schemas of the OpenAPI document (openapi.c). */
#ifndef SERVER_PARAMS_H
#define SERVER_PARAMS_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

/* What is stored at the offset: FLAG param_flag, INT param_int, REAL param_real, STRING const char * (NUL-free; NULL: absent),
 * OBJECT, ARRAY and unions const json_t * (NULL: absent); OBJECT with .of: nothing of its own, the members go where their
 * offsets (in the same struct) say. REFUSED: nothing, whatever is given. */
enum {
    PARAM_FLAG = 1, PARAM_INT = 2, PARAM_REAL = 4, PARAM_STRING = 8, PARAM_OBJECT = 16, PARAM_ARRAY = 32, PARAM_REFUSED = 64,
    PARAM_ANY = PARAM_FLAG | PARAM_INT | PARAM_REAL | PARAM_STRING | PARAM_OBJECT | PARAM_ARRAY
};

typedef struct { bool v, is_given; } param_flag;
typedef struct { int64_t v; bool is_given; } param_int;
typedef struct { double v; bool is_given; } param_real;

typedef struct param_table param_table;

typedef struct {
    const char *name;
    unsigned kinds;
    double low, high;           /* INT and REAL: allowed; STRING and ARRAY: length (characters, items); both 0: any */
    size_t offset;
    const char *choices;        /* STRING: "a|b|c" */
    const char *only;           /* nothing is stored; as JSON, the values that may be given: "false", "1|null" */
    const char *why;            /* of only and REFUSED: the reason of the refusal */
    const param_table *of;      /* OBJECT: its members */
    unsigned items;             /* ARRAY: what each may be; 0: anything */
    bool is_required;
    const char *help;           /* for the OpenAPI document */
} param_spec;

struct param_table {
    const param_spec *specs;
    size_t n_specs;
    const struct param_table *base;     /* more of them, or NULL */
};

#define PARAM_NAME_BYTES 128
#define PARAM_COUNT(array) (sizeof(array) / sizeof(array)[0])

/* out: the struct of the offsets, zeroed by the caller; strings and JSON in it are borrowed from body. On failure
 * name ("" when it is the body itself) is the parameter as a path: "stream_options.include_usage". ERN_ARG. */
bool params_read(const param_table *t, const json_t *body, void *out, char name[PARAM_NAME_BYTES], ern_err *e);

/* The table as a JSON Schema object (new). */
json_t *params_schema(const param_table *t);

#endif
