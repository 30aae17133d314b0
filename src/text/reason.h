/* What a model writes, split into events: reasoning (<think>), content (<response>) and tool calls (<tool_call>).
 * Fed piece by piece or at once, the concatenated events are the same, wherever the pieces are cut.
 *
 *     ern_reason *r = reason_open(prompt_ended_in_think, on_event, ctx, &e);
 *     reason_feed(r, piece, n, &e); ...
 *     reason_finish(r, &e);
 *     reason_close(r);
 *
 * The grammar, lenient about newlines:
 * - text is reasoning from "<think>" (or the beginning, with starts_inside) to "</think>"; without an end, all of it;
 *   "<think>" counts at the beginning only, "</think>" after a beginning only;
 * - newlines after "</think>", "</response>" and "</tool_call>" are dropped, and the tags themselves always;
 * - "<response>" counts as the first thing of the content, then newlines beside it and before "</response>" are dropped;
 * - "<tool_call>" {object with a name} "</tool_call>" is a call wherever it stands in the content, newlines before it are
 *   dropped; the end tag may be missing at the end of the text. A call that is no such JSON stays content, tags and all.
 */
#ifndef TEXT_REASON_H
#define TEXT_REASON_H

#include "base/buf.h"

enum reason_kind { REASON_CONTENT, REASON_REASONING, REASON_TOOL_CALL };

/* A tool call's text is its JSON object; content and reasoning come as they are known to be final. */
typedef bool (*reason_fn)(void *ctx, enum reason_kind kind, const char *text, size_t n);   /* false: stop */

typedef struct ern_reason ern_reason;

/* starts_inside: the prompt already ended in "<think>", so text begins as reasoning. */
ern_reason *reason_open(bool starts_inside, reason_fn on_event, void *ctx, ern_err *e);
bool reason_feed(ern_reason *r, const char *text, size_t n, ern_err *e);
bool reason_finish(ern_reason *r, ern_err *e);          /* no more text: what was held back is decided */
void reason_close(ern_reason *r);

#endif
