/* expiry.c: offsets that nobody has use for any more: too old, or of topics that are gone. In steps
 * of some hundred, so that the shard's loop goes on. */
#include "core/group/internal.h"

#define STEP_OFFSETS 256u
#define STEP_GROUPS 64u
#define NEVER_MS INT64_MIN /* nothing counts from then */

static void on_expiry_timer(struct shard_timer *t);
static void on_gone_timer(struct shard_timer *t);

/* ---- too old ---- */

void expiry_arm(struct group_coord *c)
{
    if (c->expiry_timer.heap_at == 0 && c->partitions_n > 0 && !c->stopping)
        timer_set_ms(c, &c->expiry_timer, MAX(c->config->retention_check_ms, 1), on_expiry_timer);
}

/* From when on an offset's time counts; NEVER_MS: it is in use. */
static int64_t counts_from_ms(const struct group *g, const struct offset *o)
{
    if (g->protocol_type.len < 0)
        return o->v.commit_ms;
    if (g->state == GROUP_EMPTY)
        return g->state_ms >= 0 ? g->state_ms : o->v.commit_ms;
    bool unused = g->state == GROUP_STABLE && str_is(g->protocol_type, "consumer") &&
                  group_subscribes(g, o->topic->name.text) == 0;
    return unused ? o->v.commit_ms : NEVER_MS;
}

static bool is_expired(const struct group *g, const struct offset *o, int64_t now_ms)
{
    if (o->hidden || o->topic->gone)
        return false;
    int64_t from_ms = counts_from_ms(g, o);
    if (from_ms == NEVER_MS)
        return false;
    if (o->v.expire_ms >= 0)
        return now_ms >= o->v.expire_ms;
    return now_ms - from_ms >= g->coord->config->offsets_retention_ms;
}

static void offsets_drop(struct group *g, struct offset **old, unsigned n)
{
    struct group_coord *c = g->coord;
    writes_begin(g->partition);
    for (unsigned i = 0; i < n; i++)
        offset_write_tombstone(old[i]);
    if (writes_end(c) < 0)
        return; /* the next round will find them */
    for (unsigned i = 0; i < n; i++)
        offset_remove(old[i]);
    counter_add(&c->counters.expired_offsets, n);
}

static void group_end_if_unused(struct group *g)
{
    struct group_coord *c = g->coord;
    if (g->state != GROUP_EMPTY || g->offsets.count > 0 || g->pending_n > 0)
        return;
    writes_begin(g->partition);
    record_group_key(&c->key, g->name.text);
    if (g->stored)
        writes_add(c, &c->key, NULL);
    if (writes_end(c) == 0)
        group_destroy(g, GROUP_ID_NOT_FOUND);
}

/* Some of its offsets; true: all have been looked at, and the group may be gone. */
static bool group_expire(struct group *g, unsigned *budget)
{
    struct offset *old[STEP_OFFSETS], *o = NULL;
    unsigned n = 0, seen = 0;
    int64_t now_ms = env_wall_ms(g->coord->shard->env);
    while (seen < *budget && n < STEP_OFFSETS &&
           (o = map_next(&g->offsets, &g->expiry_at)) != NULL) {
        seen++;
        if (is_expired(g, o, now_ms))
            old[n++] = o;
    }
    *budget -= seen;
    if (n > 0)
        offsets_drop(g, old, n);
    if (o != NULL)
        return false;
    g->expiry_at = 0;
    group_end_if_unused(g);
    return true;
}

/* True: this partition is done. Groups that have been looked at go to the end of the list. */
static bool partition_expire(struct partition *p, unsigned *budget, unsigned *groups)
{
    struct group_coord *c = p->coord;
    for (struct list_node *it; (it = list_head(&p->groups)) != NULL;) {
        struct group *g = container_of(it, struct group, link);
        if (g->round == c->round)
            return true;
        if (*budget == 0 || *groups == 0)
            return false;
        (*groups)--;
        list_remove(&g->link);
        list_push_tail(&p->groups, &g->link);
        g->round = c->round;
        if (group_expire(g, budget))
            continue;
        list_remove(&g->link); /* goes on with it */
        list_push_head(&p->groups, &g->link);
        g->round = c->round - 1;
        return false;
    }
    return true;
}

static void on_expiry_timer(struct shard_timer *t)
{
    struct group_coord *c = container_of(t, struct group_coord, expiry_timer);
    unsigned budget = STEP_OFFSETS, groups = STEP_GROUPS;
    if (c->expiry_partition == 0)
        c->round++;
    for (; c->expiry_partition < c->partitions_n; c->expiry_partition++) {
        struct partition *p = c->partitions[c->expiry_partition];
        if (p == NULL || p->state != PARTITION_READY || partition_expire(p, &budget, &groups))
            continue;
        timer_set_ms(c, &c->expiry_timer, 0, on_expiry_timer);
        return;
    }
    c->expiry_partition = 0;
    expiry_arm(c);
}

/* ---- of topics that are gone ---- */

void topic_gone(struct group_coord *c, struct topic *t)
{
    names_remove(&c->topics, &t->name); /* the next of that name is another one */
    t->gone = true;
    list_push_tail(&c->gone, &t->gone_link);
    if (c->gone_timer.heap_at == 0 && !c->stopping)
        timer_set_ms(c, &c->gone_timer, 0, on_gone_timer);
}

/* Offsets in the log may be older than the deletion of their topic. */
void topics_forget_missing(struct group_coord *c)
{
    struct name *name;
    struct list_node missing; /* the table must not change while it is walked */
    list_init(&missing);
    for (size_t it = 0; (name = map_next(&c->topics.by_hash, &it)) != NULL;)
        for (; name != NULL; name = name->next) {
            struct topic *topic = container_of(name, struct topic, name);
            if (meta_topic_by_name(c->shard->meta, name->text.p, (size_t)name->text.len) == NULL)
                list_push_tail(&missing, &topic->gone_link);
        }
    for (struct list_node *it; (it = list_pop_head(&missing)) != NULL;)
        topic_gone(c, container_of(it, struct topic, gone_link));
}

static bool offset_forget(struct offset *o)
{
    struct group *g = o->group;
    if (g->partition->state != PARTITION_READY || o->hidden)
        return false;
    writes_begin(g->partition);
    offset_write_tombstone(o);
    if (writes_end(g->coord) < 0)
        return false;
    offset_remove(o);
    return true;
}

/* True: it is gone with the last of its offsets. */
static bool topic_forget(struct topic *t, unsigned *budget)
{
    for (struct list_node *it; (it = list_head(&t->offsets)) != NULL;) {
        bool last = it->next == &t->offsets;
        if (*budget == 0)
            return false;
        (*budget)--;
        if (!offset_forget(container_of(it, struct offset, of_topic))) {
            *budget = 0; /* later */
            return false;
        }
        if (last)
            return true;
    }
    return true;
}

#define LATER_MS 10

static void on_gone_timer(struct shard_timer *t)
{
    struct group_coord *c = container_of(t, struct group_coord, gone_timer);
    unsigned budget = STEP_OFFSETS;
    for (struct list_node *it; (it = list_head(&c->gone)) != NULL;)
        if (!topic_forget(container_of(it, struct topic, gone_link), &budget)) {
            timer_set_ms(c, &c->gone_timer, LATER_MS, on_gone_timer);
            return;
        }
}

void gone_fini(struct group_coord *c)
{
    ASSERT(
        list_empty(&c->gone)); /* offsets are gone with their groups, topics with their offsets */
    shard_timer_clear(c->shard, &c->gone_timer);
    shard_timer_clear(c->shard, &c->expiry_timer);
    shard_timer_clear(c->shard, &c->load_timer);
}
