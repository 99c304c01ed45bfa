/* log.h: the partition logs of one shard: a journal for group commit, segments for the data.
 *
 * Happy path: plog_append() copies a validated batch into the partition's memory and assigns its
 *   offsets; log_store_pump(), once a turn, turns all that came and that somebody waits for into
 * one journal write (and direct runs into segments), what nobody waits for some ms later; when it
 * is durable the stable offset moves and waiting appends finish. plog_read() lends memory or reads
 * segments; nothing unstable is ever visible (but for topics with write.caching). Failure: a failed
 * journal write fences the whole store, a failed segment write its partition: appends answer -EIO
 * from then on, reads of what is stable go on. Contract: see README.md in this folder for the
 * protocol of journal, checkpoint and recovery. Threads: one shard owns a store; every call and
 * callback runs there. */
#ifndef CORE_LOG_LOG_H
#define CORE_LOG_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/buddy.h"
#include "core/base/counter.h"
#include "core/base/list.h"
#include "core/batch/batch.h"
#include "core/meta/meta.h"
#include "io/env.h"

struct log_store;
struct plog; /* one partition's log */

/* When a sealed segment may be sent as it lies in its file, without being read here: what was found
 * good since the start (by a read, a walk or the scrub) may have changed since, on the device or on
 * its way from it. */
enum log_verify { LOG_VERIFY_ALWAYS /* never so */, LOG_VERIFY_ONCE, LOG_VERIFY_NEVER };

struct log_config {
    const char *journal_dir;
    const char *const
        *data_dirs; /* indexed as meta_partition.dir; NULL: where it was is not known */
    unsigned data_dirs_n;
    /* A bit for each that is offline, in common for all shards: set at start for those that are not
     * there, and when one fails; never cleared. NULL: none ever is. */
    _Atomic uint64_t *dirs_offline;
    void (*on_dir_failed)(void *arg); /* NULL: nobody else is to be told; it sets no bit itself */
    void *on_dir_failed_arg;
    uint64_t journal_bytes;    /* whole ring, its space reserved */
    uint64_t direct_min_bytes; /* a run of at least this goes straight to its segment */
    unsigned shards_n;         /* journals 0 .. shards_n-1 are in use; what others hold of this
                                * shard's partitions is taken over (id % shards_n) */
    uint64_t producer_expiry_ms;
    unsigned pool_max_percent;       /* of the device, for recycled segment files */
    uint64_t scrub_bytes_per_second; /* sealed segments are read through at this rate; 0: never */
    uint64_t scrub_interval_ms;      /* from the beginning of one pass to the next */
    uint64_t
        compact_backoff_ms; /* from one look for what is to be compacted to the next; 0: never */
    uint64_t compact_bytes_per_second; /* 0: without bound */
    uint64_t compact_memory_bytes;     /* for the last offsets of keys */
    uint64_t retention_check_ms;       /* how often expired segments are looked for; 0: never */
    struct buddy *memory;              /* partition buffers; borrowed */
    struct buddy *read_memory;         /* buffers of disk reads; borrowed */
    enum log_verify splice_verify;
    uint32_t place_min_bytes; /* batches from this on get a place; 0: none does */
    unsigned ahead_min; /* so many partitions with bytes that nobody waits for: they go straight to
                         * their segments, not by the journal; 0: never */
    unsigned shared_sync_min; /* with so many files at work they share syncs of their file system;
                               * 0: each is flushed */
};

/* Since opening; others may counter_read() them. */
struct log_counters {
    uint64_t appends, append_records, append_bytes, duplicates; /* appends: batches */
    uint64_t adopted_bytes;                  /* of these, received where they stay */
    uint64_t groups;                         /* journal writes */
    uint64_t journal_bytes, runs, run_bytes; /* batches, by their way to disk */
    uint64_t destage_bytes, checkpoints;
    uint64_t shared_syncs;                    /* of a file system, for many files */
    uint64_t segments_trimmed, trimmed_bytes; /* given back, below the start of their log */
    uint64_t compacted_segments;              /* replaced by what compaction left of them */
    uint64_t pool_taken;                      /* files for segments that came from the pool */
    uint64_t moved_here, moved_away;          /* partitions, from and to other shards */
    uint64_t reads_hot, reads_disk, disk_read_bytes, evictions, memory_waits;
    uint64_t damaged_stretches, lost_offsets; /* found since the start; each is named in the log */
    uint64_t scrub_bytes, scrub_passes;
    uint64_t scrub_damages; /* damaged stretches and files, again in each pass */
    uint64_t partitions, partitions_fenced, failed; /* now; failed: the journal is gone */
    uint64_t partitions_offline; /* of those fenced: their data directory has failed */
    uint64_t dirs_offline; /* in the store of shard 0 only: data directories that have failed */
    struct counter_hist group_bytes;   /* as written, of each journal write */
    struct counter_hist group_batches; /* appended since the one before */
    struct counter_hist group_us;      /* from its making until it is seen to be durable */
    struct counter_hist flush_us;      /* the same of a segment's flush */
};

/* ---- store ---- */

/* A start with fewer shards: open and close each journal of the earlier count once, with the
 * metadata and the count of that time; then change the metadata; then open the new owners' stores.
 *
 * Blocking: opens or makes journal `journal_id`, attaches the partitions that meta gives to the
 * shard of that number, and replays. Partitions that meta does not know are forgotten (deleted).
 * config is borrowed until close. On failure reason says what and where. */
int log_store_open(struct env *env, unsigned journal_id, const struct log_config *config,
                   const struct meta_image *meta, struct log_store **ret, char *reason,
                   size_t reason_size);
/* Starts or advances whatever can advance; call once a turn, after the callbacks. */
void log_store_pump(struct log_store *);
/* Next time at which pump wants to be called though nothing completed; UINT64_MAX: none. */
uint64_t log_store_deadline_ns(const struct log_store *);
/* Blocking clean stop: everything into segments, terminators, checkpoint. Then frees. 0, or the
 * first error (all is freed all the same). No append, read or lookup may be pending. */
int log_store_close(struct log_store *);
/* As a crash would leave it: frees memory, writes nothing. */
void log_store_abandon(struct log_store *);
const struct log_counters *log_store_counters(const struct log_store *);
/* Instead of the config's, from the next checkpoint on. */
void log_store_producer_expiry_set(struct log_store *, uint64_t expiry_ms);

/* A new partition of this shard (created since open), empty. -EEXIST: is here already. */
int log_store_attach(struct log_store *, const struct meta_topic *topic, int32_t index,
                     struct plog **ret);
struct plog *log_store_find(struct log_store *, uint64_t number); /* NULL: not here, or leaving */
/* An append to it comes soon: brings what that will look at into the processor's caches, one
 * pointer further with each step from 0 to LOG_PREFETCH_STEPS - 1. Of thousands of partitions
 * nothing is there, and each miss costs as much as copying 1 KiB. */
#define LOG_PREFETCH_STEPS 4u
void log_store_prefetch(struct log_store *, uint64_t number, unsigned step);
struct plog *log_store_peek(struct log_store *, uint64_t number); /* also one that leaves */
/* A bit for each data directory that is offline, as far as this store has heard. */
uint64_t log_store_dirs_offline(const struct log_store *);
/* Its directory is: nothing of it can be read or written before a start that finds it again. */
bool plog_is_offline(const struct plog *);
/* A newer image of the topic: configuration may have changed. */
void plog_configure(struct plog *, const struct meta_topic *topic);
/* Deletes the partition: pending appends fail with -ENOENT, watchers are called, files go to the
 * pool or away. on_done once its name is free again. */
typedef void (*plog_removed_fn)(void *arg, int rc);
void log_store_remove(struct log_store *, struct plog *, plog_removed_fn on_done, void *arg);

/* ---- moving to another shard ---- */

/* It leaves: takes no records and is not found from now on (-EXDEV: look elsewhere); what it has
 * is made durable in segments, and the rest of its state as a parcel, in memory and in a file.
 * on_done comes once: 0: no checkpoint of this store has it any more, the parcel counts, for
 * whichever store metadata gives it to; log_departure_end() must follow. Else it has stayed, goes
 * on, and the departure is over: -ENOENT: deleted meanwhile; -EIO: fenced; -ENOSPC; -ETIMEDOUT. */
struct log_departure;
typedef void (*log_departure_fn)(struct log_departure *d, int rc);
struct log_departure { /* lent from log_departure_begin until it is over */
    uint8_t *parcel;   /* out, the caller's (free); also when it comes to nothing */
    uint64_t parcel_bytes;
    log_departure_fn on_done;
    struct list_node link; /* private from here on */
    struct plog *plog;     /* NULL: deleted */
    int state, rc;
    bool captured;
    uint64_t give_up_ns;
    struct env_op op;
    struct env_name_step step;
    char *path;
};
void log_departure_begin(struct plog *, struct log_departure *d, log_departure_fn on_done);
/* gone: metadata says durably that it is another's now. Else it stays after all. */
void log_departure_end(struct log_departure *d, bool gone);
bool log_store_is_leaving(struct log_store *, uint64_t number);
/* The one that has been told and waits for its end; NULL: none of that partition. */
struct log_departure *log_store_departed(struct log_store *, uint64_t number);

/* A partition whose departure came to its end elsewhere, or will. on_done comes once, perhaps
 * before this returns: 0: it is served; -EBADMSG: no parcel. It waits for memory. */
struct log_arrival;
typedef void (*log_arrival_fn)(struct log_arrival *a, int rc);
struct log_arrival {                /* lent until on_done, with all it points to */
    const struct meta_topic *topic; /* in, as all up to on_done */
    int32_t index;
    const uint8_t *parcel;
    uint64_t parcel_bytes;
    log_arrival_fn on_done;
    struct list_node link; /* private */
};
void log_store_arrive(struct log_store *, struct log_arrival *a, log_arrival_fn on_done);
/* What has arrived can be kept: the journal works, and a checkpoint stands behind the replay. */
bool log_store_accepts(const struct log_store *);

/* ---- append ---- */

/* Where a batch is received that is going to be appended, so that nothing has to copy it: memory of
 * the log, aligned as the end of the log is now. If that still fits when the batch is appended, the
 * memory becomes the log's; else the batch is copied like any other. */
struct log_place {
    uint8_t *block; /* NULL: none; private, as all of it */
    uint32_t block_bytes;
    struct log_store *store;
    struct chunk *chunk;
    bool adopted;
};
/* For a batch of len_bytes with before_bytes and after_bytes around it; *ret_batch is where the
 * batch is to begin. -ENOENT: receive it elsewhere (it is small, many are on their way already, the
 * partition takes nothing); -EAGAIN: all memory is in use (log_store_wait_memory). */
int log_place_take(struct plog *, uint32_t before_bytes, uint32_t len_bytes, uint32_t after_bytes,
                   struct log_place *ret, uint8_t **ret_batch);
/* Nobody looks at it any more; also when there is none. What was adopted stays in the log. */
void log_place_release(struct log_place *place);

struct log_append;
typedef void (*log_append_fn)(struct log_append *a, int rc);
struct log_append {          /* lent from plog_append until on_done, when that returned 0 */
    struct log_place *place; /* in: the batch was received there; NULL: somewhere else */
    int64_t base_offset;     /* out; of the original when duplicate */
    int64_t append_time_ms;  /* out; -1 with CreateTime */
    int64_t log_start_offset;
    bool duplicate;
    log_append_fn on_done;
    int64_t end_offset;    /* private */
    struct list_node link; /* private */
};
/* One validated batch (batch_validate with this topic's limits), stamped in place and copied, or
 * adopted where it lies: then nobody writes to it any more.
 * 1: finished (wait_stable was false, or it is stable already), outputs set.
 * 0: accepted, outputs set, on_done(rc) comes exactly once when it is stable or has failed.
 * < 0, on_done never comes: -EAGAIN no memory now (log_store_wait_memory), -EIO fenced,
 * -ENOSPC no disk space for what is here already (it is tried again each second),
 * -ENOENT removed, -EDOM larger than a segment, -EILSEQ out of order sequence,
 * -ESTALE producer epoch fenced. */
int plog_append(struct plog *, uint8_t *batch, const struct batch_header *header, bool wait_stable,
                struct log_append *a, log_append_fn on_done);

struct log_waiter {
    struct list_node link; /* private */
    void (*run)(struct log_waiter *w);
};
/* Calls run once when memory may be available again. */
void log_store_wait_memory(struct log_store *, struct log_waiter *w);
/* Somebody waits for memory, of appends or of disk reads. */
bool log_store_memory_short(const struct log_store *);

/* ---- read ---- */

#define PLOG_READ_IOV_MAX 64u
struct plog_read;
typedef void (*plog_read_fn)(struct plog_read *r);
struct plog_read {  /* lent from plog_read until on_done, then owned by the caller until release */
    int64_t offset; /* in */
    uint32_t max_bytes; /* in */
    uint32_t
        splice_min_bytes; /* in: from so many on, a stretch of a file will do; 0: it will not */
    bool at_least_one;    /* in: the first batch comes whole even when larger than max_bytes */
    int rc;               /* out: 0; -ERANGE: offset outside the log; -EIO: damaged or unreadable;
                           * -ENOENT: removed */
    struct iovec iov[PLOG_READ_IOV_MAX]; /* out: whole batches, lent until plog_read_release */
    unsigned iov_n;
    struct env_extent extent; /* out: file not NULL: all of it is here, and not in iov */
    uint32_t len_bytes;
    plog_read_fn on_done;
    struct plog *plog; /* private from here on */
    void *refs[PLOG_READ_IOV_MAX];
    void *job;
    bool starting, finished;
};
/* 1: finished, outputs set. 0: on_done will come. */
int plog_read(struct plog *, struct plog_read *r, plog_read_fn on_done);
/* Gives the memory back; once for every finished read, also a failed one. */
void plog_read_release(struct plog_read *r);
/* A cheap lower bound on how many bytes a read at offset would give now (0 at the end). */
uint64_t plog_available_bytes(const struct plog *, int64_t offset);

int64_t plog_start_offset(const struct plog *);
int64_t plog_high_watermark(const struct plog *); /* visible end: stable, or end if write.caching */
int64_t plog_end_offset(const struct plog *);     /* accepted end */
int32_t plog_leader_epoch(const struct plog *);
uint64_t plog_size_bytes(const struct plog *);
/* KIP-279: largest epoch <= asked and its end offset; both -1 when unknown or newer than all. */
void plog_epoch_end(const struct plog *, int32_t epoch, int32_t *ret_epoch, int64_t *ret_end);
/* Leader epoch of the record at offset. */
int32_t plog_epoch_at(const struct plog *, int64_t offset);

struct plog_producer { /* idempotent */
    int64_t id;
    int64_t last_ms; /* when its last batch came */
    int32_t last_sequence;
    int16_t epoch;
};
/* How many are remembered; the first max of them. */
uint32_t plog_producers(const struct plog *, struct plog_producer *ret, uint32_t max);

/* Somebody looks at the end of the log: what he cannot see yet is made stable at once. */
void plog_hurry(struct plog *);
/* Called (once per set) when the visible end moves or the partition goes away. */
struct plog_watch {
    struct list_node link; /* private; list_linked(): set */
    void (*run)(struct plog_watch *w);
};
void plog_watch_set(struct plog *, struct plog_watch *w);
void plog_watch_clear(struct plog_watch *w); /* not set: nothing */

/* ---- the start of the log ---- */

/* Called once when the log begins at offset or behind it, durably, with 0; -EIO, -ENOENT: it will
 * not. */
struct plog_start_waiter {
    struct list_node link; /* private */
    int64_t offset;        /* private */
    void (*run)(struct plog_start_waiter *w, int rc);
};
/* Records below offset go, for good; whole segments give back their files. 1: they are gone. 0:
 * w->run comes. -ERANGE: offset is above the high watermark; -EIO, -ENOENT. */
int plog_delete_records(struct plog *, int64_t offset, struct plog_start_waiter *w,
                        void (*run)(struct plog_start_waiter *w, int rc));

/* run does not come any more; the records go all the same. False: it came, or was never to come. */
bool plog_start_waiter_clear(struct plog_start_waiter *w);

/* ---- look-up by time ---- */

#define PLOG_TIME_MAX INT64_MIN /* the record with the largest timestamp */
struct plog_lookup;
typedef void (*plog_lookup_fn)(struct plog_lookup *l);
struct plog_lookup {          /* lent until on_done */
    int64_t timestamp_ms;     /* in: first visible record at or after it; or PLOG_TIME_MAX */
    int rc;                   /* out */
    int64_t offset, found_ms; /* out; -1 when there is none */
    plog_lookup_fn on_done;
    struct plog *plog; /* private from here on */
    void *job;
    bool starting;
};
/* 1: finished. 0: on_done will come. */
int plog_lookup_time(struct plog *, struct plog_lookup *l, plog_lookup_fn on_done);

#endif
