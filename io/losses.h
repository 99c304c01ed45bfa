/* losses.h: what a failed flush takes with it. Private to io/.
 *
 * A device that fails a flush may have dropped all that was in its volatile cache, whoever wrote
 * it, and tells only who asked: the kernel remembers errors of a file's pages, of which direct
 * writes have none. So failures are counted for each device, for all shards, and each file
 * remembers the count from before the oldest write of it that no flush has covered. When a flush
 * of it ends and the count is another one, nobody can say what of those writes is there.
 * A synced write is a write and a flush where the device has no FUA, so one that was in flight when
 * the count changed is as unknown.
 *
 * Happy path: losses_begin() when an operation is submitted; losses_note() with what the device
 *   said, before any callback of that turn; losses_end() when it is called back, which says what
 *   the caller is told.
 * Failure: -EIO instead of a success that says nothing; once, of all writes begun so far.
 * Not covered: a flush that begins after another shard's has failed, and is called back before that
 *   one's turn has taken the failure from the kernel; two device mapper targets on one disk.
 * Threads: a file's calls on its shard's; counts and the table on any. */
#ifndef IO_LOSSES_H
#define IO_LOSSES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/env.h"

struct device_losses {
    _Atomic uint64_t flushes_failed;
};

struct file_losses { /* zeroed, and device set, when the file is opened */
    struct device_losses *device;
    bool unflushed;        /* there are writes that no flush has covered, ... */
    uint64_t failed_known; /* ... and that was the device's count before the first of them */
    uint64_t writes_begun;
    unsigned writes_in_flight;
};

/* Of operations that are neither writes nor flushes these do nothing. */
void losses_begin(struct env_op *op, struct file_losses *f);
void losses_note(const struct env_op *op, struct file_losses *f, int res);
int losses_end(const struct env_op *op, struct file_losses *f, int res);
int losses_synced(struct file_losses *f); /* env_file_synced */

void losses_count(struct device_losses *device); /* a flush of it has failed */
uint64_t losses_counted(const struct device_losses *device);

/* All devices of a process, found by number. */
#define DEVICES_TOLD_APART 64u
struct device_table {
    pthread_mutex_t lock;
    unsigned devices_n;
    uint64_t numbers[DEVICES_TOLD_APART];
    struct device_losses losses[DEVICES_TOLD_APART];
};
struct device_losses *device_table_find(struct device_table *table, uint64_t number);

#endif
