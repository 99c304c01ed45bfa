/* One run: its head, its time series, and its windows beside each other. */
#include "bench/report_sections.h"

#include <math.h>
#include <string.h>

#include "bench/report_html.h"
#include "core/base/bytes.h"

#define SPANS_MAX 32
#define NOTES_MAX 50
#define PHASES_MAX 16

struct name {
    const char *name, *shown;
};

/* Windows in the order in which they pass; phases have the same names. */
static const struct name windows[] = {
    {"warmup", "warm-up"}, {"measure", "measured"},  {"baseline", "baseline"},
    {"replay", "replay"},  {"recovery", "recovery"},
};

static const char *shown_name(const char *phase)
{
    for (size_t i = 0; i < ARRAY_LEN(windows); i++)
        if (strcmp(windows[i].name, phase) == 0)
            return windows[i].shown;
    return phase;
}

/* Phases that are measured stay light. */
static bool is_plain(const char *phase)
{
    static const char *const names[] = {"measure", "baseline", "recovery"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], phase) == 0)
            return true;
    return false;
}

/* The phases of the series, each from its first interval's begin to its last one's end. */
static size_t find_spans(const struct report_node *series, struct report_span *spans)
{
    size_t n = 0, n_items = report_node_count(series);
    const char *last = NULL;
    for (size_t i = 0; i < n_items; i++) {
        struct report_node item = report_node_item(series, i);
        struct report_node t = report_node_member(&item, "t");
        struct report_node seconds = report_node_member(&item, "seconds");
        struct report_node phase = report_node_member(&item, "phase");
        const char *name = report_node_text(&phase);
        double end, length;
        if (name == NULL || !report_node_number(&t, &end))
            continue;
        if (last == NULL || strcmp(last, name) != 0) {
            if (n == SPANS_MAX)
                break;
            double from = report_node_number(&seconds, &length) ? end - length : end;
            from = n > 0 ? spans[n - 1].to : from;
            spans[n++] = (struct report_span){shown_name(name), from, end, is_plain(name)};
        }
        spans[n - 1].to = end;
        last = name;
    }
    return n;
}

struct series_line {
    const char *names, *label;
    unsigned color, dash;
    bool per_second; /* counted in the interval: shown a second */
    bool if_any;     /* not worth a line when it is zero throughout */
};

/* NaN where the interval has no such value. */
static double series_value(const struct report_node *item, const struct series_line *what)
{
    struct report_node node = report_node_find(item, what->names);
    struct report_node length = report_node_member(item, "seconds");
    double value, seconds;
    if (!report_node_number(&node, &value))
        return NAN;
    if (!what->per_second)
        return value;
    return report_node_number(&length, &seconds) && seconds > 0 ? value / seconds : NAN;
}

static void add_series(struct report_lines *lines, const struct report_node *series,
                       const struct series_line *what)
{
    size_t n = report_node_count(series);
    bool any = false;
    struct report_line *line = report_lines_add(lines, REPORT_LINE, what->label, n);
    if (line == NULL)
        return;
    line->color = what->color;
    line->dash = what->dash;
    for (size_t i = 0; i < n; i++) {
        struct report_node item = report_node_item(series, i);
        struct report_node t = report_node_member(&item, "t");
        double end, value = series_value(&item, what);
        if (report_node_number(&t, &end))
            report_line_point(line, end, value);
        any = any || (isfinite(value) && (value > 0 || !what->if_any));
    }
    if (!any) {
        line->n = 0;
        line->label[0] = '\0';
    }
}

struct series_plot {
    const char *title;
    enum report_unit unit;
    enum report_scale scale;
    struct series_line lines[4];
};

static const struct series_plot series_plots[] = {
    {"Records a second",
     REPORT_RATE,
     REPORT_LINEAR,
     {{"sent", "sent", 5, 2, true, false},
      {"acked", "acknowledged", 0, 0, true, false},
      {"consumed", "read", 1, 1, true, false},
      {"errors", "errors", REPORT_BAD, 0, true, true}}},
    {"Acknowledgement latency in each interval, from the intended time",
     REPORT_NS,
     REPORT_LOG,
     {{"ack/p50", "p50", 0, 0, false, false},
      {"ack/p99", "p99", 1, 1, false, false},
      {"ack/p99.9", "p99.9", 2, 3, false, false},
      {"ack/max", "max", 3, 2, false, false}}},
    {"End-to-end latency in each interval, from the intended time",
     REPORT_NS,
     REPORT_LOG,
     {{"e2e/p50", "p50", 0, 0, false, false},
      {"e2e/p99", "p99", 1, 1, false, false},
      {"e2e/p99.9", "p99.9", 2, 3, false, false},
      {"e2e/max", "max", 3, 2, false, false}}},
    {"CPU in use, cores",
     REPORT_PLAIN,
     REPORT_LINEAR,
     {{"broker_cpu", "broker", 0, 0, false, false},
      {"client_cpu", "client (this harness)", 1, 1, false, false}}},
    {"Broker's resident memory",
     REPORT_BYTES,
     REPORT_LINEAR,
     {{"broker_rss_bytes", "resident", 0, 0, false, false}}},
};

void report_run_series(struct report_view *view, const struct report_run *run)
{
    struct report_node series = report_node_member(&run->node, "series");
    struct report_span spans[SPANS_MAX];
    size_t n_spans = find_spans(&series, spans);
    for (size_t i = 0; i < ARRAY_LEN(series_plots); i++) {
        const struct series_plot *what = &series_plots[i];
        struct report_lines lines = {.n = 0};
        struct report_plot plot = {
            .title = what->title,
            .x = {.label = "seconds since the load began", .unit = REPORT_PLAIN},
            .y = {.unit = what->unit, .scale = what->scale},
            .spans = spans,
            .n_spans = n_spans};
        for (size_t j = 0; j < ARRAY_LEN(what->lines) && what->lines[j].names != NULL; j++)
            add_series(&lines, &series, &what->lines[j]);
        report_view_plot(view, &plot, &lines);
    }
}

static struct report_node window_of(const struct report_run *run, size_t index)
{
    struct report_node all = report_node_member(&run->node, "windows");
    return report_node_member(&all, windows[index].name);
}

/* Curves of all windows together: what the transient, or a replay, does to latency. */
static void put_window_curves(struct report_view *view, const struct report_run *run,
                              const char *hist, const char *title)
{
    struct report_lines lines = {.n = 0};
    struct report_plot plot = {.title = title, .x = report_tail_axis, .y = report_latency_axis};
    for (size_t i = 0; i < ARRAY_LEN(windows); i++) {
        struct report_node window = window_of(run, i);
        struct report_node histograms = report_node_member(&window, "histograms");
        struct report_node node = report_node_member(&histograms, hist);
        struct report_line *line = report_view_curve(&lines, &node, windows[i].shown);
        if (line == NULL)
            continue;
        line->color = i == 0 ? 5 : (unsigned)(i - 1) % 4;
        line->dash = i == 0 ? 2 : i == 1 || i == 3 ? 0 : 1;
    }
    if (lines.n < 2)
        report_lines_fini(&lines);
    report_view_plot(view, &plot, &lines);
}

#define HIST(head, name)                                                                           \
    {head " p50", "histograms/" name "/percentiles/50", REPORT_NS, NULL},                          \
        {head " p90", "histograms/" name "/percentiles/90", REPORT_NS, NULL},                      \
        {head " p99", "histograms/" name "/percentiles/99", REPORT_NS, NULL},                      \
        {head " p99.9", "histograms/" name "/percentiles/99.9", REPORT_NS, NULL},                  \
        {head " p99.99", "histograms/" name "/percentiles/99.99", REPORT_NS, NULL},                \
        {head " max", "histograms/" name "/max", REPORT_NS, NULL},                                 \
        {head " mean", "histograms/" name "/mean", REPORT_NS, NULL},                               \
    {                                                                                              \
        head " values", "histograms/" name "/count", REPORT_COUNT, NULL                            \
    }

static const struct report_column window_rows[] = {
    {"length", "seconds", REPORT_SECONDS, NULL},
    {"records intended", "intended", REPORT_COUNT, NULL},
    {"records sent", "sent", REPORT_COUNT, NULL},
    {"records acknowledged", "acked", REPORT_COUNT, NULL},
    {"records read", "consumed", REPORT_COUNT, NULL},
    {"errors", "errors", REPORT_COUNT, NULL},
    {"requests", "requests", REPORT_COUNT, NULL},
    {"batches", "batches", REPORT_COUNT, NULL},
    {"acknowledged a second", "ack_rate", REPORT_RATE, NULL},
    {"acknowledged MiB/s", "ack_mib_s", REPORT_PLAIN, NULL},
    {"read a second", "consume_rate", REPORT_RATE, NULL},
    {"read MiB/s", "consume_mib_s", REPORT_PLAIN, NULL},
    HIST("ack, intended:", "ack"),
    HIST("ack, send:", "ack_send"),
    HIST("end to end:", "e2e"),
};

static bool row_has_any(const struct report_run *run, const struct report_column *row)
{
    double value;
    for (size_t i = 0; i < ARRAY_LEN(windows); i++) {
        struct report_node window = window_of(run, i);
        struct report_node node = report_node_find(&window, row->names);
        if (report_node_number(&node, &value))
            return true;
    }
    return false;
}

void report_run_windows(struct report_view *view, const struct report_run *run)
{
    struct report_node nodes[ARRAY_LEN(windows)];
    size_t n = 0;
    FILE *out = view->out;
    for (size_t i = 0; i < ARRAY_LEN(windows); i++) {
        nodes[i] = window_of(run, i);
        n += nodes[i].json != NULL;
    }
    if (n == 0)
        return;
    fputs("<table><caption>Windows</caption>\n<thead><tr><th></th>", out);
    for (size_t i = 0; i < ARRAY_LEN(windows); i++)
        if (nodes[i].json != NULL)
            fprintf(out, "<th>%s</th>", windows[i].shown);
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t r = 0; r < ARRAY_LEN(window_rows); r++) {
        if (!row_has_any(run, &window_rows[r]))
            continue;
        fprintf(out, "<tr><th>%s</th>", window_rows[r].head);
        for (size_t i = 0; i < ARRAY_LEN(windows); i++) {
            struct report_node node = report_node_find(&nodes[i], window_rows[r].names);
            if (nodes[i].json != NULL)
                report_html_cell(out, &node, window_rows[r].unit);
        }
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table>\n", out);
}

static void put_phases(struct report_view *view, const struct report_run *run)
{
    struct report_node phases = report_node_member(&run->node, "phases");
    size_t n = MIN(report_node_count(&phases), (size_t)PHASES_MAX);
    if (n == 0)
        return;
    fputs("<p class=\"sub facts\">Phases: ", view->out);
    for (size_t i = 0; i < n; i++) {
        struct report_node phase = report_node_item(&phases, i);
        struct report_node name = report_node_member(&phase, "name");
        struct report_node seconds = report_node_member(&phase, "seconds");
        fputs("<span>", view->out);
        report_format_html(view->out,
                           report_node_text(&name) ? shown_name(report_node_text(&name)) : "?");
        fputc(' ', view->out);
        report_html_value(view->out, &seconds, REPORT_SECONDS);
        fputs("</span>", view->out);
    }
    fputs("</p>\n", view->out);
}

static void put_steady(struct report_view *view, const struct report_run *run)
{
    struct report_node steady = report_node_member(&run->node, "steady");
    struct report_node method = report_node_member(&steady, "method");
    struct report_node at = report_node_member(&steady, "at_s");
    struct report_node flag = report_node_member(&steady, "reached");
    bool reached;
    if (!report_node_bool(&flag, &reached))
        return;
    fprintf(view->out, "<p class=\"sub facts\"><span>%s</span>",
            reached ? "Steady state reached" : "<b class=\"invalid\">No steady state reached</b>");
    report_html_phrase(view->out, "after ", &at, REPORT_SECONDS, "");
    report_html_phrase(view->out, "method: ", &method, REPORT_EXACT, "");
    fputs("</p>\n", view->out);
}

static void put_about(struct report_view *view, const struct report_run *run)
{
    static const struct {
        const char *names, *before, *after;
        enum report_unit unit;
    } parts[] = {
        {"bootstrap", "broker at ", "", REPORT_EXACT},
        {"broker/cluster_id", "cluster ", "", REPORT_EXACT},
        {"broker/nodes", "nodes: ", "", REPORT_COUNT},
        {"driver", "driver ", "", REPORT_EXACT},
        {"generator/limit", "limited by the ", "", REPORT_EXACT},
        {"generator/text", "", "", REPORT_EXACT},
    };
    fputs("<p class=\"sub facts\">", view->out);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct report_node part = report_node_find(&run->node, parts[i].names);
        report_html_phrase(view->out, parts[i].before, &part, parts[i].unit, parts[i].after);
    }
    fputs("</p>\n", view->out);
    put_phases(view, run);
    put_steady(view, run);
}

static void put_notes(struct report_view *view, const struct report_run *run)
{
    struct report_node notes = report_node_member(&run->node, "notes");
    size_t n = MIN(report_node_count(&notes), (size_t)NOTES_MAX);
    if (run->invalid) {
        fputs("<div class=\"alarm\"><b>INVALID:</b> ", view->out);
        report_run_reasons(view, run);
        fputs("</div>\n", view->out);
    }
    if (n > 0)
        fputs("<ul class=\"notes\">\n", view->out);
    for (size_t i = 0; i < n; i++) {
        struct report_node note = report_node_item(&notes, i);
        if (report_node_text(&note) == NULL)
            continue;
        fputs("<li>", view->out);
        report_format_html(view->out, report_node_text(&note));
        fputs("</li>\n", view->out);
    }
    if (n > 0)
        fputs("</ul>\n", view->out);
}

static void put_head(struct report_view *view, const struct report_run *run)
{
    struct report_node name = report_node_member(&run->workload, "name");
    struct report_node rate = report_node_member(&run->workload, "rate");
    report_format_html(view->out, run->label);
    fputs(" <span class=\"sub facts\">", view->out);
    report_html_phrase(view->out, "", &name, REPORT_EXACT, "");
    report_html_phrase(view->out, "", &rate, REPORT_RATE, " rec/s asked");
    if (run->invalid)
        fputs("<span class=\"invalid\">INVALID</span>", view->out);
    fputs("</span>", view->out);
}

static void put_body(struct report_view *view, const struct report_run *run, bool plotted)
{
    put_notes(view, run);
    put_about(view, run);
    if (plotted) {
        fputs("<div class=\"plots\">\n", view->out);
        report_run_series(view, run);
        put_window_curves(view, run, "ack", "Acknowledgement latency, window by window");
        put_window_curves(view, run, "e2e", "End-to-end latency, window by window");
        fputs("</div>\n", view->out);
    }
    fputs("<div class=\"tables\">\n", view->out);
    report_run_windows(view, run);
    fputs("<div class=\"tables rest\">\n", view->out);
    report_run_tables(view, run);
    fputs("</div></div>\n", view->out);
}

void report_section_runs(struct report_view *view)
{
    bool folded = view->n_runs > REPORT_RUNS_OPEN_MAX;
    if (view->n_runs == 0)
        return;
    fputs("<section><h2>Run by run</h2>\n", view->out);
    if (view->n_runs > REPORT_RUNS_PLOTTED_MAX)
        fprintf(view->out, "<p>Time series are drawn for the first %d runs.</p>\n",
                REPORT_RUNS_PLOTTED_MAX);
    for (size_t i = 0; i < view->n_runs; i++) {
        const char *open = folded ? "<details class=\"run\" id=\"run-%zu\"><summary>"
                                  : "<section class=\"run\" id=\"run-%zu\"><h3>";
        fprintf(view->out, open, i + 1);
        put_head(view, &view->runs[i]);
        fputs(folded ? "</summary>\n" : "</h3>\n", view->out);
        put_body(view, &view->runs[i], i < REPORT_RUNS_PLOTTED_MAX);
        fputs(folded ? "</details>\n" : "</section>\n", view->out);
    }
    fputs("</section>\n", view->out);
}
