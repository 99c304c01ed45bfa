/* replay.h: what the files of recovery share: recovery.c reads the chain, apply.c puts its records
 * into the partitions, adopt.c settles segments and files behind it. Nobody else includes it. */
#ifndef CORE_LOG_REPLAY_H
#define CORE_LOG_REPLAY_H

#include "core/log/internal.h"

#define AHEAD (GROUPS + 1) /* writes read ahead: enough to know that the oldest had retired */

struct held_write {
    uint8_t *bytes;
    struct journal_header h;
};
struct replay {
    struct log_store *s;
    uint8_t *window;
    uint64_t window_at, window_len; /* place in the ring */
    struct held_write held[AHEAD];
    unsigned held_n;
    uint64_t durable_seq; /* the highest that any write, or the checkpoint, claims */
    uint64_t writes, records;
    uint64_t checkpoint_seq; /* what older writes say of segments is in it */
    uint64_t losses;         /* places at which what had been durable is damaged */
    bool gaps;    /* durable writes could not be read: partitions go on behind what is missing */
    bool unparks; /* out of a side file: only for partitions that are unparking */
};

/* apply.c */
int replay_apply(struct replay *r, struct held_write *w);
int segment_fill_lost(struct segment *seg, uint64_t to_pos, int64_t to_offset, const char *where);

/* park.c */
int park_write(struct replay *r, const struct held_write *w);

/* adopt.c */
int adopt_segments(struct replay *r, bool clean);

#endif
