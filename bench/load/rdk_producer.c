/* The producers of a load thread on librdkafka. A record's way: the schedule says when -> a
 * producer -> rd_kafka_produce() (or, while that producer's queue is full, its backlog of intended
 * times) -> the delivery report. What is known of a record meanwhile is an rdk_record, which goes
 * through the library as the message's opaque. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/picker.h"
#include "bench/load/rdk.h"
#include "bench/load/time_queue.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

enum {
    EVENTS_PER_TURN = 8192,      /* then what has come in is looked at */
    REPORTS_PER_TURN = 64,       /* of one producer: batches of delivery reports */
    BURST_BYTES = 1 << 20,       /* of a closed loop's producer, in a turn */
    BACKLOG_MAX = 64 << 20,      /* intended times that wait, of all producers */
    QUANTUM_NS_MAX = 100 * 1000, /* between looks at the schedule while batches linger */
    QUANTA_PER_LINGER = 20,      /* so that linger.ms is not stretched by more than a part */
    RECORD_OVERHEAD_BYTES = 24,  /* generous: lengths and deltas of a record in a batch */
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
    uint32_t id;
    struct rdk_handle handle;
    uint64_t *sequences; /* by partition: of the next record */
    struct picker picker;
    struct time_queue backlog;
    bool full;
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

/* Reports of a partition come in order, so that those that failed together are one range. */
static void failed_add(struct rdk *r, int32_t partition, const struct rdk_record *record)
{
    struct sequence_ranges *failed = &r->failed[partition];
    struct sequence_range *last = failed->n > 0 ? &failed->at[failed->n - 1] : NULL;
    if (last != NULL && last->producer == record->p->id &&
        last->first + last->count == record->sequence) {
        last->count++;
        return;
    }
    /* Without memory for it the record will be called lost: not silent, only unfair. */
    sequence_ranges_add(failed, &(struct sequence_range){record->p->id, record->sequence, 1, -1});
}

static void record_acked(struct rdk *r, const struct rdk_record *record, size_t bytes,
                         uint64_t now_ns)
{
    struct load_recorder *to = &r->out.recorder;
    to->interval.n.acked++;
    to->interval.n.acked_bytes += bytes;
    if (r->w->acks == 0)
        return;
    load_record(to, LATENCY_ACK_SEND, record->intended_ns, now_ns - record->called_ns, 1);
    if (!workload_closed_loop(r->w)) /* where nothing is intended, nothing is late */
        load_record(to, LATENCY_ACK, record->intended_ns, now_ns - record->intended_ns, 1);
}

static void report_take(struct rdk *r, const rd_kafka_message_t *message, uint64_t now_ns)
{
    struct rdk_record *record = message->_private;
    struct load_counts *n = &r->out.recorder.interval.n;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        failed_add(r, message->partition, record);
    if (!r->ending) {
        n->sent += rd_kafka_message_status(message) != RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
        r->outstanding--;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            record_acked(r, record, message->len + message->key_len, now_ns);
        else
            n->failed++;
        if (message->err > 0 && r->out.error_code == 0)
            r->out.error_code = (int16_t)message->err;
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
        uint64_t now_ns = rdk_now_ns();
        while ((message = rd_kafka_event_message_next(event)) != NULL)
            report_take(p->r, message, now_ns);
        rd_kafka_event_destroy(event); /* this is what makes room in the library's queue */
        p->full = false;
    }
    atomic_store(&p->handle.signalled, true); /* it was not emptied: no signal will come */
    return true;
}

bool rdk_producers_serve(struct rdk *r, bool all)
{
    bool more = false;
    for (unsigned i = 0; i < r->producers_n; i++) {
        struct rdk_producer *p = &r->producers[i];
        if (rdk_handle_ready(&p->handle) || all)
            more |= producer_serve(p);
    }
    return more;
}

/* ---- records ---- */

/* Make the record that was intended for that time. -EAGAIN: the queue is full, or there is no
 * memory; -EIO: librdkafka will not have it. */
static int record_make(struct rdk_producer *p, uint64_t intended_ns)
{
    struct rdk *r = p->r;
    const struct workload *w = r->w;
    uint8_t key_bytes[PICKER_KEY_BYTES_MAX];
    uint8_t *key = w->keys > 0 ? key_bytes : NULL;
    size_t key_len = key != NULL ? w->key_bytes : 0;
    struct rdk_record *record = p->full ? NULL : record_new(r);
    if (record == NULL)
        return -EAGAIN;
    if (key != NULL)
        picker_key(&p->picker, &r->rng, key);
    int32_t partition = picker_partition(&p->picker, &r->rng, key);
    struct record_head head = {.run = r->config.run,
                               .producer = p->id,
                               .clock = r->clock_id,
                               .sequence = p->sequences[partition],
                               .stamp_ns = intended_ns};
    record_fill(r->value, &r->bodies, &head);
    *record = (struct rdk_record){
        .p = p, .intended_ns = intended_ns, .called_ns = rdk_now_ns(), .sequence = head.sequence};
    if (rd_kafka_produce(p->handle.topic, partition, RD_KAFKA_MSG_F_COPY, r->value, w->record_bytes,
                         key, key_len, record) < 0) {
        record_free(r, record);
        p->full = rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL;
        return p->full ? -EAGAIN : -EIO;
    }
    p->sequences[partition]++;
    picker_took(&p->picker, RECORD_OVERHEAD_BYTES + w->record_bytes + key_len);
    r->in_library++;
    return 0;
}

static void record_refused(struct rdk *r)
{
    r->out.recorder.interval.n.failed++;
    r->outstanding--;
}

static struct rdk_producer *producer_pick(struct rdk *r)
{
    if (r->schedule_random)
        return &r->producers[rng_below(&r->rng, r->producers_n)];
    r->producer_next = (r->producer_next + 1) % r->producers_n;
    return &r->producers[r->producer_next];
}

static void event_run(struct rdk *r, uint64_t intended_ns, uint64_t now_ns)
{
    struct rdk_producer *p = producer_pick(r);
    load_record(&r->out.recorder, LATENCY_LATE, intended_ns, now_ns - intended_ns, 1);
    r->out.recorder.interval.n.intended++;
    r->outstanding++;
    int rc = p->backlog.n == 0 ? record_make(p, intended_ns) : -EAGAIN;
    if (rc == 0)
        return;
    if (rc == -EAGAIN && time_queue_push(&p->backlog, intended_ns))
        r->backlog_n++;
    else
        record_refused(r);
}

/* True: more is due already. */
static bool schedule_run(struct rdk *r, uint64_t now_ns)
{
    for (unsigned n = 0; n < EVENTS_PER_TURN && r->backlog_n < BACKLOG_MAX; n++) {
        uint64_t t = schedule_peek(&r->schedule);
        if (t == SCHEDULE_NEVER || r->start_ns + t > now_ns)
            return false;
        schedule_next(&r->schedule);
        event_run(r, r->start_ns + t, now_ns);
    }
    return r->backlog_n < BACKLOG_MAX;
}

/* A closed loop: records are made while there is room. */
static bool fill(struct rdk_producer *p, uint64_t now_ns)
{
    struct rdk *r = p->r;
    uint64_t burst = MAX((uint64_t)1, BURST_BYTES / r->w->record_bytes);
    bool limited = r->config.records_max > 0;
    if (p->handle.fatal)
        return false;
    for (uint64_t i = 0; i < burst; i++) {
        int rc = limited && r->records_left == 0 ? -EAGAIN : record_make(p, now_ns);
        if (rc == -EAGAIN)
            return false;
        r->records_left -= limited;
        r->out.recorder.interval.n.intended++;
        r->outstanding++;
        if (rc < 0)
            record_refused(r);
    }
    return true;
}

static bool closed_loop_run(struct rdk *r, uint64_t now_ns)
{
    bool more = false;
    for (unsigned i = 0; i < r->producers_n; i++)
        more |= fill(&r->producers[i], now_ns);
    return more;
}

/* What waits goes before what comes due; the next turn goes on where a turn is long enough. True:
 * there is more that could go. */
static bool backlogs_run(struct rdk *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->producers_n && r->backlog_n > 0; i++) {
        struct rdk_producer *p = &r->producers[i];
        for (; p->backlog.n > 0 && n < EVENTS_PER_TURN; n++) {
            int rc = record_make(p, time_queue_head(&p->backlog));
            if (rc == -EAGAIN)
                break;
            time_queue_pop(&p->backlog);
            r->backlog_n--;
            if (rc < 0)
                record_refused(r);
        }
    }
    return n == EVENTS_PER_TURN;
}

/* ---- the producers' part of a turn ---- */

static void fullness_count(struct rdk *r, uint64_t now_ns)
{
    unsigned full = 0;
    for (unsigned i = 0; i < r->producers_n; i++)
        full += r->producers[i].full;
    if (r->all_full && now_ns > r->full_since_ns)
        r->out.recorder.interval.n.buffers_full_ns += now_ns - r->full_since_ns;
    r->all_full = full == r->producers_n;
    r->full_since_ns = now_ns;
}

static uint64_t schedule_due(const struct rdk *r, uint64_t now_ns)
{
    uint64_t t = schedule_peek(&r->schedule);
    uint64_t quantum_ns =
        MIN((uint64_t)(r->w->linger_ms * 1e6) / QUANTA_PER_LINGER, (uint64_t)QUANTUM_NS_MAX);
    return t == SCHEDULE_NEVER ? UINT64_MAX : MAX(r->start_ns + t, now_ns + quantum_ns);
}

uint64_t rdk_producers_pump(struct rdk *r, uint64_t now_ns)
{
    uint64_t due_ns = UINT64_MAX;
    if (r->producers_n == 0 || r->ending)
        return UINT64_MAX;
    bool more = backlogs_run(r);
    if (r->scheduling && workload_closed_loop(r->w)) {
        more |= closed_loop_run(r, now_ns);
    } else if (r->scheduling) {
        more |= schedule_run(r, now_ns);
        due_ns = schedule_due(r, now_ns);
    }
    fullness_count(r, now_ns);
    return more ? now_ns : due_ns;
}

void rdk_producers_take_counts(struct rdk *r)
{
    for (unsigned i = 0; i < r->producers_n; i++) {
        struct rdk_handle *h = &r->producers[i].handle;
        r->out.connection_rc = h->disconnects > 0 ? -ECONNRESET : r->out.connection_rc;
        if (r->out.error_code == 0)
            r->out.error_code = h->error_code;
        rdk_handle_take(h, &r->out.recorder.interval.n);
    }
}

void rdk_producers_end(struct rdk *r)
{
    uint64_t limit_ns = rdk_now_ns() + END_NS;
    r->ending = true;
    if (r->in_library == 0)
        return;
    for (unsigned i = 0; i < r->producers_n; i++)
        rd_kafka_purge(r->producers[i].handle.rk,
                       RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    while (r->in_library > 0 && rdk_now_ns() < limit_ns)
        if (!rdk_producers_serve(r, true))
            rdk_host_wait(&r->host, rdk_now_ns() + END_NS / 1000);
}

/* ---- life ---- */

unsigned rdk_producers_count(const struct rdk *r)
{
    uint64_t all = r->w->producers, part = r->config.part;
    uint64_t parts = MIN((uint64_t)r->config.parts, all); /* of the schedule */
    return !r->config.produce || part >= parts ? 0 : (unsigned)((all - part + parts - 1) / parts);
}

static void settings_make(const struct rdk *r, struct rdk_conf *c)
{
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    const struct workload *w = r->w;
#define SET(ours, name, ...) rdk_conf_set(c, ours, name, __VA_ARGS__)
    SET("bootstrap", "bootstrap.servers", "%s", r->config.bootstrap);
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
    p->handle.unacknowledged = r->w->acks == 0;
    if (rc == 0)
        rc = rdk_handle_connect(&p->handle, r->w->topic, r->connect_limit_ns, reason, reason_size);
    return rc;
}

/* partitions_n is what the first producer is told. */
static int producer_init(struct rdk *r, struct rdk_producer *p, uint32_t id, char *reason,
                         size_t reason_size)
{
    *p = (struct rdk_producer){.r = r, .id = id};
    int rc = producer_connect(r, p, reason, reason_size);
    if (rc < 0)
        return rc;
    r->partitions_n = r->partitions_n == 0 ? rc : r->partitions_n;
    snprintf(reason, reason_size, "no memory for the producers");
    p->sequences = calloc((size_t)r->partitions_n, sizeof(*p->sequences));
    picker_init(&p->picker, r->w, id, r->partitions_n);
    return p->sequences == NULL ? -ENOMEM : 0;
}

int rdk_producers_init(struct rdk *r, char *reason, size_t reason_size)
{
    const struct workload *w = r->w;
    unsigned n = rdk_producers_count(r);
    if (n == 0)
        return 0;
    if (w->record_bytes + (w->keys > 0 ? w->key_bytes : 0) > w->request_bytes_max) {
        snprintf(reason, reason_size, "record.size does not fit into max.request.size");
        return -EINVAL;
    }
    snprintf(reason, reason_size, "no memory for the producers");
    r->schedule_parts = (unsigned)MIN((uint64_t)r->config.parts, w->producers);
    r->records_left = r->config.records_max;
    r->value = malloc(w->record_bytes);
    r->producers = calloc(n, sizeof(*r->producers));
    if (r->value == NULL || r->producers == NULL)
        return -ENOMEM;
    int rc = body_set_init(&r->bodies, w->record_bytes, w->entropy, w->seed);
    for (; rc == 0 && r->producers_n < n; r->producers_n++)
        rc =
            producer_init(r, &r->producers[r->producers_n],
                          r->config.part + r->producers_n * r->schedule_parts, reason, reason_size);
    if (rc < 0)
        return rc;
    r->failed = calloc((size_t)r->partitions_n, sizeof(*r->failed));
    return r->failed == NULL ? -ENOMEM : 0;
}

void rdk_producers_fini(struct rdk *r)
{
    for (unsigned i = 0; i < r->producers_n; i++) {
        rdk_handle_close(&r->producers[i].handle);
        free(r->producers[i].sequences);
        time_queue_fini(&r->producers[i].backlog);
    }
    while (r->slabs != NULL) {
        struct rdk_slab *slab = r->slabs;
        r->slabs = slab->next;
        free(slab);
    }
    for (int32_t i = 0; r->failed != NULL && i < r->partitions_n; i++)
        sequence_ranges_fini(&r->failed[i]);
    free(r->failed);
    free(r->value);
    free(r->producers);
    body_set_fini(&r->bodies);
}

int rdk_producers_produced(const struct rdk *r, struct produced *to)
{
    int rc = 0;
    for (int32_t i = 0; rc == 0 && r->failed != NULL && i < r->partitions_n; i++)
        for (size_t f = 0; rc == 0 && f < r->failed[i].n; f++)
            rc = produced_add_failed(to, i, &r->failed[i].at[f]);
    for (unsigned i = 0; rc == 0 && i < r->producers_n; i++)
        for (int32_t n = 0; rc == 0 && n < r->partitions_n; n++)
            rc = produced_add(to, r->producers[i].id, n, r->producers[i].sequences[n]);
    return rc;
}
