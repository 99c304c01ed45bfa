#include "core/batch/batch.h"

#include <errno.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/format.h"

int batch_peek(const uint8_t *data, size_t avail_bytes, struct batch_header *ret)
{
    if (avail_bytes < BATCH_HEADER_BYTES)
        return -EAGAIN;
    /* As unsigned, a negative length is also above the most that a batch can have. */
    uint32_t length = be_load32(data + AT_LENGTH);
    if (length < BATCH_HEADER_BYTES - BATCH_LOG_OVERHEAD ||
        length > (uint32_t)INT32_MAX - BATCH_LOG_OVERHEAD || data[AT_MAGIC] != BATCH_MAGIC)
        return -EBADMSG;
    *ret = (struct batch_header){
        .base_offset = (int64_t)be_load64(data + AT_BASE_OFFSET),
        .len_bytes = length + BATCH_LOG_OVERHEAD,
        .leader_epoch = (int32_t)be_load32(data + AT_LEADER_EPOCH),
        .magic = (int8_t)data[AT_MAGIC],
        .crc = be_load32(data + AT_CRC),
        .attributes = be_load16(data + AT_ATTRIBUTES),
        .last_offset_delta = (int32_t)be_load32(data + AT_LAST_OFFSET_DELTA),
        .base_timestamp = (int64_t)be_load64(data + AT_BASE_TIMESTAMP),
        .max_timestamp = (int64_t)be_load64(data + AT_MAX_TIMESTAMP),
        .producer_id = (int64_t)be_load64(data + AT_PRODUCER_ID),
        .producer_epoch = (int16_t)be_load16(data + AT_PRODUCER_EPOCH),
        .base_sequence = (int32_t)be_load32(data + AT_BASE_SEQUENCE),
        .record_count = (int32_t)be_load32(data + AT_RECORD_COUNT),
    };
    return 0;
}

bool batch_crc_ok(const uint8_t *batch, const struct batch_header *header)
{
    ASSERT(header->len_bytes >= BATCH_HEADER_BYTES);
    return crc32c(batch + AT_ATTRIBUTES, header->len_bytes - AT_ATTRIBUTES) == header->crc;
}

void batch_stamp(uint8_t *batch, int64_t base_offset, int32_t leader_epoch)
{
    be_store64(batch + AT_BASE_OFFSET, (uint64_t)base_offset);
    be_store32(batch + AT_LEADER_EPOCH, (uint32_t)leader_epoch);
}

void batch_stamp_append_time(uint8_t *batch, int64_t now_ms)
{
    uint32_t length = be_load32(batch + AT_LENGTH);
    ASSERT(length >= BATCH_HEADER_BYTES - BATCH_LOG_OVERHEAD);
    size_t len_bytes = (size_t)length + BATCH_LOG_OVERHEAD;
    uint16_t attributes = be_load16(batch + AT_ATTRIBUTES) | BATCH_LOG_APPEND_TIME;
    be_store16(batch + AT_ATTRIBUTES, attributes);
    be_store64(batch + AT_MAX_TIMESTAMP, (uint64_t)now_ms);
    be_store32(batch + AT_CRC, crc32c(batch + AT_ATTRIBUTES, len_bytes - AT_ATTRIBUTES));
}
