#include "engine/tokenizer_of.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "engine/engine.h"

static bool is_gguf(const char *path) {
    char magic[4] = { 0 };
    FILE *fp = file_is_folder(path) ? NULL : fopen(path, "rb");
    const bool is_it = fp && fread(magic, 1, sizeof magic, fp) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    if (fp) fclose(fp);
    return is_it;
}

ern_tokenizer *tokenizer_of_path(const char *path, ern_err *e) {
    if (!is_gguf(path)) return tokenizer_open(path, e);
    ern_err why = { 0 };
    ern_source *s = source_open(path, e);
    if (!s) return NULL;
    ern_tokenizer *t = engine_tokenizer(s, &why);           /* the tokenizer copies what it keeps */
    source_close(s);
    if (!t && why.code == ERN_OK) ern_fail(&why, ERN_NOTFOUND, "%s: the file holds no vocabulary", path);
    if (!t && e) *e = why;
    return t;
}
