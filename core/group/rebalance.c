/* rebalance.c: what moves a group from state to state.
 *
 *                 a member joins                 all have joined, or the time is up
 *      EMPTY ----------------------> PREPARING ------------------------------------> COMPLETING
 *        ^                            ^  |  ^                                          |   |
 *        |  nobody is left            |  |  |  a member joins, changes, leaves         |   |
 *        +----------------------------|--+  +------------------------------------------+   |
 *                                     |                                                    |
 *                                     +------------------ STABLE <-------------------------+
 *                                                            the leader's assignment is stable
 *
 * The first join of a group waits group.initial.rebalance.delay.ms longer, so that members that
 * start together are together from the beginning. */
#include "core/group/internal.h"

#include <errno.h>

#include "core/base/logger.h"

/* ---- a member is heard of, or not ---- */

static void on_session(struct shard_timer *t)
{
    struct group_member *m = container_of(t, struct group_member, session);
    struct group *g = m->group;
    bool waits = m->awaits_join || m->awaits_sync;
    if (waits && !m->is_new)
        return; /* is answered, and heard of again, when the others are there */
    member_remove(m, GROUP_UNKNOWN_MEMBER);
    rebalance_or_complete(g);
}

void session_arm(struct group_member *m, int32_t ms)
{
    timer_set_ms(m->group->coord, &m->session, ms, on_session);
}

/* ---- the join phase ---- */

static bool group_all_joined(const struct group *g)
{
    return g->members_n <= g->awaiting_join_n && g->pending_n == 0;
}

static int32_t rebalance_timeout_ms(const struct group *g)
{
    int32_t ms = 0;
    list_for_each(it, &g->members) {
        const struct group_member *m = container_of(it, struct group_member, link);
        ms = MAX(ms, m->rebalance_timeout_ms);
    }
    return ms;
}

static void rebalance_finish_join(struct group *g);

static void on_join_timeout(struct shard_timer *t)
{
    rebalance_finish_join(container_of(t, struct group, phase));
}

static void on_initial_delay(struct shard_timer *t)
{
    struct group *g = container_of(t, struct group, phase);
    if (!g->member_added || g->remaining_ms == 0) {
        rebalance_finish_join(g);
        return;
    }
    int32_t delay_ms = MIN((int32_t)g->coord->config->initial_delay_ms, g->remaining_ms);
    g->member_added = false;
    g->remaining_ms = MAX(g->remaining_ms - g->delay_ms, 0);
    g->delay_ms = delay_ms;
    timer_set_ms(g->coord, &g->phase, delay_ms, on_initial_delay);
}

/* Assignments that were being made are void. */
static void assignments_reset(struct group *g, enum group_error error)
{
    list_for_each(it, &g->members) {
        struct group_member *m = container_of(it, struct group_member, link);
        blob_free(g->coord, &m->assignment);
        if (m->awaits_sync)
            session_arm(m, m->session_timeout_ms);
        member_answer_sync(m, error);
    }
}

static void rebalance_prepare(struct group *g)
{
    struct group_coord *c = g->coord;
    if (g->state == GROUP_COMPLETING)
        assignments_reset(g, GROUP_REBALANCE_IN_PROGRESS);
    bool initial = g->state == GROUP_EMPTY;
    shard_timer_clear(c->shard, &g->phase);
    list_for_each(it, &g->members)
        container_of(it, struct group_member, link)->pending_sync = false;
    group_state_set(g, GROUP_PREPARING);
    counter_add(&c->counters.rebalances, 1);
    if (initial) {
        g->delay_ms = (int32_t)c->config->initial_delay_ms;
        g->remaining_ms = MAX(rebalance_timeout_ms(g) - g->delay_ms, 0);
        g->member_added = false;
        timer_set_ms(c, &g->phase, g->delay_ms, on_initial_delay);
    } else if (group_all_joined(g)) {
        rebalance_finish_join(g);
    } else {
        timer_set_ms(c, &g->phase, rebalance_timeout_ms(g), on_join_timeout);
    }
}

void rebalance_complete_if_all(struct group *g)
{
    if (g->state == GROUP_PREPARING && g->state_before != GROUP_EMPTY && group_all_joined(g))
        rebalance_finish_join(g);
}

void rebalance_or_complete(struct group *g)
{
    if (g->state == GROUP_PREPARING)
        rebalance_complete_if_all(g);
    else
        rebalance_prepare(g);
}

/* Dynamic members that have not come again are out; static ones are waited for. */
static void absent_remove(struct group *g)
{
    list_for_each_safe(it, next, &g->members) {
        struct group_member *m = container_of(it, struct group_member, link);
        if (!m->awaits_join && m->instance.text.len < 0)
            member_remove(m, GROUP_UNKNOWN_MEMBER);
    }
}

/* False: nobody has come who could be. */
static bool leader_elect(struct group *g)
{
    if (g->leader == NULL)
        return false;
    if (g->leader->awaits_join)
        return true;
    list_for_each(it, &g->members) {
        struct group_member *m = container_of(it, struct group_member, link);
        if (!m->awaits_join)
            continue;
        g->leader = m;
        return true;
    }
    return false;
}

static void on_sync_timeout(struct shard_timer *t)
{
    struct group *g = container_of(t, struct group, phase);
    list_for_each_safe(it, next, &g->members) {
        struct group_member *m = container_of(it, struct group_member, link);
        if (m->pending_sync)
            member_remove(m, GROUP_UNKNOWN_MEMBER);
    }
    rebalance_prepare(g);
}

static void generation_next(struct group *g)
{
    struct group_coord *c = g->coord;
    g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
    str_free(c, &g->protocol);
    if (g->members_n == 0) {
        group_state_set(g, GROUP_EMPTY);
        return;
    }
    c->unlimited = true; /* a name that is there already */
    int rc = str_dup(c, group_choose_protocol(g), &g->protocol);
    c->unlimited = false;
    if (rc < 0)
        g->protocol = (struct group_str){NULL, -1};
    group_state_set(g, GROUP_COMPLETING);
}

/* Nobody waits for it: what is lost with it is the time since when the group is empty. */
static void empty_write(struct group *g)
{
    writes_begin(g->partition);
    group_write(g);
    if (writes_end(g->coord) < 0)
        log_warn("group %.*s: it is empty, which could not be written", (int)g->name.text.len,
                 g->name.text.p);
}

static void rebalance_finish_join(struct group *g)
{
    struct group_coord *c = g->coord;
    shard_timer_clear(c->shard, &g->phase);
    absent_remove(g);
    if (!leader_elect(g) && g->members_n > 0) { /* static members only, and none is there */
        timer_set_ms(c, &g->phase, rebalance_timeout_ms(g), on_join_timeout);
        return;
    }
    generation_next(g);
    if (g->state == GROUP_EMPTY) {
        empty_write(g);
        return;
    }
    list_for_each(it, &g->members) {
        struct group_member *m = container_of(it, struct group_member, link);
        member_answer_join(m, GROUP_OK, false);
        session_arm(m, m->session_timeout_ms);
        m->is_new = false;
        m->pending_sync = true;
    }
    timer_set_ms(c, &g->phase, rebalance_timeout_ms(g), on_sync_timeout);
}

/* ---- the sync phase ---- */

void rebalance_sync_seen(struct group_member *m)
{
    struct group *g = m->group;
    m->pending_sync = false;
    list_for_each(it, &g->members)
        if (container_of(it, struct group_member, link)->pending_sync)
            return;
    shard_timer_clear(g->coord->shard, &g->phase);
}

static void assignments_give(struct group *g)
{
    group_state_set(g, GROUP_STABLE);
    list_for_each(it, &g->members) {
        struct group_member *m = container_of(it, struct group_member, link);
        if (m->awaits_sync)
            session_arm(m, m->session_timeout_ms);
        member_answer_sync(m, GROUP_OK);
    }
}

static void on_assigned(struct group_wait *w, int rc)
{
    struct group *g = container_of(w, struct group, assigned);
    if (rc == 0 && g->state == GROUP_COMPLETING && g->generation == g->assigned_generation)
        assignments_give(g);
}

/* What the leader says, to its members; those that it leaves out get nothing. 0 or -ENOMEM. */
static int assignments_take(struct group *g, const struct group_sync *s)
{
    int rc = 0;
    list_for_each(it, &g->members)
        blob_free(g->coord, &container_of(it, struct group_member, link)->assignment);
    for (int32_t i = 0; rc == 0 && i < s->assignments_n; i++) {
        struct group_member *m = member_get(g, s->assignments[i].member);
        if (m == NULL)
            continue;
        blob_free(g->coord, &m->assignment);
        rc = blob_dup(g->coord, s->assignments[i].bytes, &m->assignment);
    }
    return rc;
}

void rebalance_assign(struct group *g, const struct group_sync *s)
{
    if (list_linked(&g->assigned.link) && g->assigned_generation == g->generation)
        return; /* said before, and on its way */
    int rc = assignments_take(g, s);
    if (rc == 0) {
        writes_begin(g->partition);
        group_write(g);
        rc = writes_end(g->coord);
    }
    if (rc < 0) {
        assignments_reset(g, rc == -EMSGSIZE ? GROUP_TOO_LARGE : GROUP_NOT_AVAILABLE);
        rebalance_prepare(g);
        return;
    }
    list_remove(&g->assigned.link);
    g->assigned_generation = g->generation;
    partition_wait(g->partition, &g->assigned, on_assigned);
}

/* ---- after a start ---- */

void rebalance_loaded(struct group *g)
{
    list_for_each(it, &g->members) {
        struct group_member *m = container_of(it, struct group_member, link);
        session_arm(m, m->session_timeout_ms);
    }
    if (g->members_n > g->coord->config->size_max)
        rebalance_prepare(g);
}
