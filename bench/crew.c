#include "bench/crew.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/agents.h"
#include "bench/crew_private.h"
#include "core/base/bytes.h"

unsigned crew_parts(const struct crew_config *config)
{
    unsigned threads = (unsigned)config->load.workload->threads;
    return config->agents == NULL ? threads : threads * agents_count(config->agents);
}

int crew_start(struct crew *c, const struct crew_config *config, char *reason, size_t reason_size)
{
    *c = (struct crew){.config = *config};
    c->ops = config->agents == NULL ? &crew_local_ops : &crew_remote_ops;
    c->config.part_step = MAX(config->part_step, 1u);
    if (c->config.parts == 0)
        c->config.parts = crew_parts(config);
    int rc = load_stats_init(&c->pending);
    if (rc < 0) {
        snprintf(reason, reason_size, "no memory for histograms");
        return rc;
    }
    pthread_mutex_init(&c->lock, NULL);
    rc = c->ops->start(c, reason, reason_size);
    if (rc < 0) {
        pthread_mutex_destroy(&c->lock);
        load_stats_fini(&c->pending);
    }
    return rc;
}

void crew_stage(struct crew *c, int stage)
{
    c->ops->stage(c, stage);
}

void crew_interval_add(struct crew *c, const struct load_stats *interval)
{
    pthread_mutex_lock(&c->lock);
    load_stats_add(&c->pending, interval);
    c->pending_any = true;
    pthread_mutex_unlock(&c->lock);
}

bool crew_take(struct crew *c, struct load_stats *to)
{
    if (c->ops->look != NULL)
        c->ops->look(c);
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
    if (c->ops->look != NULL)
        c->ops->look(c);
    c->ops->state(c, ret);
}

void crew_fail(struct crew *c, int rc, const char *fmt, ...)
{
    va_list args;
    if (c->rc < 0)
        return;
    c->rc = rc;
    va_start(args, fmt);
    vsnprintf(c->reason, sizeof(c->reason), fmt, args);
    va_end(args);
}

int crew_check(struct crew *c)
{
    if (c->ops->look != NULL)
        c->ops->look(c);
    return c->rc;
}

int crew_finish(struct crew *c, struct crew_outcome *ret)
{
    int rc = crew_outcome_init(ret);
    if (rc == 0)
        rc = c->ops->finish(c, ret);
    if (rc < 0) {
        crew_fail(c, rc, "the load's outcome: %s", strerror(-rc));
        crew_outcome_fini(ret);
    }
    return rc;
}

void crew_fini(struct crew *c)
{
    c->ops->fini(c);
    pthread_mutex_destroy(&c->lock);
    load_stats_fini(&c->pending);
}

/* ---- the outcome ---- */

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
    json_object_put(o->agents);
    o->agents = NULL;
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
