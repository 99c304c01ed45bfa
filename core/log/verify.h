/* verify.h: is this really the batch that belongs here? A batch's CRC leaves out its base offset,
 * length, leader epoch and magic; so its place must agree too: it begins with the offset at which
 * the batch before it ended, and its epoch is the one that the partition's history gives that
 * offset. Asked by reads, look-ups, the walk that builds indexes, recovery, the scrub and the
 * offline tools.
 *
 * Happy path: verify_walk_next() cuts a segment's bytes into good batches and damaged stretches,
 *   until 0; on -EAGAIN come back with more bytes from pos on.
 * Behind damage: a header that is legible and belongs there is passed over by its length if what
 *   follows belongs; otherwise the next batch is searched for, with the offsets that can still
 * come. Failure: -EBADMSG these bytes are not the batch that belongs here. Does not see: a sector
 * that holds older bytes of a recycled file in which whole batches have the same offsets, lengths
 * and epoch. Relies on: core/batch; no I/O, no allocation. Threads: any. */
#ifndef CORE_LOG_VERIFY_H
#define CORE_LOG_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/batch/batch.h"

struct epoch_entry { /* of a partition's history, both ascending */
    int32_t epoch;
    int64_t start_offset;
};

#define VERIFY_ANY_OFFSET (-1)

struct verify_place {
    int64_t offset; /* of the batch's first record; VERIFY_ANY_OFFSET: not known */
    int64_t first_offset, end_offset; /* every record lies in [first, end) */
    const struct epoch_entry *epochs; /* borrowed */
    uint32_t epochs_n;                /* 0: not known, any will do */
};

/* Header only. 0; -EAGAIN: fewer than 61 bytes; -EBADMSG. */
int verify_header(const struct verify_place *place, const uint8_t *data, size_t avail_bytes,
                  struct batch_header *ret);
/* The whole batch. -EAGAIN: its header belongs here (in *ret if 61 bytes are there), the rest is
 * beyond avail_bytes. */
int verify_batch(const struct verify_place *place, const uint8_t *data, size_t avail_bytes,
                 struct batch_header *ret);

struct verify_walk {
    struct verify_place place; /* offset moves with pos; end_offset: where the log ends */
    const uint8_t *data;       /* borrowed */
    size_t len_bytes, pos;
    bool last;   /* nothing comes behind these bytes */
    bool search; /* pos is inside damage: look for the next batch from here on */
};
struct verify_piece {
    bool good;
    size_t from, to;                /* of data */
    int64_t from_offset, to_offset; /* what it holds, or what is lost */
    struct batch_header header;     /* of a good one */
};
/* 1: a piece, pos is behind it. 0: the end of the bytes. -EAGAIN: not without more bytes; pos
 * stays, never when last. */
int verify_walk_next(struct verify_walk *w, struct verify_piece *ret);

#endif
