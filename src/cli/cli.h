/* What the command files share: translation, the option groups for models and sampling, errors, output. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <libintl.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/args.h"
#include "ern.h"

#define _(text) gettext(text)
#define N_(text) text
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* ---- errors ---- */

int cli_fail(const ern_err *e);                 /* "ernie: text" on stderr; the exit status */
int cli_finish(int status);                     /* flush stdout; a full disk or closed pipe becomes an exit status */

/* ---- models ---- */

typedef struct {
    arg_count threads, ctx;
    const char *cpu, *kv, *template_path;
    bool is_exact, is_fast;
} cli_model;

#define CLI_CPU_CHOICES "auto|scalar|avx2|avxvnni|avx512f|avx512|amx|neon|dotprod|i8mm"
#define CLI_KV_CHOICES "f16|bf16|f32|q8|q4"
#define CLI_KV_HELP \
    N_("how keys and values are kept: f16, bf16, f32, q8, q4, or keys and values apart like q8:f16; f16 otherwise")

extern const arg_group cli_model_group;         /* --threads --cpu --exact --ctx --kv --template */
extern const arg_group cli_compute_group;       /* the same without --ctx --kv --template */

/* Options of ern_engine_open; *template_text (free) holds the template file. */
bool cli_engine_options(const cli_model *m, ern_engine_options *o, char **template_text, ern_err *e);
ern_engine *cli_engine_open(const char *path, const cli_model *m, ern_err *e);
ern_session *cli_session_open(ern_engine *eng, const cli_model *m, ern_err *e);

/* Where models that were fetched lie: $ERNIE_MODELS, or ernie/models in the user's cache folder. Caller frees. */
char *cli_models_folder(ern_err *e);
/* MODEL as given, or one of that folder. Caller frees. */
char *cli_model_path(const char *name, ern_err *e);

/* ---- sampling ---- */

typedef struct {
    arg_real temperature, top_p, min_p, repetition, frequency, presence;
    arg_count top_k, seed, max_tokens;
    arg_texts stop, bias, stop_ids;
    bool ignores_end;
    const char *schema, *regex, *grammar;   /* at most one of these, is_json_object and choices */
    arg_texts choices;
    bool is_json_object;
} cli_sampling;

extern const arg_group cli_sampling_group;

typedef struct { ern_sampling s; ern_logit_bias *bias; int32_t *stop_ids; } cli_sampler;   /* s points into the rest, and owns its constraint */

/* The constraint of the answer, opened: NULL in *out when there is none. */
bool cli_constraint(ern_constraint **out, ern_engine *eng, const cli_sampling *o, ern_err *e);

bool cli_sampler_init(cli_sampler *out, ern_engine *eng, const cli_sampling *o, ern_err *e);
void cli_sampler_deinit(cli_sampler *s);

/* ---- guessing ahead ---- */

typedef struct { const char *how; arg_count n_max; } cli_speculation;

extern const arg_group cli_speculation_group;           /* --speculate --draft */

typedef struct { ern_draft *draft; ern_engine *drafter; } cli_draft;    /* NULL: off; lookup */
bool cli_draft_init(cli_draft *out, ern_engine *eng, const cli_speculation *o, const cli_model *m, ern_err *e);
void cli_draft_deinit(cli_draft *d);
ern_draft_stats cli_draft_since(const ern_draft *d, const ern_draft_stats *before);
void cli_draft_print(FILE *to, const ern_draft_stats *st);

/* ---- output ---- */

bool cli_print_json(json_t *taken, ern_err *e);         /* one line, flushed; false: the reader is gone or memory is */
json_t *cli_real(double v);                             /* null for what JSON cannot say */
json_t *cli_ids_json(const int32_t *ids, size_t n);
json_t *cli_text_json(const char *text, size_t n);      /* bytes that are no UTF-8 become U+FFFD */
json_t *cli_error_json(const ern_err *e);               /* {"error"} and, where known, "line" and "column" */
double cli_now(void);                                   /* seconds, monotonic */
char *cli_size_text(double bytes, char *buf, size_t n); /* "1.24 GB"; returns buf */

char *cli_count_text(double n, char *buf, size_t size); /* "21.825 B", "360.7 M"; returns buf */

/* ---- input ---- */

#define CLI_MAX_LINE ((size_t)64 << 20)

/* Lines of a file ("-": stdin). */
typedef struct { FILE *fp; const char *name; char *text; size_t n, cap, number; } cli_lines;
bool cli_lines_open(cli_lines *l, const char *path, ern_err *e);
bool cli_lines_next(cli_lines *l, bool *is_end, ern_err *e);        /* text[0..n) without the line end */
void cli_lines_close(cli_lines *l);
json_t *cli_record(const cli_lines *l, ern_err *e);     /* the line as a JSON object, or NULL */
bool cli_read_all(const char *path, ern_buf *out, ern_err *e);      /* "-": stdin */

/* ---- ctrl-C ---- */

void cli_catch_interrupt(void);                         /* from now on ctrl-C sets a mark instead of ending the program */
bool cli_interrupted(void);
void cli_clear_interrupt(void);

#endif
