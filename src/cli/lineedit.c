#include "cli/lineedit.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/term.h"

#define HISTORY_LINES 1000

struct lineedit {
    EditLine *el;               /* NULL: stdin is no terminal */
    History *history;
    char *history_path;         /* NULL: no place to keep it */
    const char *prompt;
    char *text;                 /* the last line */
    cli_lines plain;
};

/* Wait for input or ctrl-C: the signal is let in only while waiting, so that none slips by just before. */
static bool wait_input(void) {
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, &before);
    int n = 0;
    while (!cli_interrupted() && (n = ppoll(&in, 1, NULL, &before)) < 0 && errno == EINTR) continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n > 0 && !cli_interrupted();
}

/* One character; ctrl-C ends the line. */
static int read_char(EditLine *el, wchar_t *out) {
    char bytes[8];
    size_t n = 0;
    (void)el;
    while (n < sizeof bytes) {
        mbstate_t state = { 0 };
        if (!wait_input()) return -1;
        const ssize_t got = read(STDIN_FILENO, bytes + n, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return (int)got;
        size_t used = mbrtowc(out, bytes, ++n, &state);
        if (used == (size_t)-1 && n > 1) {      /* what was begun is no character; the last byte may begin one */
            memset(&state, 0, sizeof state);
            bytes[0] = bytes[n - 1];
            n = 1;
            used = mbrtowc(out, bytes, n, &state);
        }
        if (used == (size_t)-2) continue;
        if (used != (size_t)-1) return 1;
        n = 0;
    }
    return -1;
}

static char *prompt_of(EditLine *el) {
    lineedit *l = NULL;
    el_get(el, EL_CLIENTDATA, &l);
    return (char *)(uintptr_t)l->prompt;
}

/* Folders on the way to path, private to the user. */
static void make_folders(char *path) {
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0700);
            *p = '/';
        }
}

static char *find_history(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    ern_buf b = { .max = 65536 };
    const bool ok = state && *state ? buf_printf(&b, NULL, "%s/ernie/history", state)
                  : home && *home ? buf_printf(&b, NULL, "%s/.local/state/ernie/history", home) : false;
    if (!ok) buf_deinit(&b);
    return buf_take(&b);
}

static bool open_editor(lineedit *l, ern_err *e) {
    HistEvent ev;
    l->el = el_init("ernie", stdin, stdout, stderr);
    l->history = history_init();
    if (!l->el || !l->history) return ern_fail(e, ERN_NOMEM, _("the line editor could not be started"));
    history(l->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(l->history, &ev, H_SETUNIQUE, 1);
    el_set(l->el, EL_CLIENTDATA, l);
    el_set(l->el, EL_PROMPT, prompt_of);
    el_set(l->el, EL_EDITOR, "emacs");
    el_set(l->el, EL_HIST, history, l->history);
    el_set(l->el, EL_GETCFN, read_char);
    el_set(l->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(l->el, NULL);     /* ~/.editrc */
    if ((l->history_path = find_history())) {
        make_folders(l->history_path);
        history(l->history, &ev, H_LOAD, l->history_path);
    }
    return true;
}

lineedit *lineedit_open(ern_err *e) {
    lineedit *l = mem_zalloc(1, sizeof *l, "line editor", e);
    if (!l) return NULL;
    const bool ok = term_is_tty(stdin) && term_is_tty(stdout) ? open_editor(l, e) : cli_lines_open(&l->plain, "-", e);
    if (ok) return l;
    lineedit_close(l);
    return NULL;
}

void lineedit_close(lineedit *l) {
    if (!l) return;
    if (l->history) history_end(l->history);
    if (l->el) el_end(l->el);
    else cli_lines_close(&l->plain);
    free(l->history_path);
    free(l->text);
    free(l);
}

bool lineedit_is_terminal(const lineedit *l) { return l->el != NULL; }

static enum lineedit_kind read_plain(lineedit *l, const char **text, ern_err *e) {
    bool is_end = false;
    if (!cli_lines_next(&l->plain, &is_end, e)) return e && e->code == ERN_STOPPED ? LINE_INTERRUPTED : LINE_FAILED;
    if (is_end) return LINE_END;
    *text = l->plain.text ? l->plain.text : "";
    return LINE_TEXT;
}

enum lineedit_kind lineedit_read(lineedit *l, const char *prompt, const char **text, ern_err *e) {
    int n = 0;
    if (!l->el) return read_plain(l, text, e);
    l->prompt = prompt;
    cli_clear_interrupt();
    el_resize(l->el);
    const char *line = el_gets(l->el, &n);
    if (cli_interrupted()) {
        cli_clear_interrupt();
        putchar('\n');
        return LINE_INTERRUPTED;
    }
    if (!line || n <= 0) return LINE_END;
    free(l->text);
    if (!(l->text = mem_strndup(line, (size_t)n, e))) return LINE_FAILED;
    l->text[strcspn(l->text, "\r\n")] = '\0';
    *text = l->text;
    return LINE_TEXT;
}

void lineedit_remember(lineedit *l, const char *line) {
    HistEvent ev;
    if (!l->history || !*line) return;
    history(l->history, &ev, H_ENTER, line);
    if (!l->history_path) return;
    history(l->history, &ev, H_SAVE, l->history_path);
    chmod(l->history_path, 0600);
}
