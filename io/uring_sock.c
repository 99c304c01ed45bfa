#include "io/uring_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/sock.h"

/* Connections that a multishot accept brought and that wait to be called back; several can come
 * in one turn. Lives from the submission of the op to its last callback, in op->private_[0]. */
struct accept_state {
    struct list_node link; /* in uring_env.accepts */
    int *results;          /* descriptors or -errno */
    unsigned n, cap;
    unsigned at; /* delivered so far */
    bool ended;  /* the last result is the op's last */
    bool rearm;  /* the kernel stopped, but the op goes on: submit again when all is delivered */
    bool delivering;
};

enum { ACCEPT_RESULTS_MIN = 16 };

int uring_accept_start(struct uring_env *u, struct env_op *op)
{
    struct accept_state *st = calloc(1, sizeof(*st));
    if (st == NULL)
        return -ENOMEM;
    st->results = calloc(ACCEPT_RESULTS_MIN, sizeof(*st->results));
    if (st->results == NULL) {
        free(st);
        return -ENOMEM;
    }
    st->cap = ACCEPT_RESULTS_MIN;
    list_push_tail(&u->accepts, &st->link);
    op->private_[0] = st;
    return 0;
}

static void accept_free(struct accept_state *st)
{
    list_remove(&st->link);
    free(st->results);
    free(st);
}

void uring_accept_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    if (u->features.accept_multishot)
        io_uring_prep_multishot_accept(sqe, op->sock, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, op->sock, NULL, NULL, SOCK_CLOEXEC);
}

static void accept_push(struct accept_state *st, int res)
{
    if (st->n == st->cap) {
        int *more = reallocarray(st->results, st->cap * 2, sizeof(*more));
        if (more == NULL) { /* one connection is dropped, the others go on; an end must be told */
            int drop = res >= 0 ? res : st->results[st->n - 1];
            st->results[st->n - 1] = res >= 0 ? st->results[st->n - 1] : res;
            if (drop >= 0)
                close(drop);
            return;
        }
        st->results = more;
        st->cap *= 2;
    }
    st->results[st->n++] = res;
}

void uring_accept_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    struct accept_state *st = op->private_[0];
    bool more = (cqe_flags & IORING_CQE_F_MORE) != 0;
    /* Trouble of one client is no business of the caller. */
    bool skip = res == -ECONNABORTED || res == -EPROTO || res == -EINTR;
    if (res >= 0)
        sock_tune(res);
    if (!skip)
        accept_push(st, res);
    if (!more && (skip || res >= 0))
        st->rearm = true; /* one-shot, or the kernel ended it: either way, go on */
    else if (!more)
        st->ended = true;
    if (!list_linked(&op->link) && !st->delivering)
        list_push_tail(&u->done, &op->link);
}

/* The callback may turn the environment; what that brings is delivered by the loop below it. */
void uring_accept_deliver(struct uring_env *u, struct env_op *op)
{
    struct accept_state *st = op->private_[0];
    st->delivering = true;
    while (st->at < st->n) {
        op->res = st->results[st->at++];
        op->more = !(st->ended && st->at == st->n);
        if (!op->more) {
            accept_free(st);
            op->private_[0] = NULL;
            op->busy = false;
            op->on_done(op);
            return;
        }
        if (st->at == st->n)
            st->at = st->n = 0;
        op->on_done(op);
    }
    st->delivering = false;
    if (st->rearm) {
        st->rearm = false;
        uring_op_again(u, op);
    }
}

void uring_accept_discard_all(struct uring_env *u)
{
    struct list_node *node;
    while ((node = list_head(&u->accepts)) != NULL) {
        struct accept_state *st = container_of(node, struct accept_state, link);
        for (; st->at < st->n; st->at++)
            if (st->results[st->at] >= 0)
                close(st->results[st->at]);
        accept_free(st);
    }
}

int uring_connect_start(struct env_op *op)
{
    const struct sockaddr *to = (const struct sockaddr *)&op->addr->storage;
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    op->sock = fd;
    return 0;
}

void uring_connect_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    (void)u;
    io_uring_prep_connect(sqe, op->sock, (const struct sockaddr *)&op->addr->storage,
                          op->addr->len);
}

void uring_connect_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    (void)cqe_flags;
    if (res < 0)
        close(op->sock);
    else
        sock_tune(op->sock);
    uring_op_finish(u, op, res < 0 ? res : op->sock);
}

void uring_recv_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    (void)u;
    int flags = (op->flags & ENV_RECV_ALL) != 0 ? MSG_WAITALL : 0;
    io_uring_prep_recv(sqe, op->sock, (char *)op->buf + op->done_bytes,
                       op->len_bytes - op->done_bytes, flags);
}

void uring_recv_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    (void)cqe_flags;
    if (uring_op_retry(u, op, res))
        return;
    if (res < 0) {
        uring_op_finish(u, op, res);
        return;
    }
    counter_add(&u->env.counters.received_bytes, (unsigned)res);
    op->done_bytes += (unsigned)res;
    ASSERT(op->done_bytes <= op->len_bytes);
    if ((op->flags & ENV_RECV_ALL) != 0 && res > 0 && op->done_bytes < op->len_bytes)
        uring_op_again(u, op);
    else
        uring_op_finish(u, op, (int)op->done_bytes);
}

/* private_[1]: the socket had more to give when it was last read. If not, wait for data before a
 * buffer is looked for, so that a shortage of buffers is seen by sockets with data only. */
void uring_recv_any_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    io_uring_prep_recv(sqe, op->sock, NULL, u->bufs.bytes_each, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUFS_GROUP;
    if (op->private_[1] == NULL)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

void uring_recv_any_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    bool lent = (cqe_flags & IORING_CQE_F_BUFFER) != 0;
    unsigned id = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    if (lent && res <= 0)
        uring_bufs_give(&u->bufs, id);
    if (uring_op_retry(u, op, res))
        return;
    bool nonempty = (cqe_flags & IORING_CQE_F_SOCK_NONEMPTY) != 0 || res == -ENOBUFS;
    op->private_[1] = nonempty ? op : NULL;
    if (res > 0) {
        ASSERT(lent && (unsigned)res <= u->bufs.bytes_each);
        op->buf = uring_bufs_at(&u->bufs, id);
        op->buf_id = id;
        counter_add(&u->env.counters.received_bytes, (unsigned)res);
    }
    uring_op_finish(u, op, res);
}
