/* uring_env.h: the parts of the production environment and what they share. Private to io/.
 *
 * Life of an op: env_submit puts it on `pending` (names: on the helper's queue); the next turn
 * makes it an SQE (prepare), the kernel works, the turn that reaps its CQE (complete) puts it on
 * `done` or, if there is more to do, back on `pending`; that same turn then calls it back.
 * Threads: all on the shard's thread, but what uring_names.h and uring_post.h say. */
#ifndef IO_URING_ENV_H
#define IO_URING_ENV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/base/list.h"
#include "core/base/rng.h"
#include "io/env.h"
#include "io/env_uring.h"
#include "io/probe.h"
#include "io/uring_bufs.h"
#include "io/uring_compat.h"
#include "io/uring_files.h"
#include "io/uring_fixed.h"
#include "io/uring_names.h"
#include "io/uring_pace.h"
#include "io/uring_poll.h"
#include "io/uring_post.h"
#include "io/uring_splice.h"

/* The low three bits of user_data; an op's address has none of them. */
enum uring_tag {
    URING_TAG_OP,
    URING_TAG_WAKE,      /* somebody else's MSG_RING: there are messages */
    URING_TAG_BELL,      /* the read of this shard's eventfd */
    URING_TAG_WAKE_SENT, /* our MSG_RING failed; the rest of user_data is the target */
    URING_TAG_QUIET,     /* cancels, buffers given back: nothing to do */
    URING_TAG_POPULATED,
    URING_TAG_MASK = 7,
};

/* Synced writes: the shard stays awake while one is in flight, if they usually are done soon. What
 * is slow, on a hard disk or because the shard itself is busy, counts and ends that. */
struct uring_flushes {
    uint64_t limit_ns;   /* 0: it sleeps */
    uint64_t usual_ns;   /* from submission to completion, of the last few */
    uint64_t started_ns; /* the last one */
    unsigned in_flight;
};

struct uring_env {
    struct env env;
    struct io_features features;
    struct io_uring ring;
    unsigned enter_flags; /* REGISTERED_RING or 0 */
    struct msghdr *msgs;  /* one for each SQ slot; the kernel copies it when it takes the SQE */
    uint64_t now_ns;
    struct rng rng;

    struct list_node pending; /* env_op: not in the ring yet */
    struct list_node bulky;   /* the same: sends of so much that all else goes first */
    struct list_node done;    /* env_op: to be called back in this turn or the next */
    struct list_node self;    /* env_msg: posted to ourselves */
    struct list_node accepts; /* accept_state, uring_sock.c */
    unsigned in_kernel;       /* ops whose last CQE has not been reaped */

    struct env_uring_group *group;
    struct env_uring_group *own_group; /* made by us when the caller had none */
    uint64_t *wakes; /* bit map of the shards posted to since the last submission */
    bool bell_armed;
    bool populating;     /* a worker of the kernel makes pages present */
    uint64_t bell_value; /* where the bell's read goes */
    uint64_t busy_ns;    /* to look for work before it sleeps */
    uint64_t slept_ns;   /* when it last did, or nobody computed */
    struct uring_flushes flushes;

    struct uring_files files;
    struct uring_fixed fixed;
    struct uring_bufs bufs;
    struct uring_pipes pipes;
    struct uring_names names, work;
    struct uring_pace pace; /* reads in the background wait there, not on `pending` */
    struct uring_poll poll; /* on: there may be work for it */
};

static inline struct uring_env *uring_env_of(struct env *env)
{
    return container_of(env, struct uring_env, env);
}

/* env_uring.c: what the parts call. */
void uring_op_finish(struct uring_env *u, struct env_op *op, int res);
/* Prepare the op again in the next turn. */
void uring_op_again(struct uring_env *u, struct env_op *op);
/* -EINTR and -EAGAIN are tried again, a bounded number of times. */
bool uring_op_retry(struct uring_env *u, struct env_op *op, int res);

/* uring_rw.c */
void uring_rw_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_rw_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
void uring_flush_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_flush_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
/* The index of the iovec in which done_bytes lies, and the bytes of it that are done. */
unsigned uring_iov_at(const struct env_op *op, size_t *ret_skip_bytes);

/* uring_sock.c */
int uring_accept_start(struct uring_env *u, struct env_op *op);
void uring_accept_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_accept_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
void uring_accept_deliver(struct uring_env *u, struct env_op *op);
void uring_accept_discard_all(struct uring_env *u);
int uring_connect_start(struct env_op *op);
void uring_connect_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_connect_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
void uring_recv_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_recv_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
void uring_recv_any_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_recv_any_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);

/* uring_send.c */
void uring_send_start(struct env_op *op);
bool uring_send_is_bulky(const struct env_op *op);
void uring_send_prepare(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
void uring_send_complete(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
void uring_send_deliver(struct env_op *op);

#endif
