/* read.c: records for consumers. Hot: memory is lent as it is. Else: a direct read into a buffer of
 * its own, every batch verified before it is served. Always whole batches, from the one that holds
 * the offset on. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define DISK_READ_BYTES_MAX (4u * 1024u * 1024u)
#define DISK_READ_BYTES_MIN (64u * 1024u)
#define MEMORY_WAIT_NS 50000000ull

struct read_job {
    struct plog_read *r;
    struct segment *seg;
    struct load_waiter waiter;
    struct seg_fetch fetch;
    uint64_t pos; /* a batch boundary at or before the batch that holds the offset */
};

/* ---- hot ---- */

static bool header_at(const struct segment *seg, uint64_t pos, struct batch_header *ret)
{
    uint8_t raw[BATCH_HEADER_BYTES];
    return seg_peek(seg, pos, raw, sizeof(raw)) && batch_peek(raw, sizeof(raw), ret) == 0;
}

/* A known batch boundary at or before offset; false: the index has to be loaded. */
static bool boundary_before(const struct segment *seg, int64_t offset, uint64_t *ret_pos)
{
    uint64_t pos = seg_index_find(seg, offset);
    if (pos == 0 && !seg->index_complete) {
        if (offset < seg->plog->recovered_offset || seg->state != SEGMENT_OPEN)
            return false;
        pos = seg->index_from;
    }
    *ret_pos = pos;
    return true;
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

static bool hot_start(const struct segment *seg, int64_t offset, uint64_t *ret_pos,
                      struct batch_header *ret_first)
{
    uint64_t pos;
    if (!boundary_before(seg, offset, &pos))
        return false;
    while (header_at(seg, pos, ret_first)) {
        if (ret_first->base_offset + ret_first->last_offset_delta >= offset) {
            *ret_pos = pos;
            return true;
        }
        pos += ret_first->len_bytes;
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
    seg->plog->store->counters.reads_hot++;
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

static void damaged(const struct read_job *job, const char *what)
{
    log_error("%s: %s at position %llu of segment %lld (reading offset %lld)", job->r->plog->name,
              what, (unsigned long long)job->pos, (long long)job->seg->base_offset,
              (long long)job->r->offset);
}

/* From the batch at job->pos, which holds the offset and is whole in the buffer: takes as many as
 * allowed, verified. */
static void job_take(struct read_job *job)
{
    struct plog_read *r = job->r;
    struct seg_fetch *f = &job->fetch;
    const uint8_t *base = f->buf + (job->pos - f->from_pos);
    uint64_t have = f->end_pos - job->pos, taken = 0;
    struct batch_header h;
    while (taken < have && batch_peek(base + taken, have - taken, &h) == 0 &&
           h.len_bytes <= have - taken) {
        bool fits = taken + h.len_bytes <= r->max_bytes || (taken == 0 && r->at_least_one);
        if (!fits)
            break;
        if (!batch_crc_ok(base + taken, &h)) {
            job->pos += taken;
            damaged(job, "a batch with a wrong checksum");
            if (taken == 0) {
                job_end(job, -EIO);
                return;
            }
            break;
        }
        taken += h.len_bytes;
    }
    r->iov[0] = (struct iovec){(void *)(uintptr_t)base, taken};
    r->iov_n = taken > 0;
    r->refs[0] = NULL;
    r->len_bytes = (uint32_t)taken;
    job_end(job, 0);
}

static void on_job_fetched(struct seg_fetch *f)
{
    struct read_job *job = container_of(f, struct read_job, fetch);
    struct batch_header h;
    if (f->rc != 0) { /* no memory: nothing this time, the reader asks again */
        job_end(job, f->rc == -EAGAIN ? 0 : f->rc);
        return;
    }
    uint64_t began = job->pos, visible = seg_visible_pos(job->seg);
    for (;;) {
        uint64_t have = f->end_pos > job->pos ? f->end_pos - job->pos : 0;
        int rc = have == 0 ? -EAGAIN : batch_peek(f->buf + (job->pos - f->from_pos), have, &h);
        if (rc == -EAGAIN && job->pos != began && job->pos < visible)
            break; /* on with the next piece */
        if (rc != 0) {
            damaged(job, "no batch");
            job_end(job, -EIO);
            return;
        }
        if (h.base_offset + h.last_offset_delta >= job->r->offset) {
            if (h.len_bytes <= have || (!job->r->at_least_one && h.len_bytes > job->r->max_bytes)) {
                job_take(job);
                return;
            }
            break; /* longer than what was read */
        }
        job->pos += h.len_bytes;
        h.len_bytes = 0;
    }
    if (job->pos + h.len_bytes > visible) {
        damaged(job, "a batch longer than the segment");
        job_end(job, -EIO);
        return;
    }
    seg_fetch_free(f);
    job_fetch(job, MAX((uint64_t)h.len_bytes, MIN(job->r->max_bytes, DISK_READ_BYTES_MAX)));
}

static void job_fetch(struct read_job *job, uint64_t want_bytes)
{
    job->fetch.give_up_ns = env_now_ns(job->r->plog->store->env) + MEMORY_WAIT_NS;
    seg_fetch_start(&job->fetch, job->seg, job->pos, want_bytes, on_job_fetched);
}

static void job_start(struct read_job *job)
{
    uint64_t want = MAX(MIN(job->r->max_bytes, DISK_READ_BYTES_MAX), DISK_READ_BYTES_MIN);
    if (!boundary_before(job->seg, job->r->offset, &job->pos)) {
        job_end(job, -EIO);
        return;
    }
    job_fetch(job, want - job->pos % BLOCK_BYTES); /* blocks around it: just `want` of memory */
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

static int read_cold(struct segment *seg, struct plog_read *r)
{
    struct read_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        r->rc = -EIO;
        return 1;
    }
    *job = (struct read_job){.r = r, .seg = seg};
    job->fetch.seg = seg;
    r->job = job;
    if (seg_loaded(seg)) {
        r->starting = true;
        job_start(job);
        r->starting = false;
        return r->finished;
    }
    plog_hold(r->plog);
    job->waiter.run = on_job_loaded;
    seg_load_wait(seg, &job->waiter);
    return 0;
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
    ASSERT(seg != NULL);
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

uint64_t plog_available_bytes(const struct plog *p, int64_t offset)
{
    int64_t visible = plog_high_watermark(p);
    if (offset >= visible || offset < p->log_start)
        return 0;
    struct segment *seg = plog_segment_for(p, offset);
    uint64_t pos;
    struct batch_header first;
    if (seg == NULL || !hot_start(seg, offset, &pos, &first))
        return UINT32_MAX; /* behind the tail: more than anybody waits for */
    uint64_t seg_visible = seg_visible_pos(seg);
    return seg_visible > pos ? seg_visible - pos : 0;
}
