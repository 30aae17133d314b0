/* Tokens a second: of a model, or of a tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/bench.h"
#include "engine/tokenizer_of.h"

#define TOKENIZER_BYTES ((size_t)10 << 20)
#define MAX_SIZES 64

struct options { cli_model model; const char *what, *path, *file; arg_ids prompts, depths; arg_count n_answer,
                 n_rounds; bool is_json, is_csv; };

/* ---- tokenizer ---- */

/* Text of every kind a tokenizer meets: English, code, numbers, Chinese, other scripts, emoji. */
static bool made_up_text(ern_buf *out, size_t n, ern_err *e) {
    static const char *const parts[] = {
        "The quick brown fox jumps over the lazy dog, and the engine reads 1,234.5 tokens a second. ",
            "int main(void) {\n\treturn x[i] << 2 ? f(a, b) : 0;\n}\n",
        ("\xE4\xB8\xAD\xE5\x8D\x8E\xE4\xBA\xBA\xE6\xB0\x91\xE5\x85\xB1\xE5\x92\x8C\xE5\x9B\xBD"
        "\xEF\xBC\x8C\xE4\xBB\x8A\xE5\xA4\xA9\xE5\xA4\xA9\xE6\xB0\x94\xE5\xBE\x88\xE5\xA5\xBD\xE3\x80\x82"),
        "http://example.org/a?b=c&d=%20 2026-11-24T20:00 v1.0.3-rc2\n\n",
            "na\xC3\xAFve caf\xC3\xA9 \xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xF0\x9F\x98\x80 ",
    };
    uint64_t state = 7;
    while (out->len < n) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (!buf_str(out, parts[(state >> 40) % COUNT_OF(parts)], e) ||
            !buf_printf(out, e, "%llx ", (unsigned long long)(state >> 48)))
            return false;
    }
    return true;
}

static bool bench_tokenizer(const struct options *o, ern_err *e) {
    ern_buf text = { 0 };
    ern_ids ids = { 0 };
    ern_tokenizer *t = NULL;
    double best = 0.0;
    bool ok = false;
    const size_t rounds = o->n_rounds.v ? (size_t)o->n_rounds.v : 3;
    char *path = cli_model_path(o->path, e);
    if (!path || !(t = tokenizer_of_path(path, e))) goto out;
    if (!(o->file ? cli_read_all(o->file, &text, e) : made_up_text(&text, TOKENIZER_BYTES, e))) goto out;
    for (size_t i = 0; i < rounds; i++) {
        ids.n = 0;
        const double from = cli_now();
        if (!tokenizer_encode(t, text.data ? text.data : "", text.len, TOKENIZER_SPECIALS, &ids, e)) goto out;
        const double spent = cli_now() - from;
        if (best == 0.0 || spent < best) best = spent;
    }
    if (o->is_json)
        ok = cli_print_json(json_pack("{s:I, s:I, s:f, s:f}", "bytes", (json_int_t)text.len, "tokens", (json_int_t)ids.n,
                                      "seconds", best,
                                                  "bytes_per_s", best > 0.0 ? (double)text.len / best : 0.0), e);
    else {
        if (o->is_csv) printf("bytes,tokens,seconds\n%zu,%zu,%.6f\n", text.len, ids.n, best);
        else
            printf(_("%zu bytes, %zu tokens: %.3f s, %.1f MB/s\n"), text.len, ids.n, best,
                   best > 0.0 ? (double)text.len / best * 1e-6 : 0.0);
        ok = true;
    }
out:
    tokenizer_close(t);
    ids_deinit(&ids);
    buf_deinit(&text);
    free(path);
    return ok;
}

/* ---- model ---- */

static bool on_progress(void *ctx, size_t done, size_t total) {
    term_progress_at(ctx, done, total);
    return !cli_interrupted();
}

static bool print_case(const struct options *o, const bench_case *c, const bench_result *r, ern_err *e) {
    if (o->is_json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "model", o->path, "depth",
                                        (json_int_t)c->depth, "prompt",
                                        (json_int_t)c->n_prompt, "answer", (json_int_t)c->n_answer, "rounds",
                                            (json_int_t)c->n_rounds,
                                        "prefill_tokens_per_s", r->prefill_median, "prefill_best", r->prefill_best,
                                            "decode_tokens_per_s",
                                        r->decode_median, "decode_best", r->decode_best), e);
    printf(o->is_csv ? "%zu,%zu,%zu,%zu,%.2f,%.2f,%.2f,%.2f\n" : "%7zu %7zu %7zu %7zu %11.1f %11.1f %11.1f %11.1f\n",
           c->depth, c->n_prompt,
           c->n_answer, c->n_rounds, r->prefill_median, r->prefill_best, r->decode_median, r->decode_best);
    fflush(stdout);
    return true;
}

static void print_head(const struct options *o) {
    if (o->is_csv) puts("depth,prompt,answer,rounds,prefill_median,prefill_best,decode_median,decode_best");
    else if (!o->is_json)
        printf("%s\n", _("  depth  prompt  answer  rounds  prompt t/s        best  answer t/s        best"));
}

static bool bench_model(const struct options *o, ern_err *e) {
    static const int32_t usual_prompts[] = { 512 }, usual_depths[] = { 0 };
    const int32_t *prompts = o->prompts.n ? o->prompts.id : usual_prompts, *depths = o->depths.n ? o->depths.id :
        usual_depths;
    const size_t n_prompts = o->prompts.n ? o->prompts.n : 1, n_depths = o->depths.n ? o->depths.n : 1;
    if (n_prompts > MAX_SIZES || n_depths > MAX_SIZES)
        return ern_fail(e, ERN_LIMIT, _("bench: more than %d sizes"), MAX_SIZES);
    ern_engine *eng = cli_engine_open(o->path, &o->model, e);
    bool ok = eng != NULL;
    if (ok) print_head(o);
    for (size_t d = 0; ok && d < n_depths; d++)
        for (size_t p = 0; ok && p < n_prompts; p++) {
            const bench_case c = { (size_t)prompts[p], o->n_answer.is_given ? (size_t)o->n_answer.v : 64,
                                   (size_t)depths[d], o->n_rounds.v ? (size_t)o->n_rounds.v : 3 };
            bench_result r;
            term_progress progress;
            term_progress_begin(&progress, "bench", _("rounds"), 0);
            ok = bench_run(eng, o->model.kv, &c, on_progress, &progress, &r, e);
            term_progress_end(&progress);
            ok = ok && print_case(o, &c, &r, e);
        }
    ern_engine_close(eng);
    return ok;
}

static int run(const void *options) {
    struct options o = *(const struct options *)options;
    ern_err e = { 0 };
    bool ok;
    cli_catch_interrupt();
    if (o.is_json && o.is_csv) ok = ern_fail(&e, ERN_ARG, _("bench: --json and --csv: one of them wanted"));
    else if (o.path && strcmp(o.what, "tokenizer") == 0) ok = bench_tokenizer(&o, &e);
    else if (o.path)
        ok = ern_fail(&e, ERN_ARG, _("bench: found \"%s\" before the model, tokenizer or nothing wanted"), o.what);
    else {
        o.path = o.what;
        ok = bench_model(&o, &e);
    }
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "prompt", .letter = 'p', .kind = ARG_IDS, .value = "N,...",
      .help = N_("sizes of prompts; 512 otherwise, 0 leaves them out"), .offset = AT(prompts) },
    { .name = "depth", .letter = 'd', .kind = ARG_IDS, .value = "N,...",
      .help = N_("tokens in the context before; 0 otherwise"), .offset = AT(depths) },
    { .name = "answer", .letter = 'n', .kind = ARG_COUNT, .value = "N",
      .help = N_("tokens written one by one; 64 otherwise, 0 leaves them out"), .offset = AT(n_answer) },
    { .name = "rounds", .letter = 'r', .kind = ARG_COUNT, .value = "N", .low = 1, .high = 1000,
      .help = N_("repetitions; 3 otherwise"), .offset = AT(n_rounds) },
    { .name = "file", .letter = 'f', .kind = ARG_TEXT, .value = "FILE",
      .help = N_("bench tokenizer: this text instead of 10 MB made up"), .offset = AT(file) },
    { .name = "csv", .kind = ARG_FLAG, .help = N_("print comma-separated values"), .offset = AT(is_csv) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object a line"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_REQUIRED,
      N_("a folder, a GGUF file, or the name of a fetched model; the word tokenizer measures the tokenizer of the next "
         "one"), AT(what) },
    { "MODEL", ARG_OPTIONAL, N_("after the word tokenizer: a model or tokenizer file"), AT(path) },
};

const arg_command cmd_bench = {
    .name = "bench",
    .summary = N_("measure tokens a second"),
    .output = N_("A line for each depth and prompt size: median and best of the rounds. --csv has a head line; --json "
                 "gives {\"model\", \"depth\", \"prompt\", \"answer\", \"rounds\", \"prefill_tokens_per_s\", "
                 "\"prefill_best\", \"decode_tokens_per_s\", \"decode_best\"}. bench tokenizer: {\"bytes\", \"tokens\", "
                 "\"seconds\", \"bytes_per_s\"}."),
    .examples = "  ernie bench MODEL -p 512,4096 -d 0,4096 -n 64\n  ernie bench tokenizer MODEL",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_model_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
