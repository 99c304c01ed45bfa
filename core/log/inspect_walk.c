/* inspect_walk.c: the batches of a segment one after the other, and what is damaged between them.
 *
 * At each place the batch that follows is expected. When it is not there, the damage ends, in this
 * order of trust: where the length of a legible header leads and a batch follows; at the first
 * batch found by its CRC whose successors lead to a place that the index names, or to the end; at
 * the next place that the index names; at the end. A batch that a client sent as the value of a
 * record is so not taken for one of the log's. */
#include "core/log/inspect.h"

#include <errno.h>

#include "core/base/bytes.h"
#include "core/batch/scan.h"
#include "core/log/verify.h"

#define SCAN_BYTES (1u << 20)        /* looked through at a time */
#define SCAN_BATCH_BYTES (64u << 20) /* no longer batch is looked for behind damage */
#define CHAIN_BATCHES 8u             /* that follow each other make a find certain */
#define TERMINATOR_LENGTH 0x7fffffffu

static const uint8_t *memory_at(struct inspect_bytes *bytes, uint64_t pos, uint64_t len_bytes)
{
    struct inspect_memory *m = (struct inspect_memory *)bytes;
    bool there = pos <= bytes->size_bytes && len_bytes <= bytes->size_bytes - pos;
    return there ? m->data + pos : NULL;
}

void inspect_memory_init(struct inspect_memory *m, const uint8_t *data, uint64_t len_bytes)
{
    *m = (struct inspect_memory){{memory_at, len_bytes}, data};
}

void inspect_walk_init(struct inspect_walk *w, struct inspect_bytes *bytes, int64_t base_offset,
                       int64_t end_offset)
{
    *w = (struct inspect_walk){
        .bytes = bytes,
        .end_pos = bytes->size_bytes,
        .end_offset = end_offset,
        .base_offset = base_offset,
        .next_offset = base_offset,
    };
}

void inspect_walk_end(struct inspect_walk *w, uint64_t end_pos)
{
    w->end_known = true;
    w->end_pos = end_pos;
}

/* ---- looking at one place ---- */

static bool header_at(struct inspect_walk *w, uint64_t pos, struct batch_header *ret)
{
    if (pos > w->end_pos || w->end_pos - pos < BATCH_HEADER_BYTES)
        return false;
    const uint8_t *p = w->bytes->at(w->bytes, pos, BATCH_HEADER_BYTES);
    return p != NULL && batch_peek(p, BATCH_HEADER_BYTES, ret) == 0 &&
           ret->len_bytes <= w->end_pos - pos;
}

/* A whole batch with a right CRC that can be one of this segment's from next_offset on. */
static const uint8_t *batch_at(struct inspect_walk *w, uint64_t pos, struct batch_header *ret)
{
    struct verify_place place = {VERIFY_ANY_OFFSET, w->next_offset, w->end_offset, w->epochs,
                                 w->epochs_n};
    if (!header_at(w, pos, ret))
        return NULL;
    const uint8_t *data =
        w->bytes->at(w->bytes, pos, w->headers_only ? BATCH_HEADER_BYTES : ret->len_bytes);
    if (data == NULL)
        return NULL;
    int rc = w->headers_only ? verify_header(&place, data, BATCH_HEADER_BYTES, ret)
                             : verify_batch(&place, data, ret->len_bytes, ret);
    return rc == 0 ? data : NULL;
}

static bool terminator_at(struct inspect_walk *w, uint64_t pos)
{
    if (pos > w->end_pos || w->end_pos - pos < BATCH_LOG_OVERHEAD)
        return false;
    const uint8_t *p = w->bytes->at(w->bytes, pos, BATCH_LOG_OVERHEAD);
    return p != NULL && be_load32(p + 8) == TERMINATOR_LENGTH;
}

static bool ends_with(const struct inspect_walk *w, int64_t offset)
{
    return w->end_offset == INT64_MAX || offset == w->end_offset;
}

/* The log goes on, or ends, at pos with offset. */
static bool follows(struct inspect_walk *w, uint64_t pos, int64_t offset)
{
    struct batch_header h;
    if (pos == w->end_pos)
        return ends_with(w, offset);
    if (!w->end_known && terminator_at(w, pos))
        return true;
    return batch_at(w, pos, &h) != NULL && h.base_offset == offset;
}

/* ---- behind damage ---- */

static struct inspect_offset_entry entry_at(const struct inspect_walk *w, size_t i)
{
    return inspect_offset_entry(w->index + i * INSPECT_OFFSET_ENTRY_BYTES, w->base_offset);
}

/* The next place at or behind pos where the index says that a batch begins, and one does; or the
 * end. */
static uint64_t boundary(struct inspect_walk *w, uint64_t pos)
{
    size_t n = w->index_len / INSPECT_OFFSET_ENTRY_BYTES, lo = 0, hi = n;
    struct batch_header h;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (entry_at(w, mid).pos < pos)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < n; lo++) {
        struct inspect_offset_entry e = entry_at(w, lo);
        if (e.pos >= pos && batch_at(w, e.pos, &h) != NULL && batch_last_offset(&h) == e.offset)
            return e.pos;
    }
    return w->end_pos;
}

/* From the batch at pos on, batches follow each other up to limit, or enough of them. */
static bool chain_holds(struct inspect_walk *w, uint64_t pos, uint64_t limit)
{
    struct batch_header h;
    int64_t expected = -1;
    for (unsigned i = 0; i < CHAIN_BATCHES && pos != limit; i++) {
        if (pos > limit || batch_at(w, pos, &h) == NULL || (i > 0 && h.base_offset != expected))
            return false;
        expected = batch_last_offset(&h) + 1;
        pos += h.len_bytes;
    }
    return pos != w->end_pos || expected == -1 || ends_with(w, expected);
}

/* One window of the search: the first batch in [from, limit) that its successors confirm. True
 * when found; else *ret_pos is where to go on. */
static bool scan_window(struct inspect_walk *w, uint64_t from, uint64_t limit, uint64_t *ret_pos)
{
    struct batch_scan scan = {w->next_offset, w->end_offset, SCAN_BATCH_BYTES};
    uint64_t want = MIN((uint64_t)SCAN_BYTES, w->end_pos - from);
    struct batch_header h;
    size_t found;
    for (size_t at = 0;;) {
        const uint8_t *p = w->bytes->at(w->bytes, from, want);
        int rc = p == NULL ? -ENOENT : batch_scan_next(&scan, p, want, at, &found, &h);
        if (p == NULL)
            found = want;
        *ret_pos = from + found;
        if (rc == -ENOENT || *ret_pos >= limit)
            return false;
        if (rc == -EAGAIN && h.len_bytes <= w->end_pos - *ret_pos && found > 0)
            return false; /* again from there, where it is whole */
        if (rc == -EAGAIN && h.len_bytes <= w->end_pos - *ret_pos) {
            want = h.len_bytes;
            continue;
        }
        if (rc == 0 && chain_holds(w, *ret_pos, limit))
            return true;
        at = found + 1;
    }
}

/* Where the next trustworthy batch begins behind the damage at pos, or the end. */
static uint64_t damage_end(struct inspect_walk *w, uint64_t pos)
{
    struct batch_header h;
    if (header_at(w, pos, &h) && batch_at(w, pos + h.len_bytes, &h) != NULL &&
        chain_holds(w, pos + h.len_bytes, boundary(w, pos + h.len_bytes)))
        return pos + h.len_bytes;
    for (uint64_t from = pos + 1; from < w->end_pos;) {
        uint64_t limit = boundary(w, from);
        if (limit > from && scan_window(w, from, limit, &from))
            return from;
        if (limit <= from && limit < w->end_pos && batch_at(w, limit, &h) != NULL)
            return limit;
        from = MAX(from, limit <= from ? from + 1 : from);
        if (w->end_pos - MIN(from, w->end_pos) < BATCH_HEADER_BYTES)
            break;
    }
    return w->end_pos;
}

/* ---- one step ---- */

static void piece_damage(struct inspect_walk *w, struct inspect_piece *ret, uint64_t len_bytes,
                         int64_t end_offset, const char *what)
{
    *ret = (struct inspect_piece){
        .kind = INSPECT_DAMAGE,
        .pos = w->pos,
        .len_bytes = len_bytes,
        .first_offset = w->next_offset,
        .end_offset = end_offset,
        .what = what,
    };
    w->pos += len_bytes;
    w->next_offset = end_offset;
}

static void piece_end(const struct inspect_walk *w, struct inspect_piece *ret, const char *what)
{
    *ret = (struct inspect_piece){
        .kind = INSPECT_END,
        .pos = w->pos,
        .len_bytes = w->bytes->size_bytes - MIN(w->pos, w->bytes->size_bytes),
        .first_offset = w->next_offset,
        .end_offset = w->next_offset,
        .what = what,
    };
}

static void piece_batch(struct inspect_walk *w, struct inspect_piece *ret,
                        const struct batch_header *h)
{
    *ret = (struct inspect_piece){
        .kind = INSPECT_BATCH,
        .pos = w->pos,
        .len_bytes = h->len_bytes,
        .first_offset = h->base_offset,
        .end_offset = batch_last_offset(h) + 1,
        .h = *h,
        .data = w->headers_only ? NULL : w->bytes->at(w->bytes, w->pos, h->len_bytes),
    };
    w->pos += h->len_bytes;
    w->next_offset = ret->end_offset;
}

/* A legible header at pos, whatever base offset it says, whose batch is bad, and behind which the
 * log goes on. */
static bool lone_damage(struct inspect_walk *w, struct inspect_piece *ret)
{
    struct batch_header h, here;
    struct batch_scan bounds = {w->next_offset, w->end_offset, 0};
    if (!header_at(w, w->pos, &h))
        return false;
    here = h;
    here.base_offset = w->next_offset;
    if (!batch_header_plausible(&bounds, &here))
        return false;
    int64_t end_offset = w->next_offset + h.last_offset_delta + 1;
    if (!follows(w, w->pos + h.len_bytes, end_offset))
        return false;
    const uint8_t *data = w->bytes->at(w->bytes, w->pos, h.len_bytes);
    bool crc_ok = data != NULL && batch_crc_ok(data, &h);
    const char *what = "a batch with a wrong checksum";
    if (crc_ok)
        what = h.base_offset == w->next_offset ? "a batch whose leader epoch is wrong"
                                               : "a batch whose base offset is wrong";
    piece_damage(w, ret, h.len_bytes, end_offset, what);
    return true;
}

static const char *rest_name(struct inspect_walk *w)
{
    if (terminator_at(w, w->pos))
        return "terminator";
    return "no batch that follows";
}

static void damage_search(struct inspect_walk *w, struct inspect_piece *ret)
{
    struct batch_header h;
    uint64_t end = damage_end(w, w->pos);
    int64_t end_offset = w->end_offset;
    const char *what = "no batch";
    if (end < w->end_pos && batch_at(w, end, &h) != NULL)
        end_offset = h.base_offset;
    else if (end_offset == INT64_MAX) /* how many they were is not known */
        end_offset = w->next_offset;
    piece_damage(w, ret, end - w->pos, end_offset, what);
}

void inspect_walk_next(struct inspect_walk *w, struct inspect_piece *ret)
{
    struct batch_header h;
    if (w->pos >= w->end_pos) {
        if (w->end_known && w->end_offset != INT64_MAX && w->next_offset < w->end_offset)
            piece_damage(w, ret, 0, w->end_offset, "the segment ends before them");
        else
            piece_end(w, ret, "end");
        return;
    }
    bool good = batch_at(w, w->pos, &h) != NULL;
    if (good && h.base_offset == w->next_offset)
        piece_batch(w, ret, &h);
    else if (lone_damage(w, ret))
        return;
    else if (good && (!w->end_known || chain_holds(w, w->pos, boundary(w, w->pos + 1))))
        piece_damage(w, ret, 0, h.base_offset, "offsets are missing");
    else if (!w->end_known)
        piece_end(w, ret, rest_name(w));
    else
        damage_search(w, ret);
}
