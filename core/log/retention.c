/* retention.c: which segments of a partition are too old, or too many (retention.ms,
 * retention.bytes of topics whose cleanup.policy has delete).
 *
 * Happy path: a pass looks at some partitions a turn: the first segments whose largest timestamp is
 *   too old, or without which there are bytes enough, are to go: the log starts behind them
 *   (start.c), and then they are trimmed (trim.c). The last segment is rolled first when it is its
 *   turn; the partition is looked at again once that is sealed.
 * What a start does not know of a segment that was sealed before it, size and times, is loaded,
 *   one segment at a time. Failure: what cannot be loaded is left to the next pass.
 * Threads: the shard's. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#define NS_PER_MS UINT64_C(1000000)
#define FIRST_PASS_MS 30000u /* after a start there is other work */
#define PARTITIONS_A_TURN 16u

struct retention {
    struct log_store *store;
    struct load_waiter waiter;
    struct plog *loading; /* held; NULL: nothing is being loaded */
    bool passing, stopped;
    uint64_t *numbers; /* of the partitions that there were when the pass began */
    size_t numbers_n, numbers_at;
    uint64_t next_ns, began_ns;
};

static bool is_gone(const struct segment *seg)
{
    return seg->end_offset <= seg->plog->log_start;
}

/* Of all that is not gone; false and the segment whose size is not known. */
static bool bytes_kept(const struct plog *p, int64_t *ret, struct segment **ret_unknown)
{
    *ret = 0;
    list_for_each(it, &p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (is_gone(seg))
            continue;
        *ret_unknown = seg;
        if (!seg->size_known)
            return false;
        *ret += (int64_t)seg->end_pos;
    }
    *ret_unknown = NULL;
    return true;
}

/* 1, 0; -EAGAIN: it has to be loaded. */
static int is_too_old(const struct segment *seg)
{
    const struct topic_config *config = &seg->plog->config;
    int64_t last;
    if (config->retention_ms < 0)
        return 0;
    bool known = segment_last_timestamp(seg, &last);
    if (env_wall_ms(seg->plog->store->env) - last <= config->retention_ms)
        return 0;
    return known ? 1 : -EAGAIN;
}

/* It is the last one's turn: it has to be sealed before it can go. */
static void last_expired(struct plog *p, const struct segment *seg)
{
    if (seg->state == SEGMENT_OPEN && plog_roll(p) == NULL)
        return; /* no memory: next time */
    p->expired = true;
}

/* NULL, or the segment that has to be loaded before more can be said. */
static struct segment *expire(struct plog *p)
{
    int64_t kept, over, start = p->log_start;
    struct segment *unknown = NULL;
    bool by_bytes = p->config.retention_bytes >= 0;
    if (by_bytes && !bytes_kept(p, &kept, &unknown))
        return unknown;
    over = by_bytes ? kept - p->config.retention_bytes : -1;
    list_for_each(it, &p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (is_gone(seg))
            continue;
        int old = seg->end_pos == 0 && seg->size_known ? 0 : is_too_old(seg);
        bool goes = old == 1 || (seg->end_pos > 0 && over >= (int64_t)seg->end_pos);
        if (old < 0 && !goes)
            unknown = seg;
        if (goes && seg->state != SEGMENT_SEALED)
            last_expired(p, seg);
        if (!goes || seg->state != SEGMENT_SEALED)
            break;
        over -= (int64_t)seg->end_pos;
        start = seg->end_offset;
    }
    plog_want_start(p, start);
    return unknown;
}

static bool is_retained_by_policy(const struct plog *p)
{
    return (p->config.cleanup_policy & TOPIC_CLEANUP_DELETE) == 0;
}

static bool can_expire(const struct plog *p)
{
    const struct log_store *s = p->store;
    return !p->removed && p->fenced == 0 && s->failed == 0 && !s->unsettled &&
           !is_retained_by_policy(p) && s->retention != NULL && !s->retention->stopped;
}

/* Its last segment was rolled because of its age, and is sealed now. */
void plog_expire(struct plog *p)
{
    p->expired = false;
    if (can_expire(p))
        expire(p);
}

/* ---- the pass ---- */

static void on_loaded(struct load_waiter *w, int rc)
{
    struct retention *r = container_of(w, struct retention, waiter);
    struct plog *p = r->loading;
    r->loading = NULL;
    if (rc != 0)
        r->numbers_at++;
    plog_unhold(p);
}

/* Goes on with the same partition when it is there. */
static void load_wait(struct retention *r, struct segment *seg)
{
    r->loading = seg->plog;
    r->waiter.run = on_loaded;
    plog_hold(seg->plog);
    seg_load_wait(seg, &r->waiter);
}

static void pass_step(struct retention *r)
{
    struct plog *p = log_store_find(r->store, r->numbers[r->numbers_at]);
    struct segment *unknown = p != NULL && can_expire(p) ? expire(p) : NULL;
    if (unknown != NULL && !seg_loaded(unknown))
        load_wait(r, unknown);
    else
        r->numbers_at++;
}

static void pass_begin(struct retention *r, uint64_t now)
{
    struct log_store *s = r->store;
    struct plog *p;
    r->began_ns = now;
    r->next_ns = now + s->config.retention_check_ms * NS_PER_MS;
    r->numbers_n = r->numbers_at = 0;
    r->numbers = malloc(MAX(s->plogs.count, (size_t)1) * sizeof(*r->numbers));
    if (r->numbers == NULL)
        return;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        r->numbers[r->numbers_n++] = p->number;
    r->passing = true;
}

static void pass_end(struct retention *r)
{
    free(r->numbers);
    r->numbers = NULL;
    r->passing = false;
}

void retention_pump(struct log_store *s)
{
    struct retention *r = s->retention;
    if (r == NULL || r->stopped || r->loading != NULL)
        return;
    uint64_t now = env_now_ns(s->env);
    if (!r->passing && now >= r->next_ns)
        pass_begin(r, now);
    for (unsigned i = 0; r->passing && i < PARTITIONS_A_TURN && r->loading == NULL; i++)
        if (r->numbers_at < r->numbers_n)
            pass_step(r);
        else
            pass_end(r);
}

uint64_t retention_deadline_ns(const struct log_store *s)
{
    const struct retention *r = s->retention;
    if (r == NULL || r->stopped || r->loading != NULL)
        return UINT64_MAX;
    return r->passing ? 0 : r->next_ns;
}

bool retention_busy(const struct log_store *s)
{
    return s->retention != NULL && s->retention->loading != NULL;
}

/* ---- life ---- */

int retention_open(struct log_store *s)
{
    if (s->config.retention_check_ms == 0)
        return 0;
    struct retention *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    r->store = s;
    r->next_ns =
        env_now_ns(s->env) + MIN(s->config.retention_check_ms, (uint64_t)FIRST_PASS_MS) * NS_PER_MS;
    s->retention = r;
    return 0;
}

void retention_stop(struct log_store *s)
{
    if (s->retention != NULL)
        s->retention->stopped = true;
}

void retention_fini(struct log_store *s)
{
    struct retention *r = s->retention;
    if (r == NULL)
        return;
    ASSERT(r->loading == NULL || s->abandoned);
    free(r->numbers);
    free(r);
    s->retention = NULL;
}
