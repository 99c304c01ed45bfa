/* Plots over runs of one workload: percentile curves, and latency against rate. */
#include "bench/report_sections.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report_html.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

#define CURVES_ALIKE_MAX 6 /* runs of one label: more cannot be told apart */
#define GROUPS_PLOTTED_MAX 60
#define CURVES_LABELED_MAX 24 /* runs of several labels, each with its colour */

static struct report_node main_window(const struct report_run *run)
{
    struct report_node measure = report_node_find(&run->node, "windows/measure");
    return measure.json != NULL ? measure : report_node_find(&run->node, "windows/replay");
}

/* Runs of the group, in order; the caller frees. */
static const struct report_run **members(struct report_view *view, size_t group)
{
    const struct report_run **runs = calloc(view->groups[group].n_runs, sizeof(const void *));
    size_t n = 0;
    for (size_t i = 0; runs != NULL && i < view->n_runs; i++)
        if (view->runs[i].group == group)
            runs[n++] = &view->runs[i];
    ASSERT(runs == NULL || n == view->groups[group].n_runs);
    return runs;
}

static bool label_seen(const struct report_run **runs, size_t before, const char *label)
{
    for (size_t i = 0; i < before; i++)
        if (strcmp(runs[i]->label, label) == 0)
            return true;
    return false;
}

/* What a run is called among runs of its group: by its label, or by its rate when all have one. */
static void run_name(const struct report_group *group, const struct report_run *run, char *name)
{
    char rate[REPORT_SHOWN_MAX];
    double value;
    struct report_node asked = report_node_member(&run->workload, "rate");
    if (group->n_labels == 1 && group->n_runs > 1 && report_node_number(&asked, &value)) {
        report_format(REPORT_RATE, value, rate);
        snprintf(name, REPORT_LABEL_BYTES + 16, "%s rec/s", rate);
    } else {
        snprintf(name, REPORT_LABEL_BYTES + 16, "%s", run->label);
    }
}

struct curve {
    const char *hist, *words;
    unsigned dash;
    double width;
};

static void add_curve(struct report_lines *lines, const struct report_group *group,
                      const struct report_run **runs, size_t i, const struct curve *curve)
{
    char name[REPORT_LABEL_BYTES + 16], path[64], label[REPORT_LABEL_BYTES + 64];
    struct report_node window = main_window(runs[i]);
    snprintf(path, sizeof(path), "histograms/%s", curve->hist);
    struct report_node hist = report_node_find(&window, path);
    run_name(group, runs[i], name);
    bool by_label = group->n_labels > 1;
    bool named = !by_label || !label_seen(runs, i, runs[i]->label);
    if (group->n_runs == 1)
        snprintf(label, sizeof(label), "%s", curve->words[0] ? curve->words : name);
    else if (curve->dash == 0)
        snprintf(label, sizeof(label), "%s", name);
    else /* what the dash means is said once for all colours */
        snprintf(label, sizeof(label), "%s", i == 0 ? curve->words : "");
    struct report_line *line = report_view_curve(lines, &hist, named ? label : "");
    if (line == NULL)
        return;
    line->color = by_label || group->n_runs == 1 ? runs[i]->color : (unsigned)i;
    line->dash = curve->dash;
    line->width = curve->width;
}

static void put_curves(struct report_view *view, const struct report_group *group,
                       const struct report_run **runs)
{
    static const struct curve ack[] = {{"ack", "from the intended time", 0, 0},
                                       {"ack_send", "dotted: from the actual send", 2, 1.4}};
    static const struct curve e2e[] = {{"e2e", "", 0, 0}};
    struct report_lines lines = {.n = 0};
    struct report_plot plot = {.title = "Acknowledgement latency by percentile",
                               .x = report_tail_axis,
                               .y = report_latency_axis};
    for (size_t c = 0; c < ARRAY_LEN(ack); c++)
        for (size_t i = 0; i < group->n_runs; i++)
            add_curve(&lines, group, runs, i, &ack[c]);
    report_view_plot(view, &plot, &lines);
    plot.title = "End-to-end latency by percentile, from the intended time";
    for (size_t i = 0; i < group->n_runs; i++)
        add_curve(&lines, group, runs, i, &e2e[0]);
    report_view_plot(view, &plot, &lines);
}

static int by_x(const void *a, const void *b)
{
    const struct report_point *p = a, *q = b;
    return (p->x > q->x) - (p->x < q->x);
}

/* The rate that a run reached: acknowledged, or read when it only consumes. */
static bool rate_reached(const struct report_run *run, double *ret)
{
    struct report_node window = main_window(run);
    struct report_node acked = report_node_member(&window, "ack_rate");
    struct report_node consumed = report_node_member(&window, "consume_rate");
    return report_node_number(&acked, ret) || report_node_number(&consumed, ret);
}

static bool latency_of(const struct report_run *run, const char *hist, const char *percentile,
                       double *ret)
{
    char path[64];
    struct report_node window = main_window(run);
    snprintf(path, sizeof(path), "histograms/%s/percentiles/%s", hist, percentile);
    struct report_node node = report_node_find(&window, path);
    return report_node_number(&node, ret);
}

/* One percentile of one label against the rate reached. */
static void add_rate_line(struct report_lines *lines, const struct report_group *group,
                          const struct report_run **runs, size_t first, const char *hist,
                          const char *percentile, unsigned dash)
{
    char label[REPORT_LABEL_BYTES + 16];
    double x, y;
    snprintf(label, sizeof(label), "%s p%s", runs[first]->label, percentile);
    struct report_line *line = report_lines_add(lines, REPORT_LINE_DOTS, label, group->n_runs);
    if (line == NULL)
        return;
    line->color = group->n_labels > 1 ? runs[first]->color : dash;
    line->dash = dash;
    for (size_t i = first; i < group->n_runs; i++)
        if (strcmp(runs[i]->label, runs[first]->label) == 0 && rate_reached(runs[i], &x) &&
            latency_of(runs[i], hist, percentile, &y))
            report_line_point(line, x, y);
    qsort(line->points, line->n, sizeof(*line->points), by_x);
}

/* Invalid runs stay in the plot, crossed out. */
static void add_crosses(struct report_lines *lines, const struct report_group *group,
                        const struct report_run **runs, const char *hist)
{
    double x, y;
    struct report_line *line =
        report_lines_add(lines, REPORT_CROSSES, "invalid run", group->n_runs);
    if (line == NULL)
        return;
    line->color = REPORT_BAD;
    for (size_t i = 0; i < group->n_runs; i++)
        if (runs[i]->invalid && rate_reached(runs[i], &x) && latency_of(runs[i], hist, "99", &y))
            report_line_point(line, x, y);
    if (line->n == 0)
        line->label[0] = '\0';
}

static void put_rate_plot(struct report_view *view, const struct report_group *group,
                          const struct report_run **runs, const char *hist, const char *title)
{
    static const char *const percentiles[] = {"99", "50", "99.9"};
    struct report_lines lines = {.n = 0};
    struct report_plot plot = {.title = title,
                               .x = {.label = "rate reached, records/s", .unit = REPORT_RATE},
                               .y = report_latency_axis};
    size_t n = group->n_labels > 1 ? 2 : ARRAY_LEN(percentiles);
    for (size_t i = 0; i < group->n_runs; i++)
        for (size_t p = 0; p < n && !label_seen(runs, i, runs[i]->label); p++)
            add_rate_line(&lines, group, runs, i, hist, percentiles[p], (unsigned)p);
    add_crosses(&lines, group, runs, hist);
    report_view_plot(view, &plot, &lines);
}

/* Whether the group's runs were asked for more than one rate. */
static bool rates_differ(const struct report_group *group, const struct report_run **runs)
{
    struct report_node first = report_node_member(&runs[0]->workload, "rate");
    const char *rate = report_node_raw(&first);
    for (size_t i = 1; i < group->n_runs && rate != NULL; i++) {
        struct report_node other = report_node_member(&runs[i]->workload, "rate");
        if (report_node_raw(&other) != NULL && strcmp(report_node_raw(&other), rate) != 0)
            return true;
    }
    return false;
}

static void put_group(struct report_view *view, size_t index)
{
    const struct report_group *group = &view->groups[index];
    const struct report_run **runs = members(view, index);
    if (runs == NULL) {
        view->rc = -ENOMEM;
        snprintf(view->reason, view->reason_size, "out of memory");
        return;
    }
    fputs("<h3>", view->out);
    report_view_group_title(view, group);
    fputs("</h3>\n<div class=\"plots\">\n", view->out);
    if (rates_differ(group, runs)) {
        put_rate_plot(view, group, runs, "ack", "Acknowledgement latency against rate");
        put_rate_plot(view, group, runs, "e2e", "End-to-end latency against rate");
    }
    if (group->n_runs <= (group->n_labels > 1 ? CURVES_LABELED_MAX : CURVES_ALIKE_MAX))
        put_curves(view, group, runs);
    fputs("</div>\n", view->out);
    free(runs);
}

void report_section_groups(struct report_view *view)
{
    if (view->n_groups == 0)
        return;
    fputs("<section><h2>Latency, workload by workload</h2>\n", view->out);
    if (view->n_groups > GROUPS_PLOTTED_MAX)
        fprintf(view->out, "<p>The first %d of %zu workloads.</p>\n", GROUPS_PLOTTED_MAX,
                view->n_groups);
    for (size_t i = 0; i < MIN(view->n_groups, (size_t)GROUPS_PLOTTED_MAX); i++)
        put_group(view, i);
    fputs("</section>\n", view->out);
}
