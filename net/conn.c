#include "net/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/sock.h"

static void conn_read(struct conn *c);

/* ---- open and close ---- */

static void conn_refuse(struct net *net, int sock)
{
    counter_add(&net->counters.conns_refused, 1);
    env_sock_close(net->shard->env, sock);
}

void conn_open(struct net *net, int sock)
{
    counter_add(&net->counters.conns_accepted, 1);
    if (net->stopping) {
        conn_refuse(net, sock);
        return;
    }
    if (net->counters.conns_open >= net->conns_max) {
        net_log(net, "shard %u: connection refused: its share of max.connections, %u, is in use",
                net->shard->index, net->conns_max);
        conn_refuse(net, sock);
        return;
    }
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        net_log(net, "shard %u: connection refused: no memory", net->shard->index);
        conn_refuse(net, sock);
        return;
    }
    c->net = net;
    c->sock = sock;
    c->is_local = sock_is_local(sock);
    c->active_ns = env_now_ns(net->shard->env);
    list_init(&c->order);
    list_push_tail(&net->conns, &c->link);
    counter_add(&net->counters.conns_open, 1);
    conn_read(c);
}

static void conn_free_if_quiet(struct conn *c)
{
    if (c->state != CONN_CLOSED || c->recv_op.busy || c->sends > 0)
        return;
    struct net *net = c->net;
    list_remove(&c->link);
    list_remove(&c->dirty);
    list_remove(&c->wait);
    counter_set(&net->counters.conns_open, net->counters.conns_open - 1);
    counter_add(&net->counters.conns_closed, 1);
    if (c->sock >= 0)
        env_sock_close(net->shard->env, c->sock);
    free(c->stash);
    free(c);
}

/* Its requests live on until they are answered, and the answers go nowhere. */
static void conn_disown_requests(struct conn *c)
{
    for (struct list_node *node; (node = list_pop_head(&c->order)) != NULL;) {
        struct conn_request *x = container_of(node, struct conn_request, r.link);
        struct request *r = &x->r;
        r->conn = NULL;
        if (r->replied && x->sends > 0)
            x->queued_all = true; /* released with its last send */
        else if (r->replied)
            conn_request_drop_later(x);
        else
            request_cancel(r);
    }
    c->open_requests = 0;
}

void conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    env_sock_shutdown(c->net->shard->env, c->sock); /* what is in flight comes back */
    list_remove(&c->wait);
    list_remove(&c->dirty);
    conn_disown_requests(c);
    if (c->incoming != NULL && !c->recv_op.busy) {
        conn_request_drop_later(c->incoming);
        c->incoming = NULL;
    }
    conn_mark_dirty(c); /* freed at the end of the turn: the caller may still look at it */
}

void conn_abandon(struct conn *c)
{
    if (c->state != CONN_CLOSED || c->recv_op.busy || c->sending != NULL || c->sock < 0)
        return;
    env_sock_abort(c->net->shard->env, c->sock);
    c->sock = -1;
    conn_mark_dirty(c);
}

void conn_mark_dirty(struct conn *c)
{
    if (!list_linked(&c->dirty))
        list_push_tail(&c->net->dirty, &c->dirty);
}

void conn_drain(struct conn *c)
{
    if (c->state == CONN_OPEN)
        c->state = CONN_DRAINING;
    list_remove(&c->wait);
    conn_mark_dirty(c);
}

/* ---- receiving ---- */

/* Keeps the n bytes at p, which cannot be taken now: the receive buffer must go back. */
static void stash_set(struct conn *c, const uint8_t *p, uint32_t n)
{
    if (c->stash != NULL && n > 0) { /* then p is its end: nothing is read while there is a stash */
        c->stash_at = c->stash_n - n;
        return;
    }
    free(c->stash);
    c->stash = NULL;
    c->stash_at = c->stash_n = 0;
    if (n == 0)
        return;
    c->stash = malloc(n);
    if (c->stash == NULL) {
        net_log(c->net, "shard %u: closing a connection: no memory", c->net->shard->index);
        conn_close(c);
        return;
    }
    memcpy(c->stash, p, n);
    c->stash_n = n;
}

static void frame_refuse(struct conn *c, int32_t len, const char *why)
{
    char peer[SOCK_NAME_BYTES];
    sock_peer_name(c->sock, peer);
    net_log(c->net, "shard %u: closing %s: frame of %d bytes: %s", c->net->shard->index, peer, len,
            why);
    conn_drain(c);
}

/* The length has arrived, and n bytes behind it: memory for the frame. False: the connection waits
 * or is ending. */
static bool frame_begin(struct conn *c, const uint8_t *p, uint32_t n)
{
    struct net *net = c->net;
    int32_t len = (int32_t)be_load32(c->head);
    if (len < 0 || (uint32_t)len > net->frame_bytes_max) {
        frame_refuse(c, len, len < 0 ? "negative" : "more than a request may have");
        return false;
    }
    c->incoming = conn_request_create(net, (uint32_t)len, p, n);
    if (c->incoming == NULL) {
        c->pause = CONN_PAUSED_MEMORY;
        counter_add(&net->counters.memory_waits, 1);
        if (!list_linked(&c->wait))
            list_push_tail((uint32_t)len > CONN_SMALL_FRAME_BYTES ? &net->large_waiting
                                                                  : &net->small_waiting,
                           &c->wait);
        return false;
    }
    return true;
}

static void frame_complete(struct conn *c)
{
    struct conn_request *x = c->incoming;
    c->incoming = NULL;
    c->head_n = 0;
    x->r.conn = c;
    list_push_tail(&c->order, &x->r.link);
    c->open_requests++;
    conn_request_dispatch(x);
}

/* Moves bytes into the frame that is being received. False: nothing can be taken now. */
static bool frame_take(struct conn *c, const uint8_t **p, uint32_t *n)
{
    if (c->incoming == NULL) {
        if (c->open_requests >= c->net->shard->broker->requests_in_flight_max) {
            c->pause = CONN_PAUSED_IN_FLIGHT;
            return false;
        }
        uint32_t take = MIN(*n, 4 - c->head_n);
        memcpy(c->head + c->head_n, *p, take);
        c->head_n += take;
        *p += take;
        *n -= take;
        if (c->head_n < 4)
            return true;
        if (!frame_begin(c, *p, *n))
            return false;
    }
    struct conn_request *x = c->incoming;
    uint32_t take = MIN(*n, x->r.frame_len - x->have);
    memcpy(x->r.frame + x->have, *p, take);
    x->have += take;
    produce_arrived(&x->r, x->have);
    *p += take;
    *n -= take;
    if (x->have == x->r.frame_len)
        frame_complete(c);
    return true;
}

/* Takes as much as it can of n bytes, stashes the rest. */
static void conn_consume(struct conn *c, const uint8_t *p, uint32_t n)
{
    c->pause = CONN_READING;
    c->active_ns = env_now_ns(c->net->shard->env);
    while (c->state == CONN_OPEN && (n > 0 || (c->head_n == 4 && c->incoming == NULL)))
        if (!frame_take(c, &p, &n))
            break;
    if (c->state == CONN_OPEN)
        stash_set(c, p, n);
}

/* The socket is at its end: what was asked before may still be answered (a client may shut down its
 * sending half and read on), but a frame that was cut is no request. */
static void conn_read_ended(struct conn *c, int res)
{
    if (res < 0 && res != -ECONNRESET && res != -EPIPE && c->state == CONN_OPEN)
        net_log(c->net, "shard %u: receive failed: %s", c->net->shard->index, strerror(-res));
    if (c->incoming != NULL) {
        conn_request_drop_later(c->incoming);
        c->incoming = NULL;
    }
    if (res < 0) {
        conn_close(c);
        return;
    }
    list_for_each_safe(node, next, &c->order) /* nobody waits for a long poll any more */
        request_cancel(container_of(node, struct request, link));
    conn_drain(c);
}

static void on_recv_any(struct env_op *op)
{
    struct conn *c = container_of(op, struct conn, recv_op);
    struct net *net = c->net;
    if (op->res > 0) {
        if (c->state == CONN_OPEN)
            conn_consume(c, op->buf, (uint32_t)op->res);
        env_recv_return(net->shard->env, op);
        conn_read(c);
    } else if (op->res == -ENOBUFS && c->state == CONN_OPEN) {
        counter_add(&net->counters.buffer_waits, 1);
        list_push_tail(&net->starved, &c->wait);
    } else {
        conn_read_ended(c, op->res);
    }
    if (c->state != CONN_OPEN)
        conn_mark_dirty(c);
}

static void on_recv(struct env_op *op)
{
    struct conn *c = container_of(op, struct conn, recv_op);
    struct conn_request *x = c->incoming;
    if (op->res > 0 && c->state == CONN_OPEN) {
        x->have += (uint32_t)op->res;
        produce_arrived(&x->r, x->have);
        c->active_ns = env_now_ns(c->net->shard->env);
        if (x->have == x->r.frame_len)
            frame_complete(c);
        conn_read(c);
    } else {
        conn_read_ended(c, op->res > 0 ? 0 : op->res);
    }
    if (c->state != CONN_OPEN)
        conn_mark_dirty(c);
}

/* The only place that starts a receive. */
static void conn_read(struct conn *c)
{
    struct env *env = c->net->shard->env;
    if (c->state != CONN_OPEN || c->recv_op.busy || c->pause != CONN_READING)
        return;
    struct conn_request *x = c->incoming;
    if (x != NULL) {
        uint32_t rest = MIN(x->r.frame_len - x->have, CONN_RECV_CHUNK_BYTES);
        env_recv(env, &c->recv_op, c->sock, x->r.frame + x->have, rest, ENV_RECV_ALL, on_recv);
    } else {
        env_recv_any(env, &c->recv_op, c->sock, on_recv_any);
    }
}

void conn_resume(struct conn *c)
{
    static const uint8_t nothing[1];
    if (c->state != CONN_OPEN)
        return;
    if (c->pause != CONN_READING)
        conn_consume(c, c->stash != NULL ? c->stash + c->stash_at : nothing,
                     c->stash_n - c->stash_at);
    conn_read(c);
}

/* ---- sending ---- */

static struct conn_send *send_get(struct net *net)
{
    struct conn_send *send = net->sends_free;
    if (send != NULL)
        net->sends_free = send->next_free;
    else
        send = malloc(sizeof(*send));
    if (send != NULL) {
        memset(&send->op, 0, sizeof(send->op));
        send->requests_n = send->iov_n = 0;
        send->extent = NULL;
        send->more = false;
    }
    return send;
}

static void request_unlink(struct conn *c, struct conn_request *x)
{
    list_remove(&x->r.link);
    c->open_requests--;
}

/* Puts one answered request into the send. False: no room, or the end of the connection. */
static bool send_add(struct conn *c, struct conn_send *send, struct conn_request *x)
{
    if (x->failed) {
        c->state = CONN_DRAINING;
        request_unlink(c, x);
        conn_request_drop_later(x);
        conn_disown_requests(c); /* nothing behind it will be answered */
        return false;
    }
    if (x->r.no_reply) {
        request_unlink(c, x);
        conn_request_drop_later(x);
        return true;
    }
    if (send->iov_n == CONN_IOV_MAX)
        return false;
    send->iov_n +=
        conn_request_pieces(x, send->iov + send->iov_n, CONN_IOV_MAX - send->iov_n, &send->extent);
    send->requests[send->requests_n++] = x;
    x->sends++;
    send->more = !x->queued_all;
    if (!x->queued_all)
        return false;
    request_unlink(c, x);
    return send->extent == NULL;
}

/* Part of a frame has left: nothing can follow. That the peer is gone is no news. */
static void send_failed(struct conn *c, const struct conn_send *send)
{
    int rc = send->op.res;
    if (send->extent != NULL && rc != -EPIPE && rc != -ECONNRESET && c->state != CONN_CLOSED) {
        char peer[SOCK_NAME_BYTES];
        sock_peer_name(c->sock, peer);
        net_log(c->net, "shard %u: closing %s: sending from a segment failed: %s",
                c->net->shard->index, peer, strerror(-rc));
    }
    conn_close(c);
}

static void on_send_done(struct env_op *op)
{
    struct conn_send *send = container_of(op, struct conn_send, op);
    struct conn *c = send->conn;
    c->sending = NULL;
    c->active_ns = env_now_ns(c->net->shard->env);
    if (op->res < 0)
        send_failed(c, send);
    else
        conn_mark_dirty(c);
}

static void on_send_released(struct env_op *op)
{
    struct conn_send *send = container_of(op, struct conn_send, op);
    struct conn *c = send->conn;
    struct net *net = c->net;
    egress_released(c, send);
    for (unsigned i = 0; i < send->requests_n; i++) {
        struct conn_request *x = send->requests[i];
        if (--x->sends == 0 && x->queued_all)
            conn_request_drop_later(x);
    }
    send->next_free = net->sends_free;
    net->sends_free = send;
    c->sends--;
    if (c->state == CONN_CLOSED)
        conn_mark_dirty(c);
}

static void send_start(struct conn *c, struct conn_send *send)
{
    send->conn = c;
    c->sending = send;
    c->sends++;
    egress_send(c, send, on_send_done, on_send_released);
}

static void send_ready(struct conn *c)
{
    struct list_node *node = list_head(&c->order);
    if (node == NULL || !container_of(node, struct request, link)->replied)
        return;
    struct conn_send *send = send_get(c->net);
    if (send == NULL) { /* 6 KiB: the machine is out of memory */
        conn_close(c);
        return;
    }
    while ((node = list_head(&c->order)) != NULL) {
        struct conn_request *x = container_of(node, struct conn_request, r.link);
        if (!x->r.replied || !send_add(c, send, x))
            break;
    }
    if (send->iov_n > 0 || send->extent != NULL) {
        send_start(c, send);
        return;
    }
    send->next_free = c->net->sends_free;
    c->net->sends_free = send;
}

void conn_flush(struct conn *c)
{
    if (c->state != CONN_CLOSED && c->sending == NULL)
        send_ready(c);
    if (c->state == CONN_DRAINING && list_empty(&c->order) && c->sending == NULL)
        conn_close(c);
    if (c->state == CONN_CLOSED)
        conn_free_if_quiet(c);
    else if (c->pause == CONN_PAUSED_IN_FLIGHT)
        conn_resume(c);
}
