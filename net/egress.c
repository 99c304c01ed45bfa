/* egress.c: which way a reply takes out: with a copy by the kernel, from where it lies in memory,
 * or from its file.
 *
 * Happy path: small replies are copied, which costs less than a notification. A large one is tried
 *   without; when it is released the kernel says whether it did so. What lies in sealed segments
 * can be spliced: then it comes here as a piece of a file. Failure: a link on which it copies all
 * the same (loopback, veth) more often than not is served by copies from then on, and the log says
 * so, once.
 * `egress=send` never tries, `egress=send_zc` always does, and `egress=splice` splices whatever can
 * be and copies the rest; `auto` goes by the limits of the broker, and tries without a copy only if
 * the kernel reports. Threads: the shard's. */
#include "core/base/logger.h"
#include "io/sock.h"
#include "net/conn.h"

/* Below, a copy within the processor's cache costs less than pinning, notification and the wait of
 * the memory for the peer's acknowledgement; where nothing was measured. */
#define ZC_BYTES_MIN (64u * 1024u)
#define SPLICE_BYTES_MIN (16u * 1024u) /* forced: less is not worth a pipe in any case */

static const struct egress_limits *limits_of(const struct conn *c)
{
    return &c->net->shard->broker->egress_limits[c->is_local ? EGRESS_LOCAL : EGRESS_REMOTE];
}

static uint64_t send_bytes(const struct conn_send *send)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < send->iov_n; i++)
        bytes += send->iov[i].iov_len;
    return bytes;
}

/* A retransmission may be copied anywhere: one among many says nothing. */
static bool link_copies(const struct conn *c)
{
    return c->sends_copied > c->sends_uncopied;
}

static bool goes_uncopied(const struct conn *c, uint64_t bytes)
{
    uint32_t limit;
    switch (c->net->shard->broker->egress) {
    case EGRESS_SEND_ZC:
        return true;
    case EGRESS_AUTO:
        limit = limits_of(c)->zc_bytes;
        return bytes >= (limit == 0 ? ZC_BYTES_MIN : limit) && !link_copies(c);
    default:
        return false;
    }
}

void egress_send(struct conn *c, struct conn_send *send, env_done_fn on_done,
                 env_done_fn on_released)
{
    struct env *env = c->net->shard->env;
    unsigned flags = send->more ? ENV_SEND_MORE : 0;
    if (send->extent != NULL)
        env_splice(env, &send->op, c->sock, send->extent, flags, on_done, on_released);
    else if (goes_uncopied(c, send_bytes(send)))
        env_sendv_zc(env, &send->op, c->sock, send->iov, send->iov_n, on_done, on_released);
    else if (send->more)
        env_sendv_more(env, &send->op, c->sock, send->iov, send->iov_n, on_done, on_released);
    else
        env_sendv(env, &send->op, c->sock, send->iov, send->iov_n, on_done, on_released);
}

void egress_released(struct conn *c, const struct conn_send *send)
{
    struct net *net = c->net;
    if ((send->op.flags & ENV_SEND_ZC) == 0)
        return;
    c->sends_copied += send->op.copied;
    c->sends_uncopied += !send->op.copied;
    if (!send->op.copied || !link_copies(c))
        return;
    if (net->told_of_copies || net->shard->broker->egress != EGRESS_AUTO || c->sock < 0)
        return;
    char peer[SOCK_NAME_BYTES];
    sock_peer_name(c->sock, peer);
    log_info("shard %u: the kernel copies what is sent to %s: no zero-copy sends there",
             net->shard->index, peer);
    net->told_of_copies = true;
}

uint32_t egress_splice_bytes(const struct conn *c)
{
    switch (c->net->shard->broker->egress) {
    case EGRESS_SPLICE:
        return SPLICE_BYTES_MIN;
    case EGRESS_AUTO:
        return limits_of(c)->splice_bytes;
    default:
        return 0;
    }
}
