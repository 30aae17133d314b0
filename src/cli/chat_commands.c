/* /system /save /load /regen /undo /stats /help /quit */
#include <stdlib.h>
#include <string.h>

#include "cli/chat.h"
#include "cli/term.h"

/* rest: what stands after the command's name, "" when nothing does. */
typedef enum chat_next (*command_fn)(cli_chat *c, const char *rest, ern_err *e);

static enum chat_next do_system(cli_chat *c, const char *rest, ern_err *e) {
    ern_err why = { 0 };
    (void)e;
    const char *now = conversation_system(c->talk);
    if (!*rest) printf("%s\n", now ? now : _("(no system message)"));
    else if (!conversation_set_system(c->talk, strcmp(rest, "clear") == 0 ? NULL : rest, &why)) cli_fail(&why);
    else puts(_("The system message is changed from the next question on."));
    return CHAT_GO_ON;
}

static enum chat_next do_save(cli_chat *c, const char *rest, ern_err *e) {
    ern_err why = { 0 };
    (void)e;
    if (!*rest) puts(_("/save FILE: a file name is missing"));
    else if (!conversation_save(c->talk, rest, &why)) cli_fail(&why);
    else printf(_("saved: %s (messages) and %s.kv (computed state)\n"), rest, rest);
    return CHAT_GO_ON;
}

static enum chat_next do_load(cli_chat *c, const char *rest, ern_err *e) {
    ern_err why = { 0 };
    (void)e;
    if (!*rest) puts(_("/load FILE: a file name is missing"));
    else if (!conversation_load(c->talk, rest, &why)) cli_fail(&why);
    else
        printf(_("loaded: %zu questions, %zu tokens computed\n"), conversation_n_turns(c->talk),
               ern_session_n_tokens(c->session));
    return CHAT_GO_ON;
}

static enum chat_next do_regen(cli_chat *c, const char *rest, ern_err *e) {
    (void)rest;
    if (!conversation_drop_answer(c->talk)) {
        puts(_("There is no answer to write again."));
        return CHAT_GO_ON;
    }
    return chat_answer(c, e) ? CHAT_GO_ON : CHAT_FAILED;
}

static enum chat_next do_undo(cli_chat *c, const char *rest, ern_err *e) {
    (void)rest;
    (void)e;
    if (conversation_undo(c->talk))
        printf(_("The last question and its answer are taken back; %zu remain.\n"), conversation_n_turns(c->talk));
    else puts(_("There is nothing to take back."));
    return CHAT_GO_ON;
}

static double rate(size_t n, double s) { return s > 0.0 ? (double)n / s : 0.0; }

static enum chat_next do_stats(cli_chat *c, const char *rest, ern_err *e) {
    const conversation_stats *st = &c->last;
    (void)rest;
    (void)e;
    printf(_("context: %zu of %zu tokens, %zu questions\n"), ern_session_n_tokens(c->session),
           ern_session_n_ctx(c->session), conversation_n_turns(c->talk));
    if (!c->has_last) return CHAT_GO_ON;
    const size_t computed = st->n_prompt - st->n_reused;
    printf(_("last prompt: %zu tokens, %zu of them kept from before, %zu computed in %.2f s (%.1f tokens/s)\n"),
           st->n_prompt, st->n_reused, computed,
           st->prompt_s, rate(computed, st->prompt_s));
    printf(_("last answer: %zu tokens in %.2f s (%.1f tokens/s)\n"), st->result.n_tokens, st->answer_s,
           rate(st->result.n_tokens, st->answer_s));
    if (c->sampling.draft) cli_draft_print(stdout, &c->guesses);
    return CHAT_GO_ON;
}

static enum chat_next do_quit(cli_chat *c, const char *rest, ern_err *e) {
    (void)c;
    (void)rest;
    (void)e;
    return CHAT_QUIT;
}

static enum chat_next do_help(cli_chat *c, const char *rest, ern_err *e);

static const struct { const char *name, *argument, *help; command_fn fn; } table[] = {
    { "system", " TEXT", N_("set the system message; without TEXT show it; clear removes it"), do_system },
    { "save", " FILE", N_("save the conversation"), do_save },
    { "load", " FILE", N_("go on with a saved conversation"), do_load },
    { "regen", "", N_("write the last answer again"), do_regen },
    { "undo", "", N_("take back the last question and its answer"), do_undo },
    { "stats", "", N_("tokens and speed"), do_stats },
    { "help", "", N_("this list"), do_help },
    { "quit", "", N_("leave (also ctrl-D)"), do_quit },
};

static enum chat_next do_help(cli_chat *c, const char *rest, ern_err *e) {
    (void)c;
    (void)rest;
    (void)e;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char label[32];
        snprintf(label, sizeof label, "/%s%s", table[i].name, table[i].argument);
        printf("  %-16s%s\n", label, _(table[i].help));
    }
    puts(_("A line that ends in \\ goes on in the next; \"\"\" begins and ends a text of several lines. Ctrl-C stops an "
           "answer. // sends a line that begins with /."));
    return CHAT_GO_ON;
}

enum chat_next chat_command(cli_chat *c, const char *line, ern_err *e) {
    const char *names[COUNT_OF(table)];
    char word[32];
    const size_t n = strcspn(line + 1, " \t\n");
    const char *rest = line + 1 + n;
    rest += strspn(rest, " \t\n");
    snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), line + 1);
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (strcmp(table[i].name, word) == 0) return table[i].fn(c, rest, e);
        names[i] = table[i].name;
    }
    const char *near = args_nearest(word, names, COUNT_OF(table));
    if (near) printf(_("unknown command /%s; did you mean /%s?\n"), word, near);
    else printf(_("unknown command /%s; see /help\n"), word);
    return CHAT_GO_ON;
}
