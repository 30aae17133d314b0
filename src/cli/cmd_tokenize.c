/* Text to ids and back, for checking tokenizers and for scripts. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "engine/tokenizer_of.h"

struct options { const char *model; arg_texts text; bool is_jsonl, is_plain, adds; };

static json_t *pieces_json(const ern_tokenizer *t, const ern_ids *ids) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < ids->n; i++) {
        const char *piece = tokenizer_piece(t, ids->id[i]);
        if (json_array_append_new(list, piece ? json_string(piece) : json_null()) != 0)
            json_array_append_new(list, json_null());
    }
    return list;
}

/* {"ids", "pieces", "decoded"}; a byte that is no character of its own decodes to U+FFFD. */
static json_t *tokenize(const ern_tokenizer *t, const char *text, size_t n, unsigned flags, ern_err *e) {
    ern_ids ids = { 0 };
    ern_buf raw = { 0 };
    json_t *line = NULL;
    if (tokenizer_encode(t, text, n, flags, &ids, e) && tokenizer_decode(t, ids.id, ids.n, true, &raw, e)) {
        line = json_pack("{s:o, s:o, s:o}", "ids", cli_ids_json(ids.id, ids.n), "pieces", pieces_json(t, &ids), "decoded",
                         cli_text_json(raw.data ? raw.data : "", raw.len));
        if (!line) ern_fail(e, ERN_NOMEM, _("no memory for a line of JSON"));
    }
    ids_deinit(&ids);
    buf_deinit(&raw);
    return line;
}

static bool one_line(const ern_tokenizer *t, const cli_lines *in, unsigned flags, ern_err *e) {
    ern_err why = { 0 };
    json_t *record = cli_record(in, &why), *text = json_object_get(record, "text"), *line = NULL;
    if (record && !json_is_string(text))
        ern_fail(&why, ERN_FORMAT, _("line %zu: \"text\" is missing or no string"), in->number);
    else if (record) line = tokenize(t, json_string_value(text), json_string_length(text), flags, &why);
    json_decref(record);
    return cli_print_json(line ? line : cli_error_json(&why), e);
}

static bool all_lines(const ern_tokenizer *t, unsigned flags, ern_err *e) {
    cli_lines in;
    bool ok = cli_lines_open(&in, "-", e), is_end = false;
    while (ok && (ok = cli_lines_next(&in, &is_end, e)) && !is_end)
        if (in.n) ok = one_line(t, &in, flags, e);
    cli_lines_close(&in);
    return ok;
}

static bool print_text(const ern_tokenizer *t, const arg_texts *words, unsigned flags, ern_err *e) {
    ern_buf text = { 0 };
    ern_ids ids = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < words->n; i++)
        ok = (i == 0 || buf_char(&text, ' ', e)) && buf_str(&text, words->item[i], e);
    if (ok && words->n == 0) ok = cli_read_all("-", &text, e);
    ok = ok && tokenizer_encode(t, text.data ? text.data : "", text.len, flags, &ids, e);
    for (size_t i = 0; ok && i < ids.n; i++) printf("%7d  %s\n", (int)ids.id[i], tokenizer_piece(t, ids.id[i]));
    ids_deinit(&ids);
    buf_deinit(&text);
    return ok;
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    const unsigned flags = (o->is_plain ? TOKENIZER_PLAIN : TOKENIZER_SPECIALS) | (o->adds ? TOKENIZER_ADD : 0u);
    char *path = cli_model_path(o->model, &e);
    ern_tokenizer *t = path ? tokenizer_of_path(path, &e) : NULL;
    const bool ok = t && (o->is_jsonl ? all_lines(t, flags, &e) : print_text(t, &o->text, flags, &e));
    tokenizer_close(t);
    free(path);
    return ok ? 0 : cli_fail(&e);
}

static const arg_option table[] = {
    { .name = "jsonl", .kind = ARG_FLAG,
      .help = N_("read lines {\"text\"} from standard input, write one JSON object for each"),
      .offset = offsetof(struct options, is_jsonl) },
    { .name = "plain", .kind = ARG_FLAG, .help = N_("take special tokens in the text as plain text"),
      .offset = offsetof(struct options, is_plain) },
    { .name = "add-special", .kind = ARG_FLAG,
      .help = N_("add the tokens that begin and end a text where the tokenizer says so"),
      .offset = offsetof(struct options, adds) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_REQUIRED,
      N_("a model, a folder with tokenizer files alone, a tokenizer.json, tokenizer.model, vocab.txt or GGUF file"),
      offsetof(struct options, model) },
    { "TEXT", ARG_REST, N_("what to tokenize; standard input otherwise"), offsetof(struct options, text) },
};

const arg_command cmd_tokenize = {
    .name = "tokenize",
    .summary = N_("show the tokens of a text"),
    .output = N_("A line for each token: id, piece. With --jsonl, for each line read: {\"ids\", \"pieces\", "
                 "\"decoded\"} or {\"error\"}, in order, flushed."),
    .examples = "  ernie tokenize MODEL 'Hello, world'\n  echo '{\"text\": \"Hello\"}' | ernie tokenize MODEL --jsonl",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
