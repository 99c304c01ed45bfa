#include "bench/load/verify.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"

#define PRODUCERS_MAX (1u << 24) /* a damaged id must not cost memory */

const char *const incident_names[INCIDENT_KINDS] = {
    [INCIDENT_LOST] = "lost",
    [INCIDENT_REPEATED] = "repeated",
    [INCIDENT_REORDERED] = "reordered",
    [INCIDENT_CORRUPT] = "corrupt",
};

void verify_log_add(struct verify_log *log, const struct incident *incident)
{
    log->totals[incident->kind] += incident->count;
    if (log->incidents_n < INCIDENTS_MAX)
        log->incidents[log->incidents_n++] = *incident;
}

void verify_log_merge(struct verify_log *log, const struct verify_log *from)
{
    for (unsigned i = 0; i < INCIDENT_KINDS; i++)
        log->totals[i] += from->totals[i];
    log->foreign += from->foreign;
    log->unread += from->unread;
    for (unsigned i = 0; i < from->incidents_n && log->incidents_n < INCIDENTS_MAX; i++)
        log->incidents[log->incidents_n++] = from->incidents[i];
}

int sequence_ranges_add(struct sequence_ranges *r, const struct sequence_range *range)
{
    if (r->n == r->cap) {
        size_t cap = MAX((size_t)16, r->cap * 2);
        struct sequence_range *at = reallocarray(r->at, cap, sizeof(*at));
        if (at == NULL)
            return -ENOMEM;
        r->at = at;
        r->cap = cap;
    }
    r->at[r->n++] = *range;
    return 0;
}

void sequence_ranges_fini(struct sequence_ranges *r)
{
    free(r->at);
    *r = (struct sequence_ranges){0};
}

static void ranges_remove(struct sequence_ranges *r, size_t i)
{
    r->at[i] = r->at[--r->n];
}

void verify_part_init(struct verify_part *v, int32_t partition, uint32_t run, bool adopt,
                      struct verify_log *log)
{
    *v = (struct verify_part){.partition = partition, .run = run, .adopt = adopt, .log = log};
}

void verify_part_fini(struct verify_part *v)
{
    free(v->next);
    sequence_ranges_fini(&v->missing);
}

static void incident_add(struct verify_part *v, enum incident_kind kind, int64_t offset,
                         uint32_t producer, uint64_t sequence, uint64_t count)
{
    verify_log_add(v->log, &(struct incident){.kind = kind,
                                              .partition = v->partition,
                                              .offset = offset,
                                              .known = true,
                                              .producer = producer,
                                              .sequence = sequence,
                                              .count = count});
}

static void missing_add(struct verify_part *v, const struct sequence_range *range)
{
    if (sequence_ranges_add(&v->missing, range) < 0)
        incident_add(v, INCIDENT_LOST, range->offset, range->producer, range->first, range->count);
}

/* The place of the producer's next sequence; NULL: no such producer can be, or no memory. */
static uint64_t *next_of(struct verify_part *v, uint32_t producer)
{
    if (producer >= PRODUCERS_MAX)
        return NULL;
    if (producer >= v->next_cap) {
        size_t cap = MAX((size_t)producer + 1, MIN(v->next_cap * 2, (size_t)PRODUCERS_MAX));
        uint64_t *next = reallocarray(v->next, cap, sizeof(*next));
        if (next == NULL)
            return NULL;
        for (size_t i = v->next_cap; i < cap; i++)
            next[i] = v->adopt ? SEQUENCE_UNKNOWN : 0;
        v->next = next;
        v->next_cap = cap;
    }
    return &v->next[producer];
}

/* Cut the sequence out of the missing ranges; false: it is in none. */
static bool missing_take(struct verify_part *v, uint32_t producer, uint64_t sequence)
{
    for (size_t i = 0; i < v->missing.n; i++) {
        struct sequence_range *r = &v->missing.at[i];
        if (r->producer != producer || sequence < r->first || sequence - r->first >= r->count)
            continue;
        struct sequence_range behind = *r;
        behind.first = sequence + 1;
        behind.count = r->first + r->count - behind.first;
        r->count = sequence - r->first;
        if (r->count == 0)
            ranges_remove(&v->missing, i);
        if (behind.count > 0)
            missing_add(v, &behind);
        return true;
    }
    return false;
}

/* Another run's records follow: what this one's still lacked will not come. */
static void adopt_run(struct verify_part *v, uint32_t run)
{
    verify_part_finish(v, NULL);
    v->run = run;
    for (size_t i = 0; i < v->next_cap; i++)
        v->next[i] = SEQUENCE_UNKNOWN;
}

bool verify_record(struct verify_part *v, const struct record_head *head, int64_t offset)
{
    if (head->run != v->run && v->adopt)
        adopt_run(v, head->run);
    uint64_t *next = head->run == v->run ? next_of(v, head->producer) : NULL;
    if (next == NULL) {
        v->log->foreign++;
        return false;
    }
    if (*next == SEQUENCE_UNKNOWN || head->sequence == *next) {
        *next = head->sequence + 1;
        return true;
    }
    if (head->sequence > *next) {
        missing_add(
            v, &(struct sequence_range){head->producer, *next, head->sequence - *next, offset});
        *next = head->sequence + 1;
        return true;
    }
    bool late = missing_take(v, head->producer, head->sequence);
    incident_add(v, late ? INCIDENT_REORDERED : INCIDENT_REPEATED, offset, head->producer,
                 head->sequence, 1);
    return late;
}

bool verify_corrupt(struct verify_part *v, const struct record_head *head, int64_t offset)
{
    uint64_t *next = head != NULL && head->run == v->run ? next_of(v, head->producer) : NULL;
    bool due = next != NULL && *next == head->sequence;
    if (due)
        ++*next;
    verify_log_add(v->log, &(struct incident){.kind = INCIDENT_CORRUPT,
                                              .partition = v->partition,
                                              .offset = offset,
                                              .known = due,
                                              .producer = due ? head->producer : 0,
                                              .sequence = due ? head->sequence : 0,
                                              .count = 1});
    return due;
}

/* ---- what was produced ---- */

/* Room for one more of `size` bytes each; NULL: no memory. */
static void *grown(void *at, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return at;
    size_t more = MAX((size_t)64, *cap * 2);
    void *p = reallocarray(at, more, size);
    if (p != NULL)
        *cap = more;
    return p;
}

int produced_add(struct produced *p, uint32_t producer, int32_t partition, uint64_t end)
{
    struct produced_end *ends = grown(p->ends, p->ends_n, &p->ends_cap, sizeof(*ends));
    if (ends == NULL)
        return -ENOMEM;
    p->ends = ends;
    p->ends[p->ends_n++] = (struct produced_end){partition, producer, end};
    return 0;
}

int produced_add_failed(struct produced *p, int32_t partition, const struct sequence_range *range)
{
    struct produced_failure *failed =
        grown(p->failed, p->failed_n, &p->failed_cap, sizeof(*failed));
    if (failed == NULL)
        return -ENOMEM;
    p->failed = failed;
    p->failed[p->failed_n++] = (struct produced_failure){partition, *range};
    return 0;
}

static int end_compare(const void *a, const void *b)
{
    const struct produced_end *x = a, *y = b;
    return x->partition != y->partition ? (x->partition > y->partition ? 1 : -1)
                                        : (x->producer > y->producer) - (x->producer < y->producer);
}

static int failure_compare(const void *a, const void *b)
{
    const struct produced_failure *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition > y->partition ? 1 : -1;
    return (x->range.producer > y->range.producer) - (x->range.producer < y->range.producer);
}

void produced_sort(struct produced *p)
{
    if (p->ends_n > 0)
        qsort(p->ends, p->ends_n, sizeof(*p->ends), end_compare);
    if (p->failed_n > 0)
        qsort(p->failed, p->failed_n, sizeof(*p->failed), failure_compare);
}

void produced_fini(struct produced *p)
{
    free(p->ends);
    free(p->failed);
    *p = (struct produced){0};
}

/* Index of the first end of the partition, or of a greater one. */
static size_t ends_of(const struct produced *p, int32_t partition)
{
    size_t low = 0, high = p->ends_n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (p->ends[mid].partition < partition)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Index of the first failure that is not less than the key. */
static size_t failures_of(const struct produced *p, const struct produced_failure *key)
{
    size_t low = 0, high = p->failed_n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (failure_compare(&p->failed[mid], key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* How many of the range are among the failed. */
static uint64_t failed_within(const struct produced *all, int32_t partition,
                              const struct sequence_range *r)
{
    struct produced_failure key = {.partition = partition, .range = *r};
    uint64_t sum = 0;
    if (all == NULL)
        return 0;
    for (size_t i = failures_of(all, &key);
         i < all->failed_n && failure_compare(&all->failed[i], &key) == 0; i++) {
        const struct sequence_range *f = &all->failed[i].range;
        uint64_t from = MAX(f->first, r->first), to = MIN(f->first + f->count, r->first + r->count);
        sum += to > from ? to - from : 0;
    }
    return sum;
}

/* What one producer sent and is not seen yet. False: there is nothing. */
static bool unseen_of(struct verify_part *v, const struct produced_end *e,
                      struct sequence_range *ret)
{
    uint64_t *next = e->end > 0 ? next_of(v, e->producer) : NULL;
    if (next == NULL || *next >= e->end)
        return false;
    *ret = (struct sequence_range){e->producer, *next, e->end - *next, -1};
    return true;
}

uint64_t verify_part_unseen(struct verify_part *v, const struct produced *all)
{
    struct sequence_range r;
    uint64_t sum = 0;
    for (size_t i = ends_of(all, v->partition);
         i < all->ends_n && all->ends[i].partition == v->partition; i++)
        if (unseen_of(v, &all->ends[i], &r))
            sum += r.count - MIN(r.count, failed_within(all, v->partition, &r));
    return sum;
}

void verify_part_expect(struct verify_part *v, const struct produced *all)
{
    struct sequence_range r;
    for (size_t i = ends_of(all, v->partition);
         i < all->ends_n && all->ends[i].partition == v->partition; i++)
        if (unseen_of(v, &all->ends[i], &r)) {
            missing_add(v, &r);
            *next_of(v, r.producer) = all->ends[i].end;
        }
}

void verify_part_finish(struct verify_part *v, const struct produced *all)
{
    for (size_t i = 0; i < v->missing.n; i++) {
        const struct sequence_range *r = &v->missing.at[i];
        uint64_t lost = r->count - MIN(r->count, failed_within(all, v->partition, r));
        if (lost > 0)
            incident_add(v, INCIDENT_LOST, r->offset, r->producer, r->first, lost);
    }
    v->missing.n = 0;
}
