/* inspect.h: what is in the files of a log, for tools and tests: no broker runs, nothing is
 * written, nothing is believed.
 * Happy path: a struct inspect_bytes over a file; inspect_walk_init() and inspect_walk_next() until
 *   INSPECT_END; each batch also to inspect_index_batch(), which holds the index files against it.
 * Failure: damage is no error but a piece like any other, with the offsets that it takes.
 * Ownership: what is handed out is lent until the next call with the same bytes.
 * Relies on: core/batch for what a batch is. Pure: I/O is in whoever implements inspect_bytes.
 * Threads: any, one at a time. */
#ifndef CORE_LOG_INSPECT_H
#define CORE_LOG_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/batch/batch.h"
#include "core/log/checkpoint_format.h"
#include "core/log/journal_format.h"

struct epoch_entry; /* core/log/verify.h */
struct plog;

/* ---- bytes, wherever they come from ---- */

struct inspect_bytes {
    /* len_bytes of them from pos on, lent until the next call; NULL: they are not all there. Bytes
     * that a device cannot read are INSPECT_UNREADABLE. */
    const uint8_t *(*at)(struct inspect_bytes *, uint64_t pos, uint64_t len_bytes);
    uint64_t size_bytes;
};
#define INSPECT_UNREADABLE 0xa5

struct inspect_memory {
    struct inspect_bytes bytes;
    const uint8_t *data;
};
void inspect_memory_init(struct inspect_memory *m, const uint8_t *data, uint64_t len_bytes);

/* ---- the batches of a segment ---- */

enum inspect_kind {
    INSPECT_BATCH,  /* whole, its CRC right, and the one that follows */
    INSPECT_DAMAGE, /* len_bytes that hold nothing to be trusted, instead of these offsets */
    INSPECT_END,
};
struct inspect_piece {
    enum inspect_kind kind;
    uint64_t pos, len_bytes;
    int64_t first_offset, end_offset; /* [first, end) */
    struct batch_header h;            /* of a batch */
    const uint8_t *data;              /* of a batch, lent; NULL: headers only */
    const char *what;                 /* damage, end: in words; static */
};

/* Where a segment ends is known when it is sealed or when journal and checkpoint say so; else the
 * file is as long as its size class and its batches end where none follows. */
struct inspect_walk {
    struct inspect_bytes *bytes;
    bool end_known;
    bool headers_only; /* do not look whether the batches are what they were */
    uint64_t end_pos;
    int64_t end_offset;   /* offsets below it can be in the segment */
    const uint8_t *index; /* contents of the .index file: boundaries behind damage; or NULL */
    size_t index_len;
    const struct epoch_entry *epochs; /* the partition's history; epochs_n 0: not known */
    uint32_t epochs_n;
    int64_t base_offset;
    uint64_t pos; /* private from here */
    int64_t next_offset;
};
/* end_offset INT64_MAX: not known. Set index and index_len afterwards, if there is one. */
void inspect_walk_init(struct inspect_walk *w, struct inspect_bytes *bytes, int64_t base_offset,
                       int64_t end_offset);
/* The end is known to be at end_pos; without this call the walk ends at what looks like it. */
void inspect_walk_end(struct inspect_walk *w, uint64_t end_pos);
void inspect_walk_next(struct inspect_walk *w, struct inspect_piece *ret);

/* ---- index files ---- */

#define INSPECT_OFFSET_ENTRY_BYTES 8u
#define INSPECT_TIME_ENTRY_BYTES 12u

struct inspect_offset_entry {
    int64_t offset; /* the last one of the batch at pos */
    uint32_t pos;
};
struct inspect_time_entry {
    int64_t timestamp; /* the largest so far, in the batch that ends with offset */
    int64_t offset;
};
struct inspect_offset_entry inspect_offset_entry(const uint8_t *entry, int64_t base_offset);
struct inspect_time_entry inspect_time_entry(const uint8_t *entry, int64_t base_offset);

/* Holds the entries of both files against the batches of the segment, given in order. */
struct inspect_index {
    const uint8_t *offsets, *times; /* contents; NULL: no such file */
    size_t offsets_len, times_len;
    int64_t base_offset;
    const char *offsets_what, *times_what; /* what is wrong with it first; NULL: nothing */
    uint32_t offsets_bad, times_bad;       /* which entry that is */
    uint32_t offsets_i, times_i;           /* private from here: next entry to meet */
    int64_t max_timestamp, max_timestamp_offset;
};
void inspect_index_init(struct inspect_index *ix, int64_t base_offset, const uint8_t *offsets,
                        size_t offsets_len, const uint8_t *times, size_t times_len);
void inspect_index_batch(struct inspect_index *ix, uint64_t pos, const struct batch_header *h);
/* The same for a piece that is damage: what leads into it cannot be held against anything. */
void inspect_index_damage(struct inspect_index *ix, const struct inspect_piece *damage);
void inspect_index_end(struct inspect_index *ix); /* after the last piece */

/* The two files as the broker writes them for these batches: malloc, the caller's. Damage is left
 * out. 0 or -ENOMEM. */
int inspect_index_build(struct inspect_walk *w, int64_t interval_bytes, uint8_t **ret_offsets,
                        size_t *ret_offsets_len, uint8_t **ret_times, size_t *ret_times_len);

/* ---- a journal ---- */

struct inspect_write {
    struct journal_header h;
    uint64_t place;         /* of its first byte in the file */
    bool first_ok, last_ok; /* the two copies of its header */
    bool chained;           /* its predecessor in the list is that in the journal */
};
struct inspect_journal {
    struct inspect_bytes *bytes;
    struct journal_super super; /* the newer one that is whole */
    bool super_ok[2];
    struct inspect_write *writes; /* all that the ring holds, by sequence; malloc */
    unsigned writes_n;
};
/* 0; -EBADMSG: both superblocks are damaged, or the file is shorter than they say (*ret is set, and
 * has no writes); -ENOMEM. */
int inspect_journal_open(struct inspect_bytes *bytes, struct inspect_journal *ret);
void inspect_journal_close(struct inspect_journal *j);
/* The whole write, for journal_records_begin(); lent. NULL: out of memory. */
const uint8_t *inspect_write_bytes(const struct inspect_journal *j, const struct inspect_write *w);

/* ---- a checkpoint ---- */

enum inspect_entry_kind {
    INSPECT_ENTRY_PLOG,
    INSPECT_ENTRY_EPOCH,
    INSPECT_ENTRY_PRODUCER,
    INSPECT_ENTRY_SEGMENT,
    INSPECT_ENTRY_END,
    INSPECT_ENTRY_DAMAGED, /* under a right checksum: what comes cannot be read */
};
struct inspect_checkpoint {
    bool copy_ok[2];
    struct checkpoint_header h; /* of the newer copy that is whole */
    const uint8_t *body, *end;  /* private from here: what of it is still to come */
    uint64_t left[INSPECT_ENTRY_END];
};
struct inspect_entry {
    enum inspect_entry_kind kind;
    struct plog_entry plog;
    int64_t epoch, start_offset;
    struct producer_entry producer;
    struct segment_entry segment;
    const uint8_t *image; /* of the segment, lent */
};
/* 0; -EBADMSG: neither copy is whole; -ENOMEM. The bytes stay lent until the last entry. */
int inspect_checkpoint_open(struct inspect_bytes *bytes, struct inspect_checkpoint *ret);
void inspect_checkpoint_next(struct inspect_checkpoint *c, struct inspect_entry *ret);

/* ---- what a start of the broker would find ----
 * log_store_open() on an environment that changes nothing (io/env_dry.h) recovers as the broker
 * does; these say what it has made of a partition. Nothing has been pumped since. */

struct inspect_log {
    int64_t log_start, end_offset;
    int64_t doubtful_end; /* records up to here may have been acknowledged, and do not count */
    int fenced;           /* -errno: it takes no appends */
    int32_t leader_epoch; /* that metadata gives it */
    unsigned producers_n;
    const struct epoch_entry *epochs; /* lent by the store */
    uint32_t epochs_n;
};
void inspect_log(const struct plog *p, struct inspect_log *ret);

struct inspect_segment {
    int64_t base_offset, end_offset;
    uint64_t end_pos;     /* of the last batch; sealed, and not opened: the file's size */
    uint64_t in_file_pos; /* the bytes behind are in journal or checkpoint, not in the file */
    uint64_t file_bytes;  /* as recovery leaves the file */
    bool sealed, on_disk;
};
/* All of them in order: malloc. 0 or -ENOMEM. */
int inspect_segments(const struct plog *p, struct inspect_segment **ret, unsigned *ret_n);

/* Its bytes, from wherever they are. -errno: its file cannot be opened, or no memory. */
int inspect_segment_open(const struct plog *p, const struct inspect_segment *seg,
                         uint64_t window_bytes, struct inspect_bytes **ret);
void inspect_segment_close(struct inspect_bytes *bytes); /* before the store; NULL is fine */

#endif
