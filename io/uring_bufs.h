/* uring_bufs.h: the provided receive buffers of one ring: the kernel takes one when data is there,
 * so idle sockets hold none. Private to io/.
 * Happy path: init borrows the memory, or maps it (pages come when first used), and hands all
 *   buffers over; a receive lends one out; give puts it back.
 * Failure: -errno from init. Without buffer rings the older PROVIDE_BUFFERS op is used: then given
 *   buffers are queued here until bufs_prepare makes SQEs of them.
 * Threads: the shard's. */
#ifndef IO_URING_BUFS_H
#define IO_URING_BUFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io_uring;
struct io_uring_buf_ring;

#define URING_BUFS_GROUP 1

struct uring_bufs {
    struct io_uring *ring;
    unsigned count, bytes_each;
    unsigned char *memory;
    size_t memory_bytes;
    bool memory_is_ours;
    struct io_uring_buf_ring *br; /* NULL: the older way */
    size_t br_bytes;
    unsigned br_entries;
    uint16_t *returned; /* the older way: waiting for their SQE */
    unsigned returned_n;
};

/* memory NULL: maps its own */
int uring_bufs_init(struct uring_bufs *b, struct io_uring *ring, bool use_ring, unsigned count,
                    unsigned bytes_each, void *memory);
void uring_bufs_fini(struct uring_bufs *b);
void uring_bufs_give(struct uring_bufs *b, unsigned id);
void *uring_bufs_at(const struct uring_bufs *b, unsigned id);
/* Older way only: SQEs for the buffers given back, as far as there is room in the ring. */
void uring_bufs_prepare(struct uring_bufs *b, uint64_t user_data);

#endif
