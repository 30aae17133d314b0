/* Tokens a second: of a model, or of a tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "cli/bench_parts.h"
#include "cli/commands.h"
#include "cli/term.h"
#include "engine/engine.h"

#define MAX_SIZES 64
#define MAX_POINTS 1024

struct options { cli_model model; const char *what, *path, *file, *svg; arg_ids prompts, depths, batches, threads;
                 arg_count n_answer, n_rounds; bool is_json, is_csv, is_sweep, counts_cpu; };

/* What is measured: every depth with every prompt size, then every other number of sequences, for each number of threads. */
struct sizes { size_t prompts[MAX_SIZES], depths[MAX_SIZES], batches[MAX_SIZES], threads[MAX_SIZES];
               size_t n_prompts, n_depths, n_batches, n_threads; };

struct measuring { const struct options *o; bench_point *points; size_t n, n_expected; };

static bool on_progress(void *ctx, size_t done, size_t total) {
    term_progress_at(ctx, done, total);
    return !cli_interrupted();
}

/* Median, best, and the median as a share of the limit; dashes for what was left out. */
static void print_speed(double median, double best, double limit) {
    if (median <= 0.0) printf(" %11s %11s %8s", "-", "-", "-");
    else if (limit <= 0.0) printf(" %11.1f %11.1f %8s", median, best, "-");
    else printf(" %11.1f %11.1f %6.0f %%", median, best, 100.0 * median / limit);
}

static bool print_point(const struct options *o, const bench_point *p, ern_err *e) {
    const bench_case *c = &p->c;
    const bench_result *r = &p->r;
    if (o->is_json) {
        json_t *line = json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:f}", "model", o->path, "depth",
                                 (json_int_t)c->depth, "prompt", (json_int_t)c->n_prompt, "answer", (json_int_t)c->n_answer,
                                 "rounds", (json_int_t)c->n_rounds, "prefill_tokens_per_s", r->prefill_median, "prefill_best",
                                 r->prefill_best, "decode_tokens_per_s", r->decode_median, "decode_best", r->decode_best,
                                 "batch", (json_int_t)c->n_batch, "threads", (json_int_t)p->n_threads, "prefill_limit",
                                 p->limits.prefill, "decode_limit", p->limits.decode);
        return cli_print_json(line, e);
    }
    if (o->is_csv)
        printf("%zu,%zu,%zu,%zu,%.2f,%.2f,%.2f,%.2f,%zu,%zu,%.2f,%.2f\n", c->depth, c->n_prompt, c->n_answer, c->n_rounds,
               r->prefill_median, r->prefill_best, r->decode_median, r->decode_best, c->n_batch, p->n_threads, p->limits.prefill,
               p->limits.decode);
    else {
        printf("%7zu %7zu %7zu %7zu %7zu", p->n_threads, c->n_batch, c->depth, c->n_prompt, c->n_answer);
        print_speed(r->prefill_median, r->prefill_best, p->limits.prefill);
        print_speed(r->decode_median, r->decode_best, p->limits.decode);
        putchar('\n');
    }
    fflush(stdout);
    return true;
}

static void print_machine(const struct options *o, const bench_machine *m, size_t n_threads) {
    if (o->is_csv || o->is_json) return;
    printf(_("%zu threads: memory is read at %.1f GB/s; %s: %.2f million million operations/s\n"), n_threads,
           m->read_bytes_per_s * 1e-9, *m->unit ? m->unit : "?", 2e-12 * m->macs_per_s);
    printf("%s\n", _("threads   batch   depth  prompt  answer  prompt t/s        best of limit  answer t/s        best of limit"));
}

static bool measure(struct measuring *w, ern_engine *eng, const bench_machine *m, const bench_case *c, ern_err *e) {
    if (w->n == MAX_POINTS) return ern_fail(e, ERN_LIMIT, _("bench: more than %d measurements"), MAX_POINTS);
    bench_point *p = &w->points[w->n];
    term_progress progress;
    char label[64];
    *p = (bench_point){ .c = *c, .n_threads = pool_n(eng->pool) };
    snprintf(label, sizeof label, _("%zu of %zu: depth %zu, %zu at once"), w->n + 1, w->n_expected, c->depth, c->n_batch);
    term_progress_begin(&progress, label, _("rounds"), 0);
    const bool ok = bench_run(eng, w->o->model.kv, c, on_progress, &progress, &p->r, e);
    term_progress_end(&progress);
    if (!ok || !bench_limits_of(eng, w->o->model.kv, m, c, &p->limits, e)) return false;
    w->n++;
    return print_point(w->o, p, e);
}

/* Batches are measured at depth 0, where each sequence needs no context of its own. */
static bool bench_threads(struct measuring *w, const struct sizes *z, size_t n_threads, ern_err *e) {
    const struct options *o = w->o;
    const size_t n_answer = o->n_answer.is_given ? (size_t)o->n_answer.v : 64, n_rounds = o->n_rounds.v ? (size_t)o->n_rounds.v : 3;
    cli_model model = o->model;
    bench_machine m;
    if (n_threads) model.threads = (arg_count){ n_threads, true };
    ern_engine *eng = cli_engine_open(o->path, &model, e);
    bool ok = eng && bench_machine_of(eng, &m, e);
    if (ok) print_machine(o, &m, pool_n(eng->pool));
    for (size_t d = 0; ok && d < z->n_depths; d++)
        for (size_t b = 0; ok && b < z->n_batches; b++)
            for (size_t p = 0; ok && p < (z->batches[b] > 1 ? 1 : z->n_prompts); p++) {
                const bench_case c = { .n_prompt = z->batches[b] > 1 ? 0 : z->prompts[p], .n_answer = n_answer, .depth = z->depths[d],
                                       .n_rounds = n_rounds, .n_batch = z->batches[b], .counts_cpu = o->counts_cpu };
                const size_t needed = c.depth + c.n_prompt + c.n_answer + 1;
                if (o->is_sweep && (needed > ern_engine_max_context(eng) || (c.n_batch > 1 && c.depth))) continue;
                ok = measure(w, eng, &m, &c, e);
            }
    ern_engine_close(eng);
    return ok;
}

static bool fill(size_t *out, size_t *n, const arg_ids *given, const int32_t *usual, size_t n_usual, ern_err *e) {
    const int32_t *from = given->n ? given->id : usual;
    *n = given->n ? given->n : n_usual;
    if (*n > MAX_SIZES) return ern_fail(e, ERN_LIMIT, _("bench: more than %d sizes"), MAX_SIZES);
    for (size_t i = 0; i < *n; i++) out[i] = (size_t)from[i];
    return true;
}

static bool bench_model(const struct options *o, ern_err *e) {
    static const int32_t prompts[] = { 512 }, depths[] = { 0, 512, 4096, 16384, 65536 }, batches[] = { 1, 2, 4, 8, 16, 32 },
        threads[] = { 0 };
    struct sizes z;
    struct measuring w = { .o = o };
    if (!fill(z.prompts, &z.n_prompts, &o->prompts, prompts, 1, e) ||
        !fill(z.depths, &z.n_depths, &o->depths, depths, o->is_sweep ? COUNT_OF(depths) : 1, e) ||
        !fill(z.batches, &z.n_batches, &o->batches, batches, o->is_sweep ? COUNT_OF(batches) : 1, e) ||
        !fill(z.threads, &z.n_threads, &o->threads, threads, 1, e))
        return false;
    for (size_t i = 0; i < z.n_batches; i++)
        if (z.batches[i] == 0) return ern_fail(e, ERN_ARG, _("bench: --batch 0: at least one sequence wanted"));
    w.n_expected = z.n_threads * (o->is_sweep ? z.n_depths * z.n_prompts + z.n_batches - 1
                                              : z.n_depths * (z.n_batches - 1 + z.n_prompts));
    if (!(w.points = mem_zalloc(MAX_POINTS, sizeof *w.points, "bench", e))) return false;
    if (o->is_csv)
        puts("depth,prompt,answer,rounds,prefill_median,prefill_best,decode_median,decode_best,batch,threads,prefill_limit,"
             "decode_limit");
    bool ok = true;
    for (size_t i = 0; ok && i < z.n_threads; i++) ok = bench_threads(&w, &z, z.threads[i], e);
    if (ok && o->svg) ok = bench_plot(o->svg, o->path, w.points, w.n, e);
    free(w.points);
    return ok;
}

static int run(const void *options) {
    struct options o = *(const struct options *)options;
    ern_err e = { 0 };
    bool ok;
    cli_catch_interrupt();
    if (o.is_json && o.is_csv) ok = ern_fail(&e, ERN_ARG, _("bench: --json and --csv: one of them wanted"));
    else if (o.path && strcmp(o.what, "tokenizer") == 0)
        ok = bench_tokenizer(&(bench_text){ o.path, o.file, o.n_rounds.v ? (size_t)o.n_rounds.v : 3, o.is_json, o.is_csv }, &e);
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
    { .name = "batch", .letter = 'b', .kind = ARG_IDS, .value = "N,...",
      .help = N_("sequences that write at once, each with its own context; 1 otherwise"), .offset = AT(batches) },
    { .name = "each-threads", .kind = ARG_IDS, .value = "N,...", .help = N_("measure with each of these numbers of threads"),
      .offset = AT(threads) },
    { .name = "sweep", .kind = ARG_FLAG,
      .help = N_("depths 0, 512, 4096, 16384 and 65536 as far as the model's context goes, and 1 to 32 sequences at once"),
      .offset = AT(is_sweep) },
    { .name = "cpu-time", .kind = ARG_FLAG,
      .help = N_("count the processor time of all threads instead of elapsed time: for a busy machine, with one thread"),
      .offset = AT(counts_cpu) },
    { .name = "svg", .kind = ARG_TEXT, .value = "FILE", .help = N_("draw speed over depth, and what the machine gives at most"),
      .offset = AT(svg) },
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
                 "\"prefill_best\", \"decode_tokens_per_s\", \"decode_best\", \"batch\", \"threads\", "
                 "\"prefill_limit\", \"decode_limit\"}. A limit is what the machine gives at most: reading of weights, "
                 "keys and values at the speed its memory was just measured at, or 8-bit products from registers. "
                 "bench tokenizer: {\"bytes\", \"tokens\", \"seconds\", \"bytes_per_s\"}."),
    .examples = "  ernie bench MODEL -p 512,4096 -d 0,4096 -n 64\n  ernie bench MODEL --sweep --csv --svg speed.svg >speed.csv\n"
                "  ernie bench tokenizer MODEL",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_model_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
