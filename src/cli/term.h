/* What the terminal can do, and a progress bar on stderr. */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

bool term_is_tty(FILE *fp);
bool term_has_colour(FILE *fp);         /* a terminal that is not dumb, and NO_COLOR is not set */
size_t term_columns(void);              /* of stderr; 80 when it does not say */
size_t term_width(const char *s, size_t n);     /* columns that UTF-8 text takes: Chinese characters two */

void term_cell(FILE *fp, const char *text, int columns);        /* padded on the left, or on the right when negative */

enum term_style { TERM_PLAIN, TERM_DIM, TERM_BOLD, TERM_GREEN, TERM_RED };
void term_style(FILE *fp, enum term_style style);       /* nothing where there is no colour */

/* One line that rewrites itself: label, bar, done of total, speed, time left. Shown on a terminal only, and only when the
 * work takes longer than a moment. */
typedef struct {
    const char *label, *unit;           /* unit "B": bytes, printed as sizes; borrowed */
    double started, shown;              /* seconds */
    uint64_t from;                      /* done at the start: not counted as speed */
    bool is_shown;
} term_progress;

void term_progress_begin(term_progress *p, const char *label, const char *unit, uint64_t from);
void term_progress_at(term_progress *p, uint64_t done, uint64_t total);        /* total 0: unknown */
void term_progress_end(term_progress *p);               /* the line is cleared */

#endif
