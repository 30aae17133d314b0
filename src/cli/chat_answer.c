/* One answer on the terminal: progress while the prompt is read, reasoning dimmed, ctrl-C stops it. */
#include <stdlib.h>
#include <string.h>

#include "cli/chat.h"
#include "cli/term.h"

struct printing { cli_chat *chat; term_progress progress; enum reason_kind last; bool has_text; };

static bool on_prompt(void *ctx, size_t done, size_t total) {
    struct printing *p = ctx;
    term_progress_at(&p->progress, done, total);
    return !cli_interrupted();
}

/* A change of kind begins a new paragraph with its own style. */
static void change_kind(struct printing *p, enum reason_kind kind) {
    const bool was_reasoning = p->has_text && p->last != REASON_CONTENT;
    if (p->has_text) {
        term_style(stdout, TERM_PLAIN);
        fputs("\n", stdout);
    }
    if (kind != REASON_CONTENT) term_style(stdout, TERM_DIM);
    else if (was_reasoning) fputs("\n", stdout);
    p->last = kind;
}

static bool on_text(void *ctx, enum reason_kind kind, const char *text, size_t n) {
    struct printing *p = ctx;
    if (n == 0 || (kind == REASON_REASONING && !p->chat->shows_reasoning)) return !cli_interrupted();
    if (!p->has_text || p->last != kind) change_kind(p, kind);
    p->has_text = true;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
    return !cli_interrupted() && !ferror(stdout);
}

/* What a person can do when the context is full. */
static void say_full(const cli_chat *c, size_t n) {
    const size_t n_ctx = ern_session_n_ctx(c->session), most = ern_engine_max_context(c->eng);
    fprintf(stderr, _("ernie: the context is full: the conversation has %zu tokens, the context holds %zu.\n"), n, n_ctx);
    fputs(_("Take back turns with /undo, keep the conversation with /save FILE"), stderr);
    if (most > n_ctx) fprintf(stderr, _(", or start again with --ctx N (this model: up to %zu) and /load FILE"), most);
    fputs(".\n", stderr);
}

/* No answer: the question is taken back. A person goes on; a script is told and ends. */
static bool refuse(cli_chat *c, const ern_err *why, ern_err *e) {
    conversation_undo(c->talk);
    cli_clear_interrupt();
    if (!lineedit_is_terminal(c->lines)) {
        *e = *why;
        return false;
    }
    if (why->code == ERN_STOPPED) puts(_("[stopped; the question was taken back]"));
    else cli_fail(why);
    if (why->code == ERN_LIMIT) say_full(c, ern_session_n_tokens(c->session));
    return true;
}

bool chat_answer(cli_chat *c, ern_err *e) {
    struct printing p = { .chat = c };
    const conversation_hooks hooks = { on_prompt, on_text, &p };
    conversation_stats st;
    ern_err why = { 0 };
    ern_draft_stats before = { 0 };
    cli_clear_interrupt();
    if (c->sampling.draft) before = ern_draft_stats_of(c->sampling.draft);
    term_progress_begin(&p.progress, _("reading"), _("tokens"), 0);
    const bool ok = conversation_answer(c->talk, &c->sampling, &hooks, &st, &why);
    term_progress_end(&p.progress);
    term_style(stdout, TERM_PLAIN);
    if (p.has_text) putchar('\n');
    /* the next answer draws anew; with --seed the whole talk is still repeatable */
    c->sampling.seed++;
    if (!ok) return refuse(c, &why, e);
    if (st.result.finish == ERN_FINISH_CALLER) {
        puts(_("[stopped]"));
        if (!lineedit_is_terminal(c->lines)) return ern_fail(e, ERN_STOPPED, _("stopped"));
    }
    if (st.result.finish == ERN_FINISH_LENGTH && ern_session_n_tokens(c->session) >= ern_session_n_ctx(c->session))
        say_full(c, ern_session_n_tokens(c->session));
    c->last = st;
    if (c->sampling.draft) c->guesses = cli_draft_since(c->sampling.draft, &before);
    c->has_last = true;
    cli_clear_interrupt();
    return true;
}
