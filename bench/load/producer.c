/* The producers of a load thread. A record's way: the schedule says when -> a producer -> the open
 * batch of a partition (or, while that producer's memory is full, its backlog of intended times) ->
 * full, or older than linger.ms: ready at the link to the leader -> a request -> acknowledged, or
 * sent again. A ready batch goes on filling until its request is made, as in Kafka's own client. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/kafka.h"
#include "bench/load/loader.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/batch/builder.h"
#include "net/wire/messages.h"

enum {
    RETRY_NS = 100 * 1000 * 1000, /* retry.backoff.ms, reconnect.backoff.ms */
    IN_BYTES = 4096,
    OPEN_LOOKED_AT_MAX = 256, /* batches; with more, each record is looked at */
    FRAME_FIXED_BYTES = 512,  /* of a request, beside its batches */
    FRAME_PER_BATCH_BYTES = 16,
};

struct cell { /* what a producer has for a partition */
    struct producer *p;
    struct list_node ready; /* load_batch, in order */
    struct list_node link;  /* in a producer_link's cells, while something is ready */
    struct load_batch *open;
    uint64_t sequence; /* of the next record */
    int32_t partition;
    int32_t base_sequence; /* of the next batch, for the broker */
    uint16_t in_flight, retrying;
};

struct producer_link { /* to one node */
    struct rpc_conn conn;
    struct producer *p;
    unsigned node;
    struct list_node cells; /* that have something ready; each request begins with the next */
    struct list_node dirty; /* in loader.dirty */
    struct list_node down;  /* in loader.down */
    unsigned in_flight;
    uint64_t reopen_ns;
};

struct producer {
    struct loader *l;
    struct course_producer base;
    struct cell *cells; /* by partition */
    struct producer_link *links[CLUSTER_NODES_MAX];
    struct list_node woken; /* in loader.blocked: has a backlog and memory again */
    uint64_t used_bytes;
    int64_t producer_id;
    int16_t epoch;
};

struct load_batch {
    struct list_node age;  /* in loader.open */
    struct list_node link; /* ready, in a request, in loader.retries, or free */
    struct producer *p;
    int32_t partition;
    bool ready, finished, retrying;
    struct batch_builder builder;
    struct iovec bytes; /* finished */
    uint64_t *times;    /* intended, of each record */
    uint32_t records, times_cap;
    uint64_t first_sequence, payload_bytes, reserved_bytes;
    uint64_t created_ns, retry_ns;
};

struct produce_call {
    struct rpc rpc;
    struct list_node link; /* free */
    struct producer_link *at;
    struct list_node batches;
    unsigned batches_n;
    struct wire_writer writer;
    struct iovec *iov;
    unsigned iov_cap;
};

/* ---- batches ---- */

static struct cell *cell_of(const struct load_batch *b)
{
    return &b->p->cells[b->partition];
}

static struct load_batch *batch_new(struct loader *l)
{
    struct list_node *node = list_pop_head(&l->batch_pool);
    if (node != NULL)
        return container_of(node, struct load_batch, link);
    struct load_batch *b = calloc(1, sizeof(*b));
    if (b != NULL)
        batch_builder_init(&b->builder, (enum batch_codec)l->course.w->codec);
    return b;
}

static void batch_free(struct load_batch *b)
{
    batch_builder_fini(&b->builder);
    free(b->times);
    free(b);
}

/* By age: a backlog's batches may be younger than those of the schedule's next records. */
static void open_insert(struct loader *l, struct load_batch *b)
{
    struct list_node *before = l->open.prev;
    while (before != &l->open &&
           container_of(before, struct load_batch, age)->created_ns > b->created_ns)
        before = before->prev;
    list_insert_between(&b->age, before, before->next);
}

static struct load_batch *batch_open(struct producer *p, int32_t partition, uint64_t record_bytes,
                                     uint64_t made_ns)
{
    struct loader *l = p->l;
    uint64_t reserve = MAX(l->course.w->batch_bytes, record_bytes + BATCH_HEADER_BYTES);
    struct load_batch *b = NULL;
    if (p->used_bytes + reserve <= l->course.w->buffer_bytes)
        b = batch_new(l);
    if (b == NULL)
        return NULL;
    p->used_bytes += reserve;
    batch_builder_reset(&b->builder);
    b->p = p;
    b->partition = partition;
    b->ready = b->finished = b->retrying = false;
    b->records = 0;
    b->payload_bytes = 0;
    b->reserved_bytes = reserve;
    b->created_ns = made_ns;
    b->first_sequence = p->cells[partition].sequence;
    p->cells[partition].open = b;
    open_insert(l, b);
    return b;
}

static void batch_release(struct load_batch *b)
{
    struct producer *p = b->p;
    struct loader *l = p->l;
    p->used_bytes -= b->reserved_bytes;
    list_push_head(&l->batch_pool, &b->link);
    if (p->base.backlog.n > 0 && !list_linked(&p->woken))
        list_push_tail(&l->blocked, &p->woken);
}

static void link_touch(struct producer_link *k)
{
    if (!list_linked(&k->dirty))
        list_push_tail(&k->p->l->dirty, &k->dirty);
}

static struct producer_link *link_get(struct producer *p, unsigned node);

/* The link to the leader as known; a wrong guess is answered, and the leaders are read again. */
static struct producer_link *link_of(const struct cell *cell)
{
    int16_t node = cell->p->l->cluster.leaders[cell->partition];
    return link_get(cell->p, node < 0 ? 0 : (unsigned)node);
}

/* In order, also one that is sent again. */
static void ready_insert(struct cell *cell, struct load_batch *b)
{
    list_for_each(it, &cell->ready) {
        if (container_of(it, struct load_batch, link)->first_sequence > b->first_sequence) {
            list_insert_between(&b->link, it->prev, it);
            return;
        }
    }
    list_push_tail(&cell->ready, &b->link);
}

static void batch_ready(struct load_batch *b)
{
    struct cell *cell = cell_of(b);
    struct producer_link *k = b->ready ? NULL : link_of(cell);
    if (k == NULL)
        return; /* it is already, or there is no memory for a link and it is tried again */
    b->ready = true;
    list_remove(&b->age);
    if (b->retrying)
        ready_insert(cell, b);
    else
        list_push_tail(&cell->ready, &b->link);
    if (!list_linked(&cell->link))
        list_push_tail(&k->cells, &cell->link);
    link_touch(k);
}

/* No more records go into it. */
static int batch_finish(struct load_batch *b)
{
    struct cell *cell = cell_of(b);
    struct batch_builder *builder = &b->builder;
    uint8_t *data;
    size_t len;
    if (b->finished)
        return 0;
    if (cell->open == b)
        cell->open = NULL;
    if (workload_idempotent(b->p->l->course.w)) {
        builder->producer_id = b->p->producer_id;
        builder->producer_epoch = b->p->epoch;
        builder->base_sequence = cell->base_sequence;
        cell->base_sequence = (int32_t)(((uint32_t)cell->base_sequence + b->records) & INT32_MAX);
    }
    int rc = batch_builder_finish(builder, &data, &len);
    if (rc < 0)
        return rc;
    b->bytes = (struct iovec){data, len};
    b->finished = true;
    return 0;
}

static void batch_failed(struct load_batch *b)
{
    struct loader *l = b->p->l;
    struct sequence_range range = {b->p->base.id, b->first_sequence, b->records, -1};
    course_failed_add(&l->course, b->partition, &range);
    if (b->retrying)
        cell_of(b)->retrying--;
    course_counts(&l->course)->failed += b->records;
    l->course.outstanding -= b->records;
    batch_release(b);
}

static void latencies_record(struct loader *l, const struct load_batch *b, uint64_t sent_ns)
{
    struct load_recorder *r = &l->course.out.recorder;
    uint64_t now_ns = env_now_ns(l->env);
    uint64_t first = b->times[0], last = b->times[b->records - 1];
    if (workload_closed_loop(l->course.w)) { /* where nothing is intended, nothing is late */
        load_record(r, LATENCY_ACK_SEND, sent_ns, now_ns - sent_ns, b->records);
        return;
    }
    bool one_window = load_window_of(r, first) == load_window_of(r, last);
    if (one_window)
        load_record(r, LATENCY_ACK_SEND, first, now_ns - sent_ns, b->records);
    for (uint32_t i = 0; i < b->records; i++) {
        uint64_t t = b->times[i];
        if (!one_window)
            load_record(r, LATENCY_ACK_SEND, t, now_ns - sent_ns, 1);
        load_record(r, LATENCY_ACK, t, now_ns - t, 1);
    }
}

static void batch_acked(struct load_batch *b, uint64_t sent_ns)
{
    struct loader *l = b->p->l;
    if (l->course.w->acks != 0)
        latencies_record(l, b, sent_ns);
    if (b->retrying)
        cell_of(b)->retrying--;
    course_counts(&l->course)->acked += b->records;
    course_counts(&l->course)->acked_bytes += b->payload_bytes;
    l->course.outstanding -= b->records;
    batch_release(b);
}

static void batch_retry(struct load_batch *b)
{
    struct loader *l = b->p->l;
    uint64_t now_ns = env_now_ns(l->env);
    uint64_t limit_ns = (uint64_t)(l->course.w->delivery_timeout_ms * 1e6);
    cluster_refresh(&l->cluster);
    if (now_ns - b->created_ns > limit_ns) {
        batch_failed(b);
        return;
    }
    if (!b->retrying)
        cell_of(b)->retrying++;
    b->retrying = true;
    b->ready = false;
    b->retry_ns = now_ns + RETRY_NS;
    course_counts(&l->course)->retries++;
    list_push_tail(&l->retries, &b->link);
}

/* ---- records ---- */

static bool times_reserve(struct load_batch *b)
{
    if (b->records < b->times_cap)
        return true;
    uint32_t cap = MAX(64u, b->times_cap * 2);
    uint64_t *times = reallocarray(b->times, cap, sizeof(*times));
    if (times == NULL)
        return false;
    b->times = times;
    b->times_cap = cap;
    return true;
}

/* No other record of this size fits. */
static bool batch_is_full(const struct load_batch *b, uint64_t record_bytes)
{
    return batch_builder_plain_bytes(&b->builder) + record_bytes > b->p->l->course.w->batch_bytes;
}

/* The open batch that takes the next record of this size; NULL: the producer's memory is full. */
static struct load_batch *batch_for(struct producer *p, int32_t partition, uint64_t record_bytes,
                                    uint64_t made_ns)
{
    struct load_batch *b = p->cells[partition].open;
    if (b != NULL && batch_is_full(b, record_bytes)) {
        p->cells[partition].open = NULL;
        batch_ready(b);
        b = NULL;
    }
    if (b == NULL)
        b = batch_open(p, partition, record_bytes, made_ns);
    return b != NULL && times_reserve(b) ? b : NULL;
}

static uint64_t record_bytes_of(const struct workload *w)
{
    return COURSE_RECORD_OVERHEAD_BYTES + w->record_bytes + (w->keys > 0 ? w->key_bytes : 0);
}

/* Of the batches that linger, the fullest decides; one that waits for its request already does not
 * go sooner for being full. */
unsigned load_room_least(struct course *base)
{
    struct loader *l = container_of(base, struct loader, course);
    const struct workload *w = base->w;
    uint64_t record_bytes = record_bytes_of(w), room = w->batch_bytes;
    unsigned n = 0;
    list_for_each(it, &l->open) {
        const struct load_batch *b = container_of(it, struct load_batch, age);
        uint64_t bytes = batch_builder_plain_bytes(&b->builder);
        room = MIN(room, w->batch_bytes - MIN(bytes, w->batch_bytes));
        if (++n == OPEN_LOOKED_AT_MAX)
            return 0;
    }
    return (unsigned)(MIN(room, (uint64_t)UINT32_MAX) / record_bytes);
}

/* A record of so many bytes has gone into it; full, it need not wait for the next one. */
static void batch_took(struct course_producer *base, struct load_batch *b, uint64_t record_bytes)
{
    const struct workload *w = b->p->l->course.w;
    bool full = batch_is_full(b, record_bytes_of(w));
    picker_took(&base->picker, record_bytes);
    if (full)
        picker_batch_full(&base->picker);
    if (full || w->linger_ms == 0)
        batch_ready(b);
}

/* Make the record that was intended for that time. -EAGAIN: there is no room for it. */
int load_record_make(struct course_producer *base, uint64_t intended_ns, uint64_t made_ns)
{
    struct producer *p = container_of(base, struct producer, base);
    struct loader *l = p->l;
    const struct workload *w = l->course.w;
    uint8_t bytes[PICKER_KEY_BYTES_MAX], *value, *key = w->keys > 0 ? bytes : NULL;
    uint32_t key_len = key != NULL ? (uint32_t)w->key_bytes : 0;
    uint64_t record_bytes = record_bytes_of(w);
    if (base->full && p->used_bytes + w->batch_bytes > w->buffer_bytes)
        return -EAGAIN; /* as a moment ago: not worth a key */
    if (key != NULL)
        picker_key(&base->picker, &l->course.rng, key);
    int32_t partition = picker_partition(&base->picker, &l->course.rng, key);
    struct load_batch *b = batch_for(p, partition, record_bytes, made_ns);
    uint64_t bytes_before = b != NULL ? batch_builder_plain_bytes(&b->builder) : 0;
    if (b == NULL ||
        batch_builder_add_room(&b->builder, l->wall_ms, key, key != NULL ? (int32_t)key_len : -1,
                               (int32_t)w->record_bytes, &value) < 0) {
        base->full = true;
        return -EAGAIN;
    }
    course_record_fill(&l->course, base, p->cells[partition].sequence++, intended_ns, value);
    b->times[b->records++] = intended_ns;
    b->payload_bytes += w->record_bytes + key_len;
    base->full = false;
    batch_took(base, b, batch_builder_plain_bytes(&b->builder) - bytes_before);
    return 0;
}

static void backlogs_run(struct loader *l, uint64_t now_ns)
{
    struct list_node *node;
    while ((node = list_pop_head(&l->blocked)) != NULL) {
        struct producer *p = container_of(node, struct producer, woken);
        course_backlog_run(&l->course, &p->base, UINT_MAX, now_ns);
    }
}

/* ---- requests ---- */

static struct produce_call *request_new(struct loader *l)
{
    struct list_node *node = list_pop_head(&l->call_pool);
    if (node != NULL)
        return container_of(node, struct produce_call, link);
    struct produce_call *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    wire_writer_init(&r->writer);
    list_init(&r->batches);
    return r;
}

static void request_free(struct produce_call *r)
{
    wire_writer_fini(&r->writer);
    free(r->iov);
    free(r);
}

/* The batch of a partition that may go out now. One that comes again goes alone, before all others,
 * so that the order stays. */
static struct load_batch *sendable(const struct cell *cell)
{
    struct load_batch *b = container_of(list_head(&cell->ready), struct load_batch, link);
    return cell->retrying == 0 || (cell->in_flight == 0 && b->retrying) ? b : NULL;
}

static uint64_t batch_size_bound(const struct load_batch *b)
{
    return FRAME_PER_BATCH_BYTES +
           (b->finished ? b->bytes.iov_len : batch_builder_plain_bytes(&b->builder));
}

static void batch_collect(struct produce_call *r, struct cell *cell, struct load_batch *b)
{
    list_remove(&b->link);
    if (batch_finish(b) < 0) {
        batch_failed(b);
    } else {
        list_push_tail(&r->batches, &b->link);
        r->batches_n++;
    }
    if (!list_empty(&cell->ready))
        list_push_tail(&r->at->cells, &cell->link);
}

/* One batch of each partition that has one, until the request is full. */
static void request_collect(struct producer_link *k, struct produce_call *r)
{
    uint64_t bytes = FRAME_FIXED_BYTES;
    struct list_node cells, *node;
    list_init(&cells);
    list_splice_tail(&cells, &k->cells);
    while ((node = list_pop_head(&cells)) != NULL) {
        struct cell *cell = container_of(node, struct cell, link);
        struct load_batch *b = sendable(cell);
        bytes += b != NULL ? batch_size_bound(b) : 0;
        if (r->batches_n > 0 && bytes > k->p->l->course.w->request_bytes_max) {
            list_push_head(&cells, node);
            break;
        }
        if (b != NULL)
            batch_collect(r, cell, b);
        else
            list_push_tail(&k->cells, node);
    }
    list_splice_tail(&cells, &k->cells); /* first what had no turn, then what had */
    list_splice_tail(&k->cells, &cells);
}

static int request_encode(struct loader *l, struct produce_call *r)
{
    struct produce_request_partition_produce_data *parts = l->parts_scratch;
    struct produce_request_topic_produce_data topic;
    struct produce_request request;
    unsigned n = 0;
    uint64_t records = 0;
    list_for_each(it, &r->batches) {
        struct load_batch *b = container_of(it, struct load_batch, link);
        parts[n++] = (struct produce_request_partition_produce_data){
            .index = b->partition,
            .records = {.iov = &b->bytes, .iov_n = 1, .len = (int32_t)b->bytes.iov_len}};
        records += b->records;
    }
    wire_set_defaults(&produce_request_topic_produce_data_schema, &topic);
    wire_set_defaults(&produce_request_schema, &request);
    topic.name = wire_str_of(l->cluster.topic);
    topic.partition_data = parts;
    topic.partition_data_n = (int32_t)n;
    request.acks = (int16_t)l->course.w->acks;
    request.timeout_ms = (int32_t)l->course.w->request_timeout_ms;
    request.topic_data = &topic;
    request.topic_data_n = 1;
    if (r->iov_cap < 2 * n + 1) {
        struct iovec *iov = reallocarray(r->iov, 2 * n + 1, sizeof(*iov));
        if (iov == NULL)
            return -ENOMEM;
        r->iov = iov;
        r->iov_cap = 2 * n + 1;
    }
    int rc = rpc_encode(&r->rpc, wire_api_find(KAFKA_PRODUCE), l->produce_version, ++l->correlation,
                        &request, &r->writer, r->iov, r->iov_cap);
    if (rc < 0)
        return rc;
    course_counts(&l->course)->requests++;
    course_counts(&l->course)->batches += n;
    course_counts(&l->course)->sent += records;
    for (unsigned i = 0; i < r->rpc.iov_n; i++)
        course_counts(&l->course)->request_bytes += r->iov[i].iov_len;
    return 0;
}

static void request_end(struct produce_call *r)
{
    ASSERT(list_empty(&r->batches));
    r->batches_n = 0;
    list_remove(&r->link);
    list_push_head(&r->at->p->l->call_pool, &r->link);
}

static void request_give_up(struct produce_call *r)
{
    struct list_node *node;
    while ((node = list_pop_head(&r->batches)) != NULL)
        batch_failed(container_of(node, struct load_batch, link));
    request_end(r);
}

/* Kafka answers in its own order of partitions; mostly ours. */
static struct load_batch *request_batch(struct produce_call *r, int32_t partition)
{
    list_for_each(it, &r->batches) {
        struct load_batch *b = container_of(it, struct load_batch, link);
        if (b->partition == partition)
            return b;
    }
    return NULL;
}

static void batch_answered(struct load_batch *b, int16_t error, uint64_t sent_ns)
{
    list_remove(&b->link);
    cell_of(b)->in_flight--;
    if (error == 0 || error == KAFKA_DUPLICATE_SEQUENCE_NUMBER)
        batch_acked(b, sent_ns);
    else if (kafka_retriable(error))
        batch_retry(b);
    else
        batch_failed(b);
    course_error(&b->p->l->course, error);
}

static int answer_take(struct produce_call *r, uint8_t *body, uint32_t len)
{
    struct loader *l = r->at->p->l;
    struct produce_response response;
    const struct wire_api *api = r->rpc.api;
    arena_reset(&l->arena);
    int rc = wire_decode(api->response, r->rpc.version, wire_response_flexible(api, r->rpc.version),
                         body, len, &l->arena, &response);
    for (int32_t t = 0; rc == 0 && t < response.responses_n; t++)
        for (int32_t i = 0; i < response.responses[t].partition_responses_n; i++) {
            const struct produce_response_partition_produce_response *part =
                &response.responses[t].partition_responses[i];
            struct load_batch *b = request_batch(r, part->index);
            if (b != NULL)
                batch_answered(b, part->error_code, r->rpc.sent_ns);
        }
    return rc == 0 && !list_empty(&r->batches) ? -EPROTO : rc;
}

/* acks=0: what a broken connection took with it nobody knows. */
static void request_broken(struct produce_call *r)
{
    struct list_node *node;
    while ((node = list_pop_head(&r->batches)) != NULL) {
        struct load_batch *b = container_of(node, struct load_batch, link);
        cell_of(b)->in_flight--;
        if (r->rpc.unanswered)
            batch_failed(b);
        else
            batch_retry(b);
    }
}

static void on_produced(struct rpc *rpc, int rc, uint8_t *body, uint32_t len)
{
    struct produce_call *r = container_of(rpc, struct produce_call, rpc);
    struct producer_link *k = r->at;
    struct list_node *node;
    if (rc == 0 && rpc->unanswered)
        while ((node = list_head(&r->batches)) != NULL)
            batch_answered(container_of(node, struct load_batch, link), 0, rpc->sent_ns);
    else if (rc == 0)
        rc = answer_take(r, body, len);
    if (rc < 0) {
        request_broken(r);
        rpc_conn_close(&k->conn, rc);
    }
    k->in_flight--;
    request_end(r);
    link_touch(k);
}

static bool request_make(struct producer_link *k)
{
    struct loader *l = k->p->l;
    struct produce_call *r = request_new(l);
    if (r == NULL)
        return false;
    r->at = k;
    request_collect(k, r);
    if (r->batches_n == 0) {
        request_end(r);
        return false;
    }
    if (request_encode(l, r) < 0) {
        request_give_up(r);
        return true;
    }
    list_for_each(it, &r->batches)
        cell_of(container_of(it, struct load_batch, link))->in_flight++;
    r->rpc.on_done = on_produced;
    r->rpc.unanswered = l->course.w->acks == 0;
    k->in_flight++;
    list_push_tail(&l->calls, &r->link);
    rpc_send(&k->conn, &r->rpc);
    return true;
}

/* ---- links ---- */

static void on_link_open(struct rpc_conn *conn)
{
    link_touch(container_of(conn, struct producer_link, conn));
}

static void on_link_closed(struct rpc_conn *conn, int rc)
{
    struct producer_link *k = container_of(conn, struct producer_link, conn);
    struct loader *l = k->p->l;
    if (l->closing)
        return;
    course_counts(&l->course)->reconnects++;
    l->course.out.connection_rc = rc;
    cluster_refresh(&l->cluster);
    k->reopen_ns = env_now_ns(l->env) + RETRY_NS;
    list_push_tail(&l->down, &k->down);
}

static struct producer_link *link_get(struct producer *p, unsigned node)
{
    struct loader *l = p->l;
    struct producer_link *k = p->links[node];
    if (k != NULL)
        return k;
    k = calloc(1, sizeof(*k));
    if (k == NULL)
        return NULL;
    k->p = p;
    k->node = node;
    list_init(&k->cells);
    rpc_conn_init(&k->conn, l->env, IN_BYTES, on_link_open, on_link_closed);
    rpc_conn_open(&k->conn, &l->cluster.nodes[node].addr);
    p->links[node] = k;
    return k;
}

static void links_pump(struct loader *l)
{
    struct list_node touched, *node;
    list_init(&touched);
    list_splice_tail(&touched, &l->dirty);
    while ((node = list_pop_head(&touched)) != NULL) {
        struct producer_link *k = container_of(node, struct producer_link, dirty);
        while (k->conn.state == RPC_OPEN && k->in_flight < l->course.w->in_flight_max &&
               !list_empty(&k->cells) && request_make(k))
            ;
        rpc_conn_pump(&k->conn);
    }
}

static void links_reopen(struct loader *l, uint64_t now_ns)
{
    list_for_each_safe(it, next, &l->down) {
        struct producer_link *k = container_of(it, struct producer_link, down);
        if (k->reopen_ns > now_ns)
            break;
        list_remove(it);
        rpc_conn_open(&k->conn, &l->cluster.nodes[k->node].addr);
    }
}

/* Leaders have moved: what waits at the old ones goes to the new ones. */
static void links_reroute(struct loader *l)
{
    l->routed_generation = l->cluster.generation;
    for (unsigned i = 0; i < l->course.producers_n; i++)
        for (int32_t n = 0; n < l->cluster.partitions_n; n++) {
            struct cell *cell = &l->producers[i].cells[n];
            struct producer_link *k = list_linked(&cell->link) ? link_of(cell) : NULL;
            if (k == NULL)
                continue;
            list_remove(&cell->link);
            list_push_tail(&k->cells, &cell->link);
            link_touch(k);
        }
}

/* ---- the end of a closed loop ---- */

static void batch_drop(struct load_batch *b)
{
    cell_of(b)->sequence = b->first_sequence;
    b->p->l->course.outstanding -= b->records;
    batch_release(b);
}

/* From the newest back: what a request has taken stays, and so does what came before it. */
static void cell_drop(struct cell *cell)
{
    if (cell->open != NULL && !cell->open->ready) {
        list_remove(&cell->open->age);
        batch_drop(cell->open);
    }
    cell->open = NULL;
    while (!list_empty(&cell->ready)) {
        struct load_batch *b = container_of(cell->ready.prev, struct load_batch, link);
        if (b->finished)
            return;
        list_remove(&b->link);
        batch_drop(b);
    }
    list_remove(&cell->link);
}

void load_unsent_drop(struct course *base)
{
    struct loader *l = container_of(base, struct loader, course);
    for (unsigned i = 0; i < base->producers_n; i++)
        for (int32_t n = 0; n < l->cluster.partitions_n; n++)
            cell_drop(&l->producers[i].cells[n]);
}

/* ---- the producers' part of a turn ---- */

static uint64_t linger_run(struct loader *l, uint64_t now_ns)
{
    uint64_t linger_ns = (uint64_t)(l->course.w->linger_ms * 1e6);
    struct list_node *node;
    while ((node = list_head(&l->open)) != NULL) {
        struct load_batch *b = container_of(node, struct load_batch, age);
        if (b->created_ns + linger_ns > now_ns)
            return b->created_ns + linger_ns;
        batch_ready(b);
        if (!b->ready)
            return now_ns + RETRY_NS;
    }
    return UINT64_MAX;
}

static uint64_t retries_run(struct loader *l, uint64_t now_ns)
{
    struct list_node *node;
    while ((node = list_head(&l->retries)) != NULL) {
        struct load_batch *b = container_of(node, struct load_batch, link);
        if (b->retry_ns > now_ns)
            return b->retry_ns;
        list_remove(node);
        batch_ready(b);
        if (!b->ready) {
            batch_retry(b);
            return now_ns + RETRY_NS;
        }
    }
    return UINT64_MAX;
}

uint64_t load_producers_pump(struct loader *l, uint64_t now_ns)
{
    if (l->course.producers_n == 0 || l->course.stage >= LOADER_CUT)
        return UINT64_MAX;
    l->wall_ms = env_wall_ms(l->env);
    if (l->routed_generation != l->cluster.generation)
        links_reroute(l);
    links_reopen(l, now_ns);
    backlogs_run(l, now_ns);
    uint64_t due_ns = course_producers_run(&l->course, now_ns);
    due_ns = MIN(due_ns, retries_run(l, now_ns));
    due_ns = MIN(due_ns, linger_run(l, now_ns));
    if (!list_empty(&l->down))
        due_ns = MIN(due_ns, now_ns + RETRY_NS);
    links_pump(l);
    return due_ns;
}

/* What waited for its request too long is given up. */
static void cell_expire(struct cell *cell, uint64_t before_ns)
{
    list_for_each_safe(it, next, &cell->ready) {
        struct load_batch *b = container_of(it, struct load_batch, link);
        if (b->created_ns >= before_ns)
            continue;
        list_remove(it);
        if (cell->open == b)
            cell->open = NULL;
        batch_failed(b);
    }
}

static void link_tick(struct producer_link *k, uint64_t now_ns)
{
    const struct workload *w = k->p->l->course.w;
    uint64_t request_ns = (uint64_t)(w->request_timeout_ms * 1e6);
    uint64_t delivery_ns = (uint64_t)(w->delivery_timeout_ms * 1e6);
    rpc_conn_expire(&k->conn, now_ns - MIN(now_ns, request_ns));
    list_for_each_safe(it, next, &k->cells) {
        struct cell *cell = container_of(it, struct cell, link);
        cell_expire(cell, now_ns - MIN(now_ns, delivery_ns));
        if (list_empty(&cell->ready))
            list_remove(it);
    }
}

void load_producers_tick(struct loader *l, uint64_t now_ns)
{
    for (unsigned i = 0; i < l->course.producers_n; i++)
        for (unsigned n = 0; n < l->cluster.nodes_n; n++)
            if (l->producers[i].links[n] != NULL)
                link_tick(l->producers[i].links[n], now_ns);
}

/* ---- life ---- */

static int producer_init(struct loader *l, struct producer *p)
{
    *p = (struct producer){.l = l, .producer_id = -1, .epoch = -1};
    course_producer_add(&l->course, &p->base);
    p->cells = calloc((size_t)l->cluster.partitions_n, sizeof(*p->cells));
    if (p->cells == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < l->cluster.partitions_n; i++) {
        p->cells[i].p = p;
        p->cells[i].partition = i;
        list_init(&p->cells[i].ready);
    }
    picker_init(&p->base.picker, l->course.w, p->base.id, l->cluster.partitions_n);
    int rc = 0;
    if (workload_idempotent(l->course.w))
        do
            rc = cluster_producer_id(&l->cluster, &p->producer_id, &p->epoch);
        while (rc == -EAGAIN);
    return rc;
}

static int links_open(struct loader *l, struct producer *p)
{
    for (int32_t i = 0; i < l->cluster.partitions_n; i++)
        if (link_get(p, (unsigned)l->cluster.leaders[i]) == NULL)
            return -ENOMEM;
    return 0;
}

int load_producers_init(struct loader *l, char *reason, size_t reason_size)
{
    unsigned n = course_producers_count(&l->course);
    if (n == 0)
        return 0;
    l->produce_version = cluster_version(&l->cluster, KAFKA_PRODUCE, 12);
    l->parts_scratch = calloc((size_t)l->cluster.partitions_n,
                              sizeof(struct produce_request_partition_produce_data));
    l->producers = calloc(n, sizeof(*l->producers));
    int rc = l->parts_scratch == NULL || l->producers == NULL
                 ? -ENOMEM
                 : course_failed_init(&l->course, l->cluster.partitions_n);
    if (rc == 0)
        rc = course_producers_init(&l->course);
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        rc = producer_init(l, &l->producers[i]);
        if (rc == 0)
            rc = links_open(l, &l->producers[i]);
    }
    if (rc < 0)
        snprintf(reason, reason_size, "%s",
                 rc == -ENOMEM ? "no memory for the producers" : l->cluster.reason);
    return rc;
}

#define FOR_EACH_LINK(l, k)                                                                        \
    for (unsigned i_ = 0; i_ < (l)->course.producers_n; i_++)                                      \
        for (unsigned n_ = 0; n_ < CLUSTER_NODES_MAX; n_++)                                        \
            if (((k) = (l)->producers[i_].links[n_]) != NULL)

bool load_producers_connected(const struct loader *l)
{
    struct producer_link *k;
    FOR_EACH_LINK(l, k)
    if (k->conn.state != RPC_OPEN)
        return false;
    return true;
}

void load_producers_close(struct loader *l)
{
    struct producer_link *k;
    FOR_EACH_LINK(l, k)
    rpc_conn_close(&k->conn, -ECANCELED);
}

bool load_producers_closed(const struct loader *l)
{
    struct producer_link *k;
    FOR_EACH_LINK(l, k)
    if (k->conn.state != RPC_CLOSED)
        return false;
    return true;
}

static void batches_free(struct list_node *list)
{
    struct list_node *node;
    while ((node = list_pop_head(list)) != NULL)
        batch_free(container_of(node, struct load_batch, link));
}

void load_producers_fini(struct loader *l)
{
    struct producer_link *k;
    struct list_node *node;
    while ((node = list_pop_head(&l->open)) != NULL)
        batch_free(container_of(node, struct load_batch, age));
    FOR_EACH_LINK(l, k)
    {
        rpc_conn_fini(&k->conn);
        free(k);
    }
    batches_free(&l->retries);
    batches_free(&l->batch_pool);
    while ((node = list_pop_head(&l->call_pool)) != NULL)
        request_free(container_of(node, struct produce_call, link));
    for (unsigned i = 0; i < l->course.producers_n; i++) {
        for (int32_t n = 0; l->producers[i].cells != NULL && n < l->cluster.partitions_n; n++)
            batches_free(&l->producers[i].cells[n].ready);
        free(l->producers[i].cells);
    }
    course_producers_fini(&l->course);
    free(l->parts_scratch);
    free(l->producers);
}

static int failed_add(struct produced *to, const struct load_batch *b)
{
    struct sequence_range range = {b->p->base.id, b->first_sequence, b->records, -1};
    return produced_add_failed(to, b->partition, &range);
}

static int failed_add_all(struct produced *to, const struct list_node *batches)
{
    int rc = 0;
    for (const struct list_node *it = batches->next; rc == 0 && it != batches; it = it->next)
        rc = failed_add(to, container_of(it, struct load_batch, link));
    return rc;
}

/* What was never answered may be there or not. */
static int unanswered_add(const struct loader *l, struct produced *to)
{
    int rc = failed_add_all(to, &l->retries);
    list_for_each(it, &l->calls)
        if (rc == 0)
            rc = failed_add_all(to, &container_of(it, struct produce_call, link)->batches);
    list_for_each(it, &l->open)
        if (rc == 0)
            rc = failed_add(to, container_of(it, struct load_batch, age));
    for (unsigned i = 0; i < l->course.producers_n; i++)
        for (int32_t n = 0; rc == 0 && n < l->cluster.partitions_n; n++)
            rc = failed_add_all(to, &l->producers[i].cells[n].ready);
    return rc;
}

int load_producers_produced(const struct loader *l, struct produced *to)
{
    int rc = l->course.producers_n > 0 ? unanswered_add(l, to) : 0;
    if (rc == 0)
        rc = course_failed_produced(&l->course, to);
    for (unsigned i = 0; rc == 0 && i < l->course.producers_n; i++)
        for (int32_t n = 0; rc == 0 && n < l->cluster.partitions_n; n++)
            rc = produced_add(to, l->producers[i].base.id, n, l->producers[i].cells[n].sequence);
    return rc;
}
