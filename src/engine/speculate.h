/* Speculation: guesses for the next tokens go through the model together with the last one; rows of a pass are independent
 * bit for bit, so their logits are those that one step after the other would give. The answer draws from them with its own
 * sampler, penalties and constraint, one by one: while the token drawn is the one guessed, its step is done already. The
 * text is therefore the same as without, for every setting; what guesses were wrong are cut off the timeline.
 *
 *     if (!speculate_begin(d, s, false, e)) ...            an answer begins on s
 *     ... draw id from ern_session_logits(s) ...
 *     if (!speculate_append(d, s, id, true, e)) ...        as ern_session_append(s, &id, 1, ...)
 */
#ifndef ENGINE_SPECULATE_H
#define ENGINE_SPECULATE_H

#include "engine/engine.h"

bool speculate_begin(ern_draft *d, const ern_session *s, bool ignores_end, ern_err *e);

/* goes_on: more tokens will be wanted after this one. */
bool speculate_append(ern_draft *d, ern_session *s, int32_t id, bool goes_on, ern_err *e);

/* From now on as many guesses as there may be, whatever they are worth: for tests and measurements. */
void speculate_always(ern_draft *d);

/* What followed the last tokens of ids[n] where they stood before: the longest match counts, the latest among equals.
 * Writes at most max ids to out (that may run on into a copy of themselves) and returns how many; *n_matched: tokens that
 * agreed before it. */
size_t speculate_lookup(const int32_t *ids, size_t n, int32_t *out, size_t max, size_t *n_matched);

#endif
