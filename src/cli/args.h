/* One table per command says what it takes; parsing, --help, the man page and shell completion all read that table.
 *
 *     struct greet { arg_count times; const char *name; };
 *     static const arg_option options[] = { { .name = "times", .letter = 'n', .kind = ARG_COUNT, .value = "N", .low = 1,
 *                                             .high = 9, .help = N_("how often"), .offset = offsetof(struct greet, times)
  * } };
 *     struct greet o = { 0 };
 *     if (!args_parse(&command, argc, argv, &o, &e)) ...      unknown option, wrong value: ERN_ARG with found and wanted
 *     args_deinit(&command, &o);
 *
 * Texts in the result are borrowed from argv; lists are freed by args_deinit.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "base/buf.h"

/* What an option stores at its offset:
 * FLAG bool; COUNT arg_count; REAL arg_real; TEXT and CHOICE const char * (NULL: not given); TEXTS arg_texts, may repeat;
  * IDS arg_ids */
enum arg_kind { ARG_FLAG, ARG_COUNT, ARG_REAL, ARG_TEXT, ARG_CHOICE, ARG_TEXTS, ARG_IDS };

typedef struct { uint64_t v; bool is_given; } arg_count;
typedef struct { double v; bool is_given; } arg_real;
typedef struct { const char **item; size_t n; } arg_texts;
typedef struct { int32_t *id; size_t n; bool is_given; } arg_ids;

typedef struct {
    const char *name;           /* without the dashes */
    char letter;                /* 0: none */
    enum arg_kind kind;
    const char *value;          /* how help calls the value */
    double low, high;           /* COUNT and REAL: the values allowed; both 0: any */
    const char *choices;        /* CHOICE: "a|b|c"; TEXT: what completion offers, others are allowed */
    const char *help;           /* one sentence without a full stop, translatable */
    size_t offset;
} arg_option;

typedef struct {                /* options that several commands share, at one place of each command's struct */
    const char *title;
    const arg_option *options;
    size_t n_options;
} arg_group;

typedef struct { const arg_group *group; size_t offset; } arg_use;

enum arg_need { ARG_REQUIRED, ARG_OPTIONAL, ARG_REST };

typedef struct {
    const char *name;
    enum arg_need need;         /* REST: arg_texts, the last one; otherwise const char * */
    const char *help;
    size_t offset;
} arg_operand;

#define ARG_MAX_GROUPS 5

typedef struct {
    const char *name;
    const char *summary;        /* one line */
    const char *details;        /* paragraphs for --help and the man page; NULL: none */
    const char *output;         /* what programs may rely on in the output; NULL: nothing */
    const char *examples;       /* lines "command # what it does"; NULL: none */
    const arg_operand *operands;
    size_t n_operands;
    arg_use groups[ARG_MAX_GROUPS];     /* until the first NULL group */
    size_t size_bytes;          /* of the struct that run gets */
    int (*run)(const void *options);    /* exit status */
} arg_command;

/* argv[0..argc) are the words after the command's name. out: c->size_bytes zeroed bytes. wants_help: --help was there. */
bool args_parse(const arg_command *c, int argc, char *const *argv, void *out, bool *wants_help, ern_err *e);
void args_deinit(const arg_command *c, void *out);

/* The nearest of n names, or NULL when none is near. */
const char *args_nearest(const char *word, const char *const *names, size_t n);

bool args_help(const arg_command *c, size_t columns, ern_buf *out, ern_err *e);
bool args_man(const arg_command *c, ern_buf *out, ern_err *e);                  /* roff: ernie-NAME.1 */

/* ernie.1 and the completion script of a shell ("bash", "zsh", "fish") for all commands. */
bool args_man_index(const arg_command *const *commands, size_t n, ern_buf *out, ern_err *e);
bool args_completion(const arg_command *const *commands, size_t n, const char *shell, ern_buf *out, ern_err *e);

#endif
