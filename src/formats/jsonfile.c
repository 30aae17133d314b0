#include "formats/jsonfile.h"

#include "base/buf.h"
#include "base/file.h"

json_t *jsonfile_parse(const char *text, size_t n, const char *what, ern_err *e) {
    json_error_t where;
    json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (!json) {
        /* When memory ends inside the parser it often says nothing at all. */
        if (json_error_code(&where) == json_error_out_of_memory || !where.text[0]) ern_fail(e, ERN_NOMEM,
            "%s: no memory for the JSON", what);
        else ern_fail_at(e, ERN_FORMAT, where.line, where.column, "%s: line %d, column %d: %s", what, where.line,
                         where.column, where.text);
        return NULL;
    }
    if (json_is_object(json)) return json;
    json_decref(json);
    ern_fail(e, ERN_FORMAT, "%s: a JSON object wanted", what);
    return NULL;
}

json_t *jsonfile_read(const char *path, size_t max_bytes, ern_err *e) {
    ern_buf b = { .max = max_bytes };
    json_t *json = NULL;
    if (file_read(&b, path, max_bytes, e)) json = jsonfile_parse(b.data ? b.data : "", b.len, path, e);
    buf_deinit(&b);
    return json;
}
