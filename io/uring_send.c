/* uring_send.c: sends, with a copy by the kernel or without.
 *
 * Happy path: a plain send takes all pieces at once or, beside writes that somebody waits for, as
 *   much as a turn may copy, and goes on in the next; its bytes are the kernel's when it completes.
 * A zero-copy send takes large pieces one by one, and small ones between them with a copy; on_done
 * runs when all are handed over, the next send may follow, and on_released when the kernel has
 * given all pieces back. Failure: -errno to on_done; on_released still waits for the pieces that
 * were handed over. The kernel says of each piece whether it copied after all, as it does on
 * loopback: op->copied. Threads: the shard's. */
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/uring_env.h"

enum {
    ZC_PIECE_BYTES_MIN = 16384, /* less is copied for what its notification costs */
    BULKY_BYTES = 64 << 10,     /* copied in 20 us: a disk would have nothing to do meanwhile */
    COPY_BYTES_MAX = 256 << 10, /* in a turn, where others would wait for the rest */
};
#define AWAITED_LATELY_NS 10000000ull

/* What the op keeps of itself: pieces that the kernel has, and whether on_done has run. */
static uintptr_t pieces_out(const struct env_op *op)
{
    return (uintptr_t)op->private_[0];
}

static void pieces_add(struct env_op *op, int n)
{
    op->private_[0] = (void *)(pieces_out(op) + (uintptr_t)(intptr_t)n);
}

static bool is_told(const struct env_op *op)
{
    return op->private_[1] != NULL;
}

bool uring_send_is_bulky(const struct env_op *op)
{
    return op->kind == ENV_OP_SEND && op->len_bytes >= BULKY_BYTES;
}

void uring_send_start(struct env_op *op)
{
    op->private_[0] = op->private_[1] = NULL;
    op->copied = false;
}

static bool goes_uncopied(const struct uring_env *u, const struct env_op *op, size_t len_bytes)
{
    return (op->flags & ENV_SEND_ZC) != 0 && u->features.send_zc && len_bytes >= ZC_PIECE_BYTES_MIN;
}

/* Not as registered memory, though it is: of that, a kernel that keeps a huge page in one piece
 * charges the socket for each packet from the start of the page on, up to 2 MiB (io_sg_from_iter()
 * of Linux 6.18 counts PAGE_ALIGN(length + offset in the folio)). The send buffer is full after two
 * packets, and where the receiver is this host, it takes that for their size and closes its window:
 * 20-50 KB/s. Memory named by its address is charged by the page. */
static void prepare_zc(const struct uring_env *u, const struct env_op *op, struct io_uring_sqe *sqe,
                       const void *base, size_t len_bytes, int flags)
{
    unsigned zc_flags = u->features.send_zc_report ? COMPAT_SEND_ZC_REPORT_USAGE : 0;
    io_uring_prep_send_zc(sqe, op->sock, base, len_bytes, flags, zc_flags);
}

/* A MiB takes 0.3 ms, which a write that somebody waits for would end late by, and the request for
 * the next one. Without such work all at once costs less: smaller pieces 0.30 instead of 0.25 s/GiB
 * with three readers of what is in memory. */
static size_t copy_bytes_max(const struct uring_env *u)
{
    bool awaited = u->flushes.started_ns + AWAITED_LATELY_NS > u->now_ns;
    return u->flushes.started_ns != 0 && awaited ? COPY_BYTES_MAX : SIZE_MAX;
}

/* Pieces from the first on, at least that one. */
static unsigned copied_at_once(const struct uring_env *u, const struct env_op *op, unsigned first,
                               size_t bytes_max)
{
    unsigned n = 1, most = MIN(op->iov_n - first, (unsigned)IOV_MAX);
    size_t bytes = op->iov[first].iov_len;
    while (n < most && !goes_uncopied(u, op, op->iov[first + n].iov_len) &&
           bytes + op->iov[first + n].iov_len <= bytes_max)
        bytes += op->iov[first + n++].iov_len;
    return n;
}

/* As with files, a position inside an iovec first finishes that one alone. */
void uring_send_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    size_t skip;
    unsigned i = uring_iov_at(op, &skip), left = op->iov_n - i, n = 1;
    if (left == 0) {
        io_uring_prep_nop(sqe);
        return;
    }
    char *base = (char *)op->iov[i].iov_base + skip;
    size_t len_bytes = op->iov[i].iov_len - skip;
    size_t bytes_max = copy_bytes_max(u);
    bool zc = goes_uncopied(u, op, len_bytes);
    if (!zc && skip == 0)
        n = copied_at_once(u, op, i, bytes_max);
    bool cut = !zc && len_bytes > bytes_max;
    if (cut)
        len_bytes = bytes_max;
    bool more = cut || n < left || (op->flags & ENV_SEND_MORE) != 0;
    int flags = MSG_NOSIGNAL | MSG_WAITALL | (more ? MSG_MORE : 0);
    if (zc) {
        prepare_zc(u, op, sqe, base, len_bytes, flags);
    } else if (n == 1) {
        io_uring_prep_send(sqe, op->sock, base, len_bytes, flags);
    } else {
        struct msghdr *msg = &u->msgs[sqe - u->ring.sq.sqes];
        *msg = (struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)&op->iov[i], .msg_iovlen = n};
        io_uring_prep_sendmsg(sqe, op->sock, msg, flags);
    }
}

static void piece_back(struct uring_env *u, struct env_op *op, int usage)
{
    bool copied = ((unsigned)usage & COMPAT_NOTIF_USAGE_ZC_COPIED) != 0;
    ASSERT(pieces_out(op) > 0);
    pieces_add(op, -1);
    op->copied |= copied;
    if (u->features.send_zc_report)
        counter_add(copied ? &u->env.counters.zc_copied : &u->env.counters.zc_not_copied, 1);
    if (is_told(op) && pieces_out(op) == 0)
        list_push_tail(&u->done, &op->link);
}

void uring_send_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    if ((cqe_flags & IORING_CQE_F_NOTIF) != 0) {
        piece_back(u, op, res);
        return;
    }
    bool uncopied = (cqe_flags & IORING_CQE_F_MORE) != 0;
    if (uncopied)
        pieces_add(op, 1);
    if (uring_op_retry(u, op, res))
        return;
    if (res < 0) {
        uring_op_finish(u, op, res);
        return;
    }
    counter_add(&u->env.counters.egress_bytes[uncopied ? ENV_EGRESS_SEND_ZC : ENV_EGRESS_SEND],
                (unsigned)res);
    op->done_bytes += (unsigned)res;
    ASSERT(op->done_bytes <= op->len_bytes);
    if (op->done_bytes == op->len_bytes)
        uring_op_finish(u, op, (int)op->done_bytes);
    else if (res == 0)
        uring_op_finish(u, op, -EIO);
    else
        uring_op_again(u, op);
}

/* Twice, if the kernel still had pieces the first time. The callback may turn the environment, so
 * it counts as told only when it is back. */
void uring_send_deliver(struct env_op *op)
{
    env_done_fn on_released = op->on_released;
    if (!is_told(op)) {
        op->busy = false;
        op->on_done(op);
        if (pieces_out(op) > 0) {
            op->private_[1] = op;
            return;
        }
    }
    if (on_released != NULL)
        on_released(op);
}
