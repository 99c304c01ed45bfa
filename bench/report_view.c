#include "bench/report_view.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report_html.h"
#include "core/base/bytes.h"

const struct report_axis report_tail_axis = {.label = "percentile", .scale = REPORT_TAIL};
const struct report_axis report_latency_axis = {.unit = REPORT_NS, .scale = REPORT_LOG};

unsigned report_view_color(struct report_view *view, const char *label)
{
    size_t i = 0;
    while (i < view->n_labels && strncmp(view->labels[i], label, REPORT_LABEL_BYTES - 1) != 0)
        i++;
    if (i == REPORT_LABELS_MAX)
        return REPORT_COLORS - 1;
    if (i == view->n_labels)
        snprintf(view->labels[view->n_labels++], REPORT_LABEL_BYTES, "%s", label);
    return (unsigned)(i % REPORT_COLORS);
}

/* What may differ between runs of a group. */
static bool is_of_the_run(const char *name)
{
    static const char *const names[] = {"name", "rate", "seed"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void add_to_key(void *arg, const struct report_node *member, const char *name)
{
    const char *text = report_node_text(member), *raw = report_node_raw(member);
    if (!is_of_the_run(name))
        fprintf(arg, "%s=%s\n", name, text != NULL ? text : raw != NULL ? raw : "");
}

static char *make_key(const struct report_run *run)
{
    char *key = NULL;
    size_t size;
    FILE *out = open_memstream(&key, &size);
    if (out == NULL)
        return NULL;
    report_node_each(&run->workload, REPORT_ROWS_MAX, out, add_to_key);
    if (fclose(out) == 0)
        return key;
    free(key);
    return NULL;
}

static bool group_has_label(const struct report_view *view, size_t group, const char *label)
{
    for (size_t i = 0; i < view->n_runs; i++)
        if (view->runs[i].group == group && strcmp(view->runs[i].label, label) == 0)
            return true;
    return false;
}

static int put_in_group(struct report_view *view, struct report_run *run)
{
    size_t g = 0;
    char *key = make_key(run);
    if (key == NULL)
        return -ENOMEM;
    while (g < view->n_groups && strcmp(view->groups[g].key, key) != 0)
        g++;
    struct report_group *group = &view->groups[g];
    if (g == view->n_groups) {
        *group = (struct report_group){.key = key, .first_run = view->n_runs};
        view->n_groups++;
    } else {
        free(key);
    }
    group->n_runs++;
    group->n_labels += !group_has_label(view, g, run->label);
    run->group = g;
    return 0;
}

static int add_run(struct report_view *view, const struct report_node *node)
{
    struct report_run *run = &view->runs[view->n_runs];
    struct report_node label = report_node_member(node, "label");
    struct report_node valid = report_node_member(node, "valid");
    struct report_node invalid = report_node_member(node, "invalid");
    const char *text = report_node_text(&label);
    bool is_valid = true;
    *run = (struct report_run){.node = *node, .workload = report_node_member(node, "workload")};
    if (text != NULL && text[0] != '\0')
        snprintf(run->label, sizeof(run->label), "%s", text);
    else
        snprintf(run->label, sizeof(run->label), "run %zu", view->n_runs + 1);
    report_node_bool(&valid, &is_valid);
    run->invalid = !is_valid || report_node_count(&invalid) > 0;
    run->color = report_view_color(view, run->label);
    int rc = put_in_group(view, run);
    view->n_runs += rc == 0;
    return rc;
}

/* Labels of a comparison come first: A and B have the first two colours. */
static void know_labels(struct report_view *view, const struct report_node *root)
{
    struct report_node at = report_node_member(root, "comparison");
    if (report_node_count(&at) > 0)
        at = report_node_item(&at, 0);
    for (const char *side = "ab"; *side != '\0'; side++) {
        char name[] = {*side, '\0'};
        struct report_node label = report_node_member(&at, name);
        if (report_node_text(&label) != NULL)
            report_view_color(view, report_node_text(&label));
    }
}

int report_view_init(struct report_view *view, const struct report_file *files, size_t n_files,
                     FILE *out, char *reason, size_t reason_size)
{
    *view = (struct report_view){.out = out,
                                 .files = files,
                                 .n_files = n_files,
                                 .reason = reason,
                                 .reason_size = reason_size};
    view->runs = calloc(REPORT_RUNS_MAX, sizeof(*view->runs));
    view->groups = calloc(REPORT_RUNS_MAX, sizeof(*view->groups));
    int rc = view->runs == NULL || view->groups == NULL ? -ENOMEM : 0;
    for (size_t f = 0; f < n_files && rc == 0; f++) {
        struct report_node root = report_node_root(&files[f], (unsigned)f);
        struct report_node runs = report_node_member(&root, "runs");
        size_t n = report_node_count(&runs);
        view->n_runs_all += n;
        know_labels(view, &root);
        for (size_t i = 0; i < n && view->n_runs < REPORT_RUNS_MAX && rc == 0; i++) {
            struct report_node node = report_node_item(&runs, i);
            rc = add_run(view, &node);
        }
    }
    if (rc < 0) {
        snprintf(reason, reason_size, "out of memory");
        report_view_fini(view);
    }
    return rc;
}

void report_view_fini(struct report_view *view)
{
    for (size_t i = 0; i < view->n_groups; i++)
        free(view->groups[i].key);
    free(view->groups);
    free(view->runs);
}

void report_view_group_title(const struct report_view *view, const struct report_group *group)
{
    static const struct {
        const char *key, *before, *after;
        enum report_unit unit;
    } parts[] = {
        {"record.size", "", "", REPORT_BYTES},
        {"partitions", "", " partitions", REPORT_COUNT},
        {"acks", "acks=", "", REPORT_EXACT},
        {"compression.type", "codec ", "", REPORT_EXACT},
        {"producers", "", " producers", REPORT_COUNT},
        {"consumers", "", " consumers", REPORT_COUNT},
    };
    const struct report_run *run = &view->runs[group->first_run];
    struct report_node name = report_node_member(&run->workload, "name");
    report_format_html(view->out, report_node_text(&name) ? report_node_text(&name) : "workload");
    fputs(" <span class=\"sub facts\">", view->out);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct report_node part = report_node_member(&run->workload, parts[i].key);
        report_html_phrase(view->out, parts[i].before, &part, parts[i].unit, parts[i].after);
    }
    fputs("</span>", view->out);
}

struct report_line *report_lines_add(struct report_lines *lines, enum report_style style,
                                     const char *label, size_t room)
{
    if (lines->n == REPORT_LINES_MAX)
        return NULL;
    struct report_line *line = &lines->items[lines->n];
    *line = (struct report_line){.style = style};
    line->points = calloc(room + 1, sizeof(*line->points));
    if (line->points == NULL) {
        lines->failed = true;
        return NULL;
    }
    snprintf(line->label, sizeof(line->label), "%s", label);
    lines->n++;
    return line;
}

void report_line_point(struct report_line *line, double x, double y)
{
    line->points[line->n++] = (struct report_point){.x = x, .y = y};
}

void report_lines_fini(struct report_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        free(lines->items[i].points);
    *lines = (struct report_lines){.n = 0};
}

static void view_draw(struct report_view *view, const struct report_plot *plot)
{
    char *svg;
    view->rc = report_plot_svg(plot, &svg, view->reason, view->reason_size);
    if (view->rc < 0)
        return;
    report_html_figure(view->out, plot, svg);
    free(svg);
}

void report_view_plot(struct report_view *view, struct report_plot *plot,
                      struct report_lines *lines)
{
    plot->width = plot->width > 0 ? plot->width : 580;
    plot->height = plot->height > 0 ? plot->height : 290;
    plot->lines = lines->items;
    plot->n_lines = lines->n;
    for (size_t i = 0; i < lines->n; i++)
        if (lines->items[i].style == REPORT_LINE)
            lines->items[i].n = report_plot_thin(lines->items[i].points, lines->items[i].n);
    if (lines->failed && view->rc == 0) {
        view->rc = -ENOMEM;
        snprintf(view->reason, view->reason_size, "out of memory");
    }
    if (view->rc == 0 && report_plot_any(plot))
        view_draw(view, plot);
    report_lines_fini(lines);
}

/* x of the percentile axis; the maximum is one value in `count`. */
static void add_percentile(struct report_line *line, double percentile, double value, double count)
{
    double x = percentile < 100 ? 100 / (100 - percentile) : count;
    double last = line->n > 0 ? line->points[line->n - 1].x : 0;
    if (percentile >= 0 && percentile <= 100 && x >= last)
        report_line_point(line, x, value);
}

static void add_curve(struct report_line *line, const struct report_node *curve, double count)
{
    size_t n = report_node_count(curve);
    for (size_t i = 0; i < n; i++) {
        struct report_node pair = report_node_item(curve, i);
        struct report_node p = report_node_item(&pair, 0), v = report_node_item(&pair, 1);
        double percentile, value;
        if (report_node_number(&p, &percentile) && report_node_number(&v, &value))
            add_percentile(line, percentile, value, count);
    }
}

static void add_few(struct report_line *line, const struct report_node *hist, double count)
{
    static const char *const names[] = {"50", "75", "90", "95", "99", "99.9", "99.99", "99.999"};
    struct report_node percentiles = report_node_member(hist, "percentiles");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct report_node node = report_node_member(&percentiles, names[i]);
        double value;
        if (report_node_number(&node, &value))
            add_percentile(line, atof(names[i]), value, count);
    }
}

struct report_line *report_view_curve(struct report_lines *lines, const struct report_node *hist,
                                      const char *label)
{
    struct report_node curve = report_node_member(hist, "curve");
    struct report_node n = report_node_member(hist, "count");
    size_t room = MAX(report_node_count(&curve), (size_t)16);
    double count = 0;
    report_node_number(&n, &count);
    struct report_line *line = report_lines_add(lines, REPORT_LINE, label, room);
    if (line == NULL)
        return NULL;
    add_curve(line, &curve, count);
    if (line->n == 0)
        add_few(line, hist, count);
    if (line->n > 0)
        return line;
    free(line->points);
    lines->n--;
    return NULL;
}
