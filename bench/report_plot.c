#include "bench/report_plot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report_gnuplot.h"
#include "core/base/bytes.h"

#define TICKS_MAX 8 /* on one axis */
#define NAME_CHARS_MAX 48
/* What is larger, or nearer to zero, was not measured, and ranges of it would overflow. */
#define VALUE_MAX 1e100

/* gnuplot is given colours that stand for roles, rgb(1, 1, ROLE); report_plot_restyle() puts the
 * page's variables in their place. */
enum role {
    ROLE_AXIS = 1,
    ROLE_TEXT,
    ROLE_GRID,
    ROLE_SHADE,
    ROLE_MUTED,
    ROLE_GOOD,
    ROLE_BAD,
    ROLE_INK,
    ROLE_LINES = 16
};

static const char *const role_names[] = {
    [ROLE_AXIS] = "axis",   [ROLE_TEXT] = "ink-2", [ROLE_GRID] = "grid", [ROLE_SHADE] = "shade",
    [ROLE_MUTED] = "muted", [ROLE_GOOD] = "good",  [ROLE_BAD] = "bad",   [ROLE_INK] = "ink",
};

struct range {
    double lo, hi;
};

struct tick {
    double at;
    char name[REPORT_SHOWN_MAX];
};

struct ticks {
    struct tick items[TICKS_MAX * 3];
    size_t n;
};

static unsigned role_of(unsigned color)
{
    static const unsigned roles[] = {ROLE_INK, ROLE_MUTED, ROLE_GOOD, ROLE_BAD};
    if (color >= REPORT_INK && color < REPORT_INK + ARRAY_LEN(roles))
        return roles[color - REPORT_INK];
    return ROLE_LINES + color % REPORT_COLORS;
}

/* Of two sentinels' digits only the last differs: #0101RR. */
static void put_color(FILE *out, unsigned role)
{
    fprintf(out, "rgb \"#0101%02x\"", role);
}

/* Whether an axis can show the value. */
static bool fits(const struct report_axis *axis, double value)
{
    bool positive = axis->scale == REPORT_LOG || axis->scale == REPORT_TAIL;
    double size = fabs(value);
    return isfinite(value) && (size == 0 || (size < VALUE_MAX && size > 1 / VALUE_MAX)) &&
           (!positive || value > 0);
}

static void widen(struct range *range, const struct report_axis *axis, double value)
{
    if (!fits(axis, value))
        return;
    range->lo = fmin(range->lo, value);
    range->hi = fmax(range->hi, value);
}

static bool spreads_x(enum report_style style)
{
    return style == REPORT_BARS || style == REPORT_RANGES;
}

static bool point_fits(const struct report_plot *plot, const struct report_line *line,
                       const struct report_point *p)
{
    if (!fits(&plot->x, p->x) || !fits(&plot->y, p->y))
        return false;
    const struct report_axis *spread = spreads_x(line->style) ? &plot->x : &plot->y;
    return (!spreads_x(line->style) && line->style != REPORT_INTERVALS) ||
           (fits(spread, p->lo) && fits(spread, p->hi));
}

/* What the lines, and the marks, have on one axis; lo > hi when there is nothing. */
static struct range measure(const struct report_plot *plot, bool is_x)
{
    const struct report_axis *axis = is_x ? &plot->x : &plot->y;
    struct range range = {INFINITY, -INFINITY};
    for (size_t i = 0; i < plot->n_lines; i++) {
        const struct report_line *line = &plot->lines[i];
        bool spreads = is_x ? spreads_x(line->style) : line->style == REPORT_INTERVALS;
        for (size_t j = 0; j < line->n; j++) {
            const struct report_point *p = &line->points[j];
            if (!point_fits(plot, line, p))
                continue;
            widen(&range, axis, is_x ? p->x : p->y);
            if (spreads) {
                widen(&range, axis, p->lo);
                widen(&range, axis, p->hi);
            }
        }
    }
    for (size_t i = 0; i < plot->n_marks && range.lo <= range.hi; i++)
        if (plot->marks[i].vertical == is_x)
            widen(&range, axis, plot->marks[i].at);
    if (axis->include != 0 && range.lo <= range.hi)
        widen(&range, axis, axis->include);
    return range;
}

bool report_plot_any(const struct report_plot *plot)
{
    struct range x = measure(plot, true);
    return x.lo <= x.hi;
}

/* "1.00 ms" as a tick is "1 ms". */
static void tick_name(enum report_unit unit, double value, char *name)
{
    report_format(unit, value, name);
    char *point = strchr(name, '.');
    if (point == NULL || strchr(name, 'e') != NULL)
        return;
    char *end = point + 1 + strspn(point + 1, "0123456789"), *from = end;
    while (from[-1] == '0')
        from--;
    if (from[-1] == '.')
        from--;
    memmove(from, end, strlen(end) + 1);
}

static void add_tick(struct ticks *ticks, enum report_unit unit, double at)
{
    if (ticks->n == ARRAY_LEN(ticks->items))
        return;
    struct tick *tick = &ticks->items[ticks->n++];
    tick->at = at;
    tick_name(unit, at, tick->name);
}

/* The smallest of 1, 2, 5 times a power of ten of which `steps` cover the span. */
static double nice_step(double span, double steps, enum report_unit unit)
{
    /* KiB, MiB, GiB: nice steps are of the unit that will be shown. */
    if (unit == REPORT_BYTES && span >= 1024)
        return 1024 * nice_step(span / 1024, steps, unit);
    double power = pow(10, floor(log10(span / steps)));
    double ratio = span / steps / power * (1 - 1e-9);
    return power * (ratio <= 1 ? 1 : ratio <= 2 ? 2 : ratio <= 5 ? 5 : 10);
}

/* From zero (or a negative lowest value) to the highest; y axes end at a tick. */
static void linear_ticks(const struct report_axis *axis, bool ends_at_tick, struct range *range,
                         struct ticks *ticks)
{
    double lo = fmin(range->lo, 0), hi = fmax(range->hi, 0);
    hi = hi > lo ? hi : lo + 1;
    double step = nice_step(hi - lo, ends_at_tick ? 5 : TICKS_MAX, axis->unit);
    *range = (struct range){floor(lo / step) * step,
                            ends_at_tick ? ceil(hi / step) * step : hi + (hi - lo) / 50};
    double n = floor((range->hi - range->lo) / step + 1e-6);
    for (size_t i = 0; i < ARRAY_LEN(ticks->items) && (double)i <= n; i++) {
        double at = range->lo + (double)i * step;
        add_tick(ticks, axis->unit, fabs(at) < step / 1e6 ? 0 : at);
    }
}

/* From dense to sparse; the first set that gives few enough ticks is taken. */
static const struct mantissas {
    double items[16];
} mantissa_sets[] = {
    {{1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9}},
    {{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8}},
    {{1, 1.5, 2, 3, 5, 7}},
    {{1, 2, 5}},
    {{1, 3}},
    {{1}},
};

static void log_set(const struct report_axis *axis, const struct mantissas *set,
                    const struct range *range, int decades, struct ticks *ticks)
{
    int last = (int)floor(log10(range->hi) + 1e-9);
    for (int d = (int)floor(log10(range->lo) + 1e-9); d <= last; d += decades)
        for (size_t i = 0; i < ARRAY_LEN(set->items) && set->items[i] > 0; i++) {
            double at = set->items[i] * pow(10, d);
            if (at >= range->lo * (1 - 1e-9) && at <= range->hi * (1 + 1e-9))
                add_tick(ticks, axis->unit, at);
        }
}

static void log_ticks(const struct report_axis *axis, struct range *range, struct ticks *ticks)
{
    double room = range->hi / range->lo < 1.3 ? 1.2 : pow(range->hi / range->lo, 0.06) * 1.02;
    *range = (struct range){range->lo / room, range->hi * room};
    for (size_t i = 0; i < ARRAY_LEN(mantissa_sets); i++) {
        ticks->n = 0;
        log_set(axis, &mantissa_sets[i], range, 1, ticks);
        if (ticks->n <= TICKS_MAX)
            return;
    }
    for (int decades = 2; ticks->n > TICKS_MAX; decades++) {
        ticks->n = 0;
        log_set(axis, &mantissa_sets[ARRAY_LEN(mantissa_sets) - 1], range, decades, ticks);
    }
}

static void tail_ticks(struct range *range, struct ticks *ticks)
{
    static const struct tick known[] = {
        {2, "50 %"},      {10, "90 %"},      {100, "99 %"},      {1e3, "99.9 %"},
        {1e4, "99.99 %"}, {1e5, "99.999 %"}, {1e6, "99.9999 %"}, {1e7, "99.9..9 %"},
    };
    *range = (struct range){1, fmax(range->hi * 1.1, 100)};
    for (size_t i = 0; i < ARRAY_LEN(known) && known[i].at <= range->hi; i++)
        ticks->items[ticks->n++] = known[i];
}

static void put_categories(const struct report_axis *axis, char which, FILE *out)
{
    fprintf(out, "set %crange [%.1f:-0.5]\nset %ctics scale 0 (", which,
            (double)axis->n_names - 0.5, which);
    for (size_t i = 0; i < axis->n_names; i++) {
        fputs(i > 0 ? ", " : "", out);
        report_format_gnuplot(out, axis->names[i], NAME_CHARS_MAX, true);
        fprintf(out, " %zu", i);
    }
    fputs(")\n", out);
}

static struct range put_axis(const struct report_plot *plot, bool is_x, FILE *out)
{
    const struct report_axis *axis = is_x ? &plot->x : &plot->y;
    char which = is_x ? 'x' : 'y';
    struct range range = measure(plot, is_x);
    struct ticks ticks = {.n = 0};
    if (axis->label != NULL) {
        fprintf(out, "set %clabel ", which);
        report_format_gnuplot(out, axis->label, NAME_CHARS_MAX, false);
        fputs(" tc ", out);
        put_color(out, ROLE_TEXT);
        fputs(is_x ? " offset 0,0.4\n" : "\n", out);
    }
    if (axis->scale == REPORT_CATEGORIES) {
        put_categories(axis, which, out);
        return range;
    }
    if (axis->scale == REPORT_LINEAR)
        linear_ticks(axis, !is_x, &range, &ticks);
    else if (axis->scale == REPORT_LOG)
        log_ticks(axis, &range, &ticks);
    else
        tail_ticks(&range, &ticks);
    if (axis->scale != REPORT_LINEAR)
        fprintf(out, "set logscale %c\n", which);
    fprintf(out, "set %crange [%.10g:%.10g]\nset %ctics scale 0.4 (", which, range.lo, range.hi,
            which);
    for (size_t i = 0; i < ticks.n; i++) {
        fputs(i > 0 ? ", " : "", out);
        report_format_gnuplot(out, ticks.items[i].name, NAME_CHARS_MAX, true);
        fprintf(out, " %.10g", ticks.items[i].at);
    }
    fputs(")\n", out);
    return range;
}

static void put_label(FILE *out, const char *text, double at, const char *rest)
{
    fputs("set label ", out);
    report_format_gnuplot(out, text, NAME_CHARS_MAX, false);
    fprintf(out, " at %.10g, %s tc ", at, rest);
    put_color(out, ROLE_MUTED);
    fputs(" font \",11\"\n", out);
}

/* Names stand above the plot; one that would run into the next is left out. */
static void put_spans(const struct report_plot *plot, const struct range *x, FILE *out)
{
    for (size_t i = 0; i < plot->n_spans; i++) {
        const struct report_span *span = &plot->spans[i];
        double from = fmax(span->from, x->lo), to = fmin(span->to, x->hi);
        if (!(to > from))
            continue;
        if (!span->plain) {
            fprintf(out, "set object rect from %.10g, graph 0 to %.10g, graph 1 behind fc ", from,
                    to);
            put_color(out, ROLE_SHADE);
            fputs(" fs solid 1 noborder\n", out);
        }
        /* Letters of 6.8 in what the left margin leaves of the width. */
        double room = (to - from) / (x->hi - x->lo) * plot->width * 0.88 / 6.8;
        if (span->name != NULL && (double)strlen(span->name) + 1 < room)
            put_label(out, span->name, from, "graph 1.04 left");
    }
}

static void put_mark(const struct report_mark *mark, FILE *out)
{
    fputs("set arrow nohead front lw 1 dt (3,3) lc ", out);
    put_color(out, ROLE_MUTED);
    if (mark->vertical)
        fprintf(out, " from %.10g, graph 0 to %.10g, graph 1\n", mark->at, mark->at);
    else
        fprintf(out, " from graph 0, first %.10g to graph 1, first %.10g\n", mark->at, mark->at);
    if (mark->label == NULL)
        return;
    if (mark->vertical) {
        put_label(out, mark->label, mark->at, "graph 1.04 center");
        return;
    }
    fputs("set label ", out);
    report_format_gnuplot(out, mark->label, NAME_CHARS_MAX, false);
    fprintf(out, " at graph 0.99, first %.10g right offset 0,0.6 front font \",11\" tc ", mark->at);
    put_color(out, ROLE_MUTED);
    fputc('\n', out);
}

static void put_data(const struct report_plot *plot, size_t index, FILE *out)
{
    const struct report_line *line = &plot->lines[index];
    fprintf(out, "$d%zu << EOD\n", index);
    for (size_t i = 0; i < line->n; i++) {
        const struct report_point *p = &line->points[i];
        if (point_fits(plot, line, p))
            fprintf(out, "%.10g %.10g %.10g %.10g\n", p->x, p->y, p->lo, p->hi);
        else
            fputs("0 NaN 0 0\n", out);
    }
    fputs("EOD\n", out);
}

/* Points of each style as gnuplot's `with`: columns, style, and its point's type and size. */
static const struct style {
    const char *plot;
    double width;
} styles[] = {
    [REPORT_LINE] = {"using 1:2 with lines", 1.6},
    [REPORT_LINE_DOTS] = {"using 1:2 with linespoints pt 7 ps 0.45", 1.6},
    [REPORT_DOTS] = {"using 1:2 with points pt 7 ps 0.5", 1},
    [REPORT_CIRCLES] = {"using 1:2 with points pt 6 ps 0.6", 1.4},
    [REPORT_CROSSES] = {"using 1:2 with points pt 2 ps 0.6", 1.4},
    [REPORT_BARS] =
        {"using 1:2:3:4:($2-0.28):($2+0.28) with boxxyerror fs transparent solid 0.45 noborder", 1},
    [REPORT_RANGES] = {"using 3:2:($4-$3):(0) with vectors heads size graph 0.008,90", 1.4},
    [REPORT_INTERVALS] = {"using 1:3:(0):($4-$3) with vectors heads size graph 0.008,90", 1.4},
};

static const char *const dashes[REPORT_DASHES] = {"", " dt (7,3)", " dt (1.5,2.5)",
                                                  " dt (7,3,1.5,3)"};

static void put_line(const struct report_line *line, size_t index, FILE *out)
{
    const struct style *style = &styles[line->style];
    fprintf(out, "%s$d%zu %s lw %.2f%s lc ", index > 0 ? ", " : "plot ", index, style->plot,
            line->width > 0 ? line->width : style->width, dashes[line->dash % REPORT_DASHES]);
    put_color(out, role_of(line->color));
    fputs(" notitle", out);
}

void report_plot_script(const struct report_plot *plot, FILE *out)
{
    fprintf(out,
            "set encoding utf8\n"
            "set terminal svg size %u,%u dynamic noenhanced font \"sans,12\" lw 1 rounded\n",
            plot->width, plot->height);
    fputs("set border 3 lw 1 lc ", out);
    put_color(out, ROLE_AXIS);
    fputs("\nset grid lt 1 lw 1 lc ", out);
    put_color(out, ROLE_GRID);
    fputs("\nset tics nomirror out tc ", out);
    put_color(out, ROLE_TEXT);
    fprintf(out, "\nset tmargin %s\nset rmargin 2\n",
            plot->n_spans > 0 || plot->n_marks > 0 ? "1.6" : "0.8");
    struct range x = put_axis(plot, true, out);
    put_axis(plot, false, out);
    put_spans(plot, &x, out);
    for (size_t i = 0; i < plot->n_marks; i++)
        if (fits(plot->marks[i].vertical ? &plot->x : &plot->y, plot->marks[i].at))
            put_mark(&plot->marks[i], out);
    for (size_t i = 0; i < plot->n_lines; i++)
        put_data(plot, i, out);
    for (size_t i = 0; i < plot->n_lines; i++)
        put_line(&plot->lines[i], i, out);
    fputc('\n', out);
}

/* A colour at `text`, in any of gnuplot's forms, as the page's variable; the bytes it took. */
static size_t put_variable(FILE *out, const char *text)
{
    unsigned r, g, role;
    int len = 0;
    if (sscanf(text, "rgb( %u , %u , %u )%n", &r, &g, &role, &len) == 3 && len > 0) {
        if (role >= ROLE_LINES && role < ROLE_LINES + REPORT_COLORS)
            fprintf(out, "var(--c%u)", role - ROLE_LINES + 1);
        else
            fprintf(out, "var(--%s)",
                    role > 0 && role < ARRAY_LEN(role_names) ? role_names[role] : "ink");
        return (size_t)len;
    }
    return 0;
}

/* What is replaced or left out; all else of gnuplot's output is copied. */
static const struct rewrite {
    const char *from, *to;
} rewrites[] = {
    {"=\"black\"", "=\"var(--ink)\""},
    {"=\"white\"", "=\"var(--ink)\""},
    {"=\"gray\"", "=\"var(--grid)\""},
    {" font-family=\"sans\"", ""},
    {" class=\"gridline\"", ""},
    {"xlink:href", "href"},
    {" stroke-linecap=\"butt\" stroke-linejoin=\"miter\"", ""},
};

/* Empty groups, and the names by which gnuplot lets scripts find its plots. */
static size_t skip_noise(const char *text)
{
    int len = 0;
    sscanf(text, " id=\"gnuplot_%*[a-z_0-9]\"%n", &len);
    if (len == 0 && strncmp(text, "<g ", 3) == 0)
        sscanf(text, "<g %*[^>]> </g>%n", &len);
    if (len == 0 && strncmp(text, "<title>", 7) == 0) {
        const char *end = strstr(text, "</title>");
        len = end == NULL ? 0 : (int)(end + 8 - text);
    }
    return (size_t)len;
}

static size_t rewrite_one(FILE *out, const char *text)
{
    if (*text == 'r') /* nearly always rgb( */
        return put_variable(out, text);
    if (*text != ' ' && *text != '<' && *text != '=' && *text != 'x')
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(rewrites); i++) {
        size_t len = strlen(rewrites[i].from);
        if (strncmp(text, rewrites[i].from, len) == 0) {
            fputs(rewrites[i].to, out);
            return len;
        }
    }
    return skip_noise(text);
}

char *report_plot_restyle(const struct report_plot *plot, const char *svg)
{
    char *text = NULL;
    size_t size = 0;
    /* The markers' definitions are once in the page: report_html.c. */
    const char *body = strstr(svg, "</defs>"), *end = strstr(svg, "</svg>");
    FILE *out = body == NULL || end < body ? NULL : open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    fprintf(out, "<svg class=\"plot\" viewBox=\"0 0 %u %u\" role=\"img\" aria-label=\"",
            plot->width, plot->height);
    report_format_html(out, plot->title);
    fputs("\"><g>", out);
    for (const char *at = body + strlen("</defs>"); at < end;) {
        size_t taken = rewrite_one(out, at);
        if (taken == 0)
            fputc(*at, out);
        at += taken > 0 ? taken : 1;
    }
    fputs("</svg>\n", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* The lowest and the highest of a group, in order. */
static size_t thin_group(const struct report_point *from, size_t n, struct report_point *to)
{
    const struct report_point *lo = NULL, *hi = NULL;
    for (size_t i = 0; i < n; i++) {
        if (isnan(from[i].y))
            continue;
        lo = lo == NULL || from[i].y < lo->y ? &from[i] : lo;
        hi = hi == NULL || from[i].y > hi->y ? &from[i] : hi;
    }
    const struct report_point first = lo == NULL ? from[0] : *MIN(lo, hi);
    const struct report_point second = lo == NULL ? from[0] : *MAX(lo, hi);
    to[0] = first;
    to[1] = second;
    return lo == hi ? 1 : 2;
}

size_t report_plot_thin(struct report_point *points, size_t n)
{
    if (n <= REPORT_LINE_POINTS)
        return n;
    size_t group = (2 * n + REPORT_LINE_POINTS - 1) / REPORT_LINE_POINTS, kept = 0;
    for (size_t at = 0; at < n; at += group)
        kept += thin_group(points + at, MIN(group, n - at), points + kept);
    return kept;
}

int report_plot_svg(const struct report_plot *plot, char **ret_svg, char *reason,
                    size_t reason_size)
{
    char *script = NULL, *svg = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&script, &len);
    int rc = -ENOMEM;
    snprintf(reason, reason_size, "out of memory");
    if (out != NULL) {
        report_plot_script(plot, out);
        rc = fclose(out) == 0 ? 0 : -ENOMEM;
    }
    if (rc == 0)
        rc = report_gnuplot_run(script, len, &svg, reason, reason_size);
    free(script);
    char *styled = rc == 0 ? report_plot_restyle(plot, svg) : NULL;
    free(svg);
    if (rc < 0)
        return rc;
    if (styled == NULL) {
        snprintf(reason, reason_size, "gnuplot gave no picture of \"%s\"", plot->title);
        return -EIO;
    }
    *ret_svg = styled;
    return 0;
}
