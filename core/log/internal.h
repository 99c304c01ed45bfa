/* internal.h: the structures shared by the files of core/log; nobody else includes it.
 *
 * Positions of a segment, always in this order (bytes from the start of the segment's file):
 *   destaged_pos <= stable_pos <= queued_pos <= end_pos, settled_pos <= end_pos
 *   end_pos      accepted into memory
 *   queued_pos   handed to a journal write (or direct run) in flight; a batch boundary
 *   stable_pos   durable: in the journal, or in the segment
 *   destaged_pos durable in the segment's file; block aligned until the segment is sealed
 *   settled_pos  whole blocks below are durable in the segment's file, stable or not: destaged_pos
 *                follows as far as they are
 *   run_pos      where the last direct run ends; from destaged_pos to there they are under way
 * Memory chunks always cover [destaged_pos, end_pos); below that they are a cache. */
#ifndef CORE_LOG_INTERNAL_H
#define CORE_LOG_INTERNAL_H

#include <limits.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/map.h"
#include "core/log/checkpoint_format.h"
#include "core/log/journal_format.h"
#include "core/log/log.h"
#include "core/log/verify.h"

#define NS_PER_US 1000u
#define GROUPS 3u       /* journal writes in flight */
#define SEGMENT_RUNS 3u /* direct runs of a segment under way, ... */
#define STORE_RUNS 64u  /* ... of all of them */
#define DIRECT_MIN_BYTES_MAX (1024u * 1024u)
#define CHUNK_BYTES_MIN 4096u
#define CHUNK_BYTES_MAX (1024u * 1024u)
#define SEG_IO_IOV_MAX 256u
#define DESTAGE_CHUNK_BYTES (1024u * 1024u)
#define DESTAGES_MAX 64u /* segment writes in flight, whole store; more than 16 only ... */
#define DESTAGES_LARGE_MAX 16u
#define DESTAGES_BYTES (1024u * 1024u)      /* ... of so many bytes: flushes wait behind them */
#define SHARED_SYNC_BYTES_MAX (64u * 1024u) /* a larger write is worth a flush of its own */
#define SEGMENT_CLASSES 5u                  /* file sizes 16 KiB << 4*i: 16 KiB .. 1 GiB */
#define SEGMENT_CLASS_MIN_BYTES (16u * 1024u)
#define TERMINATOR_BYTES 17u
#define PLOG_READ_ENDS 4u
#define PLOG_BOUNDARIES 16u

/* ---- in memory ---- */

struct chunk {                   /* contiguous memory for [pos, pos + cap) of a segment */
    struct list_node link;       /* segment.chunks, by pos */
    struct list_node clean_link; /* store.clean: only a cache, may be evicted */
    struct segment *seg;         /* NULL: dropped, freed when the last reference goes */
    struct log_store *store;
    uint8_t *block; /* what was allocated: data is in it, at its begin unless it was adopted */
    uint8_t *data;
    uint64_t pos;
    uint32_t cap_bytes, fill_bytes;
    unsigned refs;
    unsigned lent; /* of these, to readers */
};

struct index_entry { /* Kafka's: last offset of a batch, and where the batch starts */
    uint32_t relative_offset, pos;
};
struct time_entry { /* largest timestamp so far, last offset of its batch */
    int64_t timestamp;
    uint32_t relative_offset;
};
struct seg_index {
    struct index_entry *offsets;
    struct time_entry *times;
    uint32_t offsets_n, offsets_cap, times_n, times_cap;
    uint64_t indexed_pos;  /* bytes since the last entry are not yet indexed */
    int64_t max_timestamp; /* -1: none */
    int64_t max_timestamp_offset;
};
struct pin { /* the journal write at virtual_pos holds bytes of the segment from from_pos on */
    uint64_t from_pos, virtual_pos;
};

struct damage { /* bytes that hold no batch any more, and the offsets that were in them */
    uint64_t from_pos, to_pos;
    int64_t from_offset, to_offset;
};

struct span {
    uint64_t from, to;
};
struct read_end { /* where a reader may go on */
    int64_t segment, offset;
    uint64_t pos;
};
struct boundary { /* a batch that a reader may come for next */
    int64_t segment, offset;
    uint64_t pos; /* 0: none */
};

enum segment_state { SEGMENT_OPEN, SEGMENT_SEALING, SEGMENT_SEALED };
enum segment_file_state { SEGMENT_FILE_NONE, SEGMENT_FILE_OPENING, SEGMENT_FILE_OPEN };
struct segment {
    struct list_node link; /* plog.segments, by base_offset */
    struct plog *plog;
    enum segment_state state;
    enum segment_file_state file_state;
    int64_t base_offset, end_offset;
    uint64_t end_pos, queued_pos, stable_pos, destaged_pos;
    uint64_t settled_pos; /* may be behind destaged_pos: then it says nothing */
    uint64_t run_pos;     /* the same */
    unsigned runs_n;      /* whose groups have not retired yet */
    bool destage_waits;   /* for them: no further ones before it */
    struct list_node runs_written, runs_flushing; /* run.c */
    uint64_t image_pos; /* bytes below are in the newest checkpoint, perhaps not in the journal */
    uint64_t captured_pos;   /* image_pos once the checkpoint in flight is durable */
    uint64_t recovered_pos;  /* the checkpoint promises the journal to reach here */
    int64_t replayed_offset; /* recovery: where the last record that was replayed ends */
    uint64_t capacity_bytes; /* of the file; 0: none chosen yet */
    bool size_known;         /* a sealed segment found at start has its size from the file */
    bool index_complete;     /* covers the segment from its start, else only from index_from */
    uint64_t index_from;
    int64_t index_from_offset;
    uint32_t index_crc[2]; /* of a sealed one's index files: they have none of their own */
    bool index_crc_known;
    bool on_disk;       /* its file exists */
    bool resize_file;   /* ... but has to be made longer first */
    bool known_missing; /* recovery has looked for it */
    bool checkpointed;  /* a durable checkpoint says that it is sealed */
    bool captured_sealed;
    bool replacing;      /* compaction: nobody begins to read it */
    bool swap_pending;   /* it counts, but its file may not have its name yet */
    uint32_t generation; /* how often it was compacted */
    bool unreadable;     /* a read has failed, which is logged once */
    struct env_file *file;
    unsigned file_refs;        /* I/O in flight on file */
    unsigned holds;            /* besides: somebody comes back to it */
    struct seg_source *source; /* source.c: its file as one that is sent as it is; NULL: none */
    bool source_opening, source_refused;
    bool was_source;     /* what was sent of it may still be shared with its receivers */
    struct span good[2]; /* sealed: found good since the start */
    struct list_node chunks;
    struct seg_index index;
    struct pin *pins;
    uint32_t pins_first, pins_n, pins_cap;
    struct damage *damages; /* by position; not empty: memory is not lent unverified */
    uint32_t damages_n;
    bool suspect;            /* a read found damage that is not known yet: walk all of it */
    int64_t first_timestamp; /* for roll by time; -1: empty */
    int64_t last_timestamp;  /* of a sealed one, for retention: see segment_last_timestamp */
    uint64_t opened_ns;
    struct list_node loads;     /* load_waiter: who needs file and index */
    struct list_node load_link; /* store.load_waiting */
    struct seg_load *load;
};

struct sync_waiter;
typedef void (*sync_fn)(struct sync_waiter *w, int rc);
struct sync_waiter { /* sync.c */
    struct list_node link;
    struct env_file *file;
    bool asked; /* what run is told is what a flush of its own file has said */
    sync_fn run;
};

struct seg_io { /* a segment write in flight: the one destage of a partition, or a run */
    struct env_op op;
    struct list_node link; /* of a run: its segment's lists, store.runs_free */
    struct sync_waiter sync;
    struct segment *seg;
    struct group *group; /* of a run */
    uint64_t from_pos, to_pos, flush_ns;
    bool busy; /* the destage */
    struct chunk *chunks[SEG_IO_IOV_MAX];
    unsigned chunks_n;
    struct iovec iov[SEG_IO_IOV_MAX];
    unsigned iov_n;
};

struct producer {
    int64_t id;
    int16_t epoch;
    uint8_t batches_n;
    int64_t last_ms;
    struct producer_batch batches[PRODUCER_BATCHES]; /* oldest first */
};

struct plog {
    struct log_store *store;
    uint64_t number;
    bool loaded;       /* from a checkpoint */
    uint64_t void_seq; /* replay: its records in writes before this one do not count */
    bool removed;      /* nothing begins on it any more */
    bool failed_space, reserving;
    struct log_departure *departure; /* it leaves, or tries to */
    bool excluded;                   /* its parcel counts: no checkpoint is to have it */
    bool parcel_stale;               /* there may be a parcel's file: see move.c */
    bool parcel_captured;            /* the checkpoint in flight has it */
    int fenced;                      /* -errno: no appends any more */
    bool offline;                    /* with its data directory: no reads, either */
    bool parked;   /* what there is of it is in a side file, not in checkpoints (park.c) */
    bool released; /* and nothing is in memory (park_run.c) */
    bool unparking, unparked; /* recovery: such a file may speak of it, has done so */
    struct meta_uuid topic_id;
    char *name; /* "topic-index" */
    char *path; /* data dir / name */
    unsigned dir;
    bool ahead;        /* its bytes are being written before they are stable */
    bool only_settled; /* in store.dirty for these alone */
    bool lazy;         /* in store.lazy, until due_ns or until somebody looks at its end */
    uint64_t due_ns, watched_ns;
    bool in_cycle;  /* the running cycle waits for it */
    bool dir_ready; /* directory and partition.metadata exist */
    struct topic_config config;
    int32_t leader_epoch;
    int64_t log_start, end_offset, stable_offset;
    int64_t start_wanted, start_queued; /* log_start is to be, and is being made durable */
    int64_t clean_offset;               /* below, it has been compacted */
    struct segment *swap;               /* to be recorded as the one that replaces others */
    bool swap_queued, swapped;          /* swapped: recovery has found such a one */
    int64_t recovered_offset; /* what the checkpoint counted already: replay does not count twice */
    struct list_node segments;
    struct list_node dirty_link;   /* store.dirty, or store.lazy: bytes to queue */
    struct list_node destage_link; /* store.destage_ready */
    struct list_node behind_link;  /* store.behind: stable whole blocks to destage */
    struct list_node notify_link;  /* store.notify: stable end moved */
    struct list_node tail_link;    /* store.big_tails: its last chunk may be shrunk to a block */
    struct list_node trim_link;    /* store.trimming: segments below log_start */
    struct list_node parcel_link;  /* store.parcels: parcel_stale */
    struct list_node waiting;      /* log_append, by end_offset */
    struct list_node watches;
    struct list_node start_waiters; /* plog_start_wait */
    struct epoch_entry *epochs;
    uint32_t epochs_n, epochs_cap;
    struct map producers;
    struct seg_io *io;                         /* of its destage, allocated with the first file */
    struct read_end read_ends[PLOG_READ_ENDS]; /* of the last reads from disk: who goes on? */
    unsigned read_ends_at;
    struct boundary boundaries[PLOG_BOUNDARIES];
    unsigned boundaries_at;
    unsigned holds;       /* group extents, reads, jobs: not freed before they end */
    uint32_t chunk_bytes; /* size of the next chunk: grows with the rate */
    uint64_t chunk_made_ns;
    unsigned segment_class; /* of the next segment file */
    struct names_job *job;  /* name operation in flight (file creation, sealing, removal) */
    bool trimming;          /* and another: files of segments are going away */
    bool expired;           /* its last segment was rolled because of its age */
    plog_removed_fn on_removed;
    void *on_removed_arg;
    uint64_t retry_ns; /* after a full disk */
    bool hole;         /* recovery: records are missing, what follows is void */
    int64_t hole_end;  /* ... up to here, as far as the journal says */
};

struct extent {
    struct plog *plog;
    struct segment *seg; /* NULL: the log begins at end_offset, or ... */
    uint64_t to_pos;
    int64_t end_offset;
    bool run;
    bool swap; /* ... segments have been replaced */
};
enum group_state { GROUP_FREE, GROUP_WRITING, GROUP_DONE };
struct group { /* one journal write and the runs recorded in it */
    struct log_store *store;
    enum group_state state;
    uint8_t *buf;
    uint32_t used_bytes, records_n;
    uint64_t seq, virtual_pos, submit_ns;
    uint32_t prev_crc;
    unsigned pending;
    int rc;
    bool awaited; /* somebody waits for what is in it */
    struct env_op op;
    struct extent *extents;
    uint32_t extents_n, extents_cap;
};

enum fill_state { FILL_WRITES, FILL_FLUSHES, FILL_NOTES_FIRST, FILL_NOTES_SECOND, FILL_ENDED };
struct journal_fill { /* journal_fill.c */
    enum fill_state state;
    struct env_op op;
    struct span blank[2]; /* places in the ring that have not been written yet */
    struct span piece;    /* in flight */
    uint64_t next_ns;     /* when the next one is to begin */
    uint64_t behind_seq;  /* the flush comes behind all journal writes before this one */
    uint8_t *super;       /* a block */
};

struct journal {
    unsigned id;
    struct env_file *file;
    uint64_t identity; /* random, of this file */
    uint64_t ring_bytes, incarnation;
    uint64_t head_pos, tail_pos; /* virtual: ever growing; modulo ring_bytes is the place */
    uint64_t next_seq, durable_seq;
    uint64_t records_seq; /* the last write that holds records ... */
    uint64_t claimed_seq; /* ... and the highest that a later one calls durable */
    /* Runs have failed whose records are in writes that did not: nothing from the first of them on
     * is called durable until a checkpoint behind the last one says which partitions stopped. */
    uint64_t claims_end, failed_run_seq; /* UINT64_MAX, 0: none has */
    uint64_t mark_ns;                    /* when to write one that says so, if nothing else comes */
    bool checkpointed;                   /* the superblocks say so */
    bool filled; /* all of the ring has been written and flushed, so that writes change no metadata
                  */
    struct journal_fill fill;
    uint32_t last_crc;
    uint64_t appends_seen; /* counters.appends at the last write */
    struct group groups[GROUPS];
    unsigned first_group, groups_n; /* in flight, oldest first */
};

struct checkpointer {
    bool busy, wanted;
    int rc;    /* of the last one; < 0: the journal may fill up */
    bool full; /* this one needs nothing of the journal */
    uint64_t generation;
    char *paths[2];
    uint64_t sizes[2];
    uint64_t tail_pos;         /* the journal tail once this checkpoint is durable */
    uint64_t durable_next_seq; /* of this checkpoint */
    uint8_t *buf;
    uint64_t buf_bytes;
    unsigned copy;                      /* which is being written, ... */
    uint64_t written_bytes, file_bytes; /* ... how far, into a file of what size */
    struct env_op op;
    struct env_name_step steps[3];
    struct env_file *file;
};

struct park;      /* park.c */
struct side_file; /* park_run.c */

struct log_store {
    struct env *env;
    struct log_config config;
    uint64_t dirs_offline;  /* what of config.dirs_offline has been applied to the partitions */
    struct park *parks;     /* one a data dir, while recovering */
    struct side_file *side; /* park_run.c */
    struct log_counters counters;
    struct journal journal;
    struct checkpointer checkpoint;
    struct map plogs; /* by number */
    struct list_node dirty, lazy, destage_ready, behind, notify, clean, big_tails, memory_waiters,
        disk_waiters, load_waiting, windows, sources, trimming, departing, arriving, parcels;
    unsigned sources_n;
    unsigned windows_busy_n;      /* being read */
    uint64_t windows_cache_bytes; /* of windows that nobody uses or wants */
    struct list_node runs_free;
    unsigned runs_made_n;
    unsigned writes_n; /* of destages */
    uint64_t writes_bytes;
    unsigned destages_n; /* of these, writes_n are being written, the others flushed */
    unsigned jobs_n;
    bool cycle;              /* destage what was behind at its start */
    bool cycle_checkpoints;  /* ... and then write a checkpoint */
    uint32_t cycle_missing;  /* partitions of the cycle not done yet */
    uint64_t cycle_after_ns; /* no new cycle before */
    uint64_t retry_ns;       /* partitions without disk space try again; UINT64_MAX: none */
    uint32_t open_sealed_n;  /* sealed segments whose file is open */
    bool recovering, abandoned;
    uint64_t parcels_ns;   /* when those of store.parcels are worth a checkpoint */
    bool foreign;          /* the checkpoint that was loaded has partitions of others */
    bool parks_left;       /* side files are there whose contents are in the partitions again */
    bool unsettled;        /* replayed, but no checkpoint could take over yet: nothing is written */
    bool closing;          /* clean stop: one sync of the file system stands for all */
    int failed;            /* -errno: the journal is gone */
    uint64_t behind_bytes; /* stable, not destaged */
    uint64_t fresh_bytes;  /* accepted, not queued */
    unsigned lazy_n, ahead_n;
    bool stopping;               /* nothing gathers any more */
    uint64_t lent_bytes;         /* of chunks that readers hold */
    uint64_t place_bytes;        /* of places that are no chunks yet */
    uint64_t unfilled_bytes;     /* of chunks, still to be written */
    struct pool *pools;          /* one a data dir */
    struct dir_sync *syncs;      /* one a data dir */
    struct scrub *scrub;         /* NULL: off */
    struct retention *retention; /* NULL: off */
    struct compactor *compactor; /* NULL: off */
    bool compaction_waits;       /* for a checkpoint */
    bool memory_freed;
};

/* chunk.c */
int seg_reserve(struct segment *seg, uint64_t len_bytes);
void seg_write_bytes(struct segment *seg, const uint8_t *data, uint64_t len_bytes, bool read_soon);
bool seg_can_adopt(const struct segment *seg, const uint8_t *data, uint64_t len_bytes,
                   const struct log_place *place);
void seg_adopt(struct segment *seg, const uint8_t *data, uint64_t len_bytes,
               struct log_place *place);
bool seg_peek(const struct segment *seg, uint64_t pos, void *buf, uint32_t len_bytes);
struct chunk *seg_chunk_at(const struct segment *seg, uint64_t pos);
void chunk_ref(struct chunk *c);
void chunk_unref(struct chunk *c);
void chunk_lend(struct chunk *c);
void chunk_return(struct chunk *c);
uint64_t store_lend_room(const struct log_store *s);
void plog_tail_moved(struct plog *p);
void seg_prefetch_tail(const struct segment *seg, bool first);
void seg_mark_clean(struct segment *seg);
void seg_drop_chunks(struct segment *seg);
void *store_alloc(struct log_store *s, size_t bytes);
unsigned seg_iov(const struct segment *seg, uint64_t from, uint64_t to, struct iovec *iov,
                 struct chunk **chunks, unsigned max, uint64_t *ret_to);

/* index.c */
void seg_index_add(struct seg_index *ix, const struct segment *seg, uint64_t pos,
                   const struct batch_header *h);
void seg_index_complete(struct segment *seg, struct seg_index *older);
uint64_t seg_index_find(const struct segment *seg, int64_t offset, int64_t *ret_last_offset);
void seg_index_drop_below(struct segment *seg, uint64_t pos, int64_t offset);
uint64_t seg_index_find_pos(const struct segment *seg, uint64_t pos);
int64_t seg_index_last_offset(const struct segment *seg, uint64_t pos);
uint64_t seg_index_next_pos(const struct segment *seg, uint64_t pos);
int64_t seg_index_find_time(const struct segment *seg, int64_t timestamp_ms);
void seg_index_fini(struct seg_index *ix);
int seg_index_encode(struct segment *seg, uint8_t **ret_offsets, size_t *ret_offsets_len,
                     uint8_t **ret_times, size_t *ret_times_len);
int seg_index_decode(struct segment *seg, const char *offsets, size_t offsets_len,
                     const char *times, size_t times_len);

/* segment.c */
struct segment *segment_alloc(struct plog *p, int64_t base_offset);
struct segment *segment_create(struct plog *p, int64_t base_offset);
void segment_destroy(struct segment *seg);
void segment_discard(struct segment *seg);
struct segment *segment_next(const struct segment *seg);
struct segment *plog_active(const struct plog *p);
struct segment *plog_segment_for(const struct plog *p, int64_t offset);
bool segment_last_timestamp(const struct segment *seg, int64_t *ret);
void segment_sealed(struct segment *seg);
uint64_t segment_pool_bytes(const struct segment *seg);
char *segment_path(const struct segment *seg, const char *suffix, char *buf, size_t size);
uint64_t segment_class_bytes(const struct plog *p, unsigned class);
uint64_t segment_class_for(const struct plog *p, uint64_t bytes);
void segment_pin(struct segment *seg, uint64_t from_pos, uint64_t virtual_pos);
uint64_t segment_image_end(const struct segment *seg);
void segment_unpin(struct segment *seg);
uint64_t segment_pin_of(const struct segment *seg);

/* producer.c */
int producer_check(struct plog *p, const struct batch_header *h, struct producer_batch *ret_dup);
int producer_update(struct plog *p, const struct batch_header *h, int64_t base_offset,
                    int64_t append_time_ms, int64_t now_ms);
void producers_expire(struct plog *p, int64_t now_ms);
void producers_fini(struct plog *p);

/* plog.c */
struct plog *plog_create(struct log_store *s, const struct meta_topic *topic, int32_t index);
void plog_destroy(struct plog *p);
void plog_prefetch(const struct plog *p, unsigned step);
void plogs_prefetch(const struct list_node *list, size_t link);
void plog_hold(struct plog *p);
void plog_unhold(struct plog *p);
int plog_epoch_note(struct plog *p, int32_t epoch, int64_t start_offset);
void plog_note_batch(struct plog *p, struct segment *seg, uint64_t pos,
                     const struct batch_header *h);
struct segment *plog_roll(struct plog *p);
struct segment *plog_first_open(const struct plog *p);
void seg_set_stable(struct segment *seg, uint64_t pos);
void seg_set_destaged(struct segment *seg, uint64_t pos);
void plog_want_destage(struct plog *p);
int plog_refuses(const struct plog *p);
void plog_notify(struct plog *p);
void store_run_notifications(struct log_store *s);
void plog_fence(struct plog *p, int rc, const char *what);
int plog_absence(const struct plog *p);

/* due.c */
void plog_mark_dirty(struct plog *p);
bool plog_is_awaited(const struct plog *p);
void plog_mark_settled(struct plog *p);
void plog_mark_start(struct plog *p);
void plog_unmark(struct plog *p);
void due_all(struct log_store *s);
void due_pump(struct log_store *s);
uint64_t due_deadline_ns(const struct log_store *s);

/* journal.c */
int journal_open(struct log_store *s, char *reason, size_t reason_size);
void journal_close(struct log_store *s);
void journal_pump(struct log_store *s);
bool journal_idle(const struct log_store *s);
uint64_t journal_used_bytes(const struct log_store *s);
int journal_raise_incarnation(struct log_store *s);
int journal_note_checkpoint(struct log_store *s);
void journal_super_fill(const struct journal *j, uint8_t block[BLOCK_BYTES]);
void group_part_done(struct group *g, int rc);
uint64_t journal_deadline_ns(const struct log_store *s);
void store_fail(struct log_store *s, int rc, const char *what);

/* journal_fill.c */
void journal_fill_begin(struct journal *j);
void journal_fill_pump(struct log_store *s);
uint64_t journal_fill_deadline_ns(const struct log_store *s);
bool journal_fill_busy(const struct log_store *s);
void journal_fill_written(struct journal *j, uint64_t virtual_pos, uint64_t len_bytes);
bool journal_fill_in_the_way(const struct journal *j, uint64_t virtual_pos);

/* files.c */
#define NAMES_JOB_STEPS 8u
struct names_job { /* one list of name operations of a partition in flight */
    struct env_op op;
    struct plog *plog;
    struct segment *seg;
    struct env_name_step steps[NAMES_JOB_STEPS];
    unsigned steps_n;
    bool shares_sync; /* its steps need not sync ... */
    bool owes_sync;   /* ... and some did not: it ends behind a sync_wait() */
    struct sync_waiter sync;
    env_done_fn on_done;
    uint8_t *data[2]; /* freed with the job */
    char paths[4][PATH_MAX];
};
struct names_job *names_job_begin(struct plog *p, struct segment *seg);
void names_job_submit(struct names_job *job, env_done_fn on_done);
void names_job_end(struct names_job *job);
struct env_name_step *names_job_step(struct names_job *job, enum env_step_kind kind,
                                     const char *path);
void plog_space_found(struct plog *p);
bool seg_file_ready(struct segment *seg);
void seg_file_want(struct segment *seg);
void seg_seal(struct segment *seg);
void seg_file_hold(struct segment *seg);
void seg_file_release(struct segment *seg);

/* destage.c */
void destage_pump(struct log_store *s);
uint64_t seg_io_prepare(struct seg_io *io, struct segment *seg, uint64_t from, uint64_t to);
void seg_io_written(struct seg_io *io);
void seg_io_failed(const struct seg_io *io, int rc);
void store_want_cycle(struct log_store *s);
void plog_leave_cycle(struct plog *p);
bool plog_write_ahead(struct plog *p);
void plog_leave_ahead(struct plog *p);
bool destage_has_room(const struct log_store *s);
bool store_memory_is_short(const struct log_store *s);

/* run.c */
bool run_may_start(struct segment *seg);
uint64_t run_from(const struct segment *seg);
void run_start(struct segment *seg, struct group *g, uint64_t to_pos);
void run_retired(struct segment *seg);
void runs_fini(struct log_store *s);

/* checkpoint.c writes, checkpoint_load.c reads */
void checkpoint_pump(struct log_store *s);
uint8_t *parcel_encode(struct plog *p, uint64_t *ret_bytes);
uint64_t checkpoint_entry(const struct plog *p, uint8_t *buf);
int checkpoint_write_full(struct log_store *s);
struct journal_start { /* where replay begins, and what the chain must be at durable_pos */
    uint64_t tail_pos, durable_pos, durable_next_seq;
    uint64_t incarnation; /* of the checkpoint: no older write counts behind durable_pos */
    uint32_t durable_crc;
    bool clean; /* nothing was opened since a clean stop */
};
int checkpoint_load(struct log_store *s, struct journal_start *ret, char *reason,
                    size_t reason_size);
int checkpoint_take_over(struct log_store *s, bool *ret_any, char *reason, size_t reason_size);
int checkpoint_load_entries(struct log_store *s, const uint8_t *bytes, size_t len_bytes,
                            uint32_t plogs_n, uint64_t durable_next_seq);
int checkpoint_note_entries(struct log_store *s, const uint8_t *bytes, size_t len_bytes,
                            uint32_t plogs_n);
void checkpoint_remove_taken(struct log_store *s);
int checkpoint_finish_taken(struct log_store *s);
void checkpoint_fini(struct log_store *s);
int parcel_load(struct log_store *s, struct plog *p, const uint8_t *bytes, uint64_t len_bytes);
int parcel_load_file(struct log_store *s, struct plog *p, const char *path,
                     uint64_t durable_next_seq);

/* recovery.c */
int recovery_reserve(struct segment *seg, uint64_t len_bytes);
int recovery_replay(struct log_store *s, char *reason, size_t reason_size);

/* around.c */
struct around {
    struct env_op op;
    struct env *env;
    struct env_file *file;
    uint8_t *buf;
    uint64_t len_bytes, offset_bytes, at;
    uint64_t unreadable_n; /* blocks */
    int first_error;
    int rc; /* out: bytes (less at the end of the file), or -errno */
    void (*on_done)(struct around *a);
};
void around_read(struct env *env, struct around *a, struct env_file *file, uint8_t *buf,
                 uint64_t len_bytes, uint64_t offset_bytes, void (*on_done)(struct around *a));
int around_read_wait(struct env *env, struct env_file *file, uint8_t *buf, uint64_t len_bytes,
                     uint64_t offset_bytes);

/* damage.c */
void plog_name_loss(const struct plog *p, int64_t from_offset, int64_t to_offset,
                    const char *where);
const struct damage *seg_damage_at(const struct segment *seg, uint64_t pos);
int seg_damage_add(struct segment *seg, const struct damage *d, const char *where);
void seg_damage_replace(struct segment *seg, struct damage *found, uint32_t found_n,
                        uint64_t walked_pos);

/* cursor.c */
struct seg_cursor { /* a batch boundary */
    struct segment *seg;
    uint64_t pos;
    int64_t offset;      /* of the batch there; VERIFY_ANY_OFFSET: the index says only ... */
    int64_t last_offset; /* ... where it ends */
};
struct verify_place seg_place(const struct segment *seg);
bool seg_cursor_start(struct seg_cursor *c, struct segment *seg, int64_t offset);
bool seg_cursor_skip(struct seg_cursor *c);
int seg_cursor_peek(const struct seg_cursor *c, const uint8_t *data, uint64_t avail_bytes,
                    struct batch_header *ret);
int seg_cursor_verify(const struct seg_cursor *c, const uint8_t *data, uint64_t avail_bytes,
                      struct batch_header *ret);
void seg_cursor_pass(struct seg_cursor *c, const struct batch_header *h);

/* load.c: file and index of a segment, made ready on demand */
struct load_waiter {
    struct list_node link;
    void (*run)(struct load_waiter *w, int rc);
};
bool seg_loaded(const struct segment *seg);
void seg_load_wait(struct segment *seg, struct load_waiter *w);
void load_pump(struct log_store *s);

/* fetch.c: bytes of a segment, from disk and memory, into one buffer */
struct seg_fetch {
    struct env_op op;
    struct around around;
    struct segment *seg;
    struct buddy *memory;       /* config.read_memory */
    uint8_t *buf;               /* of memory */
    uint64_t from_pos, end_pos; /* what buf holds, once done */
    uint64_t disk_end_pos;
    int rc;
    void (*on_done)(struct seg_fetch *f);
    struct list_node link; /* store.disk_waiters */
    uint64_t want_pos, want_bytes;
    uint64_t give_up_ns; /* -EAGAIN when there is no memory until then; 0: wait for ever */
};
void seg_read_failed(struct segment *seg, uint64_t pos, const char *why);
uint64_t seg_visible_pos(const struct segment *seg);
void seg_fetch_start(struct seg_fetch *f, struct segment *seg, uint64_t pos, uint64_t want_bytes,
                     void (*on_done)(struct seg_fetch *f));
void seg_fetch_free(struct seg_fetch *f);
void fetch_pump(struct log_store *s);
void fetch_fail_all(struct log_store *s);

/* window.c: what was read of segments, shared by readers */
struct read_window {
    struct list_node link; /* store.windows, the last used one first; not linked: forgotten */
    struct log_store *store;
    struct seg_fetch fetch;
    uint64_t from_pos, end_pos;  /* from a batch boundary on; while busy, what it is to be */
    uint64_t good_from, good_to; /* batches in between are verified */
    uint64_t used_ns;
    struct list_node waiters;
    unsigned refs;
    bool busy;
    bool wanted; /* by a reader that is to go on in it; of one that nobody references */
};
struct window_waiter {
    struct list_node link;
    void (*run)(struct window_waiter *w, int rc); /* -EAGAIN: no memory for a while */
};
/* The one that holds pos, perhaps busy; NULL: none. */
struct read_window *window_find(const struct segment *seg, uint64_t pos);
struct window_want {
    uint64_t bytes;       /* about so many are used at once: no more than these, in whole batches */
    uint64_t least_bytes; /* needed in one piece, where no index knows that they are a batch */
    bool sequential;      /* and more after them */
};
/* One that holds the batch at pos. Busy. NULL: no memory. */
struct read_window *window_open(struct segment *seg, uint64_t pos, const struct window_want *want);
/* The same in advance, if it is worth it; pos may be the end of the segment. */
void window_ahead(struct segment *seg, uint64_t pos);
void window_wait(struct read_window *w, struct window_waiter *waiter); /* while it is busy */
const uint8_t *window_data(const struct read_window *w, uint64_t pos);
/* The batch at the cursor: as seg_cursor_verify. */
int window_verify(struct read_window *w, const struct seg_cursor *c, struct batch_header *ret);
void window_ref(struct read_window *w);
void window_unref(struct read_window *w);
void window_forget(struct read_window *w); /* nobody finds it any more */
void windows_forget(struct segment *seg);
void windows_fini(struct log_store *s);
uint64_t windows_free_bytes(struct log_store *s);
void *read_memory_alloc(struct log_store *s, uint64_t bytes); /* NULL: all is in use */

/* source.c: sealed segments, sent as they are */
void seg_note_good(struct segment *seg, uint64_t from, uint64_t to);
void boundary_note(const struct segment *seg, uint64_t pos, int64_t offset);
bool boundary_find(const struct segment *seg, int64_t offset, uint64_t *ret_pos);
void seg_source_drop(struct segment *seg);
/* Answers with a stretch of the file, if one may be sent. */
bool source_take(struct segment *seg, struct plog_read *r);
void source_release(struct plog_read *r);

/* dirs.c */
bool dir_is_offline(const struct log_store *s, unsigned dir);
bool dir_failed(struct log_store *s, unsigned dir, int rc, const char *what);
int store_dirs_open(struct log_store *s);
void dirs_pump(struct log_store *s);
bool dirs_changed(const struct log_store *s);
void plog_take_offline(struct plog *p);

/* park.c: what waits in side files for a data directory that is not there */
int parks_open(struct log_store *s);
void parks_fini(struct log_store *s);
int park_entry(struct log_store *s, struct plog *p, const uint8_t *bytes, size_t len_bytes);
int parks_take(struct log_store *s, unsigned journal_id, uint64_t identity, uint64_t generation,
               char *reason, size_t reason_size);
int parks_write(struct log_store *s, char *reason, size_t reason_size);
bool parks_changed(const struct log_store *s);
uint64_t parks_losses(const struct log_store *s);
void parks_remove_taken(struct log_store *s, unsigned journal_id);
/* The side file of a journal for a data directory; buf has PATH_MAX bytes, and is returned. */
char *park_path(const struct log_store *s, unsigned journal_id, unsigned dir, char *buf);

/* park_run.c: the same when one fails while the broker runs */
int park_run_open(struct log_store *s);
void park_run_fini(struct log_store *s);
bool park_run_busy(const struct log_store *s);
void park_run_want(struct log_store *s, uint64_t dirs);
void park_run_pump(struct log_store *s);
uint64_t park_run_deadline_ns(const struct log_store *s);
void plog_release_parked(struct plog *p);

/* pool.c */
int pools_open(struct log_store *s);
void pools_fini(struct log_store *s);
const char *pool_path(const struct log_store *s, unsigned dir);
uint64_t pool_take(struct log_store *s, unsigned dir, uint64_t least_bytes, uint64_t most_bytes,
                   char *buf, size_t size);
void pool_note_space(struct log_store *s, unsigned dir, uint64_t free_bytes);
uint64_t pool_reserve_max(const struct log_store *s, unsigned dir);
bool pool_offer(struct log_store *s, unsigned dir, uint64_t bytes, char *buf, size_t size);
void pool_added(struct log_store *s, unsigned dir, const char *path);

/* sync.c */
int syncs_open(struct log_store *s);
void syncs_fini(struct log_store *s);
bool sync_is_shared(const struct log_store *s, unsigned at_work_n);
void sync_wait(struct log_store *s, unsigned dir, struct sync_waiter *w, struct env_file *file,
               sync_fn run);

/* stray.c */
void stray_directories_settle(struct log_store *s, const struct meta_image *meta);

/* scrub.c */
int scrub_open(struct log_store *s);
void scrub_pump(struct log_store *s);
uint64_t scrub_deadline_ns(const struct log_store *s);
bool scrub_busy(const struct log_store *s);
void scrub_stop(struct log_store *s);
void scrub_forget(struct log_store *s, const struct segment *seg);
void scrub_fini(struct log_store *s);

/* remove.c */
void remove_pump(struct plog *p);

/* move.c */
void move_pump(struct log_store *s);
uint64_t move_deadline_ns(const struct log_store *s);
bool move_idle(const struct log_store *s);
void moves_stop(struct log_store *s);
void moves_captured(struct log_store *s);
void moves_checkpointed(struct log_store *s, int rc);
void departure_orphan(struct plog *p);
char *parcel_path(const struct log_store *s, uint64_t number);
int parcels_open(struct log_store *s, uint64_t durable_next_seq, bool *ret_any, char *reason,
                 size_t reason_size);
void parcels_settle(struct log_store *s, const struct meta_image *meta);

/* start.c */
void plog_want_start(struct plog *p, int64_t offset);
bool plog_start_is_due(const struct plog *p);
bool plog_has_note(const struct plog *p);
void plog_start_durable(struct plog *p, int64_t offset);
void plog_start_replayed(struct plog *p, int64_t offset);
void start_waiters_run(struct plog *p, int failure);

/* trim.c */
void plog_trim(struct plog *p);
void trim_pump(struct log_store *s);
bool trim_idle(const struct log_store *s);
void trim_replayed(struct plog *p);

/* retention.c */
int retention_open(struct log_store *s);
void retention_pump(struct log_store *s);
uint64_t retention_deadline_ns(const struct log_store *s);
bool retention_busy(const struct log_store *s);
void retention_stop(struct log_store *s);
void retention_fini(struct log_store *s);
void plog_expire(struct plog *p);

/* compact.c, compact_swap.c */
int compact_open(struct log_store *s);
void compact_pump(struct log_store *s);
uint64_t compact_deadline_ns(const struct log_store *s);
bool compact_busy(const struct log_store *s);
void compact_stop(struct log_store *s);
void compact_abandon(struct log_store *s);
void compact_fini(struct log_store *s);
void compact_recorded(struct plog *p);
int compact_replayed(struct plog *p, const struct journal_record *rec);
int compact_finish_swaps(struct plog *p);

#endif
