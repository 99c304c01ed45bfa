/* log_dir.h: a small data directory of core/log, made by the real code, and its checksums.
 *
 * Two states of the same history of two partitions (many small appends with producers, direct runs,
 * sealed segments with indexes): LOG_DIR_DIRTY has a journal to replay, LOG_DIR_CLEAN was stopped.
 * Mending makes the checksums right of what was changed, so that a fuzzer gets behind them: of
 * record batches where the real code put them, of journal writes with their chain, superblocks and
 * checkpoints.
 * Threads: one. */
#ifndef TESTS_FUZZ_LOG_DIR_H
#define TESTS_FUZZ_LOG_DIR_H

#include "tests/fuzz/disk.h"
#include "tests/lib/core_log_fixture.h"

#define LOG_DIR_PARTITIONS 2
#define LOG_DIR_PRODUCER 77 /* ids 77 and 78 */

enum log_dir_state { LOG_DIR_DIRTY, LOG_DIR_CLEAN, LOG_DIR_STATES };

/* Leaves f with its configuration and no world. */
void log_dir_make(struct log_fixture *f, struct disk made[static LOG_DIR_STATES]);
/* made: what `d` was before it was changed. */
void log_dir_mend(struct disk *d, const struct disk *made);
/* One batch into a partition; what plog_append says. sequence < 0: of no producer. */
int log_dir_append(struct log_fixture *f, int32_t partition, uint32_t value_bytes,
                   int32_t sequence);

#endif
