/* fuzz_index.c: whatever lies in the .index and .timeindex files of a sealed segment.
 * Input: length of the offset index in entries u8, then both files one after the other.
 * What is taken must lead into the segment, whatever is asked for, and must encode to what is taken
 *   again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log/internal.h"

#define SEGMENT_BYTES 100000u
#define BASE_OFFSET 1000
#define END_OFFSET 2000
#define OFFSET_ENTRY_BYTES 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static void segment_make(struct segment *seg)
{
    *seg = (struct segment){.base_offset = BASE_OFFSET,
                            .end_offset = END_OFFSET,
                            .end_pos = SEGMENT_BYTES,
                            .index = {.max_timestamp = -1}};
}

static void time_look_up(const struct segment *seg, int64_t timestamp_ms)
{
    int64_t offset = seg_index_find_time(seg, timestamp_ms);
    ASSERT(offset >= BASE_OFFSET && offset < END_OFFSET);
}

static void look_up(const struct segment *seg)
{
    for (int64_t offset = BASE_OFFSET - 1; offset <= END_OFFSET; offset += 7) {
        int64_t last_offset;
        uint64_t pos = seg_index_find(seg, offset, &last_offset);
        ASSERT(pos < SEGMENT_BYTES);
        ASSERT(pos == 0 || (last_offset >= BASE_OFFSET && last_offset <= offset));
    }
    for (uint64_t pos = 0; pos <= SEGMENT_BYTES; pos += 999)
        ASSERT(seg_index_find_pos(seg, pos) <= pos);
    for (uint32_t i = 0; i < seg->index.times_n; i++)
        time_look_up(seg, seg->index.times[i].timestamp);
    ASSERT(seg_index_find_time(seg, INT64_MIN) == BASE_OFFSET);
    time_look_up(seg, INT64_MAX);
}

static void turn(struct segment *seg)
{
    struct segment back;
    uint8_t *offsets, *times;
    size_t offsets_len, times_len;
    ASSERT(seg_index_encode(seg, &offsets, &offsets_len, &times, &times_len) == 0);
    segment_make(&back);
    ASSERT(seg_index_decode(&back, (char *)offsets, offsets_len, (char *)times, times_len) == 0);
    ASSERT(back.index.offsets_n == seg->index.offsets_n);
    ASSERT(back.index.max_timestamp == seg->index.max_timestamp);
    ASSERT(back.index.max_timestamp_offset == seg->index.max_timestamp_offset);
    seg_index_fini(&back.index);
    free(offsets);
    free(times);
}

/* Exactly, so that every byte read beyond shows. */
static char *exact(const uint8_t *data, size_t len_bytes)
{
    char *copy = malloc(MAX(len_bytes, (size_t)1));
    ASSERT(copy != NULL);
    memcpy(copy, data, len_bytes);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (len_bytes == 0)
        return 0;
    struct segment seg;
    size_t offsets_len = MIN((size_t)data[0] * OFFSET_ENTRY_BYTES, len_bytes - 1);
    size_t times_len = len_bytes - 1 - offsets_len;
    char *offsets = exact(data + 1, offsets_len), *times = exact(data + 1 + offsets_len, times_len);
    segment_make(&seg);
    int rc = seg_index_decode(&seg, offsets, offsets_len, times, times_len);
    free(offsets);
    free(times);
    ASSERT(rc == 0 || rc == -EBADMSG);
    if (rc == 0) {
        look_up(&seg);
        turn(&seg);
    }
    seg_index_fini(&seg.index);
    return 0;
}
