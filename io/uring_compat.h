/* uring_compat.h: the one place that includes liburing, and what its 2.3 release lacks.
 * Values and layouts are the kernel's (include/uapi/linux/io_uring.h).
 * Threads: as for the ring. Private to io/. */
#ifndef IO_URING_COMPAT_H
#define IO_URING_COMPAT_H

#include <liburing.h>
#include <signal.h>
#include <stdint.h>

/* Kernel 6.2: the notification of a zero-copy send says whether the kernel copied after all. */
#define COMPAT_SEND_ZC_REPORT_USAGE (1u << 3)
#define COMPAT_NOTIF_USAGE_ZC_COPIED (1u << 31)

/* Kernel 6.9: busy polling of network queues. */
#define COMPAT_REGISTER_NAPI 27u
#define COMPAT_UNREGISTER_NAPI 28u
struct compat_napi {
    uint32_t busy_poll_to;
    uint8_t prefer_busy_poll;
    uint8_t pad[3];
    uint64_t resv;
};

/* liburing counts from zero on both sides, so the array always maps a slot to itself; writing it
 * here keeps this right for releases that fill it once and for those that fill it at each submit.
 * Returns how many entries the kernel has not taken yet. */
static inline unsigned compat_sq_flush(struct io_uring *ring)
{
    struct io_uring_sq *sq = &ring->sq;
    if (sq->sqe_head != sq->sqe_tail) {
        for (unsigned i = sq->sqe_head; i != sq->sqe_tail; i++)
            sq->array[i & sq->ring_mask] = i & sq->ring_mask;
        sq->sqe_head = sq->sqe_tail;
        io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    }
    return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

/* One io_uring_enter. timeout NULL: as long as it takes. Returns entries taken, or -errno. */
static inline int compat_enter(struct io_uring *ring, unsigned to_submit, unsigned wait_n,
                               unsigned flags, struct __kernel_timespec *timeout)
{
    if (timeout == NULL)
        return io_uring_enter((unsigned)ring->enter_ring_fd, to_submit, wait_n, flags, NULL);
    struct io_uring_getevents_arg arg = {.sigmask_sz = _NSIG / 8, .ts = (uintptr_t)timeout};
    return io_uring_enter2((unsigned)ring->enter_ring_fd, to_submit, wait_n,
                           flags | IORING_ENTER_EXT_ARG, (sigset_t *)&arg, sizeof(arg));
}

#endif
