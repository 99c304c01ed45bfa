/* index.c: the sparse offset and time index of a segment, in memory while it is active, in Kafka's
 * .index and .timeindex files when sealed (FACTS: Kafka's file formats). Always rebuildable. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#define OFFSET_ENTRY_BYTES 8u
#define TIME_ENTRY_BYTES 12u

static bool grow(void **array, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t bigger = *cap == 0 ? 16 : *cap * 2;
    void *p = realloc(*array, bigger * size);
    if (p == NULL)
        return false; /* a sparse index may miss an entry: look-ups start earlier */
    *array = p;
    *cap = bigger;
    return true;
}

static void times_add(struct seg_index *ix, int64_t base_offset)
{
    if (ix->max_timestamp < 0)
        return;
    if (ix->times_n > 0 && ix->times[ix->times_n - 1].timestamp >= ix->max_timestamp)
        return;
    if (!grow((void **)&ix->times, ix->times_n, &ix->times_cap, sizeof(*ix->times)))
        return;
    ix->times[ix->times_n++] =
        (struct time_entry){ix->max_timestamp, (uint32_t)(ix->max_timestamp_offset - base_offset)};
}

void seg_index_add(struct seg_index *ix, const struct segment *seg, uint64_t pos,
                   const struct batch_header *h)
{
    int64_t last_offset = h->base_offset + h->last_offset_delta;
    if (h->max_timestamp > ix->max_timestamp && h->record_count > 0) {
        ix->max_timestamp = h->max_timestamp;
        ix->max_timestamp_offset = last_offset;
    }
    if (pos - ix->indexed_pos < (uint64_t)seg->plog->config.index_interval_bytes)
        return;
    ix->indexed_pos = pos;
    if (grow((void **)&ix->offsets, ix->offsets_n, &ix->offsets_cap, sizeof(*ix->offsets)))
        ix->offsets[ix->offsets_n++] =
            (struct index_entry){(uint32_t)(last_offset - seg->base_offset), (uint32_t)pos};
    times_add(ix, seg->base_offset);
}

/* Where to start walking batches to find offset: a batch boundary at or before it, and (unless that
 * is 0) the last offset of the batch there. */
uint64_t seg_index_find(const struct segment *seg, int64_t offset, int64_t *ret_last_offset)
{
    const struct seg_index *ix = &seg->index;
    uint32_t lo = 0, hi = ix->offsets_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (seg->base_offset + ix->offsets[mid].relative_offset <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return 0;
    *ret_last_offset = seg->base_offset + ix->offsets[lo - 1].relative_offset;
    return ix->offsets[lo - 1].pos;
}

/* How many entries are at or before pos. */
static uint32_t entries_to(const struct seg_index *ix, uint64_t pos)
{
    uint32_t lo = 0, hi = ix->offsets_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (ix->offsets[mid].pos <= pos)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The last known batch boundary at or before pos. */
uint64_t seg_index_find_pos(const struct segment *seg, uint64_t pos)
{
    uint32_t n = entries_to(&seg->index, pos);
    return n == 0 ? 0 : seg->index.offsets[n - 1].pos;
}

/* Of the batch at pos, a known boundary. */
int64_t seg_index_last_offset(const struct segment *seg, uint64_t pos)
{
    uint32_t n = entries_to(&seg->index, pos);
    ASSERT(n > 0 && seg->index.offsets[n - 1].pos == pos);
    return seg->base_offset + seg->index.offsets[n - 1].relative_offset;
}

/* The first one behind it; the end of the segment, if there is none. */
uint64_t seg_index_next_pos(const struct segment *seg, uint64_t pos)
{
    uint32_t n = entries_to(&seg->index, pos);
    return n == seg->index.offsets_n ? seg->end_pos : seg->index.offsets[n].pos;
}

/* The offset at which to start walking to find the first record at or after timestamp: everything
 * before is older, as time entries hold the largest timestamp so far. */
int64_t seg_index_find_time(const struct segment *seg, int64_t timestamp_ms)
{
    const struct seg_index *ix = &seg->index;
    uint32_t lo = 0, hi = ix->times_n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (ix->times[mid].timestamp < timestamp_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return seg->base_offset + (lo == 0 ? 0 : ix->times[lo - 1].relative_offset);
}

void seg_index_fini(struct seg_index *ix)
{
    free(ix->offsets);
    free(ix->times);
    *ix = (struct seg_index){.max_timestamp = -1};
}

static void offsets_push(struct seg_index *ix, struct index_entry entry)
{
    if (grow((void **)&ix->offsets, ix->offsets_n, &ix->offsets_cap, sizeof(entry)))
        ix->offsets[ix->offsets_n++] = entry;
}

/* Forgets what it says of batches below pos, where offset begins. */
void seg_index_drop_below(struct segment *seg, uint64_t pos, int64_t offset)
{
    struct seg_index *ix = &seg->index;
    uint32_t n = 0;
    for (uint32_t i = 0; i < ix->offsets_n; i++)
        if (ix->offsets[i].pos >= pos)
            ix->offsets[n++] = ix->offsets[i];
    ix->offsets_n = n;
    n = 0;
    for (uint32_t i = 0; i < ix->times_n; i++)
        if (seg->base_offset + ix->times[i].relative_offset >= offset)
            ix->times[n++] = ix->times[i];
    ix->times_n = n;
    if (ix->max_timestamp_offset < offset)
        ix->max_timestamp = -1;
    seg->index_complete = false;
}

/* Puts `older`, the index of the bytes below index_from, before what the segment has; takes it. */
void seg_index_complete(struct segment *seg, struct seg_index *older)
{
    struct seg_index *ix = &seg->index;
    times_add(older, seg->base_offset);
    for (uint32_t i = 0; i < ix->offsets_n; i++)
        offsets_push(older, ix->offsets[i]);
    for (uint32_t i = 0; i < ix->times_n; i++) {
        if (ix->times[i].timestamp <= older->max_timestamp)
            continue;
        older->max_timestamp = ix->times[i].timestamp;
        older->max_timestamp_offset = seg->base_offset + ix->times[i].relative_offset;
        times_add(older, seg->base_offset);
    }
    if (ix->max_timestamp > older->max_timestamp) {
        older->max_timestamp = ix->max_timestamp;
        older->max_timestamp_offset = ix->max_timestamp_offset;
    }
    older->indexed_pos = MAX(older->indexed_pos, ix->indexed_pos);
    seg_index_fini(ix);
    *ix = *older;
    seg->index_complete = true;
}

int seg_index_encode(struct segment *seg, uint8_t **ret_offsets, size_t *ret_offsets_len,
                     uint8_t **ret_times, size_t *ret_times_len)
{
    struct seg_index *ix = &seg->index;
    times_add(ix, seg->base_offset); /* the last entry is the segment's largest timestamp */
    uint8_t *offsets = malloc(ix->offsets_n * OFFSET_ENTRY_BYTES + 1);
    uint8_t *times = malloc(ix->times_n * TIME_ENTRY_BYTES + 1);
    if (offsets == NULL || times == NULL) {
        free(offsets);
        free(times);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < ix->offsets_n; i++) {
        be_store32(offsets + i * OFFSET_ENTRY_BYTES, ix->offsets[i].relative_offset);
        be_store32(offsets + i * OFFSET_ENTRY_BYTES + 4, ix->offsets[i].pos);
    }
    for (uint32_t i = 0; i < ix->times_n; i++) {
        be_store64(times + i * TIME_ENTRY_BYTES, (uint64_t)ix->times[i].timestamp);
        be_store32(times + i * TIME_ENTRY_BYTES + 8, ix->times[i].relative_offset);
    }
    *ret_offsets = offsets;
    *ret_offsets_len = ix->offsets_n * OFFSET_ENTRY_BYTES;
    *ret_times = times;
    *ret_times_len = ix->times_n * TIME_ENTRY_BYTES;
    return 0;
}

static bool offsets_plausible(const struct segment *seg, const char *data, size_t len)
{
    uint32_t last_offset = 0, last_pos = 0;
    if (len % OFFSET_ENTRY_BYTES != 0)
        return false;
    for (size_t at = 0; at < len; at += OFFSET_ENTRY_BYTES) {
        uint32_t offset = be_load32(data + at), pos = be_load32(data + at + 4);
        if (at > 0 && (offset <= last_offset || pos <= last_pos))
            return false;
        if (pos >= seg->end_pos || seg->base_offset + offset >= seg->end_offset)
            return false;
        last_offset = offset;
        last_pos = pos;
    }
    return true;
}

static bool times_plausible(const struct segment *seg, const char *data, size_t len)
{
    int64_t last = INT64_MIN;
    if (len == 0 || len % TIME_ENTRY_BYTES != 0)
        return false;
    for (size_t at = 0; at < len; at += TIME_ENTRY_BYTES) {
        int64_t timestamp = (int64_t)be_load64(data + at);
        if (timestamp <= last || seg->base_offset + be_load32(data + at + 8) >= seg->end_offset)
            return false;
        last = timestamp;
    }
    return true;
}

/* Takes the contents of a sealed segment's index files; -EBADMSG when they cannot be right (the
 * caller then rebuilds them from the segment). */
int seg_index_decode(struct segment *seg, const char *offsets, size_t offsets_len,
                     const char *times, size_t times_len)
{
    if (!offsets_plausible(seg, offsets, offsets_len) || !times_plausible(seg, times, times_len))
        return -EBADMSG;
    seg_index_fini(&seg->index);
    struct seg_index *ix = &seg->index;
    ix->offsets_cap = (uint32_t)(offsets_len / OFFSET_ENTRY_BYTES);
    ix->times_cap = (uint32_t)(times_len / TIME_ENTRY_BYTES);
    ix->offsets = malloc(MAX(ix->offsets_cap, 1u) * sizeof(*ix->offsets));
    ix->times = malloc(MAX(ix->times_cap, 1u) * sizeof(*ix->times));
    if (ix->offsets == NULL || ix->times == NULL) {
        seg_index_fini(ix);
        return -ENOMEM;
    }
    for (; ix->offsets_n < ix->offsets_cap; ix->offsets_n++) {
        const char *e = offsets + (size_t)ix->offsets_n * OFFSET_ENTRY_BYTES;
        ix->offsets[ix->offsets_n] = (struct index_entry){be_load32(e), be_load32(e + 4)};
    }
    for (; ix->times_n < ix->times_cap; ix->times_n++) {
        const char *e = times + (size_t)ix->times_n * TIME_ENTRY_BYTES;
        ix->times[ix->times_n] = (struct time_entry){(int64_t)be_load64(e), be_load32(e + 8)};
    }
    const struct time_entry *last = &ix->times[ix->times_n - 1];
    ix->max_timestamp = last->timestamp;
    ix->max_timestamp_offset = seg->base_offset + last->relative_offset;
    return 0;
}
