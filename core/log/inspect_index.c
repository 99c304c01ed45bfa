/* inspect_index.c: index files held against the segment that they belong to, and made anew. */
#include <errno.h>

#include "core/log/inspect.h"
#include "core/log/internal.h"

/* The base is that of a file's name: it can be anything. */
static int64_t offset_of(int64_t base_offset, uint32_t relative_offset)
{
    return (int64_t)((uint64_t)base_offset + relative_offset);
}

struct inspect_offset_entry inspect_offset_entry(const uint8_t *entry, int64_t base_offset)
{
    return (struct inspect_offset_entry){offset_of(base_offset, be_load32(entry)),
                                         be_load32(entry + 4)};
}

struct inspect_time_entry inspect_time_entry(const uint8_t *entry, int64_t base_offset)
{
    return (struct inspect_time_entry){(int64_t)be_load64(entry),
                                       offset_of(base_offset, be_load32(entry + 8))};
}

static void offsets_complain(struct inspect_index *ix, const char *what)
{
    if (ix->offsets_what != NULL)
        return;
    ix->offsets_what = what;
    ix->offsets_bad = ix->offsets_i;
}

static void times_complain(struct inspect_index *ix, const char *what)
{
    if (ix->times_what != NULL)
        return;
    ix->times_what = what;
    ix->times_bad = ix->times_i;
}

void inspect_index_init(struct inspect_index *ix, int64_t base_offset, const uint8_t *offsets,
                        size_t offsets_len, const uint8_t *times, size_t times_len)
{
    *ix = (struct inspect_index){
        .offsets = offsets,
        .times = times,
        .offsets_len = offsets_len,
        .times_len = times_len,
        .base_offset = base_offset,
        .max_timestamp = -1,
    };
    if (offsets == NULL)
        offsets_complain(ix, "there is no offset index");
    else if (offsets_len % INSPECT_OFFSET_ENTRY_BYTES != 0)
        offsets_complain(ix, "its length is no multiple of an entry's");
    if (times == NULL)
        times_complain(ix, "there is no time index");
    else if (times_len % INSPECT_TIME_ENTRY_BYTES != 0)
        times_complain(ix, "its length is no multiple of an entry's");
}

static void offsets_meet(struct inspect_index *ix, uint64_t pos, int64_t last_offset)
{
    while (ix->offsets_what == NULL &&
           ix->offsets_i < ix->offsets_len / INSPECT_OFFSET_ENTRY_BYTES) {
        struct inspect_offset_entry e = inspect_offset_entry(
            ix->offsets + (size_t)ix->offsets_i * INSPECT_OFFSET_ENTRY_BYTES, ix->base_offset);
        if (e.pos > pos)
            return;
        if (e.pos < pos)
            offsets_complain(ix, "an entry leads to no batch");
        else if (e.offset != last_offset)
            offsets_complain(ix, "an entry has another offset than the batch it leads to");
        else
            ix->offsets_i++;
    }
}

void inspect_index_damage(struct inspect_index *ix, const struct inspect_piece *damage)
{
    for (; ix->offsets_i < ix->offsets_len / INSPECT_OFFSET_ENTRY_BYTES; ix->offsets_i++) {
        const uint8_t *entry = ix->offsets + (size_t)ix->offsets_i * INSPECT_OFFSET_ENTRY_BYTES;
        if (inspect_offset_entry(entry, 0).pos >= damage->pos + damage->len_bytes)
            break;
    }
    for (; ix->times_i < ix->times_len / INSPECT_TIME_ENTRY_BYTES; ix->times_i++) {
        struct inspect_time_entry e = inspect_time_entry(
            ix->times + (size_t)ix->times_i * INSPECT_TIME_ENTRY_BYTES, ix->base_offset);
        if (e.offset >= damage->end_offset)
            break;
        ix->max_timestamp = MAX(ix->max_timestamp, e.timestamp);
    }
}

/* Entries hold the largest timestamp so far and the last offset of the batch that brought it. */
static void times_meet(struct inspect_index *ix)
{
    while (ix->times_what == NULL && ix->times_i < ix->times_len / INSPECT_TIME_ENTRY_BYTES) {
        struct inspect_time_entry e = inspect_time_entry(
            ix->times + (size_t)ix->times_i * INSPECT_TIME_ENTRY_BYTES, ix->base_offset);
        if (e.offset > ix->max_timestamp_offset)
            return;
        if (e.offset < ix->max_timestamp_offset || e.timestamp != ix->max_timestamp)
            times_complain(ix, "an entry is not the largest timestamp up to its offset");
        else
            ix->times_i++;
    }
}

void inspect_index_batch(struct inspect_index *ix, uint64_t pos, const struct batch_header *h)
{
    int64_t last_offset = batch_last_offset(h);
    offsets_meet(ix, pos, last_offset);
    if (h->max_timestamp <= ix->max_timestamp)
        return;
    ix->max_timestamp = h->max_timestamp;
    ix->max_timestamp_offset = last_offset;
    times_meet(ix);
}

void inspect_index_end(struct inspect_index *ix)
{
    if (ix->offsets_i < ix->offsets_len / INSPECT_OFFSET_ENTRY_BYTES)
        offsets_complain(ix, "an entry leads to no batch");
    size_t times_n = ix->times_len / INSPECT_TIME_ENTRY_BYTES;
    if (ix->times_i < times_n)
        times_complain(ix, "an entry is not the largest timestamp up to its offset");
    if (ix->times_what != NULL || ix->max_timestamp < 0)
        return;
    int64_t last = -1;
    if (times_n > 0)
        last =
            inspect_time_entry(ix->times + (times_n - 1) * INSPECT_TIME_ENTRY_BYTES, 0).timestamp;
    if (last != ix->max_timestamp)
        times_complain(ix, "the largest timestamp has no entry");
}

int inspect_index_build(struct inspect_walk *w, int64_t interval_bytes, uint8_t **ret_offsets,
                        size_t *ret_offsets_len, uint8_t **ret_times, size_t *ret_times_len)
{
    struct plog p = {.config = {.index_interval_bytes = interval_bytes}};
    struct segment seg = {.plog = &p, .base_offset = w->base_offset};
    struct inspect_piece piece;
    seg_index_fini(&seg.index);
    for (inspect_walk_next(w, &piece); piece.kind != INSPECT_END; inspect_walk_next(w, &piece))
        if (piece.kind == INSPECT_BATCH)
            seg_index_add(&seg.index, &seg, piece.pos, &piece.h);
    int rc = seg_index_encode(&seg, ret_offsets, ret_offsets_len, ret_times, ret_times_len);
    seg_index_fini(&seg.index);
    return rc;
}
