/* The report's head, its table of all runs, and its files. */
#include "bench/report_sections.h"

#include <string.h>

#include "bench/report_html.h"
#include "core/base/bytes.h"

#define REASONS_MAX 20   /* of one run */
#define HEAD_FILES_MAX 3 /* described in the head; all are at the end */
#define ALARM_RUNS_MAX 20

#define PERCENTILE(window, hist, p) "windows/" window "/histograms/" hist "/percentiles/" p
#define ACK "Ack, from the intended time"
#define E2E "End to end"

/* Of the measured window; a replay's is the one while a late consumer reads. */
static const struct report_column columns[] = {
    {"acks", "workload/acks", REPORT_EXACT, "Workload"},
    {"size", "workload/record.size", REPORT_BYTES, "Workload"},
    {"parts", "workload/partitions", REPORT_COUNT, "Workload"},
    {"asked", "workload/rate", REPORT_RATE, "Records/s"},
    {"acked", "windows/@/ack_rate", REPORT_RATE, "Records/s"},
    {"read", "windows/@/consume_rate", REPORT_RATE, "Records/s"},
    {"MiB/s", "windows/@/ack_mib_s", REPORT_PLAIN, "Records/s"},
    {"p50", PERCENTILE("@", "ack", "50"), REPORT_NS, ACK},
    {"p99", PERCENTILE("@", "ack", "99"), REPORT_NS, ACK},
    {"p99.9", PERCENTILE("@", "ack", "99.9"), REPORT_NS, ACK},
    {"max", "windows/@/histograms/ack/max", REPORT_NS, ACK},
    {"p99", PERCENTILE("@", "ack_send", "99"), REPORT_NS, "Ack, send"},
    {"p50", PERCENTILE("@", "e2e", "50"), REPORT_NS, E2E},
    {"p99", PERCENTILE("@", "e2e", "99"), REPORT_NS, E2E},
    {"p99.9", PERCENTILE("@", "e2e", "99.9"), REPORT_NS, E2E},
    {"s/GiB", "bill/cpu_s_per_gib", REPORT_PLAIN, "Broker CPU"},
};

/* The value of a column, `@` being the run's main window. */
static struct report_node column_value(const struct report_run *run,
                                       const struct report_column *column)
{
    char names[128];
    const char *at = strchr(column->names, '@');
    if (at == NULL)
        return report_node_find(&run->node, column->names);
    struct report_node measure = report_node_find(&run->node, "windows/measure");
    snprintf(names, sizeof(names), "%.*s%s%s", (int)(at - column->names), column->names,
             measure.json != NULL ? "measure" : "replay", at + 1);
    return report_node_find(&run->node, names);
}

static bool column_has_any(const struct report_view *view, const struct report_column *column)
{
    double value;
    for (size_t i = 0; i < view->n_runs; i++) {
        struct report_node node = column_value(&view->runs[i], column);
        if (report_node_number(&node, &value) || report_node_text(&node) != NULL)
            return true;
    }
    return false;
}

/* One heading over neighbours of the same group. */
static void put_groups(FILE *out, const bool *shown)
{
    fputs("<tr><th colspan=\"3\"></th>", out);
    for (size_t c = 0, next; c < ARRAY_LEN(columns); c = next) {
        size_t n = 0;
        for (next = c; next < ARRAY_LEN(columns); next++) {
            if (strcmp(columns[next].group, columns[c].group) != 0)
                break;
            n += shown[next];
        }
        if (n > 0)
            fprintf(out, "<th class=\"gap\" colspan=\"%zu\">%s</th>", n, columns[c].group);
    }
    fputs("</tr>\n", out);
}

static void put_row(struct report_view *view, size_t index, const bool *shown, unsigned n_cells)
{
    const struct report_run *run = &view->runs[index];
    struct report_node name = report_node_member(&run->workload, "name");
    struct report_node valid = report_node_member(&run->node, "valid");
    FILE *out = view->out;
    fprintf(out, "<tr%s><th><a href=\"#run-%zu\">", run->invalid ? " class=\"is-invalid\"" : "",
            index + 1);
    report_format_html(out, run->label);
    fprintf(out, "</a></th><td class=\"t %s</td><td class=\"t\">",
            run->invalid         ? "invalid\">INVALID"
            : valid.json != NULL ? "ok\">valid"
                                 : "absent\">not stated");
    if (report_node_text(&name) != NULL)
        report_format_html(out, report_node_text(&name));
    fputs("</td>", out);
    for (size_t c = 0; c < ARRAY_LEN(columns); c++) {
        struct report_node node = column_value(run, &columns[c]);
        if (shown[c])
            report_html_cell(out, &node, columns[c].unit);
    }
    fputs("</tr>\n", out);
    if (!run->invalid)
        return;
    fprintf(out, "<tr class=\"why\"><td colspan=\"%u\">", n_cells);
    report_run_reasons(view, run);
    fputs("</td></tr>\n", out);
}

void report_section_summary(struct report_view *view)
{
    bool shown[ARRAY_LEN(columns)];
    unsigned n_cells = 3;
    FILE *out = view->out;
    if (view->n_runs == 0)
        return;
    for (size_t c = 0; c < ARRAY_LEN(columns); c++)
        n_cells += shown[c] = column_has_any(view, &columns[c]);
    fputs("<section><h2>All runs</h2>\n<div class=\"scroll\"><table id=\"runs\">\n<thead>", out);
    put_groups(out, shown);
    fputs("<tr><th class=\"t\">run</th><th class=\"t\">result</th><th class=\"t\">workload</th>",
          out);
    for (size_t c = 0; c < ARRAY_LEN(columns); c++)
        if (shown[c])
            fprintf(out, "<th>%s</th>", columns[c].head);
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t i = 0; i < view->n_runs; i++)
        put_row(view, i, shown, n_cells);
    fputs("</tbody></table></div>\n", out);
    if (view->n_runs < view->n_runs_all)
        fprintf(out, "<p class=\"sub\">The first %zu of %zu runs.</p>\n", view->n_runs,
                view->n_runs_all);
    fputs("</section>\n", out);
}

void report_run_reasons(struct report_view *view, const struct report_run *run)
{
    struct report_node reasons = report_node_member(&run->node, "invalid");
    size_t n = report_node_count(&reasons);
    if (n == 0)
        fputs("no reason stated", view->out);
    for (size_t i = 0; i < MIN(n, (size_t)REASONS_MAX); i++) {
        struct report_node reason = report_node_item(&reasons, i);
        struct report_node code = report_node_member(&reason, "code");
        struct report_node text = report_node_member(&reason, "text");
        fputs(i > 0 ? "; <b>" : "<b>", view->out);
        report_format_html(view->out, report_node_text(&code) ? report_node_text(&code) : "");
        fputs("</b> ", view->out);
        report_format_html(view->out, report_node_text(&text) ? report_node_text(&text) : "");
    }
    if (n > REASONS_MAX)
        fprintf(view->out, "; and %zu more", n - REASONS_MAX);
}

static void put_alarm_name(struct report_view *view, size_t index)
{
    const struct report_run *run = &view->runs[index];
    struct report_node name = report_node_member(&run->workload, "name");
    struct report_node rate = report_node_member(&run->workload, "rate");
    fprintf(view->out, "<li><a href=\"#run-%zu\">", index + 1);
    report_format_html(view->out, run->label);
    fputs("</a> <span class=\"sub facts\">", view->out);
    report_html_phrase(view->out, "", &name, REPORT_EXACT, "");
    report_html_phrase(view->out, "", &rate, REPORT_RATE, " rec/s asked");
    fputs("</span> ", view->out);
}

static void put_alarm(struct report_view *view)
{
    size_t n = 0;
    for (size_t i = 0; i < view->n_runs; i++)
        n += view->runs[i].invalid;
    if (n == 0)
        return;
    fprintf(view->out,
            "<div class=\"alarm\" role=\"alert\"><b>INVALID: %zu of %zu runs.</b> Their numbers "
            "are shown, but are not to be relied on.<ul>\n",
            n, view->n_runs);
    for (size_t i = 0, said = 0; i < view->n_runs && said < ALARM_RUNS_MAX; i++) {
        if (!view->runs[i].invalid)
            continue;
        put_alarm_name(view, i);
        report_run_reasons(view, &view->runs[i]);
        fputs("</li>\n", view->out);
        said++;
    }
    if (n > ALARM_RUNS_MAX)
        fprintf(view->out, "<li>and %zu more</li>\n", n - ALARM_RUNS_MAX);
    fputs("</ul></div>\n", view->out);
}

static void put_file_line(struct report_view *view, unsigned index)
{
    static const struct {
        const char *names, *before, *after;
        enum report_unit unit;
    } parts[] = {
        {"command", "penstock bench ", "", REPORT_EXACT},
        {"created", "", "", REPORT_EXACT},
        {"penstock/version", "penstock ", "", REPORT_EXACT},
        {"penstock/commit", "commit ", "", REPORT_EXACT},
        {"machine/cpu_model", "", "", REPORT_EXACT},
        {"machine/cpus_online", "", " CPUs", REPORT_COUNT},
        {"machine/memory_bytes", "", "", REPORT_BYTES},
        {"machine/kernel", "kernel ", "", REPORT_EXACT},
        {"machine/clocksource", "clock ", "", REPORT_EXACT},
    };
    struct report_node root = report_node_root(&view->files[index], index);
    fputs("<p class=\"sub facts\">", view->out);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct report_node part = report_node_find(&root, parts[i].names);
        report_html_phrase(view->out, parts[i].before, &part, parts[i].unit, parts[i].after);
    }
    fputs("</p>\n", view->out);
}

void report_section_head(struct report_view *view, const char *title)
{
    fputs("<header><h1>", view->out);
    report_format_html(view->out, title);
    fputs("</h1>\n", view->out);
    for (unsigned i = 0; i < view->n_files && i < HEAD_FILES_MAX; i++)
        put_file_line(view, i);
    if (view->n_files > HEAD_FILES_MAX)
        fprintf(view->out, "<p class=\"sub\"><a href=\"#files\">and %zu more results</a></p>\n",
                view->n_files - HEAD_FILES_MAX);
    put_alarm(view);
    fputs("</header>\n", view->out);
}

static void put_fact(void *arg, const struct report_node *member, const char *name)
{
    struct report_view *view = arg;
    size_t len = strlen(name);
    bool is_bytes = len > 6 && strcmp(name + len - 6, "_bytes") == 0;
    fputs("<tr><th>", view->out);
    report_format_html(view->out, name);
    fputs("</th>", view->out);
    report_html_cell(view->out, member, is_bytes ? REPORT_BYTES : REPORT_EXACT);
    fputs("</tr>\n", view->out);
}

static void put_file(struct report_view *view, unsigned index)
{
    static const struct report_column facts[] = {
        {"command", "command", REPORT_EXACT, NULL},
        {"created", "created", REPORT_EXACT, NULL},
        {"penstock", "penstock/version", REPORT_EXACT, NULL},
        {"commit", "penstock/commit", REPORT_EXACT, NULL},
    };
    struct report_node root = report_node_root(&view->files[index], index);
    struct report_node machine = report_node_member(&root, "machine");
    const char *name = strrchr(view->files[index].name, '/');
    fputs("<div><h4>", view->out);
    report_format_html(view->out, name != NULL ? name + 1 : view->files[index].name);
    fputs("</h4>\n", view->out);
    report_html_facts(view->out, &root, "Result", facts, ARRAY_LEN(facts));
    fputs("<table class=\"facts-table\"><caption>Machine</caption><tbody>\n", view->out);
    report_node_each(&machine, REPORT_ROWS_MAX, view, put_fact);
    fputs("</tbody></table></div>\n", view->out);
}

void report_section_files(struct report_view *view)
{
    fputs("<section id=\"files\"><h2>Results and machines</h2>\n<div class=\"tables\">\n",
          view->out);
    for (unsigned i = 0; i < view->n_files; i++)
        put_file(view, i);
    fputs("</div></section>\n", view->out);
}
