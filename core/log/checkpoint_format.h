/* checkpoint_format.h: the bytes of a checkpoint. A file holds it twice, from byte 0 and from the
 * block at half its size: header, then for each partition a plog_entry, its epochs (pairs of
 * int64_t), producers and segments, each segment followed by its image. Little endian.
 * A parcel (move.c) is the same of one partition, whose number is its identity; a sealed segment of
 * 0 bytes there has the size of its file. */
#ifndef CORE_LOG_CHECKPOINT_FORMAT_H
#define CORE_LOG_CHECKPOINT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/bytes.h"

#define CHECKPOINT_MAGIC 0x31504b434e455021u
#define CHECKPOINT_VERSION 3u
#define CHECKPOINT_BYTES_MAX (64ull << 30)
#define PRODUCER_BATCHES 5u /* as Kafka: batches remembered per producer */

struct producer_batch {
    int32_t first_sequence, last_sequence;
    int64_t base_offset, last_offset, append_time_ms;
};
struct checkpoint_header {
    uint64_t magic;
    uint32_t version, crc; /* of header (this field 0) and body */
    uint64_t generation, identity, incarnation;
    uint64_t tail_pos, durable_pos, durable_next_seq;
    uint32_t durable_crc, plogs_n;
    uint64_t body_bytes;
    uint64_t closed; /* 1: of a clean stop; counts while the journal's incarnation is the same */
};
struct plog_entry {
    uint64_t number;
    int64_t log_start, stable_offset;
    int64_t clean_offset; /* below, it has been compacted */
    uint32_t epochs_n, producers_n, segments_n;
    uint8_t dir_ready, segment_class;
    uint8_t fenced; /* 1: its records in the journal before durable_pos do not count */
    uint8_t pad;
};
enum segment_entry_state { SEGMENT_ENTRY_OPEN, SEGMENT_ENTRY_SEALING, SEGMENT_ENTRY_SEALED };
#define SEGMENT_ENTRY_SENT 2
struct segment_entry {
    int64_t base_offset, end_offset;
    int64_t first_timestamp, last_timestamp; /* largest of its first batch; of all, once sealed */
    uint64_t stable_pos, destaged_pos, image_bytes;
    uint32_t index_crc[2]; /* of a sealed one's .index and .timeindex, if index_known */
    uint8_t on_disk;       /* with SEGMENT_ENTRY_SENT: its file is not to be used for another */
    uint8_t state, index_known;
    uint8_t swap;        /* 1: its file may still be named BASE.GENERATION.cleaned */
    uint32_t generation; /* how often it was compacted */
};
struct producer_entry {
    int64_t id, last_ms;
    int16_t epoch;
    uint8_t batches_n, pad[5];
    struct producer_batch batches[PRODUCER_BATCHES];
};
_Static_assert(sizeof(struct checkpoint_header) == 88, "on disk");
_Static_assert(sizeof(struct plog_entry) == 48, "on disk");
_Static_assert(sizeof(struct segment_entry) == 72, "on disk");
_Static_assert(sizeof(struct producer_entry) == 24 + PRODUCER_BATCHES * 32, "on disk");

/* Where the second copy begins in a file of that size. */
static inline uint64_t checkpoint_copy_at(uint64_t file_bytes)
{
    return block_floor(file_bytes / 2);
}

uint32_t checkpoint_crc(const uint8_t *copy, const struct checkpoint_header *h);
/* A whole copy lies at bytes: then its body does, too. */
bool checkpoint_copy_open(const uint8_t *bytes, uint64_t len_bytes, struct checkpoint_header *ret);

#endif
