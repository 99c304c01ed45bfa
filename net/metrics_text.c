/* metrics_text.c: the rows of metrics.c in Prometheus' text form and in JSON. No name, label or
 * help text of the table has a character that either form would have to escape. */
#include <inttypes.h>

#include "net/metrics.h"

#define US_PER_S 1000000u

static void value_write(FILE *out, uint64_t value, bool is_us)
{
    if (is_us)
        fprintf(out, "%" PRIu64 ".%06u", value / US_PER_S, (unsigned)(value % US_PER_S));
    else
        fprintf(out, "%" PRIu64, value);
}

/* Upper end of a bucket, in the unit that is shown; of the last one: none. */
static void bound_write(FILE *out, unsigned bucket, bool is_us, const char *none)
{
    if (bucket + 1 == COUNTER_HIST_BUCKETS)
        fputs(none, out);
    else
        value_write(out, UINT64_C(1) << bucket, is_us);
}

/* ---- text ---- */

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

static void head_text(FILE *out, const char *name, const char *kind, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void hist_text(FILE *out, const struct metric *m, const struct counter_hist *h,
                      unsigned shard)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < COUNTER_HIST_BUCKETS; i++) {
        count += h->counts[i];
        fprintf(out, "penstock_%s_bucket{shard=\"%u\",le=\"", m->name, shard);
        bound_write(out, i, m->is_us, "+Inf");
        fprintf(out, "\"} %" PRIu64 "\n", count);
    }
    fprintf(out, "penstock_%s_sum{shard=\"%u\"} ", m->name, shard);
    value_write(out, h->sum, m->is_us);
    fprintf(out, "\npenstock_%s_count{shard=\"%u\"} %" PRIu64 "\n", m->name, shard, count);
}

static void metric_text(FILE *out, const struct metric *m, const struct metrics_shard *s,
                        unsigned shard)
{
    const uint64_t *values = metric_at(m, s);
    if (m->kind == METRIC_HISTOGRAM)
        hist_text(out, m, metric_at(m, s), shard);
    else if (m->label == NULL)
        fprintf(out, "penstock_%s{shard=\"%u\"} %" PRIu64 "\n", m->name, shard, *values);
    else
        for (unsigned i = 0; m->label_value(i) != NULL; i++)
            fprintf(out, "penstock_%s{shard=\"%u\",%s=\"%s\"} %" PRIu64 "\n", m->name, shard,
                    m->label, m->label_value(i), values[i]);
}

static const char *api_name(unsigned row)
{
    return wire_api_find(net_apis[row].key)->name;
}

static void clients_text(FILE *out, const struct client_stats *clients, unsigned shard)
{
    const struct client_row *client;
    for (unsigned n = 0; (client = client_stats_row(clients, n)) != NULL; n++)
        for (unsigned a = 0; a < net_apis_count; a++)
            for (int v = net_apis[a].served_min; v <= net_apis[a].max_version; v++) {
                uint64_t value = counter_read(&client->requests[a][v]);
                if (value > 0)
                    fprintf(out,
                            "penstock_" METRIC_CLIENTS "{shard=\"%u\",client=\"%s\",api=\"%s\","
                            "version=\"%d\"} %" PRIu64 "\n",
                            shard, client->name, api_name(a), v, value);
            }
}

static void process_text(FILE *out, const struct metrics_process *p)
{
    head_text(out, "penstock_build_info", "gauge", "1; the version is the label.");
    fprintf(out, "penstock_build_info{version=\"%s\"} 1\n", p->version);
    head_text(out, "penstock_cpu_seconds_total", "counter", "CPU time of the whole process.");
    fputs("penstock_cpu_seconds_total{mode=\"user\"} ", out);
    value_write(out, p->cpu_user_us, true);
    fputs("\npenstock_cpu_seconds_total{mode=\"system\"} ", out);
    value_write(out, p->cpu_system_us, true);
    fputc('\n', out);
    head_text(out, "process_cpu_seconds_total", "counter", "CPU time of the whole process.");
    fputs("process_cpu_seconds_total ", out);
    value_write(out, p->cpu_user_us + p->cpu_system_us, true);
    fputc('\n', out);
    head_text(out, "process_resident_memory_bytes", "gauge", "Memory that is resident.");
    fprintf(out, "process_resident_memory_bytes %" PRIu64 "\n", p->resident_bytes);
}

void metrics_write_text(FILE *out, const struct metrics_process *process,
                        const struct metrics_shard *shards, unsigned shards_n)
{
    process_text(out, process);
    for (const struct metric *m = metrics; m < metrics + metrics_count; m++) {
        fprintf(out, "# HELP penstock_%s %s\n# TYPE penstock_%s %s\n", m->name, m->help, m->name,
                kind_names[m->kind]);
        for (unsigned i = 0; i < shards_n; i++)
            metric_text(out, m, &shards[i], i);
    }
    head_text(out, "penstock_" METRIC_CLIENTS, "counter", METRIC_CLIENTS_HELP);
    for (unsigned i = 0; i < shards_n; i++)
        clients_text(out, shards[i].clients, i);
}

/* ---- JSON ---- */

static void hist_json(FILE *out, const struct metric *m, const struct counter_hist *h)
{
    fputs("{\"le\": [", out);
    for (unsigned i = 0; i < COUNTER_HIST_BUCKETS; i++) {
        fputs(i == 0 ? "" : ", ", out);
        bound_write(out, i, m->is_us, "null");
    }
    fputs("], \"counts\": [", out);
    for (unsigned i = 0; i < COUNTER_HIST_BUCKETS; i++)
        fprintf(out, "%s%" PRIu64, i == 0 ? "" : ", ", h->counts[i]);
    fputs("], \"sum\": ", out);
    value_write(out, h->sum, m->is_us);
    fputc('}', out);
}

static void metric_json(FILE *out, const struct metric *m, const struct metrics_shard *s)
{
    const uint64_t *values = metric_at(m, s);
    if (m->kind == METRIC_HISTOGRAM) {
        hist_json(out, m, metric_at(m, s));
    } else if (m->label == NULL) {
        fprintf(out, "%" PRIu64, *values);
    } else {
        for (unsigned i = 0; m->label_value(i) != NULL; i++)
            fprintf(out, "%s\"%s\": %" PRIu64, i == 0 ? "{" : ", ", m->label_value(i), values[i]);
        fputc('}', out);
    }
}

/* A list: [client, API, version, requests] of each that there was. */
static void clients_json(FILE *out, const struct client_stats *clients)
{
    const char *between = "";
    const struct client_row *client;
    fputs(",\n   \"" METRIC_CLIENTS "\": [", out);
    for (unsigned n = 0; (client = client_stats_row(clients, n)) != NULL; n++)
        for (unsigned a = 0; a < net_apis_count; a++)
            for (int v = net_apis[a].served_min; v <= net_apis[a].max_version; v++) {
                uint64_t value = counter_read(&client->requests[a][v]);
                if (value == 0)
                    continue;
                fprintf(out, "%s[\"%s\", \"%s\", %d, %" PRIu64 "]", between, client->name,
                        api_name(a), v, value);
                between = ", ";
            }
    fputc(']', out);
}

static void process_json(FILE *out, const struct metrics_process *p)
{
    fprintf(out, "{\"version\": \"%s\",\n \"clock_seconds\": ", p->version);
    value_write(out, p->clock_us, true);
    fputs(",\n \"cpu_seconds_total\": {\"user\": ", out);
    value_write(out, p->cpu_user_us, true);
    fputs(", \"system\": ", out);
    value_write(out, p->cpu_system_us, true);
    fprintf(out, "},\n \"resident_memory_bytes\": %" PRIu64 ",\n", p->resident_bytes);
}

void metrics_write_json(FILE *out, const struct metrics_process *process,
                        const struct metrics_shard *shards, unsigned shards_n)
{
    process_json(out, process);
    fputs(" \"shards\": [", out);
    for (unsigned i = 0; i < shards_n; i++) {
        fprintf(out, "%s\n  {\"shard\": %u", i == 0 ? "" : ",", i);
        for (const struct metric *m = metrics; m < metrics + metrics_count; m++) {
            fprintf(out, ",\n   \"%s\": ", m->name);
            metric_json(out, m, &shards[i]);
        }
        clients_json(out, shards[i].clients);
        fputc('}', out);
    }
    fputs("\n ]}\n", out);
}
