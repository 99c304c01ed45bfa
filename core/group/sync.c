/* sync.c: what members say between joins: SyncGroup, Heartbeat, LeaveGroup. */
#include "core/group/internal.h"

/* ---- answers ---- */

static void sync_finish(struct group_sync *s)
{
    if (s->parked != NULL)
        s->parked->sync = NULL;
    s->parked = NULL;
    s->on_done(s);
}

static void sync_answer_error(struct group_sync *s, enum group_error error)
{
    s->error = error;
    s->chosen_type = s->chosen = (struct group_str){NULL, -1};
    s->assignment = (struct group_blob){NULL, 0};
    sync_finish(s);
}

static void sync_answer(struct group_sync *s, const struct group_member *m)
{
    s->error = GROUP_OK;
    s->chosen_type = m->group->protocol_type;
    s->chosen = m->group->protocol;
    s->assignment = m->assignment;
    sync_finish(s);
}

void member_answer_sync(struct group_member *m, enum group_error error)
{
    struct group_sync *s = m->sync;
    m->awaits_sync = false;
    if (s == NULL)
        return;
    if (error == GROUP_OK)
        sync_answer(s, m);
    else
        sync_answer_error(s, error);
}

void group_sync_cancel(struct group_sync *s)
{
    sync_answer_error(s, GROUP_NOT_AVAILABLE);
}

/* ---- sync ---- */

static bool is_other(struct group_str said, struct group_str real)
{
    return said.len >= 0 && real.len >= 0 && !str_eq(said, real);
}

/* The group and member that somebody speaks of, in this generation. */
static enum group_error member_of(struct group_coord *c, const struct group_identity *who,
                                  struct group_member **ret)
{
    struct partition *p;
    if (str_empty(who->group))
        return GROUP_INVALID_ID;
    enum group_error error = partition_for(c, who->group, &p);
    if (error != GROUP_OK)
        return error;
    struct group *g = group_get(c, who->group);
    if (g == NULL || g->state == GROUP_EMPTY)
        return GROUP_UNKNOWN_MEMBER;
    error = member_check(g, who->member, who->instance);
    if (error != GROUP_OK)
        return error;
    if (who->generation != g->generation)
        return GROUP_ILLEGAL_GENERATION;
    *ret = member_get(g, who->member);
    return GROUP_OK;
}

static void sync_park(struct group_member *m, struct group_sync *s)
{
    struct group *g = m->group;
    if (m->sync != NULL) /* asked again before it was answered */
        sync_answer_error(m->sync, GROUP_REBALANCE_IN_PROGRESS);
    m->awaits_sync = true;
    m->sync = s;
    s->parked = m;
    rebalance_sync_seen(m);
    if (g->leader == m)
        rebalance_assign(g, s);
}

void group_sync(struct group_coord *c, struct group_sync *s)
{
    struct group_identity who = {s->group, s->member, s->instance, s->generation};
    struct group_member *m = NULL;
    s->parked = NULL;
    enum group_error error = member_of(c, &who, &m);
    if (error == GROUP_OK && (is_other(s->protocol_type, m->group->protocol_type) ||
                              is_other(s->protocol, m->group->protocol)))
        error = GROUP_INCONSISTENT_PROTOCOL;
    if (error == GROUP_OK && m->group->state == GROUP_PREPARING)
        error = GROUP_REBALANCE_IN_PROGRESS;
    if (error != GROUP_OK) {
        sync_answer_error(s, error);
    } else if (m->group->state == GROUP_COMPLETING) {
        sync_park(m, s);
    } else {
        rebalance_sync_seen(m);
        sync_answer(s, m);
    }
}

/* ---- heartbeat ---- */

enum group_error group_heartbeat(struct group_coord *c, const struct group_identity *who)
{
    struct group_member *m;
    enum group_error error = member_of(c, who, &m);
    if (error != GROUP_OK)
        return error;
    session_arm(m, m->session_timeout_ms);
    return m->group->state == GROUP_PREPARING ? GROUP_REBALANCE_IN_PROGRESS : GROUP_OK;
}

/* ---- leave ---- */

static enum group_error leaver_remove(struct group *g, const struct group_leaver *l)
{
    struct group_member *m = NULL;
    struct pending *w = pending_get(g, l->member);
    if (str_empty(l->member)) { /* an operator, who knows the instance */
        m = member_of_instance(g, l->instance);
    } else if (w != NULL) {
        pending_remove(w);
        return GROUP_OK;
    } else {
        enum group_error error = member_check(g, l->member, l->instance);
        if (error != GROUP_OK)
            return error;
        m = member_get(g, l->member);
    }
    if (m == NULL)
        return GROUP_UNKNOWN_MEMBER;
    member_remove(m, GROUP_UNKNOWN_MEMBER);
    return GROUP_OK;
}

enum group_error group_leave(struct group_coord *c, struct group_str group,
                             struct group_leaver *leavers, int32_t leavers_n)
{
    struct partition *p;
    bool any = false;
    if (str_empty(group))
        return GROUP_INVALID_ID;
    enum group_error error = partition_for(c, group, &p);
    if (error != GROUP_OK)
        return error;
    struct group *g = group_get(c, group);
    for (int32_t i = 0; i < leavers_n; i++) {
        leavers[i].error = g == NULL ? GROUP_UNKNOWN_MEMBER : leaver_remove(g, &leavers[i]);
        any = any || leavers[i].error == GROUP_OK;
    }
    if (!any)
        return GROUP_OK;
    if (g->state != GROUP_EMPTY)
        rebalance_or_complete(g);
    group_drop_idle(g);
    return GROUP_OK;
}
