/* Lines typed by a person (libedit, with a history that lasts) or sent by a program (plain lines). */
#ifndef CLI_LINEEDIT_H
#define CLI_LINEEDIT_H

#include "base/err.h"

typedef struct lineedit lineedit;

enum lineedit_kind { LINE_TEXT, LINE_END, LINE_INTERRUPTED, LINE_FAILED };

lineedit *lineedit_open(ern_err *e);
void lineedit_close(lineedit *l);
bool lineedit_is_terminal(const lineedit *l);

/* *text: without its line end, until the next call. Ctrl-C at the prompt is LINE_INTERRUPTED. */
enum lineedit_kind lineedit_read(lineedit *l, const char *prompt, const char **text, ern_err *e);
/* into the history, if it is not there already as the last one */
void lineedit_remember(lineedit *l, const char *line);

#endif
