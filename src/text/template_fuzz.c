/* Any bytes as a template: parse, render with small variables and low limits; and as variables of a fixed template. */
#include <stdint.h>

#include "text/template.h"

static const char vars_text[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi 你\"}, {\"role\": \"assistant\", \"content\": null, "
    "\"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5]}}}]}], "
    "\"tools\": [{\"a\": 1}], \"x\": 3, \"s\": \"a,b\"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const template_options o = { .max_steps = 50000, .max_bytes = 100000, .max_memory = 4 << 20 };
    ern_err e = { 0 };
    ern_buf out = { 0 };
    ern_template *t = template_parse((const char *)data, size, &e);
    if (!t) return 0;
    json_t *vars = json_loads(vars_text, 0, NULL);
    if (vars) template_render(t, vars, &o, &out, &e);
    json_decref(vars);
    buf_deinit(&out);
    template_free(t);
    return 0;
}
