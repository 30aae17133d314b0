/* Chat templates: an interpreter for the Jinja that tokenizer_config.json, chat_template.jinja and GGUF files hold.
 * The rendering equals transformers' environment (trim_blocks, lstrip_blocks, loop controls, generation tag,
 * tojson without HTML escapes, strftime_now, raise_exception) byte for byte; errors carry line and column.
 */
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H

#include <jansson.h>
#include <time.h>

#include "base/buf.h"

typedef struct ern_template ern_template;

ern_template *template_parse(const char *source, size_t n, ern_err *e);
void template_free(ern_template *t);

/* Limits against templates that loop for ever; 0 means the default. */
typedef struct {
    size_t max_steps;           /* evaluated nodes, default 50 million */
    size_t max_bytes;           /* rendered bytes, default 64 MiB */
    const struct tm *now;       /* clock of strftime_now; NULL: the machine's local time */
} template_options;

/* vars: a JSON object (messages, tools, add_generation_prompt, bos_token, ...), borrowed. Appends to *out. */
bool template_render(const ern_template *t, const json_t *vars, const template_options *o, ern_buf *out, ern_err *e);

/* The template of an ERNIE 4.5 family when a folder has none: "ernie" (7.1), "ernie-vl" (7.2),
 * "ernie-vl-thinking" (7.3), "ernie-thinking" (7.4); NULL for another name. Static text. */
const char *template_builtin(const char *family);

#endif
