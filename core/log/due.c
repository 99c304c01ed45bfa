/* due.c: when the new bytes of a partition go into a group. At once if somebody waits for them: an
 * append with acks=all, a consumer at the end of the log or one that has just been there; at once
 * also what makes a large direct run. The rest was answered from memory and nobody looks at it: it
 * may gather for LAZY_NS, so that less of it has to be written twice, and with fewer flushes.
 * Where many partitions gather, their bytes are written ahead: the one that has gathered longest
 * goes to its segment (destage.c), and only a record of that to the journal. They gather until
 * memory is needed, at the most for AHEAD_NS: the pieces are larger, and written once.
 * Happy path: plog_mark_dirty() -> store.dirty, which the next group takes; or store.lazy -> all of
 *   it into store.dirty when its oldest has waited long enough, or memory is short; or, of many,
 *   one after the other written ahead -> plog_mark_settled() -> store.dirty.
 * Failure: none; what is due and finds no room in the journal stays in store.dirty. */
#include "core/log/internal.h"

#define LAZY_NS 20000000ull         /* far below the flush.ms of a topic whose bytes may gather */
#define GATHERED_BYTES (4ull << 20) /* worth a write and a flush of their own */
#define AHEAD_NS 1000000000ull      /* so long where many gather: the pieces are larger */
#define AHEAD_MAX 512u              /* of them written at a time, so that others gather meanwhile */
#define WATCHED_LATELY_NS 100000000ull /* a consumer is about to come back */

/* Their bytes are better written once, to the segments, than first to the journal. */
static bool many_gather(const struct log_store *s)
{
    return s->config.ahead_min > 0 && s->lazy_n + s->ahead_n >= s->config.ahead_min &&
           !s->stopping && s->failed == 0;
}

bool plog_is_awaited(const struct plog *p)
{
    return !list_empty(&p->waiting) || !list_empty(&p->watches) ||
           (p->watched_ns != 0 && env_now_ns(p->store->env) - p->watched_ns < WATCHED_LATELY_NS);
}

static bool gathers_long(const struct plog *p)
{
    return (uint64_t)p->config.flush_ms >= 2 * AHEAD_NS / 1000000;
}

static bool plog_is_due(const struct plog *p)
{
    const struct log_store *s = p->store;
    const struct segment *seg = plog_active(p);
    bool impatient = (uint64_t)p->config.flush_ms < 2 * LAZY_NS / 1000000 ||
                     (many_gather(s) && !gathers_long(p));
    bool short_of_memory = !list_empty(&s->memory_waiters) && !many_gather(s);
    return impatient || plog_is_awaited(p) || p->departure != NULL || short_of_memory ||
           s->stopping || seg == NULL ||
           seg->end_pos - seg->queued_pos >= MAX(s->config.direct_min_bytes, GATHERED_BYTES);
}

/* Nothing of it is to be queued. */
void plog_unmark(struct plog *p)
{
    list_remove(&p->dirty_link);
    p->store->lazy_n -= p->lazy;
    p->lazy = p->only_settled = false;
}

static void make_due(struct plog *p)
{
    plog_unmark(p);
    list_push_tail(&p->store->dirty, &p->dirty_link);
}

/* It has bytes to queue, or what kept them from being queued has ended. */
void plog_mark_dirty(struct plog *p)
{
    struct log_store *s = p->store;
    bool queued = list_linked(&p->dirty_link);
    if (queued && !p->lazy && !p->only_settled)
        return;
    if (plog_is_due(p)) {
        make_due(p);
    } else if (!queued) {
        p->lazy = true;
        s->lazy_n++;
        p->due_ns = env_now_ns(s->env) + LAZY_NS;
        list_push_tail(&s->lazy, &p->dirty_link);
    }
}

/* What was written ahead can count; the rest of it may go on gathering. */
void plog_mark_settled(struct plog *p)
{
    if (list_linked(&p->dirty_link) && !p->lazy)
        return;
    make_due(p);
    p->only_settled = !plog_is_due(p);
}

/* The log is to begin elsewhere, which waits until all below is stable; or a segment replaces
 * others. */
void plog_mark_start(struct plog *p)
{
    bool queued = list_linked(&p->dirty_link), due = queued && !p->lazy && !p->only_settled;
    if (!due && (queued || plog_has_note(p)))
        make_due(p);
}

/* Somebody looks at the end of the log. */
void plog_hurry(struct plog *p)
{
    p->watched_ns = env_now_ns(p->store->env);
    if (list_linked(&p->dirty_link) && (p->lazy || p->only_settled))
        make_due(p);
}

/* All together, so that they share a write, and the next one is as long away. */
void due_all(struct log_store *s)
{
    for (struct list_node *it; (it = list_head(&s->lazy)) != NULL;)
        make_due(container_of(it, struct plog, dirty_link));
}

uint64_t due_deadline_ns(const struct log_store *s)
{
    const struct list_node *first = list_head(&s->lazy);
    if (first == NULL)
        return UINT64_MAX;
    return container_of(first, struct plog, dirty_link)->due_ns +
           (many_gather(s) ? AHEAD_NS - LAZY_NS : 0);
}

/* The one that has gathered longest: to its segment, if it can go there. */
static void write_first_ahead(struct log_store *s)
{
    struct plog *p = container_of(list_head(&s->lazy), struct plog, dirty_link);
    if (gathers_long(p) && plog_write_ahead(p))
        plog_unmark(p);
    else
        make_due(p);
}

void due_pump(struct log_store *s)
{
    bool ahead = many_gather(s),
         wanted = !list_empty(&s->memory_waiters) || (ahead && store_memory_is_short(s));
    while (ahead && (env_now_ns(s->env) >= due_deadline_ns(s) ||
                     (wanted && s->ahead_n < AHEAD_MAX && !list_empty(&s->lazy))))
        write_first_ahead(s);
    if (!ahead && (wanted || env_now_ns(s->env) >= due_deadline_ns(s)))
        due_all(s);
}
