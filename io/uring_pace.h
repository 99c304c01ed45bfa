/* uring_pace.h: reads in the background beside writes. Private to io/.
 *
 * A disk works off what it is given about in the order in which it came, so a write waits for all
 *   that is being read, and so does its flush: for 8 MiB ahead of a reader 5 ms at 1.5 GiB/s. So
 *   while the shard writes, or has just written, background reads go in pieces, and no more of them
 *   is with the disk than of the writes; but one piece always. Beside large writes that gives reads
 *   their share of the disk; small ones that somebody waits for are let by: the next piece begins
 *   when they are done, or when it has waited twice as long as the last one took. Whoever reads
 *   alone is not bounded.
 * Happy path: a background read waits here, not on `pending`; a turn submits as much of it as may
 *   be read now; its completion brings it back for the rest, behind the others that wait.
 * Ends: reads are held only while another one, or a write, is in the kernel: its completion is the
 *   next turn.
 * Threads: the shard's. Which disk a file is on, and what other shards write, is not looked at. */
#ifndef IO_URING_PACE_H
#define IO_URING_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "io/env.h"

/* Of a read beside small writes. Smaller ones cost the disk its rate, larger ones the writes their
 * time: beside a synced write each ms a disk read, by pieces of 128, 256 and 512 KiB, 1004, 1466
 * and 1576 MiB/s, and the writes took 0.29, 0.36 and 0.61 ms (0.19 alone). */
#define URING_PACE_PIECE_BYTES (256u * 1024u)
/* Behind the last write: the next one is soon. */
#define URING_PACE_QUIET_NS 1000000000ull

struct uring_pace {
    struct list_node waiting; /* env_op: reads that have more to read, and are not in the kernel */
    uint64_t reading_bytes;   /* of such reads, in the kernel */
    uint64_t read_began_ns, read_ended_ns; /* the last of these */
    uint64_t writing_bytes;                /* of writes that are under way */
    unsigned writes_n;                     /* writes and flushes that are under way */
    unsigned awaited_n;                    /* of them, with ENV_AWAITED */
    uint64_t wrote_ns;                     /* when one began or ended last; 0: never */
};

void uring_pace_init(struct uring_pace *p);
bool uring_pace_takes(const struct env_op *op);

/* The next read that may go to the kernel; NULL: none now. */
struct env_op *uring_pace_next(struct uring_pace *p, uint64_t now_ns);
/* So much of it. */
uint64_t uring_pace_piece_bytes(const struct env_op *op);

/* Of other operations these do nothing. */
void uring_pace_read_began(struct uring_pace *p, const struct env_op *op, uint64_t now_ns);
void uring_pace_read_ended(struct uring_pace *p, const struct env_op *op, uint64_t now_ns);
void uring_pace_write_began(struct uring_pace *p, const struct env_op *op, uint64_t now_ns);
void uring_pace_write_ended(struct uring_pace *p, const struct env_op *op, uint64_t now_ns);

#endif
