/* One answer as it grows, apart from where its logits come from: draw under penalties and a constraint, test for the end,
 * give out whole characters. ern_session_generate and the scheduler drive it.
 *
 *     ern_answer *a = answer_open(eng, &options, e);
 *     do { answer_next(a, logits, ids, n_ids, &ev, &is_done, e);   ... compute the logits after ev.id ... } while
 * (!is_done);
 *     answer_rest(a, &ev, e);                      text that was held back for a stop string or a cut character
 */
#ifndef ENGINE_ANSWER_H
#define ENGINE_ANSWER_H

#include "engine/constrain.h"
#include "engine/engine.h"

typedef struct ern_answer ern_answer;

typedef struct {
    const ern_sampling *sampling;       /* borrowed until close, with all it points at */
    ern_constraint *constraint;         /* NULL: none; borrowed until close */
    int32_t constraint_after;           /* the constraint begins behind this id ("</think>"); -1: at once */
    bool shows_specials;                /* text holds special tokens too */
    /* A limit on reasoning: after think_budget tokens without think_end, the ids of think_close are written instead of what
     * the model would draw. think_end -1: no limit. */
    int32_t think_end;
    size_t think_budget;
    const int32_t *think_close;         /* borrowed; ends in think_end */
    size_t n_think_close;
} answer_options;

void answer_defaults(answer_options *o, const ern_sampling *sampling);
ern_answer *answer_open(const ern_engine *eng, const answer_options *o, ern_err *e);
void answer_close(ern_answer *a);

/* The next token after history [n], whose logits [V] are given. ev->text lives until the next call. ev->id is -1 when the
 * answer ended without a token that belongs to the timeline (an end token, or a constraint that is complete). */
bool answer_next(ern_answer *a, const float *logits, const int32_t *history, size_t n, ern_token_event *ev,
                 bool *is_done, ern_err *e);
/* Once, at the end: the rest of the text; *has_text false: there is none. */
bool answer_rest(ern_answer *a, ern_token_event *ev, bool *has_text, ern_err *e);
void answer_stop(ern_answer *a, enum ern_finish why);       /* the caller ends it */
const ern_result *answer_result(const ern_answer *a);

#endif
