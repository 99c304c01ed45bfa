/* The JSON of a run. What was not measured is absent. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "bench/json_doc.h"
#include "bench/limits.h"
#include "bench/run_private.h"
#include "bench/stat/hist_log.h"
#include "core/base/bytes.h"

#define MIB (1024.0 * 1024.0)

/* ---- histograms ---- */

static const struct {
    const char *name;
    double percentile;
} percentiles[] = {{"50", 50}, {"75", 75},     {"90", 90},       {"95", 95},
                   {"99", 99}, {"99.9", 99.9}, {"99.99", 99.99}, {"99.999", 99.999}};

enum { TICKS_PER_HALF = 5 };

/* As HdrHistogram's percentile iterator: so many points each time the distance to 100 % halves. */
static struct json_object *curve_json(struct json_doc *doc, const struct hist *h)
{
    struct json_object *curve = json_doc_array(doc);
    double percentile = 0, half = 50;
    for (uint64_t value = 0; value < hist_max(h) && 100 - percentile > 1e-6;) {
        value = hist_value_at_percentile(h, percentile);
        struct json_object *point = json_doc_array(doc);
        json_doc_push(doc, point, json_object_new_double(percentile));
        json_doc_push(doc, point, json_object_new_uint64(value));
        json_doc_push(doc, curve, point);
        percentile += half / TICKS_PER_HALF;
        if (percentile >= 100 - half - 1e-12)
            half /= 2;
    }
    struct json_object *last = json_doc_array(doc);
    json_doc_push(doc, last, json_object_new_double(100));
    json_doc_push(doc, last, json_object_new_uint64(hist_max(h)));
    json_doc_push(doc, curve, last);
    return curve;
}

static struct json_object *hist_json(struct json_doc *doc, const struct hist *h)
{
    struct json_object *o = json_doc_object(doc), *p = json_doc_object(doc);
    char *text;
    json_doc_put_text(doc, o, "unit", "ns");
    json_doc_put_uint(doc, o, "count", hist_count(h));
    json_doc_put_uint(doc, o, "min", hist_min(h));
    json_doc_put_double(doc, o, "mean", hist_mean(h));
    json_doc_put_double(doc, o, "stddev", hist_stddev(h));
    json_doc_put_uint(doc, o, "max", hist_max(h));
    for (unsigned i = 0; i < ARRAY_LEN(percentiles); i++)
        json_doc_put_uint(doc, p, percentiles[i].name,
                          hist_value_at_percentile(h, percentiles[i].percentile));
    json_doc_put(doc, o, "percentiles", p);
    json_doc_put(doc, o, "curve", curve_json(doc, h));
    if (hist_log_encode(h, &text) == 0) {
        json_doc_put_text(doc, o, "v2", text);
        free(text);
    }
    return o;
}

/* ---- parts of a run ---- */

static struct json_object *workload_json(struct json_doc *doc, const struct workload *w)
{
    struct json_object *o = json_doc_object(doc);
    const char *key, *value;
    bool number;
    for (unsigned i = 0; workload_get(w, i, &key, &value, &number); i++)
        if (number && strpbrk(value, ".e") != NULL)
            json_doc_put_double(doc, o, key, strtod(value, NULL));
        else if (number)
            json_doc_put_uint(doc, o, key, strtoull(value, NULL, 10));
        else
            json_doc_put_text(doc, o, key, value);
    return o;
}

static void phase_put(struct json_doc *doc, struct json_object *list, const char *name,
                      double start_s, double seconds)
{
    struct json_object *o = json_doc_object(doc);
    json_doc_put_text(doc, o, "name", name);
    json_doc_put_double(doc, o, "start_s", start_s);
    json_doc_put_double(doc, o, "seconds", seconds);
    json_doc_push(doc, list, o);
}

static struct json_object *phases_json(struct json_doc *doc, const struct run *run)
{
    struct json_object *list = json_doc_array(doc);
    phase_put(doc, list, "connect", -run->connect_s, run->connect_s);
    for (unsigned i = 0; i < run->phases_n; i++)
        phase_put(doc, list, run->phases[i].name, run->phases[i].start_s, run->phases[i].seconds);
    return list;
}

static struct json_object *steady_json(struct json_doc *doc, const struct run *run)
{
    struct json_object *o = json_doc_object(doc);
    struct steady_figures f;
    json_doc_put_text(doc, o, "method", steady_method_text);
    json_doc_put_bool(doc, o, "reached", run->steady_reached);
    if (run->steady_reached)
        json_doc_put_double(doc, o, "at_s", run->steady_at_s);
    if (steady_throughput(&run->steady, &f)) {
        json_doc_put_double(doc, o, "throughput_range", f.range);
        json_doc_put_double(doc, o, "throughput_slope", f.slope);
    }
    if (steady_latency(&run->steady, &f)) {
        json_doc_put_double(doc, o, "latency_range", f.range);
        json_doc_put_double(doc, o, "latency_slope", f.slope);
    }
    return o;
}

static void counts_put(struct json_doc *doc, struct json_object *o, const struct load_counts *n)
{
#define LOAD_COUNT_PUT(name)                                                                       \
    if (n->name > 0)                                                                               \
        json_doc_put_uint(doc, o, #name, n->name);
    LOAD_COUNTS(LOAD_COUNT_PUT)
#undef LOAD_COUNT_PUT
}

static void rate_put(struct json_doc *doc, struct json_object *o, const char *prefix,
                     uint64_t records, uint64_t bytes, double seconds)
{
    char key[64];
    if (records == 0 || seconds <= 0)
        return;
    snprintf(key, sizeof(key), "%s_rate", prefix);
    json_doc_put_double(doc, o, key, (double)records / seconds);
    snprintf(key, sizeof(key), "%s_mib_s", prefix);
    json_doc_put_double(doc, o, key, (double)bytes / MIB / seconds);
}

static struct json_object *window_json(struct json_doc *doc, const struct load_stats *s)
{
    double seconds = (double)(s->to_ns - s->from_ns) / 1e9;
    struct json_object *o = json_doc_object(doc), *hists = json_doc_object(doc);
    json_doc_put_double(doc, o, "seconds", seconds);
    counts_put(doc, o, &s->n);
    rate_put(doc, o, "ack", s->n.acked, s->n.acked_bytes, seconds);
    rate_put(doc, o, "consume", s->n.consumed, s->n.consumed_bytes, seconds);
    rate_put(doc, o, "late_consume", s->n.late_consumed, s->n.late_consumed_bytes, seconds);
    for (unsigned i = 0; i < LATENCIES; i++)
        if (i != LATENCY_LATE && hist_count(&s->latency[i]) > 0)
            json_doc_put(doc, hists, load_latency_names[i], hist_json(doc, &s->latency[i]));
    json_doc_put(doc, o, "histograms", hists);
    return o;
}

static struct json_object *windows_json(struct json_doc *doc, const struct run *run)
{
    struct json_object *o = json_doc_object(doc);
    for (unsigned i = 0; i < run->phases_n; i++) {
        const struct run_phase *p = &run->phases[i];
        if (p->window >= 0 && (unsigned)p->window < run->outcome.windows_n)
            json_doc_put(doc, o, p->name, window_json(doc, &run->outcome.windows[p->window]));
    }
    return o;
}

static struct json_object *second_json(struct json_doc *doc, const struct run_second *s)
{
    struct json_object *o = json_doc_object(doc);
    json_doc_put_double(doc, o, "t", s->end_s);
    json_doc_put_double(doc, o, "seconds", s->seconds);
    json_doc_put_text(doc, o, "phase", s->phase);
    counts_put(doc, o, &s->n);
    for (unsigned i = 0; i < LATENCIES; i++) {
        if (s->latency[i].count == 0)
            continue;
        struct json_object *l = json_doc_object(doc);
        json_doc_put_uint(doc, l, "count", s->latency[i].count);
        json_doc_put_uint(doc, l, "p50", s->latency[i].p50);
        json_doc_put_uint(doc, l, "p99", s->latency[i].p99);
        json_doc_put_uint(doc, l, "p99.9", s->latency[i].p999);
        json_doc_put_uint(doc, l, "max", s->latency[i].max);
        json_doc_put(doc, o, load_latency_names[i], l);
    }
    json_doc_put_double(doc, o, "client_cpu", (double)s->n.cpu_ns / 1e9 / s->seconds);
    if (s->broker_cpu_ns != BILL_UNKNOWN)
        json_doc_put_double(doc, o, "broker_cpu", (double)s->broker_cpu_ns / 1e9 / s->seconds);
    if (s->broker_rss_bytes != BILL_UNKNOWN)
        json_doc_put_uint(doc, o, "broker_rss_bytes", s->broker_rss_bytes);
    return o;
}

static void incidents_put(struct json_doc *doc, struct json_object *list, const struct run *run,
                          const struct verify_log *log)
{
    for (unsigned i = 0; i < log->incidents_n; i++) {
        const struct incident *n = &log->incidents[i];
        struct json_object *o = json_doc_object(doc);
        json_doc_put_text(doc, o, "kind", incident_names[n->kind]);
        json_doc_put_text(doc, o, "topic", run->w->topic);
        json_doc_put(doc, o, "partition", json_object_new_int(n->partition));
        if (n->offset >= 0)
            json_doc_put_uint(doc, o, "offset", (uint64_t)n->offset);
        if (n->known) {
            json_doc_put_uint(doc, o, "producer", n->producer);
            json_doc_put_uint(doc, o, "sequence", n->sequence);
        }
        json_doc_put_uint(doc, o, "count", n->count);
        json_doc_push(doc, list, o);
    }
}

static struct json_object *verification_json(struct json_doc *doc, const struct run *run)
{
    static const char *const modes[] = {"full", "sequence", "off"};
    static const char *const keys[INCIDENT_KINDS] = {"lost", "duplicated", "reordered", "corrupt"};
    struct json_object *o = json_doc_object(doc);
    const struct crew_outcome *out = &run->outcome;
    const struct load_counts all = out->total;
    if (run->config->kind == RUN_PRODUCE) {
        json_doc_put_text(doc, o, "mode", "log end offsets");
        json_doc_put_uint(doc, o, "records_acked", all.acked);
        return o;
    }
    json_doc_put_text(doc, o, "mode", modes[run->w->verify]);
    if (all.acked > 0)
        json_doc_put_uint(doc, o, "records_acked", all.acked);
    json_doc_put_uint(doc, o, "records_seen", all.consumed);
    if (all.late_consumed > 0)
        json_doc_put_uint(doc, o, "records_seen_late", all.late_consumed);
    for (unsigned i = 0; i < INCIDENT_KINDS; i++)
        json_doc_put_uint(doc, o, keys[i], out->verify.totals[i] + out->late_verify.totals[i]);
    struct json_object *list = json_doc_array(doc);
    incidents_put(doc, list, run, &out->verify);
    incidents_put(doc, list, run, &out->late_verify);
    json_doc_put(doc, o, "incidents", list);
    return o;
}

static struct json_object *generator_json(struct json_doc *doc, const struct run *run,
                                          const struct run_result *r)
{
    struct json_object *o = json_doc_object(doc);
    uint64_t records = r->measured.n.acked + r->measured.n.consumed + r->measured.n.late_consumed;
    double cpu_s = (double)r->measured.n.cpu_ns / 1e9;
    if (run->limit != NULL) {
        json_doc_put_text(doc, o, "limit", run->limit);
        json_doc_put_text(doc, o, "text", run->limit_text);
    }
    if (hist_count(&r->measured.latency[LATENCY_LATE]) > 0)
        json_doc_put(doc, o, "lateness", hist_json(doc, &r->measured.latency[LATENCY_LATE]));
    json_doc_put_double(doc, o, "cpu_seconds", cpu_s);
    json_doc_put_double(doc, o, "cpu_share",
                        cpu_s / r->seconds / (double)crew_parts(&run->crew.config));
    if (records > 0)
        json_doc_put_double(doc, o, "cpu_us_per_record", cpu_s * 1e6 / (double)records);
    return o;
}

static struct json_object *broker_json(struct json_doc *doc, const struct run *run)
{
    struct json_object *o = json_doc_object(doc);
    if (run->cluster.cluster_id[0] != '\0')
        json_doc_put_text(doc, o, "cluster_id", run->cluster.cluster_id);
    json_doc_put_uint(doc, o, "nodes", run->cluster.nodes_n);
    return o;
}

static void verdicts_put(struct json_doc *doc, struct json_object *o, const struct run *run,
                         bool valid)
{
    struct json_object *invalid = json_doc_array(doc), *notes = json_doc_array(doc);
    for (unsigned i = 0; i < run->verdicts_n; i++) {
        struct json_object *v = json_doc_object(doc);
        json_doc_put_text(doc, v, "code", run->verdicts[i].code);
        json_doc_put_text(doc, v, "text", run->verdicts[i].text);
        json_doc_push(doc, invalid, v);
    }
    for (unsigned i = 0; i < run->notes_n; i++)
        json_doc_push(doc, notes, json_object_new_string(run->notes[i].text));
    json_doc_put_bool(doc, o, "valid", valid);
    json_doc_put(doc, o, "invalid", invalid);
    json_doc_put(doc, o, "notes", notes);
}

/* Limits as part of the run: with what share of them it reached. */
static struct json_object *limits_with_shares(struct json_doc *doc, const struct run *run,
                                              const struct run_result *r)
{
    struct json_object *o = limits_json(run->config->limits);
    const struct load_counts *n = &r->measured.n;
    struct limits_run reached = {
        .acked_mib_s = (double)n->acked_bytes / MIB / r->seconds,
        .consumed_mib_s = (double)(n->consumed_bytes + n->late_consumed_bytes) / MIB / r->seconds,
        .durable = run->w->acks == -1,
    };
    if (o != NULL)
        json_doc_put(doc, o, "shares", limits_share_json(run->config->limits, &reached));
    return o;
}

struct json_object *run_json(struct run *run, const struct run_result *r)
{
    struct json_doc doc = {0};
    struct json_object *o = json_doc_object(&doc), *series = json_doc_array(&doc);
    const struct run_config *c = run->config;
    json_doc_put_text(&doc, o, "label", c->label != NULL ? c->label : c->bootstrap);
    json_doc_put_text(&doc, o, "kind", run_kind_name(c->kind));
    json_doc_put_text(&doc, o, "bootstrap", c->bootstrap);
    json_doc_put(&doc, o, "broker", broker_json(&doc, run));
    json_doc_put_text(&doc, o, "driver",
                      run->w->driver == DRIVER_LIBRDKAFKA ? "librdkafka" : "penstock");
    json_doc_put(&doc, o, "workload", workload_json(&doc, run->w));
    if (run->outcome.agents != NULL)
        json_doc_put(&doc, o, "agents", json_object_get(run->outcome.agents));
    json_doc_put(&doc, o, "phases", phases_json(&doc, run));
    if (c->kind != RUN_CONSUME)
        json_doc_put(&doc, o, "steady", steady_json(&doc, run));
    json_doc_put(&doc, o, "windows", windows_json(&doc, run));
    for (size_t i = 0; i < run->seconds_n; i++)
        json_doc_push(&doc, series, second_json(&doc, &run->seconds[i]));
    json_doc_put(&doc, o, "series", series);
    json_doc_put(&doc, o, "verification", verification_json(&doc, run));
    json_doc_put(&doc, o, "generator", generator_json(&doc, run, r));
    if (run->billed && run->bill_first.at_ns > 0 && run->bill_end.at_ns > 0)
        json_doc_put(&doc, o, "bill",
                     bill_json(&run->bill_first, &run->bill_end,
                               MAX(r->measured.n.acked, r->measured.n.consumed),
                               MAX(r->measured.n.acked_bytes, r->measured.n.consumed_bytes)));
    if (c->limits != NULL)
        json_doc_put(&doc, o, "limits", limits_with_shares(&doc, run, r));
    verdicts_put(&doc, o, run, r->valid);
    return json_doc_finish(&doc, o);
}
