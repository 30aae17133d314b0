/* The conversation loop of `chat`: lines in, commands obeyed, answers streamed. */
#ifndef CLI_CHAT_H
#define CLI_CHAT_H

#include "cli/cli.h"
#include "cli/lineedit.h"
#include "engine/conversation.h"

typedef struct {
    ern_engine *eng;
    ern_session *session;
    ern_conversation *talk;
    lineedit *lines;
    ern_sampling sampling;
    bool shows_reasoning, is_quiet;
    conversation_stats last;            /* of the last answer */
    bool has_last;
    ern_draft_stats guesses;            /* of the last answer; with sampling.draft */
} cli_chat;

bool chat_loop(cli_chat *c, ern_err *e);                /* until /quit, the end of input, or ctrl-C twice */

/* chat_answer.c */
bool chat_answer(cli_chat *c, ern_err *e);              /* the last question; false only when going on makes no sense */

/* chat_commands.c: a line that begins with / */
enum chat_next { CHAT_GO_ON, CHAT_QUIT, CHAT_FAILED };
enum chat_next chat_command(cli_chat *c, const char *line, ern_err *e);

#endif
