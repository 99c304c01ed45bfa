/* Two brokers in turn, A B A B, under the same workloads: ratios pair by pair, so that a drift of
 * the machine cancels, and their spread. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command_private.h"
#include "bench/json_doc.h"
#include "core/base/bytes.h"

enum { SIDES = 2, PAIRS_MAX = 100 };

struct side {
    char name[64], bootstrap[256];
    pid_t pid; /* 0: not told */
};

/* What is compared: where it stands in a run's JSON. */
static const struct metric {
    const char *name, *unit;
    bool higher_better;
    const char *path[5]; /* the last one is the member; "*" for the measured window */
} metrics[] = {
    {"acknowledged records", "records/s", true, {"windows", "measure", "ack_rate"}},
    {"ack p50", "ns", false, {"windows", "measure", "histograms", "ack", "percentiles/50"}},
    {"ack p99", "ns", false, {"windows", "measure", "histograms", "ack", "percentiles/99"}},
    {"ack p99.9", "ns", false, {"windows", "measure", "histograms", "ack", "percentiles/99.9"}},
    {"e2e p50", "ns", false, {"windows", "measure", "histograms", "e2e", "percentiles/50"}},
    {"e2e p99", "ns", false, {"windows", "measure", "histograms", "e2e", "percentiles/99"}},
    {"e2e p99.9", "ns", false, {"windows", "measure", "histograms", "e2e", "percentiles/99.9"}},
    {"broker CPU by GiB", "s/GiB", false, {"bill", "cpu_s_per_gib"}},
    {"broker CPU by record", "s/million records", false, {"bill", "cpu_s_per_million_records"}},
    {"broker resident memory", "bytes", false, {"bill", "rss_bytes_max"}},
    {"bytes written per payload byte", "", false, {"bill", "written_bytes_per_payload_byte"}},
};

static bool metric_read(struct json_object *run, const struct metric *m, double *ret)
{
    struct json_object *at = run;
    for (unsigned i = 0; i < ARRAY_LEN(m->path) && m->path[i] != NULL; i++) {
        const char *key = m->path[i], *slash = strchr(key, '/');
        if (slash != NULL) {
            if (!json_object_object_get_ex(at, "percentiles", &at))
                return false;
            key = slash + 1;
        }
        if (!json_object_object_get_ex(at, key, &at))
            return false;
    }
    *ret = json_object_get_double(at);
    return true;
}

static int side_parse(struct bench *b, const char *text, struct side *ret)
{
    const char *equals = strchr(text, '='), *at = strrchr(text, '@');
    const char *address = equals != NULL ? equals + 1 : text;
    size_t name_len = equals != NULL ? (size_t)(equals - text) : 0;
    size_t address_len = at != NULL ? (size_t)(at - address) : strlen(address);
    long pid = at != NULL ? strtol(at + 1, NULL, 10) : 0;
    if (name_len == 0 || name_len >= sizeof(ret->name) || address_len == 0 ||
        address_len >= sizeof(ret->bootstrap) || pid < 0 || (at != NULL && pid == 0)) {
        snprintf(b->reason, sizeof(b->reason), "'%s' is not NAME=HOST:PORT[@PID]", text);
        return -EINVAL;
    }
    memcpy(ret->name, text, name_len);
    memcpy(ret->bootstrap, address, address_len);
    ret->pid = (pid_t)pid;
    return 0;
}

static int ratio_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *sorted, unsigned n)
{
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* One metric over all pairs; NULL: some run lacks it. */
static struct json_object *metric_json(struct json_doc *doc, const struct metric *m,
                                       struct json_object *runs[][SIDES], unsigned pairs)
{
    double values[PAIRS_MAX][SIDES], ratios[PAIRS_MAX];
    for (unsigned p = 0; p < pairs; p++) {
        for (unsigned s = 0; s < SIDES; s++)
            if (!metric_read(runs[p][s], m, &values[p][s]))
                return NULL;
        if (values[p][0] <= 0)
            return NULL;
        ratios[p] = values[p][1] / values[p][0];
    }
    struct json_object *o = json_doc_object(doc);
    struct json_object *sides[SIDES] = {json_doc_array(doc), json_doc_array(doc)};
    struct json_object *list = json_doc_array(doc);
    for (unsigned p = 0; p < pairs; p++) {
        for (unsigned s = 0; s < SIDES; s++)
            json_doc_push(doc, sides[s], json_object_new_double(values[p][s]));
        json_doc_push(doc, list, json_object_new_double(ratios[p]));
    }
    qsort(ratios, pairs, sizeof(ratios[0]), ratio_compare);
    json_doc_put_text(doc, o, "name", m->name);
    json_doc_put_text(doc, o, "unit", m->unit);
    json_doc_put_text(doc, o, "better", m->higher_better ? "higher" : "lower");
    json_doc_put(doc, o, "a", sides[0]);
    json_doc_put(doc, o, "b", sides[1]);
    json_doc_put(doc, o, "ratios", list);
    json_doc_put_double(doc, o, "median_ratio", median(ratios, pairs));
    json_doc_put_double(doc, o, "min_ratio", ratios[0]);
    json_doc_put_double(doc, o, "max_ratio", ratios[pairs - 1]);
    printf("  %-32s %-18s %s/%s median %.3f (%.3f .. %.3f)\n", m->name, m->unit, "b", "a",
           median(ratios, pairs), ratios[0], ratios[pairs - 1]);
    return o;
}

static struct json_object *comparison_json(const struct side sides[SIDES], const char *workload,
                                           struct json_object *runs[][SIDES], unsigned pairs)
{
    struct json_doc doc = {0};
    struct json_object *o = json_doc_object(&doc), *list = json_doc_array(&doc);
    json_doc_put_text(&doc, o, "workload", workload);
    json_doc_put_text(&doc, o, "a", sides[0].name);
    json_doc_put_text(&doc, o, "b", sides[1].name);
    json_doc_put_uint(&doc, o, "pairs", pairs);
    printf("%s: a = %s, b = %s, %u pairs\n", workload, sides[0].name, sides[1].name, pairs);
    for (unsigned i = 0; i < ARRAY_LEN(metrics); i++) {
        struct json_object *m = metric_json(&doc, &metrics[i], runs, pairs);
        if (m != NULL)
            json_doc_push(&doc, list, m);
    }
    json_doc_put(&doc, o, "metrics", list);
    return json_doc_finish(&doc, o);
}

static int workload_compare(struct bench *b, unsigned file, enum run_kind kind,
                            const struct side sides[SIDES], struct json_object *comparisons)
{
    struct json_object *runs[PAIRS_MAX][SIDES];
    struct run_config config;
    struct run_result result;
    int rc = 0;
    for (unsigned p = 0; p < b->options.pairs; p++)
        for (unsigned s = 0; s < SIDES; s++) {
            rc = bench_config(b, file, kind, &config);
            config.label = sides[s].name;
            config.bootstrap = sides[s].bootstrap;
            config.broker_pid = sides[s].pid;
            if (rc == 0)
                rc = bench_run(b, &config, &result);
            if (rc < 0)
                return rc;
            runs[p][s] = result.json; /* the document holds it as well */
            run_result_fini(&result);
            bench_settle(b);
        }
    json_object_array_add(comparisons,
                          comparison_json(sides, config.workload.name, runs, b->options.pairs));
    return 0;
}

int compare_command(struct bench *b)
{
    struct side sides[SIDES] = {0};
    enum run_kind kind;
    int rc = bench_kind(b, &kind);
    if (rc == 0 && (b->options.operands_n != SIDES || b->options.pairs > PAIRS_MAX)) {
        snprintf(b->reason, sizeof(b->reason),
                 "two brokers, NAME=HOST:PORT[@PID] each, and at "
                 "most %d pairs",
                 PAIRS_MAX);
        return -EINVAL;
    }
    for (unsigned s = 0; rc == 0 && s < SIDES; s++)
        rc = side_parse(b, b->options.operands[s], &sides[s]);
    if (rc < 0)
        return rc;
    struct json_object *comparisons = json_object_new_array();
    for (unsigned f = 0; rc == 0 && f < MAX(1u, b->options.workloads_n); f++)
        rc = workload_compare(b, f, kind, sides, comparisons);
    document_put(&b->document, "comparison", comparisons);
    return rc;
}
