/* A run's tables: what the load cost, the machine's limits, verification, and the workload. */
#include "bench/report_sections.h"

#include <math.h>
#include <string.h>

#include "bench/report_html.h"
#include "core/base/bytes.h"

static const struct report_column generator_facts[] = {
    {"limited by", "limit", REPORT_EXACT, NULL},
    {"lateness p50", "lateness/percentiles/50", REPORT_NS, NULL},
    {"lateness p99", "lateness/percentiles/99", REPORT_NS, NULL},
    {"lateness p99.9", "lateness/percentiles/99.9", REPORT_NS, NULL},
    {"lateness max", "lateness/max", REPORT_NS, NULL},
    {"CPU", "cpu_seconds", REPORT_SECONDS, NULL},
    {"share of its CPU", "cpu_share", REPORT_SHARE, NULL},
    {"CPU \xc2\xb5s a record", "cpu_us_per_record", REPORT_PLAIN, NULL},
};

static const struct report_column verification_facts[] = {
    {"mode", "mode", REPORT_EXACT, NULL},
    {"records acknowledged", "records_acked", REPORT_COUNT, NULL},
    {"records seen", "records_seen", REPORT_COUNT, NULL},
    {"lost", "lost", REPORT_COUNT, NULL},
    {"duplicated", "duplicated", REPORT_COUNT, NULL},
    {"reordered", "reordered", REPORT_COUNT, NULL},
    {"corrupt", "corrupt", REPORT_COUNT, NULL},
};

static const struct report_column incident_columns[] = {
    {"what", "kind", REPORT_EXACT, NULL},           {"topic", "topic", REPORT_EXACT, NULL},
    {"partition", "partition", REPORT_EXACT, NULL}, {"offset", "offset", REPORT_EXACT, NULL},
    {"producer", "producer", REPORT_EXACT, NULL},   {"sequence", "sequence", REPORT_EXACT, NULL},
    {"records", "count", REPORT_COUNT, NULL},
};

static const struct report_column device_columns[] = {
    {"block", "block_bytes", REPORT_BYTES, NULL},
    {"depth", "depth", REPORT_COUNT, NULL},
    {"flush", "flush", REPORT_EXACT, NULL},
    {"MiB/s", "mib_s", REPORT_PLAIN, NULL},
};

static const struct report_column tcp_columns[] = {
    {"message", "message_bytes", REPORT_BYTES, NULL},
    {"MiB/s", "mib_s", REPORT_PLAIN, NULL},
    {"CPU s/GiB", "cpu_s_per_gib", REPORT_PLAIN, NULL},
};

/* The bill's members whose names do not say it all; the rest follow as they are named. */
static const struct report_column bill_facts[] = {
    {"command", "command", REPORT_EXACT, NULL},
    {"process", "pid", REPORT_EXACT, NULL},
    {"over", "seconds", REPORT_SECONDS, NULL},
    {"CPU, user", "cpu_user_s", REPORT_SECONDS, NULL},
    {"CPU, system", "cpu_system_s", REPORT_SECONDS, NULL},
    {"CPU s/GiB", "cpu_s_per_gib", REPORT_PLAIN, NULL},
    {"CPU s/million records", "cpu_s_per_million_records", REPORT_PLAIN, NULL},
    {"resident memory, most", "rss_bytes_max", REPORT_BYTES, NULL},
    {"written to the device", "device_written_bytes", REPORT_BYTES, NULL},
    {"read from the device", "device_read_bytes", REPORT_BYTES, NULL},
    {"voluntary switches", "voluntary_switches", REPORT_COUNT, NULL},
    {"involuntary switches", "involuntary_switches", REPORT_COUNT, NULL},
};

static bool in_bill_facts(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(bill_facts); i++)
        if (strcmp(bill_facts[i].names, name) == 0)
            return true;
    return false;
}

static void put_other(void *arg, const struct report_node *member, const char *name)
{
    struct report_view *view = arg;
    double value;
    if (in_bill_facts(name) || (!report_node_number(member, &value) && !report_node_text(member)))
        return;
    fputs("<tr><th>", view->out);
    report_format_html(view->out, name);
    fputs("</th>", view->out);
    report_html_cell(view->out, member, strstr(name, "bytes") ? REPORT_BYTES : REPORT_PLAIN);
    fputs("</tr>\n", view->out);
}

static void put_bill(struct report_view *view, const struct report_run *run)
{
    struct report_node bill = report_node_member(&run->node, "bill");
    report_html_facts(view->out, &bill, "The broker's bill", bill_facts, ARRAY_LEN(bill_facts));
    fputs("<table class=\"facts-table\"><tbody>\n", view->out);
    report_node_each(&bill, REPORT_ROWS_MAX, view, put_other);
    fputs("</tbody></table>\n", view->out);
}

static void put_share(struct report_view *view, const struct report_node *item)
{
    struct report_node name = report_node_member(item, "name");
    struct report_node reached = report_node_member(item, "mib_s");
    struct report_node limit = report_node_member(item, "limit_mib_s");
    struct report_node share = report_node_member(item, "share");
    double value;
    fputs("<tr>", view->out);
    report_html_cell(view->out, &name, REPORT_EXACT);
    report_html_cell(view->out, &reached, REPORT_PLAIN);
    report_html_cell(view->out, &limit, REPORT_PLAIN);
    report_html_cell(view->out, &share, REPORT_SHARE);
    fputs("<td class=\"t\">", view->out);
    if (report_node_number(&share, &value))
        fprintf(view->out, "<span class=\"bar\"><i style=\"width:%.1f%%\"></i></span>",
                fmin(fmax(value, 0), 1) * 100);
    fputs("</td></tr>\n", view->out);
}

static void put_limits(struct report_view *view, const struct report_run *run)
{
    struct report_node limits = report_node_member(&run->node, "limits");
    struct report_node write = report_node_find(&limits, "device/write");
    struct report_node read = report_node_find(&limits, "device/read");
    struct report_node tcp = report_node_member(&limits, "tcp");
    struct report_node shares = report_node_member(&limits, "shares");
    size_t n = MIN(report_node_count(&shares), (size_t)REPORT_ROWS_MAX);
    if (n > 0)
        fputs("<table><caption>Share of the limits</caption>\n<thead><tr><th class=\"t\">limit</th>"
              "<th>reached MiB/s</th><th>limit MiB/s</th><th>share</th><th></th></tr></thead>"
              "<tbody>\n",
              view->out);
    for (size_t i = 0; i < n; i++) {
        struct report_node item = report_node_item(&shares, i);
        put_share(view, &item);
    }
    if (n > 0)
        fputs("</tbody></table>\n", view->out);
    report_html_items(view->out, &write, "Raw device, writing", device_columns,
                      ARRAY_LEN(device_columns));
    report_html_items(view->out, &read, "Raw device, reading", device_columns,
                      ARRAY_LEN(device_columns));
    report_html_items(view->out, &tcp, "TCP", tcp_columns, ARRAY_LEN(tcp_columns));
}

static void put_key(void *arg, const struct report_node *member, const char *name)
{
    struct report_view *view = arg;
    fputs("<tr><th>", view->out);
    report_format_html(view->out, name);
    fputs("</th>", view->out);
    report_html_cell(view->out, member, REPORT_EXACT);
    fputs("</tr>\n", view->out);
}

static void put_workload(struct report_view *view, const struct report_run *run)
{
    if (report_node_each(&run->workload, 0, view, put_key) == 0)
        return;
    fputs("<table class=\"facts-table\"><caption>Workload</caption><tbody>\n", view->out);
    size_t n = report_node_each(&run->workload, REPORT_ROWS_MAX, view, put_key);
    if (n > REPORT_ROWS_MAX)
        fprintf(view->out, "<tr><th>and %zu more</th><td></td></tr>\n", n - REPORT_ROWS_MAX);
    fputs("</tbody></table>\n", view->out);
}

void report_run_tables(struct report_view *view, const struct report_run *run)
{
    struct report_node generator = report_node_member(&run->node, "generator");
    struct report_node verification = report_node_member(&run->node, "verification");
    struct report_node incidents = report_node_member(&verification, "incidents");
    fputs("<div>", view->out);
    report_html_facts(view->out, &verification, "Verification", verification_facts,
                      ARRAY_LEN(verification_facts));
    report_html_items(view->out, &incidents, "Incidents", incident_columns,
                      ARRAY_LEN(incident_columns));
    report_html_facts(view->out, &generator, "The generator", generator_facts,
                      ARRAY_LEN(generator_facts));
    fputs("</div>\n<div>", view->out);
    put_bill(view, run);
    fputs("</div>\n<div>", view->out);
    put_limits(view, run);
    fputs("</div>\n<div>", view->out);
    put_workload(view, run);
    fputs("</div>\n", view->out);
}
