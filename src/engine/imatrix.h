/* Importance matrices: how strongly each input column of each matrix is used, as the sum of squared activations over a text.
 *
 *     ern_imatrix *m = imatrix_collect(eng, ids, n, &options, &e);
 *     imatrix_write(m, "model.imatrix.gguf", &e);
 *     ...
 *     ern_imatrix *m = imatrix_read("model.imatrix.gguf", &e);
 *     const float *w = imatrix_mean(m, "blk.3.ffn_down_exps.weight", 7, n_columns);
 *     imatrix_close(m);
 *
 * The file is llama.cpp's GGUF form (FORMATS.md): both programs read each other's.
 */
#ifndef ENGINE_IMATRIX_H
#define ENGINE_IMATRIX_H

#include "ern.h"

typedef struct ern_imatrix ern_imatrix;

ern_imatrix *imatrix_read(const char *path, ern_err *e);
bool imatrix_write(const ern_imatrix *m, const char *path, ern_err *e);
void imatrix_close(ern_imatrix *m);

size_t imatrix_n(const ern_imatrix *m);                 /* tensors; a stack of experts is one */
size_t imatrix_n_chunks(const ern_imatrix *m);
const char *imatrix_dataset(const ern_imatrix *m);      /* "" when the file does not say */
/* Columns and matrices of a tensor; false: it is not there. */
bool imatrix_shape(const ern_imatrix *m, const char *gguf_name, size_t *n_mats, size_t *n_columns);

/* Mean squared activation [n_columns] of expert i (0 for a plain matrix); NULL: not there, another width, or never used. */
const float *imatrix_mean(const ern_imatrix *m, const char *gguf_name, size_t i, size_t n_columns);

typedef struct {
    size_t chunk;               /* tokens that a context holds, at least 1; 0: 512 */
    size_t max_chunks;          /* 0: all whole ones of the text (a shorter text is one) */
    const char *dataset;        /* name kept in the file, or NULL */
    const char *save_path;      /* saved here every save_every_s seconds and when stopped; NULL: never */
    double save_every_s;
    ern_progress_fn progress;   /* tokens; false stops */
    void *ctx;
    bool resumes;               /* go on from save_path where it holds the beginning of the same work */
    size_t *n_resumed;          /* chunks that save_path already held; may be NULL */
} imatrix_options;

ern_imatrix *imatrix_collect(ern_engine *eng, const int32_t *ids, size_t n, const imatrix_options *o, ern_err *e);

#endif
