#include "tests/lib/net_sim.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/map.h"
#include "core/base/rng.h"
#include "io/sock.h"

#define START_NS UINT64_C(1000000000)
#define WALL_START_MS 1704067200000ll /* 2024-01-01 00:00:00 UTC */
#define NS_PER_MS 1000000

enum {
    FIRST_SOCK = 100, /* so that nothing takes a descriptor of the process for one */
    RECV_ANY_BYTES = 16384,
    RELEASE_ODDS = 3, /* with split: one in so many turns */
};

enum parcel_kind { PARCEL_DATA, PARCEL_CLOSE, PARCEL_CONNECT };

struct parcel { /* on a link, in order of arrival */
    struct list_node link;
    uint64_t at_ns;
    enum parcel_kind kind;
    int sock;
    uint8_t *data;
    size_t len_bytes;
};

struct sim_sock {
    int number;
    uint8_t *data; /* received; [at, len) is unread */
    size_t at, len_bytes, cap_bytes;
    bool connected, refused;
    bool closed_by_peer;
    bool shut; /* by us */
    struct env_op *connecting;
    struct list_node waiting; /* env_op: receives, oldest first */
};

struct release { /* a send whose buffers are still lent */
    struct list_node link;
    struct env_op *op;
    env_done_fn on_released;
    const struct iovec *iov;
    unsigned iov_n;
    uint32_t crc; /* of the bytes when they were sent */
};

struct net_sim {
    struct env env;
    struct net_sim_config config;
    struct script_broker *broker;
    uint16_t port;
    bool refuse;
    uint64_t now_ns;
    struct rng rng_core, rng_net; /* env_random | splits and releases */
    int next_sock;
    struct map socks;           /* sim_sock */
    struct list_node pending;   /* env_op submitted since the last turn */
    struct list_node done;      /* env_op to be called back */
    struct list_node releases;  /* release */
    struct list_node self;      /* env_msg */
    struct list_node to_broker; /* parcel */
    struct list_node to_client;
};

static struct net_sim *sim_of(struct env *env)
{
    return container_of(env, struct net_sim, env);
}

static void *alloc_zeroed(size_t bytes)
{
    void *p = calloc(1, bytes);
    ASSERT(p != NULL);
    return p;
}

/* ---- links ---- */

static void parcel_send(struct list_node *to, uint64_t at_ns, enum parcel_kind kind, int sock,
                        uint8_t *data, size_t len_bytes)
{
    struct parcel *p = alloc_zeroed(sizeof(*p));
    *p = (struct parcel){
        .at_ns = at_ns, .kind = kind, .sock = sock, .data = data, .len_bytes = len_bytes};
    ASSERT(list_empty(to) || container_of(to->prev, struct parcel, link)->at_ns <= at_ns);
    list_push_tail(to, &p->link);
}

static void parcel_free(struct parcel *p)
{
    list_remove(&p->link);
    free(p->data);
    free(p);
}

static struct parcel *parcel_at(const struct list_node *link_, uint64_t now_ns)
{
    struct list_node *node = list_head(link_);
    struct parcel *p = node == NULL ? NULL : container_of(node, struct parcel, link);
    return p != NULL && p->at_ns <= now_ns ? p : NULL;
}

static uint64_t parcel_next_ns(const struct list_node *link_)
{
    struct list_node *node = list_head(link_);
    return node == NULL ? UINT64_MAX : container_of(node, struct parcel, link)->at_ns;
}

/* ---- sockets ---- */

static struct sim_sock *sock_get(const struct net_sim *sim, int number)
{
    return map_get(&sim->socks, (uint64_t)number);
}

static struct sim_sock *sock_new(struct net_sim *sim)
{
    struct sim_sock *k = alloc_zeroed(sizeof(*k));
    k->number = sim->next_sock++;
    list_init(&k->waiting);
    int rc = map_put(&sim->socks, (uint64_t)k->number, k);
    ASSERT(rc == 0);
    return k;
}

static void sock_free(struct net_sim *sim, struct sim_sock *k)
{
    map_remove(&sim->socks, (uint64_t)k->number);
    free(k->data);
    free(k);
}

static void sock_receive(struct sim_sock *k, const uint8_t *data, size_t len)
{
    if (k->at == k->len_bytes)
        k->at = k->len_bytes = 0;
    if (k->len_bytes + len > k->cap_bytes) {
        k->cap_bytes = MAX(k->cap_bytes * 2, k->len_bytes + len);
        k->data = realloc(k->data, k->cap_bytes);
        ASSERT(k->data != NULL);
    }
    memcpy(k->data + k->len_bytes, data, len);
    k->len_bytes += len;
}

static void op_finish(struct net_sim *sim, struct env_op *op, int res)
{
    op->res = res;
    list_push_tail(&sim->done, &op->link);
}

/* ---- receiving ---- */

/* With split a receive brings as little as one byte: what is framed must not rely on more. */
static size_t some_of(struct net_sim *sim, size_t len)
{
    return sim->config.split && len > 1 ? 1 + rng_below(&sim->rng_net, len) : len;
}

static size_t recv_copy(struct net_sim *sim, struct sim_sock *k, struct env_op *op)
{
    bool any = op->kind == ENV_OP_RECV_ANY, all = !any && (op->flags & ENV_RECV_ALL) != 0;
    size_t room = any ? RECV_ANY_BYTES : op->len_bytes - op->done_bytes;
    size_t n = MIN(k->len_bytes - k->at, room);
    if (!all)
        n = some_of(sim, n);
    if (any) {
        op->buf = malloc(n);
        ASSERT(op->buf != NULL);
    }
    memcpy((uint8_t *)op->buf + op->done_bytes, k->data + k->at, n);
    k->at += n;
    op->done_bytes += n;
    sim->env.counters.received_bytes += n;
    return n;
}

/* Serve the receives that wait, as far as there is anything. */
static void sock_pump(struct net_sim *sim, struct sim_sock *k)
{
    struct list_node *node;
    while ((node = list_head(&k->waiting)) != NULL) {
        struct env_op *op = container_of(node, struct env_op, link);
        bool all = op->kind == ENV_OP_RECV && (op->flags & ENV_RECV_ALL) != 0;
        bool ended = k->closed_by_peer || k->shut;
        if (k->at < k->len_bytes)
            recv_copy(sim, k, op);
        else if (!ended)
            return;
        if (all && op->done_bytes < op->len_bytes && !ended)
            return;
        list_remove(node);
        op_finish(sim, op, (int)op->done_bytes);
    }
}

static void recv_start(struct net_sim *sim, struct env_op *op)
{
    struct sim_sock *k = sock_get(sim, op->sock);
    if (k == NULL) {
        op_finish(sim, op, -EBADF);
        return;
    }
    list_push_tail(&k->waiting, &op->link);
    sock_pump(sim, k);
}

/* ---- sending ---- */

static uint32_t iov_crc(const struct iovec *iov, unsigned iov_n)
{
    uint32_t crc = 0;
    for (unsigned i = 0; i < iov_n; i++)
        crc = crc32c_extend(crc, iov[i].iov_base, iov[i].iov_len);
    return crc;
}

/* Kept with the op until its on_done. */
static void release_prepare(struct env_op *op)
{
    struct release *rel = alloc_zeroed(sizeof(*rel));
    rel->op = op;
    rel->on_released = op->on_released;
    rel->iov = op->iov;
    rel->iov_n = op->iov_n;
    rel->crc = iov_crc(op->iov, op->iov_n);
    op->private_[0] = rel;
}

static void send_start(struct net_sim *sim, struct env_op *op)
{
    struct sim_sock *k = sock_get(sim, op->sock);
    release_prepare(op);
    if (k == NULL || k->shut || k->closed_by_peer) {
        op_finish(sim, op, k == NULL ? -EBADF : -EPIPE);
        return;
    }
    uint8_t *data = malloc(MAX(op->len_bytes, 1)), *to = data;
    ASSERT(data != NULL);
    for (unsigned i = 0; i < op->iov_n; to += op->iov[i].iov_len, i++)
        if (op->iov[i].iov_len > 0)
            memcpy(to, op->iov[i].iov_base, op->iov[i].iov_len);
    parcel_send(&sim->to_broker, sim->now_ns + sim->config.latency_ns, PARCEL_DATA, k->number, data,
                op->len_bytes);
    sim->env.counters.egress_bytes[ENV_EGRESS_SEND] += op->len_bytes;
    op_finish(sim, op, (int)op->len_bytes);
}

/* Buffers come back in the order of the sends, after their on_done; without split at once. */
static void run_releases(struct net_sim *sim)
{
    struct list_node *node;
    while ((node = list_head(&sim->releases)) != NULL) {
        struct release *rel = container_of(node, struct release, link);
        if (sim->config.split && rng_below(&sim->rng_net, RELEASE_ODDS) != 0)
            return;
        struct env_op *op = rel->op;
        env_done_fn on_released = rel->on_released;
        ASSERT(iov_crc(rel->iov, rel->iov_n) == rel->crc && "bytes changed while lent to a send");
        list_remove(node);
        free(rel);
        if (on_released != NULL)
            on_released(op);
    }
}

/* ---- connecting ---- */

static uint16_t port_of(const struct sock_addr *addr)
{
    /* The port is at the same place for IPv6. */
    return ntohs(((const struct sockaddr_in *)(const void *)&addr->storage)->sin_port);
}

/* The answer takes a round trip, also a refusal. A socket that is shut down meanwhile is found out
 * when it comes. */
static void connect_start(struct net_sim *sim, struct env_op *op)
{
    struct sim_sock *k = sock_get(sim, op->sock);
    ASSERT(k != NULL);
    if (k->shut) {
        op_finish(sim, op, -ECONNABORTED);
        sock_free(sim, k);
        return;
    }
    k->connecting = op;
    k->refused = port_of(op->addr) != sim->port;
    parcel_send(&sim->to_broker, sim->now_ns + sim->config.latency_ns, PARCEL_CONNECT, op->sock,
                NULL, 0);
}

static void connect_arrive(struct net_sim *sim, struct sim_sock *k)
{
    k->refused = k->refused || sim->refuse;
    if (!k->refused)
        script_open(sim->broker, k->number, sim->now_ns);
    parcel_send(&sim->to_client, sim->now_ns + sim->config.latency_ns, PARCEL_CONNECT, k->number,
                NULL, 0);
}

static void connect_end(struct net_sim *sim, struct sim_sock *k)
{
    struct env_op *op = k->connecting;
    k->connecting = NULL;
    if (!k->shut && !k->refused) {
        k->connected = true;
        op_finish(sim, op, k->number);
        return;
    }
    op_finish(sim, op, k->shut ? -ECONNABORTED : -ECONNREFUSED);
    sock_free(sim, k);
}

/* ---- the network at work ---- */

static void broker_deliver(struct net_sim *sim, struct parcel *p)
{
    struct sim_sock *k = sock_get(sim, p->sock);
    if (p->kind == PARCEL_DATA)
        script_input(sim->broker, p->sock, sim->now_ns, p->data, p->len_bytes);
    else if (p->kind == PARCEL_CLOSE)
        script_close(sim->broker, p->sock, sim->now_ns);
    else if (k != NULL)
        connect_arrive(sim, k);
}

static void client_deliver(struct net_sim *sim, struct parcel *p)
{
    struct sim_sock *k = sock_get(sim, p->sock);
    if (k == NULL)
        return;
    if (p->kind == PARCEL_CONNECT) {
        connect_end(sim, k);
        return;
    }
    if (p->kind == PARCEL_DATA)
        sock_receive(k, p->data, p->len_bytes);
    else
        k->closed_by_peer = true;
    sock_pump(sim, k);
}

static void broker_take(struct net_sim *sim, const struct script_output *out)
{
    enum parcel_kind kind = out->close ? PARCEL_CLOSE : PARCEL_DATA;
    if (out->close)
        script_close(sim->broker, out->conn, sim->now_ns);
    parcel_send(&sim->to_client, sim->now_ns + sim->config.latency_ns, kind, out->conn, out->data,
                out->len_bytes);
}

/* All that happens at this instant. What the client makes of it comes in a later turn. */
static void network_run(struct net_sim *sim)
{
    struct parcel *p;
    struct script_output out;
    while ((p = parcel_at(&sim->to_broker, sim->now_ns)) != NULL) {
        broker_deliver(sim, p);
        parcel_free(p);
    }
    while (script_take(sim->broker, sim->now_ns, &out))
        broker_take(sim, &out);
    while ((p = parcel_at(&sim->to_client, sim->now_ns)) != NULL) {
        client_deliver(sim, p);
        parcel_free(p);
    }
}

static uint64_t network_next_ns(const struct net_sim *sim)
{
    uint64_t links = MIN(parcel_next_ns(&sim->to_broker), parcel_next_ns(&sim->to_client));
    return MIN(links, script_next_due(sim->broker));
}

/* ---- env_ops ---- */

static uint64_t sim_now_ns(struct env *env)
{
    return sim_of(env)->now_ns;
}

static int64_t sim_wall_ms(struct env *env)
{
    return WALL_START_MS + (int64_t)(sim_of(env)->now_ns - START_NS) / NS_PER_MS;
}

static uint64_t sim_random(struct env *env)
{
    return rng_next(&sim_of(env)->rng_core);
}

static void sim_submit(struct env *env, struct env_op *op)
{
    struct net_sim *sim = sim_of(env);
    if (op->kind == ENV_OP_CONNECT)
        op->sock = sock_new(sim)->number;
    env->counters.submissions++;
    list_push_tail(&sim->pending, &op->link);
}

static void pending_start(struct net_sim *sim, struct env_op *op)
{
    switch (op->kind) {
    case ENV_OP_CONNECT:
        connect_start(sim, op);
        return;
    case ENV_OP_RECV:
    case ENV_OP_RECV_ANY:
        recv_start(sim, op);
        return;
    case ENV_OP_SEND:
        send_start(sim, op);
        return;
    default:
        op_finish(sim, op, -ENOSYS);
    }
}

static void sim_file_close(struct env *env, struct env_file *file)
{
    (void)env;
    (void)file;
    ASSERT(!"there are no files");
}

static void sim_recv_return(struct env *env, struct env_op *op)
{
    (void)env;
    free(op->buf);
}

static void sim_sock_shutdown(struct env *env, int sock)
{
    struct net_sim *sim = sim_of(env);
    struct sim_sock *k = sock_get(sim, sock);
    if (k == NULL || k->shut)
        return;
    k->shut = true;
    parcel_send(&sim->to_broker, sim->now_ns + sim->config.latency_ns, PARCEL_CLOSE, sock, NULL, 0);
    sock_pump(sim, k);
}

static bool in_flight_on(const struct list_node *ops, int sock)
{
    list_for_each(node, ops) {
        const struct env_op *op = container_of(node, struct env_op, link);
        if (op->sock == sock)
            return true;
    }
    return false;
}

static void sim_sock_close(struct env *env, int sock)
{
    struct net_sim *sim = sim_of(env);
    struct sim_sock *k = sock_get(sim, sock);
    ASSERT(k != NULL && k->connected);
    ASSERT(list_empty(&k->waiting) && "closed under a receive");
    ASSERT(!in_flight_on(&sim->pending, sock) && !in_flight_on(&sim->done, sock));
    sim_sock_shutdown(env, sock);
    sock_free(sim, k);
}

static void sim_post(struct env *env, unsigned to, struct env_msg *msg)
{
    ASSERT(to == 0);
    msg->from = 0;
    list_push_tail(&sim_of(env)->self, &msg->link);
}

static void run_messages(struct net_sim *sim)
{
    struct list_node batch, *node;
    list_init(&batch);
    list_splice_tail(&batch, &sim->self);
    while ((node = list_pop_head(&batch)) != NULL) {
        struct env_msg *msg = container_of(node, struct env_msg, link);
        sim->env.counters.messages++;
        msg->run(sim->env.shard, msg);
    }
}

static void run_done(struct net_sim *sim)
{
    struct list_node batch, *node;
    list_init(&batch);
    list_splice_tail(&batch, &sim->done);
    while ((node = list_pop_head(&batch)) != NULL) {
        struct env_op *op = container_of(node, struct env_op, link);
        sim->env.counters.completions++;
        if (op->kind == ENV_OP_SEND) { /* before on_done, which may submit the op again */
            struct release *rel = op->private_[0];
            list_push_tail(&sim->releases, &rel->link);
        }
        op->busy = false;
        op->on_done(op);
    }
}

/* Move the clock until there is something to call back, but not beyond the deadline. */
static void wait_until(struct net_sim *sim, uint64_t deadline_ns)
{
    for (;;) {
        network_run(sim);
        if (!list_empty(&sim->done) || !list_empty(&sim->self) || deadline_ns <= sim->now_ns)
            return;
        uint64_t next_ns = network_next_ns(sim);
        if (next_ns >= deadline_ns && !list_empty(&sim->releases))
            return; /* they come before the deadline */
        next_ns = MIN(next_ns, deadline_ns);
        ASSERT(next_ns != UINT64_MAX && "waiting for ever: nothing is due, nothing was asked for");
        ASSERT(next_ns > sim->now_ns);
        sim->now_ns = next_ns;
    }
}

static void sim_turn(struct env *env, uint64_t deadline_ns)
{
    struct net_sim *sim = sim_of(env);
    struct list_node *node;
    env->counters.turns++;
    while ((node = list_pop_head(&sim->pending)) != NULL)
        pending_start(sim, container_of(node, struct env_op, link));
    wait_until(sim, deadline_ns);
    run_messages(sim);
    run_done(sim);
    run_releases(sim);
}

static void parcels_free(struct list_node *link_)
{
    while (!list_empty(link_))
        parcel_free(container_of(link_->next, struct parcel, link));
}

/* Nobody was told what it has got. */
static void op_forget(struct env_op *op)
{
    if (op->kind == ENV_OP_SEND)
        free(op->private_[0]);
    if (op->kind == ENV_OP_RECV_ANY && op->res > 0)
        free(op->buf);
}

static void sim_destroy(struct env *env)
{
    struct net_sim *sim = sim_of(env);
    struct sim_sock *k;
    struct list_node *node;
    for (size_t it = 0; (k = map_next(&sim->socks, &it)) != NULL;) {
        script_close(sim->broker, k->number, sim->now_ns);
        free(k->data);
        free(k);
    }
    map_fini(&sim->socks);
    while ((node = list_pop_head(&sim->releases)) != NULL)
        free(container_of(node, struct release, link));
    while ((node = list_pop_head(&sim->done)) != NULL)
        op_forget(container_of(node, struct env_op, link));
    parcels_free(&sim->to_broker);
    parcels_free(&sim->to_client);
    free(sim);
}

static const struct env_ops net_sim_ops = {
    .now_ns = sim_now_ns,
    .wall_ms = sim_wall_ms,
    .random = sim_random,
    .submit = sim_submit,
    .file_close = sim_file_close,
    .recv_return = sim_recv_return,
    .sock_shutdown = sim_sock_shutdown,
    .sock_close = sim_sock_close,
    .post = sim_post,
    .turn = sim_turn,
    .destroy = sim_destroy,
};

struct env *net_sim_create(const struct net_sim_config *config, struct script_broker *broker,
                           uint16_t port)
{
    struct net_sim *sim = alloc_zeroed(sizeof(*sim));
    sim->env.ops = &net_sim_ops;
    sim->env.count = 1;
    sim->env.shard = config->shard;
    sim->config = *config;
    sim->broker = broker;
    sim->port = port;
    sim->now_ns = START_NS;
    rng_seed(&sim->rng_core, config->seed);
    rng_seed(&sim->rng_net, ~config->seed);
    sim->next_sock = FIRST_SOCK;
    map_init(&sim->socks);
    list_init(&sim->pending);
    list_init(&sim->done);
    list_init(&sim->releases);
    list_init(&sim->self);
    list_init(&sim->to_broker);
    list_init(&sim->to_client);
    return &sim->env;
}

void net_sim_advance(struct env *env, uint64_t ns)
{
    struct net_sim *sim = sim_of(env);
    uint64_t until_ns = sim->now_ns + ns;
    network_run(sim);
    for (uint64_t next_ns; (next_ns = network_next_ns(sim)) <= until_ns; network_run(sim))
        sim->now_ns = MAX(next_ns, sim->now_ns);
    sim->now_ns = until_ns;
}

void net_sim_refuse(struct env *env, bool refuse)
{
    sim_of(env)->refuse = refuse;
}
