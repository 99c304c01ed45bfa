/* lookup.c: offsets by time (ListOffsets): the first record at or after a time, or the one with the
 * largest timestamp. Segment by segment: index first, then batches, then records. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#define LOOKUP_READ_BYTES (1024u * 1024u)

struct lookup_job {
    struct plog_lookup *l;
    struct load_waiter waiter;
    struct seg_fetch fetch;
    int64_t segment_base;       /* the segment being looked at; found again after each wait */
    int64_t best_base, best_ms; /* PLOG_TIME_MAX: the segment that holds it */
    bool scanning_max;
    uint64_t pos;
};

static void job_next(struct lookup_job *job);

static void job_end(struct lookup_job *job, int rc, int64_t offset, int64_t found_ms)
{
    struct plog_lookup *l = job->l;
    struct plog *p = l->plog;
    bool visible = offset >= p->log_start && offset < plog_high_watermark(p);
    l->rc = p->removed ? -ENOENT : rc;
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
        if (seg->base_offset >= job->segment_base)
            return seg;
    }
    return NULL;
}

static bool batch_matches(const struct lookup_job *job, const struct batch_header *h)
{
    if (job->scanning_max)
        return h->max_timestamp == job->best_ms;
    return h->max_timestamp >= job->l->timestamp_ms &&
           h->base_offset + h->last_offset_delta >= job->l->plog->log_start;
}

/* True: the job has ended. */
static bool batch_look(struct lookup_job *job, const uint8_t *batch, const struct batch_header *h)
{
    int64_t offset, found_ms;
    int rc = job->scanning_max
                 ? batch_find_max_time(batch, h->len_bytes, &offset, &found_ms)
                 : batch_find_time(batch, h->len_bytes, job->l->timestamp_ms, &offset, &found_ms);
    if (rc == 0 || (rc > 0 && offset < job->l->plog->log_start))
        return false;
    job_end(job, rc < 0 ? -EIO : 0, rc < 0 ? -1 : offset, rc < 0 ? -1 : found_ms);
    return true;
}

static void fetch_at(struct lookup_job *job, struct segment *seg, uint64_t want_bytes);

static void on_fetched(struct seg_fetch *f)
{
    struct lookup_job *job = container_of(f, struct lookup_job, fetch);
    struct segment *seg = f->seg;
    if (f->rc != 0) {
        job_end(job, f->rc, -1, -1);
        return;
    }
    uint64_t began = job->pos;
    struct batch_header h;
    while (job->pos < f->end_pos) {
        const uint8_t *batch = f->buf + (job->pos - f->from_pos);
        uint64_t have = f->end_pos - job->pos;
        if (batch_peek(batch, have, &h) != 0)
            break;
        bool matches = batch_matches(job, &h);
        if (matches && h.len_bytes > have) {
            seg_fetch_free(f);
            if (job->pos + h.len_bytes > seg_visible_pos(seg))
                job_end(job, 0, -1, -1);
            else
                fetch_at(job, seg, h.len_bytes);
            return;
        }
        job->pos += h.len_bytes;
        if (!matches)
            continue;
        if (!batch_crc_ok(batch, &h)) {
            seg_fetch_free(f);
            job_end(job, -EIO, -1, -1);
            return;
        }
        uint8_t *buf = f->buf;
        struct buddy *memory = f->memory;
        f->buf = NULL; /* the job may be gone after the look */
        bool ended = batch_look(job, batch, &h);
        if (ended) {
            buddy_free(memory, buf);
            return;
        }
        f->buf = buf;
    }
    seg_fetch_free(f);
    if (job->pos > began && job->pos < seg_visible_pos(seg)) {
        fetch_at(job, seg, LOOKUP_READ_BYTES);
        return;
    }
    if (job->scanning_max) {
        job_end(job, 0, -1, -1);
        return;
    }
    job->segment_base = seg->base_offset + 1;
    job_next(job);
}

static void fetch_at(struct lookup_job *job, struct segment *seg, uint64_t want_bytes)
{
    seg_fetch_start(&job->fetch, seg, job->pos, want_bytes, on_fetched);
}

static void on_loaded(struct load_waiter *w, int rc)
{
    struct lookup_job *job = container_of(w, struct lookup_job, waiter);
    if (rc != 0)
        job_end(job, rc, -1, -1);
    else
        job_next(job);
}

/* PLOG_TIME_MAX, all segments seen: scan the one that has it. */
static void scan_best(struct lookup_job *job)
{
    job->scanning_max = true;
    job->segment_base = job->best_base;
    struct segment *seg = job->best_ms < 0 ? NULL : job_segment(job);
    if (seg == NULL) {
        job_end(job, 0, -1, -1);
        return;
    }
    job->pos = seg_index_find_time(seg, job->best_ms);
    fetch_at(job, seg, LOOKUP_READ_BYTES);
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
            job->waiter.run = on_loaded;
            seg_load_wait(seg, &job->waiter);
            return;
        }
        if (job->l->timestamp_ms == PLOG_TIME_MAX) {
            if (seg->index.max_timestamp > job->best_ms) {
                job->best_ms = seg->index.max_timestamp;
                job->best_base = seg->base_offset;
            }
        } else if (seg->index.max_timestamp >= job->l->timestamp_ms) {
            job->pos = seg_index_find_time(seg, job->l->timestamp_ms);
            fetch_at(job, seg, LOOKUP_READ_BYTES);
            return;
        }
        job->segment_base = seg->base_offset + 1;
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
        l->rc = -ENOENT;
    if (p->removed || plog_high_watermark(p) <= p->log_start)
        return 1;
    struct lookup_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        l->rc = -EIO;
        return 1;
    }
    *job = (struct lookup_job){.l = l, .segment_base = INT64_MIN, .best_ms = -1};
    l->job = job;
    l->starting = true;
    plog_hold(p);
    job_next(job);
    l->starting = false;
    return l->job == NULL;
}
