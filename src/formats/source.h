/* An opened model: its tensors under the canonical -PT names of MODEL.md, whatever the files are.
 * Folder with safetensors (single or sharded; -PT or -Paddle names), one .safetensors, one GGUF (single or split).
 *
 * GGUF names become canonical names (blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight; a stack of experts
 * [E,F,D] becomes E views ...mlp.experts.7.gate_proj.weight). -Paddle matrices are split and transposed once, at open, into
 * memory the source owns. All other views point into the read-only map. dims are row-major: weight [out, in].
 */
#ifndef FORMATS_SOURCE_H
#define FORMATS_SOURCE_H

#include <jansson.h>

#include "formats/gguf.h"
#include "tensor/dtype.h"

typedef struct ern_source ern_source;

ern_source *source_open(const char *path, ern_err *e);
void source_close(ern_source *s);

const ern_view *source_find(const ern_source *s, const char *canonical_name);  /* NULL: not there; hashed */
size_t source_n(const ern_source *s);
const ern_view *source_at(const ern_source *s, size_t i);

const json_t *source_config(const ern_source *s);       /* config.json, or NULL for GGUF */
const json_t *source_generation(const ern_source *s);   /* generation_config.json, or NULL */
const ern_gguf *source_gguf(const ern_source *s);       /* NULL unless GGUF */
const char *source_path(const ern_source *s);           /* as given */
const char *source_layout(const ern_source *s);         /* "PT", "Paddle" or "GGUF" */

/* Drop the pages under v from this process; they are read again when touched. */
void source_release(const ern_source *s, const ern_view *v);
/* The pages under v will be touched soon: read ahead. */
void source_fetch(const ern_source *s, const ern_view *v);

size_t source_size_bytes(const ern_source *s);          /* all tensors */

#endif
