/* read.c: records for consumers. Hot: memory is lent as it is. Else: a direct read into a buffer of
 * its own, every batch verified before it is served. Always whole batches, from the one that holds
 * the offset on; if that is lost, from the next one that is not. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define DISK_READ_BYTES_MAX (4u * 1024u * 1024u)
#define DISK_READ_BYTES_MIN (64u * 1024u)
#define MEMORY_WAIT_NS 50000000ull
#define WALKS_MAX 2u

struct read_job {
    struct plog_read *r;
    struct segment *seg;
    struct load_waiter waiter;
    struct seg_fetch fetch;
    struct seg_cursor at; /* at or before the batch that holds the offset */
    unsigned walks;       /* of the segment, because of damage that was not known */
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

static void job_fetch(struct read_job *job, uint64_t want_bytes);

static void job_end(struct read_job *job, int rc)
{
    struct plog_read *r = job->r;
    struct plog *p = r->plog;
    r->rc = p->removed ? -ENOENT : rc;
    if (r->rc != 0 || r->len_bytes == 0)
        seg_fetch_free(&job->fetch);
    r->finished = true;
    if (!r->starting)
        r->on_done(r);
}

static void job_begin(struct read_job *job);

/* Something is damaged that is not known yet: all of the segment is walked, then once more. */
static void job_suspect(struct read_job *job)
{
    struct plog *p = job->r->plog;
    seg_fetch_free(&job->fetch);
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
    seg_fetch_free(&job->fetch);
    job->at.seg = next;
    job->r->offset = next->base_offset;
    job->walks = 0;
    job_begin(job);
}

/* From the batch at the cursor, which holds the offset and is whole in the buffer: takes as many as
 * allowed, verified. */
static void job_take(struct read_job *job)
{
    struct plog_read *r = job->r;
    struct seg_fetch *f = &job->fetch;
    struct seg_cursor c = job->at;
    const uint8_t *base = f->buf + (c.pos - f->from_pos);
    uint64_t have = f->end_pos - c.pos, taken = 0;
    struct batch_header h;
    int rc = 0;
    while (taken < have && (rc = seg_cursor_peek(&c, base + taken, have - taken, &h)) == 0) {
        bool fits = taken + h.len_bytes <= r->max_bytes || (taken == 0 && r->at_least_one);
        if (!fits || (rc = seg_cursor_verify(&c, base + taken, have - taken, &h)) != 0)
            break;
        taken += h.len_bytes;
        seg_cursor_pass(&c, &h);
    }
    if (rc == -EBADMSG && taken == 0) {
        job_suspect(job);
        return;
    }
    r->iov[0] = (struct iovec){(void *)(uintptr_t)base, taken};
    r->iov_n = taken > 0;
    r->refs[0] = NULL;
    r->len_bytes = (uint32_t)taken;
    job_end(job, 0);
}

/* Moves the cursor to the batch that holds the offset, or the first one behind. 0: it is there and
 * whole in the buffer. -EAGAIN: *ret_want bytes from the cursor on are needed. -ERANGE: the segment
 * has none. -EBADMSG: damage. */
static int job_find(struct read_job *job, uint64_t *ret_want)
{
    const struct seg_fetch *f = &job->fetch;
    struct plog_read *r = job->r;
    uint64_t visible = seg_visible_pos(job->at.seg);
    struct batch_header h;
    for (;;) {
        struct seg_cursor *c = &job->at;
        if (seg_cursor_skip(c))
            continue;
        if (c->pos >= visible)
            return -ERANGE;
        uint64_t have = f->end_pos > c->pos ? f->end_pos - c->pos : 0;
        const uint8_t *data = have == 0 ? f->buf : f->buf + (c->pos - f->from_pos);
        *ret_want = MIN(r->max_bytes, DISK_READ_BYTES_MAX);
        int rc = seg_cursor_peek(c, data, have, &h);
        if (rc == -EAGAIN && f->end_pos >= visible)
            return -EBADMSG;
        if (rc != 0)
            return rc;
        if (batch_last_offset(&h) < r->offset) {
            seg_cursor_pass(c, &h);
            continue;
        }
        if (h.len_bytes <= have || (!r->at_least_one && h.len_bytes > r->max_bytes))
            return 0;
        *ret_want = MAX(*ret_want, (uint64_t)h.len_bytes);
        return c->pos + h.len_bytes > visible ? -EBADMSG : -EAGAIN;
    }
}

static void on_job_fetched(struct seg_fetch *f)
{
    struct read_job *job = container_of(f, struct read_job, fetch);
    uint64_t want;
    if (f->rc != 0) { /* no memory: nothing this time, the reader asks again */
        job_end(job, f->rc == -EAGAIN ? 0 : f->rc);
        return;
    }
    switch (job_find(job, &want)) {
    case 0:
        job_take(job);
        return;
    case -EAGAIN:
        seg_fetch_free(f);
        job_fetch(job, MAX(want, (uint64_t)BLOCK_BYTES));
        return;
    case -ERANGE:
        job_next_segment(job);
        return;
    default:
        job_suspect(job);
    }
}

static void job_fetch(struct read_job *job, uint64_t want_bytes)
{
    job->fetch.give_up_ns = env_now_ns(job->r->plog->store->env) + MEMORY_WAIT_NS;
    seg_fetch_start(&job->fetch, job->at.seg, job->at.pos, want_bytes, on_job_fetched);
}

static void job_start(struct read_job *job)
{
    uint64_t want = MAX(MIN(job->r->max_bytes, DISK_READ_BYTES_MAX), DISK_READ_BYTES_MIN);
    if (!seg_cursor_start(&job->at, job->at.seg, job->r->offset)) {
        job_end(job, -EIO);
        return;
    }
    while (seg_cursor_skip(&job->at))
        ;
    /* blocks around it: just `want` of memory */
    job_fetch(job, want - job->at.pos % BLOCK_BYTES);
}

static void on_job_loaded(struct load_waiter *w, int rc)
{
    struct read_job *job = container_of(w, struct read_job, waiter);
    struct plog *p = job->r->plog;
    if (rc != 0)
        job_end(job, rc);
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
    *job = (struct read_job){.r = r, .at = {.seg = seg}};
    job->fetch.seg = seg;
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
    r->job = NULL;
    r->rc = 0;
    r->starting = r->finished = false;
    if (p->removed)
        r->rc = -ENOENT;
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
    if (r->job != NULL) {
        struct read_job *job = r->job;
        seg_fetch_free(&job->fetch);
        free(job);
        r->job = NULL;
    } else {
        for (unsigned i = 0; i < r->iov_n; i++)
            chunk_return(r->refs[i]);
    }
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
