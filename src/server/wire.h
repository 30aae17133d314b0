/* Small things that several wire formats have in common. */
#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H

#include <jansson.h>

#include "base/err.h"

/* The strings of a list (or the one string it is), NULL-terminated; they stay the JSON's. Caller frees the array.
 * NULL with e filled: something else stands in it. */
const char **wire_strings(const json_t *list, const char *name, size_t *n, ern_err *e);

/* Arguments of a call as the text of a JSON object: what is none becomes {"arguments": ...}. Caller frees; NULL: no
 * memory. */
char *wire_arguments(const char *text);

/* How much to think ("none", "minimal", "low", "medium", "high" and above) as most tokens of reasoning; false: no such
 * word. */
bool wire_effort(const char *name, size_t *budget);
uint64_t wire_seed(void);       /* of a request that gives none */

#define WIRE_TIME_BYTES 40
/* Now, or any time: "2026-01-31T12:00:00.123456Z". */
void wire_time(double seconds_since_1970, char out[WIRE_TIME_BYTES]);
double wire_now(void);          /* seconds since 1970 */

#endif
