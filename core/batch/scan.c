#include "core/batch/scan.h"

#include <errno.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/batch/format.h"

bool batch_header_plausible(const struct batch_scan *scan, const struct batch_header *h)
{
    return h->base_offset >= scan->first_offset && h->last_offset_delta >= 0 &&
           h->base_offset < scan->end_offset &&
           h->last_offset_delta < scan->end_offset - h->base_offset && h->record_count >= 0 &&
           h->record_count <= (int64_t)h->last_offset_delta + 1 &&
           batch_codec_of(h->attributes) < BATCH_CODEC_COUNT &&
           (scan->max_bytes == 0 || h->len_bytes <= scan->max_bytes);
}

/* The next place whose magic byte can be one; its header may be cut off by the end. */
static size_t candidate(const uint8_t *data, size_t len_bytes, size_t pos)
{
    if (len_bytes - pos <= AT_MAGIC)
        return len_bytes;
    const uint8_t *magic = memchr(data + pos + AT_MAGIC, BATCH_MAGIC, len_bytes - pos - AT_MAGIC);
    return magic == NULL ? len_bytes : (size_t)(magic - data) - AT_MAGIC;
}

int batch_scan_next(const struct batch_scan *scan, const uint8_t *data, size_t len_bytes,
                    size_t from, size_t *ret_pos, struct batch_header *ret_header)
{
    ASSERT(from <= len_bytes);
    size_t pos = from;
    while ((pos = candidate(data, len_bytes, pos)) + BATCH_HEADER_BYTES <= len_bytes) {
        struct batch_header h;
        if (batch_peek(data + pos, len_bytes - pos, &h) == 0 && batch_header_plausible(scan, &h)) {
            bool whole = h.len_bytes <= len_bytes - pos;
            if (!whole || batch_crc_ok(data + pos, &h)) {
                *ret_pos = pos;
                *ret_header = h;
                return whole ? 0 : -EAGAIN;
            }
        }
        pos++;
    }
    /* A header that these bytes cut off begins in the last 60. */
    size_t tail = len_bytes < BATCH_HEADER_BYTES ? 0 : len_bytes - BATCH_HEADER_BYTES + 1;
    *ret_pos = from > tail ? from : tail;
    return -ENOENT;
}
