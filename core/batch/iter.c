#include "core/batch/batch.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/batch/codec.h"
#include "core/batch/format.h"
#include "core/batch/record.h"

#define ITER_WINDOW_BYTES 32768u /* to begin with; grows to hold the largest record */

struct batch_iter {
    struct batch_header header;
    struct cursor cursor; /* [at, end) is unread; for a stream it lies in window */
    int32_t next_index;
    int32_t last_delta; /* of the record before */
    int rc;             /* the first failure */
};

int batch_iter_open(struct batch_iter **ret, const uint8_t *batch, size_t len_bytes)
{
    struct batch_header h;
    if (batch_peek(batch, len_bytes, &h) < 0 || h.len_bytes > len_bytes || h.record_count < 0 ||
        h.last_offset_delta < -1)
        return -EBADMSG;
    struct batch_iter *iter = calloc(1, sizeof(*iter));
    if (!iter)
        return -ENOMEM;
    size_t records_bytes = h.len_bytes - BATCH_HEADER_BYTES;
    int rc = 0;
    iter->header = h;
    iter->last_delta = -1;
    if (batch_codec_of(h.attributes) == BATCH_NONE) {
        iter->cursor.at = batch + BATCH_HEADER_BYTES;
        iter->cursor.end = batch + h.len_bytes;
        iter->cursor.end_pos = records_bytes;
    } else if (h.record_count > 0) { /* a batch emptied by compaction has nothing to unpack */
        rc = codec_reader_open(&iter->cursor.reader, batch_codec_of(h.attributes),
                               batch + BATCH_HEADER_BYTES, records_bytes,
                               codec_plain_max(records_bytes));
    }
    if (rc < 0) {
        free(iter);
        return rc;
    }
    *ret = iter;
    return 0;
}

void batch_iter_close(struct batch_iter *iter)
{
    if (!iter)
        return;
    codec_reader_close(iter->cursor.reader);
    free(iter->cursor.window);
    free(iter);
}

static int window_grow(struct cursor *c)
{
    size_t unread = (size_t)(c->end - c->at);
    size_t bytes = c->window_bytes ? c->window_bytes * 2 : ITER_WINDOW_BYTES;
    uint8_t *window = malloc(bytes);
    if (!window)
        return -ENOMEM;
    if (unread > 0)
        memcpy(window, c->at, unread);
    free(c->window);
    c->window = window;
    c->window_bytes = bytes;
    c->at = window;
    c->end = window + unread;
    return 0;
}

/* Bring at least need bytes into the window, or all that the stream has left. The window doubles
 * only when it is full of real data, so a lying length costs no memory. */
static int window_fill(struct cursor *c, size_t need)
{
    while ((size_t)(c->end - c->at) < need) {
        size_t unread = (size_t)(c->end - c->at);
        if (unread == c->window_bytes) {
            int rc = window_grow(c);
            if (rc < 0)
                return rc;
        } else if (c->at != c->window) {
            memmove(c->window, c->at, unread);
            c->at = c->window;
            c->end = c->window + unread;
        }
        int64_t n = codec_reader_read(c->reader, c->window + unread, c->window_bytes - unread);
        if (n <= 0)
            return (int)n;
        c->end += n;
        c->end_pos += (uint64_t)n;
    }
    return 0;
}

/* Bring the next record whole into the window, where parsing it gives lasting pointers. */
static int window_fill_record(struct cursor *c)
{
    uint64_t v;
    int rc = window_fill(c, VARINT32_BYTES_MAX);
    if (rc < 0)
        return rc;
    int used = varint_decode(c->at, (size_t)(c->end - c->at), 32, &v);
    if (used <= 0 || zigzag_decode(v) < 0)
        return -EBADMSG;
    size_t need = (size_t)used + (size_t)zigzag_decode(v);
    rc = window_fill(c, need);
    if (rc < 0)
        return rc;
    return (size_t)(c->end - c->at) < need ? -EBADMSG : 0;
}

static int iter_parse(struct batch_iter *iter, struct record *r)
{
    struct cursor *c = &iter->cursor;
    int rc = c->reader ? window_fill_record(c) : 0;
    if (rc < 0)
        return rc;
    return record_parse(c, r) ? 0 : c->rc;
}

/* Nothing may be left behind the last record. A reader without a window has read nothing. */
static int iter_at_end(struct cursor *c)
{
    int rc = c->reader ? window_fill(c, 1) : 0;
    return rc == 0 && c->at != c->end ? -EBADMSG : rc;
}

static int iter_advance(struct batch_iter *iter, struct batch_record *ret)
{
    const struct batch_header *h = &iter->header;
    struct record r;
    int64_t timestamp;
    if (iter->next_index == h->record_count)
        return iter_at_end(&iter->cursor);
    int rc = iter_parse(iter, &r);
    if (rc < 0)
        return rc;
    if (r.offset_delta <= iter->last_delta || r.offset_delta > h->last_offset_delta ||
        __builtin_add_overflow(h->base_timestamp, r.timestamp_delta, &timestamp))
        return -EBADMSG;
    if (batch_is_log_append_time(h->attributes))
        timestamp = h->max_timestamp;
    *ret = (struct batch_record){
        .offset = (int64_t)((uint64_t)h->base_offset + (uint64_t)r.offset_delta),
        .timestamp = timestamp,
        .index = iter->next_index,
        .attributes = r.attributes,
        .key = r.key,
        .key_len = r.key_len,
        .value = r.value,
        .value_len = r.value_len,
        .header_count = r.header_count,
        .headers = r.headers,
        .headers_len = r.headers_len,
    };
    iter->last_delta = r.offset_delta;
    iter->next_index++;
    return 1;
}

int batch_iter_next(struct batch_iter *iter, struct batch_record *ret)
{
    if (iter->rc < 0)
        return iter->rc;
    int rc = iter_advance(iter, ret);
    if (rc < 0)
        iter->rc = rc == -ENOMEM ? rc : -EBADMSG;
    return rc < 0 ? iter->rc : rc;
}

/* A varint length and its bytes, which lie before end. */
static bool header_part(const uint8_t **at, const uint8_t *end, int64_t len_min,
                        const uint8_t **ret, int32_t *ret_len)
{
    uint64_t v;
    int used = varint_decode(*at, (size_t)(end - *at), 32, &v);
    if (used <= 0)
        return false;
    int64_t len = zigzag_decode(v);
    *at += used;
    if (len < len_min || len > end - *at)
        return false;
    *ret = len < 0 ? NULL : *at;
    *ret_len = (int32_t)len;
    *at += MAX(len, 0);
    return true;
}

int batch_record_header_next(const struct batch_record *record, size_t *pos,
                             struct batch_record_header *ret)
{
    struct batch_record_header h;
    if (*pos == record->headers_len)
        return 0;
    const uint8_t *at = record->headers + *pos, *end = record->headers + record->headers_len;
    if (*pos > record->headers_len || !header_part(&at, end, 0, &h.key, &h.key_len) ||
        !header_part(&at, end, -1, &h.value, &h.value_len))
        return -EBADMSG;
    *pos = (size_t)(at - record->headers);
    *ret = h;
    return 1;
}

int batch_find_time(const uint8_t *batch, size_t len_bytes, int64_t from_offset, int64_t target_ms,
                    int64_t *ret_offset, int64_t *ret_timestamp)
{
    struct batch_iter *iter;
    struct batch_record r;
    int rc = batch_iter_open(&iter, batch, len_bytes);
    if (rc < 0)
        return rc;
    if (iter->header.max_timestamp >= target_ms) {
        while ((rc = batch_iter_next(iter, &r)) > 0 &&
               (r.timestamp < target_ms || r.offset < from_offset))
            ;
    }
    batch_iter_close(iter);
    if (rc > 0) {
        *ret_offset = r.offset;
        *ret_timestamp = r.timestamp;
    }
    return rc;
}

int batch_find_max_time(const uint8_t *batch, size_t len_bytes, int64_t from_offset,
                        int64_t *ret_offset, int64_t *ret_timestamp)
{
    struct batch_iter *iter;
    struct batch_record r;
    int64_t offset = -1, timestamp = INT64_MIN;
    bool found = false;
    int rc = batch_iter_open(&iter, batch, len_bytes);
    if (rc < 0)
        return rc;
    while ((rc = batch_iter_next(iter, &r)) > 0) {
        if (r.offset < from_offset)
            continue;
        if (!found || r.timestamp > timestamp) {
            offset = r.offset;
            timestamp = r.timestamp;
        }
        found = true;
    }
    batch_iter_close(iter);
    if (rc < 0 || !found)
        return rc;
    *ret_offset = offset;
    *ret_timestamp = timestamp;
    return 1;
}
