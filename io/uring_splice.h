/* uring_splice.h: files to sockets through pipes. Private to io/.
 * Happy path: pipes_init; for each op start takes a pipe, prepare and complete take turns as those
 *   of all ops; deliver calls back.
 * Failure: the op ends with -errno, also when no pipe can be had.
 * Ownership: fini closes all pipes, also of ops that never ended; the ring is gone by then.
 * Threads: the shard's. */
#ifndef IO_URING_SPLICE_H
#define IO_URING_SPLICE_H

#include "core/base/list.h"

struct env_op;
struct io_uring_sqe;
struct uring_env;

struct uring_pipes {
    struct list_node free, used; /* struct uring_pipe */
    unsigned free_n;
};

void uring_pipes_init(struct uring_pipes *pipes);
void uring_pipes_fini(struct uring_pipes *pipes);

/* Goes as far as it can at once, then puts the op on `pending` or `done` itself. */
void uring_splice_start(struct uring_env *u, struct env_op *op);
void uring_splice_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_splice_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
void uring_splice_deliver(struct env_op *op);

#endif
