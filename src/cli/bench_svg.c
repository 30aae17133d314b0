/* The plot of `bench`: two panels side by side, drawn as SVG without any library. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/bench_parts.h"

#define PANEL_W 430.0
#define PANEL_H 300.0
#define LEFT 70.0
#define TOP 60.0
#define GAP 90.0
#define LEGEND_LINE 16.0
#define MAX_BYTES ((size_t)16 << 20)
#define NEAR_DEPTH 128.0        /* where depth 0 is drawn: left of all others */
#define N_COLOURS 8

static const char *const colours[N_COLOURS] = { "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b",
                                                "#7f7f7f" };

struct panel { double x0, low_x, high_x, low_y, high_y; bool is_prefill; };

static double speed_of(const bench_point *p, bool is_prefill) { return is_prefill ? p->r.prefill_median : p->r.decode_median; }
static double limit_of(const bench_point *p, bool is_prefill) { return is_prefill ? p->limits.prefill : p->limits.decode; }
static double depth_of(const bench_point *p) { return p->c.depth ? (double)p->c.depth : NEAR_DEPTH; }

static double at_x(const struct panel *a, double v) {
    return a->x0 + PANEL_W * (log2(v) - log2(a->low_x)) / (log2(a->high_x) - log2(a->low_x));
}

static double at_y(const struct panel *a, double v) {
    return TOP + PANEL_H * (1.0 - (log10(v) - log10(a->low_y)) / (log10(a->high_y) - log10(a->low_y)));
}

/* One line of the plot: same threads, sequences and, for prompts, size. */
static bool same_series(const bench_point *a, const bench_point *b, bool is_prefill) {
    return a->n_threads == b->n_threads && a->c.n_batch == b->c.n_batch && (!is_prefill || a->c.n_prompt == b->c.n_prompt);
}

/* Whole powers of ten that hold all values; depths from the first to the last. */
static void scale(struct panel *a, const bench_point *p, size_t n) {
    double low = INFINITY, high = 0.0;
    a->low_x = NEAR_DEPTH;
    a->high_x = 2.0 * NEAR_DEPTH;
    for (size_t i = 0; i < n; i++) {
        const double both[] = { speed_of(&p[i], a->is_prefill), limit_of(&p[i], a->is_prefill) };
        if (both[0] <= 0.0) continue;
        if (depth_of(&p[i]) > a->high_x) a->high_x = depth_of(&p[i]);
        for (size_t k = 0; k < 2; k++) {
            if (both[k] > 0.0 && both[k] < low) low = both[k];
            if (both[k] > high) high = both[k];
        }
    }
    if (!(high > 0.0)) { low = 1.0; high = 10.0; }
    a->low_y = pow(10.0, floor(log10(low)));
    a->high_y = pow(10.0, ceil(log10(high)));
    if (a->high_y <= a->low_y) a->high_y = 10.0 * a->low_y;
}

static bool text(ern_buf *b, double x, double y, const char *anchor, const char *s, ern_err *e) {
    if (!buf_printf(b, e, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor)) return false;
    for (; *s; s++) {
        const char *safe = *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '&' ? "&amp;" : NULL;
        if (!(safe ? buf_str(b, safe, e) : buf_char(b, (unsigned char)*s < 32 ? ' ' : *s, e))) return false;
    }
    return buf_str(b, "</text>\n", e);
}

static bool line(ern_buf *b, double x1, double y1, double x2, double y2, const char *style, ern_err *e) {
    return buf_printf(b, e, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style);
}

static bool axes(ern_buf *b, const struct panel *a, ern_err *e) {
    char label[32];
    for (double v = a->low_y; v <= a->high_y * 1.001; v *= 10.0) {
        snprintf(label, sizeof label, "%g", v);
        if (!line(b, a->x0, at_y(a, v), a->x0 + PANEL_W, at_y(a, v), "stroke=\"#ccc\"", e) ||
            !text(b, a->x0 - 6.0, at_y(a, v) + 4.0, "end", label, e))
            return false;
        for (int k = 2; k < 10 && v * k < a->high_y; k++)
            if (!line(b, a->x0, at_y(a, v * k), a->x0 + PANEL_W, at_y(a, v * k), "stroke=\"#f0f0f0\"", e)) return false;
    }
    for (double v = a->low_x; v <= a->high_x * 1.001; v *= 4.0) {
        snprintf(label, sizeof label, v < NEAR_DEPTH * 1.5 ? "0" : v < 1024.0 ? "%.0f" : "%.0fK", v < 1024.0 ? v : v / 1024.0);
        if (!line(b, at_x(a, v), TOP, at_x(a, v), TOP + PANEL_H, "stroke=\"#eee\"", e) ||
            !text(b, at_x(a, v), TOP + PANEL_H + 16.0, "middle", label, e))
            return false;
    }
    return buf_printf(b, e, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#888\"/>\n", a->x0, TOP,
                      PANEL_W, PANEL_H) &&
           text(b, a->x0 + PANEL_W / 2.0, TOP + PANEL_H + 34.0, "middle", _("tokens in the context before"), e) &&
           text(b, a->x0 + PANEL_W / 2.0, TOP - 10.0, "middle",
                a->is_prefill ? _("prompt, tokens a second") : _("answer, tokens a second"), e);
}

/* The points that belong with points[first]: their speeds as a line with marks, their limits dashed. */
static bool series(ern_buf *b, const struct panel *a, const bench_point *p, size_t n, size_t first, const char *colour, ern_err *e) {
    for (int is_limit = 0; is_limit < 2; is_limit++) {
        if (!buf_str(b, "<polyline points=\"", e)) return false;
        for (size_t i = first; i < n; i++) {
            const double v = is_limit ? limit_of(&p[i], a->is_prefill) : speed_of(&p[i], a->is_prefill);
            if (v > 0.0 && same_series(&p[i], &p[first], a->is_prefill) &&
                !buf_printf(b, e, "%.1f,%.1f ", at_x(a, depth_of(&p[i])), at_y(a, v)))
                return false;
        }
        if (!buf_printf(b, e, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"%s\"%s/>\n", colour, is_limit ? "1" : "2",
                        is_limit ? " stroke-dasharray=\"5 4\"" : ""))
            return false;
    }
    for (size_t i = first; i < n; i++) {
        if (!same_series(&p[i], &p[first], a->is_prefill) || speed_of(&p[i], a->is_prefill) <= 0.0) continue;
        for (int is_limit = 0; is_limit < 2; is_limit++) {
            const double v = is_limit ? limit_of(&p[i], a->is_prefill) : speed_of(&p[i], a->is_prefill);
            if (v > 0.0 && !buf_printf(b, e, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" fill=\"%s\" stroke=\"%s\"/>\n",
                                       at_x(a, depth_of(&p[i])), at_y(a, v), is_limit ? "2.5" : "3.5", is_limit ? "#fff" : colour, colour))
                return false;
        }
    }
    return true;
}

static bool panel(ern_buf *b, struct panel *a, const bench_point *p, size_t n, size_t *n_lines, ern_err *e) {
    char label[96];
    size_t n_series = 0;
    scale(a, p, n);
    if (!axes(b, a, e)) return false;
    for (size_t i = 0; i < n; i++) {
        size_t before = 0;
        while (before < i && (speed_of(&p[before], a->is_prefill) <= 0.0 || !same_series(&p[before], &p[i], a->is_prefill))) before++;
        if (before < i || speed_of(&p[i], a->is_prefill) <= 0.0) continue;
        const char *colour = colours[n_series % N_COLOURS];
        const double y = TOP + PANEL_H + 58.0 + LEGEND_LINE * (double)n_series++;
        if (a->is_prefill) snprintf(label, sizeof label, _("%zu tokens, %zu threads"), p[i].c.n_prompt, p[i].n_threads);
        else snprintf(label, sizeof label, _("%zu at once, %zu threads"), p[i].c.n_batch, p[i].n_threads);
        if (!series(b, a, p, n, i, colour, e) ||
            !buf_printf(b, e, "<rect x=\"%.1f\" y=\"%.1f\" width=\"18\" height=\"3\" fill=\"%s\"/>\n", a->x0, y - 5.0, colour) ||
            !text(b, a->x0 + 26.0, y, "start", label, e))
            return false;
    }
    if (n_series > *n_lines) *n_lines = n_series;
    return true;
}

bool bench_plot(const char *path, const char *title, const bench_point *points, size_t n, ern_err *e) {
    ern_buf body = { .max = MAX_BYTES }, all = { .max = MAX_BYTES };
    struct panel left = { .x0 = LEFT, .is_prefill = true }, right = { .x0 = LEFT + PANEL_W + GAP };
    const double width = LEFT + 2.0 * PANEL_W + GAP + 30.0;
    size_t n_lines = 0;
    const char *slash = strrchr(title, '/');
    bool ok = panel(&body, &left, points, n, &n_lines, e) && panel(&body, &right, points, n, &n_lines, e);
    const double height = TOP + PANEL_H + 80.0 + LEGEND_LINE * (double)n_lines;
    ok = ok && buf_printf(&all, e, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
                          "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                          width, height, width, height) &&
         text(&all, width / 2.0, 24.0, "middle", slash && slash[1] ? slash + 1 : title, e) && buf_add(&all, body.data, body.len, e) &&
         text(&all, LEFT, height - 10.0, "start", _("dashed: what the machine gives at most (8-bit products; reading of memory)"), e) &&
         buf_str(&all, "</svg>\n", e) && file_write(path, all.data, all.len, e);
    buf_deinit(&body);
    buf_deinit(&all);
    return ok;
}
