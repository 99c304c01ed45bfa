/* log_dir.h: small data directories of core/log, made by the real code, and their checksums.
 *
 * LOG_DIR_DIRTY and LOG_DIR_CLEAN are of the same history of two partitions (many small appends
 * with producers, direct runs, sealed segments with indexes): one has a journal to replay, the
 * other was stopped. The other two have more partitions, in two data directories, and hold what was
 * put aside, each after a crash:
 *   LOG_DIR_KEPT:   two starts without the far directory have made a side file of two sections, of
 *                   entries and of journal writes; parcels of two partitions, one in each
 *                   directory, are there to be loaded.
 *   LOG_DIR_FAILED: the far directory failed while the store ran, which made a side file of whole
 *                   images; one partition has left and comes by its parcel, one was about to, so
 *                   that its parcel's file does not count.
 * Mending makes the checksums right of what was changed, so that a fuzzer gets behind them: of
 * record batches where the real code put them, of journal writes with their chain, superblocks,
 * checkpoints, parcels and side files.
 * Threads: one. */
#ifndef TESTS_FUZZ_LOG_DIR_H
#define TESTS_FUZZ_LOG_DIR_H

#include "tests/fuzz/disk.h"
#include "tests/lib/core_log_fixture.h"

#define LOG_DIR_PARTITIONS_MAX 6
#define LOG_DIR_PRODUCER 77 /* and those behind, one a partition */
#define LOG_DIR_FAR 1u      /* the data directory that may be away, as meta_partition.dir */

enum log_dir_state { LOG_DIR_DIRTY, LOG_DIR_CLEAN, LOG_DIR_KEPT, LOG_DIR_FAILED, LOG_DIR_STATES };

/* Leaves f with its configuration and no world. */
void log_dir_make(struct log_fixture *f, struct disk made[static LOG_DIR_STATES]);
/* Metadata and configuration of that state, as behind its crash, with all of its directories. */
void log_dir_config(struct log_fixture *f, enum log_dir_state state);
/* At a start: the far directory is not there; while a store is open: another shard has found out
 * that it has failed. Of states that have none: nothing. */
void log_dir_away(bool away);
/* Up to where the partition's log reaches in that state; it begins at 0. */
int64_t log_dir_end(enum log_dir_state state, int32_t partition);
/* What damage leaves of side files and parcels: each of them is there twice. */
struct log_dir_damage {
    bool none_lost; /* there is no other damage: a partition that is served has all it had */
    bool must_open; /* ... and one of the copies of each is whole */
};
/* made: what `d` was before it was changed. mends: it is going to be mended, damage counts. */
void log_dir_look(const struct disk *d, const struct disk *made, bool mends,
                  struct log_dir_damage *ret);
void log_dir_mend(struct disk *d, const struct disk *made);
/* Where side files and parcels say what there is: for the mutator. */
void log_dir_hot(struct disk *made);
/* One batch into a partition; what plog_append says. sequence < 0: of no producer. */
int log_dir_append(struct log_fixture *f, int32_t partition, uint32_t value_bytes,
                   int32_t sequence);

#endif
