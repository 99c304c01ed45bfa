/* report_plot.h: one plot as SVG, drawn by gnuplot.
 * Happy path: describe axes, lines, spans and marks; report_plot_svg() writes gnuplot's script with
 *   the data in it, runs gnuplot as a child (no shell, no files: script, picture and complaints are
 *   in memory), checks its exit code, and rewrites the picture so that it may stand in a page:
 *   colours are the page's CSS variables, so text, axes, grid and lines follow its theme; fonts are
 *   the page's; there are no namespaces, ids or links but those to report_plot_markers().
 * Failure: as report_gnuplot.h has it.
 * Ownership: all is borrowed for the call; the caller frees *ret_svg. Threads: any. */
#ifndef BENCH_REPORT_PLOT_H
#define BENCH_REPORT_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "bench/report_format.h"

#define REPORT_COLORS 8         /* var(--c1) to var(--c8) */
#define REPORT_DASHES 4         /* solid, dashed, dotted, dash-dot */
#define REPORT_LINE_POINTS 4000 /* a line of more points is thinned, its extremes kept */

/* Colours with a meaning, beside 0 to REPORT_COLORS - 1. */
enum report_color { REPORT_INK = 100, REPORT_MUTED, REPORT_GOOD, REPORT_BAD };

enum report_style {
    REPORT_LINE,      /* a point whose y is NaN interrupts it */
    REPORT_LINE_DOTS, /* with a dot at each point */
    REPORT_DOTS,
    REPORT_CIRCLES,
    REPORT_CROSSES,
    REPORT_BARS,      /* from lo to hi along x, centred on y */
    REPORT_RANGES,    /* a whisker from lo to hi along x, at y */
    REPORT_INTERVALS, /* a whisker from lo to hi along y, at x */
};

struct report_point {
    double x, y, lo, hi;
};

struct report_line {
    char label[96]; /* of the legend, which the page writes; "" keeps it out of there */
    enum report_style style;
    unsigned color, dash;
    double width; /* 0: the usual one */
    struct report_point *points;
    size_t n;
};

enum report_scale {
    REPORT_LINEAR, /* from zero */
    REPORT_LOG,
    REPORT_TAIL,       /* 1 / (1 - p), named as percentiles */
    REPORT_CATEGORIES, /* 0, 1, 2 ... from the top, named by `names` */
};

struct report_axis {
    const char *label;
    enum report_unit unit;
    enum report_scale scale;
    const char *const *names;
    size_t n_names;
    double include; /* a value that must be on the axis, unless 0 */
};

/* A shaded and named part of the x axis; `plain` ones are only named. */
struct report_span {
    const char *name;
    double from, to;
    bool plain;
};

/* A thin line across the plot, at x or at y. */
struct report_mark {
    const char *label;
    double at;
    bool vertical;
};

struct report_plot {
    const char *title;
    unsigned width, height; /* of its coordinates; text is 12 high */
    struct report_axis x, y;
    const struct report_line *lines;
    size_t n_lines;
    const struct report_span *spans;
    size_t n_spans;
    const struct report_mark *marks;
    size_t n_marks;
};

/* False when no line has a point that the axes can show: there is nothing to draw. */
bool report_plot_any(const struct report_plot *plot);
int report_plot_svg(const struct report_plot *plot, char **ret_svg, char *reason,
                    size_t reason_size);

/* The steps, private but for tests. The script for gnuplot: */
void report_plot_script(const struct report_plot *plot, FILE *out);
/* gnuplot's picture made fit for the page; NULL when it is no picture of gnuplot's. */
char *report_plot_restyle(const struct report_plot *plot, const char *svg);
/* Groups of points are replaced by their lowest and highest y, in order of x, until at most
 * REPORT_LINE_POINTS are left: no spike is lost. Returns the new count. */
size_t report_plot_thin(struct report_point *points, size_t n);

#endif
