#include "bench/load/rdk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

enum {
    SECOND_NS = 1000 * 1000 * 1000,
    LOOK_NS = 20 * 1000 * 1000, /* how late a new stage may be seen, when nothing else is */
    CONNECT_S = 30,
};

/* ---- stages: as in loader.c ---- */

static void interval_end(struct rdk *r, uint64_t now_ns)
{
    uint64_t cpu_ns = rdk_host_cpu_ns(&r->host);
    r->out.recorder.interval.n.cpu_ns = cpu_ns - r->cpu_was_ns;
    r->cpu_was_ns = cpu_ns;
    rdk_producers_take_counts(r);
    rdk_consumers_take_counts(r);
    load_recorder_tick(&r->out.recorder, now_ns);
    r->acked += r->out.recorder.interval.n.acked;
    r->consumed_new += r->out.recorder.interval.n.consumed_new;
    r->config.on_interval(r->config.arg, &r->out.recorder.interval);
    load_stats_reset(&r->out.recorder.interval, now_ns);
    r->interval_end_ns = now_ns + SECOND_NS;
}

static void load_begin(struct rdk *r, uint64_t now_ns)
{
    struct schedule_shape shape;
    const char *reason;
    r->start_ns = now_ns;
    r->cpu_was_ns = rdk_host_cpu_ns(&r->host);
    load_stats_reset(&r->out.recorder.interval, now_ns);
    r->interval_end_ns = now_ns + SECOND_NS;
    r->scheduling = r->producers_n > 0;
    if (!r->scheduling || workload_closed_loop(r->w))
        return;
    int rc = schedule_parse(r->w->schedule, &shape, &reason);
    ASSERT(rc == 0); /* workload_check() has parsed it */
    r->schedule_random = shape.kind == SCHEDULE_POISSON;
    schedule_init(&r->schedule, &shape, r->w->rate, r->w->seed, r->config.part, r->schedule_parts);
}

static void load_end(struct rdk *r, uint64_t now_ns)
{
    r->scheduling = false;
    load_recorder_window_end(&r->out.recorder, now_ns);
}

static void stage_enter(struct rdk *r, int stage, uint64_t now_ns)
{
    bool first = r->stage == LOADER_CONNECT;
    r->stage = stage;
    if (first)
        load_begin(r, now_ns);
    else
        interval_end(r, now_ns); /* so that each interval is of one window */
    if (stage < LOADER_DRAIN)
        load_recorder_window(&r->out.recorder, now_ns);
    else
        load_end(r, now_ns);
    if (first && r->config.consume == CONSUME_FROM_START)
        rdk_consumers_start(r, false);
    if (stage == r->config.late_stage)
        rdk_consumers_start(r, true);
    if (stage >= LOADER_CUT)
        rdk_producers_end(r);
}

static void publish(struct rdk *r)
{
    const struct load_counts *n = &r->out.recorder.interval.n;
    bool more = r->scheduling && r->config.records_max > 0 && r->records_left > 0;
    atomic_store_explicit(&r->out.acked, r->acked + n->acked, memory_order_relaxed);
    atomic_store_explicit(&r->out.consumed_new, r->consumed_new + n->consumed_new,
                          memory_order_relaxed);
    atomic_store_explicit(&r->out.unfinished, r->outstanding + more, memory_order_relaxed);
    atomic_store_explicit(&r->out.stage, r->stage, memory_order_release);
}

/* A signal that was lost, or came while the queue was being emptied, costs LOOK_NS at most. */
static bool queues_serve(struct rdk *r, uint64_t now_ns)
{
    bool all = now_ns - r->look_ns >= LOOK_NS;
    if (all)
        r->look_ns = now_ns;
    bool more = rdk_producers_serve(r, all);
    more |= rdk_consumers_serve(r, all);
    return more;
}

static bool turn(void *self)
{
    struct rdk *r = self;
    int stage = atomic_load_explicit(r->config.stage, memory_order_acquire);
    uint64_t due_ns = MAX(r->turn_ns, r->due_ns);
    rdk_host_wait(&r->host, MIN(due_ns, rdk_now_ns() + LOOK_NS));
    uint64_t now_ns = rdk_now_ns();
    r->turn_ns = now_ns;
    if (stage != r->stage)
        stage_enter(r, stage, now_ns);
    bool more = queues_serve(r, now_ns);
    if (r->stage == LOADER_CONNECT) {
        r->due_ns = more ? now_ns : UINT64_MAX;
        return true;
    }
    now_ns = rdk_now_ns(); /* serving takes its time, and the schedule does not wait */
    if (now_ns >= r->interval_end_ns)
        interval_end(r, now_ns);
    r->due_ns = rdk_producers_pump(r, now_ns);
    r->due_ns = more ? now_ns : MIN(r->due_ns, r->interval_end_ns);
    publish(r);
    return r->stage != LOADER_END;
}

/* ---- life ---- */

static void destroy(void *self)
{
    struct rdk *r = self;
    rdk_producers_fini(r);
    rdk_consumers_fini(r);
    rdk_host_fini(&r->host);
    load_recorder_fini(&r->out.recorder);
    free(r);
}

static int clients_init(struct rdk *r, char *reason, size_t reason_size)
{
    unsigned n = rdk_producers_count(r) + rdk_consumers_count(r);
    if (n > RDK_HANDLES_MAX) {
        snprintf(reason, reason_size,
                 "%u producers and consumers in one process are too many for librdkafka, which "
                 "runs several threads for each: %u at most",
                 n, RDK_HANDLES_MAX);
        return -EINVAL;
    }
    int rc = rdk_producers_init(r, reason, reason_size);
    return rc < 0 ? rc : rdk_consumers_init(r, reason, reason_size);
}

static int create(void **ret, const struct loader_config *config, char *reason, size_t reason_size)
{
    struct rdk *r = calloc(1, sizeof(*r));
    snprintf(reason, reason_size, "no memory");
    if (r == NULL)
        return -ENOMEM;
    r->config = *config;
    r->w = config->workload;
    r->connect_limit_ns = rdk_now_ns() + (uint64_t)CONNECT_S * SECOND_NS;
    rng_seed(&r->rng, r->w->seed * 0x9e3779b9u + config->part);
    r->clock_id = record_clock_id();
    int rc = rdk_host_init(&r->host);
    if (rc < 0) {
        free(r);
        return rc;
    }
    rc = load_recorder_init(&r->out.recorder);
    if (rc == 0)
        rc = clients_init(r, reason, reason_size);
    if (rc < 0) {
        destroy(r);
        return rc;
    }
    atomic_store(&r->out.consumers_done, r->consumers_unfinished == 0);
    atomic_store(&r->out.late_done, r->late_unfinished == 0);
    /* The kernel's 50 us would make every send late. Only now, as threads inherit it, and the
     * library's are to be as users have them. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    *ret = r;
    return 0;
}

static struct load_outcome *outcome(void *self)
{
    return &((struct rdk *)self)->out;
}

static int produced(void *self, struct produced *to)
{
    return rdk_producers_produced(self, to);
}

static void verify(void *self, const struct produced *all)
{
    rdk_consumers_verify(self, all);
}

const struct load_driver_ops librdkafka_driver = {
    .name = "librdkafka",
    .create = create,
    .turn = turn,
    .outcome = outcome,
    .produced = produced,
    .verify = verify,
    .destroy = destroy,
};
