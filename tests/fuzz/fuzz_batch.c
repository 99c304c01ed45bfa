/* fuzz_batch.c: whatever a client or a disk gives as a record batch.
 * Input: one byte of enum fuzz_flag, then the batch; with FUZZ_PACK its records are plain and are
 * compressed here, so that the fuzzer can work on records behind every codec. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/batch.h"
#include "core/batch/brief.h"
#include "core/batch/codec.h"

enum fuzz_flag {
    FUZZ_SEAL = 0x01, /* make length and CRC right, to get beyond them */
    FUZZ_COMPACTED = 0x02,
    FUZZ_APPEND_TIME = 0x04,
    FUZZ_SHALLOW = 0x08,
    FUZZ_PACK = 0x10, /* with the codec in the two bits above: 0 gzip .. 3 zstd */
    FUZZ_CODEC_SHIFT = 5,
};

#define NOW_MS 1700000000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static void seal(uint8_t *batch, size_t len)
{
    if (len < BATCH_HEADER_BYTES)
        return;
    be_store32(batch + 8, (uint32_t)(len - BATCH_LOG_OVERHEAD));
    be_store32(batch + 17, crc32c(batch + 21, len - 21));
}

static uint8_t *input_copy(uint8_t flags, const uint8_t *data, size_t *len)
{
    enum batch_codec codec = BATCH_GZIP + (flags >> FUZZ_CODEC_SHIFT & 3);
    if (!(flags & FUZZ_PACK) || *len < BATCH_HEADER_BYTES) {
        uint8_t *copy = malloc(MAX(*len, 1u));
        ASSERT(copy);
        memcpy(copy, data, *len);
        return copy;
    }
    size_t records_bytes = *len - BATCH_HEADER_BYTES,
           bound = codec_pack_bound(codec, records_bytes);
    uint8_t *packed = malloc(BATCH_HEADER_BYTES + bound);
    ASSERT(packed);
    int64_t n = codec_pack(codec, packed + BATCH_HEADER_BYTES, bound, data + BATCH_HEADER_BYTES,
                           records_bytes, codec_level_default(codec));
    ASSERT(n >= 0);
    *len = BATCH_HEADER_BYTES + (size_t)n;
    packed = realloc(packed, *len); /* exactly, so that every byte read beyond shows */
    ASSERT(packed);
    memcpy(packed, data, BATCH_HEADER_BYTES);
    uint16_t attributes = be_load16(packed + 21) & (uint16_t)~BATCH_CODEC_MASK;
    be_store16(packed + 21, attributes | (uint16_t)codec);
    return packed;
}

/* The brief reading of a record says what the full one says, or nothing. */
static void brief_check(const uint8_t *data, size_t len)
{
    struct cursor c = {.at = data, .end = data + len, .end_pos = len};
    struct record_brief brief;
    struct record r;
    while (c.at < c.end) {
        const uint8_t *next = record_brief(c.at, c.end, &brief);
        if (!record_parse(&c, &r)) {
            ASSERT(next == NULL);
            return;
        }
        ASSERT(next == NULL ||
               (next == c.at && brief.timestamp_delta == r.timestamp_delta &&
                brief.offset_delta == r.offset_delta && brief.key_len == r.key_len));
    }
}

/* Records until the end, or a failure; touches every byte that is handed out. */
static int64_t iterate(const uint8_t *batch, size_t len)
{
    struct batch_iter *iter;
    struct batch_record r;
    struct batch_record_header h;
    int64_t count = 0;
    uint32_t sum = 0;
    int rc = batch_iter_open(&iter, batch, len);
    if (rc < 0)
        return rc;
    while ((rc = batch_iter_next(iter, &r)) > 0) {
        size_t pos = 0;
        int32_t headers = 0;
        int header_rc;
        ASSERT(r.index == count && r.key_len >= -1 && r.value_len >= -1);
        sum +=
            crc32c(r.key, (size_t)MAX(r.key_len, 0)) + crc32c(r.value, (size_t)MAX(r.value_len, 0));
        while ((header_rc = batch_record_header_next(&r, &pos, &h)) > 0) {
            sum += crc32c(h.key, (size_t)h.key_len) + crc32c(h.value, (size_t)MAX(h.value_len, 0));
            headers++;
        }
        ASSERT(header_rc == 0 && headers == r.header_count);
        count++;
    }
    ASSERT(batch_iter_next(iter, &r) == rc);
    batch_iter_close(iter);
    __asm__ volatile("" ::"r"(sum)); /* the sum counts as used */
    return rc < 0 ? rc : count;
}

/* How it came in makes no difference. */
static void arrival_check(const uint8_t *data, size_t len, uint8_t piece,
                          const struct batch_limits *limits)
{
    struct batch_arrival a = {.summed_bytes = 0};
    struct batch_header h[2] = {{.crc = 0}, {.crc = 0}};
    struct batch_error error[2] = {{.record_index = -2}, {.record_index = -2}};
    uint8_t *copies[2] = {malloc(len + 1), malloc(len + 1)};
    for (int i = 0; i < 2; i++) {
        ASSERT(copies[i]);
        memcpy(copies[i], data, len);
    }
    for (size_t have = piece; have < len && piece > 0; have += piece)
        batch_arrive(&a, copies[1], have);
    int rc = batch_validate(copies[0], len, limits, NULL, &h[0], &error[0]);
    ASSERT(batch_validate(copies[1], len, limits, &a, &h[1], &error[1]) == rc);
    ASSERT(h[0].crc == h[1].crc && h[0].max_timestamp == h[1].max_timestamp);
    ASSERT(memcmp(copies[0], copies[1], len) == 0);
    ASSERT(error[0].message == error[1].message && error[0].record_index == error[1].record_index);
    free(copies[0]);
    free(copies[1]);
}

/* What deep validation let pass holds what its header says. */
static void check_accepted(uint8_t *batch, size_t len, const struct batch_limits *limits,
                           const struct batch_header *h, int64_t count)
{
    struct batch_header again;
    struct batch_error error;
    int64_t offset, timestamp;
    ASSERT(h->len_bytes == len && batch_crc_ok(batch, h));
    ASSERT(batch_validate(batch, len, limits, NULL, &again, &error) == 0);
    ASSERT(again.crc == h->crc && again.max_timestamp == h->max_timestamp);
    if (!limits->deep && batch_codec_of(h->attributes) != BATCH_NONE)
        return;
    ASSERT(count == h->record_count);
    ASSERT(batch_find_max_time(batch, len, h->base_offset, &offset, &timestamp) == 1);
    if (!limits->log_append_time && h->max_timestamp != BATCH_NO_TIMESTAMP) {
        ASSERT(timestamp == h->max_timestamp);
        int64_t found_offset, found_timestamp;
        ASSERT(batch_find_time(batch, len, h->base_offset, timestamp, &found_offset,
                               &found_timestamp) == 1);
        ASSERT(found_offset == offset && found_timestamp == timestamp);
    }
    batch_stamp_append_time(batch, NOW_MS);
    ASSERT(batch_find_time(batch, len, h->base_offset, NOW_MS, &offset, &timestamp) == 1);
    ASSERT(timestamp == NOW_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (len_bytes == 0)
        return 0;
    uint8_t flags = data[0];
    size_t len = len_bytes - 1;
    uint8_t *batch = input_copy(flags, data + 1, &len);
    struct batch_limits limits = {.max_bytes = 1 << 20,
                                  .now_ms = NOW_MS,
                                  .timestamp_before_max_ms = INT64_MAX,
                                  .timestamp_after_max_ms = 3600000,
                                  .log_append_time = flags & FUZZ_APPEND_TIME,
                                  .compacted = flags & FUZZ_COMPACTED,
                                  .deep = !(flags & FUZZ_SHALLOW)};
    struct batch_header h;
    struct batch_error error = {.record_index = -2, .message = NULL};
    int64_t offset, timestamp;
    if (flags & (FUZZ_SEAL | FUZZ_PACK))
        seal(batch, len);
    if (len > BATCH_HEADER_BYTES)
        brief_check(batch + BATCH_HEADER_BYTES, len - BATCH_HEADER_BYTES);
    int64_t count = iterate(batch, len);
    batch_find_time(batch, len, 0, NOW_MS + 20, &offset, &timestamp);
    arrival_check(batch, len, (uint8_t)len_bytes, &limits);
    int rc = batch_validate(batch, len, &limits, NULL, &h, &error);
    if (rc == 0)
        check_accepted(batch, len, &limits, &h, count);
    else
        ASSERT(error.message && error.record_index >= -1);
    free(batch);
    return 0;
}
