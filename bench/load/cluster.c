#include "bench/load/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/kafka.h"
#include "bench/load/workload.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/wire/messages.h"

enum {
    ARENA_BYTES_MAX = 256 << 20,
    IN_BYTES = 64 << 10,
    POLL_NS = 20 * 1000 * 1000,     /* between looks at a topic that is being made */
    REFRESH_NS = 100 * 1000 * 1000, /* between attempts to read the leaders */
    TIMESTAMP_LATEST = -1,
    TIMESTAMP_EARLIEST = -2,
};

#define fail(c, rc, ...) (snprintf((c)->reason, sizeof((c)->reason), __VA_ARGS__), (rc))

/* ---- one request at a time ---- */

static void on_open(struct rpc_conn *conn)
{
    (void)conn;
}

static void on_closed(struct rpc_conn *conn, int rc)
{
    struct cluster *c = container_of(conn, struct cluster, conn);
    c->rc = rc;
}

static void on_answer(struct rpc *rpc, int rc, uint8_t *body, uint32_t len)
{
    struct cluster *c = container_of(rpc, struct cluster, rpc);
    c->waiting = false;
    c->rc = rc;
    if (rc < 0)
        return;
    c->body = arena_dup(&c->arena, body, len); /* decoded values borrow it */
    c->body_len = len;
    if (c->body == NULL)
        c->rc = -ENOMEM;
}

/* When a step that begins now has taken too long. The environment's clock stands still between
 * turns, and the last one may be long ago. */
static uint64_t limit_ns_of(struct cluster *c)
{
    env_turn(c->env, 0);
    return env_now_ns(c->env) + c->timeout_ns;
}

/* Turn until the condition holds; -ETIMEDOUT. */
#define TURN_UNTIL(c, condition)                                                                   \
    ({                                                                                             \
        uint64_t limit_ns_ = limit_ns_of(c);                                                       \
        while (!(condition) && env_now_ns((c)->env) < limit_ns_)                                   \
            env_turn((c)->env, limit_ns_);                                                         \
        (condition) ? 0 : -ETIMEDOUT;                                                              \
    })

static void disconnect(struct cluster *c)
{
    rpc_conn_close(&c->conn, -ECANCELED);
    while (c->conn.state != RPC_CLOSED)
        env_turn(c->env, UINT64_MAX);
}

static int connect_to(struct cluster *c, const struct sock_addr *addr)
{
    if (c->conn.state == RPC_OPEN && c->conn.addr.len == addr->len &&
        memcmp(&c->conn.addr.storage, &addr->storage, addr->len) == 0)
        return 0;
    disconnect(c);
    rpc_conn_open(&c->conn, addr);
    int rc = TURN_UNTIL(c, c->conn.state == RPC_OPEN || c->conn.state == RPC_CLOSED);
    if (rc < 0)
        disconnect(c);
    else if (c->conn.state == RPC_CLOSED)
        rc = c->rc;
    return rc;
}

static int request_submit(struct cluster *c, int16_t key, int16_t version, const void *request)
{
    const struct wire_api *api = wire_api_find(key);
    int rc = rpc_encode(&c->rpc, api, version, ++c->correlation, request, &c->writer, c->iov,
                        ARRAY_LEN(c->iov));
    if (rc < 0)
        return rc;
    c->rpc.on_done = on_answer;
    c->waiting = true;
    rpc_send(&c->conn, &c->rpc);
    rpc_conn_pump(&c->conn);
    return 0;
}

static int answer_decode(struct cluster *c, int16_t key, int16_t version, void *ret)
{
    const struct wire_api *api = wire_api_find(key);
    return wire_decode(api->response, version, wire_response_flexible(api, version), c->body,
                       c->body_len, &c->arena, ret);
}

/* Ask over the open connection and wait. What ret points to lives until the next call. */
static int call(struct cluster *c, int16_t key, int16_t version, const void *request, void *ret)
{
    struct sock_addr last = c->conn.addr;
    int rc = connect_to(c, &last); /* the peer may have closed it meanwhile */
    if (rc == 0)
        rc = request_submit(c, key, version, request);
    if (rc == 0)
        rc = TURN_UNTIL(c, !c->waiting);
    if (rc < 0) {
        disconnect(c);
        return rc;
    }
    return c->rc < 0 ? c->rc : answer_decode(c, key, version, ret);
}

int16_t cluster_version(const struct cluster *c, int16_t api_key, int16_t most)
{
    const struct wire_api *api = wire_api_find(api_key);
    int16_t version = MIN(MIN(c->api_max[api_key], api->max), most);
    return version < api->min ? -1 : version;
}

static int versions_read(struct cluster *c)
{
    struct api_versions_request request;
    struct api_versions_response response;
    wire_set_defaults(&api_versions_request_schema, &request);
    arena_reset(&c->arena);
    int rc = call(c, KAFKA_API_VERSIONS, 0, &request, &response);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < CLUSTER_APIS_MAX; i++)
        c->api_max[i] = -1;
    for (int32_t i = 0; i < response.api_keys_n; i++) {
        int16_t key = response.api_keys[i].api_key;
        if (key >= 0 && key < CLUSTER_APIS_MAX)
            c->api_max[key] = response.api_keys[i].max_version;
    }
    return 0;
}

/* ---- metadata ---- */

static int node_learn(struct cluster *c, const struct metadata_response_metadata_response_broker *b)
{
    unsigned i = 0;
    while (i < c->nodes_n && c->nodes[i].id != b->node_id)
        i++;
    struct cluster_node *node = &c->nodes[i];
    if (i == CLUSTER_NODES_MAX || b->host.len <= 0 || b->host.len >= (int32_t)sizeof(node->host) ||
        b->port <= 0 || b->port > UINT16_MAX)
        return -EPROTO;
    bool same = i < c->nodes_n && node->port == b->port &&
                strlen(node->host) == (size_t)b->host.len &&
                memcmp(node->host, b->host.p, (size_t)b->host.len) == 0;
    if (same)
        return 0;
    node->id = b->node_id;
    node->port = (uint16_t)b->port;
    memcpy(node->host, b->host.p, (size_t)b->host.len);
    node->host[b->host.len] = '\0';
    int rc = sock_resolve(node->host, node->port, &node->addr);
    if (rc == 0 && i == c->nodes_n)
        c->nodes_n++;
    return rc;
}

static int16_t node_index(const struct cluster *c, int32_t id)
{
    for (unsigned i = 0; i < c->nodes_n; i++)
        if (c->nodes[i].id == id)
            return (int16_t)i;
    return CLUSTER_NO_LEADER;
}

/* 0: every partition has a leader; -EAGAIN: not yet; -ENOENT: no such topic. */
static int leaders_take(struct cluster *c,
                        const struct metadata_response_metadata_response_topic *topic)
{
    int rc = 0;
    if (topic->error_code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION)
        return -ENOENT;
    if (topic->error_code != 0 || topic->partitions_n <= 0)
        return -EAGAIN;
    int16_t *leaders = reallocarray(c->leaders, (size_t)topic->partitions_n, sizeof(*leaders));
    if (leaders == NULL)
        return -ENOMEM;
    c->leaders = leaders;
    c->partitions_n = topic->partitions_n;
    for (int32_t i = 0; i < topic->partitions_n; i++)
        leaders[i] = CLUSTER_NO_LEADER;
    for (int32_t i = 0; i < topic->partitions_n; i++) {
        int32_t index = topic->partitions[i].partition_index;
        if (index >= 0 && index < c->partitions_n)
            leaders[index] = node_index(c, topic->partitions[i].leader_id);
    }
    for (int32_t i = 0; i < c->partitions_n; i++)
        if (leaders[i] == CLUSTER_NO_LEADER)
            rc = -EAGAIN;
    c->generation++;
    return rc;
}

static int metadata_take(struct cluster *c, const struct metadata_response *m)
{
    for (int32_t i = 0; i < m->brokers_n; i++) {
        int rc = node_learn(c, &m->brokers[i]);
        if (rc < 0)
            return rc;
    }
    if (m->cluster_id.len > 0)
        snprintf(c->cluster_id, sizeof(c->cluster_id), "%.*s", (int)m->cluster_id.len,
                 m->cluster_id.p);
    if (c->nodes_n == 0)
        return -EPROTO;
    return m->topics_n == 1 ? leaders_take(c, &m->topics[0]) : 0;
}

static int16_t metadata_version(const struct cluster *c)
{
    return cluster_version(c, KAFKA_METADATA, 12);
}

static void metadata_request_fill(const struct cluster *c, struct metadata_request *request,
                                  struct metadata_request_metadata_request_topic *topic)
{
    wire_set_defaults(&metadata_request_schema, request);
    wire_set_defaults(&metadata_request_metadata_request_topic_schema, topic);
    request->allow_auto_topic_creation = false;
    topic->name = wire_str_of(c->topic);
    request->topics = topic;
    request->topics_n = c->topic[0] != '\0';
}

static int metadata_read(struct cluster *c)
{
    struct metadata_request request;
    struct metadata_request_metadata_request_topic topic;
    struct metadata_response response;
    metadata_request_fill(c, &request, &topic);
    arena_reset(&c->arena);
    int rc = call(c, KAFKA_METADATA, metadata_version(c), &request, &response);
    return rc < 0 ? rc : metadata_take(c, &response);
}

/* ---- opening ---- */

static int try_bootstrap(struct cluster *c, char *host_port)
{
    char *colon = strrchr(host_port, ':');
    char *end;
    struct sock_addr addr;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == NULL || *end != '\0' || port == 0 || port > UINT16_MAX)
        return fail(c, -EINVAL, "bad address '%s': HOST:PORT is wanted", host_port);
    *colon = '\0';
    char *host = host_port;
    size_t len = strlen(host);
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        host++;
    }
    int rc = sock_resolve(host, (uint16_t)port, &addr);
    if (rc == 0)
        rc = connect_to(c, &addr);
    if (rc == 0)
        rc = versions_read(c);
    if (rc == 0 && metadata_version(c) < 0)
        return fail(c, -EPROTO, "%s:%lu speaks no Metadata that we know", host, port);
    if (rc == 0)
        rc = metadata_read(c);
    if (rc < 0)
        return fail(c, rc, "%s:%lu: %s", host, port, strerror(-rc));
    return 0;
}

int cluster_open(struct cluster *c, struct env *env, const char *bootstrap, uint64_t timeout_ns)
{
    *c = (struct cluster){.env = env, .timeout_ns = timeout_ns};
    arena_init(&c->arena, ARENA_BYTES_MAX);
    wire_writer_init(&c->writer);
    rpc_conn_init(&c->conn, env, IN_BYTES, on_open, on_closed);
    char *list = strdup(bootstrap), *at = list, *one;
    int rc = list == NULL ? -ENOMEM : fail(c, -EINVAL, "no address to connect to");
    while (rc < 0 && (one = strsep(&at, ",")) != NULL)
        rc = try_bootstrap(c, one);
    free(list);
    return rc;
}

void cluster_close(struct cluster *c)
{
    disconnect(c);
    rpc_conn_fini(&c->conn);
    wire_writer_fini(&c->writer);
    arena_fini(&c->arena);
    free(c->leaders);
    c->leaders = NULL;
}

/* ---- topics ---- */

static void pause_turning(struct cluster *c, uint64_t ns)
{
    uint64_t until_ns = env_now_ns(c->env) + ns;
    while (env_now_ns(c->env) < until_ns)
        env_turn(c->env, until_ns);
}

static int topic_delete(struct cluster *c)
{
    struct delete_topics_request request;
    struct delete_topics_response response;
    struct wire_str name = wire_str_of(c->topic);
    wire_set_defaults(&delete_topics_request_schema, &request);
    request.topic_names = &name;
    request.topic_names_n = 1;
    request.timeout_ms = (int32_t)(c->timeout_ns / 1000000);
    arena_reset(&c->arena);
    int rc = call(c, KAFKA_DELETE_TOPICS, cluster_version(c, KAFKA_DELETE_TOPICS, 5), &request,
                  &response);
    if (rc < 0)
        return fail(c, rc, "deleting topic %s: %s", c->topic, strerror(-rc));
    int16_t error = response.responses_n == 1 ? response.responses[0].error_code : -1;
    if (error != 0 && error != KAFKA_UNKNOWN_TOPIC_OR_PARTITION)
        return fail(c, -EPROTO, "deleting topic %s: Kafka error %d", c->topic, error);
    return 0;
}

static int topic_create_once(struct cluster *c, const struct workload *w, int16_t *ret_error)
{
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request request;
    struct create_topics_response response;
    wire_set_defaults(&create_topics_request_creatable_topic_schema, &topic);
    wire_set_defaults(&create_topics_request_schema, &request);
    topic.name = wire_str_of(c->topic);
    topic.num_partitions = (int32_t)w->partitions;
    topic.replication_factor = (int16_t)w->replication_factor;
    request.topics = &topic;
    request.topics_n = 1;
    request.timeout_ms = (int32_t)(c->timeout_ns / 1000000);
    arena_reset(&c->arena);
    int rc = call(c, KAFKA_CREATE_TOPICS, cluster_version(c, KAFKA_CREATE_TOPICS, 7), &request,
                  &response);
    if (rc < 0)
        return rc;
    if (response.topics_n != 1)
        return -EPROTO;
    *ret_error = response.topics[0].error_code;
    return 0;
}

/* A topic that was just deleted may still be there for a moment. */
static int topic_create(struct cluster *c, const struct workload *w)
{
    uint64_t limit_ns = limit_ns_of(c);
    int16_t error = 0;
    do {
        int rc = topic_create_once(c, w, &error);
        if (rc < 0)
            return fail(c, rc, "making topic %s: %s", c->topic, strerror(-rc));
        if (error == KAFKA_TOPIC_ALREADY_EXISTS && w->topic_reuse)
            return 0;
        if (error != KAFKA_TOPIC_ALREADY_EXISTS)
            break;
        pause_turning(c, POLL_NS);
    } while (env_now_ns(c->env) < limit_ns);
    return error == 0 ? 0 : fail(c, -EPROTO, "making topic %s: Kafka error %d", c->topic, error);
}

static int topic_await(struct cluster *c)
{
    uint64_t limit_ns = limit_ns_of(c);
    int rc = metadata_read(c);
    while ((rc == -EAGAIN || rc == -ENOENT) && env_now_ns(c->env) < limit_ns) {
        pause_turning(c, POLL_NS);
        rc = metadata_read(c);
    }
    if (rc < 0)
        return fail(c, rc, "topic %s: %s", c->topic,
                    rc == -EAGAIN   ? "not every partition has a leader"
                    : rc == -ENOENT ? "no such topic"
                                    : strerror(-rc));
    return 0;
}

int cluster_topic_make(struct cluster *c, const struct workload *w)
{
    snprintf(c->topic, sizeof(c->topic), "%s", w->topic);
    int rc = w->topic_reuse ? 0 : topic_delete(c);
    if (rc == 0)
        rc = topic_create(c, w);
    if (rc == 0)
        rc = topic_await(c);
    if (rc == 0 && c->partitions_n != (int32_t)w->partitions)
        return fail(c, -EINVAL, "topic %s has %d partitions, not %d", c->topic, c->partitions_n,
                    (int)w->partitions);
    return rc;
}

int cluster_topic_find(struct cluster *c, const char *topic)
{
    snprintf(c->topic, sizeof(c->topic), "%s", topic);
    return topic_await(c);
}

/* ---- offsets and producer ids ---- */

static int offsets_take(struct cluster *c, const struct list_offsets_response *response,
                        int64_t *offsets)
{
    for (int32_t t = 0; t < response->topics_n; t++)
        for (int32_t i = 0; i < response->topics[t].partitions_n; i++) {
            const struct list_offsets_response_list_offsets_partition_response *p =
                &response->topics[t].partitions[i];
            bool known = p->partition_index >= 0 && p->partition_index < c->partitions_n;
            if (p->error_code != 0 || !known)
                return fail(c, known && kafka_retriable(p->error_code) ? -EAGAIN : -EPROTO,
                            "offsets of %s-%d: Kafka error %d", c->topic, p->partition_index,
                            p->error_code);
            offsets[p->partition_index] = p->offset;
        }
    return 0;
}

static int offsets_of_node(struct cluster *c, int16_t node, bool end, int64_t *offsets)
{
    struct list_offsets_request request;
    struct list_offsets_request_list_offsets_topic topic;
    struct list_offsets_response response;
    int32_t n = 0;
    arena_reset(&c->arena);
    struct list_offsets_request_list_offsets_partition *parts = wire_new_array(
        &list_offsets_request_list_offsets_partition_schema, &c->arena, c->partitions_n);
    if (parts == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < c->partitions_n; i++)
        if (c->leaders[i] == node) {
            parts[n].partition_index = i;
            parts[n++].timestamp = end ? TIMESTAMP_LATEST : TIMESTAMP_EARLIEST;
        }
    if (n == 0)
        return 0;
    wire_set_defaults(&list_offsets_request_schema, &request);
    wire_set_defaults(&list_offsets_request_list_offsets_topic_schema, &topic);
    topic.name = wire_str_of(c->topic);
    topic.partitions = parts;
    topic.partitions_n = n;
    request.replica_id = -1;
    request.topics = &topic;
    request.topics_n = 1;
    int rc = connect_to(c, &c->nodes[node].addr);
    if (rc == 0)
        rc = call(c, KAFKA_LIST_OFFSETS, cluster_version(c, KAFKA_LIST_OFFSETS, 7), &request,
                  &response);
    return rc < 0 ? fail(c, rc, "offsets of %s: %s", c->topic, strerror(-rc))
                  : offsets_take(c, &response, offsets);
}

/* A leader that was just made may not know it yet. */
int cluster_offsets(struct cluster *c, bool end, int64_t *offsets)
{
    uint64_t limit_ns = limit_ns_of(c);
    int rc;
    do {
        rc = 0;
        for (unsigned i = 0; rc == 0 && i < c->nodes_n; i++)
            rc = offsets_of_node(c, (int16_t)i, end, offsets);
        if (rc != -EAGAIN)
            return rc;
        pause_turning(c, POLL_NS);
        rc = metadata_read(c);
    } while ((rc == 0 || rc == -EAGAIN) && env_now_ns(c->env) < limit_ns);
    return rc < 0 ? rc : -ETIMEDOUT;
}

int cluster_producer_id(struct cluster *c, int64_t *ret_id, int16_t *ret_epoch)
{
    struct init_producer_id_request request;
    struct init_producer_id_response response;
    int16_t version = cluster_version(c, KAFKA_INIT_PRODUCER_ID, 4);
    if (version < 0)
        return fail(c, -ENOTSUP, "the broker gives no producer ids (enable.idempotence=false?)");
    wire_set_defaults(&init_producer_id_request_schema, &request);
    request.transactional_id = wire_str_of(NULL);
    request.transaction_timeout_ms = INT32_MAX;
    arena_reset(&c->arena);
    int rc = call(c, KAFKA_INIT_PRODUCER_ID, version, &request, &response);
    if (rc == 0 && response.error_code == KAFKA_COORDINATOR_LOAD_IN_PROGRESS)
        return -EAGAIN;
    if (rc < 0)
        return fail(c, rc, "asking for a producer id: %s", strerror(-rc));
    if (response.error_code != 0)
        return fail(c, -EPROTO, "asking for a producer id: Kafka error %d", response.error_code);
    *ret_id = response.producer_id;
    *ret_epoch = response.producer_epoch;
    return 0;
}

/* ---- refreshing under load ---- */

void cluster_refresh(struct cluster *c)
{
    c->refresh_wanted = true;
}

static void refresh_begin(struct cluster *c)
{
    struct metadata_request request;
    struct metadata_request_metadata_request_topic topic;
    metadata_request_fill(c, &request, &topic);
    arena_reset(&c->arena);
    c->refreshing = request_submit(c, KAFKA_METADATA, metadata_version(c), &request) == 0;
}

static void refresh_end(struct cluster *c)
{
    struct metadata_response response;
    c->refreshing = false;
    if (c->rc == 0 && answer_decode(c, KAFKA_METADATA, metadata_version(c), &response) == 0 &&
        metadata_take(c, &response) == 0)
        c->refresh_wanted = false;
}

uint64_t cluster_pump(struct cluster *c, uint64_t now_ns)
{
    if (c->refreshing && !c->waiting)
        refresh_end(c);
    rpc_conn_expire(&c->conn, now_ns - MIN(now_ns, c->timeout_ns));
    if (!c->refresh_wanted || c->refreshing)
        return UINT64_MAX;
    if (now_ns < c->refresh_at_ns)
        return c->refresh_at_ns;
    c->refresh_at_ns = now_ns + REFRESH_NS;
    if (c->conn.state == RPC_OPEN)
        refresh_begin(c);
    else if (c->conn.state == RPC_CLOSED) /* any node will do */
        rpc_conn_open(&c->conn, &c->nodes[env_random(c->env) % c->nodes_n].addr);
    return c->refresh_at_ns;
}
