/* lookup.c: offsets by time (ListOffsets): the first record at or after a time, or the one with the
 * largest timestamp. Segment by segment: index first, then batches, then records. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#define LOOKUP_READ_BYTES (1024u * 1024u)
#define WALKS_MAX 3u

struct lookup_job {
    struct plog_lookup *l;
    struct load_waiter waiter;
    struct seg_fetch fetch;
    int64_t segment_base; /* offset in the segment being looked at; found again after each wait */
    int64_t best_base, best_ms; /* PLOG_TIME_MAX: the segment that holds it, ... */
    int64_t best_offset;        /* ... and which record it is, if that is known */
    bool scanning_max;
    bool scanning_first; /* the segment in which the log begins: its index speaks of more */
    struct seg_cursor at;
    unsigned walks; /* of the segment at walked_base, because of damage that was not known */
    int64_t walked_base;
};

static void job_next(struct lookup_job *job);
static void job_wait_loaded(struct lookup_job *job, struct segment *seg);

static void job_end(struct lookup_job *job, int rc, int64_t offset, int64_t found_ms)
{
    struct plog_lookup *l = job->l;
    struct plog *p = l->plog;
    bool visible = offset >= p->log_start && offset < plog_high_watermark(p);
    l->rc = p->removed ? plog_absence(p) : rc;
    l->offset = visible ? offset : -1;
    l->found_ms = visible ? found_ms : -1;
    free(job);
    l->job = NULL;
    if (!l->starting)
        l->on_done(l);
    plog_unhold(p);
}

static struct segment *job_segment(const struct lookup_job *job)
{
    list_for_each(it, &job->l->plog->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (seg->end_offset > MAX(job->segment_base, seg->plog->log_start))
            return seg;
    }
    return NULL;
}

static bool batch_matches(const struct lookup_job *job, const struct batch_header *h)
{
    if (job->scanning_max)
        return h->max_timestamp == job->best_ms;
    int64_t from_ms = job->scanning_first ? job->best_ms + 1 : job->l->timestamp_ms;
    return h->max_timestamp >= from_ms && batch_last_offset(h) >= job->l->plog->log_start;
}

static int first_look(struct lookup_job *job, const uint8_t *batch, const struct batch_header *h)
{
    int64_t offset, found_ms;
    int rc = batch_find_max_time(batch, h->len_bytes, job->l->plog->log_start, &offset, &found_ms);
    if (rc > 0 && found_ms > job->best_ms) {
        job->best_ms = found_ms;
        job->best_offset = offset;
        job->best_base = job->at.seg->base_offset;
    }
    return rc < 0 ? rc : 0;
}

/* True: the job has ended. */
static bool batch_look(struct lookup_job *job, const uint8_t *batch, const struct batch_header *h)
{
    int64_t offset = -1, found_ms = -1, start = job->l->plog->log_start;
    int rc;
    if (job->scanning_first)
        rc = first_look(job, batch, h);
    else if (job->scanning_max)
        rc = batch_find_max_time(batch, h->len_bytes, start, &offset, &found_ms);
    else
        rc = batch_find_time(batch, h->len_bytes, start, job->l->timestamp_ms, &offset, &found_ms);
    if (rc == 0)
        return false;
    job_end(job, rc < 0 ? -EIO : 0, rc < 0 ? -1 : offset, rc < 0 ? -1 : found_ms);
    return true;
}

static void on_fetched(struct seg_fetch *f);

static void fetch_at(struct lookup_job *job, uint64_t want_bytes)
{
    seg_fetch_start(&job->fetch, job->at.seg, job->at.pos, want_bytes, on_fetched);
}

/* Damage that is not known yet: the segment is walked, its index made again, then looked at anew.
 */
static void job_suspect(struct lookup_job *job)
{
    struct segment *seg = job->at.seg;
    if (job->walked_base != seg->base_offset)
        job->walks = 0;
    job->walked_base = seg->base_offset;
    if (job->walks++ == WALKS_MAX) {
        job_end(job, -EIO, -1, -1);
        return;
    }
    if (job->scanning_max || job->scanning_first) { /* the largest may have been in what is lost */
        job->scanning_max = job->scanning_first = false;
        job->best_base = job->best_ms = job->best_offset = -1;
        job->segment_base = INT64_MIN;
    }
    seg->suspect = true;
    job_wait_loaded(job, seg);
}

static void segment_done(struct lookup_job *job)
{
    const struct seg_index *ix = &job->at.seg->index;
    if (job->scanning_max && ix->max_timestamp_offset < plog_high_watermark(job->l->plog)) {
        job_suspect(job); /* its index says that it is here */
        return;
    }
    if (job->scanning_max) {
        job_end(job, 0, -1, -1);
        return;
    }
    job->scanning_first = false;
    job->segment_base = job->at.seg->end_offset;
    job_next(job);
}

/* Moves the cursor to the next batch that matches. 0: it is whole in the buffer, and verified.
 * -EAGAIN: *ret_want bytes from the cursor on are needed. -ERANGE: none. -EBADMSG: damage. */
static int job_find(struct lookup_job *job, uint64_t *ret_want, struct batch_header *ret)
{
    const struct seg_fetch *f = &job->fetch;
    struct seg_cursor *c = &job->at;
    uint64_t visible = seg_visible_pos(c->seg);
    for (;;) {
        if (seg_cursor_skip(c))
            continue;
        if (c->pos >= visible)
            return -ERANGE;
        uint64_t have = f->end_pos > c->pos ? f->end_pos - c->pos : 0;
        const uint8_t *data = have == 0 ? f->buf : f->buf + (c->pos - f->from_pos);
        *ret_want = LOOKUP_READ_BYTES;
        int rc = seg_cursor_peek(c, data, have, ret);
        if (rc == -EAGAIN && f->end_pos >= visible)
            return -EBADMSG;
        if (rc != 0)
            return rc;
        if (!batch_matches(job, ret)) {
            seg_cursor_pass(c, ret);
            continue;
        }
        if (ret->len_bytes <= have)
            return seg_cursor_verify(c, data, have, ret);
        *ret_want = ret->len_bytes;
        return c->pos + ret->len_bytes > visible ? -EBADMSG : -EAGAIN;
    }
}

static void on_fetched(struct seg_fetch *f)
{
    struct lookup_job *job = container_of(f, struct lookup_job, fetch);
    struct buddy *memory = f->memory;
    struct batch_header h;
    uint64_t want;
    int rc;
    if (f->rc != 0) {
        job_end(job, f->rc, -1, -1);
        return;
    }
    uint8_t *buf = f->buf; /* the job may be gone after the look */
    while ((rc = job_find(job, &want, &h)) == 0) {
        f->buf = NULL;
        if (batch_look(job, buf + (job->at.pos - f->from_pos), &h)) {
            buddy_free(memory, buf);
            return;
        }
        f->buf = buf;
        seg_cursor_pass(&job->at, &h);
    }
    seg_fetch_free(f);
    if (rc == -EAGAIN)
        fetch_at(job, want);
    else if (rc == -ERANGE)
        segment_done(job);
    else
        job_suspect(job);
}

static void on_loaded(struct load_waiter *w, int rc)
{
    struct lookup_job *job = container_of(w, struct lookup_job, waiter);
    if (rc != 0 && rc != -ESTALE) /* stale: another segment has taken its place */
        job_end(job, rc, -1, -1);
    else
        job_next(job);
}

static void job_wait_loaded(struct lookup_job *job, struct segment *seg)
{
    job->waiter.run = on_loaded;
    seg_load_wait(seg, &job->waiter);
}

static void job_scan(struct lookup_job *job, struct segment *seg, int64_t offset)
{
    seg_cursor_start(&job->at, seg, offset);
    while (seg_cursor_skip(&job->at))
        ;
    fetch_at(job, LOOKUP_READ_BYTES);
}

/* PLOG_TIME_MAX, all segments seen: scan the one that has it. */
static void scan_best(struct lookup_job *job)
{
    job->scanning_max = true;
    job->segment_base = job->best_base;
    struct segment *seg = job->best_ms < 0 ? NULL : job_segment(job);
    if (seg == NULL || job->best_offset >= 0) {
        job_end(job, 0, job->best_offset, job->best_ms);
        return;
    }
    job_scan(job, seg, seg_index_find_time(seg, job->best_ms));
}

static void job_next(struct lookup_job *job)
{
    for (;;) {
        struct segment *seg = job_segment(job);
        if (seg == NULL && job->l->timestamp_ms == PLOG_TIME_MAX) {
            scan_best(job);
            return;
        }
        if (seg == NULL) {
            job_end(job, 0, -1, -1);
            return;
        }
        job->segment_base = seg->base_offset;
        if (!seg_loaded(seg)) {
            job_wait_loaded(job, seg);
            return;
        }
        if (job->l->timestamp_ms == PLOG_TIME_MAX && seg->base_offset < seg->plog->log_start) {
            job->scanning_first = true;
            job_scan(job, seg, seg->plog->log_start);
            return;
        }
        if (job->l->timestamp_ms == PLOG_TIME_MAX) {
            if (seg->index.max_timestamp > job->best_ms) {
                job->best_ms = seg->index.max_timestamp;
                job->best_base = seg->base_offset;
                job->best_offset = -1;
            }
        } else if (seg->index.max_timestamp >= job->l->timestamp_ms) {
            job_scan(job, seg, seg_index_find_time(seg, job->l->timestamp_ms));
            return;
        }
        job->segment_base = seg->end_offset;
    }
}

int plog_lookup_time(struct plog *p, struct plog_lookup *l, plog_lookup_fn on_done)
{
    l->plog = p;
    l->on_done = on_done;
    l->rc = 0;
    l->offset = l->found_ms = -1;
    l->job = NULL;
    if (p->removed)
        l->rc = plog_absence(p);
    else if (p->offline)
        l->rc = -EIO;
    if (l->rc != 0 || plog_high_watermark(p) <= p->log_start)
        return 1;
    struct lookup_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        l->rc = -EIO;
        return 1;
    }
    *job = (struct lookup_job){.l = l, .segment_base = INT64_MIN, .best_ms = -1, .best_offset = -1};
    l->job = job;
    l->starting = true;
    plog_hold(p);
    job_next(job);
    l->starting = false;
    return l->job == NULL;
}
