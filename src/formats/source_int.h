/* What the files behind source.h share. */
#ifndef FORMATS_SOURCE_INT_H
#define FORMATS_SOURCE_INT_H

#include "formats/names.h"
#include "formats/safetensors.h"
#include "formats/source.h"

#define SOURCE_MAX_EXPERTS 65536            /* in one tensor, which must hold bytes for each of them */

struct ern_source {
    char *path;
    const char *layout;
    ern_gguf *gguf;
    ern_safetensors *safetensors;       /* one of the two */
    json_t *config, *generation;
    ern_view *views;                    /* names owned */
    size_t n, cap;
    ern_names names;
    void *owned;                        /* transposed matrices of the -Paddle layout */
    bool is_mapped;                     /* the views lie in maps of files, not in borrowed bytes */
};

/* Takes g or st and the two configs (NULL allowed), also on failure; path is copied. */
ern_source *source_build(ern_safetensors *st, ern_gguf *g, json_t *config, json_t *generation, const char *path,
                         bool is_mapped,
                         ern_err *e);

/* Append v under a copy of its name. */
bool source_add(ern_source *s, const ern_view *v, ern_err *e);

/* Fill s->views from the files: one function a layout. */
bool source_from_pt(ern_source *s, ern_err *e);
bool source_from_paddle(ern_source *s, ern_err *e);
bool source_from_gguf(ern_source *s, ern_err *e);


#endif
