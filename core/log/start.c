/* start.c: the first offset of a partition's log. It only ever grows, and nobody sees it before it
 * is durable: files below it are given away, and what has gone must not come back.
 *
 * Happy path: plog_want_start() -> a RECORD_START in the next group, once all below is stable ->
 *   the group retires -> log_start moves -> who waits is told, segments below are trimmed (trim.c).
 *   Checkpoints hold it, too.
 * Replay: such a record was written when all below it was stable. So a partition that cannot be
 *   replayed up to there (its files are gone) goes on behind it.
 * Failure: of a partition that is fenced or a store that has failed it does not move any more, who
 *   waits is told so. Threads: the shard's. */
#include "core/log/internal.h"

#include <errno.h>

void plog_want_start(struct plog *p, int64_t offset)
{
    if (offset <= p->start_wanted)
        return;
    p->start_wanted = offset;
    plog_mark_start(p);
}

/* A record may say so now. Until what is below is stable a crash could take it away, or its file
 * could be gone while nothing proves that it had been there. */
bool plog_start_is_due(const struct plog *p)
{
    return p->start_wanted > p->start_queued && p->start_wanted <= p->stable_offset;
}

/* A record is to say so, or that a segment replaces others. */
bool plog_has_note(const struct plog *p)
{
    return plog_start_is_due(p) || (p->swap != NULL && !p->swap_queued);
}

void plog_start_durable(struct plog *p, int64_t offset)
{
    ASSERT(offset <= p->stable_offset);
    p->log_start = MAX(p->log_start, offset);
    plog_notify(p);
    plog_trim(p);
}

void plog_start_replayed(struct plog *p, int64_t offset)
{
    p->log_start = MAX(p->log_start, offset);
    p->start_wanted = p->start_queued = p->log_start;
    if (p->end_offset >= p->log_start)
        return;
    p->hole = p->hole && p->hole_end > p->log_start;
    p->end_offset = p->stable_offset = p->log_start;
}

void start_waiters_run(struct plog *p, int failure)
{
    list_for_each_safe(it, next, &p->start_waiters) {
        struct plog_start_waiter *w = container_of(it, struct plog_start_waiter, link);
        bool done = w->offset <= p->log_start;
        if (!done && failure == 0)
            continue;
        list_remove(&w->link);
        w->run(w, done ? 0 : failure);
    }
}

int plog_delete_records(struct plog *p, int64_t offset, struct plog_start_waiter *w,
                        void (*run)(struct plog_start_waiter *w, int rc))
{
    if (p->removed)
        return plog_absence(p);
    if (p->offline)
        return -EIO;
    if (offset < 0 || offset > plog_high_watermark(p))
        return -ERANGE;
    if (offset <= p->log_start)
        return 1;
    if (p->fenced != 0 || p->store->failed != 0)
        return -EIO;
    w->offset = offset;
    w->run = run;
    list_push_tail(&p->start_waiters, &w->link);
    plog_want_start(p, offset);
    return 0;
}

bool plog_start_waiter_clear(struct plog_start_waiter *w)
{
    bool waits = list_linked(&w->link);
    list_remove(&w->link);
    return waits;
}
