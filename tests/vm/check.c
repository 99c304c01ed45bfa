/* check.c: `vm-check`: holds a broker that has recovered from a power cut against the ledger.
 *
 *   vm-check BOOTSTRAP LEDGER ACKED
 *
 * The first ACKED lines of LEDGER were acknowledged before the power cut. All records of all topics
 * are read, from the first to the last one. What has to be so:
 *   - a topic whose creation was acknowledged is there with its partitions, unless its deletion had
 *     been asked for; one whose deletion was acknowledged is not there;
 *   - each record acknowledged before the cut is at its offset, with the CRC that the ledger names;
 *   - each record that is there, acknowledged or not, has exactly the bytes that were sent to that
 *     partition, and the numbers in a partition ascend: nothing twice, nothing out of order;
 *   - an offset that was acknowledged later on has that record or is not there;
 *   - offsets begin at 0 and have no gap.
 * Happy path: last line "checked A acknowledged R read F failures", exit 0 when F is 0.
 * Failure: a line for each of the first failures, with topic, partition and offset; exit 1.
 *   Exit 2: bad arguments.
 * Threads: one of ours. */
#include <err.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "tests/vm/ledger.h"
#include "tests/vm/value.h"

enum { REQUEST_MS = 60000, STALL_S = 60, SHOWN_MAX = 10 };

/* A partition that is there, and how far it has been read. */
struct place {
    struct ledger_topic *topic;
    int32_t partition;
    int64_t next, end;
    int64_t last_number; /* -1: none yet */
};

struct check {
    rd_kafka_t *kafka;
    struct ledger ledger;
    size_t acked_lines;
    struct place places[LEDGER_TOPICS_MAX * LEDGER_PARTITIONS_MAX];
    size_t place_count, ends; /* those read to their end */
    uint64_t acked, read, failures;
};

__attribute__((format(printf, 2, 3))) static void failure(struct check *c, const char *form, ...)
{
    if (c->failures++ >= SHOWN_MAX)
        return;
    va_list args;
    va_start(args, form);
    vprintf(form, args);
    va_end(args);
    putchar('\n');
}

/* ---- topics ---- */

static bool must_be_there(const struct check *c, const struct ledger_topic *topic)
{
    return topic->created < c->acked_lines && topic->delete_asked >= c->acked_lines;
}

static void check_topic(struct check *c, struct ledger_topic *topic, int32_t partitions_there)
{
    if (!partitions_there) {
        if (must_be_there(c, topic))
            failure(c, "topic %s is lost", topic->name);
        return;
    }
    if (topic->gone < c->acked_lines)
        failure(c, "topic %s is there though its deletion was acknowledged", topic->name);
    if (partitions_there != topic->partition_count) {
        failure(c, "topic %s has %" PRId32 " partitions, not %" PRId32, topic->name,
                partitions_there, topic->partition_count);
        return;
    }
    for (int32_t p = 0; p < topic->partition_count; p++)
        c->places[c->place_count++] =
            (struct place){.topic = topic, .partition = p, .last_number = -1};
}

#define GROUP_TOPIC "__consumer_offsets"

static void check_topics(struct check *c)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t rc = rd_kafka_metadata(c->kafka, 1, NULL, &metadata, REQUEST_MS);
    if (rc)
        errx(1, "metadata: %s", rd_kafka_err2str(rc));
    int32_t there[LEDGER_TOPICS_MAX] = {0};
    for (int i = 0; i < metadata->topic_cnt; i++) {
        struct ledger_topic *topic = ledger_find(&c->ledger, metadata->topics[i].topic);
        if (topic)
            there[topic - c->ledger.topics] = metadata->topics[i].partition_cnt;
        else if (strcmp(metadata->topics[i].topic, GROUP_TOPIC)) /* the broker makes that itself */
            failure(c, "topic %s is there, which nobody has created", metadata->topics[i].topic);
    }
    rd_kafka_metadata_destroy(metadata);
    for (size_t i = 0; i < c->ledger.topic_count; i++)
        check_topic(c, &c->ledger.topics[i], there[i]);
}

/* ---- records ---- */

static void find_end(struct check *c, struct place *place)
{
    int64_t low = 0;
    rd_kafka_resp_err_t rc = rd_kafka_query_watermark_offsets(
        c->kafka, place->topic->name, place->partition, &low, &place->end, REQUEST_MS);
    if (rc) {
        failure(c, "%s-%" PRId32 ": ends of the log: %s", place->topic->name, place->partition,
                rd_kafka_err2str(rc));
        place->end = 0;
    }
    if (low)
        failure(c, "%s-%" PRId32 " begins at offset %" PRId64, place->topic->name, place->partition,
                low);
    if (!place->end)
        c->ends++;
}

static void check_record(struct check *c, struct place *place, const rd_kafka_message_t *message)
{
    const char *name = place->topic->name;
    int32_t p = place->partition;
    int64_t offset = message->offset;
    uint64_t number;
    c->read++;
    if (offset != place->next)
        failure(c, "%s-%" PRId32 ": offset %" PRId64 " follows %" PRId64, name, p, offset,
                place->next - 1);
    if (!value_number(message->payload, message->len, &number) ||
        !value_is_whole(message->payload, message->len, name, p)) {
        failure(c, "%s-%" PRId32 " offset %" PRId64 ": bytes that nobody sent", name, p, offset);
        return;
    }
    if ((int64_t)number <= place->last_number)
        failure(c, "%s-%" PRId32 " offset %" PRId64 ": record %" PRIu64 " after record %" PRId64,
                name, p, offset, number, place->last_number);
    place->last_number = (int64_t)number;
    const struct ledger_record *acked = ledger_at(&place->topic->partitions[p], offset);
    if (!acked)
        return;
    if (acked->number != number || acked->crc != crc32c(message->payload, message->len))
        failure(c,
                "%s-%" PRId32 " offset %" PRId64 ": record %" PRIu64 ", acknowledged was %" PRIu64,
                name, p, offset, number, acked->number);
    else if (acked->line < c->acked_lines)
        c->acked++;
}

static struct place *place_of(struct check *c, const rd_kafka_message_t *message)
{
    const char *name = rd_kafka_topic_name(message->rkt);
    for (size_t i = 0; i < c->place_count; i++)
        if (c->places[i].partition == message->partition && !strcmp(c->places[i].topic->name, name))
            return &c->places[i];
    errx(1, "a record of %s-%" PRId32 ", which was not asked for", name, message->partition);
}

static void take_message(struct check *c, const rd_kafka_message_t *message)
{
    struct place *place = place_of(c, message);
    if (message->err) {
        failure(c, "%s-%" PRId32 " offset %" PRId64 ": %s", place->topic->name, place->partition,
                place->next, rd_kafka_message_errstr(message));
        return;
    }
    check_record(c, place, message);
    place->next = message->offset + 1;
    if (place->next == place->end)
        c->ends++;
}

static void read_everything(struct check *c)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)c->place_count + 1);
    for (size_t i = 0; i < c->place_count; i++) {
        find_end(c, &c->places[i]);
        if (c->places[i].end)
            rd_kafka_topic_partition_list_add(list, c->places[i].topic->name,
                                              c->places[i].partition)
                ->offset = 0;
    }
    rd_kafka_assign(c->kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
    time_t stalled = time(NULL) + STALL_S;
    while (c->ends < c->place_count && time(NULL) < stalled) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(c->kafka, 200);
        if (!message)
            continue;
        if (message->rkt) {
            take_message(c, message);
            stalled = time(NULL) + STALL_S;
        }
        rd_kafka_message_destroy(message);
    }
}

/* Those behind what could be read: each of them is a failure of its own. */
static void find_missing(struct check *c)
{
    for (size_t i = 0; i < c->place_count; i++) {
        struct place *place = &c->places[i];
        struct ledger_partition *p = &place->topic->partitions[place->partition];
        if (place->next < place->end)
            failure(c, "%s-%" PRId32 ": only %" PRId64 " of %" PRId64 " records can be read",
                    place->topic->name, place->partition, place->next, place->end);
        for (size_t r = 0; must_be_there(c, place->topic) && r < p->count; r++)
            if (p->records[r].line < c->acked_lines && p->records[r].offset >= place->next)
                failure(c, "%s-%" PRId32 " offset %" PRId64 ": record %" PRIu64 " is lost",
                        place->topic->name, place->partition, p->records[r].offset,
                        p->records[r].number);
    }
}

static rd_kafka_t *make_consumer(const char *bootstrap)
{
    static const char *const settings[][2] = {
        {"group.id", "unused"}, {"enable.auto.commit", "false"}, {"auto.offset.reset", "error"},
        {"check.crcs", "true"}, {"fetch.wait.max.ms", "50"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];
    bool ok = rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof(why)) ==
              RD_KAFKA_CONF_OK;
    for (size_t i = 0; ok && i < ARRAY_LEN(settings); i++)
        ok = rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof(why)) ==
             RD_KAFKA_CONF_OK;
    rd_kafka_t *kafka = ok ? rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why)) : NULL;
    if (!kafka)
        errx(1, "%s", why);
    rd_kafka_poll_set_consumer(kafka);
    return kafka;
}

int main(int argc, char **argv)
{
    static struct check c;
    if (argc != 4)
        errx(2, "usage: vm-check BOOTSTRAP LEDGER ACKED");
    ledger_load(&c.ledger, argv[2]);
    c.acked_lines = strtoull(argv[3], NULL, 10);
    if (c.acked_lines > c.ledger.line_count)
        errx(1, "the ledger has %zu lines, not %zu", c.ledger.line_count, c.acked_lines);
    c.kafka = make_consumer(argv[1]);
    check_topics(&c);
    read_everything(&c);
    find_missing(&c);
    printf("checked %" PRIu64 " acknowledged %" PRIu64 " read %" PRIu64 " failures\n", c.acked,
           c.read, c.failures);
    rd_kafka_consumer_close(c.kafka);
    rd_kafka_destroy(c.kafka);
    ledger_fini(&c.ledger);
    return c.failures ? 1 : 0;
}
