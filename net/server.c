#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "io/sock.h"
#include "net/api/data_shard.h"
#include "net/api/group_shard.h"
#include "net/conn.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define ACCEPT_RETRY_MS 100u /* after a failed accept: most likely out of file descriptors */
#define STARVED_RETRY_MS 1u
#define IDLE_CHECK_MS_MAX 5000u

static struct net *net_of(const struct shard *s)
{
    return s->net;
}

static void log_window_roll(struct net *net, uint64_t now)
{
    if (now - net->log_window_ns < NS_PER_S)
        return;
    if (net->log_dropped > 0)
        log_warn("shard %u: %u more lines about connections left out", net->shard->index,
                 net->log_dropped);
    net->log_window_ns = now;
    net->log_lines = net->log_dropped = 0;
}

void net_log(struct net *net, const char *fmt, ...)
{
    uint64_t now = env_now_ns(net->shard->env);
    log_window_roll(net, now);
    if (net->log_lines >= NET_LOG_LINES_PER_SECOND) {
        net->log_dropped++;
        return;
    }
    net->log_lines++;
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    log_warn("%s", line);
}

/* ---- accepting ---- */

struct deal { /* a new connection on its way to the shard that will own it */
    struct env_msg msg;
    int sock;
};

static void on_dealt(void *shard, struct env_msg *msg)
{
    struct deal *deal = container_of(msg, struct deal, msg);
    conn_open(net_of(shard), deal->sock);
    free(deal);
}

/* The shards of a node take turns; only its first shard listens. */
static void sock_deal(struct net *net, int sock)
{
    struct shard *s = net->shard;
    const struct broker_node *node = net_node_of_shard(s, s->index);
    unsigned to = node->first_shard + net->deal_next++ % node->shards_n;
    if (to == s->index) {
        conn_open(net, sock);
        return;
    }
    struct deal *deal = calloc(1, sizeof(*deal));
    if (deal == NULL) {
        env_sock_close(s->env, sock);
        return;
    }
    deal->sock = sock;
    deal->msg.run = on_dealt;
    env_post(s->env, to, &deal->msg);
}

static void on_accept(struct env_op *op);

static void on_accept_retry(struct shard_timer *t)
{
    struct net_listener *l = container_of(t, struct net_listener, retry);
    if (!l->net->stopping)
        env_accept(l->net->shard->env, &l->op, l->sock, on_accept);
}

static void on_accept(struct env_op *op)
{
    struct net_listener *l = container_of(op, struct net_listener, op);
    struct shard *s = l->net->shard;
    bool ended = !op->more;
    if (op->res >= 0)
        sock_deal(l->net, op->res);
    else if (!l->net->stopping)
        net_log(l->net, "shard %u: accept failed: %s", s->index, strerror(-op->res));
    if (!ended || l->net->stopping)
        return;
    uint64_t wait_ms = op->res >= 0 ? 0 : ACCEPT_RETRY_MS;
    shard_timer_set(s, &l->retry, env_now_ns(s->env) + wait_ms * NS_PER_MS, on_accept_retry);
}

/* ---- idle connections ---- */

static void idle_check(struct conn *c, uint64_t now)
{
    const struct shard *s = c->net->shard;
    uint64_t quiet_ms = (now - MIN(now, c->active_ns)) / NS_PER_MS;
    char peer[SOCK_NAME_BYTES];
    if (c->state == CONN_CLOSED) {
        if (quiet_ms > CONN_STALLED_MS)
            conn_abandon(c);
        return;
    }
    if (c->incoming != NULL && quiet_ms > CONN_STALLED_MS) {
        sock_peer_name(c->sock, peer);
        net_log(c->net, "shard %u: closing %s: a request of %u bytes does not arrive", s->index,
                peer, c->incoming->r.frame_len);
        conn_close(c);
        return;
    }
    struct list_node *first = list_head(&c->order);
    bool at_work = first != NULL && !container_of(first, struct request, link)->replied;
    if (!at_work && quiet_ms > s->broker->connection_idle_ms)
        conn_close(c);
}

static uint64_t idle_interval_ns(const struct net *net)
{
    uint64_t ms = net->shard->broker->connection_idle_ms / 4;
    return MAX(MIN(ms, IDLE_CHECK_MS_MAX), 100) * NS_PER_MS;
}

/* Coarse, and only while there are connections: an idle broker sleeps. */
static void on_idle_timer(struct shard_timer *t)
{
    struct net *net = container_of(t, struct net, idle_timer);
    uint64_t now = env_now_ns(net->shard->env);
    log_window_roll(net, now);
    list_for_each_safe(node, next, &net->conns)
        idle_check(container_of(node, struct conn, link), now);
}

/* ---- once a turn ---- */

/* First come, first served: whoever is at the head of the queue gets what becomes free, so a large
 * request is not overtaken for ever by smaller ones. */
static void memory_retry(struct list_node *waiting)
{
    for (struct list_node *node; (node = list_head(waiting)) != NULL;) {
        struct conn *c = container_of(node, struct conn, wait);
        list_remove(&c->wait);
        conn_resume(c);
        if (c->pause != CONN_PAUSED_MEMORY || c->state != CONN_OPEN)
            continue;
        list_remove(&c->wait);
        list_push_head(waiting, &c->wait);
        return;
    }
}

static void on_log_memory(struct log_waiter *w)
{
    struct net *net = container_of(w, struct net, log_waiter);
    memory_retry(&net->small_waiting);
    memory_retry(&net->large_waiting);
}

void net_wait_log_memory(struct net *net)
{
    net->log_waiter.run = on_log_memory;
    if (!list_linked(&net->log_waiter.link))
        log_store_wait_memory(net->shard->logs, &net->log_waiter);
}

static void on_starved_timer(struct shard_timer *t)
{
    struct net *net = container_of(t, struct net, starved_timer);
    struct list_node now; /* those that starve again come back to the list */
    list_init(&now);
    list_splice_tail(&now, &net->starved);
    for (struct list_node *node; (node = list_pop_head(&now)) != NULL;)
        conn_resume(container_of(node, struct conn, wait));
}

static void timers_arm(struct net *net)
{
    struct shard *s = net->shard;
    uint64_t now = env_now_ns(s->env);
    if (!list_empty(&net->starved) && net->starved_timer.heap_at == 0)
        shard_timer_set(s, &net->starved_timer, now + STARVED_RETRY_MS * NS_PER_MS,
                        on_starved_timer);
    bool wanted = !list_empty(&net->conns) || net->log_dropped > 0;
    if (wanted && net->idle_timer.heap_at == 0)
        shard_timer_set(s, &net->idle_timer, now + idle_interval_ns(net), on_idle_timer);
}

static void on_turn(struct shard *s)
{
    struct net *net = net_of(s);
    do { /* memory that is given back here is for those who wait for it, at once */
        conn_requests_drop(net);
        memory_retry(&net->small_waiting);
        memory_retry(&net->large_waiting);
        for (struct list_node *node; (node = list_pop_head(&net->dirty)) != NULL;)
            conn_flush(container_of(node, struct conn, dirty));
    } while (!list_empty(&net->dead));
    timers_arm(net);
    pressure_arm(net);
}

/* ---- life ---- */

/* A quarter; none where there is hardly any memory. */
static size_t small_reserve_bytes(const struct shard *s)
{
    size_t quarter = s->net_memory.size_bytes / 4;
    return quarter < 4 * CONN_SMALL_FRAME_BYTES ? 0 : quarter;
}

/* A frame must fit into the request memory even when that is fragmented: at most the largest block
 * that it begins with, beside what is kept for small frames. The memory of disk reads is as large,
 * and a read needs blocks around it. */
static uint32_t frame_bytes_max(const struct net *net)
{
    const struct shard *s = net->shard;
    size_t block = BLOCK_BYTES;
    while (block * 2 <= s->net_memory.size_bytes - net->small_reserve_bytes)
        block *= 2;
    block -= 2 * BLOCK_BYTES;
    if (block < s->broker->request_bytes_max && s->index == 0)
        log_info("memory limits a request to %zu bytes", block);
    return (uint32_t)MIN(block, (size_t)s->broker->request_bytes_max);
}

/* A number that may be set at runtime: the last layer that has it, else what it was at the start.
 */
static uint64_t number_now(const struct shard *s, const char *key, uint64_t at_start)
{
    uint64_t number = at_start;
    for (unsigned i = 0; i < META_LAYERS; i++) {
        const char *value = meta_broker_config(s->meta, (enum meta_layer)i, key);
        if (value != NULL)
            number = strtoull(value, NULL, 10);
    }
    return number;
}

static void limits_update(struct shard *s)
{
    const struct broker *b = s->broker;
    uint64_t most = MIN(number_now(s, "max.connections", b->connections_max),
                        MAX(b->connections_possible, b->connections_max));
    net_of(s)->conns_max = (unsigned)MAX((most + b->shards_n - 1) / b->shards_n, UINT64_C(1));
    if (s->logs != NULL) /* else it has connections only */
        log_store_producer_expiry_set(
            s->logs, number_now(s, "producer.id.expiration.ms", b->log.producer_expiry_ms));
}

static void on_meta(struct shard *s, const struct meta_topic *gone)
{
    limits_update(s);
    group_shard_meta(s, gone);
    produce_leaving_run(s);
}

int net_init(struct shard *s, const struct net_config *config)
{
    struct net *net = counter_calloc(sizeof(*net));
    if (net == NULL)
        return -ENOMEM;
    net->listeners = calloc(MAX(config->listen_socks_n, 1u), sizeof(*net->listeners));
    if (net->listeners == NULL) {
        free(net);
        return -ENOMEM;
    }
    net->shard = s;
    for (unsigned i = 0; i < net_apis_count; i++)
        ASSERT(net_apis[i].max_version < (int16_t)CLIENT_STATS_VERSIONS);
    net->pressed_round = 1;
    list_init(&net->conns);
    list_init(&net->dirty);
    list_init(&net->small_waiting);
    list_init(&net->large_waiting);
    list_init(&net->starved);
    list_init(&net->dead);
    net->small_reserve_bytes = small_reserve_bytes(s);
    net->frame_bytes_max = frame_bytes_max(net);
    s->net = net;
    if (group_shard_init(s) < 0) {
        free(net->listeners);
        free(net);
        s->net = NULL;
        return -ENOMEM;
    }
    s->on_turn = on_turn;
    s->on_meta = on_meta;
    limits_update(s);
    net->listeners_n = config->listen_socks_n;
    for (unsigned i = 0; i < net->listeners_n; i++) {
        struct net_listener *l = &net->listeners[i];
        l->net = net;
        l->sock = config->listen_socks[i];
        env_accept(s->env, &l->op, l->sock, on_accept);
    }
    return 0;
}

void net_stop(struct shard *s)
{
    struct net *net = net_of(s);
    s->stopping = net->stopping = true;
    shard_moves_stop(s);
    produce_leaving_end(s);
    for (unsigned i = 0; i < net->listeners_n; i++) {
        shard_timer_clear(s, &net->listeners[i].retry);
        env_sock_shutdown(s->env, net->listeners[i].sock); /* ends the accept */
    }
    list_for_each_safe(node, next, &net->conns) {
        struct conn *c = container_of(node, struct conn, link);
        list_for_each_safe(request, request_next, &c->order)
            request_cancel(container_of(request, struct request, link));
        conn_drain(c);
    }
    group_shard_stop(s);
}

bool net_stopped(const struct shard *s)
{
    const struct net *net = net_of(s);
    for (unsigned i = 0; i < net->listeners_n; i++)
        if (net->listeners[i].op.busy)
            return false;
    return net->counters.conns_open == 0 && net->requests_n == 0 && group_shard_stopped(s) &&
           shard_moves_settled(s);
}

void net_abort(struct shard *s)
{
    list_for_each_safe(node, next, &net_of(s)->conns) {
        conn_close(container_of(node, struct conn, link));
        conn_abandon(container_of(node, struct conn, link));
    }
}

void net_fini(struct shard *s)
{
    struct net *net = net_of(s);
    shard_timer_clear(s, &net->idle_timer);
    shard_timer_clear(s, &net->starved_timer);
    pressure_fini(net);
    list_remove(&net->log_waiter.link);
    data_shard_fini(s);
    group_shard_fini(s);
    conn_requests_fini(net);
    for (struct conn_send *send; (send = net->sends_free) != NULL;) {
        net->sends_free = send->next_free;
        free(send);
    }
    free(net->listeners);
    client_stats_fini(&net->clients);
    free(net);
    s->net = NULL;
    s->on_turn = NULL;
    s->on_meta = NULL;
}
