/* One forward pass for many sessions: what a server's step is. Each part appends tokens to its session (a chunk of a
 * prompt, or one drawn token) and leaves the logits after the last of them in the session, bit for bit as if it ran alone.
 *
 *     ern_batch *b = batch_open(eng, 16, e);
 *     batch_part parts[] = { { s1, &id1, 1 }, { s2, prompt, 100 } };
 *     if (!batch_step(b, parts, 2, e)) ...        none of the sessions has advanced
 *
 * The caller owns all sessions of a step while it runs; a session is in it once. */
#ifndef ENGINE_BATCH_H
#define ENGINE_BATCH_H

#include "ern.h"

typedef struct ern_batch ern_batch;

typedef struct { ern_session *s; const int32_t *ids; size_t n; } batch_part;

ern_batch *batch_open(ern_engine *eng, size_t max_parts, ern_err *e);
void batch_close(ern_batch *b);
size_t batch_max_rows(const ern_batch *b);      /* tokens of one step, all parts together: the engine's max_batch */
bool batch_step(ern_batch *b, const batch_part *parts, size_t n_parts, ern_err *e);

#endif
