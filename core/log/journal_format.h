/* journal_format.h: the bytes of a journal: superblocks, writes, the records in them. Encoded by
 * journal.c, decoded by recovery and by the offline tools.
 *
 * A write is whole blocks:
 *     header | record, body | record, body | ... | (gap) | the records again | zeros | the header
 *   The second header ends the write, and the second records begin in another sector than any of
 * the first (in another block when there is a run), so that one damaged place never takes both.
 *   Header and records have checksums of their own. A record's continues that of its header, which
 *   names journal, incarnation, sequence and place: bytes of an older write never count. data_crc
 *   is of the body; a batch has its own.
 * Happy path: journal_write_seal() closes a write whose records lie in place; journal_write_open()
 *   finds its header, journal_record_next() hands out the records, journal_record_intact() and
 *   journal_write_intact() say whether the bytes are those that were written.
 * Failure: -ENOENT no write of this journal begins here, -EAGAIN it is longer than these bytes.
 *   A record of which both copies are damaged is passed over and counted.
 * Relies on: nothing; no I/O, no allocation. Little endian. Threads: any. */
#ifndef CORE_LOG_JOURNAL_FORMAT_H
#define CORE_LOG_JOURNAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"

#define JOURNAL_MAGIC 0x324c4e4a4e455021u /* "!PENJNL2" */
#define JOURNAL_FILLED 2u
#define JOURNAL_SUPER_MAGIC 0x3250534a4e455021u
#define JOURNAL_RING_START (2u * BLOCK_BYTES)
#define JOURNAL_SECTOR_BYTES 512u
#define OFFSET_MAX (INT64_MAX / 2) /* what is read from disk: sums of offsets never overflow */
#ifndef JOURNAL_WRITE_BYTES_MAX    /* the fuzz targets make do with less */
#define JOURNAL_WRITE_BYTES_MAX                                                                    \
    (1280u * 1024u) /* one partition's share is below direct_min (at most 1 MiB), the rest is      \
                     * slack */
#endif

struct journal_super { /* blocks 0 and 1, the same; written one after the other */
    uint64_t magic, journal_id, incarnation, ring_bytes;
    uint64_t checkpointed; /* 1: without a checkpoint this journal cannot be read */
    uint32_t crc;
    uint32_t filled; /* 2: every block of the ring has been written and flushed, none is only
                      * reserved. 1 was: perhaps all, perhaps not flushed */
};
struct journal_header { /* first bytes of every journal write, and its last */
    uint64_t magic, journal_id, incarnation, seq, virtual_pos, durable_seq;
    uint32_t len_bytes; /* whole write, whole blocks */
    uint32_t table_at;  /* in the write: the records again */
    uint32_t records_n; /* 0: it only says what is durable */
    uint32_t prev_crc;  /* of the write before: the chain */
    uint32_t crc, pad;  /* of this struct, this field as 0 */
};
enum journal_record_kind {
    RECORD_BATCHES = 1, /* body: whole batches */
    RECORD_RUN,         /* body: headers of the batches, then the image of the last part-filled
                         * block; the bytes themselves are in the segment */
    RECORD_START,       /* no body: the log begins at base_offset now, and what was below had been
                         * durable */
    RECORD_COMPACTED,   /* no body: the segments of [base_offset, end_offset) are one of data_bytes
                         * now, whose file is of generation headers_n */
};
struct journal_record {
    uint32_t kind, len_bytes; /* with this struct and padding to 8 */
    uint64_t number;          /* of the partition */
    int64_t segment_base;
    uint64_t pos; /* in the segment, of the first new byte */
    int64_t base_offset, end_offset;
    uint64_t data_bytes; /* new bytes in the log */
    int32_t leader_epoch;
    uint32_t headers_n; /* RUN */
    uint32_t at_bytes;  /* of this struct, in the write */
    uint32_t data_crc;  /* of the body, padding too */
    uint32_t crc, pad;  /* of this struct, this field as 0, continuing the header's */
};
_Static_assert(sizeof(struct journal_super) == 48, "on disk");
_Static_assert(sizeof(struct journal_header) == 72, "on disk");
_Static_assert(sizeof(struct journal_record) == 80, "on disk");

void journal_super_encode(struct journal_super *super, uint8_t block[BLOCK_BYTES]);
bool journal_super_decode(const uint8_t block[BLOCK_BYTES], struct journal_super *ret);

/* Of the struct with its crc as 0; a record's continues header->crc. */
uint32_t journal_header_crc(struct journal_header header);
uint32_t journal_record_crc(const struct journal_header *header, struct journal_record rec);
/* What the end of a write takes behind records_n records that end at used_bytes. */
uint32_t journal_write_bytes(uint32_t used_bytes, uint32_t records_n, bool has_run,
                             uint32_t *ret_table_at);
/* Closes the write at buf: records (checksums not set) and bodies lie behind the header's place, up
 * to used_bytes. Sets the header's magic, lengths and checksum and returns its length. */
uint32_t journal_write_seal(uint8_t *buf, uint32_t used_bytes, struct journal_header *header);

struct journal_expect { /* of the write that should begin somewhere */
    uint64_t journal_id, virtual_pos;
    uint64_t incarnation_min, incarnation_max;
    bool chained; /* the two below are known */
    uint64_t seq;
    uint32_t prev_crc;
};
/* The header of the write at bytes, from either copy. -EAGAIN only for a header that says that the
 * write is longer than avail_bytes; otherwise all of it lies at bytes. */
int journal_write_open(const uint8_t *bytes, size_t avail_bytes,
                       const struct journal_expect *expect, struct journal_header *ret);

struct journal_record_iter {
    const uint8_t *write; /* borrowed */
    const struct journal_header *header;
    uint32_t index, next_at; /* next_at 0: the record before is not known */
    uint32_t damaged_n;      /* records passed over */
};
void journal_records_begin(struct journal_record_iter *it, const uint8_t *write,
                           const struct journal_header *header);
/* Sane and inside the write: lengths need no further check. False: that was all. */
bool journal_record_next(struct journal_record_iter *it, struct journal_record *ret);

static inline const uint8_t *journal_record_body(const uint8_t *write,
                                                 const struct journal_record *rec)
{
    return write + rec->at_bytes + sizeof(*rec);
}

/* The body is what was written. */
bool journal_record_intact(const uint8_t *write, const struct journal_record *rec);
/* ... and so is every record and body of the write. */
bool journal_write_intact(const uint8_t *write, const struct journal_header *header);

/* Where the write that follows one that ends at virtual_pos goes: a write never wraps, so near the
 * end of the ring it skips to the start. */
uint64_t journal_ring_place(uint64_t ring_bytes, uint64_t virtual_pos);

#endif
