/* What the files behind convert.h share: a plan of the tensors to write, and where each comes from. */
#ifndef ENGINE_CONVERT_INT_H
#define ENGINE_CONVERT_INT_H

#include "base/pool.h"
#include "engine/convert.h"

typedef struct {
    char *name;                 /* owned */
    enum ern_dtype dtype;       /* in the output */
    unsigned n_dims;
    size_t dims[ERN_MAX_DIMS];
    size_t first, n_parts;      /* of plan->parts: written one after the other */
    bool is_transposed;         /* the rows of all parts together become columns */
    unsigned channel_bits;      /* 8 or 4: the codes of a matrix, or where dtype is F32 their scales; 0: neither */
    size_t heads;               /* > 0: the rows of each head are regrouped, (i, i + d/2) <-> (2i, 2i + 1) */
} convert_tensor;

typedef struct {
    const char *name;           /* path of the source, or of a model that has none */
    const ern_source *source;
    const ern_config *config;   /* NULL where no GGUF file is on either side */
    const convert_options *o;
    convert_report *report;
    enum ern_dtype asked;       /* DTYPE_COUNT: keep */
    enum ern_dtype narrow;      /* from GGUF: type that vectors return to where it holds them exactly; or DTYPE_COUNT */
    bool is_vision;             /* the model has vision experts */
    convert_tensor *tensors;
    size_t n, cap;
    ern_view *parts;
    size_t n_parts, parts_cap;
    float *rope_factors;        /* [head_dim / 2] of llama3 scaling, or NULL; owned */
    ern_pool *pool;
} convert_plan;

bool convert_plan_make(convert_plan *p, ern_err *e);
void convert_plan_deinit(convert_plan *p);

bool convert_is_float(enum ern_dtype t);        /* a number format that can be turned into another */

/* Give the bytes of one tensor of the plan to sink, in order. */
typedef bool (*convert_sink)(void *ctx, const void *bytes, size_t n, ern_err *e);
bool convert_emit(convert_plan *p, const convert_tensor *t, convert_sink sink, void *ctx, ern_err *e);

/* Keys of a GGUF file: from the config, or copied when the source is one. folder: where the tokenizer files are. */
bool convert_gguf_keys(ern_gguf_writer *w, const convert_plan *p, const char *folder, ern_err *e);

/* The first of them: what the model is, from config, name and the types of the tensors. */
bool convert_model_keys(ern_gguf_writer *w, const convert_plan *p, ern_err *e);

/* config.json, generation_config.json and tokenizer files in folder out; in is the folder they are copied from. */
bool convert_side_files(const convert_plan *p, const char *in, const char *out, ern_err *e);

/* llama3 scaling as one divisor a pair [head_dim / 2], as GGUF files hold it. */
void convert_rope_factors(const ern_config *c, float *out);

/* Append a line to the notes. */
bool convert_note(convert_report *r, ern_err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
