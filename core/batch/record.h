/* record.h: one record of a batch, read from memory or from a decompressing stream through the
 * same parser. Private to core/batch.
 * Happy path: a cursor over the records' bytes; record_parse() once for each; cursor_at_end().
 * Failure: false, with the cursor's rc and message set: -EINVAL for a record that breaks the
 *   format, else what the codec said. */
#ifndef CORE_BATCH_RECORD_H
#define CORE_BATCH_RECORD_H

#include "core/batch/batch.h"
#include "core/batch/codec.h"

struct cursor {
    const uint8_t *at, *end;
    uint64_t end_pos;            /* place of end in the stream */
    struct codec_reader *reader; /* refills the window at end; NULL: end is the end */
    uint8_t *window;
    size_t window_bytes;
    int rc;
    const char *message;
};

/* As on the wire. The pointers are right only if the record lay whole in [at, end). */
struct record {
    int64_t timestamp_delta;
    int32_t offset_delta;
    int32_t key_len, value_len, header_count;
    int8_t attributes;
    const uint8_t *key, *value, *headers;
    size_t headers_len;
};

#define RECORD_BYTES_MIN                                                                           \
    7u /* a byte each: length, attributes, deltas, key, value, header count                        \
        */
#define VARINT32_BYTES_MAX 5u
#define VARINT64_BYTES_MAX 10u

bool record_parse(struct cursor *c, struct record *ret);

/* True only if the stream ends here and ends well; rc is set when it does not end well. */
bool cursor_at_end(struct cursor *c);

/* Decode one unsigned base-128 number of at most 32 or 64 bits: bytes used; 0 when avail is too
 * few; -1 when it is longer than that. */
int varint_decode(const uint8_t *p, size_t avail, unsigned bits, uint64_t *ret);
unsigned varint_encode(uint8_t *p, uint64_t v);

static inline int64_t zigzag_decode(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static inline uint64_t zigzag_encode(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

#endif
