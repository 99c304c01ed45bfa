#include "core/batch/builder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/codec.h"
#include "core/batch/format.h"
#include "core/batch/record.h"

#define BUILDER_BYTES_MIN 4096u

void batch_builder_init(struct batch_builder *b, enum batch_codec codec)
{
    *b = (struct batch_builder){
        .codec = codec,
        .leader_epoch = -1,
        .base_sequence = -1,
        .producer_id = -1,
        .producer_epoch = -1,
    };
    batch_builder_reset(b);
}

void batch_builder_fini(struct batch_builder *b)
{
    free(b->plain);
    free(b->packed);
    b->plain = b->packed = NULL;
}

void batch_builder_reset(struct batch_builder *b)
{
    b->plain_len = BATCH_HEADER_BYTES;
    b->next_offset_delta = 0;
    b->record_count = 0;
    b->base_timestamp = b->max_timestamp = BATCH_NO_TIMESTAMP;
}

static int bytes_reserve(uint8_t **bytes, size_t *cap, size_t need)
{
    if (need <= *cap)
        return 0;
    size_t grown = MAX(MAX(need, *cap * 2), (size_t)BUILDER_BYTES_MIN);
    uint8_t *p = realloc(*bytes, grown);
    if (!p)
        return -ENOMEM;
    *bytes = p;
    *cap = grown;
    return 0;
}

static uint8_t *put_varint(uint8_t *p, int64_t v)
{
    return p + varint_encode(p, zigzag_encode(v));
}

static uint8_t *put_bytes(uint8_t *p, const void *data, int32_t len)
{
    p = put_varint(p, len);
    if (len > 0)
        memcpy(p, data, (size_t)len);
    return p + MAX(len, 0);
}

/* As put_varint() writes it. */
static unsigned varint_bytes(int64_t v)
{
    return (70u - (unsigned)__builtin_clzll(zigzag_encode(v) | 1)) / 7;
}

static uint64_t field_bytes(int32_t len)
{
    ASSERT(len >= -1);
    return varint_bytes(len) + (uint64_t)MAX(len, 0);
}

/* Of the record behind its length field. */
static uint64_t body_bytes(int64_t timestamp_delta, int32_t offset_delta, int32_t key_len,
                           int32_t value_len, const struct batch_record_header *headers,
                           int32_t header_count)
{
    uint64_t bytes = 1u + varint_bytes(timestamp_delta) + varint_bytes(offset_delta) +
                     field_bytes(key_len) + field_bytes(value_len) + varint_bytes(header_count);
    for (int32_t i = 0; i < header_count; i++) {
        ASSERT(headers[i].key_len >= 0);
        bytes += field_bytes(headers[i].key_len) + field_bytes(headers[i].value_len);
    }
    return bytes;
}

/* The record but its value, for which room is left at *ret_value. */
static int add(struct batch_builder *b, int64_t timestamp, const void *key, int32_t key_len,
               int32_t value_len, const struct batch_record_header *headers, int32_t header_count,
               uint8_t **ret_value)
{
    bool base_is_set = b->record_count > 0 || (b->attributes & BATCH_DELETE_HORIZON);
    int64_t base_timestamp = base_is_set ? b->base_timestamp : timestamp, delta;
    if (b->next_offset_delta == INT32_MAX ||
        __builtin_sub_overflow(timestamp, base_timestamp, &delta))
        return -EOVERFLOW;
    uint64_t body =
        body_bytes(delta, b->next_offset_delta, key_len, value_len, headers, header_count);
    uint64_t end = b->plain_len + VARINT32_BYTES_MAX + body;
    if (end > INT32_MAX)
        return -EOVERFLOW;
    int rc = bytes_reserve(&b->plain, &b->plain_cap, end);
    if (rc < 0)
        return rc;
    uint8_t *p = put_varint(b->plain + b->plain_len, (int64_t)body);
    *p++ = 0;
    p = put_varint(p, delta);
    p = put_varint(p, b->next_offset_delta);
    p = put_bytes(p, key, key_len);
    p = put_varint(p, value_len);
    *ret_value = p;
    p = put_varint(p + MAX(value_len, 0), header_count);
    for (int32_t i = 0; i < header_count; i++) {
        p = put_bytes(p, headers[i].key, headers[i].key_len);
        p = put_bytes(p, headers[i].value, headers[i].value_len);
    }
    b->plain_len = (size_t)(p - b->plain);
    b->base_timestamp = base_timestamp;
    b->max_timestamp = b->record_count > 0 ? MAX(b->max_timestamp, timestamp) : timestamp;
    b->record_count++;
    b->next_offset_delta++;
    return 0;
}

int batch_builder_add(struct batch_builder *b, int64_t timestamp, const void *key, int32_t key_len,
                      const void *value, int32_t value_len,
                      const struct batch_record_header *headers, int32_t header_count)
{
    uint8_t *room;
    int rc = add(b, timestamp, key, key_len, value_len, headers, header_count, &room);
    if (rc == 0 && value_len > 0)
        memcpy(room, value, (size_t)value_len);
    return rc;
}

int batch_builder_add_room(struct batch_builder *b, int64_t timestamp, const void *key,
                           int32_t key_len, int32_t value_len, uint8_t **ret_value)
{
    return add(b, timestamp, key, key_len, value_len, NULL, 0, ret_value);
}

size_t batch_builder_plain_bytes(const struct batch_builder *b)
{
    return b->plain_len;
}

static void put_header(const struct batch_builder *b, uint8_t *data, size_t len_bytes)
{
    uint16_t attributes = (uint16_t)((b->attributes & ~BATCH_CODEC_MASK) | b->codec);
    int64_t max_timestamp = b->max_timestamp;
    if (batch_is_log_append_time(attributes))
        max_timestamp = b->append_time;
    be_store64(data + AT_BASE_OFFSET, (uint64_t)b->base_offset);
    be_store32(data + AT_LENGTH, (uint32_t)(len_bytes - BATCH_LOG_OVERHEAD));
    be_store32(data + AT_LEADER_EPOCH, (uint32_t)b->leader_epoch);
    data[AT_MAGIC] = BATCH_MAGIC;
    be_store16(data + AT_ATTRIBUTES, attributes);
    be_store32(data + AT_LAST_OFFSET_DELTA, (uint32_t)(b->next_offset_delta - 1));
    be_store64(data + AT_BASE_TIMESTAMP, (uint64_t)b->base_timestamp);
    be_store64(data + AT_MAX_TIMESTAMP, (uint64_t)max_timestamp);
    be_store64(data + AT_PRODUCER_ID, (uint64_t)b->producer_id);
    be_store16(data + AT_PRODUCER_EPOCH, (uint16_t)b->producer_epoch);
    be_store32(data + AT_BASE_SEQUENCE, (uint32_t)b->base_sequence);
    be_store32(data + AT_RECORD_COUNT, (uint32_t)b->record_count);
    be_store32(data + AT_CRC, crc32c(data + AT_ATTRIBUTES, len_bytes - AT_ATTRIBUTES));
}

int batch_builder_finish(struct batch_builder *b, uint8_t **ret_data, size_t *ret_len_bytes)
{
    size_t records_bytes = b->plain_len - BATCH_HEADER_BYTES, len_bytes = b->plain_len;
    int rc = bytes_reserve(&b->plain, &b->plain_cap, b->plain_len);
    uint8_t *data = b->plain;
    if (rc == 0 && b->codec != BATCH_NONE) {
        size_t bound = codec_pack_bound(b->codec, records_bytes);
        rc = bytes_reserve(&b->packed, &b->packed_cap, BATCH_HEADER_BYTES + bound);
        int64_t packed_len = rc < 0 ? rc
                                    : codec_pack(b->codec, b->packed + BATCH_HEADER_BYTES, bound,
                                                 b->plain + BATCH_HEADER_BYTES, records_bytes,
                                                 codec_level_default(b->codec));
        rc = packed_len < 0 ? (int)packed_len : 0;
        data = b->packed;
        len_bytes = BATCH_HEADER_BYTES + (size_t)packed_len;
    }
    if (rc < 0)
        return rc;
    if (len_bytes > INT32_MAX)
        return -EOVERFLOW;
    put_header(b, data, len_bytes);
    *ret_data = data;
    *ret_len_bytes = len_bytes;
    return 0;
}
