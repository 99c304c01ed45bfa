#include "bench/report_plot.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report_gnuplot.h"

static char reason[1024];

static struct report_plot one_line(struct report_line *line)
{
    return (struct report_plot){.title = "a <plot>",
                                .width = 580,
                                .height = 290,
                                .x = {.label = "x & 'y'", .unit = REPORT_PLAIN},
                                .y = {.unit = REPORT_NS, .scale = REPORT_LOG},
                                .lines = line,
                                .n_lines = 1};
}

static char *draw(const struct report_plot *plot)
{
    char *svg = NULL;
    cr_assert_eq(report_plot_svg(plot, &svg, reason, sizeof(reason)), 0, "%s", reason);
    return svg;
}

Test(report_plot, colours_are_the_pages)
{
    struct report_point points[] = {{1, 1e6}, {2, NAN}, {3, 4e6}, {4, 0}, {5, 9e6}};
    struct report_line line = {.style = REPORT_LINE_DOTS, .color = 2, .points = points, .n = 5};
    const struct report_span span = {"warm-up", 1, 5, false};
    const struct report_mark mark = {"it's `100 %`\n<bound>", 2e6, false};
    struct report_plot plot = one_line(&line);
    plot.spans = &span;
    plot.marks = &mark;
    plot.n_spans = plot.n_marks = 1;
    char *svg = draw(&plot);
    static const char *const wanted[] = {"<svg class=\"plot\" viewBox=\"0 0 580 290\"",
                                         "aria-label=\"a &lt;plot&gt;\"",
                                         "var(--c3)",
                                         "var(--axis)",
                                         "var(--grid)",
                                         "var(--ink-2)",
                                         "var(--shade)",
                                         "var(--muted)",
                                         "href='#gpPt6'",
                                         ">x &amp; \xe2\x80\x99y\xe2\x80\x99<",
                                         "&lt;bound",
                                         "1 ms"};
    static const char *const unwanted[] = {"rgb(", "black",  "gray",        "http:", "xlink",
                                           " id=", "<title", "font-family", "<defs"};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        cr_expect(strstr(svg, wanted[i]) != NULL, "no %s in %s", wanted[i], svg);
    for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
        cr_expect(strstr(svg, unwanted[i]) == NULL, "%s in %s", unwanted[i], svg);
    free(svg);
}

/* gnuplot's commands, its strings' ends and its formats in names: none is carried out. */
Test(report_plot, names_are_only_names)
{
    static const char *const names[] = {
        "'; print 1/0; '", "''", "'",  "\\",           "%d%s%", "`false`", "@x",
        "\"; exit 3; \"",  "",   "\n", "{/Bold x}_2^3"};
    const size_t n = sizeof(names) / sizeof(names[0]);
    struct report_point points[sizeof(names) / sizeof(names[0])];
    struct report_mark marks[sizeof(names) / sizeof(names[0])];
    for (size_t i = 0; i < n; i++) {
        points[i] = (struct report_point){1, (double)i, 0.5, 2};
        marks[i] = (struct report_mark){names[i], (double)(i + 1), true};
    }
    struct report_line line = {.style = REPORT_BARS, .points = points, .n = n};
    struct report_plot plot = one_line(&line);
    plot.x.label = names[0];
    plot.y = (struct report_axis){.scale = REPORT_CATEGORIES, .names = names, .n_names = n};
    plot.marks = marks;
    plot.n_marks = n;
    char *svg = draw(&plot);
    cr_expect(strstr(svg, ">\xe2\x80\x99; print 1/0; \xe2\x80\x99<") != NULL, "%s", svg);
    cr_expect(strstr(svg, ">%d%s%<") != NULL);
    cr_expect(strstr(svg, ">\"; exit 3; \"<") != NULL);
    free(svg);
}

/* Ranges of every kind: one value, none, tiny, huge, negative. */
Test(report_plot, any_values_can_be_drawn)
{
    static const double pairs[][2] = {{5, 5},         {0, 0},      {1e-99, 1e99}, {-3, 7},
                                      {1e300, 2e300}, {1e-320, 1}, {1, 1.0001},   {-2, -1}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        for (enum report_scale scale = REPORT_LINEAR; scale <= REPORT_TAIL; scale++) {
            struct report_point points[] = {{1, pairs[i][0]}, {2, pairs[i][1]}};
            struct report_line line = {.points = points, .n = 2};
            struct report_plot plot = one_line(&line);
            plot.y.scale = scale;
            if (report_plot_any(&plot))
                free(draw(&plot));
        }
}

Test(report_plot, nothing_to_draw)
{
    struct report_point points[] = {{1, 0}, {2, NAN}, {NAN, 5}, {3, -1}, {4, INFINITY}};
    struct report_line line = {.points = points, .n = 5};
    struct report_plot plot = one_line(&line);
    cr_expect_not(report_plot_any(&plot));
    plot.y.scale = REPORT_LINEAR;
    cr_expect(report_plot_any(&plot));
}

Test(report_plot, thinning_keeps_spikes)
{
    static struct report_point points[100000];
    const size_t n = sizeof(points) / sizeof(points[0]);
    for (size_t i = 0; i < n; i++)
        points[i] = (struct report_point){.x = (double)i, .y = 1};
    points[777].y = 1000;
    points[99999].y = 0.001;
    size_t kept = report_plot_thin(points, n);
    bool spike = false, dip = false;
    cr_expect_leq(kept, REPORT_LINE_POINTS);
    for (size_t i = 0; i < kept; i++) {
        spike = spike || (points[i].x == 777 && points[i].y == 1000);
        dip = dip || (points[i].x == 99999 && points[i].y == 0.001);
        cr_expect(i == 0 || points[i].x > points[i - 1].x);
    }
    cr_expect(spike);
    cr_expect(dip);
    cr_expect_eq(report_plot_thin(points, 100), 100);
}

Test(report_plot, what_is_no_picture_is_refused)
{
    struct report_line line = {.n = 0};
    struct report_plot plot = one_line(&line);
    cr_expect_null(report_plot_restyle(&plot, ""));
    cr_expect_null(report_plot_restyle(&plot, "<svg><defs></defs>"));
    cr_expect_null(report_plot_restyle(&plot, "</svg></defs>"));
}

static int run_script(const char *script)
{
    char *svg = NULL;
    int rc = report_gnuplot_run(script, strlen(script), &svg, reason, sizeof(reason));
    free(svg);
    return rc;
}

Test(report_gnuplot, says_what_failed)
{
    cr_expect_eq(run_script("plot nonsense(\n"), -EIO);
    cr_expect(strstr(reason, "undefined") != NULL || strstr(reason, "nonsense") != NULL ||
                  strstr(reason, "line") != NULL,
              "%s", reason);
    cr_expect_null(strchr(reason, '\n'));
    cr_expect_eq(run_script("print 1\n"), 0);
}

Test(report_gnuplot, is_missed_by_name)
{
    setenv("PATH", "/nonexistent", 1);
    cr_expect_eq(run_script("print 1\n"), -ENOENT);
    cr_expect(strstr(reason, "gnuplot-nox") != NULL, "%s", reason);
}
