/* batch.h: the codec of Kafka record batches, magic 2 (identical on the wire and on disk).
 * Happy path: batch_validate() checks what a producer sent for one partition, the log gives it an
 *   offset with batch_stamp() and stores the bytes as they came; batch_peek() and batch_crc_ok()
 *   read them back; batch_find_time() and the iterator look inside for lookups and tools.
 * Failure: negative errno. -EBADMSG is always "these bytes cannot be right", -ENOMEM can come from
 *   everything that has to decompress. Outputs are untouched on failure.
 * Relies on: nothing; no I/O, no clock, no globals. Uncompressed batches are checked without
 *   allocation; what decompresses or iterates owns heap memory until it returns or is closed.
 * Threads: any, as long as two do not use the same bytes (or iterator, or builder) at once. */
#ifndef CORE_BATCH_BATCH_H
#define CORE_BATCH_BATCH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BATCH_HEADER_BYTES 61u
#define BATCH_LOG_OVERHEAD 12u /* base_offset + length: the bytes that batch_length leaves out */
#define BATCH_MAGIC 2
#define BATCH_NO_TIMESTAMP (-1)

/* What one compressed batch may unpack to: max(floor, ratio * compressed bytes), never above what
 * an int32 record length can say. A stream that goes on beyond it is a bomb. */
#define BATCH_PLAIN_BYTES_FLOOR (64ull << 20)
#define BATCH_PLAIN_RATIO 64ull

enum batch_codec { BATCH_NONE, BATCH_GZIP, BATCH_SNAPPY, BATCH_LZ4, BATCH_ZSTD };
#define BATCH_CODEC_COUNT (BATCH_ZSTD + 1)

enum batch_attribute {
    BATCH_CODEC_MASK = 0x07,
    BATCH_LOG_APPEND_TIME = 0x08, /* every record's timestamp is max_timestamp */
    BATCH_TRANSACTIONAL = 0x10,
    BATCH_CONTROL = 0x20,
    BATCH_DELETE_HORIZON = 0x40, /* base_timestamp is a delete horizon, set by a cleaner */
};

/*  offset size field                    offset size field
 *  0      8    base_offset              27     8    base_timestamp
 *  8      4    bytes after this field   35     8    max_timestamp
 *  12     4    partition_leader_epoch   43     8    producer_id, -1 none
 *  16     1    magic                    51     2    producer_epoch, -1 none
 *  17     4    crc32c of 21..end        53     4    base_sequence, -1 none
 *  21     2    attributes               57     4    record count
 *  23     4    last_offset_delta        61     ..   records, one block when compressed */
struct batch_header { /* decoded, host order */
    int64_t base_offset;
    uint32_t len_bytes; /* the whole batch, BATCH_LOG_OVERHEAD included */
    int32_t leader_epoch;
    int8_t magic;
    uint32_t crc;
    uint16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp, max_timestamp;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_count;
};

/* May be above BATCH_ZSTD: ask before using it as an enum. */
static inline unsigned batch_codec_of(uint16_t attributes)
{
    return attributes & BATCH_CODEC_MASK;
}

static inline bool batch_is_log_append_time(uint16_t attributes)
{
    return attributes & BATCH_LOG_APPEND_TIME;
}

static inline bool batch_is_transactional(uint16_t attributes)
{
    return attributes & BATCH_TRANSACTIONAL;
}

static inline bool batch_is_control(uint16_t attributes)
{
    return attributes & BATCH_CONTROL;
}

static inline int64_t batch_last_offset(const struct batch_header *h)
{
    return (int64_t)((uint64_t)h->base_offset + (uint64_t)(int64_t)h->last_offset_delta);
}

/* Sequences wrap from 2147483647 to 0; -1 (none) has no successor. */
static inline int32_t batch_last_sequence(const struct batch_header *h)
{
    if (h->base_sequence < 0)
        return -1;
    return (int32_t)(((uint32_t)h->base_sequence + (uint32_t)h->last_offset_delta) & INT32_MAX);
}

/* Header of the batch at data. Needs the header only, checks no CRC, and len_bytes may be more
 * than avail_bytes. -EAGAIN: fewer than 61 bytes. -EBADMSG: not magic 2, or a length below 61 or
 * above what Kafka can hold (2^31-1 in all), so also the terminator behind a stopped log. */
int batch_peek(const uint8_t *data, size_t avail_bytes, struct batch_header *ret);

/* The whole batch (header->len_bytes) lies at batch. */
bool batch_crc_ok(const uint8_t *batch, const struct batch_header *header);

struct batch_limits {
    uint32_t max_bytes; /* of the batch as stored; message.max.bytes */
    int64_t now_ms;
    int64_t timestamp_before_max_ms, timestamp_after_max_ms; /* INT64_MAX: no limit */
    bool log_append_time; /* the topic stamps its own time, so clients' timestamps do not matter */
    bool compacted;       /* every record needs a key */
    bool deep;            /* look into compressed batches too, as Kafka does */
};

/* How far a batch has been looked at whose bytes are still coming in; zeroed before its first. */
struct batch_arrival {
    uint32_t crc;
    uint32_t summed_bytes, walked_bytes; /* the batch's, from its start; 0: not begun */
    int32_t walked_records;              /* well formed, with the offsets they must have */
    int64_t delta_min, delta_max;        /* of their timestamps */
    bool null_key;
    bool stuck; /* the next record is not one, or the batch is none that can be walked */
};

/* The first have_bytes of the batch at data are there, fewer than INT32_MAX: checks what is new of
 * them, while it is in the processor's cache. Nothing has to be right yet. */
void batch_arrive(struct batch_arrival *a, const uint8_t *data, size_t have_bytes);

struct batch_error {
    int32_t record_index; /* -1: the batch as a whole */
    const char *message;  /* static */
};
extern const char batch_error_no_key[]; /* the message of a record that must have one */

/* Check what a producer sent for one partition: [data, data + len_bytes) is exactly one batch.
 * arrival: what has been seen of the same bytes while they came in; NULL: nothing.
 * 0: *ret_header describes the bytes. -EBADMSG: corrupt in transit (Kafka error 2): too short, or
 * length or CRC wrong. -EMSGSIZE: above max_bytes, or unpacks beyond the limit above (10).
 * -EINVAL: invalid (87): no batch or several, magic, counts, a client's control batch, producer id
 * without epoch or sequence, a malformed record or compressed stream under a right CRC, a missing
 * key on a compacted topic. -ETIME: a timestamp out of range, or LogAppendTime claimed by the
 * client (32). -ENOTSUP: unknown codec (76). -ENOMEM: could not look inside, try again.
 * *ret_error is written on these failures only.
 *
 * The records of an uncompressed batch are always walked. Those of a compressed one are when
 * limits->deep or limits->compacted, or when the header contradicts itself, in bounded memory:
 * values are skipped as they stream by. Otherwise its header is believed.
 * A walked CreateTime batch whose max_timestamp is not the maximum of its records is corrected in
 * place, CRC included, as Kafka does. With limits->log_append_time the caller is to follow with
 * batch_stamp_append_time(), so the client's max_timestamp is neither checked nor corrected. */
int batch_validate(uint8_t *data, size_t len_bytes, const struct batch_limits *limits,
                   const struct batch_arrival *arrival, struct batch_header *ret_header,
                   struct batch_error *ret_error);

/* What the broker owns: base offset and leader epoch. Both lie outside the CRC. */
void batch_stamp(uint8_t *batch, int64_t base_offset, int32_t leader_epoch);

/* The same batch, validated, with its records packed by codec (BATCH_NONE: not packed) at a level
 * of that codec; *ret is the caller's to free. -EMSGSIZE: above max_bytes then; -ENOMEM; -EIO: the
 * codec failed. */
int batch_recode(const uint8_t *batch, const struct batch_header *header, enum batch_codec codec,
                 int level, uint32_t max_bytes, uint8_t **ret, struct batch_header *ret_header);

/* Make it a LogAppendTime batch of now_ms, CRC recomputed; the batch has been validated. */
void batch_stamp_append_time(uint8_t *batch, int64_t now_ms);

/* What batch_validate() walks and the iterator hands out. The pointers are lent until the next
 * batch_iter_next() or close; a null key or value has length -1. */
struct batch_record {
    int64_t offset, timestamp;
    int32_t index; /* in the batch, from 0 */
    int8_t attributes;
    const uint8_t *key;
    int32_t key_len;
    const uint8_t *value;
    int32_t value_len;
    int32_t header_count;
    const uint8_t *headers; /* for batch_record_header_next() */
    size_t headers_len;
};

struct batch_record_header {
    const uint8_t *key;
    int32_t key_len;
    const uint8_t *value; /* null: length -1 */
    int32_t value_len;
};

/* Next header of a record; *pos starts at 0. 1 a header, 0 no more, -EBADMSG (never for a record
 * that came from an iterator). */
int batch_record_header_next(const struct batch_record *record, size_t *pos,
                             struct batch_record_header *ret);

/* Iterate the records of the batch at [batch, batch + len_bytes), which it borrows until close.
 * Does not check the CRC. Memory: none but itself for an uncompressed batch; else the codec's
 * window and one record, which the unpacking limit above bounds.
 * open: -EBADMSG, -ENOTSUP (codec), -ENOMEM. next: 1 a record, 0 the end (nothing left over),
 * -EBADMSG, -ENOMEM; after a failure it goes on failing. close takes NULL. */
struct batch_iter;
int batch_iter_open(struct batch_iter **ret, const uint8_t *batch, size_t len_bytes);
int batch_iter_next(struct batch_iter *iter, struct batch_record *ret);
void batch_iter_close(struct batch_iter *iter);

/* First record from from_offset on with timestamp >= target_ms. 1 found, 0 none, else as the
 * iterator. A header whose max_timestamp is lower is believed. With LogAppendTime every record has
 * max_timestamp. */
int batch_find_time(const uint8_t *batch, size_t len_bytes, int64_t from_offset, int64_t target_ms,
                    int64_t *ret_offset, int64_t *ret_timestamp);

/* The first of the records from from_offset on with the largest timestamp. 1 found, 0 there is
 * none.
 */
int batch_find_max_time(const uint8_t *batch, size_t len_bytes, int64_t from_offset,
                        int64_t *ret_offset, int64_t *ret_timestamp);

#endif
