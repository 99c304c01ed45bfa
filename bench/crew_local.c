/* A crew of this process's threads, one driver each. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/crew_private.h"
#include "core/base/assert.h"

struct local {
    struct member *members;
    unsigned members_n;
    atomic_int stage;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool release; /* under the lock */
};

struct member {
    pthread_t thread;
    struct crew *crew;
    struct local *local;
    unsigned index;
    const struct load_driver_ops *ops;
    void *driver;
    atomic_int stage_seen; /* what its outcome tells is not of an earlier stage */
    int rc;
    char reason[640];
    enum { MEMBER_STARTING, MEMBER_READY, MEMBER_FAILED, MEMBER_ENDED } state; /* under the lock */
};

static void member_state_set(struct member *m, int state)
{
    pthread_mutex_lock(&m->local->lock);
    m->state = state;
    pthread_cond_broadcast(&m->local->changed);
    pthread_mutex_unlock(&m->local->lock);
}

static void on_interval(void *arg, const struct load_stats *interval)
{
    struct member *m = arg;
    crew_interval_add(m->crew, interval);
}

static int member_create(struct member *m)
{
    const struct crew_config *c = &m->crew->config;
    struct loader_config config = c->load;
    config.part = c->part_first + m->index * c->part_step;
    config.parts = c->parts;
    config.stage = &m->local->stage;
    config.on_interval = on_interval;
    config.arg = m;
    return m->ops->create(&m->driver, &config, m->reason, sizeof(m->reason));
}

static void member_work(struct member *m)
{
    bool more = true;
    while (more) {
        int stage = atomic_load_explicit(&m->local->stage, memory_order_acquire);
        more = m->ops->turn(m->driver);
        atomic_store_explicit(&m->stage_seen, stage, memory_order_release);
    }
}

/* The driver lives and dies on its own thread, for its ring belongs to that; in between it is lent
 * to the conductor, who verifies. */
static void *member_run(void *arg)
{
    struct member *m = arg;
    struct local *l = m->local;
    m->rc = member_create(m);
    member_state_set(m, m->rc < 0 ? MEMBER_FAILED : MEMBER_READY);
    if (m->rc < 0)
        return NULL;
    member_work(m);
    member_state_set(m, MEMBER_ENDED);
    pthread_mutex_lock(&l->lock);
    while (!l->release)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
    m->ops->destroy(m->driver);
    return NULL;
}

static void await_all(struct local *l, int beyond)
{
    pthread_mutex_lock(&l->lock);
    for (unsigned i = 0; i < l->members_n; i++)
        while ((int)l->members[i].state <= beyond)
            pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static int members_launch(struct crew *c, struct local *l, unsigned wanted, char *reason,
                          size_t reason_size)
{
    const struct load_driver_ops *ops =
        c->config.load.workload->driver == DRIVER_LIBRDKAFKA ? &librdkafka_driver : &loader_driver;
    for (; l->members_n < wanted; l->members_n++) {
        struct member *m = &l->members[l->members_n];
        *m = (struct member){.crew = c, .local = l, .index = l->members_n, .ops = ops};
        int rc = pthread_create(&m->thread, NULL, member_run, m);
        if (rc != 0) {
            snprintf(reason, reason_size, "no thread: %s", strerror(rc));
            return -rc;
        }
    }
    return 0;
}

static void local_fini(struct crew *c)
{
    struct local *l = c->self;
    atomic_store(&l->stage, LOADER_END);
    pthread_mutex_lock(&l->lock);
    l->release = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (unsigned i = 0; i < l->members_n; i++)
        pthread_join(l->members[i].thread, NULL);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l->members);
    free(l);
}

static int local_start(struct crew *c, char *reason, size_t reason_size)
{
    unsigned wanted = (unsigned)c->config.load.workload->threads;
    struct local *l = calloc(1, sizeof(*l));
    struct member *members = calloc(wanted, sizeof(*members));
    if (l == NULL || members == NULL) {
        snprintf(reason, reason_size, "no memory for the load threads");
        free(members);
        free(l);
        return -ENOMEM;
    }
    c->self = l;
    l->members = members;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    int rc = members_launch(c, l, wanted, reason, reason_size);
    await_all(l, MEMBER_STARTING);
    for (unsigned i = 0; rc == 0 && i < l->members_n; i++) {
        rc = l->members[i].rc;
        if (rc < 0)
            snprintf(reason, reason_size, "%s", l->members[i].reason);
    }
    if (rc < 0)
        local_fini(c);
    return rc;
}

static void local_stage(struct crew *c, int stage)
{
    struct local *l = c->self;
    ASSERT(stage >= atomic_load(&l->stage));
    atomic_store_explicit(&l->stage, stage, memory_order_release);
}

static void local_state(struct crew *c, struct crew_state *ret)
{
    struct local *l = c->self;
    int stage = atomic_load(&l->stage);
    *ret = (struct crew_state){.consumers_done = true, .late_done = true};
    for (unsigned i = 0; i < l->members_n; i++) {
        struct member *m = &l->members[i];
        bool seen = atomic_load_explicit(&m->stage_seen, memory_order_acquire) >= stage;
        struct load_outcome *o = m->ops->outcome(m->driver);
        ret->unfinished += atomic_load(&o->unfinished) + !seen;
        ret->acked += atomic_load(&o->acked);
        ret->consumed_new += atomic_load(&o->consumed_new);
        ret->consumers_done &= atomic_load(&o->consumers_done);
        ret->late_done &= atomic_load(&o->late_done);
    }
}

/* ---- the end ---- */

int crew_local_produced(struct crew *c, struct produced *to)
{
    struct local *l = c->self;
    int rc = 0;
    await_all(l, MEMBER_READY);
    for (unsigned i = 0; rc == 0 && i < l->members_n; i++)
        rc = l->members[i].ops->produced(l->members[i].driver, to);
    return rc;
}

void crew_local_verify(struct crew *c, const struct produced *all, struct crew_outcome *ret)
{
    struct local *l = c->self;
    for (unsigned i = 0; i < l->members_n; i++) {
        struct member *m = &l->members[i];
        m->ops->verify(m->driver, all);
        crew_outcome_merge(ret, m->ops->outcome(m->driver));
    }
}

static int local_finish(struct crew *c, struct crew_outcome *ret)
{
    struct produced all = {0};
    int rc = crew_local_produced(c, &all);
    if (rc == 0) {
        produced_sort(&all);
        crew_local_verify(c, &all, ret);
    }
    produced_fini(&all);
    return rc;
}

const struct crew_ops crew_local_ops = {
    .start = local_start,
    .stage = local_stage,
    .state = local_state,
    .finish = local_finish,
    .fini = local_fini,
};
