#include "server/wire.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/buf.h"

const char **wire_strings(const json_t *list, const char *name, size_t *n, ern_err *e) {
    const size_t count = json_is_string(list) ? 1 : json_array_size(list);
    const char **out = mem_zalloc(count + 1, sizeof *out, name, e);
    for (size_t i = 0; out && i < count; i++) {
        const json_t *v = json_is_string(list) ? list : json_array_get(list, i);
        const char *text = json_string_value(v);
        if (text && strlen(text) == json_string_length(v)) { out[i] = text; continue; }
        ern_fail(e, ERN_ARG, "%s[%zu]: a string without NUL characters wanted", name, i);
        free(out);
        return NULL;
    }
    *n = count;
    return out;
}

char *wire_arguments(const char *text) {
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    json_t *object = json_is_object(v) ? json_incref(v) : v ? json_pack("{s:O}", "arguments", v)
                     : json_pack("{s:s}", "arguments", text);
    char *out = json_is_object(v) ? mem_strndup(text, strlen(text), NULL) : object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    json_decref(v);
    return out;
}

bool wire_effort(const char *name, size_t *budget) {
    static const struct { const char *name; size_t budget; } efforts[] = {
        { "none", 0 }, { "minimal", 256 }, { "low", 1024 }, { "medium", 4096 }, { "high", SIZE_MAX }, { "xhigh", SIZE_MAX },
        { "max", SIZE_MAX },
    };
    for (size_t i = 0; i < sizeof efforts / sizeof efforts[0]; i++)
        if (strcmp(efforts[i].name, name) == 0) {
            *budget = efforts[i].budget;
            return true;
        }
    return false;
}

uint64_t wire_seed(void) {
    uint64_t seed;
    return getrandom(&seed, sizeof seed, 0) == sizeof seed ? seed : (uint64_t)(wire_now() * 1e6);
}

double wire_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void wire_time(double seconds_since_1970, char out[WIRE_TIME_BYTES]) {
    const time_t whole = (time_t)floor(seconds_since_1970);
    const int micro = (int)((seconds_since_1970 - (double)whole) * 1e6);
    struct tm tm;
    char date[24];
    gmtime_r(&whole, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, WIRE_TIME_BYTES, "%s.%06dZ", date, micro);
}
