/* run.c: direct runs: large pieces of a partition that go straight to its segment, beside the
 * journal write that records them. Some of a segment are under way, each from where the one before
 * it ends, so that the device has the next to write while it flushes.
 * Happy path: run_start() -> written -> a flush of its file, shared by all runs that were written
 *   when it began, one flush of a file at a time -> group_part_done(); the group retires behind
 *   those before it, so no run counts before its predecessor does.
 * Failure: the partition is fenced by the first one that fails, which may have been written before
 *   an earlier one; none that has not ended by then counts. At recovery each is asked whether it is
 *   there, and the first that is not is a hole.
 * Memory: as many as STORE_RUNS, made when first needed, kept until the store is closed. */
#include "core/log/internal.h"

#include <stdlib.h>

/* ---- from the journal ---- */

static bool run_is_free(struct log_store *s)
{
    if (!list_empty(&s->runs_free))
        return true;
    struct seg_io *io = s->runs_made_n == STORE_RUNS ? NULL : calloc(1, sizeof(*io));
    if (io == NULL)
        return false;
    s->runs_made_n++;
    list_push_tail(&s->runs_free, &io->link);
    return true;
}

/* False: something has to end first, and brings the partition back. */
bool run_may_start(struct segment *seg)
{
    const struct seg_io *destage = seg->plog->io;
    bool destaging = destage != NULL && destage->busy && destage->seg == seg;
    return !destaging && !seg->destage_waits && seg->runs_n < SEGMENT_RUNS &&
           run_is_free(seg->plog->store);
}

uint64_t run_from(const struct segment *seg)
{
    return MAX(seg->destaged_pos, seg->run_pos);
}

/* ---- its end ---- */

/* Records of the partition may be durable all the same, in all groups that have been formed:
 * nobody may take them for the run. */
static void run_failed(struct log_store *s, const struct group *g)
{
    s->journal.claims_end = MIN(s->journal.claims_end, g->seq - 1);
    s->journal.failed_run_seq = s->journal.next_seq - 1;
    store_want_cycle(s);
}

/* What else the group holds can count, whatever became of the run. Once a flush of the file has
 * failed, a later one says nothing of what was written before (io/losses.h: it is told once). */
static void run_end(struct seg_io *io, int rc)
{
    struct log_store *s = io->group->store;
    struct group *g = io->group;
    if (rc < 0)
        seg_io_failed(io, rc);
    if (io->seg->plog->fenced != 0)
        run_failed(s, g);
    seg_file_release(io->seg);
    list_push_tail(&s->runs_free, &io->link);
    group_part_done(g, 0);
}

static void on_runs_flushed(struct env_op *op);

static void runs_flush(struct segment *seg)
{
    struct env *env = seg->plog->store->env;
    if (!list_empty(&seg->runs_flushing) || list_empty(&seg->runs_written))
        return;
    list_splice_tail(&seg->runs_flushing, &seg->runs_written);
    struct seg_io *first = container_of(list_head(&seg->runs_flushing), struct seg_io, link);
    first->flush_ns = env_now_ns(env);
    env_flush(env, &first->op, seg->file, on_runs_flushed);
}

static void on_runs_flushed(struct env_op *op)
{
    struct seg_io *first = container_of(op, struct seg_io, op);
    struct segment *seg = first->seg;
    struct log_store *s = seg->plog->store;
    struct list_node flushed;
    int rc = op->res;
    counter_hist_add(&s->counters.flush_us, (env_now_ns(s->env) - first->flush_ns) / NS_PER_US);
    list_init(&flushed);
    list_splice_tail(&flushed, &seg->runs_flushing);
    runs_flush(seg); /* before these end: the last of them may be the last use of the segment */
    for (struct list_node *it; (it = list_pop_head(&flushed)) != NULL;)
        run_end(container_of(it, struct seg_io, link), rc);
}

static void on_run_written(struct env_op *op)
{
    struct seg_io *io = container_of(op, struct seg_io, op);
    seg_io_written(io);
    if (op->res < 0) {
        run_end(io, op->res);
        return;
    }
    list_push_tail(&io->seg->runs_written, &io->link);
    runs_flush(io->seg);
}

/* Behind run_may_start(): writes from run_from() up to to_pos as a part of the group. */
void run_start(struct segment *seg, struct group *g, uint64_t to_pos)
{
    struct log_store *s = seg->plog->store;
    struct seg_io *io = container_of(list_pop_head(&s->runs_free), struct seg_io, link);
    uint64_t end = seg_io_prepare(io, seg, run_from(seg), to_pos);
    ASSERT(end == to_pos);
    io->group = g;
    g->pending++;
    seg->run_pos = to_pos;
    seg->runs_n++;
    env_writev(s->env, &io->op, seg->file, io->iov, io->iov_n, io->from_pos, 0, on_run_written);
}

/* Its group has: destaged_pos is about to move. A destage that waited for it, perhaps only to find
 * nothing to do or the partition fenced, begins before the next run: see log_store_pump. */
void run_retired(struct segment *seg)
{
    ASSERT(seg->runs_n > 0);
    if (--seg->runs_n == 0)
        seg->destage_waits = false;
    plog_want_destage(seg->plog);
}

void runs_fini(struct log_store *s)
{
    for (struct list_node *it; (it = list_pop_head(&s->runs_free)) != NULL; s->runs_made_n--)
        free(container_of(it, struct seg_io, link));
    ASSERT(s->runs_made_n == 0);
}
