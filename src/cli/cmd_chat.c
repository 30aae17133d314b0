/* Talk to a model. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/term.h"
#include "engine/engine.h"

#define DEFAULT_MODEL "SmolLM2-135M-Instruct.Q4_1.gguf"         /* what ./run chat fetches */

struct options { cli_model model; cli_sampling sampling; cli_speculation speculation; const char *path, *system, *load, *reasoning; bool is_quiet; };

/* MODEL, $ERNIE_MODEL, or the model that ./run chat fetched. Caller frees. */
static char *find_model(const struct options *o, ern_err *e) {
    const char *given = o->path ? o->path : getenv("ERNIE_MODEL");
    if (given && *given) return cli_model_path(given, e);
    char *folder = cli_models_folder(e), *path = folder ? file_join(folder, DEFAULT_MODEL, e) : NULL;
    if (path && !file_exists(path)) {
        ern_fail(e, ERN_NOTFOUND,
                 _("no model: name one (ernie chat MODEL), set ERNIE_MODEL, fetch one (ernie pull NAME), or run ./run "
                   "chat, which fetches a small one to %s"), path);
        free(path);
        path = NULL;
    }
    free(folder);
    return path;
}

static bool shows_reasoning(const struct options *o) {
    if (o->reasoning && strcmp(o->reasoning, "auto") != 0) return strcmp(o->reasoning, "show") == 0;
    return term_is_tty(stdout);
}

static void greet(const cli_chat *c, const char *path) {
    const char *slash = strrchr(path, '/');
    if (c->is_quiet || !lineedit_is_terminal(c->lines)) return;
    term_style(stdout, TERM_BOLD);
    fputs(slash && slash[1] ? slash + 1 : path, stdout);
    term_style(stdout, TERM_PLAIN);
    printf(_(", context of %zu tokens. /help lists the commands, ctrl-D leaves.\n"), ern_session_n_ctx(c->session));
}

static bool start(cli_chat *c, const struct options *o, const char *path, ern_err *e) {
    if (!(c->eng = cli_engine_open(path, &o->model, e))) return false;
    if (!c->eng->tokenizer || !c->eng->chat) {
        ern_tokens unused = { 0 };
        const bool ok = ern_chat_tokens(c->eng, "[]", true, &unused, e);        /* says what is missing */
        ern_tokens_free(&unused);
        if (!ok) return false;
    }
    return (c->session = cli_session_open(c->eng, &o->model, e)) &&
           (c->talk = conversation_open(c->session, o->system, e)) &&
           (!o->load || conversation_load(c->talk, o->load, e)) && (c->lines = lineedit_open(e));
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    cli_chat c = { .shows_reasoning = shows_reasoning(o), .is_quiet = o->is_quiet };
    cli_sampler sampler = { 0 };
    cli_draft draft = { 0 };
    bool ok = false;
    char *path = find_model(o, &e);
    cli_catch_interrupt();
    if (!path || !start(&c, o, path, &e) || !cli_sampler_init(&sampler, c.eng, &o->sampling, &e)) goto out;
    if (!cli_draft_init(&draft, c.eng, &o->speculation, &o->model, &e)) goto out;
    c.sampling = sampler.s;
    c.sampling.draft = draft.draft;
    if (!o->sampling.seed.is_given) c.sampling.seed = (uint64_t)time(NULL) * 1000003u;
    greet(&c, path);
    ok = chat_loop(&c, &e);
out:
    lineedit_close(c.lines);
    conversation_close(c.talk);
    ern_session_close(c.session);
    cli_sampler_deinit(&sampler);
    cli_draft_deinit(&draft);
    ern_engine_close(c.eng);
    free(path);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "system", .letter = 's', .kind = ARG_TEXT, .value = "TEXT", .help = N_("system message"),
      .offset = AT(system) },
    { .name = "load", .letter = 'l', .kind = ARG_TEXT, .value = "FILE",
      .help = N_("go on with a conversation saved by /save"), .offset = AT(load) },
    { .name = "reasoning", .kind = ARG_CHOICE, .value = "WHEN", .choices = "auto|show|hide",
      .help = N_("print the model's reasoning; auto: on a terminal"),
      .offset = AT(reasoning) },
    { .name = "quiet", .letter = 'q', .kind = ARG_FLAG, .help = N_("no greeting"), .offset = AT(is_quiet) },
};
static const arg_group group = { N_("Conversation:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_OPTIONAL,
      N_("a folder, a GGUF file, or the name of a fetched model; $ERNIE_MODEL or the small default model otherwise"),
          AT(path) },
};

const arg_command cmd_chat = {
    .name = "chat",
    .summary = N_("talk to a model"),
    .details = N_("Lines are edited with the usual keys and remembered. A line that ends in \\ goes on in the next; "
                  "\"\"\" begins and ends a text of several lines. Ctrl-C stops an answer; twice at the prompt it ends "
                  "the program. /help lists the commands: /system /save /load /regen /undo /stats /quit.\n\nWhen "
                  "standard input is no terminal, each line is a message (or a command) and only the answers are "
                  "printed."),
    .examples = "  ernie chat\n  ernie chat MODEL --ctx 32K --system 'Answer briefly.'\n  printf 'Hello\\nAnd in "
                "French?\\n' | ernie chat MODEL --temp 0",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 }, { &cli_sampling_group, AT(sampling) }, { &cli_speculation_group, AT(speculation) },
                { &cli_model_group, AT(model) } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
