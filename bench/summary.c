/* A run for a reader at a terminal, read from its JSON, so that both say the same. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "bench/command_private.h"
#include "core/base/bytes.h"

static struct json_object *get(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    return o != NULL && json_object_object_get_ex(o, key, &v) ? v : NULL;
}

static const char *text_of(struct json_object *o, const char *key)
{
    struct json_object *v = get(o, key);
    return v != NULL ? json_object_get_string(v) : "";
}

static double number_of(struct json_object *o, const char *key)
{
    return json_object_get_double(get(o, key)); /* absent: 0, which is printed nowhere */
}

static void latency_print(FILE *out, struct json_object *hists, const char *key, const char *name)
{
    static const char *const percentiles[] = {"50", "90", "99", "99.9", "99.99"};
    struct json_object *h = get(hists, key), *p = get(h, "percentiles");
    if (p == NULL)
        return;
    fprintf(out, "    %-28s", name);
    for (unsigned i = 0; i < ARRAY_LEN(percentiles); i++)
        fprintf(out, " p%s %.3f", percentiles[i], number_of(p, percentiles[i]) / 1e6);
    fprintf(out, " max %.3f ms\n", number_of(h, "max") / 1e6);
}

static void window_print(FILE *out, const char *name, struct json_object *w)
{
    struct json_object *hists = get(w, "histograms");
    fprintf(out, "  %s, %.1f s:", name, number_of(w, "seconds"));
    if (get(w, "ack_rate") != NULL)
        fprintf(out, " acknowledged %.0f records/s, %.1f MiB/s", number_of(w, "ack_rate"),
                number_of(w, "ack_mib_s"));
    if (get(w, "consume_rate") != NULL)
        fprintf(out, "; consumed %.0f records/s, %.1f MiB/s", number_of(w, "consume_rate"),
                number_of(w, "consume_mib_s"));
    if (get(w, "late_consume_rate") != NULL)
        fprintf(out, "; late consumers %.0f records/s, %.1f MiB/s",
                number_of(w, "late_consume_rate"), number_of(w, "late_consume_mib_s"));
    fputc('\n', out);
    latency_print(out, hists, "ack", "ack, from intended time");
    latency_print(out, hists, "ack_send", "ack, from actual send");
    latency_print(out, hists, "e2e", "end to end, from intended");
}

static void bill_print(FILE *out, struct json_object *bill)
{
    if (bill == NULL)
        return;
    fprintf(out, "  broker: ");
    if (get(bill, "cpu_s_per_gib") != NULL)
        fprintf(out, "%.2f CPU s/GiB, ", number_of(bill, "cpu_s_per_gib"));
    if (get(bill, "cpu_s_per_million_records") != NULL)
        fprintf(out, "%.2f CPU s/million records, ", number_of(bill, "cpu_s_per_million_records"));
    fprintf(out, "%.2f cores, %.0f MiB resident", number_of(bill, "cpu_cores"),
            number_of(bill, "rss_bytes_max") / (1 << 20));
    if (get(bill, "written_bytes_per_payload_byte") != NULL)
        fprintf(out, ", %.2f bytes written per payload byte",
                number_of(bill, "written_bytes_per_payload_byte"));
    fputc('\n', out);
}

static void verification_print(FILE *out, struct json_object *v)
{
    struct json_object *incidents = get(v, "incidents");
    size_t n = incidents != NULL ? json_object_array_length(incidents) : 0;
    for (size_t i = 0; i < MIN(n, (size_t)10); i++) {
        struct json_object *o = json_object_array_get_idx(incidents, i);
        fprintf(out, "  %s: %s-%s", text_of(o, "kind"), text_of(o, "topic"),
                text_of(o, "partition"));
        if (get(o, "offset") != NULL)
            fprintf(out, " at offset %s", text_of(o, "offset"));
        else
            fprintf(out, " at the log's end");
        if (get(o, "producer") != NULL)
            fprintf(out, ": producer %s, sequence %s, %s records", text_of(o, "producer"),
                    text_of(o, "sequence"), text_of(o, "count"));
        fputc('\n', out);
    }
    if (n > 10)
        fprintf(out, "  ... and %zu more places\n", n - 10);
}

void summary_print(FILE *out, struct json_object *run)
{
    struct json_object *generator = get(run, "generator"), *invalid = get(run, "invalid");
    struct json_object *notes = get(run, "notes"), *shares = get(get(run, "limits"), "shares");
    fprintf(out, "%s %s %s\n", text_of(run, "label"), text_of(run, "kind"),
            text_of(get(run, "workload"), "name"));
    json_object_object_foreach(get(run, "windows"), name, window) window_print(out, name, window);
    if (get(generator, "limit") != NULL)
        fprintf(out, "  limit: %s (%s)\n", text_of(generator, "limit"), text_of(generator, "text"));
    fprintf(out, "  client: %.2f CPU us/record\n", number_of(generator, "cpu_us_per_record"));
    bill_print(out, get(run, "bill"));
    for (size_t i = 0; shares != NULL && i < json_object_array_length(shares); i++) {
        struct json_object *s = json_object_array_get_idx(shares, i);
        fprintf(out, "  %s: %.0f %% of %.0f MiB/s\n", text_of(s, "name"),
                number_of(s, "share") * 100, number_of(s, "limit_mib_s"));
    }
    verification_print(out, get(run, "verification"));
    for (size_t i = 0; i < json_object_array_length(notes); i++)
        fprintf(out, "  note: %s\n", json_object_get_string(json_object_array_get_idx(notes, i)));
    for (size_t i = 0; i < json_object_array_length(invalid); i++) {
        struct json_object *v = json_object_array_get_idx(invalid, i);
        fprintf(out, "  INVALID (%s): %s\n", text_of(v, "code"), text_of(v, "text"));
    }
    fflush(out);
}

static void limit_print(FILE *out, const char *what, const char *bytes_key, struct json_object *o)
{
    fprintf(out, "  %-5s %8.0f MiB/s, %s bytes", what, number_of(o, "mib_s"),
            text_of(o, bytes_key));
    if (get(o, "depth") != NULL)
        fprintf(out, ", %s in flight", text_of(o, "depth"));
    if (get(o, "flush") != NULL)
        fprintf(out, ", flush %s", text_of(o, "flush"));
    if (get(o, "p50_us") != NULL)
        fprintf(out, ", p50 %.0f us", number_of(o, "p50_us"));
    fputc('\n', out);
}

void limits_print(FILE *out, struct json_object *limits)
{
    struct json_object *device = get(limits, "device");
    const struct {
        const char *what, *bytes_key;
        struct json_object *list;
    } lists[] = {{"write", "block_bytes", get(device, "write")},
                 {"read", "block_bytes", get(device, "read")},
                 {"tcp", "message_bytes", get(limits, "tcp")}};
    fprintf(out, "limits of this machine, device under %s\n", text_of(device, "path"));
    for (unsigned i = 0; i < ARRAY_LEN(lists); i++)
        for (size_t j = 0; lists[i].list != NULL && j < json_object_array_length(lists[i].list);
             j++)
            limit_print(out, lists[i].what, lists[i].bytes_key,
                        json_object_array_get_idx(lists[i].list, j));
    fflush(out);
}
