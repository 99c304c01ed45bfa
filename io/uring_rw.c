#include "io/uring_env.h"

#include <errno.h>
#include <limits.h>
#include <linux/ioprio.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"

enum {
    SECTOR_BYTES = 512, /* no device writes or reads less */
    IOPRIO_LOWEST = 7,
};

unsigned uring_iov_at(const struct env_op *op, size_t *ret_skip_bytes)
{
    uint64_t skip = op->done_bytes;
    unsigned i = 0;
    while (i < op->iov_n && skip >= op->iov[i].iov_len)
        skip -= op->iov[i++].iov_len;
    *ret_skip_bytes = i < op->iov_n ? (size_t)skip : 0;
    return i;
}

static void sqe_set_file(struct io_uring_sqe *sqe, const struct env_file *file, bool polled)
{
    if (file->slot >= 0 && !polled) {
        sqe->fd = file->slot;
        sqe->flags |= IOSQE_FIXED_FILE;
    } else {
        sqe->fd = file->fd;
    }
}

static void prepare_single(struct uring_env *u, const struct env_op *op, struct io_uring_sqe *sqe,
                           void *base, size_t len_bytes, uint64_t offset_bytes, bool polled)
{
    unsigned len = (unsigned)len_bytes; /* an op is below 2 GiB: env_submit */
    int fixed = polled ? -1 : uring_fixed_find(&u->fixed, base, len_bytes);
    if (op->kind == ENV_OP_READ && fixed >= 0)
        io_uring_prep_read_fixed(sqe, -1, base, len, offset_bytes, fixed);
    else if (op->kind == ENV_OP_READ)
        io_uring_prep_read(sqe, -1, base, len, offset_bytes);
    else if (fixed >= 0)
        io_uring_prep_write_fixed(sqe, -1, base, len, offset_bytes, fixed);
    else
        io_uring_prep_write(sqe, -1, base, len, offset_bytes);
}

/* A background read goes piece by piece. */
static size_t single_bytes(const struct env_op *op, size_t len_bytes)
{
    return uring_pace_takes(op) ? MIN(len_bytes, uring_pace_piece_bytes(op)) : len_bytes;
}

/* What is left after done_bytes. A position inside an iovec first finishes that one alone, so the
 * caller's array is never copied nor changed. */
void uring_rw_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    size_t skip;
    unsigned i = uring_iov_at(op, &skip), left = op->iov_n - i;
    uint64_t offset_bytes = op->offset_bytes + op->done_bytes;
    /* Files and memory are registered with the shard's own ring only. */
    bool polled = uring_poll_takes(&u->poll, op);
    if (left == 0) {
        io_uring_prep_nop(sqe);
        return;
    }
    if (left == 1 || skip > 0)
        prepare_single(u, op, sqe, (char *)op->iov[i].iov_base + skip,
                       single_bytes(op, op->iov[i].iov_len - skip), offset_bytes, polled);
    else if (op->kind == ENV_OP_READ)
        io_uring_prep_readv(sqe, -1, &op->iov[i], MIN(left, (unsigned)IOV_MAX), offset_bytes);
    else
        io_uring_prep_writev(sqe, -1, &op->iov[i], MIN(left, (unsigned)IOV_MAX), offset_bytes);
    sqe_set_file(sqe, op->file, polled);
    if (op->background)
        sqe->ioprio = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IOPRIO_LOWEST);
    if (env_op_is_synced(op))
        sqe->rw_flags = RWF_DSYNC;
    if (env_op_is_awaited(op)) {
        u->flushes.started_ns = clock_now_ns();
        u->flushes.in_flight++;
        op->private_[0] = (void *)(uintptr_t)u->flushes.started_ns;
    }
}

static void read_went_on(struct uring_env *u, struct env_op *op, uint64_t total_bytes)
{
    counter_add(&u->env.counters.read_bytes, total_bytes - op->done_bytes);
    /* Nothing more, or an end that no device could make: end of file. Else ask again from the last
     * whole block, which tells a device's short transfer from the end of the file. */
    bool end = total_bytes == op->len_bytes || total_bytes % SECTOR_BYTES != 0 ||
               block_floor(total_bytes) <= op->done_bytes;
    if (end) {
        uring_op_finish(u, op, (int)total_bytes);
        return;
    }
    op->done_bytes = block_floor(total_bytes);
    uring_op_again(u, op);
}

static void write_went_on(struct uring_env *u, struct env_op *op, uint64_t total_bytes)
{
    counter_add(&u->env.counters.write_bytes, total_bytes - op->done_bytes);
    if (total_bytes == op->len_bytes) {
        uring_op_finish(u, op, (int)total_bytes);
        return;
    }
    if (block_floor(total_bytes) <= op->done_bytes) {
        uring_op_finish(u, op, -EIO);
        return;
    }
    op->done_bytes = block_floor(total_bytes);
    uring_op_again(u, op);
}

void uring_rw_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    (void)cqe_flags;
    if (env_op_is_awaited(op)) {
        struct uring_flushes *f = &u->flushes;
        uint64_t took_ns = u->now_ns - (uintptr_t)op->private_[0];
        f->usual_ns = f->usual_ns == 0 ? took_ns : f->usual_ns - f->usual_ns / 8 + took_ns / 8;
        f->in_flight--;
    }
    uring_pace_read_ended(&u->pace, op, u->now_ns);
    if (uring_op_retry(u, op, res))
        return;
    if (res < 0) {
        uring_op_finish(u, op, res);
        return;
    }
    uint64_t total_bytes = op->done_bytes + (unsigned)res;
    ASSERT(total_bytes <= op->len_bytes);
    if (op->kind == ENV_OP_READ)
        read_went_on(u, op, total_bytes);
    else
        write_went_on(u, op, total_bytes);
}

void uring_flush_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe)
{
    (void)u;
    io_uring_prep_fsync(sqe, -1, IORING_FSYNC_DATASYNC);
    sqe_set_file(sqe, op->file, false);
}

void uring_flush_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags)
{
    (void)cqe_flags;
    if (uring_op_retry(u, op, res))
        return;
    counter_add(&u->env.counters.flushes, 1);
    uring_op_finish(u, op, res < 0 ? res : 0);
}
