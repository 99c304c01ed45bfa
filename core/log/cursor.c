/* cursor.c: batch by batch through a segment, asking of each whether it is the one that belongs
 * there and passing over damage that is known. For reads and look-ups. Damage that is not known yet
 * makes the segment suspect: load.c then walks all of it once and knows every stretch. */
#include "core/log/internal.h"

#include <errno.h>

struct verify_place seg_place(const struct segment *seg)
{
    const struct plog *p = seg->plog;
    return (struct verify_place){seg->base_offset, seg->base_offset, seg->end_offset, p->epochs,
                                 p->epochs_n};
}

/* At a known batch boundary at or before offset; false: the index has to be loaded. */
bool seg_cursor_start(struct seg_cursor *c, struct segment *seg, int64_t offset)
{
    int64_t last_offset;
    uint64_t pos = seg_index_find(seg, offset, &last_offset);
    *c = (struct seg_cursor){seg, pos, VERIFY_ANY_OFFSET, last_offset};
    if (pos > 0)
        return true;
    c->offset = seg->base_offset;
    if (seg->index_complete)
        return true;
    if (offset < seg->plog->recovered_offset || seg->state != SEGMENT_OPEN)
        return false;
    c->pos = seg->index_from;
    c->offset = seg->index_from_offset;
    return true;
}

/* True: there is no batch at the cursor, it stands behind what is lost now. */
bool seg_cursor_skip(struct seg_cursor *c)
{
    const struct damage *d = seg_damage_at(c->seg, c->pos);
    if (d == NULL)
        return false;
    c->pos = d->to_pos;
    c->offset = d->to_offset;
    return true;
}

static struct verify_place place_of(const struct seg_cursor *c)
{
    struct verify_place place = seg_place(c->seg);
    place.offset = c->offset;
    return place;
}

static bool is_of_entry(const struct seg_cursor *c, const struct batch_header *h)
{
    return c->offset != VERIFY_ANY_OFFSET || batch_last_offset(h) == c->last_offset;
}

/* The header at the cursor; data are the bytes from there on. -EAGAIN: too few; -EBADMSG: it is not
 * that of the batch that belongs here. */
int seg_cursor_peek(const struct seg_cursor *c, const uint8_t *data, uint64_t avail_bytes,
                    struct batch_header *ret)
{
    struct verify_place place = place_of(c);
    int rc = verify_header(&place, data, avail_bytes, ret);
    return rc == 0 && !is_of_entry(c, ret) ? -EBADMSG : rc;
}

/* The same of the whole batch. */
int seg_cursor_verify(const struct seg_cursor *c, const uint8_t *data, uint64_t avail_bytes,
                      struct batch_header *ret)
{
    struct verify_place place = place_of(c);
    int rc = verify_batch(&place, data, avail_bytes, ret);
    return rc == 0 && !is_of_entry(c, ret) ? -EBADMSG : rc;
}

void seg_cursor_pass(struct seg_cursor *c, const struct batch_header *h)
{
    c->pos += h->len_bytes;
    c->offset = batch_last_offset(h) + 1;
}
