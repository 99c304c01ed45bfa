/* uring_splice.c: pieces of files to sockets, by way of a pipe: the bytes are never this process's.
 *
 * Happy path: the op takes a pipe. What is in the page cache the shard moves into it itself, else a
 *   worker of the kernel does, which may wait for the disk; then the shard moves the pages on into
 *   the socket, as many as its buffer takes, and polls for room; then the next pipeful, one a turn.
 * Nothing advises the kernel to read ahead: it reads a whole pipeful at once, and pages that come
 *   by advice are single ones, which cost three times what those of large folios do (Linux 6.18).
 * Never blocks: splice() into a socket waits for room whatever SPLICE_F_NONBLOCK says (seen on
 *   Linux 6.18): only O_NONBLOCK of the socket keeps it from that. All else here relies on blocking
 *   sockets, so it is on for the length of the call.
 * Failure: -errno; -EIO where the file ends early. A pipe with bytes left in it is closed.
 * Ownership: pipes belong to the ring, from start to end of an op to that op.
 * Threads: the shard's. */
#include "io/uring_splice.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/page_cache.h"
#include "io/uring_env.h"

enum {
    PIPE_BYTES = 1 << 20, /* what an unprivileged process may ask for */
    PIPES_FREE_MAX = 32,
};

struct uring_pipe {
    struct list_node link; /* pipes.free or pipes.used */
    int fds[2];
    uint32_t size_bytes, fill_bytes;
    bool filling; /* a worker is at it */
};

/* ---- pipes ---- */

void uring_pipes_init(struct uring_pipes *pipes)
{
    list_init(&pipes->free);
    list_init(&pipes->used);
    pipes->free_n = 0;
}

static void pipe_destroy(struct uring_pipe *p)
{
    list_remove(&p->link);
    close(p->fds[0]);
    close(p->fds[1]);
    free(p);
}

void uring_pipes_fini(struct uring_pipes *pipes)
{
    struct list_node *node;
    while ((node = list_head(&pipes->free)) != NULL || (node = list_head(&pipes->used)) != NULL)
        pipe_destroy(container_of(node, struct uring_pipe, link));
}

/* Larger ones cost fewer workers; where they are refused, as many bytes as there are do. */
static int pipe_create(struct uring_pipe **ret)
{
    struct uring_pipe *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    if (pipe2(p->fds, O_CLOEXEC) < 0) {
        int rc = -errno;
        free(p);
        return rc;
    }
    fcntl(p->fds[1], F_SETPIPE_SZ, PIPE_BYTES);
    int size = fcntl(p->fds[1], F_GETPIPE_SZ);
    p->size_bytes = (uint32_t)MAX(size, (int)BLOCK_BYTES);
    *ret = p;
    return 0;
}

static int pipe_take(struct uring_pipes *pipes, struct uring_pipe **ret)
{
    struct list_node *node = list_pop_head(&pipes->free);
    int rc = 0;
    if (node != NULL) {
        *ret = container_of(node, struct uring_pipe, link);
        pipes->free_n--;
    } else {
        rc = pipe_create(ret);
    }
    if (rc == 0)
        list_push_tail(&pipes->used, &(*ret)->link);
    return rc;
}

static void pipe_give(struct uring_pipes *pipes, struct uring_pipe *p)
{
    if (p->fill_bytes > 0 || pipes->free_n == PIPES_FREE_MAX) {
        pipe_destroy(p);
        return;
    }
    list_remove(&p->link);
    list_push_head(&pipes->free, &p->link); /* the same ones again and again */
    pipes->free_n++;
}

/* ---- the op ---- */

static struct uring_pipe *pipe_of(const struct env_op *op)
{
    return op->private_[0];
}

static uint32_t pipeful_bytes(const struct env_op *op)
{
    return (uint32_t)MIN(op->len_bytes - op->done_bytes, (uint64_t)pipe_of(op)->size_bytes);
}

static bool is_cached(struct uring_env *u, const struct env_op *op)
{
    if (!u->features.cachestat)
        return false;
    counter_add(&u->env.counters.syscalls, 3);
    return page_cache_has(op->extent->file->fd, op->extent->offset_bytes + op->done_bytes,
                          pipeful_bytes(op));
}

/* There is a turn between two pipefuls, for others: a poll for room that may be there already. */
void uring_splice_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    const struct env_extent *x = op->extent;
    struct uring_pipe *p = pipe_of(op);
    if (p->fill_bytes > 0 || is_cached(u, op)) {
        io_uring_prep_poll_add(sqe, op->sock, POLLOUT);
        return;
    }
    p->filling = true;
    io_uring_prep_splice(sqe, x->file->fd, (int64_t)(x->offset_bytes + op->done_bytes), p->fds[1],
                         -1, pipeful_bytes(op), SPLICE_F_MOVE);
}

/* 0: there is something in it now. */
static int pipe_fill(struct uring_env *u, struct env_op *op)
{
    struct uring_pipe *p = pipe_of(op);
    off_t at = (off_t)(op->extent->offset_bytes + op->done_bytes);
    ssize_t n;
    do
        n = splice(op->extent->file->fd, &at, p->fds[1], NULL, pipeful_bytes(op),
                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (n < 0 && errno == EINTR);
    counter_add(&u->env.counters.syscalls, 1);
    if (n < 0)
        return -errno;
    p->fill_bytes = (uint32_t)n;
    return n > 0 ? 0 : -EIO;
}

/* As much of the pipe as the socket takes at once; -EAGAIN: nothing. */
static ssize_t pipe_to_sock(struct uring_env *u, const struct uring_pipe *p, int sock, bool more)
{
    int flags = fcntl(sock, F_GETFL);
    ssize_t n;
    if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    do
        n = splice(p->fds[0], NULL, sock, NULL, p->fill_bytes,
                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        n = -errno;
    fcntl(sock, F_SETFL, flags);
    counter_add(&u->env.counters.syscalls, 4);
    return n;
}

/* 0, or why the op ends. */
static int pipe_drain(struct uring_env *u, struct env_op *op)
{
    struct uring_pipe *p = pipe_of(op);
    while (p->fill_bytes > 0) {
        bool more =
            (op->flags & ENV_SEND_MORE) != 0 || op->done_bytes + p->fill_bytes < op->len_bytes;
        ssize_t n = pipe_to_sock(u, p, op->sock, more);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        ASSERT((size_t)n <= p->fill_bytes);
        p->fill_bytes -= (uint32_t)n;
        op->done_bytes += (uint64_t)n;
        counter_add(&u->env.counters.egress_bytes[ENV_EGRESS_SPLICE], (uint64_t)n);
    }
    return 0;
}

static void splice_end(struct uring_env *u, struct env_op *op, int res)
{
    pipe_give(&u->pipes, pipe_of(op));
    op->private_[0] = NULL;
    uring_op_finish(u, op, res);
}

/* What is in memory, at most one pipe's size a turn; a stretch that begins within a page needs two
 * pipefuls for that. */
static void splice_pump(struct uring_env *u, struct env_op *op)
{
    const struct uring_pipe *p = pipe_of(op);
    uint64_t turn_end = MIN(op->len_bytes, op->done_bytes + p->size_bytes);
    int rc = pipe_drain(u, op);
    while (rc == 0 && p->fill_bytes == 0 && op->done_bytes < turn_end && is_cached(u, op)) {
        rc = pipe_fill(u, op);
        if (rc == 0)
            rc = pipe_drain(u, op);
    }
    if (rc < 0)
        splice_end(u, op, rc);
    else if (op->done_bytes == op->len_bytes)
        splice_end(u, op, (int)op->done_bytes);
    else
        uring_op_again(u, op);
}

void uring_splice_start(struct uring_env *u, struct env_op *op)
{
    struct uring_pipe *p = NULL;
    int rc = pipe_take(&u->pipes, &p);
    op->private_[0] = p;
    if (rc < 0)
        uring_op_finish(u, op, rc);
    else
        splice_pump(u, op);
}

/* Of the pages that came into the pipe, or of the poll for room. */
void uring_splice_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    struct uring_pipe *p = pipe_of(op);
    bool filled = p->filling;
    (void)cqe_flags;
    p->filling = false;
    if (uring_op_retry(u, op, res))
        return;
    if (filled && res == 0)
        res = -EIO; /* the file is shorter than it is said to be */
    if (filled && res > 0)
        p->fill_bytes = (uint32_t)res;
    if (res < 0)
        splice_end(u, op, res);
    else
        splice_pump(u, op);
}

/* The pages are the socket's now; the file need not be open any more. */
void uring_splice_deliver(struct env_op *op)
{
    env_done_fn on_released = op->on_released;
    op->busy = false;
    op->on_done(op);
    if (on_released != NULL)
        on_released(op);
}
