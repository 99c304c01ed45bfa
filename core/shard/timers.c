#include "core/shard/timers.h"

#include <stdlib.h>

#include "core/base/assert.h"

#define TIMERS_CAP_MIN 64u

static void slot_set(struct shard *s, size_t at, struct shard_timer *t)
{
    s->timers[at] = t;
    t->heap_at = at;
}

static void sift_up(struct shard *s, size_t at)
{
    struct shard_timer *t = s->timers[at];
    for (; at > 1 && s->timers[at / 2]->deadline_ns > t->deadline_ns; at /= 2)
        slot_set(s, at, s->timers[at / 2]);
    slot_set(s, at, t);
}

static void sift_down(struct shard *s, size_t at)
{
    struct shard_timer *t = s->timers[at];
    for (size_t child = at * 2; child <= s->timers_n; child = at * 2) {
        if (child < s->timers_n &&
            s->timers[child + 1]->deadline_ns < s->timers[child]->deadline_ns)
            child++;
        if (s->timers[child]->deadline_ns >= t->deadline_ns)
            break;
        slot_set(s, at, s->timers[child]);
        at = child;
    }
    slot_set(s, at, t);
}

static void heap_grow(struct shard *s)
{
    size_t cap = s->timers_cap == 0 ? TIMERS_CAP_MIN : s->timers_cap * 2;
    struct shard_timer **grown = realloc(s->timers, (cap + 1) * sizeof(struct shard_timer *));
    ASSERT(grown != NULL); /* 8 bytes a timer, whose owner was just allocated */
    s->timers = grown;
    s->timers_cap = cap;
}

void shard_timer_clear(struct shard *s, struct shard_timer *t)
{
    size_t at = t->heap_at;
    if (at == 0)
        return;
    ASSERT(at <= s->timers_n && s->timers[at] == t);
    struct shard_timer *last = s->timers[s->timers_n--];
    t->heap_at = 0;
    if (last == t)
        return;
    slot_set(s, at, last);
    sift_up(s, at);
    sift_down(s, last->heap_at);
}

void shard_timer_set(struct shard *s, struct shard_timer *t, uint64_t deadline_ns,
                     void (*run)(struct shard_timer *t))
{
    shard_timer_clear(s, t);
    if (s->timers_n == s->timers_cap)
        heap_grow(s);
    t->deadline_ns = deadline_ns;
    t->run = run;
    slot_set(s, ++s->timers_n, t);
    sift_up(s, s->timers_n);
}

uint64_t timers_deadline_ns(const struct shard *s)
{
    return s->timers_n == 0 ? UINT64_MAX : s->timers[1]->deadline_ns;
}

void timers_run_due(struct shard *s, uint64_t now_ns)
{
    /* Bounded by what was set at the beginning, so that a timer that re-arms itself in the past
     * cannot keep the shard from its completions. */
    for (size_t budget = s->timers_n; budget > 0 && timers_deadline_ns(s) <= now_ns; budget--) {
        struct shard_timer *t = s->timers[1];
        shard_timer_clear(s, t);
        t->run(t);
    }
}

void timers_fini(struct shard *s)
{
    free(s->timers);
    s->timers = NULL;
    s->timers_n = s->timers_cap = 0;
}
