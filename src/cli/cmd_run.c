/* A prompt in, one or several answers out. */
#include <stdlib.h>
#include <string.h>

#include "cli/run_answer.h"
#include "cli/commands.h"
#include "cli/run_prompt.h"
#include "cli/term.h"
#include "engine/engine.h"

#define MAX_ANSWERS 1024
#define LEAST_CONTEXT 4096
#define ANSWER_ROOM 1024        /* tokens kept free for an answer without --max-tokens */

struct options {
    cli_model model;
    cli_sampling sampling;
    cli_speculation speculation;
    run_prompt prompt;
    const char *path;
    arg_count n_answers, n_logprobs;
    bool is_raw, echoes, is_json, shows_stats;
};

static bool check(const struct options *o, ern_err *e) {
    const int sources = (o->prompt.words.n > 0) + (o->prompt.file != NULL) + o->prompt.ids.is_given;
    if (sources > 1)
        return ern_fail(e, ERN_ARG,
                        _("run: the prompt comes from an argument, from --file or from --ids: found %d of them, one "
                          "wanted"), sources);
    if (o->is_raw && (o->prompt.is_chat || o->prompt.system))
        return ern_fail(e, ERN_ARG, _("run: --raw goes neither with --chat nor with --system"));
    if (o->prompt.ids.is_given && (o->prompt.is_chat || o->prompt.system))
        return ern_fail(e, ERN_ARG, _("run: --ids is a whole prompt: it goes neither with --chat nor with --system"));
    if (o->n_logprobs.v && !o->is_json) return ern_fail(e, ERN_ARG, _("run: --logprobs wants --json"));
    if (sources == 0 && term_is_tty(stdin))
        return ern_fail(e, ERN_ARG,
                        _("run: the prompt is missing: give it as an argument, with --file or on standard input"));
    return true;
}

static bool on_progress(void *ctx, size_t done, size_t total) {
    term_progress_at(ctx, done, total);
    return !cli_interrupted();
}

/* The context: as asked, or what prompt and answer need, at least the usual one and at most the model's. */
static ern_session *open_session(const struct options *o, ern_engine *eng, size_t n_prompt, ern_err *e) {
    cli_model m = o->model;
    const size_t room = o->sampling.max_tokens.v ? (size_t)o->sampling.max_tokens.v : ANSWER_ROOM,
        most = ern_engine_max_context(eng);
    if (!m.ctx.is_given) {
        m.ctx.v = room < most && n_prompt < most - room ? n_prompt + room : most;
        if (m.ctx.v < LEAST_CONTEXT) m.ctx.v = LEAST_CONTEXT < most ? LEAST_CONTEXT : most;
    }
    return cli_session_open(eng, &m, e);
}

static bool answer_all(const struct options *o, ern_engine *eng, cli_sampler *sampler, answer_job *job, bool *was_stopped,
                       ern_err *e) {
    term_progress progress;
    bool ok = false;
    ern_session *s = open_session(o, eng, job->prompt->n, e), *copy = NULL;
    if (!s) return false;
    const double asked = cli_now();
    term_progress_begin(&progress, _("prompt"), _("tokens"), 0);
    ok = ern_session_sync(s, job->prompt->id, job->prompt->n, on_progress, &progress, e);
    term_progress_end(&progress);
    job->prompt_s = cli_now() - asked;
    job->n_computed = job->prompt->n;
    if (ok && job->n_answers > 1) ok = (copy = open_session(o, eng, job->prompt->n, e)) != NULL;
    for (; ok && job->index < job->n_answers && !*was_stopped; job->index++) {
        if (copy) ok = ern_session_copy(copy, s, e);
        ok = ok && answer_write(copy ? copy : s, &sampler->s, job, was_stopped, e);
        sampler->s.seed++;                      /* each answer has a seed of its own */
    }
    ern_session_close(copy);
    ern_session_close(s);
    return ok;
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    ern_tokens prompt = { 0 };
    cli_sampler sampler = { 0 };
    cli_draft draft = { 0 };
    answer_job job = { .prompt = &prompt, .is_json = o->is_json,
                       .shows_stats = o->shows_stats, .echoes = o->echoes, .n_answers = o->n_answers.is_given ? (size_t)o->n_answers.v : 1 };
    bool ok = false, was_stopped = false;
    ern_engine *eng = NULL;
    cli_catch_interrupt();
    const double started = cli_now();
    if (!check(o, &e) || !(eng = cli_engine_open(o->path, &o->model, &e))) goto out;
    job.load_s = cli_now() - started;
    job.eng = eng;
    job.has_text = eng->tokenizer != NULL;
    if (!cli_sampler_init(&sampler, eng, &o->sampling, &e) || !run_prompt_make(&prompt, &o->prompt, eng, &e)) goto out;
    if (!cli_draft_init(&draft, eng, &o->speculation, &o->model, &e)) goto out;
    sampler.s.draft = draft.draft;
    sampler.s.n_logprobs = (size_t)o->n_logprobs.v;
    ok = answer_all(o, eng, &sampler, &job, &was_stopped, &e);
out:
    cli_sampler_deinit(&sampler);
    cli_draft_deinit(&draft);
    ern_tokens_free(&prompt);
    ern_engine_close(eng);
    if (!ok) return cli_fail(&e);
    return was_stopped ? ern_code_exit(ERN_STOPPED) : 0;
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "file", .letter = 'f', .kind = ARG_TEXT, .value = "FILE",
      .help = N_("read the prompt from a file; - is standard input"), .offset = AT(prompt.file) },
    { .name = "ids", .kind = ARG_IDS, .value = "1,2,3", .help = N_("token ids are the prompt"), .offset = AT(prompt.ids) },
    { .name = "chat", .kind = ARG_FLAG, .help = N_("the prompt is a message: use the chat template"),
      .offset = AT(prompt.is_chat) },
    { .name = "raw", .kind = ARG_FLAG, .help = N_("the prompt is the beginning of a text (as without --chat)"),
      .offset = AT(is_raw) },
    { .name = "system", .letter = 's', .kind = ARG_TEXT, .value = "TEXT", .help = N_("system message; implies --chat"),
      .offset = AT(prompt.system) },
    { .name = "special", .kind = ARG_FLAG, .help = N_("special tokens written in a raw prompt become tokens"),
      .offset = AT(prompt.has_specials) },
    { .name = "answers", .letter = 'n', .kind = ARG_COUNT, .value = "N", .low = 1, .high = MAX_ANSWERS,
      .help = N_("write N answers, with seed, seed + 1, ..."), .offset = AT(n_answers) },
    { .name = "echo", .kind = ARG_FLAG, .help = N_("print the prompt before the answer"), .offset = AT(echoes) },
    { .name = "logprobs", .kind = ARG_COUNT, .value = "N", .low = 0, .high = ERN_MAX_LOGPROBS,
      .help = N_("report log probabilities of each token and of the N best; with --json"), .offset = AT(n_logprobs) },
    { .name = "stats", .kind = ARG_FLAG, .help = N_("say on standard error how long it took and what guesses were worth"),
      .offset = AT(shows_stats) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object for each answer"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Prompt and output:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_REQUIRED, N_("a folder, a GGUF file, or the name of a fetched model"), AT(path) },
    { "PROMPT", ARG_REST, N_("the prompt; standard input when there is none and no --file or --ids"), AT(prompt.words) },
};

const arg_command cmd_run = {
    .name = "run",
    .summary = N_("answer one prompt"),
    .output = N_("The answer as it is written; several answers are separated by a line ---. With --json, for each "
                 "answer one line {\"index\", \"ids\", \"text\", \"finish\", \"end_id\", \"n_prompt\", \"n_tokens\", "
                 "\"timings\"}: ids holds every token written, the end token included; finish is end, stop, length or "
                 "interrupted; end_id is the token that ended it or -1; --logprobs adds \"logprobs\" [{\"id\", "
                 "\"text\", \"logprob\", \"top\"}], --echo \"prompt_ids\", --speculate \"speculation\" {\"tokens\", \"passes\", "
                 "\"drafted\", \"accepted\"}. One newline at the end of a prompt from a "
                 "file or standard input is left out."),
    .examples = "  ernie run MODEL 'Large language model is' --max-tokens 40\n  ernie run MODEL --chat 'Who was Zhang "
                "Heng?' --temp 0\n"
                "  ernie run MODEL --ids 1,2,3 --max-tokens 8 --temp 0 --json",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_sampling_group, AT(sampling) }, { &cli_speculation_group, AT(speculation) },
                { &cli_model_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
