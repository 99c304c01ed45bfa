/* due.c: when the new bytes of a partition go into a group. At once if somebody waits for them: an
 * append with acks=all, a consumer at the end of the log or one that has just been there; at once
 * also what is enough for a direct run. The rest was answered from memory and nobody looks at it:
 * it may gather for LAZY_NS, so that less of it has to be written twice, and in fewer pieces.
 * Happy path: plog_mark_dirty() -> store.dirty, which the next group takes; or store.lazy -> all of
 *   it into store.dirty when its oldest has waited long enough, or memory is short.
 * Failure: none; what is due and finds no room in the journal stays in store.dirty. */
#include "core/log/internal.h"

#define LAZY_NS 20000000ull /* far below the flush.ms of a topic whose bytes may gather */
#define WATCHED_LATELY_NS 100000000ull /* a consumer is about to come back */

static bool plog_is_awaited(const struct plog *p)
{
    return !list_empty(&p->waiting) || !list_empty(&p->watches) ||
           (p->watched_ns != 0 && env_now_ns(p->store->env) - p->watched_ns < WATCHED_LATELY_NS);
}

static bool plog_is_due(const struct plog *p)
{
    const struct log_store *s = p->store;
    const struct segment *seg = plog_active(p);
    bool impatient = (uint64_t)p->config.flush_ms < 2 * LAZY_NS / 1000000;
    return impatient || plog_is_awaited(p) || !list_empty(&s->memory_waiters) || s->closing ||
           seg == NULL || seg->end_pos - seg->queued_pos >= s->config.direct_min_bytes;
}

static void make_due(struct plog *p)
{
    list_remove(&p->dirty_link);
    p->lazy = false;
    list_push_tail(&p->store->dirty, &p->dirty_link);
}

/* It has bytes to queue, or what kept them from being queued has ended. */
void plog_mark_dirty(struct plog *p)
{
    struct log_store *s = p->store;
    bool queued = list_linked(&p->dirty_link);
    if (queued && !p->lazy)
        return;
    if (plog_is_due(p)) {
        make_due(p);
    } else if (!queued) {
        p->lazy = true;
        p->due_ns = env_now_ns(s->env) + LAZY_NS;
        list_push_tail(&s->lazy, &p->dirty_link);
    }
}

/* Somebody looks at the end of the log. */
void plog_hurry(struct plog *p)
{
    p->watched_ns = env_now_ns(p->store->env);
    if (list_linked(&p->dirty_link) && p->lazy)
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
    return first == NULL ? UINT64_MAX : container_of(first, struct plog, dirty_link)->due_ns;
}

void due_pump(struct log_store *s)
{
    if (env_now_ns(s->env) >= due_deadline_ns(s) || !list_empty(&s->memory_waiters))
        due_all(s);
}
