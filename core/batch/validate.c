#include "core/batch/batch.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/brief.h"
#include "core/batch/codec.h"
#include "core/batch/format.h"

/* Large enough that most records lie whole in one window and take the fast parser. */
#define WALK_WINDOW_BYTES 32768u

static int fail(struct batch_error *ret, int rc, int32_t record_index, const char *message)
{
    *ret = (struct batch_error){.record_index = record_index, .message = message};
    return rc;
}

/* Bytes are there, are one batch, and arrived as they were sent. */
static int check_frame(const uint8_t *data, size_t len_bytes, const struct batch_limits *limits,
                       struct batch_arrival *arrival, struct batch_header *ret,
                       struct batch_error *err)
{
    if (len_bytes == 0)
        return fail(err, -EINVAL, -1, "there is no batch");
    if (len_bytes <= AT_MAGIC)
        return fail(err, -EBADMSG, -1, "the batch is cut short");
    /* Message sets of magic 0 and 1 have their magic at the same place. */
    if (data[AT_MAGIC] != BATCH_MAGIC)
        return fail(err, -EINVAL, -1, "only record batches of magic 2 are accepted");
    if (len_bytes < BATCH_HEADER_BYTES)
        return fail(err, -EBADMSG, -1, "the batch is cut short");
    if (batch_peek(data, len_bytes, ret) < 0)
        return fail(err, -EBADMSG, -1, "the batch's length cannot be right");
    if (ret->len_bytes > len_bytes)
        return fail(err, -EBADMSG, -1, "the batch is cut short");
    if (ret->len_bytes < len_bytes)
        return fail(err, -EINVAL, -1, "there is more than one batch");
    if (ret->len_bytes > limits->max_bytes)
        return fail(err, -EMSGSIZE, -1, "the batch is larger than max.message.bytes");
    batch_arrive(arrival, data, len_bytes);
    if (arrival->crc != ret->crc)
        return fail(err, -EBADMSG, -1, "the batch's CRC does not match");
    return 0;
}

static const char *timestamp_problem(int64_t timestamp, const struct batch_limits *limits)
{
    int64_t age_ms;
    if (limits->log_append_time || timestamp == BATCH_NO_TIMESTAMP)
        return NULL;
    if (__builtin_sub_overflow(limits->now_ms, timestamp, &age_ms))
        age_ms = timestamp < 0 ? INT64_MAX : INT64_MIN;
    if (age_ms > limits->timestamp_before_max_ms)
        return "the timestamp is too far in the past";
    if (age_ms < 0 && (age_ms == INT64_MIN || -age_ms > limits->timestamp_after_max_ms))
        return "the timestamp is too far in the future";
    return NULL;
}

/* Records need RECORD_BYTES_MIN each, so a count bounds the bytes that must be there. */
static bool count_possible(const struct batch_header *h, bool compressed)
{
    uint64_t bytes = h->len_bytes - BATCH_HEADER_BYTES;
    if (compressed)
        bytes = codec_plain_max((size_t)bytes);
    return (uint64_t)h->record_count * RECORD_BYTES_MIN <= bytes;
}

static int check_header(const struct batch_header *h, struct batch_error *err)
{
    unsigned codec = batch_codec_of(h->attributes);
    bool producer = h->producer_id >= 0;
    if (codec >= BATCH_CODEC_COUNT)
        return fail(err, -ENOTSUP, -1, "unknown compression codec");
    if (batch_is_log_append_time(h->attributes))
        return fail(err, -ETIME, -1, "a producer must not set the timestamp type LogAppendTime");
    if (batch_is_control(h->attributes))
        return fail(err, -EINVAL, -1, "clients must not write control batches");
    if (h->record_count <= 0)
        return fail(err, -EINVAL, -1, "the batch has no records");
    if (h->last_offset_delta != h->record_count - 1)
        return fail(err, -EINVAL, -1, "record count and last offset delta disagree");
    if (!count_possible(h, codec != BATCH_NONE))
        return fail(err, -EINVAL, -1, "the batch is too small for its record count");
    if (producer && (h->base_sequence < 0 || h->producer_epoch < 0))
        return fail(err, -EINVAL, -1, "producer id without producer epoch or sequence");
    if (!producer && batch_is_transactional(h->attributes))
        return fail(err, -EINVAL, -1, "transactional batch without producer id");
    return 0;
}

/* The timestamps in the header of a batch that is not looked into. */
static int check_header_times(const struct batch_header *h, const struct batch_limits *limits,
                              struct batch_error *err)
{
    const char *problem = timestamp_problem(h->base_timestamp, limits);
    if (!problem)
        problem = timestamp_problem(h->max_timestamp, limits);
    return problem ? fail(err, -ETIME, -1, problem) : 0;
}

/* Timestamps that timestamp_problem() need not be asked about. */
struct times {
    int64_t from, to;
};

static struct times times_usual(const struct batch_limits *limits)
{
    struct times t = {INT64_MIN, INT64_MAX};
    if (limits->log_append_time)
        return t;
    if (__builtin_sub_overflow(limits->now_ms, limits->timestamp_before_max_ms, &t.from))
        t.from = limits->now_ms;
    if (__builtin_add_overflow(limits->now_ms, limits->timestamp_after_max_ms, &t.to))
        t.to = limits->now_ms;
    return t;
}

static bool take_record(struct cursor *c, struct record *ret)
{
    struct record_brief brief;
    const uint8_t *next = record_brief(c->at, c->end, &brief);
    if (next == NULL)
        return record_parse(c, ret);
    ret->timestamp_delta = brief.timestamp_delta;
    ret->offset_delta = brief.offset_delta;
    ret->key_len = brief.key_len;
    c->at = next;
    return true;
}

const char batch_error_no_key[] = "a compacted topic needs a key in every record";

/* Walk the records under the cursor, from the first on, which must be exactly those the header
 * announces. max_timestamp: of those before. */
static int walk(struct cursor *c, int32_t first, int64_t max_timestamp,
                const struct batch_header *h, const struct batch_limits *limits,
                int64_t *ret_max_timestamp, struct batch_error *err)
{
    struct times usual = times_usual(limits);
    for (int32_t i = first; i < h->record_count; i++) {
        struct record r;
        int64_t timestamp;
        if (!take_record(c, &r))
            return fail(err, c->rc == -EBADMSG ? -EINVAL : c->rc, i, c->message);
        if (r.offset_delta != i)
            return fail(err, -EINVAL, i, "offset deltas must count from 0 without gaps");
        if (r.key_len < 0 && limits->compacted)
            return fail(err, -EINVAL, i, batch_error_no_key);
        if (__builtin_add_overflow(h->base_timestamp, r.timestamp_delta, &timestamp))
            return fail(err, -EINVAL, i, "the timestamp is out of range");
        if (timestamp < usual.from || timestamp > usual.to) {
            const char *problem = timestamp_problem(timestamp, limits);
            if (problem)
                return fail(err, -ETIME, i, problem);
        }
        max_timestamp = MAX(max_timestamp, timestamp);
    }
    if (!cursor_at_end(c))
        return fail(err, c->rc == -EBADMSG ? -EINVAL : c->rc, -1, c->message);
    *ret_max_timestamp = max_timestamp;
    return 0;
}

/* All that it has seen of the records is as it must be. */
static bool arrived_well(const struct batch_arrival *a, const struct batch_header *h,
                         const struct batch_limits *limits)
{
    struct times usual = times_usual(limits);
    int64_t from, to;
    return a->walked_records > 0 && !(a->null_key && limits->compacted) &&
           !__builtin_add_overflow(h->base_timestamp, a->delta_min, &from) &&
           !__builtin_add_overflow(h->base_timestamp, a->delta_max, &to) && from >= usual.from &&
           to <= usual.to;
}

/* What was walked while it came in is not walked again, unless to find the record to be named. */
static int walk_plain(const uint8_t *data, const struct batch_header *h,
                      const struct batch_limits *limits, const struct batch_arrival *arrival,
                      int64_t *ret_max_timestamp, struct batch_error *err)
{
    bool well = arrived_well(arrival, h, limits);
    struct cursor c = {.at = data + (well ? arrival->walked_bytes : BATCH_HEADER_BYTES),
                       .end = data + h->len_bytes,
                       .end_pos = h->len_bytes - BATCH_HEADER_BYTES};
    int64_t max_timestamp = BATCH_NO_TIMESTAMP;
    if (well)
        max_timestamp = MAX(max_timestamp, h->base_timestamp + arrival->delta_max);
    return walk(&c, well ? arrival->walked_records : 0, max_timestamp, h, limits, ret_max_timestamp,
                err);
}

static int walk_compressed(const uint8_t *data, const struct batch_header *h,
                           const struct batch_limits *limits, int64_t *ret_max_timestamp,
                           struct batch_error *err)
{
    size_t packed_len = h->len_bytes - BATCH_HEADER_BYTES;
    struct cursor c = {.window_bytes = WALK_WINDOW_BYTES};
    int rc = codec_reader_open(&c.reader, batch_codec_of(h->attributes), data + BATCH_HEADER_BYTES,
                               packed_len, codec_plain_max(packed_len));
    if (rc == -EBADMSG)
        return fail(err, -EINVAL, -1, "the compressed records are malformed");
    if (rc < 0)
        return fail(err, rc, -1, "no memory to unpack the compressed records");
    c.window = malloc(WALK_WINDOW_BYTES);
    c.at = c.end = c.window;
    rc = c.window ? walk(&c, 0, BATCH_NO_TIMESTAMP, h, limits, ret_max_timestamp, err)
                  : fail(err, -ENOMEM, -1, "no memory to unpack the compressed records");
    free(c.window);
    codec_reader_close(c.reader);
    return rc;
}

static void fix_max_timestamp(uint8_t *data, struct batch_header *h, int64_t max_timestamp)
{
    be_store64(data + AT_MAX_TIMESTAMP, (uint64_t)max_timestamp);
    h->max_timestamp = max_timestamp;
    h->crc = crc32c(data + AT_ATTRIBUTES, h->len_bytes - AT_ATTRIBUTES);
    be_store32(data + AT_CRC, h->crc);
}

int batch_validate(uint8_t *data, size_t len_bytes, const struct batch_limits *limits,
                   const struct batch_arrival *arrival, struct batch_header *ret_header,
                   struct batch_error *ret_error)
{
    struct batch_arrival a = {.summed_bytes = 0};
    struct batch_header h;
    int64_t max_timestamp;
    if (arrival != NULL)
        a = *arrival;
    int rc = check_frame(data, len_bytes, limits, &a, &h, ret_error);
    if (rc == 0)
        rc = check_header(&h, ret_error);
    if (rc < 0)
        return rc;
    max_timestamp = h.max_timestamp;
    if (batch_codec_of(h.attributes) == BATCH_NONE) {
        rc = walk_plain(data, &h, limits, &a, &max_timestamp, ret_error);
    } else if (limits->deep || limits->compacted || h.max_timestamp < h.base_timestamp) {
        rc = walk_compressed(data, &h, limits, &max_timestamp, ret_error);
    } else {
        rc = check_header_times(&h, limits, ret_error);
    }
    if (rc < 0)
        return rc;
    if (max_timestamp != h.max_timestamp && !limits->log_append_time)
        fix_max_timestamp(data, &h, max_timestamp);
    *ret_header = h;
    return 0;
}
