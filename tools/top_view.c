#include "tools/top_view.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/bytes.h"

#define ALL_SHARDS SIZE_MAX
#define TITLE_COLUMNS 26
#define VALUE_COLUMNS 11
#define KIB 1024.0
#define MIB 1048576.0

/* ---- the table ---- */

enum figure_kind {
    RATE,  /* growth of `metric` a second */
    RATIO, /* growth of `metric` by growth of `other` */
    SHARE, /* growth of `metric` by that of both, in percent */
    NOW,   /* `metric` itself */
    MEAN,  /* of the values of a histogram */
    QUANTILE,
};
static const struct figure {
    const char *key, *title;
    enum figure_kind kind;
    const char *metric, *label; /* label: which of its values; NULL: it has none, or all of them */
    const char *other;
    double quantile, unit; /* unit: how many of the metric's make one shown */
    int decimals;
} figures[] = {
    {"turns_per_second", "turns/s", RATE, "turns_total", .unit = 1},
    {"system_calls_per_second", "system calls/s", RATE, "system_calls_total", .unit = 1},
    {"completions_per_turn", "completions/turn", RATIO, "completions_total", .other = "turns_total",
     .unit = 1, .decimals = 2},
    {"requests_per_second", "requests/s", RATE, "requests_total", .unit = 1},
    {"records_per_second", "records in/s", RATE, "append_records_total", .unit = 1},
    {"in_mib_per_second", "MiB/s in", RATE, "received_bytes_total", .unit = MIB, .decimals = 1},
    {"out_send_mib_per_second", "MiB/s out, send", RATE, "egress_bytes_total", "send", .unit = MIB,
     .decimals = 1},
    {"out_send_zc_mib_per_second", "MiB/s out, send_zc", RATE, "egress_bytes_total", "send_zc",
     .unit = MIB, .decimals = 1},
    {"out_splice_mib_per_second", "MiB/s out, splice", RATE, "egress_bytes_total", "splice",
     .unit = MIB, .decimals = 1},
    {"zero_copy_not_copied_percent", "% of send_zc not copied", SHARE, "zero_copy_not_copied_total",
     .other = "zero_copy_copied_total", .unit = 1, .decimals = 1},
    {"journal_writes_per_second", "journal writes/s", RATE, "journal_write_bytes", .unit = 1},
    {"journal_write_batches_mean", "  batches a write", MEAN, "journal_write_batches", .unit = 1,
     .decimals = 1},
    {"journal_write_kib_mean", "  KiB a write", MEAN, "journal_write_bytes", .unit = KIB,
     .decimals = 1},
    {"journal_write_p50_ms", "  durable after, p50 ms", QUANTILE, "journal_write_seconds",
     .quantile = 0.5, .unit = 1e-3, .decimals = 3},
    {"journal_write_p99_ms", "  durable after, p99 ms", QUANTILE, "journal_write_seconds",
     .quantile = 0.99, .unit = 1e-3, .decimals = 3},
    {"direct_writes_per_second", "direct writes/s", RATE, "direct_writes_total", .unit = 1,
     .decimals = 1},
    {"segment_flush_p50_ms", "segment flush, p50 ms", QUANTILE, "segment_flush_seconds",
     .quantile = 0.5, .unit = 1e-3, .decimals = 3},
    {"segment_flush_p99_ms", "segment flush, p99 ms", QUANTILE, "segment_flush_seconds",
     .quantile = 0.99, .unit = 1e-3, .decimals = 3},
    {"disk_write_mib_per_second", "MiB/s to disk", RATE, "device_write_bytes_total", .unit = MIB,
     .decimals = 1},
    {"disk_reads_per_second", "reads from disk/s", RATE, "reads_disk_total", .unit = 1},
    {"disk_read_mib_per_second", "MiB/s from disk", RATE, "device_read_bytes_total", .unit = MIB,
     .decimals = 1},
    {"memory_free_mib", "MiB of memory free", NOW, "memory_free_bytes", .unit = MIB},
    {"memory_waits_per_second", "requests without memory/s", RATE, "memory_request_waits_total",
     .unit = 1},
    {"connections", "connections", NOW, "connections", .unit = 1},
    {"partitions", "partitions", NOW, "partitions", .unit = 1},
    {"partitions_failed", "partitions failed", NOW, "partitions_failed", .unit = 1},
    {"partitions_offline", "partitions offline", NOW, "partitions_offline", .unit = 1},
    {"directories_offline", "data directories offline", NOW, "log_directories_offline", .unit = 1},
    {"lost_offsets", "offsets lost", NOW, "lost_offsets_total", .unit = 1},
    {"scrub_damages", "damages seen by the scrub", NOW, "scrub_damages_total", .unit = 1},
};

/* ---- samples ---- */

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *found = NULL;
    return json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, &found)
               ? found
               : NULL;
}

int top_sample_parse(const char *text, struct top_sample *ret, char *reason, size_t reason_size)
{
    struct json_object *root = json_tokener_parse(text), *shards = member(root, "shards");
    if (!json_object_is_type(shards, json_type_array) || json_object_array_length(shards) == 0) {
        json_object_put(root);
        snprintf(reason, reason_size, "its /metrics.json is not that of penstock");
        return -EPROTO;
    }
    *ret = (struct top_sample){root, shards, json_object_array_length(shards)};
    return 0;
}

void top_sample_free(struct top_sample *s)
{
    json_object_put(s->root);
    *s = (struct top_sample){0};
}

/* A number; of an object with values by label that of one label, or all of them; of a histogram how
 * many values it has. */
static double number_of(struct json_object *v, const char *label)
{
    double sum = 0;
    struct json_object *counts = member(v, "counts");
    if (label != NULL)
        return json_object_get_double(member(v, label));
    if (json_object_is_type(counts, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(counts); i++)
            sum += json_object_get_double(json_object_array_get_idx(counts, i));
    } else if (json_object_is_type(v, json_type_object)) {
        json_object_object_foreach(v, key, each)
        {
            (void)key;
            sum += json_object_get_double(each);
        }
    } else {
        sum = json_object_get_double(v);
    }
    return sum;
}

static struct json_object *metric_of(const struct top_sample *s, size_t shard, const char *metric)
{
    return shard < s->shards_n ? member(json_object_array_get_idx(s->shards, shard), metric) : NULL;
}

static double growth(double before, double now)
{
    return now >= before ? now - before : now;
}

/* [*from, *end) are the shards that are meant. */
static void shards_meant(const struct top_view *v, size_t shard, size_t *from, size_t *end)
{
    *from = shard == ALL_SHARDS ? 0 : shard;
    *end = shard == ALL_SHARDS ? v->now->shards_n : shard + 1;
}

static double metric_now(const struct top_view *v, size_t shard, const char *metric,
                         const char *label)
{
    double sum = 0;
    size_t i, end;
    for (shards_meant(v, shard, &i, &end); i < end; i++)
        sum += number_of(metric_of(v->now, i, metric), label);
    return sum;
}

static double metric_growth(const struct top_view *v, size_t shard, const char *metric,
                            const char *label)
{
    double sum = 0;
    size_t i, end;
    for (shards_meant(v, shard, &i, &end); i < end; i++)
        sum += growth(number_of(metric_of(v->before, i, metric), label),
                      number_of(metric_of(v->now, i, metric), label));
    return sum;
}

/* ---- histograms ---- */

static double hist_at(const struct top_sample *s, size_t shard, const char *metric,
                      const char *array, size_t i)
{
    struct json_object *values = member(metric_of(s, shard, metric), array);
    if (!json_object_is_type(values, json_type_array) || i >= json_object_array_length(values))
        return 0;
    return json_object_get_double(json_object_array_get_idx(values, i));
}

static double bucket_growth(const struct top_view *v, size_t shard, const char *metric, size_t b)
{
    double sum = 0;
    size_t i, end;
    for (shards_meant(v, shard, &i, &end); i < end; i++)
        sum += growth(hist_at(v->before, i, metric, "counts", b),
                      hist_at(v->now, i, metric, "counts", b));
    return sum;
}

static double hist_mean(const struct top_view *v, size_t shard, const char *metric)
{
    double sum = 0;
    size_t i, end;
    for (shards_meant(v, shard, &i, &end); i < end; i++)
        sum += growth(json_object_get_double(member(metric_of(v->before, i, metric), "sum")),
                      json_object_get_double(member(metric_of(v->now, i, metric), "sum")));
    return sum / metric_growth(v, shard, metric, NULL);
}

/* Between the ends of the bucket that it lies in, in proportion, as Prometheus does it. */
static double hist_quantile(const struct top_view *v, size_t shard, const char *metric, double q)
{
    double rank = q * metric_growth(v, shard, metric, NULL), seen = 0, low = 0;
    struct json_object *bounds = member(metric_of(v->now, 0, metric), "le");
    if (!(rank > 0) || !json_object_is_type(bounds, json_type_array))
        return NAN;
    for (size_t b = 0; b + 1 < json_object_array_length(bounds); b++) {
        double high = hist_at(v->now, 0, metric, "le", b);
        double n = bucket_growth(v, shard, metric, b);
        if (n > 0 && seen + n >= rank)
            return low + (high - low) * (rank - seen) / n;
        seen += n;
        low = high;
    }
    return low; /* in the last bucket, which has no end */
}

/* ---- figures ---- */

static double interval_s(const struct top_view *v)
{
    return json_object_get_double(member(v->now->root, "clock_seconds")) -
           json_object_get_double(member(v->before->root, "clock_seconds"));
}

/* Not finite: nothing was measured. */
static double figure_of(const struct top_view *v, size_t shard, const struct figure *f)
{
    double grown = f->kind == NOW ? 0 : metric_growth(v, shard, f->metric, f->label);
    switch (f->kind) {
    case RATE:
        return grown / interval_s(v) / f->unit;
    case RATIO:
        return grown / metric_growth(v, shard, f->other, NULL) / f->unit;
    case SHARE:
        return 100 * grown / (grown + metric_growth(v, shard, f->other, NULL));
    case NOW:
        return metric_now(v, shard, f->metric, f->label) / f->unit;
    case MEAN:
        return hist_mean(v, shard, f->metric) / f->unit;
    case QUANTILE:
        return hist_quantile(v, shard, f->metric, f->quantile) / f->unit;
    }
    return NAN;
}

static double cpu_percent(const struct top_view *v)
{
    return 100 *
           growth(number_of(member(v->before->root, "cpu_seconds_total"), NULL),
                  number_of(member(v->now->root, "cpu_seconds_total"), NULL)) /
           interval_s(v);
}

static double resident_mib(const struct top_view *v)
{
    return json_object_get_double(member(v->now->root, "resident_memory_bytes")) / MIB;
}

/* ---- output ---- */

static void value_text(double value, int decimals, FILE *out)
{
    if (isfinite(value))
        fprintf(out, "%*.*f", VALUE_COLUMNS, decimals, value);
    else
        fprintf(out, "%*s", VALUE_COLUMNS, "-");
}

static size_t shards_shown(const struct top_view *v, unsigned columns)
{
    size_t room = (MAX(columns, TITLE_COLUMNS + VALUE_COLUMNS) - TITLE_COLUMNS) / VALUE_COLUMNS - 1;
    return columns == 0 ? v->now->shards_n : MIN(room, v->now->shards_n);
}

void top_view_text(const struct top_view *v, unsigned columns, FILE *out)
{
    size_t n = shards_shown(v, columns);
    fprintf(out, "penstock %s at %s: CPU %.1f %%, %.0f MiB resident, %zu shards\n",
            json_object_get_string(member(v->now->root, "version")), v->address, cpu_percent(v),
            resident_mib(v), v->now->shards_n);
    fprintf(out, "%*s", TITLE_COLUMNS + VALUE_COLUMNS, "all");
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%*zu", VALUE_COLUMNS, i);
    fputs(n < v->now->shards_n ? " ...\n" : "\n", out);
    for (unsigned f = 0; f < ARRAY_LEN(figures); f++) {
        fprintf(out, "%-*s", TITLE_COLUMNS, figures[f].title);
        value_text(figure_of(v, ALL_SHARDS, &figures[f]), figures[f].decimals, out);
        for (size_t i = 0; i < n; i++)
            value_text(figure_of(v, i, &figures[f]), figures[f].decimals, out);
        fputc('\n', out);
    }
}

static void figures_json(const struct top_view *v, size_t shard, FILE *out)
{
    const char *comma = "";
    fputc('{', out);
    for (unsigned f = 0; f < ARRAY_LEN(figures); f++) {
        double value = figure_of(v, shard, &figures[f]);
        if (!isfinite(value))
            continue;
        fprintf(out, "%s\"%s\": %.9g", comma, figures[f].key, value);
        comma = ", ";
    }
    fputc('}', out);
}

void top_view_json(const struct top_view *v, FILE *out)
{
    fprintf(out, "{\"interval_seconds\": %.9g, \"cpu_percent\": %.9g, \"resident_mib\": %.9g",
            interval_s(v), cpu_percent(v), resident_mib(v));
    fputs(", \"all\": ", out);
    figures_json(v, ALL_SHARDS, out);
    fputs(", \"shards\": [", out);
    for (size_t i = 0; i < v->now->shards_n; i++) {
        fputs(i == 0 ? "" : ", ", out);
        figures_json(v, i, out);
    }
    fputs("]}\n", out);
}
