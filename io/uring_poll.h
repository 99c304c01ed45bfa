/* uring_poll.h: the second ring of a shard that busy-polls: its completions are fetched from the
 * device's poll queues (IOPOLL), without an interrupt. Private to io/.
 * Happy path: init; limit() of each file that is opened; reads that takes() says yes to go into
 *   `ring` instead of the shard's own; enter() submits them and asks the device once. While any is
 *   in flight the shard must not sleep: nobody would wake it.
 * Such a ring can neither receive nor flush, and files must be open with O_DIRECT. What the block
 *   layer must split into several requests it does not poll for. Writes stay on the shard's own
 * ring: a file system completes them in a worker, polled for or not (seen on 6.12: as many
 * interrupts as requests). Failure: what is refused (no IOPOLL in the kernel, locks that cannot be
 * registered) leaves `on` false, and all goes by the shard's own ring. A file system that cannot
 * poll answers -EOPNOTSUPP before anything is done: env_uring.c then polls for its file no more.
 * Ownership: lock descriptors are borrowed: like the shard's own, this ring holds them, so that a
 * killed process keeps its directories until its last write has landed. Threads: the shard's. */
#ifndef IO_URING_POLL_H
#define IO_URING_POLL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/env.h"
#include "io/uring_compat.h"

enum { URING_POLL_DEVICES_MAX = 16 };

struct uring_poll {
    bool on;
    struct io_uring ring;
    unsigned enter_flags;
    unsigned in_flight; /* prepared, and completion not taken */
    struct {
        dev_t dev;
        uint32_t limit_bytes;
    } devices[URING_POLL_DEVICES_MAX]; /* seen so far */
    unsigned devices_n;
};

void uring_poll_init(struct uring_poll *p, bool single_issuer, const int *lock_fds,
                     unsigned lock_fds_n);
/* Nothing is in flight any more. */
void uring_poll_fini(struct uring_poll *p);

/* The longest read that can be polled for on the device of an open file; 0: none. */
uint32_t uring_poll_limit(struct uring_poll *p, int fd);
bool uring_poll_takes(const struct uring_poll *p, const struct env_op *op);

/* Submits what is prepared, asks the device; wait_n: until so many completions are there. */
int uring_poll_enter(struct uring_poll *p, unsigned wait_n);

#endif
