#include "bench/crew.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

static void member_state_set(struct crew_member *m, int state)
{
    pthread_mutex_lock(&m->crew->lock);
    m->state = state;
    pthread_cond_broadcast(&m->crew->changed);
    pthread_mutex_unlock(&m->crew->lock);
}

static void on_interval(void *arg, const struct load_stats *interval)
{
    struct crew_member *m = arg;
    struct crew *c = m->crew;
    pthread_mutex_lock(&c->lock);
    load_stats_add(&c->pending, interval);
    c->pending_any = true;
    pthread_mutex_unlock(&c->lock);
}

/* The driver lives and dies on its own thread, for its ring belongs to that; in between it is lent
 * to the conductor, who verifies. */
static void *member_run(void *arg)
{
    struct crew_member *m = arg;
    struct crew *c = m->crew;
    struct loader_config config = c->config.load;
    config.part = c->config.part_first + m->index;
    config.parts = c->config.parts;
    config.stage = &c->stage;
    config.on_interval = on_interval;
    config.arg = m;
    m->rc = m->ops->create(&m->driver, &config, m->reason, sizeof(m->reason));
    member_state_set(m, m->rc < 0 ? MEMBER_FAILED : MEMBER_READY);
    if (m->rc < 0)
        return NULL;
    while (m->ops->turn(m->driver))
        ;
    member_state_set(m, MEMBER_ENDED);
    pthread_mutex_lock(&c->lock);
    while (!c->release)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    m->ops->destroy(m->driver);
    return NULL;
}

static void await_all(struct crew *c, int beyond)
{
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < c->members_n; i++)
        while ((int)c->members[i].state <= beyond)
            pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

static void members_launch(struct crew *c, const struct load_driver_ops *ops)
{
    unsigned wanted = c->members_n;
    for (c->members_n = 0; c->members_n < wanted; c->members_n++) {
        struct crew_member *m = &c->members[c->members_n];
        *m = (struct crew_member){.crew = c, .index = c->members_n, .ops = ops};
        int rc = pthread_create(&m->thread, NULL, member_run, m);
        if (rc == 0)
            continue;
        m->rc = -rc;
        snprintf(m->reason, sizeof(m->reason), "no thread: %s", strerror(rc));
        return;
    }
}

int crew_start(struct crew *c, const struct crew_config *config, char *reason, size_t reason_size)
{
    const struct workload *w = config->load.workload;
    const struct load_driver_ops *ops =
        w->driver == DRIVER_LIBRDKAFKA ? &librdkafka_driver : &loader_driver;
    unsigned wanted = (unsigned)w->threads;
    *c = (struct crew){.config = *config, .members_n = wanted};
    if (c->config.parts == 0)
        c->config.parts = wanted;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->members = calloc(wanted, sizeof(*c->members));
    int rc = c->members == NULL ? -ENOMEM : load_stats_init(&c->pending);
    if (rc < 0) {
        snprintf(reason, reason_size, "no memory for the load threads");
        c->members_n = 0;
        crew_fini(c);
        return rc;
    }
    members_launch(c, ops);
    await_all(c, MEMBER_STARTING);
    for (unsigned i = 0; rc == 0 && i < wanted; i++) {
        rc = c->members[i].rc;
        if (rc < 0)
            snprintf(reason, reason_size, "%s", c->members[i].reason);
    }
    if (rc < 0)
        crew_fini(c);
    return rc;
}

void crew_stage(struct crew *c, int stage)
{
    ASSERT(stage >= atomic_load(&c->stage));
    atomic_store_explicit(&c->stage, stage, memory_order_release);
}

bool crew_take(struct crew *c, struct load_stats *to)
{
    pthread_mutex_lock(&c->lock);
    bool any = c->pending_any;
    if (any) {
        load_stats_add(to, &c->pending);
        load_stats_reset(&c->pending, 0);
        c->pending_any = false;
    }
    pthread_mutex_unlock(&c->lock);
    return any;
}

void crew_state(struct crew *c, struct crew_state *ret)
{
    *ret = (struct crew_state){.stage = INT_MAX, .consumers_done = true, .late_done = true};
    for (unsigned i = 0; i < c->members_n; i++) {
        struct load_outcome *o = c->members[i].ops->outcome(c->members[i].driver);
        ret->stage = MIN(ret->stage, atomic_load_explicit(&o->stage, memory_order_acquire));
        ret->unfinished += atomic_load(&o->unfinished);
        ret->acked += atomic_load(&o->acked);
        ret->consumed_new += atomic_load(&o->consumed_new);
        ret->consumers_done &= atomic_load(&o->consumers_done);
        ret->late_done &= atomic_load(&o->late_done);
    }
}

/* ---- the end ---- */

int crew_outcome_init(struct crew_outcome *o)
{
    int rc = 0;
    *o = (struct crew_outcome){0};
    for (unsigned i = 0; rc == 0 && i < LOAD_WINDOWS_MAX; i++)
        rc = load_stats_init(&o->windows[i]);
    if (rc < 0)
        crew_outcome_fini(o);
    return rc;
}

void crew_outcome_fini(struct crew_outcome *o)
{
    for (unsigned i = 0; i < LOAD_WINDOWS_MAX; i++)
        load_stats_fini(&o->windows[i]);
}

void crew_outcome_merge(struct crew_outcome *to, const struct load_outcome *from)
{
    to->windows_n = MAX(to->windows_n, from->recorder.windows_n);
    for (unsigned i = 0; i < from->recorder.windows_n; i++)
        load_stats_add(&to->windows[i], &from->recorder.windows[i]);
    load_counts_add(&to->total, &from->recorder.total);
    verify_log_merge(&to->verify, &from->verify);
    verify_log_merge(&to->late_verify, &from->late_verify);
    if (to->error_code == 0)
        to->error_code = from->error_code;
    if (to->connection_rc == 0)
        to->connection_rc = from->connection_rc;
    to->unfinished += atomic_load(&from->unfinished);
}

int crew_finish(struct crew *c, struct crew_outcome *ret)
{
    struct produced all = {0};
    await_all(c, MEMBER_READY);
    int rc = crew_outcome_init(ret);
    for (unsigned i = 0; rc == 0 && i < c->members_n; i++)
        rc = c->members[i].ops->produced(c->members[i].driver, &all);
    produced_sort(&all);
    for (unsigned i = 0; rc == 0 && i < c->members_n; i++) {
        struct crew_member *m = &c->members[i];
        m->ops->verify(m->driver, &all);
        crew_outcome_merge(ret, m->ops->outcome(m->driver));
    }
    produced_fini(&all);
    return rc;
}

void crew_fini(struct crew *c)
{
    atomic_store(&c->stage, LOADER_END);
    pthread_mutex_lock(&c->lock);
    c->release = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->members_n; i++)
        pthread_join(c->members[i].thread, NULL);
    free(c->members);
    load_stats_fini(&c->pending);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}
