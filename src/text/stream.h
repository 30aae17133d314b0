/* Tokens to text as they come: whole UTF-8 characters only, and stop strings found across token borders.
 *
 *     ern_stream *s = stream_open(tokenizer, stops, n_stops, &e);
 *     stream_feed(s, id, &out, &stopped, &e);     appends what became final; may append nothing
 *     stream_finish(s, &out, &e);                 what was held back; cut characters become U+FFFD (SPM: each byte)
 *
 * Text that may be the beginning of a stop string is held until it is decided; the stop string itself and what follows
 * it are never given out; of several stop strings the one complete first ends the text. Special tokens are left out, but
 * not the marks that text/reason.h reads ("<think>", "<response>", "<tool_call>"). The stop strings are copied; the
 * tokenizer is borrowed and outlives the stream.
 */
#ifndef TEXT_STREAM_H
#define TEXT_STREAM_H

#include "text/tokenizer.h"

typedef struct ern_stream ern_stream;

ern_stream *stream_open(const ern_tokenizer *t, const char *const *stops, size_t n_stops, ern_err *e);
void stream_show_specials(ern_stream *s);                 /* special tokens too, as they are written */
bool stream_feed(ern_stream *s, int32_t id, ern_buf *out, bool *stopped, ern_err *e);
size_t stream_stopped_by(const ern_stream *s);          /* which of the stop strings, once stopped */
bool stream_finish(ern_stream *s, ern_buf *out, ern_err *e);
void stream_close(ern_stream *s);

#endif
