/* damage_rig.h: a small data directory made once, then opened again and again with one place of it
 * damaged. What comes back is held against every batch that was written and where its bytes lie.
 * Threads: one. */
#ifndef TESTS_UNIT_CORE_LOG_DAMAGE_RIG_H
#define TESTS_UNIT_CORE_LOG_DAMAGE_RIG_H

#include "tests/lib/core_log_fixture.h"

#define RIG_PARTITIONS 4
#define RIG_SECTOR_BYTES 512u

enum damage_kind {
    DAMAGE_BIT,  /* one, anywhere in the sector */
    DAMAGE_FLIP, /* one in each byte */
    DAMAGE_ZEROS,
    DAMAGE_GARBAGE,
    DAMAGE_OLD,
    DAMAGE_SECTOR_KINDS,
    DAMAGE_UNREADABLE = DAMAGE_SECTOR_KINDS, /* the whole block */
};
enum rig_end {
    RIG_CLEAN_STOP,
    RIG_CUT_AT_REST, /* the journal says of every write that it was durable */
    RIG_CUT_AT_WORK, /* ... but not of the last ones, all acknowledged */
};

struct rig_file {
    char path[160];
    uint8_t *bytes, *old; /* old: as it was at an earlier moment, zeros where it was not */
    size_t len_bytes;
};
struct rig_batch {
    int32_t partition;
    int64_t base_offset, end_offset, max_timestamp;
    uint8_t *bytes;
    uint32_t len_bytes;
    bool lost; /* at the position that is being looked at */
};
struct rig_span { /* bytes of a batch in a file */
    unsigned file, batch;
    uint64_t from, to;
};
struct rig {
    struct log_fixture f;
    struct rig_file files[64];
    unsigned files_n;
    struct rig_batch batches[4096];
    unsigned batches_n;
    struct rig_span *spans;
    unsigned spans_n;
    unsigned runs_n, indexes_n; /* that there are in the journal, in the partitions */
    unsigned laps;              /* how often the journal's ring has gone round */
    uint64_t positions, exact, with_loss, lost_batches;
    bool unsure; /* losses at the end of a partition may be named as perhaps never acknowledged */
    int log_fd;  /* what the broker says goes here */
};

/* Writes the scenario and keeps the directory as it is at its end. */
void rig_make(struct rig *r, enum rig_end end);
void rig_free(struct rig *r);
/* Opens the directory with that sector damaged and looks at all of it. False: *ret_why. */
bool rig_try(struct rig *r, unsigned file, uint64_t sector, enum damage_kind kind,
             const char **ret_why);
/* Did the store say so, the last time? */
bool rig_log_has(const struct rig *r, const char *text);

#endif
