/* segment.c: segments of a partition, their names and size classes, and which journal write each
 * of their blocks still needs (pins). */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define POOLED_BYTES_MIN (256u * 1024u) /* smaller files are not worth keeping */

/* Of no list yet. */
struct segment *segment_alloc(struct plog *p, int64_t base_offset)
{
    struct segment *seg = calloc(1, sizeof(*seg));
    if (seg == NULL)
        return NULL;
    seg->plog = p;
    seg->base_offset = seg->end_offset = base_offset;
    seg->index.max_timestamp = -1;
    seg->first_timestamp = seg->last_timestamp = -1;
    seg->size_known = seg->index_complete = true;
    seg->opened_ns = env_now_ns(p->store->env);
    list_init(&seg->chunks);
    list_init(&seg->loads);
    list_init(&seg->runs_written);
    list_init(&seg->runs_flushing);
    return seg;
}

struct segment *segment_create(struct plog *p, int64_t base_offset)
{
    struct segment *seg = segment_alloc(p, base_offset);
    if (seg == NULL)
        return NULL;
    struct list_node *after = p->segments.prev;
    while (after != &p->segments &&
           container_of(after, struct segment, link)->base_offset > base_offset)
        after = after->prev;
    list_insert_between(&seg->link, after, after->next);
    return seg;
}

void segment_destroy(struct segment *seg)
{
    ASSERT(seg->file_refs == 0);
    ASSERT(list_empty(&seg->loads));
    if (seg->file != NULL) {
        env_file_close(seg->plog->store->env, seg->file);
        seg->plog->store->open_sealed_n -= seg->state == SEGMENT_SEALED;
    }
    seg_source_drop(seg);
    windows_forget(seg);
    seg_drop_chunks(seg);
    seg_index_fini(&seg->index);
    list_remove(&seg->link);
    free(seg->pins);
    free(seg->damages);
    free(seg);
}

/* With bytes in it that are not in its file, or not even stable. */
void segment_discard(struct segment *seg)
{
    struct log_store *s = seg->plog->store;
    s->behind_bytes -= seg->stable_pos - seg->destaged_pos;
    s->fresh_bytes -= seg->end_pos - seg->queued_pos;
    segment_destroy(seg);
}

/* What retention goes by: the largest timestamp; without any the time when it was sealed, or is
 * asked. False: it may be larger, its index has to be loaded first. */
bool segment_last_timestamp(const struct segment *seg, int64_t *ret)
{
    bool known = seg->last_timestamp >= 0 || seg->index_complete;
    *ret = MAX(seg->last_timestamp, seg->index.max_timestamp);
    if (known && *ret < 0)
        *ret = env_wall_ms(seg->plog->store->env);
    return known;
}

void segment_sealed(struct segment *seg)
{
    int64_t last;
    seg->state = SEGMENT_SEALED;
    if (segment_last_timestamp(seg, &last))
        seg->last_timestamp = last;
}

/* The smallest size of file that holds so many bytes, or the largest there is. */
uint64_t segment_class_for(const struct plog *p, uint64_t bytes)
{
    unsigned class = 0;
    while (class + 1 < SEGMENT_CLASSES && segment_class_bytes(p, class) < bytes)
        class ++;
    return segment_class_bytes(p, class);
}

/* The size at which its file would be of use to another segment; 0: none. */
uint64_t segment_pool_bytes(const struct segment *seg)
{
    struct plog *p = seg->plog;
    uint64_t reserved = MAX(pool_reserve_max(p->store, p->dir), buddy_round(seg->end_pos));
    uint64_t bytes = MIN(segment_class_for(p, seg->end_pos), reserved);
    bool fits = bytes >= MAX(seg->end_pos, (uint64_t)POOLED_BYTES_MIN);
    return fits && seg->on_disk && seg->size_known && !seg->was_source ? bytes : 0;
}

/* The one behind it in the log; NULL: it is the last. */
struct segment *segment_next(const struct segment *seg)
{
    struct list_node *next = seg->link.next;
    return next == &seg->plog->segments ? NULL : container_of(next, struct segment, link);
}

struct segment *plog_active(const struct plog *p)
{
    return list_empty(&p->segments) ? NULL : container_of(p->segments.prev, struct segment, link);
}

/* The segment that holds offset, or the first one behind it; NULL: none. */
struct segment *plog_segment_for(const struct plog *p, int64_t offset)
{
    struct segment *found = NULL;
    for (struct list_node *it = p->segments.prev; it != &p->segments; it = it->prev) {
        struct segment *seg = container_of(it, struct segment, link);
        if (offset >= seg->end_offset)
            break;
        found = seg;
        if (offset >= seg->base_offset)
            break;
    }
    return found;
}

char *segment_path(const struct segment *seg, const char *suffix, char *buf, size_t size)
{
    snprintf(buf, size, "%s/%020lld%s", seg->plog->path, (long long)seg->base_offset, suffix);
    return buf;
}

uint64_t segment_class_bytes(const struct plog *p, unsigned class)
{
    uint64_t bytes = (uint64_t)SEGMENT_CLASS_MIN_BYTES << (4 * MIN(class, SEGMENT_CLASSES - 1));
    return MIN(bytes, block_ceil((uint64_t)p->config.segment_bytes));
}

/* The newest checkpoint's image of this segment, or the next one's, reaches at least to here: the
 * block at destaged_pos, and whatever an earlier checkpoint took over from the journal. */
uint64_t segment_image_end(const struct segment *seg)
{
    uint64_t end = MAX(seg->destaged_pos + BLOCK_BYTES, seg->image_pos);
    return MIN(end, seg->stable_pos);
}

static struct pin *pin_at(const struct segment *seg, uint32_t i)
{
    return &seg->pins[seg->pins_first + i];
}

/* Records which journal write holds the bytes from from_pos on; one entry a block is enough. */
void segment_pin(struct segment *seg, uint64_t from_pos, uint64_t virtual_pos)
{
    if (seg->pins_n > 0 &&
        block_floor(pin_at(seg, seg->pins_n - 1)->from_pos) == block_floor(from_pos))
        return;
    if (seg->pins_first > 0 && seg->pins_first + seg->pins_n == seg->pins_cap) {
        memmove(seg->pins, seg->pins + seg->pins_first, seg->pins_n * sizeof(*seg->pins));
        seg->pins_first = 0;
    }
    if (seg->pins_n == seg->pins_cap) {
        uint32_t cap = MAX(seg->pins_cap * 2, 8u);
        struct pin *pins = realloc(seg->pins, cap * sizeof(*pins));
        ASSERT(pins != NULL || seg->pins_n > 0);
        if (pins == NULL)
            return; /* coarser but safe: the entry before speaks for these bytes too */
        seg->pins = pins;
        seg->pins_cap = cap;
    }
    *pin_at(seg, seg->pins_n++) = (struct pin){from_pos, virtual_pos};
}

/* Drops entries that no byte behind the image needs: all but the last one at or before its end. */
void segment_unpin(struct segment *seg)
{
    uint64_t needed_pos = MAX(seg->destaged_pos + BLOCK_BYTES, seg->image_pos);
    if (seg->destaged_pos == seg->end_pos)
        seg->pins_n = 0;
    while (seg->pins_n > 1 && pin_at(seg, 1)->from_pos <= needed_pos) {
        seg->pins_first++;
        seg->pins_n--;
    }
    if (seg->pins_n == 0)
        seg->pins_first = 0;
}

/* Virtual journal position from which replay must start for this segment; UINT64_MAX: none. */
uint64_t segment_pin_of(const struct segment *seg)
{
    uint64_t needed_pos = segment_image_end(seg);
    if (seg->stable_pos <= needed_pos)
        return UINT64_MAX;
    ASSERT(seg->pins_n > 0);
    uint64_t virtual_pos = pin_at(seg, 0)->virtual_pos;
    for (uint32_t i = 1; i < seg->pins_n && pin_at(seg, i)->from_pos <= needed_pos; i++)
        virtual_pos = pin_at(seg, i)->virtual_pos;
    return virtual_pos;
}
