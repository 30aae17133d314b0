/* Lines in, lines out, errors, ctrl-C. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/term.h"

/* ---- errors ---- */

int cli_fail(const ern_err *e) {
    fflush(stdout);
    term_style(stderr, TERM_RED);
    fputs("ernie: ", stderr);
    term_style(stderr, TERM_PLAIN);
    if (e->line > 0) fprintf(stderr, _("line %d, column %d: "), e->line, e->column);
    fprintf(stderr, "%s\n", e->text);
    return ern_code_exit(e->code);
}

int cli_finish(int status) {
    ern_err e = { 0 };
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    if (errno == EPIPE || cli_interrupted()) return status;     /* ctrl-C cut a write short: that is no failure */
    ern_fail(&e, ERN_IO, _("standard output: %s"), strerror(errno));
    return cli_fail(&e);
}

/* ---- output ---- */

bool cli_print_json(json_t *taken, ern_err *e) {
    if (!taken) return ern_fail(e, ERN_NOMEM, _("no memory for a line of JSON"));
    const bool ok = json_dumpf(taken, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0 && putchar('\n') != EOF &&
        fflush(stdout) == 0;
    json_decref(taken);
    return ok || ern_fail(e, ERN_IO, _("standard output: %s"), strerror(errno));
}

json_t *cli_real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

json_t *cli_ids_json(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

json_t *cli_text_json(const char *text, size_t n) {
    if (utf8_valid(text, n, NULL)) return json_stringn(text, n);
    ern_buf b = { .max = 3 * n + 1 };
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        int32_t cp;
        const size_t used = utf8_decode(text + i, n - i, &cp);
        ok = cp < 0 ? buf_str(&b, "\xEF\xBF\xBD", NULL) : buf_add(&b, text + i, used, NULL);
        i += used;
    }
    json_t *s = ok ? json_stringn(b.data, b.len) : NULL;
    buf_deinit(&b);
    return s;
}

json_t *cli_error_json(const ern_err *e) {
    json_t *o = json_pack("{s:o}", "error", cli_text_json(e->text, strlen(e->text)));
    if (o && e->line > 0) {
        json_object_set_new(o, "line", json_integer(e->line));
        json_object_set_new(o, "column", json_integer(e->column));
    }
    return o;
}

double cli_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

char *cli_size_text(double bytes, char *buf, size_t n) {
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    size_t u = 0;
    while (bytes >= 999.5 && u + 1 < COUNT_OF(units)) {
        bytes /= 1000.0;
        u++;
    }
    snprintf(buf, n, u == 0 || bytes >= 99.95 ? "%.0f %s" : bytes >= 9.995 ? "%.1f %s" : "%.2f %s", bytes, units[u]);
    return buf;
}

char *cli_count_text(double n, char *buf, size_t size) {
    if (n >= 1e9) snprintf(buf, size, "%.3f B", n * 1e-9);
    else if (n >= 1e6) snprintf(buf, size, "%.1f M", n * 1e-6);
    else snprintf(buf, size, "%.0f k", n * 1e-3);
    return buf;
}

/* ---- input ---- */

bool cli_lines_open(cli_lines *l, const char *path, ern_err *e) {
    *l = (cli_lines){ .name = path };
    l->fp = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    return l->fp || ern_fail(e, errno == ENOENT ? ERN_NOTFOUND : ERN_IO, "%s: %s", path, strerror(errno));
}

bool cli_lines_next(cli_lines *l, bool *is_end, ern_err *e) {
    int c = EOF;
    l->n = 0;
    l->number++;
    while ((c = getc(l->fp)) != EOF && c != '\n') {
        if (l->n + 2 > l->cap) {
            if (l->n >= CLI_MAX_LINE)
                return ern_fail(e, ERN_LIMIT, _("%s: line %zu is longer than %zu bytes"), l->name, l->number, CLI_MAX_LINE);
            const size_t cap = l->cap ? 2 * l->cap : 4096;
            char *p = realloc(l->text, cap);
            if (!p) return ern_fail(e, ERN_NOMEM, _("%s: no memory for line %zu"), l->name, l->number);
            l->text = p;
            l->cap = cap;
        }
        l->text[l->n++] = (char)c;
    }
    if (c == EOF && ferror(l->fp)) {
        if (errno == EINTR && cli_interrupted()) return ern_fail(e, ERN_STOPPED, _("stopped"));
        return ern_fail(e, ERN_IO, "%s: %s", l->name, strerror(errno));
    }
    *is_end = c == EOF && l->n == 0;
    if (l->n && l->text[l->n - 1] == '\r') l->n--;
    if (l->text) l->text[l->n] = '\0';
    return true;
}

json_t *cli_record(const cli_lines *l, ern_err *e) {
    json_error_t bad;
    json_t *v = json_loadb(l->text, l->n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &bad);
    if (json_is_object(v)) return v;
    if (v) ern_fail(e, ERN_FORMAT, _("line %zu: a JSON object wanted"), l->number);
    else ern_fail_at(e, ERN_FORMAT, 1, bad.column, _("line %zu: %s"), l->number, bad.text);
    json_decref(v);
    return NULL;
}

void cli_lines_close(cli_lines *l) {
    if (l->fp && l->fp != stdin) fclose(l->fp);
    free(l->text);
    *l = (cli_lines){ 0 };
}

bool cli_read_all(const char *path, ern_buf *out, ern_err *e) {
    char block[65536];
    size_t n;
    FILE *fp = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!fp) return ern_fail(e, errno == ENOENT ? ERN_NOTFOUND : ERN_IO, "%s: %s", path, strerror(errno));
    bool ok = true;
    while (ok && (n = fread(block, 1, sizeof block, fp)) > 0) ok = buf_add(out, block, n, e);
    if (ok && ferror(fp)) ok = ern_fail(e, ERN_IO, "%s: %s", path, strerror(errno));
    if (fp != stdin) fclose(fp);
    return ok;
}

/* ---- ctrl-C ---- */

static volatile sig_atomic_t interrupted;       /* a signal handler can reach nothing else */

static void on_interrupt(int sig) {
    (void)sig;
    interrupted = 1;
}

void cli_catch_interrupt(void) {
    struct sigaction action = { .sa_handler = on_interrupt };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);           /* without SA_RESTART: a read at the prompt ends */
}

bool cli_interrupted(void) { return interrupted != 0; }

/* A write that the signal cut short leaves an error on the stream, which is none of the disk's. */
void cli_clear_interrupt(void) {
    interrupted = 0;
    clearerr(stdout);
}
