/* join.c: JoinGroup: who may come in, as whom, and whether that starts a rebalance. */
#include "core/group/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define NEW_MEMBER_JOIN_MS 300000 /* one that has never been told its generation */
#define UUID_TEXT_BYTES 37

/* ---- answers ---- */

static void join_finish(struct group_join *j)
{
    struct group_coord *c = j->coord;
    struct group_str old_leader = j->old_leader;
    if (j->parked != NULL)
        j->parked->join = NULL;
    j->parked = NULL;
    list_remove(&j->wait.link);
    j->on_done(j); /* j may be gone */
    str_free(c, &old_leader);
}

void join_answer_error(struct group_join *j, enum group_error error)
{
    j->error = error;
    j->generation = -1;
    j->chosen_type = j->chosen = (struct group_str){NULL, -1};
    j->leader = (struct group_str){"", 0};
    if (error != GROUP_MEMBER_ID_REQUIRED)
        j->own_id = j->member;
    join_finish(j);
}

/* What the group is now. */
static void join_fill(struct group_join *j, const struct group_member *m)
{
    const struct group *g = m->group;
    j->error = GROUP_OK;
    j->generation = g->generation;
    j->own_id = m->id.text;
    j->leader = g->leader->id.text;
    j->chosen_type = g->protocol_type;
    j->chosen = g->protocol;
}

static void join_answer(struct group_join *j, const struct group_member *m, bool shows_members,
                        bool skip_assignment)
{
    join_fill(j, m);
    j->skip_assignment = skip_assignment;
    j->members_of = shows_members && m->group->leader == m ? m->group : NULL;
    join_finish(j);
}

static void member_park_join(struct group_member *m, struct group_join *j)
{
    if (m->join != NULL) /* asked again before it was answered */
        join_answer_error(m->join, GROUP_REBALANCE_IN_PROGRESS);
    if (!m->awaits_join)
        m->group->awaiting_join_n++;
    m->awaits_join = true;
    m->join = j;
    j->parked = m;
}

void member_answer_join(struct group_member *m, enum group_error error, bool skip_assignment)
{
    struct group_join *j = m->join;
    if (m->awaits_join)
        m->group->awaiting_join_n--;
    m->awaits_join = false;
    if (j == NULL)
        return;
    if (error != GROUP_OK)
        join_answer_error(j, error);
    else
        join_answer(j, m, true, skip_assignment);
}

void group_join_cancel(struct group_join *j)
{
    struct group_member *m = j->parked;
    if (m != NULL && m->group->state == GROUP_STABLE) { /* no rebalance is going to count it */
        m->awaits_join = false;
        m->group->awaiting_join_n--;
    }
    join_answer_error(j, GROUP_NOT_AVAILABLE);
}

/* ---- checks ---- */

static bool has_room(const struct group *g, struct group_str id)
{
    const struct group_member *m = member_get(g, id);
    if (g->state == GROUP_EMPTY)
        return true;
    if (g->state == GROUP_PREPARING) /* more may be members than will be */
        return (m != NULL && m->awaits_join) || g->awaiting_join_n < g->coord->config->size_max;
    return m != NULL || g->members_n < g->coord->config->size_max;
}

static enum group_error join_check(const struct group_coord *c, const struct group_join *j)
{
    if (str_empty(j->group))
        return GROUP_INVALID_ID;
    if (j->session_timeout_ms < c->config->session_min_ms ||
        j->session_timeout_ms > c->config->session_max_ms)
        return GROUP_INVALID_SESSION_TIMEOUT;
    return j->protocols_n > GROUP_PROTOCOLS_MAX ? GROUP_INVALID_REQUEST : GROUP_OK;
}

/* ---- new members ---- */

/* The client's id, or the instance's, and a random part behind it; on the heap of the group. */
static int id_make(struct group *g, const struct group_join *j, struct group_str *ret)
{
    struct group_coord *c = g->coord;
    struct group_str front = j->instance.len >= 0 ? j->instance : j->client_id;
    int32_t len = MAX(front.len, 0);
    uint64_t hi = env_random(c->shard->env), lo = env_random(c->shard->env);
    char uuid[UUID_TEXT_BYTES + 1];
    if (len > INT16_MAX - UUID_TEXT_BYTES)
        return -EMSGSIZE;
    char *p = mem_take(c, (size_t)len + UUID_TEXT_BYTES);
    if (p == NULL)
        return -ENOMEM;
    snprintf(uuid, sizeof(uuid), "-%08x-%04x-4%03x-%04x-%012" PRIx64, (unsigned)(hi >> 32),
             (unsigned)(hi >> 16 & 0xffff), (unsigned)(hi & 0xfff),
             (unsigned)(0x8000 | (lo >> 48 & 0x3fff)), lo & 0xffffffffffff);
    if (len > 0)
        memcpy(p, front.p, (size_t)len);
    memcpy(p + len, uuid, UUID_TEXT_BYTES);
    *ret = (struct group_str){p, len + UUID_TEXT_BYTES};
    return 0;
}

static void on_pending_timeout(struct shard_timer *t)
{
    struct pending *w = container_of(t, struct pending, session);
    struct group *g = w->group;
    pending_remove(w);
    rebalance_complete_if_all(g);
    group_drop_idle(g);
}

/* Takes id. */
static struct pending *pending_add(struct group *g, struct group_str id)
{
    struct pending *w = mem_take(g->coord, sizeof(*w));
    if (w == NULL)
        return NULL;
    *w = (struct pending){.group = g};
    if (names_add(&g->pending_by_id, &w->id, id) < 0) {
        mem_give(g->coord, w);
        return NULL;
    }
    list_push_tail(&g->pending, &w->link);
    g->pending_n++;
    return w;
}

static void member_add(struct group *g, struct group_str id, struct group_join *j)
{
    struct pending *w = pending_get(g, id);
    struct group_member *m = member_make(g, id, j);
    if (m == NULL) {
        join_answer_error(j, GROUP_NOT_AVAILABLE);
        return;
    }
    if (w != NULL)
        pending_remove(w);
    m->is_new = true;
    if (g->state == GROUP_PREPARING && g->state_before == GROUP_EMPTY)
        g->member_added = true;
    member_park_join(m, j);
    session_arm(m, NEW_MEMBER_JOIN_MS);
    rebalance_or_complete(g);
}

static void join_required(struct group *g, struct group_str id, struct group_join *j)
{
    struct pending *w = pending_add(g, id);
    if (w == NULL) {
        str_free(g->coord, &id);
        join_answer_error(j, GROUP_NOT_AVAILABLE);
        return;
    }
    timer_set_ms(g->coord, &w->session, j->session_timeout_ms, on_pending_timeout);
    j->own_id = id;
    join_answer_error(j, GROUP_MEMBER_ID_REQUIRED);
}

/* ---- static members ---- */

/* Clients that cannot skip the assignment are told of the old leader, lest they assign anew. */
static void replaced_answer(struct group_member *m)
{
    struct group_join *j = m->join;
    struct group_str old_leader = j->old_leader;
    if (j->may_skip_assignment) {
        member_answer_join(m, GROUP_OK, m->group->leader == m);
        return;
    }
    m->awaits_join = false;
    m->group->awaiting_join_n--;
    join_fill(j, m);
    j->leader = old_leader;
    join_finish(j);
}

static void on_replaced(struct group_wait *w, int rc)
{
    struct group_join *j = container_of(w, struct group_join, wait);
    const struct group *g = j->parked->group;
    if (rc < 0)
        group_join_cancel(j);
    else if (g->state == GROUP_STABLE && g->generation == j->wait_generation)
        replaced_answer(j->parked);
    /* Else a rebalance has begun: it is answered with that one's end. */
}

/* Stable, and the protocol stays: the newcomer is who was there before, and nobody else notices. */
static void member_replaced_quietly(struct group_member *m, struct group_join *j)
{
    struct group *g = m->group;
    writes_begin(g->partition);
    group_write(g);
    if (writes_end(g->coord) < 0) {
        rebalance_or_complete(g);
        return;
    }
    j->wait_generation = g->generation;
    partition_wait(g->partition, &j->wait, on_replaced);
}

static void static_replace(struct group_member *m, struct group_str id, struct group_join *j)
{
    struct group *g = m->group;
    if (m->join != NULL)
        join_answer_error(m->join, GROUP_FENCED_INSTANCE);
    member_answer_sync(m, GROUP_FENCED_INSTANCE);
    if (str_dup(g->coord, g->leader->id.text, &j->old_leader) < 0 || member_rename(m, id) < 0 ||
        member_update(m, j) < 0) {
        join_answer_error(j, GROUP_NOT_AVAILABLE);
        return;
    }
    session_arm(m, m->session_timeout_ms);
    member_park_join(m, j);
    if (g->state == GROUP_STABLE && str_eq(group_choose_protocol(g), g->protocol))
        member_replaced_quietly(m, j);
    else
        rebalance_or_complete(g);
}

/* ---- the two ways in ---- */

static void join_as_new(struct group *g, struct group_join *j)
{
    struct group_str id;
    if (!group_supports(g, j)) {
        join_answer_error(j, GROUP_INCONSISTENT_PROTOCOL);
        return;
    }
    int rc = id_make(g, j, &id);
    if (rc < 0) {
        join_answer_error(j, rc == -EMSGSIZE ? GROUP_INVALID_REQUEST : GROUP_NOT_AVAILABLE);
        return;
    }
    struct group_member *known = member_of_instance(g, j->instance);
    if (j->instance.len < 0 && j->id_required) {
        join_required(g, id, j);
        return;
    }
    if (known != NULL)
        static_replace(known, id, j);
    else
        member_add(g, id, j);
    str_free(g->coord, &id);
}

static void join_again(struct group *g, struct group_join *j)
{
    if (!group_supports(g, j)) {
        join_answer_error(j, GROUP_INCONSISTENT_PROTOCOL);
        return;
    }
    if (j->instance.len < 0 && pending_get(g, j->member) != NULL) {
        member_add(g, j->member, j);
        return;
    }
    enum group_error error = member_check(g, j->member, j->instance);
    struct group_member *m = error == GROUP_OK ? member_get(g, j->member) : NULL;
    if (m == NULL) {
        join_answer_error(j, error);
        return;
    }
    bool same = member_matches(m, j);
    bool settled = (g->state == GROUP_COMPLETING && same) ||
                   (g->state == GROUP_STABLE && same && g->leader != m);
    if (settled) { /* has not got the answer, or nothing is new */
        join_answer(j, m, g->state == GROUP_COMPLETING, false);
        return;
    }
    if (g->state == GROUP_EMPTY || member_update(m, j) < 0) {
        join_answer_error(j, g->state == GROUP_EMPTY ? GROUP_UNKNOWN_MEMBER : GROUP_NOT_AVAILABLE);
        return;
    }
    member_park_join(m, j);
    rebalance_or_complete(g);
}

void group_join(struct group_coord *c, struct group_join *j)
{
    struct partition *p = NULL;
    bool is_new = str_empty(j->member);
    j->parked = NULL;
    j->coord = c;
    j->members_of = NULL;
    j->skip_assignment = false;
    j->old_leader = (struct group_str){NULL, -1};
    j->wait.link = (struct list_node){NULL, NULL};
    enum group_error error = join_check(c, j);
    if (error == GROUP_OK)
        error = partition_for(c, j->group, &p);
    struct group *g = error == GROUP_OK ? group_get(c, j->group) : NULL;
    if (error == GROUP_OK && g == NULL && !is_new)
        error = GROUP_UNKNOWN_MEMBER;
    if (error == GROUP_OK && g == NULL) {
        g = group_make(p, j->group);
        error = g == NULL ? GROUP_NOT_AVAILABLE : GROUP_OK;
    }
    if (error != GROUP_OK) {
        join_answer_error(j, error);
        return;
    }
    if (!has_room(g, j->member)) {
        struct group_member *m = member_get(g, j->member);
        if (m != NULL)
            member_remove(m, GROUP_MAX_SIZE_REACHED);
        join_answer_error(j, GROUP_MAX_SIZE_REACHED);
    } else if (is_new) {
        join_as_new(g, j);
    } else {
        join_again(g, j);
    }
    rebalance_complete_if_all(g);
    group_drop_idle(g);
}
