#include "bench/load/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/env_uring.h"

enum {
    SECOND_NS = 1000 * 1000 * 1000,
    STAGE_LOOK_NS = 20 * 1000 * 1000, /* how late a new stage may be seen, when nothing else is */
    CONNECT_S = 30,
    ARENA_BYTES_MAX = 512 << 20,
    RING_ENTRIES = 4096,
};

static uint64_t thread_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

static void lists_init(struct loader *l)
{
    struct list_node *lists[] = {&l->open,      &l->retries, &l->dirty,   &l->batch_pool,
                                 &l->call_pool, &l->calls,   &l->blocked, &l->down};
    for (unsigned i = 0; i < ARRAY_LEN(lists); i++)
        list_init(lists[i]);
}

static int await_connections(struct loader *l, char *reason, size_t reason_size)
{
    uint64_t limit_ns = env_now_ns(l->env) + (uint64_t)CONNECT_S * SECOND_NS;
    while (!load_producers_connected(l) || !load_consumers_connected(l)) {
        if (l->out.connection_rc < 0 || env_now_ns(l->env) >= limit_ns) {
            snprintf(reason, reason_size, "connecting to the brokers: %s",
                     strerror(l->out.connection_rc < 0 ? -l->out.connection_rc : ETIMEDOUT));
            return l->out.connection_rc < 0 ? l->out.connection_rc : -ETIMEDOUT;
        }
        env_turn(l->env, limit_ns);
    }
    return 0;
}

static int cluster_init(struct loader *l, char *reason, size_t reason_size)
{
    int rc =
        cluster_open(&l->cluster, l->env, l->config.bootstrap, (uint64_t)CONNECT_S * SECOND_NS);
    if (rc == 0)
        rc = cluster_topic_find(&l->cluster, l->w->topic);
    if (rc < 0)
        snprintf(reason, reason_size, "%s", l->cluster.reason);
    return rc;
}

int loader_create(struct loader *l, struct env *env, const struct loader_config *config,
                  char *reason, size_t reason_size)
{
    *l = (struct loader){.env = env, .config = *config, .w = config->workload};
    lists_init(l);
    rng_seed(&l->rng, l->w->seed * 0x9e3779b9u + config->part);
    arena_init(&l->arena, ARENA_BYTES_MAX);
    l->clock_id = record_clock_id();
    snprintf(reason, reason_size, "no memory for histograms");
    int rc = load_recorder_init(&l->out.recorder);
    if (rc < 0)
        return rc;
    rc = cluster_init(l, reason, reason_size);
    if (rc == 0)
        rc = load_producers_init(l, reason, reason_size);
    if (rc == 0)
        rc = load_consumers_init(l, reason, reason_size);
    if (rc == 0)
        rc = await_connections(l, reason, reason_size);
    l->due_ns = UINT64_MAX;
    atomic_store(&l->out.consumers_done, l->consumers_unfinished == 0);
    atomic_store(&l->out.late_done, l->late_unfinished == 0);
    if (rc < 0)
        loader_destroy(l);
    return rc;
}

void loader_destroy(struct loader *l)
{
    l->closing = true;
    load_producers_close(l);
    load_consumers_close(l);
    while (!load_producers_closed(l) || !load_consumers_closed(l))
        env_turn(l->env, UINT64_MAX);
    cluster_close(&l->cluster);
    load_producers_fini(l);
    load_consumers_fini(l);
    arena_fini(&l->arena);
    load_recorder_fini(&l->out.recorder);
}

/* ---- stages ---- */

static void interval_end(struct loader *l, uint64_t now_ns)
{
    uint64_t cpu_ns = thread_cpu_ns();
    l->out.recorder.interval.n.cpu_ns = cpu_ns - l->cpu_was_ns;
    l->cpu_was_ns = cpu_ns;
    load_recorder_tick(&l->out.recorder, now_ns);
    l->acked += l->out.recorder.interval.n.acked;
    l->consumed_new += l->out.recorder.interval.n.consumed_new;
    l->config.on_interval(l->config.arg, &l->out.recorder.interval);
    load_stats_reset(&l->out.recorder.interval, now_ns);
    /* Lateness does not add up, or threads and agents would drift out of the host's seconds. */
    l->interval_end_ns = MAX(l->interval_end_ns + SECOND_NS, now_ns + SECOND_NS / 2);
}

static void load_begin(struct loader *l, uint64_t now_ns)
{
    struct schedule_shape shape;
    const char *reason;
    l->start_ns = now_ns;
    l->schedule_end_ns = UINT64_MAX;
    l->cpu_was_ns = thread_cpu_ns();
    load_stats_reset(&l->out.recorder.interval, now_ns);
    l->interval_end_ns = now_ns + SECOND_NS;
    l->scheduling = l->producers_n > 0;
    if (!l->scheduling || workload_closed_loop(l->w))
        return;
    int rc = schedule_parse(l->w->schedule, &shape, &reason);
    ASSERT(rc == 0); /* workload_check() has parsed it */
    l->schedule_random = shape.kind == SCHEDULE_POISSON;
    schedule_init(&l->schedule, &shape, l->w->rate, l->w->seed, l->config.part, l->schedule_parts);
}

/* What was intended before and has not been looked at yet still is. */
static void load_end(struct loader *l, uint64_t now_ns)
{
    l->schedule_end_ns = MIN(l->schedule_end_ns, now_ns);
    l->scheduling = l->scheduling && l->stage == LOADER_DRAIN && !workload_closed_loop(l->w);
    load_recorder_window_end(&l->out.recorder, now_ns);
}

static void stage_enter(struct loader *l, int stage, uint64_t now_ns)
{
    bool first = l->stage == LOADER_CONNECT;
    l->stage = stage;
    if (first) {
        load_begin(l, now_ns);
    } else { /* so that each interval is of one window */
        load_producers_catch_up(l, now_ns);
        interval_end(l, now_ns);
    }
    l->interval_end_ns = now_ns + SECOND_NS;
    if (stage < LOADER_DRAIN)
        load_recorder_window(&l->out.recorder, now_ns);
    else
        load_end(l, now_ns);
    if (stage == (int)l->config.late_stage)
        load_consumers_start_late(l);
}

/* What the host watches without waiting for an interval's end. */
static void publish(struct loader *l)
{
    const struct load_counts *n = &l->out.recorder.interval.n;
    bool limited = l->config.records_max > 0 && l->records_left > 0;
    bool more = l->scheduling && (l->stage >= LOADER_DRAIN || limited);
    atomic_store_explicit(&l->out.acked, l->acked + n->acked, memory_order_relaxed);
    atomic_store_explicit(&l->out.consumed_new, l->consumed_new + n->consumed_new,
                          memory_order_relaxed);
    atomic_store_explicit(&l->out.unfinished, l->outstanding + more, memory_order_relaxed);
    atomic_store_explicit(&l->out.stage, l->stage, memory_order_release);
}

bool loader_turn(struct loader *l)
{
    int stage = atomic_load_explicit(l->config.stage, memory_order_acquire);
    env_turn(l->env, MIN(l->due_ns, env_now_ns(l->env) + STAGE_LOOK_NS));
    uint64_t now_ns = env_now_ns(l->env);
    if (stage != l->stage)
        stage_enter(l, stage, now_ns);
    if (l->stage == LOADER_CONNECT)
        return true;
    if (now_ns >= l->interval_end_ns) {
        interval_end(l, now_ns);
        load_producers_tick(l, now_ns);
        load_consumers_tick(l, now_ns);
    }
    l->due_ns = MIN(load_producers_pump(l, now_ns), load_consumers_pump(l, now_ns));
    l->due_ns = MIN(l->due_ns, cluster_pump(&l->cluster, now_ns));
    l->due_ns = MIN(l->due_ns, l->interval_end_ns);
    publish(l);
    return l->stage != LOADER_END;
}

int loader_produced(const struct loader *l, struct produced *to)
{
    return load_producers_produced(l, to);
}

void loader_verify(struct loader *l, const struct produced *all)
{
    load_consumers_verify(l, all);
}

/* ---- as a driver ---- */

struct ring_loader {
    struct loader loader;
    struct env *env;
};

static int driver_create(void **ret, const struct loader_config *config, char *reason,
                         size_t reason_size)
{
    struct ring_loader *r = calloc(1, sizeof(*r));
    struct env_uring_config ring = {.entries = RING_ENTRIES};
    snprintf(reason, reason_size, "no memory");
    if (r == NULL)
        return -ENOMEM;
    prctl(PR_SET_TIMERSLACK, 1UL); /* the kernel's 50 us would make every send late */
    int rc = env_uring_create(&ring, &r->env);
    if (rc < 0)
        snprintf(reason, reason_size, "io_uring: %s", strerror(-rc));
    else
        rc = loader_create(&r->loader, r->env, config, reason, reason_size);
    if (rc < 0) {
        env_destroy(r->env);
        free(r);
        return rc;
    }
    *ret = r;
    return 0;
}

static bool driver_turn(void *self)
{
    return loader_turn(&((struct ring_loader *)self)->loader);
}

static struct load_outcome *driver_outcome(void *self)
{
    return &((struct ring_loader *)self)->loader.out;
}

static int driver_produced(void *self, struct produced *to)
{
    return loader_produced(&((struct ring_loader *)self)->loader, to);
}

static void driver_verify(void *self, const struct produced *all)
{
    loader_verify(&((struct ring_loader *)self)->loader, all);
}

static void driver_destroy(void *self)
{
    struct ring_loader *r = self;
    loader_destroy(&r->loader);
    env_destroy(r->env);
    free(r);
}

const struct load_driver_ops loader_driver = {
    .name = "penstock",
    .create = driver_create,
    .turn = driver_turn,
    .outcome = driver_outcome,
    .produced = driver_produced,
    .verify = driver_verify,
    .destroy = driver_destroy,
};
