#include <math.h>

#include "bench/bill.h"
#include "bench/json_doc.h"
#include "core/base/bytes.h"

/* What happened between two counts. */
static uint64_t since(uint64_t first, uint64_t last)
{
    return first == BILL_UNKNOWN || last == BILL_UNKNOWN || last < first ? BILL_UNKNOWN
                                                                         : last - first;
}

/* Absent figures are NAN here: what is computed from one is absent, too. */
static double figure(uint64_t v)
{
    return v == BILL_UNKNOWN ? NAN : (double)v;
}

/* 0 of the denominator: nobody counted it. */
static double ratio(double v, double of)
{
    return of > 0 ? v / of : NAN;
}

static uint64_t rss_max(const struct bill_sample *first, const struct bill_sample *last)
{
    uint64_t rose_bytes = since(first->rss_bytes_peak, last->rss_bytes_peak);
    return rose_bytes != BILL_UNKNOWN && rose_bytes > 0 ? last->rss_bytes_peak
                                                        : last->rss_bytes_max;
}

static void counts_put(struct json_doc *doc, struct json_object *o, const struct bill_sample *first,
                       const struct bill_sample *last)
{
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"rss_bytes_max", rss_max(first, last)},
        {"rss_bytes_end", last->rss_bytes},
        {"rss_bytes_peak", last->rss_bytes_peak},
        {"device_read_bytes", since(first->device_read_bytes, last->device_read_bytes)},
        {"device_written_bytes", since(first->device_written_bytes, last->device_written_bytes)},
        {"device_cancelled_bytes",
         since(first->device_cancelled_bytes, last->device_cancelled_bytes)},
        {"voluntary_switches", since(first->voluntary_switches, last->voluntary_switches)},
        {"involuntary_switches", since(first->involuntary_switches, last->involuntary_switches)},
    };
    for (unsigned i = 0; i < ARRAY_LEN(counts); i++)
        if (counts[i].value != BILL_UNKNOWN)
            json_doc_put_uint(doc, o, counts[i].key, counts[i].value);
}

static void figures_put(struct json_doc *doc, struct json_object *o,
                        const struct bill_sample *first, const struct bill_sample *last,
                        double records, double payload_bytes)
{
    double seconds = figure(since(first->at_ns, last->at_ns)) / 1e9;
    double cpu_s = figure(since(first->cpu_ns, last->cpu_ns)) / 1e9;
    double written_bytes = figure(since(first->device_written_bytes, last->device_written_bytes));
    double switches = figure(since(first->voluntary_switches, last->voluntary_switches)) +
                      figure(since(first->involuntary_switches, last->involuntary_switches));
    const struct {
        const char *key;
        double value;
    } figures[] = {
        {"seconds", seconds},
        {"cpu_s", cpu_s},
        {"cpu_user_s", figure(since(first->user_ns, last->user_ns)) / 1e9},
        {"cpu_system_s", figure(since(first->system_ns, last->system_ns)) / 1e9},
        {"cpu_cores", ratio(cpu_s, seconds)},
        {"cpu_s_per_gib", ratio(cpu_s, payload_bytes / 0x1p30)},
        {"cpu_s_per_million_records", ratio(cpu_s, records / 1e6)},
        {"written_bytes_per_payload_byte", ratio(written_bytes, payload_bytes)},
        {"switches_per_million_records", ratio(switches, records / 1e6)},
    };
    for (unsigned i = 0; i < ARRAY_LEN(figures); i++)
        json_doc_put_double(doc, o, figures[i].key, figures[i].value);
}

struct json_object *bill_json(const struct bill_sample *first, const struct bill_sample *last,
                              uint64_t records, uint64_t payload_bytes)
{
    struct json_doc doc = {0};
    struct json_object *o = json_doc_object(&doc);
    json_doc_put_uint(&doc, o, "pid", (uint64_t)last->pid);
    json_doc_put_text(&doc, o, "command", last->command);
    figures_put(&doc, o, first, last, (double)records, (double)payload_bytes);
    counts_put(&doc, o, first, last);
    return json_doc_finish(&doc, o);
}
