/* Texts to vectors. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "engine/engine.h"

struct options { cli_model model; const char *path; arg_texts text; bool is_jsonl; };

struct embedding { ern_engine *eng; float *vector; size_t n; };

/* How many tokens the text has beyond those that the encoder took. */
static size_t left_out(const ern_engine *eng, const char *text, size_t n, size_t n_used) {
    ern_ids ids = { 0 };
    const size_t all = tokenizer_encode(eng->tokenizer, text, n, TOKENIZER_ADD, &ids, NULL) ? ids.n : n_used;
    ids_deinit(&ids);
    return all > n_used ? all - n_used : 0;
}

static json_t *embed(const struct embedding *m, const char *text, size_t n, ern_err *e) {
    ern_tokens ids = { 0 };
    json_t *line = NULL;
    if (ern_embed(m->eng, text, n, &ids, m->vector, e)) {
        json_t *list = json_array();
        const size_t cut = left_out(m->eng, text, n, ids.n);
        for (size_t i = 0; list && i < m->n; i++) json_array_append_new(list, cli_real((double)m->vector[i]));
        line = json_pack("{s:o, s:o}", "ids", cli_ids_json(ids.id, ids.n), "embedding", list);
        if (line && cut) json_object_set_new(line, "left_out", json_integer((json_int_t)cut));
    }
    ern_tokens_free(&ids);
    return line;
}

static bool print_vector(const struct embedding *m, const char *text, size_t n, ern_err *e) {
    ern_tokens ids = { 0 };
    if (!ern_embed(m->eng, text, n, &ids, m->vector, e)) return false;
    const size_t cut = left_out(m->eng, text, n, ids.n);
    if (cut)
        fprintf(stderr, _("ernie: the last %zu of %zu tokens of a text are left out: the model takes %zu\n"), cut,
                ids.n + cut, ids.n);
    ern_tokens_free(&ids);
    for (size_t i = 0; i < m->n; i++) printf("%s%.9g", i ? " " : "", (double)m->vector[i]);
    putchar('\n');
    fflush(stdout);
    return true;
}

static bool one_record(const struct embedding *m, const cli_lines *in, ern_err *e) {
    ern_err why = { 0 };
    json_t *record = cli_record(in, &why), *text = json_object_get(record, "text"), *line = NULL;
    if (record && !json_is_string(text))
        ern_fail(&why, ERN_FORMAT, _("line %zu: \"text\" is missing or no string"), in->number);
    else if (record) line = embed(m, json_string_value(text), json_string_length(text), &why);
    json_decref(record);
    return cli_print_json(line ? line : cli_error_json(&why), e);
}

static bool all_lines(const struct embedding *m, bool is_jsonl, ern_err *e) {
    cli_lines in;
    bool ok = cli_lines_open(&in, "-", e), is_end = false;
    while (ok && (ok = cli_lines_next(&in, &is_end, e)) && !is_end) {
        if (!is_jsonl) ok = print_vector(m, in.text ? in.text : "", in.n, e);
        else if (in.n) ok = one_record(m, &in, e);
    }
    cli_lines_close(&in);
    return ok;
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    struct embedding m = { .eng = cli_engine_open(o->path, &o->model, &e) };
    bool ok = m.eng != NULL;
    if (ok) m.n = ern_engine_n_embed(m.eng);
    if (ok) ok = (m.vector = mem_zalloc(m.n, sizeof *m.vector, "embedding", &e)) != NULL;
    if (ok && o->text.n == 0) ok = all_lines(&m, o->is_jsonl, &e);
    for (size_t i = 0; ok && i < o->text.n; i++) ok = print_vector(&m, o->text.item[i], strlen(o->text.item[i]), &e);
    free(m.vector);
    ern_engine_close(m.eng);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "jsonl", .kind = ARG_FLAG,
      .help = N_("read lines {\"text\"} from standard input, write one JSON object for each"), .offset = AT(is_jsonl) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_REQUIRED, N_("a folder, a GGUF file, or the name of a fetched model"), AT(path) },
    { "TEXT", ARG_REST, N_("texts, a vector for each; the lines of standard input otherwise"), AT(text) },
};

const arg_command cmd_embed = {
    .name = "embed",
    .summary = N_("turn texts into vectors"),
    .details = N_("An encoder (BERT) pools as its files say; a text model gives the mean of its last hidden states."),
    .output = N_("A line of numbers for each text. With --jsonl, for each line read {\"ids\", \"embedding\"} or "
                 "{\"error\"}, in order, flushed; \"left_out\" counts the tokens of a text that is too long for the "
                 "model."),
    .examples = "  ernie embed all-MiniLM-L6-v2 'How tall is the highest mountain?'",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_compute_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
