/* check.c: reads all partitions of a topic with librdkafka and holds them against what clients were
 *   told (record.h) and against what the check before has read.
 * Usage: crash-check BOOTSTRAP TOPIC PARTITIONS EVENTS VIEW FLUSH_MS LEADERS KILLED_AT_MS...
 *   VIEW: file of what was read, compared first if it is there, then written anew.
 *   LEADERS: "moved" when partitions changed their leader between lives of the broker, or "stayed".
 * What a former leader refuses, librdkafka sends to the new one even with retries=0, then behind
 * what that has got already: without idempotence nothing holds such records in order (2.0.2,
 * rd_kafka_handle_Produce_error: such an error does not count as a retry).
 *   KILLED_AT_MS: when each life of the broker was ended (monotonic), at the latest. An
 * acknowledgement with acks=1 counts if a later record of its partition was known to be stable in
 *   the same life, or if it came more than FLUSH_MS before the end of that and before this check.
 * Output: "ok READ REQUIRED OF_MEMORY" and exit 0 (records read; events that had to hold; how many
 * of those were acknowledged with acks=1), or lines "problem: ..." and exit 1. What holds of each
 * partition:
 * offsets without a gap from 0 to the high watermark; every byte as it was sent; each producer's
 * records in order (see LEADERS) and none twice (but for those that send again without
 * idempotence), of an idempotent one also without a gap; every record acknowledged or seen is there
 * with its offset; nothing that was read before has changed. Threads: one. */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/crash/record.h"

#define ANSWER_MS 30000
#define PROBLEMS_MAX 10

struct place { /* what is at one offset */
    uint32_t producer, pad;
    uint64_t number;
};
struct partition {
    struct place *places;
    uint64_t n, cap;
    int64_t high;
    uint64_t *next_number; /* of each producer: the least that may come */
};

static struct partition *partitions;
static int partitions_n;
static int64_t *killed, *stable, flush_ms, checked_at_ms;
static unsigned killed_n;
static bool leaders_moved;
static unsigned problems;
static unsigned long long records, required, required_of_memory;

static void problem(const char *format, ...)
{
    va_list args;
    if (problems++ >= PROBLEMS_MAX)
        return;
    va_start(args, format);
    printf("problem: ");
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static void die(const char *what, const char *why)
{
    printf("problem: %s: %s\n", what, why);
    exit(1);
}

static void *grow(void *array, uint64_t *cap, size_t size)
{
    *cap = *cap == 0 ? 4096 : *cap * 2;
    void *more = realloc(array, *cap * size);
    if (more == NULL)
        die("memory", "there is none");
    return more;
}

/* ---- events ---- */

static struct event *events_read(const char *path, uint64_t *ret_n)
{
    struct event *events = NULL;
    uint64_t n = 0, cap = 0;
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        die(path, strerror(errno));
    do
        if (n == cap)
            events = grow(events, &cap, sizeof(*events));
    while (fread(&events[n], sizeof(*events), 1, in) == 1 && ++n > 0);
    fclose(in);
    for (uint64_t i = 0; i < n; i++)
        if (events[i].life > killed_n || events[i].partition >= (uint32_t)partitions_n ||
            events[i].producer >= producer_kinds_n)
            die(path, "is not a file of this test's events");
    *ret_n = n;
    return events;
}

static bool event_is_of_memory(const struct event *e)
{
    return e->kind == EVENT_ACKNOWLEDGED && !kind_waits_for_disk(&producer_kinds[e->producer]);
}

/* What is stable is a prefix: the largest offset that was acknowledged by disk, or seen, in each
 * life of the broker and each partition. */
static int64_t *stable_of(unsigned life, uint32_t partition)
{
    return &stable[life * (unsigned)partitions_n + partition];
}

static void stable_collect(const struct event *events, uint64_t n)
{
    size_t all = (killed_n + 1) * (size_t)partitions_n;
    stable = calloc(all, sizeof(*stable));
    if (stable == NULL)
        die("memory", "there is none");
    for (size_t i = 0; i < all; i++)
        stable[i] = -1;
    for (uint64_t i = 0; i < n; i++) {
        int64_t *most = stable_of(events[i].life, events[i].partition);
        if (!event_is_of_memory(&events[i]))
            *most = MAX(*most, events[i].offset);
    }
}

static bool event_must_hold(const struct event *e)
{
    if (!event_is_of_memory(e) || e->offset < *stable_of(e->life, e->partition))
        return true;
    return (e->life < killed_n ? killed[e->life] : checked_at_ms) - e->at_ms > flush_ms;
}

static void event_check(const struct event *e)
{
    static const char *const said[] = {
        [EVENT_ACKNOWLEDGED] = "acknowledged", [EVENT_SEEN] = "seen by a consumer"};
    const char *who = producer_kinds[e->producer].name;
    const struct partition *p = &partitions[e->partition];
    required++;
    required_of_memory += event_is_of_memory(e);
    if (e->offset < 0 || (uint64_t)e->offset >= p->n)
        problem("partition %u: record %llu of '%s', %s at offset %lld, is lost: the log ends at "
                "%llu",
                e->partition, (unsigned long long)e->number, who, said[e->kind],
                (long long)e->offset, (unsigned long long)p->n);
    else if (p->places[e->offset].producer != e->producer ||
             p->places[e->offset].number != e->number)
        problem("partition %u: at offset %lld is record %llu of '%s', but record %llu of '%s' was "
                "%s there",
                e->partition, (long long)e->offset, (unsigned long long)p->places[e->offset].number,
                producer_kinds[p->places[e->offset].producer].name, (unsigned long long)e->number,
                who, said[e->kind]);
}

/* ---- the log ---- */

static void number_check(struct partition *p, unsigned index, const struct place *at)
{
    const struct producer_kind *kind = &producer_kinds[at->producer];
    uint64_t *next = &p->next_number[at->producer];
    if (at->number % (uint64_t)partitions_n != index)
        problem("partition %u: offset %llu holds record %llu of '%s', which went elsewhere", index,
                (unsigned long long)p->n, (unsigned long long)at->number, kind->name);
    else if (kind_may_repeat(kind))
        return;
    else if (at->number < *next && (kind_is_idempotent(kind) || !leaders_moved))
        problem("partition %u: offset %llu holds record %llu of '%s' twice or out of order", index,
                (unsigned long long)p->n, (unsigned long long)at->number, kind->name);
    else if (kind_is_idempotent(kind) && at->number != *next)
        problem("partition %u: offset %llu holds record %llu of '%s', record %llu is missing",
                index, (unsigned long long)p->n, (unsigned long long)at->number, kind->name,
                (unsigned long long)*next);
    *next = at->number + (uint64_t)partitions_n;
}

static void message_take(const rd_kafka_message_t *m)
{
    struct place at = {0};
    struct partition *p = &partitions[m->partition];
    const char *wrong = record_check(m->payload, m->len, &at.producer, &at.number);
    if (m->offset != (int64_t)p->n) {
        problem("partition %d: offset %lld follows %lld", m->partition, (long long)m->offset,
                (long long)p->n - 1);
        die("reading", "stops here");
    }
    if (wrong != NULL)
        problem("partition %d: the record at offset %lld is %s", m->partition, (long long)m->offset,
                wrong);
    else
        number_check(p, (unsigned)m->partition, &at);
    if (p->n == p->cap)
        p->places = grow(p->places, &p->cap, sizeof(*p->places));
    p->places[p->n++] = at;
    records++;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char error[256];
    if (rd_kafka_conf_set(conf, key, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
        die(key, error);
}

static rd_kafka_t *consumer_open(const char *bootstrap)
{
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", bootstrap);
    set(conf, "group.id", "unused");
    set(conf, "enable.auto.commit", "false");
    set(conf, "auto.offset.reset", "error");
    set(conf, "check.crcs", "true");
    set(conf, "log_level", "0");
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
    if (client == NULL)
        die("no client", error);
    rd_kafka_poll_set_consumer(client);
    return client;
}

static void partitions_open(rd_kafka_t *client, const char *topic)
{
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(partitions_n);
    for (int i = 0; i < partitions_n; i++) {
        struct partition *p = &partitions[i];
        int64_t low;
        rd_kafka_resp_err_t rc =
            rd_kafka_query_watermark_offsets(client, topic, i, &low, &p->high, ANSWER_MS);
        if (rc != 0)
            die("watermarks", rd_kafka_err2str(rc));
        if (low != 0)
            problem("partition %d starts at offset %lld", i, (long long)low);
        p->next_number = calloc(producer_kinds_n, sizeof(*p->next_number));
        if (p->next_number == NULL)
            die("memory", "there is none");
        for (unsigned k = 0; k < producer_kinds_n; k++)
            p->next_number[k] = (uint64_t)i;
        rd_kafka_topic_partition_list_add(all, topic, i)->offset = 0;
    }
    rd_kafka_assign(client, all);
    rd_kafka_topic_partition_list_destroy(all);
}

static bool all_read(void)
{
    for (int i = 0; i < partitions_n; i++)
        if ((int64_t)partitions[i].n < partitions[i].high)
            return false;
    return true;
}

static void log_read(rd_kafka_t *client)
{
    int64_t last_ms = now_ms();
    while (!all_read() && problems < PROBLEMS_MAX) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(client, 100);
        if (m == NULL || m->err != 0) {
            if (now_ms() - last_ms > ANSWER_MS)
                die("reading", m == NULL ? "nothing comes" : rd_kafka_message_errstr(m));
        } else {
            last_ms = now_ms();
            message_take(m);
        }
        if (m != NULL)
            rd_kafka_message_destroy(m);
    }
}

static int places_compare(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    if (a->producer != b->producer)
        return a->producer < b->producer ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

/* Whatever their order. */
static void twice_check(unsigned index)
{
    const struct partition *p = &partitions[index];
    if (p->n < 2)
        return;
    struct place *sorted = malloc(p->n * sizeof(*sorted));
    if (sorted == NULL)
        die("memory", "there is none");
    memcpy(sorted, p->places, p->n * sizeof(*sorted));
    qsort(sorted, p->n, sizeof(*sorted), places_compare);
    for (uint64_t i = 1; i < p->n; i++) {
        const struct producer_kind *kind = &producer_kinds[sorted[i].producer];
        if (places_compare(&sorted[i - 1], &sorted[i]) == 0 && !kind_may_repeat(kind))
            problem("partition %u: record %llu of '%s' is there twice", index,
                    (unsigned long long)sorted[i].number, kind->name);
    }
    free(sorted);
}

/* ---- what was read before ---- */

static void view_compare(FILE *in)
{
    for (int i = 0; i < partitions_n; i++) {
        const struct partition *p = &partitions[i];
        uint64_t n;
        if (fread(&n, sizeof(n), 1, in) != 1)
            die("the file of the check before", "is cut short");
        if (p->n < n)
            problem("partition %d: %llu records, %llu were read before", i,
                    (unsigned long long)p->n, (unsigned long long)n);
        for (uint64_t k = 0; k < n; k++) {
            struct place before;
            if (fread(&before, sizeof(before), 1, in) != 1)
                die("the file of the check before", "is cut short");
            if (k < p->n && memcmp(&before, &p->places[k], sizeof(before)) != 0)
                problem("partition %d: the record at offset %llu has changed", i,
                        (unsigned long long)k);
        }
    }
}

static void view_write(const char *path)
{
    FILE *out = fopen(path, "wb");
    bool ok = out != NULL;
    for (int i = 0; ok && i < partitions_n; i++) {
        const struct partition *p = &partitions[i];
        ok = fwrite(&p->n, sizeof(p->n), 1, out) == 1 &&
             fwrite(p->places, sizeof(*p->places), p->n, out) == p->n;
    }
    if (!ok || fclose(out) != 0)
        die(path, strerror(errno));
}

static void arguments_take(int argc, char **argv)
{
    if (argc < 8 || atoi(argv[3]) < 1 || atoi(argv[3]) > PARTITIONS_MAX) {
        fprintf(stderr, "usage: crash-check BOOTSTRAP TOPIC PARTITIONS EVENTS VIEW FLUSH_MS "
                        "moved|stayed KILLED_AT_MS...\n");
        exit(2);
    }
    partitions_n = atoi(argv[3]);
    flush_ms = atoll(argv[6]);
    leaders_moved = strcmp(argv[7], "moved") == 0;
    killed_n = (unsigned)argc - 8;
    checked_at_ms = now_ms();
    partitions = calloc((size_t)partitions_n, sizeof(*partitions));
    killed = calloc(killed_n + 1, sizeof(*killed));
    if (partitions == NULL || killed == NULL)
        die("memory", "there is none");
    for (unsigned i = 0; i < killed_n; i++)
        killed[i] = atoll(argv[8 + i]);
}

int main(int argc, char **argv)
{
    arguments_take(argc, argv);
    uint64_t events_n;
    struct event *events = events_read(argv[4], &events_n); /* before the watermarks */
    stable_collect(events, events_n);
    rd_kafka_t *client = consumer_open(argv[1]);
    partitions_open(client, argv[2]);
    log_read(client);
    for (unsigned i = 0; i < (unsigned)partitions_n; i++)
        twice_check(i);
    for (uint64_t i = 0; i < events_n; i++)
        if (event_must_hold(&events[i]))
            event_check(&events[i]);
    FILE *before = fopen(argv[5], "rb");
    if (before != NULL) {
        view_compare(before);
        fclose(before);
    }
    view_write(argv[5]);
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
    if (problems == 0)
        printf("ok %llu %llu %llu\n", records, required, required_of_memory);
    return problems == 0 ? 0 : 1; /* the end of the process frees what is left */
}
