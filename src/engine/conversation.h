/* A conversation on one session: turns in, answers out, the shared beginning of the prompt never computed twice.
 *
 *     ern_conversation *c = conversation_open(session, "Answer briefly.", &e);
 *     conversation_say(c, "Hello!", &e);
 *     conversation_answer(c, &sampling, &hooks, &stats, &e);      events as they come; the answer joins the history
 *     conversation_undo(c);                                       the last question and its answer are gone
 *
 * The session is borrowed and outlives the conversation; nobody else moves it meanwhile.
 */
#ifndef ENGINE_CONVERSATION_H
#define ENGINE_CONVERSATION_H

#include <jansson.h>

#include "ern.h"
#include "text/reason.h"

typedef struct ern_conversation ern_conversation;

typedef struct {
    ern_progress_fn on_prompt;      /* the prompt is being computed; may be NULL */
    reason_fn on_text;              /* pieces of reasoning, content and tool calls; false stops the answer */
    void *ctx;
} conversation_hooks;

typedef struct {
    size_t n_prompt, n_reused;      /* tokens of the prompt, and how many of them were there already */
    double prompt_s, answer_s;
    ern_result result;
} conversation_stats;

ern_conversation *conversation_open(ern_session *s, const char *system, ern_err *e);     /* system may be NULL */
void conversation_close(ern_conversation *c);

/* NULL or "": none; the turns stay */
bool conversation_set_system(ern_conversation *c, const char *system, ern_err *e);
const char *conversation_system(const ern_conversation *c);                             /* NULL: none */

bool conversation_say(ern_conversation *c, const char *text, ern_err *e);
/* Fails with ERN_LIMIT and both numbers when the prompt leaves no room in the context; the history is then as before. */
bool conversation_answer(ern_conversation *c, const ern_sampling *o, const conversation_hooks *hooks,
                         conversation_stats *out, ern_err *e);
bool conversation_undo(ern_conversation *c);            /* false: there is no turn */
bool conversation_drop_answer(ern_conversation *c);     /* so that the last question can be answered again; false: none */
size_t conversation_n_turns(const ern_conversation *c);                 /* questions so far */
/* [{role, content, reasoning_content?}], until the next change */
const json_t *conversation_messages(const ern_conversation *c);

/* PATH holds the messages as JSON (FORMATS.md), PATH.kv the session, so that loading computes nothing. A PATH.kv that is
 * missing or of
 * another model only costs time. */
bool conversation_save(const ern_conversation *c, const char *path, ern_err *e);
bool conversation_load(ern_conversation *c, const char *path, ern_err *e);

#endif
