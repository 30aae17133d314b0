#include "cli/term.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"
#include "cli/cli.h"

#define SHOW_AFTER_S 0.4
#define SHOW_EVERY_S 0.1

bool term_is_tty(FILE *fp) { return isatty(fileno(fp)); }

bool term_has_colour(FILE *fp) {
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR");
    return term_is_tty(fp) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

size_t term_columns(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

/* The blocks that terminals draw two columns wide: CJK, Hangul, full-width forms, emoji. */
static bool is_wide(int32_t cp) {
    return (cp >= 0x1100 && cp <= 0x115F) || (cp >= 0x2E80 && cp <= 0xA4CF && cp != 0x303F) ||
           (cp >= 0xAC00 && cp <= 0xD7A3) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0xFE30 && cp <= 0xFE6F) || (cp >= 0xFF00 && cp <= 0xFF60) ||
           (cp >= 0xFFE0 && cp <= 0xFFE6) || (cp >= 0x1F300 && cp <= 0x1FAFF) || (cp >= 0x20000 && cp <= 0x3FFFD);
}

static bool is_mark(int32_t cp) { return (cp >= 0x0300 && cp <= 0x036F) || cp == 0x200B || cp == 0x200D ||
                                  (cp >= 0xFE00 && cp <= 0xFE0F); }

size_t term_width(const char *s, size_t n) {
    size_t columns = 0;
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += utf8_decode(s + i, n - i, &cp);
        columns += is_wide(cp) ? 2 : is_mark(cp) ? 0 : 1;
    }
    return columns;
}

void term_cell(FILE *fp, const char *text, int columns) {
    const int width = (int)term_width(text, strlen(text)), wanted = columns < 0 ? -columns : columns;
    const int blanks = wanted > width ? wanted - width : 0;
    if (columns < 0) fprintf(fp, "%s%*s", text, blanks, "");
    else fprintf(fp, "%*s%s", blanks, "", text);
}

void term_style(FILE *fp, enum term_style style) {
    static const char *const codes[] = { "\033[0m", "\033[2m", "\033[1m", "\033[32m", "\033[31m" };
    if (term_has_colour(fp)) fputs(codes[style], fp);
}

/* ---- progress ---- */

void term_progress_begin(term_progress *p, const char *label, const char *unit, uint64_t from) {
    *p = (term_progress){ .label = label, .unit = unit, .from = from, .started = cli_now() };
}

static void time_text(double seconds, char *text, size_t n) {
    const long s = (long)(seconds + 0.5);
    if (s < 3600) snprintf(text, n, "%ld:%02ld", s / 60, s % 60);
    else snprintf(text, n, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
}

static void amount_text(const term_progress *p, double amount, char *text, size_t n) {
    if (strcmp(p->unit, "B") == 0) cli_size_text(amount, text, n);
    else snprintf(text, n, "%.0f %s", amount, p->unit);
}

void term_progress_at(term_progress *p, uint64_t done, uint64_t total) {
    enum { BAR = 24 };
    char bar[BAR + 1], amount[32], of[32] = "", speed[32] = "", left[32] = "";
    const double now = cli_now(), spent = now - p->started;
    if (!term_is_tty(stderr) || spent < SHOW_AFTER_S || now - p->shown < SHOW_EVERY_S) return;
    const double rate = done > p->from && spent > 0.0 ? (double)(done - p->from) / spent : 0.0;
    const size_t filled = total ? (size_t)((double)BAR * (double)done / (double)total) : 0;
    for (size_t i = 0; i < BAR; i++) bar[i] = i < filled ? '#' : '.';
    bar[BAR] = '\0';
    amount_text(p, (double)done, amount, sizeof amount);
    if (total) amount_text(p, (double)total, of, sizeof of);
    if (rate > 0.0) amount_text(p, rate, speed, sizeof speed);
    if (rate > 0.0 && total >= done) time_text((double)(total - done) / rate, left, sizeof left);
    if (total)
        fprintf(stderr, "\r\033[K%s [%s] %s / %s  %s/s  %s", p->label, bar, amount, of, *speed ? speed : "-",
                *left ? left : "-");
    else fprintf(stderr, "\r\033[K%s %s  %s/s", p->label, amount, *speed ? speed : "-");
    fflush(stderr);
    p->shown = now;
    p->is_shown = true;
}

void term_progress_end(term_progress *p) {
    if (p->is_shown) fputs("\r\033[K", stderr);
    fflush(stderr);
    p->is_shown = false;
}
