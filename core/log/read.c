/* read.c: records for consumers. Hot: memory is lent as it is. Else: windows of the segment, read
 * from its file (window.c), every batch verified before it is served. Always whole batches, from
 * the one that holds the offset on; if that is lost, from the next one that is not. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define DISK_READ_BYTES_MAX (4u * 1024u * 1024u)
#define WALKS_MAX 2u

struct read_job {
    struct plog_read *r;
    struct load_waiter waiter;
    struct window_waiter window_waiter;
    struct seg_cursor at; /* at or before the batch that holds the offset */
    unsigned walks;       /* of the segment, because of damage that was not known */
    bool sequential;      /* goes on where a read has ended */
};

/* ---- hot ---- */

static bool header_at(const struct segment *seg, uint64_t pos, struct batch_header *ret)
{
    uint8_t raw[BATCH_HEADER_BYTES];
    return seg_peek(seg, pos, raw, sizeof(raw)) && batch_peek(raw, sizeof(raw), ret) == 0;
}

/* Walks whole batches from pos; returns the last boundary at or before limit. */
static uint64_t walk_to(const struct segment *seg, uint64_t pos, uint64_t limit)
{
    struct batch_header h;
    uint64_t jump = seg_index_find_pos(seg, limit);
    if (jump > pos)
        pos = jump;
    while (pos < limit && header_at(seg, pos, &h) && pos + h.len_bytes <= limit)
        pos += h.len_bytes;
    return pos;
}

/* Memory is lent without a look at its checksums: not of a segment in which something is damaged.
 */
static bool hot_start(struct segment *seg, int64_t offset, uint64_t *ret_pos,
                      struct batch_header *ret_first)
{
    struct seg_cursor c;
    if (seg->damages_n > 0 || !seg_cursor_start(&c, seg, offset))
        return false;
    while (header_at(seg, c.pos, ret_first)) {
        if (batch_last_offset(ret_first) >= offset) {
            *ret_pos = c.pos;
            return true;
        }
        c.pos += ret_first->len_bytes;
    }
    return false;
}

/* True: answered from memory. */
static bool read_hot(struct segment *seg, struct plog_read *r)
{
    struct batch_header first;
    struct chunk *chunks[PLOG_READ_IOV_MAX];
    uint64_t pos, visible = seg_visible_pos(seg), reach;
    uint64_t room = store_lend_room(seg->plog->store);
    if (room == 0 || !hot_start(seg, r->offset, &pos, &first))
        return false;
    uint64_t first_end = pos + first.len_bytes;
    if (first_end > visible)
        return true; /* nothing to see yet */
    uint64_t end = walk_to(seg, pos, MIN(visible, pos + MIN(r->max_bytes, room)));
    if (end < first_end) {
        if (!r->at_least_one)
            return true;
        end = first_end;
    }
    unsigned n = seg_iov(seg, pos, end, r->iov, chunks, PLOG_READ_IOV_MAX, &reach);
    if (reach < end) { /* too many pieces, or evicted in between: fewer batches */
        end = walk_to(seg, pos, reach);
        if (end < first_end)
            return false;
        n = seg_iov(seg, pos, end, r->iov, chunks, PLOG_READ_IOV_MAX, &reach);
    }
    for (unsigned i = 0; i < n; i++) {
        chunk_lend(chunks[i]);
        r->refs[i] = chunks[i];
    }
    r->iov_n = n;
    r->len_bytes = (uint32_t)(end - pos);
    counter_add(&seg->plog->store->counters.reads_hot, 1);
    return true;
}

/* ---- from the segment's file ---- */

static void job_end(struct read_job *job, int rc)
{
    struct plog_read *r = job->r;
    r->rc = r->plog->removed ? plog_absence(r->plog) : rc;
    r->finished = true;
    if (!r->starting)
        r->on_done(r);
}

static void job_begin(struct read_job *job);
static void job_run(struct read_job *job);

/* Something is damaged that is not known yet: all of the segment is walked, then once more. */
static void job_suspect(struct read_job *job)
{
    struct plog *p = job->r->plog;
    windows_forget(job->at.seg);
    if (job->walks++ == WALKS_MAX) {
        log_error("%s: no batch at position %llu of segment %lld (reading offset %lld)", p->name,
                  (unsigned long long)job->at.pos, (long long)job->at.seg->base_offset,
                  (long long)job->r->offset);
        job_end(job, -EIO);
        return;
    }
    job->at.seg->suspect = true;
    job_begin(job);
}

/* Nothing of the segment is left at or behind the offset. */
static void job_next_segment(struct read_job *job)
{
    struct segment *next = segment_next(job->at.seg);
    if (next == NULL || seg_visible_pos(next) == 0) {
        job_end(job, 0);
        return;
    }
    job->at.seg = next;
    job->r->offset = next->base_offset;
    job->walks = 0;
    job_begin(job);
}

/* ---- where a read ends, the next one of its reader begins ---- */

static bool reads_on(const struct plog *p, int64_t offset)
{
    for (unsigned i = 0; i < PLOG_READ_ENDS; i++)
        if (p->read_ends[i].offset == offset)
            return offset > 0;
    return false;
}

static void note_end(struct plog *p, const struct read_job *job, const struct seg_cursor *c)
{
    struct read_end end = {c->seg->base_offset, c->offset, c->pos};
    for (unsigned i = 0; i < PLOG_READ_ENDS; i++)
        if (p->read_ends[i].offset == job->r->offset) {
            p->read_ends[i] = end;
            return;
        }
    p->read_ends[p->read_ends_at++ % PLOG_READ_ENDS] = end;
}

/* ---- taking ---- */

/* Batches of one window, verified, as many as are allowed. True: it is used up, and there is room
 * for more. */
static bool window_take(struct read_job *job, struct read_window *w, struct seg_cursor *c)
{
    struct plog_read *r = job->r;
    uint64_t from = c->pos;
    uint32_t before = r->len_bytes;
    struct batch_header h;
    while (c->pos < w->end_pos && window_verify(w, c, &h) == 0) {
        bool fits = r->len_bytes + (uint64_t)h.len_bytes <= r->max_bytes ||
                    (r->len_bytes == 0 && r->at_least_one);
        if (!fits)
            break;
        r->len_bytes += h.len_bytes;
        seg_cursor_pass(c, &h);
    }
    if (r->len_bytes > before) {
        window_ref(w);
        r->refs[r->iov_n] = w;
        r->iov[r->iov_n++] =
            (struct iovec){(void *)(uintptr_t)window_data(w, from), r->len_bytes - before};
    }
    return c->pos == w->end_pos && r->iov_n < PLOG_READ_IOV_MAX && r->len_bytes < r->max_bytes;
}

/* From the batch at the cursor, which holds the offset and is whole in the window. */
static void job_take(struct read_job *job, struct read_window *w, const struct batch_header *first)
{
    struct plog_read *r = job->r;
    struct seg_cursor c = job->at;
    uint64_t window_end_pos = w->end_pos;
    struct batch_header h;
    if (first->len_bytes > r->max_bytes && !r->at_least_one) {
        job_end(job, 0);
        return;
    }
    if (window_verify(w, &c, &h) != 0) {
        job_suspect(job);
        return;
    }
    while (window_take(job, w, &c) && (w = window_find(c.seg, c.pos)) != NULL && !w->busy)
        window_end_pos = w->end_pos;
    note_end(r->plog, job, &c);
    if (c.pos < c.seg->end_pos)
        boundary_note(c.seg, c.pos, c.offset);
    if (job->sequential)
        window_ahead(c.seg, window_end_pos);
    job_end(job, 0);
}

/* ---- finding ---- */

static void on_job_window(struct window_waiter *waiter, int rc)
{
    struct read_job *job = container_of(waiter, struct read_job, window_waiter);
    if (rc == 0)
        job_run(job);
    else /* no memory: nothing this time, the reader asks again */
        job_end(job, rc == -EAGAIN ? 0 : rc);
}

/* Goes on when the window is there: w, or a new one from the cursor on. */
static void job_wait(struct read_job *job, struct read_window *w, uint64_t least_bytes)
{
    struct window_want want = {.bytes = MIN(job->r->max_bytes, DISK_READ_BYTES_MAX),
                               .least_bytes = least_bytes,
                               .sequential = job->sequential};
    if (w == NULL)
        w = window_open(job->at.seg, job->at.pos, &want);
    if (w == NULL) {
        job_end(job, -EIO);
        return;
    }
    job->window_waiter.run = on_job_window;
    window_wait(w, &job->window_waiter);
}

/* The batch at the cursor does not end where the window does: it has to be read in one piece. */
static void job_widen(struct read_job *job, struct read_window *w, uint64_t least_bytes)
{
    if (job->at.pos + least_bytes > seg_visible_pos(job->at.seg)) {
        job_suspect(job);
        return;
    }
    window_forget(w);
    job_wait(job, NULL, least_bytes);
}

/* Moves the cursor to the batch that holds the offset, or the first one behind. */
static void job_run(struct read_job *job)
{
    struct plog_read *r = job->r;
    struct seg_cursor *c = &job->at;
    struct batch_header h;
    for (;;) {
        if (seg_cursor_skip(c))
            continue;
        if (c->pos >= seg_visible_pos(c->seg)) {
            job_next_segment(job);
            return;
        }
        struct read_window *w = window_find(c->seg, c->pos);
        if (w == NULL || w->busy) {
            job_wait(job, w, BATCH_HEADER_BYTES);
            return;
        }
        uint64_t have = w->end_pos - c->pos;
        int rc = seg_cursor_peek(c, window_data(w, c->pos), have, &h);
        if (rc == -EAGAIN) {
            job_widen(job, w, BATCH_HEADER_BYTES);
            return;
        }
        if (rc != 0) {
            job_suspect(job);
            return;
        }
        if (batch_last_offset(&h) >= r->offset) {
            if (h.len_bytes > have && (r->at_least_one || h.len_bytes <= r->max_bytes))
                job_widen(job, w, h.len_bytes);
            else
                job_take(job, w, &h);
            return;
        }
        seg_cursor_pass(c, &h);
    }
}

/* Where a read has ended exactly; else the index knows a batch before it, which would have to be
 * read as well. */
static bool job_find(struct read_job *job)
{
    struct segment *seg = job->at.seg;
    uint64_t pos;
    if (!boundary_find(seg, job->r->offset, &pos))
        return seg_cursor_start(&job->at, seg, job->r->offset);
    job->at = (struct seg_cursor){.seg = seg, .pos = pos, .offset = job->r->offset};
    return true;
}

static void job_start(struct read_job *job)
{
    if (source_take(job->at.seg, job->r))
        job_end(job, 0);
    else if (job_find(job))
        job_run(job);
    else
        job_end(job, -EIO);
}

static void on_job_loaded(struct load_waiter *w, int rc)
{
    struct read_job *job = container_of(w, struct read_job, waiter);
    struct plog *p = job->r->plog;
    struct segment *seg = rc == -ESTALE ? plog_segment_for(p, job->r->offset) : NULL;
    if (seg != NULL) { /* another one has taken its place */
        job->at.seg = seg;
        job_begin(job);
    } else if (rc != 0)
        job_end(job, rc == -ESTALE ? -EIO : rc);
    else
        job_start(job);
    plog_unhold(p);
}

static void job_begin(struct read_job *job)
{
    if (seg_loaded(job->at.seg)) {
        job_start(job);
        return;
    }
    plog_hold(job->r->plog);
    job->waiter.run = on_job_loaded;
    seg_load_wait(job->at.seg, &job->waiter);
}

static int read_cold(struct segment *seg, struct plog_read *r)
{
    struct read_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        r->rc = -EIO;
        return 1;
    }
    *job =
        (struct read_job){.r = r, .at = {.seg = seg}, .sequential = reads_on(seg->plog, r->offset)};
    r->job = job;
    r->starting = true;
    job_begin(job);
    r->starting = false;
    return r->finished;
}

int plog_read(struct plog *p, struct plog_read *r, plog_read_fn on_done)
{
    r->plog = p;
    r->on_done = on_done;
    r->iov_n = r->len_bytes = 0;
    r->extent = (struct env_extent){0};
    r->job = NULL;
    r->rc = 0;
    r->starting = r->finished = false;
    if (p->removed)
        r->rc = plog_absence(p);
    else if (p->offline)
        r->rc = -EIO;
    else if (r->offset < p->log_start || r->offset > p->end_offset)
        r->rc = -ERANGE;
    if (r->rc != 0 || r->offset >= plog_high_watermark(p))
        return 1;
    struct segment *seg = plog_segment_for(p, r->offset);
    if (seg == NULL) { /* its file is gone */
        r->rc = -EIO;
        return 1;
    }
    if (r->offset < seg->base_offset)
        r->offset = seg->base_offset; /* a gap between segments */
    if (read_hot(seg, r))
        return 1;
    return read_cold(seg, r);
}

void plog_read_release(struct plog_read *r)
{
    if (r->extent.file != NULL)
        source_release(r);
    for (unsigned i = 0; i < r->iov_n; i++) {
        if (r->job != NULL)
            window_unref(r->refs[i]);
        else
            chunk_return(r->refs[i]);
    }
    free(r->job);
    r->job = NULL;
    r->iov_n = r->len_bytes = 0;
}

static bool lost_to_the_end(const struct segment *seg, int64_t offset, int64_t visible)
{
    for (uint32_t i = 0; i < seg->damages_n; i++)
        if (seg->damages[i].from_offset <= offset && seg->damages[i].to_offset >= visible)
            return true;
    return false;
}

uint64_t plog_available_bytes(const struct plog *p, int64_t offset)
{
    int64_t visible = plog_high_watermark(p);
    if (offset >= visible || offset < p->log_start)
        return 0;
    struct segment *seg = plog_segment_for(p, offset);
    uint64_t pos;
    struct batch_header first;
    if (seg != NULL && lost_to_the_end(seg, offset, visible))
        return 0;
    if (seg == NULL || !hot_start(seg, offset, &pos, &first))
        return UINT32_MAX; /* behind the tail: more than anybody waits for */
    uint64_t seg_visible = seg_visible_pos(seg);
    return seg_visible > pos ? seg_visible - pos : 0;
}
