#include "tools/client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"

enum {
    PORT_DEFAULT = 9092,
    METADATA_MOST = 12, /* by name, which 13 could do, too; the reply's error code is of no use */
    PAUSE_MS_LEAST = 50,
    PAUSE_MS_MOST = 1000,
};

#define MS_NS 1000000u

int client_fail(struct client *c, int rc, struct wire_str message, const char *what, ...)
{
    char text[256];
    va_list args;
    va_start(args, what);
    vsnprintf(text, sizeof(text), what, args);
    va_end(args);
    snprintf(c->reason, sizeof(c->reason), "%s: %s%s%.*s", text, client_rc_name(rc),
             message.len > 0 ? ": " : "", message.len > 0 ? (int)message.len : 0,
             message.len > 0 ? message.p : "");
    return rc;
}

bool client_retry(const struct client *c, struct client_retry *r, int rc)
{
    if (!client_rc_is_retriable(rc) || rc == -ETIMEDOUT) /* then the time is over already */
        return false;
    uint64_t now_ns = clock_now_ns();
    if (r->attempts == 0)
        r->deadline_ns = now_ns + c->timeout_ns;
    uint64_t pause_ms = MIN((uint64_t)PAUSE_MS_LEAST << MIN(r->attempts, 5u), PAUSE_MS_MOST);
    r->attempts++;
    if (now_ns + pause_ms * MS_NS > r->deadline_ns)
        return false;
    struct timespec pause = {(time_t)(pause_ms / 1000), (long)(pause_ms % 1000 * MS_NS)};
    nanosleep(&pause, NULL);
    return true;
}

/* ---- connections ---- */

/* One HOST[:PORT] or [IPV6][:PORT] of len bytes. */
static int address_parse(const char *text, size_t len, char host[256], uint16_t *ret_port)
{
    bool in_brackets = len > 0 && text[0] == '[';
    const char *host_end = memchr(text, in_brackets ? ']' : ':', len);
    const char *begin = text + in_brackets, *end = text + len;
    if (host_end == NULL)
        host_end = end;
    const char *port = host_end + (in_brackets && host_end < end);
    unsigned long value = PORT_DEFAULT;
    if (host_end == begin || host_end - begin > 255 || (in_brackets && host_end == end))
        return -EINVAL;
    if (port < end) {
        char *stop;
        char digits[8] = "";
        if (*port != ':' || end - port < 2 || end - port > 6)
            return -EINVAL;
        memcpy(digits, port + 1, (size_t)(end - port - 1));
        value = strtoul(digits, &stop, 10);
        if (digits[0] < '0' || digits[0] > '9' || *stop != '\0' || value == 0 || value > UINT16_MAX)
            return -EINVAL;
    }
    memcpy(host, begin, (size_t)(host_end - begin));
    host[host_end - begin] = '\0';
    *ret_port = (uint16_t)value;
    return 0;
}

static int connect_any(struct client *c, uint64_t deadline_ns)
{
    int rc = -EINVAL;
    const char *at = c->bootstrap;
    for (bool more = true; more && !c->any.is_open;) {
        char host[256];
        uint16_t port;
        size_t len = strcspn(at, ",");
        rc = address_parse(at, len, host, &port);
        if (rc < 0)
            return client_fail(c, rc, CLIENT_NO_MESSAGE, "bootstrap address '%.*s'", (int)len, at);
        rc = client_conn_open(&c->any, host, port, deadline_ns);
        if (rc < 0)
            client_fail(c, rc, CLIENT_NO_MESSAGE, "%s", c->any.name);
        more = at[len] == ',';
        at += len + 1;
    }
    return rc;
}

static struct client_node *node_find(struct client *c, int32_t id)
{
    for (unsigned i = 0; i < c->nodes_n; i++)
        if (c->nodes[i].id == id)
            return &c->nodes[i];
    return NULL;
}

/* The node's connection, open. */
static int conn_of(struct client *c, int32_t id, uint64_t deadline_ns, struct client_conn **ret)
{
    struct client_node *node = id == CLIENT_ANY ? NULL : node_find(c, id);
    int rc = 0;
    if (id != CLIENT_ANY && node == NULL)
        return client_fail(c, client_rc(CLIENT_BROKER_NOT_AVAILABLE), CLIENT_NO_MESSAGE,
                           "broker %d", id);
    struct client_conn *conn = node == NULL ? &c->any : &node->conn;
    if (!conn->is_open && node == NULL)
        rc = connect_any(c, deadline_ns);
    else if (!conn->is_open &&
             (rc = client_conn_open(conn, node->host, node->port, deadline_ns)) < 0)
        client_fail(c, rc, CLIENT_NO_MESSAGE, "broker %d, %s", id, conn->name);
    *ret = conn;
    return rc;
}

int client_open(struct client *c, const char *bootstrap, uint64_t timeout_ns)
{
    struct client_conn *conn;
    *c = (struct client){
        .bootstrap = bootstrap, .timeout_ns = timeout_ns, .controller_id = CLIENT_ANY};
    wire_writer_init(&c->writer);
    c->nodes = calloc(CLIENT_NODES_MAX, sizeof(*c->nodes));
    if (c->nodes == NULL)
        return client_fail(c, -ENOMEM, CLIENT_NO_MESSAGE, "brokers");
    return conn_of(c, CLIENT_ANY, clock_now_ns() + timeout_ns, &conn);
}

void client_close(struct client *c)
{
    for (unsigned i = 0; i < c->nodes_n; i++)
        client_conn_close(&c->nodes[i].conn);
    client_conn_close(&c->any);
    wire_writer_fini(&c->writer);
    free(c->nodes);
}

/* ---- calls ---- */

static int call_fail(struct client *c, const struct client_conn *conn, int16_t key, int rc)
{
    return client_fail(c, rc, CLIENT_NO_MESSAGE, "%s, %s", conn->name, wire_api_find(key)->name);
}

int client_version(struct client *c, int32_t node, int16_t key, int16_t most, int16_t *ret)
{
    struct client_conn *conn;
    int rc = conn_of(c, node, clock_now_ns() + c->timeout_ns, &conn);
    if (rc < 0)
        return rc;
    int16_t version = client_conn_version(conn, key, most);
    if (version < 0)
        return call_fail(c, conn, key, client_rc(CLIENT_UNSUPPORTED_VERSION));
    *ret = version;
    return 0;
}

static int send_to(struct client *c, int32_t node, int16_t key, int16_t version,
                   const void *request, bool is_answered, uint64_t deadline_ns,
                   struct client_conn **ret)
{
    int rc = conn_of(c, node, deadline_ns, ret);
    if (rc < 0)
        return rc;
    if (client_conn_version(*ret, key, version) != version) /* it was made anew meanwhile */
        return call_fail(c, *ret, key, client_rc(CLIENT_UNSUPPORTED_VERSION));
    rc = client_conn_send(*ret, key, version, request, is_answered, &c->writer, deadline_ns);
    return rc < 0 ? call_fail(c, *ret, key, rc) : 0;
}

int client_call(struct client *c, int32_t node, int16_t key, int16_t version, const void *request,
                struct arena *arena, void *ret)
{
    struct client_conn *conn;
    uint64_t deadline_ns = clock_now_ns() + c->timeout_ns;
    int rc = send_to(c, node, key, version, request, true, deadline_ns, &conn);
    if (rc < 0)
        return rc;
    rc = client_conn_await(conn, deadline_ns, arena, ret);
    return rc < 0 ? call_fail(c, conn, key, rc) : 0;
}

int client_tell(struct client *c, int32_t node, int16_t key, int16_t version, const void *request)
{
    struct client_conn *conn;
    return send_to(c, node, key, version, request, false, clock_now_ns() + c->timeout_ns, &conn);
}

int client_submit(struct client *c, int32_t node, int16_t key, int16_t version, const void *request)
{
    struct client_conn *conn;
    return send_to(c, node, key, version, request, true, clock_now_ns() + c->timeout_ns, &conn);
}

bool client_is_busy(struct client *c, int32_t node)
{
    const struct client_node *n = node_find(c, node);
    return n != NULL && n->conn.is_open && n->conn.api != NULL;
}

/* A broker that has owed an answer for too long loses its connection. */
static bool expire(struct client *c, struct client_node *const *nodes, unsigned n,
                   int32_t *ret_node, int *ret_rc)
{
    uint64_t now_ns = clock_now_ns();
    for (unsigned i = 0; i < n; i++) {
        struct client_conn *conn = &nodes[i]->conn;
        if (now_ns - conn->sent_ns < c->timeout_ns)
            continue;
        *ret_node = nodes[i]->id;
        *ret_rc = call_fail(c, conn, conn->api->key, -ETIMEDOUT);
        client_conn_close(conn);
        return true;
    }
    return false;
}

int client_poll(struct client *c, uint64_t wait_ns, int32_t *ret_node, int *ret_rc)
{
    struct pollfd polls[CLIENT_NODES_MAX];
    struct client_node *nodes[CLIENT_NODES_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < c->nodes_n; i++)
        if (client_is_busy(c, c->nodes[i].id)) {
            polls[n] = (struct pollfd){.fd = c->nodes[i].conn.fd, .events = POLLIN};
            nodes[n++] = &c->nodes[i];
        }
    int ready = poll(polls, n, (int)MIN(wait_ns / MS_NS, (uint64_t)60000));
    for (unsigned i = 0; ready > 0 && i < n; i++) {
        if (polls[i].revents == 0)
            continue;
        int16_t key = nodes[i]->conn.api->key;
        int rc = client_conn_receive(&nodes[i]->conn);
        if (rc == 0)
            continue;
        *ret_node = nodes[i]->id;
        *ret_rc = rc < 0 ? call_fail(c, &nodes[i]->conn, key, rc) : 0;
        return 1;
    }
    return expire(c, nodes, n, ret_node, ret_rc);
}

int client_take(struct client *c, int32_t node, struct arena *arena, void *ret)
{
    struct client_conn *conn = &node_find(c, node)->conn;
    int16_t key = conn->api->key;
    int rc = client_conn_take(conn, arena, ret);
    return rc < 0 ? call_fail(c, conn, key, rc) : 0;
}

/* ---- who is who ---- */

static int node_learn(struct client *c, int32_t id, struct wire_str host, int32_t port)
{
    struct client_node *node = node_find(c, id);
    if (id < 0 || host.len <= 0 || host.len >= (int32_t)sizeof(node->host) || port <= 0 ||
        port > UINT16_MAX || memchr(host.p, '\0', (size_t)host.len) != NULL)
        return -EPROTO;
    if (node != NULL && node->port == port && wire_str_eq(host, node->host))
        return 0;
    if (node == NULL && c->nodes_n == CLIENT_NODES_MAX)
        return -E2BIG;
    if (node == NULL)
        node = &c->nodes[c->nodes_n++];
    client_conn_close(&node->conn);
    node->id = id;
    node->port = (uint16_t)port;
    memcpy(node->host, host.p, (size_t)host.len);
    node->host[host.len] = '\0';
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct metadata_response_metadata_response_topic *x = a, *y = b;
    int32_t len = MIN(x->name.len, y->name.len);
    int order = len > 0 ? memcmp(x->name.p, y->name.p, (size_t)len) : 0;
    return order != 0 ? order : x->name.len - y->name.len;
}

static int by_index(const void *a, const void *b)
{
    const struct metadata_response_metadata_response_partition *x = a, *y = b;
    return (x->partition_index > y->partition_index) - (x->partition_index < y->partition_index);
}

static int metadata_learn(struct client *c, struct metadata_response *r)
{
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < r->brokers_n; i++)
        rc = node_learn(c, r->brokers[i].node_id, r->brokers[i].host, r->brokers[i].port);
    c->controller_id = node_find(c, r->controller_id) != NULL ? r->controller_id : CLIENT_ANY;
    if (r->topics_n > 0)
        qsort(r->topics, (size_t)r->topics_n, sizeof(*r->topics), by_name);
    for (int32_t i = 0; i < r->topics_n; i++)
        if (r->topics[i].partitions_n > 0)
            qsort(r->topics[i].partitions, (size_t)r->topics[i].partitions_n,
                  sizeof(*r->topics[i].partitions), by_index);
    return rc;
}

static int metadata_once(struct client *c, const char *const *topics, unsigned topics_n,
                         bool may_create, struct arena *arena, struct metadata_response *ret)
{
    struct metadata_request request;
    int16_t version;
    int rc = client_version(c, CLIENT_ANY, API_METADATA, METADATA_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&metadata_request_schema, &request);
    request.allow_auto_topic_creation = may_create;
    request.topics_n = topics == NULL ? (version == 0 ? 0 : -1) : (int32_t)topics_n;
    if (topics != NULL) {
        request.topics = wire_new_array(&metadata_request_metadata_request_topic_schema, arena,
                                        (int32_t)topics_n);
        if (request.topics == NULL && topics_n > 0)
            return client_fail(c, -ENOMEM, CLIENT_NO_MESSAGE, "metadata");
    }
    for (unsigned i = 0; topics != NULL && i < topics_n; i++)
        request.topics[i].name = wire_str_of(topics[i]);
    rc = client_call(c, CLIENT_ANY, API_METADATA, version, &request, arena, ret);
    if (rc == 0 && (rc = metadata_learn(c, ret)) < 0)
        client_fail(c, rc, CLIENT_NO_MESSAGE, "%s, brokers of the Metadata answer", c->any.name);
    return rc;
}

int client_metadata(struct client *c, const char *const *topics, unsigned topics_n, bool may_create,
                    struct arena *arena, struct metadata_response *ret)
{
    struct client_retry retry = {0};
    int rc;
    do
        rc = metadata_once(c, topics, topics_n, may_create, arena, ret);
    while (rc < 0 && client_retry(c, &retry, rc));
    return rc;
}

static int coordinator_once(struct client *c, const char *group, struct arena *arena,
                            int32_t *ret_node)
{
    struct find_coordinator_request request;
    struct find_coordinator_response response;
    struct wire_str key = wire_str_of(group);
    int16_t version;
    int rc = client_version(c, CLIENT_ANY, API_FIND_COORDINATOR, 4, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&find_coordinator_request_schema, &request);
    request.key = key;
    request.coordinator_keys = &key;
    request.coordinator_keys_n = 1;
    rc = client_call(c, CLIENT_ANY, API_FIND_COORDINATOR, version, &request, arena, &response);
    if (rc < 0)
        return rc;
    struct find_coordinator_response_coordinator one = {.error_code = response.error_code,
                                                        .error_message = response.error_message,
                                                        .node_id = response.node_id,
                                                        .host = response.host,
                                                        .port = response.port};
    if (version >= 4 && response.coordinators_n != 1)
        return client_fail(c, -EPROTO, CLIENT_NO_MESSAGE, "coordinator of group %s", group);
    if (version >= 4)
        one = response.coordinators[0];
    rc = client_rc(one.error_code);
    if (rc == 0)
        rc = node_learn(c, one.node_id, one.host, one.port);
    if (rc < 0)
        return client_fail(c, rc, one.error_message, "coordinator of group %s", group);
    *ret_node = one.node_id;
    return 0;
}

int client_coordinator(struct client *c, const char *group, int32_t *ret_node)
{
    struct client_retry retry = {0};
    struct arena arena;
    int rc;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    do {
        arena_reset(&arena);
        rc = coordinator_once(c, group, &arena, ret_node);
    } while (rc < 0 && client_retry(c, &retry, rc));
    arena_fini(&arena);
    return rc;
}
