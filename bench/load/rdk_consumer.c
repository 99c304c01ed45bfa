/* The consumers of a load thread on librdkafka: each has its share of the partitions, assigned with
 * explicit offsets, without a group's coordination. The library fetches ahead on its own threads;
 * what it has is taken from its queue in batches and checked record by record, the batches' CRC by
 * the library (check.crcs). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/intake.h"
#include "bench/load/rdk.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"

enum {
    MESSAGES_PER_TURN = 512, /* of one consumer: some 100 us, then the schedule is looked at */
    QUERY_MS = 10000,
    RECEIVE_BYTES_LEAST = 100000000, /* librdkafka's default of receive.message.max.bytes */
    RECEIVE_SLACK_BYTES = 1 << 20,   /* of a response, beside its records */
    MESSAGE_BYTES_LEAST = 1000,      /* the range of message.max.bytes, and its default */
    MESSAGE_BYTES_DEFAULT = 1000000,
    PREFETCH_KIB_ALL = 1 << 20,  /* of all consumers of this thread */
    PREFETCH_KIB_MAX = 64 << 10, /* of one: librdkafka's default of queued.max.messages.kbytes */
    PREFETCH_KIB_LEAST = 1 << 10,
};

struct rdk_consumer {
    struct rdk *r;
    struct intake intake;
    struct rdk_handle handle;
};

/* ---- progress ---- */

/* Blocks as rdk_consumers_start() does, once for each partition. */
static void partition_pause(struct rdk_consumer *c, int32_t partition)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, c->r->course.w->topic, partition);
    rd_kafka_pause_partitions(c->handle.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

/* Where a late consumer that goes round and round begins again. Seeking is not waited for: if it
 * cannot be done now, it is tried again at the next end. */
static void part_rewind(struct rdk_consumer *c, struct intake_part *part)
{
    if (rd_kafka_seek(c->handle.topic, part->verify.partition, part->start_offset, 0) != 0)
        return;
    part->rewinding = part->offset > part->start_offset;
    part->stale_offset = part->offset;
    intake_part_rewind(part, part->start_offset);
}

static void part_ended(struct rdk_consumer *c, struct intake_part *part, int64_t offset)
{
    if (c->intake.role == INTAKE_TAILING)
        return;
    if (part->rewinding) { /* the last round's end, or retention has taken all up to there */
        part->stale_offset = MAX(part->stale_offset, offset);
        rd_kafka_seek(c->handle.topic, part->verify.partition, part->start_offset, 0);
        return;
    }
    intake_part_finish(&c->intake, part);
    if (c->intake.role == INTAKE_LATE && c->r->course.config.late_loop)
        part_rewind(c, part);
    else
        partition_pause(c, part->verify.partition);
}

/* ---- what came ---- */

static void record_take(struct rdk_consumer *c, struct intake_part *part,
                        const rd_kafka_message_t *m, uint64_t now_ns)
{
    struct batch_record record = {.offset = m->offset,
                                  .key = m->key,
                                  .key_len = (int32_t)m->key_len,
                                  .value = m->payload,
                                  .value_len = (int32_t)m->len};
    intake_take(&c->intake, part, &record, now_ns);
}

static void error_take(struct rdk_consumer *c, struct intake_part *part,
                       const rd_kafka_message_t *m)
{
    struct rdk *r = c->r;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && part != NULL)
        part_ended(c, part, m->offset);
    else if (part != NULL &&
             (m->err == RD_KAFKA_RESP_ERR__BAD_MSG || m->err == RD_KAFKA_RESP_ERR__BAD_COMPRESSION))
        verify_corrupt(&part->verify, NULL, part->offset);
    else if (m->err > 0)
        course_error(&r->course, (int16_t)m->err);
}

/* The library tells an end only when a fetch comes back empty, which one of a partition that is
 * written all the time may never do. */
static bool has_caught_up(const struct rdk_consumer *c, const struct intake_part *part)
{
    int64_t low, high;
    return c->intake.role == INTAKE_LATE && !part->finished &&
           rd_kafka_get_watermark_offsets(c->handle.rk, c->r->course.w->topic,
                                          part->verify.partition, &low,
                                          &high) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           high >= 0 && part->offset >= high;
}

static void message_take(struct rdk_consumer *c, const rd_kafka_message_t *m, uint64_t now_ns)
{
    struct intake_part *part = m->rkt != NULL ? intake_part_of(&c->intake, m->partition) : NULL;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR || part == NULL) {
        error_take(c, part, m);
        return;
    }
    if (part->rewinding && m->offset >= part->stale_offset)
        return;
    part->rewinding = false;
    if (part->finished && c->intake.role == INTAKE_FROM_START)
        return; /* what came before pausing took effect */
    record_take(c, part, m, now_ns);
    part->offset = m->offset + 1;
    if (intake_part_ended(&c->intake, part) || has_caught_up(c, part))
        part_ended(c, part, part->offset);
}

static bool consumer_serve(struct rdk_consumer *c)
{
    rd_kafka_message_t *messages[MESSAGES_PER_TURN];
    ssize_t n = rd_kafka_consume_batch_queue(c->handle.queue, 0, messages, MESSAGES_PER_TURN);
    uint64_t now_ns = clock_now_ns();
    for (ssize_t i = 0; i < n; i++) {
        message_take(c, messages[i], now_ns);
        rd_kafka_message_destroy(messages[i]);
    }
    if (n < MESSAGES_PER_TURN)
        return false;
    atomic_store(&c->handle.signalled, true); /* it was not emptied: no signal will come */
    return true;
}

bool rdk_consumers_serve(struct rdk *r, bool all)
{
    bool more = false;
    for (unsigned i = 0; i < r->consumers_n; i++) {
        struct rdk_consumer *c = &r->consumers[i];
        if (c->intake.parts_n > 0 && (rdk_handle_ready(&c->handle) || all))
            more |= consumer_serve(c);
    }
    return more;
}

void rdk_consumers_take_counts(struct rdk *r)
{
    for (unsigned i = 0; i < r->consumers_n; i++)
        rdk_counts_take(r, &r->consumers[i].handle);
}

/* ---- life ---- */

static void settings_make(const struct rdk_consumer *c, struct rdk_conf *conf)
{
    struct rdk *r = c->r;
    const struct workload *w = r->course.w;
    uint64_t receive = MAX(w->fetch_bytes_max + RECEIVE_SLACK_BYTES, (uint64_t)RECEIVE_BYTES_LEAST);
    /* fetch.max.bytes would be raised to it. */
    uint64_t message = MIN(w->fetch_bytes_max, (uint64_t)MESSAGE_BYTES_DEFAULT);
    uint64_t prefetch = PREFETCH_KIB_ALL / intake_count(&r->course);
#define SET(ours, name, ...) rdk_conf_set(conf, ours, name, __VA_ARGS__)
    SET("bootstrap", "bootstrap.servers", "%s", r->course.config.bootstrap);
    SET("client.id", "client.id", "penstock-bench");
    SET("group.id", "group.id", "penstock-bench-%08x-%u-%u", r->course.config.run,
        r->course.config.part, (unsigned)(c - r->consumers));
    SET("fetch.min.bytes", "fetch.min.bytes", "%llu", (unsigned long long)w->fetch_min_bytes);
    SET("fetch.max.wait.ms", "fetch.wait.max.ms", "%.12g", w->fetch_wait_ms);
    SET("fetch.max.bytes", "fetch.max.bytes", "%llu", (unsigned long long)w->fetch_bytes_max);
    SET("fetch.max.bytes", "receive.message.max.bytes", "%llu", (unsigned long long)receive);
    SET("fetch.max.bytes", "message.max.bytes", "%llu", (unsigned long long)message);
    SET("max.partition.fetch.bytes", "fetch.message.max.bytes", "%llu",
        (unsigned long long)w->fetch_partition_bytes_max);
    SET("request.timeout.ms", "socket.timeout.ms", "%.12g", w->request_timeout_ms);
    SET("consumers", "queued.max.messages.kbytes", "%llu",
        (unsigned long long)MAX(MIN(prefetch, (uint64_t)PREFETCH_KIB_MAX),
                                (uint64_t)PREFETCH_KIB_LEAST));
    SET("verify", "check.crcs", w->verify == VERIFY_FULL ? "true" : "false");
    SET("isolation", "isolation.level", "read_uncommitted"); /* as the own client */
    SET("commit", "enable.auto.commit", "false");
    SET("commit", "enable.auto.offset.store", "false");
    SET("offsets", "auto.offset.reset", "smallest"); /* when retention was faster */
    SET("offsets", "enable.partition.eof", c->intake.role == INTAKE_TAILING ? "false" : "true");
#undef SET
}

static int consumer_connect(struct rdk_consumer *c, char *reason, size_t reason_size)
{
    struct rdk *r = c->r;
    struct rdk_conf conf;
    rdk_conf_init(&conf, reason, reason_size);
    settings_make(c, &conf);
    int rc = rdk_handle_open(&c->handle, &r->host, RD_KAFKA_CONSUMER, &conf);
    if (rc == 0)
        rc = rdk_handle_connect(&c->handle, r->course.w->topic, r->connect_limit_ns, reason,
                                reason_size);
    if (rc > 0 && r->partitions_n == 0)
        r->partitions_n = rc;
    return rc < 0 ? rc : 0;
}

/* Where a partition begins and ends now is where it starts. */
static int part_start(struct rdk_consumer *c, struct intake_part *part, char *reason,
                      size_t reason_size)
{
    int64_t start, end;
    int32_t partition = part->verify.partition;
    rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(c->handle.rk, c->r->course.w->topic,
                                                               partition, &start, &end, QUERY_MS);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        snprintf(reason, reason_size, "offsets of partition %d: librdkafka: %s", partition,
                 rd_kafka_err2str(err));
        return -EPROTO;
    }
    intake_part_start(&c->intake, part, start, end);
    return 0;
}

static void consumer_assign(struct rdk_consumer *c)
{
    const struct intake *in = &c->intake;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)in->parts_n);
    for (unsigned i = 0; i < in->parts_n; i++)
        if (!in->parts[i].finished)
            rd_kafka_topic_partition_list_add(list, c->r->course.w->topic,
                                              in->parts[i].verify.partition)
                ->offset = in->parts[i].offset;
    rd_kafka_assign(c->handle.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static int consumer_init(struct rdk *r, struct rdk_consumer *c, char *reason, size_t reason_size)
{
    struct intake *in = &c->intake;
    c->r = r;
    int rc = consumer_connect(c, reason, reason_size);
    if (rc < 0)
        return rc;
    if (intake_init(in, r->partitions_n) < 0) {
        snprintf(reason, reason_size, "no memory for the consumers");
        return -ENOMEM;
    }
    for (unsigned i = 0; rc == 0 && i < in->parts_n; i++)
        rc = part_start(c, &in->parts[i], reason, reason_size);
    if (rc == 0 && in->parts_n > 0 && in->role == INTAKE_TAILING)
        consumer_assign(c); /* now, so that it is connected when the load begins */
    return rc;
}

int rdk_consumers_init(struct rdk *r, char *reason, size_t reason_size)
{
    struct intake_cursor cursor = {0};
    unsigned n = intake_count(&r->course);
    int rc = 0;
    if (n == 0)
        return 0;
    r->consumers = calloc(n, sizeof(*r->consumers));
    if (r->consumers == NULL) {
        snprintf(reason, reason_size, "no memory for the consumers");
        return -ENOMEM;
    }
    while (rc == 0 && intake_next(&r->course, &cursor, &r->consumers[r->consumers_n].intake))
        rc = consumer_init(r, &r->consumers[r->consumers_n++], reason, reason_size);
    return rc;
}

/* Blocks for the library's main thread to take it up, well below a millisecond. */
void rdk_consumers_start(struct rdk *r, bool late)
{
    for (unsigned i = 0; i < r->consumers_n; i++) {
        struct rdk_consumer *c = &r->consumers[i];
        if (c->intake.parts_n > 0 && c->intake.role == (late ? INTAKE_LATE : INTAKE_FROM_START))
            consumer_assign(c);
    }
}

void rdk_consumers_fini(struct rdk *r)
{
    for (unsigned i = 0; i < r->consumers_n; i++) {
        rdk_handle_close(&r->consumers[i].handle);
        intake_fini(&r->consumers[i].intake);
    }
    free(r->consumers);
}

void rdk_consumers_verify(struct rdk *r, const struct produced *all)
{
    for (unsigned i = 0; i < r->consumers_n; i++)
        intake_verify(&r->consumers[i].intake, all);
}
