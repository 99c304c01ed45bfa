/* produce.c: `vm-produce`: load for the power-cut run, and the ledger of what was acknowledged.
 *
 *   vm-produce BOOTSTRAP LEDGER MAPPED SECONDS MEGABYTES SEED [TOPIC-CONFIG=VALUE]...
 *
 * Happy path: creates topics, produces to them for SECONDS (longer until there are MARKS_MIN marks)
 *   about MEGABYTES in all (acks=all, not idempotent, never sent again: what is there twice was not
 *   sent twice) in turns of small, middling and large records; topic "keep" stays, topics "churn-N"
 *   are made, filled and deleted one after the other, so that segment files go to the pool and come
 *   back. Each acknowledgement is a line of LEDGER (ledger.h) as it arrives; every MARK_NS the
 *   lines so far are written and THEN the mark "acked=LINES" is put into the write log of the
 *   device-mapper device MAPPED: what a mark covers was acknowledged before it. Ends with the line
 *   "acknowledged A failed F bytes B marks M".
 * Failure: a delivery that fails is counted and goes on; anything else ends it with exit 1.
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
#include "core/base/rng.h"
#include "tests/vm/mapper.h"
#include "tests/vm/value.h"

#define NS_PER_S UINT64_C(1000000000)
#define MARK_NS UINT64_C(2000000)
#define CHURN_NS UINT64_C(2500000000)
#define SAME_KIND_NS UINT64_C(300000000)
#define SLACK_BYTES UINT64_C(2000000)
enum { KEEP_PARTITIONS = 6, CHURN_PARTITIONS = 2, PARTITIONS_MAX = 8, CONFIGS_MAX = 8 };
enum { MARKS_MIN = 200, LATE = 6 };
enum { REQUEST_MS = 60000, FLUSH_MS = 300000 };

/* What a turn produces: so many records of such a length to one topic, then so much time. */
struct turn {
    uint32_t records_max, len_min, len_max, wait_ms_max;
    bool one_partition; /* else to all of them, at random */
};
static const struct turn turns[] = {
    {.records_max = 1, .len_min = VALUE_MIN, .len_max = 300, .wait_ms_max = 4},
    {.records_max = 40, .len_min = VALUE_MIN, .len_max = 400, .wait_ms_max = 6},
    {.records_max = 40, .len_min = VALUE_MIN, .len_max = 400, .wait_ms_max = 6},
    {.records_max = 12, .len_min = 1000, .len_max = 30000, .wait_ms_max = 10},
    {.records_max = 3, .len_min = 60000, .len_max = 400000, .wait_ms_max = 20},
    /* some MiB at once to one partition: runs that go straight to its segment */
    {.records_max = 6, .len_min = 300000, .len_max = VALUE_MAX, .wait_ms_max = 20, true},
};

struct topic {
    char name[32];
    int32_t partitions;
    uint64_t next[PARTITIONS_MAX]; /* number of the partition's next record */
};

struct load {
    rd_kafka_t *kafka;
    FILE *ledger;
    const char *mapped;
    const char *configs[CONFIGS_MAX];
    int config_count;
    struct rng rng;
    struct topic keep, churn;
    unsigned churn_count;
    uint64_t begin_ns, length_ns, marked_ns, churned_ns, bytes_wanted, bytes;
    uint64_t lines, marked_lines, acked, failed, marks;
    uint8_t value[VALUE_MAX];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- the ledger and its marks ---- */

__attribute__((format(printf, 2, 3))) static void ledger_line(struct load *l, const char *form, ...)
{
    va_list args;
    va_start(args, form);
    vfprintf(l->ledger, form, args);
    va_end(args);
    l->lines++;
}

static void mark(struct load *l)
{
    if (fflush(l->ledger))
        err(1, "the ledger");
    char text[32];
    snprintf(text, sizeof(text), "acked=%" PRIu64, l->lines);
    int rc = mapper_mark(l->mapped, text);
    if (rc)
        errx(1, "mark in the write log: %s", strerror(-rc));
    l->marked_lines = l->lines;
    l->marked_ns = now_ns();
    l->marks++;
}

static void mark_in_time(struct load *l)
{
    if (l->lines > l->marked_lines && now_ns() - l->marked_ns >= MARK_NS)
        mark(l);
}

static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque)
{
    (void)kafka;
    struct load *l = opaque;
    uint64_t number;
    if (message->err) {
        if (!l->failed++)
            printf("first failed delivery: %s\n", rd_kafka_err2name(message->err));
        return;
    }
    if (!value_number(message->payload, message->len, &number))
        errx(1, "the client gave back another value");
    l->acked++;
    ledger_line(l, "R %s %" PRId32 " %" PRId64 " %" PRIu64 " %08" PRIx32 "\n",
                rd_kafka_topic_name(message->rkt), message->partition, message->offset, number,
                crc32c(message->payload, message->len));
}

/* ---- topics ---- */

/* The one topic's result in an admin event ends it when it is an error. */
static void expect_done(rd_kafka_event_t *event, const rd_kafka_topic_result_t **results,
                        size_t count)
{
    if (rd_kafka_event_error(event) || count != 1)
        errx(1, "admin request: %s", rd_kafka_event_error_string(event));
    if (rd_kafka_topic_result_error(results[0]))
        errx(1, "topic %s: %s", rd_kafka_topic_result_name(results[0]),
             rd_kafka_topic_result_error_string(results[0]));
}

static rd_kafka_event_t *await(rd_kafka_queue_t *queue)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    if (!event)
        errx(1, "no answer to an admin request");
    return event;
}

static void topic_create(struct load *l, struct topic *topic, int32_t partitions)
{
    char why[256];
    topic->partitions = partitions;
    memset(topic->next, 0, sizeof(topic->next));
    rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(topic->name, partitions, 1, why, sizeof(why));
    for (int i = 0; new &&i < l->config_count; i++) {
        char name[64];
        const char *value = strchr(l->configs[i], '=') + 1;
        snprintf(name, sizeof(name), "%.*s", (int)(value - l->configs[i] - 1), l->configs[i]);
        rd_kafka_NewTopic_set_config(new, name, value);
    }
    if (!new)
        errx(1, "topic %s: %s", topic->name, why);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(l->kafka);
    rd_kafka_CreateTopics(l->kafka, &new, 1, NULL, queue);
    rd_kafka_event_t *event = await(queue);
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    expect_done(event, results, count);
    ledger_line(l, "C %s %" PRId32 "\n", topic->name, partitions);
    mark(l);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(new);
}

/* The mark before the request: no point of the log behind which it may have happened lacks it. */
static void topic_delete(struct load *l, struct topic *topic)
{
    rd_kafka_DeleteTopic_t *old = rd_kafka_DeleteTopic_new(topic->name);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(l->kafka);
    ledger_line(l, "D %s\n", topic->name);
    mark(l);
    rd_kafka_DeleteTopics(l->kafka, &old, 1, NULL, queue);
    rd_kafka_event_t *event = await(queue);
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    expect_done(event, results, count);
    ledger_line(l, "G %s\n", topic->name);
    mark(l);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteTopic_destroy(old);
}

static void flush(struct load *l)
{
    uint64_t end = now_ns() + FLUSH_MS * UINT64_C(1000000);
    while (rd_kafka_outq_len(l->kafka) > 0) {
        if (now_ns() > end)
            errx(1, "%d records without a report", rd_kafka_outq_len(l->kafka));
        rd_kafka_poll(l->kafka, 5);
        mark_in_time(l);
    }
}

/* Everything is acknowledged before the deletion: so none of it is a failed delivery. */
static void churn(struct load *l)
{
    flush(l);
    if (l->churn_count)
        topic_delete(l, &l->churn);
    snprintf(l->churn.name, sizeof(l->churn.name), "churn-%u", l->churn_count++);
    topic_create(l, &l->churn, CHURN_PARTITIONS);
    l->churned_ns = now_ns();
}

/* ---- the load ---- */

static void send_record(struct load *l, struct topic *topic, int32_t partition, size_t len)
{
    uint64_t number = topic->next[partition];
    value_fill(l->value, len, topic->name, partition, number);
    for (;;) {
        rd_kafka_resp_err_t rc =
            rd_kafka_producev(l->kafka, RD_KAFKA_V_TOPIC(topic->name),
                              RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_VALUE(l->value, len),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (!rc)
            break;
        if (rc != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            errx(1, "produce: %s", rd_kafka_err2str(rc));
        rd_kafka_poll(l->kafka, 5);
        mark_in_time(l);
    }
    topic->next[partition]++;
    l->bytes += len;
}

static void take_turn(struct load *l, const struct turn *turn)
{
    struct topic *topic = rng_below(&l->rng, 3) ? &l->keep : &l->churn;
    int32_t partition = (int32_t)rng_below(&l->rng, (uint64_t)topic->partitions);
    uint64_t records = 1 + rng_below(&l->rng, turn->records_max);
    for (uint64_t i = 0; i < records; i++) {
        if (!turn->one_partition)
            partition = (int32_t)rng_below(&l->rng, (uint64_t)topic->partitions);
        send_record(l, topic, partition,
                    turn->len_min + rng_below(&l->rng, turn->len_max - turn->len_min + 1));
    }
    rd_kafka_poll(l->kafka, (int)rng_below(&l->rng, turn->wait_ms_max + 1));
    mark_in_time(l);
}

/* The bytes are spread over the time, however fast the machine is. */
static bool is_ahead(const struct load *l)
{
    double share = (double)(now_ns() - l->begin_ns) / (double)l->length_ns;
    return (double)l->bytes > (double)l->bytes_wanted * MIN(share, 1.0) + (double)SLACK_BYTES;
}

/* A machine that is short of time may go on for longer: a few marks would tell nothing. */
static bool is_going_on(const struct load *l)
{
    uint64_t gone_ns = now_ns() - l->begin_ns;
    return gone_ns < l->length_ns || (l->marks < MARKS_MIN && gone_ns < LATE * l->length_ns);
}

static void run(struct load *l)
{
    l->begin_ns = now_ns();
    size_t turn = 0;
    uint64_t since_ns = 0;
    while (is_going_on(l)) {
        if (!l->churned_ns || now_ns() - l->churned_ns > CHURN_NS)
            churn(l);
        if (now_ns() - since_ns > SAME_KIND_NS) {
            turn = rng_below(&l->rng, ARRAY_LEN(turns));
            since_ns = now_ns();
        }
        /* too much for now: small records only, whose journal writes are many and short */
        take_turn(l, is_ahead(l) ? &turns[0] : &turns[turn]);
    }
    flush(l);
    mark(l);
}

static rd_kafka_t *make_producer(struct load *l, const char *bootstrap)
{
    static const char *const settings[][2] = {
        {"acks", "all"},
        {"enable.idempotence", "false"},
        {"retries", "0"},
        {"linger.ms", "1"},
        {"batch.size", "1000000"},
        {"queue.buffering.max.kbytes", "32768"},
        {"message.max.bytes", "1048588"},
        {"message.timeout.ms", "300000"},
        {"request.timeout.ms", "120000"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];
    bool ok = rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof(why)) ==
              RD_KAFKA_CONF_OK;
    for (size_t i = 0; ok && i < ARRAY_LEN(settings); i++)
        ok = rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof(why)) ==
             RD_KAFKA_CONF_OK;
    if (!ok)
        errx(1, "%s", why);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, l);
    rd_kafka_t *kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (!kafka)
        errx(1, "%s", why);
    return kafka;
}

int main(int argc, char **argv)
{
    static struct load l;
    if (argc < 7 || argc > 7 + CONFIGS_MAX)
        errx(2, "usage: vm-produce BOOTSTRAP LEDGER MAPPED SECONDS MEGABYTES SEED [CONFIG=V]...");
    l.ledger = fopen(argv[2], "w");
    if (!l.ledger)
        err(1, "%s", argv[2]);
    l.mapped = argv[3];
    l.length_ns = strtoull(argv[4], NULL, 10) * NS_PER_S;
    l.bytes_wanted = strtoull(argv[5], NULL, 10) * 1000 * 1000;
    rng_seed(&l.rng, strtoull(argv[6], NULL, 10));
    for (int i = 7; i < argc; i++) {
        if (!strchr(argv[i], '='))
            errx(2, "%s is not CONFIG=VALUE", argv[i]);
        l.configs[l.config_count++] = argv[i];
    }
    l.kafka = make_producer(&l, argv[1]);
    snprintf(l.keep.name, sizeof(l.keep.name), "keep");
    topic_create(&l, &l.keep, KEEP_PARTITIONS);
    run(&l);
    rd_kafka_destroy(l.kafka);
    if (fclose(l.ledger))
        err(1, "%s", argv[2]);
    printf("acknowledged %" PRIu64 " failed %" PRIu64 " bytes %" PRIu64 " marks %" PRIu64 "\n",
           l.acked, l.failed, l.bytes, l.marks);
    return l.acked ? 0 : 1;
}
