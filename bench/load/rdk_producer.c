/* The producers of a load thread on librdkafka. A record's way: the schedule says when -> a
 * producer -> rd_kafka_produce() (or, while that producer's queue is full, its backlog of intended
 * times) -> the delivery report. What is known of a record meanwhile is an rdk_record, which goes
 * through the library as the message's opaque. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/rdk.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/list.h"

enum {
    REPORTS_PER_TURN = 64, /* of one producer: batches of delivery reports */
    SLAB_RECORDS = 4096,
};
#define END_NS UINT64_C(2000000000) /* for the reports of what was given up */

struct rdk_record { /* in the library's hands; free ones are chained */
    union {
        struct rdk_record *next;
        struct rdk_producer *p;
    };
    uint64_t intended_ns, called_ns, sequence;
};

struct rdk_slab {
    struct rdk_slab *next;
    struct rdk_record records[SLAB_RECORDS];
};

struct rdk_producer {
    struct rdk *r;
    struct course_producer base;
    struct rdk_handle handle;
    uint64_t *sequences; /* by partition: of the next record */
};

/* ---- records in flight ---- */

static struct rdk_record *record_new(struct rdk *r)
{
    if (r->free_records == NULL) {
        struct rdk_slab *slab = malloc(sizeof(*slab));
        if (slab == NULL)
            return NULL;
        slab->next = r->slabs;
        r->slabs = slab;
        for (unsigned i = 0; i < SLAB_RECORDS; i++) {
            slab->records[i].next = r->free_records;
            r->free_records = &slab->records[i];
        }
    }
    struct rdk_record *record = r->free_records;
    r->free_records = record->next;
    return record;
}

static void record_free(struct rdk *r, struct rdk_record *record)
{
    record->next = r->free_records;
    r->free_records = record;
}

/* ---- delivery reports ---- */

static void failed_add(struct rdk *r, int32_t partition, const struct rdk_record *record)
{
    struct sequence_range range = {record->p->base.id, record->sequence, 1, -1};
    course_failed_add(&r->course, partition, &range);
}

static void record_acked(struct rdk *r, const struct rdk_record *record, size_t bytes,
                         uint64_t now_ns)
{
    struct load_recorder *to = &r->course.out.recorder;
    to->interval.n.acked++;
    to->interval.n.acked_bytes += bytes;
    if (r->course.w->acks == 0)
        return;
    /* Where nothing is intended, nothing is late, and a record belongs to when it was sent. */
    bool closed = workload_closed_loop(r->course.w);
    load_record(to, LATENCY_ACK_SEND, closed ? record->called_ns : record->intended_ns,
                now_ns - record->called_ns, 1);
    if (!closed)
        load_record(to, LATENCY_ACK, record->intended_ns, now_ns - record->intended_ns, 1);
}

static void report_take(struct rdk *r, const rd_kafka_message_t *message, uint64_t now_ns)
{
    struct rdk_record *record = message->_private;
    struct load_counts *n = &r->course.out.recorder.interval.n;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        failed_add(r, message->partition, record);
    if (!r->ending) {
        n->sent += rd_kafka_message_status(message) != RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
        r->course.outstanding--;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            record_acked(r, record, message->len + message->key_len, now_ns);
        else
            n->failed++;
        if (message->err > 0)
            course_error(&r->course, (int16_t)message->err);
    }
    r->in_library--;
    record_free(r, record);
}

static bool producer_serve(struct rdk_producer *p)
{
    const rd_kafka_message_t *message;
    for (unsigned i = 0; i < REPORTS_PER_TURN; i++) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(p->handle.queue, 0);
        if (event == NULL)
            return false;
        uint64_t now_ns = clock_now_ns();
        while ((message = rd_kafka_event_message_next(event)) != NULL)
            report_take(p->r, message, now_ns);
        rd_kafka_event_destroy(event); /* this is what makes room in the library's queue */
        p->base.full = false;
    }
    atomic_store(&p->handle.signalled, true); /* it was not emptied: no signal will come */
    return true;
}

bool rdk_producers_serve(struct rdk *r, bool all)
{
    bool more = false;
    for (unsigned i = 0; i < r->course.producers_n; i++) {
        struct rdk_producer *p = &r->producers[i];
        if (rdk_handle_ready(&p->handle) || all)
            more |= producer_serve(p);
    }
    return more;
}

/* ---- records ---- */

/* Make the record that was intended for that time. -EAGAIN: the queue is full, or there is no
 * memory; -EIO: librdkafka will not have it. */
int rdk_record_make(struct course_producer *base, uint64_t intended_ns, uint64_t made_ns)
{
    struct rdk_producer *p = container_of(base, struct rdk_producer, base);
    struct rdk *r = p->r;
    const struct workload *w = r->course.w;
    uint8_t key_bytes[PICKER_KEY_BYTES_MAX];
    uint8_t *key = w->keys > 0 ? key_bytes : NULL;
    size_t key_len = key != NULL ? w->key_bytes : 0;
    (void)made_ns; /* each record is stamped with the moment of its own call */
    bool useless = p->handle.fatal && workload_closed_loop(w); /* it would fail, and fail again */
    struct rdk_record *record = base->full || useless ? NULL : record_new(r);
    if (record == NULL)
        return -EAGAIN;
    if (key != NULL)
        picker_key(&base->picker, &r->course.rng, key);
    int32_t partition = picker_partition(&base->picker, &r->course.rng, key);
    course_record_fill(&r->course, base, p->sequences[partition], intended_ns, r->value);
    *record = (struct rdk_record){.p = p,
                                  .intended_ns = intended_ns,
                                  .called_ns = clock_now_ns(),
                                  .sequence = p->sequences[partition]};
    if (rd_kafka_produce(p->handle.topic, partition, RD_KAFKA_MSG_F_COPY, r->value, w->record_bytes,
                         key, key_len, record) < 0) {
        record_free(r, record);
        base->full = rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL;
        return base->full ? -EAGAIN : -EIO;
    }
    p->sequences[partition]++;
    picker_took(&base->picker, COURSE_RECORD_OVERHEAD_BYTES + w->record_bytes + key_len);
    r->in_library++;
    return 0;
}

/* What waits goes before what comes due; the next turn goes on where a turn is long enough. True:
 * there is more that could go. */
static bool backlogs_run(struct rdk *r, uint64_t now_ns)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->course.producers_n && r->course.backlog_n > 0; i++)
        n += course_backlog_run(&r->course, &r->producers[i].base, COURSE_EVENTS_PER_TURN - n,
                                now_ns);
    return n == COURSE_EVENTS_PER_TURN;
}

/* ---- the producers' part of a turn ---- */

uint64_t rdk_producers_pump(struct rdk *r, uint64_t now_ns)
{
    if (r->course.producers_n == 0 || r->ending)
        return UINT64_MAX;
    bool more = backlogs_run(r, now_ns);
    uint64_t due_ns = course_producers_run(&r->course, now_ns);
    return more ? now_ns : due_ns;
}

void rdk_producers_take_counts(struct rdk *r)
{
    for (unsigned i = 0; i < r->course.producers_n; i++)
        rdk_counts_take(r, &r->producers[i].handle);
}

void rdk_producers_end(struct rdk *r)
{
    uint64_t limit_ns = clock_now_ns() + END_NS;
    r->ending = true;
    if (r->in_library == 0)
        return;
    for (unsigned i = 0; i < r->course.producers_n; i++)
        rd_kafka_purge(r->producers[i].handle.rk,
                       RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    while (r->in_library > 0 && clock_now_ns() < limit_ns)
        if (!rdk_producers_serve(r, true))
            rdk_host_wait(&r->host, clock_now_ns() + END_NS / 1000);
}

/* ---- life ---- */

static void settings_make(const struct rdk *r, struct rdk_conf *c)
{
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    const struct workload *w = r->course.w;
#define SET(ours, name, ...) rdk_conf_set(c, ours, name, __VA_ARGS__)
    SET("bootstrap", "bootstrap.servers", "%s", r->course.config.bootstrap);
    SET("client.id", "client.id", "penstock-bench");
    SET("topic", "allow.auto.create.topics", "false"); /* the topic must be there */
    SET("acks", "acks", "%lld", (long long)w->acks);
    SET("batch.size", "batch.size", "%llu", (unsigned long long)w->batch_bytes);
    SET("batch.size", "batch.num.messages", "1000000"); /* so that only bytes fill a batch */
    SET("linger.ms", "linger.ms", "%.12g", w->linger_ms);
    SET("compression.type", "compression.codec", "%s", codecs[w->codec]);
    SET("enable.idempotence", "enable.idempotence", workload_idempotent(w) ? "true" : "false");
    SET("max.in.flight.requests.per.connection", "max.in.flight.requests.per.connection", "%llu",
        (unsigned long long)w->in_flight_max);
    SET("max.request.size", "message.max.bytes", "%llu", (unsigned long long)w->request_bytes_max);
    SET("buffer.memory", "queue.buffering.max.kbytes", "%llu",
        (unsigned long long)(w->buffer_bytes / 1024));
    SET("buffer.memory", "queue.buffering.max.messages", "0"); /* so that only bytes fill it */
    SET("request.timeout.ms", "request.timeout.ms", "%.12g", w->request_timeout_ms);
    SET("request.timeout.ms", "socket.timeout.ms", "%.12g", w->request_timeout_ms);
    SET("delivery.timeout.ms", "message.timeout.ms", "%.12g", w->delivery_timeout_ms);
#undef SET
}

static int producer_connect(struct rdk *r, struct rdk_producer *p, char *reason, size_t reason_size)
{
    struct rdk_conf c;
    rdk_conf_init(&c, reason, reason_size);
    settings_make(r, &c);
    int rc = rdk_handle_open(&p->handle, &r->host, RD_KAFKA_PRODUCER, &c);
    p->handle.unacknowledged = r->course.w->acks == 0;
    if (rc == 0)
        rc = rdk_handle_connect(&p->handle, r->course.w->topic, r->connect_limit_ns, reason,
                                reason_size);
    return rc;
}

/* partitions_n is what the first producer is told. */
static int producer_init(struct rdk *r, struct rdk_producer *p, char *reason, size_t reason_size)
{
    *p = (struct rdk_producer){.r = r};
    course_producer_add(&r->course, &p->base);
    int rc = producer_connect(r, p, reason, reason_size);
    if (rc < 0)
        return rc;
    r->partitions_n = r->partitions_n == 0 ? rc : r->partitions_n;
    snprintf(reason, reason_size, "no memory for the producers");
    p->sequences = calloc((size_t)r->partitions_n, sizeof(*p->sequences));
    picker_init(&p->base.picker, r->course.w, p->base.id, r->partitions_n);
    return p->sequences == NULL ? -ENOMEM : 0;
}

int rdk_producers_init(struct rdk *r, char *reason, size_t reason_size)
{
    const struct workload *w = r->course.w;
    unsigned n = course_producers_count(&r->course);
    if (n == 0)
        return 0;
    if (w->record_bytes + (w->keys > 0 ? w->key_bytes : 0) > w->request_bytes_max) {
        snprintf(reason, reason_size, "record.size does not fit into max.request.size");
        return -EINVAL;
    }
    snprintf(reason, reason_size, "no memory for the producers");
    r->value = malloc(w->record_bytes);
    r->producers = calloc(n, sizeof(*r->producers));
    if (r->value == NULL || r->producers == NULL)
        return -ENOMEM;
    int rc = course_producers_init(&r->course);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = producer_init(r, &r->producers[i], reason, reason_size);
    return rc < 0 ? rc : course_failed_init(&r->course, r->partitions_n);
}

void rdk_producers_fini(struct rdk *r)
{
    for (unsigned i = 0; i < r->course.producers_n; i++) {
        rdk_handle_close(&r->producers[i].handle);
        free(r->producers[i].sequences);
    }
    course_producers_fini(&r->course);
    while (r->slabs != NULL) {
        struct rdk_slab *slab = r->slabs;
        r->slabs = slab->next;
        free(slab);
    }
    free(r->value);
    free(r->producers);
}

int rdk_producers_produced(const struct rdk *r, struct produced *to)
{
    int rc = course_failed_produced(&r->course, to);
    for (unsigned i = 0; rc == 0 && i < r->course.producers_n; i++)
        for (int32_t n = 0; rc == 0 && n < r->partitions_n; n++)
            rc = produced_add(to, r->producers[i].base.id, n, r->producers[i].sequences[n]);
    return rc;
}
