/* The consumers of a load thread on librdkafka: each has its share of the partitions, assigned with
 * explicit offsets, without a group's coordination. The library fetches ahead on its own threads;
 * what it has is taken from its queue in batches and checked record by record, the batches' CRC by
 * the library (check.crcs). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/rdk.h"
#include "core/base/bytes.h"

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

enum consumer_role { TAILING, FROM_START, LATE };

struct consumer_part {
    int64_t offset;     /* of the next record */
    int64_t end_offset; /* FROM_START: stop here */
    int64_t start_offset;
    int64_t stale_offset; /* rewound: records from here on are still those of the last round */
    bool finished, rewinding;
    struct verify_part verify;
};

struct rdk_consumer {
    struct rdk *r;
    enum consumer_role role;
    struct rdk_handle handle;
    uint64_t member, members; /* partition member + k * members is parts[k] */
    struct consumer_part *parts;
    unsigned parts_n;
};

static int32_t partition_of(const struct rdk_consumer *c, unsigned part)
{
    return (int32_t)(c->member + part * c->members);
}

/* ---- progress ---- */

/* Blocks as rdk_consumers_start() does, once for each partition. */
static void partition_pause(struct rdk_consumer *c, int32_t partition)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, c->r->w->topic, partition);
    rd_kafka_pause_partitions(c->handle.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static void part_finish(struct rdk_consumer *c, struct consumer_part *part)
{
    struct rdk *r = c->r;
    if (part->finished)
        return;
    part->finished = true;
    if (c->role == FROM_START && --r->consumers_unfinished == 0)
        atomic_store(&r->out.consumers_done, true);
    if (c->role == LATE && --r->late_unfinished == 0)
        atomic_store(&r->out.late_done, true);
}

/* Where a late consumer that goes round and round begins again. Seeking is not waited for: if it
 * cannot be done now, it is tried again at the next end. */
static void part_rewind(struct rdk_consumer *c, struct consumer_part *part)
{
    struct verify_log *log = part->verify.log;
    int32_t partition = part->verify.partition;
    if (rd_kafka_seek(c->handle.topic, partition, part->start_offset, 0) != 0)
        return;
    part->rewinding = part->offset > part->start_offset;
    part->stale_offset = part->offset;
    part->offset = part->start_offset;
    verify_part_fini(&part->verify);
    verify_part_init(&part->verify, partition, 0, true, log);
}

static void part_ended(struct rdk_consumer *c, struct consumer_part *part, int64_t offset)
{
    if (c->role == TAILING)
        return;
    if (part->rewinding) { /* the last round's end, or retention has taken all up to there */
        part->stale_offset = MAX(part->stale_offset, offset);
        rd_kafka_seek(c->handle.topic, part->verify.partition, part->start_offset, 0);
        return;
    }
    part_finish(c, part);
    if (c->role == LATE && c->r->config.late_loop)
        part_rewind(c, part);
    else
        partition_pause(c, part->verify.partition);
}

/* ---- what came ---- */

static void record_count(struct rdk_consumer *c, const rd_kafka_message_t *m, bool fresh)
{
    struct load_counts *n = &c->r->out.recorder.interval.n;
    uint64_t bytes = m->key_len + m->len;
    if (c->role == LATE) {
        n->late_consumed++;
        n->late_consumed_bytes += bytes;
        return;
    }
    n->consumed++;
    n->consumed_bytes += bytes;
    n->consumed_new += fresh;
}

static void record_take(struct rdk_consumer *c, struct consumer_part *part,
                        const rd_kafka_message_t *m, uint64_t now_ns)
{
    struct rdk *r = c->r;
    struct record_head head;
    int rc = record_read(m->payload, (int64_t)m->len, r->w->verify == VERIFY_FULL, &head);
    bool fresh = false;
    if (rc == -EBADMSG)
        fresh = verify_corrupt(&part->verify, &head, m->offset);
    else if (rc == -ENOENT)
        part->verify.log->foreign++;
    else if (r->w->verify != VERIFY_OFF)
        fresh = verify_record(&part->verify, &head, m->offset);
    else
        fresh = true;
    record_count(c, m, fresh);
    /* A stamp of another machine's clock, or of another run, says nothing. */
    bool timed = rc == 0 && c->role == TAILING && head.run == r->config.run &&
                 head.clock == r->clock_id && !workload_closed_loop(r->w);
    if (timed)
        load_record(&r->out.recorder, LATENCY_E2E, head.stamp_ns,
                    now_ns - MIN(now_ns, head.stamp_ns), 1);
}

static void error_take(struct rdk_consumer *c, struct consumer_part *part,
                       const rd_kafka_message_t *m)
{
    struct rdk *r = c->r;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && part != NULL)
        part_ended(c, part, m->offset);
    else if (part != NULL &&
             (m->err == RD_KAFKA_RESP_ERR__BAD_MSG || m->err == RD_KAFKA_RESP_ERR__BAD_COMPRESSION))
        verify_corrupt(&part->verify, NULL, part->offset);
    else if (m->err > 0 && r->out.error_code == 0)
        r->out.error_code = (int16_t)m->err;
}

static struct consumer_part *part_of(struct rdk_consumer *c, const rd_kafka_message_t *m)
{
    uint64_t k = ((uint64_t)m->partition - c->member) / c->members;
    return m->rkt != NULL && m->partition >= 0 && k < c->parts_n ? &c->parts[k] : NULL;
}

static void message_take(struct rdk_consumer *c, const rd_kafka_message_t *m, uint64_t now_ns)
{
    struct consumer_part *part = part_of(c, m);
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR || part == NULL) {
        error_take(c, part, m);
        return;
    }
    if (part->rewinding && m->offset >= part->stale_offset)
        return;
    part->rewinding = false;
    if (part->finished && c->role == FROM_START)
        return; /* what came before pausing took effect */
    record_take(c, part, m, now_ns);
    part->offset = m->offset + 1;
    if (c->role == FROM_START && part->offset >= part->end_offset)
        part_ended(c, part, part->offset);
}

static bool consumer_serve(struct rdk_consumer *c)
{
    rd_kafka_message_t *messages[MESSAGES_PER_TURN];
    ssize_t n = rd_kafka_consume_batch_queue(c->handle.queue, 0, messages, MESSAGES_PER_TURN);
    uint64_t now_ns = rdk_now_ns();
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
        if (c->parts_n > 0 && (rdk_handle_ready(&c->handle) || all))
            more |= consumer_serve(c);
    }
    return more;
}

void rdk_consumers_take_counts(struct rdk *r)
{
    for (unsigned i = 0; i < r->consumers_n; i++) {
        struct rdk_handle *h = &r->consumers[i].handle;
        r->out.connection_rc = h->disconnects > 0 ? -ECONNRESET : r->out.connection_rc;
        if (r->out.error_code == 0)
            r->out.error_code = h->error_code;
        rdk_handle_take(h, &r->out.recorder.interval.n);
    }
}

/* ---- life ---- */

struct consumer_plan { /* a kind of consumer, over all parts: as in consumer.c */
    enum consumer_role role;
    uint64_t groups, members;
};

static unsigned plans_make(const struct rdk *r, struct consumer_plan plans[2])
{
    enum consumer_role role = r->config.consume == CONSUME_TAIL ? TAILING : FROM_START;
    unsigned n = 0;
    if (r->config.consume != CONSUME_NOTHING)
        plans[n++] = (struct consumer_plan){role, r->w->fan_out, r->w->consumers};
    if (r->config.late_stage > 0)
        plans[n++] = (struct consumer_plan){LATE, r->w->late_consumers, 1};
    return n;
}

/* Whose the i-th consumer of a plan is: behind the producers, so that with several threads they lie
 * apart. */
static bool is_mine(const struct rdk *r, uint64_t i)
{
    return (i + r->w->producers) % r->config.parts == r->config.part;
}

unsigned rdk_consumers_count(const struct rdk *r)
{
    struct consumer_plan plans[2];
    unsigned plans_n = plans_make(r, plans), n = 0;
    for (unsigned p = 0; p < plans_n; p++)
        for (uint64_t i = 0; i < plans[p].groups * plans[p].members; i++)
            n += is_mine(r, i);
    return n;
}

static void settings_make(const struct rdk_consumer *c, struct rdk_conf *conf)
{
    const struct rdk *r = c->r;
    const struct workload *w = r->w;
    uint64_t receive = MAX(w->fetch_bytes_max + RECEIVE_SLACK_BYTES, (uint64_t)RECEIVE_BYTES_LEAST);
    /* fetch.max.bytes would be raised to it. */
    uint64_t message = MIN(w->fetch_bytes_max, (uint64_t)MESSAGE_BYTES_DEFAULT);
    uint64_t prefetch = PREFETCH_KIB_ALL / rdk_consumers_count(r);
#define SET(ours, name, ...) rdk_conf_set(conf, ours, name, __VA_ARGS__)
    SET("bootstrap", "bootstrap.servers", "%s", r->config.bootstrap);
    SET("client.id", "client.id", "penstock-bench");
    SET("group.id", "group.id", "penstock-bench-%08x-%u-%u", r->config.run, r->config.part,
        (unsigned)(c - r->consumers));
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
    SET("offsets", "enable.partition.eof", c->role == TAILING ? "false" : "true");
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
        rc = rdk_handle_connect(&c->handle, r->w->topic, r->connect_limit_ns, reason, reason_size);
    if (rc > 0 && r->partitions_n == 0)
        r->partitions_n = rc;
    return rc < 0 ? rc : 0;
}

/* Where a partition begins and ends now. */
static int offsets_read(struct rdk_consumer *c, int32_t partition, struct consumer_part *to,
                        char *reason, size_t reason_size)
{
    rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(
        c->handle.rk, c->r->w->topic, partition, &to->start_offset, &to->end_offset, QUERY_MS);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    snprintf(reason, reason_size, "offsets of partition %d: librdkafka: %s", partition,
             rd_kafka_err2str(err));
    return -EPROTO;
}

static int part_init(struct rdk_consumer *c, struct consumer_part *part, char *reason,
                     size_t reason_size)
{
    struct rdk *r = c->r;
    int32_t partition = partition_of(c, c->parts_n);
    int rc = offsets_read(c, partition, part, reason, reason_size);
    if (rc < 0)
        return rc;
    part->offset = c->role == TAILING ? part->end_offset : part->start_offset;
    verify_part_init(&part->verify, partition, r->config.run, c->role != TAILING,
                     c->role == LATE ? &r->out.late_verify : &r->out.verify);
    r->consumers_unfinished += c->role == FROM_START;
    r->late_unfinished += c->role == LATE;
    c->parts_n++;
    if (c->role == FROM_START && part->offset >= part->end_offset)
        part_finish(c, part);
    return 0;
}

static void consumer_assign(struct rdk_consumer *c)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)c->parts_n);
    for (unsigned i = 0; i < c->parts_n; i++)
        if (!c->parts[i].finished)
            rd_kafka_topic_partition_list_add(list, c->r->w->topic, partition_of(c, i))->offset =
                c->parts[i].offset;
    rd_kafka_assign(c->handle.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static int consumer_init(struct rdk *r, struct rdk_consumer *c, const struct consumer_plan *plan,
                         uint64_t i, char *reason, size_t reason_size)
{
    *c = (struct rdk_consumer){
        .r = r, .role = plan->role, .member = i % plan->members, .members = plan->members};
    int rc = consumer_connect(c, reason, reason_size);
    uint64_t partitions = (uint64_t)r->partitions_n;
    if (rc < 0 || c->member >= partitions)
        return rc;
    unsigned n = (unsigned)((partitions - c->member + c->members - 1) / c->members);
    c->parts = calloc(n, sizeof(*c->parts));
    if (c->parts == NULL) {
        snprintf(reason, reason_size, "no memory for the consumers");
        return -ENOMEM;
    }
    while (rc == 0 && c->parts_n < n)
        rc = part_init(c, &c->parts[c->parts_n], reason, reason_size);
    if (rc == 0 && c->role == TAILING)
        consumer_assign(c); /* now, so that it is connected when the load begins */
    return rc;
}

int rdk_consumers_init(struct rdk *r, char *reason, size_t reason_size)
{
    struct consumer_plan plans[2];
    unsigned plans_n = plans_make(r, plans), n = rdk_consumers_count(r);
    int rc = 0;
    if (n == 0)
        return 0;
    r->consumers = calloc(n, sizeof(*r->consumers));
    if (r->consumers == NULL) {
        snprintf(reason, reason_size, "no memory for the consumers");
        return -ENOMEM;
    }
    for (unsigned p = 0; p < plans_n; p++)
        for (uint64_t i = 0; rc == 0 && i < plans[p].groups * plans[p].members; i++)
            if (is_mine(r, i))
                rc = consumer_init(r, &r->consumers[r->consumers_n++], &plans[p], i, reason,
                                   reason_size);
    return rc;
}

/* Blocks for the library's main thread to take it up, well below a millisecond. */
void rdk_consumers_start(struct rdk *r, bool late)
{
    for (unsigned i = 0; i < r->consumers_n; i++) {
        struct rdk_consumer *c = &r->consumers[i];
        if (c->parts_n > 0 && c->role == (late ? LATE : FROM_START))
            consumer_assign(c);
    }
}

void rdk_consumers_fini(struct rdk *r)
{
    for (unsigned i = 0; i < r->consumers_n; i++) {
        struct rdk_consumer *c = &r->consumers[i];
        rdk_handle_close(&c->handle);
        for (unsigned p = 0; p < c->parts_n; p++)
            verify_part_fini(&c->parts[p].verify);
        free(c->parts);
    }
    free(r->consumers);
}

void rdk_consumers_verify(struct rdk *r, const struct produced *all)
{
    for (unsigned i = 0; i < r->consumers_n && r->w->verify != VERIFY_OFF; i++) {
        struct rdk_consumer *c = &r->consumers[i];
        for (unsigned p = 0; p < c->parts_n; p++) {
            if (c->role == TAILING)
                verify_part_expect(&c->parts[p].verify, all);
            verify_part_finish(&c->parts[p].verify, all);
        }
    }
}
