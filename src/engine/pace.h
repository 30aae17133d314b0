/* How many tokens to guess ahead: as many as make the expected tokens a second highest, by what guesses were worth and
 * passes cost so far. Old measurements fade, so that it follows the text and the machine.
 *
 *     n = pace_length(&p, kind, most);         guesses to make
 *     pace_pass(&p, rows, seconds);            a pass of the model over so many rows took this long
 *     pace_drafting(&p, n, seconds);           making n guesses took this long
 *     pace_outcome(&p, kind, tried, right);    guesses that were compared with what was drawn
 */
#ifndef ENGINE_PACE_H
#define ENGINE_PACE_H

#include <stddef.h>

/* Guesses from different evidence are right to different degrees. */
enum pace_kind { PACE_SHORT, PACE_MIDDLE, PACE_LONG, PACE_MODEL, PACE_KINDS };  /* tokens that matched; or a draft model */

typedef struct {
    double weight, rows, rows2, seconds, rows_seconds;      /* faded sums over passes: 1, T, T^2, s, T s */
    double slope;                                           /* cost of one more row, of the mean pass; 0: nothing measured */
    double draft_s;                                         /* of one guess; 0: nothing measured */
    double tried[PACE_KINDS], right[PACE_KINDS];            /* faded counts */
} ern_pace;

size_t pace_length(ern_pace *p, enum pace_kind kind, size_t most);
void pace_pass(ern_pace *p, size_t n_rows, double seconds);
void pace_drafting(ern_pace *p, size_t n, double seconds);
void pace_outcome(ern_pace *p, enum pace_kind kind, size_t n_tried, size_t n_right);

#endif
