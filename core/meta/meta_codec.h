/* meta_codec.h: metadata records, frames and snapshots as bytes. Pure: no I/O, no state.
 * All integers little endian. Private to core/meta.
 *
 * Record:  u16 kind, u16 zero, then the fields that the kind has (table in meta_codec.c), in this
 *   order: id 16 bytes | name: u16 length, bytes | value u64 | partitions: u32 count, each number
 *   u64, shard u16, dir u16, leader epoch i32 | configs: u32 count, each u16 length, name, u32
 *   length, value.
 * Frame:   u32 payload length | u32 CRC-32C of all the rest of the frame | u32 that of the frame
 *   before it (the first: of the file header) | u16 kind | u16 format version | u64 sequence in the
 *   file, from 1 | payload | zeros up to a multiple of 8.
 * Snapshot: a frame SNAPSHOT_BEGIN (what is neither dirs, configs nor topics), a record frame for
 *   each dir (META_DIR_ADD), layer of the broker's configs (META_BROKER_CONFIG) and topic
 *   (META_TOPIC_CREATE), a frame SNAPSHOT_END.
 * File header: one block; see meta_header_encode. */
#ifndef CORE_META_META_CODEC_H
#define CORE_META_META_CODEC_H

#include "core/base/arena.h"
#include "core/meta/meta.h"

#define META_FORMAT 1u
#define META_FRAME_BYTES 24u /* before the payload */
#define META_SNAPSHOT_BEGIN_BYTES 64u
#define META_CONFIGS_MAX 1000u
#define META_CONFIG_VALUE_MAX (1u << 20)

enum meta_frame_kind { META_FRAME_RECORD = 1, META_FRAME_SNAPSHOT_BEGIN, META_FRAME_SNAPSHOT_END };

struct meta_frame {
    enum meta_frame_kind kind;
    uint32_t payload_len, crc;
    const uint8_t *payload; /* inside the buffer */
    size_t len_bytes;       /* with padding */
};

struct meta_header {
    uint64_t generation, size_bytes, id; /* id: random, ties the two copies together */
    uint32_t crc;                        /* out */
};

struct meta_snapshot_begin {
    uint64_t version, next_number, next_producer_id;
    struct meta_uuid cluster_id;
    uint32_t dirs_n, topics_n;
    uint16_t layers_n; /* of the broker's configs; 0 in logs that are older than they */
    uint16_t shards;
    bool clean;
};

size_t meta_record_size(const struct meta_record *);
void meta_record_encode(const struct meta_record *, uint8_t *bytes);
/* 0; -EBADMSG not a record; -ENOMEM. Strings and arrays are copied into the arena. */
int meta_record_decode(const uint8_t *bytes, size_t len, struct arena *, struct meta_record *ret);

size_t meta_frame_size(size_t payload_len);
/* The payload is in place already, META_FRAME_BYTES behind frame. Returns the frame's checksum. */
uint32_t meta_frame_seal(uint8_t *frame, enum meta_frame_kind, uint32_t payload_len,
                         uint32_t crc_before, uint64_t sequence);
/* 0, or -EBADMSG: no frame with this sequence and predecessor is here. */
int meta_frame_open(const uint8_t *bytes, size_t avail, uint32_t crc_before, uint64_t sequence,
                    struct meta_frame *ret);

/* One block; returns its checksum. */
uint32_t meta_header_encode(const struct meta_header *, uint8_t block[static 4096]);
int meta_header_decode(const uint8_t block[static 4096], struct meta_header *ret);

int meta_snapshot_begin_decode(const uint8_t *bytes, size_t len, struct meta_snapshot_begin *ret);
/* Bytes of all frames of a snapshot; meta_snapshot_encode fills them in and counts up *sequence
 * and *crc, which are those of the frame before. */
uint64_t meta_snapshot_size(const struct meta_image *);
void meta_snapshot_encode(const struct meta_image *, uint8_t *bytes, uint64_t *sequence,
                          uint32_t *crc);

/* Change an image that nobody else holds; after an error it can only be destroyed.
 * RESTORE: from a snapshot: partition numbers come in any order, version and clean stay.
 * REPLAY: as NEXT, but many of them: as after RESTORE, topics are in no order until
 * meta_image_sort. */
enum meta_change_mode { META_CHANGE_NEXT, META_CHANGE_RESTORE, META_CHANGE_REPLAY };
void meta_image_sort(struct meta_image *);
int meta_image_change(struct meta_image *, const struct meta_record *, enum meta_change_mode);

#endif
