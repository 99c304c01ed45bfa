#include "core/log/verify.h"

#include <errno.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/batch/scan.h"

/* False: the history says that it is another one. */
static bool epoch_belongs(const struct verify_place *place, const struct batch_header *h)
{
    for (uint32_t i = place->epochs_n; i-- > 0;)
        if (place->epochs[i].start_offset <= h->base_offset)
            return place->epochs[i].epoch == h->leader_epoch;
    return true;
}

static struct batch_scan scan_of(const struct verify_place *place)
{
    int64_t first = place->offset == VERIFY_ANY_OFFSET ? place->first_offset : place->offset;
    return (struct batch_scan){.first_offset = MAX(first, 0), .end_offset = place->end_offset};
}

int verify_header(const struct verify_place *place, const uint8_t *data, size_t avail_bytes,
                  struct batch_header *ret)
{
    struct batch_scan scan = scan_of(place);
    struct batch_header h;
    int rc = batch_peek(data, avail_bytes, &h);
    if (rc != 0)
        return rc;
    if ((place->offset != VERIFY_ANY_OFFSET && h.base_offset != place->offset) ||
        !batch_header_plausible(&scan, &h) || !epoch_belongs(place, &h))
        return -EBADMSG;
    *ret = h;
    return 0;
}

int verify_batch(const struct verify_place *place, const uint8_t *data, size_t avail_bytes,
                 struct batch_header *ret)
{
    struct batch_header h;
    int rc = verify_header(place, data, avail_bytes, &h);
    if (rc != 0)
        return rc;
    *ret = h;
    if (h.len_bytes > avail_bytes)
        return -EAGAIN;
    return batch_crc_ok(data, &h) ? 0 : -EBADMSG;
}

#define CHAIN_BATCHES 8u           /* that must follow what was found by search, */
#define CHAIN_BYTES (256u * 1024u) /* or so much of them */

/* Does the log go on at `at` as it would behind a batch that ends there with next_offset? */
static int goes_on(const struct verify_walk *w, size_t at, int64_t next_offset)
{
    struct verify_place place = w->place;
    struct batch_header h;
    if (at == w->len_bytes)
        return !w->last ? -EAGAIN : next_offset == place.end_offset ? 0 : -EBADMSG;
    place.offset = next_offset;
    int rc = verify_batch(&place, w->data + at, w->len_bytes - at, &h);
    return rc == -EAGAIN && w->last ? -EBADMSG : rc;
}

/* ... and so on for a while: two batches in a row may lie in somebody's record. A batch that is
 * damaged itself goes on by its header. */
static int goes_on_far(const struct verify_walk *w, size_t at, int64_t next_offset)
{
    struct verify_place place = w->place;
    size_t enough = at + CHAIN_BYTES;
    for (unsigned i = 0; i < CHAIN_BATCHES && at < enough && !(w->last && at == w->len_bytes);
         i++) {
        struct batch_header h;
        place.offset = next_offset;
        int rc = verify_header(&place, w->data + at, w->len_bytes - at, &h);
        if (rc != 0)
            return rc == -EAGAIN && w->last ? -EBADMSG : rc;
        if (h.len_bytes > w->len_bytes - at)
            return w->last ? -EBADMSG : -EAGAIN;
        at += h.len_bytes;
        next_offset = batch_last_offset(&h) + 1;
    }
    return 0;
}

/* Damage that left the header alone: the batch's own length leads behind it. */
static int resume_by_length(const struct verify_walk *w, size_t *ret_to, int64_t *ret_offset)
{
    struct batch_header h;
    size_t have = w->len_bytes - w->pos;
    int rc = verify_header(&w->place, w->data + w->pos, have, &h);
    if (rc == 0 && h.len_bytes > have)
        rc = -EAGAIN;
    if (rc == 0)
        rc = goes_on(w, w->pos + h.len_bytes, batch_last_offset(&h) + 1);
    if (rc == 0) {
        *ret_to = w->pos + h.len_bytes;
        *ret_offset = batch_last_offset(&h) + 1;
    }
    return rc == -EAGAIN && w->last ? -EBADMSG : rc;
}

static int resume_by_search(const struct verify_walk *w, size_t *ret_to, int64_t *ret_offset)
{
    struct verify_place place = w->place;
    struct batch_scan scan = scan_of(&place);
    struct batch_header h;
    size_t at = MIN(w->pos + !w->search, w->len_bytes);
    place.first_offset = scan.first_offset;
    place.offset = VERIFY_ANY_OFFSET;
    for (;;) {
        int rc = batch_scan_next(&scan, w->data, w->len_bytes, at, &at, &h);
        if (rc == -EAGAIN && !w->last)
            return -EAGAIN;
        if (rc == -ENOENT)
            break;
        if (rc == 0 && !epoch_belongs(&place, &h))
            rc = -EBADMSG;
        if (rc == 0)
            rc = goes_on(w, at + h.len_bytes, batch_last_offset(&h) + 1);
        if (rc == 0)
            rc = goes_on_far(w, at + h.len_bytes, batch_last_offset(&h) + 1);
        if (rc == -EAGAIN)
            return -EAGAIN;
        if (rc == 0) {
            *ret_to = at;
            *ret_offset = h.base_offset;
            return 0;
        }
        at++;
    }
    if (!w->last)
        return -EAGAIN;
    *ret_to = w->len_bytes;
    *ret_offset = place.end_offset;
    return 0;
}

static int damaged_piece(struct verify_walk *w, struct verify_piece *ret)
{
    size_t to;
    int64_t offset;
    int rc = w->search ? -EBADMSG : resume_by_length(w, &to, &offset);
    if (rc == -EBADMSG)
        rc = resume_by_search(w, &to, &offset);
    if (rc != 0)
        return rc;
    *ret = (struct verify_piece){
        .from = w->pos, .to = to, .from_offset = w->place.offset, .to_offset = offset};
    w->pos = to;
    w->place.offset = offset;
    w->search = false;
    return 1;
}

int verify_walk_next(struct verify_walk *w, struct verify_piece *ret)
{
    struct batch_header h;
    ASSERT(w->pos <= w->len_bytes);
    size_t have = w->len_bytes - w->pos;
    if (have == 0 && !(w->last && w->place.offset < w->place.end_offset))
        return 0;
    int rc = w->search ? -EBADMSG : verify_batch(&w->place, w->data + w->pos, have, &h);
    if (rc == -EAGAIN && !w->last)
        return -EAGAIN;
    if (rc != 0)
        return damaged_piece(w, ret);
    *ret = (struct verify_piece){
        true, w->pos, w->pos + h.len_bytes, h.base_offset, batch_last_offset(&h) + 1, h};
    w->pos = ret->to;
    w->place.offset = ret->to_offset;
    return 1;
}
