#include "bench/load/workload.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/record.h"
#include "bench/stat/schedule.h"
#include "core/base/bytes.h"
#include "core/base/properties.h"

#define FILE_BYTES_MAX (1u << 20)

enum setting_kind { TEXT, COUNT, BYTES, REAL, RATE, CHOICE, FLAG, ACKS };

struct setting {
    const char *key;
    enum setting_kind kind;
    size_t at;
    const char *initial;
    double min, max;            /* of numbers */
    const char *const *choices; /* of CHOICE, ended by NULL */
    const char *help;
};

static const char *const partitioners[] = {"sticky", "roundrobin", "keyed", NULL};
static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};
static const char *const verifies[] = {"full", "sequence", "off", NULL};
static const char *const drivers[] = {"penstock", "librdkafka", NULL};

#define AT(field) offsetof(struct workload, field)
static const struct setting settings[] = {
    {"name", TEXT, AT(name), "", 0, 0, NULL, "how reports call it"},
    {"topic", TEXT, AT(topic), "penstock-bench", 0, 0, NULL, "the topic that is used"},
    {"topic.reuse", FLAG, AT(topic_reuse), "false", 0, 0, NULL,
     "keep a topic that is there; else it is deleted and made anew"},
    {"partitions", COUNT, AT(partitions), "1", 1, 100000, NULL, "of the topic"},
    {"replication.factor", COUNT, AT(replication_factor), "1", 1, 100, NULL, "of the topic"},
    {"producers", COUNT, AT(producers), "1", 1, 100000, NULL, "simulated producers, in all"},
    {"rate", RATE, AT(rate), "10000", 0.001, 1e9, NULL,
     "records a second of all producers together; max: a closed loop"},
    {"schedule", TEXT, AT(schedule), "constant", 0, 0, NULL,
     "intended send times: constant, poisson, burst:N, burst:N@poisson, ramp:FROM-TO:SECONDS"},
    {"record.size", BYTES, AT(record_bytes), "1024", RECORD_BYTES_LEAST, 64 << 20, NULL,
     "bytes of a record's value"},
    {"keys", COUNT, AT(keys), "0", 0, 1e9, NULL, "different keys; 0: records without keys"},
    {"key.size", BYTES, AT(key_bytes), "16", 8, 4096, NULL, "bytes of a key"},
    {"value.entropy", REAL, AT(entropy), "1", 0, 1, NULL,
     "share of random bytes in values: 1 does not compress, 0.25 to about a quarter"},
    {"partitioner", CHOICE, AT(partitioner), "sticky", 0, 0, partitioners,
     "sticky (a batch's worth to each partition), roundrobin, keyed (murmur2, needs keys)"},
    {"acks", ACKS, AT(acks), "all", 0, 0, NULL, "0, 1 or all"},
    {"compression.type", CHOICE, AT(codec), "none", 0, 0, codecs,
     "none, gzip, snappy, lz4 or zstd"},
    {"batch.size", BYTES, AT(batch_bytes), "16384", 1, 64 << 20, NULL, "bytes of a full batch"},
    {"linger.ms", REAL, AT(linger_ms), "5", 0, 60000, NULL, "how long a batch waits to fill"},
    {"max.in.flight.requests.per.connection", COUNT, AT(in_flight_max), "5", 1, 1000, NULL,
     "requests on their way"},
    {"max.request.size", BYTES, AT(request_bytes_max), "1048576", 1, 256 << 20, NULL,
     "of a produce request"},
    {"buffer.memory", BYTES, AT(buffer_bytes), "33554432", 1 << 16, 1e12, NULL,
     "for records not yet acknowledged, of each producer"},
    {"enable.idempotence", CHOICE, AT(idempotence), "auto", 0, 0, NULL,
     "true, false or auto (true with acks=all, as Kafka's clients)"},
    {"request.timeout.ms", REAL, AT(request_timeout_ms), "30000", 1, 1e7, NULL,
     "then the connection is closed and the request made again"},
    {"delivery.timeout.ms", REAL, AT(delivery_timeout_ms), "120000", 1, 1e7, NULL,
     "then a record counts as failed"},
    {"consumers", COUNT, AT(consumers), "1", 1, 100000, NULL,
     "simulated consumers that share the partitions, for each fan-out"},
    {"fan.out", COUNT, AT(fan_out), "1", 1, 1000, NULL, "how often each record is consumed"},
    {"late.consumers", COUNT, AT(late_consumers), "1", 1, 1000, NULL,
     "replay and mixed: consumers that read everything from the start"},
    {"fetch.min.bytes", BYTES, AT(fetch_min_bytes), "1", 1, 1 << 30, NULL, "as Kafka's"},
    {"fetch.max.wait.ms", REAL, AT(fetch_wait_ms), "500", 0, 1e6, NULL, "as Kafka's"},
    {"fetch.max.bytes", BYTES, AT(fetch_bytes_max), "52428800", 1, 1 << 30, NULL, "as Kafka's"},
    {"max.partition.fetch.bytes", BYTES, AT(fetch_partition_bytes_max), "1048576", 1, 1 << 30, NULL,
     "as Kafka's"},
    {"verify", CHOICE, AT(verify), "full", 0, 0, verifies,
     "what consumers check: full (batch CRC, order, content), sequence, off"},
    {"driver", CHOICE, AT(driver), "penstock", 0, 0, drivers,
     "penstock (own client) or librdkafka"},
    {"threads", COUNT, AT(threads), "1", 1, 256, NULL, "load threads, each with its own ring"},
    {"seed", COUNT, AT(seed), "1", 0, 1e15, NULL, "of random schedules, keys and values"},
    {"warmup.min.s", REAL, AT(warmup_min_s), "3", 0, 86400, NULL, "least warm-up"},
    {"warmup.max.s", REAL, AT(warmup_max_s), "60", 0, 86400, NULL,
     "measure then, steady or not; the result says so"},
    {"duration.s", REAL, AT(duration_s), "30", 0.1, 1e7, NULL, "the measured window"},
    {"drain.max.s", REAL, AT(drain_max_s), "30", 0, 1e6, NULL,
     "how long answers are waited for at the end"},
    {"preload.bytes", BYTES, AT(preload_bytes), "0", 0, 1e15, NULL,
     "replay and mixed: values that lie in the topic before the run"},
};

static void *field_of(struct workload *w, const struct setting *s)
{
    return (char *)w + s->at;
}

static const struct setting *find(const char *key)
{
    for (unsigned i = 0; i < ARRAY_LEN(settings); i++)
        if (strcmp(settings[i].key, key) == 0)
            return &settings[i];
    return NULL;
}

bool workload_has(const char *key)
{
    return find(key) != NULL;
}

/* A number with an optional unit: k M G (thousands); of bytes also B and Ki Mi Gi or KiB MiB GiB
 * (1024s); of a time the one that its name ends in. */
static int number_parse(const struct setting *s, const char *text, double *ret)
{
    static const struct {
        const char *unit;
        double factor;
        bool bytes;
    } units[] = {{"", 1, false},         {"k", 1e3, false},     {"M", 1e6, false},
                 {"G", 1e9, false},      {"B", 1, true},        {"Ki", 1024, true},
                 {"Mi", 1 << 20, true},  {"Gi", 1 << 30, true}, {"KiB", 1024, true},
                 {"MiB", 1 << 20, true}, {"GiB", 1 << 30, true}};
    const char *own = strrchr(s->key, '.');
    char *end;
    double v = strtod(text, &end);
    if (end == text || !isfinite(v))
        return -EINVAL;
    if (own != NULL && (strcmp(own, ".s") == 0 || strcmp(own, ".ms") == 0) &&
        strcmp(end, own + 1) == 0)
        end = strchr(end, '\0');
    for (unsigned i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(end, units[i].unit) == 0 && (!units[i].bytes || s->kind == BYTES)) {
            *ret = v * units[i].factor;
            return 0;
        }
    return -EINVAL;
}

static int choice_set(const struct setting *s, void *field, const char *value)
{
    for (uint64_t i = 0; s->choices[i] != NULL; i++)
        if (strcmp(value, s->choices[i]) == 0) {
            *(uint64_t *)field = i;
            return 0;
        }
    return -EINVAL;
}

/* -1 has a word of its own in both settings that know it. */
static int signed_set(void *field, const char *value, const char *const words[3])
{
    for (int i = 0; i < 3; i++)
        if (strcmp(value, words[i]) == 0) {
            *(int64_t *)field = i - 1;
            return 0;
        }
    return -EINVAL;
}

static const char *const acks_words[3] = {"all", "0", "1"};
static const char *const idempotence_words[3] = {"auto", "false", "true"};

static int number_set(const struct setting *s, void *field, const char *value)
{
    double v;
    if (s->kind == RATE && strcmp(value, "max") == 0) {
        *(double *)field = RATE_MAX;
        return 0;
    }
    if (number_parse(s, value, &v) < 0 || v < s->min || v > s->max)
        return -EINVAL;
    if (s->kind == REAL || s->kind == RATE)
        *(double *)field = v;
    else if (v != floor(v))
        return -EINVAL;
    else
        *(uint64_t *)field = (uint64_t)v;
    return 0;
}

static int value_set(const struct setting *s, void *field, const char *value)
{
    switch (s->kind) {
    case TEXT:
        if (strlen(value) >= WORKLOAD_TEXT_BYTES)
            return -EINVAL;
        strcpy(field, value);
        return 0;
    case FLAG:
        *(bool *)field = strcmp(value, "true") == 0;
        return *(bool *)field || strcmp(value, "false") == 0 ? 0 : -EINVAL;
    case ACKS:
        return signed_set(field, strcmp(value, "-1") == 0 ? "all" : value, acks_words);
    case CHOICE:
        return s->choices == NULL ? signed_set(field, value, idempotence_words)
                                  : choice_set(s, field, value);
    default:
        return number_set(s, field, value);
    }
}

int workload_set(struct workload *w, const char *key, const char *value, char *reason,
                 size_t reason_size)
{
    const struct setting *s = find(key);
    if (s == NULL) {
        snprintf(reason, reason_size, "unknown setting '%s'", key);
        return -EINVAL;
    }
    if (value_set(s, field_of(w, s), value) == 0)
        return 0;
    if (s->max > 0)
        snprintf(reason, reason_size, "bad value '%s' of %s (%g to %g: %s)", value, key, s->min,
                 s->max, s->help);
    else
        snprintf(reason, reason_size, "bad value '%s' of %s (%s)", value, key, s->help);
    return -EINVAL;
}

void workload_init(struct workload *w)
{
    *w = (struct workload){0};
    for (unsigned i = 0; i < ARRAY_LEN(settings); i++)
        value_set(&settings[i], field_of(w, &settings[i]), settings[i].initial);
}

struct loading {
    struct workload *w;
    char *reason;
    size_t reason_size;
    const char *path;
};

static int on_pair(void *arg, unsigned line, const char *key, const char *value)
{
    struct loading *l = arg;
    char why[256];
    int rc = workload_set(l->w, key, value, why, sizeof(why));
    if (rc < 0)
        snprintf(l->reason, l->reason_size, "%s:%u: %s", l->path, line, why);
    return rc;
}

static int file_read(const char *path, char **ret_text, size_t *ret_len)
{
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return -errno;
    char *text = malloc(FILE_BYTES_MAX);
    size_t len = text != NULL ? fread(text, 1, FILE_BYTES_MAX, in) : 0;
    int rc = text == NULL ? -ENOMEM : ferror(in) ? -EIO : len == FILE_BYTES_MAX ? -EFBIG : 0;
    fclose(in);
    if (rc < 0) {
        free(text);
        return rc;
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

/* A file that gives itself no name is called after its file name. */
static void name_after_file(struct workload *w, const char *path)
{
    const char *base = strrchr(path, '/');
    base = base != NULL ? base + 1 : path;
    const char *end = strrchr(base, '.');
    size_t len = end != NULL && end > base ? (size_t)(end - base) : strlen(base);
    len = MIN(len, sizeof(w->name) - 1);
    memcpy(w->name, base, len);
    w->name[len] = '\0';
}

int workload_load(struct workload *w, const char *path, char *reason, size_t reason_size)
{
    struct loading l = {w, reason, reason_size, path};
    char *text = NULL;
    size_t len = 0;
    unsigned line = 0;
    const char *why = NULL;
    int rc = file_read(path, &text, &len);
    if (rc < 0) {
        snprintf(reason, reason_size, "%s: %s", path, strerror(-rc));
        return rc;
    }
    name_after_file(w, path);
    rc = properties_parse(text, len, on_pair, &l, &line, &why);
    if (why != NULL)
        snprintf(reason, reason_size, "%s:%u: %s", path, line, why);
    free(text);
    return rc;
}

int workload_check(struct workload *w, char *reason, size_t reason_size)
{
    const char *why = NULL, *schedule_why = "";
    struct schedule_shape shape;
    if (schedule_parse(w->schedule, &shape, &schedule_why) < 0)
        why = schedule_why;
    else if (w->partitioner == PARTITIONER_KEYED && w->keys == 0)
        why = "partitioner=keyed needs keys";
    else if (w->idempotence == 1 && w->acks != -1)
        why = "enable.idempotence=true needs acks=all";
    else if (workload_idempotent(w) && w->in_flight_max > 5)
        why = "with idempotence max.in.flight.requests.per.connection is 5 at most";
    else if (w->buffer_bytes < w->batch_bytes || w->buffer_bytes < 2 * w->record_bytes)
        why = "buffer.memory is too small for a batch";
    else if (w->warmup_max_s < w->warmup_min_s)
        why = "warmup.max.s is below warmup.min.s";
    else if (w->topic[0] == '\0')
        why = "topic is empty";
    if (why == NULL)
        return 0;
    snprintf(reason, reason_size, "%s", why);
    return -EINVAL;
}

bool workload_get(const struct workload *w, unsigned index, const char **ret_key,
                  const char **ret_value, bool *ret_number)
{
    static _Thread_local char text[64];
    if (index >= ARRAY_LEN(settings))
        return false;
    const struct setting *s = &settings[index];
    const void *field = (const char *)w + s->at;
    *ret_key = s->key;
    *ret_value = text;
    *ret_number = false;
    switch (s->kind) {
    case TEXT:
        *ret_value = field;
        break;
    case FLAG:
        *ret_value = *(const bool *)field ? "true" : "false";
        break;
    case ACKS:
        *ret_value = acks_words[*(const int64_t *)field + 1];
        break;
    case CHOICE:
        *ret_value = s->choices == NULL ? idempotence_words[*(const int64_t *)field + 1]
                                        : s->choices[*(const uint64_t *)field];
        break;
    case REAL:
    case RATE:
        *ret_number = *(const double *)field >= 0;
        snprintf(text, sizeof(text), "%.12g", *(const double *)field);
        if (s->kind == RATE && !*ret_number)
            *ret_value = "max";
        break;
    default:
        *ret_number = true;
        snprintf(text, sizeof(text), "%llu", (unsigned long long)*(const uint64_t *)field);
    }
    return true;
}

void workload_help(void (*line)(void *arg, const char *text), void *arg)
{
    char text[256];
    for (unsigned i = 0; i < ARRAY_LEN(settings); i++) {
        snprintf(text, sizeof(text), "  %-38s %-14s %s", settings[i].key, settings[i].initial,
                 settings[i].help);
        line(arg, text);
    }
}
