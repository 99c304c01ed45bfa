#include "bench/load/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "io/env_uring.h"

enum {
    ARENA_BYTES_MAX = 512 << 20,
    RING_ENTRIES = 4096,
};

static uint64_t thread_cpu_ns(struct course *c)
{
    (void)c; /* the clock is the thread's */
    return clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

static const struct course_ops course_ops = {
    .record_make = load_record_make,
    .cpu_ns = thread_cpu_ns,
    .room_least = load_room_least,
    .unsent_drop = load_unsent_drop,
};

static void lists_init(struct loader *l)
{
    struct list_node *lists[] = {&l->open,      &l->retries, &l->dirty,   &l->batch_pool,
                                 &l->call_pool, &l->calls,   &l->blocked, &l->down};
    for (unsigned i = 0; i < ARRAY_LEN(lists); i++)
        list_init(lists[i]);
}

static int await_connections(struct loader *l, char *reason, size_t reason_size)
{
    uint64_t limit_ns = env_now_ns(l->env) + COURSE_CONNECT_NS;
    while (!load_producers_connected(l) || !load_consumers_connected(l)) {
        if (l->course.out.connection_rc < 0 || env_now_ns(l->env) >= limit_ns) {
            snprintf(reason, reason_size, "connecting to the brokers: %s",
                     strerror(l->course.out.connection_rc < 0 ? -l->course.out.connection_rc
                                                              : ETIMEDOUT));
            return l->course.out.connection_rc < 0 ? l->course.out.connection_rc : -ETIMEDOUT;
        }
        env_turn(l->env, limit_ns);
    }
    return 0;
}

static int cluster_init(struct loader *l, char *reason, size_t reason_size)
{
    int rc = cluster_open(&l->cluster, l->env, l->course.config.bootstrap, COURSE_CONNECT_NS);
    if (rc == 0)
        rc = cluster_topic_find(&l->cluster, l->course.w->topic);
    if (rc < 0)
        snprintf(reason, reason_size, "%s", l->cluster.reason);
    return rc;
}

int loader_create(struct loader *l, struct env *env, const struct loader_config *config,
                  char *reason, size_t reason_size)
{
    *l = (struct loader){.env = env, .due_ns = UINT64_MAX};
    lists_init(l);
    arena_init(&l->arena, ARENA_BYTES_MAX);
    snprintf(reason, reason_size, "no memory for histograms");
    int rc = course_init(&l->course, config, &course_ops);
    if (rc < 0)
        return rc;
    rc = cluster_init(l, reason, reason_size);
    if (rc == 0)
        rc = load_producers_init(l, reason, reason_size);
    if (rc == 0)
        rc = load_consumers_init(l, reason, reason_size);
    if (rc == 0)
        rc = await_connections(l, reason, reason_size);
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
    course_fini(&l->course);
}

static void stage_enter(struct loader *l, int stage, uint64_t now_ns)
{
    if (course_stage_enter(&l->course, stage, now_ns))
        load_consumers_start_late(l);
}

bool loader_turn(struct loader *l)
{
    int stage = atomic_load_explicit(l->course.config.stage, memory_order_acquire);
    env_turn(l->env, MIN(l->due_ns, env_now_ns(l->env) + COURSE_LOOK_NS));
    uint64_t now_ns = env_now_ns(l->env);
    if (stage != l->course.stage)
        stage_enter(l, stage, now_ns);
    if (l->course.stage == LOADER_CONNECT)
        return true;
    if (course_interval_run(&l->course, now_ns)) {
        load_producers_tick(l, now_ns);
        load_consumers_tick(l, now_ns);
    }
    l->due_ns = MIN(load_producers_pump(l, now_ns), load_consumers_pump(l, now_ns));
    l->due_ns = MIN(l->due_ns, cluster_pump(&l->cluster, now_ns));
    l->due_ns = MIN(l->due_ns, l->course.interval_end_ns);
    course_publish(&l->course);
    return l->course.stage != LOADER_END;
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
    return &((struct ring_loader *)self)->loader.course.out;
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
