/* Chat templates: an interpreter for the Jinja that tokenizer_config.json, chat_template.jinja and GGUF files hold.
 * The rendering equals transformers' environment (trim_blocks, lstrip_blocks, loop controls, generation tag, immutable
 * sandbox, tojson without HTML escapes, strftime_now, raise_exception) byte for byte; errors carry line and column.
 *
 *     ern_template *t = template_parse(source, strlen(source), &e);
 *     ern_buf out = { .max = 1 << 20 };
 *     if (!t || !template_render(t, vars, NULL, &out, &e)) ...
 *
 * A template is immutable after parse and may be rendered by many threads at once. An error of the template has code
 * ERN_TEMPLATE and the text "template line 3, column 7: UndefinedError: ..."; raise_exception's text comes as it is.
 * What would take too long or too much memory ends in ERN_LIMIT.
 */
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H

#include <jansson.h>
#include <time.h>

#include "base/buf.h"

typedef struct ern_template ern_template;

ern_template *template_parse(const char *source, size_t n, ern_err *e);
void template_free(ern_template *t);

/* What one {% generation %} block wrote: [from, to) in bytes and in characters (code points) of the rendering. */
typedef struct { size_t from_byte, to_byte, from_char, to_char; } template_span;
typedef struct { template_span *span; size_t n, cap; } template_spans;
void template_spans_deinit(template_spans *s);

/* Limits against templates that loop for ever; 0 means the default. */
typedef struct {
    size_t max_steps;           /* evaluated nodes, default 50 million */
    size_t max_bytes;           /* rendered bytes, default 64 MiB */
    const struct tm *now;       /* clock of strftime_now; NULL: the machine's local time */
    size_t max_memory;          /* bytes of all values made on the way, default 1 GiB */
    template_spans *spans;      /* filled (appended to) when not NULL; untouched on failure */
} template_options;

/* vars: a JSON object (messages, tools, add_generation_prompt, bos_token, ...), borrowed. Appends to *out. */
bool template_render(const ern_template *t, const json_t *vars, const template_options *o, ern_buf *out, ern_err *e);

/* One line of a file of cases, as `ernie render --jsonl` reads it. Its "template" is rendered with the members of "vars",
 * then "messages", "tools", "documents" and "add_generation_prompt" of the line itself where they are there (null counts:
 * a template sees none), then the members of "kwargs". "clock" ("2025-07-04T09:05:06") is the time strftime_now sees.
 * *result (the caller's to decref) becomes {"rendered": text}, and with "messages" in the line and a generation block in
 * the template "spans": [[from, to], ...] in characters; or {"error": ..., "detail": ..., "line": n, "column": n}: error
 * is raise_exception's text, or "template error: CLASS" with the class Python raises. False: the line itself is wrong, or
 * there is no memory. */
bool template_render_case(const json_t *line, const template_options *o, json_t **result, ern_err *e);

/* The template of an ERNIE 4.5 family when a folder has none: "ernie" (7.1), "ernie-vl" (7.2),
 * "ernie-vl-thinking" (7.3), "ernie-thinking" (7.4); NULL for another name. Static text. */
const char *template_builtin(const char *family);

#endif
