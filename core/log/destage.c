/* destage.c: stable bytes go from memory to their segments, in whole blocks and large chunks.
 * Happy path: a partition with a chunk's worth behind (or in the running cycle, or with a segment
 *   to seal) is in store.destage_ready -> one write of its first segment with work -> flush of that
 *   file, or a sync that many share (sync.c) -> destaged_pos moves, its memory becomes a cache.
 * A cycle destages all that was behind when it began. That gives memory back; when the journal
 *   needs room, it ends in a checkpoint, whose cost grows with the number of partitions.
 * What gathers in many partitions is written the same way before it is stable (plog_write_ahead):
 *   it counts when a record in the journal says that it is there.
 * Failure: the partition is fenced; what is stable of it stays in memory and in checkpoints. A
 * flush fails too when another one of the device has failed since the write began (io/losses.h), so
 * nothing that was lost with it is counted. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>

#define CYCLE_PAUSE_NS 10000000ull /* a cycle that could free nothing must not spin */

/* ---- which segment, how much ---- */

static bool seg_final(const struct segment *seg)
{
    return seg->state == SEGMENT_SEALING && seg->stable_pos == seg->end_pos;
}

/* What is below is in the file. */
static uint64_t seg_destage_from(const struct segment *seg)
{
    return MAX(seg->destaged_pos, seg->settled_pos);
}

static uint64_t seg_destage_target(const struct segment *seg)
{
    uint64_t ready_pos = seg->plog->ahead ? seg->end_pos : seg->stable_pos;
    return seg_final(seg) ? seg->end_pos : MAX(block_floor(ready_pos), seg_destage_from(seg));
}

static uint64_t seg_destage_work(const struct segment *seg)
{
    return seg_destage_target(seg) - seg_destage_from(seg);
}

/* Memory is not read any more. */
void seg_io_written(struct seg_io *io)
{
    for (unsigned i = 0; i < io->chunks_n; i++)
        chunk_unref(io->chunks[i]);
    io->chunks_n = 0;
}

void seg_io_failed(const struct seg_io *io, int rc)
{
    char what[80];
    snprintf(what, sizeof(what), "writing %020lld.log at position %llu",
             (long long)io->seg->base_offset, (unsigned long long)io->from_pos);
    plog_fence(io->seg->plog, rc, what);
}

/* Of what is durable in the file now, that which is stable counts. */
static void seg_settled(struct segment *seg, uint64_t pos)
{
    seg->settled_pos = block_floor(pos);
    uint64_t counts_to = pos <= seg->stable_pos ? pos : block_floor(seg->stable_pos);
    if (counts_to > seg->destaged_pos)
        seg_set_destaged(seg, counts_to);
}

static void io_finish(struct seg_io *io, int rc)
{
    struct segment *seg = io->seg;
    struct plog *p = seg->plog;
    struct log_store *s = p->store;
    seg_file_release(seg);
    if (rc < 0)
        seg_io_failed(io, rc);
    io->busy = false;
    s->destages_n--;
    if (rc < 0) {
        plog_leave_cycle(p);
        plog_leave_ahead(p);
    } else if (!p->removed) {
        counter_add(&s->counters.destage_bytes, io->to_pos - io->from_pos);
        seg_settled(seg, io->to_pos);
        plog_leave_ahead(p);
        if (seg->state == SEGMENT_OPEN && seg_destage_work(seg) < DESTAGE_CHUNK_BYTES)
            plog_leave_cycle(p); /* it has written all that was stable at the start */
        plog_want_destage(p);
        plog_mark_dirty(p); /* a large run may have waited */
    }
    plog_unhold(p);
}

static void io_flushed(struct seg_io *io, int rc)
{
    struct log_store *s = io->seg->plog->store;
    counter_hist_add(&s->counters.flush_us, (env_now_ns(s->env) - io->flush_ns) / NS_PER_US);
    io_finish(io, rc);
}

static void on_segment_flushed(struct env_op *op)
{
    io_flushed(container_of(op, struct seg_io, op), op->res);
}

static void io_flush(struct seg_io *io)
{
    env_flush(io->seg->plog->store->env, &io->op, io->seg->file, on_segment_flushed);
}

static void on_io_synced(struct sync_waiter *w, int rc)
{
    struct seg_io *io = container_of(w, struct seg_io, sync);
    if (rc < 0 && !w->asked) {
        io_flush(io); /* it says whether this file has lost anything */
        return;
    }
    if (rc >= 0)
        rc = env_file_synced(io->seg->plog->store->env, io->seg->file);
    io_flushed(io, rc);
}

/* One begins, or ends. */
static void writes_count(struct log_store *s, const struct seg_io *io, int by)
{
    s->writes_n += (unsigned)by;
    s->writes_bytes += (uint64_t)by * (io->to_pos - io->from_pos);
}

bool destage_has_room(const struct log_store *s)
{
    return s->writes_n < DESTAGES_LARGE_MAX ||
           (s->writes_n < DESTAGES_MAX && s->writes_bytes < DESTAGES_BYTES);
}

static void on_segment_written(struct env_op *op)
{
    struct seg_io *io = container_of(op, struct seg_io, op);
    struct plog *p = io->seg->plog;
    struct log_store *s = p->store;
    seg_io_written(io);
    writes_count(s, io, -1);
    if (op->res < 0 || s->closing) {
        io_finish(io, op->res);
        return;
    }
    io->flush_ns = env_now_ns(s->env);
    bool small = p->ahead || io->to_pos - io->from_pos <= SHARED_SYNC_BYTES_MAX;
    if (small && sync_is_shared(s, s->destages_n))
        sync_wait(s, p->dir, &io->sync, io->seg->file, on_io_synced);
    else
        io_flush(io);
}

/* Fills the vector for [from, to) rounded up to a block (the rest of the last block as zeros);
 * returns where the write really ends. */
uint64_t seg_io_prepare(struct seg_io *io, struct segment *seg, uint64_t from, uint64_t to)
{
    uint64_t reach;
    io->iov_n = seg_iov(seg, from, to, io->iov, io->chunks, SEG_IO_IOV_MAX, &reach);
    ASSERT(io->iov_n > 0);
    if (reach < to)
        to = reach; /* chunks are whole blocks, so reach is one too */
    uint32_t pad = (uint32_t)(block_ceil(to) - to);
    struct iovec *last = &io->iov[io->iov_n - 1];
    memset((uint8_t *)last->iov_base + last->iov_len, 0, pad);
    last->iov_len += pad;
    io->chunks_n = io->iov_n;
    for (unsigned i = 0; i < io->chunks_n; i++)
        chunk_ref(io->chunks[i]);
    io->seg = seg;
    io->from_pos = from;
    io->to_pos = to;
    seg_file_hold(seg);
    return to;
}

/* ---- starting ---- */

static struct segment *segment_with_work(const struct plog *p)
{
    for (struct segment *seg = plog_first_open(p); seg != NULL;) {
        bool any = seg->state != SEGMENT_OPEN || p->in_cycle || p->ahead || p->departure != NULL;
        uint64_t enough = any ? 1 : DESTAGE_CHUNK_BYTES;
        if (seg_destage_work(seg) >= enough || seg_final(seg))
            return seg;
        seg = segment_next(seg);
    }
    return NULL;
}

static void io_start(struct plog *p, struct segment *seg)
{
    struct seg_io *io = p->io;
    seg_io_prepare(io, seg, seg_destage_from(seg), seg_destage_target(seg));
    io->busy = true;
    p->store->destages_n++;
    writes_count(p->store, io, 1);
    plog_hold(p);
    env_writev(p->store->env, &io->op, seg->file, io->iov, io->iov_n, io->from_pos, 0,
               on_segment_written);
}

/* Runs of the segment are under way. What they bring along need not be written again; a cycle,
 * whose end must not depend on when the next run begins, lets them end. */
static bool waits_for_runs(struct segment *seg)
{
    if (seg->runs_n == 0)
        return false;
    seg->destage_waits |= seg->plog->in_cycle || seg_destage_target(seg) > seg->run_pos;
    return true;
}

static void destage_start(struct plog *p)
{
    struct segment *seg = segment_with_work(p);
    if (seg == NULL || p->removed || p->fenced != 0) {
        plog_leave_cycle(p);
        plog_leave_ahead(p);
        return;
    }
    if ((p->io != NULL && p->io->busy) || waits_for_runs(seg))
        return; /* their completion brings the partition back here */
    if (seg->destaged_pos == seg->end_pos && seg_final(seg)) {
        seg_seal(seg);
    } else if (!seg_file_ready(seg)) {
        seg_file_want(seg);
    } else {
        io_start(p, seg);
        return;
    }
    plog_leave_ahead(p); /* by the journal, then */
    if (p->failed_space) /* the others' journal space does not wait for it */
        plog_leave_cycle(p);
}

/* ---- before it is stable ---- */

/* Writes what nobody waits for to its file; a record of the run follows when it is durable there.
 * False: it cannot, or there is no whole block. */
bool plog_write_ahead(struct plog *p)
{
    struct segment *seg = plog_active(p);
    if (p->fenced != 0 || seg == NULL || plog_first_open(p) != seg || !seg_file_ready(seg) ||
        p->io->busy || seg->runs_n > 0 || block_floor(seg->end_pos) <= seg_destage_from(seg))
        return false;
    p->ahead = true;
    p->store->ahead_n++;
    plog_want_destage(p);
    return true;
}

void plog_leave_ahead(struct plog *p)
{
    if (!p->ahead)
        return;
    p->ahead = false;
    p->store->ahead_n--;
    if (!p->removed)
        plog_mark_settled(p);
}

/* Time to write what only gathers: as much again comes in meanwhile, and chunks are not full. */
bool store_memory_is_short(const struct log_store *s)
{
    return s->behind_bytes + s->fresh_bytes > s->config.memory->size_bytes / 4;
}

/* ---- the cycle that frees memory and journal space ---- */

void plog_leave_cycle(struct plog *p)
{
    if (!p->in_cycle)
        return;
    p->in_cycle = false;
    p->store->cycle_missing--;
}

static void cycle_begin(struct log_store *s)
{
    if (s->cycle || env_now_ns(s->env) < s->cycle_after_ns)
        return;
    s->cycle = true;
    s->cycle_after_ns = env_now_ns(s->env) + CYCLE_PAUSE_NS;
    list_for_each(it, &s->behind) {
        struct plog *p = container_of(it, struct plog, behind_link);
        if (p->fenced != 0 || p->in_cycle)
            continue;
        p->in_cycle = true;
        s->cycle_missing++;
        plog_want_destage(p);
    }
}

/* The journal needs room: also one that has begun for want of memory ends in a checkpoint then. */
void store_want_cycle(struct log_store *s)
{
    if (s->checkpoint.busy || s->checkpoint.wanted)
        return;
    cycle_begin(s);
    s->cycle_checkpoints |= s->cycle;
}

static void cycle_check(struct log_store *s)
{
    bool journal_full = journal_used_bytes(s) > s->journal.ring_bytes / 2;
    bool memory_full = s->behind_bytes > s->config.memory->size_bytes / 2 ||
                       (!list_empty(&s->memory_waiters) && !list_empty(&s->behind));
    if (!s->recovering && journal_full)
        store_want_cycle(s);
    else if (!s->recovering && memory_full)
        cycle_begin(s);
    if (s->cycle && s->cycle_missing == 0) {
        s->checkpoint.wanted |= s->cycle_checkpoints;
        s->cycle = s->cycle_checkpoints = false;
    }
}

/* What had no space is tried again. Where nothing is left to be tried (the last of it found space,
 * or was removed), the next append may find out. */
static void retry_space(struct log_store *s)
{
    if (env_now_ns(s->env) < s->retry_ns)
        return;
    s->retry_ns = UINT64_MAX;
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        if (p->failed_space && segment_with_work(p) == NULL)
            plog_space_found(p);
        else if (p->failed_space)
            plog_want_destage(p);
}

void destage_pump(struct log_store *s)
{
    retry_space(s);
    while (destage_has_room(s) && !list_empty(&s->destage_ready)) {
        struct plog *p = container_of(list_pop_head(&s->destage_ready), struct plog, destage_link);
        plogs_prefetch(&s->destage_ready, offsetof(struct plog, destage_link));
        destage_start(p);
    }
    cycle_check(s);
}
