/* The table of metrics names every counter there is, once, as Prometheus wants it; and both forms
 * say what was counted. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/metrics.h"

#define SHARDS 3u
#define WORDS (sizeof(struct metrics_shard) / sizeof(uint64_t))

static struct metrics_shard shards[SHARDS];
static struct client_stats clients[SHARDS];
static const struct metrics_process process = {"1.2-x", 1500000, 250001, 4096, 77000003};

/* Every word a value of its own. */
static void fill(void)
{
    for (unsigned s = 0; s < SHARDS; s++) {
        for (unsigned w = 0; w < WORDS; w++)
            ((uint64_t *)&shards[s])[w] = 1000 * w + s;
        shards[s].clients = &clients[s];
    }
}

typedef void (*write_fn)(FILE *, const struct metrics_process *, const struct metrics_shard *,
                         unsigned);
static char *written(write_fn write)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    write(out, &process, shards, SHARDS);
    cr_assert_eq(fclose(out), 0);
    return text;
}

/* The value behind `series` at the beginning of a line; it must be there exactly once. */
static const char *value_in(const char *text, const char *series)
{
    const char *found = NULL;
    size_t len = strlen(series);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, series, len) != 0 || line[len] != ' ')
            continue;
        cr_assert_null(found, "twice: %s", series);
        found = line + len + 1;
    }
    cr_assert_not_null(found, "missing: %s", series);
    return found;
}

static uint64_t number_in(const char *text, const char *series)
{
    return strtoull(value_in(text, series), NULL, 10);
}

static unsigned elements_of(const struct metric *m)
{
    unsigned n = 0;
    while (m->label != NULL && m->label_value(n) != NULL)
        n++;
    return m->label == NULL ? 1 : n;
}

/* ---- the table ---- */

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

Test(metrics, names_are_those_of_prometheus)
{
    for (const struct metric *m = metrics; m < metrics + metrics_count; m++) {
        for (const char *c = m->name; *c != '\0'; c++)
            cr_assert(islower((unsigned char)*c) || *c == '_', "%s", m->name);
        cr_assert_eq(ends_in(m->name, "_total"), m->kind == METRIC_COUNTER, "%s", m->name);
        cr_assert_eq(ends_in(m->name, "_seconds"), m->is_us, "%s: base units", m->name);
        cr_assert(ends_in(m->help, "."), "%s: %s", m->name, m->help);
        cr_assert_null(strpbrk(m->help, "\\\"\n"), "%s: it would need escapes", m->name);
        cr_assert_eq(m->label == NULL, m->label_value == NULL, "%s", m->name);
        for (const struct metric *other = metrics; other < m; other++)
            cr_assert_str_neq(other->name, m->name);
    }
}

static void cover(unsigned covered[WORDS], size_t offset, size_t bytes)
{
    cr_assert_eq(offset % sizeof(uint64_t), 0);
    cr_assert_leq(offset + bytes, sizeof(struct metrics_shard));
    for (size_t at = offset; at < offset + bytes; at += sizeof(uint64_t))
        covered[at / sizeof(uint64_t)]++;
}

/* Who adds a counter adds its row. */
Test(metrics, table_has_every_counter_once)
{
    static unsigned covered[WORDS];
    for (const struct metric *m = metrics; m < metrics + metrics_count; m++)
        cover(covered, m->offset,
              m->kind == METRIC_HISTOGRAM ? sizeof(struct counter_hist)
                                          : elements_of(m) * sizeof(uint64_t));
    /* Room for more APIs; and the count of a histogram says how many journal writes there were. */
    size_t requests_end = offsetof(struct metrics_shard, net.requests[net_apis_count]);
    cover(covered, requests_end, (NET_APIS_MAX - net_apis_count) * sizeof(uint64_t));
    cover(covered, offsetof(struct metrics_shard, log.groups), sizeof(uint64_t));
    cover(covered, offsetof(struct metrics_shard, clients),
          sizeof(uint64_t)); /* beside the table */
    for (size_t i = 0; i < WORDS; i++)
        cr_assert_eq(covered[i], 1, "the counter at byte %zu is in %u rows", i * sizeof(uint64_t),
                     covered[i]);
}

/* ---- counters ---- */

Test(metrics, histogram_buckets_end_at_powers_of_two)
{
    static const struct {
        uint64_t value;
        unsigned bucket;
    } cases[] = {{0, 0},
                 {1, 0},
                 {2, 1},
                 {3, 2},
                 {4, 2},
                 {5, 3},
                 {1023, 10},
                 {1024, 10},
                 {1025, 11},
                 {UINT64_C(1) << 30, 30},
                 {(UINT64_C(1) << 30) + 1, 31},
                 {UINT64_MAX, 31}};
    struct counter_hist h = {0};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t before = h.counts[cases[i].bucket];
        counter_hist_add(&h, cases[i].value);
        cr_assert_eq(h.counts[cases[i].bucket], before + 1, "%llu",
                     (unsigned long long)cases[i].value);
    }
    cr_assert_eq(h.counts[2], 2);
}

/* ---- text ---- */

static void check_text_hist(const char *text, const struct metric *m, unsigned shard)
{
    const struct counter_hist *h = metric_at(m, &shards[shard]);
    char series[256], sum[64];
    uint64_t count = 0;
    for (unsigned i = 0; i < COUNTER_HIST_BUCKETS; i++) {
        char le[32] = "+Inf";
        uint64_t bound = UINT64_C(1) << i;
        if (i + 1 < COUNTER_HIST_BUCKETS)
            snprintf(le, sizeof(le), m->is_us ? "%llu.%06llu" : "%llu",
                     (unsigned long long)(m->is_us ? bound / 1000000 : bound),
                     (unsigned long long)(bound % 1000000));
        count += h->counts[i];
        snprintf(series, sizeof(series), "penstock_%s_bucket{shard=\"%u\",le=\"%s\"}", m->name,
                 shard, le);
        cr_assert_eq(number_in(text, series), count, "%s", series);
    }
    snprintf(series, sizeof(series), "penstock_%s_count{shard=\"%u\"}", m->name, shard);
    cr_assert_eq(number_in(text, series), count);
    snprintf(series, sizeof(series), "penstock_%s_sum{shard=\"%u\"}", m->name, shard);
    snprintf(sum, sizeof(sum), "%.6f\n", (double)h->sum / (m->is_us ? 1e6 : 1));
    cr_assert_float_eq(strtod(value_in(text, series), NULL), strtod(sum, NULL), 1e-9);
}

static void check_text_values(const char *text, const struct metric *m, unsigned shard)
{
    const uint64_t *values = metric_at(m, &shards[shard]);
    char series[256];
    for (unsigned i = 0; i < elements_of(m); i++) {
        if (m->label == NULL)
            snprintf(series, sizeof(series), "penstock_%s{shard=\"%u\"}", m->name, shard);
        else
            snprintf(series, sizeof(series), "penstock_%s{shard=\"%u\",%s=\"%s\"}", m->name, shard,
                     m->label, m->label_value(i));
        cr_assert_eq(number_in(text, series), values[i], "%s", series);
    }
}

Test(metrics, text_says_every_value)
{
    fill();
    char *text = written(metrics_write_text);
    for (const struct metric *m = metrics; m < metrics + metrics_count; m++)
        for (unsigned s = 0; s < SHARDS; s++)
            if (m->kind == METRIC_HISTOGRAM)
                check_text_hist(text, m, s);
            else
                check_text_values(text, m, s);
    free(text);
}

Test(metrics, text_form)
{
    fill();
    char *text = written(metrics_write_text);
    static const char *const parts[] = {
        "# HELP penstock_build_info 1; the version is the label.\n"
        "# TYPE penstock_build_info gauge\npenstock_build_info{version=\"1.2-x\"} 1\n",
        "# TYPE penstock_cpu_seconds_total counter\n"
        "penstock_cpu_seconds_total{mode=\"user\"} 1.500000\n"
        "penstock_cpu_seconds_total{mode=\"system\"} 0.250001\n",
        "\nprocess_cpu_seconds_total 1.750001\n",
        "\nprocess_resident_memory_bytes 4096\n",
        "# HELP penstock_turns_total Turns of the shard's loop.\n"
        "# TYPE penstock_turns_total counter\npenstock_turns_total{shard=\"0\"} 0\n"
        "penstock_turns_total{shard=\"1\"} 1\npenstock_turns_total{shard=\"2\"} 2\n# HELP ",
        "# TYPE penstock_journal_write_seconds histogram\n"
        "penstock_journal_write_seconds_bucket{shard=\"0\",le=\"0.000001\"} ",
        "penstock_requests_total{shard=\"0\",api=\"Produce\"} ",
        "penstock_egress_bytes_total{shard=\"2\",path=\"splice\"} ",
        "# TYPE penstock_connections gauge\n",
    };
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
        cr_assert_not_null(strstr(text, parts[i]), "missing:\n%s", parts[i]);
    cr_assert_eq(text[strlen(text) - 1], '\n', "the last line must end");
    free(text);
}

/* ---- JSON ---- */

static void check_json_hist(struct json_object *got, const struct counter_hist *h, bool is_us)
{
    double unit = is_us ? 1e6 : 1;
    struct json_object *counts = json_object_object_get(got, "counts"),
                       *bounds = json_object_object_get(got, "le");
    cr_assert_eq(json_object_array_length(counts), COUNTER_HIST_BUCKETS);
    cr_assert_eq(json_object_array_length(bounds), COUNTER_HIST_BUCKETS);
    for (unsigned i = 0; i < COUNTER_HIST_BUCKETS; i++) {
        struct json_object *bound = json_object_array_get_idx(bounds, i);
        double expected = i + 1 < COUNTER_HIST_BUCKETS ? ldexp(1, (int)i) / unit : 0; /* null */
        cr_assert_eq(json_object_get_uint64(json_object_array_get_idx(counts, i)), h->counts[i]);
        cr_assert_float_eq(json_object_get_double(bound), expected, 1e-9);
    }
    double sum = json_object_get_double(json_object_object_get(got, "sum"));
    cr_assert_float_eq(sum, (double)h->sum / unit, 1e-6);
}

static void check_json(struct json_object *got, const struct metric *m, const void *at)
{
    const uint64_t *values = at;
    cr_assert_not_null(got, "%s", m->name);
    if (m->kind == METRIC_HISTOGRAM)
        check_json_hist(got, at, m->is_us);
    else if (m->label == NULL)
        cr_assert_eq(json_object_get_uint64(got), values[0], "%s", m->name);
    else
        for (unsigned i = 0; i < elements_of(m); i++)
            cr_assert_eq(json_object_get_uint64(json_object_object_get(got, m->label_value(i))),
                         values[i], "%s", m->name);
}

Test(metrics, json_says_every_value)
{
    fill();
    char *text = written(metrics_write_json);
    struct json_object *root = json_tokener_parse(text);
    cr_assert_not_null(root, "%s", text);
    struct json_object *all = json_object_object_get(root, "shards");
    cr_assert_eq(json_object_array_length(all), SHARDS);
    for (unsigned s = 0; s < SHARDS; s++) {
        struct json_object *one = json_object_array_get_idx(all, s);
        cr_assert_eq(json_object_get_int(json_object_object_get(one, "shard")), (int)s);
        for (const struct metric *m = metrics; m < metrics + metrics_count; m++)
            check_json(json_object_object_get(one, m->name), m, metric_at(m, &shards[s]));
    }
    cr_assert_str_eq(json_object_get_string(json_object_object_get(root, "version")), "1.2-x");
    cr_assert_float_eq(json_object_get_double(json_object_object_get(root, "clock_seconds")),
                       77.000003, 1e-9);
    json_object_put(root);
    free(text);
}
