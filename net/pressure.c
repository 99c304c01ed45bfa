/* pressure.c: while somebody waits for memory, connections that hold some and do not take part are
 * closed, so that a client that stops in the middle of a request, or of a reply, costs the others
 * moments and not minutes.
 * Happy path: nobody waits, and there is no timer. Else each connection that holds memory (of a
 *   frame that is arriving, or of replies that are leaving) is looked at twice a second: what has
 *   its socket moved? Who moves less than CONN_PRESSED_BYTES in PRESSED_LOOKS is closed (not in so
 *   much time: while the machine stood still nobody could move). Requests that wait, a long poll
 *   say, are answered now where others of the same connection are open: those behind may be
 *   ready, hold memory, and cannot leave before.
 * Failure: none of its own; a log line for each. Threads: the shard's. */
#include "core/base/bytes.h"
#include "io/sock.h"
#include "net/conn.h"

#define PRESSED_LOOKS 4u
#define CONN_PRESSED_BYTES (16u << 10)
#define CHECK_MS 500u
#define NS_PER_MS UINT64_C(1000000)

static bool is_pressed(const struct net *net)
{
    const struct log_store *logs = net->shard->logs;
    return !list_empty(&net->small_waiting) || !list_empty(&net->large_waiting) ||
           (logs != NULL && log_store_memory_short(logs));
}

static bool holds_memory(const struct conn *c)
{
    const struct conn_request *x = c->incoming;
    return c->sends > 0 || (x != NULL && (x->block != NULL || x->r.place.block != NULL));
}

static void watch_restart(struct conn *c, uint64_t moved_bytes)
{
    c->watch_round = c->net->pressed_round;
    c->watch_bytes = moved_bytes;
    c->watch_looks = 0;
}

static void requests_hurry(struct conn *c)
{
    if (c->open_requests < 2)
        return;
    list_for_each_safe(node, next, &c->order)
        request_cancel(container_of(node, struct request, link));
}

static void conn_watch(struct conn *c)
{
    struct net *net = c->net;
    requests_hurry(c);
    if (c->sock < 0 || !holds_memory(c)) {
        c->watch_round = 0;
        return;
    }
    uint64_t moved = env_sock_moved_bytes(net->shard->env, c->sock);
    if (c->watch_round != net->pressed_round || moved - c->watch_bytes >= CONN_PRESSED_BYTES) {
        watch_restart(c, moved);
        return;
    }
    if (++c->watch_looks < PRESSED_LOOKS)
        return;
    if (c->state == CONN_CLOSED) {
        conn_abandon(c);
        return;
    }
    char peer[SOCK_NAME_BYTES];
    sock_peer_name(c->sock, peer);
    net_log(net, "shard %u: closing %s: others wait for the memory of its %s, and it does not move",
            net->shard->index, peer, c->sends > 0 ? "replies" : "request");
    conn_close(c);
}

static void on_pressed_timer(struct shard_timer *t)
{
    struct net *net = container_of(t, struct net, pressed_timer);
    if (!is_pressed(net)) {
        net->pressed_round++; /* what was seen does not count the next time */
        return;
    }
    list_for_each_safe(node, next, &net->conns)
        conn_watch(container_of(node, struct conn, link));
}

void pressure_arm(struct net *net)
{
    struct shard *s = net->shard;
    if (net->pressed_timer.heap_at != 0 || !is_pressed(net))
        return;
    shard_timer_set(s, &net->pressed_timer, env_now_ns(s->env) + CHECK_MS * NS_PER_MS,
                    on_pressed_timer);
}

void pressure_fini(struct net *net)
{
    shard_timer_clear(net->shard, &net->pressed_timer);
}
