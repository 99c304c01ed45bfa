/* arrive.c: a batch is checked while it comes in, piece by piece: first the checksum of a piece,
 * which brings it into the nearest cache, then the records in it. Failure: none here: what cannot
 * be right is left to batch_validate(), which says what it is. */
#include "core/base/crc32c.h"
#include "core/batch/brief.h"
#include "core/batch/format.h"

#define PIECE_BYTES (128u << 10) /* both passes find it in the second-level cache */

static bool is_walkable(const uint8_t *data)
{
    return data[AT_MAGIC] == BATCH_MAGIC &&
           batch_codec_of(be_load16(data + AT_ATTRIBUTES)) == BATCH_NONE;
}

static void note(struct batch_arrival *a, int64_t timestamp_delta, int32_t key_len)
{
    a->delta_min = MIN(a->delta_min, timestamp_delta);
    a->delta_max = MAX(a->delta_max, timestamp_delta);
    a->null_key |= key_len < 0;
    a->walked_records++;
}

/* As far as records are whole and brief. A function of its own has registers for all of it. */
static __attribute__((noinline)) const uint8_t *
walk_brief(struct batch_arrival *a, const uint8_t *at, const uint8_t *end, int32_t count)
{
    struct batch_arrival seen = *a; /* in registers */
    struct record_brief r;
    const uint8_t *next;
    while (seen.walked_records < count && (next = record_brief(at, end, &r)) != NULL &&
           r.offset_delta == seen.walked_records) {
        note(&seen, r.timestamp_delta, r.key_len);
        at = next;
    }
    *a = seen;
    return at;
}

static bool is_whole(const uint8_t *at, const uint8_t *end)
{
    uint64_t len;
    int used = varint_decode(at, (size_t)(end - at), 32, &len);
    return used < 0 || (used > 0 && zigzag_decode(len) <= end - at - used);
}

/* The one record at `at`. NULL: it is not whole yet, or there is something about it. */
static const uint8_t *walk_one(struct batch_arrival *a, const uint8_t *at, const uint8_t *end)
{
    struct cursor c = {.at = at, .end = end, .end_pos = (uint64_t)(end - at)};
    struct record r;
    if (!is_whole(at, end))
        return NULL;
    a->stuck = !record_parse(&c, &r) || r.offset_delta != a->walked_records;
    if (a->stuck)
        return NULL;
    note(a, r.timestamp_delta, r.key_len);
    return c.at;
}

static void walk(struct batch_arrival *a, const uint8_t *data, uint32_t have_bytes)
{
    int32_t count = (int32_t)be_load32(data + AT_RECORD_COUNT);
    const uint8_t *end = data + have_bytes, *next = data + a->walked_bytes, *at = next;
    while (next != NULL) {
        at = walk_brief(a, next, end, count);
        next = a->walked_records < count ? walk_one(a, at, end) : NULL;
    }
    a->walked_bytes = (uint32_t)(at - data);
}

void batch_arrive(struct batch_arrival *a, const uint8_t *data, size_t have_bytes)
{
    if (have_bytes < BATCH_HEADER_BYTES)
        return;
    if (a->summed_bytes == 0) {
        *a = (struct batch_arrival){.summed_bytes = AT_ATTRIBUTES,
                                    .walked_bytes = BATCH_HEADER_BYTES,
                                    .delta_min = INT64_MAX,
                                    .delta_max = INT64_MIN,
                                    .stuck = !is_walkable(data)};
    }
    while (a->summed_bytes < have_bytes) {
        uint32_t piece = MIN((uint32_t)have_bytes - a->summed_bytes, PIECE_BYTES);
        a->crc = crc32c_extend(a->crc, data + a->summed_bytes, piece);
        a->summed_bytes += piece;
        if (!a->stuck)
            walk(a, data, a->summed_bytes);
    }
}
