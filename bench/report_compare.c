/* Comparisons, ratio by ratio, and searches, trial by trial. */
#include "bench/report_sections.h"

#include <string.h>

#include "bench/report_html.h"
#include "core/base/bytes.h"

#define METRICS_MAX 24 /* of one comparison */
#define PAIRS_MAX 50   /* columns of the table of pairs */
#define TRIALS_MAX 500
#define COMPARISONS_MAX 100 /* of one file */

struct metric {
    struct report_node node, a, b, ratios;
    const char *name, *unit;
    double median, min, max;
    bool has_ratio, lower_is_better;
};

static struct metric read_metric(const struct report_node *node)
{
    struct metric m = {.node = *node};
    struct report_node name = report_node_member(node, "name");
    struct report_node unit = report_node_member(node, "unit");
    struct report_node better = report_node_member(node, "better");
    struct report_node median = report_node_member(node, "median_ratio");
    struct report_node min = report_node_member(node, "min_ratio");
    struct report_node max = report_node_member(node, "max_ratio");
    m.a = report_node_member(node, "a");
    m.b = report_node_member(node, "b");
    m.ratios = report_node_member(node, "ratios");
    m.name = report_node_text(&name) != NULL ? report_node_text(&name) : "?";
    m.unit = report_node_text(&unit) != NULL ? report_node_text(&unit) : "";
    m.lower_is_better =
        report_node_text(&better) && strcmp(report_node_text(&better), "lower") == 0;
    m.has_ratio = report_node_number(&median, &m.median) && report_node_number(&min, &m.min) &&
                  report_node_number(&max, &m.max) && m.min > 0 && m.median > 0 && m.max > 0;
    return m;
}

/* In which all pairs agree: 'a' or 'b' is better, or ' '. */
static char verdict(const struct metric *m)
{
    if (!m->has_ratio || (m->min <= 1 && m->max >= 1))
        return ' ';
    return (m->max < 1) == m->lower_is_better ? 'b' : 'a';
}

static unsigned verdict_color(const struct metric *m)
{
    char better = verdict(m);
    return better == 'b' ? REPORT_GOOD : better == 'a' ? REPORT_BAD : REPORT_MUTED;
}

static void add_bar(struct report_lines *lines, const struct metric *m, double y)
{
    struct report_line *bar = report_lines_add(lines, REPORT_BARS, "", 1);
    struct report_line *range = report_lines_add(lines, REPORT_RANGES, "", 1);
    size_t n = MIN(report_node_count(&m->ratios), (size_t)PAIRS_MAX);
    struct report_line *dots = report_lines_add(lines, REPORT_CIRCLES, "", n);
    if (bar == NULL || range == NULL || dots == NULL)
        return;
    bar->color = verdict_color(m);
    bar->n = range->n = 1;
    bar->points[0] = (struct report_point){.x = m->median,
                                           .y = y,
                                           .lo = m->median < 1 ? m->median : 1,
                                           .hi = m->median < 1 ? 1 : m->median};
    range->color = dots->color = REPORT_INK;
    range->points[0] = (struct report_point){.x = m->median, .y = y, .lo = m->min, .hi = m->max};
    for (size_t i = 0; i < n; i++) {
        struct report_node ratio = report_node_item(&m->ratios, i);
        double x;
        if (report_node_number(&ratio, &x))
            report_line_point(dots, x, y);
    }
}

/* Lines that are only there for the legend. */
static void add_legend(struct report_lines *lines, const char *a, const char *b)
{
    const struct {
        enum report_style style;
        unsigned color;
        const char *words, *whose;
    } keys[] = {
        {REPORT_BARS, REPORT_GOOD, "median, better in all pairs: ", b},
        {REPORT_BARS, REPORT_BAD, "median, better in all pairs: ", a},
        {REPORT_BARS, REPORT_MUTED, "median, pairs disagree", ""},
        {REPORT_CIRCLES, REPORT_INK, "one pair", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        char label[REPORT_LABEL_BYTES + 40];
        snprintf(label, sizeof(label), "%s%.60s", keys[i].words, keys[i].whose);
        struct report_line *line = report_lines_add(lines, keys[i].style, label, 0);
        if (line != NULL)
            line->color = keys[i].color;
    }
}

static void put_ratios(struct report_view *view, const struct metric *metrics, size_t n,
                       const char *a, const char *b)
{
    struct report_lines lines = {.n = 0};
    const char *names[METRICS_MAX];
    char title[256];
    const struct report_mark one = {.at = 1, .vertical = true};
    size_t n_names = 0;
    add_legend(&lines, a, b);
    /* Three lines a metric, and no more than a plot takes. */
    for (size_t i = 0; i < n && lines.n + 3 <= REPORT_LINES_MAX; i++) {
        if (!metrics[i].has_ratio)
            continue;
        names[n_names] = metrics[i].name;
        add_bar(&lines, &metrics[i], (double)n_names++);
    }
    snprintf(title, sizeof(title), "%.80s relative to %.80s: ratio in each pair of runs", b, a);
    struct report_plot plot = {
        .title = title,
        .height = (unsigned)(70 + 34 * n_names),
        .x = {.label = "ratio (1: no difference)",
              .unit = REPORT_RATIO,
              .scale = REPORT_LOG,
              .include = 1},
        .y = {.scale = REPORT_CATEGORIES, .names = names, .n_names = n_names},
        .marks = &one,
        .n_marks = 1};
    report_view_plot(view, &plot, &lines);
}

static void put_verdict(FILE *out, const struct metric *m, const char *a, const char *b)
{
    char better = verdict(m);
    fputs("<td class=\"t\">", out);
    if (better == ' ')
        fputs(m->has_ratio ? "disagree" : "", out);
    else
        report_format_html(out, better == 'a' ? a : b);
    fputs("</td>", out);
}

static void put_ratio_table(FILE *out, const struct metric *metrics, size_t n, const char *a,
                            const char *b)
{
    static const char *const names[] = {"median_ratio", "min_ratio", "max_ratio"};
    fputs("<table><caption>Ratios</caption>\n<thead><tr><th class=\"t\">metric</th>"
          "<th class=\"t\">better is</th><th>median</th><th>lowest</th><th>highest</th>"
          "<th class=\"t\">all pairs</th></tr></thead><tbody>\n",
          out);
    for (size_t i = 0; i < n; i++) {
        fputs("<tr><th>", out);
        report_format_html(out, metrics[i].name);
        fprintf(out, "</th><td class=\"t\">%s</td>",
                metrics[i].lower_is_better ? "lower" : "higher");
        for (size_t j = 0; j < ARRAY_LEN(names); j++) {
            struct report_node node = report_node_member(&metrics[i].node, names[j]);
            report_html_cell(out, &node, REPORT_RATIO);
        }
        put_verdict(out, &metrics[i], a, b);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table>\n", out);
}

static void put_pair_row(FILE *out, const struct report_node *values, const char *who,
                         enum report_unit unit, size_t n_pairs)
{
    fputs("<td class=\"t\">", out);
    report_format_html(out, who);
    fputs("</td>", out);
    for (size_t p = 0; p < n_pairs; p++) {
        struct report_node value = report_node_item(values, p);
        report_html_cell(out, &value, unit);
    }
    fputs("</tr>\n", out);
}

static void put_pairs(FILE *out, const struct metric *metrics, size_t n, const char *a,
                      const char *b)
{
    size_t n_pairs = 0;
    for (size_t i = 0; i < n; i++)
        n_pairs = MAX(n_pairs, report_node_count(&metrics[i].ratios));
    n_pairs = MIN(n_pairs, (size_t)PAIRS_MAX);
    if (n_pairs == 0)
        return;
    fputs("<details><summary>Pair by pair</summary><div class=\"scroll\"><table><thead><tr>"
          "<th class=\"t\">metric</th><th></th>",
          out);
    for (size_t p = 0; p < n_pairs; p++)
        fprintf(out, "<th>pair %zu</th>", p + 1);
    fputs("</tr></thead><tbody>\n", out);
    for (size_t i = 0; i < n; i++) {
        enum report_unit unit = report_format_unit(metrics[i].unit);
        fputs("<tr><th rowspan=\"3\">", out);
        report_format_html(out, metrics[i].name);
        if (unit == REPORT_PLAIN || unit == REPORT_RATE) {
            fputs(" <span class=\"absent\">", out);
            report_format_html(out, metrics[i].unit);
            fputs("</span>", out);
        }
        fputs("</th>", out);
        put_pair_row(out, &metrics[i].a, a, unit, n_pairs);
        fputs("<tr>", out);
        put_pair_row(out, &metrics[i].b, b, unit, n_pairs);
        fputs("<tr>", out);
        put_pair_row(out, &metrics[i].ratios, "ratio", REPORT_RATIO, n_pairs);
    }
    fputs("</tbody></table></div></details>\n", out);
}

static void put_comparison(struct report_view *view, const struct report_node *node)
{
    struct metric metrics[METRICS_MAX];
    struct report_node all = report_node_member(node, "metrics");
    struct report_node a = report_node_member(node, "a"), b = report_node_member(node, "b");
    struct report_node workload = report_node_member(node, "workload");
    struct report_node pairs = report_node_member(node, "pairs");
    const char *a_name = report_node_text(&a) != NULL ? report_node_text(&a) : "A";
    const char *b_name = report_node_text(&b) != NULL ? report_node_text(&b) : "B";
    size_t n = MIN(report_node_count(&all), (size_t)METRICS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct report_node metric = report_node_item(&all, i);
        metrics[i] = read_metric(&metric);
    }
    if (n == 0)
        return;
    fputs("<h3>", view->out);
    report_format_html(view->out, b_name);
    fputs(" against ", view->out);
    report_format_html(view->out, a_name);
    fputs(" <span class=\"sub facts\">", view->out);
    report_html_phrase(view->out, "", &workload, REPORT_EXACT, "");
    report_html_phrase(view->out, "", &pairs, REPORT_COUNT, " interleaved pairs");
    fputs("</span></h3>\n<div class=\"plots\">\n", view->out);
    put_ratios(view, metrics, n, a_name, b_name);
    fputs("<div class=\"scroll\">", view->out);
    put_ratio_table(view->out, metrics, n, a_name, b_name);
    fputs("</div></div>\n", view->out);
    put_pairs(view->out, metrics, n, a_name, b_name);
}

/* Whether a file has something under `name`. */
static bool any_file_has(const struct report_view *view, const char *name)
{
    for (size_t f = 0; f < view->n_files; f++) {
        struct report_node root = report_node_root(&view->files[f], (unsigned)f);
        struct report_node node = report_node_member(&root, name);
        if (node.json != NULL)
            return true;
    }
    return false;
}

void report_section_comparisons(struct report_view *view)
{
    if (!any_file_has(view, "comparison"))
        return;
    fputs("<section><h2>Comparison</h2>\n", view->out);
    for (size_t f = 0; f < view->n_files; f++) {
        struct report_node root = report_node_root(&view->files[f], (unsigned)f);
        struct report_node node = report_node_member(&root, "comparison");
        size_t n = report_node_count(&node);
        put_comparison(view, &node);
        for (size_t i = 0; i < MIN(n, (size_t)COMPARISONS_MAX); i++) {
            struct report_node item = report_node_item(&node, i);
            put_comparison(view, &item);
        }
        if (n > COMPARISONS_MAX)
            fprintf(view->out, "<p class=\"sub\">The first %d of %zu.</p>\n", COMPARISONS_MAX, n);
    }
    fputs("</section>\n", view->out);
}

struct trial_lines {
    struct report_line *passed, *failed, *interval;
};

/* The trials' points: number and rate, or rate and latency. */
static void add_trial(struct trial_lines *lines, const struct report_node *trial, double number,
                      bool against_rate)
{
    struct report_node rate_node = report_node_member(trial, "rate");
    struct report_node value_node = report_node_member(trial, "value_ns");
    struct report_node low_node = report_node_member(trial, "low");
    struct report_node high_node = report_node_member(trial, "high");
    struct report_node pass_node = report_node_member(trial, "pass");
    double rate, value, low, high;
    bool pass;
    if (!report_node_bool(&pass_node, &pass) || !report_node_number(&rate_node, &rate))
        return;
    struct report_line *line = pass ? lines->passed : lines->failed;
    if (against_rate && report_node_number(&value_node, &value))
        report_line_point(line, rate, value);
    if (against_rate)
        return;
    report_line_point(line, number, rate);
    if (report_node_number(&low_node, &low) && report_node_number(&high_node, &high))
        lines->interval->points[lines->interval->n++] =
            (struct report_point){.x = number, .y = (low + high) / 2, .lo = low, .hi = high};
}

static void put_trials(struct report_view *view, const struct report_node *search,
                       struct report_plot *plot, bool against_rate)
{
    struct report_lines lines = {.n = 0};
    struct report_node trials = report_node_member(search, "trials");
    size_t n = MIN(report_node_count(&trials), (size_t)TRIALS_MAX);
    struct trial_lines made = {
        .interval = report_lines_add(&lines, REPORT_INTERVALS,
                                     against_rate ? "" : "where the rate is, after this trial", n),
        .passed = report_lines_add(&lines, REPORT_CIRCLES, "within the bound", n),
        .failed = report_lines_add(&lines, REPORT_CROSSES, "above the bound", n)};
    bool usable = made.interval != NULL && made.passed != NULL && made.failed != NULL;
    for (size_t i = 0; i < n && usable; i++) {
        struct report_node trial = report_node_item(&trials, i);
        add_trial(&made, &trial, (double)(i + 1), against_rate);
    }
    if (usable) {
        made.interval->color = REPORT_MUTED;
        made.passed->color = REPORT_GOOD;
        made.failed->color = REPORT_BAD;
    }
    report_view_plot(view, plot, &lines);
}

static void put_trial_plots(struct report_view *view, const struct report_node *search)
{
    struct report_node estimate = report_node_member(search, "estimate");
    struct report_node bound = report_node_member(search, "bound_ns");
    struct report_mark marks[] = {{.label = "estimate"}, {.label = "bound"}};
    bool has_estimate = report_node_number(&estimate, &marks[0].at);
    bool has_bound = report_node_number(&bound, &marks[1].at);
    struct report_plot by_number = {.title = "Trials: rate tried, records a second",
                                    .x = {.label = "trial", .unit = REPORT_PLAIN},
                                    .y = {.unit = REPORT_RATE},
                                    .marks = &marks[0],
                                    .n_marks = has_estimate};
    struct report_plot by_rate = {.title = "Trials: latency against the rate tried",
                                  .x = {.label = "records/s", .unit = REPORT_RATE},
                                  .y = report_latency_axis,
                                  .marks = &marks[1],
                                  .n_marks = has_bound};
    put_trials(view, search, &by_number, false);
    put_trials(view, search, &by_rate, true);
}

static void put_search(struct report_view *view, const struct report_node *search)
{
    static const struct report_column facts[] = {
        {"highest rate, records/s", "estimate", REPORT_RATE, NULL},
        {"at least", "low", REPORT_RATE, NULL},
        {"at most", "high", REPORT_RATE, NULL},
        {"percentile held", "percentile", REPORT_EXACT, NULL},
        {"under", "bound_ns", REPORT_NS, NULL},
        {"in this share of runs", "reliability", REPORT_SHARE, NULL},
        {"confidence of the interval", "confidence", REPORT_SHARE, NULL},
        {"tolerance", "tolerance", REPORT_SHARE, NULL},
        {"limited by", "limited_by", REPORT_EXACT, NULL},
        {"stopped", "stopped", REPORT_EXACT, NULL},
    };
    static const struct report_column columns[] = {
        {"rate", "rate", REPORT_RATE, NULL},      {"passed", "pass", REPORT_EXACT, NULL},
        {"latency", "value_ns", REPORT_NS, NULL}, {"run", "run", REPORT_EXACT, NULL},
        {"at least", "low", REPORT_RATE, NULL},   {"at most", "high", REPORT_RATE, NULL},
    };
    struct report_node trials = report_node_member(search, "trials");
    struct report_node method = report_node_member(search, "method");
    fputs("<p class=\"sub\">", view->out);
    report_html_phrase(view->out, "Method: ", &method, REPORT_EXACT, "");
    fputs("</p>\n", view->out);
    report_html_facts(view->out, search, "What was found", facts, ARRAY_LEN(facts));
    fputs("<div class=\"plots\">\n", view->out);
    put_trial_plots(view, search);
    fputs("</div>\n<details><summary>Trial by trial</summary>\n", view->out);
    report_html_items(view->out, &trials, "Trials", columns, ARRAY_LEN(columns));
    fputs("</details>\n", view->out);
}

void report_section_searches(struct report_view *view)
{
    if (!any_file_has(view, "search"))
        return;
    fputs("<section><h2>Highest rate within the bound</h2>\n", view->out);
    for (size_t f = 0; f < view->n_files; f++) {
        struct report_node root = report_node_root(&view->files[f], (unsigned)f);
        struct report_node search = report_node_member(&root, "search");
        if (search.json != NULL)
            put_search(view, &search);
    }
    fputs("</section>\n", view->out);
}
