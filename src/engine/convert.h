/* A model from one layout into another: -PT folder, -Paddle folder, GGUF file, any to any.
 *
 *     convert_options o = { .to = CONVERT_GGUF, .dtype = "Q8_0" };
 *     convert_report r = { 0 };
 *     ok = convert_model("ERNIE-4.5-0.3B-PT", "out.gguf", &o, &r, &e);
 *     puts(r.notes.data ? r.notes.data : "");
 *     convert_report_deinit(&r);
 *
 * Nothing is rounded unless dtype asks for it. The output appears whole or not at all; a folder that already holds files
 * is refused, a file is replaced. Tokenizer and templates go along: files as they are from folder to folder, as metadata
 * into GGUF, and written anew from GGUF.
 */
#ifndef ENGINE_CONVERT_H
#define ENGINE_CONVERT_H

#include "base/buf.h"
#include "formats/gguf_write.h"
#include "formats/source.h"
#include "model/config.h"

enum convert_layout { CONVERT_PT, CONVERT_PADDLE, CONVERT_GGUF };

bool convert_layout_from_name(enum convert_layout *out, const char *name, ern_err *e);      /* "PT", "Paddle", "GGUF" */

/* A matrix about to be written; all borrowed. */
typedef struct {
    const ern_config *config;
    const ern_source *source;
    const ern_view *view;       /* under its canonical name; of a stack of experts the first */
    const char *name;           /* in the output */
} convert_matrix;

/* What quantize.h decides a matrix at a time. Routers, norms and biases never come here. */
typedef struct {
    bool (*type_of)(void *ctx, const convert_matrix *m, enum ern_dtype *t, ern_err *e);     /* *t: as it would be */
    /* importance [n_columns] of part i of n_parts of a tensor, or NULL; for packing in block types */
    const float *(*importance_of)(void *ctx, const char *name, size_t i);
    bool (*keys)(void *ctx, ern_gguf_writer *w, ern_err *e);        /* the last keys of a GGUF file */
    void *ctx;
    unsigned channel_bits;      /* 8 or 4 in a -PT folder: integers with one scale an output (FORMATS.md); 0: no */
    int file_type;              /* general.file_type; -1: that of the type with the most bytes */
} convert_choice;

typedef struct {
    enum convert_layout to;
    const char *dtype;          /* of the matrices: NULL or "keep", "F32", "F16", "BF16", or a block type (GGUF only) */
    uint64_t max_shard_bytes;   /* of folders; 0: 5 GB */
    size_t n_threads;           /* 0: every core */
    const convert_choice *choice;           /* NULL: dtype for every matrix */
    ern_progress_fn progress;   /* bytes written and in all; false stops; may be NULL */
    void *progress_ctx;
} convert_options;

typedef struct {
    size_t n_tensors, n_rounded, n_dropped;     /* written; written with a loss; left out */
    uint64_t size_bytes;                        /* of the tensors written */
    ern_buf notes;                              /* a line for everything the user should know; owned */
} convert_report;

void convert_report_deinit(convert_report *r);

/* report may be NULL. */
bool convert_model(const char *in, const char *out, const convert_options *o, convert_report *report, ern_err *e);

#endif
