/* builder.h: make a record batch: internal topics, the bench's load, tests.
 * Happy path: init, set the public fields that matter, add records, finish; then fini, or reset
 *   and make the next one in the same memory.
 * Failure: -ENOMEM, or -EOVERFLOW when the batch would pass what its length fields can say; the
 *   builder keeps what it had.
 * Threads: one. */
#ifndef CORE_BATCH_BUILDER_H
#define CORE_BATCH_BUILDER_H

#include "core/batch/batch.h"

struct batch_builder {
    /* Set freely between init and finish; reset keeps them. */
    enum batch_codec codec;
    uint16_t attributes; /* enum batch_attribute, codec bits ignored */
    int64_t base_offset; /* 0 */
    int32_t leader_epoch, base_sequence;
    int64_t producer_id; /* -1: none, as epoch and sequence */
    int16_t producer_epoch;
    int64_t append_time;       /* max_timestamp of a LogAppendTime batch */
    int32_t next_offset_delta; /* raise it before an add to leave a gap, as compaction does */
    /* Private. */
    uint8_t *plain, *packed; /* header and records; the same, compressed */
    size_t plain_len, plain_cap, packed_cap;
    int32_t record_count;
    int64_t base_timestamp, max_timestamp; /* base: set it with BATCH_DELETE_HORIZON */
};

void batch_builder_init(struct batch_builder *b, enum batch_codec codec);
void batch_builder_fini(struct batch_builder *b);
void batch_builder_reset(struct batch_builder *b); /* forget the records and the gap */

/* key, value, and a header's value: length -1 is null. Everything is copied. */
int batch_builder_add(struct batch_builder *b, int64_t timestamp, const void *key, int32_t key_len,
                      const void *value, int32_t value_len,
                      const struct batch_record_header *headers, int32_t header_count);

/* The same, for a value that the caller makes in place: value_len bytes at *ret_value, until the
 * next call on the builder. */
int batch_builder_add_room(struct batch_builder *b, int64_t timestamp, const void *key,
                           int32_t key_len, int32_t value_len, uint8_t **ret_value);

/* Bytes that finish would give without compression. */
size_t batch_builder_plain_bytes(const struct batch_builder *b);

/* The batch, lent until the next call on the builder. More records may be added afterwards. */
int batch_builder_finish(struct batch_builder *b, uint8_t **ret_data, size_t *ret_len_bytes);

#endif
