#include "cli/chat.h"

#include <stdlib.h>
#include <string.h>

#include "cli/term.h"

#define MAX_MESSAGE ((size_t)64 << 20)
#define FENCE "\"\"\""

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* More lines of a message: after a backslash at the end of a line, or up to the closing fence. */
static enum lineedit_kind read_rest(cli_chat *c, ern_buf *message, bool is_fenced, ern_err *e) {
    const char *line;
    for (;;) {
        const enum lineedit_kind kind = lineedit_read(c->lines, "... ", &line, e);
        if (kind == LINE_END) return LINE_TEXT;         /* what there is, is the message */
        if (kind != LINE_TEXT) return kind;
        const bool closes = is_fenced && ends_with(line, FENCE), goes_on = !is_fenced && ends_with(line, "\\");
        const size_t n = strlen(line) - (closes ? strlen(FENCE) : goes_on ? 1 : 0);
        if ((message->len && !buf_char(message, '\n', e)) || !buf_add(message, line, n, e)) return LINE_FAILED;
        if (closes || (!is_fenced && !goes_on)) return LINE_TEXT;
    }
}

/* One message of one or more lines. */
static enum lineedit_kind read_message(cli_chat *c, ern_buf *message, ern_err *e) {
    const char *line;
    buf_clear(message);
    const enum lineedit_kind kind = lineedit_read(c->lines, ">>> ", &line, e);
    if (kind != LINE_TEXT) return kind;
    lineedit_remember(c->lines, line);
    const bool is_fenced = strncmp(line, FENCE, strlen(FENCE)) == 0;
    if (is_fenced) {
        line += strlen(FENCE);
        const bool is_whole = *line && ends_with(line, FENCE);
        if (!buf_add(message, line, strlen(line) - (is_whole ? strlen(FENCE) : 0), e)) return LINE_FAILED;
        return is_whole ? LINE_TEXT : read_rest(c, message, true, e);
    }
    const bool goes_on = ends_with(line, "\\");
    if (!buf_add(message, line, strlen(line) - goes_on, e)) return LINE_FAILED;
    return goes_on ? read_rest(c, message, false, e) : LINE_TEXT;
}

static bool is_blank(const char *s) { return s[strspn(s, " \t\r\n")] == '\0'; }

/* "//x" is the message "/x". */
static enum chat_next obey(cli_chat *c, const char *message, ern_err *e) {
    if (message[0] == '/' && message[1] != '/') return chat_command(c, message, e);
    if (is_blank(message)) return CHAT_GO_ON;
    ern_err why = { 0 };
    if (!conversation_say(c->talk, message[0] == '/' ? message + 1 : message, &why)) {
        cli_fail(&why);
        return CHAT_GO_ON;
    }
    return chat_answer(c, e) ? CHAT_GO_ON : CHAT_FAILED;
}

bool chat_loop(cli_chat *c, ern_err *e) {
    ern_buf message = { .max = MAX_MESSAGE };
    bool was_interrupted = false, ok = true;
    for (bool is_over = false; !is_over;) {
        const enum lineedit_kind kind = read_message(c, &message, e);
        if (kind == LINE_INTERRUPTED) {
            if (was_interrupted || !lineedit_is_terminal(c->lines)) break;
            was_interrupted = true;
            puts(_("(ctrl-C again, ctrl-D or /quit to leave)"));
            continue;
        }
        was_interrupted = false;
        if (kind == LINE_FAILED) ok = false;
        if (kind != LINE_TEXT) break;
        const enum chat_next next = obey(c, message.data ? message.data : "", e);
        ok = next != CHAT_FAILED;
        is_over = next != CHAT_GO_ON;
    }
    buf_deinit(&message);
    return ok;
}
