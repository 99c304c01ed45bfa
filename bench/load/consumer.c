/* The consumers of a load thread: each has its share of the partitions, a connection to each leader
 * of one, and one long-polling fetch at a time on each, as librdkafka does (no fetch sessions).
 * What comes is checked batch by batch and record by record. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/intake.h"
#include "bench/load/kafka.h"
#include "bench/load/loader.h"
#include "core/base/bytes.h"
#include "core/batch/batch.h"
#include "net/wire/messages.h"

enum {
    RETRY_NS = 100 * 1000 * 1000,
    IN_BYTES = 64 << 10,
    ARENA_BYTES_MAX = 256 << 20,
};

struct fetch_link { /* to one node */
    struct rpc_conn conn;
    struct consumer *c;
    unsigned node;
    bool fetching, starting;
    uint64_t not_before_ns;
    unsigned rotate; /* which partition comes first in the next request */
    struct rpc rpc;
    struct wire_writer writer;
    struct iovec iov[2];
};

struct consumer {
    struct loader *l;
    struct intake intake;
    bool active;
    struct fetch_link *links[CLUSTER_NODES_MAX];
    struct fetch_request_fetch_partition *scratch;
};

static void on_link_open(struct rpc_conn *conn)
{
    struct fetch_link *k = container_of(conn, struct fetch_link, conn);
    k->fetching = false;
}

static void parts_lose_touch(struct fetch_link *k)
{
    struct intake *in = &k->c->intake;
    for (unsigned i = 0; i < in->parts_n; i++)
        if (k->c->l->cluster.leaders[in->parts[i].verify.partition] == (int16_t)k->node)
            in->parts[i].out_of_touch = true;
}

static void on_link_closed(struct rpc_conn *conn, int rc)
{
    struct fetch_link *k = container_of(conn, struct fetch_link, conn);
    struct loader *l = k->c->l;
    k->fetching = false;
    if (l->closing)
        return;
    parts_lose_touch(k);
    course_counts(&l->course)->reconnects++;
    l->course.out.connection_rc = rc;
    k->not_before_ns = env_now_ns(l->env) + RETRY_NS;
    cluster_refresh(&l->cluster);
}

static struct fetch_link *link_get(struct consumer *c, unsigned node)
{
    struct fetch_link *k = c->links[node];
    if (k != NULL)
        return k;
    k = calloc(1, sizeof(*k));
    if (k == NULL)
        return NULL;
    k->c = c;
    k->node = node;
    wire_writer_init(&k->writer);
    rpc_conn_init(&k->conn, c->l->env, IN_BYTES, on_link_open, on_link_closed);
    rpc_conn_open(&k->conn, &c->l->cluster.nodes[node].addr);
    c->links[node] = k;
    return k;
}

/* ---- what came ---- */

static int batch_take(struct consumer *c, struct intake_part *part, const uint8_t *data,
                      const struct batch_header *h, uint64_t now_ns)
{
    struct batch_iter *iter;
    struct batch_record record;
    if (c->l->course.w->verify == VERIFY_FULL && !batch_crc_ok(data, h)) {
        verify_corrupt(&part->verify, NULL, h->base_offset);
        return 0;
    }
    int rc = batch_iter_open(&iter, data, h->len_bytes);
    if (rc < 0)
        return rc;
    while ((rc = batch_iter_next(iter, &record)) > 0)
        if (record.offset >= part->offset)
            intake_take(&c->intake, part, &record, now_ns);
    batch_iter_close(iter);
    return rc;
}

/* Whole batches; the last one may be cut short by the broker. False: it is no batch. */
static bool records_take(struct consumer *c, struct intake_part *part,
                         const struct wire_records *records, uint64_t now_ns)
{
    const uint8_t *at = records->data, *end = at + MAX(records->len, 0);
    struct batch_header h;
    while (at < end) {
        int rc = batch_peek(at, (size_t)(end - at), &h);
        if (rc == -EAGAIN || (rc == 0 && h.len_bytes > (size_t)(end - at)))
            return true;
        bool whole = rc == 0;
        if (whole && batch_last_offset(&h) >= part->offset && !batch_is_control(h.attributes))
            whole = batch_take(c, part, at, &h, now_ns) == 0;
        if (!whole)
            verify_corrupt(&part->verify, NULL, part->offset);
        if (rc < 0)
            return false; /* no telling where the next one begins */
        part->offset = MAX(part->offset, batch_last_offset(&h) + 1);
        at += h.len_bytes;
    }
    return true;
}

static void part_advance(struct consumer *c, struct intake_part *part, int64_t high_watermark)
{
    part->high_watermark = high_watermark;
    if (c->intake.role == INTAKE_LATE && part->offset >= high_watermark) {
        intake_part_finish(&c->intake, part);
        if (c->l->course.config.late_loop)
            intake_part_rewind(part, 0);
    }
    if (intake_part_ended(&c->intake, part))
        intake_part_finish(&c->intake, part);
}

static void error_take(struct fetch_link *k, struct intake_part *part,
                       const struct fetch_response_partition_data *data)
{
    struct loader *l = k->c->l;
    course_error(&l->course, data->error_code);
    if (data->error_code == KAFKA_OFFSET_OUT_OF_RANGE && data->log_start_offset > part->offset)
        part->offset = data->log_start_offset; /* retention was faster */
    cluster_refresh(&l->cluster);
    k->not_before_ns = env_now_ns(l->env) + RETRY_NS;
}

static int answer_take(struct fetch_link *k, uint8_t *body, uint32_t len)
{
    struct consumer *c = k->c;
    struct loader *l = c->l;
    struct fetch_response response;
    const struct wire_api *api = k->rpc.api;
    uint64_t now_ns = env_now_ns(l->env);
    arena_reset(&l->arena);
    int rc = wire_decode(api->response, k->rpc.version, wire_response_flexible(api, k->rpc.version),
                         body, len, &l->arena, &response);
    if (rc < 0)
        return rc;
    course_counts(&l->course)->fetches++;
    for (int32_t t = 0; t < response.responses_n; t++)
        for (int32_t i = 0; i < response.responses[t].partitions_n; i++) {
            const struct fetch_response_partition_data *data = &response.responses[t].partitions[i];
            struct intake_part *part = intake_part_of(&c->intake, data->partition_index);
            if (part == NULL)
                return -EPROTO;
            if (data->error_code != 0) {
                error_take(k, part, data);
                continue;
            }
            part->out_of_touch = false;
            if (!records_take(c, part, &data->records, now_ns))
                k->not_before_ns = now_ns + RETRY_NS; /* asked again it may be the same */
            part_advance(c, part, data->high_watermark);
        }
    return 0;
}

static void on_fetched(struct rpc *rpc, int rc, uint8_t *body, uint32_t len)
{
    struct fetch_link *k = container_of(rpc, struct fetch_link, rpc);
    k->fetching = false;
    if (rc == 0)
        rc = answer_take(k, body, len);
    if (rc < 0)
        rpc_conn_close(&k->conn, rc);
}

/* ---- asking ---- */

static bool part_wanted(const struct consumer *c, const struct intake_part *part)
{
    return !part->finished || (c->intake.role == INTAKE_LATE && c->l->course.config.late_loop);
}

/* Partitions led by the link's node, beginning with another one each time, since brokers fill
 * an answer in the order of the question. */
static int32_t partitions_collect(struct fetch_link *k)
{
    struct consumer *c = k->c;
    int32_t n = 0;
    unsigned parts_n = c->intake.parts_n;
    for (unsigned i = 0; i < parts_n; i++) {
        const struct intake_part *part = &c->intake.parts[(i + k->rotate) % parts_n];
        int32_t partition = part->verify.partition;
        if (c->l->cluster.leaders[partition] != (int16_t)k->node || !part_wanted(c, part))
            continue;
        struct fetch_request_fetch_partition *p = &c->scratch[n++];
        wire_set_defaults(&fetch_request_fetch_partition_schema, p);
        p->partition = partition;
        p->fetch_offset = part->offset;
        p->partition_max_bytes = (int32_t)c->l->course.w->fetch_partition_bytes_max;
    }
    k->rotate++;
    return n;
}

static int fetch(struct fetch_link *k)
{
    struct consumer *c = k->c;
    struct loader *l = c->l;
    struct fetch_request request;
    struct fetch_request_fetch_topic topic;
    int32_t n = partitions_collect(k);
    if (n == 0)
        return 0;
    wire_set_defaults(&fetch_request_schema, &request);
    wire_set_defaults(&fetch_request_fetch_topic_schema, &topic);
    topic.topic = wire_str_of(l->cluster.topic);
    topic.partitions = c->scratch;
    topic.partitions_n = n;
    request.max_wait_ms = (int32_t)l->course.w->fetch_wait_ms;
    request.min_bytes = (int32_t)l->course.w->fetch_min_bytes;
    request.max_bytes = (int32_t)l->course.w->fetch_bytes_max;
    request.topics = &topic;
    request.topics_n = 1;
    int rc = rpc_encode(&k->rpc, wire_api_find(KAFKA_FETCH), l->fetch_version, ++l->correlation,
                        &request, &k->writer, k->iov, ARRAY_LEN(k->iov));
    if (rc < 0)
        return rc;
    k->rpc.on_done = on_fetched;
    k->fetching = true;
    rpc_send(&k->conn, &k->rpc);
    rpc_conn_pump(&k->conn);
    return 0;
}

static uint64_t link_pump(struct fetch_link *k, uint64_t now_ns)
{
    if (k->conn.state == RPC_CLOSING || k->conn.state == RPC_CONNECTING || k->fetching)
        return UINT64_MAX;
    if (now_ns < k->not_before_ns)
        return k->not_before_ns;
    if (k->conn.state == RPC_CLOSED)
        rpc_conn_open(&k->conn, &k->c->l->cluster.nodes[k->node].addr);
    else if (fetch(k) < 0)
        k->not_before_ns = now_ns + RETRY_NS;
    return k->not_before_ns > now_ns ? k->not_before_ns : UINT64_MAX;
}

uint64_t load_consumers_pump(struct loader *l, uint64_t now_ns)
{
    uint64_t due_ns = UINT64_MAX;
    for (unsigned i = 0; i < l->consumers_n; i++) {
        struct consumer *c = &l->consumers[i];
        for (unsigned n = 0; c->active && n < l->cluster.nodes_n; n++)
            if (link_get(c, n) != NULL)
                due_ns = MIN(due_ns, link_pump(c->links[n], now_ns));
    }
    return due_ns;
}

void load_consumers_tick(struct loader *l, uint64_t now_ns)
{
    uint64_t limit_ns =
        (uint64_t)((l->course.w->request_timeout_ms + l->course.w->fetch_wait_ms) * 1e6);
    for (unsigned i = 0; i < l->consumers_n; i++)
        for (unsigned n = 0; n < l->cluster.nodes_n; n++)
            if (l->consumers[i].links[n] != NULL)
                rpc_conn_expire(&l->consumers[i].links[n]->conn, now_ns - MIN(now_ns, limit_ns));
}

void load_consumers_start_late(struct loader *l)
{
    for (unsigned i = 0; i < l->consumers_n; i++)
        l->consumers[i].active = true;
}

/* ---- life ---- */

static int consumer_init(struct loader *l, struct consumer *c, const int64_t *starts,
                         const int64_t *ends)
{
    struct intake *in = &c->intake;
    c->l = l;
    c->active = in->role != INTAKE_LATE;
    int rc = intake_init(in, l->cluster.partitions_n);
    c->scratch = calloc(MAX(in->parts_n, 1u), sizeof(*c->scratch));
    if (rc < 0 || c->scratch == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < in->parts_n; i++) {
        int32_t partition = in->parts[i].verify.partition;
        intake_part_start(in, &in->parts[i], starts[partition], ends[partition]);
        if (link_get(c, (unsigned)MAX(l->cluster.leaders[partition], 0)) == NULL)
            return -ENOMEM;
    }
    return 0;
}

int load_consumers_init(struct loader *l, char *reason, size_t reason_size)
{
    struct intake_cursor cursor = {0};
    unsigned n = intake_count(&l->course);
    if (n == 0)
        return 0;
    l->fetch_version = cluster_version(&l->cluster, KAFKA_FETCH, 12);
    l->consumers = calloc(n, sizeof(*l->consumers));
    int64_t *starts = calloc((size_t)l->cluster.partitions_n * 2, sizeof(*starts));
    int rc = starts == NULL || l->consumers == NULL ? -ENOMEM
                                                    : cluster_offsets(&l->cluster, false, starts);
    int64_t *ends = starts + l->cluster.partitions_n;
    if (rc == 0)
        rc = cluster_offsets(&l->cluster, true, ends);
    while (rc == 0 && intake_next(&l->course, &cursor, &l->consumers[l->consumers_n].intake))
        rc = consumer_init(l, &l->consumers[l->consumers_n++], starts, ends);
    free(starts);
    if (rc < 0)
        snprintf(reason, reason_size, "%s",
                 rc == -ENOMEM ? "no memory for the consumers" : l->cluster.reason);
    return rc;
}

#define FOR_EACH_LINK(l, k)                                                                        \
    for (unsigned i_ = 0; i_ < (l)->consumers_n; i_++)                                             \
        for (unsigned n_ = 0; n_ < CLUSTER_NODES_MAX; n_++)                                        \
            if (((k) = (l)->consumers[i_].links[n_]) != NULL)

bool load_consumers_connected(const struct loader *l)
{
    struct fetch_link *k;
    FOR_EACH_LINK(l, k)
    if (k->conn.state != RPC_OPEN)
        return false;
    return true;
}

void load_consumers_close(struct loader *l)
{
    struct fetch_link *k;
    FOR_EACH_LINK(l, k)
    rpc_conn_close(&k->conn, -ECANCELED);
}

bool load_consumers_closed(const struct loader *l)
{
    struct fetch_link *k;
    FOR_EACH_LINK(l, k)
    if (k->conn.state != RPC_CLOSED)
        return false;
    return true;
}

void load_consumers_fini(struct loader *l)
{
    struct fetch_link *k;
    FOR_EACH_LINK(l, k)
    {
        rpc_conn_fini(&k->conn);
        wire_writer_fini(&k->writer);
        free(k);
    }
    for (unsigned i = 0; i < l->consumers_n; i++) {
        intake_fini(&l->consumers[i].intake);
        free(l->consumers[i].scratch);
    }
    free(l->consumers);
    l->consumers_n = 0;
}

void load_consumers_verify(struct loader *l, const struct produced *all)
{
    for (unsigned i = 0; i < l->consumers_n; i++)
        intake_verify(&l->consumers[i].intake, all);
}
