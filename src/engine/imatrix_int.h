/* What imatrix.c and imatrix_collect.c share. */
#ifndef ENGINE_IMATRIX_INT_H
#define ENGINE_IMATRIX_INT_H

#include "engine/imatrix.h"
#include "formats/gguf.h"
#include "formats/names.h"

#define IMATRIX_STAMP 65        /* SHA-256 in hexadecimal */

typedef struct {
    char *name;                 /* of the tensor in a GGUF file; owned */
    size_t n_mats, n_cols;
    double *sums;               /* [n_mats, n_cols]; owned */
    double *counts;             /* [n_mats] tokens seen; owned */
    float *means;               /* [n_mats, n_cols] of a file that was read; owned */
} imatrix_entry;

struct ern_imatrix {
    imatrix_entry *entries;
    size_t n, cap;
    ern_names names;            /* of the entries, sorted */
    size_t n_chunks, chunk;
    char *dataset;              /* owned */
    char stamp[IMATRIX_STAMP];  /* of the tokens; "" when the file does not say */
};

/* imatrix_read of a file that is open; path is for messages. */
ern_imatrix *imatrix_of_gguf(const ern_gguf *g, const char *path, ern_err *e);

/* A new entry of zeros, or NULL. */
imatrix_entry *imatrix_add(ern_imatrix *m, const char *name, size_t n_mats, size_t n_cols, ern_err *e);
imatrix_entry *imatrix_find(const ern_imatrix *m, const char *name);

#endif
