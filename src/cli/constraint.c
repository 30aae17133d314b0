/* What an answer may look like, from the options of run and chat. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/language.h"

#define MAX_GRAMMAR_BYTES ((size_t)16 << 20)

/* A file, or the text itself when it begins like one of its kind. */
static bool read_text(ern_buf *out, const char *given, bool is_json, ern_err *e) {
    const char *p = given;
    while (*p == ' ' || *p == '\n' || *p == '\t') p++;
    if (is_json && (*p == '{' || strcmp(p, "true") == 0)) return buf_str(out, given, e);
    return file_read(out, given, MAX_GRAMMAR_BYTES, e);
}

static bool read_choices(ern_buf *out, const arg_texts *list, ern_err *e) {
    json_t *array = json_array();
    for (size_t i = 0; i < list->n; i++) json_array_append_new(array, json_string(list->item[i]));
    char *text = json_array_size(array) == list->n ? json_dumps(array, 0) : NULL;
    json_decref(array);
    const bool ok = text ? buf_str(out, text, e) : ern_fail(e, ERN_ARG, _("--choice: a text that is no valid UTF-8"));
    free(text);
    return ok;
}

bool cli_constraint(ern_constraint **out, ern_engine *eng, const cli_sampling *o, ern_err *e) {
    ern_buf text = { .max = MAX_GRAMMAR_BYTES };
    const char *kind = o->schema ? "schema" : o->regex ? "regex" : o->grammar ? "gbnf" : o->choices.n ? "choice" : "json";
    const int n = (o->schema != NULL) + (o->regex != NULL) + (o->grammar != NULL) + (o->choices.n > 0) + o->is_json_object;
    bool ok = true;
    *out = NULL;
    if (n == 0) return true;
    if (n > 1)
        return ern_fail(e, ERN_ARG, _("--schema, --json-object, --regex, --grammar and --choice: found %d of them, at most one "
                                      "wanted"), n);
    if (o->schema) ok = read_text(&text, o->schema, true, e);
    else if (o->grammar) ok = read_text(&text, o->grammar, false, e);
    else if (o->regex) ok = buf_str(&text, o->regex, e);
    else if (o->choices.n) ok = read_choices(&text, &o->choices, e);
    if (ok) ok = (*out = ern_constraint_open(eng, kind, text.data, text.len, e)) != NULL;
    buf_deinit(&text);
    return ok;
}
