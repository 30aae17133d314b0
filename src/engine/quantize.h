/* `ernie quantize`: a model into a GGUF file of fewer bits, tensor by tensor.
 *
 *     quantize_options o = { .type = "Q4_K_M", .imatrix = "model.imatrix.gguf" };
 *     ok = quantize_model("ERNIE-4.5-21B-A3B-PT", "model.Q4_K_M.gguf", &o, &report, &e);
 *
 * A recipe gives each matrix its type by what it does (quantize.c lists them); routers, correction biases and norms stay
 * F32. Rows that a type cannot cut into its blocks fall back to a type that can, with a note. Memory: a few chunks of rows,
 * however large the model is.
 */
#ifndef ENGINE_QUANTIZE_H
#define ENGINE_QUANTIZE_H

#include "engine/convert.h"

typedef struct {
    const char *type;           /* a recipe (Q4_K_M, ...) or a number format (Q5_0, MXFP4, BF16, ...); any case */
    const char *imatrix;        /* file of imatrix.h, or NULL */
    const char *const *overrides;       /* [n_overrides] "PATTERN=TYPE": a glob of GGUF names, or a part of them */
    size_t n_overrides;
    bool keeps_output;          /* output and token embedding stay as they are */
    bool is_pure;               /* every matrix gets the type itself */
    size_t n_threads;           /* 0: every core */
    ern_progress_fn progress;   /* bytes written and in all; false stops */
    void *progress_ctx;
} quantize_options;

/* report may be NULL. */
bool quantize_model(const char *in, const char *out, const quantize_options *o, convert_report *report, ern_err *e);

/* What a recipe or format gives a matrix, for other writers of models. name: in GGUF files. */
typedef struct quantize_recipe quantize_recipe;
const quantize_recipe *quantize_recipe_find(const char *name);          /* NULL: there is none */
size_t quantize_n_recipes(void);
const char *quantize_recipe_name(const quantize_recipe *r);
const quantize_recipe *quantize_recipe_at(size_t i);
int quantize_file_type(const quantize_recipe *r);       /* general.file_type */
enum ern_dtype quantize_type_of(const quantize_recipe *r, const ern_config *c, bool is_tied, bool has_importance,
                                const char *name);
/* The nearest type whose blocks divide rows of n values: t itself, a 32-block type, or F16. */
enum ern_dtype quantize_fallback(enum ern_dtype t, size_t n);

#endif
