#include "bench/load/rpc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

enum { OUT_PIECES_MAX = 1024 };

static void on_connected(struct env_op *op);
static void on_received(struct env_op *op);
static void on_sent(struct env_op *op);
static void on_released(struct env_op *op);

/* ---- frames ---- */

static int pieces_of(const struct wire_writer *w, struct iovec *iov, unsigned iov_cap)
{
    unsigned n = 0;
    uint32_t at = 0;
    for (uint32_t r = 0; r <= w->refs_n; r++) {
        uint32_t end = r < w->refs_n ? w->refs[r].at : w->len;
        unsigned extra = r < w->refs_n ? (unsigned)w->refs[r].iov_n : 0;
        if (n + 1 + extra > iov_cap)
            return -E2BIG;
        if (end > at)
            iov[n++] = (struct iovec){w->buf + at, end - at};
        if (extra > 0)
            memcpy(iov + n, w->refs[r].iov, extra * sizeof(*iov));
        n += extra;
        at = end;
    }
    return (int)n;
}

int rpc_encode(struct rpc *rpc, const struct wire_api *api, int16_t version, int32_t correlation,
               const void *request, struct wire_writer *w, struct iovec *iov, unsigned iov_cap)
{
    struct wire_request_header h = {.api_key = api->key,
                                    .api_version = version,
                                    .correlation_id = correlation,
                                    .client_id = wire_str_of("penstock-bench")};
    wire_writer_reset(w);
    wire_frame_begin(w);
    wire_encode_request_header(w, api, &h);
    wire_encode(api->request, version, wire_request_flexible(api, version), request, w);
    wire_frame_end(w);
    int n = w->failed ? -ENOMEM : pieces_of(w, iov, iov_cap);
    if (n < 0)
        return n;
    rpc->api = api;
    rpc->version = version;
    rpc->correlation = correlation;
    rpc->unanswered = false;
    rpc->iov = iov;
    rpc->iov_n = (unsigned)n;
    rpc->sent_ns = 0;
    return 0;
}

/* ---- life ---- */

void rpc_conn_init(struct rpc_conn *c, struct env *env, uint32_t in_bytes,
                   void (*on_open)(struct rpc_conn *), void (*on_closed)(struct rpc_conn *, int))
{
    *c = (struct rpc_conn){.env = env,
                           .on_open = on_open,
                           .on_closed = on_closed,
                           .sock = -1,
                           .in_cap_least = in_bytes};
    list_init(&c->queued);
    list_init(&c->sending);
    list_init(&c->awaiting);
}

void rpc_conn_fini(struct rpc_conn *c)
{
    ASSERT(c->state == RPC_CLOSED);
    free(c->in);
    free(c->out);
    c->in = NULL;
    c->out = NULL;
}

static int in_reserve(struct rpc_conn *c, uint32_t need)
{
    if (need <= c->in_cap)
        return 0;
    uint32_t cap = MAX(MAX(need, c->in_cap_least), MIN(c->in_cap * 2, RPC_FRAME_BYTES_MAX));
    uint8_t *in = realloc(c->in, cap);
    if (in == NULL)
        return -ENOMEM;
    c->in = in;
    c->in_cap = cap;
    return 0;
}

void rpc_conn_open(struct rpc_conn *c, const struct sock_addr *addr)
{
    ASSERT(c->state == RPC_CLOSED);
    c->state = RPC_CONNECTING;
    c->addr = *addr;
    c->in_len = 0;
    c->rc = 0;
    c->opened_ns = env_now_ns(c->env);
    env_connect(c->env, &c->connect_op, &c->addr, on_connected);
}

static void fail_all(struct list_node *list, int rc)
{
    struct list_node *node;
    while ((node = list_pop_head(list)) != NULL) {
        struct rpc *rpc = container_of(node, struct rpc, link);
        rpc->on_done(rpc, rc, NULL, 0);
    }
}

/* Nothing of the connection is in flight any more: say so, oldest requests first. */
static void finish_if_idle(struct rpc_conn *c)
{
    if (c->state != RPC_CLOSING || c->connect_op.busy || c->recv_op.busy || c->sending_lent)
        return;
    if (c->sock >= 0)
        env_sock_close(c->env, c->sock);
    c->sock = -1;
    c->state = RPC_CLOSED;
    fail_all(&c->awaiting, c->rc);
    fail_all(&c->sending, c->rc);
    fail_all(&c->queued, c->rc);
    c->on_closed(c, c->rc);
}

/* A receive or a send is under way whenever the connection is open, but inside their callbacks:
 * the end of the last of them, or that of connecting, is what finishes closing. */
void rpc_conn_close(struct rpc_conn *c, int rc)
{
    if (c->state == RPC_CLOSED || c->state == RPC_CLOSING)
        return;
    int sock = c->state == RPC_CONNECTING ? c->connect_op.sock : c->sock;
    c->state = RPC_CLOSING;
    c->rc = rc;
    if (sock >= 0)
        env_sock_shutdown(c->env, sock);
}

static void on_connected(struct env_op *op)
{
    struct rpc_conn *c = container_of(op, struct rpc_conn, connect_op);
    c->sock = op->res;
    if (op->res < 0)
        rpc_conn_close(c, op->res);
    else if (in_reserve(c, 1) < 0)
        rpc_conn_close(c, -ENOMEM);
    if (c->state == RPC_CLOSING) {
        finish_if_idle(c);
        return;
    }
    c->state = RPC_OPEN;
    env_recv(c->env, &c->recv_op, c->sock, c->in, c->in_cap, 0, on_received);
    c->on_open(c);
}

void rpc_conn_expire(struct rpc_conn *c, uint64_t before_ns)
{
    struct list_node *oldest = list_head(&c->awaiting);
    if (oldest == NULL)
        oldest = list_head(&c->sending);
    uint64_t since_ns = c->state == RPC_CONNECTING ? c->opened_ns
                        : oldest != NULL           ? container_of(oldest, struct rpc, link)->sent_ns
                                                   : UINT64_MAX;
    if (since_ns < before_ns)
        rpc_conn_close(c, -ETIMEDOUT);
}

/* ---- receiving ---- */

static int frame_take(struct rpc_conn *c, uint8_t *frame, uint32_t len)
{
    struct list_node *node = list_head(&c->awaiting);
    int32_t correlation;
    uint32_t body_at;
    if (node == NULL)
        return -EPROTO; /* an answer to nothing */
    struct rpc *rpc = container_of(node, struct rpc, link);
    int rc =
        wire_decode_response_header(frame, len, rpc->api, rpc->version, &correlation, &body_at);
    if (rc < 0 || correlation != rpc->correlation)
        return -EPROTO;
    list_remove(node);
    rpc->on_done(rpc, 0, frame + body_at, len - body_at);
    return 0;
}

/* What comes next answers a request whose bytes are still lent to the send. */
static bool is_early(const struct rpc_conn *c)
{
    return list_empty(&c->awaiting) && !list_empty(&c->sending);
}

/* Hand out the whole frames at the front, and make room for the rest of the next one. Not while a
 * receive is under way, whose place is behind them. */
static int frames_take(struct rpc_conn *c)
{
    uint32_t at = 0;
    int rc = 0;
    while (rc == 0 && c->state == RPC_OPEN && !is_early(c) && c->in_len - at >= 4) {
        uint32_t len = be_load32(c->in + at);
        if (len > RPC_FRAME_BYTES_MAX - 4)
            return -EPROTO;
        if (c->in_len - at - 4 < len) {
            if (at > 0)
                memmove(c->in, c->in + at, c->in_len - at);
            c->in_len -= at;
            return in_reserve(c, len + 4);
        }
        rc = frame_take(c, c->in + at + 4, len);
        at += len + 4;
    }
    if (at > 0)
        memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    return rc;
}

/* Take what is there, then receive more; what is early waits for the end of the send. */
static void in_pump(struct rpc_conn *c)
{
    int rc = frames_take(c);
    if (rc < 0)
        rpc_conn_close(c, rc);
    if (c->state == RPC_OPEN && !(is_early(c) && c->in_len > 0))
        env_recv(c->env, &c->recv_op, c->sock, c->in + c->in_len, c->in_cap - c->in_len, 0,
                 on_received);
}

static void on_received(struct env_op *op)
{
    struct rpc_conn *c = container_of(op, struct rpc_conn, recv_op);
    if (op->res <= 0)
        rpc_conn_close(c, op->res == 0 ? -ECONNRESET : op->res);
    if (c->state == RPC_OPEN) {
        c->in_len += (uint32_t)op->res;
        in_pump(c);
    }
    finish_if_idle(c);
}

/* ---- sending ---- */

void rpc_send(struct rpc_conn *c, struct rpc *rpc)
{
    ASSERT(c->state == RPC_OPEN && rpc->iov_n > 0);
    list_push_tail(&c->queued, &rpc->link);
}

static bool out_reserve(struct rpc_conn *c, unsigned n)
{
    if (n <= c->out_cap)
        return true;
    unsigned cap = MAX(n, c->out_cap * 2);
    struct iovec *out = reallocarray(c->out, cap, sizeof(*out));
    if (out == NULL)
        return false;
    c->out = out;
    c->out_cap = cap;
    return true;
}

/* The only place that starts a send. */
void rpc_conn_pump(struct rpc_conn *c)
{
    struct list_node *node;
    unsigned n = 0;
    if (c->state != RPC_OPEN || c->sending_lent)
        return;
    while ((node = list_head(&c->queued)) != NULL) {
        struct rpc *rpc = container_of(node, struct rpc, link);
        if ((n > 0 && n + rpc->iov_n > OUT_PIECES_MAX) || !out_reserve(c, n + rpc->iov_n))
            break;
        memcpy(c->out + n, rpc->iov, rpc->iov_n * sizeof(*rpc->iov));
        n += rpc->iov_n;
        rpc->sent_ns = env_now_ns(c->env);
        list_remove(node);
        list_push_tail(&c->sending, node);
    }
    c->sending_lent = n > 0;
    if (n > 0)
        env_sendv(c->env, &c->send_op, c->sock, c->out, n, on_sent, on_released);
    else if (!list_empty(&c->queued))
        rpc_conn_close(c, -ENOMEM);
}

static void sending_done(struct rpc_conn *c)
{
    struct list_node *node;
    while ((node = list_pop_head(&c->sending)) != NULL) {
        struct rpc *rpc = container_of(node, struct rpc, link);
        if (rpc->unanswered)
            rpc->on_done(rpc, 0, NULL, 0);
        else
            list_push_tail(&c->awaiting, node);
    }
}

static void on_sent(struct env_op *op)
{
    struct rpc_conn *c = container_of(op, struct rpc_conn, send_op);
    if (op->res < 0)
        rpc_conn_close(c, op->res);
}

/* Only now may a request's bytes change, and so may it be done. */
static void on_released(struct env_op *op)
{
    struct rpc_conn *c = container_of(op, struct rpc_conn, send_op);
    c->sending_lent = false;
    if (c->state == RPC_OPEN)
        sending_done(c);
    if (c->state == RPC_OPEN && !c->recv_op.busy)
        in_pump(c);
    if (c->state == RPC_OPEN)
        rpc_conn_pump(c);
    else
        finish_if_idle(c);
}
