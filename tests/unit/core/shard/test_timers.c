#include <criterion/criterion.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "core/shard/timers.h"

#define TIMERS 2000

struct probe {
    struct shard_timer timer;
    struct shard *shard;
    uint64_t again_ns; /* set itself again in run() */
    unsigned runs;
};

static uint64_t last_run_ns;

static void on_probe(struct shard_timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);
    cr_assert_leq(last_run_ns, t->deadline_ns, "ran out of order");
    last_run_ns = t->deadline_ns;
    p->runs++;
    if (p->again_ns != 0)
        shard_timer_set(p->shard, t, p->again_ns, on_probe);
}

Test(timers, run_in_order_of_their_deadlines)
{
    static struct probe probes[TIMERS];
    struct shard s = {0};
    struct rng rng;
    rng_seed(&rng, 7);
    last_run_ns = 0;
    cr_assert_eq(timers_deadline_ns(&s), UINT64_MAX);
    for (unsigned i = 0; i < TIMERS; i++)
        shard_timer_set(&s, &probes[i].timer, 1 + rng_below(&rng, 500), on_probe);
    for (unsigned i = 0; i < TIMERS; i += 3) /* moved before they ran */
        shard_timer_set(&s, &probes[i].timer, 1 + rng_below(&rng, 500), on_probe);
    for (unsigned i = 1; i < TIMERS; i += 3)
        shard_timer_clear(&s, &probes[i].timer);
    for (uint64_t now = 0; now <= 500; now += 10) {
        timers_run_due(&s, now);
        cr_assert_gt(timers_deadline_ns(&s), now);
        for (unsigned i = 0; i < TIMERS; i++)
            cr_assert_eq(probes[i].runs, i % 3 != 1 && probes[i].timer.deadline_ns <= now);
    }
    cr_assert_eq(s.timers_n, 0);
    timers_fini(&s);
}

Test(timers, clearing_what_is_not_set_does_nothing)
{
    struct shard s = {0};
    struct probe a = {0}, b = {0};
    last_run_ns = 0;
    shard_timer_clear(&s, &a.timer);
    shard_timer_set(&s, &a.timer, 5, on_probe);
    shard_timer_set(&s, &b.timer, 6, on_probe);
    shard_timer_clear(&s, &a.timer);
    shard_timer_clear(&s, &a.timer);
    timers_run_due(&s, 10);
    cr_assert_eq(a.runs, 0);
    cr_assert_eq(b.runs, 1);
    timers_fini(&s);
}

Test(timers, one_that_re_arms_in_the_past_runs_once_a_turn)
{
    struct shard s = {0};
    struct probe a = {.shard = &s, .again_ns = 3};
    last_run_ns = 0;
    shard_timer_set(&s, &a.timer, 1, on_probe);
    timers_run_due(&s, 10);
    cr_assert_eq(a.runs, 1);
    cr_assert_eq(timers_deadline_ns(&s), 3);
    timers_run_due(&s, 10);
    cr_assert_eq(a.runs, 2);
    timers_fini(&s);
}
